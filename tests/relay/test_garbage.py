"""What a request or a connection held is freed when it is over, and does not wait for the collector.

The collector is set to look seldom (`process.GC_THRESHOLD`), because the data path is to leave it nothing: a cycle for
each connection was worth 300 bytes a request in the soak, for as long as an hour.
"""

from __future__ import annotations

import gc
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from router.policy.catalogue import Catalogue, Route
from router.policy.pool import Pool
from router.policy.target import Target
from router.relay.answer import ErrorAnswer, WholeAnswer
from router.relay.attempt import Attempt
from router.relay.downstream import Downstream
from router.relay.exchange import Exchange
from router.relay.request import Received
from router.relay.service import Snapshot
from router.relay.stream import StreamAnswer
from router.relay.upstream import UpstreamConnection
from tests.harness import chat
from tests.harness.client import post
from tests.harness.router import config
from tests.harness.upstream import chunks, cut, error, play, send, sse_head, sse_stream, stall
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.router import RunningRouter
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

KINDS = (Downstream, UpstreamConnection, Exchange, Attempt, Received, StreamAnswer, WholeAnswer, ErrorAnswer, Exception)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> Counter[str]:
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, KINDS))


async def everything(running: RunningRouter, first: ScriptedUpstream) -> None:
    """Requests that end well, badly and by leaving, each on a connection of its own."""
    broken = play(sse_head(), chunks(*chat.answer("a", "b")[:2]), cut())
    stalled = play(sse_head(), chunks(*chat.answer("a", "b")[:2]), stall())
    for script in (sse_stream(*chat.answer("Hello")), broken, error(500), cut(), send(b"nonsense\r\n\r\n")):
        first.then(script)
        await running.stream()
    await running.post()
    await running.post(b"{")
    await running.post(chat.request(model="none"))
    async with await running.connect() as client:
        await client.send(b"nonsense\r\n\r\n")
        await client.answer()
    first.then(stalled)
    client = await running.open(chat.request(stream=True))
    await client.head()
    client.reset()
    client = await running.connect()
    await client.send(post(chat.request())[:-5])
    await client.leave()
    await first.refuse()
    await running.post()
    await running.rest()


@pytest.mark.usefixtures("no_collector")
async def test_nothing_waits_for_the_collector(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """However a request ends, and whoever closes its connections: nothing of it is alive after that."""
    second.always(sse_stream(*chat.answer("Hello")))
    running = await router(first, second, upstream={"idle_connections": 0})
    before = alive()
    await everything(running, first)
    await until(lambda: not (alive() - before), f"all is freed but {alive() - before}")


@pytest.mark.usefixtures("no_collector")
async def test_an_old_configuration_does_not_either(router: StartRouter, first: ScriptedUpstream) -> None:
    """However often the file changes: what it was before is freed with the last request that needs it."""
    running = await router(first)
    kinds = (Snapshot, Catalogue, Route, Pool, Target)

    def living() -> Counter[str]:
        return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, kinds))

    before = living()
    for number in range(5):
        event = await running.reload(config(first, requests={"body_max": 1_000_000 + number}))
        assert event.result == "applied"
        assert (await running.post()).status == 200
    await until(lambda: not (living() - before), f"all is freed but {living() - before}")
