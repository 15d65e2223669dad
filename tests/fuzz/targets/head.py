"""All that a client sends on one connection, through the whole relay (RELIABILITY 6.6, PROTOCOL 3.2).

The judge is `tests/hostile/reference.py`: of what it is not sure of the upstream sees nothing, of the rest at most what
is there, whole and in order, under a head that nobody can misread.
"""

from __future__ import annotations

import re

from router.protocol.coding import inflated
from tests.fuzz import answers, wires
from tests.fuzz.pieces import ways
from tests.hostile import reference

BYTES_MAX = 1536
WORDS = (
    b"POST /v1/chat/completions HTTP/1.1", b"POST /v1/messages HTTP/1.1", b"POST /v1/embeddings HTTP/1.1",
    b"GET /v1/responses/resp_1 HTTP/1.1", b"POST /v1/audio/transcriptions HTTP/1.1", b"GET /v1/files HTTP/1.1",
    b"POST /v1/unknown/path HTTP/1.1", b"GET /v1/models HTTP/1.1", b"HTTP/1.0", b"Host: a", b"Host: a:1",
    b"Content-Length: 0", b"Content-Length: 27", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity",
    b"Connection: close", b"Connection: keep-alive", b"Connection: x-mark, host", b"Expect: 100-continue",
    b"Upgrade: h2c", b"Authorization: Bearer sk-client", b"x-api-key: sk-client", b"Content-Encoding: gzip",
    b"Content-Type: multipart/form-data; boundary=b", b"x_forwarded_for: a", b"Cookie: a=b", b"TE: trailers",
    b"Trailer: x", b"Keep-Alive: timeout=5", b"x-request-id: a", b"?api-key=a&b=c", b"\r\n\r\n", b"\r\n", b"\n", b"\r",
    b"\0", b" ", b"\t", b": ", b",", b"0\r\n\r\n", b"1b\r\n", b"\r\n0\r\n\r\n", b";a=b", b'{"model":"m","stream":0}',
    b'{"model":"m","messages":[]}', b"%2e%2e", b"//", b"../", b"\x80", b"\xff", b"\x0b", b"\x85",
)  # fmt: skip

_OURS = (
    (b"host", wires.HOST),
    (b"accept-encoding", b"identity"),
    (b"authorization", b"Bearer " + wires.SECRET.encode()),
)
_NEVER = frozenset((
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect",
    b"content-encoding", b"x-api-key", b"api-key", b"cookie", b"proxy-authorization", b"http2-settings",
))  # fmt: skip
_REQUESTS_MAX = 8
_NUMBER = re.compile(rb'"number":([0-9]+)')


def check(data: bytes) -> None:
    """Send the bytes at once, and in pieces."""
    wires.run(_check([data]))
    for number, pieces in enumerate(ways(data)):
        if number < 3:
            wires.run(_check(pieces))


async def _check(pieces: list[bytes]) -> None:
    house = wires.House()
    seen: list[bytes] = []
    for piece in pieces:
        house.client.receive(piece)
        await _serve(house, seen)
    await house.settle()
    said = bytes(house.client.written)
    await house.end()
    reading = reference.read(b"".join(pieces))
    _check_upstream(seen, reading)
    _check_downstream(said, seen, reading)


async def _serve(house: wires.House, seen: list[bytes]) -> None:
    """Answer what reaches the upstream, each request with its number."""
    for _ in range(_REQUESTS_MAX):
        await house.settle()
        asked = [transport for transport in house.upstreams if transport.written]
        for transport in asked:
            seen.append(bytes(transport.written))
            transport.written.clear()
            body = b'{"object":"x","choices":[{}],"number":%d}' % len(seen)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            transport.receive(head + body)
        if not asked:
            break


def _check_upstream(seen: list[bytes], reading: reference.Reading) -> None:
    ahead = list(reading.requests)
    for each in seen:
        arrived = reference.read(each)
        assert arrived.certain, f"sent upstream: {each!r}"
        assert len(arrived.requests) == 1, f"sent upstream: {each!r}"
        (request,) = arrived.requests
        while ahead and not _is_same(request, ahead[0]):
            ahead.pop(0)
        assert ahead, f"made up: {each!r}"
        _check_fields(request, ahead.pop(0))


def _is_same(arrived: reference.Request, asked: reference.Request) -> bool:
    """It may be what became of the other. What is translated has a new body."""
    if arrived.method != asked.method:
        return False
    if asked.target.partition(b"?")[0].endswith(b"/messages"):
        return arrived.target.startswith(b"/v1/chat/completions")
    body = asked.body
    if b"gzip" in b"".join(asked.values(b"content-encoding")).lower() and arrived.body != body:
        body = inflated(body, 1 << 20)
    return arrived.body == body and asked.target.startswith(arrived.target.partition(b"?")[0])


def _check_fields(arrived: reference.Request, asked: reference.Request) -> None:
    for name, value in _OURS:
        assert arrived.values(name) == [value], f"{name!r}: {arrived.values(name)}"
    lengths = arrived.values(b"content-length")
    assert lengths == [b"%d" % len(arrived.body)] or (not lengths and not arrived.body)
    listed = {each.strip().lower() for value in asked.values(b"connection") for each in value.split(b",")}
    for name, value in arrived.fields:
        plain = name.replace(b"_", b"-")
        assert plain not in _NEVER, f"sent upstream: {name!r}"
        assert not plain.startswith((b"x-forwarded-", b"proxy-auth", b"cf-")), f"sent upstream: {name!r}"
        if (name, value) not in _OURS and name != b"content-length":
            assert (name, value) in asked.fields, f"made up: {name!r}: {value!r}"
            assert name not in listed, f"listed by Connection: {name!r}"


def _check_downstream(said: bytes, seen: list[bytes], reading: reference.Reading) -> None:
    """No more answers than requests, each that is not ours in its place."""
    most = len(reading.requests) + (not reading.certain)
    requests = [*reading.requests, None]
    at = number = 0
    served: list[int] = []
    while at < len(said):
        answer, at = _answer(said, at, requests[min(number, len(requests) - 1)])
        if answer.status >= 200:
            number += 1
            assert not answer.to_the_end
        served += map(int, _NUMBER.findall(answer.body))
    assert number <= most, f"{number} answers to {most} requests"
    assert served == sorted(set(served)), f"answers in another order: {served}"
    assert not served or served[-1] <= len(seen)


def _answer(said: bytes, at: int, asked: reference.Request | None) -> tuple[answers.Answer, int]:
    """Read the answer to a request. Of one that is not certain, it may be that its method was HEAD."""
    if asked is not None:
        return answers.one(said, at, bodiless=asked.method == b"HEAD")
    try:
        return answers.one(said, at)
    except reference.DoubtError:
        return answers.one(said, at, bodiless=True)
