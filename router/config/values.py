"""Single values: what an operator writes (`1m30s`, `500k`, `64MiB`), what the router counts with, and back."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Never

from router.config.report import shown
from router.config.schema import Count, Seconds, Size, Usd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.config.yaml_nodes import Resolved

SECONDS_MAX: Final = 365 * 86_400
"""The longest duration: a year. Event loops fail on much longer timers."""
COUNT_MAX: Final = 10**15
"""The largest count and size: exact in a float, so that JSON readers see the same number."""
USD_MAX: Final = 1_000_000
"""The highest price: a thousand times that of the dearest model."""
USD_DECIMALS_MAX: Final = 12
"""Digits of a price after the point that may count: a token may cost as little as 10⁻¹⁸ USD."""

_NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,20})?"
_PLAIN_NUMBER = re.compile(rf"{_NUMBER}(?:[eE][-+]?[0-9]{{1,3}})?")
_DURATION = re.compile("".join(rf"(?:({_NUMBER}){unit})?" for unit in ("d", "h", "m", "s", "ms")))
_DURATION_UNITS = tuple(Fraction(length) for length in ("86400", "3600", "60", "1", "1/1000"))
_AMOUNT = re.compile(r"[-+]?(?:[0-9]{1,20}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,3})?")
_WITH_UNIT = re.compile(rf"({_NUMBER})([A-Za-z]*)")

_COUNT_UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_SIZE_UNITS: Final = {
    "": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "MB": 10**6, "GB": 10**9,
}  # fmt: skip


class BadValue(ValueError):
    """A value is not what its setting takes; the text says what it takes."""


def seconds(value: Resolved) -> Seconds:
    """Read a duration: `250ms`, `3s`, `1m30s`, `2h`, `1d`, or a number of seconds.

    Raises:
        BadValue: It is something else, zero, negative, not finite, or longer than `SECONDS_MAX`.
    """
    if value is None or isinstance(value, bool):
        _refuse(value, "a duration such as 250ms, 3s, 1m30s or 2h")
    if isinstance(value, str):
        value = _duration(value)
    if not value > 0:  # catches NaN too
        raise BadValue("must be longer than 0")
    if value > SECONDS_MAX:
        raise BadValue("must not be longer than 365d")
    return Seconds(value)


def _duration(text: str) -> float:
    if _PLAIN_NUMBER.fullmatch(text):
        return float(text)
    parts = _DURATION.fullmatch(text)
    if not text or parts is None:
        hint = ", without the space" if _DURATION.fullmatch(text.replace(" ", "")) and text.strip() else ""
        raise BadValue(f"{shown(text)} is not a duration; write 250ms, 3s, 1m30s or 2h{hint}")
    # Fractions, so that 1m30.1s is exactly the float nearest to 90.1.
    given = zip(parts.groups(), _DURATION_UNITS, strict=True)
    return float(sum((Fraction(part) * unit for part, unit in given if part), Fraction()))


def count(value: Resolved) -> Count:
    """Read a whole number that may end in `k`, `M` or `G`.

    Raises:
        BadValue: It is something else, negative, not whole, or more than `COUNT_MAX`.
    """
    return Count(_whole(value, _COUNT_UNITS, "a whole number such as 500, 500k, 1.5M or 2G"))


def size(value: Resolved) -> Size:
    """Read a number of bytes that may end in `KiB`, `MiB`, `GiB`, `kB`, `MB` or `GB`.

    Raises:
        BadValue: It is something else, zero, negative, not whole bytes, or more than `COUNT_MAX`.
    """
    number = _whole(value, _SIZE_UNITS, "a number of bytes such as 65536, 64KiB, 64MiB or 1GiB")
    if not number:
        raise BadValue("must be more than 0")
    return Size(number)


def usd(text: str) -> Usd:
    """Read an amount of dollars from its digits as they stand in the file: no float comes between.

    Raises:
        BadValue: It is something else, negative, more than `USD_MAX`, or finer than `USD_DECIMALS_MAX` digits.
    """
    if not _AMOUNT.fullmatch(text):
        raise BadValue(f"expected an amount in USD such as 1.25, found {shown(text) if text else 'nothing'}")
    if text.startswith("-"):
        raise BadValue("must not be negative")
    amount = Decimal(text)
    if amount > USD_MAX:
        raise BadValue(f"must not be more than {USD_MAX}")
    if (Fraction(amount) * 10**USD_DECIMALS_MAX).denominator != 1:
        raise BadValue(f"must not have more than {USD_DECIMALS_MAX} digits after the point")
    return Usd(amount)


def _whole(value: Resolved, units: Mapping[str, int], expected: str) -> int:
    if isinstance(value, str):
        parts = _WITH_UNIT.fullmatch(value)
        if parts is None or parts[2] not in units:
            _refuse(value, expected)
        number = Fraction(parts[1]) * units[parts[2]]  # exact: 1.5M is whole, 1.0005k is not
        if number.denominator != 1:
            _refuse(value, expected)
        value = int(number)
    if value is None or isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        _refuse(value, expected)
    if value < 0:
        raise BadValue("must not be negative")
    if value > COUNT_MAX:
        raise BadValue(f"must not be more than {COUNT_MAX}")
    return int(value)


def _refuse(value: Resolved, expected: str) -> Never:
    raise BadValue(f"expected {expected}, found {described(value)}")


def described(value: Resolved) -> str:
    """Say what a value is, for a fault."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    return shown(value) if isinstance(value, str) else str(value)


def show_seconds(value: float) -> str:
    """Write a duration so that `seconds` reads exactly the same: `1m30s`, `250ms`."""
    milliseconds = round(value * 1000)
    if milliseconds / 1000 != value:
        return repr(float(value))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    text = ""
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        whole, milliseconds = divmod(milliseconds, length)
        text += f"{whole}{unit}" if whole else ""
    return text + (f"{milliseconds / 1000:g}s" if milliseconds else "")


def show_count(value: int) -> str | int:
    """Write a count so that `count` reads the same: `500k`, `2M`, 1024."""
    return _show(value, {unit: _COUNT_UNITS[unit] for unit in ("G", "M", "k")})


def show_size(value: int) -> str | int:
    """Write a size so that `size` reads the same: `64MiB`, 1000."""
    return _show(value, {unit: _SIZE_UNITS[unit] for unit in ("GiB", "MiB", "KiB")})


def show_usd(value: Usd) -> int | float | str:
    """Write an amount so that `usd` reads exactly the same: 10, 0.125, and as text what no float says so."""
    if value == value.to_integral_value():
        return int(value)
    number = float(value)
    return number if Decimal(repr(number)) == value else f"{value.normalize():f}"


def _show(value: int, units: Mapping[str, int]) -> str | int:
    """The largest unit of which it is a whole number, or the plain number."""
    for unit, factor in units.items():
        if value and value % factor == 0:
            return f"{value // factor}{unit}"
    return int(value)
