"""A client of the router's WebSockets: aiohttp's, with the handshakes and ends that tests ask about."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import WSMsgType
from yarl import URL

from tests.harness.waiting import PATIENCE_S

if TYPE_CHECKING:
    import asyncio

    from tests.harness.router import RunningRouter

ClientSocket = aiohttp.ClientWebSocketResponse[bool]


class SocketClient:
    """Opens sockets to a router with aiohttp's client."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def open(
        self, router: RunningRouter, path: str = "/v1/realtime?model=m", *, key: str | None = None, **options: Any
    ) -> ClientSocket:
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        socket: ClientSocket = await self.session.ws_connect(
            self.url(router, path),
            headers=headers,
            autoclose=False,
            max_msg_size=0,
            timeout=aiohttp.ClientWSTimeout(ws_close=5.0),
            **options,
        )
        return socket

    def url(self, router: RunningRouter, path: str) -> URL:
        host, port = router.daemon.data_address
        return URL(f"http://{host}:{port}{path}", encoded=True)

    async def refused(
        self, router: RunningRouter, path: str = "/v1/realtime?model=m", **headers: str
    ) -> tuple[int, dict[str, Any], aiohttp.ClientResponse]:
        """Ask for a socket that is refused: status, error object, answer."""
        handshake = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        handshake |= {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.get(self.url(router, path), headers=handshake) as answer:
            return answer.status, (await answer.json())["error"], answer


def transport_of(socket: ClientSocket) -> asyncio.Transport:
    """What a socket runs on, to pause or break it."""
    assert socket._response.connection is not None
    assert socket._response.connection.transport is not None
    return socket._response.connection.transport


async def event(socket: ClientSocket) -> dict[str, Any]:
    """The next message, which is a JSON event."""
    message = await socket.receive(PATIENCE_S)
    assert message.type is WSMsgType.TEXT, message
    assert isinstance(message.data, str)
    decoded: dict[str, Any] = json.loads(message.data)
    return decoded


async def closing(socket: ClientSocket) -> tuple[int, str]:
    """Wait for the router's close frame; code 0 if the connection was lost instead."""
    while True:
        message = await socket.receive(PATIENCE_S)
        if message.type is WSMsgType.CLOSE:
            await socket.close()
            return message.data, message.extra or ""
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            return 0, ""
