from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.config.schema import Count, Ejection, Limits, Member, Model
from router.events import UpstreamCooled, UpstreamEjected, UpstreamRestored
from router.policy.catalogue import build
from router.policy.outcomes import VERDICTS, Cause

from .pools import NOW, answer, catalogue, config, eject, pool, upstream

if TYPE_CHECKING:
    from random import Random

    from router.policy.target import Target

OK = VERDICTS[Cause.OK]


@pytest.fixture
def target() -> Target:
    return pool(Member(upstream="u", model="their-m")).targets[0]


def siblings() -> tuple[Target, Target]:
    """Two models at one upstream."""
    routes = build(
        config({"a": Model(pool=(Member(upstream="u"),)), "b": Model(pool=(Member(upstream="u"),))}), NOW, None
    ).routes
    return routes["a"].pool.targets[0], routes["b"].pool.targets[0]


def test_a_lease_is_in_flight_until_it_ends_once(target: Target) -> None:
    """However often the end is said, one lease takes and gives back one slot."""
    lease = target.begin(NOW, 10)
    assert target.upstream.in_flight == 1
    for _ in range(3):
        lease.end(NOW, None)
    assert target.upstream.in_flight == 0


def test_a_full_upstream_is_not_eligible() -> None:
    """Its own limits count leases, requests and tokens, and a failed attempt gives its tokens back."""
    limits = Limits(concurrency=Count(1), tokens_per_minute=Count(1000))
    target = pool(Member(upstream="u"), upstreams={"u": upstream("u", limits=limits)}).targets[0]
    lease = target.begin(NOW, 900)
    assert not target.eligible(NOW, 0)
    lease.end(NOW, 0)
    assert target.eligible(NOW, 1000)
    target.begin(NOW, 900).end(NOW, None)
    assert target.eligible(NOW, 100)
    assert not target.eligible(NOW, 101)


def test_a_failing_model_does_not_take_its_siblings_out(target: Target, rng: Random) -> None:
    """Failures that came with an answer eject the model there, by name, and not the host."""
    a, b = siblings()
    changes = [answer(a, Cause.HTTP_5XX, NOW, rng) for _ in range(5)]
    assert changes[:4] == [()] * 4
    (ejected,) = changes[4]
    assert isinstance(ejected, UpstreamEjected)
    assert (ejected.upstream, ejected.model, ejected.reason) == ("u", "a", "consecutive")
    assert not a.eligible(NOW, 0)
    assert b.eligible(NOW, 0)
    eject(target, NOW, rng)
    assert target.breaker.state(NOW) == "open"


def test_a_host_that_cannot_be_reached_is_out_for_all_models(rng: Random) -> None:
    """Failures to connect eject the whole upstream, whatever model they came with."""
    a, b = siblings()
    changes = [answer(target, Cause.CONNECT, NOW, rng) for target in (a, b, a, b, a)]
    (ejected,) = changes[-1]
    assert isinstance(ejected, UpstreamEjected)
    assert (ejected.upstream, ejected.model) == ("u", "")
    assert not a.eligible(NOW, 0)
    assert not b.eligible(NOW, 0)


def test_any_answer_proves_the_host(rng: Random) -> None:
    """A 500 restores an upstream that could not be reached, though it blames the model."""
    a, _ = siblings()
    eject(a, NOW, rng, Cause.CONNECT)
    now = a.upstream.breaker.open_until
    assert answer(a, Cause.HTTP_5XX, now, rng) == (UpstreamRestored("u", ""),)


@pytest.mark.parametrize(
    "cause", [Cause.CLOSED, Cause.FIRST_BYTE, Cause.STALE, Cause.PACE, Cause.SCARCE, Cause.CLIENT_GONE]
)
def test_silence_proves_nothing_about_the_host(rng: Random, cause: Cause) -> None:
    """Without an answer the host stays on probation, and the next request may try."""
    a, b = siblings()
    eject(a, NOW, rng, Cause.CONNECT)
    now = a.upstream.breaker.open_until
    assert answer(a, cause, now, rng) == ()
    assert a.upstream.breaker.state(now) == "half_open"
    assert b.eligible(now, 0)


def test_one_probation_request_for_the_host(rng: Random) -> None:
    """While one model's request tries the host, no other model's does."""
    a, b = siblings()
    eject(a, NOW, rng, Cause.CONNECT)
    now = a.upstream.breaker.open_until
    lease = a.begin(now, 0)
    assert not a.eligible(now, 0)
    assert not b.eligible(now, 0)
    assert lease.note(OK, now, None, rng) == (UpstreamRestored("u", ""),)
    assert b.eligible(now, 0)
    lease.end(now, 0)


def test_a_client_that_leaves_gives_no_verdict(target: Target, rng: Random) -> None:
    """The probation's place is free again, by verdict or by mere end, and nothing is restored."""
    eject(target, NOW, rng)
    now = target.breaker.open_until
    lease = target.begin(now, 0)
    assert lease.note(VERDICTS[Cause.CLIENT_GONE], now, None, rng) == ()
    assert target.eligible(now, 0)
    lease.end(now, None)
    target.begin(now, 0).end(now, None)
    assert target.eligible(now, 0)
    assert target.breaker.state(now) == "half_open"
    assert target.breaker.trials == 0


def test_first_content_ends_a_probation(target: Target, rng: Random) -> None:
    """A long stream restores at its first content; its end, good or bad, is still judged."""
    eject(target, NOW, rng)
    now = target.breaker.open_until
    lease = target.begin(now, 0)
    assert lease.prove(now) == (UpstreamRestored("u", "their-m"),)
    assert lease.prove(now) == ()
    assert target.eligible(now, 0)
    assert lease.note(VERDICTS[Cause.TRUNCATED], now + 60, None, rng) == ()
    lease.end(now + 60, None)
    assert [bool(answer(target, Cause.TRUNCATED, now + 60, rng)) for _ in range(4)] == [False, False, False, True]


def test_streams_that_are_always_cut_eject(target: Target, rng: Random) -> None:
    """First content is no success: five streams cut after it are five failures in a row."""
    for cut in range(5):
        lease = target.begin(NOW, 0)
        lease.prove(NOW)
        changes = lease.note(VERDICTS[Cause.TRUNCATED], NOW, None, rng)
        lease.end(NOW, None)
        assert bool(changes) == (cut == 4)


def test_only_the_first_verdict_counts(target: Target, rng: Random) -> None:
    """One attempt is one outcome."""
    lease = target.begin(NOW, 0)
    for _ in range(20):
        assert lease.note(VERDICTS[Cause.HTTP_5XX], NOW, None, rng) == ()
    assert target.eligible(NOW, 0)


def test_a_429_cools_one_credential_and_model(rng: Random) -> None:
    """The other credential stays eligible; the event names which one is out and for how long."""
    first, second = pool(Member(upstream="u"), upstreams={"u": upstream("u", "ONE", "TWO")}).targets
    (cooled,) = answer(second, Cause.RATE_LIMITED, NOW, rng, 7.0)
    assert isinstance(cooled, UpstreamCooled)
    assert (cooled.upstream, cooled.credential, cooled.model, cooled.reason) == ("u", 1, "m", "rate_limit")
    assert 7.0 <= cooled.for_s <= 8.4
    assert not second.eligible(NOW, 0)
    assert second.eligible(NOW + cooled.for_s, 0)
    assert first.eligible(NOW, 0)


def test_a_burst_of_429_is_told_once(target: Target, rng: Random) -> None:
    """Requests sent together that are all refused make one event, a worse reason another."""
    leases = [target.begin(NOW, 0) for _ in range(9)]
    told = [lease.note(VERDICTS[Cause.RATE_LIMITED], NOW, None, rng) for lease in leases[:8]]
    assert [len(changes) for changes in told] == [1] + [0] * 7
    (cooled,) = leases[8].note(VERDICTS[Cause.QUOTA], NOW, None, rng)
    assert isinstance(cooled, UpstreamCooled)
    assert (cooled.reason, cooled.for_s) == ("quota", 600.0)


def test_what_was_sent_in_spite_of_a_cooldown_may_end_it(target: Target, rng: Random) -> None:
    """The last resort's success ends a cooldown, an older request's does not."""
    old = target.begin(NOW, 0)
    answer(target, Cause.RATE_LIMITED, NOW, rng, 60.0)
    old.note(OK, NOW, None, rng)
    assert not target.eligible(NOW, 0)
    answer(target, Cause.OK, NOW, rng)
    assert target.eligible(NOW, 0)


def test_a_refused_credential_is_out_after_three(target: Target, rng: Random) -> None:
    """401 three times in a row cools for a minute and never ejects."""
    told = [answer(target, Cause.AUTH, NOW, rng) for _ in range(3)]
    assert told[:2] == [(), ()]
    (cooled,) = told[2]
    assert isinstance(cooled, UpstreamCooled)
    assert (cooled.reason, cooled.for_s) == ("misconfigured", 60.0)
    assert target.breaker.state(NOW) == "closed"


def test_a_wrong_name_under_a_pattern_harms_nobody(rng: Random) -> None:
    """A client that asks for models that do not exist takes a pattern away from no one; a promised model may be out."""
    routes = build(config({"x-*": Model(pool=(Member(upstream="u"),))}), NOW, None).routes
    target = routes["x-*"].pool.targets[0]
    assert target.model is None
    for _ in range(50):
        assert answer(target, Cause.MODEL_MISSING, NOW, rng) == ()
    assert target.eligible(NOW, 0)
    promised = pool(Member(upstream="u")).targets[0]
    assert [len(answer(promised, Cause.MODEL_MISSING, NOW, rng)) for _ in range(3)] == [0, 0, 1]


def test_the_gauge_shows_the_worst_that_holds_for_all(rng: Random) -> None:
    """Healthy, cooling, ejected, half open and draining are told apart."""
    built = catalogue(Member(upstream="u"), Member(upstream="idle", weight=0.0))
    state, target = built.upstreams["u"], built.routes["m"].pool.targets[0]
    assert state.backend_state(NOW) == "healthy"
    assert built.upstreams["idle"].backend_state(NOW) == "draining"
    answer(target, Cause.RATE_LIMITED, NOW, rng, 5.0)
    assert state.backend_state(NOW) == "cooling"
    eject(target, NOW, rng)
    assert state.backend_state(NOW) == "ejected"
    assert state.backend_state(target.breaker.open_until) == "half_open"
    answer(target, Cause.OK, target.breaker.open_until, rng)
    assert state.backend_state(NOW + 100) == "healthy"
    eject(target, NOW, rng, Cause.DNS)
    assert state.backend_state(NOW) == "ejected"


def test_a_new_limit_counts_the_leases_that_are_held() -> None:
    """An upstream that gets a limit while it streams is full at once if it is, and empty when they end."""
    target = pool(Member(upstream="u")).targets[0]
    leases = [target.begin(NOW, 100) for _ in range(2)]
    settings = upstream("u", limits=Limits(concurrency=Count(2), tokens_per_minute=Count(1000)))
    target.upstream.reconfigure(settings, Ejection(), NOW)
    assert not target.eligible(NOW, 0)
    for lease in leases:
        lease.end(NOW, 50)
    assert target.upstream.limiter is not None
    assert target.upstream.limiter.in_flight == 0
    assert target.eligible(NOW, 900)
    assert not target.eligible(NOW, 901)
