from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.migrate.nginx_syntax import DEPTH_MAX, DIRECTIVES_MAX, WORD_MAX, Directive, SyntaxFault, parse


def test_directives_blocks_and_comments() -> None:
    """Words end at spaces, semicolons and braces; a comment begins with a word; every directive knows its line."""
    top = parse("# first\nuser www; # then\nhttp {\n  server a:1 weight=3;\n\n  map $a $b { default 1; }\n}\n")
    assert [(each.name, each.args, each.line) for each in top] == [("user", ("www",), 2), ("http", (), 3)]
    assert [(each.name, each.args, each.line) for each in top[1].block or ()] == [
        ("server", ("a:1", "weight=3"), 4),
        ("map", ("$a", "$b"), 6),
    ]
    assert top[1].all("server")[0].block is None
    assert str(top[0]) == "user www"
    assert parse("a b#c;")[0].args == ("b#c",)
    assert parse("") == []


def test_quotes_escapes_and_variables() -> None:
    """Quoted words hold anything, a backslash keeps a quote, and the braces of a variable open no block."""
    assert parse('a "b ; {" \'c "d"\' "e\\"f";')[0].args == ("b ; {", 'c "d"', 'e"f')
    assert parse("set $x ${host}y;")[0].args == ("$x", "${host}y")
    assert parse("a '';")[0].args == ("",)
    assert parse('a "x\ny";\nb;')[1].line == 3


def test_code_in_other_languages_is_skipped() -> None:
    """What stands in a block of Lua is not read as directives."""
    (block, after) = parse('content_by_lua_block { if x then ngx.say("{}") end }\nb;')
    assert (block.name, block.block, after.line) == ("content_by_lua_block", [], 2)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a", 1),
        ("a {\n b;\n", 1),
        ("a;\n}", 2),
        ("a {\n b }", 2),
        (";", 1),
        ("a;\n{ }", 2),
        ("a 'b", 1),
        ("a 'b'c;", 1),
        ("a ${b;", 1),
        ("x_by_lua_block { {", 1),
        ("a " + "b" * (WORD_MAX + 1) + ";", 1),
        ("a '" + "b" * (WORD_MAX + 1) + "';", 1),
        ("a {" * (DEPTH_MAX + 1) + "}" * (DEPTH_MAX + 1), 1),
        ("a;" * (DIRECTIVES_MAX + 1), 1),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_configuration_is_refused_with_its_line(text: str, line: int) -> None:
    """Text that does not end, braces that do not match, and what is beyond the bounds."""
    with pytest.raises(SyntaxFault) as refused:
        parse(text)
    assert refused.value.line == line


@given(st.text(st.sampled_from("ab ;{}'\"\\$#\n\t"), max_size=60) | st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the text, there is a tree, or a fault on one of its lines."""
    try:
        lines = [each.line for each in parse(text)]
    except SyntaxFault as fault:
        lines = [fault.line]
    assert all(1 <= line <= text.count("\n") + 1 for line in lines)


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=8)
TREES = st.recursive(
    st.builds(Directive, WORDS, st.lists(WORDS, max_size=3).map(tuple), st.just(0)),
    lambda below: st.builds(Directive, WORDS, st.lists(WORDS, max_size=2).map(tuple), st.just(0), st.lists(below)),
    max_leaves=8,
)


def written(directive: Directive) -> str:
    words = " ".join(
        '"{}"'.format(word.replace("\\", "\\\\").replace('"', '\\"')) for word in (directive.name, *directive.args)
    )
    return words + (";" if directive.block is None else f" {{ {' '.join(map(written, directive.block))} }}")


def without_lines(directive: Directive) -> Directive:
    block = None if directive.block is None else [without_lines(each) for each in directive.block]
    return Directive(directive.name, directive.args, 0, block)


@given(st.lists(TREES, max_size=4))
def test_what_is_written_is_read(trees: list[Directive]) -> None:
    """A tree that is written with quotes around every word is read as the same tree."""
    assert [without_lines(each) for each in parse(" ".join(map(written, trees)))] == trees
