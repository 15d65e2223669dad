"""Finding an upstream for a WebSocket: pick a member, dial, and go to the next while the handshake fails (DESIGN 5).

The rules are those of any exchange before its commit (RELIABILITY 1.7): what never reached an upstream is tried
elsewhere at no cost, other failures are counted and budgeted, a member is tried again only when nobody else is left.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from router.errors import Kind, UpstreamError
from router.events import NEVER, Attempt
from router.policy.outcomes import VERDICTS, Cause
from router.policy.retry import backoff
from router.policy.tries import Tries
from router.protocol import trace_context
from router.protocol.envelope import mask
from router.web.dial import Call, DialError, Line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

    from router.config.schema import Config
    from router.errors import Problem, Refused
    from router.events import Event, Outcome, Side
    from router.policy.catalogue import Catalogue, Route
    from router.policy.limits import Refusal
    from router.policy.outcomes import Verdict
    from router.policy.owners import Owners
    from router.policy.target import Lease, Target
    from router.protocol.facts import ErrorFacts
    from router.protocol.http import Headers
    from router.protocol.trace_context import Span
    from router.web.dial import Connect, Wire


class Snapshot(Protocol):
    """One valid configuration made ready to serve."""

    @property
    def config(self) -> Config:
        """As loaded."""

    @property
    def catalogue(self) -> Catalogue:
        """Its models and upstreams."""

    @property
    def wires(self) -> Mapping[str, Wire]:
        """How each upstream is reached, by name."""

    @property
    def sample(self) -> float | None:
        """Share of the requests without a `traceparent` whose spans are kept; None: nobody's are."""


class Shared(Protocol):
    """What all exchanges share, as far as sockets need it."""

    @property
    def snapshot(self) -> Snapshot:
        """The running configuration."""

    @property
    def emit(self) -> Callable[[Event], None]:
        """Tells the consumers of events."""

    @property
    def rng(self) -> Random:
        """Decides draws."""

    @property
    def owners(self) -> Owners | None:
        """Where answers are stored; None: nothing is remembered."""

    @property
    def closed(self) -> bool:
        """Nothing new is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """What clients are told, in the words of every other exchange."""

    limited: Callable[[Refusal], Refused]
    """A limit of the key is reached."""
    nobody: Callable[[Kind, float], Refused]
    """No member may be tried, for this reason, and in so many seconds one may."""
    failed: Callable[[Verdict, float], Problem]
    """Every attempt that could help has failed, the one that tells most in this way."""
    owner_down: Callable[[float], Refused]
    """The one upstream that could serve cannot."""
    draining: Callable[[], Refused]
    """The daemon stops."""
    bug: Callable[[], Problem]
    """Our own code failed."""
    outcome: Callable[[Kind], tuple[Outcome, Side]]
    """How an exchange that ended so is counted, and who ended it."""


class Declined(UpstreamError):
    """An upstream refused the handshake, and what it says is for the client (PROTOCOL 7.3)."""

    def __init__(self, kind: Kind, failure: DialError, facts: ErrorFacts, secrets: Sequence[str]) -> None:
        super().__init__(kind, mask(facts.message, secrets))
        self.upstream_status = failure.status
        self.body = failure.body
        self.facts = facts
        self.secrets = secrets

    @property
    def status(self) -> int:
        """The upstream's, which is what the client gets."""
        return self.upstream_status


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a client wants to be connected to."""

    route: Route
    model: str
    """As the client wrote it."""
    path: bytes
    """What follows the base URL."""
    query: Callable[[str], bytes]
    """The query to send, given the model's name at the upstream."""
    headers: Headers
    protocols: Sequence[str]
    only: tuple[str, int] | None = None
    """Upstream and credential that own what the client refers to: these or nobody."""
    span: Span | None = None
    """Ours, if it is kept."""
    began: float = 0.0
    """The request's first byte, monotonic seconds."""
    restarts: bool = False
    """The client's `traceparent` was none, so that its `tracestate` is none either."""


@dataclass(slots=True, kw_only=True)
class Reached:
    """A member that took the handshake, and the lease on it."""

    route: Route
    target: Target
    wire: Wire
    lease: Lease
    line: Line
    model: str
    """The model's name there."""
    began: float
    span_id: str = ""
    offset_s: float = NEVER
    """The attempt's own span, and since the request's first byte when that began."""

    def record(self, now: float, cause: str) -> Attempt:
        """Return what the log and the metrics keep of this attempt."""
        line, target = self.line, self.target
        kept = Attempt(
            upstream=target.upstream.name,
            model=self.model,
            cause=cause,
            duration_s=now - self.began,
            credential=target.credential,
            status=line.status,
            head_s=line.answered - line.connected if line.answered else NEVER,
            connect_s=line.connected - self.began if line.connected else NEVER,
        )
        if not self.span_id:
            return kept
        return msgspec.structs.replace(kept, span_id=self.span_id, offset_s=self.offset_s)


class Reach:
    """The attempts of one WebSocket at its upstreams."""

    def __init__(
        self,
        snapshot: Snapshot,
        connect: Connect,
        *,
        emit: Callable[[Event], None],
        rng: Random,
        says: Says,
        heartbeat_s: float,
    ) -> None:
        """Prepare.

        Args:
            snapshot: The configuration at the client's handshake.
            connect: Makes connections.
            emit: Tells the consumers of events.
            rng: Decides draws.
            says: The words for what went wrong.
            heartbeat_s: Of the upstream's side.
        """
        self._snapshot = snapshot
        self._connect = connect
        self._emit = emit
        self._rng = rng
        self._says = says
        self._heartbeat_s = heartbeat_s
        self.attempts: tuple[Attempt, ...] = ()
        """Those that are over."""
        self._tries: Tries | None = None
        self._failure: tuple[DialError, Wire] | None = None

    async def find(self, wanted: Wanted) -> Reached:
        """Return the first member that takes the handshake. Its lease and its line are the caller's to end.

        Raises:
            Problem: Nobody does.
        """
        only = wanted.route.pool.at(*wanted.only) if wanted.only is not None else None
        if wanted.only is not None and only is None:
            raise self._problem(wanted)
        tries = self._tries = Tries(wanted.route, self._snapshot.config.defaults.retry, 0, only)
        while (choice := tries.pick(time.monotonic(), len(self.attempts), self._rng)) is not None:
            route, target = choice
            if target in tries.tried:
                await asyncio.sleep(backoff(len(self.attempts), self._rng))
            reached = self._begin(wanted, route, target)
            try:
                await self._dial(wanted, reached)
            except DialError as failure:
                if not self._failed(reached, failure, tries):
                    break
            else:
                return reached
        raise self._problem(wanted)

    def close(self) -> None:
        """The client has what it gets: a retry is not under way any more."""
        if self._tries is not None:
            self._tries.end()

    # attempt

    def _begin(self, wanted: Wanted, route: Route, target: Target) -> Reached:
        now = time.monotonic()
        reached = Reached(
            route=route,
            target=target,
            wire=self._snapshot.wires[target.upstream.name],
            lease=target.begin(now, 0),
            line=Line(),
            model=target.model or wanted.model,
            began=now,
        )
        if wanted.span is not None:
            reached.span_id, reached.offset_s = trace_context.new_id(self._rng), now - wanted.began
        return reached

    async def _dial(self, wanted: Wanted, reached: Reached) -> None:
        """Shake hands with a member; whatever goes wrong, nothing stays open or held.

        Raises:
            DialError: It went wrong. The lease is ended when that has been judged.
        """
        wire, target = reached.wire, reached.target
        call = Call(
            target=wire.target(wanted.path, reached.model, wanted.query(reached.model)),
            headers=_traced(wanted, reached.span_id),
            protocols=wanted.protocols,
            timeouts=target.timeouts,
            heartbeat_s=self._heartbeat_s,
        )
        try:
            if not await wire.turn_comes():
                raise DialError(VERDICTS[Cause.PACE])  # noqa: TRY301 (as any other end of a try)
            await reached.line.open(wire, target.credential, self._connect, call)
        except DialError:
            await reached.line.hang_up()
            raise
        except BaseException:  # the client left, or our own code failed
            self._end(reached, Cause.CLIENT_GONE)
            await reached.line.hang_up()
            raise

    def _end(self, reached: Reached, cause: Cause) -> None:
        now = time.monotonic()
        reached.lease.end(now, 0)
        self.attempts = (*self.attempts, reached.record(now, cause))

    # failure

    def _failed(self, reached: Reached, failure: DialError, tries: Tries) -> bool:
        """Note a failed attempt. Returns whether another one may be made."""
        target = reached.target
        failure.verdict = verdict = target.judge(failure.verdict)
        now = time.monotonic()
        for event in reached.lease.note(verdict, now, failure.retry_after_s, self._rng):
            self._emit(event)
        self._end(reached, verdict.cause)
        if tries.failed(target, verdict):
            self._failure = failure, reached.wire
        return tries.may_go_on(verdict)

    def _problem(self, wanted: Wanted) -> Problem:
        """Return what the client is told (PROTOCOL 7.2, 7.3)."""
        now = time.monotonic()
        kind, wait_s = wanted.route.pool.why_not(now, 0)
        failure, wire = self._failure or (None, None)
        if wanted.only is not None and (failure is None or failure.verdict.failover):
            return self._says.owner_down(wait_s)
        if failure is None or wire is None:
            return self._says.nobody(kind, wait_s)
        if failure.facts is not None and failure.verdict.passes:
            return Declined(failure.verdict.kind, failure, failure.facts, wire.credentials)
        return self._says.failed(failure.verdict, wait_s)


def _traced(wanted: Wanted, span_id: str) -> Headers:
    """Return the client's lines; if the attempt has a span, with that in place of the client's own."""
    if wanted.span is None:
        return wanted.headers
    lines = trace_context.without(wanted.headers, tracestate=wanted.restarts)
    return [*lines, trace_context.line(wanted.span, span_id)]
