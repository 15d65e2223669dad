"""How a request is put to each upstream, as far as it can be said beforehand. That it is put so: tests/relay."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from router.config.schema import Config, Member, Model, Protocol, Secret, StreamUsage, Upstream
from router.explain.answer import explain, fresh
from router.explain.facts import Asked, Rewrite
from tests.harness import chat

NOW = 1000.0
MESSAGES = b'{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Hi"}]}'


def put(body: bytes | None = None, *, endpoint: str = "chat", stream: bool = False, **settings: Any) -> Rewrite:
    """The rewrite for one upstream with these settings, of a model that is called `there` there."""
    upstream = Upstream(**{"base_url": "https://up.test/v1"} | settings)
    model = Model(pool=(Member(upstream="u", model="there"),), translate=True)
    asked = Asked(model="m", endpoint=endpoint, stream=stream, body=msgspec.Raw(b"null" if body is None else body))
    told = explain(fresh(Config(upstreams={"u": upstream}, models={"m": model}), {}, NOW), asked, NOW)
    (rewrite,) = told.rewrites
    return rewrite


def test_the_usual_request_is_left_alone() -> None:
    """The name there and the address; nothing else is changed."""
    assert put(chat.request()) == Rewrite(
        route="m", upstream="u", member="there", model="there", url="https://up.test/v1/chat/completions"
    )


def test_the_model_may_stand_in_the_path() -> None:
    """As the upstream's template has it, escaped; a query, where a credential may stand, is not shown."""
    rewrite = put(path="/deployments/{model}{path}", base_url="https://up.test/openai", query={"key": "sk-123"})
    assert rewrite.url == "https://up.test/openai/deployments/there/chat/completions"
    assert "sk-123" not in repr(rewrite)


def test_no_credential_is_shown() -> None:
    """What is known of secrets is not even asked for."""
    assert "KEY" not in repr(put(api_key=Secret(env="KEY")))


@pytest.mark.parametrize(
    ("members", "field", "renamed", "dropped"),
    [
        ({"max_tokens": 5}, "max_completion_tokens", "max_tokens becomes max_completion_tokens", ()),
        ({"max_completion_tokens": 5}, "max_tokens", "max_completion_tokens becomes max_tokens", ()),
        ({"max_tokens": 5}, "max_tokens", "", ()),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "", ("max_completion_tokens",)),
        ({"seed": 1, "user": "x"}, None, "", ("seed",)),
        ({}, "max_tokens", "", ()),
    ],
)
def test_what_an_upstream_cannot_take(
    members: dict[str, Any], field: str | None, renamed: str, dropped: tuple[str, ...]
) -> None:
    """Parameters are left out and renamed as they are before they are sent; only those that are there are told."""
    rewrite = put(chat.request(**members), drop_params=("seed", "top_k"), max_tokens_field=field)
    assert (rewrite.renamed, rewrite.dropped) == (renamed, dropped)


def test_without_a_body_what_would_be_left_out() -> None:
    """All that the upstream cannot take."""
    rewrite = put(drop_params=("top_k", "seed"), max_tokens_field="max_tokens")
    assert (rewrite.dropped, rewrite.renamed) == (("seed", "top_k"), "the other one becomes max_tokens")
    assert not put(endpoint="embeddings", max_tokens_field="max_tokens").renamed


@pytest.mark.parametrize(
    ("settings", "asks"),
    [
        ({}, True),
        ({"stream_usage": StreamUsage.NEVER}, False),
        ({"drop_params": ("stream_options",)}, False),
    ],
)
def test_when_usage_is_asked_for(settings: dict[str, Any], asks: bool) -> None:
    """On streams alone, where the upstream takes the question and the client does not ask itself."""
    assert put(chat.request(stream=True), **settings).asks_usage == asks
    assert put(stream=True, **settings).asks_usage == asks
    assert not put(chat.request(), **settings).asks_usage
    assert not put(chat.request(stream=True, stream_options={"include_usage": True}), **settings).asks_usage
    assert not put(endpoint="embeddings", stream=True, **settings).asks_usage


def test_a_translation_with_and_without_the_body() -> None:
    """The other protocol's path; what has no place in it is only known from a body."""
    for body in (None, chat.request(seed=1)):
        rewrite = put(body, protocol=Protocol.ANTHROPIC)
        assert (rewrite.translated, rewrite.url) == ("anthropic", "https://up.test/v1/messages")
        assert rewrite.dropped == (("seed",) if body is not None else ())
    for body in (None, MESSAGES):
        rewrite = put(body, endpoint="messages", stream=True)
        assert (rewrite.translated, rewrite.url) == ("openai", "https://up.test/v1/chat/completions")
        assert rewrite.asks_usage
    assert put(MESSAGES, endpoint="messages", protocol=Protocol.ANTHROPIC).translated == ""


def test_what_cannot_be_translated_is_told_with_its_reason() -> None:
    """The words that the client would read."""
    rewrite = put(chat.request(n=2), protocol=Protocol.ANTHROPIC)
    assert "n" in rewrite.refused


def test_a_body_is_rebuilt_once_for_all_alike() -> None:
    """A hundred upstreams that take the same cost one translation, not a hundred: they share what came of it."""
    upstreams = {
        f"u{number}": Upstream(base_url=f"https://up{number}.test/v1", protocol=Protocol.ANTHROPIC)
        for number in range(100)
    }
    pool = tuple(Member(upstream=name, model="there") for name in upstreams)
    config = Config(upstreams=upstreams, models={"m": Model(pool=pool, translate=True)})
    told = explain(fresh(config, {}, NOW), Asked(body=msgspec.Raw(chat.request(seed=1))), NOW)
    assert len(told.rewrites) == 100
    assert len({id(each.dropped) for each in told.rewrites}) == 1
