import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import Kind, RequestError
from router.protocol.translate.common import (
    compact,
    decode_exactly,
    finish_reason,
    join_data_uri,
    names_of,
    number,
    read_answer,
    read_request,
    split_data_uri,
    stop_reason,
    unsupported,
    write_request,
    wrong_type,
)

DEEP = '{"a":' * 9000 + "1" + "}" * 9000


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1.10,"b":1e400,"c":-0,"d":-0.0,"e":123456789012345678901234567890,"f":999999999999999999}',
        '{"a":[0.1,1E5,18446744073709551616],"b":{"":null},"c":"\\"ü🌍","d":[true,false]}',
        '{"digits":' + "7" * 6000 + "}",
        "-123456789012345678",
        '"text"',
    ],
)
def test_json_goes_through_unchanged(text: str) -> None:
    """Compact JSON is the same after decoding and encoding, every digit of every number included."""
    assert compact(decode_exactly(text)).decode() == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_values_survive(value: Any) -> None:
    """Whatever JSON says, it says after decoding and encoding."""
    text = json.dumps(value)
    assert json.loads(compact(decode_exactly(text))) == json.loads(text)


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", "-Infinity", "{'a':1}", '"\n"', "01", "1 2"])
def test_what_is_no_json(text: str) -> None:
    """What the standard does not allow is refused, also where Python's own decoder would take it."""
    with pytest.raises(ValueError):
        decode_exactly(text)


def test_half_a_character_stays_escaped() -> None:
    """Half a surrogate pair, which no encoding has bytes for, is written as it came; in a name it is replaced."""
    assert compact(decode_exactly('{"a":["\\ud83d","x"]}')) == b'{"a":["\\ud83d","x"]}'
    assert compact({"\ud83d": 1}) == b'{"?":1}'


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (1, 1),
        (msgspec.Raw(b"1.5"), 1.5),
        (msgspec.Raw(b"1e999"), float("inf")),
        (True, None),
        ("1", None),
        (None, None),
        ([1], None),
    ],
)
def test_numbers(value: Any, wanted: float | None) -> None:
    """Both forms of a decoded number are read; a boolean is none."""
    assert number(value) == wanted


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"a":"\xff"}', DEEP.encode(), b'{"a":NaN}', b"\xff\xfe{"]
)
def test_bodies_that_cannot_be_read(body: bytes) -> None:
    """A client's body that is no JSON object, or too deep, is refused as such; an upstream's gives nothing."""
    with pytest.raises(RequestError) as refusal:
        read_request(body)
    assert refusal.value.kind is Kind.INVALID_JSON
    if b"\xff" not in body:
        assert read_answer(body) is None


def test_bodies_that_can() -> None:
    """Objects are read; an upstream's with patience for a byte order mark and broken UTF-8."""
    assert read_request(b' {"a":1}\n') == {"a": 1}
    assert read_answer(b'\xef\xbb\xbf{"a":"\xff"}') == {"a": "\ufffd"}


@pytest.mark.parametrize("other", ["", '"[{[{",', '"\\"[[",', "[[]," * 3 + "[]]]],"])
def test_the_depth_that_can_be_read_is_ours(other: str) -> None:
    """As deep as our bound is read, one level more is not: on every Python, and whatever strings hold."""
    for depth, whole in ((498, True), (502, False)):
        text = f'{{"a":[{other}{"[" * depth}{"]" * depth}]}}'
        if whole:
            assert write_request(read_request(text.encode())) == text.encode()
        else:
            with pytest.raises(RequestError) as refusal:
                read_request(text.encode())
            assert refusal.value.kind is Kind.INVALID_JSON


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("data:image/png;base64,iVBORw0=", ("image/png", "iVBORw0=")),
        ("DATA:Image/JPG;charset=x;BASE64,/9j/", ("image/jpeg", "/9j/")),
        ("data:;base64,eA==", ("", "eA==")),
        ("data:application/pdf;base64,", ("application/pdf", "")),
        ("data:text/plain,x", None),
        ("data:image/png;base64", None),
        ("https://host/data:image/png;base64,x", None),
        ("", None),
    ],
)
def test_data_uris(uri: str, wanted: tuple[str, str] | None) -> None:
    """A data URI in base64 is split into media type and data; anything else is none."""
    assert split_data_uri(uri) == wanted


@given(st.sampled_from(["image/png", "image/jpeg", "application/pdf"]), st.text("abcXYZ019+/="))
def test_data_uris_there_and_back(media_type: str, data: str) -> None:
    """What was joined is split into the same parts."""
    assert split_data_uri(join_data_uri(media_type, data)) == (media_type, data)


@pytest.mark.parametrize(
    ("anthropic", "openai"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("invented", "stop"),
        (None, "stop"),
        ({}, "stop"),
    ],
)
def test_finish_reasons(anthropic: Any, openai: str) -> None:
    """Every reason of Anthropic's has a word of OpenAI's, also what nobody knows."""
    assert finish_reason(anthropic) == openai


@pytest.mark.parametrize(
    ("openai", "anthropic"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "refusal"),
        ("invented", "end_turn"),
        (None, "end_turn"),
        ([], "end_turn"),
    ],
)
def test_stop_reasons(openai: Any, anthropic: str) -> None:
    """Every reason of OpenAI's has a word of Anthropic's, also what nobody knows."""
    assert stop_reason(openai) == anthropic


def test_names_fit_a_header() -> None:
    """Names are sorted and bounded, and none can break the header line, as a client may have made it up."""
    assert names_of({"seed", "messages.name", "a b", "x\r\ny: z", "é", "", "n" * 129, "a,b"}) == (
        "messages.name",
        "seed",
    )
    assert len(names_of({f"n{index}" for index in range(500)})) == 64


def test_refusals_name_the_member() -> None:
    """Both refusals are the client's fault, status 400, and say which member is meant."""
    with pytest.raises(RequestError) as refusal:
        unsupported("n", "One choice only.")
    assert (refusal.value.kind, refusal.value.param) == (Kind.UNSUPPORTED_PARAMETER, "n")
    assert (refusal.value.status, refusal.value.message) == (400, "One choice only.")
    with pytest.raises(RequestError) as refusal:
        wrong_type("stop", "a string")
    assert (refusal.value.kind, refusal.value.status) == (Kind.INVALID_TYPE, 400)
    assert refusal.value.message == "'stop' must be a string."
