from __future__ import annotations

import argparse
from pathlib import Path

from router import cli
from router.commands import tree


def sample() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="p", description="A program.")
    commands = parser.add_subparsers()
    one = commands.add_parser("one", help="the first", epilog="See two.")
    one.add_argument("-f", "--file", type=Path, default=Path("x"), metavar="FILE", help="default: %(default)s")
    one.add_argument("--secret", help=argparse.SUPPRESS)
    one.add_argument("kind", choices=("a", "b"))
    one.add_argument("more", nargs="*", metavar="MORE")
    two = commands.add_parser("two", help="the second").add_subparsers()
    two.add_parser("three", help="below it").add_argument("--loud", action="store_true")
    return parser


def test_a_parser_is_read_whole() -> None:
    """Commands come in their order with what they take; what is hidden from help is hidden here."""
    program = tree.read(sample())
    assert [command.words for command in program.walk()] == [(), ("one",), ("two",), ("two", "three")]
    one = program.commands[0]
    assert (one.help, one.description, one.epilog) == ("the first", "the first", "See two.")
    assert [option.flags for option in one.options] == [("-h", "--help"), ("-f", "--file")]
    file = one.options[1]
    assert (file.metavar, file.help, file.default, file.is_file, file.is_required) == (
        "FILE", "default: x", "x", True, False,
    )  # fmt: skip
    kind, more = one.operands
    assert (kind.choices, kind.metavar, kind.is_required) == (("a", "b"), "KIND", True)
    assert (more.is_repeated, more.is_required) == (True, False)
    (loud,) = (option for option in program.walk()[-1].options if option.flags == ("--loud",))
    assert (loud.metavar, loud.default) == ("", "")


def test_every_command_is_in_the_tree() -> None:
    """The commands of the program are those that `cli` lists, in the same order, each with its line of help."""
    program = tree.read(cli.parser())
    modules = [module for group in cli.GROUPS.values() for module in group]
    assert [(each.words, each.help) for each in program.commands] == [((it.NAME,), it.HELP) for it in modules]
