"""The cooldown: (upstream, credential, model) is out because the upstream said so, not because it failed.

A 429 on one model or credential says nothing of the others (RELIABILITY 1.5), so each has its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.policy.outcomes import Cools

if TYPE_CHECKING:
    from random import Random

RETRY_AFTER_S_MIN = 1.0
RETRY_AFTER_S_MAX = 300.0
"""What an upstream may ask for; a `Retry-After` of a day would outlive its reason."""
BASE_S = 5.0
"""The first cooldown after a 429 that does not say how long; each later one doubles it …"""
BASE_S_MAX = 60.0
"""… up to a minute, the window of nearly every provider."""
JITTER = 0.2
"""Up to 20 % more: never less than what was asked for."""
QUOTA_S = 600.0
"""An empty account is filled by a person."""
MISCONFIGURED_S = 60.0
REFUSALS_MAX = 3
"""Refusals of our credential or model in a row before it counts as misconfigured: one may be a hiccup."""
_DOUBLINGS_MAX = 10


class Cooldown:
    """When (upstream, credential, model) may be used again."""

    __slots__ = ("_in_a_row", "_refusals", "marked", "reason", "until")

    def __init__(self) -> None:
        self.until = 0.0
        """Monotonic seconds; the past when it is not cooling."""
        self.reason = Cools.NONE
        """Why it cooled last."""
        self.marked = False
        """There is something that a success would forgive."""
        self._in_a_row = 0
        self._refusals = 0

    def __repr__(self) -> str:
        return f"<Cooldown until {self.until:.3f}, {self.reason}>"

    def cool(self, now: float, cools: Cools, retry_after_s: float | None, rng: Random) -> float:
        """Cool down for this reason; return for how many seconds, 0 if the reason is not yet enough.

        Args:
            now: Monotonic seconds.
            cools: The verdict's reason.
            retry_after_s: What the upstream asked for: `Retry-After`, else the reset of the exhausted limit. None, a
                negative number and NaN mean that it said nothing usable.
            rng: For jitter.
        """
        if cools is Cools.NONE:
            return 0.0
        for_s = self._seconds(now, cools, retry_after_s, rng)
        if for_s and now + for_s > self.until:
            self.until = now + for_s
            self.reason = cools
        return for_s

    def succeed(self, now: float) -> None:
        """Forgive what came before, but do not shorten a cooldown: a 429 wins over answers that began before it."""
        if now >= self.until:
            self.clear()

    def clear(self) -> None:
        """End the cooldown: a request that was sent in spite of it succeeded."""
        self.until = 0.0
        self.reason = Cools.NONE
        self.marked = False
        self._in_a_row = self._refusals = 0

    def _seconds(self, now: float, cools: Cools, retry_after_s: float | None, rng: Random) -> float:
        if cools is Cools.QUOTA:
            self.marked = True
            return QUOTA_S
        if cools is Cools.MISCONFIGURED:
            self.marked = True
            self._refusals += 1
            return MISCONFIGURED_S if self._refusals >= REFUSALS_MAX else 0.0
        if retry_after_s is not None and retry_after_s >= 0:
            for_s = min(max(retry_after_s, RETRY_AFTER_S_MIN), RETRY_AFTER_S_MAX)
        elif cools is Cools.OVERLOAD:
            # A 503 that names no time is a failure like any other: the breaker's business.
            return 0.0
        else:
            # Answers to requests that were sent together tell one story: only the first of them doubles.
            if now >= self.until:
                self._in_a_row += 1
            for_s = min(BASE_S * 2.0 ** min(max(self._in_a_row - 1, 0), _DOUBLINGS_MAX), BASE_S_MAX)
        self.marked = True
        return for_s * (1 + JITTER * rng.random())
