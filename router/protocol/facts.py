"""What the router reads in an upstream's answer, the same for every dialect (PROTOCOL 4, 5, 9).

`openai`, `anthropic`, `responses`, `media` and `generic` each fill a `Reading`, and through it the relay knows answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.events import Usage


class Meaning(IntFlag):
    """What an event is to the router; several may hold, OTHER stands alone."""

    CONTENT = 1
    """A piece of the answer: commit. Text, reasoning, a refusal, a tool call, audio, an image."""
    FINISH = 2
    """A choice has its finish reason, and it is not `error`; or the dialect's last event of a whole answer.

    An empty reason is none: some upstreams send one in every chunk, and a cut answer must not pass for a complete one.
    """
    USAGE = 4
    """`usage` is an object, wherever the dialect has it: `x_groq.usage`, `response.usage`, `message.usage`."""
    USAGE_ONLY = 8
    """Besides usage the event says nothing, by the hiding rule of PROTOCOL 5.3. Never set together with ERROR."""
    ERROR = 16
    """The upstream gave up: `error` at the top, `object: "error"`, a finish reason `error`, `event: error`, or
    `response.failed`.

    An `error` that is null or empty is none, as it is to the SDKs.
    """
    DONE = 32
    """The last event: `[DONE]`, also with white space around it, `message_stop`, a terminal event of Responses.

    Alone it ends an answer of which nothing has come yet, which is none. The terminal events of Responses hold the
    whole answer, and so are CONTENT and FINISH as well, or ERROR: those are looked at first.
    """
    COMMENT = 64
    """Lines without data, blank lines among them, and a `ping`: a sign of life that nobody misses before content."""
    OTHER = 128
    """An object, and none of the above: a role chunk, Azure's `prompt_filter_results`."""
    BAD = 256
    """Data that is not a JSON object, empty data included: the SDKs raise on it."""


class ErrorFacts(msgspec.Struct, frozen=True, gc=False):
    """What an upstream says went wrong. Anything it does not say is empty, except the message."""

    code: str = ""
    """As text, whatever it was: `insufficient_quota`, `429`."""
    type: str = ""
    """Google's `status` stands here too."""
    message: str = ""
    """At most `MESSAGE_CHARS_MAX` characters; the status phrase if the upstream said nothing."""
    conforming: bool = False
    """The body is an object with an object `error`: every client can read it as it is."""
    anthropic: bool = False
    """The same, in Anthropic's envelope: what clients of that protocol need."""


class ChunkFacts(NamedTuple):
    """Everything the router reads in one event."""

    meaning: Meaning
    usage: dict[str, Any] | None = None
    error: ErrorFacts | None = None
    output_deltas: int = 0
    """Choices with a piece of content: a lower bound of the tokens in this event."""
    finished: tuple[int, ...] = ()
    """Indexes of choices with a finish reason; a request with `n` choices is complete when all of them have had one."""
    id: str = ""
    """Of the answer, where the dialect's ids can be asked for again (Responses); otherwise empty."""
    pending: bool = False
    """The answer is made in the background, whoever listens, and is not complete."""


class BodyFacts(NamedTuple):
    """Everything the router reads in an answer that is not a stream."""

    is_object: bool
    """The body is one JSON object, as an answer is. For the generic dialect, any JSON value: reranks may be a list."""
    id: str = ""
    usage: dict[str, Any] | None = None
    error: ErrorFacts | None = None
    """A failure that came as a success: an error and no answer beside it."""
    pending: bool = False
    """It is only the promise of an answer, which is made in the background (Responses)."""
    images: int = 0
    """Pictures in the answer, where they are what is paid for."""


_KIND = re.compile(rb'event: ?([\w.]{1,64})[\r\n]|data: ?\{\s{0,8}"type"\s{0,8}:\s{0,8}"([\w.]{1,64})"')


def kind_of(beginning: bytes) -> str:
    """Return what an event says it is, in its first line or its first member; empty if it does not say so there."""
    found = _KIND.match(beginning)
    return "" if found is None else (found[1] or found[2]).decode("ascii")


def _no_end(_beginning: bytes) -> Meaning:
    """Say of an event that the answer does not end with it."""
    return Meaning.OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How one dialect's answers are read and ended. Nothing in it raises, whatever the bytes."""

    plain: Callable[[bytes], bool]
    """Whether a whole event certainly is a piece of content and nothing else; False means: ask `chunk`. HOT."""
    chunk: Callable[[bytes], ChunkFacts]
    """Everything that is read in a whole event."""
    body: Callable[[bytes], BodyFacts]
    """Everything that is read in the whole body of a 2xx answer."""
    account: Callable[[dict[str, Any]], Usage | None]
    """The record that a usage object amounts to; None if it holds no usable count."""
    merge: Callable[[dict[str, Any] | None, dict[str, Any]], dict[str, Any]]
    """The usage of a stream so far, and a later report: what counts now. Usually the later one (PROTOCOL 9.3)."""
    done: bytes = b""
    """The terminal marker as we write it. Empty: the dialect's own last event is relayed as it came."""
    closing: bytes = b""
    """What is added where a stream ended well without its last event, besides `done`. Empty: nothing can be."""
    text_mark: bytes = b""
    """What stands before the text in an event of a piece of text. Such events differ in their text alone, so the relay
    may know the next by its looks. Empty: they differ elsewhere too."""
    unread: Callable[[bytes], Meaning] = _no_end
    """What an event means that is too long to be held, by its beginning. No meaning at all: that cannot be told."""
    open_ended: bool = False
    """The dialect has no terminal marker: a clean end of the body is the end of the answer."""
    heartbeat: bytes = b": ka\n"
    """What fills a silence between two events. A comment without a blank line: no decoder can dispatch an empty event
    on it (RELIABILITY 3.4)."""


def last_report(_so_far: dict[str, Any] | None, report: dict[str, Any]) -> dict[str, Any]:
    """Let the last report count: some upstreams repeat running totals, and none may be added up (PROTOCOL 9.3)."""
    return report
