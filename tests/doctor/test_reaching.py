"""The way to an upstream, each step against real sockets that fail in their own way."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from router.doctor import reaching
from router.doctor.findings import Notes, Result
from tests.doctor.examining import SOON_S, about, examined, list_of, only_one, results, serving
from tests.harness.upstream import ScriptedUpstream
from tests.harness.waiting import until
from tests.relay.test_tls import show

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import trustme

    from tests.harness.proxy import ConnectProxy

NAME = "upstream.test"


async def test_a_plain_upstream_is_reached(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """An address needs no name server, and http:// no certificate: there is one step, and it goes well."""
    found = await examined(tmp_path, serving(upstream.base_url))
    assert results(found)[0] == ("tcp", "ok")
    assert {"dns", "tls", "proxy"}.isdisjoint(check for check, _ in results(found))


async def test_a_name_is_told_with_its_addresses(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """`localhost` is an address, of which one that answers is enough."""
    found = await examined(tmp_path, serving(f"http://localhost:{upstream.port}/v1"))
    assert "127.0.0.1" in about(found, "dns").found
    assert about(found, "tcp").result is not Result.FAIL
    assert about(found, "answer").result is Result.OK


async def test_a_name_that_nobody_knows_fails(tmp_path: Path) -> None:
    """The first step fails, names the setting, and no other is tried."""
    found = await examined(tmp_path, serving("http://name.invalid/v1"))
    assert results(found) == [("dns", "fail")]
    assert "name.invalid" in about(found, "dns").found
    assert "upstreams.first.base_url" in about(found, "dns").cure


async def test_a_port_that_refuses_fails(tmp_path: Path) -> None:
    """Nobody listens: that is said with address and port, and no request is tried."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        found = await examined(tmp_path, serving(f"http://127.0.0.1:{port}/v1"))
    assert results(found) == [("tcp", "fail")]
    assert about(found, "tcp").found == f"127.0.0.1 port {port}: connection refused"
    assert "running" in about(found, "tcp").cure


async def test_a_dead_address_beside_a_living_one_is_a_warning(upstream: ScriptedUpstream) -> None:
    """Of a name with two addresses of which one refuses, the other serves: only that one is used further."""
    notes = Notes("first")
    alive = await reaching._tcp(notes, ["127.0.0.2", "127.0.0.1"], upstream.port, "upstreams.first.base_url", 10)
    assert alive == ["127.0.0.1"]
    result, found, _ = only_one(notes)
    assert result is Result.WARN
    assert found == f"1 of 2 addresses can be connected to: 127.0.0.2 port {upstream.port}: connection refused"


async def test_who_takes_longer_than_the_router_waits_is_warned_of(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """What this examination has patience for the router may not have."""
    found = await examined(tmp_path, serving(upstream.base_url, timeouts={"connect": 0.000001}))
    assert results(found)[:2] == [("tcp", "ok"), ("connect", "warn")]
    assert "upstreams.first.timeouts.connect" in about(found, "connect").cure


# TLS


def context(authority: trustme.CA, name: str = NAME, not_after: dt.datetime | None = None) -> ssl.SSLContext:
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    begun = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    authority.issue_cert(name, not_before=begun, not_after=not_after).configure_cert(served)
    return served


@asynccontextmanager
async def behind(tls: ssl.SSLContext) -> AsyncIterator[str]:
    """An upstream behind TLS; its base URL."""
    upstream = ScriptedUpstream().always(list_of("m"))
    await upstream.start(tls)
    try:
        yield f"https://127.0.0.1:{upstream.port}/v1"
    finally:
        await upstream.close()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return "ca.pem"


async def test_a_good_certificate_is_told_with_its_days(tmp_path: Path, authority: trustme.CA, ca_file: str) -> None:
    """Version, trust, name and how long it lasts; the request then goes over that very TLS."""
    in_ninety_days = dt.datetime.now(dt.UTC) + dt.timedelta(days=90, hours=1)
    async with behind(context(authority, not_after=in_ninety_days)) as base_url:
        found = await examined(tmp_path, serving(base_url, tls={"ca": ca_file, "server_name": NAME}))
    assert results(found) == [("tcp", "ok"), ("tls", "ok"), ("answer", "ok"), ("models", "ok")]
    assert "TLSv1." in about(found, "tls").found
    assert "90 days left" in about(found, "tls").found


async def test_a_certificate_that_ends_soon_is_a_warning(tmp_path: Path, authority: trustme.CA, ca_file: str) -> None:
    """Less than three weeks: it serves, and somebody should know."""
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=20)
    async with behind(context(authority, not_after=soon)) as base_url:
        found = await examined(tmp_path, serving(base_url, tls={"ca": ca_file, "server_name": NAME}))
    assert about(found, "tls").result is Result.WARN
    assert about(found, "answer").result is Result.OK


async def test_an_expired_certificate_fails(tmp_path: Path, authority: trustme.CA, ca_file: str) -> None:
    """It is said that it expired, and nothing is sent."""
    async with behind(context(authority, not_after=dt.datetime(2021, 1, 1, tzinfo=dt.UTC))) as base_url:
        found = await examined(tmp_path, serving(base_url, tls={"ca": ca_file, "server_name": NAME}))
    assert results(found) == [("tcp", "ok"), ("tls", "fail")]
    assert "expired" in about(found, "tls").found
    assert "renew" in about(found, "tls").cure


async def test_another_name_fails(tmp_path: Path, authority: trustme.CA, ca_file: str) -> None:
    """A certificate for somebody else: the name that was expected is told, and the setting for another."""
    async with behind(context(authority)) as base_url:
        found = await examined(tmp_path, serving(base_url, tls={"ca": ca_file, "server_name": "other.test"}))
        by_address = await examined(tmp_path, serving(base_url, tls={"ca": ca_file}))
    assert about(found, "tls").found == "its certificate is not for other.test"
    assert about(by_address, "tls").found == "its certificate is not for 127.0.0.1"
    assert "upstreams.first.tls.server_name" in about(found, "tls").cure


async def test_an_unknown_authority_fails(tmp_path: Path, authority: trustme.CA) -> None:
    """Nobody whom we trust has signed it: the setting for another authority is told."""
    async with behind(context(authority)) as base_url:
        found = await examined(tmp_path, serving(base_url, tls={"server_name": NAME}))
    assert results(found) == [("tcp", "ok"), ("tls", "fail")]
    assert "signed" in about(found, "tls").found
    assert "upstreams.first.tls.ca" in about(found, "tls").cure


async def test_a_plain_server_behind_https_fails(tmp_path: Path) -> None:
    """What answers without TLS is told for what it is, with the scheme that would do."""

    async def answer_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer_plainly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await examined(tmp_path, serving(f"https://127.0.0.1:{port}/v1"))
    assert about(found, "tls").found == "what answers there does not speak TLS"
    assert "http://" in about(found, "tls").cure


async def test_silence_in_the_handshake_ends(tmp_path: Path) -> None:
    """A server that takes the connection and says nothing is left after the time limit."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        found = await examined(tmp_path, serving(f"https://127.0.0.1:{port}/v1"), timeout_s=SOON_S)
    assert results(found) == [("tcp", "ok"), ("tls", "fail")]
    assert f"within {SOON_S:g} s" in about(found, "tls").found


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_a_certificate_of_ours_is_asked_for(
    tmp_path: Path, authority: trustme.CA, ca_file: str, version: ssl.TLSVersion
) -> None:
    """Without one the server goes, in the handshake or right behind it, and the setting is told; with one it stays."""
    served = context(authority)
    served.verify_mode = ssl.CERT_REQUIRED
    served.maximum_version = version
    authority.configure_trust(served)
    show(authority.issue_cert("router.test"), tmp_path)
    tls = {"ca": ca_file, "server_name": NAME}
    async with behind(served) as base_url:
        without = await examined(tmp_path, serving(base_url, tls=tls))
        shown = await examined(tmp_path, serving(base_url, tls=tls | {"cert": "client.pem", "key": "client.key"}))
    check, result = results(without)[-1]
    assert (check, result) == ("tls" if version == ssl.TLSVersion.TLSv1_2 else "answer", "fail")
    assert "upstreams.first.tls.cert" in about(without, check).cure
    assert results(shown) == [("tcp", "ok"), ("tls", "ok"), ("answer", "ok"), ("models", "ok")]
    assert "certificate was shown" in about(shown, "tls").found


# The proxy


async def test_a_tunnel_is_opened(tmp_path: Path, upstream: ScriptedUpstream, proxy: ConnectProxy) -> None:
    """Behind a proxy it is the proxy that is resolved and connected to, and asked for the upstream."""
    found = await examined(tmp_path, serving(upstream.base_url, proxy={"url": proxy.url}))
    assert results(found) == [("tcp", "ok"), ("proxy", "ok"), ("answer", "ok"), ("models", "ok")]
    assert f"port {proxy.port}" in about(found, "tcp").found
    assert f"127.0.0.1:{upstream.port}" in about(found, "proxy").found


@pytest.mark.parametrize(
    ("instead", "said", "cure"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407", "password"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "403", "log of the proxy"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "did not answer in HTTP", "log of the proxy"),
        (b"", "closed", "log of the proxy"),
    ],
    ids=["wants a password", "refuses", "is none", "closes"],
)
async def test_a_proxy_that_refuses_is_told(  # noqa: PLR0917 (a row of the table)
    tmp_path: Path, upstream: ScriptedUpstream, proxy: ConnectProxy, instead: bytes, said: str, cure: str
) -> None:
    """What the proxy said is told, and the upstream is not blamed."""
    proxy.instead = instead
    found = await examined(tmp_path, serving(upstream.base_url, proxy={"url": proxy.url}))
    assert results(found) == [("tcp", "ok"), ("proxy", "fail")]
    assert said in about(found, "proxy").found
    assert cure in about(found, "proxy").cure
    assert upstream.connections == []


async def test_a_silent_proxy_is_left(tmp_path: Path, upstream: ScriptedUpstream, proxy: ConnectProxy) -> None:
    """No tunnel within the time limit."""
    proxy.instead, proxy.stays = b"", True
    found = await examined(tmp_path, serving(upstream.base_url, proxy={"url": proxy.url}), timeout_s=SOON_S)
    assert about(found, "proxy").found.endswith(f"within {SOON_S:g} s")


async def test_no_connection_stays_open(tmp_path: Path, upstream: ScriptedUpstream, proxy: ConnectProxy) -> None:
    """What was opened to look is closed when the looking is over, tunnels too."""
    await examined(tmp_path, serving(upstream.base_url))
    await examined(tmp_path, serving(upstream.base_url, proxy={"url": proxy.url}))
    await until(lambda: not proxy.open_connections, "tunnels are closed")
    for connection in upstream.connections:
        async with asyncio.timeout(10):
            await connection.gone.wait()
