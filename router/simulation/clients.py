"""Simulated clients: they come at random, and come back as the SDKs do (RELIABILITY 4.1)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

from router.simulation.engine import START_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from router.simulation.engine import Engine
    from router.simulation.scenario import Traffic
    from router.simulation.tally import Tally

BACKOFF_S: Final = 0.5
BACKOFF_S_MAX: Final = 8.0
JITTER: Final = 0.25
"""A wait is shortened by up to so much."""
RETRY_AFTER_S_MAX: Final = 60.0
"""What an SDK is ready to wait; it goes by its own back-off if it is told more."""
BYTES_PER_TOKEN: Final = 4
"""Of a prompt with its JSON around it."""
LEFT: Final = 0
"""The status of a request whose client did not wait for the answer."""


class Call:
    """What one client wants: one request, and the retries of its SDK."""

    __slots__ = ("_source", "gives_up_at", "leaves_at", "sent", "traffic")

    def __init__(self, source: Source, leaves_at: float) -> None:
        self._source = source
        self.traffic = source.traffic
        self.leaves_at = leaves_at
        """When the client leaves for good, whatever it has; infinity: it does not."""
        self.gives_up_at = math.inf
        """When it stops waiting for the first content of this request."""
        self.sent = 0
        """Requests so far."""

    def send(self, _: object = None) -> None:
        """Send the request, for the first time or once more."""
        source = self._source
        now = source.engine.now
        if now >= self.leaves_at:
            source.tally.abandoned += 1
            return
        self.sent += 1
        if self.sent > 1:
            source.tally.retried += 1
        self.gives_up_at = now + source.traffic.patience
        source.serve(self)

    def heard(
        self,
        status: int,
        *,
        complete: bool,
        begun: bool = False,
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        """The request is over: be content, come back, or give up.

        Args:
            status: Of the answer; `LEFT` if the client did not wait for it.
            complete: It is the whole answer.
            begun: Some of the answer came; then no SDK tries again.
            retry_after_s: What the answer says, if it does.
            should_retry: What the answer says, if it does.
        """
        source = self._source
        tally, now = source.tally, source.engine.now
        if complete:
            tally.answered += 1
        elif now >= self.leaves_at:
            tally.abandoned += 1
        elif begun or self.sent > source.traffic.retries or not _retries(status, should_retry):
            tally.failed += 1
        else:
            source.engine.at(now + _wait(self.sent - 1, retry_after_s, source.rng), self.send, None)


class Server(Protocol):
    """The router, as clients see it."""

    def serve(self, call: Call) -> None:
        """Take a request; its end comes by `call.heard`."""


class Source:
    """The clients of one kind: a Poisson process."""

    __slots__ = ("_end", "engine", "rng", "serve", "tally", "traffic")

    def __init__(
        self, traffic: Traffic, duration_s: float, server: Server, *, engine: Engine, rng: Random, tally: Tally
    ) -> None:
        self.traffic = traffic
        self.engine = engine
        self.rng = rng
        self.tally = tally
        self.serve: Callable[[Call], None] = server.serve
        self._end = START_S + min(traffic.until or duration_s, duration_s)

    def start(self) -> None:
        """Let the first one come."""
        self._plan(START_S + (self.traffic.start or 0.0))

    def _plan(self, now: float) -> None:
        following = now + self.rng.expovariate(self.traffic.rate)
        if following < self._end:
            self.engine.at(following, self._come, None)

    def _come(self, _: None) -> None:
        traffic, now = self.traffic, self.engine.now
        leaves_at = math.inf
        if traffic.leave and self.rng.random() < traffic.leave:
            leaves_at = now + self.rng.random() * traffic.leave_within
        self.tally.calls += 1
        self._plan(now)
        Call(self, leaves_at).send()


def _retries(status: int, should_retry: bool | None) -> bool:
    """Whether an SDK tries again after such an answer."""
    if should_retry is not None:
        return should_retry
    return status == LEFT or status in {408, 409, 429} or status >= 500


def _wait(retries: int, retry_after_s: float | None, rng: Random) -> float:
    """Return seconds until the SDK's next try."""
    if retry_after_s is not None and 0 < retry_after_s <= RETRY_AFTER_S_MAX:
        return retry_after_s
    return float(min(BACKOFF_S * 2.0**retries, BACKOFF_S_MAX) * (1 - JITTER * rng.random()))
