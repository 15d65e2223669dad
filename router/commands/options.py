"""What several commands have in common: their exit statuses, and the file they are about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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


def add_config(parser: argparse.ArgumentParser) -> None:
    """Let a command be told which configuration file it is about: `options.config`."""
    parser.add_argument(
        "-c", "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"default: {DEFAULT_CONFIG}"
    )
