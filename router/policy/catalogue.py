"""The catalogue: one snapshot of which model is served by what, built from a configuration.

A reload builds a new catalogue beside the old one. Whatever is counted or learnt (breakers, cooldowns, limits, leases,
retry budgets, corrections) is carried over by identity and shared, never copied: exchanges in flight hold targets of
the old catalogue, and their leases end where the new one counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from router.config.schema import (
    Config,
    Count,
    Member,
    Model,
    Protocol,
    Secret,
    TimeoutOverrides,
    Timeouts,
    Translation,
    Upstream,
)
from router.policy.breaker import Breaker
from router.policy.cooldown import Cooldown
from router.policy.limits import Correction
from router.policy.patterns import PatternMap
from router.policy.pool import NEVER, Pool
from router.policy.price import PriceList
from router.policy.retry import RetryBudget
from router.policy.target import Target, UpstreamState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


VIEWS = {protocol.value + suffix: (protocol, bool(suffix)) for protocol in Protocol for suffix in ("", "+translated")}
"""What a client speaks, and whether its request can be translated for members that speak something else; by a plain
name, because this is looked up for every request and enumerations hash slowly."""

PINNED = "_pinned"
"""The model, in labels, of requests that name none and always go to one upstream."""


class Route:
    """What serves one configured model."""

    __slots__ = ("correction", "default_output_tokens", "fallbacks", "members", "name", "pool", "prices", "translation")

    def __init__(self, name: str, pool: Pool, default_output_tokens: int, correction: Correction) -> None:
        self.name = name
        """The configured name or pattern: a label."""
        self.pool = pool
        self.fallbacks: tuple[Route, ...] = ()
        """Its fallbacks and theirs, depth first, each once."""
        self.default_output_tokens = default_output_tokens
        """Reserved for a request that names no maximum."""
        self.correction = correction
        """Of the estimate of prompt tokens."""
        self.members: tuple[Member, ...] = ()
        """Of the pool, as configured."""
        self.prices: PriceList | None = None
        self.translation = Translation()
        """How requests are rebuilt for members that do not speak the client's protocol."""

    def __repr__(self) -> str:
        return f"<Route {self.name}: {self.pool!r}>"

    @property
    def chain(self) -> tuple[Route, ...]:
        """Itself, then its fallbacks. Not kept: a route that refers to itself would wait for the collector."""
        return (self, *self.fallbacks)


class Catalogue:
    """Every model and every upstream of one configuration."""

    __slots__ = ("_by_model", "_views", "pins", "routes", "upstreams")

    def __init__(
        self,
        routes: Mapping[str, Route],
        upstreams: Mapping[str, UpstreamState],
        views: Mapping[str, Mapping[str, Route]],
        pins: Mapping[str, Route],
    ) -> None:
        self.routes = dict(routes)
        """By configured name or pattern, with every member."""
        self.upstreams = dict(upstreams)
        """By configured name."""
        self.pins = dict(pins)
        """What serves each pinned family."""
        self._by_model = PatternMap(self.routes)
        self._views = {view: dict(seen) for view, seen in views.items()}

    def __repr__(self) -> str:
        return f"<Catalogue: {len(self.routes)} routes, {len(self.upstreams)} upstreams>"

    def find(self, model: str, view: str = "") -> Route | None:
        """Return what serves the model a client asks for: its exact name, else the longest pattern.

        With a view, one of `VIEWS`, its pool has only the members that can serve such a client; None if no member can.
        """
        found = self._by_model.find(model)
        return self._views[view].get(found.name) if found is not None and view else found

    def matching(self, model: str) -> tuple[str, ...]:
        """Return every configured name and pattern that fits a model, the one that `find` goes by first."""
        return self._by_model.matching(model)


def build(config: Config, now: float, previous: Catalogue | None) -> Catalogue:
    """Build the catalogue of a validated configuration, taking over the state of what stays.

    An upstream stays if name and base URL do; a breaker with its model's name there, a cooldown also with the reference
    of its credential; a retry budget and a correction with the route's name.

    Args:
        config: Validated: every name it refers to exists, and fallbacks have no cycles.
        now: Monotonic seconds.
        previous: The catalogue in use. Changed limits and ejection settings apply to what it shares with this call.
    """
    return _Builder(config, now, previous).build()


class _Builder:
    """Holds what the steps of `build` share. Shared state is changed only after everything that could fail."""

    def __init__(self, config: Config, now: float, previous: Catalogue | None) -> None:
        self._config = config
        self._now = now
        self._previous_routes = previous.routes if previous else {}
        self._upstreams = {
            name: self._upstream(name, settings, previous) for name, settings in config.upstreams.items()
        }
        self._breakers: dict[str, dict[str, Breaker]] = {name: {} for name in config.upstreams}
        self._cooldowns: dict[str, dict[tuple[Secret | None, str], Cooldown]] = {name: {} for name in config.upstreams}
        self._patterns = PatternMap({name: name for name in config.models})
        self._routes: dict[str, Route] = {}

    def build(self) -> Catalogue:
        models = self._config.models
        self._routes = {name: self._route(name, name) for name in models}
        chains = {name: tuple(self._chain(name, name, set(), self._routes)) for name in models}
        for name, route in self._routes.items():
            route.fallbacks = chains[name][1:]
        views = {name: self._view(protocol, translates=translates) for name, (protocol, translates) in VIEWS.items()}
        pins = {family: self._pin(upstream) for family, upstream in self._config.pins.items()}
        # Nothing below can fail.
        for route in self._routes.values():
            route.pool.retry.settings = self._config.defaults.retry
        serving = {upstream for route in (*self._routes.values(), *pins.values()) for upstream in route.pool.upstreams}
        for name, upstream in self._upstreams.items():
            upstream.keep(self._breakers[name], self._cooldowns[name])
            upstream.reconfigure(self._config.upstreams[name], self._config.defaults.ejection, self._now)
            upstream.draining = upstream not in serving
        return Catalogue(self._routes, self._upstreams, views, pins)

    def _upstream(self, name: str, settings: Upstream, previous: Catalogue | None) -> UpstreamState:
        before = previous.upstreams.get(name) if previous else None
        if before is not None and before.base_url == settings.base_url:
            return before
        return UpstreamState(name, settings, self._config.defaults.ejection, self._now)

    def _view(self, protocol: Protocol, *, translates: bool) -> dict[str, Route]:
        """Return the routes as a client of one protocol sees them."""
        members = {
            name: tuple(
                member
                for member in settings.pool
                if self._config.upstreams[member.upstream].protocol is protocol or (translates and settings.translate)
            )
            for name, settings in self._config.models.items()
        }
        if all(members[name] == settings.pool for name, settings in self._config.models.items()):
            return self._routes
        routes = {name: self._route(name, name, serving) for name, serving in members.items() if serving}
        for name, route in routes.items():
            _, *fallbacks = self._chain(name, name, set(), routes)
            route.fallbacks = tuple(fallbacks)
        return routes

    def _pin(self, upstream: str) -> Route:
        """Make the route of a family of paths whose state lives at one upstream."""
        defaults, settings = self._config.defaults, Model(pool=(Member(upstream=upstream),))
        pool = Pool(
            PINNED,
            self._targets(settings.pool[0], settings, PINNED),
            defaults.choose,
            RetryBudget(defaults.retry),
            last_resort_at=NEVER,
        )
        return Route(PINNED, pool, Count(defaults.default_output_tokens), Correction())

    def _route(self, name: str, model: str, members: tuple[Member, ...] | None = None) -> Route:
        """Make the route of a configured name or pattern for a model: the same, or what a fallback writes.

        With `members`, only these of its pool are in it.
        """
        defaults, settings = self._config.defaults, self._config.models[name]
        before = self._routes.get(name) or self._previous_routes.get(name)
        members = settings.pool if members is None else members
        pool = Pool(
            name,
            [target for member in members for target in self._targets(member, settings, model)],
            settings.choose or defaults.choose,
            before.pool.retry if before else RetryBudget(defaults.retry),
            last_resort_at=before.pool.last_resort_at if before else NEVER,
        )
        output = settings.default_output_tokens or defaults.default_output_tokens
        route = Route(name, pool, Count(output), before.correction if before else Correction())
        route.members = members
        route.prices = PriceList(settings.price) if settings.price is not None else None
        route.translation = settings.translation
        return route

    def _targets(self, member: Member, settings: Model, model: str) -> Iterator[Target]:
        upstream = self._upstreams[member.upstream]
        configured = self._config.upstreams[member.upstream]
        label = member.model or model
        credentials: tuple[Secret | None, ...] = configured.api_keys or (configured.api_key,)
        timeouts = _merge(self._config.defaults.timeouts, configured.timeouts, settings.timeouts)
        breaker = self._breakers[member.upstream].setdefault(
            label, upstream.breakers.get(label) or Breaker(self._config.defaults.ejection)
        )
        for index, credential in enumerate(credentials):
            key = (credential, label)
            yield Target(
                upstream,
                model=member.model or (None if "*" in model else model),
                label=label,
                credential=index,
                weight=member.weight,
                share=member.weight / len(credentials),
                tier=member.tier,
                timeouts=timeouts,
                breaker=breaker,
                cooldown=self._cooldowns[member.upstream].setdefault(key, upstream.cooldowns.get(key) or Cooldown()),
            )

    def _chain(self, name: str, model: str, seen: set[str], routes: Mapping[str, Route]) -> Iterator[Route]:
        """Walk a route and its fallbacks depth first; a fallback may be a name that only a pattern serves."""
        seen.add(model)
        route = routes.get(name)
        if route is not None:  # else none of its members can serve this client
            yield route if model == name else self._route(name, model, route.members)
        for fallback in self._config.models[name].fallback:
            serving = self._patterns.find(fallback)
            if serving is None:
                raise KeyError(f"no model serves the fallback {fallback!r} of {name!r}")
            if fallback not in seen:
                yield from self._chain(serving, fallback, seen, routes)


def _merge(defaults: Timeouts, *overrides: TimeoutOverrides) -> Timeouts:
    """Lay overrides over the defaults, the last one on top."""
    changes = {
        field: value
        for override in overrides
        for field, value in msgspec.structs.asdict(override).items()
        if value is not None
    }
    return msgspec.structs.replace(defaults, **changes)
