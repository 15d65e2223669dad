"""Fixtures for the data path: scripted upstreams, routers in front of them, and the daemon's event loop."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import uvloop

from tests.harness.router import ENVIRON, RunningRouter, config
from tests.harness.upstream import ScriptedUpstream
from tests.harness.waiting import until

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path


@pytest.fixture
async def upstreams() -> AsyncIterator[list[ScriptedUpstream]]:
    """Four scripted upstreams that answer with a completion; raises at the end what their scripts raised."""
    async with AsyncExitStack() as stack:
        started = [ScriptedUpstream() for _ in range(4)]
        for upstream in started:
            await upstream.start()
            stack.push_async_callback(upstream.close)
        yield started


@pytest.fixture
def first(upstreams: list[ScriptedUpstream]) -> ScriptedUpstream:
    return upstreams[0]


@pytest.fixture
def second(upstreams: list[ScriptedUpstream]) -> ScriptedUpstream:
    return upstreams[1]


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A base URL at which connecting neither succeeds nor fails: a listener whose backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = []
        try:
            for _ in range(3):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
                fillers.append(filler)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            for filler in fillers:
                filler.close()


class StartRouter(Protocol):
    """Starts a router with `harness.router.config(*upstreams, **settings)`."""

    async def __call__(self, *serving: ScriptedUpstream | str, **settings: Any) -> RunningRouter: ...


@pytest.fixture
async def router(tmp_path: Path, upstreams: list[ScriptedUpstream]) -> AsyncIterator[StartRouter]:
    """Starts routers; after the test each is checked against the invariants of DESIGN 10 and stopped."""
    async with AsyncExitStack() as stack:

        async def start(*serving: ScriptedUpstream | str, **settings: Any) -> RunningRouter:
            running = await RunningRouter.start(tmp_path, config(*serving, **settings), ENVIRON)
            stack.push_async_callback(running.close)
            return running

        yield start
    await until(lambda: not any(upstream.open_connections for upstream in upstreams), "upstream connections closed")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test in this folder runs on a loop as the daemon's."""
    return {"uvloop": uvloop.new_event_loop}
