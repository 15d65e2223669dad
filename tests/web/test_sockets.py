"""What passes between two WebSockets, and how they end, through the real daemon (PROTOCOL 2.7, 7.1)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import WSMsgType

from router.events import Outcome, Side
from router.web.sockets import Bounds
from router.web.traffic import Traffic
from tests.harness.router import CLIENT_SECRET, UPSTREAM_SECRET
from tests.harness.socket_client import SocketClient, closing, event, transport_of
from tests.harness.socket_upstream import Call, SocketUpstream, closes, flood, talk
from tests.harness.waiting import PATIENCE_S, until
from tests.web.conftest import KEYS, StartRouter


async def test_messages_pass_both_ways_unchanged_and_in_order(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """Text and binary messages come out as they went in, whatever they hold, and the record says how it was."""
    messages: list[str | bytes] = [
        b"\x00\xff binary",
        '{"a" : 1.10, "b":"\\u00e9", "model":"m"}',
        "",
        b"",
        '{"type":"response.create"}',
        "ü",
    ]

    async def play(call: Call) -> None:
        for message in reversed(messages):
            await call.send(message)

    first.always(talk(play))
    running = await router(first)
    socket = await client.open(running)
    for message in messages:
        await (socket.send_bytes(message) if isinstance(message, bytes) else socket.send_str(message))
    answers = [(await socket.receive(PATIENCE_S)).data for _ in messages]
    assert answers == messages[::-1]
    call = await first.called()
    await until(lambda: len(call.received) == len(messages))
    assert call.received == [it if isinstance(it, bytes) else it.encode() for it in messages]
    await socket.close(code=4001, message=b"enough")
    assert await call.left() == (4001, "enough")
    record = await running.record()
    assert (record.endpoint, record.model, record.upstream, record.stream) == ("realtime", "m", "first", True)
    assert (record.status, record.outcome, record.complete) == (101, Outcome.OK, True)
    assert record.ended_by is Side.CLIENT
    assert record.request_bytes == record.response_bytes == sum(map(len, call.received))
    assert running.causes() == [("first", "ok")]


async def test_the_upstreams_close_reaches_the_client(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """Code and reason pass, but for what looks like a credential."""
    first.always(talk(closes(4003, f"no more for {UPSTREAM_SECRET}")))
    running = await router(first)
    socket = await client.open(running)
    assert await closing(socket) == (4003, "no more for ***")
    record = await running.record()
    assert (record.outcome, record.ended_by, record.complete) == (Outcome.OK, Side.UPSTREAM, True)


@pytest.mark.parametrize(("code", "cause"), [(1011, "http_5xx"), (1013, "overloaded")])
async def test_an_upstream_that_closes_for_a_fault_is_judged(
    router: StartRouter, client: SocketClient, first: SocketUpstream, code: int, cause: str
) -> None:
    """A close frame that speaks of the server's fault counts against it, and still passes."""
    first.always(talk(closes(code, "", {"type": "session.created"})))
    running = await router(first)
    assert (await closing(await client.open(running)))[0] == code
    record = await running.record()
    assert (record.outcome, running.causes()) == (Outcome.UPSTREAM_ERROR, [("first", cause)])


async def test_a_lost_upstream_is_told_in_a_frame(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """A connection that breaks is never passed off as an end: an error event, then 1011."""

    async def play(call: Call) -> None:
        await call.send({"type": "session.created"})
        call.break_off()

    first.always(talk(play, reads_to_end=False))
    running = await router(first)
    socket = await client.open(running)
    assert (await event(socket))["type"] == "session.created"
    said = await event(socket)
    assert (await closing(socket))[0] == 1011
    record = await running.record()
    assert (said["type"], said["event_id"]) == ("error", f"event_{record.request_id}")
    assert said["error"] == {
        "type": "server_error",
        "code": "upstream_connection",
        "message": f"The connection to the upstream broke. (request id: {record.request_id})",
        "param": None,
        "event_id": None,
    }
    assert (record.outcome, record.ended_by, record.complete) == (Outcome.UPSTREAM_ERROR, Side.UPSTREAM, False)
    assert running.causes() == [("first", "disconnect_mid_stream")]


async def test_a_client_that_is_gone_frees_everything(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """A lost client ends the upstream's socket, gives its slots back and leaves one record."""
    running = await router(first, keys={"team": KEYS["team"] | {"limits": {"concurrency": 1}}})
    socket = await client.open(running, key=CLIENT_SECRET)
    call = await first.called()
    assert running.held() == {"leases": 1, "limiter_slots": 1, "sockets": 1}
    transport_of(socket).abort()
    assert (await call.left())[0] == 1001
    await running.rest()
    assert (await running.record()).outcome is Outcome.CLIENT_GONE


async def test_a_message_that_is_too_large_closes_the_socket(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """16 MiB pass in either direction, more is 1009."""
    running = await router(first)
    socket = await client.open(running)
    largest = b"x" * (16 * 1024 * 1024)
    await socket.send_bytes(largest)
    message = await socket.receive(PATIENCE_S)
    assert message.data.encode() == largest
    transport_of(socket).write(b"\x82\xff" + (len(largest) + 1).to_bytes(8, "big") + b"mask")
    assert (await closing(socket))[0] == 1009
    record = await running.record()
    assert (record.outcome, record.reason) == (Outcome.CLIENT_ERROR, "request_too_large")
    assert (await first.called()).closed == (1001, "")


async def test_a_client_that_does_not_read_slows_the_upstream_down(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """What the client does not take the upstream cannot send: nothing piles up between them, and it all arrives."""
    sent = 0

    async def flood(call: Call) -> None:
        nonlocal sent
        for number in range(400):
            await call.send(f"{number:08}" + "x" * 65_536)
            sent += 1

    first.always(talk(flood))
    running = await router(first)
    socket = await client.open(running)
    transport = transport_of(socket)
    transport.pause_reading()
    still, before = 0, -1
    while still < 20:  # until nothing moves any more
        await asyncio.sleep(0.01)
        still = still + 1 if sent == before else 0
        before = sent
    assert sent < 300
    transport.resume_reading()
    numbers = [int((await socket.receive(PATIENCE_S)).data[:8]) for _ in range(400)]
    assert numbers == list(range(400))
    await socket.close()


async def test_a_client_that_never_reads_is_dropped(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """After `write_timeout` without progress the socket ends, and everything it held is free."""

    first.always(talk(flood))
    running = await router(first, requests={"write_timeout": "200ms"})
    socket = await client.open(running)
    transport = transport_of(socket)
    transport.pause_reading()
    record = await running.record()
    assert (record.outcome, record.ended_by) == (Outcome.CLIENT_GONE, Side.CLIENT)
    await running.rest()


@pytest.mark.parametrize("path", ["/v1/realtime?model=m", "/v1/responses"])
async def test_silence_of_both_sides_ends_a_socket(
    router: StartRouter, client: SocketClient, first: SocketUpstream, path: str
) -> None:
    """Who says nothing for too long, before the first frame or after it, is told so and closed with 1008."""
    running = await router(first)
    running.daemon._sockets.bounds = Bounds(idle_s=0.1, first_frame_s=0.1)
    socket = await client.open(running, path)
    said = await event(socket)
    assert (said["type"], said["error"]["code"]) == ("error", "request_timeout")
    assert (await closing(socket))[0] == 1008
    record = await running.record()
    assert (record.outcome, record.ended_by) == (Outcome.CLIENT_ERROR, Side.ROUTER)


async def test_a_client_that_does_not_answer_pings_is_gone(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """A connection whose other end has vanished without a word is found out by its silence."""
    running = await router(first)
    running.daemon._sockets.bounds = Bounds(heartbeat_s=0.1)
    socket = await client.open(running, autoping=False)
    record = await running.record()
    assert (record.outcome, record.ended_by) == (Outcome.CLIENT_GONE, Side.CLIENT)
    await socket.close()


async def test_pings_are_answered_hop_by_hop(router: StartRouter, client: SocketClient, first: SocketUpstream) -> None:
    """A client's ping is answered by the router and does not reach the upstream."""
    running = await router(first)
    socket = await client.open(running, autoping=False)
    await socket.ping(b"here?")
    pong = await socket.receive(PATIENCE_S)
    assert (pong.type, pong.data) == (WSMsgType.PONG, b"here?")
    await socket.close()
    assert (await first.called()).received == []


async def test_a_client_that_breaks_the_protocol_is_closed(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """A frame that RFC 6455 forbids ends the socket with 1002, and the upstream's with it."""
    running = await router(first)
    socket = await client.open(running)
    transport_of(socket).write(b"\xf3\x80mask")
    assert (await closing(socket))[0] == 1002
    record = await running.record()
    assert (record.outcome, record.reason) == (Outcome.CLIENT_ERROR, "malformed_http")
    assert (await first.called()).closed == (1001, "")


async def test_an_upstream_that_breaks_the_protocol_is_told_to_the_client(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """Nonsense from the upstream is its fault: an error frame and 1011."""

    async def play(call: Call) -> None:
        assert call.request.transport is not None
        call.request.transport.write(b"\xf3\x00")

    first.always(talk(play))
    running = await router(first)
    socket = await client.open(running)
    assert (await event(socket))["error"]["code"] == "upstream_protocol"
    assert (await closing(socket))[0] == 1011
    await running.record()
    assert running.causes() == [("first", "protocol")]


async def test_a_bug_of_ours_ends_one_socket(
    router: StartRouter,
    client: SocketClient,
    first: SocketUpstream,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When our own code fails the client is told, the text is in the log alone, and nothing stays held."""

    def fail(*_: Any, **__: Any) -> bytes:
        raise LookupError("the inside story")

    monkeypatch.setattr(Traffic, "from_client", fail)
    running = await router(first)
    socket = await client.open(running)
    await socket.send_str("x")
    said = await event(socket)
    assert said["error"]["code"] == "internal"
    assert "inside story" not in json.dumps(said)
    assert (await closing(socket))[0] == 1011
    assert (await running.record()).outcome is Outcome.INTERNAL
    assert "inside story" in caplog.text
    await running.rest()
