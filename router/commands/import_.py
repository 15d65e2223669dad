"""`llm-router import`: the configuration of LiteLLM or nginx becomes one of ours; what cannot be carried is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from router.commands.options import EX_CONFIG, EX_NO, EX_USAGE
from router.commands.terminal import BOLD, YELLOW, painted, visible

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from router.migrate.account import Account
    from router.migrate.draft import Draft

NAME = "import"
HELP = "make a configuration of another program's"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    parser.description = (
        "Makes a configuration of another program's. What is carried differently or not at all is told with its line,"
        " on standard error and at the top of the new file. No secret is copied: each becomes a reference to an"
        " environment variable. Exit status 1: something is not carried."
    )
    commands = parser.add_subparsers(title="programs", metavar="PROGRAM", required=True)
    litellm = commands.add_parser("litellm", help="from the config.yaml of LiteLLM's proxy")
    _add_files(litellm)
    litellm.set_defaults(read=_read_litellm)
    nginx = commands.add_parser("nginx-style", help="from upstream and proxy_pass as nginx writes them")
    _add_files(nginx)
    nginx.add_argument(
        "--model", action="append", default=[], metavar="NAME=UPSTREAM",
        help="let clients ask for this upstream by this name; may be repeated. By default `*` if there is one"
        " upstream, else each has its own name",
    )  # fmt: skip
    nginx.set_defaults(read=_read_nginx)


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="what is read; nothing else of that program is")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="NEWFILE", help="default: standard output; never overwritten"
    )


class _Unreadable(Exception):
    """The source cannot be read; the text says where and why."""


def run(options: argparse.Namespace) -> int:
    """Import."""
    from router.config.sources import Sources  # noqa: PLC0415 (the other commands need none of it)
    from router.migrate import draft  # noqa: PLC0415
    from router.migrate.account import Unusable  # noqa: PLC0415

    try:
        content = Sources().read(options.file).decode("utf-8-sig")
        made, account = options.read(options, content)
    except OSError as error:
        return _refuse(EX_CONFIG, f"{options.file}: cannot be read: {error.strerror}", "give a file that can be read")
    except UnicodeDecodeError:
        return _refuse(EX_CONFIG, f"{options.file}: is not UTF-8 text", "give the file as that program reads it")
    except _Unreadable as error:
        return _refuse(EX_CONFIG, str(error), "mend it there, and import it again")
    except Unusable as error:
        return _refuse(EX_USAGE, f"--model: {error}", "see llm-router import nginx-style --help")
    if not made.models:
        _tell(account)
        return _refuse(EX_NO, "nothing of it can be carried; no file is written", "begin with: llm-router init")
    text = made.text(account, f"Made of {options.file} by llm-router import.")
    try:
        _write(text, options.output)
    except FileExistsError:
        return _refuse(EX_USAGE, f"{options.output}: is there already", "give a name that is new to -o")
    except OSError as error:
        return _refuse(EX_USAGE, f"{options.output}: cannot be written: {error.strerror}", "give another name to -o")
    left = _tell(account)
    faults = draft.faults(text, made.environment(), str(options.output or "the new file"))
    for fault in faults:
        print(visible(fault), file=sys.stderr)
    if options.output is not None and not faults:
        print(f"next: llm-router check -c {visible(str(options.output))}", file=sys.stderr)
    return EX_NO if left or faults else 0


def _read_litellm(options: argparse.Namespace, content: str) -> tuple[Draft, Account]:
    from router.config import yaml_nodes  # noqa: PLC0415
    from router.migrate import litellm  # noqa: PLC0415
    from router.migrate.account import Account  # noqa: PLC0415

    account = Account(str(options.file))
    try:
        root = yaml_nodes.compose(content)
    except yaml_nodes.SyntaxFault as fault:
        raise _Unreadable(f"{options.file}:{fault.mark.line}:{fault.mark.column}: {fault.text}") from None
    return litellm.convert(root, account, os.environ), account


def _read_nginx(options: argparse.Namespace, content: str) -> tuple[Draft, Account]:
    from router.migrate import nginx, nginx_source, nginx_syntax  # noqa: PLC0415
    from router.migrate.account import Account  # noqa: PLC0415

    account = Account(str(options.file), nginx_source.label)
    try:
        top = nginx_syntax.parse(content)
    except nginx_syntax.SyntaxFault as fault:
        raise _Unreadable(f"{options.file}:{fault.line}: {fault.text}") from None
    return nginx.convert(top, account, _models(options.model)), account


def _models(given: list[str]) -> Mapping[str, str]:
    """Read `NAME=UPSTREAM`; a name may hold a `=` itself."""
    from router.config.checks import is_name  # noqa: PLC0415
    from router.migrate.account import Unusable  # noqa: PLC0415

    models = {}
    for text in given:
        name, sign, upstream = text.rpartition("=")
        if not sign or not is_name(name) or not upstream or name in models:
            raise Unusable(f"{text[:80]!r} is not NAME=UPSTREAM with a name that is new")
        models[name] = upstream
    return models


def _write(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    with output.open("x", encoding="utf-8") as file:
        file.write(text)


def _tell(account: Account) -> int:
    """Say on standard error what became of everything; returns how many settings are not carried."""
    from router.migrate.account import Fate  # noqa: PLC0415

    for fate, colour in ((Fate.LEFT, YELLOW), (Fate.CHANGED, BOLD)):
        lines = account.lines(fate)
        if lines:
            heading = painted(f"{fate.capitalize()}:", colour, sys.stderr)
            print(heading, *(f"  {line}" for line in lines), sep="\n", file=sys.stderr)
    counts = ", ".join(f"{account.count(fate)} {fate}" for fate in Fate)
    print(f"{visible(account.name)}: {counts}", file=sys.stderr)
    return account.count(Fate.LEFT)


def _refuse(status: int, *lines: str) -> int:
    print(*map(visible, lines), sep="\n", file=sys.stderr)
    return status
