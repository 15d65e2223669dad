import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.schema import CodeStyle
from router.errors import TABLE, Kind, Problem, Refused, RequestError, UpstreamError
from router.protocol.envelope import Dialect, event, headers, mask, passes, render, wrap_upstream
from router.protocol.facts import ErrorFacts, Meaning
from router.protocol.openai import read_chunk
from router.protocol.upstream_errors import read_error

ID = "req_0123456789"
UNKNOWN = RequestError(Kind.MODEL_NOT_FOUND, "model 'gpt-x' not found", param="model")
LIMITED = Refused(Kind.REQUESTS_PER_MINUTE, "The limit of 60 requests per minute is reached.", retry_after_s=6.4)


def lines(raw: bytes) -> list[str]:
    assert raw.endswith(b"\r\n")
    return raw.decode().removesuffix("\r\n").split("\r\n")


def test_unknown_model_to_the_byte() -> None:
    """The reseller contract's example has its three members, its numeric code, and its text without any addition."""
    assert render(UNKNOWN, ID) == (
        b'{"error":{"message":"model \'gpt-x\' not found","type":"not_found","param":"model","code":404,'
        b'"reason":"model_not_found"},"request_id":"req_0123456789"}'
    )


def test_string_style_to_the_byte() -> None:
    """With string codes, `code` and `type` are OpenAI's words, and the message ends with the request id."""
    assert render(LIMITED, ID, style=CodeStyle.STRING) == (
        b'{"error":{"message":"The limit of 60 requests per minute is reached. (request id: req_0123456789)",'
        b'"type":"requests","param":null,"code":"rate_limit_exceeded","reason":"requests_per_minute"},'
        b'"request_id":"req_0123456789"}'
    )


def test_anthropic_to_the_byte() -> None:
    """On Anthropic routes the envelope is Anthropic's, with our members beside its own."""
    assert render(UNKNOWN, ID, Dialect.ANTHROPIC) == (
        b'{"type":"error","error":{"type":"not_found_error","message":"model \'gpt-x\' not found","param":"model",'
        b'"code":404,"details":{"error_code":"model_not_found"}},"request_id":"req_0123456789"}'
    )


@pytest.mark.parametrize("style", CodeStyle)
@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("kind", Kind)
def test_every_kind_renders(kind: Kind, dialect: Dialect, style: CodeStyle) -> None:
    """Every problem has a body and an event in each dialect and style, with the names of the table."""
    row = TABLE[kind]
    problem = Problem(kind, "It failed.")
    body = json.loads(render(problem, ID, dialect, style))
    assert body["request_id"] == ID
    error = body["error"]
    assert error["message"].startswith("It failed.")
    assert (ID in error["message"]) is (kind is not Kind.MODEL_NOT_FOUND)
    assert error["param"] is None
    assert error["code"] == (row.status if style is CodeStyle.NUMBER else row.openai_code)
    if dialect is Dialect.ANTHROPIC:
        assert (body["type"], error["type"], error["details"]) == (
            "error",
            row.anthropic_type,
            {"error_code": kind.value},
        )
    else:
        assert error["type"] == (row.type if style is CodeStyle.NUMBER else row.openai_type)
        assert error["reason"] == kind.value
    said = event(problem, ID, dialect, style)
    if dialect is Dialect.RESPONSES:
        assert json.loads(said.partition(b"data: ")[2])["code"] == kind.value
    else:
        assert said.endswith(b"data: " + render(problem, ID, dialect, style) + b"\n\n")
    assert b"content-type: application/json\r\n" in headers(problem, ID, dialect)


def test_our_event_is_an_error_to_everyone() -> None:
    """The event that ends a failed stream is a bare data event for OpenAI's SDKs and a named one for Anthropic's."""
    cut = UpstreamError(Kind.UPSTREAM_TRUNCATED, "The upstream's stream broke off.")
    ours = event(cut, ID)
    assert ours.startswith(b'data: {"error":{"message":"The upstream\'s stream broke off. (request id: ')
    assert read_chunk(ours).meaning == Meaning.ERROR
    assert b'"code":502' in ours
    assert event(cut, ID, Dialect.ANTHROPIC).startswith(b'event: error\ndata: {"type":"error","error":{')


@given(st.text(), st.none() | st.text())
def test_any_text_makes_one_line_of_json(text: str, param: str | None) -> None:
    """Whatever a client wrote into a model name, the body is valid UTF-8 JSON and the event has one data line."""
    problem = RequestError(Kind.INVALID_TYPE, text, param=param)
    assert json.loads(render(problem, ID))["error"]["param"] == param
    assert event(problem, ID).splitlines() == [b"data: " + render(problem, ID), b""]


def test_half_a_surrogate_pair_is_spelt_out() -> None:
    """JSON lets a client smuggle text that UTF-8 cannot hold: it is answered all the same."""
    problem = RequestError(Kind.MODEL_NOT_FOUND, "model '\ud800' not found", param="\udfff")
    error = json.loads(render(problem, ID))["error"]
    assert (error["message"], error["param"]) == (r"model '\ud800' not found", r"\udfff")


@pytest.mark.parametrize(
    ("wait_s", "expected"),
    [
        (6.4, ["retry-after: 7", "retry-after-ms: 6400"]),
        (0.0, ["retry-after: 1", "retry-after-ms: 1000"]),
        (-5.0, ["retry-after: 1", "retry-after-ms: 1000"]),
        (3600.0, ["retry-after: 60", "retry-after-ms: 60000"]),
        (math.inf, ["retry-after: 60", "retry-after-ms: 60000"]),
        (math.nan, ["retry-after: 1", "retry-after-ms: 1000"]),
        (None, []),
    ],
)
def test_retry_after(wait_s: float | None, expected: list[str]) -> None:
    """A wait goes out as whole seconds and milliseconds, from 1 to 60 s, which every SDK obeys."""
    sent = lines(headers(Refused(Kind.OVERLOADED, "x", retry_after_s=wait_s), ID))
    assert [line for line in sent if line.startswith("retry-after")] == expected


@pytest.mark.parametrize(
    ("problem", "extra"),
    [
        (UNKNOWN, []),
        (RequestError(Kind.MISSING_KEY, "x"), ["www-authenticate: Bearer"]),
        (RequestError(Kind.INVALID_KEY, "x"), ["www-authenticate: Bearer"]),
        (RequestError(Kind.METHOD_NOT_ALLOWED, "x"), ["allow: POST"]),
        (RequestError(Kind.MALFORMED_HTTP, "x", close=True), ["connection: close"]),
        (Refused(Kind.TOKENS_PER_MINUTE, "x", should_retry=False), ["x-should-retry: false"]),
        (Refused(Kind.OVERLOADED, "x", should_retry=True), ["x-should-retry: true"]),
    ],
)
def test_headers(problem: Problem, extra: list[str]) -> None:
    """An error answer says its type and id, and what the table asks for its kind, and nothing else."""
    assert lines(headers(problem, ID)) == ["content-type: application/json", f"x-request-id: {ID}", *extra]
    assert lines(headers(problem, ID, Dialect.ANTHROPIC))[1:3] == [f"x-request-id: {ID}", f"request-id: {ID}"]


def test_allow_names_the_methods_of_the_path() -> None:
    """A path that takes other methods says so."""
    assert b"allow: GET, HEAD\r\n" in headers(RequestError(Kind.METHOD_NOT_ALLOWED, "x"), ID, allow="GET, HEAD")


CONFORMING = ErrorFacts("c", "t", "m", conforming=True)


@pytest.mark.parametrize("status", [400, 404, 408, 409, 413, 415, 422, 500, 502, 503, 504, 529])
def test_what_passes(status: int) -> None:
    """The client's own faults and failures of the upstream pass in a shape clients read, and in no other."""
    assert passes(status, CONFORMING)
    assert not passes(status, ErrorFacts("c", "t", "m", conforming=False))


@pytest.mark.parametrize("status", [302, 401, 402, 403, 407, 418, 429])
def test_what_never_passes(status: int) -> None:
    """What speaks of the operator's account, or of nothing the client asked, does not pass."""
    assert not passes(status, CONFORMING)


def test_what_passes_by_its_words() -> None:
    """A 403 passes if it is about content; a 404 does not if it denies our model."""
    assert passes(403, ErrorFacts("content_policy_violation", "", "m", conforming=True))
    assert passes(403, ErrorFacts("403", "", "Your input was flagged", conforming=True))
    assert not passes(403, ErrorFacts("403", "", "Project has no access", conforming=True))
    assert not passes(404, ErrorFacts("model_not_found", "", "m", conforming=True))


def wrapped(status: int, body: bytes, **more: Any) -> dict[str, Any]:
    facts = read_error(status, "", body)
    value: dict[str, Any] = json.loads(wrap_upstream(status, facts, body, ID, **more))
    return value


def test_wrapped_to_the_byte() -> None:
    """An upstream's odd error comes in our envelope, with its own status and the original as text."""
    body = b'{"detail":"Unprocessable"}'
    assert wrap_upstream(422, read_error(422, "", body), body, ID) == (
        b'{"error":{"message":"Unprocessable (request id: req_0123456789)","type":"invalid_request","param":null,'
        b'"code":422,"reason":"upstream_error","upstream":"{\\"detail\\":\\"Unprocessable\\"}"},'
        b'"request_id":"req_0123456789"}'
    )


@pytest.mark.parametrize(
    ("status", "fault", "openai_fault"),
    [
        (400, "invalid_request", "invalid_request_error"),
        (404, "not_found", "invalid_request_error"),
        (409, "invalid_request", "invalid_request_error"),
        (500, "internal_error", "server_error"),
        (503, "unavailable", "server_error"),
        (529, "bad_gateway", "server_error"),
    ],
)
def test_wrapped_types(status: int, fault: str, openai_fault: str) -> None:
    """A wrapped error has a type that fits its status, in both styles."""
    plain = wrapped(status, b"oops")["error"]
    assert (plain["type"], plain["code"], plain["reason"]) == (fault, status, "upstream_error")
    styled = wrapped(status, b"oops", style=CodeStyle.STRING)["error"]
    assert (styled["type"], styled["code"], styled["reason"]) == (openai_fault, "upstream_error", "upstream_error")


def test_wrapped_bodies_are_bounded() -> None:
    """At most 8 KiB of the original are quoted, cut between characters."""
    quoted = wrapped(500, "é".encode() * 10_000 + b"tail")["error"]["upstream"]
    assert quoted == "é" * 4096
    assert wrapped(500, b"x" + "é".encode() * 10_000)["error"]["upstream"] == "x" + "é" * 4095
    assert len(wrapped(500, b"\xff" * 10_000)["error"]["upstream"].encode()) <= 8192


def test_wrapped_credentials_are_masked() -> None:
    """Our credential shows neither in the message nor in the quoted original, nor half of it at the cut."""
    secret = "abcdEFGH" * 8
    error = wrapped(500, b'{"detail":"bad key %b"}' % secret.encode(), secrets=[secret])["error"]
    assert error["message"] == f"bad key *** (request id: {ID})"
    assert error["upstream"] == '{"detail":"bad key ***"}'
    cut = wrapped(500, b"-" * 8180 + secret.encode(), secrets=[secret])["error"]["upstream"]
    assert cut == "-" * 8180 + "***"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (
            "Incorrect API key provided: sk-proj-ab_CD12***wxyz. See the docs.",
            "Incorrect API key provided: ***. See the docs.",
        ),
        ("key sk-ant-api03-Ab12-x, sk-or-v1-0f0f", "key ***, ***"),
        ("in organization org-AbC123dEf456 on tokens", "in organization *** on tokens"),
        ("project proj_abcdefgh1", "project ***"),
        ("gsk_0123456789 AIzaSyA0123456789 xai-0123456789 hf_0123456789", "*** *** *** ***"),
        ("my-own-credential-1 and my-own-credential", "*** and ***"),
        ("a risk-free task-list, org-structure, disk-space", "a risk-free task-list, org-structure, disk-space"),
        ("an x stays", "an x stays"),
    ],
)
def test_mask(text: str, masked: str) -> None:
    """Our credentials and whatever looks like a token or an organisation's id are masked, and ordinary words stay."""
    assert mask(text, ["x", "", "my-own-credential", "my-own-credential-1"]) == masked


def test_an_error_in_a_responses_stream_takes_the_next_number() -> None:
    """Its fields stand flat, and its sequence number follows that of the event before it."""
    cut = UpstreamError(Kind.UPSTREAM_TRUNCATED, "It broke off.")
    before = b'event: x\ndata: {"type":"x","sequence_number":41}\n\n'
    name, _, data = event(cut, ID, Dialect.RESPONSES, after=before).partition(b"\ndata: ")
    assert name == b"event: error"
    assert json.loads(data) == {
        "type": "error",
        "code": "upstream_truncated",
        "message": f"It broke off. (request id: {ID})",
        "param": None,
        "sequence_number": 42,
    }
    assert json.loads(event(cut, ID, Dialect.RESPONSES).partition(b"data: ")[2])["sequence_number"] == 0


@pytest.mark.parametrize(
    ("body", "passing"),
    [
        (b'{"type":"error","error":{"type":"invalid_request_error","message":"No."}}', True),
        (b'{"error":{"type":"invalid_request_error","message":"No."}}', False),
    ],
)
def test_an_anthropic_client_gets_only_its_own_envelope(body: bytes, passing: bool) -> None:
    """An upstream's error in OpenAI's shape would show as "Not Found" there; the other way round it is readable."""
    facts = read_error(400, "application/json", body)
    assert passes(400, facts, Dialect.ANTHROPIC) is passing
    assert passes(400, facts, Dialect.OPENAI)
    wrapped = json.loads(wrap_upstream(400, facts, body, ID, dialect=Dialect.ANTHROPIC))
    assert wrapped["type"] == "error"
    assert wrapped["error"]["type"] == "invalid_request_error"
    assert wrapped["error"]["message"] == f"No. (request id: {ID})"
    assert wrapped["request_id"] == ID


def test_errors_that_the_operator_exposes_pass_whatever_they_say() -> None:
    """With `expose_errors` a 429 reaches the client as it came; without, its text could name the operator's account."""
    facts = read_error(429, "application/json", b'{"error":{"message":"org limit"}}')
    assert not passes(429, facts)
    assert passes(429, facts, exposed=True)
