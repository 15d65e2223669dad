"""Clients that are slow on purpose: they cost little while they last, and do not last (RELIABILITY 6.6, 6.5)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tracemalloc
from contextlib import contextmanager
from itertools import cycle, islice
from typing import TYPE_CHECKING

import pytest

from tests.harness import chat
from tests.harness.client import post
from tests.harness.upstream import json_answer, play, sse_head
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.harness.client import Client
    from tests.harness.router import RunningRouter
    from tests.harness.upstream import Script, ScriptedUpstream, Turn
    from tests.relay.conftest import StartRouter

KIB = 1024
MIB = 1024 * KIB
SHORT = {"head_timeout": "300ms", "body_timeout": "300ms", "keepalive": "300ms"}

FORM = "Content-Type: multipart/form-data; boundary=border"
BEGUN = b'--border\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


def upload(length: int) -> bytes:
    """A form of this length that has begun."""
    head = post(b"", FORM, path="/v1/audio/transcriptions", framing=f"Content-Length: {length}")
    return head.replace(b"Content-Type: application/json\r\n", b"", 1) + BEGUN


HALF_HEADS = {
    "nothing": b"",
    "empty_line": b"\r\n",
    "half_an_empty_line": b"\r",
    "method": b"POS",
    "request_line": b"POST /v1/chat/completions HTTP/1.1\r\n",
    "header": post(b"")[:50],
    "all_but_the_last_byte": post(b"")[:-1],
    "large_header": post(b"", "x-a: " + "b" * 60_000)[:-4],
    "handed_over": b"POST /v1/nowhere HTTP/1.1\r\nHost: x\r\n",
    "behind_a_handed_over_line": b"GET /v1/models HTTP/1.1\r\n",
}
HALF_BODIES = {
    "body_to_come": post(b"", framing="Content-Length: 99"),
    "half_a_body": post(chat.request(user="x" * 20_000))[:-5],
    "chunks_to_come": post(b"", framing="Transfer-Encoding: chunked"),
    "half_a_chunk_line": post(b"5", framing="Transfer-Encoding: chunked"),
    "half_a_chunk": post(b"5000\r\n{", framing="Transfer-Encoding: chunked"),
    "chunks_without_an_end": post(b"2\r\n{}\r\n", framing="Transfer-Encoding: chunked"),
    "half_a_trailer": post(b"2\r\n{}\r\n0\r\nx-a", framing="Transfer-Encoding: chunked"),
    "waits_for_leave": post(b"", "Expect: 100-continue", framing="Content-Length: 99"),
    "half_a_form": upload(100_000),
}


@contextmanager
def memory_of_the_router() -> Iterator[Callable[[], int]]:
    """Gives a function that returns how many bytes the router's own code has allocated since, and holds."""
    ours = tracemalloc.Filter(inclusive=True, filename_pattern="*/router/*")
    tracemalloc.start()
    try:
        yield lambda: sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([ours]).traces)
    finally:
        tracemalloc.stop()


async def crowd(running: RunningRouter, wires: dict[str, bytes], count: int) -> list[Client]:
    """So many clients, each of which sends one of these in turn and then nothing; the router has read it all."""
    clients = []
    for wire in islice(cycle(wires.values()), count):
        client = await running.connect()
        client.transport.write(wire)
        clients.append(client)
    await running.caught_up(clients[-1])
    return clients


async def test_many_slow_clients_are_let_go(router: StartRouter, first: ScriptedUpstream) -> None:
    """Two hundred requests that stop somewhere do not hinder others, all end, and leave nothing behind."""
    running = await router(first, requests=SHORT)
    clients = await crowd(running, HALF_HEADS | HALF_BODIES, 200)
    assert (await running.post()).status == 200
    for client in clients:
        await client.ended()
    await running.rest()
    assert not running.daemon._relay.connections
    assert len(first.received) == 1


@pytest.mark.parametrize("wire", HALF_BODIES.values(), ids=HALF_BODIES)
async def test_half_a_body_is_told_so(router: StartRouter, first: ScriptedUpstream, wire: bytes) -> None:
    """Whatever a body lacks, its client reads 408 and then the end, and nothing is forwarded."""
    running = await router(first, requests=SHORT)
    client = await running.connect()
    await client.send(wire)
    answer = await client.answer()
    assert (answer.status, answer.error["reason"]) == (408, "request_timeout")
    assert await client.ended() == b""
    assert first.received == []


async def test_slow_clients_cost_what_they_sent(router: StartRouter, first: ScriptedUpstream) -> None:
    """A request that has not come whole holds its own bytes and little more, whether it is a head or a body."""
    count = 100
    running = await router(first, requests={"head_timeout": "60s", "body_timeout": "60s"})
    wires = {name: wire for name, wire in (HALF_HEADS | HALF_BODIES).items() if "handed_over" not in name}
    sent = sum(map(len, islice(cycle(wires.values()), count)))
    with memory_of_the_router() as held:
        clients = await crowd(running, wires, count)
        await until(lambda: len(running.daemon._relay.connections) == count)
        assert held() < sent + count * 8 * KIB
        for client in clients:
            client.reset()
        await running.rest()
        await until(lambda: not running.daemon._relay.connections)
        assert held() < 64 * KIB + count * 2 * KIB  # the records of them


@pytest.mark.parametrize("headers", [(), (FORM,)], ids=["json", "form"])
async def test_tiny_chunks_are_not_kept_apart(
    router: StartRouter, first: ScriptedUpstream, headers: tuple[str, ...]
) -> None:
    """A body in chunks of two bytes takes the memory of its bytes, not that of so many pieces."""
    running = await router(first)
    path = "/v1/audio/transcriptions" if headers else "/v1/chat/completions"
    head = post(b"", *headers, path=path, framing="Transfer-Encoding: chunked")
    if headers:
        head = head.replace(b"Content-Type: application/json\r\n", b"", 1)
    begun = b"%x\r\n%b\r\n" % (len(BEGUN), BEGUN)
    size = 96 * KIB
    with memory_of_the_router() as held:
        client = await running.connect()
        await client.send(head + (begun if headers else b"") + b"2\r\nab\r\n" * (size // 2))
        await until(lambda: running.daemon._relay.body_bytes >= size, "the body has come")
        assert held() < 2 * size + 64 * KIB
    await client.leave()


DRIPS = {
    "empty_lines": (b"", b"\r\n"),
    "request_line": (b"POST /v1/", b"a"),
    "method": (b"", b"A"),
    "headers": (b"POST /v1/chat/completions HTTP/1.1\r\n", b"x-a: b\r\n"),
    "one_header": (b"POST /v1/chat/completions HTTP/1.1\r\nx-a: ", b"b"),
    "handed_over": (b"GET /v1/models HTTP/1.1\r\nHost: x\r\n", b"x-a: b\r\n"),
}


@pytest.mark.parametrize(("begin", "drop"), DRIPS.values(), ids=DRIPS)
async def test_a_steady_drip_does_not_prolong_a_head(
    router: StartRouter, first: ScriptedUpstream, begin: bytes, drop: bytes
) -> None:
    """A head's time runs from its first byte, an empty line before it included, however steadily more comes."""
    running = await router(first, requests=SHORT)
    client = await running.connect()
    client.transport.write(begin)
    async with asyncio.timeout(10):
        while not client.closed.is_set():
            client.transport.write(drop)
            await asyncio.sleep(0.02)
    assert b" 200 " not in client.unread
    assert first.received == []


FLOODED = {
    413: post(b"", framing="Content-Length: 1000000000"),
    400: b"POST /v1 HTTP/9\r\n\r\n",
    404: post(b"", path="/v1/nowhere", framing="Content-Length: 1000000000"),
}
"""Requests that are refused, by the status that says so: too large, no HTTP, not the relay's."""


async def send_for_ever(address: tuple[str, int], wire: bytes) -> int:
    """Send, and go on sending whatever is answered, until that is impossible; the bytes that were taken."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        await loop.sock_sendall(sock, wire)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while True:
                await loop.sock_sendall(sock, b"x" * 64 * KIB)
                taken += 64 * KIB
        return taken


async def test_refused_clients_that_go_on_sending_are_left(router: StartRouter, first: ScriptedUpstream) -> None:
    """After a refusal what still comes is thrown away, and soon nobody listens any more."""
    running = await router(first, requests={"body_max": "1MiB"})
    tracemalloc.start()
    try:
        async with asyncio.timeout(10):
            taken = await asyncio.gather(
                *(send_for_ever(running.daemon.data_address, wire) for wire in FLOODED.values())
            )
        assert max(taken) > 8 * MIB
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()
    assert {record.status for record in running.ended} == set(FLOODED)
    assert not running.daemon._relay.connections


async def test_a_reader_that_stops_in_the_list_of_models_is_cut(router: StartRouter, first: ScriptedUpstream) -> None:
    """The write deadline holds for what the relay does not answer, too: such a connection is closed, its task ends."""
    running = await router(
        first, requests={"write_timeout": "200ms"}, models={f"m{number}": "first" for number in range(3000)}
    )
    client = await running.connect(receive_buffer=4096)
    client.stop_reading()
    await until(lambda: running.daemon._relay.connections)
    (connection,) = running.daemon._relay.connections
    connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    tasks = len(asyncio.all_tasks())
    await client.send(post(b"", path="/v1/models", method="GET", framing=""))
    await until(connection.transport.get_write_buffer_size, "more than the client takes")
    await until(lambda: connection.transport.is_closing() and len(asyncio.all_tasks()) == tasks, "the end")


async def flood(turn: Turn) -> None:
    """Sixty-four megabytes of content, as fast as they are taken."""
    for _ in range(1024):
        await turn.chunk(chat.token("x" * 65_000))


ANSWERS: dict[str, tuple[Script, bool]] = {
    "stream": (play(sse_head(), flood), True),
    "whole": (json_answer(b'{"choices":["' + b"x" * 8 * MIB + b'"]}'), False),
}


@pytest.mark.parametrize(("script", "stream"), ANSWERS.values(), ids=ANSWERS)
async def test_readers_that_stop_are_cut(
    router: StartRouter, first: ScriptedUpstream, script: Script, *, stream: bool
) -> None:
    """Twenty clients that read nothing are cut at the write deadline; until then each holds a bounded piece."""
    count = 20
    first.always(script)
    running = await router(first, requests={"write_timeout": "500ms"})
    relay = running.daemon._relay
    most = 0
    clients = [await running.open(chat.request(stream=stream), receive_buffer=4096) for _ in range(count)]
    for client in clients:
        client.stop_reading()
    while len(running.ended) < count:
        await running.record(len(running.ended) + 1)
        most = max(most, sum(each.transport.get_write_buffer_size() for each in relay.connections))
    assert most < count * (MIB if stream else 9 * MIB)
    assert {(record.outcome, record.complete) for record in running.ended} == {("client_gone", False)}
    await running.rest()
    assert not relay.connections
    first.always(json_answer())
    assert (await running.post()).status == 200
