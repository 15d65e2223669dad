"""The list of metrics keeps the rules of naming and the buckets of OPERATIONS 1.3."""

from __future__ import annotations

import pytest

from router.telemetry import specs
from router.telemetry.cells import Kind, Spec

BUCKETS = {
    "request_duration_seconds": ".05 .1 .25 .5 1 2.5 5 10 20 40 80 160 320 640",
    "time_to_first_token_seconds": ".01 .025 .05 .1 .2 .4 .6 .8 1 1.5 2.5 5 10 20 40 80",
    "time_per_output_token_seconds": ".001 .0025 .005 .01 .015 .02 .03 .05 .075 .1 .2 .5 1",
    "stream_max_gap_seconds": ".05 .1 .25 .5 1 2.5 10 30",
    "overhead_seconds": ".00025 .0005 .001 .002 .005 .01 .025 .05 .1 .25",
    "attempt_duration_seconds": ".01 .025 .05 .1 .25 .5 1 2.5 5 10 30 60",
    "event_loop_lag_seconds": ".001 .005 .01 .025 .05 .1 .25 .5 1",
}

LABELS = {
    "requests_total": "model endpoint outcome",
    "http_responses_total": "endpoint code",
    "request_duration_seconds": "model stream",
    "time_to_first_token_seconds": "model backend stream",
    "time_per_output_token_seconds": "model backend",
    "stream_max_gap_seconds": "backend",
    "overhead_seconds": "stream",
    "tokens_total": "model backend type",
    "usage_missing_total": "backend",
    "cost_usd_total": "model backend",
    "attempts_total": "backend outcome",
    "attempt_duration_seconds": "backend",
    "retries_total": "model reason",
    "failovers_total": "model from_backend reason",
    "ejections_total": "backend reason",
    "cooldowns_total": "backend reason",
    "backend_up": "backend",
    "backend_state": "backend state",
    "backend_inflight_requests": "backend",
    "backend_inflight_limit": "backend",
    "backend_weight": "backend",
    "ratelimit_decisions_total": "scope limit decision",
    "inflight_requests": "model",
    "open_streams": "model",
    "eligible_members": "model",
    "draining": "",
    "client_connections": "",
    "stream_aborts_total": "model side phase",
    "auth_failures_total": "reason",
    "config_reloads_total": "result",
    "config_last_reload_successful": "",
    "config_last_reload_success_timestamp_seconds": "",
    "config_info": "hash",
    "build_info": "version revision python loop",
    "event_loop_lag_seconds": "",
    "metrics_dropped_labels_total": "metric",
    "client_retries_total": "",
    "access_log_dropped_total": "",
    "spans_dropped_total": "",
}


def test_the_list_is_the_catalogue() -> None:
    """Names, labels and their order are the published ones: dashboards depend on them."""
    assert {it.name: " ".join(it.labels) for it in specs.ALL} == {f"llm_router_{it}": LABELS[it] for it in LABELS}


def test_buckets_are_the_published_ones() -> None:
    """Objectives are read at bucket bounds, so bounds do not move by accident."""
    found = {it.name: it.bounds for it in specs.ALL if it.kind is Kind.HISTOGRAM}
    assert found == {f"llm_router_{name}": tuple(map(float, text.split())) for name, text in BUCKETS.items()}


@pytest.mark.parametrize("spec", specs.ALL, ids=lambda it: it.name)
def test_a_spec_follows_the_naming_rules(spec: Spec) -> None:
    """Counters end in `_total`, constants in `_info`, nothing else does, and each has a sentence of help."""
    assert spec.name.endswith("_total") == (spec.kind is Kind.COUNTER)
    assert spec.name.endswith("_info") == (spec.kind is Kind.INFO)
    assert len(spec.help.split()) > 2
    assert spec.help.endswith(".")
    assert "le" not in spec.labels
    assert list(spec.bounds) == sorted(spec.bounds)
