"""Content codings: gzip requests, and upstreams that compress although they were asked not to (PROTOCOL 3.4, 5.6).

A request is read, and sent on, decoded. The bytes of an answer pass as they came; this reads them on the side. Only an
event stream is sent on decoded, since events can be neither counted, hidden nor cut inside compressed bytes.
"""

from __future__ import annotations

import zlib

from router.errors import Kind, RequestError

GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
"""Of `zlib.decompressobj`: look at the first bytes for which of the two it is. HTTP's `deflate` is zlib's format."""

GZIP = 16 + zlib.MAX_WBITS
"""Of `zlib.decompressobj`: gzip and nothing else."""

DECODED_MAX = 4 * 1024 * 1024
"""Bytes one read of a compressed stream may become: events are small, and a bomb must not stand in everybody's way."""

KNOWN = frozenset((b"gzip", b"x-gzip", b"deflate"))


def decoded(body: bytes, coding: bytes, limit: int) -> bytes | None:
    """Return a body without its coding; None if the coding is unknown, the body broken, or longer than `limit`."""
    if coding not in KNOWN:
        return None
    decoder = zlib.decompressobj(GZIP_OR_ZLIB)
    try:
        text = decoder.decompress(body, limit)
    except zlib.error:
        return None
    return text if decoder.eof and not decoder.unused_data else None


def broken(body: bytes, coding: bytes, limit: int) -> bool:
    """Whether a body is surely not the gzip that it is said to be: garbage, or cut off in its first `limit` bytes."""
    if coding not in (b"gzip", b"x-gzip"):  # `deflate` is written in two ways, of which we read one
        return False
    decoder = zlib.decompressobj(GZIP)
    try:
        text = decoder.decompress(body, limit)
    except zlib.error:
        return True
    return not decoder.eof and len(text) < limit


def inflated(body: bytes, limit: int) -> bytes:
    """Return a client's gzip body decoded.

    Raises:
        RequestError: CONTENT_ENCODING if it is not gzip or ends early, TOO_LARGE_DECODED beyond `limit` bytes.
    """
    decoder = zlib.decompressobj(GZIP)
    try:
        text = decoder.decompress(body, limit + 1)
    except zlib.error:
        raise RequestError(Kind.CONTENT_ENCODING, "The request body is not the gzip that its head says.") from None
    if len(text) > limit:
        raise RequestError(Kind.TOO_LARGE_DECODED, f"The request body is larger than {limit} bytes when it is decoded.")
    if not decoder.eof or decoder.unused_data:
        raise RequestError(Kind.CONTENT_ENCODING, "The request body is not the gzip that its head says.")
    return text


class StreamDecoder:
    """Decodes a compressed event stream as it comes."""

    def __init__(self, coding: bytes) -> None:
        """`coding` is one of `KNOWN`."""
        assert coding in KNOWN
        self._decoder = zlib.decompressobj(GZIP_OR_ZLIB)

    def feed(self, data: bytes) -> bytes:
        """Return what `data` makes readable.

        Raises:
            ValueError: The data is not of the coding, or makes more than `DECODED_MAX` bytes at once.
        """
        text = b""
        while data:
            if self._decoder.eof:  # RFC 1952 section 2.2: another member follows
                self._decoder = zlib.decompressobj(GZIP_OR_ZLIB)
            try:
                text += self._decoder.decompress(data, DECODED_MAX + 1 - len(text))
            except zlib.error as error:
                raise ValueError("the stream is not of the coding it names") from error
            if self._decoder.unconsumed_tail or len(text) > DECODED_MAX:
                raise ValueError("the stream grows too much when it is decoded")
            data = self._decoder.unused_data
        return text
