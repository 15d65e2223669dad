"""The composition root: a configuration file in, a running daemon out; start, reload, drain, stop.

The only module that builds and wires. Whoever needs something gets it as an argument from here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
import traceback
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from aiohttp import web

from router import __version__, service_manager
from router.config import dump, secrets
from router.config.loader import Loaded, Rejected, load
from router.config.watcher import Watcher
from router.events import ConfigReloaded, Notice
from router.explain.answer import Subject, replied
from router.listeners import Entrance, Listeners
from router.policy import catalogue
from router.policy.keys import build_keyring
from router.policy.outcomes import VERDICTS
from router.policy.owners import Owners
from router.protocol import cors
from router.protocol.endpoints import Endpoints
from router.protocol.http import scan
from router.relay import ending
from router.relay.attempt import Failure
from router.relay.crowd import Crowd
from router.relay.downstream import Downstream
from router.relay.lookout import Lookout
from router.relay.outbox import Outbox
from router.relay.pool import ConnectError
from router.relay.request import authenticate, refuse_page
from router.relay.service import Relay, Snapshot
from router.relay.tasks import Tasks
from router.relay.wire import Wire, build_wires, retire_unused
from router.service_manager import ServiceManager
from router.status import present
from router.status.snapshot import EVERYTHING, PAGE, Status
from router.telemetry.access_log import AccessLog
from router.telemetry.metrics import Metrics
from router.telemetry.tracing import Tracing
from router.web import admin, data, dial
from router.web.reach import Says
from router.web.realtime import Sockets

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from router.config.schema import CodeStyle
    from router.events import Event
    from router.listeners import Change
    from router.policy.keys import KeyState
    from router.relay.exchange import Exchange

_logger = logging.getLogger(__name__)

HOUSEKEEPING_S = 1.0
"""How often idle upstream connections are looked at, and the loop's lateness is measured. Not more often: while a timer
is near, each wait of the loop sets the processor's clock anew, and four times a second made a chunk 3 % dearer."""

FIXED = ("log.queue_max",)
"""Settings that are read at the start alone."""

ADVICE_MAX = 10
"""Warnings about a configuration that the log repeats: it is for those who never ran `check`."""

POLL_S = 0.02
FLUSH_S = 2.0
"""While stopping: how often we look whether all is done, and how long the last answers may take to be read."""


class Daemon:
    """The router, from a configuration file to its last flushed log line."""

    def __init__(
        self,
        config_path: Path,
        *,
        environ: Mapping[str, str],
        log_fd: int = 1,
        connections_max: int = sys.maxsize,
        manager: ServiceManager | None = None,
        sockets: Mapping[str, Sequence[socket.socket]] = {},
    ) -> None:
        self._path = config_path
        self._environ = environ
        self._connections_max = connections_max
        self._log_fd = log_fd
        self._loaded: Loaded
        self._relay: Relay
        self._status: Status
        self._outbox: Outbox
        self._watcher: Watcher
        self._manager = manager or ServiceManager({}, pid=0)
        self._handed_over = sockets
        """Listeners in place of those in the file, from `service_manager.sockets`."""
        self._refused = False
        """The last reload was, so that an older configuration runs."""
        self._listeners: Listeners
        self._runners: list[web.AppRunner] = []
        self._consumers: list[Callable[[Event], None]] = []
        self._reloading = asyncio.Lock()
        self._fixed: dict[str, Any] = {}
        """What `FIXED` settings were when we started."""
        self._hurry = asyncio.Event()
        self._stopped: asyncio.Future[None] | None = None
        self._background = Tasks(self._background_failed)
        self._log: AccessLog
        self._metrics = Metrics(version=__version__, loop_name=_loop_name())
        self._tracing = Tracing(self._tell)
        self._sockets = Sockets(lambda: self._relay, self.find_key, _connect, _SAYS)
        self.data_address = ("", 0)
        """Where clients connect, once started: the first listener."""
        self.admin_address = ("", 0)

    def __repr__(self) -> str:
        return f"<Daemon {self._path.name} on {self.data_address[0]}:{self.data_address[1]}>"

    @property
    def catalogue(self) -> catalogue.Catalogue:
        """Of the running snapshot."""
        return self._relay.snapshot.catalogue

    def subscribe(self, consumer: Callable[[Event], None]) -> None:
        """Let `consumer` see every event from now on. It runs on the loop and must not block."""
        self._consumers.append(consumer)

    def _emit(self, event: Event) -> None:
        """Tell every consumer. One that fails must not take the request with it that it was told about."""
        for consumer in self._consumers:
            try:
                consumer(event)
            except Exception:
                _logger.exception("a consumer of events failed")

    # start

    async def start(self) -> None:
        """Load, bind, serve.

        Raises:
            ConfigError: the file cannot be used; nothing is bound.
            OSError: an address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        self._loaded = self._load()
        for_journal = service_manager.is_journal(self._environ, self._log_fd)
        self._log = AccessLog(self._log_fd, self._loaded.config.log.queue_max, for_journal=for_journal)
        self._consumers[:0] = [self._metrics.emit, self._log.emit]
        self._watcher = Watcher(self._path, self._loaded.sources)
        bounds = self._loaded.config.requests
        data_runner, web_protocol = await data.start(
            data.build(self, self._sockets), bounds.head_timeout, bounds.write_timeout
        )
        self._runners.append(data_runner)
        exchanges: set[Exchange] = set()
        self._outbox = Outbox(loop, exchanges)
        self._relay = Relay(
            loop=loop,
            outbox=self._outbox,
            lookout=Lookout(loop, exchanges),
            owners=Owners(self._loaded.config.sticky.ids_max, self._loaded.config.sticky.ttl),
            exchanges=exchanges,
            snapshot=self._snapshot(self._loaded, None),
            emit=self._emit,
            tasks=Tasks(self._background_failed),
            web=web_protocol,
            crowd=Crowd(self._connections_max),
        )
        self._status = Status(self._relay, self._metrics.cells, self._sockets.in_flight, lambda: self._log.dropped)
        self._consumers.append(self._status.emit)
        self._metrics.live(lambda: replace(self._status.live(), spans_dropped=self._tracing.dropped))
        self._configure_telemetry()
        self._log.start()
        try:
            await self._listen()
        except OSError:
            await self._close()
            raise
        for work, name in ((self._watch, "config watch"), (self._keep_house, "housekeeping")):
            self._background.spawn(self._again(work, name), name)
        self._say_where()
        for identity in self._listeners.identities:
            if identity.has_expired:
                self._notice("warning", "clients will refuse our certificate", identity.says)
        self._advise()
        if self._handed_over:
            self._notice("info", "took over sockets", service_manager.described(self._handed_over))

    def _load(self) -> Loaded:
        """Read the file, and look whether it suits the sockets that stand in for its addresses.

        Raises:
            ConfigError: it cannot be used.
        """
        loaded = load(self._path, environ=self._environ)
        if faults := service_manager.faults(loaded.config, self._handed_over):
            raise Rejected(tuple(f"{self._path}: {fault}" for fault in faults), loaded.sources)
        return loaded

    async def _listen(self) -> None:
        config, relay = self._loaded.config, self._relay
        self._fixed = {name: attrgetter(name)(config) for name in FIXED}
        runner = web.AppRunner(admin.build(self, self._metrics), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        server = runner.server
        assert server is not None  # it is set up
        entrances = {
            "listen": Entrance(
                accept=lambda: Downstream(relay), connections=lambda: relay.connections, finish=Downstream.finish
            ),
            "admin": Entrance(
                accept=server,
                connections=lambda: server.connections,
                finish=lambda each: self._background.spawn(admin.finish(each), "end of an admin connection"),
            ),
        }
        self._listeners = Listeners(entrances, self._handed_over)
        (await self._listeners.change(config)).apply()

    def _say_where(self) -> None:
        described, first = self._listeners.described, self._listeners.first
        self.data_address, self.admin_address = first("listen"), first("admin")
        self._notice("info", f"listening on {described('listen')}", f"admin on {described('admin')}")

    def _advise(self) -> None:
        """Tell what the configuration says and its operator has probably not meant; `check` tells all of it."""
        for warning in self._loaded.warnings[:ADVICE_MAX]:
            self._notice("warning", "configuration: probably not meant", warning)

    def _snapshot(self, loaded: Loaded, previous: Snapshot | None) -> Snapshot:
        """Make a configuration ready to serve, taking over the state of what stays."""
        now = time.monotonic()
        wires = build_wires(
            loaded.config,
            loaded.secrets,
            previous.wires if previous else {},
            asyncio.get_running_loop(),
            self._outbox,
        )
        return Snapshot(
            config=loaded.config,
            digest=loaded.digest,
            catalogue=catalogue.build(loaded.config, now, previous.catalogue if previous else None),
            keyring=build_keyring(loaded.config, loaded.secrets, now, previous.keyring if previous else None),
            endpoints=Endpoints(
                bare=loaded.config.bare_paths, unknown=loaded.config.passthrough_unknown_paths, pins=loaded.config.pins
            ),
            wires=wires,
            cors=cors.build(loaded.config.cors),
            sample=loaded.config.tracing.sample if loaded.config.tracing is not None else None,
        )

    def _configure_telemetry(self) -> None:
        snapshot = self._relay.snapshot
        self._log.exchanges = snapshot.config.log.access
        self._tracing.configure(self._loaded.config, self._loaded.secrets, self._consumers)
        self._metrics.configure(snapshot.config.models, snapshot.config.upstreams, snapshot.digest, time.time())

    # live change

    async def reload(self) -> ConfigReloaded:
        """Read the file again: apply it whole, or change nothing. One at a time; every trigger ends here."""
        async with self._reloading:
            try:
                loaded = await asyncio.to_thread(self._load)
            except Rejected as rejected:
                self._watcher.rejected(rejected.sources)
                return self._reloaded("rejected", faults=rejected.faults)
            self._watcher.running(loaded.sources)
            if loaded.digest == self._loaded.digest:
                return self._reloaded("unchanged")
            try:
                listeners = await self._listeners.change(loaded.config)
            except OSError as error:
                return self._reloaded("rejected", faults=(f"{self._path.name}: {error.strerror}",))
            try:
                return self._apply(loaded, listeners)
            except (OSError, ValueError) as error:  # a CA file that is none, say
                listeners.undo()
                return self._reloaded("rejected", faults=(f"{self._path.name}: {error}",))

    def _apply(self, loaded: Loaded, listeners: Change) -> ConfigReloaded:
        before = self._relay.snapshot
        snapshot = self._snapshot(loaded, before)  # it alone may fail
        self._relay.snapshot = snapshot
        self._relay.owners.ids_max, self._relay.owners.ttl_s = loaded.config.sticky.ids_max, loaded.config.sticky.ttl
        self._loaded = loaded
        retire_unused(before.wires.values(), snapshot.wires)
        self._configure_telemetry()
        if listeners.apply():
            self._say_where()
        self._advise()
        changed = tuple(name for name, fixed in self._fixed.items() if fixed != attrgetter(name)(loaded.config))
        return self._reloaded("applied", needs_restart=changed)

    def _reloaded(
        self, result: str, *, faults: tuple[str, ...] = (), needs_restart: tuple[str, ...] = ()
    ) -> ConfigReloaded:
        self._refused = result == "rejected"
        event = ConfigReloaded(time.time(), result, self._relay.snapshot.digest, faults, needs_restart)
        self._emit(event)
        return event

    async def _watch(self) -> None:
        """After a while look at the file's content, as Kubernetes and editors change it (OPERATIONS 0)."""
        settings = self._loaded.config.reload
        await asyncio.sleep(settings.interval)
        if settings.watch and await asyncio.to_thread(self._watcher.look):
            await self.reload()

    # background

    async def _again(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        """Do it again and again; a bug of ours in it is told, and is not the end of it. It begins with a wait."""
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 (whatever it is, the next round may go well)
                self._background_failed(name, error)

    async def _keep_house(self) -> None:
        pause_s = min(HOUSEKEEPING_S, self._manager.look_s)
        due = time.monotonic() + pause_s
        await asyncio.sleep(pause_s)
        now = time.monotonic()
        # First of all: a fault of ours further down is not a loop that is stuck.
        self._manager.look(now, now + pause_s, self._line, stopping=self._stopped is not None)
        self._metrics.observe_lag(max(0.0, now - due))
        self._status.keep(now)
        for wire in self._relay.snapshot.wires.values():
            wire.sweep(now)

    def _line(self) -> str:
        """How we do, in the one line that `systemctl status` has for it."""
        now = time.monotonic()
        upstreams = self._relay.snapshot.catalogue.upstreams.values()
        healthy = sum(each.backend_state(now) == "healthy" for each in upstreams)
        in_flight = len(self._relay.exchanges) + len(self._sockets)
        return (
            ("Draining: " if self._relay.draining else "")
            + f"{healthy}/{len(upstreams)} upstreams healthy, {in_flight} in flight"
            + ("; the configuration file was refused, an older one runs" if self._refused else "")
        )

    def _background_failed(self, name: str, error: BaseException) -> None:
        self._notice("error", f"background task failed: {name}", "".join(traceback.format_exception(error)))

    def _tell(self, message: str, detail: str) -> None:
        """Warn an operator, from another thread. The loop that will not hear it any more is about to end."""
        with contextlib.suppress(RuntimeError):
            self._relay.loop.call_soon_threadsafe(self._notice, "warning", message, detail)

    def _notice(self, level: str, message: str, detail: str = "") -> None:
        self._emit(Notice(time.time(), level, message, detail))

    # stop

    def drain(self) -> None:
        """Not ready any more: answers end their connections, so that clients and balancers look elsewhere."""
        self._relay.draining = True

    async def stop(self, *, hurry: bool = False) -> None:
        """End in order (STYLE 8) and return when all is done; a call with `hurry` shortens another one's waiting."""
        if hurry:
            self._hurry.set()
        if self._stopped is None:
            self._stopped = asyncio.get_running_loop().create_future()
            await self._stop()
            self._stopped.set_result(None)
        else:
            await asyncio.shield(self._stopped)

    async def _stop(self) -> None:
        relay, settings = self._relay, self._loaded.config.stop
        self._notice("info", "stopping", f"{len(relay.exchanges) + len(self._sockets)} requests in flight")
        self.drain()
        await self._wait(settings.notice, lambda: False)
        relay.closed = True
        self._listeners.close("listen")
        for connection in tuple(relay.connections):
            connection.close_if_idle()
        await self._wait(settings.drain, lambda: not relay.exchanges and not self._sockets.open)
        for exchange in tuple(relay.exchanges):
            exchange.stop()
        self._sockets.stop()
        for connection in tuple(relay.connections):
            connection.stop()
        self._hurry.clear()
        await self._wait(FLUSH_S, lambda: not relay.connections and not self._sockets.open)
        await self._close()

    async def _wait(self, seconds: float, done: Callable[[], bool]) -> None:
        """Wait until it is done, the time is over, or somebody is in a hurry."""
        until = time.monotonic() + seconds
        while not done() and not self._hurry.is_set() and time.monotonic() < until:  # noqa: ASYNC110 (once in a life)
            await asyncio.sleep(min(POLL_S, seconds))

    async def _close(self) -> None:
        """Close what is open, end what runs, write what is queued."""
        self._listeners.close("listen", "admin")
        self._outbox.flush()
        for connection in tuple(self._relay.connections):
            connection.transport.abort()
        for runner in reversed(self._runners):
            await runner.cleanup()
        await self._background.end()
        await self._relay.tasks.end()
        for wire in self._relay.snapshot.wires.values():
            wire.close()
        await asyncio.sleep(0)  # transports tell their protocols in the next turn of the loop
        await asyncio.to_thread(self._tracing.close, FLUSH_S)
        self._notice("info", "stopped")
        await asyncio.to_thread(self._log.close, FLUSH_S)

    # what the admin listener asks (`web.admin.Control`) and the data listener's other paths (`web.data.DataSource`)

    @property
    def digest(self) -> str:
        """Of the running configuration."""
        return self._loaded.digest

    @property
    def admin_token(self) -> str:
        """The hash of what operators must show."""
        token = self._loaded.config.admin_token
        return "" if token is None else secrets.digest(token, self._loaded.secrets)

    @property
    def code_style(self) -> CodeStyle:
        """Of our own errors."""
        return self._loaded.config.errors.code_style

    def config(self) -> Mapping[str, Any]:
        """The running configuration with every default, without secrets."""
        return dump.effective(self._loaded)

    def ready(self) -> tuple[bool, str]:
        """Whether new requests are welcome, and why not."""
        return (False, "draining") if self._relay.draining else (True, "")

    def state(self, *, bounded: bool = False) -> Mapping[str, Any]:
        """What the status page shows; bounded to what a person can read, or all."""
        return self._status.page(PAGE if bounded else EVERYTHING)

    def explain(self, question: bytes) -> tuple[int, object]:
        """What would happen to a request now, and why: the status, and the value to write as JSON."""
        relay = self._relay
        subject = Subject(
            snapshot=relay.snapshot, owners=relay.owners, live=True, closed=relay.closed, body_bytes=relay.body_bytes
        )
        return replied(subject, question, time.monotonic())

    def idle(self) -> dict[str, int]:
        """What is held for requests: all zero at rest."""
        return present.held(self._relay) | {"sockets": len(self._sockets)}

    def request_id(self) -> str:
        """A new one."""
        return self._relay.request_id()

    def emit(self, event: Event) -> None:
        """Tell every consumer."""
        self._emit(event)

    def find_key(self, headers: Sequence[tuple[bytes, bytes]]) -> KeyState | None:
        """Whose request this is; None if no keys are configured.

        Raises:
            RequestError: it is nobody's we know, or a page's that is not let in.
        """
        snapshot, facts = self._relay.snapshot, scan([name + b": " + value for name, value in headers])
        if facts.origin and not (snapshot.cors and snapshot.cors.lines(facts.origin)):
            refuse_page(snapshot.keyring, facts.origin)
        return authenticate(snapshot.keyring, facts.credential)

    @property
    def bare_paths(self) -> bool:
        """The same paths are served without `/v1`."""
        return self._loaded.config.bare_paths

    @property
    def cors(self) -> cors.Cors | None:
        """Which pages in browsers are let in."""
        return self._relay.snapshot.cors

    def models_for(self, key: KeyState | None) -> Sequence[str]:
        """The models that a key may use, by name; patterns stand for names that only the upstream knows."""
        models = self._loaded.config.models
        return [name for name in models if "*" not in name and (key is None or key.allowed(name))]


async def _connect(wire: dial.Wire, credential: int, protocol: asyncio.Protocol) -> None:
    """Connect a protocol to an upstream, with its TLS and by its proxy (`web.dial.Connect`).

    Raises:
        DialError: it could not be reached.
    """
    assert isinstance(wire, Wire)  # there are no others
    pool = wire.pools[credential]
    try:
        connection = await pool.connect()
    except ConnectError as error:
        raise dial.DialError(VERDICTS[error.cause]) from error
    pool.forget(connection)
    connection.transport.set_protocol(protocol)
    protocol.connection_made(connection.transport)


_SAYS = Says(
    limited=ending.limited,
    nobody=ending.nobody,
    failed=lambda verdict, wait_s: ending.after_failure(Failure(verdict=verdict), wait_s),
    owner_down=ending.owner_down,
    draining=ending.draining,
    bug=ending.bug,
    outcome=ending.outcome,
)
"""What clients of sockets are told: the words of every other exchange."""


def _loop_name() -> str:
    try:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]
    except RuntimeError:
        return "unknown"
