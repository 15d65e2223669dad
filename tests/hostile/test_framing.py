"""Mutations of framing, judged by what the upstream saw and by what the client was told (RELIABILITY 6.6, M1 to M21).

Each is sent on a connection of its own to one running router. The judge is a strict reading of the same bytes
(`reference`): of what that is not sure of the upstream sees nothing, of the rest at most what is there, and whole.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from tests.harness import chat
from tests.harness.client import ClosedError
from tests.harness.upstream import json_answer
from tests.hostile import reference
from tests.hostile.chats import CHAT, MARK, good
from tests.hostile.mutations import Mutation, mutations

if TYPE_CHECKING:
    from tests.harness.client import Answer
    from tests.harness.router import RunningRouter
    from tests.harness.upstream import Received, ScriptedUpstream, Turn
    from tests.relay.conftest import StartRouter

AT_ONCE = 150
"""Connections open at the same time: those that wait for a deadline do so together."""

BOUNDS = {"head_timeout": "1s", "body_timeout": "1s", "keepalive": "1s"}

CARRIED = (CHAT, b"/v1/responses")
"""Paths of the mutations that lead to an upstream, with POST."""

_MARK = re.compile(rb"mark-([0-9]{5})-([a-z])")


async def echo(turn: Turn) -> None:
    """Answer with the markers of the request."""
    marks = sorted({mark[0].decode() for mark in _MARK.finditer(turn.request.head + turn.request.body)})
    await json_answer(chat.completion(" ".join(marks)))(turn)


class Trial:
    """One mutation, sent; what came of it."""

    def __init__(self, mutation: Mutation) -> None:
        self.mutation = mutation
        self.reading = reference.read(mutation.wire)
        self.answers: list[Answer] = []
        self.left = ""
        """What the client got behind the last whole answer, and what is wrong with it."""
        self.seen: list[Received] = []
        """What the upstream got of it."""
        self.next: Answer | None = None
        """What a good client got that asked afterwards."""

    async def run(self, running: RunningRouter) -> None:
        mutation = self.mutation
        async with await running.connect() as client:
            if mutation.warm:
                await client.send(mutation.warm)
                self.answers.append(await client.answer())
            for packet in mutation.packets:
                if client.transport.is_closing():  # it has heard enough
                    break
                client.transport.write(packet)
                await asyncio.sleep(0)
            await client.ended()
            try:
                while client.unread:
                    self.answers.append(await client.answer(self._method(len(self.answers))))
            except (ClosedError, AssertionError) as error:
                self.left = repr(error) + repr(client.unread)
        async with await running.connect() as client:
            await client.send(good(MARK % (mutation.number, "z"), b"Connection: close"))
            self.next = await client.answer()

    def _method(self, number: int) -> str:
        requests = self.reading.requests
        return requests[number].method.decode() if number < len(requests) else "POST"

    @property
    def served(self) -> list[bytes]:
        """The parts of the connection that the upstream got."""
        return [part for received in self.seen for _, part in sorted(marks_in(received.head + received.body))]

    def faults(self) -> list[str]:
        """What must not be, in words."""
        found = [f"no whole answer: {self.left}"] if self.left else []
        return found + self._faults_upstream() + self._faults_downstream()

    def _faults_upstream(self) -> list[str]:
        """The upstream saw certain requests for it, in their order, each once and whole."""
        ahead = [request for request in self.reading.requests if request.method == b"POST" and path(request) in CARRIED]
        for received in self.seen:
            arrived = reference.read(received.head + received.body)
            if not arrived.certain or len(arrived.requests) != 1:
                return [f"sent upstream: {received.head + received.body!r}"]
            marks = marks_in(received.head + received.body)
            while ahead and not (ahead[0].body == received.body and marks_of(ahead[0]) == marks):
                ahead.pop(0)
            if not ahead:
                return [f"made up: {received.head + received.body!r}"]
            ahead.pop(0)
        return []

    def _faults_downstream(self) -> list[str]:
        """No more answers than requests, each its own request's or an error of ours, and nobody else's bytes."""
        found = []
        most = len(self.reading.requests) + (not self.reading.certain)
        if len(self.answers) > most:
            found.append(f"{len(self.answers)} answers to {most} requests")
        served = [marks_in(answer.body) for answer in self.answers if answer.status == 200 and marks_in(answer.body)]
        if served != [marks_in(received.head + received.body) for received in self.seen]:
            found.append(f"answers {served} to other requests")
        strangers = [
            mark for answer in self.answers for mark in marks_in(answer.head + answer.body) if mark[0] != self.number
        ]
        if strangers:
            found.append(f"of other clients: {strangers}")
        found += [f"no error of ours: {answer}" for answer in self.answers if not is_ours(answer)]
        if self.next is None or self.next.status != 200 or marks_in(self.next.body) != {(self.number, b"z")}:
            found.append(f"the next client got {self.next}")
        return found

    @property
    def number(self) -> bytes:
        return b"%05d" % self.mutation.number


def path(request: reference.Request) -> bytes:
    return request.target.partition(b"?")[0]


def marks_in(text: bytes) -> set[tuple[bytes, bytes]]:
    return {(found[1], found[2]) for found in _MARK.finditer(text)}


def marks_of(request: reference.Request) -> set[tuple[bytes, bytes]]:
    """The markers that a request certainly holds and that the router has to pass on."""
    listed = b",".join(request.values(b"connection"))
    kept = b"" if b"x-mark" in listed else b" ".join(request.values(b"x-mark"))
    return marks_in(kept + b" " + request.body)


def is_ours(answer: Answer) -> bool:
    """It is no error, or one in the envelope that says what went wrong; or there was no body to say it in."""
    if answer.status < 400 or not answer.body:
        return answer.status < 500
    try:
        reason, request_id = answer.error["reason"], answer.json["request_id"]
    except (ValueError, KeyError):
        return False
    known = isinstance(reason, str) and request_id == answer.header("x-request-id")
    return known and answer.status < 500 and answer.header("content-type") == "application/json"


async def attempt(running: RunningRouter, first: ScriptedUpstream, tried: list[Mutation]) -> list[Trial]:
    """Send them all; what came of each."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(mutation: Mutation) -> Trial:
        async with turns:
            trial = Trial(mutation)
            await trial.run(running)
            return trial

    trials = await asyncio.gather(*map(one, tried))
    await running.rest()
    by_number = {trial.number: trial for trial in trials}
    for received in first.received:
        (number,) = {number for number, _ in marks_in(received.head + received.body)}
        if (number, b"z") not in marks_in(received.head + received.body):
            by_number[number].seen.append(received)
    return trials


def report(trials: list[Trial]) -> str:
    return "\n".join(f"{trial.mutation.name}: {fault}" for trial in trials for fault in trial.faults())


async def test_no_mutation_makes_two_requests_of_one(router: StartRouter, first: ScriptedUpstream) -> None:
    """Of what is not certain nothing is forwarded, of the rest no more than is there; no answer is another client's."""
    tried = mutations(pairs=800, warmed=True)
    assert len(tried) >= 2000
    first.always(echo)
    trials = await attempt(await router(first, requests=BOUNDS), first, tried)
    assert report(trials) == ""


@pytest.mark.parametrize(("method", "target"), [(b"POST", b"/v1/nowhere"), (b"GET", b"/v1/models")])
async def test_nor_does_any_that_the_relay_does_not_carry(
    router: StartRouter, first: ScriptedUpstream, method: bytes, target: bytes
) -> None:
    """The same holds where a connection is handed over and another server reads the bytes."""
    first.always(echo)
    tried = mutations(pairs=200, method=method, target=target)
    trials = await attempt(await router(first, requests=BOUNDS), first, tried)
    assert report(trials) == ""


async def test_good_requests_are_among_them(router: StartRouter, first: ScriptedUpstream) -> None:
    """What every server reads alike is served, so that the judge above does not praise a router that refuses all."""
    first.always(echo)
    harmless = re.compile(
        r"(packets:.*|warm:warm|body:chunked(_in_capitals)?/chunks|body:coding='(\\tchunked|chunked )'/chunks"
        r"|body:chunks_(extension|extension_quoted|size_padded|size_in_capitals|two_chunks|trailer)"
        r"|rows:rows=b'(x-a:|x-a:b|Expect: 100-continue|Upgrade: (x|h2c.*|websocket.*)|Connection: x-mark)'/.*"
        r"|before:b'(\\r\\n)*'/[26]|body:length=' \{n\} '/json|rows:host=b'\[::1\]')(\+warm:warm)?"
    )
    tried = [mutation for mutation in mutations(pairs=0, warmed=True) if harmless.fullmatch(mutation.name)]
    assert len(tried) > 40
    trials = await attempt(await router(first, requests=BOUNDS), first, tried)
    assert report(trials) == ""
    assert [trial.mutation.name for trial in trials if b"a" not in trial.served] == []
    # What is sent behind chunks is told to come again; everything else is served to the last request.
    counted = [
        trial for trial in trials if "chunked" not in trial.mutation.name and "chunks_" not in trial.mutation.name
    ]
    assert [trial.mutation.name for trial in counted if len(trial.seen) != len(trial.reading.requests)] == []


@pytest.mark.parametrize("lone", [b"\n", b"\r", b"\n\r\n", b"\r\r\n", b"\r\n\n"])
@pytest.mark.parametrize("behind", [b"", good("mark-00000-a")], ids=["first", "second"])
async def test_a_lone_line_end_before_a_request_is_refused(
    router: StartRouter, first: ScriptedUpstream, lone: bytes, behind: bytes
) -> None:
    """Only whole empty lines are ignored there: what is left of a body that was counted wrong is no empty line."""
    running = await router(first)
    client = await running.connect()
    await client.send(behind + lone + good("mark-00000-b"))
    if behind:
        assert (await client.answer()).status == 200
    answer = await client.answer()
    assert (answer.status, answer.error["reason"]) == (400, "malformed_http")
    assert await client.ended() == b""
    assert [received.json["user"] for received in first.received] == (["mark-00000-a"] if behind else [])
