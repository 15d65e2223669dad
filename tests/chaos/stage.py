"""What a scenario is given: a system, a folder for its files, and how much of everything."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.chaos.report import Finding

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.systems import System


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a scenario is played."""

    system: System
    folder: Path
    scale: float
    """Of durations and numbers; 1 is what the table is made with."""
    seed: int

    @property
    def rates(self) -> str:
        return f"{self.system.rate:.0f} requests/s"


Scenario = Callable[[Stage], Coroutine[Any, Any, Finding]]
