"""A foreign YAML file, setting by setting: each knows its place, its value, and where its fate is told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from router.config import yaml_nodes
from router.migrate.account import Account, Path, Unusable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from router.config.yaml_nodes import Node

ENVIRON: Final = "os.environ/"
"""What stands before the name of a variable, in place of a value."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_WITH_UNDERSCORES = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?")
_WORDS: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
"""LiteLLM reads its file by the rules of YAML 1.1."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of the file, or one section of it."""

    node: Node
    path: Path
    line: int
    account: Account
    environ: Mapping[str, str]
    """Where `os.environ/NAME` is looked up, if what it stands for must be known now."""

    def entries(self) -> dict[str, Setting]:
        """Return what stands below it by name; nothing if it is no section. What is left empty is not given."""
        if not isinstance(self.node, yaml_nodes.Mapping):
            return {}
        return {
            name: self._below(name, entry.node, entry.mark.line)
            for name, entry in self.node.entries.items()
            if not _is_nothing(entry.node)
        }

    def items(self) -> list[Setting]:
        """Return what a list holds; nothing if it is none."""
        if not isinstance(self.node, yaml_nodes.Sequence):
            return []
        return [self._below(index, item, item.mark.line) for index, item in enumerate(self.node.items)]

    def get(self, name: str) -> Setting | None:
        """Return one of `entries`."""
        return self.entries().get(name)

    def carry(self) -> None:
        """Say that it has the same effect here."""
        self.account.carry(self.path)

    def change(self, text: str) -> None:
        """Say that it is carried, or needless here, and what is different about it."""
        self.account.change(self.path, self.line, text)

    def leave(self, text: str) -> None:
        """Say that it is not carried, with all that is below it, and why."""
        self.account.leave(self.path, self.line, text)

    def variable(self) -> str | None:
        """Return the name of the environment variable that it stands for; None if it is a value.

        Raises:
            Unusable: What should be a name is none; it is not repeated, for it may be a secret.
        """
        text = self._scalar()
        if not text.startswith(ENVIRON):
            return None
        name = text.removeprefix(ENVIRON)
        if not _VARIABLE.fullmatch(name):
            raise Unusable("what follows os.environ/ is not the name of a variable")
        return name

    def text(self) -> str:
        """Return its value as text; a variable is looked up.

        Raises:
            Unusable: It is no single value, or the variable is not set.
        """
        name = self.variable()
        if name is None:
            return self._scalar()
        if name not in self.environ:
            raise Unusable(f"its value must be known: set {name} while you import")
        return self.environ[name]

    def number(self) -> Decimal:
        """Return its value as a number, exactly.

        Raises:
            Unusable: It is none.
        """
        text = self.text().strip()
        if _WITH_UNDERSCORES.fullmatch(text):
            text = text.replace("_", "")
        try:
            number = Decimal(text) if len(text) <= yaml_nodes.SCALAR_NUMBER_MAX and "_" not in text else None
        except InvalidOperation:
            number = None
        if number is None or not number.is_finite() or abs(number.adjusted()) > 30:
            raise Unusable("it is not a number")
        return number

    def flag(self) -> bool:
        """Return its value as true or false.

        Raises:
            Unusable: It is neither.
        """
        found = _WORDS.get(self.text().strip().lower())
        if found is None:
            raise Unusable("it is neither true nor false")
        return found

    def leaves(self) -> Iterator[tuple[Path, int]]:
        """Yield path and line of every single value from here on down, in the order of the file."""
        below = [*self.entries().values(), *self.items()]
        if isinstance(self.node, yaml_nodes.Scalar) and not _is_nothing(self.node):
            yield self.path, self.line
        for each in below:
            yield from each.leaves()

    def leave_flaws(self) -> None:
        """Leave behind, from here on down, what cannot be read for certain: names that are given twice."""
        if isinstance(self.node, yaml_nodes.Mapping):
            for flaw in self.node.flaws:
                text = f"{flaw.text}: only the first is read here, LiteLLM reads the last; mend it and import again"
                self.account.leave((*self.path, f"{flaw.name}, again"), flaw.mark.line, text)
        for each in (*self.entries().values(), *self.items()):
            each.leave_flaws()

    def _scalar(self) -> str:
        if not isinstance(self.node, yaml_nodes.Scalar):
            raise Unusable("a single value is expected here")
        return self.node.text

    def _below(self, step: str | int, node: Node, line: int) -> Setting:
        return Setting(node, (*self.path, step), line, self.account, self.environ)


def _is_nothing(node: Node) -> bool:
    return isinstance(node, yaml_nodes.Scalar) and node.value is None
