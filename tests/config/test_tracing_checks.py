"""What must hold of `tracing`, told with its place in the file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from router.config import tracing_checks
from router.config.loader import Loaded, parse
from router.config.schema import Secret
from router.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

REST = "upstreams: {a: {base_url: 'http://127.0.0.1:8000/v1'}}\nmodels: {m: a}\n"
needs_extra = pytest.mark.skipif(not tracing_checks._installed(), reason="the extra [otel] is not installed")

GOOD = "endpoint: http://127.0.0.1:4318/v1/traces"


def load(tracing: str, environ: Mapping[str, str] | None = None) -> Loaded:
    return parse(f"tracing: {{{tracing}}}\n{REST}", "f", directory=Path("/"), environ=environ or {})


def faults(tracing: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tracing)
    return list(caught.value.faults)


@needs_extra
def test_the_usual_needs_only_an_endpoint() -> None:
    """A tenth is sampled, under our own name."""
    tracing = load(GOOD).config.tracing
    assert tracing is not None
    assert (tracing.endpoint, tracing.sample) == ("http://127.0.0.1:4318/v1/traces", 0.1)
    assert (tracing.headers, tracing.service_name) == ({}, "llm-router")


def test_without_it_nothing_is_traced() -> None:
    """It is off by default."""
    assert parse(REST, "f", directory=Path("/"), environ={}).config.tracing is None


@pytest.mark.parametrize(
    ("tracing", "told"),
    [
        ("sample: 0.5", "tracing.endpoint: is missing"),
        ("endpoint: 127.0.0.1:4318", "tracing.endpoint: must begin with http:// or https://"),
        ("endpoint: 'ftp://a/v1'", "tracing.endpoint: must begin with http:// or https://"),
        ("endpoint: 'http://u:p@a/v1'", "credentials belong under headers"),
        ("endpoint: 'http://a/v1?x=1'", "must end with its path"),
        ("endpoint: 'http://a:4318'", "names no path; a collector takes spans at /v1/traces"),
        ("endpoint: 'http://a:4318/'", "names no path; a collector takes spans at /v1/traces"),
        (f"{GOOD}, sample: 1.5", "tracing.sample: must be at most 1"),
        (f"{GOOD}, sample: -1", "tracing.sample: must be at least 0"),
        (f"{GOOD}, service_name: ''", "tracing.service_name: must have 1 to 256 printable characters"),
        (f"{GOOD}, service_name: {'x' * 257}", "tracing.service_name: must have 1 to 256 printable characters"),
        (f"{GOOD}, headers: {{'a b': {{env: A}}}}", "is not the name of a header"),
        (f"{GOOD}, headers: {{Content-Type: {{env: A}}}}", "the router decides about it"),
        (f"{GOOD}, headers: {{x: {{env: A}}}}", "environment variable A is not set"),
        (f"{GOOD}, headers: {{x: plain-secret}}", "a secret never stands in this file"),
        (f"{GOOD}, headers: {{x: {{sha256: {'0' * 64}}}}}", "sha256 is for client keys"),
    ],
)
def test_what_is_wrong_is_told(tracing: str, told: str) -> None:
    """Every fault names the setting and what to do, and none repeats what may be a secret."""
    found = faults(tracing)
    assert any(told in fault for fault in found), found
    assert not any("plain-secret" in fault or "u:p" in fault for fault in found)


@needs_extra
def test_headers_may_share_a_secret() -> None:
    """They are read like every other secret, and two of them may hold the same."""
    loaded = load(f"{GOOD}, headers: {{a: {{env: A}}, b: {{env: A}}}}", {"A": "s"})
    assert loaded.secrets[Secret(env="A")] == "s"


@pytest.mark.parametrize("missing", ["opentelemetry.exporter", "opentelemetry.sdk", "opentelemetry"])
def test_what_it_needs_is_told_if_it_is_not_there(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Without the extra the file has a fault that says what to install; a file without `tracing` has none."""
    for module in [name for name in sys.modules if name.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    told = "tracing.endpoint: needs OpenTelemetry, which is not installed: pip install 'llm-router[otel]'"
    assert faults(GOOD) == [f"f:1:21: {told}"]
    assert len(faults(f"{GOOD}, service_name: '', headers: {{x: {{env: A}}}}")) == 3
    parse(REST, "f", directory=Path("/"), environ={})
