"""What is charged for an answer, and that none is charged twice (PROTOCOL 2.2, 9).

Most answers are paid for when they end. One that is stored upstream is remembered by its id; what runs in the
background is paid for when a later look shows its end, and looking again is free.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from router.events import Usage
from router.policy.owners import Owner

if TYPE_CHECKING:
    from router.relay.attempt import Attempt
    from router.relay.exchange import Exchange


def charge(exchange: Exchange, attempt: Attempt, usage: Usage | None, output_estimate: int) -> int:
    """Return the tokens that the attempt is charged with: what the upstream reported, else what we think it was."""
    if usage is not None:
        assert exchange.route is not None
        assert exchange.ask is not None
        if attempt.endpoint.generates:
            exchange.route.correction.observe(exchange.ask.text_bytes, usage.prompt)
        return usage.total
    if attempt.endpoint.free or exchange.pending:
        return 0
    return exchange.input_estimate + output_estimate


def by_piece(exchange: Exchange, images: int) -> Usage | None:
    """Return what can be counted where the upstream reports nothing: pictures it made, characters it spoke."""
    ask = exchange.ask
    assert ask is not None
    if images:
        return Usage(images=images)
    return Usage(characters=ask.characters) if ask.characters else None


def remember(exchange: Exchange, identity: str, *, pending: bool) -> None:
    """The answer has an id that the client may ask for later: remember where it is.

    One that is `pending` runs in the background.
    """
    exchange.pending = pending
    attempt, key = exchange.attempt, exchange.request.head.key
    if not identity or attempt is None:
        return
    target = attempt.target
    owner = Owner(
        attempt.route.name,
        target.upstream.name,
        target.credential,
        attempt.model,
        key.name if key is not None else "",
        billed=not pending,
    )
    exchange.relay.owners.keep(identity, owner, time.monotonic())


def once(exchange: Exchange, usage: Usage | None, now: float) -> Usage | None:
    """Return the usage to count of an answer that was looked at by its id: None, unless it tells something new."""
    owners, key = exchange.relay.owners, exchange.request.head.key
    identity = exchange.endpoint.named_id
    if exchange.request.head.method == b"DELETE":
        owners.forget(identity)
        return None
    owner = owners.find(identity, key.name if key is not None else "", now)
    if owner is None or owner.billed or usage is None:
        return None
    owners.keep(identity, owner._replace(billed=True), now)
    return usage
