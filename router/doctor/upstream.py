"""One upstream from its name to its models; what comes after a step that fails is not tried."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from router.doctor import models, reaching
from router.doctor.credentials import Credentials
from router.doctor.deep import Deep
from router.doctor.findings import Notes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.config.loader import Loaded
    from router.doctor.findings import Finding
    from router.relay.wire import Wire

_SENSITIVE = re.compile(r"key|token|secret|auth|pass|pwd|cred|sig|cookie", re.IGNORECASE)
"""In the name of a header or of a member of the query: its value may be a credential."""


async def examine(
    wire: Wire, loaded: Loaded, *, timeout_s: float, is_deep: bool, is_bare: bool = False
) -> tuple[list[Finding], list[float]]:
    """Examine it; returns what was found, and how many seconds our clock is ahead of its, once for each answer.

    Of an upstream that `is_bare`, having lost its credentials to a fault of the file, only the way there is told.
    """
    notes = Notes(wire.name, hidden(wire, loaded))
    credentials = Credentials(notes, wire, timeout_s)
    connect_s = wire.settings.timeouts.connect or loaded.config.defaults.timeouts.connect
    if await reaching.examine(notes, wire, timeout_s, connect_s) and not is_bare and await credentials.examine():
        if credentials.listed is not None:
            models.examine(notes, loaded.config, wire.name, credentials.listed)
        if is_deep:
            await Deep(notes, wire, loaded.config, credentials, timeout_s).examine()
    return notes.findings, credentials.clock_offsets


def hidden(wire: Wire, loaded: Loaded) -> Iterator[str]:
    """Yield everything that no finding may repeat: every secret of the file, and what else is sent as one."""
    yield from loaded.secrets.values()
    settings = wire.settings
    for pairs in (settings.query, settings.headers.set):
        yield from (value for name, value in pairs.items() if _SENSITIVE.search(name))
    if wire.proxy is not None:
        yield wire.proxy.authorization.decode("latin-1").rpartition(" ")[2]
