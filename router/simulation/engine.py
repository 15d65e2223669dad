"""The virtual clock: events in the order of their time, and nothing else makes time pass."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

START_S = 1000.0
"""When a simulation begins: like a monotonic clock, not at zero."""


class Engine:
    """What is due, and when. Events of one moment happen in the order in which they were planned."""

    __slots__ = ("_heap", "_planned", "happened", "now")

    def __init__(self) -> None:
        self.now = START_S
        """Virtual monotonic seconds."""
        self.happened = 0
        """Events so far."""
        self._heap: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._planned = 0

    def __repr__(self) -> str:
        return f"<Engine at {self.now:.3f}, {len(self._heap)} events ahead>"

    def at(self, time: float, act: Callable[[Any], None], subject: Any) -> None:
        """Plan `act(subject)`. A time that is past means now: the clock never goes back."""
        self._planned += 1
        if time < self.now:  # noqa: PLR1730 (`max` costs 0.1 us)
            time = self.now
        heappush(self._heap, (time, self._planned, act, subject))

    def run(self) -> None:
        """Let everything happen that is planned, and what that plans."""
        heap = self._heap
        while heap:
            self.now, _, act, subject = heappop(heap)
            self.happened += 1
            act(subject)
