"""The service manager that started us, if one did: it may hand sockets over, and is told how we do.

systemd's two protocols, each a few lines: sd_listen_fds(3) and sd_notify(3). Who does not set their variables is not
spoken to. Nothing here waits, and a manager that is gone or too slow to listen changes nothing for us.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from typing import TYPE_CHECKING, Final

from router.config import addresses
from router.config.schema import Listen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from router.config.schema import Config

LISTENERS: Final = {"http": "listen", "admin": "admin"}
"""Names of sockets that are handed over (`FileDescriptorName=`), and the setting that each stands in for."""

SOCKETS_MAX: Final = 64
"""More sockets than that are a mistake, and not looked at."""

STATUS_S: Final = 5.0
"""Between two lines of status. Each wakes the manager, and whoever watches its units, and people read no faster."""

EXTEND_S: Final = 20.0
"""While we stop, how long the manager is asked to wait from each look on: several looks, and what comes after the last
of them, when the listeners are closed and the log is written."""

LOOK_S_MIN: Final = 0.05
"""A watchdog that is shorter than two of these is not kept."""

_FIRST_DESCRIPTOR: Final = 3


class HandoverError(Exception):
    """What was handed over cannot be used: the unit of the socket is wrong, and says how in the text."""


class ServiceManager:
    """Whoever our environment says started us. Without its variables nobody did, and nothing is said or taken over."""

    def __init__(self, environ: Mapping[str, str], *, pid: int) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog_s = _watchdog_s(environ, pid) if self._address else math.inf
        self._fed_at = -math.inf
        self._status = ""
        self._status_at = -math.inf

    def __repr__(self) -> str:
        return f"<ServiceManager {self._address or 'nobody'}, watchdog {self._watchdog_s:g} s>"

    @property
    def look_s(self) -> float:
        """How long `look` may be away at most: half the time after which the watchdog takes us for stuck."""
        return max(LOOK_S_MIN, self._watchdog_s / 2)

    def ready(self) -> None:
        """We serve: after the start, or after a reload, whatever came of it."""
        self._status_at = -math.inf
        self._tell("READY=1")

    def reloading(self) -> None:
        """A reload begins; `ready` says that it is over."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """We drain, then end. From now on `look` asks for patience."""
        self._status_at = -math.inf
        self._tell("STOPPING=1", _patience())

    def look(self, now: float, until: float, status: Callable[[], str], *, stopping: bool) -> None:
        """Say what is due. Called by the event loop, so that a loop which does not turn feeds no watchdog.

        Args:
            now: The time, in monotonic seconds.
            until: When the next look will be.
            status: How we do, for people; asked for when it is due.
            stopping: Whether our end has begun: it may take longer than the manager would wait by itself.
        """
        if not self._address:
            return
        lines = []
        if until > self._fed_at + self._watchdog_s / 2:
            self._fed_at = now
            lines.append("WATCHDOG=1")
        if stopping:
            lines.append(_patience())
        self._tell(*lines)
        if now >= self._status_at + STATUS_S:
            self._status_at = now
            if (text := status()) != self._status:
                self._status = text
                self._tell(f"STATUS={text}")

    def _tell(self, *lines: str) -> None:
        address = self._address
        if not lines or not address.startswith(("/", "@")):
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.setblocking(False)
            listener.sendto("\n".join(lines).encode(), f"\0{address[1:]}" if address[0] == "@" else address)


def _patience() -> str:
    return f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1e6:.0f}"


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float:
    """After how long the manager takes us for stuck; never, if it does not say so of this very process."""
    after_us = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid) or not _is_number(after_us) or int(after_us) == 0:
        return math.inf
    return int(after_us) / 1e6


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20


def is_journal(environ: Mapping[str, str], descriptor: int) -> bool:
    """Whether what is written there goes to systemd's journal (systemd.exec(5), `$JOURNAL_STREAM`)."""
    try:
        there = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"


# Sockets


def sockets(environ: Mapping[str, str], *, pid: int) -> dict[str, list[socket.socket]]:
    """Take over the listening sockets that were handed to this process, by the setting that each stands in for.

    Raises:
        HandoverError: One has no name that we know or does not listen for streams. None is taken then: a socket that
            the manager holds open and nobody serves would keep clients waiting for good.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return {}
    count = environ.get("LISTEN_FDS", "")
    if not _is_number(count) or int(count) > SOCKETS_MAX:
        raise HandoverError(f"LISTEN_FDS is {count[:40]!r}: not a number up to {SOCKETS_MAX}")
    given = environ.get("LISTEN_FDNAMES", "")
    names = given.split(":")[: int(count)] if given else []
    names += ["unknown"] * (int(count) - len(names))  # as sd_listen_fds_with_names(3) calls them
    taken: dict[str, list[socket.socket]] = {}
    try:
        for number, name in enumerate(names):
            taken.setdefault(_setting(name), []).append(_listener(_FIRST_DESCRIPTOR + number, name))
    except HandoverError:
        close(taken)
        raise
    return taken


def close(taken: Mapping[str, Iterable[socket.socket]]) -> None:
    """Let go of what was taken over; whoever handed it over still holds it."""
    for each in taken.values():
        for listener in each:
            listener.close()


def faults(config: Config, taken: Mapping[str, Sequence[socket.socket]]) -> tuple[str, ...]:
    """What is wrong with a configuration, right by itself, where these sockets stand in for its addresses."""
    found = []
    for setting, listeners in taken.items():
        for where in map(address_of, listeners):
            if setting == "listen" and not config.keys and not addresses.is_loopback(where):
                found.append(f"keys: the service manager listens on {where}, where without keys anybody could use it")
            found += [
                f"upstreams.{name}.base_url: leads back to the router's own `{setting}` address {where}"
                for name, upstream in config.upstreams.items()
                if addresses.reaches(addresses.base_url(upstream.base_url), where)
            ]
    return tuple(found)


def described(taken: Mapping[str, Sequence[socket.socket]]) -> str:
    """What was taken over, for the log."""
    return ", ".join(f"{setting} {address_of(each)}" for setting, listeners in taken.items() for each in listeners)


def _setting(name: str) -> str:
    if name not in LISTENERS:
        known = " or ".join(LISTENERS)
        raise HandoverError(f"a socket is named {name[:255]!r}; its unit must say FileDescriptorName={known}")
    return LISTENERS[name]


def _listener(descriptor: int, name: str) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        given = socket.socket(fileno=descriptor)
    except OSError as error:
        raise HandoverError(f"descriptor {descriptor}, named {name}, is no socket: {error.strerror}") from None
    is_stream = given.family in {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX} and given.type == socket.SOCK_STREAM
    if not is_stream or not given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        given.close()
        raise HandoverError(f"descriptor {descriptor}, named {name}, is no socket that listens; see ListenStream=")
    return given


def address_of(listener: socket.socket) -> Listen:
    """Return the address at which a socket listens."""
    name = listener.getsockname()
    if isinstance(name, str | bytes):
        return Listen(addresses.UNIX + os.fsdecode(name).replace("\0", "@"))  # `@`: it has no file
    host, port = name[:2]
    return Listen(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
