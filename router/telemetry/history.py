"""The last five minutes of a few metrics, for the status page: what their cells grew by, in steps of five seconds.

Nothing is counted here. The cells of the metrics are looked at now and then, and what they grew by since the last look
is kept: only the label sets that moved, so that memory follows the traffic and not the configuration. The data path
pays nothing for it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from itertools import accumulate
from operator import add, sub
from typing import TYPE_CHECKING, NamedTuple

from router.events import Outcome
from router.telemetry import specs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from router.telemetry.cells import Cell, Spec

STEP_S = 5.0
STEPS = 60
"""Steps that are kept: five minutes."""

FAILED = frozenset((Outcome.OVERLOADED, Outcome.NO_UPSTREAM, Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT, Outcome.INTERNAL))
"""Requests that we failed. What clients do wrong or leave and what limits refuse counts neither way, as in alerts."""
JUDGED = FAILED | {Outcome.OK}

COUNTERS = (specs.REQUESTS, specs.ATTEMPTS, specs.TOKENS, specs.LIMIT_DECISIONS)
"""The counters that are looked at, and `specs.TTFT` besides; of tokens those of answers."""

Labels = tuple[str, ...]


class Point(NamedTuple):
    """One step of the curves."""

    requests_per_s: float
    errors_per_s: float
    open_streams: int
    ttft_p95_s: float | None
    """None: no stream began."""


class Counts:
    """What cells grew by over some time, by label set; those that did not are not in it."""

    __slots__ = ("counters", "since", "ttft")

    def __init__(self, since: float) -> None:
        self.since = since
        """Monotonic seconds."""
        self.counters: dict[Spec, dict[Labels, float]] = {spec: {} for spec in COUNTERS}
        self.ttft: dict[Labels, array[float]] = {}
        """Of each bucket, without the sum; whole numbers like all others, so that adding them up is exact."""

    def __repr__(self) -> str:
        return f"<Counts: {sum(map(len, self.counters.values())) + len(self.ttft)} label sets>"

    def count(self, spec: Spec, labels: Labels, grown: float) -> None:
        """Add what a counter grew by."""
        counter = self.counters[spec]
        counter[labels] = counter.get(labels, 0.0) + grown

    def observe(self, labels: Labels, grown: array[float]) -> None:
        """Add what the buckets of a histogram grew by."""
        before = self.ttft.get(labels)
        self.ttft[labels] = grown if before is None else array("d", map(add, before, grown))

    def take_away(self, gone: Counts) -> None:
        """Take away what was counted here and is too old now."""
        for spec, counter in gone.counters.items():
            here = self.counters[spec]
            for labels, grown in counter.items():
                here[labels] -= grown
                if not here[labels]:
                    del here[labels]
        for labels, buckets in gone.ttft.items():
            left = self.ttft[labels] = array("d", map(sub, self.ttft[labels], buckets))
            if not any(left):
                del self.ttft[labels]


class History:
    """What was counted in the last five minutes."""

    def __init__(
        self, cells: Callable[[Spec], Mapping[Labels, Cell]], open_streams: Callable[[], int], now: float
    ) -> None:
        self._cells = cells
        self._open_streams = open_streams
        self._last: dict[Spec, dict[Labels, float]] = {spec: {} for spec in COUNTERS}
        self._last_ttft: dict[Labels, Cell] = {}
        self._step = Counts(now)
        self._steps: deque[Counts] = deque()
        self.total = Counts(now)
        """Of all steps that are kept, the one that runs included."""
        self.points: deque[Point] = deque(maxlen=STEPS)
        """The steps that are over, oldest first."""
        self.seen: dict[Labels, float] = {}
        """When an upstream and an outcome of attempts were last seen together: no earlier than they were, and later by
        the time to the next look, five seconds at most."""

    def __repr__(self) -> str:
        return f"<History: {len(self._steps)} steps, {self.total!r}>"

    def look(self, now: float) -> None:
        """Take in what the cells grew by since the last look; to be called once a step, and before reading."""
        for spec in COUNTERS:
            self._look_at(spec, now)
        self._look_at_ttft()
        if now - self._step.since >= STEP_S:
            self._end_step(now)

    def requests_per_s(self, now: float) -> float:
        """Return the rate since the step before this one began: of five to ten seconds, once there are so many."""
        steps = [*([self._steps[-1]] if self._steps else []), self._step]
        return _requests(steps) / max(now - steps[0].since, 1.0)

    def _look_at(self, spec: Spec, now: float) -> None:
        cells, last = self._cells(spec), self._last[spec]
        if spec is specs.TOKENS:
            cells = {labels: cell for labels, cell in cells.items() if labels[2].startswith("output")}
        for labels, (value,) in cells.items():
            before = last.get(labels, 0.0)
            if value == before:
                last[labels] = value
                continue
            last[labels] = value
            # It is less if one reload dropped the label set and another brought it back.
            grown = value - before if value > before else value
            if grown:
                self._step.count(spec, labels, grown)
                self.total.count(spec, labels, grown)
                if spec is specs.ATTEMPTS:
                    self.seen[labels] = now
        if len(last) > len(cells):
            self._last[spec] = {labels: last[labels] for labels in cells}
            if spec is specs.ATTEMPTS:
                self.seen = {labels: at for labels, at in self.seen.items() if labels in cells}

    def _look_at_ttft(self) -> None:
        cells, last = self._cells(specs.TTFT), self._last_ttft
        for labels, cell in cells.items():
            before = last.get(labels)
            if cell == before:
                continue
            last[labels] = cell.copy()
            grown = array("d", cell[:-1] if before is None else map(sub, cell[:-1], before[:-1]))
            if min(grown) < 0:
                grown = array("d", cell[:-1])
            if any(grown):
                self._step.observe(labels, grown)
                self.total.observe(labels, grown)
        if len(last) > len(cells):
            self._last_ttft = {labels: last[labels] for labels in cells}

    def _end_step(self, now: float) -> None:
        step, length_s = self._step, now - self._step.since
        by_outcome = summed(step.counters[specs.REQUESTS], 2)
        self.points.append(
            Point(
                requests_per_s=_requests([step]) / length_s,
                errors_per_s=sum(by_outcome.get(outcome, 0.0) for outcome in FAILED) / length_s,
                open_streams=self._open_streams(),
                ttft_p95_s=quantile(0.95, merged(of_streams(step.ttft).values())),
            )
        )
        self._steps.append(step)
        self._step = Counts(now)
        # By time as well: while the machine slept, a step may have been a long one.
        while len(self._steps) > 1 and (len(self._steps) > STEPS or now - self._steps[0].since > STEP_S * (STEPS + 2)):
            self.total.take_away(self._steps.popleft())
        self.total.since = self._steps[0].since


def summed(counter: Mapping[Labels, float], label: int) -> dict[str, float]:
    """Return how much a counter grew, by the value of one label."""
    sums: dict[str, float] = {}
    for labels, grown in counter.items():
        sums[labels[label]] = sums.get(labels[label], 0.0) + grown
    return sums


def of_streams(ttft: Mapping[Labels, array[float]]) -> dict[Labels, array[float]]:
    """Return the part of `specs.TTFT` that tells of first tokens: a plain answer's time is that of all of it."""
    return {labels: grown for labels, grown in ttft.items() if labels[2] == "true"}


def by_label(ttft: Mapping[Labels, array[float]], label: int) -> dict[str, array[float]]:
    """Return buckets by the value of one label."""
    sums: dict[str, array[float]] = {}
    for labels, grown in ttft.items():
        before = sums.get(labels[label])
        sums[labels[label]] = grown if before is None else array("d", map(add, before, grown))
    return sums


def merged(several: Iterable[array[float]]) -> list[float]:
    """Return the buckets of several histograms as those of one; empty if there are none."""
    return list(map(sum, zip(*several, strict=True)))


def quantile(share: float, buckets: Sequence[float], bounds: Sequence[float] = specs.TTFT.bounds) -> float | None:
    """Return the value below which this share of what was observed lies; None if nothing was.

    It is interpolated inside its bucket, as Prometheus does; what lies beyond the last bound counts as that bound.
    """
    sums = list(accumulate(buckets))
    if not sums or not sums[-1]:
        return None
    rank = share * sums[-1]
    at = bisect_left(sums, rank)
    if at >= len(bounds):
        return bounds[-1]
    low, below = (bounds[at - 1], sums[at - 1]) if at else (0.0, 0.0)
    return low + (bounds[at] - low) * (rank - below) / (sums[at] - below)


def _requests(steps: Iterable[Counts]) -> float:
    return sum(sum(step.counters[specs.REQUESTS].values()) for step in steps)
