"""Every endpoint that is balanced: what arrives upstream, what comes back, what is recorded (PROTOCOL 2)."""

from __future__ import annotations

import gzip
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import chat
from tests.harness.client import Ending, post
from tests.harness.router import CLIENT_SECRET, UPSTREAM_SECRET, config
from tests.harness.upstream import chunks, cut, error, head, json_answer, last_chunk, plain, play, send, sse_head

if TYPE_CHECKING:
    from tests.harness.client import Answer
    from tests.harness.router import RunningRouter
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}

JSON_ENDPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/completions": ("completions", {"choices": [{"text": "Hi", "finish_reason": "stop"}], "usage": USAGE}),
    "/v1/responses": (
        "responses",
        {"id": "resp_1", "object": "response", "status": "completed", "usage": {"input_tokens": 9, "output_tokens": 4}},
    ),
    "/v1/responses/input_tokens": ("responses", {"object": "response.input_tokens", "input_tokens": 9}),
    "/v1/responses/compact": ("responses", {"id": "resp_2", "object": "response.compaction", "usage": USAGE}),
    "/v1/embeddings": ("embeddings", {"object": "list", "data": [], "usage": {"prompt_tokens": 9, "total_tokens": 9}}),
    "/v1/moderations": ("moderations", {"id": "modr-1", "results": [{"flagged": False}]}),
    "/v1/images/generations": ("images", {"created": 1, "data": [{"b64_json": "AA=="}]}),
    "/v1/images/edits": ("image_edits", {"created": 1, "data": [{"b64_json": "AA=="}]}),
    "/v1/audio/speech": ("speech", {"error": None}),
    "/v1/rerank": ("rerank", {"results": [{"index": 0, "relevance_score": 0.5}], "usage": {"total_tokens": 9}}),
    "/rerank": ("rerank", {"results": [], "meta": {"billed_units": {"search_units": 1}}}),
    "/v2/rerank": ("rerank", {"results": [], "meta": {"tokens": {"input_tokens": 9}}}),
    "/v1/decisions": ("decisions", {"id": "dec_1", "usage": {"input_tokens": 9, "output_tokens": 4}}),
    "/v1/videos": ("videos", {"id": "video_1", "status": "queued"}),
}


async def ask(running: RunningRouter, data: bytes, method: str = "POST") -> Answer:
    """Send a request of any kind on a connection of its own and read the whole answer."""
    async with await running.connect() as client:
        await client.send(data)
        return await client.answer(method)


@pytest.mark.parametrize("path", JSON_ENDPOINTS)
async def test_a_json_request_arrives_with_only_its_model_changed(
    router: StartRouter, first: ScriptedUpstream, path: str
) -> None:
    """Of every JSON endpoint the upstream gets the client's bytes but for the model, and the client the upstream's."""
    name, answer = JSON_ENDPOINTS[path]
    first.then(json_answer(json.dumps(answer).encode()))
    running = await router(first, model={"pool": [{"upstream": "first", "model": "vendor/m"}]})
    body = b'{ "x_unknown" : [1e2, "\\u00e9"],"model":"m" ,"input":"text"}'
    got = await ask(running, post(body, path=f"{path}?beta=true"))
    assert (got.status, got.json) == (200, answer)
    received = first.received[0]
    assert received.body == body.replace(b'"m"', b'"vendor/m"')
    rest = path.removeprefix("/v1").removeprefix("/v2")
    assert received.line == f"POST /v1{rest}?beta=true HTTP/1.1".encode()
    assert received.values("authorization") == [f"Bearer {UPSTREAM_SECRET}".encode()]
    record = await running.record()
    assert (record.endpoint, record.model, record.outcome) == (name, "m", "ok")


@pytest.mark.parametrize(
    ("path", "answer", "tokens"),
    [
        ("/v1/embeddings", {"data": [], "usage": {"prompt_tokens": 9, "total_tokens": 9}}, {"input": 9, "output": 0}),
        ("/v1/responses", {"usage": {"input_tokens": 9, "output_tokens": 4}}, {"input": 9, "output": 4}),
        ("/rerank", {"results": [], "meta": {"billed_units": {"search_units": 2}}}, {"searches": 2}),
        ("/v1/images/generations", {"data": [{"url": "a"}, {"url": "b"}]}, {"images": 2}),
    ],
)
async def test_usage_is_read_from_each_kind_of_answer(
    router: StartRouter, first: ScriptedUpstream, path: str, answer: dict[str, Any], tokens: dict[str, int]
) -> None:
    """Tokens, searches and pictures are recorded as the upstream reported them."""
    first.then(json_answer(json.dumps(answer).encode()))
    running = await router(first)
    assert (await ask(running, post(b'{"model":"m"}', path=path))).status == 200
    usage = (await running.record()).usage
    assert {name: getattr(usage, name) for name in tokens} == tokens


async def test_an_upstream_error_under_200_moves_on_for_every_endpoint(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """An embedding that fails at one upstream is answered by the next, and only the good answer is seen."""
    first.then(error(500))
    second.then(json_answer(b'{"object":"list","data":[]}'))
    running = await router(first, second)
    got = await ask(running, post(b'{"model":"m","input":"x"}', path="/v1/embeddings"))
    assert (got.status, got.json) == (200, {"object": "list", "data": []})
    assert running.causes() == [("first", "http_5xx"), ("second", "ok")]


async def test_an_endpoint_without_a_model_uses_the_configured_one(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """A picture asked for without a model is made by the default one; without a default it is a client's error."""
    first.then(json_answer(b'{"data":[]}'))
    running = await router(first, default_models={"images": "m"})
    assert (await ask(running, post(b' { "prompt": "x"}', path="/v1/images/generations"))).status == 200
    assert first.received[0].body == b' {"model":"m", "prompt": "x"}'
    got = await ask(running, post(b"{}", path="/v1/moderations"))
    assert (got.status, got.error["param"], got.error["reason"]) == (400, "model", "missing_required_parameter")


async def test_speech_is_relayed_as_it_comes(router: StartRouter, first: ScriptedUpstream) -> None:
    """Sound reaches the client piece by piece, with its type, before the upstream has ended."""
    first.then(
        play(
            send(head(200, "content-type: audio/mpeg", "transfer-encoding: chunked")),
            chunks(b"ID3\x00", b"\xff" * 9),
            last_chunk(),
        )
    )
    running = await router(first)
    async with await running.connect() as client:
        await client.send(post(b'{"model":"m","input":"Hello","voice":"a"}', path="/v1/audio/speech"))
        got = await client.answer()
    assert (got.status, got.body, got.header("content-type")) == (200, b"ID3\x00" + b"\xff" * 9, "audio/mpeg")
    record = await running.record()
    assert record.usage is not None
    assert record.usage.characters == len("Hello")


async def test_cut_speech_is_no_speech(router: StartRouter, first: ScriptedUpstream) -> None:
    """Sound that breaks off after its beginning ends without its last chunk, so that the client sees a failure."""
    first.then(
        play(
            send(head(200, "content-type: audio/mpeg", "transfer-encoding: chunked")),
            chunks(b"ID3"),
            send(b"5\r\nab"),
            cut(),
        )
    )
    running = await router(first)
    async with await running.connect() as client:
        await client.send(post(b'{"model":"m","input":"Hello"}', path="/v1/audio/speech"))
        got = await client.answer()
    assert got.ending is not Ending.CLEAN
    assert (await running.record()).outcome == "upstream_error"


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
async def test_streams_of_other_dialects_pass_unchanged(
    router: StartRouter, first: ScriptedUpstream, path: str
) -> None:
    """Every event of a Responses or Messages stream arrives as it was sent, and its usage is recorded."""
    anthropic = path == "/v1/messages"
    events = MESSAGES if anthropic else RESPONSES
    first.then(play(sse_head(), chunks(*events), last_chunk()))
    running = await router(first, upstream={"protocol": "anthropic"} if anthropic else None)
    got = await ask(running, post(b'{"model":"m","stream":true,"max_tokens":9,"messages":[]}', path=path))
    assert (got.status, got.body) == (200, b"".join(events))
    record = await running.record()
    assert record.complete
    assert record.usage is not None
    assert (record.usage.input, record.usage.output) == (9, 4)


_RESPONSE_EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("response.created", {"response": {"id": "resp_1", "status": "in_progress", "usage": None}}),
    ("response.output_text.delta", {"delta": "Hi"}),
    (
        "response.completed",
        {
            "response": {
                "id": "resp_1",
                "status": "completed",
                "usage": {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13},
            }
        },
    ),
]
RESPONSES = tuple(
    b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, "sequence_number": number} | more).encode())
    for number, (kind, more) in enumerate(_RESPONSE_EVENTS)
)

_MESSAGE_EVENTS: list[tuple[str, dict[str, Any]]] = [
    (
        "message_start",
        {"message": {"id": "msg_1", "type": "message", "usage": {"input_tokens": 9, "output_tokens": 1}}},
    ),
    ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
    ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "Hi"}}),
    ("ping", {}),
    ("content_block_stop", {"index": 0}),
    ("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}),
    ("message_stop", {}),
]
MESSAGES = tuple(
    b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind} | more).encode())
    for kind, more in _MESSAGE_EVENTS
)


async def test_a_cut_responses_stream_ends_in_a_numbered_error(router: StartRouter, first: ScriptedUpstream) -> None:
    """The client's SDK gets an `error` event that continues the numbering, and no terminal event."""
    first.then(play(sse_head(), chunks(*RESPONSES[:2]), cut()))
    running = await router(first)
    got = await ask(running, post(b'{"model":"m","stream":true}', path="/v1/responses"))
    last = json.loads(got.body.split(b"data: ")[-1])
    assert (last["type"], last["code"], last["sequence_number"]) == ("error", "upstream_truncated", 2)
    assert b"response.completed" not in got.body


async def test_errors_on_messages_are_anthropics(router: StartRouter, first: ScriptedUpstream) -> None:
    """Our own errors and an upstream's in a foreign shape reach Anthropic's SDKs in the envelope that they read."""
    first.then(error(400, b'{"error":{"message":"No.","type":"invalid_request_error"}}'))
    running = await router(first, upstream={"protocol": "anthropic"})
    unknown = await ask(running, post(b'{"model":"x"}', path="/v1/messages"))
    assert (unknown.status, unknown.json["type"]) == (404, "error")
    assert unknown.json["error"]["type"] == "not_found_error"
    assert unknown.header("request-id") == unknown.json["request_id"]
    wrapped = await ask(running, post(b'{"model":"m"}', path="/v1/messages"))
    assert (wrapped.status, wrapped.json["type"], wrapped.json["error"]["type"]) == (
        400,
        "error",
        "invalid_request_error",
    )


async def test_a_member_of_another_protocol_does_not_serve(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Without `translate` a chat goes to the members that speak it, messages to the others; nobody else is tried."""
    running = await router(
        upstreams={
            "first": {"base_url": first.base_url, "protocol": "anthropic"},
            "second": {"base_url": second.base_url},
        },
        models={"m": {"pool": ["first", "second"]}, "n": {"pool": ["second"]}},
    )
    assert (await running.post()).status == 200
    assert (len(first.received), len(second.received)) == (0, 1)
    first.then(json_answer(b'{"type":"message","content":[]}'))
    assert (await ask(running, post(b'{"model":"m","messages":[]}', path="/v1/messages"))).status == 200
    assert len(first.received) == 1
    got = await ask(running, post(b'{"model":"n","messages":[]}', path="/v1/messages"))
    assert (got.status, got.json["error"]["details"]["error_code"]) == (400, "unsupported_endpoint_for_model")
    counted = await ask(running, post(b'{"model":"n","messages":[]}', path="/v1/messages/count_tokens"))
    assert counted.status == 404


async def test_x_api_key_wins_on_messages(router: StartRouter, first: ScriptedUpstream) -> None:
    """Of two different credentials Anthropic's own header counts on its routes, the bearer token elsewhere."""
    running = await router(
        first, upstream={"protocol": "anthropic"}, keys={"team": {"secret": {"env": "CLIENT_SECRET"}}}
    )
    first.then(json_answer(b'{"type":"message","content":[]}'))
    body = b'{"model":"m","messages":[]}'
    good = post(body, f"x-api-key: {CLIENT_SECRET}", path="/v1/messages", key="wrong")
    assert (await ask(running, good)).status == 200
    assert first.received[0].values("x-api-key") == [UPSTREAM_SECRET.encode()]
    assert first.received[0].values("anthropic-version") == [b"2023-06-01"]
    assert (await ask(running, post(body, "x-api-key: wrong", path="/v1/messages", key=CLIENT_SECRET))).status == 401


async def test_a_gzip_request_is_sent_on_decoded(router: StartRouter, first: ScriptedUpstream) -> None:
    """A compressed body is read and forwarded as it was before compression; unknown codings are refused."""
    running = await router(first, requests={"body_max": 1000})
    body = chat.request()
    got = await ask(running, post(gzip.compress(body), "Content-Encoding: gzip"))
    assert got.status == 200
    assert first.received[0].body == body
    assert first.received[0].values("content-encoding") == []
    bomb = gzip.compress(b'{"model":"m","x":"' + b"a" * 100_000 + b'"}')
    got = await ask(running, post(bomb, "Content-Encoding: gzip"))
    assert (got.status, got.error["reason"]) == (413, "request_too_large_after_decoding")
    for coding, data in (("br", body), ("gzip", b"not gzip"), ("gzip", gzip.compress(body)[:-4])):
        got = await ask(running, post(data, f"Content-Encoding: {coding}"))
        assert (got.status, got.error["reason"]) == (415, "content_encoding")


async def test_unknown_paths_pass_only_where_configured(router: StartRouter, first: ScriptedUpstream) -> None:
    """With `passthrough_unknown_paths` any POST that names a model is balanced; without it is 404."""
    first.then(plain(201, b"anything", "content-type: text/plain"))
    running = await router(first, passthrough_unknown_paths=True)
    got = await ask(running, post(b'{"model":"m"}', path="/v1/new/thing"))
    assert (got.status, got.body) == (201, b"anything")
    assert first.received[0].line == b"POST /v1/new/thing HTTP/1.1"
    assert (await ask(running, post(b'{"model":"m"}', path="/v1/organization/keys"))).status == 404
    await running.reload(config(first))
    assert (await ask(running, post(b'{"model":"m"}', path="/v1/new/thing"))).status == 404


async def test_bare_paths_are_an_alias(router: StartRouter, first: ScriptedUpstream) -> None:
    """With `bare_paths` the same endpoints are served without `/v1`, and without the setting they are not."""
    running = await router(first, bare_paths=True)
    assert (await ask(running, post(chat.request(), path="/chat/completions"))).status == 200
    assert first.received[0].line == b"POST /v1/chat/completions HTTP/1.1"
    await running.reload(config(first))
    assert (await ask(running, post(chat.request(), path="/chat/completions"))).status == 404


async def test_pinned_families_go_to_their_upstream(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Files go to the one upstream that is configured for them, whatever the method; other families are 404."""
    second.then(
        plain(200, b'{"id":"file-1"}', "content-type: application/json"),
        plain(200, b"\x00\x01", "content-type: application/octet-stream"),
        plain(404, b'{"error":{"message":"No such file"}}', "content-type: application/json"),
    )
    running = await router(first, second, pins={"files": "second"})
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n'
    up = post(form, "Content-Type: multipart/form-data; boundary=b", path="/v1/files")
    assert (await ask(running, up.replace(b"Content-Type: application/json\r\n", b""))).json == {"id": "file-1"}
    down = await ask(running, post(b"", path="/v1/files/file-1/content", method="GET", framing=""), "GET")
    assert (down.status, down.body) == (200, b"\x00\x01")
    gone = await ask(running, post(b"", path="/v1/files/file-1", method="DELETE", framing=""), "DELETE")
    assert (gone.status, gone.error["message"]) == (404, "No such file")
    assert [received.line.split()[0] for received in second.received] == [b"POST", b"GET", b"DELETE"]
    assert second.received[0].body == form
    assert first.received == []
    assert (await ask(running, post(b"{}", path="/v1/batches"))).status == 404


async def test_a_last_event_without_its_blank_line_counts(router: StartRouter, first: ScriptedUpstream) -> None:
    """A terminal event that the upstream did not finish writing ends the stream as what it says, usage and all."""
    first.then(
        play(sse_head(), chunks(*RESPONSES[:2], RESPONSES[2].removesuffix(b"\n\n")), last_chunk()),
        play(sse_head(), chunks(*RESPONSES[:2], FAILED.removesuffix(b"\n\n")), last_chunk()),
    )
    running = await router(first)
    whole = await ask(running, post(b'{"model":"m","stream":true}', path="/v1/responses"))
    assert whole.body == b"".join(RESPONSES)
    record = await running.record()
    assert record.usage is not None
    assert record.usage.output == 4
    await ask(running, post(b'{"model":"m","stream":true}', path="/v1/responses"))
    assert (await running.record(2)).outcome == "upstream_error"


FAILED = (
    b'event: response.failed\ndata: {"type":"response.failed","sequence_number":2,'
    b'"response":{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"No."}}}\n\n'
)


SENT = (
    "User-Agent: odd/1.0",
    "Accept: */*",
    "anthropic-beta: a,b",
    "OpenAI-Beta: c=d",
    "X-Stainless-Lang: python",
    "Idempotency-Key: 7",
    "x-UNKNOWN: Yes; yes",
)
STAYING = ("Cookie: a=b", "X-Forwarded-For: 1.2.3.4", "OpenAI-Organization: org-1", "Origin: app://x", "TE: trailers")


@pytest.mark.parametrize("path", [*JSON_ENDPOINTS, "/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"])
async def test_the_head_that_arrives_is_the_documented_one(
    router: StartRouter, first: ScriptedUpstream, path: str
) -> None:
    """On every endpoint the upstream gets the client's lines in their order, ours around them, and not one other."""
    first.always(json_answer(b'{"type":"message","content":[],"choices":[],"data":[]}'))
    anthropic = path.startswith("/v1/messages")
    running = await router(first, upstream={"protocol": "anthropic"} if anthropic else None)
    body = b'{"model":"m","messages":[]}'
    await ask(running, post(body, *SENT, *STAYING, path=path, key="client-key"))
    rest = path.removeprefix("/v1").removeprefix("/v2")
    credential = f"x-api-key: {UPSTREAM_SECRET}" if anthropic else f"Authorization: Bearer {UPSTREAM_SECRET}"
    expected = [
        f"POST /v1{rest} HTTP/1.1",
        f"Host: 127.0.0.1:{first.port}",
        "Content-Type: application/json",
        *SENT,
        *(["anthropic-version: 2023-06-01"] if anthropic else []),
        "Accept-Encoding: identity",
        credential,
        f"Content-Length: {len(body)}",
    ]
    assert first.received[0].head.decode().split("\r\n") == [*expected, "", ""]
    assert first.received[0].body == body


def _value(rng: random.Random, depth: int = 3) -> str:
    """Some JSON as people and programs write it: odd numbers, escapes, spaces, duplicates below the top."""
    kind = rng.randrange(6 if depth else 4)
    if kind == 0:
        return rng.choice(["1.10", "1e2", "1E400", "-0", "0.1000000000000000055", "12345678901234567890123"])
    if kind == 1:
        return rng.choice(['"é"', '"\\u00e9"', '"\\/"', '"\\ud800"', '"\\"model\\":\\"x\\""', '""'])
    if kind in (2, 3):
        return rng.choice(["null", "true", "false"])
    space = rng.choice(["", " ", "\n\t"])
    if kind == 4:
        return f"[{space}{','.join(_value(rng, depth - 1) for _ in range(rng.randrange(4)))}{space}]"
    members = (f'{space}"{rng.choice(["model", "a", "b"])}":{_value(rng, depth - 1)}' for _ in range(rng.randrange(4)))
    return "{" + ",".join(members) + "}"


async def test_no_unknown_field_is_lost_on_any_route(router: StartRouter, first: ScriptedUpstream) -> None:
    """Whatever else a client says, in whatever spelling, arrives as it was written: the model alone is replaced."""
    first.always(json_answer(b'{"choices":[],"data":[],"results":[],"type":"message","content":[]}'))
    running = await router(first, model={"pool": [{"upstream": "first", "model": "vendor/m"}]})
    rng = random.Random(7)
    for number, path in enumerate([*JSON_ENDPOINTS, "/v1/chat/completions"] * 4):
        fields = [f'"x_{place}" : {_value(rng)}' for place in range(rng.randrange(1, 6))]
        fields.insert(rng.randrange(len(fields) + 1), '"model":@')
        body = ("{" + ",".join(fields) + "}").encode()
        got = await ask(running, post(body.replace(b"@", b'"m"'), path=path))
        assert got.status == 200, (path, body)
        assert first.received[number].body == body.replace(b"@", b'"vendor/m"')


PRICE = {"input": 1.25, "cached_input": 0.125, "output": 10, "image": 0.002, "characters": 15}


@pytest.mark.parametrize(
    ("path", "body", "answer", "cost"),
    [
        # Seed A: ((1000 - 400) * 1.25 + 400 * 0.125 + 50 * 10) / 10^6
        (
            "/v1/chat/completions",
            {"messages": []},
            {
                "usage": {
                    "prompt_tokens": 1000,
                    "completion_tokens": 50,
                    "prompt_tokens_details": {"cached_tokens": 400},
                }
            },
            0.0013,
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}] * 2}]},
            {"usage": {"prompt_tokens": 1000, "completion_tokens": 0}},
            0.00525,
        ),
        ("/v1/images/generations", {"prompt": "x", "n": 3}, {"data": [{}, {}, {}]}, 0.006),
        ("/v1/audio/speech", {"input": "Hello", "voice": "a"}, {}, 0.000075),
        ("/v1/embeddings", {"input": "x"}, {"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}, 0.00001),
    ],
    ids=["seed_a", "vision", "images", "speech", "embeddings"],
)
async def test_what_an_answer_costs(  # noqa: PLR0917 (the columns of a table)
    router: StartRouter, first: ScriptedUpstream, path: str, body: dict[str, Any], answer: dict[str, Any], cost: float
) -> None:
    """The record has the exact price of what was used; an answer whose usage never came has none, and not zero."""
    first.then(json_answer(json.dumps({"choices": []} | answer).encode()), json_answer(b'{"choices":[]}'))
    running = await router(first, model={"price": PRICE})
    await ask(running, post(json.dumps({"model": "m"} | body).encode(), path=path))
    assert (await running.record()).cost_usd == cost
    await ask(running, post(b'{"model":"m"}', path="/v1/chat/completions"))
    unknown = await running.record(2)
    assert (unknown.cost_usd, unknown.usage, unknown.exact) == (None, None, False)


async def test_an_exposed_upstreams_errors_pass(router: StartRouter, first: ScriptedUpstream) -> None:
    """Where the operator wants it, a client sees the upstream's own 429 once nobody else can help."""
    limited = b'{"error":{"message":"Your organization is over its limit.","type":"requests","code":"x"}}'
    first.always(error(429, limited, "retry-after: 7"))
    running = await router(first, upstream={"expose_errors": True})
    got = await running.post()
    assert (got.status, got.body, got.header("retry-after")) == (429, limited, "7")


async def test_a_gzip_body_for_a_pinned_family_is_decoded(router: StartRouter, first: ScriptedUpstream) -> None:
    """What is not looked into is sent on decoded too, as its coding is not said any more."""
    first.then(json_answer(b"{}"))
    running = await router(first, pins={"batches": "first"})
    await ask(running, post(gzip.compress(b'{"a":1}'), "Content-Encoding: gzip", path="/v1/batches"))
    assert first.received[0].body == b'{"a":1}'
