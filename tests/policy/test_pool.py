from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.config.schema import Count, Limits, Member
from router.errors import Kind
from router.policy.outcomes import Cause

from .pools import NOW, answer, eject, equals, pool, upstream

if TYPE_CHECKING:
    from random import Random


def test_the_lowest_tier_that_can_serves(rng: Random) -> None:
    """Tier 2 gets nothing while tier 1 has an eligible member, everything once it has none, and nothing again after."""
    members = pool(Member(upstream="b", tier=7, weight=100), Member(upstream="a"), Member(upstream="c", tier=9))
    by_name = {target.upstream.name: target for target in members.targets}
    assert {members.pick(NOW, 0, (), (), rng) for _ in range(50)} == {by_name["a"]}
    eject(by_name["a"], NOW, rng)
    assert {members.pick(NOW, 0, (), (), rng) for _ in range(50)} == {by_name["b"]}
    assert members.pick(NOW, 0, (), (by_name["b"].upstream,), rng) is by_name["c"]
    assert members.pick(by_name["a"].breaker.open_until, 0, (), (), rng) is by_name["a"]


def test_another_credential_is_picked_when_its_upstream_need_not_be_avoided(rng: Random) -> None:
    """Avoiding the upstream leaves nobody, trying on leaves the other credential."""
    members = pool(Member(upstream="u"), upstreams={"u": upstream("u", "A", "B")})
    first, second = members.targets
    assert members.pick(NOW, 0, (first,), (first.upstream,), rng) is None
    assert members.pick(NOW, 0, (first,), (), rng) is second


def test_the_last_resort_is_who_is_back_soonest_once_a_second(rng: Random) -> None:
    """With everybody out one try a second goes to the one whose time ends first."""
    members = equals(3)
    for target, retry_after_s in zip(members.targets, (60.0, 20.0, 40.0), strict=True):
        answer(target, Cause.RATE_LIMITED, NOW, rng, retry_after_s)
    assert members.last_resort(NOW, rng) is members.targets[1]
    assert members.last_resort(NOW + 0.99, rng) is None
    assert members.last_resort(NOW + 1.0, rng) is members.targets[1]
    assert members.last_resort(NOW + 2.0, rng, tried=(members.targets[1],)) is members.targets[2]


def test_the_last_resort_also_ends_an_ejection_early(rng: Random) -> None:
    """An upstream that is back before its time is found."""
    members = equals(1)
    (target,) = members.targets
    eject(target, NOW, rng)
    assert members.last_resort(NOW, rng) is target
    answer(target, Cause.OK, NOW, rng)
    assert members.pick(NOW, 0, (), (), rng) is target


def test_no_last_resort_while_somebody_is_eligible(rng: Random) -> None:
    """One healthy member is enough, and asking costs no turn."""
    members = equals(2)
    eject(members.targets[0], NOW, rng)
    assert members.last_resort(NOW, rng) is None
    eject(members.targets[1], NOW, rng)
    assert members.last_resort(NOW, rng) is not None


def test_the_last_resort_is_never_full_or_drained(rng: Random) -> None:
    """Limits are not overrun and drained members stay alone."""
    limits = Limits(concurrency=Count(1))
    members = pool(Member(upstream="u"), Member(upstream="v", weight=0), upstreams={"u": upstream("u", limits=limits)})
    (target,) = members.targets
    eject(target, NOW, rng)
    lease = target.begin(NOW, 0)
    assert members.last_resort(NOW, rng) is None
    lease.end(NOW, 0)
    assert members.last_resort(NOW, rng) is target


def test_a_probation_that_hangs_does_not_close_the_pool(rng: Random) -> None:
    """While the probation request is silent the last resort still tries."""
    members = equals(1)
    (target,) = members.targets
    eject(target, NOW, rng)
    now = target.breaker.open_until
    target.begin(now, 0)
    assert members.pick(now, 0, (), (), rng) is None
    assert members.last_resort(now, rng) is target
    assert members.why_not(now, 0) == (Kind.NO_HEALTHY_UPSTREAM, 1.0)


def test_rate_limits_alone_are_said_to_be_rate_limits(rng: Random) -> None:
    """429 if every member is out for a rate limit, theirs or ours, with the shortest wait."""
    limits = Limits(requests_per_minute=Count(6))
    members = pool(Member(upstream="u"), Member(upstream="v"), upstreams={"v": upstream("v", limits=limits)})
    u, v = members.targets
    answer(u, Cause.RATE_LIMITED, NOW, rng, 30.0)
    v.begin(NOW, 0)
    kind, wait_s = members.why_not(NOW, 0)
    assert kind is Kind.UPSTREAM_RATE_LIMITED
    assert wait_s == pytest.approx(10.0, rel=1e-3)


@pytest.mark.parametrize("cause", [Cause.HTTP_5XX, Cause.CONNECT, Cause.QUOTA])
def test_one_member_that_is_broken_makes_it_no_rate_limit(rng: Random, cause: Cause) -> None:
    """503 as soon as anything else keeps a member out; the wait is still the shortest."""
    members = equals(2)
    answer(members.targets[0], Cause.RATE_LIMITED, NOW, rng, 3.0)
    eject(members.targets[1], NOW, rng, cause)
    kind, wait_s = members.why_not(NOW, 0)
    assert kind is Kind.NO_HEALTHY_UPSTREAM
    assert 3.0 <= wait_s <= 3.6


@pytest.mark.parametrize(("retry_after_s", "low", "high"), [(0.0, 1.0, 1.2), (300.0, 60.0, 60.0)])
def test_the_wait_is_between_one_second_and_a_minute(
    rng: Random, retry_after_s: float, low: float, high: float
) -> None:
    """Clients are never told to come back at once or in five minutes."""
    members = equals(1)
    answer(members.targets[0], Cause.RATE_LIMITED, NOW, rng, retry_after_s)
    assert low <= members.why_not(NOW, 0)[1] <= high


def test_a_drained_pool_has_no_healthy_upstream(rng: Random) -> None:
    """All weights zero is a deliberate state and answers 503."""
    members = pool(Member(upstream="u", weight=0))
    assert members.pick(NOW, 0, (), (), rng) is None
    assert members.last_resort(NOW, rng) is None
    assert members.why_not(NOW, 0) == (Kind.NO_HEALTHY_UPSTREAM, 60.0)


def test_a_request_too_large_for_every_upstream_is_a_rate_limit() -> None:
    """What no upstream's own limit can ever allow is said to be one."""
    limits = Limits(tokens_per_minute=Count(1000))
    members = pool(Member(upstream="u"), upstreams={"u": upstream("u", limits=limits)})
    assert members.why_not(NOW, 1001) == (Kind.UPSTREAM_RATE_LIMITED, 60.0)


def test_a_pool_counts_for_operators(rng: Random) -> None:
    """Who is eligible, and what is in flight once for each upstream."""
    members = pool(Member(upstream="u"), upstreams={"u": upstream("u", "A", "B")})
    members.targets[0].begin(NOW, 0)
    assert (members.in_flight, members.eligible(NOW)) == (1, 2)
    eject(members.targets[1], NOW, rng)
    assert members.eligible(NOW) == 0
    assert repr(members) == "<Pool m: 2 targets, 1 in flight>"


def test_the_target_at_an_upstream_is_found() -> None:
    """By its upstream, with one of its credentials if that matters; the first of several if not."""
    members = pool(Member(upstream="u"), Member(upstream="v", tier=2), upstreams={"u": upstream("u", "A", "B")})
    first, second, third = members.targets
    assert members.at("u") is first
    assert (members.at("u", 0), members.at("u", 1), members.at("u", 2)) == (first, second, None)
    assert (members.at("v"), members.at("v", 0), members.at("w")) == (third, third, None)


def test_a_drained_member_is_found_but_not_picked(rng: Random) -> None:
    """What is stored at a member with weight 0 can still be asked for there, and nothing else is sent to it."""
    members = pool(Member(upstream="u", weight=0), Member(upstream="v"))
    drained = members.at("u")
    assert drained is not None
    assert drained.upstream.name == "u"
    assert drained not in members.targets
    assert {members.pick(NOW, 0, (), (), rng) for _ in range(20)} == {members.at("v")}


def test_a_member_that_is_out_is_found(rng: Random) -> None:
    """Whether a target is healthy is not what is asked: there is no other place for what is stored there."""
    members = equals(2)
    eject(members.targets[0], NOW, rng)
    assert members.at("u0") is members.targets[0]
