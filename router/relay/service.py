"""What all exchanges share: the running snapshot, the emitter of events, the counts of what is held."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from router.config.schema import Config
    from router.events import Event
    from router.policy.catalogue import Catalogue
    from router.policy.keys import Keyring
    from router.policy.owners import Owners
    from router.protocol.cors import Cors
    from router.protocol.endpoints import Endpoints
    from router.relay.crowd import Connection, Crowd, WebConnection
    from router.relay.downstream import Downstream
    from router.relay.exchange import Exchange
    from router.relay.lookout import Lookout
    from router.relay.outbox import Outbox
    from router.relay.tasks import Tasks
    from router.relay.wire import Wire


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """One valid configuration made ready to serve. A reload swaps it whole; an exchange keeps the one it began with."""

    config: Config
    digest: str
    catalogue: Catalogue
    keyring: Keyring
    endpoints: Endpoints
    wires: dict[str, Wire]
    cors: Cors | None = None
    sample: float | None = None
    """Share of the requests without a `traceparent` whose spans are kept; None: nobody's are."""


@dataclass(slots=True, kw_only=True, eq=False)
class Relay:
    """The data path's shared state. Only `app` makes one."""

    loop: asyncio.AbstractEventLoop
    snapshot: Snapshot
    emit: Callable[[Event], None]
    tasks: Tasks
    outbox: Outbox
    lookout: Lookout
    owners: Owners
    """Where answers are stored that can be asked for again."""
    web: Callable[[str, Callable[[Connection], None]], WebConnection]
    """Makes the aiohttp server protocol that a connection is handed to when the relay does not know the path; given the
    client's address and whom to tell of its end."""
    crowd: Crowd
    """The connections of clients, those that were handed over too."""
    rng: random.Random = field(default_factory=random.Random)
    exchanges: set[Exchange]
    """Admitted and not settled."""
    body_bytes: int = 0
    """Request bodies held in memory, of all exchanges together."""
    spooled_bytes: int = 0
    """The same on disk."""
    draining: bool = False
    """Answers say `Connection: close`, new requests are refused once `closed`."""
    closed: bool = False
    _prefix: str = field(default_factory=lambda: f"req_{secrets.token_hex(6)}")
    _numbers: count[int] = field(default_factory=count)

    @property
    def connections(self) -> set[Downstream]:
        """Of clients, those on which the relay answers."""
        return self.crowd.relayed

    def request_id(self) -> str:
        """A new id: random for each process, counted inside it."""
        return f"{self._prefix}{next(self._numbers):08x}"
