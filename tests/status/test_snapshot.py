"""The snapshot of the running daemon, over HTTP as operators see it."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

import pytest
import yaml

from router.status.snapshot import Bounds
from tests.harness import chat
from tests.harness.router import CLIENT_SECRET, ENVIRON, UPSTREAM_SECRET, RunningRouter, config
from tests.harness.upstream import ScriptedUpstream, chunks, error, last_chunk, play, sse_head
from tests.status.looking import gauges, page, streaming, text

if TYPE_CHECKING:
    from tests.status.conftest import StartRouter


async def test_the_page_at_rest(router: RunningRouter) -> None:
    """Before any request it shows what is configured, and of what is counted nothing: zero, or null for a share."""
    shown = await page(router)
    assert shown["tasks"] > 0
    assert {row["count"] for row in shown["held"]} == {0}
    assert shown["digest"] == router.daemon.digest[:12]
    for name in (
        "requests_in_flight", "open_streams", "client_connections", "request_body_bytes", "spooled_body_bytes",
        "upstream_connections", "idle_upstream_connections", "timers", "access_log_dropped",
    ):  # fmt: skip
        assert shown[name] == 0, name
    assert (shown["draining"], shown["config"]["refused"]) == (False, None)
    assert 0 <= shown["uptime_s"] < 60
    assert shown["more"] == {"upstreams": 0, "models": 0, "keys": 0}
    first = shown["upstreams"][0]
    assert 0 <= first.pop("since_s") < 60
    assert first == {
        "name": "first", "state": "healthy", "weight": 3.0, "share": None, "in_flight": 0, "limit": 7, "attempts": 0,
        "ok": None, "ttft_p50_s": None, "ttft_p95_s": None, "output_tokens_per_s": 0.0, "out": [], "more_out": 0,
        "last_error": None,
    }  # fmt: skip
    assert shown["models"][1] == {
        "name": "spare", "in_flight": 0, "open_streams": 0, "requests": 0, "failed": 0, "success": None,
        "ttft_p50_s": None, "ttft_p95_s": None, "eligible": 2, "targets": 2, "more_members": 0,
        "members": [
            {"tier": 1, "upstream": name, "model": "spare", "weight": size, "share": None, "eligible": True, "why": ""}
            for name, size in (("first", 2.0), ("second", 0.5))
        ],
    }  # fmt: skip
    (key,) = shown["keys"]
    assert (key["name"], key["disabled"], key["in_flight"], key["concurrency"]) == ("team", False, 0, 5)


async def test_what_was_counted_is_shown(router: RunningRouter, upstreams: list[ScriptedUpstream]) -> None:
    """Attempts, their share and success, first tokens and output tokens stand at upstream and model, at once."""
    upstreams[0].then(error(500)).always(
        play(sse_head(), chunks(*chat.answer("a", "b"), chat.usage_event(9, 4), chat.DONE), last_chunk())
    )
    upstreams[1].always(play(sse_head(), chunks(*chat.answer("a", "b"), chat.DONE), last_chunk()))
    for _ in range(3):
        assert (await router.stream(key=CLIENT_SECRET)).status == 200
    shown = await page(router)
    first, second = shown["upstreams"]
    assert (first["attempts"], second["attempts"], first["share"]) == (3, 1, 0.75)
    assert first["ok"] == pytest.approx(2 / 3)
    assert second["ok"] == 1.0
    assert first["last_error"]["reason"] == "http_5xx"
    assert 0 <= first["last_error"]["age_s"] < 60
    assert second["last_error"] is None
    assert 0 < first["ttft_p50_s"] <= first["ttft_p95_s"]
    assert first["output_tokens_per_s"] > 0
    model = shown["models"][0]
    assert (model["requests"], model["failed"], model["success"]) == (3, 0, 1.0)
    assert [member["share"] for member in model["members"]] == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    window = shown["window"]
    assert (window["requests"], window["failed"], window["success"]) == (3, 0, 1.0)
    assert 0 < window["requests_per_s"] <= 3
    assert window["ttft_p95_s"] > 0


async def test_what_we_failed_is_no_success(router: RunningRouter, upstreams: list[ScriptedUpstream]) -> None:
    """A request that no upstream could answer counts as failed; one that its client spoilt counts neither way."""
    for upstream in upstreams:
        upstream.always(error(500))
    assert (await router.post(key=CLIENT_SECRET)).status >= 500
    assert (await router.post(b"{", key=CLIENT_SECRET)).status == 400
    shown = await page(router)
    assert (shown["window"]["requests"], shown["window"]["failed"], shown["window"]["success"]) == (2, 1, 0.0)


async def test_the_limits_of_a_key_are_shown(start: StartRouter, upstreams: list[ScriptedUpstream]) -> None:
    """What is left of each limit, of how much, and when it is whole again; a refusal is counted and is an event."""
    limits = {"requests_per_minute": 60, "request_burst": 2, "tokens_per_minute": 600_000, "concurrency": 5}
    keys = {"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": limits}}
    router = await start(config(*upstreams, keys=keys), ENVIRON)
    for _ in range(2):
        assert (await router.post(key=CLIENT_SECRET)).status == 200
    while (await router.post(key=CLIENT_SECRET)).status != 429:
        assert len(router.answers) < 50
    shown = await page(router)
    (key,) = shown["keys"]
    assert (key["concurrency"], key["request_burst"], key["requests_per_minute"]) == (5, 2, 60)
    assert key["requests_left"] < 2
    assert 0 < key["requests_reset_s"] <= 2
    assert key["tokens_per_minute"] == 600_000
    assert 590_000 < key["tokens_left"] <= 600_000
    assert key["used"] >= 0.5
    assert shown["window"]["limit_refusals"] == 1
    assert ("limit", "team") in [(event["what"], event["who"]) for event in shown["events"]]


async def test_a_refused_configuration_shows_until_one_is_taken(
    router: RunningRouter, upstreams: list[ScriptedUpstream]
) -> None:
    """While an older configuration runs the page says why, with line and column, and since when; then no more."""
    await router.reload(yaml.safe_dump(config(*upstreams), sort_keys=False) + "bogus: 1\n")
    shown = await page(router)
    refused = shown["config"]["refused"]
    assert re.search(r"router.yaml:\d+:1: bogus: unknown", refused["faults"][0])
    assert 0 <= refused["age_s"] < 60
    event = shown["events"][0]
    assert event["what"] == "reload"
    assert event["why"].startswith("refused: ")
    await router.reload(config(*upstreams))
    shown = await page(router)
    assert shown["config"]["refused"] is None
    assert shown["events"][0]["why"].startswith("applied: ")


async def test_an_ejected_upstream_says_for_how_long(start: StartRouter, upstreams: list[ScriptedUpstream]) -> None:
    """Its state and since when, what of it is out and until when, and the members that may not be picked for it."""
    settings = config(*upstreams, defaults={"ejection": {"consecutive": 1, "eject": "60s"}})
    router = await start(settings, ENVIRON)
    upstreams[0].always(error(500))
    assert (await router.post()).status == 200
    shown = await page(router)
    first = shown["upstreams"][0]
    assert first["state"] == "ejected"
    assert 0 <= first["since_s"] < 60
    (out,) = first["out"]
    assert (out["why"], out["model"], out["credential"]) == ("ejected", "m", None)
    assert 0 < out["for_s"] <= 72
    member = shown["models"][0]["members"][0]
    assert not member["eligible"]
    assert member["why"].startswith("ejected: consecutive, ")
    assert (shown["events"][0]["what"], shown["events"][0]["who"]) == ("ejected", "first / m")


async def test_the_page_is_bounded_and_counts_the_rest(start: StartRouter, upstreams: list[ScriptedUpstream]) -> None:
    """A big configuration does not blow the page: the worst upstreams, busiest models and keys, and how many more."""
    keys = {f"key{number}": {"secret": {"env": f"KEY{number}"}, "limits": {"concurrency": 2}} for number in range(4)}
    settings = config(*upstreams, keys=keys, defaults={"ejection": {"consecutive": 1, "eject": "60s"}})
    settings["models"] |= {"other": {"pool": ["first", "second"]}}
    environ = ENVIRON | {f"KEY{number}": f"sk-key-number-{number}" for number in range(4)}
    router = await start(settings, environ)
    upstreams[0].always(error(500))
    go_on = asyncio.Event()
    upstreams[1].always(streaming(go_on))
    client = await router.open(chat.request(stream=True), key="sk-key-number-2")
    await client.head()
    await client.until(b'"a"')
    shown = router.daemon._status.page(Bounds(rows=1, keys=1, parts=1))
    assert [row["name"] for row in shown["upstreams"]] == ["first"]
    assert [row["name"] for row in shown["models"]] == ["m"]
    assert [row["name"] for row in shown["keys"]] == ["key2"]
    assert shown["more"] == {"upstreams": 1, "models": 1, "keys": 3}
    assert (len(shown["models"][0]["members"]), shown["models"][0]["more_members"]) == (1, 1)
    whole = router.daemon.state()
    assert (len(whole["upstreams"]), len(whole["models"]), len(whole["keys"])) == (2, 2, 4)
    assert set(whole["more"].values()) == {0}
    go_on.set()
    await client.rest()


async def test_the_page_shows_no_secret(router: RunningRouter, upstreams: list[ScriptedUpstream]) -> None:
    """Neither credentials nor prompts, nor what an upstream says of them, stand anywhere in it."""
    upstreams[0].always(error(401, f"wrong key {UPSTREAM_SECRET}".encode()))
    for _ in range(4):
        await router.post(chat.request(messages=[{"role": "user", "content": "my secret wish"}]), key=CLIENT_SECRET)
    everything = await text(router, "/status.json") + await text(router, "/status.txt")
    for secret in (UPSTREAM_SECRET, CLIENT_SECRET, "secret wish", "wrong key"):
        assert secret not in everything


async def test_curves_grow_by_steps(router: RunningRouter) -> None:
    """Housekeeping adds a point to each curve every five seconds, whether anybody looks or not."""
    assert (await router.post(key=CLIENT_SECRET)).status == 200
    now = time.monotonic()
    for step in range(1, 4):
        router.daemon._status.keep(now + step * 5.1)
    curves = router.daemon.state()["curves"]
    assert curves["requests_per_s"] == [pytest.approx(1 / 5.1, rel=0.5), 0.0, 0.0]
    assert [len(curves[name]) for name in ("errors_per_s", "open_streams", "ttft_p95_s")] == [3, 3, 3]


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
    row = next(line for line in (await text(router, "/")).splitlines() if line.startswith("first"))
    assert row.split()[:2] == ["first", "healthy"]
    assert "1/7" in row.split()
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
