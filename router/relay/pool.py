"""Connections to one upstream with one credential: the idle ones, and how new ones are made."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import ssl
import time
from typing import TYPE_CHECKING

from router.policy.outcomes import Cause
from router.relay.tunnel import Refused, Tunnel
from router.relay.upstream import UpstreamConnection

if TYPE_CHECKING:
    from collections.abc import Collection

    from router.protocol import http
    from router.relay.outbox import Outbox
    from router.relay.tunnel import Proxy

ADDRESS_S = 0.5
"""How long one of several addresses of a host may take: a black hole must not hide the good one behind it (O21 of
RELIABILITY 6.8: dual stack with broken IPv6)."""

ADDRESSES_FRESH_S = 30.0
ADDRESSES_KEPT_S = 300.0
"""Resolved addresses are asked for again after 30 s; while the resolver fails, old ones serve for 5 minutes
(RELIABILITY 6.4, U3 and U4)."""

ADDRESS_LEFT_S = 75.0
"""Connections to an address that no answer has named for so long take nothing new. Longer than two answers, since many
names show a few of their addresses at a time, and leaving those would cost a handshake each."""

SCARCITY = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""Why a socket could not even be made: our own lack, for which no upstream is to blame (RELIABILITY O8)."""

RESOLVER_S = 0.5
"""How long a resolver may be silent before those old ones serve. It is asked once for all who wait: it answers in one
of four threads, and an upstream whose name nobody knows must not take them all."""


class ConnectionPool:
    """Connections to one upstream with one credential: the idle ones, and how new ones are made."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        server_name: str | None,
        keepalive_s: float,
        idle_max: int,
        proxy: Proxy | None = None,
    ) -> None:
        self.loop = loop
        self.outbox = outbox
        self._proxy = proxy
        self._target = (host, port)
        if proxy is not None:  # which then is what is resolved and connected to
            host, port = proxy.host, proxy.port
        self._host = host
        self._port = port
        self._tls = tls
        self._server_name = server_name if tls is not None else None
        self._keepalive_s = keepalive_s
        self._idle_max = idle_max
        self._idle: list[UpstreamConnection] = []
        self._addresses: list[tuple[str, int]] = []
        with contextlib.suppress(ValueError):  # an address needs no resolver, nor the four threads that it starts
            ipaddress.ip_address(host)
            self._addresses = [(host, port)]
        self._is_address = bool(self._addresses)
        self._named_at: dict[tuple[str, int], float] = {}
        """When the resolver last named each address that connections may lead to."""
        self._moved = False
        """An address has been left: a connection that comes back may be one to it."""
        self._resolved_at = -ADDRESSES_KEPT_S
        self._asked_at = 0.0
        self._asking: asyncio.Task[OSError | None] | None = None
        """The question to the resolver, while it is open."""
        self.open: set[UpstreamConnection] = set()
        self.repeated: tuple[http.Repeated, http.Answered] | None = None
        """The head of the last whole answer, in case the upstream says it again."""
        self._closed = False

    def __repr__(self) -> str:
        host, port = self._target
        via = "" if self._proxy is None else f" through {self._proxy.host}:{self._proxy.port}"
        return f"<ConnectionPool {host}:{port}{via}: {len(self.open)} open, {len(self._idle)} idle>"

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    def take(self) -> UpstreamConnection | None:
        """The idle connection used last, if it is young enough that the peer will not just be closing it."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.transport.is_closing():
                continue
            if time.monotonic() - connection.idle_since <= self._keepalive_s:
                return connection
            connection.close()
        return None

    def put(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request."""
        if self._closed or len(self._idle) >= self._idle_max:
            connection.close()
            return
        if self._moved and connection.address not in self._named_at:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection is gone."""
        self.open.discard(connection)
        if connection.owner is None:
            with contextlib.suppress(ValueError):
                self._idle.remove(connection)

    def sweep(self, now: float) -> None:
        """Close what has been idle too long, and see where the name leads; called every second or so."""
        expired = 0
        for connection in self._idle:
            if now - connection.idle_since <= self._keepalive_s:
                break  # the list is in order of age
            expired += 1
        old, self._idle = self._idle[:expired], self._idle[expired:]
        for connection in old:
            connection.close()
        # Who lives on kept connections resolves nothing, and would stay at an address that is no longer the name's.
        due = max(self._resolved_at, self._asked_at) + ADDRESSES_FRESH_S
        if self.open and not self._is_address and self._asking is None and now > due:
            self._ask(now)

    def retire(self) -> None:
        """The upstream left the configuration: close what is idle, keep nothing that comes back."""
        self._closed = True
        old, self._idle = self._idle, []
        for connection in old:
            connection.close()

    async def connect(self) -> UpstreamConnection:
        """Open a connection. The caller bounds the time.

        Raises:
            ConnectError: with the cause: dns, tls, connect, or what we lack ourselves.
        """
        try:
            addresses = await self._resolve()
        except OSError as error:
            raise ConnectError(Cause.DNS, str(error)) from error
        problem: Exception | None = None
        for number, address in enumerate(addresses, start=1):
            patience = ADDRESS_S if number < len(addresses) else None
            try:
                connection = await (self._open if self._proxy is None else self._open_tunnel)(*address, patience)
            except ssl.SSLError as error:  # before OSError, of which it is a subclass
                raise ConnectError(Cause.TLS, str(error)) from error
            except Refused as error:  # by the proxy, which its other addresses will not change
                raise ConnectError(Cause.CONNECT, str(error)) from error
            except OSError as error:
                problem = error.with_traceback(None)  # that refers to this frame, which keeps the problem
            else:
                # Not sooner: uvloop closes the transport of a cancelled attempt without telling its protocol.
                connection.address = address
                if not connection.transport.is_closing():
                    self.open.add(connection)
                return connection
        scarce = isinstance(problem, OSError) and problem.errno in SCARCITY
        raise ConnectError(Cause.SCARCE if scarce else Cause.CONNECT, str(problem)) from problem

    async def _open(self, host: str, port: int, patience: float | None) -> UpstreamConnection:
        async with asyncio.timeout(patience):
            _, connection = await self.loop.create_connection(
                lambda: UpstreamConnection(self), host, port, ssl=self._tls, server_hostname=self._server_name
            )
        return connection

    async def _open_tunnel(self, host: str, port: int, patience: float | None) -> UpstreamConnection:
        """Connect to the proxy at this address; how long the way behind it takes does not tell addresses apart."""
        assert self._proxy is not None
        async with asyncio.timeout(patience):
            _, tunnel = await self.loop.create_connection(lambda: Tunnel(self.loop), host, port)
        connection = UpstreamConnection(self)
        authorization = self._proxy.authorization
        await tunnel.lead_to(
            connection, *self._target, authorization=authorization, tls=self._tls, server_name=self._server_name
        )
        return connection

    async def _resolve(self) -> list[tuple[str, int]]:
        """Addresses of the host, asked for at most every 30 s; the last good ones if the resolver fails or is silent.

        Raises:
            OSError: there has been no good answer for five minutes.
        """
        now = self.loop.time()
        age = now - self._resolved_at
        if self._is_address or (self._addresses and age < ADDRESSES_FRESH_S):
            return self._addresses
        asking = self._asking or self._ask(now)
        kept = bool(self._addresses) and age < ADDRESSES_KEPT_S
        problem = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._asked_at + RESOLVER_S if kept else None):
                problem = await asyncio.shield(asking)
        if problem is not None and not kept:
            raise problem
        return self._addresses

    def _ask(self, now: float) -> asyncio.Task[OSError | None]:
        """Put the question to the resolver, once for all who wait."""
        self._asked_at = now
        self._asking = self.loop.create_task(self._ask_resolver(), name=f"resolve {self._host}")
        return self._asking

    async def _ask_resolver(self) -> OSError | None:
        """Learn the addresses of the host; return why they cannot be had."""
        try:
            found = await self.loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            return error
        finally:
            self._asking = None
        self._addresses = list(dict.fromkeys((str(at[0]), self._port) for *_, at in found))
        now = self._resolved_at = self.loop.time()
        self._named_at |= dict.fromkeys(self._addresses, now)
        old = {address for address, named_at in self._named_at.items() if now - named_at > ADDRESS_LEFT_S}
        if old:
            self._leave(old)
        return None

    def _leave(self, addresses: Collection[tuple[str, int]]) -> None:
        """Close what is idle at addresses that are no longer the name's; what is in use there ends with its answer."""
        self._moved = True
        for address in addresses:
            del self._named_at[address]
        left = [connection for connection in self._idle if connection.address in addresses]
        self._idle = [connection for connection in self._idle if connection.address not in addresses]
        for connection in left:
            connection.close()


class ConnectError(Exception):
    """No connection came about; nothing was sent."""

    def __init__(self, cause: Cause, detail: str = "") -> None:
        super().__init__(cause, detail)
        self.cause = cause
        self.detail = detail
        """For the operator: what the system, TLS or the proxy said."""
