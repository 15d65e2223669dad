"""Compressed answers are read on the side, within bounds, wherever their bytes were cut."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.coding import DECODED_MAX, KNOWN, StreamDecoder, decoded

STREAM = (Path(__file__).parent / "samples" / "chat_lf.sse").read_bytes()
CODED = {b"gzip": gzip.compress(STREAM), b"x-gzip": gzip.compress(STREAM), b"deflate": zlib.compress(STREAM)}
codings = pytest.mark.parametrize("coding", sorted(KNOWN))


def test_every_coding_is_tested() -> None:
    """The bodies above are of all codings that are read."""
    assert set(CODED) == KNOWN


@codings
def test_a_whole_body(coding: bytes) -> None:
    """A body is what it was before it was coded."""
    assert decoded(CODED[coding], coding, len(STREAM)) == STREAM


@codings
def test_a_body_has_a_bound(coding: bytes) -> None:
    """A body that would be longer than allowed, by one byte or by a thousand times, is not decoded."""
    assert decoded(CODED[coding], coding, len(STREAM) - 1) is None
    assert decoded(zlib.compress(bytes(10_000_000)), coding, 10_000) is None


@codings
def test_half_a_body_is_none(coding: bytes) -> None:
    """Wherever a body was cut off, it is not taken for a shorter one."""
    whole = CODED[coding]
    assert [decoded(whole[:end], coding, DECODED_MAX) for end in range(len(whole))] == [None] * len(whole)


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"identity", b"gzip, gzip", b"GZIP", b""])
def test_other_codings_are_not_read(coding: bytes) -> None:
    """Of a coding that is not known nothing is claimed, whatever the bytes look like."""
    assert decoded(CODED[b"gzip"], coding, DECODED_MAX) is None


@given(st.binary())
def test_no_bytes_raise(body: bytes) -> None:
    """Bytes of no coding are no body, and nothing is raised but what a stream's decoder promises."""
    assert decoded(b"\x00" + body, b"gzip", DECODED_MAX) is None
    decoder = StreamDecoder(b"gzip")
    with pytest.raises(ValueError, match="coding"):
        decoder.feed(b"\x00" + body + b"\x00")


@codings
def test_a_stream_split_anywhere(coding: bytes) -> None:
    """Cut in two at each place, or into single bytes, a stream is read as if it had come whole."""
    whole = CODED[coding]
    for cut in range(len(whole) + 1):
        decoder = StreamDecoder(coding)
        assert decoder.feed(whole[:cut]) + decoder.feed(whole[cut:]) == STREAM
    decoder = StreamDecoder(coding)
    assert b"".join(decoder.feed(whole[at : at + 1]) for at in range(len(whole))) == STREAM


def test_a_stream_is_readable_as_it_comes() -> None:
    """An event that the upstream has flushed is there at once, not when the stream ends."""
    coder = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    decoder = StreamDecoder(b"gzip")
    for event in (b"data: 1\n\n", b"data: 2\n\n"):
        assert decoder.feed(coder.compress(event) + coder.flush(zlib.Z_SYNC_FLUSH)) == event
    assert decoder.feed(coder.flush()) == b""


def test_a_broken_stream_is_told() -> None:
    """Bytes that are not of the coding raise, at the beginning and in the middle."""
    whole = CODED[b"gzip"]
    middle = len(whole) // 2
    for wire in (b"data: 1\n\n", whole[:middle] + bytes(100) + whole[middle:]):
        with pytest.raises(ValueError, match="not of the coding"):
            StreamDecoder(b"gzip").feed(wire)


@pytest.mark.parametrize(("size", "fits"), [(DECODED_MAX, True), (DECODED_MAX + 1, False), (64 * DECODED_MAX, False)])
def test_one_read_of_a_stream_has_a_bound(*, size: int, fits: bool) -> None:
    """What one read may become has a bound: a few kilobytes cannot become hundreds of megabytes."""
    coder = zlib.compressobj(1, wbits=16 + zlib.MAX_WBITS)
    wire = b"".join(coder.compress(bytes(DECODED_MAX)) for _ in range(size // DECODED_MAX))
    wire += coder.compress(bytes(size % DECODED_MAX)) + coder.flush()
    decoder = StreamDecoder(b"gzip")
    if fits:
        assert len(decoder.feed(wire)) == size
    else:
        with pytest.raises(ValueError, match="grows too much"):
            decoder.feed(wire)


def test_a_long_stream_has_none() -> None:
    """The bound is that of one read: a stream as a whole may become as long as it likes."""
    coder = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    decoder = StreamDecoder(b"gzip")
    size = 0
    for _ in range(3):
        size += len(decoder.feed(coder.compress(bytes(DECODED_MAX - 1000)) + coder.flush(zlib.Z_SYNC_FLUSH)))
    assert size == 3 * (DECODED_MAX - 1000)
