"""A WebSocket upstream that plays scripts: aiohttp's own server, so that our client side meets one not made for it.

A `Script` plays one call, from its handshake: `refuse` answers it with a status, `talk` accepts it and then plays what
the test wrote. What no script is queued for is echoed.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from tests.harness.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
DATA = (WSMsgType.TEXT, WSMsgType.BINARY)


@dataclass(eq=False)
class Call:
    """One handshake, and the socket that came of it."""

    request: web.Request
    socket: web.WebSocketResponse[bool] | None = None
    closed: tuple[int, str] | None = None
    """Code and reason of the router's close frame; code 0 if the connection was lost without one."""
    received: list[bytes] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def target(self) -> str:
        """The request target as it came."""
        return self.request.raw_path

    def values(self, name: str) -> list[str]:
        """Every value of one header."""
        return self.request.headers.getall(name, [])

    async def send(self, message: bytes | str | dict[str, Any]) -> None:
        """Send bytes as a binary message, anything else as text."""
        assert self.socket is not None
        if isinstance(message, bytes):
            await self.socket.send_bytes(message)
        else:
            await self.socket.send_str(message if isinstance(message, str) else json.dumps(message))

    async def receive(self) -> bytes | None:
        """The router's next message; None when it has closed."""
        assert self.socket is not None
        message = await self.socket.receive()
        if message.type in DATA:
            self.received.append(message.data)
            return self.received[-1]
        if message.type is WSMsgType.CLOSE:
            self.closed = (message.data, message.extra or "")
        elif self.closed is None:
            self.closed = (0, "")
        return None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        assert self.socket is not None
        await self.socket.close(code=code, message=reason.encode())

    def break_off(self) -> None:
        """Lose the connection without a word."""
        assert self.request.transport is not None
        self.request.transport.abort()

    async def left(self) -> tuple[int, str]:
        """Wait until the router has gone; how it went."""
        async with asyncio.timeout(PATIENCE_S):
            await self.over.wait()
        return self.closed or (0, "")


Script = Callable[[Call], Awaitable[web.StreamResponse]]
Play = Callable[[Call], Awaitable[None]]


def refuse(status: int, body: bytes = b"", *headers: tuple[str, str]) -> Script:
    """Answer the handshake with a status."""

    async def script(call: Call) -> web.StreamResponse:
        del call
        return web.Response(status=status, body=body, headers=dict([("Content-Type", "application/json"), *headers]))

    return script


def talk(play: Play, protocols: Sequence[str] = (), *, reads_to_end: bool = True) -> Script:
    """Accept, play, then read until the router closes."""

    async def script(call: Call) -> web.StreamResponse:
        socket = call.socket = web.WebSocketResponse(
            protocols=protocols, autoclose=False, max_msg_size=MESSAGE_BYTES_MAX, decode_text=False, timeout=1.0
        )
        await socket.prepare(call.request)
        await play(call)
        while reads_to_end and await call.receive() is not None:
            pass
        if call.closed is not None and call.closed[0]:
            await call.close(call.closed[0])
        return socket

    return script


def sends(*messages: Any) -> Play:
    """Send these."""

    async def play(call: Call) -> None:
        for message in messages:
            await call.send(message)

    return play


def closes(code: int, reason: str = "", *messages: Any) -> Play:
    """Send these, then close."""

    async def play(call: Call) -> None:
        await sends(*messages)(call)
        await call.close(code, reason)

    return play


async def flood(call: Call) -> None:
    """Send as much as the router takes."""
    while True:
        await call.send("x" * 65_536)


async def silent(call: Call) -> web.StreamResponse:
    """Leave the handshake without an answer."""
    await call.over.wait()
    return web.Response()


async def _echo(call: Call) -> None:
    while (message := await call.receive()) is not None:
        assert call.socket is not None
        await call.socket.send_frame(message, WSMsgType.TEXT)


class SocketUpstream:
    """The server: `then` queues a script for each of the next calls, `always` plays all others."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.faults: list[BaseException] = []
        """What scripts raised."""
        self.port = 0
        self._queue: deque[Script] = deque()
        self._always: Script = talk(_echo)
        self._runner: web.AppRunner

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def open_calls(self) -> int:
        return sum(not call.over.is_set() for call in self.calls)

    def then(self, *scripts: Script) -> SocketUpstream:
        """Play each of these once, in the order in which calls come."""
        self._queue.extend(scripts)
        return self

    def always(self, script: Script) -> SocketUpstream:
        self._always = script
        return self

    async def called(self, times: int = 1) -> Call:
        """Wait until so many calls have come; the last of them."""
        await until(lambda: len(self.calls) >= times, f"call {times}")
        return self.calls[times - 1]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        call = Call(request)
        self.calls.append(call)
        script = self._queue.popleft() if self._queue else self._always
        try:
            return await script(call)
        except ConnectionError:  # the router has gone
            return web.Response()
        except Exception as fault:
            self.faults.append(fault)
            raise
        finally:
            call.over.set()

    async def close(self) -> None:
        """Close everything; raises what a script raised."""
        await self._runner.cleanup()
        for fault in self.faults:
            raise fault
