"""The text of an explanation: what people read of each part, and that no name in it drives their terminal."""

from __future__ import annotations

import io
from random import Random

import msgspec
import pytest

from router.commands import explain_text
from router.config.schema import (
    Choose,
    Config,
    Count,
    Key,
    Limits,
    Member,
    Model,
    Pace,
    Price,
    Protocol,
    Seconds,
    Secret,
    TimeoutOverrides,
    Upstream,
    Usd,
)
from router.explain.answer import Subject, explain, fresh
from router.explain.facts import Asked, Explanation
from router.policy.outcomes import Cools
from tests.harness import chat
from tests.policy.pools import eject

NOW = 1000.0
TEAM = Key(
    secret=Secret(env="TEAM"),
    models=("gpt-*",),
    limits=Limits(requests_per_minute=Count(60), tokens_per_minute=Count(6000), concurrency=Count(50)),
)
UNSPOKEN = "does not speak the client's protocol (translate: false)"
DEADLINES = (
    "connect 3 s (defaults), first_byte 60 s (defaults),",
    "idle 120 s (defaults), total 1,800 s (defaults)",
)
OLD = Key(secret=Secret(env="OLD"), disabled=True)


@pytest.fixture
def rng() -> Random:
    return Random(7)


def subject() -> Subject:
    upstreams = {
        "openai": Upstream(
            base_url="https://openai.test/v1",
            api_keys=(Secret(env="A"), Secret(env="B")),
            limits=Limits(concurrency=Count(400)),
            drop_params=("seed",),
        ),
        "slow": Upstream(base_url="https://slow.test/v1", pace=Pace(requests=Count(5))),
        "claude": Upstream(base_url="https://claude.test/v1", protocol=Protocol.ANTHROPIC),
    }
    models = {
        "gpt-5": Model(
            pool=(
                Member(upstream="openai", model="five"),
                Member(upstream="slow"),
                Member(upstream="slow", weight=0),
                Member(upstream="claude", tier=2),
            ),
            fallback=("gpt-4",),
            timeouts=TimeoutOverrides(first_token=Seconds(20)),
            price=Price(input=Usd("1.25"), output=Usd(10), image=Usd("0.01")),
        ),
        "gpt-*": Model(pool=(Member(upstream="openai"),)),
        "free": Model(pool=(Member(upstream="slow"),), price=Price(input=Usd(0))),
    }
    config = Config(upstreams=upstreams, models=models, keys={"team": TEAM, "old": OLD})
    return fresh(config, {}, NOW)


def text(told: Explanation) -> list[str]:
    stream = io.StringIO()
    explain_text.write(told, stream)
    return stream.getvalue().splitlines()


def shown(whose: Subject, body: bytes | None = None, *, model: str = "gpt-5", **asked: str) -> list[str]:
    question = Asked(model=model, body=msgspec.Raw(b"null" if body is None else body))
    return text(explain(whose, msgspec.structs.replace(question, **asked), NOW))


def test_a_whole_answer() -> None:
    """Every section, in its order, each thing on its line."""
    pace = "paced: 5 in 1 s, waits for its turn up to 2 s"
    assert shown(subject(), chat.request(seed=1, max_tokens=50), key="team") == [
        "would be tried at slow 50%, openai #1 25%, openai #2 25%",
        "state     of the file after a fresh start: everybody well, nothing in flight, nothing used",
        "key       team: may use it by gpt-*",
        "limits    requests: 10 of 10 left, 60 a minute",
        "          tokens: 6,000 of 6,000 left, 6,000 a minute",
        "          in flight: 0 of 50",
        "request   chat (openai)",
        "          reserves 76 tokens: 26 for the prompt (90 bytes / 3.5), 50 for the answer (max_tokens)",
        "route     gpt-5 (exact name); gpt-* would fit as well, but exact names win",
        "pool      gpt-5, two_choices",
        "            tier 1  openai #1  weight 1 (25%), 0 of 400 in flight; eligible",
        "                    https://openai.test/v1/chat/completions; gpt-5 is five there; left out: seed",
        "            tier 1  openai #2  weight 1 (25%), 0 of 400 in flight; eligible",
        f"            tier 1  slow       weight 1 (50%), 0 in flight; eligible; {pace}",
        "                    https://slow.test/v1/chat/completions",
        f"            tier 1  slow       weight 0 (0%), 0 in flight; drained: weight 0; {pace}",
        f"            tier 2  claude  weight 1 (0%), 0 in flight; {UNSPOKEN}",
        "          fallback gpt-*, two_choices",
        "            tier 1  openai #1  weight 1 (50%), 0 of 400 in flight; eligible",
        "                    https://openai.test/v1/chat/completions; gpt-5 is gpt-4 there; left out: seed",
        "            tier 1  openai #2  weight 1 (50%), 0 of 400 in flight; eligible",
        "order     1. gpt-5 tier 1: slow 50%, openai #1 25%, openai #2 25%",
        "          2. gpt-* tier 1: openai #1 50%, openai #2 50%",
        "          up to 3 attempts that reach an upstream; 0 of 3 retries at failing members under way",
        f"deadlines gpt-5 at openai, gpt-5 at slow: {DEADLINES[0]} first_token 20 s (model), {DEADLINES[1]}",
        f"          gpt-* at openai: {DEADLINES[0]} first_token 120 s (defaults), {DEADLINES[1]}",
        "price     USD per million: input 1.25, output 10; USD: 0.01 for each picture",
        "          fallback gpt-*: unknown",
    ]


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({}, "key       none given; may use it: team"),
        ({"key": "taem"}, "key       taem is none, did you mean 'team'?"),
        ({"key": "old"}, "key       old: disabled, which clients are told like unknown; may use it by *"),
        ({"key": "team", "model": "free"}, "key       team: may not use the model"),
        ({"key_sha256": "00"}, "key       what was sent is none"),
    ],
)
def test_whose_request_it_is(asked: dict[str, str], line: str) -> None:
    """One line for each way in which a key can be good or not."""
    assert line in shown(subject(), None, **asked)


def test_what_keeps_members_out(rng: Random) -> None:
    """Each reason with its cause and its times, as far as they are known; what failed lately is said to."""
    whose = subject()
    route = whose.snapshot.catalogue.find("gpt-5", "openai+translated")
    assert route is not None
    first, second, slow, _ = route.pool.everybody
    eject(slow, NOW - 3, rng)
    slow.breaker.open_until, slow.penalty_until = NOW + 7.25, 0.0
    second.cooldown.until, second.cooldown.reason = NOW + 300, Cools.QUOTA
    first.penalty_until = NOW + 4
    for _ in range(2):
        first.begin(NOW, 0)
    lines = "\n".join(shown(whose, key="team"))
    assert "slow       weight 1 (50%), 0 in flight; out: ejected (consecutive), since 3 s, 7.25 s more; paced" in lines
    assert "openai #2  weight 1 (25%), 2 of 400 in flight; out: cooling (quota), 300 s more" in lines
    assert "2 of 400 in flight; eligible; failed lately: counts as more loaded for 4 s" in lines
    slow.breaker.open_until = NOW
    lines = "\n".join(shown(whose, key="team"))
    assert "slow       weight 1 (50%), 0 in flight; eligible: its one trial after an ejection; paced" in lines


def test_refusals_and_last_resorts_come_first() -> None:
    """The first line says what would happen: the status and when to come back, or that somebody is out and tried."""
    whose = subject()
    limiter = whose.snapshot.keyring.keys["team"].limiter
    assert limiter is not None
    limiter.take(NOW, 9000)
    lines = shown(whose, key="team")
    assert lines[0] == "refused: 429 tokens_per_minute, come back in 40.2 s"
    assert lines[1] == "The key's limit of 6000 tokens per minute is reached."
    assert "          tokens: in debt by 3,000, 6,000 a minute, all of it in 90 s" in lines
    assert "          refuses by tokens per minute" in lines
    assert shown(whose, model="nothing", key="old")[0] == "refused: 401 invalid_api_key"
    limiter.settle(NOW, 9000, 0)
    (target,) = whose.snapshot.catalogue.routes["free"].pool.targets
    target.cooldown.until = NOW + 5
    lines = shown(whose, model="free", key="old")
    assert "order     1. last resort: slow" in lines
    assert "price     free" in lines
    assert "route     nothing serves this model, did you mean 'gpt-5'?" in shown(whose, model="gtp-5")


def test_who_comes_second_is_told() -> None:
    """Where it is certain who is first, the others are those that follow when it fails."""
    whose = subject()
    settings = whose.snapshot.config
    model = msgspec.structs.replace(settings.models["gpt-*"], choose=Choose.ROUND_ROBIN)
    turns = fresh(msgspec.structs.replace(settings, models={"m": model}, keys={}), {}, NOW)
    assert shown(turns, model="m")[0] == "would be tried at openai #1, then openai #2"


def test_an_upstream_twice_is_told_apart() -> None:
    """Two models of one upstream in a pool are named with their models, each with its own line of what is sent."""
    settings = subject().snapshot.config
    pool = (Member(upstream="slow", model="one"), Member(upstream="slow", model="two", weight=3))
    lines = shown(fresh(msgspec.structs.replace(settings, models={"m": Model(pool=pool)}, keys={}), {}, NOW), model="m")
    assert lines[0] == "would be tried at slow two 75%, slow one 25%"
    assert [line for line in lines if " is " in line] == [
        f"                    https://slow.test/v1/chat/completions; m is {model} there" for model in ("one", "two")
    ]


def test_no_name_drives_a_terminal() -> None:
    """Control characters of a model, a key or an answer from elsewhere are shown as `?`."""
    lines = shown(subject(), model="\x1b[2Jm\n", key="\x9bk")
    assert "\x1b" not in "".join(lines)
    assert "\x9b" not in "".join(lines)
    assert any("?k is none" in line for line in lines)


def test_colour_only_where_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets the first line in colour unless it does not want it; everybody else plain text."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    told = explain(subject(), Asked(model="gpt-5", key="team"), NOW)
    for variable, coloured in ((None, True), ("1", False)):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        if variable is not None:
            monkeypatch.setenv("NO_COLOR", variable)
        stream = Terminal()
        explain_text.write(told, stream)
        assert stream.getvalue().startswith("\x1b[32mwould be tried") == coloured
        assert ("\x1b" in stream.getvalue()) == coloured
    assert "\x1b" not in "".join(text(told))
