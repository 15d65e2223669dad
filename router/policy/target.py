"""What a request is sent to, and the lease it holds there.

An upstream's state is one object for the whole life of (name, base URL): every snapshot of the configuration shares it,
so that an exchange which began under an older one ends its lease where the new one counts. Targets belong to one
snapshot: they join a member's settings to the states it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from router.config.schema import Limits
from router.events import UpstreamCooled, UpstreamEjected, UpstreamRestored
from router.policy.breaker import Breaker
from router.policy.limits import Limiter
from router.policy.outcomes import MODEL_UNPROMISED, Blame, Cause, Cools, Verdict

if TYPE_CHECKING:
    from random import Random

    from router.config.schema import Ejection, Secret, Timeouts, Upstream
    from router.policy.cooldown import Cooldown

PENALTY_S = 10.0
"""How long a target counts as more loaded than it is after a failure that did not eject it (RELIABILITY 1.5)."""

_SUCCESS = Blame.SUCCESS
"""By a name of its own: looking a member up on its class costs 0.1 us (Python 3.11)."""

BackendState = Literal["healthy", "ejected", "half_open", "cooling", "draining"]
Change = UpstreamEjected | UpstreamRestored | UpstreamCooled
ObstacleName = Literal[
    "cooling", "ejected", "probation", "host_ejected", "host_probation", "full", "requests", "tokens"
]


class Obstacle(msgspec.Struct, frozen=True):
    """One reason why a target may not be picked now."""

    name: ObstacleName
    why: str
    """What brought it about: why it cools (`Cools`), why it was ejected (`Ejected.reason`); a limit in numbers."""
    for_s: float | None
    """Seconds until it is over; None: nobody knows, or never for this request."""
    since_s: float | None = None
    """Seconds since an ejection."""


class UpstreamState:
    """One upstream: what is in flight there, its limits, and its health as a host and for each model and credential."""

    __slots__ = ("base_url", "breaker", "breakers", "cooldowns", "draining", "in_flight", "limiter", "name", "settings")

    def __init__(self, name: str, settings: Upstream, ejection: Ejection, now: float) -> None:
        self.name = name
        self.base_url = settings.base_url
        self.settings = settings
        self.in_flight = 0
        """Leases held, over all models, credentials and snapshots."""
        self.limiter: Limiter | None = None
        self.breaker = Breaker(ejection)
        """Of the host: opened by failures to connect."""
        self.breakers: dict[str, Breaker] = {}
        """By the model's name there."""
        self.cooldowns: dict[tuple[Secret | None, str], Cooldown] = {}
        """By the credential's reference and the model's name there."""
        self.draining = False
        """No pool sends anything new."""
        self.reconfigure(settings, ejection, now)

    def __repr__(self) -> str:
        return f"<Upstream {self.name}: {self.in_flight} in flight, {self.breaker!r}>"

    def reconfigure(self, settings: Upstream, ejection: Ejection, now: float) -> None:
        """Take over changed settings; whatever is counted stays."""
        self.settings = settings
        if self.limiter is not None:
            self.limiter.reconfigure(settings.limits, now)
        elif settings.limits != Limits():
            self.limiter = Limiter(settings.limits, now)
            # Leases end at the limiter that is there when they end, so it must know of those that are held.
            self.limiter.in_flight = self.in_flight
        for breaker in (self.breaker, *self.breakers.values()):
            breaker.reconfigure(ejection, now)

    def keep(self, breakers: dict[str, Breaker], cooldowns: dict[tuple[Secret | None, str], Cooldown]) -> None:
        """Let the configuration's breakers and cooldowns be these, forgetting models and credentials that are gone."""
        self.breakers = breakers
        self.cooldowns = cooldowns

    def backend_state(self, now: float) -> BackendState:
        """Return the one state a gauge shows: the worst that holds for every model and credential."""
        if self.draining:
            return "draining"
        models = {breaker.state(now) for breaker in self.breakers.values()}
        host = self.breaker.state(now)
        if host == "open" or models == {"open"}:
            return "ejected"
        if host == "half_open" or (models and "closed" not in models):
            return "half_open"
        if self.cooldowns and all(cooldown.until > now for cooldown in self.cooldowns.values()):
            return "cooling"
        return "healthy"


class Target:
    """One member of a pool with one of its upstream's credentials: what an attempt is sent to."""

    __slots__ = (
        "breaker",
        "cooldown",
        "credential",
        "label",
        "model",
        "penalty_until",
        "share",
        "tier",
        "timeouts",
        "upstream",
        "weight",
    )

    def __init__(
        self,
        upstream: UpstreamState,
        *,
        model: str | None,
        label: str,
        credential: int,
        weight: float,
        share: float,
        tier: int,
        timeouts: Timeouts,
        breaker: Breaker,
        cooldown: Cooldown,
    ) -> None:
        self.upstream = upstream
        self.model = model
        """The name to send; None under a pattern: what the client wrote."""
        self.label = label
        """The model's name there, or the pattern: what health is kept by and events say."""
        self.credential = credential
        """Index into the upstream's credentials."""
        self.weight = weight
        """The member's."""
        self.share = share
        """This credential's part of the weight."""
        self.tier = tier
        self.timeouts = timeouts
        self.breaker = breaker
        """Of the model at this upstream."""
        self.cooldown = cooldown
        self.penalty_until = 0.0
        """Monotonic seconds; the past when nothing failed lately."""

    def __repr__(self) -> str:
        return f"<Target {self.upstream.name}/{self.label}#{self.credential}: {self.upstream.in_flight} in flight>"

    def eligible(self, now: float, tokens: int) -> bool:
        """Tell whether it may be picked now: neither ejected nor cooling, and not full."""
        upstream = self.upstream
        breaker, host = self.breaker, upstream.breaker
        return (
            self.cooldown.until <= now
            and (not breaker.open_until or breaker.eligible(now))
            and (not host.open_until or host.eligible(now))
            and (upstream.limiter is None or upstream.limiter.admits(now, tokens))
        )

    def obstacles(self, now: float, tokens: int) -> tuple[Obstacle, ...]:
        """Return everything that keeps it from being picked now: nothing exactly if it is `eligible`."""
        found: list[Obstacle] = []
        if self.cooldown.until > now:
            found.append(Obstacle("cooling", self.cooldown.reason, self.cooldown.until - now))
        for breaker, on_host in ((self.breaker, False), (self.upstream.breaker, True)):
            if breaker.eligible(now):
                continue
            since_s = now - breaker.opened_at
            if breaker.state(now) == "open":
                name: ObstacleName = "host_ejected" if on_host else "ejected"
                found.append(Obstacle(name, breaker.reason, breaker.open_until - now, since_s))
            else:
                name = "host_probation" if on_host else "probation"
                found.append(Obstacle(name, breaker.reason, None, since_s))
        limiter = self.upstream.limiter
        for refusal in limiter.refusals(now, tokens) if limiter is not None else ():
            if refusal.limit == "concurrency":
                found.append(Obstacle("full", f"{refusal.asked - 1} of {refusal.limit_value}", None))
            else:
                why = f"asks for {refusal.asked}, {refusal.limit_value} a minute"
                found.append(Obstacle(refusal.limit, why, None if refusal.never else refusal.retry_after_s))
        return tuple(found)

    @property
    def sound(self) -> bool:
        """The model and the host did well the last time: what is moved here adds load, but to no fire."""
        return self.breaker.sound and self.upstream.breaker.sound

    def back_at(self, now: float) -> float:
        """Return when its ejections and cooldown are over, monotonic seconds; the past if nothing keeps it out.

        A second from now if it waits for a probation request to end, which may be at any time.
        """
        until = max(self.cooldown.until, self.breaker.open_until, self.upstream.breaker.open_until)
        if until <= now and not (self.breaker.eligible(now) and self.upstream.breaker.eligible(now)):
            return now + 1.0
        return until

    def begin(self, now: float, tokens: int) -> Lease:
        """Begin an attempt: take a slot, and the upstream's own limits."""
        upstream = self.upstream
        upstream.in_flight += 1
        if upstream.limiter is None:
            tokens = 0
        else:
            upstream.limiter.take(now, tokens)
        return Lease(self, tokens, now)

    def judge(self, verdict: Verdict) -> Verdict:
        """Return what a verdict means here: under a pattern a missing model is the client's choice of name."""
        if self.model is None and verdict.cause is Cause.MODEL_MISSING:
            return MODEL_UNPROMISED
        return verdict


class Lease:
    """The slot one attempt holds at its target, from `begin` to its last byte.

    Begin, prove, note and end together take 0.9 us.
    """

    __slots__ = ("_cooled", "_ended", "_host_trial", "_noted", "_trial", "reserved", "target")

    def __init__(self, target: Target, reserved: int, now: float) -> None:
        self.target = target
        self.reserved = reserved
        """Tokens taken from the upstream's own limit."""
        breaker, host = target.breaker, target.upstream.breaker
        # This attempt is a probation request of the model, of the host, or was sent although the target cools.
        self._trial = breaker.begin(now) if breaker.open_until else False
        self._host_trial = host.begin(now) if host.open_until else False
        self._cooled = target.cooldown.until > now
        self._noted = False
        self._ended = False

    def prove(self, now: float) -> tuple[Change, ...]:
        """Say that content came: ends a probation well, now and not at the end of a long stream. Counts nothing.

        `note` still judges the attempt when it ends.
        """
        if not (self._trial or self._host_trial or self._cooled):
            return ()
        target = self.target
        changes: list[Change] = []
        if self._cooled:
            self._cooled = False
            target.cooldown.clear()
        if self._trial:
            self._trial = False
            if target.breaker.succeed(now, probation=True):
                changes.append(UpstreamRestored(target.upstream.name, target.label))
        if self._host_trial:
            changes += self._reached(now)
        return tuple(changes)

    def note(self, verdict: Verdict, now: float, retry_after_s: float | None, rng: Random) -> tuple[Change, ...]:
        """Judge the attempt, once; return what changed by it.

        Args:
            verdict: Of `outcomes`.
            now: Monotonic seconds.
            retry_after_s: What the upstream asked for, parsed; None if it did not.
            rng: For jitter.
        """
        if self._noted:
            return ()
        self._noted = True
        if verdict.blame is _SUCCESS:
            return self._succeeded(now)
        verdict = self.target.judge(verdict)
        if verdict.blame is Blame.SUCCESS:
            return self._succeeded(now)
        return (*self._failed(verdict, now, rng), *self._cool(verdict.cools, now, retry_after_s, rng))

    def withdraw(self) -> None:
        """End without a verdict: a probation request of which nothing came leaves its place to the next."""
        self._noted = True
        self.target.breaker.withdraw(self._trial)
        self.target.upstream.breaker.withdraw(self._host_trial)
        self._trial = self._host_trial = False

    def end(self, now: float, used: int | None) -> None:
        """Give the slot back; only the first call counts.

        Args:
            now: Monotonic seconds.
            used: Tokens the upstream has spent on this attempt: 0 if it failed before any content, None if unknown.
        """
        if self._ended:
            return
        self._ended = True
        if not self._noted:
            self.withdraw()
        upstream = self.target.upstream
        upstream.in_flight -= 1
        if upstream.limiter is not None:
            upstream.limiter.settle(now, self.reserved, used)

    def _succeeded(self, now: float) -> tuple[Change, ...]:
        changes = self.prove(now)
        target = self.target
        if target.cooldown.marked:
            target.cooldown.succeed(now)
        target.breaker.succeed(now, probation=False)
        target.upstream.breaker.succeed(now, probation=False)
        return changes

    def _failed(self, verdict: Verdict, now: float, rng: Random) -> tuple[Change, ...]:
        target = self.target
        name = target.upstream.name
        trial, self._trial = self._trial, False
        if verdict.host:
            target.breaker.withdraw(trial)
            host_trial, self._host_trial = self._host_trial, False
            ejected = target.upstream.breaker.fail(now, hard=verdict.blame is Blame.HARD, probation=host_trial, rng=rng)
            if ejected is not None:
                return (UpstreamEjected(name, "", ejected.reason, ejected.for_s),)
            target.penalty_until = now + PENALTY_S
            return ()
        changes = self._reached(now) if verdict.answered else self._unreached()
        if verdict.blame is Blame.NONE:
            target.breaker.withdraw(trial)
            return changes
        target.penalty_until = now + PENALTY_S
        ejected = target.breaker.fail(now, hard=verdict.blame is Blame.HARD, probation=trial, rng=rng)
        if ejected is None:
            return changes
        return (*changes, UpstreamEjected(name, target.label, ejected.reason, ejected.for_s))

    def _cool(self, cools: Cools, now: float, retry_after_s: float | None, rng: Random) -> tuple[Change, ...]:
        target = self.target
        cooldown = target.cooldown
        before = (cooldown.until > now, cooldown.reason)
        for_s = cooldown.cool(now, cools, retry_after_s, rng)
        # Answers to requests that were sent together tell one story, so it is told once.
        if not for_s or before == (True, cooldown.reason):
            return ()
        return (UpstreamCooled(target.upstream.name, target.credential, target.label, cooldown.reason, for_s),)

    def _reached(self, now: float) -> tuple[Change, ...]:
        host_trial, self._host_trial = self._host_trial, False
        upstream = self.target.upstream
        return (UpstreamRestored(upstream.name, ""),) if upstream.breaker.succeed(now, host_trial) else ()

    def _unreached(self) -> tuple[Change, ...]:
        self.target.upstream.breaker.withdraw(self._host_trial)
        self._host_trial = False
        return ()
