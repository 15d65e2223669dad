"""Faults of upstreams that no other file shows survived (RELIABILITY 6.4; `tests/catalogue.py` names the others)."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from router.events import UpstreamCooled
from tests.harness import chat
from tests.harness.client import Ending
from tests.harness.router import CLIENT_SECRET
from tests.harness.upstream import (
    Script,
    ScriptedUpstream,
    Turn,
    chunks,
    cut,
    error,
    head,
    json_answer,
    last_chunk,
    plain,
    play,
    send,
    sse_head,
    sse_stream,
    wait_for,
)
from tests.harness.waiting import PATIENCE_S, until

if TYPE_CHECKING:
    from pathlib import Path

    from router.relay.pool import ConnectionPool
    from tests.harness.router import RunningRouter
    from tests.relay.conftest import StartRouter

MIB = 1024 * 1024
NOBODY = "nobody.invalid"
"""A name that no resolver knows (RFC 6761 section 6.4)."""


async def test_a_black_hole_costs_its_deadline_once(
    router: StartRouter, second: ScriptedUpstream, black_hole: str
) -> None:
    """Once it is ejected, nobody waits for the time to connect any more (U2)."""
    ejection = {"consecutive": 1, "eject": "60s"}
    running = await router(
        black_hole, second, model={"timeouts": {"connect": "100ms"}}, defaults={"ejection": ejection}
    )
    for _ in range(3):
        assert (await running.post()).status == 200
    assert [running.causes(record) for record in running.ended] == [
        [("first", "timeout_connect"), ("second", "ok")],
        [("second", "ok")],
        [("second", "ok")],
    ]


# Names


async def test_a_name_that_does_not_resolve_fails_over(router: StartRouter, second: ScriptedUpstream) -> None:
    """It is like a connection that is refused: nothing was sent, the next member answers (U3)."""
    running = await router(f"http://{NOBODY}/v1", second)
    assert (await running.post()).body == chat.completion()
    assert running.causes() == [("first", "dns"), ("second", "ok")]


def by_name(upstream: ScriptedUpstream) -> str:
    return f"http://localhost:{upstream.port}/v1"


def pool_of(running: RunningRouter) -> ConnectionPool:
    (pool,) = running.daemon._relay.snapshot.wires["first"].pools
    return pool


def silence(pool: ConnectionPool) -> asyncio.Task[Any]:
    """Let it be as if the resolver had been asked and said nothing."""
    loop = asyncio.get_running_loop()
    pool._asked_at = loop.time()
    pool._asking = loop.create_task(asyncio.sleep(PATIENCE_S, None))
    return pool._asking


async def test_the_last_good_addresses_serve_while_the_resolver_fails(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """For five minutes, whether it says that it does not know or says nothing; after that it is a failure (U3)."""
    first.always(json_answer(None, "connection: close"))
    running = await router(by_name(first), model={"timeouts": {"connect": "2s"}})
    pool = pool_of(running)
    assert (await running.post()).status == 200
    pool._host = NOBODY
    pool._resolved_at -= 60
    assert (await running.post()).status == 200
    asked = silence(pool)
    assert (await running.post()).status == 200
    asked.cancel()
    pool._asking = None
    pool._resolved_at -= 300
    assert (await running.post()).status == 502
    assert {cause for _, cause in running.causes()} == {"dns"}


async def test_one_question_to_the_resolver_serves_everybody(router: StartRouter, first: ScriptedUpstream) -> None:
    """However many wait for a name, it is asked for once: four threads resolve the names of all upstreams (U3)."""
    running = await router(by_name(first), model={"timeouts": {"connect": "10s"}})
    pool = pool_of(running)
    asked = silence(pool)
    clients = [await running.open() for _ in range(20)]
    await until(lambda: running.in_flight() == len(clients), "all to wait for the name")
    assert pool._asking is asked
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("resolve ")]
    pool._addresses, pool._asking = [("127.0.0.1", first.port)], None
    asked.cancel()
    for client in clients:
        client.reset()


async def test_a_name_that_moved_is_followed(router: StartRouter, first: ScriptedUpstream) -> None:
    """When what was resolved is old it is asked for again; what runs at the old address ends there (U4)."""
    go_on = asyncio.Event()
    first.then(
        play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())
    )
    running = await router(by_name(first))
    stream = await running.open(chat.request(stream=True))
    await stream.head()
    pool = pool_of(running)
    pool._addresses = [("127.0.0.77", first.port)]
    pool._resolved_at -= 31
    assert (await running.post()).status == 200
    assert running.causes() == [("first", "ok")]
    assert ("127.0.0.77", first.port) not in pool._addresses
    go_on.set()
    assert (await stream.rest()).ending is Ending.CLEAN


async def test_an_expired_certificate_is_none(router: StartRouter, tmp_path: Path) -> None:
    """Not one byte of a request goes to who cannot prove itself any more (U5)."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    certificate = authority.issue_cert("127.0.0.1", not_before=yesterday - timedelta(days=9), not_after=yesterday)
    certificate.configure_cert(context)
    expired = ScriptedUpstream()
    await expired.start(context)
    try:
        url = f"https://127.0.0.1:{expired.port}/v1"
        running = await router(url, upstream={"tls": {"ca": str(tmp_path / "ca.pem")}})
        answer = await running.post()
        assert (answer.status, answer.error["reason"]) == (502, "upstream_connection")
        assert {cause for _, cause in running.causes()} == {"tls"}
        assert expired.received == []
    finally:
        await expired.close()


# Refusals


@pytest.mark.parametrize("wish", ["86400", "-5", "soon", "Sun, 06 Nov 1994 08:49:37 GMT", "1e999", "0"])
async def test_an_absurd_wait_is_not_believed(router: StartRouter, first: ScriptedUpstream, wish: str) -> None:
    """However long or short an upstream says, it is out for 1 to 300 s and a jitter, and clients hear 1 to 60 (U10)."""
    first.always(error(429, None, f"retry-after: {wish}"))
    running = await router(first)
    answer = await running.post()
    assert (answer.status, answer.error["reason"]) == (429, "upstream_rate_limited")
    assert 1 <= int(answer.header("retry-after") or 0) <= 60
    (cooled,) = [event for event in running.events if isinstance(event, UpstreamCooled)]
    assert 1 <= cooled.for_s <= 360


async def test_a_storm_of_429_at_one_member_reaches_no_client(
    router: StartRouter, upstreams: list[ScriptedUpstream]
) -> None:
    """A member that refuses at once looks idle; it gets no more than what was under way when it first refused (U11)."""
    at_once = 20
    upstreams[0].always(error(429))
    running = await router(*upstreams, same_tier=True)
    slots = asyncio.Semaphore(at_once)

    async def one() -> int:
        async with slots:
            return (await running.post()).status

    assert set(await asyncio.gather(*(one() for _ in range(200)))) == {200}
    assert len(upstreams[0].received) <= at_once


LOADING = b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}'


async def test_a_model_that_still_loads_is_waited_out(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """While one loads the other answers; how long it says that it takes it is left alone (U13)."""
    first.then(error(503, LOADING)).always(error(503, LOADING, "retry-after: 2"))
    running = await router(first, second)
    for _ in range(4):
        assert (await running.post()).status == 200
    assert [record.upstream for record in running.ended] == ["second"] * 4
    assert len(first.received) == 2
    (cooled,) = [event for event in running.events if isinstance(event, UpstreamCooled)]
    assert 2 <= cooled.for_s <= 2.4


async def test_after_everything_was_down_everything_is_used_again(
    router: StartRouter, upstreams: list[ScriptedUpstream]
) -> None:
    """With everybody out clients are told when to return; once they are up again each gets one request first (U41)."""
    for upstream in upstreams:
        upstream.always(error(500))
    ejection = {"consecutive": 1, "eject": "1s"}
    running = await router(*upstreams, same_tier=True, defaults={"ejection": ejection, "retry": {"attempts": 5}})
    statuses = [(await running.post()).status for _ in range(2)]  # everybody, and then the one last resort of a second
    assert statuses == [500, 500]
    refused = await running.post()
    assert (refused.status, refused.error["reason"]) == (503, "no_healthy_upstream")
    assert 1 <= int(refused.header("retry-after") or 0) <= 60
    before = [len(upstream.received) for upstream in upstreams]
    go_on = asyncio.Event()
    for upstream in upstreams:
        upstream.always(play(wait_for(go_on), json_answer()))
    clients = []
    async with asyncio.timeout(PATIENCE_S):
        while any(len(upstream.received) == seen for upstream, seen in zip(upstreams, before, strict=True)):
            clients.append(await running.open())
            await asyncio.sleep(0.02)
    probed = [len(upstream.received) - seen for upstream, seen in zip(upstreams, before, strict=True)]
    assert max(probed) <= 3, "one on probation, and one last resort for each second of this"
    go_on.set()
    assert {(await client.answer()).status for client in clients} <= {200, 503}
    assert [(await running.post()).status for _ in range(8)] == [200] * 8


# What is no answer


HTML = b"<html><body>Sign in to the network</body></html>"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_page_under_200_is_no_answer(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, *, stream: bool
) -> None:
    """A page of whoever stands between is not the model's answer: another member gives that, or it is 502 (U17)."""
    first.always(plain(200, HTML, "content-type: text/html"))
    second.then(sse_stream(*chat.answer("Hello")) if stream else json_answer()).always(first._always)
    running = await router(first, second)
    assert b"Hello" in (await running.post(chat.request(stream=stream))).body
    refused = await running.post(chat.request(stream=stream))
    assert (refused.status, refused.header("content-type")) == (502, "application/json")
    assert HTML not in refused.body


@pytest.mark.parametrize("status", [204, 205, 304])
async def test_a_status_that_answers_nothing_is_no_answer(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, status: int
) -> None:
    """A chat has content: what says that there is none, or that we have it, is a failure (U35)."""
    first.always(send(head(status, *([] if status != 205 else ["content-length: 0"]))))
    running = await router(first, second)
    for stream in (False, True):
        second.then(sse_stream(*chat.answer("Hello")) if stream else json_answer())
        answer = await running.post(chat.request(stream=stream))
        assert (answer.status, b"Hello" in answer.body) == (200, True)
        assert [upstream for upstream, _ in running.causes()] == ["first", "second"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(router: StartRouter, upstreams: list[ScriptedUpstream], status: int) -> None:
    """Where an upstream points is none of our upstreams: neither request nor credential goes there (U35)."""
    first, second, elsewhere, _ = upstreams
    first.always(plain(status, b"", f"location: {elsewhere.base_url}/chat/completions"))
    running = await router(first, second)
    assert (await running.post()).body == chat.completion()
    assert running.causes() == [("first", "redirect"), ("second", "ok")]
    assert elsewhere.connections == []


GZIPPED = gzip.compress(chat.completion())
BROKEN = {"garbage": b"\x1f\x8b\x08\x00 no gzip", "plain": chat.completion(), "half": GZIPPED[: len(GZIPPED) // 2]}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
async def test_a_broken_coding_is_no_answer(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, body: bytes
) -> None:
    """What says that it is gzip and is not could be read by no client: another member answers, or it is 502 (U37)."""
    first.always(json_answer(body, "content-encoding: gzip"))
    second.then(json_answer(GZIPPED, "content-encoding: gzip")).always(first._always)
    running = await router(first, second)
    answer = await running.post()
    assert (answer.status, answer.body, answer.header("content-encoding")) == (200, GZIPPED, "gzip")
    assert running.causes() == [("first", "protocol"), ("second", "ok")]
    refused = await running.post()
    assert (refused.status, refused.error["reason"]) == (502, "upstream_protocol")


async def test_a_head_that_drips_has_a_deadline(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Bytes that come and come and make no head are no reason to wait longer (U31)."""

    async def trickle(turn: Turn) -> None:
        await turn.send(b"HTTP/1.1 200 OK\r\nx-a: ")
        while True:
            await turn.send(b"b")
            await asyncio.sleep(0.005)

    first.always(trickle)
    running = await router(first, second, model={"timeouts": {"first_byte": "200ms"}})
    assert (await running.post()).body == chat.completion()
    assert running.causes() == [("first", "timeout_first_byte"), ("second", "ok")]
    await first.received[0].left()


# Streams


def data_of(body: bytes) -> list[str]:
    """The data of each event, as the standard reads it."""
    lines = body.decode().replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff").split("\n")
    return [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]


ODDITIES = {
    "ids_and_retry": (b"id: 1\nretry: 3000\n", b""),
    "named_ping": (b"", b"event: ping\ndata: {}\n\n"),
    "comments": (b": one\n\n: two\n\n", b":\n\n"),
    "blank_lines": (b"\n\n\n", b"\n\n"),
}


@pytest.mark.parametrize("crlf", [False, True], ids=["lf", "crlf"])
@pytest.mark.parametrize(("before", "between"), ODDITIES.values(), ids=ODDITIES)
async def test_what_stands_beside_the_data_hides_no_event(
    router: StartRouter, first: ScriptedUpstream, before: bytes, between: bytes, *, crlf: bool
) -> None:
    """Marks, ids, comments, pings and any line end: every chunk arrives, in order, and then the end (U29)."""
    events = chat.answer("Hel", "lo")
    wire = b"\xef\xbb\xbf" + before + between.join(events) + between + chat.DONE
    first.always(play(sse_head(), chunks(wire.replace(b"\n", b"\r\n") if crlf else wire), last_chunk()))
    answer = await (await router(first)).stream()
    assert answer.ending is Ending.CLEAN
    assert [data for data in data_of(answer.body) if data != "{}"] == data_of(b"".join((*events, chat.DONE)))
    assert not answer.body.startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("begun", [False, True], ids=["first_event", "later_event"])
async def test_an_endless_line_is_not_hoarded(router: StartRouter, first: ScriptedUpstream, *, begun: bool) -> None:
    """Twenty megabytes without a line end pass as they come; what then breaks off ends as broken (U30)."""
    go_on = asyncio.Event()
    opening = b'data: {"choices":[{"index":0,"delta":{"content":"'
    pieces = [b"x" * MIB] * 20
    first.always(
        play(
            sse_head(),
            chunks(*([chat.token("a")] if begun else []), opening, *pieces[:4]),
            wait_for(go_on),
            chunks(*pieces[4:]),
            cut(),
        )
    )
    running = await router(first)
    client = await running.open(chat.request(stream=True))
    answer = await client.head()
    while len(answer.body) < 3 * MIB:
        assert await client.piece()
    go_on.set()
    await client.rest()
    assert answer.ending is Ending.ABORTED
    assert len(answer.body) > 20 * MIB
    assert b"[DONE]" not in answer.body[-MIB:]
    assert not (await running.record()).complete


async def test_odd_names_and_ids_in_chunks_pass(router: StartRouter, first: ScriptedUpstream) -> None:
    """Another model's name and an id that changes in each chunk are the upstream's own business (U39)."""
    events = [
        chat.event({"id": identity, "model": model, "choices": [{"index": 0, "delta": {"content": "a"}}]})
        for identity, model in (("x", "another"), ("x", ""), ("y", "m"), ("", "another"))
    ]
    first.always(sse_stream(*events, chat.finish()))
    answer = await (await router(first)).stream()
    assert (answer.events, answer.ending) == ([*events, chat.finish(), chat.DONE], Ending.CLEAN)


USAGES: dict[str, object] = {
    "missing": None,
    "negative": {"prompt_tokens": -9, "completion_tokens": -4, "total_tokens": -13},
    "absurd": {"prompt_tokens": 10**12, "completion_tokens": 10**12, "total_tokens": 2 * 10**12},
    "text": {"prompt_tokens": "many", "completion_tokens": [], "total_tokens": {}},
    "list": [1, 2],
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("usage", USAGES.values(), ids=USAGES)
async def test_odd_usage_poisons_no_limit(
    router: StartRouter, first: ScriptedUpstream, usage: object, *, stream: bool
) -> None:
    """The answer passes as it is; the key pays something that can be paid back within minutes (U38)."""
    body = json.loads(chat.completion()) | {"usage": usage}
    report = chat.event({"choices": [], "usage": usage})
    script: Script = sse_stream(*chat.answer("a"), report) if stream else json_answer(json.dumps(body).encode())
    first.always(script)
    limits = {"tokens_per_minute": 100_000}
    running = await router(first, keys={"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": limits}})
    answer = await running.post(chat.request(stream=stream), key=CLIENT_SECRET)
    assert (answer.status, answer.ending) == (200, Ending.CLEAN)
    record = await running.record()
    assert not (record.exact and record.usage is not None and record.usage.total > 0)
    limiter = running.daemon._relay.snapshot.keyring.keys["team"].limiter
    assert limiter is not None
    refusal = limiter.refusal(asyncio.get_running_loop().time(), 1)
    assert refusal is None or refusal.retry_after_s <= 600


# Load and time


async def test_a_slow_member_gets_little(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """What does not end piles up there, and so new requests go elsewhere: no client waits behind it (U44)."""
    go_on = asyncio.Event()
    first.always(play(wait_for(go_on), json_answer()))
    running = await router(first, second, same_tier=True)
    waiting = []
    for number in range(40):
        seen = len(first.received)
        client = await running.open()
        await until(lambda seen=seen, number=number: len(first.received) > seen or len(running.ended) > number - seen)  # type: ignore[misc]
        if len(first.received) > seen:
            waiting.append(client)
    assert len(waiting) <= 3
    go_on.set()
    for client in waiting:
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("moment", ["1970-01-01T00:00:00Z", "2001-01-01T00:00:00Z", "2199-01-01T00:00:00Z"])
async def test_an_upstreams_wrong_clock_does_no_harm(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, moment: str
) -> None:
    """Whatever day it thinks it is, it is out for no longer than any other, and its answers pass (U45)."""
    year = moment[:4]
    date = f"date: Thu, 01 Jan {year} 00:00:00 GMT"
    limits = [f"x-ratelimit-{what}-requests: {value}" for what, value in (("remaining", "0"), ("reset", moment))]
    first.then(json_answer(None, date)).always(error(429, None, date, *limits))
    running = await router(first, second)
    for _ in range(3):
        assert (await running.post()).status == 200
    assert [record.upstream for record in running.ended] == ["first", "second", "second"]
    (cooled,) = [event for event in running.events if isinstance(event, UpstreamCooled)]
    assert 1 <= cooled.for_s <= 360
