"""The gauges of a scrape, and what the daemon holds."""

from __future__ import annotations

import asyncio

from tests.harness import chat
from tests.harness.router import CLIENT_SECRET, RunningRouter
from tests.harness.upstream import ScriptedUpstream, error, play, wait_for
from tests.harness.waiting import until
from tests.status.looking import gauges, streaming


async def test_a_stream_is_open_once_it_has_begun(router: RunningRouter, upstreams: list[ScriptedUpstream]) -> None:
    """`open_streams` counts streams that have begun to reach their client, not those that wait for an upstream."""
    go_on = asyncio.Event()
    upstreams[0].always(play(wait_for(go_on), streaming(go_on)))
    client = await router.open(chat.request(stream=True), key=CLIENT_SECRET)
    await upstreams[0].asked()
    measured = await gauges(router)
    assert (measured["inflight_requests{m}"], measured["open_streams{m}"]) == (1, 0)
    go_on.set()
    await client.answer()


async def test_gauges_of_the_configuration(router: RunningRouter) -> None:
    """Limits and weights are shown as configured, weights as their sum over all pools; an upstream is up at first."""
    measured = await gauges(router)
    assert (measured["backend_inflight_limit{first}"], measured["backend_up{first}"]) == (7, 1)
    assert (measured["backend_weight{first}"], measured["backend_weight{second}"]) == (3.0, 1.5)
    states = {name: value for name, value in measured.items() if name.startswith("backend_state{first,")}
    assert [name for name, value in states.items() if value] == ["backend_state{first,healthy}"]


async def test_what_is_held_is_named(router: RunningRouter, upstreams: list[ScriptedUpstream]) -> None:
    """What a request holds is told by kind while it runs, and all of it is zero once it is over."""
    go_on = asyncio.Event()
    upstreams[0].always(play(wait_for(go_on), streaming(go_on)))
    body = chat.request(stream=True)
    client = await router.open(body, key=CLIENT_SECRET)
    await upstreams[0].asked()
    assert router.held() == {
        "exchanges": 1,
        "leases": 1,
        "limiter_slots": 2,  # the key's and the upstream's
        "body_bytes": len(body),
        "client_connections": 1,
        "busy_upstream_connections": 1,
    }
    go_on.set()
    await client.answer()
    await client.leave()
    await router.rest()
    assert set(router.daemon.idle().values()) == {0}


async def test_a_retry_is_held_until_it_is_over(router: RunningRouter, upstreams: list[ScriptedUpstream]) -> None:
    """The share of the retry budget that an attempt takes where everybody has failed is counted while it runs."""
    go_on = asyncio.Event()
    for upstream in upstreams[:2]:
        upstream.then(error(500)).always(play(wait_for(go_on), streaming(go_on)))
    client = await router.open(chat.request(stream=True), key=CLIENT_SECRET)
    await until(lambda: sum(len(upstream.received) for upstream in upstreams) == 3, "the third attempt")
    assert router.held()["retries"] == 1
    go_on.set()
    await client.answer()


async def test_who_may_be_picked_and_whether_it_drains(
    router: RunningRouter, upstreams: list[ScriptedUpstream]
) -> None:
    """A scrape shows how many members of a model may be picked, why one was left alone, and that the daemon drains."""
    measured = await gauges(router)
    assert (measured["eligible_members{m}"], measured["eligible_members{spare}"], measured["draining{}"]) == (2, 2, 0)
    assert measured["cooldowns_total{first,rate_limit}"] == 0
    upstreams[0].always(error(429, None, "retry-after: 60"))
    assert (await router.post(chat.request(), key=CLIENT_SECRET)).status == 200
    measured = await gauges(router)
    assert (measured["eligible_members{m}"], measured["eligible_members{spare}"]) == (1, 2)
    assert measured["cooldowns_total{first,rate_limit}"] == 1
    router.daemon.drain()
    assert (await gauges(router))["draining{}"] == 1
