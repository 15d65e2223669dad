"""The first run: `llm-router demo` as a newcomer starts it, and everything it tells them to try."""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import signal
import sys
import textwrap
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from router.demo import show
from router.demo.behaviour import BEHAVIOURS
from router.demo.stage import SAMPLES
from router.demo.upstreams import WORDS

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

    import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60
SENTENCE = " ".join(WORDS)


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(*arguments, cwd=ROOT, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def output(*arguments: str) -> str:
    async with program(*arguments) as process:
        stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    return stdout.decode()


@asynccontextmanager
async def demo() -> AsyncIterator[tuple[Process, str]]:
    """A running demo and what it has printed, to the last line before it waits."""
    arguments = ("-m", "router", "demo", "--port", "0", "--admin-port", "0")
    async with program(sys.executable, *arguments) as process:
        assert process.stdout is not None
        printed = ""
        while "Ctrl-C stops" not in printed:
            line = await process.stdout.readline()
            assert line, printed
            printed += line.decode()
        yield process, printed


async def test_the_demo_shows_a_failover_and_ends_well() -> None:
    """`demo --once` answers every sample, one of them through another upstream than the first it tried, and exits 0."""
    printed = await output(sys.executable, "-m", "router", "demo", "--once", "--port", "0", "--admin-port", "0")
    rows = [line for line in printed.splitlines() if line.startswith("demo")]
    assert len(rows) == len(SAMPLES)
    assert all(" 200 " in row for row in rows)
    assert "failover: flaky (http_5xx) -> fast" in printed


async def test_what_the_demo_tells_to_paste_works() -> None:
    """The curl line and the SDK snippet get answers, show up as rows, and Ctrl-C ends the demo with status 0."""
    async with demo() as (process, printed):
        snippet = re.search(r"OpenAI SDK.*?:\n((?:  .*\n)+)", printed)
        curl = re.search(r"^  (curl -sN .*)$", printed, re.MULTILINE)
        assert snippet is not None
        assert curl is not None
        assert SENTENCE in await output(sys.executable, "-c", textwrap.dedent(snippet[1]))
        asked = 1
        if shutil.which("curl") is not None:
            streamed = await output("sh", "-c", curl[1])
            assert streamed.endswith("data: [DONE]\n\n")
            asked = 2
        assert process.stdout is not None
        for _ in range(asked):
            assert (await process.stdout.readline()).startswith(b"demo ")
        process.send_signal(signal.SIGINT)
        _, stderr = await process.communicate()
        assert (process.returncode, stderr) == (0, b"")


async def test_the_demo_changes_an_upstream_while_it_runs() -> None:
    """An upstream that is told to go down over HTTP is failed over without the client noticing."""
    async with demo() as (process, printed):
        behaviour = re.search(r"curl (http://\S+/_behaviour)   # flaky", printed)
        url = re.search(r"http://\S+/v1/chat/completions", printed)
        assert behaviour is not None
        assert url is not None
        await post(behaviour[1], '{"down": true, "errors": {}}')
        assert SENTENCE in await post(url[0], '{"model": "demo-flaky", "messages": []}')
        assert process.stdout is not None
        assert b"flaky (" in await process.stdout.readline()


async def post(url: str, body: str) -> str:
    script = "import sys, urllib.request as r; print(r.urlopen(r.Request(sys.argv[1], sys.argv[2].encode())).read())"
    return await output(sys.executable, "-c", script, url, body)


async def test_the_demo_says_what_is_wrong_with_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """A setting that cannot be applied is named on standard error, with status 2 and without starting anything."""
    for setting in (
        "slow",
        "nobody.tokens=1",
        "slow.colour=red",
        "slow.tokens=0",
        "slow.errors={500: 0}",
        "slow.tokens=[",
    ):
        assert show.main(arguments("--set", setting)) == 2
        assert capsys.readouterr().err.startswith("--set: ")


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    show.add_arguments(parser)
    return parser.parse_args(given)


def test_settings_change_what_they_name() -> None:
    """`--set` changes one value of one upstream and keeps the rest."""
    behaviours = show._behaviours(arguments("--set", "slow.latency_s=1.5", "--set", "flaky.errors={503: 4}").set)
    assert behaviours["slow"].latency_s == 1.5
    assert behaviours["flaky"].errors == {503: 4}
    assert behaviours["flaky"].cut_every == BEHAVIOURS["flaky"].cut_every
    assert behaviours["fast"] == BEHAVIOURS["fast"]
