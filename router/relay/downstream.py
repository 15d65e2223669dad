"""A client connection: the HTTP/1.1 server side of the relay.

It parses, keeps requests in order, watches the client's patience, and hands what the relay does not carry to aiohttp.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, cast

import httptools

from router.errors import Kind, RequestError
from router.protocol.http import Repeated
from router.relay import ending
from router.relay.crowd import address_of
from router.relay.exchange import Exchange
from router.relay.request import Head, Received

if TYPE_CHECKING:
    from router.relay.service import Relay

REQUEST_LINE = re.compile(rb"([A-Z]{3,20}) (/[!-~]*|\*) HTTP/(1\.[01])\r\n")
"""A sound request line. Those of endpoints that the relay knows are its own, whatever the method: a wrong one gets our
405. Others aiohttp answers. What does not fit is not HTTP as we speak it."""

EMPTY_LINES = re.compile(rb"\A(?:\r\n)+")
"""Ignored before a request (RFC 9112 section 2.2), but they begin it: its time to come whole runs. A lone CR or LF is
no line end to us."""

LINE_BREAK = re.compile(rb"[\r\n\0]")
"""What no header line holds. A line with one in it is no header that may be left out: it is refused."""

REQUEST_LINE_MAX = 8192
"""Bytes of a request line that has not come whole, and of empty lines before it."""

LINGER_S = 2.0
"""After an answer that ends the connection in the middle of a request: how long we let the client read it."""

BACKLOG_MAX = 64 * 1024
"""Bytes a client may send ahead while its request is answered; after more the connection ends with that answer."""


class Downstream(asyncio.Protocol):
    """One client connection, from accept to close or handover."""

    __slots__ = (
        "_backlog",
        "_closing",
        "_current",
        "_head",
        "_head_at",
        "_last_mark",
        "_parser",
        "_progress_at",
        "_receiving",
        "_relay",
        "_repeated",
        "_stalled_bytes",
        "_timer",
        "_wakes_at",
        "transport",
    )

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._parser = httptools.HttpRequestParser(self)
        self._receiving: Received | None = None
        self._current: Exchange | None = None
        self._backlog = b""
        self._head = b""
        """The beginning of a head that has not come whole."""
        self._head_at = 0.0
        self._repeated: tuple[Repeated, Head] | None = None
        """The last head, if the client has said it twice: it may go on. Most that stream say it once (0.7 KB)."""
        self._last_mark = 0
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0
        self._progress_at = 0.0
        """When the client last did what we wait for: sent, or read."""
        self._stalled_bytes = -1
        """Bytes the client has not read, when writing paused; -1 while it keeps up."""

    def __repr__(self) -> str:
        return f"<Downstream {'answering' if self._current else 'receiving' if self._receiving else 'idle'}>"

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its base class
        self._progress_at = time.monotonic()
        self._watch()
        self._relay.crowd.enter(self, self._relay.snapshot.config.requests.connections_per_address)

    def data_received(self, data: bytes) -> None:
        self._progress_at = time.monotonic()
        if self._current is not None or self._backlog or self._stalled_bytes >= 0:
            self._backlog += data
            if len(self._backlog) > BACKLOG_MAX:  # not paused: nobody would notice then that the client leaves
                self._backlog = b""
                self._closing = True
                if self._current is not None:
                    self._current.request.head.keep_alive = False  # so that its answer says so, if it has not begun
                else:
                    self._close()
        elif not self._closing:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Take what was read, up to the end of one request."""
        request = self._receiving
        if request is not None:
            if request.to_come < 0:
                self._feed(request, data)
            else:
                self._backlog = data[request.to_come :]
                self._more_body(request, data[: request.to_come])
        elif self._head or self._repeated is None or not self._again(*self._repeated, data):
            self._begin(self._head + data if self._head else data)

    def _again(self, repeated: Repeated, head: Head, data: bytes) -> bool:
        """Answer at once if it is the last head again, with a whole body. Returns whether it was."""
        body = repeated.body_of(data) if head.snapshot is self._relay.snapshot else None
        if body is None:
            return False
        request = Received(self._relay, head, self._progress_at)
        request.add_whole(body)
        self._answer(request)
        return True

    def _begin(self, data: bytes) -> None:
        """Look at a new message: ours, aiohttp's, unfinished, or nonsense."""
        line = REQUEST_LINE.match(data)
        behind_empty = data
        if line is None:
            behind_empty = EMPTY_LINES.sub(b"", data)
            line = REQUEST_LINE.match(behind_empty)
        endpoint = None
        if line is not None:
            data = behind_empty
            method, target, _ = line.groups()
            endpoint = self._relay.snapshot.endpoints.find(method, target.partition(b"?")[0])
            if endpoint is None:
                self._hand_over(data)
                return
        elif b"\n" in behind_empty or len(data) > REQUEST_LINE_MAX:
            self._malformed("The request line is not valid HTTP/1.1.")
            return
        end = data.find(b"\r\n\r\n")
        if max(end, len(data) if end < 0 else 0) > self._relay.snapshot.config.requests.head_max:
            self._malformed("The request head is too large.")
            return
        if line is None or endpoint is None or end < 0:
            if not self._head:
                self._head_at = self._progress_at
            self._head = data
            self._watch()
            return
        self._head = b""
        head = Head(self._relay.snapshot)
        lines = data[line.end() : end].split(b"\r\n") if end > line.end() else []
        staying = [each for each in lines if not each[:8].lower().startswith(b"upgrade:")]
        if len(staying) < len(lines) and not any(map(LINE_BREAK.search, lines)):
            # RFC 9110 section 7.8: an upgrade may be ignored; llhttp would skip the body
            data = b"\r\n".join((data[: line.end() - 2], *staying, b"", data[end + 4 :]))
            lines, end = staying, line.end() + sum(map(len, staying)) + 2 * len(staying) - 2
        head.read(line, endpoint, lines)
        request = self._receiving = Received(self._relay, head, self._progress_at)
        request.expect(end + 4)
        self._feed(request, data)
        if self._receiving is None and head.problem is None and head.keep_alive and not head.expects:
            repeated = Repeated.of(data[: end + 4])
            mark = repeated.mark if repeated is not None else 0
            self._repeated = (repeated, head) if repeated is not None and mark == self._last_mark else None
            self._last_mark = mark

    def _feed(self, request: Received, data: bytes) -> None:
        """Let llhttp judge the message and take its body apart; what lies behind it waits its turn."""
        if request.problem is not None and request.problem.close:
            self._end_with(request)
            return
        if 0 <= request.to_come < len(data):
            data, self._backlog = data[: request.to_come], data[request.to_come :]
        request.to_come -= len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._receiving is not None:
                self._malformed("The request is not valid HTTP/1.1.")
                return
            self._closing = True  # the request is whole; what came behind it is nonsense
        if self._receiving is None:
            request.head.keep_alive = request.head.keep_alive and not self._closing
            self._answer(request)
        elif request.problem is not None and request.problem.close:
            self._end_with(request)
        else:
            if request.head.expects and request.problem is None and not request.continued:
                request.continued = True
                self._relay.outbox.put(self.transport, b"HTTP/1.1 100 Continue\r\n\r\n")
            self._watch()

    def _more_body(self, request: Received, data: bytes) -> None:
        """Take body whose length is known: llhttp would only copy it, 100 us for 1 MB."""
        request.to_come -= len(data)
        request.add(data)
        if request.problem is not None and request.problem.close:
            self._end_with(request)
        elif request.to_come:
            self._watch()
        else:
            self._parser = httptools.HttpRequestParser(self)  # the old one still waits for this body
            self._receiving = None
            self._answer(request)

    def _hand_over(self, data: bytes) -> None:
        """Give the connection to the aiohttp server: at a message boundary, for good."""
        self._relay.outbox.flush()
        self._forget()
        protocol = self._relay.web(self.address, self._relay.crowd.leave)
        self._relay.crowd.lend(self, protocol)
        self.transport.set_protocol(cast("asyncio.Protocol", protocol))
        protocol.connection_made(self.transport)
        protocol.data_received(data)

    def _malformed(self, message: str) -> None:
        request = self._receiving or Received(self._relay, Head(self._relay.snapshot), self._progress_at)
        request.problem = RequestError(Kind.MALFORMED_HTTP, message, close=True)
        self._end_with(request)

    def _end_with(self, request: Received) -> None:
        """Answer a request of which no more is wanted, and then end the connection."""
        self._receiving = None
        self._head = b""
        self._closing = True
        request.let_go()
        self._answer(request)

    def pause_writing(self) -> None:
        self._stalled_bytes = self.transport.get_write_buffer_size()
        self._progress_at = time.monotonic()
        self._watch()
        if self._current is not None:
            self._current.client_slow()

    def resume_writing(self) -> None:
        self._stalled_bytes = -1
        if self._current is not None:
            self._current.client_caught_up()
        elif self._backlog:
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (however it ended, it ended)
        self._forget()
        self._relay.crowd.leave(self)
        self._closing = True
        self._backlog = b""
        current, self._current = self._current, None
        if current is not None:
            current.client_gone()
        if self._receiving is not None:
            Exchange(self._relay, self, self._receiving).client_gone()
        self._receiving = None

    def _forget(self) -> None:
        del self._parser  # it refers to us: without the cycle all this is freed at once, and not by the collector
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # llhttp's side

    def on_message_begin(self) -> None:
        if self._receiving is None:  # behind a chunked body: where it begins cannot be known before
            self._closing = True

    def on_headers_complete(self) -> None:
        if self._receiving is not None:
            self._receiving.head.keep_alive = self._parser.should_keep_alive()  # later it no longer knows

    def on_body(self, body: bytes) -> None:
        if self._receiving is not None:
            self._receiving.add(body)

    def on_message_complete(self) -> None:
        self._receiving = None

    # the exchange's side

    def _answer(self, request: Received) -> None:
        """The request is whole, or as much of it as is wanted."""
        self._current = Exchange(self._relay, self, request)
        self._current.start()

    def answered(self, *, keep: bool) -> None:
        """The current exchange has written its whole answer, or all it ever will."""
        self._current = None
        if not keep or self._closing:
            self._close()
            return
        self._progress_at = time.monotonic()
        if self._backlog:
            self._relay.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take the next request of a client that sent it ahead: in the order they came, one in a turn of the loop."""
        if self._current is None and self._stalled_bytes < 0 and not self._closing:
            data, self._backlog = self._backlog, b""
            self._take(data)

    def _close(self) -> None:
        """End the connection; if the client is still sending, let it read our answer before it sees a reset."""
        sending = self._closing
        self._closing = True
        self._relay.outbox.flush()
        self._receiving = None
        if sending and not self.transport.is_closing():
            self.transport.write_eof()
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._relay.loop.call_later(LINGER_S, self._lingered, time.monotonic())
        else:
            self.transport.close()

    def _lingered(self, since: float) -> None:
        """The client had time to read our answer; if it still does, it may go on for `write_timeout`."""
        reads = self.transport.get_write_buffer_size() > 0
        if reads and time.monotonic() - since < self._relay.snapshot.config.requests.write_timeout:
            self._timer = self._relay.loop.call_later(LINGER_S, self._lingered, since)
        else:
            self.transport.abort()

    @property
    def is_timed(self) -> bool:
        """A deadline is set."""
        return self._timer is not None

    @property
    def _idle(self) -> bool:
        """No request has begun on it. Half a head is none."""
        return self._current is None and self._receiving is None and not self._backlog

    @property
    def address(self) -> str:
        """Whose it is (`crowd`). Nothing for the way of a request: the transport has to be asked."""
        return address_of(self.transport.get_extra_info("peername"))

    @property
    def waits(self) -> bool:
        """It may be ended to make room for others (`crowd`)."""
        return self._idle and not self._closing

    @property
    def waiting_since(self) -> float:
        """Since when there has been no request. Dripping half of one is none."""
        return self._head_at if self._head else self._progress_at

    def make_room(self) -> None:
        """There are too many connections, and nothing is lost with this one."""
        self.close_if_idle()

    def close_if_idle(self) -> None:
        """A connection without a request ends: the daemon drains, or others need the room."""
        if self._idle:
            self._closing = True
            self._relay.outbox.flush()
            self.transport.close()

    def finish(self) -> None:
        """Take no further request: the listener is gone by which it came. One that has begun is answered."""
        if self._idle:
            self.close_if_idle()
        elif self._receiving is not None:
            self._receiving.head.keep_alive = False
        else:
            self._closing = True
            if self._current is not None:
                self._current.request.head.keep_alive = False  # so that its answer says so, if it has not begun
            else:
                self._close()

    def stop(self) -> None:
        """The time to drain is over: a request that has not come whole is told so."""
        if self._receiving is not None:
            self._receiving.problem = ending.draining()
            self._end_with(self._receiving)
        else:
            self.close_if_idle()

    # patience

    def _due(self) -> float:
        """When the client will have tried our patience, by what it is doing now."""
        bounds = self._relay.snapshot.config.requests
        if self._stalled_bytes >= 0:
            return self._progress_at + bounds.write_timeout
        if self._current is not None:
            return self._progress_at + bounds.keepalive  # it waits for us; look again later
        if self._receiving is not None:
            return self._progress_at + bounds.body_timeout
        if self._head:
            return self._head_at + bounds.head_timeout
        return self._progress_at + bounds.keepalive

    def _watch(self) -> None:
        """Make sure that we wake when the client's time is up. Waking early is harmless: we look and sleep on."""
        due = self._due()
        if self._timer is not None:
            if self._wakes_at <= due:
                return
            self._timer.cancel()
        self._wakes_at = due
        self._timer = self._relay.loop.call_later(max(0.0, due - time.monotonic()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._stalled_bytes >= 0:
            unread = self.transport.get_write_buffer_size()
            if unread < self._stalled_bytes:
                self._stalled_bytes = unread
                self._progress_at = time.monotonic()
        elif self._current is not None:
            self._progress_at = time.monotonic()
        if self._due() > time.monotonic():
            self._watch()
        elif self._stalled_bytes >= 0 or self._receiving is None:
            self.transport.abort()
        else:
            self._too_slow(self._receiving)

    def _too_slow(self, request: Received) -> None:
        request.problem = RequestError(Kind.BODY_TIMEOUT, "The request did not arrive in time.", close=True)
        self._end_with(request)
