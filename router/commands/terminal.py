"""What commands print on: a terminal that obeys what it is sent, or a file; with colour where it is wanted."""

from __future__ import annotations

import os
from typing import TextIO

RED, GREEN, YELLOW, BOLD = "31", "32", "33", "1"
"""Of `painted`: parameters of the terminal's sequence for colours."""


def visible(text: str) -> str:
    """Return text that moves no cursor and hides nothing: what cannot be printed becomes `?`."""
    return "".join(it if it.isprintable() else "?" for it in text)


def has_colour(stream: TextIO) -> bool:
    """Whether colour is seen there and wanted (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: str, stream: TextIO) -> str:
    """Return the text in this colour, if the stream has colours."""
    return f"\x1b[{colour}m{text}\x1b[0m" if has_colour(stream) else text


def of_change(text: str, stream: TextIO) -> str:
    """Return a line about a change (`config.difference`), in the colour of its sign."""
    return painted(visible(text), {"+": GREEN, "-": RED}.get(text[:1], YELLOW), stream)
