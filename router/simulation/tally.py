"""What a simulation counts: clients, exchanges, attempts, and for each upstream load, errors and waiting over time."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final

from router.events import UpstreamCooled, UpstreamEjected, UpstreamRestored
from router.policy.outcomes import Blame
from router.simulation.engine import START_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.policy.outcomes import Verdict
    from router.policy.target import Change

BINS: Final = 60
"""Columns of a plot: so many equal parts of the scenario's duration."""
SAMPLES_PER_BIN: Final = 4
_SHORTEST_S: Final = 0.001
_STEPS_PER_DOUBLING: Final = 8
"""Durations are counted in steps of 9 %."""


class Durations:
    """How often something took how long, in logarithmic steps."""

    __slots__ = ("_counts", "count")

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0

    def add(self, seconds: float) -> None:
        """Count one."""
        step = int(math.log2(seconds / _SHORTEST_S) * _STEPS_PER_DOUBLING) if seconds > _SHORTEST_S else 0
        self._counts[step] += 1
        self.count += 1

    def quantile(self, share: float) -> float:
        """Return seconds that this share did not exceed; 0 if nothing was counted."""
        left = share * self.count
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return float(_SHORTEST_S * 2.0 ** ((step + 0.5) / _STEPS_PER_DOUBLING))
        return 0.0


class UpstreamTally:
    """One upstream as the router saw it."""

    __slots__ = (
        "_samples",
        "attempts",
        "causes",
        "cooled",
        "ejected",
        "failed",
        "in_flight",
        "peak",
        "reached",
        "waited_s",
        "waiting",
        "waits",
    )

    def __init__(self) -> None:
        self.attempts = [0] * (BINS + 1)
        """By when they ended, in each part of the duration and after it."""
        self.failed = [0] * (BINS + 1)
        self.reached = [0] * (BINS + 1)
        """Attempts that brought content, by when they began: by when it came, slow stragglers would look like a jam."""
        self.waited_s = [0.0] * (BINS + 1)
        """Of those, attempt begun → first content, summed up."""
        self.in_flight = [0.0] * BINS
        """The mean of what was in flight."""
        self.waiting = [0.0] * BINS
        """The mean of what waited there in line."""
        self._samples = [0] * BINS
        self.causes: Counter[str] = Counter()
        """How attempts ended, `ok` included."""
        self.waits = Durations()
        self.peak = 0
        """The most leases at once."""
        self.ejected = 0
        self.cooled = 0

    def sample(self, column: int, in_flight: int, waiting: int) -> None:
        """Take a look."""
        self._samples[column] += 1
        share = 1 / self._samples[column]
        self.in_flight[column] += (in_flight - self.in_flight[column]) * share
        self.waiting[column] += (waiting - self.waiting[column]) * share

    def mean_waits(self) -> list[float]:
        """Seconds to the first content over time; 0 where nothing came."""
        return [waited / count if count else 0.0 for waited, count in zip(self.waited_s, self.reached, strict=True)]


class Tally:
    """Everything that is counted in one run."""

    __slots__ = (
        "_bins_per_s", "abandoned", "answered", "calls", "changes", "client_errors", "client_requests", "ended",
        "failed", "in_trouble", "outcomes", "retried", "statuses", "ttft", "upstreams",
    )  # fmt: skip

    def __init__(self, upstreams: Iterable[str], duration_s: float) -> None:
        self._bins_per_s = BINS / duration_s
        self.upstreams = {name: UpstreamTally() for name in upstreams}
        self.calls = 0
        """What clients wanted; each may need several requests."""
        self.answered = 0
        """Calls that got a whole answer in the end."""
        self.failed = 0
        """Calls that ended in an error."""
        self.abandoned = 0
        """Calls whose client left for good."""
        self.retried = 0
        """Requests that were a client's second or later try."""
        self.ended = 0
        """Requests that reached their one end."""
        self.statuses: Counter[int] = Counter()
        """Of requests, as clients got them; 0: they left before."""
        self.outcomes: Counter[str] = Counter()
        """Why requests ended: `ok`, or the reason of the error."""
        self.ttft = Durations()
        """Request → first content, of requests that got some."""
        self.client_requests = [0] * (BINS + 1)
        """By when they ended."""
        self.client_errors = [0] * (BINS + 1)
        self.in_trouble: Counter[int] = Counter()
        """Requests by the number of their attempts, where one was not enough."""
        self.changes: Counter[str] = Counter()

    def column(self, now: float) -> int:
        """Return the part of the duration that a moment is in, from 0; `BINS` for all that comes after it."""
        column = int((now - START_S) * self._bins_per_s)
        return column if column < BINS else BINS  # noqa: FURB136 (`min` costs 0.1 us)

    def attempt_began(self, upstream: str, in_flight: int) -> None:
        """Count a lease."""
        tally = self.upstreams[upstream]
        if in_flight > tally.peak:  # noqa: PLR1730 (likewise)
            tally.peak = in_flight

    def attempt_ended(self, upstream: str, verdict: Verdict, now: float) -> None:
        """Count an attempt that came to a verdict."""
        tally, column = self.upstreams[upstream], self.column(now)
        tally.attempts[column] += 1
        tally.causes[verdict.cause] += 1
        if verdict.blame is not Blame.SUCCESS:
            tally.failed[column] += 1

    def content(self, upstream: str, waited_s: float, began: float) -> None:
        """Count a first content."""
        tally, column = self.upstreams[upstream], self.column(began)
        tally.reached[column] += 1
        tally.waited_s[column] += waited_s
        tally.waits.add(waited_s)

    def exchange_ended(self, status: int, reason: str, attempts: int, *, complete: bool, now: float) -> None:
        """Count the end of a request."""
        self.ended += 1
        self.statuses[status] += 1
        self.outcomes[reason] += 1
        column = self.column(now)
        self.client_requests[column] += 1
        if attempts > 1:
            self.in_trouble[attempts] += 1
        if not complete and status:
            self.client_errors[column] += 1

    def changed(self, changes: tuple[Change, ...]) -> None:
        """Count ejections, cooldowns and returns."""
        for change in changes:
            tally = self.upstreams[change.upstream]
            if isinstance(change, UpstreamEjected):
                tally.ejected += 1
                self.changes["ejected"] += 1
            elif isinstance(change, UpstreamCooled):
                tally.cooled += 1
                self.changes["cooled"] += 1
            elif isinstance(change, UpstreamRestored):
                self.changes["restored"] += 1
