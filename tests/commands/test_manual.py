from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from router import cli
from router.commands import manual, options, tree
from tests.harness.program import ROOT, command

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "deploy/man/llm-router.1"
PROGRAM = tree.read(cli.parser())


def test_the_page_is_that_of_this_program() -> None:
    """The manual page that is shipped is what `llm-router manual > deploy/man/llm-router.1` prints."""
    assert PAGE.read_text() == manual.page(PROGRAM)


async def test_both_forms_are_printed() -> None:
    """`manual` prints the page, and with `--markdown` the tables, and nothing else."""
    assert await command("manual") == (0, manual.page(PROGRAM), "")
    assert await command("manual", "--markdown") == (0, manual.markdown(PROGRAM), "")


def test_every_command_and_option_is_told() -> None:
    """Each command has a section in both forms, with each of its options; every exit status has its meaning."""
    page, markdown = manual.page(PROGRAM).replace("\\-", "-"), manual.markdown(PROGRAM)
    for each in PROGRAM.walk()[1:]:
        if each.commands:
            continue
        words = " ".join(("llm-router", *each.words))
        section = page.split(f".Ss {words}\n")[1].split("\n.S")[0]
        table = re.split(rf"### `{words}[` ]", markdown)[1].split("\n### ")[0]
        for flag in (flag for option in each.options for flag in option.flags if flag not in {"-h", "--help"}):
            assert f"Fl {flag[1:]}" in section
            assert flag in table
    assert set(manual.statuses()) == {0, options.EX_NO, options.EX_USAGE, options.EX_UNAVAILABLE, options.EX_CONFIG}
    assert all(f"| {status} | {text}" in markdown for status, text in manual.statuses().items())


def test_nothing_in_a_text_is_taken_for_a_macro() -> None:
    """Lines that begin with a dot, backslashes, and words that mdoc knows come out as they are."""
    program = tree.Command(
        words=(), help="", epilog="", arguments=(), description="p",
        commands=(
            tree.Command(
                words=("Ar",), help="", arguments=(), commands=(),
                description=".hidden, a\\b. 'quoted'\n    .Sh X\nafter", epilog="'x",
            ),
        ),
    )  # fmt: skip
    page = manual.page(program)
    assert ".Cm \\&Ar" in page
    assert "\n\\&.hidden, a\\eb.\n\\&'quoted'" in page
    assert "\n\\&.Sh X\n" in page
    assert "\n\\&'x\n" in page
    assert "```\n.Sh X\n```" in manual.markdown(program)


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_the_page_is_clean() -> None:
    """mandoc finds nothing wrong with it."""
    linted = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", PAGE], capture_output=True, text=True, check=False
    )
    assert (linted.returncode, linted.stdout) == (0, "")


@pytest.mark.skipif(shutil.which("man") is None or shutil.which("groff") is None, reason="man is not installed")
def test_man_shows_it(tmp_path: Path) -> None:
    """`man -l` shows the page with all its sections, and complains of nothing."""
    environ = os.environ | {"MANPAGER": "cat", "MANWIDTH": "80", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    shown = subprocess.run(
        ["man", "--warnings", "-l", PAGE], capture_output=True, text=True, check=True, env=environ, timeout=60
    )
    assert shown.stderr == ""
    text = re.sub(".\b|\x1b\\[[0-9;]*m", "", shown.stdout)
    for section in ("NAME", "SYNOPSIS", "COMMANDS", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES", "SIGNALS"):
        assert f"\n{section}\n" in text
