from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.schema import Ejection, Seconds
from router.policy.breaker import Breaker, Ejected, Window

if TYPE_CHECKING:
    from random import Random

SETTINGS = Ejection()


def failed(breaker: Breaker, now: float, rng: Random, times: int = 1, *, hard: bool = True) -> list[Ejected | None]:
    return [breaker.fail(now, hard=hard, probation=breaker.begin(now), rng=rng) for _ in range(times)]


def ejected(rng: Random, now: float = 100.0) -> Breaker:
    breaker = Breaker(SETTINGS)
    assert failed(breaker, now, rng, 5)[-1] is not None
    return breaker


def test_five_hard_failures_in_a_row_eject(rng: Random) -> None:
    """The fifth hard failure in a row ejects for about ten seconds, the fourth does not."""
    breaker = Breaker(SETTINGS)
    *before, last = failed(breaker, 100.0, rng, 5)
    assert before == [None] * 4
    assert last is not None
    assert last.reason == "consecutive"
    assert 8.0 <= last.for_s <= 12.0
    assert breaker.state(100.0) == "open"
    assert not breaker.eligible(100.0 + last.for_s - 0.01)


def test_a_success_ends_the_streak(rng: Random) -> None:
    """Hard failures with a success between them are not in a row."""
    breaker = Breaker(SETTINGS)
    for now in range(100, 110, 2):
        failed(breaker, now, rng, 4)
        assert breaker.state(now) == "closed"
        for _ in range(10):
            breaker.succeed(now, probation=False)


def test_soft_failures_count_in_the_ratio_only(rng: Random) -> None:
    """Nine soft failures in a row do nothing; the tenth makes ten outcomes without a success."""
    breaker = Breaker(SETTINGS)
    assert failed(breaker, 100.0, rng, 9, hard=False) == [None] * 9
    (last,) = failed(breaker, 100.0, rng, hard=False)
    assert last is not None
    assert last.reason == "error_rate"


def test_half_of_the_outcomes_may_fail(rng: Random) -> None:
    """At exactly the configured ratio nothing is ejected, one below it something is."""
    breaker = Breaker(SETTINGS)
    for _ in range(10):
        breaker.succeed(100.0, probation=False)
        assert failed(breaker, 100.0, rng, hard=False) == [None]
    assert breaker.state(100.0) == "closed"
    assert failed(breaker, 100.0, rng, hard=False) != [None]


def test_what_is_older_than_the_window_is_forgotten(rng: Random) -> None:
    """Failures that are further apart than the window never make a ratio."""
    breaker = Breaker(SETTINGS)
    for step in range(100):
        assert failed(breaker, 100.0 + 4.0 * step, rng, hard=False) == [None]


def test_exactly_one_probation_request(rng: Random) -> None:
    """When the open time is over one request may try, and no other until it has ended."""
    breaker = ejected(rng)
    now = breaker.open_until
    assert breaker.state(now) == "half_open"
    assert breaker.eligible(now)
    assert breaker.begin(now)
    assert not breaker.eligible(now)
    assert not breaker.eligible(now + 1000)


def test_a_good_probation_restores(rng: Random) -> None:
    """The probation request's success restores at once and forgets the failures before."""
    breaker = ejected(rng)
    now = breaker.open_until
    assert breaker.succeed(now, probation=breaker.begin(now))
    assert breaker.state(now) == "closed"
    assert breaker.eligible(now)
    assert failed(breaker, now, rng, 4) == [None] * 4


@pytest.mark.parametrize("hard", [True, False])
def test_a_failed_probation_ejects_for_twice_as_long(rng: Random, hard: bool) -> None:
    """Each failed probation doubles the open time up to its maximum, for soft failures (429) too."""
    breaker = ejected(rng)
    for expected in (20.0, 40.0, 80.0, 160.0, 300.0, 300.0):
        (again,) = failed(breaker, breaker.open_until, rng, hard=hard)
        assert again is not None
        assert again.reason == "consecutive"
        assert 0.8 * expected <= again.for_s <= 1.2 * expected


def test_a_client_that_leaves_releases_the_probation(rng: Random) -> None:
    """Without a verdict the next request is the probation request."""
    breaker = ejected(rng)
    now = breaker.open_until
    breaker.withdraw(breaker.begin(now))
    assert breaker.state(now) == "half_open"
    assert breaker.eligible(now)


def test_late_outcomes_change_nothing_while_open(rng: Random) -> None:
    """Requests that began before the ejection neither prolong nor end it."""
    breaker = ejected(rng)
    until = breaker.open_until
    assert breaker.fail(101.0, hard=True, probation=False, rng=rng) is None
    assert not breaker.succeed(101.0, probation=False)
    assert breaker.open_until == until


def test_the_last_resort_may_restore_but_not_prolong(rng: Random) -> None:
    """A try before the open time is over restores if it succeeds, and changes nothing if it fails."""
    breaker = ejected(rng)
    until = breaker.open_until
    for _ in range(5):
        assert failed(breaker, 101.0, rng) == [None]
    assert breaker.open_until == until
    assert breaker.succeed(101.0, probation=breaker.begin(101.0))
    assert breaker.trials == 0


def test_overlapping_probations_leave_no_permit_behind(rng: Random) -> None:
    """A second probation request that ends after the first has restored counts like any other."""
    breaker = ejected(rng)
    now = breaker.open_until
    first, second = breaker.begin(now), breaker.begin(now)
    assert breaker.succeed(now, probation=first)
    assert breaker.fail(now, hard=True, probation=second, rng=rng) is None
    assert breaker.trials == 0
    assert breaker.eligible(now)


def test_flapping_is_ejected_longer_and_longer(rng: Random) -> None:
    """An upstream that is restored only to fail again soon stays out twice as long each time."""
    breaker = ejected(rng)
    now = breaker.open_until
    breaker.succeed(now, probation=breaker.begin(now))
    again = failed(breaker, now + 2.0, rng, 5)[-1]
    assert again is not None
    assert again.for_s >= 16.0


def test_long_health_is_rewarded(rng: Random) -> None:
    """After `eject_max` without an ejection the first open time is short again."""
    breaker = ejected(rng)
    now = breaker.open_until
    breaker.succeed(now, probation=breaker.begin(now))
    again = failed(breaker, now + 301.0, rng, 5)[-1]
    assert again is not None
    assert again.for_s <= 12.0


def test_open_times_differ(rng: Random) -> None:
    """Upstreams that failed together are not tried again together."""
    times = [ejected(rng).open_until for _ in range(200)]
    assert 107.9 < min(times) < 108.5
    assert 111.5 < max(times) < 112.1


def test_changed_settings_apply_at_once(rng: Random) -> None:
    """A reload changes what ejects, and shortens an open time that it would no longer allow."""
    breaker = ejected(rng)
    for _ in range(6):
        failed(breaker, breaker.open_until, rng)
    now = 5000.0
    breaker.open_until = now + 300.0
    breaker.reconfigure(Ejection(consecutive=1, eject_max=Seconds(10)), now)
    assert breaker.open_until <= now + 12.0
    breaker.succeed(now, probation=breaker.begin(now))
    assert failed(breaker, now, rng) != [None]


@given(st.lists(st.tuples(st.floats(0.0, 40.0), st.booleans()), max_size=60))
def test_the_window_counts_what_is_recent(steps: list[tuple[float, bool]]) -> None:
    """Everything of the last nine tenths of the window is counted, nothing older than the whole of it."""
    window, now, seen = Window(30.0), 1000.0, list[tuple[float, bool]]()
    for gap, success in steps:
        now += gap
        seen.append((now, success))
        if success:
            window.succeeded(now)
        else:
            _, outcomes = window.failed(now)
            assert outcomes >= sum(now - at < 26.9 for at, _ in seen)
            assert outcomes <= sum(now - at < 30.1 for at, _ in seen)
