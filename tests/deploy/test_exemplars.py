"""Exemplars, with a real Prometheus: from a slow bucket of a histogram one comes to the trace of a request in it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml

from tests.deploy.promql import needs_promtool, promtool
from tests.deploy.test_grafana import Prometheus, ready
from tests.harness import chat
from tests.harness.router import ENVIRON, RunningRouter, config
from tests.harness.upstream import ScriptedUpstream, chunks, last_chunk, play, sse_head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PATIENCE_S = 90.0
"""Far more than a busy machine needs."""

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01"
UNSAMPLED = f"traceparent: 00-{'a' * 32}-00f067aa0ba902b7-00"
HISTOGRAMS = (
    "llm_router_request_duration_seconds", "llm_router_time_to_first_token_seconds", "llm_router_overhead_seconds",
)  # fmt: skip


@asynccontextmanager
async def storing(folder: Path, router: RunningRouter) -> AsyncIterator[Prometheus]:
    """A Prometheus that keeps exemplars, and scrapes the router twice a second."""
    targets = [{"targets": ["{}:{}".format(*router.daemon.admin_address)]}]
    job = {"job_name": "llm-router", "scrape_interval": "500ms", "scrape_timeout": "500ms", "static_configs": targets}
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        "--enable-feature=exemplar-storage",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}"
            await ready(session, f"{url}/-/ready", process)
            yield Prometheus(session, url)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def stored(server: Prometheus) -> dict[str, list[dict[str, Any]]]:
    """Every exemplar that Prometheus has of the router's histograms, by metric."""
    now = time.time()
    found: dict[str, list[dict[str, Any]]] = {}
    for name in HISTOGRAMS:
        data = await server.get("query_exemplars", query=f"{name}_bucket", start=now - 600, end=now + 60)
        found[name] = [exemplar for series in data for exemplar in series["exemplars"]]
    return found


@needs_promtool
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed (Debian: prometheus)")
async def test_a_trace_is_found_beside_the_histograms(tmp_path: Path) -> None:
    """Prometheus has the sampled request's trace beside each of its times, nobody else's, and no complaint."""
    async with AsyncExitStack() as stack:
        upstream = ScriptedUpstream()
        await upstream.start()
        stack.push_async_callback(upstream.close)
        upstream.always(play(sse_head(), chunks(chat.token("a"), chat.finish(), chat.DONE), last_chunk()))
        router = await RunningRouter.start(tmp_path, config(upstream), ENVIRON)
        stack.push_async_callback(router.close)
        server = await stack.enter_async_context(storing(tmp_path, router))
        await router.stream(UNSAMPLED)
        await router.stream()
        await router.stream(SAMPLED)
        record = router.ended[-1]
        async with asyncio.timeout(PATIENCE_S):
            while not all((found := await stored(server)).values()):  # noqa: ASYNC110 (another process does it)
                await asyncio.sleep(0.2)
        assert {each["labels"]["trace_id"] for exemplars in found.values() for each in exemplars} == {TRACE}
        times = (record.duration_s, record.ttft_s, record.overhead_s)
        assert [float(found[name][0]["value"]) for name in HISTOGRAMS] == pytest.approx(times)
        exposition, _ = router.daemon._metrics.render("")
        assert await asyncio.to_thread(promtool, "check", "metrics", stdin=exposition) == ""
