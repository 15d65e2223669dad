"""`llm-router reload`, typed, with a real daemon."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.commands.operating import ask, write
from tests.harness.program import command, running
from tests.harness.router import config

if TYPE_CHECKING:
    from pathlib import Path

FIRST, SECOND = "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "router.yaml"


async def test_what_changed_is_told(path: Path) -> None:
    """An edit that applies is told setting by setting once it has; the same file again is unchanged."""
    write(path, config(FIRST))
    async with running(path) as router:
        write(path, config(FIRST, SECOND, log={"queue_max": 5}))
        status, text, errors = await ask(router, "reload")
        assert (status, errors) == (0, "")
        head, *lines = text.splitlines()
        digest = (await router.line("reload"))["digest"]
        assert head == f"applied (hash {digest[:12]})"
        assert lines == [
            "+ upstreams.second", "+ models.m.pool[1] (upstream second)", "~ log.queue_max 10000 → 5",
            "needs a restart: log.queue_max",
        ]  # fmt: skip
        status, text, _ = await ask(router, "reload")
        assert (status, text) == (0, f"unchanged: the daemon runs what the file says (hash {digest[:12]})\n")


async def test_a_refused_file_is_told(path: Path) -> None:
    """The faults come with file, line and column on standard error, and status 1: all is as it was."""
    write(path, config(FIRST))
    async with running(path) as router:
        write(path, "listen: 127.0.0.1:0\nmodles: {}\n")
        status, text, errors = await ask(router, "reload")
        assert (status, text) == (1, "")
        assert f"{path}:2:1: modles: unknown setting, did you mean 'models'?" in errors.splitlines()
        assert errors.splitlines()[-1].endswith("refused, nothing has changed. Mend the file and reload again")
        status, text, _ = await ask(router, "reload", "--json")
        told = json.loads(text)
        assert (status, told["result"], told["changes"]) == (1, "rejected", [])
        assert any(":2:1: modles:" in fault for fault in told["faults"])


async def test_a_change_that_is_not_shown_is_said(path: Path) -> None:
    """A new remark or a rotated secret is applied, and not told as nothing at all."""
    write(path, text := yaml.safe_dump(config(FIRST)))
    async with running(path) as router:
        write(path, f"# a remark\n{text}")
        status, text, _ = await ask(router, "reload")
        assert (status, text.splitlines()[1:]) == (
            0,
            ["no setting is another; a remark, or what stands in a secret or file, is"],
        )


async def test_an_admin_address_that_moves(path: Path) -> None:
    """A reload that takes the admin listener elsewhere has been applied, and is told so, if not what changed."""
    before, after = (str(path.with_name(name)) for name in ("before.sock", "after.sock"))
    write(path, config(FIRST, admin=f"unix:{before}"))
    async with running(path):
        write(path, config(FIRST, admin=f"unix:{after}"))
        status, text, errors = await command("reload", "--admin", f"unix:{before}")
        assert (status, errors) == (0, "")
        assert text.startswith("applied (hash ")
        assert text.splitlines()[1:] == ["what changed cannot be asked: its admin address is another now"]
        assert (await command("reload", "-c", path))[1].startswith("unchanged")


async def test_nobody_there(path: Path) -> None:
    """Without a daemon: three lines, what, why and what to do, and status 69."""
    write(path, config(FIRST, admin="127.0.0.1:1"))
    status, text, errors = await command("reload", "-c", path)
    assert (status, text) == (69, "")
    assert errors.splitlines() == [
        "the daemon cannot be reached at 127.0.0.1:1", "Connection refused",
        "is it running there? say where with --admin ADDRESS, or with -c FILE whose `admin` setting it is",
    ]  # fmt: skip
