"""Does a curve rise? Medians of two thirds of it are compared, so that peaks and a long warm-up do not count."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.soak.watch import Sample

WARM_UP = 0.25
"""The share of the run that is not judged: caches, pools and the heap fill."""

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bound:
    """What one quantity may grow by, from the first third of what is judged to the last."""

    share: float
    more: float
    """In the quantity's own unit, on top of the share."""


BOUNDS = {
    # The heap still fills for some minutes, by up to 3.4 MB. 1 KiB kept for each of 250 requests a second is 7 MiB from
    # the first third of a minute to the last, and 100 bytes for each are as much in ten minutes.
    "memory_bytes": Bound(0.03, 3 * MIB),
    # Those follow what is in flight, and that is almost always the same.
    "descriptors_used": Bound(0.1, 20),
    "tasks": Bound(0.1, 20),
    "timers": Bound(0.1, 20),
}


@dataclass(frozen=True, slots=True)
class Slope:
    """How one quantity went."""

    name: str
    first: float
    """Median of the first third after the warm-up."""
    last: float
    allowed: float

    @property
    def holds(self) -> bool:
        return self.last <= self.allowed


def slope(name: str, values: Sequence[float]) -> Slope:
    """Judge the values of one quantity, taken at equal distances over a whole run."""
    judged = values[int(len(values) * WARM_UP) :]
    third = max(1, len(judged) // 3)
    first, last = statistics.median(judged[:third]), statistics.median(judged[-third:])
    bound = BOUNDS[name]
    return Slope(name, first, last, first * (1 + bound.share) + bound.more)


def slopes(samples: Sequence[Sample]) -> list[Slope]:
    """All that are bounded."""
    return [slope(name, [getattr(sample, name) for sample in samples]) for name in BOUNDS]
