"""The WebSockets that clients open: realtime, and Responses (PROTOCOL 2.2, 2.7), from handshake to settled.

A socket is one exchange (DESIGN 5): admitted once, connected to one member, whose lease it holds to its close, metered
as answers end on it, settled in one place. `dial` and `reach` find the member, `sockets` carries the messages.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING

from router.config.schema import Protocol as Dialect
from router.errors import Kind, Problem, RequestError
from router.events import LimitDecided
from router.policy.outcomes import Cause
from router.protocol import realtime
from router.protocol.durations import rate_limit_headers
from router.protocol.trace_context import begin
from router.web import socket_record
from router.web.handshake import Handshake
from router.web.reach import Reach, Wanted
from router.web.sockets import Bounds, Join
from router.web.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp import web

    from router.policy.catalogue import Route
    from router.policy.keys import KeyState
    from router.policy.limits import Limiter
    from router.protocol.realtime import ClientFrame, Speech
    from router.protocol.trace_context import Span
    from router.web.dial import Connect
    from router.web.handshake import Answer
    from router.web.reach import Reached, Says, Shared

_logger = logging.getLogger(__name__)


class Sockets:
    """Every WebSocket of the daemon, from its handshake to its end."""

    def __init__(
        self,
        shared: Callable[[], Shared],
        find_key: Callable[[Sequence[tuple[bytes, bytes]]], KeyState | None],
        connect: Connect,
        says: Says,
        *,
        bounds: Bounds | None = None,
    ) -> None:
        """Prepare.

        Args:
            shared: Returns the data path's state.
            find_key: Returns whose request it is, by its headers; raises RequestError.
            connect: Makes connections to upstreams.
            says: The words for what goes wrong.
            bounds: Of waiting.
        """
        self.shared = shared
        self.find_key = find_key
        self.connect = connect
        self.says = says
        self.bounds = bounds if bounds is not None else Bounds()
        self.open: set[Socket] = set()
        """Begun and not settled."""

    def __repr__(self) -> str:
        return f"<Sockets: {len(self.open)} open>"

    def __len__(self) -> int:
        return len(self.open)

    def in_flight(self) -> Counter[str]:
        """Return how many are connected to an upstream, by the route's name."""
        return Counter(socket.route.name for socket in self.open if socket.route is not None and socket.joined)

    async def realtime(self, request: web.Request, request_id: str) -> web.StreamResponse:
        """Carry a realtime socket: its query names the model, so the upstream is reached before the client is let in.

        Raises:
            Problem: The client is answered with it; the record has been made.
        """
        return await Socket(self, request, request_id, realtime.REALTIME_SPEECH).serve()

    async def responses(self, request: web.Request, request_id: str) -> web.StreamResponse:
        """Carry a Responses socket: its first frame names the model.

        Raises:
            Problem: As of `realtime`.
        """
        return await Socket(self, request, request_id, realtime.RESPONSES_SPEECH).serve()

    def stop(self) -> None:
        """The time to drain is over."""
        for socket in tuple(self.open):
            socket.stop(self.says.draining())


class Socket:
    """One client's WebSocket: who it is, where it leads, and how it ended."""

    def __init__(self, sockets: Sockets, request: web.Request, request_id: str, speech: Speech) -> None:
        self._sockets = sockets
        self._shared = sockets.shared()
        self._request = request
        self._snapshot = self._shared.snapshot
        self.request_id = request_id
        self.speech = speech
        self.began = time.monotonic()
        self.handshake: Handshake | None = None
        """Once it has been read."""
        self.span: Span | None = None
        """Ours in the client's trace, or in one that begins here; None: it is not kept."""
        self.key: KeyState | None = None
        self.model = ""
        """As the client wrote it."""
        self.route: Route | None = None
        self.reached_at = 0.0
        """When the search for an upstream began, monotonic seconds."""
        self.reached: Reached | None = None
        self.problem: Problem | None = None
        """Why it was refused, or not carried on."""
        self.join: Join | None = None
        self._client: web.WebSocketResponse[bool] | None = None
        self._limiter: Limiter | None = None
        self._stopped: Problem | None = None
        self._finding: asyncio.Task[Reached] | None = None
        self.traffic = Traffic(self._shared, sockets.says, request_id, speech, self._route_of)
        self.reach = Reach(
            self._snapshot,
            sockets.connect,
            emit=self._shared.emit,
            rng=self._shared.rng,
            says=sockets.says,
            heartbeat_s=max(sockets.bounds.heartbeat_s, self._snapshot.config.requests.write_timeout),
        )

    def __repr__(self) -> str:
        return f"<Socket {self.request_id}: {self.speech.endpoint}, {'joined' if self.joined else 'not joined'}>"

    @property
    def joined(self) -> bool:
        """Both sides are connected."""
        return self.reached is not None and self.join is not None

    @property
    def accepted(self) -> bool:
        """The client's handshake has been answered with 101."""
        return self._client is not None

    def stop(self, problem: Problem) -> None:
        """End it, whatever it does; the client is told why."""
        self._stopped = problem
        if self._finding is not None:
            self._finding.cancel()
        if self.join is not None:
            self.join.stop(problem)

    async def serve(self) -> web.StreamResponse:
        """Carry it, from its handshake to its end; settles it, whatever happens.

        Raises:
            Problem: It was refused before it was accepted.
        """
        self._sockets.open.add(self)
        try:
            return await self._serve()
        except Problem as problem:
            self.problem = problem
            if self._client is None:
                raise
            return await self._broken(self._client, problem)
        except Exception:
            self.problem = self._sockets.says.bug()
            if self._client is None:
                raise
            _logger.exception("a socket failed: %s", self.speech.endpoint)
            return await self._broken(self._client, self.problem)
        finally:
            await self._leave()

    async def _serve(self) -> web.StreamResponse:
        handshake = self.handshake = Handshake(self._request)
        if self._snapshot.sample is not None:
            self.span = begin(handshake.facts.trace, self._snapshot.sample, self._shared.rng)
        self.key = self._sockets.find_key(handshake.credentials)
        if self._shared.closed:
            raise self._sockets.says.draining()
        answer = handshake.prepare(self._sockets.bounds.heartbeat_s)
        if self.speech is realtime.REALTIME_SPEECH:
            await self._serve_realtime(handshake, answer)
        else:
            await self._serve_responses(handshake, answer)
        return answer.socket

    async def _broken(self, client: web.WebSocketResponse[bool], problem: Problem) -> web.StreamResponse:
        """Tell a client that was let in why it ends here."""
        if self.join is not None:
            await self.join.close(problem)
        return client

    # the two kinds

    async def _serve_realtime(self, handshake: Handshake, answer: Answer) -> None:
        query = handshake.query
        named, call = realtime.read_query(query)
        only = None
        if call:
            route, only = self._call(call)
        else:
            route = self._route_of(named or self._snapshot.config.default_models.get("realtime", ""))
        self.route = route
        self._take()
        await self._find(handshake, route, lambda model: realtime.with_model(query, model), only)
        await self._accept(answer)
        await self._carry()

    async def _serve_responses(self, handshake: Handshake, answer: Answer) -> None:
        self._take()
        await self._accept(answer)
        first = await self._first_frame()
        if first is None:
            return
        data, frame, route = first
        self.route = route
        only = self._owner_of(route, frame.ask.named_id)
        reached = await self._find(handshake, route, lambda _: handshake.query, only)
        await self._carry(realtime.with_frame_model(data, frame.ask, reached.model))

    async def _first_frame(self) -> tuple[bytes, ClientFrame, Route] | None:
        """Return the frame that decides where the socket goes; a client may be told what is wrong, and try again."""
        assert self.join is not None
        while (message := await self.join.first_message()) is not None:
            data, text = message
            try:
                frame = self.traffic.read(data, text=text)
                if not frame.begins:
                    raise RequestError(
                        Kind.MISSING_PARAMETER, "The first frame must be of the type 'response.create'.", param="type"
                    )
                return (
                    data,
                    frame,
                    self._route_of(frame.ask.model or self._snapshot.config.default_models.get("responses", "")),
                )
            except Problem as problem:
                await self.join.tell(problem)
        return None

    # admit

    def _route_of(self, model: str) -> Route:
        """Return what serves a model.

        Raises:
            RequestError: Nothing does, or the key may not use it.
        """
        if not model:
            raise RequestError(Kind.MISSING_PARAMETER, "The request must name a model.", param="model")
        catalogue = self._snapshot.catalogue
        self.model = self.model or model
        route = catalogue.find(model, Dialect.OPENAI.value)
        if route is None and catalogue.find(model) is not None:
            text = f"The model '{model}' cannot be used with this endpoint."
            raise RequestError(Kind.UNSUPPORTED_ENDPOINT, text, param="model")
        if route is None:
            raise RequestError(Kind.MODEL_NOT_FOUND, f"model '{model}' not found", param="model")
        if self.key is not None and not self.key.allowed(model):
            raise RequestError(Kind.MODEL_NOT_ALLOWED, "This API key may not use the model.", param="model")
        return route

    def _take(self) -> None:
        """Take a request and a slot of the key's limits, the slot until the end. Tokens are charged as they are used.

        Raises:
            Refused: One of the limits is reached.
        """
        if self.key is None or (limiter := self.key.limiter) is None:
            return
        now = time.monotonic()
        refusal = limiter.refusal(now, 0)
        if refusal is not None:
            self._shared.emit(LimitDecided(scope="key", limit=refusal.limit, key=self.key.name))
            raise self._sockets.says.limited(refusal)
        limiter.take(now, 0)
        self._limiter = limiter

    def _call(self, identity: str) -> tuple[Route, tuple[str, int]]:
        """Return where a call that began here is going on.

        Raises:
            RequestError: It is nobody's, or another key's.
            Refused: Its upstream is not served any more.
        """
        owners, key = self._shared.owners, self.key.name if self.key is not None else ""
        owner = owners.find(identity, key, time.monotonic()) if owners is not None else None
        if owner is None:
            raise RequestError(Kind.NOT_FOUND, "There is no call with this id.", param="call_id")
        self.model = owner.route
        route = self._snapshot.catalogue.routes.get(owner.route)
        if route is None or route.pool.at(owner.upstream, owner.credential) is None:
            raise self._sockets.says.owner_down(1.0)
        return route, (owner.upstream, owner.credential)

    def _owner_of(self, route: Route, identity: str) -> tuple[str, int] | None:
        """Return upstream and credential that hold what a frame refers to; None if nobody knows.

        Raises:
            RequestError: It is another key's.
            Refused: The upstream that holds it does not serve the model.
        """
        owners, key, now = self._shared.owners, self.key.name if self.key is not None else "", time.monotonic()
        owner = owners.find(identity, key, now) if owners is not None and identity else None
        if owner is None:
            if owners is not None and owners.is_foreign(identity, key, now):
                raise RequestError(Kind.NOT_FOUND, "There is nothing with this id.")
            return None
        if route.pool.at(owner.upstream, owner.credential) is None:
            raise self._sockets.says.owner_down(1.0)
        return owner.upstream, owner.credential

    # connect

    async def _find(
        self, handshake: Handshake, route: Route, query: Callable[[str], bytes], only: tuple[str, int] | None = None
    ) -> Reached:
        """Connect to an upstream.

        Raises:
            Problem: None takes us, or the daemon stops.
        """
        self.reached_at = time.monotonic()
        wanted = Wanted(
            route=route,
            model=self.model,
            path=self.speech.path,
            query=query,
            headers=handshake.facts.passing,
            protocols=handshake.offer.passing,
            only=only,
            span=self.span,
            began=self.began,
            restarts=handshake.facts.says_trace and handshake.facts.trace is None,
        )
        finding = self._finding = asyncio.get_running_loop().create_task(self.reach.find(wanted))
        try:
            await asyncio.wait((finding,))
        except asyncio.CancelledError:
            finding.cancel()
            await asyncio.wait((finding,))
            raise
        finally:
            self._finding = None
            if not finding.cancelled() and finding.exception() is None:
                self.reached = finding.result()  # also if nobody waits for it any more: it has to be ended
        if finding.cancelled() and self._stopped is not None:
            raise self._stopped
        return finding.result()

    async def _accept(self, answer: Answer) -> None:
        """Let the client in."""
        headers = {"x-request-id": self.request_id}
        if self._limiter is not None:
            lines = rate_limit_headers(*self._limiter.snapshot(time.monotonic())).decode("ascii").splitlines()
            headers |= dict(line.split(": ", 1) for line in lines)
        if self._snapshot.config.debug.headers and self.reached is not None:
            headers["x-router-upstream"] = self.reached.target.upstream.name
            headers["x-router-attempts"] = str(len(self.reach.attempts) + 1)
        transport = await answer.give(headers)
        write_s = self._snapshot.config.requests.write_timeout
        self.join = Join(answer.socket, transport, taps=self.traffic, bounds=self._sockets.bounds, write_s=write_s)
        self._client = answer.socket
        if self._stopped is not None:
            self.join.stop(self._stopped)

    async def _carry(self, *first: bytes) -> None:
        """Carry messages until it ends."""
        join, reached, route = self.join, self.reached, self.route
        assert join is not None
        assert reached is not None
        assert route is not None
        assert reached.line.transport is not None
        self.reach.close()
        self.traffic.begin(route, reached, self.key, self._limiter)
        await join.run(reached.line.socket, reached.line.transport, *first)

    # settle

    async def _leave(self) -> None:
        try:
            if self.reached is not None:
                await self.reached.line.hang_up()
        finally:
            self._settle()

    def _settle(self) -> None:
        """The final bookkeeping, exactly once: `serve` ends here whatever happened."""
        now = time.monotonic()
        self._sockets.open.discard(self)
        self.reach.close()
        attempts = self.reach.attempts
        if self.reached is not None:
            verdict = socket_record.verdict(
                self.join.end if self.join is not None else None, proven=self.traffic.proven
            )
            lease = self.reached.lease
            if verdict is None:
                lease.withdraw()
            else:
                for event in lease.note(verdict, now, None, self._shared.rng):
                    self._shared.emit(event)
            lease.end(now, 0)
            cause = verdict.cause if verdict is not None else Cause.CLIENT_GONE
            attempts = (*attempts, self.reached.record(now, cause))
        if self._limiter is not None:
            self._limiter.settle(now, 0, None)
        self._shared.emit(socket_record.exchange_ended(self, now, attempts, self._sockets.says.outcome))
