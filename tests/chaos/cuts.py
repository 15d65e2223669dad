"""Streams that are cut: whole answers as events in three dialects, the places to cut them at, and the ways to end.

What is cut where follows from the name of the request and the seed alone. Only the first attempt at a name is cut: a
gateway that may still try elsewhere, because no content was sent, gets a whole answer there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.upstreams import Upstream, name_in, usage, words
from tests.harness import chat
from tests.harness.upstream import Turn, cut, error, head, reset

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

UNCUT_SHARE = 0.05
"""Streams that are not cut: who answered everything with an error would not get these right."""
PAUSE_S = 0.002
"""Between the last bytes and the end of some streams; in the others both come together."""

Events = list[bytes]


class Place(StrEnum):
    """Where in the answer."""

    HEAD = "after the head"
    OPENING = "after the first event, which has no content"
    IN_OPENING = "inside the first event"
    BETWEEN = "between two events"
    IN_EVENT = "inside an event"
    IN_CHARACTER = "inside a character"
    IN_FINISH = "inside the event that says why the answer ends"
    BEFORE_FINISH = "after all content"


BEFORE_CONTENT = (Place.HEAD, Place.OPENING, Place.IN_OPENING)


class Ending(StrEnum):
    """What comes after the last byte."""

    FIN = "the connection closes inside a chunked body"
    RESET = "the connection is reset"
    CLEAN = "the chunked body ends as if it were whole"
    GARBAGE = "what should be the size of a chunk is none"
    SHORT_CHUNK = "a chunk is shorter than its size"
    SHORT_LENGTH = "the body is shorter than its content-length"
    CLOSE = "an unframed body ends with its connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens to one stream."""

    place: Place | None
    """None: nothing."""
    ending: Ending
    together: bool
    """The last bytes and the end come at once."""
    usage_always: bool
    """Every event tells the usage so far, as vLLM can: it is no sign of an end."""
    rng: Random

    @property
    def breaks(self) -> bool:
        """Content was sent before the cut: nobody can repair that."""
        return self.place is not None and self.place not in BEFORE_CONTENT


def plan(name: str, seed: int) -> Plan:
    rng = Random(f"{seed}.{name}")
    uncut = rng.random() < UNCUT_SHARE
    return Plan(
        place=None if uncut else rng.choice(list(Place)),
        ending=rng.choice(list(Ending)),
        together=rng.random() < 0.5,
        usage_always=rng.random() < 0.25,
        rng=rng,
    )


class CuttingUpstream(Upstream):
    """It plays the plan of each name once, and whole answers after that.

    `attempts` is shared by all upstreams of a gateway.
    """

    def __init__(self, seed: int, attempts: Counter[str]) -> None:
        super().__init__()
        self._seed = seed
        self._attempts = attempts
        self.always(self._serve_cut)

    async def _serve_cut(self, turn: Turn) -> None:
        if not turn.request.line.startswith(b"POST "):
            await error(404)(turn)
            return
        name = name_in(turn.request.json)
        self._attempts[name] += 1
        route = turn.request.line.split(b" ")[1].rpartition(b"/")[2].decode()
        decided = plan(name, self._seed)
        events = DIALECTS[route](name, decided.usage_always)
        if decided.place is None or self._attempts[name] > 1:
            await turn.send(head(200, chat.CONTENT_TYPE_SSE, "transfer-encoding: chunked"))
            await turn.chunk(b"".join(events))
            await turn.send(b"0\r\n\r\n")
        else:
            await _play(turn, events, decided.place, decided)


async def _play(turn: Turn, events: Events, place: Place, decided: Plan) -> None:
    data = b"".join(events)[: offset(events, place, decided.rng)]
    if decided.ending is Ending.CLOSE:
        await turn.send(head(200, chat.CONTENT_TYPE_SSE, "connection: close") + data)
    elif decided.ending is Ending.SHORT_LENGTH:
        await turn.send(head(200, chat.CONTENT_TYPE_SSE, f"content-length: {len(data) + 500}") + data)
    else:
        await turn.send(head(200, chat.CONTENT_TYPE_SSE, "transfer-encoding: chunked"))
        size = len(data) + (100 if decided.ending is Ending.SHORT_CHUNK else 0)
        if size:
            await turn.send(b"%x\r\n%b" % (size, data))
        if data and decided.ending is not Ending.SHORT_CHUNK:
            await turn.send(b"\r\n")
    if not decided.together:
        await asyncio.sleep(PAUSE_S)
    if decided.ending is Ending.CLEAN:
        await turn.send(b"0\r\n\r\n")
    elif decided.ending is Ending.GARBAGE:
        await turn.send(b"zz\r\nnonsense\r\n")
    else:
        await (reset() if decided.ending is Ending.RESET else cut())(turn)


def offset(events: Events, place: Place, rng: Random) -> int:
    """How many bytes of the answer are sent. The first event has no content, and the last but one says why it ends."""
    starts = [sum(map(len, events[:number])) for number in range(len(events))]
    first, finish = 1, len(events) - 2
    inner = rng.randrange(first + 1, finish)
    match place:
        case Place.HEAD:
            return 0
        case Place.OPENING:
            return starts[first]
        case Place.IN_OPENING:
            return rng.randrange(1, starts[first] - 1)
        case Place.BETWEEN:
            return starts[inner]
        case Place.IN_EVENT:
            return starts[inner] + rng.randrange(1, len(events[inner]) - 1)
        case Place.IN_CHARACTER:
            event = events[inner]
            inside = [at for at, byte in enumerate(event) if byte & 0xC0 == 0x80]
            return starts[inner] + rng.choice(inside)
        case Place.IN_FINISH:
            return starts[finish] + rng.randrange(1, len(events[finish]) - 1)
        case Place.BEFORE_FINISH:
            return starts[finish]


def _chat(name: str, usage_always: bool) -> Events:
    so_far = {"usage": chat.usage(*usage(name))} if usage_always else {}
    common = {"id": f"chatcmpl-{name}", "object": "chat.completion.chunk", "created": 1, "model": "m"} | so_far

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        return chat.event(common | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    told = [chunk({"content": word}) for word in words(name)]
    return [chunk({"role": "assistant", "content": ""}), *told, chunk({}, "stop"), chat.DONE]


def _responses(name: str, _: bool) -> Events:
    prompt, completion = usage(name)
    common = {"id": f"resp_{name}", "object": "response", "created_at": 1, "model": "m", "output": [], "error": None}
    place = {"item_id": f"msg_{name}", "output_index": 0, "content_index": 0, "logprobs": []}
    used = {"input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion}
    events: list[dict[str, object]] = [
        {"type": "response.created", "response": common | {"status": "in_progress", "usage": None}},
        *({"type": "response.output_text.delta"} | place | {"delta": word} for word in words(name)),
        {"type": "response.completed", "response": common | {"status": "completed", "usage": used}},
    ]
    numbered = [_named(each | {"sequence_number": number}) for number, each in enumerate(events)]
    return [*numbered, b""]  # no marker follows the last event


def _messages(name: str, _: bool) -> Events:
    prompt, completion = usage(name)
    message: dict[str, object] = {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
    }
    message |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": prompt, "output_tokens": 1}}
    text = {"type": "text", "text": ""}
    deltas = [{"type": "text_delta", "text": word} for word in words(name)]
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    events: list[dict[str, object]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": text},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": completion}},
        {"type": "message_stop"},
    ]
    start, begin, *told, end, finish, last = (_named(each) for each in events)
    return [start + begin, *told, end + finish, last]


def _named(data: dict[str, object]) -> bytes:
    return f"event: {data['type']}\n".encode() + chat.event(data)


DIALECTS: dict[str, Callable[[str, bool], Events]] = {
    "completions": _chat,
    "responses": _responses,
    "messages": _messages,
}
"""By the last step of the path."""
