"""What a form asks for, read from its fields as text (PROTOCOL 2.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import Kind, RequestError
from router.protocol.asks import N_MAX, Ask, of_form
from router.protocol.multipart import Form, FormScanner

B = b"b0undary"


def form(**fields: bytes) -> tuple[bytes, Form]:
    """A body with these text parts, and what is found in it."""
    body = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (B, name.encode(), value)
        for name, value in fields.items()
    )
    body += b"--%b--\r\n" % B
    scanner = FormScanner(B)
    scanner.feed(body)
    return body, scanner.finish()


def ask(**fields: bytes) -> Ask:
    return of_form(form(**fields)[1], B)


def test_a_forms_facts_are_those_of_any_request() -> None:
    """Model, stream and number are read, and the places are those of the body."""
    body, scanned = form(prompt=b"a cat", model=b"gpt-image", stream=b"true", n=b"3")
    read = of_form(scanned, B)
    assert (read.model, read.stream, read.n, read.boundary) == ("gpt-image", True, 3, B)
    assert read.model_at is not None
    assert body[slice(*read.model_at)] == b"gpt-image"
    assert body[read.begins_at :].startswith(b"--" + B + b"\r\n")
    assert read.text_bytes == len(b"a catgpt-imagetrue3")


def test_what_forms_cannot_say_is_not_said() -> None:
    """No form asks for usage or bounds its tokens, and there is nothing to splice for it."""
    read = ask(model=b"m", stream=b"true")
    assert (read.wants_usage, read.ask_at, read.max_tokens, read.named_id, read.characters) == (
        False, None, None, "", 0,
    )  # fmt: skip


def test_a_form_without_a_model_names_none() -> None:
    """The name is empty and has no place; whether that may be is the endpoint's business."""
    read = ask(prompt=b"x")
    assert (read.model, read.model_at) == ("", None)


@pytest.mark.parametrize(
    ("value", "stream"),
    [
        (b"true", True), (b"True", True), (b"TRUE", True), (b" true ", True), (b"1", True),
        (b"false", False), (b"False", False), (b"0", False), (b"", False), (b" ", False),
    ],
)  # fmt: skip
def test_a_stream_is_asked_for_in_words(value: bytes, stream: bool) -> None:
    """Python writes `True`, curl users `1`; an empty field is none."""
    assert ask(model=b"m", stream=value).stream is stream


@pytest.mark.parametrize("value", [b"yes", b"on", b"2", b"truee", b"true,false", b"null", b"\xff", b"tru\xc3\xa9"])
def test_a_stream_that_is_neither_is_refused(value: bytes) -> None:
    """What an upstream might or might not take for true is refused by name."""
    with pytest.raises(RequestError) as caught:
        ask(model=b"m", stream=value)
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_TYPE, "stream")


@pytest.mark.parametrize(
    ("value", "n"),
    [
        (b"4", 4), (b" 4 ", 4), (b"0", 1), (b"128", N_MAX), (b"129", N_MAX), (b"999", N_MAX), (b"1000", 1),
        (b"-1", 1), (b"1.5", 1), (b"", 1), (b"many", 1), (b"9" * 2000, 1), ("\u0664".encode(), 1), ("²".encode(), 1),
    ],
)  # fmt: skip
def test_n_is_within_bounds(value: bytes, n: int) -> None:
    """The number of pictures counts as 1 to 128, and nothing is refused for it."""
    assert ask(model=b"m", n=value).n == n


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_any_fields_are_read_or_refused(stream: bytes, n: bytes) -> None:
    """Whatever stands in the fields, there is an answer within bounds or one refusal that names the field."""
    made = Form({"stream": stream, "n": n}, "m", (5, 6), None, 0, 0, 9, 0, 3)
    if stream.strip().lower() in {b"true", b"false", b"1", b"0", b""}:
        assert 1 <= of_form(made, B).n <= N_MAX
        return
    with pytest.raises(RequestError) as caught:
        of_form(made, B)
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_TYPE, "stream")
