"""What a scenario found, and the table of all that."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NOT_MEASURED = "\N{EN DASH}"
WIDTH = 116


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one system did in one scenario."""

    promise: str
    """The row of the table; the same for every system."""
    measured: str
    holds: bool
    """The promise was kept."""
    how: str
    """What was done."""


Findings = dict[str, dict[str, Finding]]
"""By scenario, then by system."""


def markdown(found: Findings, systems: Sequence[str], absent: Mapping[str, str]) -> str:
    """A table for the README. `absent`: by scenario, what to say of a system that did not take part."""
    lines = ["| " + " | ".join(("Promise", *systems, "How")) + " |", "|---" * (len(systems) + 2) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(found, systems, absent)]
    return "\n".join(lines)


def plain(found: Findings, systems: Sequence[str], absent: Mapping[str, str]) -> str:
    """The same as a list for a terminal."""
    lines: list[str] = []
    for promise, *measured, how in _rows(found, systems, absent):
        lines += ["", promise]
        for system, text in zip(systems, measured, strict=True):
            lines += _indented(f"{system:11} {text}", " " * 14)
        lines += _indented(f"{'how':11} {how}", " " * 14)
    return "\n".join(lines[1:])


def _indented(text: str, further: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent=further)


def _rows(found: Findings, systems: Sequence[str], absent: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    ours, *others = systems
    for scenario, by_system in found.items():
        mine = by_system[ours]
        told = mine.measured if mine.holds else f"BROKEN: {mine.measured}"
        theirs = (
            by_system[each].measured if each in by_system else absent.get(scenario, NOT_MEASURED) for each in others
        )
        yield mine.promise, told, *theirs, mine.how
