"""What both directions of translation share: the settings, the result, exact JSON, data URIs, the words for an end.

JSON is decoded so that every number keeps its digits: what is copied (tool schemas, arguments) has the same value
on the other side. Whole numbers below 10**18 are `int`, all others `msgspec.Raw`; `number` reads both.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import msgspec

from router.errors import Kind, RequestError


class Options(msgspec.Struct, frozen=True):
    """What a model's configuration says about its translation."""

    default_max_tokens: int = 4096
    """Anthropic requires `max_tokens`; this is sent if the client gave none."""
    inline_system: bool = False
    """The model takes `role: system` between other messages; otherwise later ones are hoisted."""
    no_sampling: bool = False
    """The model rejects `temperature`, `top_p` and `top_k`."""
    adaptive_thinking: bool = True
    """The model takes `thinking: {type: adaptive}` with an effort; older ones take a budget of tokens."""
    thinking_required: bool = False
    """The model rejects `thinking: {type: disabled}`: an effort of `none` then sends nothing."""
    thinking_blocks: bool = False
    """Signed thinking is kept, in a member `thinking_blocks` that OpenAI's API does not know."""
    max_tokens_field: str = "max_completion_tokens"
    """How an OpenAI upstream calls the limit; some know only `max_tokens`."""
    takes_top_k: bool = False
    """The OpenAI upstream takes `top_k`, which OpenAI's own API does not know."""


class Translated(msgspec.Struct, frozen=True):
    """A request in the other dialect."""

    body: bytes
    dropped: tuple[str, ...]
    """What was left out, for `x-router-dropped-params`: sorted, each once, dotted where nested (`messages.name`)."""
    stream: bool
    wants_usage: bool
    """The client itself asked for usage on its stream."""


_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_NAMES_MAX = 64


def names_of(dropped: set[str]) -> tuple[str, ...]:
    """Return the names of `Translated.dropped`. They go into a header line, and some were made up by the client."""
    return tuple(sorted(filter(_NAME.fullmatch, dropped))[:_NAMES_MAX])


def unsupported(param: str, why: str) -> NoReturn:
    """Refuse a request that the other protocol cannot express.

    Raises:
        RequestError: UNSUPPORTED_PARAMETER.
    """
    raise RequestError(Kind.UNSUPPORTED_PARAMETER, why, param=param)


def wrong_type(param: str, wanted: str) -> NoReturn:
    """Refuse a request whose member `param` is not what it must be.

    Raises:
        RequestError: INVALID_TYPE.
    """
    raise RequestError(Kind.INVALID_TYPE, f"'{param}' must be {wanted}.", param=param)


def read_request(body: bytes) -> dict[str, Any]:
    """Decode a client's body exactly.

    Raises:
        RequestError: INVALID_JSON, also if it is nested too deeply or no object.
    """
    try:
        value = decode_exactly(body.decode("utf-8"))
    except RecursionError:
        value, why = None, "it is nested too deeply"
    except ValueError:
        value, why = None, "it is not JSON"
    else:
        why = "it is not an object"
    if not isinstance(value, dict):
        raise RequestError(Kind.INVALID_JSON, f"The body cannot be read: {why}.")
    return value


def write_request(request: dict[str, Any]) -> bytes:
    """Encode a translated request: it is a few levels deeper than what was read, at most."""
    return compact(request)


def read_answer(body: bytes) -> dict[str, Any] | None:
    """Decode an upstream's JSON object exactly; None if it is none. Bytes that are not UTF-8 are replaced."""
    try:
        value = decode_exactly(body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


_DEPTH_MAX = 500
"""Levels of arrays and objects. People write ten; what Python itself can read differs between its versions."""

_NESTING = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
"""A string, whatever it holds, or what opens or closes a level."""

_EXACT_DIGITS_MAX = 18
"""Whole numbers of so many characters fit into 64 bits; thousands of digits Python refuses to convert at all."""


def decode_exactly(text: str) -> Any:
    """Decode JSON without touching a digit of its numbers.

    Raises:
        ValueError: It is not JSON; NaN and Infinity are not.
        RecursionError: It is nested too deeply.
    """
    if text.count("[") + text.count("{") > _DEPTH_MAX:
        _check_depth(text)
    return json.loads(text, parse_float=_raw, parse_int=_int, parse_constant=_refuse)


def _check_depth(text: str) -> None:
    depth = 0
    for match in _NESTING.finditer(text):
        mark = match[0]
        if mark in "[{":
            depth += 1
            if depth > _DEPTH_MAX:
                raise RecursionError
        elif mark in "]}":
            depth -= 1


def _raw(digits: str) -> msgspec.Raw:
    return msgspec.Raw(digits.encode("ascii"))


def _int(digits: str) -> int | msgspec.Raw:
    return int(digits) if len(digits) <= _EXACT_DIGITS_MAX and digits != "-0" else _raw(digits)


def _refuse(word: str) -> NoReturn:
    raise ValueError(word)


def number(value: Any) -> int | float | None:
    """Return the value of a decoded number, rounded if a float cannot hold it; None if it is no number."""
    if isinstance(value, msgspec.Raw):
        return float(bytes(value))
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def compact(value: Any) -> bytes:
    """Encode without white space, numbers with the digits they came with.

    Half a surrogate pair, which JSON can smuggle into a string, stays escaped as it came.

    Raises:
        RecursionError: It is nested too deeply.
    """
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_escaped(value))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value if _encodes(value) else msgspec.Raw(json.dumps(value).encode("ascii"))
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, dict):
        return {
            name if _encodes(name) else name.encode("utf-8", "replace").decode("utf-8"): _escaped(member)
            for name, member in value.items()
        }
    return value


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


_DATA_URI = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)
_MEDIA_ALIASES = {"image/jpg": "image/jpeg"}
"""What people write, to what is registered; Anthropic rejects the first."""


def split_data_uri(uri: str) -> tuple[str, str] | None:
    """Split `data:image/png;base64,x` into media type and data; None if it is no data URI in base64."""
    found = _DATA_URI.match(uri)
    if found is None or not found[2].lower().endswith(";base64"):
        return None
    media_type = found[1].strip().lower()
    return _MEDIA_ALIASES.get(media_type, media_type), uri[found.end() :]


def join_data_uri(media_type: str, data: str) -> str:
    """Join media type and base64 data; the reverse of `split_data_uri`."""
    return f"data:{media_type};base64,{data}"


_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def finish_reason(stop_reason: Any) -> str:
    """Return OpenAI's word for why Anthropic's answer ended; `stop` if it is not known (PROTOCOL 10.2)."""
    return _FINISH_REASONS.get(stop_reason, "stop") if isinstance(stop_reason, str) else "stop"


def stop_reason(finish_reason: Any) -> str:
    """Return Anthropic's word for why OpenAI's answer ended; `end_turn` if it is not known (PROTOCOL 10.2)."""
    return _STOP_REASONS.get(finish_reason, "end_turn") if isinstance(finish_reason, str) else "end_turn"
