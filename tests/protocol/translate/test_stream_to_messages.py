import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.translate import stream_to_messages
from router.protocol.translate.stream_to_messages import StreamToMessages, error_type

DONE = b"data: [DONE]\n\n"
ZEROS = {
    "input_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 0,
}
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 3},
}
COUNTS = {**ZEROS, "input_tokens": 6, "cache_read_input_tokens": 3, "output_tokens": 4}


def event(data: Any) -> bytes:
    return (
        b"data: "
        + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        + b"\n\n"
    )


def chunk(delta: Any = None, finish: Any = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}]
    return event(
        {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}
    )


def usage_chunk(usage: Any = None, choices: Any = ()) -> bytes:
    return event({"id": "chatcmpl-1", "model": "m", "choices": list(choices), "usage": usage or USAGE})


def call(index: int, arguments: str, identity: str | None = None, name: str | None = None) -> dict[str, Any]:
    head = {"id": identity, "type": "function"} if identity else {}
    function = {"name": name, "arguments": arguments} if name else {"arguments": arguments}
    return {"tool_calls": [{"index": index, **head, "function": function}]}


def events_of(out: bytes) -> list[dict[str, Any]]:
    """Read what was written, as strictly as the strictest client: two lines each, the name first."""
    read = []
    for one in out.decode().split("\n\n")[:-1]:
        name, data = one.split("\n")
        read.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {read[-1]['type']}"
    assert out.endswith(b"\n\n") or not out
    return read


def translate(*pieces: bytes, end: bool = True) -> list[dict[str, Any]]:
    stream = StreamToMessages()
    out = b"".join(map(stream.feed, pieces))
    return events_of(out + stream.end() if end else out)


def kinds_of(events: list[dict[str, Any]]) -> list[str]:
    return [one["type"] for one in events]


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, text: str) -> dict[str, Any]:
    name = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}[kind]
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: text}}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def ended(reason: str, usage: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]


STARTED = {
    "type": "message_start",
    "message": {
        "id": "msg_chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": ZEROS,
    },
}
TEXT = [start(0, type="text", text=""), delta(0, "text_delta", "Hi"), stop(0)]
HI = chunk({"role": "assistant", "content": ""}) + chunk({"content": "Hi"})

STREAMS: dict[str, tuple[bytes, list[dict[str, Any]]]] = {
    "usage in its own chunk": (HI + chunk(finish="stop") + usage_chunk() + DONE, [*TEXT, *ended("end_turn", COUNTS)]),
    "usage on the finish": (HI + chunk(finish="stop", usage=USAGE) + DONE, [*TEXT, *ended("end_turn", COUNTS)]),
    "usage with one empty choice": (
        HI + chunk(finish="stop") + usage_chunk(choices=[{"index": 0, "delta": {}}]) + DONE,
        [*TEXT, *ended("end_turn", COUNTS)],
    ),
    "usage in every chunk": (
        chunk({"content": "Hi"}, usage={"prompt_tokens": 9, "completion_tokens": 1})
        + chunk(finish="stop", usage={"prompt_tokens": 9, "completion_tokens": 2})
        + usage_chunk()
        + DONE,
        [*TEXT, *ended("end_turn", COUNTS)],
    ),
    "usage at Groq": (
        HI + chunk(finish="stop", x_groq={"usage": USAGE}) + DONE,
        [*TEXT, *ended("end_turn", COUNTS)],
    ),
    "no usage": (HI + chunk(finish="stop") + DONE, [*TEXT, *ended("end_turn", ZEROS)]),
    "usage is null": (HI + chunk(finish="stop", usage=None) + DONE, [*TEXT, *ended("end_turn", ZEROS)]),
    "no DONE": (HI + chunk(finish="length", usage=USAGE), [*TEXT, *ended("max_tokens", COUNTS)]),
    "unterminated DONE": (HI + chunk(finish="stop") + b"data: [DONE]", [*TEXT, *ended("end_turn", ZEROS)]),
    "unterminated usage": (
        HI + chunk(finish="stop") + usage_chunk().rstrip(),
        [*TEXT, *ended("end_turn", COUNTS)],
    ),
    "unterminated piece of an event": (
        HI + chunk(finish="stop") + usage_chunk()[:30],
        [*TEXT, *ended("end_turn", ZEROS)],
    ),
    "no finish reason but DONE": (HI + DONE, [*TEXT, *ended("end_turn", ZEROS)]),
    "comments and line ends": (
        b": keep-alive\n\n\xef\xbb\xbf: x\r\n\r\n"
        + (HI + chunk(finish="stop")).replace(b"\n", b"\r\n")
        + b"\n: ka\nretry: 5\n\nid: 4\n"
        + usage_chunk()
        + b"data: [DONE]\r\r",
        [*TEXT, *ended("end_turn", COUNTS)],
    ),
    "Azure": (
        event({"id": "", "model": "", "choices": [], "prompt_filter_results": []}) + HI + chunk(finish="stop") + DONE,
        [*TEXT, *ended("end_turn", ZEROS)],
    ),
    "refused": (
        chunk({"refusal": "Hi"}) + chunk(finish="content_filter") + DONE,
        [*TEXT, *ended("refusal", ZEROS)],
    ),
    "unicode": (
        chunk({"content": "é\U0001f600\u2028\n"}) + chunk(finish="stop") + DONE,
        [
            start(0, type="text", text=""),
            delta(0, "text_delta", "é\U0001f600\u2028\n"),
            stop(0),
            *ended("end_turn", ZEROS),
        ],
    ),
    "an emoji cut in two": (
        event({"id": "chatcmpl-1", "model": "m", "choices": [{"delta": {"content": "a"}}]}).replace(
            b'"a"', b'"\\ud83d"'
        )
        + chunk(finish="stop")
        + DONE,
        [start(0, type="text", text=""), delta(0, "text_delta", "\ud83d"), stop(0), *ended("end_turn", ZEROS)],
    ),
    "reasoning": (
        chunk({"role": "assistant", "reasoning_content": "h"})
        + chunk({"reasoning": "m", "reasoning_content": "m"})
        + chunk({"content": "Hi"})
        + chunk(finish="stop")
        + DONE,
        [
            start(0, type="thinking", thinking="", signature=""),
            delta(0, "thinking_delta", "h"),
            delta(0, "thinking_delta", "m"),
            stop(0),
            start(1, type="text", text=""),
            delta(1, "text_delta", "Hi"),
            stop(1),
            *ended("end_turn", ZEROS),
        ],
    ),
    "tools": (
        chunk({"content": "Hi"})
        + chunk(call(0, "", "t1", "f"))
        + chunk(call(0, '{"a'))
        + chunk(call(0, '":1}'))
        + chunk(call(1, "{}", "t2", "g"))
        + chunk(finish="tool_calls")
        + usage_chunk()
        + DONE,
        [
            *TEXT,
            start(1, type="tool_use", id="t1", name="f", input={}),
            delta(1, "input_json_delta", '{"a'),
            delta(1, "input_json_delta", '":1}'),
            stop(1),
            start(2, type="tool_use", id="t2", name="g", input={}),
            delta(2, "input_json_delta", "{}"),
            stop(2),
            *ended("tool_use", COUNTS),
        ],
    ),
    "interleaved tools": (
        chunk(call(0, '{"a"', "t1", "f"))
        + chunk(call(1, '{"b"', "t2", "g"))
        + chunk(call(0, ":1}"))
        + chunk(call(1, ":2}"), "stop")
        + DONE,
        [
            start(0, type="tool_use", id="t1", name="f", input={}),
            delta(0, "input_json_delta", '{"a"'),
            delta(0, "input_json_delta", ":1}"),
            stop(0),
            start(1, type="tool_use", id="t2", name="g", input={}),
            delta(1, "input_json_delta", '{"b"'),
            delta(1, "input_json_delta", ":2}"),
            stop(1),
            *ended("tool_use", ZEROS),
        ],
    ),
    "a tool without arguments": (
        chunk(call(0, "", "t1", "f")) + chunk(finish="tool_calls") + DONE,
        [start(0, type="tool_use", id="t1", name="f", input={}), stop(0), *ended("tool_use", ZEROS)],
    ),
    "a function of the older API": (
        chunk({"function_call": {"name": "f", "arguments": ""}})
        + chunk({"function_call": {"arguments": "{}"}})
        + chunk(finish="function_call")
        + DONE,
        [
            start(0, type="tool_use", id="call_msg_chatcmpl-1_0", name="f", input={}),
            delta(0, "input_json_delta", "{}"),
            stop(0),
            *ended("tool_use", ZEROS),
        ],
    ),
    "other choices": (
        event({"id": "chatcmpl-1", "model": "m", "choices": [{"index": 1, "delta": {"content": "no"}}]})
        + HI
        + chunk(finish="stop")
        + DONE,
        [*TEXT, *ended("end_turn", ZEROS)],
    ),
    "text after the finish": (
        HI + chunk(finish="stop") + chunk({"content": "!"}) + DONE,
        [
            *TEXT,
            start(1, type="text", text=""),
            delta(1, "text_delta", "!"),
            stop(1),
            *ended("end_turn", ZEROS),
        ],
    ),
    "nothing said": (chunk({"role": "assistant"}) + chunk(finish="stop") + DONE, ended("end_turn", ZEROS)),
    "deltas of no use": (
        chunk({"content": {}, "tool_calls": [1], "reasoning": 5})
        + chunk([])
        + HI
        + chunk(finish=5)
        + chunk(finish="stop")
        + DONE,
        [*TEXT, *ended("end_turn", ZEROS)],
    ),
    "what follows the end": (
        HI + chunk(finish="stop") + DONE + chunk({"content": "!"}) + event({"error": {"message": "x"}}) + DONE,
        [*TEXT, *ended("end_turn", ZEROS)],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams(name: str) -> None:
    """Each stream of an upstream becomes the events of one whole message, in the order Anthropic's clients want."""
    stream, events = STREAMS[name]
    assert translate(stream) == [STARTED, *events]


@pytest.mark.parametrize("name", STREAMS)
def test_streams_cut_anywhere(name: str) -> None:
    """How the stream was cut into pieces changes nothing of what is written."""
    stream, _ = STREAMS[name]
    whole = StreamToMessages()
    out = whole.feed(stream) + whole.end()
    for cut in range(len(stream)):
        pieces = StreamToMessages()
        assert pieces.feed(stream[:cut]) + pieces.feed(stream[cut:]) + pieces.end() == out
    crumbs = StreamToMessages()
    assert b"".join(crumbs.feed(stream[at : at + 1]) for at in range(len(stream))) + crumbs.end() == out


@pytest.mark.parametrize("name", STREAMS)
def test_a_cut_stream_is_never_whole(name: str) -> None:
    """Before the finish reason nothing closes the message, not even the end of the body."""
    stream, _ = STREAMS[name]
    reason = stream.find(b'"finish_reason":"') if b'"finish_reason":"' in stream else stream.find(b"[DONE]")
    for cut in range(reason):
        assert not {"message_delta", "message_stop", "error"} & set(kinds_of(translate(stream[:cut])))


def test_it_ends_when_the_usage_has_come() -> None:
    """The closing events wait for the usage: until its chunk, or `[DONE]`, or the end of the body."""
    stream = StreamToMessages()
    assert kinds_of(events_of(stream.feed(HI + chunk(finish="stop", usage=USAGE))))[-1] == "content_block_stop"
    assert not stream.over
    assert events_of(stream.feed(usage_chunk())) == ended("end_turn", COUNTS)
    assert stream.over
    assert stream.feed(DONE) == stream.end() == b""


def test_the_usage_for_accounting() -> None:
    """The upstream's own usage object is kept, the last one of several, unread."""
    stream = StreamToMessages()
    assert stream.usage is None
    stream.feed(chunk({"content": "a"}, usage={"prompt_tokens": 1}))
    assert stream.usage == {"prompt_tokens": 1}
    stream.feed(chunk({"content": "a"}, usage=None))
    stream.feed(chunk(finish="stop") + usage_chunk())
    assert stream.usage == USAGE


def test_an_empty_stream_is_no_message() -> None:
    """A stream without any choice gives nothing, however it ends."""
    assert translate(DONE) == translate(b": x\n\n") == translate(event({"choices": [], "model": "m"}), DONE) == []
    assert translate(usage_chunk(), DONE) == []


ERRORS: dict[str, tuple[bytes, str, str]] = {
    "status in the code": (event({"error": {"message": "slow", "code": 429}}), "rate_limit_error", "slow"),
    "OpenAI's type": (
        event({"error": {"message": "bad", "type": "invalid_request_error", "code": None}}),
        "invalid_request_error",
        "bad",
    ),
    "named event": (b"event: error\n" + event({"message": "m", "type": "overloaded_error"}), "overloaded_error", "m"),
    "named event without data": (b"event: error\n\n", "api_error", "the upstream reported an error"),
    "flat": (event({"object": "error", "message": "m", "type": "Boom", "code": 503}), "overloaded_error", "m"),
    "text": (event({"error": "broken"}), "api_error", "broken"),
    "OpenRouter": (chunk({"content": ""}, "error", error={"code": 502, "message": "m"}), "api_error", "m"),
    "our credential": (
        event({"error": {"message": "Incorrect API key provided: sk-abcdefgh1234", "code": 401}}),
        "api_error",
        "Incorrect API key provided: ***",
    ),
    "half an emoji": (b'data: {"error":{"message":"\\ud83d"}}\n\n', "api_error", "\ud83d"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    """An upstream's error is told in Anthropic's words, without our credentials, and nothing follows it."""
    error, kind, message = ERRORS[name]
    said = {"type": "error", "error": {"type": kind, "message": message}}
    assert translate(error, HI, DONE) == [said]
    assert translate(HI + error + DONE + chunk(finish="stop")) == [STARTED, *TEXT[:2], said]


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("400", "", "invalid_request_error"),
        ("402", "", "api_error"),
        ("403", "permission_error", "api_error"),
        ("404", "", "not_found_error"),
        ("413", "", "request_too_large"),
        ("429", "server_error", "rate_limit_error"),
        ("500", "", "api_error"),
        ("503", "", "overloaded_error"),
        ("504", "", "timeout_error"),
        ("529", "", "overloaded_error"),
        ("rate_limit_exceeded", "tokens", "rate_limit_error"),
        ("server_is_overloaded", "server_error", "overloaded_error"),
        ("context_length_exceeded", "invalid_request_error", "invalid_request_error"),
        ("insufficient_quota", "insufficient_quota", "api_error"),
        ("", "authentication_error", "api_error"),
        ("", "not_found_error", "not_found_error"),
        ("what", "ever", "api_error"),
        ("", "", "api_error"),
    ],
)
def test_error_types(code: str, kind: str, said: str) -> None:
    """A status or word becomes the type Anthropic has for it; what is said of our account is the upstream's failure."""
    assert error_type(code, kind) == said


@pytest.mark.parametrize("nonsense", [b"data: hello\n\n", b"data: [1]\n\n", b"data: {\n\n", b"data: null\n\n"])
def test_nonsense_ends_the_answer(nonsense: bytes) -> None:
    """Where a piece may be lost, the rest does not pass for the whole answer."""
    events = translate(HI + nonsense + chunk(finish="stop") + DONE)
    assert kinds_of(events) == ["message_start", "content_block_start", "content_block_delta", "error"]
    assert events[-1]["error"]["type"] == "api_error"


def test_empty_data_is_nothing() -> None:
    """An event with empty data loses nothing."""
    assert translate(HI + b"data:\n\ndata: \n\n" + chunk(finish="stop") + DONE) == [
        STARTED,
        *TEXT,
        *ended("end_turn", ZEROS),
    ]


def test_an_event_without_end() -> None:
    """An event that grows beyond its bound ends the answer."""
    stream = StreamToMessages()
    piece = b"x" * (stream_to_messages.EVENT_BYTES_MAX // 4)
    out = stream.feed(HI + b"data: ")
    for _ in range(4):
        out += stream.feed(piece)
    assert kinds_of(events_of(out))[-1] == "error"
    assert stream.over
    assert stream.feed(piece) == b""
    at_once = chunk({"content": "x" * stream_to_messages.EVENT_BYTES_MAX})
    assert kinds_of(translate(HI + at_once + chunk(finish="stop")))[-1] == "error"


@pytest.mark.parametrize(
    "fault",
    [
        chunk(call(0, "{}", "a", "f")) + chunk(call(1, "{}", "b", "g")) + chunk(call(0, "{}")),
        chunk(call(0, "{}", "a")) + chunk(finish="tool_calls"),
        chunk(call(0, "{}", "a")) + DONE,
    ],
)
def test_calls_that_cannot_be_told(fault: bytes) -> None:
    """Calls that cannot be put in order, or have no name, end the answer with an error."""
    assert kinds_of(translate(fault, end=False))[-1] == "error"
    assert "message_stop" not in kinds_of(translate(fault, DONE))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "", "error", "stop", "{", "}", "\ud83d"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("index", "function", "name", "text", "type", "thinking")), inner, max_size=3)
    ),
    max_leaves=6,
)
odd = st.just({"content": "a"}) | json_values
calls = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 2) | odd,
        "id": st.sampled_from(["t1", "t2"]) | odd,
        "function": st.fixed_dictionaries(
            {}, optional={"name": st.just("f") | odd, "arguments": st.sampled_from(["", "{", "}", "{}"]) | odd}
        )
        | odd,
    },
)
deltas = st.fixed_dictionaries(
    {},
    optional={
        "content": st.just("a") | odd,
        "reasoning": st.just("a") | odd,
        "tool_calls": st.lists(calls, max_size=2) | odd,
        "function_call": odd,
    },
)
choices = st.fixed_dictionaries(
    {"delta": deltas | odd},
    optional={"finish_reason": st.none() | st.just("stop") | odd, "index": st.integers(0, 1) | odd},
)


@given(st.lists(st.tuples(choices | odd, odd, odd), max_size=4), st.booleans())
def test_any_chunks(chunks: list[tuple[Any, Any, Any]], done: bool) -> None:
    """Whatever the chunks hold, the events are well formed, one block is open at a time, and the end comes once."""
    pieces = [event({"choices": [choice], "usage": usage, "id": more}) for choice, usage, more in chunks]
    events = translate(*pieces, DONE if done else b"")
    kinds = kinds_of(events)
    assert kinds.count("message_start") == (1 if kinds and kinds[0] != "error" else 0)
    assert all(kind not in ("error", "message_stop") for kind in kinds[:-1])
    expected, is_open = 0, False
    for one in events:
        if one["type"].startswith("content_block"):
            assert one["index"] == expected
            assert is_open is not (one["type"] == "content_block_start")
            is_open = one["type"] != "content_block_stop"
            expected += not is_open
    assert not is_open or "message_stop" not in kinds


@given(
    st.lists(st.binary(max_size=30) | st.sampled_from([HI, DONE, b"\n\n", b"data: ", b"event: error\n"]), max_size=6)
)
def test_any_bytes(pieces: list[bytes]) -> None:
    """Whatever bytes an upstream sends, what is written are whole events."""
    translate(*pieces)
