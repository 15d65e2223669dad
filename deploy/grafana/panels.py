# ruff: noqa: INP001 (the neighbour of a script, no package)
"""What the two Grafana dashboards show; `dashboards.py` makes their JSON of it.

A panel says what it shows, in which unit, and what its series are called. The overview is for whoever asks whether
users are served well, the other one for whoever looks for the cause.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ERRORS = "upstream_error|timeout|no_backend|overloaded|internal"
NOT_JUDGED = "client_error|rate_limited|client_gone"
"""Outcomes that are the client's doing: neither errors nor successes, as in the rules."""
OBJECTIVE_ERRORS = 0.005
"""The share of requests that may fail in 30 days, as in the rules."""

WHO = 'job=~"$job", instance=~"$instance"'
MODEL = f'{WHO}, model=~"$model"'
STREAMS = f'{MODEL}, stream="true"'
BACKEND = f'{WHO}, backend=~"$backend"'
GOOD = f'{BACKEND}, outcome="ok"'
BY = "$__rate_interval"


@dataclass(frozen=True)
class Query:
    """One expression and what its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture. `width` and `height` are in units of Grafana's grid."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    log: bool = False
    empty: str = "none"
    """What is shown where there is no series: most counters of bad things begin with the first of them."""
    thresholds: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    colours: dict[str, str] = field(default_factory=dict)
    """Names of series that have a meaning of their own, and their colour."""
    mappings: tuple[tuple[int, str, str], ...] = ()
    """Value, text and colour, where values are states."""
    repeat: str = ""
    """A variable: the panel is shown once for each of its values."""
    bounds: tuple[float | None, float | None] = (0, None)
    decimals: int | None = None
    """None: as many as Grafana finds fit."""


@dataclass(frozen=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    description: str
    variables: tuple[tuple[str, str, str], ...]
    """Name, label and query of each, besides the data source."""
    rows: tuple[Row, ...]


def rate(metric: str, labels: str, by: str = "", over: str = BY) -> str:
    """Per second, summed over everything but `by`."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{labels}}}[{over}]))"


def quantile(q: float, metric: str, labels: str, by: str = "", over: str = BY) -> str:
    """A quantile of a histogram, of all its series together but for `by`."""
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', labels, f'{by}, le' if by else 'le', over)})"


def share_of_errors(over: str) -> str:
    """What share of the requests that are judged failed; nothing without such requests."""
    errors = rate("llm_router_requests_total", f'{MODEL}, outcome=~"{ERRORS}"', over=over)
    judged = rate("llm_router_requests_total", f'{MODEL}, outcome!~"{NOT_JUDGED}"', over=over)
    return f"{errors} / ({judged} > 0)"


OUTCOME_COLOURS = {
    "ok": "green", "client_error": "light-blue", "rate_limited": "yellow", "overloaded": "orange", "no_backend": "red",
    "upstream_error": "dark-red", "timeout": "purple", "client_gone": "#808080", "internal": "#000000",
}  # fmt: skip

HAPPY = Row("Are users happy?", (
    Panel(
        "Answered",
        "Requests that did not fail, of those that no client spoilt, was limited in or left. Objective: 99.5 %.",
        "percentunit",
        (Query(f"1 - {share_of_errors('$__range')}"),),
        kind="stat", width=4, height=4, empty="no requests", decimals=2,
        thresholds=((None, "red"), (0.99, "orange"), (0.995, "green")),
    ),
    Panel(
        "Error budget left (30 days)",
        "What is left of the 0.5 % that may fail in 30 days; below zero the objective is missed. RUNBOOK.md says what "
        "to do when it burns.",
        "percentunit",
        (Query(f"1 - ({share_of_errors('30d')}) / {OBJECTIVE_ERRORS}"),),
        kind="stat", width=4, height=4, empty="no requests", bounds=(None, 1), decimals=0,
        thresholds=((None, "red"), (0, "orange"), (0.25, "green")),
    ),
    Panel(
        "Time to first token, p95",
        "Of streams: from the complete request to the first content, failed attempts included.",
        "s",
        (Query(quantile(0.95, "llm_router_time_to_first_token_seconds", STREAMS, over="$__range")),),
        kind="stat", width=4, height=4, empty="no answers",
        thresholds=((None, "green"), (2.5, "orange"), (10, "red")),
    ),
    Panel(
        "Time per output token, p95",
        "Mean time between two tokens of a stream, one figure for each stream.",
        "s",
        (Query(quantile(0.95, "llm_router_time_per_output_token_seconds", MODEL, over="$__range")),),
        kind="stat", width=4, height=4, empty="no streams",
        thresholds=((None, "green"), (0.1, "orange"), (0.2, "red")),
    ),
    Panel(
        "Requests per second",
        "All requests, however they ended.",
        "reqps",
        (Query(rate("llm_router_requests_total", MODEL)),),
        kind="stat", width=4, height=4, empty="0",
    ),
    Panel(
        "Open streams",
        "Streams that have begun to reach their client, and open WebSockets.",
        "short",
        (Query(f"sum(llm_router_open_streams{{{MODEL}}})"),),
        kind="stat", width=4, height=4, empty="0",
    ),
))  # fmt: skip

TRAFFIC = Row("Traffic", (
    Panel(
        "Requests by model",
        "`_unknown`: requests that named no model of the configuration.",
        "reqps",
        (Query(rate("llm_router_requests_total", MODEL, "model"), "{{model}}"),),
        width=6, stacked=True,
    ),
    Panel(
        "How requests ended",
        "By outcome; RUNBOOK.md has a heading for each.",
        "reqps",
        (Query(rate("llm_router_requests_total", MODEL, "outcome"), "{{outcome}}"),),
        width=6, stacked=True, colours=OUTCOME_COLOURS,
    ),
    Panel(
        "Tokens per second by type",
        "As upstreams reported them. The types do not overlap: together they are what is billed.",
        "short",
        (Query(rate("llm_router_tokens_total", MODEL, "type"), "{{type}}"),),
        width=6, stacked=True,
    ),
    Panel(
        "Cost per hour",
        "By the prices of the configuration, at the present rate. Models without prices are not in it.",
        "currencyUSD",
        (Query(f"{rate('llm_router_cost_usd_total', MODEL, 'model')} * 3600", "{{model}}"),),
        width=6, stacked=True, empty="no prices",
    ),
))  # fmt: skip

LATENCY = Row("Latency", (
    Panel(
        "Time to first token",
        "How many streams began after how long.",
        "s",
        (Query(
            f"sum by (le) (increase(llm_router_time_to_first_token_seconds_bucket{{{STREAMS}}}[{BY}]))", "{{le}}"
        ),),
        kind="heatmap", empty="no answers",
    ),
    Panel(
        "Duration of requests",
        "From the first byte of the request to the last of the answer.",
        "s",
        tuple(
            Query(quantile(q, "llm_router_request_duration_seconds", MODEL), f"p{q * 100:.0f}")
            for q in (0.5, 0.95, 0.99)
        ),
        log=True,
    ),
    Panel(
        "Is it the router or the upstream? (p99)",
        "The router's own time in a request and how late its event loop wakes, beside the time to the head of the "
        "upstreams' answers.",
        "s",
        (
            Query(quantile(0.99, "llm_router_attempt_duration_seconds", WHO), "upstreams, to the head of the answer"),
            Query(quantile(0.99, "llm_router_overhead_seconds", WHO), "router, own time in a request"),
            Query(quantile(0.99, "llm_router_event_loop_lag_seconds", WHO), "router, lateness of its event loop"),
        ),
        log=True,
    ),
))  # fmt: skip

PROTECTION = Row("Protection", (
    Panel(
        "Refused for limits and keys",
        "Requests that a limit of their key refused, and requests without a valid key.",
        "reqps",
        (
            Query(rate("llm_router_ratelimit_decisions_total", WHO, "scope, limit"), "{{scope}}'s {{limit}}"),
            Query(rate("llm_router_auth_failures_total", WHO, "reason"), "{{reason}}"),
        ),
        width=12,
    ),
    Panel(
        "Retries, failovers and cut streams",
        "Further attempts by why the one before failed; those of them that went to another upstream; streams that "
        "broke off, by who ended them and when.",
        "ops",
        (
            Query(rate("llm_router_retries_total", MODEL, "reason"), "retry after {{reason}}"),
            Query(rate("llm_router_failovers_total", MODEL), "failover"),
            Query(rate("llm_router_stream_aborts_total", MODEL, "side, phase"), "cut by {{side}}, {{phase}}"),
        ),
        width=12,
    ),
))  # fmt: skip

ROUTERS = f"* on (job, instance) group_left max by (job, instance) (llm_router_build_info{{{WHO}}})"
"""Keeps of a process's metrics those of routers."""

DAEMON = Row("Routers", (
    Panel(
        "Processor and file descriptors",
        "A router uses one core. Each client and each upstream's connection is a descriptor.",
        "percentunit",
        (
            Query(f"rate(process_cpu_seconds_total{{{WHO}}}[{BY}]) {ROUTERS}", "{{instance}} of a core"),
            Query(f"process_open_fds{{{WHO}}} / process_max_fds {ROUTERS}", "{{instance}} of its descriptors"),
        ),
        width=6,
    ),
    Panel(
        "Memory",
        "Resident memory of the processes.",
        "bytes",
        (Query(f"process_resident_memory_bytes{{{WHO}}} {ROUTERS}", "{{instance}}"),),
        width=6,
    ),
    Panel(
        "Processes",
        "What runs where. Configuration: the hash of the one that runs; refused: the file as it is now cannot be used.",
        "short",
        (
            Query(f"max by (instance, version, loop) (llm_router_build_info{{{WHO}}})"),
            Query(f"max by (instance, hash) (llm_router_config_info{{{WHO}}})"),
            Query(f"max by (instance) (llm_router_config_last_reload_successful{{{WHO}}})"),
            Query(f"max by (instance) (llm_router_client_connections{{{WHO}}})"),
            Query(f"max by (instance) (time() - process_start_time_seconds{{{WHO}}} {ROUTERS})"),
        ),
        kind="table", width=12,
    ),
))  # fmt: skip

STATES = ((0, "healthy", "green"), (1, "half_open", "yellow"), (2, "cooling", "blue"), (3, "ejected", "red"),
          (4, "draining", "#808080"))  # fmt: skip
"""What the number stands for that the state of an upstream is drawn as."""


def state_number() -> str:
    """One number for each upstream at each router: exactly one of the states is 1."""
    each = " or ".join(
        f'llm_router_backend_state{{{BACKEND}, state="{name}"}} * {number}' for number, name, _ in STATES
    )
    return f"sum by (backend, instance) ({each})"


WHO_CAN = Row("Who can answer?", (
    Panel(
        "State",
        "half_open: one request is let through on trial. cooling: the upstream said 429, or refused our account. "
        "RUNBOOK.md has a heading for each.",
        "short",
        (Query(state_number(), "{{backend}} at {{instance}}"),),
        kind="state-timeline", width=16, mappings=STATES,
    ),
    Panel(
        "Out now",
        "Upstreams that may not be picked, most of them at any one router.",
        "short",
        (Query(f"max(count by (job, instance) (llm_router_backend_up{{{BACKEND}}} == 0)) or vector(0)"),),
        kind="stat", width=4, empty="0", thresholds=((None, "green"), (1, "orange")),
    ),
    Panel(
        "Attempts that failed",
        "Of all attempts in the time shown; most are mended by another upstream.",
        "percentunit",
        (Query(
            f"1 - {rate('llm_router_attempts_total', GOOD, over='$__range')}"
            f" / ({rate('llm_router_attempts_total', BACKEND, over='$__range')} > 0)"
        ),),
        kind="stat", width=4, empty="no attempts", thresholds=((None, "green"), (0.05, "orange"), (0.2, "red")),
    ),
))  # fmt: skip

LOAD = Row("Load", (
    Panel(
        "In flight",
        "Requests at each upstream, to the last byte of their answers.",
        "short",
        (Query(f"sum by (backend) (llm_router_backend_inflight_requests{{{BACKEND}}})", "{{backend}}"),),
    ),
    Panel(
        "In flight, of the limit",
        "Of `limits.concurrency`, at the fullest router. A full upstream is passed over. Upstreams without a limit are "
        "not shown.",
        "percentunit",
        (Query(
            f"max by (backend) (llm_router_backend_inflight_requests{{{BACKEND}}}"
            f" / llm_router_backend_inflight_limit{{{BACKEND}}})",
            "{{backend}}",
        ),),
        empty="no limits",
    ),
    Panel(
        "Share of the traffic and of the weights",
        "Attempts at an upstream, and its weights in all pools, each of the sum over those shown. They differ where "
        "models are used unequally, where tiers or limits decide, and where an upstream is out.",
        "percentunit",
        (
            Query(
                f"{rate('llm_router_attempts_total', BACKEND, 'backend')}"
                f" / ignoring (backend) group_left () ({rate('llm_router_attempts_total', BACKEND)} > 0)",
                "{{backend}}: traffic",
            ),
            Query(
                f"sum by (backend) (llm_router_backend_weight{{{BACKEND}}})"
                f" / ignoring (backend) group_left sum(llm_router_backend_weight{{{BACKEND}}})",
                "{{backend}}: weight",
            ),
        ),
    ),
))  # fmt: skip

ATTEMPTS = Row("What became of attempts at each", (
    Panel(
        "$backend",
        "By outcome; RUNBOOK.md has a heading for each.",
        "reqps",
        (Query(rate("llm_router_attempts_total", BACKEND, "outcome"), "{{outcome}}"),),
        stacked=True, colours={"ok": "green", "http_429": "yellow", "client_gone": "#808080"}, repeat="backend",
    ),
))  # fmt: skip

FAILURES = Row("Failures", (
    Panel(
        "Attempts that failed, by upstream",
        "Share of the attempts at each, 429 and clients that left included.",
        "percentunit",
        (Query(
            f"1 - {rate('llm_router_attempts_total', GOOD, 'backend')}"
            f" / ({rate('llm_router_attempts_total', BACKEND, 'backend')} > 0)",
            "{{backend}}",
        ),),
    ),
    Panel(
        "Failovers away from",
        "Requests that another upstream took over, by which they left and why.",
        "ops",
        (Query(
            rate("llm_router_failovers_total", f'{WHO}, from_backend=~"$backend"', "from_backend, reason"),
            "{{from_backend}}: {{reason}}",
        ),),
    ),
    Panel(
        "Ejections",
        "Upstreams, or models of theirs, taken out for failing, in each interval.",
        "short",
        (Query(f"sum by (backend, reason) (increase(llm_router_ejections_total{{{BACKEND}}}[{BY}]))",
               "{{backend}}: {{reason}}"),),
    ),
))  # fmt: skip

SPEED = Row("Speed", (
    Panel(
        "Time to first token, p95",
        "Of streams that this upstream gave, the attempts that failed elsewhere before included.",
        "s",
        (Query(
            quantile(0.95, "llm_router_time_to_first_token_seconds", f'{BACKEND}, stream="true"', "backend"),
            "{{backend}}",
        ),),
        width=6, log=True,
    ),
    Panel(
        "Time to the head of the answer, p95",
        "From the request sent. Of a stream it is the prompt's turn and reading; of a plain answer nearly the whole.",
        "s",
        (Query(quantile(0.95, "llm_router_attempt_duration_seconds", BACKEND, "backend"), "{{backend}}"),),
        width=6, log=True,
    ),
    Panel(
        "Time per output token, p95",
        "Mean time between two tokens of a stream, one figure for each stream.",
        "s",
        (Query(quantile(0.95, "llm_router_time_per_output_token_seconds", BACKEND, "backend"), "{{backend}}"),),
        width=6,
    ),
    Panel(
        "Longest silence in a stream, p99",
        "After its first content: finds the stalls that means hide.",
        "s",
        (Query(quantile(0.99, "llm_router_stream_max_gap_seconds", BACKEND, "backend"), "{{backend}}"),),
        width=6, log=True,
    ),
))  # fmt: skip

USAGE = Row("Tokens and money", (
    Panel(
        "Tokens per second",
        "As the upstreams reported them, of all types.",
        "short",
        (Query(rate("llm_router_tokens_total", BACKEND, "backend"), "{{backend}}"),),
        stacked=True,
    ),
    Panel(
        "Cost per hour",
        "By the prices of the configuration, at the present rate.",
        "currencyUSD",
        (Query(f"{rate('llm_router_cost_usd_total', BACKEND, 'backend')} * 3600", "{{backend}}"),),
        stacked=True, empty="no prices",
    ),
    Panel(
        "Answers without usage",
        "Of the good attempts at each: by so much its tokens and cost are too low.",
        "percentunit",
        (Query(
            f"{rate('llm_router_usage_missing_total', BACKEND, 'backend')}"
            f" / ({rate('llm_router_attempts_total', GOOD, 'backend')} > 0)",
            "{{backend}}",
        ),),
    ),
))  # fmt: skip

JOB = ("job", "Job", "label_values(llm_router_build_info, job)")
INSTANCE = ("instance", "Router", 'label_values(llm_router_build_info{job=~"$job"}, instance)')
BOARDS = (
    Board(
        "llm-router-overview",
        "LLM router: overview",
        "Whether clients are served well, and what the routers do for it.",
        (JOB, INSTANCE, ("model", "Model", f"label_values(llm_router_inflight_requests{{{WHO}}}, model)")),
        (HAPPY, TRAFFIC, LATENCY, PROTECTION, DAEMON),
    ),
    Board(
        "llm-router-upstreams",
        "LLM router: upstreams",
        "Which upstreams can answer, what they are given, and how they do.",
        (JOB, INSTANCE, ("backend", "Upstream", f"label_values(llm_router_backend_up{{{WHO}}}, backend)")),
        (WHO_CAN, LOAD, ATTEMPTS, FAILURES, SPEED, USAGE),
    ),
)

ANNOTATIONS = (
    (
        "Configuration changed",
        "blue",
        f"changes(llm_router_config_last_reload_success_timestamp_seconds{{{WHO}}}[$__interval]) > 0",
        "{{instance}}",
    ),
    (
        "Router started",
        "purple",
        f"changes(process_start_time_seconds{{{WHO}}}[$__interval]) {ROUTERS} > 0",
        "{{instance}}",
    ),
    (
        "Upstream ejected",
        "red",
        f"sum by (backend, reason) (increase(llm_router_ejections_total{{{WHO}}}[$__interval])) > 0",
        "{{backend}}: {{reason}}",
    ),
)
"""Title, colour, expression and text of what is marked in every picture."""
