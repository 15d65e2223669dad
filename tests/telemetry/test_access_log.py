"""The access log: a line for each event, and no trouble for the loop whatever becomes of the lines."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from router.events import (
    NEVER,
    ConfigReloaded,
    Event,
    ExchangeEnded,
    LimitDecided,
    Notice,
    Outcome,
    Phase,
    Side,
    UpstreamCooled,
    UpstreamEjected,
    UpstreamRestored,
    Usage,
)
from router.telemetry.access_log import BATCH_LINES_MAX, AccessLog
from tests.telemetry.records import attempt, ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Gate:
    """A reader that stalls until it is opened, and keeps what it got."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()
        self.got: list[bytes] = []

    def write(self, lines: bytes) -> None:
        self.reached.set()
        assert self.open.wait(10)
        self.got.append(lines)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def until(condition: Callable[[], object]) -> None:
    """Wait for the thread."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def lines_of(*events: Event) -> list[dict[str, Any]]:
    """What the log writes for these events."""
    written: list[bytes] = []
    log = AccessLog(written.append, queue_max=100, clock=lambda: 1_700_000_000.5)
    log.start()
    for event in events:
        log.emit(event)
    log.close(10)
    assert log.dropped == 0
    return [json.loads(line) for line in b"".join(written).split(b"\n")[:-1]]


def test_a_request_is_one_readable_line() -> None:
    """The line says who asked for what, who answered, how it went, how long it took and what it used."""
    attempts = (attempt(cause="connect", duration_s=0.25, connect_s=0.25), attempt("azure", head_s=0.3, credential=1))
    assert lines_of(ended(requested_model="gpt-latest", upstream="azure", attempts=attempts)) == [
        {
            "ts": "2023-11-14T22:13:20.500Z",
            "level": "info",
            "event": "exchange",
            "request_id": "req_1",
            "key": "team",
            "endpoint": "chat",
            "model": "gpt",
            "requested_model": "gpt-latest",
            "upstream": "azure",
            "stream": True,
            "status": 200,
            "outcome": "ok",
            "ended_by": "upstream",
            "phase": "relaying",
            "complete": True,
            "attempts": [
                {"upstream": "openai", "model": "gpt-up", "cause": "connect", "duration_s": 0.25, "connect_s": 0.25},
                {"upstream": "azure", "model": "gpt-up", "cause": "ok", "credential": 1, "status": 200,
                 "duration_s": 1.4, "head_s": 0.3},
            ],
            "duration_s": 1.5,
            "overhead_s": 0.0004,
            "ttft_s": 0.5,
            "tpot_s": 0.02,
            "max_gap_s": 0.0625,
            "tokens": {"input": 10, "cache_read": 5, "cache_write": 2, "output": 40, "reasoning": 16},
            "exact": True,
            "reserved": 100,
            "charged": 57,
            "bytes_in": 1000,
            "bytes_out": 4000,
        }
    ]  # fmt: skip


def test_what_is_not_known_is_absent() -> None:
    """What did not happen, is empty or is as expected takes no room; missing usage is no usage, not zero."""
    refused = ExchangeEnded(
        request_id="req_1",
        endpoint="chat",
        model="gpt",
        stream=True,
        status=429,
        outcome=Outcome.RATE_LIMITED,
        ended_by=Side.ROUTER,
        phase=Phase.PICKING,
        complete=True,
        duration_s=0.5,
        overhead_s=0.25,
    )
    assert lines_of(refused) == [
        {
            "ts": "2023-11-14T22:13:20.500Z",
            "level": "info",
            "event": "exchange",
            "request_id": "req_1",
            "endpoint": "chat",
            "model": "gpt",
            "stream": True,
            "status": 429,
            "outcome": "rate_limited",
            "ended_by": "router",
            "phase": "picking",
            "complete": True,
            "duration_s": 0.5,
            "overhead_s": 0.25,
        }
    ]


def test_what_is_given_as_nothing_is_absent_too() -> None:
    """It is the value that is left out: an event built with every field gives the same line as one without them."""
    nothing = ended(
        client_request_id="", key="", requested_model="", upstream="", reason="", ttft_s=NEVER, tpot_s=NEVER,
        max_gap_s=NEVER, usage=None, exact=False, reserved_tokens=0, charged_tokens=0, request_bytes=0,
        response_bytes=0, client_retry=False, cost_usd=None, dropped=(), metered=True,
        attempts=(attempt(credential=0, status=0, head_s=NEVER, connect_s=NEVER),),
    )  # fmt: skip
    (line,) = lines_of(nothing)
    assert list(line) == [
        "ts", "level", "event", "request_id", "endpoint", "model", "stream", "status", "outcome", "ended_by", "phase",
        "complete", "duration_s", "overhead_s", "attempts",
    ]  # fmt: skip
    assert [list(it) for it in line["attempts"]] == [["upstream", "model", "cause", "duration_s"]]


def test_cost_and_rare_usage_are_readable() -> None:
    """What was paid for stands in the line with exactly its decimals, each class that was used by its name."""
    usage = Usage(
        input=10, output=40, cache_write_long=3, audio_in=4, image_in=5, audio_out=6, images=7, seconds=12.3,
        characters=8, searches=9, clamped=True,
    )  # fmt: skip
    (line,) = lines_of(ended(usage=usage, exact=False, cost_usd=0.012345678, dropped=("seed", "logit_bias")))
    assert line["tokens"] == {
        "input": 10, "output": 40, "cache_write_long": 3, "audio_in": 4, "image_in": 5, "audio_out": 6, "images": 7,
        "seconds": 12.3, "characters": 8, "searches": 9, "clamped": True,
    }  # fmt: skip
    assert (line["cost_usd"], line["dropped"]) == (0.012345678, ["seed", "logit_bias"])
    (free,) = lines_of(ended(cost_usd=0.0))
    assert free["cost_usd"] == 0.0


def test_zero_tokens_are_a_figure() -> None:
    """An upstream that reported zero tokens is told apart from one that reported nothing."""
    (line,) = lines_of(ended(usage=Usage(), exact=True))
    assert line["tokens"] == {"input": 0, "output": 0}
    assert line["exact"] is True


@pytest.mark.parametrize(
    ("now", "ts"),
    [
        (1_700_000_000.0, "2023-11-14T22:13:20.000Z"),
        (1_700_000_000.929, "2023-11-14T22:13:20.929Z"),
        (1_700_000_000.9999, "2023-11-14T22:13:20.999Z"),
        (1_700_006_400.007, "2023-11-15T00:00:00.007Z"),
    ],
)
def test_a_line_says_when(now: float, ts: str) -> None:
    """The time is that of the event, in UTC, to the millisecond, cut off and never rounded into the next second."""
    written: list[bytes] = []
    log = AccessLog(written.append, queue_max=2, clock=lambda: now)
    log.emit(ended())
    log.start()
    log.close(10)
    assert json.loads(b"".join(written))["ts"] == ts


def test_time_may_go_back_between_lines() -> None:
    """Each line has its own time, also where the clock was set back, or an event brings an earlier time with it."""
    times = [1_700_000_000.25, 1_700_000_059.5, 1_699_999_999.75, 1_700_000_000.0]
    clock = iter(times)
    written: list[bytes] = []
    log = AccessLog(written.append, queue_max=10, clock=lambda: next(clock))
    for _ in times[:-1]:
        log.emit(ended())
    log.emit(Notice(1_700_000_001.0, "info", "started"))
    log.start()
    log.close(10)
    assert [json.loads(line)["ts"][14:] for line in b"".join(written).splitlines()] == [
        "13:20.250Z",
        "14:19.500Z",
        "13:19.750Z",
        "13:21.000Z",
    ]


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        (Outcome.OK, "info"),
        (Outcome.CLIENT_GONE, "info"),
        (Outcome.RATE_LIMITED, "info"),
        (Outcome.UPSTREAM_ERROR, "warning"),
        (Outcome.TIMEOUT, "warning"),
        (Outcome.INTERNAL, "error"),
    ],
)
def test_the_level_says_who_should_look(outcome: Outcome, level: str) -> None:
    """What clients do is information, what upstreams do a warning, what we do wrong an error."""
    assert [it["level"] for it in lines_of(ended(outcome=outcome))] == [level]


def test_the_journal_learns_each_priority() -> None:
    """Before a line for systemd's journal stands its priority as sd-daemon(3) writes it; the line is as ever."""
    written: list[bytes] = []
    log = AccessLog(written.append, queue_max=10, for_journal=True)
    for level in ("info", "warning", "error"):
        log.emit(Notice(0.0, level, "something"))
    log.start()
    log.close(5.0)
    lines = b"".join(written).splitlines()
    assert [line[:3] for line in lines] == [b"<6>", b"<4>", b"<3>"]
    assert [json.loads(line[3:])["level"] for line in lines] == ["info", "warning", "error"]


def test_other_events_are_lines_too() -> None:
    """What happened to upstreams and the configuration stands between the requests, with its own level and time."""
    events = (
        UpstreamEjected("openai", "", "consecutive", 10.00049),
        UpstreamRestored("openai", ""),
        UpstreamCooled("openai", 1, "m", "http_429", 5.0),
        ConfigReloaded(1_700_000_001.0, "rejected", "d1", ("a fault",)),
        ConfigReloaded(1_700_000_002.0, "applied", "d2"),
        Notice(1_700_000_003.0, "info", "started"),
    )
    now = "2023-11-14T22:13:20.500Z"
    assert lines_of(*events) == [
        {"event": "ejected", "ts": now, "level": "warning", "upstream": "openai", "reason": "consecutive", "for_s": 10},
        {"event": "restored", "ts": now, "level": "info", "upstream": "openai"},
        {"event": "cooled", "ts": now, "level": "warning", "upstream": "openai", "credential": 1, "model": "m",
         "reason": "http_429", "for_s": 5},
        {"event": "reload", "ts": "2023-11-14T22:13:21.000Z", "level": "error", "result": "rejected", "digest": "d1",
         "faults": ["a fault"]},
        {"event": "reload", "ts": "2023-11-14T22:13:22.000Z", "level": "info", "result": "applied", "digest": "d2"},
        {"event": "notice", "ts": "2023-11-14T22:13:23.000Z", "level": "info", "message": "started"},
    ]  # fmt: skip


def test_a_refusal_is_said_once() -> None:
    """The decision of a limit has no line of its own: the refused request has one, with the reason."""
    assert lines_of(LimitDecided("key", "tokens", "team")) == []


@pytest.mark.parametrize("text", ['a"b\nc\r\x00\x1b[31m', "ü\u2028😀", "\ud800 lone"])
def test_no_text_breaks_a_line(text: str) -> None:
    """Whatever a client writes into a name stays inside one line of valid JSON and can be read back."""
    assert [it["requested_model"] for it in lines_of(ended(requested_model=text))] == [text]


def test_a_name_without_utf8_changes_nothing_else() -> None:
    """A lone surrogate is written as an escape; its line says all that others say, and its neighbours are whole."""
    before, line, after = lines_of(ended(), ended(requested_model="\ud800"), ended())
    assert before == after
    assert line == before | {"requested_model": "\ud800"}
    assert list(line)[:3] == ["ts", "level", "event"]
    assert [it["message"] for it in lines_of(Notice(1.0, "error", "\udfff"))] == ["\udfff"]


def test_lines_keep_their_order_across_batches() -> None:
    """Many lines are all written, whole, in the order of the events."""
    events = [ended(request_id=f"req_{number}") for number in range(BATCH_LINES_MAX * 3 + 1)]
    written: list[bytes] = []
    log = AccessLog(written.append, queue_max=10_000)
    log.start()
    for event in events:
        log.emit(event)
    log.close(10)
    assert all(it.endswith(b"\n") for it in written)
    found = [json.loads(line)["request_id"] for line in b"".join(written).splitlines()]
    assert found == [it.request_id for it in events]


def test_each_burst_is_written_without_a_close() -> None:
    """The thread wakes for a first event, falls asleep, and wakes for the next."""
    written = threading.Semaphore(0)
    log = AccessLog(lambda _: written.release(), queue_max=10)
    log.start()
    for _ in range(2):
        log.emit(ended())
        assert written.acquire(timeout=10)
        until(lambda: not log._awake)
    log.close(10)


def test_what_is_queued_before_a_close_is_written() -> None:
    """A log that is closed before its thread has run once still writes everything."""
    written: list[bytes] = []
    log = AccessLog(written.append, queue_max=10)
    log.emit(ended())
    log._closing.set()
    log.start()
    log.close(10)
    assert (len(written), log.dropped) == (1, 0)


def test_a_stalled_reader_costs_lines_and_nothing_else(gate: Gate) -> None:
    """While the reader stalls `emit` returns at once; what the queue cannot hold is dropped and counted."""
    log = AccessLog(gate.write, queue_max=5)
    log.start()
    log.emit(ended())
    assert gate.reached.wait(10)
    for _ in range(8):
        log.emit(ended())
    assert log.dropped == 3
    gate.open.set()
    log.close(10)
    assert b"".join(gate.got).count(b"\n") == 6
    assert log.dropped == 3


def test_close_gives_up_on_a_reader_that_never_reads(gate: Gate) -> None:
    """A reader that stalls for good cannot keep the daemon from ending, and the lines left count as dropped."""
    log = AccessLog(gate.write, queue_max=5)
    log.start()
    log.emit(ended())
    assert gate.reached.wait(10)
    log.emit(ended())
    log.close(0.01)
    assert log.dropped == 1


def test_a_closed_log_drops_and_counts() -> None:
    """An event after the close is not forgotten silently; a log that never started can be closed."""
    log = AccessLog(lambda _: None, queue_max=5)
    log.close(1)
    log.emit(ended())
    assert log.dropped == 1


def test_a_failing_write_is_counted_and_survived() -> None:
    """A write error costs its lines; the next lines are written."""
    fails = [OSError(28, "No space left on device"), None]
    written: list[bytes] = []
    tried = threading.Semaphore(0)

    def write(lines: bytes) -> None:
        failure = fails.pop(0)
        tried.release()
        if failure is not None:
            raise failure
        written.append(lines)

    log = AccessLog(write, queue_max=5)
    log.start()
    log.emit(ended(request_id="first"))
    assert tried.acquire(timeout=10)
    log.emit(ended(request_id="second"))
    log.close(10)
    assert (log.write_errors, log.dropped) == (1, 1)
    assert json.loads(b"".join(written))["request_id"] == "second"


def test_a_closed_pipe_is_survived() -> None:
    """The reader may go away: every later line is dropped and counted, nothing is raised."""
    reading, writing = os.pipe()
    os.close(reading)
    log = AccessLog(writing, queue_max=5)
    log.start()
    log.emit(ended())
    log.close(10)
    os.close(writing)
    assert (log.write_errors, log.dropped) == (1, 1)


def test_a_torn_line_spoils_no_other() -> None:
    """After a write that failed inside a line, the next line begins on a line of its own."""
    reading, writing = os.pipe()
    log = AccessLog(writing, queue_max=5)
    log.start()
    log.emit(ended(client_request_id="x" * 300_000))
    assert os.read(reading, 1) == b"{"
    os.close(reading)
    until(lambda: log.write_errors)
    again, replacement = os.pipe()
    os.dup2(replacement, writing)
    log.emit(ended(request_id="after"))
    log.close(10)
    os.close(replacement)
    os.close(writing)
    with os.fdopen(again, "rb") as reader:
        nothing, line = reader.read().splitlines()
    assert nothing == b""
    assert json.loads(line)["request_id"] == "after"


@pytest.mark.parametrize("blocking", [True, False])
def test_a_full_pipe_gets_every_byte(blocking: bool) -> None:
    """More than a pipe holds is written in pieces as it is read, into blocking and non-blocking pipes alike."""
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    log = AccessLog(writing, queue_max=1000)
    log.start()
    for number in range(300):
        log.emit(ended(request_id=f"req_{number}", client_request_id="x" * 1000))
    found = b""
    while found.count(b"\n") < 300:
        found += os.read(reading, 65536)
    log.close(10)
    os.close(writing)
    os.close(reading)
    assert [json.loads(it)["request_id"] for it in found.splitlines()] == [f"req_{number}" for number in range(300)]
