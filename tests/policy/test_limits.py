from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from router.config.schema import Count, Limits
from router.policy.limits import Correction, Gcra, Limiter, TokenBucket, estimate_tokens

NOW = 1_000_000.0


def limits(
    requests: int | None = None, tokens: int | None = None, concurrency: int | None = None, burst: int | None = None
) -> Limits:
    return Limits(
        requests_per_minute=None if requests is None else Count(requests),
        tokens_per_minute=None if tokens is None else Count(tokens),
        concurrency=None if concurrency is None else Count(concurrency),
        request_burst=None if burst is None else Count(burst),
    )


@pytest.mark.parametrize(("per_minute", "burst"), [(60, 10), (600, 100), (1, 1), (7, 3), (1_000_000, 166_666)])
def test_gcra_lets_a_burst_through_then_its_rate(per_minute: int, burst: int) -> None:
    """Exactly the burst at once, then one request per interval, and it says when."""
    gcra = Gcra(per_minute, burst)
    for left in range(burst, 0, -1 if burst < 1000 else -burst):
        assert gcra.remaining(NOW) == left
        assert gcra.wait(NOW) == 0.0
        gcra.take(NOW)
    if burst < 1000:
        assert gcra.remaining(NOW) == 0
        assert gcra.wait(NOW) == pytest.approx(60 / per_minute, rel=1e-4)
        assert gcra.wait(NOW + 60 / per_minute) == 0.0
        assert gcra.reset_s(NOW) == pytest.approx(60 / per_minute * burst, rel=1e-4)


def test_gcra_admits_a_minutes_worth_a_minute() -> None:
    """However often it is asked, it admits the rate and one burst."""
    gcra, admitted = Gcra(60, 10), 0
    for tenth in range(6000):
        now = NOW + tenth / 10
        if not gcra.wait(now):
            gcra.take(now)
            admitted += 1
    assert 600 + 9 <= admitted <= 600 + 10


def test_a_bucket_holds_a_minute_and_refills_in_one() -> None:
    """A minute's worth may go at once; the wait for more is exact."""
    bucket = TokenBucket(6000)
    bucket.reserve(NOW, 6000)
    assert bucket.remaining(NOW) == 0
    assert bucket.wait(NOW, 600) == pytest.approx(6.0)
    assert bucket.wait(NOW + 6.0, 600) == 0.0
    assert bucket.reset_s(NOW) == pytest.approx(60.0)
    assert bucket.level(NOW + 3600) == 6000


def test_debt_delays_the_next_request() -> None:
    """Usage above the reservation is charged below zero and has to be paid off first."""
    bucket = TokenBucket(6000)
    bucket.reserve(NOW, 6000)
    bucket.settle(NOW, 6000, 9000)
    assert bucket.level(NOW) == pytest.approx(-3000)
    assert bucket.remaining(NOW) == 0
    assert bucket.wait(NOW, 0) == pytest.approx(30.0)


def test_a_refund_never_overfills() -> None:
    """What has flowed back in the meantime is not given twice."""
    bucket = TokenBucket(6000)
    bucket.reserve(NOW, 3000)
    bucket.settle(NOW + 29.0, 3000, 0)
    assert bucket.level(NOW + 29.0) == 6000
    bucket.reserve(NOW + 29.0, 6000)
    assert bucket.wait(NOW + 29.0, 1) > 0


def test_absurd_usage_locks_out_for_ten_minutes_at_most() -> None:
    """An upstream that reports 10^12 tokens does not take a key away for ever."""
    bucket = TokenBucket(6000)
    bucket.settle(NOW, 0, 10**12)
    assert bucket.wait(NOW, 0) <= 600.0


def test_a_refusal_names_the_limit_and_when_to_come_back() -> None:
    """Each of the three limits is named with its value, what was asked and a wait."""
    limiter = Limiter(limits(requests=60, burst=1), NOW)
    limiter.take(NOW, 5)
    refusal = limiter.refusal(NOW, 5)
    assert refusal is not None
    assert (refusal.limit, refusal.never, refusal.limit_value, refusal.asked) == ("requests", False, 60, 1)
    assert refusal.retry_after_s == pytest.approx(1.0, rel=1e-3)

    limiter = Limiter(limits(tokens=600), NOW)
    limiter.take(NOW, 600)
    refusal = limiter.refusal(NOW, 100)
    assert refusal is not None
    assert (refusal.limit, refusal.never, refusal.limit_value, refusal.asked) == ("tokens", False, 600, 100)
    assert refusal.retry_after_s == pytest.approx(10.0)

    limiter = Limiter(limits(concurrency=1), NOW)
    limiter.take(NOW, 5)
    assert limiter.refusal(NOW, 5) == ("concurrency", 1.0, False, 1, 2)


def test_of_several_refusals_the_longest_wait_is_named() -> None:
    """Coming back then is worth it; what can never fit is named before all."""
    limiter = Limiter(limits(requests=1, tokens=600, concurrency=1), NOW)
    limiter.take(NOW, 600)
    refusal = limiter.refusal(NOW, 10)
    assert refusal is not None
    assert refusal.limit == "requests"
    refusal = limiter.refusal(NOW, 601)
    assert refusal is not None
    assert (refusal.limit, refusal.never) == ("tokens", True)


def test_more_than_the_limit_can_never_fit() -> None:
    """Such a request is refused even by a full bucket; one of exactly the limit is not."""
    limiter = Limiter(limits(tokens=600), NOW)
    refusal = limiter.refusal(NOW, 601)
    assert refusal is not None
    assert (refusal.never, refusal.limit_value, refusal.asked) == (True, 600, 601)
    assert limiter.refusal(NOW, 600) is None


def test_a_refusal_takes_nothing() -> None:
    """Asking changes no limit, however often."""
    limiter = Limiter(limits(requests=60, tokens=600, concurrency=1), NOW)
    before = limiter.snapshot(NOW)
    for _ in range(100):
        limiter.refusal(NOW, 10_000)
        limiter.refusal(NOW, 10)
    assert limiter.snapshot(NOW) == before
    assert limiter.in_flight == 0


def test_settling_frees_the_slot_and_charges_what_was_used() -> None:
    """Known usage replaces the reservation, unknown usage leaves it."""
    limiter = Limiter(limits(tokens=6000, concurrency=2), NOW)
    limiter.take(NOW, 1000)
    limiter.take(NOW, 1000)
    limiter.settle(NOW, 1000, 300)
    limiter.settle(NOW, 1000, None)
    assert limiter.in_flight == 0
    assert limiter.snapshot(NOW).remaining_tokens == 4700


def test_the_snapshot_says_what_headers_say() -> None:
    """Limit, remaining and reset of both rates; None where nothing is limited."""
    limiter = Limiter(limits(requests=600, tokens=6000), NOW)
    limiter.take(NOW, 1500)
    assert limiter.snapshot(NOW) == pytest.approx((600, 99, 0.1, 6000, 4500, 15.0), rel=1e-4)
    assert Limiter(Limits(), NOW).snapshot(NOW) == (None,) * 6


def test_nothing_limited_refuses_nothing() -> None:
    """Without limits everything fits, and is still counted."""
    limiter = Limiter(Limits(), NOW)
    for _ in range(1000):
        assert limiter.refusal(NOW, 10**12) is None
        limiter.take(NOW, 10**12)
    assert limiter.in_flight == 1000


def test_a_lowered_limit_applies_at_once_and_in_proportion() -> None:
    """Half used stays half used; who is in flight stays counted."""
    limiter = Limiter(limits(requests=600, tokens=6000, concurrency=10, burst=100), NOW)
    for _ in range(5):
        limiter.take(NOW, 600)
    for _ in range(45):
        limiter.take(NOW, 0)
        limiter.settle(NOW, 0, 0)
    limiter.reconfigure(limits(requests=60, tokens=600, concurrency=5, burst=10), NOW)
    state = limiter.snapshot(NOW)
    assert (state.remaining_requests, state.remaining_tokens) == (5, 300)
    refusal = limiter.refusal(NOW, 1)
    assert refusal is not None
    assert refusal.limit == "concurrency"


def test_a_new_token_limit_is_charged_what_is_in_flight() -> None:
    """So that settling what was taken before refunds nothing that was never taken."""
    limiter = Limiter(limits(concurrency=10), NOW)
    limiter.take(NOW, 1000)
    limiter.reconfigure(limits(tokens=6000), NOW)
    assert limiter.snapshot(NOW).remaining_tokens == 5000
    limiter.settle(NOW, 1000, 400)
    assert limiter.snapshot(NOW).remaining_tokens == 5600
    limiter.reconfigure(Limits(), NOW)
    assert limiter.snapshot(NOW) == (None,) * 6


class LimiterModel(RuleBasedStateMachine):
    """A limiter beside the books an honest clerk would keep."""

    CAPACITY = 6000
    SLOTS = 4
    BURST = 5

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.limiter = Limiter(limits(requests=60, tokens=self.CAPACITY, concurrency=self.SLOTS, burst=self.BURST), NOW)
        self.open: list[int] = []
        self.level = float(self.CAPACITY)
        self.reserved = self.settled = self.refunded = 0

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.level = min(self.CAPACITY, self.level + seconds * self.CAPACITY / 60)

    @rule(seconds=st.floats(0.0, 30.0))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule(tokens=st.integers(0, 7000))
    def ask(self, tokens: int) -> None:
        refusal = self.limiter.refusal(self.now, tokens)
        if refusal is None:
            assert tokens <= self.level + 0.01
            assert len(self.open) < self.SLOTS
            self.limiter.take(self.now, tokens)
            self.open.append(tokens)
            self.level -= tokens
            self.reserved += tokens
        elif refusal.never:
            assert tokens > self.CAPACITY
        elif refusal.limit != "concurrency" and len(self.open) < self.SLOTS:
            # The wait is honest: then the same request fits, and not before, as far as clocks tell such times apart.
            self.pass_time(refusal.retry_after_s * 0.99)
            assert self.limiter.refusal(self.now, tokens) is not None or refusal.retry_after_s < 1e-4
            self.pass_time(refusal.retry_after_s * 0.01 + 1e-5)
            assert self.limiter.refusal(self.now, tokens) is None

    @precondition(lambda self: self.open)
    @rule(index=st.integers(0, 3), used=st.none() | st.integers(0, 9000))
    def settle(self, index: int, used: int | None) -> None:
        tokens = self.open.pop(index % len(self.open))
        self.limiter.settle(self.now, tokens, used)
        charged = tokens if used is None else used
        self.settled += charged
        self.refunded += tokens - charged
        self.level = min(self.CAPACITY, self.level + tokens - charged)

    @invariant()
    def the_books_agree(self) -> None:
        assert self.limiter.in_flight == len(self.open)
        assert self.limiter.reserved == sum(self.open)
        assert self.reserved == self.settled + self.refunded + sum(self.open)
        state = self.limiter.snapshot(self.now)
        assert state.remaining_tokens is not None
        assert state.remaining_requests is not None
        assert abs(state.remaining_tokens - max(0.0, self.level)) <= 1.01
        assert 0 <= state.remaining_requests <= self.BURST

    def teardown(self) -> None:
        for tokens in self.open:
            self.limiter.settle(self.now, tokens, None)
        assert (self.limiter.in_flight, self.limiter.reserved) == (0, 0)


def test_the_limiter_keeps_exact_books() -> None:
    """Whatever is asked and settled in whatever order, reserved = settled + refunded, and nothing leaks."""
    run_state_machine_as_test(LimiterModel, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))


def test_usage_is_charged_as_it_comes() -> None:
    """What a long exchange uses counts at once, on top of what others reserve, and is not charged again at its end."""
    limiter = Limiter(limits(tokens=600, concurrency=1), NOW)
    limiter.take(NOW, 0)
    limiter.charge(NOW, 500)
    assert limiter.tokens is not None
    assert limiter.tokens.remaining(NOW) == 100
    assert limiter.overdrawn(NOW) is None
    limiter.charge(NOW, 160)
    refusal = limiter.overdrawn(NOW)
    assert refusal is not None
    assert (refusal.limit, refusal.never) == ("tokens", False)
    assert refusal.retry_after_s == pytest.approx(6)
    assert limiter.overdrawn(NOW + 6.001) is None
    limiter.settle(NOW, 0, None)
    assert (limiter.in_flight, limiter.reserved) == (0, 0)
    assert limiter.tokens.level(NOW) == pytest.approx(-60)


def test_without_a_limit_nothing_is_overdrawn() -> None:
    """Charging a limiter that knows no tokens changes nothing."""
    limiter = Limiter(limits(requests=60), NOW)
    limiter.charge(NOW, 10**9)
    assert limiter.overdrawn(NOW) is None


def test_further_requests_in_a_slot_count_as_requests() -> None:
    """A slot that is held lets requests through at the key's rate, and none while its tokens are in debt."""
    limiter = Limiter(limits(requests=60, tokens=600, concurrency=1, burst=2), NOW)
    limiter.take(NOW, 0)
    assert limiter.refusal_of_more(NOW) is None
    refusal = limiter.refusal_of_more(NOW)
    assert refusal is not None
    assert refusal.limit == "requests"
    assert refusal.retry_after_s == pytest.approx(1)
    assert limiter.refusal_of_more(NOW + 1.001) is None
    limiter.charge(NOW + 1, 660)
    refusal = limiter.refusal_of_more(NOW + 3)
    assert refusal is not None
    assert refusal.limit == "tokens"
    assert limiter.requests is not None
    assert limiter.requests.remaining(NOW + 3) == 2, "what is refused is not counted"
    assert limiter.in_flight == 1


def test_an_estimate_is_the_prompt_and_all_it_asks_for() -> None:
    """3.5 bytes a token, corrected; the completion by the client's bound, else by the default."""
    assert estimate_tokens(3500, 100, 1, 1024, 1.0)[1] == 1101
    assert estimate_tokens(3500, None, 1, 1024, 1.0)[1] == 2025
    assert estimate_tokens(3500, 100, 3, 1024, 2.0)[1] == 2301


@pytest.mark.parametrize("max_tokens", [10**18, 10**400, -1, -(10**400), 0])
@pytest.mark.parametrize("n", [10**400, -5, 0, 1])
def test_absurd_numbers_make_a_bounded_estimate(max_tokens: int, n: int) -> None:
    """Any number a client can write gives an estimate that arithmetic can bear, and more than any limit stays more."""
    _, tokens = estimate_tokens(1000, max_tokens, n, 1024, 1.0)
    assert 0 < tokens < 10**15
    refusal = Limiter(limits(tokens=2_000_000_000), NOW).refusal(NOW, tokens)
    assert (refusal is not None and refusal.never) == (max_tokens > 0)


def test_the_correction_learns_within_bounds() -> None:
    """It approaches the true ratio, never leaves 0.5 to 3, and ignores reports that say nothing."""
    correction = Correction()
    for _ in range(200):
        correction.observe(3500, 2000)
    assert correction.value == pytest.approx(2.0, rel=0.01)
    for _ in range(500):
        correction.observe(10, 10**9)
    assert 2.9 < correction.value <= 3.0
    for _ in range(500):
        correction.observe(10**9, 1)
    assert 0.5 <= correction.value < 0.51
    before = correction.value
    correction.observe(0, 100)
    correction.observe(100, 0)
    assert correction.value == before
