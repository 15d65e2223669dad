"""Prices, and what an answer costs by them (PROTOCOL 9.2).

Whole numbers all the way: a price is kept in attodollars (10⁻¹⁸ USD) for each token or piece, of which every price that
the configuration takes is a whole number, and the sum is rounded once, to a nanodollar.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.config.schema import Price, Usd
    from router.events import Usage

NANO_PER_USD = 10**9

_ATTO_PER_USD = 10**18
_ATTO_PER_NANO = _ATTO_PER_USD // NANO_PER_USD
_MILLION = 10**6


class PriceList:
    """What the tokens and pieces of one route cost."""

    __slots__ = (
        "_audio_input",
        "_audio_output",
        "_cache_write",
        "_cache_write_long",
        "_cached_input",
        "_character",
        "_image",
        "_image_input",
        "_input",
        "_output",
        "_search",
        "_second",
    )

    def __init__(self, price: Price) -> None:
        self._input = _atto(price.input, per=_MILLION)
        self._cached_input = _atto(price.cached_input, per=_MILLION, default=self._input)
        self._cache_write = _atto(price.cache_write, per=_MILLION, default=self._input)
        self._cache_write_long = _atto(price.cache_write_long, per=_MILLION, default=self._cache_write)
        self._output = _atto(price.output, per=_MILLION)
        self._audio_input = _atto(price.audio_input, per=_MILLION, default=self._input)
        self._audio_output = _atto(price.audio_output, per=_MILLION, default=self._output)
        self._image_input = _atto(price.image_input, per=_MILLION, default=self._input)
        self._image = _atto(price.image)
        self._second = _atto(price.second)
        self._character = _atto(price.characters, per=_MILLION)
        self._search = _atto(price.search)

    def __repr__(self) -> str:
        input_usd, output_usd = (atto * _MILLION / _ATTO_PER_USD for atto in (self._input, self._output))
        return f"<PriceList: {input_usd:g} and {output_usd:g} USD per million tokens in and out>"

    def listed(self) -> dict[str, float]:
        """Return every price that is not nothing, by its setting, in USD as the setting counts; defaults filled in."""
        per_million = {
            "input": self._input, "cached_input": self._cached_input, "cache_write": self._cache_write,
            "cache_write_long": self._cache_write_long, "output": self._output, "audio_input": self._audio_input,
            "audio_output": self._audio_output, "image_input": self._image_input, "characters": self._character,
        }  # fmt: skip
        each = {"image": self._image, "second": self._second, "search": self._search}
        listed = {name: atto * _MILLION / _ATTO_PER_USD for name, atto in per_million.items()}
        listed |= {name: atto / _ATTO_PER_USD for name, atto in each.items()}
        return {name: usd for name, usd in listed.items() if usd}

    @property
    def counts_pictures(self) -> bool:
        """Whether the pictures that a prompt shows are paid for one by one."""
        return self._image > 0

    def cost(self, usage: Usage, *, images_asked: int = 0) -> int:
        """Return what an answer costs, in nanodollars, half a one rounded up. HOT: 0.4 us.

        Args:
            usage: What the upstream reported.
            images_asked: Pictures that the request shows, which count where the answer made none: a vision chat pays
                the price of an image for each, besides its tokens.
        """
        atto: int | Fraction = (
            usage.input * self._input
            + usage.cache_read * self._cached_input
            + usage.cache_write * self._cache_write
            + usage.output * self._output
            + (usage.images or images_asked) * self._image
        )
        if usage.cache_write_long or usage.audio_in or usage.image_in or usage.audio_out:
            atto += (
                usage.cache_write_long * self._cache_write_long
                + usage.audio_in * self._audio_input
                + usage.image_in * self._image_input
                + usage.audio_out * self._audio_output
            )
        if usage.characters or usage.searches:
            atto += usage.characters * self._character + usage.searches * self._search
        if usage.seconds:
            atto += Fraction(repr(usage.seconds)) * self._second  # the decimals that were reported, not the float's
        return int((atto + _ATTO_PER_NANO // 2) // _ATTO_PER_NANO)


def in_usd(nano: int) -> float:
    """Return an amount of nanodollars as dollars: below a million, the float that is written with these decimals."""
    return nano / NANO_PER_USD


def _atto(price: Usd | None, *, per: int = 1, default: int = 0) -> int:
    """Return attodollars for one, from dollars for `per` of them; the configuration takes 12 digits, so it is whole."""
    return default if price is None else int(Fraction(price) * _ATTO_PER_USD / per)
