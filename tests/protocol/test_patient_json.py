import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.patient_json import members, patient_json, read_json, read_object, reader


class Pair(msgspec.Struct):
    a: Any = None
    b: Any = None


read_pair = reader(Pair)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["a", "b"]), inner),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_json_is_read_as_it_is(value: Any) -> None:
    """What is JSON reads as what it says; only an object is an object, and its members are found by name."""
    raw = json.dumps(value).encode()
    assert read_json(raw) == value
    is_object = isinstance(value, dict)
    assert read_object(raw) == (value if is_object else None)
    pair = read_pair(raw)
    assert (pair is not None) == is_object
    if pair is not None:
        assert (pair.a, pair.b) == (value.get("a"), value.get("b"))
        assert pair == members(Pair, value)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a":"\\ud83d"}', "\ud83d"),
        (b'{"a":"\xf0\x9f"}', "\N{REPLACEMENT CHARACTER}"),
        (b'\xef\xbb\xbf{"a":1}', 1),
        (b' \n\n{"a":1}\n', 1),
        (b'{"a":1,"b":NaN}', 1),
        (b'{"a":1,"b":-Infinity}', 1),
    ],
)
def test_what_upstreams_write(raw: bytes, value: Any) -> None:
    """Half a surrogate pair, half a character, a byte order mark, NaN: what upstreams send is read."""
    said = read_object(raw)
    assert said is not None
    assert said["a"] == value
    pair = read_pair(raw)
    assert pair is not None
    assert pair.a == value


@pytest.mark.parametrize(
    "raw",
    [b"", b" ", b"x", b"<html>", b'{"a":', b'{"a":1}x', b"{a:1}", b"[" * 100_000, b'{"a":' * 100_000, b"data: {}",
     b'{"a":' + b"9" * 5000 + b"}", b"\xff\xfe{\x00}\x00"],
)  # fmt: skip
def test_what_is_no_json(raw: bytes) -> None:
    """Garbage, half of an object, too deep a nesting, a number nobody can hold: nothing, and nothing is raised."""
    assert read_json(raw) is None
    assert read_object(raw) is None
    assert read_pair(raw) is None


def test_long_members_are_skipped() -> None:
    """A member that is not asked for may be anything, however odd what it holds."""
    pair = read_pair(b'{"data":"' + b"A" * 10**6 + b'","a":{"b":[1]},"a2":' + b"[" * 200 + b"]" * 200 + b"}")
    assert pair == Pair(a={"b": [1]})


@given(st.binary())
def test_no_bytes_raise(raw: bytes) -> None:
    """Any bytes are read or passed over, also where they begin like JSON."""
    for data in (raw, b"{" + raw, b'{"a":' + raw + b"}", b'["' + raw + b'"]'):
        read_json(data)
        read_object(data)
        read_pair(data)
        patient_json(data)
