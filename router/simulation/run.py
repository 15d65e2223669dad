"""One run: a configuration, a scenario and a seed in; what came of it out."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, NamedTuple

from router.policy.patterns import PatternMap
from router.simulation.audit import Audit
from router.simulation.clients import Source
from router.simulation.engine import START_S, Engine
from router.simulation.gateway import Gateway
from router.simulation.scenario import matching
from router.simulation.tally import BINS, SAMPLES_PER_BIN, Tally
from router.simulation.upstreams import SimulatedUpstream

if TYPE_CHECKING:
    from router.config.schema import Config
    from router.simulation.scenario import Scenario


class Result(NamedTuple):
    """What came of a run."""

    tally: Tally
    audit: Audit
    ended_s: float
    """When the last of it was over, seconds from the beginning."""
    events: int
    """That the engine let happen."""


def simulate(config: Config, scenario: Scenario, seed: int) -> Result:
    """Let a scenario happen, to the end of the last request.

    Args:
        config: As the loader returns it.
        scenario: Checked against the configuration.
        seed: The same one gives the same result. Policy, upstreams and clients draw from generators of their own, so
            that a change of one does not disturb the others.
    """
    engine, audit = Engine(), Audit()
    tally = Tally(config.upstreams, scenario.duration)
    behaviours = PatternMap(scenario.upstreams)
    upstreams = {
        name: SimulatedUpstream(
            name, behaviours.find(name) or scenario.behaviour, engine, _generator(seed, f"upstream {name}")
        )
        for name in config.upstreams
    }
    gateway = Gateway(config, upstreams, engine=engine, rng=_generator(seed, "router"), tally=tally, audit=audit)
    for fault in scenario.faults:
        for name in matching(fault.upstream, config):
            engine.at(START_S + (fault.at or 0.0), upstreams[name].begin, fault)
            if fault.until is not None:
                engine.at(START_S + fault.until, upstreams[name].end, fault)
    for change in scenario.reloads:
        engine.at(START_S + change.at, gateway.reload, change)
    for index, traffic in enumerate(scenario.traffic):
        rng = _generator(seed, f"clients {index}")
        Source(traffic, scenario.duration, gateway, engine=engine, rng=rng, tally=tally).start()
    _Sampler(gateway, scenario.duration).start()
    engine.run()
    audit.at_rest(gateway)
    return Result(tally, audit, engine.now - START_S, engine.happened)


class _Sampler:
    """Looks at every upstream, a fixed number of times."""

    def __init__(self, gateway: Gateway, duration_s: float) -> None:
        self._gateway = gateway
        self._interval_s = duration_s / (BINS * SAMPLES_PER_BIN)

    def start(self) -> None:
        for number in range(BINS * SAMPLES_PER_BIN):
            self._gateway.engine.at(START_S + (number + 0.5) * self._interval_s, self._look, number // SAMPLES_PER_BIN)

    def _look(self, column: int) -> None:
        gateway = self._gateway
        for name, state in gateway.catalogue.upstreams.items():
            tally = gateway.tally.upstreams[name]
            tally.sample(column, state.in_flight, len(gateway.upstreams[name].waiting))


def _generator(seed: int, purpose: str) -> Random:
    return Random(f"{seed} {purpose}")  # noqa: S311 (chance, not a secret)
