"""The schema of the configuration: frozen structs, each field with its unit, bound, default and reason.

`config/router.yaml` is the commented twin of this module; a test compares them. `config.loader` walks the YAML nodes
and these types together, so a field's type is also its parser: `Seconds` reads `1m30s`, `Count` reads `500k`.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final

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


class Usd(Decimal):
    """An amount of dollars, read exactly from its digits and never by way of a float. Zero or more."""

    __slots__ = ()


class Listen(str):
    """`host:port`, `[v6]:port`, `:port` or `unix:/path`; port 0 lets the kernel choose."""

    __slots__ = ()


class FileName(str):
    """A file or folder. A relative one begins at the folder of the file that it is written in."""

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


class Protocol(StrEnum):
    """What an upstream speaks."""

    OPENAI = "openai"
    """Chat completions, responses and the other endpoints of PROTOCOL 2."""
    ANTHROPIC = "anthropic"
    """Messages."""


class MaxTokensField(StrEnum):
    """The member of a chat request that bounds its answer."""

    MAX_TOKENS = "max_tokens"
    MAX_COMPLETION_TOKENS = "max_completion_tokens"


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
    """The SHA-256 of the secret, 64 hex digits. For client keys and `admin_token` only, which are compared and never
    sent: `printf %s "$KEY" | sha256sum`."""
    env: str | None = None
    """The name of an environment variable."""
    file: FileName | None = None
    """A file that holds the secret; white space around it is removed."""
    credential: str | None = None
    """A systemd credential (`LoadCredential=`): a file of this name in `$CREDENTIALS_DIRECTORY`."""


class Limits(Settings, frozen=True):
    """What a key may use, or what an upstream can take. A limit that is not given does not exist."""

    requests_per_minute: Annotated[Count, Meta(ge=1)] | None = None
    """Requests on the average; `request_burst` of them may come at once."""
    tokens_per_minute: Annotated[Count, Meta(ge=1)] | None = None
    """Prompt and completion together: reserved when a request is admitted, settled with the true usage at its end."""
    concurrency: Annotated[Count, Meta(ge=1)] | None = None
    """Requests in flight, each counted until its last byte."""
    request_burst: Annotated[Count, Meta(ge=1)] | None = None
    """Requests that may come at once. Default: a sixth of a minute's worth, at least 1 (RELIABILITY 5.1)."""


class Pace(Settings, frozen=True):
    """The rate at which an upstream accepts requests, kept by delaying our own (aiolimiter)."""

    requests: Annotated[Count, Meta(ge=1)]
    """So many …"""
    per: Seconds = Seconds(1)
    """… in this time."""
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
    """Deadlines (`Timeouts`) of which any may be left to the level above."""

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
    """How far back outcomes count."""
    min_outcomes: Annotated[int, Meta(ge=1)] = 10
    """… of at least so many."""
    eject: Seconds = Seconds(10)
    """Seconds out after the first ejection; each later one doubles it, up to `eject_max`."""
    eject_max: Seconds = Seconds(300)
    """The longest time out."""


class Retry(Settings, frozen=True):
    """How far the router goes to get an answer before the first content (RELIABILITY 1.7)."""

    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    """Tries in total for one request."""
    budget_min: Annotated[int, Meta(ge=0)] = 3
    """Retries at members whose own last request failed: so many may be under way at once whatever the load. A member
    that is well is not held to a budget."""
    budget_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.2
    """Above that, such retries may be at most this share of the requests in flight."""


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

    ca: FileName | None = None
    """A PEM file with the authorities to trust instead of the system's."""
    server_name: str | None = None
    """The name to expect in the certificate, if it is not the host of `base_url`."""

    cert: FileName | None = None
    """A PEM file with the certificate that the router shows, and the chain behind it."""
    key: FileName | None = None
    """A PEM file with the private key of `cert`, not encrypted. Default: it stands in the file of `cert`."""


class Proxy(Settings, frozen=True):
    """An HTTP proxy through which an upstream is reached: a CONNECT tunnel for `http` and `https` alike."""

    url: str
    """`http://host:port`. The proxy resolves the upstream's host."""
    username: str | None = None
    """Sent with `password` as Basic credentials (RFC 7617)."""
    password: Secret | None = None
    authorization: Secret | None = None
    """In place of both: the whole value of `Proxy-Authorization`, for other schemes (`Bearer …`)."""


PASSING_HEADERS: Final = (
    "accept", "content-type", "user-agent", "openai-beta", "anthropic-version", "anthropic-beta", "idempotency-key",
    "x-client-request-id", "traceparent", "tracestate", "http-referer", "x-title",
)  # fmt: skip
"""What `ALLOW_DEFAULT` stands for (PROTOCOL 3.2)."""

ALLOW_DEFAULT: Final = "default"


class HeaderPolicy(Settings, frozen=True):
    """Changes to the headers sent upstream, after those that never pass are dropped (PROTOCOL 3.2)."""

    set: dict[str, str] = {}
    """Added, replacing what the client sent."""
    deny: tuple[str, ...] = ()
    """Dropped as well."""
    forward: tuple[str, ...] = ()
    """Of the headers dropped for safety (`openai-organization`, `openai-project`, `cookie`), those that pass."""
    allow: tuple[str, ...] | None = None
    """Of the client's headers only these pass, if it is given; `default` stands for the usual ones. What is
    dropped without it is dropped all the same."""


class Upstream(Settings, frozen=True):
    """One base URL with its protocol, credentials, limits and timeouts."""

    base_url: str
    """What stands before `/chat/completions`: usually ends in `/v1`. `{1..4}` in it declares that many upstreams."""
    preset: str | None = None
    """A kind of upstream that is known by its name: fills in what is not given here, `base_url` too."""
    protocol: Protocol = Protocol.OPENAI
    path: str | None = None
    """What follows `base_url` where the model belongs into the URL: `{model}` is its name, `{path}` what follows `/v1`
    in the client's path. Default: `{path}`."""
    path_for: tuple[str, ...] = ()
    """Endpoints that take `path`, by the first step of theirs (`chat`, `audio`). Default: all that name a model."""
    api_key: Secret | None = None
    api_keys: tuple[Secret, ...] = ()
    """Several credentials for one upstream, each with cooldowns of its own."""
    auth: Auth | None = None
    """How the credential is sent. Default: `bearer`, for `anthropic` `x-api-key`; without a credential `none`."""
    limits: Limits = Limits()
    """A full upstream is not eligible; nothing waits for it."""
    pace: Pace | None = None
    timeouts: TimeoutOverrides = TimeoutOverrides()
    headers: HeaderPolicy = HeaderPolicy()
    query: dict[str, str] = {}
    """Added to the query string of every request (`api-version`)."""
    stream_usage: StreamUsage = StreamUsage.AUTO
    """`auto` asks for usage on streams and stops asking an upstream that refuses the question."""
    drop_params: tuple[str, ...] = ()
    """Top-level members of JSON requests that it cannot take: they are left out."""
    max_tokens_field: MaxTokensField | None = None
    """The member that bounds an answer here; the other one is renamed. Default: as the client wrote it."""
    expose_errors: bool = False
    """Its 429 passes to the client as it is. Such errors name the operator's account and limits (PROTOCOL 7.3)."""
    tls: Tls = Tls()
    proxy: Proxy | None = None
    """How it is reached, if not directly. Variables such as `HTTPS_PROXY` are not looked at."""
    keepalive: Seconds = Seconds(4)
    """How long an idle connection is kept. llama.cpp closes its own after exactly 5 s."""
    idle_connections: Annotated[int, Meta(ge=0)] = 512
    """Idle connections kept for each credential."""

    @property
    def sends_credential_as(self) -> Auth:
        """`auth`, or what follows from the other settings where it is not given."""
        if self.auth is not None:
            return self.auth
        if self.api_key is None and not self.api_keys:
            return Auth.NONE
        return Auth.X_API_KEY if self.protocol is Protocol.ANTHROPIC else Auth.BEARER


class Member(Settings, frozen=True):
    """One way to serve a model."""

    upstream: str
    """The name of an upstream, or of a range of them."""
    model: str | None = None
    """The model's name there. Default: the name the client wrote."""
    weight: Annotated[float, Meta(ge=0, le=1_000_000)] = 1.0
    """Share of the traffic inside its tier; 0 drains the member: what is in flight ends, nothing new comes."""
    tier: Annotated[int, Meta(ge=1)] = 1
    """The lowest tier with an eligible member serves."""


class Translation(Settings, frozen=True):
    """How a request is written in the protocol of an upstream that speaks another one (PROTOCOL 10)."""

    default_max_tokens: Annotated[Count, Meta(ge=1)] = Count(4096)
    """`max_tokens` of a message whose chat request names no bound: Anthropic's API requires one."""
    inline_system: bool = False
    """The model takes `system` messages between others; else they are moved to the front."""
    no_sampling: bool = False
    """The model refuses `temperature`, `top_p` and `top_k`: they are dropped."""
    adaptive_thinking: bool = True
    """The model decides itself how long it thinks; else it is given a budget of tokens."""
    thinking_required: bool = False
    """The model refuses to be told not to think: an effort of `none` then sends nothing."""
    thinking_blocks: bool = False
    """Signed thinking is kept in a member `thinking_blocks`, which OpenAI's API does not know."""


class Price(Settings, frozen=True):
    """What a model costs (PROTOCOL 9.2). What is not given costs nothing, or as much as what it falls back to."""

    input: Usd | None = None
    """USD per million tokens of text in the prompt."""
    cached_input: Usd | None = None
    """Per million prompt tokens read from a cache. Default: `input`."""
    cache_write: Usd | None = None
    """Per million prompt tokens written to a cache, for minutes. Default: `input`."""
    cache_write_long: Usd | None = None
    """Per million prompt tokens written to a cache, for hours. Default: `cache_write`."""
    output: Usd | None = None
    """Per million completion tokens, those spent on reasoning included."""
    audio_input: Usd | None = None
    """Per million prompt tokens of sound. Default: `input`."""
    audio_output: Usd | None = None
    """Per million completion tokens of sound. Default: `output`."""
    image_input: Usd | None = None
    """Per million prompt tokens of pictures. Default: `input`."""
    image: Usd | None = None
    """USD per picture: each one made without a count of tokens, and each one that a chat request shows."""
    second: Usd | None = None
    """USD per second of sound, where an upstream reports seconds in place of tokens."""
    characters: Usd | None = None
    """USD per million characters of a text that is spoken."""
    search: Usd | None = None
    """USD per web search, and per search unit of a rerank."""


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
    """In place of the same setting under `defaults`."""
    price: Price | None = None
    """Without it the model's cost is unknown, which is not nothing: a free model has `input: 0`."""
    translate: bool = False
    """Members that do not speak the client's protocol serve too: requests and answers are rebuilt for them."""
    translation: Translation = Translation()


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
    """From the first byte of a request to the end of its head; likewise for a TLS handshake, from the connection on."""
    body_timeout: Seconds = Seconds(30)
    """Without progress while a body is received."""
    keepalive: Seconds = Seconds(75)
    """How long an idle client connection is kept."""
    connections_per_address: Annotated[int, Meta(ge=1)] | None = None
    """One address may have so many connections, or one IPv6 site. Default: no bound, as behind a load balancer all
    clients have its address; when the daemon has no room for more, whoever has most idle ones makes it."""
    write_timeout: Seconds = Seconds(60)
    """Without progress while a client does not read."""
    form_max: Size = Size(256 * 1024 * 1024)
    """The largest `multipart/form-data` body; more is answered 413."""
    spool_from: Size = Size(1024 * 1024)
    """Larger `multipart/form-data` bodies are kept on disk."""
    spooled_total_max: Size = Size(8 * 1024 * 1024 * 1024)
    """All bodies on disk together; above it new ones are answered 503."""
    spool_dir: FileName | None = None
    """Where: a folder. Default: the system's for temporary files."""


ANY_ORIGIN: Final = "*"
"""In place of origins: every page."""


class Cors(Settings, frozen=True):
    """Which pages in browsers may use the data listener (the CORS protocol of the Fetch standard)."""

    origins: tuple[str, ...]
    """Scheme, host and port as browsers write them; `https://*.example.org` stands for every host below that one,
    `*` alone for every page."""
    max_age: Seconds = Seconds(600)
    """How long a browser may remember what it may send. Chromium keeps it for two hours at most."""


class Sticky(Settings, frozen=True):
    """Which upstream keeps what a client may come back to: responses, videos, calls (PROTOCOL 2.2)."""

    ids_max: Annotated[Count, Meta(ge=1)] = Count(100_000)
    """Ids remembered; the one used longest ago is forgotten first."""
    ttl: Seconds = Seconds(30 * 86_400)
    """How long an id is remembered. OpenAI keeps responses for 30 days."""


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
    """Write it."""
    queue_max: Annotated[int, Meta(ge=1)] = 10_000
    """Lines that may wait for a slow reader; more are dropped and counted."""


class Debug(Settings, frozen=True):
    """Help for finding out what the router did."""

    headers: bool = False
    """Add `x-router-upstream` and `x-router-attempts` to answers. They name upstreams to clients."""


class Tracing(Settings, frozen=True):
    """Where the spans of requests go, by OTLP over HTTP. Needs the extra `[otel]`."""

    endpoint: str
    """The collector's URL with its path: `http://127.0.0.1:4318/v1/traces`."""
    sample: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """Share of the requests without a `traceparent` whose spans are kept. Of others the client decides, by its flag."""
    headers: dict[str, Secret] = {}
    """Sent to the collector: who we are."""
    service_name: str = "llm-router"
    """`service.name` of the spans."""


PIN_FAMILIES: Final = (
    "files", "uploads", "batches", "fine_tuning", "vector_stores", "containers", "conversations", "assistants",
    "threads", "evals", "skills", "agents", "chatkit", "live",
)  # fmt: skip
"""First steps of paths whose state lives in one account (PROTOCOL 2)."""

MODEL_OPTIONAL: Final = (
    "responses", "moderations", "images", "image_edits", "image_variations", "videos", "realtime",
)  # fmt: skip
"""Endpoints whose requests need not name a model (PROTOCOL 2)."""


class ServerTls(Settings, frozen=True):
    """What a listener proves itself with, and whom it lets in. New content is taken up by a reload."""

    cert: FileName
    """A PEM file with the certificate that clients are shown, and the chain behind it."""
    key: FileName | None = None
    """A PEM file with the private key of `cert`, not encrypted. Default: it stands in the file of `cert`."""
    client_ca: FileName | None = None
    """A PEM file with authorities: only clients that show a certificate of theirs are let in."""


class Listener(Settings, frozen=True):
    """One address at which connections are taken. Short form: the bare address."""

    address: Listen
    """`host:port`, `[v6]:port`, `:port` for every interface, or `unix:PATH`."""
    tls: ServerTls | None = None
    mode: str | None = None
    """Permissions of a unix socket, in octal: `"0660"`. Default: what the daemon's umask leaves."""


class Config(Settings, frozen=True, kw_only=True):
    """The whole file."""

    include: tuple[FileName, ...] | None = None
    """Further files, folders (of which `*.yaml` and `*.yml` count) and patterns. The names of `upstreams`, `models`,
    `keys`, `pins` and `default_models` add up; any other setting stands in one file. Included files include none."""
    listen: tuple[Listener, ...] = (Listener(address=Listen("127.0.0.1:8080")),)
    """Where clients connect. Without `keys` only loopback addresses and unix sockets are allowed."""
    admin: tuple[Listener, ...] = (Listener(address=Listen("127.0.0.1:9464")),)
    """Metrics, health, reload. Keep it away from clients."""
    admin_token: Secret | None = None
    """What `Authorization: Bearer` must hold for everything that changes something at `admin`. Default: nothing."""
    defaults: Defaults = Defaults()
    upstreams: dict[str, Upstream]
    models: dict[str, Model]
    keys: dict[str, Key] = {}
    """Empty: every client on this machine may use every model."""
    requests: Requests = Requests()
    bare_paths: bool = False
    """Serve every path without its `/v1` as well."""
    passthrough_unknown_paths: bool = False
    """Carry a POST to a path that is not known here, if its body is JSON and names a model."""
    pins: dict[str, str] = {}
    """For each family of paths whose state lives in one account the upstream that serves it; the paths of a family not
    named are not found."""
    default_models: dict[str, str] = {}
    """For each endpoint whose requests need not name a model the one that serves those which name none."""
    cors: Cors | None = None
    """Without it no page of another origin is let in: it can send what needs no leave, and cannot read the answer."""
    sticky: Sticky = Sticky()
    errors: Errors = Errors()
    reload: Reload = Reload()
    stop: Stop = Stop()
    log: Log = Log()
    debug: Debug = Debug()
    tracing: Tracing | None = None
    """Default: none. A client's `traceparent` then passes to the upstream as it came."""
