"""What is written in one turn of the loop: all of it, in order, whoever of the readers has just left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from router.events import Outcome
from router.relay.outbox import CROWD_MIN, Outbox
from router.relay.upstream import JOINED_MAX, UpstreamConnection
from tests.harness import chat
from tests.harness.client import Ending
from tests.harness.upstream import Turn, chunks, last_chunk, play, sse_head, wait_for
from tests.harness.waiting import until

if TYPE_CHECKING:
    from router.relay.pool import ConnectionPool
    from router.relay.upstream import Owner
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

CROWD = range(CROWD_MIN)
NOBODY = range(0)


class Wire:
    """A transport that keeps what is written, and raises once its peer has left, as uvloop's do."""

    def __init__(self, sent: list[tuple[str, bytes]], name: str = "") -> None:
        self.left = False
        self.lines: list[list[bytes]] = []
        self._sent, self._name = sent, name

    def is_closing(self) -> bool:
        return self.left

    def write(self, data: bytes) -> None:
        if self.left:
            raise RuntimeError("the handle is closed")
        self._sent.append((self._name, data))

    def writelines(self, lines: list[bytes]) -> None:
        self.lines.append(list(lines))


def transport(wire: Wire) -> asyncio.Transport:
    return cast("asyncio.Transport", wire)


async def test_in_a_crowd_writes_wait_for_the_end_of_the_turn() -> None:
    """Nothing is written before the turn ends; then all of it, in the order in which it was put."""
    sent: list[tuple[str, bytes]] = []
    a, b = Wire(sent, "a"), Wire(sent, "b")
    outbox = Outbox(asyncio.get_running_loop(), CROWD)
    for wire, data in ((a, b"1"), (b, b"2"), (a, b"3")):
        outbox.put(transport(wire), data)
    assert sent == []
    await asyncio.sleep(0)
    assert sent == [("a", b"1"), ("b", b"2"), ("a", b"3")]
    outbox.flush()
    assert len(sent) == 3


async def test_among_few_a_write_is_made_at_once() -> None:
    """With little to do nothing waits, but for what must not overtake a write that does."""
    sent: list[tuple[str, bytes]] = []
    wire = transport(Wire(sent))
    crowd = list(CROWD)
    outbox = Outbox(asyncio.get_running_loop(), crowd)
    outbox.put(wire, b"waits")
    crowd.clear()
    outbox.put(wire, b"waits behind it")
    assert sent == []
    outbox.flush()
    outbox.put(wire, b"at once")
    assert [data for _, data in sent] == [b"waits", b"waits behind it", b"at once"]
    await asyncio.sleep(0)
    assert len(sent) == 3


async def test_who_has_left_costs_nobody_else_a_write() -> None:
    """A reader that leaves between `put` and the end of the turn is passed over, and all others get theirs."""
    sent: list[tuple[str, bytes]] = []
    wires = [Wire(sent, str(number)) for number in range(5)]
    outbox = Outbox(asyncio.get_running_loop(), CROWD)
    for wire in wires:
        outbox.put(transport(wire), b"x")
    wires[0].left = wires[2].left = True
    outbox.flush()
    assert [name for name, _ in sent] == ["1", "3", "4"]


async def test_who_has_left_raises_nothing_among_few() -> None:
    """Writing at once to a reader that has left is no error of the writer's."""
    sent: list[tuple[str, bytes]] = []
    wire = Wire(sent)
    wire.left = True
    Outbox(asyncio.get_running_loop(), NOBODY).put(transport(wire), b"x")
    assert sent == []


class Pool:
    """What a connection needs of its pool in order to send."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox


@pytest.mark.parametrize("tail", [b"}", b"x" * JOINED_MAX])
async def test_a_large_request_is_neither_copied_nor_kept_waiting(tail: bytes) -> None:
    """Its parts are handed over as they are, at once and behind what waits, whichever of them is the large one."""
    sent: list[tuple[str, bytes]] = []
    wire = Wire(sent)
    outbox = Outbox(asyncio.get_running_loop(), CROWD)
    outbox.put(transport(Wire(sent)), b"before")
    connection = UpstreamConnection(cast("ConnectionPool", Pool(outbox)))
    connection.connection_made(transport(wire))
    parts: list[bytes | memoryview] = [b"head", memoryview(b"x" * JOINED_MAX), tail]
    connection.send(cast("Owner", None), parts, sum(map(len, parts[1:])))
    assert [data for _, data in sent] == [b"before"]
    assert [[id(part) for part in lines] for lines in wire.lines] == [[id(part) for part in parts]]


@pytest.mark.parametrize("how", ["half_close_now", "close_now"])
async def test_a_client_that_leaves_takes_nothing_from_the_others(
    router: StartRouter, first: ScriptedUpstream, how: str
) -> None:
    """One of twelve streams is left in the very turn in which all get a token: the eleven others get it."""
    turns: list[Turn] = []
    go_on = asyncio.Event()

    async def note(turn: Turn) -> None:
        turns.append(turn)

    begin = play(note, sse_head(), chunks(chat.role(), chat.token("one")))
    first.always(play(begin, wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk()))
    running = await router(first)
    clients = []
    for _ in range(12):
        client = await running.open(chat.request(stream=True))
        await client.head()
        await client.until(b'"one"')
        clients.append(client)
    leaver, *others = clients
    getattr(leaver, how)()
    second = chat.token("two")
    for turn in turns:  # the leaver's first
        turn.send_now(b"%x\r\n%b\r\n" % (len(second), second))
    await running.record()
    go_on.set()
    answers = [await client.rest() for client in others]
    expected = b"".join((*chat.answer("one", "two"), chat.DONE))
    assert [(answer.ending, answer.body) for answer in answers] == [(Ending.CLEAN, expected)] * 11
    await running.record(12)
    assert [record.outcome for record in running.ended] == [Outcome.CLIENT_GONE, *[Outcome.OK] * 11]


async def test_an_answer_goes_out_before_its_connection_is_drained(
    router: StartRouter, first: ScriptedUpstream
) -> None:
    """What was answered in the turn in which the daemon closes idle connections is still sent."""
    go_on = asyncio.Event()
    first.always(play(sse_head(), chunks(*chat.answer("a")), wait_for(go_on), chunks(chat.DONE), last_chunk()))
    running = await router(first)
    streams = [await running.open(chat.request(stream=True)) for _ in CROWD]
    await first.asked(CROWD_MIN)
    relay = running.daemon._relay
    busy = set(relay.connections)
    idle = await running.connect()
    await until(lambda: relay.connections - busy, "accepted")
    (connection,) = relay.connections - busy
    relay.outbox.put(connection.transport, b"the end of an answer")
    connection.close_if_idle()
    assert await idle.ended() == b"the end of an answer"
    go_on.set()
    for client in streams:
        assert (await client.answer()).ending is Ending.CLEAN
