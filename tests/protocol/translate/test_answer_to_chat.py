import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.protocol.openai import read_body
from router.protocol.translate.answer_to_chat import answer_to_chat
from router.protocol.usage import of_anthropic, of_openai

NOW = 1_790_000_000


def message(*content: Any, **members: Any) -> bytes:
    return json.dumps(
        {
            "id": "msg_01XFD",
            "type": "message",
            "role": "assistant",
            "model": "claude-opus-4-6",
            "content": content,
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 12, "output_tokens": 6},
            **members,
        }
    ).encode()


def translated(body: bytes, **options: Any) -> dict[str, Any]:
    out = answer_to_chat(body, created=NOW, **options)
    assert out is not None
    answer: dict[str, Any] = json.loads(out)
    return answer


def said(*content: Any, **options: Any) -> dict[str, Any]:
    spoken: dict[str, Any] = translated(message(*content), **options)["choices"][0]["message"]
    return spoken


TEXT = {"type": "text", "text": "Hello."}


def test_a_whole_answer() -> None:
    """The answer has every member of a chat completion, in compact JSON."""
    out = answer_to_chat(message(TEXT), created=NOW)
    assert out is not None
    assert b'": ' not in out
    assert json.loads(out) == {
        "id": "chatcmpl-msg_01XFD",
        "object": "chat.completion",
        "created": NOW,
        "model": "claude-opus-4-6",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": 6,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def test_texts_are_joined() -> None:
    """Text blocks make one content with nothing between them; without any it is null."""
    assert said({"type": "text", "text": "One, "}, {"type": "text", "text": "two."})["content"] == "One, two."
    assert said()["content"] is None
    assert said({"type": "text", "text": ""})["content"] == ""


def test_thinking_becomes_reasoning() -> None:
    """Thinking is reasoning content; what is redacted is left out."""
    thought = {"type": "thinking", "thinking": "Half of 84.", "signature": "EqQB"}
    redacted = {"type": "redacted_thinking", "data": "Zm9v"}
    answer = said(thought, redacted, TEXT)
    assert answer == {"role": "assistant", "content": "Hello.", "refusal": None, "reasoning_content": "Half of 84."}
    assert said(thought, redacted, TEXT, thinking_blocks=True)["thinking_blocks"] == [thought, redacted]
    assert "thinking_blocks" not in said(TEXT, thinking_blocks=True)


def test_tool_calls() -> None:
    """Tool uses are calls in their order, ids unchanged, arguments compact JSON, and other blocks are left out."""
    answer = said(
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
        {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": [1, 2], "b": "ü"}},
        {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
    )
    assert answer["content"] is None
    assert answer["tool_calls"] == [
        {"id": "toolu_1", "type": "function", "function": {"name": "add", "arguments": '{"a":[1,2],"b":"ü"}'}},
        {"id": "toolu_2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]


def test_arguments_keep_their_digits() -> None:
    """Numbers in a tool's input reach the client digit for digit."""
    given_input = '{"n":123456789012345678901234567890,"x":1.10,"e":1E+400,"z":-0}'
    body = message({"type": "tool_use", "id": "t", "name": "f", "input": "INPUT"}).decode()
    out = translated(body.replace('"INPUT"', given_input).encode())
    assert out["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == given_input


def test_calls_without_id() -> None:
    """A call without an id gets one, as its result must refer to it; odd names and inputs are empty."""
    calls = said({"type": "tool_use", "input": 7}, {"type": "tool_use", "id": "", "name": [], "input": None})
    assert [call["id"] for call in calls["tool_calls"]] == ["call_0", "call_1"]
    assert [call["function"] for call in calls["tool_calls"]] == [{"name": "", "arguments": "{}"}] * 2


@pytest.mark.parametrize(
    ("stop_reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("invented", "stop"),
        (None, "stop"),
        (7, "stop"),
    ],
)
def test_finish_reasons(stop_reason: Any, finish: str) -> None:
    """Every reason to stop has its finish reason; an unknown one is `stop`."""
    assert translated(message(TEXT, stop_reason=stop_reason))["choices"][0]["finish_reason"] == finish


def test_usage() -> None:
    """The prompt contains the cache, as OpenAI's does; reads, writes and thinking are named as parts."""
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 300,
        "cache_creation_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
        "output_tokens": 40,
        "output_tokens_details": {"thinking_tokens": 25},
    }
    assert translated(message(TEXT, usage=usage))["usage"] == {
        "prompt_tokens": 360,
        "completion_tokens": 40,
        "total_tokens": 400,
        "prompt_tokens_details": {"cached_tokens": 300, "cache_write_tokens": 50},
        "completion_tokens_details": {"reasoning_tokens": 25},
    }


counts = st.integers(0, 10**6)


@given(counts, counts, counts, counts)
def test_usage_adds_up_alike(fresh: int, read: int, written: int, output: int) -> None:
    """Whoever reads the translated usage comes to the same total as who reads the upstream's own."""
    usage = {
        "input_tokens": fresh,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": output,
    }
    theirs, ours = of_anthropic(usage), of_openai(translated(message(TEXT, usage=usage))["usage"])
    assert theirs is not None
    assert ours is not None
    assert (ours.input, ours.cache_read, ours.cache_write, ours.output) == (fresh, read, written, output)
    assert ours.total == theirs.total


@pytest.mark.parametrize("count", ["12.0", "1.2e1", "120e-1"])
def test_usage_counts_however_its_numbers_are_written(count: str) -> None:
    """A count that is billed is told to the client too, if it is a whole number in any spelling."""
    usage = translated(message(TEXT).replace(b'"input_tokens": 12', b'"input_tokens": ' + count.encode()))["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (12, 6)


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": "x"}, [], {"service_tier": "standard"}])
def test_unknown_usage_is_not_invented(usage: Any) -> None:
    """Usage that holds no count gives none: zeros would look exact."""
    assert "usage" not in translated(message(TEXT, usage=usage))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
        b'{"type":"error","content":[]}',
        b'{"type":"message","content":"text"}',
        b'{"choices":[{"message":{"content":"x"}}]}',
        b'{"input_tokens":3}',
        b'{"type":"message","content":[' + b'{"a":' * 9000 + b"1" + b"}" * 9000 + b"]}",
    ],
)
def test_what_is_no_message(body: bytes) -> None:
    """What is no message of Anthropic's, an error for one, is not passed off as an answer."""
    assert answer_to_chat(body, created=NOW) is None


def test_answers_at_the_limit_of_depth() -> None:
    """An answer that can just be read, but whose translation is deeper, is no answer; it raises nothing."""
    for depth in range(700, 1000):
        deep = b'{"a":' * depth + b"1" + b"}" * depth
        block = b'{"type":"thinking","signature":"x","more":' + deep + b"}"
        use = b'{"type":"tool_use","id":"a","name":"f","input":' + deep + b"}"
        out = answer_to_chat(b'{"content":[' + block + b"," + use + b"]}", created=NOW, thinking_blocks=True)
        assert out is None or b'"tool_calls"' in out


def test_odd_members_are_left_out() -> None:
    """Blocks that are no objects, or of another type than they should be, do not spoil the rest."""
    assert said(7, None, {"type": ["text"]}, {"text": "x"}, {"type": "text", "text": 5}, TEXT)["content"] == "Hello."
    assert translated(b'{"content":[]}')["id"] == f"chatcmpl-{NOW}"
    half = translated(message({"type": "text", "text": "\ud83d"}))
    assert half["choices"][0]["message"]["content"] == "\ud83d"


def test_the_translation_is_read_as_a_chat() -> None:
    """The router's own reading of chat answers finds id and usage in it."""
    out = answer_to_chat(message(TEXT), created=NOW)
    assert out is not None
    facts = read_body(out)
    assert (facts.is_object, facts.id, facts.error) == (True, "chatcmpl-msg_01XFD", None)
    assert facts.usage is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
kinds = st.sampled_from(["text", "tool_use", "thinking", "redacted_thinking", "message"])
blocks = st.dictionaries(
    st.sampled_from(["type", "text", "thinking", "id", "name", "input", "data"]), kinds | json_values, max_size=6
)
members = st.sampled_from(["type", "id", "model", "stop_reason", "usage", "content"])


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(members, kinds | json_values | st.lists(blocks | json_values, max_size=4)) | json_values)
def test_nothing_raises(body: Any) -> None:
    """Whatever JSON an upstream answers, the result is a chat completion or nothing."""
    out = answer_to_chat(json.dumps(body).encode(), created=NOW, thinking_blocks=True)
    if out is not None:
        assert json.loads(out)["object"] == "chat.completion"


@given(st.binary(max_size=40))
def test_no_bytes_raise(body: bytes) -> None:
    """Bytes that are no JSON give nothing."""
    assert answer_to_chat(body, created=NOW) is None
