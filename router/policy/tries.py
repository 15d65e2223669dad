"""Where one exchange has been tried, and where it may be tried next (DESIGN 5, RELIABILITY 1.7).

The order of these decisions is the same for a request, a WebSocket's handshake and a simulated request, so it stands
here once. Who asks carries them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.errors import Kind
from router.policy.outcomes import Blame, Cause

if TYPE_CHECKING:
    from random import Random

    from router.config.schema import Retry
    from router.policy.catalogue import Route
    from router.policy.outcomes import Verdict
    from router.policy.retry import RetryBudget
    from router.policy.target import Target, UpstreamState

AT_FAULT = (Blame.SOFT, Blame.HARD)
"""The upstream, and perhaps not for long: it may do better the next time."""

OWN_CREDENTIAL = frozenset((Cause.RATE_LIMITED, Cause.QUOTA, Cause.AUTH))
"""Another credential of the same upstream may fare better."""

BROKEN = frozenset((Cause.CLOSED, Cause.TRUNCATED))
"""The connection broke, and the work there is gone with it: another attempt moves load and adds none. So it is counted,
but not budgeted: an upstream that dies drops more requests at once than any budget would let go elsewhere."""

NOT_SENT = frozenset((
    Cause.DNS, Cause.CONNECT, Cause.TLS, Cause.CONNECT_TIMEOUT, Cause.SCARCE, Cause.PACE, Cause.UNTRANSLATABLE,
))  # fmt: skip
"""Nothing reached the upstream: trying the next member costs nobody anything, so it is neither counted nor budgeted."""


class Tries:
    """The tries of one exchange."""

    # Class attributes are what it begins with: most exchanges need no second try.

    tried: tuple[Target, ...] = ()
    avoid: tuple[UpstreamState, ...] = ()
    """What failed in a way that makes another attempt there pointless, for now."""
    _told: Verdict | None = None
    """The failure that the client hears of if nothing better comes."""
    _counted: int = 0
    """Attempts that reached an upstream and failed."""
    _needs_leave: bool = False
    """The last failure is one that a retry could multiply."""
    _budget: RetryBudget | None = None
    """What the retries are drawn on, once there is one."""
    held_back: bool = False
    """The budget left only those that are sound."""

    def __init__(self, route: Route, settings: Retry, reserved: int, only: Target | None = None) -> None:
        self._route = route
        self._settings = settings
        self._reserved = reserved
        """Tokens."""
        self.only = only
        """It can go nowhere else."""

    def __repr__(self) -> str:
        return f"<Tries of {self._route.name}: {len(self.tried)} failed>"

    def pick(self, now: float, over: int, rng: Random) -> tuple[Route, Target] | None:
        """A member that may help: of the model's pool, of its fallbacks, then one that is out, then one once more.

        After a failure one that failed the last time, too, needs the budget's leave. A sound one does not: moving there
        what a failing member dropped multiplies nothing, and without it a member that begins to fail while there is
        little to do would cost clients their answers until it is ejected.

        One that is in `tried` should be given a moment before (`retry.backoff`).

        Args:
            now: Monotonic seconds.
            over: Attempts that are over, those that were nobody's failure too.
            rng: Decides ties and draws.
        """
        choice = self._choose(now, over, rng)
        if choice is None or not self._needs_leave or choice[1].sound or self._has_leave():
            return choice
        self.held_back = True
        if self.only is not None:
            return None
        for route in self._route.chain:
            failing = tuple(target for target in route.pool.targets if not target.sound)
            target = route.pool.pick(now, self._reserved, (*self.tried, *failing), self.avoid, rng)
            if target is not None:
                return route, target
        return None

    def _choose(self, now: float, over: int, rng: Random) -> tuple[Route, Target] | None:
        """The order, without the budget."""
        chain, reserved = self._route.chain, self._reserved
        if self.only is not None:
            again = self._may_improve() and over < self._settings.attempts
            return (self._route, self.only) if again and self.only.eligible(now, reserved) else None
        for route in chain:
            target = route.pool.pick(now, reserved, self.tried, self.avoid, rng)
            if target is not None:
                return route, target
        if over >= self._settings.attempts:
            return None
        for route in chain:
            target = route.pool.last_resort(now, rng, reserved, self.tried)
            if target is not None:
                return route, target
        if self.tried and self._may_improve():
            for route in chain:
                target = route.pool.pick(now, reserved, (), (), rng)
                if target is not None:
                    return route, target
        return None

    def _has_leave(self) -> bool:
        """Whether the budget lets this exchange retry, now or since an earlier try."""
        if self._budget is None:
            pool = self._route.pool
            if not pool.retry.withdraw(pool.in_flight):
                return False
            self._budget = pool.retry
        return True

    def _may_improve(self) -> bool:
        """What failed may do better the next time."""
        return self._told is None or self._told.blame in AT_FAULT

    def failed(self, target: Target, verdict: Verdict) -> bool:
        """Note a failure. Returns whether it is the one that the client hears of if nothing better comes.

        That is the last of the weightiest: what broke is news, a limit hides it, and a member that cannot take the
        request at all says nothing of others.
        """
        self.tried = (*self.tried, target)
        if verdict.blame in AT_FAULT and verdict.cause not in OWN_CREDENTIAL:
            self.avoid = (*self.avoid, target.upstream)
        if self._told is not None and _weight(self._told) > _weight(verdict):
            return False
        self._told = verdict
        return True

    def may_go_on(self, verdict: Verdict, *, repeatable: bool = True) -> bool:
        """Tell whether there may be another try after this failure, which has been noted and is counted here.

        `repeatable`: to do again what may have been done does no harm (RFC 9110 section 9.2.2).
        """
        if not verdict.failover:
            return False
        if verdict.cause in NOT_SENT:
            return True
        if not repeatable:
            return False
        self._counted += 1
        self._needs_leave = verdict.cause not in BROKEN
        return self._counted < self._settings.attempts

    def end(self) -> None:
        """The exchange is over, or the client has what it gets: no retry is under way any more."""
        if self._budget is not None:
            self._budget.deposit()
            self._budget = None


def _weight(verdict: Verdict) -> int:
    if verdict.cause is Cause.UNTRANSLATABLE:
        return 0
    return 1 if verdict.kind is Kind.UPSTREAM_RATE_LIMITED else 2
