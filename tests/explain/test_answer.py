"""What is said of a file: keys, limits, routes and pools right after a start. The daemon's side: tests/relay."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml

from router.config.loader import load
from router.config.schema import Config, Secret
from router.explain.answer import BadQuestion, Subject, explain, fresh, replied
from router.explain.facts import Asked, Explanation
from router.policy.owners import Owner
from tests.harness import chat

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1000.0
SETTINGS: dict[str, Any] = {
    "upstreams": {
        "openai": {"base_url": "https://openai.test/v1", "api_keys": [{"env": "A"}, {"env": "B"}]},
        "spare": {"base_url": "https://spare.test/v1", "api_key": {"file": "nowhere"}},
        "claude": {"base_url": "https://claude.test/v1", "protocol": "anthropic", "api_key": {"credential": "c"}},
    },
    "models": {
        "gpt-5.5": {
            "pool": [{"upstream": "openai", "weight": 3}, {"upstream": "claude", "tier": 2}, "spare"],
            "fallback": ["gpt-5.4"],
            "price": {"input": 2, "output": 8},
        },
        "gpt-*": "spare",
        "claude-*": "claude",
        "dall": "openai",
    },
    "default_models": {"images": "dall"},
    "pins": {"files": "openai"},
    "keys": {
        "team": {
            "secret": {"env": "TEAM"},
            "models": ["gpt-5.5", "gpt-*"],
            "limits": {"requests_per_minute": 60, "tokens_per_minute": 2000, "concurrency": 3},
        },
        "all": {"secret": {"sha256": hashlib.sha256(b"sk-all").hexdigest()}},
        "old": {"secret": {"file": "old"}, "disabled": True},
    },
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """None of its secrets is there."""
    return write(tmp_path, SETTINGS)


def write(folder: Path, settings: dict[str, Any]) -> Config:
    path = folder / "router.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return load(path, environ=None).config


def about(config: Config, body: bytes | None = None, **asked: Any) -> Explanation:
    raw = msgspec.Raw(b"null" if body is None else msgspec.json.encode(body.decode()))
    return explain(fresh(config, {}, NOW), Asked(body=raw, **asked), NOW)


def test_a_request_that_is_served(config: Config) -> None:
    """From the key to the price: each part of the answer, for a request whose body is not known."""
    told = about(config, model="gpt-5.5", key="team", stream=True)
    assert told.outlook.served
    assert not told.live
    assert (told.key.name, told.key.state, told.key.allowed_by) == ("team", "ok", ("gpt-5.5", "gpt-*"))
    assert told.limits is not None
    assert told.limits.refused_by == ()
    assert told.request is not None
    assert (told.request.reserved_tokens, told.request.output_from) == (1025, "default_output_tokens")
    assert (told.request.stream, told.request.has_body) == (True, False)
    assert (told.route.name, told.route.exact, told.route.lost) == ("gpt-5.5", True, ("gpt-*",))
    assert [(pool.route, pool.choose) for pool in told.pools] == [("gpt-5.5", "two_choices"), ("gpt-*", "two_choices")]
    chances = {(pick.upstream, pick.credential): pick.chance for pick in told.order[0].picks}
    assert chances == {
        ("openai", 0): pytest.approx(3 / 8),
        ("openai", 1): pytest.approx(3 / 8),
        ("spare", 0): pytest.approx(1 / 4),
    }
    assert [step.route for step in told.order] == ["gpt-5.5", "gpt-*"]
    assert (told.retry.attempts, told.retry.under_way, told.retry.allowed) == (3, 0, 3)
    assert told.pools[0].price is not None
    assert told.pools[0].price["output"] == 8
    assert [(each.route, each.upstream, each.model) for each in told.rewrites][-1] == ("gpt-*", "spare", "gpt-5.4")


def test_what_is_reserved_is_read_from_the_body(config: Config) -> None:
    """Its text, its bound and its choices, and that is more than the key has in a minute."""
    body = chat.request(model="gpt-5.5", max_tokens=700, n=3)
    told = about(config, body, key="team")
    assert told.request is not None
    assert (told.request.text_bytes, told.request.choices) == (len(body), 3)
    assert (told.request.output_tokens, told.request.output_from) == (2100, "max_tokens")
    assert told.request.prompt_tokens == int(len(body) / 3.5) + 1
    assert (told.outlook.status, told.outlook.reason, told.outlook.retry_after_s) == (429, "tokens_per_minute", None)
    assert about(config, body, key="all").outlook.served


def test_the_model_asked_about_wins_over_the_body(config: Config) -> None:
    """A body can be asked about for another model than it names, or where it names none."""
    told = about(config, chat.request(model="claude-1"), key="all", model="gpt-5.5")
    assert (told.route.name, told.outlook.served) == ("gpt-5.5", True)
    assert about(config, b'{"messages":[]}', key="all", model="gpt-5.5").outlook.served
    assert about(config, b'{"messages":[]}', key="all").outlook.reason == "missing_required_parameter"


@pytest.mark.parametrize(
    ("asked", "state", "status"),
    [
        ({}, "missing", 401),
        ({"key": "nobody"}, "unknown", 401),
        ({"key": "old"}, "disabled", 401),
        ({"key": "team"}, "ok", 0),
        ({"key_sha256": hashlib.sha256(b"sk-all").hexdigest()}, "ok", 0),
        ({"key_sha256": hashlib.sha256(b"sk-other").hexdigest()}, "unknown", 401),
    ],
)
def test_keys(config: Config, asked: dict[str, Any], state: str, status: int) -> None:
    """By name, or by the hash of what a client sends; what follows is told as if the key were good."""
    told = about(config, model="gpt-5.5", **asked)
    assert (told.key.state, told.outlook.status) == (state, status)
    assert told.order


def test_a_secret_that_is_known_is_found(config: Config) -> None:
    """A key by reference is told by its token only if its secret could be looked up; a disabled one is named."""
    digest = hashlib.sha256(b"sk-old").hexdigest()
    asked = Asked(model="gpt-5.5", key_sha256=digest)
    assert explain(fresh(config, {}, NOW), asked, NOW).key.state == "unknown"
    (secret,) = [key.secret for name, key in config.keys.items() if name == "old"]
    assert isinstance(secret, Secret)
    told = explain(fresh(config, {secret: "sk-old"}, NOW), asked, NOW)
    assert (told.key.name, told.key.state) == ("old", "disabled")


def test_who_may_is_told_to_whoever_gave_no_key(config: Config) -> None:
    """The keys that may use the model; of disabled ones nothing is said."""
    assert about(config, model="gpt-5.5").key.hint == "may use it: team, all"
    assert about(config, model="claude-1").key.hint == "may use it: all"


def test_without_keys_everybody_may(tmp_path: Path) -> None:
    """An open router has no keys to ask for, and none is looked at."""
    told = about(write(tmp_path, SETTINGS | {"keys": {}}), model="gpt-5.5", key="team")
    assert (told.key.state, told.outlook.served, told.limits) == ("open", True, None)


def test_of_many_keys_few_are_named(tmp_path: Path) -> None:
    """A list of a hundred helps nobody."""
    keys = {f"key{number}": {"secret": {"env": f"K{number}"}} for number in range(100)}
    told = about(write(tmp_path, SETTINGS | {"keys": keys}), model="gpt-5.5")
    assert told.key.hint == "may use it: key0, key1, key2, key3, key4 and 95 more"


def test_what_a_key_may_not_use_is_explained_all_the_same(config: Config) -> None:
    """403, and where the request would go if it might."""
    told = about(config, model="dall", key="team")
    assert (told.outlook.status, told.key.may_use, told.key.allowed_by) == (403, False, ())
    assert [pick.upstream for pick in told.order[0].picks] == ["openai", "openai"]


def test_an_unknown_model(config: Config) -> None:
    """404; a name that is alike is suggested, patterns are not."""
    told = about(config, model="dal", key="all")
    assert (told.outlook.status, told.route.name, told.route.hint) == (404, "", "did you mean 'dall'?")
    assert (told.pools, told.order, told.request) == ((), (), None)


def test_an_endpoint_that_nobody_speaks(config: Config) -> None:
    """The members are shown, with what keeps them from it."""
    told = about(config, model="gpt-4", key="all", endpoint="messages")
    assert told.outlook.reason == "unsupported_endpoint_for_model"
    assert [(member.upstream, member.spoken) for member in told.pools[0].members] == [("spare", False)]


def test_requests_that_name_no_model(config: Config) -> None:
    """The configured default is taken; where there is none the request is refused."""
    told = about(config, key="all", endpoint="images")
    assert (told.route.name, told.outlook.served) == ("dall", True)
    assert told.request is not None
    assert (told.request.model, told.request.output_from) == ("dall", "nothing")
    told = about(config, key="all", endpoint="responses")
    assert told.outlook.reason == "missing_required_parameter"


def test_a_pinned_family(tmp_path: Path) -> None:
    """A path whose state lives in one account goes to its upstream, and has no model, not even of a pattern for all."""
    config = write(tmp_path, SETTINGS | {"models": SETTINGS["models"] | {"*": "spare"}})
    told = about(config, key="all", endpoint="/v1/files/file-1")
    assert told.outlook.served
    assert told.route.lost == ()
    assert {pick.upstream for pick in told.order[0].picks} == {"openai"}
    assert {each.url for each in told.rewrites} == {"https://openai.test/v1/files/file-1"}
    assert {each.level for member in told.pools[0].members for each in member.deadlines} == {"defaults"}


def test_what_is_stored_nobody_knows_where(config: Config) -> None:
    """An id of an earlier life is looked for at every member; what another key stored is not found."""
    body = b'{"model":"gpt-5.5","input":"x","previous_response_id":"resp_1"}'
    told = about(config, body, key="all", endpoint="responses")
    assert (told.stored, told.stored_somewhere, told.outlook.served) == ("", True, True)
    subject = fresh(config, {}, NOW)
    subject.owners.keep("resp_1", Owner("gpt-5.5", "spare", 0, "gpt-5.5", "team", billed=True), NOW)
    asked = Asked(key="all", endpoint="responses", body=msgspec.Raw(body))
    told = explain(subject, asked, NOW)
    assert (told.outlook.status, told.outlook.reason, told.pools) == (404, "not_found", ())
    told = explain(subject, msgspec.structs.replace(asked, key="team"), NOW)
    assert (told.stored, [step.kind for step in told.order]) == ("spare", ["stored"])
    later = NOW + config.sticky.ttl
    asked = msgspec.structs.replace(asked, key="team")
    assert explain(subject, asked, later - 1).stored == "spare"
    assert explain(subject, asked, later).stored_somewhere, "to have looked at it was no use of it"


def test_a_router_that_stops_takes_nothing(config: Config) -> None:
    """Once the doors are closed it is 503, whatever is asked."""
    subject = fresh(config, {}, NOW)
    closed = Subject(snapshot=subject.snapshot, owners=subject.owners, live=True, closed=True)
    told = explain(closed, Asked(model="gpt-5.5", key="all"), NOW)
    assert (told.outlook.status, told.outlook.reason) == (503, "draining")


def test_a_router_with_its_hands_full(config: Config) -> None:
    """What it holds of other requests counts against the room for this one."""
    subject = fresh(config, {}, NOW)
    full = Subject(
        snapshot=subject.snapshot, owners=subject.owners, live=True, body_bytes=config.requests.bodies_total_max
    )
    body = msgspec.Raw(chat.request(model="gpt-5.5"))
    assert explain(full, Asked(key="all", body=body), NOW).outlook.reason == "overloaded"


def test_pictures_do_not_hinder(tmp_path: Path) -> None:
    """A price for each picture has the body looked at, also if there is none."""
    models = {"m": {"pool": ["openai"], "price": {"image": 1}}}
    settings = write(tmp_path, {"upstreams": SETTINGS["upstreams"], "models": models})
    assert about(settings, model="m").outlook.served
    assert about(settings, chat.request()).outlook.served


def test_one_that_is_out_is_asked_if_nobody_else_can_be_sent_it(tmp_path: Path) -> None:
    """Where all who are well cannot be put the question, the last resort is a member who is out and can."""
    models = {"m": {"pool": ["claude", {"upstream": "spare", "tier": 2}], "translate": True}}
    subject = fresh(write(tmp_path, {"upstreams": SETTINGS["upstreams"], "models": models}), {}, NOW)
    route = subject.snapshot.catalogue.routes["m"]
    asked = Asked(body=msgspec.Raw(chat.request(n=2)))
    told = explain(subject, asked, NOW)
    assert (told.outlook.served, told.outlook.last_resort) == (True, False)
    (claude,) = [each for each in told.rewrites if each.upstream == "claude"]
    assert claude.refused
    route.pool.targets[1].cooldown.until = NOW + 5
    told = explain(subject, asked, NOW)
    assert (told.outlook.served, told.outlook.last_resort) == (True, True)
    assert [(step.kind, step.picks[0].upstream) for step in told.order] == [
        ("tier", "claude"),
        ("last_resort", "spare"),
    ]
    route.pool.targets[0].cooldown.until = NOW + 9
    route.pool.targets[1].cooldown.until = 0.0
    route.pool.targets[1].upstream.breaker.open_until = NOW + 30
    told = explain(subject, asked, NOW)
    assert [(step.kind, step.picks[0].upstream) for step in told.order] == [("last_resort", "claude")]
    assert (told.outlook.served, told.outlook.reason) == (False, "unsupported_parameter")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"endpoint": "chta"}, "did you mean 'chat'?"),
        ({"endpoint": "xyzzy"}, "there are chat, completions"),
        ({"endpoint": "/v1/nothing"}, "nothing is served at '/v1/nothing'"),
        ({"endpoint": "transcriptions", "body": msgspec.Raw(b"{}")}, "takes no JSON"),
        ({"key_sha256": "no hex"}, "hex digits"),
    ],
)
def test_a_question_without_sense(config: Config, asked: dict[str, Any], why: str) -> None:
    """It is told what is wrong with the question, and nothing is made up."""
    with pytest.raises(BadQuestion, match=re.escape(why)):
        explain(fresh(config, {}, NOW), Asked(**asked), NOW)


def test_answers_on_the_wire(config: Config) -> None:
    """A body may come as it is or as a string; the answer is JSON from which the same value is read again."""
    subject = fresh(config, {}, NOW)
    body = chat.request(model="gpt-5.5")
    questions = (b'{"key":"all","body":%b}' % body, msgspec.json.encode({"key": "all", "body": body.decode()}))
    answers = [replied(subject, question, NOW) for question in questions]
    assert answers[0] == answers[1]
    status, told = answers[0]
    assert status == 200
    assert msgspec.json.decode(msgspec.json.encode(told), type=Explanation) == told
    for wrong in (b"", b"nil", b"[1]", b'{"body":"\\ud800"}', b'{"stream":"yes"}', b"\xff", b"[" * 10_000):
        status, _ = replied(subject, wrong, NOW)
        assert status == 400
