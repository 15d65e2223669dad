"""`llm-router key`: make a client's key. The file gets its SHA-256; the key itself is shown once and kept nowhere."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import secrets
import sys
from pathlib import Path
from typing import Final, NamedTuple

from router.commands.options import EX_NO
from router.config.checks import NAME_RULE, is_name
from router.config.yaml_nodes import resolve

NAME = "key"
HELP = "make a key for a client"

PREFIX: Final = "sk-router-"
"""Tells people, and programs that look for secrets in files, what it is. `sk-` is what some clients insist on."""
KEY_BYTES: Final = 32
"""256 bits: nobody guesses one, so a plain SHA-256 of it may stand in a file that others can read."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]*")
_WORDS_OF_YAML_1_1: Final = frozenset({"y", "n", "yes", "no", "on", "off"})

DESCRIPTION: Final = """\
Makes a key. It is printed once, alone, on standard output; what belongs into
the configuration, with its SHA-256, goes to standard error:
    KEY=$(llm-router key new team-search)
With --key-file the key goes into a new file that only its owner may read, and
the stanza to standard output, for a folder that the configuration includes:
    llm-router key new blue --key-file blue.key > keys.d/blue.yaml
"""


class Stanza(NamedTuple):
    """What the configuration says of a key."""

    name: str
    sha256: str
    models: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: str | None = None
    concurrency: int | None = None

    def __str__(self) -> str:
        """As YAML to paste; limits that are not given are samples, and not in effect."""
        models = f"[{', '.join(json.dumps(each, ensure_ascii=False) for each in self.models)}]"
        given = {name: value for name, value in self._asdict().items() if name in _SAMPLES and value is not None}
        limits = ", ".join(f"{name}: {value}" for name, value in (given or _SAMPLES).items())
        return (
            "keys:\n"
            f"  {quoted(self.name)}:\n"
            f"    secret: {{sha256: {self.sha256}}}\n"
            f"    {'' if self.models else '#'}models: {models if self.models else _SAMPLE_MODELS}\n"
            f"    {'' if given else '#'}limits: {{{limits}}}\n"
        )


_SAMPLES: Final = {"requests_per_minute": 600, "tokens_per_minute": "500k", "concurrency": 50}
_SAMPLE_MODELS: Final = '["*"]'


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what it understands."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    new = commands.add_parser(
        "new", help="make one", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    new.add_argument("name", type=_name, metavar="NAME", help="whose it is: for logs and metrics")
    new.add_argument("--key-file", type=Path, metavar="FILE", help="write the key there, mode 0600; never over a file")
    new.add_argument("--model", action="append", default=[], dest="models", metavar="NAME", help="it may use; again")
    new.add_argument("--requests-per-minute", type=_count, metavar="N")
    new.add_argument("--tokens-per-minute", type=_tokens, metavar="N", help="such as 500k")
    new.add_argument("--concurrency", type=_count, metavar="N", help="requests in flight")
    new.add_argument("--json", action="store_true", help="name, key and SHA-256 on standard output, and no stanza")
    new.set_defaults(make=_new)


def run(options: argparse.Namespace) -> int:
    """Do what the second word says."""
    return int(options.make(options))


def quoted(name: str) -> str:
    """Write a name so that every reader of YAML takes it for this text."""
    is_plain = _PLAIN.fullmatch(name) and name.lower() not in _WORDS_OF_YAML_1_1 and isinstance(resolve(name), str)
    return name if is_plain else json.dumps(name, ensure_ascii=False)


def _new(options: argparse.Namespace) -> int:
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    digest = hashlib.sha256(key.encode()).hexdigest()
    stanza = Stanza(
        options.name,
        digest,
        tuple(options.models),
        options.requests_per_minute,
        options.tokens_per_minute,
        options.concurrency,
    )
    if options.key_file is not None:
        try:
            _write(options.key_file, key)
        except OSError as error:
            print(f"no key was made: {options.key_file} cannot be written: {error.strerror}", file=sys.stderr)
            return EX_NO
    if options.json:
        shown = {"name": options.name, "sha256": digest} | ({} if options.key_file is not None else {"key": key})
        print(json.dumps(shown))
    elif options.key_file is not None:
        print(stanza, end="")
    else:
        print(key, flush=True)
        print(f"\nThe key is kept nowhere. Into the configuration goes:\n\n{stanza}", end="", file=sys.stderr)
    return 0


def _write(path: Path, key: str) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(number, "w", encoding="ascii") as file:  # noqa: PTH123 (it is open already)
        file.write(f"{key}\n")


def _name(text: str) -> str:
    if not is_name(text):
        raise argparse.ArgumentTypeError(NAME_RULE)
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text[:16]) <= 10**9:
        raise argparse.ArgumentTypeError("a whole number, at least 1")
    return int(text)


def _tokens(text: str) -> str:
    from router.config.values import BadValue, count  # noqa: PLC0415 (for this option alone)

    try:
        if count(text):
            return text
    except BadValue:
        pass
    raise argparse.ArgumentTypeError("a whole number such as 500, 500k or 2M")
