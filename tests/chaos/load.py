"""The load: requests that start on schedule whatever happens, and what came of each as its client saw it.

Open loop: a gateway that stalls does not slow the clients down, so the stall shows in every request behind it.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from tests.chaos.upstreams import PLAIN_S, STREAM_S, request, words
from tests.harness.client import Answer, Client, ClosedError, Ending, post

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.chaos.systems import Serving

STREAM_SHARE = 0.5
WARM_ROUNDS, WARM_AT_ONCE = 2, 8


class Verdict(StrEnum):
    """What a client got."""

    WHOLE = "whole"
    FAILED = "failed"
    """An error, or nothing, and no content before it."""
    MARKED = "marked"
    """Content, then an end that every client takes for a failure: an error event, or a connection that breaks."""
    SILENT = "silent"
    """An end like that of a whole answer, and it was none, or another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One request."""

    name: str
    stream: bool
    began_s: float
    """After the load began; when it was due, not when it was sent."""
    added_s: float
    """Beyond what the upstream took."""
    verdict: Verdict
    status: int
    """0: no answer."""


class Load:
    """Clients of one gateway, who keep their connections."""

    def __init__(self, serving: Serving, *, rate: float, seed: int, stretch: float = 1.0) -> None:
        self.results: list[Result] = []
        self._serving = serving
        self._rate = rate
        self._rng = Random(seed)
        self._stretch = stretch
        self._idle: list[Client] = []
        self._numbers = itertools.count()

    async def run(self, seconds: float, beside: asyncio.Task[float] | None = None) -> None:
        """Ask at the rate for so long, and as long as `beside` takes, if given; then wait until all have ended."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        gc.collect()
        gc.disable()  # its pauses would count as the gateway's
        try:
            async with asyncio.TaskGroup() as group:
                for place in itertools.count():
                    if place >= round(seconds * self._rate) and (beside is None or beside.done()):
                        break
                    due = start + place / self._rate
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    stream = self._rng.random() < STREAM_SHARE
                    group.create_task(self.ask(stream=stream, start=start, due=due))
        finally:
            gc.enable()

    async def ask(self, *, stream: bool, start: float = 0.0, due: float | None = None) -> Result:
        """Ask once; the result is kept as well."""
        loop = asyncio.get_running_loop()
        due = loop.time() if due is None else due
        name = f"r{next(self._numbers)}"
        answer = await self._answer(name, stream=stream)
        took_s = loop.time() - due
        result = Result(
            name=name,
            stream=stream,
            began_s=due - start,
            added_s=took_s - (STREAM_S if stream else PLAIN_S) * self._stretch,
            verdict=judge(name, answer, stream=stream),
            status=answer.status if answer else 0,
        )
        self.results.append(result)
        return result

    async def warm(self) -> None:
        """Let the gateway connect and import what it does lazily; counts for nothing."""
        for _ in range(WARM_ROUNDS):
            await asyncio.gather(*(self.ask(stream=bool(place % 2)) for place in range(WARM_AT_ONCE)))
        self.results.clear()

    async def aclose(self) -> None:
        for client in self._idle:
            client.transport.abort()

    async def _answer(self, name: str, *, stream: bool) -> Answer | None:
        """What came; None if that was no answer at all."""
        client: Client | None = None
        answer: Answer | None = None
        try:
            client = await self._client()
            await client.send(post(request(name, stream=stream), f"X-Request-Id: {name}", key=self._serving.key))
            answer = await client.answer()
        except (OSError, ClosedError, AssertionError, TimeoutError):
            if client is not None and client.current is not None:
                answer = client.current
                answer.ending = Ending.ABORTED
        if client is not None:
            if answer is not None and answer.ending is Ending.CLEAN and answer.header("connection") != "close":
                self._idle.append(client)
            else:
                client.transport.abort()
        return answer

    async def _client(self) -> Client:
        while self._idle:
            client = self._idle.pop()
            if not client.closed.is_set():
                client.current = None
                return client
        return await Client.connect(self._serving.address)


def judge(name: str, answer: Answer | None, *, stream: bool) -> Verdict:
    """Compare an answer with what the upstream says to this request."""
    if answer is None or answer.status != 200:
        return Verdict.FAILED
    text, told, finished = read_stream(answer) if stream else _read_plain(answer)
    if told or answer.ending is not Ending.CLEAN:
        return Verdict.MARKED if text else Verdict.FAILED
    return Verdict.WHOLE if finished and text == "".join(words(name)) else Verdict.SILENT


def read_stream(answer: Answer) -> tuple[str, bool, bool]:
    """The text of a chat stream; whether it tells of an error; whether it has a reason to end and the last marker."""
    text, told, finished = "", False, False
    for event in answer.events:
        if not event.startswith(b"data: {"):
            continue
        data = _decoded(event[6:])
        told |= "error" in data
        for choice in data.get("choices") or ():
            text += choice["delta"].get("content") or ""
            finished |= bool(choice.get("finish_reason"))
    return text, told, finished and answer.body.rstrip().endswith(b"data: [DONE]")


def _read_plain(answer: Answer) -> tuple[str, bool, bool]:
    data = _decoded(answer.body)
    choices = data.get("choices") or [{}]
    text = (choices[0].get("message") or {}).get("content") or ""
    return text, "error" in data, bool(choices[0].get("finish_reason"))


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        data = json.loads(raw)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def count(results: Iterable[Result], verdict: Verdict) -> int:
    """How many got this."""
    return sum(result.verdict is verdict for result in results)


def statuses(results: Iterable[Result]) -> str:
    """Which statuses those had that failed, and how often."""
    failed = sorted(result.status for result in results if result.verdict is Verdict.FAILED)
    return ", ".join(f"{len(list(same))} x {status or 'no answer'}" for status, same in itertools.groupby(failed))


def added_ms(results: Sequence[Result]) -> tuple[float, float]:
    """Median and 99th percentile in milliseconds of what was added to whole answers; zeros if there are too few."""
    added = [result.added_s * 1000 for result in results if result.verdict is Verdict.WHOLE]
    if len(added) < 2:
        return 0.0, 0.0
    cuts = quantiles(added, n=100)
    return cuts[49], cuts[98]
