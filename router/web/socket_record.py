"""How a WebSocket ended: what that says of the upstream, and the one record of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.errors import Kind
from router.events import ExchangeEnded, Outcome, Phase, Side
from router.policy.outcomes import VERDICTS, Cause
from router.policy.price import NANO_PER_USD
from router.protocol.trace_context import traced
from router.web.reach import Declined

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.events import Attempt
    from router.policy.outcomes import Verdict
    from router.web.realtime import Socket
    from router.web.sockets import End

REQUESTED_MAX = 128
"""Characters of the model name, as the client wrote it, that the log keeps."""

SWITCHED = 101
"""The status of a socket that was let in, however it ended (RFC 9110 section 15.2.2)."""

CLIENT_CLOSED = 499
"""The status that is logged when the client left before it got one."""

_FAULTS = {1011: Cause.HTTP_5XX, 1012: Cause.OVERLOADED, 1013: Cause.OVERLOADED, 1014: Cause.HTTP_5XX}
"""Codes with which a server says that it failed, restarts, or is overloaded (RFC 6455 section 7.4, and IANA's list)."""

_LOST = {
    Kind.UPSTREAM_CONNECTION: Cause.TRUNCATED,
    Kind.UPSTREAM_PROTOCOL: Cause.PROTOCOL,
    Kind.UPSTREAM_TIMEOUT: Cause.IDLE,
}


def verdict(end: End | None, *, proven: bool) -> Verdict | None:
    """Judge the upstream by the end of a socket; None if that tells nothing of it.

    Args:
        end: How it ended; None if the client was gone before anything passed.
        proven: The upstream had said something sound before.
    """
    if end is not None and end.side is Side.UPSTREAM:
        if end.problem is not None:
            return VERDICTS[_LOST.get(end.problem.kind, Cause.TRUNCATED)]
        if (cause := _FAULTS.get(end.code)) is not None:
            return VERDICTS[cause]
    return VERDICTS[Cause.OK] if proven or (end is not None and end.code) else None


def exchange_ended(
    socket: Socket, now: float, attempts: tuple[Attempt, ...], outcome_of: Callable[[Kind], tuple[Outcome, Side]]
) -> ExchangeEnded:
    """Return what a socket came to."""
    traffic, join = socket.traffic, socket.join
    facts = socket.handshake.facts if socket.handshake is not None else None
    outcome, side, reason = _outcome(socket, outcome_of)
    usage, reached = traffic.usage, socket.reached
    complete = outcome is Outcome.OK
    cost = None
    if usage is not None and reached is not None and reached.route.prices is not None:
        cost = reached.route.prices.cost(usage) / NANO_PER_USD
    model = socket.route.name if socket.route is not None else "_unknown"
    ended = ExchangeEnded(
        request_id=socket.request_id,
        endpoint=socket.speech.endpoint,
        model=model,
        stream=True,
        status=_status(socket),
        outcome=outcome,
        ended_by=side,
        phase=_phase(socket),
        complete=complete,
        duration_s=now - socket.began,
        overhead_s=max(0.0, socket.reached_at - socket.began),
        key=socket.key.name if socket.key is not None else "",
        upstream=reached.target.upstream.name if reached is not None else "",
        reason=reason,
        attempts=attempts,
        usage=usage,
        exact=complete and usage is not None and not usage.clamped,
        charged_tokens=traffic.charged,
        request_bytes=join.received_bytes if join is not None else 0,
        response_bytes=join.sent_bytes if join is not None else 0,
        requested_model=socket.model[:REQUESTED_MAX] if socket.model != model else "",
        client_request_id=facts.client_request_id if facts is not None else "",
        client_retry=facts.client_retry if facts is not None else False,
        cost_usd=cost,
        metered=traffic.answers > 0,
    )
    return ended if facts is None else traced(ended, facts.trace, socket.span)


def _outcome(socket: Socket, outcome_of: Callable[[Kind], tuple[Outcome, Side]]) -> tuple[Outcome, Side, str]:
    """Return how it is counted, who ended it, and the reason of our own error if there was one."""
    end = socket.join.end if socket.join is not None else None
    problem = socket.problem or (end.problem if end is not None else None)
    if isinstance(problem, Declined):
        counted = Outcome.CLIENT_ERROR if problem.upstream_status < 500 else Outcome.UPSTREAM_ERROR
        return counted, Side.UPSTREAM, problem.facts.code
    if problem is not None:
        outcome, side = outcome_of(problem.kind)
        return outcome, end.side if end is not None and socket.problem is None else side, problem.kind
    if end is None or not end.code:
        return Outcome.CLIENT_GONE, Side.CLIENT, ""
    if end.side is Side.CLIENT:
        return (Outcome.CLIENT_GONE if socket.traffic.unfinished else Outcome.OK), Side.CLIENT, ""
    if end.code in _FAULTS:
        return Outcome.UPSTREAM_ERROR, Side.UPSTREAM, Kind.UPSTREAM_ERROR
    if socket.traffic.unfinished:
        return Outcome.UPSTREAM_ERROR, Side.UPSTREAM, Kind.UPSTREAM_TRUNCATED
    return Outcome.OK, Side.UPSTREAM, ""


def _status(socket: Socket) -> int:
    if socket.accepted:
        return SWITCHED
    if isinstance(socket.problem, Declined):
        return socket.problem.upstream_status
    return socket.problem.status if socket.problem is not None else CLIENT_CLOSED


def _phase(socket: Socket) -> Phase:
    if socket.joined:
        return Phase.RELAYING
    if socket.reached_at:
        return Phase.CONNECTING
    return Phase.PICKING if socket.key is not None or socket.accepted else Phase.RECEIVING
