"""What must hold of `tracing`: where it leads, what is sent along, and that what it needs is installed."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from router.config import addresses
from router.config.values import BadValue

if TYPE_CHECKING:
    from router.config.report import Report
    from router.config.schema import Tracing

NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
"""Modules of the extra `[otel]`."""

OURS: Final = frozenset({
    "connection", "content-encoding", "content-length", "content-type", "host", "transfer-encoding",
})  # fmt: skip
"""Headers that say how spans are sent."""

SERVICE_NAME_MAX: Final = 256

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")  # RFC 9110 section 5.6.2


def check(tracing: Tracing | None, report: Report) -> None:
    """Report what is wrong with it."""
    if tracing is None:
        return
    _check_endpoint(tracing.endpoint, report)
    if not _installed():  # told of a part: a fault of the whole would keep others in it from being told
        text = "needs OpenTelemetry, which is not installed: pip install 'llm-router[otel]'"
        report.add(("tracing", "endpoint"), text)
    for name in tracing.headers:
        if not _TOKEN.fullmatch(name):
            report.add(("tracing", "headers", name), "is not the name of a header")
        elif name.lower() in OURS:
            report.add(("tracing", "headers", name), "says how spans are sent; the router decides about it")
    name = tracing.service_name
    if not (0 < len(name) <= SERVICE_NAME_MAX and name.isprintable() and name == name.strip()):
        text = f"must have 1 to {SERVICE_NAME_MAX} printable characters, with no space at its ends"
        report.add(("tracing", "service_name"), text)


def _check_endpoint(endpoint: str, report: Report) -> None:
    path = ("tracing", "endpoint")
    if not report.is_clean(path):
        return
    try:
        url = addresses.base_url(endpoint)
    except BadValue as error:
        report.add(path, str(error).replace("api_key", "headers").replace("; a query belongs under query", ""))
        return
    if not url.path:
        report.add(path, "names no path; a collector takes spans at /v1/traces")


def _installed() -> bool:
    try:
        return all(find_spec(module) is not None for module in NEEDED)
    except ModuleNotFoundError:  # not even what the module is in
        return False
