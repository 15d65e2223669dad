"""Members that do not speak the client's protocol, beside those that do (PROTOCOL 10)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import chat
from tests.harness.client import post
from tests.harness.router import UPSTREAM_SECRET
from tests.harness.upstream import chunks, cut, error, json_answer, last_chunk, play, sse_head
from tests.relay.test_endpoints import MESSAGES

if TYPE_CHECKING:
    from tests.harness.client import Answer
    from tests.harness.router import RunningRouter, Settings
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "cache_read_input_tokens": 5, "output_tokens": 4},
}


def mixed(first: ScriptedUpstream, second: ScriptedUpstream, **model: Any) -> Settings:
    """A pool whose first member speaks Anthropic's protocol and whose second speaks OpenAI's."""
    return {
        "upstreams": {
            "first": {
                "base_url": first.base_url,
                "protocol": "anthropic",
                "api_key": {"env": "UPSTREAM_SECRET"},
            },
            "second": {"base_url": second.base_url, "api_key": {"env": "UPSTREAM_SECRET"}},
        },
        "models": {
            "m": {
                "pool": [{"upstream": "first", "model": "claude"}, {"upstream": "second", "model": "gpt", "tier": 2}],
                "translate": True,
            }
            | model
        },
    }


async def messages(running: RunningRouter, **members: Any) -> Answer:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]} | members
    async with await running.connect() as client:
        await client.send(post(json.dumps(body).encode(), "anthropic-version: 2023-06-01", path="/v1/messages"))
        return await client.answer()


async def test_a_chat_is_answered_by_an_anthropic_member(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The request is rebuilt for it, the answer for the client, and the usage is read from the upstream's own words."""
    first.then(json_answer(json.dumps(MESSAGE).encode(), "anthropic-organization-id: private"))
    running = await router(**mixed(first, second))
    got = await running.post(chat.request(seed=1))
    assert got.status == 200
    assert got.json["choices"][0]["message"]["content"] == "Hello."
    assert got.json["choices"][0]["finish_reason"] == "stop"
    assert got.json["usage"]["prompt_tokens"] == 14
    assert got.header("x-router-dropped-params") == "seed"
    received = first.received[0]
    assert received.line == b"POST /v1/messages HTTP/1.1"
    assert received.values("x-api-key") == [UPSTREAM_SECRET.encode()]
    assert received.values("anthropic-version") == [b"2023-06-01"]
    assert received.json["model"] == "claude"
    record = await running.record()
    assert record.usage is not None
    assert (record.usage.input, record.usage.cache_read, record.usage.output) == (9, 5, 4)
    assert record.dropped == ("seed",)


@pytest.mark.parametrize("asks", [True, False])
async def test_a_chat_stream_is_translated(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, asks: bool
) -> None:
    """Events come out as chunks, with the terminal marker, and with usage only if the client asked for it."""
    first.then(play(sse_head(), chunks(*MESSAGES), last_chunk()))
    running = await router(**mixed(first, second))
    options: Any = {"stream_options": {"include_usage": True}} if asks else {}
    got = await running.post(chat.request(stream=True, **options))
    said = [json.loads(event[6:]) for event in got.events if event.startswith(b"data: {")]
    assert "".join(each["choices"][0]["delta"].get("content") or "" for each in said if each["choices"]) == "Hi"
    assert got.body.endswith(b"data: [DONE]\n\n")
    assert any(each.get("usage") for each in said) is asks
    record = await running.record()
    assert record.complete
    assert record.usage is not None
    assert (record.usage.input, record.usage.output) == (9, 4)


async def test_a_cut_stream_is_cut_in_translation_too(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A stream that breaks off ends in an error of the client's dialect and without the terminal marker."""
    first.then(play(sse_head(), chunks(*MESSAGES[:3]), cut()))
    running = await router(**mixed(first, second))
    got = await running.stream()
    assert b"[DONE]" not in got.body
    assert json.loads(got.events[-1][6:])["error"]["reason"] == "upstream_truncated"


async def test_a_mixed_pool_fails_over(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """When the Anthropic member is overloaded the OpenAI member answers, and its answer is passed byte for byte."""
    first.then(error(529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'))
    running = await router(**mixed(first, second))
    got = await running.post()
    assert (got.status, got.body) == (200, chat.completion())
    assert second.received[0].body == chat.request(model="gpt")
    assert running.causes() == [("first", "overloaded"), ("second", "ok")]


async def test_what_cannot_be_translated_goes_to_a_native_member(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """`n: 2` has no place in Anthropic's protocol: the member that speaks the client's own takes it."""
    running = await router(**mixed(first, second))
    assert (await running.post(chat.request(n=2))).status == 200
    assert (len(first.received), len(second.received)) == (0, 1)


async def test_what_nobody_can_take_is_refused_by_name(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Without such a member the client is told which parameter it is, and nothing is sent."""
    running = await router(**mixed(first, second, pool=["first"]))
    got = await running.post(chat.request(n=2))
    assert (got.status, got.error["param"], got.error["reason"]) == (400, "n", "unsupported_parameter")
    assert first.received == []


async def test_messages_are_answered_by_an_openai_member(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """An Anthropic client gets a message made from a completion, with usage and the reason for its end."""
    running = await router(**mixed(first, second, pool=["second"]))
    got = await messages(running)
    assert got.status == 200
    assert (got.json["type"], got.json["content"]) == ("message", [{"type": "text", "text": "Hello."}])
    assert got.json["stop_reason"] == "end_turn"
    assert got.json["usage"]["input_tokens"] == 9
    assert second.received[0].line == b"POST /v1/chat/completions HTTP/1.1"
    record = await running.record()
    assert record.endpoint == "messages"
    assert record.usage is not None
    assert (record.usage.input, record.usage.output) == (9, 4)


async def test_a_messages_stream_is_translated(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Chunks come out as named events from `message_start` to `message_stop`, usage included."""
    second.then(
        play(sse_head(), chunks(*chat.answer("Hel", "lo."), chat.usage_event(), b"data: [DONE]\n\n"), last_chunk())
    )
    running = await router(**mixed(first, second, pool=["second"]))
    got = await messages(running, stream=True)
    names = [event.split(b"\n")[0] for event in got.events]
    assert names[0] == b"event: message_start"
    assert names[-1] == b"event: message_stop"
    assert second.received[0].json["stream_options"] == {"include_usage": True}
    record = await running.record()
    assert record.complete
    assert record.usage is not None
    assert (record.usage.input, record.usage.output) == (9, 4)


async def test_an_upstreams_error_comes_in_the_clients_envelope(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """What an Anthropic upstream refuses is told to an OpenAI client in OpenAI's shape, status kept."""
    first.then(error(400, b'{"type":"error","error":{"type":"invalid_request_error","message":"Too long."}}'))
    running = await router(**mixed(first, second, pool=["first"]))
    got = await running.post()
    assert got.status == 400
    assert got.error["message"].startswith("Too long.")
    assert "type" not in got.json
    second.then(error(400, b'{"error":{"message":"Bad.","type":"invalid_request_error"}}'))


async def test_other_endpoints_do_not_take_translated_members(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """An embedding goes to the member that has embeddings, whatever `translate` says."""
    second.then(json_answer(b'{"data":[]}'))
    running = await router(**mixed(first, second))
    async with await running.connect() as client:
        await client.send(post(b'{"model":"m","input":"x"}', path="/v1/embeddings"))
        assert (await client.answer()).status == 200
    assert first.received == []


async def test_a_stream_that_ends_after_its_reason_is_whole(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """An upstream that is cut after it has said why it stopped has said everything: the client's stream ends well."""
    first.then(play(sse_head(), chunks(*MESSAGES[:-1]), cut()))
    running = await router(**mixed(first, second))
    got = await running.stream()
    assert got.body.endswith(b"data: [DONE]\n\n")
    assert (await running.record()).complete
