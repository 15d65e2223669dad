from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.config.schema import (
    Choose,
    Config,
    Count,
    Defaults,
    Ejection,
    Limits,
    Member,
    Model,
    Price,
    Protocol,
    Retry,
    Seconds,
    Secret,
    TimeoutOverrides,
    Timeouts,
    Translation,
    Upstream,
    Usd,
)
from router.policy.catalogue import PINNED, VIEWS, Catalogue, build
from router.policy.outcomes import Cause

from .pools import NOW, answer, config, eject, upstream

if TYPE_CHECKING:
    from collections.abc import Mapping
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


OPENAI = Upstream(base_url="http://openai.test/v1")
CLAUDE = Upstream(base_url="http://claude.test/v1", protocol=Protocol.ANTHROPIC)
SPEAKERS = {"o": OPENAI, "a": CLAUDE}
BOTH = (Member(upstream="o"), Member(upstream="a"))


def mixed(models: Mapping[str, Model]) -> Catalogue:
    """A catalogue in which `o` speaks OpenAI's protocol and `a` Anthropic's."""
    return build(config(models, SPEAKERS), NOW, None)


def servers(catalogue: Catalogue, model: str, view: str) -> str:
    """Who is in the pool that a client of this view gets, and in those of its fallbacks: `o+a, a`."""
    route = catalogue.find(model, view)
    if route is None:
        return ""
    return ", ".join("+".join(target.upstream.name for target in each.pool.targets) for each in route.chain)


def test_there_is_a_view_for_each_protocol_with_and_without_translation() -> None:
    """The names are the plain ones that endpoints use."""
    assert {name: (protocol.value, translates) for name, (protocol, translates) in VIEWS.items()} == {
        "openai": ("openai", False),
        "openai+translated": ("openai", True),
        "anthropic": ("anthropic", False),
        "anthropic+translated": ("anthropic", True),
    }


@pytest.mark.parametrize(
    ("translate", "view", "seen"),
    [
        (False, "", "o+a"),
        (False, "openai", "o"),
        (False, "openai+translated", "o"),
        (False, "anthropic", "a"),
        (False, "anthropic+translated", "a"),
        (True, "", "o+a"),
        (True, "openai", "o"),
        (True, "openai+translated", "o+a"),
        (True, "anthropic", "a"),
        (True, "anthropic+translated", "o+a"),
    ],
)
def test_a_client_sees_the_members_that_can_serve_it(*, translate: bool, view: str, seen: str) -> None:
    """Those that speak its protocol, and the others where both the endpoint and the model can be translated."""
    assert servers(mixed({"m": Model(pool=BOTH, translate=translate)}), "m", view) == seen


def test_a_model_that_no_member_can_serve_is_none() -> None:
    """Known or not, the client gets nothing of it, and other models are not affected."""
    built = mixed({"gpt": serves("o"), "claude-*": serves("a"), "any": Model(pool=BOTH)})
    for view in VIEWS:
        assert built.find("nobody", view) is None
        assert servers(built, "any", view) == ("o" if view.startswith("openai") else "a")
    assert [view for view in VIEWS if built.find("gpt", view) is not None] == ["openai", "openai+translated"]
    assert [view for view in VIEWS if built.find("claude-9", view) is not None] == [
        "anthropic", "anthropic+translated",
    ]  # fmt: skip


def test_translation_is_each_models_own() -> None:
    """One model that may be translated does not make the others so."""
    built = mixed({"t": Model(pool=BOTH, translate=True), "n": Model(pool=BOTH)})
    assert (servers(built, "t", "openai+translated"), servers(built, "n", "openai+translated")) == ("o+a", "o")


def test_a_view_that_leaves_nobody_out_is_the_whole() -> None:
    """Where everybody speaks the same, nothing is built twice."""
    built = build(config({"m": serves("u", "v"), "x-*": serves("u")}), NOW, None)
    for model in ("m", "x-1"):
        assert built.find(model, "openai") is built.find(model, "openai+translated") is built.find(model)
        assert built.find(model, "anthropic") is None


def test_fallbacks_are_followed_inside_a_view() -> None:
    """A fallback that cannot serve the client is passed over, not the fallbacks behind it."""
    models = {
        "first": Model(pool=BOTH, fallback=("second", "third")),
        "second": serves("o", fallback=("x-2",)),
        "third": serves("a", "a"),
        "x-*": Model(pool=BOTH),
    }
    built = mixed(models)
    assert servers(built, "first", "") == "o+a, o, o+a, a+a"
    assert servers(built, "first", "openai") == "o, o, o"
    assert servers(built, "first", "anthropic") == "a, a, a+a"
    assert servers(built, "second", "anthropic") == "", "its own pool has nobody for this client"
    for view, at in (("openai", 2), ("anthropic", 1)):
        route = built.find("first", view)
        assert route is not None
        assert (route.chain[at].name, route.chain[at].pool.targets[0].model) == ("x-*", "x-2")


def test_views_share_what_is_counted_and_learnt(rng: Random) -> None:
    """Whoever finds something out, for whichever client: breaker, cooldown, load, retries and correction are one."""
    built = mixed({"m": Model(pool=BOTH, translate=True)})
    whole, part = built.find("m"), built.find("m", "anthropic")
    assert whole is not None
    assert part is not None
    assert whole is not part
    seen, same = part.pool.targets[0], whole.pool.at("a")
    assert same is not None
    assert seen is not same
    lease = seen.begin(NOW, 0)
    assert (whole.pool.in_flight, same.upstream.in_flight) == (1, 1)
    lease.end(NOW, 0)
    answer(seen, Cause.RATE_LIMITED, NOW, rng, 5.0)
    assert not same.eligible(NOW, 0)
    later = NOW + 60
    assert seen.eligible(later, 0)
    eject(same, later, rng)
    assert not seen.eligible(later, 0)
    assert part.pool.retry is whole.pool.retry
    assert part.correction is whole.correction
    assert part.prices == whole.prices


def test_a_route_of_a_view_has_its_models_settings() -> None:
    """Prices, translation, default output, way to choose: all but the members is the model's."""
    settings = Model(
        pool=BOTH,
        price=Price(input=Usd("1.5")),
        translation=Translation(inline_system=True),
        default_output_tokens=Count(77),
        choose=Choose.ROUND_ROBIN,
    )
    built = mixed({"m": settings})
    for view, members in (("", BOTH), ("openai", BOTH[:1]), ("anthropic", BOTH[1:])):
        route = built.find("m", view)
        assert route is not None
        assert (route.name, route.default_output_tokens, route.members) == ("m", 77, members)
        assert route.translation == settings.translation
        assert route.prices is not None
        assert type(route.pool.tiers[0]).__name__ == "RoundRobin"


def test_a_reload_keeps_the_state_of_views(rng: Random) -> None:
    """What was learnt for one kind of client before a reload is known after it, where a protocol changed too."""
    models = {"m": Model(pool=BOTH)}
    before = mixed(models)
    route = before.find("m", "anthropic")
    assert route is not None
    eject(route.pool.targets[0], NOW, rng)
    route.pool.retry.withdraw(1)
    moved = {"o": OPENAI, "a": Upstream(base_url=CLAUDE.base_url)}
    after = build(config(models, moved), NOW, before)
    assert after.find("m", "anthropic") is None
    seen = after.find("m", "openai")
    assert seen is not None
    assert [target.eligible(NOW, 0) for target in seen.pool.targets] == [True, False]
    assert seen.pool.retry.active == 1


def pinned(pins: Mapping[str, str], upstreams: Mapping[str, Upstream]) -> Config:
    settings = config({"m": serves("u")}, upstreams)
    return Config(upstreams=settings.upstreams, models=settings.models, pins=dict(pins))


def test_a_pin_is_one_upstream_with_all_its_credentials() -> None:
    """A pinned family is served by its upstream alone, whatever its protocol, under a label that is no model's."""
    upstreams = {"p": upstream("p", "A", "B"), "c": CLAUDE}
    built = build(pinned({"files": "p", "batches": "p", "skills": "c"}, upstreams), NOW, None)
    assert set(built.pins) == {"files", "batches", "skills"}
    for family, name, count in (("files", "p", 2), ("batches", "p", 2), ("skills", "c", 1)):
        route = built.pins[family]
        assert [target.upstream for target in route.pool.targets] == [built.upstreams[name]] * count
        assert (route.name, route.chain, route.prices) == (PINNED, (route,), None)
    assert built.find(PINNED) is None
    assert set(built.routes) == {"m"}


def test_a_pinned_upstream_is_not_draining() -> None:
    """Without a model of its own it still serves; without the pin it takes nothing new."""
    upstreams = {"p": upstream("p")}
    built = build(pinned({"files": "p"}, upstreams), NOW, None)
    assert not built.upstreams["p"].draining
    after = build(pinned({}, upstreams), NOW, built)
    assert after.upstreams["p"].draining
    assert after.pins == {}


def test_pins_of_one_upstream_share_its_health(rng: Random) -> None:
    """Two families at one upstream are out together, and a reload does not let them in again."""
    upstreams = {"p": upstream("p")}
    settings = pinned({"files": "p", "batches": "p"}, upstreams)
    built = build(settings, NOW, None)
    eject(built.pins["files"].pool.targets[0], NOW, rng)
    assert not built.pins["batches"].pool.targets[0].eligible(NOW, 0)
    assert not build(settings, NOW, built).pins["files"].pool.targets[0].eligible(NOW, 0)
