"""Upstreams that want the model in the path: `/deployments/{model}{path}` (dated Azure, PROTOCOL 11)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

_WAY_UP = re.compile(r"(?:^|[/\\])\.{1,2}(?:[/\\]|$)")


class PathTemplate:
    """What follows an upstream's base URL, made of the model's name and the client's path."""

    __slots__ = ("_parts", "_steps")

    def __init__(self, template: str, only_for: Iterable[str] = ()) -> None:
        """Take a template apart.

        Args:
            template: `{model}` and `{path}` stand for what is filled in; all else is sent as it is, in ASCII.
            only_for: First steps of the paths it is meant for; none: it is meant for all.
        """
        self._parts = tuple(part.encode("ascii") for part in re.split(r"(\{model\}|\{path\})", template))
        self._steps = frozenset(step.encode("ascii") for step in only_for)

    def fill(self, rest: bytes, model: str) -> bytes:
        """Return what follows the base URL.

        Args:
            rest: What follows `/v1` in the client's path, as it came.
            model: Any text. If it is empty, or the path is none that the template is meant for, `rest` is returned.
        """
        if not model or (self._steps and rest[1:].partition(b"/")[0] not in self._steps):
            return rest
        values = {b"{model}": quoted(model), b"{path}": rest}
        return b"".join(values.get(part, part) for part in self._parts)


def quoted(name: str) -> bytes:
    """Return a name as one step of a path, percent-encoded, that no server takes for a way to another one.

    A name with `.` or `..` between slashes is encoded twice: nothing is called so, and a server in between that decodes
    once must not find its way up in it.
    """
    once = quote(name, safe="", errors="replace")
    if _WAY_UP.search(name) is not None:
        once = quote(once.replace(".", "%2E"), safe="")
    return once.encode("ascii")
