"""What the clients ask and what they must get back."""

from __future__ import annotations

import base64
import http.client
import json
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

PATH = "/v1/chat/completions"
MESSAGES_PATH = "/v1/messages"
UPLOAD_PATH = "/v1/audio/transcriptions"
CLIENT_KEY = "sk-bench-0123456789abcdef0123456789abcdef"
CLIENT_MODEL = "mock"
"""What the router's clients ask for."""
TRANSLATED_MODEL = "mock-messages"
"""What they ask for to get a translated stream."""
UPSTREAM_MODEL = "mock-model"
"""What the upstream serves: the router renames, the other systems are asked for this name at once."""
TURN_MS = 240
"""Milliseconds: long beside a pace of 20, short beside the fast and slow phases of a machine."""

_HEADERS = """POST {path} HTTP/1.1
Host: 127.0.0.1:{port}
Accept-Encoding: gzip, deflate
Connection: keep-alive
Accept: application/json
Content-Type: {content_type}
User-Agent: OpenAI/Python 2.8.0
X-Stainless-Lang: python
X-Stainless-Package-Version: 2.8.0
X-Stainless-OS: Linux
X-Stainless-Arch: x64
X-Stainless-Runtime: CPython
X-Stainless-Runtime-Version: 3.11.7
Authorization: Bearer {key}
X-Stainless-Async: async:asyncio
x-stainless-retry-count: 0
x-stainless-read-timeout: 600
Content-Length: {length}"""

_SYSTEM = "You are a careful assistant. Answer briefly, and say so when you do not know."
_QUESTION = "Say in one sentence what this text is about. " + (
    "Requests reach a router, which knows every model server, its limits and its state, and sends each where it fits. "
    * 7
)
_IMAGE_BYTES = 768 * 1024
"""Of an image whose base64 text makes a body of 1 MiB."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One kind of request. `upstream.c` reads how to stream from the body's `pacing`, which a translation passes on."""

    name: str
    events: int = 0
    """Content events of the streamed answer; 0: not streamed."""
    pace_ms: int = 20
    turns: int = 1
    """Streams speak only in each so-manieth piece of `TURN_MS`, those of this request in the piece `turn`."""
    turn: int = 0
    image: bool = False
    translated: bool = False
    """A chat stream that the upstream serves as one of Anthropic's messages."""

    def body(self, model: str) -> bytes:
        """Return the JSON body, spaced as the OpenAI SDK spaces it."""
        content: Any = _QUESTION
        if self.image:
            pixels = base64.b64encode(random.Random(1).randbytes(_IMAGE_BYTES)).decode()
            content = [
                {"type": "text", "text": "What does this picture show?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixels}"}},
            ]
        members: dict[str, Any] = {"model": model, "temperature": 0.7, "max_tokens": 400}
        if self.events:
            turns = {"turns": self.turns, "turn": self.turn, "turn_ms": TURN_MS}
            members |= {"stream": True, "pacing": {"events": self.events, "pace_ms": self.pace_ms, **turns}}
        members["messages"] = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": content}]
        return json.dumps(members, separators=(",", ":")).encode()

    def request(self, port: int, model: str) -> bytes:
        """Return the whole request as it goes to the wire."""
        body = self.body(model)
        return _head(PATH, port, "application/json", len(body)) + body

    def answer(self, upstream_port: int) -> bytes:
        """Ask the upstream itself for the body that must come back, at its fastest pace, and check its end."""
        body = Ask(self.name, events=self.events, pace_ms=1, image=self.image).body(UPSTREAM_MODEL)
        answer = _ask(upstream_port, PATH, [body])
        if not answer.endswith(b"data: [DONE]\n\n" if self.events else b"}"):
            raise RuntimeError(f"the upstream of the benchmark answers wrongly: {answer[-80:]!r}")
        if answer.count(b"\n\n") != (self.events + 1 if self.events else 0):
            raise RuntimeError(f"the upstream of the benchmark sends {answer.count(b'data: ')} events")
        return answer

    def translated_answer(self, port: int, model: str, upstream_port: int) -> bytes:
        """Ask a system that translates for the body that must come back from it, and compare it with the upstream's.

        How a translation is written is the system's own choice; what it says is not.

        Returns:
            The body, with zeros for the digits of its time, which is the one thing that differs between two answers.

        Raises:
            ValueError: It does not say what the upstream says; says what differs.
            LookupError: It is not written as a chat stream.
            OSError: It did not come.
            HTTPException: It did not come whole.
        """
        ask = Ask(self.name, events=self.events, pace_ms=1)
        said = _ask(upstream_port, MESSAGES_PATH, [ask.body(UPSTREAM_MODEL)])
        answer = _ask(port, PATH, [ask.body(model)])
        wanted, got = _pieces_of_messages(said), _pieces_of_chat(answer)
        if wanted != got:
            different = next((pair for pair in zip(wanted, got, strict=False) if pair[0] != pair[1]), "their number")
            raise ValueError(f"the translated stream differs from the upstream's: {different}")
        return re.sub(rb'(?<="created":)[0-9]+', lambda time: bytes(len(time[0])), answer)


class Upload:
    """A large file as a form, with the name of the model behind it. The file is a block of noise, again and again."""

    block = random.Random(2).randbytes(1_000_003)
    """Its length is prime, so that no piece of the file is exchanged for another one unnoticed by the checksum."""
    times = 200

    def _parts(self, model: str) -> tuple[bytes, bytes]:
        """Return what stands before and behind the file."""
        line = f"--{_BOUNDARY}\r\nContent-Disposition: form-data; name="
        before = f'{line}"file"; filename="speech.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        behind = f'\r\n{line}"model"\r\n\r\n{model}\r\n--{_BOUNDARY}--\r\n'
        return before.encode(), behind.encode()

    def request(self, port: int, model: str) -> tuple[bytes, bytes]:
        """Return what goes to the wire before and behind the file."""
        before, behind = self._parts(model)
        length = len(before) + self.times * len(self.block) + len(behind)
        return _head(UPLOAD_PATH, port, f"multipart/form-data; boundary={_BOUNDARY}", length) + before, behind

    def answer(self, upstream_port: int) -> bytes:
        """Send it to the upstream itself, and return what that answers: the length and the checksum of what it got."""
        before, behind = self._parts(UPSTREAM_MODEL)
        return _ask(upstream_port, UPLOAD_PATH, [before, *[self.block] * self.times, behind])


_BOUNDARY = "7d1c9e0f5b2a4836d0e4c8a1f3b59276"


def _head(path: str, port: int, content_type: str, length: int) -> bytes:
    head = _HEADERS.format(path=path, port=port, key=CLIENT_KEY, content_type=content_type, length=length)
    return head.replace("\n", "\r\n").encode() + b"\r\n\r\n"


def _ask(port: int, path: str, body: list[bytes]) -> bytes:
    """Return the body of the answer.

    Raises:
        ValueError: It is an error.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {CLIENT_KEY}", "Content-Length": str(sum(map(len, body)))}
    try:
        connection.request("POST", path, body, headers | {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise ValueError(f"status {response.status}: {answer[:200]!r}")
    return answer


def _data(stream: bytes) -> Iterable[Any]:
    return (json.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: {"))


def _pieces_of_messages(stream: bytes) -> list[Any]:
    """Return what a stream of Anthropic's says, as `_pieces_of_chat` would have it of its translation."""
    pieces: list[Any] = []
    for event in _data(stream):
        match event["type"]:
            case "message_start":
                message = event["message"]
                pieces.append((f"chatcmpl-{message['id']}", message["model"], message["role"]))
            case "content_block_delta":
                pieces.append(event["delta"]["text"])
            case "message_stop":
                pieces += ["stop", "[DONE]"]
    return pieces


def _pieces_of_chat(stream: bytes) -> list[Any]:
    """Return who speaks, every piece of text, the reason to stop and the terminal marker, in their order."""
    pieces: list[Any] = []
    for chunk in _data(stream):
        (choice,) = chunk["choices"]
        delta = choice["delta"]
        if "role" in delta:
            pieces.append((chunk["id"], chunk["model"], delta["role"]))
        if delta.get("content"):
            pieces.append(delta["content"])
        if choice["finish_reason"]:
            pieces.append(choice["finish_reason"])
    return [*pieces, "[DONE]"] if stream.endswith(b"data: [DONE]\n\n") else pieces
