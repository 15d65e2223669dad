"""Chat completions in OpenAI's dialect: what clients ask, what upstreams answer, as exact bytes (PROTOCOL 2.1, 5.3)."""

from __future__ import annotations

import json

CONTENT_TYPE_JSON = "content-type: application/json"
CONTENT_TYPE_SSE = "content-type: text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"
HEARTBEAT = b": ka\n"


def request(*, stream: bool = False, model: str = "m", **more: object) -> bytes:
    """A chat request as the SDKs write it, compact JSON."""
    members: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": "Say hello."}]}
    if stream:
        members["stream"] = True
    return json.dumps(members | more, separators=(",", ":")).encode()


def usage(prompt: int = 9, completion: int = 4) -> dict[str, int]:
    """A usage object that adds up."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def completion(content: str = "Hello.", *, prompt: int = 9, output: int = 4) -> bytes:
    """A whole answer, with odd spacing so that a rewritten one would show."""
    message = {"role": "assistant", "content": content}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "upstream-name",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage(prompt, output),
    }
    return b"{ " + json.dumps(body).encode()[1:-1] + b',  "x_odd": 1.10 }'


def error_body(message: str = "It broke.", *, kind: str = "server_error", code: str | None = None) -> bytes:
    """An error object as OpenAI writes it."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    return json.dumps({"error": error}, indent=2).encode()


def event(data: object) -> bytes:
    """One SSE event that carries `data` as JSON."""
    return b"data: " + json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
    """One `chat.completion.chunk` event."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event(
        {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "u", "choices": [choice]}
    )


def role() -> bytes:
    """The first event of most upstreams: a role and no content."""
    return chunk({"role": "assistant", "content": ""})


def token(text: str) -> bytes:
    """An event with content."""
    return chunk({"content": text})


def finish(reason: str = "stop") -> bytes:
    """The event that says why the answer ends."""
    return chunk({}, reason)


def usage_event(prompt: int = 9, completion: int = 4) -> bytes:
    """The extra event that `include_usage` asks for: no choices, only usage."""
    return event(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "u",
            "choices": [],
            "usage": usage(prompt, completion),
        }
    )


def answer(*texts: str) -> tuple[bytes, ...]:
    """The events of a whole answer up to and without `[DONE]`."""
    return (role(), *(token(text) for text in texts), finish())
