"""A key with a token limit under many clients at once: what is settled is what the upstreams said."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random
from typing import TYPE_CHECKING, Any

from tests.chaos.load import Load, Verdict, count
from tests.chaos.report import Finding
from tests.chaos.systems import Router, RouterServing, Wishes
from tests.chaos.upstreams import request, upstreams, usage
from tests.harness.client import Client, ClosedError, post

if TYPE_CHECKING:
    from tests.chaos.stage import Stage

POOL = 4
CLIENTS = 50
LEAVERS = 10
"""Of the clients, those that leave in the middle of every answer."""
ROUNDS = 50
"""Requests of each client."""
TOKENS_PER_MINUTE = 900_000
"""Less than half of what the clients want: the limit refuses some, and lets others in as reservations come back."""
PAUSE_S = 0.05
"""After an answer that is not whole."""


async def limits(stage: Stage) -> Finding:
    """Clients ask, stream, leave and are refused; then the records are compared with what the upstreams reported."""
    assert isinstance(stage.system, Router)
    rounds = max(5, round(ROUNDS * stage.scale))
    tokens_per_minute = TOKENS_PER_MINUTE * rounds // ROUNDS
    wishes = Wishes(limits={"tokens_per_minute": tokens_per_minute, "concurrency": CLIENTS})
    async with (
        upstreams(POOL) as pool,
        stage.system.serve(stage.folder, pool, wishes) as serving,
        contextlib.aclosing(Load(serving, rate=0, seed=stage.seed)) as load,
    ):
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                rng = Random(f"{stage.seed}.{number}")
                leaves = number < LEAVERS
                name = f"leaver{number}"
                group.create_task(_leave(serving, name, rng, rounds) if leaves else _stay(load, rng, rounds))
        status = await serving.stop()
    return _finding(load, serving.records(), status, tokens_per_minute)


async def _stay(load: Load, rng: Random, rounds: int) -> None:
    """Ask again and again."""
    for _ in range(rounds):
        result = await load.ask(stream=rng.random() < 0.5)
        if result.verdict is not Verdict.WHOLE:
            await asyncio.sleep(PAUSE_S)


async def _leave(serving: RouterServing, name: str, rng: Random, rounds: int) -> None:
    """Ask for streams and leave each somewhere inside."""
    for place in range(rounds):
        mine = f"{name}.{place}"
        client = await Client.connect(serving.address)
        with contextlib.suppress(ClosedError, AssertionError, TimeoutError):
            await client.send(post(request(mine, stream=True), f"X-Request-Id: {mine}", key=serving.key))
            await client.head()
            for _ in range(rng.randrange(1, 10)):
                await client.piece()
        client.reset()
        await asyncio.sleep(PAUSE_S)


def _finding(load: Load, records: list[dict[str, Any]], status: int | None, limit: int) -> Finding:
    by_name = {record.get("client_request_id", ""): record for record in records}
    got_whole = {result.name for result in load.results if result.verdict is Verdict.WHOLE}
    completed = {name for name, record in by_name.items() if record["complete"] and record["status"] == 200}
    reported = {name: sum(usage(name)) for name in completed}
    settled = {name: by_name[name].get("charged", 0) for name in completed}
    wrong = sum(settled[name] != reported[name] for name in completed)
    missing = len(got_whole - completed) + len(records) - len(by_name)
    left = sum(record["outcome"] == "client_gone" for record in records)
    refused = sum(result.status == 429 for result in load.results)
    bad = count(load.results, Verdict.SILENT) + count(load.results, Verdict.MARKED)
    difference = sum(settled.values()) - sum(reported.values())
    return Finding(
        promise="Limits: tokens settled for completed requests = tokens that the upstreams reported",
        measured=f"difference {difference} of {sum(reported.values()):,} tokens in {len(completed):,} completed "
        f"requests, {wrong} of them off; {missing} without their one record"
        f"{f'; {bad} answers broken' if bad else ''}",
        holds=difference == wrong == missing == bad == 0 and status == 0 and bool(refused) and bool(left),
        how=f"{CLIENTS} clients at once on one key of {limit:,} tokens/min, half of the requests streams; "
        f"{refused:,} refused by the limit, {left:,} left in the middle",
    )
