"""An attempt at a member that does not speak the client's protocol: the request rebuilt, the answer on its way back.

To the rest of the relay such an upstream looks as if it spoke the client's protocol (PROTOCOL 10).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from router.config.schema import Protocol as Speaks
from router.protocol.anthropic import MESSAGES
from router.protocol.asks import Ask
from router.protocol.edits import edits
from router.protocol.openai import CHAT
from router.protocol.splice import compose
from router.protocol.translate.answer_to_chat import answer_to_chat
from router.protocol.translate.answer_to_messages import answer_to_messages
from router.protocol.translate.common import Options
from router.protocol.translate.request_to_chat import to_chat
from router.protocol.translate.request_to_messages import to_messages
from router.protocol.translate.stream_to_chat import StreamToChat
from router.protocol.translate.stream_to_messages import StreamToMessages

if TYPE_CHECKING:
    from router.config.schema import Translation as Settings
    from router.protocol.facts import Reading
    from router.protocol.translate.common import Translated
    from router.relay.wire import Wire


class StreamTranslator(Protocol):
    """Turns one dialect's events into another's."""

    usage: dict[str, Any] | None
    """As the upstream reported it, in its own words."""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the upstream's stream; return what they are to the client."""

    def end(self) -> bytes:
        """The upstream's body has ended cleanly: return what completes the answer, nothing if it is not complete."""


class Translation:
    """One request in the upstream's protocol, and the way back."""

    __slots__ = ("asks_usage", "body", "dropped", "path", "reading", "thinking_blocks", "to_chat")

    def __init__(self, request: Translated, *, to_chat: bool, asks_usage: bool, thinking_blocks: bool = False) -> None:
        self.asks_usage = asks_usage
        """Its stream reports usage because we asked, not the client."""
        self.body = request.body
        self.dropped = request.dropped
        """Parameters of the client's that the upstream's protocol has no place for."""
        self.thinking_blocks = thinking_blocks
        self.to_chat = to_chat
        """The upstream speaks OpenAI's protocol, the client Anthropic's; else the other way round."""
        self.path = b"/chat/completions" if to_chat else b"/messages"
        self.reading: Reading = CHAT if to_chat else MESSAGES
        """How the upstream's own usage is read: exactly, as a translation of it could not be."""

    def stream(self) -> StreamTranslator:
        """Begin a stream's way back."""
        return (
            StreamToMessages()
            if self.to_chat
            else StreamToChat(created=int(time.time()), thinking_blocks=self.thinking_blocks)
        )

    def whole(self, body: bytes) -> bytes | None:
        """Return a whole answer in the client's protocol; None if it is none, or cannot be said there."""
        if self.to_chat:
            return answer_to_messages(body)
        return answer_to_chat(body, created=int(time.time()), thinking_blocks=self.thinking_blocks)


def translate(body: bytes, model: str, settings: Settings, wire: Wire, client: Speaks) -> Translation:
    """Rebuild a request for an upstream that does not speak what the client speaks.

    Raises:
        RequestError: It holds what the other protocol cannot say.
    """
    options = Options(
        default_max_tokens=int(settings.default_max_tokens),
        inline_system=settings.inline_system,
        no_sampling=settings.no_sampling,
        adaptive_thinking=settings.adaptive_thinking,
        thinking_required=settings.thinking_required,
        thinking_blocks=settings.thinking_blocks,
        max_tokens_field=wire.max_tokens_field or "max_completion_tokens",
    )
    if client is Speaks.ANTHROPIC:
        request = to_chat(body, model, options)
        asks = request.stream and wire.asks_usage
        drop = wire.drop_params if asks else wire.drop_params | {_USAGE}
        return Translation(_without(request, drop), to_chat=True, asks_usage=asks)
    request = _without(to_messages(body, model, options), wire.drop_params)
    asks = request.stream and not request.wants_usage
    return Translation(request, to_chat=False, asks_usage=asks, thinking_blocks=settings.thinking_blocks)


_USAGE = "stream_options"


def _without(request: Translated, drop: frozenset[str]) -> Translated:
    """Leave out what the upstream cannot take (PROTOCOL 11), and name it, unless it was not the client's."""
    changes, dropped = edits(request.body, drop=drop, max_tokens_field=None) if drop else ([], ())
    if not changes:
        return request
    body = b"".join(compose(Ask(""), request.body, "", ask_usage=False, edits=changes))
    names = (*request.dropped, *(name for name in dropped if name != _USAGE))
    return msgspec.structs.replace(request, body=body, dropped=names)
