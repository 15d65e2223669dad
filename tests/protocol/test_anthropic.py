import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.events import Usage
from router.protocol.anthropic import HEARTBEAT, MESSAGES, USAGE_MEMBERS_MAX, merge, plain_delta, read_body, read_chunk
from router.protocol.facts import BodyFacts, ChunkFacts, ErrorFacts, Meaning

CONTENT, FINISH, USAGE, ERROR = Meaning.CONTENT, Meaning.FINISH, Meaning.USAGE, Meaning.ERROR
DONE, COMMENT, OTHER, BAD = Meaning.DONE, Meaning.COMMENT, Meaning.OTHER, Meaning.BAD


def event(said: Any, *, name: str | None = None) -> bytes:
    name = said["type"] if name is None else name
    return f"event: {name}\n".encode() + data(said) if name else data(said)


def data(said: Any) -> bytes:
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}}, CONTENT),
        ({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{"}}, CONTENT),
        ({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "x"}}, CONTENT),
        ({"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "x"}}, CONTENT),
        ({"type": "content_block_delta", "delta": {"type": "citations_delta", "citation": {"url": "x"}}}, CONTENT),
        ({"type": "content_block_delta", "delta": {"type": "invented_delta", "news": 1}}, CONTENT),
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": ""}}, OTHER),
        ({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": ""}}, OTHER),
        ({"type": "content_block_delta", "delta": "x"}, OTHER),
        ({"type": "content_block_delta"}, OTHER),
        ({"type": "content_block_start", "content_block": {"type": "text", "text": ""}}, OTHER),
        ({"type": "content_block_start", "content_block": {"type": "text", "text": "x"}}, CONTENT),
        ({"type": "content_block_start", "content_block": {"type": "thinking", "thinking": ""}}, OTHER),
        ({"type": "content_block_start", "content_block": {"type": "redacted_thinking", "data": "x"}}, CONTENT),
        ({"type": "content_block_start", "content_block": {"type": "tool_use", "id": "t", "input": {}}}, CONTENT),
        ({"type": "content_block_stop", "index": 0}, OTHER),
        ({"type": "message_start", "message": {"id": "m"}}, OTHER),
        ({"type": "message_start", "message": []}, OTHER),
        ({"type": "message_start", "message": {"usage": {"input_tokens": 1}}}, USAGE),
        ({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, FINISH),
        ({"type": "message_delta", "delta": {"stop_reason": "invented"}, "usage": {}}, FINISH | USAGE),
        ({"type": "message_delta", "delta": {"stop_reason": None}, "usage": {}}, USAGE),
        ({"type": "message_delta", "delta": {"stop_reason": ""}}, OTHER),
        ({"type": "message_delta", "delta": None}, OTHER),
        ({"type": "message_stop"}, DONE),
        ({"type": "ping"}, COMMENT),
        ({"type": "error", "error": {}}, ERROR),
        ({"type": "invented"}, OTHER),
    ],
)
def test_events(said: dict[str, Any], meaning: Meaning) -> None:
    """An event means what its `type` says; where either the type or the `event:` line is missing, the other says it."""
    assert read_chunk(event(said)).meaning == meaning
    assert read_chunk(data(said)).meaning == meaning
    nameless = {name: value for name, value in said.items() if name != "type"}
    assert read_chunk(event(nameless, name=said["type"])).meaning == meaning


def test_the_type_counts() -> None:
    """Where name and type contradict each other the type counts, as it does to the SDKs; but an error is an error."""
    assert read_chunk(event({"type": "message_stop"}, name="content_block_delta")).meaning == DONE
    assert read_chunk(event({"type": "message_stop"}, name="error")).meaning == ERROR
    assert read_chunk(event({"type": 3}, name="message_stop")).meaning == DONE


@pytest.mark.parametrize(
    ("raw", "type_", "message"),
    [
        (event({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}), "overloaded_error", "m"),
        (data({"error": {"type": "overloaded_error", "message": "m"}}), "overloaded_error", "m"),
        (event({"type": "overloaded_error", "message": "m"}, name="error"), "overloaded_error", "m"),
        (b"event: error\ndata: x\n\n", "", "the upstream reported an error"),
        (b"event: error\n\n", "", "the upstream reported an error"),
    ],
)
def test_errors(raw: bytes, type_: str, message: str) -> None:
    """Every way an upstream reports a failure is seen, with what it says."""
    facts = read_chunk(raw)
    assert facts.meaning == ERROR
    assert facts.error is not None
    assert (facts.error.type, facts.error.message) == (type_, message)


@pytest.mark.parametrize(
    ("raw", "meaning"),
    [
        (b": ka\n\n", COMMENT),
        (b"\n", COMMENT),
        (b"event: ping\n\n", COMMENT),
        (HEARTBEAT, COMMENT),
        (b"data: [DONE]\n\n", OTHER),
        (b"data: \n\n", BAD),
        (b"event: message_stop\ndata: []\n\n", BAD),
        (b"data: {\n\n", BAD),
    ],
)
def test_events_without_an_object(raw: bytes, meaning: Meaning) -> None:
    """Comments are comments and garbage is bad; `[DONE]` ends no message, for no SDK takes it for the end."""
    assert read_chunk(raw) == ChunkFacts(meaning)


def test_what_an_event_counts() -> None:
    """Usage stands in two places, a stop reason finishes the one answer, a delta is a piece."""
    usage = {"output_tokens": 5}
    start = {"type": "message_start", "message": {"id": "msg_1", "usage": usage}}
    assert read_chunk(event(start)) == ChunkFacts(USAGE, usage)
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
    assert read_chunk(event(end)) == ChunkFacts(FINISH | USAGE, usage, finished=(0,))
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}}
    assert read_chunk(event(delta)) == ChunkFacts(CONTENT, output_deltas=1)


def test_running_totals_override_the_first_report() -> None:
    """The last report counts, member by member; what it leaves out or says nothing about stays."""
    first = {"input_tokens": 10, "cache_read_input_tokens": 7, "output_tokens": 1}
    assert merge(None, first) == first
    assert merge(first, {"output_tokens": 5}) == first | {"output_tokens": 5}
    later = {"input_tokens": 0, "cache_read_input_tokens": None, "output_tokens": 9}
    merged = merge(merge(first, {"output_tokens": 5}), later)
    assert MESSAGES.account(merged) == Usage(input=0, cache_read=7, output=9)
    assert first["output_tokens"] == 1


def test_usage_does_not_grow_without_bound() -> None:
    """An upstream that reports ever new members cannot fill the memory with them."""
    usage: dict[str, Any] | None = None
    for number in range(1000):
        usage = merge(usage, {f"invented_{number}": 1, "output_tokens": number})
        assert len(usage) <= USAGE_MEMBERS_MAX
    assert usage is not None
    assert usage["output_tokens"] == 999


PLAIN = event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 'a "b" \n c'}})


@pytest.mark.parametrize("raw", [PLAIN, PLAIN.replace(b'{"type":"content_block_d', b'{"type": "content_block_d')])
def test_plain_delta(raw: bytes) -> None:
    """An ordinary delta is recognised without decoding, with a space after the colon as well."""
    assert plain_delta(raw)
    assert read_chunk(raw).meaning == CONTENT


@pytest.mark.parametrize(
    "raw",
    [
        PLAIN.replace(b'{"type":"content_block_delta"', b'{"type":"message_stop"'),
        PLAIN.replace(b"event: content_block_delta", b"event: error"),
        PLAIN.replace(b"\ndata", b"\nevent: error\ndata"),
        PLAIN[:-1] + b"event: error\n\n",
        PLAIN[:-1] + b"data: \n\n",
        PLAIN[:-2] + b"\revent: error\n\n",
        PLAIN.replace(b"\n", b"\r\n"),
        PLAIN[:-1],
        PLAIN[:-2],
        PLAIN[:-3],
        PLAIN[:-4] + b"\n\n",
        PLAIN[:-2] + b"\rdata: }\n\n",
        PLAIN + PLAIN,
        HEARTBEAT,
        b"",
    ],
)
def test_what_is_not_plain(raw: bytes) -> None:
    """Whatever is anything but one delta is left to the thorough reading."""
    assert not plain_delta(raw)


KINDS = [
    "content_block_delta",
    "content_block_start",
    "message_delta",
    "message_start",
    "message_stop",
    "error",
    "ping",
]
SAID = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([*KINDS, "x", None]),
        "delta": st.sampled_from([None, {}, {"text": "x"}, {"stop_reason": "end_turn"}]),
        "usage": st.sampled_from([None, {}, {"output_tokens": 1}]),
        "message": st.sampled_from([None, "x", {"usage": {"input_tokens": 1}}]),
        "error": st.sampled_from([None, {"message": "x"}, "x"]),
    },
)


@given(SAID, st.sampled_from(["", *KINDS]), st.sampled_from([(",", ":"), (", ", ": ")]))
def test_the_cheap_test_never_contradicts_the_thorough_one(
    said: dict[str, Any], name: str, separators: tuple[str, str]
) -> None:
    """Whatever the cheap test lets pass neither ends, nor fails, nor carries usage."""
    raw = b"data: " + json.dumps(said, separators=separators).encode() + b"\n\n"
    raw = f"event: {name}\n".encode() + raw if name else raw
    if plain_delta(raw):
        facts = read_chunk(raw)
        assert facts.meaning in (CONTENT, OTHER)
        assert (facts.usage, facts.error, facts.finished) == (None, None, ())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "usage", "stop_reason", "text"]), inner),
    max_leaves=8,
)
MEMBERS = ["delta", "usage", "message", "error", "content_block", "id", "content"]
ODD = st.fixed_dictionaries({"type": st.sampled_from(KINDS) | VALUES}, optional=dict.fromkeys(MEMBERS, VALUES))


@given(ODD, st.sampled_from(KINDS))
def test_no_shape_raises(said: dict[str, Any], name: str) -> None:
    """Members of any type in any place are read or passed over."""
    read_chunk(event(said, name=name))
    read_chunk(data(said))
    read_body(json.dumps(said).encode())


@given(st.binary(), st.sampled_from([b"", b"data: ", b"event: content_block_delta\ndata: {", b"event: error\n"]))
def test_no_bytes_raise(raw: bytes, prefix: bytes) -> None:
    """Any bytes are read or passed over."""
    plain_delta(prefix + raw)
    read_chunk(prefix + raw)
    read_body(raw)


def test_body() -> None:
    """A message's id and usage are read; a count of tokens is an answer without either."""
    raw = b'{"id":"msg_1","type":"message","content":[{"type":"text","text":"x"}],"usage":{"input_tokens":9}}'
    assert read_body(raw) == BodyFacts(is_object=True, id="msg_1", usage={"input_tokens": 9})
    assert read_body(b'{"input_tokens":14}') == BodyFacts(is_object=True)
    assert read_body(b'{"id":3,"usage":[],"error":null}') == BodyFacts(is_object=True)
    for garbage in (b"", b"[]", b"null", b'{"id":', b"<html>"):
        assert read_body(garbage) == BodyFacts(is_object=False)


def test_an_error_in_a_success() -> None:
    """A 200 that is an error and no message is a failure, in OpenAI's envelope as well."""
    native = read_body(b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}').error
    assert native == ErrorFacts(type="overloaded_error", message="m", conforming=True, anthropic=True)
    assert read_body(b'{"type":"error","message":"m"}').error is not None
    assert read_body(b'{"error":{"code":500,"message":"m","type":"server_error"}}').error is not None
    assert read_body(b'{"type":"message","content":[{"type":"text"}],"error":{"message":"m"}}').error is None


def test_heartbeat_is_a_named_ping() -> None:
    """Our own sign of life is an event that the SDKs know, whole in itself."""
    assert MESSAGES.heartbeat == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert MESSAGES.done == b""
