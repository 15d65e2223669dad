"""What is read of a chat body and what is changed in it, against a plain reference that uses the json module."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import Kind, RequestError
from router.protocol import splice
from router.protocol.asks import Ask, Splice, of_form
from router.protocol.multipart import FormScanner
from router.protocol.splice import MEMBERS_MAX, MODEL_CHARS_MAX, TOKENS_MAX, compose, model_splice, read_ask

ASK = b'"stream_options":{"include_usage":true},'


def sent(body: bytes, model: str | None = None, *, ask_usage: bool = False) -> bytes:
    """The body that goes upstream."""
    return b"".join(compose(read_ask(body), body, model or "", ask_usage=ask_usage))


def refusal(body: bytes) -> tuple[Kind, str | None]:
    with pytest.raises(RequestError) as caught:
        read_ask(body)
    return caught.value.kind, caught.value.param


PLACES = {
    "first": (b'{"model":"a","messages":[]}', b'{"model":"b/\\"c","messages":[]}'),
    "last": (b'{"messages":[],"model":"a"}', b'{"messages":[],"model":"b/\\"c"}'),
    "alone": (b'{"model":"a"}', b'{"model":"b/\\"c"}'),
    "spaced": (b' \t\r\n{ "model" \n:\t"a" , "n" : 1 } ', b' \t\r\n{ "model" \n:\t"b/\\"c" , "n" : 1 } '),
    "escaped key": (b'{"mo\\u0064el":"a"}', b'{"mo\\u0064el":"b/\\"c"}'),
    "escaped value": (b'{"model":"\\u0061"}', b'{"model":"b/\\"c"}'),
    "also inside": (
        b'{"messages":[{"model":"a","x":"\\"model\\":\\"a\\""}],"model":"a"}',
        b'{"messages":[{"model":"a","x":"\\"model\\":\\"a\\""}],"model":"b/\\"c"}',
    ),
    "value unicode": ('{"model":"é😀","x":"é"}'.encode(), '{"model":"b/\\"c","x":"é"}'.encode()),
    "key that ends in model": (b'{"x\\"model":"a","model":"a"}', b'{"x\\"model":"a","model":"b/\\"c"}'),
    "lone surrogate before": (b'{"x":"\\ud800","model":"a"}', b'{"x":"\\ud800","model":"b/\\"c"}'),
    "surrogate that ends like m": (b'{"\\ud86dodel":1,"model":"a"}', b'{"\\ud86dodel":1,"model":"b/\\"c"}'),
    "escaped backslash before ud8": (
        b'{"x":"\\\\ud800\\ud800","model":"a"}',
        b'{"x":"\\\\ud800\\ud800","model":"b/\\"c"}',
    ),
    "duplicates of others": (b'{"a":1,"a":[22],"model":"a","a":3}', b'{"a":1,"a":[22],"model":"b/\\"c","a":3}'),
}


@pytest.mark.parametrize(("body", "expected"), PLACES.values(), ids=PLACES)
def test_only_the_value_of_model_is_replaced(body: bytes, expected: bytes) -> None:
    """Wherever and however `model` is written, its value is replaced and every other byte stays."""
    assert sent(body, 'b/"c') == expected


@pytest.mark.parametrize("model", ["", "a"])
def test_a_body_without_changes_is_the_clients_object(model: str) -> None:
    """The same name, or none, leaves the body alone: the very same bytes object is sent."""
    body = b'{"model":"\\u0061","stream":false}'
    parts = compose(read_ask(body), body, model, ask_usage=True)
    assert len(parts) == 1
    assert parts[0] is body


def test_numbers_stay_as_they_were_written() -> None:
    """Numbers that no number type can hold pass unharmed."""
    numbers = b"[1.10,1e2,1E400,0.1000000000000000055,-0,12345678901234567890123," + b"9" * 5000 + b"]"
    assert sent(b'{"x":' + numbers + b',"model":"a"}', "b") == b'{"x":' + numbers + b',"model":"b"}'


def test_a_name_outside_ascii_is_sent_as_utf8() -> None:
    """The model's name upstream may hold any text; it becomes one JSON string."""
    assert json.loads(sent(b'{"model":"a"}', 'é\n"\\😀'))["model"] == 'é\n"\\😀'


def test_large_bodies_are_cut_into_views() -> None:
    """A body of 20 MB is spliced without copying it."""
    body = b'{"messages":"' + b"x" * 20_000_000 + b'","model":"a","stream":true}'
    parts = compose(read_ask(body), body, "b", ask_usage=True)
    views = [part for part in parts if isinstance(part, memoryview)]
    assert sum(map(len, views)) == len(body) - len(b'"a"')
    assert all(view.obj is body for view in views)
    assert b"".join(parts) == b"{" + ASK + body[1:].replace(b'"model":"a"', b'"model":"b"')


INVALID = {
    "empty": b"",
    "blank": b" \n",
    "array": b"[]",
    "null": b"null",
    "string": b'"model"',
    "open": b'{"model":"a"',
    "trailing comma": b'{"model":"a",}',
    "trailing data": b'{"model":"a"}{}',
    "trailing nul": b'{"model":"a"}\0',
    "nan": b'{"model":"a","x":NaN}',
    "infinity": b'{"model":"a","x":-Infinity}',
    "bom": b'\xef\xbb\xbf{"model":"a"}',
    "utf-16": '{"model":"a"}'.encode("utf-16"),
    "utf-16 without bom": '{"model":"a"}'.encode("utf-16-le"),
    "latin-1": '{"model":"a","x":"é"}'.encode("latin-1"),
    "encoded surrogate": b'{"model":"a","x":"\xed\xa0\x80"}',
    "character cut at the end": b'{"model":"a"}\xf0\x9f',
    "deep array": b'{"model":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep object": b'{"model":"a","x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "deep behind a surrogate": b'{"x":"\\ud800","y":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "fault behind a surrogate": b'{"model":"a","x":"\\ud800",}',
    "control character": b'{"model":"a","x":"\x01"}',
    "bad escape": b'{"model":"a","x":"\\x41"}',
    "leading zero": b'{"model":"a","x":01}',
    "single quotes": b"{'model':'a'}",
    "comment": b'{"model":"a" /* x */}',
}


@pytest.mark.parametrize("body", INVALID.values(), ids=INVALID)
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    """Nothing that a strict reader refuses is sent on, and nothing raises anything else."""
    assert refusal(body) == (Kind.INVALID_JSON, None)


DOUBLES = {
    "model": [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","model":"a"}',
        b'{"model":"a","mo\\u0064el":"b"}',
        b'{"model": "a", "x": 1, "model": "b"}',
        b'{"model":"a","Model":"b"}',
        b'{"MODEL":"a"}',
        '{"é":1,"model":"a","mOdel":"b"}'.encode(),
        b'{"x":"\\ud800","model":"a","model":"b"}',
        b'{"model":"a","model":"b","x":"' + b"x" * 100_000 + b'"}',
    ],
    "stream": [
        b'{"model":"a","stream":true,"stream":false}',
        '{"model":"a","\u017ftream":true}'.encode(),
        b'{"model":"a","stream":false,"\\u017ftream":true}',
    ],
    "stream_options": [
        b'{"model":"a","stream_options":null,"stream_options":{}}',
        b'{"model":"a","Stream_Options":{}}',
    ],
    "stream_options.include_usage": [
        b'{"model":"a","stream":true,"stream_options":{"include_usage":false,"include_usage":true}}',
        b'{"model":"a","stream":true,"stream_options":{"Include_Usage":true}}',
    ],
}


@pytest.mark.parametrize(("param", "body"), [(param, body) for param, bodies in DOUBLES.items() for body in bodies])
def test_two_spellings_of_one_parameter_are_refused(param: str, body: bytes) -> None:
    """A parameter that two readers could read differently is refused by name."""
    assert refusal(body) == (Kind.DUPLICATE_PARAMETER, param)


def test_model_must_be_there() -> None:
    """A `model` elsewhere in the body does not count."""
    assert refusal(b'{"messages":[{"model":"a"}],"x":"model"}') == (Kind.MISSING_PARAMETER, "model")


@pytest.mark.parametrize(
    "value", [b"null", b"1", b'[""]', b'{"model":"a"}', b'""', b'"\\ud800"', b'"' + b"a" * 513 + b'"']
)
def test_model_must_be_a_name(value: bytes) -> None:
    """A model is text of 1 to 512 characters, and the refusal says so."""
    with pytest.raises(RequestError, match="1 to 512 characters") as caught:
        read_ask(b'{"model":' + value + b"}")
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_TYPE, "model")


@pytest.mark.parametrize("spelling", ["a", "é", "\\u0061", "\\ud83d\\ude00"])
def test_the_longest_model_is_counted_in_characters(spelling: str) -> None:
    """However its characters are written, a name of 512 of them is accepted as it stands."""
    body = f'{{"model":"{spelling * MODEL_CHARS_MAX}"}}'.encode()
    assert read_ask(body).model == json.loads(body)["model"]


@pytest.mark.parametrize(("value", "stream"), [(b"true", True), (b"false", False), (b"null", False)])
def test_stream_is_a_boolean_or_null(value: bytes, stream: bool) -> None:
    """Only the literal `true` asks for a stream."""
    assert read_ask(b'{"model":"a","stream":' + value + b"}").stream is stream


@pytest.mark.parametrize("value", [b"1", b'"true"', b"[]", b"{}", b"0.5"])
def test_other_values_of_stream_are_refused(value: bytes) -> None:
    """What an upstream might or might not take for true is refused."""
    assert refusal(b'{"model":"a","stream":' + value + b"}") == (Kind.INVALID_TYPE, "stream")


OPTIONS = {
    "absent": (b"", None),
    "null": (b',"stream_options":null', b',"stream_options":{"include_usage":true}'),
    "empty": (b',"stream_options":{ }', b',"stream_options":{"include_usage":true }'),
    "others": (b',"stream_options":{"x":1}', b',"stream_options":{"include_usage":true,"x":1}'),
    "false": (
        b',"stream_options": {"x":"false", "include_usage" : false}',
        b',"stream_options": {"x":"false", "include_usage" : true}',
    ),
    "inner null": (b',"stream_options":{"include_usage":null}', b',"stream_options":{"include_usage":true}'),
    "nested namesake": (
        b',"stream_options":{"x":{"include_usage":true}}',
        b',"stream_options":{"include_usage":true,"x":{"include_usage":true}}',
    ),
    "surrogate": (
        b',"stream_options":{"x":"\\udfff"}',
        b',"stream_options":{"include_usage":true,"x":"\\udfff"}',
    ),
}


@pytest.mark.parametrize(("written", "expected"), OPTIONS.values(), ids=OPTIONS)
def test_usage_is_asked_for(written: bytes, expected: bytes | None) -> None:
    """Each row of PROTOCOL 5.3: usage is asked for with the smallest change, beside a replaced model on either side."""
    for before, after in ((b'{"model":"a"', b',"stream":true}'), (b'{"stream":true', b',"model":"a"}')):
        body = before + written + after
        assert not read_ask(body).wants_usage
        new = body.replace(written, expected) if expected is not None else b"{" + ASK + body[1:]
        assert sent(body, ask_usage=True) == new
        assert sent(body, "b", ask_usage=True) == new.replace(b'"model":"a"', b'"model":"b"')
        assert sent(body, ask_usage=False) == body


@pytest.mark.parametrize(
    "options", [b'{"include_usage":true}', b'{"include_usage": true}', b'{"x":1,"include_\\u0075sage"\n:true }']
)
def test_a_client_that_asks_for_usage_is_left_alone(options: bytes) -> None:
    """Nothing is added, and the client is known to want the usage chunk."""
    body = b'{"model":"a","stream":true,"stream_options":' + options + b"}"
    assert read_ask(body).wants_usage
    assert sent(body, ask_usage=True) == body


@pytest.mark.parametrize("rest", [b"", b',"stream":false', b',"stream":null', b',"stream":false,"stream_options":[1]'])
def test_usage_is_never_asked_for_without_a_stream(rest: bytes) -> None:
    """With `stream: false` OpenAI rejects the field, so it is neither added nor judged."""
    body = b'{"model":"a"' + rest + b"}"
    assert sent(body, ask_usage=True) == body


@pytest.mark.parametrize(
    ("options", "param"),
    [
        (b"true", "stream_options"),
        (b'"x"', "stream_options"),
        (b"[]", "stream_options"),
        (b'{"include_usage":1}', "stream_options.include_usage"),
        (b'{"include_usage":"true"}', "stream_options.include_usage"),
    ],
)
def test_options_of_another_type_are_refused(options: bytes, param: str) -> None:
    """On a stream, options that cannot be spliced with certainty are refused by name."""
    assert refusal(b'{"model":"a","stream":true,"stream_options":' + options + b"}") == (Kind.INVALID_TYPE, param)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (b"", None),
        (b',"max_tokens":7', 7),
        (b',"max_tokens":7.0', 7),
        (b',"max_tokens":0', 0),
        (b',"max_tokens":7,"max_completion_tokens":9', 9),
        (b',"max_tokens":7,"max_completion_tokens":null', 7),
        (b',"max_tokens":-1', None),
        (b',"max_tokens":1.5', None),
        (b',"max_tokens":"7"', None),
        (b',"max_tokens":true', None),
        (b',"max_tokens":null', None),
        (b',"max_tokens":1e400', None),
        (b',"max_tokens":' + b"9" * 5000, None),
        (b',"max_tokens":1e300', TOKENS_MAX),
        (b',"max_tokens":99999999999999999999', TOKENS_MAX),
    ],
)
def test_max_tokens_is_a_number_or_unknown(members: bytes, expected: int | None) -> None:
    """Whatever stands there, the token limit is a whole number within bounds or None, and nothing is refused for it."""
    assert read_ask(b'{"model":"a"' + members + b"}").max_tokens == expected


@pytest.mark.parametrize(
    ("n", "expected"), [(b"3", 3), (b"0", 1), (b"-5", 1), (b"null", 1), (b'"3"', 1), (b"129", 128), (b"1e99", 128)]
)
def test_n_is_within_bounds(n: bytes, expected: int) -> None:
    """The number of choices counts as 1 to 128."""
    assert read_ask(b'{"model":"a","n":' + n + b"}").n == expected


def test_members_are_bounded() -> None:
    """A body of endless members is refused before they fill the memory; the largest number allowed is not."""
    members = b"".join(b'"%d":1,' % number for number in range(MEMBERS_MAX - 1))
    assert read_ask(b"{" + members + b'"model":"a"}').model == "a"
    assert refusal(b'{"":1,' + members + b'"model":"a"}') == (Kind.INVALID_JSON, None)
    assert refusal(b"{" + b'"":1,' * 1_000_000 + b'"model":"a"}') == (Kind.INVALID_JSON, None)


_NAMES = st.sampled_from(
    ["model", "stream", "stream_options", "messages", "temperature", 'x"model', "\\", "é", "a", "", "models", "Stream"]
)
_TEXTS = (
    st.sampled_from(["\ud800", "model", '"model":"x"', "é😀", "\\", '"', "\n", "stream", "}", "]", ",", ":", ""])
    | st.text()
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=5,
)
_SPACES = st.text(" \t\r\n", max_size=2).map(str.encode)


@st.composite
def _strings(draw: st.DrawFn, text: str) -> bytes:
    """Any spelling of a string: plain, or each character escaped or not."""
    parts = []
    for character in text:
        plain = json.dumps(character, ensure_ascii=draw(st.booleans()))[1:-1]
        escape = draw(st.booleans()) and len(character.encode("utf-16-le")) == 2
        parts.append(f"\\u{ord(character):04x}" if escape else plain)
    return b'"' + "".join(parts).encode("utf-8", "surrogatepass") + b'"'


@st.composite
def _objects(draw: st.DrawFn) -> tuple[bytes, list[tuple[str, int, int]]]:
    """An object in any formatting, with name, start and end of each value."""
    compact = draw(st.booleans())

    def space() -> bytes:
        return b"" if compact else draw(_SPACES)

    body = space() + b"{"
    places = []
    names = draw(st.lists(_NAMES, max_size=5))
    names.insert(draw(st.integers(0, len(names))), "model")
    for at, name in enumerate(names):
        key = json.dumps(name, ensure_ascii=False).encode() if compact else draw(_strings(name))
        if name == "model":
            value = draw(_strings(draw(st.sampled_from(["a", "m/é", "model"]))))
        elif name == "stream":
            value = draw(st.sampled_from([b"true", b"false", b"null"]))
        elif name == "stream_options":
            value = draw(
                st.sampled_from([b"null", b"{}", b'{"x":1}', b'{"include_usage":false}', b'{ "include_usage":true}'])
            )
        else:
            value = json.dumps(draw(_VALUES), ensure_ascii=draw(st.booleans())).encode("utf-8", "replace")
        body += (b"," if at else b"") + space() + key + space() + b":" + space()
        places.append((name, len(body), len(body) + len(value)))
        body += value + space()
    return body + b"}" + space(), places


def _reference(body: bytes, places: list[tuple[str, int, int]]) -> bytes:
    """The body with the model replaced and usage asked for, made from places known when it was written."""
    last = {name: (start, end) for name, start, end in places}
    changes = [(*last["model"], b'"new"')]
    if json.loads(body[slice(*last["stream"])]) if "stream" in last else False:
        if "stream_options" not in last:
            brace = body.index(b"{") + 1
            changes.append((brace, brace, ASK))
        else:
            start, end = last["stream_options"]
            new = {
                b"null": b'{"include_usage":true}',
                b"{}": b'{"include_usage":true}',
                b'{"x":1}': b'{"include_usage":true,"x":1}',
                b'{"include_usage":false}': b'{"include_usage":true}',
            }.get(body[start:end], body[start:end])
            changes.append((start, end, new))
    for start, end, new in sorted(changes, reverse=True):
        body = body[:start] + new + body[end:]
    return body


def _pairs(body: bytes) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = json.loads(body, object_pairs_hook=list)
    return pairs


@given(_objects())
def test_any_object_is_spliced_as_the_reference_does(made: tuple[bytes, list[tuple[str, int, int]]]) -> None:
    """Formatting, order, escapes and namesakes inside values mislead neither the reading nor the splice."""
    body, places = made
    names = [name for name, _ in _pairs(body)]
    assert names == [name for name, _, _ in places]
    guarded = [name.lower() for name in names if name.lower() in {"model", "stream", "stream_options"}]
    if len(set(guarded)) < len(guarded) or "Stream" in names:
        assert refusal(body)[0] is Kind.DUPLICATE_PARAMETER
        return
    assert read_ask(body).model == dict(_pairs(body))["model"]
    assert sent(body, "new", ask_usage=True) == _reference(body, places)


@given(_objects())
def test_both_ways_of_reading_agree(made: tuple[bytes, list[tuple[str, int, int]]]) -> None:
    """The short way for compact bodies, the one for other spacing and the counted one for large bodies say the same."""
    body, _ = made
    outcomes = []
    for padding in (b"", b" ", b" " * 5 * MEMBERS_MAX):
        try:
            read = read_ask(body + padding)
            assert read.text_bytes == len(body + padding)
            outcomes.append(repr(msgspec.structs.replace(read, text_bytes=0)))
        except RequestError as problem:
            outcomes.append(repr((problem.kind, problem.param)))
    assert len(set(outcomes)) == 1


@given(st.binary(max_size=60) | st.text('{}[]":,\\u0dn1e. mode', max_size=60).map(str.encode))
def test_garbage_raises_nothing_but_a_refusal(body: bytes) -> None:
    """Whatever bytes come, they are read or refused, and only what is an object with a model is read."""
    try:
        request = read_ask(body)
    except RequestError:
        return
    assert json.loads(body)["model"] == request.model


def test_compact_bodies_are_recognised() -> None:
    """What the SDKs write takes the short way: one plain dict serves as members and as values."""
    members, values = splice._decode(b'{"messages":[{"a": 1}],"model":"a","\xc3\xa9":1}'.replace(b"\xc3\xa9", b"e"))
    assert members is values
    members, values = splice._decode(b'{"a":1,"a":1}')
    assert members is not values


PICTURE = b"data:image/png;base64," + b"iVBORw0KGgo+/AAA" * 4000 + b"=="


@pytest.mark.parametrize("stream", [b"", b'"stream":true,', b'"stream":true,"stream_options":{"x":"%b"},' % PICTURE])
@pytest.mark.parametrize("model_first", [True, False])
def test_pictures_are_passed_over(stream: bytes, model_first: bool) -> None:
    """Inline pictures before, behind and between what is spliced move no place, and count as 3,000 bytes each."""
    picture = b'"messages":[{"content":[{"image_url":{"url":"%b"}},{"image_url":{"url":"%b"}}]}]' % (PICTURE, PICTURE)
    members = (b'"model":"a",%b%b' if model_first else b'%b%b,"model":"a"') % (stream, picture)
    body = b"{" + members + b"}"
    read = read_ask(body)
    assert read.model == "a"
    parts = b"".join(bytes(part) for part in compose(read, body, "other", ask_usage=True))
    asks = b'"include_usage":true' in parts
    assert asks == bool(stream)
    plain = parts.replace(b'"other"', b'"a"').replace(b'"include_usage":true,', b"")
    assert plain.replace(b'"stream_options":{"include_usage":true},', b"") == body
    pictures = body.count(PICTURE)
    assert read.text_bytes == len(body) - pictures * (len(PICTURE) - len(b"data:image/png;base64,") - 3000)


def test_what_cannot_end_its_string_is_not_passed_over() -> None:
    """A backslash in what looks like a picture means that it is read: an escaped quote does not end a string."""
    assert read_ask(b'{"model":"a","x":"' + PICTURE + rb'\n"}').text_bytes > len(PICTURE)
    assert read_ask(b'{"model":"a","x":"' + PICTURE + rb'\",\"model\":\"b"}').model == "a"
    assert refusal(b'{"model":"a","x":"' + PICTURE + rb'\"","model":"b"}')[0] is Kind.DUPLICATE_PARAMETER


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"model":"' + PICTURE + b'"}', Kind.INVALID_TYPE),
        (b'{"model":"a" ' + PICTURE + b'"b":1}', Kind.INVALID_JSON),
        (b'{"model":"a","x":"' + PICTURE, Kind.INVALID_JSON),
        (b'{"model":"a","x":"' + PICTURE + b'\xff"}', Kind.INVALID_JSON),
        (b'{"x":"' + PICTURE + b'","model":"a","model":"b"}', Kind.DUPLICATE_PARAMETER),
    ],
)
def test_pictures_hide_no_fault(body: bytes, kind: Kind) -> None:
    """What is wrong with a body is wrong with a picture in it too."""
    assert refusal(body)[0] is kind


@pytest.mark.parametrize("size", [4095, 4096, 5000, 6146, 20_000])
def test_a_model_is_the_name_that_is_sent(size: int) -> None:
    """A name that looks like a picture is not cut short, so that key patterns and routes see what the upstream gets."""
    name = b"gpt-4;base64," + b"A" * size
    for body in (
        b'{"model":"%b","x":"%b"}' % (name, b"x" * 20_000),
        b'{"x":"%b","model":"%b"}' % (PICTURE, name),
    ):
        assert refusal(body) == (Kind.INVALID_TYPE, "model")


def read_other(body: bytes) -> Ask:
    """What is read on a route that has no `stream_options` and may do without a model."""
    return read_ask(body, model_optional=True, asks_usage=False)


def inserted(body: bytes, model: str, edits: tuple[Splice, ...] = ()) -> bytes:
    """The body that goes upstream from such a route."""
    return b"".join(compose(read_other(body), body, model, ask_usage=True, edits=edits))


def test_a_body_may_do_without_a_model_only_where_it_is_optional() -> None:
    """Without a model the name is empty and has no place; where it is needed, it is missed."""
    read = read_other(b'{"input":"x"}')
    assert (read.model, read.model_at) == ("", None)
    with pytest.raises(RequestError) as caught:
        read_ask(b'{"input":"x"}', asks_usage=False)
    assert (caught.value.kind, caught.value.param) == (Kind.MISSING_PARAMETER, "model")


@pytest.mark.parametrize("value", [b"null", b'""', b"1", b"[]"])
def test_an_optional_model_is_a_name_if_it_is_there(value: bytes) -> None:
    """What is written as a model and is none is refused, not taken for an absent one."""
    with pytest.raises(RequestError) as caught:
        read_other(b'{"model":%b}' % value)
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_TYPE, "model")


WITHOUT_MODEL = {
    "empty": (b"{}", b'{"model":"m/\\"x"}'),
    "empty with space": (b" {\n} ", b' {"model":"m/\\"x"\n} '),
    "one member": (b'{"a":1}', b'{"model":"m/\\"x","a":1}'),
    "space around": (b' { "a":1}', b' {"model":"m/\\"x", "a":1}'),
    "lines": (b'\r\n\t{\n  "a": 1\n}', b'\r\n\t{"model":"m/\\"x",\n  "a": 1\n}'),
    "braces inside": (b'{"a":"{","b":{}}', b'{"model":"m/\\"x","a":"{","b":{}}'),
    "a model inside": (b'{"a":{"model":"n"}}', b'{"model":"m/\\"x","a":{"model":"n"}}'),
    "half a pair": (b'{"a":"\\ud800"}', b'{"model":"m/\\"x","a":"\\ud800"}'),
}


@pytest.mark.parametrize(("body", "expected"), WITHOUT_MODEL.values(), ids=WITHOUT_MODEL)
def test_a_missing_model_is_written_before_the_first_member(body: bytes, expected: bytes) -> None:
    """The configured model becomes the first member, every byte of the client's stays, and the body stays JSON."""
    assert inserted(body, 'm/"x') == expected
    assert inserted(body, "") == body
    assert read_other(expected).model == 'm/"x'


def test_a_model_is_written_before_pictures_too() -> None:
    """In a body whose pictures are passed over, the place is the same."""
    body = b' {"image":"%b"}' % PICTURE
    assert inserted(body, "m") == b' {"model":"m",' + body[2:]


@given(
    st.dictionaries(_TEXTS.filter(lambda name: name.casefold() not in {"model", "stream", "stream_options"}), _VALUES)
)
def test_any_object_takes_a_model(members: dict[str, Any]) -> None:
    """Whatever the object holds, it holds the same and the model afterwards."""
    for indent in (None, 1):
        body = json.dumps(members, indent=indent).encode()
        assert _pairs(inserted(body, "m")) == [("model", "m"), *_pairs(body)]


def test_a_model_and_other_edits_stand_side_by_side() -> None:
    """Other changes to the body, before and behind and at the place of the model, do not disturb it."""
    body = b'{"a":1,"b":2}'
    assert inserted(body, "m", ((1, 1, b'"z":0,'), (7, 12, b'"c":3'))) in {
        b'{"model":"m","z":0,"a":1,"c":3}',
        b'{"z":0,"model":"m","a":1,"c":3}',
    }
    body = b'{"a":1,"model":"n","b":2}'
    assert inserted(body, "m", ((1, 7, b""), (18, 24, b""))) == b'{"model":"m"}'
    assert inserted(body, "", ((5, 6, b"7"),)) == b'{"a":7,"model":"n","b":2}'


def test_a_model_that_is_there_needs_no_splice() -> None:
    """The same name, or none to write, changes nothing."""
    assert model_splice(read_other(b'{"model":"m"}'), "m") == []
    assert model_splice(read_other(b"{}"), "") == []
    assert model_splice(read_other(b'{"model":"m"}'), "n") == [(9, 12, b'"n"')]


def test_stream_options_are_not_known_everywhere() -> None:
    """Where the option means nothing, it is neither judged nor added, and a stream is a stream all the same."""
    body = b'{"model":"m","stream":true,"stream_options":7}'
    read = read_other(body)
    assert (read.stream, read.wants_usage, read.ask_at) == (True, False, None)
    assert inserted(body, "") == body
    assert inserted(b'{"stream":true}', "") == b'{"stream":true}'


@pytest.mark.parametrize(
    ("members", "named"),
    [
        (b'"previous_response_id":"resp_1"', "resp_1"),
        (b'"previous_response_id":"r\\u0065sp_1"', "resp_1"),
        (b'"conversation":"conv_1"', "conv_1"),
        (b'"conversation":{"id":"conv_1"}', "conv_1"),
        (b'"conversation" : { "x":[{"id":1}], "id" : "conv_1" }', "conv_1"),
        (b'"previous_response_id":"resp_1","conversation":"conv_1"', "resp_1"),
        (b'"previous_response_id":null,"conversation":"conv_1"', "conv_1"),
        (b'"previous_response_id":"","conversation":{"id":"conv_1"}', "conv_1"),
        (b'"previous_response_id":null', ""),
        (b'"previous_response_id":7', ""),
        (b'"previous_response_id":["resp_1"]', ""),
        (b'"conversation":null', ""),
        (b'"conversation":{}', ""),
        (b'"conversation":{"id":7}', ""),
        (b'"conversation":["conv_1"]', ""),
        (b'"input":[{"previous_response_id":"resp_1"}]', ""),
        (b'"a":1', ""),
    ],
)
def test_what_a_request_builds_upon_is_named(members: bytes, named: str) -> None:
    """The id of an earlier answer, else of the conversation, as text or in an object; what is no id is the upstream's
    business (PROTOCOL 2.2)."""
    for body in (b"{%b}" % members, b'{"model":"m",%b}' % members, b'{"model": "m",%b,"x":"\\ud800"}' % members):
        assert read_other(body).named_id == named


def test_only_some_routes_build_upon_something() -> None:
    """A chat request is nowhere bound, whatever it holds."""
    read = read_ask(b'{"model":"m","previous_response_id":"resp_1","voice":"v","input":"abc"}')
    assert (read.named_id, read.characters) == ("", 0)


@pytest.mark.parametrize(
    ("members", "characters"),
    [
        (b'"voice":"alloy","input":"hello"', 5),
        ('"voice":"alloy","input":"h\u00e9llo \U0001f600"'.encode(), 7),
        (b'"voice":{"id":"v"},"input":"\\ud83d\\ude00\\n"', 2),
        (b'"input":"","voice":"alloy"', 0),
        (b'"input":"hello"', 0),
        (b'"voice":"alloy"', 0),
        (b'"voice":"alloy","input":["hello"]', 0),
        (b'"voice":"alloy","input":null', 0),
    ],
)
def test_speech_is_counted_in_characters(members: bytes, characters: int) -> None:
    """Of a text with a voice its characters count, not its bytes nor its escapes."""
    assert read_other(b'{"model":"tts",%b}' % members).characters == characters


def test_text_that_looks_like_a_picture_is_spoken_whole() -> None:
    """What is passed over for its looks is counted where it is to be spoken."""
    body = b'{"model":"tts","voice":"v","input":"%b"}' % PICTURE
    read = read_other(body)
    assert read.characters == len(PICTURE)
    assert read.text_bytes < 5000
    assert inserted(body, "other") == body.replace(b'"tts"', b'"other"')


@pytest.mark.parametrize("depth", range(150, 1000, 50))
def test_a_deep_conversation_is_read_or_refused(depth: int) -> None:
    """However deep what holds the id is, there is an answer or a refusal."""
    body = b'{"conversation":{"id":"c","x":%b%b},"voice":%b%b}' % (
        b"[" * depth,
        b"]" * depth,
        b"[" * depth,
        b"]" * depth,
    )
    try:
        assert read_other(body).named_id == "c"
    except RequestError as refusal:
        assert refusal.kind is Kind.INVALID_JSON  # noqa: PT017 - which of the two depends on the interpreter


def read_form(body: bytes) -> Ask:
    scanner = FormScanner(b"b")
    scanner.feed(body)
    return of_form(scanner.finish(), b"b")


def test_a_form_gets_a_part_before_its_first() -> None:
    """A form without a model is sent with one more part, in front, behind what stands before its first delimiter."""
    first = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n'
    part = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    for preamble in (b"", b"\r\n", b"hello\r\n"):
        body = preamble + first + b"--b--\r\n"
        sent_body = b"".join(compose(read_form(body), body, "m", ask_usage=True))
        assert sent_body == preamble + part + first + b"--b--\r\n"
        assert read_form(sent_body).model == "m"
        assert compose(read_form(body), body, "", ask_usage=True) == [body]


def test_a_forms_model_is_replaced_in_its_part() -> None:
    """A form's model is plain text: no quotes, and nothing else changes."""
    body = b"--b\r\nContent-Disposition: form-data; name=model\r\n\r\nwhisper\r\n--b--\r\n"
    assert b"".join(compose(read_form(body), body, 'a"\u00e9', ask_usage=True)) == body.replace(
        b"whisper", 'a"\u00e9'.encode()
    )
    assert compose(read_form(body), body, "whisper", ask_usage=True) == [body]


@pytest.mark.parametrize(
    "body", [b"--b--\r\n", b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nx\r\n--b--\r\n']
)
def test_a_name_that_would_end_its_part_is_refused(body: bytes) -> None:
    """A client cannot choose a boundary that makes an upstream read another form than the router."""
    with pytest.raises(RequestError) as caught:
        model_splice(read_form(body), "large-b")
    assert (caught.value.kind, caught.value.param) == (Kind.INVALID_MULTIPART, "model")
