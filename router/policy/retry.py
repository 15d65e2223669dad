"""How often the router may try again: the budget that keeps retries from feeding an outage, and the back-off."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from router.config.schema import Retry

BACKOFF_S_MIN = 0.025
BACKOFF_S_MAX = 0.25
_DOUBLINGS_MAX = 4
"""Enough for 250 ms; keeps the power small."""


class RetryBudget:
    """Retries that may be under way at once: max(`budget_min`, `budget_ratio` of what is in flight).

    Counting what is under way, as Envoy does, and not what is sent per second, holds for answers of any length.
    """

    __slots__ = ("active", "settings")

    def __init__(self, settings: Retry) -> None:
        self.settings = settings
        """May be replaced at a reload; retries under way stay counted."""
        self.active = 0
        """Retries under way."""

    def __repr__(self) -> str:
        return f"<RetryBudget: {self.active} under way>"

    def withdraw(self, in_flight: int) -> bool:
        """Take leave for one retry, if there is any; then `deposit` must follow when that attempt ends."""
        if self.active >= self.allowed(in_flight):
            return False
        self.active += 1
        return True

    def allowed(self, in_flight: int) -> float:
        """Return how many retries may be under way while so many requests are in flight."""
        return max(self.settings.budget_min, self.settings.budget_ratio * in_flight)

    def deposit(self) -> None:
        """Give back what a retry took: it ended, however."""
        self.active -= 1


def backoff(n: int, rng: Random) -> float:
    """Return seconds to wait before the `n`-th retry (from 1) at the same upstream: random in [25 ms, 50 ms · 2^(n-1)].

    The upper end stops at 250 ms. Another upstream is tried without any wait (RELIABILITY 1.7).
    """
    upper = min(BACKOFF_S_MAX, 2 * BACKOFF_S_MIN * 2.0 ** min(max(n - 1, 0), _DOUBLINGS_MAX))
    return BACKOFF_S_MIN + (upper - BACKOFF_S_MIN) * rng.random()
