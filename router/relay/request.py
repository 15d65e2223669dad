"""One request as it arrives: head, then body, then whole (DESIGN 5, steps 1 to 3).

A problem found on the way does not interrupt the connection: it is kept, the rest of the body is let go, and the
exchange answers with it in its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.errors import Kind, Problem, Refused, RequestError
from router.protocol import http
from router.protocol.asks import Ask, of_call, of_form
from router.protocol.coding import inflated
from router.protocol.cors import is_page
from router.protocol.endpoints import Body
from router.protocol.envelope import Dialect
from router.protocol.multipart import FormScanner, boundary_of
from router.protocol.splice import read_ask
from router.relay.spool import Spool

if TYPE_CHECKING:
    import re

    from router.policy.keys import Keyring, KeyState
    from router.protocol.endpoints import Endpoint
    from router.protocol.trace_context import TraceContext
    from router.relay.service import Relay, Snapshot

HEADERS_MAX = 256
"""Header lines of one request; the OpenAI SDKs send about twenty."""

PIECE_MIN = 1024
"""Bytes of body that are kept as they came; smaller pieces are joined."""

FORM = b"multipart/form-data"

UNREAD = (Body.ANY, Body.CALL)
"""Bodies that need not be JSON or a form."""


class Head:
    """What the head of a request says. Requests of one connection that repeat it share it."""

    endpoint: Endpoint | None = None
    """None: there was no sound request line."""
    dialect: Dialect = Dialect.OPENAI
    """Of errors."""
    method: bytes = b"POST"
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
    unread: bool = False
    """The body is not JSON that has to be read."""
    spools: bool = False
    """The body may be so large that it goes to disk: a form, or what is not looked into."""
    packed: bool = False
    """The body is compressed with gzip."""
    boundary: bytes = b""
    """The body is a form."""
    key: KeyState | None = None
    client_request_id: str = ""
    client_retry: bool = False
    says_trace: bool = False
    """There is a `traceparent`, whatever it says."""
    trace: TraceContext | None = None
    """The client's, if it sent a valid one."""
    cors: bytes = b""
    """Header lines of every answer, for the page that may read it."""
    permits: bytes = b""
    """Header lines of the answer to a preflight: the request is one, and is answered with leave."""
    problem: Problem | None = None
    repeated: bool = False
    """It has been sent upstream before."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.headers = []
        self.sent: dict[http.RequestPolicy, bytes] | None = None
        """What each upstream gets of it, from the second time on: most streams are the only request of their
        connection, and 0.8 KB for each would be a lot."""

    def read(self, line: re.Match[bytes], endpoint: Endpoint, headers: http.Headers) -> None:
        """Check it: is it HTTP, who is it, can it be a request of this endpoint."""
        self.method, target, version = line.groups()
        self.endpoint = endpoint
        self.dialect = endpoint.dialect
        self.version = version.decode("ascii")
        try:
            self._check(endpoint, target, headers)
        except Problem as problem:
            self.problem = problem

    def _check(self, endpoint: Endpoint, target: bytes, headers: http.Headers) -> None:
        if len(headers) > HEADERS_MAX:
            raise RequestError(Kind.MALFORMED_HTTP, "The request has too many header lines.", close=True)
        facts = http.scan(headers, self.version, x_api_key_wins=endpoint.dialect is Dialect.ANTHROPIC)
        self.headers = facts.passing
        self.client_request_id = facts.client_request_id
        self.client_retry = facts.client_retry
        if facts.says_trace:
            self.says_trace, self.trace = True, facts.trace
        if facts.origin and self.snapshot.cors is not None:
            self.cors = self.snapshot.cors.lines(facts.origin)
        self.expects = facts.expects_continue and self.version == "1.1"  # RFC 9110 section 10.1.1
        self.content_length = facts.content_length
        self.chunked = facts.chunked
        _, self.query = http.split_target(target)
        if self.method not in endpoint.methods:
            if self.cors and self.method == b"OPTIONS":
                self._look_for_preflight(endpoint, headers)
            allowed = b", ".join(endpoint.methods).decode()
            raise RequestError(Kind.METHOD_NOT_ALLOWED, f"Only {allowed} is allowed here.", param=None)
        if facts.origin and not self.cors:
            refuse_page(self.snapshot.keyring, facts.origin)
        self.key = authenticate(self.snapshot.keyring, facts.credential)
        self._read_coding(facts.content_encoding)
        if endpoint.body in (Body.FORM, Body.EITHER, Body.CALL):
            is_form = facts.content_type[: len(FORM)].lower() == FORM
            if is_form or endpoint.body is Body.FORM:
                self.boundary = boundary_of(facts.content_type)
                self._check_form()
        self.unread = bool(self.boundary) or endpoint.body in UNREAD
        self.spools = bool(self.boundary) or (endpoint.body is Body.ANY and not self.packed)

    def _look_for_preflight(self, endpoint: Endpoint, headers: http.Headers) -> None:
        """See whether a browser asks leave for a page. That has no body, and wants nothing of the endpoint."""
        if self.content_length or self.chunked or self.expects:
            return
        assert self.snapshot.cors is not None
        self.permits = self.snapshot.cors.preflight(http.pairs(headers), endpoint.methods)
        if self.permits:
            self.endpoint = None

    def _check_form(self) -> None:
        if self.packed:
            raise RequestError(Kind.CONTENT_ENCODING, "Forms must not be compressed; send this one as it is.")

    def _read_coding(self, coding: bytes) -> None:
        """See that we can read the body (PROTOCOL 3.4)."""
        if not coding:
            return
        if coding not in (b"gzip", b"x-gzip"):
            raise RequestError(
                Kind.CONTENT_ENCODING, "Request bodies may be compressed with gzip; send this one as it is."
            )
        self.packed = True


class Received:
    """One request, as far as it has come."""

    problem: Problem | None = None
    continued: bool = False
    """The client has our leave to send the body."""
    size: int = 0
    """Bytes of body so far."""
    spool: Spool | None = None
    """The body, if it has become too large for memory."""
    _scanner: FormScanner | None = None
    _refused_bytes: int = 0
    _held: int = 0
    _on_disk: int = 0
    """Bytes in memory, and bytes on disk. Each count against a budget of all requests together."""
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
        if head.boundary:
            self._scanner = FormScanner(head.boundary)

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
        bounds = self.snapshot.config.requests
        return max(bounds.form_max, bounds.body_max) if self.head.spools else bounds.body_max

    def _check_size(self, size: int) -> None:
        """See whether `size` bytes of body fit."""
        bounds = self.snapshot.config.requests
        limit = self._body_max()
        if size > limit:
            self.problem = RequestError(
                Kind.REQUEST_TOO_LARGE, f"The request body is larger than {limit} bytes.", close=True
            )
            return
        full = False
        if self.head.spools and size > bounds.spool_from:
            full = size + self._relay.spooled_bytes - self._on_disk > bounds.spooled_total_max
            size = bounds.spool_from
        if self.spool is None:
            full = full or size + self._relay.body_bytes - self._held > bounds.bodies_total_max
        if full:
            self.problem = Refused(
                Kind.OVERLOADED, "The router holds as many request bodies as it may.", retry_after_s=1.0, close=True
            )

    def add_whole(self, body: bytes) -> None:
        """Keep a body that has come in one piece, as most do: 0.3 us less than `add`."""
        size, bounds = len(body), self.snapshot.config.requests
        if self.head.spools or size > bounds.body_max or size + self._relay.body_bytes > bounds.bodies_total_max:
            self.add(body)
            return
        self._pieces.append(body)
        self.size = self._held = size
        self._relay.body_bytes += size

    def add(self, piece: bytes) -> None:
        """Keep a piece of the body, unless the request is refused anyway."""
        if self.problem is not None:
            self._refused_bytes += len(piece)
            self.problem.close = self.problem.close or self._refused_bytes > self._body_max()
            return
        self.size += len(piece)
        if self.spool is None:
            pieces = self._pieces
            if pieces and len(piece) < PIECE_MIN > len(pieces[-1]):
                pieces[-1] += piece  # each by itself, chunks of two bytes would take the memory of fifty
            else:
                pieces.append(piece)
            self._held += len(piece)
            self._relay.body_bytes += len(piece)
        self._check_size(self.size)
        if self.head.spools and self.problem is None:
            self._look(piece)
        if self.problem is not None:
            self.let_go()

    def _look(self, piece: bytes) -> None:
        """Scan a piece of a form; let a body that has become large go to disk."""
        try:
            if self._scanner is not None:
                self._scanner.feed(piece)
            if self.spool is not None:
                self._to_spool(self.spool, piece)
            elif self.size > self.snapshot.config.requests.spool_from:
                self._to_disk()
        except RequestError as problem:
            self.problem = problem
        except OSError:
            self.problem = Refused(
                Kind.OVERLOADED, "The router cannot keep the request body.", retry_after_s=1.0, close=True
            )

    def _to_disk(self) -> None:
        spool = self.spool = Spool(self.snapshot.config.requests.spool_dir)
        for piece in self._pieces:
            self._to_spool(spool, piece)
        self._release()

    def _to_spool(self, spool: Spool, piece: bytes) -> None:
        spool.add(piece)
        self._on_disk += len(piece)
        self._relay.spooled_bytes += len(piece)

    def ask(self) -> Ask:
        """Return what the body says, now that it is whole.

        Raises:
            Problem: It is not what this endpoint takes, or there is no room for it.
        """
        endpoint = self.head.endpoint
        assert endpoint is not None
        if self.head.packed:
            self._unpack()
        if not self.head.unread:
            return read_ask(self.body(), model_optional=endpoint.model_optional, asks_usage=endpoint.asks_usage)
        if endpoint.body is Body.CALL:
            return self._call()
        if self._scanner is None:
            return Ask("")
        ask = of_form(self._scanner.finish(), self.head.boundary)
        if not ask.model and not endpoint.model_optional:
            raise RequestError(Kind.MISSING_PARAMETER, "The form must name a model.", param="model")
        return ask

    def _call(self) -> Ask:
        """Read the offer of a call."""
        if self._scanner is None:
            model = http.query_value(self.head.query, b"model")
            if not model:
                raise RequestError(Kind.MISSING_PARAMETER, "The query must name a model.", param="model")
            return Ask(model)
        form = self._scanner.finish()
        session = form.fields.get("session")
        if session is None:
            raise RequestError(Kind.MISSING_PARAMETER, "The form must have a session.", param="session")
        return of_call(form, read_ask(session, model_optional=True, asks_usage=False))

    def _unpack(self) -> None:
        """Decode a compressed body, under the same caps; from here on it is as if it had come so (PROTOCOL 3.4).

        Raises:
            Problem: It is no gzip, or too large.
        """
        body = inflated(self.body(), self._body_max())
        self._relay.body_bytes += len(body) - self._held
        self._held = len(body)
        self._pieces = [body]
        self._check_size(self._held)
        if self.problem is not None:
            raise self.problem

    def body(self) -> bytes:
        """The whole body, if it is in memory."""
        if len(self._pieces) != 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    def let_go(self) -> None:
        """The body is not needed any more: no other attempt can come."""
        if self._pieces:
            self._release()
        if self.spool is not None:
            self.spool.close()
            self.spool = None
            self._relay.spooled_bytes -= self._on_disk
            self._on_disk = 0

    def _release(self) -> None:
        self._pieces = []
        self._relay.body_bytes -= self._held
        self._held = 0


def refuse_page(keyring: Keyring, origin: bytes) -> None:
    """Refuse a page that `cors` does not let in, where there are no keys.

    A page that somebody has open in a browser reaches loopback, and would spend the operator's money without reading a
    word of the answer. Where there are keys it has none.

    Raises:
        RequestError: it may not ask.
    """
    if keyring.open and is_page(origin):
        raise RequestError(
            Kind.ORIGIN_NOT_ALLOWED, "Pages of this origin may not use a router without keys: see its setting 'cors'."
        )


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
