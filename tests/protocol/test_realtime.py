"""What handshakes and frames of WebSockets mean (PROTOCOL 2.2, 2.7, 7.1)."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import TABLE, Kind, Problem, Refused, RequestError, UpstreamError
from router.protocol import realtime
from router.protocol.realtime import ServerFrame

ID = "req_1"
SPEECHES = [realtime.REALTIME_SPEECH, realtime.RESPONSES_SPEECH]
USAGE = {"total_tokens": 30, "input_tokens": 20, "output_tokens": 10}


def kind_of(raised: pytest.ExceptionInfo[RequestError]) -> tuple[Kind, str | None]:
    return raised.value.kind, raised.value.param


# subprotocols


def test_a_browsers_offer_is_taken_apart() -> None:
    """The key is found, `realtime` may be selected, and only it and betas go up."""
    lines = [b"realtime, openai-insecure-api-key.sk-1,openai-beta.realtime-v1", b"openai-organization.o, x, realtime"]
    offer = realtime.read_offer(lines)
    assert offer == (b"sk-1", True, ("realtime", "openai-beta.realtime-v1"))


def test_an_offer_may_be_empty() -> None:
    """Most clients offer nothing."""
    assert realtime.read_offer([]) == (None, False, ())
    assert realtime.read_offer([b"graphql-ws"]) == (None, False, ())
    assert realtime.read_offer([b"openai-insecure-api-key."]) == (None, False, ())


@pytest.mark.parametrize(
    "line", [b"", b"a,,b", b"a b", b"\xff", b"openai-insecure-api-key.a, openai-insecure-api-key.b"]
)
def test_an_offer_that_can_be_read_in_two_ways_is_refused(line: bytes) -> None:
    """What is no list of tokens, and two different keys, are malformed; the text quotes none of it."""
    with pytest.raises(RequestError) as raised:
        realtime.read_offer([line])
    assert raised.value.kind is Kind.MALFORMED_HTTP
    assert "api-key" not in raised.value.message


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_no_offer_breaks_anything(lines: list[bytes]) -> None:
    """Whatever bytes come as subprotocols, they are read or refused."""
    with contextlib.suppress(RequestError):
        offer = realtime.read_offer(lines)
        assert all(not token.startswith("openai-insecure") for token in offer.passing)


# the query


@pytest.mark.parametrize(
    ("query", "model"),
    [
        (b"", ""),
        (b"intent=transcription", ""),
        (b"model=gpt-realtime", "gpt-realtime"),
        (b"x=1&m%6Fdel=org%2Fa+b%C3%BC&y", "org/a b\u00fc"),
        (b"&&model=a&", "a"),
        (b"\xff=1&model=%FF", "\ufffd"),
    ],
)
def test_the_query_names_the_model(query: bytes, model: str) -> None:
    """The name is found however it is escaped; without one there is none."""
    assert realtime.read_query(query) == (model, "")


def test_the_query_may_name_a_call() -> None:
    """A call that began here is joined by its id, with or without a model beside it."""
    assert realtime.read_query(b"call_id=rtc_1") == ("", "rtc_1")
    assert realtime.read_query(b"model=a&call%5Fid=rtc_1") == ("a", "rtc_1")


@pytest.mark.parametrize(
    ("query", "kind", "param"),
    [
        (b"model=a&model=a", Kind.DUPLICATE_PARAMETER, "model"),
        (b"model=a&mode%6C=b", Kind.DUPLICATE_PARAMETER, "model"),
        (b"MODEL=a", Kind.DUPLICATE_PARAMETER, "model"),
        (b"model", Kind.INVALID_TYPE, "model"),
        (b"model=", Kind.INVALID_TYPE, "model"),
        (b"model=" + b"x" * 513, Kind.INVALID_TYPE, "model"),
        (b"call_id=a&call_id=a", Kind.DUPLICATE_PARAMETER, "call_id"),
        (b"model=a&Call_id=", Kind.DUPLICATE_PARAMETER, "call_id"),
    ],
)
def test_a_query_that_names_it_wrongly_is_refused(query: bytes, kind: Kind, param: str) -> None:
    """Two models or calls, another spelling, and no name are errors that name the parameter."""
    with pytest.raises(RequestError) as raised:
        realtime.read_query(query)
    assert kind_of(raised) == (kind, param)


def test_only_the_models_value_is_replaced() -> None:
    """Everything else in the query goes on byte for byte, and an equal name is left as it was written."""
    query = b"a=%2f&m%6Fdel=x%20y&&b"
    assert realtime.with_model(query, "x y") == query
    assert realtime.with_model(query, "org/z") == b"a=%2f&model=org%2Fz&&b"
    assert realtime.with_model(b"intent=transcription", "z") == b"intent=transcription"
    assert realtime.with_model(b"", "z") == b""


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=512))
def test_any_name_comes_out_of_the_query_as_it_went_in(model: str) -> None:
    """What is written into the query is what an upstream reads there."""
    assert realtime.read_query(realtime.with_model(b"a=1&model=old&b=2", model)) == (model, "")


# frames of the client


def test_a_frame_says_what_it_is_about() -> None:
    """Model, earlier response, lane, and whether it asks for an answer."""
    frame = realtime.read_client_frame(
        b'{"type":"response.create","stream_id":"s","previous_response_id":"resp_1","model":"m"}'
    )
    assert (frame.begins, frame.stream_id, frame.ask.model, frame.ask.named_id) == (True, "s", "m", "resp_1")
    other = realtime.read_client_frame(b'{"type":"response.steer","stream_id":1,"input":"x"}')
    assert (other.begins, other.stream_id, other.ask.model) == (False, "", "")


def test_a_frame_with_half_a_surrogate_pair_is_read_like_any() -> None:
    """Where text was cut in an emoji, the frame still says what it is."""
    frame = realtime.read_client_frame(b'{"type":"response.create","model":"m","input":"\\ud83d"}')
    assert (frame.begins, frame.ask.model) == (True, "m")


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b"", Kind.INVALID_JSON),
        (b"[]", Kind.INVALID_JSON),
        (b'{"a":NaN}', Kind.INVALID_JSON),
        (b"{" * 100_000, Kind.INVALID_JSON),
        (b'{"model":"a","model":"b"}', Kind.DUPLICATE_PARAMETER),
        (b'{"model":"a","mo\\u0064el":"b"}', Kind.DUPLICATE_PARAMETER),
        (b'{"model":1}', Kind.INVALID_TYPE),
    ],
)
def test_a_frame_that_could_be_read_in_two_ways_is_refused(frame: bytes, kind: Kind) -> None:
    """No frame smuggles a model past the router."""
    with pytest.raises(RequestError) as raised:
        realtime.read_client_frame(frame)
    assert raised.value.kind is kind


def test_only_the_model_of_a_frame_is_replaced() -> None:
    """The rest goes on byte for byte; a frame that named none gets the one that serves it."""
    frame = b'{ "type":"response.create","temperature":1.10, "model" : "m" ,"input":"\\u00e9"}'
    ask = realtime.read_client_frame(frame).ask
    assert realtime.with_frame_model(frame, ask, "org/m") == frame.replace(b'"m"', b'"org/m"')
    assert realtime.with_frame_model(frame, ask, "m") == frame
    plain = b'{"type":"response.create"}'
    named = realtime.with_frame_model(plain, realtime.read_client_frame(plain).ask, "org/m")
    assert named == b'{"model":"org/m","type":"response.create"}'


@given(st.binary(max_size=60))
def test_no_frame_of_a_client_breaks_anything(frame: bytes) -> None:
    """Whatever a client sends is read, or refused with an error that says why."""
    with contextlib.suppress(RequestError):
        assert realtime.read_client_frame(frame).ask.model == "" or b"model" in frame


# frames of the upstream


def encoded(event: Any) -> bytes:
    return json.dumps(event).encode()


def test_realtime_frames_that_matter_are_understood() -> None:
    """Answers begin and end, usage is that of `response.done` and of transcriptions, errors are seen."""
    read = realtime.read_realtime
    assert read(encoded({"type": "response.created", "response": {"id": "resp_1"}})) == ServerFrame(begins=True)
    done = read(encoded({"type": "response.done", "response": {"usage": USAGE}}))
    assert (done.ends, done.usage is not None and done.usage.total) == (True, 30)
    transcription = {"type": "conversation.item.input_audio_transcription.completed"}
    seconds = read(encoded(transcription | {"usage": {"type": "duration", "seconds": 2.5}}))
    assert (seconds.ends, seconds.usage is not None and seconds.usage.seconds) == (False, 2.5)
    assert read(encoded({"type": "error", "error": {}})) == ServerFrame(failed=True)
    assert read(encoded({"type": "response.done", "response": {"status": "cancelled"}})) == ServerFrame(ends=True)


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
def test_responses_frames_that_matter_are_understood(kind: str) -> None:
    """Every terminal frame ends an answer and has its usage and id."""
    read = realtime.read_responses
    frame = read(encoded({"type": kind, "response": {"id": "resp_1", "usage": USAGE}}))
    assert (frame.ends, frame.id, frame.usage is not None and frame.usage.total) == (True, "resp_1", 30)
    assert read(encoded({"type": "response.created", "response": {"id": "r"}})) == ServerFrame(begins=True, id="r")
    assert read(encoded({"type": "error", "status": 400})) == ServerFrame(failed=True)


@pytest.mark.parametrize("speech", SPEECHES, ids=lambda speech: speech.endpoint)
@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.output_text.delta", "delta": '"response.done" "response.completed" "error"'},
        {"type": "response.output_text.delta", "delta": "error"},
        {"type": "x", "item": {"type": "error"}, "usage": USAGE},
        {"type": ["response.done"], "response": {"usage": USAGE}},
        ["response.done"],
        {"type": "response.output_audio.delta", "delta": "UklGRg" * 1000},
    ],
)
def test_text_is_never_taken_for_an_event(speech: realtime.Speech, event: Any) -> None:
    """Words in a text, and types that stand elsewhere than at the top, mean nothing."""
    assert speech.read(encoded(event)) == realtime.OTHER


_VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["response.done", "response.completed", "error"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "response", "usage", "id", "total_tokens"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(_VALUES.map(encoded) | st.binary(max_size=40) | st.binary(max_size=20).map(b'{"type":"error"'.__add__))
def test_no_frame_of_an_upstream_breaks_anything(frame: bytes) -> None:
    """Whatever an upstream sends has some meaning, and goes on as it came but for secrets."""
    for speech in SPEECHES:
        speech.read(frame)
    assert realtime.without_secrets(frame, ()) == frame or b"***" in realtime.without_secrets(frame, ())


def test_a_credential_in_an_error_is_masked() -> None:
    """Ours goes, whatever it looks like; everything else stays, bytes that are no text too."""
    frame = b'{"type":"error","error":{"message":"key ours-123 of \xff is wrong"}}'
    assert realtime.without_secrets(frame, ["ours-123"]) == frame.replace(b"ours-123", b"***")
    assert realtime.without_secrets(frame, ["other"]) is frame


# what the router says


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("speech", SPEECHES, ids=lambda speech: speech.endpoint)
def test_every_problem_has_a_frame(speech: realtime.Speech, kind: Kind) -> None:
    """An error frame has the protocol's shape: type, a code that is a string, message, param."""
    said = json.loads(speech.error(Problem(kind, "It failed.", param="p"), ID, "lane"))
    error = said["error"]
    assert (said["type"], error["type"], error["param"]) == ("error", TABLE[kind].openai_type, "p")
    assert isinstance(error["code"], str)
    assert error["message"].startswith("It failed.")
    if speech is realtime.REALTIME_SPEECH:
        assert said["event_id"] == f"event_{ID}"
    else:
        assert (said["status"], said["stream_id"], said["code"]) == (TABLE[kind].status, "lane", error["code"])


def test_half_a_surrogate_pair_in_a_message_is_no_obstacle() -> None:
    """An upstream's words are told even if they are no text."""
    assert b"cut ?" in realtime.realtime_error(UpstreamError(Kind.UPSTREAM_ERROR, "cut \ud83d"), ID)


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (RequestError(Kind.MODEL_NOT_FOUND, ""), 1008),
        (Refused(Kind.TOKENS_PER_MINUTE, ""), 1008),
        (Refused(Kind.UPSTREAM_RATE_LIMITED, ""), 1013),
        (Refused(Kind.NO_HEALTHY_UPSTREAM, ""), 1013),
        (Refused(Kind.DRAINING, ""), 1012),
        (RequestError(Kind.REQUEST_TOO_LARGE, ""), 1009),
        (UpstreamError(Kind.UPSTREAM_CONNECTION, ""), 1011),
        (Problem(Kind.INTERNAL, ""), 1011),
    ],
)
def test_a_close_code_says_whose_fault_it_is(problem: Problem, code: int) -> None:
    """1008 for policy, 1013 to try later, 1012 for a restart, 1011 for a fault of ours or of an upstream."""
    assert realtime.close_code(problem) == code


@given(st.integers(0, 65_535))
def test_a_passed_code_may_be_sent(code: int) -> None:
    """What a peer closed with goes on as it is, unless no close frame may hold it."""
    passed = realtime.passing_code(code)
    assert 1000 <= passed < 5000
    assert passed not in (1004, 1005, 1006, 1015)
    assert passed == code or code < 1000 or code >= 5000 or code in (1004, 1005, 1006, 1015)


@given(st.text())
def test_a_passed_reason_fits_a_close_frame(reason: str) -> None:
    """A reason is cut between characters, and holds no secret."""
    passed = realtime.passing_reason(f"{reason}ours-123", ["ours-123"])
    assert len(passed) <= realtime.REASON_BYTES_MAX
    assert "ours-123" not in passed.decode()
