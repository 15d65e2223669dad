"""Metrics: events are counted into cells as they come, and rendered for Prometheus when it asks.

`emit` is on the hot path, once for every request. The cells of all the label sets that one request touches hang
together in a row, found by one dict look-up; everything else in here runs seldom.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from router.events import ConfigReloaded, ExchangeEnded, LimitDecided, Outcome, UpstreamCooled, UpstreamEjected
from router.telemetry import specs
from router.telemetry.cells import UNKNOWN, Cell, Family, SeriesLimit, Spec, observe

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample

    from router.events import Attempt, Event, Usage

ENDPOINTS = frozenset(
    (
        "chat", "completions", "responses", "responses_ws", "messages", "count_tokens", "decisions", "embeddings",
        "rerank", "moderations", "images", "image_edits", "image_variations", "speech", "transcriptions",
        "translations", "realtime", "realtime_calls", "videos", "models", "other",
        "files", "uploads", "batches", "fine_tuning", "vector_stores", "containers", "conversations", "assistants",
        "threads", "evals", "skills", "agents", "chatkit", "live",
    )
)  # fmt: skip
"""The closed set of the `endpoint` label: one for each kind of request (PROTOCOL 2), `other` for the rest."""

STATES = ("healthy", "ejected", "half_open", "cooling", "draining")
"""The closed set of the `state` label of `llm_router_backend_state`."""

ELIGIBLE = frozenset({"healthy", "half_open"})
"""The states in which an upstream may be picked: in probation for one request at a time."""

AUTH_REASONS = ("missing_api_key", "invalid_api_key")
"""The error reasons that count as failed authentication."""

PHASES = ("before_first_token", "mid_stream")
"""The closed set of the `phase` label of `llm_router_stream_aborts_total`."""

TOKEN_TYPES = (
    "input", "input_cached", "input_cache_write", "input_cache_write_long", "input_audio", "input_image",
    "output", "output_reasoning", "output_audio",
)  # fmt: skip
"""The closed set of the `type` label of `llm_router_tokens_total`: disjoint, their sum is billed."""

COOLS = ("rate_limit", "overload", "quota", "misconfigured")
"""The closed set of the `reason` label of `llm_router_cooldowns_total`."""

SERIES_MAX = 20_000
"""Series that may be open at once. Ten models on twenty upstreams make 3,900 (OPERATIONS 1.3)."""

ROWS_MAX = 4096
"""Rows that are remembered. A row is only a short cut to cells, so when there are more all are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamLive:
    """One upstream at this moment."""

    name: str
    state: str
    """One of `STATES`."""
    in_flight: int
    limit: int | None
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLive:
    """One route at this moment."""

    name: str
    in_flight: int
    open_streams: int
    eligible: int = 0
    """Members, one for each credential, that may be picked now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    """What the gauges show."""

    upstreams: tuple[UpstreamLive, ...] = ()
    models: tuple[ModelLive, ...] = ()
    client_connections: int = 0
    draining: bool = False
    access_log_dropped: int = 0
    spans_dropped: int = 0
    """Counts that only grow, kept by the access log and by tracing."""


class _Row:
    """The cells that exchanges with the same labels move."""

    __slots__ = (
        "attempt_duration",
        "cost",
        "duration",
        "gap",
        "input",
        "input_cache_write",
        "input_cached",
        "ok",
        "output",
        "output_reasoning",
        "overhead",
        "requests",
        "responses",
        "tpot",
        "ttft",
        "usage_missing",
    )

    def __init__(self, family: dict[Spec, Family], event: ExchangeEnded, model: str, upstream: str) -> None:
        def cell(spec: Spec, *labels: str) -> Cell:
            return family[spec].cell(*labels)

        def tokens(kind: str) -> Cell:
            return family[specs.TOKENS].cell(model, upstream, kind)

        stream = "true" if event.stream else "false"
        endpoint = event.endpoint if event.endpoint in ENDPOINTS else "other"
        self.requests = cell(specs.REQUESTS, model, endpoint, event.outcome)
        self.responses = cell(specs.RESPONSES, endpoint, str(event.status))
        self.duration = cell(specs.DURATION, model, stream)
        self.overhead = cell(specs.OVERHEAD, stream)
        if upstream:
            self.ttft = cell(specs.TTFT, model, upstream, stream)
            self.tpot = cell(specs.TPOT, model, upstream)
            self.gap = cell(specs.MAX_GAP, upstream)
            self.ok = cell(specs.ATTEMPTS, upstream, "ok")
            self.attempt_duration = cell(specs.ATTEMPT_DURATION, upstream)
            self.usage_missing = cell(specs.USAGE_MISSING, upstream)
            self.input = tokens("input")
            self.input_cached = tokens("input_cached")
            self.input_cache_write = tokens("input_cache_write")
            self.output = tokens("output")
            self.output_reasoning = tokens("output_reasoning")
        self.cost: Cell | None = None
        """Opened by the first answer that has a price."""


class Metrics:
    """All metrics of one process. Everything but the rendering runs on the event loop."""

    def __init__(
        self,
        *,
        version: str,
        loop_name: str,
        revision: str = "unknown",
        series_max: int = SERIES_MAX,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._limit = SeriesLimit(series_max)
        self._family = {spec: Family(spec, self._limit) for spec in specs.COUNTED}
        self._rows: dict[tuple[str, str, str, bool, Outcome, int], _Row] = {}
        self._models: Collection[str] = frozenset()
        self._upstreams: Collection[str] = frozenset()
        self._source: Callable[[], LiveState] = LiveState
        self._digest = ""
        self._reload_ok = True
        self._reload_ok_at = 0.0
        self._build = (version, revision, platform.python_version(), loop_name)
        self._client_retries = self._family[specs.CLIENT_RETRIES].cell()
        self._lag = self._family[specs.LOOP_LAG].cell()
        for result in ("applied", "unchanged", "rejected"):
            self._family[specs.RELOADS].cell(result)
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

    def configure(self, models: Iterable[str], upstreams: Iterable[str], digest: str, now_wall: float) -> None:
        """Take the names that may stand in labels from a new configuration; series of names it lacks disappear.

        What can be foreseen starts at zero: without that, `rate()` misses the first error of each kind.
        """
        self._models = frozenset(models)
        self._upstreams = frozenset(upstreams)
        self._digest = digest
        self._reload_ok, self._reload_ok_at = True, now_wall
        self._rows.clear()
        for spec, family in self._family.items():
            for label in ("model", "backend", "from_backend"):
                if label in spec.labels:
                    family.keep(label, self._models if label == "model" else self._upstreams)
        for model in sorted(self._models):
            for outcome in Outcome:
                self._family[specs.REQUESTS].cell(model, "chat", outcome)
        for upstream in sorted(self._upstreams):
            self._family[specs.ATTEMPTS].cell(upstream, "ok")
            self._family[specs.EJECTIONS].cell(upstream, "consecutive")
            self._family[specs.EJECTIONS].cell(upstream, "error_rate")
            for reason in COOLS:
                self._family[specs.COOLDOWNS].cell(upstream, reason)

    def live(self, source: Callable[[], LiveState]) -> None:
        """Read the gauges from `source` at every scrape. It is called on the event loop."""
        self._source = source

    def cells(self, spec: Spec) -> Mapping[tuple[str, ...], Cell]:
        """Return what a metric of `specs.COUNTED` has counted, by label set."""
        return self._family[spec].cells

    def observe_lag(self, seconds: float) -> None:
        """Count how late the event loop woke from a timer."""
        observe(self._lag, specs.LOOP_LAG.bounds, seconds)

    def emit(self, event: Event) -> None:
        """Count an event."""
        if type(event) is ExchangeEnded:
            self._exchange_ended(event)
        elif isinstance(event, LimitDecided):
            self._family[specs.LIMIT_DECISIONS].add(event.scope, event.limit, "reject")
        elif isinstance(event, UpstreamEjected):
            self._family[specs.EJECTIONS].add(self._upstream(event.upstream), event.reason)
        elif isinstance(event, UpstreamCooled):
            self._family[specs.COOLDOWNS].add(self._upstream(event.upstream), event.reason)
        elif isinstance(event, ConfigReloaded):
            self._family[specs.RELOADS].add(event.result)
            self._reload_ok = event.result != "rejected"
            self._reload_ok_at = event.at if self._reload_ok else self._reload_ok_at

    def _exchange_ended(self, event: ExchangeEnded) -> None:
        """Count a request. HOT: 1.7 us for a stream that one upstream answered, 1.3 us for a plain answer."""
        key = (event.model, event.upstream, event.endpoint, event.stream, event.outcome, event.status)
        row = self._rows.get(key) or self._open_row(key, event)
        row.requests[0] += 1.0
        row.responses[0] += 1.0
        observe(row.duration, specs.DURATION.bounds, event.duration_s)
        observe(row.overhead, specs.OVERHEAD.bounds, event.overhead_s)
        if event.upstream:
            self._answered(row, event)
        attempts = event.attempts
        if len(attempts) == 1 and (only := attempts[0]).cause == "ok" and only.upstream == event.upstream:
            row.ok[0] += 1.0
            if only.head_s >= 0.0:
                observe(row.attempt_duration, specs.ATTEMPT_DURATION.bounds, only.head_s)
        elif attempts:
            self._attempted(event.model, attempts)
        if event.client_retry:
            self._client_retries[0] += 1.0
        if event.stream and not event.complete:
            self._stream_cut(event)
        if event.reason in AUTH_REASONS:
            self._family[specs.AUTH_FAILURES].add(event.reason)
        if event.trace_sampled:
            self._mark(event)

    def _mark(self, event: ExchangeEnded) -> None:
        """Remember the trace of a request beside its times: an exemplar (OPERATIONS 1.4). 3 us."""
        now, trace_id, stream = self._clock(), event.trace_id, "true" if event.stream else "false"
        model = self._model(event.model)
        self._family[specs.DURATION].mark(model, stream, value=event.duration_s, trace_id=trace_id, now=now)
        self._family[specs.OVERHEAD].mark(stream, value=event.overhead_s, trace_id=trace_id, now=now)
        if event.upstream and event.ttft_s >= 0.0:
            upstream = self._upstream(event.upstream)
            self._family[specs.TTFT].mark(model, upstream, stream, value=event.ttft_s, trace_id=trace_id, now=now)

    def _open_row(self, key: tuple[str, str, str, bool, Outcome, int], event: ExchangeEnded) -> _Row:
        if len(self._rows) >= ROWS_MAX:
            self._rows.clear()
        upstream = event.upstream and self._upstream(event.upstream)
        row = self._rows[key] = _Row(self._family, event, self._model(event.model), upstream)
        return row

    def _answered(self, row: _Row, event: ExchangeEnded) -> None:
        """Count what only an upstream's answer has: tokens, their timing, their price."""
        if event.ttft_s >= 0.0:
            observe(row.ttft, specs.TTFT.bounds, event.ttft_s)
        if event.tpot_s >= 0.0:
            observe(row.tpot, specs.TPOT.bounds, event.tpot_s)
        if event.max_gap_s >= 0.0:
            observe(row.gap, specs.MAX_GAP.bounds, event.max_gap_s)
        usage = event.usage
        if usage is not None:
            row.input[0] += usage.input
            row.output[0] += usage.output - usage.reasoning
            # Mostly zero, and looking is a third of adding.
            if usage.cache_read:
                row.input_cached[0] += usage.cache_read
            if usage.cache_write:
                row.input_cache_write[0] += usage.cache_write
            if usage.reasoning:
                row.output_reasoning[0] += usage.reasoning
            if usage.cache_write_long or usage.audio_in or usage.image_in or usage.audio_out:
                self._count_rare(event, usage)
        elif event.metered and event.complete and event.outcome is Outcome.OK:
            row.usage_missing[0] += 1.0
        if event.cost_usd is not None:
            if row.cost is None:
                row.cost = self._family[specs.COST].cell(self._model(event.model), self._upstream(event.upstream))
            row.cost[0] += event.cost_usd

    def _count_rare(self, event: ExchangeEnded, usage: Usage) -> None:
        """Count the tokens of which most models have none, so that their series exist only where there are some."""
        model, upstream = self._model(event.model), self._upstream(event.upstream)
        for kind, tokens in (
            ("input_cache_write_long", usage.cache_write_long),
            ("input_audio", usage.audio_in),
            ("input_image", usage.image_in),
            ("output_audio", usage.audio_out),
        ):
            if tokens:
                self._family[specs.TOKENS].add(model, upstream, kind, by=tokens)

    def _attempted(self, route: str, attempts: tuple[Attempt, ...]) -> None:
        """Count attempts that did not simply succeed, and what followed each of them."""
        model = self._model(route)
        previous: Attempt | None = None
        for attempt in attempts:
            upstream = self._upstream(attempt.upstream)
            self._family[specs.ATTEMPTS].add(upstream, attempt.cause)
            if attempt.head_s >= 0.0:
                cell = self._family[specs.ATTEMPT_DURATION].cell(upstream)
                observe(cell, specs.ATTEMPT_DURATION.bounds, attempt.head_s)
            if previous is not None:
                self._family[specs.RETRIES].add(model, previous.cause)
                if attempt.upstream != previous.upstream:
                    self._family[specs.FAILOVERS].add(model, self._upstream(previous.upstream), previous.cause)
            previous = attempt

    def _stream_cut(self, event: ExchangeEnded) -> None:
        """Count a stream that was cut. One refused with an error status is an answer, not a stream."""
        if event.status < 400 or event.status == 499:
            phase = PHASES[event.ttft_s >= 0]
            self._family[specs.STREAM_ABORTS].add(self._model(event.model), event.ended_by, phase)

    def _model(self, name: str) -> str:
        return name if name in self._models else UNKNOWN

    def _upstream(self, name: str) -> str:
        return name if name in self._upstreams else UNKNOWN

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition and its content type, in the format the `Accept` header asks for."""
        return self.scrape(accept)()

    def scrape(self, accept: str) -> Callable[[], tuple[bytes, str]]:
        """Read the gauges now, and return the rendering, which is to run in a thread.

        On the event loop the text of 9,600 series would hold up every stream for 200 ms (OPERATIONS 0).
        """
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no version
            encode, content_type = choose_encoder("")
        scrape = _Scrape(self._family, self._present(self._source()), self._process)
        return lambda: (encode(scrape), content_type)

    def _present(self, live: LiveState) -> dict[Spec, list[Sample]]:
        """Return the samples of everything that is not counted in cells."""
        dropped = list(self._limit.dropped.items())
        values: dict[Spec, list[tuple[tuple[str, ...], float]]] = {
            specs.BACKEND_UP: [((it.name,), it.state in ELIGIBLE) for it in live.upstreams],
            specs.BACKEND_STATE: [((it.name, state), it.state == state) for it in live.upstreams for state in STATES],
            specs.BACKEND_IN_FLIGHT: [((it.name,), it.in_flight) for it in live.upstreams],
            specs.BACKEND_LIMIT: [((it.name,), it.limit) for it in live.upstreams if it.limit is not None],
            specs.BACKEND_WEIGHT: [((it.name,), it.weight) for it in live.upstreams],
            specs.IN_FLIGHT: [((it.name,), it.in_flight) for it in live.models],
            specs.OPEN_STREAMS: [((it.name,), it.open_streams) for it in live.models],
            specs.ELIGIBLE_MEMBERS: [((it.name,), it.eligible) for it in live.models],
            specs.CLIENT_CONNECTIONS: [((), live.client_connections)],
            specs.DRAINING: [((), live.draining)],
            specs.LOG_DROPPED: [((), live.access_log_dropped)],
            specs.SPANS_DROPPED: [((), live.spans_dropped)],
            specs.RELOAD_OK: [((), self._reload_ok)],
            specs.RELOAD_OK_AT: [((), self._reload_ok_at)],
            specs.CONFIG_INFO: [((self._digest,), 1)],
            specs.BUILD_INFO: [(self._build, 1)],
            specs.DROPPED_LABELS: [((name,), times) for name, times in dropped],
        }
        return {spec: [spec.sample(labels, value) for labels, value in rows] for spec, rows in values.items()}


class _Scrape:
    """One scrape, as prometheus_client's encoders want it."""

    def __init__(
        self, family: dict[Spec, Family], present: dict[Spec, list[Sample]], process: CollectorRegistry
    ) -> None:
        self._family = family
        self._present = present
        self._process = process

    def collect(self) -> Iterator[Metric]:
        """Return the metrics in the order of their declaration, and those of the process after them."""
        for spec in specs.ALL:
            if (family := self._family.get(spec)) is not None:
                yield family.collect()
            else:
                metric = spec.metric()
                metric.samples = self._present[spec]
                yield metric
        yield from self._process.collect()
