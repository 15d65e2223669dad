"""`llm-router check`: every fault of a configuration at once, and what is probably not meant."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Final

from router.commands.options import EX_CONFIG, add_config
from router.config.loader import load
from router.errors import ConfigError

if TYPE_CHECKING:
    import argparse

NAME = "check"
HELP = "check a configuration file and say every fault"

FORMATS: Final = ("text", "json", "github")

_PLACED: Final = re.compile(r"(?P<file>.+?):(?P<line>\d+):(?P<column>\d+): (?P<text>.*)", re.DOTALL)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    add_config(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing if it is good")
    parser.add_argument(
        "--no-credentials",
        action="store_true",
        help="take those of systemd for given: ExecReload= cannot see them",
    )
    parser.add_argument(
        "--no-env",
        action="store_true",
        help="take every secret, certificate and folder for given: where the file is kept, not where it is used",
    )
    parser.add_argument("--deny-warnings", action="store_true", help="status 78 if there is a warning, as for a fault")
    parser.add_argument("--format", choices=FORMATS, default="text", help="github: annotations of a workflow run")
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="same as --format json")


def run(options: argparse.Namespace) -> int:
    """Check; as text, a file with faults raises them as `ConfigError`."""
    faults: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    warnings: tuple[str, ...] = ()
    try:
        environ = None if options.no_env else os.environ
        loaded = load(options.config, environ=environ, credentials=not options.no_credentials)
    except ConfigError as error:
        if options.format == "text":
            raise
        faults = error.faults
    else:
        config, warnings = loaded.config, loaded.warnings
        counts = {"models": len(config.models), "upstreams": len(config.upstreams), "keys": len(config.keys)}
    is_good = not faults and not (warnings and options.deny_warnings)
    if options.format == "json":
        shown = {"good": is_good, "faults": _placed(faults), "warnings": _placed(warnings), **counts}
        print(json.dumps(shown))
    elif options.format == "github":
        for level, lines in (("error", faults), ("warning", warnings)):
            for line in lines:
                print(_annotation(level, line))
    else:
        _tell(options, warnings, counts, is_good=is_good)
    return 0 if is_good else EX_CONFIG


def _tell(options: argparse.Namespace, warnings: tuple[str, ...], counts: dict[str, int], *, is_good: bool) -> None:
    for line in warnings:
        print(line, file=sys.stderr)
    if not is_good:
        print(f"{len(warnings)} warning(s), which --deny-warnings does not let pass", file=sys.stderr)
    elif not options.quiet:
        told = ", ".join(f"{number} {name}" for name, number in counts.items())
        print(f"{options.config}: good ({told})" + (f", {len(warnings)} warning(s)" if warnings else ""))


def _placed(lines: tuple[str, ...]) -> list[dict[str, str | int]]:
    """Faults or warnings, taken apart for programs."""
    apart: list[dict[str, str | int]] = []
    for line in lines:
        parts = _PLACED.fullmatch(line)
        if parts is None:  # the file cannot be read, or there are more than are told
            apart.append({"text": line})
            continue
        place = {"file": parts["file"], "line": int(parts["line"]), "column": int(parts["column"])}
        apart.append({**place, "text": parts["text"].removeprefix("warning: ")})
    return apart


def _annotation(level: str, line: str) -> str:
    """A workflow command of GitHub Actions; its runner shows it beside the line in a pull request."""
    (apart,) = _placed((line,))
    text = str(apart["text"]).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    if "file" not in apart:
        return f"::{level}::{text}"
    file = str(apart["file"])
    for sign, escape in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"), (":", "%3A"), (",", "%2C")):
        file = file.replace(sign, escape)
    return f"::{level} file={file},line={apart['line']},col={apart['column']}::{text}"
