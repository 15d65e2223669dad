"""All that an upstream answers to one request, through the whole relay (PROTOCOL 3.2, 4, 5; RELIABILITY 6.6).

The judge is `tests/fuzz/answers.py`. Whatever the upstream says, the client gets one answer that nobody can misread,
and the next request gets its own: a connection serves another only after exactly one certain answer.
"""

from __future__ import annotations

import re

from tests.fuzz import answers, wires
from tests.fuzz.pieces import ways
from tests.fuzz.targets.sse import dispatched
from tests.hostile.reference import DoubtError

BYTES_MAX = 1536
WORDS = (
    b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 429 Too Many Requests", b"HTTP/1.1 500 ",
    b"HTTP/1.1 400 Bad Request", b"HTTP/1.0 200 OK", b"Content-Length: 2", b"Content-Length: 0",
    b"Transfer-Encoding: chunked", b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade, x-a",
    b"Content-Type: application/json", b"Content-Type: text/event-stream", b"Content-Encoding: gzip", b"Retry-After: 1",
    b"retry-after-ms: 5", b"Location: /v1/x/1", b"Set-Cookie: a=b", b"x-request-id: theirs",
    b"x-ratelimit-remaining-requests: 0", b"x-should-retry: false", b"Upgrade: websocket", b"Trailer: x", b"\r\n\r\n",
    b"\r\n", b"\n", b"\r", b"\0", b"0\r\n\r\n", b"2\r\n{}\r\n", b";a=b", b"data: [DONE]\n\n",
    b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n', b'{"error":{"message":"x","code":"y"}}',
    b'{"object":"chat.completion","choices":[{}],"usage":{"prompt_tokens":1,"completion_tokens":1}}', b"event: error\n",
    b'{"type":"error"}', b": ka\n", wires.SECRET.encode(), b" ", b"\t", b": ",
)  # fmt: skip

_CHAT = b'{"model":"m","messages":[{"role":"user","content":"Hello"}]}'
_STREAM = _CHAT[:-1] + b',"stream":true}'
_MESSAGES = b'{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Hello"}]}'
_GOOD = b'{"object":"chat.completion","choices":[{"good":1}]}'
_CHUNK = re.compile(rb".*?\n\n\r\n|.+\Z", re.DOTALL)
_NEVER = frozenset((
    b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"server", b"date", b"set-cookie", b"alt-svc",
    b"strict-transport-security", b"openai-organization",
))  # fmt: skip


def _post(path: bytes, body: bytes) -> bytes:
    head = b"POST /v1%b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path, len(body))
    return head + body


REQUESTS = {
    "chat": _post(b"/chat/completions", _CHAT),
    "stream": _post(b"/chat/completions", _STREAM),
    "messages": _post(b"/messages", _MESSAGES),
    "file": b"GET /v1/files/file-1/content HTTP/1.1\r\nHost: a\r\n\r\n",
}


def check(data: bytes) -> None:
    """Answer each kind of request with these bytes, at once and in pieces."""
    for name in REQUESTS:
        whole = _Trial(name, [data])
        wires.run(whole.run())
        whole.judge()
    by_chunk = _CHUNK.findall(data)  # as they come from a server that writes each event by itself
    for name, pieces in (("stream", by_chunk), *zip(("chat", "stream"), ways(data), strict=False)):
        trial = _Trial(name, pieces)
        wires.run(trial.run())
        trial.judge()


class _Trial:
    """One answer, and a good one behind it if the client's connection lasts."""

    def __init__(self, name: str, pieces: list[bytes]) -> None:
        self.name = name
        self.pieces = pieces
        self.first = b""
        """What the client got for the first request."""
        self.second = b""
        self.cut = False
        """The connection ended with the first answer."""
        self.kept = False
        """The upstream's connection would have served another request."""

    async def run(self) -> None:
        house = wires.House()
        house.client.receive(REQUESTS[self.name])
        await house.settle()
        (upstream,) = house.upstreams
        assert upstream.written
        for piece in self.pieces:
            upstream.receive(piece)
        await house.settle()
        self.kept = house.pool.idle > 0
        if not self.kept:
            upstream.lose()
            await house.settle()
        self.first = bytes(house.client.written)
        self.cut = house.client.closed or house.client.ended
        if not self.cut:
            await self._ask_again(house)
        await house.end()

    async def _ask_again(self, house: wires.House) -> None:
        """Over the same connection to the upstream, if it was kept."""
        house.client.written.clear()
        house.client.receive(REQUESTS["chat"])
        await house.settle()
        upstream = house.upstreams[-1]
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_GOOD)
        upstream.receive(head + _GOOD)
        await house.settle()
        self.second = bytes(house.client.written)

    def judge(self) -> None:
        sent = b"".join(self.pieces)
        certain = _certain(sent)
        if self.kept:
            assert certain is not None, f"kept after {sent!r}"
        answer = self._answer()
        if answer is not None:
            self._judge_answer(answer, certain, sent)
        if not self.cut:
            assert answer is not None, f"unfinished, and not cut: {self.first!r}"
            assert [each.body for each in answers.read(self.second)] == [_GOOD], self.second

    def _answer(self) -> answers.Answer | None:
        """The client's answer; None if it was cut off."""
        assert self.first, "no answer"
        try:
            found = answers.read(self.first)
        except DoubtError:
            head = self.first.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            length = head.replace(b"transfer-encoding: chunked", b"x: y").replace(b"content-length:", b"x-length:")
            answers.read(length)  # the head at least is certain
            assert self.cut, f"no certain answer: {self.first!r}"
            return None
        assert len(found) == 1, f"{len(found)} answers to one request"
        return None if found[0].to_the_end else found[0]

    def _judge_answer(self, answer: answers.Answer, certain: answers.Answer | None, sent: bytes) -> None:
        for name, value in answer.fields:
            assert name not in _NEVER, f"passed on: {name!r}: {value!r}"
        (identity,) = answer.values(b"x-request-id")
        assert identity.startswith(b"req_")
        assert answer.values(b"connection") in ([], [b"close"])
        if answer.status >= 400:
            assert wires.SECRET.encode() not in self.first
        streams = answer.values(b"content-type")[:1] == [b"text/event-stream"]
        if answer.status == 200 and self.name == "stream" and streams and b"error" not in answer.body:
            assert b"[DONE]" in sent or b"finish_reason" in sent, "a cut stream passed for a whole one"
        if certain is None or certain.values(b"content-encoding") or not answer.status == certain.status == 200:
            return
        if self.name == "chat" and not streams:
            assert answer.body == certain.body
        if self.name == "stream" and streams and b"error" not in answer.body:
            _judge_stream(dispatched(answer.body), dispatched(certain.body))


def _judge_stream(told: list[tuple[str, bytes]], said: list[tuple[str, bytes]]) -> None:
    """The client is told every event up to the terminal marker, and then that, also if it was not said."""
    texts = [data.strip() for _, data in said]
    until = texts.index(b"[DONE]") if b"[DONE]" in texts else len(said)
    assert told == [*said[:until], ("", b"[DONE]")], f"said {said}, told {told}"


def _certain(sent: bytes) -> answers.Answer | None:
    """The one answer that these bytes certainly are, with informational ones before it; None if they are not.

    Line ends around them are let pass, as parsers do: none takes them for the beginning of another.
    """
    rest, status = sent, 100
    try:
        while status < 200:
            rest = rest.lstrip(b"\r\n")
            answer, at = answers.one(rest)
            rest, status = rest[at:], answer.status
    except DoubtError:
        return None
    return None if answer.to_the_end or rest.strip(b"\r\n") else answer
