"""W3C Trace Context: what a client's `traceparent` says, and the span of ours that hangs below it.

Without tracing both headers pass as they came. With it each attempt of a sampled request carries a `traceparent` of its
own, so that the upstream's spans hang below the attempt's; `tracestate` passes all the same. Nothing is made up for a
request that is not sampled.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from random import Random

    from router.events import ExchangeEnded

SAMPLED = 0x01
_KNOWN_FLAGS = SAMPLED | 0x02
"""Passed on: that spans are kept, and that the trace's id is random (level 2 of the standard)."""

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NAMES = (b"traceparent", b"tracestate")


class TraceContext(msgspec.Struct, frozen=True, gc=False):
    """A client's own span, to which the request belongs."""

    trace_id: str
    """32 lower-case hex digits, not all of them zero."""
    span_id: str
    """16, likewise."""
    flags: int

    @property
    def sampled(self) -> bool:
        """The client keeps its spans and asks others to keep theirs."""
        return bool(self.flags & SAMPLED)


class Span(msgspec.Struct, frozen=True, gc=False):
    """Ours, of one exchange that is sampled."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    """The client's span; empty: the trace begins here."""
    flags: int = SAMPLED


def read(traceparent: bytes) -> TraceContext | None:
    """Read the value of a `traceparent`; None if it is not valid. Later versions are read as far as they are known."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more) or not (trace_id.strip(b"0") and span_id.strip(b"0")):
        return None
    return TraceContext(trace_id.decode(), span_id.decode(), int(flags, 16) & _KNOWN_FLAGS)


def begin(context: TraceContext | None, ratio: float, rng: Random) -> Span | None:
    """Return our span of a request; None if it is not sampled. The client decides, or `ratio` if it says nothing."""
    if context is not None:
        return Span(context.trace_id, new_id(rng), context.span_id, context.flags) if context.sampled else None
    if rng.random() >= ratio:
        return None
    return Span(f"{rng.getrandbits(128) or 1:032x}", new_id(rng))


def new_id(rng: Random) -> str:
    """Return the id of a new span. Zero is none."""
    return f"{rng.getrandbits(64) or 1:016x}"


def line(span: Span, span_id: str) -> bytes:
    """Return the header line that names `span_id`, a part of our span, as the parent of what the upstream does."""
    return f"traceparent: 00-{span.trace_id}-{span_id}-{span.flags:02x}".encode()


def without(headers: list[bytes], *, tracestate: bool) -> list[bytes]:
    """Return header lines without those that `line` takes the place of; with `tracestate` that one goes too.

    It belongs to a `traceparent` that could be read: a trace that begins here has none.
    """
    names = _NAMES if tracestate else _NAMES[:1]
    return [each for each in headers if each.partition(b":")[0].lower() not in names]


def traced(ended: ExchangeEnded, context: TraceContext | None, span: Span | None) -> ExchangeEnded:
    """Return the record of a request with the trace it belongs to: that of our span, else the client's, if any."""
    if span is not None:
        return msgspec.structs.replace(
            ended, trace_id=span.trace_id, trace_sampled=True, span_id=span.span_id, parent_span_id=span.parent_id
        )
    if context is not None:
        return msgspec.structs.replace(ended, trace_id=context.trace_id, trace_sampled=context.sampled)
    return ended
