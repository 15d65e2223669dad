"""What clients ask and upstreams answer: every event names the client, so that a mix-up shows (RELIABILITY 6.2)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from tests.harness import chat
from tests.harness.answers import named


class Endpoint(StrEnum):
    """What is asked for; the value is the path."""

    CHAT = "/v1/chat/completions"
    MESSAGES = "/v1/messages"
    EMBEDDINGS = "/v1/embeddings"


PING = named("ping")
"""The heartbeat on Anthropic's routes."""

MODELS = {Endpoint.CHAT: "chat", Endpoint.MESSAGES: "claude", Endpoint.EMBEDDINGS: "embed"}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the answer to one request is like. Its name says all of it, and travels with the request."""

    number: int
    pieces: int
    size: int
    """Characters of each piece, at least."""
    gap_ms: int
    """Between two events."""

    @property
    def name(self) -> str:
        return f"soak-{self.number}-{self.pieces}-{self.size}-{self.gap_ms}"

    @classmethod
    def of(cls, name: str) -> Self:
        return cls(*map(int, name.split("-")[1:]))

    @property
    def texts(self) -> list[str]:
        return [f"[{self.name} {place}]".ljust(self.size, "~") for place in range(self.pieces)]

    @property
    def prompt(self) -> int:
        """Tokens."""
        return 7 + self.number % 41

    @property
    def output(self) -> int:
        """Tokens."""
        return 3 + self.number % 29

    @property
    def asks_usage(self) -> bool:
        """The client of a chat stream wants the usage event; from the others it must be hidden."""
        return self.number % 2 == 1


def request(endpoint: Endpoint, shape: Shape, *, stream: bool, padding: int = 0) -> bytes:
    """The body of a request; `padding` makes it so many bytes longer."""
    content = "Say something." + "x" * padding
    asked: dict[str, Any] = {"model": MODELS[endpoint]}
    if endpoint is Endpoint.EMBEDDINGS:
        asked |= {"input": content, "user": shape.name}
    elif endpoint is Endpoint.CHAT:
        asked |= {"messages": [{"role": "user", "content": content}], "user": shape.name}
        if stream and shape.asks_usage:
            asked["stream_options"] = {"include_usage": True}
    else:
        asked |= {"messages": [{"role": "user", "content": content}], "metadata": {"user_id": shape.name}}
        asked["max_tokens"] = 64
    if stream:
        asked["stream"] = True
    return json.dumps(asked).encode()


def asked_by(body: Any) -> str:
    """The name in a request."""
    name = body["metadata"]["user_id"] if "metadata" in body else body["user"]
    assert isinstance(name, str)
    return name


def tokens(endpoint: Endpoint, shape: Shape) -> int:
    """What the upstream reports for a whole answer."""
    return shape.prompt if endpoint is Endpoint.EMBEDDINGS else shape.prompt + shape.output


def whole(endpoint: Endpoint, shape: Shape) -> bytes:
    """The answer to a request without `stream`."""
    text = "".join(shape.texts)
    if endpoint is Endpoint.CHAT:
        return chat.completion(text, prompt=shape.prompt, output=shape.output)
    if endpoint is Endpoint.EMBEDDINGS:
        usage = {"prompt_tokens": shape.prompt, "total_tokens": shape.prompt}
        data = [{"object": "embedding", "index": 0, "embedding": [0.25, -1.5]}]
        return json.dumps({"object": "list", "x_text": text, "model": "served", "data": data, "usage": usage}).encode()
    return json.dumps(
        _message(shape, shape.output) | {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
    ).encode()


def events(endpoint: Endpoint, shape: Shape, *, usage: bool) -> list[bytes]:
    """The events of a stream; `usage` as for OpenAI's `include_usage`, Anthropic's streams always have it."""
    if endpoint is Endpoint.CHAT:
        last = [chat.usage_event(shape.prompt, shape.output)] if usage else []
        return [*chat.answer(*shape.texts), *last, chat.DONE]
    deltas = [{"type": "text_delta", "text": text} for text in shape.texts]
    return [
        named("message_start", message=_message(shape, 1) | {"content": [], "stop_reason": None}),
        named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(named("content_block_delta", index=0, delta=delta) for delta in deltas),
        named("content_block_stop", index=0),
        named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": shape.output}),
        named("message_stop"),
    ]


def all_said(endpoint: Endpoint, shape: Shape) -> list[bytes]:
    """What is left of a stream whose upstream went between the reason for which it finished and its last event.

    Nothing is missing from the answer, so the router ends it well (DESIGN 5, step 9): in OpenAI's dialect as always, in
    Anthropic's without the last event, which carries nothing.
    """
    said = events(endpoint, shape, usage=False)
    return said[:-1] if endpoint is Endpoint.MESSAGES else said


def error_event(endpoint: Endpoint) -> bytes:
    """An upstream's word inside a stream that it has failed."""
    error = {"type": "api_error", "message": "It broke."}
    if endpoint is Endpoint.MESSAGES:
        return named("error", error=error)
    return chat.event({"error": error})


def _message(shape: Shape, output: int) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "served",
        "usage": {"input_tokens": shape.prompt, "output_tokens": output},
    }
