"""Ids that bind later requests: who may use one, how long, and how many are kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.policy.owners import ID_CHARS_MAX, Owner, Owners

from .pools import NOW

TTL_S = 60.0


def owner(key: str = "k", upstream: str = "u", *, billed: bool = True) -> Owner:
    return Owner("gpt", upstream, 0, "gpt-there", key, billed)


def filled(*identities: str, ids_max: int = 3) -> Owners:
    owners = Owners(ids_max, TTL_S)
    for identity in identities:
        owners.keep(identity, owner(), NOW)
    return owners


def known(owners: Owners, *identities: str, now: float = NOW) -> list[str]:
    return [identity for identity in identities if owners.find(identity, "k", now) is not None]


def test_an_id_is_found_where_it_belongs() -> None:
    """What was kept comes back as it was, for the key that has it."""
    owners = filled()
    kept = Owner("gpt-*", "second", 2, "gpt-5", "team", billed=False)
    owners.keep("resp_1", kept, NOW)
    assert owners.find("resp_1", "team", NOW) == kept
    assert owners.find("resp_2", "team", NOW) is None


def test_another_keys_id_is_as_if_it_were_not_there() -> None:
    """Another key gets nothing, no key gets nothing, and asking changes nothing for the owner."""
    owners = filled("a", "b", "c")
    for _ in range(3):
        assert owners.find("a", "other", NOW) is None
        assert owners.find("a", "", NOW) is None
    owners.keep("d", owner(), NOW)
    assert known(owners, "a", "b", "c", "d") == ["b", "c", "d"]
    assert owners.find("b", "other", NOW + TTL_S - 1) is None
    assert known(owners, "b", now=NOW + TTL_S) == []


def test_where_no_keys_are_configured_everybody_is_the_same() -> None:
    """An id kept without a key is found without one."""
    owners = filled()
    owners.keep("resp_1", owner(""), NOW)
    assert owners.find("resp_1", "", NOW) == owner("")
    assert owners.find("resp_1", "k", NOW) is None


def test_nobody_takes_an_id_over_by_guessing_it() -> None:
    """While it is remembered an id stays with the key that had it first; once forgotten, it is anybody's."""
    owners = filled("a")
    owners.keep("a", owner("thief", "elsewhere"), NOW + TTL_S - 1)
    assert owners.find("a", "k", NOW + TTL_S - 1) == owner()
    assert owners.find("a", "thief", NOW + TTL_S - 1) is None
    owners.keep("a", owner("next"), NOW + 3 * TTL_S)
    assert owners.find("a", "next", NOW + 3 * TTL_S) == owner("next")


def test_a_look_is_no_use() -> None:
    """Looked at by an operator an id is told like any other, and is forgotten as if nobody had asked."""
    owners = filled("a", "b", "c")
    assert owners.look("a", "k", NOW) == owner()
    assert owners.look("a", "other", NOW) is None
    assert owners.look("d", "k", NOW) is None
    owners.keep("d", owner(), NOW)
    assert known(owners, "a") == []
    assert owners.look("b", "k", NOW + TTL_S - 1) == owner()
    assert owners.look("b", "k", NOW + TTL_S) is None
    assert known(owners, "b", now=NOW + TTL_S) == []


def test_its_own_key_may_move_it() -> None:
    """The same key's later word holds: where the id is now, and that it has been counted."""
    owners = filled()
    owners.keep("a", owner(billed=False), NOW)
    owners.keep("a", owner(upstream="v"), NOW)
    assert owners.find("a", "k", NOW) == owner(upstream="v")
    assert len(owners) == 1


def test_an_id_is_forgotten_some_time_after_its_last_use() -> None:
    """Each use starts the time anew; at its end the id is gone, and takes no place any more."""
    owners = filled("a")
    assert known(owners, "a", now=NOW + TTL_S - 1) == ["a"]
    assert known(owners, "a", now=NOW + 2 * TTL_S - 2) == ["a"]
    assert known(owners, "a", now=NOW + 3 * TTL_S - 2) == []
    assert len(owners) == 0


def test_the_least_recently_used_is_forgotten_first() -> None:
    """With no room left the id that nobody asked for longest goes, and using one saves it."""
    owners = filled("a", "b", "c")
    assert known(owners, "a") == ["a"]
    owners.keep("b", owner(), NOW)
    owners.keep("d", owner(), NOW)
    assert known(owners, "a", "b", "c", "d") == ["a", "b", "d"]


def test_a_lowered_bound_holds_from_the_next_id_on() -> None:
    """A reload may lower the number of ids and their time."""
    owners = filled("a", "b", "c")
    owners.ids_max, owners.ttl_s = 1, 5.0
    owners.keep("d", owner(), NOW)
    assert (len(owners), repr(owners)) == (1, "<Owners: 1 of 1 ids>")
    assert known(owners, "d", now=NOW + 5) == []


def test_what_is_deleted_is_unknown() -> None:
    """After a deletion the id is nobody's; deleting what is not there is no fault."""
    owners = filled("a")
    owners.forget("a")
    owners.forget("a")
    assert known(owners, "a") == []


def test_what_is_no_id_is_not_kept() -> None:
    """An empty id, and one so long that a hundred thousand of them would fill the memory, are not remembered."""
    owners = filled("", "x" * (ID_CHARS_MAX + 1))
    assert len(owners) == 0
    owners.keep("x" * ID_CHARS_MAX, owner(), NOW)
    assert len(owners) == 1


_STEPS = st.tuples(
    st.sampled_from(["keep", "find", "forget"]),
    st.sampled_from("abcdef"),
    st.sampled_from(["k1", "k2", ""]),
    st.floats(0, 40),
)


@given(st.integers(1, 4), st.lists(_STEPS, max_size=40))
def test_no_history_shows_a_key_what_is_another_ones(ids_max: int, steps: list[tuple[str, str, str, float]]) -> None:
    """Whatever is kept, asked for and deleted: never more than `ids_max` ids, never another key's, never one too old.

    And what is found is the last word of the key that holds it.
    """
    owners = Owners(ids_max, TTL_S)
    said: dict[tuple[str, str], Owner] = {}
    used: dict[str, float] = {}
    now = NOW
    for number, (step, identity, key, later_s) in enumerate(steps):
        now += later_s
        if step == "keep":
            said[identity, key] = owner(key, f"u{number}")
            owners.keep(identity, said[identity, key], now)
            if owners.find(identity, key, now) is not None:
                used[identity] = now
        elif step == "forget":
            owners.forget(identity)
            assert all(owners.find(identity, each, now) is None for each in ("k1", "k2", ""))
        elif (found := owners.find(identity, key, now)) is not None:
            assert found == said[identity, key]
            assert now < used[identity] + TTL_S
            used[identity] = now
        assert len(owners) <= ids_max
