"""Every endpoint of Anthropic's protocol, as calls of its SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.harness import answers
from tests.harness.endpoints import INPUT_TOKENS
from tests.sdk.openai_cases import SCHEMA, call, case, deltas
from tests.sdk.running import CLAUDE

if TYPE_CHECKING:
    from collections.abc import Mapping

USAGE = {"input": 19, "cache_read": 6, "cache_write": 4, "cache_write_long": 3, "output": 11}
"""What the router records of the usage in `tests.harness.answers`."""

MESSAGES = [{"role": "user", "content": "What is the weather in Zürich?"}]
TOOLS = [{"name": "weather", "description": "Tells the weather.", "input_schema": SCHEMA}]
TOOL_INPUT = {"city": "Zürich", "days": 2}

_MESSAGE: dict[str, Any] = {"model": CLAUDE, "max_tokens": 2048, "messages": MESSAGES}
_THINKING: dict[str, Any] = {**_MESSAGE, "thinking": {"type": "enabled", "budget_tokens": 1024}}
_TOOLS: dict[str, Any] = {**_MESSAGE, "tools": TOOLS}
_STREAM: dict[str, Any] = {"read": "stream", "stream": True}
_ACCUMULATED: dict[str, Any] = {"read": "get_final_message"}
_DELTAS = deltas("delta.text", answers.PIECES, start=2)

CASES = [
    case(
        call("claude-message", "messages.create", **_MESSAGE),
        {"content.0.text": answers.TEXT, "usage.cache_creation.ephemeral_1h_input_tokens": 3},
        "messages",
        USAGE,
    ),
    case(
        call("claude-tools", "messages.create", **_TOOLS),
        {"content.1.input": TOOL_INPUT, "stop_reason": "tool_use"},
        "messages",
        USAGE,
    ),
    case(
        call("claude-thinking", "messages.create", **_THINKING),
        {"content.0.thinking": "Let me think.", "content.1.text": answers.TEXT},
        "messages",
        USAGE,
    ),
    case(
        call("claude-stream", "messages.create", **_STREAM, **_MESSAGE),
        {"0.message.usage.input_tokens": 19, **_DELTAS, "7.delta.stop_reason": "end_turn", "8.type": "message_stop"},
        "messages",
        USAGE,
    ),
    case(
        call("claude-accumulated", "messages.stream", **_ACCUMULATED, **_MESSAGE),
        {"content.0.text": answers.TEXT, "usage.output_tokens": 11},
        "messages",
        USAGE,
    ),
    case(
        call("claude-accumulated-tools", "messages.stream", **_ACCUMULATED, **_TOOLS),
        {"content.1.input": TOOL_INPUT, "stop_reason": "tool_use"},
        "messages",
        USAGE,
    ),
    case(
        call("claude-accumulated-thinking", "messages.stream", **_ACCUMULATED, **_THINKING),
        {"content.0.thinking": "Let me think.", "content.0.signature": "EqQBCgIYAhIM", "content.1.text": answers.TEXT},
        "messages",
        USAGE,
    ),
    case(
        call("claude-beta", "beta.messages.create", **_MESSAGE, betas=["context-1m-2025-08-07"]),
        {"content.0.text": answers.TEXT},
        "messages",
        USAGE,
    ),
    case(
        call("claude-count", "messages.count_tokens", model=CLAUDE, messages=MESSAGES, tools=TOOLS),
        {"input_tokens": INPUT_TOKENS},
        "count_tokens",
        free=True,
    ),
]

MODELS = [call("models", "models.list"), call("models-narrow", "models.list", key="narrow")]

PLACES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "message": ("messages.create", {"max_tokens": 16, "messages": MESSAGES}),
    "stream": ("messages.create", {**_STREAM, "max_tokens": 16, "messages": MESSAGES}),
    "count": ("messages.count_tokens", {"messages": MESSAGES}),
}
"""Where refusals are tried."""

REFUSALS: Mapping[str, tuple[str, str, str, int, str, str]] = {
    "unauthorized": ("nobody", CLAUDE, "AuthenticationError", 401, "authentication_error", "invalid_api_key"),
    "forbidden": ("narrow", CLAUDE, "PermissionDeniedError", 403, "permission_error", "model_not_allowed"),
    "unknown": ("full", "nobody/has:it", "NotFoundError", 404, "not_found_error", "model_not_found"),
    "limited": ("limited", CLAUDE, "RateLimitError", 429, "rate_limit_error", "requests_per_minute"),
    "busy": ("full", "claude-busy", "RateLimitError", 429, "rate_limit_error", "upstream_rate_limited"),
    "drained": ("full", "claude-drained", "InternalServerError", 503, "overloaded_error", "no_healthy_upstream"),
}
"""Key, model, and what comes of them: the SDK's exception, the status, Anthropic's type, and the router's reason."""

REFUSED = [
    call("limited-first", "messages.create", key="limited", max_tokens=16, messages=MESSAGES, model=CLAUDE),
    *(
        call(f"claude-{place}-{name}", method, key=key, model=model, **arguments)
        for place, (method, arguments) in PLACES.items()
        for name, (key, model, *_) in REFUSALS.items()
    ),
    *(
        call(f"claude-{place}-refusing", method, model="claude-refusing", **arguments)
        for place, (method, arguments) in PLACES.items()
    ),
    call("claude-odd", "messages.create", max_tokens=16, messages=MESSAGES, model=7),
]

CUT = [
    call("claude-cut", "messages.create", **_STREAM, **_MESSAGE | {"model": "claude-cutting"}),
    call("claude-cut-accumulated", "messages.stream", **_ACCUMULATED, **_MESSAGE | {"model": "claude-cutting"}),
]

CALLS = [*(each.call for each in CASES), *MODELS, *REFUSED, *CUT]
