"""What became of every setting of a configuration that is imported: carried, carried differently, or left behind.

An importer tells the fate of each setting it looks at; `settle` then calls whatever nobody looked at left behind. So a
setting that is not carried is always told.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from router.config.report import dotted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LABEL_MAX: Final = 200
"""Characters of a setting's path that are shown."""

Path = tuple[str | int, ...]


class Fate(StrEnum):
    """What became of a setting."""

    CARRIED = "carried"
    CHANGED = "carried differently"
    LEFT = "not carried"


class Remark(NamedTuple):
    """One thing to tell about a setting."""

    line: int
    path: Path
    fate: Fate
    text: str


class Unusable(Exception):
    """A setting cannot be carried; the text says why and what to do instead, and never holds a secret."""


class Account:
    """The fates of one file's settings, by path. The fate of a section is that of everything below it."""

    def __init__(self, name: str, label: Callable[[Path], str] = dotted) -> None:
        self.name = name
        self._label = label
        self._fates: dict[Path, Fate] = {}
        self._remarks: dict[Path, Remark] = {}
        self._above: set[Path] = set()
        """Sections with a fate somewhere below them."""

    def carry(self, path: Path) -> None:
        """Say that a setting has the same effect here."""
        self._set(path, self._fates.get(path, Fate.CARRIED))

    def change(self, path: Path, line: int, text: str) -> None:
        """Say that a setting is carried, or is needless here, and what is different about it."""
        self._tell(Remark(line, path, Fate.CHANGED, text))

    def leave(self, path: Path, line: int, text: str) -> None:
        """Say that a setting, with all that is below it, is not carried, and why. It has the last word."""
        if path in self._above:
            for each in [each for each in self._fates if each[: len(path)] == path]:
                del self._fates[each]
                self._remarks.pop(each, None)
        self._fates.pop(path, None)
        self._tell(Remark(line, path, Fate.LEFT, text))

    def fate(self, path: Path) -> Fate | None:
        """Return what became of a setting, or of the nearest section above it whose fate is told."""
        for end in range(len(path), -1, -1):
            if path[:end] in self._fates:
                return self._fates[path[:end]]
        return None

    def settle(self, settings: Iterable[tuple[Path, int]], text: str) -> None:
        """Leave behind, for the reason given, all settings (path and line) whose fate nobody told."""
        for path, line in settings:
            if self.fate(path) is None:
                self.leave(path, line, text)

    def lines(self, fate: Fate) -> list[str]:
        """Return what is to be told of settings with this fate, in the order of the file, each on one visible line."""
        told = sorted(
            (each.line, self.label(each.path), visible(each.text))
            for each in self._remarks.values()
            if each.fate is fate
        )
        name = visible(self.name)
        return [f"{name}:{line}: {label}: {text}" if label else f"{name}:{line}: {text}" for line, label, text in told]

    def count(self, fate: Fate) -> int:
        """Return how many settings and sections have met this fate."""
        return sum(each is fate for each in self._fates.values())

    def label(self, path: Path) -> str:
        """Return a path as an operator reads it."""
        text = visible(self._label(path))
        return text if len(text) <= LABEL_MAX else text[:LABEL_MAX] + "…"

    def _tell(self, remark: Remark) -> None:
        if self._fates.get(remark.path) in {None, Fate.CARRIED}:
            self._set(remark.path, remark.fate)
            self._remarks[remark.path] = remark

    def _set(self, path: Path, fate: Fate) -> None:
        self._fates[path] = fate
        self._above.update(path[:end] for end in range(len(path)))


def visible(text: str) -> str:
    """Return text in which no sign moves a cursor, ends a line or is invisible: a terminal obeys what it is sent."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
