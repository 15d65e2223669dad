"""`llm-router explain`, typed: against a file without its secrets, and against a real daemon."""

from __future__ import annotations

import asyncio
import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands.operating import Stranger, ask, write
from tests.harness import chat
from tests.harness.client import Client, post
from tests.harness.program import command, program, running
from tests.harness.router import config
from tests.harness.upstream import ScriptedUpstream, error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

URL = "http://127.0.0.1:1/v1"
SECRET = "sk-client-1234567890"
KEYS = {
    "team": {"secret": {"sha256": hashlib.sha256(SECRET.encode()).hexdigest()}, "limits": {"requests_per_minute": 1}},
    "old": {"secret": {"env": "NOBODY_HAS_SET_THIS"}, "disabled": True},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "router.yaml"


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    await scripted.start()
    yield scripted
    await scripted.close()


async def told(*arguments: str | Path) -> tuple[int | None, dict[str, Any]]:
    """Exit status and JSON of an explanation."""
    status, text, errors = await command("explain", "--json", *arguments)
    assert errors == ""
    value = json.loads(text)
    assert isinstance(value, dict)
    return status, value


async def test_a_file_needs_no_secrets(path: Path) -> None:
    """Served is status 0, refused is 1; none of the secrets that the file names is there."""
    write(path, config(URL, keys=KEYS, upstream={"api_key": {"credential": "none"}}))
    status, text, errors = await command("explain", "m", "--key", "team", "-c", path)
    assert (status, errors) == (0, "")
    assert text.splitlines()[:3] == [
        "would be tried at first",
        "state     of the file after a fresh start: everybody well, nothing in flight, nothing used",
        "key       team: may use it by *",
    ]
    assert "\x1b" not in text
    status, text, _ = await command("explain", "n", "--key", "team", "-c", path)
    assert (status, text.splitlines()[0]) == (1, "refused: 404 model_not_found")


async def test_a_key_by_its_secret(path: Path, tmp_path: Path) -> None:
    """What a client sends, from a file, names the key; secrets that cannot be looked up are said not to be compared."""
    write(path, config(URL, keys=KEYS))
    (tmp_path / "token").write_text(f"{SECRET}\n")
    status, text, errors = await command("explain", "m", "--json", "--key-file", tmp_path / "token", "-c", path)
    assert (status, json.loads(text)["key"]["name"]) == (0, "team")
    assert errors == "not compared: environment variable NOBODY_HAS_SET_THIS is not set\n"
    assert SECRET not in text


async def test_the_body_of_a_request(path: Path, tmp_path: Path) -> None:
    """From a file or standard input, its model too; the numbers are the body's."""
    write(path, config(URL))
    body = tmp_path / "body.json"
    body.write_bytes(chat.request(max_tokens=77, stream=True))
    status, value = await told("-", "--body", body, "-c", path)
    assert (status, value["request"]["model"], value["request"]["output_tokens"]) == (0, "m", 77)
    assert (value["request"]["stream"], value["request"]["text_bytes"]) == (True, body.stat().st_size)
    async with program("explain", "-", "--body", "-", "--json", "-c", str(path)) as process:
        text, _ = await process.communicate()  # it is empty
    assert (process.returncode, json.loads(text)["outlook"]["reason"]) == (1, "invalid_json")


async def test_the_running_daemon_is_asked(path: Path, upstream: ScriptedUpstream) -> None:
    """Its limits and its members as they are now: a key without requests, a member that is out. Nothing is sent."""
    write(
        path, config(upstream, keys={"team": KEYS["team"]}, defaults={"ejection": {"consecutive": 1, "eject": "60s"}})
    )
    upstream.always(error(500))
    async with running(path) as router:
        status, text, errors = await ask(router, "explain", "m", "--key", "team")
        assert (status, errors) == (0, "")
        assert text.splitlines()[1].startswith("state     of the running daemon, configuration ")
        assert upstream.received == []
        async with await Client.connect(router.address) as client:
            await client.send(post(chat.request(), key=SECRET))
            assert (await client.answer()).status == 500
        status, text, _ = await ask(router, "explain", "m", "--key", "team", "--body", str(path), "--json")
        assert (status, json.loads(text)["outlook"]["reason"]) == (1, "invalid_json")
        status, text, _ = await ask(router, "explain", "m", "--key", "team")
        assert (status, text.splitlines()[0][:34]) == (1, "refused: 429 requests_per_minute, ")
        assert "requests: 0 of 1 left, 1 a minute" in text
        assert "out: ejected (consecutive), since " in text
        assert (await ask(router, "explain", "m", "--endpoint", "chta"))[0] == 2
        write(path, chat.request(pad="x" * 1024 * 1024).decode())
        status, _, errors = await ask(router, "explain", "m", "--body", str(path))
        assert (status, "1 MiB" in errors) == (2, True)


@pytest.mark.parametrize("wrong", [("--endpoint", "chta"), ("--endpoint", "speech2"), ("--body", "/nowhere/at/all")])
async def test_a_question_without_sense(path: Path, wrong: tuple[str, str]) -> None:
    """Status 2 and three lines at most, with what to do."""
    write(path, config(URL))
    status, text, errors = await command("explain", "m", *wrong, "-c", path)
    assert (status, text) == (2, "")
    assert 1 < len(errors.splitlines()) <= 3


async def test_a_body_that_is_no_text(path: Path, tmp_path: Path) -> None:
    """Status 2: what is not UTF-8 is nobody's JSON."""
    write(path, config(URL))
    (tmp_path / "body").write_bytes(b"\xff\xfe")
    status, text, errors = await command("explain", "m", "--body", tmp_path / "body", "-c", path)
    assert (status, text) == (2, "")
    assert "not UTF-8" in errors


async def test_a_faulty_file(path: Path) -> None:
    """Status 78 and every fault, as `check` tells them."""
    write(path, "upstreams: {u: {base_url: http://a.test/v1}}\nmodels: {m: nobody}\n")
    status, text, errors = await command("explain", "m", "-c", path)
    assert (status, text) == (78, "")
    assert "nobody" in errors


async def test_no_daemon(path: Path) -> None:
    """Status 69 where nobody answers, or somebody else does, or an older daemon that cannot explain."""
    loop = asyncio.get_running_loop()
    older = b'HTTP/1.1 404 Not Found\r\nContent-Length: 42\r\n\r\n{"error":{"message":"Not Found","code":40}}'
    for answer in (older, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"SSH-2.0-x\r\n"):
        server = await loop.create_server(partial(Stranger, answer), "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        status, text, errors = await command("explain", "m", "--admin", f"{host}:{port}")
        assert (status, text) == (69, "")
        assert len(errors.splitlines()) == 3
        server.close()
        await server.wait_closed()
    write(path, config(URL, admin=f"{host}:{port}"))
    status, _, errors = await command("explain", "m", "--running", "-c", path)
    assert status == 69
    assert f"{host}:{port}" in errors
