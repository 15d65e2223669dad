from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from router.config.schema import Count, Limits, Seconds
from router.policy.outcomes import Cause
from router.simulation.engine import START_S, Engine
from router.simulation.scenario import Behaviour, Kind, Spread
from router.simulation.upstreams import NEVER, Duration, Failure, SimulatedUpstream

from .scenes import fault

if TYPE_CHECKING:
    from collections.abc import Callable

FIXED: dict[str, Any] = {
    "connect": Seconds(0.5),
    "first_token": Spread(median=Seconds(1)),
    "answer": Spread(median=Seconds(2)),
}


@dataclass(eq=False)
class Caller:
    """Writes down what it is told: when, and what."""

    streams: bool = True
    credential: int = 0
    tokens: int = 100
    answer_s: float = 0.0
    told: list[tuple[float, str]] = field(default_factory=list)
    failure: Failure | None = None

    def expect(self, at: float, act: Callable[[float], None]) -> None:
        self.told.append((at - START_S, act.__name__))

    def expect_failure(self, at: float, failure: Failure) -> None:
        self.failure = failure
        self.told.append((at - START_S, failure.verdict.cause.value))

    def await_connection(self) -> None:
        self.told.append((NEVER, "connect"))

    def content(self, now: float) -> None:
        raise AssertionError(now)

    def whole(self, now: float) -> None:
        raise AssertionError(now)

    def broken(self) -> None:
        self.told.append((-1, "broken"))

    def silenced(self) -> None:
        self.told.append((-1, "silenced"))


def upstream(**settings: Any) -> SimulatedUpstream:
    return SimulatedUpstream("u", Behaviour(**(FIXED | settings)), Engine(), Random(7))


def called(at: SimulatedUpstream, **settings: Any) -> Caller:
    caller = Caller(**settings)
    at.connect(caller)
    return caller


def test_an_answer_takes_its_time() -> None:
    """A stream has content after connection and first token, a plain answer is whole after the rest as well."""
    at = upstream()
    stream, plain = called(at), called(at, streams=False)
    assert (stream.told, stream.answer_s) == ([(1.5, "content")], 2)
    assert plain.told == [(3.5, "whole")]


def test_who_finds_no_slot_waits_in_line() -> None:
    """First come, first served; one that leaves the line is not served; one beyond the line gets 503."""
    at = upstream(slots=Count(1), queue=Count(2))
    first, second, third, fourth = (called(at) for _ in range(4))
    assert second.told == third.told == [(NEVER, "content")]
    assert fourth.failure is not None
    assert fourth.failure.status == 503
    at.release(second)
    at.release(first)
    assert (second.told, third.told) == ([(NEVER, "content")], [(NEVER, "content"), (1.5, "content")])
    at.release(third)
    assert not at.serving
    assert not at.waiting


def test_rate_limits_are_told_with_their_time() -> None:
    """What the provider refuses is 429 and says when to come back; each credential has its own limit."""
    limits = Limits(requests_per_minute=Count(6), request_burst=Count(1))
    at = upstream(limits=limits)
    assert called(at).failure is None
    refused, other = called(at), called(at, credential=1)
    assert refused.failure is not None
    assert refused.failure.verdict.cause is Cause.RATE_LIMITED
    assert refused.failure.retry_after_s == pytest.approx(10.0)
    assert other.failure is None
    silent = upstream(limits=limits, says_when=False)
    called(silent)
    again = called(silent)
    assert again.failure is not None
    assert again.failure.retry_after_s is None


def test_slots_of_a_provider_are_given_back() -> None:
    """A limit on what is in flight counts an attempt until it is released, however it ended."""
    at = upstream(limits=Limits(concurrency=Count(1)))
    first = called(at)
    assert called(at).failure is not None
    at.release(first)
    second = called(at)
    assert second.failure is None
    at.begin(fault(Kind.DIE))
    at.end(fault(Kind.DIE))
    assert called(at).failure is None


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (Kind.DIE, Cause.CONNECT), (Kind.ERROR, Cause.HTTP_5XX), (Kind.OVERLOAD, Cause.OVERLOADED),
        (Kind.RATE_LIMIT, Cause.RATE_LIMITED), (Kind.QUOTA, Cause.QUOTA), (Kind.AUTH, Cause.AUTH),
        (Kind.MISSING, Cause.MODEL_MISSING), (Kind.REFUSE, Cause.REQUEST), (Kind.GARBAGE, Cause.PROTOCOL),
    ],
)  # fmt: skip
def test_a_fault_is_told_at_once(kind: Kind, cause: Cause) -> None:
    """What needs no work comes as soon as a connection stands, judged as the daemon judges it; then it is over."""
    at, wrong = upstream(), fault(kind)
    at.begin(wrong)
    assert called(at).told == [(0.5, cause.value)]
    at.end(wrong)
    assert called(at).told == [(1.5, "content")]


def test_other_faults() -> None:
    """One that vanished makes no connection, one that hangs never answers, others break off in their middle."""
    told = {}
    for kind in (Kind.VANISH, Kind.HANG, Kind.EMPTY, Kind.CUT, Kind.SLOW):
        at = upstream()
        at.begin(fault(kind, factor=10.0))
        caller = called(at)
        told[kind] = (*caller.told[0], caller.answer_s)
    assert told[Kind.VANISH][:2] == (NEVER, "connect")
    assert told[Kind.HANG][:2] == (NEVER, "content")
    assert told[Kind.EMPTY][:2] == (1.5, Cause.EMPTY.value)
    assert told[Kind.CUT][:2] == (1.5, "content")
    assert -2 < told[Kind.CUT][2] < 0
    assert told[Kind.SLOW] == (10.5, "content", 20)


def test_a_death_breaks_what_is_under_way() -> None:
    """Served and waiting requests are broken, each once, and hold no slot; a host that vanishes only silences them."""
    for kind, word in ((Kind.DIE, "broken"), (Kind.VANISH, "silenced")):
        at = upstream(slots=Count(1))
        callers = [called(at) for _ in range(3)]
        at.begin(fault(kind))
        assert [caller.told[-1] for caller in callers] == [(-1, word)] * 3
        for caller in callers:
            at.release(caller)
        assert not at.serving
        assert not at.waiting


def test_a_share_strikes_so_many() -> None:
    """A fault with a share strikes about that share of requests, and so do errors of a good day."""
    at = upstream()
    at.begin(fault(Kind.ERROR, share=0.25))
    struck = sum(called(at).failure is not None for _ in range(2000))
    assert 420 < struck < 580
    bad = upstream(errors=0.1)
    assert 140 < sum(called(bad).failure is not None for _ in range(2000)) < 260


def test_durations_have_their_median_and_tail() -> None:
    """Half of what is drawn is below the median, one of twenty above the 95th percentile."""
    rng, duration = Random(7), Duration(Spread(median=Seconds(2), p95=Seconds(10)))
    drawn = sorted(duration.draw(rng) for _ in range(20_000))
    assert drawn[10_000] == pytest.approx(2, rel=0.05)
    assert drawn[19_000] == pytest.approx(10, rel=0.08)
    assert Duration(Spread(median=Seconds(2))).draw(rng) == 2
