"""What the relay promises holds on listeners with TLS and on unix sockets as it does on plain ones."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import pytest

from router.events import Outcome
from router.relay.downstream import Downstream
from router.relay.tls import Secured
from tests.harness import chat
from tests.harness.certificates import NAME, Certificates
from tests.harness.client import Client, Ending, post
from tests.harness.socket_client import event
from tests.harness.socket_upstream import SocketUpstream, talk
from tests.harness.upstream import (
    chunks,
    cut,
    head,
    json_answer,
    last_chunk,
    play,
    reset,
    send,
    sse_head,
    sse_stream,
    stall,
    wait_for,
)
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harness.router import RunningRouter
    from tests.harness.upstream import ScriptedUpstream, Turn
    from tests.relay.conftest import StartRouter

MIB = 1024 * 1024
SPEECH = b"POST /v1/audio/speech HTTP/%b\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
SPOKEN = b'{"model":"m","input":"Hello.","voice":"alloy"}'


class Serve(Protocol):
    """Starts a router whose clients connect as `kind` says."""

    async def __call__(self, *serving: Any, **settings: Any) -> RunningRouter: ...


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture(params=["tls", "unix", "unix with tls"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def serve(router: StartRouter, certificates: Certificates, kind: str) -> Serve:
    return serving(router, certificates, kind)


def serving(router: StartRouter, certificates: Certificates, kind: str) -> Serve:
    async def start(*upstreams: Any, **settings: Any) -> RunningRouter:
        address = "unix:router.sock" if "unix" in kind else "127.0.0.1:0"
        listener = certificates.listener(address) if "tls" in kind else {"address": address, "mode": "0600"}
        running = await router(*upstreams, listen=[listener], **settings)
        running.tls = certificates.trust() if "tls" in kind else None
        return running

    return start


# Truth


async def test_answers_arrive_byte_for_byte(serve: Serve, first: ScriptedUpstream) -> None:
    """Whole answers and streams on one connection, one after the other, as the upstream sent them."""
    events = (chat.role(), chat.token("Hello"), chat.finish())
    first.then(json_answer(), sse_stream(*events), json_answer())
    running = await serve(first)
    async with await running.connect() as client:
        await client.send(post(chat.request()))
        assert (await client.answer()).body == chat.completion()
        await client.send(post(chat.request(stream=True)))
        assert (await client.answer()).body == b"".join((*events, chat.DONE))
        await client.send(post(chat.request()))
        assert (await client.answer()).body == chat.completion()
    assert [received.place for received in first.received] == [0, 1, 2]


async def test_large_bodies_pass_both_ways(serve: Serve, first: ScriptedUpstream) -> None:
    """Megabytes up and down, many times what one record, read or buffer holds."""
    answer = b'{"choices":["' + b"y" * 5 * MIB + b'"]}'
    first.always(json_answer(answer))
    running = await serve(first)
    question = chat.request(user="x" * 5 * MIB)
    assert (await running.post(question)).body == answer
    assert first.received[0].body == question


async def test_a_cut_stream_does_not_look_whole(serve: Serve, first: ScriptedUpstream) -> None:
    """The client reads an error event, no terminal marker and no end of the framing."""
    first.always(play(sse_head(), chunks(chat.role(), chat.token("Hel")), cut()))
    running = await serve(first)
    answer = await running.stream()
    assert (answer.status, answer.ending) == (200, Ending.ABORTED)
    assert b"[DONE]" not in answer.body
    assert b'"error"' in answer.events[-1]


@pytest.mark.parametrize("how", [cut, reset])
async def test_a_cut_body_does_not_look_whole(serve: Serve, first: ScriptedUpstream, how: Any) -> None:
    """Nor does one that has a length."""
    first.always(play(send(head(200, "content-type: audio/mpeg", "content-length: 999") + b"sound"), how()))
    running = await serve(first)
    client = await running.connect()
    await client.send(SPEECH % (b"1.1", len(SPOKEN), SPOKEN))
    answer = await client.answer()
    assert (answer.status, answer.body, answer.ending) == (200, b"sound", Ending.ABORTED)


def ends_unframed(how: Any) -> Any:
    """A body that nothing but the end of its connection ends, and that ends so."""
    return play(send(head(200, "content-type: audio/mpeg", "connection: close") + b"sound"), how)


async def finish(turn: Turn) -> None:
    turn.connection.transport.close()


@pytest.mark.parametrize("kind", ["unix"])
async def test_a_cut_without_framing_shows_on_a_unix_socket(serve: Serve, first: ScriptedUpstream) -> None:
    """A unix socket knows no reset, so there a body without framing is framed: a cut is a missing end."""
    first.then(ends_unframed(reset()), ends_unframed(finish))
    running = await serve(first)
    for ending in (Ending.ABORTED, Ending.CLEAN):
        client = await running.connect()
        await client.send(SPEECH % (b"1.1", len(SPOKEN), SPOKEN))
        answer = await client.answer()
        assert (answer.body, answer.ending) == (b"sound", ending)
        assert answer.header("transfer-encoding") == "chunked"


def read_all(address: tuple[str, int], context: ssl.SSLContext, request: bytes) -> tuple[bytes, bool]:
    """What a plain blocking client reads, and whether TLS said that this was all."""
    read = b""
    with (
        socket.create_connection(address, timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=NAME, suppress_ragged_eofs=False) as client,
    ):
        client.sendall(request)
        try:
            while piece := client.recv(65536):
                read += piece
        except (ssl.SSLEOFError, ConnectionResetError):
            return read, False
    return read, True


@pytest.mark.parametrize("kind", ["tls"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_cut_without_framing_shows_in_tls(
    serve: Serve, first: ScriptedUpstream, certificates: Certificates, version: bytes
) -> None:
    """Where the connection's end is the body's, TLS says so of a whole one (close_notify) and never of a cut one."""
    first.then(ends_unframed(reset()), ends_unframed(finish))
    running = await serve(first)
    request = SPEECH % (version, len(SPOKEN), SPOKEN)
    read = [
        await asyncio.to_thread(read_all, running.daemon.data_address, certificates.trust(), request) for _ in range(2)
    ]
    assert [is_whole for _, is_whole in read] == [False, True]
    assert read[1][0].endswith(b"\r\n\r\nsound")
    assert b"transfer-encoding" not in read[1][0].lower()


# Patience


async def flood(turn: Turn) -> None:
    for _ in range(1024):
        await turn.chunk(chat.token("x" * 65_000))


async def test_a_client_that_never_reads_stops_the_upstream(serve: Serve, first: ScriptedUpstream) -> None:
    """Back-pressure reaches the upstream after a few megabytes; then the write deadline ends both sides."""
    first.always(play(sse_head(), flood))
    running = await serve(first, requests={"write_timeout": "300ms"})
    client = await running.open(chat.request(stream=True), receive_buffer=8192)
    client.stop_reading()
    received = await first.asked()
    await received.left()
    assert first.sent_bytes < 16 * MIB
    assert (await running.record()).outcome is Outcome.CLIENT_GONE


async def test_a_slow_reader_gets_everything(serve: Serve, first: ScriptedUpstream) -> None:
    """A client that pauses again and again loses nothing."""
    events = (chat.role(), *(chat.token(f"{number:06}" + "x" * 60_000) for number in range(100)), chat.finish())
    first.always(sse_stream(*events))
    running = await serve(first)
    client = await running.open(chat.request(stream=True), receive_buffer=8192)
    await client.head()
    while await client.piece():
        client.stop_reading()
        await asyncio.sleep(0)
        client.go_on_reading()
    assert client.current is not None
    assert client.current.body == b"".join((*events, chat.DONE))
    assert client.current.ending is Ending.CLEAN


async def test_a_last_answer_is_read_to_its_end(serve: Serve, first: ScriptedUpstream) -> None:
    """Closing behind an answer waits until a slow client has read it, and cuts nothing of it."""
    body = b'{"choices":["' + b"y" * 900_000 + b'"]}'
    first.always(json_answer(body))
    running = await serve(first)
    client = await running.open(chat.request(), "Connection: close", receive_buffer=8192)
    client.stop_reading()
    await running.record()
    for _ in range(100):
        await asyncio.sleep(0)
    client.go_on_reading()
    answer = await client.answer()
    assert (answer.body, answer.ending) == (body, Ending.CLEAN)
    assert await client.ended() == b""


@pytest.mark.parametrize("how", [Client.reset, Client.leave])
async def test_a_client_that_leaves_takes_its_upstream_along(serve: Serve, first: ScriptedUpstream, how: Any) -> None:
    """In the middle of a stream, with or without a goodbye: the upstream is left at once."""
    first.always(play(sse_head(), chunks(chat.role(), chat.token("Hel")), stall()))
    running = await serve(first)
    client = await running.open(chat.request(stream=True))
    await client.head()
    await client.until(b"Hel")
    left = how(client)
    if left is not None:
        await left
    await (await first.asked()).left()
    assert (await running.record()).outcome is Outcome.CLIENT_GONE


async def test_streams_finish_while_draining(serve: Serve, first: ScriptedUpstream) -> None:
    """A stop ends idle connections, and waits for a stream to come to its end."""
    go_on = asyncio.Event()
    first.always(
        play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())
    )
    running = await serve(first)
    client = await running.open(chat.request(stream=True))
    await client.head()
    idle = await running.connect()
    running.stopped = True
    stop = asyncio.get_running_loop().create_task(running.daemon.stop())
    assert await idle.ended() == b""
    assert not stop.done()
    go_on.set()
    streamed = await client.rest()
    assert (streamed.ending, streamed.events[-1]) == (Ending.CLEAN, chat.DONE)
    await stop


# What aiohttp answers


async def test_what_the_relay_does_not_carry_is_answered(serve: Serve, first: ScriptedUpstream) -> None:
    """The handover to aiohttp works there too, and its answer ends the connection."""
    running = await serve(first)
    client = await running.connect()
    await client.send(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await client.answer("GET")
    assert (answer.status, answer.json["data"][0]["id"]) == (200, "m")
    assert await client.ended() == b""


@pytest.mark.parametrize("kind", ["tls", "unix"])
async def test_sockets_are_carried(serve: Serve, certificates: Certificates, kind: str) -> None:
    """A realtime WebSocket, from its handshake through messages of a megabyte to its close."""
    upstream = SocketUpstream()
    await upstream.start()
    upstream.always(talk(echo))
    try:
        running = await serve(upstream.base_url)
        place = running.daemon.data_address
        connector = aiohttp.UnixConnector(path=place[0]) if "unix" in kind else aiohttp.TCPConnector()
        url = f"{'https' if 'tls' in kind else 'http'}://127.0.0.1:{place[1] or 80}/v1/realtime?model=m"
        trust = certificates.trust() if "tls" in kind else True
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.ws_connect(url, ssl=trust, max_msg_size=0) as talking,
        ):
            await talking.send_json({"type": "said", "text": "x" * MIB})
            assert ((await event(talking))["text"] == "x" * MIB) is True
        assert (await running.record()).outcome is Outcome.OK
    finally:
        await upstream.close()


async def echo(call: Any) -> None:
    while (message := await call.receive()) is not None:
        await call.send(message.decode())


# Handshakes


async def silent(running: RunningRouter, count: int) -> list[Client]:
    """Clients that connect and do not even begin a handshake."""
    made = [await Client.connect(running.daemon.data_address) for _ in range(count)]
    running.clients += made
    await until(lambda: len(running.daemon._relay.crowd) == count, "all to be seen")
    return made


GREETING = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
"""How a greeting of 512 bytes begins."""


@pytest.mark.parametrize("beginning", [b"", GREETING[:3], GREETING + b"x" * 99])
async def test_a_handshake_has_its_time(
    router: StartRouter, certificates: Certificates, first: ScriptedUpstream, beginning: bytes
) -> None:
    """Who connects and says nothing, or half a greeting, is counted from the first moment, and ended in time."""
    running = await serving(router, certificates, "tls")(first, requests={"head_timeout": "1s"})
    clients = await silent(running, 3)
    for client in clients:
        await client.send(beginning)
    assert [await client.ended() for client in clients] == [b""] * 3
    await until(lambda: len(running.daemon._relay.crowd) == 0, "all to be gone")
    assert (await running.post()).status == 200


async def test_handshakes_make_room(router: StartRouter, certificates: Certificates, first: ScriptedUpstream) -> None:
    """Connections that say nothing keep nobody out: those that wait longest end for new ones."""
    running = await serving(router, certificates, "tls")(first)
    running.daemon._relay.crowd.most = 3
    quiet = await silent(running, 3)
    assert (await running.post()).status == 200
    assert await quiet[0].ended() == b""
    assert not quiet[2].closed.is_set()


@pytest.mark.parametrize("nonsense", [post(b"{}"), b"\x00" * 50_000, b"\x16\x03\x01\xff\xff" + b"\xff" * 20_000])
async def test_who_does_not_speak_tls_is_ended(
    router: StartRouter, certificates: Certificates, first: ScriptedUpstream, nonsense: bytes
) -> None:
    """Plain HTTP or garbage at such a listener ends the connection: no answer, no record, nothing held, not a line."""
    running = await serving(router, certificates, "tls")(first)
    events, lines = list(running.events), running.log_path.read_bytes()
    client = (await silent(running, 1))[0]
    client.transport.write(nonsense)
    said = await client.ended()
    assert b"HTTP" not in said
    await until(lambda: len(running.daemon._relay.crowd) == 0, "it to be gone")
    assert (running.events, running.log_path.read_bytes()) == (events, lines)


async def test_tls_at_a_plain_listener_is_ended(
    router: StartRouter, certificates: Certificates, first: ScriptedUpstream
) -> None:
    """A greeting of TLS is no request: it is refused as one, and the client's handshake fails at once."""
    running = await router(first)
    with pytest.raises(ssl.SSLError):
        await Client.connect(running.daemon.data_address, tls=certificates.trust())
    assert (await running.record()).status == 400


async def test_garbage_behind_the_handshake_ends_the_connection(
    router: StartRouter, certificates: Certificates, first: ScriptedUpstream
) -> None:
    """A record that was tampered with ends the connection and its exchange; nothing of it is taken for a request."""
    first.always(play(sse_head(), chunks(chat.role(), chat.token("Hel")), stall()))
    running = await serving(router, certificates, "tls")(first)
    client = await running.open(chat.request(stream=True))
    await client.head()
    await client.until(b"Hel")
    client.send_now(b"\x17\x03\x03\x00\x40" + b"x" * 64)
    assert (await running.record()).outcome is Outcome.CLIENT_GONE
    await client.ended()


async def test_records_may_come_in_pieces(
    router: StartRouter, certificates: Certificates, first: ScriptedUpstream
) -> None:
    """A handshake and a request of which each byte comes by itself are as good as any."""
    running = await serving(router, certificates, "tls")(first)
    client = (await silent(running, 1))[0]
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    spoken = certificates.trust().wrap_bio(incoming, outgoing, server_hostname=NAME)

    async def carried(step: Callable[[], Any]) -> Any:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                done = None
            await client.drip(outgoing.read())
            if done is not None:
                return done
            incoming.write(await client._some(65536))

    def shake_hands() -> bool:
        spoken.do_handshake()
        return True

    await carried(shake_hands)
    await carried(lambda: spoken.write(post(chat.request())))
    answer = b""
    while chat.completion() not in answer:
        answer += await carried(lambda: spoken.read(65536))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_only_sound_versions_are_spoken(
    router: StartRouter, certificates: Certificates, first: ScriptedUpstream
) -> None:
    """TLS 1.2 and 1.3 with HTTP/1.1 in it and no compression; a client that knows only what is older is refused."""
    running = await serving(router, certificates, "tls")(first)
    for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        trust = certificates.trust()
        trust.minimum_version = trust.maximum_version = version
        trust.set_alpn_protocols(["h2", "http/1.1"])
        async with await Client.connect(running.daemon.data_address, tls=trust) as client:
            spoken = client.transport.get_extra_info("ssl_object")
            assert (spoken.version(), spoken.selected_alpn_protocol()) == (name, "http/1.1")
            assert spoken.compression() is None
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        trust.minimum_version = trust.maximum_version = ssl.TLSVersion.TLSv1_1
    trust.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await Client.connect(running.daemon.data_address, tls=trust)


async def test_only_known_clients_are_let_in(
    router: StartRouter, certificates: Certificates, first: ScriptedUpstream
) -> None:
    """With `client_ca` nobody is served who shows no certificate, or one of another authority."""
    running = await router(first, listen=[certificates.listener(client_ca="clients.pem")])
    stranger = certificates.trust()
    certificates.authority.issue_cert("client.test").configure_cert(stranger)
    for trust in (certificates.trust(), stranger):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(read_all, running.daemon.data_address, trust, post(chat.request()))
    assert first.received == []
    running.tls = certificates.trust(known=True)
    assert (await running.post()).status == 200


async def test_nothing_waits_for_the_collector(
    router: StartRouter, certificates: Certificates, first: ScriptedUpstream
) -> None:
    """What a connection with TLS held is freed when it is over, however it ended."""
    running = await serving(router, certificates, "tls")(first, requests={"head_timeout": "100ms"})
    gc.collect()
    gc.disable()
    try:
        assert (await running.post()).status == 200
        first.then(play(sse_head(), chunks(chat.role(), chat.token("Hel")), stall()))
        client = await running.open(chat.request(stream=True))
        await client.head()
        client.reset()
        (quiet,) = await silent(running, 1)
        await quiet.ended()
        async with await Client.connect(running.daemon.data_address) as client:
            await client.send(b"nonsense")
            await client.ended()
        await running.rest()
        await until(lambda: len(running.daemon._relay.crowd) == 0, "all to be gone")
        assert [each for each in gc.get_objects() if isinstance(each, Secured | Downstream)] == []
    finally:
        gc.enable()
