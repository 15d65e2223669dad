from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest

from router.config.schema import Seconds
from router.simulation.clients import LEFT, Call, Source
from router.simulation.engine import START_S, Engine
from router.simulation.scenario import Traffic
from router.simulation.tally import Tally


class Server:
    """Answers each request of a call with the next of these."""

    def __init__(self, engine: Engine, *answers: dict[str, Any]) -> None:
        self.engine = engine
        self.came: list[float] = []
        self._answers = answers

    def serve(self, call: Call) -> None:
        self.came.append(self.engine.now - START_S)
        call.heard(**self._answers[min(call.sent, len(self._answers)) - 1])


def source(*answers: dict[str, Any], duration_s: float = 60, **settings: Any) -> tuple[Source, Server, Tally]:
    engine = Engine()
    server, tally = Server(engine, *answers), Tally((), duration_s)
    traffic = Traffic(model="m", **({"rate": 1} | settings))
    return Source(traffic, duration_s, server, engine=engine, rng=Random(7), tally=tally), server, tally


def call(*answers: dict[str, Any], leaves_at: float = float("inf"), **settings: Any) -> tuple[list[float], Tally]:
    """When the requests of one call came, and what was counted."""
    origin, server, tally = source(*answers, **settings)
    Call(origin, leaves_at).send()
    origin.engine.run()
    return server.came, tally


FAILED = {"status": 503, "complete": False}
GOOD = {"status": 200, "complete": True}


def test_an_sdk_waits_longer_each_time() -> None:
    """0.5 s, then twice that, up to 8 s, each shortened by up to a quarter; after its retries it fails."""
    came, tally = call(FAILED, retries=6)
    waits = [later - earlier for earlier, later in pairwise(came)]
    assert len(waits) == 6
    for wait, full in zip(waits, (0.5, 1, 2, 4, 8, 8), strict=True):
        assert full * 0.75 <= wait <= full
    assert (tally.failed, tally.answered, tally.retried) == (1, 0, 6)


def test_a_retry_that_is_answered_is_an_answer() -> None:
    """The call counts once, however many requests it took."""
    came, tally = call(FAILED, GOOD)
    assert len(came) == 2
    assert (tally.failed, tally.answered) == (0, 1)


@pytest.mark.parametrize(("asked", "waited"), [(7.0, (7.0, 7.0)), (60.0, (60.0, 60.0)), (61.0, (0.375, 0.5))])
def test_an_sdk_does_what_retry_after_says(asked: float, waited: tuple[float, float]) -> None:
    """Up to a minute it waits as it was told; beyond that it goes by its own back-off."""
    came, _ = call(FAILED | {"retry_after_s": asked}, GOOD)
    assert waited[0] <= came[1] - came[0] <= waited[1]


@pytest.mark.parametrize(
    ("answer", "retried"),
    [
        ({"status": 400}, False), ({"status": 404}, False), ({"status": 408}, True), ({"status": 409}, True),
        ({"status": 429}, True), ({"status": 500}, True), ({"status": 529}, True), ({"status": LEFT}, True),
        ({"status": 502, "should_retry": False}, False), ({"status": 400, "should_retry": True}, True),
        ({"status": 502, "begun": True}, False),
    ],
)  # fmt: skip
def test_what_an_sdk_tries_again(answer: dict[str, Any], retried: bool) -> None:
    """By status, unless the answer says otherwise; never after some of the answer came."""
    came, _ = call({"complete": False} | answer, GOOD)
    assert len(came) == 1 + retried


def test_who_left_for_good_does_not_come_back() -> None:
    """Neither a retry nor a failure: somebody pressed stop."""
    came, tally = call(FAILED, leaves_at=START_S + 0.1)
    assert len(came) == 1
    assert (tally.abandoned, tally.failed) == (1, 0)


def test_clients_come_at_their_rate_and_in_their_time() -> None:
    """About as many as the rate says, at random moments, none before `start` or after `until`."""
    origin, server, tally = source(GOOD, rate=100, start=Seconds(10), until=Seconds(40))
    origin.start()
    origin.engine.run()
    assert 2800 < tally.calls == len(server.came) < 3200
    assert min(server.came) >= 10
    assert max(server.came) < 40
    assert len(set(server.came)) == tally.calls


def test_a_share_leaves_early() -> None:
    """So many of the calls are given a moment to leave at, within the time that is set."""
    origin, _, tally = source(FAILED, rate=100, leave=0.3, leave_within=Seconds(0.01))
    origin.start()
    origin.engine.run()
    assert 0.25 < tally.abandoned / tally.calls < 0.35
