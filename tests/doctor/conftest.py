"""Fixtures: a scripted upstream that lists models, and the daemon's event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme
import uvloop

from tests.doctor.examining import list_of
from tests.harness.proxy import ConnectProxy
from tests.harness.upstream import ScriptedUpstream

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Mapping


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """It lists the model `m`, whoever asks for whatever."""
    scripted = ScriptedUpstream().always(list_of("m"))
    await scripted.start()
    yield scripted
    await scripted.close()


@pytest.fixture
async def proxy() -> AsyncIterator[ConnectProxy]:
    started = ConnectProxy()
    await started.start()
    yield started
    await started.close()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test in this folder runs on a loop as the daemon's."""
    return {"uvloop": uvloop.new_event_loop}
