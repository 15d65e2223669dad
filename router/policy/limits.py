"""Limits of a key or of an upstream: requests a minute, tokens a minute, requests in flight; all or nothing.

Both rates keep one number, the time at which they would be full again (virtual scheduling, ITU-T I.371): nothing has
to be refilled, a refund cannot overfill, and a wait is a subtraction. Requests go by GCRA. Tokens go by a bucket that
may be in debt: the reservation at admission is a guess, the true usage is settled at the end, and what was guessed too
low delays the next request instead of cutting an answer (RELIABILITY 5.1, 5.2). aiolimiter has no refunds and no answer
that does not wait (RELIABILITY 5.4).

An exchange calls `refusal`, then `take` with nothing in between, then `settle` exactly once. One that goes on for long,
a WebSocket, besides calls `charge` as usage is reported, and `refusal_of_more` before what is a request on its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from router.config.schema import Limits

LimitName = Literal["requests", "tokens", "concurrency"]

_MINUTE_S = 60.0
_EPSILON_S = 1e-6
"""Waits shorter than this are rounding: monotonic seconds after a month of uptime are exact to 5e-10."""
_DEBT_MINUTES_MAX = 10.0
"""A bucket is in debt for at most ten minutes: an absurd usage figure must not lock a key out for ever."""
CONCURRENCY_RETRY_S = 1.0
"""Nobody knows when a slot becomes free."""

BYTES_PER_TOKEN = 3.5
"""English in JSON; what a model really makes of it is learnt by `Correction`."""
_TOKENS_MAX = 10**12
"""Above any limit, and small enough for float arithmetic."""
_CHOICES_MAX = 128
"""OpenAI's bound on `n`."""


class Gcra:
    """Requests a minute with a burst (generic cell rate algorithm)."""

    __slots__ = ("_tolerance_s", "burst", "full_at", "interval_s", "per_minute")

    def __init__(self, per_minute: int, burst: int) -> None:
        self.full_at = 0.0
        """When the whole burst is there again: the theoretical arrival time."""
        self._set(per_minute, burst)

    def wait(self, now: float) -> float:
        """Return seconds until a request conforms; 0 if one does now."""
        wait = self.full_at - now - self._tolerance_s
        return wait if wait > _EPSILON_S else 0.0

    def take(self, now: float) -> None:
        """Count a request."""
        self.full_at = max(self.full_at, now) + self.interval_s

    def remaining(self, now: float) -> int:
        """Return how many requests conform at once."""
        if self.full_at <= now:
            return self.burst
        return max(0, int(self.burst - (self.full_at - now - _EPSILON_S) / self.interval_s))

    def reset_s(self, now: float) -> float:
        """Return seconds until the whole burst is there again."""
        return max(0.0, self.full_at - now)

    def left(self, now: float) -> tuple[int, int, float]:
        """Return the limit, `remaining` and `reset_s`."""
        reset_s = self.full_at - now
        if reset_s <= 0:
            return self.per_minute, self.burst, 0.0
        left = int(self.burst - (reset_s - _EPSILON_S) / self.interval_s)
        return self.per_minute, left if left > 0 else 0, reset_s  # noqa: FURB136 (`max` costs 0.1 us)

    def reconfigure(self, per_minute: int, burst: int, now: float) -> None:
        """Change the limit; the same share of the burst stays used."""
        used = self.reset_s(now) / (self.burst * self.interval_s)
        self._set(per_minute, burst)
        self.full_at = now + used * burst * self.interval_s

    def _set(self, per_minute: int, burst: int) -> None:
        self.per_minute = per_minute
        self.burst = burst
        self.interval_s = _MINUTE_S / per_minute
        self._tolerance_s = (burst - 1) * self.interval_s


class TokenBucket:
    """Tokens a minute; holds a minute's worth, and may be in debt."""

    __slots__ = ("_per_s", "capacity", "full_at")

    def __init__(self, per_minute: int) -> None:
        self.capacity = per_minute
        self._per_s = per_minute / _MINUTE_S
        self.full_at = 0.0
        """When the bucket is full again."""

    def level(self, now: float) -> float:
        """Return tokens in the bucket; negative is debt, never more than the capacity."""
        return self.capacity - self.reset_s(now) * self._per_s

    def wait(self, now: float, tokens: int) -> float:
        """Return seconds until so many are there; 0 if they are. More than the capacity waits for a full bucket."""
        wait = self.full_at - now - max(0.0, _MINUTE_S - tokens / self._per_s)
        return wait if wait > _EPSILON_S else 0.0

    def reserve(self, now: float, tokens: int) -> None:
        """Take tokens out, into debt if need be."""
        self.full_at = max(self.full_at, now) + tokens / self._per_s

    def refund(self, tokens: int) -> None:
        """Put tokens back; a bucket that is full by then stays full."""
        self.full_at -= tokens / self._per_s

    def settle(self, now: float, reserved: int, used: int) -> None:
        """Make up for a reservation that was too high or too low."""
        if used <= reserved:
            self.refund(reserved - used)
        else:
            self.reserve(now, used - reserved)
            self.full_at = min(self.full_at, now + _MINUTE_S * (1 + _DEBT_MINUTES_MAX))

    def remaining(self, now: float) -> int:
        """Return whole tokens in the bucket, debt shown as 0."""
        return max(0, int(self.level(now) + 1e-3))

    def reset_s(self, now: float) -> float:
        """Return seconds until the bucket is full."""
        return max(0.0, self.full_at - now)

    def left(self, now: float) -> tuple[int, int, float]:
        """Return the limit, `remaining` and `reset_s`."""
        reset_s = self.full_at - now
        if reset_s <= 0:
            return self.capacity, self.capacity, 0.0
        left = int(self.capacity - reset_s * self._per_s + 1e-3)
        return self.capacity, left if left > 0 else 0, reset_s  # noqa: FURB136 (`max` costs 0.1 us)

    def reconfigure(self, per_minute: int) -> None:
        """Change the limit; the same share stays used: a minute fills any bucket, so the time to full is that share."""
        self.capacity = per_minute
        self._per_s = per_minute / _MINUTE_S


class Refusal(NamedTuple):
    """Which limit said no. A tuple, because a client over its limits may cause thousands of them a second."""

    limit: LimitName
    retry_after_s: float
    """Until the same request may be let in, if nothing else comes."""
    never: bool
    """The request is larger than the limit can ever allow."""
    limit_value: int
    """As configured: a minute's worth, or slots."""
    asked: int


class LimitState(NamedTuple):
    """What `x-ratelimit-*` headers say (PROTOCOL 8); None where there is no limit."""

    limit_requests: int | None
    remaining_requests: int | None
    reset_requests_s: float | None
    limit_tokens: int | None
    remaining_tokens: int | None
    reset_tokens_s: float | None


class Limiter:
    """The limits of one key or one upstream, and what is used of them."""

    __slots__ = ("in_flight", "requests", "reserved", "slots", "tokens")

    def __init__(self, limits: Limits, now: float) -> None:
        self.in_flight = 0
        """Requests taken and neither settled nor cancelled."""
        self.reserved = 0
        """Tokens taken and neither settled nor cancelled."""
        self.requests: Gcra | None = None
        self.tokens: TokenBucket | None = None
        self.slots: int | None = None
        """Requests that may be in flight."""
        self.reconfigure(limits, now)

    def __repr__(self) -> str:
        return f"<Limiter: {self.in_flight} in flight, {self.reserved} tokens reserved>"

    def admits(self, now: float, tokens: int) -> bool:
        """Tell whether a request fits into every limit. 0.3 us with three limits."""
        if self.slots is not None and self.in_flight >= self.slots:
            return False
        if self.requests is not None and self.requests.wait(now):
            return False
        bucket = self.tokens
        return bucket is None or (tokens <= bucket.capacity and not bucket.wait(now, tokens))

    def refusal(self, now: float, tokens: int) -> Refusal | None:
        """Return the limit that refuses a request, the one to wait for longest if several do. Changes nothing."""
        if self.admits(now, tokens):
            return None
        return max(self.refusals(now, tokens), key=lambda refusal: (refusal.never, refusal.retry_after_s))

    def refusals(self, now: float, tokens: int) -> list[Refusal]:
        """Return every limit that refuses a request; none if it is admitted."""
        refusals: list[Refusal] = []
        if self.slots is not None and self.in_flight >= self.slots:
            refusals.append(Refusal("concurrency", CONCURRENCY_RETRY_S, False, self.slots, self.in_flight + 1))
        if self.requests is not None and (wait := self.requests.wait(now)):
            refusals.append(Refusal("requests", wait, False, self.requests.per_minute, 1))
        if self.tokens is not None:
            wait = self.tokens.wait(now, tokens)
            never = tokens > self.tokens.capacity
            if never or wait:
                refusals.append(Refusal("tokens", wait, never, self.tokens.capacity, tokens))
        return refusals

    def take(self, now: float, tokens: int) -> None:
        """Count a request that was admitted."""
        self.in_flight += 1
        self.reserved += tokens
        if self.requests is not None:
            self.requests.take(now)
        if self.tokens is not None:
            self.tokens.reserve(now, tokens)

    def settle(self, now: float, reserved: int, used: int | None) -> None:
        """End a request: free its slot and charge what it used.

        Args:
            now: Monotonic seconds.
            reserved: The tokens it was taken with.
            used: The tokens it used; None if nobody knows, then the reservation stays charged.
        """
        self.in_flight -= 1
        self.reserved -= reserved
        if used is not None and self.tokens is not None:
            self.tokens.settle(now, reserved, used)

    def charge(self, now: float, tokens: int) -> None:
        """Charge tokens that nobody reserved, used in an exchange that goes on."""
        if self.tokens is not None:
            self.tokens.settle(now, 0, tokens)

    def overdrawn(self, now: float) -> Refusal | None:
        """Return the refusal of whoever has used more tokens than there were; None if nobody has."""
        bucket = self.tokens
        wait = 0.0 if bucket is None else bucket.wait(now, 0)
        return Refusal("tokens", wait, False, bucket.capacity, 0) if bucket is not None and wait else None

    def refusal_of_more(self, now: float) -> Refusal | None:
        """Count one more request in a slot that is held already; return the limit that refuses it, if one does."""
        if self.requests is not None and (wait := self.requests.wait(now)):
            return Refusal("requests", wait, False, self.requests.per_minute, 1)
        refusal = self.overdrawn(now)
        if refusal is None and self.requests is not None:
            self.requests.take(now)
        return refusal

    def reconfigure(self, limits: Limits, now: float) -> None:
        """Change the limits at once. What is in flight stays counted, and the same share of a rate stays used.

        A token limit that is new is charged what is reserved, so that settling stays exact.
        """
        self.slots = limits.concurrency
        per_minute = limits.requests_per_minute
        if per_minute is None:
            self.requests = None
        else:
            burst = limits.request_burst or max(1, per_minute // 6)
            if self.requests is None:
                self.requests = Gcra(per_minute, burst)
            else:
                self.requests.reconfigure(per_minute, burst, now)
        if limits.tokens_per_minute is None:
            self.tokens = None
        elif self.tokens is None:
            self.tokens = TokenBucket(limits.tokens_per_minute)
            self.tokens.settle(now, 0, self.reserved)
        else:
            self.tokens.reconfigure(limits.tokens_per_minute)

    def snapshot(self, now: float) -> LimitState:
        """Return what is left. HOT: every answer to a limited key carries it; each limit is asked once."""
        requests, tokens = self.requests, self.tokens
        limit_r = left_r = reset_r = limit_t = left_t = reset_t = None
        if requests is not None:
            limit_r, left_r, reset_r = requests.left(now)
        if tokens is not None:
            limit_t, left_t, reset_t = tokens.left(now)
        return LimitState(limit_r, left_r, reset_r, limit_t, left_t, reset_t)


class Correction:
    """How a model's true prompt tokens relate to the estimate: a moving average over about twenty requests."""

    __slots__ = ("value",)

    WEIGHT = 0.05
    MIN = 0.5
    MAX = 3.0
    """Chinese comes near 2; beyond 3 the estimate is wrong for another reason (images), which is not to be learnt."""

    def __init__(self) -> None:
        self.value = 1.0
        """The factor for `estimate_tokens`."""

    def observe(self, body_bytes: int, input_tokens: int) -> None:
        """Learn from a usage report; all prompt tokens count, cached ones too."""
        if body_bytes <= 0 or input_tokens <= 0:
            return
        ratio = input_tokens * BYTES_PER_TOKEN / body_bytes
        if not self.MIN <= ratio <= self.MAX:
            ratio = self.MIN if ratio < self.MIN else self.MAX
        self.value += self.WEIGHT * (ratio - self.value)


def estimate_tokens(
    body_bytes: int, max_tokens: int | None, n: int, default_output: int, correction: float
) -> tuple[int, int]:
    """Return the tokens of a request's prompt, and those to reserve for it: with all the completion it asks for.

    Args:
        body_bytes: Of the request body, without inline images and audio if the caller can tell.
        max_tokens: What the client allows for one completion, any number; None if it does not say.
        n: Completions asked for, any number.
        default_output: The completion to expect if the client does not say.
        correction: `Correction.value` of the route.
    """
    prompt = int(body_bytes / BYTES_PER_TOKEN * correction) + 1
    output = default_output if max_tokens is None else min(max(max_tokens, 0), _TOKENS_MAX)
    if n != 1:
        output *= min(max(n, 1), _CHOICES_MAX)
    return prompt, prompt + output
