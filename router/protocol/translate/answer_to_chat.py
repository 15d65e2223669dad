"""Anthropic's answer as a chat completion (PROTOCOL 10.2). `stream_to_chat` does the same to a stream."""

from __future__ import annotations

from typing import Any

from router.protocol.translate.common import compact, finish_reason, number, read_answer
from router.protocol.usage import of_anthropic


def answer_to_chat(body: bytes, *, created: int, thinking_blocks: bool = False) -> bytes | None:
    """Translate a whole answer; None if it is no message, an error for one. Never raises.

    Args:
        body: What the upstream sent under a 2xx status.
        created: Now, in whole seconds since 1970: Anthropic does not say when.
        thinking_blocks: Signed thinking goes along as `thinking_blocks`, to be sent back (`Options.thinking_blocks`).
    """
    message = read_answer(body)
    if message is None or message.get("type", "message") != "message" or not isinstance(message.get("content"), list):
        return None
    try:
        return compact(_completion(message, created, thinking_blocks=thinking_blocks))
    except RecursionError:
        return None


def _completion(message: dict[str, Any], created: int, *, thinking_blocks: bool) -> dict[str, Any]:
    answer = {
        "id": chat_id(message.get("id"), created),
        "object": "chat.completion",
        "created": created,
        "model": text_or_empty(message.get("model")),
        "choices": [
            {
                "index": 0,
                "message": _message(message["content"], thinking_blocks=thinking_blocks),
                "logprobs": None,
                "finish_reason": finish_reason(message.get("stop_reason")),
            }
        ],
    }
    usage = chat_usage(_plain(message.get("usage")))
    if usage is not None:
        answer["usage"] = usage
    return answer


def _plain(value: Any) -> Any:
    """Return what was decoded exactly with its numbers as numbers, for to count is to read them."""
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    exact = number(value)
    return value if exact is None else exact


def _message(content: list[Any], *, thinking_blocks: bool) -> dict[str, Any]:
    blocks = [block for block in content if isinstance(block, dict)]
    message: dict[str, Any] = {"role": "assistant", "content": _joined(blocks, "text"), "refusal": None}
    reasoning = _joined(blocks, "thinking")
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    if thinking_blocks and (signed := [block for block in blocks if text_or_empty(block.get("type")) in SIGNED]):
        message["thinking_blocks"] = signed
    calls = [_call(block, k) for k, block in enumerate(block for block in blocks if block.get("type") == "tool_use")]
    if calls:
        message["tool_calls"] = calls
    return message


SIGNED = {"thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}
"""Blocks that the model takes back unchanged only, and the texts they hold."""


def _joined(blocks: list[dict[str, Any]], kind: str) -> str | None:
    """Join the texts of one kind of block as they are: one sentence may be cut into several by its citations."""
    texts = [text_or_empty(block.get(kind)) for block in blocks if block.get("type") == kind]
    return "".join(texts) if texts else None


def _call(block: dict[str, Any], k: int) -> dict[str, Any]:
    function = {"name": text_or_empty(block.get("name")), "arguments": arguments(block.get("input"))}
    return {"id": call_id(block.get("id"), k), "type": "function", "function": function}


def chat_id(identity: Any, created: int) -> str:
    """Return the id of the translated answer; one made from the time if the upstream gave none."""
    return f"chatcmpl-{identity if isinstance(identity, str) and identity else created}"


def call_id(identity: Any, k: int) -> str:
    """Return the id of the `k`th tool call, unchanged; results must refer to one, so a missing id is made up."""
    return identity if isinstance(identity, str) and identity else f"call_{k}"


def arguments(value: Any) -> str:
    """Return a tool's input as text; `{}` if it is empty or no object."""
    return compact(value).decode("utf-8") if isinstance(value, dict) and value else "{}"


def text_or_empty(value: Any) -> str:
    """Return `value` if it is text."""
    return value if isinstance(value, str) else ""


def chat_usage(usage: Any) -> dict[str, Any] | None:
    """Return Anthropic's usage in OpenAI's terms; None if it holds no usable count.

    OpenAI's prompt contains what was read from a cache and written to it, Anthropic's input does not (PROTOCOL 9.1).
    Read by way of the record that is billed, so that a client adds up to the same figures.
    """
    used = of_anthropic(usage) if isinstance(usage, dict) else None
    if used is None:
        return None
    return {
        "prompt_tokens": used.prompt,
        "completion_tokens": used.completion,
        "total_tokens": used.total,
        "prompt_tokens_details": {
            "cached_tokens": used.cache_read,
            "cache_write_tokens": used.cache_write + used.cache_write_long,
        },
        "completion_tokens_details": {"reasoning_tokens": used.reasoning},
    }
