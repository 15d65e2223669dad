"""Where an exchange may be tried next: the order of members, what is counted and budgeted, what the client hears."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.config.schema import Member, Model, Retry
from router.policy.catalogue import build
from router.policy.outcomes import VERDICTS, Cause
from router.policy.tries import NOT_SENT, Tries
from tests.policy.pools import NOW, answer, catalogue, config, eject, upstream

if TYPE_CHECKING:
    from random import Random

    from router.policy.catalogue import Route

RETRY = Retry(attempts=3, budget_min=2, budget_ratio=0.0)


def route(count: int) -> Route:
    made = catalogue(*(Member(upstream=f"u{number}", tier=number + 1) for number in range(count))).routes["m"]
    made.pool.retry.settings = RETRY
    return made


def fail(tries: Tries, cause: Cause, over: int, rng: Random) -> bool:
    """Fail at the member that is next; returns whether there may be another try."""
    choice = tries.pick(NOW, over, rng)
    assert choice is not None
    verdict = VERDICTS[cause]
    tries.failed(choice[1], verdict)
    return tries.may_go_on(verdict)


def next_name(tries: Tries, over: int, rng: Random) -> str:
    choice = tries.pick(NOW, over, rng)
    return choice[1].upstream.name if choice is not None else ""


def test_each_member_is_tried_before_one_is_tried_twice(rng: Random) -> None:
    """Tier by tier, and only when nobody else is left one that failed, as long as it may do better."""
    tries = Tries(route(2), Retry(attempts=5, budget_min=9), 0)
    names = []
    for over in range(3):
        names.append(next_name(tries, over, rng))
        assert fail(tries, Cause.HTTP_5XX, over, rng)
    assert names[:2] == ["u0", "u1"]
    assert names[2] in ("u0", "u1")


def test_a_client_error_is_not_tried_twice(rng: Random) -> None:
    """What is the request's own fault would fail everywhere."""
    tries = Tries(route(2), RETRY, 0)
    assert not fail(tries, Cause.REQUEST, 0, rng)


def test_a_member_that_lacks_the_model_is_not_asked_again(rng: Random) -> None:
    """Blame on nobody means that the next answer would be the same."""
    tries = Tries(route(1), RETRY, 0)
    assert fail(tries, Cause.MODEL_MISSING, 0, rng)
    assert next_name(tries, 1, rng) == ""


def test_attempts_are_counted(rng: Random) -> None:
    """After so many that reached an upstream there is no other, whoever is left."""
    tries = Tries(route(5), RETRY, 0)
    assert [fail(tries, Cause.HTTP_5XX, over, rng) for over in range(3)] == [True, True, False]


@pytest.mark.parametrize("cause", sorted(NOT_SENT))
def test_what_was_not_sent_costs_nothing(rng: Random, cause: Cause) -> None:
    """Every member may be tried, whatever the attempts and the budget."""
    made = route(5)
    tries = Tries(made, Retry(attempts=1, budget_min=0, budget_ratio=0.0), 0)
    assert all(fail(tries, cause, over, rng) for over in range(5))
    assert made.pool.retry.active == 0


def failing(made: Route, rng: Random) -> Route:
    """Every member has just failed."""
    for target in made.pool.targets:
        answer(target, Cause.HTTP_5XX, NOW, rng)
    return made


def test_one_retry_is_budgeted_once_and_given_back(rng: Random) -> None:
    """However often an exchange tries again it holds one place of the budget, until its end."""
    made = failing(route(3), rng)
    tries = Tries(made, RETRY, 0)
    assert fail(tries, Cause.HTTP_5XX, 0, rng)
    assert fail(tries, Cause.HTTP_5XX, 1, rng)
    assert next_name(tries, 2, rng) == "u2"
    assert made.pool.retry.active == 1
    tries.end()
    tries.end()
    assert made.pool.retry.active == 0


def test_an_empty_budget_ends_it_but_not_for_what_broke(rng: Random) -> None:
    """With others retrying already there is no leave for another, except to move what a dying upstream dropped."""
    made = failing(route(3), rng)
    assert made.pool.retry.withdraw(0)
    assert made.pool.retry.withdraw(0)
    for cause, expected in ((Cause.HTTP_5XX, ""), (Cause.TRUNCATED, "u1")):
        tries = Tries(made, RETRY, 0)
        assert fail(tries, cause, 0, rng)
        assert next_name(tries, 1, rng) == expected
        assert tries.held_back is (expected == "")


def test_a_sound_member_needs_no_leave(rng: Random) -> None:
    """Whatever the budget, one whose last request did well is tried, in any tier; one that failed is passed over."""
    made = failing(route(3), rng)
    answer(made.pool.targets[2], Cause.OK, NOW, rng)
    assert made.pool.retry.withdraw(0)
    assert made.pool.retry.withdraw(0)
    tries = Tries(made, RETRY, 0)
    assert fail(tries, Cause.HTTP_5XX, 0, rng)
    assert next_name(tries, 1, rng) == "u2"
    assert made.pool.retry.active == 2


def test_what_is_bound_needs_leave_too(rng: Random) -> None:
    """A request that can go to one member only is not sent to another for want of budget."""
    made = failing(route(2), rng)
    only = made.pool.at("u1")
    tries = Tries(made, Retry(attempts=3, budget_min=0, budget_ratio=0.0), 0, only)
    made.pool.retry.settings = Retry(budget_min=0, budget_ratio=0.0)
    assert fail(tries, Cause.HTTP_5XX, 0, rng)
    assert next_name(tries, 1, rng) == ""


def test_what_may_have_been_done_is_not_done_again(rng: Random) -> None:
    """A request that must not be repeated is tried elsewhere only if nothing reached the upstream."""
    tries = Tries(route(2), RETRY, 0)
    choice = tries.pick(NOW, 0, rng)
    assert choice is not None
    tries.failed(choice[1], VERDICTS[Cause.CLOSED])
    assert not tries.may_go_on(VERDICTS[Cause.CLOSED], repeatable=False)
    assert tries.may_go_on(VERDICTS[Cause.CONNECT], repeatable=False)


def test_the_client_hears_of_the_weightiest_failure(rng: Random) -> None:
    """A failure outweighs a limit, a limit a member that could not take the request; of equals the last is told."""
    tries = Tries(route(9), RETRY, 0)
    first, last = (Cause.UNTRANSLATABLE, Cause.RATE_LIMITED, Cause.HTTP_5XX), (Cause.RATE_LIMITED, Cause.UNTRANSLATABLE)
    causes = (*first, *last, Cause.CLOSED)
    told = []
    for over, cause in enumerate(causes):
        choice = tries.pick(NOW, 0, rng)
        assert choice is not None, over
        told.append(tries.failed(choice[1], VERDICTS[cause]))
    assert told == [True, True, True, False, False, True]


def test_another_credential_may_help_where_one_is_limited(rng: Random) -> None:
    """After a 429 the upstream's other credential is tried; after a 500 the upstream is avoided."""
    model = Model(pool=(Member(upstream="u0"), Member(upstream="u1", tier=2)))
    for cause, expected in ((Cause.RATE_LIMITED, "u0"), (Cause.HTTP_5XX, "u1")):
        made = build(config({"m": model}, {"u0": upstream("u0", "A", "B")}), NOW, None).routes["m"]
        tries = Tries(made, RETRY, 0)
        assert next_name(tries, 0, rng) == "u0"
        assert fail(tries, cause, 0, rng)
        assert next_name(tries, 1, rng) == expected


def test_what_is_bound_goes_nowhere_else(rng: Random) -> None:
    """The one member is tried again while it may do better, and nobody when it is out."""
    made = route(2)
    only = made.pool.at("u1")
    assert only is not None
    tries = Tries(made, RETRY, 0, only)
    assert next_name(tries, 0, rng) == "u1"
    assert fail(tries, Cause.HTTP_5XX, 0, rng)
    assert next_name(tries, 1, rng) == "u1"
    assert next_name(tries, 3, rng) == ""
    eject(only, NOW, rng)
    assert next_name(Tries(made, RETRY, 0, only), 0, rng) == ""
