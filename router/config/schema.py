"""The schema of the configuration: frozen structs, each field with its unit, bound, default and reason.

`config/router.yaml` is the commented twin of this module; a test compares them. `config.loader` walks the YAML nodes
and these types together, so a field's type is also its parser: `Seconds` reads `1m30s`, `Count` reads `500k`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta


class Seconds(float):
    """A duration, written `250ms`, `3s`, `1m30s`, `2h` or a plain number of seconds. Greater than zero, finite."""

    __slots__ = ()


class Count(int):
    """A whole number that may be written with `k` (10³), `M` (10⁶) or `G` (10⁹): `500k`, `2M`, `1.5M`."""

    __slots__ = ()


class Size(int):
    """A number of bytes, written plain or with `KiB`, `MiB`, `GiB` (powers of 1024) or `kB`, `MB`, `GB` (of 1000)."""

    __slots__ = ()


class Listen(str):
    """`host:port`, `[v6]:port` or `:port`; port 0 lets the kernel choose."""

    __slots__ = ()


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """The base of every mapping in the file: unknown keys are faults."""


class Choose(StrEnum):
    """How a member is chosen inside a tier (RELIABILITY 1.3 to 1.5)."""

    TWO_CHOICES = "two_choices"
    LEAST_IN_FLIGHT = "least_in_flight"
    ROUND_ROBIN = "round_robin"


class StreamUsage(StrEnum):
    """Whether the router asks for usage on streams (PROTOCOL 5.3)."""

    INJECT = "inject"
    NEVER = "never"
    AUTO = "auto"


class CodeStyle(StrEnum):
    """What stands under `code` in our own errors (PROTOCOL 7.1)."""

    NUMBER = "number"
    STRING = "string"


class Auth(StrEnum):
    """How a credential is sent upstream."""

    BEARER = "bearer"
    X_API_KEY = "x-api-key"
    API_KEY = "api-key"
    NONE = "none"


class Secret(Settings, frozen=True):
    """A reference to a secret, never the secret itself: exactly one of these is given."""

    sha256: str | None = None
    """The SHA-256 of the secret, 64 hex digits. For client keys only: `printf %s "$KEY" | sha256sum`."""
    env: str | None = None
    """The name of an environment variable."""
    file: str | None = None
    """A file that holds the secret; white space around it is removed. Relative to the configuration file."""
    credential: str | None = None
    """A systemd credential (`LoadCredential=`): a file of this name in `$CREDENTIALS_DIRECTORY`."""


class Limits(Settings, frozen=True):
    """What a key may use, or what an upstream can take. A limit that is not given does not exist."""

    requests_per_minute: Annotated[Count, Meta(ge=1)] | None = None
    tokens_per_minute: Annotated[Count, Meta(ge=1)] | None = None
    """Prompt and completion together: reserved when a request is admitted, settled with the true usage at its end."""
    concurrency: Annotated[Count, Meta(ge=1)] | None = None
    """Requests in flight, each counted until its last byte."""
    request_burst: Annotated[Count, Meta(ge=1)] | None = None
    """Requests that may come at once. Default: a sixth of a minute's worth, at least 1 (RELIABILITY 5.1)."""


class Pace(Settings, frozen=True):
    """The rate at which an upstream accepts requests, kept by delaying our own (aiolimiter)."""

    requests: Annotated[Count, Meta(ge=1)]
    per: Seconds = Seconds(1)
    wait: Seconds = Seconds(2)
    """The longest a request waits for its turn; after that another member is tried."""


class Timeouts(Settings, frozen=True):
    """Deadlines of one exchange. The phases share one total (RELIABILITY 1.7)."""

    connect: Seconds = Seconds(3)
    """DNS, TCP and TLS together, for each attempt."""
    first_byte: Seconds = Seconds(60)
    """Request sent → response head, for each attempt."""
    first_token: Seconds = Seconds(120)
    """Request sent → first event with content, for each attempt on a stream."""
    idle: Seconds = Seconds(120)
    """The longest silence inside an answer."""
    total: Seconds = Seconds(1800)
    """The whole exchange, every attempt included."""


class TimeoutOverrides(Settings, frozen=True):
    """`Timeouts` of which any may be left to the level above."""

    connect: Seconds | None = None
    first_byte: Seconds | None = None
    first_token: Seconds | None = None
    idle: Seconds | None = None
    total: Seconds | None = None


class Ejection(Settings, frozen=True):
    """When an upstream is taken out for failing, and for how long (RELIABILITY 1.5)."""

    consecutive: Annotated[int, Meta(ge=1)] = 5
    """Hard failures in a row."""
    success_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """Ejected when fewer than this share of the outcomes in `window` succeeded …"""
    window: Seconds = Seconds(30)
    min_outcomes: Annotated[int, Meta(ge=1)] = 10
    """… of at least so many."""
    eject: Seconds = Seconds(10)
    """Seconds out after the first ejection; each later one doubles it, up to `eject_max`."""
    eject_max: Seconds = Seconds(300)


class Retry(Settings, frozen=True):
    """How far the router goes to get an answer before the first content (RELIABILITY 1.7)."""

    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    """Tries in total for one request."""
    budget_min: Annotated[int, Meta(ge=0)] = 3
    """Retries that may be under way at once whatever the load."""
    budget_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.2
    """Above that, retries may be at most this share of the requests in flight."""


class Streams(Settings, frozen=True):
    """What the router does with streams (PROTOCOL 5)."""

    hold: Seconds = Seconds(25)
    """A stream whose upstream answered 200 but stays silent so long is committed, with heartbeats. Proxies in front cut
    silence at 60 s."""
    heartbeat: Seconds = Seconds(15)
    """Silence after which a comment line is sent between two events."""
    early_keepalive: bool = False
    """Commit after `hold` even if no upstream has answered: the client then always sees 200."""


class Defaults(Settings, frozen=True):
    """What upstreams and models inherit."""

    timeouts: Timeouts = Timeouts()
    choose: Choose = Choose.TWO_CHOICES
    ejection: Ejection = Ejection()
    retry: Retry = Retry()
    streams: Streams = Streams()
    default_output_tokens: Annotated[Count, Meta(ge=1)] = Count(1024)
    """Completion tokens reserved against a token limit when the request names no maximum."""


class Tls(Settings, frozen=True):
    """How an `https` upstream is checked. Certificates are always checked."""

    ca: str | None = None
    """A PEM file with the authorities to trust instead of the system's. Relative to the configuration file."""
    server_name: str | None = None
    """The name to expect in the certificate, if it is not the host of `base_url`."""


class HeaderPolicy(Settings, frozen=True):
    """Changes to the headers sent upstream, after the deny-list of PROTOCOL 3.2."""

    set: dict[str, str] = {}
    """Added, replacing what the client sent."""
    deny: tuple[str, ...] = ()
    """Dropped as well."""
    forward: tuple[str, ...] = ()
    """Of the headers dropped for safety (`openai-organization`, `openai-project`, `cookie`), those that pass."""


class Upstream(Settings, frozen=True):
    """One base URL with its credentials, limits and timeouts."""

    base_url: str
    """What stands before `/chat/completions`: usually ends in `/v1`. `{1..4}` in it declares that many upstreams."""
    api_key: Secret | None = None
    api_keys: tuple[Secret, ...] = ()
    """Several credentials for one upstream, each with cooldowns of its own."""
    auth: Auth | None = None
    """How the credential is sent. Default: `bearer`, or `none` without a credential."""
    limits: Limits = Limits()
    """A full upstream is not eligible; nothing waits for it."""
    pace: Pace | None = None
    timeouts: TimeoutOverrides = TimeoutOverrides()
    headers: HeaderPolicy = HeaderPolicy()
    query: dict[str, str] = {}
    """Added to the query string of every request (`api-version`)."""
    stream_usage: StreamUsage = StreamUsage.AUTO
    """`auto` asks for usage on streams and stops asking an upstream that refuses the question."""
    tls: Tls = Tls()
    keepalive: Seconds = Seconds(4)
    """How long an idle connection is kept. llama.cpp closes its own after exactly 5 s."""
    idle_connections: Annotated[int, Meta(ge=0)] = 512
    """Idle connections kept for each credential."""


class Member(Settings, frozen=True):
    """One way to serve a model."""

    upstream: str
    model: str | None = None
    """The model's name there. Default: the name the client wrote."""
    weight: Annotated[float, Meta(ge=0, le=1_000_000)] = 1.0
    """Share of the traffic inside its tier; 0 drains the member: what is in flight ends, nothing new comes."""
    tier: Annotated[int, Meta(ge=1)] = 1
    """The lowest tier with an eligible member serves."""


class Model(Settings, frozen=True):
    """A name clients may ask for, and the pool that serves it.

    Short forms: `name: upstream`, and in a pool a bare upstream name. A `*` in the name matches any text; an exact name
    wins over a pattern and a longer pattern over a shorter one.
    """

    pool: tuple[Member, ...]
    fallback: tuple[str, ...] = ()
    """Models to try, in order, once every member of the pool has been."""
    choose: Choose | None = None
    timeouts: TimeoutOverrides = TimeoutOverrides()
    default_output_tokens: Annotated[Count, Meta(ge=1)] | None = None


class Key(Settings, frozen=True):
    """One client's credential and what it may do."""

    secret: Secret
    models: tuple[str, ...] = ("*",)
    """Names or patterns of the models it may use."""
    limits: Limits = Limits()
    disabled: bool = False
    """Refused exactly like a key that does not exist."""


class Errors(Settings, frozen=True):
    """The shape of our own errors."""

    code_style: CodeStyle = CodeStyle.NUMBER
    """`string` puts OpenAI's string code where the HTTP status stands, for clients that insist on it."""


class Requests(Settings, frozen=True):
    """Bounds on what clients send."""

    body_max: Size = Size(64 * 1024 * 1024)
    """The largest request body; more is answered 413."""
    bodies_total_max: Size = Size(1024 * 1024 * 1024)
    """All request bodies in memory together; above it new ones are answered 503."""
    head_max: Size = Size(64 * 1024)
    """Request line and headers together."""
    head_timeout: Seconds = Seconds(15)
    """From the first byte of a request to the end of its head."""
    body_timeout: Seconds = Seconds(30)
    """Without progress while a body is received."""
    keepalive: Seconds = Seconds(75)
    """How long an idle client connection is kept."""
    write_timeout: Seconds = Seconds(60)
    """Without progress while a client does not read."""


class Reload(Settings, frozen=True):
    """How a changed file is noticed."""

    watch: bool = True
    """Look at the file's content; SIGHUP and `POST /-/reload` work in any case."""
    interval: Seconds = Seconds(2)
    """Between two looks; a change counts once two looks in a row read the same."""


class Stop(Settings, frozen=True):
    """How the daemon ends after SIGTERM."""

    notice: Seconds = Seconds(5)
    """Not ready, but still accepting: time for load balancers to look elsewhere."""
    drain: Seconds = Seconds(120)
    """After that, time for exchanges in flight to finish."""


class Log(Settings, frozen=True):
    """The access log: one JSON line for each request on standard output."""

    access: bool = True
    queue_max: Annotated[int, Meta(ge=1)] = 10_000
    """Lines that may wait for a slow reader; more are dropped and counted."""


class Debug(Settings, frozen=True):
    """Help for finding out what the router did."""

    headers: bool = False
    """Add `x-router-upstream` and `x-router-attempts` to answers. They name upstreams to clients."""


class Config(Settings, frozen=True, kw_only=True):
    """The whole file."""

    listen: Listen = Listen("127.0.0.1:8080")
    """Where clients connect. Without `keys` only a loopback address is allowed."""
    admin: Listen = Listen("127.0.0.1:9464")
    """Metrics, health, reload. Keep it away from clients."""
    defaults: Defaults = Defaults()
    upstreams: dict[str, Upstream]
    models: dict[str, Model]
    keys: dict[str, Key] = {}
    """Empty: every client on this machine may use every model."""
    requests: Requests = Requests()
    errors: Errors = Errors()
    reload: Reload = Reload()
    stop: Stop = Stop()
    log: Log = Log()
    debug: Debug = Debug()
