"""Every metric of the router: its name, meaning, labels and buckets (OPERATIONS 1.3).

`backend` is the configured name of an upstream and `model` that of a route: labels come from the configuration alone,
so no client can make series. Dashboards and alert rules are tested against `ALL`.
"""

from __future__ import annotations

from router.telemetry.cells import Kind, Spec


def _counter(name: str, labels: str, text: str) -> Spec:
    return Spec(Kind.COUNTER, f"llm_router_{name}", text, tuple(labels.split()))


def _gauge(name: str, labels: str, text: str) -> Spec:
    return Spec(Kind.GAUGE, f"llm_router_{name}", text, tuple(labels.split()))


def _info(name: str, labels: str, text: str) -> Spec:
    return Spec(Kind.INFO, f"llm_router_{name}", text, tuple(labels.split()))


def _histogram(name: str, labels: str, bounds: tuple[float, ...], text: str) -> Spec:
    return Spec(Kind.HISTOGRAM, f"llm_router_{name}", text, tuple(labels.split()), bounds)


# Requests, as the client saw them.

REQUESTS = _counter("requests_total", "model endpoint outcome", "Requests by how they ended.")
RESPONSES = _counter(
    "http_responses_total", "endpoint code", "Answers by HTTP status; 499: the client left before one."
)
DURATION = _histogram(
    "request_duration_seconds",
    "model stream",
    (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0),
    "From the first byte of a request to the last of its answer.",
)
TTFT = _histogram(
    "time_to_first_token_seconds",
    "model backend stream",
    (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0),
    "From the complete request to the first content sent to the client, failed attempts included; of an answer that is"
    " no stream it is all of it.",
)
TPOT = _histogram(
    "time_per_output_token_seconds",
    "model backend",
    (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0),
    "Mean time between two output tokens, observed once for each request.",
)
MAX_GAP = _histogram(
    "stream_max_gap_seconds",
    "backend",
    (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0),
    "The longest silence in a stream after its first content: finds the stalls that means hide.",
)
OVERHEAD = _histogram(
    "overhead_seconds",
    "stream",
    (0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    "Time spent in the router itself, without waiting for upstreams.",
)
STREAM_ABORTS = _counter(
    "stream_aborts_total", "model side phase", "Streams that did not reach their end, by who ended them and when."
)
CLIENT_RETRIES = _counter("client_retries_total", "", "Requests of which the client said that it was trying again.")
AUTH_FAILURES = _counter("auth_failures_total", "reason", "Requests without a key, or with one that is not valid.")
LIMIT_DECISIONS = _counter(
    "ratelimit_decisions_total",
    "scope limit decision",
    "Requests that a limit refused: whose (key), and which.",
)

# Tokens and money.

TOKENS = _counter(
    "tokens_total",
    "model backend type",
    "Tokens as upstreams reported them. The types are disjoint: output is without output_reasoning and output_audio,"
    " input without all that begin with input_, and the sum is what is billed.",
)
USAGE_MISSING = _counter(
    "usage_missing_total", "backend", "Whole answers, of a kind that has usage, in which the upstream reported none."
)
COST = _counter(
    "cost_usd_total", "model backend", "What answers cost by the prices of their model; absent for a model without any."
)

# Attempts, as the upstreams saw them.

ATTEMPTS = _counter("attempts_total", "backend outcome", "Tries at an upstream; outcome is ok or why it failed.")
ATTEMPT_DURATION = _histogram(
    "attempt_duration_seconds",
    "backend",
    (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    "From the request sent to an upstream to the head of its answer.",
)
RETRIES = _counter("retries_total", "model reason", "Further attempts, by why the one before had failed.")
FAILOVERS = _counter(
    "failovers_total", "model from_backend reason", "Those of the further attempts that went to another upstream."
)
EJECTIONS = _counter("ejections_total", "backend reason", "Upstreams, or models of theirs, taken out for failing.")
COOLDOWNS = _counter(
    "cooldowns_total",
    "backend reason",
    "Models of an upstream, each by credential, left alone because the upstream said so or refused our credential.",
)

# The present, read when asked for.

BACKEND_UP = _gauge("backend_up", "backend", "1 if the upstream may be picked now.")
BACKEND_STATE = _gauge("backend_state", "backend state", "1 for the state the upstream is in, 0 for every other.")
BACKEND_IN_FLIGHT = _gauge("backend_inflight_requests", "backend", "Requests in flight at the upstream.")
BACKEND_LIMIT = _gauge("backend_inflight_limit", "backend", "How many may be; absent without a limit.")
BACKEND_WEIGHT = _gauge("backend_weight", "backend", "The sum of the upstream's weights in all pools.")
IN_FLIGHT = _gauge("inflight_requests", "model", "Requests in flight.")
OPEN_STREAMS = _gauge("open_streams", "model", "Streams that have begun to reach the client.")
ELIGIBLE_MEMBERS = _gauge(
    "eligible_members", "model", "Members of the pool that may be picked now, one for each credential of theirs."
)
CLIENT_CONNECTIONS = _gauge("client_connections", "", "Open connections from clients.")

# The daemon.

DRAINING = _gauge("draining", "", "1 while it takes leave: not ready, and soon nothing new is taken.")
RELOADS = _counter("config_reloads_total", "result", "Reloads of the configuration that were asked for.")
RELOAD_OK = _gauge("config_last_reload_successful", "", "0 if the file was refused and an older configuration runs.")
RELOAD_OK_AT = _gauge("config_last_reload_success_timestamp_seconds", "", "When the configuration was last accepted.")
CONFIG_INFO = _info("config_info", "hash", "The hash of the running configuration.")
BUILD_INFO = _info("build_info", "version revision python loop", "What is running.")
LOOP_LAG = _histogram(
    "event_loop_lag_seconds",
    "",
    (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    "How late the event loop woke from a timer.",
)
DROPPED_LABELS = _counter(
    "metrics_dropped_labels_total", "metric", "New label sets folded into _other because of the series limit."
)
LOG_DROPPED = _counter("access_log_dropped_total", "", "Lines that did not reach the access log.")
SPANS_DROPPED = _counter("spans_dropped_total", "", "Spans that did not reach the collector of traces.")

ALL: tuple[Spec, ...] = tuple(it for it in globals().copy().values() if isinstance(it, Spec))
"""In the order of this file, which is that of the exposition."""

COUNTED = frozenset(ALL) - {
    *(it for it in ALL if it.kind in (Kind.GAUGE, Kind.INFO)),
    *(DROPPED_LABELS, LOG_DROPPED, SPANS_DROPPED),  # counted elsewhere, and read like gauges
}
"""Those whose numbers come from events and stand in cells."""
