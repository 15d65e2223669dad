from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.report import Mark
from router.config.yaml_nodes import DEPTH_MAX, LOADER, Mapping, Node, Scalar, SyntaxFault, compose, resolve

LOADERS = [yaml.SafeLoader] if LOADER is yaml.SafeLoader else [yaml.SafeLoader, LOADER]


def plain(node: Node) -> Any:
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Mapping):
        return {name: plain(entry.node) for name, entry in node.entries.items()}
    return [plain(item) for item in node.items]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"), ("true", True), ("FALSE", False),
        ("12:30", "12:30"), ("010", 10), ("0o10", 8), ("0x1F", 31), ("-3", -3), ("+3", 3), ("1_000", "1_000"),
        ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), (".inf", float("inf")), ("nan", "nan"), ("~", None), ("", None),
        ("null", None), ("2026-01-01", "2026-01-01"), ("1.2.3", "1.2.3"), ("٣", "٣"), ("9" * 5000, "9" * 5000),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    """Only what the core schema of YAML 1.2 calls a number, a boolean or null is one."""
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


def test_quoted_is_always_text() -> None:
    """Quotes and block scalars make text of anything."""
    text = """- "true"\n- '3'\n- ''\n- |-\n  5\n"""
    assert plain(compose(text)) == ["true", "3", "", "5"]


@pytest.mark.parametrize("loader", LOADERS)
def test_nodes_know_their_place(loader: Any) -> None:
    """Every node carries its line and column, counted from one and in characters, with and without libyaml."""
    root = compose("é: {ü: 1}\nb:\n  - x\n", loader)
    assert isinstance(root, Mapping)
    inner = root.entries["é"].node
    assert isinstance(inner, Mapping)
    assert inner.entries["ü"].mark == Mark(1, 5)
    assert inner.entries["ü"].node.mark == Mark(1, 8)
    assert root.entries["b"].mark == Mark(2, 1)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("text", "mark", "says"),
    [
        ("a: !!python/object/apply:os.system [ls]\n", Mark(1, 4), "tags"),
        ("a: !x 1\n", Mark(1, 4), "tags"),
        ("a: ! 1\n", Mark(1, 4), "tags"),
        ("a: 1\n---\nb: 2\n", Mark(2, 1), "second document"),
        ("a: &x [*x]\n", Mark(1, 8), "inside"),
        ("a: *x\n", Mark(1, 4), "no anchor"),
        ("a:\n\t- b\n", Mark(2, 1), "tab"),
        ("a: [1,\nb: 2\n", None, ""),
        ("a: 'x\nb: 2\n", None, "line 1"),
        ("a: \x01\n", Mark(1, 4), "U+0001"),
        ("a: b: c\n", Mark(1, 5), "mapping values"),
        ('a: "\\ud800"\n', None, "escape"),
        ('a: "\\UFFFFFFFF"\n', None, "escape"),
        ("[" * 100_000, Mark(1, DEPTH_MAX + 1), "deeper"),
        ("{a: " * 100_000, None, "deeper"),
    ],
)
def test_what_is_not_read_here_is_refused_with_its_place(loader: Any, text: str, mark: Mark | None, says: str) -> None:
    """Syntax errors, tags, several documents, circles and bottomless nesting end in a fault with a mark."""
    with pytest.raises(SyntaxFault) as refused:
        compose(text, loader)
    assert says in refused.value.text
    assert mark is None or refused.value.mark == mark


PIECES = st.sampled_from([
    "a", "b: ", "- ", "\n", "\n  ", "\t", "{", "}", "[", "]", ", ", "&a ", "*a", "!x ", "'", '"', "#", "|\n", "> ",
    "? ", "<<: ", "---\n", "...\n", "%TAG ! x\n", "%YAML 9.9\n", "~", "1e999", "\r", "\x85", "\u2028", "\\",
    "\\x", "\\u12", "\\U0011FFFF", "é", "𝄞",
])  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=24).map("".join), st.sampled_from(LOADERS))
def test_any_text_is_a_tree_or_a_syntax_fault(text: str, loader: Any) -> None:
    """Whatever the pieces of YAML add up to, nothing else comes of it, and every place is inside the text."""
    try:
        root = compose(text, loader)
    except SyntaxFault as fault:
        mark = fault.mark
    else:
        mark = root.mark
    assert 1 <= mark.line <= len(text) + 1
    assert mark.column >= 1


@pytest.mark.parametrize("loader", LOADERS)
def test_a_billion_laughs_end_early(loader: Any) -> None:
    """Aliases of aliases are refused by the size they would have, before they have it."""
    levels = ["a0: &a0 [lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(SyntaxFault, match="aliases written out"):
        compose("\n".join(levels), loader)


def test_aliases_and_merge_keys_share_settings() -> None:
    """An alias stands for its anchor; `<<` adds what is not written, the first of several sources winning."""
    text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz: {<<: [*x, *y], a: 0}\nw: *x\n"
    assert plain(compose(text)) == {
        "x": {"a": 1, "b": 2},
        "y": {"b": 3, "c": 4},
        "z": {"a": 0, "b": 2, "c": 4},
        "w": {"a": 1, "b": 2},
    }


def test_an_alias_as_a_name_stands_where_it_is_written() -> None:
    """A name given by an alias has the place of the alias, not of its anchor."""
    root = compose("a: &name b\n*name : 1\n")
    assert isinstance(root, Mapping)
    assert root.entries["b"].mark == Mark(2, 1)


def test_a_quoted_merge_key_is_a_name() -> None:
    """Only a plain `<<` merges."""
    assert plain(compose('"<<": {a: 1}\n')) == {"<<": {"a": 1}}


def test_flaws_leave_the_rest_readable() -> None:
    """Of a name given twice the first counts; a list as a name and a senseless merge are told, and the rest is read."""
    root = compose("a: 1\nb: 2\na: 3\n? [1]\n: 4\n<<: 5\n")
    assert isinstance(root, Mapping)
    assert plain(root) == {"a": 1, "b": 2}
    assert [(flaw.mark.line, flaw.name) for flaw in root.flaws] == [(3, "a"), (4, "?"), (6, "<<")]
    assert "line 1" in root.flaws[0].text


def test_an_empty_file_is_null() -> None:
    """A file of nothing but remarks holds nothing."""
    assert plain(compose("# only this\n")) is None
