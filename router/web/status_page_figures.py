"""Figures of the status page as people read them: short, of even width, with their unit.

Each function takes what it writes; `known` takes also what is not known, which is a dash.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def known(value: float | None, shown: Callable[[float], str]) -> str:
    """Return a figure, or a dash for None."""
    return "-" if value is None else shown(value)


def visible(text: str) -> str:
    """Return text of any origin in one visible line: what cannot be seen, or turns what follows around, is a `?`."""
    return "".join(it if it.isprintable() else "?" for it in text)


def span(value: float) -> str:
    """Return a length of time in its largest unit, or two."""
    whole = round(value)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    if whole < 172_800:
        return f"{whole // 3600} h"
    return f"{whole // 86_400} d"


def seconds(value: float) -> str:
    """Return a short time with three digits."""
    if value < 0.9995:
        return f"{1000 * value:.0f} ms"
    return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"


def rate(value: float) -> str:
    """Return a rate; small ones with a decimal."""
    return f"{value:.1f}" if value < 99.95 else count(round(value))


def count(value: float) -> str:
    """Return a whole number, from ten thousand on in thousands, millions and so on."""
    if abs(value) < 10_000:
        return f"{round(value)}"
    for unit in "kMG":
        value /= 1000
        if abs(value) < 999.5:
            return f"{value:.3g}{unit}"
    return f"{value / 1000:.3g}T"


def size(value: float) -> str:
    """Return bytes."""
    text = count(value)
    return f"{text[:-1]} {text[-1]}B" if text[-1].isalpha() else f"{text} B"


def share(value: float) -> str:
    """Return a share that should be one: to a hundredth of a percent where it matters."""
    if value in (0.0, 1.0):
        return f"{100 * value:.0f} %"
    # Rounded down: 100 % says that nothing failed.
    return f"{int(value * 1e4) / 100:.2f} %" if value >= 0.99 else f"{int(value * 1e3) / 10:.1f} %"


def percent(value: float) -> str:
    """Return a share of several."""
    return f"{100 * value:.0f} %"


def plain(value: float) -> str:
    """Return a number as a person writes it."""
    return f"{value:g}"


def clock(at: float, now: float) -> str:
    """Return a wall clock time in UTC; of another day than today with its day."""
    moment, today = time.gmtime(at), time.gmtime(now)
    return time.strftime("%H:%M:%S" if moment[:3] == today[:3] else "%d %b %H:%M", moment)
