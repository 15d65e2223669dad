from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.sse import EventReader, data_of, is_one_line, name_of

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.sse"))
BOM = b"\xef\xbb\xbf"

PIECES = [b"\r", b"\n", b"\r\n", b"\n\n", b"data: x", b"data", b":", b" ", b"event: e", b"id: 1", b"\xc3\xa9", BOM]
STREAMS = st.lists(st.sampled_from(PIECES), max_size=24).map(b"".join)


def read(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events, reader.rest


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(bounds)]


def reference(stream: bytes) -> tuple[list[bytes], bytes]:
    """Cut a whole stream line by line, without any state between reads."""
    stream = stream.removeprefix(BOM)
    events, start, line, at = [], 0, 0, 0
    while at < len(stream):
        bare_cr_before = at == line > start and stream[at - 1 : at] == b"\r"
        if stream[at] == 13 and stream[at + 1 : at + 2] == b"\n" and not bare_cr_before:
            end = at + 2
        elif stream[at] == 10 or (stream[at] == 13 and (at + 1 < len(stream) or bare_cr_before)):
            end = at + 1
        else:
            at += 1
            continue
        if at == line:
            events.append(stream[start:end])
            start = end
        at = line = end
    return events, stream[start:]


def dispatched(stream: bytes) -> list[bytes]:
    """Return the data of every event, as the standard's algorithm has it, one line after the other."""
    lines = stream.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]
    events, data = [], b""
    for line in lines:
        if not line:
            if data:
                events.append(data[:-1])
            data = b""
        elif line.partition(b":")[0] == b"data":
            data += line.partition(b":")[2].removeprefix(b" ") + b"\n"
    return events


@given(STREAMS, st.lists(st.integers(0, 400), max_size=12))
def test_cuts_do_not_matter(stream: bytes, places: list[int]) -> None:
    """However a stream is cut into reads, the same events come out, and they are those of a plain line reader."""
    if not BOM.startswith(stream):
        assert read(cut(stream, places)) == reference(stream)


@given(STREAMS, st.lists(st.integers(0, 400), max_size=12))
def test_no_byte_is_lost(stream: bytes, places: list[int]) -> None:
    """Events and rest together are the stream without its byte order mark."""
    events, rest = read(cut(stream, places))
    assert b"".join(events) + rest == stream.removeprefix(BOM)


@given(STREAMS)
def test_events_are_those_of_the_standard(stream: bytes) -> None:
    """The data of the events is what the standard's own algorithm dispatches."""
    stream += b":"  # says what a final CR was
    events, _ = read([stream])
    assert [data for event in events if (data := data_of(event)) is not None] == dispatched(stream)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_samples_at_every_split_point(sample: Path) -> None:
    """A recorded stream gives the same events wherever one read ends and the next begins, and byte by byte."""
    stream = sample.read_bytes()
    whole = read([stream])
    assert whole == reference(stream)
    assert b"".join(whole[0]) + whole[1] == stream.removeprefix(BOM)
    for place in range(len(stream)):
        assert read([stream[:place], stream[place:]]) == whole
    assert read([stream[place : place + 1] for place in range(len(stream))]) == whole


@pytest.mark.parametrize("sample", ["chat_crlf", "chat_cr", "chat_bom"])
def test_the_line_ends_of_samples_are_genuine(sample: str) -> None:
    """No tool has converted the samples: each has the bytes its name speaks of, and else those of `chat_lf`."""
    folder = Path(__file__).parent / "samples"
    plain = (folder / "chat_lf.sse").read_bytes()
    expected = {
        "chat_crlf": plain.replace(b"\n", b"\r\n"),
        "chat_cr": plain.replace(b"\n", b"\r"),
        "chat_bom": BOM + plain,
    }
    assert (folder / f"{sample}.sse").read_bytes() == expected[sample]


def test_one_event_in_one_read_is_the_same_object() -> None:
    """The usual read is handed on without a copy."""
    reader = EventReader()
    reader.feed(b": opened\n\n")
    event = b'data: {"a":1}\n\n'
    (out,) = reader.feed(event)
    assert out is event


def test_events_in_one_read_come_apart() -> None:
    """Several events in one read are several events, and blank lines between them are blocks of their own."""
    assert read([b"data: 1\n\ndata: 2\n\n", b"data: 3\n\n\ndata: 4\n\n"])[0] == [
        b"data: 1\n\n",
        b"data: 2\n\n",
        b"data: 3\n\n",
        b"\n",
        b"data: 4\n\n",
    ]


def test_crlf_cut_before_its_last_lf() -> None:
    """A CR at the end of a read waits for the LF that may follow, so that an event never ends in half a line end."""
    reader = EventReader()
    assert reader.feed(b"data: x\r\n\r") == []
    assert reader.feed(b"\ndata: y\r\n\r\n") == [b"data: x\r\n\r\n", b"data: y\r\n\r\n"]
    assert reader.feed(b"data: z\n\r") == []
    assert reader.feed(b"data: ") == [b"data: z\n\r"]


def test_bare_crs_do_not_lag() -> None:
    """A stream with bare CRs delivers each event with its last byte, not with the next event."""
    assert read([b"data: x\r\r"]) == ([b"data: x\r\r"], b"")


def test_byte_order_mark_is_dropped_once() -> None:
    """Only the mark at the very beginning goes; a second one is content, and half a mark is none."""
    assert read([BOM + BOM + b"data: x\n\n"])[0] == [BOM + b"data: x\n\n"]
    assert read([b"\xef", b"\xbb", b"\xbfdata: x\n\n"])[0] == [b"data: x\n\n"]
    assert read([b"\xef\xbb", b"data: x\n\n"])[0] == [b"\xef\xbbdata: x\n\n"]
    assert read([b"data: x\n\n", BOM + b"data: y\n\n"])[0] == [b"data: x\n\n", BOM + b"data: y\n\n"]


def test_flush_takes_the_tail_out_once() -> None:
    """The unfinished event is handed out once, at the end of a stream or when it has grown too long."""
    reader = EventReader(limit=8)
    assert reader.feed(b"data: 1\n\ndata: 2") == [b"data: 1\n\n"]
    assert not reader.oversized
    assert reader.feed(b"34") == []
    assert reader.oversized
    assert (reader.flush(), reader.flush(), reader.rest, reader.oversized) == (b"data: 234", b"", b"", False)


def test_flush_at_the_beginning() -> None:
    """Nothing flushed leaves the place of a byte order mark open; half a mark, flushed, is out and closes it."""
    reader = EventReader()
    assert reader.flush() == b""
    assert reader.feed(BOM + b"data: x\n\n") == [b"data: x\n\n"]
    reader = EventReader()
    assert (reader.feed(BOM[:2]), reader.flush()) == ([], BOM[:2])
    assert reader.feed(BOM[2:] + b"data: x\n\n") == [BOM[2:] + b"data: x\n\n"]


@given(STREAMS, STREAMS, st.lists(st.integers(0, 400), max_size=6))
def test_no_byte_is_lost_by_a_flush(before: bytes, after: bytes, places: list[int]) -> None:
    """Bytes that follow a flush come out exactly once, however they are cut."""
    reader = EventReader()
    out = [*reader.feed(before), reader.flush()]
    for piece in cut(after, places):
        out += (events := reader.feed(piece))
        assert all(events)
    assert b"".join(out) + reader.rest == (before + after).removeprefix(BOM)


@pytest.mark.parametrize(
    "head", [b"data: long", b"data: long\n", b"data: long\r\n", b"data: long\r\n\r", b"data: long\r"]
)
def test_events_after_a_flush_are_whole(head: bytes) -> None:
    """The end of a flushed event is recognised, also when it was cut inside its line ends."""
    line_end = b"\r\n" if b"\r" in head else b"\n"
    event = b"data: long" + line_end * 2
    reader = EventReader()
    reader.feed(head)
    assert reader.flush() == head
    assert reader.feed(event[len(head) :] + b"data: next\n\n") == [event[len(head) :], b"data: next\n\n"]
    assert reader.rest == b""


def test_our_own_lines_stand_between_events() -> None:
    """An event that is under way is known to be, also when all that came of it has been flushed."""
    reader = EventReader()
    states = [reader.between_events]
    for piece in (b"data: 1\n\n", b"data: 2", b"", b"\n\n"):
        reader.feed(piece)
        reader.flush()
        states.append(reader.between_events)
    assert states == [True, True, False, False, True]
    reader.feed(b"data: 3\r\n\r")
    assert not reader.between_events


def test_a_flushed_event_may_have_been_whole() -> None:
    """If the byte after a flush shows that the event had ended, nothing is made of it and the next event is whole."""
    reader = EventReader()
    reader.feed(b"data: x\n\r")
    assert reader.flush() == b"data: x\n\r"
    assert reader.feed(b"data: y\n\n") == [b"data: y\n\n"]


def test_long_lines_in_crumbs_are_searched_once() -> None:
    """A line that comes in crumbs is not searched from its beginning for every crumb."""
    # 2 MB in crumbs of 16 bytes: searched anew each time, that would be 130 GB and never end.
    reader = EventReader()
    reader.feed(b"data: ")
    for _ in range(2**17):
        reader.feed(b"0123456789abcdef")
    assert reader.oversized
    (event,) = reader.feed(b"\n\n")
    assert len(event) == 6 + 2**21 + 2


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data: x\r\n\r\n", b"x"),
        (b"data: x\r\r", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x \n\n", b" x "),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data:  a\ndata:b \n\n", b" a\nb "),
        (b"data: a\rdata: b\r\ndata:c\n\n", b"a\nb\nc"),
        (b": hello\nevent: e\ndata: x\nid: 1\n\n", b"x"),
        (b"data: x\nevent: e\n\n", b"x"),
        (b"data\n\n", b""),
        (b"data:\n\n", b""),
        (b"data:\ndata:\n\n", b"\n"),
        (b"data: x", b"x"),
        (b"data: x\ny", b"x"),
        (b"data: x\n", b"x"),
        (b"data: \xe2\x80\xa8\x0b\x0c\x1c\n\n", b"\xe2\x80\xa8\x0b\x0c\x1c"),
        (b": data: x\n\n", None),
        (b"Data: x\n\n", None),
        (b" data: x\n\n", None),
        (b"\n", None),
        (b"", None),
    ],
)
def test_data_of(event: bytes, data: bytes | None) -> None:
    """Data is read as the standard says: any line end, one space dropped, lines joined, other fields in any order."""
    assert data_of(event) == data


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (b"event: error\ndata: {}\n\n", "error"),
        (b"data: {}\r\nevent:error\r\n\r\n", "error"),
        (b"event: a\revent: b\r\r", "b"),
        (b"event\ndata: x\n\n", ""),
        (b"data: event: error\n\n", ""),
        (b"event: \xff\n\n", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_name_of(event: bytes, name: str) -> None:
    """The last `event` field names the event, wherever it stands; text that looks like one does not."""
    assert name_of(event) == name


@pytest.mark.parametrize(
    ("event", "single"),
    [
        (b"data: x\n\n", True),
        (b"data: x\r\n\r\n", True),
        (b"data: x\r\r", False),
        (b"a\nb\n\n", False),
        (b"a\r\nb\r\n\r\n", False),
        (b"a\rb\n\n", False),
        (b"a\rb\r\n\r\n", False),
        (b"a\n\r\n", False),
        (b"a", False),
        (b"a\nb", False),
        (b"a\r\nb", False),
        (b"", False),
    ],
)
def test_is_one_line(event: bytes, single: bool) -> None:
    """Only an event of one line, in LF or CRLF, counts: nothing can hide beside its first field."""
    assert is_one_line(event) is single
