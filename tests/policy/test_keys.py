from __future__ import annotations

import hashlib

from router.config.schema import Config, Count, Key, Limits, Secret
from router.policy.keys import Keyring, build_keyring

DIGEST = hashlib.sha256(b"sk-search").hexdigest()
SEARCH = Secret(sha256=DIGEST)
CHAT = Secret(env="CHAT_KEY")
SECRETS = {CHAT: "sk-chat"}


def keyring(previous: Keyring | None = None, **keys: Key) -> Keyring:
    return build_keyring(Config(upstreams={}, models={}, keys=keys), SECRETS, 10.0, previous)


def limited(concurrency: int) -> Limits:
    return Limits(concurrency=Count(concurrency))


def test_a_key_is_found_by_its_token() -> None:
    """Digest and plain references find their key, other tokens none."""
    ring = keyring(search=Key(secret=SEARCH), chat=Key(secret=CHAT))
    search, chat = ring.find(b"sk-search"), ring.find(b"sk-chat")
    assert search is not None
    assert chat is not None
    assert (search.name, chat.name) == ("search", "chat")
    assert [ring.find(token) for token in (b"", b"sk-", b"sk-chat ", DIGEST.encode(), b"\xff" * 10_000)] == [None] * 5


def test_a_disabled_key_is_unknown() -> None:
    """It is answered like one that does not exist, but stays on the list."""
    ring = keyring(chat=Key(secret=CHAT, disabled=True))
    assert ring.find(b"sk-chat") is None
    assert ring.keys["chat"].disabled
    assert not ring.open


def test_without_keys_the_ring_is_open() -> None:
    """Only a configuration without any key lets everybody in."""
    assert keyring().open
    assert not keyring(chat=Key(secret=CHAT)).open


def test_a_key_may_use_what_it_names() -> None:
    """Names and patterns allow, everything else is forbidden."""
    ring = keyring(search=Key(secret=SEARCH, models=("gpt-*", "qwen3")), chat=Key(secret=CHAT))
    search, chat = ring.keys["search"], ring.keys["chat"]
    assert [search.allowed(model) for model in ("gpt-5", "qwen3", "qwen3-32b", "")] == [True, True, False, False]
    assert chat.allowed("anything")


def test_operators_are_told_by_what_a_key_may_use_a_model() -> None:
    """Every name and pattern that allows it, the one that counts first; nothing where it may not."""
    search = keyring(search=Key(secret=SEARCH, models=("*", "gpt-*", "gpt-5"))).keys["search"]
    assert search.allowing("gpt-5") == ("gpt-5", "gpt-*", "*")
    assert search.allowing("o1") == ("*",)
    assert keyring(search=Key(secret=SEARCH, models=("gpt-5",))).keys["search"].allowing("o1") == ()


def test_operators_find_disabled_keys_too() -> None:
    """By the hash of a secret any key is found, by the secret itself none that is disabled."""
    ring = keyring(search=Key(secret=SEARCH, disabled=True), chat=Key(secret=CHAT))
    found = [ring.owner(hashlib.sha256(token).digest()) for token in (b"sk-search", b"sk-chat", b"sk-none")]
    assert [key.name if key is not None else None for key in found] == ["search", "chat", None]
    assert ring.find(b"sk-search") is None


def test_limits_survive_a_reload() -> None:
    """What is in flight stays counted under the key's name, and a lowered limit applies at once."""
    before = keyring(chat=Key(secret=CHAT, limits=limited(5)))
    limiter = before.keys["chat"].limiter
    assert limiter is not None
    limiter.take(10.0, 0)
    after = keyring(before, chat=Key(secret=SEARCH, limits=limited(1)))
    assert after.keys["chat"].limiter is limiter
    assert limiter.refusal(10.0, 0) is not None
    limiter.settle(10.0, 0, 0)
    assert limiter.refusal(10.0, 0) is None


def test_a_limit_taken_away_still_ends_what_it_counted() -> None:
    """An exchange that began under a limit may settle it after the limit is gone."""
    before = keyring(chat=Key(secret=CHAT, limits=limited(1)))
    limiter = before.keys["chat"].limiter
    assert limiter is not None
    limiter.take(10.0, 0)
    after = keyring(before, chat=Key(secret=CHAT))
    assert limiter.refusal(10.0, 0) is None
    limiter.settle(10.0, 0, None)
    assert after.keys["chat"].limiter is limiter
    assert limiter.in_flight == 0


def test_an_unlimited_key_has_no_limiter() -> None:
    """Who has no limits pays nothing for them."""
    assert keyring(chat=Key(secret=CHAT)).keys["chat"].limiter is None


def test_a_key_shows_no_secret() -> None:
    """What an operator sees of a key is its name and its load."""
    ring = keyring(chat=Key(secret=CHAT, limits=limited(1)))
    assert repr(ring.keys["chat"]) == "<Key chat: 0 in flight>"
    assert "sk-" not in repr(ring)
