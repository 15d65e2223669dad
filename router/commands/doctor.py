"""`llm-router doctor`: what would keep the router from serving, each with its cure."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

from router.commands.options import EX_NO, EX_USAGE, add_config
from router.commands.terminal import BOLD, GREEN, RED, YELLOW, has_colour, painted, visible
from router.config import values
from router.config.values import BadValue

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from router.doctor.findings import Finding

NAME = "doctor"
HELP = "examine machine, configuration and upstreams"

TIMEOUT_S_MAX: Final = 600.0

_MARKS: Final = {"ok": ("✓", GREEN), "warn": ("!", YELLOW), "fail": ("✗", RED)}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    parser.description = (
        "Looks for what would keep the router from serving: machine, files, addresses, then each upstream "
        "from its name to its models. Each line is ok, warn or fail, with the cure. "
        "Exit status 1 if anything failed."
    )
    add_config(parser)
    parser.add_argument("--upstream", action="append", default=[], metavar="NAME", help="only this one; repeatable")
    parser.add_argument(
        "--deep", action="store_true", help="also ask every pool member for one token, which costs money"
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=5.0, metavar="TIME", help="for each step; default: 5s (--deep: 60s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list of all findings")


def run(options: argparse.Namespace) -> int:
    """Examine, and tell each subject's findings as soon as they are there."""
    from router import process  # noqa: PLC0415 (the other commands need neither)
    from router.doctor.examination import UnknownUpstream, examine  # noqa: PLC0415

    process.tune()  # as the daemon does: it raises the limit of descriptors
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 sees `?` for what it does not have
    if options.deep and not options.json:
        print("--deep asks every pool member for one token: this costs money", file=sys.stderr)
    found: list[Finding] = []

    def tell(findings: list[Finding]) -> None:
        found.extend(findings)
        if not options.json:
            _say("".join(map(_lines, findings)))

    work = examine(
        options.config,
        os.environ,
        tell,
        only=options.upstream,
        is_deep=options.deep,
        timeout_s=options.timeout,
        room=process.connections_max(),
    )
    try:
        _runner()(work)
    except UnknownUpstream as error:
        print(visible(str(error)), file=sys.stderr)
        return EX_USAGE
    if options.json:
        import msgspec  # noqa: PLC0415 (for this alone)

        _say(msgspec.json.format(msgspec.json.encode(found)).decode() + "\n")
    else:
        _say(f"{_summary(found)}\n")
    return EX_NO if any(each.result == "fail" for each in found) else 0


def _runner() -> Callable[[Coroutine[None, None, None]], object]:
    """What runs the work: the daemon's event loop, or Python's own, so that its lack can be told."""
    try:
        import uvloop  # noqa: PLC0415 (the other commands need none)
    except ImportError:
        return asyncio.run
    return uvloop.run


def _seconds(text: str) -> float:
    """Read a duration as it stands in a configuration file."""
    try:
        seconds = float(values.seconds(text))
    except BadValue as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if seconds > TIMEOUT_S_MAX:
        raise argparse.ArgumentTypeError(f"at most {values.show_seconds(TIMEOUT_S_MAX)}")
    return seconds


def _lines(finding: Finding) -> str:
    """A line for what was found, its cure below it; on a terminal with a mark in colour."""
    mark, colour = _MARKS[finding.result]
    begin = painted(mark, colour, sys.stdout) if has_colour(sys.stdout) else f"{finding.result:<4}"
    cure = f"     → {finding.cure}\n" if finding.cure else ""
    return f"{begin} {painted(finding.subject, BOLD, sys.stdout)} {finding.check}: {finding.found}\n{cure}"


def _say(text: str) -> None:
    """Print at once. Who has read enough (`doctor | head`) changes nothing about the exit status."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _summary(found: list[Finding]) -> str:
    counts = Counter(str(each.result) for each in found)
    return f"{counts['ok']} ok, {counts['warn']} warn, {counts['fail']} fail"
