"""What hostile or odd clients and upstreams do on the endpoints beside chat, and must not get or break by it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import re
import zlib
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from router.events import UpstreamCooled, UpstreamEjected
from tests.harness import chat
from tests.harness.client import Ending, post
from tests.harness.router import CLIENT_SECRET, OTHER_SECRET, UPSTREAM_SECRET
from tests.harness.upstream import (
    chunks,
    cut,
    error,
    head,
    json_answer,
    plain,
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
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.harness.client import Answer
    from tests.harness.router import RunningRouter, Settings
    from tests.harness.upstream import Script, ScriptedUpstream, Turn
    from tests.relay.conftest import StartRouter

KEYS: Settings = {
    "team": {"secret": {"env": "CLIENT_SECRET"}, "limits": {"tokens_per_minute": "100k"}},
    "other": {"secret": {"env": "OTHER_SECRET"}},
}


async def ask(running: RunningRouter, data: bytes, method: str = "POST") -> Answer:
    """Send a request of any kind on a connection of its own and read the whole answer."""
    async with await running.connect() as client:
        await client.send(data)
        return await client.answer(method)


def bare(path: str, method: str = "GET", key: str | None = None) -> bytes:
    """A request without a body."""
    return post(b"", path=path, method=method, key=key, framing="")


def asking(path: str, *headers: str, key: str | None = None, **members: Any) -> bytes:
    """A JSON request for the model `m`."""
    return post(json.dumps({"model": "m"} | members).encode(), *headers, path=path, key=key)


def named(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\n".encode() + chat.event({"type": kind} | members)


def form(sound: bytes, boundary: bytes = b"border", **fields: str) -> bytes:
    """A form with a file and the model's name behind it."""
    name = b'Content-Disposition: form-data; name="%b"'
    parts = [name % b"file" + b'; filename="a.wav"\r\n\r\n' + sound]
    parts += [name % key.encode() + b"\r\n\r\n" + value.encode() for key, value in ({"model": "m"} | fields).items()]
    return b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts) + b"--%b--\r\n" % boundary


def upload(body: bytes, *headers: str, path: str = "/v1/audio/transcriptions") -> bytes:
    sent = post(body, "Content-Type: multipart/form-data; boundary=border", *headers, path=path)
    return sent.replace(b"Content-Type: application/json\r\n", b"", 1)


def blamed(running: RunningRouter) -> list[object]:
    """Upstreams that were taken out."""
    return [event for event in running.events if isinstance(event, UpstreamEjected | UpstreamCooled)]


# framing of answers


async def test_an_answer_to_head_has_no_body(router: StartRouter, first: ScriptedUpstream) -> None:
    """A refused HEAD is told so by its status alone: bytes behind it would be read as the next answer."""
    running = await router(first)
    async with await running.connect() as client:
        await client.send(bare("/v1/chat/completions", "HEAD"))
        assert (await client.answer("HEAD")).status == 405
        await client.send(post(chat.request()))
        assert (await client.answer()).status == 200


async def test_an_answer_without_content_has_no_framing(router: StartRouter, first: ScriptedUpstream) -> None:
    """A 204 has neither length nor chunks (RFC 9110 section 8.6), and its connection serves the next request."""
    first.then(send(head(204)), send(head(204, "content-type: application/json")), plain(200, b"x"))
    running = await router(first, pins={"files": "first"})
    async with await running.connect() as client:
        for _ in range(2):
            await client.send(bare("/v1/files/a", "DELETE"))
            got = await client.answer("DELETE")
            assert got.status == 204
            assert got.values("content-length") == got.values("transfer-encoding") == []
        await client.send(bare("/v1/files/a"))
        assert (await client.answer("GET")).body == b"x"
    assert first.received[2].place == 1


async def test_not_modified_is_an_answer(router: StartRouter, first: ScriptedUpstream) -> None:
    """A 304 is what a client asked for that has the file already: it passes and is nobody's failure."""
    first.always(send(head(304, 'etag: "1"')))
    running = await router(first, pins={"files": "first"})
    for _ in range(6):
        got = await ask(running, post(b"", 'If-None-Match: "1"', path="/v1/files/a", method="GET", framing=""), "GET")
        assert (got.status, got.header("etag")) == (304, '"1"')
        assert got.values("content-length") == got.values("transfer-encoding") == []
    assert blamed(running) == []


async def test_a_file_may_claim_to_be_json(router: StartRouter, first: ScriptedUpstream) -> None:
    """What is stored is the client's business: a piece of JSON, or what only claims to be some, passes as it is."""
    first.then(
        plain(206, b'{"a":', "content-type: application/json", "content-range: bytes 0-4/9"),
        plain(200, b'{"a":1}\n{"a":2}\n', "content-type: application/json"),
        plain(200, b'{"error":{"message":"of the file"}}', "content-type: application/json"),
    )
    running = await router(first, pins={"files": "first"})
    bodies = [(await ask(running, bare("/v1/files/a/content"), "GET")).body for _ in range(3)]
    assert bodies == [b'{"a":', b'{"a":1}\n{"a":2}\n', b'{"error":{"message":"of the file"}}']
    assert [record.outcome for record in running.ended] == ["ok"] * 3


async def test_a_body_that_only_its_end_ends_is_no_surer_to_the_client(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """Nobody can tell whether sound without a length was cut, so the router does not say that it is whole."""
    first.always(play(send(head(200, "content-type: audio/mpeg"), b"ID3", b"\x00" * 99), cut()))
    running = await router(first)
    got = await ask(running, asking("/v1/audio/speech", input="x"))
    assert (got.status, got.body) == (200, b"ID3" + b"\x00" * 99)
    assert (got.header("transfer-encoding"), got.header("content-length"), got.header("connection")) == (
        None,
        None,
        "close",
    )
    first.always(play(send(head(200, "content-type: audio/mpeg"), b"ID3"), wait_for(done := asyncio.Event()), reset()))
    async with await running.connect() as client:
        await client.send(asking("/v1/audio/speech", input="x"))
        await client.head()
        await client.until(b"ID3")
        done.set()
        assert (await client.rest()).ending is Ending.ABORTED


async def test_a_refused_answers_body_meets_no_other_client(router: StartRouter, first: ScriptedUpstream) -> None:
    """What came with a head that was enough to refuse it is gone before the connection serves the next request."""
    other = b"data: of somebody else\n\n"
    first.then(plain(200, other, chat.CONTENT_TYPE_SSE, "content-encoding: unheard-of"))
    first.always(json_answer())
    running = await router(first)
    for _ in range(2):
        assert (await running.post()).body == chat.completion()
    assert [received.place for received in first.received] == [0, 1, 2]


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("framing", ["content-length: 5", "transfer-encoding: chunked"])
@pytest.mark.parametrize("body", [b"", b"5\r\nhello\r\n0\r\n\r\n"])
async def test_an_answer_that_has_no_body_is_over_with_its_head(
    router: StartRouter, first: ScriptedUpstream, status: int, framing: str, body: bytes
) -> None:
    """Whatever its head says and whatever follows (RFC 9112 section 6.3): nothing is waited for or passed on."""
    first.then(send(head(status, framing) + body))
    first.always(plain(200, b"x"))
    running = await router(first, pins={"files": "first"})
    async with await running.connect() as client:
        await client.send(bare("/v1/files/a"))
        got = await client.answer("GET")
        assert (got.status, got.values("content-length"), got.values("transfer-encoding")) == (status, [], [])
        await client.send(bare("/v1/files/a"))
        assert (await client.answer("GET")).body == b"x"


async def test_any_good_status_is_a_good_answer(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A gateway that answers 201 has answered, and its status passes; one that only accepts the request has not."""
    first.then(plain(201, chat.completion(), chat.CONTENT_TYPE_JSON), plain(202, b"", chat.CONTENT_TYPE_JSON))
    running = await router(first, second)
    got = await running.post()
    assert (got.status, got.body) == (201, chat.completion())
    assert (await running.post()).status == 200
    assert running.causes() == [("first", "protocol"), ("second", "ok")]


async def test_an_unmarked_stream_that_only_its_end_ends_is_no_surer_either(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """The same of events of an unknown endpoint, which may end with any of them."""
    first.then(play(send(head(200, chat.CONTENT_TYPE_SSE), b'data: {"a":1}\n\n'), cut()))
    running = await router(first, passthrough_unknown_paths=True)
    got = await ask(running, asking("/v1/new/thing"))
    assert (got.body, got.header("transfer-encoding"), got.header("connection")) == (
        b'data: {"a":1}\n\n',
        None,
        "close",
    )


# heartbeats and commits where no event stream comes


@pytest.mark.parametrize("answer", ["sound", "json"])
@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/embeddings"])
async def test_only_streams_are_kept_alive_early(
    router: StartRouter, first: ScriptedUpstream, path: str, answer: str
) -> None:
    """`stream: true` where no stream can come commits nothing: the answer has its own head, and only one."""
    kind = "audio/mpeg" if answer == "sound" and "speech" in path else "application/json"
    go_on = asyncio.Event()
    first.then(play(wait_for(go_on), plain(200, b'{"data":[]}', f"content-type: {kind}")))
    running = await router(first, defaults={"streams": {"early_keepalive": True, "hold": "20ms", "heartbeat": "20ms"}})
    async with await running.connect() as client:
        await client.send(asking(path, stream=True, input="x"))
        await first.asked()
        await asyncio.sleep(0.1)
        assert client.unread == b""
        go_on.set()
        got = await client.answer()
    assert (got.status, got.body, got.header("content-type")) == (200, b'{"data":[]}', kind)


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
async def test_a_stream_that_was_promised_is_not_answered_by_a_body(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, kind: str
) -> None:
    """Behind heartbeats no second head can be said: another member's whole body is no answer any more."""
    first.then(play(sse_head(), chunks(b": wait\n\n"), wait_for(go_on := asyncio.Event()), cut()))
    second.always(plain(200, b'{"text":"Hello."}', f"content-type: {kind}"))
    running = await router(first, second, defaults={"streams": {"hold": "20ms", "heartbeat": "20ms"}})
    async with await running.connect() as client:
        await client.send(upload(form(b"abc", stream="true")))
        await client.head()
        await client.until(chat.HEARTBEAT)
        go_on.set()
        got = await client.rest()
    assert got.ending is Ending.ABORTED
    assert b"HTTP/1.1" not in got.body
    assert json.loads(got.events[-1][6:])["error"]["reason"] == "upstream_protocol"


# answers that are cut


BIG = "A" * 1_500_000


async def test_a_large_last_event_of_a_response_ends_it(router: StartRouter, first: ScriptedUpstream) -> None:
    """A response that holds pictures ends in an event too long to be read whole: it is complete all the same."""
    events = (
        named("response.created", sequence_number=0, response={"id": "resp_1"}),
        named("response.output_text.delta", sequence_number=1, delta="Hi"),
        named("response.completed", sequence_number=2, response={"id": "resp_1", "output": [{"result": BIG}]}),
    )
    first.always(sse_stream(*events, done=False))
    running = await router(first)
    got = await ask(running, asking("/v1/responses", stream=True))
    assert (got.ending, got.body) == (Ending.CLEAN, b"".join(events))
    first.always(play(sse_head(), chunks(*events), stall()))
    got = await ask(running, asking("/v1/responses", stream=True))
    assert (got.ending, got.body) == (Ending.CLEAN, b"".join(events))
    assert [record.outcome for record in running.ended] == ["ok", "ok"]


async def test_large_pieces_do_not_make_a_stream_whole(router: StartRouter, first: ScriptedUpstream) -> None:
    """A stream of pictures that ends behind one of its first versions was cut, however long that was."""
    partial = named("image_generation.partial_image", b64_json=BIG)
    first.then(sse_stream(partial, done=False))
    running = await router(first)
    got = await ask(running, asking("/v1/images/generations", stream=True))
    assert got.ending is Ending.ABORTED
    assert json.loads(got.events[-1][6:])["error"]["reason"] == "upstream_truncated"
    last = named("image_generation.completed", b64_json=BIG)
    first.then(sse_stream(partial, last, done=False))
    got = await ask(running, asking("/v1/images/generations", stream=True))
    assert (got.ending, got.body) == (Ending.CLEAN, partial + last)


async def test_an_unread_event_is_not_the_last_if_others_follow(router: StartRouter, first: ScriptedUpstream) -> None:
    """A long event of which nothing is known may be the last one; with another behind it it was not."""
    unknown = b'data: {"b64_json":"' + BIG.encode() + b'"}\n\n'
    first.then(sse_stream(unknown, done=False))
    running = await router(first)
    got = await ask(running, asking("/v1/images/generations", stream=True))
    assert (got.ending, got.body) == (Ending.CLEAN, unknown)
    first.then(sse_stream(unknown, named("image_generation.partial_image", b64_json="AA=="), done=False))
    assert (await ask(running, asking("/v1/images/generations", stream=True))).ending is Ending.ABORTED


async def test_every_picture_has_to_be_completed(router: StartRouter, first: ScriptedUpstream) -> None:
    """Of two pictures that were asked for one came, then the connection broke: that is half an answer."""
    one = named("image_generation.completed", b64_json="AA==")
    first.then(play(sse_head(), chunks(one), cut()))
    running = await router(first)
    got = await ask(running, asking("/v1/images/generations", stream=True, n=2))
    assert got.ending is Ending.ABORTED
    assert b"upstream_truncated" in got.body
    first.then(play(sse_head(), chunks(one, one), cut()))
    got = await ask(running, asking("/v1/images/generations", stream=True, n=2))
    assert (got.ending, got.body) == (Ending.CLEAN, one + one)


# clients that would take an upstream out


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens", "/v1/responses/input_tokens", "/v1/responses/compact"])
async def test_a_needless_stream_flag_blames_nobody(router: StartRouter, first: ScriptedUpstream, path: str) -> None:
    """Where there are no streams `stream: true` means nothing, and the answer is one."""
    first.always(json_answer(b'{"input_tokens":9}'))
    running = await router(first, upstream={"protocol": "anthropic"} if "messages" in path else None)
    for _ in range(6):
        got = await ask(running, asking(path, stream=True))
        assert (got.status, got.json) == (200, {"input_tokens": 9})
    assert blamed(running) == []


FAILED = {"id": "resp_1", "object": "response", "status": "failed", "error": {"code": "server_error", "message": "No."}}


async def test_a_stored_failure_is_an_answer(router: StartRouter, first: ScriptedUpstream) -> None:
    """Whoever asks how a response stands is told that it failed, as often as they ask, and nobody fails by that."""
    first.then(json_answer(b'{"id":"resp_1","object":"response","status":"queued"}'))
    running = await router(first)
    assert (await ask(running, asking("/v1/responses", background=True))).status == 200
    first.always(json_answer(json.dumps(FAILED).encode()))
    for _ in range(6):
        got = await ask(running, bare("/v1/responses/resp_1"), "GET")
        assert (got.status, got.json) == (200, FAILED)
    events = (named("response.created", response={"id": "resp_1"}), named("response.failed", response=FAILED))
    first.always(sse_stream(*events, done=False))
    for _ in range(6):
        got = await ask(running, bare("/v1/responses/resp_1?stream=true"), "GET")
        assert (got.status, got.ending, got.body) == (200, Ending.CLEAN, b"".join(events))
    assert len(first.received) == 13
    assert blamed(running) == []


async def test_a_stored_stream_may_have_nothing_more(router: StartRouter, first: ScriptedUpstream) -> None:
    """Whoever has all events of a response and asks for more gets none, and that is no failure."""
    first.then(json_answer(b'{"id":"resp_1","object":"response","status":"completed"}'))
    first.always(sse_stream(done=False))
    running = await router(first)
    await ask(running, asking("/v1/responses"))
    for _ in range(6):
        got = await ask(running, bare("/v1/responses/resp_1?stream=true&starting_after=99"), "GET")
        assert (got.status, got.ending, got.body) == (200, Ending.CLEAN, b"")
    assert blamed(running) == []


async def test_a_refused_question_for_usage_is_not_repeated_for_ever(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """An upstream that cannot take `stream_options` is asked once more without, for translated requests too."""
    first.then(error(400, chat.error_body("Unknown parameter: stream_options", kind="invalid_request_error")))
    first.always(sse_stream(*chat.answer("Hi")))
    running = await router(first, model={"translate": True})
    body: Settings = {"max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    got = await ask(running, asking("/v1/messages", **body))
    assert (got.status, got.ending) == (200, Ending.CLEAN)
    assert ["stream_options" in received.json for received in first.received] == [True, False]
    refusal = error(400, chat.error_body("You sent stream_options?", kind="invalid_request_error"))
    first.always(refusal)
    assert (await ask(running, asking("/v1/messages", **body))).status == 400
    assert len(first.received) == 3


async def test_what_an_upstream_cannot_take_is_left_out_of_translations(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """`drop_params` holds for what the router itself writes, and the client is told."""
    running = await router(first, model={"translate": True}, upstream={"drop_params": ["temperature"]})
    body: Settings = {"max_tokens": 9, "temperature": 1, "messages": [{"role": "user", "content": "Hi"}]}
    got = await ask(running, asking("/v1/messages", **body))
    assert got.status == 200
    assert "temperature" not in first.received[0].json
    assert got.header("x-router-dropped-params") == "temperature"


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
@pytest.mark.parametrize("status", [500, 429])
async def test_a_member_that_cannot_take_a_request_hides_no_failure(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, order: tuple[str, str], status: int
) -> None:
    """When the member that could have answered failed, that is what the client is told, whatever the others lack."""
    first.always(error(status))
    pool = [{"upstream": name, "tier": tier} for tier, name in enumerate(order, start=1)]
    upstreams = {
        "first": {"base_url": first.base_url},
        "second": {"base_url": second.base_url, "protocol": "anthropic"},
    }
    running = await router(upstreams=upstreams, models={"m": {"pool": pool, "translate": True}})
    assert (await running.post(chat.request(n=2))).status == status
    assert second.received == []


# paths and heads


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/../organization/keys",
        "/v1/files/%2e%2E/organization/keys",
        "/v1/files/..%2Forganization/keys",
        "/v1/files/a%2f%2e%2e%2f..%2Forganization%2Fkeys",
        "/v1/files/a%5c..%5C..%5corganization",
        "/v1/files/..;/organization/keys",
        "/v1/files/.%2e",
        "/v1/responses/%2e%2e",
        "/v1/responses/..%2fmodels",
    ],
)
async def test_no_path_leads_out_of_its_family(router: StartRouter, first: ScriptedUpstream, path: str) -> None:
    """However a way up is written, it is refused: behind the upstream's own decoding it would be another endpoint."""
    running = await router(first, pins={"files": "first"})
    got = await ask(running, bare(path), "GET")
    assert (got.status, got.error["reason"]) == (400, "malformed_http")
    assert first.received == []


@pytest.mark.parametrize(
    "path", ["/v1/files/a..b", "/v1/files/..a", "/v1/files/a%2Fb", "/v1/files/...", "/v1/files/a.."]
)
async def test_dots_in_names_are_no_way_up(router: StartRouter, first: ScriptedUpstream, path: str) -> None:
    """Names that only look like it arrive as they were written."""
    running = await router(first, pins={"files": "first"})
    assert (await ask(running, bare(path), "GET")).status == 200
    assert first.received[0].line == f"GET {path} HTTP/1.1".encode()


async def test_two_content_types_are_refused(router: StartRouter, first: ScriptedUpstream) -> None:
    """With two boundaries a form holds two models: the one that is paid for and the one that the upstream reads."""
    running = await router(first)
    data = upload(form(b"x"), "Content-Type: multipart/form-data; boundary=other")
    got = await ask(running, data)
    assert (got.status, got.error["reason"]) == (400, "malformed_http")
    assert first.received == []


async def test_an_empty_change_says_how_long_it_is(router: StartRouter, first: ScriptedUpstream) -> None:
    """PUT and PATCH without a body carry a length of 0, as servers expect of methods that have one (RFC 9110 8.6)."""
    running = await router(first, pins={"files": "first"})
    for method in ("PUT", "PATCH"):
        assert (await ask(running, bare("/v1/files/a", method), method)).status == 200
    assert [received.values("content-length") for received in first.received] == [[b"0"], [b"0"]]


async def test_a_wrong_method_is_told_in_the_dialect_of_its_path(router: StartRouter, first: ScriptedUpstream) -> None:
    """405 on a path of Anthropic's comes in Anthropic's envelope."""
    running = await router(first)
    got = await ask(running, bare("/v1/messages"), "GET")
    assert (got.status, got.json["type"], got.header("allow")) == (405, "error", "POST")
    assert got.header("request-id") == got.json["request_id"]


# bodies


@pytest.mark.parametrize("spool_from", ["10B", "1MiB"])
async def test_a_compressed_body_that_is_not_read_is_not_garbled(
    router: StartRouter, first: ScriptedUpstream, spool_from: str
) -> None:
    """What goes to a pinned upstream goes there decoded, as its head then says."""
    running = await router(first, pins={"files": "first"}, requests={"spool_from": spool_from})
    body = b'{"purpose":"batch","padding":"' + b"x" * 100 + b'"}'
    assert (await ask(running, post(gzip.compress(body), "Content-Encoding: gzip", path="/v1/files"))).status == 200
    assert first.received[0].body == body
    assert first.received[0].values("content-encoding") == []


async def test_decoded_bodies_count_against_the_bound(router: StartRouter, first: ScriptedUpstream) -> None:
    """Of many small requests that become large, only so many are held at once."""
    running = await router(first, requests={"body_max": "1MiB", "bodies_total_max": "1200KiB"})
    small = gzip.compress(chat.request(padding="a" * 1_000_000))
    first.then(play(wait_for(go_on := asyncio.Event()), json_answer()))
    async with await running.open(small, "Content-Encoding: gzip") as client:
        await first.asked()
        got = await running.post(small, "Content-Encoding: gzip")
        assert (got.status, got.error["reason"]) == (503, "overloaded")
        go_on.set()
        assert (await client.answer()).status == 200
    assert (await running.post(small, "Content-Encoding: gzip")).status == 200


async def test_an_upload_on_disk_needs_no_memory(router: StartRouter, first: ScriptedUpstream) -> None:
    """When the memory for bodies is full, what is being written to disk goes on."""
    bounds = {"spool_from": "64KiB", "bodies_total_max": "200KiB"}
    running = await router(first, requests=bounds)
    first.then(play(wait_for(go_on := asyncio.Event()), json_answer()))
    body = form(b"\x00" * 500_000)
    async with await running.connect() as client, await running.connect() as other:
        sent = upload(body)
        await client.send(sent[:200_000])
        await until(lambda: "body_bytes" not in running.held() and any(spools()), "the body to be on disk")
        await other.send(post(chat.request(padding="a" * 180_000)))
        await first.asked()
        await client.send(sent[200_000:])
        assert (await client.answer()).status == 200
        go_on.set()
        assert (await other.answer()).status == 200


def spools() -> list[int]:
    """Nameless files that this process has open."""
    found = []
    for each in os.listdir("/proc/self/fd"):  # noqa: PTH208 (links to nothing are what is looked for)
        try:
            if "(deleted)" in os.readlink(f"/proc/self/fd/{each}"):  # noqa: PTH115 (as above)
                found.append(int(each))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("when", ["at_once", "on_the_way"])
async def test_a_failing_disk_ends_one_request(
    router: StartRouter, second: ScriptedUpstream, tmp_path: Path, when: str
) -> None:
    """A body that cannot be read back is our failure: told once, nobody's blame, and nothing is said behind it."""
    go_on = asyncio.Event()

    async def reads_late(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        while await reader.read(65536):
            pass

    sent = upload(form(b"\x00" * 8_000_000, stream="true"))
    before = set(spools())
    async with serving(reads_late) as base_url:
        running = await router(
            base_url,
            second,
            requests={"spool_from": "64KiB", "spool_dir": str(tmp_path)},
            defaults={"streams": {"heartbeat": "20ms"}},
        )
        running.bugs = 1
        async with await running.connect() as client:
            await client.send(sent[:-10])
            await until(lambda: set(spools()) > before, "the body to be on disk")
            await running.caught_up(client)
            if when == "at_once":
                ends = unreadable(set(spools()) - before)
                await client.send(sent[-10:])
            else:
                await client.send(sent[-10:])
                await until(running.in_flight, "the request to be on its way")
                await asyncio.sleep(0.05)
                ends = unreadable(set(spools()) - before)
                go_on.set()
            got = await client.answer()
            assert (got.status, got.error["reason"]) == (500, "internal")
            await asyncio.sleep(0.1)
            assert client.unread == b""
        for end in ends:
            os.close(end)
    assert running.causes() == [("first", "client_gone")]
    assert blamed(running) == []


def unreadable(numbers: set[int]) -> list[int]:
    """Put pipes, in which nothing can be read at a place, where these files are; return what has to be closed."""
    ends = []
    for number in numbers:
        reading, writing = os.pipe()
        os.dup2(writing, number)
        os.close(writing)
        ends.append(reading)
    return ends


# what is stored and what costs


async def test_what_creates_something_is_not_sent_twice(router: StartRouter, first: ScriptedUpstream) -> None:
    """A batch may have been made though the answer is lost: the client decides whether to ask again."""
    first.always(play(send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), cut()))
    running = await router(first, pins={"batches": "first"})
    assert (await ask(running, post(b"{}", path="/v1/batches"))).status == 502
    assert len(first.received) == 1
    first.then(error(500))
    assert (await ask(running, bare("/v1/batches/b", "DELETE"), "DELETE")).status == 500
    assert len(first.received) == 2
    first.then(error(500), json_answer(b"{}"))
    assert (await ask(running, bare("/v1/batches"), "GET")).status == 200
    assert len(first.received) == 4


async def test_what_creates_something_is_not_sent_again_on_a_kept_connection(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """It may have been made by whoever hung up without a word, so it is sent on a new connection, and once."""
    first.then(json_answer(b"{}"), cut()).always(json_answer(b"{}"))
    running = await router(first, pins={"batches": "first"})
    for status in (200, 502):
        assert (await ask(running, post(b"{}", path="/v1/batches"))).status == status
    assert [received.place for received in first.received] == [0, 0]


async def test_long_answers_that_are_no_text_cost_no_tokens(router: StartRouter, first: ScriptedUpstream) -> None:
    """A megabyte of vectors without a report of usage is not a quarter of a million tokens."""
    first.always(json_answer(b'{"data":[{"embedding":"' + b"A" * 900_000 + b'"}]}'))
    running = await router(first, keys=KEYS)
    for _ in range(3):
        assert (await ask(running, asking("/v1/embeddings", key=CLIENT_SECRET, input="x"))).status == 200
    assert all(record.charged_tokens < 100 for record in running.ended)


async def test_a_response_in_the_background_is_paid_for_where_its_end_is_seen(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """Whoever leaves the stream of a background response pays when they come back for it, once."""
    running = await router(first, keys=KEYS)
    begun = {"id": "resp_1", "object": "response", "status": "in_progress", "background": True}
    ended = begun | {"status": "completed", "usage": {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}}
    first.then(
        play(
            sse_head(),
            chunks(
                named("response.created", response=begun),
                named("response.output_text.delta", delta="Hi"),
            ),
            stall(),
        )
    )
    async with await running.connect() as client:
        await client.send(asking("/v1/responses", key=CLIENT_SECRET, stream=True, background=True))
        await client.head()
        await client.until(b"Hi")
        await client.leave()
    left = await running.record()
    assert (left.outcome, left.charged_tokens, left.metered) == ("client_gone", 0, False)
    first.always(sse_stream(named("response.completed", response=ended), done=False))
    for _ in range(2):
        assert (await ask(running, bare("/v1/responses/resp_1?stream=true", key=CLIENT_SECRET), "GET")).status == 200
    assert [record.charged_tokens for record in running.ended] == [0, 13, 0]


async def test_an_id_is_found_however_it_is_escaped(router: StartRouter, first: ScriptedUpstream) -> None:
    """SDKs escape ids in paths; the id is the same, and the upstream gets it as the client wrote it."""
    first.then(json_answer(b'{"id":"resp_a/b=","object":"response","status":"completed"}'))
    running = await router(first, keys=KEYS)
    await ask(running, asking("/v1/responses", key=CLIENT_SECRET))
    first.always(json_answer(b'{"id":"resp_a/b=","object":"response","status":"completed"}'))
    assert (await ask(running, bare("/v1/responses/resp_a%2Fb%3D", key=CLIENT_SECRET), "GET")).status == 200
    assert first.received[1].line == b"GET /v1/responses/resp_a%2Fb%3D HTTP/1.1"
    got = await ask(running, bare("/v1/responses/resp_a%2Fb%3D", key=OTHER_SECRET), "GET")
    assert (got.status, len(first.received)) == (404, 2)
    assert (
        await ask(running, bare("/v1/responses/resp_a%2Fb%3D", "DELETE", key=CLIENT_SECRET), "DELETE")
    ).status == 200
    assert (await ask(running, bare("/v1/responses/resp_a%2Fb%3D", key=CLIENT_SECRET), "GET")).status == 404


@pytest.mark.parametrize("identity", ["a" * 5000, "%00", "..a", "resp_2", "%2F%2Fhost", "resp_1%20", "RESP_1", "%"])
async def test_ids_of_nobody_go_nowhere(router: StartRouter, first: ScriptedUpstream, identity: str) -> None:
    """However odd an id is: what the router did not see made does not exist."""
    first.then(json_answer(b'{"id":"resp_1","object":"response","status":"completed"}'))
    running = await router(first)
    await ask(running, asking("/v1/responses"))
    got = await ask(running, bare(f"/v1/responses/{identity}"), "GET")
    assert got.status == (400 if identity == "%" else 404)
    assert len(first.received) == 1


async def test_what_a_fallback_answered_goes_on_there(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A conversation whose first answer came from the fallback continues at the member that holds it."""
    first.always(error(503))
    second.always(json_answer(b'{"id":"resp_1","object":"response","status":"completed"}'))
    running = await router(
        first,
        second,
        models={
            "m": {"pool": ["first"], "fallback": ["n"]},
            "n": {"pool": [{"upstream": "second", "model": "there"}]},
        },
    )
    assert (await ask(running, asking("/v1/responses"))).status == 200
    got = await ask(running, asking("/v1/responses", previous_response_id="resp_1"))
    assert got.status == 200
    assert [received.json["model"] for received in second.received] == ["there", "there"]


async def test_nobody_is_asked_twice_for_what_is_elsewhere(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """An earlier response that no member has is looked for once at each, and then the client is told."""
    missing = error(400, chat.error_body("No.", kind="invalid_request_error", code="previous_response_not_found"))
    first.always(missing)
    second.always(missing)
    running = await router(first, second)
    got = await ask(running, asking("/v1/responses", previous_response_id="resp_0"))
    assert (got.status, len(first.received), len(second.received)) == (400, 1, 1)


@pytest.mark.parametrize("name", ["previous_response_id", "conversation"])
async def test_an_earlier_answer_is_named_once(router: StartRouter, first: ScriptedUpstream, name: str) -> None:
    """Two spellings of an id are two readers' two ids, one of which may be another key's."""
    running = await router(first)
    for other in (name, name.title()):
        body = b'{"model":"m","%b":"a","%b":"b"}' % (name.encode(), other.encode())
        got = await ask(running, post(body, path="/v1/responses"))
        assert (got.status, got.error["reason"], got.error["param"]) == (400, "duplicate_parameter", name)
    assert first.received == []


MISSING = error(404, chat.error_body("The model does not exist.", kind="invalid_request_error", code="model_not_found"))


async def test_a_wrong_name_under_a_pattern_is_the_clients(router: StartRouter, first: ScriptedUpstream) -> None:
    """A pattern promises no model: what the upstream does not have is told as such, and takes nobody out."""
    first.always(MISSING)
    running = await router(first, models={"any-*": {"pool": ["first"]}})
    for _ in range(6):
        got = await running.post(chat.request(model="any-thing"))
        assert (got.status, got.error["message"].startswith("The model does not exist.")) == (404, True)
    assert running.ended[-1].outcome == "client_error"
    assert blamed(running) == []


async def test_a_wrong_name_in_what_is_not_read_is_the_clients(router: StartRouter, first: ScriptedUpstream) -> None:
    """Nor does the router know what a request to a pinned upstream names."""
    first.always(MISSING)
    running = await router(first, pins={"assistants": "first"})
    for _ in range(6):
        assert (await ask(running, post(b'{"model":"none"}', path="/v1/assistants"))).status == 404
    assert len(first.received) == 6
    assert blamed(running) == []


async def test_an_error_event_does_not_tell_our_credential(router: StartRouter, first: ScriptedUpstream) -> None:
    """An upstream that quotes the credential in its stream is passed on without it."""
    quoting = chat.event({"error": {"message": f"Bad key {UPSTREAM_SECRET}.", "type": "server_error", "code": None}})
    first.then(sse_stream(chat.role(), chat.token("Hi"), quoting))
    running = await router(first)
    got = await running.stream()
    assert UPSTREAM_SECRET.encode() not in got.body
    assert json.loads(got.events[-2][6:])["error"]["message"] == "Bad key ***."


async def test_a_compressed_stream_with_pauses_is_one_body(router: StartRouter, first: ScriptedUpstream) -> None:
    """Compressed bytes that make no text yet, in the middle of a long event: the client's body goes on."""
    events = (named("image_generation.completed", b64_json=BIG),)
    packer = zlib.compressobj(wbits=31)
    text = b"".join(events)
    pieces = [packer.compress(text[:1_200_000]), packer.flush(zlib.Z_SYNC_FLUSH)]
    empty = packer.flush(zlib.Z_FULL_FLUSH) or b"\x00\x00\x00\xff\xff"
    pieces += [empty, packer.compress(text[1_200_000:]) + packer.flush()]

    async def paced(turn: Turn) -> None:
        await sse_head("content-encoding: gzip")(turn)
        for piece in pieces:
            if piece:
                await turn.chunk(piece)
            await asyncio.sleep(0.05)
        await turn.send(b"0\r\n\r\n")

    first.then(paced)
    running = await router(first)
    got = await ask(running, asking("/v1/images/generations", stream=True))
    assert (got.ending, got.body) == (Ending.CLEAN, text)


# uploads and answers that cross


@asynccontextmanager
async def serving(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """An upstream that answers when it likes, whatever it has read; a base URL."""
    tasks = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)


@pytest.mark.parametrize("holds_on", [True, False])
async def test_an_answer_that_comes_before_the_upload_has_ended(
    router: StartRouter, tmp_path: Path, holds_on: bool
) -> None:
    """The client gets it whole; the rest of the body is not sent on, and the connection serves nobody else."""
    events = named("transcript.text.delta", delta="Hi") + chat.DONE
    late = asyncio.Event()
    got_bytes, before = 0, spools()

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got_bytes
        await reader.readuntil(b"\r\n\r\n")
        ending = b"" if holds_on else b"0\r\n\r\n"
        answer = head(200, chat.CONTENT_TYPE_SSE, "transfer-encoding: chunked")
        writer.write(answer + b"%x\r\n%b\r\n%b" % (len(events), events, ending))
        await late.wait()
        while data := await reader.read(65536):
            got_bytes += len(data)

    async with serving(early) as base_url:
        running = await router(base_url, requests={"spool_from": "64KiB", "spool_dir": str(tmp_path)})
        got = await ask(running, upload(form(b"\x00" * 50_000_000, stream="true")))
        assert (got.status, got.ending, got.body) == (200, Ending.CLEAN, events)
        await until(lambda: spools() == before, "the file to be gone")
        late.set()
        await running.rest()
    assert got_bytes < 50_000_000
    record = await running.record()
    assert (record.outcome, record.attempts[0].cause) == ("ok", "ok")


async def test_an_upload_that_goes_on_behind_the_answers_head_takes_no_negative_time(
    router: StartRouter, tmp_path: Path
) -> None:
    """An upstream that says its status first and reads then: the time to its head is measured from the beginning."""

    async def head_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = await reader.readuntil(b"\r\n\r\n")
        writer.write(head(200, chat.CONTENT_TYPE_JSON, "content-length: 12"))
        await asyncio.sleep(0.05)
        length = int(re.search(rb"content-length: (\d+)", lines, re.IGNORECASE)[1])  # type: ignore[index] # it is there
        await reader.readexactly(length)
        writer.write(b'{"text":"a"}')
        await reader.read()

    async with serving(head_first) as base_url:
        running = await router(base_url, requests={"spool_from": "64KiB", "spool_dir": str(tmp_path)})
        assert (await ask(running, upload(form(b"\x00" * 30_000_000)))).json == {"text": "a"}
        record = await running.record()
        assert record.attempts[0].head_s >= 0


async def test_an_upstream_that_stops_reading_an_upload_is_left(router: StartRouter, second: ScriptedUpstream) -> None:
    """Without progress for `first_byte` the upload goes to the next member, whole; with progress it may take longer."""

    async def reads_nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    body = form(bytes(range(256)).replace(b"\r", b"") * 40_000)
    async with serving(reads_nothing) as base_url:
        running = await router(
            base_url, second, requests={"spool_from": "64KiB"}, defaults={"timeouts": {"first_byte": "200ms"}}
        )
        second.then(json_answer(b'{"text":"a"}'))
        assert (await ask(running, upload(body))).status == 200
        assert running.causes() == [("first", "timeout_first_byte"), ("second", "ok")]
    assert second.received[0].body == body


async def test_a_slow_upload_is_no_silence(router: StartRouter) -> None:
    """An upstream that goes on reading, however slowly, has all of `first_byte` for its answer afterwards."""

    async def reads_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", lines, re.IGNORECASE)[1])  # type: ignore[index] # it is there
        while length:
            length -= len(await reader.read(min(length, 1_000_000)))
            await asyncio.sleep(0.01)
        writer.write(head(200, chat.CONTENT_TYPE_JSON, "content-length: 12") + b'{"text":"a"}')
        await reader.read()

    async with serving(reads_slowly) as base_url:
        running = await router(
            base_url, requests={"spool_from": "64KiB"}, defaults={"timeouts": {"first_byte": "400ms"}}
        )
        assert (await ask(running, upload(form(b"\x00" * 60_000_000)))).status == 200
        assert running.causes() == [("first", "ok")]


async def test_a_client_that_leaves_during_an_upload_ends_it(router: StartRouter) -> None:
    """While a body goes upstream its client vanishes: the upstream connection closes, and nothing stays held."""
    begun, gone, left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def reads_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        await gone.wait()
        try:
            while await reader.read(65536):
                pass
        finally:
            left.set()

    async with serving(reads_nothing) as base_url:
        running = await router(base_url, requests={"spool_from": "64KiB"})
        before = spools()
        client = await running.connect()
        await client.send(upload(form(b"\x00" * 50_000_000)))
        await begun.wait()
        client.reset()
        assert (await running.record()).outcome == "client_gone"
        await until(lambda: spools() == before, "the file to be gone")
        gone.set()
        async with asyncio.timeout(10):
            await left.wait()


async def test_an_upload_is_asked_for_with_a_word(router: StartRouter, first: ScriptedUpstream) -> None:
    """`Expect: 100-continue` with a form: the word comes, the body then, and what is pipelined behind it."""
    first.always(json_answer(b'{"text":"a"}'))
    running = await router(first, requests={"spool_from": "1KiB"}, pins={"files": "first"})
    data = upload(form(b"\x00" * 100_000), "Expect: 100-continue")
    async with await running.connect() as client:
        border = data.index(b"\r\n\r\n") + 4
        await client.send(data[:border])
        await until(lambda: client.unread, "leave to go on")
        await client.send(data[border:] + bare("/v1/files") + bare("/v1/files/a", "DELETE") + post(chat.request()))
        got = await client.answer()
        assert (got.status, got.interim) == (200, [b"HTTP/1.1 100 Continue\r\n\r\n"])
        for method in ("GET", "DELETE", "POST"):
            assert (await client.answer(method)).status == 200
    assert [received.line.split()[0] for received in first.received] == [b"POST", b"GET", b"DELETE", b"POST"]


async def test_a_connection_that_closes_at_once_is_noticed(router: StartRouter, second: ScriptedUpstream) -> None:
    """An upstream that accepts and hangs up, before anything was sent: no time is lost with waiting for it."""

    async def hangs_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with serving(hangs_up) as base_url:
        running = await router(base_url, second, defaults={"ejection": {"consecutive": 1000, "min_outcomes": 1000}})
        for _ in range(50):
            assert (await running.post()).status == 200


async def test_a_stop_ends_uploads(router: StartRouter) -> None:
    """When the time to drain is over both halves of an upload end: the one that comes in, and the one that goes out."""

    async def reads_nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    before = spools()
    async with serving(reads_nothing) as base_url:
        running = await router(base_url, requests={"spool_from": "64KiB"}, stop={"notice": "1ms", "drain": "200ms"})
        data = upload(form(b"\x00" * 20_000_000))
        async with await running.connect() as going, await running.connect() as coming:
            await going.send(data)
            await until(running.in_flight, "the upload to be on its way")
            await coming.send(data[:5_000_000])
            await until(lambda: len(spools()) == len(before) + 2, "both bodies to be on disk")
            running.stopped = True
            await running.daemon.stop()
            for client in (going, coming):
                got = await client.answer()
                assert (got.status, got.error["reason"]) == (503, "draining")
    assert spools() == before


# everything at once


def answered(name: str, rng: Random) -> Script:
    """Some answer, right or wrong for what was asked, in any framing, that says this name and no other."""
    status = rng.choice([*[200] * 12, 201, 202, 204, 206, 301, 304, 400, 401, 404, 413, 429, 500, 503, 529, 999])
    kind = rng.choice(["application/json", "text/event-stream", "audio/mpeg", "text/event-stream", ""])
    body = rng.choice([b"", b"{", b"<html>", chat.completion(name), chat.error_body(name), b'{"id":"resp_1"}'])
    if kind == "text/event-stream":
        events = rng.choice(
            [
                [*chat.answer(name, name), chat.usage_event(), chat.DONE],
                [named("response.output_text.delta", delta=name), named("response.completed", response={})],
                [named("image_generation.completed", b64_json=name * rng.choice([1, 300_000]))],
                [named("message_start"), named("content_block_delta", delta={"text": name}), named("message_stop")],
            ]
        )
        body = b"".join(events[: rng.choice([9, 9, 1, 0])])
    coding = rng.choice(["", "", "", "gzip", "br"])
    body = gzip.compress(body) if coding == "gzip" else body
    lines = [f"content-type: {kind}"] * bool(kind) + [f"content-encoding: {coding}"] * bool(coding)
    size = max(1, len(body) // rng.choice([1, 2, 5]))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    end = rng.choice([*[send()] * 6, cut(), reset(), stall()])
    match rng.choice(["chunks", "length", "close", "lie"]):
        case "chunks":
            whole = [send(b"0\r\n\r\n")] * rng.choice([1, 1, 1, 0])
            return play(send(head(status, *lines, "transfer-encoding: chunked")), chunks(*pieces), *whole, end)
        case "length":
            return play(send(head(status, *lines, f"content-length: {len(body)}"), *pieces), end)
        case "close":
            return play(send(head(status, *lines), *pieces), cut())
        case _:
            length = max(0, len(body) + rng.choice([-1, 1]))
            return play(send(head(status, *lines, f"content-length: {length}"), *pieces), cut())


def asked(name: str, rng: Random) -> tuple[str, bytes]:
    """Some request under this name: its method and its bytes."""
    streams: list[Settings] = [{}, {"stream": True}, {"stream": True, "n": 2}]
    stream = rng.choice(streams)
    who = f"x-name: {name}"
    method = rng.choice(["GET", "POST", "DELETE", "PATCH", "HEAD"])
    path = rng.choice(["/v1/files", "/v1/files/a", "/v1/responses/resp_1", "/v1/responses/resp_1?stream=true"])
    size = rng.choice([10, 2_000_000])
    return rng.choice(
        [
            ("POST", asking("/v1/chat/completions", who, messages=[{"role": "user", "content": "Hi"}], **stream)),
            ("POST", asking("/v1/messages", who, max_tokens=9, messages=[{"role": "user", "content": "Hi"}], **stream)),
            ("POST", asking("/v1/responses", who, input="x", background=rng.random() < 0.3, **stream)),
            ("POST", asking(rng.choice(["/v1/embeddings", "/v1/audio/speech", "/v1/new/thing"]), who, **stream)),
            ("POST", asking("/v1/images/generations", who, **stream)),
            ("POST", upload(form(b"\x00" * size, stream=rng.choice(["true", "false"])), who)),
            ("POST", upload(b"\x00" * size, who, path="/v1/files")),
            (method, post(b"", who, path=path, method=method, framing="")),
        ]
    )


async def one_client(running: RunningRouter, number: int, rng: Random) -> None:
    """Ask once, and once more on the same connection if it stays; or leave at any moment."""
    name = f"<{number}>"
    method, data = asked(name, rng)
    leaves = rng.random() < 0.2
    async with await running.connect() as client:
        await client.send(data[: rng.randrange(1, len(data))] if leaves else data)
        if leaves:
            return
        for _ in range(2):
            got = await client.answer(method)
            text = got.body if got.header("content-encoding") != "gzip" else b""
            assert set(re.findall(rb"<[0-9]+>", text)) <= {name.encode()}, (method, data[:200], got.head)
            if got.ending is Ending.ABORTED or got.header("connection") == "close":
                return
            assert client.unread == b"", (method, data[:200], got.head)
            method = "POST"
            await client.send(post(chat.request(), f"x-name: {name}"))


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_mixes_and_nothing_stays(
    router: StartRouter, upstreams: list[ScriptedUpstream], seed: int
) -> None:
    """Whatever is asked of every endpoint and whatever upstreams answer: each client reads its own name alone, in
    sound framing, and in the end nothing is held."""
    rng = Random(seed)

    async def moody(turn: Turn) -> None:
        await answered(turn.request.values("x-name")[0].decode(), rng)(turn)

    first, second, third, _ = upstreams
    for upstream in upstreams:
        upstream.always(moody)
    soon = dict.fromkeys(("first_byte", "first_token", "idle"), "200ms")
    running = await router(
        upstreams={
            "first": {"base_url": first.base_url},
            "second": {"base_url": second.base_url, "drop_params": ["n"]},
            "third": {"base_url": third.base_url, "protocol": "anthropic"},
        },
        models={"m": {"pool": ["first", "second", "third"], "translate": True}},
        pins={"files": "second"},
        passthrough_unknown_paths=True,
        requests={"spool_from": "64KiB"},
        defaults={
            "timeouts": soon,
            "retry": {"budget_min": 1000},
            "ejection": {"consecutive": 1000, "min_outcomes": 10_000},
            "streams": {"hold": "30ms", "heartbeat": "20ms", "early_keepalive": bool(seed % 2)},
        },
    )
    for start in range(0, 150, 25):
        await asyncio.gather(*(one_client(running, number, rng) for number in range(start, start + 25)))
