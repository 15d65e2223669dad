"""Every promise is broken once, by hand, to see that it is noticed."""

from __future__ import annotations

from random import Random

import pytest

from router.config.schema import Count, Key, Limits, Member, Secret, Upstream
from router.policy.tries import Tries
from router.simulation.audit import TOLD_MAX, Audit
from router.simulation.clients import Call, Source
from router.simulation.engine import Engine
from router.simulation.exchange import Exchange
from router.simulation.gateway import Gateway
from router.simulation.scenario import Behaviour, Traffic
from router.simulation.tally import Tally
from router.simulation.upstreams import SimulatedUpstream

from .scenes import config

LIMITS = Limits(requests_per_minute=Count(6), tokens_per_minute=Count(1000), concurrency=Count(1))


class World:
    """One upstream with limits, one key with the same, one exchange that has not begun."""

    def __init__(self) -> None:
        engine, self.audit = Engine(), Audit()
        upstream = {"u": Upstream(base_url="http://u.test/v1", limits=LIMITS)}
        key = {"k": Key(secret=Secret(sha256="0" * 64), limits=LIMITS)}
        tally = Tally(upstream, 60)
        simulated = {"u": SimulatedUpstream("u", Behaviour(), engine, Random(1))}
        settings = config(Member(upstream="u"), upstreams=upstream, keys=key)
        self.gateway = Gateway(settings, simulated, engine=engine, rng=Random(2), tally=tally, audit=self.audit)
        source = Source(
            Traffic(model="m", rate=1, key="k"), 60, self.gateway, engine=engine, rng=Random(3), tally=tally
        )
        self.exchange = Exchange(self.gateway, Call(source, float("inf")))
        self.exchange.route = self.gateway.catalogue.routes["m"]
        (self.target,) = self.exchange.route.pool.targets
        self.now = engine.now

    def told(self) -> str:
        self.audit.at_rest(self.gateway)
        return "\n".join(self.audit.broken)


@pytest.fixture
def world() -> World:
    return World()


def test_a_world_in_which_nothing_happened_is_in_order(world: World) -> None:
    """What is checked at rest holds at the beginning."""
    assert world.told() == ""
    assert world.audit.count == 0


def test_a_lease_that_is_not_given_back_is_told(world: World) -> None:
    """As are the slot and the tokens it holds at the upstream's own limits."""
    world.target.begin(world.now, 10)
    assert "u has 1 leases that nobody holds" in world.told()
    assert "u still has <Limiter: 1 in flight, 10 tokens reserved>" in world.told()


def test_a_request_without_an_end_or_with_two_is_told(world: World) -> None:
    """One record for each, no more and no less."""
    world.audit.exchange_begins()
    assert "1 requests never ended" in world.told()
    world.exchange.settled = True
    world.audit.exchange_ends(world.exchange, None, 0, world.now)
    assert "ends a second time" in world.told()


def test_an_end_during_an_attempt_is_told(world: World) -> None:
    """Nothing may be under way for a request that is over."""
    world.exchange.target = world.target
    world.audit.exchange_ends(world.exchange, None, 0, world.now)
    assert "ends while an attempt is under way" in world.told()


def test_an_attempt_after_the_commit_is_told(world: World) -> None:
    """No answer may be mixed of two."""
    world.exchange.content_at = world.now
    world.audit.attempt_begins(world.exchange, world.target, world.now)
    assert "though its client has content" in world.told()


def test_an_upstream_above_its_limit_is_told(world: World) -> None:
    """More in flight than its concurrency."""
    for _ in range(2):
        world.target.begin(world.now, 0)
        world.audit.attempt_begins(world.exchange, world.target, world.now)
    assert "u has 2 in flight, its limit is 1" in world.told()


def test_traffic_to_a_drained_member_is_told(world: World) -> None:
    """Weight 0 takes nothing new."""
    world.target.weight = 0.0
    world.audit.attempt_begins(world.exchange, world.target, world.now)
    assert "is drained, and was sent a request" in world.told()


def test_turning_away_while_a_member_is_eligible_is_told(world: World) -> None:
    """A client sees an error only if nobody is left to try."""
    assert world.exchange.route is not None
    world.audit.nobody_left(world.exchange, world.exchange.route.chain, world.gateway, world.now)
    assert "was eligible" in world.told()


def test_turning_away_while_a_member_has_never_failed_is_told(world: World) -> None:
    """A breaker that opens without a reason is seen, also when the picker agrees with it."""
    assert world.exchange.route is not None
    world.target.breaker.open_until = world.now + 60
    world.audit.nobody_left(world.exchange, world.exchange.route.chain, world.gateway, world.now)
    assert "has never failed" in world.told()
    assert "was eligible" not in world.told()


def test_turning_away_in_order_is_not_told(world: World) -> None:
    """Members that were tried, or are full, may be passed over."""
    assert world.exchange.route is not None
    tries = world.exchange.tries = Tries(world.exchange.route, world.gateway.config.defaults.retry, 0)
    tries.tried = (world.target,)
    world.audit.nobody_left(world.exchange, world.exchange.route.chain, world.gateway, world.now)
    tries.tried = ()
    lease = world.target.begin(world.now, 0)
    world.audit.nobody_left(world.exchange, world.exchange.route.chain, world.gateway, world.now)
    lease.end(world.now, 0)
    assert world.told() == ""


def test_retries_and_probations_that_stay_counted_are_told(world: World) -> None:
    """Both would keep others out for ever."""
    assert world.exchange.route is not None
    world.exchange.route.pool.retry.active = 2
    world.target.breaker.trials = 1
    assert "m counts 2 retries that are over" in world.told()
    assert "u/m waits for 1 probation requests that are over" in world.told()


def test_limits_that_let_too_much_through_are_told(world: World) -> None:
    """The burst, and what has come back since: requests and tokens, of keys and of upstreams."""
    for _ in range(3):
        world.exchange.reserved = 600
        world.audit.exchange_begins()
        world.audit.exchange_ends(world.exchange, "k", 600, world.now)
        world.audit.attempt_ended(world.target, 600, 600)
    for name in ("u", "key k"):
        assert f"{name} let 3 requests through in 0.00 minutes" in world.told()
        assert f"{name} let 1800 tokens through in 0.00 minutes" in world.told()


def test_tokens_beyond_the_reservation_may_be_owed(world: World) -> None:
    """What was guessed too low is no fault of the limit: it delays the next request."""
    world.audit.attempt_ended(world.target, 1, 5000)
    assert "tokens through" not in world.told()


def test_somebody_left_behind_at_an_upstream_is_told(world: World) -> None:
    """An attempt whose end the upstream has not seen."""
    world.gateway.upstreams["u"].serving[world.exchange] = None
    assert "serves 1, 0 wait>, but nobody is there any more" in world.told()


def test_not_everything_is_told(world: World) -> None:
    """The first are told, all are counted."""
    world.exchange.target = world.target
    for _ in range(TOLD_MAX + 5):
        world.audit.exchange_ends(world.exchange, None, 0, world.now)
    assert (len(world.audit.broken), world.audit.count) == (TOLD_MAX, TOLD_MAX + 5)
    assert world.audit.broken[0].startswith("at 0.000 s: <Exchange of ")
