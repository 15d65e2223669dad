"""The router of the simulation: the real catalogue and keyring of a configuration, and where requests go from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from router.policy.catalogue import Catalogue, Route, build
from router.policy.keys import build_keyring
from router.simulation.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from router.config.schema import Config, Pace, Protocol
    from router.policy.limits import Limiter
    from router.simulation.audit import Audit
    from router.simulation.clients import Call
    from router.simulation.engine import Engine
    from router.simulation.scenario import Change
    from router.simulation.tally import Tally
    from router.simulation.upstreams import SimulatedUpstream


class PaceState:
    """The turns at an upstream with a published rate: a leaky bucket, as aiolimiter's, kept by its one number."""

    __slots__ = ("_full_at", "_interval_s", "_tolerance_s", "wait_s")

    def __init__(self, settings: Pace) -> None:
        self.wait_s = float(settings.wait)
        """The longest wait."""
        self._interval_s = settings.per / settings.requests
        self._tolerance_s = settings.per - self._interval_s
        self._full_at = 0.0

    def take(self, now: float) -> float | None:
        """Take the next turn; return the seconds until it comes, None if that is too long."""
        wait_s = max(0.0, self._full_at - now - self._tolerance_s)
        if wait_s > self.wait_s:
            return None
        self._full_at = max(self._full_at, now) + self._interval_s
        return wait_s


class Gateway:
    """What all simulated exchanges share."""

    def __init__(
        self,
        config: Config,
        upstreams: Mapping[str, SimulatedUpstream],
        *,
        engine: Engine,
        rng: Random,
        tally: Tally,
        audit: Audit,
    ) -> None:
        self.engine = engine
        self.rng = rng
        """Of the router's own decisions."""
        self.upstreams = upstreams
        self.tally = tally
        self.audit = audit
        self.config = config
        self.catalogue: Catalogue = build(config, engine.now, None)
        """Of the configuration in use; exchanges in flight keep the routes of the one they began with."""
        secrets = {key.secret: name for name, key in config.keys.items()}  # nobody shows one: any will do
        self.keyring = build_keyring(config, secrets, engine.now, None)
        self.paces = {
            name: PaceState(upstream.pace) for name, upstream in config.upstreams.items() if upstream.pace is not None
        }
        audit.watch(self.catalogue)

    def serve(self, call: Call) -> None:
        """Take a request."""
        self.audit.exchange_begins()
        Exchange(self, call).start()

    def find(self, model: str, protocol: Protocol) -> Route | None:
        """Return what serves a model to clients that speak this."""
        return self.catalogue.find(model, f"{protocol}+translated")

    def limiter(self, key: str | None) -> Limiter | None:
        """Return the limits of a key."""
        return self.keyring.keys[key].limiter if key is not None else None

    def reload(self, change: Change) -> None:
        """Take over other weights, as a reload does."""
        model = self.config.models[change.model]
        pool = tuple(
            msgspec.structs.replace(member, weight=change.weights.get(member.upstream, member.weight))
            for member in model.pool
        )
        models = {**self.config.models, change.model: msgspec.structs.replace(model, pool=pool)}
        self.config = msgspec.structs.replace(self.config, models=models)
        self.catalogue = build(self.config, self.engine.now, self.catalogue)
        self.audit.watch(self.catalogue)
