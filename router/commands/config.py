"""`llm-router config`: show the configuration in effect, what changed in it, and what editors must know of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.commands.options import EX_NO, DaemonError, add_admin
from router.commands.terminal import of_change
from router.config import dump
from router.config.loader import load

if TYPE_CHECKING:
    import argparse

    from router.config.difference import Change

NAME = "config"
HELP = "show the configuration, its changes, its schema"

RUNNING = Path()
"""What `--diff` compares with if it names no file."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    show = commands.add_parser(
        "show",
        help="print it without secrets, or what changed in it",
        description="Prints the configuration in effect: every default filled in, files joined, without secrets.",
    )
    add_admin(show)
    show.add_argument("--effective", action="store_true", help="print it whole, which is the default")
    show.add_argument(
        "--diff", type=Path, nargs="?", const=RUNNING, metavar="OTHER",
        help="what is another than in the running daemon, or than in the file OTHER; status 1 if anything is",
    )  # fmt: skip
    show.add_argument("--no-env", action="store_true", help="take secrets, certificates and folders for given")
    show.add_argument("--json", action="store_true", help="as JSON")
    show.set_defaults(show=_show, refuse=show.error)
    schema = commands.add_parser("schema", help="print the JSON Schema of configuration files, for editors")
    schema.set_defaults(show=_schema)


def run(options: argparse.Namespace) -> int:
    """Do what the second word says."""
    return int(options.show(options))


def _show(options: argparse.Namespace) -> int:
    if options.diff is not None:
        if options.effective:
            options.refuse("--effective prints all of it, --diff what changed: give one of them")
        return _diff(options)
    loaded = load(options.config, environ=None if options.no_env else os.environ)
    if options.json:
        print(json.dumps(dump.effective(loaded), indent=2))
    else:
        print(dump.to_yaml(loaded), end="")
    return 0


def _diff(options: argparse.Namespace) -> int:
    from router.app import FIXED  # noqa: PLC0415 (only here: it loads the daemon)
    from router.config.difference import changes  # noqa: PLC0415
    from router.config.report import dotted  # noqa: PLC0415

    new = _effective(options.config, options)
    is_running = options.diff == RUNNING
    differences = changes(_running(options) if is_running else _effective(options.diff, options), new)

    def is_fixed(change: Change) -> bool:
        return f"{dotted(change.path)}.".startswith(tuple(f"{name}." for name in FIXED))

    lines = [
        {"sign": each.sign, "path": list(each.path), "text": str(each), "needs_restart": is_fixed(each)}
        for each in differences
    ]
    if options.json:
        print(json.dumps(lines, indent=2))
    elif not lines:
        print("no setting is another")
    else:
        for line in lines:
            print(of_change(str(line["text"]), sys.stdout) + ("  (needs a restart)" if line["needs_restart"] else ""))
    return EX_NO if lines else 0


def _effective(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    return dump.effective(load(path, environ=None if options.no_env else os.environ))


def _running(options: argparse.Namespace) -> dict[str, Any]:
    """Ask the daemon."""
    from router.commands.daemon import Daemon  # noqa: PLC0415 (the other commands need none)

    daemon = Daemon.find(options)
    told = daemon.get_json("/-/config")
    if not isinstance(told, dict) or not isinstance(told.get("config"), dict):
        raise DaemonError(
            f"the daemon at {daemon.place} does not say what it runs",
            "its answer is of another kind",
            "is it another version of llm-router?",
            exit_status=EX_NO,
        )
    config: dict[str, Any] = told["config"]
    return config


def _schema(_options: argparse.Namespace) -> int:
    from router.config import json_schema  # noqa: PLC0415 (the other commands need none)

    print(json_schema.rendered(), end="")
    return 0
