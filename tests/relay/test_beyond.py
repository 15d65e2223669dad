"""Faults that the catalogue of RELIABILITY 6 does not name: answers, clients, changes and accounts that nobody expects.

Each row says what goes wrong; what is right then is what DESIGN 5 and PROTOCOL say.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from router.events import Outcome, UpstreamEjected
from tests.harness import chat
from tests.harness.client import Ending, post
from tests.harness.router import CLIENT_SECRET, OTHER_SECRET, config
from tests.harness.upstream import (
    Script,
    ScriptedUpstream,
    Turn,
    chunks,
    cut,
    drip,
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
    wait_for,
)
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.router import Settings
    from tests.relay.conftest import StartRouter

OK_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
BODY = chat.completion()
SIZED = b"content-length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = OK_HEAD + b"transfer-encoding: chunked\r\n"
STREAM = (*chat.answer("Hel", "lo"), chat.DONE)
WHOLE = b"".join(STREAM)
USAGE = chat.usage_event(5, 7)
FAILED = chat.event(json.loads(chat.error_body("engine died")))
LIMITS = {"concurrency": 100, "tokens_per_minute": 10_000_000, "requests_per_minute": 100_000}
TEAM: Settings = {"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": LIMITS}}
NEW = {"env": "OTHER_SECRET"}


def chunk(data: bytes, size: bytes = b"%x", extension: bytes = b"") -> bytes:
    return size % len(data) + extension + b"\r\n" + data + b"\r\n"


# Whole answers


GOOD: dict[str, bytes] = {
    "early hints with links": head(103, "link: </a>; rel=preload") * 20 + OK_HEAD + SIZED,
    "a length and blanks around it": OK_HEAD + b"content-length:   289  \r\n\r\n" + BODY,
    "chunk sizes with leading zeros": CHUNKED + b"\r\n" + chunk(BODY, b"000000%x") + b"0000\r\n\r\n",
    "chunk sizes in capitals": CHUNKED + b"\r\n" + chunk(BODY, b"%X") + b"0\r\n\r\n",
    "a flood of chunk extensions": CHUNKED + b"\r\n" + chunk(BODY, extension=b";a=b" * 5000) + b"0;c=d\r\n\r\n",
    "trailers": CHUNKED + b"trailer: x-sum\r\n\r\n" + chunk(BODY) + b"0\r\nx-sum: 1\r\n\r\n",
    "a trailer that tells a length": CHUNKED + b"\r\n" + chunk(BODY) + b"0\r\ncontent-type: text/html\r\n\r\n",
    "the type in capitals": b"HTTP/1.1 200 OK\r\nContent-Type: APPLICATION/JSON\r\n" + SIZED,
    "no type": b"HTTP/1.1 200 OK\r\n" + SIZED,
    "an odd charset": b"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=ebcdic\r\n" + SIZED,
    "no phrase": b"HTTP/1.1 200\r\n" + SIZED,
    "blank lines before the body": OK_HEAD + b"content-length: 299\r\n\r\n" + b"\n" * 10 + BODY,
    "closes behind it": OK_HEAD + b"connection: close\r\n" + SIZED,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n" + SIZED,
}


@pytest.mark.parametrize("step", [0, 7], ids=["at_once", "dripped"])
@pytest.mark.parametrize("wire", GOOD.values(), ids=GOOD)
async def test_an_odd_answer_is_an_answer(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, wire: bytes, step: int
) -> None:
    """However strangely it is framed, a whole answer arrives whole, and the next request gets its own."""
    first.then(drip(wire, step * 97) if step else send(wire)).always(json_answer(b'{"choices":["next"]}'))
    running = await router(first, second)
    answer = await running.post()
    assert (answer.status, answer.ending, answer.body.lstrip()) == (200, Ending.CLEAN, BODY)
    assert running.causes() == [("first", "ok")]
    assert (await running.post()).json["choices"] == ["next"]


BAD: dict[str, bytes] = {
    "nothing": OK_HEAD + b"content-length: 0\r\n\r\n",
    "white space": OK_HEAD + b"content-length: 3\r\n\r\n \r\n",
    "garbage behind the object": OK_HEAD + b"content-length: 294\r\n\r\n" + BODY + b" oops",
    "two objects": OK_HEAD + b"content-length: 578\r\n\r\n" + BODY * 2,
    "a list": OK_HEAD + b"content-length: 291\r\n\r\n[" + BODY + b"]",
    "a string": OK_HEAD + b'content-length: 4\r\n\r\n"ok"',
    "null": OK_HEAD + b"content-length: 4\r\n\r\nnull",
    "an object never closed": OK_HEAD + b"content-length: 6\r\n\r\n" + b'{"a":1',
    "another answer's head in its body": CHUNKED + b"\r\n" + chunk(BODY) + OK_HEAD + b"\r\n",
    "a chunk size that is negative": CHUNKED + b"\r\n-1\r\n" + BODY,
    "a chunk size with a sign": CHUNKED + b"\r\n+121\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk size too large to be one": CHUNKED + b"\r\n" + b"f" * 17 + b"\r\n" + BODY,
    "two lengths": OK_HEAD + b"content-length: 289\r\ncontent-length: 288\r\n\r\n" + BODY,
    "a length and chunks": CHUNKED + b"content-length: 289\r\n\r\n" + chunk(BODY) + b"0\r\n\r\n",
    "a head that is folded": OK_HEAD + b"x-a: b\r\n c\r\n" + SIZED,
    "an interim answer only": head(100) + head(103) + head(102),
    "interim answers for ever": head(103, "link: " + "a" * 1000) * 100,
    "HTTP/2": b"HTTP/2 200\r\n" + SIZED,
    "a request": post(BODY),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("wire", BAD.values(), ids=BAD)
async def test_what_is_no_answer_is_given_by_another(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, wire: bytes, *, stream: bool
) -> None:
    """What no client could read is not passed on: the next member answers, and the connection serves nobody else."""
    first.always(play(send(wire), cut()))
    second.always(sse_stream(*chat.answer("Hello")) if stream else json_answer())
    running = await router(first, second)
    answer = await running.post(chat.request(stream=stream))
    assert (answer.status, answer.ending, b"Hello" in answer.body) == (200, Ending.CLEAN, True)
    assert [upstream for upstream, _ in running.causes()] == ["first", "second"]
    assert running.causes()[0][1] in {"protocol", "disconnect", "disconnect_mid_stream", "wrong_content_type"}


BLANKS = {"before": b"\r\n", "two before": b"\r\n\r\n", "behind an interim one": head(100) + b"\r\n\r\n"}


@pytest.mark.parametrize("blank", BLANKS.values(), ids=BLANKS)
async def test_blank_lines_before_a_head_hide_none_of_it(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, blank: bytes
) -> None:
    """A head behind stray line ends is read whole or not at all: its type is not lost."""
    for upstream in (first, second):
        upstream.always(json_answer(None, "x-kept: yes"))
    first.then(play(send(blank), json_answer(None, "x-kept: yes")))
    answer = await (await router(first, second)).post()
    assert (answer.status, answer.body) == (200, BODY)
    assert (answer.header("content-type"), answer.header("x-kept")) == ("application/json", "yes")


GHOST = OK_HEAD + b"content-length: 20\r\n\r\n" + b'{"choices":["ghost"]}'[:20]


async def test_an_answer_that_nobody_asked_for_meets_nobody(router: StartRouter, first: ScriptedUpstream) -> None:
    """What comes on an idle connection ends it: the next request, of another client, gets its own answer."""
    running = await router(first, upstream={"keepalive": "60s"})
    for number in range(1, 4):
        assert (await running.post()).body == BODY
        connection = first.connections[-1]
        connection.transport.write(GHOST)
        await until(connection.gone.is_set, "the connection to be closed")
        assert len(first.connections) == number
    assert [received.place for received in first.received] == [0] * 3


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_two_final_answers_to_one_request(router: StartRouter, first: ScriptedUpstream, *, stream: bool) -> None:
    """The first counts; the second, in the same packet or behind, is nobody's, whoever asks next."""
    one = head(200, chat.CONTENT_TYPE_SSE, "transfer-encoding: chunked") + chunk(WHOLE) + b"0\r\n\r\n"
    one = one if stream else OK_HEAD + SIZED
    first.then(send(one + GHOST), play(send(one), send(GHOST)))
    running = await router(first)
    for _ in range(2):
        assert (await running.post(chat.request(stream=stream))).body == (WHOLE if stream else BODY)
        await first.received[-1].left()
    assert (await running.post()).body == BODY
    assert len(first.connections) == 3


async def test_an_answer_before_the_request_was_read(router: StartRouter, first: ScriptedUpstream) -> None:
    """An upstream that answers a body of 10 MB by its head: the answer counts, its connection is not used again."""
    asked = asyncio.Event()

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK_HEAD + SIZED)
        await asked.wait()
        writer.close()

    async with await asyncio.start_server(early, "127.0.0.1", 0) as server:
        running = await router(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", first)
        answer = await running.post(chat.request(user="x" * 10_000_000))
        assert (answer.status, answer.body) == (200, BODY)
        assert running.causes() == [("first", "ok")]
        assert running.daemon.state()["idle_upstream_connections"] == 0
        asked.set()


@pytest.mark.parametrize("size", [1000, 300_000, 20_000_000])
async def test_a_refusal_before_the_request_was_read(router: StartRouter, size: int) -> None:
    """An upstream that refuses by the head and hangs up: its words reach the client, and it is not asked again."""
    asked = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        lines = head(413, chat.CONTENT_TYPE_JSON, "connection: close", f"content-length: {len(chat.error_body())}")
        writer.write(lines + chat.error_body())
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        running = await router(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        answer = await running.post(chat.request(user="x" * size))
        assert (answer.status, answer.body) == (413, chat.error_body())
        assert asked == 1


# Streams


STREAMS: dict[str, tuple[bytes, ...]] = {
    "[DONE] twice": (*STREAM, chat.DONE),
    "events behind [DONE]": (*STREAM, chat.token("ghost"), FAILED),
    "usage behind [DONE]": (*STREAM, USAGE, chat.DONE),
    "a finish reason twice": (*STREAM[:-1], chat.finish(), chat.DONE),
    "the role again and again": (chat.role(), chat.role(), *STREAM[1:2], chat.role(), *STREAM[2:]),
    "usage before the content": (USAGE, *STREAM),
    "two usage events": (*STREAM[:-1], chat.usage_event(1, 1), USAGE, chat.DONE),
    "a byte order mark in the middle": (*STREAM[:2], b"\xef\xbb\xbf", *STREAM[2:]),
    "NUL in a comment": (*STREAM[:2], b": \0\0\n\n", *STREAM[2:]),
    "NUL in a name": (*STREAM[:2], b"da\0ta: x\n\n", *STREAM[2:]),
    "an id with NUL": (*STREAM[:2], b"id: \0\n", *STREAM[2:]),
    "a thousand blank lines": (*STREAM[:2], b"\n" * 1000, *STREAM[2:]),
    "text that says [DONE]": (chat.role(), chat.token("data: [DONE]\n\n"), *STREAM[1:]),
    "text that says error": (chat.role(), chat.token('"error":{"message":"x"},"usage":{}'), *STREAM[1:]),
}
VISIBLE: dict[str, tuple[bytes, ...]] = {
    name: tuple(event for event in events if event not in {USAGE, chat.usage_event(1, 1)})
    for name, events in STREAMS.items()
}


@pytest.mark.parametrize("cut_into", ["events", "one", "bytes"])
@pytest.mark.parametrize("name", STREAMS)
async def test_an_odd_stream_ends_where_it_says(
    router: StartRouter, first: ScriptedUpstream, name: str, cut_into: str
) -> None:
    """All of it up to the first `[DONE]` arrives as it was, but for the usage nobody asked for; nothing behind it."""
    wire = b"".join(STREAMS[name])
    script = {
        "events": chunks(*STREAMS[name]),
        "one": chunks(wire),
        "bytes": play(*(chunks(*(wire[at : at + 11] for at in range(0, len(wire), 11))),)),
    }[cut_into]
    first.then(play(sse_head(), script, last_chunk()))
    running = await router(first)
    answer = await running.stream()
    visible = b"".join(VISIBLE[name])
    visible = visible[: visible.index(b"\n" + chat.DONE) + 1 + len(chat.DONE)]
    assert (answer.ending, answer.body) == (Ending.CLEAN, visible)
    record = await running.record()
    assert (record.outcome, record.complete) == (Outcome.OK, True)
    reported = any(event == USAGE for event in STREAMS[name][: STREAMS[name].index(chat.DONE)])
    assert (record.usage.total if record.usage else None) == (12 if reported else None)
    assert (await running.post()).body == BODY


LOST: dict[str, tuple[bytes, ...]] = {
    "[DONE] and nothing else": (chat.DONE,),
    "[DONE] behind the role": (chat.role(), chat.DONE),
    "usage and [DONE]": (USAGE, chat.DONE),
    "[DONE], and content behind": (chat.DONE, *STREAM),
    "an empty data line": (b"data:\n\n", *STREAM),
    "a list": (b"data: []\n\n", *STREAM),
    "an error event": (b"event: error\ndata: nonsense\n\n", *STREAM),
    "comments only": (b": a\n\n",) * 50,
    "nothing": (),
}


@pytest.mark.parametrize("events", LOST.values(), ids=LOST)
async def test_a_stream_without_content_is_given_by_another(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, events: tuple[bytes, ...]
) -> None:
    """What ends before it began has shown the client nothing: another member answers, and nothing of this is left."""
    first.always(play(sse_head(), chunks(*events), last_chunk()))
    second.always(sse_stream(*STREAM[:-1]))
    running = await router(first, second)
    answer = await running.stream()
    assert (answer.status, answer.ending, answer.body) == (200, Ending.CLEAN, WHOLE)
    assert [upstream for upstream, _ in running.causes()] == ["first", "second"]


ENDS: dict[str, tuple[tuple[bytes, ...], Outcome, Ending]] = {
    "an error behind the finish reason": ((*STREAM[:-1], FAILED), Outcome.UPSTREAM_ERROR, Ending.ABORTED),
    "an error behind the finish reason, and [DONE]": (
        (*STREAM[:-1], FAILED, chat.DONE),
        Outcome.UPSTREAM_ERROR,
        Ending.CLEAN,
    ),
    "two errors": ((*STREAM[:-2], FAILED, FAILED), Outcome.UPSTREAM_ERROR, Ending.ABORTED),
    "content behind the error": ((*STREAM[:-2], FAILED, chat.token("x")), Outcome.UPSTREAM_ERROR, Ending.ABORTED),
}


@pytest.mark.parametrize(("events", "outcome", "ending"), ENDS.values(), ids=ENDS)
async def test_an_error_at_an_odd_place_is_an_error(
    router: StartRouter, first: ScriptedUpstream, events: tuple[bytes, ...], outcome: Outcome, ending: Ending
) -> None:
    """It arrives as it was said, is never followed by a marker of ours, and no record calls the answer whole."""
    first.always(play(sse_head(), chunks(*events), last_chunk()))
    running = await router(first)
    answer = await running.stream()
    assert (answer.ending, answer.body) == (ending, b"".join(events))
    record = await running.record()
    assert (record.outcome, record.complete) == (outcome, False)


BROKEN: dict[str, Script] = {
    "a second head inside the chunks": send(chunk(b"".join(STREAM[:2])) + OK_HEAD + b"\r\n" + chunk(WHOLE)),
    "a size that is none": send(chunk(b"".join(STREAM[:2])) + b"zz\r\n"),
    "a trailer inside an event": send(chunk(STREAM[0] + STREAM[1] + STREAM[2][:20]) + b"0\r\nx-a: b\r\n\r\n"),
    "a chunk longer than it says": send(chunk(b"".join(STREAM[:2])) + b"5\r\n" + STREAM[2] + b"\r\n"),
    "a half close": play(chunks(*STREAM[:2]), cut()),
    "a reset": play(chunks(*STREAM[:2]), reset()),
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
async def test_a_stream_with_broken_framing_is_broken(
    router: StartRouter, first: ScriptedUpstream, script: Script
) -> None:
    """Whole events that came before arrive, then an error and an abort; neither a marker nor half an event follows."""
    first.then(play(sse_head(), script))
    running = await router(first)
    answer = await running.stream()
    assert answer.ending is Ending.ABORTED
    assert tuple(answer.events[:2]) == STREAM[:2]
    assert json.loads(answer.events[-1].removeprefix(b"data: "))["error"]["code"] == 502
    assert len(answer.events) == 3
    assert not (await running.record()).complete
    assert (await running.post()).body == BODY


TYPES = {
    "capitals": ("content-type: Text/Event-Stream", True),
    "no blank": ("content-type:text/event-stream;charset=UTF-8", True),
    "an odd charset": ('content-type: text/event-stream; charset="latin-1"', True),
    "missing": ("x-a: b", False),
    "plain text": ("content-type: text/plain", False),
    "JSON lines": ("content-type: application/x-ndjson", False),
}


@pytest.mark.parametrize(("line", "known"), TYPES.values(), ids=TYPES)
async def test_a_stream_is_known_by_its_type(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, line: str, known: bool
) -> None:
    """However it is spelt; a body of another type is no stream, and clients never get it as one (PROTOCOL 1.4)."""
    first.always(play(send(head(200, line, "transfer-encoding: chunked")), chunks(*STREAM), last_chunk()))
    second.always(sse_stream(*STREAM[:-1]))
    running = await router(first, second)
    answer = await running.stream()
    assert (answer.status, answer.ending, answer.body) == (200, Ending.CLEAN, WHOLE)
    assert [upstream for upstream, _ in running.causes()] == (["first"] if known else ["first", "second"])


CODED = (
    head(200, "content-type: audio/mpeg", "transfer-encoding: gzip, chunked") + chunk(b"\x1f\x8b\x08") + b"0\r\n\r\n"
)


async def test_a_transfer_coding_that_nobody_knows_is_no_answer(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """What is coded on the way, and not decoded here, is not the body: another member gives that (RFC 9112 6.1)."""
    first.always(send(CODED))
    second.always(send(head(200, "content-type: audio/mpeg", "content-length: 3") + b"ID3"))
    running = await router(first, second)
    client = await running.connect()
    await client.send(post(b'{"model":"m","input":"a","voice":"b"}', path="/v1/audio/speech"))
    answer = await client.answer()
    assert (answer.status, answer.body) == (200, b"ID3")
    assert running.causes() == [("first", "protocol"), ("second", "ok")]


async def test_a_stream_of_no_length_is_none(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """`Content-Length: 0` on a stream is an empty stream, and another member gives the answer."""
    first.always(send(head(200, chat.CONTENT_TYPE_SSE, "content-length: 0")))
    second.always(sse_stream(*STREAM[:-1]))
    running = await router(first, second)
    assert (await running.stream()).body == WHOLE
    assert running.causes() == [("first", "empty_stream"), ("second", "ok")]


def named(kind: str, **members: Any) -> bytes:
    """An event of the Messages API."""
    return b"event: %b\n" % kind.encode() + chat.event({"type": kind} | members)


STOP = named("message_stop")
OPENING = (
    named("message_start", message={"id": "msg_1", "usage": {"input_tokens": 5, "output_tokens": 1}}),
    named("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hi"}),
    named("content_block_stop", index=0),
)
ENOUGH = named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3})
MORE = named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7})
OVERLOADED = named("error", error={"type": "overloaded_error", "message": "Overloaded"})
MESSAGES: dict[str, tuple[tuple[bytes, ...], tuple[bytes, ...], Outcome, int]] = {
    "whole": ((ENOUGH, STOP), (ENOUGH, STOP), Outcome.OK, 8),
    "the end twice": ((ENOUGH, STOP, STOP), (ENOUGH, STOP), Outcome.OK, 8),
    "content behind the end": ((ENOUGH, STOP, OPENING[1]), (ENOUGH, STOP), Outcome.OK, 8),
    "an error behind the end": ((ENOUGH, STOP, OVERLOADED), (ENOUGH, STOP), Outcome.OK, 8),
    "usage twice": ((ENOUGH, MORE, STOP), (ENOUGH, MORE, STOP), Outcome.OK, 12),
    "no usage at the end": ((STOP,), (STOP,), Outcome.OK, 6),
    "no end": ((ENOUGH,), (ENOUGH, STOP), Outcome.OK, 8),
    "the end of another dialect": ((ENOUGH, chat.DONE), (ENOUGH, chat.DONE, STOP), Outcome.OK, 8),
    "an error and the end": ((OVERLOADED, STOP), (OVERLOADED, STOP), Outcome.UPSTREAM_ERROR, 6),
    "an error": ((OVERLOADED,), (OVERLOADED,), Outcome.OVERLOADED, 6),
    "an error behind the reason": ((ENOUGH, OVERLOADED), (ENOUGH, OVERLOADED), Outcome.OVERLOADED, 8),
}


@pytest.mark.parametrize("end", [last_chunk(), cut()], ids=["ends", "is cut"])
@pytest.mark.parametrize(("said", "heard", "outcome", "charged"), MESSAGES.values(), ids=MESSAGES)
async def test_an_odd_end_of_a_message(
    router: StartRouter,
    first: ScriptedUpstream,
    *,
    said: tuple[bytes, ...],
    heard: tuple[bytes, ...],
    outcome: Outcome,
    charged: int,
    end: Script,
) -> None:
    """Nothing follows `message_stop`, which follows every reason to stop; an error stays one, however all ends."""
    first.always(play(sse_head(), chunks(*OPENING, *said), end))
    keys = {"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": {"tokens_per_minute": 100_000}}}
    running = await router(first, upstream={"protocol": "anthropic"}, keys=keys)
    async with await running.connect() as client:
        body = b'{"model":"m","max_tokens":5,"stream":true,"messages":[]}'
        await client.send(post(body, path="/v1/messages", key=CLIENT_SECRET))
        answer = await client.answer()
    assert answer.events == [*OPENING, *heard]
    assert answer.ending is (Ending.CLEAN if STOP in heard else Ending.ABORTED)
    record = await running.record()
    assert (record.outcome, record.complete) == (outcome, outcome is Outcome.OK)
    assert (record.usage.total if record.usage else 0, record.charged_tokens) == (charged, charged)


# Clients


async def test_who_pipelines_and_leaves_is_served_once(router: StartRouter, first: ScriptedUpstream) -> None:
    """Two requests at once, and gone behind the first answer: the second's upstream is left, its record says so."""
    first.then(json_answer()).always(stall())
    running = await router(first)
    client = await running.connect()
    await client.send(post(chat.request()) * 2)
    assert (await client.answer()).status == 200
    second = await first.asked(2)
    await client.leave()
    await second.left()
    await running.record(2)
    assert [record.outcome for record in running.ended] == [Outcome.OK, Outcome.CLIENT_GONE]


@pytest.mark.parametrize("how", ["leave", "reset"])
async def test_who_pipelines_behind_a_stream_and_breaks_off(
    router: StartRouter, first: ScriptedUpstream, how: str
) -> None:
    """The stream's upstream is left at once; what was sent ahead was never begun and has no record."""
    first.always(play(sse_head(), chunks(*STREAM[:2]), stall()))
    running = await router(first)
    client = await running.connect()
    await client.send(post(chat.request(stream=True)) + post(chat.request()) + post(chat.request())[:40])
    await client.head()
    await client.until(b"Hel")
    if how == "leave":
        await client.leave()
    else:
        client.reset()
    await first.received[0].left()
    await running.record()
    await running.rest()
    assert [record.outcome for record in running.ended] == [Outcome.CLIENT_GONE]
    assert len(first.received) == 1


async def test_who_floods_while_a_stream_runs_gets_it_whole(router: StartRouter, first: ScriptedUpstream) -> None:
    """Megabytes sent ahead are not kept; the stream arrives whole, and then the connection ends."""
    go_on = asyncio.Event()
    first.always(play(sse_head(), chunks(*STREAM[:2]), wait_for(go_on), chunks(*STREAM[2:]), last_chunk()))
    running = await router(first)
    client = await running.open(chat.request(stream=True))
    await client.head()
    await client.until(b"Hel")
    client.transport.write(post(chat.request()) * 50_000)
    await running.caught_up(client)
    go_on.set()
    assert ((await client.rest()).ending, client.current.body if client.current else b"") == (Ending.CLEAN, WHOLE)
    assert await client.ended() == b""
    assert (len(running.ended), len(first.received)) == (1, 1)


HALVES = {
    "half a head": post(chat.request())[:30],
    "half a body": post(chat.request())[:-3],
    "half a chunk": post(b"", framing="Transfer-Encoding: chunked") + b"40\r\nabc",
    "chunks without the last": post(b"", framing="Transfer-Encoding: chunked") + chunk(chat.request()),
    "a body that waits for leave": post(chat.request(), "Expect: 100-continue")[: -len(chat.request())],
}


@pytest.mark.parametrize("how", ["half_close", "reset"])
@pytest.mark.parametrize("part", HALVES.values(), ids=HALVES)
async def test_half_a_request_reaches_nobody(
    router: StartRouter, first: ScriptedUpstream, part: bytes, how: str
) -> None:
    """Who ends in the middle is forgotten: nothing is forwarded, nothing stays, no limit is charged."""
    running = await router(first, keys={"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": {"concurrency": 1}}})
    client = await running.connect()
    await client.send(part.replace(b"\r\n", f"\r\nAuthorization: Bearer {CLIENT_SECRET}\r\n".encode(), 1))
    await running.caught_up(client)
    getattr(client, how)()
    await until(lambda: not running.daemon._relay.connections, "the connection to be gone")
    assert first.received == []
    assert {record.charged_tokens for record in running.ended} <= {0}
    assert (await running.post(key=CLIENT_SECRET)).status == 200


async def test_a_body_longer_than_it_says(router: StartRouter, first: ScriptedUpstream) -> None:
    """What is behind the body is the next request; if it is none the client is told, and nothing of it is forwarded."""
    running = await router(first)
    client = await running.connect()
    await client.send(post(chat.request()) + b"xyz" + post(chat.request()))
    assert (await client.answer()).status == 200
    refused = await client.answer()
    assert (refused.status, refused.error["reason"]) == (400, "malformed_http")
    await client.ended()
    assert len(first.received) == 1


REFUSED: dict[str, tuple[bytes, int, bool]] = {
    "a wrong method with a body": (post(b"x" * 100, method="PUT", key=CLIENT_SECRET), 405, True),
    "no key": (post(chat.request()), 401, True),
    "a wrong key": (post(chat.request(), key="sk-wrong"), 401, True),
    "a wrong method": (post(b"", method="GET", key=CLIENT_SECRET), 405, True),
    "an unknown model": (post(chat.request(model="x"), key=CLIENT_SECRET), 404, True),
    "no JSON": (post(b"[", key=CLIENT_SECRET), 400, True),
    "an unknown coding": (post(b"x", "Content-Encoding: br", key=CLIENT_SECRET), 415, True),
    "too large": (post(b"x" * 70_000, key=CLIENT_SECRET), 413, False),
    "malformed": (b"POST /v1/chat/completions HTTP/1.1\r\nHost a\r\n\r\n", 400, False),
}


@pytest.mark.parametrize(("request_bytes", "status", "stays"), REFUSED.values(), ids=REFUSED)
async def test_a_connection_behind_a_refusal(
    router: StartRouter, first: ScriptedUpstream, request_bytes: bytes, status: int, *, stays: bool
) -> None:
    """It serves the next request, or it says that it will not and ends; it never answers the next with the first."""
    keys = {"team": {"secret": {"env": "CLIENT_SECRET"}}}
    running = await router(first, keys=keys, requests={"body_max": 65536})
    client = await running.connect()
    await client.send(request_bytes)
    refused = await client.answer()
    assert refused.status == status
    assert ((refused.header("connection") or "").lower() == "close") is not stays
    if stays:
        await client.send(post(chat.request(), key=CLIENT_SECRET))
        assert (await client.answer()).body == BODY
    else:
        assert await client.ended() == b""


async def test_what_is_sent_behind_a_close_is_not_served(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client that asks for the end and pipelines all the same gets one answer and the end."""
    running = await router(first)
    client = await running.connect()
    await client.send(post(chat.request(), "Connection: close") + post(chat.request()))
    assert (await client.answer()).header("connection") == "close"
    assert await client.ended() == b""
    assert len(first.received) == 1


async def test_http_1_0_is_not_told_to_go_on(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client of HTTP/1.0 knows no interim answers, whatever it expects (RFC 9110 section 10.1.1)."""
    running = await router(first)
    client = await running.connect()
    data = post(chat.request(), "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    await client.send(data[:-5])
    await running.caught_up(client)
    await client.send(data[-5:])
    answer = await client.answer()
    assert (answer.status, answer.interim) == (200, [])


async def test_a_kept_connection_does_not_outlive_its_key(router: StartRouter, first: ScriptedUpstream) -> None:
    """The same head again, on the same connection, is judged by the configuration of its time."""
    running = await router(first, keys=TEAM)
    client = await running.connect()
    for keys, status in ((TEAM, 200), (TEAM, 200), ({"team": {"secret": NEW}}, 401), (TEAM, 200)):
        await running.reload(config(first, keys=keys))
        await client.send(post(chat.request(), key=CLIENT_SECRET))
        assert (await client.answer()).status == status


async def test_blank_lines_keep_a_connection(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client that sends empty lines between its requests is served all the same."""
    running = await router(first)
    client = await running.connect()
    for _ in range(5):
        await client.send(b"\r\n\r\n")
        await running.caught_up(client)
        await client.send(b"\r\n" + post(chat.request()))
        assert (await client.answer()).body == BODY


async def test_a_thousand_requests_on_one_connection(router: StartRouter, first: ScriptedUpstream) -> None:
    """Sent four at a time, streams among them: each is answered in its place and has its record."""
    first.always(lambda turn: (sse_stream(*STREAM[:-1]) if turn.request.json.get("stream") else json_answer())(turn))
    running = await router(first)
    client = await running.connect()
    for _ in range(250):
        await client.send(post(chat.request()) + post(chat.request(stream=True)) + post(chat.request()) * 2)
        assert [(await client.answer()).body for _ in range(4)] == [BODY, WHOLE, BODY, BODY]
    await running.record(1000)
    assert len(first.connections) == 1


async def test_http_1_0_may_keep_its_connection(router: StartRouter, first: ScriptedUpstream) -> None:
    """It says that it keeps it, and gets a whole answer; a stream ends it, as nothing else could end the stream."""
    first.then(json_answer(), json_answer()).always(sse_stream(*STREAM[:-1]))
    running = await router(first)
    client = await running.connect()
    for body in (chat.request(), chat.request(), chat.request(stream=True)):
        await client.send(post(body, "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        answer = await client.answer()
        assert answer.ending is Ending.CLEAN
        keeps = body != chat.request(stream=True)
        assert answer.body == (BODY if keeps else WHOLE)
        assert (answer.header("connection") or "").lower() == ("keep-alive" if keeps else "close")
    assert await client.ended() == b""


async def test_who_reads_one_byte_and_stops(router: StartRouter, first: ScriptedUpstream) -> None:
    """Its write deadline ends it and its upstream; another client is served meanwhile."""

    async def talk(turn: Turn) -> None:
        await sse_head()(turn)
        while True:
            await turn.chunk(chat.token("x" * 10_000))

    first.then(talk)
    running = await router(first, requests={"write_timeout": "200ms"})
    client = await running.open(chat.request(stream=True), receive_buffer=4096)
    await until(lambda: client.unread, "the first byte")
    client.stop_reading()
    assert (await running.post()).status == 200
    await first.received[0].left()
    await running.record(2)
    assert running.ended[1].outcome is Outcome.CLIENT_GONE


# Change


AT_ONCE = 50


class Change(NamedTuple):
    """An edit of the file, at a path of it, and what a new request then meets."""

    path: str
    value: Any
    status: int = 200
    at: str = "first"
    """The server, not the name, that answers it."""
    model: str = "m"
    key: str = CLIENT_SECRET


CHANGES: dict[str, Change] = {
    "weight 0": Change("models.m.pool.0.weight", 0, at="second"),
    "another tier": Change("models.m.pool.0.tier", 3, at="second"),
    "out of the pool": Change("models.m.pool", [{"upstream": "second"}], at="second"),
    "another base_url": Change("upstreams.first.base_url", "SECOND", at="second"),
    "another protocol": Change("upstreams.first.protocol", "anthropic", at="second"),
    "another credential": Change("upstreams.first.api_key", NEW),
    "no connections kept": Change("upstreams.first.keepalive", "1ms"),
    "a full upstream": Change("upstreams.first.limits", {"concurrency": 1}, at="second"),
    "an upstream's rate used up": Change("upstreams.first.limits", {"requests_per_minute": 1}),
    "another name there": Change("models.m.pool.0.model", "elsewhere"),
    "a renamed model": Change("models", {"n": {"pool": ["first"]}}, model="n"),
    "a deleted model": Change("models", {"n": {"pool": ["first"]}}, status=404),
    "shorter deadlines": Change("models.m.timeouts", {"idle": "20ms", "total": "20ms", "first_token": "20ms"}),
    "a key's secret": Change("keys.team.secret", NEW, key=OTHER_SECRET),
    "a key's old secret": Change("keys.team.secret", NEW, status=401),
    "a key deleted": Change("keys", {"other": {"secret": NEW}}, status=401),
    "a key disabled": Change("keys.team.disabled", True, status=401),
    "a key without the model": Change("keys.team.models", ["x*"], status=403),
    "fewer at once": Change("keys.team.limits.concurrency", 1, status=429),
    "fewer tokens": Change("keys.team.limits.tokens_per_minute", 100, status=429),
    "small bodies": Change("requests.body_max", 10, status=413),
    "smaller memory": Change("requests.bodies_total_max", 10, status=503),
    "other heartbeats": Change("defaults.streams", {"heartbeat": "10ms", "hold": "10ms"}),
    "string codes": Change("errors", {"code_style": "string"}),
}


def edited(settings: Settings, path: str, value: Any) -> Settings:
    """The same but for one setting."""
    place: Any = settings
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
    place[last] = value
    return settings


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_change_under_fifty_streams_harms_none(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, change: Change
) -> None:
    """What runs ends by the configuration that it began with, whole; what is new goes by the new one."""
    go_on = asyncio.Event()
    begun = play(sse_head(), chunks(*STREAM[:2]), wait_for(go_on), chunks(*STREAM[2:]), last_chunk())
    first.then(*[begun] * AT_ONCE)
    settings = config(first, second, keys=TEAM)
    running = await router(first, second, keys=TEAM)
    streams = [await running.open(chat.request(stream=True), key=CLIENT_SECRET) for _ in range(AT_ONCE)]
    for stream in streams:
        await stream.head()
        await stream.until(b"Hel")
    value = second.base_url if change.value == "SECOND" else change.value
    assert (await running.reload(edited(json.loads(json.dumps(settings)), change.path, value))).result == "applied"
    answer = await running.post(chat.request(model=change.model), key=change.key)
    assert answer.status == change.status
    if change.status == 200:
        assert answer.body == BODY
        assert (len(first.received) - AT_ONCE, len(second.received)) == ((1, 0) if change.at == "first" else (0, 1))
    go_on.set()
    for stream in streams:
        whole = await stream.rest()
        assert (whole.ending, whole.events) == (Ending.CLEAN, list(STREAM))
    await running.record(AT_ONCE + 1)
    assert [record.outcome for record in running.ended if record.stream] == [Outcome.OK] * AT_ONCE
    assert not [event for event in running.events if isinstance(event, UpstreamEjected)]
    if change.path != "models":  # what a model had counted would go with it
        assert (await running.reload(settings)).result == "applied"
        assert (await running.post(key=CLIENT_SECRET)).body == BODY


async def test_keys_that_swap_their_secrets(router: StartRouter, first: ScriptedUpstream) -> None:
    """What runs stays with the key that it began with; who comes then is counted with the key that it now is."""
    go_on = asyncio.Event()
    first.then(play(wait_for(go_on), json_answer()))
    one, other = {"env": "CLIENT_SECRET"}, NEW

    def keys(a: Settings, b: Settings) -> Settings:
        return {name: {"secret": secret, "limits": {"concurrency": 1}} for name, secret in (("a", a), ("b", b))}

    running = await router(first, keys=keys(one, other))
    client = await running.open(key=CLIENT_SECRET)
    await first.asked()
    assert (await running.reload(config(first, keys=keys(other, one)))).result == "applied"
    assert [(await running.post(key=key)).status for key in (CLIENT_SECRET, OTHER_SECRET)] == [200, 429]
    go_on.set()
    assert (await client.answer()).status == 200
    assert [record.key for record in running.ended] == ["b", "a", "a"]


async def test_a_pool_that_is_replaced_during_a_pause(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A request that waits to try again does so where its configuration says; a new one goes elsewhere."""
    first.then(error(500))
    running = await router(first)
    client = await running.open()
    await first.asked()
    assert (await running.reload(config(second))).result == "applied"
    assert (await client.answer()).status == 200
    assert (len(first.received), len(second.received)) == (2, 0)
    assert (await running.post()).status == 200
    assert len(second.received) == 1


async def test_a_fallback_that_goes_while_it_is_needed(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A request that began with a fallback may use it, though the file no longer has it."""
    fail = asyncio.Event()
    first.always(play(wait_for(fail), error(500)))
    model = {"pool": ["first"], "fallback": ["n"]}
    running = await router(first, second, models={"m": model, "n": {"pool": ["second"]}})
    client = await running.open()
    await first.asked()
    changed = config(first, second, models={"m": {"pool": ["first"]}})
    assert (await running.reload(changed)).result == "applied"
    fail.set()
    assert (await client.answer()).status == 200
    assert len(second.received) == 1
    assert (await running.post()).status == 500


async def test_an_upstream_that_goes_while_it_is_on_probation(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The trial request ends well; the upstream, named again, is used at once, and nothing of its past is left."""
    go_on = asyncio.Event()
    first.then(error(500), play(wait_for(go_on), json_answer()))
    ejection = {"ejection": {"consecutive": 1, "eject": "1s"}}
    running = await router(first, second, defaults=ejection)
    assert (await running.post()).status == 200
    (ejected,) = [event for event in running.events if isinstance(event, UpstreamEjected)]
    await asyncio.sleep(ejected.for_s)
    trial = await running.open()
    await first.asked(2)
    without = config(second, defaults=ejection)
    without["upstreams"] = {"second": without["upstreams"]["first"]}
    without["models"]["m"]["pool"] = ["second"]
    assert (await running.reload(without)).result == "applied"
    go_on.set()
    assert (await trial.answer()).status == 200
    assert (await running.reload(config(first, second, defaults=ejection))).result == "applied"
    assert (await running.post()).status == 200
    assert len(first.received) == 3


async def test_a_reload_while_draining(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """It applies, and the daemon drains on: new answers come from the new upstream and end their connections."""
    running = await router(first, stop={"notice": "30s", "drain": "30s"})
    running.daemon.drain()
    assert (await running.reload(config(second, stop={"notice": "1ms", "drain": "1ms"}))).result == "applied"
    answer = await running.post()
    assert (answer.status, answer.header("connection")) == (200, "close")
    assert running.daemon.ready()[0] is False
    assert len(second.received) == 1


# Accounts


def with_usage(text: str, completion: int) -> bytes:
    """An event with a piece of text, and the usage so far."""
    data = json.loads(chat.token(text)[6:])
    return chat.event(data | {"usage": chat.usage(9, completion)})


CUMULATIVE = (chat.role(), with_usage("a", 1), with_usage("b", 2), with_usage("c", 3))
LAST = chat.event(json.loads(chat.finish()[6:]) | {"usage": chat.usage(9, 4)})
FIRST_FAILS = play(sse_head(), chunks(chat.usage_event(1000, 1000), chat.role()), cut())
ACCOUNTS: dict[str, tuple[tuple[Script, ...], int, bool]] = {
    "usage in each chunk": ((sse_stream(*CUMULATIVE, LAST),), 13, True),
    "usage in each chunk, and by itself": ((sse_stream(*CUMULATIVE, LAST, chat.usage_event(9, 4)),), 13, True),
    "usage twice, with other numbers": ((sse_stream(*STREAM[:-1], chat.usage_event(1, 1), USAGE),), 12, True),
    "usage before the content": ((sse_stream(USAGE, *STREAM[:-1]),), 12, True),
    "usage on the finish reason, then a cut": ((play(sse_head(), chunks(*CUMULATIVE, LAST), cut()),), 13, True),
    "usage in each chunk, then a cut": ((play(sse_head(), chunks(*CUMULATIVE), cut()),), 12, False),
    "two attempts that report": ((FIRST_FAILS, sse_stream(*STREAM[:-1], USAGE)), 12, True),
    "two attempts, the second silent": ((FIRST_FAILS, sse_stream(*STREAM[:-1])), -1, False),
    "a failed one that reports, and nothing else": ((FIRST_FAILS, FIRST_FAILS), 0, False),
}


@pytest.mark.parametrize(("scripts", "charged", "exact"), ACCOUNTS.values(), ids=ACCOUNTS)
async def test_usage_at_odd_places_is_charged_once(
    router: StartRouter,
    first: ScriptedUpstream,
    second: ScriptedUpstream,
    *,
    scripts: tuple[Script, ...],
    charged: int,
    exact: bool,
) -> None:
    """The last report of the attempt that answered counts, and no other; without one the charge is a guess.

    The fixture compares the key's bucket with the sum of the charges.
    """
    for upstream, script in zip((first, second), scripts, strict=False):
        upstream.always(script)
    limits = {"tokens_per_minute": 100_000}
    keys = {"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": limits}}
    running = await router(*(first, second)[: len(scripts)], keys=keys, defaults={"retry": {"attempts": len(scripts)}})
    await running.stream(key=CLIENT_SECRET)
    record = await running.record()
    assert record.charged_tokens == charged or (charged < 0 < record.charged_tokens < 200)
    assert record.exact is exact


async def test_who_leaves_during_a_failover_is_settled_once(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Gone while the second attempt waits: it is left at once, and there is one record with both attempts."""
    first.always(error(500))
    second.always(stall())
    keys = {"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": {"tokens_per_minute": 100_000, "concurrency": 1}}}
    running = await router(first, second, keys=keys)
    client = await running.open(key=CLIENT_SECRET)
    received = await second.asked()
    client.reset()
    await received.left()
    record = await running.record()
    assert (record.outcome, running.causes(record)) == (
        Outcome.CLIENT_GONE,
        [("first", "http_5xx"), ("second", "client_gone")],
    )
    assert record.charged_tokens < record.reserved_tokens
    second.always(json_answer())
    assert (await running.post(key=CLIENT_SECRET)).status == 200


async def test_who_leaves_during_a_pause_is_settled_once(router: StartRouter, first: ScriptedUpstream) -> None:
    """Gone while nothing is under way but the wait for another try: no further attempt is made."""
    first.always(error(500))
    keys = {"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": {"tokens_per_minute": 100_000}}}
    running = await router(first, keys=keys, defaults={"ejection": {"consecutive": 1000, "min_outcomes": 1000}})
    for number in range(1, 11):
        seen = len(first.received)
        client = await running.open(key=CLIENT_SECRET)
        await first.asked(seen + 1)
        client.reset()
        record = await running.record(number)
        await running.rest()
        assert len(first.received) - seen == len(record.attempts)
        assert record.charged_tokens < record.reserved_tokens


@pytest.mark.parametrize("end", [chunks(*STREAM[3:]), cut()], ids=["whole", "cut"])
async def test_a_translated_stream_without_usage_is_not_free(
    router: StartRouter, first: ScriptedUpstream, end: Script
) -> None:
    """The zeros that a translation has to write for its client are no report: usage is unknown, the charge a guess."""
    first.always(play(sse_head(), chunks(*STREAM[:3]), end))
    keys = {"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": {"tokens_per_minute": 100_000}}}
    running = await router(first, model={"translate": True}, keys=keys)
    body = b'{"model":"m","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"Say hello."}]}'
    async with await running.connect() as client:
        await client.send(post(body, path="/v1/messages", key=CLIENT_SECRET))
        await client.answer()
    record = await running.record()
    assert (record.usage, record.exact) == (None, False)
    assert 2 <= record.charged_tokens < record.reserved_tokens + 100
