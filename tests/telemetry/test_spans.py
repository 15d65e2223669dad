"""Spans: what a record becomes. How they reach a collector stands in tests/relay/test_tracing.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from router.config.schema import Protocol, Upstream
from router.events import NEVER, Outcome, Usage
from tests.telemetry.records import attempt, ended

pytest.importorskip("opentelemetry.sdk.trace", reason="the extra [otel] is not installed")

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.trace import SpanKind, StatusCode

from router.telemetry.spans import SpanMaker

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
OURS = "1" * 16
UPSTREAMS = {
    "openai": Upstream(base_url="https://api.openai.com/v1", preset="openai"),
    "azure": Upstream(base_url="https://x.openai.azure.com:8443/openai/v1", preset="azure"),
    "claude": Upstream(base_url="http://[::1]:8000/v1", protocol=Protocol.ANTHROPIC),
    "gpu": Upstream(base_url="http://10.0.0.1/v1"),
}
ENDED_AT = 1_795_000_000.5


def made(**changes: Any) -> list[ReadableSpan]:
    """The spans of a stream that `openai` answered at the first attempt, except for `changes`."""
    usual: dict[str, Any] = {
        "trace_id": TRACE,
        "trace_sampled": True,
        "span_id": OURS,
        "attempts": (attempt(span_id="2" * 16, offset_s=0.001, head_s=0.3),),
    }
    return SpanMaker("llm-router", UPSTREAMS).spans(ended(**(usual | changes)), ENDED_AT)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_times_are_counted_back_from_the_end() -> None:
    """A request began as long before its record as it lasted, and its attempts so long after that."""
    server, client = made(duration_s=1.5, attempts=(attempt(span_id="2" * 16, offset_s=0.25, duration_s=1.0),))
    assert (server.start_time, server.end_time) == (1_794_999_999_000_000_000, 1_795_000_000_500_000_000)
    assert (client.start_time, client.end_time) == (1_794_999_999_250_000_000, 1_795_000_000_250_000_000)
    _, unknown = made(duration_s=1.5, attempts=(attempt(span_id="2" * 16, offset_s=NEVER),))
    assert unknown.start_time == server.start_time


def test_a_trace_that_begins_here_has_no_parent() -> None:
    """Without a client's span ours is the root; with one it is below it, and that one is elsewhere."""
    assert made()[0].parent is None
    parent = made(parent_span_id="00f067aa0ba902b7")[0].parent
    assert parent is not None
    assert (parent.span_id, parent.is_remote) == (0x00F067AA0BA902B7, True)
    server, client = made()
    assert (server.kind, client.kind) == (SpanKind.SERVER, SpanKind.CLIENT)
    assert client.parent == server.context


@pytest.mark.parametrize(
    ("endpoint", "operation"),
    [
        ("chat", "chat"),
        ("messages", "chat"),
        ("responses", "chat"),
        ("completions", "text_completion"),
        ("embeddings", "embeddings"),
        ("rerank", "rerank"),
        ("images", "images"),
    ],
)
def test_operations_are_those_of_the_conventions(endpoint: str, operation: str) -> None:
    """What has a name there has that name; every span of a request says the same."""
    for span in made(endpoint=endpoint):
        assert attributes(span)["gen_ai.operation.name"] == operation
        assert span.name.startswith(operation + " ")
    assert attributes(made(endpoint=endpoint)[0])["llm_router.endpoint"] == endpoint


@pytest.mark.parametrize(
    ("upstream", "provider", "address", "port"),
    [
        ("openai", "openai", "api.openai.com", 443),
        ("azure", "azure.ai.openai", "x.openai.azure.com", 8443),
        ("claude", "anthropic", "::1", 8000),
        ("gpu", "openai", "10.0.0.1", 80),
    ],
)
def test_an_attempt_says_where_it_went(upstream: str, provider: str, address: str, port: int) -> None:
    """Provider, host and port are those of the configuration; an upstream it has no more is only named."""
    server, client = made(upstream=upstream, attempts=(attempt(upstream, span_id="2" * 16),))
    found = attributes(client)
    assert (found["gen_ai.provider.name"], found["server.address"], found["server.port"]) == (provider, address, port)
    assert attributes(server)["gen_ai.provider.name"] == provider
    _, client = made(upstream="gone", attempts=(attempt("gone", span_id="2" * 16),))
    assert "server.address" not in attributes(client)
    assert attributes(client)["llm_router.upstream"] == "gone"


def test_tokens_stand_once_and_add_up() -> None:
    """They are at the last attempt: the whole prompt, of it what a cache had, the whole answer, of it the reasoning."""
    usage = Usage(input=7, cache_read=11, cache_write=13, output=17, reasoning=5, cache_write_long=19, audio_in=23,
                  image_in=29, audio_out=31)  # fmt: skip
    attempts = (attempt("azure", "connect", span_id="3" * 16), attempt(span_id="2" * 16))
    spans = made(usage=usage, attempts=attempts)
    found = [{k: v for k, v in attributes(span).items() if k.startswith("gen_ai.usage")} for span in spans]
    assert found == [
        {},
        {},
        {
            "gen_ai.usage.input_tokens": usage.prompt,
            "gen_ai.usage.output_tokens": usage.completion,
            "gen_ai.usage.cache_read.input_tokens": 11,
            "gen_ai.usage.cache_write.input_tokens": 32,
            "gen_ai.usage.reasoning.output_tokens": 5,
        },
    ]
    assert not [key for span in made(usage=None) for key in attributes(span) if key.startswith("gen_ai.usage")]


@pytest.mark.parametrize("outcome", Outcome)
def test_what_is_an_error(outcome: Outcome) -> None:
    """Ends that are ours or the upstream's fault are errors, what the client did is none; all but one have a type."""
    server = made(outcome=outcome, reason="")[0]
    fault = outcome in {"overloaded", "no_backend", "upstream_error", "timeout", "internal"}
    assert (server.status.status_code is StatusCode.ERROR) is fault
    assert attributes(server).get("error.type") == (None if outcome is Outcome.OK else outcome)
    server = made(outcome=outcome, reason="because")[0]
    assert server.status.description == ("because" if fault else None)


@pytest.mark.parametrize(("cause", "fault"), [("ok", False), ("client_gone", False), ("http_429", True)])
def test_what_is_an_error_of_an_attempt(cause: str, fault: bool) -> None:
    """An attempt failed by whatever its cause says, unless the client left."""
    _, client = made(attempts=(attempt(cause=cause, span_id="2" * 16, status=429),))
    assert (client.status.status_code is StatusCode.ERROR) is fault
    assert attributes(client).get("error.type") == (None if cause == "ok" else cause)
    assert attributes(client)["http.response.status_code"] == 429


def test_what_did_not_happen_is_not_said() -> None:
    """No times, statuses, costs and upstreams that there were not; an attempt without a span has none."""
    server, client = made(ttft_s=NEVER, upstream="", attempts=(attempt(cause="connect", span_id="2" * 16),))
    said = {*attributes(server), *attributes(client)}
    absent = {"gen_ai.response.time_to_first_chunk", "llm_router.cost_usd", "llm_router.time_to_head"}
    assert not said & absent
    assert "http.response.status_code" not in attributes(client)
    assert "llm_router.upstream" not in attributes(server)
    assert len(made(attempts=(attempt(),))) == 1
    assert len(made(attempts=())) == 1


def test_a_name_that_is_no_text_spoils_nothing() -> None:
    """A lone surrogate in a model's name, which has no UTF-8, cannot keep the spans of a batch from being sent."""
    odd = "\ud800"
    spans = made(requested_model=odd, attempts=(attempt(model=odd, span_id="2" * 16),))
    assert encode_spans(spans).SerializeToString()
    assert {attributes(span)["gen_ai.request.model"] for span in spans} == {"?"}
