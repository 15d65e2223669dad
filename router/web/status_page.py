"""The status page of the admin listener: for browsers, for programs as JSON, for terminals as text; one snapshot.

`/` answers what the `Accept` header asks for; `/status.json` and `/status.txt` need none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from aiohttp import web

from router.web import status_page_html, status_page_text, status_page_view

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class State(Protocol):
    """The snapshot: single values, and lists of rows with equal keys; ready for JSON."""

    def __call__(self, *, bounded: bool) -> Mapping[str, Any]:
        """Return it whole, or bounded to what people can read."""


STATE: web.AppKey[State] = web.AppKey("state", State)
INDEX: web.AppKey[str] = web.AppKey("index", str)


def add(app: web.Application, state: State, index: str) -> None:
    """Add the page to an application; `index` tells a person at a terminal what else there is."""
    app[STATE] = state
    app[INDEX] = index
    app.router.add_get("/", _root)
    app.router.add_get("/status.json", _json)
    app.router.add_get("/status.txt", _text)


async def _root(request: web.Request) -> web.Response:
    accept = ",".join(request.headers.getall("Accept", ())).lower()
    if "text/html" in accept:
        response = _html(request)
    elif "application/json" in accept:
        response = await _json(request)
    else:
        response = await _text(request)
        response.text = f"{response.text}\n{request.app[INDEX]}"
    response.headers["Vary"] = "Accept"
    return response


def _html(request: web.Request) -> web.Response:
    return web.Response(
        text=status_page_html.render(_view(request)),
        content_type="text/html",
        headers={**_HEADERS, "Content-Security-Policy": status_page_html.POLICY},
    )


async def _json(request: web.Request) -> web.Response:
    """Answer with the whole snapshot, or, for the page's script, with the page's view of it."""
    shown: object = _view(request) if "view" in request.query else request.app[STATE](bounded=False)
    return web.Response(body=msgspec.json.encode(shown) + b"\n", content_type="application/json", headers=_HEADERS)


async def _text(request: web.Request) -> web.Response:
    return web.Response(text=status_page_text.render(_view(request)), headers=_HEADERS)


def _view(request: web.Request) -> status_page_view.View:
    return status_page_view.build(request.app[STATE](bounded=True))
