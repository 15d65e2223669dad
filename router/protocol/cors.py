"""Pages of other origins: what lets one read our answers, and send us what its browser first asks leave for.

The CORS protocol of the Fetch standard (section 3.3), without credentials mode: keys travel in headers that the page
sets itself. A browser asks leave by a preflight (`OPTIONS`), which carries no key. Origins are compared byte for byte,
as browsers write them: in lower case, without a default port. To any other origin nothing is said.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from router.config.schema import ANY_ORIGIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from router.config.schema import Cors as Settings

ASKED_BYTES_MAX: Final = 4096
"""Of the header names that a preflight asks for; the OpenAI SDK's take 300."""

WEB_METHODS: Final = (b"GET", b"HEAD", b"POST")
"""Of paths that the relay does not carry."""

EXPOSED: Final = (
    "x-request-id", "request-id", "retry-after", "retry-after-ms", "x-should-retry",
    *(f"x-ratelimit-{what}-{of}" for of in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
    *(f"anthropic-ratelimit-{of}-{what}" for of in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
)  # fmt: skip
"""Headers of ours that a page may read beside those that it always may."""

_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
"""Header names with commas between them."""

_EXPOSE = f"access-control-expose-headers: {', '.join(EXPOSED)}\r\n".encode("ascii")
_FOR_ANY = b"access-control-allow-origin: *\r\n" + _EXPOSE


class Cors:
    """Which origins are let in, and what they are told."""

    __slots__ = ("_max_age", "_origins", "_permitted")

    def __init__(self, origins: Sequence[str], max_age_s: float) -> None:
        self._origins = origins
        self._permitted = None if ANY_ORIGIN in origins else re.compile("|".join(map(_expression, origins)).encode())
        self._max_age = b"access-control-max-age: %d\r\n" % max_age_s

    def __repr__(self) -> str:
        return f"<Cors: {', '.join(self._origins)}>"

    def lines(self, origin: bytes) -> bytes:
        """Return the header lines of an answer to a request with this `Origin`; none if it is not let in."""
        if self._permitted is None:
            return _FOR_ANY if origin else b""
        if self._permitted.fullmatch(origin) is None:
            return b""
        return b"access-control-allow-origin: %b\r\nvary: origin\r\n%b" % (origin, _EXPOSE)

    def preflight(self, headers: Sequence[tuple[bytes, bytes]], methods: Iterable[bytes]) -> bytes:
        """Return what the answer to a preflight says beside `lines`, a 204; nothing if the request is no preflight.

        Args:
            headers: Of the request, names in lower case.
            methods: Those that the path takes. A browser that wants another one sees by itself that it may not.
        """
        wanted, names = ([value for name, value in headers if name == asked] for asked in _ASKED)
        if len(wanted) != 1:
            return b""
        asked = b", ".join(names)
        allowed = b""
        if len(asked) <= ASKED_BYTES_MAX and _NAMES.fullmatch(asked) is not None:
            allowed = b"access-control-allow-headers: %b\r\n" % asked
        return b"access-control-allow-methods: %b\r\n%b%b" % (b", ".join(methods), allowed, self._max_age)


_ASKED = (b"access-control-request-method", b"access-control-request-headers")


def build(settings: Settings | None) -> Cors | None:
    """Make a configuration's part ready to use; None: no page is let in."""
    return None if settings is None else Cors(settings.origins, settings.max_age)


def is_page(origin: bytes) -> bool:
    """Whether a browser says this of a page. Extensions, and programs with a browser inside, say other schemes."""
    return origin == b"null" or origin.lower().startswith((b"http://", b"https://"))


def _expression(origin: str) -> str:
    """An origin as a pattern; `*.` stands for one label or more."""
    return re.escape(origin).replace(r"\*\.", r"(?:[a-z0-9_-]+\.)+")
