"""`llm-router simulate`: a scenario happens to a configuration, in virtual time."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from router.commands.options import EX_CONFIG, EX_NO
from router.errors import ConfigError

NAME = "simulate"
HELP = "what happens to traffic when upstreams fail"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    parser.description = (
        "Lets a scenario happen to a configuration: the real decisions, in virtual time, sending nothing."
    )
    parser.add_argument("config", type=Path, nargs="?", metavar="CONFIG", help="the configuration; secrets not needed")
    parser.add_argument(
        "scenario", type=Path, nargs="?", metavar="SCENARIO", help="see config/examples/scenarios/one-dies.yaml"
    )
    parser.add_argument(
        "--seed", type=_seed, metavar="N", help="of chance, in place of the scenario's; without files: a made-up world"
    )
    parser.set_defaults(refuse=parser.error)


def run(options: argparse.Namespace) -> int:
    """Simulate. Exit status 1 if a promise was broken: the same command does it again."""
    from router.simulation import report, run, scenario, worlds  # noqa: PLC0415 (the other commands need none)

    if options.scenario is None and (options.config is not None or options.seed is None):
        options.refuse("give CONFIG and SCENARIO, or only --seed N")
    try:
        config, story = (
            worlds.world(options.seed) if options.scenario is None else scenario.load(options.config, options.scenario)
        )
    except ConfigError as error:  # of either file, so `check` is not what finds it
        print(
            *error.faults, f"{len(error.faults)} fault(s); mend the file and run this again", sep="\n", file=sys.stderr
        )
        return EX_CONFIG
    seed = story.seed if options.seed is None else options.seed
    began = time.perf_counter()
    result = run.simulate(config, story, seed)
    took_s = time.perf_counter() - began
    print(report.report(config, story, seed, result), end="")
    print(f"{result.tally.ended:,} requests in {took_s:.1f} s: {result.tally.ended / took_s:,.0f}/s", file=sys.stderr)
    return EX_NO if result.audit.count else 0


def _seed(text: str) -> int:
    """Read the number of a seed."""
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError("a seed is a whole number")
    return int(text)
