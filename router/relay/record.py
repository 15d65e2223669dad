"""The one record of an exchange, made when it is settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.events import NEVER, ExchangeEnded
from router.policy.price import in_usd
from router.protocol.trace_context import traced

if TYPE_CHECKING:
    from router.events import Outcome, Phase, Side, Usage
    from router.relay.answer import Answer
    from router.relay.exchange import Exchange

REQUESTED_MAX = 128
"""Characters of the model name, as the client wrote it, that the log keeps."""

CLIENT_CLOSED = 499
"""The status that is logged when the client left before it got one."""


def exchange_ended(  # noqa: PLR0917 (once per request; keywords cost)
    exchange: Exchange,
    now: float,
    phase: Phase,
    outcome: Outcome,
    side: Side,
    answer: Answer | None,
    usage: Usage | None,
    reason: str,
    *,
    complete: bool,
) -> ExchangeEnded:
    """What the exchange came to; `phase` is the one its end was decided in."""
    request, reply, route, ask = exchange.request, exchange.reply, exchange.route, exchange.ask
    head = request.head
    model = route.name if route is not None else "_unknown"
    requested = ask.model[:REQUESTED_MAX] if ask is not None and ask.model != model else ""
    endpoint = exchange.endpoint
    attempts = exchange.attempts
    told = complete or reply.content_at or usage is not None  # what used tokens is named, also if its client had left
    upstream = attempts[-1].upstream if attempts and told else ""
    content_at = reply.content_at if upstream else 0.0
    streamed = ask is not None and ask.stream
    overhead = exchange.overhead_s
    if complete and answer is not None:
        overhead += now - answer.read_at
    ended = ExchangeEnded(  # by position: msgspec matches keywords in quadratic time, 1.2 us against 0.15
        reply.request_id,
        endpoint.name,
        model,
        streamed,
        reply.status or CLIENT_CLOSED,
        outcome,
        side,
        phase,
        complete,
        now - request.began,
        overhead,
        head.key.name if head.key is not None else "",
        upstream,
        reason,
        attempts,
        usage,
        complete and usage is not None and not usage.clamped,
        exchange.reserved if reply.limiter is not None else 0,
        exchange.charged,
        content_at - exchange.started if content_at else NEVER,
        _time_per_token(answer, usage, content_at) if complete and streamed else NEVER,
        answer.max_gap_s if content_at and answer is not None and answer.streams else NEVER,
        request.size,
        reply.bytes_out + (answer.framed_bytes if answer is not None else 0),
        requested,
        head.client_request_id,
        head.client_retry,
        _cost_usd(exchange, usage) if usage is not None else None,
        exchange.translated,
        endpoint.metered and not exchange.pending,
    )
    return ended if head.trace is None and exchange.span is None else traced(ended, head.trace, exchange.span)


def _cost_usd(exchange: Exchange, usage: Usage) -> float | None:
    """Of what was answered, by the prices of the route that answered (PROTOCOL 9.2)."""
    route = exchange.answered_by or exchange.route
    if route is None or route.prices is None:
        return None
    return in_usd(route.prices.cost(usage, images_asked=exchange.pictures))


def _time_per_token(answer: Answer | None, usage: Usage | None, content_at: float) -> float:
    """Seconds between output tokens (STYLE 4), `NEVER` without at least two of them."""
    tokens = usage.completion if usage is not None else 0
    if answer is None or tokens < 2 or not content_at:
        return NEVER
    return (answer.read_at - content_at) / (tokens - 1)
