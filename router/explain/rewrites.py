"""How a request would be put to each upstream that may serve it: the address, the model's name, what is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import urlsplit

from router.config.schema import Protocol, StreamUsage
from router.errors import RequestError
from router.explain.facts import Rewrite
from router.protocol import http
from router.protocol.edits import edits
from router.protocol.endpoints import Body
from router.protocol.path_template import PathTemplate
from router.relay.request import UNREAD
from router.relay.translation import translate

if TYPE_CHECKING:
    from router.config.schema import MaxTokensField, Upstream
    from router.policy.catalogue import Route
    from router.policy.target import Target
    from router.protocol.asks import Ask
    from router.protocol.endpoints import Endpoint
    from router.relay.service import Snapshot
    from router.relay.wire import Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is put to upstreams."""

    endpoint: Endpoint
    model: str
    """That was asked for; empty: the request is about none."""
    ask: Ask
    body: bytes | None
    """None: not known, and nothing is said that depends on it."""


class _Tastes(NamedTuple):
    """What an upstream takes: those attributes of `relay.wire.Wire` that the writing of a body asks for."""

    drop_params: frozenset[str]
    max_tokens_field: MaxTokensField | None
    asks_usage: bool


class _Put(NamedTuple):
    """What becomes of a body."""

    path: bytes
    """After the base URL."""
    dropped: tuple[str, ...] = ()
    renamed: str = ""
    asks_usage: bool = False
    refusal: RequestError | None = None


class Rewrites:
    """The rewrites for a route and its fallbacks. A body is rebuilt once for all upstreams that take the same."""

    def __init__(self, snapshot: Snapshot, route: Route, request: Request) -> None:
        self._snapshot = snapshot
        self._request = request
        self._known: dict[tuple[str, str, bool, _Tastes], _Put] = {}
        self.refusals: dict[tuple[str, str, str], RequestError] = {}
        """By route, upstream and member: why the request cannot be put there."""
        self.all: tuple[Rewrite, ...] = tuple({
            (each.name, target.upstream.name, target.label): self._rewrite(each, target)
            for each in route.chain
            for target in each.pool.everybody
        }.values())  # fmt: skip

    def _rewrite(self, route: Route, target: Target) -> Rewrite:
        upstream = target.upstream.name
        request, settings = self._request, self._snapshot.config.upstreams[upstream]
        there = (target.model or request.model) if request.model else ""
        translated = settings.protocol is not request.endpoint.protocol and request.endpoint.body is not Body.ANY
        wire = self._snapshot.wires.get(upstream)
        tastes = _tastes(settings, wire)
        key = (route.name, there, translated, tastes)
        if key not in self._known:
            self._known[key] = self._translated(route, there, tastes) if translated else self._edited(tastes)
        put = self._known[key]
        if put.refusal is not None:
            self.refusals[route.name, upstream, target.label] = put.refusal
        return Rewrite(
            route=route.name,
            upstream=upstream,
            member=target.label,
            model=there,
            url=_url(settings, put.path, there),
            translated=settings.protocol if translated else "",
            renamed=put.renamed,
            dropped=put.dropped,
            asks_usage=put.asks_usage,
            waits=wire is not None and wire.pacer is not None and not wire.pacer.has_capacity(),
            refused=put.refusal.message if put.refusal is not None else "",
        )

    def _translated(self, route: Route, model: str, tastes: _Tastes) -> _Put:
        """As `relay.exchange` does for an upstream that does not speak the client's protocol."""
        request, client = self._request, self._request.endpoint.protocol
        if request.body is None:
            to_chat = client is Protocol.ANTHROPIC
            path = b"/chat/completions" if to_chat else b"/messages"
            return _Put(
                path, tuple(sorted(tastes.drop_params)), "", to_chat and request.ask.stream and tastes.asks_usage
            )
        try:
            made = translate(request.body, model, route.translation, cast("Wire", tastes), client)
        except RequestError as refusal:
            return _Put(request.endpoint.path, refusal=refusal)
        return _Put(made.path, made.dropped, "", made.asks_usage)

    def _edited(self, tastes: _Tastes) -> _Put:
        """As `relay.attempt` does for one that speaks it."""
        request, ask, drop = self._request, self._request.ask, tastes.drop_params
        asks_usage = ask.stream and request.endpoint.asks_usage and not ask.wants_usage and tastes.asks_usage
        asks_usage = asks_usage and "stream_options" not in drop
        path, field = request.endpoint.path, tastes.max_tokens_field
        if request.body is None:
            renamed = f"the other one becomes {field}" if field is not None and request.endpoint.generates else ""
            return _Put(path, tuple(sorted(drop)), renamed, asks_usage)
        if ask.boundary or not (drop or field) or (ask.model_at is None and request.endpoint.body in UNREAD):
            return _Put(path, asks_usage=asks_usage)
        changes, dropped = edits(request.body, drop=drop, max_tokens_field=field)
        other = "".join(request.body[start:end].decode().strip('"') for start, end, new in changes if new)
        return _Put(path, dropped, f"{other} becomes {field}" if other else "", asks_usage)


def _tastes(settings: Upstream, wire: Wire | None) -> _Tastes:
    """What an upstream takes: as the running daemon has learnt it, else as it is configured."""
    asks_usage = settings.stream_usage is not StreamUsage.NEVER and settings.protocol is Protocol.OPENAI
    return _Tastes(
        frozenset(settings.drop_params),
        settings.max_tokens_field,
        asks_usage if wire is None else wire.asks_usage,
    )


def _url(settings: Upstream, rest: bytes, model: str) -> str:
    """The address, without a query, in which credentials may stand."""
    base = urlsplit(settings.base_url)
    if settings.path is not None:
        rest = PathTemplate(settings.path, settings.path_for).fill(rest, model)
    path = http.target(base.path.rstrip("/").encode("ascii"), rest, b"", ())
    return f"{base.scheme}://{base.netloc}{path.decode('latin-1')}"
