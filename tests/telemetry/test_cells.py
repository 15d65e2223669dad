"""Cells count like Prometheus counts, and never open more series than they may."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from router.telemetry.cells import OTHER, UNKNOWN, Family, Kind, SeriesLimit, Spec, observe

COUNTER = Spec(Kind.COUNTER, "tries_total", "Tries.", ("model", "reason"))
HISTOGRAM = Spec(Kind.HISTOGRAM, "wait_seconds", "Waiting.", ("model",), (0.1, 1.0, 10.0))


def samples(family: Family) -> dict[tuple[str, ...], float]:
    return {(it.name, *it.labels.values()): it.value for it in family.collect().samples}


def test_a_counter_adds_up_for_each_label_set() -> None:
    """Every label set has a count of its own."""
    family = Family(COUNTER, SeriesLimit(100))
    family.add("a", "x")
    family.add("a", "x", by=2)
    family.add("a", "y")
    assert samples(family) == {("tries_total", "a", "x"): 3, ("tries_total", "a", "y"): 1}


@given(st.lists(st.floats(0, 20) | st.sampled_from(HISTOGRAM.bounds)))
def test_a_histogram_counts_like_the_reference(values: list[float]) -> None:
    """Buckets, bounds included, count and sum are those of prometheus_client's own histogram."""
    family = Family(HISTOGRAM, SeriesLimit(100))
    reference = Histogram("wait_seconds", "Waiting.", ["model"], buckets=HISTOGRAM.bounds, registry=CollectorRegistry())
    cell, child = family.cell("a"), reference.labels("a")
    for value in values:
        observe(cell, HISTOGRAM.bounds, value)
        child.observe(value)
    (expected,) = reference.collect()
    created = {("wait_seconds_created", "a")}
    assert (
        samples(family).items()
        == {
            key: value
            for it in expected.samples
            if (key := (it.name, *it.labels.values())) not in created
            for value in [it.value]
        }.items()
    )


def test_the_series_limit_folds_what_is_new() -> None:
    """Beyond the limit new label sets share one series, the loss is counted, and what was open goes on counting."""
    limit = SeriesLimit(2)
    family = Family(COUNTER, limit)
    for reason in "abcd":
        family.add("m", reason)
    family.add("m", "a")
    assert samples(family) == {
        ("tries_total", "m", "a"): 2,
        ("tries_total", "m", "b"): 1,
        ("tries_total", OTHER, OTHER): 2,
    }
    assert limit.dropped == {"tries_total": 2}


def test_a_histogram_takes_all_its_series_from_the_limit() -> None:
    """A label set of a histogram counts as many series as it renders."""
    limit = SeriesLimit(100)
    family = Family(HISTOGRAM, limit)
    family.cell("a")
    assert 100 - limit.left == len(family.collect().samples) == HISTOGRAM.series


def test_dropped_label_sets_give_their_room_back() -> None:
    """`keep` removes what left the configuration, spares the sentinels, and frees the series."""
    limit = SeriesLimit(4)
    family = Family(COUNTER, limit)
    for model in ("old", "new", UNKNOWN, OTHER):
        family.add(model, "x")
    family.keep("model", {"new"})
    assert {labels[1] for labels in samples(family)} == {"new", UNKNOWN, OTHER}
    assert limit.left == 1
