"""Figures as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.web import status_page_figures as figures

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("shown", "value", "expected"),
    [
        (figures.span, 0.4, "0 s"),
        (figures.span, 119, "119 s"),
        (figures.span, 120, "2 min"),
        (figures.span, 7199, "119 min"),
        (figures.span, 7200, "2 h"),
        (figures.span, 172_800, "2 d"),
        (figures.seconds, 0.0, "0 ms"),
        (figures.seconds, 0.1514, "151 ms"),
        (figures.seconds, 0.9996, "1.00 s"),
        (figures.seconds, 9.99, "9.99 s"),
        (figures.seconds, 9.996, "10.0 s"),
        (figures.rate, 0.04, "0.0"),
        (figures.rate, 10.64, "10.6"),
        (figures.rate, 99.96, "100"),
        (figures.rate, 12_345, "12.3k"),
        (figures.count, 9999, "9999"),
        (figures.count, 10_000, "10k"),
        (figures.count, 999_499, "999k"),
        (figures.count, 999_500, "1M"),
        (figures.count, 10**12, "1T"),
        (figures.count, 4 * 10**15, "4e+03T"),
        (figures.size, 0, "0 B"),
        (figures.size, 12_345, "12.3 kB"),
        (figures.size, 10**9, "1 GB"),
        (figures.share, 0.0, "0 %"),
        (figures.share, 1.0, "100 %"),
        (figures.share, 0.99999, "99.99 %"),
        (figures.share, 0.9876, "98.7 %"),
        (figures.percent, 0.754, "75 %"),
        (figures.plain, 3.0, "3"),
        (figures.plain, 0.5, "0.5"),
    ],
)
def test_a_figure_is_short_and_true(shown: Callable[[float], str], value: float, expected: str) -> None:
    """Each kind has its unit and its digits, and what is nearly everything is never shown as all of it."""
    assert shown(value) == expected


def test_what_is_not_known_is_a_dash() -> None:
    """None is not zero."""
    assert figures.known(None, figures.rate) == "-"
    assert figures.known(0.0, figures.rate) == "0.0"


def test_what_cannot_be_seen_is_seen() -> None:
    """Control characters, invisible ones and those that turn the direction of what follows are question marks."""
    assert figures.visible("a\x1b[2J\n\u202eb\u200bc\xa0d\x00\x9b") == "a?[2J??b?c?d??"
    assert figures.visible("naïve 模型 Ωmega") == "naïve 模型 Ωmega"


def test_a_time_is_of_today_or_has_its_day() -> None:
    """A time of day alone would lie about yesterday."""
    noon = 1_000_000_000.0  # 2001-09-09 01:46:40 UTC
    assert figures.clock(noon, noon + 60) == "01:46:40"
    assert figures.clock(noon, noon + 86_400) == "09 Sep 01:46"
