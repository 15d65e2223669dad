"""Changes that keep the shape of what they change: lines stay lines, JSON mostly stays JSON.

libFuzzer's own changes reach few parsers' insides: one byte more, and nothing behind it is read. Half of the inputs are
made here, of whole lines and of whole members.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r|\Z)")
_LINE_ENDS = (b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"")
_SPACES = (("", ""), ("", " "), (" ", " "), ("\n", "\t"))
_DEPTH_MAX = 200


class Number(str):
    """A number of a JSON text, as it is written."""

    __slots__ = ()


class Object(list[Any]):
    """The members of a JSON object in their order, names and values, duplicates included."""

    __slots__ = ()


_ODD: tuple[Any, ...] = (
    None, True, False, "", "x", [], Object(), Number("0"), Number("-1"), Number("1"), Number("1.0"), Number("1e3"),
    Number("1e999"), Number("99999999999999999999"), Number("-0"), Number("0.1"), "\ud83d", "\U0001f600", "a\nb",
    [None], Object([("", None)]),
)  # fmt: skip


def mutated(data: bytes, rng: random.Random, words: Sequence[bytes], other: Callable[[bytes], bytes]) -> bytes:
    """Change the data in one to three places; `other` is libFuzzer's own way to do so, which is taken half the time."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        way = rng.random()
        if way < 0.5:
            data = other(data)
        elif way < 0.75:
            data = _with_json(data, rng, words)
        else:
            data = _with_lines(data, rng, words)
    return data


def _with_lines(data: bytes, rng: random.Random, words: Sequence[bytes]) -> bytes:
    lines = _LINE.findall(data)
    at = rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(rng.randrange(len(lines)), lines[at])
        case 2:
            to = rng.randrange(len(lines))
            lines[at], lines[to] = lines[to], lines[at]
        case 3:
            lines.insert(at, rng.choice(words) + rng.choice(_LINE_ENDS))
        case 4:
            lines[at] = lines[at].rstrip(b"\r\n") + rng.choice(_LINE_ENDS)
        case _:
            place = rng.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + rng.choice(words) + lines[at][place:]
    return b"".join(lines)


def _with_json(data: bytes, rng: random.Random, words: Sequence[bytes]) -> bytes:
    """Change a JSON text that begins at one of the braces and ends somewhere behind; lines if there is none."""
    starts = [found.start() for found in re.finditer(rb"[{\[]", data[:4096])]
    rng.shuffle(starts)
    for start in starts[:3]:
        text = data[start:].decode("utf-8", "replace")
        try:
            value, end = _DECODER.raw_decode(text)
        except (ValueError, RecursionError):
            continue
        changed = _changed(value, rng, [word.decode("latin-1") for word in words])
        rest = text[end:].encode("utf-8", "surrogatepass")
        return data[:start] + dumped(changed, *rng.choice(_SPACES)).encode("utf-8", "replace") + rest
    return _with_lines(data, rng, words)


_DECODER = json.JSONDecoder(object_pairs_hook=Object, parse_int=Number, parse_float=Number)


def dumped(value: Any, before: str = "", behind: str = "") -> str:
    """Write JSON with white space around its signs; what is nested too deeply is left out."""

    def write(value: Any, depth: int) -> str:
        if depth > _DEPTH_MAX:
            return "0"
        if isinstance(value, Number):
            return str(value)
        if isinstance(value, Object):
            members = (f"{json.dumps(name)}{before}:{behind}{write(each, depth + 1)}" for name, each in value)
            return "{" + f"{before},{behind}".join(members) + "}"
        if isinstance(value, list):
            return "[" + f"{before},{behind}".join(write(each, depth + 1) for each in value) + "]"
        return json.dumps(value)

    return write(value, 0)


def _changed(value: Any, rng: random.Random, words: Sequence[str]) -> Any:
    """Change one place of a JSON value."""
    places = [place for place in _places(value) if place]
    if not places:
        return rng.choice(_ODD)
    holder = rng.choice(places)
    at = rng.randrange(len(holder))
    named = isinstance(holder, Object)
    old = holder[at][1] if named else holder[at]
    match rng.randrange(7):
        case 0:
            del holder[at]
        case 1:
            holder.insert(rng.randrange(len(holder)), holder[at])
        case 2:
            new = rng.choice(rng.choice(places))
            holder[at] = (holder[at][0], new[1] if isinstance(new, tuple) else new) if named else old
        case 3:
            new = [old] if rng.random() < 0.5 else Object([(rng.choice(words), old)])
            holder[at] = (holder[at][0], new) if named else new
        case 4 | 5:
            new = rng.choice(_ODD) if rng.random() < 0.5 else rng.choice(words)
            holder[at] = (holder[at][0], new) if named else new
        case _:
            holder.insert(at, (rng.choice(words), old) if named else rng.choice(_ODD))
    return value


def _places(value: Any, depth: int = 0) -> list[Any]:
    """Every list and object of a JSON value."""
    if depth > _DEPTH_MAX or not isinstance(value, list):
        return []
    inner = (each[1] if isinstance(value, Object) else each for each in value)
    return [value, *(place for each in inner for place in _places(each, depth + 1))]
