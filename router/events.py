"""Frozen records of what happened. `relay`, `web` and `app` emit them, `telemetry` consumes them.

They are msgspec structs because one is built per request on the hot path: 1.2 us for the fields of `ExchangeEnded`
against 4 us for a frozen dataclass.

`ExchangeEnded` is also the line of the access log, encoded as it stands: order and `name` of its fields are how it
reads, and a field at its default is left out. `omit_defaults` knows a default by identity, so the time of what did not
happen must be `NEVER` itself: another -1.0 would be written (and so must seconds that are not there be `NOTHING`).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

NEVER = -1.0
"""The time that something took that did not happen."""

NOTHING = 0.0
"""How long something is that is not there."""


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
    """What an answer used, as the upstream reported it, in disjoint classes (PROTOCOL 9.1), except `reasoning`.

    The order of the first five is a promise: the usual answer is read into them by position.
    """

    # Factories, because `omit_defaults` leaves out plain defaults, and zero tokens are a figure.
    input: int = msgspec.field(default_factory=int)
    """Text tokens of the prompt that were neither read from nor written to a cache."""
    cache_read: int = 0
    """Prompt tokens of any kind read from a cache: no upstream has a price of its own for cached sound or pictures."""
    cache_write: int = 0
    """Prompt tokens written to a cache for a short time: 5 or 30 minutes, or as long as the upstream likes."""
    output: int = msgspec.field(default_factory=int)
    """Completion tokens but for sound, those spent on reasoning included; of an image endpoint those of the picture."""
    reasoning: int = 0
    """Of `output`, the part spent on reasoning."""
    cache_write_long: int = 0
    """Prompt tokens written to a cache for hours."""
    audio_in: int = 0
    image_in: int = 0
    """Tokens of sound and of pictures in the prompt that no cache had."""
    audio_out: int = 0
    """Completion tokens of sound."""
    images: int = 0
    """Pictures made, where no tokens were reported for them."""
    seconds: float = NOTHING
    """Length of the sound that was transcribed, where no tokens were reported for it."""
    characters: int = 0
    """Of a text that was spoken, where no tokens were reported for it."""
    searches: int = 0
    """Searches the upstream did or bills by: web searches of an answer, search units of a rerank."""
    clamped: bool = False
    """The upstream's numbers contradicted each other and were made consistent."""

    @property
    def prompt(self) -> int:
        """All tokens of the request, each counted once."""
        return self.input + self.cache_read + self.cache_write + self.cache_write_long + self.audio_in + self.image_in

    @property
    def completion(self) -> int:
        """All tokens of the answer, each counted once."""
        return self.output + self.audio_out

    @property
    def total(self) -> int:
        """All tokens, each counted once. HOT: 0.13 us, spelt out because a property costs as much as three sums."""
        return (
            self.input
            + self.cache_read
            + self.cache_write
            + self.output
            + self.cache_write_long
            + self.audio_in
            + self.image_in
            + self.audio_out
        )


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
    span_id: str = ""
    """Its span in the trace, 16 hex digits; empty if none is kept."""
    offset_s: float = NEVER
    """From the first byte of the request to the pick; known of attempts that have a span."""


class ExchangeEnded(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="event", tag="exchange"):
    """The one record of one request, emitted when it is settled. When that was, its consumers read off the clock."""

    request_id: str
    endpoint: str
    """The name of the endpoint: `chat`, `messages`, `embeddings`, …; `other` for a path without one."""
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
    cost_usd: float | None = None
    """What `usage` costs by the prices of the route that served it; None: it has no prices, or there is no usage.

    A whole number of nano-dollars (`policy.price`) over 10⁹: up to a million dollars the float nearest to it, which is
    written with exactly its decimals.
    """
    dropped: tuple[str, ...] = ()
    """Parameters of the request that its translation for the upstream left out (PROTOCOL 10)."""
    metered: bool = True
    """False: whole answers of this kind carry no usage, so that none is missing."""
    trace_id: str = ""
    """Of the client's `traceparent`, or of the trace that begins here: 32 hex digits."""
    trace_sampled: bool = False
    """The spans of that trace are kept: whoever sees the id will find it."""
    span_id: str = ""
    """Our span in it, 16 hex digits; empty if we keep none."""
    parent_span_id: str = ""
    """The client's span; empty if the trace begins here, or we keep no span."""


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
    """Whose it is: `key`. An upstream that is at its limit is passed over, which refuses nobody."""
    limit: str
    """`requests`, `tokens` or `concurrency`."""
    key: str
    """The configured name."""


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
