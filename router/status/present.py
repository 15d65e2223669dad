"""What the daemon is at this moment: the gauges of a scrape, and what it holds."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from router.telemetry.metrics import LiveState, ModelLive, UpstreamLive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.relay.service import Relay


def live(relay: Relay, log_dropped: int, sockets: Mapping[str, int] = {}) -> LiveState:
    """The gauges, read at this moment; `sockets` are those that are open, by model."""
    snapshot = relay.snapshot
    now = time.monotonic()
    weights = weights_of(relay)
    in_flight, streams = by_model(relay, sockets)
    return LiveState(
        upstreams=tuple(
            UpstreamLive(
                name=name,
                state=state.backend_state(now),
                in_flight=state.in_flight,
                limit=int(limit) if (limit := state.settings.limits.concurrency) is not None else None,
                weight=weights[name],
            )
            for name, state in snapshot.catalogue.upstreams.items()
        ),
        models=tuple(
            ModelLive(
                name=name,
                in_flight=in_flight[name],
                open_streams=streams[name],
                eligible=route.pool.eligible(now),
            )
            for name, route in snapshot.catalogue.routes.items()
        ),
        client_connections=len(relay.crowd),
        draining=relay.draining,
        access_log_dropped=log_dropped,
    )


def timers(relay: Relay) -> int:
    """Deadlines that are set, of clients and of their requests.

    No event loop tells how many timers it has, so those are counted that the data path keeps: one or none for each
    connection, up to two for each exchange, and the one that looks at all exchanges.
    """
    connections = sum(connection.is_timed for connection in relay.connections)
    return connections + sum(exchange.timers for exchange in relay.exchanges) + relay.lookout.awake


def held(relay: Relay) -> dict[str, int]:
    """What must be zero when nothing is in flight (DESIGN 10)."""
    wires = relay.snapshot.wires.values()
    upstreams = relay.snapshot.catalogue.upstreams.values()
    keys = relay.snapshot.keyring.keys.values()
    limiters = [*(each.limiter for each in upstreams), *(each.limiter for each in keys)]
    return {
        "exchanges": len(relay.exchanges),
        "leases": sum(each.in_flight for each in upstreams),
        "limiter_slots": sum(limiter.in_flight for limiter in limiters if limiter is not None),
        "body_bytes": relay.body_bytes,
        "spooled_bytes": relay.spooled_bytes,
        "client_connections": len(relay.connections),
        "busy_upstream_connections": sum(len(pool.open) - pool.idle for wire in wires for pool in wire.pools),
        "retries": sum(route.pool.retry.active for route in relay.snapshot.catalogue.routes.values()),
        "tasks": len(relay.tasks),
    }


def weights_of(relay: Relay) -> Counter[str]:
    """Return the sum of each upstream's weights over all pools."""
    weights: Counter[str] = Counter()
    for model in relay.snapshot.config.models.values():
        for member in model.pool:
            weights[member.upstream] += member.weight  # type: ignore[assignment] # a Counter adds floats as well
    return weights


def by_model(relay: Relay, sockets: Mapping[str, int]) -> tuple[Counter[str], Counter[str]]:
    """Return requests in flight, and streams that have begun to reach their clients, by model."""
    in_flight: Counter[str] = Counter(sockets)
    streams: Counter[str] = Counter(sockets)
    for exchange in relay.exchanges:
        if exchange.route is not None and exchange.ask is not None:
            in_flight[exchange.route.name] += 1
            streams[exchange.route.name] += exchange.ask.stream and exchange.reply.committed
    return in_flight, streams
