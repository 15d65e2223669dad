"""`llm-router init` as it is typed: where the file goes, what is said, what is never overwritten."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.harness.program import command, program

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "sk-init-0123456789"


async def init(*arguments: str | Path, **environ: str) -> tuple[int | None, str, str]:
    """Run it with these variables and none of a vendor's beside them."""
    plain = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    async with program("init", *map(str, arguments), environ=plain | environ) as process:
        stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


async def test_the_file_is_good_where_it_was_made(tmp_path: Path) -> None:
    """It is written, says nothing on standard output, and `check` finds it good in the same environment."""
    path = tmp_path / "router.yaml"
    status, out, told = await init("-o", path, OPENAI_API_KEY=SECRET, FOO_API_KEY=SECRET)
    assert (status, out) == (0, "")
    assert f"llm-router check -c {path}" in told
    assert SECRET not in path.read_text() + told
    environ = dict(os.environ) | {"OPENAI_API_KEY": SECRET}
    async with program("check", "--deny-warnings", "-c", str(path), environ=environ) as process:
        stdout, stderr = await process.communicate()
    assert (process.returncode, stderr) == (0, b""), stdout


async def test_without_a_file_it_is_printed(tmp_path: Path) -> None:
    """On standard output stands the file and nothing else: it can be redirected."""
    status, out, told = await init()
    assert status == 0
    assert "127.0.0.1:8000" in told
    path = tmp_path / "router.yaml"
    path.write_text(out)
    assert (await command("check", "-c", path))[0] == 0


async def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A file that exists, or a link to none, stays as it is: status 1, and what to do."""
    path = tmp_path / "router.yaml"
    path.write_text("mine")
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "elsewhere.yaml")
    for each in (path, link):
        status, out, told = await init("-o", each, OPENAI_API_KEY=SECRET)
        assert (status, out) == (1, "")
        assert "exists" in told
        assert len(told.splitlines()) == 3
    assert path.read_text() == "mine"
    assert not (tmp_path / "elsewhere.yaml").exists()


async def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Three lines and no traceback."""
    status, _, told = await init("-o", tmp_path / "nowhere" / "router.yaml")
    assert status == 1
    assert "No such file or directory" in told
    assert len(told.splitlines()) == 3


async def test_from_env_writes_nothing_without_a_variable(tmp_path: Path) -> None:
    """Scripts that rely on variables are told that there are none."""
    path = tmp_path / "router.yaml"
    status, _, told = await init("--from-env", "-o", path)
    assert status == 1
    assert "no vendor's variable is set" in told
    assert not path.exists()
