"""A connection to an upstream: the HTTP/1.1 client side of the relay.

A connection serves one attempt at a time. It parses, tells its owner once per read, and knows when it may be used
again; what an answer means is decided elsewhere.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from router.errors import RequestError
from router.policy.outcomes import Cause
from router.protocol import http
from router.relay.sending import Sending

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.relay.pool import ConnectionPool
    from router.relay.sending import Section
    from router.relay.spool import Spool

ANSWER_HEAD_MAX = 64 * 1024
"""Bytes of status line and headers an upstream may send; more is nonsense (PROTOCOL 3.2 keeps totals under this)."""

JOINED_MAX = 64 * 1024
"""Smaller requests are sent as one piece of memory; of larger ones no copy is made."""

LINGER_S = 1.0
"""How long a connection may take to end a message whose terminal marker the client already has (PROTOCOL 5.5)."""


class Owner(Protocol):
    """Who sent a request on a connection and wants its answer."""

    def upstream_answers(self, connection: UpstreamConnection) -> None:
        """The head of the answer is known. Sets `connection.reader`, unless the head was enough."""

    def upstream_lost(self, cause: Cause) -> None:
        """The answer will not become complete. The connection is closed."""

    def upstream_puzzled(self, error: Exception) -> None:
        """Our own code failed on what the upstream sent."""


def _nobody_reads(connection: UpstreamConnection) -> None:
    """Drop what comes: the owner has seen enough, or there is none."""
    connection.body.clear()


def no_frame(_data: bytes) -> bool:
    """Take no chunk as it is: each has to be looked at."""
    return False


class UpstreamConnection(asyncio.Protocol):
    """One connection to an upstream, from connect to close."""

    __slots__ = (
        "_between_chunks",
        "_chunk_over",
        "_cut",
        "_flowing",
        "_head",
        "_informational",
        "_nonsense",
        "_odd",
        "_parser",
        "_paused",
        "_pool",
        "_reusable",
        "_sending",
        "address",
        "body",
        "complete",
        "frame_reader",
        "idle_since",
        "linger",
        "on_body",
        "owner",
        "reader",
        "reused",
        "said",
        "status",
        "transport",
    )

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self.owner: Owner | None = None
        self.address = ("", 0)
        """Where it leads, or where the proxy is."""
        self.body: list[bytes] = []
        """Pieces that the reader has not taken yet; it clears what it takes."""
        self.on_body = self.body.append  # llhttp gives each piece straight to the list: no frame of ours per chunk
        self.linger: asyncio.TimerHandle | None = None
        self.reused = False
        self.idle_since = 0.0
        self._paused = False
        self._sending: Sending | None = None
        """What is left of a body that comes from disk."""
        self._odd = False
        """Something came that is not simply more of an answer; the connection serves no other."""
        self._nonsense = False
        """The answer was cut off by bytes that are not HTTP."""
        self._cut = -1
        """How many pieces of `body` belong to the answer, if anything came behind it."""
        self._reset()

    def _reset(self) -> None:
        """Make ready for the next answer; whatever was odd about this one has closed the connection.

        Nothing of the last exchange is kept: an idle connection must not hold its answer, nor its configuration.
        """
        self.reader: Callable[[UpstreamConnection], None] = _nobody_reads
        """Called once per read with what has come: `body` holds new bytes, or `complete` has become true."""
        self.frame_reader: Callable[[bytes], bool] = no_frame
        """Offered what comes when llhttp waits for a chunk: whether it was just one and the answer took it as it is.
        The parser then need not see it."""
        self.status = 0
        """Of the answer whose head is complete; 0 before."""
        self.said: http.Answered | None = None
        """What the head says; None before it is complete."""
        self.body.clear()  # of an answer whose head was enough nobody has taken it
        self.complete = False
        self._head = b""
        """What has come of a head that is not complete."""
        self._flowing = False
        """The head is complete, and its owner waits for the body."""
        self._chunk_over = False
        """The last chunk that llhttp saw the beginning of has ended."""
        self._between_chunks = False
        """The same, and nothing of another has come: what ends a chunk ended what was read."""
        self._reusable = False
        self._informational = 0
        """Heads before the final one."""

    def send(self, owner: Owner, parts: list[bytes | memoryview], body_bytes: int) -> None:
        """Send one request; its answer goes to `owner`."""
        self.owner = owner
        outbox = self._pool.outbox
        if body_bytes < JOINED_MAX:
            outbox.put(self.transport, b"".join(parts))
        else:
            outbox.flush()
            self.transport.writelines(parts)

    def send_spooled(
        self, owner: Owner, parts: list[bytes | Section], spool: Spool, progress: Callable[[], None]
    ) -> None:
        """Send one request whose body is on disk, piece by piece; `progress` is called as it goes."""
        self.owner = owner
        self._pool.outbox.flush()
        self._sending = Sending(self.transport, parts, spool, progress)
        self._go_on_sending(self._sending)

    def _go_on_sending(self, sending: Sending) -> None:
        """Write what the upstream takes now.

        Raises:
            OSError: The disk failed.
        """
        sending.go()
        if sending.done:
            self._sending = None

    def pause_writing(self) -> None:
        if self._sending is not None:
            self._sending.paused = True

    def resume_writing(self) -> None:
        if self._sending is not None:
            try:
                self._go_on_sending(self._sending)
            except Exception as error:  # noqa: BLE001 - as below
                self._puzzled(error)

    @property
    def sends(self) -> bool:
        """A body from disk has not gone out whole."""
        return self._sending is not None

    def close(self) -> None:
        """Close now: the owner, if any, is not told."""
        self.owner = None
        self._sending = None
        self.reader, self.frame_reader = _nobody_reads, no_frame  # the answer that reads refers to us
        if self.linger is not None:
            self.linger.cancel()
            self.linger = None
        self.transport.abort()

    def pause(self) -> None:
        """Read no more for now: whoever the bytes go to cannot keep up."""
        self._paused = True
        self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        self.transport.resume_reading()

    def release(self) -> None:
        """The owner has what it wanted: keep the connection if it may serve another request."""
        self.owner = None
        self._flowing = self._between_chunks = False
        if self.complete or self._sending is not None:
            self._keep_or_close()
        else:
            self.linger = self._pool.loop.call_later(LINGER_S, self.close)

    def _keep_or_close(self) -> None:
        if self.linger is not None:
            self.linger.cancel()
            self.linger = None
        transport = self.transport
        if (
            self._reusable
            and not self._paused
            and self._sending is None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        ):
            self._reset()
            self.reused = True
            self._pool.put(self)
        else:
            self.close()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its base class
        self._parser = httptools.HttpResponseParser(self)  # not sooner: uvloop asks for a protocol before it connects

    def data_received(self, data: bytes) -> None:
        if self._between_chunks:  # HOT: once per chunk
            take = self.frame_reader  # by a name of its own: called as `self.frame_reader()` it is looked up slowly
            if take(data):
                return
        if self._flowing:
            try:
                self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                self._nonsense_came()
            self._between_chunks = self._chunk_over and data[-2:] == b"\r\n"
            if self._odd:
                self._take(self.owner)
                return
            try:
                self.reader(self)
            except Exception as error:  # noqa: BLE001 - a bug of ours must cost one request, not the state of all
                self._puzzled(error)
        else:
            self._begin(data)

    def _begin(self, data: bytes) -> None:
        """Take bytes while the head is not known, or while nobody waits for them."""
        owner = self.owner
        if owner is not None and not self.status and not self._head:
            repeated = self._pool.repeated
            if repeated is not None and (body := repeated[0].body_of(data)) is not None:
                self._whole_at_once(owner, repeated[1], body)
                return
        if not self.status:
            self._head += data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._nonsense_came()
        self._take(owner)

    def _nonsense_came(self) -> None:
        """What is not HTTP ends the use of the connection; what came before is an answer, or a part of one."""
        self._reusable = False
        self._odd = True
        self._nonsense = not self.complete

    def _take(self, owner: Owner | None) -> None:
        """Take what is not simply more of an answer's body."""
        if self._cut >= 0:
            del self.body[self._cut :]
        if owner is None:
            self._unasked()
            return
        if self.said is None and not self._head_complete(owner):
            return
        self._read()
        if self._nonsense and self.owner is owner:
            self._lost(Cause.PROTOCOL)

    def _read(self) -> None:
        try:
            self.reader(self)
        except Exception as error:  # noqa: BLE001 - as above
            self._puzzled(error)

    def _puzzled(self, error: Exception) -> None:
        if self.owner is not None:
            self.owner.upstream_puzzled(error)
        else:
            self.close()
            raise error

    def _whole_at_once(self, owner: Owner, said: http.Answered, body: bytes) -> None:
        """The head was judged before, the body is there: the parser need not see them."""
        self.status = 200
        self.said = said
        self.body.append(body)
        self.complete = self._reusable = True
        self._announce(owner)
        self._read()

    def _announce(self, owner: Owner) -> None:
        try:
            owner.upstream_answers(self)
        except Exception as error:  # noqa: BLE001 - as above
            self._puzzled(error)

    def _unasked(self) -> None:
        """Bytes that nobody waits for: the end of an answer, or a peer out of step."""
        self.body.clear()
        if self.linger is None:
            self.close()  # its next answer could be somebody else's
        elif self.complete:
            self._keep_or_close()

    def _head_complete(self, owner: Owner) -> bool:
        """See whether the head has come, and let the owner decide what reads the rest."""
        if self.status and self._read_head():
            self._announce(owner)
            self._flowing = self.owner is owner and not self._odd and not self.complete
            return self.owner is owner
        if self.status or self._nonsense or len(self._head) > ANSWER_HEAD_MAX:
            self._lost(Cause.PROTOCOL)
        return False

    def _read_head(self) -> bool:
        """Take the final head apart, if it is one; informational heads before it are not for us (RFC 9110 15.2)."""
        head = self._head.lstrip(b"\r\n")  # as llhttp skips blank lines before a head
        self._head = b""
        end = head.find(b"\r\n\r\n")
        for _ in range(self._informational):
            head = head[end + 4 :].lstrip(b"\r\n")
            end = head.find(b"\r\n\r\n")
        try:
            self.said = http.scan_answer(head[:end].split(b"\r\n")[1:])
        except RequestError:
            return False
        if self.complete and self._reusable and self.status == 200 and not self._informational and self._cut < 0:
            repeated = http.Repeated.of(head[: end + 4])
            self._pool.repeated = (repeated, self.said) if repeated is not None else None
        return end >= 0

    def connection_lost(self, exc: Exception | None) -> None:
        del self._parser  # it refers to us: without the cycle all this is freed at once, and not by the collector
        self._pool.forget(self)
        if self.owner is None:
            return
        if self.said is not None and self.said.until_close and not self.complete and exc is None:
            self.complete = True  # RFC 9112 section 6.3: without a length the body ends with the connection
            self._read()
        elif self.status:
            self._lost(Cause.TRUNCATED)
        else:
            self._lost(Cause.STALE if self.reused and not self._head else Cause.CLOSED)

    def _lost(self, cause: Cause) -> None:
        owner = self.owner
        self.close()
        if owner is None:
            return
        try:
            owner.upstream_lost(cause)
        except Exception as error:  # noqa: BLE001 - as above
            owner.upstream_puzzled(error)

    # llhttp's side

    def on_message_begin(self) -> None:
        if self.complete:  # bytes behind the answer: never let them meet another request
            self._reusable = False
            self._odd = True
            self._cut = len(self.body)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            return
        self._reusable = self._parser.should_keep_alive() and not self.complete
        if not self.complete:
            self.status = status

    def on_chunk_header(self) -> None:
        self._chunk_over = False

    def on_chunk_complete(self) -> None:
        self._chunk_over = True

    def on_message_complete(self) -> None:
        self._chunk_over = False
        if self.status:
            self.complete = True
        else:
            self._informational += 1
