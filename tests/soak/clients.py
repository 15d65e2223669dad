"""The clients: most read to the end, some leave, dawdle, stop inside a request or send nonsense.

They judge what they get. A client here is a slot: it sends one request after the other until it is told to stop, on a
connection that it keeps while the router does.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.harness.client import Answer, Client, ClosedError, Ending, post
from tests.soak import talk
from tests.soak.books import Books, Seen, Trial
from tests.soak.talk import Endpoint, Shape

if TYPE_CHECKING:
    from random import Random

SECRETS = {"team": "sk-team-0123456789", "small": "sk-small-0123456789", "guest": "sk-guest-0123456789"}
"""By key: one that is never at its limits, one that often is, one that comes and goes."""

LIMITS = ("concurrent_requests", "requests_per_minute", "tokens_per_minute")
"""Reasons with which the small key may be refused."""

NONSENSE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"HELLO\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost : x\r\nContent-Length: 2\r\n\r\n{}",
)

_BIG_BYTES = 1_000_000
_SMALL_BUFFER = 4096
_DAWDLE_S = 0.05


@dataclass(frozen=True, slots=True)
class Habits:
    """What a slot does."""

    key: str = "team"
    stream: bool = True
    endpoints: tuple[Endpoint, ...] = (Endpoint.CHAT,) * 9 + (Endpoint.MESSAGES,)
    padding: int = 0
    """Bytes by which its requests are longer."""
    rude: bool = True
    """It also leaves, dawdles, and sends halves and nonsense."""
    pause_s: float = 0.0
    """Between two requests."""


STREAMING = Habits()
PLAIN = Habits(stream=False, endpoints=tuple(Endpoint), pause_s=0.05)
BIG = Habits(stream=False, rude=False, padding=_BIG_BYTES, pause_s=0.5)
SMALL = Habits(key="small", endpoints=(Endpoint.CHAT,), rude=False, pause_s=0.3)
GUEST = Habits(key="guest", endpoints=(Endpoint.CHAT,), rude=False, pause_s=0.3)


class Unexplained(Exception):
    """A client got what nothing explains."""


_UNEXPECTED = (Unexplained, AssertionError, ClosedError, LookupError, OSError, ValueError)
"""What comes of reading an answer that is not as it should be."""


class Slot:
    """One client after the other, each with the same habits."""

    def __init__(self, address: tuple[str, int], books: Books, habits: Habits, rng: Random) -> None:
        self._address = address
        self._books = books
        self._habits = habits
        self._rng = rng
        self._client: Client | None = None
        self.stopping = False

    async def run(self) -> None:
        """Send requests until `stopping`."""
        await asyncio.sleep(self._rng.random())  # not all in one moment
        while not self.stopping:
            manner = self._rng.random() if self._habits.rude else 1.0
            if manner < 0.01:
                try:
                    await self._nonsense()
                except _UNEXPECTED as error:
                    self._books.problem(f"{type(error).__name__} {error}: after nonsense")
            else:
                await self._request(manner)
            await asyncio.sleep(self._habits.pause_s * 2 * self._rng.random())
        await self._leave()

    async def _request(self, manner: float) -> None:
        trial = self._trial()
        self._books.begin(trial)
        secret = SECRETS[self._habits.key]
        body = talk.request(trial.endpoint, trial.shape, stream=trial.stream, padding=self._habits.padding)
        headers = [f"X-Client-Request-Id: {trial.shape.name}"] + ([] if trial.stream else ["Accept-Encoding: gzip"])
        wire = post(body, *headers, path=trial.endpoint, key=secret)
        try:
            if manner < 0.03:
                seen = await self._half(wire)
            elif manner < 0.09:
                seen = await self._leave_early(wire)
            else:
                seen = self._judge(trial, await self._read(wire, slowly=manner < 0.13))
        except _UNEXPECTED as error:
            seen, trial.wrong = Seen.WRONG, f"{type(error).__name__} {error}"
        await self._tell(trial, seen)

    def _trial(self) -> Trial:
        rng, habits = self._rng, self._habits
        big = rng.random() < 0.02  # now and then more than the buffers on the way hold
        shape = Shape(
            number=self._books.next_number(),
            pieces=rng.randint(4, 12),
            size=rng.randint(20_000, 60_000) if big else rng.randint(1, 200),
            gap_ms=rng.randint(40, 200),
        )
        return Trial(rng.choice(habits.endpoints), shape, habits.key, habits.stream)

    async def _tell(self, trial: Trial, seen: Seen) -> None:
        """Tell the books, and let go of a connection that cannot be used again."""
        answer = self._client.current if self._client is not None else None
        request_id = (answer.header("x-request-id") or "") if answer is not None else ""
        self._books.saw(trial, seen, request_id)
        keep = seen is Seen.WHOLE and answer is not None and answer.header("connection") != "close"
        if not keep or self._rng.random() < 0.2:
            await self._leave()

    # manners

    async def _connected(self, *, slowly: bool = False) -> Client:
        if slowly or (self._client is not None and self._client.closed.is_set()):
            await self._leave()
        if self._client is None:
            buffer = _SMALL_BUFFER if slowly else None
            self._client = await Client.connect(self._address, receive_buffer=buffer)
        self._client.current = None
        self._client.log.clear()
        return self._client

    async def _read(self, wire: bytes, *, slowly: bool) -> Answer:
        client = await self._connected(slowly=slowly)
        await client.send(wire)
        await client.head()
        if slowly:
            client.stop_reading()
            await asyncio.sleep(_DAWDLE_S * 10 * self._rng.random())
            client.go_on_reading()
            more = True
            while more:
                await asyncio.sleep(_DAWDLE_S * self._rng.random())
                more = bool(await client.piece())
        return await client.rest()

    async def _half(self, wire: bytes) -> Seen:
        client = await self._connected()
        await client.send(wire[: self._rng.randrange(1, len(wire) - 1)])
        await asyncio.sleep(0.1 * self._rng.random())
        return Seen.HALF

    async def _leave_early(self, wire: bytes) -> Seen:
        """Leave before the head, after it, or inside the content; by FIN or by RST."""
        client = await self._connected()
        await client.send(wire)
        patience = self._rng.randrange(4)
        if patience == 1:
            await asyncio.sleep(0.2 * self._rng.random())
        elif patience:
            await client.head()
            for _ in range(self._rng.randrange(patience * 3)):
                await client.piece()
        if self._rng.random() < 0.5:
            client.reset()
        return Seen.LEFT

    async def _nonsense(self) -> None:
        await self._leave()
        client = await self._connected()
        await client.send(self._rng.choice(NONSENSE))
        answer = await client.answer()
        if answer.status not in (400, 413, 431) or not answer.error["code"]:
            self._books.problem(f"nonsense was answered with {answer.status} {answer.body[:200]!r}")
        self._books.seen[Seen.NONSENSE] += 1
        await self._leave()

    async def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.leave()

    # the verdict

    def _judge(self, trial: Trial, answer: Answer) -> Seen:
        """What it is that came.

        Raises:
            Unexplained: nothing explains it.
        """
        if answer.status == 429 and trial.key == "small" and answer.ending is Ending.CLEAN:
            if answer.error["reason"] in LIMITS and int(answer.header("retry-after") or "0") > 0:
                return Seen.LIMITED
        elif answer.status == 401 and trial.key == "guest" and answer.error["reason"] == "invalid_api_key":
            return Seen.UNKNOWN
        elif answer.status == 200:
            return self._judge_stream(trial, answer) if trial.stream else self._judge_whole(trial, answer)
        raise Unexplained(f"{answer.status} {answer.ending} {answer.body[:500]!r}")

    @staticmethod
    def _judge_whole(trial: Trial, answer: Answer) -> Seen:
        body = answer.body
        if answer.header("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if answer.ending is Ending.CLEAN and body == talk.whole(trial.endpoint, trial.shape):
            return Seen.WHOLE
        raise Unexplained(f"{answer.ending} not its answer: {body[:500]!r}")

    @staticmethod
    def _judge_stream(trial: Trial, answer: Answer) -> Seen:
        """A whole stream, or one that began and ended with an error event, because its upstream broke off."""
        right = talk.events(trial.endpoint, trial.shape, usage=trial.shape.asks_usage)
        events = [event for event in answer.events if event != talk.PING]
        if events == right and answer.ending is Ending.CLEAN:
            return Seen.WHOLE
        *begun, last = events or [b""]
        honest = bool(begun) and begun == right[: len(begun)] and len(begun) < len(right) and _is_error(last)
        if honest and trial.broken:
            return Seen.BROKEN
        if trial.broken and events == talk.all_said(trial.endpoint, trial.shape) and answer.ending is Ending.CLEAN:
            return Seen.WHOLE
        raise Unexplained(f"{answer.ending} after {len(begun)} of {len(right)} events, the last {last[:300]!r}")


def _is_error(event: bytes) -> bool:
    data = event.partition(b"data: ")[2]
    try:
        return "error" in json.loads(data)
    except ValueError:
        return False
