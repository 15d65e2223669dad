"""`llm-router demo`: its arguments. What it shows is in `stage`, which loads the whole daemon."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec
import yaml

from router.demo.behaviour import BEHAVIOURS, Behaviour, changed

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `llm-router demo` understands."""
    parser.add_argument("--port", type=int, default=8080, help="where clients connect; the next free one is taken")
    parser.add_argument("--admin-port", type=int, default=9464, help="metrics and health; the next free one is taken")
    parser.add_argument("--once", action="store_true", help="end after the sample requests: 0 if all went as promised")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="UPSTREAM.NAME=VALUE",
        help=f"behaviour of {', '.join(BEHAVIOURS)}: slow.latency_s=1.5, flaky.errors='{{500: 2, 429: 3}}'; "
        f"names: {', '.join(Behaviour.__struct_fields__)}",
    )


def main(args: argparse.Namespace) -> int:
    """Run the demo with parsed `args`; return the exit status."""
    try:
        behaviours = _behaviours(args.set)
    except (ValueError, yaml.YAMLError) as fault:  # msgspec's ValidationError is a ValueError
        sys.stderr.write(f"--set: {fault}\n")
        return 2
    import uvloop  # noqa: PLC0415 (other commands declare these arguments and need no loop and no daemon)

    from router.demo.stage import run  # noqa: PLC0415

    return uvloop.run(run(args.port, args.admin_port, once=args.once, behaviours=behaviours))


def _behaviours(settings: list[str]) -> dict[str, Behaviour]:
    """Apply `UPSTREAM.NAME=VALUE` settings to the default behaviours.

    Raises:
        ValueError: a setting that cannot be applied.
    """
    behaviours = dict(BEHAVIOURS)
    for setting in settings:
        target, equals, value = setting.partition("=")
        upstream, _, name = target.partition(".")
        if not equals or upstream not in behaviours:
            raise ValueError(f"expected UPSTREAM.NAME=VALUE with one of {', '.join(behaviours)}, got {setting!r}")
        try:
            behaviours[upstream] = changed(behaviours[upstream], {name: yaml.safe_load(value)})
        except msgspec.ValidationError as fault:
            raise ValueError(f"{setting}: {fault}") from fault
    return behaviours
