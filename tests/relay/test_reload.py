"""Live change: a valid edit applies without one lost request, an invalid one changes nothing (DESIGN 6)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from router.events import UpstreamCooled
from tests.harness import chat
from tests.harness.client import Ending
from tests.harness.router import CLIENT_SECRET, config
from tests.harness.upstream import (
    Turn,
    chunks,
    error,
    json_answer,
    last_chunk,
    play,
    sse_head,
    stall,
    wait_for,
)

if TYPE_CHECKING:
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter


def team(**limits: Any) -> dict[str, Any]:
    return {"team": {"secret": {"env": "CLIENT_SECRET"}, "limits": limits}}


async def test_a_change_applies(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """After a reload new requests go where the new file says, and the same file again changes nothing."""
    running = await router(first)
    await running.post()
    reloaded = await running.reload(config(second))
    assert (reloaded.result, reloaded.faults) == ("applied", ())
    assert (await running.post()).status == 200
    assert (len(first.received), len(second.received)) == (1, 1)
    again = await running.reload(config(second))
    assert (again.result, again.digest) == ("unchanged", reloaded.digest)
    assert reloaded in running.events


async def test_an_invalid_file_changes_nothing(router: StartRouter, first: ScriptedUpstream) -> None:
    """A rejected file is reported with line and column; the old configuration goes on serving."""
    running = await router(first)
    for broken in ("upstreams: [", "", config(first) | {"modles": {}}, config(first, model={"pool": ["nobody"]})):
        rejected = await running.reload(broken)
        assert rejected.result == "rejected"
        assert rejected.faults
        assert all(fault.startswith(f"{running.path.name}:") or str(running.path) in fault for fault in rejected.faults)
        assert (await running.post()).status == 200
    running.path.unlink()
    assert (await running.daemon.reload()).result == "rejected"
    assert (await running.post()).status == 200


async def test_exchanges_in_flight_keep_their_configuration(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A stream goes on though its upstream left the file, and its lease comes back afterwards."""
    go_on = asyncio.Event()
    first.always(
        play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())
    )
    running = await router(first)
    client = await running.open(chat.request(stream=True))
    await client.head()
    await client.until(b'"a"')
    settings = config(second)
    settings["upstreams"] = {"elsewhere": settings["upstreams"]["first"]}
    settings["models"]["m"]["pool"] = ["elsewhere"]
    assert (await running.reload(settings)).result == "applied"
    assert (await running.post()).body == chat.completion()
    go_on.set()
    answer = await client.rest()
    assert (answer.ending, answer.events[-1]) == (Ending.CLEAN, chat.DONE)
    await first.received[0].left()


async def test_failing_over_uses_the_configuration_the_request_began_with(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A request that began before a reload may still move to a member that has left since."""
    fail = asyncio.Event()
    first.always(play(wait_for(fail), error(500)))
    running = await router(first, second)
    client = await running.open()
    await first.asked()
    assert (await running.reload(config(first))).result == "applied"
    fail.set()
    assert (await client.answer()).status == 200
    assert len(second.received) == 1


async def test_no_request_is_lost_while_reloading(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Requests and streams run without a single failure while the file changes twenty times."""

    async def answer(turn: Turn) -> None:
        if turn.request.json.get("stream"):
            await sse_head()(turn)
            for event in (*chat.answer("a", "b", "c"), chat.DONE):
                await turn.chunk(event)
                await asyncio.sleep(0)
            await last_chunk()(turn)
        else:
            await json_answer()(turn)

    for upstream in (first, second):
        upstream.always(answer)
    running = await router(first)
    over = False

    async def keep_asking(*, stream: bool) -> set[tuple[int, Ending]]:
        seen = set()
        while not over:
            result = await running.post(chat.request(stream=stream))
            seen.add((result.status, result.ending))
        return seen

    askers = [asyncio.get_running_loop().create_task(keep_asking(stream=number % 2 == 0)) for number in range(6)]
    for number in range(20):
        settings = config(*((first, second) if number % 2 else (second,)), errors={"code_style": "number"})
        settings["requests"] = {"body_max": 1_000_000 + number}
        assert (await running.reload(settings)).result == "applied"
        await running.record(len(running.ended) + 5)
    over = True
    assert set().union(*await asyncio.gather(*askers)) == {(200, Ending.CLEAN)}
    assert min(len(first.received), len(second.received)) > 5


async def test_a_lowered_limit_applies_at_once(router: StartRouter, first: ScriptedUpstream) -> None:
    """What is in flight counts against the new limit, and a raised one lets in again."""
    go_on = asyncio.Event()
    first.always(play(wait_for(go_on), json_answer()))
    running = await router(first, keys=team(concurrency=10))
    clients = [await running.open(key=CLIENT_SECRET) for _ in range(2)]
    await first.asked(2)
    assert (await running.reload(config(first, keys=team(concurrency=2)))).result == "applied"
    assert (await running.post(key=CLIENT_SECRET)).status == 429
    assert (await running.reload(config(first, keys=team(concurrency=3)))).result == "applied"
    clients.append(await running.open(key=CLIENT_SECRET))
    await first.asked(3)
    go_on.set()
    assert [(await client.answer()).status for client in clients] == [200] * 3


async def test_used_up_limits_stay_used_up(router: StartRouter, first: ScriptedUpstream) -> None:
    """A reload is no way around a limit."""
    running = await router(first, keys=team(requests_per_minute=6, request_burst=1))
    assert [(await running.post(key=CLIENT_SECRET)).status for _ in range(2)] == [200, 429]
    changed = config(first, keys=team(requests_per_minute=6, request_burst=1), errors={"code_style": "string"})
    assert (await running.reload(changed)).result == "applied"
    refused = await running.post(key=CLIENT_SECRET)
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")


async def test_a_deleted_key_is_refused_and_its_streams_finish(router: StartRouter, first: ScriptedUpstream) -> None:
    """From the reload on the key is 401; what it had begun ends in peace."""
    go_on = asyncio.Event()
    first.always(
        play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())
    )
    running = await router(first, keys=team(concurrency=5))
    client = await running.open(chat.request(stream=True), key=CLIENT_SECRET)
    await client.head()
    other = {"other": {"secret": {"env": "OTHER_SECRET"}}}
    assert (await running.reload(config(first, keys=other))).result == "applied"
    assert (await running.post(key=CLIENT_SECRET)).status == 401
    go_on.set()
    assert (await client.rest()).ending is Ending.CLEAN


async def test_cooldowns_survive(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """A rate-limited upstream is still left alone after an unrelated change."""
    first.always(error(429, None, "retry-after: 60"))
    running = await router(first, second)
    await running.post()
    assert [event for event in running.events if isinstance(event, UpstreamCooled)]
    assert (await running.reload(config(first, second, debug={"headers": True}))).result == "applied"
    answer = await running.post()
    assert (answer.header("x-router-upstream"), len(first.received)) == ("second", 1)


async def test_in_flight_counts_survive(router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
    """An upstream that is full before a reload is full after it, until the old exchange ends."""
    go_on = asyncio.Event()
    first.then(play(wait_for(go_on), json_answer()))
    limits = {"limits": {"concurrency": 1}}
    running = await router(first, second, upstream=limits)
    client = await running.open()
    await first.asked()
    changed = config(first, second, upstream=limits, debug={"headers": True})
    assert (await running.reload(changed)).result == "applied"
    assert (await running.post()).header("x-router-upstream") == "second"
    go_on.set()
    assert (await client.answer()).status == 200
    await running.record(2)
    assert (await running.post()).header("x-router-upstream") == "first"


async def test_connections_survive_an_unrelated_change(router: StartRouter, first: ScriptedUpstream) -> None:
    """An upstream whose settings did not change keeps its idle connections."""
    running = await router(first)
    await running.post()
    assert (await running.reload(config(first, debug={"headers": True}))).result == "applied"
    await running.post()
    assert [received.place for received in first.received] == [0, 1]


async def test_an_upstreams_pace_survives_other_changes(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """An upstream whose other settings changed has its rate once, not once more with each reload."""
    pace = {"pace": {"requests": 1, "per": "60s", "wait": "20ms"}}
    running = await router(first, second, upstream=pace)
    await running.post()
    assert (await running.reload(config(first, second, upstream=pace | {"keepalive": "3s"}))).result == "applied"
    assert (await running.post()).status == 200
    assert running.causes() == [("first", "paced_out"), ("second", "ok")]


async def test_idle_connections_of_a_removed_upstream_are_closed(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """What is no longer configured is no longer connected to."""
    running = await router(first)
    await running.post()
    await running.reload(config(second))
    await first.received[0].left()


async def test_a_drained_member_takes_nothing_new(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Weight 0 lets what is in flight end and sends everything new elsewhere."""
    first.always(stall())
    running = await router(first, second)
    client = await running.open()
    await first.asked()
    pool = [{"upstream": "first", "weight": 0}, {"upstream": "second"}]
    assert (await running.reload(config(first, second, model={"pool": pool}))).result == "applied"
    assert [(await running.post()).status for _ in range(3)] == [200] * 3
    assert len(first.received) == 1
    assert not first.received[0].gone.is_set()
    await client.leave()
