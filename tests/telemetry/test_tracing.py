"""The queue of spans and the thread that delivers them; whole exchanges stand in tests/relay/test_tracing.py."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from logging.handlers import QueueHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from router.config.loader import parse
from router.telemetry.tracing import TELL_EVERY_S, Tracing
from tests.harness.waiting import until
from tests.telemetry.records import attempt, ended

pytest.importorskip("opentelemetry.sdk.trace", reason="the extra [otel] is not installed")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra [otel] is not installed")

from tests.harness.collector import Collector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from router.events import Event, ExchangeEnded

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    await collector.start()
    yield collector
    await collector.close()


def exchange(**changes: Any) -> ExchangeEnded:
    """One with two spans."""
    usual = {"trace_id": TRACE, "span_id": "1" * 16, "attempts": (attempt(span_id="2" * 16, offset_s=0.0),)}
    return ended(**(usual | changes))


class Traced:
    """Tracing as the daemon has it, and what it told."""

    def __init__(self, collector: Collector, **settings: Any) -> None:
        self.told: list[tuple[str, str]] = []
        self.now = 1000.0
        self.consumers: list[Callable[[Event], None]] = []
        self.tracing = Tracing(lambda *words: self.told.append(words), lambda: self.now, **settings)
        self.lead_to(collector.endpoint)

    def lead_to(self, endpoint: str) -> None:
        loaded = parse(
            f"tracing: {{endpoint: '{endpoint}'}}\n"
            "upstreams: {openai: {base_url: 'http://127.0.0.1:8000/v1'}}\nmodels: {m: openai}\n",
            "f", directory=Path("/"), environ={},
        )  # fmt: skip
        self.tracing.configure(loaded.config, loaded.secrets, self.consumers)

    def emit(self, event: Event) -> None:
        for consumer in self.consumers:
            consumer(event)

    async def close(self) -> None:
        """The daemon's end."""
        await asyncio.to_thread(self.tracing.close, 2.0)


async def test_what_is_queued_is_delivered_at_the_end(collector: Collector) -> None:
    """A stop waits for no pause: everything that was queued arrives, in order, and the thread is over."""
    traced = Traced(collector)
    for number in range(600):
        traced.emit(exchange(span_id=f"{number + 1:016x}"))
    await traced.close()
    servers = [span.span_id for span in collector.spans if span.kind == "SERVER"]
    assert servers == [f"{number + 1:016x}" for number in range(600)]
    assert (len(collector.spans), traced.tracing.dropped) == (1200, 0)
    assert "tracing" not in {thread.name for thread in threading.enumerate()}


async def test_variables_for_proxies_have_no_effect(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    """Spans go where the configuration says, and nowhere else."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    traced = Traced(collector, timeout_s=0.5)
    traced.emit(exchange())
    await traced.close()
    assert len(collector.spans) == 2


async def test_what_has_no_span_is_not_looked_at(collector: Collector) -> None:
    """An exchange that is not sampled, or belongs to a trace whose spans others keep, sends nothing."""
    traced = Traced(collector)
    traced.emit(ended())
    traced.emit(ended(trace_id=TRACE, trace_sampled=True))
    await traced.close()
    assert (collector.requests, traced.tracing.dropped) == ([], 0)


async def test_it_consumes_events_once(collector: Collector) -> None:
    """However often it is configured anew it is told of each event once; unconfigured it is not told at all."""
    traced = Traced(collector)
    traced.lead_to(collector.endpoint)
    assert len(traced.consumers) == 1
    await traced.close()
    consumers: list[Callable[[Event], None]] = []
    off = parse("upstreams: {a: {base_url: 'http://127.0.0.1:8000/v1'}}\nmodels: {m: a}\n", "f", directory=Path("/"),
                environ={})  # fmt: skip
    tracing = Tracing(lambda *_: None)
    tracing.configure(off.config, off.secrets, consumers)
    assert consumers == []
    tracing.close(1.0)


async def test_the_queue_is_bounded(collector: Collector) -> None:
    """While a collector takes its time so many exchanges wait; the spans of further ones are counted as dropped."""
    collector.silent = True
    traced = Traced(collector, queue_max=10)
    traced.emit(exchange())
    await until(lambda: collector.requests, "a delivery")
    for _ in range(15):
        traced.emit(exchange())
    assert traced.tracing.dropped == 10
    assert repr(traced.tracing) == "<Tracing: 10 exchanges waiting, 10 spans dropped>"
    await traced.close()
    assert traced.tracing.dropped >= 30
    traced.emit(exchange())
    assert traced.tracing.dropped >= 32, "what comes after the end is dropped, too"


async def test_an_end_is_bounded(collector: Collector) -> None:
    """With a collector that never answers the end comes all the same, after what it may take."""
    collector.silent = True
    traced = Traced(collector, timeout_s=600.0)
    traced.emit(exchange())
    await until(lambda: collector.requests, "a delivery")
    async with asyncio.timeout(15):
        await asyncio.to_thread(traced.tracing.close, 0.1)


async def test_a_slow_collector_gets_everything(collector: Collector) -> None:
    """A delivery that fails for want of time is lost; those after it are not."""
    collector.silent = True
    traced = Traced(collector, timeout_s=0.3)
    traced.emit(exchange())
    await until(lambda: traced.tracing.dropped == 2, "it is given up")
    collector.silent = False
    traced.emit(exchange())
    await traced.close()
    assert (len(collector.spans), traced.tracing.dropped) == (2, 2)


@pytest.mark.parametrize("status", [400, 500, 503])
async def test_a_failing_collector_is_told_of_now_and_then(collector: Collector, status: int) -> None:
    """The first failure is told with its reason, and then at most one line a minute: that it works, or fails again."""
    collector.status = status
    traced = Traced(collector, timeout_s=0.3)
    traced.emit(exchange())
    await until(lambda: traced.tracing.dropped == 2, "it is dropped")
    traced.emit(exchange())
    await until(lambda: traced.tracing.dropped == 4, "it is dropped, too")
    assert len(traced.told) == 1
    assert "cannot be delivered" in traced.told[0][0]
    collector.status = 200
    traced.emit(exchange())
    await collector.got(2)
    assert len(traced.told) == 1
    traced.now += TELL_EVERY_S
    traced.emit(exchange())
    await until(lambda: len(traced.told) == 2, "it is told that it works")
    assert traced.told[1] == ("traces are delivered again", "")
    await traced.close()


async def test_the_library_does_not_talk(collector: Collector) -> None:
    """Its own words on every failure go nowhere, and its logger is as it was once all is over."""
    library = logging.getLogger("opentelemetry")
    handlers, propagates = list(library.handlers), library.propagate
    collector.status = 400
    heard: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = QueueHandler(heard)
    logging.getLogger().addHandler(listener)
    try:
        traced = Traced(collector)
        traced.emit(exchange())
        await until(lambda: traced.tracing.dropped == 2, "it is dropped")
        await traced.close()
    finally:
        logging.getLogger().removeHandler(listener)
    assert "400" in traced.told[0][1]
    names = [heard.get().name for _ in range(heard.qsize())]
    assert [name for name in names if name.startswith("opentelemetry")] == []
    assert (library.handlers, library.propagate) == (handlers, propagates)


async def test_another_collector_is_found_while_running(collector: Collector) -> None:
    """After a reload spans go to where it says."""
    other = Collector()
    await other.start()
    traced = Traced(collector)
    traced.emit(exchange())
    await collector.got(2)
    traced.lead_to(other.endpoint)
    traced.emit(exchange())
    await traced.close()
    assert (len(collector.spans), len(other.spans)) == (2, 2)
    await other.close()
