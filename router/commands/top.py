"""`llm-router top`: the status of the running daemon, again and again, on a screen of its own."""

from __future__ import annotations

import argparse
import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
import unicodedata
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from router.commands.options import DaemonError, add_admin
from router.commands.terminal import RED, has_colour, painted, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.commands.daemon import Daemon

NAME = "top"
HELP = "show the daemon's status again and again"

INTERVAL_S: Final = 2.0

_ENDS: Final = frozenset({signal.SIGINT, signal.SIGTERM})
"""Signals that end it."""

_ENTER: Final = "\x1b[?1049h\x1b[?25l"
"""The terminal's other screen, without a cursor; then back, and all is as it was."""
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    add_admin(parser)
    parser.add_argument("--once", action="store_true", help="print it once; so it is where there is no terminal")
    parser.add_argument(
        "--interval", type=_interval, default=INTERVAL_S, metavar="SECONDS", help=f"default: {INTERVAL_S:g}"
    )


def run(options: argparse.Namespace) -> int:
    """Show it, until `q` or Ctrl-C. A daemon that cannot be reached at first is an error, later it is said in place."""
    from router.commands.daemon import Daemon  # noqa: PLC0415 (the other commands need none)

    daemon = Daemon.find(options)
    text = _fetch(daemon)
    if options.once or not sys.stdout.isatty():
        sys.stdout.writelines(f"{visible(line)}\n" for line in text)
        return 0
    with ExitStack() as stack:
        wakes = stack.enter_context(_woken())
        keys = stack.enter_context(_keys())
        stack.enter_context(_other_screen())
        try:
            _show(daemon, text, options.interval, wakes, keys)
        except KeyboardInterrupt:
            return 0
    return 0


def screen(head: str, text: list[str], width: int, height: int) -> list[str]:
    """Return the lines that fit: the head, then as much of the text as there is room for."""
    lines = [head, *text]
    if len(lines) > height:
        lines[height - 1 :] = [f"… {len(lines) - height + 1} more lines"]
    return [cut(visible(line), width) for line in lines[: max(height, 1)]]


def cut(text: str, width: int) -> str:
    """Return as much of a line as so many columns hold: some characters take two, some none."""
    columns = 0
    for index, each in enumerate(text):
        columns += 0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        if columns > width:
            return text[:index]
    return text


def _show(daemon: Daemon, text: list[str], interval_s: float, wakes: int, keys: list[int]) -> None:
    """Draw, wait, ask, for ever; a resized terminal is drawn anew at once."""
    asked = fetched = time.monotonic()
    trouble = ""
    while True:
        _draw(_head(daemon, trouble, asked - fetched), text, is_bad=bool(trouble))
        ready = select.select([wakes, *keys], [], [], max(0.0, asked + interval_s - time.monotonic()))[0]
        if wakes in ready and not _ENDS.isdisjoint(os.read(wakes, 1024)):  # a destructor may have eaten the exception
            return
        for key in keys:
            if key in ready and os.read(key, 64)[:1] in {b"q", b"Q", b""}:
                return
        if time.monotonic() >= asked + interval_s:
            try:
                text, trouble = _fetch(daemon), ""
                fetched = time.monotonic()
            except DaemonError as error:
                trouble = ": ".join(error.lines[:2])
            asked = time.monotonic()


def _head(daemon: Daemon, trouble: str, age_s: float) -> str:
    where = f"llm-router top  {daemon.place}  {time.strftime('%H:%M:%S')}"
    return f"{where}  STALE for {age_s:.0f} s: {trouble}" if trouble else f"{where}  q ends"


def _draw(head: str, text: list[str], *, is_bad: bool) -> None:
    width, height = shutil.get_terminal_size()
    first, *others = screen(head, text, width, height)
    lines = [painted(first, RED, sys.stdout) if is_bad and has_colour(sys.stdout) else first, *others]
    sys.stdout.write(_HOME + f"{_END_OF_LINE}\r\n".join(lines) + _END_OF_LINE + _END_OF_SCREEN)
    sys.stdout.flush()


def _fetch(daemon: Daemon) -> list[str]:
    return daemon.get("/status.txt", "text/plain").decode("utf-8", "replace").splitlines()


@contextmanager
def _other_screen() -> Iterator[None]:
    sys.stdout.write(_ENTER)
    try:
        yield
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


@contextmanager
def _keys() -> Iterator[list[int]]:
    """Where keys can be read, one at a time and unseen; nowhere if standard input is no terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield []
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    try:
        yield [number]
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


@contextmanager
def _woken() -> Iterator[int]:
    """A descriptor that can be read once the terminal's size has changed. SIGTERM ends like Ctrl-C, ignored or not."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    before = {
        signal.SIGWINCH: signal.signal(signal.SIGWINCH, lambda *_: None),
        **{number: signal.signal(number, signal.default_int_handler) for number in _ENDS},
    }
    waker = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(waker)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


def _interval(text: str) -> float:
    """Read the seconds between two looks."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.2 <= number <= 3600:
        raise argparse.ArgumentTypeError("a number of seconds, 0.2 to 3600")
    return number
