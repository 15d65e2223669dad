"""The last events: one line each, bursts counted, nothing about requests, and bounded."""

from __future__ import annotations

from router.events import (
    ConfigReloaded,
    Event,
    LimitDecided,
    Notice,
    UpstreamCooled,
    UpstreamEjected,
    UpstreamRestored,
)
from router.telemetry.recent import BURST_S, ENTRIES_MAX, LIMITS_MAX, TEXT_MAX, Recent
from tests.telemetry.records import ended


class Clock:
    """A wall clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def told(*events: Event) -> list[tuple[str, str, str]]:
    recent = Recent(Clock())
    for event in events:
        recent.emit(event)
    return [(entry.what, entry.who, entry.why) for entry in recent.entries()]


def test_each_kind_has_its_line() -> None:
    """What, who and why of every kind of event, the latest first among those of one moment in their order."""
    assert told(
        UpstreamEjected("openai", "gpt", "consecutive", 9.6),
        UpstreamEjected("azure", "", "error_rate", 20.0),
        UpstreamRestored("openai", "gpt"),
        UpstreamCooled("openai", 1, "gpt", "rate_limit", 21.4),
        ConfigReloaded(5.0, "applied", "0123456789abcdef", needs_restart=("admin",)),
        Notice(5.0, "info", "listening on 127.0.0.1:80", "admin on 127.0.0.1:81"),
    ) == [
        ("ejected", "openai / gpt", "consecutive, for 10 s"),
        ("ejected", "azure", "error_rate, for 20 s"),
        ("restored", "openai / gpt", "a probation request succeeded"),
        ("cooled", "openai / gpt, credential 2", "rate_limit, for 21 s"),
        ("reload", "configuration", "applied: 0123456789ab; needs a restart: admin"),
        ("info", "llm-router", "listening on 127.0.0.1:80: admin on 127.0.0.1:81"),
    ]


def test_requests_are_none_of_its_business() -> None:
    """However many requests end, nothing is kept of them."""
    assert told(*[ended()] * 3) == []


def test_a_traceback_is_not_shown() -> None:
    """The detail of an error is for the log: what is shown is that it happened."""
    assert told(Notice(5.0, "error", "background task failed: x", "Traceback …")) == [
        ("error", "llm-router", "background task failed: x")
    ]


def test_a_burst_is_one_line_that_counts() -> None:
    """The same within half a minute of the last is counted, with first and last time; later it is a new line."""
    clock = Clock()
    recent = Recent(clock)
    for _ in range(1000):
        recent.emit(LimitDecided("key", "tokens", "team"))
        clock.now += 1
    recent.emit(LimitDecided("key", "requests", "team"))
    requests, tokens = recent.entries()
    assert (requests.count, tokens.count) == (1, 1000)
    assert (tokens.since, tokens.at) == (1_000_000.0, 1_000_999.0)
    clock.now += BURST_S
    recent.emit(LimitDecided("key", "tokens", "team"))
    assert [entry.count for entry in recent.entries()] == [1, 1, 1000]


def test_times_out_do_not_make_a_burst_two() -> None:
    """How long an upstream is out differs each time; what it is out for is the same, and the last time is shown."""
    assert told(UpstreamCooled("a", 0, "m", "quota", 5.0), UpstreamCooled("a", 0, "m", "quota", 9.0)) == [
        ("cooled", "a / m, credential 1", "quota, for 9 s")
    ]


def test_it_is_bounded_and_keeps_the_latest() -> None:
    """At most so many lines, the oldest go first; one that still counts is not the oldest."""
    clock = Clock()
    recent = Recent(clock)
    for number in range(ENTRIES_MAX * 3):
        clock.now += 1
        recent.emit(UpstreamEjected(f"u{number}", "", "consecutive", 1.0))
        recent.emit(UpstreamRestored("steady", ""))
    entries = recent.entries()
    assert len(entries) == ENTRIES_MAX - LIMITS_MAX
    assert {entry.who for entry in entries[:2]} == {"steady", f"u{ENTRIES_MAX * 3 - 1}"}
    assert next(entry.count for entry in entries if entry.who == "steady") == ENTRIES_MAX * 3
    assert [entry.at for entry in entries] == sorted((entry.at for entry in entries), reverse=True)
    assert len(recent._latest) <= ENTRIES_MAX


def test_limits_push_nothing_else_out() -> None:
    """Clients that run into their limits cannot make an operator miss what happened to an upstream."""
    clock = Clock()
    recent = Recent(clock)
    recent.emit(UpstreamEjected("openai", "", "consecutive", 1.0))
    for number in range(500):
        clock.now += 1
        recent.emit(LimitDecided("key", "tokens", f"key{number}"))
    assert [entry.what for entry in recent.entries()].count("limit") == LIMITS_MAX
    assert recent.entries()[-1].what == "ejected"


def test_a_refused_file_is_remembered_until_one_is_taken() -> None:
    """The refusal with its first fault, until a file is taken; the age of the configuration is that of the file."""
    clock = Clock()
    recent = Recent(clock)
    assert (recent.configured_at, recent.refused) == (1_000_000.0, None)
    refused = ConfigReloaded(2_000_000.0, "rejected", "d1", ("router.yaml:3:1: listen: no", "another", "a third"))
    recent.emit(refused)
    assert recent.refused is refused
    assert recent.entries()[0].why == "refused: router.yaml:3:1: listen: no (and 2 more)"
    recent.emit(ConfigReloaded(2_500_000.0, "unchanged", "d1"))
    assert recent.configured_at == 1_000_000.0
    assert recent.refused is None
    recent.emit(ConfigReloaded(3_000_000.0, "applied", "d2"))
    assert recent.configured_at == 3_000_000.0


def test_a_long_reason_is_cut() -> None:
    """A fault that quotes a line of a megabyte does not stand in memory and on the page."""
    ((_, _, why),) = told(ConfigReloaded(5.0, "rejected", "d1", ("x" * 1_000_000,)))
    assert len(why) < TEXT_MAX + 30
