"""What the handshakes and frames of the two WebSockets mean: realtime, and Responses (PROTOCOL 2.2, 2.7).

A frame is one JSON event. Most of them carry sound and are never decoded: a frame is looked into only if it begins with
the name of an event that matters, or, where its type comes later, if that name stands in it anywhere, quotes included.
Text cannot hold that, since a quote inside a JSON string is escaped.
No bytes of an upstream make a function here raise; those of a client raise `RequestError` alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import msgspec

from router.errors import TABLE, Kind, RequestError
from router.protocol.envelope import mask
from router.protocol.patient_json import read_object
from router.protocol.splice import MODEL_CHARS_MAX, compose, read_ask
from router.protocol.usage import of_realtime, of_responses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from router.errors import Problem
    from router.events import Usage
    from router.protocol.asks import Ask

REALTIME = "realtime"
"""The subprotocol, the only one that our handshake ever selects."""

REASON_BYTES_MAX = 123
"""Of a close frame's reason (RFC 6455 section 5.5)."""

_KEY = "openai-insecure-api-key."
_BETA = "openai-beta."
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


# the client's handshake


class Offer(NamedTuple):
    """What a client offered as subprotocols."""

    credential: bytes | None
    """Its key with us, which browsers cannot send in any other way."""
    selects: bool
    """`REALTIME` is among them."""
    passing: tuple[str, ...]
    """Those that mean something to an upstream: keys, organisations and projects are the client's own."""


def read_offer(values: Iterable[bytes]) -> Offer:
    """Read the lines of `Sec-WebSocket-Protocol`.

    Raises:
        RequestError: MALFORMED_HTTP: they are no list of tokens, or hold two keys.
    """
    offered = [token.strip() for value in values for token in value.decode("latin-1").split(",")]
    if not all(map(_TOKEN.fullmatch, offered)):
        raise RequestError(Kind.MALFORMED_HTTP, "The header 'sec-websocket-protocol' is not valid.")
    keys = {token.removeprefix(_KEY) for token in offered if token.startswith(_KEY)} - {""}
    if len(keys) > 1:
        raise RequestError(Kind.MALFORMED_HTTP, "Two different keys were sent as subprotocols.")
    return Offer(
        keys.pop().encode("ascii") if keys else None,
        REALTIME in offered,
        tuple(dict.fromkeys(token for token in offered if token == REALTIME or token.startswith(_BETA))),
    )


def read_query(query: bytes) -> tuple[str, str]:
    """Return the model that the query of a realtime request names, and the call that it joins; empty if it does not.

    Raises:
        RequestError: One of them is written twice, or the model is not a name.
    """
    said: dict[str, str] = {}
    for name, value in map(_member, query.split(b"&")):
        folded = name.casefold()
        if folded in ("model", "call_id"):
            if folded in said or name != folded:
                raise RequestError(
                    Kind.DUPLICATE_PARAMETER, f"'{folded}' must be written once, in lower case.", param=folded
                )
            said[folded] = value
    model = said.get("model")
    if model is not None and not 0 < len(model) <= MODEL_CHARS_MAX:
        raise RequestError(
            Kind.INVALID_TYPE, f"'model' must be a string of 1 to {MODEL_CHARS_MAX} characters.", param="model"
        )
    return model or "", said.get("call_id", "")


def with_model(query: bytes, model: str) -> bytes:
    """Return the query with another model in the place of its own; without one, and for its own, as it came."""
    members = query.split(b"&")
    for at, member in enumerate(members):
        name, value = _member(member)
        if name == "model" and value != model:
            members[at] = b"model=" + quote(model, safe="").encode("ascii")
    return b"&".join(members)


def _member(member: bytes) -> tuple[str, str]:
    """Return name and value. What is not UTF-8 becomes a name that nobody has."""
    name, _, value = member.partition(b"=")
    return _unquoted(name), _unquoted(value)


def _unquoted(text: bytes) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8", "replace")


# frames of the client


class ClientFrame(NamedTuple):
    """What the router needs to know of a frame that a client sent on a Responses socket."""

    ask: Ask
    begins: bool
    """It asks for an answer."""
    stream_id: str
    """The lane of a multiplexed socket that it belongs to; an error must name it too."""


class _Typed(msgspec.Struct, gc=False):
    type: Any = None
    stream_id: Any = None


_decode_typed = msgspec.json.Decoder(_Typed).decode


def read_client_frame(frame: bytes) -> ClientFrame:
    """Read a frame of a Responses socket. Every frame is read: none may name a model that was not looked at.

    Raises:
        RequestError: As of a body (`splice.read_ask`).
    """
    ask = read_ask(frame, model_optional=True, asks_usage=False)
    try:
        typed = _decode_typed(frame)
    except (ValueError, RecursionError):  # an escaped lone surrogate, which the exact walker lets pass
        members = read_object(frame) or {}
        typed = _Typed(members.get("type"), members.get("stream_id"))
    stream_id = typed.stream_id if isinstance(typed.stream_id, str) else ""
    return ClientFrame(ask, typed.type == "response.create", stream_id)


def with_frame_model(frame: bytes, ask: Ask, model: str) -> bytes:
    """Return a client's frame with the model's name at the upstream, in the place of its own if it names one."""
    return b"".join(compose(ask, frame, model, ask_usage=False))


# frames of the upstream


class ServerFrame(NamedTuple):
    """What the router needs to know of a frame that an upstream sent."""

    begins: bool = False
    """An answer begins."""
    ends: bool = False
    """An answer is over, whatever became of it."""
    usage: Usage | None = None
    failed: bool = False
    """It is an error."""
    id: str = ""
    """Of the answer."""


OTHER = ServerFrame()


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """One of the two protocols."""

    endpoint: str
    """A label, and the `endpoint` of the access log."""
    path: bytes
    """What follows the base URL."""
    read: Callable[[bytes], ServerFrame]
    """What an upstream's frame means. HOT: 0.5 us for a frame whose first member is its type, however long it is."""
    error: Callable[[Problem, str, str], bytes]
    """The frame that tells of a problem, given our request id and the client's lane."""


def read_realtime(frame: bytes) -> ServerFrame:
    """Return what a frame of a realtime upstream means."""
    if not _may_be(frame, _REALTIME_TELLING):
        return OTHER
    event = read_object(frame) or {}
    kind = event.get("type")
    if kind == "response.created":
        return ServerFrame(begins=True)
    if kind == "response.done":
        return ServerFrame(ends=True, usage=_usage(event.get("response"), of_realtime))
    if kind == "conversation.item.input_audio_transcription.completed":
        return ServerFrame(usage=_usage(event, of_realtime))
    return ServerFrame(failed=True) if kind == "error" else OTHER


_REALTIME_TELLING = frozenset((
    b'"response.created"', b'"response.done"', b'"conversation.item.input_audio_transcription.completed"', b'"error"',
))  # fmt: skip


def read_responses(frame: bytes) -> ServerFrame:
    """Return what a frame of a Responses upstream means."""
    if not _may_be(frame, _RESPONSES_TELLING):
        return OTHER
    event = read_object(frame) or {}
    kind, response = event.get("type"), event.get("response")
    identity = response.get("id") if isinstance(response, dict) else None
    if not isinstance(identity, str):
        identity = ""
    if kind == "response.created":
        return ServerFrame(begins=True, id=identity)
    if kind in _RESPONSES_TERMINAL:
        return ServerFrame(ends=True, usage=_usage(response, of_responses), id=identity)
    return ServerFrame(failed=True) if kind == "error" else OTHER


_RESPONSES_TERMINAL = ("response.completed", "response.incomplete", "response.failed")
_RESPONSES_TELLING = frozenset(f'"{kind}"'.encode() for kind in ("response.created", *_RESPONSES_TERMINAL, "error"))

_TYPE_FIRST = re.compile(rb'\{"type": ?("[a-z_.]*")')


def _may_be(frame: bytes, telling: frozenset[bytes]) -> bool:
    """Say whether a frame may be one of these events; else it certainly is none."""
    kind = _TYPE_FIRST.match(frame)
    if kind is not None:
        return kind[1] in telling
    return any(map(frame.__contains__, telling))


def _usage(holder: Any, account: Callable[[dict[str, Any]], Usage | None]) -> Usage | None:
    usage = holder.get("usage") if isinstance(holder, dict) else None
    return account(usage) if isinstance(usage, dict) else None


def without_secrets(frame: bytes, secrets: Iterable[str]) -> bytes:
    """Return an error frame of an upstream without our credentials; the same bytes if it holds none."""
    text = frame.decode("utf-8", "surrogateescape")
    masked = mask(text, secrets)
    return frame if masked == text else masked.encode("utf-8", "surrogateescape")


# what the router says itself


def realtime_error(problem: Problem, request_id: str, _stream_id: str = "") -> bytes:
    """Return a problem as an `error` event of the realtime protocol."""
    return msgspec.json.encode(
        {"type": "error", "event_id": f"event_{request_id}", "error": _error(problem, request_id) | {"event_id": None}}
    )


def responses_error(problem: Problem, request_id: str, stream_id: str = "") -> bytes:
    """Return a problem as an `error` frame of a Responses socket.

    The members stand in an object, as on the wire, and flat beside it too, as the SDK's type of the event has them.
    """
    error = _error(problem, request_id)
    flat = {name: error[name] for name in ("code", "message", "param")}
    lane = {"stream_id": stream_id} if stream_id else {}
    frame = {"type": "error", "status": problem.status, "error": error, **flat, "sequence_number": 0, **lane}
    return msgspec.json.encode(frame)


def _error(problem: Problem, request_id: str) -> dict[str, str | None]:
    """Return OpenAI's names for a problem: in frames `code` is a string whatever `errors.code_style` says."""
    row = TABLE[problem.kind]
    message = problem.message
    if problem.kind is not Kind.MODEL_NOT_FOUND:
        message = f"{message} (request id: {request_id})"
    code = row.openai_code or problem.kind.value
    message = message.encode("utf-8", "replace").decode("utf-8")  # an upstream's words may hold half a surrogate pair
    # An upstream's own refusal has a status of its own.
    kind = "invalid_request_error" if problem.status < 500 <= row.status else row.openai_type
    return {"type": kind, "code": code, "message": message, "param": problem.param}


REALTIME_SPEECH = Speech(endpoint="realtime", path=b"/realtime", read=read_realtime, error=realtime_error)
RESPONSES_SPEECH = Speech(endpoint="responses_ws", path=b"/responses", read=read_responses, error=responses_error)


# close frames (RFC 6455 section 7.4)

NORMAL = 1000
GOING_AWAY = 1001
POLICY = 1008
TOO_BIG = 1009
OUR_FAULT = 1011
RESTART = 1012
LATER = 1013

_UNSENDABLE = frozenset((1004, 1005, 1006, 1015))


def close_code(problem: Problem) -> int:
    """Return the code to close a client's socket with (PROTOCOL 7.1): 1008 policy, 1013 try later, 1011 our fault.

    The end of the daemon is 1012, because that of 1001 is told to programs as a regular end.
    """
    if problem.kind is Kind.DRAINING:
        return RESTART
    if problem.status == 413:
        return TOO_BIG
    if problem.status == 503 or problem.kind is Kind.UPSTREAM_RATE_LIMITED:
        return LATER
    return POLICY if problem.status < 500 else OUR_FAULT


def passing_code(code: int) -> int:
    """Return the code to pass on for one that a peer closed with; 0 is a close frame without one."""
    if not code:
        return NORMAL
    return code if 1000 <= code < 5000 and code not in _UNSENDABLE else OUR_FAULT


def passing_reason(reason: str, secrets: Iterable[str]) -> bytes:
    """Return a peer's reason as it may be passed on: masked, and no longer than a close frame can hold."""
    text = mask(reason, secrets).encode("utf-8", "replace")[:REASON_BYTES_MAX]
    return text.decode("utf-8", "ignore").encode("utf-8")
