"""A client's handshake for a WebSocket: what it says, and our answer to it (RFC 6455 section 4, PROTOCOL 2.7).

The list of subprotocols may hold a client's key, so nothing that logs or remembers header lines ever sees it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import hdrs, web
from multidict import CIMultiDict

from router.errors import Kind, RequestError
from router.protocol import realtime
from router.protocol.http import scan
from router.web.dial import CLOSE_S, MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OURS = (hdrs.UPGRADE, hdrs.CONNECTION, hdrs.SEC_WEBSOCKET_KEY, hdrs.SEC_WEBSOCKET_VERSION)
"""The headers of a handshake that aiohttp has to see."""

_OFFER = b"sec-websocket-protocol"
_CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"api-key"))


class Handshake:
    """A request for a WebSocket, read and not yet answered."""

    def __init__(self, request: web.Request) -> None:
        """Read it.

        Raises:
            RequestError: UPGRADE_REQUIRED: it does not ask for a WebSocket. MALFORMED_HTTP: its head can be understood
                in two ways.
        """
        self._request = request
        if request.headers.get(hdrs.UPGRADE, "").strip().lower() != "websocket":
            raise RequestError(Kind.UPGRADE_REQUIRED, "This path is a WebSocket: the request must ask for an upgrade.")
        self.offer = realtime.read_offer([value for name, value in request.raw_headers if name.lower() == _OFFER])
        self._headers = [(name, value) for name, value in request.raw_headers if name.lower() != _OFFER]
        self.facts = scan([name + b": " + value for name, value in self._headers])
        self.query = request.raw_path.partition("?")[2].encode("ascii", "replace")
        """As it came."""

    def __repr__(self) -> str:
        return f"<Handshake {self._request.path}>"

    @property
    def credentials(self) -> Sequence[tuple[bytes, bytes]]:
        """The headers that say who it is; the key that came as a subprotocol among them, if no other one did."""
        if self.offer.credential is None or any(name.lower() in _CREDENTIALS for name, _ in self._headers):
            return self._headers
        return [*self._headers, (b"authorization", b"Bearer " + self.offer.credential)]

    def prepare(self, heartbeat_s: float) -> Answer:
        """Make ready to answer, and find out now whether that will be possible.

        Raises:
            RequestError: MALFORMED_HTTP: it is no handshake.
        """
        said = self._request.headers
        headers = CIMultiDict({name: said[name] for name in _OURS if name in said and said[name].isascii()})
        if self.offer.selects:
            headers[hdrs.SEC_WEBSOCKET_PROTOCOL] = realtime.REALTIME
        request = self._request.clone(headers=headers)
        socket = web.WebSocketResponse(
            timeout=CLOSE_S,
            autoclose=False,
            heartbeat=heartbeat_s,
            protocols=(realtime.REALTIME,),
            compress=False,
            max_msg_size=MESSAGE_BYTES_MAX,
            decode_text=False,
        )
        if not socket.can_prepare(request):
            raise RequestError(Kind.MALFORMED_HTTP, "The WebSocket handshake is not valid.")
        return Answer(socket, request)


class Answer:
    """Our answer to a handshake: 101, and the client's side of the socket."""

    def __init__(self, socket: web.WebSocketResponse[bool], request: web.BaseRequest) -> None:
        self.socket = socket
        self._request = request

    async def give(self, headers: Mapping[str, str]) -> asyncio.Transport:
        """Let the client in; return what the socket runs on.

        Raises:
            CancelledError: The client has left, as aiohttp is about to tell us too.
        """
        self.socket.headers.update({"Server": "llm-router", **headers})
        transport = self._request.transport
        try:
            await self.socket.prepare(self._request)
        except ConnectionError:
            raise asyncio.CancelledError from None
        assert transport is not None
        return transport
