"""`llm-router version`: what runs, for a bug report."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from router import __version__

if TYPE_CHECKING:
    import argparse

NAME = "version"
HELP = "print the version"


def arguments(_parser: argparse.ArgumentParser) -> None:
    """Declare nothing: it understands no options."""


def run(_options: argparse.Namespace) -> int:
    """Print it."""
    print(f"llm-router {__version__} (Python {platform.python_version()})")
    return 0
