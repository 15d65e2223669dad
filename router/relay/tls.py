"""TLS under the protocol that answers a client: to the connection it is a protocol, to that one above a transport.

The event loops bring TLS of their own. It is not used, since the relay has to know its connections: there they are
unseen until the handshake is done, so that nobody could count or end those that say nothing; what TLS has given to the
socket's transport counts as read by the client; closing waits for the client to answer, and after a while cuts what a
slow one has not read; uvloop's takes 256 KiB for each connection besides. Here a connection is seen from the moment it
is accepted, what is written is encrypted at once and waits in one place, and closing is as without TLS: all that was
written, the alert that says so (close_notify, RFC 8446 section 6.1), and the end. `abort` sends no such alert, so that
a cut answer does not look like a whole one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

READ_MAX = 1 << 18
"""Bytes asked of OpenSSL at once; it gives a record, 16 KiB at most."""

NOBODY = asyncio.Protocol()
"""What is above when the connection is lost: it heeds nothing."""

UNASKED_MAX = 64 * 1024
"""Bytes that a client who does not read may make TLS itself say, answers to key updates for instance."""


def context(cert: str, key: str | None, client_ca: str | None) -> ssl.SSLContext:
    """How to speak TLS: 1.2 at least, HTTP/1.1 in it; with `client_ca` only to who shows a certificate of theirs.

    Raises:
        OSError: A file cannot be read; `ssl.SSLError` if it does not hold what it should.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    made.set_alpn_protocols(["http/1.1"])
    made.load_cert_chain(cert, key, password="")  # never ask on the terminal
    if client_ca is not None:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(client_ca)
    return made


class Secured(asyncio.Transport, asyncio.Protocol):
    """One connection with TLS.

    The protocol above is connected at once, but before the handshake is done it hears nothing and can say nothing.
    """

    __slots__ = (
        "_closing",
        "_incoming",
        "_late",
        "_outgoing",
        "_protocol",
        "_ssl",
        "_stalled",
        "_transport",
        "_unasked_bytes",
        "handshake_s",
    )

    def __init__(self, context: ssl.SSLContext, protocol: asyncio.Protocol, handshake_s: float) -> None:
        super().__init__()
        self._protocol = protocol
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._transport: asyncio.Transport
        self._late: asyncio.TimerHandle | None = None
        """Runs until the handshake is done."""
        self._closing = False
        """Nothing more is written or read."""
        self._stalled = False
        """The client does not keep up."""
        self._unasked_bytes = 0
        """Said by TLS itself since the client fell behind."""
        self.handshake_s = handshake_s
        """From the connection to the end of the handshake."""

    def __repr__(self) -> str:
        return f"<Secured {self._ssl.version() if self._late is None else 'handshake'}>"

    # the connection's side: a protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._late = asyncio.get_running_loop().call_later(self.handshake_s, self._transport.abort)
        self._protocol.connection_made(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._incoming.write(data)
        try:
            if self._late is not None and not self._shake_hands():
                return
            plain, ended = self._decrypted()
        except ssl.SSLError:  # no TLS, or no longer; whom we do not understand we do not answer, but with an alert
            self._pass_on()
            self._closing = True
            self._transport.close()
            return
        self._pass_on()
        if plain and not self._closing:
            self._protocol.data_received(plain)
        if ended:
            self.eof_received()

    def eof_received(self) -> None:
        # Said with an alert or simply so: what the client asks for is framed, so nobody can have cut it for us.
        if not self._closing:
            self._protocol.eof_received()
            self.close()

    def pause_writing(self) -> None:
        self._stalled = True
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._stalled = False
        self._unasked_bytes = 0
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._done()
        protocol, self._protocol = self._protocol, NOBODY  # it refers to us: without the cycle all is freed at once
        protocol.connection_lost(exc)

    def _shake_hands(self) -> bool:
        """Go on with the handshake. Returns whether it is done.

        Raises:
            ssl.SSLError: It failed.
        """
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._pass_on()
            return False
        self._done()
        return True

    def _decrypted(self) -> tuple[bytes, bool]:
        """What the client said, and whether it said that there is no more.

        Raises:
            ssl.SSLError: It is not TLS.
        """
        pieces = []
        try:
            while piece := self._ssl.read(READ_MAX):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            return b"".join(pieces), False
        except ssl.SSLZeroReturnError:
            pass
        return b"".join(pieces), True

    def _pass_on(self) -> None:
        """Send what TLS itself has to say: its part of the handshake, tickets, alerts, answers to key updates."""
        if not self._outgoing.pending:
            return
        if self._stalled:
            self._unasked_bytes += self._outgoing.pending
            if self._unasked_bytes > UNASKED_MAX:
                self.abort()
                return
        self._transport.write(self._outgoing.read())

    def _done(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    # the side of the protocol above: a transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._late is not None or not data:
            return
        self._ssl.write(data)
        self._transport.write(self._outgoing.read())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Say that we say no more; what the client still says is thrown away."""
        if not self._closing:
            self._say_goodbye()
            self._transport.write_eof()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if self._closing:
            self._transport.close()
        elif self._late is not None:
            self.abort()
        else:
            self._say_goodbye()
            self._transport.close()

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def _say_goodbye(self) -> None:
        self._closing = True
        with contextlib.suppress(ssl.SSLError):  # that the client has not said the same is an error to it
            self._ssl.unwrap()
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sslcontext":  # aiohttp knows by it that a request came by https
            return self._ssl.context
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()
