"""What the daemon's process looks like from outside: `/proc`, the status page, the metrics; once a second."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp

if TYPE_CHECKING:
    from tests.soak.books import Books

_SAMPLE = re.compile(r"^llm_router_(\w+?)(?:\{(.*)\})? ([0-9.e+-]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_PATIENCE_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look. Rates are those since the look before."""

    second: float
    """Since the start."""
    memory_bytes: int
    """Resident."""
    descriptors: int
    tasks: int
    timers: int
    in_flight: int
    """Exchanges."""
    client_connections: int
    upstream_connections: int
    idle_upstream_connections: int
    requests_per_s: float
    errors_per_s: float
    lag_ms: float
    """How late the event loop woke, on average."""
    overhead_p99_ms: float
    """Time in the router itself."""

    @property
    def descriptors_used(self) -> int:
        """Without those of idle connections to upstreams, of which there are many or few as faults have it."""
        return self.descriptors - self.idle_upstream_connections


@dataclass(frozen=True, slots=True)
class Rest:
    """What there is when nothing happens."""

    tasks: int
    timers: int
    descriptors: int
    """Without those of idle connections to upstreams."""


class Watch:
    """Looks at one daemon."""

    def __init__(self, pid: int, admin: tuple[str, int], books: Books) -> None:
        self._proc = Path(f"/proc/{pid}")
        self._url = "http://{}:{}".format(*admin)
        self._books = books
        self._before = (0.0, 0, 0, 0.0, 0.0)
        self.samples: list[Sample] = []

    async def __aenter__(self) -> Self:
        # One connection, kept: a new one for each look would be seen by what is measured.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=3600),
            timeout=aiohttp.ClientTimeout(total=_PATIENCE_S),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def page(self) -> dict[str, Any]:
        """The status page."""
        async with self._session.get(f"{self._url}/", headers={"Accept": "application/json"}) as answer:
            shown: dict[str, Any] = await answer.json()
            return shown

    async def metrics(self) -> list[tuple[str, dict[str, str], float]]:
        """Name without prefix, labels and value of each series of the router's own."""
        async with self._session.get(f"{self._url}/metrics", headers={"Accept": "text/plain"}) as answer:
            text = await answer.text()
        return [(name, dict(_LABEL.findall(labels)), float(value)) for name, labels, value in _SAMPLE.findall(text)]

    async def reload(self) -> None:
        """Ask for a reload; what came of it stands in the log."""
        async with self._session.post(f"{self._url}/-/reload") as answer:
            await answer.read()

    async def rest(self) -> Rest:
        """The process as it is; for the comparison of two moments at which nothing is in flight."""
        page = await self.page()
        return Rest(page["tasks"], page["timers"], self._descriptors() - page["idle_upstream_connections"])

    async def look(self, second: float) -> None:
        """Take a sample."""
        page, metrics, books = await self.page(), await self.metrics(), self._books
        lag_s = sum(value for name, _, value in metrics if name == "event_loop_lag_seconds_sum")
        turns = sum(value for name, _, value in metrics if name == "event_loop_lag_seconds_count")
        then, records, errors, lag_before_s, turns_before = self._before
        self._before = (second, books.records, books.errors, lag_s, turns)
        passed_s = max(second - then, 0.001)
        overheads, books.overheads_s = sorted(books.overheads_s), []
        self.samples.append(
            Sample(
                second=second,
                memory_bytes=self._memory_bytes(),
                descriptors=self._descriptors(),
                tasks=page["tasks"],
                timers=page["timers"],
                in_flight=page["requests_in_flight"],
                client_connections=page["client_connections"],
                upstream_connections=page["upstream_connections"],
                idle_upstream_connections=page["idle_upstream_connections"],
                requests_per_s=(books.records - records) / passed_s,
                errors_per_s=(books.errors - errors) / passed_s,
                lag_ms=1000 * (lag_s - lag_before_s) / max(turns - turns_before, 1),
                overhead_p99_ms=1000 * overheads[len(overheads) * 99 // 100] if overheads else 0.0,
            )
        )

    def _descriptors(self) -> int:
        return sum(1 for _ in (self._proc / "fd").iterdir())

    def _memory_bytes(self) -> int:
        pages = int((self._proc / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
