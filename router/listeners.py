"""Where connections come in: the sockets at which the daemon listens, from its start through its reloads to its end.

A reload opens what is new before anything else changes, so that an address that cannot be had refuses it and nothing
has happened. What the file names no more is closed once the new configuration serves; connections that came in there
end behind the request that they have begun. Certificates are read anew when their files have changed: handshakes from
then on show the new one, connections that are there keep what they have.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from router.config import addresses
from router.config.certificates import not_after
from router.config.sources import Fingerprint, fingerprint
from router.relay import tls
from router.service_manager import address_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from router.config.schema import Config, Listen, Listener, ServerTls

BACKLOG: Final = 4096
"""Connections that may wait to be accepted: with 128, five hundred clients that arrive at once wait for seconds."""

SETTINGS: Final = ("listen", "admin")

Key = tuple[str, str, int]
"""Which place it is, from reload to reload: setting, and address as it is written, which may stand there several times
if the kernel chooses the port; of sockets that were handed over, only which of them."""


class Connection(Protocol):
    """What was accepted, as far as it is needed here."""

    @property
    def transport(self) -> asyncio.BaseTransport | None:
        """Under it; None if it is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """What serves the connections of one setting."""

    accept: Callable[[], asyncio.Protocol]
    """Makes the protocol of one more."""
    connections: Callable[[], Iterable[Connection]]
    """Those that there are."""
    finish: Callable[[Any], object]
    """Let one of them end behind the request that it has begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a listener proves itself with, as read at one time."""

    context: ssl.SSLContext = field(repr=False)
    files: Fingerprint = field(repr=False)
    """What its files held."""
    cert: str
    not_after: float
    """When the certificate ends to be valid, as seconds since the epoch."""

    @property
    def has_expired(self) -> bool:
        """It is of no use to clients any more."""
        return self.not_after < time.time()

    @property
    def says(self) -> str:
        """Its end, for people."""
        until = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(self.not_after))
        return f"the certificate in {self.cert} {'has expired on' if self.has_expired else 'is valid until'} {until}"


class Place:
    """One address, or one socket that was handed over, at which we listen."""

    def __init__(self, setting: str, listener: Listener, accept: Callable[[], asyncio.Protocol]) -> None:
        self.setting = setting
        self.listener = listener
        self.identity: Identity | None = None
        """With TLS."""
        self.handshake_s = 0.0
        self.server: asyncio.Server
        self.address: Listen
        """Where it truly is, or is first: with the port that the kernel chose."""
        self.file: tuple[int, int] | None = None
        """Device and inode of the unix socket that we made."""
        self._accept = accept

    def __repr__(self) -> str:
        return f"<Place {self.setting}: {self}>"

    def __str__(self) -> str:
        return f"{self.address} (TLS)" if self.identity is not None else str(self.address)

    def protocol(self) -> asyncio.Protocol:
        """Take one more connection."""
        protocol = self._accept()
        if self.identity is None:
            return protocol
        return tls.Secured(self.identity.context, protocol, self.handshake_s)

    @property
    def sockets(self) -> Sequence[Any]:
        """Of the network, several for a name or for every interface."""
        return self.server.sockets

    def names(self) -> set[tuple[str, int] | str]:
        """What connections that came in here have for their own address; host `` is any."""
        anywhere = {"0.0.0.0": "", "::": ""}  # noqa: S104 (compared with, not bound to)
        bound = [each.getsockname() for each in self.sockets]
        return {name if isinstance(name, str) else (anywhere.get(name[0], name[0]), name[1]) for name in bound}

    def close(self) -> None:
        """Take no more connections."""
        self.server.close()
        path = addresses.unix_path(self.address)
        if self.file is not None and path is not None:
            with contextlib.suppress(OSError):
                if _file(path) == self.file:  # else it is another's by now
                    Path(path).unlink()
            self.file = None


@dataclass(slots=True)
class Change:
    """A configuration's listeners, open and ready. Exactly one of the two is to be called."""

    _listeners: Listeners
    _places: dict[Key, Place]
    _opened: list[Place]
    _renewed: list[tuple[Place, Listener, Identity | None]]
    _handshake_s: float

    def apply(self) -> bool:
        """From now on we listen there and nowhere else. Returns whether that is another place than before."""
        dropped = [place for key, place in self._listeners.places.items() if key not in self._places]
        for place, listener, identity in self._renewed:
            place.listener, place.identity = listener, identity
            _set_mode(place)
        for place in self._places.values():
            place.handshake_s = self._handshake_s
        self._listeners.places = self._places
        for place in dropped:
            self._listeners.drop(place)
        self._listeners.close(*self._listeners.closed)
        return bool(dropped or self._opened)

    def undo(self) -> None:
        """Close what was opened."""
        for place in self._opened:
            place.close()


class Listeners:
    """All of them."""

    def __init__(
        self, entrances: Mapping[str, Entrance], handed_over: Mapping[str, Sequence[socket.socket]] = {}
    ) -> None:
        """Prepare.

        Args:
            entrances: By setting.
            handed_over: Sockets by setting, from `service_manager.sockets`: the first stands in for the setting's first
                listener, and so on; more of them than listeners are served as the last.
        """
        self._entrances = entrances
        self._handed_over = handed_over
        self.places: dict[Key, Place] = {}
        self.closed: set[str] = set()
        """Settings of which no connections are taken any more."""

    def __repr__(self) -> str:
        return f"<Listeners {', '.join(map(str, self.places.values()))}>"

    def described(self, setting: str) -> str:
        """Where we listen, for people."""
        return ", ".join(map(str, self._of(setting)))

    def first(self, setting: str) -> tuple[str, int]:
        """Host and port of the setting's first listener; the path of a unix socket has no port."""
        where = self._of(setting)[0].address
        path = addresses.unix_path(where)
        if path is not None:
            return path, 0
        host, port = addresses.address(where)
        return host or "", port

    @property
    def identities(self) -> list[Identity]:
        """Of those with TLS."""
        return [place.identity for place in self.places.values() if place.identity is not None]

    def _of(self, setting: str) -> list[Place]:
        return [place for key, place in self.places.items() if key[0] == setting]

    async def change(self, config: Config) -> Change:
        """Open what a configuration names and is not open, and read certificates that are new.

        Raises:
            OSError: That cannot be, and nothing has changed. `strerror` says what.
        """
        places: dict[Key, Place] = {}
        opened: list[Place] = []
        renewed: list[tuple[Place, Listener, Identity | None]] = []
        wanted = list(self._wanted(config))
        going = [place for key, place in self.places.items() if key not in {key for key, _, _ in wanted}]
        try:
            for key, listener, given in wanted:
                place = self.places.get(key)
                if place is None:
                    place = Place(key[0], listener, self._entrances[key[0]].accept)
                    place.identity = self._identity(listener.tls, None)
                    place.handshake_s = config.requests.head_timeout
                    await _open(place, given, going)
                    opened.append(place)
                else:
                    renewed.append((place, listener, self._identity(listener.tls, place)))
                places[key] = place
        except OSError:
            for each in opened:
                each.close()
            raise
        return Change(self, places, opened, renewed, config.requests.head_timeout)

    def _wanted(self, config: Config) -> Iterator[tuple[Key, Listener, socket.socket | None]]:
        for setting in SETTINGS:
            listeners: tuple[Listener, ...] = getattr(config, setting)
            given = self._handed_over.get(setting, ())
            for number, each in enumerate(given):
                yield (setting, "", number), listeners[min(number, len(listeners) - 1)], each
            seen: Counter[str] = Counter()
            for listener in listeners[len(given) :]:
                yield (setting, listener.address, seen[listener.address]), listener, None
                seen[listener.address] += 1

    def _identity(self, wanted: ServerTls | None, place: Place | None) -> Identity | None:
        """What a place proves itself with from now on: what it had, if nothing of that has changed.

        Raises:
            OSError: The files have changed since they were checked, or the certificate is of no use any more.
        """
        if wanted is None:
            return None
        files = fingerprint(Path(file) for file in (wanted.cert, wanted.key, wanted.client_ca) if file is not None)
        before = place.identity if place is not None and place.listener.tls == wanted else None
        if before is not None and before.files == files:
            return before
        try:
            identity = Identity(
                context=tls.context(wanted.cert, wanted.key, wanted.client_ca),
                files=files,
                cert=wanted.cert,
                not_after=not_after(Path(wanted.cert).read_bytes()),
            )
        except (OSError, ValueError) as error:
            raise OSError(errno.EINVAL, f"{wanted.cert}: {getattr(error, 'strerror', None) or error}") from None
        if identity.has_expired and self.places:  # at the start it is better than no daemon
            raise OSError(errno.EINVAL, identity.says)
        return identity

    def drop(self, place: Place) -> None:
        """Close a place, and let the connections end that came in there."""
        entrance, names = self._entrances[place.setting], place.names()
        place.close()
        for connection in tuple(entrance.connections()):
            if connection.transport is None:
                continue
            own = connection.transport.get_extra_info("sockname")
            if own in names or (isinstance(own, tuple) and not names.isdisjoint({own[:2], ("", own[1])})):
                entrance.finish(connection)

    def close(self, *settings: str) -> None:
        """Take no more connections of these settings, whatever a reload may bring."""
        self.closed.update(settings)
        for place in self.places.values():
            if place.setting in settings:
                place.close()


async def _open(place: Place, given: socket.socket | None, going: Iterable[Place]) -> None:
    """Listen.

    Raises:
        OSError: It cannot be.
    """
    wanted = place.listener.address
    place.address = wanted
    try:
        path = addresses.unix_path(wanted)
        if given is not None:
            place.server = await _serve(place, given)
            place.address = address_of(given)
        elif path is not None:
            bound = _bind(path, place.listener.mode)
            place.file = _file(path)
            place.server = await _serve(place, bound)
        else:
            place.server = await _bind_network(place, [each for each in going if _is_rival(each, wanted)])
            place.address = address_of(min(place.sockets, key=lambda each: each.family))  # of all interfaces IPv4 first
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        raise OSError(error.errno, f"{place.setting} {wanted}: {reason}") from None


async def _serve(place: Place, bound: socket.socket) -> asyncio.Server:
    """Listen at a socket. The file of a unix socket is not the loop's to remove: it may be the service manager's."""
    loop = asyncio.get_running_loop()
    if bound.family != socket.AF_UNIX:
        return await loop.create_server(place.protocol, sock=bound, backlog=BACKLOG)
    if sys.version_info >= (3, 13):  # which began to remove it
        return await loop.create_unix_server(place.protocol, sock=bound, backlog=BACKLOG, cleanup_socket=False)
    return await loop.create_unix_server(place.protocol, sock=bound, backlog=BACKLOG)


def _is_rival(place: Place, wanted: Listen) -> bool:
    return any(addresses.overlaps(each, wanted) for each in (place.address, place.listener.address))


async def _bind_network(place: Place, rivals: list[Place]) -> asyncio.Server:
    """Listen beside places that are about to go: one on `127.0.0.1` and one on every interface are at odds else.

    Both must be shared for that. A daemon that is started by mistake does not share, and so is still told.
    """
    host, port = addresses.address(place.listener.address)
    for each in (each for rival in rivals for each in rival.sockets):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return await asyncio.get_running_loop().create_server(
        place.protocol, host, port, backlog=BACKLOG, reuse_port=bool(rivals) or None
    )


def _bind(path: str, mode: str | None) -> socket.socket:
    """Make a unix socket; nobody can connect before it listens, so its mode is right from the first connection on.

    Raises:
        OSError: Something is there that is not ours to remove, or it cannot be made.
    """
    _remove_stale(path)
    made = socket.socket(socket.AF_UNIX)
    try:
        made.bind(path)
        if mode is not None:
            Path(path).chmod(int(mode, 8))
    except OSError:
        made.close()
        raise
    made.setblocking(False)
    return made


def _remove_stale(path: str) -> None:
    """Remove the socket of a daemon that died.

    Raises:
        OSError: It is no socket, or somebody answers there.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except BlockingIOError:  # its backlog is full
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _file(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _set_mode(place: Place) -> None:
    path = addresses.unix_path(place.address)
    if place.file is not None and path is not None and place.listener.mode is not None:
        with contextlib.suppress(OSError):  # somebody removed it
            Path(path).chmod(int(place.listener.mode, 8))
