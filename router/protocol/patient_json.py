"""JSON as upstreams write it: read with patience, for it is only read and never sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

_decode = msgspec.json.Decoder().decode


_Members = TypeVar("_Members", bound=msgspec.Struct)


def reader(kind: type[_Members]) -> Callable[[bytes], _Members | None]:
    """Return a function that decodes an object into `kind`, a struct whose fields are all `Any` and None by default.

    Members that the struct does not name are skipped undecoded, however long they are. The function returns None for
    what is no object, and never raises.
    """
    decode = msgspec.json.Decoder(kind).decode

    def read(data: bytes) -> _Members | None:
        try:
            return decode(data)
        except (ValueError, RecursionError):
            value = read_object(data)
            return None if value is None else members(kind, value)

    return read


def members(kind: type[_Members], value: dict[str, Any]) -> _Members:
    """Return a struct of the members of a decoded object that its fields name, as they are."""
    return kind(**{name: value[name] for name in kind.__struct_fields__ if name in value})


def read_object(data: bytes) -> dict[str, Any] | None:
    """Decode a JSON object; None if it is none."""
    value = read_json(data)
    return value if isinstance(value, dict) else None


def read_json(data: bytes) -> Any:
    """Decode JSON; None if it is none."""
    try:
        return _decode(data)
    except (ValueError, RecursionError):
        return patient_json(data)


def patient_json(data: bytes) -> Any:
    r"""Decode what the strict decoder refuses, for it is only read and never sent; None if it is no JSON even so.

    Seen: half a surrogate pair (`\ud83d`, where a server cuts an emoji between two chunks), bytes that are not UTF-8,
    a byte order mark, NaN.
    """
    text = data.decode("utf-8-sig", "replace").lstrip()
    if not text.startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
