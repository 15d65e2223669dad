"""Who is connected, and who makes room when there are too many (RELIABILITY 6.5, C7 and C23).

A connection counts from accept to close, also when aiohttp answers on it. One on which no request has begun may be
ended at any time: it is idle, or it drips a head. Of those, the ones go first of which their address has most, so that
nobody can take the room of others by opening connections.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from router.relay.downstream import Downstream

SHARE = 16
"""Of all that may be ended, one in so many ends when there are too many: so that this is rare."""

_IPV6_SITE = 8
"""Bytes: whoever has one IPv6 address has all that begin with these."""


class Connection(Protocol):
    """A client's connection, whoever answers on it."""

    @property
    def address(self) -> str:
        """Whose it is, as `address_of` says."""

    @property
    def waiting_since(self) -> float:
        """Monotonic seconds: since when there has been no request."""

    @property
    def waits(self) -> bool:
        """No request has begun on it, half a head is none; and it is not ending already."""

    def make_room(self) -> None:
        """End now."""


class WebConnection(Connection, Protocol):
    """One that was handed over: a protocol of aiohttp's server."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As in `asyncio.Protocol`."""

    def data_received(self, data: bytes) -> None:
        """As in `asyncio.Protocol`."""


class Crowd:
    """All connections of clients."""

    __slots__ = ("_addresses", "_of_address", "lent", "most", "relayed")

    def __init__(self, most: int) -> None:
        self.most = most
        """So many may there be."""
        self.relayed: set[Downstream] = set()
        """The relay's own."""
        self.lent: set[WebConnection] = set()
        """Those that aiohttp answers on."""
        self._addresses: dict[Connection, str] = {}
        self._of_address: Counter[str] = Counter()
        """Only while addresses have a bound: to ask a transport for its peer makes a connection 400 bytes larger."""

    def __len__(self) -> int:
        return len(self.relayed) + len(self.lent)

    def __repr__(self) -> str:
        return f"<Crowd: {len(self)} of {self.most}>"

    def enter(self, connection: Downstream, per_address: int | None) -> None:
        """One more is connected; if that is one too many, some that wait make room, at last this one.

        `per_address`: so many may one address have. None: it may have all, for it may be a load balancer's.
        """
        self.relayed.add(connection)
        if per_address is not None:
            self._bound(connection, per_address)
        elif self._addresses:
            self._addresses.clear()
            self._of_address.clear()
        if len(self) > self.most:
            waiting = [each for each in self._all() if each.waits]
            self._end(_crowding(waiting)[: len(waiting) // SHARE + 1])

    def _bound(self, connection: Connection, per_address: int) -> None:
        """If its address has too many, the one that waits longest there makes room."""
        for each in (connection,) if self._addresses else self._all():
            self._count(each, each.address)
        address = self._addresses[connection]
        if address and self._of_address[address] > per_address:  # behind a Unix socket nobody can be told apart
            own = [each for each, its in self._addresses.items() if its == address and each.waits]
            self._end(sorted(own, key=_age)[:1])

    def _count(self, connection: Connection, address: str) -> None:
        self._addresses[connection] = address
        self._of_address[address] += 1

    def lend(self, connection: Downstream, to: WebConnection) -> None:
        """Aiohttp answers on it from here on."""
        if connection in self.relayed:
            counted = self._addresses.get(connection)
            self.leave(connection)
            self.lent.add(to)
            if counted is not None:
                self._count(to, counted)

    def leave(self, connection: Connection) -> None:
        """It is closed, or as good as closed; only the first call counts."""
        self.relayed.discard(connection)
        self.lent.discard(connection)
        address = self._addresses.pop(connection, None)
        if address is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    def _all(self) -> Iterable[Connection]:
        return chain(self.relayed, self.lent)

    def _end(self, connections: Iterable[Connection]) -> None:
        for connection in connections:
            connection.make_room()
            self.leave(connection)  # not only once it is told: others may come before that


def _age(connection: Connection) -> float:
    return connection.waiting_since


def _crowding(waiting: list[Connection]) -> list[Connection]:
    """In the order in which they make room: of the address that has most, and there of those that wait longest."""
    newer: Counter[str] = Counter()
    rank = {}
    for connection in sorted(waiting, key=_age, reverse=True):
        rank[connection] = newer[connection.address]
        newer[connection.address] += 1
    return sorted(waiting, key=lambda each: (-rank[each], each.waiting_since))


def address_of(peer: object) -> str:
    """Whose connection it is, by the transport's `peername`; of IPv6 the site. Empty without one: a Unix socket."""
    if not isinstance(peer, tuple) or not peer:
        return ""
    host = str(peer[0])
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    return str(address.ipv4_mapped or address.packed[:_IPV6_SITE].hex())
