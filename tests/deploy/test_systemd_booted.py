"""The units of deploy/systemd under a systemd that runs: sandbox, credentials, reload, drain, watchdog, sockets."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.deploy.box import Box, booted
from tests.harness import chat
from tests.harness.client import Client, ClosedError, post
from tests.harness.program import PATIENCE_S, ROOT
from tests.harness.router import config
from tests.harness.upstream import ScriptedUpstream, chunks, last_chunk, play, sse_head, wait_for
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

UNIT, SOCKET = "llm-router.service", "llm-router.socket"
SECRET = "sk-of-a-credential"
LOG = "/var/log/llm-router.log"
WELL = "1/1 upstreams healthy, 0 in flight"

ADDED = f"""
[Unit]
DefaultDependencies=no
[Service]
LoadCredential=openai:/etc/llm-router/credentials/openai
StandardOutput=append:{LOG}
StandardError=inherit
WatchdogSec=3
TimeoutStopSec=1
RestartSec=100ms
"""
"""What an operator would add, a log without a journal, and shorter times."""


@dataclass(slots=True)
class Service:
    """The unit as it is installed in the box."""

    box: Box
    upstream: ScriptedUpstream

    def configure(self, **top: Any) -> None:
        """Write the router's file."""
        settings = config(self.upstream, upstream={"api_key": {"credential": "openai"}}) | top
        self.box.path("/etc/llm-router/router.yaml").write_text(yaml.safe_dump(settings))

    async def systemctl(self, verb: str, unit: str = UNIT) -> str:
        return await self.box.systemctl(verb, unit)

    async def show(self, name: str) -> str:
        """A property of the unit."""
        return await self.box.systemctl("show", "--value", "-p", name, UNIT)

    async def shows(self, name: str, pattern: str) -> None:
        """Wait until a property is like this."""
        async with asyncio.timeout(PATIENCE_S):
            while not re.fullmatch(pattern, await self.show(name)):  # noqa: ASYNC110 (there is nothing to be told by)
                await asyncio.sleep(0.05)

    async def logs(self, setting: str, beginning: str, number: int = 1) -> dict[str, Any]:
        """Wait until a line in which `setting` begins so stands in the log for the `number`th time."""

        def found() -> list[dict[str, Any]]:
            lines = self.box.path(LOG).read_text().splitlines()
            logged = [json.loads(line) for line in lines if line.startswith("{")]
            return [line for line in logged if line.get(setting, "").startswith(beginning)]

        await until(lambda: len(found()) >= number, f"{beginning!r} in the log", patience_s=PATIENCE_S)
        return found()[number - 1]

    async def address(self, start: int = 1) -> tuple[str, int]:
        """Where clients connect after the `start`th start."""
        listening = await self.logs("message", "listening on ", start)
        host, _, port = listening["message"].removeprefix("listening on ").rpartition(":")
        return host, int(port)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    upstream = ScriptedUpstream()
    async with booted(tmp_path) as box:
        await upstream.start()
        for name in (UNIT, SOCKET):
            shutil.copy(ROOT / "deploy/systemd" / name, box.path("/box"))
        for name, text in ((UNIT, ADDED), (SOCKET, ADDED.partition("[Service]")[0])):
            box.path(f"/box/{name}.d").mkdir()
            box.path(f"/box/{name}.d/added.conf").write_text(text)
        credential = box.path("/etc/llm-router/credentials/openai")
        credential.parent.mkdir(mode=0o700)
        credential.write_text(SECRET)
        credential.chmod(0o600)
        await box.systemctl("daemon-reload")
        installed = Service(box, upstream)
        installed.configure()
        yield installed
        await upstream.close()


async def ask(address: tuple[str, int]) -> bytes:
    """Send a chat request; the body of its answer."""
    async with await Client.connect(address) as client:
        await client.send(post(chat.request()))
        answer = await client.answer()
    assert answer.status == 200
    return answer.body


async def test_it_serves_from_inside_its_sandbox(service: Service) -> None:
    """The start waits until it serves, as nobody, without capabilities, filtered, with root's secret in its hands."""
    await service.systemctl("start")
    assert await service.show("SubState") == "running"
    assert await ask(await service.address()) == chat.completion()
    assert service.upstream.received[0].values("authorization") == [b"Bearer " + SECRET.encode()]
    status = service.box.path(f"/proc/{await service.show('MainPID')}/status").read_text()
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in facts["Uid"].split()
    assert (int(facts["CapEff"], 16), int(facts["CapBnd"], 16)) == (0, 0)
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    await service.shows("StatusText", WELL)
    await service.systemctl("stop")
    assert await service.show("Result") == "success"


async def test_a_reload_fails_with_a_faulty_file_and_changes_nothing(service: Service) -> None:
    """`systemctl reload` applies a good file and says when one is bad; a missing credential shows in the status."""
    await service.systemctl("start")
    main, address = await service.show("MainPID"), await service.address()
    service.configure(debug={"headers": True})
    await service.systemctl("reload")
    await service.logs("result", "applied")
    async with await Client.connect(address) as client:
        await client.send(post(chat.request()))
        assert (await client.answer()).header("x-router-upstream") == "first"
    service.configure(modles={})
    status, _ = await service.box.run("systemctl", "reload", UNIT)
    assert status != 0
    assert await service.show("SubState") == "running"
    service.configure(keys={"team": {"secret": {"credential": "nobody-has-loaded-this"}}})
    await service.systemctl("reload")
    await service.shows("StatusText", f"{WELL}; the configuration file was refused, .*")
    assert await ask(address) == chat.completion()
    service.configure()
    await service.systemctl("reload")
    await service.shows("StatusText", WELL)
    assert await service.show("MainPID") == main


async def test_a_drain_may_take_longer_than_the_unit_says(service: Service) -> None:
    """A stream that runs on after `TimeoutStopSec=` is not cut: the daemon asks for time as long as it is at work."""
    go_on = asyncio.Event()
    end = chunks(chat.finish(), chat.DONE)
    service.upstream.always(play(sse_head(), chunks(chat.token("a")), wait_for(go_on), end, last_chunk()))
    service.configure(stop={"notice": "1ms", "drain": "1m"})
    await service.systemctl("start")
    async with await Client.connect(await service.address()) as client:
        await client.send(post(chat.request(stream=True)))
        await client.head()
        await client.until(b'"a"')
        await service.box.systemctl("--no-block", "stop", UNIT)
        await service.shows("SubState", "stop-sigterm")
        await asyncio.sleep(3)  # longer than `TimeoutStopSec=`
        assert await service.show("SubState") == "stop-sigterm"
        go_on.set()
        assert (await client.rest()).events[-1] == chat.DONE
    await service.shows("ActiveState", "inactive")
    assert await service.show("Result") == "success"


async def test_one_that_is_stuck_is_replaced(service: Service) -> None:
    """A daemon that does not turn starves its watchdog, is ended, and the next one serves."""
    await service.systemctl("start")
    await service.address()
    stuck = await service.show("MainPID")
    await service.box.run("kill", "-STOP", stuck)
    address = await service.address(start=2)
    assert await service.show("MainPID") != stuck
    assert await service.show("NRestarts") == "1"
    assert await ask(address) == chat.completion()


async def test_a_faulty_file_is_not_tried_again(service: Service) -> None:
    """After exit status 78 the unit has failed, and stays so until somebody mends the file."""
    service.configure(modles={})
    status, _ = await service.box.run("systemctl", "start", UNIT)
    assert status != 0
    assert await service.show("ExecMainStatus") == "78"
    await asyncio.sleep(0.5)  # longer than `RestartSec=`
    assert (await service.show("ActiveState"), await service.show("NRestarts")) == ("failed", "0")
    service.configure()
    await service.systemctl("start")
    assert await ask(await service.address()) == chat.completion()


async def test_with_the_socket_a_restart_refuses_nobody(service: Service) -> None:
    """systemd listens before the service runs, which starts with the first client; clients who come in between wait."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = ("127.0.0.1", free.getsockname()[1])
    listen = f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{address[1]}\n"
    service.box.path(f"/box/{SOCKET}.d/port.conf").write_text(listen)
    await service.box.systemctl("daemon-reload")
    await service.systemctl("start", SOCKET)
    assert await service.show("ActiveState") == "inactive"
    assert await ask(address) == chat.completion()
    assert (await service.logs("message", "took over"))["detail"] == f"listen 127.0.0.1:{address[1]}"
    restart = asyncio.gather(service.systemctl("restart"))
    asked = 0
    async with asyncio.timeout(PATIENCE_S):
        while not restart.done() or not asked:
            with suppress(ClosedError):  # the drain found a connection before its request came: clients ask again
                assert await ask(address) == chat.completion()
                asked += 1
        await restart
    assert await service.address(start=2) == address
