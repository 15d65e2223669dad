"""Every exchange of every test is watched: an event leads where `relay.states` says, or the test fails.

The classes of the relay are wrapped once for the whole process of the tests; what they do is not changed.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from router.relay.answer import ErrorAnswer, OpaqueAnswer, WholeAnswer
from router.relay.downstream import Downstream
from router.relay.exchange import Exchange
from router.relay.states import TABLE, Event
from router.relay.stream import StreamAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.events import Phase

STEPS_MAX = 100_000


class Step(NamedTuple):
    """One event of one exchange."""

    before: Phase
    event: Event
    after: Phase

    @property
    def allowed(self) -> bool:
        return self.after in TABLE[self.before][self.event].then


class Watch:
    """The steps of all exchanges since it was cleared."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        """The last ones, up to a bound."""
        self.wrong: set[Step] = set()
        self._inside: set[int] = set()
        """Exchanges that are dealing with an event: what that calls is no event of its own."""

    def clear(self) -> None:
        self.steps.clear()
        self.wrong.clear()

    def see(self, exchange: Exchange, event: Event, go: Callable[[], Any]) -> Any:
        """Let an event happen, and note where it led."""
        if id(exchange) in self._inside:
            return go()
        self._inside.add(id(exchange))
        before = exchange.phase
        try:
            return go()
        finally:
            self._inside.discard(id(exchange))
            step = Step(before, event, exchange.phase)
            if len(self.steps) < STEPS_MAX:
                self.steps.append(step)
            if not step.allowed:
                self.wrong.add(step)


WATCH = Watch()

_CALLS = {
    "start": Event.START,
    "client_gone": Event.CLIENT_GONE,
    "client_slow": Event.CLIENT_SLOW,
    "client_caught_up": Event.CLIENT_READS,
    "_resume": Event.PAUSE_OVER,
    "upstream_answers": Event.HEAD,
    "upstream_lost": Event.LOST,
    "_timed_out": Event.DEADLINE,
    "_beat": Event.BEAT,
    "stop": Event.DRAINED,
}
"""Methods of the exchange that are events."""


def _wrap(owner: type, name: str, see: Callable[..., tuple[Exchange, Event] | None]) -> None:
    """Watch a method; `see` gives, for its arguments, whose event it is and which, or None for none."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def watched(*arguments: Any, **keywords: Any) -> Any:
        seen = see(*arguments)
        if seen is None:
            return method(*arguments, **keywords)
        return WATCH.see(*seen, lambda: method(*arguments, **keywords))

    setattr(owner, name, watched)


def _reached(exchange: Exchange, _attempt: Any, reached: Any) -> tuple[Exchange, Event]:
    return exchange, Event.UNREACHABLE if isinstance(reached, str) else Event.CONNECTED


def _read(answer: Any, connection: Any) -> tuple[Exchange, Event]:
    return answer._exchange, Event.END if connection.complete else Event.BODY


def _received(downstream: Downstream, _data: bytes) -> tuple[Exchange, Event] | None:
    return None if downstream._current is None else (downstream._current, Event.CLIENT_BYTES)


def _install() -> None:
    for name, event in _CALLS.items():
        _wrap(Exchange, name, lambda exchange, *_, event=event: (exchange, event))
    _wrap(Exchange, "_reached", _reached)
    for answer in (WholeAnswer, OpaqueAnswer, ErrorAnswer, StreamAnswer):
        _wrap(answer, "read", _read)
    _wrap(Downstream, "data_received", _received)


_install()
