"""Fixtures for WebSockets: real upstreams, routers in front of them, clients; and the event loops of all tests here."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import pytest
import uvloop

from tests.harness.router import ENVIRON, RunningRouter, config
from tests.harness.socket_client import SocketClient
from tests.harness.socket_upstream import SocketUpstream
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

KEYS: dict[str, Any] = {"team": {"secret": {"env": "CLIENT_SECRET"}}}
"""One key, for `keys`."""


class StartRouter(Protocol):
    """Starts a router with `harness.router.config(*base_urls, **settings)`."""

    async def __call__(self, *serving: SocketUpstream | str, **settings: Any) -> RunningRouter: ...


@pytest.fixture
async def upstreams() -> AsyncIterator[list[SocketUpstream]]:
    async with AsyncExitStack() as stack:
        started = [SocketUpstream() for _ in range(3)]
        for upstream in started:
            await upstream.start()
            stack.push_async_callback(upstream.close)
        yield started


@pytest.fixture
def first(upstreams: list[SocketUpstream]) -> SocketUpstream:
    return upstreams[0]


@pytest.fixture
def second(upstreams: list[SocketUpstream]) -> SocketUpstream:
    return upstreams[1]


@pytest.fixture
async def router(tmp_path: Path, upstreams: list[SocketUpstream]) -> AsyncIterator[StartRouter]:
    """Starts routers; after the test each is checked against the invariants of DESIGN 10 and stopped."""
    async with AsyncExitStack() as stack:

        async def start(*serving: SocketUpstream | str, **settings: Any) -> RunningRouter:
            urls = [each if isinstance(each, str) else each.base_url for each in serving]
            running = await RunningRouter.start(tmp_path, config(*urls, **settings), ENVIRON)
            stack.push_async_callback(running.close)
            return running

        yield start
    await until(lambda: not any(upstream.open_calls for upstream in upstreams), "upstream sockets closed")


@pytest.fixture
async def client() -> AsyncIterator[SocketClient]:
    async with aiohttp.ClientSession() as session:
        yield SocketClient(session)


HANDLERS_ALONE = ("test_admin.py", "test_data.py")


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Whole exchanges run on the daemon's loop, handlers alone on asyncio's own."""
    if item.path.name in HANDLERS_ALONE:
        return {"asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}
