"""Anthropic's stream as the chunks of a chat (PROTOCOL 10.3), event by event: nothing waits for what comes later.

A tool call is the one thing that outlasts its events: its arguments come in pieces, and if none came by the end of its
block, the empty object is said then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from router.protocol import envelope, sse
from router.protocol.openai import DONE
from router.protocol.patient_json import read_object
from router.protocol.translate.answer_to_chat import SIGNED, arguments, call_id, chat_id, chat_usage, text_or_empty
from router.protocol.translate.common import compact, finish_reason, read_answer
from router.protocol.upstream_errors import error_of

EVENT_BYTES_MAX = 8 * 1024 * 1024
"""The longest event that is read. The longest that are sent hold the result of a server's own tool: some 100 KB."""

BLOCKS_OPEN_MAX = 1024
"""Blocks that may be open at once; the protocol knows one."""

_PING = b": ping\n"
"""Without a blank line, so that no decoder dispatches an empty event on it (see `Reading.heartbeat`)."""


@dataclass(slots=True)
class _Block:
    """A content block that is open and outlasts its events."""

    k: int = 0
    """Of a tool call: which one, counted from 0."""
    said: bool = False
    """Some of its arguments are out."""
    whole: bool = False
    """They all came with its start: whatever pieces follow repeat them."""
    signed: dict[str, Any] | None = None
    """Thinking that is kept to be sent back; None for a tool call."""


class StreamToChat:
    """One stream, from its first byte to its end. Nothing raises, whatever the bytes.

    A stream that is cut gives no finish reason and no `[DONE]`; one that fails gives an error event, and then nothing.
    """

    __slots__ = (
        "_blocks", "_calls", "_created", "_head", "_kept_bytes", "_reader", "_reason", "_thinking_blocks", "over",
        "usage",
    )  # fmt: skip

    def __init__(self, *, created: int, thinking_blocks: bool = False) -> None:
        """Begin.

        Args:
            created: Now, in whole seconds since 1970.
            thinking_blocks: Signed thinking goes along as `thinking_blocks` (`Options.thinking_blocks`).
        """
        self.usage: dict[str, Any] | None = None
        """What the upstream reported, in its own terms: `message_start`, with the last `message_delta` laid over it."""
        self.over = False
        """Nothing more will come: the terminal marker or an error is out."""
        self._created = created
        self._thinking_blocks = thinking_blocks
        self._reader = sse.EventReader(EVENT_BYTES_MAX)
        self._head = b""
        """How every chunk begins; empty until the first."""
        self._reason: str | None = None
        self._calls = 0
        self._blocks: dict[int, _Block] = {}
        self._kept_bytes = 0
        """Length of all signed thinking so far: of what is kept, an upper bound."""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the upstream's stream; return the chunks that follow from them."""
        if self.over:
            return b""
        chunks = []
        for event in self._reader.feed(data):
            chunks.append(self._translated(event))
            if self.over:
                return b"".join(chunks)
        if self._reader.oversized:
            chunks.append(self._fail("api_error", "The upstream sent an event that is too long."))
        return b"".join(chunks)

    def end(self) -> bytes:
        """Take the clean end of the upstream's body.

        An event without its blank line counts. If Anthropic's reason to stop was seen, the answer is complete even if
        `message_stop` is missing (PROTOCOL 5.5); otherwise it was cut, and nothing closes it.
        """
        if self.over:
            return b""
        rest = self._reader.flush()
        data = sse.data_of(rest) or b""
        whole = data.strip() == b"[DONE]" or read_object(data) is not None
        last = self._translated(rest) if whole else b""
        if self._reason is not None and not self.over:
            last += self._finish()
        return last

    def _translated(self, event: bytes) -> bytes:
        if len(event) > EVENT_BYTES_MAX:
            return self._fail("api_error", "The upstream sent an event that is too long.")
        data = sse.data_of(event)
        if data is None or not data.strip():
            return b""
        if data.strip() == b"[DONE]":
            return self._finish() if self._reason is not None else b""  # an emulation that forgot `message_stop`
        read = read_object(data)
        if read is None:
            # Some of the answer may have been lost, and the rest must not pass for the whole.
            return self._fail("api_error", "The upstream sent an event that is no JSON object.")
        kind = text_or_empty(read.get("type")) or sse.name_of(event) or ("error" if read.get("error") else "")
        try:
            return self._chunks_of(kind, read, data)
        except RecursionError:
            return self._fail("api_error", "The upstream sent an event that is nested too deeply.")

    def _chunks_of(self, kind: str, event: dict[str, Any], data: bytes) -> bytes:
        match kind:
            case "content_block_delta":
                return self._block_delta(event)
            case "content_block_start":
                return self._block_start(event, data)
            case "content_block_stop":
                return self._close(_index(event))
            case "message_start":
                return self._message_start(event)
            case "message_delta":
                self._message_delta(event)
                return b""
            case "message_stop":
                return self._finish()
            case "ping":
                return _PING
            case "error":
                return self._error(event)
            case _:
                return b""

    def _message_start(self, event: dict[str, Any]) -> bytes:
        message = event.get("message")
        if not isinstance(message, dict):
            return b""
        self._report(message.get("usage"))
        return b"" if self._head else self._begin(message)

    def _begin(self, message: dict[str, Any]) -> bytes:
        """Say the first chunk. A stream without `message_start` begins with whatever comes (PROTOCOL 5.4)."""
        frame = {
            "id": chat_id(message.get("id"), self._created),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": text_or_empty(message.get("model")),
        }
        self._head = b"data: " + compact(frame)[:-1] + b',"choices":'
        return self._chunk({"role": "assistant", "content": ""})

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        begin = b"" if self._head else self._begin({})
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return begin + self._head + compact([choice]) + b"}\n\n"

    def _block_start(self, event: dict[str, Any], data: bytes) -> bytes:
        block, index = event.get("content_block"), _index(event)
        if not isinstance(block, dict):
            return b""
        closed = self._close(index)  # what was open under this number is over, whoever forgot to say so
        if len(self._blocks) >= BLOCKS_OPEN_MAX:
            return closed + self._fail("api_error", "The upstream opened too many blocks at once.")
        kind = text_or_empty(block.get("type"))
        if kind == "tool_use":
            return closed + self._call_start(index, block, data)
        if kind == "text":
            return closed + self._piece("content", block.get("text"))
        if kind in SIGNED and self._thinking_blocks:
            self._blocks[index] = _Block(signed={"type": kind} | dict.fromkeys(SIGNED[kind], ""))
            for name in SIGNED[kind]:
                closed += self._keep(index, name, block.get(name)) if name != "thinking" else b""
        if kind == "thinking" and not self.over:
            closed += self._thought(index, block.get("thinking"))
        return closed

    def _call_start(self, index: int, block: dict[str, Any], data: bytes) -> bytes:
        k, self._calls = self._calls, self._calls + 1
        call = self._blocks[index] = _Block(k=k)
        function = {"name": text_or_empty(block.get("name")), "arguments": ""}
        opened = {"index": k, "id": call_id(block.get("id"), k), "type": "function", "function": function}
        chunk = self._chunk({"tool_calls": [opened]})
        if block.get("input") and isinstance(block["input"], dict):
            call.whole = True
            exact = read_answer(data)  # the quick decoder rounds long numbers
            if exact is None:
                return chunk + self._fail("api_error", "The upstream sent a tool call that cannot be read exactly.")
            chunk += self._arguments(call, arguments(exact["content_block"].get("input")))
        return chunk

    def _arguments(self, call: _Block, piece: str) -> bytes:
        call.said = True
        return self._chunk({"tool_calls": [{"index": call.k, "function": {"arguments": piece}}]})

    def _block_delta(self, event: dict[str, Any]) -> bytes:
        delta, index = event.get("delta"), _index(event)
        if not isinstance(delta, dict):
            return b""
        kind = delta.get("type")
        if kind == "text_delta":
            return self._piece("content", delta.get("text"))
        if kind == "thinking_delta":
            return self._thought(index, delta.get("thinking"))
        if kind == "signature_delta":
            return self._keep(index, "signature", delta.get("signature"))
        call = self._blocks.get(index)
        if kind != "input_json_delta" or call is None or call.signed is not None or call.whole:
            return b""
        piece = text_or_empty(delta.get("partial_json"))
        return self._arguments(call, piece) if piece else b""

    def _piece(self, name: str, text: Any) -> bytes:
        return self._chunk({name: text}) if isinstance(text, str) and text else b""

    def _thought(self, index: int, text: Any) -> bytes:
        return self._piece("reasoning_content", text) + self._keep(index, "thinking", text)

    def _keep(self, index: int, name: str, text: Any) -> bytes:
        """Keep a piece of signed thinking, if it is wanted, until its block closes."""
        block = self._blocks.get(index)
        if block is None or block.signed is None or not isinstance(text, str):
            return b""
        self._kept_bytes += len(text)
        if self._kept_bytes > EVENT_BYTES_MAX:
            return self._fail("api_error", "The upstream sent more thinking than can be kept.")
        block.signed[name] = block.signed.get(name, "") + text
        return b""

    def _close(self, index: int) -> bytes:
        block = self._blocks.pop(index, None)
        if block is None:
            return b""
        if block.signed is not None:
            return self._chunk({"thinking_blocks": [block.signed]})
        return b"" if block.said else self._arguments(block, "{}")

    def _message_delta(self, event: dict[str, Any]) -> None:
        delta = event.get("delta")
        if isinstance(delta, dict) and isinstance(reason := delta.get("stop_reason"), str) and reason:
            self._reason = reason
        self._report(event.get("usage"))

    def _report(self, usage: Any) -> None:
        """Lay a report over the ones before: each is cumulative, and may leave out what did not change."""
        if isinstance(usage, dict):
            self.usage = (self.usage or {}) | {name: value for name, value in usage.items() if value is not None}

    def _finish(self) -> bytes:
        chunks = [self._close(index) for index in list(self._blocks)]
        self.over = True
        chunks.append(self._chunk({}, finish_reason(self._reason)))
        usage = chat_usage(self.usage)
        if usage is not None:
            chunks.append(self._head + b'[],"usage":' + compact(usage) + b"}\n\n")
        return b"".join(chunks) + DONE

    def _error(self, event: dict[str, Any]) -> bytes:
        facts = error_of(event)
        status = int(facts.code) if _STATUS.fullmatch(facts.code) else 500
        return self._fail(facts.type or "api_error", envelope.mask(facts.message, ()), status)

    def _fail(self, kind: str, message: str, status: int = 500) -> bytes:
        self.over = True
        error = {"message": message, "type": kind, "param": None, "code": _STATUSES.get(kind, status)}
        return b"data: " + compact({"error": error}) + b"\n\n"


_STATUS = re.compile("[45][0-9][0-9]")
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""What each of Anthropic's errors comes under when it is not in a stream."""


def _index(event: dict[str, Any]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else -1
