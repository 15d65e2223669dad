"""One run: start everything, keep it going, stop it; `checks` says what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from random import Random
from typing import TYPE_CHECKING, Any

from tests.harness.program import running
from tests.harness.waiting import until
from tests.soak import checks, clients, reloads
from tests.soak.books import Books
from tests.soak.checks import PATIENCE_S, Result
from tests.soak.plan import SPELL_S, Plan, Weather
from tests.soak.servers import Server
from tests.soak.watch import Watch

if TYPE_CHECKING:
    from asyncio import StreamReader
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from tests.harness.program import Running

STREAMS = 200
OTHERS = ((clients.PLAIN, 8), (clients.BIG, 2), (clients.SMALL, 3), (clients.GUEST, 2))
"""Habits of the clients beside the streaming ones, and how many have them."""

RELOAD_S = 5.0
SAMPLE_S = 1.0


class Soak:
    """The daemon and everything around it."""

    def __init__(self, seconds: float, seed: int, folder: Path) -> None:
        self._seconds = seconds
        self._seed = seed
        self._path = folder / "router.yaml"
        self._plan = Plan(seed)
        self._books = Books()
        self._result = Result(seconds, seed, self._books)
        self._servers = {
            name: Server(name, self._books, self._plan if name in reloads.FAULTY else None) for name in reloads.NAMES
        }
        self._expected: list[str] = []
        """What each reload has to come to."""
        self._over = asyncio.Event()
        """The time is."""

    async def run(self) -> Result:
        """Do it all. Faults of the daemon are in the result; only those of the soak itself are raised."""
        async with contextlib.AsyncExitStack() as stack:
            for server in self._servers.values():
                await server.start()
                stack.push_async_callback(server.close)
            self._path.write_text(reloads.edit(0, self._seed, self._ports)[0])
            patience_s = self._seconds + 5 * PATIENCE_S
            started = running(self._path, environ=os.environ | reloads.ENVIRON, patience_s=patience_s)
            router = await stack.enter_async_context(started)
            assert router.process.stdout is not None
            assert router.process.stderr is not None
            log = self._spawn(self._read_log(router.process.stdout))
            stderr = self._spawn(router.process.stderr.read())
            stack.push_async_callback(_cancel, log, stderr)
            async with Watch(router.process.pid, router.admin, self._books) as watch:
                await watch.metrics()  # the first starts a thread
                before = await watch.rest()
                await self._load(router, watch)
                await checks.at_rest(self._result, watch, before, self._servers.values())
                await checks.counters(self._result, watch)
            checks.curves(self._result, watch.samples, STREAMS)
            router.signal(signal.SIGTERM)
            status = await asyncio.wait_for(router.process.wait(), PATIENCE_S)
            await log
            checks.after_the_end(self._result, status, await stderr, self._expected)
        checks.upstreams(self._result, self._servers.values())
        return self._result

    @property
    def _ports(self) -> dict[str, int]:
        return {name: server.port for name, server in self._servers.items()}

    @staticmethod
    def _spawn(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work)

    # while it runs

    async def _load(self, router: Running, watch: Watch) -> None:
        """Clients, faults, reloads and samples, until the time is over and every client has its answer."""
        rng = Random(self._seed)
        habits = [clients.STREAMING] * STREAMS + [each for each, count in OTHERS for _ in range(count)]
        slots = [clients.Slot(router.address, self._books, each, Random(rng.random())) for each in habits]
        started = time.monotonic()
        beside = [
            self._spawn(self._every(RELOAD_S, started, lambda number, _: self._reload(number + 1, router, watch))),
            self._spawn(self._every(SPELL_S, started, lambda _, second: self._change_weather(second))),
            self._spawn(self._every(SAMPLE_S, started, lambda _, second: self._look(second, watch))),
        ]
        asking = [self._spawn(slot.run()) for slot in slots]
        await asyncio.wait([*beside, *asking], timeout=self._seconds, return_when=asyncio.FIRST_EXCEPTION)
        self._over.set()
        for slot in slots:
            slot.stopping = True
        await asyncio.wait([*beside, *asking], timeout=PATIENCE_S)
        await _cancel(*beside, *asking)
        for server in self._servers.values():
            await server.turn(Weather.CALM)

    async def _every(
        self, seconds: float, started: float, work: Callable[[int, float], Coroutine[Any, Any, None]]
    ) -> None:
        """Do it now and then every so many seconds, by the clock: work that takes long makes no delay."""
        number = 0
        while not self._over.is_set():
            await work(number, time.monotonic() - started)
            number += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), max(0.0, started + number * seconds - time.monotonic()))

    async def _look(self, second: float, watch: Watch) -> None:
        await watch.look(second)
        for server in self._servers.values():
            server.forget()

    async def _change_weather(self, second: float) -> None:
        for name in reloads.FAULTY:
            await self._servers[name].turn(self._plan.weather(name, second + SPELL_S / 2))

    async def _reload(self, number: int, router: Running, watch: Watch) -> None:
        """Edit the file and have it read, by a signal or by a request."""
        text, valid = reloads.edit(number, self._seed, self._ports)
        self._path.write_text(text)
        digest = (await watch.page())["digest"]
        self._expected.append("applied" if valid else "rejected")
        if number % 2:
            router.signal(signal.SIGHUP)
        else:
            await watch.reload()
        done = len(self._expected)
        await until(lambda: len(self._books.reloads) >= done, f"reload {done}", patience_s=PATIENCE_S)
        if ((await watch.page())["digest"] != digest) != valid:
            self._books.problem(f"reload {number} should be {self._expected[-1]}: the digest tells otherwise")

    async def _read_log(self, stream: StreamReader) -> None:
        """Continuously: a log that nobody reads would be dropped by the daemon."""
        while raw := await stream.readline():
            self._books.line(json.loads(raw))


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """End them; raises what one of them ended with before."""
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
