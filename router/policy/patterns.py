"""Model names and patterns: an exact name wins over a pattern, a longer pattern over a shorter one.

`*` matches any text, the empty one too; nothing else is special. Matching is linear in the length of the name: names
come from clients, patterns from the operator, and no name may make a pattern expensive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

MEMO_MAX = 1024
"""Names remembered with what they matched; then the memo starts anew."""
MEMO_NAME_MAX = 256
"""Longer names are matched, not remembered, so that the memo is bounded in bytes too."""


class Pattern:
    """One pattern with at least one `*`, taken apart."""

    __slots__ = ("_head", "_length_min", "_middle", "_tail", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._head, *self._middle, self._tail = text.split("*")
        self._length_min = len(self._head) + len(self._tail)

    @property
    def literal_length(self) -> int:
        """Characters that are not `*`."""
        return len(self.text) - self.text.count("*")

    def matches(self, name: str) -> bool:
        """Tell whether the whole name fits."""
        if len(name) < self._length_min or not name.startswith(self._head) or not name.endswith(self._tail):
            return False
        at, end = len(self._head), len(name) - len(self._tail)
        for part in self._middle:
            # The leftmost place is as good as any: what comes after has the most room there.
            found = name.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True


class PatternMap(Generic[T]):
    """A mapping whose keys may be patterns."""

    __slots__ = ("_exact", "_memo", "_patterns")

    def __init__(self, items: Mapping[str, T]) -> None:
        self._exact = {name: value for name, value in items.items() if "*" not in name}
        patterns = [(Pattern(name), value) for name, value in items.items() if "*" in name]
        # Stable: of two equally long patterns the one that is written first wins.
        self._patterns = sorted(patterns, key=lambda item: -item[0].literal_length)
        self._memo: dict[str, T | None] = {}

    def find(self, name: str) -> T | None:
        """Return what the name stands for; None if nothing matches. 0.1 us for a name seen before."""
        found = self._exact.get(name)
        if found is not None or not self._patterns:
            return found
        if name in self._memo:
            return self._memo[name]
        found = next((value for pattern, value in self._patterns if pattern.matches(name)), None)
        if len(name) <= MEMO_NAME_MAX:
            if len(self._memo) >= MEMO_MAX:
                self._memo.clear()
            self._memo[name] = found
        return found

    def matching(self, name: str) -> tuple[str, ...]:
        """Return every key that fits a name, the one that `find` goes by first; looks at all of them."""
        exact = (name,) if name in self._exact else ()
        return (*exact, *(pattern.text for pattern, _ in self._patterns if pattern.matches(name)))
