"""Which faults are played, and when: a function of the seed, so that a run can be repeated."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

SPELL_S = 5.0
"""Seconds for which one upstream keeps its weather."""


class Fault(StrEnum):
    """What an upstream does in place of a plain right answer (RELIABILITY 6.4)."""

    # Before content: another upstream has to answer, and the client must not notice.
    REFUSED = "connection refused"
    RESET = "reset before the head"
    CUT = "closed before the head"
    STALLED = "silent before the head"
    GARBAGE = "garbage for a head"
    LIMITED = "429"
    BROKEN = "500"
    OVERLOADED = "503"
    HTML = "an HTML page"
    EMPTY = "empty answer"
    ERROR_FIRST = "error under 200"
    HALF_BEGUN = "reset before content"
    # Inside content: the client must be told.
    RESET_INSIDE = "reset in the stream"
    CUT_INSIDE = "closed in the stream"
    STALLED_INSIDE = "silent in the stream"
    ERROR_INSIDE = "error in the stream"
    ENDED_INSIDE = "ended without its marker"
    KILLED = "killed while it answered"
    # Around a right answer: the client must get it.
    DRIP = "slow drip"
    EXTRA = "bytes behind the answer"
    CLOSED_AFTER = "closed when idle"
    GZIP = "gzip"


INSIDE = (Fault.RESET_INSIDE, Fault.CUT_INSIDE, Fault.STALLED_INSIDE, Fault.ERROR_INSIDE, Fault.ENDED_INSIDE)
BREAKS = (*INSIDE, Fault.KILLED)
"""With one of these a client may see its stream broken off."""
HARMLESS = (Fault.DRIP, Fault.EXTRA, Fault.CLOSED_AFTER, Fault.GZIP)
EARLY = tuple(fault for fault in Fault if fault not in (*BREAKS, *HARMLESS, Fault.REFUSED))


class Weather(StrEnum):
    """What an upstream is like for a while."""

    CALM = "calm"
    ROUGH = "rough"
    REFUSING = "refusing"
    LIMITING = "limiting"
    FAILING = "failing"


_WEATHERS = {
    Weather.CALM: 4,
    Weather.ROUGH: 3,
    Weather.REFUSING: 1,
    Weather.LIMITING: 1,
    Weather.FAILING: 1,
}
"""How often each comes."""

_SHARES = {
    Weather.CALM: (0.01, 0.02, 0.1),
    Weather.ROUGH: (0.2, 0.08, 0.2),
    Weather.REFUSING: (0.0, 0.0, 0.0),
}
"""Shares of requests with a fault before content, inside it, and around it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens at each upstream."""

    seed: int

    def weather(self, server: str, second: float) -> Weather:
        """Of one upstream, so many seconds after the start, which is always calm."""
        spell = int(second / SPELL_S)
        if spell == 0:
            return Weather.CALM
        rng = Random(f"{self.seed}.{server}.weather.{spell}")
        return rng.choices(tuple(_WEATHERS), tuple(_WEATHERS.values()))[0]

    def fault(self, server: str, number: int, weather: Weather, *, stream: bool) -> Fault | None:
        """Of the request that comes to an upstream as the `number`th; None: it is answered well."""
        rng = Random(f"{self.seed}.{server}.{number}")
        if weather is Weather.LIMITING:
            return Fault.LIMITED
        if weather is Weather.FAILING:
            return rng.choice((Fault.BROKEN, Fault.OVERLOADED))
        early, inside, around = _SHARES[weather]
        kind = rng.random()
        faults: tuple[Fault, ...] = ()
        if kind < early:
            faults = EARLY
        elif kind < early + inside:
            faults = INSIDE
        elif kind < early + inside + around:
            faults = HARMLESS
        unfit = (Fault.GZIP,) if stream else INSIDE
        faults = tuple(fault for fault in faults if fault not in unfit)
        return rng.choice(faults) if faults else None
