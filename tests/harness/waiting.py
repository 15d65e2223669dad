"""Waiting for a thing to become true, with a bound: the only kind of waiting that tests do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 10.0
"""Seconds after which any wait in the harness fails its test. Far above what a loaded machine needs."""

_LOOK_S = 0.001


async def until(condition: Callable[[], object], what: str = "", *, patience_s: float = PATIENCE_S) -> None:
    """Return as soon as `condition` holds; fail with `what` if it does not within `patience_s` seconds."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"waited {patience_s} s in vain: {what or condition}")
        await asyncio.sleep(_LOOK_S)
