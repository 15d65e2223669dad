"""Upstreams behind TLS: checked always, failed over when they do not prove who they are (RELIABILITY U5)."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.harness import chat
from tests.harness.upstream import ScriptedUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.relay.conftest import StartRouter


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
async def secure(authority: trustme.CA) -> AsyncIterator[ScriptedUpstream]:
    """An upstream whose certificate is for the name `upstream.test`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("upstream.test").configure_cert(context)
    upstream = ScriptedUpstream()
    await upstream.start(context)
    yield upstream
    await upstream.close()


def https(upstream: ScriptedUpstream) -> str:
    return f"https://127.0.0.1:{upstream.port}/v1"


async def test_a_proven_upstream_is_used(router: StartRouter, secure: ScriptedUpstream, ca_file: str) -> None:
    """With its authority and its name configured it answers, and its connection is kept."""
    running = await router(https(secure), upstream={"tls": {"ca": ca_file, "server_name": "upstream.test"}})
    answers = [await running.post() for _ in range(2)]
    assert [answer.body for answer in answers] == [chat.completion()] * 2
    assert [received.place for received in secure.received] == [0, 1]


@pytest.mark.parametrize("fault", ["unknown_authority", "other_name"])
async def test_an_unproven_upstream_gets_nothing(
    router: StartRouter, secure: ScriptedUpstream, ca_file: str, fault: str
) -> None:
    """An unknown authority or another name: not one byte of the request is sent, and the client gets 502."""
    tls = {"unknown_authority": {"server_name": "upstream.test"}, "other_name": {"ca": ca_file}}[fault]
    running = await router(https(secure), upstream={"tls": tls})
    answer = await running.post()
    assert (answer.status, answer.error["reason"]) == (502, "upstream_connection")
    assert {cause for _, cause in running.causes()} == {"tls"}
    assert secure.received == []


async def test_a_plain_server_behind_https_is_no_upstream(router: StartRouter) -> None:
    """TLS is never given up because the other side does not speak it."""
    heard = []

    async def answer_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65536))
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer_plainly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        running = await router(f"https://127.0.0.1:{port}/v1")
        assert (await running.post()).status == 502
    assert {cause for _, cause in running.causes()} == {"tls"}
    assert [hello for hello in heard if b"chat" in hello] == []
