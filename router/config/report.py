"""Where the faults of one file are gathered: each with its place, and none that only follows from another."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

FAULTS_MAX: Final = 100
"""Faults told at once; the rest is counted. A file with more is the wrong file."""
SHOWN_MAX: Final = 40
"""Characters of a wrong value that a fault repeats."""

Path = tuple[str | int, ...]
"""Names and list indexes from the top of the file: `("models", "gpt-5.5", "pool", 0)`."""


class Mark(NamedTuple):
    """A place in the file, both numbers counted from one."""

    line: int
    column: int


class Fault(NamedTuple):
    """One thing that is wrong, and where. Faults sort in the order of the file."""

    mark: Mark
    path: Path
    text: str


class Report:
    """The faults of one file, and the place of every path in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        """All faults, those beyond `FAULTS_MAX` included."""
        self._faults: list[Fault] = []
        self._marks: dict[Path, Mark] = {(): Mark(1, 1)}
        self._faulty: set[Path] = set()
        self._above_faulty: set[Path] = set()

    def place(self, path: Path, mark: Mark) -> None:
        """Remember where `path` is written."""
        self._marks[path] = mark

    def is_written(self, path: Path) -> bool:
        """Whether the file gives this setting, so that it is not a default."""
        return path in self._marks

    def is_clean(self, path: Path) -> bool:
        """Whether nothing is wrong with `path`, with anything above it or with anything below it."""
        return path not in self._above_faulty and not self.is_lost(path)

    def is_lost(self, path: Path) -> bool:
        """Whether `path` or anything above it is faulty, so that what stands there is not what was meant."""
        return any(path[:end] in self._faulty for end in range(len(path) + 1))

    def add(self, path: Path, text: str, mark: Mark | None = None) -> None:
        """Note a fault, unless its path or one above is faulty already: then it may only follow from that one.

        Args:
            path: The setting that is wrong.
            text: What is wrong, and what may have been meant. Never a secret.
            mark: Where; by default the place of `path`, or of the nearest setting above it that the file gives.
        """
        if self.is_lost(path):
            return
        self._faulty.add(path)
        self._above_faulty.update(path[:end] for end in range(len(path) + 1))
        self.add_aside(path, text, mark or self._mark(path))

    def add_aside(self, path: Path, text: str, mark: Mark) -> None:
        """Note a fault that leaves `path` itself as good as it is: its name given twice, for instance."""
        self.count += 1
        if len(self._faults) < FAULTS_MAX:
            self._faults.append(Fault(mark, path, text))

    def suggest(self, wrong: str, known: Iterable[str]) -> str:
        """Like `did_you_mean`, but no longer looks (40 us for a dozen names) once the fault would only be counted."""
        return "" if self.count >= FAULTS_MAX else did_you_mean(wrong, known)

    def lines(self) -> tuple[str, ...]:
        """Every fault as `file:line:column: path: text`, in the order of the file."""
        told = [self._line(fault) for fault in sorted(self._faults, key=lambda fault: fault.mark)]
        untold = self.count - len(told)
        if untold:
            told.append(f"{self.name}: and {untold} more faults")
        return tuple(told)

    def _line(self, fault: Fault) -> str:
        where = f"{self.name}:{fault.mark.line}:{fault.mark.column}: "
        return where + (f"{dotted(fault.path)}: {fault.text}" if fault.path else fault.text)

    def _mark(self, path: Path) -> Mark:
        while path not in self._marks:
            path = path[:-1]
        return self._marks[path]


def dotted(path: Path) -> str:
    """Write a path as operators read it: `models.gpt-5.5.pool[0].weight`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + _name(step)
    return text


def shown(text: str) -> str:
    """Quote a wrong value for a fault, cut to `SHOWN_MAX` characters."""
    return repr(text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "…")


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` for the known name that is most like the wrong one, or nothing."""
    if len(wrong) > 2 * SHOWN_MAX:
        return ""
    folded = {name.casefold(): name for name in known}
    alike = difflib.get_close_matches(wrong.casefold(), folded, n=1)
    return f", did you mean {folded[alike[0]]!r}?" if alike else ""


def _name(step: str) -> str:
    """A name as it is, or quoted and cut if it would blur the path or break the line."""
    if step and len(step) <= 2 * SHOWN_MAX and step.isprintable() and not any(sign in step for sign in " :[]\"'"):
        return step
    return shown(step)
