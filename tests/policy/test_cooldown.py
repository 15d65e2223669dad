from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.policy.cooldown import Cooldown
from router.policy.outcomes import Cools

if TYPE_CHECKING:
    from random import Random


@pytest.mark.parametrize("cools", [Cools.RATE_LIMIT, Cools.OVERLOAD])
@pytest.mark.parametrize(
    ("asked", "least"), [(7.0, 7.0), (0.0, 1.0), (0.2, 1.0), (300.0, 300.0), (86400.0, 300.0), (float("inf"), 300.0)]
)
def test_what_the_upstream_asks_for_is_honoured(rng: Random, cools: Cools, asked: float, least: float) -> None:
    """The wait is clamped to 1 to 300 s, and up to a fifth longer."""
    cooldown = Cooldown()
    for_s = cooldown.cool(50.0, cools, asked, rng)
    assert least <= for_s <= 1.2 * least
    assert cooldown.until == 50.0 + for_s
    assert cooldown.reason is cools


@pytest.mark.parametrize("asked", [None, -5.0, float("nan"), float("-inf")])
def test_without_a_usable_wish_a_429_doubles(rng: Random, asked: float | None) -> None:
    """5 s, then twice as long each time, up to a minute."""
    cooldown, now = Cooldown(), 50.0
    for expected in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0, *[60.0] * 2000):
        for_s = cooldown.cool(now, Cools.RATE_LIMIT, asked, rng)
        assert expected <= for_s <= 1.2 * expected
        now = cooldown.until


def test_a_burst_of_429_is_one_story(rng: Random) -> None:
    """Answers that come while it cools do not double the time."""
    cooldown = Cooldown()
    for _ in range(50):
        assert cooldown.cool(50.0, Cools.RATE_LIMIT, None, rng) <= 6.0
    assert cooldown.until <= 56.0


def test_a_success_forgives(rng: Random) -> None:
    """After a success the next 429 starts at 5 s again."""
    cooldown = Cooldown()
    for now in (50.0, 60.0):
        cooldown.cool(now, Cools.RATE_LIMIT, None, rng)
    assert cooldown.marked
    cooldown.succeed(100.0)
    assert not cooldown.marked
    assert cooldown.cool(101.0, Cools.RATE_LIMIT, None, rng) <= 6.0


def test_a_429_wins_over_answers_that_began_before_it(rng: Random) -> None:
    """A success while it cools ends nothing; only what was sent in spite of it may."""
    cooldown = Cooldown()
    cooldown.cool(50.0, Cools.RATE_LIMIT, 7.0, rng)
    cooldown.succeed(51.0)
    assert cooldown.until >= 57.0
    cooldown.clear()
    assert cooldown.until == 0.0


def test_a_shorter_reason_does_not_shorten(rng: Random) -> None:
    """An empty account stays out although a 429 says five seconds."""
    cooldown = Cooldown()
    assert cooldown.cool(50.0, Cools.QUOTA, 1.0, rng) == 600.0
    cooldown.cool(51.0, Cools.RATE_LIMIT, 5.0, rng)
    assert (cooldown.until, cooldown.reason) == (650.0, Cools.QUOTA)


def test_a_503_without_a_wish_cools_nothing(rng: Random) -> None:
    """That is a failure like any other."""
    cooldown = Cooldown()
    assert cooldown.cool(50.0, Cools.OVERLOAD, None, rng) == 0.0
    assert cooldown.until == 0.0


def test_three_refusals_in_a_row_are_a_misconfiguration(rng: Random) -> None:
    """The third cools for a minute; after that one more refusal is enough, a success starts the count anew."""
    cooldown = Cooldown()
    assert [cooldown.cool(50.0, Cools.MISCONFIGURED, None, rng) for _ in range(3)] == [0.0, 0.0, 60.0]
    assert cooldown.cool(111.0, Cools.MISCONFIGURED, None, rng) == 60.0
    cooldown.succeed(200.0)
    assert cooldown.cool(201.0, Cools.MISCONFIGURED, None, rng) == 0.0


def test_no_reason_cools_nothing(rng: Random) -> None:
    """A verdict without a mark leaves the cooldown as it is."""
    assert Cooldown().cool(50.0, Cools.NONE, 30.0, rng) == 0.0
