"""`llm-router init`: write a first configuration from what the environment says."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from router.commands.options import EX_NO
from router.commands.terminal import visible

if TYPE_CHECKING:
    import argparse

    from router.commands.init_file import Environment

NAME = "init"
HELP = "write a first configuration file"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    parser.description = (
        "Writes a configuration for the vendors whose variables are set (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...; "
        "OPENAI_BASE_URL ...), or else for a server on this machine. It refers to credentials and holds none."
    )
    parser.add_argument("--from-env", action="store_true", help="only from variables: without any, write nothing")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write it there, unless the file exists; default: stdout"
    )


def run(options: argparse.Namespace) -> int:
    """Write it; what to do next goes to standard error."""
    from router.commands import init_file  # noqa: PLC0415 (the other commands need none)

    path: Path | None = options.output
    environment = init_file.look(os.environ, Path.cwd())
    if options.from_env and not environment.found:
        looked = "looked for OPENAI_API_KEY, ANTHROPIC_API_KEY and their like"
        why = "; ".join(environment.unused[:3]) or looked
        return _refuse(
            "no vendor's variable is set", why, "export one, or leave --from-env out for a server on this machine"
        )
    text = init_file.text(environment)
    if path is None:
        print(text, end="")
    elif (problem := _write(path, text)) is not None:
        return problem
    _tell_next(path, environment)
    return 0


def _write(path: Path, text: str) -> int | None:
    """Make the file; the exit status if it cannot be made."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return _refuse(f"{path} exists", "what is there is never overwritten", "name another file, or move it away")
    except OSError as error:
        return _refuse(f"{path} cannot be written", error.strerror or str(error), "name another file: -o FILE")
    return None


def _refuse(what: str, why: str, cure: str) -> int:
    print(*(visible(line) for line in (what, why, cure)), sep="\n", file=sys.stderr)
    return EX_NO


def _tell_next(path: Path | None, environment: Environment) -> None:
    names = ", ".join(each.vendor.name for each in environment.found) or "a server at 127.0.0.1:8000 (change that)"
    if path is None:
        lines = [f"upstreams: {names}", "to have it in a file: llm-router init -o router.yaml"]
    else:
        lines = [
            f"wrote {path}; upstreams: {names}",
            "next:",
            f"  llm-router check -c {path}     every fault of it at once",
            f"  llm-router doctor -c {path}    is every upstream reachable, is every credential taken?",
            f"  llm-router run -c {path}       serve at http://127.0.0.1:8080/v1",
        ]
    if environment.found and environment.unused:
        lines.append(f"{len(environment.unused)} variables are of no use to it: the file names them")
    print(*(visible(line) for line in lines), sep="\n", file=sys.stderr)
