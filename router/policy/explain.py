"""What the decisions would be, and why: the state of keys, limits and pools as values for operators.

Nothing here decides. The answers come from what the exchange itself asks (`Limiter.refusals`, `Target.obstacles`,
`Picker.chances`, `Pool.last_resorts`), and asking changes nothing. `router.explain` makes the whole answer of it.
Durations are seconds from now, or up to now where the name says `since`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from router.config.schema import TimeoutOverrides, Timeouts
from router.policy.target import Obstacle  # noqa: TC001 (msgspec reads the annotation)

if TYPE_CHECKING:
    from collections.abc import Collection

    from router.config.schema import Config, Member, Upstream
    from router.policy.catalogue import Catalogue, Route
    from router.policy.limits import Limiter
    from router.policy.picker import Picker
    from router.policy.target import Target

Level = Literal["model", "upstream", "defaults"]

NO_MODEL_SETTINGS = TimeoutOverrides()
"""Of a pinned family, which is no model."""


class View(NamedTuple):
    """What is looked at, and when."""

    config: Config
    catalogue: Catalogue
    """Made of `config`."""
    reserved: int
    """Tokens of the request."""
    now: float
    """Monotonic seconds."""


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """A limit per minute, and what is left of it."""

    left: int
    """At this moment; negative: a debt of tokens."""
    at_once: int
    """What there is when nothing is used."""
    per_minute: int
    full_in_s: float


class Slots(msgspec.Struct, frozen=True, kw_only=True):
    """Requests in flight."""

    in_flight: int
    limit: int | None
    """None: counted only."""


class Levels(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a key; None where there is none."""

    requests: Rate | None
    tokens: Rate | None
    concurrency: Slots


class Deadline(msgspec.Struct, frozen=True, kw_only=True):
    """One deadline, and the level of the configuration that sets it."""

    name: str
    seconds: float
    level: Level


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """The rate at which an upstream takes requests."""

    requests: int
    per_s: float
    wait_s: float
    """The longest a request waits for its turn."""


class MemberFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A member with one of its credentials."""

    upstream: str
    model: str
    """Its name there, or the pattern where it is what the client writes."""
    credential: int
    """Counted from 0."""
    credentials: int
    """How many there are; 0: the upstream is sent none."""
    tier: int
    weight: float
    share: float
    """Of the weights in its tier, 0 to 1."""
    in_flight: int
    limit: int | None
    """Of the upstream, in flight."""
    eligible: bool
    obstacles: tuple[Obstacle, ...] = ()
    """Why it is not."""
    spoken: bool = True
    """It can be sent what the client speaks."""
    probation: bool = False
    """The request would be its trial after an ejection."""
    penalty_s: float = 0.0
    """For so long it counts as more loaded than it is: it has failed lately."""
    pace: Pace | None = None
    deadlines: tuple[Deadline, ...] = ()


class PoolFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What serves a model, or a fallback of it."""

    route: str
    """The configured name or pattern."""
    choose: str
    members: tuple[MemberFacts, ...]
    """By tier, those with weight 0 and those that cannot be spoken to among them."""
    price: dict[str, float] | None
    """USD per million, and per piece; None: unknown."""


class Pick(msgspec.Struct, frozen=True, kw_only=True):
    """A target that may be picked."""

    upstream: str
    model: str
    """As of its member."""
    credential: int
    chance: float | None
    """Of taking a request that comes to this step; 0: only when others of it have failed; None: too many to tell."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes, unless an earlier step took it."""

    kind: Literal["tier", "stored", "last_resort"]
    route: str
    tier: int
    picks: tuple[Pick, ...]


def levels(limiter: Limiter, now: float) -> Levels:
    """Return what is left of a key's limits."""
    requests, tokens = limiter.requests, limiter.tokens
    return Levels(
        requests=None
        if requests is None
        else Rate(
            left=int(requests.remaining(now)),
            at_once=int(requests.burst),
            per_minute=int(requests.per_minute),
            full_in_s=requests.reset_s(now),
        ),
        tokens=None
        if tokens is None
        else Rate(
            left=round(tokens.level(now)),
            at_once=int(tokens.capacity),
            per_minute=int(tokens.capacity),
            full_in_s=tokens.reset_s(now),
        ),
        concurrency=Slots(in_flight=limiter.in_flight, limit=_bound(limiter)),
    )


def pools(view: View, route: Route, only: Target | None) -> tuple[PoolFacts, ...]:
    """Return the pool of a route, as a client sees it, and those of its fallbacks.

    `only` is the one target that the request may go to, if there is one; it may be a drained one.
    """
    return tuple(_pool(view, each, only) for each in route.chain)


def unspoken(view: View, name: str) -> PoolFacts:
    """Return the pool of a configured model of which no member can be sent what the client speaks."""
    whole = view.catalogue.routes[name]
    members = tuple(_unspoken(view, member, name) for member in whole.members)
    return PoolFacts(route=name, choose=_choose(view, name), members=members, price=_price(whole))


def steps(view: View, route: Route, tried: Collection[Target] = ()) -> tuple[Step, ...]:
    """Return where a request may go, in the order of `Tries`: tier by tier, the model's pool before its fallbacks'.

    Where nobody is eligible that is the last resort, if it is due. With `tried` that is asked as if these had failed.
    """
    now, reserved = view.now, view.reserved
    found = [
        Step(kind="tier", route=each.name, tier=tier.targets[0].tier, picks=picks)
        for each in route.chain
        for tier in each.pool.tiers
        if (picks := _picks(view, tier))
    ]
    if found and not tried:
        return tuple(found)
    for each in route.chain:
        resorts = each.pool.last_resorts(now, reserved, tried)
        if resorts:
            picks = tuple(_pick(target, 1 / len(resorts)) for target in resorts)
            return (Step(kind="last_resort", route=each.name, tier=resorts[0].tier, picks=picks),)
    return ()


def stored_step(view: View, route: Route, only: Target) -> tuple[Step, ...]:
    """Return where a request goes that can go to one target only; nothing if that cannot take it now."""
    if not only.eligible(view.now, view.reserved):
        return ()
    return (Step(kind="stored", route=route.name, tier=only.tier, picks=(_pick(only, 1.0),)),)


def deadlines(config: Config, model: str, upstream: Upstream) -> tuple[Deadline, ...]:
    """Return the deadlines of attempts at a member, as `catalogue` lays them over each other, with their origins."""
    settings = config.models.get(model)
    of_model = settings.timeouts if settings is not None else NO_MODEL_SETTINGS
    found = []
    for name in Timeouts.__struct_fields__:
        levels: tuple[tuple[Level, TimeoutOverrides], ...] = (("model", of_model), ("upstream", upstream.timeouts))
        level: Level = next((level for level, given in levels if getattr(given, name) is not None), "defaults")
        given = dict(levels).get(level, config.defaults.timeouts)
        found.append(Deadline(name=name, seconds=float(getattr(given, name)), level=level))
    return tuple(found)


def _pool(view: View, route: Route, only: Target | None) -> PoolFacts:
    pool, weights = route.pool, dict.fromkeys((target.tier for target in route.pool.everybody), 0.0)
    for target in pool.everybody:
        weights[target.tier] += target.share
    serving = set(pool.targets) | {only}
    members = [
        _member(view, route.name, target, weights[target.tier], serves=target in serving) for target in pool.everybody
    ]
    whole = view.catalogue.routes.get(route.name, route)
    members += [_unspoken(view, member, route.name) for member in whole.members if member not in route.members]
    members.sort(key=lambda member: member.tier)
    return PoolFacts(route=route.name, choose=_choose(view, route.name), members=tuple(members), price=_price(route))


def _member(view: View, route: str, target: Target, weights: float, *, serves: bool) -> MemberFacts:
    """Tell of a target; `weights` are those of its tier together."""
    upstream = target.upstream
    settings, limiter, pace = upstream.settings, upstream.limiter, upstream.settings.pace
    obstacles = target.obstacles(view.now, view.reserved)
    eligible = serves and not obstacles
    return MemberFacts(
        upstream=upstream.name,
        model=target.label,
        credential=target.credential,
        credentials=len(settings.api_keys) or int(settings.api_key is not None),
        tier=target.tier,
        weight=target.weight,
        share=target.share / weights if weights else 0.0,
        in_flight=upstream.in_flight,
        limit=_bound(limiter),
        eligible=eligible,
        obstacles=obstacles,
        probation=eligible and bool(target.breaker.open_until or upstream.breaker.open_until),
        penalty_s=max(0.0, target.penalty_until - view.now),
        pace=None
        if pace is None
        else Pace(requests=int(pace.requests), per_s=float(pace.per), wait_s=float(pace.wait)),
        deadlines=deadlines(view.config, route, settings),
    )


def _unspoken(view: View, member: Member, name: str) -> MemberFacts:
    return MemberFacts(
        upstream=member.upstream,
        model=member.model or name,
        credential=0,
        credentials=0,
        tier=member.tier,
        weight=member.weight,
        share=0.0,
        in_flight=view.catalogue.upstreams[member.upstream].in_flight,
        limit=None,
        eligible=False,
        spoken=False,
    )


def _picks(view: View, tier: Picker) -> tuple[Pick, ...]:
    chances = tier.chances(view.now, view.reserved)
    if chances is not None:
        likely = sorted(chances.items(), key=lambda item: -item[1])
        return tuple(_pick(target, chance) for target, chance in likely)
    return tuple(_pick(target, None) for target in tier.targets if target.eligible(view.now, view.reserved))


def _pick(target: Target, chance: float | None) -> Pick:
    return Pick(upstream=target.upstream.name, model=target.label, credential=target.credential, chance=chance)


def _choose(view: View, name: str) -> str:
    settings = view.config.models.get(name)
    return str((settings.choose if settings is not None else None) or view.config.defaults.choose)


def _price(route: Route) -> dict[str, float] | None:
    return None if route.prices is None else route.prices.listed()


def _bound(limiter: Limiter | None) -> int | None:
    """Requests that may be in flight; as a plain number, which JSON knows."""
    return None if limiter is None or limiter.slots is None else int(limiter.slots)
