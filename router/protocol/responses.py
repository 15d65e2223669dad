"""What the events and bodies of OpenAI's Responses mean (PROTOCOL 2.2).

New events appear every month, so only those that begin and end an answer are told apart; every other `response.…` event
is a piece of it. A member of an unexpected type reads as if it were absent, and no input makes a function raise.
"""

from __future__ import annotations

from typing import Any

import msgspec

from router.protocol import sse
from router.protocol.facts import BodyFacts, ChunkFacts, ErrorFacts, Meaning, Reading, kind_of, last_report
from router.protocol.patient_json import members, read_object, reader
from router.protocol.upstream_errors import error_of, failure_in
from router.protocol.usage import of_responses

_OPENING = ("response.created", "response.queued", "response.in_progress")
_COMPLETE = ("response.completed", "response.incomplete")
_ALIVE = ("ping", "keepalive")

_NAME = b"event: response."
_NAME_AT = len(b"event: ")
_DELTA = b".delta"
_TYPE = b'"type":'


def plain_delta(event: bytes) -> bool:
    r"""Say whether a whole event certainly is one of the `response.….delta` events. False means: ask `read_chunk`.

    Its two lines must name the same event, and `"type"` must occur once: a quote inside a JSON string is escaped, so
    that text cannot hold it. That the data is valid JSON is not looked at: it would be relayed all the same.
    """
    # HOT: once per streamed chunk, 1.1 us for 250 bytes; `read_chunk` takes 3.3.
    if not event.startswith(_NAME) or 13 in event:
        return False
    line = event.find(b"\n")
    if not event.endswith(_DELTA, 0, line) or not event.startswith(b"data: {", line + 1):
        return False
    if event.find(b"\n", line + 1) != len(event) - 2 or event[-3:] != b"}\n\n":
        return False
    at = event.find(_TYPE, line) + len(_TYPE)
    if at < len(_TYPE) or event.rfind(b'"type"') != at - len(_TYPE):
        return False
    name = b'"' + event[_NAME_AT:line] + b'"'
    return event.startswith((name, b" " + name), at)


def read_chunk(event: bytes) -> ChunkFacts:
    """Return everything the router reads in a whole event."""
    name, data = sse.name_and_data(event)
    said = None if data is None else _read_event(data)
    if said is None:
        return _wordless(name, data)
    kind = said.type if isinstance(said.type, str) else name
    if name == "error" or kind == "error" or (said.error and not kind.startswith("response.")):
        return ChunkFacts(Meaning.ERROR | Meaning.DONE, error=error_of(read_object(data or b"")))
    return _facts(kind, said.response or _Response())


def _wordless(name: str, data: bytes | None) -> ChunkFacts:
    """Read an event without an object."""
    if name == "error":
        return ChunkFacts(Meaning.ERROR | Meaning.DONE, error=error_of(None))
    if data is None:
        return ChunkFacts(Meaning.COMMENT)
    # OpenAI sends none, and where an imitator does, the terminal event has ended the answer before.
    return ChunkFacts(Meaning.DONE if data.strip() == b"[DONE]" else Meaning.BAD)


def _facts(kind: str, response: _Response) -> ChunkFacts:
    identity = response.id if isinstance(response.id, str) else ""
    usage = response.usage if isinstance(response.usage, dict) else None
    reported = Meaning.USAGE if usage is not None else Meaning(0)
    if kind in _COMPLETE:
        meaning = Meaning.CONTENT | Meaning.FINISH | Meaning.DONE | reported
        return ChunkFacts(meaning, usage, finished=(0,), id=identity)
    if kind == "response.failed":
        return ChunkFacts(
            Meaning.ERROR | Meaning.DONE | reported, usage, error_of({"error": response.error}), id=identity
        )
    if kind in _ALIVE:
        return ChunkFacts(Meaning.COMMENT)
    if kind in _OPENING or not kind.startswith("response."):
        return ChunkFacts(reported or Meaning.OTHER, usage, id=identity, pending=response.background is True)
    return ChunkFacts(Meaning.CONTENT, output_deltas=int(kind.endswith(".delta")))


def unread(beginning: bytes) -> Meaning:
    """Return what an event means that is too long to be held: the last one holds all pictures of the answer."""
    return Meaning.FINISH | Meaning.DONE if kind_of(beginning) in _COMPLETE else Meaning.OTHER


class _Response(msgspec.Struct, gc=False):
    """What is read in a response, whether it is a member of an event or a body; all else is skipped undecoded."""

    id: Any = None
    object: Any = None
    status: Any = None
    usage: Any = None
    error: Any = None
    background: Any = None


class _Event(msgspec.Struct, gc=False):
    type: Any = None
    error: Any = None
    response: _Response | None = None


_decode_event = msgspec.json.Decoder(_Event).decode


def _read_event(data: bytes) -> _Event | None:
    """Decode an event's object. The first and the last event of an answer hold all of its request, and the answer."""
    try:
        return _decode_event(data)
    except (ValueError, RecursionError):
        said = read_object(data)
    if said is None:
        return None
    response = said.get("response")
    event = members(_Event, said)
    event.response = members(_Response, response) if isinstance(response, dict) else None
    return event


_read_response = reader(_Response)


def read_body(body: bytes) -> BodyFacts:
    """Return what the router reads in the body of a 2xx answer. A count of input tokens is an answer without usage."""
    read = _read_response(body)
    if read is None:
        return BodyFacts(is_object=False)
    return BodyFacts(
        is_object=True,
        id=read.id if isinstance(read.id, str) else "",
        usage=read.usage if isinstance(read.usage, dict) else None,
        error=_failure(read, body),
        pending=read.status in ("queued", "in_progress"),
    )


def _failure(read: _Response, body: bytes) -> ErrorFacts | None:
    """Return what went wrong with an answer that says it failed, or that is an error and no response."""
    if not read.error and read.object != "error":
        return None
    if read.object == "response" and read.status != "failed":
        return None
    return failure_in(read_object(body) or {}, ())


RESPONSES = Reading(
    plain=plain_delta,
    chunk=read_chunk,
    body=read_body,
    account=of_responses,
    merge=last_report,
    unread=unread,
)
"""Responses, their compaction, the counting of their input tokens, and decisions."""
