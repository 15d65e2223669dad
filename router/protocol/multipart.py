"""What the router reads of a form (`multipart/form-data`, RFC 7578, PROTOCOL 3.5) while it arrives.

A form is never built anew. `FormScanner` is fed the body in pieces, holds a few hundred bytes of it (the body itself is
kept elsewhere), and remembers where in the whole body the value of `model` stands. Only that is replaced.

Readers of forms differ in what they forgive. What a forgiving one could read as another part, or as another name of a
part, is refused, or a client could be billed for one model and get another: lines that are nearly delimiters, folded
and doubled headers, second ways to write a name.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import NoReturn

import msgspec

from router.errors import Kind, RequestError

READ_FIELDS = frozenset(
    ("model", "stream", "n", "response_format", "background", "seconds", "size", "quality", "session")
)
"""The text parts whose values are kept. Each may come once, and its name in one case only."""

SESSION_BYTES_MAX = 65_536
"""A call's settings are JSON with instructions and tools (PROTOCOL 2, realtime calls)."""

VALUE_BYTES_MAX = 2_048
"""The longest value that is kept; a longer one counts as not sent, except `model`, which is refused."""

MODEL_CHARS_MAX = 512
"""As in `splice`, which imports this module."""

HEADER_BYTES_MAX = 8_192
"""Of the headers of one part."""

PARTS_MAX = 1_000
SURROUNDINGS_BYTES_MAX = 65_536
"""Of what may stand before the first delimiter, and of what may stand behind the last one (RFC 2046, 5.1.1)."""

BOUNDARY_CHARS_MAX = 70
_PADDING_BYTES_MAX = 128
"""White space that may follow a delimiter on its line; RFC 2046 lets gateways add it, and nobody does."""

_LOOKALIKES_MAX = 10_000
"""Lines that begin like a delimiter and are none. Contents that hold more of them were made to cost us time."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_PARAMETER = re.compile(
    rb'[ \t]*+(?:;[ \t]*+)++(?:(%b)=(?:(%b)|"([^"\\]*+(?:\\.[^"\\]*+)*+)"))?[ \t]*+(?=;|\Z)' % (_TOKEN, _TOKEN),
    re.DOTALL,
)
"""One parameter of a media type or disposition: its name, its value as a token or in quotes. It may be empty."""

_PARAMETERS_MAX = 20

_MAIN_VALUE = re.compile(rb"[ \t]*+([^; \t]*+)[ \t]*+(?=;|\Z)")
_NAME_FOLLOWS = re.compile(rb";[ \t]*+name[*0-9]*+=", re.IGNORECASE)
_NAME_BYTES_MAX = 64
"""Longer names are none of ours, however they are written."""

_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_BOUNDARY = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z(),/:=? -]*+(?<! )")
"""The characters of RFC 2046, and those of a token, which occur."""

_AFTER_BOUNDARY = re.compile(
    rb"(?P<next>[ \t]{0,%d}+\r\n)|(?P<close>--[ \t]{0,%d}+(?=[\r\n]))|(?P<open>(?:-|(?:--)?[ \t\v\f]{0,%d}+\r?)\Z)"
    rb"|(?P<doubtful>--|[ \t\v\f]{0,%d}+[\r\n]|[ \t\v\f]{%d})" % (*[_PADDING_BYTES_MAX] * 4, _PADDING_BYTES_MAX + 1)
)
"""What follows a boundary at the beginning of a line: the end of a delimiter, of the final one, the end of the data, or
what only some readers take for a delimiter (Werkzeug takes any white space). None of these: the line is content."""

_HEADER = re.compile(rb"(" + _TOKEN + rb"):([^\x00-\x08\x0a-\x1f\x7f]*+)")
_PLAIN_CODINGS = frozenset((b"7bit", b"8bit", b"binary"))
_LINE_ENDS = b"\r\n"


class Form(msgspec.Struct, frozen=True, gc=False):
    """What the router needs to know of one form, and where its body may be cut."""

    fields: dict[str, bytes]
    """Values of the parts in `READ_FIELDS` that are text, at most `VALUE_BYTES_MAX` long, as they were written."""
    model: str | None
    """As the client wrote it, 1 to `MODEL_CHARS_MAX` characters; None if there is no such part."""
    model_at: tuple[int, int] | None
    """Start and end of the value of `model` in the whole body."""
    session_at: tuple[int, int] | None
    """Start and end of the value of `session`, the JSON in which a call names its model."""
    begins_at: int
    """Where the first delimiter begins in the whole body: here another part may be put in front of the others."""
    file_bytes: int
    text_bytes: int
    """Bytes in the parts with a file name, and in the others; without their headers."""
    files: int
    parts: int


def boundary_of(content_type: bytes) -> bytes:
    """Return the boundary that the value of a `Content-Type` header names.

    Raises:
        RequestError: INVALID_MULTIPART, whatever is wrong with it.
    """
    kind, parameters = _parse(content_type, "the content type")
    if kind != b"multipart/form-data":
        _fault("the content type must be 'multipart/form-data'")
    if any(key.startswith(b"boundary*") for key in parameters):
        _fault("the boundary must be written plainly")
    boundary = parameters.get(b"boundary", b"")
    if not boundary:
        _fault("the content type names no boundary")
    if len(boundary) > BOUNDARY_CHARS_MAX or not _BOUNDARY.fullmatch(boundary):
        _fault(f"the boundary must have 1 to {BOUNDARY_CHARS_MAX} of the characters that RFC 2046 allows")
    return boundary


def spliced_value(model: str, boundary: bytes) -> bytes:
    """Return what to write at `Form.model_at`, or as the value of a new part.

    Raises:
        ValueError: The name contains the boundary, a line break or NUL, or is no text.
    """
    value = model.encode()
    if boundary in value or _has_break(value):
        raise ValueError(f"the model name {model!r} cannot stand in a form with this boundary")
    return value


class _Section(Enum):
    PREAMBLE = auto()
    HEADERS = auto()
    CONTENT = auto()
    EPILOGUE = auto()


class FormScanner:
    """Reads a form in pieces; how it was cut into pieces changes nothing.

    Once `feed` or `finish` has raised, the scanner has no further use.
    """

    __slots__ = (
        "_begins_at", "_field", "_fields", "_file_bytes", "_files", "_held", "_held_at", "_is_file", "_lookalikes",
        "_mark", "_model_at", "_parts", "_searched", "_section", "_seen", "_session_at", "_start", "_text_bytes",
    )  # fmt: skip

    def __init__(self, boundary: bytes) -> None:
        self._mark = b"--" + boundary
        self._section = _Section.PREAMBLE
        # The body counts as if the end of a line stood before it, so that all delimiters are alike.
        self._held = b"\r\n"
        self._held_at = -len(self._held)
        self._start = self._held_at
        """Where the section under way begins in the whole body."""
        self._searched = self._held_at
        """Up to where it holds no delimiter: what is held of a value is not searched again."""
        self._field = ""
        """The name of the part under way if its value is kept."""
        self._is_file = False
        self._fields: dict[str, bytes] = {}
        self._seen: set[str] = set()
        self._model_at: tuple[int, int] | None = None
        self._session_at: tuple[int, int] | None = None
        self._begins_at = self._file_bytes = self._text_bytes = self._files = self._parts = self._lookalikes = 0

    def __repr__(self) -> str:
        return f"<FormScanner: {self._section.name.lower()}, {self._parts} parts, {len(self._held)} bytes held>"

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body: 9 us for 64 KB of a file, 9 us for a part.

        Raises:
            RequestError: INVALID_MULTIPART, DUPLICATE_PARAMETER or INVALID_TYPE, as soon as it is certain.
        """
        data = self._held + piece
        done, more = 0, True
        while more:
            read = self._read_headers if self._section is _Section.HEADERS else self._read_lines
            done, more = read(data, done)
        self._held = data[done:]
        self._held_at += done

    def finish(self) -> Form:
        """Return what the form holds, now that its body has ended.

        Raises:
            RequestError: As `feed`, and INVALID_MULTIPART if the final delimiter has not come.
        """
        if self._section is not _Section.EPILOGUE:
            self.feed(b"\r\n")  # a final delimiter need not end its line
        self._check_length(self._held_at + len(self._held))
        if self._section is not _Section.EPILOGUE:
            _fault("it ends before its final delimiter")
        model = self._fields.get("model")
        return Form(
            self._fields,
            None if model is None else model.decode(),
            self._model_at,
            self._session_at,
            self._begins_at,
            self._file_bytes,
            self._text_bytes,
            self._files,
            self._parts,
        )

    def _read_lines(self, data: bytes, at: int) -> tuple[int, bool]:
        """Look for the end of this section; return up to where the data is done with, and whether to go on."""
        search = max(at, self._searched - self._held_at)
        while (found := data.find(self._mark, search)) >= 0:
            tail = None
            if self._section is _Section.PREAMBLE or data[found - 1] in _LINE_ENDS:
                tail = _AFTER_BOUNDARY.match(data, found + len(self._mark))
            if tail is not None and tail["open"] is not None:
                break
            if tail is not None:
                self._end_section(data, found, tail)
                return tail.end() - 2 if tail["next"] else tail.end(), True
            search = found + 1
            self._lookalikes += 1
            if self._lookalikes > _LOOKALIKES_MAX:
                _fault("its boundary occurs in its contents")
        # What may be the beginning of a delimiter stays, with the line end before it.
        keep = max(at, found - 2 if found >= 0 else len(data) - len(self._mark) - 1)
        self._searched = self._held_at + max(keep, search)
        self._check_length(self._held_at + keep)
        return (at if self._field else keep), False

    def _end_section(self, data: bytes, found: int, tail: re.Match[bytes]) -> None:
        end = self._held_at + found - 2
        if tail["doubtful"] or end < self._start or data[found - 2 : found] != b"\r\n":
            _fault("a line in it is nearly a delimiter")
        self._check_length(end)
        if self._section is _Section.CONTENT:
            self._end_part(data, end)
        elif self._section is _Section.PREAMBLE:
            self._begins_at = end + 2
        else:
            _fault("it goes on behind its final delimiter")
        self._section = _Section.HEADERS if tail["next"] else _Section.EPILOGUE
        self._start = self._held_at + tail.end()

    def _check_length(self, end: int) -> None:
        """Check a section that reaches at least to `end`."""
        length = end - max(self._start, 0)
        if self._section is not _Section.CONTENT:
            if length > SURROUNDINGS_BYTES_MAX:
                _fault(f"more than {SURROUNDINGS_BYTES_MAX} bytes stand before or behind its parts")
        elif self._field and length > (SESSION_BYTES_MAX if self._field == "session" else VALUE_BYTES_MAX):
            if self._field == "model":
                _refuse_model()
            self._field = ""

    def _read_headers(self, data: bytes, at: int) -> tuple[int, bool]:
        """Read the headers of a part, which follow the line break at `at`."""
        end = data.find(b"\r\n\r\n", at)
        start = at + 2
        if (end if end >= 0 else len(data) - 3) - start > HEADER_BYTES_MAX:
            _fault(f"the headers of a part are longer than {HEADER_BYTES_MAX} bytes")
        if end < 0:
            return at, False
        if data.find(b"\n" + self._mark, start - 1, end) >= 0:
            _fault("the headers of a part do not end")
        self._begin_part(data[start:end])
        self._section = _Section.CONTENT
        self._start = self._held_at + end + 4
        return end + 3, True

    def _begin_part(self, block: bytes) -> None:
        self._parts += 1
        if self._parts > PARTS_MAX:
            _fault(f"it has more than {PARTS_MAX} parts")
        headers = _headers(block)
        raw_name, self._is_file = _disposition(headers.get(b"content-disposition"))
        self._files += self._is_file
        self._field = ""
        name = raw_name.decode("utf-8", "replace")
        folded = name.casefold()
        if folded not in READ_FIELDS:
            return
        if name != folded or name in self._seen:
            message = f"'{folded}' must be written once, in lower case."
            raise RequestError(Kind.DUPLICATE_PARAMETER, message, param=folded)
        self._seen.add(name)
        if not self._is_file:
            self._field = name
        if name == "model":
            coding = headers.get(b"content-transfer-encoding", b"8bit").strip().lower()
            if self._is_file or coding not in _PLAIN_CODINGS:
                _refuse_model()

    def _end_part(self, data: bytes, end: int) -> None:
        length = end - self._start
        if self._is_file:
            self._file_bytes += length
        else:
            self._text_bytes += length
        if not self._field:
            return
        value = data[self._start - self._held_at : end - self._held_at]
        if self._field == "model":
            _check_model(value)
            self._model_at = (self._start, end)
        if self._field == "session":
            self._session_at = (self._start, end)
        self._fields[self._field] = value
        self._field = ""


def _check_model(value: bytes) -> None:
    try:
        model = value.decode()
    except UnicodeDecodeError:
        _refuse_model()
    if not 0 < len(model) <= MODEL_CHARS_MAX or _has_break(value):
        _refuse_model()


def _has_break(value: bytes) -> bool:
    return b"\r" in value or b"\n" in value or b"\0" in value


def _headers(block: bytes) -> dict[bytes, bytes]:
    """Return the headers of a part by their names in lower case."""
    headers = {}
    for line in block.split(b"\r\n") if block else ():
        header = _HEADER.fullmatch(line)
        if header is None:
            _fault("a line in the headers of a part is no header")
        name = header[1].lower()
        if name in headers:
            _fault("a part has the same header twice")
        headers[name] = header[2]
    return headers


def _disposition(value: bytes | None) -> tuple[bytes, bool]:
    """Return the name of a part, and whether it has a file name."""
    if value is None:
        _fault("a part has no 'Content-Disposition'")
    kind, parameters = _parse(value, "a 'Content-Disposition'")
    if kind != b"form-data" or b"name" not in parameters:
        _fault("the 'Content-Disposition' of a part must be 'form-data' with a name")
    if any(key.startswith(b"name*") for key in parameters):
        _fault("the name of a part must be written plainly")
    # Browsers write a backslash as it is, others to escape the quote behind it. Where the quotes end depends on that.
    escaped_quote = value.find(b'\\"')
    if escaped_quote >= 0 and _NAME_FOLLOWS.search(value, escaped_quote):
        _fault("the name of a part must stand before what contains quotes")
    name = parameters[b"name"]
    if len(name) <= _NAME_BYTES_MAX:
        name = _ESCAPED.sub(rb"\1", name)
    return name, any(key.partition(b"*")[0] == b"filename" for key in parameters)


def _parse(value: bytes, what: str) -> tuple[bytes, dict[bytes, bytes]]:
    """Return the main value of a header, in lower case, and its parameters by their names in lower case.

    What stands in quotes is returned as it is written, escapes included.
    """
    main = _MAIN_VALUE.match(value)
    parameters: dict[bytes, bytes] = {}
    at = main.end() if main is not None else 0
    while main is not None and at < len(value):
        parameter = _PARAMETER.match(value, at)
        if parameter is None:
            break
        at = parameter.end()
        raw_name, token, quoted = parameter.groups()
        if raw_name is None:
            continue
        name = raw_name.lower()
        if name in parameters:
            _fault(f"{what} has the same parameter twice")
        if len(parameters) == _PARAMETERS_MAX:
            _fault(f"{what} has more than {_PARAMETERS_MAX} parameters")
        parameters[name] = token if token is not None else quoted
    if main is None or at < len(value):
        _fault(f"{what} cannot be read")
    return main[1].lower(), parameters


def _refuse_model() -> NoReturn:
    message = f"'model' must be a plain text field of 1 to {MODEL_CHARS_MAX} characters."
    raise RequestError(Kind.INVALID_TYPE, message, param="model")


def _fault(why: str) -> NoReturn:
    raise RequestError(Kind.INVALID_MULTIPART, f"The form cannot be read: {why}.")
