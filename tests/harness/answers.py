"""What upstreams answer on each endpoint: objects, and the events of streams (PROTOCOL 2, 5.3, 5.4).

Texts hold characters of several bytes, and token counts are such that no two classes of them are alike.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from typing import Any

from tests.harness import chat

Json = dict[str, Any]

CREATED = 1_795_000_000
PIECES = ("Grüße", " from", " ✓ upstream", ".")
TEXT = "".join(PIECES)
ARGUMENTS = ('{"city": "Zü', 'rich", "days"', ": 2}")
TOOL = {"name": "weather", "arguments": "".join(ARGUMENTS)}
VECTOR = (0.25, -1.5, 0.0009765625)
"""Exact as 32-bit floats, so that both encodings of an embedding say the same."""
SOUND = tuple(bytes([start]) + bytes(range(256)) * 40 for start in (0xFF, 0x80, 0x00))
"""The pieces of a spoken text: bytes that are no text."""
PICTURE = base64.b64encode(bytes(range(256)) * 256).decode()
SUBTITLES = f"1\n00:00:00,000 --> 00:00:02,500\n{TEXT}\n\n"


def named(kind: str, **members: Any) -> bytes:
    """One event whose name stands in its `event:` line and in its `type`."""
    return f"event: {kind}\n".encode() + chat.event({"type": kind, **members})


def digest(value: Any) -> str:
    """A name for a value: the same one at every upstream."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


# -- chat and completions

CHAT_USAGE = {
    "prompt_tokens": 24,
    "completion_tokens": 17,
    "total_tokens": 41,
    "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 0},
}
COMPLETION_USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def chat_completion(*, tools: bool) -> Json:
    call = {"id": "call_1", "type": "function", "function": TOOL}
    message: Json = {"content": None, "tool_calls": [call]} if tools else {"content": TEXT, "refusal": None}
    choice = {"index": 0, "message": {"role": "assistant", **message}, "logprobs": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": CREATED,
        "model": "served-2026-11-01",
        "choices": [choice | {"finish_reason": "tool_calls" if tools else "stop"}],
        "usage": CHAT_USAGE,
        "system_fingerprint": "fp_1",
    }


def chat_events(*, tools: bool, usage: bool) -> list[bytes]:
    """Up to and without `[DONE]`."""
    deltas: list[Json]
    if tools:
        first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": TOOL["name"], "arguments": ""}}
        deltas = [{"role": "assistant", "content": None, "tool_calls": [first]}]
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in ARGUMENTS]
    else:
        deltas = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in PIECES)]
    choices: list[list[Json]]
    choices = [[{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}] for delta in deltas]
    choices += [[{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls" if tools else "stop"}]]
    more: Json = {"usage": None} if usage else {}
    events = [chat.event(_chat_chunk(choice) | more) for choice in choices]
    return [*events, chat.event(_chat_chunk([]) | {"usage": CHAT_USAGE})] if usage else events


def _chat_chunk(choices: list[Any]) -> Json:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": "served-2026-11-01",
        "choices": choices,
    }


def completion(text: str, finish: str | None = "stop") -> Json:
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": CREATED,
        "model": "served-2026-11-01",
        "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": finish}],
    }


def completion_events(*, usage: bool) -> list[bytes]:
    """Up to and without `[DONE]`."""
    chunks = [completion(piece, None) for piece in PIECES] + [completion("")]
    if usage:
        chunks.append(completion("") | {"choices": [], "usage": COMPLETION_USAGE})
    return [chat.event(chunk) for chunk in chunks]


# -- responses

RESPONSES_USAGE = {
    "input_tokens": 30,
    "input_tokens_details": {"cached_tokens": 10},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 42,
}


def response_id(asked: Any) -> str:
    """The id of the response to this `input`, at whichever upstream it is stored."""
    return f"resp_{digest(asked)}"


def response(asked: Any, *, tools: bool = False, status: str = "completed", **more: Any) -> Json:
    done = status == "completed"
    item: Json = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
    }
    if tools:
        item = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "status": "completed", **TOOL}
    return {
        "id": response_id(asked),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": "served-2026-11-01",
        "output": [item] if done else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
        "usage": RESPONSES_USAGE if done else None,
    } | more


def response_events(whole: Json) -> list[bytes]:
    """The events of a streamed response, from `response.created` to `response.completed`."""
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    item = whole["output"][0]
    place: Json = {"item_id": item["id"], "output_index": 0}
    steps: list[tuple[str, Json]] = [("created", {"response": begun}), ("in_progress", {"response": begun})]
    if item["type"] == "message":
        part = item["content"][0]
        where = place | {"content_index": 0}
        steps += [
            ("output_item.added", {"output_index": 0, "item": item | {"status": "in_progress", "content": []}}),
            ("content_part.added", where | {"part": part | {"text": ""}}),
            *(("output_text.delta", where | {"delta": piece, "logprobs": []}) for piece in PIECES),
            ("output_text.done", where | {"text": TEXT, "logprobs": []}),
            ("content_part.done", where | {"part": part}),
        ]
    else:
        steps += [
            ("output_item.added", {"output_index": 0, "item": item | {"status": "in_progress", "arguments": ""}}),
            *(("function_call_arguments.delta", place | {"delta": piece}) for piece in ARGUMENTS),
            ("function_call_arguments.done", place | {"name": item["name"], "arguments": item["arguments"]}),
        ]
    steps += [("output_item.done", {"output_index": 0, "item": item}), ("completed", {"response": whole})]
    return [named(f"response.{kind}", sequence_number=number, **more) for number, (kind, more) in enumerate(steps)]


def input_items(asked: Any) -> Json:
    part = {"type": "input_text", "text": asked if isinstance(asked, str) else json.dumps(asked)}
    item = {"id": "msg_0", "type": "message", "role": "user", "status": "completed", "content": [part]}
    return {"object": "list", "data": [item], "first_id": "msg_0", "last_id": "msg_0", "has_more": False}


def compacted(asked: Any) -> Json:
    items = [{"id": "cmp_1", "type": "compaction", "encrypted_content": digest(asked)}]
    return {
        "id": response_id(asked),
        "object": "response.compaction",
        "created_at": CREATED,
        "output": items,
        "usage": RESPONSES_USAGE,
    }


# -- embeddings, moderations, rerank, decisions

EMBEDDING_USAGE = {"prompt_tokens": 6, "total_tokens": 6}


def embeddings(count: int, *, as_base64: bool) -> Json:
    packed = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
    vector = packed if as_base64 else list(VECTOR)
    data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(count)]
    return {"object": "list", "data": data, "model": "served-2026-11-01", "usage": EMBEDDING_USAGE}


def moderation() -> Json:
    names = ("harassment", "hate", "illicit", "self-harm", "sexual", "violence", "violence/graphic")
    result = {
        "flagged": True,
        "categories": {name: name == "violence" for name in names},
        "category_scores": {name: 0.875 if name == "violence" else 0.0009765625 for name in names},
        "category_applied_input_types": {name: ["text"] for name in names},
    }
    return {"id": "modr-1", "model": "served-2026-11-01", "results": [result]}


def rerank(documents: list[Any]) -> Json:
    """As Jina, vLLM and llama.cpp write it."""
    results = [
        {"index": index, "relevance_score": 0.5 / (index + 1), "document": {"text": text}}
        for index, text in enumerate(documents)
    ]
    return {"model": "served", "results": results, "usage": {"total_tokens": 32, "prompt_tokens": 32}}


def decision() -> Json:
    answer = {"type": "predicate", "name": "polite", "probability": 0.75}
    usage = RESPONSES_USAGE | {"input_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 0}}
    return {"id": "dec_1", "object": "decision", "model": "served", "answers": [answer], "usage": usage}


# -- images

IMAGE_USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    "output_tokens": 272,
    "total_tokens": 322,
}


def images(count: int, *, usage: bool = True) -> Json:
    body: Json = {"created": CREATED, "data": [{"b64_json": PICTURE}] * count}
    return body | {"output_format": "png", "quality": "low", "usage": IMAGE_USAGE} if usage else body


def image_events(kind: str) -> list[bytes]:
    """`kind` is `image_generation` or `image_edit`."""
    common = {"b64_json": PICTURE, "created_at": CREATED, "size": "1024x1024", "quality": "low", "background": "auto"}
    common |= {"output_format": "png"}
    return [
        named(f"{kind}.partial_image", **common, partial_image_index=0),
        named(f"{kind}.partial_image", **common, partial_image_index=1),
        named(f"{kind}.completed", **common, usage=IMAGE_USAGE),
    ]


# -- audio

SPEECH_USAGE = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
TRANSCRIPTION_USAGE = {
    "type": "tokens",
    "input_tokens": 21,
    "input_token_details": {"audio_tokens": 16, "text_tokens": 5},
    "output_tokens": 45,
    "total_tokens": 66,
}


def speech_events() -> list[bytes]:
    pieces = [chat.event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()}) for piece in SOUND]
    return [*pieces, chat.event({"type": "speech.audio.done", "usage": SPEECH_USAGE})]


def transcription() -> Json:
    return {"text": TEXT, "usage": TRANSCRIPTION_USAGE}


def verbose_transcription() -> Json:
    segment = {"id": 0, "seek": 0, "start": 0.0, "end": 2.5, "text": TEXT, "tokens": [1, 2], "temperature": 0.0}
    segment |= {"avg_logprob": -0.25, "compression_ratio": 1.5, "no_speech_prob": 0.125}
    usage = {"type": "duration", "seconds": 9}
    return {"task": "transcribe", "language": "de", "duration": 8.5, "text": TEXT, "segments": [segment]} | {
        "usage": usage
    }


def transcription_events() -> list[bytes]:
    deltas = [chat.event({"type": "transcript.text.delta", "delta": piece}) for piece in PIECES]
    return [*deltas, chat.event({"type": "transcript.text.done", "text": TEXT, "usage": TRANSCRIPTION_USAGE})]


# -- Anthropic's messages

MESSAGES_USAGE = {
    "input_tokens": 19,
    "cache_creation_input_tokens": 7,
    "cache_read_input_tokens": 6,
    "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 3},
    "output_tokens": 11,
    "service_tier": "standard",
}
_TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": TOOL["name"]}
_THOUGHT = ("Let me", " think.")
_SIGNATURE = "EqQBCgIYAhIM"


def message(*, tools: bool = False, thinking: bool = False) -> Json:
    content: list[Json] = [{"type": "text", "text": TEXT}]
    if thinking:
        content.insert(0, {"type": "thinking", "thinking": "".join(_THOUGHT), "signature": _SIGNATURE})
    if tools:
        content.append({**_TOOL_USE, "input": json.loads(TOOL["arguments"])})
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "served-claude-2026-11-01",
        "content": content,
        "stop_reason": "tool_use" if tools else "end_turn",
        "stop_sequence": None,
        "usage": MESSAGES_USAGE,
    }


def message_events(*, tools: bool = False, thinking: bool = False) -> list[bytes]:
    begun = message() | {"content": [], "stop_reason": None, "usage": MESSAGES_USAGE | {"output_tokens": 1}}
    blocks: list[tuple[Json, list[Json]]] = []
    if thinking:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _THOUGHT]
        signed = {"type": "signature_delta", "signature": _SIGNATURE}
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signed]))
    blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in PIECES]))
    if tools:
        parts = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *ARGUMENTS)]
        blocks.append((_TOOL_USE | {"input": {}}, parts))
    events = [named("message_start", message=begun)]
    for index, (block, deltas) in enumerate(blocks):
        events.append(named("content_block_start", index=index, content_block=block))
        if index == 0:
            events.append(named("ping"))
        events += [named("content_block_delta", index=index, delta=delta) for delta in deltas]
        events.append(named("content_block_stop", index=index))
    delta = {"stop_reason": "tool_use" if tools else "end_turn", "stop_sequence": None}
    usage = {"output_tokens": MESSAGES_USAGE["output_tokens"]}
    return [*events, named("message_delta", delta=delta, usage=usage), named("message_stop")]


# -- models and errors


def models(*ids: str) -> Json:
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "upstream"} for name in ids]
    return {"object": "list", "data": data}


def anthropic_models(*ids: str) -> Json:
    data = [
        {"type": "model", "id": name, "display_name": name.title(), "created_at": "2026-11-01T00:00:00Z"}
        for name in ids
    ]
    return {"data": data, "has_more": False, "first_id": ids[0], "last_id": ids[-1]}


def error(kind: str, text: str, *, param: str | None = None, code: str | None = None) -> Json:
    return {"error": {"message": text, "type": kind, "param": param, "code": code}}


def anthropic_error(kind: str, text: str) -> Json:
    return {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_upstream"}
