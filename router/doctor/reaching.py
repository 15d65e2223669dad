"""The way to an upstream, step by step: its name, its address, the proxy, TLS. Each step needs the one before."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, Final

from router.config import addresses
from router.policy.outcomes import Cause
from router.relay.pool import ConnectError
from router.relay.tunnel import Refused, Tunnel

if TYPE_CHECKING:
    from router.doctor.findings import Notes
    from router.relay.wire import Wire

ADDRESSES_MAX: Final = 8
"""Of a name's addresses so many are tried."""

DAYS_FEW: Final = 21
"""A certificate that is not renewed three weeks before its end will not renew itself."""

EXPIRED, NOT_YET, NAME_MISMATCH, ADDRESS_MISMATCH = 10, 9, 62, 64
"""Of `X509_V_ERR_…` (OpenSSL's x509_vfy.h). All others: nobody whom we trust has signed it."""


async def examine(notes: Notes, wire: Wire, timeout_s: float, connect_s: float) -> bool:
    """Take every step, each within the time limit. Returns whether the upstream can be connected to.

    Whoever takes longer than `connect_s` altogether, which is all that the router gives, is warned of.
    """
    began = time.monotonic()
    setting = f"upstreams.{wire.name}"
    url = addresses.base_url(wire.settings.base_url)
    proxy = wire.proxy
    host, port = (url.host, url.port) if proxy is None else (proxy.host, proxy.port)
    where = f"{setting}.base_url" if proxy is None else f"{setting}.proxy.url"
    found = await _dns(notes, host, port, where, timeout_s)
    alive = await _tcp(notes, found, port, where, timeout_s) if found else []
    if not alive:
        return False
    if proxy is not None and not await _tunnel(notes, wire, alive[0], timeout_s):
        return False
    if url.scheme == "https":
        began = time.monotonic()  # what follows is all of it once more
        if not await _tls(notes, wire, setting, timeout_s):
            return False
    took_s = time.monotonic() - began
    if took_s > connect_s:
        told = f"took {took_s:.2g} s, but the router waits {connect_s:g} s"
        notes.warn("connect", told, f"give it longer: {setting}.timeouts.connect")
    return True


# The name and its addresses


async def _dns(notes: Notes, host: str, port: int, where: str, timeout_s: float) -> list[str]:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return [host]
    began = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        notes.fail("dns", f"no answer about {host} within {timeout_s:g} s", "see the name servers in /etc/resolv.conf")
        return []
    except OSError as error:
        cure = f"is the name in {where} right, and does this machine's DNS know it?"
        notes.fail("dns", f"{host}: {error.strerror or error}", cure)
        return []
    found = list(dict.fromkeys(str(at[0]) for *_, at in answers))
    more = f" and {len(found) - ADDRESSES_MAX} more" if len(found) > ADDRESSES_MAX else ""
    notes.ok("dns", f"{host} is {', '.join(found[:ADDRESSES_MAX])}{more} ({_ms(began)})")
    return found


async def _tcp(notes: Notes, found: list[str], port: int, where: str, timeout_s: float) -> list[str]:
    """Connect to every address: the router tries them in turn, and each dead one costs it time. Returns the others."""
    tried = found[:ADDRESSES_MAX]
    began = time.monotonic()
    problems = await asyncio.gather(*(_connect(each, port, timeout_s) for each in tried))
    dead = [(each, problem) for each, problem in zip(tried, problems, strict=True) if problem is not None]
    alive = [each for each, problem in zip(tried, problems, strict=True) if problem is None]
    if not dead:
        notes.ok("tcp", f"connected to port {port} in {_ms(began)}")
        return alive
    told = "; ".join(f"{each} port {port}: {_reason(problem, timeout_s)}" for each, problem in dead)
    if alive:
        cure = "the router goes on to the others, after up to half a second; mend the route or the name's addresses"
        notes.warn("tcp", f"{len(alive)} of {len(tried)} addresses can be connected to: {told}", cure)
        return alive
    refused = all(problem.errno == errno.ECONNREFUSED for _, problem in dead)
    cure = f"is the server running, and is the port in {where} its port?" if refused else (
        f"is the address in {where} right, and does a firewall let this machine reach it?"
    )  # fmt: skip
    notes.fail("tcp", told, cure)
    return []


async def _connect(address: str, port: int, timeout_s: float) -> OSError | None:
    """Open a connection and close it; what went wrong."""
    try:
        async with asyncio.timeout(timeout_s):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, address, port)
    except OSError as error:  # TimeoutError is one
        return error
    transport.abort()
    return None


# The proxy


async def _tunnel(notes: Notes, wire: Wire, address: str, timeout_s: float) -> bool:
    """Have the proxy open a tunnel, and say nothing in it."""
    proxy, url, setting = wire.proxy, addresses.base_url(wire.settings.base_url), f"upstreams.{wire.name}"
    assert proxy is not None
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    name = f"{proxy.host}:{proxy.port}"
    guest = _Guest()
    try:
        async with asyncio.timeout(timeout_s):
            _, tunnel = await loop.create_connection(lambda: Tunnel(loop), address, proxy.port)
            await tunnel.lead_to(
                guest, url.host, url.port, authorization=proxy.authorization, tls=None, server_name=None
            )
    except TimeoutError:
        cure = f"is {setting}.proxy.url an HTTP proxy, and does it reach {url.host}?"
        notes.fail("proxy", f"{name} opened no tunnel to {url.host}:{url.port} within {timeout_s:g} s", cure)
        return False
    except (Refused, OSError) as error:
        said = str(error) or type(error).__name__
        cure = f"see the log of the proxy; does it let us reach {url.host}:{url.port}?"
        if "407" in said:
            cure = f"give a valid username and password under {setting}.proxy, or authorization"
        notes.fail("proxy", f"{name} opens no tunnel to {url.host}:{url.port}: {said}", cure)
        return False
    finally:
        guest.leave()
    notes.ok("proxy", f"{name} opened a tunnel to {url.host}:{url.port} in {_ms(began)}")
    return True


class _Guest(asyncio.Protocol):
    """Whom a tunnel is opened for, to see that it can be."""

    def __init__(self) -> None:
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in."""
        self._transport = transport

    def leave(self) -> None:
        """Close the tunnel, if there is one."""
        if self._transport is not None:
            self._transport.close()


# TLS


async def _tls(notes: Notes, wire: Wire, setting: str, timeout_s: float) -> bool:
    """Connect as the router does, and look at what the upstream has shown."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            connection = await wire.pools[0].connect()
    except TimeoutError:
        cure = f"does the server speak TLS at this port? if not, {setting}.base_url begins with http://"
        notes.fail("tls", f"no handshake within {timeout_s:g} s", cure)
        return False
    except ConnectError as error:
        notes.fail("tls", *_refusal(error, wire, setting))
        return False
    shown = connection.transport.get_extra_info("ssl_object")
    certificate = shown.getpeercert()
    version = shown.version()
    connection.close()
    own = "; the router's certificate was shown" if wire.settings.tls.cert is not None else ""
    days = int((ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) // 86_400)
    found = f"{version}, trusted, the name fits, {days} days left ({_ms(began)}){own}"
    if days < DAYS_FEW:
        notes.warn("tls", found, "its certificate should have been renewed by now: tell whoever runs it")
    else:
        notes.ok("tls", found)
    return True


def _refusal(error: ConnectError, wire: Wire, setting: str) -> tuple[str, str]:
    """Say why no secured connection came about, and what helps."""
    cause = error.__cause__
    tls = wire.settings.tls
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _mistrust(cause, wire, setting)
    reason = getattr(cause, "reason", None) or ""
    if reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}:
        return "what answers there does not speak TLS", f"if it should not, let {setting}.base_url begin with http://"
    if error.cause is Cause.CONNECT:
        said = f"the connection was lost in the handshake{': ' * bool(error.detail)}{error.detail}"
        if tls.cert is None:
            return said, f"does it want a certificate of ours? it belongs under {setting}.tls.cert and key"
        return said, f"does it accept the certificate under {setting}.tls.cert? see the server's log"
    return error.detail, "see the server's log: it may want another version of TLS"


def _mistrust(cause: ssl.SSLCertVerificationError, wire: Wire, setting: str) -> tuple[str, str]:
    code, said = cause.verify_code, cause.verify_message
    name = wire.settings.tls.server_name or addresses.base_url(wire.settings.base_url).host
    if code == EXPIRED:
        return said, "whoever runs it must renew its certificate; is the clock of this machine right?"
    if code == NOT_YET:
        return said, "is the clock of this machine right?"
    if code in {NAME_MISMATCH, ADDRESS_MISMATCH}:
        return f"its certificate is not for {name}", f"if it is another name's, say so under {setting}.tls.server_name"
    trusted = "the system" if wire.settings.tls.ca is None else "the authorities under tls.ca"
    cure = f"give the PEM file of its authority under {setting}.tls.ca; does the server send its whole chain?"
    return f"nobody whom {trusted} trusts has signed its certificate: {said}", cure


def _reason(problem: OSError, timeout_s: float) -> str:
    if isinstance(problem, TimeoutError) and problem.errno is None:
        return f"no answer within {timeout_s:g} s"
    return os.strerror(problem.errno).lower() if problem.errno else str(problem)


def _ms(began: float) -> str:
    return f"{(time.monotonic() - began) * 1000:.0f} ms"
