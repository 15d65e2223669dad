"""From slices to verdicts: bounds, ratios of each round, the table, the JSON."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Slice = dict[str, Any]
"""The figures of one slice, as `measure` gives them."""
Round = dict[str, Slice]
"""One round of one quantity: what was measured, by system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One line of the table, and what is promised about it."""

    name: str
    of: str
    """Which measurement it is read from (the names `--only` takes)."""
    unit: str
    read: Callable[[Slice], float]
    bound: float | None
    """None: it is shown, and nothing is promised."""
    to_nginx: bool = True
    """The bound is for the ratio to nginx in the same round; otherwise for the router's own figure."""
    at_least: bool = False
    """The bound is a lower one."""
    less_direct: bool = False
    """What the same load measures without any system between is subtracted first."""
    digits: int = 1

    def kept(self, figure: float) -> bool:
        """Is the promise kept?"""
        if self.bound is None:
            return True
        return figure >= self.bound if self.at_least else figure <= self.bound

    def promise(self) -> str:
        """Return the bound as it stands in the table."""
        if self.bound is None:
            return "-"
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.bound} x nginx" if self.to_nginx else f"{sign} {self.bound:,} {self.unit}"


QUANTITIES = (
    Quantity(
        name="CPU per 1 KB request, 64 connections",
        of="ns",
        unit="µs",
        read=lambda s: s["cpu_s"] / s["requests"] * 1e6,
        bound=3.0,
    ),
    Quantity(
        name="CPU per relayed chunk, 100 streams paced 20 ms",
        of="p100",
        unit="µs",
        read=lambda s: s["cpu_s"] / s["events"] * 1e6,
        bound=1.3,
    ),
    Quantity(
        name="CPU per translated chunk, beside nginx's plain one",
        of="ts",
        unit="µs",
        read=lambda s: s["cpu_s"] / s["events"] * 1e6,
        bound=None,
    ),
    Quantity(
        name="CPU per request with a 1 MB vision body (data URI)",
        of="mb",
        unit="µs",
        read=lambda s: s["cpu_s"] / s["requests"] * 1e6,
        bound=1.2,
        digits=0,
    ),
    Quantity(
        name="added latency, one connection, p50",
        of="c1",
        unit="µs",
        read=lambda s: s["p50_us"],
        bound=2.5,
        less_direct=True,
    ),
    Quantity(
        name="500 clients at once: first chunk, p99",
        of="p500",
        unit="s",
        read=lambda s: s["first_p99_us"] / 1e6,
        bound=0.5,
        to_nginx=False,
        digits=3,
    ),
    Quantity(
        name="500 clients at once: chunks delivered",
        of="p500",
        unit="/s",
        read=lambda s: s["events"] / s["seconds"],
        bound=24_000,
        to_nginx=False,
        at_least=True,
        digits=0,
    ),
    Quantity(
        name="CPU per upload of 200 MB, model named behind the file",
        of="up",
        unit="s",
        read=lambda s: s["cpu_s"] / s["requests"],
        bound=None,
        digits=2,
    ),
    Quantity(
        name="resident memory, peak growth in such an upload",
        of="up",
        unit="MB",
        read=lambda s: s["growth_mb"],
        bound=20,
        to_nginx=False,
    ),
    Quantity(name="resident memory, idle", of="boot", unit="MB", read=lambda s: s["idle_mb"], bound=60, to_nginx=False),
    Quantity(
        name="resident memory per 1000 open streams",
        of="boot",
        unit="MB",
        read=lambda s: s["per_1000_mb"],
        bound=12,
        to_nginx=False,
    ),
    Quantity(
        name="start to first answer",
        of="boot",
        unit="s",
        read=lambda s: s["start_s"],
        bound=1.0,
        to_nginx=False,
        digits=2,
    ),
)


@dataclass(slots=True)
class Results:
    """Everything that was measured."""

    rounds: dict[str, list[Round]] = field(default_factory=dict)
    """By measurement, in the order they were run."""
    faults: dict[str, str] = field(default_factory=dict)
    """The measurements that gave a wrong answer, and what was wrong first."""

    def lines(self) -> list[Line]:
        """Return a line for each quantity of which anything was measured."""
        measured = [q for q in QUANTITIES if self.rounds.get(q.of) or q.of in self.faults]
        return [Line(q, self.rounds.get(q.of, []), self.faults.get(q.of)) for q in measured]


@dataclass(slots=True)
class Line:
    """One quantity with its figures."""

    quantity: Quantity
    rounds: list[Round]
    fault: str | None

    def figures(self, system: str) -> list[float]:
        """Return one figure for each round in which the system was measured."""
        read, less = self.quantity.read, self.quantity.less_direct
        wanted = {system, "direct"} if less else {system}
        return [read(r[system]) - (read(r["direct"]) if less else 0) for r in self.rounds if wanted <= r.keys()]

    def ratios(self) -> list[float]:
        """Return router to nginx for each round in which both were measured."""
        both = [r for r in self.rounds if {"nginx", "router"} <= r.keys()]
        line = Line(self.quantity, both, None)
        pairs = zip(line.figures("router"), line.figures("nginx"), strict=True)
        return [router / nginx for router, nginx in pairs if nginx > 0]

    def verdict(self) -> str:
        """Return `ok`, `MISS`, `WRONG`, or nothing if the router was not measured."""
        if self.fault:
            return "WRONG"
        judged = self.ratios() if self.quantity.to_nginx else self.figures("router")
        if not judged or self.quantity.bound is None:
            return ""
        return "ok" if self.quantity.kept(statistics.median(judged)) else "MISS"

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        q = self.quantity
        figures = [_spread(self.figures(system), q.digits, q.unit) for system in ("nginx", "router")]
        return [q.name, *figures, _spread(self.ratios() if q.to_nginx else [], 2, "x"), q.promise(), self.verdict()]

    def to_json(self) -> dict[str, Any]:
        """Return the line as plain values."""
        q = self.quantity
        return {
            "quantity": q.name,
            "measurement": q.of,
            "unit": q.unit,
            "nginx": self.figures("nginx"),
            "router": self.figures("router"),
            "ratios": self.ratios(),
            "bound": q.bound,
            "bound_is": "ratio to nginx" if q.to_nginx else "absolute",
            "verdict": self.verdict(),
        }


def _spread(figures: list[float], digits: int, unit: str) -> str:
    """Return the median and, of three figures or more, the quartiles."""
    if not figures:
        return "-"
    text = f"{statistics.median(figures):,.{digits}f} {unit}"
    if len(figures) < 3:
        return text
    low, _, high = statistics.quantiles(figures, method="inclusive")
    return f"{text} ({low:,.{digits}f} to {high:,.{digits}f})"


def table(lines: Iterable[Line]) -> str:
    """Return the lines as a Markdown table: medians over the rounds, with their quartiles."""
    head = ["quantity", "nginx", "router", "ratio", "bound", ""]
    rows = [head, *(line.cells() for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([padded[0], rule, *padded[1:]])


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    processors = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in processors.splitlines() if "model name" in line), "?")
    return {
        "processor": f"{os.cpu_count()} x {model}",
        "kernel": platform.release(),
        "load_average": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
    }
