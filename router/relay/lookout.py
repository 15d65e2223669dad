"""How exchanges are woken when their time is up: by a timer of their own, or by the lookout.

Most plain answers come soon, and a timer for each would cost 0.9 us. So one looks at all of them, ten times a second,
and only while there are any: a timer that is near makes every wait of the loop dearer, streamed chunks too.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection

LOOK_S = 0.1
"""How late a deadline may be noticed."""

LATE_S = 0.5
GRACE_S = 0.1
"""A deadline noticed so late means that we were not running: what came meanwhile is read first (RELIABILITY O14)."""


class Sleeper(ABC):
    """Something that waits for others, and until when. Waking early is harmless: it looks and sleeps on."""

    # Class attributes are what it begins with. Only what changes is stored: that halves the cost of one.

    timer: asyncio.TimerHandle | None = None
    """Its own. None: the lookout sees to it, if it waits at all."""
    wakes_at: float = 0.0
    """Monotonic seconds; 0 before it waits for anything."""

    loop: asyncio.AbstractEventLoop
    """Whose clock it lives by; set by who makes it."""

    @abstractmethod
    def wake_up(self, now: float) -> None:
        """It may be time: do what is due, and sleep on or not. Raises nothing."""

    def wake_by(self, wakes_at: float, now: float) -> None:
        """Wake at that time or before it, by a timer of its own."""
        if self.timer is not None:
            if self.wakes_at <= wakes_at:
                return
            self.timer.cancel()
        self.wakes_at = wakes_at
        self.timer = self.loop.call_later(wakes_at - now if wakes_at > now else 0.0, self._wake)

    def sleep_no_more(self) -> None:
        """Nothing is waited for any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def look(self, now: float) -> bool:
        """Wake if it is time and no timer will see to it. Returns whether it has to be looked at again."""
        if self.timer is not None or not self.wakes_at:
            return False
        if self.wakes_at > now:
            return True
        self._wake()
        return False

    def _wake(self) -> None:
        self.timer = None
        now = time.monotonic() + 0.001  # the loop's clock counts whole milliseconds
        if now - self.wakes_at > LATE_S:
            self.wakes_at = now + GRACE_S
            self.timer = self.loop.call_later(GRACE_S, self._wake)
        else:
            self.wake_up(now)


class Lookout:
    """Wakes sleepers that have no timer of their own."""

    __slots__ = ("_loop", "_sleepers", "awake")

    def __init__(self, loop: asyncio.AbstractEventLoop, sleepers: Collection[Sleeper]) -> None:
        self._loop = loop
        self._sleepers = sleepers
        self.awake = False
        """A look is arranged. Read before `wake`: that saves the call, once per request."""

    def wake(self) -> None:
        """Somebody waits without a timer."""
        self.awake = True
        self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        now = time.monotonic()
        self.awake = False
        for sleeper in tuple(self._sleepers):
            if sleeper.look(now) and not self.awake:
                self.wake()
