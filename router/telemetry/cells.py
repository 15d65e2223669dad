"""Cells: the numbers behind the metrics, plain enough for the hot path.

A bound child of prometheus_client costs 1 us to increment and 2 us to observe, and one request moves a dozen of them. A
cell is a list of floats: whoever counts holds the list itself and adds to it in place (30 ns, 150 ns for a histogram).

One thread counts (the event loop's), another may render at the same time. Cells and the dicts that hold them are copied
in one step before they are read, so a scrape sees each cell as it was at one moment, or at worst a histogram whose sum
lags one observation behind its counts.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

Cell = list[float]
"""A counter: `[value]`. A histogram: one count for each bucket, the last without a bound, and then the sum."""

UNKNOWN = "_unknown"
"""Stands for a model or upstream that the configuration does not name."""

OTHER = "_other"
"""Stands for every label of the label sets that came after the series limit was reached."""


EXEMPLAR_S = 5.0
"""How long an exemplar stays before another takes its place: scrapes come no more often."""


class Kind(StrEnum):
    """The types of the exposition formats that are used here."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True, eq=False)
class Spec:
    """What a metric is called, means, and is labelled with. Each is declared once and known by its identity."""

    kind: Kind
    name: str
    """As it stands in a query, `_total` or `_info` included."""
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    """The upper bounds of a histogram's buckets, ascending, without the last, infinite one."""

    @property
    def series(self) -> int:
        """How many series one label set makes: a histogram has a bucket without a bound, a sum and a count besides."""
        return len(self.bounds) + 3 if self.kind is Kind.HISTOGRAM else 1

    def metric(self) -> Metric:
        """Return an empty metric for the exposition, to which samples are added."""
        suffix = {Kind.COUNTER: "_total", Kind.INFO: "_info"}.get(self.kind, "")
        return Metric(self.name.removesuffix(suffix), self.help, self.kind)

    def sample(self, labels: Iterable[str], value: float) -> Sample:
        """Return one sample, for every kind but histograms."""
        return Sample(self.name, dict(zip(self.labels, labels, strict=True)), value)


def observe(cell: Cell, bounds: Sequence[float], value: float) -> None:
    """Add an observation to a histogram's cell."""
    cell[bisect_left(bounds, value)] += 1.0
    cell[-1] += value


class SeriesLimit:
    """How many series all families together may still open."""

    def __init__(self, series_max: int) -> None:
        self.left = series_max
        self.dropped: dict[str, float] = {}
        """For each metric, how often a new label set found no room."""


class Family:
    """The cells of one counter or histogram, by label set."""

    def __init__(self, spec: Spec, limit: SeriesLimit) -> None:
        self.spec = spec
        self._limit = limit
        self._cells: dict[tuple[str, ...], Cell] = {}
        self._exemplars: dict[tuple[str, ...], dict[int, Exemplar]] = {}
        """Of a histogram, by label set and bucket: no more than it has series."""
        self._empty = [0.0] if spec.kind is Kind.COUNTER else [0.0] * (len(spec.bounds) + 2)

    def __repr__(self) -> str:
        return f"<Family {self.spec.name}: {len(self._cells)} label sets>"

    @property
    def cells(self) -> Mapping[tuple[str, ...], Cell]:
        """Every cell by its label set, to be read at once: they go on counting."""
        return self._cells

    def cell(self, *labels: str) -> Cell:
        """Return the cell of a label set, opened if it is new; beyond the series limit, one cell for all the rest."""
        cell = self._cells.get(labels)
        return self._open(labels) if cell is None else cell

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Count."""
        self.cell(*labels)[0] += by

    def mark(self, *labels: str, value: float, trace_id: str, now: float) -> None:
        """Remember a trace in which this value, which has been observed, can be looked at.

        Args:
            labels: As of `cell`.
            value: The observation.
            trace_id: A trace whose spans are kept.
            now: Wall clock, seconds since the epoch.
        """
        marked = self._exemplars.setdefault(labels if labels in self._cells else (OTHER,) * len(labels), {})
        bucket = bisect_left(self.spec.bounds, value)
        last = marked.get(bucket)
        if last is None or not 0 <= now - float(last.timestamp or 0.0) < EXEMPLAR_S:
            marked[bucket] = Exemplar({"trace_id": trace_id}, value, now)

    def _open(self, labels: tuple[str, ...]) -> Cell:
        if self._limit.left < self.spec.series:
            dropped = self._limit.dropped
            dropped[self.spec.name] = dropped.get(self.spec.name, 0.0) + 1.0
            # The one label set a family may open beyond the limit, so the excess is as small as the list of families.
            labels = (OTHER,) * len(labels)
            if (cell := self._cells.get(labels)) is not None:
                return cell
        self._limit.left -= self.spec.series
        cell = self._cells[labels] = self._empty.copy()
        return cell

    def keep(self, label: str, values: Collection[str]) -> None:
        """Drop every label set whose `label` is neither among `values` nor one of the sentinels."""
        at = self.spec.labels.index(label)
        for labels in [it for it in self._cells if it[at] not in values and it[at] not in (UNKNOWN, OTHER)]:
            del self._cells[labels]
            self._exemplars.pop(labels, None)
            self._limit.left += self.spec.series

    def collect(self) -> Metric:
        """Return the metric with a sample for every cell. May run in another thread than the one that counts."""
        metric = self.spec.metric()
        for labels, cell in self._cells.copy().items():
            if self.spec.kind is Kind.COUNTER:
                metric.samples.append(self.spec.sample(labels, cell[0]))
            else:
                exemplars = self._exemplars.get(labels, {}).copy()
                metric.samples.extend(self._histogram(labels, cell.copy(), exemplars))
        return metric

    def _histogram(self, labels: tuple[str, ...], cell: Cell, exemplars: Mapping[int, Exemplar]) -> Iterable[Sample]:
        name, bounds = self.spec.name, (*map(str, self.spec.bounds), "+Inf")
        named = dict(zip(self.spec.labels, labels, strict=True))
        total = 0.0
        for bucket, (bound, total) in enumerate(zip(bounds, accumulate(cell[:-1]), strict=True)):
            yield Sample(f"{name}_bucket", {**named, "le": bound}, total, exemplar=exemplars.get(bucket))
        yield Sample(f"{name}_count", named, total)
        yield Sample(f"{name}_sum", named, cell[-1])
