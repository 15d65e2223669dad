"""A pool: the members that serve a model, in tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.errors import Kind
from router.policy.outcomes import Cools
from router.policy.picker import PICKERS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from random import Random

    from router.config.schema import Choose
    from router.policy.retry import RetryBudget
    from router.policy.target import Target, UpstreamState

LAST_RESORT_S = 1.0
"""Between two tries at a pool that is out: enough to notice early that it is back, too little to keep it down."""
NEVER = float("-inf")
WAIT_S_MIN = 1.0
WAIT_S_MAX = 60.0
"""What a client may be told to wait: SDKs ignore more (RELIABILITY 4.3)."""


class Pool:
    """Who may serve a model, and who of them takes the next request."""

    __slots__ = ("_last_resort_at", "everybody", "name", "retry", "targets", "tiers", "upstreams")

    def __init__(
        self, name: str, targets: Iterable[Target], choose: Choose, retry: RetryBudget, *, last_resort_at: float = NEVER
    ) -> None:
        self.name = name
        self.everybody = tuple(targets)
        """Drained ones too."""
        self.targets = tuple(target for target in self.everybody if target.weight > 0)
        """Those that may be sent something; weight 0 drains."""
        ranks = sorted({target.tier for target in self.targets})
        self.tiers = tuple(
            PICKERS[choose]([target for target in self.targets if target.tier == rank]) for rank in ranks
        )
        """Lowest first."""
        self.upstreams = tuple(dict.fromkeys(target.upstream for target in self.targets))
        self.retry = retry
        self._last_resort_at = last_resort_at

    def __repr__(self) -> str:
        return f"<Pool {self.name}: {len(self.targets)} targets, {self.in_flight} in flight>"

    @property
    def in_flight(self) -> int:
        """Leases held at its upstreams, by other pools too; what the retry budget is a share of."""
        return sum(upstream.in_flight for upstream in self.upstreams)

    @property
    def last_resort_at(self) -> float:
        """When the last resort was last taken; a reload hands it on."""
        return self._last_resort_at

    def eligible(self, now: float) -> int:
        """Return how many targets may be picked now, for operators."""
        return sum(target.eligible(now, 0) for target in self.targets)

    def pick(
        self, now: float, tokens: int, tried: Collection[Target], avoid: Collection[UpstreamState], rng: Random
    ) -> Target | None:
        """Return a target of the lowest tier that has one which is eligible, not tried and at no upstream to avoid.

        Args:
            now: Monotonic seconds.
            tokens: What the request reserves.
            tried: Targets of earlier attempts.
            avoid: Upstreams of earlier attempts; without them another credential of the same upstream may be picked.
            rng: Decides ties and draws.
        """
        for tier in self.tiers:
            target = tier.pick(now, tokens, tried, avoid, rng)
            if target is not None:
                return target
        return None

    def at(self, upstream: str, credential: int | None = None) -> Target | None:
        """Return the target at one upstream, drained or not, with one of its credentials if that matters."""
        for target in self.everybody:
            if target.upstream.name == upstream and credential in (None, target.credential):
                return target
        return None

    def last_resort(self, now: float, rng: Random, tokens: int = 0, tried: Collection[Target] = ()) -> Target | None:
        """Return where to try in spite of ejections and cooldowns, at most once a second: what is back soonest.

        Never a target that is full, and none at all while one is eligible.
        """
        best = self.last_resorts(now, tokens, tried)
        if not best:
            return None
        self._last_resort_at = now
        return best[int(rng.random() * len(best))]

    def last_resorts(self, now: float, tokens: int = 0, tried: Collection[Target] = ()) -> list[Target]:
        """Return the targets of which `last_resort` would take one now, without taking it."""
        if now < self._last_resort_at + LAST_RESORT_S:
            return []
        best: list[Target] = []
        best_at = 0.0
        for target in self.targets:
            limiter = target.upstream.limiter
            if target in tried or (limiter is not None and not limiter.admits(now, tokens)):
                continue
            back_at = target.back_at(now)
            if back_at <= now:
                return []
            if not best or back_at < best_at:
                best, best_at = [target], back_at
            elif back_at == best_at:
                best.append(target)
        return best

    def why_not(self, now: float, tokens: int) -> tuple[Kind, float]:
        """Return what to tell a client for whom nothing could be picked, and in how many seconds to come back.

        `UPSTREAM_RATE_LIMITED` if it is rate limits alone, the upstreams' or those configured for them; else
        `NO_HEALTHY_UPSTREAM`. The time is the shortest after which any target may be back, from 1 to 60 s.
        """
        wait_s = WAIT_S_MAX
        limited = bool(self.targets)
        for target in self.targets:
            back_in_s, by_limit = _excluded(target, now, tokens)
            wait_s = min(wait_s, back_in_s)
            limited = limited and by_limit
        kind = Kind.UPSTREAM_RATE_LIMITED if limited else Kind.NO_HEALTHY_UPSTREAM
        return kind, max(wait_s, WAIT_S_MIN)


def _excluded(target: Target, now: float, tokens: int) -> tuple[float, bool]:
    """Return for how many seconds a target is out, and whether a rate limit alone keeps it out."""
    wait_s = max(0.0, target.back_at(now) - now)
    broken = not (target.breaker.eligible(now) and target.upstream.breaker.eligible(now))
    cooling = target.cooldown.until > now
    by_limit = not broken and cooling and target.cooldown.reason is Cools.RATE_LIMIT
    limiter = target.upstream.limiter
    refusal = None if limiter is None else limiter.refusal(now, tokens)
    if refusal is not None:
        wait_s = max(wait_s, WAIT_S_MAX if refusal.never else refusal.retry_after_s)
        by_limit = by_limit or not (broken or cooling)
    return wait_s, by_limit
