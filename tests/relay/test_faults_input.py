"""Malicious input that no other file shows survived (RELIABILITY 6.6; `tests/catalogue.py` names the others)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.harness import chat
from tests.harness.client import post
from tests.harness.router import UPSTREAM_SECRET
from tests.harness.upstream import play, send, stall

if TYPE_CHECKING:
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

BODY = chat.request()


async def test_a_clients_id_is_neither_ours_nor_a_line_of_the_log(router: StartRouter, first: ScriptedUpstream) -> None:
    """Ids, addresses and control headers of the client's making decide nothing here and deceive nobody (M16)."""
    running = await router(first)
    forged = ["X-Request-Id: forged", "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Proto: https"]
    forged += ["X-Router-Upstream: second", "X-Router-Attempts: 0"]
    answer = await running.post(None, *forged, "X-Client-Request-Id: " + "y" * 2000)
    assert answer.status == 200
    assert answer.header("x-request-id") != "forged"
    assert answer.values("x-router-upstream") == []
    assert not first.received[0].values("x-forwarded-for")
    assert not first.received[0].values("x-forwarded-proto")
    record = await running.record()
    assert len(record.client_request_id) <= 128


SIZE = b"%x" % len(BODY)
CHUNKS = SIZE + b"\r\n" + BODY + b"\r\n"
BESIDE = {
    "extension": (SIZE + b";a=b;c\r\n" + BODY + b"\r\n0\r\n\r\n", 200),
    "extension_of_the_last": (CHUNKS + b"0;x=y\r\n\r\n", 200),
    "trailer": (CHUNKS + b"0\r\nx-checksum: 1\r\n\r\n", 200),
    "key_in_the_trailer": (CHUNKS + b"0\r\nAuthorization: Bearer x\r\n\r\n", 200),
    "length_in_the_trailer": (CHUNKS + b"0\r\nContent-Length: 5\r\n\r\n", 400),
    "coding_in_the_trailer": (CHUNKS + b"0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "cr_in_an_extension": (SIZE + b";a\rb\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "lf_in_an_extension": (SIZE + b";a\nb\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
}


@pytest.mark.parametrize(("wire", "status"), BESIDE.values(), ids=BESIDE)
async def test_nothing_beside_the_chunks_counts(
    router: StartRouter, first: ScriptedUpstream, wire: bytes, status: int
) -> None:
    """Extensions and trailers go nowhere; what could be read as another framing is refused (M19)."""
    running = await router(first)
    client = await running.connect()
    await client.send(post(b"", "Connection: close", framing="Transfer-Encoding: chunked") + wire)
    answer = await client.answer()
    assert await client.ended() == b""
    assert answer.status == status
    assert len(running.ended) == 1
    if status == 400:
        assert answer.error["reason"] == "malformed_http"
        assert first.received == []
        return
    (received,) = first.received
    assert received.body == BODY
    assert received.values("content-length") == [b"%d" % len(BODY)]
    assert not received.values("transfer-encoding")
    assert not received.values("x-checksum")
    assert received.values("authorization") == [f"Bearer {UPSTREAM_SECRET}".encode()]


async def test_what_a_body_refers_to_is_not_fetched(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Addresses in a prompt are text to the router: it connects to nobody for them (M23)."""
    url = f"{second.base_url}/latest/meta-data"
    picture = {"type": "image_url", "image_url": {"url": url}}
    body = chat.request(messages=[{"role": "user", "content": [picture]}], metadata={"webhook": url})
    running = await router(first)
    assert (await running.post(body)).status == 200
    assert first.received[0].body == body
    assert second.connections == []


SPLITTING = {
    "cr": b"x-a: b\rx-evil: 1",
    "lf": b"x-a: b\nx-evil: 1",
    "crlf_in_a_folded_line": b"x-a: b\r\n x-evil: 1",
    "nul": b"x-a: b\x00x-evil: 1",
    "set_cookie_as_name": b"x-a\x0bx-evil: 1",
}


@pytest.mark.parametrize("line", SPLITTING.values(), ids=SPLITTING)
async def test_an_upstreams_header_cannot_split_an_answer(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, line: bytes
) -> None:
    """What two readers could read as different headers is no answer, or arrives as a header of its own (M25)."""
    body = chat.completion()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%b\r\ncontent-length: %d\r\n\r\n"
    first.always(send(head % (line, len(body)) + body))
    running = await router(first, second)
    answer = await running.post()
    assert (answer.status, answer.body) == (200, body)
    assert b"\r" not in answer.head.replace(b"\r\n", b"")
    assert b"\n" not in answer.head.replace(b"\r\n", b"")
    assert b"\x00" not in answer.head
    assert b" x-evil" not in answer.head


async def test_a_megabyte_of_header_is_no_head(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """An upstream's head is bounded: what goes on and on is left, and another member answers (M25)."""
    first.always(play(send(b"HTTP/1.1 200 OK\r\nx-a: " + b"b" * 1024 * 1024), stall()))
    running = await router(first, second)
    assert (await running.post()).body == chat.completion()
    assert running.causes() == [("first", "protocol"), ("second", "ok")]


@pytest.mark.parametrize("name", ["\u2028", "m\r\nx: y", '"},{"event":"exchange"', "\ud800"])
async def test_no_name_makes_a_line_of_the_log(router: StartRouter, first: ScriptedUpstream, name: str) -> None:
    """Whatever a client asks for, each record is one line of JSON (M24)."""
    running = await router(first)
    assert (await running.post(chat.request(model=name, user=name))).status in {400, 404}
    await running.record()
    await running.rest()
    for line in running.log_path.read_bytes().splitlines():
        assert isinstance(json.loads(line), dict)
