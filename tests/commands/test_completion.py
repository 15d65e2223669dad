"""Completion scripts in the shells they are for: what they offer for what was typed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from router import cli
from router.commands import completion, tree
from tests.harness.program import PATIENCE_S, ROOT, command

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = tree.read(cli.parser())
TYPED = {
    ("ch",): {"check"},
    ("import", ""): {"litellm", "nginx-style"},
    ("import", "litellm", "--out"): {"--output"},
    ("config", "sh"): {"show"},
    ("check", "--qui"): {"--quiet"},
    ("check", "-c", "conf"): {"config"},
    ("check", "-q", "-c", "config/router.y"): {"config/router.yaml"},
    ("completion", ""): {"bash", "zsh", "fish"},
    ("run", "--nothing"): set(),
    ("no-such-command", "x-y-z"): set(),
}
"""What was typed behind the program's name, the last word not finished, and what may stand for it."""

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
needs_fish = pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")


@pytest.fixture
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "completion"
    path.write_text(completion._SCRIPTS[request.param](PROGRAM))
    return path


def said(*words: str | Path, home: Path) -> str:
    environ = os.environ | {"HOME": str(home), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, check=True, cwd=ROOT, env=environ, timeout=PATIENCE_S
    )
    assert done.stderr == ""
    return done.stdout


def in_bash(script: Path, *words: str) -> set[str]:
    call = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _llm_router; printf "%s\\n" "${COMPREPLY[@]}"'
    return set(said("bash", "--norc", "-c", call, script, *words, home=script.parent).split("\n")) - {""}


@needs_bash
@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_completes(script: Path) -> None:
    """Commands, options, choices and files, where they belong; the value behind a `=` too, which bash splits off."""
    for words, expected in TYPED.items():
        assert in_bash(script, "llm-router", *words) == expected, words
    assert in_bash(script, "llm-router", "check", "--config", "=", "config/router.y") == {"config/router.yaml"}
    assert in_bash(script, "llm-router", "check", "--config", "=") >= {"config", "README.md"}


@needs_fish
@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_fish_completes(script: Path) -> None:
    """The same in fish, which adds a slash to folders and says what each word means."""
    for words, expected in TYPED.items():
        typed = " ".join(("llm-router", *words))
        lines = said("fish", "-N", "-c", f"source {script}; complete -C '{typed}'", home=script.parent).splitlines()
        assert {line.split("\t")[0].rstrip("/") for line in lines} == expected, words
    offered = said("fish", "-N", "-c", f"source {script}; complete -C 'llm-router chec'", home=script.parent)
    assert offered.split("\t")[1].strip() == next(each.help for each in PROGRAM.commands if each.words == ("check",))


@needs_zsh
@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh_completes(script: Path) -> None:
    """The same in zsh, by what a Tab makes of a line; a word that has one completion is completed at once."""
    lines = [(words, next(iter(expected))) for words, expected in TYPED.items() if len(expected) == 1]
    typed = "".join(f"llm-router {' '.join(words)}\t\n" for words, _ in lines)
    setup = f'autoload -Uz compinit; compinit -D -u; source {script}; llm-router() {{ print -r -- "GOT<$*>" }}\n'
    told = in_zsh(setup + typed, len(lines), home=script.parent)
    assert told == [" ".join((*words[:-1], expected)) for words, expected in lines]


def in_zsh(typed: str, count: int, *, home: Path) -> list[str]:
    """Type into an interactive zsh; what so many commands were called with, and nothing else that it shows."""
    environ = os.environ | {"HOME": str(home), "ZDOTDIR": str(home), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=environ)
    os.close(theirs)
    seen, deadline = b"", time.monotonic() + PATIENCE_S
    try:
        os.write(ours, typed.encode())
        while seen.count(b">\r\n") < count and time.monotonic() < deadline:
            if select.select([ours], [], [], 1)[0]:
                seen += os.read(ours, 65536)
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)
    return [
        line.removeprefix("GOT<").removesuffix(">").strip("/")
        for line in seen.decode().split("\r\n")
        if line.startswith("GOT<")
    ]


@pytest.mark.parametrize(
    ("shell", "check"),
    [
        pytest.param("bash", ("bash", "-n"), marks=needs_bash),
        pytest.param("zsh", ("zsh", "-n"), marks=needs_zsh),
        pytest.param("fish", ("fish", "-n"), marks=needs_fish),
    ],
)
async def test_a_script_is_printed(shell: str, check: tuple[str, ...], tmp_path: Path) -> None:
    """`completion SHELL` prints a script that the shell can read, and that names every command."""
    status, text, errors = await command("completion", shell)
    assert (status, errors) == (0, "")
    script = tmp_path / "script"
    script.write_text(text)
    assert said(*check, script, home=tmp_path) == ""
    assert all(each.words[-1] in text for each in PROGRAM.walk()[1:])


async def test_another_shell_is_refused() -> None:
    """A shell that is not known is a usage error that names those that are."""
    status, text, errors = await command("completion", "tcsh")
    assert (status, text) == (2, "")
    assert "bash" in errors


def test_texts_do_no_harm() -> None:
    """Help and choices with quotes, brackets, dollars and colons leave every script readable."""
    odd = "a 'b' \"c\" [d]: $(exit 9) `x` \\ é;"
    argument = tree.Argument(
        flags=("-x", "--xx"), metavar="A:[B]", help=odd, default="", choices=("one", "t'wo"), is_file=False,
        is_required=False, is_repeated=True,
    )  # fmt: skip
    below = tree.Command(words=("go",), help=odd, description=odd, epilog="", arguments=(argument,), commands=())
    program = tree.Command(words=(), help="", description="", epilog="", arguments=(), commands=(below,))
    for shell, make in completion._SCRIPTS.items():
        if shutil.which(shell) is not None:
            done = subprocess.run([shell, "-n"], input=make(program), text=True, capture_output=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), shell
