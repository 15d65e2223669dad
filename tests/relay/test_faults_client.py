"""Faults of clients that no other file shows survived (RELIABILITY 6.5; `tests/catalogue.py` names the others)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from router.events import Outcome
from tests.harness import chat
from tests.harness.client import ClosedError, Ending, post
from tests.harness.router import CLIENT_SECRET, OTHER_SECRET
from tests.harness.upstream import (
    ScriptedUpstream,
    Turn,
    chunks,
    error,
    head,
    json_answer,
    last_chunk,
    play,
    sse_head,
    wait_for,
)
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.relay.conftest import StartRouter

LIMITS = {"tokens_per_minute": 100_000, "concurrency": 4}
TEAM = {"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": LIMITS}}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("client_first", [False, True], ids=["after_the_end", "before_the_end"])
async def test_who_leaves_as_the_answer_ends_is_settled_once(
    router: StartRouter, first: ScriptedUpstream, *, stream: bool, client_first: bool
) -> None:
    """End and farewell read in one turn of the loop make one record, one charge, and no slot is lost (C4)."""
    turns: list[Turn] = []

    async def wait(turn: Turn) -> None:
        if stream:
            await play(sse_head(), chunks(*chat.answer("a")))(turn)
        turns.append(turn)

    first.always(wait)
    running = await router(first, keys=TEAM)
    client = await running.open(chat.request(stream=stream), key=CLIENT_SECRET)
    await until(lambda: turns)
    if stream:
        await client.head()
        await client.until(b'"stop"')
    body = chat.completion()
    whole = head(200, chat.CONTENT_TYPE_JSON, f"content-length: {len(body)}") + body
    done = b"%x\r\n%b\r\n0\r\n\r\n" % (len(chat.DONE), chat.DONE)
    if client_first:
        client.close_now()
    turns[0].send_now(done if stream else whole)
    if not client_first:
        client.close_now()
    record = await running.record()
    assert record.outcome in {Outcome.OK, Outcome.CLIENT_GONE}
    await running.rest()
    assert len(running.ended) == 1


NUMBERS: dict[str, dict[str, Any]] = {
    "n_negative": {"n": -1},
    "n_huge": {"n": 10**9},
    "max_huge": {"max_tokens": 10**18},
    "max_negative": {"max_tokens": -5},
    "max_float": {"max_completion_tokens": 1e300},
    "max_text": {"max_tokens": "all"},
}


@pytest.mark.parametrize("members", NUMBERS.values(), ids=NUMBERS)
async def test_absurd_numbers_reserve_nothing_absurd(
    router: StartRouter, first: ScriptedUpstream, members: dict[str, Any]
) -> None:
    """What no limit can ever hold is refused; else the upstream judges it. The key goes on as if nothing were (C11)."""
    running = await router(first, keys=TEAM)
    answer = await running.post(chat.request(**members), key=CLIENT_SECRET)
    assert answer.status in {200, 429}
    if answer.status == 429:
        assert answer.header("x-should-retry") == "false"
        assert first.received == []
    else:
        assert first.received[0].body == chat.request(**members)
    assert (await running.post(key=CLIENT_SECRET)).status == 200


async def test_a_key_that_hammers_is_refused_and_hurts_nobody(router: StartRouter, first: ScriptedUpstream) -> None:
    """Every refusal names a wait of at least a second; nothing of it reaches an upstream or another key (C14)."""
    keys = {
        "hot": {"secret": {"env": "CLIENT_SECRET"}, "limits": {"requests_per_minute": 1}},
        "calm": {"secret": {"env": "OTHER_SECRET"}},
    }
    running = await router(first, keys=keys, upstream={"api_key": {"env": "UPSTREAM_SECRET"}})
    client = await running.connect()
    statuses = []
    for number in range(100):
        await client.send(post(chat.request(), key=CLIENT_SECRET))
        answer = await client.answer()
        statuses.append(answer.status)
        if answer.status == 429:
            assert int(answer.header("retry-after") or 0) >= 1
        if number % 20 == 0:
            assert (await running.post(key=OTHER_SECRET)).status == 200
    assert statuses == [200] + [429] * 99
    assert len(first.received) == 1 + 5


async def test_an_idempotency_key_passes_each_time(router: StartRouter, first: ScriptedUpstream) -> None:
    """The router makes no two requests one: what a repeated key means is between client and upstream (C15)."""
    running = await router(first)
    for _ in range(2):
        assert (await running.post(None, "Idempotency-Key: abc")).status == 200
    assert [received.values("idempotency-key") for received in first.received] == [[b"abc"], [b"abc"]]


async def test_a_storm_of_retries_is_not_multiplied(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """When all fail, SDKs that try again are counted, and soon refused without an upstream being asked (C16)."""
    for upstream in (first, second):
        upstream.always(error(500))
    running = await router(first, second)
    retries = 60
    statuses = [(await running.post(None, "x-stainless-retry-count: 2")).status for _ in range(retries)]
    assert set(statuses) == {500, 503}
    assert statuses[-20:].count(503) >= 18
    assert len(first.received) + len(second.received) < retries
    assert all(record.client_retry for record in running.ended)


async def test_connections_have_a_bound(router: StartRouter, first: ScriptedUpstream) -> None:
    """Beyond it the longest idle end and make room; what is under way goes on, and the newcomer is served (C23)."""
    go_on = asyncio.Event()
    first.then(
        play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())
    )
    running = await router(first)
    relay = running.daemon._relay
    relay.crowd.most = 10
    stream = await running.open(chat.request(stream=True))
    await stream.head()
    idle = [await running.connect() for _ in range(40)]
    await until(lambda: sum(client.closed.is_set() for client in idle) == 31, "31 to have made room")
    assert len(relay.connections) == 10
    assert [client.closed.is_set() for client in idle] == [True] * 31 + [False] * 9
    assert (await running.post()).status == 200
    await idle[-1].send(post(chat.request()))
    assert (await idle[-1].answer()).status == 200
    go_on.set()
    assert (await stream.rest()).ending is Ending.CLEAN


async def test_where_nobody_is_idle_the_newcomer_waits_outside(router: StartRouter, first: ScriptedUpstream) -> None:
    """With every connection at work a further one is closed at once, and costs those at work nothing (C23)."""
    go_on = asyncio.Event()
    first.always(play(wait_for(go_on), json_answer()))
    running = await router(first)
    running.daemon._relay.crowd.most = 3
    busy = [await running.open() for _ in range(3)]
    await first.asked(3)
    late = await running.connect()
    with pytest.raises(ClosedError):
        await late.head()
    go_on.set()
    assert [(await client.answer()).status for client in busy] == [200] * 3
