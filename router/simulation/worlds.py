"""Worlds by number: each seed gives a small configuration and a scenario full of trouble.

They are what the tests let happen by the thousand, so they are drawn to be short (some hundred requests) and mean: few
members, tight limits, faults that overlap, reloads in the middle.
"""

from __future__ import annotations

from random import Random
from typing import Final

from router.config.schema import (
    Choose,
    Config,
    Count,
    Defaults,
    Ejection,
    Key,
    Limits,
    Member,
    Model,
    Pace,
    Protocol,
    Retry,
    Seconds,
    Secret,
    Timeouts,
    Upstream,
)
from router.simulation.scenario import Behaviour, Change, Fault, Kind, Scenario, Spread, Traffic

REQUESTS: Final = 150
"""About so many come in one world, without retries."""
_KEYS: Final = ("batch", "chat")


def world(seed: int) -> tuple[Config, Scenario]:
    """Return the world of a seed: valid, and the same each time."""
    rng = Random(f"{seed} world")  # noqa: S311 (chance, not a secret)
    config = _config(rng)
    return config, _scenario(config, rng)


def _config(rng: Random) -> Config:
    upstreams = {f"u{number}": _upstream(number, rng) for number in range(rng.randint(1, 5))}
    models = {"m": _model(list(upstreams), rng)}
    if rng.random() < 0.4:
        models["fallback"] = _model(list(upstreams), rng)
        models["m"] = Model(pool=models["m"].pool, fallback=("fallback",), choose=models["m"].choose)
    keys = {}
    if rng.random() < 0.5:
        keys = {
            name: Key(secret=Secret(sha256=f"{number:064x}"), limits=_limits(rng, 4))
            for number, name in enumerate(_KEYS)
        }
    return Config(upstreams=upstreams, models=models, keys=keys, defaults=_defaults(rng))


def _defaults(rng: Random) -> Defaults:
    eject = rng.choice((1.0, 10.0))
    return Defaults(
        timeouts=Timeouts(
            connect=Seconds(rng.choice((0.5, 3))),
            first_byte=Seconds(rng.choice((2, 20, 20))),
            first_token=Seconds(rng.choice((2, 30, 30))),
            idle=Seconds(rng.choice((2, 30))),
            total=Seconds(rng.choice((4, 120, 120, 120))),
        ),
        choose=rng.choice(tuple(Choose)),
        ejection=Ejection(
            consecutive=rng.randint(1, 6),
            success_ratio=rng.choice((0.0, 0.5, 1.0)),
            window=Seconds(rng.choice((2, 30))),
            min_outcomes=rng.randint(1, 12),
            eject=Seconds(eject),
            eject_max=Seconds(eject * rng.choice((1, 8))),
        ),
        retry=Retry(attempts=rng.randint(1, 5), budget_min=rng.randint(0, 4), budget_ratio=rng.choice((0.0, 0.2, 1.0))),
    )


def _upstream(number: int, rng: Random) -> Upstream:
    secrets = tuple(Secret(env=f"KEY_{number}_{index}") for index in range(rng.choice((0, 0, 1, 2, 3))))
    return Upstream(
        base_url=f"http://u{number}.example/v1",
        protocol=Protocol.ANTHROPIC if rng.random() < 0.05 else Protocol.OPENAI,
        api_keys=secrets,
        limits=_limits(rng, 1) if rng.random() < 0.3 else Limits(),
        pace=Pace(requests=Count(rng.randint(1, 20)), wait=Seconds(rng.choice((0.1, 2))))
        if rng.random() < 0.1
        else None,
    )


def _limits(rng: Random, scale: int) -> Limits:
    """Limits of which each is there or not, tight enough to be met."""
    limited = rng.random() < 0.5
    return Limits(
        requests_per_minute=Count(scale * rng.randint(10, 300)) if limited else None,
        tokens_per_minute=Count(scale * rng.randint(2_000, 200_000)) if rng.random() < 0.5 else None,
        concurrency=Count(scale * rng.randint(1, 20)) if rng.random() < 0.5 else None,
        request_burst=Count(rng.randint(1, 20)) if limited and rng.random() < 0.5 else None,
    )


def _model(upstreams: list[str], rng: Random) -> Model:
    names = rng.sample(upstreams, rng.randint(1, len(upstreams)))
    pool = [
        Member(
            upstream=name, weight=rng.choice((0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0)), tier=rng.choice((1, 1, 1, 2))
        )
        for name in names
    ]
    return Model(pool=tuple(pool), choose=rng.choice((None, *Choose)), translate=rng.random() < 0.9)


def _scenario(config: Config, rng: Random) -> Scenario:
    duration = rng.choice((3.0, 20.0, 90.0))
    sources = rng.randint(1, 2)
    reloads = []
    for name, model in config.models.items():
        if rng.random() < 0.4:
            weights = {member.upstream: rng.choice((0.0, 1.0, 1.0, 1.0, 5.0)) for member in model.pool}
            reloads.append(Change(at=Seconds(duration * rng.uniform(0.1, 0.9)), model=name, weights=weights))
    return Scenario(
        duration=Seconds(duration),
        traffic=tuple(_traffic(config, index, REQUESTS / sources / duration, rng) for index in range(sources)),
        upstreams={name: _behaviour(rng) for name in config.upstreams},
        faults=tuple(_fault(config, duration, rng) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 5)))),
        reloads=tuple(reloads),
    )


def _traffic(config: Config, index: int, rate: float, rng: Random) -> Traffic:
    return Traffic(
        model="m",
        rate=rate * rng.uniform(0.5, 1.5),
        key=_KEYS[index] if config.keys else None,
        protocol=Protocol.ANTHROPIC if rng.random() < 0.1 else Protocol.OPENAI,
        stream=rng.random() < 0.7,
        prompt_tokens=Count(rng.randint(1, 2000)),
        output_tokens=Count(rng.randint(0, 1000)),
        max_tokens=rng.choice((None, Count(1), Count(2000))),
        retries=rng.randint(0, 2),
        patience=Seconds(rng.choice((2, 600, 600))),
        leave=rng.choice((0.0, 0.0, 0.3)),
        leave_within=Seconds(rng.choice((0.1, 5))),
    )


def _behaviour(rng: Random) -> Behaviour:
    median = rng.choice((0.01, 0.3, 0.3, 2.0))
    return Behaviour(
        first_token=Spread(median=Seconds(median), p95=Seconds(median * rng.choice((1, 4)))),
        answer=Spread(median=Seconds(rng.choice((0.01, 1, 1, 5))), p95=Seconds(10)),
        slots=Count(rng.randint(1, 30)) if rng.random() < 0.4 else None,
        queue=Count(rng.choice((0, 3, 1000))),
        limits=_limits(rng, 1) if rng.random() < 0.2 else Limits(),
        says_when=rng.random() < 0.5,
        errors=rng.choice((0.0, 0.0, 0.0, 0.1)),
    )


def _fault(config: Config, duration: float, rng: Random) -> Fault:
    at = duration * rng.random() + 0.001
    return Fault(
        upstream=rng.choice(("u*", *config.upstreams, *config.upstreams)),
        kind=rng.choice(tuple(Kind)),
        at=Seconds(at),
        until=Seconds(at + duration * rng.uniform(0.01, 0.6)) if rng.random() < 0.8 else None,
        share=rng.choice((1.0, 1.0, 0.3)),
        factor=rng.choice((2.0, 10.0)),
        retry_after=rng.choice((None, Seconds(0.5), Seconds(7), Seconds(900))),
    )
