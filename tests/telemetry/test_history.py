"""The last five minutes, from the cells that the metrics count in."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry import specs
from router.telemetry.history import (
    STEP_S,
    STEPS,
    History,
    by_label,
    merged,
    of_streams,
    quantile,
    summed,
)
from router.telemetry.metrics import Metrics
from tests.telemetry.records import attempt, ended


class Watched:
    """Metrics, their history, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.metrics = Metrics(version="0.1.0", loop_name="asyncio")
        self.configure("openai", "azure")
        self.now = 100.0
        self.open_streams = 0
        self.history = History(self.metrics.cells, lambda: self.open_streams, self.now)

    def configure(self, *upstreams: str) -> None:
        self.metrics.configure(["gpt"], upstreams, "d1", 1.0)

    def pass_steps(self, steps: int = 1) -> None:
        """Let time go by as housekeeping sees it."""
        for _ in range(steps):
            self.now += STEP_S
            self.history.look(self.now)

    def requests(self) -> float:
        self.history.look(self.now)
        return sum(summed(self.history.total.counters[specs.REQUESTS], 2).values())

    def attempts(self) -> dict[str, float]:
        self.history.look(self.now)
        return summed(self.history.total.counters[specs.ATTEMPTS], 0)


def test_what_is_counted_is_seen_at_once() -> None:
    """A reader sees what was counted up to its look, by every label, whatever the step."""
    watched = Watched()
    watched.metrics.emit(ended())
    watched.metrics.emit(ended(attempts=(attempt("azure", "http_5xx"), attempt())))
    watched.history.look(watched.now)
    counters = watched.history.total.counters
    assert counters[specs.REQUESTS] == {("gpt", "chat", "ok"): 2}
    assert counters[specs.ATTEMPTS] == {("openai", "ok"): 2, ("azure", "http_5xx"): 1}
    assert counters[specs.TOKENS] == {("gpt", "openai", "output"): 48, ("gpt", "openai", "output_reasoning"): 32}
    assert {labels: sum(buckets) for labels, buckets in watched.history.total.ttft.items()} == {
        ("gpt", "openai", "true"): 2
    }


def test_five_minutes_later_it_is_forgotten() -> None:
    """What was counted stays for five minutes and is gone after, with nothing left of it in memory."""
    watched = Watched()
    watched.metrics.emit(ended())
    watched.pass_steps(STEPS)
    assert watched.requests() == 1
    watched.pass_steps()
    assert watched.requests() == 0
    assert not watched.history.total.ttft
    assert not any(watched.history.total.counters.values())


def test_a_window_is_as_long_as_it_says() -> None:
    """`since` is when the kept steps begin: the start at first, then never more than five minutes and a step ago."""
    watched = Watched()
    assert watched.history.total.since == 100.0
    watched.pass_steps(STEPS // 2)
    assert watched.history.total.since == 100.0
    watched.pass_steps(STEPS * 2)
    assert watched.now - watched.history.total.since == STEPS * STEP_S


def test_a_long_sleep_makes_the_old_steps_go() -> None:
    """After the machine slept for an hour nothing older than the window is taken for recent, but for the last look."""
    watched = Watched()
    watched.metrics.emit(ended())
    watched.pass_steps(3)
    watched.now += 3600
    watched.pass_steps(2)
    assert watched.requests() == 0


def test_points_are_rates_of_their_step() -> None:
    """A step's point has requests and failures a second, the streams that are open at its end, and its own p95."""
    watched = Watched()
    for _ in range(10):
        watched.metrics.emit(ended(ttft_s=0.5))
    watched.metrics.emit(ended(outcome="upstream_error", complete=False, upstream="", attempts=(), ttft_s=-1.0))
    watched.metrics.emit(ended(outcome="client_error", upstream="", attempts=(), ttft_s=-1.0))
    watched.open_streams = 7
    watched.pass_steps()
    (point,) = watched.history.points
    assert (point.requests_per_s, point.errors_per_s, point.open_streams) == (12 / STEP_S, 1 / STEP_S, 7)
    assert point.ttft_p95_s is not None
    assert 0.4 < point.ttft_p95_s <= 0.6
    watched.pass_steps()
    assert watched.history.points[-1] == (0.0, 0.0, 7, None)


def test_points_are_bounded() -> None:
    """The curves go back five minutes and no further."""
    watched = Watched()
    watched.pass_steps(STEPS * 3)
    assert len(watched.history.points) == STEPS


def test_looks_between_steps_change_no_point() -> None:
    """However often somebody reads in between, a step's point is the same."""
    watched = Watched()
    for _ in range(5):
        watched.metrics.emit(ended())
        watched.now += STEP_S / 5
        watched.history.look(watched.now)
    assert [point.requests_per_s for point in watched.history.points] == [1.0]


def test_the_rate_is_of_the_last_moments() -> None:
    """Requests a second are those of the last step and the one that runs, also right after the start."""
    watched = Watched()
    watched.metrics.emit(ended())
    watched.history.look(watched.now)
    assert watched.history.requests_per_s(watched.now) == 1.0
    watched.pass_steps()
    assert watched.history.requests_per_s(watched.now) == 1 / STEP_S
    watched.pass_steps(2)
    assert watched.history.requests_per_s(watched.now) == 0.0


def test_plain_answers_are_no_first_tokens() -> None:
    """The time of an answer that is no stream is the time of all of it, and is kept apart."""
    watched = Watched()
    watched.metrics.emit(ended(ttft_s=0.5))
    watched.metrics.emit(ended(ttft_s=30.0, stream=False))
    watched.history.look(watched.now)
    assert len(watched.history.total.ttft) == 2
    assert list(of_streams(watched.history.total.ttft)) == [("gpt", "openai", "true")]


def test_a_name_that_goes_and_comes_back_counts_anew() -> None:
    """A reload that drops an upstream starts its cells again; what it counts after is not set off against before."""
    watched = Watched()
    for _ in range(3):
        watched.metrics.emit(ended())
    watched.pass_steps()
    watched.configure("azure")
    watched.configure("openai", "azure")
    watched.metrics.emit(ended())
    assert watched.attempts() == {"openai": 4}
    assert sum(merged(watched.history.total.ttft.values())) == 4


def test_names_that_are_gone_are_forgotten() -> None:
    """What reloads dropped holds no memory: neither what was last seen in its cells, nor when its outcomes were."""
    watched = Watched()
    watched.metrics.emit(ended())
    watched.pass_steps()
    assert ("openai", "ok") in watched.history.seen
    watched.configure("azure")
    watched.pass_steps()
    assert ("openai", "ok") not in watched.history.seen
    assert not any(labels[0] == "openai" for labels in watched.history._last[specs.ATTEMPTS])
    assert not watched.history._last_ttft


def test_an_outcome_is_seen_when_it_was() -> None:
    """`seen` tells when an outcome was last looked at and had come again, which is what a last error is read from."""
    watched = Watched()
    watched.metrics.emit(ended(attempts=(attempt("azure", "http_5xx"), attempt())))
    watched.pass_steps()
    at = watched.now
    watched.metrics.emit(ended())
    watched.pass_steps()
    assert watched.history.seen == {("azure", "http_5xx"): at, ("openai", "ok"): watched.now}


def test_histograms_add_up_by_label() -> None:
    """Buckets of one upstream are those of all its models together."""
    ttft: dict[tuple[str, ...], array[float]] = {
        ("a", "x", "true"): array("d", [1, 2]),
        ("b", "x", "true"): array("d", [3, 0]),
    }
    assert {name: list(buckets) for name, buckets in by_label(ttft, 1).items()} == {"x": [4, 2]}
    assert merged(ttft.values()) == [4, 2]
    assert merged([]) == []


@pytest.mark.parametrize(
    ("share", "buckets", "expected"),
    [
        (0.5, [4, 0, 0, 0], 0.5),  # half-way into the first bucket, which begins at zero
        (0.5, [0, 4, 0, 0], 1.5),
        (0.25, [2, 2, 0, 0], 0.5),
        (1.0, [2, 2, 0, 0], 2.0),
        (0.95, [0, 0, 0, 9], 4.0),  # beyond the last bound: no more is known than the bound
        (0.5, [0, 0, 0, 0], None),
        (0.5, [], None),
    ],
)
def test_a_quantile_lies_inside_its_bucket(share: float, buckets: list[float], expected: float | None) -> None:
    """Interpolated between the bounds of the bucket it falls into; unknown if nothing was observed."""
    assert quantile(share, buckets, (1.0, 2.0, 4.0)) == expected


@given(st.lists(st.integers(0, 50), min_size=17, max_size=17), st.floats(0.01, 1), st.floats(0.01, 1))
def test_quantiles_are_ordered_and_bounded(buckets: list[int], one: float, other: float) -> None:
    """A larger share has no smaller quantile, and none is outside the bounds."""
    low, high = quantile(min(one, other), buckets), quantile(max(one, other), buckets)
    if not any(buckets):
        assert low is high is None
    else:
        assert low is not None
        assert high is not None
        assert 0 <= low <= high <= specs.TTFT.bounds[-1]
