"""The curves: as CSV for programs, as PNG for people."""

from __future__ import annotations

import csv
from dataclasses import astuple, fields
from typing import TYPE_CHECKING

import matplotlib as mpl

from tests.soak.slopes import BOUNDS, MIB, WARM_UP
from tests.soak.watch import Sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PANELS: tuple[tuple[str, tuple[tuple[str, str, float], ...]], ...] = (
    ("Memory, MiB", (("memory_bytes", "resident", 1 / MIB),)),
    ("Open descriptors", (("descriptors", "all", 1), ("descriptors_used", "without idle upstreams", 1))),
    ("Tasks and timers", (("tasks", "tasks", 1), ("timers", "timers", 1))),
    (
        "Connections and requests",
        (
            ("client_connections", "from clients", 1),
            ("in_flight", "requests in flight", 1),
            ("upstream_connections", "to upstreams", 1),
            ("idle_upstream_connections", "of these idle", 1),
        ),
    ),
    ("Requests per second", (("requests_per_s", "ended", 1), ("errors_per_s", "in an error", 1))),
    ("Milliseconds", (("overhead_p99_ms", "p99 in the router", 1), ("lag_ms", "mean lateness of the loop", 1))),
)
"""Title of each panel, and its curves: quantity, name, factor."""


def write_csv(path: Path, samples: Sequence[Sample]) -> None:
    """One row for each sample."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Sample))
        writer.writerows([round(value, 3) for value in astuple(sample)] for sample in samples)


def draw(path: Path, samples: Sequence[Sample], title: str) -> None:
    """One figure with a panel for each group of quantities that belong together; the warm-up is shaded."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 (only after `use`)

    figure, axes = plt.subplots(3, 2, figsize=(13, 11), sharex=True, layout="constrained")
    figure.suptitle(title)
    seconds = [sample.second for sample in samples]
    for axis, (name, curves) in zip(axes.flat, PANELS, strict=True):
        for quantity, label, factor in curves:
            judged = " (judged)" if quantity in BOUNDS else ""
            axis.plot(seconds, [getattr(each, quantity) * factor for each in samples], label=label + judged, lw=1.2)
        axis.set_title(name)
        axis.set_ylim(bottom=0)
        axis.axvspan(0, seconds[-1] * WARM_UP, color="0.93")
        axis.grid(alpha=0.3)
        axis.legend(loc="lower right", fontsize="small")
    for axis in axes[-1]:
        axis.set_xlabel("seconds since the start (shaded: warm-up, not judged)")
    figure.savefig(path, dpi=90)
    plt.close(figure)
