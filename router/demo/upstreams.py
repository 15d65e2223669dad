"""Embedded upstreams: small OpenAI look-alikes on loopback whose behaviour can be set while they run.

They play what real upstreams do: answer quickly, slowly, with errors, cut streams, fall silent. What they do follows
from counters alone, so the same requests in the same order always meet the same faults.

    curl http://127.0.0.1:PORT/_behaviour                                              # shows it
    curl http://127.0.0.1:PORT/_behaviour -d '{"latency_s": 2, "errors": {"500": 3}}'  # changes what is named
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from aiohttp import web

from router.demo.behaviour import Behaviour, changed

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = ("Every", "request", "finds", "its", "way", "to", "an", "upstream", "that", "can", "answer", "it.")
"""What the answers are made of: one word is one token."""


class ChatRequest(msgspec.Struct, frozen=True):
    """The part of a chat request that an answer depends on."""

    model: str
    messages: list[dict[str, Any]]
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a usage event."""
        return bool((self.stream_options or {}).get("include_usage"))

    @property
    def tokens_max(self) -> int | None:
        """The bound the client set on the answer."""
        return self.max_completion_tokens or self.max_tokens


class DemoUpstream:
    """One upstream: starts, answers `POST /v1/chat/completions`, takes new behaviour, stops."""

    def __init__(self, name: str, behaviour: Behaviour | None = None) -> None:
        self.name = name
        self.behaviour = behaviour or Behaviour()
        self.requests = 0
        """Chat requests received, whatever became of them."""
        self.streams = 0
        """Of these, streams that were begun."""
        self.port = 0
        """Chosen by the kernel at `start`."""
        self._stopping = asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/_behaviour", self._show)
        app.router.add_post("/_behaviour", self._change)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)

    def __repr__(self) -> str:
        """Name, address and how much it has seen."""
        return f"<DemoUpstream {self.name}: {self.base_url}, {self.requests} requests>"

    @property
    def base_url(self) -> str:
        """What stands before `/chat/completions`."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Listen on a free loopback port."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """End stalled answers, close the listener and every connection."""
        self._stopping.set()
        await self._runner.cleanup()

    def set(self, **changes: Any) -> None:
        """Change what is named and keep the rest.

        Raises:
            msgspec.ValidationError: an unknown name, or a value out of bounds.
        """
        self.behaviour = changed(self.behaviour, changes)

    def kill(self) -> None:
        """Stop answering, as a crashed process does."""
        self.set(down=True)

    def revive(self) -> None:
        """Answer again."""
        self.set(down=False)

    async def _show(self, _: web.Request) -> web.Response:
        return _json(200, msgspec.to_builtins(self.behaviour))

    async def _change(self, request: web.Request) -> web.Response:
        try:
            self.set(**msgspec.json.decode(await request.read(), type=dict[str, Any]))
        except msgspec.MsgspecError as fault:
            return _json(400, _error(400, str(fault)))
        return await self._show(request)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        nth, behaviour = self.requests, self.behaviour
        if behaviour.down:
            _abort(request)
        try:
            asked = msgspec.json.decode(await request.read(), type=ChatRequest)
        except msgspec.MsgspecError as fault:
            return _json(400, _error(400, str(fault)))
        if _due(nth, behaviour.stall_every):
            await self._stopping.wait()
            _abort(request)
        await asyncio.sleep(behaviour.latency_s)
        for status, every in sorted(behaviour.errors.items()):
            if _due(nth, every):
                return self._refusal(status, request)
        answer = Answer(self.name, nth, asked, prompt_bytes=request.content_length or 0, tokens=behaviour.tokens)
        return await self._stream(request, answer) if asked.stream else _json(200, answer.whole())

    def _refusal(self, status: int, request: web.Request) -> web.Response:
        headers = {"retry-after": str(self.behaviour.retry_after_s)} if status in {429, 503} else {}
        # Hosted upstreams quote the credential they refuse: a router must not pass that on.
        quoted = request.headers.get("authorization", "none") if status in {401, 403} else ""
        return _json(status, _error(status, f"This upstream was set to fail. {quoted}".strip()), headers)

    async def _stream(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        behaviour = self.behaviour
        self.streams += 1
        cut_after = behaviour.cut_after if _due(self.streams, behaviour.cut_every) else -1
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for index, event in enumerate(answer.events()):
            if index == cut_after:
                _abort(request)
            await response.write(event)
            await asyncio.sleep(behaviour.token_interval_s)
        return response


class Answer:
    """One completion in both of its forms."""

    def __init__(self, upstream: str, nth: int, asked: ChatRequest, *, prompt_bytes: int, tokens: int) -> None:
        self._id = f"chatcmpl-{upstream}-{nth}"
        self._asked = asked
        self._count = min(tokens, asked.tokens_max or tokens)
        self._finish = "length" if self._count < tokens else "stop"
        self._prompt_tokens = max(1, prompt_bytes // 4)

    def whole(self) -> dict[str, Any]:
        """The body of a plain answer."""
        message = {"role": "assistant", "content": "".join(self._words()), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._usage()}

    def events(self) -> Iterator[bytes]:
        """The events of a stream: role, one per token, finish, usage if it was asked for, `[DONE]`."""
        yield self._event({"role": "assistant", "content": ""})
        for word in self._words():
            yield self._event({"content": word})
        yield self._event({}, finish=self._finish)
        if self._asked.wants_usage:
            yield _sse({**self._head("chat.completion.chunk"), "choices": [], "usage": self._usage()})
        yield b"data: [DONE]\n\n"

    def _words(self) -> Iterator[str]:
        for index, word in enumerate(itertools.islice(itertools.cycle(WORDS), self._count)):
            yield f" {word}" if index else word

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": int(time.time()), "model": self._asked.model}

    def _event(self, delta: dict[str, Any], *, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _sse({**self._head("chat.completion.chunk"), "choices": [choice]})

    def _usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._count,
            "total_tokens": self._prompt_tokens + self._count,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


def _due(nth: int, every: int) -> bool:
    return every > 0 and nth % every == 0


def _abort(request: web.Request) -> NoReturn:
    """Close the connection at once, without the end that the answer's framing promises."""
    if request.transport is not None:
        request.transport.abort()
    # What the server itself raises in a handler whose client has left: nothing more is written or logged.
    raise asyncio.CancelledError


def _error(status: int, message: str) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 429 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _json(status: int, body: object, headers: dict[str, str] | None = None) -> web.Response:
    encoded = msgspec.json.encode(body)
    return web.Response(status=status, body=encoded, content_type="application/json", headers=headers)


def _sse(event: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"
