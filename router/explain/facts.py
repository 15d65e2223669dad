"""The answer of `llm-router explain` as values: what the daemon says in JSON, and what is shown to people."""

from __future__ import annotations

from typing import Literal

import msgspec

from router.policy.explain import Levels, PoolFacts, Step  # noqa: TC001 (msgspec reads the annotations)

OutputFrom = Literal["max_tokens", "default_output_tokens", "nothing"]


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question: the body of `POST /-/explain`."""

    model: str = ""
    """Empty: the one in the body, or the one that is configured for requests which name none."""
    key: str = ""
    """The name of a key. Empty: none is sent, unless the hash of one is."""
    key_sha256: str = ""
    """In its place the SHA-256 of what the client sends, in hex."""
    endpoint: str = "chat"
    """A name, or a path as `/v1/responses/resp_1`."""
    body: msgspec.Raw = msgspec.Raw(b"null")
    """A request's body: as it is, or as a string that holds it exactly. Null: none, and what is in one is guessed."""
    stream: bool = False


class KeyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Whose request it is."""

    name: str
    state: Literal["open", "ok", "disabled", "unknown", "missing"]
    """`open`: no keys are configured, everybody may do everything; `missing`: none was given."""
    allowed_by: tuple[str, ...] = ()
    """Names and patterns by which it may use the model, the one that counts first."""
    may_use: bool = True
    hint: str = ""


class RequestFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of the request, and what it would reserve."""

    model: str
    endpoint: str
    protocol: str
    stream: bool
    has_body: bool
    text_bytes: int
    bytes_per_token: float
    correction: float
    """By which the estimate is multiplied; learnt from what upstreams report."""
    prompt_tokens: int
    output_tokens: int
    output_from: OutputFrom
    choices: int
    reserved_tokens: int


class LimitFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of the key, and which of them refuses."""

    levels: Levels
    refused_by: tuple[str, ...] = ()


class RouteFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the model leads to."""

    name: str
    """The configured name or pattern; empty: nothing."""
    exact: bool = False
    lost: tuple[str, ...] = ()
    """Patterns that fit as well."""
    hint: str = ""


class Rewrite(msgspec.Struct, frozen=True, kw_only=True):
    """How the request is put to an upstream."""

    route: str
    """Of the model, or of the fallback that is served there."""
    upstream: str
    member: str
    """The model of the pool's member: an upstream may be there with several."""
    model: str
    """What it is called there."""
    url: str
    translated: str = ""
    """The protocol that it is rebuilt in."""
    renamed: str = ""
    """`max_tokens becomes max_completion_tokens`."""
    dropped: tuple[str, ...] = ()
    """Parameters that are left out; without a body those that would be."""
    asks_usage: bool = False
    """Usage is asked for on the client's behalf."""
    waits: bool = False
    """For its turn under the upstream's pace."""
    refused: str = ""
    """Why it cannot be put there at all."""


class RetryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How far failing over goes."""

    attempts: int
    """Tries in total that reach an upstream."""
    under_way: int
    allowed: float
    """Retries at failing members that may be under way at once."""


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What would come of it."""

    served: bool
    """Some member would be tried."""
    last_resort: bool = False
    """One that is out: it is tried all the same, once a second."""
    status: int = 0
    """That the client sees, if nobody is tried."""
    reason: str = ""
    message: str = ""
    retry_after_s: float | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer."""

    outlook: Outlook
    live: bool
    """Of the running daemon; else of a file, with everybody well and nothing in flight."""
    digest: str
    key: KeyFacts
    request: RequestFacts | None
    """None: it could not be read."""
    limits: LimitFacts | None
    """None: the key has none."""
    route: RouteFacts
    stored: str = ""
    """The upstream that keeps what the request names: it goes there or nowhere."""
    stored_somewhere: bool = False
    """It names what is stored, and nobody knows where."""
    pools: tuple[PoolFacts, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    order: tuple[Step, ...] = ()
    retry: RetryFacts
