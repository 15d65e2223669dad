"""One request to an upstream: it is the router's own, and every way of not answering has a name."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from router import __version__
from router.config import loader
from router.doctor import asking
from router.doctor.asking import NoAnswer, get, post
from router.policy.outcomes import Cause
from router.relay.outbox import Outbox
from router.relay.wire import build_wires
from tests.doctor.examining import ONE_KEY, PATIENCE_S, SOON_S, serving
from tests.harness.router import ENVIRON, UPSTREAM_SECRET
from tests.harness.upstream import cut, head, plain, play, send, stall

if TYPE_CHECKING:
    from pathlib import Path

    from router.relay.wire import Wire
    from tests.harness.upstream import Script, ScriptedUpstream


def wire(folder: Path, base_url: str, **upstream: Any) -> Wire:
    text = yaml.safe_dump(serving(base_url, **upstream))
    loaded = loader.parse(text, "router.yaml", directory=folder, environ=ENVIRON)
    loop = asyncio.get_running_loop()
    return build_wires(loaded.config, loaded.secrets, {}, loop, Outbox(loop, ()))["first"]


async def test_the_request_is_the_routers_own(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Address, credential, query and headers are made of the upstream's settings as for every client."""
    made = wire(
        tmp_path,
        upstream.base_url,
        api_key=ONE_KEY,
        auth="api-key",
        query={"api-version": "2026"},
        headers={"set": {"x-title": "router"}, "deny": ["accept"]},
    )
    answer = await get(made, 0, b"/models", timeout_s=PATIENCE_S)
    assert answer.status == 200
    asked = await upstream.asked()
    assert asked.line == b"GET /v1/models?api-version=2026 HTTP/1.1"
    assert asked.values("api-key") == [UPSTREAM_SECRET.encode()]
    assert asked.values("x-title") == [b"router"]
    assert asked.values("user-agent") == [b"llm-router/" + __version__.encode()]
    assert asked.values("accept") == []
    assert asked.values("host") == [f"127.0.0.1:{upstream.port}".encode()]


async def test_a_body_goes_where_its_model_belongs(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Where the model stands in the path, it stands there; the body is sent whole, with its length."""
    made = wire(tmp_path, upstream.base_url, path="/deployments/{model}{path}")
    await post(made, 0, b"/chat/completions", b'{"a":1}', model="gpt x", timeout_s=PATIENCE_S)
    asked = await upstream.asked()
    assert asked.line == b"POST /v1/deployments/gpt%20x/chat/completions HTTP/1.1"
    assert asked.body == b'{"a":1}'
    assert asked.values("content-type") == [b"application/json"]


CHUNKED = "transfer-encoding: chunked"


@pytest.mark.parametrize(
    "script",
    [
        plain(200, b"hello"),
        play(send(head(200, CHUNKED)), send(b"2\r\nhe\r\n", b"3\r\nllo\r\n0\r\n\r\n")),
        play(send(head(200)), send(b"hello"), cut()),
        play(send(b"HTTP/1.1 100 Continue\r\n\r\n"), plain(200, b"hello")),
        plain(200, gzip.compress(b"hello"), "content-encoding: gzip"),
    ],
    ids=["length", "chunked", "until close", "after an interim one", "compressed"],
)
async def test_an_answer_is_read_however_it_is_framed(
    tmp_path: Path, upstream: ScriptedUpstream, script: Script
) -> None:
    """Length, chunks or the end of the connection bound a body; a coding is undone."""
    upstream.always(script)
    answer = await get(wire(tmp_path, upstream.base_url), 0, b"/models", timeout_s=PATIENCE_S)
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.sent <= answer.came


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        (cut(), Cause.CLOSED),
        (send(b"SSH-2.0-OpenSSH_9.9\r\n"), Cause.PROTOCOL),
        (send(b"\x00" * 70_000), Cause.PROTOCOL),
        (play(send(head(200, "content-length: 9") + b"hell"), cut()), Cause.TRUNCATED),
        (stall(), Cause.FIRST_BYTE),
        (play(send(head(200, "content-length: 9") + b"hell"), stall()), Cause.FIRST_BYTE),
    ],
    ids=["closed", "another protocol", "zeros", "cut off", "silent", "silent in the middle"],
)
async def test_no_answer_has_a_cause(tmp_path: Path, upstream: ScriptedUpstream, script: Script, cause: Cause) -> None:
    """The cause is the one that the router would record; silence ends with the time limit."""
    upstream.always(script)
    timeout_s = SOON_S if cause is Cause.FIRST_BYTE else PATIENCE_S
    with pytest.raises(NoAnswer) as caught:
        await get(wire(tmp_path, upstream.base_url), 0, b"/models", timeout_s=timeout_s)
    assert caught.value.cause is cause
    await (await upstream.asked()).left()


async def test_nobody_there_has_a_cause(tmp_path: Path) -> None:
    """A refused connection is told as such, with what the system said."""
    with pytest.raises(NoAnswer) as caught:
        await get(wire(tmp_path, "http://127.0.0.1:1/v1"), 0, b"/models", timeout_s=PATIENCE_S)
    assert caught.value.cause is Cause.CONNECT
    assert "refused" in caught.value.detail


async def test_an_endless_answer_ends(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So much is read and no more; then the connection is closed."""
    monkeypatch.setattr(asking, "BODY_BYTES_MAX", 1 << 20)

    async def endless(turn: Any) -> None:
        await turn.send(head(200, CHUNKED))
        while True:
            await turn.chunk(b"x" * 65536)
            await asyncio.sleep(0)  # or a peer that has left would never be noticed

    upstream.always(endless)
    answer = await get(wire(tmp_path, upstream.base_url), 0, b"/models", timeout_s=PATIENCE_S)
    assert len(answer.body) == 1 << 20
    await (await upstream.asked()).left()


async def test_an_error_is_read_in_any_shape(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """What an error says is found as the relay finds it."""
    upstream.always(plain(400, b'{"detail":"no such thing"}', "content-type: application/json"))
    answer = await get(wire(tmp_path, upstream.base_url), 0, b"/models", timeout_s=PATIENCE_S)
    assert answer.error.message == "no such thing"
