"""`llm-router drain`: the running daemon is ready no more and finishes what is in flight; it goes on running."""

from __future__ import annotations

import argparse
import math
import time
from typing import TYPE_CHECKING, Final

from router.commands.options import EX_NO, DaemonError, add_admin

if TYPE_CHECKING:
    from router.commands.daemon import Daemon

NAME = "drain"
HELP = "let the daemon finish, and take nothing new"

LOOK_S: Final = 0.25
"""Between two questions whether it is done."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    parser.description = (
        "Lets the daemon say that it is not ready, so that balancers look elsewhere, and end connections after "
        "their answers. It does not stop it: that is SIGTERM's."
    )
    add_admin(parser)
    parser.add_argument(
        "--wait", type=seconds, nargs="?", const=math.inf, metavar="SECONDS",
        help="until nothing is in flight, or so long; status 1 if something still is",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Drain, and wait if that is asked for."""
    from router.commands.daemon import Daemon  # noqa: PLC0415 (the other commands need none)

    daemon = Daemon.find(options)
    daemon.post("/-/drain")
    in_flight = _in_flight(daemon)
    print(f"draining: {in_flight} request(s) in flight", flush=True)
    if options.wait is None:
        return 0
    until = time.monotonic() + options.wait
    while in_flight and time.monotonic() < until:
        time.sleep(min(LOOK_S, max(0.0, until - time.monotonic())))
        in_flight = _in_flight(daemon)
    print("drained: nothing is in flight" if not in_flight else f"not drained: {in_flight} request(s) still in flight")
    return EX_NO if in_flight else 0


def seconds(text: str) -> float:
    """Read a number of seconds.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 365 * 86_400:
        raise argparse.ArgumentTypeError("a number of seconds, such as 30, or nothing behind it")
    return number


def _in_flight(daemon: Daemon) -> int:
    try:
        return int(daemon.get_json("/")["requests_in_flight"])
    except (KeyError, TypeError, ValueError):
        raise DaemonError(
            f"the daemon at {daemon.place} does not say what is in flight",
            "its answer is of another kind",
            "is it another version of llm-router?",
            exit_status=EX_NO,
        ) from None
