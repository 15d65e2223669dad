"""What is stored at one upstream is asked for there, by the key that owns it and nobody else (PROTOCOL 2.2)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import chat
from tests.harness.client import post
from tests.harness.router import CLIENT_SECRET, OTHER_SECRET
from tests.harness.upstream import chunks, error, json_answer, last_chunk, play, sse_head

if TYPE_CHECKING:
    from tests.harness.client import Answer
    from tests.harness.router import RunningRouter
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

KEYS = {
    "team": {"secret": {"env": "CLIENT_SECRET"}, "limits": {"tokens_per_minute": "1M"}},
    "other": {"secret": {"env": "OTHER_SECRET"}},
}


def response(identity: str, status: str = "completed", usage: dict[str, int] | None = None) -> bytes:
    value: dict[str, Any] = {"id": identity, "object": "response", "status": status, "usage": usage}
    return json.dumps(value).encode()


async def create(running: RunningRouter, key: str = CLIENT_SECRET, **members: Any) -> Answer:
    return await ask(running, "POST", "/v1/responses", json.dumps({"model": "m", "input": "x"} | members).encode(), key)


async def ask(running: RunningRouter, method: str, path: str, body: bytes = b"", key: str = CLIENT_SECRET) -> Answer:
    async with await running.connect() as client:
        framing = "" if not body else None
        await client.send(post(body, path=path, method=method, key=key, framing=framing))
        return await client.answer(method)


async def test_a_stored_response_is_asked_for_where_it_is(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Each operation on an id goes to the upstream that made it, even when another comes first in the pool."""
    first.then(error(500))
    second.then(
        json_answer(response("resp_1")),
        json_answer(response("resp_1")),
        json_answer(b'{"data":[]}'),
        json_answer(response("resp_1", "cancelled")),
        json_answer(b'{"id":"resp_1","deleted":true}'),
    )
    running = await router(first, second, keys=KEYS)
    assert (await create(running)).json["id"] == "resp_1"
    assert (await ask(running, "GET", "/v1/responses/resp_1?include=a")).status == 200
    assert (await ask(running, "GET", "/v1/responses/resp_1/input_items")).json == {"data": []}
    assert (await ask(running, "POST", "/v1/responses/resp_1/cancel")).json["status"] == "cancelled"
    assert (await ask(running, "DELETE", "/v1/responses/resp_1")).json["deleted"] is True
    assert [received.line for received in second.received[1:]] == [
        b"GET /v1/responses/resp_1?include=a HTTP/1.1",
        b"GET /v1/responses/resp_1/input_items HTTP/1.1",
        b"POST /v1/responses/resp_1/cancel HTTP/1.1",
        b"DELETE /v1/responses/resp_1 HTTP/1.1",
    ]
    assert (await ask(running, "GET", "/v1/responses/resp_1")).status == 404
    assert len(first.received) == 1


async def test_another_keys_id_does_not_exist(router: StartRouter, first: ScriptedUpstream) -> None:
    """A stranger's id, and one of nobody, are told alike, and the upstream is not asked."""
    first.then(json_answer(response("resp_1")))
    running = await router(first, keys=KEYS)
    await create(running)
    theirs = await ask(running, "GET", "/v1/responses/resp_1", key=OTHER_SECRET)
    nobodys = await ask(running, "GET", "/v1/responses/resp_9")
    assert (theirs.status, theirs.error["reason"]) == (404, "not_found")
    assert (nobodys.status, nobodys.error["reason"]) == (404, "not_found")
    assert len(first.received) == 1


async def test_a_conversation_goes_on_where_it_began(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A request that names an earlier response goes to its upstream, streamed ones too."""
    event = {"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1"}}
    end = {"type": "response.completed", "sequence_number": 1, "response": {"id": "resp_1", "usage": None}}
    first.then(error(503))
    second.then(
        play(
            sse_head(),
            chunks(*(b"data: " + json.dumps(each).encode() + b"\n\n" for each in (event, end))),
            last_chunk(),
        ),
        json_answer(response("resp_2")),
    )
    running = await router(first, second, keys=KEYS)
    assert (await create(running, stream=True)).status == 200
    assert (await create(running, previous_response_id="resp_1")).json["id"] == "resp_2"
    assert len(first.received) == 1


async def test_a_dead_owner_is_told_and_never_replaced(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """When the upstream that holds a response is down the client sees 503; no other upstream is asked for it."""
    first.then(json_answer(response("resp_1")))
    running = await router(first, second, keys=KEYS)
    await create(running)
    first.kill()
    for _ in range(3):
        got = await create(running, previous_response_id="resp_1")
        assert got.status in (502, 503)
    assert (got.status, got.error["reason"]) == (503, "sticky_upstream_down")
    got = await ask(running, "GET", "/v1/responses/resp_1")
    assert (got.status, got.error["reason"]) == (503, "sticky_upstream_down")
    assert second.received == []


async def test_an_unknown_earlier_response_is_looked_for(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """After a restart nobody knows the owner: a member that does not have it costs nothing, and the next is asked."""
    missing = b'{"error":{"message":"Previous response not found","code":"previous_response_not_found","type":"x"}}'
    first.then(error(400, missing))
    second.then(json_answer(response("resp_2")), json_answer(response("resp_3")))
    running = await router(first, second, keys=KEYS)
    assert (await create(running, previous_response_id="resp_0")).json["id"] == "resp_2"
    assert (await create(running, previous_response_id="resp_2")).json["id"] == "resp_3"
    assert len(first.received) == 1


async def test_a_background_response_is_billed_once(router: StartRouter, first: ScriptedUpstream) -> None:
    """Its usage counts at the first look that shows it, and at no later one."""
    usage = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
    first.then(
        json_answer(response("resp_1", "queued")),
        json_answer(response("resp_1", "in_progress")),
        *(json_answer(response("resp_1", "completed", usage)) for _ in range(2)),
    )
    running = await router(first, keys=KEYS)
    await create(running, background=True)
    for _ in range(3):
        assert (await ask(running, "GET", "/v1/responses/resp_1")).status == 200
    await running.record(4)
    assert [record.usage is not None for record in running.ended] == [False, False, True, False]
    assert [record.charged_tokens for record in running.ended[1:]] == [0, 13, 0]


async def test_a_response_that_is_looked_at_again_is_not_paid_again(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """What was counted when it was made is not counted when it is read."""
    usage = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
    first.always(json_answer(response("resp_1", "completed", usage)))
    running = await router(first, keys=KEYS)
    await create(running)
    await ask(running, "GET", "/v1/responses/resp_1")
    await running.record(2)
    assert [record.charged_tokens for record in running.ended] == [13, 0]


@pytest.mark.parametrize(("method", "path"), [("PUT", "/v1/responses/resp_1"), ("GET", "/v1/responses/resp_1/cancel")])
async def test_wrong_methods_are_told(router: StartRouter, first: ScriptedUpstream, method: str, path: str) -> None:
    """A method that an operation does not have is 405, with the ones it has."""
    running = await router(first)
    got = await ask(running, method, path)
    assert got.status == 405
    assert got.header("allow") == ("GET, DELETE" if method == "PUT" else "POST")


async def test_a_video_job_stays_where_it_is(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Its state and its content are asked for at the upstream that runs it."""
    first.then(error(500))
    second.then(
        json_answer(b'{"id":"video_1","status":"queued"}'), json_answer(b'{"id":"video_1"}'), json_answer(b"{}")
    )
    running = await router(first, second, keys=KEYS)
    made = await ask(running, "POST", "/v1/videos", b'{"model":"m","prompt":"x"}')
    assert made.json["id"] == "video_1"
    assert (await ask(running, "GET", "/v1/videos/video_1")).status == 200
    assert (await ask(running, "GET", "/v1/videos/video_1/content?variant=video")).status == 200
    assert second.received[2].line == b"GET /v1/videos/video_1/content?variant=video HTTP/1.1"


async def test_the_chat_after_it_is_not_bound(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """An id binds the requests that name it and nothing else of that client."""
    first.then(error(500))
    second.then(json_answer(response("resp_1")))
    running = await router(first, second, keys=KEYS)
    await create(running)
    assert (await running.post(chat.request(), key=CLIENT_SECRET)).status == 200
    assert len(first.received) == 2


async def test_a_stored_failure_is_an_answer(router: StartRouter, first: ScriptedUpstream) -> None:
    """A response that failed in the background is shown as it is: asking for it has not failed."""
    failed = b'{"id":"resp_1","object":"response","status":"failed","error":{"code":"server_error","message":"No."}}'
    first.then(json_answer(response("resp_1", "queued")), json_answer(failed))
    running = await router(first, keys=KEYS)
    await create(running, background=True)
    got = await ask(running, "GET", "/v1/responses/resp_1")
    assert (got.status, got.body) == (200, failed)


async def test_a_long_response_is_remembered_too(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """An answer that is too long to be held, with a picture in it say, can be asked for by its id like any other."""
    long = json.dumps({"id": "resp_1", "object": "response", "status": "completed", "output": "x" * 2_000_000}).encode()
    first.then(error(500))
    second.then(json_answer(long), json_answer(response("resp_1")))
    running = await router(first, second, keys=KEYS)
    assert (await create(running)).body == long
    assert (await ask(running, "GET", "/v1/responses/resp_1")).status == 200
