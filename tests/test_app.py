"""The daemon as a whole: what a start, a reload, a drain and a stop leave behind (what clients see: tests/relay)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import aiohttp
import pytest
import yaml

from router.app import Daemon
from router.errors import ConfigError
from router.events import ConfigReloaded, Event
from tests.harness import chat
from tests.harness.client import Client
from tests.harness.router import ENVIRON, OTHER_SECRET, UPSTREAM_SECRET, RunningRouter, Settings, config
from tests.harness.upstream import ScriptedUpstream, json_answer, play, stall, wait_for
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    StartRouter = Callable[..., Awaitable[RunningRouter]]

NOWHERE = "http://127.0.0.1:1/v1"


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    await scripted.start()
    yield scripted
    await scripted.close()


@pytest.fixture
async def router(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[StartRouter]:
    """Starts one router with `config(upstream, **settings)`, checks the invariants at the end and stops it."""
    started: list[RunningRouter] = []

    async def start(**settings: Any) -> RunningRouter:
        started.append(await RunningRouter.start(tmp_path, config(upstream, **settings), ENVIRON))
        return started[-1]

    yield start
    for running in started:
        await running.close()


def daemon(path: Path, settings: Settings, log: Path | None = None) -> tuple[Daemon, int]:
    """A daemon that has not started, and the descriptor of its log, which the caller closes."""
    path.write_text(yaml.safe_dump(settings))
    log_fd = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return Daemon(path, environ=ENVIRON, log_fd=log_fd), log_fd


def log_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "access-log"]


async def admin(router: RunningRouter, path: str, method: str = "GET") -> tuple[int, Any]:
    url = "http://{}:{}{}".format(*router.daemon.admin_address, path)
    async with aiohttp.ClientSession() as session, session.request(method, url) as answer:
        return answer.status, await answer.json()


def reloads(router: RunningRouter) -> list[ConfigReloaded]:
    return [event for event in router.events if isinstance(event, ConfigReloaded)]


# Start


@pytest.mark.parametrize("setting", ["listen", "admin"])
async def test_a_start_that_cannot_bind_leaves_nothing_behind(tmp_path: Path, setting: str) -> None:
    """With either address taken `start` raises OSError, and then no address is served and no thread writes a log."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        started, log_fd = daemon(tmp_path / "router.yaml", config(NOWHERE) | {setting: address})
        with pytest.raises(OSError, match=f"{setting} {address}: Address already in use"):
            await started.start()
    os.close(log_fd)
    assert log_threads() == []
    if started.data_address[1]:
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(started.data_address)


async def test_a_start_with_a_faulty_file_binds_nothing(tmp_path: Path) -> None:
    """Every fault is in the one error, and no address was bound before it was raised."""
    settings = config(NOWHERE, errors={"code_style": "roman"}, stop={"notice": "soon"})
    started, log_fd = daemon(tmp_path / "router.yaml", settings)
    with pytest.raises(ConfigError) as raised:
        await started.start()
    os.close(log_fd)
    assert ["errors.code_style" in fault or "stop.notice" in fault for fault in raised.value.faults] == [True, True]
    assert started.data_address == ("", 0)
    assert log_threads() == []


# Live change


async def test_needs_restart_compares_with_the_start(router: StartRouter, upstream: ScriptedUpstream) -> None:
    """A setting that is read at the start alone is named by every reload until the file says again what it was."""
    running = await router()
    first = await running.reload(config(upstream, log={"queue_max": 9}))
    later = await running.reload(config(upstream, log={"queue_max": 9}, debug={"headers": True}))
    back = await running.reload(config(upstream, debug={"headers": True}))
    assert [it.needs_restart for it in (first, later, back)] == [("log.queue_max",), ("log.queue_max",), ()]
    assert {it.result for it in (first, later, back)} == {"applied"}
    assert (await running.post()).status == 200


async def test_an_edited_file_is_noticed(router: StartRouter, upstream: ScriptedUpstream) -> None:
    """With `reload.watch` an edit applies by itself; a faulty one is told once, not at every look."""
    watch = {"watch": True, "interval": "5ms"}
    running = await router(reload=watch)
    running.reloads += 1
    running.path.write_text("listen: [\n")
    await until(lambda: [it.result for it in reloads(running)] == ["rejected"], "the fault to be noticed")
    running.path.write_text(yaml.safe_dump(config(upstream, reload=watch, debug={"headers": True})))
    await until(lambda: [it.result for it in reloads(running)] == ["rejected", "applied"], "the edit to be noticed")
    assert (await running.post()).header("x-router-upstream") == "first"


async def test_a_reload_over_http_is_the_same_reload(router: StartRouter, upstream: ScriptedUpstream) -> None:
    """`POST /-/reload` applies the file, and `GET /-/config` shows the new digest and settings, without secrets."""
    running = await router()
    before = running.daemon.digest
    running.reloads += 1
    running.path.write_text(yaml.safe_dump(config(upstream, debug={"headers": True})))
    status, event = await admin(running, "/-/reload", "POST")
    assert (status, event["result"]) == (200, "applied")
    assert event["digest"] == running.daemon.digest != before
    status, shown = await admin(running, "/-/config")
    assert (status, shown["hash"], shown["config"]["debug"]) == (200, event["digest"], {"headers": True})
    assert shown["config"]["upstreams"]["first"]["api_key"] == {"env": "UPSTREAM_SECRET"}
    assert not [secret for secret in ENVIRON.values() if secret in json.dumps(shown)]


async def test_a_secret_that_comes_later_is_noticed(router: StartRouter, upstream: ScriptedUpstream) -> None:
    """An edit that refers to a file which is not there yet is refused, and applies by itself once the file is there."""
    watch = {"watch": True, "interval": "5ms"}
    running = await router(reload=watch)
    running.reloads += 1
    edit = config(upstream, reload=watch, upstream={"api_key": {"file": "later"}})
    running.path.write_text(yaml.safe_dump(edit))
    await until(lambda: [it.result for it in reloads(running)] == ["rejected"], "the edit to be refused")
    running.path.with_name("later").write_text(OTHER_SECRET)
    await until(lambda: [it.result for it in reloads(running)] == ["rejected", "applied"], "the secret to be noticed")
    assert (await running.post()).status == 200
    assert upstream.received[0].values("authorization") == [b"Bearer " + OTHER_SECRET.encode()]


async def test_a_rotated_secret_is_noticed(router: StartRouter, upstream: ScriptedUpstream) -> None:
    """The content of a secret's file is watched as well, from the reload on that first refers to it."""
    watch = {"watch": True, "interval": "5ms"}
    running = await router(reload=watch)
    secret = running.path.with_name("secret")
    secret.write_text(UPSTREAM_SECRET)
    await running.reload(config(upstream, reload=watch, upstream={"api_key": {"file": "secret"}}))
    secret.write_text("sk-short-lived")
    await until(lambda: len(reloads(running)) == 2, "the secret to be noticed")
    secret.write_text(OTHER_SECRET)
    await until(lambda: len(reloads(running)) == 3, "the next secret to be noticed")
    assert (await running.post()).status == 200
    assert upstream.received[0].values("authorization") == [b"Bearer " + OTHER_SECRET.encode()]


async def test_reloads_at_once_come_one_after_the_other(router: StartRouter, upstream: ScriptedUpstream) -> None:
    """Of many reloads of one edit, asked for together, exactly one applies it."""
    running = await router()
    running.reloads += 1
    running.path.write_text(yaml.safe_dump(config(upstream, debug={"headers": True})))
    results = await asyncio.gather(*(running.daemon.reload() for _ in range(5)))
    assert sorted(it.result for it in results) == ["applied", *["unchanged"] * 4]


# Events


async def test_a_consumer_that_raises_harms_nobody(router: StartRouter, caplog: pytest.LogCaptureFixture) -> None:
    """The request is answered, the consumers after it see the event, the books balance, and the fault is logged."""
    running = await router()
    seen: list[Event] = []

    def broken(event: Event) -> NoReturn:
        raise ValueError(type(event).__name__)

    running.daemon.subscribe(broken)
    running.daemon.subscribe(seen.append)
    assert [(await running.post()).status for _ in range(2)] == [200, 200]
    assert seen == running.ended
    assert len(seen) == 2
    assert caplog.text.count("a consumer of events failed") == 2


async def test_the_access_log_may_be_turned_off(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Without `log.access` requests make no lines; what an operator must know still does."""
    log = tmp_path / "router.log"
    started, log_fd = daemon(tmp_path / "router.yaml", config(upstream, log={"access": False}), log)
    await started.start()
    async with await Client.connect(started.data_address) as client:
        await client.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await client.answer("GET")).status == 200
    await started.reload()
    await started.stop(hurry=True)
    os.close(log_fd)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["notice", "reload", "notice", "notice"]


# Drain and stop


async def test_draining_is_not_ready_and_still_serves(router: StartRouter) -> None:
    """From the drain on `/readyz` is 503 and says why, `/healthz` stays 200, and requests are answered as before."""
    running = await router()
    assert await admin(running, "/readyz") == (200, {"status": "ready"})
    assert await admin(running, "/-/drain", "POST") == (202, {"status": "draining"})
    assert await admin(running, "/readyz") == (503, {"status": "not ready", "reason": "draining"})
    assert (await admin(running, "/healthz"))[0] == 200
    answer = await running.post()
    assert (answer.status, answer.body) == (200, chat.completion())


async def test_a_stopping_daemon_is_not_ready(router: StartRouter, upstream: ScriptedUpstream) -> None:
    """While requests finish, the admin listener still answers: probes see 503, Prometheus its last scrape."""
    go_on = asyncio.Event()
    upstream.always(play(wait_for(go_on), json_answer()))
    running = await router()
    client = await running.open()
    await upstream.asked()
    running.stopped = True
    stop = asyncio.get_running_loop().create_task(running.daemon.stop())
    await until(lambda: not running.daemon.ready()[0])
    assert await admin(running, "/readyz") == (503, {"status": "not ready", "reason": "draining"})
    go_on.set()
    assert (await client.answer()).status == 200
    await stop
    with pytest.raises(aiohttp.ClientConnectorError):
        await admin(running, "/readyz")


async def test_stopping_twice_is_stopping_once(router: StartRouter, upstream: ScriptedUpstream) -> None:
    """Everyone who stops waits for the same end, also after it; the notices of it are written once."""
    upstream.always(stall())
    running = await router(stop={"notice": "1ms", "drain": "50ms"})
    client = await running.open()
    await upstream.asked()
    running.stopped = True
    await asyncio.gather(running.daemon.stop(), running.daemon.stop())
    await running.daemon.stop()
    assert (await client.answer()).status == 503
    assert running.log_path.read_text().count('"message":"stopped"') == 1
    assert log_threads() == []
