"""Upstreams of the scenarios: each can die and come back at its port, freeze and thaw, and says whose answer it gives.

They live in the process of the load, on one event loop: what an answer takes is scripted, so what a client waits
beyond that was added on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.harness import chat
from tests.harness.upstream import ScriptedUpstream, Turn, _Connection, error, head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PLAIN_S = 0.06
"""Seconds until a plain answer."""
FIRST_S, PACE_S, TOKENS = 0.03, 0.03, 10
"""Seconds until the first piece of a stream and between two, and how many there are."""
STREAM_S = FIRST_S + PACE_S * (TOKENS - 1)

_BACKLOG = 1024


class Upstream(ScriptedUpstream):
    """It answers every chat request with `words` of the name in it, at the pace above."""

    def __init__(self, *, stretch: float = 1.0) -> None:
        super().__init__()
        self._stretch = stretch
        self._awake = asyncio.Event()
        self._awake.set()
        self.always(self._serve)
        # Held without listening, so that nobody else is given the port while the upstream is dead.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port = self._held.getsockname()[1]

    async def listen(self) -> None:
        """Begin, or come back after `kill`."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=_BACKLOG)
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), sock=listener)

    def freeze(self) -> None:
        """Stand still as a process that is stopped: connections are accepted, and nothing more is sent on any."""
        self._awake.clear()

    async def thaw(self) -> None:
        """Go on as if nothing had been."""
        self._awake.set()

    async def close(self) -> None:
        await self.thaw()
        await super().close()
        self._held.close()

    async def wait(self, seconds: float) -> None:
        """Let scripted time pass; longer if it stands still."""
        await asyncio.sleep(seconds * self._stretch)
        await self._awake.wait()

    async def _serve(self, turn: Turn) -> None:
        if not turn.request.line.startswith(b"POST "):
            await error(404)(turn)  # some gateways look around
            return
        asked = turn.request.json
        if asked.get("stream"):
            await self._stream(turn, asked)
            return
        await self.wait(PLAIN_S)
        name = name_in(asked)
        prompt, completion = usage(name)
        body = chat.completion("".join(words(name)), prompt=prompt, output=completion)
        await turn.send(head(200, chat.CONTENT_TYPE_JSON, f"content-length: {len(body)}") + body)

    async def _stream(self, turn: Turn, asked: dict[str, Any]) -> None:
        name = name_in(asked)
        await self.wait(FIRST_S)
        await turn.send(head(200, chat.CONTENT_TYPE_SSE, "transfer-encoding: chunked"))
        await turn.chunk(chat.role())
        for place, word in enumerate(words(name)):
            await self.wait(PACE_S if place else 0)
            await turn.chunk(chat.token(word))
        rest = chat.finish()
        if (asked.get("stream_options") or {}).get("include_usage"):
            rest += chat.usage_event(*usage(name))
        await turn.chunk(rest + chat.DONE)
        await turn.send(b"0\r\n\r\n")


def request(name: str, *, stream: bool) -> bytes:
    """A chat request that names itself in its one message: everything else may be lost on the way."""
    return chat.request(stream=stream, messages=[{"role": "user", "content": name}])


def name_in(asked: dict[str, Any]) -> str:
    """The name in a request of any dialect."""
    said = asked["input"] if "input" in asked else asked["messages"][-1]["content"]
    assert isinstance(said, str)
    return said


def words(name: str) -> list[str]:
    """What the answer to this request says, piece by piece, and to no other."""
    return [f"{name}: größer als {place}, 日本語 " for place in range(TOKENS)]


def usage(name: str) -> tuple[int, int]:
    """Prompt and completion tokens that are reported for this request: other ones for each."""
    digest = zlib.crc32(name.encode())
    return 5 + digest % 997, 1 + digest // 997 % 499


@asynccontextmanager
async def upstreams(count: int, *, stretch: float = 1.0) -> AsyncIterator[list[Upstream]]:
    """Some upstreams that listen. `stretch`: how many times as long they take."""
    async with contextlib.AsyncExitStack() as stack:
        started = [Upstream(stretch=stretch) for _ in range(count)]
        for each in started:
            await each.listen()
            stack.push_async_callback(each.close)
        yield started
