"""`llm-router config`, typed: what is shown, and what is another. The default of `show` is in tests/test_cli.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from router.config.json_schema import rendered
from tests.commands.operating import at, write
from tests.harness.program import command, running
from tests.harness.router import UPSTREAM_SECRET, config

if TYPE_CHECKING:
    from pathlib import Path

FIRST, SECOND = "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "router.yaml"


async def test_effective_is_the_default(path: Path) -> None:
    """`--effective` says what `show` does without it; `--json` prints the same as JSON; neither shows a secret."""
    write(path, config(FIRST))
    plain = await command("config", "show", "-c", path)
    assert plain[0] == 0
    assert await command("config", "show", "--effective", "-c", path) == plain
    status, text, _ = await command("config", "show", "--json", "-c", path)
    assert (status, json.loads(text)) == (0, yaml.safe_load(plain[1]))
    assert UPSTREAM_SECRET not in text + plain[1]


async def test_a_file_for_another_machine_is_shown(path: Path) -> None:
    """With `--no-env` no secret need be there."""
    write(path, config(FIRST, upstream={"api_key": {"env": "NOBODY_HAS_SET_THIS"}}))
    assert (await command("config", "show", "-c", path))[0] == 78
    assert (await command("config", "show", "--no-env", "-c", path))[0] == 0


async def test_what_is_another_than_in_another_file(path: Path) -> None:
    """`--diff OTHER` tells what leads from that file to this one, and its status whether anything does."""
    other = path.with_name("other.yaml")
    write(path, config(FIRST, SECOND, model={"choose": "round_robin"}))
    write(other, config(FIRST, debug={"headers": True}))
    status, text, errors = await command("config", "show", "-c", path, "--diff", other)
    assert (status, errors) == (1, "")
    assert text.splitlines() == [
        "+ upstreams.second", "+ models.m.pool[1] (upstream second)", "~ models.m.choose two_choices → round_robin",
        "~ debug.headers true → false",
    ]  # fmt: skip
    assert await command("config", "show", "-c", path, "--diff", path) == (0, "no setting is another\n", "")
    status, text, _ = await command("config", "show", "-c", path, "--diff", other, "--json")
    assert status == 1
    assert json.loads(text)[0] == {
        "sign": "+", "path": ["upstreams", "second"], "text": "+ upstreams.second", "needs_restart": False,
    }  # fmt: skip


async def test_what_is_another_than_in_the_daemon(path: Path) -> None:
    """`--diff` asks the daemon what runs, and says what a reload would change, and what only a restart."""
    write(path, config(FIRST))
    async with running(path) as router:
        assert (await command("config", "show", "-c", path, "--diff", *at(router)))[:2] == (
            0,
            "no setting is another\n",
        )
        write(path, config(FIRST, log={"queue_max": 5}, debug={"headers": True}))
        assert await command("config", "show", "-c", path, *at(router), "--diff") == (
            1,
            "~ log.queue_max 10000 → 5  (needs a restart)\n~ debug.headers false → true\n",
            "",
        )


async def test_faults_of_either_file_are_told(path: Path) -> None:
    """A faulty file is told with its place whichever it is: status 78, and not a difference."""
    other = path.with_name("other.yaml")
    write(path, config(FIRST))
    write(other, config(FIRST, debug={"haeders": True}))
    for one, two in ((path, other), (other, path)):
        status, text, errors = await command("config", "show", "-c", one, "--diff", two)
        assert (status, text) == (78, "")
        assert errors.startswith(f"{other}:")


async def test_all_or_what_changed(path: Path) -> None:
    """Asked for both, it says that it is one or the other."""
    status, _, errors = await command("config", "show", "-c", path, "--effective", "--diff", path)
    assert status == 2
    assert "--effective" in errors.splitlines()[-1]


async def test_the_schema_is_printed() -> None:
    """`config schema` needs no configuration, and prints what is committed for editors."""
    assert await command("config", "schema") == (0, rendered(), "")
