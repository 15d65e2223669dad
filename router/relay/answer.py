"""What an upstream's answer is, once its head has come: a whole body, an error, or a stream (`relay.stream`).

Each kind reads what arrives, once per read, and tells the exchange: commit, write, succeeded, failed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from router.events import NEVER
from router.policy.outcomes import VERDICTS, Cause, implied_status, of_error_body, of_status
from router.protocol import http, openai
from router.protocol.coding import DECODED_MAX, KNOWN, decoded
from router.protocol.durations import retry_after
from router.protocol.usage import of_openai
from router.relay.attempt import Failure
from router.relay.stream import StreamAnswer

if TYPE_CHECKING:
    from router.events import Usage
    from router.protocol.http import Answered
    from router.relay.attempt import Attempt
    from router.relay.exchange import Exchange
    from router.relay.upstream import UpstreamConnection

HELD_MAX = 1024 * 1024
"""Bytes of a whole answer that are held until it proves complete; a longer one is committed and relayed as it comes."""

METERED_MAX = 64 * 1024 * 1024
"""Bytes of an answer kept aside to read its usage (PROTOCOL 4); beyond it usage is unknown."""

BYTES_PER_TOKEN = 4
"""Of an answer without usage; only limits are charged by it, and it is never shown as a count."""

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
    status, said = connection.status, connection.said
    assert said is not None
    if not 200 <= status < 600:
        return Failure(verdict=VERDICTS[Cause.PROTOCOL], status=status)
    if status != 200:
        verdict = of_status(status, "", "", "")
        if verdict is None:  # a 2xx that no chat answer has
            return Failure(verdict=VERDICTS[Cause.PROTOCOL], status=status)
        return ErrorAnswer(exchange, attempt, said)
    if said.content_type.startswith(b"text/event-stream"):
        if said.content_encoding and said.content_encoding not in KNOWN:
            return Failure(verdict=VERDICTS[Cause.PROTOCOL], status=status)
        return StreamAnswer(exchange, attempt, said)
    assert exchange.chat is not None
    return WholeAnswer(exchange, attempt, said, wanted_stream=exchange.chat.stream)


class WholeAnswer:
    """A JSON body: held until it is complete and makes sense, so that anything else can still go elsewhere."""

    streams = False
    framed_bytes = 0
    framed_at = 0.0
    max_gap_s = NEVER
    _size: int = 0
    _flowing: bool = False

    def __init__(self, exchange: Exchange, attempt: Attempt, said: Answered, *, wanted_stream: bool) -> None:
        self._exchange = exchange
        self._attempt = attempt
        self._said = said
        self._wanted_stream = wanted_stream
        self._pieces: list[bytes] = []
        self.read_at = exchange.started

    def read(self, connection: UpstreamConnection) -> None:
        """Take what has come."""
        self.read_at = time.monotonic()
        for piece in connection.body:
            self._take(piece)
        connection.body.clear()
        if connection.complete:
            self._end()
        elif self._size > HELD_MAX and not self._flowing:
            if self._wanted_stream:
                self._exchange.failed(Failure(verdict=VERDICTS[Cause.WRONG_TYPE], status=200))
            else:
                self._flow()

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
        self._exchange.commit_body(self._said.passing, self._said.content_length)
        for piece in self._pieces:
            self._exchange.reply.write(piece)

    def _end(self) -> None:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        facts = openai.read_body(body) if not self._said.content_encoding else self._read_coded(body)
        if not self._flowing:
            if facts.error is not None or not facts.is_object or self._wanted_stream:
                self._object(facts, body)
                return
            self._exchange.commit_whole(self._said.lines, body)
        elif self._said.until_close and not facts.is_object:  # nothing else tells a cut body from a whole one
            self._exchange.failed(Failure(verdict=VERDICTS[Cause.TRUNCATED], status=200))
            return
        self._exchange.succeeded(of_openai(facts.usage) if facts.usage else None, self.output_estimate())

    def _read_coded(self, body: bytes) -> openai.BodyFacts:
        text = self._text(body)
        if text is None:  # a coding we do not know: nothing can be said against it, nothing read from it
            return openai.BodyFacts(is_object=True, id="", usage=None, error=None)
        return openai.read_body(text)

    def _text(self, body: bytes) -> bytes | None:
        if not self._said.content_encoding:
            return body
        return decoded(body, self._said.content_encoding, DECODED_MAX)

    def _object(self, facts: openai.BodyFacts, body: bytes) -> None:
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
            )
        )

    def ended_without_saying(self) -> bool:
        """A body without its end is no body."""
        return False

    def usage(self) -> None:
        """Nothing, before the end."""
        return

    def output_estimate(self) -> int:
        """By the length so far."""
        return self._size // BYTES_PER_TOKEN

    def has_failed(self) -> bool:
        """It is no stream."""
        return False

    def takes_events(self) -> bool:
        """It is no stream."""
        return False


class ErrorAnswer:
    """An answer that is not 200: read so far as it explains itself, then handed over as a failure."""

    streams = False
    framed_bytes = 0
    framed_at = 0.0
    max_gap_s = NEVER
    _size: int = 0

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
        facts = openai.read_error(status, self._said.content_type.decode("latin-1"), text)
        verdict = of_status(status, facts.code, facts.type, facts.message)
        assert verdict is not None
        failure = Failure(
            verdict=verdict,
            status=status,
            headers=self._said.passing,
            body=body,
            text=text,
            credentials=self._attempt.wire.credentials,
            facts=facts,
            retry_after_s=retry_after(http.pairs(self._said.passing), time.time()),
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

    def ended_without_saying(self) -> bool:
        """A body without its end is no body."""
        return False

    def usage(self) -> None:
        """Nothing, before the end."""
        return

    def output_estimate(self) -> int:
        """By the length so far."""
        return 0

    def has_failed(self) -> bool:
        """It is no stream."""
        return False

    def takes_events(self) -> bool:
        """It is no stream."""
        return False
