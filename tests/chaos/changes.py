"""Reloads and the end of the process, under load: no request notices."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any

import yaml

from tests.chaos.load import Load, Verdict, count, statuses
from tests.chaos.report import Finding
from tests.chaos.systems import Router, RouterServing, Wishes
from tests.chaos.upstreams import STREAM_S, upstreams
from tests.harness.client import Client, post
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.chaos.stage import Stage

POOL = 4
RELOADS, PAUSE_S = 100, 0.1
STREAMS = 200
STRETCH = 12.0
"""How many times as long the open streams take: they shall outlast the notice."""
NOTICE_S, ARRIVING_S = 3.0, 1.0
"""How long new requests are still accepted after the signal, and how long some still come."""


async def reloads(stage: Stage) -> Finding:
    """The file changes ten times a second, half of the times told by SIGHUP and half by `POST /-/reload`.

    Each time another upstream is out of the pool, the weights differ, and a limit and a model come and go.
    """
    assert isinstance(stage.system, Router)
    times = max(10, round(RELOADS * stage.scale))
    async with (
        upstreams(POOL) as pool,
        stage.system.serve(stage.folder, pool, Wishes()) as serving,
        contextlib.aclosing(Load(serving, rate=stage.system.rate, seed=stage.seed)) as load,
    ):
        await load.warm()
        reloading = asyncio.get_running_loop().create_task(_reload(serving, times))
        await load.run(times * PAUSE_S, beside=reloading)
        took_s = await reloading
    failed = len(load.results) - count(load.results, Verdict.WHOLE)
    applied = serving.reloads.count("applied")
    return Finding(
        promise=f"{RELOADS} reloads in {RELOADS * PAUSE_S:.0f} s under load: 0 failed requests",
        measured=f"{failed} of {len(load.results):,} failed"
        f"{f' ({statuses(load.results)})' if failed else ''}; {applied} of {times} reloads applied in {took_s:.1f} s",
        holds=failed == 0 and applied == times,
        how=f"{stage.rates}, half of them streams; every reload moves an upstream, weights, a limit and a model",
    )


def changed(settings: dict[str, Any], number: int) -> dict[str, Any]:
    """The settings after the `number`th change."""
    models = {name: dict(model) for name, model in settings["models"].items()}
    pool = models["m"]["pool"]
    models["m"]["pool"] = [
        {"upstream": name, "weight": 1 + (place + number) % 3}
        for place, name in enumerate(pool)
        if place != number % len(pool)
    ]
    if number % 2:
        models["another"] = {"pool": [pool[0]]}
    keys = {name: key | {"limits": {"concurrency": 10_000 + number}} for name, key in settings["keys"].items()}
    return settings | {"models": models, "keys": keys}


async def _reload(serving: RouterServing, times: int) -> float:
    """Change the file and have it read, so many times; the seconds it took. Each time the log tells what came of it."""
    loop = asyncio.get_running_loop()
    settings = yaml.safe_load(serving.path.read_text())
    start = loop.time()
    for number in range(times):
        await asyncio.sleep(start + number * PAUSE_S - loop.time())
        serving.path.write_text(yaml.safe_dump(changed(settings, number)))
        if number % 2:
            serving.running.signal(signal.SIGHUP)
        else:
            await _post_reload(serving.running.admin)
        await until(lambda: len(serving.reloads) > number, f"reload {number + 1}")  # noqa: B023 - called at once
    return loop.time() - start


async def _post_reload(admin: tuple[str, int]) -> None:
    async with await Client.connect(admin) as client:
        await client.send(post(b"", path="/-/reload"))
        answer = await client.answer()
        assert answer.status == 200, answer.body


async def stop(stage: Stage) -> Finding:
    """SIGTERM comes while streams are open and requests still arrive; all of them end well, and so does the process."""
    streams = max(20, round(STREAMS * stage.scale))
    async with (
        upstreams(POOL, stretch=STRETCH) as pool,
        stage.system.serve(stage.folder, pool, Wishes(notice_s=NOTICE_S)) as serving,
        contextlib.aclosing(Load(serving, rate=stage.system.rate, seed=stage.seed, stretch=STRETCH)) as load,
    ):
        loop = asyncio.get_running_loop()
        asking = [loop.create_task(load.ask(stream=True)) for _ in range(streams)]
        await until(lambda: sum(len(upstream.received) for upstream in pool) == streams, "all streams are open")
        stopping = loop.create_task(serving.stop())
        await load.run(ARRIVING_S)
        await asyncio.gather(*asking)
        status = await stopping
    lost = len(load.results) - count(load.results, Verdict.WHOLE)
    return Finding(
        promise=f"SIGTERM with {STREAMS} open streams: 0 requests lost that finish within the grace",
        measured=f"{lost} of {len(load.results)} lost{f' ({statuses(load.results)})' if lost else ''}; "
        f"exit status {status}",
        holds=lost == 0 and status == 0,
        how=f"streams of {STREAM_S * STRETCH:.1f} s, the signal once all are open; {stage.rates} still come for a "
        f"second of the {NOTICE_S:.0f} s of notice",
    )
