"""A real HTTP proxy that opens CONNECT tunnels, and does what a test wants done instead."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping

OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class ConnectProxy:
    """Listens on loopback. Tunnels are real; `instead` replaces them by bytes, after which the connection closes."""

    def __init__(self, *, authorization: bytes | None = None, hosts: Mapping[str, str] | None = None) -> None:
        self.heads: list[bytes] = []
        """What was asked, in the order of connections."""
        self.opened = OPENED
        """What is said of a tunnel that is open."""
        self.instead: bytes | None = None
        self.stays = False
        """Keep the connection open after `instead`."""
        self._authorization = authorization
        self._hosts = hosts or {}
        """Names that only this proxy knows."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=listener)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._tasks)

    async def asked(self, times: int = 1) -> bytes:
        """Wait until so many tunnels have been asked for; the head of the last."""
        await until(lambda: len(self.heads) >= times, f"tunnel {times}")
        return self.heads[times - 1]

    async def close(self) -> None:
        """Close everything; raises what went wrong in here."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if self.instead is not None:
            writer.write(self.instead)
            await writer.drain()
            if self.stays:
                await reader.read()
            writer.close()
            await writer.wait_closed()
            return
        line, *rows = head.split(b"\r\n")
        method, authority, _ = line.split(b" ")
        assert method == b"CONNECT"
        if self._authorization is not None and b"Proxy-Authorization: " + self._authorization not in rows:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        host, _, port = authority.decode().rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(self._hosts.get(host, host.strip("[]")), int(port))
        self._writers.add(far_writer)
        writer.write(self.opened)
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.transport.abort()
            self._writers.discard(far_writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until either side ends; then the other side ends too."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
