"""The demo itself: the router with three embedded upstreams, sample requests, and what became of them.

It uses the daemon as anybody could: a configuration file, real sockets, and the events it emits. No key, no network.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import yaml

from router.app import Daemon
from router.demo.upstreams import DemoUpstream
from router.events import Event, ExchangeEnded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.demo.behaviour import Behaviour


class Sample(NamedTuple):
    """One request the demo sends by itself."""

    model: str
    stream: bool


SAMPLES = (
    Sample("demo-fast", stream=False),
    Sample("demo-fast", stream=True),
    Sample("demo-slow", stream=True),
    Sample("demo-flaky", stream=False),
    Sample("demo-flaky", stream=True),  # flaky's second request: it answers 500, and `fast` serves
    Sample("demo", stream=False),
    Sample("demo", stream=True),
    Sample("demo", stream=True),
)

PORTS_TRIED = 20
"""How many ports after the wished one are tried before the kernel is asked for any."""
ROWS_WAITING_MAX = 1000
"""Rows that wait to be printed; under a load test the rest are not shown."""
ROW_TIMEOUT_S = 5.0
"""An exchange settles right after its last byte; a longer wait means that it has no record."""
SAMPLE_TIMEOUT_S = 30.0

COLUMNS = "{:<11} {:<7} {:<9} {:>6} {:>8} {:>7}  {}"


async def run(port: int, admin_port: int, *, once: bool, behaviours: Mapping[str, Behaviour]) -> int:
    """Start everything, show the samples, and stay up unless `once`.

    Returns:
        0, or 1 if a sample got no complete answer or no failover was to be seen.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llm-router-demo-")))
        upstreams = [DemoUpstream(name, behaviour) for name, behaviour in behaviours.items()]
        for upstream in upstreams:
            await upstream.start()
            stack.push_async_callback(upstream.stop)
        config = folder / "router.yaml"
        data_port = free_port(port)
        config.write_text(configuration(data_port, free_port(admin_port, besides=data_port), upstreams))
        log = stack.enter_context((folder / "router.log").open("wb"))
        daemon = Daemon(config, environ=os.environ, log_fd=log.fileno())
        await daemon.start()
        stack.push_async_callback(daemon.stop, hurry=True)
        rows = Rows()
        daemon.subscribe(rows.add)
        url = "http://{}:{}".format(*daemon.data_address)
        say(f"llm-router demo: three embedded upstreams behind {url}/v1\n")
        say(COLUMNS.format("model", "answer", "upstream", "status", "ttft", "tokens", "what happened"))
        records = await send_samples(url, rows)
        if not once:
            say(directions(url, "http://{}:{}".format(*daemon.admin_address), upstreams, folder))
            await rows.print_until_signal()
        return 0 if as_promised(records) else 1


class Rows:
    """The exchanges that ended, in their order, each printed as a row when it is taken."""

    def __init__(self) -> None:
        self._ended: asyncio.Queue[ExchangeEnded | None] = asyncio.Queue()

    def add(self, event: Event) -> None:
        """Keep the record of an exchange; a subscriber of the daemon."""
        if isinstance(event, ExchangeEnded) and self._ended.qsize() < ROWS_WAITING_MAX:
            self._ended.put_nowait(event)

    def stop(self) -> None:
        """Say that no row will be taken after those that wait."""
        self._ended.put_nowait(None)

    async def print_next(self) -> ExchangeEnded | None:
        """Wait for the next exchange to end and print its row; None once stopped."""
        ended = await self._ended.get()
        if ended is not None:
            say(row(ended))
        return ended

    async def print_until_signal(self) -> None:
        """Print a row for every exchange that ends, until SIGINT or SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        while await self.print_next() is not None:
            pass


async def send_samples(url: str, rows: Rows) -> list[ExchangeEnded]:
    """Send the sample requests one after the other and return what the router recorded.

    Raises:
        TimeoutError: an answer took longer than `SAMPLE_TIMEOUT_S`, or its record longer than `ROW_TIMEOUT_S`.
    """
    records = []
    timeout = aiohttp.ClientTimeout(total=SAMPLE_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as client:
        for sample in SAMPLES:
            body = {"model": sample.model, "stream": sample.stream, "messages": [{"role": "user", "content": "Hello"}]}
            async with client.post(f"{url}/v1/chat/completions", json=body) as answer:
                await answer.read()
            async with asyncio.timeout(ROW_TIMEOUT_S):
                record = await rows.print_next()
            if record is not None:
                records.append(record)
    return records


def as_promised(records: list[ExchangeEnded]) -> bool:
    """Whether every sample was answered, and one of them after a failover."""
    answered = [record for record in records if record.complete and record.status == 200]
    return len(answered) == len(SAMPLES) and any(map(failed_over, answered))


def failed_over(ended: ExchangeEnded) -> bool:
    """Whether an upstream failed and another one answered."""
    return ended.status == 200 and len({attempt.upstream for attempt in ended.attempts}) > 1


def row(ended: ExchangeEnded) -> str:
    """One line of the table."""
    path = " -> ".join(
        attempt.upstream if attempt.cause == "ok" else f"{attempt.upstream} ({attempt.cause})"
        for attempt in ended.attempts
    )
    story = f"failover: {path}" if failed_over(ended) else ("" if ended.status == 200 else ended.reason or path)
    return COLUMNS.format(
        ended.requested_model or ended.model,
        "stream" if ended.stream else "plain",
        ended.upstream or "-",
        ended.status,
        f"{ended.ttft_s * 1000:.0f} ms" if ended.ttft_s >= 0 else "-",
        ended.usage.total if ended.usage is not None else "-",
        story,
    ).rstrip()


def configuration(port: int, admin_port: int, upstreams: list[DemoUpstream]) -> str:
    """Write the YAML: a model for each upstream, one for all three, and flaky with stand-ins."""
    flaky_first = [{"upstream": "flaky"}, {"upstream": "fast", "tier": 2}, {"upstream": "slow", "tier": 3}]
    document: dict[str, Any] = {
        "listen": f"127.0.0.1:{port}",
        "admin": f"127.0.0.1:{admin_port}",
        "defaults": {"timeouts": {"first_byte": "2s", "first_token": "5s", "idle": "5s"}},
        "upstreams": {upstream.name: {"base_url": upstream.base_url} for upstream in upstreams},
        "models": {
            "demo": {"pool": [upstream.name for upstream in upstreams]},
            "demo-fast": "fast",
            "demo-slow": "slow",
            "demo-flaky": {"pool": flaky_first},
        },
    }
    return yaml.safe_dump(document, sort_keys=False)


def directions(url: str, admin: str, upstreams: list[DemoUpstream], folder: Path) -> str:
    """Say what can be done with the running demo; every line can be pasted."""
    lines = "\n".join(f"  curl {upstream.base_url[:-3]}/_behaviour   # {upstream.name}" for upstream in upstreams)
    return f"""
models   demo (all three), demo-fast, demo-slow, demo-flaky (flaky first, fast if it fails)
status   {admin}/   (in a browser, or with curl)
metrics  {admin}/metrics
config   {folder}/router.yaml   (edit it: a valid edit applies at once)
log      {folder}/router.log

With curl:
  curl -sN {url}/v1/chat/completions -H 'content-type: application/json' -d '{{"model": "demo", "stream": true, \
"messages": [{{"role": "user", "content": "Hello"}}]}}'

With the OpenAI SDK (pip install openai):
  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="none-needed")
  answer = client.chat.completions.create(model="demo", messages=[{{"role": "user", "content": "Hello"}}])
  print(answer.choices[0].message.content)

How an upstream behaves (add -d '{{"down": true}}' or -d '{{"errors": {{"500": 1}}}}' to change it):
{lines}

Ctrl-C stops. Requests show up here:"""


def free_port(wished: int, *, besides: int = -1) -> int:
    """Return `wished` or the next free loopback port after it; 0, which lets the kernel choose, stays 0."""
    if wished == 0:
        return 0
    for port in range(wished, min(wished + PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            # As servers do: a port whose last connections are in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port != besides:
            return port
    return 0


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)
