"""A client's handshake for a WebSocket: who it is, what it offers, what it reads (PROTOCOL 2.7, 3.1)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from router.events import Outcome
from router.protocol import http
from tests.harness.router import CLIENT_SECRET
from tests.harness.socket_upstream import SocketUpstream, sends, talk
from tests.web.conftest import KEYS

if TYPE_CHECKING:
    from tests.harness.socket_client import SocketClient
    from tests.web.conftest import StartRouter


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": f"Bearer {CLIENT_SECRET}"}, {"x-api-key": CLIENT_SECRET}, {"api-key": CLIENT_SECRET}],
    ids=["bearer", "x-api-key", "api-key"],
)
async def test_a_key_comes_in_any_of_three_headers(
    router: StartRouter, client: SocketClient, first: SocketUpstream, headers: dict[str, str]
) -> None:
    """The three headers of every other request say who it is here too."""
    running = await router(first, keys=KEYS)
    socket = await client.open(running, headers=headers)
    await socket.close()
    assert (await running.record()).key == "team"


async def test_browsers_send_the_key_as_a_subprotocol(
    router: StartRouter, client: SocketClient, first: SocketUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """The key is found in the list; only `realtime` is selected, only it and betas go up, and nothing logs the list."""
    first.always(talk(sends(), ("realtime",)))
    running = await router(first, keys=KEYS)
    offered = ("realtime", f"openai-insecure-api-key.{CLIENT_SECRET}", "openai-beta.realtime-v1", "openai-project.p1")
    with caplog.at_level(logging.DEBUG):
        socket = await client.open(running, protocols=offered)
        assert socket.protocol == "realtime"
        await socket.close()
        alone = await client.open(running, protocols=offered[1:2])
        assert alone.protocol is None
        await alone.close()
    calls = [await first.called(1), await first.called(2)]
    assert [call.values("Sec-WebSocket-Protocol") for call in calls] == [["realtime,openai-beta.realtime-v1"], []]
    assert [(await running.record(number)).key for number in (1, 2)] == ["team", "team"]
    assert CLIENT_SECRET not in caplog.text
    assert not any(CLIENT_SECRET.encode() in line for line in http._request_facts)


async def test_a_header_wins_over_a_subprotocol(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """Of two credentials the loser is not tried, as everywhere."""
    running = await router(first, keys=KEYS)
    status, error, _ = await client.refused(
        running,
        Authorization="Bearer wrong-key",
        Sec_WebSocket_Protocol=f"realtime, openai-insecure-api-key.{CLIENT_SECRET}",
    )
    assert (status, error["reason"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/v1/realtime?model=m", "/v1/responses"])
async def test_without_an_upgrade_it_is_426(
    router: StartRouter, client: SocketClient, first: SocketUpstream, path: str
) -> None:
    """A plain GET is told which protocol the path speaks, in our envelope, and leaves one record."""
    running = await router(first)
    async with client.session.get(client.url(running, path)) as answer:
        body = await answer.json()
    assert (answer.status, body["error"]["reason"]) == (426, "upgrade_required")
    assert answer.headers["Upgrade"] == "websocket"
    assert answer.headers["x-request-id"] == body["request_id"]
    record = await running.record()
    assert (record.status, record.request_id, record.outcome) == (426, body["request_id"], Outcome.CLIENT_ERROR)
    assert first.calls == []


async def test_the_answer_to_the_handshake_names_request_and_limits(
    router: StartRouter, client: SocketClient, first: SocketUpstream
) -> None:
    """The 101 carries our request id and what is left of the key's limits."""
    limits = {"requests_per_minute": 60, "tokens_per_minute": 1000}
    running = await router(first, keys={"team": KEYS["team"] | {"limits": limits}})
    socket = await client.open(running, key=CLIENT_SECRET)
    headers = socket._response.headers
    assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-requests"]) == ("1000", "9")
    assert headers["Server"] == "llm-router"
    await socket.close()
    assert (await running.record()).request_id == headers["x-request-id"]
