"""What is read of forms, however they are written and cut, and which ones are refused."""

from __future__ import annotations

import re
import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import Kind, RequestError
from router.protocol import splice
from router.protocol.multipart import (
    BOUNDARY_CHARS_MAX,
    HEADER_BYTES_MAX,
    MODEL_CHARS_MAX,
    PARTS_MAX,
    SURROUNDINGS_BYTES_MAX,
    VALUE_BYTES_MAX,
    Form,
    FormScanner,
    boundary_of,
    spliced_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

B = b"----formdata-undici-0123"
END = b"--" + B + b"--\r\n"


def part(disposition: bytes, value: bytes = b"", *headers: bytes) -> bytes:
    """One part with its delimiter in front, as every client writes it."""
    lines = [b"--" + B, b"Content-Disposition: form-data; " + disposition, *headers, b"", value]
    return b"\r\n".join(lines) + b"\r\n"


MODEL = part(b'name="model"', b"whisper-1")
FILE = part(b'name="file"; filename="a b.wav"', b"RIFF\r\n\r\n--\0\xff", b"Content-Type: audio/wav")


def scanned(body: bytes, cuts: Iterable[int] = (), boundary: bytes = B) -> Form:
    """The form in a body that comes in pieces."""
    scanner = FormScanner(boundary)
    for start, end in pairwise((0, *cuts, len(body))):
        scanner.feed(body[start:end])
    return scanner.finish()


def refusal(body: bytes, cuts: Iterable[int] = (), boundary: bytes = B) -> tuple[Kind, str | None]:
    with pytest.raises(RequestError) as caught:
        scanned(body, cuts, boundary)
    return caught.value.kind, caught.value.param


def named(body: bytes) -> bytes | None:
    """The bytes that stand where the model is said to stand."""
    at = scanned(body).model_at
    return None if at is None else body[slice(*at)]


FORMS = {
    "file first, as openai-node sends it": (FILE + MODEL + END, b"whisper-1"),
    "fields first, as openai-python sends it": (
        MODEL + part(b'name="timestamp_granularities[]"', b"word") + FILE + END,
        b"whisper-1",
    ),
    "unquoted names, as .NET sends them": (
        part(b"name=file; filename=a.wav; filename*=utf-8''a.wav", b"x")
        + part(b"name=model", b"m", b"Content-Type: text/plain; charset=utf-8")
        + END,
        b"m",
    ),
    "escaped name": (part(b'name="mo\\del"', b"m") + END, b"m"),
    "other case of headers and parameters": (
        MODEL.replace(b"Content-Disposition: form-data; n", b"cONTENT-dISPOSITION:FORM-DATA ;\tN").replace(
            b"ame=", b"AME="
        )
        + END,
        b"whisper-1",
    ),
    "other parameters and headers first": (
        part(b'x="name=y";;name="model" ; z=1;', b"m") + END,
        b"m",
    ),
    "header before the disposition": (
        MODEL.replace(b"Content-D", b"Content-Type: text/plain\r\nContent-D") + END,
        b"whisper-1",
    ),
    "name in percent code": (part(b'name="%6dodel"', b"x") + part(b'name="a%22model%22"', b"x") + END, None),
    "brackets": (part(b'name="svg[model]"', b"x") + part(b'name="model[]"', b"x") + MODEL + END, b"whisper-1"),
    "name that contains quotes": (part(b'name="\\"model\\""', b"x") + END, None),
    "file name that contains quotes": (part(b'name="file"; filename="a\\"b; c.wav"', b"x") + MODEL + END, b"whisper-1"),
    "model inside a file": (part(b'name="file"; filename="a"', MODEL.replace(B, B + b"0") + MODEL[2:]) + END, None),
    "file name without a name in it": (part(b'name="file"; filename=""', b"") + END, None),
    "no parts": (END, None),
    "no line break at the end": (MODEL + END[:-2], b"whisper-1"),
    "bare line feed at the end": (MODEL + END[:-2] + b"\n", b"whisper-1"),
    "padding": (MODEL.replace(B, B + b" \t ") + END[:-2] + b" \t ", b"whisper-1"),
    "preamble and epilogue": (b"To be ignored\r\n--" + B + b"x\r\n" + MODEL + END + b"so is this --" + B, b"whisper-1"),
    "line break first": (b"\r\n" + MODEL + END, b"whisper-1"),
    "model in other letters": (part(b'name="model"', "modèle/é😀".encode()) + END, "modèle/é😀".encode()),
    "spaces are part of the name": (part(b'name="model"', b" m ") + END, b" m "),
    "longest model": (part(b'name="model"', b"m" * MODEL_CHARS_MAX) + END, b"m" * MODEL_CHARS_MAX),
    "plain transfer coding": (part(b'name="model"', b"m", b"Content-Transfer-Encoding: 8BIT") + END, b"m"),
    "lines like delimiters": (
        part(b'name="f"; filename="f"', b"\r\n--".join((b"", B[:-1], B + b"X", B + b"- ", B + b" X\r\n\r")))
        + MODEL
        + END,
        b"whisper-1",
    ),
    "delimiter inside a line": (part(b'name="f"', b"x--" + B + b"\r\n\n --" + B + b"--") + MODEL + END, b"whisper-1"),
}


@pytest.mark.parametrize(("body", "model"), FORMS.values(), ids=FORMS)
def test_the_model_is_found_where_it_stands(body: bytes, model: bytes | None) -> None:
    """Only a part whose name is exactly `model` counts, however the name is written and wherever the part stands."""
    form = scanned(body)
    assert named(body) == model
    assert form.model == (None if model is None else model.decode())
    assert form.fields.get("model") == model


@pytest.mark.parametrize("body", [body for body, _ in FORMS.values()], ids=FORMS)
def test_pieces_do_not_matter(body: bytes) -> None:
    """A form that is cut in two anywhere, or comes byte by byte, reads as the whole one."""
    form = scanned(body)
    for cut in range(len(body) + 1):
        assert scanned(body, [cut]) == form
    assert scanned(body, range(1, len(body))) == form


def test_fields_and_sizes_are_read() -> None:
    """Short text parts that the router knows are kept as written; files and text are counted apart."""
    body = (
        part(b'name="n"', b"2")
        + part(b'name="stream"', b"true\r\n")
        + part(b'name="size"', b"")
        + part(b'name="quality"', b"q" * VALUE_BYTES_MAX)
        + part(b'name="seconds"', b"s" * (VALUE_BYTES_MAX + 1))
        + part(b'name="background"; filename="b.png"', b"12345")
        + part(b'name="prompt"', b"1234567")
        + part(b'name="image[]"; filename=a', b"123")
        + END
    )
    form = scanned(body)
    assert form.fields == {"n": b"2", "stream": b"true\r\n", "size": b"", "quality": b"q" * VALUE_BYTES_MAX}
    assert (form.parts, form.files, form.file_bytes) == (8, 2, 8)
    assert form.text_bytes == 1 + 6 + 0 + VALUE_BYTES_MAX + VALUE_BYTES_MAX + 1 + 7
    assert scanned(body, range(1, len(body))) == form


def test_another_part_can_be_put_in_front() -> None:
    """A new part at `begins_at` becomes the first one, whatever stands before the delimiter."""
    for body in (FILE + END, END, b"\r\n" + FILE + END, b"preamble\r\n" + FILE + END):
        at = scanned(body).begins_at
        longer = body[:at] + MODEL + body[at:]
        assert named(longer) == b"whisper-1"
        assert scanned(longer).file_bytes == scanned(body).file_bytes
        assert scanned(longer).parts == scanned(body).parts + 1


BROKEN = {
    "empty": b"",
    "no delimiter": b"model=whisper-1",
    "another boundary": (MODEL + END).replace(B, b"other"),
    "no final delimiter": MODEL,
    "no final delimiter, line cut": MODEL[:-2],
    "cut in the final delimiter": MODEL + END[:-3],
    "cut in the headers": MODEL + b"--" + B + b"\r\nContent-Disposition: form-data",
    "headers without end": b"--" + B + b'\r\nContent-Disposition: form-data; name="a"\r\n' + MODEL + END,
    "headers without end or a line": b"--" + B + b"\r\n" + MODEL + END,
    "no headers": b"--" + B + b"\r\n\r\nx\r\n" + END,
    "no disposition": b"--" + B + b"\r\nContent-Type: text/plain\r\n\r\nx\r\n" + END,
    "no name": part(b'filename="model"', b"x") + END,
    "another disposition": MODEL.replace(b"form-data; name", b"attachment; name") + END,
    "two dispositions": MODEL.replace(b"Content-D", b'Content-Disposition: form-data; name="a"\r\nContent-D') + END,
    "two names": part(b'name="a"; name="model"', b"x") + END,
    "two names in other case": part(b'name="a"; Name="model"', b"x") + END,
    "name in another coding": part(b"name*=utf-8''model", b"x") + END,
    "name in two codings": part(b"name=a; name*=utf-8''model", b"x") + END,
    "name in pieces": part(b"name=a; name*0=mod; name*1=el", b"x") + END,
    "name behind escaped quotes": part(b'filename="\\"; name=\\"model\\"; x=\\"";name="a"', b"x") + END,
    "open quotes": part(b'name="model', b"x") + END,
    "text behind the name": part(b'name="a"model', b"x") + END,
    "space in a token": part(b"name=model x", b"x") + END,
    "space around the sign": part(b"name = model", b"x") + END,
    "folded header": MODEL.replace(b"; name", b";\r\n name") + END,
    "header without colon": MODEL.replace(b"Content-D", b"X\r\nContent-D") + END,
    "space before the colon": MODEL.replace(b"Disposition:", b"Disposition :") + END,
    "line feed in a header": MODEL.replace(b"; name", b";\n name") + END,
    "NUL in a header": MODEL.replace(b'model"', b'model\0"') + END,
    "too many parameters": part(b"name=a" + b"".join(b";p%d=" % n + b"x" for n in range(20)), b"x") + END,
    "bare line feeds": (MODEL + END).replace(b"\r\n", b"\n"),
    "bare line feeds in the preamble": MODEL.replace(b"\r\n", b"\n") + b"\r\n" + MODEL + END,
    "line feed before a delimiter": part(b"name=f; filename=f", b"x\n" + MODEL[:-2]) + END,
    "line feed before a final delimiter": part(b"name=f; filename=f", b"x\n--" + B + b"--"),
    "line feed behind a delimiter": part(b"name=f; filename=f", b"x\r\n--" + B + b"\n") + MODEL + END,
    "carriage return behind a delimiter": part(b"name=f; filename=f", b"x\r\n--" + B + b"\rx") + MODEL + END,
    "text behind a final delimiter": part(b"name=f; filename=f", b"x\r\n--" + B + b"--x") + MODEL + END,
    "carriage return before a delimiter": part(b"name=f; filename=f", b"x\r" + MODEL[:-2]) + END,
    "carriage return before a final delimiter": part(b"name=f; filename=f", b"x\r--" + B + b"--") + MODEL + END,
    "form feed behind a delimiter": part(b"name=f; filename=f", b"x\r\n--" + B + b"\x0c\r\n") + MODEL + END,
    "vertical tab behind a delimiter": part(b"name=f; filename=f", b"x\r\n--" + B + b" \x0b\n") + MODEL + END,
    "delimiter inside a line of the preamble": b"x" + MODEL + MODEL + END,
    "final delimiter inside a line of the preamble": b"x--" + B + b"--\r\n" + MODEL + END,
    "endless padding": MODEL.replace(B, B + b" " * 129) + END,
    "delimiter for a value": part(b"name=f; filename=f", MODEL[:-2]) + END,
    "final delimiter for a value": part(b"name=f; filename=f", b"--" + B + b"--"),
    "part behind the final delimiter": END + MODEL + END,
    "second final delimiter": MODEL + END + END,
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_what_readers_could_read_differently_is_refused(body: bytes) -> None:
    """A form that is cut off, breaks the rules, or that a forgiving reader would read differently is refused."""
    assert refusal(body) == (Kind.INVALID_MULTIPART, None)
    for cut in range(len(body) + 1):
        assert refusal(body, [cut]) == (Kind.INVALID_MULTIPART, None)
    assert refusal(body, range(1, len(body))) == (Kind.INVALID_MULTIPART, None)


def test_a_delimiter_is_no_header() -> None:
    """A boundary with a colon makes no header of a delimiter that comes before the headers' end."""
    body = b"--a:b\r\nContent-Disposition: form-data; name=a\r\n--a:b\r\nX: y\r\n\r\nv\r\n--a:b--"
    assert scanned(body.replace(b"\r\n--a:b\r\n", b"\r\n"), boundary=b"a:b").parts == 1
    assert refusal(body, boundary=b"a:b") == (Kind.INVALID_MULTIPART, None)


DOUBLES = {
    "model": [
        MODEL + MODEL,
        MODEL + FILE + MODEL,
        MODEL + part(b"name=model", b"whisper-1"),
        MODEL + part(b'name="mode\\l"', b"x"),
        MODEL + part(b"name=Model", b"x"),
        part(b'name="MODEL"', b"x"),
    ],
    "stream": [part(b"name=stream", b"true") + part(b"name=stream", b"false"), part('name="\u017ftream"'.encode())],
    "n": [part(b"name=n", b"1") + part(b"name=n", b"9"), part(b"name=n; filename=n", b"1") + part(b"name=n", b"9")],
}


@pytest.mark.parametrize(("param", "body"), [(param, body) for param, bodies in DOUBLES.items() for body in bodies])
def test_two_spellings_of_one_field_are_refused(param: str, body: bytes) -> None:
    """A field that the router reads comes once and in lower case, or is refused by name."""
    assert refusal(body + END) == (Kind.DUPLICATE_PARAMETER, param)


MODELS = {
    "empty": part(b"name=model", b""),
    "too long": part(b"name=model", b"m" * (MODEL_CHARS_MAX + 1)),
    "much too long": part(b"name=model", b"m" * 10_000),
    "not UTF-8": part(b"name=model", b"mod\xe8le"),
    "CR": part(b"name=model", b"a\rb"),
    "LF": part(b"name=model", b"a\n"),
    "NUL": part(b"name=model", b"a\0"),
    "file": part(b'name=model; filename=""', b"m"),
    "file in another coding": part(b"name=model; filename*=utf-8''a", b"m"),
    "base64": part(b"name=model", b"bQ==", b"Content-Transfer-Encoding: base64"),
    "quoted-printable": part(b"name=model", b"=6d", b"content-transfer-encoding:Quoted-Printable"),
}


@pytest.mark.parametrize("body", MODELS.values(), ids=MODELS)
def test_model_must_be_a_name(body: bytes) -> None:
    """A model is plain text of 1 to 512 characters, and the refusal says so."""
    for cuts in (range(0), range(1, len(body))):
        assert refusal(body + END, cuts) == (Kind.INVALID_TYPE, "model")


def test_both_kinds_of_bodies_allow_the_same_models() -> None:
    """The longest name in a form is the longest one in JSON, and no letters make it too long to be kept."""
    assert MODEL_CHARS_MAX == splice.MODEL_CHARS_MAX
    assert scanned(part(b"name=model", "😀".encode() * MODEL_CHARS_MAX) + END).model == "😀" * MODEL_CHARS_MAX


def test_faults_are_told_at_once() -> None:
    """What cannot become right is refused before the rest of the body has come."""
    for beginning in (
        b"x" * (SURROUNDINGS_BYTES_MAX + len(B) + 4),
        b"--" + B + b"\nX",
        MODEL + MODEL[:-11],
        part(b"name=model", b"m" * (VALUE_BYTES_MAX + len(B) + 4)),
        b"--" + B + b"\r\n" + b"x" * (HEADER_BYTES_MAX + 4),
        END + b"x" * (SURROUNDINGS_BYTES_MAX + len(B) + 4),
    ):
        with pytest.raises(RequestError):
            FormScanner(B).feed(beginning)


def test_headers_are_bounded() -> None:
    """A part may have 8 KiB of headers and not one byte more, however they arrive."""
    head = b"--" + B + b"\r\n"
    disposition = b"Content-Disposition: form-data; name=a\r\nX:"
    longest = head + disposition.ljust(HEADER_BYTES_MAX, b"x") + b"\r\n\r\n\r\n" + END
    assert scanned(longest).parts == 1
    longer = longest.replace(b"X:", b"X:x")
    for cut in range(len(head) + HEADER_BYTES_MAX - 4, len(head) + HEADER_BYTES_MAX + 8):
        assert scanned(longest, [cut]).parts == 1
        assert refusal(longer, [cut]) == (Kind.INVALID_MULTIPART, None)


def test_parts_are_bounded() -> None:
    """A thousand parts are read, one more is refused."""
    assert scanned(part(b"name=a") * PARTS_MAX + END).parts == PARTS_MAX
    assert refusal(part(b"name=a") * (PARTS_MAX + 1) + END) == (Kind.INVALID_MULTIPART, None)


@pytest.mark.parametrize("step", [1 << 30, 1000, 7])
def test_what_stands_around_the_parts_is_bounded(step: int) -> None:
    """64 KiB may stand before the first delimiter and behind the last one, and not one byte more."""
    around = b"x" * SURROUNDINGS_BYTES_MAX
    for body in (around + b"\r\n" + MODEL + END, MODEL + END[:-2] + b"\n" + around[1:]):
        assert scanned(body, range(step, len(body), step)).model == "whisper-1"
    for body in (b"x" + around + b"\r\n" + MODEL + END, MODEL + END[:-2] + b"\n" + around):
        assert refusal(body, range(step, len(body), step)) == (Kind.INVALID_MULTIPART, None)


def test_lookalikes_are_bounded() -> None:
    """Some lines that begin like a delimiter are content; so many that they cost time are refused."""
    line = b"\n--" + B + b"X"
    assert scanned(part(b"name=f", line * 10_000) + END).text_bytes == 10_000 * len(line)
    assert refusal(part(b"name=f", line * 10_001) + END) == (Kind.INVALID_MULTIPART, None)
    held = part(b"name=response_format", b"\n--aX" * 400).replace(B, b"a")
    assert scanned(held + b"--a--", range(1, len(held)), b"a").fields["response_format"] == b"\n--aX" * 400


def test_memory_stays_flat() -> None:
    """Of a file of 64 MB nothing is kept, whatever it looks like."""
    for content in (b"x", b"\n", b"\r\n--", b"\n--" + B + b"X" + b"x" * 10_000):
        piece = content * (65_536 // len(content))
        scanner = FormScanner(B)
        scanner.feed(part(b"name=f; filename=f")[:-2])
        tracemalloc.start()
        for _ in range(1000):
            scanner.feed(piece)
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 1_000
        assert peak < 3 * len(piece)
        scanner.feed(b"\r\n" + MODEL + END)
        assert scanner.finish().model == "whisper-1"


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'multipart/form-data; boundary="abc"', b"abc"),
        (b'Multipart/Form-Data;charset=utf-8;BOUNDARY="a b=/:?c";', b"a b=/:?c"),
        (b' multipart/form-data ; x="; boundary=no" ; Boundary=a\'+._-c ', b"a'+._-c"),
        (b"multipart/form-data; boundary=*****", b"*****"),
        (b"multipart/form-data; boundary=" + b"x" * BOUNDARY_CHARS_MAX, b"x" * BOUNDARY_CHARS_MAX),
    ],
)
def test_the_boundary_is_read(content_type: bytes, boundary: bytes) -> None:
    """Quotes, order, case and white space do not hide the boundary."""
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"multipart/form-data",
        b"multipart/form-data; boundary",
        b"multipart/form-data; boundary=",
        b'multipart/form-data; boundary=""',
        b'multipart/form-data; boundary="abc',
        b'multipart/form-data; boundary="abc "',
        b'multipart/form-data; boundary="a\\bc"',
        b'multipart/form-data; boundary="a\r\nb"',
        b'multipart/form-data; boundary="\xe9"',
        b"multipart/form-data; boundary=a b",
        b"multipart/form-data; boundary=a:b",
        b"multipart/form-data; boundary = a",
        b"multipart/form-data, boundary=a",
        b"multipart/form-data; boundary=a; boundary=b",
        b"multipart/form-data; boundary=a; boundary*=b",
        b"multipart/form-data; boundary*0=a",
        b"multipart/form-data; boundary=" + b"x" * (BOUNDARY_CHARS_MAX + 1),
        b"multipart/mixed; boundary=a",
        b"application/json; boundary=a",
        b"text/plain; multipart/form-data; boundary=a",
    ],
)
def test_a_boundary_in_doubt_is_refused(content_type: bytes) -> None:
    """No boundary, two of them, or one that readers could read differently: refused."""
    with pytest.raises(RequestError) as caught:
        boundary_of(content_type)
    assert caught.value.kind is Kind.INVALID_MULTIPART


def test_a_new_model_must_fit_into_the_form() -> None:
    """A name upstream is written as UTF-8; one that would end its part is refused."""
    assert spliced_value("gpt/é😀", B) == "gpt/é😀".encode()
    for model in ("a" + B.decode(), "a\rb", "a\n", "a\0", "\ud800"):
        with pytest.raises(ValueError):
            spliced_value(model, B)


_FRAGMENTS = st.sampled_from(
    [
        b"\r\n--",
        B,
        B[:7],
        b"--",
        b"-",
        b"\r",
        b"\n",
        b"\r\n",
        b" ",
        b"X",
        b"\0\xff",
        b'name="model"',
        b"\r\n\r\n",
        MODEL,
    ]
) | st.binary(max_size=5)
_NEARLY = re.compile(rb"(?:\A|[\r\n])--" + re.escape(B) + rb"(?:--|[ \t\v\f]*[\r\n])")
_CONTENTS = (
    st.lists(_FRAGMENTS, max_size=12)
    .map(b"".join)
    .filter(lambda content: not _NEARLY.search(content + b"\r\n--"))
)  # fmt: skip
_OTHERS = st.sampled_from(
    [b"name=f; filename=f", b'name="svg[model]"', b'name="prompt"', b'name=""', b'name="\xc3\xa9"']
)
_NAMES = st.sampled_from([b'name="model"', b"name=model", b'x=1; name="model"', b'name="\\model"'])
_MODELS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=20).map(str.encode)


@st.composite
def _forms(draw: st.DrawFn) -> tuple[bytes, list[tuple[bytes, int, int]]]:
    """A form in any order, with disposition, start and end of each part's content."""
    parts = draw(st.lists(st.tuples(_OTHERS, _CONTENTS), max_size=4))
    model = draw(_MODELS)
    if not _NEARLY.search(model + b"\r\n--"):
        parts.insert(draw(st.integers(0, len(parts))), (draw(_NAMES), model))
    body = draw(st.sampled_from([b"", b"\r\n", b"preamble\r\n", b"\n--X\r\n"]))
    places = []
    for disposition, content in parts:
        written = part(disposition, content)
        body += written
        places.append((disposition, len(body) - 2 - len(content), len(body) - 2))
    return body + END + draw(st.sampled_from([b"", b"epilogue", b"\r\n--" + B[:-1]])), places


def _contents(body: bytes) -> list[bytes]:
    """The contents of a form's parts, as a plain reader of the whole body finds them."""
    inner = (b"\r\n" + body).split(b"\r\n--" + B + b"--\r\n")[0]
    return [piece.split(b"\r\n\r\n", 1)[1] for piece in inner.split(b"\r\n--" + B + b"\r\n")[1:]]


@given(_forms(), st.lists(st.integers(0, 2_000), max_size=6).map(sorted))
def test_any_form_is_read_as_it_was_written(made: tuple[bytes, list[tuple[bytes, int, int]]], cuts: list[int]) -> None:
    """Contents that look like delimiters mislead nobody, and a new name changes its part alone."""
    body, places = made
    form = scanned(body, [cut for cut in cuts if cut < len(body)])
    files = [end - start for disposition, start, end in places if b"filename" in disposition]
    assert (form.parts, form.files, form.file_bytes) == (len(places), len(files), sum(files))
    assert form.text_bytes == sum(end - start for _, start, end in places) - sum(files)
    models = [(start, end) for disposition, start, end in places if b"model" in disposition and b"[" not in disposition]
    assert form.model_at == (models[0] if models else None)
    contents = _contents(body)
    assert contents == [body[start:end] for _, start, end in places]
    if form.model_at is not None:
        start, end = form.model_at
        contents[places.index(next(place for place in places if place[1] == start))] = b"new/name"
        assert _contents(body[:start] + spliced_value("new/name", B) + body[end:]) == contents


@given(
    st.lists(
        st.sampled_from([MODEL, FILE, END, B, b"--", b"\r\n", b"\n", b"\r", b" ", b"name*=x", b'"', b";", b"\\", b":"])
        | st.binary(max_size=3)
    ).map(b"".join),
    st.lists(st.integers(0, 500), max_size=4).map(sorted),
)
def test_any_bytes_are_read_or_refused(body: bytes, cuts: list[int]) -> None:
    """Whatever comes, it is a form or a `RequestError`, and pieces decide nothing."""
    try:
        form: Form | Kind = scanned(body)
    except RequestError as fault:
        form = fault.kind
    try:
        again: Form | Kind = scanned(body, [cut for cut in cuts if cut < len(body)])
    except RequestError as fault:
        again = fault.kind
    assert again == form
