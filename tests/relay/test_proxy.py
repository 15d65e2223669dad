"""Upstreams behind an HTTP proxy: reached through CONNECT tunnels, and failed over when the proxy will not."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from tests.harness import chat
from tests.harness.client import post
from tests.harness.proxy import OPENED, ConnectProxy
from tests.harness.router import CLIENT_SECRET, ENVIRON, OTHER_SECRET, UPSTREAM_SECRET, config
from tests.harness.upstream import ScriptedUpstream, sse_stream
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.relay.conftest import StartRouter

NAME = "upstream.test"
"""Known to the proxy and to nobody else."""

BASIC = b"Basic " + b64encode(f"me:{OTHER_SECRET}".encode())


@pytest.fixture
async def proxy() -> AsyncIterator[ConnectProxy]:
    """Named before `router` in every test, so that it ends after it and sees that nothing is left open."""
    proxy = ConnectProxy(authorization=BASIC, hosts={NAME: "127.0.0.1"})
    await proxy.start()
    yield proxy
    try:
        await until(lambda: not proxy.open_connections, "connections to the proxy closed")
    finally:
        await proxy.close()


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return authority


@pytest.fixture
async def secure(authority: trustme.CA) -> AsyncIterator[ScriptedUpstream]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(NAME).configure_cert(context)
    upstream = ScriptedUpstream()
    await upstream.start(context)
    yield upstream
    await upstream.close()


def through(proxy: ConnectProxy, **more: Any) -> dict[str, Any]:
    """The settings of upstreams that are reached through a proxy."""
    return {"proxy": {"url": proxy.url, "username": "me", "password": {"env": "OTHER_SECRET"}}} | more


async def test_a_secure_upstream_is_reached_through_a_tunnel(
    proxy: ConnectProxy, router: StartRouter, secure: ScriptedUpstream
) -> None:
    """The proxy is given the name and nothing of what is said inside; the connection behind it is kept."""
    running = await router(f"https://{NAME}:{secure.port}/v1", upstream=through(proxy, tls={"ca": "ca.pem"}))
    answers = [await running.post() for _ in range(2)]
    assert [answer.body for answer in answers] == [chat.completion()] * 2
    assert proxy.heads == [
        b"CONNECT %b:%d HTTP/1.1\r\nHost: %b:%d\r\nProxy-Authorization: %b\r\n\r\n"
        % (NAME.encode(), secure.port, NAME.encode(), secure.port, BASIC)
    ]
    assert [received.place for received in secure.received] == [0, 1]
    for received in secure.received:
        assert received.values("proxy-authorization") == []
        assert received.values("authorization") == [f"Bearer {UPSTREAM_SECRET}".encode()]


async def test_a_plain_upstream_is_reached_through_a_tunnel(
    proxy: ConnectProxy, router: StartRouter, first: ScriptedUpstream
) -> None:
    """Without TLS it is a tunnel too: the upstream sees the same request as without a proxy."""
    first.always(sse_stream(*chat.answer("Hi")))
    running = await router(f"http://{NAME}:{first.port}/v1", upstream=through(proxy))
    answers = [await running.stream() for _ in range(2)]
    assert [answer.body for answer in answers] == [b"".join((*chat.answer("Hi"), chat.DONE))] * 2
    assert [received.line for received in first.received] == [b"POST /v1/chat/completions HTTP/1.1"] * 2
    assert [received.place for received in first.received] == [0, 1]
    assert len(proxy.heads) == 1


async def test_an_answer_larger_than_every_buffer_passes_whole(
    proxy: ConnectProxy, router: StartRouter, secure: ScriptedUpstream
) -> None:
    """Back-pressure holds through a tunnel: megabytes in both directions arrive byte for byte."""
    body = chat.completion(content="x" * 4_000_000)
    secure.always(lambda turn: turn.send(_whole(body)))
    running = await router(f"https://{NAME}:{secure.port}/v1", upstream=through(proxy, tls={"ca": "ca.pem"}))
    asked = chat.request(messages=[{"role": "user", "content": "y" * 4_000_000}])
    assert (await running.post(asked)).body == body
    assert secure.received[0].body == asked


def _whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def test_another_scheme_of_authorization_is_sent_as_it_is(router: StartRouter, first: ScriptedUpstream) -> None:
    """`authorization` is the whole value of the header."""
    proxy = ConnectProxy(authorization=CLIENT_SECRET.encode())
    await proxy.start()
    running = await router(first, upstream={"proxy": {"url": proxy.url, "authorization": {"env": "CLIENT_SECRET"}}})
    assert (await running.post()).status == 200
    await proxy.close()


async def test_without_credentials_none_are_sent(router: StartRouter, first: ScriptedUpstream) -> None:
    """A proxy that asks for none gets none."""
    proxy = ConnectProxy()
    await proxy.start()
    running = await router(first, upstream={"proxy": {"url": proxy.url}})
    assert (await running.post()).status == 200
    assert b"uthorization" not in proxy.heads[0]
    await proxy.close()


async def test_an_informational_answer_comes_before_the_tunnel(
    proxy: ConnectProxy, router: StartRouter, first: ScriptedUpstream
) -> None:
    """What a proxy says before its answer is no answer (RFC 9110 section 15.2)."""
    proxy.opened = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 102 Processing\r\nx: y\r\n\r\n" + OPENED
    running = await router(first, upstream=through(proxy))
    assert (await running.post()).status == 200


REFUSALS = {
    "407": b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 3\r\n\r\nno!",
    "403": b"HTTP/1.1 403 Forbidden\r\n\r\n",
    "502": b"HTTP/1.0 502 Bad Gateway\r\nContent-Type: text/html\r\n\r\n<html>",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n",
    "switch": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "bytes behind the head": OPENED + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 abc\r\n\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\n",
    "a head without an end": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
}


@pytest.mark.parametrize("said", REFUSALS.values(), ids=REFUSALS)
async def test_a_proxy_that_opens_no_tunnel_costs_one_attempt(
    proxy: ConnectProxy, router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, said: bytes
) -> None:
    """Whatever it says instead, nothing is sent through it, and the next member answers."""
    proxy.instead = said
    upstreams = config(first, second)["upstreams"]
    upstreams["first"] |= through(proxy)
    running = await router(first, second, upstreams=upstreams)
    answer = await running.post()
    assert (answer.status, answer.body) == (200, chat.completion())
    assert running.causes() == [("first", "connect"), ("second", "ok")]
    assert (len(proxy.heads), first.received) == (1, [])


async def test_a_head_without_an_end_is_not_listened_to(
    proxy: ConnectProxy, router: StartRouter, first: ScriptedUpstream
) -> None:
    """What a proxy says before the tunnel is bounded: it is left at once, and not when the time is over."""
    proxy.instead, proxy.stays = REFUSALS["a head without an end"], True
    running = await router(first, upstream=through(proxy))
    assert (await running.post()).status == 502
    assert {cause for _, cause in running.causes()} == {"connect"}


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_tunnel_that_closes_at_once_costs_one_attempt(
    proxy: ConnectProxy, router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, scheme: str
) -> None:
    """A proxy that says yes and then nothing more is a failed connection, seen when it closes."""
    proxy.instead = OPENED
    upstreams = config(f"{scheme}://{NAME}:{first.port}/v1", second)["upstreams"]
    upstreams["first"] |= through(proxy)
    running = await router(first, second, upstreams=upstreams)
    assert (await running.post()).status == 200
    (name, cause), *_, last = running.causes()
    assert (name, last) == ("first", ("second", "ok"))
    assert cause in {"connect", "disconnect", "tls"}


async def test_the_client_is_told_nothing_of_the_proxy(
    proxy: ConnectProxy, router: StartRouter, first: ScriptedUpstream
) -> None:
    """When no member can be reached the client sees what it sees of any dead upstream."""
    proxy.instead = REFUSALS["407"]
    running = await router(first, upstream=through(proxy))
    answer = await running.post()
    assert (answer.status, answer.error["reason"]) == (502, "upstream_connection")
    assert not any(word in answer.body.lower() for word in (b"proxy", b"authentication", b"no!"))


async def test_a_wrong_password_is_refused(proxy: ConnectProxy, router: StartRouter, first: ScriptedUpstream) -> None:
    """Credentials of the proxy are checked by the proxy."""
    settings = through(proxy)
    settings["proxy"]["password"] = {"env": "CLIENT_SECRET"}
    running = await router(first, upstream=settings)
    assert (await running.post()).status == 502
    assert {cause for _, cause in running.causes()} == {"connect"}
    assert first.received == []


async def test_a_proxy_that_is_down_is_a_refused_connection(router: StartRouter, first: ScriptedUpstream) -> None:
    """The same cause as for an upstream that listens no more."""
    proxy = ConnectProxy()
    await proxy.start()
    await proxy.close()
    running = await router(first, upstream={"proxy": {"url": proxy.url}})
    assert (await running.post()).status == 502
    assert {cause for _, cause in running.causes()} == {"connect"}


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n"])
async def test_a_proxy_that_is_silent_is_left(
    proxy: ConnectProxy, router: StartRouter, first: ScriptedUpstream, said: bytes
) -> None:
    """The time to connect bounds the tunnel too, and nothing stays open behind it."""
    proxy.instead, proxy.stays = said, True
    running = await router(first, upstream=through(proxy, timeouts={"connect": "100ms"}))
    assert (await running.post()).status == 502
    assert {cause for _, cause in running.causes()} == {"timeout_connect"}
    await until(lambda: not proxy.open_connections, "the proxy is left")


async def test_a_client_that_leaves_ends_the_wait_for_a_tunnel(
    proxy: ConnectProxy, router: StartRouter, first: ScriptedUpstream
) -> None:
    """Nothing is connected on behalf of nobody."""
    proxy.instead, proxy.stays = b"", True
    running = await router(first, upstream=through(proxy))
    client = await running.connect()
    await client.send(post(chat.request()))
    await proxy.asked()
    client.transport.abort()
    await until(lambda: not proxy.open_connections, "the proxy is left")
    assert (await running.record()).status == 499


@pytest.mark.parametrize("fault", ["unknown_authority", "other_name"])
async def test_an_unproven_upstream_behind_a_tunnel_gets_nothing(
    proxy: ConnectProxy, router: StartRouter, secure: ScriptedUpstream, fault: str
) -> None:
    """A proxy is no reason to trust: certificates are checked inside the tunnel as outside."""
    tls = {} if fault == "unknown_authority" else {"ca": "ca.pem"}
    host = "127.0.0.1" if fault == "other_name" else NAME
    running = await router(f"https://{host}:{secure.port}/v1", upstream=through(proxy, tls=tls))
    answer = await running.post()
    assert (answer.status, answer.error["reason"]) == (502, "upstream_connection")
    assert {cause for _, cause in running.causes()} == {"tls"}
    assert secure.received == []
    await until(lambda: not proxy.open_connections, "the proxy is left")


async def test_a_plain_server_behind_a_tunnel_is_no_secure_upstream(proxy: ConnectProxy, router: StartRouter) -> None:
    """TLS inside the tunnel is never given up because the other side does not speak it."""

    async def answer_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer_plainly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        running = await router(f"https://{NAME}:{port}/v1", upstream=through(proxy))
        assert (await running.post()).status == 502
        await until(lambda: not proxy.open_connections, "the proxy is left")
    assert {cause for _, cause in running.causes()} == {"tls"}


async def test_a_server_behind_a_tunnel_that_is_silent_is_left(proxy: ConnectProxy, router: StartRouter) -> None:
    """The time to connect bounds TLS inside the tunnel, and nothing stays open behind it."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = through(proxy, timeouts={"connect": "100ms"})
        running = await router(f"https://{NAME}:{port}/v1", upstream=settings)
        assert (await running.post()).status == 502
        assert len(proxy.heads) == len(running.causes())
        await until(lambda: not proxy.open_connections, "the proxy is left")
    assert {cause for _, cause in running.causes()} == {"timeout_connect"}


async def test_new_credentials_are_used_after_a_reload(
    proxy: ConnectProxy, router: StartRouter, first: ScriptedUpstream
) -> None:
    """An upstream whose proxy wants another password now is connected to anew."""
    settings = config(first, upstream=through(proxy))
    settings["upstreams"]["first"]["proxy"]["password"] = {"env": "CLIENT_SECRET"}
    running = await router(first, upstreams=settings["upstreams"])
    assert (await running.post()).status == 502
    settings["upstreams"]["first"]["proxy"]["password"] = {"env": "OTHER_SECRET"}
    assert (await running.reload(settings)).result == "applied"
    assert (await running.post()).status == 200
    assert ENVIRON["OTHER_SECRET"] == OTHER_SECRET
