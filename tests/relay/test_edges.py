"""Edges: an error event and then silence, compressed members, too much sent ahead, bugs of ours between attempts."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING

import pytest

from router.protocol.coding import StreamDecoder, decoded
from tests.harness import chat
from tests.harness.client import ClosedError, Ending, post
from tests.harness.upstream import chunks, json_answer, play, sse_head, stall, wait_for
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter


async def test_an_error_event_is_not_waited_behind(router: StartRouter, first: ScriptedUpstream) -> None:
    """An upstream that said it failed and then holds on has a second, not the time that a silent one has."""
    broken = chat.event(json.loads(chat.error_body("engine died")))
    first.then(json_answer()).always(play(sse_head(), chunks(chat.role(), chat.token("a"), broken), stall()))
    running = await router(first, defaults={"timeouts": {"idle": "60s"}, "streams": {"heartbeat": "60s"}})
    await running.post()  # on a kept connection no timer for connecting wakes us either
    answer = await running.stream()
    assert (answer.ending, answer.events[-1]) == (Ending.ABORTED, broken)


def test_members_of_a_gzipped_stream_follow_each_other() -> None:
    """A stream of several gzip members (RFC 1952 section 2.2), cut anywhere, is read to its end."""
    wire = b"".join(gzip.compress(b"data: %d\n\n" % number) for number in range(3))
    for cut in range(len(wire) + 1):
        decoder = StreamDecoder(b"gzip")
        assert decoder.feed(wire[:cut]) + decoder.feed(wire[cut:]) == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_what_follows_a_stream_is_not_kept() -> None:
    """Bytes behind the end of a coded stream are refused, not collected."""
    decoder = StreamDecoder(b"gzip")
    decoder.feed(gzip.compress(b"data: 1\n\n"))
    with pytest.raises(ValueError, match="coding"):
        decoder.feed(b"x" * 1000)


def test_half_of_a_body_of_two_members_is_none() -> None:
    """Of a body of several members the first is not taken for all."""
    assert decoded(gzip.compress(b'{"a":1') + gzip.compress(b"}"), b"gzip", 100) in (None, b'{"a":1}')


async def test_too_much_ahead_is_told_with_the_answer(router: StartRouter, first: ScriptedUpstream) -> None:
    """An answer whose connection ends behind it, because too much was sent ahead, says so."""
    go_on = asyncio.Event()
    first.always(play(wait_for(go_on), json_answer()))
    running = await router(first)
    for count in (1, 2):
        client = await running.connect()
        await client.send(post(chat.request()))
        await first.asked(count)
        await client.send(post(chat.request(user="x" * 200_000)))
        await running.caught_up(client)
        go_on.set()
        assert ((await client.answer()).header("connection") or "").lower() == "close"
        go_on.clear()


async def test_too_much_ahead_of_no_answer_ends_the_connection(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client that reads nothing and sends too much ahead reads what it was answered, and then the end."""
    first.always(json_answer(b'{"choices":["' + b"y" * 900_000 + b'"]}'))
    running = await router(first)
    client = await running.connect(receive_buffer=4096)
    client.stop_reading()
    await until(lambda: running.daemon._relay.connections)
    (connection,) = running.daemon._relay.connections
    answered = 0
    while connection._stalled_bytes < 0:
        await client.send(post(chat.request()))
        answered += 1
        await running.record(answered)
    await client.send(post(chat.request(user="z" * 100_000)))
    await running.caught_up(client)
    client.go_on_reading()
    for _ in range(answered):
        assert (await client.answer()).ending is Ending.CLEAN
    with pytest.raises(ClosedError):
        await client.answer()


async def test_a_bug_of_ours_after_a_pause_costs_one_request(router: StartRouter, first: ScriptedUpstream) -> None:
    """What fails in our own code when a pause is over is answered 500 and leaves nothing."""
    running = await router(first)
    running.bugs = 1
    wires = running.daemon._relay.snapshot.wires
    go_on = asyncio.Event()
    first.then(play(wait_for(go_on)))
    client = await running.open()
    await first.asked()
    lost = dict(wires)
    wires.clear()
    first.connections[0].transport.close()
    go_on.set()
    answer = await client.answer()
    wires.update(lost)
    assert (answer.status, answer.error["reason"]) == (500, "internal")
