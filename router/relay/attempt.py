"""One try of an exchange at one member: what it holds, what it measured, what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from router.events import NEVER
from router.events import Attempt as AttemptRecord

if TYPE_CHECKING:
    from router.policy.catalogue import Route
    from router.policy.outcomes import Verdict
    from router.policy.target import Lease, Target
    from router.protocol.http import Headers
    from router.protocol.openai import ErrorFacts
    from router.relay.upstream import UpstreamConnection
    from router.relay.wire import Wire


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
