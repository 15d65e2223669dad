"""JSON bodies of requests: what is read of them, and what of them is sent on (PROTOCOL 3.4, 5.3, 11).

The judge is Python's own JSON decoder, which keeps every member in its order. What makes a body large is not spelt out:
a NUL, which no JSON holds, stands for 16,384 letters.
"""

from __future__ import annotations

import json
from typing import Any

from router.errors import Kind, RequestError
from router.protocol.asks import N_MAX, Ask
from router.protocol.edits import edits
from router.protocol.splice import MODEL_CHARS_MAX, TOKENS_MAX, compose, read_ask
from tests.fuzz.mutation import Number, Object

BYTES_MAX = 2048
WORDS = (
    b"model", b"stream", b"stream_options", b"include_usage", b"previous_response_id", b"conversation", b"id",
    b"max_tokens", b"max_completion_tokens", b"max_output_tokens", b"n", b"messages", b"input", b"voice", b"Model",
    b"MODEL", b"\\u006dodel", b"\\u017ftream", b"\\ud83d", b"\\ud83d\\ude00", b"\\\\", b'\\"', b"true", b"false",
    b"null", b"1e3", b"-1", b'{"include_usage":true}', b'"stream":true', b'{"model":"', b'"model":"m",', b";base64,",
    b";base64,\0", b"\0", b"temperature", b"\xef\xbb\xbf", b"\xed\xa0\xbd", b"\xc5\xbftream", b"gpt-5.5", b"\t", b" ",
)  # fmt: skip

_NUL = b"A" * 16_384
_DEPTH_MAX = 200
"""Levels of nesting that both decoders read."""
_GUARDED = ("model", "stream", "stream_options", "previous_response_id", "conversation")
_ROUTES = ((False, True), (False, False), (True, False))
"""Whether the model may be left out, and whether usage is asked for: no route has both."""
_UPSTREAM = 'up/"m\u00f6del"\\'
_DROPS = (("temperature", "stop"), ("max_tokens",), ("model", "n", "max_completion_tokens", "messages"))


def _refuse(word: str) -> Any:
    raise ValueError(word)


_DECODER = json.JSONDecoder(object_pairs_hook=Object, parse_int=Number, parse_float=Number, parse_constant=_refuse)


def check(data: bytes) -> None:
    """Read the body as every kind of route does, and send it on."""
    body = data.replace(b"\0", _NUL)
    if body.count(b"[") + body.count(b"{") > _DEPTH_MAX:
        return
    members = decoded(body)
    for optional, asks_usage in _ROUTES:
        _check_reading(body, members, optional=optional, asks_usage=asks_usage)


def decoded(body: bytes) -> Object | None:
    """The members of the object that the body is, in their order; None if it is none."""
    try:
        value = _DECODER.decode(body.decode())
    except ValueError:
        return None
    return value if isinstance(value, Object) else None


def _check_reading(body: bytes, members: Object | None, *, optional: bool, asks_usage: bool) -> None:
    faults = _faults(members, optional=optional, asks_usage=asks_usage)
    try:
        ask = read_ask(body, model_optional=optional, asks_usage=asks_usage)
    except RequestError as refused:
        assert (refused.kind, refused.param) in faults, f"wrong is {faults}"  # noqa: PT017 - no test: a promise
        return
    assert not faults, f"accepted with {faults}"
    assert members is not None
    _check_facts(ask, members, asks_usage=asks_usage)
    _check_ways(ask, body, optional=optional, asks_usage=asks_usage)
    for model in ("", ask.model, _UPSTREAM):
        for ask_usage in (True, False):
            _check_composed(ask, body, members, model, ask_usage=ask_usage)
    for drop in _DROPS:
        for field in (None, "max_tokens", "max_completion_tokens"):
            _check_edits(body, members, frozenset(drop), field)


Fault = tuple[Kind, str | None]


def _faults(members: Object | None, *, optional: bool, asks_usage: bool) -> set[Fault]:
    """Everything that a body can be refused for."""
    if members is None:
        return {(Kind.INVALID_JSON, None)}
    values = dict(members)
    faults = _doubles(members, _GUARDED, "")
    if "model" in values:
        if not _is_model(values["model"]):
            faults.add((Kind.INVALID_TYPE, "model"))
    elif not optional:
        faults.add((Kind.MISSING_PARAMETER, "model"))
    stream = values.get("stream")
    if stream is not None and not isinstance(stream, bool):
        faults.add((Kind.INVALID_TYPE, "stream"))
    options = values.get("stream_options")
    if stream is True and asks_usage and options is not None:
        if not isinstance(options, Object):
            return faults | {(Kind.INVALID_TYPE, "stream_options")}
        faults |= _doubles(options, ("include_usage",), "stream_options.")
        included = dict(options).get("include_usage")
        if included is not None and not isinstance(included, bool):
            faults.add((Kind.INVALID_TYPE, "stream_options.include_usage"))
    return faults


def _doubles(members: Object, guarded: tuple[str, ...], path: str) -> set[Fault]:
    """Names that come twice, or in a spelling that some server takes for the same."""
    faults: set[Fault] = set()
    names = [name for name, _ in members]
    for wanted in guarded:
        alike = [name for name in names if name.casefold() == wanted]
        if len(alike) > 1 or (alike and alike != [wanted]):
            faults.add((Kind.DUPLICATE_PARAMETER, path + wanted))
    return faults


def _is_model(value: Any) -> bool:
    return _is_text(value) and 0 < len(value) <= MODEL_CHARS_MAX


def _is_text(value: Any) -> bool:
    """It is a string, and no half a character is in it."""
    if not isinstance(value, str) or isinstance(value, Number):
        return False
    return not any(0xD800 <= ord(letter) < 0xE000 for letter in value)


def _check_facts(ask: Ask, members: Object, *, asks_usage: bool) -> None:
    values = dict(members)
    assert ask.model == values.get("model", "")
    assert ask.stream is (values.get("stream") is True)
    options = values.get("stream_options")
    wants = asks_usage and ask.stream and options is not None and dict(options).get("include_usage") is True
    assert ask.wants_usage is wants
    assert (ask.ask_at is not None) is (asks_usage and ask.stream and not wants)
    names = ("max_completion_tokens", "max_tokens", "max_output_tokens")
    counts = [count for name in names if (count := _count(values.get(name))) is not None]
    assert ask.max_tokens == (min(counts[0], TOKENS_MAX) if counts else None)
    assert ask.n == min(_count(values.get("n")) or 1, N_MAX)
    if not asks_usage:
        named, conversation = values.get("previous_response_id"), values.get("conversation")
        if not (_is_text(named) and named):
            named = dict(conversation).get("id") if isinstance(conversation, Object) else conversation
        assert ask.named_id == (named if _is_text(named) else "")
        spoken = values.get("input", "") if "voice" in values else ""
        assert ask.characters == (len(spoken) if spoken is not None and _is_text(spoken) else 0)


def _count(value: Any) -> int | None:
    """A whole number that is not negative; None for anything else, also for what no float can hold."""
    if not isinstance(value, Number):
        return None
    if value.lstrip("-").isdigit():
        number = int(value) if len(value) < 400 else -1
        return number if number >= 0 else None
    as_float = float(value)
    return int(as_float) if 0 <= as_float < float("inf") and not as_float % 1 else None


def _check_ways(ask: Ask, body: bytes, *, optional: bool, asks_usage: bool) -> None:
    """The quick ways to read a body and the exact one see the same."""
    spaced = read_ask(b" " + body, model_optional=optional, asks_usage=asks_usage)
    assert _places(spaced) == [None if at is None else (at[0] + 1, at[1] + 1) for at in _places(ask)]
    long = read_ask(body + b" " * 50_000, model_optional=optional, asks_usage=asks_usage)
    assert _places(long) == _places(ask)
    for other in (spaced, long):
        assert _said(other) == _said(ask)


def _places(ask: Ask) -> list[tuple[int, int] | None]:
    return [ask.model_at, ask.ask_at[:2] if ask.ask_at is not None else None]


def _said(ask: Ask) -> tuple[Any, ...]:
    return (
        ask.model, ask.stream, ask.wants_usage, ask.max_tokens, ask.n, ask.named_id, ask.characters, ask.is_empty,
        ask.ask_at and ask.ask_at[2],
    )  # fmt: skip


def _check_composed(ask: Ask, body: bytes, members: Object, model: str, *, ask_usage: bool) -> None:
    """What is sent is the same document but for the model's name, and the question for usage."""
    sent = decoded(b"".join(compose(ask, body, model, ask_usage=ask_usage)))
    expected = Object(members)
    if ask_usage and ask.ask_at is not None:
        _put(expected, "stream_options", _asking(dict(members).get("stream_options")))
    if model:
        _put(expected, "model", model)
    assert sent == expected


def _asking(options: Object | None) -> Object:
    asked = Object(options or ())
    _put(asked, "include_usage", value=True)
    return asked


def _put(members: Object, name: str, value: Any) -> None:
    """Give a member this value where it stands, or first of all."""
    names = [each for each, _ in members]
    if name in names:
        members[names.index(name)] = (name, value)
    else:
        members.insert(0, (name, value))


def _check_edits(body: bytes, members: Object, drop: frozenset[str], field: str | None) -> None:
    """What is dropped is gone, what is renamed has its new name, and all else stays as it was."""
    splices, names = edits(body, drop=drop, max_tokens_field=field)
    sent = decoded(b"".join(compose(Ask(""), body, "", ask_usage=False, edits=splices)))
    values = dict(members)
    renamed, gone = None, set()
    other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}.get(field or "")
    if other in values:
        if values.get(field or "") is None:
            renamed = other
            gone.add(field)
        else:
            gone.add(other)
    expected, dropped = Object(), []
    for name, value in members:
        new = field if name == renamed else name
        if name in gone or (new in drop and name != "model"):
            dropped.append(name)
        else:
            expected.append((new, value))
    assert sent == expected
    assert names == tuple(dict.fromkeys(dropped))
