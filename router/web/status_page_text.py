"""The status page as text, for `curl` and `llm-router top`: the same view, the most important first."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unicodedata import combining, east_asian_width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.web.status_page_view import Table, View

NAME_MAX = 40
"""Characters of the first column: longer names would push out what stands beside them."""
LEFT_OUT = {"upstreams": ("weight",), "keys": ("used",)}
"""Columns that make lines too long for a terminal."""
TROUBLE_FIRST = "upstreams"
"""The table whose rows go by their second column: by state, the worst first."""


def render(view: View) -> str:
    """Return the text."""
    parts = [f"! {text}\n" for text, _ in view.alarms]
    parts.append(_strip([*view.strip, *view.facts]))
    parts += [_table(table) for table in view.tables]
    return "\n".join(parts)


def _strip(strip: Sequence[tuple[str, str, str]]) -> str:
    """Write the single figures in two columns."""
    half = (len(strip) + 1) // 2
    rows = []
    for index in range(half):
        pair = [strip[index], *strip[index + half : index + half + 1]]
        rows.append([text for label, value, _ in pair for text in (label, value)])
    rows = [row + [""] * (4 - len(row)) for row in rows]
    return _aligned(rows, right=())


def _table(table: Table) -> str:
    title = f"{table.title.upper()}  {table.note}".rstrip() + "\n"
    if not table.rows:
        return title
    kept = [at for at, column in enumerate(table.columns) if column.label not in LEFT_OUT.get(table.id, ())]
    right = {index for index, at in enumerate(kept) if table.columns[at].tone == "n"}
    ordered = sorted(table.rows, key=lambda row: row[1].order) if table.id == TROUBLE_FIRST else table.rows
    rows = [[table.columns[at].label for at in kept]]
    for row in ordered:
        cells = [_lines(row[at].lines) if row[at].lines else [row[at].text] for at in kept]
        height = max(map(len, cells))
        rows += [[cell[line] if line < len(cell) else "" for cell in cells] for line in range(height)]
    return title + _aligned(rows, right)


def _lines(lines: Sequence[Sequence[tuple[str, str]]]) -> list[str]:
    """Write the lines of a cell, their parts under each other; figures to the right."""
    right = {at for at, (_, tone) in enumerate(lines[0]) if tone.startswith("n")}
    return _aligned([[text for text, _ in line] for line in lines], right).splitlines()


def _aligned(rows: Sequence[Sequence[str]], right: set[int] | tuple[()]) -> str:
    cut = [[text if at else _cut(text) for at, text in enumerate(row)] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*cut, strict=True)]
    lines = []
    for row in cut:
        padded = []
        for at, (text, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _width(text))
            padded.append(space + text if at in right else text + space)
        lines.append("  ".join(padded).rstrip() + "\n")
    return "".join(lines)


def _cut(text: str) -> str:
    return text if len(text) <= NAME_MAX else text[: NAME_MAX - 1] + "…"


def _width(text: str) -> int:
    """Return how many columns a terminal needs: some characters take two, some none."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(it) else 2 if east_asian_width(it) in "WF" else 1 for it in text)
