"""nginx's directives where they stand: each knows its path, its line, and where its fate is told.

The path shows names and what is known to be none of a secret's places; values of other directives never appear in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from router.config import values
from router.config.values import BadValue
from router.migrate import nginx_reasons as reasons
from router.migrate.account import Account, Path, Unusable
from router.migrate.nginx_syntax import Directive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SHOWN: Final = frozenset({"upstream", "location", "listen", "include", "proxy_set_header", "server"})
"""Directives whose first word is shown beside their name."""

_UNITS: Final = {"ms": 1, "s": 1000, "": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
"""Milliseconds; months and years are longer than any deadline."""
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:ms|[smhdw])? *)+")
_SIZES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,12})([kmg]?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A directive, or a word of one that is a setting of its own."""

    directive: Directive
    path: Path
    account: Account

    @property
    def name(self) -> str:
        """Its first word."""
        return self.directive.name

    @property
    def args(self) -> tuple[str, ...]:
        """Its other words."""
        return self.directive.args

    @property
    def line(self) -> int:
        """Where it begins."""
        return self.directive.line

    @property
    def block(self) -> list[Directive] | None:
        """What is inside; None if it is no block."""
        return self.directive.block

    def inside(self) -> list[Place]:
        """Return the directives of its block."""
        return places(self.block or (), self.path, self.account)

    def parameters(self) -> list[Place]:
        """Return the words behind a server's address, each of which is a setting."""
        if self.name != "server" or self.block is not None:
            return []
        words = [Directive(word, (), self.line) for word in self.args[1:]]
        return [Place(word, (*self.path, index, word.name), self.account) for index, word in enumerate(words)]

    def carry(self) -> None:
        """Say that it has the same effect here; of a server that is said of its address alone."""
        self.account.carry((*self.path, "address") if self.parameters() else self.path)

    def change(self, text: str) -> None:
        """Say that it is carried, or needless here, and what is different about it."""
        self.account.change(self.path, self.line, text)

    def leave(self, text: str) -> None:
        """Say that it is not carried, with all that is inside, and why."""
        self.account.leave(self.path, self.line, text)

    @property
    def is_told(self) -> bool:
        """Whether somebody said what becomes of it."""
        return self.account.fate(self.path) is not None

    def tell(self) -> None:
        """Say why it is needless or not carried, as the tables have it."""
        whole = str(self.directive)
        if whole in reasons.NEEDLESS or self.name in reasons.NEEDLESS:
            self.change(f"needless: {reasons.NEEDLESS.get(whole) or reasons.NEEDLESS[self.name]}")
        else:
            self.leave(reasons.DIRECTIVES.get(self.name, "there is nothing like it here"))

    def duration(self, text: str | None = None) -> str | None:
        """Read its first word, or another one, as a duration; one that cannot be read is left behind, and None."""
        try:
            return _duration(" ".join(self.args[:1]) if text is None else text)
        except (Unusable, BadValue) as error:
            self.leave(str(error))
            return None


def places(directives: Sequence[Directive], path: Path, account: Account) -> list[Place]:
    """Return directives with their places below `path`."""
    return [Place(directive, (*path, index, _shown(directive)), account) for index, directive in enumerate(directives)]


def leaves(level: list[Place]) -> Iterator[tuple[Path, int]]:
    """Yield path and line of all that says one thing: directives that are no blocks, a server's address and words."""
    for place in level:
        parameters = place.parameters()
        if place.block is not None:
            yield from leaves(place.inside())
            if not place.block:
                yield place.path, place.line
        elif parameters:
            yield (*place.path, "address"), place.line
            yield from ((parameter.path, parameter.line) for parameter in parameters)
        else:
            yield place.path, place.line


def label(path: Path) -> str:
    """Write a path as an operator reads it: `http > upstream gpu > server 10.0.0.1:80 > weight=3`."""
    return " > ".join(step for step in path if isinstance(step, str))


def size(place: Place) -> int:
    """Read nginx's size (`8m`, `1G`, bytes) in bytes; 0 if it is none, or no bound."""
    found = _SIZE.fullmatch(place.args[0]) if place.args else None
    if found is None:
        return 0
    number = int(found[1]) * _SIZES[found[2].lower()]
    return number if number <= values.COUNT_MAX else 0


def _shown(directive: Directive) -> str:
    word = directive.args[0] if directive.args and directive.name in _SHOWN else ""
    return f"{directive.name} {word}".strip()


def _duration(text: str) -> str:
    """Read nginx's duration (`60s`, `1h 30m`, `500ms`, seconds) and return it as they are written here."""
    if not _DURATION.fullmatch(text):
        raise Unusable("it is not a duration")
    parts = re.findall(r"([0-9]+)(ms|[smhdw])?", text)
    return values.show_seconds(values.seconds(sum(int(number) * _UNITS[unit] for number, unit in parts) / 1000))
