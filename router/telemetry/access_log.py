"""The access log: one JSON line for each event, written by a thread, so that a slow reader never holds up a stream.

`emit` only appends to a bounded queue. The thread sleeps until the first line of a burst, then looks again every
`PAUSE_S` until none come any more: it is woken once for a burst, not once for a line.
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
from collections import deque
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from router.events import ConfigReloaded, Event, ExchangeEnded, LimitDecided, Notice, Outcome, UpstreamRestored

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.events import Attempt, Usage

PAUSE_S = 0.05
"""Between two looks at the queue while lines come: the longest a line waits, and how many share one write."""

BATCH_LINES_MAX = 100
"""Lines encoded in one go, about 1 ms of work: between two goes the interpreter belongs to the event loop."""

LEVELS = {
    Outcome.OVERLOADED: "warning",
    Outcome.NO_UPSTREAM: "warning",
    Outcome.UPSTREAM_ERROR: "warning",
    Outcome.TIMEOUT: "warning",
    Outcome.INTERNAL: "error",
}
"""What an operator should look at; every other outcome is `info`."""


class AttemptLine(msgspec.Struct, omit_defaults=True):
    """One try at an upstream, inside an `ExchangeLine`."""

    upstream: str
    model: str
    cause: str
    ms: float
    credential: int = 0
    status: int = 0
    head_ms: float = -1.0
    connect_ms: float = -1.0


class TokensLine(msgspec.Struct, omit_defaults=True):
    """The usage of an `ExchangeLine`: `input` without what came from or went to a cache, `output` with `reasoning`."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    clamped: bool = False


class ExchangeLine(msgspec.Struct, omit_defaults=True, kw_only=True, tag_field="event", tag="exchange"):
    """The line of one request. What is not known, or is as expected, is absent."""

    ts: str
    """When it ended, RFC 3339 in UTC."""
    level: str
    request_id: str
    client_request_id: str = ""
    key: str = ""
    endpoint: str
    model: str
    """The configured route."""
    requested_model: str = ""
    """What the client wrote, if that differs."""
    upstream: str = ""
    stream: bool
    status: int
    outcome: str
    reason: str = ""
    ended_by: str
    phase: str
    complete: bool
    attempts: list[AttemptLine] = []
    duration_ms: float
    overhead_ms: float
    ttft_ms: float = -1.0
    tpot_ms: float = -1.0
    max_gap_ms: float = -1.0
    tokens: TokensLine | None = None
    exact: bool | str
    """Whether `tokens` is the upstream's own final figure; `unknown` if it reported none."""
    reserved: int
    charged: int
    bytes_in: int
    bytes_out: int
    client_retry: bool = False


class AccessLog:
    """A queue of events and the thread that writes them as lines.

    `write` is a file descriptor, or a function that takes whole lines and may raise OSError. `LimitDecided` makes no
    line: the request that a limit refused has its own, with the limit as its `reason`.
    """

    def __init__(
        self, write: int | Callable[[bytes], object], queue_max: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._write = _Descriptor(write).write if isinstance(write, int) else write
        self._queue: deque[tuple[float, Event]] = deque()
        self._queue_max = queue_max
        self._clock = clock
        self._overflowed = 0
        self._lost = 0
        self.write_errors = 0
        """How often a batch failed; its lines count as dropped."""
        self._awake = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)

    def __repr__(self) -> str:
        return f"<AccessLog: {len(self._queue)} lines waiting, {self.dropped} dropped>"

    @property
    def dropped(self) -> int:
        """Events whose line was not written: the queue was full, the reader gone, the log closed."""
        return self._overflowed + self._lost

    def emit(self, event: Event) -> None:
        """Queue an event. HOT: 0.3 us; never waits."""
        if type(event) is LimitDecided:
            return
        if len(self._queue) >= self._queue_max or self._closing.is_set():
            self._overflowed += 1
            return
        self._queue.append((self._clock(), event))
        if not self._awake:
            self._awake = True
            self._wake.set()

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Write what is queued and end the thread; what cannot be written in time is dropped."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._overflowed += len(self._queue)
        self._queue.clear()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            while self._write_queued():
                self._closing.wait(PAUSE_S)
            self._awake = False
            # An event queued just before that line found the thread awake and did not wake it.
            if self._queue:
                self._wake.set()
        self._write_queued()

    def _write_queued(self) -> bool:
        """Write the lines that are queued by now; say if there were any."""
        waiting = len(self._queue)
        for begin in range(0, waiting, BATCH_LINES_MAX):
            size = min(BATCH_LINES_MAX, waiting - begin)
            self._write_batch(list(islice(iter(self._take, None), size)))
        return waiting > 0

    def _take(self) -> tuple[float, Event] | None:
        try:
            return self._queue.popleft()
        except IndexError:  # emptied by close()
            return None

    def _write_batch(self, batch: list[tuple[float, Event]]) -> None:
        try:
            self._write(b"".join([_line(event, now) for now, event in batch]))
        except Exception:  # noqa: BLE001 - the thread must outlive whatever one batch met, and the count shows it
            self.write_errors += 1
            self._lost += len(batch)


class _Descriptor:
    """Writes whole lines to a file descriptor, which may be a pipe of any kind."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._torn = False
        """The last write failed inside a line: the next begins with a line end, so that only one line is spoilt."""

    def write(self, lines: bytes) -> None:
        """Write all of `lines`, waiting as long as the reader takes."""
        rest = memoryview(b"\n" + lines if self._torn else lines)
        while rest:
            try:
                written = os.write(self._fd, rest)
            except BlockingIOError:
                # Another process may have made a shared pipe non-blocking.
                writable = select.poll()
                writable.register(self._fd, select.POLLOUT)
                writable.poll(1000)
                continue
            rest = rest[written:]
            self._torn = True
        self._torn = False


def _line(event: Event, now: float) -> bytes:
    """Return the line of an event; `now` is its wall clock if it carries none."""
    fields: ExchangeLine | dict[str, Any] = (
        _exchange(event) if isinstance(event, ExchangeEnded) else _occurrence(event, now)
    )
    try:
        return msgspec.json.encode(fields) + b"\n"
    except UnicodeEncodeError:
        # A lone surrogate, which JSON lets a client write into a model name, has no UTF-8; an escape can say it.
        return json.dumps(msgspec.to_builtins(fields)).encode() + b"\n"


def _exchange(event: ExchangeEnded) -> ExchangeLine:
    return ExchangeLine(
        ts=_rfc3339(event.at),
        level=LEVELS.get(event.outcome, "info"),
        request_id=event.request_id,
        client_request_id=event.client_request_id,
        key=event.key,
        endpoint=event.endpoint,
        model=event.model,
        requested_model=event.requested_model if event.requested_model != event.model else "",
        upstream=event.upstream,
        stream=event.stream,
        status=event.status,
        outcome=event.outcome,
        reason=event.reason,
        ended_by=event.ended_by,
        phase=event.phase,
        complete=event.complete,
        attempts=[_attempt(it) for it in event.attempts],
        duration_ms=_ms(event.duration_s),
        overhead_ms=_ms(event.overhead_s),
        ttft_ms=_ms(event.ttft_s),
        tpot_ms=_ms(event.tpot_s),
        max_gap_ms=_ms(event.max_gap_s),
        tokens=_tokens(event.usage) if event.usage else None,
        exact=event.exact if event.usage else "unknown",
        reserved=event.reserved_tokens,
        charged=event.charged_tokens,
        bytes_in=event.request_bytes,
        bytes_out=event.response_bytes,
        client_retry=event.client_retry,
    )


def _attempt(attempt: Attempt) -> AttemptLine:
    return AttemptLine(
        upstream=attempt.upstream,
        model=attempt.model,
        cause=attempt.cause,
        ms=_ms(attempt.duration_s),
        credential=attempt.credential,
        status=attempt.status,
        head_ms=_ms(attempt.head_s),
        connect_ms=_ms(attempt.connect_s),
    )


def _tokens(usage: Usage) -> TokensLine:
    return TokensLine(usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning, usage.clamped)


def _occurrence(event: Event, now: float) -> dict[str, Any]:
    """Return the line of an event that is not a request: its own fields, without the empty ones."""
    if isinstance(event, Notice):
        level = event.level
    elif isinstance(event, ConfigReloaded):
        level = "error" if event.result == "rejected" else "info"
    else:
        level = "info" if isinstance(event, UpstreamRestored) else "warning"
    fields = msgspec.to_builtins(event)
    if "for_s" in fields:
        fields["for_s"] = round(fields["for_s"], 3)
    line = {"event": fields.pop("event"), "ts": _rfc3339(fields.pop("at", now)), "level": level}
    return line | {name: value for name, value in fields.items() if value not in ("", ())}


def _ms(seconds: float) -> float:
    """Return milliseconds to the microsecond; -1, for what did not happen, stays -1."""
    return round(seconds * 1000.0, 3) if seconds >= 0 else -1.0


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
