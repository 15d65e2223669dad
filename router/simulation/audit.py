"""The promises (DESIGN 10), checked while a simulation runs and once it is at rest.

What is checked at every step: no attempt after the commit, no upstream above its limits, nobody turned away while a
member could serve, one end for each request. At rest: nothing in flight, nothing reserved, no retry, no probation under
way, and over the whole run no limit has let more through than it promises.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from router.simulation.engine import START_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.config.schema import Limits
    from router.policy.breaker import Breaker
    from router.policy.catalogue import Catalogue, Route
    from router.policy.limits import Limiter
    from router.policy.retry import RetryBudget
    from router.policy.target import Target, UpstreamState
    from router.simulation.exchange import Exchange
    from router.simulation.gateway import Gateway

TOLD_MAX: Final = 20
"""Broken promises that are told; the others are counted."""

ALL_TARGETS_MAX: Final = 100
"""Of a larger pool only this many members are looked at each time, in turns, when a request found nobody."""


class Used(NamedTuple):
    """What went through one limiter."""

    requests: int = 0
    tokens: int = 0
    """Charged in the end."""
    beyond: int = 0
    """Of those, what was more than reserved: it may be owed."""

    def more(self, reserved: int, tokens: int) -> Used:
        """Return this and one request more."""
        return Used(self.requests + 1, self.tokens + tokens, self.beyond + max(0, tokens - reserved))


class Audit:
    """What was promised and not kept."""

    def __init__(self) -> None:
        self.broken: list[str] = []
        """What was not kept, in words; the first `TOLD_MAX`."""
        self.count = 0
        """All that was not kept."""
        self._open = 0
        self._turn = 0
        self._upstreams: dict[UpstreamState, None] = {}
        self._breakers: dict[Breaker, str] = {}
        self._budgets: dict[RetryBudget, str] = {}
        # By name and by our own count, so that state which a reload loses or doubles is noticed.
        self._under_way: Counter[str] = Counter()
        self._used_upstreams: dict[str, Used] = {}
        self._used_keys: dict[str, Used] = {}

    def watch(self, catalogue: Catalogue) -> None:
        """Remember everything a snapshot counts in, to look at it when all is over."""
        for upstream in catalogue.upstreams.values():
            self._upstreams[upstream] = None
            self._breakers[upstream.breaker] = upstream.name
            self._breakers.update({breaker: f"{upstream.name}/{label}" for label, breaker in upstream.breakers.items()})
        for route in catalogue.routes.values():
            self._budgets.update({each.pool.retry: each.name for each in route.chain})

    # while it runs

    def exchange_begins(self) -> None:
        """A request was taken."""
        self._open += 1

    def exchange_ends(self, exchange: Exchange, key: str | None, charged: int, now: float) -> None:
        """A request has its end."""
        self._open -= 1
        if exchange.settled:
            self._tell(now, f"{exchange!r} ends a second time")
        if exchange.target is not None:
            self._tell(now, f"{exchange!r} ends while an attempt is under way")
        if key is not None:
            self._used_keys[key] = self._used_keys.get(key, Used()).more(exchange.reserved, charged)

    def attempt_begins(self, exchange: Exchange, target: Target, now: float) -> None:
        """A lease was taken."""
        if exchange.content_at:
            self._tell(now, f"{exchange!r} tries {target!r} though its client has content")
        name, slots = target.upstream.name, target.upstream.settings.limits.concurrency
        self._under_way[name] += 1
        if slots is not None and self._under_way[name] > slots:
            self._tell(now, f"{name} has {self._under_way[name]} in flight, its limit is {slots}")
        if not target.weight:
            self._tell(now, f"{target!r} is drained, and was sent a request")

    def attempt_ended(self, target: Target, reserved: int, used: int) -> None:
        """A lease was given back."""
        name = target.upstream.name
        self._under_way[name] -= 1
        if target.upstream.limiter is not None:
            self._used_upstreams[name] = self._used_upstreams.get(name, Used()).more(reserved, used)

    def nobody_left(self, exchange: Exchange, chain: tuple[Route, ...], gateway: Gateway, now: float) -> None:
        """A request ends because no member is left that could serve it: is that so?

        A member that may be picked must have been, short of the retry budget; and one that has never failed must not
        be out.
        """
        tries = exchange.tries
        tried, avoid = (tries.tried, tries.avoid) if tries is not None else ((), ())
        sound_only = tries is not None and tries.held_back
        for route in chain:
            for target in self._some(route.pool.targets):
                if target in tried or (sound_only and not target.sound):
                    continue
                upstream = target.upstream
                if upstream not in avoid and target.eligible(now, exchange.reserved):
                    self._tell(now, f"{exchange!r} found nobody, but {target!r} was eligible")
                full = upstream.limiter is not None and not upstream.limiter.admits(now, exchange.reserved)
                if gateway.upstreams[upstream.name].blameless and not full:
                    self._tell(now, f"{exchange!r} found nobody, but {target!r} has never failed")

    def _some(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        """Return all targets, of many the next some: a million looks at a thousand members would take half an hour."""
        if len(targets) <= ALL_TARGETS_MAX:
            return targets
        self._turn = (self._turn + ALL_TARGETS_MAX) % len(targets)
        return (targets * 2)[self._turn : self._turn + ALL_TARGETS_MAX]

    # at rest

    def at_rest(self, gateway: Gateway) -> None:
        """Everything is over: nothing may be left of it."""
        now = gateway.engine.now
        if self._open:
            self._tell(now, f"{self._open} requests never ended")
        for upstream in self._upstreams:
            if upstream.in_flight:
                self._tell(now, f"{upstream.name} has {upstream.in_flight} leases that nobody holds")
            self._check_limiter(upstream.name, upstream.limiter, now)
            used = self._used_upstreams.get(upstream.name, Used())
            self._check_used(upstream.name, upstream.settings.limits, used, now)
        for breaker, name in self._breakers.items():
            if breaker.trials:
                self._tell(now, f"{name} waits for {breaker.trials} probation requests that are over")
        for budget, name in self._budgets.items():
            if budget.active:
                self._tell(now, f"{name} counts {budget.active} retries that are over")
        for simulated in gateway.upstreams.values():
            if simulated.serving or simulated.waiting:
                self._tell(now, f"{simulated!r}, but nobody is there any more")
        keys: Mapping[str, Limiter | None] = {name: key.limiter for name, key in gateway.keyring.keys.items()}
        for name, limiter in keys.items():
            self._check_limiter(f"key {name}", limiter, now)
            used = self._used_keys.get(name, Used())
            self._check_used(f"key {name}", gateway.config.keys[name].limits, used, now)

    def _check_limiter(self, name: str, limiter: Limiter | None, now: float) -> None:
        if limiter is not None and (limiter.in_flight or limiter.reserved):
            self._tell(now, f"{name} still has {limiter!r}")

    def _check_used(self, name: str, limits: Limits, used: Used, now: float) -> None:
        """Hold what went through to what may: the burst, and what has come back since."""
        minutes = (now - START_S) / 60.0
        per_minute = limits.requests_per_minute
        if per_minute is not None:
            burst = limits.request_burst or max(1, per_minute // 6)
            if used.requests > burst + per_minute * minutes + 1:
                self._tell(now, f"{name} let {used.requests} requests through in {minutes:.2f} minutes")
        tokens = limits.tokens_per_minute
        if tokens is not None and used.tokens > tokens + tokens * minutes + used.beyond + 1:
            self._tell(now, f"{name} let {used.tokens} tokens through in {minutes:.2f} minutes")

    def _tell(self, now: float, text: str) -> None:
        self.count += 1
        if len(self.broken) < TOLD_MAX:
            self.broken.append(f"at {now - START_S:.3f} s: {text}")
