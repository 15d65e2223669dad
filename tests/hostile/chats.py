"""Good chat requests that tell where they came from: what hostile ones are made of and stand beside."""

from __future__ import annotations

import json

CHAT = b"/v1/chat/completions"
MARK = "mark-%05d-%s"
"""The number of a connection, and which of its requests it is."""


def asking(mark: str) -> bytes:
    """A chat request with a marker."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Say hello."}], "user": mark}
    return json.dumps(body, separators=(",", ":")).encode()


def good(mark: str, *rows: bytes, header_mark: str = "") -> bytes:
    """A request that nobody can misread, with its marker, or another one, in a header line and its own in its body."""
    body = asking(mark)
    lines = [b"POST " + CHAT + b" HTTP/1.1", b"Host: router.test", b"x-mark: " + (header_mark or mark).encode(), *rows]
    return b"\r\n".join((*lines, b"Content-Length: %d" % len(body), b"", body))
