"""What `explain` is told by the policy, against what the policy then does: in states made at random, and by hand."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.schema import (
    Choose,
    Count,
    Defaults,
    Limits,
    Member,
    Model,
    Pace,
    Price,
    Protocol,
    Retry,
    Seconds,
    TimeoutOverrides,
    Timeouts,
    Usd,
)
from router.policy.catalogue import Catalogue, build
from router.policy.explain import PoolFacts, View, deadlines, levels, pools, steps, stored_step, unspoken
from router.policy.limits import Limiter
from router.policy.outcomes import VERDICTS, Cause
from router.policy.tries import Tries
from tests.policy.pools import NOW, answer, config, eject, upstream

if TYPE_CHECKING:
    from router.config.schema import Config
    from router.policy.explain import MemberFacts
    from router.policy.pool import Pool
    from router.policy.target import Target

TOKENS = 100

LIMITS = st.sampled_from([
    Limits(),
    Limits(concurrency=Count(1)),
    Limits(concurrency=Count(3)),
    Limits(requests_per_minute=Count(6), request_burst=Count(2)),
    Limits(tokens_per_minute=Count(150)),
    Limits(tokens_per_minute=Count(60)),
])  # fmt: skip
"""The last one can never take `TOKENS`."""

MEMBERS = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 3.0]), st.sampled_from([1, 2]), st.sampled_from([1, 2]), LIMITS),
    min_size=1,
    max_size=4,
)
"""Weight, tier, credentials, limits."""

CAUSES = st.sampled_from([
    Cause.OK, Cause.HTTP_5XX, Cause.CONNECT, Cause.RATE_LIMITED, Cause.QUOTA, Cause.AUTH, Cause.FIRST_BYTE, None,
])  # fmt: skip
"""How a request ends; None: not at all."""

STORY = st.lists(
    st.tuples(st.integers(0, 7), CAUSES, st.integers(1, 7), st.sampled_from([0.0, 0.5, 9.0, 14.0])), max_size=25
)
"""To which target, with what end, how often, and how long after the one before."""


def made(members: list[tuple[float, int, int, Limits]], choose: Choose) -> tuple[Config, Catalogue]:
    pool = tuple(
        Member(upstream=f"u{number}", weight=weight, tier=tier) for number, (weight, tier, _, _) in enumerate(members)
    )
    spare = Model(pool=(Member(upstream="spare"),))
    settings = config(
        {"m": Model(pool=pool, choose=choose, fallback=("spare",)), "spare": spare},
        {
            f"u{number}": upstream(f"u{number}", *("K1", "K2")[:credentials], limits=limits)
            for number, (_, _, credentials, limits) in enumerate(members)
        },
    )
    return settings, build(settings, NOW, None)


def lived(pool: Pool, story: list[tuple[int, Cause | None, int, float]], rng: Random) -> float:
    """Let requests come and end; returns when it is then."""
    now = NOW
    for index, cause, times, pause_s in story:
        now += pause_s
        target = pool.everybody[index % len(pool.everybody)]
        for _ in range(times):
            if cause is None:
                target.begin(now, TOKENS)
            else:
                answer(target, cause, now, rng)
    return now


def alone(pool: Pool, target: Target, now: float) -> bool:
    """Whether the picker takes this one when it may take no other."""
    others = [each for each in pool.everybody if each is not target]
    return pool.pick(now, TOKENS, others, (), Random(1)) is target


def facts_of(seen: PoolFacts, target: Target) -> MemberFacts:
    (found,) = [
        each for each in seen.members if (each.upstream, each.credential) == (target.upstream.name, target.credential)
    ]
    return found


@given(MEMBERS, STORY, st.sampled_from(list(Choose)), st.integers(0, 1000))
def test_eligible_is_what_can_be_picked(
    members: list[tuple[float, int, int, Limits]],
    story: list[tuple[int, Cause | None, int, float]],
    choose: Choose,
    seed: int,
) -> None:
    """Whatever happened before: a member is told eligible exactly if the picker can pick it, else there is a reason."""
    settings, catalogue = made(members, choose)
    route = catalogue.routes["m"]
    now = lived(route.pool, story, Random(seed))
    ends = {
        until
        for target in route.pool.everybody
        for until in (target.cooldown.until, target.breaker.open_until, target.upstream.breaker.open_until)
        if until > now
    }
    for moment in (now, *ends, *(until - 0.01 for until in ends)):
        check_all(View(settings, catalogue, TOKENS, moment), route.pool)


def check_all(view: View, pool: Pool) -> None:
    """What is told of every target at one moment is what holds then."""
    now = view.now
    seen = pools(view, view.catalogue.routes["m"], None)[0]
    assert len(seen.members) == len(pool.everybody)
    for target in pool.everybody:
        told = facts_of(seen, target)
        assert target.eligible(now, TOKENS) == (not told.obstacles)
        assert told.eligible == alone(pool, target, now)
        assert told.eligible != bool(told.obstacles or told.weight == 0)
        limiter = target.upstream.limiter
        if limiter is not None:
            assert limiter.admits(now, TOKENS) == (not limiter.refusals(now, TOKENS))


@given(MEMBERS, STORY, st.sampled_from(list(Choose)), st.integers(0, 1000))
def test_the_order_is_what_is_tried(
    members: list[tuple[float, int, int, Limits]],
    story: list[tuple[int, Cause | None, int, float]],
    choose: Choose,
    seed: int,
) -> None:
    """When every attempt fails before it is sent, they go through the steps in their order, each one whole."""
    settings, catalogue = made(members, choose)
    route = catalogue.routes["m"]
    rng = Random(seed)
    now = lived(route.pool, story, rng)
    view = View(settings, catalogue, TOKENS, now)
    told = steps(view, route)
    tries = Tries(route, Retry(), TOKENS)
    for step in told:
        left = {(pick.upstream, pick.credential) for pick in step.picks}
        while left:
            choice = tries.pick(now, 0, rng)
            assert choice is not None
            serving, target = choice
            assert (serving.name, target.tier) == (step.route, step.tier)
            left.remove((target.upstream.name, target.credential))
            tries.failed(target, VERDICTS[Cause.PACE])
            if step.kind == "last_resort":
                break
    assert tries.pick(now, Retry().attempts, rng) is None


@given(MEMBERS, STORY, st.sampled_from(list(Choose)), st.integers(0, 1000))
def test_asking_changes_nothing(
    members: list[tuple[float, int, int, Limits]],
    story: list[tuple[int, Cause | None, int, float]],
    choose: Choose,
    seed: int,
) -> None:
    """Of two pools with the same past, one of which is explained all the time, both pick the same."""
    picked = []
    for asks in (False, True):
        settings, catalogue = made(members, choose)
        route = catalogue.routes["m"]
        rng = Random(seed)
        now = lived(route.pool, story, rng)
        names = []
        for _ in range(5):
            if asks:
                view = View(settings, catalogue, TOKENS, now)
                pools(view, route, None)
                steps(view, route)
                steps(view, route, route.pool.targets)
            choice = Tries(route, Retry(), TOKENS).pick(now, 0, rng)
            names.append(repr(choice[1]) if choice is not None else "")
        picked.append(names)
    assert picked[0] == picked[1]


@given(MEMBERS, STORY, st.sampled_from(list(Choose)), st.integers(0, 1000))
def test_chances_are_of_those_who_can(
    members: list[tuple[float, int, int, Limits]],
    story: list[tuple[int, Cause | None, int, float]],
    choose: Choose,
    seed: int,
) -> None:
    """The chances of a step add up to one, and whoever is picked had one."""
    settings, catalogue = made(members, choose)
    route = catalogue.routes["m"]
    rng = Random(seed)
    now = lived(route.pool, story, rng)
    told = steps(View(settings, catalogue, TOKENS, now), route)
    for step in told:
        assert sum(pick.chance or 0.0 for pick in step.picks) == pytest.approx(1.0)
    choice = Tries(route, Retry(), TOKENS).pick(now, 0, rng)
    assert (choice is not None) == bool(told)
    if choice is not None:
        chances = {(pick.upstream, pick.credential): pick.chance or 0.0 for pick in told[0].picks}
        assert chances[choice[1].upstream.name, choice[1].credential] > 0


@pytest.mark.parametrize("choose", [Choose.TWO_CHOICES, Choose.LEAST_IN_FLIGHT])
@pytest.mark.parametrize("count", [2, 4, 20])
def test_chances_are_how_often(rng: Random, choose: Choose, count: int) -> None:
    """With some loaded, one that failed lately and one that is out, each is picked as often as was told."""
    members = [(float(1 + number % 3), 1, 1 + number % 2, Limits()) for number in range(count)]
    settings, catalogue = made(members, choose)
    route = catalogue.routes["m"]
    for number, target in enumerate(route.pool.everybody):
        for _ in range(number % 3):
            target.begin(NOW, 0)
    answer(route.pool.everybody[0], Cause.FIRST_BYTE, NOW, rng)
    if count > 2:
        eject(route.pool.everybody[3], NOW, rng)
    (first, *_) = steps(View(settings, catalogue, 0, NOW), route)
    counts: Counter[tuple[str, int]] = Counter()
    for _ in range(8000):
        picked = route.pool.pick(NOW, 0, (), (), rng)
        assert picked is not None
        counts[picked.upstream.name, picked.credential] += 1
    for pick in first.picks:
        assert counts[pick.upstream, pick.credential] / 8000 == pytest.approx(pick.chance, abs=0.025)


def test_taking_turns_it_is_certain_who_is_next(rng: Random) -> None:
    """Round robin leaves nothing to chance: the one that is told is the one that is picked."""
    settings, catalogue = made([(3.0, 1, 1, Limits()), (1.0, 1, 2, Limits())], Choose.ROUND_ROBIN)
    route = catalogue.routes["m"]
    for _ in range(12):
        told, *others = steps(View(settings, catalogue, 0, NOW), route)[0].picks
        target = route.pool.pick(NOW, 0, (), (), rng)
        assert target is not None
        assert (told.upstream, told.credential, told.chance) == (target.upstream.name, target.credential, 1.0)
        assert [pick.chance for pick in others] == [0.0, 0.0]


def test_of_too_many_no_chances_are_told() -> None:
    """In a pool of hundreds it says who may be picked, and does not look at each pair."""
    settings, catalogue = made([(1.0, 1, 1, Limits())] * 200, Choose.TWO_CHOICES)
    (first, *_) = steps(View(settings, catalogue, 0, NOW), catalogue.routes["m"])
    assert len(first.picks) == 200
    assert {pick.chance for pick in first.picks} == {None}


def test_reasons_say_why_and_how_long(rng: Random) -> None:
    """An ejection, its host's, a cooldown, a probation and full limits: each with its cause and its times."""
    many = [(1.0, 1, 1, Limits())] * 5 + [(1.0, 1, 1, Limits(concurrency=Count(1)))]
    settings, catalogue = made(many, Choose.TWO_CHOICES)
    route = catalogue.routes["m"]
    broken, unreachable, cooled, trial, lately, full = route.pool.everybody
    eject(trial, NOW, rng)
    later = trial.breaker.open_until
    trial.begin(later, 0)
    eject(broken, later, rng)
    eject(unreachable, later, rng, Cause.CONNECT)
    answer(cooled, Cause.RATE_LIMITED, later, rng, 40.0)
    answer(lately, Cause.FIRST_BYTE, later, rng)
    full.begin(later, 0)
    seen = pools(View(settings, catalogue, TOKENS, later + 2), route, None)[0]
    (reason,) = facts_of(seen, broken).obstacles
    assert (reason.name, reason.why, reason.since_s) == ("ejected", "consecutive", 2)
    assert 6 <= (reason.for_s or 0) <= 10
    (reason,) = facts_of(seen, unreachable).obstacles
    assert (reason.name, reason.why, reason.since_s) == ("host_ejected", "consecutive", 2)
    (reason,) = facts_of(seen, cooled).obstacles
    assert (reason.name, reason.why) == ("cooling", "rate_limit")
    assert 38 <= (reason.for_s or 0) <= 46
    (reason,) = facts_of(seen, trial).obstacles
    assert (reason.name, reason.why, reason.for_s) == ("probation", "consecutive", None)
    (reason,) = facts_of(seen, full).obstacles
    assert (reason.name, reason.why) == ("full", "1 of 1")
    assert facts_of(seen, lately).eligible
    assert facts_of(seen, lately).penalty_s == pytest.approx(8.0)
    back = pools(View(settings, catalogue, TOKENS, broken.breaker.open_until), route, None)[0]
    assert facts_of(back, broken).probation


def test_limits_of_an_upstream_are_reasons() -> None:
    """Requests and tokens a minute: what is asked, what there is, when to come back; a wait without end is none."""
    settings, catalogue = made(
        [
            (1.0, 1, 1, Limits(requests_per_minute=Count(6), request_burst=Count(1))),
            (1.0, 1, 1, Limits(tokens_per_minute=Count(120))),
            (1.0, 1, 1, Limits(tokens_per_minute=Count(60))),
        ],
        Choose.TWO_CHOICES,
    )
    route = catalogue.routes["m"]
    for target in route.pool.everybody[:2]:
        target.begin(NOW, TOKENS)
    seen = pools(View(settings, catalogue, TOKENS, NOW), route, None)[0]
    told = [(reason.name, reason.why, reason.for_s) for member in seen.members for reason in member.obstacles]
    assert told == [
        ("requests", "asks for 1, 6 a minute", pytest.approx(10.0)),
        ("tokens", "asks for 100, 120 a minute", pytest.approx(40.0)),
        ("tokens", "asks for 100, 60 a minute", None),
    ]


def test_the_last_resort_is_told_while_it_is_due(rng: Random) -> None:
    """With everybody out the one that is back first is the step; for a second after it was taken there is none."""
    settings, catalogue = made([(1.0, 1, 1, Limits()), (1.0, 2, 1, Limits())], Choose.TWO_CHOICES)
    route = catalogue.routes["m"]
    spare = catalogue.routes["spare"].pool
    for target, wait_s in zip((*route.pool.everybody, *spare.everybody), (60.0, 20.0, 90.0), strict=True):
        answer(target, Cause.RATE_LIMITED, NOW, rng, wait_s)
    view = View(settings, catalogue, TOKENS, NOW)
    (told,) = steps(view, route)
    assert (told.kind, told.route, told.tier, [pick.upstream for pick in told.picks]) == ("last_resort", "m", 2, ["u1"])
    choice = Tries(route, Retry(), TOKENS).pick(NOW, 0, rng)
    assert choice is not None
    assert choice[1].upstream.name == "u1"
    (told,) = steps(view, route)
    assert (told.kind, told.route) == ("last_resort", "spare")
    assert Tries(route, Retry(), TOKENS).pick(NOW, 0, rng) is not None
    assert steps(view, route) == ()
    assert Tries(route, Retry(), TOKENS).pick(NOW, 0, rng) is None


def test_what_is_stored_goes_there_or_nowhere(rng: Random) -> None:
    """A request bound to one target, drained or not, has that step and no other; none while the target is out."""
    settings, catalogue = made([(0.0, 1, 1, Limits()), (1.0, 1, 1, Limits())], Choose.TWO_CHOICES)
    route = catalogue.routes["m"]
    keeper = route.pool.everybody[0]
    view = View(settings, catalogue, TOKENS, NOW)
    (told,) = stored_step(view, route, keeper)
    assert (told.kind, [pick.upstream for pick in told.picks]) == ("stored", ["u0"])
    assert facts_of(pools(view, route, keeper)[0], keeper).eligible
    assert not facts_of(pools(view, route, None)[0], keeper).eligible
    eject(keeper, NOW, rng)
    assert stored_step(view, route, keeper) == ()


def test_who_is_not_spoken_to_is_told() -> None:
    """Members of another protocol are shown with the pool, alone or beside those that serve."""
    pool = (Member(upstream="u"), Member(upstream="other", model="there", tier=2))
    foreign = msgspec.structs.replace(upstream("other"), protocol=Protocol.ANTHROPIC)
    settings = config({"m": Model(pool=pool), "n": Model(pool=pool[1:])}, {"other": foreign})
    catalogue = build(settings, NOW, None)
    view = View(settings, catalogue, 0, NOW)
    route = catalogue.find("m", "openai+translated")
    assert route is not None
    told = {member.upstream: member for member in pools(view, route, None)[0].members}
    assert (told["u"].spoken, told["u"].eligible) == (True, True)
    assert (told["other"].spoken, told["other"].eligible, told["other"].model) == (False, False, "there")
    assert catalogue.find("n", "openai+translated") is None
    (alone,) = unspoken(view, "n").members
    assert (alone.upstream, alone.spoken, alone.eligible) == ("other", False, False)


def test_deadlines_name_their_level() -> None:
    """Each is what attempts go by, and comes from the model, else from the upstream, else from the defaults."""
    slow = msgspec.structs.replace(
        upstream("u"), timeouts=TimeoutOverrides(connect=Seconds(1), idle=Seconds(2)), pace=Pace(requests=Count(5))
    )
    settings = config(
        {"m": Model(pool=(Member(upstream="u"),), timeouts=TimeoutOverrides(idle=Seconds(7), total=Seconds(8)))},
        {"u": slow},
        Defaults(timeouts=Timeouts(first_byte=Seconds(9))),
    )
    catalogue = build(settings, NOW, None)
    told = deadlines(settings, "m", slow)
    assert [(each.name, each.seconds, each.level) for each in told] == [
        ("connect", 1.0, "upstream"),
        ("first_byte", 9.0, "defaults"),
        ("first_token", 120.0, "defaults"),
        ("idle", 7.0, "model"),
        ("total", 8.0, "model"),
    ]
    (target,) = catalogue.routes["m"].pool.targets
    assert {each.name: each.seconds for each in told} == msgspec.structs.asdict(target.timeouts)
    (member,) = pools(View(settings, catalogue, 0, NOW), catalogue.routes["m"], None)[0].members
    assert member.pace is not None
    assert (member.pace.requests, member.pace.per_s, member.pace.wait_s) == (5, 1.0, 2.0)


def test_levels_are_what_is_left() -> None:
    """Requests of the burst, tokens down into debt, and what is in flight, of a bound or of none."""
    limiter = Limiter(Limits(requests_per_minute=Count(60), request_burst=Count(5), tokens_per_minute=Count(600)), NOW)
    limiter.take(NOW, 100)
    told = levels(limiter, NOW)
    assert told.requests is not None
    assert (told.requests.left, told.requests.at_once, told.requests.per_minute) == (4, 5, 60)
    assert told.requests.full_in_s == pytest.approx(1.0)
    assert told.tokens is not None
    assert (told.tokens.left, told.tokens.at_once) == (500, 600)
    assert (told.concurrency.in_flight, told.concurrency.limit) == (1, None)
    limiter.settle(NOW, 100, 900)
    told = levels(limiter, NOW)
    assert told.tokens is not None
    assert told.tokens.left == -300
    none = levels(Limiter(Limits(concurrency=Count(7)), NOW), NOW)
    assert (none.requests, none.tokens, none.concurrency.limit) == (None, None, 7)


def test_prices_are_listed_as_they_are_charged() -> None:
    """What falls back to another price is filled in; what costs nothing is left out; without a price it is unknown."""
    price = Price(input=Usd("1.25"), output=Usd(10), image=Usd("0.002"))
    settings = config({"m": Model(pool=(Member(upstream="u"),), price=price), "n": Model(pool=(Member(upstream="u"),))})
    catalogue = build(settings, NOW, None)
    view = View(settings, catalogue, 0, NOW)
    told = pools(view, catalogue.routes["m"], None)[0].price
    assert told is not None
    assert (told["input"], told["cached_input"], told["output"], told["image"]) == (1.25, 1.25, 10.0, 0.002)
    assert not {"second", "search", "characters"} & set(told)
    assert pools(view, catalogue.routes["n"], None)[0].price is None
