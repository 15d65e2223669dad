from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from router.config.schema import Choose, Count, Limits, Member
from router.policy.outcomes import VERDICTS, Cause

from .pools import NOW, answer, eject, equals, pool, upstream

if TYPE_CHECKING:
    from random import Random

    from router.policy.pool import Pool
    from router.policy.target import Target, UpstreamState

ALL = list(Choose)


def shares(pool: Pool, rng: Random, times: int = 4000, now: float = NOW) -> dict[str, float]:
    """Pick without ever loading anything; return who got which share."""
    counts: Counter[str] = Counter()
    for _ in range(times):
        target = pool.pick(now, 0, (), (), rng)
        assert target is not None
        counts[target.upstream.name] += 1
    return {name: count / times for name, count in counts.items()}


@pytest.mark.parametrize("choose", ALL)
@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0), (5.0, 3.0, 1.0, 1.0), (0.9, 0.1)])
def test_idle_shares_follow_the_weights(rng: Random, choose: Choose, weights: tuple[float, ...]) -> None:
    """While nothing is in flight each member gets its configured share, in pools of two as well."""
    members = [Member(upstream=f"u{number}", weight=weight) for number, weight in enumerate(weights)]
    got = shares(pool(*members, choose=choose), rng)
    for number, weight in enumerate(weights):
        assert got[f"u{number}"] == pytest.approx(weight / sum(weights), abs=0.03)


@pytest.mark.parametrize("choose", ALL)
def test_without_one_member_the_others_keep_their_proportions(rng: Random, choose: Choose) -> None:
    """An ejected member's share goes to the rest by their weights."""
    weights = (5.0, 3.0, 1.0, 1.0)
    members = pool(
        *(Member(upstream=f"u{number}", weight=weight) for number, weight in enumerate(weights)), choose=choose
    )
    eject(members.targets[0], NOW, rng)
    got = shares(members, rng, 20_000)
    assert got == {
        "u1": pytest.approx(0.6, abs=0.012),
        "u2": pytest.approx(0.2, abs=0.012),
        "u3": pytest.approx(0.2, abs=0.012),
    }


def test_of_many_members_few_are_looked_at(rng: Random) -> None:
    """With half of a thousand members out, a pick looks at a handful, and the rest keep their proportions."""

    class Looks(list["Target"]):
        """A collection that nothing is in, and that counts who asks."""

        asked = 0

        def __contains__(self, _item: object) -> bool:
            Looks.asked += 1
            return False

    members = pool(*(Member(upstream=f"u{number}", weight=1 + number % 4) for number in range(1000)))
    for target in members.targets[:500]:
        eject(target, NOW, rng)
    counts: Counter[float] = Counter()
    for _ in range(4000):
        picked = members.pick(NOW, 0, Looks([members.targets[0]]), (), rng)
        assert picked is not None
        assert picked not in members.targets[:500]
        counts[picked.weight] += 1
    assert Looks.asked < 4000 * 20
    for weight in (1, 2, 3, 4):
        assert counts[weight] / 4000 == pytest.approx(weight / 10, abs=0.03)


def test_where_nearly_all_are_out_the_rest_is_found(rng: Random) -> None:
    """One member of a thousand that can is found every time."""
    members = pool(*(Member(upstream=f"u{number}") for number in range(1000)))
    for target in members.targets[1:]:
        eject(target, NOW, rng)
    assert {members.pick(NOW, 0, (), (), rng) for _ in range(20)} == {members.targets[0]}


@pytest.mark.parametrize("choose", ALL)
def test_credentials_divide_their_members_share(rng: Random, choose: Choose) -> None:
    """Three credentials do not triple an upstream's weight, and each is used alike."""
    members = pool(
        Member(upstream="u", weight=1.0),
        Member(upstream="v", weight=1.0),
        upstreams={"u": upstream("u", "A", "B", "C")},
        choose=choose,
    )
    assert shares(members, rng)["u"] == pytest.approx(0.5, abs=0.03)
    counts = Counter(members.pick(NOW, 0, (), (), rng) for _ in range(3000))
    assert all(counts[target] > 350 for target in members.targets)


@pytest.mark.parametrize("choose", ALL)
def test_weight_zero_is_never_picked(rng: Random, choose: Choose) -> None:
    """A drained member takes nothing, not even when it is the only one."""
    assert set(shares(pool(Member(upstream="u"), Member(upstream="v", weight=0), choose=choose), rng)) == {"u"}
    assert pool(Member(upstream="v", weight=0), choose=choose).pick(NOW, 0, (), (), rng) is None


@pytest.mark.parametrize("choose", ALL)
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_only_what_is_usable_is_picked(rng: Random, choose: Choose, count: int) -> None:
    """Tried targets, upstreams to avoid, ejected and full ones are left out until none is left."""
    members = equals(count, choose)
    left = set(members.targets)
    tried: list[Target] = []
    avoid: list[UpstreamState] = []
    while left:
        for _ in range(20):
            target = members.pick(NOW, 0, tried, avoid, rng)
            assert target in left
        assert target is not None
        left.discard(target)
        match len(left) % 3:
            case 0:
                tried.append(target)
            case 1:
                avoid.append(target.upstream)
            case _:
                eject(target, NOW, rng)
    assert members.pick(NOW, 0, tried, avoid, rng) is None


@pytest.mark.parametrize("choose", ALL)
def test_a_full_upstream_is_passed_over(rng: Random, choose: Choose) -> None:
    """At its concurrency limit an upstream gets nothing more."""
    limits = Limits(concurrency=Count(2))
    members = pool(
        Member(upstream="u", weight=100),
        Member(upstream="v"),
        Member(upstream="w"),
        upstreams={"u": upstream("u", limits=limits)},
        choose=choose,
    )
    for _ in range(60):
        target = members.pick(NOW, 0, (), (), rng)
        assert target is not None
        target.begin(NOW, 0)
    assert members.targets[0].upstream.in_flight == 2


@pytest.mark.parametrize("choose", [Choose.TWO_CHOICES, Choose.LEAST_IN_FLIGHT])
def test_busy_members_are_loaded_by_weight(rng: Random, choose: Choose) -> None:
    """With long requests what is in flight settles near the weights."""
    members = pool(Member(upstream="u", weight=3), Member(upstream="v", weight=1), choose=choose)
    for _ in range(400):
        target = members.pick(NOW, 0, (), (), rng)
        assert target is not None
        target.begin(NOW, 0)
    u, v = members.upstreams
    assert u.in_flight == pytest.approx(300, abs=8)
    assert u.in_flight + v.in_flight == 400


def test_light_load_keeps_the_split(rng: Random) -> None:
    """With two requests in flight all the time, weights 3 and 1 still mean about three quarters and one quarter."""
    members = pool(Member(upstream="u", weight=3), Member(upstream="v", weight=1))
    counts: Counter[str] = Counter()
    leases = []
    for step in range(4000):
        target = members.pick(NOW, 0, (), (), rng)
        assert target is not None
        counts[target.upstream.name] += 1
        leases.append(target.begin(NOW, 0))
        if step:
            leases.pop(rng.randrange(2)).end(NOW, 0)
    assert 0.68 <= counts["u"] / 4000 <= 0.85


@pytest.mark.parametrize("choose", [Choose.TWO_CHOICES, Choose.LEAST_IN_FLIGHT])
def test_the_less_loaded_takes_the_request(rng: Random, choose: Choose) -> None:
    """Of two equals the one with fewer requests in flight is picked, always."""
    members = equals(2, choose)
    members.targets[0].begin(NOW, 0)
    assert {members.pick(NOW, 0, (), (), rng) for _ in range(50)} == {members.targets[1]}


@pytest.mark.parametrize("choose", [Choose.TWO_CHOICES, Choose.LEAST_IN_FLIGHT])
def test_a_failure_counts_as_load_for_ten_seconds(rng: Random, choose: Choose) -> None:
    """After a timeout a target is passed over although it looks idle, and then comes back."""
    members = equals(2, choose)
    answer(members.targets[0], Cause.FIRST_BYTE, NOW, rng)
    members.targets[1].begin(NOW, 0)
    assert set(shares(members, rng, 100)) == {"u1"}
    assert "u0" in shares(members, rng, 100, NOW + 10)


def test_penalties_on_all_sides_cancel(rng: Random) -> None:
    """When every target has failed lately the weights hold as before."""
    members = pool(Member(upstream="u", weight=3), Member(upstream="v", weight=1))
    for target in members.targets:
        answer(target, Cause.FIRST_BYTE, NOW, rng)
    assert shares(members, rng)["u"] == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("seed", range(20))
def test_smooth_round_robin_is_smooth(rng: Random, seed: int) -> None:
    """Weights 5, 1, 1 give a a b a c a a, whatever the seed."""
    rng.seed(seed)
    members = pool(
        Member(upstream="a", weight=5), Member(upstream="b"), Member(upstream="c"), choose=Choose.ROUND_ROBIN
    )
    picked = [members.pick(NOW, 0, (), (), rng) for _ in range(14)]
    assert "".join(target.upstream.name for target in picked if target) == "aabacaa" * 2


def test_who_is_out_collects_no_turns(rng: Random) -> None:
    """An ejected member does not get everything at once when it comes back."""
    members = equals(3, Choose.ROUND_ROBIN)
    for _ in range(30):
        members.pick(NOW, 0, (members.targets[0],), (), rng)
    picked = [members.pick(NOW, 0, (), (), rng) for _ in range(6)]
    assert Counter(picked) == dict.fromkeys(members.targets, 2)


@pytest.mark.parametrize("choose", ALL)
def test_a_black_hole_draws_hardly_anything(rng: Random, choose: Choose) -> None:
    """One of eight that fails in 5 ms gets less than 1 % of what is sent (RELIABILITY 1.3: 87 % without ejection)."""
    members = equals(8, choose)
    hole = members.targets[0]
    now, sent = NOW, 0
    ends: list[tuple[float, int, object]] = []
    for number in range(8000):
        now += 0.01
        while ends and ends[0][0] <= now:
            _, _, lease = heapq.heappop(ends)
            lease.end(now, 0)  # type: ignore[attr-defined]  # the heap orders by time and number
        target = members.pick(now, 0, (), (), rng)
        assert target is not None
        lease = target.begin(now, 0)
        if target is hole:
            sent += 1
            lease.note(VERDICTS[Cause.HTTP_5XX], now + 0.005, None, rng)
            heapq.heappush(ends, (now + 0.005, number, lease))
        else:
            lease.note(VERDICTS[Cause.OK], now, None, rng)
            heapq.heappush(ends, (now + rng.lognormvariate(-1.0, 1.5), number, lease))
    assert 5 <= sent < 80
    for _, _, lease in ends:
        lease.end(now, 0)  # type: ignore[attr-defined]  # the heap orders by time and number
    assert members.in_flight == 0
