"""WebSockets from handshake to settled: the real daemon between aiohttp's client and a real upstream (PROTOCOL 2.7)."""

from __future__ import annotations

import asyncio
import time

import openai
import pytest

from router.events import Outcome
from router.policy.owners import Owner
from tests.harness.router import CLIENT_SECRET, OTHER_SECRET, RunningRouter, config
from tests.harness.socket_client import SocketClient, closing, event, transport_of
from tests.harness.socket_upstream import Call, SocketUpstream, flood, sends, silent, talk
from tests.harness.waiting import PATIENCE_S, until
from tests.web.conftest import KEYS, StartRouter


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/v1/realtime?model=m", {}, (401, "missing_api_key")),
        ("/v1/realtime?model=m", {"Authorization": "Bearer no"}, (401, "invalid_api_key")),
        ("/v1/realtime?model=x", {"api-key": CLIENT_SECRET}, (404, "model_not_found")),
        ("/v1/realtime?model=hidden", {"api-key": CLIENT_SECRET}, (403, "model_not_allowed")),
        ("/v1/realtime", {"api-key": CLIENT_SECRET}, (400, "missing_required_parameter")),
        ("/v1/realtime?intent=transcription", {"api-key": CLIENT_SECRET}, (400, "missing_required_parameter")),
        ("/v1/realtime?call_id=rtc_1", {"api-key": CLIENT_SECRET}, (404, "not_found")),
        ("/v1/realtime?model=m&model=m", {"api-key": CLIENT_SECRET}, (400, "duplicate_parameter")),
        ("/v1/realtime?Model=m", {"api-key": CLIENT_SECRET}, (400, "duplicate_parameter")),
        ("/v1/realtime?model=", {"api-key": CLIENT_SECRET}, (400, "invalid_type")),
        ("/v1/realtime?model=m", {"api-key": CLIENT_SECRET, "Sec-WebSocket-Key": "x"}, (400, "malformed_http")),
        ("/v1/realtime?model=m", {"api-key": CLIENT_SECRET, "Sec-WebSocket-Key": "ü"}, (400, "malformed_http")),
        ("/v1/realtime?model=m", {"api-key": CLIENT_SECRET, "Sec-WebSocket-Version": "9"}, (400, "malformed_http")),
        ("/v1/realtime?model=m", {"Sec-WebSocket-Protocol": "a b"}, (400, "malformed_http")),
    ],
)
async def test_who_may_not_is_told_before_the_upgrade(  # noqa: PLR0917 -- fixtures and a table
    router: StartRouter,
    client: SocketClient,
    first: SocketUpstream,
    path: str,
    headers: dict[str, str],
    expected: tuple[int, str],
) -> None:
    """Whatever is wrong with a handshake is an HTTP error in our envelope with one record, and nobody is called."""
    settings = config(first.base_url)
    models = settings["models"] | {"hidden": settings["models"]["m"]}
    running = await router(first, keys={"team": KEYS["team"] | {"models": ["m", "x"]}}, models=models)
    status, error, answer = await client.refused(running, path, **headers)
    assert (status, error["reason"]) == expected
    record = await running.record()
    assert (record.status, record.reason, record.endpoint) == (*expected, "realtime")
    assert record.request_id == answer.headers["x-request-id"]
    assert first.calls == []


async def test_a_default_model_serves_who_names_none(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """A Responses socket whose first frame names no model is served by the configured one, which is written in."""
    running = await router(first, default_models={"responses": "m"})
    socket = await client.open(running, "/v1/responses")
    await socket.send_str('{"type":"response.create"}')
    assert (await socket.receive(PATIENCE_S)).data == '{"model":"m","type":"response.create"}'
    await socket.close()
    assert (await running.record()).model == "m"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"concurrency": 1}, "concurrent_requests"), ({"requests_per_minute": 1}, "requests_per_minute")],
)
async def test_a_socket_is_one_request_and_one_slot(
    router: StartRouter, client: SocketClient, first: SocketUpstream, limits: dict[str, int], reason: str
) -> None:
    """A socket counts as a request, and holds its slot as long as it is open."""
    running = await router(first, keys={"team": KEYS["team"] | {"limits": limits}})
    socket = await client.open(running, key=CLIENT_SECRET)
    status, error, answer = await client.refused(running, Authorization=f"Bearer {CLIENT_SECRET}")
    assert (status, error["reason"]) == (429, reason)
    assert "retry-after" in answer.headers
    await socket.close()
    await running.rest()
    if reason == "concurrent_requests":
        await (await client.open(running, key=CLIENT_SECRET)).close()


async def test_a_socket_is_in_flight(router: StartRouter, client: SocketClient, first: SocketUpstream) -> None:
    """An open socket shows in what is held, in the gauges and on the status page."""
    running = await router(first)
    socket = await client.open(running)
    assert running.held() == {"leases": 1, "sockets": 1}
    page = running.daemon.state()
    assert (page["requests_in_flight"], page["models"][0]["in_flight"]) == (1, 1)
    await socket.close()
    await running.rest()
    assert running.daemon.state()["requests_in_flight"] == 0


async def test_a_stop_waits_for_sockets_and_then_ends_them(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """While draining a socket goes on; when the time is over it is told so and closed with 1012, in and out."""
    first.always(talk(sends({"type": "hello"})))
    running = await router(first, stop={"notice": "1ms", "drain": "300ms"})
    socket = await client.open(running)
    running.stopped = True
    stop = asyncio.get_running_loop().create_task(running.daemon.stop())
    await until(lambda: running.daemon._relay.closed)
    assert (await event(socket))["type"] == "hello"
    said = await event(socket)
    assert (said["type"], said["error"]["code"]) == ("error", "draining")
    assert (await closing(socket))[0] == 1012
    await stop
    assert (await first.called()).closed == (1001, "")
    assert [(record.outcome, record.reason) for record in running.ended] == [(Outcome.OVERLOADED, "draining")]
    assert running.held() == {}


async def test_a_stop_does_not_wait_for_a_client_that_does_not_read(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """A stuck socket cannot hold up the end of the daemon."""

    first.always(talk(flood))
    running = await router(first, stop={"notice": "1ms", "drain": "1ms"})
    socket = await client.open(running)
    transport = transport_of(socket)
    transport.pause_reading()
    running.stopped = True
    async with asyncio.timeout(8):
        await running.daemon.stop()
    assert len(running.ended) == 1


async def test_who_comes_while_the_daemon_stops_is_turned_away(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """A handshake that is complete only after the doors have closed reads 503 `draining`; open sockets go on."""
    running = await router(first)
    socket = await client.open(running)
    reader, writer = await asyncio.open_connection(*running.daemon.data_address)
    writer.write(b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    await until(lambda: not running.daemon._relay.connections, "both connections to be aiohttp's")
    running.stopped = True
    stop = asyncio.get_running_loop().create_task(running.daemon.stop())
    await until(lambda: running.daemon._relay.closed)
    writer.write(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"draining"' in answer
    await socket.send_str("still there?")
    assert (await socket.receive(PATIENCE_S)).data == "still there?"
    await socket.close()
    await stop
    writer.close()
    await writer.wait_closed()


async def test_a_stop_ends_a_search_too(router: StartRouter, client: SocketClient, first: SocketUpstream) -> None:
    """Whoever is still being connected when the drain is over reads 503 `draining`."""

    first.always(silent)
    running = await router(first, stop={"notice": "1ms", "drain": "1ms"})
    asking = asyncio.get_running_loop().create_task(client.refused(running))
    await first.called()
    running.stopped = True
    await running.daemon.stop()
    status, error, _ = await asking
    assert (status, error["reason"]) == (503, "draining")


async def test_a_reload_leaves_sockets_alone(router: StartRouter, client: SocketClient, first: SocketUpstream) -> None:
    """A new configuration holds for new sockets; one that is open keeps its upstream and its accounts."""
    running = await router(first)
    socket = await client.open(running)
    await running.reload(config("http://127.0.0.1:1/v1"))
    await socket.send_str("still there?")
    assert (await socket.receive(PATIENCE_S)).data == "still there?"
    await socket.close()
    assert (await running.record()).outcome is Outcome.OK


# the official client


@pytest.mark.parametrize("path", ["/v1/realtime?model=m", "/v1/responses"])
async def test_a_client_may_leave_at_any_moment(router: StartRouter, first: SocketUpstream, path: str) -> None:
    """However far a socket has come when its client vanishes, it leaves one record and nothing held."""
    first.always(talk(sends({"type": "session.created"})))
    running = await router(first, keys={"team": KEYS["team"] | {"limits": {"concurrency": 100}}})
    head = (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nx-api-key: {CLIENT_SECRET}\r\n\r\n"
    ).encode()
    frame = b'{"type":"response.create","model":"m"}'
    for turns in range(60):
        _, writer = await asyncio.open_connection(*running.daemon.data_address)
        writer.write(head + bytes((0x81, 0x80 | len(frame))) + b"\0\0\0\0" + frame)
        for _ in range(turns):
            await asyncio.sleep(0)
        writer.transport.abort()
        await running.rest()
    assert {record.outcome for record in running.ended} == {Outcome.CLIENT_GONE}
    assert {attempt.cause for record in running.ended for attempt in record.attempts} <= {"ok", "client_gone"}
    assert {record.status for record in running.ended} <= {101, 499}
    assert any(record.status == 101 for record in running.ended)


def client_of(running: RunningRouter) -> openai.AsyncOpenAI:
    host, port = running.daemon.data_address
    return openai.AsyncOpenAI(api_key=CLIENT_SECRET, base_url=f"http://{host}:{port}/v1")


async def test_openais_realtime_client_holds_a_conversation(router: StartRouter, first: SocketUpstream) -> None:
    """The SDK connects, sends, reads typed events to `response.done`, and sees its own close answered."""
    pytest.importorskip("websockets", reason="the SDK's WebSocket needs openai[realtime]")

    async def play(call: Call) -> None:
        await call.send({"type": "session.created", "event_id": "e1", "session": {"type": "realtime"}})
        assert b"response.create" in (await call.receive() or b"")
        await call.send({"type": "response.output_text.delta", "event_id": "e2", "delta": "Hello"})
        await call.send({"type": "response.done", "event_id": "e3", "response": {"status": "completed"}})

    first.always(talk(play))
    running = await router(first, keys=KEYS)
    async with client_of(running) as sdk, sdk.realtime.connect(model="m") as connection:
        assert (await connection.recv()).type == "session.created"
        await connection.response.create()
        delta = await connection.recv()
        assert delta.type == "response.output_text.delta"
        assert delta.delta == "Hello"
        assert (await connection.recv()).type == "response.done"
    record = await running.record()
    assert (record.key, record.outcome, record.endpoint) == ("team", Outcome.OK, "realtime")
    assert (await first.called()).closed is not None


async def test_openais_realtime_client_reads_our_errors(router: StartRouter, first: SocketUpstream) -> None:
    """A refused handshake is an error with our status; an error frame is a typed event, and the end is told."""
    websockets = pytest.importorskip("websockets", reason="the SDK's WebSocket needs openai[realtime]")

    async def play(call: Call) -> None:
        call.break_off()

    first.always(talk(play, reads_to_end=False))
    running = await router(first, keys=KEYS)
    async with client_of(running) as sdk:
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            await sdk.realtime.connect(model="none").enter()
        assert refused.value.response.status_code == 404
        async with sdk.realtime.connect(model="m") as connection:
            said = await connection.recv()
            assert said.type == "error"
            assert said.error.code == "upstream_connection"
            with pytest.raises(websockets.exceptions.ConnectionClosedError) as ended:
                await connection.recv()
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code == 1011


async def test_openais_responses_client_gets_an_answer(router: StartRouter, first: SocketUpstream) -> None:
    """The SDK's Responses socket sends its frame, which reaches the upstream, and reads the terminal event."""
    pytest.importorskip("websockets", reason="the SDK's WebSocket needs openai[realtime]")

    async def play(call: Call) -> None:
        assert b'"response.create"' in (await call.receive() or b"")
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        await call.send({"type": "response.completed", "response": {"id": "resp_1", "output": [], "usage": usage}})

    first.always(talk(play))
    running = await router(first, keys=KEYS)
    async with client_of(running) as sdk, sdk.responses.connect() as connection:
        await connection.response.create(model="m", input="hi")
        said = await connection.recv()
        assert said.type == "response.completed"
        assert said.response.id == "resp_1"
    record = await running.record()
    assert (record.endpoint, record.charged_tokens, record.exact) == ("responses_ws", 2, True)


async def test_a_call_is_joined_where_it_began(
    router: StartRouter, client: SocketClient, first: SocketUpstream, second: SocketUpstream
) -> None:
    """A socket that names a call goes to the upstream that took its offer, for the key that made it and no other."""
    running = await router(first, second, keys=KEYS | {"other": {"secret": {"env": "OTHER_SECRET"}}})
    owner = Owner("m", "second", 0, "m", "team", billed=True)
    running.daemon._relay.owners.keep("rtc_1", owner, time.monotonic())
    socket = await client.open(running, "/v1/realtime?call_id=rtc_1", key=CLIENT_SECRET)
    await socket.close()
    assert (len(first.calls), len(second.calls)) == (0, 1)
    assert second.calls[0].request.path_qs == "/v1/realtime?call_id=rtc_1"
    assert (await running.record()).model == "m"
    status, error, _ = await client.refused(
        running, "/v1/realtime?call_id=rtc_1", Authorization=f"Bearer {OTHER_SECRET}"
    )
    assert (status, error["reason"]) == (404, "not_found")


async def test_a_socket_does_not_build_upon_another_keys_response(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """A frame that names a stranger's response is refused as if there were none, and nobody is called."""
    running = await router(first, keys=KEYS)
    owner = Owner("m", "first", 0, "m", "other", billed=True)
    running.daemon._relay.owners.keep("resp_1", owner, time.monotonic())
    socket = await client.open(running, "/v1/responses", key=CLIENT_SECRET)
    await socket.send_str('{"type":"response.create","model":"m","previous_response_id":"resp_1"}')
    assert (await event(socket))["error"]["code"] == "not_found"
    await socket.close()
    assert first.calls == []
