"""What is taken as a request and what is refused: bounds, paths, bodies that cannot be read (PROTOCOL 3.4, 7.2)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from router.events import Outcome
from tests.harness import chat
from tests.harness.client import Client, post
from tests.harness.upstream import (
    json_answer,
    play,
    wait_for,
)
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter


async def test_expect_100_continue_is_answered(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client that waits for leave to send its body gets it, then its answer."""
    running = await router(first)
    request = post(chat.request(), "Expect: 100-continue")
    end = request.index(b"\r\n\r\n") + 4
    client = await running.connect()
    await client.send(request[:end])
    await until(lambda: client.unread.startswith(b"HTTP/1.1 100"), "100 Continue")
    await client.send(request[end:])
    answer = await client.answer()
    assert (answer.status, len(answer.interim)) == (200, 1)
    assert first.received[0].values("expect") == []


async def test_leave_is_given_once(router: StartRouter, first: ScriptedUpstream) -> None:
    """However many packets bring nothing of a chunked body, `100 Continue` is said once."""
    running = await router(first)
    body = chat.request()
    client = await running.connect()
    await client.send(post(b"", "Expect: 100-continue", framing="Transfer-Encoding: chunked"))
    for part in (b"%x" % len(body), b"\r\n"):
        await running.caught_up(client)
        await client.send(part)
    await running.caught_up(client)
    await client.send(body + b"\r\n0\r\n\r\n")
    answer = await client.answer()
    assert (answer.status, answer.interim) == (200, [b"HTTP/1.1 100 Continue\r\n\r\n"])


SHA_OF_123 = "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"


@pytest.mark.parametrize(("key", "length", "status"), [("wrong", 10, 401), ("123", 99_999_999, 413)])
async def test_no_leave_to_send_what_would_be_refused(
    router: StartRouter, first: ScriptedUpstream, key: str, length: int, status: int
) -> None:
    """A wrong key or too large a body is refused at the head: the client never sends the body."""
    running = await router(first, keys={"team": {"secret": {"sha256": SHA_OF_123}}})
    client = await running.connect()
    await client.send(post(b"", "Expect: 100-continue", key=key, framing=f"Content-Length: {length}"))
    answer = await client.answer()
    assert (answer.status, answer.interim) == (status, [])
    assert first.received == []


async def too_large_by_length(client: Client) -> None:
    await client.send(post(b"", framing="Content-Length: 10001"))


async def too_large_by_chunks(client: Client) -> None:
    await client.send(post(b"", framing="Transfer-Encoding: chunked"))
    await client.send(b"1388\r\n" + b" " * 5000 + b"\r\n")
    await client.send(b"1388\r\n" + b" " * 5000 + b"\r\n1\r\n \r\n")


@pytest.mark.parametrize("way", [too_large_by_length, too_large_by_chunks])
async def test_too_large_a_body_is_refused_at_once(router: StartRouter, first: ScriptedUpstream, way: Any) -> None:
    """413 as soon as the bound is passed, by what the head says or by what has come; then the connection closes."""
    running = await router(first, requests={"body_max": 10_000})
    client = await running.connect()
    await way(client)
    answer = await client.answer()
    assert (answer.status, answer.error["reason"]) == (413, "request_too_large")
    await client.ended()
    assert first.received == []


@pytest.mark.parametrize("way", [too_large_by_length, too_large_by_chunks])
async def test_a_refused_body_is_not_read_for_ever(router: StartRouter, first: ScriptedUpstream, way: Any) -> None:
    """Who is refused anyway is not listened to beyond the bound either: the answer comes, and the connection ends."""
    running = await router(first, requests={"body_max": 10_000}, keys={"team": {"secret": {"sha256": SHA_OF_123}}})
    client = await running.connect()
    await way(client)
    answer = await client.answer()
    assert (answer.status, answer.error["reason"]) == (401, "missing_api_key")
    assert (answer.header("connection") or "").lower() == "close"
    await client.ended()


async def test_a_body_at_the_bound_passes(router: StartRouter, first: ScriptedUpstream) -> None:
    """The largest allowed body is allowed."""
    running = await router(first, requests={"body_max": 10_000})
    body = chat.request()
    assert (await running.post(body + b" " * (10_000 - len(body)))).status == 200


async def test_all_bodies_together_have_a_bound(router: StartRouter, first: ScriptedUpstream) -> None:
    """Above the memory set aside for request bodies a new one is answered 503; when it is free again, it is served."""
    go_on = asyncio.Event()
    first.then(play(wait_for(go_on), json_answer()))
    running = await router(first, requests={"bodies_total_max": 100_000})
    waiting = await running.open(chat.request(user="x" * 70_000))
    await first.asked()
    refused = await running.post(chat.request(user="x" * 70_000))
    assert (refused.status, refused.error["reason"]) == (503, "overloaded")
    assert refused.header("retry-after")
    go_on.set()
    assert (await waiting.answer()).status == 200
    assert (await running.post(chat.request(user="x" * 70_000))).status == 200


@pytest.mark.parametrize(
    ("request_line", "status", "reason"),
    [
        ("POST /v1/nothing", 404, "unknown_endpoint"),
        ("GET /", 404, "unknown_endpoint"),
        ("POST /v1/chat/completions/", 404, "unknown_endpoint"),
        ("GET /v1/chat/completions", 405, "method_not_allowed"),
        ("PUT /v1/chat/completions", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_served_says_so(
    router: StartRouter, first: ScriptedUpstream, request_line: str, status: int, reason: str
) -> None:
    """Unknown paths are 404, the chat path with another method 405 with `Allow`, both in the envelope."""
    running = await router(first)
    client = await running.connect()
    method, path = request_line.split()
    await client.send(post(b"", method=method, path=path))
    answer = await client.answer()
    assert (answer.status, answer.error["reason"]) == (status, reason)
    assert answer.header("x-request-id")
    assert (answer.header("allow") is not None) == (status == 405)
    assert first.received == []


async def test_unusual_paths_do_not_disturb_their_connection(router: StartRouter, first: ScriptedUpstream) -> None:
    """A connection that asked for the model list gets it, and a new one is served as ever."""
    running = await router(first)
    async with await running.connect() as client:
        await client.send(post(b"", method="GET", path="/v1/models", framing=""))
        assert [model["id"] for model in (await client.answer()).json["data"]] == ["m"]
    assert (await running.post()).status == 200


async def test_a_connection_may_ask_for_something_else(router: StartRouter, first: ScriptedUpstream) -> None:
    """After its answers a connection may ask for the model list, even in the same packet; then it ends."""
    running = await router(first)
    models = post(b"", method="GET", path="/v1/models", framing="")
    for wire in (post(chat.request()) + models, post(chat.request())):
        client = await running.connect()
        await client.send(wire)
        assert (await client.answer()).body == chat.completion()
        if wire.endswith(b"}"):
            await client.send(models)
        listed = await client.answer()
        assert listed.json["object"] == "list"
        assert (listed.header("connection") or "").lower() == "close"
        assert await client.ended() == b""
    assert len(first.received) == 2


REFUSED_BODIES = {
    "empty": (b"", "invalid_json", None),
    "not_json": (b"hello", "invalid_json", None),
    "array": (b"[]", "invalid_json", None),
    "trailing": (b'{"model":"m"}x', "invalid_json", None),
    "nan": (b'{"model":"m","a":NaN}', "invalid_json", None),
    "utf_16": (chat.request().decode().encode("utf-16"), "invalid_json", None),
    "bad_utf_8": (b'{"model":"m","a":"\xff"}', "invalid_json", None),
    "deep": (b'{"model":"m","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json", None),
    "no_model": (b'{"messages":[]}', "missing_required_parameter", "model"),
    "number": (b'{"model":7}', "invalid_type", "model"),
    "long_model": (b'{"model":"' + b"m" * 600 + b'"}', "invalid_type", "model"),
    "twice": (b'{"model":"m","model":"x"}', "duplicate_parameter", "model"),
    "twice_escaped": (b'{"model":"m","mo\\u0064el":"x"}', "duplicate_parameter", "model"),
    "cased": (b'{"model":"m","Model":"x"}', "duplicate_parameter", "Model"),
    "stream_type": (b'{"model":"m","stream":"yes"}', "invalid_type", "stream"),
}


@pytest.mark.parametrize(("body", "reason", "param"), REFUSED_BODIES.values(), ids=REFUSED_BODIES)
async def test_bodies_that_cannot_be_read_are_refused(
    router: StartRouter, first: ScriptedUpstream, body: bytes, reason: str, param: str | None
) -> None:
    """400 in the envelope with the member that is at fault; the connection goes on, the upstream is not asked."""
    running = await router(first)
    client = await running.connect()
    await client.send(post(body))
    answer = await client.answer()
    assert (answer.status, answer.error["type"], answer.error["reason"]) == (400, "invalid_request", reason)
    assert (answer.error["param"] or "").lower() == (param or "").lower()
    await client.send(post(chat.request()))
    assert (await client.answer()).status == 200
    assert len(first.received) == 1
    assert [record.outcome for record in running.ended] == [Outcome.CLIENT_ERROR, Outcome.OK]


async def test_an_unknown_model_is_named(router: StartRouter, first: ScriptedUpstream) -> None:
    """404 with the exact sentence that clients look for, and the label of the record is no name from the wire."""
    running = await router(first)
    answer = await running.post(chat.request(model="nobody"))
    assert answer.status == 404
    assert answer.error == {
        "message": "model 'nobody' not found",
        "type": "not_found",
        "param": "model",
        "code": 404,
        "reason": "model_not_found",
    }
    record = await running.record()
    assert (record.model, record.requested_model) == ("_unknown", "nobody")


async def test_a_bug_of_ours_in_choosing_costs_one_request(router: StartRouter, first: ScriptedUpstream) -> None:
    """What fails in our own code before anything is sent is answered 500, told to the operator, and leaves nothing."""
    running = await router(first)
    running.bugs = 1
    wires = running.daemon._relay.snapshot.wires
    lost = dict(wires)
    wires.clear()
    answer = await running.post()
    wires.update(lost)
    assert (answer.status, answer.error["reason"]) == (500, "internal")
    assert (await running.post()).status == 200
    assert [record.outcome for record in running.ended] == [Outcome.INTERNAL, Outcome.OK]


@pytest.mark.parametrize("repeated", [False, True])
async def test_a_bug_of_ours_in_reading_an_answer_costs_one_request(
    router: StartRouter, first: ScriptedUpstream, *, repeated: bool
) -> None:
    """What fails in our own code at an answer's head, new or known, is answered 500 and closes only that connection."""
    go_on = asyncio.Event()
    running = await router(first)
    running.bugs = 1
    if repeated:
        await running.post()
    first.then(play(wait_for(go_on), json_answer()))
    client = await running.open()
    await first.asked(1 + repeated)
    (exchange,) = running.daemon._relay.exchanges
    exchange.ask = None
    go_on.set()
    answer = await client.answer()
    assert (answer.status, answer.error["reason"]) == (500, "internal")
    assert (await running.post()).status == 200
    assert [record.outcome for record in running.ended][-2:] == [Outcome.INTERNAL, Outcome.OK]
