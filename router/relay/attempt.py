"""One try of an exchange at one member: what it is sent to, what it sends, and how it failed if it did."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from router.events import NEVER
from router.events import Attempt as AttemptRecord
from router.policy.outcomes import Cause
from router.protocol import http, trace_context
from router.protocol.edits import edits
from router.protocol.endpoints import Body
from router.protocol.splice import compose, model_splice, read_ask
from router.relay.pool import ConnectError
from router.relay.request import UNREAD
from router.relay.sending import Section

if TYPE_CHECKING:
    from random import Random

    from router.errors import Problem
    from router.policy.catalogue import Route
    from router.policy.outcomes import Verdict
    from router.policy.target import Lease, Target
    from router.protocol.asks import Ask
    from router.protocol.endpoints import Endpoint
    from router.protocol.facts import ErrorFacts
    from router.protocol.http import Headers, RequestPolicy
    from router.protocol.splice import Part
    from router.protocol.trace_context import Span
    from router.relay.pool import ConnectionPool
    from router.relay.request import Received
    from router.relay.translation import Translation
    from router.relay.upstream import Owner, UpstreamConnection
    from router.relay.wire import Wire


class Attempt:
    """An attempt under way. Times are monotonic seconds, 0 while they have not come."""

    # Class attributes are what an attempt begins with, as in `Exchange`.

    translation: Translation | None = None
    """The upstream does not speak the client's protocol."""
    paced: float = 0.0
    """Seconds it waited for the upstream's pace."""
    asks_usage: bool = False
    """We asked for usage on the client's behalf: the client must not see the answer to that."""
    dropped: tuple[str, ...] = ()
    """Parameters that were left out, because the upstream cannot take them."""
    connection: UpstreamConnection | None = None
    connected: float = 0.0
    """When a new connection was made for it."""
    sent: float = 0.0
    head: float = 0.0
    status: int = 0
    span: Span | None = None
    """The exchange's, if its spans are kept."""
    span_id: str = ""
    offset_s: float = NEVER
    """The attempt's own span, and since the request's first byte when that began."""

    def __init__(  # noqa: PLR0917 (once per request; keywords cost)
        self, endpoint: Endpoint, route: Route, target: Target, lease: Lease, wire: Wire, model: str, began: float
    ) -> None:
        self.endpoint = endpoint
        self.route = route
        """The model's, or the fallback's that it belongs to."""
        self.target = target
        self.lease = lease
        self.wire = wire
        self.model = model
        """The model's name there; empty if the request names none."""
        self.began = began

    def __repr__(self) -> str:
        return f"<Attempt at {self.target!r}>"

    def trace(self, span: Span, offset_s: float, rng: Random) -> None:
        """Keep a span of it: the upstream's spans will hang below that."""
        self.span, self.offset_s = span, offset_s
        self.span_id = trace_context.new_id(rng)

    @property
    def pool(self) -> ConnectionPool:
        """Of the upstream, for the credential."""
        return self.wire.pools[self.target.credential]

    async def keep_pace(self) -> None:
        """Wait for our turn at an upstream with a published rate.

        Raises:
            ConnectError: it does not come in time.
        """
        if not await self.wire.turn_comes():
            raise ConnectError(Cause.PACE)
        if self.wire.pacer is not None:
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

    def send(self, connection: UpstreamConnection, request: Received, ask: Ask, owner: Owner) -> None:
        """Write the request: its head made for this upstream, its body spliced, nothing copied."""
        self.connection = connection
        if request.spool is not None:
            sections, size = self._sections(request, ask)
            connection.send_spooled(owner, [self._head(request, size), *sections], request.spool, self._progress)
            return
        parts = self._compose(request, ask)
        size = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        connection.send(owner, [self._head(request, size), *parts], size)

    def _compose(self, request: Received, ask: Ask) -> list[Part]:
        wire = self.wire
        if self.translation is not None:
            self.asks_usage = self.translation.asks_usage
            self.dropped = self.translation.dropped
            return [self.translation.body]
        body = request.body()
        if ask.model_at is None and self.endpoint.body in UNREAD:
            return [body]
        if ask.ask_at is not None and wire.asks_usage:
            self.asks_usage = True
        if ask.boundary or not (wire.drop_params or wire.max_tokens_field):
            return compose(ask, body, self.model, ask_usage=self.asks_usage)
        self.asks_usage = self.asks_usage and "stream_options" not in wire.drop_params
        changes, self.dropped = edits(body, drop=wire.drop_params, max_tokens_field=wire.max_tokens_field)
        if changes and ask.model_at is None:  # what it can be written before may just have gone
            body = b"".join(compose(ask, body, "", ask_usage=False, edits=changes))
            ask, changes = read_ask(body, model_optional=True, asks_usage=self.endpoint.asks_usage), []
        return compose(ask, body, self.model, ask_usage=self.asks_usage, edits=changes)

    def _sections(self, request: Received, ask: Ask) -> tuple[list[bytes | Section], int]:
        """Return the parts of a body on disk, and their length: only the model's name is ours."""
        sections: list[bytes | Section] = []
        at, size = 0, request.size
        for start, end, new in model_splice(ask, self.model) if self.endpoint.body is not Body.ANY else ():
            sections += (Section(at, start), new)
            at = end
            size += len(new) - (end - start)
        sections.append(Section(at, request.size))
        return sections, size

    def _head(self, request: Received, size: int) -> bytes:
        """The head of the request; that of one which repeats the client's last is known but for the length."""
        policy, head = self.wire.policies[self.target.credential], request.head
        ours = b"" if self.span is None else self._traceparent(policy)
        opening = None
        if head.sent is not None and self.translation is None and not (ours and head.says_trace):
            opening = head.sent.get(policy)
        if opening is not None:
            return b"%b%d\r\n%b\r\n" % (opening, size, ours)
        path = self.endpoint.path if self.translation is None else self.translation.path
        query, calls = head.query, self.endpoint.body is Body.CALL
        if calls:
            query = http.with_query_value(query, b"model", self.model)
        target = self.wire.target(path, self.model, query)
        replaced = ours and head.says_trace
        headers = trace_context.without(head.headers, tracestate=head.trace is None) if replaced else head.headers
        lines = policy.lines(headers)
        if not size and head.method in (b"GET", b"DELETE"):
            return policy.head(target, lines + ours, None, head.method)
        opening = policy.opening(target, lines, head.method)
        if self.translation is None and not self.wire.names_model and not calls and not replaced:
            if head.repeated:
                head.sent = head.sent or {}
                head.sent[policy] = opening
            head.repeated = True
        return b"%b%d\r\n%b\r\n" % (opening, size, ours)

    def _traceparent(self, policy: RequestPolicy) -> bytes:
        """The line that tells the upstream our span; empty if it is to hear of no trace."""
        assert self.span is not None
        return trace_context.line(self.span, self.span_id) + b"\r\n" if policy.takes_trace else b""

    def _progress(self) -> None:
        """A piece of the body has gone out: the upstream's time to answer begins anew, if it has not begun to."""
        if not self.head:
            self.sent = time.monotonic()

    def record(self, now: float, cause: str) -> AttemptRecord:
        """What the log and the metrics keep of it."""
        kept = AttemptRecord(
            self.target.upstream.name,
            self.model,
            cause,
            now - self.began,
            self.target.credential,
            self.status,
            self.head - self.sent if self.head else NEVER,
            self.connected - self.began if self.connected else NEVER,
        )
        if self.span is None:
            return kept
        return msgspec.structs.replace(kept, span_id=self.span_id, offset_s=self.offset_s)


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
    problem: Problem | None = None
    """Ours: the request could not even be put to this member."""
    foreign: bool = False
    """The words are in a protocol that is not the client's."""
    exposed: bool = False
    """The operator lets the client see this upstream's errors whatever they are."""
