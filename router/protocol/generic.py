"""What can be read in answers of which nothing is known but that they are JSON (PROTOCOL 2.5, 9.3).

Embeddings, reranks, moderations, videos, pinned families, and endpoints that this router has never heard of. Any JSON
value may be an answer and any event a piece of one; only usage, an error and `[DONE]` are looked for.
"""

from __future__ import annotations

from typing import Any

import msgspec

from router.protocol import sse
from router.protocol.facts import BodyFacts, ChunkFacts, ErrorFacts, Meaning, Reading, last_report
from router.protocol.patient_json import patient_json, read_object
from router.protocol.upstream_errors import error_of, failure_in
from router.protocol.usage import of_generic

_ANSWERS = ("data", "results", "choices")


def plain_event(event: bytes) -> bool:
    """Say whether a whole event certainly is content and nothing else. False means: ask `read_chunk`.

    A quote inside a JSON string is escaped: `"usage"` and `"error"` cannot be part of a text.
    """
    return (
        event.startswith(b"data: {")
        and event.rfind(b'"usage"') < 0
        and event.rfind(b'"error"') < 0
        and sse.is_one_line(event)
    )


def read_chunk(event: bytes) -> ChunkFacts:
    """Return everything the router reads in a whole event. Data that is no JSON is content like any other."""
    name, data = sse.name_and_data(event)
    said = None if data is None else read_object(data)
    if name == "error" or (said is not None and _is_error(said)):
        return ChunkFacts(Meaning.ERROR, error=error_of(said))
    if data is None or not data.strip():
        return ChunkFacts(Meaning.COMMENT)
    if data.strip() == b"[DONE]":
        return ChunkFacts(Meaning.DONE)
    usage = None if said is None else _usage_of(said)
    meaning = Meaning.CONTENT if usage is None else Meaning.CONTENT | Meaning.USAGE
    return ChunkFacts(meaning, usage, output_deltas=1)


def _is_error(said: dict[str, Any]) -> bool:
    return bool(said.get("error")) or "error" in (said.get("object"), said.get("type"))


def _usage_of(said: dict[str, Any]) -> dict[str, Any] | None:
    usage = said.get("usage")
    for holder in ("response", "x_groq"):
        if not isinstance(usage, dict) and isinstance(inner := said.get(holder), dict):
            usage = inner.get("usage")
    return usage if isinstance(usage, dict) else None


def _with_meta(usage: dict[str, Any] | None, meta: Any) -> dict[str, Any] | None:
    """Return the usage of a body, with Cohere's counts of a rerank beside it if there are any."""
    if not isinstance(meta, dict):
        return usage
    return {"meta": meta} if usage is None else {"usage": usage, "meta": meta}


class _Body(msgspec.Struct, gc=False):
    """The members that are read in the usual answer; all others are skipped undecoded: embeddings are long."""

    id: Any = None
    object: Any = None
    type: Any = None
    usage: Any = None
    error: Any = None
    meta: Any = None
    x_groq: Any = None


_decode_body = msgspec.json.Decoder(_Body).decode
_decode = msgspec.json.Decoder().decode


def read_body(body: bytes) -> BodyFacts:
    """Return what the router reads in the body of a 2xx answer: any JSON value, for TEI's reranks are a bare list."""
    try:
        read = _decode_body(body)
    except (ValueError, RecursionError):
        return _read_odd_body(body)
    usage = _with_meta(_usage_of({"usage": read.usage, "x_groq": read.x_groq}), read.meta)
    failed = read.error is not None or "error" in (read.object, read.type)
    error = _failure(read_object(body) or {}) if failed else None
    return BodyFacts(True, read.id if isinstance(read.id, str) else "", usage, error)


def _read_odd_body(body: bytes) -> BodyFacts:
    """Decode all of a body that is no object, or that the strict decoder refuses."""
    try:
        answer = _decode(body)
    except (ValueError, RecursionError):
        answer = patient_json(body)
        if answer is None:
            return BodyFacts(is_object=False)
    if not isinstance(answer, dict):
        return BodyFacts(is_object=True, error=_failure_in_list(answer))
    identity = answer.get("id")
    return BodyFacts(
        is_object=True,
        id=identity if isinstance(identity, str) else "",
        usage=_with_meta(_usage_of(answer), answer.get("meta")),
        error=_failure(answer),
    )


def _failure(answer: dict[str, Any]) -> ErrorFacts | None:
    """Return what went wrong. With a job that can be asked for, nothing did: that a video failed is the answer."""
    is_job = isinstance(answer.get("id"), str) and isinstance(answer.get("object"), str)
    return None if is_job and answer["object"] != "error" else failure_in(answer, _ANSWERS)


def _failure_in_list(answer: Any) -> ErrorFacts | None:
    """Return the error that Gemini wraps in a list of its own."""
    if isinstance(answer, list) and len(answer) == 1 and isinstance(answer[0], dict) and answer[0].get("error"):
        return error_of(answer)
    return None


JSON = Reading(
    plain=plain_event, chunk=read_chunk, body=read_body, account=of_generic, merge=last_report, open_ended=True
)
"""Embeddings, reranks, moderations, and every endpoint that is not known better."""
