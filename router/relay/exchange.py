"""One client request, from whole to settled (DESIGN 5): admit, pick, attempt, hold, commit, relay, end, settle.

An explicit state machine without `await`: every event (answer bytes, connection lost, client gone, deadline, drain) is
a plain method, so nothing interleaves. `phase` says what is being waited for, `patience` until when, and `states` what
each phase does with each event.
"""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING

from router.errors import Kind, Problem, RequestError
from router.events import Notice, Outcome, Phase, Side, Usage
from router.policy.outcomes import VERDICTS, Cause, Verdict
from router.policy.retry import backoff
from router.policy.tries import Tries
from router.protocol.endpoints import NOWHERE, Body
from router.protocol.http import response_headers
from router.protocol.trace_context import begin
from router.relay import admission, billing, ending, patience, record
from router.relay import answer as answers
from router.relay.attempt import Attempt, Failure
from router.relay.lookout import Sleeper
from router.relay.pool import ConnectError
from router.relay.reply import Reply
from router.relay.translation import translate

if TYPE_CHECKING:
    import asyncio

    from router.events import Attempt as AttemptRecord
    from router.policy.catalogue import Route
    from router.policy.limits import Limiter
    from router.policy.target import Target
    from router.protocol.asks import Ask
    from router.protocol.http import Answered, Headers
    from router.protocol.trace_context import Span
    from router.relay.downstream import Downstream
    from router.relay.request import Received
    from router.relay.service import Relay
    from router.relay.upstream import UpstreamConnection

STALE_S = 1.0
"""An idle connection that its peer had closed says so at once; one that dies later died of something else."""

# Members by names of their own: looking one up on its class costs 0.1 us (Python 3.11), and a request asks for twelve.
_PICKING, _WAITING, _HOLDING, _SETTLED = Phase.PICKING, Phase.WAITING, Phase.HOLDING, Phase.SETTLED
_OK, _ANSWERED, _UPSTREAM, _OPAQUE = Cause.OK, Outcome.OK, Side.UPSTREAM, Body.ANY

OK = VERDICTS[Cause.OK]


class Exchange(Sleeper):
    """The state of one request. `Downstream` starts it; it settles exactly once."""

    # Class attributes are what an exchange begins with, as in `Sleeper`.

    phase: Phase = Phase.RECEIVING
    ask: Ask | None = None
    model: str = ""
    """The model that was asked for, by name or by default."""
    route: Route | None = None
    attempt: Attempt | None = None
    """The one under way."""
    attempts: tuple[AttemptRecord, ...] = ()
    """Those that are over."""
    translated: tuple[str, ...] = ()
    """Parameters that were left out for the member that answered."""
    answered_by: Route | None = None
    """The fallback that answered: what that costs is priced by it. None: it was the model itself, or nobody."""
    pictures: int = 0
    """In the prompt, where they are paid for one by one."""
    input_estimate: int = 0
    reserved: int = 0
    charged: int = 0
    """Tokens: estimated for the prompt, reserved with the limits, and in the end charged."""
    overhead_s: float = 0.0
    """Our own time until the first attempt was sent, without waiting for a connection."""
    _gone: bool = False
    """The client has left."""
    _once: bool = False
    """It may have been done though nobody said so, and to do it twice would do harm (RFC 9110 section 9.2.2)."""
    wanders: bool = False
    """It names what is stored at a member that we do not know: one that does not have it costs nothing."""
    pending: bool = False
    """The answer is only a promise of one."""
    span: Span | None = None
    """Ours in the client's trace, or in one that begins here; None: it is not kept."""
    last: Target | None = None
    """Where the last attempt went."""
    _tries: Tries | None = None
    """Where it has been tried, and where it may be."""
    _limiter: Limiter | None = None
    """The key's, once it has admitted the request."""
    slow: bool = False
    """The client does not read at the moment."""
    _failure: Failure | None = None
    """What the client is told if nothing better comes."""
    answer: answers.Answer | None = None
    _connecting: asyncio.Task[None] | None = None
    _pause: asyncio.TimerHandle | None = None

    def __init__(self, relay: Relay, downstream: Downstream, request: Received) -> None:
        self.relay = relay
        self.loop = relay.loop
        self.request = request
        self.reply = Reply(relay, downstream, request)
        self.started = time.monotonic()
        """When the request was whole, or was found to need no more."""
        self._downstream = downstream
        self.endpoint = request.head.endpoint or NOWHERE
        if self.endpoint.stored and request.head.method != b"GET":
            self._once = True
        sample = request.snapshot.sample
        if sample is not None:
            self.span = begin(request.head.trace, sample, relay.rng)

    def __repr__(self) -> str:
        return f"<Exchange {self.reply.request_id}: {self.phase}, {len(self.attempts)} attempts over>"

    @property
    def timers(self) -> int:
        """How many are set. An exchange may be without: then the lookout sees to it."""
        return (self.timer is not None) + (self._pause is not None)

    # admit

    def start(self) -> None:
        """The request is whole: answer it."""
        try:
            self._admit(self.started)
            self._try(self.started)
        except Problem as problem:
            if self.request.head.permits and problem is self.request.head.problem:
                self._permit()
                return
            self._refuse(problem.with_traceback(None))  # that refers to us, and the request may keep the problem
        except Exception as error:  # noqa: BLE001 (a bug of ours must cost one request, not the connection's state)
            self._bug(error)

    def _admit(self, now: float) -> None:
        """Read what the router needs of the request, and ask the key's limits.

        Raises:
            Problem: the request is answered with it.
        """
        request = self.request
        if request.problem is not None:
            raise request.problem
        if self.relay.closed:
            raise admission.draining()
        ask = self.ask = request.ask()
        admitted = admission.admit(self.relay, request, ask, now)
        self.phase = _PICKING
        self.model, self.route, only, wanders, self.input_estimate, self.reserved, pictures = admitted
        if wanders or pictures:
            self.wanders, self.pictures = wanders, pictures
        self._tries = Tries(self.route, request.snapshot.config.defaults.retry, self.reserved, only)
        key = request.head.key
        if key is not None and key.limiter is not None:
            self.reply.limiter = key.limiter
            admission.take(self.relay, key.name, key.limiter, self.reserved, now)
            self._limiter = key.limiter
        self.relay.exchanges.add(self)

    # pick

    def _try(self, now: float) -> None:
        """Begin the next attempt, or end with what the failed ones came to."""
        self.phase = _PICKING
        tries = self._tries
        assert tries is not None
        choice = tries.pick(now, len(self.attempts), self.relay.rng)
        if choice is None:
            self._give_up(now)
            return
        route, target = choice
        if target in tries.tried and self._pause is None:  # nobody else is left: give it a moment
            self._pause = self.loop.call_later(backoff(len(self.attempts), self.relay.rng), self._resume)
        else:
            self._begin(route, target, now)

    def _resume(self) -> None:
        try:
            self._try(time.monotonic())
        except Exception as error:  # noqa: BLE001 (as above)
            self._bug(error)
        self._pause = None

    # attempt

    def _begin(self, route: Route, target: Target, now: float, *, fresh: bool = False) -> None:
        """Take a lease at a member and reach it, on an idle connection if there is one and none is forbidden."""
        wire = self.request.snapshot.wires[target.upstream.name]
        model = (target.model or self.model) if self.model else ""
        endpoint = self.endpoint
        attempt = self.attempt = Attempt(endpoint, route, target, target.begin(now, self.reserved), wire, model, now)
        self.answer = None
        if self.span is not None:
            attempt.trace(self.span, now - self.request.began, self.relay.rng)
        if wire.protocol is not endpoint.protocol and endpoint.body is not _OPAQUE and not self._translate(attempt):
            return
        self.last = target
        if not self.attempts:
            self.overhead_s = now - self.started
        fresh = fresh or self._once  # an idle connection may just be closing, and then nobody knows what was done
        connection = None if fresh or wire.pacer is not None else attempt.pool.take()
        if connection is not None:
            self._send(attempt, connection, now)
        else:
            self.phase = Phase.CONNECTING
            self._connecting = self.relay.tasks.spawn(self._reach(attempt, fresh=fresh), f"connect {wire.name}")
            self.watch(now)

    def _translate(self, attempt: Attempt) -> bool:
        """Rebuild the request for a member that does not speak the client's protocol. Returns whether that can be."""
        try:
            attempt.translation = translate(
                self.request.body(), attempt.model, attempt.route.translation, attempt.wire, attempt.endpoint.protocol
            )
        except RequestError as problem:  # a member that speaks it may still take the request
            self.failed(Failure(verdict=VERDICTS[Cause.UNTRANSLATABLE], problem=problem))
            return False
        return True

    async def _reach(self, attempt: Attempt, *, fresh: bool) -> None:
        """Wait for the upstream's pace, then for a connection."""
        reached: UpstreamConnection | Cause
        try:
            await attempt.keep_pace()
            self.watch(time.monotonic())
            reached = await attempt.reach(fresh=fresh)
        except ConnectError as error:
            reached = error.cause
        if self.attempt is attempt and self.phase is Phase.CONNECTING:
            self._reached(attempt, reached)
        elif not isinstance(reached, Cause):
            attempt.pool.put(reached)

    def _reached(self, attempt: Attempt, reached: UpstreamConnection | Cause) -> None:
        """There is a connection to send the request on, or there will be none."""
        self._connecting = None
        try:
            if isinstance(reached, Cause):
                self.failed(Failure(verdict=VERDICTS[reached]))
            else:
                self._send(attempt, reached, time.monotonic())
        except Exception as error:  # noqa: BLE001 (as above)
            self._bug(error)

    def _send(self, attempt: Attempt, connection: UpstreamConnection, now: float) -> None:
        """Write the request: its head made for this upstream, its body spliced, nothing copied."""
        ask = self.ask
        assert ask is not None
        target = attempt.target
        self.phase = _WAITING
        try:
            attempt.send(connection, self.request, ask, self)
        except RequestError as problem:
            self.failed(Failure(verdict=VERDICTS[Cause.UNTRANSLATABLE], problem=problem))
            return
        attempt.sent = time.monotonic()
        if not self.attempts:
            self.overhead_s += attempt.sent - now
        if ask.stream or self.timer is not None:
            self.watch(attempt.sent)
        else:  # most plain answers come soon: the lookout sees to the others
            timeouts = target.timeouts
            first_byte, total = attempt.sent + timeouts.first_byte, self.started + timeouts.total
            self.wakes_at = min(total, first_byte)
            if not self.relay.lookout.awake:
                self.relay.lookout.wake()

    # the upstream's side

    def upstream_answers(self, connection: UpstreamConnection) -> None:
        """The head of an answer has come: decide what reads the rest."""
        attempt = self.attempt
        assert attempt is not None
        attempt.head = time.monotonic()
        attempt.status = connection.status
        begun = answers.begin(self, attempt, connection)
        if isinstance(begun, Failure):
            self.failed(begun)
            return
        self.phase = _HOLDING
        self.answer = begun
        connection.reader = begun.read
        if not connection.complete:
            self.watch(attempt.head)

    def upstream_puzzled(self, error: Exception) -> None:
        """Our own code failed on what the upstream sent."""
        self._bug(error)

    def upstream_lost(self, cause: Cause) -> None:
        """The answer will not become complete."""
        attempt = self.attempt
        assert attempt is not None
        attempt.connection = None
        if cause is Cause.STALE and time.monotonic() - attempt.sent > STALE_S:
            cause = Cause.CLOSED
        if cause is Cause.STALE:
            self._repeat(attempt, cause, fresh=True)
        elif self.answer is None or not self.answer.ended_without_saying():
            self.failed(Failure(verdict=VERDICTS[cause], status=attempt.status))

    def repeat(self) -> None:
        """The upstream refused something we added; the request goes there again without it."""
        assert self.attempt is not None
        self._repeat(self.attempt, Cause.REQUEST, fresh=False)

    def _repeat(self, attempt: Attempt, cause: Cause, *, fresh: bool) -> None:
        now = time.monotonic()
        attempt.lease.withdraw()
        attempt.lease.end(now, 0)
        self._close_attempt(attempt, cause, now)
        self._begin(attempt.route, attempt.target, now, fresh=fresh)

    # failure

    def failed(self, failure: Failure) -> None:
        """The attempt failed: note it, then try elsewhere if nothing was sent and it may help, else end."""
        attempt = self.attempt
        assert attempt is not None
        now = time.monotonic()
        verdict = failure.verdict = attempt.target.judge(failure.verdict)
        self._note(verdict, failure.retry_after_s, now)
        if self.reply.content_at:
            self._break_off(ending.after_failure(failure, ending.WAIT_MIN_S), verdict.cause)
            return
        attempt.lease.end(now, 0)
        self._close_attempt(attempt, verdict.cause, now)
        self.answer = None
        tries = self._tries
        assert tries is not None
        if tries.failed(attempt.target, verdict):
            self._failure = failure
        in_time = now < patience.total_due(self) and self.phase is not Phase.SETTLED
        if in_time and tries.may_go_on(verdict, repeatable=not self._once):
            self._try(now)
        else:
            self._give_up(now)

    def _close_attempt(self, attempt: Attempt, cause: Cause, now: float) -> None:
        """The attempt is over: its record is written, its connection closed or kept, its timers quiet."""
        self.attempt = None
        self.attempts = (*self.attempts, attempt.record(now, cause))
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        connection = attempt.connection
        if connection is None:
            return
        if connection.complete or cause is _OK:
            connection.release()
        else:
            connection.close()

    def _give_up(self, now: float) -> None:
        """Nobody is left to try: tell the client what it came to (PROTOCOL 7.2, 7.3)."""
        failure = self._failure
        assert self.route is not None
        kind, wait_s = self.route.pool.why_not(now, self.reserved)
        if failure is None:
            bound = self._tries is not None and self._tries.only is not None
            self._refuse(ending.nobody(Kind.STICKY_UPSTREAM_DOWN if bound else kind, wait_s))
        elif failure.facts is not None and (failure.verdict.passes or failure.exposed):
            self._pass_on(failure)
        else:
            self._refuse(ending.after_failure(failure, wait_s))

    def _pass_on(self, failure: Failure) -> None:
        """The upstream's own error answer goes to the client: as it is, or in our envelope if an SDK cannot read it."""
        assert failure.facts is not None
        style = self.request.snapshot.config.errors.code_style
        dialect, committed = self.endpoint.dialect, self.reply.committed
        headers, body = ending.passed_on(failure, self.reply.request_id, style, dialect, as_event=committed)
        self._describe_attempts()
        if committed:  # with heartbeats: the status is gone, the words are not (PROTOCOL 7.4)
            self.reply.write(ending.as_event(failure.facts, body, dialect))
            self.reply.cut()
        else:
            self.reply.whole(b"".join(response_headers(headers)), body, status=failure.status)
        self._settle(ending.outcome_of_status(failure), Side.UPSTREAM, time.monotonic(), reason=failure.facts.code)

    def _refuse(self, problem: Problem) -> None:
        """End with an error of our own."""
        outcome, side = ending.outcome(problem.kind)
        self._describe_attempts()
        self.reply.error(problem)
        self._settle(outcome, side, time.monotonic(), reason=problem.kind)

    def _permit(self) -> None:
        """A browser asked leave for its page: that is no request of the page's yet."""
        self.reply.permit(self.request.head.permits)
        self._settle(_ANSWERED, Side.ROUTER, time.monotonic(), complete=True)

    def _bug(self, error: Exception) -> None:
        """Our own code failed: this request ends, the daemon goes on, the operator reads about it."""
        detail = "".join(traceback.format_exception(error))
        self.relay.emit(
            Notice(at=time.time(), level="error", message="a request failed in our own code", detail=detail)
        )
        if self.phase is Phase.SETTLED:
            return
        self._drop_attempt(Cause.CLIENT_GONE)
        if self.reply.content_at:
            self.reply.cut()
            self._settle(Outcome.INTERNAL, Side.ROUTER, time.monotonic(), reason=Kind.INTERNAL)
        else:
            self._refuse(ending.bug())

    # what an answer says of itself (`relay.answer`, `relay.stream`)

    def commit_whole(self, lines: bytes, body: bytes, status: int) -> None:
        """The answer is whole and makes sense: the client gets it."""
        self._describe_attempts()
        self.reply.whole(lines, body, status=status)

    def commit_body(self, said: Answered, status: int) -> None:
        """The answer is not to be held: its bytes flow as they come."""
        self._describe_attempts()
        self.reply.begin_body(said.passing, said.content_length, status=status, until_close=said.until_close)
        self._content_begins()

    def commit_stream(self, headers: Headers, *, until_close: bool) -> None:
        """The stream has content: events flow as they come."""
        self._describe_attempts()
        self.reply.begin_stream(headers, until_close=until_close)
        self._content_begins()

    def _content_begins(self) -> None:
        """From here on no other attempt: the request's body is not needed any more."""
        assert self.attempt is not None
        now = time.monotonic()
        self.phase = Phase.RELAYING
        self.reply.content_at = now
        for event in self.attempt.lease.prove(now):
            self.relay.emit(event)
        connection = self.attempt.connection
        if connection is None or not connection.sends:
            self.request.let_go()
        if self.slow and connection is not None:
            connection.pause()
        self.watch(now)

    def _describe_attempts(self) -> None:
        attempt = self.attempt
        if attempt is not None and attempt.dropped:
            self.translated = attempt.dropped
            self.reply.debug_lines = b"x-router-dropped-params: %b\r\n" % ", ".join(attempt.dropped).encode()
        if self.request.snapshot.config.debug.headers:
            name = attempt.target.upstream.name if attempt is not None else ""
            count = len(self.attempts) + (attempt is not None)
            self.reply.debug_lines += b"x-router-upstream: %b\r\nx-router-attempts: %d\r\n" % (name.encode(), count)

    def succeeded(self, usage: Usage | None, output_estimate: int) -> None:
        """The client has the whole answer."""
        self.reply.end()
        now = time.monotonic()
        if self.endpoint.named_id:
            usage = billing.once(self, usage, now)
        self._note(OK, None, now)
        self._finish(_OK, usage, output_estimate, now)
        self._settle(_ANSWERED, _UPSTREAM, now, usage=usage, complete=True)

    def ended_in_error(self, verdict: Verdict, usage: Usage | None, output_estimate: int) -> None:
        """The upstream said in its stream that it failed; the client has read that."""
        self.reply.end()
        now = time.monotonic()
        self._note(verdict, None, now)
        self._finish(verdict.cause, usage, output_estimate, now)
        self._settle(Outcome.UPSTREAM_ERROR, Side.UPSTREAM, now, usage=usage, reason=verdict.cause)

    def _break_off(self, problem: Problem, cause: Cause) -> None:
        """Content has gone out and no more will come: end so that the client cannot take it for complete."""
        broken = self.answer
        assert broken is not None
        usage = broken.usage()
        if broken.takes_events():
            self.reply.error(problem)
        else:
            self.reply.cut()
        now = time.monotonic()
        self._finish(cause, usage, broken.output_estimate(), now)
        outcome, side = ending.outcome(problem.kind)
        self._settle(outcome, side, now, usage=usage, reason=problem.kind)

    def _note(self, verdict: Verdict, retry_after_s: float | None, now: float) -> None:
        assert self.attempt is not None
        for event in self.attempt.lease.note(verdict, now, retry_after_s, self.relay.rng):
            self.relay.emit(event)

    def _finish(self, cause: Cause, usage: Usage | None, output_estimate: int, now: float) -> None:
        """The attempt that the client heard from is over: charge what it used, give its lease back."""
        attempt = self.attempt
        assert attempt is not None
        self.charged = billing.charge(self, attempt, usage, output_estimate)
        if attempt.route is not self.route:
            self.answered_by = attempt.route
        attempt.lease.end(now, self.charged)
        self._close_attempt(attempt, cause, now)

    # the client's side

    def client_slow(self) -> None:
        """The client does not read: neither do we, and that is no silence of the upstream's."""
        self.slow = True
        if self.attempt is not None and self.attempt.connection is not None:
            self.attempt.connection.pause()

    def client_caught_up(self) -> None:
        """The client reads again."""
        self.slow = False
        if self.answer is not None:
            self.answer.read_at = time.monotonic()
        if self.attempt is not None and self.attempt.connection is not None:
            self.attempt.connection.resume()

    def client_gone(self) -> None:
        """The client left: so does the attempt, at once, in every phase."""
        self._gone = True
        if self.phase is Phase.SETTLED:
            return
        usage = self.answer.usage() if self.answer is not None else None
        self._drop_attempt(Cause.CLIENT_GONE)
        self._settle(Outcome.CLIENT_GONE, Side.CLIENT, time.monotonic(), usage=usage)

    def _drop_attempt(self, cause: Cause) -> None:
        """End the attempt without a verdict on its upstream."""
        if self.attempt is None:
            return
        self.attempt.lease.withdraw()
        if not self.attempt.sent:
            now = time.monotonic()
            self.attempt.lease.end(now, 0)
            self._close_attempt(self.attempt, cause, now)
            return
        answered = self.answer
        usage = answered.usage() if answered is not None else None
        output = answered.output_estimate() if answered is not None else 0
        self._finish(cause, usage, output, time.monotonic())

    def stop(self) -> None:
        """The time to drain is over."""
        if self.phase is Phase.SETTLED:
            return
        if self.reply.content_at:
            if self.answer is not None and self.answer.ended_without_saying():
                return
            self._note(VERDICTS[Cause.CLIENT_GONE], None, time.monotonic())
            self._break_off(ending.draining(), Cause.CLIENT_GONE)
        else:
            self._drop_attempt(Cause.CLIENT_GONE)
            self._refuse(ending.draining())

    # deadlines

    def watch(self, now: float) -> None:
        """Make sure that we wake in time for whatever comes next, also when an answer has brought it nearer."""
        self.wake_by(min(patience.due(self)[0], patience.beat_due(self)), now)

    def wake_up(self, now: float) -> None:
        """See what is due."""
        try:
            self._look_at_the_clock(now)
        except Exception as error:  # noqa: BLE001 (as above)
            self._bug(error)

    def _look_at_the_clock(self, now: float) -> None:
        due, cause = patience.due(self)
        if now >= due:
            self._timed_out(cause)
            return
        if now >= patience.beat_due(self):
            self._beat()
        self.watch(now)

    def _beat(self) -> None:
        """Let the client hear from us."""
        if not self.reply.committed:
            self.reply.begin_stream([b"content-type: text/event-stream"])
        self.reply.write(self.endpoint.reading.heartbeat)

    def _timed_out(self, cause: Cause) -> None:
        if self.attempt is None:
            self._give_up(time.monotonic())
        elif (
            self.answer is None or not self.answer.ended_without_saying()
        ):  # else it is whole: only its end was missing
            self.failed(Failure(verdict=VERDICTS[cause], status=self.attempt.status))

    # settle

    def _settle(
        self,
        outcome: Outcome,
        side: Side,
        now: float,
        *,
        usage: Usage | None = None,
        reason: str = "",
        complete: bool = False,
    ) -> None:
        """The final bookkeeping, exactly once, whatever happened."""
        assert self.phase is not _SETTLED
        assert self.attempt is None
        phase, self.phase = self.phase, _SETTLED
        self.sleep_no_more()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._tries is not None:
            self._tries.end()
        limiter = self._limiter
        if limiter is not None:
            limiter.settle(now, self.reserved, self.charged)
        self.request.let_go()
        self.relay.exchanges.discard(self)
        self.relay.emit(
            record.exchange_ended(self, now, phase, outcome, side, self.answer, usage, reason, complete=complete)
        )
        self.answer = None  # it refers to us: without the cycle, all this is freed at once and not by the collector
        if not self._gone:
            self._downstream.answered(keep=self.reply.keep)
