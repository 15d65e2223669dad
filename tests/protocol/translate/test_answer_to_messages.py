import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.translate.answer_to_messages import answer_to_messages

ZEROS = {
    "input_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 0,
}


def completion(message: Any, *, finish: Any = "stop", **more: Any) -> bytes:
    choices = [{"index": 0, "message": message, "finish_reason": finish}]
    body = {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": choices, **more}
    return json.dumps(body).encode()


def translate(body: bytes) -> dict[str, Any]:
    translated = answer_to_messages(body)
    assert translated is not None
    message = json.loads(translated)
    assert isinstance(message, dict)
    return message


def blocks_of(message: dict[str, Any]) -> Any:
    return translate(completion(message))["content"]


def call(arguments: Any, name: str = "f", identity: str | None = "t1") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def use(identity: str, name: str = "f", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": name, "input": arguments}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def thinking(value: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": value, "signature": ""}


def test_a_whole_answer() -> None:
    """A completion becomes a message of the same model, its id with a prefix, with everything a client reads."""
    body = completion(
        {"role": "assistant", "content": "Hi"}, created=1, usage={"prompt_tokens": 9, "completion_tokens": 4}
    )
    assert translate(body) == {
        "id": "msg_chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [text("Hi")],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {**ZEROS, "input_tokens": 9, "output_tokens": 4},
    }


@pytest.mark.parametrize(
    ("message", "blocks"),
    [
        ({"content": None}, []),
        ({"content": ""}, []),
        ({}, []),
        ({"content": "a"}, [text("a")]),
        ({"content": "a", "reasoning_content": "hm"}, [thinking("hm"), text("a")]),
        ({"content": "a", "reasoning": "hm", "reasoning_content": "hm"}, [thinking("hm"), text("a")]),
        ({"content": "a", "reasoning": "hm"}, [thinking("hm"), text("a")]),
        ({"content": None, "refusal": "no"}, [text("no")]),
        ({"content": [text("a"), text("b")]}, [text("a"), text("b")]),
        (
            {"content": [text("a"), {"type": "thinking", "thinking": [text("h"), text("m")]}]},
            [thinking("hm"), text("a")],
        ),
        ({"content": [{"type": "thinking", "thinking": "hm"}]}, [thinking("hm")]),
        ({"content": ["a", None, {"type": "image_url"}]}, []),
        ({"content": "a", "tool_calls": [call('{"x": 1}')]}, [text("a"), use("t1", x=1)]),
        ({"tool_calls": [call("{}"), call("{}", "g", "t2")]}, [use("t1"), use("t2", "g")]),
        ({"tool_calls": [call("")]}, [use("t1")]),
        ({"tool_calls": [call(" ")]}, [use("t1")]),
        ({"tool_calls": [call(None)]}, [use("t1")]),
        ({"tool_calls": [call({"x": 1})]}, [use("t1", x=1)]),
        (
            {"tool_calls": [call("{}", identity=None), call("{}", identity="")]},
            [use("call_msg_chatcmpl-1_0"), use("call_msg_chatcmpl-1_1")],
        ),
        ({"tool_calls": []}, []),
        ({"tool_calls": None, "function_call": None}, []),
        ({"function_call": {"name": "f", "arguments": '{"x":1}'}}, [use("call_msg_chatcmpl-1_0", x=1)]),
    ],
)
def test_blocks(message: dict[str, Any], blocks: list[Any]) -> None:
    """What a message says and calls stands in content blocks: thinking first, then text, then tools."""
    assert blocks_of(message) == blocks


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "refusal"),
        ("eos", "end_turn"),
        (None, "end_turn"),
        ([], "end_turn"),
    ],
)
def test_why_it_ended(finish: Any, reason: str) -> None:
    """Each finish reason has one stop reason; an unknown one is the end of the turn."""
    assert translate(completion({"content": "a"}, finish=finish))["stop_reason"] == reason


@pytest.mark.parametrize(("finish", "reason"), [("stop", "tool_use"), ("length", "max_tokens")])
def test_tool_calls_are_announced(finish: str, reason: str) -> None:
    """An answer that calls tools says so, also where its upstream finished with `stop`; a cut one stays a cut one."""
    assert translate(completion({"tool_calls": [call("{}")]}, finish=finish))["stop_reason"] == reason


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (None, {}),
        ({}, {}),
        ({"prompt_tokens": 9, "completion_tokens": 4}, {"input_tokens": 9, "output_tokens": 4}),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            {
                "input_tokens": 10,
                "cache_read_input_tokens": 60,
                "cache_creation_input_tokens": 30,
                "output_tokens": 4,
                "output_tokens_details": {"thinking_tokens": 3},
            },
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 5},
            {"input_tokens": 4, "cache_read_input_tokens": 5, "output_tokens": 4},
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 50}},
            {"input_tokens": 0, "cache_read_input_tokens": 9, "output_tokens": 4},
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 4,
                "prompt_tokens_details": {"audio_tokens": 5},
                "completion_tokens_details": {"audio_tokens": 2},
            },
            {"input_tokens": 9, "output_tokens": 4},
        ),
        ({"prompt_tokens": -1, "completion_tokens": "4"}, {}),
    ],
)
def test_usage(usage: Any, counts: dict[str, Any]) -> None:
    """The input excludes what a cache read or wrote, the sum stays the prompt's, and every count is a number."""
    assert translate(completion({"content": "a"}, usage=usage))["usage"] == {**ZEROS, **counts}


def test_usage_in_another_place() -> None:
    """Groq's place for usage is read too."""
    body = completion({"content": "a"}, x_groq={"usage": {"prompt_tokens": 9, "completion_tokens": 4}})
    assert translate(body)["usage"] == {**ZEROS, "input_tokens": 9, "output_tokens": 4}


def test_arguments_keep_their_digits() -> None:
    """The arguments of a call have the digits and the words that the model wrote."""
    arguments = '{"v": [1.10, 1e2, 0.1000000000000000055, 12345678901234567890123, 1E400], "s": "\\u00e9\\ud800"}'
    translated = answer_to_messages(completion({"tool_calls": [call(arguments)]}))
    assert translated is not None
    assert b"[1.10,1e2,0.1000000000000000055,12345678901234567890123,1E400]" in translated
    assert json.loads(translated)["content"][0]["input"]["s"] == "\u00e9\ud800"


def test_only_the_first_choice() -> None:
    """A message is one answer: the first."""
    choices = [{"message": {"content": "a"}, "finish_reason": "length"}, {"message": {"content": "b"}}]
    message = translate(json.dumps({"choices": choices}).encode())
    assert (message["content"], message["stop_reason"]) == ([text("a")], "max_tokens")
    assert (message["id"], message["model"]) == ("msg_", "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"error":{"message":"no"}}',
        b'{"choices":[]}',
        b'{"choices":{}}',
        b'{"choices":[null]}',
        b'{"choices":[{"text":"legacy"}]}',
        b'{"choices":[{"message":"a"}]}',
        completion({"content": "a"}, finish="error"),
        completion({"tool_calls": [call("{")]}),
        completion({"tool_calls": [call("[]")]}),
        completion({"tool_calls": [call('"x"')]}),
        completion({"tool_calls": [call('{"x":NaN}')]}),
        completion({"tool_calls": [call("[" * 100_000)]}),
        completion({"tool_calls": [call(5)]}),
        completion({"tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}]}),
        completion({"tool_calls": [{"id": "a", "function": {"arguments": "{}"}}]}),
        b'{"choices":' + b"[" * 100_000,
    ],
)
def test_what_is_no_answer(body: bytes) -> None:
    """What is no completion, or calls a tool with what is no object, is said to be no answer."""
    assert answer_to_messages(body) is None


def test_every_depth_is_translated_or_none() -> None:
    """However deep arguments are nested, the answer is a message or none: there is no depth between that fails."""
    for depth in range(900, 1100):
        deep = '{"a":' + "[" * depth + "]" * depth + "}"
        translated = answer_to_messages(completion({"tool_calls": [call(deep)]}))
        assert translated is None or deep.encode() in translated


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("id", "type", "function", "name", "arguments", "text", "thinking", "prompt_tokens")),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(("content", "reasoning_content", "refusal", "tool_calls", "function_call")),
        json_values,
        max_size=4,
    ),
    json_values,
    json_values,
)
def test_nothing_is_raised(message: dict[str, Any], finish: Any, usage: Any) -> None:
    """Whatever an upstream answers, it becomes a message or none; a message is whole."""
    translated = answer_to_messages(completion(message, finish=finish, usage=usage))
    if translated is not None:
        assert set(json.loads(translated)) == {
            "id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage",
        }  # fmt: skip


@given(st.binary(max_size=40))
def test_any_bytes(body: bytes) -> None:
    """Random bytes are no answer."""
    assert answer_to_messages(body) is None
