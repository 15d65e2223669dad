"""The command: run, print a table, draw; exit status 1 if anything does not hold."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from tests.soak import draw
from tests.soak.plan import Fault
from tests.soak.run import Soak

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.soak.checks import Result

MINUTES = 10.0
FOLDER = Path("build/soak")
"""Where the curves go; Git ignores it, and `make clean` removes it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as asked; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Mixed faults for a long time.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=MINUTES, metavar="M", help="default: %(default)g")
    length.add_argument("--seconds", type=float, metavar="S")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the plan of faults; default: %(default)s")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="for the curves; default: %(default)s")
    options = parser.parse_args(arguments)
    seconds = options.seconds if options.seconds is not None else options.minutes * 60
    if seconds < 10:
        parser.error("less than 10 seconds shows nothing")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(Soak(seconds, options.seed, Path(folder)).run())
    name = f"soak-{seconds:.0f}s-seed{options.seed}"
    picture = options.out / f"{name}.png"
    draw.write_csv(picture.with_suffix(".csv"), result.samples)
    draw.draw(picture, result.samples, f"{name}: {result.books.records:,} requests")
    sys.stdout.write(report(result, picture))
    return 0 if result.holds else 1


def report(result: Result, picture: Path) -> str:
    """The table."""
    books = result.books
    rows = [("records", books.records), *sorted(books.seen.items())]
    rows += [("reloads applied", books.reloads.count("applied")), ("reloads rejected", books.reloads.count("rejected"))]
    lines = [f"{result.seconds:.0f} s, seed {result.seed}", ""]
    lines += [f"  {what:<36} {count:>9,}" for what, count in rows]
    lines += ["", "faults played"]
    lines += [f"  {fault:<36} {books.faults[fault]:>9,}" for fault in Fault]
    lines += ["", "checks"]
    lines += [f"  {'ok    ' if check.holds else 'FAILED'} {check.what}: {check.detail}" for check in result.checks]
    lines += ["", *books.problems[:20]] if books.problems else []
    lines += ["", f"curves: {picture} and {picture.with_suffix('.csv').name}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
