"""The breaker: takes a failing subject out, and lets one real request at a time find out whether it is back.

The subject is an upstream as a host (no connection can be made) or one model there (it answers with failures).

```
            streak or ratio                      open time over
  closed ───────────────────▶ open (ejected) ───────────────────▶ half open (probation)
    ▲                           ▲                                     │
    │                           └── the probation request failed ─────┤
    └───────────────────────────── it succeeded ──────────────────────┘
```
Outcomes of requests that began before an ejection and end during it say nothing new and are not counted. Small time
windows with a small minimum, not statistics over hosts: pools have two to five members and few requests each
(RELIABILITY 1.3, 1.5). Known weakness: below `min_outcomes` in `window` only the streak protects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from random import Random

    from router.config.schema import Ejection

BreakerState = Literal["closed", "open", "half_open"]

_BUCKETS = 10
"""Slices of the window: it moves in steps of a tenth, and costs twenty numbers whatever the load."""
_JITTER = 0.2
"""Open times differ by ± 20 %, so that upstreams that failed together are not tried together."""
_DOUBLINGS_MAX = 32
"""Far above any `eject_max / eject`; keeps the power finite."""


class Ejected(NamedTuple):
    """The breaker opened."""

    reason: str
    """`consecutive` or `error_rate`; what it was at first, if a probation request failed."""
    for_s: float


class Window:
    """Successes and failures of the last `span_s` seconds."""

    __slots__ = ("_at", "_bucket_ends", "_bucket_s", "_failures", "_successes")

    def __init__(self, span_s: float) -> None:
        self._bucket_s = span_s / _BUCKETS
        self._bucket_ends = 0.0
        self._at = 0
        self._successes = [0] * _BUCKETS
        self._failures = [0] * _BUCKETS

    def succeeded(self, now: float) -> None:
        """Count a success."""
        if now >= self._bucket_ends:
            self._advance(now)
        self._successes[self._at] += 1

    def failed(self, now: float) -> tuple[int, int]:
        """Count a failure; return successes and all outcomes in the window, this one included."""
        if now >= self._bucket_ends:
            self._advance(now)
        self._failures[self._at] += 1
        successes = sum(self._successes)
        return successes, successes + sum(self._failures)

    def clear(self) -> None:
        """Forget everything."""
        self._successes = [0] * _BUCKETS
        self._failures = [0] * _BUCKETS

    def resize(self, span_s: float) -> None:
        """Let buckets be of another length from now on; what they hold stays."""
        self._bucket_s = span_s / _BUCKETS

    def _advance(self, now: float) -> None:
        steps = int((now - self._bucket_ends) / self._bucket_s) + 1
        if steps >= _BUCKETS:
            self.clear()
            self._bucket_ends = now + self._bucket_s
            return
        for _ in range(steps):
            self._at = (self._at + 1) % _BUCKETS
            self._successes[self._at] = self._failures[self._at] = 0
        self._bucket_ends += steps * self._bucket_s


class Breaker:
    """One subject's health, judged by its outcomes."""

    __slots__ = (
        "_doublings", "_restored_at", "_settings", "_streak", "_window", "open_until", "opened_at", "reason", "trials",
    )  # fmt: skip

    def __init__(self, settings: Ejection) -> None:
        self.open_until = 0.0
        """Monotonic seconds; 0 while closed, the past while half open."""
        self.opened_at = 0.0
        """Monotonic seconds of the last ejection."""
        self.reason = ""
        """Of the last ejection: `consecutive` or `error_rate`."""
        self.trials = 0
        """Probation requests in flight: one, or two when the pool's last resort came on top."""
        self._settings = settings
        self._window = Window(settings.window)
        self._streak = 0
        self._doublings = 0
        self._restored_at = 0.0

    def __repr__(self) -> str:
        out = (
            f"out until {self.open_until:.3f} for {self.reason}"
            if self.open_until
            else f"closed, streak {self._streak}"
        )
        return f"<Breaker {out}>"

    @property
    def sound(self) -> bool:
        """Nothing has failed hard since its last success, and it is not out."""
        return not self._streak and not self.open_until

    def state(self, now: float) -> BreakerState:
        """Return the state in the drawing above."""
        if not self.open_until:
            return "closed"
        return "open" if now < self.open_until else "half_open"

    def eligible(self, now: float) -> bool:
        """Tell whether a request may be sent: always when closed, when half open only as the one probation request."""
        return not self.open_until or (now >= self.open_until and not self.trials)

    def begin(self, now: float) -> bool:  # noqa: ARG002 -- a request that begins is told when, like every decision
        """Begin a request; True if it is a probation request, whose end must come back with `probation=True`.

        The pool's last resort may begin one before the open time is over, or beside another.
        """
        if not self.open_until:
            return False
        self.trials += 1
        return True

    def succeed(self, now: float, probation: bool) -> bool:
        """Count a success; True if this restored the subject."""
        if not self.open_until:
            if probation:
                self.trials -= 1
            self._streak = 0
            self._window.succeeded(now)
            return False
        if not probation:
            return False
        self.trials -= 1
        self.open_until = 0.0
        self._restored_at = now
        return True

    def fail(self, now: float, *, hard: bool, probation: bool, rng: Random) -> Ejected | None:
        """Count a failure, soft ones in the ratio only; return the ejection if this caused one.

        A failed probation request ejects again, whether hard or soft; but not while the open time still runs, or the
        pool's last resort, one try a second, would push it to its maximum.
        """
        if probation:
            self.trials -= 1
        if self.open_until:
            return self._eject(now, self.reason, rng) if probation and now >= self.open_until else None
        settings = self._settings
        successes, outcomes = self._window.failed(now)
        if hard:
            self._streak += 1
            if self._streak >= settings.consecutive:
                return self._eject(now, "consecutive", rng)
        if outcomes >= settings.min_outcomes and successes < settings.success_ratio * outcomes:
            return self._eject(now, "error_rate", rng)
        return None

    def withdraw(self, probation: bool) -> None:
        """End a request without a verdict (the client left): the next one may be the probation request."""
        if probation:
            self.trials -= 1

    def reconfigure(self, settings: Ejection, now: float) -> None:
        """Judge by other settings from now on. Nobody stays out for longer than they allow."""
        self._settings = settings
        self._window.resize(settings.window)
        if self.open_until:
            self.open_until = min(self.open_until, now + settings.eject_max * (1 + _JITTER))

    def _eject(self, now: float, reason: str, rng: Random) -> Ejected:
        settings = self._settings
        if not self.open_until and now - self._restored_at > settings.eject_max:
            self._doublings = 0
        for_s = min(settings.eject * 2.0 ** min(self._doublings, _DOUBLINGS_MAX), settings.eject_max)
        for_s *= 1 - _JITTER + 2 * _JITTER * rng.random()
        self._doublings += 1
        self.reason = reason
        self.opened_at = now
        self.open_until = now + for_s
        # Nothing is counted while open, so this is also what it starts with when it is restored.
        self._streak = 0
        self._window.clear()
        return Ejected(reason, for_s)
