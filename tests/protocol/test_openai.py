import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol import openai
from router.protocol.facts import BodyFacts, ChunkFacts, ErrorFacts, Meaning
from router.protocol.openai import plain_content, read_body, read_chunk, read_event

CONTENT, FINISH, USAGE, USAGE_ONLY = Meaning.CONTENT, Meaning.FINISH, Meaning.USAGE, Meaning.USAGE_ONLY
ERROR, DONE, COMMENT, OTHER, BAD = Meaning.ERROR, Meaning.DONE, Meaning.COMMENT, Meaning.OTHER, Meaning.BAD


def event(chunk: Any) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def choice(delta: Any = None, *, finish: Any = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}], **more}


@pytest.mark.parametrize(
    "member",
    [
        {"content": "x"},
        {"content": [{"type": "text", "text": "x"}]},
        {"reasoning": "x"},
        {"reasoning_content": "x"},
        {"refusal": "x"},
        {"tool_calls": [{"index": 0, "function": {"arguments": ""}}]},
        {"function_call": {"arguments": "{"}},
        {"audio": {"data": "AA=="}},
        {"images": [{"type": "image_url"}]},
        {"reasoning_details": [{"type": "reasoning.text"}]},
    ],
)
def test_every_kind_of_content_commits(member: dict[str, Any]) -> None:
    """Whatever a delta can carry of the answer is content; the same member empty is not."""
    assert read_event(event(choice({"role": "assistant", **member})))[0] == CONTENT
    (name, value) = next(iter(member.items()))
    assert read_event(event(choice({"role": "assistant", name: type(value)()})))[0] == OTHER
    assert read_event(event(choice({"role": "assistant", name: None})))[0] == OTHER


def test_legacy_text_commits() -> None:
    """The `text` of a legacy completion is content, an empty one is not."""
    assert read_event(event({"choices": [{"index": 0, "text": "x", "finish_reason": None}]}))[0] == CONTENT
    assert read_event(event({"choices": [{"index": 0, "text": "", "finish_reason": None}]}))[0] == OTHER


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter", "function_call", "eos_token"])
def test_finish_reasons(reason: str) -> None:
    """Any finish reason ends the answer, invented ones too."""
    assert read_event(event(choice(finish=reason)))[0] == FINISH


@pytest.mark.parametrize("reason", ["", None, False, {}])
def test_what_is_no_finish_reason(reason: Any) -> None:
    """An empty finish reason is none: a stream cut after it must not pass for complete."""
    assert read_event(event(choice({"content": "x"}, finish=reason)))[0] == CONTENT


USED = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


@pytest.mark.parametrize(
    "choices",
    [
        [],
        [{}],
        [{"index": 0, "delta": {}}],
        [{"index": 0, "delta": None, "finish_reason": None}],
        [{"index": 0, "finish_reason": None, "text": ""}],
        [{"delta": {}}, {"text": None}],
    ],
)
def test_what_is_hidden(choices: list[Any]) -> None:
    """An event is hidden if it has usage, and its choices say nothing (PROTOCOL 5.3)."""
    assert read_event(event({"choices": choices, "usage": USED}))[0] == USAGE | USAGE_ONLY
    assert USAGE_ONLY not in read_event(event({"choices": choices, "usage": None}))[0]
    assert USAGE_ONLY not in read_event(event({"choices": choices}))[0]


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {"choices": [{"delta": {"role": "assistant"}}], "usage": USED},
        {"choices": [{"delta": {"content": ""}}], "usage": USED},
        {"choices": [{"delta": {"content": "x"}}], "usage": USED},
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": USED},
        {"choices": [{"delta": {}}, {"delta": {}, "finish_reason": "stop"}], "usage": USED},
        {"choices": [{"text": "x"}], "usage": USED},
        {"choices": ["x"], "usage": USED},
        {"choices": None, "usage": USED},
        {"usage": USED},
        {"choices": [], "usage": 13},
        {"choices": [], "x_groq": {"usage": USED}},
        {"choices": [], "usage": USED, "error": {"message": "x"}},
    ],
)
def test_what_is_never_hidden(chunk: dict[str, Any]) -> None:
    """An event that says anything besides usage reaches the client: Azure's first, a finish, a role, an error."""
    assert USAGE_ONLY not in read_event(event(chunk))[0]


@pytest.mark.parametrize(
    ("raw", "message", "code"),
    [
        (b'data: {"error":{"message":"m","code":"c"}}\n\n', "m", "c"),
        (b'event: error\ndata: {"message":"m","code":429}\n\n', "m", "429"),
        (b'data: {"object":"error","message":"m","code":400}\n\n', "m", "400"),
        (b'data: {"error":"m"}\n\n', "m", ""),
        (b'data: {"choices":[{"delta":{},"finish_reason":"error"}]}\n\n', "the upstream reported an error", ""),
        (b"event: error\ndata: m\n\n", "the upstream reported an error", ""),
        (b"event: error\n\n", "the upstream reported an error", ""),
        (b"event: error\ndata: [DONE]\n\n", "the upstream reported an error", ""),
    ],
)
def test_errors_in_a_stream(raw: bytes, message: str, code: str) -> None:
    """Every way an upstream reports a failure in a stream is seen, with what it says."""
    facts = read_chunk(raw)
    assert facts.meaning == ERROR
    assert facts.error is not None
    assert (facts.error.message, facts.error.code) == (message, code)


@pytest.mark.parametrize("nothing", [None, {}, "", False])
def test_an_empty_error_is_none(nothing: Any) -> None:
    """A chunk with an empty `error` is as good as one without, as it is to the SDKs."""
    assert read_event(event(choice({"content": "x"}, error=nothing)))[0] == CONTENT


@pytest.mark.parametrize("spelt", [b"[DONE]", b"[DONE] ", b" [DONE]\t"])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n", b""])
def test_done(spelt: bytes, end: bytes) -> None:
    """The terminal marker is seen with white space around it, and unterminated."""
    assert read_event(b"data: " + spelt + end) == (DONE, None)
    assert not plain_content(b"data: " + spelt + end)


@pytest.mark.parametrize("raw", [b": ka\n", b": ping\n\n", b"\n", b"\r\n", b"id: 1\nretry: 5\n\n", b"event: ping\n\n"])
def test_comments(raw: bytes) -> None:
    """Lines without data are a comment."""
    assert read_event(raw) == (COMMENT, None)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"null", b"[]", b"1", b'"x"', b'{"a":1', b'{"a":1} x', b"{" * 100_000, b'{"a":' + b"9" * 5000 + b"}"],
)
def test_garbage_in_a_stream(data: bytes) -> None:
    """Data that is no JSON object is bad, and nothing is raised."""
    assert read_event(b"data: " + data + b"\n\n") == (BAD, None)


@pytest.mark.parametrize("text", [b"\\ud83d", b"\xf0\x9f", b"\\udc00\\ud800"])
def test_halves_of_characters_are_content(text: bytes) -> None:
    """A chunk that holds half an emoji, as an escape or as bytes, is content like any other."""
    assert read_event(b'data: {"choices":[{"delta":{"content":"' + text + b'"}}]}\n\n')[0] == CONTENT


def test_chunk_facts() -> None:
    """One look gives the usage, the pieces of content and the finished choices of an event."""
    chunk = {
        "choices": [
            {"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"},
            {"index": 1, "delta": {}, "finish_reason": "length"},
            {"index": 2, "delta": {"content": "y"}, "finish_reason": None},
        ],
        "usage": USED,
    }
    facts = read_chunk(event(chunk))
    assert facts.meaning == CONTENT | FINISH | USAGE
    assert (facts.usage, facts.error, facts.output_deltas, facts.finished) == (USED, None, 2, (0, 1))
    assert read_chunk(b": x\n\n") == ChunkFacts(COMMENT)
    assert read_chunk(b"event: error\n" + event(choice({"content": "x"}))).meaning == ERROR | CONTENT


PLAIN = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}],"usage":null}\n\n'


@pytest.mark.parametrize(
    "raw",
    [
        PLAIN,
        PLAIN.replace(b',"usage":null', b""),
        PLAIN.replace(b":null", b": null"),
        PLAIN.replace(b"\n", b"\r\n"),
        PLAIN.replace(b"data: ", b"data:"),
        PLAIN.replace(b"Hi", rb"say \"usage\":{} and \"error\" and \"finish_reason\":\"stop\""),
    ],
)
def test_plain_content(raw: bytes) -> None:
    """An ordinary chunk is recognised without decoding, whatever its text speaks of."""
    assert plain_content(raw)


@pytest.mark.parametrize(
    "raw",
    [
        PLAIN.replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
        PLAIN.replace(b'"finish_reason":null', b'"finish_reason" :null'),
        PLAIN.replace(b'"finish_reason":null', b'"a":0'),
        PLAIN.replace(b"}]", b'},{"index":1,"finish_reason":"stop"}]'),
        PLAIN.replace(b"[{", b'[{"index":1,"finish_reason":"stop"},{'),
        PLAIN.replace(b'"usage":null', b'"usage":{"prompt_tokens":1}'),
        PLAIN.replace(b'"usage":null', b'"usage": {"prompt_tokens":1}'),
        PLAIN.replace(b'"usage":null', b'"usage" : {"prompt_tokens":1}'),
        PLAIN.replace(b'"usage":null', b'"x_groq":{"usage":{"prompt_tokens":1}},"usage":null'),
        PLAIN.replace(b'"usage":null', b'"usage":null,"x_groq":{"usage":{"prompt_tokens":1}}'),
        PLAIN.replace(b'"usage":null', b'"error":{"message":"x"}'),
        PLAIN.replace(b'"usage":null', b'"object":"error"'),
        b"event: error\n" + PLAIN,
        PLAIN[:-1] + b"event: error\n\n",
        PLAIN[:-2] + b"\revent: error\n\n",
        PLAIN[:-2] + b"\revent: error\r\n\r\n",
        b"event: error\r" + PLAIN,
        b": " + PLAIN,
        openai.DONE,
        openai.CHAT.heartbeat,
        b"",
    ],
)
def test_what_is_not_plain(raw: bytes) -> None:
    """Whatever may finish, fail, carry usage or hide beside the data is left to the thorough reading."""
    assert not plain_content(raw)


CHUNKS = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "delta": st.sampled_from(
                        [None, {}, {"content": "usage"}, {"content": '"usage":{}'}, {"role": "x"}]
                    ),
                    "finish_reason": st.sampled_from([None, "", "stop", "error"]),
                    "text": st.sampled_from(["", "error", '"finish_reason":null']),
                },
            ),
            max_size=3,
        ),
        "usage": st.sampled_from([None, {}, {"prompt_tokens": 1}, 3]),
        "x_groq": st.sampled_from([None, {"usage": {"prompt_tokens": 1}}, {"id": "x"}]),
        "error": st.sampled_from([None, {"message": "x"}, "x"]),
        "object": st.sampled_from(["error", "chat.completion.chunk"]),
    },
)


@given(CHUNKS, st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]), st.sampled_from([b"\n\n", b"\r\n\r\n"]))
def test_the_cheap_test_never_contradicts_the_thorough_one(
    chunk: dict[str, Any], separators: tuple[str, str], end: bytes
) -> None:
    """Whatever the cheap test lets pass neither finishes, nor fails, nor carries usage."""
    raw = b"data: " + json.dumps(chunk, separators=separators).encode() + end
    if plain_content(raw):
        assert read_event(raw)[0] in (CONTENT, OTHER)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["error", "code", "message"]), inner),
    max_leaves=12,
)
ODD = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(["choices", "usage", "x_groq", "error", "object", "id", "detail", "message", "data"], JSON),
)


@given(ODD | JSON)
def test_no_shape_raises(value: Any) -> None:
    """Members of any type in any place are read or passed over, in events and bodies alike."""
    raw = json.dumps(value).encode()
    read_chunk(b"data: " + raw + b"\n\n")
    read_body(raw)


@given(st.binary())
def test_no_bytes_raise(raw: bytes) -> None:
    """Any bytes are read or passed over."""
    read_chunk(raw)
    plain_content(raw)
    read_body(raw)


def test_body() -> None:
    """An answer's id and usage are read, and nothing else matters."""
    raw = b'\n\n  {"id":"chatcmpl-1","choices":[{"message":{"content":"\\ud83d"}}],"usage":{"prompt_tokens":9}}\n'
    usage = {"prompt_tokens": 9}
    assert read_body(raw) == BodyFacts(is_object=True, id="chatcmpl-1", usage=usage)
    assert read_body(b'{"object":"list","data":[{"embedding":[0.1]}],"error":null}') == BodyFacts(is_object=True)
    assert read_body(b'{"id":7,"usage":[],"x_groq":{"usage":{"prompt_tokens":9}}}') == BodyFacts(True, "", usage)
    assert read_body(b'\xef\xbb\xbf{"id":"x","usage":{}}') == BodyFacts(is_object=True, id="x", usage={})


@pytest.mark.parametrize("raw", [b"", b" \n", b"null", b"[]", b'"x"', b"<html>", b'{"a":', b'{"a":1}x', b"[" * 100_000])
def test_garbage_is_no_answer(raw: bytes) -> None:
    """A body that is not one JSON object is no answer."""
    assert read_body(raw) == BodyFacts(is_object=False)


def test_an_error_in_a_success() -> None:
    """A 200 with an error and no answer is a failure; with an answer beside it, it is an answer."""
    error = read_body(b'{"error":{"message":"Rate limit","code":429}}').error
    assert error == ErrorFacts(code="429", message="Rate limit", conforming=True)
    assert read_body(b'{"error":{"message":"m"},"choices":[],"data":null}').error is not None
    assert read_body(b'{"object":"error","message":"m","code":400}').error == ErrorFacts(code="400", message="m")
    assert read_body(b'{"error":{"message":"m"},"choices":[{"message":{}}]}').error is None
    assert read_body(b'{"error":{"message":"m"},"data":[{}]}').error is None
    assert read_body(b'{"error":{},"message":"m"}').error is None
