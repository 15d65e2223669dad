"""What the router reads of messages that pass: usage, limits, models, ids (PROTOCOL 2.2, 2.7, 9)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from router.events import Outcome
from tests.harness.router import CLIENT_SECRET, UPSTREAM_SECRET
from tests.harness.socket_client import ClientSocket, SocketClient, closing, event
from tests.harness.socket_upstream import Call, Play, SocketUpstream, refuse, sends, talk
from tests.harness.waiting import PATIENCE_S, until
from tests.web.conftest import KEYS, StartRouter

USAGE = {
    "total_tokens": 30,
    "input_tokens": 20,
    "output_tokens": 10,
    "input_token_details": {"text_tokens": 12, "audio_tokens": 8, "cached_tokens": 0},
    "output_token_details": {"text_tokens": 4, "audio_tokens": 6},
}
DONE = {"type": "response.done", "response": {"object": "realtime.response", "status": "completed", "usage": USAGE}}
CREATED = {"type": "response.created", "response": {"id": "resp_1"}}


async def test_usage_is_metered_as_answers_end(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """Every `response.done` and every transcription counts once; the record has their sum, and it is exact."""
    transcribed = {
        "type": "conversation.item.input_audio_transcription.completed",
        "transcript": 'he said "response.done"',
        "usage": {"type": "tokens", "total_tokens": 5, "input_tokens": 3, "output_tokens": 2},
    }
    text = {"type": "response.output_text.delta", "delta": '"response.done"'}
    play = sends(CREATED, text, DONE, transcribed, CREATED, DONE, {"type": "bye"})
    first.always(talk(play))
    limits = {"tokens_per_minute": 1000}
    running = await router(first, keys={"team": KEYS["team"] | {"limits": limits}}, upstream={"limits": limits})
    socket = await client.open(running, key=CLIENT_SECRET)
    while (await event(socket))["type"] != "bye":
        pass
    await socket.close()
    record = await running.record()
    assert record.usage is not None
    assert (record.usage.total, record.charged_tokens, record.exact) == (65, 65, True)
    assert record.usage.audio_in == 16
    limiter = running.daemon.catalogue.upstreams["first"].limiter
    assert limiter is not None
    assert limiter.tokens is not None
    assert limiter.tokens.remaining(running.started_at) <= 1000 - 65


async def test_an_answer_that_was_cut_is_not_exact(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """A client that leaves in the middle of an answer has not had all of it, and nobody says it has."""
    first.always(talk(sends(CREATED, DONE, CREATED, {"type": "bye"})))
    running = await router(first)
    socket = await client.open(running)
    while (await event(socket))["type"] != "bye":
        pass
    await socket.close()
    record = await running.record()
    assert (record.outcome, record.complete, record.exact) == (Outcome.CLIENT_GONE, False, False)
    assert (record.charged_tokens, record.usage is not None) == (30, True)


async def test_prices_apply(router: StartRouter, client: SocketClient, first: SocketUpstream) -> None:
    """What a conversation costs is in its record."""
    first.always(talk(sends(DONE, {"type": "bye"})))
    running = await router(first, model={"price": {"input": 1, "output": 10, "audio_input": 100, "audio_output": 200}})
    socket = await client.open(running)
    while (await event(socket))["type"] != "bye":
        pass
    await socket.close()
    record = await running.record()
    assert record.cost_usd == pytest.approx((12 * 1 + 4 * 10 + 8 * 100 + 6 * 200) / 1e6)


async def test_a_key_without_tokens_left_is_closed(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """A conversation that has used up its key's tokens ends with `rate_limit_exceeded` and 1008."""
    first.always(talk(sends(DONE, DONE, DONE)))
    running = await router(first, keys={"team": KEYS["team"] | {"limits": {"tokens_per_minute": 50}}})
    socket = await client.open(running, key=CLIENT_SECRET)
    seen = [await event(socket) for _ in range(3)]
    assert [it["type"] for it in seen] == ["response.done", "response.done", "error"]
    assert seen[2]["error"]["code"] == "rate_limit_exceeded"
    assert (await closing(socket))[0] == 1008
    record = await running.record()
    assert (record.outcome, record.reason) == (Outcome.RATE_LIMITED, "tokens_per_minute")
    status, error, _ = await client.refused(running, Authorization=f"Bearer {CLIENT_SECRET}")
    assert (status, error["reason"]) == (429, "tokens_per_minute")


async def test_an_upstreams_error_frame_names_no_credential(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """An error frame passes as it is, but for our credential in it."""
    plain = {"type": "error", "event_id": "e", "error": {"message": "bad  voice", "type": "invalid_request_error"}}
    leaky = json.dumps({"type": "error", "error": {"message": f"Incorrect API key provided: {UPSTREAM_SECRET}."}})
    first.always(talk(sends(json.dumps(plain), leaky)))
    running = await router(first)
    socket = await client.open(running)
    assert (await socket.receive(PATIENCE_S)).data == json.dumps(plain)
    assert (await socket.receive(PATIENCE_S)).data == leaky.replace(UPSTREAM_SECRET, "***")
    await socket.close()


# Responses


def create(model: str | None = "m", **members: Any) -> str:
    """A `response.create` frame."""
    named = {} if model is None else {"model": model}
    return json.dumps({"type": "response.create", **named, "input": "hi", **members})


def completed(identity: str = "resp_1") -> dict[str, Any]:
    """A terminal frame."""
    usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    return {"type": "response.completed", "response": {"id": identity, "status": "completed", "usage": usage}}


def answering(*identities: str) -> Play:
    """Answer each frame with an answer of the next id."""

    async def play(call: Call) -> None:
        for identity in identities:
            assert await call.receive() is not None
            await call.send({"type": "response.created", "response": {"id": identity}})
            await call.send(completed(identity))

    return play


async def answered(socket: ClientSocket) -> str:
    """Read one answer to its end: its id."""
    while (said := await event(socket))["type"] != "response.completed":
        assert said["type"] == "response.created", said
    identity: str = said["response"]["id"]
    return identity


async def test_the_first_frame_decides_the_upstream(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """The frame names the model and goes on with the name it has there; the terminal frames are metered and summed."""
    first.always(talk(answering("resp_1", "resp_2")))
    pool = [{"upstream": "first", "model": "org/there"}]
    running = await router(first, models={"m": {"pool": pool}}, keys=KEYS)
    socket = await client.open(running, "/v1/responses?x=1", key=CLIENT_SECRET)
    await socket.send_str('{"type":"response.create" , "model":"m","input":"a \\u00e9","temperature":1.10}')
    assert await answered(socket) == "resp_1"
    await socket.send_str('{"type":"response.steer","input":"b"}')
    assert await answered(socket) == "resp_2"
    await socket.close()
    call = await first.called()
    assert call.target == "/v1/responses?x=1"
    assert call.received == [
        b'{"type":"response.create" , "model":"org/there","input":"a \\u00e9","temperature":1.10}',
        b'{"type":"response.steer","input":"b"}',
    ]
    record = await running.record()
    assert (record.endpoint, record.model, record.outcome) == ("responses_ws", "m", Outcome.OK)
    assert (record.usage is not None and record.usage.total, record.charged_tokens, record.exact) == (20, 20, True)


@pytest.mark.parametrize(
    ("frame", "status", "code"),
    [
        ("{", 400, "invalid_json"),
        ("[]", 400, "invalid_json"),
        (b"{}", 400, "invalid_json"),
        ('{"type":"response.steer"}', 400, "missing_required_parameter"),
        (create(None), 400, "missing_required_parameter"),
        (create("x"), 404, "model_not_found"),
        (create("hidden"), 403, "model_not_allowed"),
        (create("m", Model="hidden"), 400, "duplicate_parameter"),
    ],
)
async def test_a_wrong_first_frame_is_told_and_may_be_mended(  # noqa: PLR0917 -- fixtures
    router: StartRouter, client: SocketClient, first: SocketUpstream, frame: str | bytes, status: int, code: str
) -> None:
    """An error frame says what is wrong; the socket waits for a better one, and nobody has been called."""
    first.always(talk(answering("resp_1")))
    models = {name: {"pool": ["first"]} for name in ("m", "hidden")}
    running = await router(first, models=models, keys={"team": KEYS["team"] | {"models": ["m", "x"]}})
    socket = await client.open(running, "/v1/responses", key=CLIENT_SECRET)
    await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_str(frame))
    said = await event(socket)
    assert (said["type"], said["status"], said["error"]["code"]) == ("error", status, code)
    assert (said["code"], said["message"]) == (code, said["error"]["message"])
    assert first.calls == []
    await socket.send_str(create())
    assert await answered(socket) == "resp_1"
    await socket.close()
    assert (await running.record()).outcome is Outcome.OK


async def test_another_model_is_not_rerouted_in_silence(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """A later frame whose model leads elsewhere, or that the key may not use, gets an error frame for its lane."""
    first.always(talk(answering("resp_1", "resp_2")))
    models = {name: {"pool": ["first"]} for name in ("m", "other", "hidden")}
    running = await router(first, models=models, keys={"team": KEYS["team"] | {"models": ["m", "other"]}})
    socket = await client.open(running, "/v1/responses", key=CLIENT_SECRET)
    await socket.send_str(create())
    assert await answered(socket) == "resp_1"
    for model, code in (("other", "unsupported_parameter"), ("hidden", "model_not_allowed"), ("x", "model_not_found")):
        await socket.send_str(create(model, stream_id="lane"))
        said = await event(socket)
        assert (said["type"], said["error"]["code"], said["stream_id"]) == ("error", code, "lane")
    await socket.send_str('{"type":"response.steer","model":"hidden"}')
    assert (await event(socket))["error"]["code"] == "model_not_allowed"
    await socket.send_str(create())
    assert await answered(socket) == "resp_2"
    await socket.close()
    assert len((await first.called()).received) == 2


async def test_each_answer_is_a_request_of_the_key(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """One socket is no way around requests a minute; a refused frame leaves the socket open."""
    first.always(talk(answering("resp_1", "resp_2")))
    limits = {"requests_per_minute": 60, "request_burst": 2}
    running = await router(first, keys={"team": KEYS["team"] | {"limits": limits}})
    socket = await client.open(running, "/v1/responses", key=CLIENT_SECRET)
    for identity in ("resp_1", "resp_2"):
        await socket.send_str(create())
        assert await answered(socket) == identity
    await socket.send_str(create())
    said = await event(socket)
    assert (said["status"], said["error"]["type"], said["error"]["code"]) == (429, "requests", "rate_limit_exceeded")
    await socket.send_str('{"type":"response.steer"}')
    await until(lambda: len(first.calls[0].received) == 3)
    await socket.close()
    await running.rest()


async def test_tokens_that_are_used_up_refuse_the_next_answer(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """A Responses socket whose key is in debt stays open; what it asks for next is refused."""
    first.always(talk(answering("resp_1")))
    running = await router(first, keys={"team": KEYS["team"] | {"limits": {"tokens_per_minute": 5}}})
    socket = await client.open(running, "/v1/responses", key=CLIENT_SECRET)
    await socket.send_str(create())
    assert await answered(socket) == "resp_1"
    await socket.send_str(create())
    said = await event(socket)
    assert (said["status"], said["error"]["type"], said["error"]["code"]) == (429, "tokens", "rate_limit_exceeded")
    await socket.close()
    assert (await running.record()).charged_tokens == 10


async def test_an_answers_id_leads_back_to_its_upstream(
    router: StartRouter, client: SocketClient, first: SocketUpstream, second: SocketUpstream
) -> None:
    """`previous_response_id` goes where that response is stored, or nowhere: 503 rather than another upstream."""
    first.then(refuse(503), talk(answering("resp_9")))
    second.always(talk(answering("resp_1")))
    running = await router(first, second)
    socket = await client.open(running, "/v1/responses")
    await socket.send_str(create())
    assert await answered(socket) == "resp_1"
    await socket.close()
    again = await client.open(running, "/v1/responses")
    await again.send_str(create(previous_response_id="resp_1"))
    assert await answered(again) == "resp_1"
    await again.close()
    second.always(refuse(500))
    third = await client.open(running, "/v1/responses")
    await third.send_str(create(previous_response_id="resp_1"))
    assert (await event(third))["error"]["code"] == "sticky_upstream_down"
    assert (await closing(third))[0] == 1013
    assert [len(first.calls), len(second.calls)] == [1, 5]  # the owner is asked as often as any request may be tried
    await running.rest()


async def test_nobody_to_reach_is_told_in_a_frame(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """After the upgrade there is no status left: an error frame, then a close code that says whether to try again."""
    first.always(refuse(401))
    running = await router(first)
    socket = await client.open(running, "/v1/responses")
    await socket.send_str(create())
    said = await event(socket)
    assert (said["status"], said["error"]["code"]) == (502, "upstream_auth")
    assert (await closing(socket))[0] == 1011
    record = await running.record()
    assert (record.status, record.outcome, record.reason) == (101, Outcome.UPSTREAM_ERROR, "upstream_auth")


async def test_an_upstreams_own_words_are_told_in_a_frame(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """What an upstream says of the client's request is what the client reads, and it is closed for policy."""
    first.always(
        refuse(400, b'{"error":{"message":"bad \\ud83d header sk-1234567890","type":"invalid_request_error"}}')
    )
    running = await router(first)
    socket = await client.open(running, "/v1/responses")
    await socket.send_str(create())
    said = await event(socket)
    assert said["status"] == 400
    assert said["error"]["message"].startswith("bad ? header *** (request id:")
    assert (await closing(socket))[0] == 1008
    assert (await running.record()).outcome is Outcome.CLIENT_ERROR


async def test_a_socket_without_a_word_holds_no_upstream(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """Until its first frame a Responses socket holds its key's slot alone; gone, it holds nothing."""
    running = await router(first, keys={"team": KEYS["team"] | {"limits": {"concurrency": 2}}})
    socket = await client.open(running, "/v1/responses", key=CLIENT_SECRET)
    await until(lambda: running.held() == {"limiter_slots": 1, "sockets": 1})
    await socket.close(code=1000)
    record = await running.record()
    assert (record.status, record.outcome, record.model, record.metered) == (101, Outcome.OK, "_unknown", False)
    assert first.calls == []
