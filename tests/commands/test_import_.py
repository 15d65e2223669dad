"""`llm-router import`, typed. What becomes of single settings is in tests/migrate."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.harness.program import command, program

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "sk-never-to-be-seen"

LITELLM = f"""\
model_list:
  - {{model_name: gpt, litellm_params: {{model: openai/gpt-4o, api_key: {SECRET}}}}}
  - {{model_name: gpt, litellm_params: {{model: groq/llama, weight: 3, region_name: eu}}}}
general_settings: {{master_key: {SECRET}}}
"""
NGINX = f"""\
upstream gpu {{ server 10.0.0.1:8000; }}
server {{
  location /v1/ {{ proxy_pass http://gpu; proxy_set_header Authorization "Bearer {SECRET}"; }}
}}
"""
ENVIRON = {
    "ROUTER_OPENAI_KEY": "a", "GROQ_API_KEY": "b", "LITELLM_MASTER_KEY": "c", "ROUTER_GPU_KEY": "d",
}  # fmt: skip


async def checked(path: Path) -> tuple[int | None, str]:
    """What `check` says of a file, with the variables set that it names."""
    async with program("check", "-c", str(path), environ=os.environ | ENVIRON) as process:
        stdout, stderr = await process.communicate()
    return process.returncode, (stdout + stderr).decode()


def held(path: Path) -> str:
    """What a file holds; nothing if it is not there."""
    return path.read_text() if path.exists() else ""


def write(path: Path, text: str | bytes) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def linked(link: Path, to: Path) -> Path:
    link.symlink_to(to)
    return link


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text(LITELLM)
    return path


@pytest.mark.parametrize(("kind", "text", "status"), [("litellm", LITELLM, 1), ("nginx-style", NGINX, 0)])
async def test_a_file_becomes_one_that_check_finds_good(
    source: Path, tmp_path: Path, kind: str, text: str, status: int
) -> None:
    """The new file is good in the environment it names; 1 says that something is not carried; no secret shows."""
    write(source, text)
    made = tmp_path / "new.yaml"
    found, printed, errors = await command("import", kind, source, "-o", made)
    assert (found, printed) == (status, "")
    assert errors.splitlines()[-1] == f"next: llm-router check -c {made}"
    assert SECRET not in held(made) + errors
    assert (await checked(made))[0] == 0, await checked(made)


async def test_what_is_not_carried_is_told_twice(source: Path) -> None:
    """It stands on standard error and at the top of what is printed, with file and line, and without colour."""
    status, text, errors = await command("import", "litellm", source)
    assert status == 1
    told = f"{source}:3: model_list[1].litellm_params.region_name: "
    assert f"\n  {told}" in errors
    assert f"\n#   {told}" in text
    assert errors.endswith(": 4 carried, 3 carried differently, 1 not carried\n")
    assert "\x1b" not in errors


async def test_no_file_is_overwritten(source: Path, tmp_path: Path) -> None:
    """A file that is there stays as it is, and so does what a link leads to; status 2 names it."""
    there = tmp_path / "there"
    write(there, "mine")
    for path in (there, linked(tmp_path / "link", there)):
        status, text, errors = await command("import", "litellm", source, "-o", path)
        assert (status, text) == (2, "")
        assert errors.splitlines()[0] == f"{path}: is there already"
    assert held(there) == "mine"
    status, _, errors = await command("import", "litellm", source, "-o", tmp_path / "no" / "folder")
    assert (status, "Traceback" in errors) == (2, False)


async def test_a_source_that_cannot_be_read_is_told(source: Path, tmp_path: Path) -> None:
    """Status 78, what is wrong and where, in at most three lines; nothing is written."""
    new = tmp_path / "new.yaml"
    for kind, content, said in (
        ("litellm", b"a: [b", ":1:"),
        ("litellm", b"a: !!python/object:x", "tags"),
        ("nginx-style", b"http {\n", ":1: a block that does not end"),
        ("nginx-style", b"\xff\xfe", "not UTF-8"),
        ("litellm", b"a" * (1024 * 1024 + 1), "larger than"),
    ):
        write(source, content)
        status, text, errors = await command("import", kind, source, "-o", new)
        assert (status, text) == (78, "")
        assert said in errors
        assert len(errors.splitlines()) <= 3
    for missing in (tmp_path / "nowhere", tmp_path):
        status, _, errors = await command("import", "litellm", missing, "-o", new)
        assert (status, "cannot be read" in errors) == (78, True)
    assert held(new) == ""


async def test_a_source_of_which_nothing_can_be_carried(source: Path, tmp_path: Path) -> None:
    """Without one model there is no configuration: everything is told, and no file is written."""
    write(source, "model_list: [{model_name: m, litellm_params: {model: bedrock/x}}]")
    status, text, errors = await command("import", "litellm", source, "-o", tmp_path / "new")
    assert (status, text) == (1, "")
    assert "bedrock" in errors
    assert "no file is written" in errors
    assert held(tmp_path / "new") == ""


async def test_models_are_named_on_the_command_line(source: Path) -> None:
    """`--model` names what an upstream serves; one that is none, or not said as NAME=UPSTREAM, is a usage error."""
    write(source, NGINX)
    status, text, _ = await command("import", "nginx-style", source, "--model", "qwen=gpu", "--model", "a=b=gpu")
    assert status == 0
    assert "\n  qwen:\n" in text
    assert "\n  a=b:\n" in text
    for wrong in ("qwen", "=gpu", "qwen=", "qwen=nobody"):
        status, text, errors = await command("import", "nginx-style", source, "--model", wrong)
        assert (status, text) == (2, ""), wrong
        assert errors.startswith("--model: "), wrong
    status, _, errors = await command("import", "apache", source)
    assert (status, "litellm" in errors) == (2, True)
