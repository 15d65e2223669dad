"""Small pools for tests, built from a configuration as the daemon builds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.config.schema import Choose, Config, Defaults, Key, Limits, Member, Model, Secret, Upstream
from router.policy.catalogue import Catalogue, build
from router.policy.outcomes import VERDICTS, Cause

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from router.policy.pool import Pool
    from router.policy.target import Change, Target

NOW = 1000.0


def upstream(name: str, *credentials: str, limits: Limits | None = None) -> Upstream:
    return Upstream(
        base_url=f"http://{name}.test/v1",
        api_keys=tuple(Secret(env=credential) for credential in credentials),
        limits=limits or Limits(),
    )


def config(
    models: Mapping[str, Model],
    upstreams: Mapping[str, Upstream] | None = None,
    defaults: Defaults | None = None,
    keys: Mapping[str, Key] | None = None,
) -> Config:
    names = dict.fromkeys(member.upstream for model in models.values() for member in model.pool)
    return Config(
        upstreams={name: upstream(name) for name in names} | dict(upstreams or {}),
        models=dict(models),
        defaults=defaults or Defaults(),
        keys=dict(keys or {}),
    )


def catalogue(
    *members: Member, choose: Choose = Choose.TWO_CHOICES, upstreams: Mapping[str, Upstream] | None = None
) -> Catalogue:
    return build(config({"m": Model(pool=members, choose=choose)}, upstreams), NOW, None)


def pool(
    *members: Member, choose: Choose = Choose.TWO_CHOICES, upstreams: Mapping[str, Upstream] | None = None
) -> Pool:
    return catalogue(*members, choose=choose, upstreams=upstreams).routes["m"].pool


def equals(count: int, choose: Choose = Choose.TWO_CHOICES) -> Pool:
    return pool(*(Member(upstream=f"u{number}") for number in range(count)), choose=choose)


def answer(
    target: Target,
    cause: Cause,
    now: float,
    rng: Random,
    retry_after_s: float | None = None,
) -> tuple[Change, ...]:
    """Send one request that ends at once like this."""
    lease = target.begin(now, 0)
    changes = lease.note(VERDICTS[cause], now, retry_after_s, rng)
    lease.end(now, 0)
    return changes


def eject(target: Target, now: float, rng: Random, cause: Cause = Cause.HTTP_5XX) -> None:
    while not answer(target, cause, now, rng):
        pass
