"""The messages of a chat request as Anthropic's system prompt and turns (PROTOCOL 10.1).

`request_to_messages` translates everything beside them. Blank text is left out everywhere, as Anthropic refuses it, and
a message of which nothing remains with it. Tool results open the user turn that follows a call, also when the client
sent a text first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from router.protocol.translate.common import decode_exactly, split_data_uri, unsupported, wrong_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Block = dict[str, Any]
"""One content block of Anthropic's."""


class Turns:
    """What Anthropic is sent as `system` and `messages`, built message by message.

    Everything here raises `RequestError` for what is not of the type it must be, or cannot be expressed.
    """

    __slots__ = ("_dropped", "_functions", "_inline_system", "_leading", "_results", "_system", "turns")

    def __init__(self, messages: list[Any], *, inline_system: bool, dropped: set[str]) -> None:
        """Translate `messages`; add the names of what is left out to `dropped`."""
        self.turns: list[dict[str, Any]] = []
        self._system: list[Block] = []
        self._inline_system = inline_system
        self._dropped = dropped
        self._leading = True
        """Only system messages have come."""
        self._results = 0
        """Tool results at the front of the last turn; 0 if it does not begin with any."""
        self._functions: dict[str, str] = {}
        """Legacy functions have no call ids: the name of each to the id that its last call was given."""
        for index, message in enumerate(messages):
            self._add(message, index)

    @property
    def system(self) -> str | list[Block] | None:
        """One text; blocks if one of them says more than its text (`cache_control`); None if there is nothing."""
        if any(len(block) > 2 for block in self._system):
            return self._system
        return "\n".join(block["text"] for block in self._system) or None

    @property
    def thinking_is_lost(self) -> bool:
        """The last turn answers a call whose own turn does not begin with the thinking that led to it."""
        if not self._results or len(self.turns) < 2:
            return False
        content = self.turns[-2]["content"]
        return isinstance(content, str) or content[0].get("type") not in ("thinking", "redacted_thinking")

    def _add(self, message: Any, index: int) -> None:
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            wrong_type(where, "an object")
        role = message.get("role")
        if role in ("system", "developer"):
            self._add_system(message, where)
            return
        self._leading = False
        if role == "user":
            self._add_user(message, where)
        elif role == "assistant":
            self._add_assistant(message, where, index)
        elif role == "tool":
            self._add_result(message, where, _tool_id(_text_in(message, "tool_call_id", where)))
        elif role == "function":
            name = _text_in(message, "name", where)
            if name not in self._functions:
                wrong_type(f"{where}.name", "the name of a function that was called before")
            self._add_result({**message, "name": None}, where, self._functions[name])
        else:
            wrong_type(f"{where}.role", "a role the API knows")

    def _add_system(self, message: dict[str, Any], where: str) -> None:
        blocks = self._blocks(message.get("content"), where)
        for number, block in enumerate(blocks):
            if block.get("type") != "text":
                unsupported(f"{where}.content[{number}]", "A system message can hold text only for this model.")
        rest = self._marked(blocks, message)
        if self._leading or not self._inline_system:
            self._system += blocks
            self._dropped.update(f"messages.{name}" for name in rest)
        else:
            self._push("system", message, blocks, rest)

    def _add_user(self, message: dict[str, Any], where: str) -> None:
        blocks = self._blocks(message.get("content"), where)
        rest = self._marked(blocks, message)
        if self._results and blocks:
            self.turns[-1]["content"] += blocks
            self.turns[-1].update(rest)
        else:
            self._push("user", message, blocks, rest)

    def _add_assistant(self, message: dict[str, Any], where: str, index: int) -> None:
        blocks = self._thinking(message, where)
        content = message.get("content")
        blocks += self._blocks("" if content is None else content, where)
        if message.get("refusal") is not None:
            blocks += _text_blocks(_text_in(message, "refusal", where))
        blocks += self._calls(message, where, index)
        for name in _OF_ANSWERS:
            self._drop(message, name)
        rest = self._marked(blocks, message)
        self._push("assistant", message, blocks, _without(rest, _REASONING + _OF_ANSWERS))

    def _push(self, role: str, message: dict[str, Any], blocks: list[Block], rest: dict[str, Any]) -> None:
        """Append a turn, unless it says nothing. What was a string stays one, if there is nothing beside it."""
        if not blocks:
            return
        alone = len(blocks) == 1 and len(blocks[0]) == 2 and blocks[0].get("type") == "text"
        as_text = alone and not isinstance(message.get("content"), list)
        self._results = 0
        self.turns.append({**rest, "role": role, "content": blocks[0]["text"] if as_text else blocks})

    def _add_result(self, message: dict[str, Any], where: str, tool_use_id: str) -> None:
        content = message.get("content")
        inner = self._blocks("" if content is None else content, where)
        block: Block = {"type": "tool_result", "tool_use_id": tool_use_id}
        if inner:
            block["content"] = content if isinstance(content, str) else inner
        block |= self._rest_of(message)
        if self._results:
            self.turns[-1]["content"].insert(self._results, block)
        else:
            self.turns.append({"role": "user", "content": [block]})
        self._results += 1

    def _thinking(self, message: dict[str, Any], where: str) -> list[Block]:
        """Return the thinking that came with a signature; without one Anthropic does not take it back."""
        signed: list[Block] = []
        for number, block in enumerate(_list_in(message, "thinking_blocks", where)):
            if not isinstance(block, dict):
                wrong_type(f"{where}.thinking_blocks[{number}]", "an object")
            if _is_signed(block):
                signed.append(block)
            else:
                self._dropped.add("messages.thinking_blocks")
        if not signed:
            for name in _REASONING:
                self._drop(message, name)
        return signed

    def _calls(self, message: dict[str, Any], where: str, index: int) -> list[Block]:
        blocks = []
        for number, call in enumerate(_list_in(message, "tool_calls", where)):
            place = f"{where}.tool_calls[{number}]"
            if not isinstance(call, dict):
                wrong_type(place, "an object")
            if call.get("type") not in (None, "function"):
                unsupported(f"{place}.type", "Only calls of functions can be sent to this model.")
            block = _tool_use(_tool_id(_text_in(call, "id", place)), _object_in(call, "function", place), place)
            blocks.append(block | _without(call, ("id", "type", "function", "index")))
        if message.get("function_call") is not None:
            call = _object_in(message, "function_call", where)
            block = _tool_use(f"function_{index}", call, where, "function_call")
            self._functions[block["name"]] = block["id"]
            blocks.append(block)
        return blocks

    def _blocks(self, content: Any, where: str) -> list[Block]:
        if isinstance(content, str):
            return _text_blocks(content)
        if not isinstance(content, list):
            wrong_type(f"{where}.content", "a string or an array")
        blocks: list[Block] = []
        for number, part in enumerate(content):
            place = f"{where}.content[{number}]"
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                wrong_type(place, "an object with a type")
            translate = _PARTS.get(part["type"])
            blocks += [part] if translate is None else translate(part, place, self._dropped)
        return blocks

    def _rest_of(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return the members that pass unread."""
        self._drop(message, "name")
        return _without(message, _TRANSLATED)

    def _marked(self, blocks: list[Block], message: dict[str, Any]) -> dict[str, Any]:
        """Return the members that pass unread. A turn cannot be marked for the cache: its last block is instead."""
        rest = self._rest_of(message)
        mark = rest.pop("cache_control", None)
        if mark is not None and blocks:
            blocks[-1] = blocks[-1] | {"cache_control": mark}
        return rest

    def _drop(self, message: dict[str, Any], name: str) -> None:
        if message.get(name) not in (None, "", [], {}):
            self._dropped.add(f"messages.{name}")


_TRANSLATED = (
    "role", "content", "name", "tool_call_id", "tool_calls", "function_call", "refusal", "thinking_blocks",
)  # fmt: skip
_REASONING = ("reasoning_content", "reasoning", "reasoning_details")
_OF_ANSWERS = ("annotations", "audio")
"""Clients send whole answers back; these members of them say nothing to the model."""


def _is_signed(block: dict[str, Any]) -> bool:
    seal = {"thinking": "signature", "redacted_thinking": "data"}.get(str(block.get("type")), "")
    return isinstance(block.get(seal), str) and block[seal] != ""


_TOOL_ID = re.compile(r"[A-Za-z0-9_-]+")


def _tool_id(identity: str) -> str:
    """Return the id of a call as Anthropic takes it: ids that other upstreams made (`functions.add:0`) may need it."""
    return identity if _TOOL_ID.fullmatch(identity) else re.sub(r"[^A-Za-z0-9_-]", "_", identity)


def _tool_use(identity: str, call: dict[str, Any], where: str, name: str = "function") -> Block:
    place = f"{where}.{name}"
    arguments = call.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        wrong_type(f"{place}.arguments", "a string")
    try:
        read = decode_exactly(arguments) if arguments and arguments.strip() else {}
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        wrong_type(f"{place}.arguments", "a JSON object, written as a string")
    return {"type": "tool_use", "id": identity, "name": _text_in(call, "name", place), "input": read}


def _text_blocks(text: str) -> list[Block]:
    return [{"type": "text", "text": text}] if text.strip() else []


def _text(part: dict[str, Any], where: str, _dropped: set[str]) -> list[Block]:
    text = part.get("text")
    if not isinstance(text, str):
        wrong_type(f"{where}.text", "a string")
    return [part] if text.strip() else []


def _refusal(part: dict[str, Any], where: str, _dropped: set[str]) -> list[Block]:
    refusal = part.get("refusal")
    if not isinstance(refusal, str):
        wrong_type(f"{where}.refusal", "a string")
    return [block | _without(part, ("type", "refusal")) for block in _text_blocks(refusal)]


def _image(part: dict[str, Any], where: str, dropped: set[str]) -> list[Block]:
    image = _object_in(part, "image_url", where)
    url = _text_in(image, "url", f"{where}.image_url")
    _drop_others(image, ("url",), "messages.content.image_url", dropped)
    if url[:5].lower() == "data:":
        source = _base64_source(url, f"{where}.image_url.url")
    else:
        source = {"type": "url", "url": url}
    return [{"type": "image", "source": source, **_without(part, ("type", "image_url"))}]


def _file(part: dict[str, Any], where: str, dropped: set[str]) -> list[Block]:
    file = _object_in(part, "file", where)
    if file.get("file_data") is None and file.get("file_id") is not None:
        unsupported(f"{where}.file.file_id", "A file cannot be named by its id for this model; send its data.")
    data = _text_in(file, "file_data", f"{where}.file")
    _drop_others(file, ("file_data", "filename"), "messages.content.file", dropped)
    block: Block = {"type": "document", "source": _base64_source(data, f"{where}.file.file_data")}
    if file.get("filename") is not None:
        block["title"] = _text_in(file, "filename", f"{where}.file")
    return [block | _without(part, ("type", "file"))]


def _audio(_part: dict[str, Any], where: str, _dropped: set[str]) -> list[Block]:
    unsupported(where, "This model takes no audio.")


_PARTS: dict[str, Callable[[dict[str, Any], str, set[str]], list[Block]]] = {
    "text": _text,
    "refusal": _refusal,
    "image_url": _image,
    "file": _file,
    "input_audio": _audio,
}
"""Parts of other types pass as they are, and the upstream judges them."""


def _base64_source(uri: str, where: str) -> dict[str, str]:
    split = split_data_uri(uri)
    if split is None:
        unsupported(where, f"'{where}' must be a data URI in base64 for this model.")
    return {"type": "base64", "media_type": split[0], "data": split[1]}


def _without(holder: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in holder.items() if name not in names}


def _drop_others(holder: dict[str, Any], names: Iterable[str], where: str, dropped: set[str]) -> None:
    dropped.update(f"{where}.{name}" for name, value in _without(holder, names).items() if value is not None)


def _text_in(holder: dict[str, Any], name: str, where: str) -> str:
    value = holder.get(name)
    if not isinstance(value, str) or not value:
        wrong_type(f"{where}.{name}", "a string that is not empty")
    return value


def _object_in(holder: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    value = holder.get(name)
    if not isinstance(value, dict):
        wrong_type(f"{where}.{name}", "an object")
    return value


def _list_in(holder: dict[str, Any], name: str, where: str) -> list[Any]:
    value = holder.get(name)
    if value is not None and not isinstance(value, list):
        wrong_type(f"{where}.{name}", "an array")
    return value or []
