"""The commands. Errors are three lines at most: what, why, what to do."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from router import __version__, process, service_manager
from router.config import dump
from router.config.loader import load
from router.errors import ConfigError
from router.relay.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.app import Daemon

EX_CONFIG = 78
"""sysexits.h: a configuration error. systemd can be told not to restart on it."""
EX_UNAVAILABLE = 69
"""sysexits.h: an address is taken, say."""

DEFAULT_CONFIG = Path("config/router.yaml")

EXAMPLES = """\
examples:
  llm-router demo                   see it work, no key needed
  llm-router check -c router.yaml   every fault of a file at once
  llm-router run -c router.yaml     serve; SIGHUP reloads, SIGTERM drains
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(words[:1] == ["demo"]).parse_args(words)
    try:
        return int(options.command(options))
    except ConfigError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        advice = "run this again" if options.command is _simulate else f"check it: llm-router check -c {options.config}"
        print(f"{len(error.faults)} fault(s); mend the file and {advice}", file=sys.stderr)
        return EX_CONFIG
    except KeyboardInterrupt:
        return 130


def _parser(demo_wanted: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llm-router",
        description="A load-balancing router between OpenAI-compatible clients and many upstreams.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = commands.add_parser("run", help="serve until SIGTERM")
    _add_config(run)
    run.set_defaults(command=_run)
    check = commands.add_parser("check", help="check a configuration file and say every fault")
    _add_config(check)
    check.add_argument("-q", "--quiet", action="store_true", help="say nothing if it is good")
    check.add_argument(
        "--no-credentials",
        action="store_true",
        help="take those of systemd for given: ExecReload= cannot see them",
    )
    check.set_defaults(command=_check)
    config = commands.add_parser("config", help="show the configuration")
    show = config.add_subparsers(title="commands", metavar="COMMAND", required=True).add_parser(
        "show", help="print it with every default filled in, without secrets"
    )
    _add_config(show)
    show.set_defaults(command=_show)
    demo = commands.add_parser("demo", help="the router on three embedded upstreams, with sample requests")
    demo.set_defaults(command=_demo, config=None)
    if demo_wanted:  # its module brings the whole daemon with it, which `check` and `version` need not wait for
        from router.demo import show as demo_show  # noqa: PLC0415

        demo_show.add_arguments(demo)
    simulate = commands.add_parser(
        "simulate",
        help="what happens to traffic when upstreams fail",
        description="Lets a scenario happen to a configuration: the real decisions, in virtual time, sending nothing.",
    )
    simulate.add_argument(
        "config", type=Path, nargs="?", metavar="CONFIG", help="the configuration; secrets not needed"
    )
    simulate.add_argument(
        "scenario", type=Path, nargs="?", metavar="SCENARIO", help="see config/examples/scenarios/one-dies.yaml"
    )
    simulate.add_argument(
        "--seed", type=_seed, metavar="N", help="of chance, in place of the scenario's; without files: a made-up world"
    )
    simulate.set_defaults(command=_simulate, refuse=simulate.error)
    version = commands.add_parser("version", help="print the version")
    version.set_defaults(command=_version, config=None)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"default: {DEFAULT_CONFIG}"
    )


def _run(options: argparse.Namespace) -> int:
    process.heed_sigterm()
    process.tune()
    return uvloop.run(_serve(options.config))


async def _serve(path: Path) -> int:
    """Start, then wait for signals: SIGHUP reloads, SIGTERM or SIGINT drains, a second one hurries."""
    from router.app import Daemon  # noqa: PLC0415 (`check` and `version` answer without loading the daemon)

    manager = service_manager.ServiceManager(os.environ, pid=os.getpid())
    try:
        sockets = service_manager.sockets(os.environ, pid=os.getpid())
    except service_manager.HandoverError as error:
        print(f"cannot take over sockets: {error}", file=sys.stderr)
        return EX_CONFIG
    daemon = Daemon(
        path, environ=os.environ, connections_max=process.connections_max(), manager=manager, sockets=sockets
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: None)  # by default it would kill us
    try:
        await daemon.start()
    except OSError as error:
        print(f"cannot listen: {error.strerror or error}", file=sys.stderr)
        print(
            "another process holds the address, or it is not this machine's; see `listen` and `admin`", file=sys.stderr
        )
        return EX_UNAVAILABLE
    process.settle()
    process.watch(asyncio.get_running_loop())
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    signals = _Signals(daemon, manager, ended)
    for number, handler in (
        (signal.SIGTERM, signals.stop),
        (signal.SIGINT, signals.stop),
        (signal.SIGHUP, signals.reload),
    ):
        asyncio.get_running_loop().add_signal_handler(number, handler)
    manager.ready()
    await ended
    return 0


class _Signals:
    """What signals do. Each runs on the loop, so the work is given to tasks that are kept here."""

    def __init__(self, daemon: Daemon, manager: service_manager.ServiceManager, ended: asyncio.Future[None]) -> None:
        self._daemon = daemon
        self._manager = manager
        self._ended = ended
        self._tasks = Tasks(lambda name, error: print(f"{name} failed: {error!r}", file=sys.stderr))
        self._stopping = False

    def reload(self) -> None:
        self._tasks.spawn(self._reload(), "reload")

    async def _reload(self) -> None:
        self._manager.reloading()
        await self._daemon.reload()
        self._manager.ready()

    def stop(self) -> None:
        self._manager.stopping()
        hurry, self._stopping = self._stopping, True
        self._tasks.spawn(self._stop(hurry=hurry), "stop")

    async def _stop(self, *, hurry: bool) -> None:
        try:
            await self._daemon.stop(hurry=hurry)
        finally:
            if not self._ended.done():
                self._ended.set_result(None)


def _check(options: argparse.Namespace) -> int:
    config = load(options.config, environ=os.environ, credentials=not options.no_credentials).config
    if options.quiet:
        return 0
    counts = f"{len(config.models)} models, {len(config.upstreams)} upstreams, {len(config.keys)} keys"
    print(f"{options.config}: good ({counts})")
    return 0


def _show(options: argparse.Namespace) -> int:
    print(dump.to_yaml(load(options.config, environ=os.environ)), end="")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from router.demo import show  # noqa: PLC0415 (see `_parser`)

    return show.main(options)


def _seed(text: str) -> int:
    """Read the number of a seed."""
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError("a seed is a whole number")
    return int(text)


def _simulate(options: argparse.Namespace) -> int:
    """Exit status 1 if a promise was broken: the same command does it again."""
    from router.simulation import report, run, scenario, worlds  # noqa: PLC0415 (see `_parser`)

    if options.scenario is None and (options.config is not None or options.seed is None):
        options.refuse("give CONFIG and SCENARIO, or only --seed N")
    if options.scenario is None:
        config, story = worlds.world(options.seed)
    else:
        config, story = scenario.load(options.config, options.scenario)
    seed = story.seed if options.seed is None else options.seed
    began = time.perf_counter()
    result = run.simulate(config, story, seed)
    took_s = time.perf_counter() - began
    print(report.report(config, story, seed, result), end="")
    print(f"{result.tally.ended:,} requests in {took_s:.1f} s: {result.tally.ended / took_s:,.0f}/s", file=sys.stderr)
    return 1 if result.audit.count else 0


def _version(_options: argparse.Namespace) -> int:
    print(f"llm-router {__version__} (Python {platform.python_version()})")
    return 0
