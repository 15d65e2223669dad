"""`llm-router demo`: its place among the commands; what it does is in `router.demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.demo import show

if TYPE_CHECKING:
    import argparse

NAME = "demo"
HELP = "the router on three embedded upstreams, with sample requests"

arguments = show.add_arguments


def run(options: argparse.Namespace) -> int:
    """Show it."""
    return show.main(options)
