from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.patterns import MEMO_MAX, Pattern, PatternMap


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("gpt-*", ["gpt-", "gpt-5"], ["gpt", "xgpt-5", ""]),
        ("*", ["", "anything"], []),
        ("*-mini", ["gpt-mini", "-mini"], ["mini", "gpt-mini-2"]),
        ("a*b*c", ["abc", "aXbYc", "abbc"], ["ac", "acb", "ab"]),
        ("ab*ba", ["abba", "abXba"], ["aba", "ab"]),
        ("g.t[1]*", ["g.t[1]x"], ["gpt1x", "g.t1x"]),
    ],
)
def test_a_star_is_any_text_and_the_only_wildcard(pattern: str, yes: list[str], no: list[str]) -> None:
    """A pattern fits the whole name or not at all; other characters mean themselves."""
    assert all(Pattern(pattern).matches(name) for name in yes)
    assert not any(Pattern(pattern).matches(name) for name in no)


@given(st.text("ab*", min_size=1, max_size=8).map(lambda text: text + "*"), st.text("ab", max_size=12))
def test_matching_agrees_with_an_independent_matcher(pattern: str, name: str) -> None:
    """The linear matcher finds exactly what the standard library's does."""
    assert Pattern(pattern).matches(name) == bool(re.match(fnmatch.translate(pattern), name))


def test_exact_wins_over_pattern_and_long_over_short() -> None:
    """The most specific entry serves, whatever the order of the file."""
    names = PatternMap({"*": 1, "gpt-*": 2, "gpt-5*": 3, "gpt-5": 4})
    assert [names.find(name) for name in ("gpt-5", "gpt-5.5", "gpt-4", "claude")] == [4, 3, 2, 1]
    assert PatternMap({"a": 1}).find("b") is None


def test_the_memo_changes_no_answer_and_stays_small() -> None:
    """A flood of names costs bounded memory, and every answer is the same the second time."""
    names = PatternMap({"a*": 1})
    for _ in range(2):
        for number in range(MEMO_MAX + 500):
            assert names.find(f"a{number}") == 1
            assert names.find(f"b{number}") is None
            assert len(names._memo) <= MEMO_MAX
    assert names.find("a" * 1_000_000) == 1
    assert max(len(name) for name in names._memo) < 1000


def test_no_name_makes_a_pattern_expensive() -> None:
    """A name on which backtracking would take for ever is answered at once."""
    assert not Pattern("*".join("a" * 12) + "*b").matches("a" * 100_000)


@given(st.lists(st.text("ab*", min_size=1, max_size=5), max_size=6, unique=True), st.text("ab", min_size=1, max_size=6))
def test_what_fits_begins_with_what_counts(keys: list[str], name: str) -> None:
    """All keys that fit a name are told, the one that `find` goes by first, and nothing that does not fit."""
    names = PatternMap({key: key for key in keys})
    fitting = names.matching(name)
    assert names.find(name) == (fitting[0] if fitting else None)
    assert sorted(fitting) == sorted(key for key in keys if re.match(fnmatch.translate(key), name))
