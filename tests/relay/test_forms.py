"""Forms on their way: scanned, spliced in place, kept on disk when they are large, sent again (PROTOCOL 3.5)."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from tests.harness.client import post
from tests.harness.upstream import error, json_answer, plain
from tests.harness.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.client import Answer
    from tests.harness.router import RunningRouter
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

PATH = "/v1/audio/transcriptions"
ANSWER = b'{"text":"Hello.","usage":{"type":"duration","seconds":3}}'
SOUND = bytes(range(256)).replace(b"@", b"") * 40 + b"\r\n--border-not\r\n--borde"


def form(*parts: bytes, boundary: bytes = b"border") -> bytes:
    return b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts) + b"--%b--\r\n" % boundary


def field(name: str, value: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="%b"\r\n\r\n%b' % (name.encode(), value)


def file(data: bytes) -> bytes:
    head = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    return head + data


def request(body: bytes, path: str = PATH, content_type: str = "multipart/form-data; boundary=border") -> bytes:
    sent = post(body, path=path).replace(b"Content-Type: application/json\r\n", b"", 1)
    return sent.replace(b"Host:", f"Content-Type: {content_type}\r\nHost:".encode(), 1)


async def ask(running: RunningRouter, data: bytes) -> Answer:
    async with await running.connect() as client:
        await client.send(data)
        return await client.answer()


BODIES = {
    "file_first": form(file(SOUND), field("svg[model]", b"no"), field("model", b"@")),
    "model_first": form(field("model", b"@"), field("language", b"en"), file(SOUND)),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("spool_from", ["1KiB", "1MiB"])
async def test_only_the_model_of_a_form_is_changed(
    router: StartRouter, first: ScriptedUpstream, tmp_path: Path, name: str, spool_from: str
) -> None:
    """Wherever the model stands, on disk or in memory: every other byte arrives as it was sent, type and all."""
    first.then(json_answer(ANSWER))
    settings = {"spool_from": spool_from, "spool_dir": str(tmp_path)}
    running = await router(first, model={"pool": [{"upstream": "first", "model": "whisper-1"}]}, requests=settings)
    got = await ask(running, request(BODIES[name].replace(b"@", b"m")))
    assert (got.status, got.body) == (200, ANSWER)
    received = first.received[0]
    assert received.body == BODIES[name].replace(b"@", b"whisper-1")
    assert received.values("content-type") == [b"multipart/form-data; boundary=border"]
    record = await running.record()
    assert record.endpoint == "transcriptions"
    assert record.usage is not None
    assert record.usage.seconds == 3


async def test_a_form_on_disk_is_sent_again(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """When the first upstream fails, the next gets the same bytes, with its own model's name."""
    first.then(error(500))
    second.then(json_answer(ANSWER))
    pool = [{"upstream": "first", "model": "one"}, {"upstream": "second", "model": "another", "tier": 2}]
    running = await router(first, second, model={"pool": pool}, requests={"spool_from": "1KiB"})
    body = BODIES["file_first"]
    assert (await ask(running, request(body.replace(b"@", b"m")))).status == 200
    assert first.received[0].body == body.replace(b"@", b"one")
    assert second.received[0].body == body.replace(b"@", b"another")


async def test_a_large_form_does_not_stay_in_memory(router: StartRouter, first: ScriptedUpstream) -> None:
    """Of a form beyond `spool_from` nothing counts against the memory for bodies, and its file is gone afterwards."""
    first.then(json_answer(ANSWER))
    running = await router(first, requests={"spool_from": "64KiB"})
    before = _open_files()
    body = form(file(b"\x00" * 8_000_000), field("model", b"m"))
    async with await running.connect() as client:
        sent = request(body)
        await client.send(sent[:6_000_000])
        await until(lambda: _open_files() > before, "the body to be on disk")
        assert "body_bytes" not in running.held()
        await client.send(sent[6_000_000:])
        assert (await client.answer()).status == 200
    assert first.received[0].body == body
    await until(lambda: _open_files() == before, "the file to be gone")


@pytest.mark.parametrize("framing", [None, "Transfer-Encoding: chunked"], ids=["announced", "found_out"])
async def test_all_forms_on_disk_have_a_bound(
    router: StartRouter, first: ScriptedUpstream, framing: str | None
) -> None:
    """What would be too much together is refused with 503 as soon as that is known; behind it there is room again."""
    first.always(json_answer(ANSWER))
    running = await router(first, requests={"spool_from": "64KiB", "spooled_total_max": "3MiB"})
    sent = request(form(file(b"\x00" * 2_000_000), field("model", b"m")))
    async with await running.connect() as slow, await running.connect() as other:
        await slow.send(sent[:1_900_000])
        await until(lambda: running.held().get("spooled_bytes", 0) > 1_000_000, "the body to be on disk")
        if framing is None:
            await other.send(sent)
        else:
            head, _, body = sent.partition(b"\r\n\r\n")
            rows = [row for row in head.split(b"\r\n") if not row.startswith(b"Content-Length")]
            await other.send(b"\r\n".join((*rows, framing.encode())) + b"\r\n\r\n%x\r\n" % len(body) + body)
        refused = await other.answer()
        assert (refused.status, refused.error["reason"]) == (503, "overloaded")
        await slow.send(sent[1_900_000:])
        assert (await slow.answer()).status == 200
    assert (await ask(running, sent)).status == 200


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(router: StartRouter, first: ScriptedUpstream) -> None:
    """The file comes before the model and the client vanishes: nothing is forwarded, and the space is given back."""
    running = await router(first, requests={"spool_from": "64KiB"})
    before = _open_files()
    client = await running.connect()
    await client.send(request(form(file(b"\x00" * 1_000_000), field("model", b"m")))[:500_000])
    await until(lambda: _open_files() > before, "the body to be on disk")
    await client.leave()
    await until(lambda: _open_files() == before, "the file to be gone")
    assert first.received == []
    assert (await running.record()).outcome == "client_gone"


def _open_files() -> int:
    """Nameless files that this process has open."""
    count = 0
    for each in os.listdir("/proc/self/fd"):  # noqa: PTH208 (links to nothing are what is looked for)
        try:
            count += "(deleted)" in os.readlink(f"/proc/self/fd/{each}")  # noqa: PTH115 (as above)
        except OSError:
            continue
    return count


BAD = {
    "two_models": (form(field("model", b"m"), field("model", b"m")), "duplicate_parameter", 400),
    "other_case": (form(field("Model", b"m")), "duplicate_parameter", 400),
    "no_model": (form(file(b"x")), "missing_required_parameter", 400),
    "no_end": (form(field("model", b"m"))[:-4], "invalid_multipart", 400),
    "endless_headers": (b"--border\r\nX-Long: " + b"a" * 9000, "invalid_multipart", 400),
    "unknown_model": (form(field("model", b"nobody")), "model_not_found", 404),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_forms_are_refused(router: StartRouter, first: ScriptedUpstream, name: str) -> None:
    """What is no form, or names no model or two, is told so, and nothing of it is forwarded."""
    body, reason, status = BAD[name]
    running = await router(first, requests={"spool_from": "1KiB"})
    got = await ask(running, request(body))
    assert (got.status, got.error["reason"]) == (status, reason)
    assert first.received == []


@pytest.mark.parametrize("content_type", ["multipart/form-data", "application/json", "text/plain"])
async def test_a_form_must_say_what_it_is(router: StartRouter, first: ScriptedUpstream, content_type: str) -> None:
    """Without a boundary, or under another type, a form is refused before anything is forwarded."""
    running = await router(first)
    got = await ask(running, request(BODIES["model_first"], content_type=content_type))
    assert got.status == 400
    assert got.error["reason"] == "invalid_multipart"
    assert first.received == []


async def test_multipart_bytes_under_a_json_type_are_no_json(router: StartRouter, first: ScriptedUpstream) -> None:
    """Where both kinds of body are taken the content type decides, and a form that claims to be JSON is none."""
    running = await router(first)
    got = await ask(running, request(BODIES["model_first"], "/v1/images/edits", "application/json"))
    assert (got.status, got.error["reason"]) == (400, "invalid_json")


async def test_a_form_over_the_bound_is_refused(router: StartRouter, first: ScriptedUpstream) -> None:
    """`form_max` bounds forms as `body_max` bounds other bodies."""
    running = await router(first, requests={"form_max": "10kB", "body_max": "1kB"})
    got = await ask(running, request(form(file(b"x" * 11_000), field("model", b"m"))))
    assert (got.status, got.error["reason"]) == (413, "request_too_large")
    first.then(json_answer(ANSWER))
    assert (await ask(running, request(form(file(b"x" * 8_000), field("model", b"m"))))).status == 200


async def test_an_upstream_that_reads_slowly_gets_it_all(router: StartRouter, first: ScriptedUpstream) -> None:
    """A body on disk goes out as fast as the upstream takes it, whole, while other requests are served."""
    first.then(json_answer(ANSWER))
    running = await router(first, requests={"spool_from": "64KiB", "form_max": "64MiB"})
    body = form(file(os.urandom(1000) * 20_000), field("model", b"m"))
    got, other = await asyncio.gather(ask(running, request(body)), running.post())
    assert (got.status, other.status) == (200, 200)
    assert any(received.body == body for received in first.received)


async def test_a_call_is_offered_with_its_session(router: StartRouter, first: ScriptedUpstream) -> None:
    """The model inside the JSON of the session is replaced there; the answer's SDP and its place come back."""
    first.then(plain(201, b"v=0", "content-type: application/sdp", "location: /v1/realtime/calls/rtc_1"))
    first.then(json_answer(b"{}"))
    running = await router(first, model={"pool": [{"upstream": "first", "model": "gpt-realtime-2"}]})
    session = b'{ "type": "realtime", "model": "m", "instructions": "\\"model\\"" }'
    body = form(field("sdp", b"v=0\r\no=- 1"), field("session", session))
    got = await ask(running, request(body, "/v1/realtime/calls"))
    assert (got.status, got.body) == (201, b"v=0")
    assert got.header("location") == "/v1/realtime/calls/rtc_1"
    assert first.received[0].body == body.replace(b'"m"', b'"gpt-realtime-2"')
    assert (await ask(running, post(b"", path="/v1/realtime/calls/rtc_1/hangup"))).status == 200
    assert first.received[1].line == b"POST /v1/realtime/calls/rtc_1/hangup HTTP/1.1"
    assert (await ask(running, post(b"", path="/v1/realtime/calls/rtc_2/hangup"))).status == 404


async def test_a_call_may_name_its_model_in_the_query(router: StartRouter, first: ScriptedUpstream) -> None:
    """With a bare offer the model of the query is replaced and the offer left alone; without a model it is refused."""
    first.then(plain(201, b"v=0", "content-type: application/sdp"))
    running = await router(first, model={"pool": [{"upstream": "first", "model": "a/b"}]})
    got = await ask(running, request(b"v=0", "/v1/realtime/calls?x=1&model=m&y", "application/sdp"))
    assert got.status == 201
    assert first.received[0].line == b"POST /v1/realtime/calls?x=1&model=a%2Fb&y HTTP/1.1"
    assert first.received[0].body == b"v=0"
    got = await ask(running, request(b"v=0", "/v1/realtime/calls", "application/sdp"))
    assert (got.status, got.error["param"]) == (400, "model")
    bare = form(field("sdp", b"v=0"), field("session", b"{}"))
    got = await ask(running, request(bare, "/v1/realtime/calls"))
    assert (got.status, got.error["param"]) == (400, "session.model")
