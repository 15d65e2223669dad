"""A collector of traces on loopback: takes OTLP over HTTP, and reads it with the standard's own message classes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A span as it arrived."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    start: int
    end: int
    """Nanoseconds since the epoch."""
    status: str
    """`UNSET`, or `ERROR` and what it says."""
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass(eq=False)
class Collector:
    """Keeps every span it gets. It can fail, or say nothing."""

    spans: list[Kept] = field(default_factory=list)
    requests: list[web.Request] = field(default_factory=list)
    status: int = 200
    silent: bool = False
    """Requests are taken and not answered."""

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        self._over = asyncio.Event()
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.endpoint = "http://{}:{}/v1/traces".format(*self._runner.addresses[0])

    async def close(self) -> None:
        self._over.set()
        await self._runner.cleanup()

    async def got(self, count: int) -> list[Kept]:
        """Wait for so many spans; those of a request before those of its attempts."""
        await until(lambda: len(self.spans) >= count, f"{count} spans")
        return self.spans

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append(request)
        if self.silent:
            await self._over.wait()
        if self.status == 200:
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = _plain(group.resource.attributes)
                self.spans += [_kept(span, resource) for scope in group.scope_spans for span in scope.spans]
        return web.Response(status=self.status)


def _kept(span: Span, resource: dict[str, Any]) -> Kept:
    return Kept(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        status=f"ERROR {span.status.message}".strip() if span.status.code == span.status.STATUS_CODE_ERROR else "UNSET",
        attributes=_plain(span.attributes),
        resource=resource,
    )


def _plain(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}
