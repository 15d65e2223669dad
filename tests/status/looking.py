"""Looks at a running router as operators do, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import chat
from tests.harness.upstream import chunks, last_chunk, play, sse_head, wait_for

if TYPE_CHECKING:
    import asyncio

    from tests.harness.router import RunningRouter


async def text(router: RunningRouter, path: str) -> str:
    url = "http://{}:{}{}".format(*router.daemon.admin_address, path)
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Accept": "text/plain"}) as answer:
        assert answer.status == 200
        return await answer.text()


async def page(router: RunningRouter) -> dict[str, Any]:
    url = "http://{}:{}/".format(*router.daemon.admin_address)
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Accept": "application/json"}) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        shown: dict[str, Any] = await answer.json()
        return shown


async def gauges(router: RunningRouter) -> dict[str, float]:
    """The samples of a scrape, as `name{value,…}`."""
    exposition = await text(router, "/metrics")
    return {
        f"{sample.name.removeprefix('llm_router_')}{{{','.join(sample.labels.values())}}}": sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def streaming(go_on: asyncio.Event) -> Any:
    """A script that sends a token and waits for the test's word to end."""
    return play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())
