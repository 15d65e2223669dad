"""`llm-router config`: show the configuration."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from router.commands.options import add_config
from router.config import dump
from router.config.loader import load

if TYPE_CHECKING:
    import argparse

NAME = "config"
HELP = "show the configuration"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    show = commands.add_parser("show", help="print it with every default filled in, without secrets")
    add_config(show)
    show.set_defaults(show=_show)


def run(options: argparse.Namespace) -> int:
    """Do what the second word says."""
    return int(options.show(options))


def _show(options: argparse.Namespace) -> int:
    print(dump.to_yaml(load(options.config, environ=os.environ)), end="")
    return 0
