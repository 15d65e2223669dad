"""Two promises under load: losing an upstream costs no client an error before content, and no reload costs any."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from router.events import Outcome
from tests.harness import chat
from tests.harness.client import Answer, Ending, post
from tests.harness.router import CLIENT_SECRET, config
from tests.harness.upstream import chunks, head, json_answer, last_chunk, play, send, sse_head, sse_stream, stall
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.harness.router import RunningRouter, Settings
    from tests.harness.upstream import Script, ScriptedUpstream, Turn
    from tests.relay.conftest import StartRouter

CLIENTS = 50
REQUESTS = 400
"""Answered before what is to disturb them, and again after it."""
RELOADS = 20
WORDS = ("a", "b", "c", "d")
PLAIN_HEAD = send(head(200, chat.CONTENT_TYPE_JSON, f"content-length: {len(chat.completion())}"))
BEGUN: dict[str, tuple[Script, bool]] = {
    "nothing_said": (send(), False),
    "plain_head_said": (PLAIN_HEAD, False),
    "stream_head_said": (play(sse_head(), chunks(chat.role())), True),
}
"""How far an upstream comes with its answer before it dies, and whether that is a stream."""
WHOLE = b"".join((*chat.answer(*WORDS), chat.DONE))
LIMITS = {"requests_per_minute": 10_000_000, "tokens_per_minute": 1_000_000_000, "concurrency": 10_000}
TEAM: dict[str, Any] = {"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": LIMITS}}


def busy(rng: Random, pause_s: float = 0.02) -> Script:
    """An upstream that takes its time before the head, before the content and inside it."""

    async def script(turn: Turn) -> None:
        await asyncio.sleep(rng.uniform(0, pause_s))
        if not turn.request.json.get("stream"):
            await PLAIN_HEAD(turn)
            await asyncio.sleep(rng.uniform(0, pause_s))
            await turn.send(chat.completion())
            return
        await sse_head()(turn)
        for event in (*chat.answer(*WORDS), chat.DONE):
            await turn.chunk(event)
            await asyncio.sleep(rng.uniform(0, pause_s / 2))
        await last_chunk()(turn)

    return script


class Got(NamedTuple):
    """What a client asked for, and what it got."""

    stream: bool
    answer: Answer

    @property
    def whole(self) -> bool:
        answer = self.answer
        body = WHOLE if self.stream else chat.completion()
        return (answer.status, answer.ending, answer.body) == (200, Ending.CLEAN, body)

    @property
    def content_had_begun(self) -> bool:
        return self.stream and b'"content":"a"' in self.answer.body


@dataclass(slots=True)
class Load:
    """Clients that ask, one request after the other, every second one for a stream."""

    running: RunningRouter
    got: list[Got] = field(default_factory=list)
    over: bool = False

    async def ask(self, *, stream: bool) -> None:
        client = await self.running.connect()
        while not self.over:
            await client.send(post(chat.request(stream=stream), key=CLIENT_SECRET))
            answer = await client.answer()
            self.got.append(Got(stream, answer))
            if answer.ending is not Ending.CLEAN or answer.header("connection") == "close":
                await client.leave()
                client = await self.running.connect()
            stream = not stream
        await client.leave()

    async def more(self, requests: int = REQUESTS) -> None:
        """Wait until so many more have been answered."""
        enough = len(self.got) + requests
        await until(lambda: len(self.got) >= enough, f"{requests} more answers")

    def harmed(self) -> list[Answer]:
        """What was no whole answer, but for streams whose content had begun."""
        return [got.answer for got in self.got if not got.whole and not got.content_had_begun]

    def broken_off(self) -> list[Answer]:
        """Streams that ended after their content had begun."""
        return [got.answer for got in self.got if not got.whole and got.content_had_begun]


@asynccontextmanager
async def load(running: RunningRouter) -> AsyncIterator[Load]:
    """Fifty clients, until the end of the block."""
    asking = Load(running)
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(asking.ask(stream=number % 2 == 0))
        await asking.more()
        try:
            yield asking
        finally:
            asking.over = True


def settings(*upstreams: ScriptedUpstream) -> Settings:
    return config(*upstreams, same_tier=True, keys=TEAM)


async def test_losing_an_upstream_under_load_costs_nobody_an_error(
    router: StartRouter, upstreams: list[ScriptedUpstream]
) -> None:
    """One of three upstreams is killed: every request without content yet is answered whole, by another one."""
    serving = upstreams[:3]
    for number, upstream in enumerate(serving):
        upstream.always(busy(Random(number)))
    running = await router(*serving, same_tier=True, keys=TEAM)
    async with load(running) as asking:
        victim = serving[0]
        held = running.daemon.catalogue.upstreams["first"].in_flight
        victim.kill()
        await asking.more()
    assert held > CLIENTS / 10, "the victim was busy"
    assert asking.harmed() == []
    for answer in asking.broken_off():
        assert answer.ending is Ending.ABORTED
        assert json.loads(answer.events[-1].removeprefix(b"data: "))["error"]["code"] == 502
        assert b"[DONE]" not in answer.body
    outcomes = Counter(record.outcome for record in running.ended)
    assert outcomes == {Outcome.OK: len(asking.got) - len(asking.broken_off())} | (
        {Outcome.UPSTREAM_ERROR: len(asking.broken_off())} if asking.broken_off() else {}
    )


@pytest.mark.parametrize("clients", [8, CLIENTS])
@pytest.mark.parametrize(("begun", "stream"), BEGUN.values(), ids=BEGUN)
async def test_requests_that_wait_at_a_dying_upstream_are_answered_elsewhere(
    router: StartRouter, upstreams: list[ScriptedUpstream], clients: int, begun: Script, *, stream: bool
) -> None:
    """However many requests an upstream held when it died, on whatever connections, the other one answers them all."""
    victim, heir = upstreams[:2]
    for upstream in (victim, heir):
        upstream.always(play(begun, stall()))
    running = await router(victim, heir, same_tier=True)
    waiting = [await running.open(chat.request(stream=stream)) for _ in range(clients)]
    await until(lambda: len(victim.received) + len(heir.received) == clients, "every request to wait")
    held = len(victim.received)
    heir.always(sse_stream(*chat.answer(*WORDS)) if stream else json_answer())
    victim.kill()
    await running.record(held)
    for client in waiting:
        client.reset()
    await running.record(clients)
    assert Counter(record.outcome for record in running.ended) == {
        Outcome.OK: held, Outcome.CLIENT_GONE: clients - held,
    }  # fmt: skip


def edits(upstreams: list[ScriptedUpstream]) -> list[Settings | str]:
    """Twenty edits of the file: weights, limits, upstreams and models that come and go, and faulty ones."""
    first, second, third = upstreams[:3]
    result: list[Settings | str] = []
    for number in range(RELOADS):
        kind = number % 5
        edit = settings(first, second, third) if kind < 2 else settings(first, second)
        edit["requests"] = {"body_max": 1_000_000 + number}
        if kind == 0:
            for place, member in enumerate(edit["models"]["m"]["pool"]):
                member["weight"] = 1 + (number + place) % 3
        elif kind == 1:
            edit["models"]["m"]["pool"][0]["weight"] = 0
        elif kind == 2:
            edit["keys"] = {"team": TEAM["team"] | {"limits": LIMITS | {"concurrency": 1000 + number}}}
            edit["upstreams"]["second"]["limits"] = {"concurrency": 500 + number}
        elif kind == 3:
            edit["models"][f"m{number}"] = "second"
        result.append("models: [" if kind == 4 else edit)
    return result


async def test_reloads_under_load_cost_nobody_an_error(router: StartRouter, upstreams: list[ScriptedUpstream]) -> None:
    """The file changes twenty times, four times into a faulty one: every request is answered whole."""
    serving = upstreams[:3]
    for number, upstream in enumerate(serving):
        upstream.always(busy(Random(number)))
    running = await router(*serving, same_tier=True, keys=TEAM)
    results = []
    async with load(running) as asking:
        for edit in edits(serving):
            results.append((await running.reload(edit)).result)
            await asking.more(20)
    assert results == ["applied", "applied", "applied", "applied", "rejected"] * 4
    assert [got for got in asking.got if not got.whole] == []
    assert Counter(record.outcome for record in running.ended) == {Outcome.OK: len(asking.got)}
    assert min(len(upstream.received) for upstream in serving) > 20
