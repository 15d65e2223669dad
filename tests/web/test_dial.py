"""Our own handshake with an upstream's WebSocket (PROTOCOL 2.7, 3.2)."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from router.web.dial import Call, Line
from tests.harness.proxy import ConnectProxy
from tests.harness.router import CLIENT_SECRET, UPSTREAM_SECRET
from tests.harness.socket_upstream import SocketUpstream, sends, talk
from tests.harness.waiting import PATIENCE_S
from tests.web.conftest import KEYS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.harness.socket_client import SocketClient
    from tests.web.conftest import StartRouter


async def test_the_upstream_sees_our_handshake(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """Our credential, its own host, the member's model name; no key, cookie or origin of the client's."""
    running = await router(
        first, keys=KEYS, upstream={"query": {"api-version": "1"}, "headers": {"set": {"X-Ours": "yes"}}}
    )
    running.daemon.catalogue.routes["m"].pool.targets[0].model = "org/gpt realtime"
    headers = {
        "OpenAI-Beta": "realtime=v1",
        "X-Unknown": "ünïcode",
        "Cookie": "c=1",
        "Origin": "https://app",
        "OpenAI-Organization": "org-1234567890",
        "X-Forwarded-For": "10.1.2.3",
        "X-Ours": "no",
    }
    socket = await client.open(
        running, "/v1/realtime?x=%2f&model=m&key=s&y", key=CLIENT_SECRET, headers=headers, compress=15
    )
    await socket.close()
    call = await first.called()
    assert call.target == "/v1/realtime?x=%2f&model=org%2Fgpt%20realtime&y&api-version=1"
    assert call.values("Authorization") == [f"Bearer {UPSTREAM_SECRET}"]
    assert call.values("Host") == [f"127.0.0.1:{first.port}"]
    assert call.values("OpenAI-Beta") == ["realtime=v1"]
    assert call.values("X-Unknown") == ["ünïcode"]
    assert call.values("X-Ours") == ["yes"]
    assert call.values("Sec-WebSocket-Extensions") == []
    for name in ("Cookie", "Origin", "OpenAI-Organization", "X-Forwarded-For", "Sec-WebSocket-Protocol"):
        assert call.values(name) == []


async def test_bytes_that_are_no_text_do_not_pass(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """A header that could not go on as it came is left out, and nothing fails."""
    running = await router(first)
    status, _, _ = await client.refused(running, "/v1/realtime?model=none")
    assert status == 404
    reader, writer = await asyncio.open_connection(*running.daemon.data_address)
    head = (
        b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Odd: \xff\r\nX-Even: 1\r\n\r\n"
    )
    writer.write(head)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    call = await first.called()
    assert (call.values("X-Odd"), call.values("X-Even")) == ([], ["1"])
    writer.close()
    await writer.wait_closed()


async def test_hanging_up_leaves_nothing_to_the_collector(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """A line that is dropped in the middle of a conversation closes all that aiohttp holds for it."""
    running = await router(first)
    target = running.daemon.catalogue.routes["m"].pool.targets[0]
    line = Line()
    call = Call(target=b"/v1/realtime", headers=[], protocols=(), timeouts=target.timeouts, heartbeat_s=60)
    await line.open(running.daemon._relay.snapshot.wires["first"], 0, running.daemon._sockets.connect, call)
    await line.hang_up()
    assert await (await first.called()).left() == (0, "")
    assert line.socket._response.connection is None
    await client.session.close()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def secure(authority: trustme.CA) -> AsyncIterator[SocketUpstream]:
    """An upstream whose certificate is for the name `upstream.test`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("upstream.test").configure_cert(context)
    upstream = SocketUpstream()
    await upstream.start(context)
    yield upstream
    await upstream.close()


async def test_a_proven_upstream_is_used(
    router: StartRouter, client: SocketClient, secure: SocketUpstream, authority: trustme.CA, tmp_path: Path
) -> None:
    """A WebSocket over TLS goes to an upstream that proves who it is, by the authority and name configured."""
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    secure.always(talk(sends("hello")))
    tls = {"ca": str(ca_file), "server_name": "upstream.test"}
    running = await router(f"https://127.0.0.1:{secure.port}/v1", upstream={"tls": tls})
    socket = await client.open(running)
    assert (await socket.receive(PATIENCE_S)).data == "hello"
    await socket.close(code=4001)
    assert await (await secure.called()).left() == (4001, "")


async def test_an_unproven_upstream_gets_nothing(
    router: StartRouter, client: SocketClient, secure: SocketUpstream
) -> None:
    """One that cannot prove who it is sees neither handshake nor credential."""
    running = await router(f"https://127.0.0.1:{secure.port}/v1")
    status, error, _ = await client.refused(running)
    assert (status, error["reason"]) == (502, "upstream_connection")
    assert set(running.causes()) == {("first", "tls")}
    assert secure.calls == []


async def test_an_upstream_is_reached_through_its_proxy(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """Where a proxy is configured, the socket goes through a tunnel of it like any request."""
    proxy = ConnectProxy()
    await proxy.start()
    try:
        running = await router(first, upstream={"proxy": {"url": proxy.url}})
        socket = await client.open(running)
        await socket.send_str("hello")
        assert (await socket.receive(PATIENCE_S)).data == "hello"
        await socket.close()
        await running.rest()
        assert len(proxy.heads) == 1
    finally:
        await proxy.close()
