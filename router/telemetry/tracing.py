"""Tracing: exchanges that have a span are queued, and a thread makes their spans and sends them by OTLP over HTTP.

The data path only gave out the ids (`protocol.trace_context`). The SDK's own batch processor does not fit: it wants
spans made on the event loop (5 us each), counts no drops that can be read, and its end waits for up to 30 s. So the
queue and the thread are ours, as those of the access log, and spans, resource, encoding and delivery are the SDK's.
They cost the thread 0.1 ms for each exchange.

A collector that is slow, broken or gone costs nothing but its spans: the queue is bounded, what does not fit or cannot
be delivered is counted, and an operator reads of it once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from router.events import ExchangeEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    from router.config.schema import Config, Secret, Upstream
    from router.events import Event
    from router.telemetry.spans import SpanMaker

QUEUE_MAX = 4096
"""Exchanges that may wait, 1 KB each."""

PAUSE_S = 1.0
"""Between two deliveries: the longest a span waits, and how many share a request."""

BATCH_MAX = 32
"""Exchanges whose spans share one request. To encode them takes 4 ms, in which the event loop has to share the
interpreter: the more there are, the later it turns."""

TIMEOUT_S = 5.0
"""For one delivery, its repetitions included: the exporter tries again after a refused connection, 429, 502 to 504."""

GIVE_UP_S = 0.5
"""For the thread, once it has been told not to try again."""

TELL_EVERY_S = 60.0
"""Between two things an operator is told: a collector that comes and goes must not fill the log."""

_LIBRARY = logging.getLogger("opentelemetry")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What a configuration asks for."""

    endpoint: str
    service_name: str
    headers: Mapping[str, str]
    upstreams: Mapping[str, Upstream]


class Tracing:
    """A bounded queue of exchanges, and the thread that delivers their spans."""

    def __init__(
        self,
        tell: Callable[[str, str], None],
        clock: Callable[[], float] = time.time,
        *,
        queue_max: int = QUEUE_MAX,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Prepare; nothing runs before the first configuration that asks for it.

        Args:
            tell: Takes message and detail for an operator; called in the thread.
            clock: Wall clock.
            queue_max: Exchanges that may wait.
            timeout_s: For one delivery.
        """
        self._tell = tell
        self._clock = clock
        self._queue: deque[tuple[float, ExchangeEnded]] = deque()
        self._queue_max = queue_max
        self._timeout_s = timeout_s
        self._overflowed = 0
        self._lost = 0
        """The first is the loop's to count, the second the thread's."""
        self._wanted: _Wanted | None = None
        self._sender: _Sender | None = None
        self._told_failing = False
        self._told_at = float("-inf")
        self._awake = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tracing", daemon=True)

    def __repr__(self) -> str:
        return f"<Tracing: {len(self._queue)} exchanges waiting, {self.dropped} spans dropped>"

    @property
    def dropped(self) -> int:
        """Spans that were not delivered."""
        return self._overflowed + self._lost

    def configure(
        self, config: Config, secrets: Mapping[Secret, str], consumers: list[Callable[[Event], None]]
    ) -> None:
        """Deliver to where a configuration says from now on.

        It becomes one of the `consumers` with the first that says so, and stays one: what is still under way when it is
        turned off has been promised to the upstreams.
        """
        settings = config.tracing
        if settings is None:
            return
        self._wanted = _Wanted(
            endpoint=settings.endpoint,
            service_name=settings.service_name,
            headers={name: secrets[reference] for name, reference in settings.headers.items()},
            upstreams=config.upstreams,
        )
        if self.emit not in consumers:
            consumers.append(self.emit)
            self._thread.start()

    def emit(self, event: Event) -> None:
        """Queue an exchange that has a span. HOT: 0.1 us without, 0.5 us with; never waits."""
        if type(event) is not ExchangeEnded or not event.span_id:
            return
        if len(self._queue) >= self._queue_max or self._closing.is_set():
            self._overflowed += _spans(event)
            return
        self._queue.append((self._clock(), event))
        if not self._awake:
            self._awake = True
            self._wake.set()

    def close(self, timeout_s: float) -> None:
        """Deliver what is queued and end the thread; what cannot be delivered in time is dropped."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._sender is not None:
            self._sender.close()
        if self._thread.is_alive():  # it is told to give up, and counts what it gives up
            self._thread.join(GIVE_UP_S)
        while self._queue:
            self._overflowed += _spans(self._queue.popleft()[1])

    # in the thread

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            while self._queue and not self._closing.wait(PAUSE_S):
                self._deliver_queued()
            self._awake = False
            # An exchange queued just before that line found the thread awake and did not wake it.
            if self._queue:
                self._wake.set()
        self._deliver_queued()
        if self._sender is not None:
            self._sender.close()

    def _deliver_queued(self) -> None:
        """Deliver what is queued by now; when all ends, a collector that fails is not asked again."""
        left = len(self._queue)
        while left > 0:
            size = min(left, BATCH_MAX)
            left -= size
            batch = list(islice(iter(self._take, None), size))
            failed = self._delivered(batch)
            if failed:
                self._lost += sum(_spans(event) for _, event in batch)
            self._say(failed)
            if failed and self._closing.is_set():
                return

    def _take(self) -> tuple[float, ExchangeEnded] | None:
        try:
            return self._queue.popleft()
        except IndexError:  # emptied by close()
            return None

    def _delivered(self, batch: list[tuple[float, ExchangeEnded]]) -> str:
        """Deliver the spans of some exchanges. Returns why that failed, nothing if it did not."""
        wanted, sender = self._wanted, self._sender
        assert wanted is not None
        try:
            if sender is None or sender.wanted != wanted:
                if sender is not None:
                    sender.close()
                sender = self._sender = _Sender(wanted, self._timeout_s)
            return sender.send(batch)
        except Exception as error:  # noqa: BLE001 (the thread must outlive whatever one batch met)
            return f"{type(error).__name__}: {error}"

    def _say(self, failed: str) -> None:
        """Tell an operator, if it is news."""
        now = self._clock()
        if bool(failed) is self._told_failing or now - self._told_at < TELL_EVERY_S or self._closing.is_set():
            return
        self._told_failing, self._told_at = bool(failed), now
        if failed:
            self._tell("traces cannot be delivered; their spans are dropped, and counted", failed)
        else:
            self._tell("traces are delivered again", "")


class _Sender:
    """The SDK's exporter for one configuration."""

    def __init__(self, wanted: _Wanted, timeout_s: float) -> None:
        # Here, because only now they are needed, and not on the event loop.
        import requests  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415

        from router.telemetry.spans import SpanMaker  # noqa: PLC0415

        self.wanted = wanted
        self._maker: SpanMaker = SpanMaker(wanted.service_name, wanted.upstreams)
        session = requests.Session()
        session.trust_env = False  # variables such as HTTPS_PROXY have no effect, as everywhere here
        self._exporter: OTLPSpanExporter = OTLPSpanExporter(
            endpoint=wanted.endpoint, headers=dict(wanted.headers), timeout=timeout_s, session=session
        )
        self._delivered = SpanExportResult.SUCCESS
        self._words = _FirstWords()
        # It tells every repetition of every delivery; we tell that it began to fail.
        self._propagated, _LIBRARY.propagate = _LIBRARY.propagate, False
        _LIBRARY.addHandler(self._words)
        self._open = True

    def send(self, batch: list[tuple[float, ExchangeEnded]]) -> str:
        """Deliver. Returns why that failed, nothing if it did not."""
        self._words.said = ""
        spans = [span for ended_at, event in batch for span in self._maker.spans(event, ended_at)]
        result = self._exporter.export(spans)
        return "" if result is self._delivered else self._words.said or "the exporter does not say why"

    def close(self) -> None:
        """Give up what is under way. May be called in another thread, and twice."""
        if self._open:
            self._open = False
            _LIBRARY.removeHandler(self._words)
            _LIBRARY.propagate = self._propagated
            self._exporter.shutdown()  # type: ignore[no-untyped-call] # untyped there


class _FirstWords(logging.Handler):
    """Keeps what the library said first of a delivery: why, before it says that it gives up."""

    def __init__(self) -> None:
        super().__init__()
        self.said = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.said = self.said or record.getMessage()


def _spans(event: ExchangeEnded) -> int:
    """How many spans an exchange has."""
    return 1 + sum(bool(attempt.span_id) for attempt in event.attempts)
