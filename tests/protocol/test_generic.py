import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.events import Usage
from router.protocol.facts import BodyFacts, ChunkFacts, ErrorFacts, Meaning
from router.protocol.generic import JSON, plain_event, read_body, read_chunk

CONTENT, USAGE, ERROR = Meaning.CONTENT, Meaning.USAGE, Meaning.ERROR
DONE, COMMENT = Meaning.DONE, Meaning.COMMENT
USED = {"input_tokens": 3, "output_tokens": 1}


def data(said: Any) -> bytes:
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("raw", "meaning"),
    [
        (data({"anything": 1}), CONTENT),
        (data([1, 2]), CONTENT),
        (b"data: plain text\n\n", CONTENT),
        (b"event: note\ndata: {half\n\n", CONTENT),
        (data({"error": None, "x": 1}), CONTENT),
        (b": ka\n", COMMENT),
        (b"data: \n\n", COMMENT),
        (b"event: note\n\n", COMMENT),
        (b"data: [DONE] \n\n", DONE),
        (data({"error": {"message": "m"}}), ERROR),
        (data({"error": "m"}), ERROR),
        (data({"object": "error", "message": "m"}), ERROR),
        (data({"type": "error", "message": "m"}), ERROR),
        (b"event: error\n" + data({"message": "m"}), ERROR),
        (b"event: error\ndata: x\n\n", ERROR),
    ],
)
def test_events(raw: bytes, meaning: Meaning) -> None:
    """Whatever has data is content, unless it is an error or the end."""
    facts = read_chunk(raw)
    assert facts.meaning == meaning
    assert facts.output_deltas == int(meaning == CONTENT)
    assert (facts.error is not None) == (meaning == ERROR)


@pytest.mark.parametrize("said", [{"usage": USED}, {"response": {"usage": USED}}, {"x_groq": {"usage": USED}}])
def test_places_of_usage(said: dict[str, Any]) -> None:
    """Usage is found in each of its three places, and elsewhere it is none of ours."""
    assert read_chunk(data(said)) == ChunkFacts(CONTENT | USAGE, USED, output_deltas=1)
    assert read_chunk(data({"inner": said})).usage is None
    assert read_chunk(data({"usage": 3, "response": [], "x_groq": "x"})).usage is None
    assert JSON.account(USED) == Usage(input=3, output=1)


PLAIN = data({"text": 'of "usage" and "error"'})


def test_plain_event() -> None:
    """An ordinary event is recognised without decoding, whatever its text speaks of."""
    assert plain_event(PLAIN)
    assert plain_event(PLAIN.replace(b"\n", b"\r\n"))


@pytest.mark.parametrize(
    "raw",
    [
        data({"usage": USED}),
        data({"object": "error"}),
        data({"error": "x"}),
        b"event: error\n" + PLAIN,
        PLAIN[:-1] + b"event: error\n\n",
        PLAIN[:-2] + b"\revent: error\n\n",
        b"data: [DONE]\n\n",
        b": x\n\n",
        PLAIN + PLAIN,
        b"",
    ],
)
def test_what_is_not_plain(raw: bytes) -> None:
    """Whatever may end, fail or carry usage is left to the thorough reading."""
    assert not plain_event(raw)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["error", "x"]) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["usage", "error", "message", "tokens"]), inner),
    max_leaves=8,
)
MEMBERS = ["id", "object", "type", "usage", "error", "response", "x_groq", "meta", "data", "results"]
ODD = st.fixed_dictionaries({}, optional=dict.fromkeys(MEMBERS, VALUES))


@given(ODD | VALUES, st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]))
def test_the_cheap_test_never_contradicts_the_thorough_one(said: Any, separators: tuple[str, str]) -> None:
    """No shape raises, and whatever the cheap test lets pass is content and nothing else."""
    raw = json.dumps(said, separators=separators).encode()
    event = b"data: " + raw + b"\n\n"
    facts = read_chunk(event)
    assert not plain_event(event) or facts == ChunkFacts(CONTENT, output_deltas=1)
    assert read_body(raw).is_object


@given(st.binary(), st.sampled_from([b"", b"data: {", b"event: error\n", b'{"a":']))
def test_no_bytes_raise(raw: bytes, prefix: bytes) -> None:
    """Any bytes are read or passed over."""
    plain_event(prefix + raw)
    read_chunk(prefix + raw)
    read_body(prefix + raw)


@pytest.mark.parametrize(
    ("raw", "facts", "record"),
    [
        (
            b'{"object":"list","data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":3,"total_tokens":3}}',
            BodyFacts(is_object=True, usage={"prompt_tokens": 3, "total_tokens": 3}),
            Usage(input=3),
        ),
        (
            b'{"model":"m","results":[{"index":0,"relevance_score":0.5}],"usage":{"total_tokens":7}}',
            BodyFacts(is_object=True, usage={"total_tokens": 7}),
            None,
        ),
        (
            b'{"id":"r","results":[],"meta":{"billed_units":{"search_units":1},"tokens":{"input_tokens":5}}}',
            BodyFacts(
                is_object=True,
                id="r",
                usage={"meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 5}}},
            ),
            Usage(input=5, searches=1),
        ),
        (
            b'{"results":[],"usage":{"prompt_tokens":4,"total_tokens":4},"meta":{"billed_units":{"search_units":2}}}',
            BodyFacts(
                is_object=True,
                usage={
                    "usage": {"prompt_tokens": 4, "total_tokens": 4},
                    "meta": {"billed_units": {"search_units": 2}},
                },
            ),
            Usage(input=4, searches=2),
        ),
        (b'{"x_groq":{"usage":{"prompt_tokens":4}}}', BodyFacts(True, "", {"prompt_tokens": 4}), None),
        (b'{"id":"modr-1","results":[{"flagged":false}]}', BodyFacts(is_object=True, id="modr-1"), None),
        (b'[{"index":0,"score":0.9}]', BodyFacts(is_object=True), None),
        (b'\n {"id":"\\ud83d"}', BodyFacts(is_object=True, id="\ud83d"), None),
        (b'"text"', BodyFacts(is_object=True), None),
        (b"null", BodyFacts(is_object=True), None),
        (b"[]", BodyFacts(is_object=True), None),
        (b"", BodyFacts(is_object=False), None),
        (b"[1,", BodyFacts(is_object=False), None),
        (b"<html>", BodyFacts(is_object=False), None),
        (b"[" * 100_000, BodyFacts(is_object=False), None),
    ],
)
def test_bodies(raw: bytes, facts: BodyFacts, record: Usage | None) -> None:
    """Any JSON value is an answer, a bare list of ranks as well; usage is read from `usage` and Cohere's `meta`."""
    assert read_body(raw) == facts
    if record is not None:
        assert facts.usage is not None
        assert JSON.account(facts.usage) == record


def test_an_error_in_a_success() -> None:
    """A 200 with an error and no answer is a failure, wrapped in a list as well."""
    assert read_body(b'{"error":{"message":"m","code":429}}').error == ErrorFacts("429", "", "m", conforming=True)
    assert read_body(b'[{"error":{"message":"m","status":"UNAVAILABLE"}}]').error == ErrorFacts("", "UNAVAILABLE", "m")
    assert read_body(b'{"object":"error","message":"m"}').error is not None
    assert read_body(b'{"id":"x","error":{"message":"m"}}').error is not None
    for answered in (b'"data":[{}]', b'"results":[{}]', b'"choices":[{}]', b'"id":"video_1","object":"video"'):
        assert read_body(b'{"error":{"message":"m"},' + answered + b"}").error is None


def test_the_end_of_the_body_is_the_end() -> None:
    """Nobody knows how such a stream ends: a clean end of the body is taken for it, and nothing is added."""
    assert JSON.open_ended
    assert JSON.done == b""
