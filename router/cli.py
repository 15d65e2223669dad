"""The command line: the parser of all commands, and the one place where faults of a configuration are told."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Final

from router.commands import (
    check,
    completion,
    config,
    demo,
    doctor,
    drain,
    explain,
    import_,
    init,
    key,
    manual,
    reload,
    serve,
    simulate,
    top,
    version,
)
from router.commands.options import EX_CONFIG, DaemonError
from router.commands.terminal import visible
from router.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

GROUPS: Final[dict[str, tuple[ModuleType, ...]]] = {
    "serve": (serve, demo),
    "configure": (init, check, config, key, import_),
    "operate": (reload, drain, top),
    "inspect": (explain, doctor, simulate),
    "about": (version, manual, completion),
}
"""The commands in the order of `--help`. Each module says what `router.commands` asks of it."""

ABOUT: Final = "A load-balancing router between OpenAI-compatible clients and many upstreams."

EX_PIPE: Final = 141
"""What a shell says of a program that SIGPIPE ended."""

EXAMPLES: Final = """\
examples:
  llm-router demo                   see it work, no key needed
  llm-router check -c router.yaml   every fault of a file at once
  llm-router run -c router.yaml     serve; SIGHUP reloads, SIGTERM drains
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    options = parser().parse_args(arguments)
    try:
        status = int(options.command(options))
        if sys.stdout is not None:  # it is where nobody has it open
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as in `config show | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_PIPE
    except ConfigError as error:
        for fault in error.faults:
            print(visible(fault), file=sys.stderr)
        advice = f"mend the file and check it: llm-router check -c {options.config}"
        print(f"{len(error.faults)} fault(s); {advice}", file=sys.stderr)
        return EX_CONFIG
    except DaemonError as error:
        print(*error.lines, sep="\n", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="llm-router",
        usage="llm-router COMMAND [OPTION ...]",
        description=f"{ABOUT}\n\n{_listed()}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="name", metavar="COMMAND", required=True, help=argparse.SUPPRESS, prog=top.prog)
    for modules in GROUPS.values():
        for module in modules:
            each = commands.add_parser(module.NAME, help=module.HELP, description=module.HELP)
            module.arguments(each)
            each.set_defaults(command=module.run)
    top.set_defaults(whole=top)  # for the commands that tell what all of them are
    return top


def _listed() -> str:
    """Return the commands by group, a line for each: argparse knows no groups of them."""
    return "\n".join(
        f"{group}:\n" + "\n".join(f"  {module.NAME:<11} {module.HELP}" for module in modules)
        for group, modules in GROUPS.items()
    )
