"""What the daemon shows of itself: the status page, the gauges, and what it holds, over HTTP as operators see it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import chat
from tests.harness.router import CLIENT_SECRET, ENVIRON, RunningRouter, config
from tests.harness.upstream import (
    ScriptedUpstream,
    chunks,
    error,
    last_chunk,
    play,
    sse_head,
    wait_for,
)
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TEAM = {"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": {"concurrency": 5}}}
SETTINGS: dict[str, Any] = {"upstream": {"limits": {"concurrency": 7}}, "keys": TEAM}


@pytest.fixture
async def upstreams() -> AsyncIterator[list[ScriptedUpstream]]:
    async with AsyncExitStack() as stack:
        started = [ScriptedUpstream() for _ in range(2)]
        for upstream in started:
            await upstream.start()
            stack.push_async_callback(upstream.close)
        yield started


@pytest.fixture
async def router(tmp_path: Path, upstreams: list[ScriptedUpstream]) -> AsyncIterator[RunningRouter]:
    """A router with a limit of every kind of owner; each upstream also serves `spare`, and `second` less of it."""
    settings = config(*upstreams, **SETTINGS)
    settings["models"]["spare"] = {"pool": [{"upstream": "first", "weight": 2}, {"upstream": "second", "weight": 0.5}]}
    running = await RunningRouter.start(tmp_path, settings, ENVIRON)
    yield running
    await running.close()


async def text(router: RunningRouter, path: str) -> str:
    url = "http://{}:{}{}".format(*router.daemon.admin_address, path)
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Accept": "text/plain"}) as answer:
        assert answer.status == 200
        return await answer.text()


async def page(router: RunningRouter) -> dict[str, Any]:
    url = "http://{}:{}/".format(*router.daemon.admin_address)
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Accept": "application/json"}) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        shown: dict[str, Any] = await answer.json()
        return shown


async def gauges(router: RunningRouter) -> dict[str, float]:
    """The samples of a scrape, as `name{value,…}`."""
    exposition = await text(router, "/metrics")
    return {
        f"{sample.name.removeprefix('llm_router_')}{{{','.join(sample.labels.values())}}}": sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def streaming(go_on: asyncio.Event) -> Any:
    """A script that sends a token and waits for the test's word to end."""
    return play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())


async def test_the_page_at_rest(router: RunningRouter) -> None:
    """As JSON it shows the configuration's digest, each upstream with its limit, each model, each key, all at zero."""
    shown = await page(router)
    assert shown.pop("uptime_s") in range(60)
    assert shown.pop("tasks") > 0
    assert {row["count"] for row in shown.pop("held")} == {0}
    assert shown == {
        "digest": router.daemon.digest[:12],
        "draining": False,
        "requests_in_flight": 0,
        "client_connections": 0,
        "request_body_bytes": 0,
        "spooled_body_bytes": 0,
        "upstream_connections": 0,
        "idle_upstream_connections": 0,
        "timers": 0,
        "upstreams": [
            {"name": "first", "state": "healthy", "in_flight": 0, "limit": 7},
            {"name": "second", "state": "healthy", "in_flight": 0, "limit": 7},
        ],
        "models": [
            {"name": "m", "in_flight": 0, "open_streams": 0, "eligible": 2, "targets": 2},
            {"name": "spare", "in_flight": 0, "open_streams": 0, "eligible": 2, "targets": 2},
        ],
        "keys": [{"name": "team", "disabled": False, "in_flight": 0}],
    }


async def test_what_is_in_flight_is_seen(router: RunningRouter, upstreams: list[ScriptedUpstream]) -> None:
    """A running stream counts at its upstream, model, key and client; in the page, in a scrape and for people alike."""
    go_on = asyncio.Event()
    upstreams[0].always(streaming(go_on))
    client = await router.open(chat.request(stream=True), key=CLIENT_SECRET)
    await client.head()
    await client.until(b'"a"')
    shown = await page(router)
    assert (shown["requests_in_flight"], shown["client_connections"]) == (1, 1)
    assert [row["in_flight"] for row in shown["upstreams"]] == [1, 0]
    assert [(row["in_flight"], row["open_streams"]) for row in shown["models"]] == [(1, 1), (0, 0)]
    assert [row["in_flight"] for row in shown["keys"]] == [1]
    measured = await gauges(router)
    for name, value in {
        "backend_inflight_requests{first}": 1,
        "backend_inflight_requests{second}": 0,
        "inflight_requests{m}": 1,
        "open_streams{m}": 1,
        "inflight_requests{spare}": 0,
        "client_connections{}": 1,
    }.items():
        assert measured[name] == value, name
    assert "first   healthy  1          7" in await text(router, "/")
    go_on.set()
    await client.rest()
    await client.leave()
    await router.rest()
    after = await gauges(router)
    for name in ("backend_inflight_requests{first}", "inflight_requests{m}", "open_streams{m}", "client_connections{}"):
        assert after[name] == 0, name


async def test_what_the_process_holds_is_seen(router: RunningRouter, upstreams: list[ScriptedUpstream]) -> None:
    """Connections to upstreams, tasks, deadlines and what is held by kind: while a stream runs, and after it."""
    go_on = asyncio.Event()
    upstreams[0].always(streaming(go_on))
    before = await page(router)
    client = await router.open(chat.request(stream=True), key=CLIENT_SECRET)
    await client.head()
    await client.until(b'"a"')
    waiting = asyncio.get_running_loop().create_task(asyncio.sleep(60))
    shown = await page(router)
    assert (shown["upstream_connections"], shown["idle_upstream_connections"]) == (1, 0)
    assert shown["tasks"] == before["tasks"] + 2  # the scripted upstream's, and the one above
    assert shown["timers"] == 2  # the client's patience, and the stream's
    held = {row["what"]: row["count"] for row in shown["held"]}
    assert router.daemon.idle() == held | {"sockets": 0}
    assert (held["exchanges"], held["leases"], held["busy_upstream_connections"]) == (1, 1, 1)
    waiting.cancel()
    go_on.set()
    await client.rest()
    await client.leave()
    await router.rest()
    after = await page(router)
    assert (after["upstream_connections"], after["idle_upstream_connections"], after["timers"]) == (1, 1, 0)


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


async def test_no_limit_is_no_figure(router: RunningRouter, upstreams: list[ScriptedUpstream]) -> None:
    """Without a limit the page says null and the gauge is absent, and so it is after a reload that takes it away."""
    await router.reload(config(*upstreams, keys={"other": {"secret": {"env": "OTHER_SECRET"}}}))
    shown = await page(router)
    assert [row["limit"] for row in shown["upstreams"]] == [None, None]
    assert [row["in_flight"] for row in shown["keys"]] == [None]
    assert [row["name"] for row in shown["models"]] == ["m"]
    assert not [name for name in await gauges(router) if name.startswith("backend_inflight_limit")]


async def test_an_upstream_that_is_out_is_seen(router: RunningRouter, upstreams: list[ScriptedUpstream]) -> None:
    """An upstream that asked to be left alone is no longer eligible, and its state says why."""
    upstreams[0].always(error(429, None, "retry-after: 60"))
    while len(upstreams[0].received) < 2:  # `spare` draws its member
        for model in ("m", "spare"):
            assert (await router.post(chat.request(model=model), key=CLIENT_SECRET)).status == 200
    shown = await page(router)
    assert [row["state"] for row in shown["upstreams"]] == ["cooling", "healthy"]
    assert [(row["eligible"], row["targets"]) for row in shown["models"]] == [(1, 2), (1, 2)]
    measured = await gauges(router)
    assert (measured["backend_up{first}"], measured["backend_state{first,cooling}"]) == (0, 1)


async def test_the_page_says_that_it_drains(router: RunningRouter) -> None:
    """Who looks at the page during a drain sees it."""
    router.daemon.drain()
    assert (await page(router))["draining"] is True


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
