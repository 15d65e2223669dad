"""Everything at once: many clients, faulty upstreams, clients that leave, reloads; seeded, so that faults repeat."""

from __future__ import annotations

import asyncio
import contextlib
import json
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from router.events import Outcome
from tests.harness import chat
from tests.harness.client import Answer, ClosedError, Ending, post
from tests.harness.router import CLIENT_SECRET, config
from tests.harness.upstream import (
    Script,
    ScriptedUpstream,
    Turn,
    chunks,
    cut,
    error,
    head,
    json_answer,
    last_chunk,
    play,
    reset,
    send,
    sse_head,
    sse_stream,
    stall,
)

if TYPE_CHECKING:
    from tests.harness.router import RunningRouter
    from tests.relay.conftest import StartRouter

REQUESTS = 300
AT_ONCE = 40
LIMITS = {"tokens_per_minute": 100_000_000, "requests_per_minute": 1_000_000, "concurrency": 1000}
TEAM = {"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": LIMITS}}
SETTINGS: dict[str, Any] = {
    "keys": TEAM,
    "same_tier": True,
    "model": {"timeouts": {"first_byte": "200ms", "first_token": "200ms", "idle": "200ms"}},
    "defaults": {"retry": {"attempts": 4, "budget_min": 1000}, "streams": {"heartbeat": "20ms", "hold": "50ms"}},
}


def words(name: str) -> tuple[str, ...]:
    """What the answer to this client says, and to no other."""
    return tuple(f"{name}.{number}" for number in range(8))


def well(turn: Turn) -> Script:
    """A right answer, which names the client in every event."""
    name = turn.request.json["user"]
    if turn.request.json.get("stream"):
        return sse_stream(*chat.answer(*words(name)), chat.usage_event(11, 8))
    return json_answer(chat.completion(" ".join(words(name)), prompt=11, output=8))


def faults(turn: Turn) -> list[Script]:
    """Ways to fail, before and after content."""
    early = chat.answer(*words(turn.request.json["user"]))[:4]
    bodies = [
        cut(),
        reset(),
        stall(),
        error(500),
        error(503, None, "retry-after: 1"),
        error(429, None, "retry-after: 1"),
    ]
    bodies += [send(b"nonsense\r\n\r\n"), play(send(head(200, "content-length: 999") + b"{"), cut())]
    if turn.request.json.get("stream"):
        bodies += [play(sse_head(), chunks(*early[:seen]), end) for seen in (0, 1, 3) for end in (cut(), reset())]
        bodies += [play(sse_head(), chunks(*early), end) for end in (stall(), last_chunk())]
    return bodies


def moody(rng: Random, share: float) -> Script:
    """An upstream that fails at this rate, each time in another way."""

    async def script(turn: Turn) -> None:
        await (rng.choice(faults(turn)) if rng.random() < share else well(turn))(turn)

    return script


async def ask(running: RunningRouter, number: int, rng: Random) -> tuple[str, bool, Answer | None]:
    """One client: it may leave at any moment; else what it got."""
    name, stream = f"client{number}", rng.random() < 0.6
    client = await running.connect()
    wire = post(chat.request(stream=stream, user=name), key=CLIENT_SECRET)
    leaves_after = rng.choice([0, 1, 2, 3]) if rng.random() < 0.2 else None
    await client.send(wire if leaves_after != 0 else wire[: rng.randrange(len(wire))])
    if leaves_after is None:
        answer = await client.answer()
        await client.leave()
        return name, stream, answer
    with contextlib.suppress(ClosedError):
        if leaves_after > 1:
            await client.head()
        if leaves_after > 2:
            await client.piece()
    client.reset()
    return name, stream, None


def check(name: str, *, stream: bool, answer: Answer) -> None:
    """The client got its own answer whole, or an honest failure; and nobody else's words."""
    if answer.status != 200:
        assert answer.ending is Ending.CLEAN
        assert answer.status in {429, 500, 502, 503, 504}
        assert answer.error["code"] or answer.body == chat.error_body()
    elif not stream:
        assert answer.json["choices"][0]["message"]["content"] == " ".join(words(name))
    else:
        whole = [*chat.answer(*words(name)), chat.DONE]
        if answer.ending is Ending.CLEAN:
            assert answer.events == whole
        else:
            *relayed, last = answer.events
            assert relayed == whole[: len(relayed)]
            assert json.loads(last.removeprefix(b"data: "))["error"]["code"] in {429, 500, 502, 503, 504}


@pytest.mark.parametrize("seed", [1, 2])
async def test_chaos_leaves_nothing_behind(router: StartRouter, upstreams: list[ScriptedUpstream], seed: int) -> None:
    """Whoever stays gets its own answer or an honest error; afterwards all books balance and nothing is held."""
    rng = Random(seed)
    for upstream, share in zip(upstreams, (0.6, 0.3, 0.1, 0.0), strict=True):
        upstream.always(moody(Random(rng.random()), share))
    running = await router(*upstreams, **SETTINGS)
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> tuple[str, bool, Answer | None]:
        async with slots:
            return await ask(running, number, Random(f"{seed}.{number}"))

    async def reload_often() -> None:
        for number in range(10):
            settings = config(*upstreams, **SETTINGS, requests={"body_max": 1_000_000 + number})
            assert (await running.reload(settings)).result == "applied"
            await asyncio.sleep(0.02)

    reloading = asyncio.get_running_loop().create_task(reload_often())
    results = await asyncio.gather(*(one(number) for number in range(REQUESTS)))
    await reloading
    answers = [(name, stream, answer) for name, stream, answer in results if answer is not None]
    for name, stream, answer in answers:
        check(name, stream=stream, answer=answer)
    await running.rest()
    good = sum(answer.status == 200 and answer.ending is Ending.CLEAN for _, _, answer in answers)
    assert good > 0.8 * len(answers)
    outcomes = [record.outcome for record in running.ended]
    assert outcomes.count(Outcome.OK) >= good
    assert Outcome.INTERNAL not in outcomes
    assert sum(
        record.charged_tokens for record in running.ended if record.outcome is Outcome.OK
    ) == 19 * outcomes.count(Outcome.OK)
