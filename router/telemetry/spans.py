"""Spans: what one exchange came to, as OpenTelemetry's SDK has it: one SERVER span, and a CLIENT span for each attempt.

Attributes are those of the GenAI conventions where they have a name (OPERATIONS 1.1), and `llm_router.` for the rest.
Tokens stand once, at the attempt that used them: whoever adds up all spans counts none twice. No text of a request or
an answer is in here, no key and no name of one.

Imported by the thread of `tracing` alone: the SDK costs 0.1 s and 12 MB.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from router import __version__
from router.events import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.config.schema import Upstream
    from router.events import Attempt, ExchangeEnded

Attributes = dict[str, str | int | float | bool]

OPERATIONS: Final = {
    "chat": "chat",
    "messages": "chat",
    "responses": "chat",
    "responses_ws": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
"""`gen_ai.operation.name` by endpoint; an endpoint that the conventions have no name for keeps its own."""

PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "azure-dated": "azure.ai.openai",
    "mistral": "mistral_ai",
    "gemini": "gcp.gemini",
}
"""`gen_ai.provider.name` by preset; other presets keep their name, and without one it is the protocol."""

ERRORS: Final = frozenset(
    (Outcome.OVERLOADED, Outcome.NO_UPSTREAM, Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT, Outcome.INTERNAL)
)
"""Ends that are errors of a server; what the client did wrong is none (the HTTP conventions on SERVER spans)."""

NOT_FAILED: Final = frozenset(("ok", "client_gone"))
"""Causes with which an attempt did not fail."""

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SCOPE: Final = InstrumentationScope("llm-router", __version__)
_UNSET: Final = Status(StatusCode.UNSET)


class SpanMaker:
    """Makes spans under one configuration."""

    def __init__(self, service_name: str, upstreams: Mapping[str, Upstream]) -> None:
        """Prepare. What `OTEL_RESOURCE_ATTRIBUTES` says of this process, such as its pod, goes with every span."""
        self._resource = Resource.create(
            {
                "service.name": service_name,
                "service.version": __version__,
                "service.instance.id": str(uuid.uuid4()),
            }
        )
        self._upstreams = {name: _described(upstream) for name, upstream in upstreams.items()}

    def spans(self, event: ExchangeEnded, ended_at: float) -> list[ReadableSpan]:
        """Return the span of an exchange and those of its attempts below it.

        Args:
            event: An exchange with a span.
            ended_at: Wall clock, seconds since the epoch.
        """
        end = int(ended_at * 1e9)
        start = end - int(event.duration_s * 1e9)
        trace_id = int(event.trace_id, 16)
        whole = SpanContext(trace_id, int(event.span_id, 16), is_remote=False, trace_flags=_SAMPLED)
        parent = None
        if event.parent_span_id:
            parent = SpanContext(trace_id, int(event.parent_span_id, 16), is_remote=True, trace_flags=_SAMPLED)
        operation = OPERATIONS.get(event.endpoint, event.endpoint)
        made = [
            ReadableSpan(
                name=_text(f"{operation} {event.model}"),
                context=whole,
                parent=parent,
                resource=self._resource,
                attributes=self._of_exchange(event, operation),
                kind=SpanKind.SERVER,
                status=Status(StatusCode.ERROR, _error(event)) if event.outcome in ERRORS else _UNSET,
                start_time=start,
                end_time=end,
                instrumentation_scope=_SCOPE,
            )
        ]
        for number, attempt in enumerate(event.attempts, start=1):
            if not attempt.span_id:
                continue
            began = start + int(max(attempt.offset_s, 0.0) * 1e9)
            attributes = self._of_attempt(attempt, number, operation)
            if number == len(event.attempts):
                attributes |= _tokens(event)
            failed = attempt.cause not in NOT_FAILED
            made.append(
                ReadableSpan(
                    name=_text(f"{operation} {attempt.model or attempt.upstream}"),
                    context=SpanContext(trace_id, int(attempt.span_id, 16), is_remote=False, trace_flags=_SAMPLED),
                    parent=whole,
                    resource=self._resource,
                    attributes=attributes,
                    kind=SpanKind.CLIENT,
                    status=Status(StatusCode.ERROR, attempt.cause) if failed else _UNSET,
                    start_time=began,
                    end_time=began + int(attempt.duration_s * 1e9),
                    instrumentation_scope=_SCOPE,
                )
            )
        return made

    def _of_exchange(self, event: ExchangeEnded, operation: str) -> Attributes:
        found: Attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.request.model": _text(event.requested_model or event.model),
            "gen_ai.request.stream": event.stream,
            "http.response.status_code": event.status,
            "llm_router.request_id": event.request_id,
            "llm_router.endpoint": event.endpoint,
            "llm_router.model": event.model,
            "llm_router.outcome": event.outcome.value,
            "llm_router.attempts": len(event.attempts),
        }
        if event.upstream:
            found["llm_router.upstream"] = event.upstream
            found |= self._provider(event.upstream)
        if event.outcome is not Outcome.OK:
            found["error.type"] = _error(event)
        if event.ttft_s >= 0:
            found["gen_ai.response.time_to_first_chunk"] = event.ttft_s
        if event.cost_usd is not None:
            found["llm_router.cost_usd"] = event.cost_usd
        return found

    def _of_attempt(self, attempt: Attempt, number: int, operation: str) -> Attributes:
        found: Attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.request.model": _text(attempt.model),
            "llm_router.upstream": attempt.upstream,
            "llm_router.attempt": number,
            "llm_router.cause": attempt.cause,
        }
        found |= self._provider(attempt.upstream)
        if attempt.upstream in self._upstreams:
            found |= self._upstreams[attempt.upstream][1]
        if attempt.status:
            found["http.response.status_code"] = attempt.status
        if attempt.cause != "ok":
            found["error.type"] = attempt.cause
        if attempt.head_s >= 0:
            found["llm_router.time_to_head"] = attempt.head_s
        return found

    def _provider(self, upstream: str) -> Attributes:
        known = self._upstreams.get(upstream)
        return {} if known is None else {"gen_ai.provider.name": known[0]}


def _described(upstream: Upstream) -> tuple[str, Attributes]:
    """Return whose API it is, and where."""
    url = urlsplit(upstream.base_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    name = upstream.preset or upstream.protocol.value
    return PROVIDERS.get(name, name), {"server.address": url.hostname or "", "server.port": port}


def _error(event: ExchangeEnded) -> str:
    return event.reason or event.outcome.value


def _tokens(event: ExchangeEnded) -> Attributes:
    """Return what the answer used, as the conventions count: cached tokens are among those of the prompt."""
    usage = event.usage
    if usage is None:
        return {}
    found: Attributes = {"gen_ai.usage.input_tokens": usage.prompt, "gen_ai.usage.output_tokens": usage.completion}
    if usage.cache_read:
        found["gen_ai.usage.cache_read.input_tokens"] = usage.cache_read
    if usage.cache_write or usage.cache_write_long:
        found["gen_ai.usage.cache_write.input_tokens"] = usage.cache_write + usage.cache_write_long
    if usage.reasoning:
        found["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning
    return found


def _text(name: str) -> str:
    """A name that a client wrote: JSON lets it hold a lone surrogate, which has no UTF-8 and would spoil the batch."""
    return name.encode("utf-8", "replace").decode()
