"""What the running daemon shows of itself: the gauges of a scrape, and the rows of the status page."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from router.telemetry.metrics import LiveState, ModelLive, UpstreamLive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.relay.service import Relay


def live(relay: Relay, log_dropped: int, sockets: Mapping[str, int] = {}) -> LiveState:
    """The gauges, read at this moment; `sockets` are those that are open, by model."""
    snapshot = relay.snapshot
    now = time.monotonic()
    weights: Counter[str] = Counter()
    for model in snapshot.config.models.values():
        for member in model.pool:
            weights[member.upstream] += member.weight  # type: ignore[assignment] # a Counter adds floats as well
    in_flight: Counter[str] = Counter(sockets)
    streams: Counter[str] = Counter(sockets)
    for exchange in relay.exchanges:
        if exchange.route is not None and exchange.ask is not None:
            in_flight[exchange.route.name] += 1
            streams[exchange.route.name] += exchange.ask.stream and exchange.reply.committed
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
            ModelLive(name=name, in_flight=in_flight[name], open_streams=streams[name])
            for name in snapshot.catalogue.routes
        ),
        client_connections=len(relay.crowd),
        access_log_dropped=log_dropped,
    )


def page(relay: Relay, started: float, log_dropped: int, sockets: Mapping[str, int] = {}) -> dict[str, Any]:
    """The status page: single values, then rows."""
    gauges = live(relay, log_dropped, sockets)
    now = time.monotonic()
    pools = [pool for wire in relay.snapshot.wires.values() for pool in wire.pools]
    return {
        "digest": relay.snapshot.digest[:12],
        "uptime_s": round(now - started),
        "draining": relay.draining,
        "requests_in_flight": len(relay.exchanges) + sum(sockets.values()),
        "client_connections": gauges.client_connections,
        "request_body_bytes": relay.body_bytes,
        "spooled_body_bytes": relay.spooled_bytes,
        "upstream_connections": sum(len(pool.open) for pool in pools),
        "idle_upstream_connections": sum(pool.idle for pool in pools),
        "tasks": len(asyncio.all_tasks()),
        "timers": timers(relay),
        "upstreams": [
            {"name": each.name, "state": each.state, "in_flight": each.in_flight, "limit": each.limit}
            for each in gauges.upstreams
        ],
        "models": [
            {
                "name": each.name,
                "in_flight": each.in_flight,
                "open_streams": each.open_streams,
                "eligible": relay.snapshot.catalogue.routes[each.name].pool.eligible(now),
                "targets": len(relay.snapshot.catalogue.routes[each.name].pool.targets),
            }
            for each in gauges.models
        ],
        "keys": [
            {"name": key.name, "disabled": key.disabled, "in_flight": key.limiter.in_flight if key.limiter else None}
            for key in relay.snapshot.keyring.keys.values()
        ],
        "held": [{"what": name, "count": count} for name, count in held(relay).items()],
    }


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
