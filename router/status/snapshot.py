"""The snapshot: what the status page shows, as plain data, ready for JSON.

It joins what the policy holds at this moment with what the metrics counted in the last five minutes
(`telemetry.history`) and with the last events (`telemetry.recent`). Whoever looks at it pays for it; while nobody does,
the data path pays nothing, and housekeeping a look at the cells every five seconds.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from router import __version__
from router.events import ExchangeEnded, UpstreamCooled, UpstreamEjected, UpstreamRestored
from router.status import present, rows
from router.telemetry import specs
from router.telemetry.history import FAILED, JUDGED, STEP_S, History, by_label, merged, of_streams, summed
from router.telemetry.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from router.events import Event
    from router.policy.target import UpstreamState
    from router.relay.service import Relay
    from router.status.rows import Row
    from router.telemetry.cells import Cell, Spec
    from router.telemetry.metrics import LiveState


class Bounds(NamedTuple):
    """How much of the configuration a snapshot shows; what is left out is counted under `more`."""

    rows: int
    """Upstreams, and models."""
    keys: int
    parts: int
    """Members of a model, and what is out at an upstream."""


PAGE = Bounds(rows=200, keys=50, parts=12)
"""What people can read, and a browser draws every two seconds."""
EVERYTHING = Bounds(rows=sys.maxsize, keys=sys.maxsize, parts=sys.maxsize)

TROUBLE = ("ejected", "half_open", "cooling", "draining", "healthy")
"""The states of an upstream, the worst first."""


class Status:
    """Looks at the daemon now and then, and at events, and tells what it saw."""

    def __init__(
        self,
        relay: Relay,
        cells: Callable[[Spec], Mapping[tuple[str, ...], Cell]],
        sockets: Callable[[], Mapping[str, int]],
        log_dropped: Callable[[], int],
    ) -> None:
        now = time.monotonic()
        self._relay = relay
        self._sockets = sockets
        self._log_dropped = log_dropped
        self._started = now
        self._history = History(cells, self._open_streams, now)
        self._recent = Recent()
        self._states: dict[str, tuple[str, float]] = {}
        """Of each upstream: its state, and since when."""
        self._due = now

    def __repr__(self) -> str:
        return f"<Status: {self._history!r}, {self._recent!r}>"

    def emit(self, event: Event) -> None:
        """Consume an event. HOT: requests are not looked at."""
        kind = type(event)
        if kind is ExchangeEnded:
            return
        self._recent.emit(event)
        if isinstance(event, UpstreamEjected | UpstreamRestored | UpstreamCooled):
            upstream = self._relay.snapshot.catalogue.upstreams.get(event.upstream)
            if upstream is not None:
                self._note_state(upstream, time.monotonic())

    def keep(self, now: float) -> None:
        """Take what has to be taken every few seconds; housekeeping calls this more often."""
        if now >= self._due:
            self._due = now + STEP_S
            self._look(now)

    def live(self) -> LiveState:
        """The gauges, read at this moment."""
        return present.live(self._relay, self._log_dropped(), self._sockets())

    def page(self, bounds: Bounds = EVERYTHING) -> Row:
        """Single values, then rows. Times are in seconds, shares from 0 to 1, and null is what is not known."""
        now = time.monotonic()
        self._look(now)
        relay, snapshot = self._relay, self._relay.snapshot
        sockets = self._sockets()
        pools = [pool for wire in snapshot.wires.values() for pool in wire.pools]
        upstreams, models, keys = self._upstreams(now, bounds), self._models(now, bounds), self._keys(now, bounds)
        return {
            "version": __version__,
            "uptime_s": round(now - self._started),
            "digest": snapshot.digest[:12],
            "config": self._config(),
            "draining": relay.draining,
            "requests_in_flight": len(relay.exchanges) + sum(sockets.values()),
            "open_streams": self._open_streams(),
            "client_connections": len(relay.crowd),
            "request_body_bytes": relay.body_bytes,
            "spooled_body_bytes": relay.spooled_bytes,
            "upstream_connections": sum(len(pool.open) for pool in pools),
            "idle_upstream_connections": sum(pool.idle for pool in pools),
            "access_log_dropped": self._log_dropped(),
            "tasks": len(asyncio.all_tasks()),
            "timers": present.timers(relay),
            "window": self._window(now),
            "curves": self._curves(),
            "upstreams": upstreams,
            "models": models,
            "keys": keys,
            "more": {
                "upstreams": len(snapshot.catalogue.upstreams) - len(upstreams),
                "models": len(snapshot.catalogue.routes) - len(models),
                "keys": len(snapshot.keyring.keys) - len(keys),
            },
            "events": [
                {"at": it.at, "since": it.since, "what": it.what, "who": it.who, "why": it.why, "count": it.count}
                for it in self._recent.entries()
            ],
            "held": [{"what": name, "count": count} for name, count in present.held(relay).items()],
        }

    # what is looked at now and then

    def _look(self, now: float) -> None:
        self._history.look(now)
        upstreams = self._relay.snapshot.catalogue.upstreams
        for upstream in upstreams.values():
            self._note_state(upstream, now)
        if len(self._states) > len(upstreams):
            self._states = {name: self._states[name] for name in upstreams}

    def _note_state(self, upstream: UpstreamState, now: float) -> None:
        state = upstream.backend_state(now)
        before = self._states.get(upstream.name)
        if before is None or before[0] != state:
            self._states[upstream.name] = (state, now)

    def _open_streams(self) -> int:
        return sum(present.by_model(self._relay, self._sockets())[1].values())

    # the parts of the snapshot

    def _config(self) -> Row:
        refused, now = self._recent.refused, time.time()
        return {
            "age_s": max(0.0, now - self._recent.configured_at),
            "refused": None
            if refused is None
            else {"age_s": max(0.0, now - refused.at), "faults": list(refused.faults[: PAGE.parts])},
        }

    def _window(self, now: float) -> Row:
        """The last five minutes of everything together."""
        total = self._history.total
        outcomes = summed(total.counters[specs.REQUESTS], 2)
        judged = sum(outcomes.get(each, 0.0) for each in JUDGED)
        ttft = merged(of_streams(total.ttft).values())
        return {
            "seconds": now - total.since,
            "requests": round(sum(outcomes.values())),
            "requests_per_s": self._history.requests_per_s(now),
            "failed": round(judged - outcomes.get("ok", 0.0)),
            "success": outcomes.get("ok", 0.0) / judged if judged else None,
            "limit_refusals": round(sum(summed(total.counters[specs.LIMIT_DECISIONS], 0).values())),
            **rows.ttft(ttft),
        }

    def _curves(self) -> Row:
        points = self._history.points
        return {
            "step_s": STEP_S,
            "requests_per_s": [point.requests_per_s for point in points],
            "errors_per_s": [point.errors_per_s for point in points],
            "open_streams": [point.open_streams for point in points],
            "ttft_p95_s": [point.ttft_p95_s for point in points],
        }

    def _upstreams(self, now: float, bounds: Bounds) -> list[Row]:
        total, catalogue = self._history.total, self._relay.snapshot.catalogue
        outcomes: dict[str, dict[str, float]] = {}
        for (name, outcome), grown in total.counters[specs.ATTEMPTS].items():
            outcomes.setdefault(name, {})[outcome] = grown
        attempts = {name: sum(counts.values()) for name, counts in outcomes.items()}
        buckets = by_label(of_streams(total.ttft), 1)
        tokens = summed(total.counters[specs.TOKENS], 1)
        errors = rows.latest_errors(self._history.seen)
        weights = present.weights_of(self._relay)
        everybody = list(catalogue.upstreams.values())
        if len(everybody) > bounds.rows:
            everybody.sort(key=lambda it: (TROUBLE.index(self._states[it.name][0]), -attempts.get(it.name, 0.0)))
        seconds, all_attempts = max(now - total.since, 1.0), sum(attempts.values())
        table = []
        for upstream in everybody[: bounds.rows]:
            name, (state, since) = upstream.name, self._states[upstream.name]
            tried, out, reason = attempts.get(name, 0.0), list(rows.out(upstream, now)), errors.get(name)
            table.append(
                {
                    "name": name,
                    "state": state,
                    "since_s": now - since,
                    "weight": weights[name],
                    "share": tried / all_attempts if all_attempts else None,
                    "in_flight": upstream.in_flight,
                    "limit": rows.whole(upstream.settings.limits.concurrency),
                    "attempts": round(tried),
                    "ok": rows.ok_share(outcomes.get(name, {})),
                    **rows.ttft(buckets.get(name, ())),
                    "output_tokens_per_s": tokens.get(name, 0.0) / seconds,
                    "out": out[: bounds.parts],
                    "more_out": max(0, len(out) - bounds.parts),
                    "last_error": {"reason": reason[0], "age_s": now - reason[1]} if reason else None,
                }
            )
        return table

    def _models(self, now: float, bounds: Bounds) -> list[Row]:
        total, routes = self._history.total, list(self._relay.snapshot.catalogue.routes.values())
        in_flight, streams = present.by_model(self._relay, self._sockets())
        outcomes: dict[str, Counter[str]] = {}
        for (model, _, outcome), grown in total.counters[specs.REQUESTS].items():
            outcomes.setdefault(model, Counter())[outcome] += round(grown)
        requests = {model: counts.total() for model, counts in outcomes.items()}
        buckets = by_label(of_streams(total.ttft), 0)
        answers: Counter[tuple[str, str]] = Counter()
        for (model, upstream, _), observed in total.ttft.items():
            answers[model, upstream] += round(sum(observed))
        answered: Counter[str] = Counter()
        for (model, _), times in answers.items():
            answered[model] += times
        if len(routes) > bounds.rows:
            routes.sort(key=lambda route: (in_flight[route.name], requests.get(route.name, 0)), reverse=True)
        table = []
        for route in routes[: bounds.rows]:
            name, counts = route.name, outcomes.get(route.name, Counter())
            judged = sum(counts[each] for each in JUDGED)
            members = rows.members(route, bounds.parts, now)
            for member in members:
                member["share"] = answers[name, member["upstream"]] / answered[name] if answered[name] else None
            table.append(
                {
                    "name": name,
                    "in_flight": in_flight[name],
                    "open_streams": streams[name],
                    "requests": requests.get(name, 0),
                    "failed": sum(counts[each] for each in FAILED),
                    "success": counts["ok"] / judged if judged else None,
                    **rows.ttft(buckets.get(name, ())),
                    "eligible": route.pool.eligible(now),
                    "targets": len(route.pool.targets),
                    "members": members,
                    "more_members": len(route.members) - len(members),
                }
            )
        return table

    def _keys(self, now: float, bounds: Bounds) -> list[Row]:
        config = self._relay.snapshot.config
        keys = self._relay.snapshot.keyring.keys
        table = [rows.limits_of(key, config.keys[name].limits.concurrency, now) for name, key in keys.items()]
        if len(table) > bounds.keys:
            table.sort(key=lambda row: (row["used"], row["in_flight"] or 0), reverse=True)
        return table[: bounds.keys]
