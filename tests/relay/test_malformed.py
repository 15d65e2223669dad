"""Malicious HTTP: refused with our envelope and a closed connection, nothing reaches an upstream (RELIABILITY 6.6)."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from tests.harness import chat
from tests.harness.client import post

if TYPE_CHECKING:
    from tests.harness.router import RunningRouter
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

BODY = chat.request()
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"


def framed(*framing: str, body: bytes = BODY) -> bytes:
    """A request with exactly these framing lines, byte for byte."""
    return HEAD + b"".join(line.encode("latin-1") + b"\r\n" for line in framing) + b"\r\n" + body


def row(raw: bytes) -> bytes:
    """A good request with one raw header line more."""
    return HEAD + raw + b"\r\n" + LENGTH.encode() + b"\r\n\r\n" + BODY


REFUSED = {
    # Framing that two parties could read in two ways (M1 to M9).
    "length_and_chunked": framed(LENGTH, "Transfer-Encoding: chunked", body=CHUNKED),
    "chunked_and_length": framed("Transfer-Encoding: chunked", LENGTH, body=CHUNKED),
    "two_lengths": framed(LENGTH, "Content-Length: 5"),
    "two_equal_lengths": framed(LENGTH, LENGTH),
    "length_list": framed(f"Content-Length: {len(BODY)}, {len(BODY)}"),
    "length_plus": framed(f"Content-Length: +{len(BODY)}"),
    "length_minus": framed("Content-Length: -1"),
    "length_hex": framed("Content-Length: 0x10"),
    "length_underscore": framed("Content-Length: 1_0"),
    "length_empty": framed("Content-Length: "),
    "length_overflow": framed("Content-Length: 99999999999999999999999"),
    "length_space_inside": framed("Content-Length: 1 0"),
    "chunked_twice": framed("Transfer-Encoding: chunked, chunked", body=CHUNKED),
    "chunked_two_rows": framed("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=CHUNKED),
    "xchunked": framed("Transfer-Encoding: xchunked", body=CHUNKED),
    "vertical_tab_chunked": framed("Transfer-Encoding: \x0bchunked", body=CHUNKED),
    "chunked_then_gzip": framed("Transfer-Encoding: chunked, gzip", body=CHUNKED),
    "gzip_chunked": framed("Transfer-Encoding: gzip, chunked", body=CHUNKED),
    "identity": framed("Transfer-Encoding: identity"),
    "chunked_on_1_0": framed("Transfer-Encoding: chunked", body=CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0"),
    # Lines and hosts (M11, M13).
    "bare_lf": post(BODY).replace(b"\r\n", b"\n"),
    "bare_cr": row(b"x-a: b\rx-c: d"),
    "folded": row(b"x-a: b\r\n  c"),
    "nul": row(b"x-a: \x00"),
    "control": row(b"x-a: \x01"),
    "space_before_colon": row(b"x-a : b"),
    "empty_name": row(b": b"),
    "no_colon": row(b"x-a"),
    "odd_name": row(b"x(a): b"),
    "no_host": post(BODY).replace(b"Host: router.test\r\n", b""),
    "two_hosts": row(b"Host: y"),
    "host_with_path": post(BODY).replace(b"router.test", b"router.test/admin"),
    "host_with_user": post(BODY).replace(b"router.test", b"a@router.test"),
    "two_authorizations": row(b"Authorization: Bearer a\r\nAuthorization: Bearer b"),
    # What is not the HTTP we speak (M18).
    "http_2_0": post(BODY).replace(b"HTTP/1.1", b"HTTP/2.0"),
    "http_0_9": b"GET /v1/chat/completions\r\n\r\n",
    "http_1_2": post(BODY).replace(b"HTTP/1.1", b"HTTP/1.2"),
    "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls_hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 64 + b"\r\n\r\n",
    "lower_case_method": post(BODY).replace(b"POST", b"post"),
    "odd_method": post(BODY).replace(b"POST", b"P@ST"),
    "control_in_target": post(BODY).replace(b"/v1", b"/\x01v1"),
    "space_in_target": post(BODY).replace(b"completions HTTP", b"comp letions HTTP"),
    # Chunks and sizes (M19, M21).
    "bad_chunk_size": framed("Transfer-Encoding: chunked", body=b"zz\r\n" + BODY),
    "chunk_size_prefix": framed("Transfer-Encoding: chunked", body=b"0x10\r\n" + BODY),
    "huge_chunk_size": framed("Transfer-Encoding: chunked", body=b"fffffffffffffffff\r\n" + BODY),
    "chunk_without_crlf": framed("Transfer-Encoding: chunked", body=b"2\r\n{}XX0\r\n\r\n"),
    "bad_last_chunk": framed("Transfer-Encoding: chunked", body=b"0\r\nX: y\rz\r\n\r\n"),
    "negative_chunk_size": framed("Transfer-Encoding: chunked", body=b"-1\r\n\r\n"),
    "large_head": row(b"x-a: " + b"b" * 70_000),
    "many_headers": row(b"\r\n".join(b"x-%d: y" % number for number in range(10_000))),
}


async def refusal(running: RunningRouter, wire: bytes) -> tuple[int, str]:
    """Send bytes, expect one answer and a closed connection with nothing behind it; its status and reason."""
    client = await running.connect()
    client.transport.write(wire)
    answer = await client.answer()
    assert await client.ended() == b""
    assert answer.header("content-type") == "application/json"
    assert answer.json["request_id"] == answer.header("x-request-id")
    return answer.status, answer.error["reason"]


@pytest.mark.parametrize("wire", REFUSED.values(), ids=REFUSED)
async def test_malformed_requests_are_refused(router: StartRouter, first: ScriptedUpstream, wire: bytes) -> None:
    """400 in the envelope, the connection closed, nothing forwarded; and the next client is served."""
    running = await router(first)
    status, reason = await refusal(running, wire)
    assert (status, reason) in {(400, "malformed_http"), (413, "request_too_large")}
    assert first.received == []
    assert (await running.post()).status == 200


async def test_input_is_not_echoed(router: StartRouter, first: ScriptedUpstream) -> None:
    """The answer to malformed HTTP holds none of its bytes."""
    running = await router(first)
    client = await running.connect()
    client.transport.write(row(b"x-tell-tale : <script>"))
    answer = await client.answer()
    assert answer.status == 400
    assert b"tell-tale" not in answer.head + answer.body
    assert b"script" not in answer.body


TARGETS = [
    "http://other.test/v1/chat/completions",
    "http://user@router.test/v1/chat/completions",
    "other.test:443",
    "//evil/v1/chat/completions",
    "/v1/chat/completions#fragment",
    "/v1/../v1/chat/completions",
    "/v1/%2e%2e/admin",
    "/v1%2fchat/completions",
    "/v1/chat/completions%00",
    "/v1/chat/%zz",
    "/v1/chat/completions/../../metrics",
    "/metrics",
    "/-/reload",
    "*",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_only_exact_paths_are_served(router: StartRouter, first: ScriptedUpstream, target: str) -> None:
    """No other spelling of a target reaches an upstream or the admin pages: 400, 404 or 405 in the envelope."""
    running = await router(first)
    async with await running.connect() as client:
        await client.send(post(BODY, path=target))
        answer = await client.answer()
    assert answer.status in {400, 404, 405}
    assert answer.error["reason"] in {"malformed_http", "unknown_endpoint", "method_not_allowed"}
    assert first.received == []


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "OPTIONS", "DELETE", "PATCH"])
async def test_other_methods_are_refused(router: StartRouter, first: ScriptedUpstream, method: str) -> None:
    """Nothing but POST is carried on the chat path."""
    running = await router(first)
    async with await running.connect() as client:
        await client.send(post(b"", method=method))
        answer = await client.answer()
    assert answer.status in {400, 405}
    assert first.received == []


UPGRADES = {
    "curl": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    "websocket": ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
    "odd": ("UPGRADE:h2c", "connection: keep-alive, uPgRaDe", "upgrade: x/1, y"),
    "unannounced": ("Upgrade: h2c",),
}


@pytest.mark.parametrize("rows", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
async def test_upgrades_are_ignored(
    router: StartRouter, first: ScriptedUpstream, *, rows: tuple[str, ...], chunked: bool, apart: bool
) -> None:
    """A request that offers an `Upgrade` is served like any other, its body in the same packet or in one of its own."""
    running = await router(first)
    head = post(b"", *rows, framing="Transfer-Encoding: chunked" if chunked else LENGTH)
    body = CHUNKED if chunked else BODY
    client = await running.connect()
    for number in (1, 2):
        if apart:
            await client.send(head)
            await running.caught_up(client)
            await client.send(body)
        else:
            await client.send(head + body)
        assert (await client.answer()).status == 200
        received = await first.asked(number)
        assert received.body == BODY
        assert not received.values("upgrade")
        assert not received.values("http2-settings")
    assert len(first.received) == 2


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
async def test_an_upgrade_does_not_make_a_request_of_a_body(
    router: StartRouter, first: ScriptedUpstream, *, chunked: bool
) -> None:
    """The body behind an `Upgrade` is a body, even if it is written like a request and comes in its own packet."""
    running = await router(first)
    hidden = post(BODY)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(hidden)}"
    client = await running.connect()
    await client.send(post(b"", *UPGRADES["curl"], framing=framing))
    await running.caught_up(client)
    if chunked:
        await client.send(b"%x\r\n" % len(hidden))
        await running.caught_up(client)
    await client.send(hidden + (b"\r\n0\r\n\r\n" if chunked else b""))
    answer = await client.answer()
    assert (answer.status, answer.error["reason"]) == (400, "invalid_json")
    await client.send(post(chat.request(user="next")))
    assert (await client.answer()).status == 200
    assert [received.json.get("user") for received in first.received] == ["next"]


async def test_high_bytes_in_headers_do_no_harm(router: StartRouter, first: ScriptedUpstream) -> None:
    """A header value beyond ASCII is forwarded as it came, or dropped, or refused; the record is still written."""
    running = await router(first)
    answer = await running.post(None, "X-Odd: \xff\xe9", "X-Request-Id: \xff\xfe" + "y" * 2000)
    assert answer.status in {200, 400}
    for received in first.received:
        assert received.values("x-odd") in ([b"\xff\xe9"], [])
    record = await running.record()
    assert record.client_request_id.isascii()
    assert len(record.client_request_id) <= 128


async def test_naming_our_headers_as_hop_by_hop_strips_nothing(router: StartRouter, first: ScriptedUpstream) -> None:
    """`Connection: authorization, content-length, host` cannot remove what we add ourselves (RELIABILITY M15)."""
    running = await router(first)
    assert (await running.post(None, "Connection: authorization, content-length, host, content-type")).status == 200
    received = first.received[0]
    assert all(len(received.values(name)) == 1 for name in ("authorization", "content-length", "host"))
    assert received.body == BODY


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "odd"])
async def test_coded_bodies_are_refused(router: StartRouter, first: ScriptedUpstream, coding: str) -> None:
    """A body in a coding that is not read is 415, never forwarded as something else."""
    running = await router(first)
    answer = await running.post(BODY, f"Content-Encoding: {coding}")
    assert (answer.status, answer.error["reason"]) == (415, "content_encoding")
    assert first.received == []


MODEL_NAMES = ["../../etc", "{{7*7}}", "a\nb", "x" * 512, "%s%n", "m\x00", "M", " m"]


@pytest.mark.parametrize("name", MODEL_NAMES, ids=[str(number) for number in range(len(MODEL_NAMES))])
async def test_odd_model_names_are_unknown_models(router: StartRouter, first: ScriptedUpstream, name: str) -> None:
    """A model name is compared exactly; whatever it holds it is 404 and no label."""
    running = await router(first)
    answer = await running.post(chat.request(model=name))
    assert (answer.status, answer.error["reason"]) == (404, "model_not_found")
    assert (await running.record()).model == "_unknown"
    assert first.received == []


ODD = ["", " ", "\t", "\x0b", "\x00", "\r", "\n", "\xa0", ",", ";", "x", '"', "\r\n ", "\x7f", "\xff"]
HIDDEN = post(BODY, "Connection: close")
ANOTHER_NAME = re.compile(r"(?!transfer-encoding:)[!#$%&'*+.^_`|~0-9a-z-]+:", re.IGNORECASE)


def spellings() -> list[str]:
    """`Transfer-Encoding: chunked` with something odd before, inside or behind it."""
    odd = [f"{mark}Transfer-Encoding: chunked" for mark in ODD]
    odd += [f"Transfer-Encoding{mark}:{other}chunked" for mark in ODD for other in ODD]
    odd += [f"Transfer-Encoding: chunked{mark}" for mark in ODD]
    odd += ["transfer-encoding: Chunked", "TRANSFER-ENCODING: CHUNKED", "Transfer_Encoding: chunked"]
    odd += ["X: y\nTransfer-Encoding: chunked", "X: y\rTransfer-Encoding: chunked", "Transfer-Encoding:\n chunked"]
    return odd


def mutations() -> list[bytes]:
    """Requests with two framings, one of which hides a good request: in the body by length, or in a chunk."""
    wires = []
    for line in spellings():
        row = line.encode("latin-1") + b"\r\n"
        by_length = b"0\r\n\r\n" + HIDDEN
        wires.append(HEAD + b"Connection: close\r\nContent-Length: %d\r\n" % len(by_length) + row + b"\r\n" + by_length)
        if not ANOTHER_NAME.match(line):  # a row of another name does not frame: behind the length is a second request
            by_chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
            wires.append(HEAD + row + b"Content-Length: 4\r\n\r\n" + by_chunk)
    return wires


async def test_no_spelling_of_the_framing_smuggles_a_request(router: StartRouter, first: ScriptedUpstream) -> None:
    """However `Transfer-Encoding` is spelled beside a length, the request hidden in the difference is never served.

    Where the odd row is an ordinary header of another name, the length holds and the body is no JSON.
    """
    running = await router(first, requests={"head_timeout": "1s", "body_timeout": "1s", "keepalive": "1s"})

    async def attack(wire: bytes) -> bytes:
        client = await running.connect()
        client.transport.write(wire)
        return await client.ended()

    wires = mutations()
    for start in range(0, len(wires), 64):
        answers = await asyncio.gather(*(attack(wire) for wire in wires[start : start + 64]))
        assert [answer for answer in answers if not answer.startswith(b"HTTP/1.1 4") or b" 200 " in answer] == []
    assert first.received == []
