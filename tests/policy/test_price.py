"""What an answer costs is the sum of PROTOCOL 9.2, exactly, and rounded once."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.schema import Price, Usd
from router.config.values import USD_DECIMALS_MAX, USD_MAX, usd
from router.events import Usage
from router.policy.price import NANO_PER_USD, PriceList, in_usd

NAMES = Price.__struct_fields__

AMOUNTS = st.decimals(0, USD_MAX, places=USD_DECIMALS_MAX).map(Usd)
PRICES = st.builds(Price, **{name: st.none() | AMOUNTS for name in NAMES})
COUNTS = st.integers(0, 10**9)


def prices(**written: str) -> PriceList:
    return PriceList(Price(**{name: usd(text) for name, text in written.items()}))


def exact(price: Price, usage: Usage, images_asked: int) -> Fraction:
    """The cost in USD by the formula as PROTOCOL 9.2 writes it."""

    def of(name: str, *instead: str) -> Fraction:
        given = (getattr(price, each) for each in (name, *instead))
        return Fraction(next((it for it in given if it is not None), 0))

    tokens = (
        usage.input * of("input")
        + usage.cache_read * of("cached_input", "input")
        + usage.cache_write * of("cache_write", "input")
        + usage.cache_write_long * of("cache_write_long", "cache_write", "input")
        + usage.output * of("output")
        + usage.audio_in * of("audio_input", "input")
        + usage.audio_out * of("audio_output", "output")
        + usage.image_in * of("image_input", "input")
        + usage.characters * of("characters")
    )
    pieces = (usage.images or images_asked) * of("image") + usage.searches * of("search")
    return tokens / 10**6 + pieces + Fraction(Decimal(repr(usage.seconds))) * of("second")


@given(
    PRICES,
    st.builds(
        Usage,
        **{name: COUNTS for name in Usage.__struct_fields__ if name not in ("seconds", "clamped")},
        seconds=st.floats(0, 10**7),
    ),
    st.integers(0, 100),
)
def test_the_cost_is_the_formula_rounded_once(price: Price, usage: Usage, images_asked: int) -> None:
    """Whatever the prices and counts, the cost is the nearest nanodollar to the exact sum, the upper of two."""
    off = PriceList(price).cost(usage, images_asked=images_asked) - exact(price, usage, images_asked) * NANO_PER_USD
    assert Fraction(-1, 2) < off <= Fraction(1, 2)


@given(prompt=COUNTS, share=st.floats(0, 1), completion=COUNTS, p_in=AMOUNTS, p_read=AMOUNTS, p_out=AMOUNTS)
def test_three_fields_make_the_plain_formula(
    *, prompt: int, share: float, completion: int, p_in: Usd, p_read: Usd, p_out: Usd
) -> None:
    """As chat reports it: ((prompt - cached) P_in + cached P_read + completion P_out) / 10⁶."""
    cached = int(prompt * share)
    usage = Usage(prompt - cached, cached, 0, completion)
    cost = PriceList(Price(input=p_in, cached_input=p_read, output=p_out)).cost(usage)
    formula = (prompt - cached) * Fraction(p_in) + cached * Fraction(p_read) + completion * Fraction(p_out)
    assert cost == (formula / 10**6 * NANO_PER_USD + Fraction(1, 2)) // 1


def test_an_example() -> None:
    """24 000 tokens in, 20 000 of them cached, and 1 700 out, at 1.25, 0.125 and 10 USD, cost 2.45 cents."""
    listed = prices(input="1.25", cached_input="0.125", output="10")
    assert listed.cost(Usage(4_000, 20_000, 0, 1_700)) == 24_500_000
    assert in_usd(24_500_000) == 0.0245


@pytest.mark.parametrize(
    ("written", "used", "nano"),
    [
        ({"input": "2"}, {"cache_read": 5}, 10_000),
        ({"input": "2", "cached_input": "0"}, {"cache_read": 5}, 0),
        ({"input": "2"}, {"cache_write": 5}, 10_000),
        ({"input": "2", "cache_write": "3"}, {"cache_write": 5}, 15_000),
        ({"input": "2"}, {"cache_write_long": 5}, 10_000),
        ({"input": "2", "cache_write": "3"}, {"cache_write_long": 5}, 15_000),
        ({"input": "2", "cache_write_long": "4"}, {"cache_write_long": 5}, 20_000),
        ({"input": "2"}, {"audio_in": 5}, 10_000),
        ({"input": "2", "audio_input": "4"}, {"audio_in": 5}, 20_000),
        ({"input": "2"}, {"image_in": 5}, 10_000),
        ({"input": "2", "image_input": "4"}, {"image_in": 5}, 20_000),
        ({"output": "2"}, {"audio_out": 5}, 10_000),
        ({"output": "2", "audio_output": "4"}, {"audio_out": 5}, 20_000),
        ({"output": "2"}, {"output": 5, "reasoning": 3}, 10_000),
        ({"output": "2"}, {"input": 5}, 0),
        ({"input": "2"}, {"output": 5}, 0),
        ({"image": "0.002"}, {"images": 3}, 6_000_000),
        ({"second": "0.0001"}, {"seconds": 12.3}, 1_230_000),
        ({"characters": "15"}, {"characters": 3}, 45_000),
        ({"search": "0.01"}, {"searches": 3}, 30_000_000),
        ({"input": "2", "output": "3"}, {"images": 3, "seconds": 3.0, "characters": 3, "searches": 3}, 0),
    ],
)
def test_a_price_that_is_missing_is_another_or_none(written: dict[str, str], used: dict[str, Any], nano: int) -> None:
    """Caches, sound and pictures fall back to the price of input or output, pieces without a price cost nothing."""
    assert prices(**written).cost(Usage(**used)) == nano


def test_pictures_of_a_request_count_where_none_were_made() -> None:
    """A vision chat pays for each picture it shows besides its tokens; one that made pictures pays for those."""
    listed = prices(input="1", image="0.5")
    assert listed.cost(Usage(1000), images_asked=2) == 1_000_000 + 10**9
    assert listed.cost(Usage(images=3), images_asked=2) == 1_500_000_000
    assert prices(input="1").cost(Usage(1000), images_asked=2) == 1_000_000


def test_it_is_rounded_at_the_end_and_not_before() -> None:
    """Amounts below a nanodollar add up before they are rounded, and half a one is rounded up."""
    listed = prices(input="0.0004", output="0.0001")
    assert listed.cost(Usage(1)) == 0
    assert listed.cost(Usage(1, output=1)) == 1
    assert listed.cost(Usage(2, output=2)) == 1


@given(st.integers(0, 10**15 - 1))
def test_the_log_shows_exactly_the_amount(nano: int) -> None:
    """Below a million dollars the number that is written in JSON has exactly the decimals of the amount."""
    text = msgspec.json.encode(in_usd(nano)).decode()
    assert Decimal(text) * NANO_PER_USD == nano


def test_it_says_what_it_is() -> None:
    """An operator reads the prices off its representation."""
    assert repr(prices(input="1.25", output="10")) == "<PriceList: 1.25 and 10 USD per million tokens in and out>"
