"""The run: build, start, measure in rounds, report, stop. What it measures and why: the docstring of the package."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import measure, report, systems

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FRESH = ("boot", "up")
"""What is measured on processes that were just started: one that has worked has memory to spare."""
MEASUREMENTS = (*FRESH, *measure.SHAPES)
SYSTEMS = ("direct", "nginx", "router")
ROUNDS, QUICK_ROUNDS = 11, 2
EVERY = {"boot": 4, "up": 4, "p500": 4, "ts": 2}
"""What takes seconds runs in each so-manieth round only."""
LIMIT_S = 900.0
"""The run ends after so many seconds, whatever it was asked for, and reports what it has."""
BUSY = 0.5
"""The load average above which the run says that it is not alone; ratios of CPU still hold then, times do not."""
OPEN_FILES = 16_384


class Run:
    """One run of the benchmark."""

    def __init__(self, options: argparse.Namespace, folder: Path, results: report.Results) -> None:
        self.options = options
        self.results = results
        self.deadline = time.monotonic() + LIMIT_S
        cpus = sorted(os.sched_getaffinity(0))
        system_cpu, load_cpu = cpus[0], cpus[-1]
        if system_cpu == load_cpu:
            print("only one CPU: load and systems disturb each other, latencies mean little", file=sys.stderr)
        busy = os.getloadavg()[0]
        if busy > BUSY:
            print(f"other programs are running (load average {busy:.1f}): times will be too long", file=sys.stderr)
        os.sched_setaffinity(0, {load_cpu})
        here = Path(__file__).parent
        self.upstream = systems.upstream(folder, load_cpu, systems.compile_program(here / "upstream.c", folder))
        load = systems.compile_program(here / "load.c", folder)
        self.load = measure.Load(program=load, folder=folder, cpu=load_cpu, upstream=self.upstream)
        self.systems: dict[str, systems.System] = {"direct": self.upstream}
        if "nginx" in options.systems:
            self.systems["nginx"] = systems.nginx(folder, system_cpu, self.upstream.port)
        if "router" in options.systems:
            command = shlex.split(options.router) if options.router else systems.router_command()
            self.systems["router"] = systems.router(folder, system_cpu, self.upstream.port, command)

    def run(self) -> None:
        """Measure round after round.

        Raises:
            StartError: A system did not start.
        """
        with contextlib.ExitStack() as started:
            started.callback(self.upstream.stop)
            self.upstream.start()
            for number, name in self.plan():
                if time.monotonic() > self.deadline:
                    print(f"stopped after {LIMIT_S:.0f} s", file=sys.stderr)
                    return
                if name not in self.results.faults:
                    self.measure(name, number, started)

    def plan(self) -> Iterator[tuple[int, str]]:
        """Yield round by round what to measure; what wants new processes first, for the others keep theirs running."""
        for names in (FRESH, measure.SHAPES):
            for number in range(self.options.rounds):
                for name in names:
                    if name in self.options.only and number % EVERY.get(name, 1) == 0:
                        yield number, name

    def measure(self, name: str, number: int, started: contextlib.ExitStack) -> None:
        """Put one load on the systems and keep what it cost them."""
        done: report.Round = {}
        try:
            for system, result in self.fresh(name) if name in FRESH else self.slices(name, started):
                done[system.name] = result
                self.tell(number, name, system, result)
        except measure.WrongAnswerError as error:
            self.results.faults[name] = str(error)
            print(f"{name}: WRONG: {error}", file=sys.stderr)
        self.results.rounds.setdefault(name, []).append(done)

    def slices(self, name: str, started: contextlib.ExitStack) -> Iterator[tuple[systems.System, report.Slice]]:
        """Measure running systems; they are started when first needed."""
        wanted = [s for s in SYSTEMS if s in self.options.systems or (s == "direct" and name == "c1")]
        for system in map(self.systems.__getitem__, wanted):
            if not system.process:
                started.callback(system.stop)
                took = system.start()
                print(f"{system.name} is up after {took:.2f} s: {' '.join(map(str, system.pids()))}", flush=True)
        shape = measure.SHAPES[name]
        shape = shape.lasting(self.options.seconds) if self.options.seconds else shape
        return self.load.slices([self.systems[s] for s in wanted], shape)

    def fresh(self, name: str) -> Iterator[tuple[systems.System, report.Slice]]:
        """Measure start, memory and uploads on processes of their own."""
        weigh = self.load.hold if name == "boot" else self.load.upload
        for each in SYSTEMS:
            if each not in self.options.systems or each == "direct":
                continue
            system = self.systems[each]
            try:
                yield system, {"start_s": system.start()} | weigh(system)
            finally:
                system.stop()

    def tell(self, number: int, name: str, system: systems.System, result: report.Slice) -> None:
        """Say in one line what a slice gave, and how busy the two CPUs were."""
        figures = [f"{q.read(result):,.{q.digits}f} {q.unit}" for q in report.QUANTITIES if q.of == name]
        if "busy" in result:
            figures.append(f"busy {result['busy']:.0%}, load and upstream {result['load_busy']:.0%}")
        print(f"{number + 1:3} {name:5} {system.name:7} {', '.join(figures)}", flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="What the router costs, beside nginx in the same run."
    )
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds")
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="measurements, default %(default)s")
    parser.add_argument("--systems", default="nginx,router", help=f"of {', '.join(SYSTEMS)}; default %(default)s")
    parser.add_argument("--seconds", type=float, help="length of a window, to profile the router under a steady load")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a bound is missed")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--router", help="the router's command; {config} in it is its configuration file")
    options = parser.parse_args(arguments)
    for name, allowed in (("only", MEASUREMENTS), ("systems", SYSTEMS)):
        chosen = getattr(options, name).split(",")
        unknown = sorted(set(chosen) - set(allowed))
        if unknown:
            parser.error(f"--{name}: {', '.join(unknown)} is not one of {', '.join(allowed)}")
        setattr(options, name, chosen)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Returns:
        0; 1 if an answer was wrong or, with `--strict`, a bound was missed; 2 if a system could not be started; 130 if
        it was interrupted, after reporting what it had.
    """
    options = _options(arguments)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, most), most))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwinds, so that everything is stopped
    with tempfile.TemporaryDirectory(prefix="llm-router-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the worker of an nginx that root starts is somebody else
        results, interrupted = report.Results(), False
        try:
            Run(options, Path(folder), results).run()
        except systems.StartError as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            interrupted = True
    lines = results.lines()
    if lines:
        print(report.table(lines))
    if options.json:
        content = {"machine": report.machine(), "lines": [line.to_json() for line in lines]}
        content |= {"slices": results.rounds, "faults": results.faults}
        options.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    verdicts = {line.verdict() for line in lines}
    if interrupted:
        return 130
    return int("WRONG" in verdicts or (options.strict and "MISS" in verdicts))


if __name__ == "__main__":
    sys.exit(main())
