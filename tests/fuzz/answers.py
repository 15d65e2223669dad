"""A strict reading of what a server sends, by RFC 9112 alone: the counterpart of `tests/hostile/reference.py`.

With that it shares lines, fields and chunks; with the router it shares no code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.hostile.reference import DoubtError, chunks_at, fields_at, line_at

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?")
"""The phrase may be anything: nobody reads it."""


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
    line, at = line_at(wire, at)
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise DoubtError(line)
    fields, at = fields_at(wire, at)
    status = int(match[1])
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    if status < 200 or status in (204, 304) or bodiless:
        return Answer(status, fields, b""), at
    if codings:
        if codings != [b"chunked"] or lengths:
            raise DoubtError("two framings")
        body, at = chunks_at(wire, at)
        return Answer(status, fields, body), at
    if not lengths:
        return Answer(status, fields, wire[at:], to_the_end=True), len(wire)
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]) or at + int(lengths[0]) > len(wire):
        raise DoubtError("length")
    end = at + int(lengths[0])
    return Answer(status, fields, wire[at:end]), end
