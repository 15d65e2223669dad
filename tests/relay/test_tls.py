"""Upstreams behind TLS: checked always, failed over when they do not prove who they are (RELIABILITY U5)."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from tests.harness import chat
from tests.harness.router import config
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


@pytest.fixture
async def mutual(authority: trustme.CA, tmp_path: Path) -> AsyncIterator[ScriptedUpstream]:
    """An upstream that wants to see a certificate; one for the router is in `client.pem` and `client.key`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("upstream.test").configure_cert(context)
    show(authority.issue_cert("router.test"), tmp_path)
    upstream = ScriptedUpstream()
    await upstream.start(context)
    yield upstream
    await upstream.close()


def show(certificate: trustme.LeafCert, folder: Path) -> None:
    """Let this be the router's certificate."""
    (folder / "client.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(folder / "client.key")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")


def seen(upstream: ScriptedUpstream) -> Any:
    """The certificate that the upstream was shown last."""
    return upstream.connections[-1].transport.get_extra_info("peercert")


PAIRS = {"two files": {"cert": "client.pem", "key": "client.key"}, "one file": {"cert": "both.pem"}}


@pytest.mark.parametrize("files", PAIRS.values(), ids=PAIRS)
async def test_the_router_proves_who_it_is(
    router: StartRouter, mutual: ScriptedUpstream, ca_file: str, files: dict[str, str]
) -> None:
    """An upstream that asks for a certificate is shown the configured one."""
    tls = {"ca": ca_file, "server_name": "upstream.test"} | files
    running = await router(https(mutual), upstream={"tls": tls})
    assert (await running.post()).status == 200
    assert ("DNS", "router.test") in seen(mutual)["subjectAltName"]


async def test_without_a_certificate_it_gets_nothing(
    router: StartRouter, mutual: ScriptedUpstream, ca_file: str
) -> None:
    """An upstream that must see a certificate and sees none is one that fails: no request is taken there."""
    running = await router(https(mutual), upstream={"tls": {"ca": ca_file, "server_name": "upstream.test"}})
    assert (await running.post()).status == 502
    assert mutual.received == []


async def test_a_renewed_certificate_is_shown_after_a_reload(
    router: StartRouter, authority: trustme.CA, mutual: ScriptedUpstream, ca_file: str, tmp_path: Path
) -> None:
    """Certificates that live for hours are replaced under the same name: a reload reads them again."""
    tls = {"ca": ca_file, "server_name": "upstream.test"} | PAIRS["two files"]
    settings = config(https(mutual), upstream={"tls": tls})
    running = await router(https(mutual), upstream={"tls": tls})
    assert (await running.post()).status == 200
    first = seen(mutual)
    show(authority.issue_cert("renewed.test"), tmp_path)
    assert (await running.reload(settings)).result == "applied"
    assert (await running.post()).status == 200
    assert ("DNS", "router.test") in first["subjectAltName"]
    assert ("DNS", "renewed.test") in seen(mutual)["subjectAltName"]


async def test_a_reload_keeps_connections_whose_certificate_stayed(
    router: StartRouter, mutual: ScriptedUpstream, ca_file: str
) -> None:
    """A change elsewhere in the file costs no handshake."""
    tls = {"ca": ca_file, "server_name": "upstream.test"} | PAIRS["two files"]
    running = await router(https(mutual), upstream={"tls": tls})
    assert (await running.post()).status == 200
    settings = config(https(mutual), upstream={"tls": tls}, log={"queue_max": 99})
    assert (await running.reload(settings)).result == "applied"
    assert (await running.post()).status == 200
    assert [received.place for received in mutual.received] == [0, 1]


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
