"""The stream of an OpenAI chat upstream, rebuilt as Anthropic's events (PROTOCOL 10.3).

`StreamToMessages` reads the chunks and writes the frame of the message; `message_blocks` orders what stands in it.
"""

from __future__ import annotations

from typing import Any

from router.errors import TABLE
from router.protocol import envelope, openai, sse
from router.protocol.facts import Meaning
from router.protocol.translate.answer_to_messages import (
    end_of_turn,
    message_id,
    spoken,
    text_or_empty,
    tool_calls,
    usage_of_message,
)
from router.protocol.translate.message_blocks import Blocks, event

EVENT_BYTES_MAX = 8 * 1024 * 1024
"""The longest event of an upstream; chunks of a chat are a thousandth of it."""


class StreamToMessages:
    """Takes the bytes of a chat stream, cut anywhere; gives whole events of a messages stream. Nothing raises.

    A stream that is cut gives neither `message_delta` nor `message_stop`: whoever relays says why it ended.
    """

    def __init__(self) -> None:
        self.usage: dict[str, Any] | None = None
        """The last usage the upstream reported, as it came, for accounting."""
        self.over = False
        """The last event was written, `message_stop` or `error`: what comes now is not read."""
        self._reader = sse.EventReader(EVENT_BYTES_MAX)
        self._out: list[bytes] = []
        self._blocks: Blocks | None = None
        self._finish_reason: str | None = None

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the upstream's body; return what follows from them."""
        if self.over:
            return b""
        for block in self._reader.feed(data):
            self._read(block)
            if self.over:
                break
        if self._reader.oversized and not self.over:
            self._fail("api_error", "The upstream sent an event that is too long.")
        return self._taken()

    def end(self) -> bytes:
        """Take the clean end of the upstream's body; return the closing events if the answer was finished.

        Some upstreams send no `[DONE]`, and an unterminated one counts (PROTOCOL 5.1). Any other unfinished event is
        the piece of a cut stream, and says nothing.
        """
        if self.over:
            return b""
        rest = self._reader.flush()
        if rest and not openai.read_event(rest)[0] & Meaning.BAD:
            self._read(rest)
        if self._finish_reason is not None and not self.over:
            self._close()
        return self._taken()

    def _read(self, block: bytes) -> None:
        if len(block) > EVENT_BYTES_MAX:
            self._fail("api_error", "The upstream sent an event that is too long.")
            return
        meaning, chunk = openai.read_event(block)
        if meaning & Meaning.ERROR:
            self._pass_error(block)
        elif meaning & Meaning.DONE:
            self._close()
        elif chunk is not None:
            self._read_chunk(chunk, meaning)
        elif meaning & Meaning.BAD and (sse.data_of(block) or b"").strip():
            # A piece of the answer may be lost: without it the rest must not pass for the whole.
            self._fail("api_error", "The upstream sent an event that is not a JSON object.")

    def _read_chunk(self, chunk: dict[str, Any], meaning: Meaning) -> None:
        usage = openai.usage_of(chunk)
        self.usage = self.usage if usage is None else usage
        if meaning & Meaning.USAGE_ONLY and self._finish_reason is not None:
            self._close()
            return
        choice = _first_choice(chunk)
        if choice is None:
            return
        blocks = self._begun(chunk)
        delta = choice.get("delta")
        if isinstance(delta, dict):
            for kind, text in spoken(delta):
                blocks.say(kind, text)
            for call in tool_calls(delta):
                blocks.call(call)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self._finish_reason = reason
            blocks.close_all()
        if blocks.fault:
            self._fail("api_error", blocks.fault)

    def _begun(self, chunk: dict[str, Any]) -> Blocks:
        """Return the blocks of the message, which begins with the first chunk that has a choice.

        Azure sends one without before it, and that one has neither id nor model.
        """
        if self._blocks is None:
            identity = message_id(chunk)
            message: dict[str, Any] = {
                "id": identity,
                "type": "message",
                "role": "assistant",
                "model": text_or_empty(chunk.get("model")),
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": usage_of_message(None),
            }
            self._out.append(event("message_start", message=message))
            self._blocks = Blocks(identity, self._out)
        return self._blocks

    def _close(self) -> None:
        """Write the last events; a stream without any choice is no message, and gets none."""
        self.over = True
        blocks = self._blocks
        if blocks is None:
            return
        blocks.close_all()
        if blocks.fault:
            self._fail("api_error", blocks.fault)
            return
        reason = end_of_turn(self._finish_reason, called=blocks.called)
        delta = {"stop_reason": reason, "stop_sequence": None}
        self._out.append(event("message_delta", delta=delta, usage=usage_of_message(self.usage)))
        self._out.append(event("message_stop"))

    def _pass_error(self, block: bytes) -> None:
        error = openai.read_chunk(block).error
        code, kind, message = (error.code, error.type, error.message) if error is not None else ("", "", "")
        self._fail(error_type(code, kind), envelope.mask(message, ()))

    def _fail(self, kind: str, message: str) -> None:
        self.over = True
        self._out.append(event("error", error={"type": kind, "message": message}))

    def _taken(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out


_OURS = ("401", "402", "403")
"""What an upstream says of our credential and account: to the client it is the upstream's failure (PROTOCOL 7.2)."""

_TYPES_BY_CODE = {
    **{str(row.status): row.anthropic_type for row in TABLE.values()},
    "529": "overloaded_error",
    **dict.fromkeys(_OURS, "api_error"),
}

_TYPES_BY_WORD = {
    **{row.anthropic_type: row.anthropic_type for row in TABLE.values()},
    **dict.fromkeys(("authentication_error", "permission_error", "billing_error"), "api_error"),
    **dict.fromkeys(("rate_limit_exceeded", "rate_limited", "requests", "tokens"), "rate_limit_error"),
    **dict.fromkeys(
        ("overloaded", "slow_down", "server_is_overloaded", "service_unavailable", "unavailable"), "overloaded_error"
    ),
    **dict.fromkeys(("invalid_request", "context_length_exceeded", "BadRequestError"), "invalid_request_error"),
    **dict.fromkeys(("not_found", "model_not_found"), "not_found_error"),
    **dict.fromkeys(("timeout", "gateway_timeout", "upstream_timeout"), "timeout_error"),
}
"""What OpenAI and its kin write into `code` and `type`, to Anthropic's types (PROTOCOL 7.2)."""


def error_type(code: str, kind: str) -> str:
    """Return Anthropic's type for an error's `code` (a word, or a status in digits) and `type`."""
    return _TYPES_BY_CODE.get(code) or _TYPES_BY_WORD.get(code) or _TYPES_BY_WORD.get(kind) or "api_error"


def _first_choice(chunk: dict[str, Any]) -> dict[str, Any] | None:
    """Return the chunk's part of the first choice; the others have no place in a message."""
    choices = chunk.get("choices")
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict) and not choice.get("index"):
                return choice
    return None
