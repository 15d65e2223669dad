"""The system prompt and turns of an Anthropic request as the messages of a chat (PROTOCOL 10.1, its fourth column).

`request_to_chat` translates everything beside them. One turn may become several messages: each tool result is a message
of its own here, and stands before what else the user says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.protocol.translate.common import join_data_uri, unsupported, write_request, wrong_type

if TYPE_CHECKING:
    from collections.abc import Iterator

Members = dict[str, Any]

_LEFT_OUT = (
    "thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use", "mcp_tool_listing", "tool_reference",
    "fallback",
)  # fmt: skip
_RESULT_OF_SERVER_TOOL = "_tool_result"
"""How the block types end that hold what Anthropic's own tools found: `web_search_tool_result` and its kin."""

_IN_TURNS = "messages.content"
_ONLY_ANTHROPIC = ("cache_control", "citations", "caller", "toolset_name", "transformations")
"""Members that any block may have, and that say nothing to another model."""


class ChatMessages:
    """What an OpenAI upstream is sent as `messages`, built turn by turn.

    Everything here raises `RequestError` for what is not of the type it must be, or cannot be expressed.
    """

    __slots__ = ("_dropped", "_keep_thinking", "messages")

    def __init__(self, system: Any, turns: list[Any], *, keep_thinking: bool, dropped: set[str]) -> None:
        """Translate `system`, if there is any, and `turns`; add the names of what is left out to `dropped`."""
        self.messages: list[Members] = []
        self._keep_thinking = keep_thinking
        self._dropped = dropped
        if system is not None:
            self._add_system(system, "system", "system", {})
        for index, turn in enumerate(turns):
            self._add(turn, f"messages[{index}]")

    def _add(self, turn: Any, where: str) -> None:
        if not isinstance(turn, dict):
            wrong_type(where, "an object")
        content, place = turn.get("content"), f"{where}.content"
        rest = _without(turn, "role", "content")
        role = turn.get("role")
        if role == "user":
            self._add_user(content, place, rest)
        elif role == "assistant":
            self._add_assistant(content, place, rest)
        elif role == "system":
            self._add_system(content, place, _IN_TURNS, rest)
        else:
            wrong_type(f"{where}.role", "'user', 'assistant' or 'system'")

    def _add_system(self, content: Any, where: str, name: str, rest: Members) -> None:
        texts = []
        for block, place in _blocks(content, where):
            if block["type"] != "text":
                wrong_type(place, "a text block")
            self._rest_of(block, name)
            texts.append(_text_in(block, "text", place))
        if any(texts):
            self.messages.append({"role": "system", "content": "\n".join(texts), **rest})

    def _add_user(self, content: Any, where: str, rest: Members) -> None:
        parts: list[Members] = []
        moved: list[Members] = []
        answered = False
        for block, place in _blocks(content, where):
            if block["type"] == "tool_result":
                self.messages.append(self._result(block, place, moved))
                answered = True
            else:
                parts += self._parts(block, place)
        parts = moved + parts
        if parts or not answered:
            self.messages.append({"role": "user", "content": _as_content(parts), **rest})
        else:
            self._dropped.update(f"messages.{name}" for name in rest)

    def _add_assistant(self, content: Any, where: str, rest: Members) -> None:
        parts: list[Members] = []
        calls: list[Members] = []
        signed: list[Members] = []
        for block, place in _blocks(content, where):
            if block["type"] == "tool_use":
                calls.append(self._call(block, place))
            elif self._keep_thinking and _is_signed(block):
                signed.append(block)
            else:
                parts += self._parts(block, place)
        message: Members = {"role": "assistant", "content": _as_spoken(parts), **rest}
        if message["content"] == "" and calls:
            message["content"] = None
        if signed:
            message["thinking_blocks"] = signed
        if calls:
            message["tool_calls"] = calls
        self.messages.append(message)

    def _call(self, block: Members, where: str) -> Members:
        arguments = block.get("input")
        if not isinstance(arguments, dict):
            wrong_type(f"{where}.input", "an object")
        return {
            "id": _text_in(block, "id", where),
            "type": "function",
            "function": {"name": _text_in(block, "name", where), "arguments": write_request(arguments).decode()},
            **self._rest_of(block, _IN_TURNS, "id", "name", "input"),
        }

    def _result(self, block: Members, where: str, moved: list[Members]) -> Members:
        """Return a tool message. It can hold text only: all else is added to `moved`."""
        texts: list[Members] = []
        for inner, place in _blocks("" if block.get("content") is None else block["content"], f"{where}.content"):
            for part in self._parts(inner, place):
                (texts if part["type"] == "text" else moved).append(part)
        if block.get("is_error"):
            self._dropped.add("messages.content.is_error")
        return {
            "role": "tool",
            "tool_call_id": _text_in(block, "tool_use_id", where),
            "content": _as_content(texts),
            **self._rest_of(block, _IN_TURNS, "tool_use_id", "content", "is_error"),
        }

    def _parts(self, block: Members, where: str) -> list[Members]:
        """Return what a block says as parts of a message; blocks of unknown types pass, and the upstream judges them.

        What came of Anthropic's own tools is left out, as it is in answers (PROTOCOL 10.3).
        """
        kind = block["type"]
        if kind == "text":
            return [_text_part(_text_in(block, "text", where)) | self._rest_of(block, _IN_TURNS, "text")]
        if kind == "image":
            image = {"url": _image_url(block, where)}
            return [{"type": "image_url", "image_url": image, **self._rest_of(block, _IN_TURNS, "source")}]
        if kind == "document":
            return self._document(block, where)
        if kind == "search_result":
            return [self._search_result(block, where)]
        if kind == "compaction" and isinstance(block.get("content"), str):
            return [_text_part(block["content"])]  # the summary of a conversation: all that is left of it
        if kind == "container_upload":
            unsupported(where, "This model has no container that a file could be loaded into.")
        if kind in _LEFT_OUT or kind.endswith(_RESULT_OF_SERVER_TOOL):
            self._dropped.add(f"messages.content.{kind}")
            return []
        return [block]

    def _document(self, block: Members, where: str) -> list[Members]:
        source, place = _object_in(block, "source", where), f"{where}.source"
        rest = self._rest_of(block, _IN_TURNS, "source", "title", "context")
        self._drop(block, "context")
        if source.get("type") == "base64":
            title = block.get("title")
            file = {"filename": title if isinstance(title, str) and title else "document.pdf"}
            file["file_data"] = join_data_uri(_text_in(source, "media_type", place), _text_in(source, "data", place))
            return [{"type": "file", "file": file, **rest}]
        self._drop(block, "title")
        if source.get("type") == "text":
            return [_text_part(_text_in(source, "data", place)) | rest]
        if source.get("type") != "content":
            unsupported(place, "A document can be sent to this model as its data only.")
        inner = _blocks(source.get("content"), f"{place}.content")
        return [part for piece, at in inner for part in self._inner_parts(piece, at)]

    def _inner_parts(self, block: Members, where: str) -> list[Members]:
        """Return the parts of a block inside a document, which holds texts and images, never another document."""
        if block["type"] not in ("text", "image"):
            wrong_type(where, "a text or image block")
        return self._parts(block, where)

    def _search_result(self, block: Members, where: str) -> Members:
        """Return a search result as one text: where it is from, and what it says."""
        lines = [_text_in(block, "title", where), _text_in(block, "source", where)]
        lines += [_text_in(inner, "text", place) for inner, place in _blocks(block.get("content"), f"{where}.content")]
        return _text_part("\n".join(lines)) | self._rest_of(block, _IN_TURNS, "title", "source", "content")

    def _rest_of(self, block: Members, name: str, *translated: str) -> Members:
        """Return the members of a block that pass unread."""
        self._dropped.update(f"{name}.{member}" for member in _ONLY_ANTHROPIC if block.get(member) is not None)
        return _without(block, "type", *translated, *_ONLY_ANTHROPIC)

    def _drop(self, block: Members, member: str) -> None:
        if block.get(member):
            self._dropped.add(f"messages.content.{member}")


def _blocks(content: Any, where: str) -> Iterator[tuple[Members, str]]:
    """Yield the blocks of a content, each with its place; a string is one text block."""
    if isinstance(content, str):
        yield _text_part(content), where
        return
    if not isinstance(content, list):
        wrong_type(where, "a string or an array")
    for number, block in enumerate(content):
        place = f"{where}[{number}]"
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            wrong_type(place, "an object with a type")
        yield block, place


def _text_part(text: str) -> Members:
    return {"type": "text", "text": text}


def _is_signed(block: Members) -> bool:
    return block["type"] == "redacted_thinking" or (block["type"] == "thinking" and bool(block.get("signature")))


def _is_plain(part: Members) -> bool:
    return part["type"] == "text" and len(part) == 2


def _as_content(parts: list[Members]) -> str | list[Members]:
    """Return the content of a message: one text as a string, which every upstream takes."""
    if not parts:
        return ""
    text: str = parts[0].get("text", "")
    return text if len(parts) == 1 and _is_plain(parts[0]) else parts


def _as_spoken(parts: list[Members]) -> str | list[Members]:
    """Return the content of an assistant's message: its texts were cut where sources are cited, and belong together."""
    return "".join(part["text"] for part in parts) if all(map(_is_plain, parts)) else parts


def _image_url(block: Members, where: str) -> str:
    source, place = _object_in(block, "source", where), f"{where}.source"
    if source.get("type") == "base64":
        return join_data_uri(_text_in(source, "media_type", place), _text_in(source, "data", place))
    if source.get("type") != "url":
        unsupported(place, "An image can be sent to this model as its data or its address only.")
    return _text_in(source, "url", place)


def _without(holder: Members, *names: str) -> Members:
    return {name: value for name, value in holder.items() if name not in names}


def _text_in(holder: Members, name: str, where: str) -> str:
    value = holder.get(name)
    if not isinstance(value, str):
        wrong_type(f"{where}.{name}", "a string")
    return value


def _object_in(holder: Members, name: str, where: str) -> Members:
    value = holder.get(name)
    if not isinstance(value, dict):
        wrong_type(f"{where}.{name}", "an object")
    return value
