"""What the tests of both importers have in common: a source read, and the file that comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from router.config import yaml_nodes
from router.migrate import draft, litellm, nginx, nginx_source, nginx_syntax
from router.migrate.account import Account, Fate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.migrate.draft import Draft


@dataclass(slots=True)
class Imported:
    account: Account
    draft: Draft
    text: str

    @property
    def settings(self) -> dict[str, Any]:
        loaded: dict[str, Any] = yaml.safe_load(self.text)
        return loaded

    @property
    def faults(self) -> tuple[str, ...]:
        return draft.faults(self.text, self.draft.environment(), "new")

    def told(self, fate: Fate) -> dict[str, str]:
        """What is told of settings with this fate: path and text."""
        return dict(line.split(": ", 2)[1:] for line in self.account.lines(fate))

    @property
    def left(self) -> dict[str, str]:
        return self.told(Fate.LEFT)

    @property
    def changed(self) -> dict[str, str]:
        return self.told(Fate.CHANGED)


def of_litellm(source: str | dict[str, Any], environ: Mapping[str, str] | None = None) -> Imported:
    text = source if isinstance(source, str) else yaml.safe_dump(source, sort_keys=False, allow_unicode=True)
    account = Account("config.yaml")
    made = litellm.convert(yaml_nodes.compose(text), account, environ or {})
    return Imported(account, made, made.text(account, "Made."))


def of_nginx(source: str, models: Mapping[str, str] | None = None) -> Imported:
    account = Account("nginx.conf", nginx_source.label)
    made = nginx.convert(nginx_syntax.parse(source), account, models or {})
    return Imported(account, made, made.text(account, "Made."))
