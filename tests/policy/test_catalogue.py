from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.config.schema import (
    Choose,
    Count,
    Defaults,
    Ejection,
    Limits,
    Member,
    Model,
    Retry,
    Seconds,
    Secret,
    TimeoutOverrides,
    Timeouts,
    Upstream,
)
from router.policy.catalogue import build
from router.policy.outcomes import Cause

from .pools import NOW, answer, config, eject, upstream

if TYPE_CHECKING:
    from random import Random


def serves(*names: str, fallback: tuple[str, ...] = (), model: str | None = None) -> Model:
    return Model(pool=tuple(Member(upstream=name, model=model) for name in names), fallback=fallback)


def test_a_model_is_found_by_name_then_by_pattern() -> None:
    """Exact names win, longer patterns win over shorter ones, and the rest is unknown."""
    built = build(config({"gpt-*": serves("a"), "gpt-5*": serves("b"), "gpt-5": serves("c")}), NOW, None)
    found = [built.find(model) for model in ("gpt-5", "gpt-5.5", "gpt-4", "gpt", "")]
    assert [route and route.name for route in found] == ["gpt-5", "gpt-5*", "gpt-*", None, None]


def test_the_name_to_send_is_the_members_else_the_models() -> None:
    """Only under a pattern without a name of its own the client's is sent."""
    built = build(config({"gpt": serves("a"), "fast": serves("a", model="tiny"), "x-*": serves("a")}), NOW, None)
    names = [built.routes[name].pool.targets[0].model for name in ("gpt", "fast", "x-*")]
    assert names == ["gpt", "tiny", None]


def test_fallbacks_come_depth_first_and_once() -> None:
    """A chain is the model, its first fallback with all of that one's, then its second; nothing twice."""
    models = {
        "a": serves("u", fallback=("b", "c")),
        "b": serves("u", fallback=("d", "c")),
        "c": serves("u"),
        "d": serves("u"),
    }
    chain = build(config(models), NOW, None).routes["a"].chain
    assert [route.name for route in chain] == ["a", "b", "d", "c"]


def test_a_fallback_to_a_pattern_sends_the_fallbacks_name() -> None:
    """What a pattern serves can be a fallback: under its own name, with the pattern's label and budget."""
    built = build(config({"a": serves("u", fallback=("x-1",)), "x-*": serves("v")}), NOW, None)
    route = built.routes["a"].chain[1]
    assert (route.name, route.pool.targets[0].model) == ("x-*", "x-1")
    assert route.pool.targets[0].upstream is built.upstreams["v"]
    assert route.pool.retry is built.routes["x-*"].pool.retry
    assert route.correction is built.routes["x-*"].correction


def test_timeouts_are_laid_over_each_other() -> None:
    """The model's over the upstream's over the defaults."""
    settings = Upstream(
        base_url="http://u.test/v1", timeouts=TimeoutOverrides(connect=Seconds(1), first_byte=Seconds(2))
    )
    model = Model(pool=(Member(upstream="u"),), timeouts=TimeoutOverrides(first_byte=Seconds(7), total=Seconds(8)))
    defaults = Defaults(timeouts=Timeouts(idle=Seconds(9)))
    target = build(config({"m": model}, {"u": settings}, defaults), NOW, None).routes["m"].pool.targets[0]
    assert target.timeouts == Timeouts(connect=Seconds(1), first_byte=Seconds(7), idle=Seconds(9), total=Seconds(8))


def test_a_model_inherits_what_it_does_not_say() -> None:
    """Default output and way to choose come from the defaults unless the model has its own."""
    models = {"a": serves("u"), "b": Model(pool=(Member(upstream="u"),), default_output_tokens=Count(9))}
    defaults = Defaults(default_output_tokens=Count(77), choose=Choose.ROUND_ROBIN)
    routes = build(config(models, defaults=defaults), NOW, None).routes
    assert [routes[name].default_output_tokens for name in ("a", "b")] == [77, 9]
    assert type(routes["a"].pool.tiers[0]).__name__ == "RoundRobin"


def test_models_share_what_is_known_of_an_upstream(rng: Random) -> None:
    """Two names for one model at one upstream share its breaker, cooldown and load."""
    models = {"a": serves("u", model="x"), "b": serves("u", model="x")}
    routes = build(config(models), NOW, None).routes
    a, b = routes["a"].pool.targets[0], routes["b"].pool.targets[0]
    assert a.breaker is b.breaker
    answer(a, Cause.RATE_LIMITED, NOW, rng, 30.0)
    assert not b.eligible(NOW, 0)


def test_a_reload_keeps_what_is_counted_and_learnt(rng: Random) -> None:
    """Leases, ejections, cooldowns, limits, retries and corrections survive an unrelated edit."""
    limits = Limits(concurrency=Count(3), requests_per_minute=Count(60))
    upstreams = {"u": upstream("u", "A", "B", limits=limits)}
    before = build(config({"m": serves("u", "v")}, upstreams), NOW, None)
    pool = before.routes["m"].pool
    lease = pool.targets[0].begin(NOW, 0)
    answer(pool.targets[1], Cause.RATE_LIMITED, NOW, rng, 30.0)
    eject(pool.targets[2], NOW, rng)
    pool.retry.withdraw(1)
    before.routes["m"].correction.observe(3500, 2000)
    assert pool.last_resort(NOW, rng, tried=(pool.targets[0],)) is not None

    after = build(config({"m": serves("u", "v"), "new": serves("w")}, upstreams), NOW, before)
    kept = after.routes["m"].pool
    assert [target.eligible(NOW, 0) for target in kept.targets] == [True, False, False]
    assert kept.targets[0].upstream.in_flight == 1
    assert kept.retry.active == 1
    assert after.routes["m"].correction.value > 1
    assert kept.last_resort(NOW, rng, tried=(kept.targets[0],)) is None
    lease.end(NOW, 0)
    assert after.upstreams["u"].in_flight == 0
    assert after.upstreams["u"].limiter is not None
    assert after.upstreams["u"].limiter.in_flight == 0


def test_an_old_exchange_teaches_the_new_catalogue(rng: Random) -> None:
    """What an attempt that began before the reload finds out is known after it."""
    before = build(config({"m": serves("u")}), NOW, None)
    after = build(config({"m": serves("u")}), NOW, before)
    eject(before.routes["m"].pool.targets[0], NOW, rng)
    assert not after.routes["m"].pool.targets[0].eligible(NOW, 0)


def test_a_changed_identity_starts_anew(rng: Random) -> None:
    """Another address, another credential or another model there is not held to account for the old one."""
    before = build(config({"m": serves("u", "v")}, {"v": upstream("v", "A")}), NOW, None)
    u, v = before.routes["m"].pool.targets
    eject(u, NOW, rng, Cause.CONNECT)
    answer(v, Cause.QUOTA, NOW, rng)
    moved = {"u": Upstream(base_url="http://elsewhere.test/v1"), "v": upstream("v", "B")}
    after = build(config({"m": serves("u", "v")}, moved), NOW, before)
    assert all(target.eligible(NOW, 0) for target in after.routes["m"].pool.targets)
    assert after.upstreams["u"] is not before.upstreams["u"]
    assert after.upstreams["v"] is before.upstreams["v"]


def test_credentials_that_change_places_keep_their_cooldowns(rng: Random) -> None:
    """A cooldown belongs to the credential, not to its place in the list."""
    before = build(config({"m": serves("u")}, {"u": upstream("u", "A", "B")}), NOW, None)
    answer(before.routes["m"].pool.targets[0], Cause.QUOTA, NOW, rng)
    after = build(config({"m": serves("u")}, {"u": upstream("u", "B", "A")}), NOW, before)
    assert [target.eligible(NOW, 0) for target in after.routes["m"].pool.targets] == [True, False]


def test_what_is_gone_is_forgotten() -> None:
    """Models and credentials that left the configuration leave no state behind."""
    before = build(config({f"m{number}": serves("u") for number in range(9)}), NOW, None)
    after = build(config({"m0": serves("u")}), NOW, before)
    assert set(after.upstreams["u"].breakers) == {"m0"}
    assert set(after.upstreams["u"].cooldowns) == {(None, "m0")}


def test_changed_settings_apply_to_what_is_kept(rng: Random) -> None:
    """A lowered limit, another ejection rule and another retry budget hold from the reload on."""
    before = build(config({"m": serves("u")}, {"u": upstream("u")}), NOW, None)
    lease = before.routes["m"].pool.targets[0].begin(NOW, 0)
    defaults = Defaults(ejection=Ejection(consecutive=1), retry=Retry(budget_min=0, budget_ratio=0.0))
    changed = {"u": upstream("u", limits=Limits(concurrency=Count(1)))}
    after = build(config({"m": serves("u")}, changed, defaults), NOW, before)
    target = after.routes["m"].pool.targets[0]
    assert not target.eligible(NOW, 0)
    lease.end(NOW, 0)
    assert target.eligible(NOW, 0)
    assert not before.routes["m"].pool.retry.withdraw(1000)
    assert answer(target, Cause.HTTP_5XX, NOW, rng)
    assert after.upstreams["u"].settings == changed["u"]


def test_a_build_that_fails_changes_nothing() -> None:
    """A configuration that slipped past validation leaves the running catalogue as it was."""
    before = build(config({"m": serves("u")}, {"u": upstream("u")}), NOW, None)
    lowered = {"u": upstream("u", limits=Limits(concurrency=Count(1)))}
    with pytest.raises(KeyError, match="nobody"):
        build(config({"m": serves("u", fallback=("nobody",))}, lowered), NOW, before)
    assert before.upstreams["u"].limiter is None
    assert set(before.upstreams["u"].breakers) == {"m"}


def test_one_credential_and_none_are_both_one_target() -> None:
    """`api_key`, `api_keys` and neither give one target for each credential, with its part of the weight."""
    upstreams = {
        "one": Upstream(base_url="http://one.test/v1", api_key=Secret(env="A")),
        "two": upstream("two", "A", "B"),
        "none": upstream("none"),
    }
    targets = build(config({"m": serves(*upstreams)}, upstreams), NOW, None).routes["m"].pool.targets
    seen = [(target.upstream.name, target.credential, target.share) for target in targets]
    assert seen == [("one", 0, 1.0), ("two", 0, 0.5), ("two", 1, 0.5), ("none", 0, 1.0)]
