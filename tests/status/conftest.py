"""A router that has something of every kind to show."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.harness.router import ENVIRON, RunningRouter, config
from tests.harness.upstream import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

TEAM = {"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": {"concurrency": 5}}}
SETTINGS: dict[str, Any] = {"upstream": {"limits": {"concurrency": 7}}, "keys": TEAM}


@pytest.fixture
async def upstreams() -> AsyncIterator[list[ScriptedUpstream]]:
    async with AsyncExitStack() as stack:
        started = [ScriptedUpstream() for _ in range(2)]
        for upstream in started:
            await upstream.start()
            stack.push_async_callback(upstream.close)
        yield started


class StartRouter(Protocol):
    """Starts a router, which is checked against the invariants and stopped after the test, however that ends."""

    async def __call__(self, settings: dict[str, Any], environ: Mapping[str, str]) -> RunningRouter: ...


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[StartRouter]:
    async with AsyncExitStack() as stack:

        async def start(settings: dict[str, Any], environ: Mapping[str, str]) -> RunningRouter:
            running = await RunningRouter.start(tmp_path, settings, environ)
            stack.push_async_callback(running.close)
            return running

        yield start


@pytest.fixture
async def router(tmp_path: Path, upstreams: list[ScriptedUpstream]) -> AsyncIterator[RunningRouter]:
    """A router with a limit of every kind of owner; each upstream also serves `spare`, and `second` less of it."""
    settings = config(*upstreams, **SETTINGS)
    settings["models"]["spare"] = {"pool": [{"upstream": "first", "weight": 2}, {"upstream": "second", "weight": 0.5}]}
    running = await RunningRouter.start(tmp_path, settings, ENVIRON)
    yield running
    await running.close()
