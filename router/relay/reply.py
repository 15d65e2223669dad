"""The client's side of one exchange: what has been said to it, and how that is framed (RFC 9112).

Knows nothing of upstreams. `Exchange` decides what is said; whether a status can still change is `committed`.
"""

from __future__ import annotations

import socket
import struct
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from router.protocol import envelope
from router.protocol.durations import anthropic_limit_headers, rate_limit_headers
from router.protocol.envelope import Dialect
from router.protocol.http import response_headers

if TYPE_CHECKING:
    from router.errors import Problem
    from router.policy.limits import Limiter
    from router.protocol.http import Headers
    from router.relay.downstream import Downstream
    from router.relay.request import Received
    from router.relay.service import Relay

_STREAM_LINES = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"
"""So that neither caches nor proxies in front hold events back (PROTOCOL 5.5)."""

_AT_ONCE = struct.pack("ii", 1, 0)
"""`SO_LINGER` on with no time: closing sends a reset."""

_PHRASES = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


def status_line(status: int) -> bytes:
    """The first line of an answer; a status without a registered phrase gets none, which RFC 9112 allows."""
    return b"HTTP/1.1 %d %b\r\n" % (status, _PHRASES.get(status, b""))


_OK_LINE = status_line(200)

NO_CONTENT = frozenset((204, 304))
"""Statuses whose answers have no body, and so say nothing of its length (RFC 9110 section 8.6)."""
_ANTHROPIC = Dialect.ANTHROPIC


class Reply:
    """An answer to a client, from nothing said to its last byte."""

    limiter: Limiter | None = None
    """The key's, once it has admitted the request: every metered answer tells what is left."""
    debug_lines: bytes = b""
    committed: bool = False
    """A head has gone out."""
    keep: bool = False
    """The connection can serve another request after this answer."""
    status: int = 0
    bytes_out: int = 0
    content_at: float = 0.0
    """Monotonic seconds of the first content; 0 before: until then another attempt is possible."""
    last_write_at: float = 0.0
    chunked: bool = False
    """The body goes out in chunks."""
    _open_ended: bool = False
    """Nothing but the end of the connection ends the body."""
    last_event: bytes = b""
    """The last event that was relayed, where events are numbered: an error of ours takes the next number."""

    def __init__(self, relay: Relay, downstream: Downstream, request: Received) -> None:
        self._relay = relay
        self._outbox = relay.outbox
        self.transport = downstream.transport
        self._request = request
        self.request_id = relay.request_id()

    def whole(self, lines: bytes, body: bytes, *, status: int = 200) -> None:
        """Say a whole answer: its status, the header lines of it that pass, its bytes."""
        framing = b"" if status in NO_CONTENT else b"content-length: %d\r\n" % len(body)
        self._head(status, lines, framing, body)
        self.content_at = self.last_write_at

    def permit(self, lines: bytes) -> None:
        """Say to a browser that its page may send what it asked for."""
        self._head(204, lines, b"")

    def error(self, problem: Problem) -> None:
        """Say an error of our own: as an answer, or as an event if heartbeats or content have gone out."""
        style, dialect = self._request.snapshot.config.errors.code_style, self._request.head.dialect
        if self.committed:
            self.write(envelope.event(problem, self.request_id, dialect, style, after=self.last_event))
            self.keep = False
            return
        body = envelope.render(problem, self.request_id, dialect, style)
        endpoint = self._request.head.endpoint
        allow = b", ".join(endpoint.methods).decode() if endpoint is not None else ""
        lines = envelope.headers(problem, self.request_id, dialect, allow=allow)
        framing = b"content-length: %d\r\n" % len(body)
        if self._request.head.method == b"HEAD":  # whatever the status: what follows the head is the next answer
            body = b""
        self._head(problem.status, lines, framing, body, problem)

    def begin_body(self, headers: Headers, length: int | None, *, status: int = 200, until_close: bool = False) -> None:
        """Commit an answer whose bytes flow as they come; without a length in chunks.

        `until_close`: only the end of the connection ends it upstream. It may be cut there and nobody could tell, so
        it ends likewise here: chunks would say that it is whole. Not on a Unix socket, whose end looks the same however
        it comes about: there chunks at least show each cut that we know of.
        """
        if length is not None:
            framing: bytes | None = b"content-length: %d\r\n" % length
        else:
            framing = self._chunks(until_close=until_close and self._resets)
        self._head(status, b"".join(response_headers(headers)), framing)

    def begin_stream(self, headers: Headers, *, until_close: bool = False) -> None:
        """Commit an event stream, unless heartbeats have done so; `until_close` as in `begin_body`."""
        if self.committed:
            return
        lines = b"".join((*response_headers(headers, stream=True), _STREAM_LINES))
        self._head(200, lines, self._chunks(until_close=until_close))

    def _chunks(self, *, until_close: bool) -> bytes | None:
        """HTTP/1.0 knows no chunks: there too the end of the connection ends the body."""
        self.chunked = self._request.head.version == "1.1" and not until_close
        return b"transfer-encoding: chunked\r\n" if self.chunked else None

    def _head(
        self, status: int, lines: bytes, framing: bytes | None, body: bytes = b"", problem: Problem | None = None
    ) -> None:
        """Write the head, and a whole body with it. A problem's lines name our id and end the connection already."""
        self.committed = True
        self.status = status
        head = self._request.head
        closes = problem is not None and problem.close
        if framing is None:
            self._open_ended, framing = True, b""
        self.keep = head.keep_alive and not self._open_ended and not closes and not self._relay.draining
        now = time.monotonic()
        if problem is None:
            identity = self.request_id.encode("ascii")
            lines += b"x-request-id: %b\r\n" % identity
            if head.dialect is _ANTHROPIC:
                lines += b"request-id: %b\r\n" % identity
        if head.cors:
            lines += head.cors
        if self.limiter is not None:
            left = self.limiter.snapshot(now)
            if head.dialect is _ANTHROPIC:
                lines += anthropic_limit_headers(*left, time.time())
            else:
                lines += rate_limit_headers(*left)
        if self.debug_lines:
            lines += self.debug_lines
        if not self.keep and not closes:
            lines += b"connection: close\r\n"
        elif self.keep and head.version == "1.0":
            lines += b"connection: keep-alive\r\n"
        first = _OK_LINE if status == 200 else status_line(status)
        data = b"%b%b%b\r\n%b" % (first, lines, framing, body)
        self._outbox.put(self.transport, data)
        self.bytes_out += len(data)
        self.last_write_at = now

    @property
    def _resets(self) -> bool:
        """The client could see that the connection was broken off. Asked for the rare bodies without any framing."""
        return bool(self.transport.get_extra_info("socket").family != socket.AF_UNIX)

    def write(self, data: bytes) -> None:
        """Pass bytes of the body on, framed."""
        if self.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self.pass_on(data, time.monotonic())

    def pass_on(self, data: bytes, now: float) -> None:
        """Pass bytes on that are framed already."""
        self._outbox.put(self.transport, data)
        self.bytes_out += len(data)
        self.last_write_at = now

    def end(self) -> None:
        """The body is whole: say so in the framing."""
        if self.chunked:
            self.pass_on(b"0\r\n\r\n", time.monotonic())

    def cut(self) -> None:
        """The body will not become whole: nothing we do from here on may look like its end."""
        self.keep = False
        if self._open_ended:
            self._relay.outbox.flush()
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self.transport.abort()  # only a reset tells a cut body from a whole one
