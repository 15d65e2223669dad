"""Upstreams that die, freeze or refuse while requests come at a steady rate."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.chaos.load import Load, Result, Verdict, added_ms, count, statuses
from tests.chaos.report import Finding
from tests.chaos.systems import Wishes
from tests.chaos.upstreams import Upstream, upstreams
from tests.harness.upstream import error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.chaos.stage import Stage

POOL, BIG_POOL = 4, 8
DEADLINE_S = 2.0
"""Against an upstream that is silent; no healthy one comes near."""
BEFORE_S, OUT_S, AFTER_S = 5.0, 8.0, 4.0
"""Before the outage, in it and after it."""
PHASE_S_MIN = 0.5
WELL_MS = 250.0
"""A system whose median request took this much longer before the outage was not well: its row says so."""
STORM_S, STORM_S_MIN = 20.0, 1.0
EXTRA_429_MAX = 0.001
"""Of all requests (RELIABILITY 7.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """How one upstream fails and comes back."""

    word: str
    does: str
    begin: Callable[[Upstream], None]
    end: Callable[[Upstream], Awaitable[None]]
    wishes: Wishes
    seconds_min: float = PHASE_S_MIN


KILL = Outage(
    word="killed",
    does="resets its connections and refuses new ones",
    begin=Upstream.kill,
    end=Upstream.listen,
    wishes=Wishes(),
)
FREEZE = Outage(
    word="frozen",
    does=f"accepts and is silent, against deadlines of {DEADLINE_S:.0f} s",
    begin=Upstream.freeze,
    end=Upstream.thaw,
    wishes=Wishes(deadline_s=DEADLINE_S),
    seconds_min=DEADLINE_S + 0.5,  # so that a request which met it runs into its deadline
)


async def kill(stage: Stage) -> Finding:
    """One upstream dies as a killed process does; later it is back."""
    return await _outage(stage, KILL)


async def freeze(stage: Stage) -> Finding:
    """One upstream stands still: it accepts and says nothing, and its open streams fall silent; later it goes on."""
    return await _outage(stage, FREEZE)


async def _outage(stage: Stage, outage: Outage) -> Finding:
    before_s, after_s = (max(PHASE_S_MIN, seconds * stage.scale) for seconds in (BEFORE_S, AFTER_S))
    out_s = max(outage.seconds_min, OUT_S * stage.scale)
    async with _loaded(stage, POOL, outage.wishes) as (pool, load):
        loop = asyncio.get_running_loop()
        start = loop.time()
        running = loop.create_task(load.run(before_s + out_s + after_s))
        await asyncio.sleep(before_s)
        outage.begin(pool[0])
        out_at_s = loop.time() - start
        await asyncio.sleep(out_s)
        await outage.end(pool[0])
        await running
    return _outage_finding(stage, outage, load.results, (out_at_s, out_at_s + out_s))


def _outage_finding(stage: Stage, outage: Outage, results: list[Result], span_s: tuple[float, float]) -> Finding:
    begin_s, end_s = span_s
    # What began shortly before the outage was reached by it.
    before = [each for each in results if each.began_s < begin_s - min(1.0, begin_s / 2)]
    out = [each for each in results if begin_s <= each.began_s < end_s]
    failed, silent, marked = (count(results, each) for each in (Verdict.FAILED, Verdict.SILENT, Verdict.MARKED))
    # Whoever began later had no content from the upstream that is out, and needs not be broken by its end.
    needless = sum(each.verdict is Verdict.MARKED and each.began_s >= begin_s for each in results)
    (p50, p99), (out_p50, out_p99) = added_ms(before), added_ms(out)
    ill = count(before, Verdict.FAILED) > 0 or p50 > WELL_MS
    return Finding(
        promise=f"One of {POOL} upstreams {outage.word}: 0 client-visible errors without content",
        measured=f"at {stage.rates}: {failed} of {len(results):,}{f' ({statuses(results)})' if failed else ''}; "
        f"{marked} streams broken after content, {'all' if not silent else f'and {silent} not'} marked"
        f"{f', {needless} of them needlessly' if needless else ''}; "
        f"added p50/p99 {p50:.1f}/{p99:.1f} ms before, {out_p50:.1f}/{out_p99:.1f} ms while {outage.word}"
        f"{' (void: not well before the outage either, the machine is too busy)' if ill else ''}",
        holds=failed == silent == needless == 0,
        how=f"half of the requests are streams; one upstream {outage.does}, then is back",
    )


async def storm(stage: Stage) -> Finding:
    """One upstream of eight answers everything with 429 at once."""
    async with _loaded(stage, BIG_POOL, Wishes()) as (pool, load):
        pool[0].always(error(429, None, "retry-after: 1"))
        await load.run(max(STORM_S_MIN, STORM_S * stage.scale))
    results = load.results
    refused = sum(each.status == 429 for each in results)
    others = len(results) - count(results, Verdict.WHOLE) - refused
    p50, p99 = added_ms(results)
    return Finding(
        promise="429 storm from one of 8 upstreams: at most 0.1 % extra 429s",
        measured=f"at {stage.rates}: {refused} of {len(results):,} ({1000 * refused / len(results):.1f} ‰)"
        f"{f', {others} other errors ({statuses(results)})' if others else ''}; added p50/p99 {p50:.1f}/{p99:.1f} ms",
        holds=others == 0 and refused <= EXTRA_429_MAX * len(results),
        how="every request to one upstream is answered at once with 429, Retry-After 1",
    )


@asynccontextmanager
async def _loaded(stage: Stage, count: int, wishes: Wishes) -> AsyncIterator[tuple[list[Upstream], Load]]:
    async with (
        upstreams(count) as pool,
        stage.system.serve(stage.folder, pool, wishes) as serving,
        contextlib.aclosing(Load(serving, rate=stage.system.rate, seed=stage.seed)) as load,
    ):
        await load.warm()
        yield pool, load
