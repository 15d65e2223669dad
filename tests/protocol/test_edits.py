"""What is changed in bodies for upstreams that cannot take them, against the json module and byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.edits import edits
from router.protocol.splice import compose, read_ask

DROP = frozenset(("seed", "logit_bias", "ü"))


def edited(body: bytes, drop: frozenset[str] = DROP, field: str | None = None) -> bytes:
    """The body after its edits, which are in order and do not overlap."""
    splices, _ = edits(body, drop=drop, max_tokens_field=field)
    parts = []
    done = 0
    for start, end, new in splices:
        assert done <= start <= end <= len(body)
        parts += [body[done:start], new]
        done = end
    return b"".join((*parts, body[done:]))


DROPPED = {
    "none": (b'{"model": "a", "x": {"seed":1}}', b'{"model": "a", "x": {"seed":1}}'),
    "first": (b'{"seed":1,"model":"a"}', b'{"model":"a"}'),
    "middle": (b'{"model":"a","seed":1,"n":1}', b'{"model":"a","n":1}'),
    "last": (b'{"model":"a","seed":1}', b'{"model":"a"}'),
    "only": (b'{"seed":1}', b"{}"),
    "all": (b' { "seed" : 1 , "logit_bias" : {} } ', b" {  } "),
    "first two": (b'{ "seed":1 , "logit_bias":{} , "model":"a" }', b'{ "model":"a" }'),
    "last two": (b'{ "model":"a" , "seed":1 , "logit_bias":{} }', b'{ "model":"a"   }'),
    "every other": (b'{"seed":1,"model":"a","seed":2,"n":1,"seed":3}', b'{"model":"a","n":1}'),
    "lines": (b'{\n  "model": "a",\n  "seed": 1,\n  "n": 2\n}\n', b'{\n  "model": "a",\n  "n": 2\n}\n'),
    "first line": (b'{\n  "seed": 1,\n  "model": "a"\n}\n', b'{\n  "model": "a"\n}\n'),
    "punctuation in values": (
        b'{"x":"\\",{\\"seed\\":","seed":"},{\\"","logit_bias":[{"a":","}],"y":1}',
        b'{"x":"\\",{\\"seed\\":","y":1}',
    ),
    "escaped names": (b'{"model":"a","s\\u0065ed":1,"\\u00fc":2}', b'{"model":"a"}'),
    "quotes and marks in names": (b'{"\\"{,:":1,"seed":2,",\\"seed":3}', b'{"\\"{,:":1,",\\"seed":3}'),
    "another case": (b'{"model":"a","Seed":1}', b'{"model":"a","Seed":1}'),
    "lone surrogate": (b'{"x":"\\ud800","seed":1}', b'{"x":"\\ud800"}'),
    "numbers": (b'{"x":[1.10,1E400],"seed":1}', b'{"x":[1.10,1E400]}'),
}


@pytest.mark.parametrize(("body", "expected"), DROPPED.values(), ids=DROPPED)
def test_a_member_goes_with_one_comma(body: bytes, expected: bytes) -> None:
    """Wherever a member stands, it goes with the one comma that nobody needs any more, and nothing else moves."""
    assert edited(body) == expected


RENAMED = {
    "absent": ("max_tokens", b'{"model":"a"}', b'{"model":"a"}'),
    "known": ("max_tokens", b'{"max_tokens" : 5}', b'{"max_tokens" : 5}'),
    "to the new name": ("max_completion_tokens", b'{ "max_tokens" : 5 }', b'{ "max_completion_tokens" : 5 }'),
    "to the old name": ("max_tokens", b'{"a":1,"max_completion_tokens":5}', b'{"a":1,"max_tokens":5}'),
    "escaped": ("max_tokens", b'{"max_completion\\u005ftokens":null}', b'{"max_tokens":null}'),
    "both": ("max_tokens", b'{"max_completion_tokens":5,"max_tokens":6}', b'{"max_tokens":6}'),
    "both, other order": ("max_tokens", b'{"max_tokens":6,"max_completion_tokens":5}', b'{"max_tokens":6}'),
    "both, one null": ("max_tokens", b'{"max_tokens":null,"max_completion_tokens":5}', b'{"max_tokens":5}'),
    "both, the other null": ("max_tokens", b'{"max_tokens":5,"max_completion_tokens":null}', b'{"max_tokens":5}'),
    "inside": ("max_tokens", b'{"x":{"max_completion_tokens":5}}', b'{"x":{"max_completion_tokens":5}}'),
    "twice": (
        "max_completion_tokens",
        b'{"max_tokens":5,"max_tokens":6}',
        b'{"max_completion_tokens":5,"max_completion_tokens":6}',
    ),
    "beside dropped ones": (
        "max_completion_tokens",
        b'{"seed":1,"max_tokens":5,"seed":1}',
        b'{"max_completion_tokens":5}',
    ),
}


@pytest.mark.parametrize(("field", "body", "expected"), RENAMED.values(), ids=RENAMED)
def test_the_token_limit_gets_the_name_that_is_known(field: str, body: bytes, expected: bytes) -> None:
    """The limit reaches the upstream under the name it knows, once, and a null does not displace it."""
    assert edited(body, field=field) == expected


def test_what_was_dropped_is_told() -> None:
    """Each name that went is told once, in the order of the body; a renamed one did not go."""
    body = b'{"max_tokens":1,"seed":1,"model":"a","l\\u006fgit_bias":1,"seed":2,"max_completion_tokens":3,"x":1}'
    assert edits(body, drop=DROP, max_tokens_field=None)[1] == ("seed", "logit_bias")
    assert edits(body, drop=DROP, max_tokens_field="max_completion_tokens")[1] == ("max_tokens", "seed", "logit_bias")
    assert edits(b'{"max_tokens":1}', drop=DROP, max_tokens_field="max_completion_tokens")[1] == ()


def test_names_are_dropped_as_the_upstream_would_see_them() -> None:
    """A limit whose unknown name becomes a known one is kept; one whose new name is unknown too goes."""
    for field, kept in (("max_tokens", {}), ("max_completion_tokens", {"max_completion_tokens": 1})):
        for name in ("max_tokens", "max_completion_tokens"):
            body = json.dumps({name: 1}).encode()
            assert json.loads(edited(body, frozenset(("max_tokens",)), field)) == kept


def test_model_is_never_dropped() -> None:
    """Without its model no request could be sent."""
    assert edited(b'{"model":"a","seed":1}', frozenset(("model", "seed"))) == b'{"model":"a"}'


@pytest.mark.parametrize("picture", [b"A" * 20_000, b"no base64\n" + b"\x01" * 20_000])
def test_pictures_are_stepped_over(picture: bytes) -> None:
    """Places behind a long inline picture are right, and what it holds is the upstream's to judge."""
    data = b'"data:image/png;base64,' + picture + b'"'
    body = b'{"a":' + data + b',"seed":' + data + b',"max_tokens":1,"model":"a"}'
    read_ask(body)
    assert edited(body, field="max_completion_tokens") == b'{"a":' + data + b',"max_completion_tokens":1,"model":"a"}'


def test_edits_and_the_other_splices_fit_together() -> None:
    """A body with a new model and usage asked for is edited in the same pass."""
    body = b'{"seed":1,"stream":true,"max_tokens":5,"model":"a","logit_bias":{}}'
    splices, _ = edits(body, drop=DROP, max_tokens_field="max_completion_tokens")
    assert b"".join(compose(read_ask(body), body, "b", ask_usage=True, edits=splices)) == (
        b'{"stream_options":{"include_usage":true},"stream":true,"max_completion_tokens":5,"model":"b"}'
    )


_SPACES = st.text(" \t\r\n", max_size=2)
_NAMES = st.sampled_from(
    ["max_tokens", "max_completion_tokens", "seed", "logit_bias", "model", "ü", "a", '"', "\\", ",", "{", "", "Seed"]
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('{}[]":,\\é', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=4,
)


@st.composite
def _objects(draw: st.DrawFn) -> bytes:
    """An object in any formatting, with duplicates and escapes in names."""
    members = [
        f"{draw(_SPACES)}{json.dumps(name, ensure_ascii=draw(st.booleans()))}{draw(_SPACES)}:"
        f"{draw(_SPACES)}{json.dumps(value, ensure_ascii=False)}{draw(_SPACES)}"
        for name, value in draw(st.lists(st.tuples(_NAMES, _VALUES), max_size=7))
    ]
    return f"{draw(_SPACES)}{{{','.join(members) or draw(_SPACES)}}}{draw(_SPACES)}".encode()


def _pairs(body: bytes) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = json.loads(body, object_pairs_hook=list)
    return pairs


def _expected(body: bytes, drop: frozenset[str], field: str | None) -> list[tuple[str, Any]]:
    """The members that shall be left, in order, duplicates included."""
    pairs = _pairs(body)
    last = dict(pairs)
    if field is not None:
        (other,) = {"max_tokens", "max_completion_tokens"} - {field}
        if other in last and last.get(field) is None:
            pairs = [(field if name == other else name, value) for name, value in pairs if name != field]
        elif other in last:
            pairs = [(name, value) for name, value in pairs if name != other]
    return [(name, value) for name, value in pairs if name not in drop or name == "model"]


@given(
    _objects(),
    st.frozensets(_NAMES, max_size=5),
    st.sampled_from([None, "max_tokens", "max_completion_tokens"]),
)
def test_any_object_is_edited_as_the_reference_does(body: bytes, drop: frozenset[str], field: str | None) -> None:
    """What is left is what json would leave, in the same order; what needs no change is left alone."""
    after = edited(body, drop, field)
    assert _pairs(after) == _expected(body, drop, field)
    splices, names = edits(body, drop=drop, max_tokens_field=field)
    assert set(names) <= {name for name, _ in _pairs(body)}
    assert all(new == b"" or json.loads(new) == field for _, _, new in splices)
    if _expected(body, drop, field) == _pairs(body):
        assert splices == []
        assert names == ()
