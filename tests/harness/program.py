"""The program as an operator runs it: a process of its own, its log read line by line, its signals and exit status."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.harness.router import UPSTREAM_SECRET

if TYPE_CHECKING:
    import signal
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Mapping

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30
"""Seconds after which a program is killed and its test fails, unless it says otherwise."""

_LINE_MAX = 1 << 20
"""A longer line of the log is not read."""


@asynccontextmanager
async def program(
    *arguments: str,
    limit: str = "",
    folder: Path | str = ROOT,
    environ: Mapping[str, str] | None = None,
    patience_s: float = PATIENCE_S,
) -> AsyncIterator[Process]:
    """`llm-router ARGUMENTS`, ended with the block at the latest.

    Args:
        arguments: As on the command line.
        limit: Arguments of the shell's `ulimit`, as `-n 64`.
        folder: To run it in.
        environ: In place of ours.
        patience_s: Seconds.
    """
    command = (sys.executable, "-m", "router", *arguments)
    if limit:
        command = ("/bin/sh", "-c", f'ulimit {limit}; exec "$@"', "sh", *command)
    if environ is None:
        environ = os.environ | {"COLUMNS": "80", "UPSTREAM_SECRET": UPSTREAM_SECRET}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environ, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, limit=_LINE_MAX
    )
    try:
        async with asyncio.timeout(patience_s):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def command(*arguments: str | Path) -> tuple[int | None, str, str]:
    """Run a command to its end: exit status, standard output, standard error."""
    async with program(*map(str, arguments)) as process:
        stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


@dataclass(slots=True)
class Running:
    """`llm-router run`, and what it has logged as far as it was read."""

    process: Process
    log: list[dict[str, Any]] = field(default_factory=list)

    async def line(self, event: str) -> dict[str, Any]:
        """Read the log up to the next line about such an event."""
        assert self.process.stdout is not None
        while raw := await self.process.stdout.readline():
            self.log.append(json.loads(raw))
            if self.log[-1]["event"] == event:
                return self.log[-1]
        raise AssertionError(f"no {event!r} in {self.log}")

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        return _address(self.log[0]["message"], "listening on ")

    @property
    def admin(self) -> tuple[str, int]:
        """Where operators do."""
        return _address(self.log[0]["detail"], "admin on ")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def end(self) -> int | None:
        """Read the log to its end; the exit status. Nothing may have been said on standard error."""
        stdout, stderr = await self.process.communicate()
        self.log += map(json.loads, stdout.splitlines())
        assert stderr == b""
        return self.process.returncode


def _address(text: str, before: str) -> tuple[str, int]:
    """The first of those that a line of the log names."""
    host, _, port = text.removeprefix(before).partition(", ")[0].rpartition(":")
    return host, int(port)


@asynccontextmanager
async def running(
    path: Path,
    *,
    limit: str = "",
    folder: Path | str = ROOT,
    environ: Mapping[str, str] | None = None,
    patience_s: float = PATIENCE_S,
) -> AsyncIterator[Running]:
    """`llm-router run` with this file, once it listens. The arguments are those of `program`."""
    started = program("run", "-c", str(path), limit=limit, folder=folder, environ=environ, patience_s=patience_s)
    async with started as process:
        router = Running(process)
        await router.line("notice")
        yield router
