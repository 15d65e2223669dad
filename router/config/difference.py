"""What changed between two configurations, setting by setting: for people who are about to apply one, or have.

Compares what `dump.effective` returns, and so what is in effect, not how it is written: a default that is written out
is no change. Members of a pool are matched by what they are and not by their place in the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from router.config.report import Path, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN_MAX: Final = 60
"""Characters of a value that a change shows."""

_IDENTITY: Final = ("upstream", "model", "address")
"""Settings by which entries of a list are told apart: those of members and of listeners."""


class Change(NamedTuple):
    """One setting that is there now, is there no more, or is another."""

    sign: str
    """`+`, `-` or `~`."""
    path: Path
    old: Any
    new: Any

    def __str__(self) -> str:
        path = dotted(self.path)
        if self.sign == "~":
            if isinstance(self.old, list) and isinstance(self.new, list):
                return f"~ {path} {_of_lists(self.old, self.new)}"
            return f"~ {path} {_shown(self.old)} → {_shown(self.new)}"
        value = self.new if self.sign == "+" else self.old
        return f"{self.sign} {path}{_label(self.path, value)}"


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return what leads from one configuration in effect to another, in the order of the new one."""
    return list(_of_mappings(old, new, ()))


def _of_mappings(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> Iterator[Change]:
    for name, value in new.items():
        if name in old:
            yield from _of_values(old[name], value, (*path, name))
        else:
            yield Change("+", (*path, name), None, value)
    for name, value in old.items():
        if name not in new:
            yield Change("-", (*path, name), value, None)


def _of_values(old: Any, new: Any, path: Path) -> Iterator[Change]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _of_mappings(old, new, path)
    elif _is_of_settings(old) and _is_of_settings(new) and (old or new):
        yield from _of_entries(old, new, path)
    elif not _is_same(old, new):
        yield Change("~", path, old, new)


def _is_same(old: Any, new: Any) -> bool:
    """Compare at every depth: to Python `true` and 1 are equal."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(_is_same(value, new[name]) for name, value in old.items())
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return len(old) == len(new) and all(map(_is_same, old, new))
    return bool(old == new) and isinstance(old, bool) is isinstance(new, bool)


def _is_of_settings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, Mapping) for each in value)


def _of_entries(old: list[Any], new: list[Any], path: Path) -> Iterator[Change]:
    """Match entries by what they are; the indexes are those of the list in which the entry stands."""
    matcher = SequenceMatcher(
        None, [_identity(each) for each in old], [_identity(each) for each in new], autojunk=False
    )
    for kind, first, last, first_new, last_new in matcher.get_opcodes():
        if kind == "equal":
            for index in range(last - first):
                yield from _of_values(old[first + index], new[first_new + index], (*path, first_new + index))
        else:
            yield from (Change("-", (*path, index), old[index], None) for index in range(first, last))
            yield from (Change("+", (*path, index), None, new[index]) for index in range(first_new, last_new))


def _identity(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    known = tuple(str(entry[name]) if name in entry else None for name in _IDENTITY)
    return known if any(known) else tuple(sorted((name, str(value)) for name, value in entry.items()))


def _of_lists(old: Sequence[Any], new: Sequence[Any]) -> str:
    added = [each for each in new if not any(_is_same(each, other) for other in old)]
    removed = [each for each in old if not any(_is_same(each, other) for other in new)]
    if not added and not removed:
        return f"in another order: {_shown(new)}"
    parts = (("added", added), ("removed", removed))
    return "; ".join(f"{word} {_joined(some)}" for word, some in parts if some)


def _joined(some: Sequence[Any]) -> str:
    return _cut(", ".join(_plain(each) for each in some))


def _label(path: Path, value: Any) -> str:
    """What a setting that came or went is: its value, or of an entry in a list which one."""
    if isinstance(value, Mapping):
        known = [f"{name} {_plain(value[name])}" for name in _IDENTITY if name in value]
        return f" ({_cut(', '.join(known))})" if isinstance(path[-1], int) and known else ""
    return f" {_shown(value)}"


def _shown(value: Any) -> str:
    return _cut(_plain(value))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        text = ", ".join(f"{name}: {_plain(each)}" for name, each in value.items())
        return f"{{{text}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    return text if text and text.isprintable() and text == text.strip() else repr(text)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"
