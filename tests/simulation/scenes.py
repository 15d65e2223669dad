"""Small scenes for these tests: a configuration and a scenario, built as the loader returns them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.config.schema import Config, Defaults, Member, Model, Seconds, Upstream
from router.simulation.run import simulate
from router.simulation.scenario import Behaviour, Fault, Kind, Scenario, Spread, Traffic

if TYPE_CHECKING:
    from router.simulation.run import Result

QUICK = Behaviour(first_token=Spread(median=Seconds(0.1)), answer=Spread(median=Seconds(0.4)))


def config(*members: Member, upstreams: dict[str, Upstream] | None = None, **settings: Any) -> Config:
    """One model, `m`, on these members."""
    names = dict.fromkeys(member.upstream for member in members)
    return Config(
        upstreams={name: Upstream(base_url=f"http://{name}.test/v1") for name in names} | (upstreams or {}),
        models={"m": Model(pool=members)},
        **settings,
    )


def equals(count: int, defaults: Defaults | None = None) -> Config:
    """One model on so many equal members: u0, u1, …"""
    return config(*(Member(upstream=f"u{number}") for number in range(count)), defaults=defaults or Defaults())


def scenario(*faults: Fault, rate: float = 20, duration: float = 60, **settings: Any) -> Scenario:
    """Clients without retries, on quick upstreams."""
    given: dict[str, Any] = {"traffic": (Traffic(model="m", rate=rate, retries=0),), "behaviour": QUICK} | settings
    return Scenario(duration=Seconds(duration), faults=faults, **given)


def fault(kind: Kind, upstream: str = "u0", at: float = 20, until: float | None = 40, **settings: Any) -> Fault:
    """Something that goes wrong in the middle third."""
    end = None if until is None else Seconds(until)
    return Fault(upstream=upstream, kind=kind, at=Seconds(at), until=end, **settings)


def play(settings: Config, story: Scenario, seed: int = 7) -> Result:
    """Let it happen; every promise must be kept."""
    result = simulate(settings, story, seed)
    assert result.audit.broken == []
    return result
