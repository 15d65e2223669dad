"""How requests reach each upstream: request heads for each credential, connection pools, and what it cannot take."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiolimiter import AsyncLimiter

from router.config.schema import Auth, Config, Secret, StreamUsage, Upstream
from router.protocol.http import RequestPolicy
from router.relay.pool import ConnectionPool

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Mapping

    from router.relay.outbox import Outbox


class Wire:
    """One configured upstream as the relay sees it. Lives on across reloads that leave its settings alone."""

    def __init__(
        self,
        name: str,
        settings: Upstream,
        credentials: tuple[str, ...],
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
    ) -> None:
        self.name = name
        self.settings = settings
        self.credentials = credentials
        """The secrets themselves, in the order of the configuration; empty: the upstream needs none."""
        url = urlsplit(settings.base_url)
        assert url.hostname is not None
        tls = _tls(settings) if url.scheme == "https" else None
        port = url.port or (443 if tls is not None else 80)
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        host_line = host if url.port is None else f"{host}:{url.port}"
        self.base_path = url.path.rstrip("/").encode("ascii")
        self.query = tuple(settings.query.items())
        self.policies = tuple(
            RequestPolicy(
                host=host_line.encode("ascii"),
                credential_headers=_credential_headers(settings.auth, credential),
                set=settings.headers.set,
                deny=settings.headers.deny,
                forward=settings.headers.forward,
            )
            for credential in credentials or (None,)
        )
        """By credential."""
        self.pools = tuple(
            ConnectionPool(
                loop=loop,
                outbox=outbox,
                host=url.hostname,
                port=port,
                tls=tls,
                server_name=settings.tls.server_name or url.hostname,
                keepalive_s=settings.keepalive,
                idle_max=settings.idle_connections,
            )
            for _ in self.policies
        )
        """By credential: some gateways bind a connection to the account that used it first."""
        self.asks_usage = settings.stream_usage is not StreamUsage.NEVER
        """Whether usage is asked for on streams. With `auto` it turns false when the upstream refuses the question."""
        self.pacer = AsyncLimiter(settings.pace.requests, settings.pace.per) if settings.pace is not None else None

    def __repr__(self) -> str:
        return f"<Wire {self.name}: {', '.join(map(repr, self.pools))}>"

    def stop_asking_usage(self) -> bool:
        """The upstream refused `stream_options`; returns whether the request may be repeated without it."""
        if self.settings.stream_usage is not StreamUsage.AUTO:
            return False
        self.asks_usage = False
        return True

    def sweep(self, now: float) -> None:
        """Close connections that have been idle too long."""
        for pool in self.pools:
            pool.sweep(now)

    def retire(self) -> None:
        """No new exchange will use this wire."""
        for pool in self.pools:
            pool.retire()

    def close(self) -> None:
        """Close every connection, whatever it does: the daemon ends."""
        self.retire()
        for pool in self.pools:
            for connection in tuple(pool.open):
                connection.close()


def build_wires(
    config: Config,
    secrets: Mapping[Secret, str],
    previous: Mapping[str, Wire],
    loop: asyncio.AbstractEventLoop,
    outbox: Outbox,
) -> dict[str, Wire]:
    """A wire for every upstream; those whose settings and secrets did not change are kept with their connections."""
    wires: dict[str, Wire] = {}
    for name, settings in config.upstreams.items():
        references = settings.api_keys or ((settings.api_key,) if settings.api_key is not None else ())
        credentials = tuple(secrets[reference] for reference in references)
        old = previous.get(name)
        if old is not None and old.settings == settings and old.credentials == credentials:
            wires[name] = old
        else:
            wire = wires[name] = Wire(name, settings, credentials, loop, outbox)
            if old is not None and old.settings.pace == settings.pace:
                wire.pacer = old.pacer  # its rate is the upstream's, whatever else changed
    return wires


def retire_unused(old: Iterable[Wire], new: Mapping[str, Wire]) -> None:
    """After a swap: the wires that the new snapshot does not use take nothing new."""
    for wire in old:
        if new.get(wire.name) is not wire:
            wire.retire()


def _credential_headers(auth: Auth | None, credential: str | None) -> list[tuple[bytes, bytes]]:
    if credential is None or auth is Auth.NONE:
        return []
    value = credential.encode("latin-1")
    if auth is None or auth is Auth.BEARER:
        return [(b"Authorization", b"Bearer " + value)]
    return [(auth.value.encode("ascii"), value)]


def _tls(settings: Upstream) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.tls.ca)
    context.set_alpn_protocols(["http/1.1"])
    return context
