"""Where the router will listen: free, held by a router, held by something else, not ours to take."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from router.config import loader
from router.doctor import places
from router.doctor.findings import Notes, Result
from tests.doctor.examining import PATIENCE_S, SOON_S, results, serving
from tests.harness.router import ENVIRON, RunningRouter
from tests.harness.router import config as router_config

if TYPE_CHECKING:
    from pathlib import Path

    from router.config.schema import Config


def config(folder: Path, **top: Any) -> Config:
    text = yaml.safe_dump(serving("http://127.0.0.1:1/v1") | top)
    return loader.parse(text, "router.yaml", directory=folder, environ={}).config


async def looked_at(folder: Path, timeout_s: float = PATIENCE_S, **top: Any) -> Notes:
    notes = Notes("machine")
    await places.examine(notes, config(folder, **top), timeout_s)
    return notes


async def test_free_addresses_are_free(tmp_path: Path) -> None:
    """Ports that nobody has, one that the kernel chooses, every interface and a socket in a folder of ours."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    listen = [f"127.0.0.1:{port}", "unix:router.sock"]
    notes = await looked_at(tmp_path, listen=listen, admin=":0")
    socket_check = f"listen unix:{tmp_path}/router.sock"
    assert results(notes, "machine") == [(f"listen 127.0.0.1:{port}", "ok"), (socket_check, "ok"), ("admin :0", "ok")]
    assert not (tmp_path / "router.sock").exists()
    with socket.create_server(("127.0.0.1", port)):
        pass  # what was tried is let go


async def test_a_stranger_on_the_port_fails(tmp_path: Path) -> None:
    """Something listens and does not answer like a router: it is to be stopped, or the setting changed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        notes = await looked_at(tmp_path, admin=where, timeout_s=SOON_S)
    [finding] = [each for each in notes.findings if each.check == f"admin {where}"]
    assert finding.result is Result.FAIL
    assert "no router" in finding.found
    assert where.rpartition(":")[2] in finding.cure


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nWelcome",
        b'HTTP/1.1 503 No\r\n\r\n{"status":"ok"}',
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000,
        b"",
    ],
    ids=["page", "status", "endless", "nothing"],
)
async def test_another_server_is_no_router(tmp_path: Path, answer: bytes) -> None:
    """Only a router's own words count, and they are short."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        notes = await looked_at(tmp_path, listen=where)
    assert results(notes, "machine")[0] == (f"listen {where}", "fail")


async def test_a_running_router_is_recognised(tmp_path: Path) -> None:
    """Its addresses are held by itself, over TCP and over a unix socket: that is as it should be."""
    (tmp_path / "running").mkdir()
    settings = router_config("http://127.0.0.1:1/v1", listen=["127.0.0.1:0", f"unix:{tmp_path}/router.sock"])
    running = await RunningRouter.start(tmp_path / "running", settings, ENVIRON)
    try:
        listen, admin = (f"{host}:{port}" for host, port in (running.daemon.data_address, running.daemon.admin_address))
        notes = await looked_at(tmp_path, listen=[listen, "unix:router.sock"], admin=admin)
    finally:
        await running.close()
    assert [each.result for each in notes.findings] == [Result.OK] * 3
    assert all("held by a router" in each.found for each in notes.findings), notes.findings


async def test_an_address_of_another_machine_fails(tmp_path: Path) -> None:
    """What cannot be bound is told in the system's words."""
    notes = await looked_at(tmp_path, admin="192.0.2.1:9464")
    assert results(notes, "machine")[1] == ("admin 192.0.2.1:9464", "fail")
    assert "assign requested address" in notes.findings[1].found


async def test_a_name_that_nobody_knows_fails(tmp_path: Path) -> None:
    """A host that does not resolve is no address to listen at."""
    notes = await looked_at(tmp_path, admin="name.invalid:9464")
    assert results(notes, "machine")[1] == ("admin name.invalid:9464", "fail")


async def test_a_socket_in_a_folder_that_is_missing_fails(tmp_path: Path) -> None:
    """The folder must be there; a socket that a dead process left behind must not be gone."""
    notes = await looked_at(tmp_path, admin="unix:nowhere/admin.sock")
    assert notes.findings[1].result is Result.FAIL
    assert "nowhere" in notes.findings[1].found
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(os.fspath(tmp_path / "left.sock"))
    notes = await looked_at(tmp_path, admin="unix:left.sock")
    assert notes.findings[1].result is Result.OK


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
async def test_a_folder_of_somebody_else_fails(tmp_path: Path) -> None:
    """A socket cannot be made where nothing may be written."""
    (tmp_path / "theirs").mkdir(mode=0o500)
    notes = await looked_at(tmp_path, admin="unix:theirs/admin.sock")
    assert "may not listen there" in notes.findings[1].found
