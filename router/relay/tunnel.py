"""The way to an upstream through an HTTP proxy: CONNECT, and TLS inside (RFC 9110 section 9.3.6).

A tunnel is asked for with a protocol of its own; once the proxy has opened it, the connection of the relay takes over
the transport and knows nothing of the proxy.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import ssl

HEAD_MAX = 16 * 1024
"""Bytes that a proxy may say before the tunnel is open."""

_CLOSED = "the proxy closed the connection"

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Where a proxy is, and what it wants to see."""

    host: str
    port: int
    authorization: bytes = field(default=b"", repr=False)
    """The value of `Proxy-Authorization`; empty: none is sent."""


class Refused(Exception):
    """The proxy opened no tunnel; the text says what it did, for the operator."""


class Tunnel(asyncio.Protocol):
    """A connection to a proxy, until it leads to the upstream."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._head = bytearray()
        self._opened: asyncio.Future[None] = loop.create_future()

    async def lead_to(
        self,
        protocol: asyncio.Protocol,
        host: str,
        port: int,
        *,
        authorization: bytes,
        tls: ssl.SSLContext | None,
        server_name: str | None,
    ) -> None:
        """Have the proxy connect to a host, and give the connection to `protocol`, secured if `tls` is given.

        The caller bounds the time. Whatever happens, no transport stays open that `protocol` does not have.

        Raises:
            Refused: the proxy would not, or did not speak HTTP.
            OSError: TLS failed (`ssl.SSLError`), or the connection was lost.
        """
        try:
            self.transport.write(_request(host, port, authorization))
            await self._opened
            transport = await self._handed_over(protocol, tls, server_name)
        except BaseException as error:
            self.transport.abort()
            if isinstance(error, RuntimeError):  # uvloop's word for a transport that is closed
                raise Refused(_CLOSED) from error
            raise
        protocol.connection_made(transport)

    async def _handed_over(
        self, protocol: asyncio.Protocol, tls: ssl.SSLContext | None, server_name: str | None
    ) -> asyncio.Transport:
        raw = self.transport
        if raw.is_closing():
            raise Refused(_CLOSED)
        if tls is None:
            raw.set_protocol(protocol)
            return raw
        secured = await self._loop.start_tls(raw, protocol, tls, server_hostname=server_name)
        assert secured is not None
        return secured

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its base class

    def data_received(self, data: bytes) -> None:
        if self._opened.done():
            self.transport.abort()  # the upstream spoke before it was asked
            return
        self._head += data
        while (end := self._head.find(b"\r\n\r\n") + 4) >= 4:
            status = _STATUS.match(self._head)
            if status is None:
                self._end("the proxy did not answer in HTTP")
            elif status[1][:1] == b"1" and status[1] != b"101":  # informational: the answer is yet to come
                del self._head[:end]
                continue
            elif status[1][:1] != b"2":
                self._end(f"the proxy answered {int(status[1])}")
            elif len(self._head) > end:
                self._end("the proxy sent bytes behind its answer")
            else:
                self._opened.set_result(None)
            return
        if len(self._head) > HEAD_MAX:
            self._end("the proxy sent a head without an end")

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._end(_CLOSED)

    def _end(self, what: str) -> None:
        if not self._opened.done():
            self._opened.set_exception(Refused(what))
            self._opened.exception()  # asyncio need not complain if nobody waits for it any more


def _request(host: str, port: int, authorization: bytes) -> bytes:
    authority = b"%b:%d" % (f"[{host}]".encode() if ":" in host else host.encode("ascii"), port)
    credential = b"Proxy-Authorization: %b\r\n" % authorization if authorization else b""
    return b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (authority, authority, credential)
