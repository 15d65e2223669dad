"""`llm-router top`, typed: in a terminal of the kernel's, and without one."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from router.commands.top import cut, screen
from tests.commands.operating import ask, at, write
from tests.harness.program import PATIENCE_S, ROOT, command, running
from tests.harness.router import config
from tests.harness.waiting import until

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "router.yaml"
    write(path, config("http://127.0.0.1:1/v1"))
    return path


@dataclass(slots=True)
class Screen:
    """A terminal, and all that was written to it."""

    process: Process
    number: int
    written: bytearray = field(default_factory=bytearray)

    def read(self) -> None:
        try:
            self.written += os.read(self.number, 1 << 16)
        except OSError:  # Linux: nobody has the other side open any more
            asyncio.get_running_loop().remove_reader(self.number)

    async def shows(self, what: bytes, *, after: int = 0) -> None:
        await until(lambda: what in self.written[after:], f"{what!r} is shown", patience_s=PATIENCE_S)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.number, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def frame(self) -> list[str]:
        """The last whole screen, line by line."""
        whole = self.written.split(b"\x1b[H")[-1].partition(b"\x1b[J")[0]
        return [line.removesuffix("\x1b[K") for line in whole.decode().replace("\r", "").split("\n")]


@asynccontextmanager
async def top(*arguments: str, rows: int = 24, columns: int = 80) -> AsyncIterator[Screen]:
    """`llm-router top` in a terminal of this size."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "router", "top", *arguments, cwd=ROOT, env=environ | {"TERM": "xterm"},
        stdin=its, stdout=its, stderr=its, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
    )  # fmt: skip
    os.close(its)
    shown = Screen(process, ours)
    asyncio.get_running_loop().add_reader(ours, shown.read)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield shown
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)


async def test_without_a_terminal_it_prints_once(path: Path) -> None:
    """In a pipe, and with `--once`, the status is printed whole and the command ends."""
    async with running(path) as router:
        for words in ((), ("--once",)):
            status, text, errors = await ask(router, "top", *words)
            assert (status, errors) == (0, "")
            assert "first" in text
            assert "\x1b" not in text


async def test_it_is_shown_again_and_again(path: Path) -> None:
    """On a screen of its own, which is given back at the end; Ctrl-C is how one ends it, so the status is 0."""
    async with running(path) as router, top(*at(router), "--interval", "0.2") as shown:
        await shown.shows(b"first")
        assert shown.written.startswith(ENTER)
        await until(lambda: shown.written.count(b"\x1b[H") >= 3, "it is drawn again")
        os.write(shown.number, b"\x03")
        assert await shown.process.wait() == 0
        await until(lambda: shown.written.endswith(LEAVE), "the screen is given back")


@pytest.mark.parametrize("how", ["q", "SIGTERM"])
async def test_other_ways_to_end_it(path: Path, how: str) -> None:
    """`q` ends it, as it does elsewhere, and SIGTERM: the screen is given back each time."""
    async with running(path) as router, top(*at(router)) as shown:
        await shown.shows(b"first")
        if how == "q":
            os.write(shown.number, b"q")
        else:
            shown.process.send_signal(signal.SIGTERM)
        assert await shown.process.wait() == 0
        await until(lambda: shown.written.endswith(LEAVE), "the screen is given back")


async def test_it_fits_the_terminal(path: Path) -> None:
    """No line is wider than the terminal and none below its end, and a new size is heeded at once."""
    async with running(path) as router, top(*at(router), "--interval", "3600", rows=5, columns=30) as shown:
        await shown.shows(b"\x1b[J")
        assert len(shown.frame()) == 5
        assert all(len(line) <= 30 for line in shown.frame())
        before = len(shown.written)
        shown.resize(40, 100)
        await shown.shows(b"\x1b[J", after=before)
        assert 5 < len(shown.frame()) <= 40


async def test_a_daemon_that_goes_is_said_in_place(path: Path) -> None:
    """What was last known stays on the screen, with how old it is and why."""
    async with running(path) as router, top(*at(router), "--interval", "0.2", columns=200) as shown:
        await shown.shows(b"first")
        router.signal(signal.SIGKILL)
        await shown.shows(b"STALE for")
        await shown.shows(b"Connection refused")
        assert any("first" in line for line in shown.frame())
        os.write(shown.number, b"q")
        assert await shown.process.wait() == 0


async def test_nobody_there_is_told_at_once() -> None:
    """A daemon that was never reached is an error, not an empty screen."""
    status, text, errors = await command("top", "--admin", "127.0.0.1:1")
    assert (status, text) == (69, "")
    assert "Connection refused" in errors
    async with top("--admin", "127.0.0.1:1") as shown:
        assert await shown.process.wait() == 69
        assert ENTER not in shown.written


def test_what_does_not_fit_is_counted() -> None:
    """The last line says how many more there are; wide characters take two columns; nothing moves the cursor."""
    assert screen("head", ["a", "b", "c"], 10, 4) == ["head", "a", "b", "c"]
    assert screen("head", ["a", "b", "c", "d"], 10, 4) == ["head", "a", "b", "… 2 more l"]
    assert screen("head", ["\x1b[2J"], 10, 4) == ["head", "?[2J"]
    assert [cut("模型ab", width) for width in (0, 1, 2, 5, 6)] == ["", "", "模", "模型a", "模型ab"]
    assert cut("e\u0301x", 1) == "e\u0301"
