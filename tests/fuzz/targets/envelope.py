"""Errors of upstreams as clients get them (PROTOCOL 7): the first line is status and content type, the body follows."""

from __future__ import annotations

from typing import Any

from router.config.schema import CodeStyle
from router.errors import Kind, RequestError
from router.protocol import sse
from router.protocol.envelope import Dialect, event, mask, passes, render, wrap_upstream
from router.protocol.upstream_errors import MESSAGE_CHARS_MAX, read_error
from tests.fuzz.targets.translate import strictly

BYTES_MAX = 1024
WORDS = (
    b"400 application/json", b"500 text/event-stream", b"429 ", b"403 ", b"404 ", b"529 ", b"999 ", b"error",
    b"message", b"type", b"code", b"status", b"detail", b"loc", b"msg", b"model_not_found", b"content_policy",
    b"insufficient_quota", b"sk-secret-0123456789", b"a secret of ours-9f8e7d6c5b", b"sk-ab***yz",
    b"org-0123456789abcdef", b"gsk_0123456789", b"AIza0123456789", b"data: ", b'"sequence_number": 4', b"\\ud83d",
    b"\xff", b"\xef\xbb\xbf", b"NaN", b"\n\n", b"{}", b"[]", b"null", b"1",
)  # fmt: skip

_SECRETS = ("a secret of ours", "a secret of ours-9f8e7d6c5b", "sk-secret-0123456789")
_TAIL = "9f8e7d6c5b"
"""The end of one of them: what would be left if only the other, which it begins with, were masked."""


def check(data: bytes) -> None:
    """Read the error, and say it in every dialect."""
    first, _, body = data.partition(b"\n")
    number, _, content_type = first.decode("latin-1").partition(" ")
    status = int(number) if number.isascii() and number.isdigit() and len(number) == 3 else 500
    facts = read_error(status, content_type, body)
    assert facts.message
    assert len(facts.message) <= MESSAGE_CHARS_MAX
    text = body.decode("utf-8", "replace")
    masked = mask(text, _SECRETS)
    assert not any(secret in masked for secret in _SECRETS)
    assert mask(masked, _SECRETS) == masked
    assert masked.count(_TAIL) <= text.count(_TAIL) - text.count(_SECRETS[1])
    problem = RequestError(Kind.INVALID_TYPE, facts.message, param=facts.code)
    for dialect in Dialect:
        for style in CodeStyle:
            passes(status, facts, dialect)
            whole = wrap_upstream(status, facts, body, "req_1", style, dialect=dialect, secrets=_SECRETS)
            _check_error(strictly(whole))
            assert not any(secret.encode() in whole for secret in _SECRETS)
            _check_error(strictly(render(problem, "req_1", dialect, style)))
            _check_event(event(problem, "req_1", dialect, style, after=body))


def _check_error(said: dict[str, Any]) -> None:
    assert said["error"]["message"].endswith("(request id: req_1)")
    assert said["request_id"] == "req_1"


def _check_event(made: bytes) -> None:
    """It is one event, whatever the message holds."""
    reader = sse.EventReader()
    assert reader.feed(made) == [made]
    data = sse.data_of(made)
    assert data is not None
    assert isinstance(strictly(data), dict)
