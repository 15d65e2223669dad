"""What a key may use and what an upstream can take: refused in time, charged exactly (DESIGN 5.4, RELIABILITY 5)."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

import pytest

from router.events import LimitDecided, Outcome
from tests.harness import chat
from tests.harness.router import CLIENT_SECRET, OTHER_SECRET
from tests.harness.upstream import (
    Script,
    chunks,
    cut,
    error,
    head,
    json_answer,
    last_chunk,
    play,
    send,
    sse_head,
    sse_stream,
    stall,
    wait_for,
)
from tests.harness.waiting import until

if TYPE_CHECKING:
    from router.relay.exchange import Exchange
    from tests.harness.client import Answer
    from tests.harness.router import RunningRouter
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter


def keys(**limits: Any) -> dict[str, Any]:
    """One key, `team`, with these limits."""
    return {"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": limits}}


def check_refused(answer: Answer, reason: str) -> None:
    """A 429 in the envelope that says when to come back, in whole seconds and milliseconds."""
    assert (answer.status, answer.error["type"], answer.error["reason"]) == (429, "rate_limited", reason)
    wait_s, wait_ms = int(answer.header("retry-after") or 0), int(answer.header("retry-after-ms") or 0)
    assert 1 <= wait_s <= 60
    assert math.ceil(wait_ms / 1000) <= wait_s


async def test_requests_per_minute(router: StartRouter, first: ScriptedUpstream) -> None:
    """As many requests at once as the burst allows; the next is refused, not forwarded, and told when to return."""
    running = await router(first, keys=keys(requests_per_minute=6, request_burst=2))
    answers = [await running.post(key=CLIENT_SECRET) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    check_refused(answers[2], "requests_per_minute")
    assert [answer.header("x-ratelimit-limit-requests") for answer in answers] == ["6"] * 3
    assert [answer.header("x-ratelimit-remaining-requests") for answer in answers] == ["1", "0", "0"]
    assert all(answer.header("x-ratelimit-reset-requests") for answer in answers)
    assert len(first.received) == 2
    assert [record.outcome for record in running.ended] == [Outcome.OK, Outcome.OK, Outcome.RATE_LIMITED]
    decided = [event for event in running.events if isinstance(event, LimitDecided)]
    assert [(event.scope, event.limit) for event in decided] == [("key", "requests")]


async def test_tokens_per_minute(router: StartRouter, first: ScriptedUpstream) -> None:
    """What a request may use is reserved; when that does not fit it is refused, and headers say what is left."""
    running = await router(first, keys=keys(tokens_per_minute=600))
    first.always(json_answer(chat.completion(prompt=300, output=250)))
    body = chat.request(max_tokens=500)
    assert (await running.post(body, key=CLIENT_SECRET)).status == 200
    refused = await running.post(body, key=CLIENT_SECRET)
    check_refused(refused, "tokens_per_minute")
    assert refused.header("x-ratelimit-limit-tokens") == "600"
    assert 50 <= int(refused.header("x-ratelimit-remaining-tokens") or 0) < 150
    assert len(first.received) == 1


@pytest.mark.parametrize("max_tokens", [1000, 10**18])
async def test_what_can_never_fit_says_so(router: StartRouter, first: ScriptedUpstream, max_tokens: int) -> None:
    """A request larger than the limit is refused with both numbers and the word that trying again is useless."""
    running = await router(first, keys=keys(tokens_per_minute=600))
    answer = await running.post(chat.request(max_tokens=max_tokens), key=CLIENT_SECRET)
    assert (answer.status, answer.error["reason"]) == (429, "tokens_per_minute")
    assert answer.header("x-should-retry") == "false"
    assert "600" in answer.error["message"]
    assert first.received == []


async def test_concurrency(router: StartRouter, first: ScriptedUpstream) -> None:
    """A slot is held to the last byte of a stream; while all are held the key is refused, then served again."""
    go_on = asyncio.Event()
    first.then(
        play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())
    )
    running = await router(first, keys=keys(concurrency=1))
    streaming = await running.open(chat.request(stream=True), key=CLIENT_SECRET)
    await streaming.head()
    await streaming.until(b'"a"')
    check_refused(await running.post(key=CLIENT_SECRET), "concurrent_requests")
    go_on.set()
    await streaming.rest()
    assert (await running.post(key=CLIENT_SECRET)).status == 200


async def test_a_client_that_leaves_gives_its_slot_back(router: StartRouter, first: ScriptedUpstream) -> None:
    """A slot cannot be lost by hanging up."""
    first.then(stall())
    running = await router(first, keys=keys(concurrency=1))
    client = await running.open(key=CLIENT_SECRET)
    await first.asked()
    client.reset()
    await running.record()
    assert (await running.post(key=CLIENT_SECRET)).status == 200


async def test_refusals_take_nothing(router: StartRouter, first: ScriptedUpstream) -> None:
    """All or nothing: a request refused by one limit is not counted by the others."""
    running = await router(first, keys=keys(requests_per_minute=60, request_burst=2, tokens_per_minute=600))
    await running.post(chat.request(max_tokens=10_000), key=CLIENT_SECRET)
    await running.post(chat.request(model="nobody"), key=CLIENT_SECRET)
    answers = [await running.post(chat.request(max_tokens=10), key=CLIENT_SECRET) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]


async def test_one_keys_limits_do_not_touch_another(router: StartRouter, first: ScriptedUpstream) -> None:
    """A key over its limit is refused while another is served."""
    limited = keys(requests_per_minute=1, request_burst=1)
    other = {"other": {"secret": {"env": "OTHER_SECRET"}}}
    running = await router(first, keys=limited | other)
    assert [(await running.post(key=CLIENT_SECRET)).status for _ in range(2)] == [200, 429]
    free = await running.post(key=OTHER_SECRET)
    assert free.status == 200
    assert free.header("x-ratelimit-limit-requests") is None


SUM = chat.usage_event(100, 40)
ENDS: dict[str, tuple[bool, Script, int | None]] = {
    "whole": (False, json_answer(chat.completion(prompt=100, output=40)), 140),
    "stream": (True, sse_stream(*chat.answer("a"), SUM), 140),
    "failed": (False, cut(), 0),
    "500": (False, error(500), 0),
    "400": (False, error(400), 0),
    "role_then_cut": (True, play(sse_head(), chunks(chat.role()), cut()), 0),
    "cut_with_usage": (True, play(sse_head(), chunks(chat.token("a"), SUM), cut()), 140),
    "more_than_reserved": (False, json_answer(chat.completion(prompt=100, output=5000)), 5100),
    "no_usage": (False, json_answer(b'{"choices":[{"message":{"content":"hello"}}]}'), None),
    "absurd_usage": (
        False,
        json_answer(b'{"choices":[],"usage":{"prompt_tokens":-5,"completion_tokens":1e300}}'),
        None,
    ),
}


@pytest.mark.parametrize(("stream", "script", "charged"), ENDS.values(), ids=ENDS)
async def test_tokens_are_settled_exactly(
    router: StartRouter, first: ScriptedUpstream, *, stream: bool, script: Script, charged: int | None
) -> None:
    """However an exchange ends, it is charged the usage the upstream reported, nothing if nothing was used.

    The fixture compares the key's bucket with the sum of what the records say was charged.
    """
    first.always(script)
    running = await router(first, keys=keys(tokens_per_minute=10_000), defaults={"retry": {"attempts": 1}})
    await running.post(chat.request(stream=stream, max_tokens=1000), key=CLIENT_SECRET)
    record = await running.record()
    assert record.reserved_tokens > 1000
    if charged is None:
        assert 0 < record.charged_tokens <= record.reserved_tokens
        assert not record.exact
    else:
        assert record.charged_tokens == charged


LEAVING: dict[str, tuple[bool, Script, bytes]] = {
    "waiting": (False, stall(), b""),
    "half_a_body": (False, play(send(head(200, "content-length: 999") + b"{"), stall()), b""),
    "holding": (True, play(sse_head(), chunks(chat.role()), stall()), b""),
    "relaying": (True, play(sse_head(), chunks(*[chat.token("word")] * 10), stall()), b"word"),
}


@pytest.mark.parametrize(("stream", "script", "seen"), LEAVING.values(), ids=LEAVING)
async def test_a_client_that_leaves_is_charged_once(
    router: StartRouter, first: ScriptedUpstream, *, stream: bool, script: Script, seen: bytes
) -> None:
    """Leaving costs the prompt and what was relayed, never more than was reserved, and the rest comes back."""
    first.always(script)
    running = await router(first, keys=keys(tokens_per_minute=10_000))
    client = await running.open(chat.request(stream=stream, max_tokens=1000), key=CLIENT_SECRET)
    await first.asked()
    if seen:
        await client.head()
        await client.until(seen)
    client.reset()
    record = await running.record()
    assert 0 < record.charged_tokens < 1000 < record.reserved_tokens
    assert not record.exact


async def test_usage_that_is_known_before_content_counts(router: StartRouter, first: ScriptedUpstream) -> None:
    """An upstream may tell the prompt's tokens first: if the client leaves then, they are its, and the upstream's."""
    first.always(play(sse_head(), chunks(chat.usage_event(7, 0)), stall()))
    running = await router(first, keys=keys(tokens_per_minute=10_000))
    client = await running.open(chat.request(stream=True), key=CLIENT_SECRET)
    (exchange,) = await begun(running)
    await until(lambda: exchange.answer is not None and exchange.answer.usage() is not None, "the usage")
    client.reset()
    record = await running.record()
    assert (record.upstream, record.charged_tokens) == ("first", 7)
    assert record.usage is not None


async def test_usage_of_a_failed_attempt_counts_nowhere(
    router: StartRouter, first: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an attempt reported that failed before content is nobody's, also if the client leaves before the next."""
    monkeypatch.setattr("router.relay.exchange.backoff", lambda *_: 60.0)
    first.always(play(sse_head(), chunks(chat.usage_event(7, 0)), cut()))
    running = await router(first, keys=keys(tokens_per_minute=10_000))
    client = await running.open(chat.request(stream=True), key=CLIENT_SECRET)
    (exchange,) = await begun(running)
    await until(lambda: exchange.attempts, "the attempt to fail")
    client.reset()
    record = await running.record()
    assert (record.usage, record.charged_tokens, record.upstream) == (None, 0, "")


async def begun(running: RunningRouter) -> list[Exchange]:
    """The exchanges under way, once there is one."""
    relay = running.daemon._relay
    await until(lambda: relay.exchanges, "a request")
    return list(relay.exchanges)


async def test_failover_charges_once(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """Attempts that failed cost nothing; the answer is charged once."""
    first.always(error(500))
    second.always(json_answer(chat.completion(prompt=7, output=5)))
    running = await router(first, second, keys=keys(tokens_per_minute=10_000))
    await running.post(chat.request(max_tokens=1000), key=CLIENT_SECRET)
    assert (await running.record()).charged_tokens == 12


async def test_a_full_upstream_is_passed_over(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A member at its concurrency takes nothing more; the next one does, and when all are full it is 503 or 429."""
    go_on = asyncio.Event()
    for upstream in (first, second):
        upstream.always(play(wait_for(go_on), json_answer()))
    running = await router(first, second, upstream={"limits": {"concurrency": 1}})
    clients = [await running.open(), await running.open()]
    await second.asked()
    refused = await running.post()
    assert refused.status in {429, 503}
    assert 1 <= int(refused.header("retry-after") or 0) <= 60
    go_on.set()
    assert [(await client.answer()).status for client in clients] == [200, 200]
    assert (len(first.received), len(second.received)) == (1, 1)
    assert (await running.post()).status == 200


async def test_an_upstreams_rate_is_kept(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A member that has had its requests for now is passed over; when all have, the client gets 429."""
    limits = {"limits": {"requests_per_minute": 6, "request_burst": 2}}
    running = await router(first, second, upstream=limits)
    answers = [await running.post() for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 429]
    assert (len(first.received), len(second.received)) == (2, 2)
    assert answers[4].error["reason"] == "upstream_rate_limited"
    assert answers[4].header("retry-after")


async def test_a_paced_upstream_gets_requests_in_its_rhythm(router: StartRouter, first: ScriptedUpstream) -> None:
    """With `pace` a burst is spread out rather than refused, as long as the wait is within its bound."""
    running = await router(first, upstream={"pace": {"requests": 2, "per": "100ms", "wait": "5s"}})
    begun = asyncio.get_running_loop().time()
    answers = await asyncio.gather(*(running.post() for _ in range(6)))
    assert [answer.status for answer in answers] == [200] * 6
    assert asyncio.get_running_loop().time() - begun > 0.15


async def test_a_pace_that_takes_too_long_moves_on(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """When the wait for an upstream's turn is over its bound the next member is asked."""
    running = await router(first, second, upstream={"pace": {"requests": 1, "per": "60s", "wait": "20ms"}})
    assert [(await running.post()).status for _ in range(2)] == [200, 200]
    assert running.causes() == [("first", "paced_out"), ("second", "ok")]


async def never_sent(running: RunningRouter, tokens: float) -> None:
    """A large request whose client leaves before it was sent: the upstream has as many tokens left as before."""
    client = await running.open(chat.request(user="x" * 30_000))
    await until(running.in_flight, "a lease")
    over = len(running.ended)
    client.reset()
    record = await running.record(over + 1)
    assert (record.outcome, record.charged_tokens) == (Outcome.CLIENT_GONE, 0)
    limiter = running.daemon.catalogue.upstreams["first"].limiter
    assert limiter is not None
    assert limiter.tokens is not None
    assert limiter.tokens.level(time.monotonic()) >= tokens


async def test_what_was_never_sent_costs_the_upstream_nothing(router: StartRouter, black_hole: str) -> None:
    """A client that leaves while we connect uses up none of the upstream's tokens."""
    await never_sent(await router(black_hole, upstream={"limits": {"tokens_per_minute": 100_000}}), 100_000)


async def test_what_was_never_due_costs_the_upstream_nothing(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client that leaves while it waits for the upstream's pace uses up none of the upstream's tokens."""
    pace = {"requests": 1, "per": "60s", "wait": "30s"}
    running = await router(first, upstream={"pace": pace, "limits": {"tokens_per_minute": 100_000}})
    await running.post()
    await never_sent(running, 100_000 - running.ended[0].charged_tokens)
    assert len(first.received) == 1


@pytest.mark.parametrize("name", ["missing", "wrong", "disabled"])
async def test_strangers_are_refused_alike(router: StartRouter, first: ScriptedUpstream, name: str) -> None:
    """No key, an unknown key and a disabled key are 401 with a challenge; unknown and disabled do not differ."""
    configured = keys()
    configured["off"] = {"secret": {"env": "OTHER_SECRET"}, "disabled": True}
    running = await router(first, keys=configured)
    key = {"missing": None, "wrong": "nope", "disabled": OTHER_SECRET}[name]
    answer = await running.post(key=key)
    assert answer.status == 401
    assert answer.header("www-authenticate") == "Bearer"
    assert answer.error["reason"] == ("missing_api_key" if key is None else "invalid_api_key")
    assert (await running.record()).key == ""
    assert first.received == []


async def test_a_key_may_use_its_models_only(router: StartRouter, first: ScriptedUpstream) -> None:
    """A model outside the key's patterns is 403."""
    configured = keys()
    configured["team"]["models"] = ["gpt-*"]
    models = {"m": {"pool": ["first"]}, "gpt-1": {"pool": ["first"]}}
    running = await router(first, models=models, keys=configured)
    refused = await running.post(key=CLIENT_SECRET)
    assert (refused.status, refused.error["reason"], refused.error["param"]) == (403, "model_not_allowed", "model")
    assert (await running.post(chat.request(model="gpt-1"), key=CLIENT_SECRET)).status == 200
    assert {record.key for record in running.ended} == {"team"}
