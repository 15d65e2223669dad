"""The content blocks of a streamed Anthropic message, made from pieces that name none (PROTOCOL 10.3).

Of a message's blocks one is open at a time. OpenAI's deltas have no blocks, and their tool calls may come interleaved:
`stream_to_messages` gives the pieces here in the order they came, and the events go out in the order blocks allow.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any

from router.protocol.translate.answer_to_messages import text_or_empty
from router.protocol.translate.common import compact

WAITING_CHARS_MAX = 4 * 1024 * 1024
"""Of blocks that wait for the open one so much is kept, a quarter of a kilobyte counted for each beside its text."""

CALLS_MAX = 1024
"""Tool calls of one answer; OpenAI itself allows 128 tools."""

_WAITING_BLOCK_CHARS = 256


def event(name: str, **members: Any) -> bytes:
    """Return one event of a messages stream; every one has its `event:` line (PROTOCOL 5.2)."""
    return b"event: %b\ndata: %b\n\n" % (name.encode("ascii"), compact({"type": name, **members}))


class Blocks:
    """The content blocks of one message: the first one not closed is open, those behind it wait in memory.

    Text ends when anything else begins. A tool call ends when its arguments are a complete JSON object and anything
    else has begun, at the latest with the answer: until then a piece of it may come between pieces of another.
    """

    def __init__(self, identity: str, out: list[bytes]) -> None:
        self.called = False
        """There is a tool call among them."""
        self.fault = ""
        """Why the answer cannot be told to its end; empty: it can."""
        self._identity = identity
        self._out = out
        self._queue: deque[_Block] = deque()
        self._index = 0
        """Of the first block in the queue."""
        self._calls: dict[int, _Block] = {}
        self._last_call: _Block | None = None
        self._calls_count = 0
        self._waiting = 0

    def say(self, kind: str, text: str) -> None:
        """Take a piece of text or thinking."""
        last = self._queue[-1] if self._queue else None
        self._add(last if last is not None and last.kind == kind else self._append(_Block(kind)), text)

    def call(self, call: dict[str, Any]) -> None:
        """Take a piece of a tool call."""
        function = call.get("function")
        if not isinstance(function, dict):
            return
        block = self._block_of(call, text_or_empty(function.get("name")))
        arguments = function.get("arguments")
        if isinstance(arguments, dict):  # nobody's standard, and unmistakable
            arguments = compact(arguments).decode()
        self._add(block, text_or_empty(arguments))

    def close_all(self) -> None:
        """Close every block, in their order: the answer has no more of them."""
        self._advance(final=True)

    def _block_of(self, call: dict[str, Any], name: str) -> _Block:
        """Return the block that a piece belongs to: by its index, or else it continues the last call.

        A name with another id begins a new call, also at an index that was used (Ollama numbers all of them 0). An id
        alone does not: some servers make up one per piece.
        """
        index, identity = call.get("index"), text_or_empty(call.get("id"))
        numbered = isinstance(index, int)
        block = self._calls.get(index) if isinstance(index, int) else self._last_call
        differs = identity != block.id if block is not None and block.id and identity else not numbered
        if block is None or (name and differs):
            block = self._append(_Block("tool_use"))
            self.called = True
            self._calls_count += 1
            if self._calls_count > CALLS_MAX:
                self.fault = "The upstream made too many tool calls."
            block.id = identity or f"call_{self._identity}_{self._calls_count - 1}"
        block.name = block.name or name
        if isinstance(index, int):
            self._calls[index] = block
        self._last_call = block
        return block

    def _append(self, block: _Block) -> _Block:
        self._queue.append(block)
        self._waiting += _WAITING_BLOCK_CHARS
        return block

    def _add(self, block: _Block, text: str) -> None:
        if block.closed:
            if text.strip():
                self.fault = "The upstream continued a tool call whose arguments were complete."
            return
        if text:
            block.pieces.append(text)
            self._waiting += len(text)
        self._advance()
        if self._waiting > WAITING_CHARS_MAX:
            self.fault = "The upstream interleaved more tool calls than can be put in order."

    def _advance(self, *, final: bool = False) -> None:
        """Write what can be written: of the open block everything, and of those behind it what its end lets through."""
        queue = self._queue
        while queue and not self.fault:
            block = queue[0]
            if not self._opened(block):
                if final:
                    self.fault = "The upstream made a tool call without a name."
                return
            self._write(block)
            if not final and (len(queue) == 1 or not block.complete):
                return
            self._out.append(event("content_block_stop", index=self._index))
            block.closed = True
            queue.popleft()
            self._index += 1

    def _opened(self, block: _Block) -> bool:
        """Open a block unless it is open; a tool call can only be opened with its name."""
        if block.open:
            return True
        if block.kind == "tool_use" and not block.name:
            return False
        self._out.append(event("content_block_start", index=self._index, content_block=block.start()))
        self._waiting -= _WAITING_BLOCK_CHARS
        block.open = True
        return True

    def _write(self, block: _Block) -> None:
        if block.pieces:
            text = "".join(block.pieces)
            block.pieces.clear()
            self._waiting -= len(text)
            self._out.append(event("content_block_delta", index=self._index, delta=block.delta(text)))


class _Block:
    """One content block: what of it waits to be written, and whether it may end."""

    __slots__ = ("_nesting", "closed", "id", "kind", "name", "open", "pieces")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.id = ""
        self.name = ""
        self.open = False
        self.closed = False
        self.pieces: list[str] = []
        self._nesting = _Nesting()

    def start(self) -> dict[str, Any]:
        """Return the block as it begins, without content."""
        if self.kind == "tool_use":
            return {"type": "tool_use", "id": self.id, "name": self.name, "input": {}}
        if self.kind == "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        return {"type": "text", "text": ""}

    def delta(self, text: str) -> dict[str, Any]:
        """Return a piece of the block's content for writing, and note whether it completes the block."""
        if self.kind == "tool_use":
            self._nesting.show(text)
            return {"type": "input_json_delta", "partial_json": text}
        return {"type": f"{self.kind}_delta", self.kind: text}

    @property
    def complete(self) -> bool:
        """No more of its content has to come before the next block."""
        return self.kind != "tool_use" or self._nesting.closed


_MARKS = re.compile(r'\\.?|["{}\[\]]', re.DOTALL)
"""What decides whether a JSON value is complete; an escape is taken whole if it is."""


class _Nesting:
    """Follows how deep the pieces of a JSON object are nested, each character looked at once."""

    __slots__ = ("_depth", "_escape_cut", "_in_string", "_opened")

    def __init__(self) -> None:
        self._depth = 0
        self._opened = False
        self._in_string = False
        self._escape_cut = False

    @property
    def closed(self) -> bool:
        """The last bracket is closed; nothing but white space may follow."""
        return self._opened and self._depth <= 0

    def show(self, piece: str) -> None:
        """Take the next piece, which is not empty."""
        start = 1 if self._escape_cut else 0
        self._escape_cut = False
        for found in _MARKS.finditer(piece, start):
            mark = found[0]
            if mark[0] == "\\":
                self._escape_cut = len(mark) == 1
            elif mark == '"':
                self._in_string = not self._in_string
            elif not self._in_string:
                self._opened = True
                self._depth += 1 if mark in "{[" else -1
