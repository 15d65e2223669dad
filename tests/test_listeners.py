"""Where connections come in, from the start through reloads to the end (what the relay does there: tests/relay)."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx2
import openai
import pytest
import yaml

from router.app import Daemon
from router.events import ConfigReloaded, Notice
from tests.harness import chat
from tests.harness.certificates import NAME, Certificates
from tests.harness.client import Client, Ending, post
from tests.harness.router import CLIENT_SECRET, ENVIRON, RunningRouter, config
from tests.harness.upstream import (
    ScriptedUpstream,
    chunks,
    json_answer,
    last_chunk,
    play,
    sse_head,
    sse_stream,
    wait_for,
)
from tests.harness.waiting import until

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    StartRouter = Callable[..., Awaitable[RunningRouter]]

KEYS: dict[str, Any] = {"team": {"secret": {"env": "CLIENT_SECRET"}}}
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
MODELS = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    await scripted.start()
    yield scripted
    await scripted.close()


@pytest.fixture
async def router(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[StartRouter]:
    """Starts one router with `config(upstream, **settings)`, checks the invariants at the end and stops it."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> RunningRouter:
            running = await RunningRouter.start(tmp_path, config(upstream, **settings), ENVIRON)
            stack.push_async_callback(running.close)
            return running

        yield start


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def log() -> Iterator[int]:
    descriptor = os.open(os.devnull, os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


def free_ports(count: int) -> list[int]:
    """Ports of loopback on which nobody listens."""
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in made]
    for each in made:
        each.close()
    return ports


def places(running: RunningRouter, setting: str = "listen") -> list[tuple[str, int]]:
    """Where it listens."""
    found = []
    for place in running.daemon._listeners._of(setting):
        path = place.address.removeprefix("unix:")
        host, _, port = place.address.rpartition(":")
        found.append((path, 0) if path != place.address else (host, int(port)))
    return found


async def ask(place: tuple[str, int], request: bytes = MODELS, tls: ssl.SSLContext | None = None) -> int:
    """The status of one answer."""
    async with await Client.connect(place, tls=tls) as client:
        await client.send(request)
        return (await client.answer("GET")).status


async def refuses(place: tuple[str, int]) -> bool:
    """Nobody listens there."""
    try:
        (await Client.connect(place)).transport.abort()
    except OSError:
        return True
    return False


def notices(running: RunningRouter) -> list[str]:
    return [f"{event.message}; {event.detail}" for event in running.events if isinstance(event, Notice)]


def streaming(go_on: asyncio.Event) -> Any:
    """A stream that waits in its middle."""
    return play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())


# Several


async def test_all_of_them_serve(router: StartRouter, certificates: Certificates) -> None:
    """Clients and operators come in at each address of theirs: plain, TLS and unix sockets; the log names them all."""
    running = await router(
        listen=["127.0.0.1:0", certificates.listener(), "unix:router.sock"],
        admin=["unix:admin.sock", certificates.listener("127.0.0.1:0")],
    )
    plain, secure, unix = places(running)
    folder = running.path.parent
    assert running.daemon.data_address == plain
    assert running.daemon.admin_address == (str(folder / "admin.sock"), 0)
    assert [await ask(plain), await ask(secure, tls=certificates.trust()), await ask(unix)] == [200] * 3
    admin_unix, admin_secure = places(running, "admin")
    assert [await ask(admin_unix, HEALTH), await ask(admin_secure, HEALTH, certificates.trust())] == [200] * 2
    where = f"127.0.0.1:{plain[1]}, 127.0.0.1:{secure[1]} (TLS), unix:{folder}/router.sock"
    admin = f"unix:{folder}/admin.sock, 127.0.0.1:{admin_secure[1]} (TLS)"
    assert notices(running) == [f"listening on {where}; admin on {admin}"]
    await running.record(3)


async def test_an_sdk_comes_in_by_tls(
    router: StartRouter, certificates: Certificates, upstream: ScriptedUpstream
) -> None:
    """The OpenAI SDK asks for an answer and a stream, with nothing more than the authority to trust."""
    upstream.then(json_answer(), sse_stream(chat.role(), chat.token("Hello."), chat.finish()))
    running = await router(listen=certificates.listener(), keys=KEYS)
    url = f"https://127.0.0.1:{running.daemon.data_address[1]}/v1"
    trusting = httpx2.AsyncClient(verify=certificates.trust())
    async with openai.AsyncOpenAI(api_key=CLIENT_SECRET, base_url=url, http_client=trusting, max_retries=0) as sdk:
        question: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        whole = await sdk.chat.completions.create(**question)
        assert whole.choices[0].message.content == "Hello."
        pieces = [piece async for piece in await sdk.chat.completions.create(**question, stream=True)]
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "Hello."
    await running.record(2)


# Unix sockets


async def test_a_unix_socket_has_its_mode_and_goes_with_us(router: StartRouter) -> None:
    """Its permissions are as configured, also after a reload that changes them; at the end it is removed."""
    running = await router(listen={"address": "unix:router.sock", "mode": "0660"})
    path = running.path.with_name("router.sock")
    assert stat.filemode(path.stat().st_mode) == "srw-rw----"
    settings = yaml.safe_load(running.path.read_text())
    settings["listen"] = {"address": "unix:router.sock", "mode": "0600"}
    assert (await running.reload(settings)).result == "applied"
    assert stat.filemode(path.stat().st_mode) == "srw-------"
    running.stopped = True
    await running.daemon.stop(hurry=True)
    assert not path.exists()


async def test_a_socket_that_is_anothers_by_now_stays(router: StartRouter) -> None:
    """What somebody put in its place meanwhile is not ours to remove."""
    running = await router(listen="unix:router.sock")
    path = running.path.with_name("router.sock")
    path.unlink()
    path.write_text("another's")
    running.stopped = True
    await running.daemon.stop(hurry=True)
    assert path.read_text() == "another's"


async def test_the_socket_of_a_dead_daemon_is_replaced(router: StartRouter, tmp_path: Path) -> None:
    """A socket on which nobody answers is in nobody's way."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "router.sock"))
        dead.listen()
    running = await router(listen="unix:router.sock")
    assert await ask(running.daemon.data_address) == 200
    await running.record()


@pytest.mark.parametrize("backlog", [0, 5])
async def test_the_socket_of_a_living_daemon_is_not(tmp_path: Path, log: int, backlog: int) -> None:
    """Where somebody listens, be they ever so busy, the start is refused, and they go on undisturbed."""
    path = tmp_path / "router.sock"
    (tmp_path / "router.yaml").write_text(yaml.safe_dump(config("http://127.0.0.1:1/v1") | {"listen": f"unix:{path}"}))
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen(backlog)
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(str(path))
        with pytest.raises(OSError, match=rf"listen unix:{path}: Address already in use"):
            await Daemon(tmp_path / "router.yaml", environ=ENVIRON, log_fd=log).start()
        for each in waiting:
            each.close()
        assert path.is_socket()
        living.accept()[0].close()


async def test_what_is_no_socket_is_not_replaced(tmp_path: Path, log: int) -> None:
    """A file, a folder or a link at the place of a socket is left alone, and named."""
    path = tmp_path / "router.sock"
    (tmp_path / "router.yaml").write_text(yaml.safe_dump(config("http://127.0.0.1:1/v1") | {"listen": f"unix:{path}"}))
    (tmp_path / "file").write_text("precious")
    for make in (lambda: path.write_text("precious"), path.mkdir, lambda: path.symlink_to(tmp_path / "file")):
        make()
        with pytest.raises(OSError, match=rf"listen unix:{path}: File exists"):
            await Daemon(tmp_path / "router.yaml", environ=ENVIRON, log_fd=log).start()
        path.rmdir() if path.is_dir() else path.unlink()
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")
async def test_curl_comes_in_by_a_unix_socket(router: StartRouter) -> None:
    """As operators try it by hand: the path on the command line, any host in the URL."""
    running = await router(listen="unix:router.sock", admin="unix:admin.sock")
    data, admin = (running.path.with_name(name) for name in ("router.sock", "admin.sock"))
    chats = ("-d", chat.request().decode(), "http://router/v1/chat/completions")
    for path, rest in ((data, chats), (admin, ("http://router/readyz",))):
        options = ("-sS", "--fail", "--max-time", "20", "--unix-socket", str(path))
        asking = await asyncio.create_subprocess_exec("curl", *options, *rest, stdout=asyncio.subprocess.PIPE)
        answer, _ = await asking.communicate()
        assert (asking.returncode, answer) == (0, chat.completion() if path == data else b'{"status":"ready"}\n')


async def test_clients_of_a_unix_socket_cannot_be_told_apart(router: StartRouter) -> None:
    """A bound on connections of one address does not make one client of all that come by a unix socket."""
    running = await router(listen="unix:router.sock", requests={"connections_per_address": 1})
    clients = [await running.connect() for _ in range(5)]
    await until(lambda: len(running.daemon._relay.crowd) == 5, "all to be in")
    assert not any(client.closed.is_set() for client in clients)


# Live change


async def test_listeners_come_and_go(router: StartRouter, upstream: ScriptedUpstream) -> None:
    """A reload opens what is new and closes what is gone, for clients and operators; what stays is not touched."""
    one, two, three, four = (f"127.0.0.1:{port}" for port in free_ports(4))
    running = await router(listen=[one, two], admin=three)
    first, second = places(running)
    (third,) = places(running, "admin")
    event = await running.reload(config(upstream, listen=[two, "unix:router.sock"], admin=[four]))
    assert (event.result, event.needs_restart) == ("applied", ())
    assert await refuses(first)
    assert await refuses(third)
    assert [await ask(place) for place in places(running)] == [200, 200]
    assert places(running)[0] == second
    assert await ask(places(running, "admin")[0], HEALTH) == 200
    assert notices(running)[-1].startswith(f"listening on {two}, unix:")
    await running.reload(config(upstream, listen=two, admin=four))
    assert not running.path.with_name("router.sock").exists()
    await running.record(2)


async def test_connections_of_a_listener_that_is_gone_end_behind_their_request(
    router: StartRouter, upstream: ScriptedUpstream
) -> None:
    """Idle ones at once, others with their answer, whose head says so if it can; those that came in elsewhere go on."""
    go_on = asyncio.Event()
    upstream.then(streaming(go_on), play(wait_for(go_on), json_answer())).always(streaming(go_on))
    gone, stays = (f"127.0.0.1:{port}" for port in free_ports(2))
    running = await router(listen=[gone, stays])
    old, kept = places(running)
    idle, stream, waiting, late, half = [await Client.connect(old, log=running.answers) for _ in range(5)]
    other = await Client.connect(kept, log=running.answers)
    await stream.send(post(chat.request(stream=True)))
    await stream.head()
    await waiting.send(post(chat.request()))
    await upstream.asked(2)
    body = chat.request(stream=True)
    await late.send(post(body)[:-10])
    await half.send(b"POST /v1/chat")
    await running.caught_up(late)
    await running.caught_up(half)
    assert (await running.reload(config(upstream, listen=stays))).result == "applied"
    assert [await idle.ended(), await half.ended()] == [b"", b""]
    await late.send(post(body)[-10:])
    assert (await late.head()).header("connection") == "close"
    go_on.set()
    for client in (stream, late):
        answer = await client.rest()
        assert (answer.ending, answer.events[-1]) == (Ending.CLEAN, chat.DONE)
        assert await client.ended() == b""
    assert (await waiting.answer()).header("connection") == "close"
    assert await waiting.ended() == b""
    await other.send(post(chat.request(stream=True)))
    answer = await other.answer()
    assert (answer.ending, answer.header("connection")) == (Ending.CLEAN, None)
    assert not other.closed.is_set()
    await other.leave()


async def test_connections_of_operators_end_with_their_listener(
    router: StartRouter, upstream: ScriptedUpstream
) -> None:
    """Prometheus keeps its connection open for good; it has to come again where we listen now."""
    old, new = (f"127.0.0.1:{port}" for port in free_ports(2))
    running = await router(admin=old)
    client = await Client.connect(running.daemon.admin_address)
    await client.send(HEALTH)
    assert (await client.answer("GET")).status == 200
    assert (await running.reload(config(upstream, admin=new))).result == "applied"
    assert await client.ended() == b""


async def test_an_address_that_cannot_be_had_refuses_the_reload(
    router: StartRouter, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Nothing else of the file applies, nothing that was opened stays open, and the next reload tries again."""
    free, now = (f"127.0.0.1:{port}" for port in free_ports(2))
    running = await router(listen=now)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        wanted = config(upstream, listen=[free, "unix:new.sock", address], debug={"headers": True})
        for _ in range(2):
            event = await running.reload(wanted)
            assert event.result == "rejected"
            assert event.faults == (f"router.yaml: listen {address}: Address already in use",)
            assert await refuses(("127.0.0.1", int(free.rpartition(":")[2])))
            assert not (tmp_path / "new.sock").exists()
    assert (await running.post()).header("x-router-upstream") is None
    assert (await running.reload(wanted)).result == "applied"
    assert (await running.post()).header("x-router-upstream") == "first"
    assert len(places(running)) == 3


async def test_a_listener_is_widened_and_narrowed_without_a_gap(
    router: StartRouter, upstream: ScriptedUpstream
) -> None:
    """From loopback to every interface on the same port, and back: the kernel would have us close the one first."""
    (port,) = free_ports(1)
    running = await router(listen=f"127.0.0.1:{port}", keys=KEYS)
    for wanted in (f":{port}", f"127.0.0.1:{port}", f"0.0.0.0:{port}"):
        assert (await running.reload(config(upstream, listen=wanted, keys=KEYS))).result == "applied"
        assert len(running.daemon._listeners._of("listen")) == 1
        assert (await running.post(key=CLIENT_SECRET)).status == 200
        with pytest.raises(OSError, match="in use"):  # as a second daemon by mistake
            socket.create_server(("127.0.0.1", port))


async def test_tls_is_turned_on_where_we_listen(
    router: StartRouter, upstream: ScriptedUpstream, certificates: Certificates
) -> None:
    """The address stays bound; connections from then on speak TLS, and without it again after the next reload."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    running = await router(listen=address)
    before = await running.open()
    assert (await before.answer()).status == 200
    await running.reload(config(upstream, listen=certificates.listener(address)))
    await before.send(post(chat.request()))
    assert (await before.answer()).status == 200
    running.tls = certificates.trust()
    assert (await running.post()).status == 200
    await running.reload(config(upstream, listen=address))
    running.tls = None
    assert (await running.post()).status == 200


async def test_a_reload_while_stopping_opens_nothing_to_clients(
    router: StartRouter, upstream: ScriptedUpstream
) -> None:
    """Once clients are not let in any more, no file lets them in again."""
    go_on = asyncio.Event()
    upstream.always(streaming(go_on))
    (port,) = free_ports(1)
    running = await router()
    stream = await running.open(chat.request(stream=True))
    await stream.head()
    running.stopped = True
    stop = asyncio.get_running_loop().create_task(running.daemon.stop())
    await until(lambda: running.daemon._relay.closed, "the listeners to be closed")
    await running.reload(config(upstream, listen=["127.0.0.1:0", f"127.0.0.1:{port}"]))
    assert await refuses(("127.0.0.1", port))
    go_on.set()
    assert (await stream.rest()).ending is Ending.CLEAN
    await stop


# Certificates


async def shown(running: RunningRouter, certificates: Certificates) -> set[str]:
    """The names in the certificate that a new connection sees."""
    async with await Client.connect(running.daemon.data_address, tls=certificates.trust()) as client:
        return {name for _, name in client.transport.get_extra_info("peercert")["subjectAltName"]}


async def test_a_renewed_certificate_is_taken_up_live(
    router: StartRouter, upstream: ScriptedUpstream, certificates: Certificates
) -> None:
    """The watcher sees it; a stream that runs goes on to its end, and its connection serves the next request."""
    go_on = asyncio.Event()
    upstream.then(streaming(go_on))
    running = await router(listen=certificates.listener(), reload={"watch": True, "interval": "5ms"})
    running.tls = certificates.trust()
    running.reloads += 1
    client = await running.open(chat.request(stream=True))
    await client.head()
    certificates.issue("renewed.test")
    await until(lambda: any(isinstance(event, ConfigReloaded) for event in running.events), "the change to be noticed")
    assert "renewed.test" in await shown(running, certificates)
    go_on.set()
    answer = await client.rest()
    assert (answer.ending, answer.events[-1]) == (Ending.CLEAN, chat.DONE)
    await client.send(post(chat.request()))
    assert (await client.answer()).status == 200
    names = {name for _, name in client.transport.get_extra_info("peercert")["subjectAltName"]}
    assert names == {NAME, "127.0.0.1"}


async def test_a_certificate_of_no_use_changes_nothing(
    router: StartRouter, upstream: ScriptedUpstream, certificates: Certificates, tmp_path: Path
) -> None:
    """A key of another one, garbage, a date that is over: the reload says the file and why, and the old one serves."""
    running = await router(listen=certificates.listener())
    good = {name: (tmp_path / name).read_bytes() for name in ("tls.crt", "tls.key")}

    async def refused() -> str:
        event = await running.reload(config(upstream, listen=certificates.listener()))
        assert (event.result, len(event.faults)) == ("rejected", 1)
        assert "renewed.test" not in await shown(running, certificates)
        return event.faults[0]

    certificates.issue("renewed.test")
    (tmp_path / "tls.key").write_bytes(good["tls.key"])
    assert (await refused()).endswith("tls.key: file tls.key does not belong to the certificate in file tls.crt")
    (tmp_path / "tls.crt").write_text("nothing")
    assert (await refused()).endswith("tls.cert: file tls.crt holds no certificate in PEM form")
    (tmp_path / "tls.crt").unlink()
    assert (await refused()).endswith("tls.cert: file tls.crt cannot be read: No such file or directory")
    certificates.issue("renewed.test", days=-1)
    assert f"the certificate in {tmp_path}/tls.crt has expired on " in await refused()
    certificates.issue("renewed.test")
    assert (await running.reload(config(upstream, listen=certificates.listener()))).result == "applied"
    assert "renewed.test" in await shown(running, certificates)


async def test_an_expired_certificate_is_no_reason_not_to_start(
    router: StartRouter, upstream: ScriptedUpstream, certificates: Certificates
) -> None:
    """Clients are told by theirs, the operator by the log; and edits of other things still apply."""
    certificates.issue(days=-1)
    running = await router(listen=["127.0.0.1:0", certificates.listener()])
    assert await ask(running.daemon.data_address) == 200
    (warning,) = [text for text in notices(running) if "certificate" in text]
    assert warning.startswith("clients will refuse our certificate; the certificate in ")
    again = config(upstream, listen=["127.0.0.1:0", certificates.listener()], debug={"headers": True})
    assert (await running.reload(again)).result == "applied"
    await running.record()


async def test_a_reload_leaves_certificates_alone_that_stayed(
    router: StartRouter, upstream: ScriptedUpstream, certificates: Certificates
) -> None:
    """Sessions that clients keep are resumed after an edit of something else, and when that is known is shown too."""
    running = await router(listen=certificates.listener())
    (before,) = running.daemon._listeners.identities
    await running.reload(config(upstream, listen=certificates.listener(), debug={"headers": True}))
    (after,) = running.daemon._listeners.identities
    assert after is before
    assert after.says.startswith(f"the certificate in {certificates.folder}/tls.crt is valid until 20")
    certificates.issue()
    await running.reload(config(upstream, listen=certificates.listener()))
    (renewed,) = running.daemon._listeners.identities
    assert renewed is not before


# Operators


async def test_operators_show_the_token_by_tls(router: StartRouter, certificates: Certificates, tmp_path: Path) -> None:
    """With a token, from a file here, a reload is done for who shows it; a new token counts from the next reload on."""
    (tmp_path / "token").write_text("sesame\n")
    running = await router(admin=certificates.listener(), admin_token={"file": "token"})
    url = f"https://127.0.0.1:{running.daemon.admin_address[1]}/-/reload"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=certificates.trust())) as session:

        async def reload(token: str) -> int:
            async with session.post(url, headers={"Authorization": f"Bearer {token}"} if token else {}) as answer:
                return answer.status

        running.reloads += 2
        assert [await reload(token) for token in ("", "mellon", "sesame")] == [401, 401, 200]
        (tmp_path / "token").write_text("mellon")
        assert [await reload(token) for token in ("mellon", "sesame", "sesame", "mellon")] == [401, 200, 401, 200]


# Sockets that are handed over


async def test_sockets_of_the_service_manager_stand_in_in_their_order(
    tmp_path: Path, certificates: Certificates, log: int
) -> None:
    """The first for the first listener with its TLS, the second for the second; listeners beyond them we open."""
    (port,) = free_ports(1)
    listen: list[Any] = ["127.0.0.1:2", certificates.listener("127.0.0.1:3"), f"127.0.0.1:{port}"]
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(config("http://127.0.0.1:1/v1", listen=listen)))
    plain, secure = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    admin = socket.socket(socket.AF_UNIX)
    admin.bind(str(tmp_path / "admin.sock"))
    admin.listen()
    given = {"listen": [plain, secure], "admin": [admin]}
    daemon = Daemon(path, environ=ENVIRON, log_fd=log, sockets=given)
    addresses = plain.getsockname(), secure.getsockname()
    await daemon.start()
    try:
        assert daemon.data_address == addresses[0]
        assert [await ask(addresses[0]), await ask(addresses[1], tls=certificates.trust())] == [200, 200]
        assert [await ask(("127.0.0.1", port)), await ask((str(tmp_path / "admin.sock"), 0), HEALTH)] == [200, 200]
        path.write_text(yaml.safe_dump(config("http://127.0.0.1:1/v1", listen=listen[:1], admin="127.0.0.1:4")))
        event = await daemon.reload()
        assert event.result == "applied"
        assert [await ask(address) for address in addresses] == [200, 200]
        assert await refuses(("127.0.0.1", port))
    finally:
        await daemon.stop(hurry=True)
    assert (tmp_path / "admin.sock").is_socket()
