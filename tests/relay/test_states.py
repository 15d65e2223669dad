"""The states of an exchange are complete: no state lacks an event, and each cell of the table is true of the code.

Every exchange of every test is held to the table (`harness.watching`). Here each cell is brought about on purpose.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from router.events import Phase
from router.relay.states import TABLE, Event, Rule
from tests.harness import chat
from tests.harness.client import Ending, post
from tests.harness.upstream import (
    chunks,
    cut,
    error,
    json_answer,
    last_chunk,
    play,
    reset,
    sse_head,
    stall,
    wait_for,
)
from tests.harness.waiting import until
from tests.harness.watching import WATCH, Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from router.relay.exchange import Exchange
    from tests.harness.client import Client
    from tests.harness.router import RunningRouter
    from tests.harness.upstream import Script, ScriptedUpstream
    from tests.relay.conftest import StartRouter

NEVER_WAITED_IN = {Phase.ENDING}
"""What aiohttp answers is recorded under it; no exchange is ever in it."""

WAITED_IN = [Phase.PICKING, Phase.CONNECTING, Phase.WAITING, Phase.HOLDING, Phase.RELAYING]
LONG = {"connect": "30s", "first_byte": "30s", "first_token": "30s", "idle": "30s", "total": "60s"}
QUIET = {"heartbeat": "30s", "hold": "30s"}
BUSY = {"heartbeat": "2ms", "hold": "1ms", "early_keepalive": True}
BEGINNINGS: dict[Phase, Script] = {
    Phase.PICKING: error(503),
    Phase.WAITING: play(),
    Phase.HOLDING: play(sse_head(), chunks(chat.role())),
    Phase.RELAYING: play(sse_head(), chunks(chat.token("a"))),
}
"""What an upstream says so that the exchange waits in this state."""
WHOLE = b"".join((chat.token("a"), chat.finish(), chat.DONE))


def test_no_state_lacks_an_event() -> None:
    """Every state in which an exchange can be has a rule for every event, in words, and no rule leads nowhere."""
    assert set(TABLE) == set(Phase) - NEVER_WAITED_IN
    for phase, rules in TABLE.items():
        assert set(rules) == set(Event), phase
        for event, rule in rules.items():
            assert rule.does, (phase, event)
            assert rule.then <= set(TABLE), (phase, event)
            assert Phase.RECEIVING not in rule.then, (phase, event)


def test_every_state_can_be_left() -> None:
    """From every state there is a way to the end, and the client's leaving or the end of a drain is one by itself."""
    for phase in WAITED_IN:
        for event in (Event.CLIENT_GONE, Event.DRAINED):
            assert TABLE[phase][event].then == {Phase.SETTLED}, (phase, event)
        assert Phase.SETTLED in TABLE[phase][Event.DEADLINE].then, phase
    assert not any(rule.then for rule in TABLE[Phase.SETTLED].values())


def test_a_step_outside_the_table_is_seen() -> None:
    """The watch over the other tests has eyes: what the table does not say is no allowed step."""
    assert Step(Phase.WAITING, Event.HEAD, Phase.HOLDING).allowed
    assert not Step(Phase.WAITING, Event.HEAD, Phase.RELAYING).allowed
    assert not Step(Phase.SETTLED, Event.BODY, Phase.SETTLED).allowed


# Each cell


class Scene:
    """One exchange that waits in the wanted state."""

    def __init__(self, running: RunningRouter, client: Client, go_on: asyncio.Event) -> None:
        self.running = running
        self.client = client
        self.go_on = go_on
        """Set, the upstream says what is left of its answer."""
        self.exchange: Exchange = next(iter(running.daemon._relay.exchanges))

    async def seen(self, phase: Phase, event: Event) -> Phase:
        """Wait until the exchange was told that, in that state; where it led."""
        steps = WATCH.steps
        await until(lambda: any(step[:2] == (phase, event) for step in steps), f"{event} while {phase}")
        return next(step.after for step in steps if step[:2] == (phase, event))


@pytest.fixture
def enter(
    router: StartRouter, upstreams: list[ScriptedUpstream], black_hole: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Awaitable[Scene]]:
    """Brings an exchange into a state: `enter(phase, then=SCRIPT, ...settings)`."""

    async def bring(phase: Phase, *, then: Script | None = None, pause_s: float = 60.0, **settings: Any) -> Scene:
        monkeypatch.setattr("router.relay.exchange.backoff", lambda *_: pause_s)
        go_on = asyncio.Event()
        upstream = upstreams[0]
        rest = then or play(chunks(chat.finish(), chat.DONE), last_chunk())
        if phase is Phase.PICKING:
            upstream.then(BEGINNINGS[phase]).always(play(sse_head(), chunks(chat.token("a")), rest))
        elif phase is not Phase.CONNECTING:
            begun = BEGINNINGS[phase]
            if phase is Phase.WAITING and then is None:
                rest = play(sse_head(), chunks(chat.token("a")), rest)
            elif phase is Phase.HOLDING and then is None:
                rest = play(chunks(chat.token("a")), rest)
            upstream.then(play(begun, wait_for(go_on), rest))
        serving: list[ScriptedUpstream | str] = [black_hole if phase is Phase.CONNECTING else upstream]
        settings = {"model": {"timeouts": LONG}, "defaults": {"streams": QUIET}} | settings
        running = await router(*serving, **settings)
        client = await running.open(chat.request(stream=True))
        relay = running.daemon._relay
        await until(lambda: any(each.phase is phase for each in relay.exchanges), f"an exchange that is {phase}")
        return Scene(running, client, go_on)

    return bring


@pytest.mark.parametrize("phase", WAITED_IN)
async def test_a_client_that_leaves_ends_it(enter: Callable[..., Awaitable[Scene]], phase: Phase) -> None:
    """In every state: the client leaves, and the exchange is settled at once, its attempt with it."""
    scene = await enter(phase)
    scene.client.reset()
    assert await scene.seen(phase, Event.CLIENT_GONE) is Phase.SETTLED
    record = await scene.running.record()
    assert (record.phase, record.complete) == (phase, False)
    await scene.running.rest()


@pytest.mark.parametrize("phase", WAITED_IN)
async def test_the_end_of_a_drain_ends_it(enter: Callable[..., Awaitable[Scene]], phase: Phase) -> None:
    """In every state: when the time to drain is over, the client is told `draining`, as an event if it reads them."""
    scene = await enter(phase, stop={"notice": "1ms", "drain": "1ms"})
    scene.running.stopped = True
    stop = asyncio.get_running_loop().create_task(scene.running.daemon.stop())
    answer = await scene.client.answer()
    await stop
    assert await scene.seen(phase, Event.DRAINED) is Phase.SETTLED
    assert b'"draining"' in answer.body
    assert answer.ending is (Ending.ABORTED if phase is Phase.RELAYING else Ending.CLEAN)
    assert answer.status == (200 if phase is Phase.RELAYING else 503)


@pytest.mark.parametrize("phase", WAITED_IN)
async def test_a_deadline_ends_it(enter: Callable[..., Awaitable[Scene]], phase: Phase) -> None:
    """In every state: what does not come in time is not waited for, and with nobody else to ask the client is told."""
    attempts = {"retry": {"attempts": 1 if phase is not Phase.PICKING else 3}, "streams": QUIET}
    short = dict.fromkeys(LONG, "150ms")
    scene = await enter(phase, model={"timeouts": short}, defaults=attempts)
    answer = await scene.client.answer()
    after = await scene.seen(phase, Event.DEADLINE)
    assert after in TABLE[phase][Event.DEADLINE].then
    assert b'"error"' in answer.body
    assert (answer.status == 200) is (phase is Phase.RELAYING)


@pytest.mark.parametrize("phase", WAITED_IN)
async def test_silence_is_filled(enter: Callable[..., Awaitable[Scene]], phase: Phase) -> None:
    """In every state: a client that has heard nothing for a while hears a heartbeat, and that ends nothing."""
    scene = await enter(phase, defaults={"streams": BUSY})
    await scene.client.head()
    await scene.client.until(chat.HEARTBEAT)
    assert await scene.seen(phase, Event.BEAT) is phase
    scene.client.reset()


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.HOLDING, Phase.RELAYING])
async def test_the_next_request_waits(
    enter: Callable[..., Awaitable[Scene]], upstreams: list[ScriptedUpstream], phase: Phase
) -> None:
    """In every state: what the client sends ahead is its next request, answered after this one."""
    scene = await enter(phase)
    await scene.client.send(post(chat.request()))
    assert await scene.seen(phase, Event.CLIENT_BYTES) is phase
    assert len(upstreams[0].received) == 1
    scene.go_on.set()
    assert (await scene.client.answer()).events[-1] == chat.DONE
    assert (await scene.client.answer()).body == chat.completion()


@pytest.mark.parametrize("phase", [Phase.PICKING, Phase.CONNECTING])
async def test_the_next_request_does_not_disturb(enter: Callable[..., Awaitable[Scene]], phase: Phase) -> None:
    """The same where nothing is under way at an upstream; then the client leaves, and neither is asked."""
    scene = await enter(phase)
    await scene.client.send(post(chat.request()))
    assert await scene.seen(phase, Event.CLIENT_BYTES) is phase
    scene.client.reset()
    assert (await scene.running.record()).phase is phase


@pytest.mark.parametrize("phase", [phase for phase in WAITED_IN if phase is not Phase.CONNECTING])
async def test_a_slow_client_holds_the_upstream_up(enter: Callable[..., Awaitable[Scene]], phase: Phase) -> None:
    """In every state: while the client does not read, content is not read from the upstream, whenever it comes."""
    rest = play(chunks(*[chat.token("x" * 60_000)] * 200), chunks(chat.finish(), chat.DONE), last_chunk())
    scene = await enter(phase, then=play(sse_head(), rest) if phase is Phase.WAITING else rest, pause_s=0.05)
    downstream: Any = scene.exchange._downstream
    downstream.pause_writing()  # as the transport says it
    assert await scene.seen(phase, Event.CLIENT_SLOW) is phase
    scene.go_on.set()

    def paused() -> bool:
        attempt = scene.exchange.attempt
        return attempt is not None and attempt.connection is not None and attempt.connection._paused

    await until(paused, "the upstream is not read")
    downstream.resume_writing()
    answer = await scene.client.answer()
    assert (answer.ending, answer.events[-1]) == (Ending.CLEAN, chat.DONE)
    assert answer.body.count(b"x" * 60_000) == 200


@pytest.mark.parametrize("phase", WAITED_IN)
async def test_a_client_that_reads_again_changes_nothing_else(
    enter: Callable[..., Awaitable[Scene]], phase: Phase
) -> None:
    """In every state: slow, then reading again, leaves the exchange where it was."""
    scene = await enter(phase)
    downstream: Any = scene.exchange._downstream
    downstream.pause_writing()
    downstream.resume_writing()
    assert await scene.seen(phase, Event.CLIENT_READS) is phase
    assert scene.exchange.phase is phase
    scene.client.reset()


async def test_after_a_pause_it_is_tried_again(enter: Callable[..., Awaitable[Scene]]) -> None:
    """The one member that failed is given a moment and then asked again."""
    scene = await enter(Phase.PICKING, pause_s=0.05)
    answer = await scene.client.answer()
    assert await scene.seen(Phase.PICKING, Event.PAUSE_OVER) in TABLE[Phase.PICKING][Event.PAUSE_OVER].then
    assert answer.body == WHOLE


@pytest.mark.parametrize(
    ("phase", "event", "then"),
    [
        (Phase.WAITING, Event.HEAD, error(400)),
        (Phase.WAITING, Event.LOST, reset()),
        (Phase.HOLDING, Event.BODY, chunks(b"data: {nonsense\n\n")),
        (Phase.HOLDING, Event.LOST, reset()),
        (Phase.HOLDING, Event.END, last_chunk()),
        (Phase.RELAYING, Event.BODY, chunks(chat.finish(), chat.DONE)),
        (Phase.RELAYING, Event.LOST, reset()),
        (Phase.RELAYING, Event.LOST, cut()),
        (Phase.RELAYING, Event.END, last_chunk()),
    ],
)
async def test_what_an_upstream_does_ends_it(
    enter: Callable[..., Awaitable[Scene]], phase: Phase, event: Event, then: Script
) -> None:
    """Whatever an upstream does while we wait for it: with nobody else to ask, the exchange ends, and rightly so."""
    scene = await enter(phase, then=play(then, stall()), defaults={"retry": {"attempts": 1}, "streams": QUIET})
    scene.go_on.set()
    answer = await scene.client.answer()
    assert await scene.seen(phase, event) in TABLE[phase][event].then
    record = await scene.running.record()
    if event is Event.BODY and phase is Phase.RELAYING:
        assert (record.complete, answer.body) == (True, WHOLE)
    else:
        assert not record.complete
        assert b"[DONE]" not in answer.body
        assert b'"error"' in answer.body


async def test_nobody_to_connect_to_ends_it(router: StartRouter, first: ScriptedUpstream) -> None:
    """A member that cannot be reached, and no other: the client is told."""
    running = await router(first, defaults={"retry": {"attempts": 1}})
    await first.refuse()
    answer = await running.post()
    assert answer.status in {502, 503}
    assert Step(Phase.CONNECTING, Event.UNREACHABLE, Phase.SETTLED) in WATCH.steps


async def test_half_a_request_is_recorded(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client that leaves within its request is recorded; nobody was asked."""
    running = await router(first)
    client = await running.connect()
    await client.send(post(chat.request())[:-5])
    await running.caught_up(client)
    client.reset()
    record = await running.record()
    assert record.phase is Phase.RECEIVING
    assert WATCH.steps == [Step(Phase.RECEIVING, Event.CLIENT_GONE, Phase.SETTLED)]
    assert first.received == []


async def test_a_whole_answer_takes_the_short_way(router: StartRouter, first: ScriptedUpstream) -> None:
    """The usual request walks through its states once: connecting, waiting, holding, settled."""
    running = await router(first.always(json_answer()))
    assert (await running.post()).body == chat.completion()
    assert [step.after for step in WATCH.steps] == [Phase.CONNECTING, Phase.WAITING, Phase.HOLDING, Phase.SETTLED]


def rules() -> dict[tuple[Phase, Event], Rule]:
    return {(phase, event): rule for phase, row in TABLE.items() for event, rule in row.items()}


def test_what_cannot_come_says_why() -> None:
    """A cell without a way out is one that is explained, not one that was forgotten."""
    for cell, rule in rules().items():
        assert len(rule.does.split()) >= (1 if rule.then else 3), cell
