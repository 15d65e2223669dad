"""What the router needs to know of a request's body, whatever kind of body it is, and where it may be cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from router.errors import Kind, RequestError

if TYPE_CHECKING:
    from router.protocol.multipart import Form

Splice = tuple[int, int, bytes]
"""Start and end in the body, and the bytes that stand there instead."""

N_MAX = 128
"""The largest `n` that is believed; OpenAI allows 128."""


class Ask(msgspec.Struct, frozen=True, gc=False):
    """One request's facts. Places are byte offsets in the body as it will be sent, before any splice."""

    model: str
    """As the client wrote it, 1 to 512 characters; empty if it named none."""
    stream: bool = False
    wants_usage: bool = False
    """The client itself asked for usage on its stream: the usage chunk is shown to it."""
    max_tokens: int | None = None
    """The longest answer the client allows; None if it does not say so in a whole number."""
    n: int = 1
    """Choices or pictures asked for, 1 to `N_MAX`."""
    text_bytes: int = 0
    """Length of the body for an estimate of its tokens: a long inline picture or sound counts as 3,000 bytes."""
    model_at: tuple[int, int] | None = None
    """Start and end of the value of `model`, in JSON its quotes included; None if it is not there."""
    ask_at: Splice | None = None
    """The splice that asks for usage. None if it is not a stream, or the client asks itself, or nobody can ask."""
    named_id: str = ""
    """Of an earlier answer that this one builds upon: it must go where that is stored (PROTOCOL 2.2)."""
    characters: int = 0
    """Of text to be spoken."""
    begins_at: int = 0
    """Where a model can be written if there is none: before the first member, or before the first part of a form."""
    is_empty: bool = False
    """An object has no member at all."""
    boundary: bytes = b""
    """Of a form. Empty: the body is JSON, or nothing that is looked into."""


def of_call(form: Form, session: Ask) -> Ask:
    """Return what the offer of a call asks for: its model stands inside the JSON of one field (PROTOCOL 2)."""
    assert form.session_at is not None
    if session.model_at is None:
        raise RequestError(Kind.MISSING_PARAMETER, "The session must name a model.", param="session.model")
    start = form.session_at[0]
    return Ask(session.model, model_at=(start + session.model_at[0], start + session.model_at[1]))


def of_form(form: Form, boundary: bytes) -> Ask:
    """Return what a form asks for. Its fields are text: `stream` is on if it says `true` (PROTOCOL 2.3).

    Raises:
        RequestError: INVALID_TYPE, with the field.
    """
    stream = form.fields.get("stream", b"false").strip().lower()
    if stream not in (b"true", b"false", b"1", b"0", b""):
        raise RequestError(Kind.INVALID_TYPE, "'stream' must be true or false.", param="stream")
    number = form.fields.get("n", b"1").strip()
    n = int(number) if number.isdigit() and len(number) <= 3 else 1
    return Ask(
        form.model or "",
        stream in (b"true", b"1"),
        n=min(max(n, 1), N_MAX),
        text_bytes=form.text_bytes,
        model_at=form.model_at,
        begins_at=form.begins_at,
        boundary=boundary,
    )
