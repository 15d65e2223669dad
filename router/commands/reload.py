"""`llm-router reload`: have the running daemon read its configuration again, and say what that changed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from router.commands.options import EX_NO, DaemonError, add_admin
from router.commands.terminal import of_change, visible

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from router.commands.daemon import Daemon

NAME = "reload"
HELP = "have the daemon read its file again; say what changed"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    add_admin(parser)
    parser.add_argument("--json", action="store_true", help="say it as JSON")


def run(options: argparse.Namespace) -> int:
    """Reload, and wait for it. Exit status 1 if the file is refused: then all is as it was."""
    from router.commands.daemon import Daemon  # noqa: PLC0415 (the other commands need none)

    daemon = Daemon.find(options)
    before = daemon.get_json("/-/config")
    status, told = daemon.post("/-/reload")
    try:
        result, digest = str(told["result"]), str(told["digest"])
        faults, needs_restart = list(map(str, told["faults"])), list(map(str, told["needs_restart"]))
        differences = _differences(daemon, before["config"]) if result == "applied" else []
    except (KeyError, TypeError, AttributeError):
        raise DaemonError(
            f"the daemon at {daemon.place} gave an answer of another kind",
            f"it answered {status} to a reload",
            "is it another version of llm-router?",
            exit_status=EX_NO,
        ) from None
    if options.json:
        shown = {"result": result, "hash": digest, "changes": differences, "faults": faults}
        print(json.dumps(shown | {"needs_restart": needs_restart}))
    elif result == "rejected":
        _tell_refused(faults)
    else:
        _tell(result, digest, differences, needs_restart)
    return EX_NO if result == "rejected" else 0


def _differences(daemon: Daemon, before: Mapping[str, Any]) -> list[str] | None:
    """Ask what runs now, and compare; None if it does not answer there any more."""
    from router.config.difference import changes  # noqa: PLC0415

    try:
        after = daemon.get_json("/-/config")
    except DaemonError:
        return None
    return [str(each) for each in changes(before, after["config"])]


def _tell_refused(faults: list[str]) -> None:
    for fault in faults:
        print(visible(fault), file=sys.stderr)
    print(f"{len(faults)} fault(s); refused, nothing has changed. Mend the file and reload again", file=sys.stderr)


def _tell(result: str, digest: str, differences: list[str] | None, needs_restart: list[str]) -> None:
    if result == "unchanged":
        print(f"unchanged: the daemon runs what the file says (hash {visible(digest[:12])})")
        return
    print(f"{visible(result)} (hash {visible(digest[:12])})")
    for each in differences or ():
        print(of_change(each, sys.stdout))
    if differences is None:
        print("what changed cannot be asked: its admin address is another now")
    elif not differences:
        print("no setting is another; a remark, or what stands in a secret or file, is")
    if needs_restart:
        print(f"needs a restart: {visible(', '.join(needs_restart))}")
