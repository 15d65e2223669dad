"""The whole answer of an OpenAI chat upstream, rebuilt as an Anthropic message (PROTOCOL 10.2).

`stream_to_messages` does the same piece by piece; what both say in the same words is defined here. Of several choices
only the first is an answer on this side.
"""

from __future__ import annotations

from typing import Any

from router.protocol import openai
from router.protocol.patient_json import read_object
from router.protocol.translate.common import compact, decode_exactly, stop_reason
from router.protocol.usage import of_openai


def answer_to_messages(body: bytes) -> bytes | None:
    """Return the body of the Anthropic message; None if `body` is no chat completion that could be one.

    So it is with an error, an answer without choices, and a tool call whose arguments are not a JSON object.
    """
    answer = read_object(body)
    choice = _first_choice(answer) if answer is not None else None
    if answer is None or choice is None:
        return None
    identity = message_id(answer)
    blocks = _blocks(choice["message"], identity)
    if blocks is None:
        return None
    called = any(block["type"] == "tool_use" for block in blocks)
    message = {
        "id": identity,
        "type": "message",
        "role": "assistant",
        "model": text_or_empty(answer.get("model")),
        "content": blocks,
        "stop_reason": end_of_turn(choice.get("finish_reason"), called=called),
        "stop_sequence": None,
        "usage": usage_of_message(openai.usage_of(answer)),
    }
    try:
        return compact(message)
    except RecursionError:
        return None


def message_id(answer: dict[str, Any]) -> str:
    """Return the message's id, which is the completion's with a prefix."""
    return "msg_" + text_or_empty(answer.get("id"))


def end_of_turn(finish_reason: Any, *, called: bool) -> str:
    """Return the stop reason, `called` telling whether the answer holds tool calls.

    With a named `tool_choice` OpenAI finishes with `stop`, and some upstreams always do. Anthropic's clients run a
    tool only if the stop reason says so.
    """
    reason = stop_reason(finish_reason)
    return "tool_use" if called and reason == "end_turn" else reason


def usage_of_message(usage: dict[str, Any] | None) -> dict[str, Any]:
    """Return a usage object as Anthropic's, in which the input excludes what a cache read or wrote (PROTOCOL 9.1).

    Clients rely on the counts being numbers, so an unreported one is zero; accounting reads the upstream's own.
    """
    used = of_openai(usage) if usage is not None else None
    if used is None:
        return {
            "input_tokens": 0,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 0,
        }
    written = used.cache_write + used.cache_write_long
    counts: dict[str, Any] = {
        "input_tokens": used.prompt - used.cache_read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": used.cache_read,
        "output_tokens": used.completion,
    }
    if used.reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": used.reasoning}
    return counts


def spoken(message: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a message or a delta says besides calling tools, as block types (`thinking`, `text`) and texts.

    Reasoning comes under two names, from some upstreams under both; content may be a list of parts (Mistral).
    """
    content = message.get("content")
    said = [("thinking", message.get("reasoning_content") or message.get("reasoning"))]
    said += map(_spoken_part, content) if isinstance(content, list) else [("text", content)]
    said.append(("text", message.get("refusal")))
    return [(kind, text) for kind, text in said if isinstance(text, str) and text]


def tool_calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tool calls of a message or a delta; a `function_call` of the older API stands as one."""
    calls = message.get("tool_calls")
    found = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    function = message.get("function_call")
    if not found and isinstance(function, dict):
        found.append({"index": 0, "function": function})
    return found


def text_or_empty(value: Any) -> str:
    """Return a string as it is, and anything else as the empty one."""
    return value if isinstance(value, str) else ""


def _first_choice(answer: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first choice if it is a message and not a failure (OpenRouter's finish reason `error`)."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or choice.get("finish_reason") == "error":
        return None
    return choice if isinstance(choice.get("message"), dict) else None


def _blocks(message: dict[str, Any], identity: str) -> list[dict[str, Any]] | None:
    """Return the content blocks, thinking first; None if a tool call cannot be one."""
    blocks: list[dict[str, Any]] = []
    for kind, text in sorted(spoken(message), key=lambda piece: piece[0] != "thinking"):
        if kind == "thinking":
            blocks.append({"type": "thinking", "thinking": text, "signature": ""})
        else:
            blocks.append({"type": "text", "text": text})
    for position, call in enumerate(tool_calls(message)):
        block = _tool_use(call, fallback_id=f"call_{identity}_{position}")
        if block is None:
            return None
        blocks.append(block)
    return blocks


def _tool_use(call: dict[str, Any], fallback_id: str) -> dict[str, Any] | None:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _parsed(arguments)
    elif arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        return None
    identity = text_or_empty(call.get("id")) or fallback_id
    return {"type": "tool_use", "id": identity, "name": function["name"], "input": arguments}


def _parsed(arguments: str) -> Any:
    """Decode arguments; nothing at all stands for no arguments."""
    if not arguments.strip():
        return {}
    try:
        return decode_exactly(arguments)
    except (ValueError, RecursionError):
        return None


def _spoken_part(part: Any) -> tuple[str, Any]:
    """Return one part of a content list; Mistral wraps its thinking in one more list."""
    if not isinstance(part, dict):
        return "text", None
    thinking = part.get("thinking")
    if isinstance(thinking, list):
        return "thinking", "".join(text_or_empty(inner.get("text")) for inner in thinking if isinstance(inner, dict))
    if part.get("type") == "thinking":
        return "thinking", thinking
    return "text", part.get("text") or part.get("refusal")
