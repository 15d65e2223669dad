"""`explain` tells the truth: what it says of a request is what happens when that request is sent the next moment.

The running daemon is asked over its admin listener. Then the very request is sent, and its answer and its attempts, as
the access log has them, are held against what was said (`agree`).
"""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from router.explain.facts import Explanation
from tests.harness import chat
from tests.harness.client import Client, post
from tests.harness.router import CLIENT_SECRET, OTHER_SECRET
from tests.harness.upstream import error, json_answer, stall
from tests.harness.waiting import until
from tests.relay.test_translation import MESSAGE

if TYPE_CHECKING:
    from router.events import ExchangeEnded
    from router.policy.explain import MemberFacts
    from tests.harness.client import Answer
    from tests.harness.router import RunningRouter
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
CREDENTIALS = {"api_key": None, "api_keys": [{"env": "UPSTREAM_SECRET"}, {"env": "OTHER_SECRET"}]}
QUICK = {"ejection": {"consecutive": 1, "eject": "60s"}}
"""One failure, and a member is out for as long as the test takes."""


def keys(**settings: Any) -> dict[str, Any]:
    """One key, `team`."""
    return {"team": {"secret": {"env": "CLIENT_SECRET"}} | settings}


async def ask(running: RunningRouter, **question: Any) -> Explanation:
    """Ask the daemon what would happen."""
    async with await Client.connect(running.daemon.admin_address) as client:
        await client.send(post(json.dumps(question).encode(), path="/-/explain"))
        answer = await client.answer()
    assert answer.status == 200, answer
    return msgspec.json.decode(answer.body, type=Explanation)


async def both(
    running: RunningRouter,
    body: bytes | None = None,
    *,
    endpoint: str = "chat",
    key: str = "",
    secret: str | None = None,
) -> tuple[Explanation, Answer, ExchangeEnded]:
    """Ask what would happen to a request, then send it; fails if that is something else."""
    body = chat.request() if body is None else body
    if key and secret is None:
        secret = CLIENT_SECRET
    asked = time.monotonic()
    told = await ask(running, key=key, endpoint=endpoint, body=body.decode())
    before = len(running.ended)
    async with await running.connect() as client:
        await client.send(post(body, path=PATHS[endpoint], key=secret))
        got = await client.answer()
    record = await running.record(before + 1)
    agree(told, got, record, time.monotonic() - asked)
    return told, got, record


def agree(told: Explanation, got: Answer, record: ExchangeEnded, took_s: float) -> None:
    """Hold an answer and the attempts behind it against what was foretold; both took so long together."""
    outlook = told.outlook
    if outlook.served:
        assert record.attempts, (told, record)
        (first, *_) = record.attempts
        step = told.order[-1] if outlook.last_resort else told.order[0]
        assert [pick for pick in step.picks if (pick.upstream, pick.credential) == (first.upstream, first.credential)]
        chances = {(pick.upstream, pick.credential): pick.chance for pick in step.picks}
        assert chances[first.upstream, first.credential], "it had a chance to be the first"
        check_order(told, record)
    else:
        assert got.status == outlook.status
        assert told.outlook.reason in (got.error.get("reason"), got.error.get("code"), record.reason)
        waits = got.header("retry-after-ms")
        assert (waits is None) == (outlook.retry_after_s is None)
        if waits is not None and outlook.retry_after_s is not None:
            assert -1 <= outlook.retry_after_s - int(waits) / 1000 <= took_s + 1
        assert all(attempt.cause == "untranslatable" for attempt in record.attempts)
    if told.request is not None and record.reserved_tokens:
        assert told.request.reserved_tokens == record.reserved_tokens
    rewrites = {(each.upstream, each.model) for each in told.rewrites}
    assert {(attempt.upstream, attempt.model) for attempt in record.attempts} <= rewrites


def check_order(told: Explanation, record: ExchangeEnded) -> None:
    """The attempts went through the steps one after the other, until everybody had been tried once."""
    models = {(rewrite.route, rewrite.upstream, rewrite.member): rewrite.model for rewrite in told.rewrites}
    places = {
        (pick.upstream, models[step.route, pick.upstream, pick.model], pick.credential): number
        for number, step in enumerate(told.order)
        for pick in step.picks
    }
    tried = [(attempt.upstream, attempt.model, attempt.credential) for attempt in record.attempts]
    firsts = list(dict.fromkeys(tried))
    assert all(target in places for target in firsts), (told.order, tried)
    assert [places[target] for target in firsts] == sorted(places[target] for target in firsts)


def member(told: Explanation, upstream: str, credential: int = 0) -> MemberFacts:
    """What was said of one member."""
    (found,) = [
        each
        for pool in told.pools
        for each in pool.members
        if (each.upstream, each.credential) == (upstream, credential)
    ]
    return found


def reasons(told: Explanation, upstream: str, credential: int = 0) -> list[str]:
    """Why a member is out."""
    return [obstacle.name for obstacle in member(told, upstream, credential).obstacles]


def no_last_resort(running: RunningRouter) -> None:
    """Let nobody be tried who is out: as in the second after somebody was, however long that takes here."""
    running.daemon.catalogue.routes["m"].pool._last_resort_at = math.inf


def served_by(record: ExchangeEnded) -> list[str]:
    return [attempt.upstream for attempt in record.attempts]


# Members


async def test_of_healthy_tiers_the_lowest(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """With everybody well the request goes to the first tier, and the second is next in the order."""
    running = await router(first, second)
    told, _, record = await both(running)
    assert [[pick.upstream for pick in step.picks] for step in told.order] == [["first"], ["second"]]
    assert served_by(record) == ["first"]
    assert told.live
    assert told.digest == running.daemon.digest


async def test_failing_over_is_foretold(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """Whoever fails now though it looks well, the attempts that follow keep to the order."""
    first.always(error(500))
    _, _, record = await both(await router(first, second))
    assert served_by(record) == ["first", "second"]


async def test_a_dead_member(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """A host that refuses connections is told to be out with all its models, and nobody goes there."""
    running = await router(first, second, defaults=QUICK)
    await first.refuse()
    assert (await running.post()).status == 200
    told, _, record = await both(running)
    assert reasons(told, "first") == ["host_ejected"]
    assert served_by(record) == ["second"]


async def test_a_member_that_answers_with_failures(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """An ejected model is told with its reason and its time."""
    first.always(error(500))
    running = await router(first, second, defaults=QUICK)
    assert (await running.post()).status == 200
    told, _, record = await both(running)
    (obstacle,) = member(told, "first").obstacles
    assert (obstacle.name, obstacle.why) == ("ejected", "consecutive")
    assert 0 < (obstacle.for_s or 0) <= 72
    assert served_by(record) == ["second"]


async def test_a_trial_under_way(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """An ejected member whose time is over is told to be on trial: it gets that one request, no other meanwhile."""
    first.then(error(500), stall())
    running = await router(first, second, defaults={"ejection": {"consecutive": 1, "eject": "20ms"}})
    await running.post()
    state = running.daemon.catalogue.routes["m"].pool.targets[0]
    await until(lambda: state.eligible(time.monotonic(), 0), "its time is over")
    told = await ask(running, model="m")
    assert member(told, "first").probation
    client = await running.open()
    await first.asked(2)
    told, _, record = await both(running)
    assert reasons(told, "first") == ["probation"]
    assert served_by(record) == ["second"]
    client.transport.abort()


async def test_a_cooled_credential(router: StartRouter, first: ScriptedUpstream) -> None:
    """Of two credentials the one that was told to slow down is told to cool, and the other one is used."""
    first.then(error(429, None, "retry-after: 30"))
    running = await router(first, upstream=CREDENTIALS)
    assert (await running.post()).status == 200
    (cooled,) = [attempt.credential for attempt in running.ended[0].attempts if attempt.cause != "ok"]
    told, _, record = await both(running)
    (obstacle,) = member(told, "first", cooled).obstacles
    assert (obstacle.name, obstacle.why) == ("cooling", "rate_limit")
    assert member(told, "first", 1 - cooled).eligible
    assert [attempt.credential for attempt in record.attempts] == [1 - cooled]


async def test_everybody_cools(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """With all of them cooling there is a last resort, who is back first; in the second after that 429."""
    first.always(error(429, None, "retry-after: 50"))
    second.always(error(429, None, "retry-after: 20"))
    running = await router(first, second)
    await running.post()
    told, _, record = await both(running)
    assert told.outlook.last_resort
    assert [pick.upstream for pick in told.order[-1].picks] == ["second"] == served_by(record)
    no_last_resort(running)
    told, _, record = await both(running)
    assert (told.outlook.status, told.outlook.reason) == (429, "upstream_rate_limited")
    assert record.attempts == ()


async def test_everybody_is_ejected(router: StartRouter, first: ScriptedUpstream) -> None:
    """With nobody left it is 503, when the last resort has been taken a moment ago."""
    first.always(error(500))
    running = await router(first, defaults=QUICK)
    await running.post()
    told, _, _ = await both(running)
    assert told.outlook.last_resort
    no_last_resort(running)
    told, _, _ = await both(running)
    assert (told.outlook.status, told.outlook.reason) == (503, "no_healthy_upstream")


async def test_a_drained_member(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """One with weight 0 is shown and not asked, also when a reload has made it so."""
    running = await router(first, second)
    drained = [{"upstream": "first", "weight": 0}, {"upstream": "second", "tier": 2}]
    settings = {"upstreams": {"first": {"base_url": first.base_url}, "second": {"base_url": second.base_url}}}
    await running.reload(
        settings | {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "models": {"m": {"pool": drained}}}
    )
    told, _, record = await both(running)
    assert (member(told, "first").weight, member(told, "first").eligible) == (0, False)
    assert served_by(record) == ["second"]


async def test_a_full_member(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """One at its own limit of requests in flight is told with its numbers."""
    first.then(stall())
    running = await router(first, second, upstream={"limits": {"concurrency": 1}})
    client = await running.open()
    await first.asked()
    told, _, record = await both(running)
    (obstacle,) = member(told, "first").obstacles
    assert (obstacle.name, obstacle.why) == ("full", "1 of 1")
    assert served_by(record) == ["second"]
    client.transport.abort()


async def test_an_upstream_twice(router: StartRouter, first: ScriptedUpstream) -> None:
    """Two models of one upstream in a pool are two members, each with its name there and a health of its own."""
    first.then(error(404, chat.error_body("No.", kind="invalid_request_error", code="model_not_found")))
    pool = [{"upstream": "first", "model": "one"}, {"upstream": "first", "model": "two", "tier": 2}]
    running = await router(first, model={"pool": pool})
    told, got, record = await both(running)
    assert got.status == 200
    assert [(each.member, each.model) for each in told.rewrites] == [("one", "one"), ("two", "two")]
    assert [[(pick.upstream, pick.model) for pick in step.picks] for step in told.order] == [
        [("first", "one")],
        [("first", "two")],
    ]
    assert [attempt.model for attempt in record.attempts] == ["one", "two"]


async def test_a_paced_member(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """One whose turns are used up is told to have the request wait; when that is too long the next tier serves."""
    running = await router(first, second, upstream={"pace": {"requests": 1, "per": "60s", "wait": "1ms"}})
    told, _, record = await both(running)
    assert (told.rewrites[0].waits, served_by(record)) == (False, ["first"])
    told, _, record = await both(running)
    assert (told.rewrites[0].waits, served_by(record)) == (True, ["first", "second"])
    assert record.attempts[0].cause == "paced_out"


async def test_the_busier_of_two_has_no_chance(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Of two equals one of which is busy the other one is certain."""
    first.always(stall())
    second.always(stall())
    running = await router(first, second, same_tier=True)
    client = await running.open()
    await until(lambda: len(first.received) + len(second.received) == 1, "one is busy")
    idle = "second" if first.received else "first"
    first.always(json_answer())
    second.always(json_answer())
    told, _, record = await both(running)
    assert {pick.upstream: pick.chance for pick in told.order[0].picks}[idle] == 1.0
    assert served_by(record) == [idle]
    client.transport.abort()


async def test_whose_turn_it_is(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """Taking turns, the one that is told is the one that gets it, six times over."""
    running = await router(first, second, same_tier=True, model={"choose": "round_robin"})
    turns = []
    for _ in range(6):
        told, _, record = await both(running)
        assert [told.order[0].picks[0].upstream] == served_by(record)
        turns += served_by(record)
    assert (turns.count("first"), turns.count("second")) == (3, 3)


async def test_a_fallback(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """With its own pool out, a model's fallback is what would be tried, under its own name."""
    first.always(error(500))
    models = {
        "m": {"pool": ["first"], "fallback": ["n"]},
        "n": {"pool": [{"upstream": "second", "model": "other"}], "price": {"input": 1}},
    }
    running = await router(first, second, models=models, defaults=QUICK)
    await running.post()
    told, _, record = await both(running)
    assert [step.route for step in told.order] == ["n"]
    assert [(pool.route, pool.price and pool.price["input"]) for pool in told.pools] == [("m", None), ("n", 1.0)]
    assert [(attempt.upstream, attempt.model) for attempt in record.attempts] == [("second", "other")]


async def test_all_at_once(router: StartRouter, upstreams: list[ScriptedUpstream]) -> None:
    """A dead member, a cooled credential, a greedy pattern and a key that runs out, in one configuration."""
    dead, limited, other, greedy = upstreams
    limited.then(error(429, None, "retry-after: 30"))
    servers: dict[str, Any] = {
        name: {"base_url": each.base_url}
        for name, each in zip(("dead", "limited", "other", "greedy"), upstreams, strict=True)
    }
    servers["limited"]["api_keys"] = CREDENTIALS["api_keys"]
    pool = [{"upstream": "dead"}, {"upstream": "limited", "tier": 2}, {"upstream": "other", "tier": 3}]
    running = await router(
        upstreams=servers,
        models={"gpt-5": {"pool": pool}, "gpt-*": {"pool": pool}, "gpt-5-*": "greedy"},
        keys=keys(models=["gpt-*"], limits={"requests_per_minute": 1, "request_burst": 3}),
        defaults=QUICK,
    )
    await dead.refuse()
    told, _, record = await both(running, chat.request(model="gpt-5"), key="team")
    assert served_by(record) == ["dead", "limited", "limited"], "found out on the way, in the order that was told"
    (cooled,) = [each.credential for each in record.attempts if each.cause == "http_429"]
    told, _, record = await both(running, chat.request(model="gpt-5"), key="team")
    assert [step.tier for step in told.order] == [2, 3]
    assert (reasons(told, "dead"), reasons(told, "limited", cooled)) == (["host_ejected"], ["cooling"])
    assert [(each.upstream, each.credential) for each in record.attempts] == [("limited", 1 - cooled)]
    told, _, record = await both(running, chat.request(model="gpt-5-mini"), key="team")
    assert (told.route.name, told.route.lost, served_by(record)) == ("gpt-5-*", ("gpt-*",), ["greedy"])
    told, _, record = await both(running, chat.request(model="gpt-5"), key="team")
    assert (told.outlook.status, told.outlook.reason, record.attempts) == (429, "requests_per_minute", ())
    assert (len(other.received), len(greedy.received)) == (0, 1)


# Keys and their limits


async def test_an_exhausted_key(router: StartRouter, first: ScriptedUpstream) -> None:
    """Out of requests: which limit, when to come back, and nobody is asked."""
    running = await router(first, keys=keys(limits={"requests_per_minute": 1}))
    told, got, _ = await both(running, key="team")
    assert got.status == 200
    assert told.key.allowed_by == ("*",)
    told, _, record = await both(running, key="team")
    assert (told.outlook.status, told.outlook.reason) == (429, "requests_per_minute")
    assert told.limits is not None
    assert told.limits.refused_by == ("requests",)
    assert told.limits.levels.requests is not None
    assert (told.limits.levels.requests.left, told.limits.levels.requests.at_once) == (0, 1)
    assert 1 <= (told.outlook.retry_after_s or 0) <= 60
    assert record.attempts == ()
    assert told.order, "what would come after it is told all the same"


async def test_a_key_out_of_tokens(router: StartRouter, first: ScriptedUpstream) -> None:
    """What is left, what the request would reserve and of what that is made; too much for ever has no way back."""
    first.always(json_answer(chat.completion(prompt=300, output=250)))
    running = await router(first, keys=keys(limits={"tokens_per_minute": 600}))
    body = chat.request(max_tokens=500)
    told, got, _ = await both(running, body, key="team")
    assert got.status == 200
    assert told.request is not None
    assert (told.request.output_tokens, told.request.output_from) == (500, "max_tokens")
    assert told.request.text_bytes == len(body)
    told, _, _ = await both(running, body, key="team")
    assert (told.outlook.status, told.outlook.reason) == (429, "tokens_per_minute")
    assert told.limits is not None
    assert told.limits.levels.tokens is not None
    assert 50 <= told.limits.levels.tokens.left < 525
    told, _, _ = await both(running, chat.request(max_tokens=5000), key="team")
    assert (told.outlook.status, told.outlook.retry_after_s) == (429, None)


async def test_a_key_with_all_its_requests_in_flight(router: StartRouter, first: ScriptedUpstream) -> None:
    """As many as it may have: n of m."""
    first.then(stall())
    running = await router(first, keys=keys(limits={"concurrency": 1}))
    client = await running.open(key=CLIENT_SECRET)
    await first.asked()
    told, _, _ = await both(running, key="team")
    assert told.outlook.reason == "concurrent_requests"
    assert told.limits is not None
    assert (told.limits.levels.concurrency.in_flight, told.limits.levels.concurrency.limit) == (1, 1)
    client.transport.abort()


async def test_whose_request_it_is(router: StartRouter, first: ScriptedUpstream) -> None:
    """No key, one that nobody has, a disabled one, one that may not use the model: each as the client is told."""
    settings = {
        "team": {"secret": {"env": "CLIENT_SECRET"}, "models": ["gpt-*", "other"]},
        "old": {"secret": {"env": "OTHER_SECRET"}, "disabled": True},
    }
    running = await router(first, keys=settings, models={"m": "first", "gpt-5": "first"})
    told, _, _ = await both(running)
    assert (told.key.state, told.outlook.status, told.outlook.reason) == ("missing", 401, "missing_api_key")
    told, _, _ = await both(running, key="taem", secret="sk-nobody-0123456789")
    assert (told.key.state, told.outlook.status, told.key.hint) == ("unknown", 401, "did you mean 'team'?")
    told, _, _ = await both(running, key="old", secret=OTHER_SECRET)
    assert (told.key.state, told.outlook.status, told.outlook.reason) == ("disabled", 401, "invalid_api_key")
    told, _, _ = await both(running, key="team")
    assert (told.key.may_use, told.outlook.status, told.outlook.reason) == (False, 403, "model_not_allowed")
    assert told.order, "and where it would go if it might"
    told, got, _ = await both(running, chat.request(model="gpt-5"), key="team")
    assert (told.key.allowed_by, got.status) == (("gpt-*",), 200)


# Routes


@pytest.mark.parametrize(
    ("model", "route", "lost"),
    [("gpt-5-mini", "gpt-5*", ("gpt-*", "*")), ("gpt-5", "gpt-5", ("gpt-5*", "gpt-*", "*")), ("o1", "*", ())],
)
async def test_a_pattern_that_catches_what_another_should(
    router: StartRouter, upstreams: list[ScriptedUpstream], model: str, route: str, lost: tuple[str, ...]
) -> None:
    """The name or pattern that wins, those that lose, and the member behind the winner is asked."""
    patterns = ("gpt-*", "gpt-5*", "*", "gpt-5")
    models = dict(zip(patterns, ("first", "second", "third", "fourth"), strict=True))
    running = await router(*upstreams, models=models)
    told, got, record = await both(running, chat.request(model=model))
    assert (told.route.name, told.route.lost, told.route.exact) == (route, lost, route == model)
    assert got.status == 200
    assert served_by(record) == [models[route]]


async def test_an_unknown_model(router: StartRouter, first: ScriptedUpstream) -> None:
    """404, and what may have been meant."""
    running = await router(first, models={"gpt-5.5": "first"})
    told, _, _ = await both(running, chat.request(model="gtp-5.5"))
    assert (told.outlook.status, told.outlook.reason) == (404, "model_not_found")
    assert told.route.hint == "did you mean 'gpt-5.5'?"


async def test_a_model_that_this_endpoint_cannot_have(router: StartRouter, first: ScriptedUpstream) -> None:
    """Messages for a model whose members speak something else and may not be translated for."""
    running = await router(first)
    told, _, _ = await both(running, chat.request(max_tokens=9), endpoint="messages")
    assert told.outlook.status == 400
    assert (member(told, "first").spoken, member(told, "first").eligible) == (False, False)


async def test_what_is_rewritten(router: StartRouter, first: ScriptedUpstream) -> None:
    """The name there, what is left out and what is renamed are what the upstream then sees."""
    model = {"pool": [{"upstream": "first", "model": "there"}]}
    rules = {"drop_params": ["seed", "user"], "max_tokens_field": "max_completion_tokens"}
    running = await router(first, upstream=rules, models={"m": model})
    told, _, _ = await both(running, chat.request(seed=7, max_tokens=9, stream=False))
    (rewrite,) = told.rewrites
    received = first.received[0]
    assert received.json["model"] == rewrite.model == "there"
    assert rewrite.dropped == ("seed",)
    assert rewrite.renamed == "max_tokens becomes max_completion_tokens"
    assert "seed" not in received.json
    assert received.json["max_completion_tokens"] == 9
    assert rewrite.url == f"{first.base_url}/chat/completions"
    assert received.line == b"POST /v1/chat/completions HTTP/1.1"
    assert not rewrite.asks_usage


async def test_usage_is_asked_for(router: StartRouter, first: ScriptedUpstream) -> None:
    """On a stream whose client does not ask itself."""
    running = await router(first)
    first.always(error(500))
    told, _, _ = await both(running, chat.request(stream=True))
    assert told.rewrites[0].asks_usage
    assert first.received[0].json["stream_options"] == {"include_usage": True}
    told, _, _ = await both(running, chat.request(stream=True, stream_options={"include_usage": True}))
    assert not told.rewrites[0].asks_usage
    assert running.daemon._relay.snapshot.wires["first"].stop_asking_usage()
    told, _, _ = await both(running, chat.request(stream=True))
    assert not told.rewrites[0].asks_usage, "the upstream has refused to be asked"
    assert "stream_options" not in first.received[-1].json


async def test_a_translation(router: StartRouter, first: ScriptedUpstream) -> None:
    """A member of another protocol: its own path, and the parameters that have no place there."""
    first.always(json_answer(json.dumps(MESSAGE).encode()))
    settings = {"first": {"base_url": first.base_url, "protocol": "anthropic", "api_key": {"env": "UPSTREAM_SECRET"}}}
    models = {"m": {"pool": [{"upstream": "first", "model": "claude"}], "translate": True}}
    running = await router(first, upstreams=settings, models=models)
    told, got, record = await both(running, chat.request(seed=1))
    (rewrite,) = told.rewrites
    assert (rewrite.translated, rewrite.url) == ("anthropic", f"{first.base_url}/messages")
    assert rewrite.dropped == record.dropped == ("seed",)
    assert got.status == 200
    assert first.received[0].line == b"POST /v1/messages HTTP/1.1"


async def test_what_cannot_be_translated(router: StartRouter, first: ScriptedUpstream) -> None:
    """Two choices cannot be asked of Anthropic's protocol: refused before anybody is asked."""
    settings = {"first": {"base_url": first.base_url, "protocol": "anthropic", "api_key": {"env": "UPSTREAM_SECRET"}}}
    running = await router(first, upstreams=settings, models={"m": {"pool": ["first"], "translate": True}})
    told, _, record = await both(running, chat.request(n=2))
    assert told.rewrites[0].refused
    assert told.outlook.message == told.rewrites[0].refused
    assert [attempt.cause for attempt in record.attempts] == ["untranslatable"]
    assert first.received == []


@pytest.mark.parametrize(
    ("body", "status"),
    [(b'{"model":', 400), (b'{"messages":[]}', 400), (b'{"model":"m","model":"n"}', 400), (b'"m"', 400), (b"", 400)],
)
async def test_a_body_that_is_none(router: StartRouter, first: ScriptedUpstream, body: bytes, status: int) -> None:
    """What the relay would not take is refused in its own words."""
    told, got, _ = await both(await router(first), body)
    assert told.outlook.status == status
    assert got.error["message"].startswith(told.outlook.message)


async def test_a_body_that_is_too_large(router: StartRouter, first: ScriptedUpstream) -> None:
    """More than the configuration takes is 413."""
    told, _, _ = await both(await router(first, requests={"body_max": 64}))
    assert (told.outlook.status, told.outlook.reason) == (413, "request_too_large")


async def test_what_is_stored_upstream(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """An answer that is built upon is asked for where it is, or not at all; looking at its id is no use of it."""
    second.always(json_answer(b'{"id":"resp_1","object":"response","status":"completed"}'))
    running = await router(first, second, same_tier=True, keys=keys(), defaults=QUICK)
    first.always(json_answer(b'{"id":"resp_1","object":"response","status":"completed"}'))
    body = {"model": "m", "input": "x"}
    await both(running, json.dumps(body).encode(), endpoint="responses", key="team")
    where = running.ended[-1].upstream
    follow = json.dumps(body | {"previous_response_id": "resp_1"}).encode()
    told, _, record = await both(running, follow, endpoint="responses", key="team")
    assert (told.stored, served_by(record)) == (where, [where])
    told = await ask(running, key="team", endpoint="/v1/responses/resp_1")
    assert (told.stored, told.outlook.served) == (where, True)
    keeper = first if where == "first" else second
    keeper.always(error(500))
    await both(running, follow, endpoint="responses", key="team")
    told, _, _ = await both(running, follow, endpoint="responses", key="team")
    assert (told.outlook.status, told.outlook.reason) == (503, "sticky_upstream_down")
    told = await ask(running, key="team", endpoint="/v1/responses/resp_2")
    assert told.outlook.status == 404


async def test_nothing_is_sent_or_held(router: StartRouter, first: ScriptedUpstream) -> None:
    """Asking a hundred times leaves the daemon and its limits as they were, and no upstream hears of it."""
    running = await router(first, keys=keys(limits={"requests_per_minute": 60, "request_burst": 1}))
    for _ in range(100):
        told = await ask(running, key="team", body=chat.request().decode())
        assert told.outlook.served
    assert running.held() == {}
    assert first.received == []
    assert running.ended == []


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (b"", "Input data was truncated"),
        (b"[]", "Expected `object`"),
        (b'{"modle":"m"}', "unknown field"),
        (b'{"model":1}', "Expected `str`"),
        (b'{"model":"m","endpoint":"chta"}', "did you mean 'chat'?"),
        (b'{"model":"m","endpoint":"/nowhere"}', "nothing is served at '/nowhere'"),
        (b'{"model":"m","endpoint":"transcriptions","body":{}}', "takes no JSON"),
        (b'{"model":"m","key_sha256":"xyz"}', "hex"),
        (b"[" * 100_000, ""),
    ],
)
async def test_a_question_that_makes_no_sense(
    router: StartRouter, first: ScriptedUpstream, question: bytes, message: str
) -> None:
    """400 and why, whatever comes."""
    settings = keys() if b"sha" in question else {}
    running = await router(first, keys=settings)
    async with await Client.connect(running.daemon.admin_address) as client:
        await client.send(post(question, path="/-/explain"))
        answer = await client.answer()
    assert answer.status == 400
    assert message in answer.error["message"]
