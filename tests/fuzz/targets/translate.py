"""Requests and whole answers of one protocol in the words of the other, both ways (PROTOCOL 10)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from router.errors import RequestError
from router.protocol.anthropic import MESSAGES
from router.protocol.openai import CHAT
from router.protocol.splice import read_ask
from router.protocol.translate.answer_to_chat import answer_to_chat
from router.protocol.translate.answer_to_messages import answer_to_messages
from router.protocol.translate.common import Options, Translated
from router.protocol.translate.request_to_chat import to_chat
from router.protocol.translate.request_to_messages import to_messages

if TYPE_CHECKING:
    from router.events import Usage

BYTES_MAX = 2048
WORDS = (
    b"model", b"messages", b"role", b"content", b"system", b"developer", b"user", b"assistant", b"tool", b"function",
    b"type", b"text", b"image_url", b"url", b"data:image/png;base64,aGk=", b"https://x.example/a.png", b"file",
    b"file_data", b"filename", b"input_audio", b"tool_calls", b"tool_call_id", b"id", b"call_1", b"name", b"arguments",
    b"{}", b"parameters", b"input_schema", b"tools", b"tool_choice", b"auto", b"required", b"none", b"any",
    b"parallel_tool_calls", b"disable_parallel_tool_use", b"max_tokens", b"max_completion_tokens", b"temperature",
    b"top_p", b"top_k", b"stop", b"stop_sequences", b"stream", b"stream_options", b"include_usage", b"reasoning_effort",
    b"thinking", b"budget_tokens", b"enabled", b"disabled", b"adaptive", b"signature", b"redacted_thinking", b"data",
    b"output_config", b"effort", b"format", b"response_format", b"json_schema", b"schema", b"strict", b"metadata",
    b"user_id", b"service_tier", b"standard_only", b"cache_control", b"tool_use", b"tool_result", b"tool_use_id",
    b"is_error", b"input", b"source", b"base64", b"media_type", b"image", b"document", b"title", b"citations",
    b"choices", b"message", b"finish_reason", b"index", b"usage", b"prompt_tokens", b"completion_tokens",
    b"input_tokens", b"output_tokens", b"cache_read_input_tokens", b"cache_creation_input_tokens", b"stop_reason",
    b"end_turn", b"refusal", b"reasoning_content", b"thinking_blocks", b"function_call", b"logprobs", b"n", b"error",
    b"12345678901234567890.123", b"\\ud83d", b"null", b"true", b"1",
)  # fmt: skip

_UPSTREAM = "up/m\u00f6del"
_CREATED = 1_700_000_000
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_OPTIONS = (
    Options(),
    Options(
        inline_system=True, no_sampling=True, adaptive_thinking=False, thinking_required=True, thinking_blocks=True,
        max_tokens_field="max_tokens", takes_top_k=True,
    ),
)  # fmt: skip


def check(data: bytes) -> None:
    """Take the bytes for a request of each protocol, and for an answer of each."""
    for options in _OPTIONS if _is_read(data) else ():
        there = _request(to_messages, data, options)
        if there is not None:
            _request(to_chat, there.body, options)
        there = _request(to_chat, data, options)
        if there is not None:
            _request(to_messages, there.body, options)
    for blocks in (False, True):
        _check_answer(answer_to_chat(data, created=_CREATED, thinking_blocks=blocks), CHAT.body, "chat.completion")
    _check_answer(answer_to_messages(data), MESSAGES.body, "message")
    _check_chat_usage(data)


def _is_read(data: bytes) -> bool:
    """The router reads every request before it may be translated."""
    try:
        read_ask(data)
    except RequestError:
        return False
    return True


def _request(translate: Any, data: bytes, options: Options) -> Translated | None:
    try:
        made: Translated = translate(data, _UPSTREAM, options)
    except RequestError as refused:
        assert refused.message  # noqa: PT017 - no test: a promise
        assert len(refused.message) < 4 * len(data) + 1000  # noqa: PT017 - as above
        return None
    request = strictly(made.body)
    assert request["model"] == _UPSTREAM
    assert isinstance(request["messages"], list)
    assert (request.get("stream") is True) is made.stream
    assert list(made.dropped) == sorted(set(made.dropped))
    assert all(map(_NAME.fullmatch, made.dropped))
    # The router itself reads what it made, as any upstream would.
    ask = read_ask(made.body)
    assert (ask.model, ask.stream) == (_UPSTREAM, made.stream)
    return made


def _check_answer(made: bytes | None, read: Any, kind: str) -> None:
    if made is None:
        return
    answer = strictly(made)
    assert kind in (answer.get("object"), answer.get("type"))
    facts = read(made)
    assert facts.is_object
    assert facts.error is None


def _check_chat_usage(data: bytes) -> None:
    """The client adds up to the same tokens as we do."""
    made = answer_to_chat(data, created=_CREATED)
    theirs = MESSAGES.body(data).usage
    if made is None or theirs is None:
        return
    ours = CHAT.body(made).usage
    exact = MESSAGES.account(theirs)
    if exact is None or ours is None:
        assert exact is None
        assert ours is None
        return
    told = CHAT.account(ours)
    assert told is not None
    if not exact.clamped:
        assert _sums(told) == _sums(exact)


def _sums(usage: Usage) -> tuple[int, int, int]:
    return usage.prompt, usage.output, usage.reasoning


def strictly(text: bytes) -> dict[str, Any]:
    """Decode what must be one JSON object, in UTF-8, without a name twice."""
    value = json.loads(text.decode(), object_pairs_hook=_once, parse_constant=_refuse, parse_int=str, parse_float=str)
    assert isinstance(value, dict)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    assert len(members) == len(pairs), "a name comes twice"
    return members


def _refuse(word: str) -> Any:
    raise AssertionError(word)
