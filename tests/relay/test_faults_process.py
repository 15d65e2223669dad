"""Faults of the process and its surroundings that no other file shows survived (RELIABILITY 6.7 and 6.8).

`tests/catalogue.py` names the others. Where the process itself has to suffer, it is the real program.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import signal
import socket
import sys
import threading
import time
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from router.app import Daemon
from router.events import UpstreamEjected
from router.relay.service import Snapshot
from tests.harness import chat
from tests.harness.client import Client, ClosedError, Ending, post
from tests.harness.program import PATIENCE_S, ROOT, running
from tests.harness.router import CLIENT_SECRET, ENVIRON, UPSTREAM_SECRET, RunningRouter, config
from tests.harness.upstream import (
    ScriptedUpstream,
    Turn,
    chunks,
    error,
    head,
    json_answer,
    last_chunk,
    play,
    sse_head,
    stall,
    wait_for,
)
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.relay.conftest import StartRouter


BARE: dict[str, Any] = {"folder": "/", "environ": {"PYTHONPATH": str(ROOT), "UPSTREAM_SECRET": UPSTREAM_SECRET}}
"""Next to no environment, in the root folder."""


async def ask(address: tuple[str, int], body: bytes | None = None) -> Client:
    """A client that has sent a request."""
    client = await Client.connect(address)
    await client.send(post(chat.request() if body is None else body))
    return client


def begun(go_on: asyncio.Event) -> Any:
    """A stream that has begun, and ends when it is told to."""
    return play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())


# Change


async def test_old_configurations_are_let_go(router: StartRouter, first: ScriptedUpstream) -> None:
    """However often the file changes, what runs is kept, and what streams that began before still need (G12)."""
    go_on = asyncio.Event()
    first.then(begun(go_on))
    started = await router(first)

    def snapshots() -> int:
        gc.collect()
        return sum(isinstance(each, Snapshot) for each in gc.get_objects())

    before = snapshots()
    stream = await started.open(chat.request(stream=True))
    await stream.head()
    for number in range(10):
        event = await started.reload(config(first, requests={"body_max": 1_000_000 + number}))
        assert event.result == "applied"
    assert snapshots() == before + 1
    go_on.set()
    assert (await stream.rest()).ending is Ending.CLEAN
    await stream.leave()
    await started.rest()
    assert snapshots() == before


async def test_a_rolling_restart_costs_nobody_an_error(first: ScriptedUpstream, tmp_path: Path) -> None:
    """Of two replicas one at a time is stopped and started: who turns to the other one is always answered (O5)."""
    over = asyncio.Event()
    first.always(play(lambda _: asyncio.sleep(0.005), json_answer()))

    async def start(name: str) -> RunningRouter:
        folder = tmp_path / name
        folder.mkdir()
        return await RunningRouter.start(folder, config(first), ENVIRON)

    replicas = [await start("a"), await start("b")]
    everybody = list(replicas)
    statuses: list[int] = []

    async def use(number: int) -> None:
        client, fresh = None, True
        while not over.is_set():
            if client is None:
                try:
                    client, fresh = await replicas[number % 2].connect(), True
                except OSError:
                    client, fresh = await replicas[1 - number % 2].connect(), True
            await client.send(post(chat.request()))
            try:
                answer = await client.answer()
            except ClosedError:
                assert not fresh, "a kept connection may close under a request, a new one may not"
                client = None
                continue
            statuses.append(answer.status)
            client, fresh = (None, True) if answer.header("connection") == "close" else (client, False)

    async def more(requests: int) -> None:
        enough = len(statuses) + requests
        await until(lambda: len(statuses) >= enough, f"{requests} more answers")

    users = [asyncio.get_running_loop().create_task(use(number)) for number in range(10)]
    for place in (0, 1):
        await more(50)
        old = replicas[place]
        old.stopped = True
        await old.daemon.stop()
        await more(50)
        replicas[place] = await start(f"again{place}")
        everybody.append(replicas[place])
    over.set()
    await asyncio.gather(*users)
    for replica in everybody:
        await replica.close()
    assert set(statuses) == {200}


async def test_after_a_kill_the_next_start_is_clean(first: ScriptedUpstream, tmp_path: Path) -> None:
    """Who was served sees a cut answer, not a whole one; the next process has the address and nothing to mend (O3)."""
    path = tmp_path / "router.yaml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
    path.write_text(yaml.safe_dump(config(first, listen=f"127.0.0.1:{address[1]}")))
    first.then(play(sse_head(), chunks(chat.token("a")), stall()))
    async with running(path) as killed:
        stream = await ask(address, chat.request(stream=True))
        await stream.head()
        await stream.until(b'"a"')
        killed.signal(signal.SIGKILL)
        assert (await stream.rest()).ending is Ending.ABORTED
        await first.received[0].left()
    async with running(path) as again:
        answer = await (await ask(address)).answer()
        assert (answer.status, answer.body) == (200, chat.completion())
        again.signal(signal.SIGTERM)
        assert await again.end() == 0


# Scarcity


async def test_without_descriptors_what_runs_goes_on(first: ScriptedUpstream, tmp_path: Path) -> None:
    """More clients than there are file descriptors: streams go on, newcomers are served, the idle make room (O8)."""
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(config(first)))
    go_on = asyncio.Event()
    first.then(begun(go_on))
    async with running(path, limit="-n 96", **BARE) as scarce:
        stream = await ask(scarce.address, chat.request(stream=True))
        await stream.head()
        crowd = [await Client.connect(scarce.address) for _ in range(200)]
        await until(lambda: sum(client.closed.is_set() for client in crowd) > 180, "most to have made room")
        for _ in range(3):
            assert (await (await ask(scarce.address)).answer()).status == 200
        go_on.set()
        assert (await stream.rest()).ending is Ending.CLEAN
        for client in crowd:
            client.transport.abort()
        scarce.signal(signal.SIGTERM)
        assert await scarce.end() == 0


async def test_it_starts_where_nothing_can_be_written(first: ScriptedUpstream, tmp_path: Path) -> None:
    """Without a home, in a folder that is not its own, unable to write one byte to a file, it serves (O24)."""
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(config(first)))
    async with running(path, limit="-f 0", **BARE) as poor:
        assert (await (await ask(poor.address)).answer()).body == chat.completion()
        poor.signal(signal.SIGTERM)
        assert await poor.end() == 0


@asynccontextmanager
async def logging_to(log_fd: int, first: ScriptedUpstream, tmp_path: Path, **settings: Any) -> AsyncIterator[Daemon]:
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(config(first, **settings)))
    daemon = Daemon(path, environ=ENVIRON, log_fd=log_fd)
    await daemon.start()
    try:
        yield daemon
    finally:
        await daemon.stop(hurry=True)
        os.close(log_fd)


async def answered(daemon: Daemon, times: int) -> None:
    async with await Client.connect(daemon.data_address) as client:
        for _ in range(times):
            await client.send(post(chat.request()))
            assert (await client.answer()).status == 200


async def test_a_full_disk_costs_lines_of_the_log_only(first: ScriptedUpstream, tmp_path: Path) -> None:
    """Every request is answered; what could not be written is counted where operators see it (O9)."""
    async with logging_to(os.open("/dev/full", os.O_WRONLY), first, tmp_path) as daemon:
        await answered(daemon, 50)
        await until(lambda: daemon._log.dropped >= 50, "the lines to be counted")
        assert b"llm_router_access_log_dropped_total 5" in daemon._metrics.render("text/plain")[0]


async def test_a_log_that_nobody_reads_holds_nobody_up(first: ScriptedUpstream, tmp_path: Path) -> None:
    """With standard output stuck requests are served at their pace, and lines beyond the queue are lost (O10)."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    async with logging_to(writer, first, tmp_path, log={"queue_max": 20}) as daemon:
        await answered(daemon, 200)
        await until(lambda: daemon._log.dropped > 100, "lines to be lost")

        def read_on() -> None:
            while os.read(reader, 65536):
                pass
            os.close(reader)

        threading.Thread(target=read_on, daemon=True).start()


# Time


async def test_a_jump_of_the_wall_clock_changes_no_decision(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour back, a day on: who is out stays out, what is used up stays used up, streams go on (O12, O22)."""
    go_on, real = asyncio.Event(), time.time
    first.always(error(429, None, "retry-after: 60"))
    second.then(begun(go_on))
    limits = {"requests_per_minute": 1}
    started = await router(
        first, second, keys={"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": limits}, "other": OTHER}
    )
    stream = await started.open(chat.request(stream=True), key=CLIENT_SECRET)
    await stream.head()
    for jump_s in (-3600, 86_400):
        monkeypatch.setattr(time, "time", lambda jump_s=jump_s: real() + jump_s)
        refused = await started.post(key=CLIENT_SECRET)
        assert refused.status == 429
        assert 1 <= int(refused.header("retry-after") or 0) <= 60
        assert (await started.post(key=ENVIRON["OTHER_SECRET"])).status == 200
        assert started.ended[-1].upstream == "second"
        assert 0 <= started.ended[-1].duration_s < 10
    assert len(first.received) == 1
    go_on.set()
    assert (await stream.rest()).ending is Ending.CLEAN


OTHER = {"secret": {"env": "OTHER_SECRET"}}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("meanwhile", [True, False], ids=["came_meanwhile", "came_right_after"])
async def test_a_blocked_loop_blames_no_upstream(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, *, stream: bool, meanwhile: bool
) -> None:
    """What comes while nothing runs here, or right after, counts though its deadline is over (O13, O14)."""
    body = chat.completion()
    plain = head(200, chat.CONTENT_TYPE_JSON, f"content-length: {len(body)}") + body
    events = b"".join((*chat.answer("a"), chat.DONE))
    streamed = head(200, chat.CONTENT_TYPE_SSE, f"content-length: {len(events)}") + events

    async def answer_and_block(turn: Turn) -> None:
        await asyncio.sleep(0.02)  # the router has set its deadline
        if meanwhile:
            turn.send_now(streamed if stream else plain)
        time.sleep(0.9)  # noqa: ASYNC251 (that is the fault)
        if not meanwhile:
            for _ in range(3):  # the router sees that it is late
                await asyncio.sleep(0)
            turn.send_now(streamed if stream else plain)

    first.always(answer_and_block)
    timeouts = {"first_byte": "200ms", "first_token": "200ms", "idle": "200ms"}
    started = await router(
        first, second, model={"timeouts": timeouts}, defaults={"ejection": {"consecutive": 1, "min_outcomes": 1}}
    )
    answer = await started.post(chat.request(stream=stream))
    assert (answer.status, answer.body) == (200, events if stream else body)
    assert started.causes(await started.record()) == [("first", "ok")]
    assert not [event for event in started.events if isinstance(event, UpstreamEjected)]


async def test_a_blocked_loop_shows(router: StartRouter, first: ScriptedUpstream) -> None:
    """How long nothing ran here is a metric, so that nobody looks for it at the upstreams (O13)."""
    started = await router(first)
    await started.post()
    time.sleep(1.3)  # noqa: ASYNC251 (as above; housekeeping is due after one second)

    def lag() -> float:
        lines = started.daemon._metrics.render("text/plain")[0].splitlines()
        (line,) = [line for line in lines if line.startswith(b"llm_router_event_loop_lag_seconds_sum")]
        return float(line.split()[-1])

    await until(lambda: lag() > 0.1, "the lag to be seen")


BLOCKING = """
import asyncio, time
from router import process

def something_slow() -> None:
    time.sleep(1)

async def main() -> None:
    process.watch(asyncio.get_running_loop(), 0.3)
    await asyncio.sleep(0.6)
    print("turning", flush=True)
    something_slow()

asyncio.run(main())
"""


async def test_what_blocks_the_loop_is_told() -> None:
    """The stack of what keeps the event loop from turning is on standard error, and only then (O13)."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BLOCKING), cwd=ROOT, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    said, told = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert (process.returncode, said) == (0, b"turning\n")
    assert told.count(b"Timeout") == 1
    assert b"in something_slow" in told


async def test_systemd_is_told_how_we_do(
    first: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ready, reloading since when, ready again, stopping: in this order, as units of `notify-reload` demand (O4)."""
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(config(first)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{tmp_path.name}-{os.getpid()}")
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{tmp_path.name}-{os.getpid()}")
        loop = asyncio.get_running_loop()

        async def told() -> bytes:
            while (said := await asyncio.wait_for(loop.sock_recv(systemd, 4096), PATIENCE_S)).startswith(b"STATUS="):
                pass
            return said

        async with running(path) as started:
            assert await told() == b"READY=1"
            before = time.monotonic_ns() // 1000
            started.signal(signal.SIGHUP)
            reloading, since = (await told()).split(b"\n")
            assert reloading == b"RELOADING=1"
            assert before <= int(since.removeprefix(b"MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
            assert await told() == b"READY=1"
            started.signal(signal.SIGTERM)
            assert (await told()).startswith(b"STOPPING=1\n")
            assert await started.end() == 0


async def test_a_suspended_process_blames_no_upstream(
    first: ScriptedUpstream, second: ScriptedUpstream, tmp_path: Path
) -> None:
    """After SIGSTOP and SIGCONT the answer that came meanwhile counts, though its deadline has passed (O15)."""
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(config(first, second, model={"timeouts": {"first_byte": "300ms"}})))
    go_on = asyncio.Event()
    first.always(play(wait_for(go_on), json_answer()))
    async with running(path) as suspended:
        client = await ask(suspended.address)
        await first.asked()
        suspended.signal(signal.SIGSTOP)
        go_on.set()
        await asyncio.sleep(1.2)  # longer than the deadline and what counts as late
        suspended.signal(signal.SIGCONT)
        assert (await client.answer()).status == 200
        suspended.signal(signal.SIGTERM)
        assert await suspended.end() == 0
    assert [line["upstream"] for line in suspended.log if line["event"] == "exchange"] == ["first"]
    assert second.received == []


# Ourselves, and the network


class Bug:
    """A wire that our own code stumbles over, once."""

    pools = ()

    def __init__(self, wires: dict[str, Any]) -> None:
        self.wires = wires
        self.met = False
        wires["bug"] = self

    def sweep(self, _now: float) -> None:
        del self.wires["bug"]
        self.met = True
        raise RuntimeError("a bug of ours")

    def close(self) -> None:
        """As any wire, at the end."""


async def test_background_work_goes_on_after_a_bug(router: StartRouter, first: ScriptedUpstream) -> None:
    """What fails in the background is told and tried again: it does not end for the rest of the daemon's life (O19)."""
    started = await router(first)
    started.bugs = 2
    for _ in range(2):
        bug = Bug(started.daemon._relay.snapshot.wires)
        await until(lambda bug=bug: bug.met, "housekeeping")  # type: ignore[misc]
    assert (await started.post()).status == 200


async def test_an_address_that_refuses_does_not_hide_the_next(router: StartRouter, first: ScriptedUpstream) -> None:
    """A host with a broken IPv6 address is reached by its other one, at once (O21)."""
    started = await router(f"http://localhost:{first.port}/v1")
    (pool,) = started.daemon._relay.snapshot.wires["first"].pools
    pool._addresses = [("::1", first.port), ("127.0.0.1", first.port)]
    pool._resolved_at = asyncio.get_running_loop().time()
    assert (await started.post()).status == 200
    assert started.causes() == [("first", "ok")]


async def test_variables_for_proxies_are_not_looked_at(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the environment says of proxies changes no way to an upstream: only the configuration does (O23)."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        for spelt in (name, name.lower()):
            monkeypatch.setenv(spelt, f"http://127.0.0.1:{second.port}")
    started = await router(first)
    assert (await started.post()).status == 200
    assert len(first.received) == 1
    assert second.connections == []
