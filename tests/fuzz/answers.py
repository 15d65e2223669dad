"""A strict reading of what a server sends, by RFC 9112 alone: the counterpart of `tests/hostile/reference.py`.

It shares no code with the router.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.hostile.reference import DoubtError

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?")
"""The phrase may be anything: nobody reads it."""

_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})(?:;%b(?:=(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED))


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that every recipient must read so."""

    status: int
    fields: list[tuple[bytes, bytes]]
    """Names in lower case, and values."""
    body: bytes
    to_the_end: bool = False
    """Nothing but the end of the connection ends its body."""

    def values(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.fields if each == name]


def read(wire: bytes, *, bodiless: bool = False) -> list[Answer]:
    """Read all that a server sent on one connection, informational answers too.

    Args:
        wire: Its bytes.
        bodiless: The requests were HEAD.

    Raises:
        DoubtError: Something is not certain, or not all there.
    """
    answers: list[Answer] = []
    at = 0
    while at < len(wire):
        answer, at = one(wire, at, bodiless=bodiless)
        answers.append(answer)
    return answers


def one(wire: bytes, at: int = 0, *, bodiless: bool = False) -> tuple[Answer, int]:
    """Read the answer at a place, and return where it ends.

    Raises:
        DoubtError: As `read`.
    """
    line, at = _line(wire, at)
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise DoubtError(line)
    fields, at = _fields(wire, at)
    status = int(match[1])
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    if status < 200 or status in (204, 304) or bodiless:
        return Answer(status, fields, b""), at
    if codings:
        if codings != [b"chunked"] or lengths:
            raise DoubtError("two framings")
        body, at = _chunks(wire, at)
        return Answer(status, fields, body), at
    if not lengths:
        return Answer(status, fields, wire[at:], to_the_end=True), len(wire)
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]) or at + int(lengths[0]) > len(wire):
        raise DoubtError("length")
    end = at + int(lengths[0])
    return Answer(status, fields, wire[at:end]), end


def _line(wire: bytes, at: int) -> tuple[bytes, int]:
    end = wire.find(b"\r\n", at)
    line = wire[at:end]
    if end < 0 or b"\n" in line or b"\r" in line:
        raise DoubtError(line)
    return line, end + 2


def _fields(wire: bytes, at: int) -> tuple[list[tuple[bytes, bytes]], int]:
    fields: list[tuple[bytes, bytes]] = []
    while True:
        line, at = _line(wire, at)
        if not line:
            return fields, at
        match = _FIELD.fullmatch(line)
        if match is None:
            raise DoubtError(line)
        fields.append((match[1].lower(), match[2].strip(b" \t")))


def _chunks(wire: bytes, at: int) -> tuple[bytes, int]:
    body = b""
    while True:
        line, at = _line(wire, at)
        match = _SIZE.fullmatch(line)
        if match is None:
            raise DoubtError(line)
        size = int(match[1], 16)
        if not size:
            break
        if wire[at + size : at + size + 2] != b"\r\n":
            raise DoubtError("chunk end")
        body += wire[at : at + size]
        at += size + 2
    trailers, at = _fields(wire, at)
    if any(name in (b"content-length", b"transfer-encoding") for name, _ in trailers):
        raise DoubtError("framing in trailers")
    return body, at
