"""What the listeners must be: addresses that can be bound together, no door open to all, certificates that fit."""

from __future__ import annotations

import os
import re
from itertools import combinations
from typing import TYPE_CHECKING, Final

from router.config import addresses, certificates

if TYPE_CHECKING:
    from pathlib import Path as FilePath

    from router.config.report import Path, Report
    from router.config.schema import Config, Listener
    from router.config.sources import Sources

UNIX_PATH_MAX: Final = 107
"""Bytes of a unix socket's path, from the root: unix(7)."""

LISTENERS_MAX: Final = 64
"""Of clients, and likewise of operators. More are a mistake."""

_MODE = re.compile(r"0?[0-7]{3}")


def check(config: Config, report: Report, *, directory: FilePath, sources: Sources | None) -> None:
    """Report what is wrong with `listen` and `admin`; relative paths begin at `directory`.

    Without `sources` certificates are taken for given.
    """
    for setting in ("listen", "admin"):
        listeners: tuple[Listener, ...] = getattr(config, setting)
        if not 0 < len(listeners) <= LISTENERS_MAX and report.is_clean((setting,)):
            report.add((setting,), f"names {len(listeners)} addresses; it must be 1 to {LISTENERS_MAX}")
        for index, listener in enumerate(listeners):
            _check(listener, (setting, index), report, directory, sources)
    _check_apart(config, report)
    if not config.keys and report.is_clean(("keys",)):
        for index, listener in enumerate(config.listen):
            path = ("listen", index, "address")
            if report.is_clean(path) and not addresses.is_loopback(listener.address):
                report.add(path, "without keys anybody could use it; give keys, or listen on 127.0.0.1")


def _check(listener: Listener, path: Path, report: Report, directory: FilePath, sources: Sources | None) -> None:
    if sources is not None and listener.tls is not None and not report.is_lost((*path, "tls")):
        certificates.check_server(listener.tls, (*path, "tls"), report, directory=directory, sources=sources)
    if not report.is_clean((*path, "address")):
        return
    file = addresses.unix_path(listener.address)
    if file is not None and len(os.fsencode(directory / file)) > UNIX_PATH_MAX:
        report.add((*path, "address"), f"its path from the root is longer than {UNIX_PATH_MAX} bytes")
    if listener.mode is not None and report.is_clean((*path, "mode")):
        if file is None:
            report.add((*path, "mode"), "is for unix sockets")
        elif not _MODE.fullmatch(listener.mode):
            report.add((*path, "mode"), 'must be three octal digits, as in "0660"')


def _check_apart(config: Config, report: Report) -> None:
    """Report pairs of listeners that cannot be bound together: at the second, or where one is written at that one."""
    every = [
        (setting, index, listener.address)
        for setting in ("listen", "admin")
        for index, listener in enumerate(getattr(config, setting))
        if report.is_clean((setting, index, "address"))
    ]
    for (setting, index, one), (other_setting, other_index, other) in combinations(every, 2):
        if addresses.overlaps(one, other):
            path: Path = (other_setting, other_index, "address")
            if report.is_written((setting,)) and not report.is_written((other_setting,)):
                path = (setting, index, "address")
            report.add(path, f"{setting} {one} and {other_setting} {other} are the same address")
