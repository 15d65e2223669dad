"""`python -m tests.fuzz TARGET`: fuzz one part of the router until something is found, or for so long.

Each new input goes to `build/fuzz/TARGET/inputs`, each that breaks a promise to `faults` beside it. `--keep` adds those
of the first that reach what no file of the corpus does to the corpus.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.fuzz import engine
from tests.fuzz.targets import NAMES


def main() -> None:
    """Read the command line, and do as it says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Fuzz one part of the router. Options of libFuzzer (-seed=1) may follow.",
    )
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--runs", type=int, metavar="N", help="inputs to try")
    parser.add_argument("--seconds", type=int, metavar="S", help="how long to try")
    parser.add_argument("--keep", action="store_true", help="add what was found to the corpus, and try nothing new")
    parser.add_argument("--folder", type=Path, help="where inputs and faults go (build/fuzz/TARGET)")
    given, options = parser.parse_known_args()
    if given.runs is not None:
        options.append(f"-runs={given.runs}")
    if given.seconds is not None:
        options.append(f"-max_total_time={given.seconds}")
    engine.run(given.target, given.folder or Path("build/fuzz") / given.target, options, keep=given.keep)


if __name__ == "__main__":
    main()
