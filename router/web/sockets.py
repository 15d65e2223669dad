"""Two WebSockets joined: messages pass both ways in order, unchanged, until somebody ends it (PROTOCOL 2.7, 7.1).

Back-pressure needs no queue here: a message is taken from one side only after the one before it was taken by the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import aiohttp
from aiohttp import WSMsgType

from router.errors import Kind, Problem, RequestError, UpstreamError
from router.events import Side
from router.protocol import realtime
from router.web.dial import CLOSE_S

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

LAST_WORD_S = 0.1
"""A side to which nothing can be written is gone; so long its last words, a close frame say, may take to be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long the two sides are waited for."""

    idle_s: float = 900.0
    """Silence of both sides, pings aside: a conversation that everybody has left holds a slot and an upstream."""
    first_frame_s: float = 120.0
    """From a handshake to the frame that says what it was for. Clients connect ahead, and no upstream is held yet."""
    heartbeat_s: float = 25.0
    """Silence after which a peer is pinged; it is gone if it says nothing for half as long again. Proxies in front cut
    silence at 60 s."""


class Peer(Protocol):
    """What aiohttp's WebSockets of either side have in common."""

    async def receive(self) -> Any:
        """Return the next message."""

    async def send_frame(self, message: bytes, opcode: WSMsgType) -> None:
        """Send one, and wait while the peer does not read."""

    async def close(self, *, code: int, message: bytes) -> bool:
        """Close, and wait for the peer to do so."""


class Taps(Protocol):
    """Sees every message on its way. Nothing here waits."""

    def from_client(self, data: bytes, *, text: bool) -> bytes:
        """Return what to send on.

        Raises:
            Problem: The message is not sent on; the client is told, and goes on.
        """

    def from_upstream(self, data: bytes, *, text: bool) -> bytes:
        """Return what to send on."""

    def exhausted(self) -> Problem | None:
        """Return why it cannot go on after what has passed, if it cannot."""

    def error(self, problem: Problem) -> bytes:
        """Return the message that tells the client of a problem."""

    def reason(self, text: str) -> bytes:
        """Return the reason of a peer's close frame as it may be passed on."""


@dataclass(frozen=True, slots=True)
class End:
    """Who ended it, and how."""

    side: Side
    code: int = 0
    """Of the close frame that came; 0 if none did: the connection was lost, or it is us who end it."""
    reason: str = ""
    problem: Problem | None = None
    """What the client is told; None for an end as it should be, and for a client that is gone."""


class Stall:
    """Notices that a peer has not read for too long."""

    __slots__ = ("_progress_at", "_transport", "_unread")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._unread = 0
        self._progress_at = 0.0

    def lasts(self, now: float) -> float:
        """Return for how long nothing of what waits has been read, as far as looks have shown."""
        unread = self._transport.get_write_buffer_size()
        if unread == 0 or unread < self._unread or self._unread == 0:
            self._progress_at = now
        self._unread = unread
        return now - self._progress_at


class Join:
    """A client's WebSocket, and an upstream's once there is one, from the first message to the last."""

    def __init__(
        self, client: Peer, transport: asyncio.Transport, *, taps: Taps, bounds: Bounds, write_s: float
    ) -> None:
        """Prepare.

        Args:
            client: The client's side, after its handshake.
            transport: Under it.
            taps: Sees what passes.
            bounds: Of waiting.
            write_s: How long a peer may leave unread what is sent to it.
        """
        self._client = client
        self._transport = transport
        self._taps = taps
        self._bounds = bounds
        self._write_s = write_s
        self._message_at = time.monotonic()
        self._stopped: asyncio.Future[Problem] = asyncio.get_running_loop().create_future()
        self.end: End | None = None
        """How it ended, once that is decided; closing takes a moment longer."""
        self.received_bytes = 0
        self.sent_bytes = 0
        """Of messages, from the client and to it."""

    def stop(self, problem: Problem) -> None:
        """End it; the client is told why."""
        if not self._stopped.done():
            self._stopped.set_result(problem)

    async def first_message(self) -> tuple[bytes, bool] | None:
        """Return the client's next message and whether it is text; None: it ended, and the client's side is closed."""
        reading = _task(self._client.receive())
        watching = _task(self._watch(None, self._bounds.first_frame_s))
        try:
            await _first(reading, watching)
            if not reading.done():
                await self._close(watching.result(), None)
                return None
            message = reading.result()
            if message.type not in _DATA:
                await self._close(_client_ended(message), None)
                return None
            self._note(message)
            return message.data, message.type is WSMsgType.TEXT
        finally:
            await _drop(reading, watching)

    async def run(self, upstream: Peer, transport: asyncio.Transport, *first: bytes) -> None:
        """Carry messages, `first` to begin with, until somebody ends it; then close both sides."""
        self._message_at = time.monotonic()
        up = _task(self._up(upstream, first))
        down = _task(self._down(upstream))
        watching = _task(self._watch(transport, self._bounds.idle_s))
        try:
            ended = await _first(up, down, watching)
            self.end = ended.result()
            # Nobody may be reading from the client while its close frame is waited for; from the upstream somebody may.
            await _drop(up, watching)
            await self._close(self.end, upstream)
        finally:
            await _drop(up, down, watching)

    async def tell(self, problem: Problem) -> None:
        """Send the client the message of a problem."""
        await self._pass_down(self._taps.error(problem), WSMsgType.TEXT)

    async def close(self, problem: Problem) -> None:
        """Tell the client, and close its side: there is no upstream."""
        await self._close(End(Side.ROUTER, problem=problem), None)

    # carrying

    async def _up(self, upstream: Peer, first: tuple[bytes, ...]) -> End:
        for data in first:
            await self._pass_up(upstream, data, WSMsgType.TEXT)
        while True:
            message = await self._client.receive()
            if message.type not in _DATA:
                return _client_ended(message)
            self._note(message)
            try:
                data = self._taps.from_client(message.data, text=message.type is WSMsgType.TEXT)
            except Problem as problem:
                await self.tell(problem)
                continue
            if not await self._pass_up(upstream, data, message.type):
                return _upstream_lost()

    async def _down(self, upstream: Peer) -> End:
        while True:
            message = await upstream.receive()
            if message.type not in _DATA:
                return _upstream_ended(message)
            self._message_at = time.monotonic()
            data = self._taps.from_upstream(message.data, text=message.type is WSMsgType.TEXT)
            if not await self._pass_down(data, message.type):
                return End(Side.CLIENT)
            if (problem := self._taps.exhausted()) is not None:
                return End(Side.ROUTER, problem=problem)

    async def _pass_up(self, upstream: Peer, data: bytes, kind: WSMsgType) -> bool:
        return await _sent(upstream, data, kind)

    async def _pass_down(self, data: bytes, kind: WSMsgType) -> bool:
        self.sent_bytes += len(data)
        return await _sent(self._client, data, kind)

    def _note(self, message: Any) -> None:
        self._message_at = time.monotonic()
        self.received_bytes += len(message.data)

    async def _watch(self, upstream: asyncio.Transport | None, idle_s: float) -> End:
        """Wait for what the messages themselves do not show: a stop, silence, a peer that does not read."""
        client, other = Stall(self._transport), Stall(upstream) if upstream is not None else None
        look_s = min(1.0, self._write_s / 4, idle_s / 4)
        while True:
            await asyncio.wait((self._stopped,), timeout=look_s)
            if self._stopped.done():
                return End(Side.ROUTER, problem=self._stopped.result())
            now = time.monotonic()
            if client.lasts(now) > self._write_s:
                return End(Side.CLIENT)
            if other is not None and other.lasts(now) > self._write_s:
                return End(
                    Side.UPSTREAM, problem=UpstreamError(Kind.UPSTREAM_TIMEOUT, "The upstream does not read any more.")
                )
            if now - self._message_at > idle_s:
                text = f"Nothing was said on this connection for {idle_s:.0f} seconds."
                return End(Side.ROUTER, problem=RequestError(Kind.BODY_TIMEOUT, text))

    # closing

    async def _close(self, end: End, upstream: Peer | None) -> None:
        self.end = end
        works = [_task(self._close_client(end))]
        if upstream is not None:
            works.append(_task(self._close_upstream(end, upstream)))
        try:
            await asyncio.wait(works)
        except asyncio.CancelledError:
            # aiohttp tells us in this way that the client's side is closed. The other one is still to be.
            await asyncio.wait(works)
        finally:
            await _drop(*(work for work in works if not work.done()))
        for work in works:
            work.result()

    async def _close_client(self, end: End) -> None:
        if end.side is Side.CLIENT and not end.code:
            self._transport.abort()
            return
        code, reason = realtime.passing_code(end.code), self._taps.reason(end.reason)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(2 * CLOSE_S):
                if end.problem is not None:
                    code, reason = realtime.close_code(end.problem), end.problem.kind.encode("ascii")
                    await self.tell(end.problem)
                await self._client.close(code=code, message=reason)
        if self._transport.get_write_buffer_size():  # it does not read
            asyncio.get_running_loop().call_later(CLOSE_S, self._transport.abort)

    async def _close_upstream(self, end: End, upstream: Peer) -> None:
        code = realtime.passing_code(end.code) if end.code else realtime.GOING_AWAY
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(2 * CLOSE_S):
                reason = self._taps.reason(end.reason) if end.side is Side.CLIENT else b""
                await upstream.close(code=code, message=reason)


_DATA = (WSMsgType.TEXT, WSMsgType.BINARY)


async def _sent(peer: Peer, data: bytes, kind: WSMsgType) -> bool:
    """Send a message. Returns False if the peer is gone, after a moment in which its last words can be read."""
    try:
        await peer.send_frame(data, kind)
    except ConnectionError:
        await asyncio.sleep(LAST_WORD_S)
        return False
    return True


def _client_ended(message: Any) -> End:
    if message.type is WSMsgType.CLOSE:
        return End(Side.CLIENT, realtime.passing_code(message.data), message.extra or "")
    if not isinstance(message.data, aiohttp.WebSocketError):
        return End(Side.CLIENT)
    if message.data.code == realtime.TOO_BIG:
        return End(Side.CLIENT, problem=RequestError(Kind.REQUEST_TOO_LARGE, "The message is too large."))
    return End(Side.CLIENT, problem=RequestError(Kind.MALFORMED_HTTP, "The client broke the WebSocket protocol."))


def _upstream_ended(message: Any) -> End:
    if message.type is WSMsgType.CLOSE:
        return End(Side.UPSTREAM, realtime.passing_code(message.data), message.extra or "")
    if isinstance(message.data, aiohttp.WebSocketError):
        text = "The upstream sent what could not be understood."
        return End(Side.UPSTREAM, problem=UpstreamError(Kind.UPSTREAM_PROTOCOL, text))
    if isinstance(message.data, TimeoutError):
        return End(
            Side.UPSTREAM, problem=UpstreamError(Kind.UPSTREAM_TIMEOUT, "The upstream does not answer any more.")
        )
    return _upstream_lost()


def _upstream_lost() -> End:
    text = "The connection to the upstream broke."
    return End(Side.UPSTREAM, problem=UpstreamError(Kind.UPSTREAM_CONNECTION, text))


def _task(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    return asyncio.get_running_loop().create_task(work)


async def _first(*tasks: asyncio.Task[Any]) -> asyncio.Task[Any]:
    """Wait for the first of some tasks.

    aiohttp cancels a handler whose client's connection is lost; what that said last has then still to be read.
    """
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        done, _ = await asyncio.wait(tasks, timeout=LAST_WORD_S, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise
    return next(task for task in tasks if task.done())


async def _drop(*tasks: asyncio.Task[Any]) -> None:
    """End tasks, and wait until they have; what they came to is of no interest."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
