"""The deadlines of exchanges that have no timer of their own.

Most plain answers come soon, and a timer for each would cost 0.9 us. So one looks at all of them, ten times a second,
and only while there are any: a timer that is near makes every wait of the loop dearer, streamed chunks too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection

    from router.relay.exchange import Exchange

LOOK_S = 0.1
"""How late a deadline may be noticed."""


class Lookout:
    """Wakes exchanges whose time is up."""

    __slots__ = ("_exchanges", "_loop", "awake")

    def __init__(self, loop: asyncio.AbstractEventLoop, exchanges: Collection[Exchange]) -> None:
        self._loop = loop
        self._exchanges = exchanges
        self.awake = False
        """A look is arranged. Read before `wake`: that saves the call, once per request."""

    def wake(self) -> None:
        """An exchange waits without a timer."""
        self.awake = True
        self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        now = time.monotonic()
        self.awake = False
        for exchange in tuple(self._exchanges):
            if exchange.look(now) and not self.awake:
                self.wake()
