"""What an upstream's answer is, once its head has come: a whole body, an error, or a stream (`relay.stream`).

Each kind reads what arrives, once per read, and tells the exchange: commit, write, succeeded, failed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from router.events import NEVER
from router.policy.outcomes import ID_ELSEWHERE, VERDICTS, Cause, implied_status, of_error_body, of_status
from router.protocol import http
from router.protocol.coding import DECODED_MAX, KNOWN, broken, decoded
from router.protocol.durations import retry_after
from router.protocol.facts import BodyFacts
from router.protocol.upstream_errors import read_error
from router.relay import billing
from router.relay.attempt import Failure
from router.relay.reply import NO_CONTENT
from router.relay.stream import StreamAnswer

if TYPE_CHECKING:
    from router.events import Usage
    from router.protocol.endpoints import Endpoint
    from router.protocol.http import Answered
    from router.relay.attempt import Attempt
    from router.relay.exchange import Exchange
    from router.relay.translation import Translation
    from router.relay.upstream import UpstreamConnection

HELD_MAX = 1024 * 1024
"""Bytes of a whole answer that are held until it proves complete; a longer one is committed and relayed as it comes."""

METERED_MAX = 64 * 1024 * 1024
"""Bytes of an answer kept aside to read its usage (PROTOCOL 4); beyond it usage is unknown."""

BYTES_PER_TOKEN = 4
"""Of an answer without usage; only limits are charged by it, and it is never shown as a count."""

NOT_HERE = frozenset(("previous_response_not_found", "conversation_not_found"))
"""What an upstream says of an id that another one gave out (PROTOCOL 2.2)."""

ERROR_MAX = 64 * 1024
"""Bytes of an upstream's error answer that are read."""


class Answer(Protocol):
    """One upstream answer on its way to the client."""

    streams: bool
    """It is an event stream."""
    read_at: float
    """When something was last read of it, monotonic seconds."""
    framed_bytes: int
    framed_at: float
    """What it has passed to the client by itself, and when last."""
    max_gap_s: float
    """Longest silence after the first content; negative if that means nothing."""

    def read(self, connection: UpstreamConnection) -> None:
        """Take what has come: `connection.body`, and whether it is `complete`."""

    def ended_without_saying(self) -> bool:
        """The connection was cut: whether the answer was whole all the same, and has now been ended."""

    def usage(self) -> Usage | None:
        """What the upstream reported so far."""

    def output_estimate(self) -> int:
        """Tokens of output so far, for want of a report."""

    def has_failed(self) -> bool:
        """The upstream said in its stream that it failed, and only its end is to come."""

    def takes_events(self) -> bool:
        """Events of our own (heartbeats, an error) may be put in now."""


def begin(exchange: Exchange, attempt: Attempt, connection: UpstreamConnection) -> Answer | Failure:
    """Decide by the answer's head what kind it is (PROTOCOL rule 4: by its content type, not by the request's flag)."""
    status, said, endpoint = connection.status, connection.said, attempt.endpoint
    assert said is not None
    if not 200 <= status < 600:
        return Failure(verdict=VERDICTS[Cause.PROTOCOL], status=status)
    if status >= 300 and (status != 304 or not endpoint.stored):
        return ErrorAnswer(exchange, attempt, said)
    if said.content_type.startswith(b"text/event-stream"):
        if said.content_encoding and said.content_encoding not in KNOWN:
            return Failure(verdict=VERDICTS[Cause.PROTOCOL], status=status)
        return StreamAnswer(exchange, attempt, said)
    promised = exchange.reply.committed  # to a stream, with heartbeats
    if endpoint.binary and not _is_read(said, endpoint, status):
        if promised:
            return Failure(verdict=VERDICTS[Cause.WRONG_TYPE], status=status)
        return OpaqueAnswer(exchange, attempt, said, status)
    assert exchange.ask is not None
    wanted_stream = exchange.ask.stream and (endpoint.strict or promised)
    return WholeAnswer(exchange, attempt, said, status, wanted_stream=wanted_stream)


def _is_read(said: Answered, endpoint: Endpoint, status: int) -> bool:
    """Whether this is JSON that says something to us; what a client has stored says nothing, whatever its type."""
    return said.content_type.startswith(b"application/json") and not endpoint.pinned and status not in NO_CONTENT


class _NoStream:
    """What every answer that is no event stream says of itself."""

    streams = False
    framed_bytes = 0
    framed_at = 0.0
    max_gap_s = NEVER
    _size: int = 0

    def ended_without_saying(self) -> bool:
        """A body without its end is no body."""
        return False

    def usage(self) -> Usage | None:
        """Nothing, before the end."""
        return None

    def output_estimate(self) -> int:
        """Nothing, where the answer is no text."""
        return 0

    def has_failed(self) -> bool:
        """It is no stream."""
        return False

    def takes_events(self) -> bool:
        """It is no stream."""
        return False


class WholeAnswer(_NoStream):
    """A JSON body: held until it is complete and makes sense, so that anything else can still go elsewhere."""

    _flowing: bool = False

    def __init__(
        self, exchange: Exchange, attempt: Attempt, said: Answered, status: int, *, wanted_stream: bool
    ) -> None:
        self._exchange = exchange
        self._attempt = attempt
        self._said = said
        self._status = status
        self._wanted_stream = wanted_stream
        self._pieces: list[bytes] = []
        self.read_at = exchange.started

    def read(self, connection: UpstreamConnection) -> None:
        """Take what has come."""
        self.read_at = time.monotonic()
        pieces = connection.body
        if connection.complete and not self._size and len(pieces) == 1:  # most come so
            self._size = len(pieces[0])
            self._pieces.append(pieces.pop())
            self._end()
            return
        for piece in pieces:
            self._take(piece)
        pieces.clear()
        if connection.complete:
            self._end()
        elif self._size > HELD_MAX and not self._flowing and self._attempt.translation is None:
            if self._wanted_stream:
                self._exchange.failed(Failure(verdict=VERDICTS[Cause.WRONG_TYPE], status=200))
            else:
                self._flow()

    def output_estimate(self) -> int:
        """By the length so far, if it is text: pictures and vectors are long and no tokens."""
        return self._size // BYTES_PER_TOKEN if self._attempt.endpoint.generates else 0

    def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._flowing:
            self._exchange.reply.write(piece)
        if self._size <= METERED_MAX:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def _flow(self) -> None:
        """Too long to hold: commit and pass on what there is."""
        self._flowing = True
        self._exchange.commit_body(self._said, self._status)
        for piece in self._pieces:
            self._exchange.reply.write(piece)

    def _end(self) -> None:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        if self._attempt.translation is not None:
            self._end_translated(self._attempt.translation, body)
            return
        facts = self._attempt.endpoint.reading.body(body) if not self._said.content_encoding else self._read_coded(body)
        if not self._flowing:
            failed = facts.error is not None and not self._attempt.endpoint.named_id  # one that is stored is an answer
            if failed or not facts.is_object or self._wanted_stream:
                self._object(facts, body)
                return
            self._exchange.commit_whole(self._said.lines, body, self._status)
        elif self._said.until_close and not facts.is_object:  # nothing else tells a cut body from a whole one
            self._exchange.failed(Failure(verdict=VERDICTS[Cause.TRUNCATED], status=200))
            return
        if self._attempt.endpoint.keeps_id:
            billing.remember(self._exchange, facts.id, pending=facts.pending)
        self._exchange.succeeded(self._account(facts), self.output_estimate())

    def _end_translated(self, translation: Translation, body: bytes) -> None:
        """The upstream's own words are read for their usage; what the client gets is made anew from them."""
        text = self._text(body) or b""
        facts = translation.reading.body(text)
        answer = translation.whole(text) if facts.error is None and not self._wanted_stream else None
        if answer is None:
            self._object(facts if facts.error is not None else NOTHING, body)
            return
        headers = [
            line for line in self._said.passing if not line.lower().startswith((b"content-encoding:", b"content-type:"))
        ]
        lines = b"".join((*http.response_headers(headers), b"content-type: application/json\r\n"))
        self._exchange.commit_whole(lines, answer, self._status)
        usage = translation.reading.account(facts.usage) if facts.usage else None
        self._exchange.succeeded(usage, self.output_estimate())

    def _account(self, facts: BodyFacts) -> Usage | None:
        if facts.usage:
            return self._attempt.endpoint.reading.account(facts.usage)
        return billing.by_piece(self._exchange, facts.images)

    def _read_coded(self, body: bytes) -> BodyFacts:
        text = self._text(body)
        if text is None and broken(body, self._said.content_encoding, DECODED_MAX):
            return NOTHING
        if text is None:  # a coding we do not know: nothing can be said against it, nothing read from it
            return BodyFacts(is_object=True, id="", usage=None, error=None)
        return self._attempt.endpoint.reading.body(text)

    def _text(self, body: bytes) -> bytes | None:
        if not self._said.content_encoding:
            return body
        return decoded(body, self._said.content_encoding, DECODED_MAX)

    def _object(self, facts: BodyFacts, body: bytes) -> None:
        """This body is no answer: the attempt has failed."""
        error = facts.error
        if error is None:
            verdict = VERDICTS[Cause.WRONG_TYPE if facts.is_object else Cause.PROTOCOL]
            self._exchange.failed(Failure(verdict=verdict, status=200))
            return
        verdict = of_error_body(error.code, error.type, error.message)
        status = implied_status(error.code, error.type) or 502
        self._exchange.failed(
            Failure(
                verdict=verdict,
                status=status,
                headers=self._said.passing,
                body=body,
                text=self._text(body) or b"",
                credentials=self._attempt.wire.credentials,
                facts=error,
                foreign=self._attempt.translation is not None,
            )
        )


NOTHING = BodyFacts(is_object=False, id="", usage=None, error=None)


class OpaqueAnswer(_NoStream):
    """Sound, text, a file: relayed as it comes, from its first byte on; nothing in it is read."""

    _flowing: bool = False

    def __init__(self, exchange: Exchange, attempt: Attempt, said: Answered, status: int) -> None:
        self._exchange = exchange
        self._said = said
        self._status = status
        self._attempt = attempt
        self.read_at = exchange.started

    def read(self, connection: UpstreamConnection) -> None:
        """Pass on what has come."""
        if self._attempt.endpoint.keeps_id and connection.complete:
            billing.remember(self._exchange, http.last_step(self._said.passing), pending=False)
        self.read_at = time.monotonic()
        data = b"".join(connection.body)
        connection.body.clear()
        self._size += len(data)
        if connection.complete and not self._flowing:
            self._exchange.commit_whole(self._said.lines, data, self._status)
        elif data:
            if not self._flowing:
                self._flowing = True
                self._exchange.commit_body(self._said, self._status)
            self._exchange.reply.write(data)
        if connection.complete:
            self._exchange.succeeded(billing.by_piece(self._exchange, 0), 0)


class ErrorAnswer(_NoStream):
    """An answer that is not 200: read so far as it explains itself, then handed over as a failure."""

    def __init__(self, exchange: Exchange, attempt: Attempt, said: Answered) -> None:
        self._exchange = exchange
        self._attempt = attempt
        self._said = said
        self._pieces: list[bytes] = []
        self.read_at = exchange.started

    def read(self, connection: UpstreamConnection) -> None:
        """Take what has come."""
        self.read_at = time.monotonic()
        for piece in connection.body:
            self._size += len(piece)
            self._pieces.append(piece)
        connection.body.clear()
        if connection.complete or self._size > ERROR_MAX:
            self._fail(connection.status)

    def _fail(self, status: int) -> None:
        body = text = b"".join(self._pieces)
        if self._said.content_encoding:
            text = decoded(body, self._said.content_encoding, ERROR_MAX) or b""
        facts = read_error(status, self._said.content_type.decode("latin-1"), text)
        verdict = of_status(status, facts.code, facts.type, facts.message)
        assert verdict is not None
        if self._exchange.wanders and facts.code in NOT_HERE:
            verdict = ID_ELSEWHERE
        elif verdict.cause is Cause.MODEL_MISSING and self._attempt.endpoint.stored:
            verdict = VERDICTS[Cause.REQUEST]  # we promised no model there
        failure = Failure(
            verdict=verdict,
            status=status,
            headers=self._said.passing,
            body=body,
            text=text,
            credentials=self._attempt.wire.credentials,
            facts=facts,
            retry_after_s=retry_after(http.pairs(self._said.passing), time.time()),
            foreign=self._attempt.translation is not None,
            exposed=self._attempt.wire.settings.expose_errors,
        )
        if self._refuses_usage(status, body):
            self._exchange.repeat()
        else:
            self._exchange.failed(failure)

    def _refuses_usage(self, status: int, body: bytes) -> bool:
        """The upstream does not know `stream_options`, which we added (PROTOCOL 5.3, `auto`)."""
        return (
            status in (400, 422)
            and self._attempt.asks_usage
            and b"stream_options" in body
            and self._attempt.wire.stop_asking_usage()
        )
