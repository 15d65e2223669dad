"""The last events an operator asks about, for the status page: what changed, when, to whom, and why.

A consumer of events like the metrics. Requests are none of its business; a burst of the same event is one line that
counts, and refusals by limits, which clients cause, cannot push out what upstreams and reloads did.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.events import ConfigReloaded, ExchangeEnded, LimitDecided, Notice, UpstreamCooled, UpstreamEjected
from router.events import UpstreamRestored as Restored

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.events import Event

ENTRIES_MAX = 100
LIMITS_MAX = 20
"""Of the entries, those about limits."""
BURST_S = 30.0
"""An event like the last one of its kind within this time is counted there and makes no line of its own."""
TEXT_MAX = 300
"""Characters of a reason: a fault of the configuration may quote a long line."""


@dataclass(slots=True, eq=False)
class Entry:
    """One line: an event, or a burst of the same."""

    at: float
    """Wall clock, seconds since the epoch: when it happened last."""
    since: float
    """When the burst began."""
    what: str
    """`ejected`, `restored`, `cooled`, `limit`, `reload`, or the level of a notice."""
    who: str
    why: str
    count: int = 1


class Recent:
    """The last events. Runs on the event loop."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._limits: list[Entry] = []
        self._others: list[Entry] = []
        self._latest: dict[tuple[str, str, str], Entry] = {}
        """The last entry of each kind, which may still count more."""
        self.configured_at = clock()
        """When the running configuration was taken, wall clock."""
        self.refused: ConfigReloaded | None = None
        """The last reload, if the file was refused, so that an older configuration runs."""

    def __repr__(self) -> str:
        return f"<Recent: {len(self._limits) + len(self._others)} events>"

    def entries(self) -> list[Entry]:
        """Return what happened, the latest first."""
        return sorted((*self._limits, *self._others), key=lambda entry: entry.at, reverse=True)

    def emit(self, event: Event) -> None:
        """Keep an event. HOT: every request ends here, and is not looked at."""
        kind = type(event)
        if kind is ExchangeEnded:
            return
        if isinstance(event, LimitDecided):
            self._note("limit", event.key, f"{event.limit} limit refused a request", event.limit)
        elif isinstance(event, UpstreamEjected):
            why = f"{event.reason}, for {event.for_s:.0f} s"
            self._note("ejected", _subject(event.upstream, event.model), why, event.reason)
        elif isinstance(event, Restored):
            self._note("restored", _subject(event.upstream, event.model), "a probation request succeeded")
        elif isinstance(event, UpstreamCooled):
            who = f"{_subject(event.upstream, event.model)}, credential {event.credential + 1}"
            self._note("cooled", who, f"{event.reason}, for {event.for_s:.0f} s", event.reason)
        elif isinstance(event, ConfigReloaded):
            self._reloaded(event)
        elif isinstance(event, Notice):
            # An error's detail is a traceback, which the log has.
            detail = f": {event.detail.partition(chr(10))[0]}" if event.detail and event.level != "error" else ""
            self._note(event.level, "llm-router", f"{event.message}{detail}"[:TEXT_MAX])

    def _reloaded(self, event: ConfigReloaded) -> None:
        if event.result == "rejected":
            self.refused = event
            more = f" (and {len(event.faults) - 1} more)" if len(event.faults) > 1 else ""
            why = (event.faults[0] if event.faults else "")[:TEXT_MAX] + more
            self._note("reload", "configuration", f"refused: {why}")
            return
        self.refused = None
        if event.result == "applied":
            self.configured_at = event.at
        restart = f"; needs a restart: {', '.join(event.needs_restart)}" if event.needs_restart else ""
        self._note("reload", "configuration", f"{event.result}: {event.digest[:12]}{restart}")

    def _note(self, what: str, who: str, why: str, alike: str = "") -> None:
        """Add a line, or count it where the same was told a moment ago; `alike` is the part of `why` to go by."""
        now = self._clock()
        key = (what, who, alike or why)
        latest = self._latest.get(key)
        if latest is not None and now - latest.at <= BURST_S:
            latest.at, latest.why, latest.count = now, why, latest.count + 1
            return
        entries, most = (self._limits, LIMITS_MAX) if what == "limit" else (self._others, ENTRIES_MAX - LIMITS_MAX)
        if len(entries) >= most:
            gone = min(entries, key=lambda entry: entry.at)
            entries.remove(gone)
            self._latest = {kind: entry for kind, entry in self._latest.items() if entry is not gone}
        entry = self._latest[key] = Entry(now, now, what, who, why)
        entries.append(entry)


def _subject(upstream: str, model: str) -> str:
    return f"{upstream} / {model}" if model else upstream
