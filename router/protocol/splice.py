"""What the router reads of a JSON request's body, and the only changes it makes to it (PROTOCOL 3.4, 5.3).

A body is never written anew, because reading and writing JSON is not the identity. `read_ask` finds the places that
may change, `compose` cuts the body there. Places are exact by construction, not found by a search that content could
mislead: msgspec validates the body and hands out its top-level members in order, each with its raw value; between two
values there is only punctuation, white space and one key.
"""

from __future__ import annotations

import codecs
import re
from itertools import count
from typing import TYPE_CHECKING, NoReturn

import msgspec

from router.errors import Kind, RequestError
from router.protocol.asks import N_MAX, Ask, Splice
from router.protocol.multipart import spliced_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MODEL_CHARS_MAX = 512
"""The longest model name; a name is looked up, logged and sent on, so it must not be a document."""

MEMBERS_MAX = 10_000
"""Top-level members of one body; a chat request has about forty. Each costs some 250 bytes while it is read."""

TOKENS_MAX = 1_000_000_000
"""What larger token limits count as, so that sums of them stay small integers."""

_COUNTED_FROM = 5 * MEMBERS_MAX
"""Smaller bodies cannot exceed `MEMBERS_MAX`: a member takes at least the five bytes `"":1,`."""

_VIEWED_FROM = 65_536
"""Bodies from this size are cut into views; below it copying is cheaper than building them."""

_MODEL_BYTES_MAX = 2 + 12 * MODEL_CHARS_MAX
"""The longest spelling of a model name: two quotes, and two `\\uXXXX` escapes for each character."""

_GUARDED = frozenset(("model", "stream", "stream_options", "previous_response_id", "conversation"))
"""Names that may be written once and in one way only (PROTOCOL 3.4): what is paid for, and whose it is."""

_USUAL = _GUARDED | {
    "messages", "prompt", "temperature", "top_p", "max_tokens", "max_completion_tokens", "n", "stop", "tools",
    "tool_choice", "parallel_tool_calls", "response_format", "seed", "user", "presence_penalty", "frequency_penalty",
    "logit_bias", "logprobs", "top_logprobs", "reasoning_effort", "metadata", "store", "service_tier", "top_k", "min_p",
    "verbosity", "prompt_cache_key", "safety_identifier", "modalities", "audio", "functions", "function_call",
}  # fmt: skip
"""Names that are no variant of a guarded one; a body of only these needs no closer look."""

_GUARDED_OPTIONS = frozenset(("include_usage",))
_USUAL_OPTIONS = _GUARDED_OPTIONS | {"include_obfuscation", "continuous_usage_stats"}

_ASK = b'{"include_usage":true}'
_INSERT = b'"stream_options":' + _ASK + b","
_ASKED = frozenset((_ASK, b'{"include_usage": true}', b'{ "include_usage": true }'))
"""What clients that ask for usage themselves write; other spellings are read."""

KEY = re.compile(rb'[ \t\n\r]*[{,][ \t\n\r]*"[^"\\]*+(?:\\.[^"\\]*+)*+"[ \t\n\r]*:[ \t\n\r]*')
"""What stands before a value: the punctuation, its key and the colon. Possessive, so that no key can make it slow."""

MEDIA_FROM = 16_384
"""Smaller bodies hold no picture worth looking for."""

_MEDIA = b";base64,"
_MEDIA_BYTES_MIN = 4_096
_MEDIA_TEXT_BYTES = 3_000
"""What an inline picture or sound counts as text: about 850 tokens, a usual price of a picture."""

Part = bytes | memoryview
_QUOTE = ord('"')
_MODEL_FIRST = b'{"model":"'
_MODEL_FIRST_AT = len(_MODEL_FIRST) - 1
"""How most bodies begin, and where the model's name then stands."""
_TOKEN_DIGITS_MAX = 9
"""Of a number below `TOKENS_MAX`."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_ask(body: bytes, *, model_optional: bool = False, asks_usage: bool = True) -> Ask:
    """Read the body of a request that is a JSON object: 2.4 us for 1 KB, 60 us for 1 MB with one picture.

    Args:
        body: The client's bytes.
        model_optional: A body without `model` is sound.
        asks_usage: `stream_options` means something on this route.

    Raises:
        RequestError: INVALID_JSON, DUPLICATE_PARAMETER, MISSING_PARAMETER or INVALID_TYPE.
    """
    if not body.isascii():
        _check_utf8(body)  # msgspec does not look at the encoding of strings that it skips
    text, cuts = (body, []) if len(body) < MEDIA_FROM else without_media(body)
    members, values = read_object(text, _GUARDED, _USUAL)
    if text.startswith(_MODEL_FIRST):
        model_at: tuple[int, int] | None = (_MODEL_FIRST_AT, _MODEL_FIRST_AT + len(values["model"]))
    else:
        model_at = _model_at(text, members, values, optional=model_optional)
    model, stream, max_tokens, n = _usual_facts(values) or _facts(text, values, model_at)
    wants_usage, ask_at = _read_stream_options(text, members, values) if stream and asks_usage else (False, None)
    if cuts:
        if model_at is not None:
            length = model_at[1] - model_at[0]
            model_at = (placed(model_at[0], cuts), placed(model_at[1], cuts))
            if model_at[1] - model_at[0] != length:
                _refuse_model()  # what was left out was a part of the name
        ask_at = (placed(ask_at[0], cuts), placed(ask_at[1], cuts), ask_at[2]) if ask_at is not None else None
    size = len(text) + len(cuts) * _MEDIA_TEXT_BYTES
    ask = Ask(model, stream, wants_usage, max_tokens, n, size, model_at, ask_at)
    if asks_usage:
        return ask
    if cuts and "voice" in values:  # text to be spoken is counted whole, whatever it looks like
        _, values = read_object(body, _GUARDED, _USUAL)
    return _with_particulars(ask, text, values)


def _model_at(text: bytes, members: Members, values: Values, *, optional: bool) -> tuple[int, int] | None:
    if "model" not in values:
        if optional:
            return None
        raise RequestError(Kind.MISSING_PARAMETER, "The body must name a model.", param="model")
    return _span(text, members, "model")


def _with_particulars(ask: Ask, text: bytes, values: Values) -> Ask:
    """Add what only some routes have: no model, the id of an earlier answer, text to be spoken."""
    named = _text_of(values, "previous_response_id")
    if not named and "conversation" in values:
        named = _identity(values["conversation"])
    spoken = len(_text_of(values, "input")) if "voice" in values else 0
    if ask.model_at is not None and not named and not spoken:
        return ask
    return msgspec.structs.replace(
        ask, named_id=named, characters=spoken, begins_at=text.index(b"{") + 1, is_empty=not values
    )


def _text_of(values: Values, name: str) -> str:
    """Return a member that is a string, empty if it is none: judging it is the upstream's business."""
    try:
        return _STRING.decode(values[name]) if name in values else ""
    except msgspec.DecodeError:
        return ""


def _identity(raw: msgspec.Raw) -> str:
    """Return an id that is written as a string, or as an object that holds it (PROTOCOL 2.2)."""
    try:
        value = _IDENTITY.decode(raw)
    except msgspec.DecodeError:
        return ""
    return value if isinstance(value, str) else value.id


_Facts = tuple[str, bool, int | None, int]
"""Model, stream, the largest number of tokens in an answer if it is given, and choices."""


_BOOLEANS = {b"true": True, b"false": False, b"null": False}


def _usual_facts(values: Values) -> _Facts | None:
    """Read the facts as they are usually written; None if one of them is not. 0.7 us, against 1.8 for a closer look."""
    model = bytes(values.get("model", b""))
    if not 2 < len(model) <= MODEL_CHARS_MAX or model[0] != _QUOTE or b"\\" in model or "n" in values:
        return None
    stream = _BOOLEANS.get(bytes(values.get("stream", b"false")))
    if stream is None:
        return None
    tokens = None
    raw = values.get("max_completion_tokens", values.get("max_tokens", values.get("max_output_tokens")))
    if raw is not None:
        digits = bytes(raw)
        if not digits.isdigit() or len(digits) > _TOKEN_DIGITS_MAX:
            return None
        tokens = int(digits)
    return model[1:-1].decode(), stream, tokens, 1


def _facts(text: bytes, values: Values, model_at: tuple[int, int] | None) -> _Facts:
    """Read the facts one by one.

    Raises:
        RequestError: INVALID_TYPE, with the member.
    """
    n = _read_number(values["n"]) or 1 if "n" in values else 1
    model = _read_model(text, model_at) if model_at is not None else ""
    return model, _read_boolean(values, "stream"), _read_max_tokens(values), min(n, N_MAX)


def compose(ask: Ask, body: bytes, model: str, *, ask_usage: bool, edits: Sequence[Splice] = ()) -> list[Part]:
    """Return the parts of the body to send: `model` replaced, and usage asked for if it has to be.

    Args:
        ask: What `read_ask` found in this very body.
        body: The client's bytes. Large ones are not copied: the parts are views of it.
        model: The model's name at the upstream; the client's own name changes nothing.
        ask_usage: Whether the upstream may be asked for usage on streams.
        edits: What else has to be changed (`edits.edits`).
    """
    if not model or model == ask.model or ask.model_at is None or ask.boundary:
        splices = model_splice(ask, model)
    else:
        splices = [(*ask.model_at, msgspec.json.encode(model))]
    if ask_usage and ask.ask_at is not None:
        splices.append(ask.ask_at)
    if edits:
        splices += edits
    if not splices:
        return [body]
    if len(splices) > 1:
        splices.sort()
    source = body if len(body) < _VIEWED_FROM else memoryview(body)
    parts: list[Part] = []
    done = 0
    for start, end, new in splices:
        parts += (source[done:start], new)
        done = end
    parts.append(source[done:])
    return parts


def model_splice(ask: Ask, model: str) -> list[Splice]:
    """Return what writes the model's name into the body, if it is not there already.

    A body that named no model gets the name after its opening brace, or a form a part of its own before the others.

    Raises:
        RequestError: INVALID_MULTIPART: the name would end a part of this form.
    """
    if not model or (ask.model_at is not None and model == ask.model):
        return []
    if ask.boundary:
        try:
            value = spliced_value(model, ask.boundary)
        except ValueError:
            message = "The form's boundary occurs in the model's name; choose a longer boundary."
            raise RequestError(Kind.INVALID_MULTIPART, message, param="model") from None
        if ask.model_at is not None:
            return [(*ask.model_at, value)]
        part = b'--%b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%b\r\n' % (ask.boundary, value)
        return [(ask.begins_at, ask.begins_at, part)]
    value = msgspec.json.encode(model)
    if ask.model_at is not None:
        return [(*ask.model_at, value)]
    return [(ask.begins_at, ask.begins_at, b'"model":' + value + (b"" if ask.is_empty else b","))]


_Cut = tuple[int, int]
"""Where something was left out of a text, in what is left, and how many bytes."""


def without_media(body: bytes) -> tuple[bytes, list[_Cut]]:
    """Return a body without its long inline pictures and sounds, and where they were.

    What stands between `;base64,` and the next quote, without a backslash, is the rest of one string, whatever it is:
    it can neither end the string nor hold a member. To read a megabyte of it would cost 250 us and tell us nothing; if
    it is no base64, the upstream will say so.
    """
    parts: list[bytes] = []
    cuts: list[_Cut] = []
    done = removed = 0
    at = body.find(_MEDIA)
    while at >= 0:
        start = at + len(_MEDIA)
        end = body.find(b'"', start)
        if end < 0:
            break
        if end - start >= _MEDIA_BYTES_MIN and body.find(b"\\", start, end) < 0:
            parts.append(body[done:start])
            cuts.append((start - removed, end - start))
            removed += end - start
            done = end
        at = body.find(_MEDIA, end)
    if not cuts:
        return body, cuts
    parts.append(body[done:])
    return b"".join(parts), cuts


def placed(at: int, cuts: list[_Cut]) -> int:
    """Return where a place in the shortened body is in the whole one."""
    return at + sum(length for place, length in cuts if place <= at)


class _Name(str):
    """A member's name that equals only itself, so that a dict keeps duplicates; `str()` gives the plain name."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


Values = dict[str, msgspec.Raw]
"""The values of an object by name, the last of duplicates; without the white space around them."""

Members = Values | dict[_Name, msgspec.Raw]
"""Every member of an object in the order they were written, duplicates included."""

_VALUES = msgspec.json.Decoder(Values)
_MEMBERS = msgspec.json.Decoder(dict[_Name, msgspec.Raw], dec_hook=str.__new__)
_STRING = msgspec.json.Decoder(str)
_BOOLEAN = msgspec.json.Decoder(bool | None)
_NUMBER = msgspec.json.Decoder(int | float | None)


class _Identified(msgspec.Struct, gc=False):
    id: str = ""


_IDENTITY = msgspec.json.Decoder(str | _Identified)


def read_object(body: bytes, guarded: frozenset[str], usual: frozenset[str], path: str = "") -> tuple[Members, Values]:
    """Validate a JSON object strictly and return its members, none of the guarded ones written twice.

    Raises:
        RequestError: INVALID_JSON, whatever is wrong with it, or DUPLICATE_PARAMETER.
    """
    if not body:
        _invalid("it is empty")
    try:
        members, values = _decode(body)
    except msgspec.ValidationError:
        _invalid("it is another kind of value")
    except RecursionError:
        _invalid("it is nested too deeply")
    except msgspec.DecodeError as fault:
        members, values = _decode_surrogates(body, str(fault))
    if len(values) != len(members) or not usual.issuperset(values):
        _refuse_variants(map(str, members), guarded, path)
    return members, values


def _decode(body: bytes) -> tuple[Members, Values]:
    """Return members and values. What SDKs write takes 1.4 us for 1 KB, other spacing 4 us."""
    if len(body) >= _COUNTED_FROM:
        members = _decode_counted(body)
    else:
        values = _VALUES.decode(body)
        # This is the length of these members without white space and escapes in keys. Nothing can be written shorter,
        # so a body of this length holds no duplicate that the dict has swallowed.
        if len(body) == sum(map(len, values)) + sum(map(len, values.values())) + 4 * len(values) + 1:
            return values, values
        members = _MEMBERS.decode(body)
    return members, dict(zip(map(str, members), members.values(), strict=True))


def _decode_counted(body: bytes) -> dict[_Name, msgspec.Raw]:
    numbers = count(1)

    def name(kind: type[_Name], text: str) -> _Name:
        if next(numbers) > MEMBERS_MAX:
            _invalid(f"it has more than {MEMBERS_MAX} members")
        return kind(text)

    return msgspec.json.Decoder(dict[_Name, msgspec.Raw], dec_hook=name).decode(body)


def _decode_surrogates(body: bytes, fault: str) -> tuple[Members, Values]:
    """Decode a body that msgspec refuses for an escaped lone surrogate, valid JSON that occurs where text was cut.

    Only names and places are read from here, so surrogates are read as escapes of the same length from the private use
    area, which are part of no name we look for.
    """
    readable, changes = _SURROGATE.subn(rb"\\ue0", body)
    if not changes:
        _invalid(fault)
    try:
        return _decode(readable)
    except RecursionError:
        _invalid("it is nested too deeply")
    except msgspec.DecodeError as still:
        _invalid(str(still))


def _check_utf8(body: bytes) -> None:
    """Check the encoding in pieces: decoded whole, one emoji would make 64 MB of ASCII 256 MB of text."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    try:
        for at in range(0, len(body), 65_536):
            decode(body[at : at + 65_536])
        decode(b"", final=True)
    except UnicodeDecodeError:
        _invalid("it is not UTF-8")


def _refuse_variants(names: Iterable[str], guarded: frozenset[str], path: str) -> None:
    """Refuse a guarded name that comes twice or in another case.

    Go upstreams match names case-insensitively and take the last: the client would be billed for one model and get
    another. Case folding is Unicode's, as theirs is: U+017F (long s) and U+212A (kelvin) count as `s` and `k`.
    """
    seen = set()
    for name in names:
        folded = name.casefold()
        if folded in guarded:
            if name != folded or name in seen:
                message = f"'{path}{folded}' must be written once, in lower case."
                raise RequestError(Kind.DUPLICATE_PARAMETER, message, param=path + folded)
            seen.add(name)


def _span(body: bytes, members: Members, wanted: str) -> tuple[int, int]:
    """Return start and end of the value of a member that exists. Stepping over the values before it costs nothing."""
    at = 0
    for name, raw in members.items():
        key = KEY.match(body, at)
        assert key is not None, "a key stands before every value"
        start = key.end()
        at = start + len(raw)
        if str(name) == wanted:
            return start, at
    raise AssertionError("the member exists")


def _read_model(body: bytes, at: tuple[int, int]) -> str:
    start, end = at
    model = ""
    if end - start <= _MODEL_BYTES_MAX:
        try:
            model = _STRING.decode(body[start:end])
        except msgspec.DecodeError:
            model = ""  # not a string, or one with a lone surrogate, which is no text
    if not 0 < len(model) <= MODEL_CHARS_MAX:
        _refuse_model()
    return model


def _refuse_model() -> NoReturn:
    message = f"'model' must be a string of 1 to {MODEL_CHARS_MAX} characters."
    raise RequestError(Kind.INVALID_TYPE, message, param="model")


def _read_boolean(values: Values, name: str, path: str = "") -> bool:
    """Return a member that may be true, false, null or absent; the last three mean the same."""
    if name not in values:
        return False
    try:
        return _BOOLEAN.decode(values[name]) is True
    except msgspec.DecodeError:
        message = f"'{path}{name}' must be true or false."
        raise RequestError(Kind.INVALID_TYPE, message, param=path + name) from None


def _read_max_tokens(values: Values) -> int | None:
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        if name in values:
            tokens = _read_number(values[name])
            if tokens is not None:
                return min(tokens, TOKENS_MAX)
    return None


def _read_number(raw: msgspec.Raw) -> int | None:
    """Return a whole number that is not negative, None for anything else: judging it is the upstream's business."""
    try:
        number = _NUMBER.decode(raw)
    except msgspec.DecodeError:
        return None
    return None if number is None or number < 0 or number % 1 else int(number)


def _read_stream_options(body: bytes, members: Members, values: Values) -> tuple[bool, Splice | None]:
    """Return whether the client asks for usage itself, and if not, the splice that does (the table of PROTOCOL 5.3)."""
    raw = values.get("stream_options")
    if raw is None:
        start = body.index(b"{") + 1
        return False, (start, start, _INSERT)
    if bytes(raw) in _ASKED:
        return True, None
    start, end = _span(body, members, "stream_options")
    options = body[start:end]
    if options == b"null":
        return False, (start, end, _ASK)
    if not options.startswith(b"{"):
        raise RequestError(Kind.INVALID_TYPE, "'stream_options' must be an object.", param="stream_options")
    inner, inner_values = read_object(options, _GUARDED_OPTIONS, _USUAL_OPTIONS, "stream_options.")
    # Some upstreams take 1 or "yes" for true, others do not, and nobody could say whether to hide the chunk: refused.
    if _read_boolean(inner_values, "include_usage", "stream_options."):
        return True, None
    if "include_usage" in inner_values:
        inner_start, inner_end = _span(options, inner, "include_usage")
        return False, (start + inner_start, start + inner_end, b"true")
    return False, (start + 1, start + 1, b'"include_usage":true' + (b"," if inner else b""))


def _invalid(why: str) -> NoReturn:
    message = why.removeprefix("JSON is malformed: ")
    message = message[0].lower() + message[1:]
    raise RequestError(Kind.INVALID_JSON, f"The body must be a JSON object: {message}.")
