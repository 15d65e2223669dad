"""One request to an upstream, as the router would send it: connection, TLS, proxy, address and headers are `Wire`'s."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from router import __version__
from router.policy.outcomes import Cause
from router.protocol.coding import decoded
from router.protocol.upstream_errors import read_error
from router.relay.pool import ConnectError

if TYPE_CHECKING:
    from router.protocol.facts import ErrorFacts
    from router.protocol.http import Answered
    from router.relay.upstream import UpstreamConnection
    from router.relay.wire import Wire

BODY_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of an answer so much is read; the longest list of models that is known has a tenth of it."""

HEADERS: Final = [b"Accept: application/json", b"User-Agent: llm-router/%b" % __version__.encode()]
"""What the client of these requests sends. What of it goes upstream is the business of the upstream's settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an upstream answered. Times are seconds since the epoch."""

    status: int
    said: Answered
    body: bytes
    """Without its content coding; empty if that cannot be undone."""
    sent: float
    came: float
    """When it was whole."""

    @property
    def error(self) -> ErrorFacts:
        """What it says if it is an error."""
        return read_error(self.status, self.said.content_type.decode("latin-1"), self.body)


class NoAnswer(Exception):
    """There is none: the cause as the router would record it, and what the system, TLS or the proxy said."""

    def __init__(self, cause: Cause, detail: str = "") -> None:
        super().__init__(cause, detail)
        self.cause = cause
        self.detail = detail


async def get(wire: Wire, credential: int, path: bytes, *, query: bytes = b"", timeout_s: float) -> Answer:
    """Ask for what stands at a path behind `base_url`, with one of the upstream's credentials.

    Raises:
        NoAnswer: there is no whole answer in time.
    """
    policy = wire.policies[credential]
    head = policy.head(wire.target(path, "", query), policy.lines(HEADERS), None, b"GET")
    return await _exchange(wire, credential, [head], timeout_s)


async def post(wire: Wire, credential: int, path: bytes, body: bytes, *, model: str, timeout_s: float) -> Answer:
    """Send a JSON body that is about a model.

    Raises:
        NoAnswer: there is no whole answer in time.
    """
    policy = wire.policies[credential]
    lines = policy.lines([*HEADERS, b"Content-Type: application/json"])
    return await _exchange(
        wire, credential, [policy.head(wire.target(path, model, b""), lines, len(body)), body], timeout_s
    )


async def _exchange(wire: Wire, credential: int, parts: list[bytes | memoryview], timeout_s: float) -> Answer:
    waiting = _Waiting()
    connection: UpstreamConnection | None = None
    sent = time.time()
    try:
        async with asyncio.timeout(timeout_s):
            connection = await wire.pools[credential].connect()
            sent = time.time()
            connection.send(waiting, parts, sum(map(len, parts[1:])))
            await waiting.ended
    except TimeoutError:
        raise NoAnswer(Cause.CONNECT_TIMEOUT if connection is None else Cause.FIRST_BYTE) from None
    except ConnectError as error:
        raise NoAnswer(error.cause, error.detail) from error
    finally:
        if connection is not None:
            connection.close()
    return waiting.answer(sent)


class _Waiting:
    """Who waits for the answer (`relay.upstream.Owner`)."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._said: Answered | None = None
        self._body = bytearray()

    def upstream_answers(self, connection: UpstreamConnection) -> None:
        self._status, self._said = connection.status, connection.said
        connection.reader = self._read

    def _read(self, connection: UpstreamConnection) -> None:
        for piece in connection.body:
            self._body += piece
        connection.body.clear()
        if connection.complete or len(self._body) > BODY_BYTES_MAX:
            self._end(None)

    def upstream_lost(self, cause: Cause) -> None:
        self._end(NoAnswer(cause))

    def upstream_puzzled(self, error: Exception) -> None:
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)

    def answer(self, sent: float) -> Answer:
        assert self._said is not None, "the head came"
        body, coding = bytes(self._body[:BODY_BYTES_MAX]), self._said.content_encoding
        if coding:
            body = decoded(body, coding, BODY_BYTES_MAX) or b""
        return Answer(status=self._status, said=self._said, body=body, sent=sent, came=time.time())
