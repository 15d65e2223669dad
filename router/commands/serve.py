"""`llm-router run`: the daemon from its start to its last flushed line, and what signals do to it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from router import process, service_manager
from router.commands.options import EX_CONFIG, EX_UNAVAILABLE, add_config
from router.relay.tasks import Tasks

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from router.app import Daemon

NAME = "run"
HELP = "serve until SIGTERM"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    add_config(parser)


def run(options: argparse.Namespace) -> int:
    """Serve."""
    import uvloop  # noqa: PLC0415 (the other commands need none)

    process.heed_sigterm()
    process.tune()
    return uvloop.run(_serve(options.config))


async def _serve(path: Path) -> int:
    """Start, then wait for signals: SIGHUP reloads, SIGTERM or SIGINT drains, a second one hurries."""
    from router.app import Daemon  # noqa: PLC0415 (the other commands answer without loading the daemon)

    manager = service_manager.ServiceManager(os.environ, pid=os.getpid())
    try:
        sockets = service_manager.sockets(os.environ, pid=os.getpid())
    except service_manager.HandoverError as error:
        print(f"cannot take over sockets: {error}", file=sys.stderr)
        return EX_CONFIG
    daemon = Daemon(
        path, environ=os.environ, connections_max=process.connections_max(), manager=manager, sockets=sockets
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: None)  # by default it would kill us
    try:
        await daemon.start()
    except OSError as error:
        print(f"cannot listen: {error.strerror or error}", file=sys.stderr)
        print(
            "another process holds the address, or it is not this machine's; see `listen` and `admin`", file=sys.stderr
        )
        return EX_UNAVAILABLE
    process.settle()
    process.watch(asyncio.get_running_loop())
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    signals = _Signals(daemon, manager, ended)
    for number, handler in (
        (signal.SIGTERM, signals.stop),
        (signal.SIGINT, signals.stop),
        (signal.SIGHUP, signals.reload),
    ):
        asyncio.get_running_loop().add_signal_handler(number, handler)
    manager.ready()
    await ended
    return 0


class _Signals:
    """What signals do. Each runs on the loop, so the work is given to tasks that are kept here."""

    def __init__(self, daemon: Daemon, manager: service_manager.ServiceManager, ended: asyncio.Future[None]) -> None:
        self._daemon = daemon
        self._manager = manager
        self._ended = ended
        self._tasks = Tasks(lambda name, error: print(f"{name} failed: {error!r}", file=sys.stderr))
        self._stopping = False

    def reload(self) -> None:
        self._tasks.spawn(self._reload(), "reload")

    async def _reload(self) -> None:
        self._manager.reloading()
        await self._daemon.reload()
        self._manager.ready()

    def stop(self) -> None:
        self._manager.stopping()
        hurry, self._stopping = self._stopping, True
        self._tasks.spawn(self._stop(hurry=hurry), "stop")

    async def _stop(self, *, hurry: bool) -> None:
        try:
            await self._daemon.stop(hurry=hurry)
        finally:
            if not self._ended.done():
                self._ended.set_result(None)
