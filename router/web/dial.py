"""Our own handshake with an upstream's WebSocket, by aiohttp's client: one attempt, and why it failed (PROTOCOL 2.7).

Of the client's handshake nothing goes up but the headers that may pass: no key, no cookies, no `Origin`. The connection
itself is made by the relay, which knows the upstream's addresses, certificates and proxy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import aiohttp
from yarl import URL

from router.policy.outcomes import VERDICTS, Cause, of_status
from router.protocol.durations import retry_after
from router.protocol.upstream_errors import read_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.client_proto import ResponseHandler

    from router.config.schema import Timeouts, Upstream
    from router.policy.outcomes import Verdict
    from router.protocol.facts import ErrorFacts
    from router.protocol.http import Headers, RequestPolicy

MESSAGE_BYTES_MAX = 16 * 1024 * 1024 + 1
"""aiohttp refuses a message that reaches this bound; OpenAI takes 15 MiB of sound in one."""

CLOSE_S = 1.0
"""How long a peer may take to answer a close frame."""

ERROR_BYTES_MAX = 64 * 1024
"""Bytes of an upstream's refusal that are read."""

_NOT_PASSED = b"sec-websocket-"
"""Headers of the client's own handshake."""

_URL = "http://upstream{}"
"""Where the request goes is decided below aiohttp, and `Host` is among the headers: it only needs the target."""


class Wire(Protocol):
    """How an upstream is spoken to, as far as a handshake needs it."""

    @property
    def name(self) -> str:
        """The configured name."""

    @property
    def settings(self) -> Upstream:
        """As configured."""

    @property
    def credentials(self) -> Sequence[str]:
        """The secrets themselves, which nobody may see."""

    @property
    def policies(self) -> Sequence[RequestPolicy]:
        """What writes request heads, by credential."""

    async def turn_comes(self) -> bool:
        """Wait for our turn under the upstream's published rate. Returns whether it comes in time."""

    def target(self, rest: bytes, model: str, query: bytes) -> bytes:
        """Return the request target for what follows `/v1` in the client's path."""


Connect = Callable[[Wire, int, asyncio.Protocol], Awaitable[None]]
"""Connects a protocol to an upstream, with TLS if it has it, on behalf of one credential. Raises `DialError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is asked of an upstream."""

    target: bytes
    """The request target."""
    headers: Headers
    """The client's lines; the upstream's policy decides which of them pass."""
    protocols: Sequence[str]
    """The subprotocols to offer."""
    timeouts: Timeouts
    """The member's, of which `connect` and `first_byte` hold."""
    heartbeat_s: float
    """Silence after which the upstream is asked whether it is still there."""


class DialError(Exception):
    """No WebSocket came about."""

    def __init__(
        self,
        verdict: Verdict,
        status: int = 0,
        *,
        body: bytes = b"",
        facts: ErrorFacts | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(verdict.cause)
        self.verdict = verdict
        self.status = status
        """The upstream's; 0 if it sent none."""
        self.body = body
        self.facts = facts
        """What its refusal says; None if it sent none."""
        self.retry_after_s = retry_after_s


class Line:
    """A WebSocket to an upstream, from its handshake to its end. Times are monotonic seconds, 0 if they never came."""

    socket: aiohttp.ClientWebSocketResponse[bool]

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._answer: aiohttp.ClientResponse | None = None
        self.transport: asyncio.Transport | None = None
        self.connected = 0.0
        self.answered = 0.0
        self.status = 0

    def __repr__(self) -> str:
        return f"<Line: {'open' if self.transport is not None else 'no connection'}>"

    async def hang_up(self) -> None:
        """Close the connection; what has been written, a close frame say, has a moment to go out."""
        if self._answer is not None:
            self._answer.close()
        if self._session is not None:
            await self._session.close()
        if self.transport is not None and self.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(CLOSE_S, self.transport.abort)

    async def open(self, wire: Wire, credential: int, connect: Connect, call: Call) -> None:
        """Connect and shake hands. The caller hangs up in the end, also when this fails.

        Raises:
            DialError: No WebSocket came about.
        """

        async def reach(handler: ResponseHandler) -> None:
            try:
                async with asyncio.timeout(call.timeouts.connect):
                    await connect(wire, credential, handler)
            except TimeoutError:
                raise DialError(VERDICTS[Cause.CONNECT_TIMEOUT]) from None
            self.connected = time.monotonic()
            self.transport = handler.transport

        session = self._session = aiohttp.ClientSession(
            connector=_Connector(reach),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_read=call.timeouts.first_byte),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            middlewares=(self._judge,),
            auto_decompress=False,
        )
        try:
            self.socket = await session.ws_connect(
                URL(_URL.format(call.target.decode("ascii")), encoded=True),
                headers=_headers(wire.policies[credential], call),
                protocols=call.protocols,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                autoclose=False,
                heartbeat=call.heartbeat_s,
                compress=0,
                max_msg_size=MESSAGE_BYTES_MAX,
                decode_text=False,
            )
        except aiohttp.ServerTimeoutError:
            raise DialError(VERDICTS[Cause.FIRST_BYTE]) from None
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            raise DialError(VERDICTS[Cause.CLOSED]) from None
        except aiohttp.ClientError:
            raise DialError(VERDICTS[Cause.PROTOCOL], self.status) from None

    async def _judge(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Let nothing but 101 through. aiohttp by itself would follow a redirect, and take our credential along."""
        answer = self._answer = await handler(request)
        self.answered = time.monotonic()
        self.status = answer.status
        if answer.status == 101:
            return answer
        try:
            body = await answer.content.read(ERROR_BYTES_MAX)
        except (aiohttp.ClientError, TimeoutError):
            body = b""
        finally:
            answer.close()
        facts = read_error(answer.status, answer.headers.get("Content-Type", ""), body)
        verdict = of_status(answer.status, facts.code, facts.type, facts.message) or VERDICTS[Cause.PROTOCOL]
        pairs = [(name.lower(), value) for name, value in answer.raw_headers]
        raise DialError(verdict, answer.status, body=body, facts=facts, retry_after_s=retry_after(pairs, time.time()))


class _Connector(aiohttp.BaseConnector):
    """Has connections made by somebody else, one for each session."""

    def __init__(self, reach: Callable[[ResponseHandler], Awaitable[None]]) -> None:
        super().__init__(force_close=True)
        self._reach = reach

    async def _create_connection(self, *_: object) -> ResponseHandler:
        handler = self._factory()
        await self._reach(handler)
        return handler


def _headers(policy: RequestPolicy, call: Call) -> list[tuple[str, str]]:
    """Return the headers to send: those of any request to this upstream, which aiohttp adds the handshake's to."""
    passing = [line for line in call.headers if not line.lower().startswith(_NOT_PASSED)]
    head = policy.head(call.target, policy.lines(passing), None, method=b"GET")
    pairs: list[tuple[str, str]] = []
    for line in head.split(b"\r\n")[1:-2]:
        name, _, value = line.partition(b":")
        try:
            pairs.append((name.decode("ascii"), value.strip().decode("utf-8")))
        except UnicodeDecodeError:  # aiohttp could not send it as it came
            continue
    return pairs
