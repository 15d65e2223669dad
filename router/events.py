"""Frozen records of what happened. `relay`, `web` and `app` emit them, `telemetry` consumes them.

They are msgspec structs because one is built per request on the hot path: 1.2 us for the fields of `ExchangeEnded`
against 4 us for a frozen dataclass.

`ExchangeEnded` is also the line of the access log, encoded as it stands: order and `name` of its fields are how it
reads, and a field at its default is left out. `omit_defaults` knows a default by identity, so the time of what did not
happen must be `NEVER` itself: another -1.0 would be written.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

NEVER = -1.0
"""The time that something took that did not happen."""


class Outcome(StrEnum):
    """How an exchange ended, for `llm_router_requests_total` (OPERATIONS 1.3)."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    NO_UPSTREAM = "no_backend"
    UPSTREAM_ERROR = "upstream_error"
    TIMEOUT = "timeout"
    CLIENT_GONE = "client_gone"
    INTERNAL = "internal"


class Side(StrEnum):
    """Who ended an exchange."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    ROUTER = "router"


class Phase(StrEnum):
    """The state an exchange was in (DESIGN section 5)."""

    RECEIVING = "receiving"
    PICKING = "picking"
    CONNECTING = "connecting"
    WAITING = "waiting"
    HOLDING = "holding"
    RELAYING = "relaying"
    ENDING = "ending"
    SETTLED = "settled"


class Usage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Token counts as the upstream reported them, in disjoint classes (PROTOCOL 9.1), except `reasoning`."""

    # Factories, because `omit_defaults` leaves out plain defaults, and zero tokens are a figure.
    input: int = msgspec.field(default_factory=int)
    """Prompt tokens that were neither read from nor written to a cache."""
    cache_read: int = 0
    cache_write: int = 0
    output: int = msgspec.field(default_factory=int)
    """Completion tokens, those spent on reasoning included."""
    reasoning: int = 0
    """Of `output`, the part spent on reasoning."""
    clamped: bool = False
    """The upstream's numbers contradicted each other and were made consistent."""

    @property
    def total(self) -> int:
        """All tokens, each counted once."""
        return self.input + self.cache_read + self.cache_write + self.output


class Attempt(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One try of an exchange at one member."""

    upstream: str
    """The configured name."""
    model: str
    """The model name that was sent upstream."""
    cause: str
    """`ok`, or the `reason` of OPERATIONS 1.3: connect, http_429, timeout_first_byte, …"""
    duration_s: float
    """From the pick to the end of the attempt."""
    credential: int = 0
    """Index into the upstream's credentials."""
    status: int = 0
    """The upstream's HTTP status; 0 if none came."""
    head_s: float = NEVER
    """Request sent to response head; `NEVER` if none came."""
    connect_s: float = NEVER
    """Time to connect; `NEVER` for a connection from the pool."""


class ExchangeEnded(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="event", tag="exchange"):
    """The one record of one request, emitted when it is settled. When that was, its consumers read off the clock."""

    request_id: str
    endpoint: str
    """`chat` or `other`."""
    model: str
    """The configured route (a model name or a pattern); `_unknown` if none matched."""
    stream: bool
    status: int
    """What the client got; 499 if it left before an answer."""
    outcome: Outcome
    ended_by: Side
    phase: Phase
    """The phase the exchange was in when its end was decided."""
    complete: bool
    """The client has the whole answer."""
    duration_s: float
    overhead_s: float
    """Time in the router itself: request complete → first attempt sent, plus last upstream byte → last write."""
    key: str = ""
    """The configured name of the key; empty if none was recognised."""
    upstream: str = ""
    """The upstream that answered; empty if the router answered itself."""
    reason: str = ""
    """The `reason` of our own error; empty if the upstream's answer was relayed."""
    attempts: tuple[Attempt, ...] = ()
    usage: Usage | None = msgspec.field(name="tokens", default=None)
    """None: the upstream reported none; that is unknown, not zero."""
    exact: bool = False
    """`usage` is the upstream's own final figure for a complete answer."""
    reserved_tokens: int = msgspec.field(name="reserved", default=0)
    charged_tokens: int = msgspec.field(name="charged", default=0)
    ttft_s: float = NEVER
    """Request complete → first content to the client, all attempts included; `NEVER` if there was none."""
    tpot_s: float = NEVER
    """(last content - first content) / (output tokens - 1); `NEVER` if it cannot be known."""
    max_gap_s: float = NEVER
    """Longest silence between two reads of a stream after its first content; `NEVER` if not a stream."""
    request_bytes: int = msgspec.field(name="bytes_in", default=0)
    response_bytes: int = msgspec.field(name="bytes_out", default=0)
    requested_model: str = ""
    """What the client wrote, at most 128 characters, if that is not `model`; for the log, never a label."""
    client_request_id: str = ""
    """What the client sent as `x-request-id` or `x-client-request-id`, at most 128 visible ASCII characters."""
    client_retry: bool = False
    """The client said `x-stainless-retry-count` > 0."""


class UpstreamEjected(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="ejected"):
    """An upstream (or one of its models) is out for failing."""

    upstream: str
    model: str
    """Empty: the whole upstream."""
    reason: str
    """`consecutive` or `error_rate`."""
    for_s: float


class UpstreamRestored(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="restored"):
    """A probation request succeeded."""

    upstream: str
    model: str


class UpstreamCooled(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="cooled"):
    """(upstream, credential, model) is out because it said so, or because our credential was refused."""

    upstream: str
    credential: int
    model: str
    reason: str
    for_s: float


class LimitDecided(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="limit"):
    """A limit refused a request; what it lets in is counted from `ExchangeEnded`."""

    scope: str
    """`key` or `backend`."""
    limit: str
    """`requests`, `tokens` or `concurrency`."""


class ConfigReloaded(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="reload"):
    """A reload was asked for and this came of it."""

    at: float
    """Wall clock, seconds since the epoch."""
    result: str
    """`applied`, `unchanged` or `rejected`."""
    digest: str
    """Of the running configuration afterwards."""
    faults: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    """Settings that changed in the file but cannot change live."""


class Notice(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="notice"):
    """Something an operator should read once: started, draining, stopped, a fault in our own code."""

    at: float
    level: str
    """`info`, `warning` or `error`."""
    message: str
    detail: str = ""


Event = ExchangeEnded | UpstreamEjected | UpstreamRestored | UpstreamCooled | LimitDecided | ConfigReloaded | Notice
