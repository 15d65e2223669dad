"""The upstreams of the soak: they answer by the plan, and tell the books what they did to whom."""

from __future__ import annotations

import asyncio
import gzip
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.harness import chat
from tests.harness.upstream import (
    PeerLeftError,
    Script,
    ScriptedUpstream,
    Turn,
    _Connection,
    chunks,
    cut,
    drip,
    error,
    head,
    last_chunk,
    plain,
    play,
    reset,
    send,
    sse_head,
    stall,
)
from tests.soak import talk
from tests.soak.plan import HARMLESS, INSIDE, Fault, Plan, Weather
from tests.soak.talk import Endpoint, Shape

if TYPE_CHECKING:
    import ssl

    from tests.soak.books import Books

BEFORE_CUT = 4
"""Events that a stream has sent when it breaks inside its content: in every dialect some are content by then."""

_DRIP_BYTES = 37
_CLOSES_AFTER_S = 0.02
_LISTEN_BACKLOG = 1024
"""More than can ever come at once: while this process waits for a processor nobody may be turned away."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The right answer to one request."""

    endpoint: Endpoint
    shape: Shape
    stream: bool
    usage: bool

    @property
    def events(self) -> list[bytes]:
        return talk.events(self.endpoint, self.shape, usage=self.usage)

    @property
    def body(self) -> bytes:
        return talk.whole(self.endpoint, self.shape)


class Server(ScriptedUpstream):
    """One upstream, for every endpoint."""

    def __init__(self, name: str, books: Books, plan: Plan | None) -> None:
        super().__init__()
        self.name = name
        self.weather = Weather.CALM
        self._books = books
        self._plan = plan
        """None: it always answers well."""
        self._requests = 0
        self._playing: set[str] = set()
        """Names of the requests that are being answered."""
        self.always(self._answer)

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        assert tls is None
        # Keeps the port ours while nobody listens on it: what is bound and does not listen refuses.
        self._holder = _bound(0)
        self.port = self._holder.getsockname()[1]
        await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), sock=_bound(self.port), backlog=_LISTEN_BACKLOG
        )

    async def turn(self, weather: Weather) -> None:
        """Be like this from now on."""
        before, self.weather = self.weather, weather
        if weather is Weather.REFUSING and before is not Weather.REFUSING:
            self._books.faults[Fault.REFUSED] += 1
            for name in self._playing:
                self._books.played(name, self.name, Fault.KILLED)
            self.kill()
        elif before is Weather.REFUSING and weather is not Weather.REFUSING:
            await self._listen()

    def forget(self) -> None:
        """Keep no connection that is over; raises what its script raised."""
        over = [each for each in self.connections if each.task.done()]
        self.connections = [each for each in self.connections if not each.task.done()]
        for each in over:
            each.task.result()

    async def close(self) -> None:
        await super().close()
        self._holder.close()

    async def _answer(self, turn: Turn) -> None:
        self.received.clear()
        asked = turn.request.json
        path = turn.request.line.split(b" ")[1].partition(b"?")[0].decode()
        stream = asked.get("stream", False)
        usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        reply = Reply(Endpoint(path), Shape.of(talk.asked_by(asked)), stream, usage)
        self._requests += 1
        fault = None
        if self._plan is not None:
            fault = self._plan.fault(self.name, self._requests, self.weather, stream=stream)
        self._books.played(reply.shape.name, self.name, fault)
        if fault is None or fault in HARMLESS:
            self._books.finishes(reply.shape.name, self.name, talk.tokens(reply.endpoint, reply.shape))
        self._playing.add(reply.shape.name)
        try:
            await _script(fault, reply)(turn)
        finally:
            self._playing.discard(reply.shape.name)


def _bound(port: int) -> socket.socket:
    """A socket on the loopback; several of ours may share the port, nobody else's."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _script(fault: Fault | None, reply: Reply) -> Script:
    if fault in INSIDE:
        return _inside(fault, reply)
    if fault is Fault.EMPTY:
        return play(sse_head(), last_chunk()) if reply.stream else plain(200, b"", chat.CONTENT_TYPE_JSON)
    if fault is Fault.ERROR_FIRST:
        if reply.stream:
            return play(sse_head(), chunks(talk.error_event(reply.endpoint)), last_chunk())
        return plain(200, chat.error_body(), chat.CONTENT_TYPE_JSON)
    if fault is Fault.HALF_BEGUN:
        if reply.stream:
            return play(sse_head(), chunks(reply.events[0]), reset())
        return play(send(head(200, chat.CONTENT_TYPE_JSON, "content-length: 999") + b"{"), reset())
    if fault is not None and fault not in HARMLESS:
        return _EARLY[fault]
    return _well(fault, reply)


_EARLY: dict[Fault, Script] = {
    Fault.RESET: reset(),
    Fault.CUT: cut(),
    Fault.STALLED: stall(),
    Fault.GARBAGE: play(send(b"nonsense\r\n\r\n"), cut()),
    Fault.LIMITED: error(429, None, "retry-after: 1"),
    Fault.BROKEN: error(500),
    Fault.OVERLOADED: error(503, None, "retry-after: 1"),
    Fault.HTML: plain(200, b"<html><body>Welcome</body></html>", "content-type: text/html"),
}


def _inside(fault: Fault, reply: Reply) -> Script:
    begun = play(sse_head(), _paced(reply.events[:BEFORE_CUT], reply.shape.gap_ms))
    if fault is Fault.RESET_INSIDE:
        return play(begun, reset())
    if fault is Fault.CUT_INSIDE:
        return play(begun, cut())
    if fault is Fault.STALLED_INSIDE:
        return play(begun, stall())
    if fault is Fault.ERROR_INSIDE:
        return play(begun, chunks(talk.error_event(reply.endpoint)), last_chunk())
    return play(begun, last_chunk())


def _well(fault: Fault | None, reply: Reply) -> Script:
    """A right answer, with what may happen around it."""
    if reply.stream and fault is Fault.DRIP:
        framed = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in reply.events)
        answer = play(sse_head(), drip(framed, _DRIP_BYTES), last_chunk())
    elif reply.stream:
        answer = play(sse_head(), _paced(reply.events, reply.shape.gap_ms), last_chunk())
    elif fault is Fault.GZIP:
        answer = plain(200, gzip.compress(reply.body, 1), chat.CONTENT_TYPE_JSON, "content-encoding: gzip")
    elif fault is Fault.DRIP:
        length = f"content-length: {len(reply.body)}"
        answer = play(send(head(200, chat.CONTENT_TYPE_JSON, length)), drip(reply.body, _DRIP_BYTES))
    else:
        answer = plain(200, reply.body, chat.CONTENT_TYPE_JSON)
    if fault is Fault.EXTRA:
        return play(answer, send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray"))
    if fault is Fault.CLOSED_AFTER:
        return play(answer, _wait(_CLOSES_AFTER_S), cut())
    return answer


def _paced(events: list[bytes], gap_ms: int) -> Script:
    """Events as a model makes them: one after the other."""

    async def script(turn: Turn) -> None:
        for event in events:
            await turn.chunk(event)
            await _wait(gap_ms / 1000)(turn)

    return script


def _wait(seconds: float) -> Script:
    async def script(turn: Turn) -> None:
        await asyncio.sleep(seconds)
        if turn.request.gone.is_set():
            raise PeerLeftError

    return script
