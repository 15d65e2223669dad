from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.config.difference import SHOWN_MAX, changes
from router.config.dump import effective
from tests.config.files import read

BASE = """
upstreams:
  azure-1: {base_url: http://10.0.0.1/v1, limits: {concurrency: 5}}
  azure-2: {base_url: http://10.0.0.2/v1}
  azure-3: {base_url: http://10.0.0.3/v1}
models:
  gpt: {pool: [{upstream: azure-1, weight: 3}, azure-2, {upstream: azure-3, tier: 2}]}
keys:
  a: {secret: {sha256: "0000000000000000000000000000000000000000000000000000000000000000"}, models: [gpt]}
"""


def told(before: str, after: str) -> list[str]:
    return [str(each) for each in changes(effective(read(before)), effective(read(after)))]


CASES = {
    "weight: 3": ("weight: 5", ["~ models.gpt.pool[0].weight 3 → 5"]),
    "concurrency: 5": ("concurrency: 50", ["~ upstreams.azure-1.limits.concurrency 5 → 50"]),
    ", limits: {concurrency: 5}": ("", ["- upstreams.azure-1.limits.concurrency 5"]),
    "tier: 2}": ("tier: 2, model: other}", [
        "- models.gpt.pool[2] (upstream azure-3)", "+ models.gpt.pool[2] (upstream azure-3, model other)",
    ]),
    "[{upstream: azure-1, weight: 3}, ": ("[", ["- models.gpt.pool[0] (upstream azure-1)"]),
    "models: [gpt]": ('models: [gpt, "x-*"]', ["~ keys.a.models added x-*"]),
    "models: [gpt]}": ("models: [gpt], disabled: true}", ["~ keys.a.disabled false → true"]),
    '{sha256: "00': ('{sha256: "01', ["~ keys.a.secret.sha256 00000000… → 01000000…"]),
    "  azure-3: {": ("  azure-4: {base_url: http://10.0.0.4}\n  azure-3: {", ["+ upstreams.azure-4"]),
    "keys:\n  a: ": ("keys:\n  b: ", ["+ keys.b", "- keys.a"]),
}  # fmt: skip
"""What stands in the file; what is typed instead, and what is told of it."""


@pytest.mark.parametrize("typed", CASES)
def test_an_edit_is_told_as_what_it_means(typed: str) -> None:
    """Each edit is told by the settings that it changes, adds or takes away, and by nothing else."""
    instead, expected = CASES[typed]
    assert BASE.count(typed) == 1
    assert told(BASE, BASE.replace(typed, instead)) == expected


def test_what_is_the_same_is_no_change() -> None:
    """A default that is written out, another order of names or another way of writing a value changes nothing."""
    same = BASE.replace("weight: 3}", "weight: 3.0, tier: 1}").replace("/v1}", "/v1, stream_usage: auto}")
    settings = yaml.safe_load(same)
    turned = {name: dict(reversed(value.items())) for name, value in reversed(settings.items())}
    assert told(BASE, same) == told(BASE, yaml.safe_dump(turned, sort_keys=False)) == []


def test_a_member_in_front_moves_the_others_and_changes_none() -> None:
    """Members of a pool are told apart by what they are, so that one new line is one change."""
    before = BASE.replace("pool: [{upstream: azure-1, weight: 3}, ", "pool: [")
    assert told(before, BASE) == ["+ models.gpt.pool[0] (upstream azure-1)"]


def test_lists_of_names_say_what_came_and_went() -> None:
    """A long list is not shown twice: only what is new in it, what is gone, or that its order is another."""
    old = {"models": ["a", "b", "c"]}
    assert [str(each) for each in changes(old, {"models": ["b", "d", "a"]})] == ["~ models added d; removed c"]
    assert [str(each) for each in changes(old, {"models": ["b", "c", "a"]})] == ["~ models in another order: [b, c, a]"]


SETTINGS = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "a", "b"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(["a", "upstream", "model"]), below),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=3), SETTINGS, max_size=3), st.data())
def test_a_change_is_told_where_there_is_one(old: dict[str, Any], data: st.DataObject) -> None:
    """Whatever two configurations hold, a change is told if and only if they are not the same."""
    new = data.draw(st.just(old) | st.dictionaries(st.sampled_from([*old, "x"]), SETTINGS, max_size=3))
    assert (changes(old, new) == []) is (json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True))
    assert all(str(each).isprintable() for each in changes(old, new))


@pytest.mark.parametrize(("old", "new", "text"), [
    (1, True, "1 → true"), (None, "", "nothing → ''"), ("a", ["a"], "a → [a]"), ({"x": 1}, "y", "{x: 1} → y"),
    ([True, {"a": 1}], [1, {"a": True}], "added 1, {a: true}; removed true, {a: 1}"),
    ("\x1b[2J", " ", "'\\x1b[2J' → ' '"),
])  # fmt: skip
def test_values_of_any_kind_are_told_apart(old: Any, new: Any, text: str) -> None:
    """Whatever stands on either side is shown in one visible line, and nothing is taken for something alike."""
    assert [str(each) for each in changes({"s": old}, {"s": new})] == [f"~ s {text}"]


def test_long_values_are_cut() -> None:
    """A value is shown up to a bound, so that a change stays a line."""
    (change,) = changes({"s": "a" * 1000}, {"s": "b" * 1000})
    assert len(str(change)) <= 2 * SHOWN_MAX + len("~ s  → ")
