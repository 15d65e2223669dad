"""The real daemon on real sockets, and the invariants that hold after every scenario (DESIGN 10)."""

from __future__ import annotations

import fcntl
import json
import os
import termios
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import yaml

from router.app import Daemon
from router.events import ConfigReloaded, Event, ExchangeEnded
from tests.harness import chat
from tests.harness.client import Answer, Client, post
from tests.harness.waiting import until
from tests.harness.watching import WATCH

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Mapping
    from pathlib import Path

    from tests.harness.upstream import ScriptedUpstream

Settings = dict[str, Any]

UPSTREAM_SECRET = "sk-upstream-0123456789"
OTHER_SECRET = "sk-other-9876543210"
CLIENT_SECRET = "sk-client-1234567890"
ENVIRON = {"UPSTREAM_SECRET": UPSTREAM_SECRET, "OTHER_SECRET": OTHER_SECRET, "CLIENT_SECRET": CLIENT_SECRET}
"""The environment of every router under test; no secret may show in its log or in an answer."""

NAMES = ("first", "second", "third", "fourth")


def config(
    *upstreams: ScriptedUpstream | str,
    upstream: Settings | None = None,
    model: Settings | None = None,
    defaults: Settings | None = None,
    same_tier: bool = False,
    **top: Any,
) -> Settings:
    """A configuration whose model `m` is served by these upstreams, named first, second …, each in the next tier.

    The tiers make the order of attempts certain; `same_tier` leaves it to the picker. `upstream` and `model` are added
    to each upstream and to the model. A setting that is None is left out.
    """
    named = dict(zip(NAMES, upstreams, strict=False))
    pool = [{"upstream": name, "tier": 1 if same_tier else tier} for tier, name in enumerate(named, start=1)]
    common: Settings = {"api_key": {"env": "UPSTREAM_SECRET"}} | (upstream or {})
    common = {name: value for name, value in common.items() if value is not None}
    return {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "upstreams": {
            name: {"base_url": each if isinstance(each, str) else each.base_url} | common
            for name, each in named.items()
        },
        "models": {"m": {"pool": pool} | (model or {})},
        "defaults": defaults or {},
        "reload": {"watch": False},
        "stop": {"notice": "1ms", "drain": "5s"},
    } | top


@dataclass(slots=True)
class RunningRouter:
    """One daemon, its events, and the clients that were opened to it."""

    path: Path
    log_path: Path
    log_fd: int
    daemon: Daemon
    events: list[Event] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    started_at: float = field(default_factory=time.monotonic)
    reloads: int = 0
    stopped: bool = False
    tls: ssl.SSLContext | None = None
    """How its clients speak, if it is TLS."""
    bugs: int = 0
    """Failures of our own code that the test provokes; each is one notice, and there are no others."""

    @classmethod
    async def start(cls, directory: Path, settings: Settings, environ: Mapping[str, str]) -> Self:
        path, log_path = directory / "router.yaml", directory / "router.log"
        path.write_text(yaml.safe_dump(settings))
        log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        router = cls(path, log_path, log_fd, Daemon(path, environ=environ, log_fd=log_fd))
        WATCH.clear()
        router.daemon.subscribe(router.events.append)
        await router.daemon.start()
        return router

    # -- asking

    async def connect(self, *, receive_buffer: int | None = None) -> Client:
        client = await Client.connect(
            self.daemon.data_address, log=self.answers, receive_buffer=receive_buffer, tls=self.tls
        )
        self.clients.append(client)
        return client

    async def open(
        self, body: bytes | None = None, *headers: str, key: str | None = None, receive_buffer: int | None = None
    ) -> Client:
        """Send a chat request on a connection of its own; nothing is read yet."""
        client = await self.connect(receive_buffer=receive_buffer)
        await client.send(post(chat.request() if body is None else body, *headers, key=key))
        return client

    async def post(self, body: bytes | None = None, *headers: str, key: str | None = None) -> Answer:
        """Send a chat request on a connection of its own and read the whole answer."""
        async with await self.open(body, *headers, key=key) as client:
            return await client.answer()

    async def stream(self, *headers: str, key: str | None = None, **members: Any) -> Answer:
        """Ask for a stream and read it to its end."""
        return await self.post(chat.request(stream=True, **members), *headers, key=key)

    async def reload(self, settings: Settings | str) -> ConfigReloaded:
        """Write the file anew and have it read."""
        self.path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
        self.reloads += 1
        return await self.daemon.reload()

    # -- what came of it

    @property
    def ended(self) -> list[ExchangeEnded]:
        return [event for event in self.events if isinstance(event, ExchangeEnded)]

    async def record(self, number: int = 1) -> ExchangeEnded:
        """Wait for the record of the exchange that ended as the `number`th."""
        await until(lambda: len(self.ended) >= number, f"record {number}")
        return self.ended[number - 1]

    def causes(self, record: ExchangeEnded | None = None) -> list[tuple[str, str]]:
        """Which upstreams were tried for the last exchange, and what came of each try."""
        record = record or self.ended[-1]
        return [(attempt.upstream, attempt.cause) for attempt in record.attempts]

    def in_flight(self) -> int:
        return sum(state.in_flight for state in self.daemon.catalogue.upstreams.values())

    def held(self) -> dict[str, int]:
        """What the daemon holds and should not at rest. Pooled idle connections may stay."""
        return {name: count for name, count in self.daemon.idle().items() if count}

    async def caught_up(self, client: Client) -> None:
        """Wait until the router has read all that this client sent: the next it sends is a read of its own."""

        def unread(transport: asyncio.BaseTransport) -> int:
            count = array("i", [0])
            if not transport.is_closing():
                fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, count)
            return count[0]

        connections = self.daemon._relay.connections
        await until(
            lambda: client.transport.get_write_buffer_size() + sum(unread(each.transport) for each in connections) == 0,
            "all is read",
        )

    async def rest(self) -> None:
        """Wait until nothing is held; fails with what still is."""
        try:
            await until(lambda: not self.held())
        except AssertionError:
            raise AssertionError(f"still held: {self.held()}") from None

    # -- the end

    async def close(self) -> None:
        """Check the invariants, then stop."""
        try:
            for client in self.clients:
                client.transport.abort()
            await self.rest()
            self._check()
        finally:
            if not self.stopped:
                await self.daemon.stop(hurry=True)
            os.close(self.log_fd)
        self._check_books()
        self._check_secrets()
        assert not WATCH.wrong, "an exchange did what its table does not say"

    def _check(self) -> None:
        assert self.in_flight() == 0
        ids = Counter(record.request_id for record in self.ended)
        assert [request_id for request_id, times in ids.items() if times > 1] == [], "one record for each request"
        for answer in self.answers:
            request_id = answer.header("x-request-id")
            assert request_id, answer
            assert request_id in ids, answer
        for record in self.ended:
            assert record.charged_tokens >= 0, record
            if record.exact and record.usage is not None:
                assert record.charged_tokens == record.usage.total, record
        self._check_limits()

    def _check_limits(self) -> None:
        """What was reserved came back or was charged: each key's bucket holds its capacity less what was charged.

        The bucket refills while the test runs, so its level lies between two bounds.
        """
        now = time.monotonic()
        for name, key in self.daemon._relay.snapshot.keyring.keys.items():
            if key.limiter is None:
                continue
            assert (key.limiter.in_flight, key.limiter.reserved) == (0, 0), key
            bucket = key.limiter.tokens
            if bucket is None or self.reloads:
                continue
            charged = sum(record.charged_tokens for record in self.ended if record.key == name)
            refilled = bucket.capacity * (now - self.started_at) / 60
            level = bucket.level(now)
            assert bucket.capacity - charged - 1 <= level <= bucket.capacity - charged + refilled + 1, (level, charged)

    def _check_books(self) -> None:
        """Every record is one line of the access log and one step of the request counter."""
        lines = [json.loads(line) for line in self.log_path.read_bytes().splitlines()]
        logged = [line["request_id"] for line in lines if line["event"] == "exchange"]
        assert logged == [record.request_id for record in self.ended]
        errors = [line for line in lines if line["event"] == "notice" and line["level"] == "error"]
        assert len(errors) == self.bugs, errors
        text, _ = self.daemon._metrics.render("text/plain")
        counters = [line for line in text.splitlines() if line.startswith(b"llm_router_requests_total{")]
        assert sum(float(line.rpartition(b" ")[2]) for line in counters) == len(self.ended)

    def _check_secrets(self) -> None:
        shown = self.log_path.read_bytes() + b"".join(answer.head + answer.body[:65536] for answer in self.answers)
        for secret in ENVIRON.values():
            assert secret.encode() not in shown
