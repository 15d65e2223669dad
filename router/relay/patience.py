"""Until when an exchange waits: a deadline for each phase, and when the client should hear from us.

Plain functions of the exchange's state; `Exchange` keeps the one timer that asks them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from router.events import Phase
from router.policy.outcomes import Cause

if TYPE_CHECKING:
    from router.config.schema import Timeouts
    from router.relay.exchange import Exchange

END_S = 1.0
"""After an upstream has said in its stream that it failed: how long it may take to end it (PROTOCOL 5.5)."""


def total_due(exchange: Exchange) -> float:
    """The end of the whole exchange, all attempts included."""
    return exchange.started + _timeouts(exchange).total


def due(exchange: Exchange) -> tuple[float, Cause]:
    """Until when we wait, and what it is called when what we wait for does not come (RELIABILITY 1.7)."""
    total = total_due(exchange)
    at, cause = _phase_due(exchange)
    return (at, cause) if at < total else (total, Cause.TOTAL)


def _phase_due(exchange: Exchange) -> tuple[float, Cause]:
    attempt, answer = exchange.attempt, exchange.answer
    if attempt is None:
        return math.inf, Cause.TOTAL
    timeouts = attempt.target.timeouts
    if exchange.phase is Phase.CONNECTING:
        pace = attempt.wire.settings.pace
        wait = attempt.paced if attempt.paced or pace is None else pace.wait
        return attempt.began + wait + timeouts.connect, Cause.CONNECT_TIMEOUT
    if exchange.phase is Phase.WAITING or answer is None:
        return attempt.sent + timeouts.first_byte, Cause.FIRST_BYTE
    if exchange.phase is Phase.HOLDING and answer.streams:
        return attempt.sent + timeouts.first_token, Cause.FIRST_TOKEN
    if answer.has_failed():
        return answer.read_at + END_S, Cause.ERROR_BODY
    if exchange.slow:  # we do not read: that is no silence of the upstream's
        return math.inf, Cause.IDLE
    return answer.read_at + timeouts.idle, Cause.IDLE


def beat_due(exchange: Exchange) -> float:
    """When the client should hear from us though there is nothing to say. Never: infinity."""
    if exchange.ask is None or not exchange.ask.stream:
        return math.inf
    streams, answer = exchange.request.snapshot.config.defaults.streams, exchange.answer
    if exchange.reply.committed:
        if answer is not None and not answer.takes_events():
            return math.inf
        written_at = exchange.reply.last_write_at
        if answer is not None and answer.framed_at > written_at:
            written_at = answer.framed_at
        return written_at + streams.heartbeat
    if (streams.early_keepalive and exchange.endpoint.strict) or (answer is not None and answer.streams):
        return exchange.started + streams.hold
    return math.inf


def _timeouts(exchange: Exchange) -> Timeouts:
    """Of the attempt under way, or of the last one."""
    if exchange.last is not None:
        return exchange.last.timeouts
    return exchange.request.snapshot.config.defaults.timeouts
