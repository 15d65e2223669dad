"""Pictures in a prompt: some models are paid for each of them (PROTOCOL 9.2, `image`).

Only the way to the parts is decoded, and nothing beside it: a number that no type can hold, or half a surrogate pair,
anywhere in a body that upstreams take, must not make its pictures free.
"""

from __future__ import annotations

import msgspec

from router.errors import RequestError
from router.protocol.splice import read_object, without_media

_TYPES = frozenset(("image_url", "input_image", "image"))
_DEPTH_MAX = 12
"""Lists and objects inside each other. Messages hold content, content parts, and a tool's result holds parts again."""


class _Part(msgspec.Struct, gc=False):
    """A message, an item of an input, or a part of either."""

    type: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()
    output: msgspec.Raw = msgspec.Raw()


_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_part = msgspec.json.Decoder(_Part).decode
_decode_text = msgspec.json.Decoder(str).decode


def count_pictures(body: bytes) -> int:
    """Return the number of image parts in the messages or the input of a JSON request; 0 if it cannot be read."""
    text, _ = without_media(body)
    try:
        _, values = read_object(text, frozenset(), frozenset())
        return sum(_count(values[name], _DEPTH_MAX) for name in ("messages", "input") if name in values)
    except (RequestError, ValueError, RecursionError):
        return 0


def _count(value: msgspec.Raw, depth: int) -> int:
    opening = bytes(memoryview(value)[:1])
    if not depth or opening not in (b"[", b"{"):
        return 0
    if opening == b"[":
        return sum(_count(each, depth - 1) for each in _decode_list(value))
    part = _decode_part(value)
    if bytes(memoryview(part.type)[:1]) == b'"' and _decode_text(part.type) in _TYPES:
        return 1
    return _count(part.content, depth - 1) + _count(part.output, depth - 1)
