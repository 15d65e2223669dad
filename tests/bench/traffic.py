"""What the clients ask and what they must get back."""

from __future__ import annotations

import base64
import http.client
import json
import random
from dataclasses import dataclass
from typing import Any

PATH = "/v1/chat/completions"
CLIENT_KEY = "sk-bench-0123456789abcdef0123456789abcdef"
CLIENT_MODEL = "mock"
"""What the router's clients ask for."""
UPSTREAM_MODEL = "mock-model"
"""What the upstream serves: the router renames, the other systems are asked for this name at once."""
TURN_MS = 240
"""Milliseconds: long beside a pace of 20, short beside the fast and slow phases of a machine."""

_HEADERS = """Host: 127.0.0.1:{port}
Accept-Encoding: gzip, deflate
Connection: keep-alive
Accept: application/json
Content-Type: application/json
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
    """One kind of request. `upstream.c` reads how to stream from the body's metadata."""

    name: str
    events: int = 0
    """Content events of the streamed answer; 0: not streamed."""
    pace_ms: int = 20
    turns: int = 1
    """Streams speak only in each so-manieth piece of `TURN_MS`, those of this request in the piece `turn`."""
    turn: int = 0
    image: bool = False

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
            members |= {"stream": True, "metadata": {"events": self.events, "pace_ms": self.pace_ms, **turns}}
        members["messages"] = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": content}]
        return json.dumps(members, separators=(",", ":")).encode()

    def request(self, port: int, model: str) -> bytes:
        """Return the whole request as it goes to the wire."""
        body = self.body(model)
        head = f"POST {PATH} HTTP/1.1\n" + _HEADERS.format(port=port, key=CLIENT_KEY, length=len(body))
        return head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body

    def answer(self, upstream_port: int) -> bytes:
        """Ask the upstream itself for the body that must come back, at its fastest pace, and check its end."""
        body = Ask(self.name, events=self.events, pace_ms=1, image=self.image).body(UPSTREAM_MODEL)
        connection = http.client.HTTPConnection("127.0.0.1", upstream_port, timeout=30)
        try:
            connection.request("POST", PATH, body)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        end = b"data: [DONE]\n\n" if self.events else b"}"
        if response.status != http.HTTPStatus.OK or not answer.endswith(end):
            raise RuntimeError(f"the upstream of the benchmark answers wrongly: {response.status} {answer[-80:]!r}")
        if answer.count(b"\n\n") != (self.events + 1 if self.events else 0):
            raise RuntimeError(f"the upstream of the benchmark sends {answer.count(b'data: ')} events")
        return answer
