"""A chat request as a request to Anthropic's messages (PROTOCOL 10.1, its third column).

Each member is taken out of the request by the function that translates it. What is left is unknown and passes, for the
upstream to judge. `chat_turns` translates the messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from router.errors import Kind, RequestError
from router.protocol.translate.chat_turns import Turns
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

if TYPE_CHECKING:
    from collections.abc import Iterable

_T = TypeVar("_T")

Members = dict[str, Any]


def to_messages(body: bytes, model: str, options: Options) -> Translated:
    """Translate a chat request for an Anthropic upstream, where the model is called `model`.

    What is sent rests on `anthropic-version: 2023-06-01`: later ones know no sampling parameters (PROTOCOL 2.6).

    Raises:
        RequestError: INVALID_JSON; MISSING_PARAMETER without messages; INVALID_TYPE; UNSUPPORTED_PARAMETER for what
            cannot be expressed, or would give the answer another shape.
    """
    members = read_request(body)
    dropped: set[str] = set()
    members.pop("model", None)
    _refuse_other_answers(members)
    stream, wants_usage = _streaming(members)
    turns = _turns(members, options, dropped)
    request: Members = {"model": model}
    limited = _limit(members, request, options)
    if turns.system:
        request["system"] = turns.system
    request["messages"] = turns.turns
    _tools(members, request)
    _think(members, request, turns, options, limited=limited, dropped=dropped)
    _sampling(members, request, options, dropped)
    _stops(members, request, dropped)
    _format(members, request, dropped)
    _service(members, request, dropped)
    if stream:
        request["stream"] = True
    names = [name for name in members if name in _WITHOUT_COUNTERPART or name.startswith("prompt_cache_")]
    _drop(members, names, dropped)
    _pass(members, request, dropped)
    return Translated(write_request(request), names_of(dropped), stream, wants_usage)


_WITHOUT_COUNTERPART = frozenset((
    "seed", "presence_penalty", "frequency_penalty", "logit_bias", "store", "metadata", "prediction", "verbosity",
    "top_logprobs", "audio",
))  # fmt: skip


def _take(members: Members, name: str, kind: type[_T], wanted: str) -> _T | None:
    """Take a member out; None if it is absent or null."""
    value = members.pop(name, None)
    if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        wrong_type(name, wanted)
    return value


def _take_number(members: Members, name: str) -> Any:
    """Take a number out, with the digits it came with."""
    value = members.pop(name, None)
    if value is not None and number(value) is None:
        wrong_type(name, "a number")
    return value


def _drop(members: Members, names: Iterable[str], dropped: set[str]) -> None:
    dropped.update(name for name in names if members.pop(name, None) is not None)


def _refuse_other_answers(members: Members) -> None:
    """Refuse what would give the answer a shape that Anthropic has no words for."""
    choices = number(_take_number(members, "n"))
    if choices is not None and choices != 1:
        unsupported("n", "This model gives one choice for each request.")
    if _take(members, "logprobs", bool, "a boolean"):
        unsupported("logprobs", "This model reports no log probabilities.")
    if "audio" in (_take(members, "modalities", list, "an array") or ()):
        unsupported("modalities", "This model does not speak.")


def _streaming(members: Members) -> tuple[bool, bool]:
    stream = _take(members, "stream", bool, "a boolean") or False
    chosen = _take(members, "stream_options", dict, "an object") or {}
    return stream, stream and chosen.get("include_usage") is True


def _turns(members: Members, options: Options, dropped: set[str]) -> Turns:
    messages = _take(members, "messages", list, "an array")
    if messages is None:
        raise RequestError(Kind.MISSING_PARAMETER, "The body must hold messages.", param="messages")
    return Turns(messages, inline_system=options.inline_system, dropped=dropped)


def _limit(members: Members, request: Members, options: Options) -> bool:
    """Set the limit that Anthropic requires; return whether it is the client's own."""
    newer = _take(members, "max_completion_tokens", int, "a whole number")
    older = _take(members, "max_tokens", int, "a whole number")
    given = older if newer is None else newer
    request["max_tokens"] = options.default_max_tokens if given is None else given
    return given is not None


def _tools(members: Members, request: Members) -> None:
    tools = [
        _tool(tool, f"tools[{index}]") for index, tool in enumerate(_take(members, "tools", list, "an array") or ())
    ]
    tools += [
        _function(function, f"functions[{index}]")
        for index, function in enumerate(_take(members, "functions", list, "an array") or ())
    ]
    if tools:
        request["tools"] = tools
    choice = _choice(members)
    if choice and (tools or choice["type"] in _FORCED):  # without tools Anthropic takes no choice, not even `none`
        request["tool_choice"] = choice


def _tool(tool: Any, where: str) -> Members:
    if not isinstance(tool, dict):
        wrong_type(where, "an object")
    kind = tool.get("type", "function")
    if kind == "custom":
        unsupported(f"{where}.type", "This model takes functions only, no custom tools.")
    if kind != "function":
        return tool
    rest = {name: value for name, value in tool.items() if name not in ("type", "function")}
    return rest | _function(tool.get("function"), f"{where}.function")


def _function(function: Any, where: str) -> Members:
    if not isinstance(function, dict):
        wrong_type(where, "an object")
    if not isinstance(function.get("name"), str):
        wrong_type(f"{where}.name", "a string")
    schema = function.get("parameters")
    if schema is not None and not isinstance(schema, dict):
        wrong_type(f"{where}.parameters", "an object")
    said = {name: value for name, value in function.items() if name != "parameters" and value is not None}
    return said | {"input_schema": schema or {"type": "object", "properties": {}}}


_FORCED = ("any", "tool")
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def _choice(members: Members) -> Members | None:
    """Return Anthropic's `tool_choice`; None if nothing is asked for."""
    choice = None
    older = members.pop("function_call", None)
    chosen = members.pop("tool_choice", None)
    if chosen is not None:
        choice = _chosen(chosen, "tool_choice")
    elif older is not None:
        choice = _chosen({"function": older} if isinstance(older, dict) else older, "function_call")
    parallel = _take(members, "parallel_tool_calls", bool, "a boolean")
    if parallel is False and (choice is None or choice["type"] != "none"):
        choice = (choice or {"type": "auto"}) | {"disable_parallel_tool_use": True}
    return choice


def _chosen(chosen: Any, where: str) -> Members:
    if isinstance(chosen, str):
        if chosen not in _CHOICES:
            unsupported(where, f"'{where}' must be 'auto', 'none', 'required' or the name of a function.")
        return {"type": _CHOICES[chosen]}
    if not isinstance(chosen, dict):
        wrong_type(where, "a string or an object")
    if chosen.get("type", "function") != "function":
        unsupported(f"{where}.type", "Only a function can be chosen for this model.")
    function = chosen.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        wrong_type(f"{where}.function.name", "a string")
    return {"type": "tool", "name": name}


_EFFORTS = {"minimal": "low"}
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 8192}
_BUDGET_MIN = 1024
"""Anthropic takes no smaller one."""


def _think(
    members: Members, request: Members, turns: Turns, options: Options, *, limited: bool, dropped: set[str]
) -> None:
    effort = _take(members, "reasoning_effort", str, "a string")
    if effort is None:
        return
    forced = request.get("tool_choice", {}).get("type") in _FORCED  # a forced choice and thinking exclude each other
    if effort == "none":
        if options.thinking_required:
            dropped.add("reasoning_effort")
        else:
            request["thinking"] = {"type": "disabled"}
    elif options.adaptive_thinking:
        request["output_config"] = {"effort": _EFFORTS.get(effort, effort)}
        if not forced:
            request["thinking"] = {"type": "adaptive", "display": "summarized"}
    elif effort not in _BUDGETS:
        unsupported("reasoning_effort", "This model knows no such effort.")
    elif forced or turns.thinking_is_lost or not _grant(request, _BUDGETS[effort], options, limited=limited):
        # A model with a budget also refuses results of a call whose own thinking did not come back with it.
        dropped.add("reasoning_effort")


def _grant(request: Members, budget: int, options: Options, *, limited: bool) -> bool:
    """Grant a budget, which must stay below `max_tokens`; return whether that is possible.

    Our own default is raised above the budget. The client's limit holds for thinking too, in both protocols: it is
    what the client is ready to pay for, and the budget gives way to it.
    """
    if request["max_tokens"] <= budget:
        if not limited:
            request["max_tokens"] = budget + options.default_max_tokens
        budget = min(budget, request["max_tokens"] - 1)
    if budget < _BUDGET_MIN:
        return False
    request["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return True


_NEUTRAL_FROM = {"temperature": 1.0, "top_p": 0.95, "top_k": float("inf")}
"""Beside thinking Anthropic refuses any smaller value, and `top_k` at all."""


def _sampling(members: Members, request: Members, options: Options, dropped: set[str]) -> None:
    thinks = request.get("thinking", {}).get("type") in ("adaptive", "enabled")
    for name, neutral in _NEUTRAL_FROM.items():
        given = _take_number(members, name)
        value = number(given)
        if value is None:
            continue
        if options.no_sampling or (thinks and value < neutral):
            dropped.add(name)
        else:
            request[name] = 1 if name == "temperature" and value > 1 else given


def _stops(members: Members, request: Members, dropped: set[str]) -> None:
    stop = members.pop("stop", None)
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None:
        return
    if not isinstance(stops, list) or not all(isinstance(entry, str) for entry in stops):
        wrong_type("stop", "a string or an array of strings")
    kept = [entry for entry in stops if entry.strip()]  # Anthropic refuses sequences of white space
    if len(kept) < len(stops):
        dropped.add("stop")
    if kept:
        request["stop_sequences"] = kept


def _format(members: Members, request: Members, dropped: set[str]) -> None:
    wanted = _take(members, "response_format", dict, "an object")
    kind = (wanted or {}).get("type", "text")
    if wanted is None or kind == "text":
        return
    if kind == "json_object":
        dropped.add("response_format")
        return
    if kind != "json_schema":
        unsupported("response_format.type", "This model knows no such format.")
    named = wanted.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    if not isinstance(schema, dict):
        wrong_type("response_format.json_schema.schema", "an object")
    request.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}


_TIERS = {"auto": "auto", "default": "standard_only"}


def _service(members: Members, request: Members, dropped: set[str]) -> None:
    older = _take(members, "user", str, "a string")
    newer = _take(members, "safety_identifier", str, "a string")
    if older is not None and newer not in (None, older):
        dropped.add("user")
    if older is not None or newer is not None:
        request["metadata"] = {"user_id": older if newer is None else newer}
    tier = _take(members, "service_tier", str, "a string")
    if tier in _TIERS:
        request["service_tier"] = _TIERS[tier]
    elif tier is not None:
        dropped.add("service_tier")


def _pass(members: Members, request: Members, dropped: set[str]) -> None:
    """Pass what is left. Where Anthropic's own name stands beside OpenAI's, the latter holds."""
    for name, value in members.items():
        ours = request.get(name)
        if name == "output_config" and isinstance(ours, dict) and isinstance(value, dict):
            request[name] = value | ours
        elif ours is None:
            request[name] = value
        else:
            dropped.add(name)
