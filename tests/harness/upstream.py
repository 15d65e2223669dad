"""A scripted upstream: a raw socket server that plays byte scripts and keeps every byte it got (RELIABILITY 6.2).

A `Script` is what happens after one request has arrived whole. Small ones (`send`, `chunks`, `stall`, `cut`, `reset`)
are put together with `play`; `json_answer`, `sse_stream` and `error` are ready-made. After a script that leaves the
connection open the next request on it is read, so keep-alive is real.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from tests.harness import chat
from tests.harness.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    import ssl

Script = Callable[["Turn"], Awaitable[None]]

_WRITE_HIGH_BYTES = 64 * 1024
_WITHOUT_BODY = (b"GET ", b"DELETE ")
_LINGER_RESET = struct.pack("ii", 1, 0)
"""`SO_LINGER` on with no time: closing sends RST instead of FIN."""


class PeerLeftError(Exception):
    """The router closed the connection while a script was playing: the script ends here."""


@dataclass(slots=True)
class Received:
    """One request as it arrived."""

    head: bytes
    """Request line and headers, the blank line included."""
    body: bytes
    place: int
    """How many requests came before it on the same connection."""
    gone: asyncio.Event
    """Set once the router has closed the connection, or half of it."""

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Name and value as they were sent, in their order."""
        rows = self.head.split(b"\r\n")[1:-2]
        return [(name, value.strip()) for name, _, value in (row.partition(b":") for row in rows)]

    def values(self, name: str) -> list[bytes]:
        """Every value of one header."""
        wanted = name.lower().encode()
        return [value for row_name, value in self.headers if row_name.lower() == wanted]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def left(self) -> None:
        """Wait until the router has closed this connection."""
        async with asyncio.timeout(PATIENCE_S):
            await self.gone.wait()


@dataclass(slots=True)
class Turn:
    """One request and the connection to answer it on."""

    request: Received
    connection: _Connection

    async def send(self, data: bytes) -> None:
        """Write, and wait while the router does not read. Raises PeerLeftError."""
        await self.connection.send(data)

    def send_now(self, data: bytes) -> None:
        """Write past the event loop: what several callers send so, the router reads in one turn of its loop."""
        assert os.write(self.connection.transport.get_extra_info("socket").fileno(), data) == len(data)

    async def chunk(self, data: bytes) -> None:
        """Write one HTTP chunk."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))


@dataclass(eq=False)
class _Connection(asyncio.Protocol):
    upstream: ScriptedUpstream
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    _buffer: bytearray = field(default_factory=bytearray)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _writable: asyncio.Event = field(default_factory=asyncio.Event)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class is no subclass
        self.transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)
        self._writable.set()
        self.upstream.connections.append(self)
        self.task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._arrived.set()

    def eof_received(self) -> None:
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._leave()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _leave(self) -> None:
        self.gone.set()
        self._arrived.set()
        self._writable.set()

    async def send(self, data: bytes) -> None:
        if self.gone.is_set():
            raise PeerLeftError
        self.transport.write(data)
        self.upstream.sent_bytes += len(data)
        await self._writable.wait()
        if self.gone.is_set():
            raise PeerLeftError

    async def _serve(self) -> None:
        place = 0
        with contextlib.suppress(PeerLeftError):
            while not self.transport.is_closing():
                received = await self._receive(place)
                self.upstream.received.append(received)
                await self.upstream.next_script()(Turn(received, self))
                place += 1

    async def _receive(self, place: int) -> Received:
        while (end := self._buffer.find(b"\r\n\r\n") + 4) < 4:
            await self._more()
        received = Received(bytes(self._buffer[:end]), b"", place, self.gone)
        lengths = received.values("content-length")
        if received.line.startswith(_WITHOUT_BODY) and not lengths:
            lengths = [b"0"]
        if received.values("transfer-encoding") or len(lengths) != 1:
            self.upstream.faults.append(f"framing of {received.head!r}")
        length = int(lengths[0])
        while len(self._buffer) < end + length:
            await self._more()
        received.body = bytes(self._buffer[end : end + length])
        del self._buffer[: end + length]
        if self._buffer:
            self.upstream.faults.append(f"bytes after the request: {bytes(self._buffer)!r}")
        return received

    async def _more(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()
        if self.gone.is_set():
            raise PeerLeftError


class ScriptedUpstream:
    """The server: `then` queues a script for each of the next requests, `always` answers all others."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.connections: list[_Connection] = []
        self.faults: list[str] = []
        """What no router may ever do: broken framing, bytes after a request. Empty, or the test fails."""
        self.sent_bytes = 0
        self._queue: deque[Script] = deque()
        self._always: Script = json_answer()
        self.port = 0

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        # Small send buffers, so that a router which stops reading is felt after little data.
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _WRITE_HIGH_BYTES)
        self.port = listener.getsockname()[1]
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), sock=listener, ssl=tls)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def open_connections(self) -> int:
        return sum(not connection.gone.is_set() for connection in self.connections)

    def then(self, *scripts: Script) -> ScriptedUpstream:
        """Play each of these once, in the order in which requests come."""
        self._queue.extend(scripts)
        return self

    def always(self, script: Script) -> ScriptedUpstream:
        """Play this for every request for which nothing is queued."""
        self._always = script
        return self

    def next_script(self) -> Script:
        return self._queue.popleft() if self._queue else self._always

    async def asked(self, times: int = 1) -> Received:
        """Wait until so many requests have arrived; the last of them."""
        await until(lambda: len(self.received) >= times, f"request {times}")
        return self.received[times - 1]

    async def refuse(self) -> None:
        """Stop listening: from here on connections are refused."""
        self._server.close()
        await self._server.wait_closed()

    def kill(self) -> None:
        """Go as a process that is killed: the listener closes, and every connection is reset in the middle."""
        self._server.close()
        for connection in self.connections:
            if not connection.gone.is_set():
                _break(connection.transport)
                connection._leave()

    async def close(self) -> None:
        """Close everything; raises what a script raised."""
        self._server.close()
        for connection in self.connections:
            connection.transport.abort()
            connection._leave()
        results = await asyncio.gather(*(connection.task for connection in self.connections), return_exceptions=True)
        for connection in self.connections:
            connection.transport.abort()
        await self._server.wait_closed()
        for result in results:
            if isinstance(result, BaseException):
                raise result
        assert self.faults == [], self.faults


def play(*scripts: Script) -> Script:
    """One after the other."""

    async def script(turn: Turn) -> None:
        for each in scripts:
            await each(turn)

    return script


def send(*pieces: bytes) -> Script:
    """Write raw bytes."""

    async def script(turn: Turn) -> None:
        for piece in pieces:
            await turn.send(piece)

    return script


def drip(data: bytes, step: int = 1) -> Script:
    """Write `step` bytes at a time, each in a round of the loop of its own."""

    async def script(turn: Turn) -> None:
        for start in range(0, len(data), step):
            await turn.send(data[start : start + step])
            await asyncio.sleep(0)

    return script


def chunks(*pieces: bytes) -> Script:
    """Write each as an HTTP chunk."""

    async def script(turn: Turn) -> None:
        for piece in pieces:
            await turn.chunk(piece)

    return script


def last_chunk() -> Script:
    """End a chunked body."""
    return send(b"0\r\n\r\n")


def wait_for(event: asyncio.Event) -> Script:
    """Send nothing until the test sets `event`."""

    async def script(turn: Turn) -> None:
        await until(lambda: event.is_set() or turn.request.gone.is_set(), "the test's word to go on")
        if turn.request.gone.is_set():
            raise PeerLeftError

    return script


def stall() -> Script:
    """Say nothing more until the router leaves."""

    async def script(turn: Turn) -> None:
        await turn.request.gone.wait()
        raise PeerLeftError

    return script


def cut() -> Script:
    """Close the connection (FIN)."""

    async def script(turn: Turn) -> None:
        turn.connection.transport.close()

    return script


def reset() -> Script:
    """Break the connection (RST)."""

    async def script(turn: Turn) -> None:
        _break(turn.connection.transport)

    return script


def _break(transport: asyncio.Transport) -> None:
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    transport.abort()


def head(status: int, *headers: str) -> bytes:
    """A response head; framing is among `headers` or absent."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Odd"
    rows = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status} {phrase}\r\n{rows}\r\n".encode("latin-1")


def plain(status: int, body: bytes, *headers: str) -> Script:
    """A whole answer with a content length."""
    return send(head(status, *headers, f"content-length: {len(body)}") + body)


def json_answer(body: bytes | None = None, *headers: str) -> Script:
    """A completion, or any other JSON body, with status 200."""
    return plain(200, chat.completion() if body is None else body, chat.CONTENT_TYPE_JSON, *headers)


def error(status: int, body: bytes | None = None, *headers: str) -> Script:
    """An error with an error object, unless another body is given."""
    return plain(status, chat.error_body() if body is None else body, chat.CONTENT_TYPE_JSON, *headers)


def sse_head(*headers: str) -> Script:
    """The head of a stream: 200, chunked."""
    return send(head(200, chat.CONTENT_TYPE_SSE, "transfer-encoding: chunked", *headers))


def sse_stream(*events: bytes, done: bool = True) -> Script:
    """A stream, each event in a chunk of its own, ended cleanly."""
    return play(sse_head(), chunks(*events, *([chat.DONE] if done else [])), last_chunk())
