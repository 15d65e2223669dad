"""What the data listener answers itself: models, health, and an error in our envelope for everything else."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from router.config.schema import CodeStyle
from router.errors import Kind, RequestError
from router.events import Event, ExchangeEnded, Outcome
from router.web import data

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from router.protocol.cors import Cors

Answer = tuple[int, dict[str, str], Any]


class Team:
    """A key of a client."""

    name = "team"


class Source:
    """A configuration reduced to what the answers are made of."""

    def __init__(self) -> None:
        self.code_style = CodeStyle.NUMBER
        self.models = ["gpt", "org/name:tag", "ümlaut"]
        self.secured = False
        self.bare_paths = False
        self.cors: Cors | None = None
        self.events: list[Event] = []
        self.ids = 0
        self.fault: Exception | None = None

    def request_id(self) -> str:
        self.ids += 1
        return f"req_{self.ids}"

    def find_key(self, headers: Sequence[tuple[bytes, bytes]]) -> Team | None:
        if not self.secured:
            return None
        tokens = [value for name, value in headers if name.lower() == b"authorization"]
        if not tokens:
            raise RequestError(Kind.MISSING_KEY, "No API key was given.")
        if tokens != [b"Bearer good"]:
            raise RequestError(Kind.INVALID_KEY, "The API key is not valid.")
        return Team()

    def models_for(self, key: Team | None) -> Sequence[str]:
        if self.fault is not None:
            raise self.fault
        return self.models[:1] if key is not None else self.models

    def emit(self, event: Event) -> None:
        self.events.append(event)


class Server:
    """The application behind a listener, the way the relay serves it: one protocol for each connection."""

    def __init__(self, source: Source, address: tuple[str, int]) -> None:
        self.source = source
        self.address = address

    async def raw(self, sent: bytes) -> bytes:
        """Everything that is answered until the server ends the connection."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(sent)
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()
            await writer.wait_closed()

    async def ask(self, line: str, *headers: str, body: bytes = b"") -> Answer:
        """Send one request and read the one answer, which ends the connection."""
        head = "\r\n".join([f"{line} HTTP/1.1", "Host: x", *headers, "", ""])
        return read(await self.raw(head.encode() + body))

    def record(self) -> ExchangeEnded:
        """The one record that there is."""
        (event,) = self.source.events
        assert isinstance(event, ExchangeEnded)
        return event


def read(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("ascii").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert int(headers["content-length"]) == len(body), "one answer, and nothing after it"
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/json"
    assert headers["server"] == "llm-router"
    assert headers["x-request-id"].startswith("req_")
    return int(status.split()[1]), headers, json.loads(body)


def reason(answer: Answer) -> tuple[int, str]:
    status, headers, body = answer
    assert body["request_id"] == headers["x-request-id"]
    assert body["error"]["code"] == status
    return status, body["error"]["reason"]


@asynccontextmanager
async def serving(source: Source, *, hands_over: bool = False, **settings: float) -> AsyncIterator[Server]:
    """The application behind a listener, until the end of the block."""
    runner, factory = await data.start(data.build(source), **settings)
    listener = await asyncio.get_running_loop().create_server(
        (lambda: HandsOver(factory)) if hands_over else factory, "127.0.0.1", 0
    )
    yield Server(source, listener.sockets[0].getsockname())
    listener.close()
    await runner.cleanup()
    await listener.wait_closed()


class HandsOver(asyncio.Protocol):
    """A connection that learns from the first bytes that it is not its own, as the relay does."""

    def __init__(self, factory: Callable[[], asyncio.Protocol]) -> None:
        self.factory = factory

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        protocol = self.factory()
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        protocol.data_received(data)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(Source()) as server:
        yield server


async def test_models_are_listed_in_openais_shape(server: Server) -> None:
    """Every field that OpenAI's schema requires is there, for each model in the order of the file."""
    status, _, body = await server.ask("GET /v1/models")
    assert (status, body["object"]) == (200, "list")
    assert [it["id"] for it in body["data"]] == server.source.models
    assert {it["object"] for it in body["data"]} == {"model"}
    assert {it["owned_by"] for it in body["data"]} == {"llm-router"}
    assert all(isinstance(it["created"], int) for it in body["data"])


async def test_an_anthropic_client_gets_its_own_shape(server: Server) -> None:
    """A request with Anthropic's version is answered in Anthropic's words, errors and pages included."""
    version = "anthropic-version: 2023-06-01"
    status, headers, body = await server.ask("GET /v1/models?limit=2", version)
    assert (status, headers["request-id"]) == (200, headers["x-request-id"])
    assert [(it["type"], it["id"], it["display_name"]) for it in body["data"]] == [
        ("model", "gpt", "gpt"),
        ("model", "org/name:tag", "org/name:tag"),
    ]
    assert (body["has_more"], body["first_id"], body["last_id"]) == (True, "gpt", "org/name:tag")
    status, _, body = await server.ask("GET /v1/models/org/name:tag", version)
    assert (status, body["type"], body["id"]) == (200, "model", "org/name:tag")
    status, _, body = await server.ask("GET /v1/models/none", version)
    assert (status, body["type"], body["error"]["type"]) == (404, "error", "not_found_error")
    status, _, body = await server.ask("GET /v1/messages/batches")
    assert (status, body["type"], body["error"]["type"]) == (404, "error", "not_found_error")


async def test_bare_paths_are_served_where_configured(server: Server) -> None:
    """The same list without `/v1`, and 404 as long as the setting is off."""
    assert reason(await server.ask("GET /models")) == (404, "unknown_endpoint")
    server.source.bare_paths = True
    status, _, body = await server.ask("GET /models")
    assert (status, len(body["data"])) == (200, 3)
    assert (await server.ask("GET /models/org/name:tag"))[0] == 200


async def test_a_key_sees_only_its_models(server: Server) -> None:
    """What a key may not use it does not see, neither listed nor by name."""
    server.source.secured = True
    auth = "Authorization: Bearer good"
    _, _, body = await server.ask("GET /v1/models", auth)
    assert [it["id"] for it in body["data"]] == ["gpt"]
    assert reason(await server.ask("GET /v1/models/org/name:tag", auth)) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("path", "name"),
    [("org/name:tag", "org/name:tag"), ("org%2Fname:tag", "org/name:tag"), ("gpt", "gpt"), ("%C3%BCmlaut", "ümlaut")],
)
async def test_a_model_is_found_however_its_name_is_written(server: Server, path: str, name: str) -> None:
    """SDKs escape the slash of a name, people do not: both find the model."""
    status, _, body = await server.ask(f"GET /v1/models/{path}")
    assert (status, body["id"], body["object"]) == (200, name, "model")


async def test_an_unknown_model_has_the_agreed_text(server: Server) -> None:
    """Clients compare this text, so it is exactly this one."""
    answer = await server.ask("GET /v1/models/gpt-x")
    assert reason(answer) == (404, "model_not_found")
    assert answer[2]["error"]["message"] == "model 'gpt-x' not found"
    assert answer[2]["error"]["param"] == "model"


@pytest.mark.parametrize("path", ["%FF", "%ED%A0%80", "%00", "x%0dX:1", "a" * 4000, "..%2f..", "%"])
async def test_a_strange_name_is_only_unknown(server: Server, path: str) -> None:
    """No name of a model makes anything but a 404."""
    assert reason(await server.ask(f"GET /v1/models/{path}")) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [((), "missing_api_key"), (("Authorization: Bearer bad",), "invalid_api_key")],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/gpt", "/v1/models/none"])
async def test_a_key_is_needed_where_keys_are_configured(
    server: Server, path: str, headers: tuple[str, ...], expected: str
) -> None:
    """Without a valid key nobody learns a model's name, and the answer says how to authenticate."""
    server.source.secured = True
    answer = await server.ask(f"GET {path}", *headers)
    assert reason(answer) == (401, expected)
    assert answer[1]["www-authenticate"] == "Bearer"
    assert "data" not in answer[2]


async def test_health_needs_no_key(server: Server) -> None:
    """A load balancer in front gets its answer without a key, and leaves no record."""
    server.source.secured = True
    status, _, body = await server.ask("GET /health")
    assert (status, body) == (200, {"status": "ok"})
    assert server.source.events == []


@pytest.mark.parametrize(
    "line",
    [
        "GET /",
        "POST /v1/embeddings",
        "GET /v1/models/",
        "OPTIONS *",
        "GET /v1/chat",
        "PATCH /%2e%2e/x",
        "GET /v1/models/%0a",
        "GET /?a=%FF",
    ],
)
async def test_other_paths_are_not_found(server: Server, line: str) -> None:
    """What the router does not serve is 404 in our envelope."""
    assert reason(await server.ask(line)) == (404, "unknown_endpoint")


@pytest.mark.parametrize("line", ["DELETE /v1/models/gpt", "POST /v1/models", "PUT /health"])
async def test_a_wrong_method_says_which_would_do(server: Server, line: str) -> None:
    """A known path with another method is 405 and names the methods it takes."""
    answer = await server.ask(line)
    assert reason(answer) == (405, "method_not_allowed")
    assert answer[1]["allow"] == "GET, HEAD"


async def test_head_is_answered_without_a_body(server: Server) -> None:
    """HEAD gets the head of GET."""
    answer = await server.raw(b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nsecret-token\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: secret-token\x00\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: " + b"secret-token" * 1000 + b"\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: secret-token\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"secret-token\r\n\r\n",
    ],
)
async def test_what_the_parser_refuses_is_answered_in_our_envelope(
    server: Server, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Malformed HTTP is 400 as JSON with a request id and a record; what was sent is neither echoed nor logged."""
    with caplog.at_level(logging.DEBUG):
        answer = await server.raw(sent)
    assert reason(read(answer)) == (400, "malformed_http")
    assert b"secret-token" not in answer
    assert "secret-token" not in caplog.text
    assert (server.record().outcome, server.record().reason) == (Outcome.CLIENT_ERROR, "malformed_http")


async def test_an_expectation_nobody_meets_is_answered_in_our_envelope(server: Server) -> None:
    """Even what the HTTP server refuses before any handler has our shape."""
    assert reason(await server.ask("POST /v1/x", "Expect: a-miracle", "Content-Length: 0")) == (400, "malformed_http")


async def test_an_answer_reaches_a_client_that_is_still_sending(server: Server) -> None:
    """A body that nobody wants is read away, so that the answer is not lost in a reset connection."""
    body = b"x" * 3_000_000
    answer = await server.ask("POST /v1/embeddings", f"Content-Length: {len(body)}", body=body)
    assert reason(answer) == (404, "unknown_endpoint")


async def test_the_connection_ends_after_one_answer(server: Server) -> None:
    """A pipelined request is not answered here: on a new connection it may be one for the relay."""
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    status, _, body = read(await server.raw(request + request))
    assert (status, body) == (200, {"status": "ok"})


async def test_a_client_that_leaves_leaves_nothing(server: Server) -> None:
    """A client gone in the middle of a request makes neither an answer nor a record."""
    _, writer = await asyncio.open_connection(*server.address)
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await server.ask("GET /v1/models"))[0] == 200
    assert server.record().status == 200


async def test_every_request_has_one_record(server: Server) -> None:
    """The record names the id of the answer, the key, the endpoint, the status and the size."""
    server.source.secured = True
    raw = await server.raw(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n")
    _, headers, _ = read(raw)
    record = server.record()
    assert record.request_id == headers["x-request-id"]
    assert (record.key, record.endpoint, record.status, record.outcome) == ("team", "models", 200, Outcome.OK)
    assert record.response_bytes == int(headers["content-length"])
    assert (record.model, record.upstream, record.complete, record.stream) == ("_unknown", "", True, False)
    assert 0 <= record.duration_s < 10


async def test_a_fault_of_ours_is_answered_and_not_shown(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """An unforeseen error is 500 in our envelope without its text; the text is in the log."""
    server.source.fault = LookupError("the inside story")
    with caplog.at_level(logging.ERROR):
        answer = await server.ask("GET /v1/models")
    assert reason(answer) == (500, "internal")
    assert "inside story" not in json.dumps(answer[2])
    assert "inside story" in caplog.text
    assert server.record().outcome is Outcome.INTERNAL


async def test_the_code_style_is_that_of_the_running_configuration(server: Server) -> None:
    """A reload that changes the style changes the next answer."""
    server.source.code_style = CodeStyle.STRING
    _, _, body = await server.ask("GET /nothing")
    assert body["error"]["code"] == "unknown_endpoint"


@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_connection_can_be_handed_over(pieces: int) -> None:
    """The protocol takes over an open connection with the bytes read so far; the end of the head may come later."""
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serving(Source(), hands_over=True) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(request[:-2] if pieces == 2 else request)
        await writer.drain()
        if pieces == 2:
            writer.write(request[-2:])
        status, _, body = read(await asyncio.wait_for(reader.read(), 10))
        writer.close()
        await writer.wait_closed()
    assert (status, body) == (200, {"status": "ok"})


async def test_a_head_that_never_ends_is_not_waited_for() -> None:
    """A client that stops inside a head loses its connection after the head's time."""
    async with serving(Source(), head_timeout_s=0.05) as server:
        assert await server.raw(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n") == b""


async def test_cleaning_up_closes_what_is_open() -> None:
    """A client that says nothing does not hold up the end of the daemon."""
    async with serving(Source()) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"GET /v1/mod")
        await writer.drain()
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    await writer.wait_closed()
