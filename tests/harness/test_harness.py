"""The harness itself: what it reports is what went over the wire."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.harness import chat
from tests.harness.client import Client, Ending, post
from tests.harness.upstream import (
    Script,
    ScriptedUpstream,
    chunks,
    cut,
    drip,
    head,
    play,
    reset,
    send,
    sse_head,
    sse_stream,
    stall,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def pair(*scripts: Script) -> AsyncIterator[tuple[ScriptedUpstream, Client]]:
    upstream = ScriptedUpstream().then(*scripts)
    await upstream.start()
    try:
        async with await Client.connect(("127.0.0.1", upstream.port)) as client:
            yield upstream, client
    finally:
        await upstream.close()


async def test_requests_are_recorded_to_the_byte() -> None:
    """Head and body are kept as they were sent, and one connection carries several requests."""
    async with pair() as (upstream, client):
        sent = post(b'{ "a" : 1.0 }', "x-Odd:  spaced ")
        await client.drip(sent)
        first = await client.answer()
        await client.send(post(b""))
        second = await client.answer()
    assert [first.json, second.json] == [first.json] * 2
    assert upstream.received[0].head + upstream.received[0].body == sent
    assert [received.place for received in upstream.received] == [0, 1]
    assert upstream.received[0].gone.is_set()


async def test_a_clean_end_differs_from_a_cut_and_a_reset() -> None:
    """A stream with its last chunk is clean; one without it, or broken by RST, is aborted."""
    events = chat.answer("Hi")
    for script, ending in (
        (sse_stream(*events), Ending.CLEAN),
        (play(sse_head(), chunks(*events), cut()), Ending.ABORTED),
        (play(sse_head(), chunks(*events), reset()), Ending.ABORTED),
        (play(send(head(200, "content-length: 9999"), *events), cut()), Ending.ABORTED),
        (play(send(head(200), *events), cut()), Ending.CLEAN),
    ):
        async with pair(script) as (_, client):
            await client.send(post(b""))
            answer = await client.answer()
            assert (answer.ending, answer.events[: len(events)]) == (ending, list(events)) or ending is Ending.ABORTED


async def test_pieces_and_interim_heads_are_kept() -> None:
    """An answer dripped byte by byte after a 100 gives its chunks one by one."""
    wire = head(100) + head(200, "transfer-encoding: chunked") + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    async with pair(drip(wire)) as (_, client):
        await client.send(post(b""))
        answer = await client.answer()
    assert (answer.pieces, answer.interim, answer.ending) == ([b"ab", b"c"], [head(100)], Ending.CLEAN)


async def test_a_peer_that_leaves_is_noticed() -> None:
    """The upstream learns at once that its peer is gone, whatever its script is doing."""
    async with pair(stall()) as (upstream, client):
        await client.send(post(b""))
        received = await upstream.asked()
        assert not received.gone.is_set()
        client.reset()
        await received.left()
        assert upstream.open_connections == 0
