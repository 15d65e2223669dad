"""`llm-router drain`, typed, with a real daemon and a stream that is in flight."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.commands.operating import ask, write
from tests.harness import chat
from tests.harness.client import Client, Ending, post
from tests.harness.program import command, running
from tests.harness.router import config
from tests.harness.upstream import ScriptedUpstream, chunks, last_chunk, play, sse_head, wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    await scripted.start()
    yield scripted
    await scripted.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "router.yaml"


async def test_at_rest_it_is_drained_at_once(path: Path, upstream: ScriptedUpstream) -> None:
    """With nothing in flight `--wait` ends at once, and the daemon is ready no more."""
    write(path, config(upstream))
    async with running(path) as router:
        assert await ask(router, "drain") == (0, "draining: 0 request(s) in flight\n", "")
        assert await ask(router, "drain", "--wait") == (
            0,
            "draining: 0 request(s) in flight\ndrained: nothing is in flight\n",
            "",
        )
        async with await Client.connect(router.admin) as operator:
            await operator.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await operator.answer()).status == 503


async def test_it_waits_for_what_is_in_flight(path: Path, upstream: ScriptedUpstream) -> None:
    """A stream is counted and not cut: `--wait SECONDS` gives up with status 1, `--wait` stays until its end."""
    go_on = asyncio.Event()
    upstream.always(
        play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())
    )
    write(path, config(upstream))
    async with running(path) as router, await Client.connect(router.address) as client:
        await client.send(post(chat.request(stream=True)))
        await client.head()
        await client.until(b'"a"')
        assert await ask(router, "drain") == (0, "draining: 1 request(s) in flight\n", "")
        status, text, _ = await ask(router, "drain", "--wait", "0.3")
        assert (status, text.splitlines()[1]) == (1, "not drained: 1 request(s) still in flight")
        waiting = asyncio.create_task(ask(router, "drain", "--wait"))  # noqa: TID251 (kept, and awaited below)
        go_on.set()
        answer = await client.rest()
        assert (answer.ending, answer.events[-1]) == (Ending.CLEAN, chat.DONE)
        status, text, _ = await waiting
        assert (status, text.splitlines()[-1]) == (0, "drained: nothing is in flight")


@pytest.mark.parametrize("wait", ["-1", "nan", "long"])
async def test_how_long_is_a_number(path: Path, wait: str) -> None:
    """What is no number of seconds is told: status 2, and nobody is asked to drain."""
    status, _, errors = await command("drain", "-c", path, f"--wait={wait}")
    assert status == 2
    assert "a number of seconds" in errors.splitlines()[-1]
