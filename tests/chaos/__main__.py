"""The run: one scenario after the other, on one system after the other, then the table."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from tests.chaos import accounts, changes, outages, report, truncation
from tests.chaos.stage import Scenario, Stage
from tests.chaos.systems import LITELLM, LiteLLM, Router, System

if TYPE_CHECKING:
    from collections.abc import Sequence

SCENARIOS: dict[str, Scenario] = {
    "kill": outages.kill,
    "freeze": outages.freeze,
    "storm": outages.storm,
    "truncate": truncation.truncate,
    "limits": accounts.limits,
    "reloads": changes.reloads,
    "stop": changes.stop,
}
OURS_ALONE = {
    "limits": f"{report.NOT_MEASURED} (keys with limits need a database)",
    "reloads": f"{report.NOT_MEASURED} (a changed file needs a restart)",
    "stop": report.NOT_MEASURED,
}
"""What is not measured on another system, and what its place in the table says."""
SEED = 1
BUSY = 0.5
"""The load average above which the run says that it is not alone: counts hold then, times do not."""


def play(options: argparse.Namespace, systems: Sequence[System]) -> report.Findings:
    """Every chosen scenario on every system, each in an event loop and a folder of its own."""
    found: report.Findings = {}
    for name in options.only:
        for system in systems:
            if name in OURS_ALONE and not isinstance(system, Router):
                continue
            began = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="llm-router-chaos-") as folder:
                stage = Stage(system=system, folder=Path(folder), scale=options.scale, seed=options.seed)
                finding = uvloop.run(SCENARIOS[name](stage))
            found.setdefault(name, {})[system.name] = finding
            state = "holds" if finding.holds else "BROKEN"
            _say(
                f"{name:9} {system.name:10} {state:6} {time.monotonic() - began:5.1f} s  {finding.measured}", aside=True
            )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the scenarios.

    Returns:
        0; 1 if this router broke a promise; 2 if the other system is not there.
    """
    options = _options(arguments)
    systems: list[System] = [Router()]
    if options.beside:
        if not (LITELLM / "litellm").exists():
            _say('LiteLLM is not here: `make chaos ARGS="--beside litellm"` installs it', aside=True)
            return 2
        systems.append(LiteLLM())
    busy = os.getloadavg()[0]
    if busy > BUSY:
        _say(f"other programs are running (load average {busy:.1f}): times will be too long", aside=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    found = play(options, systems)
    names = [system.name for system in systems]
    _say(_head(systems, options, sys.argv[1:] if arguments is None else arguments, busy))
    _say((report.markdown if options.markdown else report.plain)(found, names, OURS_ALONE))
    return int(any(not by_system[Router.name].holds for by_system in found.values()))


def _head(systems: Sequence[System], options: argparse.Namespace, arguments: Sequence[str], busy: float) -> str:
    versions = ", ".join(f"{system.name} {system.version}" for system in systems)
    command = shlex.join(["python", "-m", "tests.chaos", *arguments])
    machine = f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load average {busy:.1f} before"
    return f"{versions}, {machine}; seed {options.seed}; `{command}`\n"


def _say(text: str, *, aside: bool = False) -> None:
    print(text, file=sys.stderr if aside else sys.stdout, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Promises, measured while things break.")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="scenarios, default %(default)s")
    parser.add_argument("--beside", choices=["litellm"], help="another gateway to do the same with")
    parser.add_argument("--scale", type=float, default=1.0, help="of durations and numbers, default %(default)s")
    parser.add_argument("--seed", type=int, default=SEED, help="default %(default)s")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    unknown = sorted(set(options.only) - set(SCENARIOS))
    if unknown:
        parser.error(f"--only: {', '.join(unknown)} is not one of {', '.join(SCENARIOS)}")
    if options.scale <= 0:
        parser.error("--scale: must be greater than zero")
    return options


if __name__ == "__main__":
    sys.exit(main())
