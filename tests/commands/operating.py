"""What the tests of commands that ask a running daemon have in common."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import yaml

from tests.harness.program import command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.program import Running


def write(path: Path, settings: dict[str, Any] | str) -> None:
    path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings, sort_keys=False))


def at(router: Running) -> tuple[str, str]:
    """The options that say where a daemon is."""
    return "--admin", "{}:{}".format(*router.admin)


async def ask(router: Running, *arguments: str) -> tuple[int | None, str, str]:
    """Run a command that asks this daemon: exit status, standard output, standard error."""
    return await command(*arguments, *at(router))


class Stranger(asyncio.Protocol):
    """Something else than a daemon: answers whatever it is asked with the same bytes."""

    def __init__(self, answer: bytes, *, slowly: bool = False) -> None:
        self._answer = answer
        self._slowly = slowly
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, _data: bytes) -> None:
        self._transport.write(self._answer)
        if not self._slowly and not self._transport.is_closing():
            self._transport.write_eof()

    def connection_lost(self, _error: Exception | None) -> None:
        self.gone.set()

    def hang_up(self) -> None:
        self._transport.abort()
