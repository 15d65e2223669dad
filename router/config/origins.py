"""The origins of pages that are let in: each is written as browsers write it, or it would never be met."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from router.config.report import shown
from router.config.schema import ANY_ORIGIN

if TYPE_CHECKING:
    from router.config.report import Report
    from router.config.schema import Config

ORIGIN_MAX: Final = 512
"""Characters of an origin: a scheme, a host of 253, a port."""
ORIGINS_MAX: Final = 1000
"""Origins that may be listed."""

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?:\*\.)?(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)
"""Extensions of browsers, and programs that are made of pages, have schemes of their own."""
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def check(config: Config, report: Report) -> None:
    """Report what no browser would ever say, and what lets in more than was meant."""
    here = ("cors", "origins")
    if config.cors is None or not report.is_clean(here):
        return
    origins = config.cors.origins
    if not origins:
        report.add(here, "names no origin; leave `cors` out to let no page in")
    if len(origins) > ORIGINS_MAX:
        report.add(here, f"more than {ORIGINS_MAX} origins")
        return
    for index, origin in enumerate(origins):
        fault = _fault(origin, alone=len(origins) == 1)
        if fault:
            report.add((*here, index), fault)
        elif origin == ANY_ORIGIN and not config.keys and report.is_clean(("keys",)):
            report.add((*here, index), "without keys any page that is open on this machine could use it; give keys")


def _fault(origin: str, *, alone: bool) -> str:
    if origin == ANY_ORIGIN:
        return "" if alone else "stands for every origin, so it stands alone"
    if origin == "null":
        return "`null` is what every sandboxed page says; it names nobody"
    found = _ORIGIN.fullmatch(origin) if len(origin) <= ORIGIN_MAX else None
    if found is None:
        hint = "in lower case, with nothing behind host and port"
        return f"expected an origin such as https://app.example or https://*.example.org, {hint}; found {shown(origin)}"
    if found["port"] is not None and found["port"] == _DEFAULT_PORTS.get(found["scheme"]):
        return f"browsers leave out the default port; write {origin.rpartition(':')[0]}"
    return ""
