"""The whole relay in memory: real connections, exchanges and pools; only the sockets under them are not there.

A connection over a socket takes a hundred times as long as the code that is to be tried, and what is tried here is what
the code makes of bytes, not how they come.
"""

from __future__ import annotations

import asyncio
import random
import socket
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.config.loader import Loaded, parse
from router.policy import catalogue
from router.policy.keys import build_keyring
from router.policy.owners import Owners
from router.protocol.endpoints import Endpoints
from router.relay.crowd import Crowd
from router.relay.downstream import Downstream
from router.relay.lookout import Lookout
from router.relay.outbox import Outbox
from router.relay.service import Relay, Snapshot
from router.relay.tasks import Tasks
from router.relay.wire import build_wires

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sized

    from router.events import Event
    from router.relay.crowd import Connection

HOST = b"192.0.2.1:80"
SECRET = "sk-upstream-0123456789"

_CONFIG = f"""
listen: 127.0.0.1:0
upstreams: {{a: {{base_url: "http://{HOST.decode()}/v1", api_key: {{env: SECRET}}, stream_usage: never}}}}
models: {{"*": {{pool: [a], translate: true}}}}
pins: {{files: a}}
passthrough_unknown_paths: true
defaults: {{retry: {{attempts: 1}}}}
"""

TURNS_MAX = 20
"""Turns of the loop in which everything that can go on has gone on."""


class Memory(asyncio.Transport):
    """One end of a connection: keeps what is written to it, and tells its protocol when it is closed."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = bytearray()
        self.closed = False
        self.ended = False
        """No more will be written, though the peer may still write."""
        protocol.connection_made(self)

    def receive(self, data: bytes) -> None:
        """The peer has sent something."""
        assert isinstance(self.protocol, asyncio.Protocol)
        if not self.closed:
            self.protocol.data_received(data)

    def lose(self) -> None:
        """The peer has closed."""
        if not self.closed:
            self.closed = True
            self.protocol.connection_lost(None)

    def write(self, data: Any) -> None:
        assert not self.ended, "written behind the end"
        if not self.closed:
            self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        """The tests send no more than fits."""

    def resume_reading(self) -> None:
        """As above."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _unbound() if name == "socket" else default


class Elsewhere(asyncio.Protocol):
    """What a connection is handed to that the relay does not carry."""

    waiting_since = 0.0
    waits = False

    def __init__(self, address: str, left: Callable[[Connection], None]) -> None:
        self.address = address
        self._left = left

    def make_room(self) -> None:
        raise AssertionError("it does not wait")

    def connection_lost(self, _exc: Exception | None) -> None:
        self._left(self)


class House:
    """A relay with one client and any number of connections to its one upstream. Made and ended in a running loop."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _Loop)
        self._loop = loop
        self.upstreams = loop.made = []
        loaded, now = _loaded(), loop.time()
        exchanges: set[Any] = set()
        outbox = Outbox(loop, exchanges)
        self.faults: list[str] = []
        """What went wrong in the router's own code."""
        self.relay = Relay(
            loop=loop,
            outbox=outbox,
            lookout=Lookout(loop, exchanges),
            owners=Owners(loaded.config.sticky.ids_max, loaded.config.sticky.ttl),
            exchanges=exchanges,
            snapshot=Snapshot(
                config=loaded.config,
                digest=loaded.digest,
                catalogue=catalogue.build(loaded.config, now, None),
                keyring=build_keyring(loaded.config, loaded.secrets, now, None),
                endpoints=Endpoints(bare=False, unknown=True, pins=loaded.config.pins),
                wires=build_wires(loaded.config, loaded.secrets, {}, loop, outbox),
            ),
            emit=self._emit,
            tasks=Tasks(lambda name, error: self.faults.append(f"{name}: {error!r}")),
            web=Elsewhere,
            rng=random.Random(1),
            crowd=Crowd(10),
        )
        (self.pool,) = self.relay.snapshot.wires["a"].pools
        self.client = Memory(Downstream(self.relay))

    async def settle(self) -> None:
        """Let everything go on that need not wait."""
        for _ in range(TURNS_MAX):
            await asyncio.sleep(0)
            if self._loop.is_idle:
                return

    async def end(self) -> None:
        """Both sides leave; nothing may be left of them."""
        for transport in (self.client, *self.upstreams):
            transport.lose()
        await self.settle()
        assert len(self.relay.tasks) == 0, "a connection is not made"
        await self.relay.tasks.end()
        assert not self.faults, self.faults
        assert not self.relay.exchanges, "an exchange is left"
        assert not self.relay.connections, "a client is left"
        assert len(self.relay.crowd) == 0, "a client is counted"
        assert not self.relay.body_bytes, "bodies are left"
        assert not self.pool.open, "connections are left"

    def _emit(self, event: Event) -> None:
        if getattr(event, "level", "") == "error":
            self.faults.append(repr(event))


class _Loop(asyncio.SelectorEventLoop):
    """A loop whose connections are in memory."""

    made: list[Memory]

    async def create_connection(  # type: ignore[override] # without what it means for sockets
        self, protocol_factory: Callable[[], asyncio.Protocol], *_address: object, **_options: object
    ) -> tuple[Memory, asyncio.Protocol]:
        protocol = protocol_factory()
        self.made.append(Memory(protocol))
        return self.made[-1], protocol

    @property
    def is_idle(self) -> bool:
        """Nothing is to be done at once."""
        ready: Sized = getattr(self, "_ready")  # noqa: B009 - of asyncio's inside
        return not ready


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run in the one loop of this process."""
    _loop().run_until_complete(work)


def close() -> None:
    """Close what the whole process shares."""
    _loop().close()
    _loop.cache_clear()
    _unbound().close()
    _unbound.cache_clear()


@cache
def _loop() -> _Loop:
    return _Loop()


@cache
def _loaded() -> Loaded:
    return parse(_CONFIG, "fuzz.yaml", directory=Path(), environ={"SECRET": SECRET})


@cache
def _unbound() -> socket.socket:
    return socket.socket()
