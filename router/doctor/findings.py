"""What was found: one line of the examination each, fit to be printed whoever wrote the words in it."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from router.protocol.envelope import mask

if TYPE_CHECKING:
    from collections.abc import Iterable

TEXT_CHARS_MAX: Final = 300
"""Of a text that may be an upstream's so much is shown."""

_QUERY = re.compile(r"(?<=[\w/.~%-])\?[^\s\"'<>]*=[^\s\"'<>]*")
"""The query of an URL somewhere in a text: it may hold a credential."""


class Result(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It serves, but not as well as it could, or it could not be told."""
    FAIL = "fail"
    """It does not serve, or not for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    """`machine`, `configuration`, or the name of an upstream."""
    check: str
    """What was looked at: `dns`, `credential 2 of 3`."""
    result: Result
    found: str
    cure: str = ""
    """What to do about it; empty if there is nothing to do."""


class Notes:
    """The findings about one subject, in the order in which they are made."""

    def __init__(self, subject: str, secrets: Iterable[str] = ()) -> None:
        """No finding will hold one of these secrets, whoever repeats it."""
        self.subject = subject
        self.findings: list[Finding] = []
        self._secrets = tuple(spelling for secret in secrets for spelling in _spellings(secret))

    def ok(self, check: str, found: str) -> None:
        """Note what is as it should be."""
        self._add(check, Result.OK, found, "")

    def warn(self, check: str, found: str, cure: str) -> None:
        """Note what could be better, or could not be told."""
        self._add(check, Result.WARN, found, cure)

    def fail(self, check: str, found: str, cure: str) -> None:
        """Note what does not work."""
        self._add(check, Result.FAIL, found, cure)

    def _add(self, check: str, result: Result, found: str, cure: str) -> None:
        subject, check, found, cure = (self._shown(text) for text in (self.subject, check, found, cure))
        self.findings.append(Finding(subject=subject, check=check, result=result, found=found, cure=cure))

    def _shown(self, text: str) -> str:
        """One line of bounded length, without secrets, queries of URLs and signs that a terminal would obey."""
        text = _QUERY.sub("?…", mask(text, self._secrets))
        text = "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))
        return text if len(text) <= TEXT_CHARS_MAX else text[:TEXT_CHARS_MAX] + "…"


def _spellings(secret: str) -> Iterable[str]:
    """How a secret may be repeated: as it is, in an URL, in JSON, as the half of Basic credentials."""
    if not secret:
        return
    yield secret
    yield quote(secret, safe="")
    yield secret.replace("\\", "\\\\").replace('"', '\\"')
    yield b64encode(secret.encode()).decode().rstrip("=")
