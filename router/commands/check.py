"""`llm-router check`: every fault of a configuration file at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from router.commands.options import add_config
from router.config.loader import load

if TYPE_CHECKING:
    import argparse

NAME = "check"
HELP = "check a configuration file and say every fault"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    add_config(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing if it is good")
    parser.add_argument(
        "--no-credentials",
        action="store_true",
        help="take those of systemd for given: ExecReload= cannot see them",
    )


def run(options: argparse.Namespace) -> int:
    """Check; a file with faults raises them as `ConfigError`."""
    config = load(options.config, environ=os.environ, credentials=not options.no_credentials).config
    if options.quiet:
        return 0
    counts = f"{len(config.models)} models, {len(config.upstreams)} upstreams, {len(config.keys)} keys"
    print(f"{options.config}: good ({counts})")
    return 0
