"""Finding an upstream for a WebSocket: members that cannot are passed over (RELIABILITY 1.7)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from router.events import Outcome
from tests.harness.router import OTHER_SECRET, UPSTREAM_SECRET, config
from tests.harness.socket_upstream import Script, SocketUpstream, refuse, sends, silent, talk
from tests.harness.waiting import PATIENCE_S

if TYPE_CHECKING:
    from tests.harness.socket_client import SocketClient
    from tests.web.conftest import StartRouter


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (refuse(401), "auth"),
        (refuse(429, b'{"error":{"message":"slow down"}}', ("Retry-After", "7")), "http_429"),
        (refuse(500), "http_5xx"),
        (refuse(503), "overloaded"),
        (refuse(302, b"", ("Location", "/elsewhere")), "redirect"),
        (refuse(200, b"{}"), "protocol"),
    ],
    ids=["401", "429", "500", "503", "302", "200"],
)
async def test_a_refused_handshake_goes_to_another_member(  # noqa: PLR0917 -- fixtures
    router: StartRouter, client: SocketClient, first: SocketUpstream, second: SocketUpstream, fault: Any, cause: str
) -> None:
    """While nobody has let us in, the next member is asked, and the client notices nothing."""
    first.always(fault)
    second.always(talk(sends("hello")))
    running = await router(first, second)
    socket = await client.open(running)
    assert (await socket.receive(PATIENCE_S)).data == "hello"
    await socket.close()
    record = await running.record()
    assert running.causes() == [("first", cause), ("second", "ok")]
    assert (record.outcome, record.upstream) == (Outcome.OK, "second")
    assert len(first.calls) == 1


async def test_an_upstream_that_cannot_be_reached_is_passed_over(
    router: StartRouter, client: SocketClient, second: SocketUpstream
) -> None:
    """A refused connection costs nobody anything: the next member serves."""
    running = await router("http://127.0.0.1:1/v1", second)
    socket = await client.open(running)
    await socket.close()
    await running.record()
    assert running.causes() == [("first", "connect"), ("second", "ok")]


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [(refuse(401), 502, "upstream_auth"), (refuse(429), 429, "upstream_rate_limited")],
    ids=["401", "429"],
)
async def test_when_nobody_lets_us_in_the_client_is_told(  # noqa: PLR0917 -- fixtures
    router: StartRouter, client: SocketClient, first: SocketUpstream, fault: Any, status: int, reason: str
) -> None:
    """The end of all attempts is an HTTP error in our words, without the upstream's."""
    first.always(fault)
    running = await router(first)
    answer = await client.refused(running)
    assert (answer[0], answer[1]["reason"]) == (status, reason)
    assert (await running.record()).status == status


@pytest.mark.parametrize("body", [b'{"error":{"message":"no such voice","type":"invalid_request_error"}}', b"oops"])
async def test_an_upstreams_refusal_of_the_request_passes(
    router: StartRouter, client: SocketClient, first: SocketUpstream, second: SocketUpstream, body: bytes
) -> None:
    """What the upstream says is the client's fault the client reads, and no other member is bothered."""
    first.always(refuse(400, body))
    running = await router(first, second)
    status, error, _ = await client.refused(running)
    assert status == 400
    if b"error" in body:
        assert error == json.loads(body)["error"]
    else:
        assert (error["reason"], error["upstream"]) == ("upstream_error", "oops")
    assert ((await running.record()).outcome, second.calls) == (Outcome.CLIENT_ERROR, [])


async def test_an_upstream_that_says_nothing_is_given_up(
    router: StartRouter, client: SocketClient, first: SocketUpstream, second: SocketUpstream
) -> None:
    """A handshake that is not answered in `first_byte` goes elsewhere."""

    first.always(silent)
    running = await router(first, second, defaults={"timeouts": {"first_byte": "50ms"}})
    socket = await client.open(running)
    await socket.close()
    await running.record()
    assert running.causes() == [("first", "timeout_first_byte"), ("second", "ok")]


async def test_a_client_that_leaves_during_the_search_frees_everything(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """Gone before the upstream answered: the attempt is withdrawn, its connection closed, the record says 499."""

    first.always(silent)
    running = await router(first)
    opening = asyncio.get_running_loop().create_task(client.open(running))
    await first.called()
    opening.cancel()
    record = await running.record()
    assert (record.status, record.outcome) == (499, Outcome.CLIENT_GONE)
    assert running.causes() == [("first", "client_gone")]
    await running.rest()


@pytest.mark.parametrize(("fault", "helped"), [(refuse(429), "first"), (refuse(500), "second")], ids=["429", "500"])
async def test_another_credential_helps_against_what_the_account_caused(  # noqa: PLR0917 -- fixtures
    router: StartRouter,
    client: SocketClient,
    first: SocketUpstream,
    second: SocketUpstream,
    fault: Script,
    helped: str,
) -> None:
    """After a 429 the upstream's other credential is tried; after a fault of its own the upstream is avoided."""
    first.then(fault)
    settings = config(first.base_url, second.base_url)["upstreams"]
    del settings["first"]["api_key"]
    settings["first"]["api_keys"] = [{"env": "UPSTREAM_SECRET"}, {"env": "OTHER_SECRET"}]
    running = await router(first, second, upstreams=settings)
    await (await client.open(running)).close()
    failed, served = (await running.record()).attempts
    assert (failed.upstream, served.upstream, served.cause) == ("first", helped, "ok")
    if helped == "first":
        assert {failed.credential, served.credential} == {0, 1}
        sent = [call.values("Authorization") for call in first.calls]
        assert sorted(sent) == [[f"Bearer {OTHER_SECRET}"], [f"Bearer {UPSTREAM_SECRET}"]]
