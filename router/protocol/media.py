"""What the events and bodies of images and audio mean (PROTOCOL 2.3).

Pictures and sound are base64 inside JSON, up to tens of megabytes: they are skipped undecoded. A member of an
unexpected type reads as if it were absent, and no input makes a function raise. Bare sound and text are not read.
"""

from __future__ import annotations

from typing import Any

import msgspec

from router.protocol import openai, sse
from router.protocol.facts import BodyFacts, ChunkFacts, Meaning, Reading, kind_of, last_report
from router.protocol.patient_json import read_object, reader
from router.protocol.upstream_errors import error_of, failure_in
from router.protocol.usage import of_generic, of_media

_PIECE = (".partial_image", ".audio.delta", ".text.delta", ".text.segment")
_WHOLE = ".text.done"
_PICTURE = ("image_generation.completed", "image_edit.completed")
_SOUND_ENDS = ".audio.done"
"""Unlike the other last events it holds nothing of the answer."""

_PLAIN = tuple(
    b'data: {"type":' + space + b'"' + name + b'",'
    for name in (b"speech.audio.delta", b"transcript.text.delta")
    for space in (b"", b" ")
)
_TYPE_AT = len(b"data: {")


def plain_delta(event: bytes) -> bool:
    """Say whether a whole event certainly is a piece of sound or of a transcript. False means: ask `read_chunk`.

    A quote inside a JSON string is escaped: what `"type"` and `"usage"` are looked for in cannot be text.
    """
    return (
        event.startswith(_PLAIN)
        and event.rfind(b'"type"') == _TYPE_AT
        and event.rfind(b'"usage"') < 0
        and event.rfind(b'"error"') < 0
        and event.rfind(b'"choices"') < 0
        and event.rstrip()[-1:] == b"}"
        and sse.is_one_line(event)
    )


class _Event(msgspec.Struct, gc=False):
    type: Any = None
    object: Any = None
    usage: Any = None
    error: Any = None
    choices: Any = None


_read_event = reader(_Event)


def read_chunk(event: bytes) -> ChunkFacts:
    """Return everything the router reads in a whole event."""
    name, data = sse.name_and_data(event)
    said = None if data is None else _read_event(data)
    if data is None or said is None or isinstance(said.choices, list):
        # A comment, `[DONE]`, garbage; or vLLM's transcript, which comes as chunks of a chat.
        return openai.read_chunk(event)
    kind = said.type if isinstance(said.type, str) else name
    if said.error or "error" in (name, kind, said.object):
        return ChunkFacts(Meaning.ERROR, error=error_of(read_object(data)))
    return _facts(kind, said.usage if isinstance(said.usage, dict) else None)


def _facts(kind: str, usage: dict[str, Any] | None) -> ChunkFacts:
    meaning = Meaning.USAGE if usage is not None else Meaning(0)
    if kind.endswith(_PIECE):
        return ChunkFacts(Meaning.CONTENT | meaning, usage, output_deltas=1)
    if kind in _PICTURE:
        return ChunkFacts(Meaning.CONTENT | Meaning.FINISH | meaning, usage or {"images": 1}, finished=(0,))
    if kind.endswith(_WHOLE):
        return ChunkFacts(Meaning.CONTENT | Meaning.FINISH | meaning, usage, finished=(0,))
    if kind.endswith(_SOUND_ENDS):
        return ChunkFacts(Meaning.FINISH | meaning, usage, finished=(0,))
    return ChunkFacts(meaning or Meaning.OTHER, usage)


def unread(beginning: bytes) -> Meaning:
    """Return what an event means that is too long to be held; nothing if it does not say at once what it is."""
    kind = kind_of(beginning)
    if not kind:
        return Meaning(0)
    ends = kind in _PICTURE or kind.endswith((_WHOLE, _SOUND_ENDS))
    return Meaning.CONTENT | Meaning.FINISH if ends else Meaning.CONTENT


def merge_pictures(so_far: dict[str, Any] | None, report: dict[str, Any]) -> dict[str, Any]:
    """Let the last report count, but add up pictures that came without one: each of them is an event of its own."""
    if so_far is not None and report == {"images": 1}:
        counted = so_far.get("images", 0)
        return so_far | {"images": counted + 1} if isinstance(counted, int) else so_far
    return report


class _Body(msgspec.Struct, gc=False):
    """The members that are read in the usual answer; all others are skipped undecoded."""

    id: Any = None
    object: Any = None
    type: Any = None
    usage: Any = None
    error: Any = None


class _Picture(msgspec.Struct, gc=False):
    """An entry of `data`, of which it only matters that it is there."""


class _Pictures(_Body, gc=False):
    data: list[_Picture] | None = None


_read_members = reader(_Body)
_decode_pictures = msgspec.json.Decoder(_Pictures).decode


def read_pictures(body: bytes) -> BodyFacts:
    """Return what the router reads in the body of images. Without usage, that is how many they are (PROTOCOL 2.3)."""
    try:
        read = _decode_pictures(body)
    except (ValueError, RecursionError):
        facts = read_body(body)
        data = (read_object(body) or {}).get("data")
        images = len(data) if isinstance(data, list) else 0
    else:
        facts = _body_facts(read, body)
        images = len(read.data or ())
    return facts._replace(usage=facts.usage or ({"images": images} if images else None), images=images)


def read_body(body: bytes) -> BodyFacts:
    """Return what the router reads in a JSON body of audio."""
    read = _read_members(body)
    return BodyFacts(is_object=False) if read is None else _body_facts(read, body)


def _body_facts(read: _Body, body: bytes) -> BodyFacts:
    failed = read.error is not None or "error" in (read.object, read.type)
    return BodyFacts(
        is_object=True,
        id=read.id if isinstance(read.id, str) else "",
        usage=read.usage if isinstance(read.usage, dict) else None,
        error=failure_in(read_object(body) or {}, ("data", "text")) if failed else None,
    )


IMAGES = Reading(
    plain=plain_delta, chunk=read_chunk, body=read_pictures, account=of_media, merge=merge_pictures, unread=unread
)
"""Generations, edits and variations. A stream has no terminal marker, but is whole once a picture is completed."""
SPEECH = Reading(
    plain=plain_delta, chunk=read_chunk, body=read_body, account=of_media, merge=last_report, unread=unread
)
"""Speech that is asked for as events; as bytes it is not read."""
TRANSCRIPTIONS = Reading(
    plain=plain_delta, chunk=read_chunk, body=read_body, account=of_generic, merge=last_report, unread=unread
)
"""Transcriptions and translations. vLLM reports their usage under the names of a chat."""
