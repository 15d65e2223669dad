"""A configuration of ours in the making: names that do not collide, addresses that are free, and its text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from router.config import addresses, dump, loader
from router.config.presets import PRESETS
from router.config.schema import Listen
from router.config.values import BadValue
from router.errors import ConfigError
from router.migrate.account import Account, Fate, visible

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

COMMENTS_MAX: Final = 300
"""Remarks of one kind that stand in the file itself; a file has a largest size, and all of them are told besides."""
ADMIN_PORT: Final = 9464

Settings = dict[str, Any]
"""Settings as they are written: texts, numbers, lists and settings below them."""


@dataclass(slots=True)
class Draft:
    """What the new file will hold."""

    upstreams: dict[str, Settings] = field(default_factory=dict)
    models: dict[str, Settings] = field(default_factory=dict)
    keys: dict[str, Settings] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    requests: Settings = field(default_factory=dict)
    others: Settings = field(default_factory=dict)
    """Other settings at the top."""
    variables: set[str] = field(default_factory=set)
    """Environment variables that are spoken for."""
    _secrets: dict[str, str] = field(default_factory=dict, repr=False)
    _numbers: dict[str, int] = field(default_factory=dict)
    """The last number that made a name unlike all others."""

    def reference(self, secret: str, hint: str) -> Settings:
        """Return a reference for a secret that stood in the source: the same one for the same secret."""
        name = self._secrets.get(secret)
        if name is None:
            name = self._unused(
                f"ROUTER_{re.sub('[^A-Z0-9]+', '_', hint.upper()).strip('_')[:64]}_KEY", self.variables, "_"
            )
            self.variables.add(name)
            self._secrets[secret] = name
        return {"env": name}

    def add_upstream(self, hint: str, settings: Settings) -> str:
        """Add an upstream under a name like the hint, and return the name."""
        name = self._unused(re.sub(r"[^A-Za-z0-9._-]+", "-", hint).strip("-")[:64] or "upstream", self.upstreams, "-")
        self.upstreams[name] = settings
        return name

    def listen(self, port: int) -> tuple[str, str]:
        """Choose addresses for clients and operators that no upstream has; without keys clients must be local."""
        bases = [addresses.base_url(_base_url(upstream)) for upstream in self.upstreams.values()]
        host = "" if self.keys else "127.0.0.1"
        taken = {base.port for base in bases if addresses.reaches(base, Listen(f":{base.port}"))}
        port = _free(port, taken)
        return f"{host}:{port}", f"127.0.0.1:{_free(ADMIN_PORT, taken | {port})}"

    def environment(self) -> list[str]:
        """Return the environment variables that it needs."""
        upstreams = [upstream.get("api_key", {}) for upstream in self.upstreams.values()]
        keys = [key["secret"] for key in self.keys.values()]
        return sorted({reference["env"] for reference in (*upstreams, *keys) if "env" in reference})

    def text(self, account: Account, made_from: str) -> str:
        """Return the file: what became of the source as comments, then the settings."""
        head = [made_from, "Check it: llm-router check -c THIS-FILE"]
        if self.environment():
            head.append(f"It needs in its environment: {' '.join(self.environment())}")
        for fate in (Fate.LEFT, Fate.CHANGED):
            lines = account.lines(fate)
            if lines:
                head += ["", f"{fate.capitalize()} ({len(lines)}):", *(f"  {line}" for line in lines[:COMMENTS_MAX])]
            if len(lines) > COMMENTS_MAX:
                head.append(f"  and {len(lines) - COMMENTS_MAX} more: import again to see them all")
        comments = "\n".join(f"# {visible(line)}".rstrip() for line in head)
        return f"{comments}\n\n{dump.text(self.settings())}"

    def settings(self) -> Settings:
        """Return all settings, in the order of `config/router.yaml`; empty sections are left out."""
        given: Settings = {
            "defaults": self.defaults, "upstreams": self.upstreams, "models": self.models, "keys": self.keys,
            "requests": self.requests,
        }  # fmt: skip
        addressed: Settings = {name: self.others[name] for name in ("listen", "admin") if name in self.others}
        rest = {name: value for name, value in self.others.items() if name not in addressed}
        return {**addressed, **{name: section for name, section in given.items() if section}, **rest}

    def _unused(self, name: str, taken: Container[str], joint: str) -> str:
        """Return a name like this one that is not taken: `name`, `name-2`, `name-3`."""
        number, found = self._numbers.get(name, 1), name
        while found in taken:
            number += 1
            found = f"{name}{joint}{number}"
        self._numbers[name] = number
        return found


def faults(text: str, variables: Iterable[str], name: str) -> tuple[str, ...]:
    """Return what `check` would say of a file if its environment were there; nothing if it is good."""
    environ = {variable: f"stands-for-{variable}" for variable in variables}
    try:
        loader.parse(text, name, directory=Path(), environ=environ)
    except ConfigError as error:
        return tuple(error.faults)
    return ()


def base_url(text: str) -> str:
    """Check a base URL and return it without a slash at its end.

    Raises:
        BadValue: It is none; the text does not repeat it.
    """
    if "{" in text or "}" in text:
        raise BadValue("braces in a URL cannot be carried")
    addresses.base_url(text)
    return text.rstrip("/")


def is_loopback(listen: str) -> bool:
    """Whether only programs of this machine can connect to it."""
    return addresses.is_loopback(Listen(listen))


def _base_url(upstream: Settings) -> str:
    return str(upstream.get("base_url") or PRESETS[upstream["preset"]]["base_url"])


def _free(port: int, taken: set[int]) -> int:
    """Return the first port from `port` on that is not taken; beyond the last it begins anew above the system's."""
    return next((each for each in chain(range(port, 65536), range(1024, port)) if each not in taken), port)
