"""Thousands of made-up worlds, and in each of them every promise."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from router.config import checks
from router.config.report import Report
from router.policy.outcomes import Cause
from router.simulation.run import simulate
from router.simulation.scenario import Kind, check
from router.simulation.worlds import world

WORLDS = 3000
BATCH = 250


@pytest.mark.parametrize("first", range(0, WORLDS, BATCH))
def test_every_world_keeps_the_promises(first: int) -> None:
    """Whatever fails, whatever is limited or reloaded: one end for each, nothing left, nobody refused needlessly."""
    failed = []
    for seed in range(first, first + BATCH):
        try:
            broken = simulate(*world(seed), seed).audit.broken
        except Exception as error:  # noqa: BLE001 (whatever it is, the seed must be told)
            broken = [repr(error)]
        if broken:
            failed.append(f"python -m router simulate --seed {seed}    # {broken[0]}")
    assert failed == [], "\n" + "\n".join(failed)


def test_worlds_are_valid() -> None:
    """Each is one that could stand in files: the checks of both find nothing."""
    for seed in range(200):
        config, scenario = world(seed)
        report = Report(f"world {seed}")
        checks.check(config, report, directory=Path())
        check(scenario, config, report)
        assert report.lines() == ()


def test_a_world_is_the_same_each_time() -> None:
    """A seed is enough to come back to it; another seed is another world."""
    assert world(7) == world(7)
    assert world(7) != world(8)


def test_worlds_meet_everything() -> None:
    """Among some hundred worlds every fault and nearly every cause occurs, and still many requests are answered."""
    kinds, causes, outcomes = set(), Counter[str](), Counter[str]()
    for seed in range(300):
        config, scenario = world(seed)
        kinds |= {fault.kind for fault in scenario.faults}
        tally = simulate(config, scenario, seed).tally
        outcomes += tally.outcomes
        for upstream in tally.upstreams.values():
            causes += upstream.causes
    assert kinds == set(Kind)
    elsewhere = {Cause.DNS, Cause.TLS, Cause.STALE, Cause.REDIRECT, Cause.WRONG_TYPE, Cause.ERROR_BODY}
    elsewhere |= {Cause.UNTRANSLATABLE, Cause.CLIENT_GONE, Cause.SCARCE}
    assert set(causes) == set(Cause) - elsewhere
    assert outcomes["ok"] > 0.2 * outcomes.total()
