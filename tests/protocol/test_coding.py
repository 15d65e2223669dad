"""Compressed requests are decoded, compressed answers read on the side, within bounds, wherever they were cut."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import Kind, RequestError
from router.protocol.coding import DECODED_MAX, KNOWN, StreamDecoder, broken, decoded, inflated

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


def test_a_broken_body_is_known() -> None:
    """What is surely no gzip, or half of one, is told from what is too long to be looked at and from other codings."""
    whole = CODED[b"gzip"]
    assert all(broken(whole[:end], b"gzip", DECODED_MAX) for end in range(len(whole)))
    assert broken(STREAM, b"x-gzip", DECODED_MAX)
    assert not broken(whole, b"gzip", DECODED_MAX)
    assert not broken(whole[:-1], b"gzip", 10)
    assert not any(broken(STREAM, coding, DECODED_MAX) for coding in (b"br", b"deflate", b""))


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


REQUEST = b'{"model":"m","messages":[{"role":"user","content":"hello hello hello"}]}'
PACKED = gzip.compress(REQUEST)


def refusal(body: bytes, limit: int = DECODED_MAX) -> Kind:
    with pytest.raises(RequestError) as caught:
        inflated(body, limit)
    return caught.value.kind


@given(st.binary(max_size=200), st.integers(0, 9))
def test_a_request_is_what_it_was_before_it_was_packed(body: bytes, level: int) -> None:
    """Whatever the client packed, and however well, comes out again, the empty body too."""
    assert inflated(gzip.compress(body, level), len(body)) == body


def test_a_gzip_head_may_hold_a_name() -> None:
    """The optional fields of the format (RFC 1952 section 2.3), which `gzip` on a command line writes, are read."""
    named = PACKED[:3] + b"\x08" + PACKED[4:10] + b"body.json\0" + PACKED[10:]
    assert inflated(named, len(REQUEST)) == REQUEST


def test_half_a_request_is_refused() -> None:
    """Wherever a packed body was cut off, its trailer included, it is not taken for a shorter request."""
    assert {refusal(PACKED[:end]) for end in range(len(PACKED))} == {Kind.CONTENT_ENCODING}


@pytest.mark.parametrize(
    "body",
    [
        REQUEST,
        zlib.compress(REQUEST),
        PACKED + b"x",
        PACKED + PACKED,
        PACKED[:-8] + bytes(8),
        PACKED[:-4] + bytes(4),
        PACKED[:12] + b"\xff\xff" + PACKED[14:],
    ],
    ids=["plain", "zlib", "bytes behind it", "two of them", "wrong sum", "wrong length", "broken inside"],
)
def test_what_is_not_one_gzip_is_refused(body: bytes) -> None:
    """Two readers must not see two requests in it, so nothing but one whole member is taken."""
    assert refusal(body) is Kind.CONTENT_ENCODING


def test_a_request_has_a_bound_when_it_is_decoded() -> None:
    """The bound is exact, and a body that would become a thousand times as long is refused like one a byte too long."""
    assert inflated(PACKED, len(REQUEST)) == REQUEST
    assert refusal(PACKED, len(REQUEST) - 1) is Kind.TOO_LARGE_DECODED
    bomb = gzip.compress(bytes(10_000_000))
    tracemalloc.start()
    try:
        assert refusal(bomb, 10_000) is Kind.TOO_LARGE_DECODED
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=100) | st.binary(max_size=40).map(lambda tail: PACKED[:20] + tail))
def test_any_bytes_are_inflated_or_refused(body: bytes) -> None:
    """Whatever bytes come, there is a body within the bound or a refusal of one of two kinds."""
    try:
        text = inflated(body, 50)
    except RequestError as fault:
        kind = fault.kind
    else:
        assert len(text) <= 50
        return
    assert kind in {Kind.CONTENT_ENCODING, Kind.TOO_LARGE_DECODED}
