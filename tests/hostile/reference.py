"""A strict reading of what a client sends, by RFC 9112 alone: what is certain, and where certainty ends.

The judge of `test_framing.py`. Speed does not matter here, and no leniency is wanted: what some servers read in one way
and some in another, or what the RFC lets a recipient mend, is not certain. It shares no code with the router.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TCHAR = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_VALUE = rb"[\t -~\x80-\xff]*"
_REQUEST_LINE = re.compile(rb"(%b+) (/[!-~]*|\*) HTTP/(1\.[01])" % _TCHAR)
"""Section 3. A target in absolute form is valid, but no client of an origin server has a reason to send one."""
_FIELD = re.compile(rb"(%b+):[ \t]*(%b?)[ \t]*" % (_TCHAR, _VALUE))
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)(?:;%b+(?:=(?:%b+|%b))?)*" % (_TCHAR, _TCHAR, _QUOTED))
"""Section 7.1, without the white space that recipients must strip and senders must not send."""
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_FRAMING = (b"content-length", b"transfer-encoding")
_CHUNK_BYTES_MAX = 1 << 40


class DoubtError(Exception):
    """From here on the bytes are no certain request: they are invalid, ambiguous, or not all there."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request that every recipient must read so."""

    method: bytes
    target: bytes
    version: bytes
    fields: list[tuple[bytes, bytes]]
    """Names in lower case, and values."""
    body: bytes
    """Without its chunks."""

    def values(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.fields if each == name]

    @property
    def is_last(self) -> bool:
        """No request follows on this connection (section 9.3)."""
        options = {each.strip().lower() for value in self.values(b"connection") for each in value.split(b",")}
        return b"close" in options or (self.version == b"1.0" and b"keep-alive" not in options)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a connection's bytes certainly say."""

    requests: list[Request]
    """Up to the first that is not certain, or that says it is the last."""
    certain: bool
    """Nothing else is there, or nothing that counts."""


def read(wire: bytes) -> Reading:
    """Read all that a client sent on one connection."""
    requests: list[Request] = []
    at = 0
    try:
        while at < len(wire):
            if wire.startswith(b"\r\n", at):  # section 2.2: an empty line before a request
                at += 2
                continue
            request, at = _request(wire, at)
            requests.append(request)
            if request.is_last:
                break
    except DoubtError:
        return Reading(requests, certain=False)
    return Reading(requests, certain=True)


def _request(wire: bytes, at: int) -> tuple[Request, int]:
    line, at = line_at(wire, at)
    match = _REQUEST_LINE.fullmatch(line)
    if match is None or match[1] == b"CONNECT":
        raise DoubtError(line)
    fields, at = fields_at(wire, at)
    names = [name for name, _ in fields]
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (match[3] == b"1.1" and not hosts) or not all(map(_HOST.fullmatch, hosts)):
        raise DoubtError("host")
    if b"transfer-encoding" in names:
        codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
        if match[3] == b"1.0" or b"content-length" in names or codings != [b"chunked"]:
            raise DoubtError("transfer-encoding")
        body, at = chunks_at(wire, at)
    else:
        body, at = _counted(wire, at, [value for name, value in fields if name == b"content-length"])
    return Request(match[1], match[2], match[3], fields, body), at


def line_at(wire: bytes, at: int) -> tuple[bytes, int]:
    """Return a line without its end, which is CR LF; a lone CR or LF is no part of one."""
    end = wire.find(b"\r\n", at)
    line = wire[at:end]
    if end < 0 or b"\n" in line or b"\r" in line or b"\0" in line:
        raise DoubtError(line)
    return line, end + 2


def fields_at(wire: bytes, at: int) -> tuple[list[tuple[bytes, bytes]], int]:
    """Return header lines up to the blank line, names in small letters, and where that ends."""
    fields: list[tuple[bytes, bytes]] = []
    while True:
        line, at = line_at(wire, at)
        if not line:
            return fields, at
        match = _FIELD.fullmatch(line)
        if match is None:
            raise DoubtError(line)
        fields.append((match[1].lower(), match[2].strip(b" \t")))


def _counted(wire: bytes, at: int, lengths: list[bytes]) -> tuple[bytes, int]:
    if not lengths:
        return b"", at
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        raise DoubtError("content-length")
    end = at + int(lengths[0])
    if end > len(wire):
        raise DoubtError("not all there")
    return wire[at:end], end


def chunks_at(wire: bytes, at: int) -> tuple[bytes, int]:
    """Return a chunked body without its framing, and where that ends."""
    body = b""
    while True:
        line, at = line_at(wire, at)
        match = _CHUNK_LINE.fullmatch(line)
        size = int(match[1], 16) if match is not None else _CHUNK_BYTES_MAX
        if size >= _CHUNK_BYTES_MAX:
            raise DoubtError(line)
        if not size:
            break
        if wire[at + size : at + size + 2] != b"\r\n":
            raise DoubtError("chunk end")
        body += wire[at : at + size]
        at += size + 2
    trailers, at = fields_at(wire, at)
    if any(name in _FRAMING for name, _ in trailers):
        raise DoubtError("framing in trailers")
    return body, at
