"""Where the faults of a configuration are gathered: each with its place, and none that only follows from another."""

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
    """A place in a file, line and column counted from one."""

    line: int
    column: int
    file: int = 0
    """Which one, as `Report.add_file` numbers them: 0 is the file that includes the others."""


class File(NamedTuple):
    """One of the files that a configuration is made of."""

    name: str
    """What faults call it."""
    folder: str
    """Where its relative paths begin, itself relative to the folder of the first file."""


class Fault(NamedTuple):
    """One thing that is wrong, and where. Faults sort in the order of the files."""

    mark: Mark
    path: Path
    text: str

    @property
    def order(self) -> tuple[int, int, int]:
        """Comes first what stands first."""
        return self.mark.file, self.mark.line, self.mark.column


class Report:
    """The faults of one file and of those it includes, and the place of every path in them."""

    def __init__(self, name: str) -> None:
        self._files = [File(name, "")]
        self.count = 0
        """All faults, those beyond `FAULTS_MAX` included."""
        self._faults: list[Fault] = []
        self._warnings: list[Fault] = []
        self._marks: dict[Path, Mark] = {(): Mark(1, 1)}
        self._faulty: set[Path] = set()
        self._above_faulty: set[Path] = set()

    def add_file(self, name: str, folder: str) -> int:
        """Take in a file that is included; returns its number, for `Mark.file`."""
        self._files.append(File(name, folder))
        return len(self._files) - 1

    def file(self, mark: Mark) -> File:
        """Return the file in which a place is."""
        return self._files[mark.file]

    def where(self, mark: Mark) -> str:
        """Name a place as terminals and editors follow it: `file:line:column`."""
        return f"{self.file(mark).name}:{mark.line}:{mark.column}"

    def place(self, path: Path, mark: Mark) -> None:
        """Remember where `path` is written."""
        self._marks[path] = mark

    def is_written(self, path: Path) -> bool:
        """Whether the file gives this setting, so that it is not a default."""
        return path in self._marks

    def is_together(self, path: Path, other: Path) -> bool:
        """Whether both stand at one place, as what a preset gives does with its name."""
        return path in self._marks and self._marks[path] == self._marks.get(other)

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

    def warn(self, path: Path, text: str) -> None:
        """Note what is allowed and yet probably not meant. It hinders nothing, and is no fault."""
        self._warnings.append(Fault(self._mark(path), path, text))

    def suggest(self, wrong: str, known: Iterable[str]) -> str:
        """Like `did_you_mean`, but no longer looks (40 us for a dozen names) once the fault would only be counted."""
        return "" if self.count >= FAULTS_MAX else did_you_mean(wrong, known)

    def lines(self) -> tuple[str, ...]:
        """Every fault as `file:line:column: path: text`, in the order of the files."""
        told = [self._line(fault) for fault in sorted(self._faults, key=lambda fault: fault.order)]
        untold = self.count - len(told)
        if untold:
            told.append(f"{self._files[0].name}: and {untold} more faults")
        return tuple(told)

    def warnings(self) -> tuple[str, ...]:
        """Every warning as `file:line:column: warning: path: text`, in the order of the files."""
        ordered = sorted(self._warnings, key=lambda fault: fault.order)
        told = [self._line(fault, "warning: ") for fault in ordered[:FAULTS_MAX]]
        if len(ordered) > FAULTS_MAX:
            told.append(f"{self._files[0].name}: and {len(ordered) - FAULTS_MAX} more warnings")
        return tuple(told)

    def _line(self, fault: Fault, kind: str = "") -> str:
        text = f"{dotted(fault.path)}: {fault.text}" if fault.path else fault.text
        return f"{self.where(fault.mark)}: {kind}{text}"

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
