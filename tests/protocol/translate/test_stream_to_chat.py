import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.protocol import openai, sse
from router.protocol.facts import Meaning
from router.protocol.translate.stream_to_chat import BLOCKS_OPEN_MAX, EVENT_BYTES_MAX, StreamToChat

NOW = 1_790_000_000


def event(**said: Any) -> bytes:
    return f"event: {said['type']}\ndata: {json.dumps(said)}\n\n".encode()


def start(**usage: Any) -> bytes:
    message: dict[str, Any] = {
        "id": "msg_01XFD",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-6",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage or {"input_tokens": 25, "output_tokens": 1},
    }
    return event(type="message_start", message=message)


def opened(index: int, **block: Any) -> bytes:
    return event(type="content_block_start", index=index, content_block=block)


def delta(index: int, **piece: Any) -> bytes:
    return event(type="content_block_delta", index=index, delta=piece)


def stopped(index: int) -> bytes:
    return event(type="content_block_stop", index=index)


def ended(reason: str | None, **usage: Any) -> bytes:
    said = event(type="message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage)
    return said + event(type="message_stop")


PING = event(type="ping")
TEXT = (
    start()
    + opened(0, type="text", text="")
    + PING
    + delta(0, type="text_delta", text="Grüß")
    + delta(0, type="text_delta", text=" Gott 🌍\n")
    + stopped(0)
    + ended("end_turn", output_tokens=15)
)
TOOLS = (
    start(input_tokens=472, cache_read_input_tokens=100, cache_creation_input_tokens=28, output_tokens=2)
    + opened(0, type="text", text="")
    + delta(0, type="text_delta", text="Let me look.")
    + stopped(0)
    + opened(1, type="tool_use", id="toolu_01", name="get_weather", input={})
    + delta(1, type="input_json_delta", partial_json="")
    + delta(1, type="input_json_delta", partial_json='{"location":')
    + delta(1, type="input_json_delta", partial_json=' "Paris"}')
    + stopped(1)
    + opened(2, type="tool_use", id="toolu_02", name="now", input={})
    + stopped(2)
    + ended("tool_use", output_tokens=89)
)
THINKING = (
    start()
    + opened(0, type="thinking", thinking="", signature="")
    + delta(0, type="thinking_delta", thinking="Half of")
    + delta(0, type="thinking_delta", thinking=" 84")
    + delta(0, type="signature_delta", signature="EqQB")
    + stopped(0)
    + opened(1, type="redacted_thinking", data="Zm9v")
    + stopped(1)
    + opened(2, type="text", text="")
    + delta(2, type="text_delta", text="42")
    + stopped(2)
    + ended("end_turn", output_tokens=30, output_tokens_details={"thinking_tokens": 21})
)
SERVER_TOOL = (
    start()
    + opened(0, type="server_tool_use", id="srvtoolu_1", name="web_search", input={})
    + delta(0, type="input_json_delta", partial_json='{"query":"x"}')
    + stopped(0)
    + opened(1, type="web_search_tool_result", tool_use_id="srvtoolu_1", content=[])
    + stopped(1)
    + opened(2, type="text", text="", citations=[])
    + delta(2, type="citations_delta", citation={"type": "web_search_result_location"})
    + delta(2, type="text_delta", text="Found.")
    + stopped(2)
    + opened(3, type="tool_use", id="toolu_9", name="note", input={})
    + delta(3, type="input_json_delta", partial_json='{"a":1}')
    + stopped(3)
    + ended("tool_use", output_tokens=9)
)


def translated(stream: bytes, **options: Any) -> bytes:
    translation = StreamToChat(created=NOW, **options)
    return translation.feed(stream) + translation.end()


def chunks(out: bytes) -> list[dict[str, Any]]:
    """Decode what an OpenAI client reads, comments left out; `[DONE]` is an empty object."""
    found = []
    for one in sse.EventReader().feed(out):
        data = sse.data_of(one)
        assert data is not None
        found.append({} if data == b"[DONE]" else json.loads(data))
    return found


def deltas(out: bytes) -> list[dict[str, Any]]:
    return [choice["delta"] for chunk in chunks(out) for choice in chunk.get("choices", ())]


def errors(out: bytes) -> list[dict[str, Any]]:
    return [chunk["error"] for chunk in chunks(out) if "error" in chunk]


def call(k: int, arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": k, "function": {"arguments": arguments}}]}


def call_start(k: int, identity: str, name: str) -> dict[str, Any]:
    function = {"name": name, "arguments": ""}
    return {"tool_calls": [{"index": k, "id": identity, "type": "function", "function": function}]}


ROLE = {"role": "assistant", "content": ""}


def test_the_frame_of_every_chunk() -> None:
    """Every chunk carries id, object, time and model, and only the last with a choice a finish reason."""
    *answer, done = chunks(translated(TEXT))
    assert done == {}
    for chunk in answer:
        frame = (chunk["id"], chunk["object"], chunk["created"], chunk["model"])
        assert frame == ("chatcmpl-msg_01XFD", "chat.completion.chunk", NOW, "claude-opus-4-6")
    *pieces, usage = answer
    assert [chunk["choices"][0]["index"] for chunk in pieces] == [0] * len(pieces)
    assert [chunk["choices"][0]["finish_reason"] for chunk in pieces] == [None] * (len(pieces) - 1) + ["stop"]
    assert usage["choices"] == []
    assert "usage" not in pieces[0]


def test_text() -> None:
    """Text deltas are pieces of content, one for one; the answer begins with the role and ends with no more."""
    assert deltas(translated(TEXT)) == [ROLE, {"content": "Grüß"}, {"content": " Gott 🌍\n"}, {}]


def test_a_ping_is_a_comment() -> None:
    """A ping becomes a comment of one line, so that no decoder dispatches an empty event on it."""
    translation = StreamToChat(created=NOW)
    assert translation.feed(PING) == b": ping\n"
    assert b": ping\ndata: {" in translated(TEXT)


def test_tool_calls() -> None:
    """Calls count from 0 whatever blocks stand before; one that closes without a piece has the empty object."""
    assert deltas(translated(TOOLS)) == [
        ROLE,
        {"content": "Let me look."},
        call_start(0, "toolu_01", "get_weather"),
        call(0, '{"location":'),
        call(0, ' "Paris"}'),
        call_start(1, "toolu_02", "now"),
        call(1, "{}"),
        {},
    ]
    assert chunks(translated(TOOLS))[-3]["choices"][0]["finish_reason"] == "tool_calls"


def test_thinking() -> None:
    """Thinking becomes reasoning; its signature and what was redacted become nothing."""
    assert deltas(translated(THINKING)) == [
        ROLE,
        {"reasoning_content": "Half of"},
        {"reasoning_content": " 84"},
        {"content": "42"},
        {},
    ]


def test_signed_thinking_is_kept_on_demand() -> None:
    """With `thinking_blocks` each signed block follows its text as one piece, ready to be sent back."""
    assert deltas(translated(THINKING, thinking_blocks=True)) == [
        ROLE,
        {"reasoning_content": "Half of"},
        {"reasoning_content": " 84"},
        {"thinking_blocks": [{"type": "thinking", "thinking": "Half of 84", "signature": "EqQB"}]},
        {"thinking_blocks": [{"type": "redacted_thinking", "data": "Zm9v"}]},
        {"content": "42"},
        {},
    ]


def test_kept_thinking_is_bounded() -> None:
    """A stream whose kept thinking exceeds the bound fails with one error, and nothing comes after it."""
    piece = delta(0, type="thinking_delta", thinking="x" * (EVENT_BYTES_MAX // 2))
    stream = start() + opened(0, type="thinking", thinking="", signature="") + piece * 3 + stopped(0)
    out = translated(stream, thinking_blocks=True)
    assert len(errors(out)) == 1
    signature = opened(0, type="thinking", thinking="y", signature="s" * (EVENT_BYTES_MAX - 300))
    out = translated(start() + signature * 2, thinking_blocks=True)
    assert len(errors(out)) == 1
    assert deltas(out)[-1].keys() == {"thinking_blocks"}


def test_input_in_thinking_is_dropped() -> None:
    """A piece of a call's input that names a block of thinking belongs to no call."""
    stray = opened(0, type="thinking") + delta(0, type="input_json_delta", partial_json="{") + stopped(0)
    assert [*deltas(translated(start() + stray, thinking_blocks=True))[1]] == ["thinking_blocks"]


def test_a_second_start_says_nothing() -> None:
    """Only the first `message_start` begins the answer; what a later one reports as usage counts."""
    out = translated(start() + start(input_tokens=9, output_tokens=1) + ended("end_turn", output_tokens=2))
    assert deltas(out) == [ROLE, {}]
    assert chunks(out)[-2]["usage"]["prompt_tokens"] == 9


def test_what_servers_do_themselves_is_silent() -> None:
    """Server tools, their input and results, and citations give nothing, and do not count as calls."""
    assert deltas(translated(SERVER_TOOL)) == [
        ROLE,
        {"content": "Found."},
        call_start(0, "toolu_9", "note"),
        call(0, '{"a":1}'),
        {},
    ]


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
    ],
)
def test_finish_reasons(stop_reason: str, finish: str) -> None:
    """Every reason to stop has its finish reason; an unknown one is `stop`."""
    last = chunks(translated(start() + ended(stop_reason)))[-3]
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": finish}]


def test_usage() -> None:
    """The usage chunk stands before the marker, its prompt contains the cache, and the upstream's terms are kept."""
    translation = StreamToChat(created=NOW)
    *_, usage, done = chunks(translation.feed(TOOLS))
    assert done == {}
    assert usage["usage"] == {
        "prompt_tokens": 600,
        "completion_tokens": 89,
        "total_tokens": 689,
        "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 28},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert translation.usage == {
        "input_tokens": 472,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 28,
        "output_tokens": 89,
    }
    assert openai.read_event(sse.EventReader().feed(translated(TOOLS))[-2])[0] == Meaning.USAGE | Meaning.USAGE_ONLY


def test_later_usage_overrides() -> None:
    """Reports are cumulative: the last one counts, and what it leaves out or calls null stays."""
    translation = StreamToChat(created=NOW)
    translation.feed(start(input_tokens=5, cache_read_input_tokens=7, output_tokens=1))
    for output in (10, 20):
        translation.feed(event(type="message_delta", delta={}, usage={"output_tokens": output}))
    out = translation.feed(ended("end_turn", input_tokens=6, cache_read_input_tokens=None, output_tokens=30))
    assert translation.usage == {"input_tokens": 6, "cache_read_input_tokens": 7, "output_tokens": 30}
    assert chunks(out)[1]["usage"]["prompt_tokens"] == 13


def test_reasoning_tokens() -> None:
    """Tokens spent on thinking are named as a part of the completion."""
    usage = chunks(translated(THINKING))[-2]["usage"]
    assert (usage["completion_tokens"], usage["completion_tokens_details"]) == (30, {"reasoning_tokens": 21})


def test_unknown_usage_is_not_invented() -> None:
    """A stream that reported no usage ends without a usage chunk: zeros would look exact."""
    stream = opened(0, type="text", text="Hi") + event(type="message_delta", delta={"stop_reason": "end_turn"})
    out = translated(stream + event(type="message_stop"))
    assert deltas(out) == [ROLE, {"content": "Hi"}, {}]
    assert chunks(out)[-1] == {}


def test_a_stream_without_its_start() -> None:
    """Without `message_start` the first piece brings the role, and an id made of the time."""
    first = chunks(translated(delta(0, type="text_delta", text="Hi") + ended("end_turn", output_tokens=2)))[0]
    assert first["id"] == f"chatcmpl-{NOW}"
    assert first["choices"][0]["delta"] == ROLE


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("overloaded_error", 529),
        ("rate_limit_error", 429),
        ("api_error", 500),
        ("timeout_error", 504),
        ("billing_error", 402),
        ("invented_error", 500),
    ],
)
def test_errors(kind: str, code: int) -> None:
    """An error event becomes OpenAI's, with the status it would have come under, and nothing follows it."""
    failure = event(type="error", error={"type": kind, "message": "Overloaded, key sk-ant-api03-abcdef"})
    translation = StreamToChat(created=NOW)
    out = translation.feed(start() + failure + TEXT)
    assert out.endswith(
        b'data: {"error":{"message":"Overloaded, key ***","type":"%s","param":null,"code":%d}}\n\n'
        % (kind.encode(), code)
    )
    assert translation.over
    assert translation.feed(TEXT) == b""
    assert translation.end() == b""
    (*_, last) = sse.EventReader().feed(out)
    assert openai.read_event(last)[0] == Meaning.ERROR


def test_errors_in_other_shapes() -> None:
    """Emulations fail in OpenAI's shape, with or without a name: that ends the stream just so."""
    failure = b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}'
    for before in (b"data: ", b"event: error\ndata: "):
        wanted = {"message": "Loading model", "type": "unavailable_error", "param": None, "code": 503}
        assert errors(translated(before + failure + b"\n\n" + TEXT)) == [wanted]


@pytest.mark.parametrize("stream", [TEXT, TOOLS, THINKING], ids=["text", "tools", "thinking"])
def test_a_cut_stream_is_not_closed(stream: bytes) -> None:
    """However much of a stream came, without a reason to stop it gets neither a finish reason nor a marker."""
    cut = stream.index(b"event: message_delta")
    for end in range(0, cut, 7):
        out = translated(stream[:end])
        assert b"[DONE]" not in out
        assert b'"finish_reason":"' not in out
        assert b'"error"' not in out


def test_a_clean_end_after_the_reason() -> None:
    """If only `message_stop` or its blank line is missing at a clean end, the answer is complete all the same."""
    whole = translated(TEXT)
    without = TEXT[: TEXT.index(b"event: message_stop")]
    assert translated(without) == whole
    assert translated(TEXT.removesuffix(b"\n\n")) == whole
    assert translated(without + b"data: [DONE]\n\n") == whole
    assert translated(without + b"data: [DONE]") == whole
    translation = StreamToChat(created=NOW)
    assert b"[DONE]" not in translation.feed(without)
    for none in (None, "", 5):
        no_reason = start() + event(type="message_delta", delta={"stop_reason": none})
        assert b"[DONE]" not in translated(no_reason)


@pytest.mark.parametrize(
    "stream", [TEXT, TOOLS, THINKING, SERVER_TOOL, start() + event(type="error", error={"type": "api_error"})]
)
def test_every_split(stream: bytes) -> None:
    """Cut in two anywhere, or into bytes, and with any line ends, a stream gives the same chunks."""
    whole = translated(stream, thinking_blocks=True)
    for cut in range(len(stream) + 1):
        translation = StreamToChat(created=NOW, thinking_blocks=True)
        assert translation.feed(stream[:cut]) + translation.feed(stream[cut:]) == whole
    translation = StreamToChat(created=NOW, thinking_blocks=True)
    assert b"".join(translation.feed(stream[at : at + 1]) for at in range(len(stream))) == whole
    assert translated(b"\xef\xbb\xbf" + stream.replace(b"\n", b"\r\n"), thinking_blocks=True) == whole


def test_events_without_their_line() -> None:
    """The type in the data is enough, as is the name if the data has no type."""
    bare = b"".join(line + b"\n\n" for line in TEXT.split(b"\n") if line.startswith(b"data"))
    named = TEXT.replace(b'"type": "content_block_delta", ', b"")
    assert translated(bare) == translated(named) == translated(TEXT)


@pytest.mark.parametrize(
    "nonsense",
    [
        event(type="invented", anything=[1]),
        event(type="message_start", message=7),
        event(type="content_block_start", index=1, content_block="x"),
        event(type="content_block_start", index=1, content_block={"type": ["x"]}),
        event(type="content_block_start", index=1, content_block={"type": "text", "text": 4}),
        event(type="content_block_delta", index=1, delta=None),
        event(type="content_block_delta", index=[], delta={"type": "text_delta", "text": {}}),
        event(type="content_block_delta", index=7, delta={"type": "input_json_delta", "partial_json": "{"}),
        event(type="content_block_delta", index=1, delta={"type": ["text_delta"], "text": "x"}),
        event(type="content_block_stop", index="x"),
        event(type="message_delta", delta=[], usage=[]),
        event(type="message_delta", delta={"stop_reason": 5}),
        b"data: [DONE]\n\n",
        b"data: {}\n\n",
        b": comment\n\n",
        b"event: ping\n\n",
        b"id: 5\nretry: 1000\n\n",
    ],
)
def test_nonsense_is_dropped(nonsense: bytes) -> None:
    """What is of no known kind, or of another type than it should be, says nothing and harms nothing."""
    begin, rest = TEXT.split(b"event: content_block_start", 1)
    assert translated(begin + nonsense + b"event: content_block_start" + rest) == translated(TEXT)


@pytest.mark.parametrize("data", [b"{", b"[1]", b"null", b'{"type":"content_block_delta","delta":{"tex'])
def test_what_is_no_json_object_fails(data: bytes) -> None:
    """An event that cannot be read may have been a piece of the answer: the rest does not pass for the whole."""
    out = translated(start() + b"event: content_block_delta\ndata: " + data + b"\n\n" + TEXT)
    assert [error["code"] for error in errors(out)] == [500]
    assert b"[DONE]" not in out


def test_a_whole_input_at_the_start_of_a_call() -> None:
    """Input that comes with the start of a call is its arguments, digit for digit; pieces that repeat it are not."""
    block = '{"type":"tool_use","id":"toolu_1","name":"pay","input":{"n":12345678901234567890123,"x":1.10}}'
    opening = f'data: {{"type":"content_block_start","index":0,"content_block":{block}}}\n\n'.encode()
    for pieces in (b"", delta(0, type="input_json_delta", partial_json='{"n":1}')):
        out = translated(start() + opening + pieces + stopped(0) + ended("tool_use"))
        wanted = call(0, '{"n":12345678901234567890123,"x":1.10}')
        assert deltas(out) == [ROLE, call_start(0, "toolu_1", "pay"), wanted, {}]


def test_calls_that_are_not_closed() -> None:
    """A call that is still open at the end of the message, or when its number is used again, is closed then."""
    use = opened(0, type="tool_use", id="a", name="f", input={})
    out = translated(start() + use + use + ended("tool_use"))
    assert deltas(out)[1:] == [call_start(0, "a", "f"), call(0, "{}"), call_start(1, "a", "f"), call(1, "{}"), {}]


def test_calls_without_id() -> None:
    """A call without id or name gets an id of its own, so that its result can refer to it."""
    out = translated(start() + opened(0, type="tool_use") + stopped(0))
    assert deltas(out)[1] == call_start(0, "call_0", "")


def test_open_blocks_are_bounded() -> None:
    """An upstream that opens blocks and never closes them fails the stream; it does not fill the memory."""
    uses = b"".join(opened(index, type="tool_use", id="a", name="f") for index in range(BLOCKS_OPEN_MAX + 1))
    out = translated(start() + uses + TEXT)
    assert len(errors(out)) == 1
    assert b"[DONE]" not in out


def test_long_events_fail() -> None:
    """An event above the bound, whole or not yet, ends the stream with an error."""
    long = delta(0, type="text_delta", text="x" * EVENT_BYTES_MAX)
    for stream in (start() + long + TEXT, start() + long[:-2]):
        translation = StreamToChat(created=NOW)
        out = translation.feed(stream)
        assert translation.over
        assert len(errors(out)) == 1
        assert len(out) < 1000
        assert b"[DONE]" not in out


def test_half_a_character_passes() -> None:
    """Half a surrogate pair, where a server cut an emoji in two, is passed on as it came."""
    out = translated(start() + delta(0, type="text_delta", text="\ud83d") + delta(0, type="text_delta", text="\ude00"))
    assert b'{"content":"\\ud83d"}' in out
    assert b'{"content":"\\ude00"}' in out


def test_deep_events_end_the_stream() -> None:
    """A tool input that is nested too deeply fails the stream and raises nothing."""
    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    block = b'{"type":"tool_use","id":"a","name":"f","input":' + deep + b"}"
    out = translated(b'data: {"type":"content_block_start","index":0,"content_block":' + block + b"}\n\n" + TEXT)
    assert len(errors(out)) == 1
    for depth in range(700, 1000):
        block = b'{"type":"tool_use","id":"a","name":"f","input":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
        out = translated(b'data: {"type":"content_block_start","index":0,"content_block":' + block + b"}\n\n")
        assert len(errors(out)) == 1 or '"a":1}' in deltas(out)[-1]["tool_calls"][0]["function"]["arguments"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = """
    type index message content_block delta usage error id model text thinking input partial_json stop_reason signature
    name data input_tokens output_tokens
"""
KINDS = """
    message_start content_block_start content_block_delta content_block_stop message_delta message_stop ping error
    text tool_use thinking redacted_thinking text_delta input_json_delta thinking_delta signature_delta
"""
names, kinds = st.sampled_from(NAMES.split()), st.sampled_from(KINDS.split())
objects = st.dictionaries(names, kinds | json_values | st.dictionaries(names, kinds | json_values, max_size=5))


@settings(max_examples=150, deadline=None)
@given(st.lists(objects.map(lambda one: b"data: " + json.dumps(one).encode() + b"\n\n") | st.binary(max_size=30)))
def test_nothing_raises(events: list[bytes]) -> None:
    """Whatever the upstream sends, what comes out are whole events of JSON objects, comments and at most one marker."""
    translation = StreamToChat(created=NOW, thinking_blocks=True)
    out = b"".join(translation.feed(one) for one in events) + translation.end()
    assert out.endswith((b"\n\n", b": ping\n")) or not out
    for chunk in chunks(out):
        assert isinstance(chunk, dict)
    assert out.count(b"data: [DONE]\n\n") + (b'data: {"error"' in out) <= 1
