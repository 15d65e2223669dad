"""An event stream on its way to the client: hold, commit, hide, end (PROTOCOL 5, RELIABILITY 3).

Held until the first event with content, so that whatever goes wrong before can still go elsewhere. Then whole events,
as they came, one write per read. Ended cleanly only if the stream said it was complete.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from router.policy.outcomes import VERDICTS, Cause, Verdict, of_error_body
from router.protocol.coding import StreamDecoder
from router.protocol.envelope import Dialect, mask
from router.protocol.facts import ChunkFacts, Meaning
from router.protocol.sse import EventReader
from router.relay import billing
from router.relay.attempt import Failure
from router.relay.ending import SECRET_MIN
from router.relay.upstream import no_frame

if TYPE_CHECKING:
    from router.events import Usage
    from router.protocol.http import Answered
    from router.relay.attempt import Attempt
    from router.relay.exchange import Exchange
    from router.relay.upstream import UpstreamConnection

QUOTE = ord('"')

CHUNK_LINES = {len(b"%x" % size) + size + 4: b"%x\r\n" % size for size in range(16, 4096)}
"""The first line of a chunk by the length of all of it, framing included, for sizes that single events have."""

HELD_EVENTS_MAX = 16
HELD_BYTES_MAX = 64 * 1024
"""What is held before content; a stream with a longer preamble is committed (RELIABILITY 3.1, P3)."""


class StreamAnswer:
    """One upstream's stream. A failed attempt's is dropped with what it held; the client never sees two."""

    __slots__ = (
        "_after",
        "_attempt",
        "_before",
        "_between",
        "_choices",
        "_content_at",
        "_content_end",
        "_decoder",
        "_exchange",
        "_finished",
        "_held",
        "_held_bytes",
        "_marked",
        "_numbers",
        "_opaque",
        "_opening",
        "_outbox",
        "_reader",
        "_reading",
        "_relaying",
        "_reply",
        "_said",
        "_said_error",
        "_size",
        "_stored",
        "_translator",
        "_transport",
        "_unread",
        "_unread_at",
        "_usage",
        "_whole",
        "contents",
        "framed_at",
        "framed_bytes",
        "max_gap_s",
        "read_at",
        "streams",
    )

    def __init__(self, exchange: Exchange, attempt: Attempt, said: Answered) -> None:
        assert exchange.ask is not None
        self.streams = True
        self._exchange = exchange
        self._reply = exchange.reply
        self._outbox = exchange.relay.outbox
        self._transport = exchange.reply.transport
        self.framed_bytes = 0
        self.framed_at = 0.0
        self._attempt = attempt
        self._said = said
        self._reader = EventReader()
        self._decoder = StreamDecoder(said.content_encoding) if said.content_encoding else None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._relaying = False
        self._between = False
        """Content has begun, and all that came was whole events, which have gone out."""
        self._whole = False
        """The same, and `_before` and `_after` stand around the content of a plain event that is a chunk of its own."""
        self._before = self._after = b""
        self._opening = b""
        self._size = self._content_at = self._content_end = 0
        """The length of the last such chunk, how it begins, and from where to where its content stands."""
        self._reading = attempt.endpoint.reading
        self._stored = bool(attempt.endpoint.named_id)
        """It is told again: that it failed, if it did, is what was asked for."""
        self._marked = attempt.endpoint.generates or (self._stored and not self._reading.open_ended)
        """Its end is marked, and its choices are numbered. Pictures and unknown dialects have neither."""
        self._choices = exchange.ask.n
        self._numbers = attempt.endpoint.dialect is Dialect.RESPONSES
        """Events are numbered, and so must an error of ours be."""
        self._translator = attempt.translation.stream() if attempt.translation is not None else None
        self._finished: frozenset[int] = frozenset()
        """Choices with a finish reason: when all have one, the answer is whole even without its terminal marker."""
        self._said_error: Verdict | None = None
        """The upstream put an error event into the stream after content."""
        self._opaque = False
        """An event outgrew the reader: until its end its bytes flow as they come, not understood."""
        self._unread = Meaning(0)
        """What that event means, by its beginning."""
        self._unread_at = -1
        """How many events with content came before the last of them that may have been the last of all."""
        self._usage: dict[str, Any] | None = None
        self.contents = 0
        """Events with content, for want of a token count."""
        self.read_at = exchange.started
        self.max_gap_s = 0.0

    def read(self, connection: UpstreamConnection) -> None:
        """Take what has come."""
        now = time.monotonic()
        if now - self.read_at > self.max_gap_s:  # noqa: PLR1730 (`max` costs 0.1 us, each chunk)
            self.max_gap_s = now - self.read_at
        self.read_at = now
        pieces = connection.body
        if pieces:
            data = b"".join(pieces)
            pieces.clear()
            if self._take(data):
                return
            connection.frame_reader = self._take_frame if self._whole else no_frame
        if connection.complete:
            self._upstream_ended()

    def _take(self, data: bytes, *, translated: bool = False) -> bool:
        """Take bytes of any kind. Returns whether the answer ended or failed with them."""
        if self._decoder is not None and not translated:
            try:
                data = self._decoder.feed(data)
            except ValueError:
                self._exchange.failed(Failure(verdict=VERDICTS[Cause.PROTOCOL], status=200))
                return True
        if self._translator is not None and not translated:
            data = self._translator.feed(data)
        if not data:
            return False
        if not self._relaying:
            self.max_gap_s = 0.0  # a silence before the first content is no gap
            return self._hold(data)
        if self._between and self._reading.plain(data):
            self._learn(data)
            self.contents += 1
            self._reply.write(data)
            return False
        return self._pass(self._reader.feed(data))

    def _take_frame(self, frame: bytes) -> bool:
        """Take one chunk, framing and all, if it is an event like the last but for its content. HOT: once per chunk.

        It then goes to the client as it came: neither parsed, nor copied, nor framed anew.
        """
        size = len(frame)
        if size != self._size and not self._fit(size):
            return False
        start, end = self._content_at, self._content_end
        # Slices, because the methods of `bytes` take twice as long to read their arguments as to do their work.
        if frame[:start] != self._opening or frame[end:] != self._after or QUOTE in frame[start:end]:
            return False
        # Only what is ours is touched: other objects are cold in the processor's cache. And it is written at once:
        # paced events come a few in a turn, and to gather those costs more than it saves.
        waiting = self._outbox.waiting
        if waiting:
            waiting.append((self._transport, frame))
        else:
            try:  # noqa: SIM105 (`suppress` costs 0.3 us, each chunk)
                self._transport.write(frame)
            except RuntimeError:  # uvloop's word for a closed connection: we have been told, or will be
                pass
        now = time.monotonic()
        if now - self.read_at > self.max_gap_s:  # noqa: PLR1730 (`max` costs 0.1 us, each chunk)
            self.max_gap_s = now - self.read_at
        self.read_at = self.framed_at = now
        self.framed_bytes += size
        self.contents += 1
        return True

    def _fit(self, size: int) -> bool:
        """Find where the content stands in a plain event that is a chunk of `size` bytes. False if none can be."""
        line = CHUNK_LINES.get(size)
        if line is None:
            return False
        self._opening = line + self._before
        self._content_at, self._content_end = len(self._opening), size - len(self._after)
        self._size = size if self._content_end >= self._content_at else 0
        return self._size > 0

    def _learn(self, event: bytes) -> None:
        """Remember what stands around the content of a plain event: the next will probably differ in it alone.

        An event that begins and ends like this one, without a quote between, is plain too: whatever else it might be,
        its bytes would be passed on all the same.
        """
        mark = self._reading.text_mark
        start = event.find(mark) + len(mark)
        end = event.find(b'"', start)
        self._whole = (
            mark != b"" and start >= len(mark) and end > 0 and event.endswith(b"\n\n")
            and self._decoder is None and self._translator is None and self._reply.chunked
        )  # fmt: skip
        if self._whole:
            self._before, self._after = event[:start], event[end:] + b"\r\n"
            self._size = 0

    # hold

    def _hold(self, data: bytes) -> bool:
        """Look at each event until one has content. Returns whether the stream ended or failed here."""
        events = self._reader.feed(data)
        for position, event in enumerate(events):
            facts = self._reading.chunk(event)
            verdict = _objection(facts)
            told = self._stored and facts.error is not None
            if verdict is not None and not told:
                self._exchange.failed(Failure(verdict=verdict, status=200))
                return True
            if told or facts.meaning & (Meaning.CONTENT | Meaning.FINISH):
                return self._commit(events[position:])
            self._note(facts)
            if not facts.meaning & Meaning.COMMENT and not self._hidden(facts):
                self._held.append(event)
                self._held_bytes += len(event)
            if len(self._held) > HELD_EVENTS_MAX or self._held_bytes > HELD_BYTES_MAX:
                return self._commit(events[position + 1 :])
        if self._reader.oversized:
            return self._commit([])
        return False

    def _commit(self, events: list[bytes]) -> bool:
        """The stream is real: the client gets its head, what was held, and from here on everything."""
        self._relaying = True
        headers = self._said.passing
        if self._decoder is not None:
            headers = [line for line in headers if not line.lower().startswith(b"content-encoding:")]
        self._exchange.commit_stream(headers, until_close=self._said.until_close and not self._marked)
        held, self._held = self._held, []
        if held:
            self._reply.write(b"".join(held))
        return self._pass(events)

    # relay

    def _pass(self, events: list[bytes]) -> bool:
        """Relay whole events but those the client did not ask for. Returns whether the stream ended with them."""
        passed: list[bytes] = []
        ended = False
        for event in events:
            if self._opaque:  # the remainder of an event whose beginning has gone out unread
                passed.append(event)
                if self._unread_ended():
                    ended = True
                    break
                continue
            if self._reading.plain(event):
                self.contents += 1
                passed.append(event)
                continue
            facts = self._reading.chunk(event)
            self._note(facts)
            if facts.error is not None:
                event = self._masked(event)  # noqa: PLW2901 (it goes out instead)
            if facts.error is not None and self._said_error is None and not self._stored:
                self._said_error = of_error_body(facts.error.code, facts.error.type, facts.error.message)
                self._exchange.watch(self.read_at)
            if facts.meaning & Meaning.DONE:
                ended = True
                passed.append(self._reading.done or event)
                break  # whatever an upstream sends after its end is not part of the answer
            if not self._hidden(facts):
                passed.append(event)
        self._between = self._reader.between_events
        self._whole = self._whole and self._between
        if not ended and (self._opaque or self._reader.oversized):
            passed.append(self._reader.flush())
            if not self._opaque:
                self._opaque = True
                self._unread = self._reading.unread(passed[-1])
        if passed:
            self._reply.write(b"".join(passed))
            self._reply.last_event = passed[-1] if self._numbers else b""
        if ended:
            self._end()
        return ended

    def _masked(self, event: bytes) -> bytes:
        """Return an error event, without our credential if it quotes that."""
        secrets = self._attempt.wire.credentials
        if not any(secret.encode("latin-1") in event for secret in secrets if len(secret) >= SECRET_MIN):
            return event
        return mask(event.decode("utf-8", "replace"), secrets).encode()

    def _unread_ended(self) -> bool:
        """An event is over of which only the beginning is known. Returns whether it was the last of the answer."""
        self._opaque = False
        if not self._unread:
            self._unread_at = self.contents
        elif self._unread & (Meaning.CONTENT | Meaning.FINISH):
            self.contents += 1
        if self._unread & Meaning.FINISH:
            self._finish((0,))
        return bool(self._unread & Meaning.DONE)

    def _finish(self, choices: tuple[int, ...]) -> None:
        """Note that these choices are over. Pictures have no numbers: each is one more."""
        if choices:
            self._finished |= frozenset(choices) if self._marked else {len(self._finished)}

    def _note(self, facts: ChunkFacts) -> None:
        self.contents += facts.output_deltas
        self._finish(facts.finished)
        if facts.usage is not None:
            self._usage = self._reading.merge(self._usage, facts.usage)
        if facts.id and self._attempt.endpoint.keeps_id:
            billing.remember(self._exchange, facts.id, pending=facts.pending)

    def _hidden(self, facts: ChunkFacts) -> bool:
        return self._attempt.asks_usage and bool(facts.meaning & Meaning.USAGE_ONLY)

    # end

    def usage(self) -> Usage | None:
        """What the upstream reported so far."""
        translation, translator = self._attempt.translation, self._translator
        reading, reported = self._reading, self._usage
        if translation is not None and translator is not None:  # whose own events hold zeros where nothing is known
            reading, reported = translation.reading, translator.usage
        return reading.account(reported) if reported is not None else None

    def _upstream_ended(self) -> None:
        """The upstream's body ended, cleanly as far as HTTP knows, without its terminal marker (PROTOCOL 5.5)."""
        if self._translation_ended():
            return
        if not self._relaying:
            cause = Cause.TRUNCATED if self._held or self._reader.rest else Cause.EMPTY
            if cause is Cause.EMPTY and self._stored:  # nothing has come behind what the client has
                self._commit([])
                self._end()
            else:
                self._exchange.failed(Failure(verdict=VERDICTS[cause], status=200))
            return
        if not self._opaque and self._reader.rest:
            last = self._reader.flush()
            if self._reading.chunk(last).meaning & Meaning.DONE and self._pass([last + b"\n\n"]):
                return
        if self._said_error is None and self._may_end_here():
            self._end()
        elif not self.ended_without_saying():
            self._exchange.failed(Failure(verdict=VERDICTS[Cause.TRUNCATED], status=200))

    def _may_end_here(self) -> bool:
        """The dialect's last event looks like any other, and what came last may have been it."""
        if self._marked or (self._said.until_close and self._reply.chunked):  # a cut would look the same
            return False
        return self._reading.open_ended or bool(self._finished) or self._unread_at == self.contents

    def ended_without_saying(self) -> bool:
        """Every choice had its finish reason: the client has the whole answer, whatever became of the connection.

        What the upstream said of its failure is no less true for that either.
        """
        if self._relaying and self._translation_ended():
            return True
        if self._said_error is not None:
            self._exchange.failed(Failure(verdict=self._said_error, status=200))
            return True
        if not self._relaying or self._opaque or len(self._finished) < self._choices:
            return False
        if closing := self._reading.done or self._reading.closing:
            self._reply.write(closing)
        self._end()
        return True

    def _translation_ended(self) -> bool:
        """Let a translation say what its end is, if the upstream has said as much. Returns whether that ended it."""
        last = self._translator.end() if self._translator is not None else b""
        return bool(last) and self._take(last, translated=True)

    def _end(self) -> None:
        if self._said_error is not None:
            self._exchange.ended_in_error(self._said_error, self.usage(), self.contents)
        else:
            self._exchange.succeeded(self.usage(), self.contents)

    def output_estimate(self) -> int:
        """Most upstreams send a token in an event."""
        return self.contents

    def has_failed(self) -> bool:
        """The upstream said so in an event of its own."""
        return self._said_error is not None

    def takes_events(self) -> bool:
        """Only whole events have gone out, and none of them said that the stream has failed."""
        return not self._opaque and self._said_error is None


def _objection(facts: ChunkFacts) -> Verdict | None:
    """Why a stream that begins so is no answer, if it is none."""
    if facts.error is not None:
        return of_error_body(facts.error.code, facts.error.type, facts.error.message)
    if facts.meaning & Meaning.DONE and not facts.meaning & (Meaning.CONTENT | Meaning.FINISH):
        return VERDICTS[Cause.EMPTY]
    if facts.meaning & Meaning.BAD:
        return VERDICTS[Cause.PROTOCOL]
    return None
