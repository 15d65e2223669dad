"""What passes on one WebSocket, as the router sees it: metered, checked where it names a model, unchanged otherwise.

The `Taps` of `sockets`: plain functions that see every message once. An upstream's frame is metered when it comes, so
that a key's limits and the accounts hold at every moment, not only at the end of a conversation.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from router.errors import Kind, RequestError
from router.events import LimitDecided
from router.policy.owners import Owner
from router.protocol import realtime
from router.protocol.usage import add

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.errors import Problem
    from router.events import Usage
    from router.policy.catalogue import Route
    from router.policy.keys import KeyState
    from router.policy.limits import Limiter, Refusal
    from router.protocol.realtime import ClientFrame, Speech
    from router.web.reach import Reached, Says, Shared


class Traffic:
    """The messages of one socket, and what they came to."""

    def __init__(
        self, shared: Shared, says: Says, request_id: str, speech: Speech, route_of: Callable[[str], Route]
    ) -> None:
        """Prepare.

        Args:
            shared: The data path's state.
            says: The words for what goes wrong.
            request_id: Ours.
            speech: What is spoken.
            route_of: Returns what serves a model for this client, and raises RequestError if nothing does.
        """
        self._shared = shared
        self._says = says
        self._request_id = request_id
        self._speech = speech
        self._route_of = route_of
        self._route: Route | None = None
        self._reached: Reached | None = None
        self._key = ""
        self._limiter: Limiter | None = None
        self._overdrawn: Refusal | None = None
        self._lane = ""
        """Of the frame that is being read."""
        self.usage: Usage | None = None
        """Of all answers together."""
        self.charged = 0
        """Tokens, charged to the key's and the upstream's limits."""
        self.answers = 0
        """Frames that begin an answer or report its usage: without any, no usage is missing."""
        self.unfinished = 0
        """Answers that have begun and not ended."""
        self.proven = False
        """The upstream has said something that is not an error."""

    def begin(self, route: Route, reached: Reached, key: KeyState | None, limiter: Limiter | None) -> None:
        """Say where it leads, and whose limits it is charged to."""
        self._route = route
        self._reached = reached
        self._key = key.name if key is not None else ""
        self._limiter = limiter

    def from_client(self, data: bytes, *, text: bool) -> bytes:
        """Look at a client's message; on a realtime socket there is nothing to see."""
        if self._speech is realtime.REALTIME_SPEECH:
            return data
        frame = self.read(data, text=text)
        if frame.ask.model and self._route_of(frame.ask.model) is not self._route:
            why = "Another model needs a connection of its own: this one leads to the upstream of its first model."
            raise RequestError(Kind.UNSUPPORTED_PARAMETER, why, param="model")
        if frame.begins and self._limiter is not None:
            refusal = self._limiter.refusal_of_more(time.monotonic())
            if refusal is not None:
                self._shared.emit(LimitDecided(scope="key", limit=refusal.limit, key=self._key))
                raise self._says.limited(refusal)
        if not frame.ask.model:
            return data
        assert self._reached is not None
        return realtime.with_frame_model(data, frame.ask, self._reached.target.model or frame.ask.model)

    def read(self, data: bytes, *, text: bool) -> ClientFrame:
        """Read a client's frame on a Responses socket.

        Raises:
            RequestError: It is none that could be passed on.
        """
        self._lane = ""
        if not text:
            raise RequestError(Kind.INVALID_JSON, "The frames of this socket are text.")
        frame = realtime.read_client_frame(data)
        self._lane = frame.stream_id
        return frame

    def from_upstream(self, data: bytes, *, text: bool) -> bytes:  # noqa: ARG002 -- what it says counts, not how
        """Meter an upstream's message. HOT: 0.6 us for a frame of sound."""
        frame = self._speech.read(data)
        if not self.proven and not frame.failed:
            self._prove()
        if frame is realtime.OTHER:
            return data
        assert self._reached is not None
        self.answers += frame.begins or frame.usage is not None
        self.unfinished = max(0, self.unfinished + frame.begins - frame.ends)
        if frame.usage is not None:
            self._charge(frame.usage)
        if frame.id and self._shared.owners is not None:
            self._shared.owners.keep(frame.id, self._owner(), time.monotonic())
        return realtime.without_secrets(data, self._reached.wire.credentials) if frame.failed else data

    def _prove(self) -> None:
        assert self._reached is not None
        self.proven = True
        for event in self._reached.lease.prove(time.monotonic()):
            self._shared.emit(event)

    def _charge(self, usage: Usage) -> None:
        """Count what an answer used, with the key's limits and the upstream's."""
        assert self._reached is not None
        now = time.monotonic()
        self.usage = usage if self.usage is None else add(self.usage, usage)
        self.charged += usage.total
        upstream = self._reached.target.upstream.limiter
        if upstream is not None:
            upstream.charge(now, usage.total)
        if self._limiter is not None:
            self._limiter.charge(now, usage.total)
            self._overdrawn = self._limiter.overdrawn(now)

    def _owner(self) -> Owner:
        assert self._reached is not None
        reached, target = self._reached, self._reached.target
        return Owner(reached.route.name, target.upstream.name, target.credential, reached.model, self._key, billed=True)

    def exhausted(self) -> Problem | None:
        """Return why it ends: the key has used up its tokens, and upstreams go on by themselves on a realtime socket.

        On a Responses socket the next request is refused, and the socket lives on.
        """
        if self._overdrawn is None or self._speech is not realtime.REALTIME_SPEECH:
            return None
        return self._says.limited(self._overdrawn)

    def error(self, problem: Problem) -> bytes:
        """Return the frame that tells of a problem."""
        lane, self._lane = self._lane, ""
        return self._speech.error(problem, self._request_id, lane)

    def reason(self, text: str) -> bytes:
        """Return a peer's reason as it may be passed on."""
        return realtime.passing_reason(text, self._reached.wire.credentials if self._reached is not None else ())
