"""Who is connected, and who makes room (RELIABILITY 6.5, C7 and C23)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from router.relay.crowd import SHARE, Crowd, address_of
from tests.harness import chat
from tests.harness.client import Client, post
from tests.harness.upstream import json_answer, play, wait_for
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.router import RunningRouter
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

HALF_HEADS = {"relay": post(chat.request())[:40], "aiohttp": b"GET /v1/models HTTP/1.1\r\nHost: a\r\n"}


@dataclass(eq=False)
class Some:
    """A connection as the crowd sees it."""

    address: str = "a"
    waiting_since: float = 0.0
    waits: bool = True
    ended: bool = False

    def make_room(self) -> None:
        self.ended = True


def enter(crowd: Any, *connections: Some, per_address: int | None = None) -> list[Some]:
    """Connect them one after the other; those that had to end."""
    for connection in connections:
        crowd.enter(connection, per_address)
    return [connection for connection in connections if connection.ended]


def test_there_is_room_up_to_the_bound() -> None:
    """As long as there is room nobody ends, whoever they are."""
    crowd = Crowd(5)
    assert enter(crowd, *(Some() for _ in range(5))) == []
    assert len(crowd) == 5


def test_the_one_that_waits_longest_makes_room() -> None:
    """Of one address the oldest of those that wait goes; what is at work stays."""
    crowd = Crowd(3)
    working, old, young = Some(waiting_since=1, waits=False), Some(waiting_since=2), Some(waiting_since=3)
    enter(crowd, working, old, young)
    assert enter(crowd, Some(waiting_since=4)) == []
    assert [working.ended, old.ended, young.ended] == [False, True, False]
    assert len(crowd) == 3


def test_whoever_has_most_makes_room() -> None:
    """An address with many idle connections loses those first, though others wait for longer."""
    crowd = Crowd(10)
    others = [Some(address, waiting_since=0) for address in ("b", "c")]
    many = [Some(waiting_since=1 + number) for number in range(8)]
    enter(crowd, *others, *many)
    enter(crowd, *(Some(waiting_since=20 + number) for number in range(5)))
    assert not any(other.ended for other in others)
    assert [each.ended for each in many] == [True] * 5 + [False] * 3


def test_the_newcomer_goes_where_all_others_work() -> None:
    """Nothing under way is ended for somebody who is new."""
    crowd = Crowd(2)
    enter(crowd, Some(waits=False), Some(waits=False))
    late = Some()
    assert enter(crowd, late) == [late]
    assert len(crowd) == 2


def test_room_is_made_for_several() -> None:
    """Of many a part ends at once: making room is not done for each."""
    crowd = Crowd(10 * SHARE)
    connections = [Some(waiting_since=number) for number in range(10 * SHARE + 1)]
    assert len(enter(crowd, *connections)) == 11
    assert [each.ended for each in connections[:11]] == [True] * 11


def test_an_address_has_its_bound() -> None:
    """Beyond it that address's own oldest waiting connection ends, at last the new one; others are not touched."""
    crowd = Crowd(100)
    other = Some("b")
    first, second = Some(waiting_since=1), Some(waiting_since=2, waits=False)
    enter(crowd, other, first, second, per_address=2)
    third = Some(waiting_since=3)
    enter(crowd, third, per_address=2)
    assert [first.ended, second.ended, third.ended, other.ended] == [True, False, False, False]
    third.waits = False
    fourth = Some(waiting_since=4)
    assert enter(crowd, fourth, per_address=2) == [fourth]
    assert len(crowd) == 3


def test_who_left_counts_no_more() -> None:
    """However often its end is told; and who took a connection over stands for it."""
    crowd: Any = Crowd(2)
    connection, heir = Some(), Some()
    enter(crowd, connection)
    crowd.lend(connection, heir)
    crowd.leave(connection)
    assert len(crowd) == 1
    crowd.leave(heir)
    crowd.leave(heir)
    assert len(crowd) == 0
    assert enter(crowd, Some(), Some(), per_address=2) == []


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("10.0.0.1", 5), "10.0.0.1"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "20010db800010002"),
        (("2001:db8:1:2::1", 5, 0, 0), "20010db800010002"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
        (("fe80::1%eth0", 5, 0, 0), "fe80000000000000"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_ipv6_site_is_one_address(peer: object, address: str) -> None:
    """Whoever has one address of IPv6 has very many: what counts is the first half of it."""
    assert address_of(peer) == address


# On sockets


async def half_heads(running: RunningRouter, half: bytes, count: int) -> list[Client]:
    clients = []
    for _ in range(count):
        clients.append(await running.connect())
        await clients[-1].send(half)
    return clients


@pytest.mark.parametrize("half", HALF_HEADS.values(), ids=HALF_HEADS)
async def test_half_heads_take_nobodys_room(router: StartRouter, first: ScriptedUpstream, half: bytes) -> None:
    """However many drip a head, whoever answers it: they make room, what works goes on and who comes is served."""
    go_on = asyncio.Event()
    first.then(play(wait_for(go_on), json_answer()))
    running = await router(first)
    crowd = running.daemon._relay.crowd
    crowd.most = 10
    working = await running.open()
    await first.asked()
    dripping = await half_heads(running, half, 40)
    await until(lambda: sum(client.closed.is_set() for client in dripping) >= 31, "the dripping to make room")
    assert len(crowd) <= 10
    assert (await running.post()).status == 200
    go_on.set()
    assert (await working.answer()).status == 200


async def test_an_address_has_its_bound_on_the_wire(router: StartRouter, first: ScriptedUpstream) -> None:
    """With `connections_per_address`, the one that waits longest ends for a new one."""
    running = await router(first, requests={"connections_per_address": 3})
    clients = [await running.connect() for _ in range(5)]
    await until(lambda: sum(client.closed.is_set() for client in clients) == 2, "two to have made room")
    assert [client.closed.is_set() for client in clients] == [True, True, False, False, False]
    await clients[-1].send(post(chat.request()))
    assert (await clients[-1].answer()).status == 200


async def test_who_was_answered_by_aiohttp_counts_no_more(router: StartRouter, first: ScriptedUpstream) -> None:
    """A connection that was handed over leaves the count when it ends."""
    running = await router(first)
    crowd = running.daemon._relay.crowd
    client = await running.connect()
    await client.send(post(b"", path="/v1/models", method="GET"))
    assert (await client.answer("GET")).status == 200
    await client.leave()
    await until(lambda: len(crowd) == 0, "nobody is connected")
