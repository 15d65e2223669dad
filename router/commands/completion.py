"""`llm-router completion`: what makes a shell complete commands, options, choices and file names.

The scripts are made from the parser whenever they are asked for, so they never lag behind it. `shtab` makes such ones
too, but would be one more package at run time, or else a copy of its output to keep fresh for each shell.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from router.commands import tree

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from router.commands.tree import Argument, Command

NAME = "completion"
HELP = "print completion for a shell"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    parser.description = (
        "Prints a script that lets a shell complete commands, options and file names. For one session:"
        " source <(llm-router completion bash), the same with zsh, or llm-router completion fish | source. For good:"
        " write it to /etc/bash_completion.d/llm-router, to a file _llm-router in a folder of zsh's $fpath, or to"
        " ~/.config/fish/completions/llm-router.fish."
    )
    parser.add_argument("shell", choices=tuple(_SCRIPTS), metavar="SHELL", help="bash, zsh or fish")


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    print(_SCRIPTS[options.shell](tree.read(options.whole)), end="")
    return 0


def _key(command: Command) -> str:
    """What the scripts call a command: its words, each after a space; nothing is the program itself."""
    return "".join(f" {word}" for word in command.words)


def _quoted(texts: Iterable[str]) -> str:
    return shlex.quote(" ".join(texts))


def _patterns(texts: Iterable[str]) -> str:
    return " | ".join(shlex.quote(text) for text in texts)


def _bash(program: Command) -> str:
    values, places = [], []
    for command in program.walk():
        key = _key(command)
        for option in command.options:
            if option.metavar:
                pattern = _patterns(f"{key} {flag}" for flag in option.flags)
                values.append(f"    {pattern}) words={_quoted(option.choices)} files={'1' * option.is_file} ;;")
        names = [each.words[-1] for each in command.commands]
        names += [choice for operand in command.operands for choice in operand.choices]
        flags = [flag for option in command.options for flag in option.flags]
        files = "1" * any(operand.is_file for operand in command.operands)
        places.append(f"      {_patterns([key])}) words={_quoted(names)} flags={_quoted(flags)} files={files} ;;")
    return _BASH.format(
        commands=_patterns(_key(command) for command in program.walk()[1:]),
        values="\n".join(values),
        places="\n".join(places),
    )


_BASH: Final = """\
# Completion of llm-router for bash.
_llm_router() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
  local at='' words='' flags='' files='' i word
  if [[ $current == '=' ]]; then current=''
  elif [[ $previous == '=' ]]; then previous=${{COMP_WORDS[COMP_CWORD-2]}}; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at ${{COMP_WORDS[i]}}" in
      {commands}) at+=" ${{COMP_WORDS[i]}}" ;;
    esac
  done
  case "$at $previous" in
{values}
    *) case "$at" in
{places}
    esac ;;
  esac
  [[ $current == -* ]] && words=$flags
  COMPREPLY=()
  while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -W "$words" -- "$current")
  if [[ -n $files && $current != -* ]]; then
    compopt -o filenames 2>/dev/null
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$current")
  fi
}}
complete -F _llm_router llm-router
"""


def _zsh(program: Command) -> str:
    functions = "\n".join(_zsh_function(command) for command in program.walk())
    return f"#compdef llm-router\n# Completion of llm-router for zsh.\n{functions}\n{_ZSH_END}"


def _zsh_function(command: Command) -> str:
    lines = [f"  {shlex.quote(spec)} \\" for option in command.options for spec in _zsh_option(option)]
    lines += [f"  {shlex.quote(_zsh_operand(operand))} \\" for operand in command.operands]
    name = "_".join(("_llm-router", *command.words))
    if not command.commands:
        return "\n".join((f"{name}() {{", "  _arguments -s \\", *lines, "  && return", "}"))
    described = " ".join(shlex.quote(f"{_zsh_text(each.words[-1])}:{each.help}") for each in command.commands)
    below = "\n".join(f"    {each.words[-1]}) {name}_{each.words[-1]} ;;" for each in command.commands)
    return "\n".join((
        f"{name}() {{", "  local context state state_descr line", "  typeset -A opt_args", "  local -a commands",
        "  _arguments -C \\", *lines, "  ': :->command' '*:: :->rest' && return", "  case $state in",
        f"  command) commands=({described}); _describe command commands ;;",
        "  rest) case $line[1] in", below, "    esac ;;", "  esac", "}",
    ))  # fmt: skip


def _zsh_option(option: Argument) -> list[str]:
    many = "*" if option.is_repeated else f"({' '.join(option.flags)})"
    value = f":{_zsh_text(option.metavar)}:{_zsh_action(option)}" if option.metavar else ""
    return [
        f"{many}{flag}{'=' if value and flag.startswith('--') else ''}[{_zsh_text(option.help)}]{value}"
        for flag in option.flags
    ]


def _zsh_operand(operand: Argument) -> str:
    before = "*:" if operand.is_repeated else ":" if operand.is_required else "::"
    return f"{before}{_zsh_text(operand.metavar)}:{_zsh_action(operand)}"


def _zsh_action(argument: Argument) -> str:
    return f"({' '.join(argument.choices)})" if argument.choices else "_files" if argument.is_file else " "


def _zsh_text(text: str) -> str:
    for sign in "\\[]:":
        text = text.replace(sign, f"\\{sign}")
    return text


_ZSH_END: Final = """\
if [[ $funcstack[1] == _llm-router ]]; then _llm-router "$@"; else compdef _llm-router llm-router; fi
"""


def _fish(program: Command) -> str:
    lines = [_FISH.format(commands=" ".join(shlex.quote(_key(command)) for command in program.walk()[1:]))]
    for command in program.walk():
        begin = f'complete -c llm-router -n "__llm_router_at {shlex.quote(_key(command))}"'
        lines += [f"{begin} -a {each.words[-1]} -d {_fish_text(each.help)}" for each in command.commands]
        for operand in command.operands:
            lines += [f"{begin} -F"] if operand.is_file else []
            lines += [f"{begin} -a {_fish_text(' '.join(operand.choices))}"] if operand.choices else []
        for option in command.options:
            names = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
            value = ("-r -F" if option.is_file else "-x") if option.metavar else ""
            choices = f"-a {_fish_text(' '.join(option.choices))}" if option.choices else ""
            lines.append(" ".join(f"{begin} {names} {value} {choices} -d {_fish_text(option.help)}".split(" ")))
    return "\n".join(lines) + "\n"


def _fish_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


_FISH: Final = """\
# Completion of llm-router for fish.
function __llm_router_at --description 'Whether the words typed so far are this command'
  set -l at ''
  for word in (commandline -opc)[2..-1]
    contains -- "$at $word" {commands}; and set at "$at $word"
  end
  test "$at" = "$argv[1]"
end
complete -c llm-router -f"""

_SCRIPTS: Final[dict[str, Callable[[Command], str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
