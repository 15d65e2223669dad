"""`deploy/prometheus` and the runbook: the rules are valid, ask for what there is, and call when they should."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from router.errors import Kind
from router.events import Outcome
from router.policy.outcomes import Cause, Cools
from router.telemetry.metrics import STATES
from tests.deploy.promql import DEPLOY, PROMETHEUS, RULES, SCRAPED, faults, known, needs_promtool, promtool, recorded

ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
TESTS: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
RUNBOOK = (DEPLOY / "RUNBOOK.md").read_text()

EJECTION_REASONS = {"consecutive", "error_rate"}
"""Why the breaker opens: `policy.breaker.Ejected.reason`."""


def labels_kept(alert: dict[str, Any]) -> frozenset[str]:
    """The labels that an alert's text may name: those of its first metric or of its first grouping."""
    names = known() | recorded()
    expr = re.sub(r"histogram_quantile\([^,]*,", "", alert["expr"])
    grouped = re.match(r"[\s(]*(?:sum|max|count|increase)?\s*(?:by \(([^)]*)\))", expr)
    if grouped is not None:
        return frozenset(label.strip() for label in grouped[1].split(",")) - {"le"}
    first = next(word for word in re.findall(r"[a-z_:][\w:]*", expr) if word in names)
    return names[first]


# the rules


@needs_promtool
def test_the_files_are_what_prometheus_reads() -> None:
    """The configuration and the rules in it are valid, and no rule stands there twice."""
    said = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert f"{len(RULES)} rules found" in said
    promtool("check", "rules", "--lint-fatal", PROMETHEUS / "rules.yml")


@needs_promtool
def test_alerts_fire_and_are_quiet_as_written() -> None:
    """Every case of `rules_test.yml` holds, texts included."""
    assert "SUCCESS" in promtool("test", "rules", PROMETHEUS / "rules_test.yml")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    """Every metric, label, bucket and outcome in a rule is one that the router has, or that a rule records."""
    assert list(faults(rule["expr"], known() | recorded())) == []


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_played_in_three_ways(name: str) -> None:
    """Each alert has a case in which it fires, one in which it is quiet with its metrics, and one without data."""
    metrics = measured(ALERTS[name]["expr"])
    played: set[str] = set()
    for case in TESTS:
        series = {re.split(r"[{ ]", each["series"])[0] for each in case.get("input_series", ())}
        for expected in case.get("alert_rule_test", ()):
            if expected["alertname"] == name and expected["exp_alerts"]:
                played.add("fires")
            elif expected["alertname"] == name and metrics <= series:
                played.add("quiet")
        if not series:
            played |= {f"no data, {bool(e['exp_alerts'])}" for e in case["alert_rule_test"] if e["alertname"] == name}
    without_data = {f"no data, {fires}" for fires in ((True, False) if name == "LLMRouterAbsent" else (False,))}
    assert played == {"fires", "quiet"} | without_data


def measured(expr: str) -> set[str]:
    """The router's metrics that an expression comes from, by way of what rules record."""
    words = set(re.findall(r"[a-z_:][\w:]*", expr))
    behind = (measured(rule["expr"]) for rule in RULES if rule.get("record") in words)
    return words & set(known()) | set().union(*behind)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_is_about(name: str) -> None:
    """Each alert has a severity, a summary, a description, and names only labels that it has."""
    alert = ALERTS[name]
    assert name.startswith("LLMRouter")
    assert set(alert["labels"]) == {"severity"}
    assert alert["labels"]["severity"] in {"page", "ticket"}
    texts = alert["annotations"]
    assert set(texts) == {"summary", "description", "runbook_url"}
    named = set(re.findall(r"\$labels\.(\w+)", texts["summary"] + texts["description"]))
    assert named <= labels_kept(alert)


def test_the_scrape_is_that_of_the_rules() -> None:
    """The job has the name under which the rules look for `up`."""
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    pattern = re.search(r'up\{job=~"([^"]+)"\}', ALERTS["LLMRouterDown"]["expr"])
    assert pattern is not None
    assert all(re.fullmatch(pattern[1], job["job_name"]) for job in jobs)
    assert {"job", "instance"} == SCRAPED


# the runbook


def headings() -> list[str]:
    """The third-level headings of the runbook, without their quotes."""
    return [heading.strip("`") for heading in re.findall(r"(?m)^### (.+)$", RUNBOOK)]


def test_every_alert_and_reason_has_its_heading() -> None:
    """The runbook has one heading for each alert, outcome, reason of an error, cause and reason to be out; no other."""
    written = headings()
    assert len(set(written)) == len(written)
    assert set(written) == {
        *ALERTS, *Outcome, *Kind, *Cause, *EJECTION_REASONS, *(set(Cools) - {Cools.NONE}), *STATES
    }  # fmt: skip


@pytest.mark.parametrize("heading", headings())
def test_a_heading_says_what_to_do(heading: str) -> None:
    """Below each heading stands what it means, what to look at and what to do."""
    text = re.split(rf"(?m)^### `?{heading}`?$", RUNBOOK)[1].partition("\n#")[0]
    said = re.findall(r"(?m)^- \*\*(Means|Look at|Do):\*\* \S", text)
    assert said == ["Means", "Look at", "Do"]


def test_every_alert_leads_to_its_heading() -> None:
    """`runbook_url` is the path of the runbook and the anchor of the alert's own heading."""
    for name, alert in ALERTS.items():
        assert alert["annotations"]["runbook_url"] == f"deploy/RUNBOOK.md#{name.lower()}"


def test_what_the_runbook_names_is_there() -> None:
    """Metrics, settings and headings that the runbook refers to exist."""
    series = {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in known()}
    assert set(re.findall(r"\b(?:llm_router_|process_)\w+", RUNBOOK)) <= series
    settings = (DEPLOY.parent / "config" / "router.yaml").read_text()
    for section, name in re.findall(r"`(\w+)\.(\w+)`", RUNBOOK):
        if section not in {"error", "tokens"}:  # of an answer, and of a line of the log
            for word in (section, name):
                assert re.search(rf"(?m)^ *#?{word}:", settings), f"{section}.{name}"
    anchors = {heading.strip("`").lower().replace(" ", "-") for heading in re.findall(r"(?m)^##+ (.+)$", RUNBOOK)}
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= anchors
