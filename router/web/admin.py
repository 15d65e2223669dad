"""The admin listener: health, readiness, metrics, configuration, reload, drain. Not for clients.

What it shows and does comes from `Control`, which `app` implements; this module only speaks HTTP.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import logging
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from aiohttp import web

from router.web import status_page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.typedefs import Handler

    from router.events import ConfigReloaded

_logger = logging.getLogger(__name__)

READING = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing (RFC 9110 section 9.2.1). Every other one is an action."""

FINISH_S = 60.0
"""How long an answer may still take on a connection that is to end."""

INDEX = """\
llm-router

GET  /healthz    200 while the event loop lives
GET  /readyz     200 if new requests are welcome, else 503 and why
GET  /metrics    for Prometheus: text or OpenMetrics, as the Accept header asks
GET  /-/config   the running configuration and its hash, without secrets
POST /-/reload   read the configuration again: 200 applied or unchanged, 422 rejected
POST /-/drain    take nothing new and finish what is in flight
POST /-/explain  what would happen to a request, and why; sends nothing
GET  /           the status page: for browsers, as this text, or as JSON, as the Accept header asks
GET  /status.json, /status.txt   the same, without an Accept header
"""


class Control(Protocol):
    """What the admin listener needs of the daemon."""

    @property
    def digest(self) -> str:
        """The hash of the running configuration."""

    @property
    def admin_token(self) -> str:
        """The SHA-256 (hex, lower case) of the secret that actions need; empty if they need none."""

    async def reload(self) -> ConfigReloaded:
        """Read the configuration again; a file that cannot be used changes nothing."""

    def config(self) -> Mapping[str, Any]:
        """Return the running configuration with every default and without secrets, ready for JSON."""

    def ready(self) -> tuple[bool, str]:
        """Say whether new requests are welcome, and if not, why."""

    def state(self, *, bounded: bool = False) -> Mapping[str, Any]:
        """Return what the status page shows, ready for JSON; bounded to what people can read, or whole."""

    def drain(self) -> None:
        """Take nothing new and finish what is in flight."""

    def explain(self, question: bytes) -> tuple[int, object]:
        """Say what would happen to a request: the status to answer with, and a value ready for JSON."""


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
    status_page.add(app, control.state, INDEX)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/-/config", _config)
    app.router.add_post("/-/reload", _reload)
    app.router.add_post("/-/drain", _drain)
    app.router.add_post("/-/explain", _explain)
    return app


async def finish(connection: web.RequestHandler) -> None:
    """End a connection behind the request that has begun on it: the listener is gone by which it came."""
    connection.close()
    await connection.shutdown(FINISH_S)


@web.middleware
async def _errors_are_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what goes wrong as JSON."""
    try:
        if request.method not in READING:
            _check_action(request)
        return await handler(request)
    except web.HTTPException as answer:
        headers = {name: answer.headers[name] for name in ("Allow", "WWW-Authenticate") if name in answer.headers}
        message = answer.text if isinstance(answer, web.HTTPForbidden | web.HTTPUnauthorized) else answer.reason
        return _json({"error": {"message": message, "code": answer.status}}, answer.status, headers)
    except Exception:
        _logger.exception("admin request failed: %s %s", request.method, request.rel_url.raw_path)
        return _json({"error": {"message": "Internal Server Error", "code": 500}}, 500)


def _check_action(request: web.Request) -> None:
    """Refuse an action that a web page asks for, or somebody without the token.

    A page the operator has open may send a POST to any address, and then its browser adds `Origin`; tools do not.

    Raises:
        HTTPForbidden: A page.
        HTTPUnauthorized: No token, or another one. Its hash is compared, so the time taken tells nothing about it.
    """
    if "Origin" in request.headers:
        raise web.HTTPForbidden(text="actions are not open to web pages")
    expected = request.app[CONTROL].admin_token
    scheme, _, token = ",".join(request.headers.getall("Authorization", ())).partition(" ")
    shown = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
    if expected and not (scheme.lower() == "bearer" and hmac.compare_digest(shown, expected)):
        raise web.HTTPUnauthorized(
            text="this needs the admin token: Authorization: Bearer", headers={"WWW-Authenticate": "Bearer"}
        )


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


async def _explain(request: web.Request) -> web.Response:
    """It changes nothing, but shows limits: so it is asked for as an action is."""
    status, answer = request.app[CONTROL].explain(await request.read())
    return _json(answer, status)


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
