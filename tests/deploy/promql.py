"""Reading PromQL: which metrics an expression asks for, by which labels, and whether the router has them.

No parser of the whole language: promtool is that, and is called from here too. Expressions keep to the plain forms, and
a word that none of them explains is a fault.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector

from router.events import Outcome, Side
from router.policy.outcomes import Cause
from router.telemetry import specs
from router.telemetry.cells import Kind
from router.telemetry.metrics import AUTH_REASONS, COOLS, STATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]
]

PATIENCE_S = 120

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)

SCRAPED = frozenset({"job", "instance"})
"""The labels that every target has."""

WORDS = frozenset(
    (
        "sum", "max", "min", "avg", "count", "by", "on", "ignoring", "group_left", "and", "or", "unless", "rate",
        "increase", "changes", "absent", "avg_over_time", "histogram_quantile", "time", "vector",
    )
)  # fmt: skip

VALUES: Mapping[tuple[str, str], frozenset[str]] = {
    ("llm_router_requests_total", "outcome"): frozenset(Outcome),
    ("llm_router_attempts_total", "outcome"): frozenset(Cause),
    ("llm_router_backend_state", "state"): frozenset(STATES),
    ("llm_router_auth_failures_total", "reason"): frozenset(AUTH_REASONS),
    ("llm_router_stream_aborts_total", "side"): frozenset(Side),
    ("llm_router_stream_aborts_total", "phase"): frozenset({"before_first_token", "mid_stream"}),
    ("llm_router_request_duration_seconds", "stream"): frozenset({"true", "false"}),
    ("llm_router_time_to_first_token_seconds", "stream"): frozenset({"true", "false"}),
    ("llm_router_cooldowns_total", "reason"): frozenset(COOLS),
    ("llm_router_ratelimit_decisions_total", "scope"): frozenset({"key", "backend"}),
}
"""Of a metric's label, all values that the code can give it."""

_STRING = re.compile(r'"[^"]*"')
_MATCHERS = re.compile(r"([a-zA-Z_:][\w:]*)?\{([^}]*)\}")
_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*')
_GROUPING = re.compile(r"\b(?:by|on|ignoring|group_left)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_WORD = re.compile(r"[a-zA-Z_:][\w:]*")


def known() -> dict[str, frozenset[str]]:
    """Every series name that a scrape of the router has, and its labels."""
    names: dict[str, frozenset[str]] = {"up": SCRAPED}
    for spec in specs.ALL:
        labels = SCRAPED | set(spec.labels)
        if spec.kind is Kind.HISTOGRAM:
            names |= {f"{spec.name}_{part}": labels for part in ("count", "sum")}
            names[f"{spec.name}_bucket"] = labels | {"le"}
        else:
            names[spec.name] = labels
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return names | {metric.name: SCRAPED for metric in registry.collect()} | {"process_cpu_seconds_total": SCRAPED}


def faults(expr: str, names: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """What an expression asks for that there is not. Variables of Grafana count as strings and durations."""
    used: set[str] = set()
    for metric, matchers in _MATCHERS.findall(expr):
        yield from _matcher_faults(metric, matchers, names)
    bare = _RANGE.sub("", _STRING.sub('""', _MATCHERS.sub(r"\1", expr)))
    groupings = [label.strip() for labels in _GROUPING.findall(bare) for label in labels.split(",") if label.strip()]
    for word in _WORD.findall(_GROUPING.sub("", bare)):
        if word in names:
            used |= names[word]
        elif word not in WORDS:
            yield f"{word}: no such metric or function"
    for label in groupings:
        if label not in used:
            yield f"{label}: no metric of the expression has this label"


def _matcher_faults(metric: str, matchers: str, names: Mapping[str, frozenset[str]]) -> Iterator[str]:
    if metric not in names:
        yield f"{metric or '{…}'}: no such metric"
        return
    for matcher in filter(str.strip, re.split(r",(?=\s*\w+\s*[=!])", matchers)):
        found = _MATCHER.fullmatch(matcher)
        if found is None:
            yield f"{matcher}: no matcher"
            continue
        label, _, value = found.groups()
        if label not in names[metric]:
            yield f"{metric} has no label {label}"
        family = re.sub(r"_(?:bucket|count|sum)$", "", metric)
        if label == "le":
            yield from _bound_faults(family, value)
        elif not value.startswith("$") and (values := VALUES.get((family, label))) is not None:
            yield from (f"{metric}: {label} is never {each}" for each in value.split("|") if each not in values)


def _bound_faults(family: str, value: str) -> Iterator[str]:
    bounds = next(spec.bounds for spec in specs.ALL if spec.name == family)
    if value not in map(str, bounds):
        yield f"{family} has no bucket {value}"


def promtool(*arguments: str | Path, stdin: bytes | None = None) -> str:
    """Run promtool; what it said. It must find nothing wrong."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


def recorded() -> dict[str, frozenset[str]]:
    """The names that the rules record, and the labels they keep."""
    result = {}
    for rule in RULES:
        if "record" in rule:
            kept = re.search(r"by \(([^)]*)\)", rule["expr"])
            assert kept is not None, rule
            result[rule["record"]] = frozenset(label.strip() for label in kept[1].split(","))
    return result
