"""The clock, by what upstreams answer with."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from router.doctor import clock
from router.doctor.findings import Notes, Result
from tests.doctor.examining import only_one

NOW = 1_795_000_000.0


@pytest.mark.parametrize(("sent", "came", "off"), [(NOW, NOW + 1, 0.0), (NOW + 60, NOW + 61, 60.0)])
def test_the_offset_is_taken_in_the_middle_of_the_exchange(sent: float, came: float, off: float) -> None:
    """An answer that took a second was written half way, and `Date` is on average half a second old."""
    assert clock.offset_s([b"Date: " + formatdate(NOW, usegmt=True).encode()], sent, came) == off


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [b"date: yesterday"],
        [b"date: Mon, 99 Nov 99999 99:99:99 GMT"],
        [b"date: \xff"],
        [b"date: " + formatdate(NOW - 900, usegmt=True).encode(), b"age: 900"],
    ],
    ids=["none", "no date", "out of range", "no text", "from a cache"],
)
def test_what_says_nothing_is_not_believed(headers: list[bytes]) -> None:
    """No date, garbage, or the date of an answer that a cache has kept tells nothing of the clock."""
    assert clock.offset_s(headers, NOW, NOW) is None


@pytest.mark.parametrize(
    ("offsets", "result"),
    [
        ([0.0, 5.0], Result.OK),
        ([6.0], Result.WARN),
        ([-299.0], Result.WARN),
        ([301.0, 302.0], Result.FAIL),
        ([0.2, 0.1, 86_400.0], Result.OK),
    ],
)
def test_the_clock_is_judged_by_most_upstreams(offsets: list[float], result: Result) -> None:
    """Five seconds are let pass, five minutes are not; one upstream whose own clock is wrong changes nothing."""
    notes = Notes("machine")
    clock.examine(notes, offsets)
    assert only_one(notes)[0] is result


def test_without_an_answer_nothing_is_said() -> None:
    """Nobody is asked for the time but who answers anyway."""
    notes = Notes("machine")
    clock.examine(notes, [])
    assert notes.findings == []
