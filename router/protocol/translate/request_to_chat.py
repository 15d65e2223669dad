"""A request to Anthropic's messages as a chat request (PROTOCOL 10.1, its fourth column).

Each member is taken out of the request by the function that translates it. What is left is unknown and passes, for the
upstream to judge. `chat_messages` translates the turns.
"""

from __future__ import annotations

from typing import Any, TypeVar

from router.errors import Kind, RequestError
from router.protocol.translate.chat_messages import ChatMessages
from router.protocol.translate.common import (
    Options,
    Translated,
    names_of,
    number,
    read_request,
    unsupported,
    write_request,
    wrong_type,
)

_T = TypeVar("_T")

Members = dict[str, Any]

STOPS_MAX = 4
"""OpenAI refuses more stop sequences."""


def to_chat(body: bytes, model: str, options: Options) -> Translated:
    """Translate a messages request for an OpenAI upstream, where the model is called `model`.

    A stream is always asked for its usage, for the client's dialect reports it unasked.

    Raises:
        RequestError: INVALID_JSON; MISSING_PARAMETER without messages; INVALID_TYPE; UNSUPPORTED_PARAMETER for what
            cannot be expressed.
    """
    members = read_request(body)
    dropped: set[str] = set()
    members.pop("model", None)
    stream = _take(members, "stream", bool, "a boolean") or False
    request: Members = {"model": model, "messages": _messages(members, options, dropped)}
    _limit(members, request, options)
    _sampling(members, request, options, dropped)
    _stops(members, request)
    _tools(members, request, dropped)
    _tool_choice(members, request)
    _output(members, request, dropped)
    _user(members, request, dropped)
    _service(members, request, dropped)
    if stream:
        request |= {"stream": True, "stream_options": {"include_usage": True}}
    _leave_out(members, dropped)
    request |= {name: value for name, value in members.items() if name not in request}
    return Translated(write_request(request), names_of(dropped), stream, wants_usage=stream)


_OTHER_ANSWERS = {
    "mcp_servers": "This model reaches no MCP servers.",
    "compaction": "This model answers; it does not compact conversations.",
    "thread": "This model keeps no conversations; send all of it.",
}
_WITHOUT_COUNTERPART = (
    "cache_control", "container", "context_management", "inference_geo", "speed", "diagnostics", "billing_policy",
    "fallbacks", "fallback_credit_token",
    "n", "stream_options",  # OpenAI's own words: a message has one choice, and what a stream reports is ours to say
)  # fmt: skip


def _leave_out(members: Members, dropped: set[str]) -> None:
    for name, why in _OTHER_ANSWERS.items():
        if members.pop(name, None):
            unsupported(name, why)
    dropped.update(name for name in _WITHOUT_COUNTERPART if members.pop(name, None) is not None)


def _messages(members: Members, options: Options, dropped: set[str]) -> list[Members]:
    turns = _take(members, "messages", list, "an array")
    if turns is None:
        raise RequestError(Kind.MISSING_PARAMETER, "The body must hold messages.", param="messages")
    system = members.pop("system", None)
    return ChatMessages(system, turns, keep_thinking=options.thinking_blocks, dropped=dropped).messages


def _limit(members: Members, request: Members, options: Options) -> None:
    limit = _take(members, "max_tokens", int, "a whole number")
    if limit is not None:
        request[options.max_tokens_field] = limit


def _sampling(members: Members, request: Members, options: Options, dropped: set[str]) -> None:
    taken = () if options.no_sampling else ("temperature", "top_p", "top_k")
    for name in ("temperature", "top_p", "top_k"):
        value = members.pop(name, None)
        if value is None:
            continue
        if number(value) is None:
            wrong_type(name, "a number")
        if name not in taken or (name == "top_k" and not options.takes_top_k):
            dropped.add(name)
        else:
            request[name] = value


def _stops(members: Members, request: Members) -> None:
    stops = _take(members, "stop_sequences", list, "an array of strings") or []
    if not all(isinstance(stop, str) for stop in stops):
        wrong_type("stop_sequences", "an array of strings")
    if len(stops) > STOPS_MAX:
        unsupported("stop_sequences", f"This model takes at most {STOPS_MAX} stop sequences.")
    if stops:
        request["stop"] = stops


_ONLY_ANTHROPIC = (
    "cache_control", "defer_loading", "allowed_callers", "input_examples", "eager_input_streaming",
)  # fmt: skip
"""Members of a tool that say nothing to another model."""


def _tools(members: Members, request: Members, dropped: set[str]) -> None:
    tools = _take(members, "tools", list, "an array") or []
    if tools:
        request["tools"] = [_tool(tool, f"tools[{index}]", dropped) for index, tool in enumerate(tools)]


def _tool(tool: Any, where: str, dropped: set[str]) -> Members:
    if not isinstance(tool, dict):
        wrong_type(where, "an object")
    schema = tool.get("input_schema")
    if schema is None and tool.get("type") not in (None, "custom"):
        unsupported(where, "This model knows only tools with an input schema.")
    if schema is not None and not isinstance(schema, dict):
        wrong_type(f"{where}.input_schema", "an object")
    if not isinstance(tool.get("name"), str):
        wrong_type(f"{where}.name", "a string")
    function = {name: value for name, value in tool.items() if name not in ("type", "input_schema", *_ONLY_ANTHROPIC)}
    if schema is not None:
        function["parameters"] = schema
    dropped.update(f"tools.{name}" for name in _ONLY_ANTHROPIC if tool.get(name) is not None)
    return {"type": "function", "function": function}


_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def _tool_choice(members: Members, request: Members) -> None:
    choice = _take(members, "tool_choice", dict, "an object")
    if choice is None:
        return
    kind = choice.get("type")
    if kind == "tool":
        if not isinstance(choice.get("name"), str):
            wrong_type("tool_choice.name", "a string")
        request["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    elif isinstance(kind, str) and kind in _CHOICES:
        request["tool_choice"] = _CHOICES[kind]
    else:
        wrong_type("tool_choice.type", "'auto', 'any', 'tool' or 'none'")
    if _take(choice, "disable_parallel_tool_use", bool, "a boolean", within="tool_choice"):
        request["parallel_tool_calls"] = False


def _output(members: Members, request: Members, dropped: set[str]) -> None:
    """Translate how much to think, and the form of the answer; both stand in `output_config`."""
    thinking = _take(members, "thinking", dict, "an object") or {}
    config = _take(members, "output_config", dict, "an object") or {}
    effort = _take(config, "effort", str, "a string", within="output_config")
    if effort is None:
        effort = _effort_of(thinking)
        if effort is None and thinking.get("type") == "disabled":
            dropped.add("thinking")  # models that cannot think refuse any word about it
    if effort is not None:
        request["reasoning_effort"] = "xhigh" if effort == "max" else effort
    if thinking.get("display") is not None:
        dropped.add("thinking.display")
    _format(config, "format", "output_config", request)
    _format(members, "output_format", "", request)
    dropped.update(f"output_config.{name}" for name, value in config.items() if value is not None)


def _effort_of(thinking: Members) -> str | None:
    """Return the effort that a budget of tokens amounts to (PROTOCOL 10.1)."""
    if thinking.get("type") != "enabled":
        return None
    budget = _take(thinking, "budget_tokens", int, "a whole number", within="thinking")
    if budget is None:
        return None
    return "low" if budget < 2048 else "medium" if budget < 8192 else "high"


def _format(members: Members, name: str, within: str, request: Members) -> None:
    """Translate the form of the answer; `output_format` is what it was called before `output_config`."""
    form = _take(members, name, dict, "an object", within=within)
    if form is None:
        return
    place = _place(name, within)
    if form.get("type") != "json_schema":
        unsupported(f"{place}.type", "The form of an answer can be given to this model as a JSON Schema only.")
    if not isinstance(form.get("schema"), dict):
        wrong_type(f"{place}.schema", "an object")
    schema = {"name": "output", "schema": form["schema"], "strict": True}
    request["response_format"] = {"type": "json_schema", "json_schema": schema}


def _user(members: Members, request: Members, dropped: set[str]) -> None:
    metadata = _take(members, "metadata", dict, "an object") or {}
    user = _take(metadata, "user_id", str, "a string", within="metadata")
    if user is not None:
        request["user"] = user
    dropped.update(f"metadata.{name}" for name in metadata)


_TIERS = {"auto": "auto", "standard_only": "default"}


def _service(members: Members, request: Members, dropped: set[str]) -> None:
    tier = members.pop("service_tier", None)
    if isinstance(tier, str) and tier in _TIERS:
        request["service_tier"] = _TIERS[tier]
    elif tier is not None:
        dropped.add("service_tier")


def _take(members: Members, name: str, kind: type[_T], wanted: str, *, within: str = "") -> _T | None:
    """Take a member out; None if it is absent or null."""
    value = members.pop(name, None)
    if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        wrong_type(_place(name, within), wanted)
    return value


def _place(name: str, within: str) -> str:
    return f"{within}.{name}" if within else name
