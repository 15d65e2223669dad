"""Which requests are carried, and how: the rows of PROTOCOL 2 as data.

A path is found here without its `/v1`. What is not found is the aiohttp side's: the models list, WebSockets, 404.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec

from router.config.schema import PIN_FAMILIES, Protocol
from router.protocol import anthropic, generic, media, openai, responses
from router.protocol.envelope import Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.protocol.facts import Reading

PREFIX = b"/v1"


class Body(StrEnum):
    """What a request's body is."""

    JSON = "json"
    """An object, whatever the content type says."""
    FORM = "form"
    """`multipart/form-data`."""
    EITHER = "either"
    """As the content type says."""
    CALL = "call"
    """A call's offer: SDP, with the model in the query, or a form whose `session` names it."""
    ANY = "any"
    """Bytes that are not looked at, or none."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One kind of request that the relay carries."""

    name: str
    """A label, and the `endpoint` of the access log."""
    path: bytes
    """What follows the upstream's base URL."""
    reading: Reading
    protocol: Protocol = Protocol.OPENAI
    """What the client speaks. A member that speaks another one needs a translation."""
    dialect: Dialect = Dialect.OPENAI
    """Of errors."""
    body: Body = Body.JSON
    methods: tuple[bytes, ...] = (b"POST",)
    model_optional: bool = False
    """A request without `model` gets the configured one, if there is one."""
    view: str = "openai"
    """Which members can serve it (`policy.catalogue.VIEWS`)."""
    asks_usage: bool = False
    """`stream_options` exists here (PROTOCOL 5.3)."""
    generates: bool = False
    """The answer is text that the model writes: tokens for it are reserved."""
    strict: bool = False
    """Whoever asks for a stream gets one: an object is then no answer. Elsewhere `stream` may mean nothing."""
    binary: bool = False
    """Answers may be anything: sound, text, a file. What is no JSON is relayed as it comes."""
    metered: bool = True
    """A whole answer without usage is worth counting."""
    free: bool = False
    """Nothing is charged that is not reported."""
    keeps_id: bool = False
    """The answer's id belongs to the upstream's account: later requests that name it must go there."""
    named_id: str = ""
    """The id in the path, without its escapes: it decides where the request goes."""
    pinned: str = ""
    """The family of a request that always goes to one configured upstream."""

    @property
    def stored(self) -> bool:
        """It is about what is stored upstream: to send it again may change that again."""
        return bool(self.named_id or self.pinned)


_CHAT = Endpoint(
    name="chat",
    path=b"/chat/completions",
    reading=openai.CHAT,
    view="openai+translated",
    asks_usage=True,
    strict=True,
    generates=True,
)
_RESPONSES = Endpoint(
    name="responses",
    path=b"/responses",
    reading=responses.RESPONSES,
    dialect=Dialect.RESPONSES,
    model_optional=True,
    strict=True,
    generates=True,
    keeps_id=True,
)
_DECISIONS = msgspec.structs.replace(
    _RESPONSES,
    name="decisions",
    path=b"/decisions",
    dialect=Dialect.OPENAI,
    strict=False,
    model_optional=False,
    keeps_id=False,
)
_MESSAGES = Endpoint(
    name="messages",
    path=b"/messages",
    reading=anthropic.MESSAGES,
    protocol=Protocol.ANTHROPIC,
    dialect=Dialect.ANTHROPIC,
    view="anthropic+translated",
    strict=True,
    generates=True,
)


_CALL = Endpoint(
    name="realtime_calls",
    path=b"/realtime/calls",
    reading=generic.JSON,
    body=Body.CALL,
    binary=True,
    metered=False,
    free=True,
    keeps_id=True,
)


def _json(name: str, path: bytes, *, optional: bool = False, metered: bool = True) -> Endpoint:
    return Endpoint(name=name, path=path, reading=generic.JSON, model_optional=optional, metered=metered)


def _images(name: str, path: bytes, body: Body) -> Endpoint:
    return Endpoint(name=name, path=path, reading=media.IMAGES, body=body, model_optional=True)


def _sound(name: str, path: bytes, body: Body, reading: Reading, *, metered: bool) -> Endpoint:
    return Endpoint(name=name, path=path, reading=reading, body=body, binary=True, metered=metered)


def _video(path: bytes) -> Endpoint:
    return Endpoint(
        name="videos",
        path=path,
        reading=generic.JSON,
        body=Body.EITHER,
        model_optional=True,
        metered=False,
        keeps_id=True,
    )


_ENDPOINTS = (
    _CHAT,
    msgspec.structs.replace(_CHAT, name="completions", path=b"/completions", reading=openai.COMPLETIONS, view="openai"),
    _RESPONSES,
    msgspec.structs.replace(
        _RESPONSES,
        path=b"/responses/input_tokens",
        strict=False,
        metered=False,
        free=True,
        keeps_id=False,
        generates=False,
    ),
    msgspec.structs.replace(_RESPONSES, path=b"/responses/compact", strict=False, keeps_id=False, model_optional=False),
    _json("embeddings", b"/embeddings"),
    _json("moderations", b"/moderations", optional=True, metered=False),
    _json("rerank", b"/rerank", metered=False),
    _images("images", b"/images/generations", Body.JSON),
    _images("image_edits", b"/images/edits", Body.EITHER),
    _images("image_variations", b"/images/variations", Body.FORM),
    _sound("speech", b"/audio/speech", Body.JSON, media.SPEECH, metered=False),
    _sound("transcriptions", b"/audio/transcriptions", Body.FORM, media.TRANSCRIPTIONS, metered=True),
    _sound("translations", b"/audio/translations", Body.FORM, media.TRANSCRIPTIONS, metered=False),
    _MESSAGES,
    msgspec.structs.replace(
        _MESSAGES,
        name="count_tokens",
        path=b"/messages/count_tokens",
        view="anthropic",
        strict=False,
        metered=False,
        free=True,
        generates=False,
    ),
    _DECISIONS,
    msgspec.structs.replace(_DECISIONS, path=b"/systemone"),
    _CALL,
    _video(b"/videos"),
    _video(b"/videos/edits"),
    _video(b"/videos/extensions"),
)

NAMED = {endpoint.name: endpoint for endpoint in reversed(_ENDPOINTS)}
"""By name; of those that share one, the first above."""

NOWHERE = Endpoint(name="other", path=b"", reading=generic.JSON, metered=False)
"""Of a request without a sound request line."""

_STORED = {
    b"": (b"GET", b"DELETE"),
    b"/cancel": (b"POST",),
    b"/input_items": (b"GET",),
}
_STORED_VIDEO = {b"": (b"GET", b"DELETE"), b"/content": (b"GET",), b"/remix": (b"POST",)}
_STORED_CALL = dict.fromkeys((b"/accept", b"/hangup", b"/refer", b"/reject"), (b"POST",))
"""What follows the id of something stored at an upstream, and the methods it takes."""

_NEVER_UNKNOWN = frozenset((
    "organization", "organizations", "projects", "realtime", "models", "responses", "videos", *PIN_FAMILIES,
))  # fmt: skip
"""First steps of paths that are not carried as unknown under any setting, however they are written: an account's
administration, what is stored in one account, and what the aiohttp side answers."""

_PLAIN = re.compile(rb"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~:@-]+)+")
"""An unknown path that no server can read in two ways: no escapes, no dot segments, no empty steps."""


class Endpoints:
    """What one configuration carries."""

    __slots__ = ("_bare", "_exact", "_pins", "_unknown")

    def __init__(self, *, bare: bool, unknown: bool, pins: Mapping[str, str]) -> None:
        """Prepare the table.

        Args:
            bare: The same paths are served without `/v1`.
            unknown: POSTs to unknown paths are carried if their body names a model.
            pins: The families of `PIN_FAMILIES` that have an upstream.
        """
        self._bare = bare
        self._unknown = unknown
        self._pins = frozenset(pins)
        self._exact = {PREFIX + endpoint.path: endpoint for endpoint in _ENDPOINTS}
        if bare:
            self._exact |= {endpoint.path: endpoint for endpoint in _ENDPOINTS}
        rerank = self._exact[PREFIX + b"/rerank"]
        self._exact |= {b"/rerank": rerank, b"/v2/rerank": rerank}

    def __repr__(self) -> str:
        return f"<Endpoints: {len(self._exact)} paths, {len(self._pins)} families pinned>"

    def find(self, method: bytes, path: bytes) -> Endpoint | None:
        """Return what carries a request to this path, as it came on the wire without its query; None: nothing here.

        A path that is carried under other methods is found all the same: the method is then refused.
        """
        found = self._exact.get(path)
        if found is not None:
            return None if method == b"GET" and found.path == b"/responses" else found  # a WebSocket, or a mistake
        rest = self._rest(path)
        if rest is None:
            return None
        for prefix, kinds, endpoint in (
            (b"/responses/", _STORED, _RESPONSES),
            (b"/videos/", _STORED_VIDEO, _video(b"")),
            (b"/realtime/calls/", _STORED_CALL, _CALL),
        ):
            if rest.startswith(prefix):
                return _stored(rest, rest[len(prefix) :], kinds, endpoint)
        family = rest[1:].partition(b"/")[0].decode("latin-1")
        if family in PIN_FAMILIES:
            return _pinned(rest, family) if family in self._pins else None
        if (
            self._unknown
            and method == b"POST"
            and family.lower() not in _NEVER_UNKNOWN
            and _PLAIN.fullmatch(rest) is not None
        ):
            return Endpoint(name="other", path=rest, reading=generic.JSON, binary=True, metered=False)
        return None

    def _rest(self, path: bytes) -> bytes | None:
        if path.startswith(PREFIX + b"/"):
            return path[len(PREFIX) :]
        return path if self._bare and path.startswith(b"/") else None


def _stored(rest: bytes, tail: bytes, kinds: Mapping[bytes, tuple[bytes, ...]], endpoint: Endpoint) -> Endpoint | None:
    identity, slash, action = tail.partition(b"/")
    methods = kinds.get(slash + action)
    if methods is None or not identity:
        return None
    return msgspec.structs.replace(
        endpoint,
        path=rest,
        body=Body.ANY,
        methods=methods,
        named_id=unquote(identity.decode("latin-1")),
        keeps_id=action == b"remix",  # it names a new video, stored there too
        strict=False,
        generates=False,
        binary=True,
        metered=False,
        free=True,
    )


def _pinned(rest: bytes, family: str) -> Endpoint:
    return Endpoint(
        name=family,
        path=rest,
        reading=generic.JSON,
        body=Body.ANY,
        methods=(b"GET", b"POST", b"PUT", b"PATCH", b"DELETE"),
        binary=True,
        metered=False,
        free=True,
        pinned=family,
    )
