"""One usage object as an upstream sent it: members are taken out as counts, and what had to be put right is marked.

`usage` says which members there are and what they mean; here is only how a number is believed. Nothing raises.
"""

from __future__ import annotations

from typing import Any

TOKENS_MAX = 10**9
"""A larger count is an upstream's fault, not a count: the longest contexts are a hundredth of it."""

UNITS_MAX = 100_000
"""The same for what is paid for by the piece: pictures, searches. One request makes ten pictures at most."""

SECONDS_MAX = 10_000_000.0
"""The same for the length of a sound, which is sent as one file or over one connection: four months."""


class Report:
    """One usage object, and whether anything in it had to be put right."""

    __slots__ = ("_usage", "clamped")

    def __init__(self, usage: dict[str, Any]) -> None:
        self._usage = usage
        self.clamped = False

    def count(self, name: str, *within: str, most: int = TOKENS_MAX) -> int | None:
        """Return a count, from the object that stands under the names `within`; None if it is absent or no count.

        Whole floats are taken: some serialisers know no other numbers. Anything else that cannot be a count (negative,
        a fraction, a boolean, more than `most`) reads as if it were absent, and leaves doubt.
        """
        value = self._value(name, *within)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
            return value
        self.clamped = True
        return None

    def seconds(self, name: str) -> float | None:
        """Return a length of time, at most `SECONDS_MAX`; None if it is absent or, leaving doubt, no such number."""
        value = self._value(name)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= SECONDS_MAX:
            return float(value)
        self.clamped = True
        return None

    def part(self, value: int | None, whole: int) -> int:
        """Return a part of `whole`, cut down to it; nothing if it was not reported."""
        if value is None:
            return 0
        self.clamped |= value > whole
        return min(value, whole)

    def remainder(self, total: int | None, known: int | None) -> int:
        """Return what `total` holds beside `known`; nothing, and doubt, if that cannot be known."""
        rest = (total or 0) - (known or 0)
        self.clamped |= total is None or rest < 0
        return max(rest, 0)

    def needed(self, value: int | None) -> int:
        """Return a count that every report has; nothing, and doubt, if this one lacks it."""
        self.clamped |= value is None
        return value or 0

    def split(self, whole: int | None, short: int | None, long: int | None, bound: int = TOKENS_MAX) -> tuple[int, int]:
        """Return what was written to a cache for a short and for a long time; together at most `bound`.

        The whole counts if it was reported, and what of it is not known to be long is short.
        """
        if whole is None:
            whole = (short or 0) + (long or 0)
        whole = self.part(whole, bound)
        long = self.part(long, whole)
        self.clamped |= short is not None and short != whole - long
        return whole - long, long

    def _value(self, name: str, *within: str) -> Any:
        holder: Any = self._usage
        for member in within:
            holder = holder.get(member) if isinstance(holder, dict) else None
        return holder.get(name) if isinstance(holder, dict) else None
