"""Streams of one protocol in the events of the other, both ways (PROTOCOL 10.3)."""

from __future__ import annotations

from typing import Any

from router.protocol import sse
from router.protocol.sse import EventReader
from router.protocol.translate.stream_to_chat import StreamToChat
from router.protocol.translate.stream_to_messages import StreamToMessages
from tests.fuzz.pieces import ways
from tests.fuzz.targets.sse import WORDS as SSE_WORDS
from tests.fuzz.targets.translate import strictly

BYTES_MAX = 2048
WORDS = (
    *SSE_WORDS, b"message_start", b"content_block_stop", b"tool_use", b"input_json_delta", b"partial_json",
    b"text_delta", b"thinking_delta", b"signature_delta", b"signature", b"thinking", b"redacted_thinking", b"input",
    b"tool_calls", b"function", b"arguments", b"name", b"call_1", b"id", b"reasoning_content", b"refusal", b"end_turn",
    b"tool_use", b"stop", b"length", b'{\\"a\\":1}', b'"}', b"529", b"overloaded_error",
)  # fmt: skip

_CREATED = 1_700_000_000
_BLOCK_EVENTS = {"content_block_start", "content_block_delta", "content_block_stop"}


def check(data: bytes) -> None:
    """Translate the stream both ways, however it comes."""
    for make, judge in ((_to_chat, _judge_chat), (_to_chat_signed, _judge_chat), (StreamToMessages, _judge_messages)):
        out, usage = _translated(make(), [data])
        judge(_events(out))
        for number, pieces in enumerate(ways(data)):
            if number < 3:
                assert _translated(make(), pieces) == (out, usage), "how it came changes what it is"


def _to_chat() -> StreamToChat:
    return StreamToChat(created=_CREATED)


def _to_chat_signed() -> StreamToChat:
    return StreamToChat(created=_CREATED, thinking_blocks=True)


def _translated(translator: Any, pieces: list[bytes]) -> tuple[bytes, Any]:
    out = b"".join(map(translator.feed, pieces))
    was_over = translator.over
    last = translator.end()
    assert not (was_over and last), "said behind the end"
    assert not translator.over or not translator.feed(b"data: {}\n\n")
    return out + last, translator.usage


def _events(out: bytes) -> list[bytes]:
    reader = EventReader()
    events = reader.feed(out)
    assert set(reader.rest.split(b"\n")) <= {b": ping", b""}, f"half an event: {reader.rest!r}"
    return events


def _judge_chat(events: list[bytes]) -> None:
    """Chunks, and at their end the terminal marker behind a finish reason, or an error, or nothing."""
    over = finished = False
    calls: dict[int, str] = {}
    for event in events:
        assert not over, f"behind the end: {event!r}"
        data = sse.data_of(event)
        if data is None:
            continue
        if data == b"[DONE]":
            assert finished
            over = True
            continue
        chunk = strictly(data)
        if "error" in chunk:
            over = True
            continue
        assert chunk["object"] == "chat.completion.chunk"
        for choice in chunk["choices"]:
            assert not finished or not choice["delta"]
            finished = finished or choice["finish_reason"] is not None
            for call in choice["delta"].get("tool_calls", ()):
                index = int(call["index"])
                assert index in calls or index == len(calls)
                calls[index] = calls.get(index, "") + call["function"]["arguments"]


def _judge_messages(events: list[bytes]) -> None:
    """One message, its blocks one behind the other, each opened and closed; or an error, and then nothing."""
    names: list[str] = []
    opened = -1
    is_open = False
    for event in events:
        assert not names or names[-1] not in {"message_stop", "error"}, f"behind the end: {event!r}"
        name, data = sse.name_and_data(event)
        said = strictly(data or b"")
        assert said["type"] == name
        if name == "message_start":
            assert not names
        elif name in _BLOCK_EVENTS:
            assert names[:1] == ["message_start"]
            assert "message_delta" not in names
            index = int(said["index"])
            if name == "content_block_start":
                assert not is_open
                assert index == opened + 1
                is_open, opened = True, index
            else:
                assert is_open
                assert index == opened
                is_open = name == "content_block_delta"
        elif name in {"message_delta", "message_stop"}:
            assert not is_open
        else:
            assert name == "error", name
        names.append(name)
    assert "message_stop" not in names or "message_delta" in names
