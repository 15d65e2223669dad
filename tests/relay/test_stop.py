"""The end of the daemon: no new work, what runs may finish, the rest is told (RELIABILITY 6.8, O1 and O2)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from router.events import Outcome, Side
from tests.harness import chat
from tests.harness.client import Client, Ending, post
from tests.harness.upstream import (
    chunks,
    json_answer,
    last_chunk,
    play,
    sse_head,
    stall,
    wait_for,
)
from tests.harness.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from tests.harness.router import RunningRouter
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter


def stopping(running: RunningRouter, *, hurry: bool = False) -> asyncio.Task[None]:
    running.stopped = True
    return asyncio.get_running_loop().create_task(running.daemon.stop(hurry=hurry))


async def closed_to_new_work(running: RunningRouter) -> None:
    """Wait until the data address no longer accepts."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                client = await Client.connect(running.daemon.data_address)
            except OSError:
                return
            client.transport.abort()


async def test_streams_finish_while_draining(router: StartRouter, first: ScriptedUpstream) -> None:
    """After the signal to stop, a running stream and a waiting request end as if nothing were; then nobody listens."""
    go_on = asyncio.Event()
    first.then(
        play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk()),
        play(wait_for(go_on), json_answer()),
    )
    running = await router(first)
    address = running.daemon.data_address
    stream = await running.open(chat.request(stream=True))
    await stream.head()
    whole = await running.open()
    await first.asked(2)
    idle = await running.connect()
    stop = stopping(running)
    assert await idle.ended() == b""
    assert not stop.done()
    go_on.set()
    streamed = await stream.rest()
    assert (streamed.ending, streamed.events[-1]) == (Ending.CLEAN, chat.DONE)
    assert (await whole.answer()).body == chat.completion()
    await stop
    assert [record.outcome for record in running.ended] == [Outcome.OK, Outcome.OK]
    with pytest.raises(OSError, match=r"."):
        await Client.connect(address)


async def test_answers_while_draining_close_their_connection(router: StartRouter, first: ScriptedUpstream) -> None:
    """An answer that ends during the drain tells its client to connect anew."""
    go_on = asyncio.Event()
    first.always(play(wait_for(go_on), json_answer()))
    running = await router(first)
    client = await running.open()
    await first.asked()
    stop = stopping(running)
    await closed_to_new_work(running)
    go_on.set()
    answer = await client.answer()
    assert answer.status == 200
    assert (answer.header("connection") or "").lower() == "close"
    assert await client.ended() == b""
    await stop


async def test_drain_alone_serves_on(router: StartRouter, first: ScriptedUpstream) -> None:
    """`drain` says "not ready" and goes on serving: load balancers need time to look elsewhere."""
    running = await router(first, stop={"notice": "5s", "drain": "5s"})
    running.daemon.drain()
    answer = await running.post()
    assert (answer.status, (answer.header("connection") or "").lower()) == (200, "close")


async def test_new_requests_on_old_connections_are_turned_away(router: StartRouter, first: ScriptedUpstream) -> None:
    """Once closed to new work, a request pipelined behind a running one is 503 `draining` and the connection ends."""
    go_on = asyncio.Event()
    first.then(
        play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())
    )
    running = await router(first)
    client = await running.open(chat.request(stream=True))
    await client.head()
    await client.until(b'"a"')
    stop = stopping(running)
    await closed_to_new_work(running)
    await client.send(post(chat.request()))
    go_on.set()
    assert (await client.rest()).ending is Ending.CLEAN
    late = await client.ended()
    assert late == b"" or (late.startswith(b"HTTP/1.1 503") and b'"draining"' in late)
    await stop
    assert len(first.received) == 1


async def test_when_time_is_up_streams_are_told(router: StartRouter, first: ScriptedUpstream) -> None:
    """At the drain's deadline a stream gets an error event and an aborted connection, a waiting request a 503."""
    first.then(play(sse_head(), chunks(chat.token("a")), stall()), stall())
    running = await router(first, stop={"notice": "1ms", "drain": "150ms"})
    stream = await running.open(chat.request(stream=True))
    await stream.head()
    await stream.until(b'"a"')
    whole = await running.open()
    await first.asked(2)
    await stopping(running)
    streamed, refused = await stream.rest(), await whole.answer()
    assert streamed.ending is Ending.ABORTED
    assert b"[DONE]" not in streamed.body
    assert json.loads(streamed.events[-1].removeprefix(b"data: "))["error"]["reason"] == "draining"
    assert (refused.status, refused.error["reason"]) == (503, "draining")
    assert {(record.outcome, record.ended_by, record.complete) for record in running.ended} == {
        (Outcome.OVERLOADED, Side.ROUTER, False)
    }
    for received in first.received:
        await received.left()


async def test_what_was_only_not_ended_is_whole(router: StartRouter, first: ScriptedUpstream) -> None:
    """A stream that has its finish reason and waits for no more than its end is complete when the time is up."""
    first.then(play(sse_head(), chunks(*chat.answer("a")), stall()))
    running = await router(first, stop={"notice": "1ms", "drain": "1ms"})
    stream = await running.open(chat.request(stream=True))
    await stream.head()
    await stream.until(b'"stop"')
    await stopping(running)
    answer = await stream.rest()
    assert (answer.ending, answer.events[-1]) == (Ending.CLEAN, chat.DONE)
    assert [record.outcome for record in running.ended] == [Outcome.OK]


async def test_hurry_ends_a_drain(router: StartRouter, first: ScriptedUpstream) -> None:
    """A second signal does not wait for the deadline, but tells everybody and settles."""
    first.then(play(sse_head(), chunks(chat.token("a")), stall()))
    running = await router(first, stop={"notice": "60s", "drain": "60s"})
    stream = await running.open(chat.request(stream=True))
    await stream.head()
    await stream.until(b'"a"')
    patient = stopping(running)
    hurried = stopping(running, hurry=True)
    async with asyncio.timeout(5):
        await asyncio.gather(patient, hurried)
    answer = await stream.rest()
    assert answer.ending is Ending.ABORTED
    assert json.loads(answer.events[-1].removeprefix(b"data: "))["error"]["reason"] == "draining"
    assert len(running.ended) == 1


async def test_nothing_stays_open(router: StartRouter, first: ScriptedUpstream) -> None:
    """After the stop no connection to an upstream is left and no client is connected."""
    running = await router(first)
    client = await running.connect()
    await client.send(post(chat.request()))
    await client.answer()
    assert first.open_connections == 1
    await stopping(running)
    await until(lambda: first.open_connections == 0)
    assert await client.ended() == b""


async def test_a_client_that_never_reads_does_not_hold_up_the_stop(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """The drain's deadline holds for clients that do not read, too."""
    first.always(json_answer(b'{"choices":["' + b"x" * 30_000_000 + b'"]}'))
    running = await router(first, stop={"notice": "1ms", "drain": "100ms"})
    client = await running.open(receive_buffer=8192)
    client.stop_reading()
    await first.asked()
    async with asyncio.timeout(5):
        await stopping(running)


@pytest.mark.parametrize(
    "part",
    [post(chat.request())[:-5], post(b"", framing="Transfer-Encoding: chunked") + b"5\r\n"],
    ids=["length", "chunks"],
)
async def test_half_a_request_is_told_at_once(router: StartRouter, first: ScriptedUpstream, part: bytes) -> None:
    """When the drain is over, a client that is still sending its request reads 503, and the stop goes on without it."""
    running = await router(first, stop={"notice": "1ms", "drain": "1ms"})
    client = await running.connect()
    await client.send(part)
    await until(lambda: [each for each in running.daemon._relay.connections if each._receiving is not None])
    stop = stopping(running)
    answer = await client.answer()
    assert (answer.status, answer.error["reason"]) == (503, "draining")
    assert (answer.header("connection") or "").lower() == "close"
    assert await client.ended() == b""
    await client.leave()
    async with asyncio.timeout(1):
        await stop
    assert [(record.outcome, record.status) for record in running.ended] == [(Outcome.OVERLOADED, 503)]
    assert first.received == []


async def test_half_a_head_does_not_hold_up_the_stop(router: StartRouter, first: ScriptedUpstream) -> None:
    """A connection on which no request has begun ends with the drain."""
    running = await router(first, stop={"notice": "1ms", "drain": "1ms"})
    client = await running.connect()
    await client.send(post(chat.request())[:20])
    await running.caught_up(client)
    async with asyncio.timeout(1):
        await stopping(running)
    assert await client.ended() == b""
    assert running.ended == []
