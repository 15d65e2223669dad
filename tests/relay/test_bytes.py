"""Bytes in, bytes out: what reaches the upstream, and what reaches the client (PROTOCOL 1, 3.2, 3.4, 4, 5.3)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.harness import chat
from tests.harness.client import Ending, post
from tests.harness.router import CLIENT_SECRET, UPSTREAM_SECRET
from tests.harness.upstream import (
    chunks,
    drip,
    head,
    json_answer,
    last_chunk,
    plain,
    play,
    send,
    sse_head,
    sse_stream,
    wait_for,
)

if TYPE_CHECKING:
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

ODD_BODIES = {
    "numbers": b'{"model":@,"messages":[],"temperature":1.10,"a":1e2,"b":1E400,"c":0.1000000000000000055,"d":-0}',
    "long_integer": b'{"model":@,"messages":[],"seed":12345678901234567890123}',
    "key_order": b'{"messages":[],"zz":1,"model":@,"aa":2}',
    "spaces": b'{  "messages" :\t[ ] ,\r\n  "model"  :  @  }  ',
    "escapes": b'{"messages":[{"role":"user","content":"\\u00e9 \\/ \\"model\\":\\"x\\""}],"model":@}',
    "escaped_key": b'{"messages":[],"mo\\u0064el":@}',
    "utf_8": '{"messages":[{"role":"user","content":"é😀"}],"model":@}'.encode(),
    "lone_surrogate": b'{"messages":[{"role":"user","content":"\\ud800"}],"model":@}',
    "nested_model": b'{"messages":[{"model":"other"}],"model":@,"metadata":{"model":"x"}}',
    "unknown_fields": b'{"model":@,"messages":[],"x_vendor":{"deep":[null,true]},"":0}',
    "duplicate_elsewhere": b'{"model":@,"messages":[],"user":"a","user":"b"}',
}
"""Bodies that a JSON library would not write back as they were; `@` stands for the value of `model`."""


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
async def test_a_body_arrives_byte_for_byte(router: StartRouter, first: ScriptedUpstream, body: bytes) -> None:
    """A request that needs no splice reaches the upstream exactly as the client wrote it."""
    running = await router(first)
    assert (await running.post(body.replace(b"@", b'"m"'))).status == 200
    assert first.received[0].body == body.replace(b"@", b'"m"')


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
async def test_only_the_model_value_is_spliced(router: StartRouter, first: ScriptedUpstream, body: bytes) -> None:
    """A member with a name of its own gets that name in place of the client's and not one other byte changed."""
    running = await router(first, model={"pool": [{"upstream": "first", "model": 'vendor/"m"'}]})
    assert (await running.post(body.replace(b"@", b'"m"'))).status == 200
    assert first.received[0].body == body.replace(b"@", b'"vendor/\\"m\\""')


async def test_a_chunked_request_body_arrives_whole(router: StartRouter, first: ScriptedUpstream) -> None:
    """The upstream gets the decoded bytes under a content length, whatever framing the client used."""
    running = await router(first)
    body = chat.request(user="x" * 5000)
    framed = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:1], body[1:4000], body[4000:]))
    client = await running.connect()
    await client.send(post(b"", framing="Transfer-Encoding: chunked") + framed + b"0\r\n\r\n")
    assert (await client.answer()).status == 200
    assert first.received[0].body == body
    assert first.received[0].values("content-length") == [str(len(body)).encode()]


async def test_a_large_body_arrives_whole(router: StartRouter, first: ScriptedUpstream) -> None:
    """Four megabytes cross unharmed, the model spliced behind them."""
    running = await router(first, model={"pool": [{"upstream": "first", "model": "there"}]})
    text = "0123456789abcdef" * (4 * 65536)
    body = b'{"messages":[{"role":"user","content":"' + text.encode() + b'"}],"model":"m"}'
    assert (await running.post(body)).status == 200
    assert first.received[0].body == body.replace(b'"model":"m"', b'"model":"there"')


async def test_a_request_sent_byte_by_byte_is_one_request(router: StartRouter, first: ScriptedUpstream) -> None:
    """How the client cuts its request into packets changes nothing."""
    running = await router(first)
    client = await running.connect()
    body = chat.request()
    await client.drip(post(body))
    assert (await client.answer()).body == chat.completion()
    assert first.received[0].body == body


async def test_request_headers_follow_the_policy(router: StartRouter, first: ScriptedUpstream) -> None:
    """Hop-by-hop, credential, cookie and origin headers stay here; all others arrive as they were written."""
    running = await router(first, upstream={"headers": {"set": {"X-Set": "ours"}, "deny": ["x-denied"]}})
    passing = ["User-Agent: odd/1.0", "X-Stainless-Lang: python", "OpenAI-Beta: a=b", "Idempotency-Key: 7"]
    passing += ["traceparent: 00-a-b-01", "HTTP-Referer: https://x", "x-CASE-Kept: Yes; yes", "Accept: text/html"]
    dropped = ["Cookie: a=b", "X-Forwarded-For: 1.2.3.4", "Via: 1.1 x", "x-api-key: client-key", "Keep-Alive: 5"]
    dropped += ["Connection: keep-alive, x-hop, authorization", "x-hop: 1", "TE: trailers", "Forwarded: for=1"]
    dropped += [
        "OpenAI-Organization: org-1",
        "Origin: app://x",
        "Referer: http://x",
        "CF-Ray: 1",
        "X-Real-IP: 1.1.1.1",
    ]
    dropped += ["Accept-Encoding: gzip", "X-Denied: 1", "Proxy-Authorization: Basic x", "X-Set: theirs"]
    await running.post(None, *passing, *dropped)
    rows = [name + b": " + value for name, value in first.received[0].headers]
    names = [name.lower() for name, _ in first.received[0].headers]
    for row in passing:
        assert row.encode() in rows
    for row in dropped:
        assert row.encode() not in rows
    gone = {b"cookie", b"x-forwarded-for", b"via", b"x-api-key", b"x-hop", b"te", b"forwarded", b"origin", b"referer"}
    gone |= {b"openai-organization", b"cf-ray", b"x-real-ip", b"x-denied", b"proxy-authorization", b"keep-alive"}
    assert gone.isdisjoint(names)
    assert first.received[0].values("authorization") == [f"Bearer {UPSTREAM_SECRET}".encode()]
    assert first.received[0].values("host") == [f"127.0.0.1:{first.port}".encode()]
    assert first.received[0].values("accept-encoding") == [b"identity"]
    assert first.received[0].values("x-set") == [b"ours"]


async def test_the_clients_key_stays_here(router: StartRouter, first: ScriptedUpstream) -> None:
    """The upstream sees its own credential and nowhere a client's key."""
    running = await router(first, keys={"team": {"secret": {"env": "CLIENT_SECRET"}}})
    assert (
        await running.post(None, f"x-api-key: {CLIENT_SECRET}", f"api-key: {CLIENT_SECRET}", key=CLIENT_SECRET)
    ).status == 200
    assert CLIENT_SECRET.encode() not in first.received[0].head


async def test_path_and_query_arrive_as_written(router: StartRouter, first: ScriptedUpstream) -> None:
    """The upstream's base replaces `/v1`, the query passes untouched, credentials in it do not."""
    running = await router(first, upstream={"query": {"api-version": "2024-10-21"}})
    client = await running.connect()
    await client.send(post(chat.request(), path="/v1/chat/completions?a=%41&b=c%2Fd&api-key=secret"))
    assert (await client.answer()).status == 200
    target = first.received[0].line.split(b" ")[1]
    path, _, query = target.partition(b"?")
    assert path == b"/v1/chat/completions"
    assert query.startswith(b"a=%41&b=c%2Fd")
    assert b"api-version=2024-10-21" in query
    assert b"secret" not in query


ODD_ANSWERS = {
    "spaces": b'\n\n  {"choices" : [ ], "usage":null, "x": 1.10 }  \r\n',
    "escapes": b'{"choices":[{"message":{"content":"\\u00e9\\/"}}],"data":1e400}',
    "not_utf_8": b'{"choices":["\xff\xfe"]}',
    "large": b'{"choices":["' + b"y" * 3_000_000 + b'"]}',
}


@pytest.mark.parametrize("body", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
async def test_a_whole_answer_arrives_byte_for_byte(router: StartRouter, first: ScriptedUpstream, body: bytes) -> None:
    """Status and body are the upstream's, to the byte."""
    first.always(json_answer(body))
    answer = await (await router(first)).post()
    assert (answer.status, answer.body, answer.ending) == (200, body, Ending.CLEAN)


@pytest.mark.parametrize("framing", ["chunked", "until_close", "dripped"])
async def test_the_upstreams_framing_does_not_show(router: StartRouter, first: ScriptedUpstream, framing: str) -> None:
    """Chunked, ended by closing, or in single bytes: the client gets the same body."""
    body = chat.completion()
    json_head = head(200, chat.CONTENT_TYPE_JSON)
    first.always(
        {
            "chunked": play(
                send(head(200, chat.CONTENT_TYPE_JSON, "transfer-encoding: chunked")),
                chunks(body[:1], body[1:50], body[50:]),
                last_chunk(),
            ),
            "until_close": play(send(json_head + body), lambda turn: _close(turn.connection.transport)),
            "dripped": drip(head(200, chat.CONTENT_TYPE_JSON, f"content-length: {len(body)}") + body),
        }[framing]
    )
    answer = await (await router(first)).post()
    assert (answer.status, answer.body, answer.ending) == (200, body, Ending.CLEAN)


async def _close(transport: asyncio.Transport) -> None:
    transport.close()


async def test_interim_answers_are_skipped(router: StartRouter, first: ScriptedUpstream) -> None:
    """100 and 103 before the answer are not taken for it."""
    first.always(play(send(head(100), head(103, "link: </x>")), json_answer()))
    answer = await (await router(first)).post()
    assert (answer.status, answer.body, answer.interim) == (200, chat.completion(), [])


async def test_interim_answers_are_forgotten(router: StartRouter, first: ScriptedUpstream) -> None:
    """A kept connection on which an interim answer came serves the next requests as if it had not."""
    first.then(play(send(head(100), head(103)), json_answer()), json_answer(), play(send(head(102)), json_answer()))
    running = await router(first)
    for place in range(4):
        assert (await running.post()).body == chat.completion()
        assert running.causes() == [("first", "ok")]
        assert first.received[place].place == place


STREAMS = {
    "lf": b"".join((*chat.answer("Hel", "lo", "é😀"), chat.DONE)),
    "crlf": b"".join((*chat.answer("Hel", "lo"), chat.DONE)).replace(b"\n", b"\r\n"),
    "comments": b"".join((*chat.answer("a", "b"), b": bye\n\n: and\n: bye\n\n", chat.DONE)),
    "no_space": b"".join((*chat.answer("a"), chat.DONE)).replace(b"data: ", b"data:"),
    "extra_members": b"".join(
        (chat.event({"choices": [], "prompt_filter_results": [1]}), *chat.answer("a"), chat.DONE)
    ),
    "odd_spacing": b'data:  {"choices" : [ {"delta":{"content":"x"} , "finish_reason" : null } ] }\n\n'
    + chat.finish()
    + chat.DONE,
    "tool_calls": chat.chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]})
    + chat.finish("tool_calls")
    + chat.DONE,
}


@pytest.mark.parametrize("wire", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("step", [1, 7, 1_000_000], ids=["bytes", "sevens", "whole"])
async def test_a_stream_arrives_byte_for_byte(
    router: StartRouter, first: ScriptedUpstream, wire: bytes, step: int
) -> None:
    """However the upstream cuts its events, the client gets the same bytes in the same order.

    Only the terminal marker is always spelled as every client knows it (PROTOCOL 5.2).
    """
    pieces = [wire[at : at + step] for at in range(0, len(wire), step)]
    first.always(play(sse_head(), chunks(*pieces), last_chunk()))
    answer = await (await router(first)).stream()
    expected = wire[: wire.rindex(b"data:")] + chat.DONE
    assert (answer.status, answer.body, answer.ending) == (200, expected, Ending.CLEAN)


async def test_only_whole_events_are_passed_on(router: StartRouter, first: ScriptedUpstream) -> None:
    """Every piece the client gets ends where an event ends, though the upstream cuts inside characters."""
    wire = STREAMS["lf"]
    first.always(play(sse_head(), drip(b"%x\r\n%b\r\n" % (len(wire), wire), step=5), last_chunk()))
    answer = await (await router(first)).stream()
    assert answer.body == wire
    assert all(piece.endswith(b"\n\n") for piece in answer.pieces)


async def test_content_is_passed_on_as_it_comes(router: StartRouter, first: ScriptedUpstream) -> None:
    """An event reaches the client while the upstream has not sent the next."""
    go_on = asyncio.Event()
    first.always(
        play(
            sse_head(),
            chunks(chat.role(), chat.token("early")),
            wait_for(go_on),
            chunks(chat.token("late"), chat.finish(), chat.DONE),
            last_chunk(),
        )
    )
    running = await router(first)
    client = await running.open(chat.request(stream=True))
    await client.head()
    assert b"late" not in await client.until(b"early")
    go_on.set()
    answer = await client.rest()
    assert (b"late" in answer.body, answer.ending) == (True, Ending.CLEAN)


async def test_a_leading_bom_is_dropped(router: StartRouter, first: ScriptedUpstream) -> None:
    """openai-python loses the first event behind a BOM, so the client never gets one (PROTOCOL 5.2)."""
    wire = STREAMS["lf"]
    first.always(play(sse_head(), chunks(b"\xef\xbb\xbf" + wire), last_chunk()))
    assert (await (await router(first)).stream()).body == wire


async def test_answer_headers_follow_the_policy(router: StartRouter, first: ScriptedUpstream) -> None:
    """The operator's account and the upstream's site do not reach the client; everything else does."""
    passing = ["x-generation-id: gen-1", "OpenAI-Processing-Ms: 12", "openai-version: 2020", "x-Unknown: Kept as is"]
    dropped = ["Set-Cookie: a=b", "openai-organization: org-secret", "cf-ray: 1", "Alt-Svc: h3", "NEL: {}"]
    dropped += ["x-ratelimit-remaining-requests: 5", "Strict-Transport-Security: max-age=1", "Keep-Alive: timeout=5"]
    dropped += ["Access-Control-Allow-Origin: *", "openai-project: p", "Report-To: {}", "x-hop: 1", "Connection: x-hop"]
    first.always(json_answer(None, *passing, *dropped))
    answer = await (await router(first)).post()
    rows = [f"{name}: {value}" for name, value in answer.headers]
    names = {name.lower() for name, _ in answer.headers}
    for row in passing:
        assert row in rows
    assert names.isdisjoint(row.partition(":")[0].lower() for row in dropped if not row.startswith("Connection"))
    assert answer.header("content-type") == "application/json"
    assert "org-secret" not in answer.head.decode()


async def test_stream_headers_tell_proxies_not_to_buffer(router: StartRouter, first: ScriptedUpstream) -> None:
    """A stream keeps its content type, is not cached, not buffered, and has no length."""
    first.always(sse_stream(*chat.answer("Hi")))
    answer = await (await router(first)).stream()
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"
    assert answer.header("cache-control") == "no-cache"
    assert answer.header("x-accel-buffering") == "no"
    assert answer.header("content-length") is None


async def test_every_answer_names_its_request(router: StartRouter, first: ScriptedUpstream) -> None:
    """Answers, streams, passed errors and our own errors carry our own `x-request-id`, a new one each time."""
    first.then(
        json_answer(None, "x-request-id: theirs"),
        sse_stream(*chat.answer("Hi")),
        plain(400, chat.error_body(), chat.CONTENT_TYPE_JSON, "x-request-id: theirs"),
    )
    running = await router(first)
    answers = [
        await running.post(None, "X-Request-Id: clients"),
        await running.stream(),
        await running.post(),
        await running.post(chat.request(model="nobody")),
        await running.post(b"not json"),
    ]
    assert [answer.status for answer in answers] == [200, 200, 400, 404, 400]
    ids = {answer.header("x-request-id") for answer in answers}
    assert len(ids) == 5
    assert ids.isdisjoint({None, "theirs", "clients"})
    assert running.ended[0].client_request_id == "clients"


USAGE = chat.usage_event(9, 4)
CONTENT = chat.answer("Hello")


async def test_usage_is_asked_for_and_hidden(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client that did not ask for usage never sees the chunk that was asked for on its behalf."""
    first.always(sse_stream(*CONTENT, USAGE))
    running = await router(first)
    answer = await running.stream()
    assert first.received[0].json["stream_options"] == {"include_usage": True}
    assert answer.body == b"".join(CONTENT) + chat.DONE
    record = await running.record()
    assert record.usage is not None
    assert (record.usage.input, record.usage.output, record.exact) == (9, 4, True)


async def test_usage_the_client_asked_for_arrives(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client that asked for usage gets its chunk, and its request is not touched."""
    first.always(sse_stream(*CONTENT, USAGE))
    running = await router(first)
    body = chat.request(stream=True, stream_options={"include_usage": True})
    answer = await running.post(body)
    assert first.received[0].body == body
    assert answer.body == b"".join((*CONTENT, USAGE)) + chat.DONE


@pytest.mark.parametrize("options", [b"null", b"{}", b'{"include_usage":false}', b'{"x":1}'], ids=repr)
async def test_stream_options_are_spliced_where_they_stand(
    router: StartRouter, first: ScriptedUpstream, options: bytes
) -> None:
    """Whatever stood in `stream_options`, usage is asked for and the other members stay (PROTOCOL 5.3)."""
    first.always(sse_stream(*CONTENT, USAGE))
    running = await router(first)
    answer = await running.post(b'{"a": 1.0, "model":"m","stream":true , "stream_options": ' + options + b', "z":2e0}')
    got = first.received[0]
    assert got.json["stream_options"] == {**(json.loads(options) or {}), "include_usage": True}
    assert got.body.startswith(b'{"a": 1.0, "model":"m","stream":true , "stream_options": ')
    assert got.body.endswith(b', "z":2e0}')
    assert answer.body == b"".join(CONTENT) + chat.DONE


async def test_usage_on_the_finishing_chunk_stays(router: StartRouter, first: ScriptedUpstream) -> None:
    """An event that carries usage and the finish reason is no extra chunk: it passes."""
    last = chat.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": chat.usage(5, 6)})
    first.always(sse_stream(chat.token("a"), last))
    running = await router(first)
    assert (await running.stream()).body == chat.token("a") + last + chat.DONE
    record = await running.record()
    assert record.usage is not None
    assert record.usage.total == 11


async def test_usage_is_not_asked_for_where_it_is_refused(router: StartRouter, first: ScriptedUpstream) -> None:
    """With `auto`, an upstream that rejects `stream_options` is asked once more without it and never again with it."""
    refusal = plain(422, chat.error_body("Extra inputs: stream_options"), chat.CONTENT_TYPE_JSON)
    first.then(refusal).always(sse_stream(*CONTENT))
    running = await router(first)
    assert [(await running.stream()).status for _ in range(2)] == [200, 200]
    assert ["stream_options" in received.json for received in first.received] == [True, False, False]


async def test_never_means_never(router: StartRouter, first: ScriptedUpstream) -> None:
    """`stream_usage: never` sends the client's body as it is; usage is then unknown, not zero."""
    first.always(sse_stream(*CONTENT))
    running = await router(first, upstream={"stream_usage": "never"})
    body = chat.request(stream=True)
    await running.post(body)
    assert first.received[0].body == body
    record = await running.record()
    assert (record.usage, record.exact) == (None, False)


async def test_a_stream_that_was_not_asked_for_passes(router: StartRouter, first: ScriptedUpstream) -> None:
    """The answer's content type decides what is a stream, not the request (PROTOCOL 1, rule 4)."""
    first.always(sse_stream(*CONTENT))
    answer = await (await router(first)).post()
    assert (answer.body, answer.ending) == (b"".join(CONTENT) + chat.DONE, Ending.CLEAN)


async def test_extra_bytes_after_an_answer_meet_nobody(router: StartRouter, first: ScriptedUpstream) -> None:
    """Bytes behind a complete answer are dropped with their connection; the next request gets its own answer."""
    first.then(
        play(json_answer(), send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nEVIL")),
        play(send(head(200, "content-length: 2") + b"{}garbage")),
    )
    running = await router(first)
    answers = [await running.post() for _ in range(3)]
    assert [answer.body for answer in answers] == [chat.completion(), b"{}", chat.completion()]
    assert [received.place for received in first.received] == [0, 0, 0]


async def test_connections_to_upstreams_are_kept(router: StartRouter, first: ScriptedUpstream) -> None:
    """Requests one after another use one connection, streams and whole answers alike."""
    first.then(json_answer(), sse_stream(*CONTENT), json_answer())
    running = await router(first)
    await running.post()
    await running.stream()
    await running.post()
    assert [received.place for received in first.received] == [0, 1, 2]


async def test_debug_headers_name_the_upstream(router: StartRouter, first: ScriptedUpstream) -> None:
    """With `debug.headers` an answer says who gave it and at which attempt, and without it does not."""
    running = await router(first, debug={"headers": True})
    answer = await running.post()
    assert (answer.header("x-router-upstream"), answer.header("x-router-attempts")) == ("first", "1")
