"""Event streams: how they are cut into events, and what every dialect reads in these (PROTOCOL 5).

The judge cuts by the letter of the WHATWG's grammar, line by line.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec

from router.protocol import anthropic, generic, media, openai, responses, sse
from router.protocol.facts import ChunkFacts, Meaning, Reading
from router.protocol.sse import EventReader
from router.protocol.upstream_errors import read_error
from tests.fuzz.pieces import cut, ways

if TYPE_CHECKING:
    from router.events import Usage

BYTES_MAX = 2048
WORDS = (
    b"data: ", b"data:", b"event: ", b"event: error", b"id: 1", b": ka", b"[DONE]", b"data: [DONE]", b"\n\n", b"\r\r",
    b"\r\n\r\n", b"\xef\xbb\xbf", b'{"choices":[{"delta":{"content":"x"},"index":0,"finish_reason":null}]}',
    b'"finish_reason":null', b'"finish_reason":"stop"', b'"usage":null', b'"usage":', b'"error":', b'"object":"error"',
    b"finish_reason", b"usage", b"error", b"choices", b"delta", b"content", b"index", b"x_groq", b"prompt_tokens",
    b"completion_tokens", b"total_tokens", b"prompt_tokens_details", b"cached_tokens", b"input_tokens",
    b"output_tokens", b"message", b"message_start", b"message_delta", b"message_stop", b"content_block_delta",
    b"content_block_start", b"content_block", b"stop_reason", b"type", b"text", b"ping", b"cache_read_input_tokens",
    b"iterations", b"response", b"response.created", b"response.completed", b"response.failed",
    b"response.output_text.delta", b"status", b"background", b"image_generation.completed",
    b"image_generation.partial_image", b"speech.audio.delta", b"speech.audio.done", b"transcript.text.delta",
    b"transcript.text.done", b"b64_json", b"images", b"seconds", b"meta", b"billed_units", b"search_units", b"data",
    b"code", b"detail", b"loc", b"msg",
)  # fmt: skip

READINGS: dict[str, Reading] = {
    "chat": openai.CHAT,
    "messages": anthropic.MESSAGES,
    "responses": responses.RESPONSES,
    "images": media.IMAGES,
    "speech": media.SPEECH,
    "transcriptions": media.TRANSCRIPTIONS,
    "generic": generic.JSON,
}
_BOM = b"\xef\xbb\xbf"
_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r)")
_LIMIT = 64
_ENDS = Meaning.FINISH | Meaning.USAGE | Meaning.USAGE_ONLY | Meaning.ERROR | Meaning.DONE
_ALONE = (Meaning.OTHER, Meaning.BAD, Meaning.COMMENT)


def check(data: bytes) -> None:
    """Cut the stream in several ways, and read each event in every dialect."""
    events, rest = _read([data])
    stream = data.removeprefix(_BOM)
    assert b"".join(events) + rest == stream
    for pieces in ways(data):
        assert _read(pieces) == (events, rest), "how it came changes what it is"
    _check_grammar(data, events)
    _check_flush(data, events)
    _check_limit(data)
    for name, reading in READINGS.items():
        _check_reading(name, reading, [*events, rest], data)
    for content_type in ("application/json", "text/event-stream; charset=utf-8", ""):
        read_error(500, content_type, data)


def _read(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events, reader.flush()


def _check_grammar(data: bytes, events: list[bytes]) -> None:
    """Name and data of every event are those that the grammar gives it."""
    said = [(sse.name_of(event), sse.data_of(event)) for event in events]
    for event, (name, value) in zip(events, said, strict=True):
        assert sse.name_and_data(event) == (name, value)
    with_data = [each for each in said if each[1] is not None]
    # A CR at the very end may be half of a line end: whether an event ends there is not known yet.
    assert with_data == dispatched(data) or (data[-1:] == b"\r" and with_data == dispatched(data[:-1]))


def dispatched(data: bytes) -> list[tuple[str, bytes]]:
    """Name and data of every event with data, by the WHATWG's "9.2.6 Interpreting an event stream"."""
    found: list[tuple[str, bytes]] = []
    name = ""
    lines: list[bytes] = []
    for line, _ in _LINE.findall(data.removeprefix(_BOM)):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if lines:
                found.append((name, b"\n".join(lines)))
            name, lines = "", []
        elif field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return found


def _check_flush(data: bytes, events: list[bytes]) -> None:
    """An event that is let go in its middle loses no byte, and the ones behind it are whole."""
    mark = len(data) - len(data.removeprefix(_BOM))
    ends = set(accumulate(map(len, events), initial=mark))
    for at in range(3, len(data), max(1, len(data) // 8)):
        reader = EventReader()
        out = reader.feed(data[:at])
        tail = reader.flush()
        behind = reader.feed(data[at:])
        assert b"".join((*out, tail, *behind, reader.flush())) == data[mark:]
        if tail[-1:] == b"\r":
            continue  # a blank line may have ended with it: that cannot be known yet
        seen = {mark, *accumulate(map(len, out), initial=mark), *accumulate(map(len, behind), initial=at)}
        assert seen | {at} == ends | {at}


def _check_limit(data: bytes) -> None:
    """No more is held than the limit and what came last."""
    reader = EventReader(_LIMIT)
    for piece in cut(data, list(range(16, len(data), 16))):
        reader.feed(piece)
        assert reader.oversized is (len(reader.rest) > _LIMIT)
        if reader.oversized:
            reader.flush()
            assert not reader.rest


def _check_reading(name: str, reading: Reading, events: list[bytes], data: bytes) -> None:
    merged: dict[str, Any] | None = None
    for event in events:
        facts = reading.chunk(event)
        _check_chunk(facts)
        reading.unread(event[:256])
        if facts.usage is not None:
            merged = reading.merge(merged, facts.usage)
            _check_usage(reading.account(merged))
        if event and reading.plain(event) and _is_sound(event):
            assert not facts.meaning & _ENDS, f"{name}: {event!r} is no plain piece, but {facts.meaning!r}"
    body = reading.body(data)
    assert body.error is None or body.is_object
    if body.usage is not None:
        _check_usage(reading.account(body.usage))


def _check_chunk(facts: ChunkFacts) -> None:
    meaning = facts.meaning
    assert meaning
    assert all(meaning == alone for alone in _ALONE if meaning & alone), meaning
    assert facts.usage is not None or not meaning & Meaning.USAGE
    assert (facts.error is not None) is bool(meaning & Meaning.ERROR)
    if meaning & Meaning.USAGE_ONLY:
        assert meaning & (Meaning.USAGE | Meaning.ERROR) == Meaning.USAGE
    assert facts.output_deltas >= 0


def _check_usage(usage: Usage | None) -> None:
    """Counts are whole and not negative, and thinking is a part of what was written."""
    if usage is None:
        return
    for field, value in msgspec.structs.asdict(usage).items():
        if field != "clamped":
            assert value >= 0, f"{field}: {value}"
    assert usage.reasoning <= usage.output


def _is_sound(event: bytes) -> bool:
    """Its data is JSON as serialisers write it: no name twice, none spelt with escapes."""
    data = sse.data_of(event) or b""
    if b"\\u" in data:
        return False
    try:
        json.loads(data.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return False
    return True


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name comes twice")
    return members
