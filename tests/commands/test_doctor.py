"""`llm-router doctor` as it is typed: what it prints where, and its exit status."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from asyncio.subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.doctor.examining import list_of, serving
from tests.harness.program import PATIENCE_S, ROOT, command, program
from tests.harness.router import UPSTREAM_SECRET
from tests.harness.upstream import ScriptedUpstream, error, json_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    scripted = ScriptedUpstream().always(list_of("m"))
    await scripted.start()
    yield scripted
    await scripted.close()


def written(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "router.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


async def test_a_healthy_router_is_told_line_by_line(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Each finding is a line that begins with its result, names its subject and needs no other; the status is 0."""
    path = written(tmp_path, serving(upstream.base_url))
    status, told, errors = await command("doctor", "-c", path)
    assert (status, errors) == (0, "")
    *lines, summary = told.splitlines()
    assert all(line.startswith(("ok   ", "warn ", "     → ")) for line in lines)
    assert f"ok   configuration file: {path}: 1 models, 1 upstreams, 0 keys" in lines
    assert any(line.startswith("ok   machine uvloop: ") for line in lines)
    assert any(line.startswith("ok   first tcp: ") for line in lines)
    assert summary.endswith(" 0 fail")
    assert "\x1b" not in told


async def test_a_failure_is_status_1_and_has_its_cure(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Whatever fails, the others are told as well, and the cure stands below; no secret is shown."""
    upstream.always(error(401, json.dumps({"error": {"message": f"{UPSTREAM_SECRET} is bad\x1b[2J"}}).encode()))
    path = written(tmp_path, serving(upstream.base_url, api_key={"env": "UPSTREAM_SECRET"}))
    status, told, errors = await command("doctor", "-c", path)
    assert (status, errors) == (1, "")
    lines = told.splitlines()
    place = lines.index("fail first credential: is refused: 401 *** is bad?[2J")
    assert lines[place + 1] == "     → put a valid one into $UPSTREAM_SECRET (upstreams.first.api_key)"
    assert lines[-1].endswith(" 1 fail")


async def test_json_is_one_list_of_findings(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """For programs: subject, check, result, found and cure of each, nothing else on standard output."""
    path = written(tmp_path, serving(upstream.base_url))
    status, told, errors = await command("doctor", "--json", "--upstream", "first", "-c", path)
    assert (status, errors) == (0, "")
    found = json.loads(told)
    assert [list(each) for each in found] == [["subject", "check", "result", "found", "cure"]] * len(found)
    assert [each["check"] for each in found] == ["file", "tcp", "answer", "models"]


async def test_what_costs_money_is_said_first(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """`--deep` says what it does on standard error, then does it."""
    upstream.then(list_of("m")).always(json_answer())
    path = written(tmp_path, serving(upstream.base_url))
    status, told, errors = await command("doctor", "--deep", "--upstream", "first", "-c", path)
    assert status == 0
    assert errors == "--deep asks every pool member for one token: this costs money\n"
    assert "ok   first deep m: answered in " in told


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--upstream", "frist"), 2, "no upstream is named 'frist', did you mean 'first'?"),
        (("--timeout", "soon"), 2, "'soon' is not a duration"),
        (("--timeout", "1h"), 2, "at most 10m"),
        (("--timeout", "0"), 2, "must be longer than 0"),
    ],
)
async def test_what_cannot_be_understood_is_status_2(
    tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    """An upstream that is not there, or a time that is none."""
    path = written(tmp_path, serving("http://127.0.0.1:1/v1"))
    ended, _, errors = await command("doctor", "-c", path, *words)
    assert ended == status
    assert said in errors
    assert "Traceback" not in errors


async def test_a_file_that_is_missing_is_a_finding(tmp_path: Path) -> None:
    """The machine is examined all the same, and the cure is another file or a new one."""
    path = tmp_path / "router.yaml"
    status, told, errors = await command("doctor", "-c", path)
    assert (status, errors) == (1, "")
    assert f"fail configuration file: {path}: cannot be read: No such file or directory" in told
    assert f"llm-router init -o {path}" in told
    assert "ok   machine uvloop" in told


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
async def test_a_reader_that_leaves_changes_nothing(tmp_path: Path, more: tuple[str, ...]) -> None:
    """Piped into something that reads no further, it ends with its own status and without a word."""
    path = written(tmp_path, serving("http://127.0.0.1:1/v1"))
    near, far = os.pipe()
    os.close(near)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "router", "doctor", "-c", str(path), *more,
            cwd=ROOT, stdin=DEVNULL, stdout=far, stderr=PIPE,
        )  # fmt: skip
    finally:
        os.close(far)
    async with asyncio.timeout(PATIENCE_S):
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (1, b"")


async def test_a_stream_without_utf_8_is_no_failure(tmp_path: Path) -> None:
    """What the stream's encoding does not have is shown as `?`."""
    environ = dict(os.environ) | {"PYTHONIOENCODING": "ascii"}
    async with program("doctor", "-c", str(tmp_path / "router.yaml"), environ=environ) as process:
        told, errors = await process.communicate()
    assert (process.returncode, errors) == (1, b"")
    assert b"     ? say where it is: -c FILE" in told


async def on_a_terminal(path: Path, **environ: str) -> str:
    """What it prints about one upstream if its standard output is a terminal; that fits into the terminal's buffer."""
    near, far = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "router", "doctor", "--upstream", "first", "-c", str(path),
            cwd=ROOT, env=dict(os.environ) | {"TERM": "xterm"} | environ, stdin=DEVNULL, stdout=far, stderr=DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()
        return os.read(near, 65536).decode()
    finally:
        os.close(near)
        os.close(far)


async def test_a_terminal_gets_marks_and_colours(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Marks stand for results where they are seen in colour; NO_COLOR makes it words again."""
    path = written(tmp_path, serving(upstream.base_url))
    coloured = await on_a_terminal(path)
    plain = await on_a_terminal(path, NO_COLOR="1")
    assert "\x1b[32m✓\x1b[0m" in coloured
    assert "\x1b" not in plain
    assert "ok   first tcp: " in plain
