import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.facts import ErrorFacts
from router.protocol.upstream_errors import MESSAGE_CHARS_MAX, error_of, failure_in, phrase, read_error


@pytest.mark.parametrize(
    ("raw", "facts"),
    [
        (b'{"error":{"message":"m","type":"t","param":null,"code":"c"}}', ErrorFacts("c", "t", "m", conforming=True)),
        (
            b'{"type":"error","error":{"type":"t","message":"m"}}',
            ErrorFacts("", "t", "m", conforming=True, anthropic=True),
        ),
        (b'{"error":{"message":"m","code":400}}', ErrorFacts("400", "", "m", conforming=True)),
        (b'{"error":{}}', ErrorFacts("", "", "Bad Request", conforming=True)),
        (b'{"error":"m","code":"c"}', ErrorFacts("c", "", "m")),
        (b'{"object":"error","message":"m","type":"t","code":1}', ErrorFacts("1", "t", "m")),
        (b'{"detail":"m"}', ErrorFacts("", "", "m")),
        (
            b'{"detail":[{"loc":["body","messages"],"msg":"Field required","type":"missing"},{"msg":"n"}]}',
            ErrorFacts("", "", "body.messages: Field required; n"),
        ),
        (b'{"detail":{"error":{"message":"m"}}}', ErrorFacts("", "", "m")),
        (
            b'[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]',
            ErrorFacts("429", "RESOURCE_EXHAUSTED", "m"),
        ),
        (b"<html><h1>502</h1></html>", ErrorFacts("", "", "Bad Request")),
        (b"upstream connect error", ErrorFacts("", "", "Bad Request")),
        (b"", ErrorFacts("", "", "Bad Request")),
        (b"[]", ErrorFacts("", "", "Bad Request")),
        (b'{"error":{"message":"caf\xe9"}}', ErrorFacts("", "", "caf\N{REPLACEMENT CHARACTER}")),
        (b'{"error":{"message":"m","code":true,"type":[]}}', ErrorFacts("", "", "m", conforming=True)),
    ],
)
def test_error_shapes(raw: bytes, facts: ErrorFacts) -> None:
    """Every shape of PROTOCOL 7.3 is understood; only valid JSON with an object `error` conforms."""
    assert read_error(400, "application/json; charset=utf-8", raw) == facts


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (b"", (b'{"error":', b"}")),
        (b'{"detail":', (b'{"error":', b"}")),
        (b'{"detail":[{"msg":"m","loc":[', (b"[", b"]")),
        (b'{"message":', (b"[", b"]")),
        (b"", (b"[", b"]")),
    ],
)
def test_deep_errors(outer: bytes, inner: tuple[bytes, bytes]) -> None:
    """However deep an error is nested, up to the decoder's limit and beyond, reading it does not raise."""
    closed = outer[::-1].translate(bytes.maketrans(b"{[", b"}]"), delete=b'"abcdefghijklmnopqrstuvwxyz:,')
    for depth in (5, 500, *range(850, 1000), 100_000):
        read_error(500, "", outer + inner[0] * depth + b'"m"' + inner[1] * depth + closed)


def test_error_as_event_stream() -> None:
    """An error that comes as an event is understood, but its bytes are no body for a client."""
    facts = read_error(503, "text/event-stream; charset=utf-8", b'data: {"error":{"message":"m","code":"c"}}\n\n')
    assert facts == ErrorFacts("c", "", "m", conforming=False)


def test_error_without_words() -> None:
    """An upstream that says nothing is quoted with its status, also with one that has no phrase."""
    assert read_error(529, "", b"").message == "HTTP status 529"
    assert read_error(503, "", b"").message == "Service Unavailable"


def test_long_error_messages_are_cut() -> None:
    """A message has a bound, and so have the words beside it."""
    facts = read_error(500, "", json.dumps({"error": {"message": "x" * 10**5, "type": "y" * 10**5}}).encode())
    assert (len(facts.message), len(facts.type)) == (MESSAGE_CHARS_MAX, 128)


def test_the_reported_error_has_a_message() -> None:
    """Whatever was decoded, there are words for it; without a status, words for that."""
    answers: tuple[Any, ...] = (None, [], {}, "x", 7, [None], {"error": {}}, {"error": {"message": 3}})
    for answer in answers:
        assert error_of(answer).message == phrase(0)
        assert error_of(answer, 502).message == "Bad Gateway"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"error": {"message": "m"}}, "m"),
        ({"error": "m", "choices": []}, "m"),
        ({"object": "error", "message": "m"}, "m"),
        ({"type": "error", "error": {"message": "m"}}, "m"),
        ({"error": {"message": "m"}, "choices": [{}]}, None),
        ({"error": {"message": "m"}, "data": [{}]}, "m"),
        ({"error": None, "message": "m"}, None),
        ({"error": {}}, None),
        ({}, None),
    ],
)
def test_a_failure_that_came_as_a_success(answer: dict[str, Any], message: str | None) -> None:
    """An error is a failure unless the answer stands beside it, in the members that the dialect answers with."""
    failure = failure_in(answer, ("choices",))
    assert (failure.message if failure else None) == message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["error", "code", "message"]), inner),
    max_leaves=12,
)
ODD = st.fixed_dictionaries({}, optional=dict.fromkeys(["error", "object", "type", "code", "detail", "message"], JSON))


@given(ODD | JSON)
def test_no_shape_raises(value: Any) -> None:
    """Members of any type in any place are read or passed over."""
    raw = json.dumps(value).encode()
    read_error(500, "application/json", raw)
    read_error(500, "text/event-stream", b"data: " + raw + b"\n\n")
    if isinstance(value, dict):
        failure_in(value, ("data",))


@given(st.binary(), st.text(), st.integers())
def test_no_bytes_raise(raw: bytes, content_type: str, status: int) -> None:
    """Any bytes under any type and status are read or passed over."""
    assert read_error(status, content_type, raw).message
