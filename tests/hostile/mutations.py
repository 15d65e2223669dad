"""What a hostile client sends: whole connections made of a good one by independent alterations, and by pairs of them.

An alteration changes one place of a request: what stands before it, its first line, its header lines, how its body is
framed, how its head ends, how the bytes are cut into packets. Every connection holds markers of its own, so that
whatever arrives anywhere tells where it came from; behind the altered request follows a good one, and in some bodies
another one hides (RELIABILITY 6.6, M1 to M21).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

from tests.hostile import spellings
from tests.hostile.chats import CHAT, MARK, asking, good

Alter = Callable[["Message"], None]

SEED = 9112


@dataclass(slots=True)
class Message:
    """A request in pieces, each of which can be altered."""

    number: int
    before: bytes = b""
    method: bytes = b"POST"
    gap: bytes = b" "
    target: bytes = CHAT
    second_gap: bytes = b" "
    version: bytes = b"HTTP/1.1"
    line_end: bytes = b"\r\n"
    rows: list[bytes] = field(default_factory=list)
    """Header lines without their line ends."""
    row_end: bytes = b"\r\n"
    framing: list[bytes] = field(default_factory=list)
    """The same, of the body's framing; they come last."""
    behind: list[bytes] = field(default_factory=list)
    """The same, behind the framing."""
    head_end: bytes = b"\r\n"
    body: bytes = b""
    behind_all: Callable[[bytes], bytes] = lambda request: request
    """What follows, given the good request that usually does."""
    warm: bool = False
    """A good request goes first, and its answer is awaited."""
    cuts: Callable[[bytes, int], list[int]] = lambda _wire, _head: []
    """Where packets end, given the bytes and where the head ends."""

    def mark(self, part: str) -> str:
        return MARK % (self.number, part)

    def json(self, part: str = "a") -> bytes:
        """A good body with a marker."""
        return asking(self.mark(part))

    def head(self) -> bytes:
        line = self.method + self.gap + self.target + self.second_gap + self.version + self.line_end
        rows = b"".join(row + self.row_end for row in (*self.rows, *self.framing, *self.behind))
        return self.before + line + rows + self.head_end


@dataclass(frozen=True, slots=True)
class Mutation:
    """One connection."""

    name: str
    number: int
    packets: tuple[bytes, ...]
    warm: bytes
    """A good request that is sent first, and answered; or nothing."""

    @property
    def wire(self) -> bytes:
        """All that the client sends."""
        return self.warm + b"".join(self.packets)


WARMED = ("before", "body", "next", "packets")
"""Slots that leave the rest of the head as it was, so that it is met again behind a good request."""


def mutations(pairs: int, *, method: bytes = b"POST", target: bytes = CHAT, warmed: bool = False) -> list[Mutation]:
    """Every alteration by itself and so many pairs of them, the same each time.

    `method` and `target` are what the alterations start from, for whichever part of the router is to answer. `warmed`:
    those of `WARMED` also behind a good request on the same connection.
    """
    single = list(_alterations())
    warm = single[-1]
    warm_couples = [(each, warm) for each in single if warmed and each[0] in WARMED]
    made: dict[tuple[bytes, ...], Mutation] = {}
    couples = [couple for couple in combinations(single, 2) if couple[0][0] != couple[1][0]]
    chosen = random.Random(SEED).sample(couples, min(pairs, len(couples)))
    for parts in (*((each,) for each in single), *warm_couples, *chosen):
        # In the order of the slots: the body is framed before packets are cut.
        name = "+".join(f"{slot}:{name}" for slot, name, _ in parts)
        mutation = _mutation(name, len(made), [alter for _, _, alter in parts], method, target)
        packets = (mutation.warm, *mutation.packets)
        made.setdefault(tuple(packet.replace(b"%05d" % mutation.number, b"") for packet in packets), mutation)
    return list(made.values())


def _mutation(name: str, number: int, alters: list[Alter], method: bytes, target: bytes) -> Mutation:
    message = Message(number, method=method, target=target)
    message.rows = [b"Host: router.test", b"x-mark: " + message.mark("a").encode()]
    _by_length(message, message.json())
    for alter in alters:
        alter(message)
    head = message.head()
    wire = head + message.body + message.behind_all(good(message.mark("b"), b"Connection: close"))
    ends = sorted({cut for cut in message.cuts(wire, len(head)) if 0 < cut < len(wire)})
    packets = [wire[start:end] for start, end in zip([0, *ends], [*ends, len(wire)], strict=True)]
    # With the head of a request that is not altered, so that the router meets it again.
    warm = good(message.mark("w"), header_mark=message.mark("a")) if message.warm else b""
    return Mutation(name, number, tuple(packets), warm)


# framing


def _by_length(message: Message, body: bytes) -> None:
    message.body = body
    message.framing = [b"Content-Length: %d" % len(body)]


def _chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def _bodies(message: Message) -> dict[str, bytes]:
    """Bodies that a length and chunks end in different places, each with or without a request in the difference."""
    hidden = good(message.mark("h"))
    return {
        "json": message.json(),
        "chunks": _chunked(message.json()),
        "hiding": b"0\r\n\r\n" + hidden,
        "hiding_chunk": _chunked(hidden),
    }


BODIES = ("json", "chunks", "hiding", "hiding_chunk")


def _framed(lines: tuple[str, ...], body: str) -> Alter:
    def alter(message: Message) -> None:
        message.body = _bodies(message)[body]
        n = len(message.body)
        numbers = {"n": n, "more": n + 1, "less": n - 1}
        message.framing = [line.format_map(numbers).encode("latin-1") for line in lines]

    return alter


def _framings() -> Iterator[tuple[str, str, Alter]]:
    for name, lines in spellings.FRAMINGS.items():
        yield from (("body", f"{name}/{body}", _framed(lines, body)) for body in BODIES)
    for value in spellings.LENGTHS:
        lines = (f"Content-Length: {value}",)
        yield from (("body", f"length={value!r}/{body}", _framed(lines, body)) for body in ("json", "hiding"))
    for value in spellings.CODINGS:
        coding = f"Transfer-Encoding: {value}"
        for body in ("chunks", "hiding_chunk"):
            yield "body", f"coding={value!r}/{body}", _framed((coding,), body)
        for body in ("hiding", "chunks"):
            yield "body", f"length+coding={value!r}/{body}", _framed(("Content-Length: {n}", coding), body)
            yield "body", f"coding={value!r}+length/{body}", _framed((coding, "Content-Length: {n}"), body)
    for spelling in spellings.NAMES:
        coding, length = spelling.format("Transfer-Encoding"), spelling.format("Content-Length")
        for body in ("hiding", "hiding_chunk"):
            lines = (f"{coding}: chunked", "Content-Length: {n}")
            yield "body", f"name={spelling!r}+length/{body}", _framed(lines, body)
            yield "body", f"name={spelling!r}/{body}", _framed((f"{coding}: chunked",), body)
            yield "body", f"length_name={spelling!r}/{body}", _framed((f"{length}: {{n}}",), body)
            lines = (length + ": 0", "Transfer-Encoding: chunked")
            yield "body", f"length_name={spelling!r}+chunked/{body}", _framed(lines, body)


def _in_chunks(form: bytes, *, hides: bool) -> Alter:
    def alter(message: Message) -> None:
        data = good(message.mark("h")) if hides else message.json()
        n = len(data)
        values = {b"b": data, b"n": n, b"m": n + 1, b"l": n - 1, b"tail": data[1:]}
        message.body = form % values
        message.framing = [b"Transfer-Encoding: chunked"]

    return alter


# the other places


def _line_alterations() -> Iterator[tuple[str, str, Alter]]:
    for method in spellings.METHODS:
        yield "line", f"method={method!r}", _setter("method", method)
    for target in spellings.TARGETS:
        yield "line", f"target={target[:40]!r}/{len(target)}", _setter("target", target)
    for version in spellings.VERSIONS:
        yield "line", f"version={version!r}", _setter("version", version)
    for gap in spellings.GAPS:
        yield "line", f"gap={gap!r}", _setter("gap", gap)
        yield "line", f"second_gap={gap!r}", _setter("second_gap", gap)
    for end in spellings.LINE_ENDS:
        yield "line", f"end={end!r}", _setter("line_end", end)


BEHIND: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "empty_line": lambda request: b"\r\n" + request,
    "lf": lambda request: b"\n" + request,
    "cr": lambda request: b"\r" + request,
    "space": lambda request: b" " + request,
    "nul": lambda request: b"\0" + request,
    "half_a_head": lambda request: request[: request.index(b"x-mark")],
    "half_a_body": lambda request: request[:-5],
    "one_byte_more": lambda request: request + b"x",
    "answer": lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + request,
    "without_host": lambda request: request.replace(b"Host:", b"Hast:"),
    "old": lambda request: request.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "handed_over": lambda request: request.replace(CHAT, b"/v1/nowhere"),
    "too_much": lambda request: b"".join([request.replace(b"Connection: close\r\n", b"")] * 400),
}
"""What comes behind the altered request."""

CUTS: dict[str, Callable[[bytes, int], list[int]]] = {
    "head_and_body": lambda _wire, head: [head],
    "in_the_blank_line": lambda _wire, head: [head - 1],
    "before_the_blank_line": lambda _wire, head: [head - 2],
    "before_the_last_line_end": lambda _wire, head: [head - 3],
    "first_byte": lambda _wire, _head: [1],
    "request_line": lambda wire, _head: [wire.find(b"\r\n") + 1, wire.find(b"\r\n") + 2],
    "body_begun": lambda _wire, head: [head, head + 1],
    "chunk_line": lambda _wire, head: [head + 3, head + 4, head + 5],
    "lines": lambda wire, head: [at + 1 for at in range(min(head, 4000)) if wire[at : at + 1] == b"\n"],
    "bytes": lambda _wire, head: list(range(1, min(head, 400) + 40)),
}


def _setter(name: str, value: object) -> Alter:
    return lambda message: setattr(message, name, value)


def _row(row: bytes, place: str) -> Alter:
    def alter(message: Message) -> None:
        getattr(message, place).append(row)

    return alter


def _no_host(message: Message) -> None:
    message.rows = message.rows[1:]


def _hosted(value: bytes) -> Alter:
    def alter(message: Message) -> None:
        message.rows = [b"Host: " + value, *message.rows[1:]]

    return alter


def _alterations() -> Iterator[tuple[str, str, Alter]]:
    """Slot, name and what it does, in the order in which they can be applied."""
    yield from _line_alterations()
    yield from (("before", f"{text[:24]!r}/{len(text)}", _setter("before", text)) for text in spellings.BEFORE)
    yield "rows", "no_host", _no_host
    yield from (("rows", f"host={value[:24]!r}", _hosted(value)) for value in spellings.HOSTS)
    for place in ("rows", "behind"):
        for row in spellings.ROWS:
            yield "rows", f"{place}={row[:40]!r}/{len(row)}", _row(row, place)
    for end in (b"\n", b"\r", b"\r\r\n", b" \r\n", b"\n\r\n"):
        yield "rows", f"row_end={end!r}", _setter("row_end", end)
    yield from _framings()
    for name, form in spellings.CHUNKS.items():
        yield "body", f"chunks_{name}", _in_chunks(form, hides=False)
        yield "body", f"hiding_chunks_{name}", _in_chunks(form, hides=True)
    yield from (("end", name, _setter("head_end", end)) for name, end in spellings.HEAD_ENDS.items())
    yield from (("next", name, _setter("behind_all", change)) for name, change in BEHIND.items())
    yield from (("packets", name, _setter("cuts", cut)) for name, cut in CUTS.items())
    yield "warm", "warm", _setter("warm", value=True)
