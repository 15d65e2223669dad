"""The gateways under test: this router and, beside it, LiteLLM's proxy; each a process that serves some upstreams.

Both get the same deadlines, which no healthy upstream comes near, one credential for clients and one process. The
router has its defaults otherwise. LiteLLM's settings are those that its documentation recommends for reliability:
several deployments of one model, `simple-shuffle` (its fastest strategy), retries and cooldowns.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from asyncio.subprocess import DEVNULL, STDOUT
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from tests.harness.program import Running, running

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from tests.chaos.upstreams import Upstream

Settings = dict[str, Any]

MODEL, CLAUDE = "m", "claude"
"""What clients ask for; the second is served in the protocol of Anthropic's messages, by the same upstreams."""
CLIENT_SECRET = "sk-chaos-client-1234567890"
PATIENCE_S = 900.0
"""Seconds after which a gateway is killed, whatever the scenario still wanted."""
START_S = 90.0
STOP_S = 40.0

LITELLM = Path(__file__).parents[2] / ".venv-litellm/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a scenario wants of a gateway."""

    deadline_s: float = 30.0
    """Until the first byte of an answer, and the longest silence inside one. By default far from what a busy machine
    needs, so that only an upstream that is silent runs into it."""
    judge: bool = True
    """Take upstreams that fail out. Without: for scenarios in which nearly every answer fails, on purpose."""
    limits: Settings = field(default_factory=dict)
    """Of the key."""
    notice_s: float = 0.2
    """Between the signal to stop and the end of accepting."""


class Serving(ABC):
    """A gateway that runs."""

    address: tuple[str, int]
    key = CLIENT_SECRET

    @abstractmethod
    async def stop(self) -> int | None:
        """Ask it to end (SIGTERM), wait until it has, and return its exit status."""


class System(ABC):
    """A gateway that can be started."""

    name: ClassVar[str]
    rate: ClassVar[float]
    """Requests a second that it serves here with ease, one process on one core."""
    streams_share: ClassVar[float]
    """How many cut streams it is given, as a share of this router's: it shall not take all day."""
    streams_at_once: ClassVar[int]
    """Streams that one SDK reads at the same time."""
    speaks_all: ClassVar[bool]
    """Responses and messages are read as well, not only chat completions."""

    @property
    @abstractmethod
    def version(self) -> str:
        """As it says itself."""

    @abstractmethod
    def serve(
        self, folder: Path, upstreams: Sequence[Upstream], wishes: Wishes
    ) -> AbstractAsyncContextManager[Serving]:
        """Start it in front of these."""


# -- the router


@dataclass
class RouterServing(Serving):
    """The router's process. Its log is read all the time, so that no line is dropped."""

    running: Running
    path: Path
    reloads: list[str] = field(default_factory=list)
    """What came of each reload, as far as the log was read."""
    _reading: asyncio.Task[None] = field(init=False)

    def __post_init__(self) -> None:
        self.address = self.running.address
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(AssertionError):  # which is how the end of the log is told
            while True:
                self.reloads.append((await self.running.line("reload"))["result"])

    async def stop(self) -> int | None:
        if self.running.process.returncode is None:
            self.running.signal(signal.SIGTERM)
        await self._reading
        return await self.running.end()

    async def end(self) -> None:
        """End it at once, if it still runs."""
        if self.running.process.returncode is None:
            self.running.process.kill()
        await self._reading

    def records(self) -> list[Settings]:
        """The lines of the access log; all of them once it has stopped."""
        return [line for line in self.running.log if line["event"] == "exchange"]


class Router(System):
    """This router, as its checkout's `python -m router run`."""

    name = "llm-router"
    rate = 300.0
    streams_share = 1.0
    streams_at_once = 12
    speaks_all = True

    @property
    def version(self) -> str:
        from router import __version__  # noqa: PLC0415 - only for the head of the table

        return __version__

    @asynccontextmanager
    async def serve(self, folder: Path, upstreams: Sequence[Upstream], wishes: Wishes) -> AsyncIterator[RouterServing]:
        path = folder / "router.yaml"
        path.write_text(yaml.safe_dump(router_settings(upstreams, wishes)))
        async with running(path, patience_s=PATIENCE_S) as process:
            serving = RouterServing(process, path)
            try:
                yield serving
            finally:
                await serving.end()


def router_settings(upstreams: Sequence[Upstream], wishes: Wishes) -> Settings:
    """One model with all upstreams in one tier, and one key."""
    deadline = wishes.deadline_s
    sha256 = hashlib.sha256(CLIENT_SECRET.encode()).hexdigest()
    defaults: Settings = {"timeouts": {"first_byte": deadline, "first_token": deadline, "idle": deadline}}
    if not wishes.judge:
        defaults["ejection"] = {"consecutive": 1_000_000, "min_outcomes": 1_000_000}
        defaults["retry"] = {"budget_min": 1_000_000}
    credential = {"api_key": {"env": "UPSTREAM_SECRET"}}
    named = {f"up{place}": {"base_url": each.base_url} | credential for place, each in enumerate(upstreams, start=1)}
    claude = {f"{name}-messages": each | {"protocol": "anthropic"} for name, each in named.items()}
    return {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "defaults": defaults,
        "upstreams": named | claude,
        "models": {MODEL: {"pool": list(named)}, CLAUDE: {"pool": list(claude)}},
        "keys": {"team": {"secret": {"sha256": sha256}, "limits": wishes.limits}},
        "reload": {"watch": False},
        "stop": {"notice": wishes.notice_s, "drain": "30s"},
    }


# -- LiteLLM


@dataclass
class LiteLLMServing(Serving):
    """Its process."""

    process: Process
    address: tuple[str, int]

    async def stop(self) -> int | None:
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(STOP_S):
            return await self.process.wait()


class LiteLLM(System):
    """LiteLLM's proxy in an environment of its own (`make chaos ARGS="--beside litellm"` makes it)."""

    name = "LiteLLM"
    rate = 10.0
    streams_share = 0.2
    streams_at_once = 4
    speaks_all = False

    @property
    def version(self) -> str:
        found = next(LITELLM.parent.glob("lib/python*/site-packages/litellm-[0-9]*.dist-info"), None)
        return found.name.removeprefix("litellm-").removesuffix(".dist-info") if found else ""

    @asynccontextmanager
    async def serve(self, folder: Path, upstreams: Sequence[Upstream], wishes: Wishes) -> AsyncIterator[LiteLLMServing]:
        path = folder / "litellm.yaml"
        path.write_text(yaml.safe_dump(litellm_settings(upstreams, wishes)))
        port = _free_port()
        arguments = ("--config", str(path), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
        with (folder / "litellm.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                str(LITELLM / "litellm"), *arguments, "--telemetry", "False", "--keepalive_timeout", "75",
                cwd=folder, env=dict(_litellm_environ()), stdin=DEVNULL, stdout=log, stderr=STDOUT,
            )  # fmt: skip
        serving = LiteLLMServing(process, ("127.0.0.1", port))
        try:
            await _until_alive(serving, folder / "litellm.log")
            yield serving
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def litellm_settings(upstreams: Sequence[Upstream], wishes: Wishes) -> Settings:
    """One model with all upstreams as deployments of the same name.

    `num_retries` and `allowed_fails` are those of its documentation's examples; its cooldown is as long there, too
    (30 s), which is longer than its default and spares more clients. `timeout` is that of a whole plain answer there,
    and `stream_timeout` that of a stream's first piece.
    """
    settings: Settings = {
        "routing_strategy": "simple-shuffle",
        "num_retries": 3,
        "retry_after": 0,
        "allowed_fails": 3,
        "cooldown_time": 30,
        "timeout": wishes.deadline_s,
        "stream_timeout": wishes.deadline_s,
        "disable_cooldowns": not wishes.judge,
    }
    params = {"model": "openai/m", "api_key": "sk-upstream-0123456789"}
    return {
        "model_list": [
            {"model_name": MODEL, "litellm_params": params | {"api_base": each.base_url}} for each in upstreams
        ],
        "router_settings": settings,
        "general_settings": {"master_key": CLIENT_SECRET},
    }


def _litellm_environ() -> Iterator[tuple[str, str]]:
    """Without anything that would make it speak to others: a proxy that refuses stands for all of the world."""
    for name, value in os.environ.items():
        if not name.upper().startswith(("OPENAI_", "ANTHROPIC_", "LITELLM_", "DATABASE_", "REDIS_")):
            yield name, value
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        yield name, "http://127.0.0.1:9"
        yield name.lower(), "http://127.0.0.1:9"
    yield "NO_PROXY", "127.0.0.1"
    yield "no_proxy", "127.0.0.1"
    yield "LITELLM_LOCAL_MODEL_COST_MAP", "True"
    yield "LITELLM_LOG", "ERROR"


async def _until_alive(serving: LiteLLMServing, log: Path) -> None:
    url = "http://{}:{}/health/liveliness".format(*serving.address)
    deadline = asyncio.get_running_loop().time() + START_S
    while not await asyncio.to_thread(_alive, url):
        late = asyncio.get_running_loop().time() > deadline
        if late or serving.process.returncode is not None:
            said = await asyncio.to_thread(log.read_text, errors="replace")
            raise RuntimeError(f"LiteLLM did not start: {said[-2000:]}")
        await asyncio.sleep(0.2)


def _alive(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
