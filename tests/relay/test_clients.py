"""What clients do: leave, dawdle, pipeline, send too much (RELIABILITY 6.5)."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from router.events import Outcome, Side, UpstreamEjected
from router.relay.downstream import BACKLOG_MAX
from tests.harness import chat
from tests.harness.client import Ending, post
from tests.harness.upstream import (
    Script,
    Turn,
    chunks,
    head,
    json_answer,
    last_chunk,
    play,
    send,
    sse_head,
    sse_stream,
    stall,
    wait_for,
)
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

MIB = 1 << 20


HALF_A_BODY = send(head(200, chat.CONTENT_TYPE_JSON, "content-length: 5000") + b'{"choices":[')


STATES: dict[str, tuple[bool, Script, str]] = {
    "waiting": (False, stall(), ""),
    "waiting_for_a_stream": (True, stall(), ""),
    "half_a_head": (False, play(send(b"HTTP/1.1 200 OK\r\nx-a"), stall()), ""),
    "half_a_body": (False, play(HALF_A_BODY, stall()), ""),
    "holding": (True, play(sse_head(), chunks(chat.role()), stall()), ""),
    "relaying": (True, play(sse_head(), chunks(chat.role(), chat.token("Hel")), stall()), "Hel"),
}


leaving = pytest.mark.parametrize(("stream", "script", "seen"), STATES.values(), ids=STATES)


@leaving
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_client_that_leaves_ends_its_exchange(
    router: StartRouter,
    first: ScriptedUpstream,
    second: ScriptedUpstream,
    *,
    stream: bool,
    script: Script,
    seen: str,
    how: str,
) -> None:
    """Whatever the exchange is doing: the upstream's connection closes at once, nobody is blamed, nothing is held."""
    first.always(script)
    running = await router(first, second, defaults={"ejection": {"consecutive": 1}})
    client = await running.open(chat.request(stream=stream))
    received = await first.asked()
    if seen:
        await client.head()
        await client.until(seen.encode())
    if how == "fin":
        await client.leave()
    else:
        client.reset()
    await received.left()
    record = await running.record()
    assert (record.outcome, record.ended_by, record.complete) == (Outcome.CLIENT_GONE, Side.CLIENT, False)
    assert record.status == (200 if seen else 499)
    assert running.in_flight() == 0
    assert second.received == []
    assert not [event for event in running.events if isinstance(event, UpstreamEjected)]


async def test_a_client_that_leaves_while_we_connect(
    router: StartRouter, second: ScriptedUpstream, black_hole: str
) -> None:
    """Connecting stops with the client: no other member is asked, nobody is blamed."""
    running = await router(black_hole, second, defaults={"ejection": {"consecutive": 1}})
    client = await running.open()
    await until(running.in_flight, "a lease")
    client.reset()
    record = await running.record()
    assert (record.outcome, running.causes(), record.charged_tokens) == (
        Outcome.CLIENT_GONE,
        [("first", "client_gone")],
        0,
    )
    assert second.received == []
    assert not [event for event in running.events if isinstance(event, UpstreamEjected)]


async def test_a_client_that_leaves_while_held_open_by_heartbeats(router: StartRouter, first: ScriptedUpstream) -> None:
    """Committed to heartbeats but without content: leaving closes the upstream just so."""
    first.always(play(sse_head(), stall()))
    running = await router(first, defaults={"streams": {"hold": "20ms", "heartbeat": "20ms"}})
    client = await running.open(chat.request(stream=True))
    await client.head()
    await client.until(chat.HEARTBEAT)
    client.reset()
    await first.received[0].left()
    assert (await running.record()).outcome is Outcome.CLIENT_GONE


async def test_a_client_that_leaves_while_sending_reaches_nobody(router: StartRouter, first: ScriptedUpstream) -> None:
    """Half a request is never forwarded and leaves nothing behind."""
    running = await router(first)
    for request in (post(chat.request(user="x" * 100_000))[:50_000], post(chat.request())[:30]):
        client = await running.connect()
        await client.send(request)
        client.reset()
    assert (await running.post()).status == 200
    assert len(first.received) == 1
    await running.rest()


async def test_a_half_closed_client_is_gone(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client that says it will send no more counts as gone: its exchange ends (RELIABILITY C20)."""
    first.always(stall())
    running = await router(first)
    client = await running.open()
    received = await first.asked()
    client.half_close()
    await received.left()
    assert (await running.record()).outcome is Outcome.CLIENT_GONE


async def flood(turn: Turn) -> None:
    """Sixty-four megabytes of content, as fast as they are taken."""
    for _ in range(1024):
        await turn.chunk(chat.token("x" * 65_000))


async def test_a_client_that_never_reads_stops_the_upstream(router: StartRouter, first: ScriptedUpstream) -> None:
    """Back-pressure reaches the upstream after a few megabytes; then the write deadline ends both sides."""
    first.always(play(sse_head(), flood))
    running = await router(first, requests={"write_timeout": "300ms"})
    client = await running.open(chat.request(stream=True), receive_buffer=8192)
    client.stop_reading()
    received = await first.asked()
    await received.left()
    assert first.sent_bytes < 16 * MIB
    record = await running.record()
    assert (record.outcome, record.ended_by, record.complete) == (Outcome.CLIENT_GONE, Side.CLIENT, False)
    await running.rest()


async def test_a_client_that_never_reads_a_whole_answer_is_ended(router: StartRouter, first: ScriptedUpstream) -> None:
    """The write deadline holds for answers that are not streams, too."""
    first.always(json_answer(b'{"choices":["' + b"x" * 30 * MIB + b'"]}'))
    running = await router(first, requests={"write_timeout": "300ms"})
    client = await running.open(receive_buffer=8192)
    client.stop_reading()
    record = await running.record()
    assert (record.outcome, record.complete) == (Outcome.CLIENT_GONE, False)
    await running.rest()


async def test_a_slow_reader_gets_everything(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client that pauses again and again loses nothing, and its pauses are not the upstream's silence."""
    events = (chat.role(), *(chat.token(f"{number:06}" + "x" * 60_000) for number in range(200)), chat.finish())
    first.always(sse_stream(*events))
    running = await router(first)
    client = await running.open(chat.request(stream=True), receive_buffer=8192)
    await client.head()
    while await client.piece():
        client.stop_reading()
        await asyncio.sleep(0.001)
        client.go_on_reading()
    assert client.current is not None
    assert client.current.body == b"".join((*events, chat.DONE))
    assert client.current.ending is Ending.CLEAN


async def test_a_paused_client_is_not_a_silent_upstream(router: StartRouter, first: ScriptedUpstream) -> None:
    """While the client does not read, the upstream's idle deadline does not run: it is we who do not listen."""
    first.always(play(sse_head(), flood, chunks(chat.finish(), chat.DONE), last_chunk()))
    running = await router(first, model={"timeouts": {"idle": "150ms"}}, requests={"write_timeout": "2s"})
    client = await running.open(chat.request(stream=True), receive_buffer=8192)
    client.stop_reading()
    stalled = asyncio.get_running_loop().time() + 0.5
    await until(lambda: asyncio.get_running_loop().time() > stalled)
    client.go_on_reading()
    await client.head()
    answer = await client.rest()
    assert answer.ending is Ending.CLEAN
    assert answer.body.endswith(chat.finish() + chat.DONE)


async def test_pipelined_requests_are_answered_in_order(router: StartRouter, first: ScriptedUpstream) -> None:
    """Requests sent in one packet are served one after another, each with a record of its own."""

    async def echo(turn: Turn) -> None:
        await json_answer(b'{"choices":["%b"]}' % turn.request.json["user"].encode())(turn)

    first.always(echo)
    running = await router(first)
    client = await running.connect()
    await client.send(b"".join(post(chat.request(user=f"u{number}")) for number in range(5)))
    answers = [await client.answer() for _ in range(5)]
    assert [answer.json["choices"] for answer in answers] == [[f"u{number}"] for number in range(5)]
    assert len({answer.header("x-request-id") for answer in answers}) == 5
    await running.record(5)


async def test_a_request_behind_a_stream_waits_for_its_end(router: StartRouter, first: ScriptedUpstream) -> None:
    """A request pipelined behind a stream is not begun before the stream has ended."""
    go_on = asyncio.Event()
    first.then(play(sse_head(), chunks(*chat.answer("a")), wait_for(go_on), chunks(chat.DONE), last_chunk()))
    running = await router(first)
    client = await running.connect()
    await client.send(post(chat.request(stream=True)) + post(chat.request()))
    await client.head()
    await client.until(b'"stop"')
    assert len(first.received) == 1
    go_on.set()
    assert (await client.rest()).ending is Ending.CLEAN
    assert (await client.answer()).body == chat.completion()


async def test_what_is_sent_ahead_is_not_hoarded(router: StartRouter, first: ScriptedUpstream) -> None:
    """More than 64 KiB sent ahead of an answer is thrown away, and the connection ends with that answer."""
    go_on = asyncio.Event()
    first.always(play(wait_for(go_on), json_answer()))
    running = await router(first)
    client = await running.connect()
    await client.send(post(chat.request()))
    await first.asked()
    await client.send(post(chat.request(user="x" * 32 * MIB)))  # more than the kernel would hold
    await until(lambda: client.transport.get_write_buffer_size() == 0, "everything read")
    (connection,) = running.daemon._relay.connections
    assert len(connection._backlog) <= BACKLOG_MAX
    go_on.set()
    answer = await client.answer()
    assert (answer.status, answer.ending) == (200, Ending.CLEAN)
    assert await client.ended() == b""
    assert (len(first.received), len(running.ended)) == (1, 1)


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_who_sends_ahead_and_leaves_is_noticed(router: StartRouter, first: ScriptedUpstream, how: str) -> None:
    """However much a client has sent ahead, its upstream is left at once when it goes."""
    first.always(stall())
    running = await router(first)
    client = await running.connect()
    await client.send(post(chat.request()))
    received = await first.asked()
    await client.send(post(chat.request(user="x" * MIB)))
    await running.caught_up(client)
    if how == "fin":
        client.half_close()
    else:
        client.reset()
    await received.left()
    assert (await running.record()).outcome is Outcome.CLIENT_GONE
    assert len(first.received) == 1


def named(user: str) -> bytes:
    """A request that `echo` answers with its name."""
    return post(chat.request(user=user))


async def echo(turn: Turn) -> None:
    await json_answer(b'{"choices":["%b"]}' % turn.request.json["user"].encode())(turn)


@dataclass
class Answering:
    """The first answer of an upstream, which the test sends itself; all others are echoes."""

    upstream: ScriptedUpstream
    turn: Turn | None = None

    def __post_init__(self) -> None:
        self.upstream.then(self._wait).always(echo)

    async def _wait(self, turn: Turn) -> None:
        self.turn = turn

    async def asked(self) -> None:
        await until(lambda: self.turn, "the first request")

    def answer_now(self) -> None:
        """Answer, so that what else is sent past the loop is read in the same turn, behind it."""
        assert self.turn is not None
        body = b'{"choices":["one"]}'
        self.turn.send_now(head(200, chat.CONTENT_TYPE_JSON, f"content-length: {len(body)}") + body)


async def test_what_comes_between_two_answers_waits_its_turn(router: StartRouter, first: ScriptedUpstream) -> None:
    """A request that is read in the turn in which an answer ends does not overtake one that was sent before it."""
    first_answer = Answering(first)
    running = await router(first)
    client = await running.connect()
    await client.send(named("one"))
    await first_answer.asked()
    await client.send(named("two"))
    await running.caught_up(client)
    first_answer.answer_now()
    client.send_now(named("three"))
    assert [(await client.answer()).json["choices"] for _ in range(3)] == [["one"], ["two"], ["three"]]


async def test_half_a_body_that_waits_is_met_by_the_other_half(router: StartRouter, first: ScriptedUpstream) -> None:
    """The second half of a body, read in the turn in which the answer before it ends, is no request of its own."""
    first_answer = Answering(first)
    running = await router(first)
    two = post(b"not json: " + named("hidden"))
    cut = two.index(b"POST", 10)
    client = await running.connect()
    await client.send(named("one"))
    await first_answer.asked()
    await client.send(two[:cut])
    await running.caught_up(client)
    first_answer.answer_now()
    client.send_now(two[cut:])
    assert (await client.answer()).json["choices"] == ["one"]
    assert (await client.answer()).error["reason"] == "invalid_json"
    await client.send(named("three"))
    assert (await client.answer()).json["choices"] == ["three"]
    assert [received.json["user"] for received in first.received] == ["one", "three"]


@pytest.mark.parametrize("reads", range(1, 7))
async def test_a_request_behind_a_body_in_pieces_is_served(
    router: StartRouter, first: ScriptedUpstream, reads: int
) -> None:
    """However many reads a body takes, what the last of them brings behind it is the next request."""
    first.always(echo)
    running = await router(first, requests={"body_timeout": "2s"})
    one = post(chat.request(user="one", more="x" * 3000))
    step = 500
    client = await running.connect()
    for number in range(reads - 1):
        await client.send(one[number * step : number * step + step])
        await running.caught_up(client)
    await client.send(one[(reads - 1) * step :] + named("two") + named("three"))
    assert [(await client.answer()).json["choices"] for _ in range(3)] == [["one"], ["two"], ["three"]]
    assert first.received[0].body == one[one.index(b"\r\n\r\n") + 4 :]


@pytest.mark.parametrize(
    "wire", [post(b"", method="GET"), post(b'{"model":"x"}'), post(b"{")], ids=["405", "404", "400"]
)
async def test_any_number_of_refused_requests_in_one_packet(
    router: StartRouter, first: ScriptedUpstream, wire: bytes
) -> None:
    """Hundreds of requests that are answered at once are answered one by one, and hold nothing up."""
    running = await router(first)
    client = await running.connect()
    count = 60_000 // len(wire)
    client.send_now(wire * count)
    assert len({(await client.answer()).status for _ in range(count)}) == 1
    await client.send(post(chat.request()))
    assert (await client.answer()).status == 200
    await running.record(count + 1)


async def test_no_request_is_begun_for_a_client_that_does_not_read(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """While the answers before it are unread a request waits: an answer nobody reads would have to be kept."""
    body = b'{"choices":["' + b"y" * 900_000 + b'"]}'
    first.always(json_answer(body))
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
    first.then(sse_stream(*chat.answer("behind it")))
    await client.send(post(chat.request(stream=True)))
    await running.caught_up(client)
    assert (connection._current, len(first.received)) == (None, answered)
    client.go_on_reading()
    assert {(await client.answer()).body == body for _ in range(answered)} == {True}
    assert (await client.answer()).events == [*chat.answer("behind it"), chat.DONE]


CHUNKED = post(b"", framing="Transfer-Encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (
    len(chat.request()),
    chat.request(),
)


@pytest.mark.parametrize("behind", [post(chat.request()), b"\x00 nonsense \r\n\r\n"], ids=["request", "nonsense"])
async def test_what_is_sent_behind_chunks_is_told_to_come_again(
    router: StartRouter, first: ScriptedUpstream, behind: bytes
) -> None:
    """A whole chunked request is answered whatever the same packet brings behind it, and says that it was the last."""
    running = await router(first)
    client = await running.connect()
    client.send_now(CHUNKED + behind)
    answer = await client.answer()
    assert (answer.status, answer.ending) == (200, Ending.CLEAN)
    assert (answer.header("connection") or "").lower() == "close"
    assert await client.ended() == b""
    assert (len(first.received), len(running.ended)) == (1, 1)


async def test_chunked_requests_follow_each_other(router: StartRouter, first: ScriptedUpstream) -> None:
    """A chunked request that nothing came behind leaves its connection open for the next."""
    running = await router(first)
    client = await running.connect()
    for _ in range(3):
        await client.send(CHUNKED)
        answer = await client.answer()
        assert (answer.status, answer.header("connection")) == (200, None)


async def test_a_last_answer_is_not_cut_while_it_is_read(router: StartRouter, first: ScriptedUpstream) -> None:
    """The end of a connection waits for a slow reader of its last answer, but no longer than any write may take."""
    body = b'{"choices":["' + b"x" * 1_000_000 + b'"]}'
    first.always(json_answer(body))
    running = await router(first, requests={"write_timeout": "10s"})
    for patience_s, ending in ((9, Ending.CLEAN), (11, Ending.ABORTED)):
        client = await running.connect(receive_buffer=4096)
        client.stop_reading()
        await until(lambda: running.daemon._relay.connections)
        (connection,) = running.daemon._relay.connections
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.send_now(CHUNKED + b"and more")
        await until(lambda: connection._closing and connection._current is None, "the end")  # noqa: B023 (awaited here)
        assert connection._timer is not None
        connection._timer.cancel()
        connection._lingered(time.monotonic() - patience_s)
        client.go_on_reading()
        assert (await client.answer()).ending is ending
        await client.ended()
        await running.rest()


async def test_a_connection_carries_many_requests(router: StartRouter, first: ScriptedUpstream) -> None:
    """Keep-alive works across answers, streams and our own errors."""
    first.then(json_answer(), sse_stream(*chat.answer("a")))
    running = await router(first)
    client = await running.connect()
    statuses = []
    for body in (chat.request(), chat.request(stream=True), b"{}", chat.request(model="nobody"), chat.request()):
        await client.send(post(body))
        statuses.append((await client.answer()).status)
    assert statuses == [200, 200, 400, 404, 200]


async def test_http_1_0_gets_no_chunks(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client of HTTP/1.0 gets a stream that ends with the connection, without chunk framing."""
    first.then(json_answer(), sse_stream(*chat.answer("Hi")))
    running = await router(first)
    for stream, expected in ((False, chat.completion()), (True, b"".join((*chat.answer("Hi"), chat.DONE)))):
        client = await running.connect()
        await client.send(post(chat.request(stream=stream)).replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = await client.answer()
        assert answer.header("transfer-encoding") is None
        assert (answer.body, answer.ending) == (expected, Ending.CLEAN)
        assert await client.ended() == b""


async def test_connection_close_is_obeyed(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client that asks for it gets a closed connection after its answer, streams included."""
    first.then(json_answer(), sse_stream(*chat.answer("Hi")))
    running = await router(first)
    for stream in (False, True):
        client = await running.open(chat.request(stream=stream), "Connection: close")
        answer = await client.answer()
        assert (answer.status, answer.ending) == (200, Ending.CLEAN)
        assert (answer.header("connection") or "").lower() == "close"
        assert await client.ended() == b""


async def test_a_body_that_stalls_is_ended(router: StartRouter, first: ScriptedUpstream) -> None:
    """Without progress for so long the client gets 408 and a closed connection."""
    running = await router(first, requests={"body_timeout": "100ms"})
    client = await running.connect()
    await client.send(post(chat.request())[:-5])
    answer = await client.answer()
    assert (answer.status, answer.error["reason"]) == (408, "request_timeout")
    assert await client.ended() == b""
    assert first.received == []


async def test_a_slow_body_with_progress_is_served(router: StartRouter, first: ScriptedUpstream) -> None:
    """The body's deadline is one of progress, not of total time."""
    running = await router(first, requests={"body_timeout": "250ms"})
    client = await running.connect()
    request = post(chat.request())
    end = request.index(b"\r\n\r\n") + 4
    await client.send(request[:end])
    for position in range(end, end + 5):
        await client.send(request[position : position + 1])
        await asyncio.sleep(0.1)
    await client.send(request[end + 5 :])
    assert (await client.answer()).status == 200


async def test_a_slow_head_is_ended(router: StartRouter, first: ScriptedUpstream) -> None:
    """A head that does not become complete is closed after its deadline, however steadily it drips."""
    running = await router(first, requests={"head_timeout": "150ms"})
    client = await running.connect()

    async def drip_for_ever() -> None:
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\n")
        while not client.closed.is_set():
            await client.send(b"x-a: b\r\n")
            await asyncio.sleep(0.02)

    async with asyncio.timeout(10):
        await drip_for_ever()
    assert first.received == []
    assert client.unread == b"" or client.unread.startswith(b"HTTP/1.1 408")


async def test_idle_connections_are_closed(router: StartRouter, first: ScriptedUpstream) -> None:
    """A connection that carries nothing is closed after its time, before and after a request."""
    running = await router(first, requests={"keepalive": "100ms", "head_timeout": "100ms"})
    fresh, used = await running.connect(), await running.open()
    assert (await used.answer()).status == 200
    assert await fresh.ended() == b""
    assert await used.ended() == b""


async def test_a_long_wait_is_not_an_idle_connection(router: StartRouter, first: ScriptedUpstream) -> None:
    """The deadlines of idle connections and heads do not run while an answer is awaited."""
    go_on = asyncio.Event()
    first.always(play(wait_for(go_on), json_answer()))
    requests = {"keepalive": "50ms", "head_timeout": "50ms", "body_timeout": "50ms", "write_timeout": "50ms"}
    running = await router(first, requests=requests)
    waiting = await running.open()
    idle = await running.connect()
    await idle.ended()
    go_on.set()
    assert (await waiting.answer()).status == 200


async def test_many_clients_at_once(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """Two hundred requests at once over two members all succeed and leave nothing behind."""
    running = await router(first, second, same_tier=True)
    answers = await asyncio.gather(*(running.post() for _ in range(200)))
    assert [answer.status for answer in answers] == [200] * 200
    assert len(first.received) + len(second.received) == 200
    assert min(len(first.received), len(second.received)) > 20
