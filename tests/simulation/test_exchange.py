"""One request's decisions, seen in whole runs: what clients and upstreams notice of them."""

from __future__ import annotations

import pytest

from router.config.schema import (
    Choose,
    Count,
    Defaults,
    Ejection,
    Key,
    Limits,
    Member,
    Model,
    Retry,
    Seconds,
    Secret,
    Timeouts,
)
from router.errors import Kind as Reason
from router.relay import ending
from router.simulation import exchange
from router.simulation.scenario import Kind, Spread, Traffic

from .scenes import QUICK, config, equals, fault, play, scenario

GENEROUS = Defaults(
    timeouts=Timeouts(connect=Seconds(1), first_byte=Seconds(2), first_token=Seconds(3), idle=Seconds(4)),
    retry=Retry(budget_min=100),
)
"""With leave for every retry that these few requests may need, and little patience."""

BEFORE_CONTENT = [
    Kind.ERROR, Kind.OVERLOAD, Kind.RATE_LIMIT, Kind.QUOTA, Kind.AUTH, Kind.MISSING, Kind.GARBAGE, Kind.EMPTY,
]  # fmt: skip


def test_the_decisions_are_those_of_the_relay() -> None:
    """Which refusals wait, are final and how long stands in two places and is the same in both."""
    assert exchange.WAITS == ending._WAITS
    assert exchange.FINAL == ending._FINAL
    assert (exchange.WAIT_S_MIN, exchange.WAIT_S_MAX) == (ending.WAIT_MIN_S, ending.WAIT_MAX_S)
    assert {name: kind for name, (kind, _) in ending._LIMITED.items()} == exchange._LIMITED


@pytest.mark.parametrize("kind", BEFORE_CONTENT)
def test_no_client_sees_what_another_member_can_answer(kind: Kind) -> None:
    """An upstream that fails before its first content costs nobody an answer while another one is well."""
    result = play(equals(3, GENEROUS), scenario(fault(kind)))
    assert result.tally.answered == result.tally.calls
    assert sum(result.tally.upstreams["u0"].failed) > 0


@pytest.mark.parametrize(("rate", "share"), [(0.5, 1.0), (3, 1.0), (20, 1.0), (100, 1.0), (20, 0.3), (100, 0.3)])
@pytest.mark.parametrize("members", [2, 4])
def test_a_failing_member_costs_nobody_an_error(members: int, rate: float, share: float) -> None:
    """However little is in flight, and until the ejection too: what fails at one member is answered by another."""
    story = scenario(fault(Kind.ERROR, share=share), traffic=(Traffic(model="m", rate=rate, retries=0),))
    result = play(equals(members), story)
    assert sum(result.tally.upstreams["u0"].failed) > 0
    assert result.tally.failed == 0


def test_a_death_costs_only_what_had_begun() -> None:
    """Streams that had content are cut; whoever had none is answered elsewhere, and so is all that follows."""
    result = play(equals(3), scenario(fault(Kind.DIE), rate=200))
    assert set(result.tally.outcomes) == {"ok", Reason.UPSTREAM_TRUNCATED}
    assert 0 < result.tally.failed < 50
    plain = (Traffic(model="m", rate=200, retries=0, stream=False),)
    assert play(equals(3), scenario(fault(Kind.DIE), traffic=plain)).tally.failed == 0


def test_silence_is_waited_for_as_long_as_is_set() -> None:
    """A member that hangs is given `first_byte`, then another one answers."""
    result = play(equals(2, GENEROUS), scenario(fault(Kind.HANG), rate=5))
    assert result.tally.answered == result.tally.calls
    assert result.tally.upstreams["u0"].causes["timeout_first_byte"] > 0
    assert 2.0 < result.tally.ttft.quantile(1) < 2.5


def test_a_host_that_vanishes_times_out() -> None:
    """New connections after `connect`, running streams after `idle`."""
    result = play(equals(2, GENEROUS), scenario(fault(Kind.VANISH), rate=50))
    causes = result.tally.upstreams["u0"].causes
    assert causes["timeout_connect"] > 0
    assert causes["timeout_idle"] > 0
    assert result.tally.failed == causes["timeout_idle"]


def test_nobody_left_is_503_with_a_time() -> None:
    """With every member out each request is answered at once, and SDKs come back when they are told to."""
    story = scenario(fault(Kind.DIE, "u*"), traffic=(Traffic(model="m", rate=20, retries=2),))
    result = play(equals(2), story)
    assert result.tally.outcomes[Reason.NO_HEALTHY_UPSTREAM] > 100
    assert {200, 502, 503} == set(result.tally.statuses)
    tried = sum(result.tally.upstreams[name].causes["connect"] for name in ("u0", "u1"))
    assert tried < 60, "one look a second, not one for each request"


def test_everybody_limited_is_429() -> None:
    """A 429 from every member is a 429 to the client; the members are left alone as long as they asked."""
    story = scenario(fault(Kind.RATE_LIMIT, "u*", retry_after=Seconds(5)))
    result = play(equals(2), story)
    assert set(result.tally.statuses) == {200, 429}
    assert all(result.tally.upstreams[name].causes["http_429"] <= 30 for name in ("u0", "u1"))


def test_the_clients_own_fault_is_not_tried_elsewhere() -> None:
    """400 passes as it is, after one attempt, and ejects nobody."""
    result = play(equals(2), scenario(fault(Kind.REFUSE, "u*")))
    assert set(result.tally.statuses) == {200, 400}
    assert not result.tally.in_trouble
    assert not result.tally.changes


def test_attempts_end_at_their_bound() -> None:
    """A request reaches at most as many upstreams as `retry.attempts` says."""
    defaults = Defaults(retry=Retry(attempts=2, budget_min=1000))
    result = play(equals(5, defaults), scenario(fault(Kind.ERROR, "u*", share=0.5), rate=50))
    assert set(result.tally.in_trouble) == {2}
    assert result.tally.statuses[500] > 0


def test_the_retry_budget_bounds_a_storm() -> None:
    """Where all fail, a budget keeps the load near that of the clients; who could not be reached is no retry."""
    defaults = Defaults(
        retry=Retry(attempts=3, budget_min=0, budget_ratio=0.0),
        ejection=Ejection(consecutive=10_000, min_outcomes=10_000),
    )
    refused = play(equals(3, defaults), scenario(fault(Kind.ERROR, "u*")))
    assert refused.tally.statuses[500] > 0
    assert sum(refused.tally.in_trouble.values()) <= 3
    unreached = play(
        equals(3, defaults), scenario(fault(Kind.DIE), traffic=(Traffic(model="m", rate=20, stream=False),))
    )
    assert unreached.tally.answered == unreached.tally.calls


def test_one_member_alone_is_tried_once_more() -> None:
    """A hiccup of the only member costs a moment, not the answer."""
    story = scenario(fault(Kind.ERROR, share=0.05, at=0.001, until=None), rate=5)
    result = play(equals(1), story)
    assert sum(result.tally.in_trouble.values()) > 5
    assert result.tally.failed < sum(result.tally.in_trouble.values())


def test_a_fallback_answers_when_the_pool_cannot() -> None:
    """The chain of models is walked before anybody is turned away."""
    settings = config(Member(upstream="u0"), Member(upstream="u1"))
    models = {"m": Model(pool=(Member(upstream="u0"),), fallback=("n",)), "n": Model(pool=(Member(upstream="u1"),))}
    settings = type(settings)(upstreams=settings.upstreams, models=models, defaults=GENEROUS)
    result = play(settings, scenario(fault(Kind.ERROR)))
    assert result.tally.answered == result.tally.calls
    assert result.tally.upstreams["u1"].causes["ok"] > 0


def test_a_key_is_held_to_its_limits() -> None:
    """What a key may is let in, the rest is refused with the time to come back, and no upstream is asked."""
    key = Key(secret=Secret(sha256="0" * 64), limits=Limits(requests_per_minute=Count(60), request_burst=Count(1)))
    story = scenario(traffic=(Traffic(model="m", rate=10, retries=0, key="k"),))
    result = play(config(Member(upstream="u0"), keys={"k": key}), story)
    assert 55 <= result.tally.statuses[200] <= 61
    assert result.tally.outcomes[Reason.REQUESTS_PER_MINUTE] == result.tally.failed
    assert sum(result.tally.upstreams["u0"].attempts) == result.tally.statuses[200]


def test_patience_ends_and_the_lease_with_it() -> None:
    """A client that does not wait is counted as gone, and nothing of it stays at the upstream."""
    slow = type(QUICK)(first_token=Spread(median=Seconds(5)), answer=Spread(median=Seconds(1)))
    traffic = (Traffic(model="m", rate=5, retries=1, patience=Seconds(1)),)
    result = play(equals(1), scenario(traffic=traffic, behaviour=slow))
    assert result.tally.outcomes == {"client_gone": 2 * result.tally.calls}
    assert not result.tally.changes


@pytest.mark.parametrize("choose", [Choose.TWO_CHOICES, Choose.ROUND_ROBIN, Choose.LEAST_IN_FLIGHT])
def test_weights_are_respected(choose: Choose) -> None:
    """Three to one in the file is three to one in the traffic, within a few per cent."""
    settings = config(Member(upstream="u0", weight=3), Member(upstream="u1"), defaults=Defaults(choose=choose))
    result = play(settings, scenario(rate=100))
    share = sum(result.tally.upstreams["u0"].attempts) / result.tally.calls
    assert 0.72 < share < 0.78


def test_a_slow_member_gets_less() -> None:
    """A member that takes ten times as long does not hold up a third of the clients."""
    result = play(equals(3), scenario(fault(Kind.SLOW, at=0.001, until=None, factor=10.0), rate=50))
    shares = [sum(result.tally.upstreams[f"u{number}"].attempts) / result.tally.calls for number in range(3)]
    assert shares[0] < 0.15
    assert abs(shares[1] - shares[2]) < 0.05


def test_who_is_back_gets_its_share_again() -> None:
    """After an ejection one request tries the member; then it serves as before."""
    result = play(equals(2), scenario(fault(Kind.ERROR, until=25), duration=120, rate=20))
    assert result.tally.changes["ejected"] >= 1
    assert result.tally.changes["restored"] >= 1
    late = [sum(result.tally.upstreams[name].attempts[40:60]) for name in ("u0", "u1")]
    assert 0.8 < late[0] / late[1] < 1.25
