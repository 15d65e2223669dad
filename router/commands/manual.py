"""`llm-router manual`: the manual page `llm-router(1)`, and its commands as tables in Markdown.

Both are made from the parser; what no parser knows (files, environment, signals) stands in tables here. The exit
statuses and their meanings are those of `options`. `deploy/man/llm-router.1` is this command's output:
`llm-router manual > deploy/man/llm-router.1`; a test compares them.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from typing import TYPE_CHECKING, Final

from router.commands import options as common
from router.commands import tree

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from router.commands.tree import Argument, Command

NAME = "manual"
HELP = "print the manual page, for man -l -"

DATED: Final = "November 23, 2026"
"""When the page was last looked through: a page of today's date would differ every day."""

FILES: Final = {
    "config/router.yaml": "The configuration, unless -c names another file. The one that comes with the program holds"
    " every setting with its default and says what it does.",
    "/etc/llm-router/router.yaml": "Where the systemd unit looks for it.",
    "config/router.schema.json": "A JSON Schema of it, for editors.",
}
ENVIRONMENT: Final = {
    "LLM_ROUTER_ADMIN_TOKEN": "The credential that commands show to the running daemon, if --token-file is not given.",
    "NO_COLOR": "If it is set and not empty, nothing is printed in colour.",
    "CREDENTIALS_DIRECTORY": "Where {credential: NAME} is looked up; systemd sets it for LoadCredential=.",
    "LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES": "Sockets that systemd hands over.",
    "NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC": "Where systemd is told that the daemon is ready, reloads, stops and"
    " is alive.",
}
"""Besides them, every variable that the configuration refers to as {env: NAME}."""
SIGNALS: Final = {
    "SIGHUP": "Reads the configuration anew. A valid one applies without one lost request; a faulty one changes nothing"
    " and is told in the log.",
    "SIGTERM, SIGINT": "Drains: the daemon says that it is not ready, takes nothing new, lets what is in flight finish"
    " for at most the time under `stop`, and ends. A second one ends at once.",
}
EXAMPLES: Final = {
    "See it work; no key is needed": "llm-router demo",
    "Check a file, then serve it": "llm-router check -c router.yaml && llm-router run -c router.yaml",
    "Move from LiteLLM": "llm-router import litellm config.yaml -o router.yaml",
}
SEE_ALSO: Final = ("systemctl 1", "systemd.exec 5")

_MACRO = re.compile(r"[%A-Z][A-Za-z]|[.,;:()|!?\[\]]")
"""Words that mdoc takes for macros or for punctuation."""

_STATUS_GOOD: Final = "All is well."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    parser.description = "Prints the manual page. To read it: llm-router manual | man -l -"
    parser.add_argument(
        "--markdown", action="store_true", help="print commands and exit statuses as tables in Markdown"
    )


def run(options: argparse.Namespace) -> int:
    """Print it."""
    program = tree.read(options.whole)
    print(markdown(program) if options.markdown else page(program), end="")
    return 0


def statuses() -> dict[int, str]:
    """Return what each exit status means: the docstrings below their names in `options`, which only its source has."""
    body = ast.parse(inspect.getsource(common)).body
    meanings = {0: _STATUS_GOOD}
    for node, after in itertools.pairwise(body):
        if isinstance(node, ast.Assign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            name = ast.unparse(node.targets[0])
            if name.startswith("EX_"):
                meanings[getattr(common, name)] = " ".join(str(after.value.value).split())
    return dict(sorted(meanings.items()))


def page(program: Command) -> str:
    """Return the manual page, in mdoc(7)."""
    lines = [
        f".Dd {DATED}", ".Dt LLM-ROUTER 1", ".Os",
        ".Sh NAME", ".Nm llm-router", ".Nd load-balancing router between OpenAI-compatible clients and many upstreams",
        ".Sh SYNOPSIS", ".Nm", ".Ar COMMAND", ".Op Ar OPTION ...",
        ".Sh DESCRIPTION", *_text(program.description.partition("\n")[0]),
        *_text("It does one of the following; each command says more with --help."),
        ".Sh COMMANDS",
    ]  # fmt: skip
    for command in _told(program):
        lines += _section(command)
    for title, listed in (("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)):
        macro = ".It Pa" if title == "FILES" else ".It Ev"
        lines += [f".Sh {title}", *_list((f"{macro} {_words(name)}", text) for name, text in listed.items())]
        if title == "ENVIRONMENT":
            lines += [".Pp", *_text("Besides them, every variable that the configuration refers to as {env: NAME}.")]
    lines += [".Sh EXIT STATUS"]
    lines += _list((f".It {status}", text) for status, text in statuses().items())
    lines += [".Sh EXAMPLES"]
    for number, (text, typed) in enumerate(EXAMPLES.items()):
        lines += [*([".Pp"] if number else []), *_text(f"{text}:"), ".Dl " + _words(typed)]
    lines += [".Sh SIGNALS", *_list((f".It {_words(name)}", text) for name, text in SIGNALS.items())]
    lines += [".Sh SEE ALSO"]
    lines += [f".Xr {name}{' ,' if name != SEE_ALSO[-1] else ''}" for name in SEE_ALSO]
    return "\n".join(lines) + "\n"


def _section(command: Command) -> list[str]:
    words, shown = _words(" ".join(command.words)), _shown(command)
    lines = [f".Ss llm-router {words}", ".Nm llm-router", f".Cm {words}", *(_usage(argument) for argument in shown)]
    lines += [".Ar COMMAND"] if command.commands else []
    for block in _blocks(command.description):
        lines += _literal(block) if block.startswith(" ") else [".Pp", *_text(_sentence(block))]
    if shown:
        lines += _list((f".It {_item(argument)}", _explained(argument)) for argument in shown)
    if command.epilog:
        lines += _literal(command.epilog)
    return lines


def _told(program: Command) -> list[Command]:
    """The commands that do something, and those before whose names there is something to say."""
    below = program.walk()[1:]
    return [each for each in below if not each.commands or each.description != each.help]


def _blocks(text: str) -> list[str]:
    """Return the paragraphs of a text; those that are indented are to stay as they are."""
    groups = itertools.groupby(text.splitlines(), key=lambda line: (not line.strip(), line.startswith(" ")))
    return [("\n" if indented else " ").join(lines) for (blank, indented), lines in groups if not blank]


def _literal(text: str) -> list[str]:
    return [".Bd -literal -offset indent", *(_escaped(line) for line in textwrap.dedent(text).splitlines()), ".Ed"]


def _shown(command: Command) -> list[Argument]:
    return [each for each in command.arguments if "--help" not in each.flags]


def _usage(argument: Argument) -> str:
    if not argument.flags:
        words = f"Ar {_words(argument.metavar)}"
    else:
        words = f"Fl {_flag(argument.flags[0])}" + (f" Ar {_words(argument.metavar)}" if argument.metavar else "")
    return f".{words}" if argument.is_required else f".Op {words}"


def _item(argument: Argument) -> str:
    value = f" Ar {_words(argument.metavar)}" if argument.metavar else ""
    return " , ".join(f"Fl {_flag(flag)}" for flag in argument.flags) + value if argument.flags else value.strip()


def _explained(argument: Argument) -> str:
    """Return the help of an argument, with choices and default where it does not name them."""
    parts = [_sentence(argument.help)] if argument.help else []
    if argument.choices and not all(choice in argument.help for choice in argument.choices):
        parts.append(f"One of {', '.join(argument.choices)}.")
    if argument.default and "default" not in argument.help.lower():
        parts.append(f"Default: {argument.default}.")
    return " ".join(parts)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "!", "?", ":")) else f"{text}."


def _list(items: Iterable[tuple[str, str]]) -> list[str]:
    return [".Bl -tag -width Ds", *(line for head, text in items for line in (head, *_text(text))), ".El"]


def _text(text: str) -> list[str]:
    """Return prose, a sentence on each line as mdoc wants it, or on several."""
    sentences = re.split(r"(?<=[.!?:;]) +", " ".join(text.split()))
    lines = [line for each in sentences for line in textwrap.wrap(each, 70, break_on_hyphens=False)]
    return [_escaped(line) for line in lines]


def _escaped(line: str) -> str:
    line = line.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    return f"\\&{line}" if line[:1] in {".", "'"} else line


def _words(text: str) -> str:
    """Return words as arguments of a macro: none of them is one itself."""
    return " ".join(("\\&" if _MACRO.fullmatch(word) else "") + _escaped(word) for word in text.split())


def _flag(flag: str) -> str:
    return _escaped(flag[1:])


def markdown(program: Command) -> str:
    """Return all commands with their options, and the exit statuses, as Markdown."""
    parts = []
    for command in _told(program):
        operands = ["COMMAND"] if command.commands else [_typed(each) for each in command.operands]
        parts.append(f"### `{' '.join(('llm-router', *command.words, *operands))}`\n")
        for block in (*_blocks(command.description), *([command.epilog] if command.epilog else ())):
            is_literal = block.startswith(" ") or block is command.epilog
            text = f"```\n{textwrap.dedent(block).rstrip()}\n```" if is_literal else _sentence(_cell(block))
            parts.append(f"{text}\n")
        rows = [[_name(each), _code(each.default), _cell(_help(each))] for each in _shown(command)]
        if rows:
            parts.append(_table(("option", "default", "what it does"), rows))
    parts.append("### Exit statuses\n")
    parts.append(_table(("status", "meaning"), ([str(status), _cell(text)] for status, text in statuses().items())))
    return "\n".join(parts)


def _typed(operand: Argument) -> str:
    return operand.metavar if operand.is_required else f"[{operand.metavar}]"


def _name(argument: Argument) -> str:
    return _code(f"{', '.join(argument.flags)} {argument.metavar}".strip())


def _help(argument: Argument) -> str:
    choices = argument.choices and not all(choice in argument.help for choice in argument.choices)
    return argument.help + (f" (one of {', '.join(argument.choices)})" if choices else "")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    """Return text that neither ends a table's cell nor is taken for HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"
