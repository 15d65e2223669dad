from __future__ import annotations

import pytest

from router.events import UpstreamCooled, UpstreamEjected, UpstreamRestored
from router.policy.outcomes import VERDICTS, Cause
from router.simulation.engine import START_S
from router.simulation.tally import BINS, Durations, Tally, UpstreamTally


def test_quantiles_are_near_the_truth() -> None:
    """Within the width of a step, 9 %, from a millisecond up; nothing counted is nothing."""
    durations = Durations()
    assert durations.quantile(0.5) == 0
    for number in range(1, 1001):
        durations.add(number / 100)
    assert durations.quantile(0.5) == pytest.approx(5, rel=0.1)
    assert durations.quantile(0.95) == pytest.approx(9.5, rel=0.1)
    durations.add(0.0)
    assert durations.count == 1001


def test_what_comes_after_the_duration_is_not_plotted() -> None:
    """Each moment has its column, the time after the end one of its own."""
    tally = Tally(("u",), duration_s=60)
    assert [tally.column(START_S + second) for second in (0, 0.99, 1, 59.5, 60, 500)] == [0, 0, 1, 59, BINS, BINS]


def test_attempts_are_counted_by_how_they_ended() -> None:
    """A failure is one for which the upstream is to blame; a client's own fault is an answer."""
    tally = Tally(("u",), duration_s=60)
    for cause in (Cause.OK, Cause.REQUEST, Cause.HTTP_5XX, Cause.QUOTA):
        tally.attempt_ended("u", VERDICTS[cause], START_S)
    assert (tally.upstreams["u"].attempts[0], tally.upstreams["u"].failed[0]) == (4, 2)
    assert tally.upstreams["u"].causes == {"ok": 1, "http_4xx": 1, "http_5xx": 1, "quota": 1}


def test_requests_are_counted_by_what_clients_got() -> None:
    """One that its client left is no error; one that took several attempts is shown as such."""
    tally = Tally((), duration_s=60)
    tally.exchange_ended(200, "ok", 2, complete=True, now=START_S)
    tally.exchange_ended(503, "overloaded", 3, complete=False, now=START_S)
    tally.exchange_ended(0, "client_gone", 1, complete=False, now=START_S)
    assert (tally.ended, tally.client_requests[0], tally.client_errors[0]) == (3, 3, 1)
    assert tally.in_trouble == {2: 1, 3: 1}


def test_looks_and_waits_are_averaged() -> None:
    """A column shows the mean of its looks, and of its waits; the most at once is kept."""
    tally = Tally(("u",), duration_s=60)
    upstream: UpstreamTally = tally.upstreams["u"]
    for in_flight, waiting in ((2, 0), (4, 1), (6, 5)):
        upstream.sample(0, in_flight, waiting)
        tally.attempt_began("u", in_flight)
    tally.attempt_began("u", 1)
    tally.content("u", 1.0, START_S)
    tally.content("u", 3.0, START_S)
    assert (upstream.in_flight[0], upstream.waiting[0], upstream.peak) == (4, 2, 6)
    assert upstream.mean_waits()[:2] == [2.0, 0.0]


def test_changes_are_counted() -> None:
    """Ejections, cooldowns and returns."""
    tally = Tally(("u",), duration_s=60)
    tally.changed((UpstreamEjected("u", "", "consecutive", 1.0), UpstreamCooled("u", 0, "m", "quota", 1.0)))
    tally.changed((UpstreamRestored("u", ""),))
    assert (tally.upstreams["u"].ejected, tally.upstreams["u"].cooled) == (1, 1)
    assert tally.changes == {"ejected": 1, "cooled": 1, "restored": 1}
