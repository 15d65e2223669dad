"""Rows of the snapshot: members and why not, what is out, keys and what is left of their limits."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from router.config.schema import Config, Count, Key, Limits, Member, Model, Secret
from router.policy.catalogue import Catalogue, build
from router.policy.keys import KeyState, build_keyring
from router.policy.outcomes import Cause
from router.status import rows
from tests.policy.pools import NOW, answer, config, eject, upstream

RNG = Random(1)


def built(*members: Member, credentials: tuple[str, ...] = (), limits: Limits | None = None) -> Catalogue:
    return build(config({"m": Model(pool=members)}, {"a": upstream("a", *credentials, limits=limits)}), NOW, None)


def shown(catalogue: Catalogue, now: float = NOW) -> list[dict[str, Any]]:
    return rows.members(catalogue.routes["m"], 10, now)


def out(catalogue: Catalogue, now: float = NOW) -> list[dict[str, Any]]:
    return list(rows.out(catalogue.upstreams["a"], now))


def test_members_are_shown_as_configured() -> None:
    """Tier, upstream, the model's name there and weight, in the order of the file, and that they may be picked."""
    catalogue = built(Member(upstream="a", weight=2.0, model="up"), Member(upstream="b", tier=2))
    assert shown(catalogue) == [
        {"tier": 1, "upstream": "a", "model": "up", "weight": 2.0, "eligible": True, "why": ""},
        {"tier": 2, "upstream": "b", "model": "m", "weight": 1.0, "eligible": True, "why": ""},
    ]


def test_members_are_bounded() -> None:
    """Of a pool of hundreds the first are shown."""
    catalogue = built(*(Member(upstream=f"u{number}") for number in range(50)))
    assert [row["upstream"] for row in rows.members(catalogue.routes["m"], 3, NOW)] == ["u0", "u1", "u2"]


def test_a_member_says_why_it_is_not_eligible() -> None:
    """Drained, ejected, cooling and full have their words, and how long it takes where that is known."""
    catalogue = built(Member(upstream="a"), Member(upstream="b"), Member(upstream="c"), Member(upstream="d", weight=0))
    one, two, three = catalogue.routes["m"].pool.targets
    eject(one, NOW, RNG)
    answer(two, Cause.RATE_LIMITED, NOW, RNG, 30.0)
    eject(three, NOW, RNG, Cause.CONNECT)
    whys = [row["why"] for row in shown(catalogue)]
    assert whys[0].startswith("ejected: consecutive, ")
    assert whys[1].startswith("cooling: rate_limit, 3")
    assert whys[1].endswith(" s left")
    assert whys[2].startswith("host ejected: consecutive, ")
    assert whys[3] == "weight 0"
    full = built(Member(upstream="a"), limits=Limits(concurrency=Count(1)))
    full.routes["m"].pool.targets[0].begin(NOW, 0)
    assert shown(full)[0]["why"].startswith("full: 1")


def test_a_member_is_eligible_if_one_credential_is() -> None:
    """A credential that cools takes the member out only with all others; then the one back soonest is told."""
    catalogue = built(Member(upstream="a"), credentials=("ONE", "TWO"))
    one, two = catalogue.routes["m"].pool.targets
    answer(one, Cause.RATE_LIMITED, NOW, RNG, 200.0)
    assert shown(catalogue)[0]["eligible"]
    answer(two, Cause.RATE_LIMITED, NOW, RNG, 10.0)
    assert shown(catalogue)[0]["why"].startswith("cooling: rate_limit, 1")


def test_what_is_out_says_which_and_how_long() -> None:
    """The host, a model, a credential by its place in the file and never by its name; probation has no time left."""
    catalogue = built(Member(upstream="a"), credentials=("ONE", "TWO"))
    assert out(catalogue) == []
    one, two = catalogue.routes["m"].pool.targets
    answer(two, Cause.QUOTA, NOW, RNG)
    (row,) = out(catalogue)
    assert (row["why"], row["model"], row["credential"]) == ("quota", "m", 2)
    assert row["for_s"] >= 600
    eject(one, NOW, RNG)
    first = out(catalogue)[0]
    assert (first["why"], first["model"], first["credential"]) == ("ejected", "m", None)
    later = NOW + 3600
    assert [(row["why"], row["for_s"]) for row in out(catalogue, later)] == [("probation", 0.0)]
    eject(one, later, RNG, Cause.CONNECT)
    assert out(catalogue, later)[0]["model"] == ""
    assert "ONE" not in str(out(catalogue, later)) + str(shown(catalogue, later))


def test_a_single_credential_has_no_number() -> None:
    """Where there is only one, its number says nothing."""
    catalogue = built(Member(upstream="a"), credentials=("ONE",))
    answer(catalogue.routes["m"].pool.targets[0], Cause.QUOTA, NOW, RNG)
    assert [row["credential"] for row in out(catalogue)] == [None]


@pytest.mark.parametrize("cause", ["http_5xx", "timeout_idle", "http_429", "quota", "auth", "connect", "unheard_of"])
def test_what_an_upstream_did_is_a_failure(cause: str) -> None:
    """What counts against it, or against our account there; and what nobody has heard of."""
    assert rows.ok_share({"ok": 3.0, cause: 1.0}) == 0.75


@pytest.mark.parametrize("cause", ["client_gone", "http_4xx", "stale_connection", "paced_out", "untranslatable"])
def test_what_others_did_is_none(cause: str) -> None:
    """Clients, requests and our own pace say nothing of an upstream; alone they make no share at all."""
    assert rows.ok_share({"ok": 3.0, cause: 1.0}) == 1.0
    assert rows.ok_share({cause: 1.0}) is None


def test_the_last_error_is_the_latest_failure() -> None:
    """Of all outcomes of an upstream the latest that is a failure, and when it was seen."""
    seen: dict[tuple[str, ...], float] = {
        ("a", "http_5xx"): 5.0,
        ("a", "http_429"): 7.0,
        ("a", "ok"): 9.0,
        ("b", "client_gone"): 9.0,
    }
    assert rows.latest_errors(seen) == {"a": ("http_429", 7.0)}


def key(**limits: int) -> KeyState:
    settings = Key(secret=Secret(env="K"), limits=Limits(**{name: Count(value) for name, value in limits.items()}))
    config = Config(upstreams={}, models={}, keys={"k": settings})
    return build_keyring(config, {Secret(env="K"): "s"}, NOW, None).keys["k"]


def test_a_key_without_limits_has_nothing_left_to_say() -> None:
    """Null where nothing is limited, and nothing used."""
    row = rows.limits_of(key(), None, NOW)
    assert (row["name"], row["disabled"], row["used"]) == ("k", False, 0.0)
    assert {value for name, value in row.items() if name not in ("name", "disabled", "used")} == {None}


def test_a_key_shows_what_is_left() -> None:
    """What is left of each limit now, when it is whole again, and how much of the tightest one is used."""
    state = key(requests_per_minute=60, request_burst=10, tokens_per_minute=6000, concurrency=4)
    assert state.limiter is not None
    state.limiter.take(NOW, 3000)
    row = rows.limits_of(state, 4, NOW)
    assert (row["in_flight"], row["concurrency"]) == (1, 4)
    assert (row["requests_left"], row["request_burst"], row["requests_per_minute"]) == (9, 10, 60)
    assert (row["tokens_left"], row["tokens_per_minute"]) == (3000, 6000)
    assert row["tokens_reset_s"] == pytest.approx(30)
    assert row["used"] == 0.5
    assert rows.limits_of(state, 4, NOW + 60)["tokens_left"] == 6000
