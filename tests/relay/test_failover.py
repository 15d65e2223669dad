"""No needless failure: what is tried before the first content goes out, and what the client sees if nothing helps.

The rows are those of RELIABILITY 1.7; the shapes are those of PROTOCOL 7.2 and 7.3.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from router.events import Outcome, UpstreamEjected
from tests.harness import chat
from tests.harness.client import Ending
from tests.harness.upstream import (
    Script,
    Turn,
    chunks,
    cut,
    error,
    head,
    json_answer,
    last_chunk,
    plain,
    play,
    reset,
    send,
    sse_head,
    sse_stream,
    stall,
)
from tests.harness.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter


@dataclass(frozen=True)
class Fault:
    """One way to fail before the first content."""

    script: Script
    cause: str
    """What the record says of the attempt."""
    status: int
    reason: str
    """What the client sees when every member fails so; empty: the upstream's own body."""
    outcome: Outcome = Outcome.UPSTREAM_ERROR


MODEL_MISSING = chat.error_body("The model `m` does not exist", kind="invalid_request_error", code="model_not_found")


NO_QUOTA = chat.error_body("You exceeded your quota", kind="insufficient_quota", code="insufficient_quota")


SHORT = send(head(200, chat.CONTENT_TYPE_JSON, "content-length: 5000") + chat.completion())


HTML = b"<html><body>502 Bad Gateway</body></html>"


ANY = {
    "reset": Fault(reset(), "disconnect", 502, "upstream_connection"),
    "closed_without_answer": Fault(cut(), "disconnect", 502, "upstream_connection"),
    "cut_inside_the_head": Fault(play(send(b"HTTP/1.1 200 O"), cut()), "disconnect", 502, "upstream_connection"),
    "garbage": Fault(send(b"\x16\x03\x01 what is this\r\n\r\n"), "protocol", 502, "upstream_protocol"),
    "two_lengths": Fault(
        send(head(200, "content-length: 2", "content-length: 3") + b"{}"), "protocol", 502, "upstream_protocol"
    ),
    "length_and_chunked": Fault(
        send(head(200, "content-length: 2", "transfer-encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n"),
        "protocol",
        502,
        "upstream_protocol",
    ),
    "endless_head": Fault(
        play(send(b"HTTP/1.1 200 OK\r\n", *[b"x-a: " + b"b" * 8000 + b"\r\n"] * 20), stall()),
        "protocol",
        502,
        "upstream_protocol",
    ),
    "switching_protocols": Fault(
        send(head(101, "upgrade: websocket", "connection: upgrade")), "protocol", 502, "upstream_protocol"
    ),
    "no_such_status": Fault(
        send(b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n"), "protocol", 502, "upstream_protocol"
    ),
    "500": Fault(error(500), "http_5xx", 500, ""),
    "502_html": Fault(plain(502, HTML, "content-type: text/html"), "http_5xx", 502, "upstream_error"),
    "503_retry_after": Fault(error(503, None, "retry-after: 7"), "overloaded", 503, ""),
    "529": Fault(error(529), "overloaded", 529, ""),
    "408": Fault(error(408), "http_5xx", 408, ""),
    "429": Fault(error(429, None, "retry-after: 7"), "http_429", 429, "upstream_rate_limited", Outcome.RATE_LIMITED),
    "quota": Fault(error(429, NO_QUOTA), "quota", 502, "upstream_quota"),
    "402": Fault(error(402), "quota", 502, "upstream_quota"),
    "401": Fault(error(401), "auth", 502, "upstream_auth"),
    "403": Fault(error(403), "auth", 502, "upstream_auth"),
    "404_model": Fault(error(404, MODEL_MISSING), "model_missing", 502, "upstream_model_missing"),
    "redirect": Fault(plain(307, b"", "location: http://127.0.0.1:1/"), "redirect", 502, "upstream_protocol"),
    "error_in_200": Fault(json_answer(chat.error_body(kind="odd")), "error_in_200", 502, "upstream_error"),
}


PLAIN = {
    "truncated_body": Fault(play(SHORT, cut()), "disconnect_mid_stream", 502, "upstream_truncated"),
    "broken_body": Fault(play(SHORT, reset()), "disconnect_mid_stream", 502, "upstream_truncated"),
    "cut_chunked_body": Fault(
        play(send(head(200, chat.CONTENT_TYPE_JSON, "transfer-encoding: chunked")), chunks(chat.completion()), cut()),
        "disconnect_mid_stream",
        502,
        "upstream_truncated",
    ),
}


STREAMED = {
    "wrong_content_type": Fault(json_answer(), "wrong_content_type", 502, "upstream_protocol"),
    "role_then_cut": Fault(
        play(sse_head(), chunks(chat.role()), cut()), "disconnect_mid_stream", 502, "upstream_truncated"
    ),
    "role_then_reset": Fault(
        play(sse_head(), chunks(chat.role()), reset()), "disconnect_mid_stream", 502, "upstream_truncated"
    ),
    "part_of_an_event": Fault(
        play(sse_head(), chunks(chat.role(), chat.token("x")[:-4]), cut()),
        "disconnect_mid_stream",
        502,
        "upstream_truncated",
    ),
    "bad_chunk": Fault(play(sse_head(), send(b"zz\r\nnot a chunk size\r\n")), "protocol", 502, "upstream_protocol"),
    "first_event_error": Fault(
        sse_stream(chat.event(json.loads(chat.error_body())), done=False), "http_5xx", 502, "upstream_error"
    ),
    "first_event_rate_limited": Fault(
        sse_stream(
            chat.event({"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}})
        ),
        "http_429",
        429,
        "upstream_rate_limited",
        Outcome.RATE_LIMITED,
    ),
    "first_event_not_json": Fault(sse_stream(b"data: <html>\n\n", done=False), "protocol", 502, "upstream_protocol"),
    "empty_stream": Fault(sse_stream(done=False), "empty_stream", 502, "upstream_truncated"),
    "immediate_done": Fault(sse_stream(), "empty_stream", 502, "upstream_truncated"),
    "comments_only": Fault(sse_stream(b": hello\n\n", done=False), "empty_stream", 502, "upstream_truncated"),
    "role_and_done": Fault(sse_stream(chat.role()), "empty_stream", 502, "upstream_truncated"),
}


CASES = [
    *((name, False, fault) for name, fault in (ANY | PLAIN).items()),
    *((name, True, fault) for name, fault in (ANY | STREAMED).items()),
]


every_fault = pytest.mark.parametrize(
    ("stream", "fault"),
    [(stream, fault) for _, stream, fault in CASES],
    ids=[f"{name}-{'stream' if stream else 'plain'}" for name, stream, _ in CASES],
)


@every_fault
async def test_another_member_answers(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, *, stream: bool, fault: Fault
) -> None:
    """Whatever the first member does wrong before content, the client gets the second one's answer and nothing else."""
    first.always(fault.script)
    second.always(sse_stream(*chat.answer("Hello")) if stream else json_answer())
    running = await router(first, second)
    answer = await running.post(chat.request(stream=stream))
    expected = b"".join((*chat.answer("Hello"), chat.DONE)) if stream else chat.completion()
    assert (answer.status, answer.body, answer.ending) == (200, expected, Ending.CLEAN)
    record = await running.record()
    assert running.causes() == [("first", fault.cause), ("second", "ok")]
    assert (record.outcome, record.status, record.upstream, record.complete) == (Outcome.OK, 200, "second", True)


@every_fault
async def test_when_all_fail_the_status_says_whose_fault_it_was(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, *, stream: bool, fault: Fault
) -> None:
    """With every member failing the same way the client gets the status and reason of the outcome table."""
    for upstream in (first, second):
        upstream.always(fault.script)
    running = await router(first, second)
    answer = await running.post(chat.request(stream=stream))
    assert answer.status == fault.status
    assert answer.header("content-type") == "application/json"
    if fault.reason:
        assert answer.error["reason"] == fault.reason
        assert answer.error["code"] == fault.status
        assert answer.json["request_id"] == answer.header("x-request-id")
    else:
        assert answer.body == chat.error_body()
    record = await running.record()
    assert running.causes()[:2] == [("first", fault.cause), ("second", fault.cause)]
    assert {cause for _, cause in running.causes()} == {fault.cause}
    assert len(record.attempts) <= 3
    assert (record.outcome, record.status) == (fault.outcome, fault.status)


async def test_a_refused_connection_fails_over(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A member that does not listen costs nothing; if none listens the client is told so."""
    await first.refuse()
    running = await router(first, second)
    assert (await running.post()).body == chat.completion()
    assert running.causes() == [("first", "connect"), ("second", "ok")]
    await second.refuse()
    for connection in second.connections:
        connection.transport.abort()
    await until(lambda: second.open_connections == 0)
    answer = await running.post()
    assert (answer.status, answer.error["reason"]) == (502, "upstream_connection")


async def test_a_connection_that_does_not_come_about_fails_over(
    router: StartRouter, second: ScriptedUpstream, black_hole: str
) -> None:
    """Connecting has a deadline; then the next member is asked."""
    running = await router(black_hole, second, model={"timeouts": {"connect": "100ms"}})
    assert (await running.post()).body == chat.completion()
    assert running.causes() == [("first", "timeout_connect"), ("second", "ok")]


@pytest.mark.parametrize("way", ["fin", "rst"])
async def test_a_member_that_hangs_up_at_once_fails_over(
    router: StartRouter, second: ScriptedUpstream, way: str
) -> None:
    """A listener that accepts and closes, as a proxy without a backend does, costs no deadline."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if way == "rst":
            writer.transport.abort()
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        running = await router(f"http://127.0.0.1:{port}/v1", second)
        answers = [await running.post() for _ in range(8)]
    assert {answer.body for answer in answers} == {chat.completion()}
    assert {record.upstream for record in running.ended} == {"second"}


SILENCES = {
    "first_byte-plain": (False, "first_byte", stall(), "timeout_first_byte"),
    "first_byte-stream": (True, "first_byte", stall(), "timeout_first_byte"),
    "first_byte-dripped": (False, "first_byte", play(send(b"HTTP/1.1 200 OK\r\nx-a:"), stall()), "timeout_first_byte"),
    "first_token-head": (True, "first_token", play(sse_head(), stall()), "timeout_first_token"),
    "first_token-role": (True, "first_token", play(sse_head(), chunks(chat.role()), stall()), "timeout_first_token"),
    "idle-plain": (False, "idle", play(SHORT, stall()), "timeout_idle"),
}


@pytest.mark.parametrize(("stream", "deadline", "script", "cause"), SILENCES.values(), ids=SILENCES)
async def test_a_silent_member_is_left(
    router: StartRouter,
    first: ScriptedUpstream,
    second: ScriptedUpstream,
    *,
    stream: bool,
    deadline: str,
    script: Script,
    cause: str,
) -> None:
    """Each phase has a deadline: the silent upstream is closed and the next one asked; if all are silent it is 504."""
    first.always(script)
    second.then(sse_stream(*chat.answer("Hello")) if stream else json_answer()).always(script)
    running = await router(first, second, model={"timeouts": {deadline: "150ms"}})
    assert (await running.post(chat.request(stream=stream))).status == 200
    assert running.causes() == [("first", cause), ("second", "ok")]
    await first.received[0].left()
    answer = await running.post(chat.request(stream=stream))
    assert (answer.status, answer.error["type"], answer.error["reason"]) == (504, "gateway_timeout", "upstream_timeout")
    assert running.ended[-1].outcome is Outcome.TIMEOUT


async def test_the_total_deadline_ends_everything(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """All attempts share one deadline; when it passes the client is answered, whoever is being asked."""
    for upstream in (first, second):
        upstream.always(stall())
    running = await router(first, second, model={"timeouts": {"total": "200ms"}})
    answer = await running.post()
    assert (answer.status, answer.error["reason"]) == (504, "upstream_timeout")
    assert running.causes() == [("first", "timeout_total")]
    assert second.received == []


PASSED = {
    "400": (400, chat.error_body("messages: too short", kind="invalid_request_error")),
    "413": (413, chat.error_body("too long")),
    "415": (415, chat.error_body("what type")),
    "422": (422, chat.error_body("no such field")),
    "404_other": (404, chat.error_body("no such tool", code="tool_not_found")),
    "409": (409, chat.error_body("conflict")),
    "403_content": (
        403,
        chat.error_body("content policy", kind="invalid_request_error", code="content_policy_violation"),
    ),
    "context": (400, chat.error_body("maximum context length is 8192", code="context_length_exceeded")),
}


@pytest.mark.parametrize(("status", "body"), PASSED.values(), ids=PASSED)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_the_clients_own_errors_pass_unchanged(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, *, stream: bool, status: int, body: bytes
) -> None:
    """What would fail anywhere is not tried elsewhere: status and body arrive byte for byte, and nobody is blamed."""
    first.always(error(status, body, "x-should-retry: false"))
    running = await router(first, second, defaults={"ejection": {"consecutive": 1}})
    for _ in range(3):
        answer = await running.post(chat.request(stream=stream))
        assert (answer.status, answer.body) == (status, body)
        assert answer.header("x-should-retry") == "false"
    assert second.received == []
    assert {record.outcome for record in running.ended} == {Outcome.CLIENT_ERROR}
    assert not [event for event in running.events if isinstance(event, UpstreamEjected)]


WRAPPED = {
    "flat": (400, b'{"object":"error","message":"bad","type":"x","code":7}', "application/json", "bad"),
    "detail": (422, b'{"detail":"no such field"}', "application/json", "no such field"),
    "list": (400, b'[{"error":{"message":"API key not valid","code":400}}]', "application/json", "API key not valid"),
    "string": (400, b'{"error":"model is loading"}', "application/json", "model is loading"),
    "html": (413, b"<html>Too large</html>", "text/html", "Too Large"),
    "empty": (415, b"", "text/plain", "Unsupported Media Type"),
}


@pytest.mark.parametrize(("status", "body", "content_type", "message"), WRAPPED.values(), ids=WRAPPED)
async def test_odd_error_shapes_are_wrapped(
    router: StartRouter, first: ScriptedUpstream, *, status: int, body: bytes, content_type: str, message: str
) -> None:
    """An error that is no OpenAI error object gets our envelope, keeps its status and sentence, and the original."""
    first.always(plain(status, body, f"content-type: {content_type}"))
    answer = await (await router(first)).post()
    assert (answer.status, answer.error["code"], answer.error["reason"]) == (status, status, "upstream_error")
    assert message.lower() in answer.error["message"].lower()
    assert answer.header("content-type") == "application/json"
    assert answer.json["request_id"] == answer.header("x-request-id")


async def test_a_client_never_sees_our_credentials_refused(router: StartRouter, first: ScriptedUpstream) -> None:
    """A 401 from upstream is not the client's: it gets 502 and none of the upstream's text, which quotes our key."""
    first.always(error(401, chat.error_body("Incorrect API key provided: sk-upst***6789, organization org-secret")))
    answer = await (await router(first)).post()
    assert (answer.status, answer.error["reason"]) == (502, "upstream_auth")
    assert b"org-secret" not in answer.body
    assert b"sk-upst" not in answer.body
    assert answer.header("www-authenticate") is None


async def test_a_large_request_is_sent_again_whole(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The second member gets the same megabytes as the first, spliced with its own name for the model."""
    first.always(error(500))
    pool = [{"upstream": "first"}, {"upstream": "second", "tier": 2, "model": "other"}]
    running = await router(first, second, model={"pool": pool})
    body = chat.request(user="x" * 2_000_000)
    assert (await running.post(body)).status == 200
    assert first.received[0].body == body
    assert second.received[0].body == body.replace(b'"model":"m"', b'"model":"other"')


async def test_the_held_role_chunk_of_a_lost_attempt_is_dropped(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The client sees one role chunk: that of the member whose content follows."""
    first.always(play(sse_head("x-from: first"), chunks(chat.role()), cut()))
    second.always(play(sse_head("x-from: second"), chunks(*chat.answer("b"), chat.DONE), last_chunk()))
    answer = await (await router(first, second)).stream()
    assert answer.events == [*chat.answer("b"), chat.DONE]
    assert answer.header("x-from") == "second"


OPAQUE = "opaque-credential-0123456789"
"""A credential that looks like nothing, so that only its value tells it."""


def credential(tmp_path: Path, secret: str) -> dict[str, Any]:
    """Settings of an upstream whose credential is `secret`."""
    (tmp_path / "credential").write_text(secret)
    return {"api_key": {"file": "credential"}}


def quoting(secret: str, **more: object) -> bytes:
    return json.dumps({"error": {"message": f"bad: {secret}", "type": "invalid_request_error", **more}}).encode()


TELLING: dict[str, tuple[Script, int]] = {
    "error_object": (error(400, quoting(OPAQUE)), 400),
    "odd_shape": (error(422, json.dumps({"detail": [{"msg": f"you sent Bearer {OPAQUE}"}]}).encode()), 422),
    "gzipped": (error(400, gzip.compress(quoting(OPAQUE)), "content-encoding: gzip"), 400),
    "error_in_200": (json_answer(quoting(OPAQUE, code=400)), 400),
    "gzipped_error_in_200": (json_answer(gzip.compress(quoting(OPAQUE, code=400)), "content-encoding: gzip"), 400),
    "text": (plain(413, f"no, {OPAQUE}".encode(), "content-type: text/plain"), 413),
}


async def test_a_header_that_tells_our_credential_is_dropped(
    router: StartRouter, first: ScriptedUpstream, tmp_path: Path
) -> None:
    """An upstream may quote what it got in a header of its error, in its name even: that line goes no further."""
    echoes = (f"x-got: Bearer {OPAQUE}", f"x{OPAQUE}: y", "x-other: z")
    first.always(error(400, None, *echoes))
    running = await router(first, upstream=credential(tmp_path, OPAQUE))
    answer = await running.post()
    assert (answer.status, answer.header("x-other")) == (400, "z")
    assert OPAQUE.encode() not in answer.head


@pytest.mark.parametrize(("script", "status"), TELLING.values(), ids=TELLING)
async def test_an_error_that_tells_our_credential_is_masked(
    router: StartRouter, first: ScriptedUpstream, tmp_path: Path, *, script: Script, status: int
) -> None:
    """However an upstream quotes the credential it got, coded or under 200: the client gets the status and not that."""
    first.always(script)
    running = await router(first, upstream=credential(tmp_path, OPAQUE))
    answer = await running.post()
    assert first.received[0].values("authorization") == [b"Bearer " + OPAQUE.encode()]
    assert (answer.status, answer.error["code"]) == (status, status)
    assert (answer.header("content-type"), answer.header("content-encoding")) == ("application/json", None)
    assert OPAQUE.encode() not in answer.head + answer.body


@pytest.mark.parametrize("placeholder", ["x", "none", "test", "no-key"])
async def test_a_placeholder_credential_changes_no_error(
    router: StartRouter, first: ScriptedUpstream, tmp_path: Path, placeholder: str
) -> None:
    """A credential so short that it stands in any text is no reason to rewrite an error that can pass."""
    body = quoting(f"maximum context length: {placeholder}")
    first.always(error(400, body))
    running = await router(first, upstream=credential(tmp_path, placeholder))
    answer = await running.post()
    assert (answer.status, answer.body) == (400, body)


async def test_compressed_errors_pass_with_their_coding(router: StartRouter, first: ScriptedUpstream) -> None:
    """What can pass unchanged passes unchanged, its coding named; what must be wrapped is wrapped readable."""
    passing = gzip.compress(quoting("too long"))
    odd = gzip.compress(b'{"detail":"no such field"}')
    first.then(error(400, passing, "content-encoding: gzip"), error(422, odd, "content-encoding: gzip"))
    running = await router(first)
    passed, wrapped = await running.post(), await running.post()
    assert (passed.status, passed.body, passed.header("content-encoding")) == (400, passing, "gzip")
    assert (wrapped.status, wrapped.header("content-encoding")) == (422, None)
    assert "no such field" in wrapped.error["message"]
    assert wrapped.error["upstream"] == '{"detail":"no such field"}'


@pytest.mark.parametrize(("code", "status"), [(400, 400), (422, 422), (413, 413)])
async def test_an_error_under_200_gets_the_status_it_names(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, *, code: int, status: int
) -> None:
    """The client's own fault, told under status 200, arrives under its own and is not tried elsewhere."""
    first.always(json_answer(quoting("too short", code=code)))
    answer = await (await router(first, second)).post()
    assert (answer.status, "too short" in answer.error["message"]) == (status, True)
    assert second.received == []


async def test_json_is_not_taken_for_a_stream_however_long(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Where a stream was asked for, JSON is held only so far; then another member is asked."""

    long = chunks(*[b" " * 60_000] * 400)
    first.always(play(send(head(200, chat.CONTENT_TYPE_JSON, "transfer-encoding: chunked")), long, last_chunk()))
    second.always(sse_stream(*chat.answer("b")))
    running = await router(first, second)
    answer = await running.stream()
    assert answer.events == [*chat.answer("b"), chat.DONE]
    assert first.sent_bytes < 8_000_000
    await first.received[0].left()
    assert running.causes() == [("first", "wrong_content_type"), ("second", "ok")]


async def test_a_large_compressed_answer_passes_unread(router: StartRouter, first: ScriptedUpstream) -> None:
    """What would be too large to read arrives as it came; its usage is then unknown, and not guessed at as exact."""
    body = gzip.compress(chat.completion("y" * 5_000_000))
    small = gzip.compress(chat.completion())
    first.then(*(json_answer(each, "content-encoding: gzip") for each in (body, small)))
    running = await router(first)
    for each in (body, small):
        answer = await running.post()
        assert (answer.status, answer.body, answer.header("content-encoding")) == (200, each, "gzip")
    assert [record.exact for record in running.ended] == [False, True]


async def die_late(turn: Turn) -> None:
    """Close without a word, but not at once."""
    await asyncio.sleep(0.15)
    turn.connection.transport.close()


async def test_a_models_own_total_leaves_time_to_fail_over(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """A model that may take longer than the default has the time to ask another member after that."""
    first.always(die_late)
    running = await router(
        first, second, defaults={"timeouts": {"total": "100ms"}}, model={"timeouts": {"total": "60s"}}
    )
    assert (await running.post()).status == 200
    assert running.causes() == [("first", "disconnect"), ("second", "ok")]


async def test_a_models_own_total_ends_a_pause(router: StartRouter, first: ScriptedUpstream) -> None:
    """A model that may take less than the default is not asked again after a pause that outlasts its time."""
    first.then(die_late)
    running = await router(first, model={"timeouts": {"total": "160ms"}})  # no pause is shorter than 25 ms
    assert (await running.post()).status in {502, 504}
    assert len(running.causes()) == 1
