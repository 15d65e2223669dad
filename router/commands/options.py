"""What several commands have in common: exit statuses, the file they are about, and the daemon that runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from router.commands.terminal import visible

if TYPE_CHECKING:
    import argparse

EX_NO = 1
"""The command did its work, and the answer is no."""
EX_USAGE = 2
"""What was typed cannot be understood; argparse ends with it too."""
EX_UNAVAILABLE = 69
"""sysexits.h: an address is taken, or the daemon cannot be reached."""
EX_CONFIG = 78
"""sysexits.h: a configuration error. systemd can be told not to restart on it."""

DEFAULT_CONFIG = Path("config/router.yaml")


class DaemonError(Exception):
    """The daemon cannot be asked, or refuses to do it: what, why, and what to do, a line each. `cli` tells them."""

    def __init__(self, what: str, why: str, cure: str, *, exit_status: int = EX_UNAVAILABLE) -> None:
        super().__init__(what)
        self.lines = tuple(visible(line) for line in (what, why, cure))
        self.exit_status = exit_status


def add_config(parser: argparse.ArgumentParser) -> None:
    """Let a command be told which configuration file it is about: `options.config`."""
    parser.add_argument(
        "-c", "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"default: {DEFAULT_CONFIG}"
    )


def add_admin(parser: argparse.ArgumentParser, *, with_config: bool = True) -> None:
    """Let a command be told where the running daemon is: what `daemon.Daemon.find` reads.

    Args:
        parser: Of the command.
        with_config: Declare `-c` too; not for a command that has it already.
    """
    if with_config:
        add_config(parser)
    group = parser.add_argument_group("the running daemon", "by default where the file's `admin` setting says")
    group.add_argument("--admin", metavar="ADDRESS", help="host:port, https://host:port or unix:/path")
    group.add_argument(
        "--token-file", type=Path, metavar="FILE",
        help="its admin_token; else $LLM_ROUTER_ADMIN_TOKEN, else as the file says",
    )  # fmt: skip
    group.add_argument("--ca-file", type=Path, metavar="FILE", help="authorities to trust in place of the system's")
    group.add_argument(
        "--client-cert", type=Path, metavar="FILE", help="certificate to show, and its key, if it wants one"
    )
