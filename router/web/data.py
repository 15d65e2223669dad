"""What the data listener does not relay: the list of models, a health answer, WebSockets, and errors for all else.

The relay hands a connection over at a message boundary, for good. So every answer here ends its connection: the next
request of that client may be one for the relay, and a new connection starts there.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
from aiohttp import web

from router.errors import Kind, Problem, RequestError
from router.events import ExchangeEnded, Outcome, Phase, Side
from router.protocol import envelope
from router.protocol.cors import WEB_METHODS
from router.web import models
from router.web.reach import Declined

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp.typedefs import Handler

    from router.config.schema import CodeStyle
    from router.events import Event
    from router.protocol.cors import Cors
    from router.web.realtime import Sockets

_logger = logging.getLogger(__name__)

HEAD_TIMEOUT_S = 15.0
"""From the handover to the end of the request's head, as `requests.head_timeout`."""

WRITE_TIMEOUT_S = 60.0
"""Without progress while a client does not read its answer, as `requests.write_timeout`."""

PREFIX = "/v1"
REALTIME = "/realtime"
RESPONSES = "/responses"
MESSAGES = ("/v1/messages", "/messages")
BARE = ("/models", REALTIME, RESPONSES)
"""Paths of WebSockets. Requests to the second with another method are the relay's."""

LINGER_S = 2.0
"""How long the body of a request that is refused is read and thrown away, as in the relay.

Closing at once would reset the connection while the client is still sending, and it might never see the answer.
"""

SHUTDOWN_S = 1.0
"""How long answers that are being written may take once the daemon stops."""


class Key(Protocol):
    """A client's key, as far as it is needed here."""

    @property
    def name(self) -> str:
        """The configured name."""


K = TypeVar("K", bound=Key)


class DataSource(Protocol[K]):
    """What the answers are made of. It reads the running configuration anew for each call."""

    @property
    def code_style(self) -> CodeStyle:
        """What stands under `code` in errors."""

    def request_id(self) -> str:
        """Return a new id."""

    def find_key(self, headers: Sequence[tuple[bytes, bytes]]) -> K | None:
        """Return the key of a request, None if no keys are configured.

        Raises:
            RequestError: No key is given (`MISSING_KEY`), it is not a valid one (`INVALID_KEY`), or the credentials
                are malformed.
        """

    @property
    def cors(self) -> Cors | None:
        """Which pages in browsers are let in."""

    @property
    def bare_paths(self) -> bool:
        """The same paths are served without `/v1`."""

    def models_for(self, key: K | None) -> Sequence[str]:
        """Return the names, not the patterns, of the models that the key may use, in the order of the file."""

    def emit(self, event: Event) -> None:
        """Tell the consumers of events what happened."""


SOURCE: web.AppKey[DataSource[Any]] = web.AppKey("source", DataSource)
CREATED: web.AppKey[int] = web.AppKey("created", int)
SOCKETS: web.AppKey[Sockets] = web.AppKey("sockets")


def build(source: DataSource[Any], sockets: Sockets | None = None) -> web.Application:
    """Return the application; `start` serves it. Without `sockets` there are no WebSockets."""
    app = web.Application(middlewares=[_exchange])
    app[SOURCE] = source
    # OpenAI's schema wants a time for each model. When this daemon began to offer them is the truest there is.
    app[CREATED] = int(time.time())
    app.router.add_get("/health", _health)
    if sockets is not None:
        app[SOCKETS] = sockets
    for prefix in (PREFIX, ""):  # the second is served while `bare_paths` is on
        app.router.add_get(f"{prefix}/models", _models)
        app.router.add_get(f"{prefix}/models/{{id:.+}}", _model)
        if sockets is not None:
            app.router.add_get(prefix + REALTIME, _realtime, allow_head=False)
            app.router.add_get(prefix + RESPONSES, _responses, allow_head=False)
    return app


async def start(
    app: web.Application,
    head_timeout_s: float = HEAD_TIMEOUT_S,
    write_timeout_s: float = WRITE_TIMEOUT_S,
) -> tuple[web.AppRunner, Connections]:
    """Start the application without a listener: return its runner, to clean up, and the maker of its protocols."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    server = runner.server
    assert server is not None
    loop = asyncio.get_running_loop()

    def connection(address: str = "", lost: Callable[[Connection], None] = lambda _: None) -> Connection:
        made = Connection(server, loop, app[SOURCE], head_timeout_s, write_timeout_s)
        made.address, made.lost = address, lost
        return made

    return runner, connection


class Connections(Protocol):
    """Makes connections."""

    def __call__(self, address: str = "", lost: Callable[[Connection], None] = ...) -> Connection:
        """Return the protocol of a connection from this address; `lost` is told of its end."""


class Connection(web.RequestHandler):
    """aiohttp's server protocol, with an envelope of ours for its own answers (PROTOCOL 1.11) and a write timeout."""

    __slots__ = ("_patience", "_source", "_write_timeout_s", "address", "begun", "lost", "waiting_since")

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        source: DataSource[Any],
        head_timeout_s: float,
        write_timeout_s: float,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=head_timeout_s,
            lingering_time=LINGER_S,
            access_log=None,  # type: ignore[arg-type] # None is its documented way to turn the log off
            auto_decompress=False,
        )
        self._source = source
        self._write_timeout_s = write_timeout_s
        self._patience: asyncio.TimerHandle | None = None
        """Runs from the moment an answer is sent."""
        self.address = ""
        """The client's (`relay.crowd`)."""
        self.begun = False
        """The head of its request is whole."""
        self.waiting_since = time.monotonic()
        self.lost: Callable[[Connection], None] = lambda _: None
        """Told of the end."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's text quotes what the client sent; ours does not
    ) -> web.StreamResponse:
        """Answer what its parser refused. Errors of our handlers never come here: `_exchange` answers them."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun, so there cannot be another")
        if status >= 500:
            _logger.error("request failed in the server", exc_info=exc)
        return self._refuse(status)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; one that did not pass through `_exchange`, to a strange `Expect` say, is made ours first."""
        if self.transport is not None:
            self._watch_reader(self.transport, sys.maxsize)
        return await super().finish_response(
            request, self._refuse(resp.status) if isinstance(resp, web.HTTPException) else resp, start_time
        )

    def _watch_reader(self, transport: asyncio.Transport, unread: int) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self._loop.call_later(self._write_timeout_s, self._look_at_reader, transport, unread)

    def _look_at_reader(self, transport: asyncio.Transport, before: int) -> None:
        """Cut a client that stopped reading; as every answer is the last, closing would wait for it for ever."""
        unread = transport.get_write_buffer_size()
        if unread >= before:
            transport.abort()
        elif unread:
            self._watch_reader(transport, unread)

    def connection_lost(self, exc: BaseException | None) -> None:  # noqa: D102 (asyncio's)
        if self._patience is not None:
            self._patience.cancel()
        self.lost(self)
        super().connection_lost(exc)

    @property
    def waits(self) -> bool:
        """It may be ended to make room for others."""
        return not self.begun

    def make_room(self) -> None:
        """There are too many connections, and nothing is lost with this one."""
        if self.transport is not None:
            self.transport.abort()

    def _refuse(self, status: int) -> web.Response:
        answer = _Answer(self._source)
        if status >= 500:
            return answer.refuse(Problem(Kind.INTERNAL, "The router failed to answer this request."))
        return answer.refuse(RequestError(Kind.MALFORMED_HTTP, "The request is not valid HTTP/1.1."))


class _Answer:
    """One answer and the record of it: each request here ends in exactly one of the methods."""

    def __init__(
        self,
        source: DataSource[Any],
        endpoint: str = "other",
        dialect: envelope.Dialect = envelope.Dialect.OPENAI,
    ) -> None:
        self.key = ""
        self.dialect = dialect
        """Whose errors the client reads."""
        self.request_id = source.request_id()
        self.cors = b""
        """Header lines for the page that may read it."""
        self.recorded = endpoint == "health"
        """No record is wanted of it, or somebody else makes it."""
        self._source = source
        self._endpoint = endpoint
        self._began = time.monotonic()

    def give(self, value: object) -> web.Response:
        """Answer 200 with a JSON value."""
        return self._respond(200, msgspec.json.encode(value), {"Content-Type": "application/json"}, "")

    def permit(self, lines: bytes) -> web.Response:
        """Say to a browser that its page may send what it asked for."""
        return self._respond(204, b"", _fields(lines), "")

    def refuse(self, problem: Problem, allow: str = "") -> web.Response:
        """Answer with an error; `allow` are the methods the path does take."""
        body = envelope.render(problem, self.request_id, self.dialect, self._source.code_style)
        fields = _fields(envelope.headers(problem, self.request_id, self.dialect, allow=allow))
        if problem.kind is Kind.UPGRADE_REQUIRED:
            fields["Upgrade"] = "websocket"  # RFC 9110 section 15.5.22
        return self._respond(problem.status, body, fields, problem.kind)

    def pass_on(self, declined: Declined) -> web.Response:
        """Answer with an upstream's own error, in our envelope if not every client could read it."""
        body, status = declined.body, declined.upstream_status
        if envelope.mask(body.decode("latin-1"), declined.secrets) != body.decode("latin-1") or not envelope.passes(
            status, declined.facts
        ):
            style = self._source.code_style
            body = envelope.wrap_upstream(
                status, declined.facts, body, self.request_id, style, secrets=declined.secrets
            )
        return self._respond(status, body, {"Content-Type": "application/json"}, declined.kind)

    def _respond(self, status: int, body: bytes, headers: dict[str, str], reason: str) -> web.Response:
        response = web.Response(status=status, body=body, headers=headers | _fields(self.cors))
        response.headers["x-request-id"] = self.request_id
        if self.dialect is envelope.Dialect.ANTHROPIC:
            response.headers["request-id"] = self.request_id
        response.headers["Server"] = "llm-router"  # else aiohttp names itself and the Python version
        response.headers["Connection"] = "close"  # said aloud where aiohttp would leave it to HTTP/1.0
        response.force_close()
        if not self.recorded:
            self._source.emit(self._record(status, len(body), reason))
        return response

    def _record(self, status: int, size: int, reason: str) -> ExchangeEnded:
        duration_s = time.monotonic() - self._began
        outcome = Outcome.OK if status < 400 else Outcome.CLIENT_ERROR if status < 500 else Outcome.INTERNAL
        return ExchangeEnded(
            request_id=self.request_id,
            endpoint=self._endpoint,
            key=self.key,
            model="_unknown",
            stream=False,
            status=status,
            outcome=outcome,
            reason=reason,
            ended_by=Side.ROUTER,
            phase=Phase.ENDING,
            complete=True,
            duration_s=duration_s,
            overhead_s=duration_s,
            response_bytes=size,
        )


def _fields(lines: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines.decode("ascii").splitlines())


ANSWER: web.RequestKey[_Answer] = web.RequestKey("answer", _Answer)


@web.middleware
async def _exchange(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every request an id, one answer and one record."""
    source = request.app[SOURCE]
    connection = request.protocol
    if isinstance(connection, Connection):
        connection.begun = True
    answer = request[ANSWER] = _Answer(source, _endpoint(request.path), _dialect(request))
    try:
        if source.cors is not None and (permits := _preflight(source.cors, request, answer)):
            return answer.permit(permits)
        _check_path(request)
        return await handler(request)
    except Declined as declined:
        return answer.pass_on(declined)
    except Problem as problem:
        return answer.refuse(problem)
    except web.HTTPMethodNotAllowed as wrong:
        allow = ", ".join(sorted(wrong.allowed_methods))
        return answer.refuse(RequestError(Kind.METHOD_NOT_ALLOWED, f"This path takes {allow} only."), allow)
    except web.HTTPException:
        return answer.refuse(RequestError(Kind.UNKNOWN_ENDPOINT, f"{_where(request)} is not served here."))
    except Exception:
        _logger.exception("request failed: %s", _where(request))
        return answer.refuse(Problem(Kind.INTERNAL, "The router failed to answer this request."))


def _preflight(cors: Cors, request: web.Request, answer: _Answer) -> bytes:
    """See for which page the answer is, and return what it says to a preflight of that page; nothing if it is none."""
    headers = [(name.lower(), value) for name, value in request.raw_headers]
    origins = [value for name, value in headers if name == b"origin"]
    answer.cors = cors.lines(origins[0]) if len(origins) == 1 else b""
    if not answer.cors or request.method != "OPTIONS" or request.body_exists:
        return b""
    return cors.preflight(headers, WEB_METHODS)


def _check_path(request: web.Request) -> None:
    """See whether the path is served under this configuration.

    Raises:
        RequestError: UNKNOWN_ENDPOINT: it lacks its `/v1`, and may not.
    """
    if request.path.startswith(BARE) and not request.app[SOURCE].bare_paths:
        raise RequestError(Kind.UNKNOWN_ENDPOINT, f"{_where(request)} is not served here.")


async def _models(request: web.Request) -> web.Response:
    names, created = _allowed(request), request.app[CREATED]
    if request[ANSWER].dialect is envelope.Dialect.ANTHROPIC:
        return request[ANSWER].give(models.anthropic_list(names, created, request.query))
    return request[ANSWER].give(models.openai_list(names, created))


async def _model(request: web.Request) -> web.Response:
    """Answer one model. SDKs write `/` in a name as `%2F`, people as it is: both arrive here alike (PROTOCOL 2.4)."""
    name = request.match_info["id"]
    if name not in _allowed(request):
        raise RequestError(Kind.MODEL_NOT_FOUND, f"model '{name}' not found", param="model")
    shape = models.openai_entry
    if request[ANSWER].dialect is envelope.Dialect.ANTHROPIC:
        shape = models.anthropic_entry
    return request[ANSWER].give(shape(name, request.app[CREATED]))


async def _health(request: web.Request) -> web.Response:
    return request[ANSWER].give({"status": "ok"})


async def _realtime(request: web.Request) -> web.StreamResponse:
    answer = request[ANSWER]
    answer.recorded = True
    return await request.app[SOCKETS].realtime(request, answer.request_id)


async def _responses(request: web.Request) -> web.StreamResponse:
    answer = request[ANSWER]
    answer.recorded = True
    return await request.app[SOCKETS].responses(request, answer.request_id)


def _allowed(request: web.Request) -> Sequence[str]:
    """Return the models this request may know of.

    Raises:
        RequestError: Keys are configured and none, or a wrong one, is given.
    """
    source = request.app[SOURCE]
    key = source.find_key(request.raw_headers)
    request[ANSWER].key = key.name if key is not None else ""
    return source.models_for(key)


def _dialect(request: web.BaseRequest) -> envelope.Dialect:
    """Return whose client this is: on its own paths, and where it says so (PROTOCOL 2.4)."""
    if "anthropic-version" in request.headers or request.path.startswith(MESSAGES):
        return envelope.Dialect.ANTHROPIC
    return envelope.Dialect.OPENAI


def _endpoint(path: str) -> str:
    """Return the `endpoint` of the record; `health` has none, since probes would fill the log and hide the traffic."""
    if path == "/health":
        return "health"
    path = path.removeprefix(PREFIX)
    if path == REALTIME:
        return "realtime"
    return "models" if path == "/models" or path.startswith("/models/") else "other"


def _where(request: web.Request) -> str:
    """Return the request line's method and path, the start of a long one."""
    return f"{request.method} {request.rel_url.raw_path[:200]}"
