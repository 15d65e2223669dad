"""Pressure, stopping and changing under load, at the sizes that operators meet (RELIABILITY 6.8, 7.4).

Nearly all of it is the real program in a process of its own. `tests/catalogue.py` names the smaller tests beside these.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import ssl
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import yaml

from tests.harness import chat
from tests.harness.client import Answer, Client, Ending, post
from tests.harness.program import Running, running
from tests.harness.router import config
from tests.harness.upstream import (
    ScriptedUpstream,
    Turn,
    _Connection,
    chunks,
    json_answer,
    last_chunk,
    play,
    sse_head,
    stall,
    wait_for,
)
from tests.harness.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.relay.conftest import StartRouter

MB = 1_000_000
WORDS = ("a", "b", "c")
WHOLE = b"".join((*chat.answer(*WORDS), chat.DONE))
LONG_S = 60.0
"""For the program as a whole, on a machine that is busy with other things."""


def write(path: Path, settings: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path


async def ask(address: tuple[str, int], body: bytes) -> Client:
    """A client that has sent a request."""
    client = await Client.connect(address)
    await client.send(post(body))
    return client


async def begin(address: tuple[str, int]) -> Client:
    """A client whose stream has begun."""
    client = await ask(address, chat.request(stream=True))
    await client.head()
    await client.until(b'"a"')
    return client


def begun(go_on: asyncio.Event) -> Any:
    """A stream that has begun, and ends when it is told to."""
    rest = (*map(chat.token, WORDS[1:]), chat.finish(), chat.DONE)
    return play(sse_head(), chunks(chat.role(), chat.token(WORDS[0])), wait_for(go_on), chunks(*rest), last_chunk())


async def either(turn: Turn) -> None:
    """What was asked for: a stream of a few events, or a whole answer."""
    if not turn.request.json.get("stream"):
        await json_answer()(turn)
        return
    await sse_head()(turn)
    for event in (*chat.answer(*WORDS), chat.DONE):
        await turn.chunk(event)
        await asyncio.sleep(0)
    await last_chunk()(turn)


def is_whole(answer: Answer, *, stream: bool) -> bool:
    body = WHOLE if stream else chat.completion()
    return (answer.status, answer.ending, answer.body) == (200, Ending.CLEAN, body)


def exchanges(router: Running) -> Counter[tuple[str, bool]]:
    """How the requests ended, as the log says it."""
    return Counter((line["outcome"], line["complete"]) for line in router.log if line["event"] == "exchange")


@dataclass(slots=True)
class Load:
    """Clients that ask one request after the other, every second one for a stream."""

    address: tuple[str, int]
    whole: int = 0
    harmed: list[Answer] = field(default_factory=list)
    over: bool = False

    async def ask(self, *, stream: bool) -> None:
        client = await Client.connect(self.address)
        while not self.over:
            await client.send(post(chat.request(stream=stream)))
            answer = await client.answer()
            if is_whole(answer, stream=stream):
                self.whole += 1
            else:
                self.harmed.append(answer)
                await client.leave()
                client = await Client.connect(self.address)
            stream = not stream
        await client.leave()

    async def more(self, requests: int) -> None:
        """Wait until so many more are over."""
        enough = self.whole + len(self.harmed) + requests
        await until(lambda: self.whole + len(self.harmed) >= enough, f"{requests} more", patience_s=LONG_S)


@asynccontextmanager
async def load(address: tuple[str, int], clients: int) -> AsyncIterator[Load]:
    """So many clients, until the end of the block."""
    asking = Load(address)
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(asking.ask(stream=number % 2 == 0))
        try:
            await asking.more(clients)
            yield asking
        finally:
            asking.over = True


async def metric(router: Running, name: str) -> float:
    """The sum of a metric's series, as a scrape shows it."""
    async with await Client.connect(router.admin) as client:
        await client.send(post(b"", path="/metrics", method="GET", framing=""))
        text = (await client.answer("GET")).body
    return sum(float(line.rpartition(b" ")[2]) for line in text.splitlines() if line.startswith(name.encode()))


def memory_bytes(router: Running) -> int:
    """The most memory that the program has ever had."""
    lines = Path(f"/proc/{router.process.pid}/status").read_text().splitlines()
    (peak,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(peak.split()[1]) * 1024


# Stopping


async def test_two_hundred_streams_finish_after_sigterm(first: ScriptedUpstream, tmp_path: Path) -> None:
    """Each of them arrives whole and has its line in the log; whoever comes meanwhile is refused; the status is 0."""
    go_on = asyncio.Event()
    first.always(begun(go_on))
    path = write(tmp_path / "router.yaml", config(first, stop={"notice": "1ms", "drain": "60s"}))
    async with running(path, patience_s=LONG_S) as router:
        streams = await asyncio.gather(*(begin(router.address) for _ in range(200)))
        router.signal(signal.SIGTERM)
        assert (await router.line("notice"))["detail"] == "200 requests in flight"
        await refuses(router.address)
        go_on.set()
        answers = await asyncio.gather(*(stream.rest() for stream in streams))
        assert await router.end() == 0
    assert [answer for answer in answers if not is_whole(answer, stream=True)] == []
    assert exchanges(router) == {("ok", True): 200}
    assert router.log[-1]["message"] == "stopped"


async def refuses(address: tuple[str, int]) -> None:
    """Wait until nobody listens there."""

    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                client = await Client.connect(address)
            except OSError:
                return
            client.transport.abort()


async def test_a_storm_of_signals_ends_in_order(first: ScriptedUpstream, tmp_path: Path) -> None:
    """SIGHUP again and again while it drains, and a file that is gone by then: streams end whole, the status is 0."""
    go_on = asyncio.Event()
    first.always(begun(go_on))
    path = write(tmp_path / "router.yaml", config(first, stop={"notice": "1ms", "drain": "60s"}))
    async with running(path, patience_s=LONG_S) as router:
        streams = await asyncio.gather(*(begin(router.address) for _ in range(20)))
        router.signal(signal.SIGTERM)
        assert (await router.line("notice"))["message"] == "stopping"
        for number in range(50):
            if number == 25:
                path.unlink()
            elif number < 25:
                write(path, config(first, requests={"body_max": MB + number}))
            router.signal(signal.SIGHUP)
            await asyncio.sleep(0.002)
        assert (await router.line("reload"))["result"] in {"applied", "rejected"}
        go_on.set()
        for stream in streams:
            router.signal(signal.SIGHUP)
            assert is_whole(await stream.rest(), stream=True)
        assert await router.end() == 0
    assert exchanges(router) == {("ok", True): 20}


async def test_a_kill_under_load_costs_what_was_under_way(first: ScriptedUpstream, tmp_path: Path) -> None:
    """Who was being served sees a cut, never half an answer as a whole one; the same port serves again at once."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
    path = write(tmp_path / "router.yaml", config(first, listen=f"127.0.0.1:{address[1]}"))
    first.always(begun(asyncio.Event()))
    async with running(path) as killed:
        streams = await asyncio.gather(*(begin(address) for _ in range(50)))
        first.always(stall())
        waiting = [await ask(address, chat.request()) for _ in range(10)]
        killed.signal(signal.SIGKILL)
        async with running(path) as again:
            assert {(await stream.rest()).ending for stream in streams} == {Ending.ABORTED}
            assert [await client.ended() for client in waiting] == [b""] * 10
            await until(lambda: not first.open_connections, "the upstream to be left")
            first.always(either)
            async with load(address, 20) as asking:
                await asking.more(200)
            again.signal(signal.SIGTERM)
            assert await again.end() == 0
    assert asking.harmed == []
    assert exchanges(again) == {("ok", True): asking.whole}


# Change


async def test_a_hundred_reloads_under_load_fail_nobody(
    first: ScriptedUpstream, second: ScriptedUpstream, tmp_path: Path
) -> None:
    """The file is edited a hundred times, each edit is applied on SIGHUP, and every request is answered whole."""
    for upstream in (first, second):
        upstream.always(either)
    path = write(tmp_path / "router.yaml", config(first, second, same_tier=True))
    async with running(path, patience_s=LONG_S) as router:
        async with load(router.address, 10) as asking:
            for number in range(100):
                serving = (first, second) if number % 3 else (second,)
                write(path, config(*serving, same_tier=True, requests={"body_max": MB + number}))
                router.signal(signal.SIGHUP)
                assert (await router.line("reload"))["result"] == "applied"
        router.signal(signal.SIGTERM)
        assert await router.end() == 0
    assert asking.harmed == []
    assert exchanges(router) == {("ok", True): asking.whole}
    assert min(len(first.received), len(second.received)) > 20


# Scarcity


async def test_bodies_that_would_fill_the_memory_are_refused(first: ScriptedUpstream, tmp_path: Path) -> None:
    """Of twenty bodies of 20 MB six fit: they are answered, the others are told 503, and the memory stays bounded."""
    go_on = asyncio.Event()
    first.always(play(wait_for(go_on), json_answer()))
    path = write(tmp_path / "router.yaml", config(first, requests={"bodies_total_max": 128 * MB}))
    body = chat.request(user="x" * 20 * MB)
    async with running(path, patience_s=LONG_S) as router:
        before = memory_bytes(router)
        clients = [await Client.connect(router.address) for _ in range(20)]
        for client in clients:
            client.transport.write(post(body))
        done = asyncio.gather(*(client.answer() for client in clients), return_exceptions=True)
        await first.asked(6)
        small = await ask(router.address, chat.request())
        await first.asked(7)
        go_on.set()
        assert (await small.answer()).status == 200
        answers = [answer for answer in await done if isinstance(answer, Answer)]
        peak = memory_bytes(router)
        assert (await (await ask(router.address, body)).answer()).status == 200
        router.signal(signal.SIGTERM)
        assert await router.end() == 0
    assert Counter(answer.status for answer in answers) == {200: 6, 503: 14}
    refused = [answer for answer in answers if answer.status == 503]
    assert {answer.error["reason"] for answer in refused} == {"overloaded"}
    assert all(1 <= int(answer.header("retry-after") or 0) <= 60 for answer in refused)
    assert peak - before < 320 * MB, f"{(peak - before) / MB} MB"
    assert exchanges(router) == {("ok", True): 8, ("overloaded", False): 14}


async def test_a_log_that_nobody_reads_is_counted_as_lost(first: ScriptedUpstream, tmp_path: Path) -> None:
    """With standard output stuck every request is answered; written and lost lines together are all there were."""
    first.always(either)
    path = write(tmp_path / "router.yaml", config(first, log={"queue_max": 50}))
    async with running(path) as router:
        pipe = router.process.stdout._transport  # type: ignore[union-attr] # it is read on and on otherwise
        pipe.pause_reading()
        async with load(router.address, 20) as asking:
            await asking.more(500)
            while not await metric(router, "llm_router_access_log_dropped_total"):
                await asking.more(100)
        lost = await metric(router, "llm_router_access_log_dropped_total")
        counted = await metric(router, "llm_router_requests_total")
        pipe.resume_reading()
        router.signal(signal.SIGTERM)
        assert await router.end() == 0
    assert asking.harmed == []
    assert counted == asking.whole
    assert exchanges(router) == {("ok", True): counted - lost}


async def test_a_full_disk_costs_the_bodies_that_need_it(first: ScriptedUpstream, tmp_path: Path) -> None:
    """Forms that have to go to disk are told 503 in the envelope; all other requests are answered meanwhile."""
    first.always(either)
    path = write(tmp_path / "router.yaml", config(first, requests={"spool_from": "64KiB", "spool_dir": str(tmp_path)}))
    lines = b"content-disposition: form-data; name="
    model = b'--b\r\n%b"model"\r\n\r\nm\r\n' % lines
    form = model + b'--b\r\n%b"file"; filename="a.mp3"\r\n\r\n%b\r\n--b--\r\n' % (lines, b"\0" * MB)
    upload = post(form, "Content-Type: multipart/form-data; boundary=b", path="/v1/audio/transcriptions")
    upload = upload.replace(b"Content-Type: application/json\r\n", b"")
    async with running(path, limit="-f 100") as full, load(full.address, 10) as asking:
        for _ in range(20):
            async with await Client.connect(full.address) as client:
                await client.send(upload)
                refused = await client.answer()
            assert (refused.status, refused.error["reason"]) == (503, "overloaded")
        await asking.more(50)
        asking.over = True
        await until(lambda: not first.open_connections or asking.over)
        full.signal(signal.SIGTERM)
        assert await full.end() == 0
    assert asking.harmed == []
    assert exchanges(full) == {("ok", True): asking.whole, ("overloaded", False): 20}


async def test_hardly_any_processor_time_blames_no_upstream(
    first: ScriptedUpstream, second: ScriptedUpstream, tmp_path: Path
) -> None:
    """With a tenth of the time, in slices long and short, good upstreams stay in and every request is answered."""
    for upstream in (first, second):
        upstream.always(either)
    timeouts = {"connect": "400ms", "first_byte": "400ms", "first_token": "400ms", "idle": "400ms"}
    ejection = {"consecutive": 2, "min_outcomes": 4}
    settings = config(first, second, same_tier=True, model={"timeouts": timeouts}, defaults={"ejection": ejection})
    path = write(tmp_path / "router.yaml", settings)
    async with running(path, patience_s=LONG_S) as starved:
        async with load(starved.address, 10) as asking:
            for slice_s, times in ((0.02, 6), (0.1, 2)):
                for _ in range(times):
                    starved.signal(signal.SIGSTOP)
                    await asyncio.sleep(9 * slice_s)
                    starved.signal(signal.SIGCONT)
                    await asyncio.sleep(slice_s)
            await asking.more(100)
        starved.signal(signal.SIGTERM)
        assert await starved.end() == 0
    assert asking.harmed == []
    assert exchanges(starved) == {("ok", True): asking.whole}
    assert {line["event"] for line in starved.log} == {"notice", "exchange"}, "nobody was ejected, nobody cooled"
    causes = Counter(attempt["cause"] for line in starved.log for attempt in line.get("attempts", ()))
    assert causes == {"ok": asking.whole}


async def test_streams_that_need_more_descriptors_than_there_are(first: ScriptedUpstream, tmp_path: Path) -> None:
    """Who is let in is served to the end; who is not is closed at once; no upstream is blamed for what we lack."""
    go_on = asyncio.Event()
    first.always(begun(go_on))
    path = write(tmp_path / "router.yaml", config(first, defaults={"ejection": {"consecutive": 1, "min_outcomes": 1}}))
    async with running(path, limit="-n 96") as scarce:
        crowd = [await ask(scarce.address, chat.request(stream=True)) for _ in range(100)]
        await until(lambda: len(first.received) + sum(each.closed.is_set() for each in crowd) == 100)
        let_in = [each for each in crowd if not each.closed.is_set()]
        assert len(let_in) >= 10
        go_on.set()
        for client in let_in:
            assert is_whole(await client.answer(), stream=True)
        scarce.signal(signal.SIGTERM)
        assert await scarce.end() == 0
    assert exchanges(scarce) == {("ok", True): len(let_in)}


async def test_a_lack_of_descriptors_blames_no_upstream(first: ScriptedUpstream, tmp_path: Path) -> None:
    """Where not even a socket can be made the client is told 503, nobody is ejected, and soon all is as before."""
    first.always(json_answer(None, "connection: close"))
    path = write(tmp_path / "router.yaml", config(first, defaults={"ejection": {"consecutive": 1, "min_outcomes": 1}}))
    async with running(path) as scarce, await Client.connect(scarce.address) as client:
        _, most = resource.prlimit(scarce.process.pid, resource.RLIMIT_NOFILE)
        for descriptors, status in ((most, 200), (0, 503), (0, 503), (most, 200)):
            resource.prlimit(scarce.process.pid, resource.RLIMIT_NOFILE, (descriptors, most))
            await client.send(post(chat.request()))
            answer = await client.answer()
            assert answer.status == status
            assert status == 200 or answer.error["reason"] == "overloaded"
        scarce.signal(signal.SIGTERM)
        assert await scarce.end() == 0
    assert {line["event"] for line in scarce.log} == {"notice", "exchange"}, "nobody was ejected"
    causes = {attempt["cause"] for line in scarce.log for attempt in line.get("attempts", ())}
    assert causes == {"ok", "out_of_resources"}


# Names and certificates


async def test_a_name_that_leads_elsewhere_is_followed_while_streams_run(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """New requests go to the new address, kept connections to the old one are let go, what runs there ends whole."""
    go_on = asyncio.Event()
    async with at_another_address(first) as moved:
        first.then(begun(go_on), either).always(either)
        started = await router(f"http://localhost:{first.port}/v1", upstream={"keepalive": "60s"})
        stream = await started.open(chat.request(stream=True))
        await stream.head()
        assert (await started.post()).status == 200
        assert first.open_connections == 2
        (pool,) = started.daemon._relay.snapshot.wires["first"].pools
        pool._host = "127.0.0.2"  # what its name resolves to from now on
        pool._asked_at, pool._resolved_at = pool._asked_at - 31, pool._resolved_at - 31
        pool._named_at = {address: at - 76 for address, at in pool._named_at.items()}
        await until(lambda: first.open_connections == 1, "the idle connection to be let go")
        assert (await started.post()).status == 200
        assert (len(first.received), len(moved.received)) == (2, 1)
        go_on.set()
        assert is_whole(await stream.rest(), stream=True)
        await until(lambda: first.open_connections == 0, "the old address to be left")


async def test_a_name_that_shows_its_addresses_in_turns_keeps_them_all(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """An address that an answer before the last named is not left: its kept connection goes on serving."""
    async with at_another_address(first) as other:
        started = await router(f"http://localhost:{first.port}/v1")
        assert (await started.post()).status == 200
        (pool,) = started.daemon._relay.snapshot.wires["first"].pools
        pool._host = "127.0.0.2"
        await pool._ask(pool.loop.time())
        assert pool._addresses == [("127.0.0.2", first.port)]
        assert (await started.post()).status == 200
        assert (len(first.received), len(first.connections), other.received) == (2, 1, [])


@asynccontextmanager
async def at_another_address(like: ScriptedUpstream) -> AsyncIterator[ScriptedUpstream]:
    """An upstream with the same port."""
    upstream = ScriptedUpstream()
    loop = asyncio.get_running_loop()
    upstream._server = await loop.create_server(lambda: _Connection(upstream), "127.0.0.2", like.port)
    try:
        yield upstream
    finally:
        await upstream.close()


@pytest.mark.parametrize("whose", ["theirs", "ours"])
async def test_a_certificate_that_expires_meanwhile(router: StartRouter, tmp_path: Path, whose: str) -> None:
    """What is connected goes on, and is used again; no new connection comes about."""
    now = datetime.now(UTC)
    expires = now + timedelta(seconds=5) if whose == "ours" else None
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    shown = authority.issue_cert("router.test", not_after=expires)
    shown.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    go_on = asyncio.Event()
    async with AsyncExitStack() as stack:
        upstream = ScriptedUpstream()
        await upstream.start(context)
        stack.push_async_callback(upstream.close)
        upstream.then(begun(go_on)).always(either)
        started = await router(
            f"https://127.0.0.1:{upstream.port}/v1",
            defaults={"retry": {"attempts": 1}},
            upstream={"tls": {"ca": str(tmp_path / "ca.pem"), "cert": str(tmp_path / "both.pem")}, "keepalive": "60s"},
        )
        stream = await started.open(chat.request(stream=True))
        await stream.head()
        if expires is not None:
            await until(lambda: datetime.now(UTC) > expires, "the certificate to expire")
        else:  # from now on they show one that has
            old = authority.issue_cert(
                "127.0.0.1", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1)
            )
            old.configure_cert(context)
        refused = await started.post()
        assert (refused.status, refused.error["reason"]) == (502, "upstream_connection")
        assert started.causes() in ([("first", "tls")], [("first", "disconnect")])  # as soon as each side can tell
        go_on.set()
        assert is_whole(await stream.rest(), stream=True)
        await started.record(2)
        assert (await started.post()).status == 200
        assert started.causes() == [("first", "ok")]
        assert [received.place for received in upstream.received] == [0, 1]
