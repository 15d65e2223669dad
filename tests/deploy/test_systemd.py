"""The units of deploy/systemd: judged by systemd's own tools, and the daemon as they run it.

What the manager does with them once it is the real one: test_systemd_booted.py.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from router import process
from router.commands import options
from router.config.schema import Stop
from tests.harness import chat
from tests.harness.client import Client, post
from tests.harness.program import PATIENCE_S, ROOT, Running, command, running
from tests.harness.router import UPSTREAM_SECRET, Settings, config
from tests.harness.upstream import ScriptedUpstream, chunks, last_chunk, play, sse_head, wait_for
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

UNITS = ROOT / "deploy/systemd"
SERVICE = UNITS / "llm-router.service"
SOCKET = UNITS / "llm-router.socket"
PROGRAM = "/opt/llm-router/.venv/bin/llm-router"
CONFIG = "/etc/llm-router/router.yaml"


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def settings(unit: Path, name: str) -> list[str]:
    """The values that a unit gives a setting, in order."""
    return re.findall(rf"(?m)^{name}=(.*)$", unit.read_text())


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    await scripted.start()
    yield scripted
    await scripted.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "router.yaml"


def write(path: Path, content: Settings) -> None:
    path.write_text(yaml.safe_dump(content))


# The files


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A root folder with the units, and a program where they look for it."""
    for name in (PROGRAM, "/bin/kill"):
        file = tmp_path / name[1:]
        file.parent.mkdir(parents=True)
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    for unit in (SERVICE, SOCKET):
        shutil.copy(unit, folder)
    return tmp_path


def verify(root: Path, unit: str) -> subprocess.CompletedProcess[str]:
    return run(
        tool("systemd-analyze"), "verify", f"--root={root}", "--man=no", "--recursive-errors=no",
        root / "etc/systemd/system" / unit,
    )  # fmt: skip


@pytest.mark.parametrize("unit", [SERVICE.name, SOCKET.name])
def test_systemd_understands_every_line(installed: Path, unit: str) -> None:
    """`systemd-analyze verify` has nothing to say; and does have, if a setting or the program is not there."""
    ended = verify(installed, unit)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    file = installed / "etc/systemd/system" / unit
    file.write_text(file.read_text().replace("\n[Install]", "NoSuchSetting=yes\n\n[Install]"))
    ended = verify(installed, unit)
    assert ended.returncode != 0
    assert "NoSuchSetting" in ended.stderr


def test_the_service_is_shut_in() -> None:
    """`systemd-analyze security` gives it an exposure of 1.5 of 10 at the most (OPERATIONS 3.3)."""
    ended = run(tool("systemd-analyze"), "security", "--offline=true", "--threshold=15", SERVICE)
    assert ended.returncode == 0, ended.stdout


def test_the_unit_agrees_with_the_program() -> None:
    """Its times, its exit status and its paths are those of the code."""
    (stop_s,), (watchdog_s,) = settings(SERVICE, "TimeoutStopSec"), settings(SERVICE, "WatchdogSec")
    defaults = Stop()
    assert int(stop_s) > defaults.notice + defaults.drain
    assert int(watchdog_s) > 2 * process.BLOCKED_S, "what blocks the loop is written down before it is killed"
    assert settings(SERVICE, "RestartPreventExitStatus") == [str(options.EX_CONFIG)]
    assert settings(SERVICE, "ExecStart") == [f"{PROGRAM} run -c {CONFIG}"]
    assert settings(SOCKET, "FileDescriptorName") == ["http"]


async def test_a_reload_is_checked_first(path: Path) -> None:
    """The first command of `ExecReload=` is silent about a good file, though its credentials cannot be seen.

    About a faulty one it says every fault and fails, so that the second, which signals, is not run.
    """
    checks, then = settings(SERVICE, "ExecReload")
    assert checks.startswith(f"{PROGRAM} check ")
    assert then == "/bin/kill -HUP $MAINPID"
    words = checks.replace(CONFIG, str(path)).split()[1:]
    good = config("http://127.0.0.1:1/v1", upstream={"api_key": {"credential": "openai"}})
    write(path, good)
    assert await command(*words) == (0, "", "")
    write(path, good | {"modles": {}})
    status, _, errors = await command(*words)
    assert status == options.EX_CONFIG
    assert "modles: unknown setting" in errors


# What the daemon asks of the kernel


def allowed_calls() -> set[str]:
    """The system calls that the unit lets through."""
    listing = run(tool("systemd-analyze"), "syscall-filter").stdout
    groups = {
        head: body.split()
        for head, body in re.findall(r"(?m)^(@[\w-]+)\n((?:    .*\n)+)", re.sub(r"    #.*\n", "", listing))
    }

    def spread(name: str) -> set[str]:
        return set().union(*map(spread, groups[name])) if name in groups else {name}

    calls: set[str] = set()
    for line in settings(SERVICE, "SystemCallFilter"):
        named = set().union(*map(spread, line.removeprefix("~").split()))
        calls = calls - named if line.startswith("~") else calls | named
    return calls


async def test_the_filter_lets_through_what_the_daemon_needs(path: Path, upstream: ScriptedUpstream) -> None:
    """From start to end, with requests, a reload and a drain, it makes no system call that the unit forbids.

    A thread of the resolver and the admin listener are among it.
    """
    allowed = allowed_calls()
    assert {"epoll_wait", "accept4", "openat"} <= allowed
    assert not {"setrlimit", "chroot", "mount", "ptrace"} & allowed
    trace = path.with_name("calls")
    write(path, config(upstream, upstream={"base_url": upstream.base_url.replace("127.0.0.1", "localhost")}))
    environ = os.environ | {"UPSTREAM_SECRET": UPSTREAM_SECRET}
    words = (
        tool("strace"),
        "-D",
        "-f",
        "-qq",
        "-o",
        str(trace),
        sys.executable,
        "-m",
        "router",
        "run",
        "-c",
        str(path),
    )
    async with spawned(*words, environ=environ) as router:
        async with await Client.connect(router.address) as client:
            await client.send(post(chat.request()))
            assert (await client.answer()).status == 200
            router.signal(signal.SIGHUP)
            await router.line("reload")
            await client.send(post(chat.request(stream=True)))
            await client.answer()
        async with await Client.connect(router.admin) as client:
            await client.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert (await client.answer("GET")).status == 200
        router.signal(signal.SIGTERM)
        assert await stopped(router) == 0
    made = set(re.findall(r"(?m)^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed)", trace.read_text()))
    assert {"accept4", "connect", "execve"} <= made
    assert made - allowed == set()


# What it is told


@asynccontextmanager
async def spawned(*words: str, environ: dict[str, str]) -> AsyncIterator[Running]:
    """A program that becomes the daemon, once it has logged that it listens; ended with the block at the latest."""
    started = await asyncio.create_subprocess_exec(
        *words, cwd=ROOT, env=environ, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, limit=1 << 20
    )
    router = Running(started)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await router.line("notice")
            yield router
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


class Manager:
    """The socket at which a service manager listens, and all it heard."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)
        self.lines: list[str] = []
        self.environ = os.environ | {"UPSTREAM_SECRET": UPSTREAM_SECRET, "NOTIFY_SOCKET": address}

    def heard(self, line: str) -> int:
        """How often a line with such a beginning was heard."""
        try:
            while True:
                self.lines += self.socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return sum(each.startswith(line) for each in self.lines)

    async def hears(self, line: str, times: int = 1) -> None:
        """Wait until such a line was heard so often."""
        await until(lambda: self.heard(line) >= times, f"{line} in {self.lines}", patience_s=PATIENCE_S)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    listening = Manager(str(tmp_path / "notify"))
    yield listening
    listening.socket.close()


async def test_the_watchdog_is_fed_while_the_loop_turns(
    path: Path, upstream: ScriptedUpstream, manager: Manager
) -> None:
    """Again and again, also while it stops; but not by a process that does not turn."""
    go_on = asyncio.Event()
    upstream.always(
        play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())
    )
    write(path, config(upstream))
    async with running(path, environ=manager.environ | {"WATCHDOG_USEC": "400000"}) as router:
        await manager.hears("READY=1")
        await manager.hears("WATCHDOG=1", 3)
        router.signal(signal.SIGSTOP)
        await until(lambda: is_stopped(router.process.pid), "the process stands")
        fed = manager.heard("WATCHDOG=1")
        await asyncio.sleep(1)  # more than two meals
        assert manager.heard("WATCHDOG=1") == fed
        router.signal(signal.SIGCONT)
        await manager.hears("WATCHDOG=1", fed + 1)
        async with await Client.connect(router.address) as client:
            await client.send(post(chat.request(stream=True)))
            await client.head()
            router.signal(signal.SIGTERM)
            await manager.hears("STOPPING=1")
            await manager.hears("WATCHDOG=1", manager.heard("WATCHDOG=1") + 2)
            go_on.set()
            await client.rest()
        assert await router.end() == 0


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def test_a_drain_asks_for_more_time_and_says_what_it_waits_for(
    path: Path, upstream: ScriptedUpstream, manager: Manager
) -> None:
    """As long as a stream runs, so that `TimeoutStopSec=` does not cut it; and `systemctl status` tells of it."""
    go_on = asyncio.Event()
    upstream.always(
        play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())
    )
    write(path, config(upstream))
    async with running(path, environ=manager.environ) as router, await Client.connect(router.address) as client:
        await manager.hears("STATUS=1/1 upstreams healthy, 0 in flight")
        assert manager.heard("EXTEND_TIMEOUT_USEC=") == 0
        await client.send(post(chat.request(stream=True)))
        await client.head()
        router.signal(signal.SIGTERM)
        await manager.hears("EXTEND_TIMEOUT_USEC=", 3)
        await manager.hears("STATUS=Draining: 1/1 upstreams healthy, 1 in flight")
        go_on.set()
        assert (await client.rest()).events[-1] == chat.DONE
        assert await router.end() == 0
    assert manager.heard("WATCHDOG=1") == 0, "nobody asked for it"


async def test_a_refused_reload_shows_in_the_status(path: Path, upstream: ScriptedUpstream, manager: Manager) -> None:
    """Who looks at the unit sees that the file was refused, until one is accepted."""
    write(path, config(upstream))
    async with running(path, environ=manager.environ) as router:
        write(path, config(upstream) | {"modles": {}})
        router.signal(signal.SIGHUP)
        await manager.hears("RELOADING=1")
        await manager.hears("STATUS=1/1 upstreams healthy, 0 in flight; the configuration file was refused")
        write(path, config(upstream))
        router.signal(signal.SIGHUP)
        await manager.hears("READY=1", 3)
        refused = len(manager.lines)
        await until(
            lambda: manager.heard("STATUS=") and "STATUS=1/1 upstreams healthy, 0 in flight" in manager.lines[refused:]
        )
        router.signal(signal.SIGTERM)
        assert await router.end() == 0


async def test_the_journal_learns_how_bad_a_line_is(path: Path, upstream: ScriptedUpstream) -> None:
    """Where standard output is the journal, a refused file is an error there as well, `journalctl -p err` shows it."""
    write(path, config(upstream))
    log = path.with_name("journal")
    with log.open("wb") as journal:
        there = os.fstat(journal.fileno())
        environ = os.environ | {
            "UPSTREAM_SECRET": UPSTREAM_SECRET, "JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"
        }  # fmt: skip
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "router", "run", "-c", str(path)),
            cwd=ROOT,
            env=environ,
            stdin=DEVNULL,
            stdout=journal,
        )
    try:
        await until(lambda: b'"listening on ' in log.read_bytes(), "it listens", patience_s=PATIENCE_S)
        write(path, {"modles": {}})
        started.send_signal(signal.SIGHUP)
        await until(lambda: b'"rejected"' in log.read_bytes(), "the file is refused", patience_s=PATIENCE_S)
    finally:
        started.kill()
        await started.wait()
    assert [line[:4] for line in log.read_bytes().splitlines()] == [b"<6>{", b"<3>{"]


# What it is handed


@asynccontextmanager
async def activated(path: Path, *names: str, host: str = "127.0.0.1") -> AsyncIterator[tuple[Running, list[int]]]:
    """`llm-router run` as systemd-socket-activate starts it at the first connection; and the ports, by name.

    Raises:
        AssertionError: It ended before it listened; its exit status, and what it said.
    """
    given = free_ports(len(names))
    listen = [word for port in given for word in ("-l", f"{host}:{port}")]
    words = (
        tool("systemd-socket-activate"), *listen, f"--fdname={':'.join(names)}", "-E", "UPSTREAM_SECRET",
        sys.executable, "-m", "router", "run", "-c", str(path),
    )  # fmt: skip
    started = await asyncio.create_subprocess_exec(
        *words, cwd=ROOT, env=os.environ | {"UPSTREAM_SECRET": UPSTREAM_SECRET}, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    assert started.stderr is not None
    router = Running(started)
    try:
        async with asyncio.timeout(PATIENCE_S):
            for port in given:
                assert f":{port} as " in (await started.stderr.readline()).decode()
            async with await Client.connect(("127.0.0.1", given[0])):  # at which the program is started
                if not await logs(router):
                    _, said = await started.communicate()
                    raise AssertionError(started.returncode, said.decode())
                yield router, given
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at: systemd-socket-activate does not let the kernel choose."""
    with ExitStack() as stack:
        bound = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in bound]


async def logs(router: Running) -> bool:
    """Whether the daemon came so far that it wrote its log."""
    try:
        return bool(await router.line("notice"))
    except AssertionError:
        return False


async def completion(address: tuple[str, int]) -> bytes:
    async with await Client.connect(address) as client:
        await client.send(post(chat.request()))
        answer = await client.answer()
    assert answer.status == 200
    return answer.body


async def test_a_socket_stands_in_for_an_address(path: Path, upstream: ScriptedUpstream) -> None:
    """Clients come in by the socket of systemd, `listen` is not bound and may change; the log says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        write(path, config(upstream, listen=listen))
        async with activated(path, "http") as (router, (port,)):
            assert router.address == ("127.0.0.1", port)
            assert (await router.line("notice"))["detail"] == f"listen 127.0.0.1:{port}"
            assert await completion(router.address) == chat.completion()
            write(path, config(upstream, listen="127.0.0.1:1"))
            router.signal(signal.SIGHUP)
            applied = await router.line("reload")
            assert (applied["result"], applied.get("needs_restart")) == ("applied", None), "no restart would bind it"
            router.signal(signal.SIGTERM)
            assert await stopped(router) == 0


async def test_both_listeners_may_be_handed_over(path: Path, upstream: ScriptedUpstream) -> None:
    """By their names, whatever their order; several sockets of one name are one listener."""
    write(path, config(upstream))
    async with activated(path, "http", "admin", "http") as (router, (one, admin, other)):
        assert (router.address, router.admin) == (("127.0.0.1", one), ("127.0.0.1", admin))
        for port in (one, other):
            assert await completion(("127.0.0.1", port)) == chat.completion()
        async with await Client.connect(router.admin) as client:
            await client.send(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert (await client.answer("GET")).status == 200
        router.signal(signal.SIGTERM)
        assert await stopped(router) == 0


async def stopped(router: Running) -> int | None:
    """Its exit status; on standard error is only what systemd-socket-activate said before it became the daemon."""
    _, said = await router.process.communicate()
    assert b"Traceback" not in said, said
    return router.process.returncode


@pytest.mark.parametrize(
    ("names", "host", "word"),
    [
        (("llm-router.socket",), "127.0.0.1", "FileDescriptorName=http or admin"),
        (("http", "metrics"), "127.0.0.1", "'metrics'"),
        (("http",), "0.0.0.0", "without keys anybody could use it"),
    ],
)
async def test_a_socket_that_must_not_be_served_is_told(
    path: Path, upstream: ScriptedUpstream, names: tuple[str, ...], host: str, word: str
) -> None:
    """A wrong name, or a socket that would let anybody in: status 78, with the reason, and systemd tries no more."""
    write(path, config(upstream))
    with pytest.raises(AssertionError) as raised:
        async with activated(path, *names, host=host):
            pass
    status, said = raised.value.args
    assert status == options.EX_CONFIG
    assert word in said
    assert "Traceback" not in said


async def test_keys_cannot_be_taken_away_from_an_open_socket(path: Path, upstream: ScriptedUpstream) -> None:
    """What may not be at the start may not come by a reload either: the file is refused and the keys stay."""
    keys: dict[str, Any] = {"team": {"secret": {"sha256": "0" * 64}}}
    write(path, config(upstream, keys=keys))
    async with activated(path, "http", host="0.0.0.0") as (router, (port,)):
        write(path, config(upstream))
        router.signal(signal.SIGHUP)
        refused = await router.line("reload")
        assert refused["result"] == "rejected"
        assert "without keys" in refused["faults"][0]
        async with await Client.connect(("127.0.0.1", port)) as client:
            await client.send(post(chat.request()))
            assert (await client.answer()).status == 401
        router.signal(signal.SIGTERM)
        assert await stopped(router) == 0
