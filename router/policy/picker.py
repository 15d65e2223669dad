"""Pickers: which of a tier's eligible targets takes the request.

The signal is our own count of requests in flight: exact, instant, free, and it holds what durations differ by. Averages
of latency are dominated by the length of answers, round robin by luck (RELIABILITY 1.3). Any such picker needs ejection
beside it, because what fails fast always looks idle; and a penalty until ejection comes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect
from itertools import accumulate
from typing import TYPE_CHECKING

from router.config.schema import Choose

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from random import Random

    from router.policy.target import Target, UpstreamState

PENALTY = 4.0
"""After a failure a target counts as so much more loaded (RELIABILITY 1.5)."""


FEW = 16
"""So many members are soon looked at one by one."""
REDRAWS = 32
"""Above that, so many draws are tried first. With nine of ten members out, they do five times of six."""
WEIGHED = 128
"""Of so many members it is told how likely each is: every pair is looked at, 7 ms."""


class Picker(ABC):
    """Targets of equal rank, at least one, each with a share above zero, and the way to choose among them."""

    __slots__ = ("targets",)

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = tuple(targets)

    @abstractmethod
    def pick(
        self, now: float, tokens: int, tried: Collection[Target], avoid: Collection[UpstreamState], rng: Random
    ) -> Target | None:
        """Return an eligible target that is neither tried nor at an upstream to avoid, or None."""

    @abstractmethod
    def chances(self, now: float, tokens: int) -> dict[Target, float] | None:
        """Return how likely each eligible target is to be picked while nothing has been tried.

        Nothing, for those that come when others have failed. Changes nothing. None: they are too many to tell.
        """

    def _usable(self, now: float, tokens: int) -> list[Target]:
        return [target for target in self.targets if target.eligible(now, tokens)]


class TwoChoices(Picker):
    """Draws two by weight; the first takes the request unless the second would be no worse off with it.

    Taking simply the smaller of (in flight + 1) / weight would send everything to the heavier of two while there is
    little to do, whatever was drawn. Comparing the first as it is with the second as it would be keeps the configured
    split when idle and balances capacity when busy (RELIABILITY 1.4). 1.0 us for four targets.
    """

    __slots__ = ("_shares",)

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__(targets)
        self._shares = _Shares(self.targets)

    def pick(  # noqa: D102
        self, now: float, tokens: int, tried: Collection[Target], avoid: Collection[UpstreamState], rng: Random
    ) -> Target | None:
        targets = self.targets
        if len(targets) == 1:
            return targets[0] if _usable(targets[0], now, tokens, tried, avoid) else None
        shares = self._shares
        first = shares.draw(rng)
        second = shares.draw_other(first, rng)
        one, other = targets[first], targets[second]
        if _usable(one, now, tokens, tried, avoid) and _usable(other, now, tokens, tried, avoid):
            return _better(one, other, now)
        # What cannot be used is drawn again, which leaves the shares of the rest exact; luck failing, or among few, the
        # draw is among those that can. Looking at each of a thousand costs 1 ms.
        redraws = REDRAWS if len(targets) > FEW else 0
        while redraws and not _usable(targets[first], now, tokens, tried, avoid):
            first = shares.draw(rng)
            redraws -= 1
        second = shares.draw_other(first, rng) if redraws else second
        while redraws and not _usable(targets[second], now, tokens, tried, avoid):
            second = shares.draw_other(first, rng)
            redraws -= 1
        if redraws:
            return _better(targets[first], targets[second], now)
        usable = [target for target in targets if _usable(target, now, tokens, tried, avoid)]
        if len(usable) < 2:
            return usable[0] if usable else None
        shares = _Shares(usable)
        first = usable.index(one) if one in usable else shares.draw(rng)
        return _better(usable[first], usable[shares.draw_other(first, rng)], now)

    def chances(self, now: float, tokens: int) -> dict[Target, float] | None:  # noqa: D102
        usable = self._usable(now, tokens)
        if len(usable) > WEIGHED:
            return None
        if len(usable) < 2:
            return dict.fromkeys(usable, 1.0)
        chances = dict.fromkeys(usable, 0.0)
        total = sum(target.share for target in usable)
        for first in usable:
            others = [target for target in usable if target is not first]
            left = sum(target.share for target in others)
            for second in others:
                chances[_better(first, second, now)] += first.share / total * second.share / left
        return chances


class LeastInFlight(Picker):
    """Takes the one with least in flight per weight of all; of equals one by weight, never by position.

    The best for self-hosted engines of fixed width, also when several routers share them (RELIABILITY 1.3).
    """

    __slots__ = ()

    def pick(  # noqa: D102
        self, now: float, tokens: int, tried: Collection[Target], avoid: Collection[UpstreamState], rng: Random
    ) -> Target | None:
        best, best_load, shares = None, 0.0, 0.0
        for target in self.targets:
            if not _usable(target, now, tokens, tried, avoid):
                continue
            in_flight = target.upstream.in_flight
            load = (in_flight if target.penalty_until <= now else PENALTY * (in_flight + 1)) / target.weight
            if best is None or load < best_load:
                best, best_load, shares = target, load, target.share
            elif load == best_load:
                shares += target.share
                if rng.random() * shares < target.share:
                    best = target
        return best

    def chances(self, now: float, tokens: int) -> dict[Target, float] | None:  # noqa: D102
        loads: dict[Target, float] = {}
        for target in self._usable(now, tokens):
            in_flight = target.upstream.in_flight
            load = in_flight if target.penalty_until <= now else PENALTY * (in_flight + 1)
            loads[target] = load / target.weight
        smallest = min(loads.values(), default=0.0)
        least = [target for target, load in loads.items() if load == smallest]
        shares = sum(target.share for target in least)
        return dict.fromkeys(loads, 0.0) | {target: target.share / shares for target in least}


class RoundRobin(Picker):
    """Takes turns by weight, spread evenly, as nginx does: 5, 1, 1 gives a a b a c a a."""

    __slots__ = ("_current",)

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__(targets)
        self._current = [0.0] * len(targets)

    def pick(  # noqa: D102
        self,
        now: float,
        tokens: int,
        tried: Collection[Target],
        avoid: Collection[UpstreamState],
        rng: Random,  # noqa: ARG002 -- the one picker that needs no luck
    ) -> Target | None:
        current, total, best = self._current, 0.0, -1
        for index, target in enumerate(self.targets):
            if _usable(target, now, tokens, tried, avoid):
                current[index] += target.share
                total += target.share
                if best < 0 or current[index] > current[best]:
                    best = index
        if best < 0:
            return None
        current[best] -= total
        return self.targets[best]

    def chances(self, now: float, tokens: int) -> dict[Target, float] | None:  # noqa: D102
        turns = {
            target: current + target.share
            for target, current in zip(self.targets, self._current, strict=True)
            if target.eligible(now, tokens)
        }
        first = max(turns, key=turns.__getitem__, default=None)
        return {target: float(target is first) for target in turns}


PICKERS: dict[Choose, type[Picker]] = {
    Choose.TWO_CHOICES: TwoChoices,
    Choose.LEAST_IN_FLIGHT: LeastInFlight,
    Choose.ROUND_ROBIN: RoundRobin,
}


class _Shares:
    """Draws with probabilities proportional to the shares."""

    __slots__ = ("_above", "_last", "_targets", "_total")

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = targets
        self._above = list(accumulate(target.share for target in targets))
        self._last = len(targets) - 1
        self._total = self._above[-1]

    def draw(self, rng: Random) -> int:
        """Draw an index. 0.2 us, nearly whatever their number."""
        return bisect(self._above, rng.random() * self._total, 0, self._last)

    def draw_other(self, first: int, rng: Random) -> int:
        """Draw an index that is not this one, of at least two."""
        above, last = self._above, self._last
        # From what is left when the first one's stretch is cut out.
        share = self._targets[first].share
        point = rng.random() * (self._total - share)
        if point >= above[first] - share:
            point += share
        other = bisect(above, point, 0, last)
        if other == first:
            # By rounding, at the very edge of its stretch.
            other = first + 1 if first < last else first - 1
        return other


def _usable(
    target: Target, now: float, tokens: int, tried: Collection[Target], avoid: Collection[UpstreamState]
) -> bool:
    if (tried and target in tried) or (avoid and target.upstream in avoid):
        return False
    return target.eligible(now, tokens)


def _better(first: Target, second: Target, now: float) -> Target:
    # Loads are compared as in flight times the other's weight, which saves two divisions.
    as_it_is = first.upstream.in_flight * second.weight
    with_it = (second.upstream.in_flight + 1) * first.weight
    penalised = first.penalty_until > now
    if penalised != (second.penalty_until > now):
        if penalised:
            as_it_is = PENALTY * (as_it_is + second.weight)
        else:
            with_it *= PENALTY
    return second if with_it <= as_it_is else first
