"""All commands as data, read off the parser: what `completion` and `manual` are made from.

argparse has no public way to ask a parser what it understands, so this module alone looks inside one.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """An option, or a word that a command takes."""

    flags: tuple[str, ...]
    """`-c`, `--config`; none: it is known by its place."""
    metavar: str
    """What stands for its value; empty: it takes none."""
    help: str
    default: str
    """Empty: none that says anything."""
    choices: tuple[str, ...]
    is_file: bool
    is_required: bool
    is_repeated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command, or the program itself."""

    words: tuple[str, ...]
    """What is typed behind the program's name: `("config", "show")`."""
    help: str
    description: str
    epilog: str
    arguments: tuple[Argument, ...]
    commands: tuple[Command, ...]

    @property
    def options(self) -> tuple[Argument, ...]:
        """Those of its arguments that have flags."""
        return tuple(each for each in self.arguments if each.flags)

    @property
    def operands(self) -> tuple[Argument, ...]:
        """Those that are known by their place."""
        return tuple(each for each in self.arguments if not each.flags)

    def walk(self) -> list[Command]:
        """Return this command and all below it, in the order of `--help`."""
        return [self, *(each for command in self.commands for each in command.walk())]


def read(parser: argparse.ArgumentParser, words: tuple[str, ...] = (), short: str = "") -> Command:
    """Read the command that a parser understands, and those below it.

    Args:
        parser: Of the command.
        words: What is typed before it.
        short: Its line in the list of commands.
    """
    arguments, commands = [], list[Command]()
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            lines = {each.dest: each.help or "" for each in action._choices_actions}  # noqa: SLF001
            commands += [read(below, (*words, name), lines.get(name, "")) for name, below in action.choices.items()]
        elif action.help is not argparse.SUPPRESS:
            arguments.append(_argument(action, parser))
    return Command(
        words=words,
        help=short,
        description=parser.description or short,
        epilog=parser.epilog or "",
        arguments=tuple(arguments),
        commands=tuple(commands),
    )


def _argument(action: argparse.Action, parser: argparse.ArgumentParser) -> Argument:
    takes_value = action.nargs != 0
    metavar = action.metavar if isinstance(action.metavar, str) else (action.dest.upper() if takes_value else "")
    help_text = parser._get_formatter()._expand_help(action) if action.help else ""  # noqa: SLF001
    return Argument(
        flags=tuple(action.option_strings),
        metavar=metavar if takes_value else "",
        help=help_text,
        default=_default(action.default) if takes_value else "",
        choices=tuple(str(choice) for choice in action.choices or ()),
        is_file=action.type is Path,
        is_required=action.required and action.nargs not in {"?", "*"},
        is_repeated=action.nargs in {"*", "+"} or type(action).__name__ == "_AppendAction",
    )


def _default(value: Any) -> str:
    return "" if value is None or value is argparse.SUPPRESS or value == [] or isinstance(value, bool) else str(value)
