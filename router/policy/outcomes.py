"""What an attempt's end means: RELIABILITY 1.7 as a table, and the reading of statuses and error bodies into it.

The relay names the cause of what it saw, or hands over status and error fields; the verdict says whether another member
may be tried, who is to blame, what cools down and what the client sees if nothing helps. Where RELIABILITY and PROTOCOL
differ on that last point, PROTOCOL 7.2 and 7.3 hold.

Only `code` and `type` are trusted freely: a message may quote what the client sent, and a client must not be able to
take an upstream out with a prompt. Messages are therefore read only where there is no other way.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass, replace
from enum import StrEnum

from router.errors import Kind


class Cause(StrEnum):
    """Why an attempt ended; the `reason` of attempts in metrics and log (OPERATIONS 1.3)."""

    OK = "ok"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    SCARCE = "out_of_resources"
    """We have no file descriptor or no memory left to connect with: that says nothing of the upstream."""
    CONNECT_TIMEOUT = "timeout_connect"
    STALE = "stale_connection"
    """A reused connection was closed before any byte of the response: the keep-alive race, nobody's fault."""
    CLOSED = "disconnect"
    """A fresh connection was closed without a whole response head."""
    PROTOCOL = "protocol"
    """Garbage, contradictory framing, 101, a status outside 100 to 599."""
    FIRST_BYTE = "timeout_first_byte"
    FIRST_TOKEN = "timeout_first_token"  # noqa: S105 -- a metric label
    IDLE = "timeout_idle"
    TOTAL = "timeout_total"
    HTTP_5XX = "http_5xx"
    """5xx, and 408, 425 and 499, which say the same in other words."""
    OVERLOADED = "overloaded"
    """503 and 529."""
    RATE_LIMITED = "http_429"
    QUOTA = "quota"
    """402, or an account without money under another status."""
    AUTH = "auth"
    """401, and 403 that is about our credential."""
    MODEL_MISSING = "model_missing"
    REQUEST = "http_4xx"
    """The client's own fault; the same request would fail everywhere."""
    REDIRECT = "redirect"
    WRONG_TYPE = "wrong_content_type"
    """A stream was asked for and something else came."""
    ERROR_BODY = "error_in_200"
    EMPTY = "empty_stream"
    """Ended properly, but before any content."""
    TRUNCATED = "disconnect_mid_stream"
    """Cut after the response head, before or after content."""
    PACE = "paced_out"
    """Its turn under the upstream's pace would have come too late; nothing was sent."""
    UNTRANSLATABLE = "untranslatable"
    """The request holds what this member's protocol cannot say; nothing was sent."""
    CLIENT_GONE = "client_gone"


class Blame(StrEnum):
    """What an outcome counts as in the breaker."""

    NONE = "none"
    SUCCESS = "success"
    SOFT = "soft"
    """In the ratio only: timeouts and 429, of which a few in a row are no sign of a dead upstream."""
    HARD = "hard"
    """In the streak and in the ratio."""


class Cools(StrEnum):
    """Why (upstream, credential, model) cools down (RELIABILITY 1.5); a label of events."""

    NONE = "none"
    RATE_LIMIT = "rate_limit"
    OVERLOAD = "overload"
    QUOTA = "quota"
    MISCONFIGURED = "misconfigured"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from one cause. The first four columns of the table are positional, so that its rows line up."""

    cause: Cause
    failover: bool
    """Another member may help, as long as the client has no content."""
    blame: Blame
    kind: Kind
    """What the client sees if nothing helps, unless the upstream's own answer passes."""
    _: KW_ONLY
    host: bool = False
    """Counts against the whole upstream: no connection could be made, whatever the model."""
    answered: bool = True
    """The upstream's response began properly, so its host is well whatever became of the request."""
    cools: Cools = Cools.NONE
    passes: bool = False
    """The upstream's own answer goes to the client (PROTOCOL 7.3); where `failover`, only when nothing else helped."""
    free_retry: bool = False
    """Once more on a fresh connection to the same target, at no cost to the retry budget."""


_NO, _SUCCESS, _SOFT, _HARD = Blame.NONE, Blame.SUCCESS, Blame.SOFT, Blame.HARD
_TABLE = (
    Verdict(Cause.OK, False, _SUCCESS, Kind.UPSTREAM_ERROR, passes=True),
    # No connection. Nothing was sent, so another member may be tried at once.
    Verdict(Cause.DNS, True, _HARD, Kind.UPSTREAM_CONNECTION, host=True, answered=False),
    Verdict(Cause.CONNECT, True, _HARD, Kind.UPSTREAM_CONNECTION, host=True, answered=False),
    Verdict(Cause.TLS, True, _HARD, Kind.UPSTREAM_CONNECTION, host=True, answered=False),
    Verdict(Cause.CONNECT_TIMEOUT, True, _HARD, Kind.UPSTREAM_CONNECTION, host=True, answered=False),
    Verdict(Cause.SCARCE, True, _NO, Kind.OVERLOADED, answered=False),
    Verdict(Cause.UNTRANSLATABLE, True, _NO, Kind.UNSUPPORTED_PARAMETER, answered=False),
    Verdict(Cause.PACE, True, _NO, Kind.UPSTREAM_RATE_LIMITED, answered=False),
    # A connection, but no response worth the name.
    Verdict(Cause.STALE, True, _NO, Kind.UPSTREAM_CONNECTION, answered=False, free_retry=True),
    Verdict(Cause.CLOSED, True, _HARD, Kind.UPSTREAM_CONNECTION, answered=False),
    Verdict(Cause.PROTOCOL, True, _HARD, Kind.UPSTREAM_PROTOCOL, answered=False),
    # Silence. Soft, because a long prompt and a dead engine look alike for a while.
    Verdict(Cause.FIRST_BYTE, True, _SOFT, Kind.UPSTREAM_TIMEOUT, answered=False),
    Verdict(Cause.FIRST_TOKEN, True, _SOFT, Kind.UPSTREAM_TIMEOUT, answered=False),
    Verdict(Cause.IDLE, True, _SOFT, Kind.UPSTREAM_TIMEOUT),
    Verdict(Cause.TOTAL, False, _SOFT, Kind.UPSTREAM_TIMEOUT, answered=False),
    # A status that says the upstream, or our account there, cannot.
    Verdict(Cause.HTTP_5XX, True, _HARD, Kind.UPSTREAM_ERROR, passes=True),
    Verdict(Cause.OVERLOADED, True, _HARD, Kind.OVERLOADED, cools=Cools.OVERLOAD, passes=True),
    Verdict(Cause.RATE_LIMITED, True, _SOFT, Kind.UPSTREAM_RATE_LIMITED, cools=Cools.RATE_LIMIT),
    Verdict(Cause.QUOTA, True, _NO, Kind.UPSTREAM_QUOTA, cools=Cools.QUOTA),
    Verdict(Cause.AUTH, True, _NO, Kind.UPSTREAM_AUTH, cools=Cools.MISCONFIGURED),
    Verdict(Cause.MODEL_MISSING, True, _NO, Kind.UPSTREAM_MODEL_MISSING, cools=Cools.MISCONFIGURED),
    Verdict(Cause.REDIRECT, True, _HARD, Kind.UPSTREAM_PROTOCOL, cools=Cools.MISCONFIGURED),
    # A status that says the client cannot. That is a proper answer.
    Verdict(Cause.REQUEST, False, _SUCCESS, Kind.UPSTREAM_ERROR, passes=True),
    # A 200 that is none.
    Verdict(Cause.WRONG_TYPE, True, _HARD, Kind.UPSTREAM_PROTOCOL),
    Verdict(Cause.ERROR_BODY, True, _HARD, Kind.UPSTREAM_ERROR),
    Verdict(Cause.EMPTY, True, _HARD, Kind.UPSTREAM_TRUNCATED),
    Verdict(Cause.TRUNCATED, True, _HARD, Kind.UPSTREAM_TRUNCATED),
    Verdict(Cause.CLIENT_GONE, False, _NO, Kind.UPSTREAM_ERROR, answered=False),
)
VERDICTS: dict[Cause, Verdict] = {verdict.cause: verdict for verdict in _TABLE}

GATEWAY_TIMEOUT = replace(VERDICTS[Cause.HTTP_5XX], kind=Kind.UPSTREAM_TIMEOUT)
"""A status that tells of somebody's patience: the same as any 5xx, but if it cannot pass the client sees 504."""

MODEL_UNPROMISED = replace(
    VERDICTS[Cause.MODEL_MISSING], blame=Blame.SUCCESS, kind=Kind.MODEL_NOT_FOUND, cools=Cools.NONE, passes=True
)
"""The model is missing, but only a pattern matched it: the client chose the name, our table never promised it.

Another member may still have it. Nobody is to blame, or three wrong names from one client would cool a whole pattern.
"""

ID_ELSEWHERE = replace(VERDICTS[Cause.REQUEST], failover=True)
"""The upstream does not have what the request builds upon: whoever has it is another (PROTOCOL 2.2)."""

_QUOTA_WORDS = ("insufficient_quota", "billing", "credit", "spend_limit", "usage_limit_exceeded")
"""In `code` or `type` (PROTOCOL 11, OpenAI and Anthropic)."""
_QUOTA_OPENINGS = ("your credit balance is too low", "you have reached your specified api usage limits")
"""Anthropic says this under 400 or 429 with a general type."""
_POLICY_WORDS = (
    "content_policy",
    "content_filter",
    "contentfilter",
    "moderation",
    "safety",
    "flagged",
    "policy_violation",
)
_POLICY_MESSAGE = re.compile(r"content.{0,12}polic|moderation|flagged|safety system|usage polic")
_MODEL_CODES = frozenset(
    ("model_not_found", "model_not_available", "invalid_model", "unknown_model", "deploymentnotfound")
)
_MODEL_MESSAGE = re.compile(
    r"\b(?:model|deployment|engine)\b.{0,200}\b(?:not found|not exist|doesn't exist|not available|unknown|no access)"
    r"|^(?:no such|unknown|invalid) (?:model|deployment)\b|^model: ",
    re.DOTALL,
)
_MESSAGE_READ_MAX = 512
"""Characters of a message that are looked at: an error page may be megabytes."""


def of_status(status: int, error_code: str, error_type: str, message: str) -> Verdict | None:
    """Judge a response by its status and by what its error body says.

    Args:
        status: As received, whatever its range.
        error_code: `error.code` of the body, and so on; empty where the body says nothing. Case does not matter.
        error_type: `error.type`.
        message: `error.message`.

    Returns:
        None for 2xx, which only the body can judge.
    """
    if 200 <= status < 300:
        return None
    if status < 300 or status > 599:
        return VERDICTS[Cause.PROTOCOL]
    if status < 400:
        return VERDICTS[Cause.REDIRECT]
    if status >= 500:
        return _of_server_status(status)
    return VERDICTS[
        _of_client_status(status, error_code.lower(), error_type.lower(), message[:_MESSAGE_READ_MAX].lower())
    ]


def of_error_body(code: str | int, type: str, message: str) -> Verdict:  # noqa: A002 -- the field's name on the wire
    """Judge an error that came under status 200, as a whole body or as the first event of a stream (PROTOCOL 11).

    It is judged as if it had come under the status it names. Where the verdict passes, it passes under
    `implied_status`, never as 200.
    """
    status = implied_status(code, type)
    if not status:
        return VERDICTS[Cause.ERROR_BODY]
    return of_status(status, "" if isinstance(code, int) else code, type, message) or VERDICTS[Cause.ERROR_BODY]


def implied_status(code: str | int, type: str) -> int:  # noqa: A002 -- the field's name on the wire
    """Return the status an error body stands for: its code, or what code or type usually come under; 0 if unknown."""
    if isinstance(code, int):
        # Not as text: a number of more than 4300 digits has none in Python.
        return code if 400 <= code <= 599 else _STATUS_BY_NAME.get(type.strip().lower(), 0)
    text = code.strip().lower()
    if len(text) == 3 and text.isascii() and text.isdigit() and text[0] in "45":
        return int(text)
    return _STATUS_BY_NAME.get(text) or _STATUS_BY_NAME.get(type.strip().lower(), 0)


def _of_server_status(status: int) -> Verdict:
    if status in (503, 529):
        return VERDICTS[Cause.OVERLOADED]
    if status in (504, 522, 524):
        return GATEWAY_TIMEOUT
    return VERDICTS[Cause.HTTP_5XX]


def _of_client_status(status: int, code: str, type_: str, message: str) -> Cause:
    if status == 402 or (status in (400, 429) and _is_quota(code, type_, message)):
        return Cause.QUOTA
    if status == 429:
        return Cause.RATE_LIMITED
    if status == 401:
        return Cause.AUTH
    if status in (400, 403, 404) and (code in _MODEL_CODES or type_ in _MODEL_CODES):
        return Cause.MODEL_MISSING
    if status == 403:
        return Cause.REQUEST if _is_policy(code, type_, message) else Cause.AUTH
    if status == 404 and _MODEL_MESSAGE.search(message):
        return Cause.MODEL_MISSING
    if status in (408, 425, 499):
        return Cause.HTTP_5XX
    return Cause.REQUEST


def _is_quota(code: str, type_: str, message: str) -> bool:
    return any(word in code or word in type_ for word in _QUOTA_WORDS) or message.startswith(_QUOTA_OPENINGS)


def _is_policy(code: str, type_: str, message: str) -> bool:
    return any(word in code or word in type_ for word in _POLICY_WORDS) or bool(_POLICY_MESSAGE.search(message))


_STATUS_BY_NAME: dict[str, int] = {
    name: status
    for status, names in {
        400: "invalid_request_error bad_request badrequesterror context_length_exceeded content_filter "
        "content_policy_violation moderation_blocked image_generation_user_error invalid_prompt invalid_value "
        "validation_error invalid_argument",
        401: "authentication_error invalid_api_key unauthorized unauthenticated authenticationerror",
        402: "billing_error insufficient_quota insufficient_credits credit_balance_exhausted payment_required",
        403: "permission_error permission_denied forbidden permissiondeniederror",
        404: "not_found_error model_not_found not_found notfounderror",
        408: "request_timeout",
        413: "request_too_large payload_too_large",
        422: "unprocessable_entity unprocessableentityerror",
        429: "rate_limit_error rate_limit_exceeded rate_limited too_many_requests requests tokens ratelimiterror "
        "resource_exhausted",
        500: "api_error server_error internal_error internal_server_error internalservererror internal",
        501: "not_supported_error",
        502: "bad_gateway",
        503: "service_unavailable service_unavailable_error serviceunavailableerror unavailable server_is_overloaded "
        "slow_down overloaded",
        504: "timeout_error timeout gateway_timeout deadline_exceeded",
        529: "overloaded_error",
    }.items()
    for name in names.split()
}
