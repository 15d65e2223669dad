from __future__ import annotations

from typing import TYPE_CHECKING

from router.config.schema import Retry
from router.policy.retry import RetryBudget, backoff

if TYPE_CHECKING:
    from random import Random


def test_three_retries_are_always_allowed() -> None:
    """With nothing else in flight three retries may be under way, a fourth may not until one ends."""
    budget = RetryBudget(Retry())
    assert [budget.withdraw(1) for _ in range(4)] == [True, True, True, False]
    budget.deposit()
    assert budget.withdraw(1)


def test_under_load_a_fifth_may_be_retries() -> None:
    """Of a hundred requests in flight twenty may be retries."""
    budget = RetryBudget(Retry())
    assert sum(budget.withdraw(100) for _ in range(100)) == 20
    assert budget.active == 20


def test_a_budget_of_nothing_allows_nothing() -> None:
    """Retries can be turned off."""
    assert not RetryBudget(Retry(budget_min=0, budget_ratio=0.0)).withdraw(1000)


def test_back_off_is_random_between_25_and_250_ms(rng: Random) -> None:
    """The upper end doubles with each retry up to 250 ms, whatever the number."""
    for n, upper in ((1, 0.05), (2, 0.1), (3, 0.2), (4, 0.25), (10**6, 0.25)):
        waits = [backoff(n, rng) for _ in range(300)]
        assert 0.025 <= min(waits) < 0.035
        assert 0.9 * upper < max(waits) <= upper
