"""One simulated request: the decisions of `relay.exchange`, in their order, on the real policy.

What the relay does with bytes is left out: heads and bodies, holding and heartbeats, translation, ids and pins, the
connection pool (a connection that went stale is nobody's failure). What remains is admit, pick, begin a lease, note the
verdict, avoid what failed, try again within attempts and budget, give up, settle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from router.errors import TABLE, Kind
from router.policy.limits import estimate_tokens
from router.policy.outcomes import VERDICTS, Blame, Cause
from router.policy.retry import backoff
from router.policy.tries import Tries
from router.simulation.clients import BYTES_PER_TOKEN, LEFT
from router.simulation.upstreams import NEVER, TRUNCATED, Failure, failure_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.config.schema import Defaults
    from router.policy.catalogue import Route
    from router.policy.limits import Limiter, Refusal
    from router.policy.outcomes import Verdict
    from router.policy.target import Lease, Target
    from router.simulation.clients import Call
    from router.simulation.gateway import Gateway
    from router.simulation.upstreams import SimulatedUpstream

# These say the same as their namesakes in `relay.ending`; a test compares them.
WAITS: Final = frozenset((Kind.UPSTREAM_RATE_LIMITED, Kind.NO_HEALTHY_UPSTREAM, Kind.OVERLOADED))
FINAL: Final = frozenset((Kind.UPSTREAM_QUOTA, Kind.UPSTREAM_AUTH, Kind.UPSTREAM_MODEL_MISSING))
WAIT_S_MIN: Final = 1.0
WAIT_S_MAX: Final = 60.0

_LIMITED: Final = {
    "requests": Kind.REQUESTS_PER_MINUTE,
    "tokens": Kind.TOKENS_PER_MINUTE,
    "concurrency": Kind.CONCURRENT_REQUESTS,
}
_OK: Final = VERDICTS[Cause.OK]
_CONNECT_TIMEOUT: Final = failure_of(Cause.CONNECT_TIMEOUT)
_FIRST_BYTE: Final = failure_of(Cause.FIRST_BYTE)
_FIRST_TOKEN: Final = failure_of(Cause.FIRST_TOKEN)
_IDLE: Final = failure_of(Cause.IDLE)
_TOTAL: Final = failure_of(Cause.TOTAL)
_PACED_OUT: Final = failure_of(Cause.PACE)


class Exchange:
    """The state of one request. It always waits for one thing, and settles exactly once."""

    __slots__ = (
        "_act", "_attempts", "_began", "_call", "_charged", "_defaults", "_expected",
        "_failure", "_gateway", "_last", "_late", "_lease", "_limiter", "_prompt", "_rested", "_sent", "_started",
        "answer_s", "content_at", "credential", "reserved", "route", "settled", "streams", "target",
        "tokens", "tries", "upstream",
    )  # fmt: skip

    def __init__(self, gateway: Gateway, call: Call) -> None:
        self._gateway = gateway
        self._call = call
        self._defaults: Defaults = gateway.config.defaults
        self._started = gateway.engine.now
        traffic = call.traffic
        self.streams = traffic.stream
        self.tokens = traffic.prompt_tokens + traffic.output_tokens
        self.route: Route | None = None
        self.target: Target | None = None
        """Of the attempt under way."""
        self.upstream: SimulatedUpstream | None = None
        self.credential = 0
        self.reserved = 0
        self.answer_s = 0.0
        self.content_at = 0.0
        self.settled = False
        self._lease: Lease | None = None
        self._last: Target | None = None
        self._began = 0.0
        self._attempts = 0
        self.tries: Tries | None = None
        self._limiter: Limiter | None = None
        self._failure: Failure | None = None
        self._rested = False
        self._prompt = 0
        self._charged = 0
        self._sent = False
        self._late = _TOTAL
        self._expected = 0
        self._act: Callable[[float], None] = self._time_is_up

    def __repr__(self) -> str:
        return f"<Exchange of {self._started:.3f}: {self._attempts} attempts over>"

    # admit

    def start(self) -> None:
        """The request is there: answer it."""
        gateway, call = self._gateway, self._call
        traffic, now = call.traffic, self._started
        self.route = route = gateway.find(traffic.model, traffic.protocol)
        if route is None:
            self._refuse(Kind.UNSUPPORTED_ENDPOINT)
            return
        self._prompt, self.reserved = estimate_tokens(
            traffic.prompt_tokens * BYTES_PER_TOKEN,
            traffic.max_tokens,
            1,
            route.default_output_tokens,
            route.correction.value,
        )
        self.tries = Tries(route, self._defaults.retry, self.reserved)
        limiter = gateway.limiter(traffic.key)
        if limiter is not None:
            refusal = limiter.refusal(now, self.reserved)
            if refusal is not None:
                self._refuse_by(refusal)
                return
            limiter.take(now, self.reserved)
            self._limiter = limiter
        self._try(now)

    def _refuse_by(self, refusal: Refusal) -> None:
        kind = _LIMITED[refusal.limit]
        if refusal.never:
            self._refuse(kind, should_retry=False)
        else:
            self._refuse(kind, retry_after_s=_clamped(refusal.retry_after_s))

    # pick

    def _try(self, now: float) -> None:
        """Begin the next attempt, or end with what the failed ones came to."""
        tries = self.tries
        assert tries is not None
        choice = tries.pick(now, self._attempts, self._gateway.rng)
        if choice is None:
            self._give_up(now)
        elif choice[1] in tries.tried and not self._rested:  # nobody else is left: give it a moment
            self._rested = True
            self._wait(now + backoff(self._attempts, self._gateway.rng), self._resume, NEVER, _TOTAL)
        else:
            self._begin(choice[1], now)

    def _resume(self, now: float) -> None:
        self._try(now)
        self._rested = False

    # attempt

    def _begin(self, target: Target, now: float) -> None:
        """Take a lease at a member, and send it the request in its turn."""
        gateway = self._gateway
        self._lease = target.begin(now, self.reserved)
        self.target = self._last = target
        self.credential = target.credential
        self._began = now
        self._sent = False
        self.upstream = gateway.upstreams[target.upstream.name]
        gateway.audit.attempt_begins(self, target, now)
        gateway.tally.attempt_began(target.upstream.name, target.upstream.in_flight)
        pace = gateway.paces.get(target.upstream.name)
        if pace is None:
            self.upstream.connect(self)
            return
        wait_s = pace.take(now)
        if wait_s is None:
            self.expect_failure(now + pace.wait_s, _PACED_OUT)
        elif wait_s:
            self._wait(now + wait_s, self._send, NEVER, _TOTAL)
        else:
            self.upstream.connect(self)

    def _send(self, now: float) -> None:
        """Its turn under the upstream's pace has come."""
        assert self.upstream is not None
        self._began = now
        self.upstream.connect(self)

    # what an upstream does (`upstreams.Caller`)

    def expect(self, at: float, act: Callable[[float], None]) -> None:
        """Wait for the answer's beginning, or for a whole one."""
        assert self._last is not None
        self._sent = True
        timeouts = self._last.timeouts
        due, late = self._began + timeouts.first_byte, _FIRST_BYTE
        if self.streams and timeouts.first_token < timeouts.first_byte:
            due, late = self._began + timeouts.first_token, _FIRST_TOKEN
        self._wait(at, act, due, late)

    def expect_failure(self, at: float, failure: Failure) -> None:
        """Wait for a failure that is on its way."""
        self.expect(at, lambda _: self._failed(failure))

    def await_connection(self) -> None:
        """Nobody answers: wait until the time to connect is over."""
        assert self._last is not None
        self._wait(NEVER, self._time_is_up, self._began + self._last.timeouts.connect, _CONNECT_TIMEOUT)

    def content(self, now: float) -> None:
        """The first content of a stream: commit."""
        gateway = self._gateway
        assert self._lease is not None
        assert self._last is not None
        self.content_at = now
        gateway.tally.content(self._last.upstream.name, now - self._began, self._began)
        gateway.tally.ttft.add(now - self._started)
        changes = self._lease.prove(now)
        if changes:
            gateway.tally.changed(changes)
        if self.answer_s < 0:
            self._wait(now - self.answer_s, self._cut, NEVER, _TOTAL)
        else:
            self._wait(now + self.answer_s, self.whole, NEVER, _TOTAL)

    def whole(self, now: float) -> None:
        """The client has the whole answer."""
        assert self._last is not None
        assert self.route is not None
        traffic, gateway = self._call.traffic, self._gateway
        if not self.content_at:  # it came as a whole
            gateway.tally.content(self._last.upstream.name, now - self._began, self._began)
            gateway.tally.ttft.add(now - self._started)
        self._note(_OK, None, now)
        self._charged = self.tokens
        self.route.correction.observe(traffic.prompt_tokens * BYTES_PER_TOKEN, traffic.prompt_tokens)
        self._end_attempt(now, self._charged)
        self._settle(now, 200, "ok", complete=True)

    def broken(self) -> None:
        """The connection breaks, now."""
        self._failed(TRUNCATED if self.content_at else failure_of(Cause.CLOSED))

    def silenced(self) -> None:
        """Nothing more comes."""
        if self.content_at:
            assert self._last is not None
            now = self._gateway.engine.now
            self._wait(NEVER, self._time_is_up, now + self._last.timeouts.idle, _IDLE)
        else:
            self.expect(NEVER, self._time_is_up)

    def _cut(self, _: float) -> None:
        self._failed(TRUNCATED)

    # failure

    def _failed(self, failure: Failure) -> None:
        """The attempt failed: note it, then try elsewhere if nothing was sent and it may help, else end."""
        target, now = self.target, self._gateway.engine.now
        assert target is not None
        verdict = target.judge(failure.verdict)
        if verdict is not failure.verdict:
            failure = failure._replace(verdict=verdict)
        self._note(verdict, failure.retry_after_s, now)
        if self.content_at:
            self._break_off(verdict.kind, now)
            return
        self._end_attempt(now, 0)
        tries = self.tries
        assert tries is not None
        if tries.failed(target, verdict):
            self._failure = failure
        if now < self._total_due() and tries.may_go_on(verdict):
            self._try(now)
        else:
            self._give_up(now, final=True)

    def _give_up(self, now: float, *, final: bool = False) -> None:
        """Nobody is left to try, or (`final`) nobody may be tried: tell the client what it came to."""
        failure = self._failure
        assert self.route is not None
        if not final:
            self._gateway.audit.nobody_left(self, self.route.chain, self._gateway, now)
        kind, wait_s = self.route.pool.why_not(now, self.reserved)
        if failure is None:
            self._refuse(kind, retry_after_s=_clamped(wait_s))
        elif failure.status and failure.verdict.passes:
            self._settle(now, failure.status, failure.verdict.cause, retry_after_s=failure.retry_after_s)
        elif failure.verdict.kind in WAITS:
            self._refuse(failure.verdict.kind, retry_after_s=_clamped(wait_s))
        else:
            self._refuse(failure.verdict.kind, should_retry=False if failure.verdict.kind in FINAL else None)

    def _refuse(self, kind: Kind, *, retry_after_s: float | None = None, should_retry: bool | None = None) -> None:
        now = self._gateway.engine.now
        self._settle(now, TABLE[kind].status, kind, retry_after_s=retry_after_s, should_retry=should_retry)

    def _break_off(self, kind: Kind, now: float) -> None:
        """Content has gone out and no more will come."""
        self._charged = self._used_so_far(now)
        self._end_attempt(now, self._charged)
        self._settle(now, TABLE[kind].status, kind)

    def _note(self, verdict: Verdict, retry_after_s: float | None, now: float) -> None:
        gateway = self._gateway
        assert self._lease is not None
        assert self.target is not None
        changes = self._lease.note(verdict, now, retry_after_s, gateway.rng)
        if changes:
            gateway.tally.changed(changes)
        gateway.tally.attempt_ended(self.target.upstream.name, verdict, now)
        if verdict.blame is not Blame.SUCCESS and self.upstream is not None:
            self.upstream.blameless = False

    def _end_attempt(self, now: float, used: int) -> None:
        lease, upstream = self._lease, self.upstream
        assert lease is not None
        assert upstream is not None
        assert self.target is not None
        lease.end(now, used)
        self._gateway.audit.attempt_ended(self.target, lease.reserved, used)
        self._lease = self.target = self.upstream = None
        self._attempts += 1
        upstream.release(self)

    # the client's side, and time

    def _client_left(self, now: float) -> None:
        """The client did not wait: so does the attempt, at once."""
        if self._lease is not None:
            self._lease.withdraw()
            self._charged = self._used_so_far(now)
            self._end_attempt(now, self._charged)
        self._settle(now, LEFT, "client_gone")

    def _used_so_far(self, now: float) -> int:
        """Tokens, guessed by the prompt and by how much of the answer has come."""
        if not self.content_at or not self.answer_s:
            return self._prompt if self._sent else 0
        share = min(1.0, (now - self.content_at) / abs(self.answer_s))
        return self._prompt + int(self._call.traffic.output_tokens * share)

    def _total_due(self) -> float:
        timeouts = self._defaults.timeouts if self._last is None else self._last.timeouts
        return self._started + timeouts.total

    def _wait(self, at: float, act: Callable[[float], None], due: float, late: Failure) -> None:
        """Let one thing happen next: what is expected, or the end of somebody's patience."""
        total = self._total_due()
        if total <= due:
            due, late = total, _TOTAL
        if due <= at:
            at, act, self._late = due, self._time_is_up, late
        call = self._call
        leaves_at = call.leaves_at
        if not self.content_at and call.gives_up_at < leaves_at:
            leaves_at = call.gives_up_at
        if leaves_at < at:
            at, act = leaves_at, self._client_left
        self._act = act
        self._expected += 1
        self._gateway.engine.at(at, self._happen, self._expected)

    def _happen(self, expected: int) -> None:
        if expected == self._expected and not self.settled:
            self._act(self._gateway.engine.now)

    def _time_is_up(self, now: float) -> None:
        if self._lease is None:
            self._give_up(now, final=True)
        else:
            self._failed(self._late)

    # settle

    def _settle(
        self,
        now: float,
        status: int,
        reason: str,
        *,
        complete: bool = False,
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        """The final bookkeeping, exactly once, whatever happened."""
        gateway = self._gateway
        admitted_by = self._call.traffic.key if self._limiter is not None else None
        gateway.audit.exchange_ends(self, admitted_by, self._charged, now)
        self.settled = True
        if self.tries is not None:
            self.tries.end()
        if self._limiter is not None:
            self._limiter.settle(now, self.reserved, self._charged)
        gateway.tally.exchange_ended(status, reason, self._attempts, complete=complete, now=now)
        self._call.heard(
            status,
            complete=complete,
            begun=bool(self.content_at),
            retry_after_s=retry_after_s,
            should_retry=should_retry,
        )


def _clamped(wait_s: float) -> float:
    return min(max(wait_s, WAIT_S_MIN), WAIT_S_MAX)
