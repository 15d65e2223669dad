"""Which member is asked next, on which connection: cooldowns, ejection, retries, kept connections (RELIABILITY 1.5)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from router.events import Outcome, UpstreamCooled, UpstreamEjected
from tests.harness import chat
from tests.harness.upstream import (
    cut,
    error,
    json_answer,
    play,
    reset,
    stall,
    wait_for,
)
from tests.harness.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter


async def test_a_rate_limited_member_is_left_alone(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """After a 429 the next request does not go there, and the event says for how long."""
    first.always(error(429, None, "retry-after: 30"))
    running = await router(first, second)
    assert [(await running.post()).status for _ in range(3)] == [200] * 3
    assert (len(first.received), len(second.received)) == (1, 3)
    cooled = [event for event in running.events if isinstance(event, UpstreamCooled)]
    assert [(event.upstream, event.model) for event in cooled] == [("first", "m")]
    assert 30 <= cooled[0].for_s <= 36


async def test_when_all_are_rate_limited_the_client_learns_when_to_return(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """429 with the smallest known wait; and at once, without asking, while the cooldowns last."""
    first.always(error(429, None, "retry-after: 50"))
    second.always(error(429, None, "retry-after-ms: 20000"))
    running = await router(first, second)
    for _ in range(2):
        answer = await running.post()
        assert (answer.status, answer.error["reason"]) == (429, "upstream_rate_limited")
        wait_s = int(answer.header("retry-after") or 0)
        assert 15 <= wait_s <= 25
        assert abs(int(answer.header("retry-after-ms") or 0) / 1000 - wait_s) <= 1
        assert "It broke" not in answer.error["message"]
    assert [record.outcome for record in running.ended] == [Outcome.RATE_LIMITED] * 2


async def test_a_failing_member_is_ejected_and_tried_again(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """After so many failures in a row nothing goes there, until one probation request finds it well."""
    first.always(error(500))
    running = await router(first, second, defaults={"ejection": {"consecutive": 2, "eject": "100ms"}})
    for _ in range(2):
        assert (await running.post()).status == 200
    ejected = [event for event in running.events if isinstance(event, UpstreamEjected)]
    assert [(event.upstream, event.reason) for event in ejected] == [("first", "consecutive")]
    first.always(json_answer(b'{"choices":["first"]}'))
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 5
    while (await running.post()).body != b'{"choices":["first"]}':
        assert loop.time() < deadline
    assert len(first.received) == 3


async def test_a_client_that_leaves_decides_nothing_about_a_probation(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """When the client of the probation request leaves, the next request may be the trial."""
    first.then(error(500), stall())
    running = await router(first, second, defaults={"ejection": {"consecutive": 1, "eject": "50ms"}})

    def probed_or_answered(over: int) -> bool:
        return len(first.received) == 2 or len(running.ended) > over

    await running.post()
    assert running.causes() == [("first", "http_5xx"), ("second", "ok")]
    async with asyncio.timeout(PATIENCE_S):
        while len(first.received) < 2:
            over = len(running.ended)
            client = await running.open()
            await until(partial(probed_or_answered, over))
            client.reset()
            await running.record(over + 1)
        while running.ended[-1].upstream != "first":
            await running.post()
    assert len(first.received) == 3


async def test_a_stale_connection_is_replaced_in_silence(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A pooled connection that closes as we write is nobody's failure: once more on a fresh one, same upstream."""
    first.then(json_answer(), cut(), json_answer(), reset(), json_answer())
    running = await router(first, second, defaults={"ejection": {"consecutive": 1}})
    for _ in range(3):
        assert (await running.post()).body == chat.completion()
    assert [received.place for received in first.received] == [0, 1, 0, 1, 0]
    assert second.received == []
    assert not [event for event in running.events if isinstance(event, UpstreamEjected)]


async def test_a_connection_that_dies_late_is_a_failure(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A kept connection that dies long after the request was sent died of that: it is not sent there once more."""
    go_on = asyncio.Event()
    first.then(json_answer(), play(wait_for(go_on), cut()))
    running = await router(first, second)
    await running.post()
    client = await running.open()
    assert (await first.asked(2)).place == 1
    (exchange,) = running.daemon._relay.exchanges
    assert exchange.attempt is not None
    exchange.attempt.sent -= 2
    go_on.set()
    assert (await client.answer()).status == 200
    assert running.causes(await running.record(2)) == [("first", "disconnect"), ("second", "ok")]
    assert len(first.received) == 2


async def test_a_connection_closed_while_idle_is_not_used(router: StartRouter, first: ScriptedUpstream) -> None:
    """An upstream may close what it keeps idle; the next request takes a fresh connection."""
    running = await router(first)
    await running.post()
    first.connections[0].transport.close()
    await until(first.connections[0].gone.is_set)
    assert (await running.post()).status == 200
    assert [received.place for received in first.received] == [0, 0]


async def test_idle_connections_to_upstreams_are_let_go(router: StartRouter, first: ScriptedUpstream) -> None:
    """A connection that has been idle for `keepalive` is closed by us, before the upstream does it in our face."""
    running = await router(first, upstream={"keepalive": "50ms"})
    await running.post()
    loop = asyncio.get_running_loop()
    too_old = loop.time() + 0.06
    await until(lambda: loop.time() > too_old)
    await running.post()
    assert [received.place for received in first.received] == [0, 0]
    await first.received[1].left()


async def test_an_upstream_that_says_close_gets_a_fresh_connection(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """`Connection: close` in an answer is obeyed."""
    first.always(json_answer(None, "connection: close"))
    running = await router(first)
    for _ in range(2):
        await running.post()
    assert [received.place for received in first.received] == [0, 0]


async def test_attempts_are_bounded(router: StartRouter, upstreams: list[ScriptedUpstream]) -> None:
    """However many members there are, no more than `retry.attempts` are asked."""
    for upstream in upstreams:
        upstream.always(error(500))
    running = await router(*upstreams)
    assert (await running.post()).status == 500
    assert [upstream for upstream, _ in running.causes()] == ["first", "second", "third"]


@pytest.mark.parametrize("attempts", [1, 3])
async def test_attempts_are_bounded_where_nobody_listens(
    router: StartRouter, first: ScriptedUpstream, attempts: int
) -> None:
    """A refused connection costs nobody anything, yet the same member is tried no more often than anything else."""
    await first.refuse()
    running = await router(
        first,
        defaults={"retry": {"attempts": attempts}, "ejection": {"consecutive": 1000, "min_outcomes": 1000}},
    )
    assert (await running.post()).status == 502
    assert running.causes() == [("first", "connect")] * attempts


async def test_an_address_that_swallows_connections_does_not_hide_the_next(
    router: StartRouter, first: ScriptedUpstream, black_hole: str
) -> None:
    """Of a host with several addresses, one that never answers has its time, and then the next is tried."""
    running = await router(first)
    (pool,) = running.daemon._relay.snapshot.wires["first"].pools
    swallowing = urlsplit(black_hole)
    pool._addresses = [(str(swallowing.hostname), swallowing.port or 0), ("127.0.0.1", first.port)]
    pool._resolved_at = asyncio.get_running_loop().time()
    assert (await running.post()).status == 200
    assert running.causes() == [("first", "ok")]


async def test_a_lone_member_gets_another_chance(router: StartRouter, first: ScriptedUpstream) -> None:
    """Where nobody else can help, the member that failed is asked once more, after a moment."""
    first.then(error(500))
    running = await router(first)
    assert (await running.post()).status == 200
    assert running.causes() == [("first", "http_5xx"), ("first", "ok")]


async def test_retries_are_a_small_share_of_the_traffic(router: StartRouter, first: ScriptedUpstream) -> None:
    """When everything fails at once the budget keeps further attempts far below the number of requests."""
    all_here = asyncio.Event()
    first.always(play(wait_for(all_here), error(500)))
    running = await router(first, defaults={"ejection": {"consecutive": 1000, "min_outcomes": 1000}})
    clients = [await running.open() for _ in range(100)]
    await first.asked(100)
    all_here.set()
    assert {(await client.answer()).status for client in clients} == {500}
    assert 100 < len(first.received) <= 160


async def test_another_model_helps_once_the_pool_is_exhausted(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """`fallback` names the model to try next, and the upstream gets that model's name."""
    first.always(error(500))
    models = {
        "m": {"pool": ["first"], "fallback": ["spare"]},
        "spare": {"pool": [{"upstream": "second", "model": "spare-there"}]},
    }
    running = await router(first, second, models=models)
    assert (await running.post()).body == chat.completion()
    assert second.received[0].json["model"] == "spare-there"
    assert (await running.record()).model == "m"


async def test_two_credentials_have_cooldowns_of_their_own(router: StartRouter, first: ScriptedUpstream) -> None:
    """A 429 on one credential leaves the other in use."""
    first.then(error(429, None, "retry-after: 30"))
    running = await router(
        first, upstream={"api_key": None, "api_keys": [{"env": "UPSTREAM_SECRET"}, {"env": "OTHER_SECRET"}]}
    )
    assert [(await running.post()).status for _ in range(3)] == [200] * 3
    used = [received.values("authorization")[0] for received in first.received]
    assert used[0] not in used[1:]
    assert len(set(used)) == 2


async def test_the_other_credential_is_tried_before_the_next_tier(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A 429 is the credential's: the same request goes to the upstream's other one, not to a member further down."""
    first.then(error(429, None, "retry-after: 30"))
    credentials = [{"env": "UPSTREAM_SECRET"}, {"env": "OTHER_SECRET"}]
    running = await router(first, second, upstream={"api_key": None, "api_keys": credentials})
    assert (await running.post()).status == 200
    assert running.causes() == [("first", "http_429"), ("first", "ok")]
    assert len({attempt.credential for attempt in running.ended[0].attempts}) == 2
    assert len({received.values("authorization")[0] for received in first.received}) == 2
    assert second.received == []


async def test_a_failing_upstream_is_not_tried_with_its_other_credential(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A server error is the upstream's, not the credential's: the next attempt goes to another upstream."""
    first.always(error(500))
    credentials = [{"env": "UPSTREAM_SECRET"}, {"env": "OTHER_SECRET"}]
    running = await router(
        first,
        second,
        same_tier=True,
        upstream={"api_key": None, "api_keys": credentials},
        defaults={"ejection": {"consecutive": 1000, "min_outcomes": 1000}},
    )
    for _ in range(30):
        assert (await running.post()).status == 200
    tried = [[attempt.upstream for attempt in record.attempts] for record in running.ended]
    assert ["first", "second"] in tried
    assert all(upstreams in (["second"], ["first", "second"]) for upstreams in tried)
