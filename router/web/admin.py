"""The admin listener: health, readiness, metrics, configuration, reload, drain. Not for clients.

What it shows and does comes from `Control`, which `app` implements; this module only speaks HTTP.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aiohttp.typedefs import Handler

    from router.events import ConfigReloaded

_logger = logging.getLogger(__name__)

INDEX = """\
llm-router

GET  /healthz    200 while the event loop lives
GET  /readyz     200 if new requests are welcome, else 503 and why
GET  /metrics    for Prometheus: text or OpenMetrics, as the Accept header asks
GET  /-/config   the running configuration and its hash, without secrets
POST /-/reload   read the configuration again: 200 applied or unchanged, 422 rejected
POST /-/drain    take nothing new and finish what is in flight
GET  /           this page; as JSON with Accept: application/json
"""


class Control(Protocol):
    """What the admin listener needs of the daemon."""

    @property
    def digest(self) -> str:
        """The hash of the running configuration."""

    async def reload(self) -> ConfigReloaded:
        """Read the configuration again; a file that cannot be used changes nothing."""

    def config(self) -> Mapping[str, Any]:
        """Return the running configuration with every default and without secrets, ready for JSON."""

    def ready(self) -> tuple[bool, str]:
        """Say whether new requests are welcome, and if not, why."""

    def state(self) -> Mapping[str, Any]:
        """Return what the status page shows, ready for JSON: single values, and lists of flat rows with equal keys."""

    def drain(self) -> None:
        """Take nothing new and finish what is in flight."""


class Metrics(Protocol):
    """What `/metrics` needs: `scrape` reads the gauges on the loop and returns the rendering, to be run in a thread."""

    def scrape(self, accept: str) -> Callable[[], tuple[bytes, str]]:
        """Return a function that makes the exposition and its content type."""


CONTROL: web.AppKey[Control] = web.AppKey("control", Control)
METRICS: web.AppKey[Metrics] = web.AppKey("metrics", Metrics)


def build(control: Control, metrics: Metrics) -> web.Application:
    """Return the application of the admin listener."""
    app = web.Application(middlewares=[_errors_are_json])
    app[CONTROL] = control
    app[METRICS] = metrics
    app.router.add_get("/", _index)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/-/config", _config)
    app.router.add_post("/-/reload", _reload)
    app.router.add_post("/-/drain", _drain)
    return app


@web.middleware
async def _errors_are_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what goes wrong as JSON, and refuse actions that a web page asks for.

    A page the operator has open may send a POST to any address, and then its browser adds `Origin`; tools do not.
    """
    try:
        if request.method == "POST" and "Origin" in request.headers:
            raise web.HTTPForbidden(text="actions are not open to web pages")  # noqa: TRY301 - one way out for errors
        return await handler(request)
    except web.HTTPException as answer:
        headers = {"Allow": answer.headers["Allow"]} if "Allow" in answer.headers else None
        message = answer.text if isinstance(answer, web.HTTPForbidden) else answer.reason
        return _json({"error": {"message": message, "code": answer.status}}, answer.status, headers)
    except Exception:
        _logger.exception("admin request failed: %s %s", request.method, request.rel_url.raw_path)
        return _json({"error": {"message": "Internal Server Error", "code": 500}}, 500)


async def _index(request: web.Request) -> web.Response:
    state = request.app[CONTROL].state()
    if "application/json" in request.headers.get("Accept", ""):
        return _json(state)
    return web.Response(text=f"{INDEX}\n{_text(state)}", headers={"X-Content-Type-Options": "nosniff"})


async def _healthz(_request: web.Request) -> web.Response:
    return _json({"status": "ok"})


async def _readyz(request: web.Request) -> web.Response:
    ready, reason = request.app[CONTROL].ready()
    return _json({"status": "ready"}) if ready else _json({"status": "not ready", "reason": reason}, 503)


async def _metrics(request: web.Request) -> web.Response:
    """Render in a thread: on the loop a big exposition, and its compression, would hold up every stream."""
    render = request.app[METRICS].scrape(",".join(request.headers.getall("Accept", ())))
    compress = _accepts_gzip(",".join(request.headers.getall("Accept-Encoding", ())))

    def work() -> tuple[bytes, str]:
        body, content_type = render()
        return gzip.compress(body, 6) if compress else body, content_type

    body, content_type = await asyncio.to_thread(work)
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    if compress:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=headers)


async def _config(request: web.Request) -> web.Response:
    control = request.app[CONTROL]
    return _json({"hash": control.digest, "config": control.config()})


async def _reload(request: web.Request) -> web.Response:
    event = await request.app[CONTROL].reload()
    return _json(event, 422 if event.result == "rejected" else 200)


async def _drain(request: web.Request) -> web.Response:
    request.app[CONTROL].drain()
    return _json({"status": "draining"}, 202)


def _accepts_gzip(accept_encoding: str) -> bool:
    """Say whether `Accept-Encoding` names gzip without forbidding it (RFC 9110 section 12.5.3)."""
    for item in accept_encoding.lower().split(","):
        coding, _, weight = item.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return weight.replace(" ", "").rstrip("0.") != "q="
    return False


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value) + b"\n", status=status, headers=headers, content_type="application/json"
    )


def _text(state: Mapping[str, Any]) -> str:
    """Return the state for reading: single values first, then a table for each list of rows."""
    single = [(name, value) for name, value in state.items() if not isinstance(value, list | tuple)]
    tables = [(name, value) for name, value in state.items() if isinstance(value, list | tuple)]
    parts = [_table([(name, _cell(value)) for name, value in single])]
    for name, rows in tables:
        columns = list(rows[0]) if rows else ["(none)"]
        cells = [[_cell(row.get(column)) for column in columns] for row in rows]
        parts.append(f"{name}\n{_table([columns, *cells])}")
    return "\n".join(parts)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


def _cell(value: object) -> str:
    """Return a value in one visible line: names come from a file, and a terminal obeys what it is sent."""
    text = "-" if value is None else str(value)
    return "".join(it if it.isprintable() else "?" for it in text)
