"""The states of an exchange, and what each does with every event (DESIGN 5).

This is the map of `exchange`, which carries it out. The tests hold it to the map: they watch every exchange of theirs,
and an event that leads elsewhere than here fails the test in which it came.

An exchange is in no state in which it does not wait for something: `Phase.ENDING` is for what aiohttp answers. And
nothing comes between an event and its end, since what the exchange does with it is plain code without `await`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from router.events import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping


class Event(StrEnum):
    """What an exchange may be told."""

    START = "start"
    """The request is whole, or as much of it as is wanted."""
    CLIENT_BYTES = "client bytes"
    """The client sends on."""
    CLIENT_GONE = "client gone"
    """It closed the connection, or half of it, or we did because it tried our patience."""
    CLIENT_SLOW = "client slow"
    """It does not read, and what we hold for it is enough."""
    CLIENT_READS = "client reads"
    """It has read what we held."""
    PAUSE_OVER = "pause over"
    """The moment that we give a member before it is tried again."""
    CONNECTED = "connected"
    UNREACHABLE = "unreachable"
    """There will be no connection: refused, no such name, no trust, no turn under a pace."""
    HEAD = "head"
    """The final head of an answer."""
    BODY = "body"
    """More of the answer, and not the last of it."""
    END = "end"
    """The answer is whole, as far as HTTP knows."""
    LOST = "lost"
    """The connection broke, or what came on it is no HTTP."""
    DEADLINE = "deadline"
    """What we wait for did not come in time (`patience`)."""
    BEAT = "beat"
    """The client has heard nothing for a while."""
    DRAINED = "drained"
    """The daemon stops, and the time to finish is over."""


class Rule(NamedTuple):
    """What one state does with one event."""

    does: str
    """In words; if it cannot come, why."""
    then: frozenset[Phase]
    """In which state that may leave the exchange; empty if the event cannot come."""


def _does(does: str, *then: Phase) -> Rule:
    return Rule(does, frozenset(then))


def _never(why: str) -> Rule:
    return Rule(why, frozenset())


_RECEIVING, _PICKING, _CONNECTING = Phase.RECEIVING, Phase.PICKING, Phase.CONNECTING
_WAITING, _HOLDING, _RELAYING, _SETTLED = Phase.WAITING, Phase.HOLDING, Phase.RELAYING, Phase.SETTLED

_ANOTHER = (_PICKING, _CONNECTING, _WAITING, _SETTLED)
"""Another attempt, if one may help: after a pause, on a new connection, or on an idle one. Else the end."""

_AHEAD = "kept for the next request; of too much nothing is kept, and the connection ends with this answer"
_LEAVES = "the attempt ends without a verdict on its upstream, its connection is closed, what was used is charged"
_NOTED = "noted: the answer is not read until the client reads"
_SILENCE = "a heartbeat goes out; the first commits the answer to a stream, which ties nobody to this attempt"
_FINISHED = "complete if every choice had its finish reason; else told and cut off: too late for another attempt"
_UNTOLD = "the attempt ends without a verdict; 503 `draining`"

_NOT_YET = _never("there is no exchange before its request is whole")
_NO_ATTEMPT = _never("no attempt is under way, and the connection of one that is over is not ours any more")
_NOT_SENT = _never("nothing has been sent")
_NO_HEAD = _never("the body is read once the head is known")
_ONE_HEAD = _never("what comes behind an answer is not parsed as another: it ends the use of the connection")
_STARTED = _never("it has begun")
_NO_PAUSE = _never("only between attempts is there a pause")
_IS_CONNECTED = _never("the attempt has its connection")
_OVER = _never("it has let go of its client, its attempt and its timers")

TABLE: Mapping[Phase, Mapping[Event, Rule]] = {
    _RECEIVING: {
        Event.START: _does("admit, choose, send; a refusal ends it", _CONNECTING, _WAITING, _SETTLED),
        Event.CLIENT_GONE: _does("half a request is recorded, and nobody is asked", _SETTLED),
        Event.CLIENT_BYTES: _NOT_YET,
        Event.CLIENT_SLOW: _NOT_YET,
        Event.CLIENT_READS: _NOT_YET,
        Event.PAUSE_OVER: _NOT_YET,
        Event.CONNECTED: _NOT_YET,
        Event.UNREACHABLE: _NOT_YET,
        Event.HEAD: _NOT_YET,
        Event.BODY: _NOT_YET,
        Event.END: _NOT_YET,
        Event.LOST: _NOT_YET,
        Event.DEADLINE: _never("until it is whole, the request's own patience is with the connection"),
        Event.BEAT: _NOT_YET,
        Event.DRAINED: _never("half a request is told by the connection, as a request with a problem: it starts"),
    },
    _PICKING: {
        Event.START: _STARTED,
        Event.CLIENT_BYTES: _does(_AHEAD, _PICKING),
        Event.CLIENT_GONE: _does("the pause ends", _SETTLED),
        Event.CLIENT_SLOW: _does(_NOTED, _PICKING),
        Event.CLIENT_READS: _does("noted", _PICKING),
        Event.PAUSE_OVER: _does("choose again; the last one may be tried again", _CONNECTING, _WAITING, _SETTLED),
        Event.CONNECTED: _NO_ATTEMPT,
        Event.UNREACHABLE: _NO_ATTEMPT,
        Event.HEAD: _NO_ATTEMPT,
        Event.BODY: _NO_ATTEMPT,
        Event.END: _NO_ATTEMPT,
        Event.LOST: _NO_ATTEMPT,
        Event.DEADLINE: _does("the client is told what the failed attempts came to", _SETTLED),
        Event.BEAT: _does(_SILENCE, _PICKING),
        Event.DRAINED: _does(_UNTOLD, _SETTLED),
    },
    _CONNECTING: {
        Event.START: _STARTED,
        Event.CLIENT_BYTES: _does(_AHEAD, _CONNECTING),
        Event.CLIENT_GONE: _does("connecting ends; nothing is charged", _SETTLED),
        Event.CLIENT_SLOW: _does(_NOTED, _CONNECTING),
        Event.CLIENT_READS: _does("noted", _CONNECTING),
        Event.PAUSE_OVER: _NO_PAUSE,
        Event.CONNECTED: _does("the request is sent; one that cannot be put to this member goes on", *_ANOTHER),
        Event.UNREACHABLE: _does("another attempt, neither counted nor budgeted: nothing was sent", *_ANOTHER),
        Event.HEAD: _NOT_SENT,
        Event.BODY: _NOT_SENT,
        Event.END: _NOT_SENT,
        Event.LOST: _NOT_SENT,
        Event.DEADLINE: _does("connecting ends; another attempt", *_ANOTHER),
        Event.BEAT: _does(_SILENCE, _CONNECTING),
        Event.DRAINED: _does(_UNTOLD, _SETTLED),
    },
    _WAITING: {
        Event.START: _STARTED,
        Event.CLIENT_BYTES: _does(_AHEAD, _WAITING),
        Event.CLIENT_GONE: _does(_LEAVES, _SETTLED),
        Event.CLIENT_SLOW: _does(_NOTED, _WAITING),
        Event.CLIENT_READS: _does("noted", _WAITING),
        Event.PAUSE_OVER: _NO_PAUSE,
        Event.CONNECTED: _IS_CONNECTED,
        Event.UNREACHABLE: _IS_CONNECTED,
        Event.HEAD: _does("it decides what reads the body; one that promises no answer fails", _HOLDING, *_ANOTHER),
        Event.BODY: _NO_HEAD,
        Event.END: _NO_HEAD,
        Event.LOST: _does("another attempt; if an idle connection was closed under us, there, on a new one", *_ANOTHER),
        Event.DEADLINE: _does("the connection is closed; another attempt", *_ANOTHER),
        Event.BEAT: _does(_SILENCE, _WAITING),
        Event.DRAINED: _does(_UNTOLD, _SETTLED),
    },
    _HOLDING: {
        Event.START: _STARTED,
        Event.CLIENT_BYTES: _does(_AHEAD, _HOLDING),
        Event.CLIENT_GONE: _does(_LEAVES, _SETTLED),
        Event.CLIENT_SLOW: _does(_NOTED, _HOLDING),
        Event.CLIENT_READS: _does("noted", _HOLDING),
        Event.PAUSE_OVER: _NO_PAUSE,
        Event.CONNECTED: _IS_CONNECTED,
        Event.UNREACHABLE: _IS_CONNECTED,
        Event.HEAD: _ONE_HEAD,
        Event.BODY: _does(
            "held until it proves real: content commits the answer, nonsense fails it, a terminal marker ends it",
            _HOLDING, _RELAYING, *_ANOTHER,
        ),
        Event.END: _does("whole and sound, it goes to the client; else another attempt", *_ANOTHER),
        Event.LOST: _does("what was held is dropped; another attempt", *_ANOTHER),
        Event.DEADLINE: _does("what was held is dropped; another attempt", *_ANOTHER),
        Event.BEAT: _does(_SILENCE, _HOLDING),
        Event.DRAINED: _does(_UNTOLD, _SETTLED),
    },
    _RELAYING: {
        Event.START: _STARTED,
        Event.CLIENT_BYTES: _does(_AHEAD, _RELAYING),
        Event.CLIENT_GONE: _does(_LEAVES, _SETTLED),
        Event.CLIENT_SLOW: _does("the upstream is not read until the client reads", _RELAYING),
        Event.CLIENT_READS: _does("the upstream is read on, and its time to speak begins anew", _RELAYING),
        Event.PAUSE_OVER: _NO_PAUSE,
        Event.CONNECTED: _IS_CONNECTED,
        Event.UNREACHABLE: _IS_CONNECTED,
        Event.HEAD: _ONE_HEAD,
        Event.BODY: _does("passed on; a terminal marker ends it, whatever comes behind", _RELAYING, _SETTLED),
        Event.END: _does("complete if the answer said so; else the client is told and cut off", _SETTLED),
        Event.LOST: _does(_FINISHED, _SETTLED),
        Event.DEADLINE: _does(_FINISHED, _SETTLED),
        Event.BEAT: _does("a heartbeat goes out, if the last thing sent was a whole event", _RELAYING),
        Event.DRAINED: _does(_FINISHED, _SETTLED),
    },
    _SETTLED: dict.fromkeys(Event, _OVER),
}  # fmt: skip
"""No state is left out, and no event in any of them."""
