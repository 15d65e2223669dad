"""Simulated upstreams: they take their time, fill up, make requests wait, refuse by rate limits, and fail as told.

```
connect ─▶ a fault? ─▶ rate limits ─▶ a slot? ─▶ first content ─▶ last byte
              │            429         │   └─ none: wait in line, or 503
              └─ refused, silent, a status, garbage
```
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from router.config.schema import Limits
from router.policy.limits import Limiter
from router.policy.outcomes import VERDICTS, Cause, Verdict, of_status
from router.simulation.scenario import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from router.simulation.engine import Engine
    from router.simulation.scenario import Behaviour, Fault, Spread

NEVER: Final = math.inf
_P95: Final = 1.6448536269514722
"""Standard deviations from the median to the 95th percentile of a normal distribution."""
_EPSILON_S: Final = 1e-6


class Failure(NamedTuple):
    """How an attempt failed."""

    verdict: Verdict
    status: int = 0
    """The upstream's, with an error body that the client can read; 0 if none came."""
    retry_after_s: float | None = None


class Caller(Protocol):
    """A request as an upstream sees it."""

    streams: bool
    credential: int
    tokens: int
    """Prompt and answer together, as the provider counts them."""
    answer_s: float
    """First content → last byte, once that is known."""

    def expect(self, at: float, act: Callable[[float], None]) -> None:
        """Let this happen next, unless the router's or the client's patience ends before; `NEVER`: nothing comes."""

    def expect_failure(self, at: float, failure: Failure) -> None:
        """Let the attempt fail so, with the same reservation."""

    def await_connection(self) -> None:
        """No connection is made, and nothing says so."""

    def content(self, now: float) -> None:
        """The first content of a stream comes; the rest within `answer_s`."""

    def whole(self, now: float) -> None:
        """The whole answer is there."""

    def broken(self) -> None:
        """The connection breaks."""

    def silenced(self) -> None:
        """Nothing more comes, and nothing says so."""


def failure_of(cause: Cause) -> Failure:
    """A failure without an answer."""
    return Failure(VERDICTS[cause])


def failure_of_status(status: int, code: str = "", retry_after_s: float | None = None) -> Failure:
    """A failure by an error answer, judged as the daemon judges it."""
    verdict = of_status(status, code, "", "")
    assert verdict is not None
    return Failure(verdict, status, retry_after_s)


_REFUSED: Final = failure_of(Cause.CONNECT)
_FULL: Final = failure_of_status(503)
_FAILED: Final = failure_of_status(500)
_EMPTY: Final = failure_of(Cause.EMPTY)
TRUNCATED: Final = failure_of(Cause.TRUNCATED)
_AT_ONCE: Final = {
    Kind.ERROR: _FAILED,
    Kind.OVERLOAD: _FULL,
    Kind.RATE_LIMIT: failure_of_status(429),
    Kind.QUOTA: failure_of_status(402),
    Kind.AUTH: failure_of_status(401),
    Kind.MISSING: failure_of_status(404, "model_not_found"),
    Kind.REFUSE: failure_of_status(400),
    Kind.GARBAGE: failure_of(Cause.PROTOCOL),
}
"""Faults that are an answer, which comes without any work."""


class Duration:
    """Draws how long something takes."""

    __slots__ = ("_median", "_sigma")

    def __init__(self, spread: Spread) -> None:
        self._median = float(spread.median)
        p95 = spread.p95
        self._sigma = math.log(p95 / spread.median) / _P95 if p95 is not None and p95 > spread.median else 0.0

    def draw(self, rng: Random) -> float:
        """Return seconds."""
        return self._median * math.exp(self._sigma * rng.gauss(0.0, 1.0)) if self._sigma else self._median


class SimulatedUpstream:
    """One upstream: what it works on, who waits, and what is wrong with it at the moment."""

    __slots__ = (
        "_answer",
        "_connect_s",
        "_engine",
        "_faults",
        "_first_token",
        "_limiters",
        "_rng",
        "_slow",
        "behaviour",
        "blameless",
        "name",
        "serving",
        "waiting",
    )

    def __init__(self, name: str, behaviour: Behaviour, engine: Engine, rng: Random) -> None:
        self.name = name
        self.behaviour = behaviour
        self.blameless = True
        """Nothing that was sent here has failed so far."""
        self.serving: dict[Caller, None] = {}
        """What it works on, in the order of beginning."""
        self.waiting: OrderedDict[Caller, None] = OrderedDict()
        """Who waits for a slot, first come, first served."""
        self._engine = engine
        self._rng = rng
        self._connect_s = float(behaviour.connect)
        self._first_token = Duration(behaviour.first_token)
        self._answer = Duration(behaviour.answer)
        self._limiters: dict[int, Limiter] | None = None if behaviour.limits == Limits() else {}
        self._faults: list[Fault] = []
        self._slow = 1.0

    def __repr__(self) -> str:
        return f"<SimulatedUpstream {self.name}: serves {len(self.serving)}, {len(self.waiting)} wait>"

    def begin(self, fault: Fault) -> None:
        """A fault begins."""
        if fault.kind is Kind.SLOW:
            self._slow *= fault.factor
            return
        self._faults.append(fault)
        if fault.kind is not Kind.DIE and fault.kind is not Kind.VANISH:
            return
        # Those who are cut off may come back at once, so nothing of them must be left here.
        cut_off = [*self.serving, *self.waiting]
        for caller in cut_off:
            self._free(caller)
        self.serving.clear()
        self.waiting.clear()
        for caller in cut_off:
            if fault.kind is Kind.DIE:
                caller.broken()
            else:
                caller.silenced()

    def end(self, fault: Fault) -> None:
        """A fault is over."""
        if fault.kind is Kind.SLOW:
            self._slow /= fault.factor
        else:
            self._faults.remove(fault)

    def connect(self, caller: Caller) -> None:
        """A request comes: plan what happens to it."""
        now, fault = self._engine.now, self._struck() if self._faults else None
        told_at = now + self._connect_s
        if fault is not None:
            if fault.kind is Kind.DIE:
                caller.expect_failure(told_at, _REFUSED)
                return
            if fault.kind is Kind.VANISH:
                caller.await_connection()
                return
            failure = _AT_ONCE.get(fault.kind)
            if failure is not None:
                caller.expect_failure(told_at, failure._replace(retry_after_s=fault.retry_after))
                return
        if self.behaviour.errors and self._rng.random() < self.behaviour.errors:
            caller.expect_failure(told_at, _FAILED)
            return
        if self._limiters is not None and not self._take(caller, now, told_at):
            return
        slots = self.behaviour.slots
        if slots is None or len(self.serving) < slots:
            self._serve(caller, fault)
        elif len(self.waiting) < self.behaviour.queue:
            self.waiting[caller] = None
            caller.expect(NEVER, caller.content)
        else:
            self._free(caller)
            caller.expect_failure(told_at, _FULL)

    def release(self, caller: Caller) -> None:
        """The attempt is over, whoever ended it: its slot is free, and the next in line is taken up."""
        if caller in self.serving:
            del self.serving[caller]
            self._free(caller)
            slots = self.behaviour.slots
            while self.waiting and slots is not None and len(self.serving) < slots:
                following, _ = self.waiting.popitem(last=False)
                self._serve(following, self._struck() if self._faults else None)
        elif caller in self.waiting:
            del self.waiting[caller]
            self._free(caller)

    def _serve(self, caller: Caller, fault: Fault | None) -> None:
        """Take a request up: from here on its times are known."""
        self.serving[caller] = None
        rng = self._rng
        first = self._engine.now + self._connect_s + self._first_token.draw(rng) * self._slow
        caller.answer_s = answer_s = self._answer.draw(rng) * self._slow
        kind = None if fault is None else fault.kind
        if kind is None:
            if caller.streams:
                caller.expect(first, caller.content)
            else:
                caller.expect(first + answer_s, caller.whole)
        elif kind is Kind.EMPTY:
            caller.expect_failure(first, _EMPTY)
        elif kind is Kind.CUT:
            if caller.streams:
                caller.answer_s = -answer_s * rng.random()  # negative: so long, and then it breaks
                caller.expect(first, caller.content)
            else:
                caller.expect_failure(first + answer_s * rng.random(), TRUNCATED)
        else:
            caller.expect(NEVER, caller.content)

    def _struck(self) -> Fault | None:
        """Return the fault that strikes this request, if one does."""
        for fault in self._faults:
            if fault.share >= 1 or self._rng.random() < fault.share:
                return fault
        return None

    def _take(self, caller: Caller, now: float, told_at: float) -> bool:
        """Ask the provider's own limits; what they refuse is told at once."""
        assert self._limiters is not None
        limiter = self._limiters.get(caller.credential)
        if limiter is None:
            limiter = self._limiters[caller.credential] = Limiter(self.behaviour.limits, now)
        refusal = limiter.refusal(now, caller.tokens)
        if refusal is None:
            limiter.take(now, caller.tokens)
            return True
        retry_after_s = max(refusal.retry_after_s, _EPSILON_S) if self.behaviour.says_when else None
        caller.expect_failure(told_at, _AT_ONCE[Kind.RATE_LIMIT]._replace(retry_after_s=retry_after_s))
        return False

    def _free(self, caller: Caller) -> None:
        if self._limiters is not None:
            self._limiters[caller.credential].settle(self._engine.now, caller.tokens, None)
