"""What an upstream's error says, in any of the shapes that are met (PROTOCOL 7.3)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

from router.protocol import sse
from router.protocol.facts import ErrorFacts
from router.protocol.patient_json import patient_json, read_json

MESSAGE_CHARS_MAX = 2048
"""Of an upstream's error message so much is kept."""

_WORD_CHARS_MAX = 128
"""Of its code and type likewise."""


_decode = msgspec.json.Decoder().decode


def read_error(status: int, content_type: str, body: bytes) -> ErrorFacts:
    """Return what an upstream's error answer says, in any of the shapes of PROTOCOL 7.3; never raises."""
    if content_type.lstrip().lower().startswith("text/event-stream"):
        # Asked for a stream, some send the error as an event of one. That is no body for a client: not conforming.
        return msgspec.structs.replace(error_of(read_json(sse.data_of(body) or b""), status), conforming=False)
    try:
        return error_of(_decode(body), status)
    except (ValueError, RecursionError):
        return msgspec.structs.replace(error_of(patient_json(body), status), conforming=False)


def error_of(answer: Any, status: int = 0) -> ErrorFacts:
    """Return what a decoded error says; without a message of its own it gets the phrase of `status`.

    The shapes: `{"error": {…}}`, `{"error": "text"}`, flat `{"message", "type", "code"}` (Mistral, SGLang),
    `{"detail": …}` (FastAPI), and a list whose first element is one of these (Gemini).
    """
    listed = isinstance(answer, list)
    if listed:
        answer = answer[0] if answer else None
    if not isinstance(answer, dict):
        return ErrorFacts(message=phrase(status))
    error = answer.get("error")
    facts = error if isinstance(error, dict) else answer
    message = _first_text(facts.get("message"), error, answer.get("message"), answer.get("detail"))
    return ErrorFacts(
        code=_word(facts.get("code")),
        type=_word(facts.get("type")) or _word(facts.get("status")),
        message=message[:MESSAGE_CHARS_MAX] or phrase(status),
        conforming=facts is error and not listed,
        anthropic=facts is error and not listed and answer.get("type") == "error",
    )


def failure_in(answer: dict[str, Any], answered: tuple[str, ...]) -> ErrorFacts | None:
    """Return what went wrong with an answer that came as a success; None if nothing did (PROTOCOL 4).

    Nothing did, either, if one of the members named in `answered` holds an answer all the same.
    """
    failed = answer.get("error") or "error" in (answer.get("object"), answer.get("type"))
    if not failed or any(map(answer.get, answered)):
        return None
    return error_of(answer)


def _first_text(*candidates: Any, depth: int = 3) -> str:
    """Return the first candidate that is text, or that is FastAPI's list or object and holds some not too deep."""
    for candidate in candidates:
        if isinstance(candidate, str) and candidate.strip():
            return candidate.strip()
        if isinstance(candidate, dict) and depth:
            members = map(candidate.get, ("message", "msg", "error"))
            if text := _first_text(*members, depth=depth - 1):
                return text
        if isinstance(candidate, list) and (text := "; ".join(filter(None, map(_fault, candidate[:8])))):
            return text
    return ""


def _fault(entry: Any) -> str:
    """Return one entry of FastAPI's `detail` list, with its place: `body.messages: Field required`."""
    if not isinstance(entry, dict):
        return entry if isinstance(entry, str) else ""
    place = entry.get("loc")
    where = ".".join(map(_word, place[:16])) if isinstance(place, list) else ""
    what = entry.get("msg")
    return ": ".join(filter(None, (where, what if isinstance(what, str) else "")))


def _word(value: Any) -> str:
    """Return a code or type as text: strings and numbers, whatever else is nothing."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)[:_WORD_CHARS_MAX]


def phrase(status: int) -> str:
    """Return words for a status, or for no status at all (0)."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"HTTP status {status}" if status else "the upstream reported an error"
