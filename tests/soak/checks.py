"""What has to hold after a run (RELIABILITY 6.2, point 4): at rest, in the counters, in the curves, after the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.harness.waiting import until
from tests.soak import reloads
from tests.soak.plan import Fault
from tests.soak.slopes import slopes

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tests.soak.books import Books
    from tests.soak.servers import Server
    from tests.soak.watch import Rest, Sample, Watch

PATIENCE_S = 60.0
"""For whatever has to come to rest after the load has ended."""

_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to hold."""

    what: str
    holds: bool
    detail: str


@dataclass(slots=True)
class Result:
    """What was done and what came of it."""

    seconds: float
    seed: int
    books: Books
    samples: Sequence[Sample] = ()
    checks: list[Check] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)

    def check(self, what: str, *, holds: bool, detail: object = "") -> None:
        self.checks.append(Check(what, holds, str(detail)))


async def at_rest(result: Result, watch: Watch, before: Rest, servers: Collection[Server]) -> None:
    """Nothing is held, and the process is as it was before the load. What has just been closed may take a moment."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        page = await watch.page()
        rows = [*page["held"], *({"what": row["name"], "count": row["in_flight"] or 0} for row in page["keys"])]
        held = {row["what"]: row["count"] for row in rows if row["count"]}
        after = await watch.rest()
        came_back = after.tasks <= before.tasks and after.timers == 0 and after.descriptors <= before.descriptors
        connected, idle = sum(server.open_connections for server in servers), page["idle_upstream_connections"]
        if (not held and came_back and connected <= idle) or time.monotonic() > deadline:
            break
        await asyncio.sleep(_LOOK_S)
    result.check("nothing is held at rest: exchanges, leases, bodies, connections", holds=not held, detail=held or "")
    result.check("tasks, timers, descriptors are what they were", holds=came_back, detail=f"{before}, then {after}")
    told = f"{connected} at the upstreams, {idle} idle"
    result.check("connections to upstreams are those of the pools", holds=connected <= idle, detail=told)


async def counters(result: Result, watch: Watch) -> None:
    """The metrics say what the log says, whose lines come up to a moment later."""
    books, metrics = result.books, await watch.metrics()
    counted = sum(value for name, _, value in metrics if name == "requests_total")
    with contextlib.suppress(AssertionError):  # then the check says so
        await until(lambda: books.records >= counted)
    told = f"{counted:,.0f}, {books.records:,}"
    result.check("requests_total is the number of records", holds=books.records == counted, detail=told)
    dropped = sum(value for name, _, value in metrics if name == "access_log_dropped_total")
    result.check("no line of the log was dropped", holds=not dropped, detail=f"{dropped:.0f}")
    tokens = dict.fromkeys(books.tokens, 0.0)
    for name, labels, value in metrics:
        if name == "tokens_total":
            tokens[labels["backend"]] = tokens.get(labels["backend"], 0.0) + value
    wrong = {
        name: (value, books.tokens[name])
        for name, value in tokens.items()
        # The series of an upstream end when it leaves the configuration.
        if value != books.tokens[name] and not name.startswith((reloads.EXTRA, "_"))
    }
    result.check("tokens_total is the sum of the records", holds=not wrong, detail=wrong or "")


def curves(result: Result, samples: Sequence[Sample], streams: int) -> None:
    """Nothing grows; and there was something for which it could have."""
    result.samples = samples
    for slope in slopes(samples):
        told = f"{slope.first:,.0f}, in the end {slope.last:,.0f}, allowed {slope.allowed:,.0f}"
        result.check(f"no slope: {slope.name}", holds=slope.holds, detail=told)
    busy = max(sample.in_flight for sample in samples)
    enough = busy > streams / 2 and result.books.records > streams
    result.check("there was load", holds=enough, detail=f"{busy} requests at once")


def after_the_end(result: Result, status: int, stderr: bytes, expected: list[str]) -> None:
    """The process has ended, and its log was read to the end."""
    books = result.books
    books.close()
    told = f"{status} {stderr[-2000:].decode(errors='replace')}"
    result.check("SIGTERM ends it, silently, with status 0", holds=status == 0 and not stderr, detail=told)
    right = books.reloads == expected
    told = "" if right else f"{books.reloads}, expected {expected}"
    result.check("every reload came to what it should", holds=right, detail=told)
    result.check("no fault in the router's own code", holds=not books.notices, detail=books.notices[:3] or "")
    told = ", ".join(f"{key} {count:,}" for key, count in sorted(books.charged.items()))
    result.check("tokens charged are those upstreams reported", holds=books.charged == books.reported, detail=told)
    clean = not books.problem_count
    result.check("every answer is explained, one record for each", holds=clean, detail=books.problem_count)


def upstreams(result: Result, servers: Collection[Server]) -> None:
    """What they saw of the router, and whether they did their worst."""
    faults = [fault for server in servers for fault in server.faults]
    result.check("upstreams got sound requests", holds=not faults, detail=faults[:3] or "")
    played = sum(1 for fault in Fault if result.books.faults[fault])
    result.check("faults were played", holds=played > len(Fault) / 2, detail=f"{played} of {len(Fault)} kinds")
