import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.facts import BodyFacts, ChunkFacts, ErrorFacts, Meaning
from router.protocol.responses import RESPONSES, plain_delta, read_body, read_chunk

CONTENT, FINISH, USAGE, ERROR = Meaning.CONTENT, Meaning.FINISH, Meaning.USAGE, Meaning.ERROR
DONE, COMMENT, OTHER, BAD = Meaning.DONE, Meaning.COMMENT, Meaning.OTHER, Meaning.BAD
WHOLE = CONTENT | FINISH | DONE


def event(said: dict[str, Any], *, name: str | None = None) -> bytes:
    name = said["type"] if name is None else name
    return f"event: {name}\n".encode() + data(said) if name else data(said)


def data(said: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [
        ("response.created", OTHER),
        ("response.queued", OTHER),
        ("response.in_progress", OTHER),
        ("response.output_item.added", CONTENT),
        ("response.output_text.delta", CONTENT),
        ("response.reasoning_summary_text.delta", CONTENT),
        ("response.function_call_arguments.done", CONTENT),
        ("response.web_search_call.searching", CONTENT),
        ("response.invented.next_month", CONTENT),
        ("response.completed", WHOLE),
        ("response.incomplete", WHOLE),
        ("response.failed", ERROR | DONE),
        ("error", ERROR | DONE),
        ("keepalive", COMMENT),
        ("ping", COMMENT),
        ("invented", OTHER),
        ("", OTHER),
    ],
)
def test_events(kind: str, meaning: Meaning) -> None:
    """Four events end an answer, three open it, any other of a response is a piece of it."""
    assert read_chunk(data({"type": kind, "sequence_number": 1})).meaning == meaning
    assert read_chunk(event({"sequence_number": 1}, name=kind)).meaning == meaning
    assert read_chunk(event({"type": kind}, name="message")).meaning == meaning


@pytest.mark.parametrize("response", [None, 3, "x", [], {}, {"id": 3, "usage": [], "error": "x"}, {"id": None}])
def test_a_terminal_event_ends_whatever_it_holds(response: Any) -> None:
    """An end is an end, whether its response can be read or not."""
    assert read_chunk(event({"type": "response.completed", "response": response})) == ChunkFacts(WHOLE, finished=(0,))
    failed = read_chunk(event({"type": "response.failed", "response": response}))
    assert failed.meaning == ERROR | DONE
    assert failed.error is not None


def test_what_a_terminal_event_says() -> None:
    """Usage and id of the answer are inside its response, and so is what went wrong."""
    usage = {"input_tokens": 3, "output_tokens": 1}
    response = {"id": "resp_1", "object": "response", "usage": usage, "error": {"code": "server_error", "message": "m"}}
    completed = read_chunk(event({"type": "response.completed", "response": response | {"error": None}}))
    assert completed == ChunkFacts(WHOLE | USAGE, usage, finished=(0,), id="resp_1")
    failed = read_chunk(event({"type": "response.failed", "response": response}))
    assert failed.meaning == ERROR | DONE | USAGE
    assert (failed.usage, failed.id, failed.finished) == (usage, "resp_1", ())
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("server_error", "m")
    created = read_chunk(event({"type": "response.created", "response": {"id": "resp_1", "usage": None}}))
    assert created == ChunkFacts(OTHER, id="resp_1")


def test_a_response_that_the_strict_decoder_refuses() -> None:
    """Half an emoji in the answer hides neither its usage nor its id."""
    response = b'{"id":"resp_1","output":["\\ud83d",NaN],"usage":{"input_tokens":3}}'
    raw = b'event: response.completed\ndata: {"type":"response.completed","response":' + response + b"}\n\n"
    assert read_chunk(raw) == ChunkFacts(WHOLE | USAGE, {"input_tokens": 3}, finished=(0,), id="resp_1")


@pytest.mark.parametrize(
    ("raw", "code", "message"),
    [
        (event({"type": "error", "code": "c", "message": "m", "param": None}), "c", "m"),
        (data({"type": "error", "code": "c", "message": "m"}), "c", "m"),
        (event({"type": "error", "error": {"code": "c", "message": "m"}}), "c", "m"),
        (data({"error": {"code": 429, "message": "m"}}), "429", "m"),
        (event({"code": "c", "message": "m"}, name="error"), "c", "m"),
        (b"event: error\ndata: x\n\n", "", "the upstream reported an error"),
        (b"event: error\n\n", "", "the upstream reported an error"),
    ],
)
def test_errors(raw: bytes, code: str, message: str) -> None:
    """An error ends the answer, in OpenAI's flat shape and in those of imitators."""
    facts = read_chunk(raw)
    assert facts.meaning == ERROR | DONE
    assert facts.error is not None
    assert (facts.error.code, facts.error.message) == (code, message)


@pytest.mark.parametrize(
    ("raw", "meaning"),
    [
        (b": ka\n", COMMENT),
        (b"event: response.completed\n\n", COMMENT),
        (b"data: [DONE]\n\n", DONE),
        (b"data:[DONE] \n\n", DONE),
        (b"data: \n\n", BAD),
        (b"data: []\n\n", BAD),
        (b'data: {"type":"response.completed"\n\n', BAD),
    ],
)
def test_events_without_an_object(raw: bytes, meaning: Meaning) -> None:
    """Comments are comments, garbage is bad, and an imitator's `[DONE]` is an end."""
    assert read_chunk(raw) == ChunkFacts(meaning)


DELTA = {"type": "response.output_text.delta", "sequence_number": 4, "item_id": "msg_1", "delta": 'a "type" b'}
PLAIN = event(DELTA)


@pytest.mark.parametrize(
    "raw",
    [
        PLAIN,
        event(dict(reversed(DELTA.items()))),
        PLAIN.replace(b":", b": ").replace(b"event:  ", b"event: ").replace(b"data:  ", b"data: "),
        event({"type": "response.function_call_arguments.delta", "delta": '{"error":{}}'}),
    ],
)
def test_plain_delta(raw: bytes) -> None:
    """An ordinary delta is recognised without decoding, wherever its type stands and whatever its text speaks of."""
    assert plain_delta(raw)
    assert read_chunk(raw) == ChunkFacts(CONTENT, output_deltas=1)


@pytest.mark.parametrize(
    "raw",
    [
        event({"type": "response.completed"}, name="response.output_text.delta"),
        event({"type": "response.output_text.delta"}, name="error"),
        event({"delta": "x"}, name="response.output_text.delta"),
        event({**DELTA, "delta": "type"}),
        event({**DELTA, "more": {"type": "response.output_text.delta"}}),
        event({"type": "response.output_text.done"}),
        data(DELTA),
        PLAIN[:-1] + b"event: error\n\n",
        PLAIN[:-1] + b"data: x\n\n",
        PLAIN.replace(b"\ndata", b"\nevent: error\ndata"),
        PLAIN[:-2] + b"\revent: error\n\n",
        PLAIN.replace(b"\n", b"\r\n"),
        PLAIN[:-1],
        PLAIN[:-3] + b"\n\n",
        PLAIN[:-2] + b"\rdata: }\n\n",
        PLAIN.replace(b"data: ", b"date: "),
        PLAIN + PLAIN,
        b"event: response.x.delta",
        b"event: response.x.delta\n",
        b"",
    ],
)
def test_what_is_not_plain(raw: bytes) -> None:
    """Whatever is anything but one delta is left to the thorough reading."""
    assert not plain_delta(raw)


KINDS = ["response.output_text.delta", "response.completed", "response.failed", "response.created", "error", "x"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["type", *KINDS]) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "type", "usage", "error"]), inner),
    max_leaves=8,
)
MEMBERS = ["response", "error", "code", "message", "delta", "usage", "id", "object", "status"]
ODD = st.fixed_dictionaries({}, optional={"type": st.sampled_from(KINDS) | VALUES, **dict.fromkeys(MEMBERS, VALUES)})


@given(ODD, st.sampled_from(["", *KINDS]), st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]))
def test_the_cheap_test_never_contradicts_the_thorough_one(
    said: dict[str, Any], name: str, separators: tuple[str, str]
) -> None:
    """No shape raises, and whatever the cheap test lets pass is a piece of the answer and nothing else."""
    raw = b"data: " + json.dumps(said, separators=separators).encode() + b"\n\n"
    raw = f"event: {name}\n".encode() + raw if name else raw
    facts = read_chunk(raw)
    if plain_delta(raw):
        assert facts == ChunkFacts(CONTENT, output_deltas=1)
    read_body(json.dumps(said).encode())


@given(st.binary(), st.sampled_from([b"", b"data: ", b"event: response.x.delta\ndata: {", b"event: error\n"]))
def test_no_bytes_raise(raw: bytes, prefix: bytes) -> None:
    """Any bytes are read or passed over."""
    plain_delta(prefix + raw)
    read_chunk(prefix + raw)
    read_body(raw)


def test_body() -> None:
    """A response's id and usage are read, and that it is still to come; a count of input tokens has none of them."""
    raw = (
        b'{"id":"resp_1","object":"response","status":"completed","error":null,"output":[],"usage":{"input_tokens":9}}'
    )
    assert read_body(raw) == BodyFacts(is_object=True, id="resp_1", usage={"input_tokens": 9})
    assert read_body(b'{"object":"response.input_tokens","input_tokens":11}') == BodyFacts(is_object=True)
    queued = b'{"id":"resp_1","object":"response","status":"queued","error":null,"usage":null}'
    assert read_body(queued) == BodyFacts(is_object=True, id="resp_1", pending=True)
    assert read_body(queued.replace(b"queued", b"in_progress")).pending
    assert not read_body(queued.replace(b"queued", b"cancelled")).pending
    assert not read_body(queued.replace(b'"queued"', b"[]")).pending
    for garbage in (b"", b"[]", b"null", b'{"id":', b"<html>"):
        assert read_body(garbage) == BodyFacts(is_object=False)


def test_an_error_in_a_success() -> None:
    """A response that failed is a failure, and so is an error alone; its usage is read all the same."""
    failed = b'{"id":"resp_1","object":"response","status":"failed","error":{"code":"server_error","message":"m"},%s}'
    facts = read_body(failed % b'"usage":{"input_tokens":9}')
    assert facts.error == ErrorFacts(code="server_error", message="m", conforming=True)
    assert (facts.id, facts.usage) == ("resp_1", {"input_tokens": 9})
    assert read_body(b'{"error":{"code":429,"message":"m"}}').error is not None
    assert read_body(b'{"object":"error","message":"m"}').error is not None
    assert read_body(failed.replace(b"failed", b"completed") % b'"output":[]').error is None


def test_nothing_is_written_at_the_end() -> None:
    """The terminal event is relayed as it came; a stream without one has not ended well."""
    assert RESPONSES.done == b""
    assert not RESPONSES.open_ended
