"""One request as it arrives: head, then body, then whole (DESIGN 5, steps 1 and 2).

A problem found on the way does not interrupt the connection: it is kept, the rest of the body is let go, and the
exchange answers with it in its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.errors import Kind, Problem, Refused, RequestError
from router.protocol import http

if TYPE_CHECKING:
    import re

    from router.policy.keys import Keyring, KeyState
    from router.relay.service import Relay, Snapshot

PATH = b"/v1/chat/completions"

HEADERS_MAX = 256
"""Header lines of one request; the OpenAI SDKs send about twenty."""


class Head:
    """What the head of a request says. Requests of one connection that repeat it share it."""

    query: bytes = b""
    headers: http.Headers
    """The lines that may go upstream."""
    version: str = ""
    """`1.1` or `1.0`; empty if there was no sound request line."""
    keep_alive: bool = True
    expects: bool = False
    """The client waits for `100 Continue` before it sends the body."""
    content_length: int | None = None
    chunked: bool = False
    key: KeyState | None = None
    client_request_id: str = ""
    client_retry: bool = False
    problem: Problem | None = None

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.headers = []
        self.sent: dict[http.RequestPolicy, bytes] = {}
        """What each upstream gets of it, once one has."""

    def read(self, line: re.Match[bytes], headers: http.Headers) -> None:
        """Check it: is it HTTP, who is it, is it this route."""
        method, target, version = line.groups()
        self.version = version.decode("ascii")
        try:
            self._check(method, target, headers)
        except Problem as problem:
            self.problem = problem

    def _check(self, method: bytes, target: bytes, headers: http.Headers) -> None:
        if len(headers) > HEADERS_MAX:
            raise RequestError(Kind.MALFORMED_HTTP, "The request has too many header lines.", close=True)
        facts = http.scan(headers, self.version)
        self.headers = facts.passing
        self.client_request_id = facts.client_request_id
        self.client_retry = facts.client_retry
        self.expects = facts.expects_continue
        self.content_length = facts.content_length
        self.chunked = facts.chunked
        if len(target) > len(PATH):
            _, self.query = http.split_target(target)
        if method != b"POST":
            raise RequestError(Kind.METHOD_NOT_ALLOWED, "Only POST is allowed here.")
        self.key = authenticate(self.snapshot.keyring, facts.credential)
        if facts.content_encoding:
            raise RequestError(
                Kind.CONTENT_ENCODING, "Compressed request bodies are not accepted; send the body as it is."
            )


class Received:
    """One request, as far as it has come."""

    problem: Problem | None = None
    continued: bool = False
    """The client has our leave to send the body."""
    size: int = 0
    """Bytes of body so far."""
    _refused_bytes: int = 0
    to_come: int = -1
    """Bytes of the message, head included, that the parser has not been given; negative: chunks, nobody knows."""

    def __init__(self, relay: Relay, head: Head, began: float) -> None:
        self._relay = relay
        self.head = head
        self.snapshot = head.snapshot
        self.began = began
        """Monotonic seconds of its first byte."""
        self.problem = head.problem
        self._pieces: list[bytes] = []

    def expect(self, head_bytes: int) -> None:
        """The head is complete: see whether the body it announces may come."""
        head = self.head
        if not head.chunked:
            self.to_come = head_bytes + (head.content_length or 0)
        if self.problem is None and head.content_length:
            self._check_size(head.content_length)
        if self.problem is not None and (head.expects or (head.content_length or 0) > self._body_max()):
            # The client waits for leave and gets none, so its body may come or not; or it is more than we read.
            self.problem.close = True

    def _body_max(self) -> int:
        return self.snapshot.config.requests.body_max

    def _check_size(self, size: int) -> None:
        """See whether `size` bytes of body fit."""
        bounds = self.snapshot.config.requests
        if size > bounds.body_max:
            self.problem = RequestError(
                Kind.REQUEST_TOO_LARGE, f"The request body is larger than {bounds.body_max} bytes.", close=True
            )
        elif size + self._relay.body_bytes - self.size > bounds.bodies_total_max:
            self.problem = Refused(
                Kind.OVERLOADED, "The router holds as many request bodies as it may.", retry_after_s=1.0, close=True
            )

    def add(self, piece: bytes) -> None:
        """Keep a piece of the body, unless the request is refused anyway."""
        if self.problem is not None:
            self._refused_bytes += len(piece)
            self.problem.close = self.problem.close or self._refused_bytes > self._body_max()
            return
        self._pieces.append(piece)
        self.size += len(piece)
        self._relay.body_bytes += len(piece)
        self._check_size(self.size)
        if self.problem is not None:
            self.let_go()

    def body(self) -> bytes:
        """The whole body."""
        if len(self._pieces) != 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    def let_go(self) -> None:
        """The body is not needed any more: no other attempt can come."""
        if self._pieces:
            self._pieces = []
            self._relay.body_bytes -= self.size


def authenticate(keyring: Keyring, credential: bytes | None) -> KeyState | None:
    """Return whose request it is; None if no keys are configured.

    Raises:
        RequestError: it is nobody's we know; unknown and disabled keys are told the same.
    """
    if keyring.open:
        return None
    if credential is None:
        raise RequestError(
            Kind.MISSING_KEY, "No API key was sent. Send it as 'Authorization: Bearer <key>' or 'x-api-key'."
        )
    key = keyring.find(credential)
    if key is None:
        raise RequestError(Kind.INVALID_KEY, "The API key that was sent is not valid.")
    return key
