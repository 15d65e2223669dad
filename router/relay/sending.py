"""A request body on its way from disk to an upstream, as fast as that reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from router.relay.spool import Spool

PIECE_BYTES = 256 * 1024
"""Read from disk at once: it comes out of the system's cache, so the loop does not wait."""


class Section(NamedTuple):
    """A part of the body that is sent as it stands on disk."""

    start: int
    end: int


class Sending:
    """What is left to send of one request."""

    __slots__ = ("_parts", "_progress", "_spool", "_transport", "paused")

    def __init__(
        self,
        transport: asyncio.Transport,
        parts: list[bytes | Section],
        spool: Spool,
        progress: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._parts = list(reversed(parts))
        self._spool = spool
        self._progress = progress
        self.paused = False
        """The upstream does not keep up."""

    @property
    def done(self) -> bool:
        """Everything has been written."""
        return not self._parts

    def go(self) -> None:
        """Write until the transport has enough for now.

        Raises:
            OSError: The disk failed.
        """
        self.paused = False
        while self._parts and not self.paused and not self._transport.is_closing():
            part = self._parts.pop()
            if isinstance(part, Section):
                end = min(part.end, part.start + PIECE_BYTES)
                if end < part.end:
                    self._parts.append(Section(end, part.end))
                part = self._spool.read(part.start, end - part.start)
            self._transport.write(part)
        self._progress()
