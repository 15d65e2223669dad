"""Forms: what is read of them while they come, and what of them is sent on (PROTOCOL 3.5).

The first line is the `Content-Type`, the form follows. Three readers judge what was accepted: a strict one, one as
forgiving as any that is in use (Werkzeug's takes CR, LF and CRLF for line ends, and any white space behind a boundary),
and the standard library's. Where one sees another model, or another number of parts, the form should have been refused.
"""

from __future__ import annotations

import re
from email.parser import BytesParser
from email.policy import HTTP

from router.errors import Kind, RequestError
from router.protocol.asks import of_form
from router.protocol.multipart import READ_FIELDS, Form, FormScanner, boundary_of
from router.protocol.splice import compose
from tests.fuzz.pieces import ways

BYTES_MAX = 2048
WORDS = (
    b"multipart/form-data; boundary=", b'boundary="a:b"', b"--b", b"--b--", b"\r\n--b\r\n", b"\r\n--b--\r\n",
    b'Content-Disposition: form-data; name="model"', b'Content-Disposition: form-data; name="file"; filename="a"',
    b"Content-Disposition: form-data; name=stream", b'name="session"', b"filename=", b"filename*=utf-8''a", b"name*=",
    b"name=", b"; ", b'"', b"\\", b'\\"', b"Content-Type: application/json", b"Content-Transfer-Encoding: base64",
    b"\r\n\r\n", b"\r\n", b"\n", b"\r", b"\t", b"\x0b", b"\x0c", b"\0", b"\x85", b"\xc2\x85", b"model", b"Model",
    b"whisper-1", b"stream", b"true", b"n", b"response_format", b"--", b" ",
)  # fmt: skip
_UPSTREAM = "up/m\u00f6del"
_KINDS = {Kind.INVALID_MULTIPART, Kind.DUPLICATE_PARAMETER, Kind.INVALID_TYPE}
_LINE_END = rb"(?:\r\n|\n|\r)"
_NAME = re.compile(rb';[ \t]*name=(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))', re.IGNORECASE | re.DOTALL)


def check(data: bytes) -> None:
    """Scan the form as it may come, and put another model into it."""
    content_type, _, body = data.partition(b"\n")
    try:
        boundary = boundary_of(content_type.rstrip(b"\r"))
    except RequestError as refused:
        assert refused.kind is Kind.INVALID_MULTIPART  # noqa: PT017 - no test: a promise
        return
    form = _scanned(boundary, [body] if body else [])
    for pieces in ways(body):
        assert _scanned(boundary, pieces) == form, "how it came changes what it is"
    if isinstance(form, Form):
        _check_places(form, body)
        for read in (_strict, _forgiving, _by_email):
            assert read(body, boundary) == _named(form), f"other parts by {read.__name__}"
        _check_composed(form, body, boundary)


def _scanned(boundary: bytes, pieces: list[bytes]) -> Form | tuple[Kind, str | None]:
    scanner = FormScanner(boundary)
    try:
        for piece in pieces:
            scanner.feed(piece)
        return scanner.finish()
    except RequestError as refused:
        assert refused.kind in _KINDS  # noqa: PT017 - as above
        return refused.kind, refused.param


def _check_places(form: Form, body: bytes) -> None:
    assert (form.model is None) is (form.model_at is None)
    if form.model_at is not None:
        assert body[slice(*form.model_at)].decode() == form.model
        assert form.fields["model"].decode() == form.model
    if form.session_at is not None:
        assert body[slice(*form.session_at)] == form.fields["session"]
    assert set(form.fields) <= READ_FIELDS


Named = tuple[int, list[bytes]]
"""The number of parts, and what each says that is called `model`, however that is spelt."""


def _named(form: Form) -> Named:
    return form.parts, [] if form.model is None else [form.model.encode()]


def _strict(body: bytes, boundary: bytes) -> Named:
    """What a reader sees that goes by the letter of RFC 2046, section 5.1.1."""
    delimiter = rb"--%b(?:(--)[ \t]*(?=[\r\n]|\Z)|[ \t]*\r\n)" % re.escape(boundary)
    return _parts(b"\r\n" + body, rb"\r\n" + delimiter, rb"\r\n" + delimiter)


def _forgiving(body: bytes, boundary: bytes) -> Named:
    """What a reader sees that takes for a delimiter whatever could be one; before the first part also inside a line."""
    delimiter = rb"--%b(--)?[^\S\r\n]*(?:%b|\Z)" % (re.escape(boundary), _LINE_END)
    return _parts(body, delimiter, _LINE_END + delimiter)


def _parts(body: bytes, first: bytes, other: bytes) -> Named:
    found = re.search(first, body)
    parts, models = 0, []
    while found is not None and not found[1]:
        start = found.end()
        found = re.compile(other).search(body, start)
        parts += 1
        head, _, value = body[start : found.start() if found is not None else None].partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if name is not None and re.sub(rb"\\(.)", rb"\1", name[1] or name[2] or b"").lower() == b"model":
            models.append(value)
    return parts, models


def _by_email(body: bytes, boundary: bytes) -> Named:
    head = b'Content-Type: multipart/form-data; boundary="%b"\r\n\r\n' % boundary
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    parts = list(message.iter_parts())
    models = [part for part in parts if str(part.get_param("name", header="content-disposition")).lower() == "model"]
    return len(parts), [bytes(part.get_payload(decode=True)) for part in models]


def _check_composed(form: Form, body: bytes, boundary: bytes) -> None:
    """The form that is sent holds the new model, and all else that it held."""
    try:
        ask = of_form(form, boundary)
    except RequestError as refused:
        assert (refused.kind, refused.param) == (Kind.INVALID_TYPE, "stream")  # noqa: PT017 - as above
        return
    assert b"".join(compose(ask, body, ask.model, ask_usage=False)) == body
    try:
        sent = b"".join(compose(ask, body, _UPSTREAM, ask_usage=False))
    except RequestError as refused:
        assert refused.kind is Kind.INVALID_MULTIPART and boundary in _UPSTREAM.encode()  # noqa: PT017, PT018
        return
    again = _scanned(boundary, [sent])
    assert isinstance(again, Form)
    assert again.model == _UPSTREAM
    assert again.parts == form.parts + (form.model is None)
    new = form.fields | {"model": _UPSTREAM.encode()}
    assert again.fields == new
    assert (again.files, again.file_bytes) == (form.files, form.file_bytes)
