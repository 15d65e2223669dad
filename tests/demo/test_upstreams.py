"""The embedded upstreams: OpenAI's shapes, and faults exactly when they are due."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from router.demo.behaviour import Behaviour, changed
from router.demo.upstreams import WORDS, DemoUpstream
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUICK = Behaviour(latency_s=0, token_interval_s=0, tokens=4)


@pytest.fixture
async def upstream() -> AsyncIterator[DemoUpstream]:
    upstream = DemoUpstream("one", QUICK)
    await upstream.start()
    yield upstream
    await upstream.stop()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as client:
        yield client


async def ask(client: aiohttp.ClientSession, upstream: DemoUpstream, **more: Any) -> tuple[int, bytes]:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **more}
    async with client.post(f"{upstream.base_url}/chat/completions", json=body) as answer:
        return answer.status, await answer.read()


def events(body: bytes) -> list[Any]:
    lines = body.decode().split("\n\n")
    assert lines.pop() == ""
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def test_a_plain_answer_has_the_shape_of_openai(client: aiohttp.ClientSession, upstream: DemoUpstream) -> None:
    """A plain answer is a chat completion whose usage adds up."""
    status, body = await ask(client, upstream)
    answer = json.loads(body)
    assert status == 200
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "m"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": " ".join(WORDS[:4]), "refusal": None}
    usage = answer["usage"]
    assert usage["completion_tokens"] == 4
    assert usage["total_tokens"] == usage["prompt_tokens"] + 4


async def test_a_stream_says_the_same_in_pieces(client: aiohttp.ClientSession, upstream: DemoUpstream) -> None:
    """A stream is one role event, one event for each token, one with the finish reason, then `[DONE]`."""
    _, body = await ask(client, upstream, stream=True)
    deltas = [event["choices"][0]["delta"] for event in events(body)]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta["content"] for delta in deltas[1:-1]) == " ".join(WORDS[:4])
    assert deltas[-1] == {}
    assert events(body)[-1]["choices"][0]["finish_reason"] == "stop"


async def test_a_stream_reports_usage_only_when_asked(client: aiohttp.ClientSession, upstream: DemoUpstream) -> None:
    """The usage event comes last, has no choices, and is sent only to who asked for it."""
    _, asked = await ask(client, upstream, stream=True, stream_options={"include_usage": True})
    _, unasked = await ask(client, upstream, stream=True)
    assert events(asked)[-1]["choices"] == []
    assert events(asked)[-1]["usage"]["completion_tokens"] == 4
    assert all("usage" not in event for event in events(unasked))


async def test_a_bound_on_the_answer_is_kept(client: aiohttp.ClientSession, upstream: DemoUpstream) -> None:
    """`max_tokens` cuts the answer short and says so in the finish reason."""
    _, body = await ask(client, upstream, max_tokens=2)
    answer = json.loads(body)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 2


async def test_every_nth_request_fails(client: aiohttp.ClientSession, upstream: DemoUpstream) -> None:
    """Errors come by count, the lowest status first where two are due at once."""
    upstream.set(errors={500: 3, 429: 2})
    statuses = [(await ask(client, upstream))[0] for _ in range(6)]
    assert statuses == [200, 429, 500, 429, 200, 429]


async def test_a_refusal_says_when_to_come_back(client: aiohttp.ClientSession, upstream: DemoUpstream) -> None:
    """429 and 503 carry `retry-after` with the seconds that were set."""
    upstream.set(errors={503: 1}, retry_after_s=7)
    async with client.post(f"{upstream.base_url}/chat/completions", json={"model": "m", "messages": []}) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (503, "7")


async def test_a_cut_stream_never_ends_properly(client: aiohttp.ClientSession, upstream: DemoUpstream) -> None:
    """A cut stream sends exactly the events before the cut and leaves its chunked body unfinished."""
    upstream.set(cut_every=1, cut_after=3)
    body = {"model": "m", "messages": [], "stream": True}
    async with client.post(f"{upstream.base_url}/chat/completions", json=body) as answer:
        lines = [await answer.content.readline() for _ in range(6)]
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.readline()
    assert [line[:5] for line in lines] == [b"data:", b"\n"] * 3


async def test_a_stalled_answer_ends_with_the_upstream(client: aiohttp.ClientSession) -> None:
    """A stalled request hears nothing, and stopping the upstream does not wait for it."""
    upstream = DemoUpstream("one", changed(QUICK, {"stall_every": 1}))
    await upstream.start()
    asking = asyncio.gather(ask(client, upstream), return_exceptions=True)
    async with asyncio.timeout(10):
        await until(lambda: upstream.requests)
        await upstream.stop()
        assert isinstance((await asking)[0], aiohttp.ClientError)


async def test_a_killed_upstream_answers_again_once_revived(
    client: aiohttp.ClientSession, upstream: DemoUpstream
) -> None:
    """Between `kill` and `revive` connections are closed without an answer."""
    upstream.kill()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await ask(client, upstream)
    upstream.revive()
    assert (await ask(client, upstream))[0] == 200


async def test_behaviour_is_set_over_http(client: aiohttp.ClientSession, upstream: DemoUpstream) -> None:
    """`POST /_behaviour` changes what it names and keeps the rest; nonsense changes nothing and is answered 400."""
    url = f"{upstream.base_url.removesuffix('/v1')}/_behaviour"
    async with client.post(url, data=b'{"errors": {"500": 1}}') as answer:
        assert answer.status == 200
    assert upstream.behaviour == changed(QUICK, {"errors": {500: 1}})
    for nonsense in (b'{"colour": "red"}', b'{"tokens": 0}', b"[]", b"{"):
        async with client.post(url, data=nonsense) as answer:
            assert answer.status == 400
    async with client.get(url) as answer:
        assert (await answer.json())["errors"] == {"500": 1}
    assert (await ask(client, upstream))[0] == 500


async def test_bad_requests_are_refused(client: aiohttp.ClientSession, upstream: DemoUpstream) -> None:
    """A body that is no chat request is answered 400 in OpenAI's envelope."""
    for body in (b"{", b"[]", b'{"model": 7, "messages": []}'):
        async with client.post(f"{upstream.base_url}/chat/completions", data=body) as answer:
            assert answer.status == 400
            assert set((await answer.json())["error"]) == {"message", "type", "param", "code"}
