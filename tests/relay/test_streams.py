"""How streams end and how they wait: what was cut is never passed off as complete (DESIGN 5.7 to 5.9, PROTOCOL 5.5)."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from router.events import Outcome, Phase, Side
from tests.harness import chat
from tests.harness.client import Answer, Ending, post
from tests.harness.router import UPSTREAM_SECRET
from tests.harness.upstream import (
    Script,
    chunks,
    cut,
    error,
    head,
    last_chunk,
    play,
    reset,
    send,
    sse_head,
    sse_stream,
    stall,
    wait_for,
)

if TYPE_CHECKING:
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

COMMITTED = (chat.role(), chat.token("Hel"), chat.token("lo"))


def check_broken(answer: Answer, relayed: tuple[bytes, ...], status: int, reason: str) -> dict[str, Any]:
    """The client got what was whole, then one error event, no end marker, and an aborted connection."""
    assert answer.status == 200
    assert answer.ending is Ending.ABORTED
    *content, last = answer.events
    assert tuple(content) == relayed
    assert b"".join(answer.events) == answer.body.replace(chat.HEARTBEAT, b"")
    assert last.startswith(b"data: {")
    envelope = json.loads(last.removeprefix(b"data: "))
    assert (envelope["error"]["code"], envelope["error"]["reason"]) == (status, reason)
    assert envelope["request_id"] == answer.header("x-request-id")
    assert b"[DONE]" not in answer.body
    assert isinstance(envelope, dict)
    return envelope


CUTS = {
    "fin": (cut(), "upstream_truncated", 502),
    "rst": (reset(), "upstream_truncated", 502),
    "clean_end": (last_chunk(), "upstream_truncated", 502),
    "inside_an_event": (play(chunks(chat.token("lost")[:20]), cut()), "upstream_truncated", 502),
    "inside_a_character": (play(chunks(chat.token("😀")[:-9]), cut()), "upstream_truncated", 502),
    "inside_a_chunk": (play(send(b"ff\r\n" + chat.token("lost")[:20]), cut()), "upstream_truncated", 502),
    "clean_end_inside_an_event": (play(chunks(chat.token("lost")[:-2]), last_chunk()), "upstream_truncated", 502),
    "bad_chunk": (send(b"xyz\r\n"), "upstream_protocol", 502),
    "silence": (stall(), "upstream_timeout", 504),
}


@pytest.mark.parametrize(("script", "reason", "status"), CUTS.values(), ids=CUTS)
async def test_a_stream_that_breaks_ends_as_broken(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, *, script: Script, reason: str, status: int
) -> None:
    """After content a failure is one error event without `[DONE]` and an aborted connection, never a clean end."""
    go_on = asyncio.Event()
    first.always(play(sse_head(), chunks(*COMMITTED), wait_for(go_on), script))
    running = await router(first, second, model={"timeouts": {"idle": "150ms"}})
    client = await running.open(chat.request(stream=True))
    await client.head()
    await client.until(COMMITTED[-1])
    go_on.set()
    answer = await client.rest()
    check_broken(answer, COMMITTED, status, reason)
    record = await running.record()
    assert (record.status, record.complete, record.exact) == (200, False, False)
    assert record.outcome is (Outcome.TIMEOUT if status == 504 else Outcome.UPSTREAM_ERROR)
    assert (record.reason, record.ended_by, record.phase) == (reason, Side.UPSTREAM, Phase.RELAYING)
    assert second.received == []
    if reason == "upstream_timeout":
        await first.received[0].left()


async def test_a_broken_stream_shows_without_chunks_too(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client of HTTP/1.0 cannot see a missing last chunk: the error event tells it, and no `[DONE]` follows."""
    first.always(play(sse_head(), chunks(*COMMITTED), cut()))
    running = await router(first)
    client = await running.connect()
    await client.send(post(chat.request(stream=True)).replace(b"HTTP/1.1", b"HTTP/1.0"))
    answer = await client.answer()
    assert answer.events[:-1] == list(COMMITTED)
    assert json.loads(answer.events[-1].removeprefix(b"data: "))["error"]["reason"] == "upstream_truncated"


async def test_the_total_deadline_cuts_a_stream_honestly(router: StartRouter, first: ScriptedUpstream) -> None:
    """A stream that is still talking when its time is over ends as broken."""

    async def talk(turn: Any) -> None:
        while True:
            await turn.chunk(chat.token("on and on"))
            await asyncio.sleep(0.005)

    first.always(play(sse_head(), chunks(chat.role()), talk))
    running = await router(first, model={"timeouts": {"total": "200ms"}})
    answer = await running.stream()
    relayed = (chat.role(), *[chat.token("on and on")] * (len(answer.events) - 2))
    check_broken(answer, relayed, 504, "upstream_timeout")
    await first.received[0].left()


async def test_a_missing_done_is_added(router: StartRouter, first: ScriptedUpstream) -> None:
    """An upstream that gave a finish reason and ended without `[DONE]` has answered: the marker is appended."""
    first.always(sse_stream(*chat.answer("Hi"), done=False))
    running = await router(first)
    answer = await running.stream()
    assert (answer.events, answer.ending) == ([*chat.answer("Hi"), chat.DONE], Ending.CLEAN)
    record = await running.record()
    assert (record.outcome, record.complete) == (Outcome.OK, True)


async def test_a_cut_after_the_finish_reason_is_a_whole_answer(router: StartRouter, first: ScriptedUpstream) -> None:
    """Content and finish reason are there, so the client has everything: `[DONE]` is appended."""
    first.always(play(sse_head(), chunks(*chat.answer("Hi")), cut()))
    answer = await (await router(first)).stream()
    assert answer.events[: len(chat.answer("Hi"))] == list(chat.answer("Hi"))
    assert (answer.events[-1], answer.ending) == (chat.DONE, Ending.CLEAN)


async def test_silence_behind_the_finish_reason_is_a_whole_answer(router: StartRouter, first: ScriptedUpstream) -> None:
    """Content and finish reason are there, and then nothing comes, not even the end: `[DONE]` is appended in time."""
    first.always(play(sse_head(), chunks(*chat.answer("Hi")), stall()))
    running = await router(first, model={"timeouts": {"idle": "100ms"}})
    answer = await running.stream()
    assert (answer.events, answer.ending) == ([*chat.answer("Hi"), chat.DONE], Ending.CLEAN)
    assert (await running.record()).outcome is Outcome.OK


async def test_every_choice_has_to_finish(router: StartRouter, first: ScriptedUpstream) -> None:
    """With `n` 2, one finish reason and the end is a broken stream; two are a whole answer."""
    choices = [
        chat.event({"choices": [{"index": index, "delta": {"content": "a"}, "finish_reason": None}]})
        for index in (0, 1)
    ]
    ends = [chat.event({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]}) for index in (0, 1)]
    first.then(sse_stream(*choices, ends[0], done=False), sse_stream(*choices, *ends, done=False))
    running = await router(first)
    check_broken(await running.stream(n=2), (*choices, ends[0]), 502, "upstream_truncated")
    whole = await running.stream(n=2)
    assert (whole.events, whole.ending) == ([*choices, *ends, chat.DONE], Ending.CLEAN)


async def test_a_choice_that_finishes_twice_counts_once(router: StartRouter, first: ScriptedUpstream) -> None:
    """With `n` 2, one choice that says twice why it ended does not stand for the other, which was cut."""
    events = (chat.role(), chat.token("a"), chat.finish(), chat.finish())
    first.always(play(sse_head(), chunks(*events), cut()))
    running = await router(first)
    check_broken(await running.stream(n=2), events, 502, "upstream_truncated")
    assert not (await running.record()).complete


async def test_an_unterminated_done_counts(router: StartRouter, first: ScriptedUpstream) -> None:
    """`data: [DONE]` without its blank line, then the end: the client gets it whole."""
    first.always(play(sse_head(), chunks(*chat.answer("Hi"), b"data: [DONE]"), last_chunk()))
    answer = await (await router(first)).stream()
    assert (answer.events, answer.ending) == ([*chat.answer("Hi"), chat.DONE], Ending.CLEAN)


async def test_done_ends_the_answer_though_the_upstream_holds_on(router: StartRouter, first: ScriptedUpstream) -> None:
    """After `[DONE]` the client's answer ends; an upstream that stays open is closed, not waited for."""
    first.always(play(sse_head(), chunks(*chat.answer("Hi"), chat.DONE), stall()))
    running = await router(first)
    answer = await running.stream()
    assert (answer.events, answer.ending) == ([*chat.answer("Hi"), chat.DONE], Ending.CLEAN)
    await first.received[0].left()


async def test_what_follows_done_is_dropped(router: StartRouter, first: ScriptedUpstream) -> None:
    """Nothing after the terminal marker reaches the client."""
    first.always(play(sse_head(), chunks(*chat.answer("Hi"), chat.DONE + chat.token("ghost")), last_chunk()))
    answer = await (await router(first)).stream()
    assert (answer.events, answer.ending) == ([*chat.answer("Hi"), chat.DONE], Ending.CLEAN)


async def test_an_error_event_passes_and_ends_the_stream(router: StartRouter, first: ScriptedUpstream) -> None:
    """After content the upstream's own error event reaches the client as it is; no second one, no `[DONE]` of ours."""
    broken = chat.event(json.loads(chat.error_body("engine died")))
    first.always(play(sse_head(), chunks(*COMMITTED, broken), last_chunk()))
    running = await router(first)
    answer = await running.stream()
    assert answer.events == [*COMMITTED, broken]
    record = await running.record()
    assert (record.outcome, record.complete) == (Outcome.UPSTREAM_ERROR, False)


async def test_an_error_event_is_not_waited_behind(router: StartRouter, first: ScriptedUpstream) -> None:
    """An upstream that said it failed and then holds on has a second, not the time that a silent one has."""
    broken = chat.event(json.loads(chat.error_body("engine died")))
    first.always(play(sse_head(), chunks(*COMMITTED, broken), stall()))
    running = await router(first, defaults={"timeouts": {"idle": "60s"}, "streams": {"heartbeat": "100ms"}})
    answer = await running.stream()
    assert answer.ending is Ending.ABORTED
    assert answer.body.replace(chat.HEARTBEAT, b"") == b"".join((*COMMITTED, broken))
    await first.received[0].left()
    record = await running.record()
    assert (record.outcome, record.ended_by, record.complete) == (Outcome.UPSTREAM_ERROR, Side.UPSTREAM, False)


async def test_a_long_body_without_a_length_that_is_cut_is_broken(router: StartRouter, first: ScriptedUpstream) -> None:
    """Where only the end of the connection ends a body, half a JSON object is not passed off as the whole."""
    body = chat.completion("y" * 1_500_000)
    bare = head(200, chat.CONTENT_TYPE_JSON, "connection: close")
    first.then(play(send(bare + body[:1_200_000]), cut()), play(send(bare + body), cut()))
    running = await router(first)
    broken, whole = await running.post(), await running.post()
    assert (broken.status, broken.ending) == (200, Ending.ABORTED)
    assert body.startswith(broken.body)
    assert (whole.body, whole.ending) == (body, Ending.CLEAN)
    assert [(record.outcome, record.complete) for record in running.ended] == [
        (Outcome.UPSTREAM_ERROR, False),
        (Outcome.OK, True),
    ]


async def test_silence_is_filled_with_heartbeats(router: StartRouter, first: ScriptedUpstream) -> None:
    """After so long without a byte a comment line goes out between two events; all other bytes are the upstream's."""
    go_on = asyncio.Event()
    first.always(
        play(
            sse_head(),
            chunks(*COMMITTED, chat.token("half")[:10]),
            wait_for(go_on),
            chunks(chat.token("half")[10:], chat.finish(), chat.DONE),
            last_chunk(),
        )
    )
    running = await router(first, defaults={"streams": {"heartbeat": "30ms"}})
    client = await running.open(chat.request(stream=True))
    await client.head()
    await client.until(chat.HEARTBEAT * 2)
    go_on.set()
    answer = await client.rest()
    assert answer.body.replace(chat.HEARTBEAT, b"") == b"".join(
        (*COMMITTED, chat.token("half"), chat.finish(), chat.DONE)
    )
    before, _, _ = answer.body.partition(chat.HEARTBEAT)
    assert before == b"".join(COMMITTED)
    assert answer.ending is Ending.CLEAN


async def test_no_heartbeat_inside_an_event(router: StartRouter, first: ScriptedUpstream) -> None:
    """An event too large to hold back flows in parts; while one is open nothing of ours goes in between."""
    flood = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"x" * 1_500_000
    first.always(play(sse_head(), chunks(chat.token("a"), flood), stall()))
    running = await router(first, defaults={"streams": {"heartbeat": "20ms"}}, model={"timeouts": {"idle": "200ms"}})
    answer = await running.stream()
    assert answer.ending is Ending.ABORTED
    before, _, inside = answer.body.partition(b"xxx")
    assert before.replace(chat.HEARTBEAT, b"") + b"xxx" == (chat.token("a") + flood)[: -1_500_000 + 3]
    assert inside == b"x" * len(inside)
    assert len(inside) > 1_000_000


async def test_a_large_event_arrives_whole(router: StartRouter, first: ScriptedUpstream) -> None:
    """Three megabytes in one event, then the usual end."""
    large = chat.token("x" * 3_000_000)
    first.always(sse_stream(chat.role(), large, chat.finish()))
    answer = await (await router(first)).stream()
    assert answer.body == b"".join((chat.role(), large, chat.finish(), chat.DONE))
    assert answer.ending is Ending.CLEAN


HOLD = {"streams": {"hold": "50ms", "heartbeat": "30ms"}}


async def test_a_silent_stream_is_kept_alive_and_still_fails_over(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """After `hold` the client gets 200 and heartbeats; when the upstream then dies another one answers unseen."""
    die = asyncio.Event()
    first.always(play(sse_head(), chunks(chat.role()), wait_for(die), cut()))
    second.always(sse_stream(*chat.answer("Hello")))
    running = await router(first, second, defaults=HOLD)
    client = await running.open(chat.request(stream=True))
    opened = await client.head()
    assert opened.status == 200
    assert (opened.header("content-type") or "").startswith("text/event-stream")
    assert opened.header("x-request-id")
    await client.until(chat.HEARTBEAT)
    assert opened.body.replace(chat.HEARTBEAT, b"") == b""
    die.set()
    answer = await client.rest()
    assert answer.body.replace(chat.HEARTBEAT, b"") == b"".join((*chat.answer("Hello"), chat.DONE))
    assert answer.ending is Ending.CLEAN
    assert running.causes() == [("first", "disconnect_mid_stream"), ("second", "ok")]


async def test_a_held_stream_goes_on_when_content_comes(router: StartRouter, first: ScriptedUpstream) -> None:
    """A long prefill: heartbeats first, then the same upstream's answer, its role chunk included."""
    go_on = asyncio.Event()
    first.always(
        play(
            sse_head(),
            chunks(chat.role()),
            wait_for(go_on),
            chunks(*chat.answer("Hi")[1:], chat.DONE),
            last_chunk(),
        )
    )
    running = await router(first, defaults=HOLD)
    client = await running.open(chat.request(stream=True))
    await client.head()
    await client.until(chat.HEARTBEAT)
    go_on.set()
    answer = await client.rest()
    assert answer.body.replace(chat.HEARTBEAT, b"") == b"".join((*chat.answer("Hi"), chat.DONE))


async def test_when_a_held_stream_fails_everywhere_the_stream_says_so(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The status is spent, so the failure of the last member is an error event and an aborted connection."""
    die = asyncio.Event()
    first.always(play(sse_head(), wait_for(die), cut()))
    second.always(error(500))
    running = await router(first, second, defaults=HOLD)
    client = await running.open(chat.request(stream=True))
    await client.head()
    die.set()
    answer = await client.rest()
    assert answer.ending is Ending.ABORTED
    (event,) = answer.events
    failure = json.loads(event.removeprefix(b"data: "))["error"]
    assert failure["code"] in {500, 502}
    assert b"[DONE]" not in answer.body
    record = await running.record()
    assert (record.outcome, record.complete) == (Outcome.UPSTREAM_ERROR, False)


@pytest.mark.parametrize("quoting", [False, True])
async def test_a_clients_own_error_behind_heartbeats_keeps_its_words(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, *, quoting: bool
) -> None:
    """A 400 that comes when the status is spent is one event with that status and sentence, and nobody's failure."""
    go_on = asyncio.Event()
    said = f"maximum context length is 8192{UPSTREAM_SECRET if quoting else ''}"
    body = chat.error_body(said, kind="invalid_request_error", code="context_length_exceeded")
    first.always(play(wait_for(go_on), error(400, body)))
    running = await router(first, second, defaults={"streams": HOLD["streams"] | {"early_keepalive": True}})
    client = await running.open(chat.request(stream=True))
    await client.head()
    await client.until(chat.HEARTBEAT)
    go_on.set()
    answer = await client.rest()
    assert (answer.status, answer.ending) == (200, Ending.ABORTED)
    (event,) = answer.events
    assert event.startswith(b"data: {")
    assert event.count(b"\n") == 2
    envelope = json.loads(event.removeprefix(b"data: "))
    assert envelope["error"]["code"] == 400
    assert "maximum context length is 8192" in envelope["error"]["message"]
    assert "context_length_exceeded" in envelope["error"]["upstream"]
    assert envelope["request_id"] == answer.header("x-request-id")
    assert UPSTREAM_SECRET.encode() not in answer.body
    record = await running.record()
    assert (record.outcome, record.complete) == (Outcome.CLIENT_ERROR, False)
    assert second.received == []


async def test_no_keepalive_before_a_status(router: StartRouter, first: ScriptedUpstream) -> None:
    """While no upstream has answered nothing is committed: its failure still has a status of its own."""
    first.always(stall())
    running = await router(first, defaults=HOLD, model={"timeouts": {"first_byte": "200ms"}})
    answer = await running.stream()
    assert (answer.status, answer.error["reason"]) == (504, "upstream_timeout")


async def test_early_keepalive_commits_before_a_status(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """With `early_keepalive` heartbeats start though nobody has answered; failing over goes on behind them."""
    first.always(stall())
    second.always(sse_stream(*chat.answer("Hi")))
    early = {"streams": HOLD["streams"] | {"early_keepalive": True}}
    running = await router(first, second, defaults=early, model={"timeouts": {"first_byte": "300ms"}})
    answer = await running.stream()
    assert answer.body.startswith(chat.HEARTBEAT)
    assert answer.body.replace(chat.HEARTBEAT, b"") == b"".join((*chat.answer("Hi"), chat.DONE))
    assert answer.ending is Ending.CLEAN


async def test_content_that_is_no_text_commits_too(router: StartRouter, first: ScriptedUpstream) -> None:
    """Reasoning, refusals and tool calls are content: what follows them is not tried elsewhere."""
    deltas: tuple[dict[str, object], ...] = (
        {"reasoning_content": "hm"},
        {"refusal": "no"},
        {"tool_calls": [{"index": 0, "id": "c"}]},
    )
    for delta in deltas:
        event = chat.chunk(delta)
        first.then(play(sse_head(), chunks(chat.role(), event), cut()))
    running = await router(first)
    for _ in range(3):
        answer = await running.stream()
        assert (answer.ending, len(answer.events)) == (Ending.ABORTED, 3)


async def test_a_stream_without_http_framing_ends_with_its_marker(router: StartRouter, first: ScriptedUpstream) -> None:
    """An upstream that ends its body by closing is believed if `[DONE]` came and not if it did not."""
    bare = send(head(200, chat.CONTENT_TYPE_SSE))
    first.then(play(bare, send(*chat.answer("Hi"), chat.DONE), cut()), play(bare, send(*COMMITTED), cut()))
    running = await router(first)
    whole = await running.stream()
    assert (whole.events, whole.ending) == ([*chat.answer("Hi"), chat.DONE], Ending.CLEAN)
    check_broken(await running.stream(), COMMITTED, 502, "upstream_truncated")


async def test_streams_side_by_side_do_not_mix(router: StartRouter, first: ScriptedUpstream) -> None:
    """Fifty streams at once, each with its own words: every client gets its own and only its own."""

    async def echo(turn: Any) -> None:
        name = turn.request.json["user"]
        events = chat.answer(*(f"{name}.{number}" for number in range(20)))
        for event in events:
            await turn.chunk(event)
            await asyncio.sleep(0)
        await turn.chunk(chat.DONE)

    first.always(play(sse_head(), echo, last_chunk()))
    running = await router(first)
    answers = await asyncio.gather(*(running.stream(user=f"u{number}") for number in range(50)))
    for number, answer in enumerate(answers):
        expected = chat.answer(*(f"u{number}.{word}" for word in range(20)))
        assert answer.body == b"".join((*expected, chat.DONE))
    assert len(running.ended) == 50


async def test_a_slot_is_held_to_the_last_byte(router: StartRouter, first: ScriptedUpstream) -> None:
    """In flight counts a stream until it has ended, not until its head has come."""
    go_on = asyncio.Event()
    first.always(play(sse_head(), chunks(*COMMITTED), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk()))
    running = await router(first)
    client = await running.open(chat.request(stream=True))
    await client.head()
    await client.until(b"lo")
    assert running.in_flight() == 1
    go_on.set()
    await client.rest()
    await running.record()
    assert running.in_flight() == 0


CODED_HEAD = send(head(200, chat.CONTENT_TYPE_SSE, "content-encoding: gzip", "transfer-encoding: chunked"))


async def test_a_compressed_stream_arrives_readable(router: StartRouter, first: ScriptedUpstream) -> None:
    """A stream that comes compressed though nobody asked is sent on as plain events, each when it comes."""
    go_on = asyncio.Event()
    coder = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    pieces = [coder.compress(event) + coder.flush(zlib.Z_SYNC_FLUSH) for event in (*COMMITTED, chat.finish())]
    end = coder.compress(chat.DONE) + coder.flush()
    first.always(play(CODED_HEAD, chunks(*pieces), wait_for(go_on), chunks(end), last_chunk()))
    running = await router(first)
    client = await running.open(chat.request(stream=True))
    assert (await client.head()).header("content-encoding") is None
    await client.until(chat.finish())
    go_on.set()
    answer = await client.rest()
    assert (answer.events, answer.ending) == ([*COMMITTED, chat.finish(), chat.DONE], Ending.CLEAN)


@pytest.mark.parametrize("committed", [False, True])
async def test_a_compressed_stream_cannot_explode(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, *, committed: bool
) -> None:
    """Kilobytes that would become megabytes are no stream: another member answers, or what was begun is broken."""
    go_on = asyncio.Event()
    coder = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    begun = coder.compress(b"".join(COMMITTED) if committed else chat.role()) + coder.flush(zlib.Z_SYNC_FLUSH)
    bomb = coder.compress(b": " + bytes(8_000_000)) + coder.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 20_000
    first.always(play(CODED_HEAD, chunks(begun), wait_for(go_on), chunks(bomb), stall()))
    second.always(sse_stream(*chat.answer("b")))
    running = await router(first, second)
    client = await running.open(chat.request(stream=True))
    await first.asked()
    if committed:
        await client.head()
        await client.until(COMMITTED[-1])
    go_on.set()
    answer = await client.rest() if committed else await client.answer()
    if committed:
        check_broken(answer, COMMITTED, 502, "upstream_protocol")
    else:
        assert answer.events == [*chat.answer("b"), chat.DONE]
        assert running.causes() == [("first", "protocol"), ("second", "ok")]
    await first.received[0].left()


CHAT_PIECE = 'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n'
MESSAGES_PIECE = (
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    '"delta":{"type":"text_delta","text":"%s"}}\n\n'
)
MESSAGES_END = (
    b"event: message_delta\n"
    b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":4}}\n\n'
)
ALIKE = {
    "/v1/chat/completions": (
        [],
        CHAT_PIECE,
        'a"},"finish_reason":null}],"usage":{"prompt_tokens":1},"x":[{"y":{"z":"b',
        [chat.finish(), chat.usage_event(), b"data: [DONE]\n\n"],
    ),
    "/v1/messages": (
        [b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":9}}}\n\n'],
        MESSAGES_PIECE,
        'a","x":"b',
        [
            MESSAGES_END,
            b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        ],
    ),
}
"""For each dialect: how a stream begins, a piece of text, a text that makes it another event, how it ends."""


@pytest.mark.parametrize("path", ALIKE)
async def test_pieces_of_text_pass_as_they_came_whatever_they_say(
    router: StartRouter, first: ScriptedUpstream, path: str
) -> None:
    """Events that differ in their text alone are passed chunk by chunk; one that only looks alike is read."""
    begin, piece, other, end = ALIKE[path]
    texts = ("Hi", "", "x" * 300, "é\\n", "\\u00e9", "end", other)
    events = [*begin, *((piece % text).encode() for text in texts), *end]
    first.then(play(sse_head(), *(chunks(event) for event in events), last_chunk()))
    running = await router(first, upstream={"protocol": "anthropic"} if path == "/v1/messages" else None)
    client = await running.connect()
    await client.send(post(b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}', path=path))
    assert (await client.answer()).body == b"".join(events)
    record = await running.record()
    assert record.complete
    assert record.usage is not None
    assert record.usage.output == 4
