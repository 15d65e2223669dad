"""How requests reach each upstream: request heads for each credential, connection pools, and what it cannot take."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from aiolimiter import AsyncLimiter

from router.config.schema import Auth, Config, Protocol, Secret, StreamUsage, Upstream
from router.config.sources import Fingerprint, fingerprint
from router.protocol import http
from router.protocol.http import RequestPolicy
from router.protocol.path_template import PathTemplate
from router.relay.pool import ConnectionPool
from router.relay.tunnel import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from router.relay.outbox import Outbox

DEFAULT_HEADERS = {Protocol.OPENAI: {}, Protocol.ANTHROPIC: {"anthropic-version": "2023-06-01"}}
"""What an upstream must be told and a client may have left out (PROTOCOL 2.6)."""


class Wire:
    """One configured upstream as the relay sees it. Lives on across reloads that leave its settings alone."""

    def __init__(
        self,
        name: str,
        settings: Upstream,
        credentials: tuple[str, ...],
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
        *,
        proxy: Proxy | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.credentials = credentials
        """The secrets themselves, in the order of the configuration; empty: the upstream needs none."""
        self.proxy = proxy
        self.files = _files(settings)
        """What its certificates and keys held."""
        self.protocol = settings.protocol
        self.drop_params = frozenset(settings.drop_params)
        """Members of JSON requests that must not be sent there."""
        self.max_tokens_field = settings.max_tokens_field
        """The one member that bounds an answer there; None: whichever the client wrote."""
        url = urlsplit(settings.base_url)
        self.base_path = url.path.rstrip("/").encode("ascii")
        self.query = tuple(settings.query.items())
        self._template = None if settings.path is None else PathTemplate(settings.path, settings.path_for)
        self.policies = tuple(_policy(settings, url, credential) for credential in credentials or (None,))
        """By credential."""
        tls = _tls(settings) if url.scheme == "https" else None
        self.pools = tuple(_pool(settings, url, tls, proxy, loop, outbox) for _ in self.policies)
        """By credential: some gateways bind a connection to the account that used it first."""
        self.asks_usage = settings.stream_usage is not StreamUsage.NEVER and settings.protocol is Protocol.OPENAI
        """Whether usage is asked for on streams. With `auto` it turns false when the upstream refuses the question;
        Anthropic's API tells it unasked."""
        self.pacer = AsyncLimiter(settings.pace.requests, settings.pace.per) if settings.pace is not None else None

    def __repr__(self) -> str:
        return f"<Wire {self.name}: {', '.join(map(repr, self.pools))}>"

    def is_made_of(self, settings: Upstream, credentials: tuple[str, ...], proxy: Proxy | None) -> bool:
        """Whether a wire made of these would be the same as this one."""
        same = (self.settings, self.credentials, self.proxy) == (settings, credentials, proxy)
        return same and self.files == _files(settings)

    @property
    def names_model(self) -> bool:
        """The model's name stands in the path."""
        return self._template is not None

    def target(self, rest: bytes, model: str, query: bytes) -> bytes:
        """Return the target of a request.

        Args:
            rest: What follows `/v1` in the client's path, as it came: `/chat/completions`.
            model: The model's name there, for upstreams that want it in the path; empty if the request is about none.
            query: The client's, without the `?`.
        """
        if self._template is not None:
            rest = self._template.fill(rest, model)
        return http.target(self.base_path, rest, query, self.query)

    async def turn_comes(self) -> bool:
        """Wait for our turn at an upstream with a published rate. Returns whether it comes in time."""
        pace = self.settings.pace
        if self.pacer is None or pace is None:
            return True
        try:
            async with asyncio.timeout(pace.wait):
                await self.pacer.acquire()
        except TimeoutError:
            return False
        return True

    def stop_asking_usage(self) -> bool:
        """The upstream refused `stream_options`; returns whether the request may be repeated without it."""
        if self.settings.stream_usage is not StreamUsage.AUTO or self.protocol is not Protocol.OPENAI:
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
    """A wire for every upstream; those of which nothing changed, files included, are kept with their connections."""
    wires: dict[str, Wire] = {}
    for name, settings in config.upstreams.items():
        references = settings.api_keys or ((settings.api_key,) if settings.api_key is not None else ())
        credentials = tuple(secrets[reference] for reference in references)
        proxy = _proxy(settings, secrets)
        old = previous.get(name)
        if old is not None and old.is_made_of(settings, credentials, proxy):
            wires[name] = old
        else:
            wire = wires[name] = Wire(name, settings, credentials, loop, outbox, proxy=proxy)
            if old is not None and old.settings.pace == settings.pace:
                wire.pacer = old.pacer  # its rate is the upstream's, whatever else changed
    return wires


def retire_unused(old: Iterable[Wire], new: Mapping[str, Wire]) -> None:
    """After a swap: the wires that the new snapshot does not use take nothing new."""
    for wire in old:
        if new.get(wire.name) is not wire:
            wire.retire()


def _policy(settings: Upstream, url: SplitResult, credential: str | None) -> RequestPolicy:
    """What writes the request heads for one credential."""
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    return RequestPolicy(
        host=(f"{host}" if url.port is None else f"{host}:{url.port}").encode("ascii"),
        credential_headers=_credential_headers(settings.sends_credential_as, credential),
        set=settings.headers.set,
        deny=settings.headers.deny,
        forward=settings.headers.forward,
        allow=settings.headers.allow,
        default=DEFAULT_HEADERS[settings.protocol],
    )


def _pool(  # noqa: PLR0917 (what a pool is made of)
    settings: Upstream,
    url: SplitResult,
    tls: ssl.SSLContext | None,
    proxy: Proxy | None,
    loop: asyncio.AbstractEventLoop,
    outbox: Outbox,
) -> ConnectionPool:
    """The connections for one credential."""
    assert url.hostname is not None
    return ConnectionPool(
        loop=loop,
        outbox=outbox,
        host=url.hostname,
        port=url.port or (443 if tls is not None else 80),
        tls=tls,
        server_name=settings.tls.server_name or url.hostname,
        keepalive_s=settings.keepalive,
        idle_max=settings.idle_connections,
        proxy=proxy,
    )


def _credential_headers(auth: Auth, credential: str | None) -> list[tuple[bytes, bytes]]:
    if credential is None or auth is Auth.NONE:
        return []
    value = credential.encode("latin-1")
    if auth is Auth.BEARER:
        return [(b"Authorization", b"Bearer " + value)]
    return [(auth.value.encode("ascii"), value)]


def _proxy(settings: Upstream, secrets: Mapping[Secret, str]) -> Proxy | None:
    proxy = settings.proxy
    if proxy is None:
        return None
    url = urlsplit(proxy.url)
    assert url.hostname is not None
    assert url.port is not None
    authorization = b""
    if proxy.authorization is not None:
        authorization = secrets[proxy.authorization].encode("latin-1")
    elif proxy.username is not None:
        password = "" if proxy.password is None else secrets[proxy.password]
        authorization = b"Basic " + b64encode(f"{proxy.username}:{password}".encode())  # UTF-8: RFC 7617 section 2.1
    return Proxy(host=url.hostname, port=url.port, authorization=authorization)


def _tls(settings: Upstream) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.tls.ca)
    context.set_alpn_protocols(["http/1.1"])
    if settings.tls.cert is not None:
        context.load_cert_chain(settings.tls.cert, settings.tls.key, password="")  # never ask on the terminal
    return context


def _files(settings: Upstream) -> Fingerprint:
    """What the files of certificates and keys hold now: a renewed one has the same name."""
    tls = settings.tls
    return fingerprint(Path(file) for file in (tls.ca, tls.cert, tls.key) if file is not None)
