"""Writes of one turn of the event loop, sent together at its end.

A write wakes its reader, and waking a process that sleeps costs more than the write itself. Sent one by one, the writes
of a busy turn wake the same peer again and again; sent together they find it awake: 62 us a request against 82, with
64 connections. With little to do there is nothing to gather, so then each is sent at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sized

CROWD_MIN = 8
"""Exchanges in flight from which on writes are gathered."""


class Outbox:
    """What is to be written in this turn of the loop, in order."""

    __slots__ = ("_crowd", "_loop", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, crowd: Sized) -> None:
        """`crowd` are the exchanges in flight."""
        self._loop = loop
        self._crowd = crowd
        self.waiting: list[tuple[asyncio.Transport, bytes]] = []
        """If there is any, more may be appended instead of `put`: the flush is arranged."""

    def put(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write `data`: now, or in a crowd when all that can be read in this turn has been."""
        waiting = self.waiting
        if not waiting:
            if len(self._crowd) < CROWD_MIN:
                try:  # noqa: SIM105 (`suppress` costs 0.3 us, each chunk)
                    transport.write(data)
                except RuntimeError:
                    pass
                return
            self._loop.call_soon(self.flush)
        waiting.append((transport, data))

    def flush(self) -> None:
        """Write what waits: at the end of the turn, and before anything that must not overtake it."""
        waiting, self.waiting = self.waiting, []
        for transport, data in waiting:
            try:
                transport.write(data)
            except RuntimeError:  # uvloop's word for a closed connection: its owner has been told, or will be
                continue
