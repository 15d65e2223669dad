"""Changes to a JSON body for upstreams that cannot take it as it is (PROTOCOL 11): members dropped, one renamed.

They are splices as those of `splice`, which reads the body and, in `compose`, carries them out. Every byte outside the
members concerned stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from router.protocol.splice import KEY, MEDIA_FROM, placed, read_object, without_media

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.protocol.asks import Splice
    from router.protocol.splice import Members, Values

_OTHER_FIELD = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_NONE: frozenset[str] = frozenset()


def edits(body: bytes, *, drop: frozenset[str], max_tokens_field: str | None) -> tuple[list[Splice], tuple[str, ...]]:
    """Return the splices that fit a body to an upstream, in their order, and the names of the members that go.

    Args:
        body: A body that `splice.read_ask` has read; any other may raise a `RequestError`.
        drop: Names of top-level members the upstream cannot take, as it would see them: after a renaming. `model` is
            no such name and stays. If `stream_options` is one, nobody may ask for usage there in the same body.
        max_tokens_field: `max_tokens` or `max_completion_tokens`, whichever the upstream knows; None: it knows both.
            The other one is renamed to it. Of two the known one stays, unless it is null and says nothing.
    """
    text, cuts = (body, []) if len(body) < MEDIA_FROM else without_media(body)
    members, values = read_object(text, _NONE, _NONE)
    renamed, gone = _plan(values, drop, max_tokens_field)
    if renamed is None and not gone:
        return [], ()
    new_key = msgspec.json.encode(max_tokens_field)
    splices: list[Splice] = []
    places = list(_places(text, members))
    stays = False
    for place, following in zip(places, [*places[1:], None], strict=True):
        if place.name not in gone:
            stays = True
            if place.name == renamed:
                splices.append((place.key_at, place.key_end, new_key))
        elif stays:
            splices.append((place.mark_at, place.value_end, b""))  # with the comma before it
        else:
            end = place.value_end if following is None else following.key_at
            splices.append((place.key_at, end, b""))  # with the comma behind it
    names = tuple(dict.fromkeys(place.name for place in places if place.name in gone))
    if cuts:
        splices = [(placed(start, cuts), placed(end, cuts), new) for start, end, new in splices]
    return splices, names


def _plan(values: Values, drop: frozenset[str], max_tokens_field: str | None) -> tuple[str | None, set[str]]:
    """Return the name that is changed, if one is, and the names that go."""
    renamed, gone = None, set()
    other = _OTHER_FIELD.get(max_tokens_field or "")
    if max_tokens_field is not None and other in values:
        if max_tokens_field not in values:
            renamed = other
        elif bytes(values[max_tokens_field]) == b"null":
            renamed = other
            gone.add(max_tokens_field)
        else:
            gone.add(other)
    gone.update(name for name in values if (max_tokens_field if name == renamed else name) in drop and name != "model")
    return renamed, gone


class _Place(NamedTuple):
    name: str
    mark_at: int
    """Where the brace or comma before the key is."""
    key_at: int
    key_end: int
    """Around the key, quotes included."""
    value_end: int


def _places(text: bytes, members: Members) -> Iterator[_Place]:
    """Yield where each member stands, by stepping over the values as `splice` does."""
    at = 0
    mark = b"{"
    for name, raw in members.items():
        key = KEY.match(text, at)
        assert key is not None, "a key stands before every value"
        mark_at = text.index(mark, at)
        key_at = text.index(b'"', mark_at)
        key_end = text.rindex(b'"', key_at, key.end()) + 1
        at = key.end() + len(raw)
        mark = b","
        yield _Place(str(name), mark_at, key_at, key_end, at)
