"""One try of an exchange at one member: what it holds, what it measured, what came of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from router.events import NEVER
from router.events import Attempt as AttemptRecord
from router.policy.outcomes import Cause
from router.protocol.http import target
from router.protocol.splice import compose
from router.relay.pool import ConnectError

if TYPE_CHECKING:
    from router.policy.catalogue import Route
    from router.policy.outcomes import Verdict
    from router.policy.target import Lease, Target
    from router.protocol.http import Headers
    from router.protocol.openai import ErrorFacts
    from router.protocol.splice import ChatRequest
    from router.relay.pool import ConnectionPool
    from router.relay.request import Received
    from router.relay.upstream import UpstreamConnection
    from router.relay.wire import Wire

PATH = b"/chat/completions"
"""What follows the upstream's base URL."""


@dataclass(slots=True, eq=False)
class Attempt:
    """An attempt under way. Times are monotonic seconds, 0 while they have not come."""

    route: Route
    """The model's, or the fallback's that it belongs to."""
    target: Target
    lease: Lease
    wire: Wire
    model: str
    """The model's name there."""
    began: float
    paced: float = 0.0
    """Seconds it waited for the upstream's pace."""
    asks_usage: bool = False
    """We asked for usage on the client's behalf: the client must not see the answer to that."""
    connection: UpstreamConnection | None = None
    connected: float = 0.0
    """When a new connection was made for it."""
    sent: float = 0.0
    head: float = 0.0
    status: int = 0

    @property
    def pool(self) -> ConnectionPool:
        """Of the upstream, for the credential."""
        return self.wire.pools[self.target.credential]

    async def keep_pace(self) -> None:
        """Wait for our turn at an upstream with a published rate.

        Raises:
            ConnectError: it does not come in time.
        """
        pacer, pace = self.wire.pacer, self.wire.settings.pace
        if pacer is None or pace is None:
            return
        try:
            async with asyncio.timeout(pace.wait):
                await pacer.acquire()
        except TimeoutError:
            raise ConnectError(Cause.PACE) from None
        self.paced = time.monotonic() - self.began

    async def reach(self, *, fresh: bool) -> UpstreamConnection:
        """Take an idle connection, unless it must be a `fresh` one, or connect.

        Raises:
            ConnectError: nothing was sent.
        """
        connection = None if fresh else self.pool.take()
        if connection is None:
            connection = await self.pool.connect()
            self.connected = time.monotonic()
        return connection

    def compose(self, request: Received, chat: ChatRequest) -> tuple[list[bytes | memoryview], int]:
        """Make the request for this upstream: its parts, head first, and the length of its body."""
        self.asks_usage = self.wire.asks_usage and chat.stream and not chat.wants_usage
        parts = compose(chat, request.body(), self.model, self.asks_usage)
        body_bytes = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        policy, sent = self.wire.policies[self.target.credential], request.head.sent
        lines = sent.get(policy)
        if lines is None:
            lines = sent[policy] = policy.lines(request.head.headers)
        path = target(self.wire.base_path, PATH, request.head.query, self.wire.query)
        return [policy.head(path, lines, body_bytes), *parts], body_bytes

    def record(self, now: float, cause: str) -> AttemptRecord:
        """What the log and the metrics keep of it."""
        return AttemptRecord(
            self.target.upstream.name,
            self.model,
            cause,
            now - self.began,
            self.target.credential,
            self.status,
            self.head - self.sent if self.head else NEVER,
            self.connected - self.began if self.connected else NEVER,
        )


@dataclass(slots=True, kw_only=True)
class Failure:
    """Why an attempt failed, and the upstream's own words about it, in case the client must see them."""

    verdict: Verdict
    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    text: bytes = b""
    """The body without its content coding."""
    credentials: tuple[str, ...] = ()
    """What must not be in anything the client sees."""
    facts: ErrorFacts | None = None
    retry_after_s: float | None = None
