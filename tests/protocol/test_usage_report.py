"""A member of a usage object is believed or left, and what is left leaves doubt."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from router.protocol.usage_report import SECONDS_MAX, TOKENS_MAX, Report

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("value", [-1, 1.5, True, "7", [], {}, TOKENS_MAX + 1, 10**400, math.inf, math.nan, 1e300])
def test_what_is_no_count_reads_as_absent(value: Any) -> None:
    """A number that cannot be a count is no number, and leaves doubt."""
    report = Report({"n": value})
    assert (report.count("n"), report.clamped) == (None, True)


@pytest.mark.parametrize(("value", "count"), [(0, 0), (7, 7), (7.0, 7), (TOKENS_MAX, TOKENS_MAX), (None, None)])
def test_counts_are_read(value: Any, count: int | None) -> None:
    """Whole numbers are counts, however they are written; nothing is nothing, and no reason for doubt."""
    report = Report({"n": value})
    assert (report.count("n"), report.clamped) == (count, False)


def test_a_bound_may_be_lower() -> None:
    """What is counted by the piece has a bound of its own."""
    report = Report({"n": 11})
    assert (report.count("n", most=11), report.count("n", most=10), report.clamped) == (11, None, True)


@pytest.mark.parametrize("usage", [{}, {"a": None}, {"a": 3}, {"a": []}, {"a": {"b": "c"}}, {"a": {"b": {}}}])
def test_a_detail_may_be_missing_at_every_level(usage: dict[str, Any]) -> None:
    """A count deep inside is absent if anything on the way to it is missing or no object."""
    report = Report(usage)
    assert (report.count("n", "a", "b"), report.clamped) == (None, False)
    assert Report({"a": {"b": {"n": 5}}}).count("n", "a", "b") == 5


@pytest.mark.parametrize(
    ("value", "seconds"), [(3, 3.0), (3.25, 3.25), (0, 0.0), (SECONDS_MAX, SECONDS_MAX), (None, None)]
)
def test_lengths_are_read(value: float | None, seconds: float | None) -> None:
    """A length is any number from nothing to its bound."""
    report = Report({"seconds": value})
    assert (report.seconds("seconds"), report.clamped) == (seconds, False)


@pytest.mark.parametrize("value", [-1, True, "3", math.nan, math.inf, 10**400, SECONDS_MAX + 1, []])
def test_what_is_no_length_reads_as_absent(value: Any) -> None:
    """A number that cannot be a length is no number, and leaves doubt."""
    report = Report({"seconds": value})
    assert (report.seconds("seconds"), report.clamped) == (None, True)


@pytest.mark.parametrize(
    ("whole", "short", "long", "split", "doubted"),
    [
        (None, None, None, (0, 0), False),
        (9, None, None, (9, 0), False),
        (9, None, 4, (5, 4), False),
        (9, 5, 4, (5, 4), False),
        (None, 5, 4, (5, 4), False),
        (None, None, 4, (0, 4), False),
        (9, 9, None, (9, 0), False),
        (9, 5, 3, (6, 3), True),
        (9, 5, 12, (0, 9), True),
        (12, 8, 4, (6, 4), True),
        (12, None, 12, (0, 10), True),
    ],
)
def test_cache_writes_are_split_by_time(
    whole: int | None, short: int | None, long: int | None, split: tuple[int, int], doubted: bool
) -> None:
    """The whole rules, the long part comes out of it, and what contradicts that, or the bound of ten, is doubted."""
    report = Report({})
    assert (report.split(whole, short, long, 10), report.clamped) == (split, doubted)


@pytest.mark.parametrize(
    ("work", "found", "doubted"),
    [
        (lambda report: report.part(3, 5), 3, False),
        (lambda report: report.part(None, 5), 0, False),
        (lambda report: report.part(7, 5), 5, True),
        (lambda report: report.remainder(8, 5), 3, False),
        (lambda report: report.remainder(5, 8), 0, True),
        (lambda report: report.remainder(None, 5), 0, True),
        (lambda report: report.needed(4), 4, False),
        (lambda report: report.needed(None), 0, True),
    ],
)
def test_parts_and_remainders_stay_inside_their_whole(work: Callable[[Report], int], found: int, doubted: bool) -> None:
    """A part is cut to its whole, a remainder is never negative, a needed count that is missing is nothing."""
    report = Report({})
    assert (work(report), report.clamped) == (found, doubted)
