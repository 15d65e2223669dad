"""`llm-router check`, typed. What it says of single faults is in tests/test_cli.py and tests/config."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.commands.operating import write
from tests.harness.program import command
from tests.harness.router import config

if TYPE_CHECKING:
    from pathlib import Path

ELSEWHERE = """\
requests: {spool_dir: /var/spool/of-another-machine}
listen: {address: ":8443", tls: {cert: /etc/tls/of-another-machine.crt}}
upstreams:
  a: {base_url: "https://h/v1", api_keys: [{env: NOBODY_HAS_SET_THIS}, {file: not-here}], tls: {ca: not-here.pem}}
models: {m: a}
keys: {k: {secret: {credential: not-here}}}
"""
WARNED = """\
admin: ":9464"
upstreams: {a: {base_url: "http://10.0.0.1/v1"}, b: {base_url: "http://10.0.0.2/v1"}}
models: {m: a}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "router.yaml"


async def test_a_file_for_another_machine_is_checked_here(path: Path) -> None:
    """With `--no-env` nothing that the file refers to need be there, secrets, certificates and folders alike."""
    write(path, ELSEWHERE)
    assert (await command("check", "-c", path))[0] == 78
    assert await command("check", "--no-env", "-c", path) == (0, f"{path}: good (1 models, 1 upstreams, 1 keys)\n", "")


async def test_what_can_be_seen_from_anywhere_is_told(path: Path) -> None:
    """`--no-env` still tells references that cannot be right: of no form, of two forms, one for two keys."""
    write(
        path,
        ELSEWHERE.replace("{file: not-here}", "{file: not-here, env: A}").replace(
            "keys: {", "keys: {again: {secret: {credential: not-here}}, wrong: {secret: {env: '$A'}}, "
        ),
    )
    status, _, errors = await command("check", "--no-env", "-c", path)
    assert status == 78
    assert [line.split(": ", 2)[1] for line in errors.splitlines()[:-1]] == [
        "upstreams.a.api_keys[1]", "keys.wrong.secret", "keys.k.secret",
    ]  # fmt: skip


async def test_warnings_are_told_and_do_not_hinder(path: Path) -> None:
    """Warnings go to standard error, each with its place; the file is good all the same, unless they are denied."""
    write(path, WARNED)
    status, text, errors = await command("check", "-c", path)
    assert (status, text) == (0, f"{path}: good (1 models, 2 upstreams, 0 keys), 2 warning(s)\n")
    assert [line.split(" whoever")[0] for line in errors.splitlines()] == [
        f"{path}:1:8: warning: admin[0].address:", f"{path}:2:50: warning: upstreams.b: nothing uses it",
    ]  # fmt: skip
    denied = await command("check", "--deny-warnings", "-c", path)
    assert denied[:2] == (78, "")
    assert denied[2].splitlines()[:2] == errors.splitlines()
    assert (await command("check", "-q", "-c", path))[:2] == (0, "")


async def test_programs_read_the_same(path: Path) -> None:
    """`--json` has the faults and warnings with their places as values, and the status is the same."""
    write(path, WARNED)
    status, text, errors = await command("check", "--json", "-c", path)
    told = json.loads(text)
    assert (status, errors, told["good"], told["faults"], told["upstreams"]) == (0, "", True, [], 2)
    assert told["warnings"][1] == {"file": str(path), "line": 2, "column": 50, "text": "upstreams.b: nothing uses it"}
    write(path, WARNED + "stopp: {}\nmodules: {}\n")
    status, text, errors = await command("check", "--format", "json", "-c", path)
    told = json.loads(text)
    assert (status, errors, told["good"]) == (78, "", False)
    assert [(fault["line"], fault["column"]) for fault in told["faults"]] == [(4, 1), (5, 1)]


async def test_a_workflow_shows_them_beside_the_line(path: Path) -> None:
    """`--format github` writes workflow commands, in which no text of the file can begin another one."""
    write(path, "\n" + WARNED)
    status, text, _ = await command("check", "--format", "github", "-c", path)
    assert status == 0
    assert text.splitlines()[1] == f"::warning file={path},line=3,col=50::upstreams.b: nothing uses it"
    odd = path.with_name("a,b:c%0A.yaml")
    write(odd, config("http://127.0.0.1:1/v1") | {"x\n::error::y": 1})
    status, text, _ = await command("check", "--format", "github", "--no-env", "-c", odd)
    assert status == 78
    (line,) = text.splitlines()
    assert line.startswith(f"::error file={path.parent}/a%2Cb%3Ac%250A.yaml,line=")
    missing = await command("check", "--format", "github", "-c", path.with_name("missing.yaml"))
    assert missing[1].startswith("::error::")
