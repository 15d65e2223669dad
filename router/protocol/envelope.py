"""Errors of our own making, in the envelope of the client's protocol (PROTOCOL 7).

`errors.TABLE` says what a problem is called in each dialect; here it becomes bytes: a body and its headers before the
commit, an event after it. An upstream's error passes as it is (`passes`) or is wrapped in the same envelope.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from router.config.schema import CodeStyle
from router.errors import TABLE, Kind, Problem
from router.protocol import durations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.protocol.facts import ErrorFacts

UPSTREAM_BYTES_MAX = 8 * 1024
"""Of an upstream's body so much is quoted under `error.upstream` (PROTOCOL 7.3)."""

RETRY_AFTER_S_MIN, RETRY_AFTER_S_MAX = 1.0, 60.0
"""openai-node takes 0 for "at once" and ignores what is above 60 s (PROTOCOL 6)."""

SECRET_CHARS_MIN = 4
"""A shorter credential is a placeholder (`x`, `-`); to mask it would only garble the text."""


class Dialect(StrEnum):
    """Whose envelope the route speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    RESPONSES = "responses"
    """OpenAI's, but an error in a stream is an event of its own shape."""


def render(
    problem: Problem, request_id: str, dialect: Dialect = Dialect.OPENAI, style: CodeStyle = CodeStyle.NUMBER
) -> bytes:
    """Return the body of an error answer: one line of JSON with the key order of PROTOCOL 7.1.

    The message ends with the request id, as newer SDKs print nothing but the message (RELIABILITY 4.2). The one
    exception is an unknown model: the reseller contract fixes that text as exactly `model 'X' not found`, clients
    compare it, and the id still stands in `request_id` and in the header.
    """
    row = TABLE[problem.kind]
    reason = problem.kind.value
    message = problem.message
    if request_id and problem.kind is not Kind.MODEL_NOT_FOUND:
        message = f"{message} (request id: {request_id})"
    code = row.status if style is CodeStyle.NUMBER else row.openai_code
    body: dict[str, Any]
    if dialect is Dialect.ANTHROPIC:
        error = {
            "type": row.anthropic_type,
            "message": message,
            "param": problem.param,
            "code": code,
            "details": {"error_code": reason},
        }
        body = {"type": "error", "error": error, "request_id": request_id}
    else:
        kind = row.type if style is CodeStyle.NUMBER else row.openai_type
        error = {"message": message, "type": kind, "param": problem.param, "code": code, "reason": reason}
        body = {"error": error, "request_id": request_id}
    return _json(body)


def event(
    problem: Problem,
    request_id: str,
    dialect: Dialect = Dialect.OPENAI,
    style: CodeStyle = CodeStyle.NUMBER,
    *,
    after: bytes = b"",
) -> bytes:
    """Return the event that ends a failed stream after the commit (PROTOCOL 7.4); no terminal marker may follow it.

    `after` is the event before it: where events are numbered, this one takes the next number.
    """
    if dialect is Dialect.RESPONSES:
        return numbered_error(problem.kind.value, f"{problem.message} (request id: {request_id})", after)
    name = b"event: error\n" if dialect is Dialect.ANTHROPIC else b""
    return name + b"data: " + render(problem, request_id, dialect, style) + b"\n\n"


_NUMBER = re.compile(rb'"sequence_number"\s*:\s*([0-9]{1,15})')


def numbered_error(code: str, message: str, after: bytes) -> bytes:
    """Return the error event of the Responses dialect, its fields flat (PROTOCOL 2.2, 7.4)."""
    numbers = _NUMBER.findall(after)
    body = {
        "type": "error",
        "code": code,
        "message": message,
        "param": None,
        "sequence_number": int(numbers[-1]) + 1 if numbers else 0,
    }
    return b"event: error\ndata: " + _json(body) + b"\n\n"


def headers(problem: Problem, request_id: str, dialect: Dialect = Dialect.OPENAI, *, allow: str = "POST") -> bytes:
    """Return the header lines of an error answer, all but its length.

    Args:
        problem: What to answer.
        request_id: Ours; goes out under the names both families of SDKs read.
        dialect: Anthropic's SDKs read the id from `request-id`.
        allow: The methods the path does take, for status 405.
    """
    lines = [f"content-type: application/json\r\nx-request-id: {request_id}\r\n".encode("ascii")]
    if dialect is Dialect.ANTHROPIC:
        lines.append(f"request-id: {request_id}\r\n".encode("ascii"))
    if problem.retry_after_s is not None:
        # In this order a NaN becomes the minimum.
        lines.append(
            durations.retry_after_headers(min(RETRY_AFTER_S_MAX, max(RETRY_AFTER_S_MIN, problem.retry_after_s)))
        )
    if problem.should_retry is not None:
        lines.append(b"x-should-retry: true\r\n" if problem.should_retry else b"x-should-retry: false\r\n")
    if problem.status == 401:
        lines.append(b"www-authenticate: Bearer\r\n")
    if problem.status == 405:
        lines.append(f"allow: {allow}\r\n".encode("ascii"))
    if problem.close:
        lines.append(b"connection: close\r\n")
    return b"".join(lines)


_PASSING = frozenset({400, 404, 408, 409, 413, 415, 422})
_CONTENT_POLICY = re.compile("content.?(policy|filter)|moderation|flagged|safety", re.IGNORECASE)


def passes(status: int, facts: ErrorFacts, dialect: Dialect = Dialect.OPENAI, *, exposed: bool = False) -> bool:
    """Say whether an upstream's error goes to the client unchanged, status and body (PROTOCOL 7.3).

    Its shape must be one that every client reads, and its text one that cannot name the operator's account: 401, 402
    and 429 never pass, 403 only if it speaks of content, 404 not if it denies a model that our table promised. Where
    the operator has `exposed` an upstream's errors, only the shape counts.
    """
    if not facts.conforming or (dialect is Dialect.ANTHROPIC and not facts.anthropic):
        return False
    if exposed:
        return True
    if status == 403:
        return any(map(_CONTENT_POLICY.search, (facts.code, facts.type, facts.message)))
    if status == 404:
        return facts.code != "model_not_found"
    return status in _PASSING or status >= 500


_TYPES = {row.status: row.type for row in TABLE.values()}
"""Our word for a status that an upstream chose; other 4xx are `invalid_request`, other 5xx `bad_gateway`."""


def wrap_upstream(
    status: int,
    facts: ErrorFacts,
    body: bytes,
    request_id: str,
    style: CodeStyle = CodeStyle.NUMBER,
    *,
    dialect: Dialect = Dialect.OPENAI,
    secrets: Iterable[str] = (),
) -> bytes:
    """Return our envelope around an upstream's error that no client could read as it came (PROTOCOL 7.3).

    The status stays the upstream's; its body is quoted under `error.upstream`. `secrets` are masked in all of it.
    """
    secrets = tuple(secrets)
    # Masked first and cut afterwards: a cut could leave half a credential that no longer looks like one.
    quoted = mask(body.decode("utf-8", "replace"), secrets).encode("utf-8", "replace")[:UPSTREAM_BYTES_MAX]
    message = mask(facts.message, secrets)
    fault = "invalid_request" if status < 500 else "bad_gateway"
    openai_fault = "invalid_request_error" if status < 500 else "server_error"
    if dialect is Dialect.ANTHROPIC:
        return _wrapped_for_anthropic(status, message, request_id, quoted.decode("utf-8", "ignore"))
    error = {
        "message": f"{message} (request id: {request_id})" if request_id else message,
        "type": _TYPES.get(status, fault) if style is CodeStyle.NUMBER else openai_fault,
        "param": None,
        "code": status if style is CodeStyle.NUMBER else Kind.UPSTREAM_ERROR.value,
        "reason": Kind.UPSTREAM_ERROR.value,
        "upstream": quoted.decode("utf-8", "ignore"),
    }
    return _json({"error": error, "request_id": request_id})


_ANTHROPIC_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error",
    529: "overloaded_error",
}  # fmt: skip


def _wrapped_for_anthropic(status: int, message: str, request_id: str, quoted: str) -> bytes:
    error = {
        "type": _ANTHROPIC_TYPES.get(status, _INVALID if status < 500 else "api_error"),
        "message": f"{message} (request id: {request_id})" if request_id else message,
        "details": {"error_code": Kind.UPSTREAM_ERROR.value, "upstream": quoted},
    }
    return _json({"type": "error", "error": error, "request_id": request_id})


_INVALID = "invalid_request_error"
_TOKEN = re.compile(
    r"\bsk-[\w*.\-]*[\w*]"  # OpenAI, Anthropic, OpenRouter, DeepSeek; also half masked: sk-ab***yz
    r"|\b(?:gsk_|xai-|hf_|AIza|proj_)[\w\-]{8,}"  # Groq, xAI, Hugging Face, Google, a project
    r"|\borg-(?=[A-Za-z0-9]*\d)[A-Za-z0-9]{6,}|\borg-[A-Za-z0-9]{16,}",  # an organisation, not `org-structure`
)
_MASK = "***"


def mask(text: str, secrets: Iterable[str]) -> str:
    """Return `text` without our credentials, and without what looks like anyone's token or organisation id."""
    # The longest first: a credential may begin with another one.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SECRET_CHARS_MIN:
            text = text.replace(secret, _MASK)
    return _TOKEN.sub(_MASK, text)


_encode = msgspec.json.encode


def _json(body: dict[str, Any]) -> bytes:
    """Encode an envelope; half a surrogate pair, which JSON input can smuggle into a string, is spelt out."""
    try:
        return _encode(body)
    except UnicodeEncodeError:
        return _encode(_spelt_out(body))


def _spelt_out(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {name: _spelt_out(member) for name, member in value.items()}
    return value
