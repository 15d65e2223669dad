"""What a request that got no answer is told, and how its end is named (PROTOCOL 7.2, OPERATIONS 1.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.errors import TABLE, Kind, Problem, Refused, UpstreamError
from router.events import Outcome, Side
from router.policy.outcomes import Blame
from router.protocol import envelope
from router.protocol.envelope import Dialect

if TYPE_CHECKING:
    from router.config.schema import CodeStyle
    from router.policy.limits import Refusal
    from router.protocol.facts import ErrorFacts
    from router.protocol.http import Headers
    from router.relay.attempt import Failure

WAIT_MIN_S = 1.0
SECRET_MIN = 8
"""A shorter credential is a placeholder (`x`, `none`), and may stand in any text."""

WAIT_MAX_S = 60.0
"""Seconds of `retry-after` we send: SDKs ignore or give up on more (PROTOCOL 6)."""

_LIMITED = {
    "requests": (Kind.REQUESTS_PER_MINUTE, "requests per minute"),
    "tokens": (Kind.TOKENS_PER_MINUTE, "tokens per minute"),
    "concurrency": (Kind.CONCURRENT_REQUESTS, "requests at the same time"),
}

_SAYS = {
    Kind.UPSTREAM_RATE_LIMITED: "Every upstream of this model is rate limited. Try again later.",
    Kind.NO_HEALTHY_UPSTREAM: "No upstream of this model can take the request now. Try again later.",
    Kind.UPSTREAM_CONNECTION: "The upstream could not be reached or closed the connection.",
    Kind.UPSTREAM_PROTOCOL: "The upstream's answer could not be understood.",
    Kind.UPSTREAM_TRUNCATED: "The upstream's answer broke off before it was complete.",
    Kind.UPSTREAM_AUTH: "The upstream refused the router's credential. The operator of this router has to mend it.",
    Kind.UPSTREAM_QUOTA: "The router's account with the upstream is used up. The operator has to mend it.",
    Kind.UPSTREAM_MODEL_MISSING: "The upstream does not have the model that the router's configuration promises.",
    Kind.UPSTREAM_ERROR: "The upstream failed.",
    Kind.UPSTREAM_TIMEOUT: "The upstream did not answer in time.",
    Kind.OVERLOADED: "There is no capacity left at the moment. Try again later.",
    Kind.STICKY_UPSTREAM_DOWN: "What this request refers to is stored at an upstream that cannot be used now.",
    Kind.DRAINING: "The router is stopping. Try again.",
    Kind.INTERNAL: "The router failed. This is a bug.",
}

_WAITS = frozenset((Kind.UPSTREAM_RATE_LIMITED, Kind.NO_HEALTHY_UPSTREAM, Kind.OVERLOADED))
_FINAL = frozenset((Kind.UPSTREAM_QUOTA, Kind.UPSTREAM_AUTH, Kind.UPSTREAM_MODEL_MISSING))
"""Only the operator can mend these: the client's own retries would be wasted."""

_OUTCOMES = {
    429: Outcome.RATE_LIMITED,
    500: Outcome.INTERNAL,
    502: Outcome.UPSTREAM_ERROR,
    504: Outcome.TIMEOUT,
}


def limited(refusal: Refusal) -> Refused:
    """The answer to a request that is over a limit of its key."""
    kind, what = _LIMITED[refusal.limit]
    if refusal.never:
        text = (
            f"This request needs about {refusal.asked} tokens; the key's limit is {refusal.limit_value} tokens per"
            " minute, so it can never be admitted. Ask for fewer output tokens or send less."
        )
        return Refused(kind, text, should_retry=False)
    text = f"The key's limit of {refusal.limit_value} {what} is reached."
    return Refused(kind, text, retry_after_s=min(max(refusal.retry_after_s, WAIT_MIN_S), WAIT_MAX_S))


def nobody(kind: Kind, wait_s: float) -> Refused:
    """The answer when no member of the pool may be tried."""
    return Refused(kind, _SAYS[kind], retry_after_s=min(max(wait_s, WAIT_MIN_S), WAIT_MAX_S))


def owner_down(wait_s: float = WAIT_MIN_S) -> Refused:
    """The answer when the one upstream that could serve cannot."""
    return nobody(Kind.STICKY_UPSTREAM_DOWN, wait_s)


def after_failure(failure: Failure, wait_s: float) -> Problem:
    """The answer when every attempt that could help has failed."""
    if failure.problem is not None:
        return failure.problem
    kind = failure.verdict.kind
    if kind in _WAITS:
        return nobody(kind, wait_s)
    return UpstreamError(
        kind, _SAYS.get(kind, _SAYS[Kind.UPSTREAM_ERROR]), should_retry=False if kind in _FINAL else None
    )


def passed_on(
    failure: Failure, request_id: str, style: CodeStyle, dialect: Dialect, *, as_event: bool
) -> tuple[Headers, bytes]:
    """The header lines and body of an upstream's own error, for the client (PROTOCOL 7.3).

    As they are if every SDK can read them and they name none of our credentials; else, and inside a stream, in our
    envelope.
    """
    facts = failure.facts
    assert facts is not None
    secrets = [secret.encode("latin-1") for secret in failure.credentials if len(secret) >= SECRET_MIN]
    headers = [line for line in failure.headers if not any(secret in line for secret in secrets)]
    tells = any(secret in failure.text for secret in secrets)
    readable = not failure.foreign and envelope.passes(failure.status, facts, dialect, exposed=failure.exposed)
    if readable and not tells and not as_event:
        return headers, failure.body
    body = envelope.wrap_upstream(
        failure.status, facts, failure.text, request_id, style, dialect=dialect, secrets=failure.credentials
    )
    headers = [line for line in headers if not line.lower().startswith((b"content-type:", b"content-encoding:"))]
    return [*headers, b"content-type: application/json"], body


def as_event(facts: ErrorFacts, body: bytes, dialect: Dialect) -> bytes:
    """An upstream's error as the event that ends a stream: `body` is what `passed_on` has made of it."""
    if dialect is Dialect.RESPONSES:
        return envelope.numbered_error(Kind.UPSTREAM_ERROR.value, facts.message, b"")
    name = b"event: error\n" if dialect is Dialect.ANTHROPIC else b""
    return name + b"data: " + body + b"\n\n"


def draining() -> Refused:
    """The end of what was still running when the time to drain was over."""
    return Refused(Kind.DRAINING, _SAYS[Kind.DRAINING], retry_after_s=WAIT_MIN_S, close=True)


def bug() -> Problem:
    """The answer when our own code failed."""
    return Problem(Kind.INTERNAL, _SAYS[Kind.INTERNAL], close=True)


def outcome(kind: Kind) -> tuple[Outcome, Side]:
    """How an exchange that ended with an error of this kind is counted, and who ended it."""
    status = TABLE[kind].status
    if kind is Kind.NO_HEALTHY_UPSTREAM:
        return Outcome.NO_UPSTREAM, Side.ROUTER
    if status == 503:
        return Outcome.OVERLOADED, Side.ROUTER
    if status in (502, 504):
        return _OUTCOMES[status], Side.UPSTREAM
    return _OUTCOMES.get(status, Outcome.CLIENT_ERROR), Side.ROUTER


def outcome_of_status(failure: Failure) -> Outcome:
    """How an upstream's own error answer is counted when it is passed on."""
    return Outcome.CLIENT_ERROR if failure.verdict.blame is Blame.SUCCESS else Outcome.UPSTREAM_ERROR
