"""Pages in browsers: what they may read of each kind of answer, and what their browsers ask in advance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from router.events import Outcome, Side
from tests.harness import chat
from tests.harness.client import post
from tests.harness.router import CLIENT_SECRET
from tests.harness.upstream import chunks, cut, error, json_answer, play, sse_head, sse_stream, stall

if TYPE_CHECKING:
    from tests.harness.client import Answer
    from tests.harness.router import RunningRouter
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

PAGE = "https://app.example"
ORIGIN = f"Origin: {PAGE}"
PAGES: dict[str, Any] = {"cors": {"origins": [PAGE, "https://*.example.org"], "max_age": "90s"}}
KEYS: dict[str, Any] = {"keys": {"k": {"secret": {"env": "CLIENT_SECRET"}, "limits": {"requests_per_minute": 1000}}}}
UPSTREAM_SAYS = ("Access-Control-Allow-Origin: *", "access-control-allow-credentials: true", "Vary: Accept-Encoding")
ASKED = "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,x-stainless-retry-count"
ASKS = (ORIGIN, "Access-Control-Request-Method: POST", f"Access-Control-Request-Headers: {ASKED}")
HOSTILE = (
    "null", "https://app.example.evil", "https://evil.example", "https://APP.example", "https://app.example:8443",
    "http://app.example", "https://example.org", "https://a.example.org.evil", f"{PAGE}, https://evil.example", "*",
)  # fmt: skip


def let_in(answer: Answer, page: str = PAGE) -> None:
    """The page may read this answer, and everything about that is said once."""
    assert answer.header("access-control-allow-origin") == page
    assert answer.values("vary").count("origin") == 1
    assert "x-request-id" in (answer.header("access-control-expose-headers") or "")
    assert answer.header("access-control-allow-credentials") is None


def said(answer: Answer) -> list[str]:
    """The headers that are about pages."""
    return [name for name, _ in answer.headers if name.lower().startswith("access-control-")]


async def ask(router: RunningRouter, path: str, *headers: str, method: str = "GET", body: bytes = b"") -> Answer:
    async with await router.connect() as client:
        await client.send(post(body, *headers, path=path, method=method, framing=None if body else ""))
        return await client.answer(method)


async def test_a_relayed_answer_may_be_read(router: StartRouter, first: ScriptedUpstream) -> None:
    """A whole answer, again on the same connection, is for the page; what its upstream said of pages is dropped."""
    running = await router(first.always(json_answer(None, *UPSTREAM_SAYS)), **PAGES, **KEYS)
    async with await running.connect() as client:
        for _ in range(3):
            await client.send(post(chat.request(), ORIGIN, key=CLIENT_SECRET))
            let_in(answer := await client.answer())
            assert (answer.status, answer.json["object"]) == (200, "chat.completion")
            assert answer.values("vary") == ["Accept-Encoding", "origin"]
            exposed = (answer.header("access-control-expose-headers") or "").split(", ")
            assert {name for name, _ in answer.headers if name.startswith(("x-ratelimit-", "x-request-"))} <= {*exposed}
        await client.send(post(chat.request(), "Origin: https://a.b.example.org", key=CLIENT_SECRET))
        let_in(await client.answer(), "https://a.b.example.org")
    assert not (await first.asked()).values("origin")


async def test_a_stream_may_be_read(router: StartRouter, first: ScriptedUpstream) -> None:
    """A stream says so in its head: one that ends well, one begun with heartbeats, and one that breaks off."""
    running = await router(first, **PAGES, defaults={"streams": {"hold": "50ms", "heartbeat": "50ms"}})
    first.then(sse_stream(*chat.answer("Hello.")))
    let_in(await running.stream(ORIGIN))
    first.then(play(sse_head(), chunks(chat.role(), chat.token("Hel")), cut()))
    let_in(broken := await running.stream(ORIGIN))
    assert b"error" in broken.events[-1]
    first.then(play(sse_head(), chunks(b": slow\n\n"), stall()))
    async with await running.open(chat.request(stream=True), ORIGIN) as client:
        let_in(await client.head())
        await client.until(b":")


async def test_our_own_errors_may_be_read(router: StartRouter, first: ScriptedUpstream) -> None:
    """Who has no key, no such model or no such path, or finds all upstreams broken, can tell the user so."""
    first.always(error(500))
    running = await router(first, **PAGES, **KEYS, requests={"body_max": "1KiB"})
    asked = {
        401: await running.post(None, ORIGIN),
        404: await running.post(chat.request(model="unknown"), ORIGIN, key=CLIENT_SECRET),
        400: await running.post(b"{", ORIGIN, key=CLIENT_SECRET),
        413: await running.post(chat.request(more="x" * 2000), ORIGIN, key=CLIENT_SECRET),
        500: await running.post(None, ORIGIN, key=CLIENT_SECRET),
        405: await ask(running, "/v1/chat/completions", ORIGIN, method="PUT"),
    }
    for status, answer in asked.items():
        assert answer.status == status
        let_in(answer)


async def test_an_upstreams_error_may_be_read(router: StartRouter, first: ScriptedUpstream) -> None:
    """An error that passes as the upstream said it is for the page, too."""
    first.always(error(400, chat.error_body("Too long.", kind="invalid_request_error"), *UPSTREAM_SAYS))
    running = await router(first, **PAGES)
    let_in(answer := await running.post(None, ORIGIN))
    assert (answer.status, answer.error["message"]) == (400, "Too long.")


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/models", 200), ("/v1/models/m", 200), ("/v1/models/n", 404),
                         ("/nothing", 404), ("/v1/realtime", 426)]
)  # fmt: skip
async def test_what_is_not_relayed_may_be_read(
    router: StartRouter, first: ScriptedUpstream, path: str, status: int
) -> None:
    """The list of models, one of them and errors of other paths are for the page, and for no other."""
    running = await router(first, **PAGES, **KEYS)
    key = f"Authorization: Bearer {CLIENT_SECRET}"
    let_in(answer := await ask(running, path, ORIGIN, key))
    assert answer.status == status
    for origin in (*HOSTILE, f"{PAGE}\r\n{ORIGIN}"):
        answer = await ask(running, path, f"Origin: {origin}", key)
        assert (answer.status, said(answer), answer.values("vary")) == (status, [], [])


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/audio/transcriptions", "/v1/files/f-1"]
)
async def test_a_preflight_is_answered_without_a_key(router: StartRouter, first: ScriptedUpstream, path: str) -> None:
    """The browser learns that its page may send what it asked for, and the connection serves the request itself."""
    running = await router(first, **PAGES, **KEYS, pins={"files": "first"})
    async with await running.connect() as client:
        await client.send(post(b"", *ASKS, path=path, method="OPTIONS", framing=""))
        let_in(answer := await client.answer("OPTIONS"))
        assert (answer.status, answer.body) == (204, b"")
        assert "POST" in (answer.header("access-control-allow-methods") or "")
        assert answer.header("access-control-allow-headers") == ASKED
        assert answer.header("access-control-max-age") == "90"
        assert answer.header("content-length") is None
        await client.send(post(chat.request(), ORIGIN, key=CLIENT_SECRET))
        assert (await client.answer()).status == 200
    record = await running.record()
    assert (record.endpoint, record.status, record.outcome, record.ended_by) == ("other", 204, Outcome.OK, Side.ROUTER)
    assert (record.key, record.attempts, record.complete) == ("", (), True)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m", "/v1/unknown"])
async def test_a_preflight_for_what_is_not_relayed_is_answered(
    router: StartRouter, first: ScriptedUpstream, path: str
) -> None:
    """The page may then ask for it, with its key, and read what comes of it."""
    running = await router(first, **PAGES, **KEYS)
    let_in(
        answer := await ask(running, path, *ASKS[:1], "Access-Control-Request-Method: GET", *ASKS[2:], method="OPTIONS")
    )
    assert (answer.status, answer.body) == (204, b"")
    assert answer.header("access-control-allow-methods") == "GET, HEAD, POST"
    assert answer.header("access-control-allow-headers") == ASKED
    assert answer.header("access-control-max-age") == "90"


@pytest.mark.parametrize(("path", "status"), [("/v1/chat/completions", 405), ("/v1/models", 405), ("/v1/unknown", 404)])
async def test_what_is_no_preflight_of_a_listed_page_is_refused_as_ever(
    router: StartRouter, first: ScriptedUpstream, path: str, status: int
) -> None:
    """Another page, two origins, none, no method or two of them, or a body: no leave is given."""
    running = await router(first, **PAGES)
    wanted = "Access-Control-Request-Method: POST"
    for origin in (*HOSTILE, f"{PAGE}\r\n{ORIGIN}"):
        answer = await ask(running, path, f"Origin: {origin}", wanted, method="OPTIONS")
        assert (answer.status, said(answer)) == (status, []), origin
    for headers in ((wanted,), (ORIGIN,), (ORIGIN, wanted, wanted)):
        answer = await ask(running, path, *headers, method="OPTIONS")
        assert answer.status == status
        assert answer.header("access-control-allow-methods") is None
    answer = await ask(running, path, *ASKS, method="OPTIONS", body=b"{}")
    assert (answer.status, answer.header("access-control-allow-methods")) == (status, None)
    answer = await ask(running, path, *ASKS, method="PATCH")
    assert (answer.status, answer.header("access-control-allow-methods")) == (status, None)


async def test_other_pages_are_served_as_ever(router: StartRouter, first: ScriptedUpstream) -> None:
    """A browser's request of another page is served like any, and nothing in the answer lets that page read it."""
    first.always(json_answer(None, *UPSTREAM_SAYS))
    running = await router(first, **PAGES, **KEYS)
    for origin in (*HOSTILE, f"{PAGE}\r\n{ORIGIN}"):
        answer = await running.post(None, f"Origin: {origin}", key=CLIENT_SECRET)
        assert (answer.status, said(answer), answer.values("vary")) == (200, [], ["Accept-Encoding"])
    answer = await running.post(None, key=CLIENT_SECRET)
    assert (answer.status, said(answer)) == (200, [])


async def test_every_page_may_be_let_in(router: StartRouter, first: ScriptedUpstream) -> None:
    """`*` answers each alike, in the relay and beside it; what needs a key still does."""
    running = await router(first, **KEYS, cors={"origins": ["*"]})
    for answer in (
        await running.post(None, "Origin: null", key=CLIENT_SECRET),
        await running.post(None, "Origin: https://any.example"),
        await ask(running, "/v1/models", "Origin: https://any.example"),
        await ask(
            running, "/v1/chat/completions", "Origin: null", "Access-Control-Request-Method: POST", method="OPTIONS"
        ),
    ):
        assert (answer.header("access-control-allow-origin"), answer.values("vary")) == ("*", [])
    assert [record.status for record in running.ended] == [200, 401, 401, 204]


async def test_without_the_setting_pages_are_not_spoken_to(router: StartRouter, first: ScriptedUpstream) -> None:
    """As it was: no answer is for a page, and a preflight is a method that the path does not take."""
    first.always(json_answer(None, *UPSTREAM_SAYS))
    running = await router(first, **KEYS)
    for answer, status in (
        (await running.post(None, ORIGIN, key=CLIENT_SECRET), 200),
        (await ask(running, "/v1/models", ORIGIN, f"authorization: Bearer {CLIENT_SECRET}"), 200),
        (await ask(running, "/v1/chat/completions", *ASKS, method="OPTIONS"), 405),
        (await ask(running, "/v1/models", *ASKS, method="OPTIONS"), 405),
    ):
        assert (answer.status, said(answer)) == (status, [])


async def test_a_reload_changes_who_is_let_in(router: StartRouter, first: ScriptedUpstream) -> None:
    """A connection that the browser keeps open is judged by the list of today."""
    from tests.harness.router import config  # noqa: PLC0415

    running = await router(first)
    async with await running.connect() as client:
        for settings, allowed in ((PAGES, PAGE), ({"cors": {"origins": ["https://b.example"]}}, None)):
            await running.reload(config(first, **settings))
            for _ in range(2):
                await client.send(post(chat.request(), ORIGIN))
                assert (await client.answer()).header("access-control-allow-origin") == allowed


async def test_a_stopping_router_still_answers_for_pages(router: StartRouter, first: ScriptedUpstream) -> None:
    """While it drains, preflights and answers are for the page, and each says that the connection ends."""
    running = await router(first, **PAGES)
    running.daemon.drain()
    for answer in (
        await ask(running, "/v1/chat/completions", *ASKS, method="OPTIONS"),
        await running.post(None, ORIGIN),
    ):
        let_in(answer)
        assert answer.header("connection") == "close"


async def test_what_was_sent_behind_a_preflight_is_answered(router: StartRouter, first: ScriptedUpstream) -> None:
    """A preflight takes its turn like every request: what comes at once with it is answered after it, in order."""
    running = await router(first, **PAGES)
    preflight = post(b"", *ASKS, method="OPTIONS", framing="")
    async with await running.connect() as client:
        await client.send(preflight + post(chat.request(), ORIGIN) + preflight)
        assert [(await client.answer(method)).status for method in ("OPTIONS", "POST", "OPTIONS")] == [204, 200, 204]


async def test_a_page_cannot_spend_what_has_no_key(router: StartRouter, first: ScriptedUpstream) -> None:
    """Without keys no page gets a request through, not even by WebSocket; programs and let-in pages do."""
    running = await router(first.always(json_answer()), **PAGES)
    for origin in (*HOSTILE[:-1], "HTTPS://evil.example"):
        answer = await running.post(None, f"Origin: {origin}")
        assert (answer.status, answer.json["error"]["reason"], said(answer)) == (403, "origin_not_allowed", [])
    socket = ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
    path = "/v1/realtime?model=m"
    assert (await ask(running, path, "Connection: upgrade", *socket, "Origin: https://evil.example")).status == 403
    assert (await ask(running, "/v1/models", "Origin: https://evil.example")).status == 403
    assert first.received == []
    for headers in ((), (ORIGIN,), ("Origin: app://notes.example",), ("Origin: chrome-extension://abc",)):
        assert (await running.post(None, *headers)).status == 200
