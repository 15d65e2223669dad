"""A raw HTTP client: sends any bytes at any pace, and tells a clean end from an aborted one."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import struct
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self, cast

from tests.harness.waiting import PATIENCE_S

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) [ -~]*")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~\x80-\xff]*)")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]+")
_HEARTBEAT = re.compile(rb"^: ka\n", re.MULTILINE)
_NO_BODY = (204, 304)


class Ending(StrEnum):
    """How an answer ended on the wire."""

    OPEN = "open"
    CLEAN = "clean"
    ABORTED = "aborted"
    """The connection closed before the body's framing said so."""


class ClosedError(Exception):
    """The router closed the connection before what was waited for had come."""


@dataclass(slots=True)
class Answer:
    """One answer, as far as it has come."""

    status: int
    headers: list[tuple[str, str]]
    head: bytes
    interim: list[bytes]
    """The heads of 1xx answers that came before."""
    pieces: list[bytes] = field(default_factory=list)
    """The body as it was framed: one piece for each chunk, or for each read if it is not chunked."""
    ending: Ending = Ending.OPEN

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object of the envelope."""
        error = self.json["error"]
        assert isinstance(error, dict)
        return error

    @property
    def events(self) -> list[bytes]:
        """The body cut after each blank line, heartbeats removed."""
        return [part + b"\n\n" for part in _HEARTBEAT.sub(b"", self.body).split(b"\n\n")][:-1]

    def values(self, name: str) -> list[str]:
        return [value for row_name, value in self.headers if row_name.lower() == name]

    def header(self, name: str) -> str | None:
        """The one value of a header, or None; fails if there are several."""
        values = self.values(name)
        assert len(values) <= 1, (name, values)
        return values[0] if values else None


class Client(asyncio.Protocol):
    """One connection to the router."""

    def __init__(self, log: list[Answer] | None = None) -> None:
        self.log = [] if log is None else log
        """Every answer whose head was read, shared with the router fixture, which compares it with the records."""
        self.closed = asyncio.Event()
        """The router closed the connection, or half of it."""
        self.broken = False
        """It was closed by a reset."""
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._methods: list[bytes] = []
        self.current: Answer | None = None

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class is no subclass
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._arrived.set()

    def eof_received(self) -> None:
        self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.broken = self.broken or exc is not None
        self._close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _close(self) -> None:
        self.closed.set()
        self._arrived.set()
        self._writable.set()

    # -- the test's side: sending

    @classmethod
    async def connect(
        cls,
        address: tuple[str, int],
        *,
        log: list[Answer] | None = None,
        receive_buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Connect; a small `receive_buffer` makes a client that does not read felt sooner.

        A path in place of the host is that of a unix socket. With `tls` the name that is expected is `router.test`.
        """
        is_unix = address[0].startswith("/")
        sock = socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET)
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(sock, address[0] if is_unix else address)
        except OSError:
            sock.close()
            raise
        connect = loop.create_unix_connection if is_unix else loop.create_connection
        name = None if tls is None else "router.test"
        _, client = await connect(lambda: cls(log), sock=sock, ssl=tls, server_hostname=name)
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def send(self, data: bytes) -> None:
        """Write, and wait while the router does not read."""
        self.transport.write(data)
        async with asyncio.timeout(PATIENCE_S):
            await self._writable.wait()

    def send_now(self, data: bytes) -> None:
        """Write past the event loop: what several callers send so, the router reads in one turn of its loop."""
        assert os.write(self._socket.fileno(), data) == len(data)

    def half_close_now(self) -> None:
        """Say past the event loop that nothing more will be sent."""
        with socket.socket(fileno=os.dup(self._socket.fileno())) as raw:
            raw.shutdown(socket.SHUT_WR)

    def close_now(self) -> None:
        """Close both directions past the event loop: whatever is still sent here is answered with a reset."""
        with socket.socket(fileno=os.dup(self._socket.fileno())) as raw:
            raw.shutdown(socket.SHUT_RDWR)

    async def drip(self, data: bytes) -> None:
        """Write byte by byte, each in a round of the loop of its own."""
        for position in range(len(data)):
            self.transport.write(data[position : position + 1])
            await asyncio.sleep(0)

    async def leave(self) -> None:
        """Close the connection (FIN) and wait until it is closed here."""
        self.transport.close()
        async with asyncio.timeout(PATIENCE_S):
            await self.closed.wait()

    def reset(self) -> None:
        """Break the connection (RST)."""
        linger = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()

    def half_close(self) -> None:
        """Say that nothing more will be sent, and go on reading."""
        self.transport.write_eof()

    @property
    def _socket(self) -> socket.socket:
        return cast("socket.socket", self.transport.get_extra_info("socket"))

    def stop_reading(self) -> None:
        self.transport.pause_reading()

    def go_on_reading(self) -> None:
        self.transport.resume_reading()

    # -- the test's side: reading

    async def head(self, method: str = "POST") -> Answer:
        """The head of the next final answer; 1xx heads are kept beside it."""
        interim: list[bytes] = []
        while True:
            raw = await self._until(b"\r\n\r\n")
            line, *rows = raw[:-4].split(b"\r\n")
            match = _STATUS_LINE.fullmatch(line)
            assert match, f"not a status line: {line!r}"
            status = int(match[1])
            if status < 200:
                interim.append(raw)
                continue
            parsed = [_HEADER.fullmatch(row) for row in rows]
            assert all(parsed), f"not headers: {rows!r}"
            headers = [(row[1].decode(), row[2].decode("latin-1").strip()) for row in parsed if row]
            answer = Answer(status, headers, raw, interim)
            self._check_framing(answer)
            self.log.append(answer)
            self.current = answer
            self._body = self._pieces(answer, method)
            return answer

    async def piece(self) -> bytes:
        """The next piece of the body; empty at its end."""
        assert self.current is not None
        try:
            data = await anext(self._body, b"")
        except ClosedError:
            self.current.ending = Ending.ABORTED
            return b""
        self.current.pieces.extend([data] if data else [])
        return data

    async def until(self, marker: bytes) -> bytes:
        """Read until the body contains `marker`; the body so far."""
        assert self.current is not None
        while marker not in self.current.body:
            if not await self.piece():
                raise AssertionError(f"{self.current.ending}: no {marker!r} in {self.current.body!r}")
        return self.current.body

    async def rest(self) -> Answer:
        """Read to the end of the body."""
        assert self.current is not None
        while await self.piece():
            pass
        return self.current

    async def answer(self, method: str = "POST") -> Answer:
        """The whole next answer."""
        await self.head(method)
        return await self.rest()

    async def ended(self) -> bytes:
        """Wait until the router closes; the bytes that came and were not read."""
        async with asyncio.timeout(PATIENCE_S):
            await self.closed.wait()
        return bytes(self._buffer)

    @property
    def unread(self) -> bytes:
        return bytes(self._buffer)

    @staticmethod
    def _check_framing(answer: Answer) -> None:
        assert len(answer.values("content-length")) <= 1
        assert not (answer.values("content-length") and answer.values("transfer-encoding"))

    async def _pieces(self, answer: Answer, method: str) -> Any:
        if method == "HEAD" or answer.status in _NO_BODY:
            answer.ending = Ending.CLEAN
        elif answer.header("transfer-encoding") is not None:
            assert answer.header("transfer-encoding") == "chunked"
            while size := await self._chunk_size():
                piece = await self._exactly(size + 2)
                assert piece.endswith(b"\r\n")
                yield piece[:-2]
            assert await self._exactly(2) == b"\r\n"
            answer.ending = Ending.CLEAN
        elif (length := answer.header("content-length")) is not None:
            left = int(length)
            while left:
                piece = await self._some(left)
                left -= len(piece)
                yield piece
            answer.ending = Ending.CLEAN
        else:
            while True:
                try:
                    yield await self._some(1 << 20)
                except ClosedError:
                    answer.ending = Ending.ABORTED if self.broken else Ending.CLEAN
                    return

    async def _chunk_size(self) -> int:
        line = (await self._until(b"\r\n"))[:-2]
        assert _CHUNK_SIZE.fullmatch(line), f"not a chunk size: {line!r}"
        return int(line, 16)

    async def _until(self, marker: bytes) -> bytes:
        while (end := self._buffer.find(marker)) < 0:
            await self._more()
        return self._take(end + len(marker))

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        return self._take(size)

    async def _some(self, most: int) -> bytes:
        while not self._buffer:
            await self._more()
        return self._take(min(most, len(self._buffer)))

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _more(self) -> None:
        if self.closed.is_set():
            raise ClosedError(bytes(self._buffer))
        self._arrived.clear()
        async with asyncio.timeout(PATIENCE_S):
            await self._arrived.wait()
        if self.closed.is_set() and not self._buffer:
            raise ClosedError


def post(
    body: bytes,
    *headers: str,
    path: str = "/v1/chat/completions",
    key: str | None = None,
    method: str = "POST",
    framing: str | None = None,
) -> bytes:
    """A request as bytes: a Host, a JSON content type and a content length unless `framing` says otherwise."""
    rows = ["Host: router.test", "Content-Type: application/json"]
    if key is not None:
        rows.append(f"Authorization: Bearer {key}")
    rows += headers
    rows.append(f"Content-Length: {len(body)}" if framing is None else framing)
    head = "".join(f"{row}\r\n" for row in rows if row)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
