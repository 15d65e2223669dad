"""`traceparent`, with tracing and without: what upstreams hear, and the spans that a real collector gets."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from router.events import Notice
from tests.harness import chat
from tests.harness.router import CLIENT_SECRET, OTHER_SECRET, UPSTREAM_SECRET
from tests.harness.socket_client import SocketClient
from tests.harness.socket_upstream import SocketUpstream, refuse
from tests.harness.upstream import chunks, error, json_answer, last_chunk, play, sse_head, stall
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.harness.collector import Collector, Kept
    from tests.harness.router import RunningRouter
    from tests.harness.upstream import Received, ScriptedUpstream
    from tests.relay.conftest import StartRouter

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAMPLED = f"traceparent: 00-{TRACE}-{PARENT}-01"
UNSAMPLED = f"traceparent: 00-{TRACE}-{PARENT}-00"
STATE = "tracestate: vendor=opaque,other=1"
MESSAGE = b"""{"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
 "content": [{"type": "text", "text": "hi"}], "usage": {"input_tokens": 1, "output_tokens": 2}}"""
ODD = ("traceparent: 00-zz-1-1", "traceparent: ", f"traceparent: 00-{'0' * 32}-{PARENT}-01")


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    pytest.importorskip("opentelemetry.sdk.trace", reason="the extra [otel] is not installed")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra [otel] is not installed")
    from tests.harness.collector import Collector  # noqa: PLC0415 (needs the extra)

    collector = Collector()
    await collector.start()
    yield collector
    await collector.close()


def tracing(collector: Collector | str, **settings: Any) -> dict[str, Any]:
    endpoint = collector if isinstance(collector, str) else collector.endpoint
    return {"tracing": {"endpoint": endpoint, "sample": 1, **settings}}


async def stopped(running: RunningRouter) -> None:
    """Stop it: what it has to deliver is delivered."""
    await running.rest()
    await running.daemon.stop(hurry=True)
    running.stopped = True


def trace_of(request: Received) -> tuple[list[str], list[str]]:
    """What an upstream heard of the trace."""
    traceparent = [value.decode() for value in request.values("traceparent")]
    return traceparent, [value.decode() for value in request.values("tracestate")]


def streaming() -> Any:
    return play(sse_head(), chunks(chat.token("a"), chat.finish(), chat.DONE), last_chunk())


def child(span: Kept) -> str:
    """The `traceparent` that names a span as parent."""
    return f"00-{span.trace_id}-{span.span_id}-01"


# without tracing


@pytest.mark.parametrize("line", [SAMPLED, UNSAMPLED, *ODD])
async def test_without_tracing_a_trace_passes_as_it_came(
    router: StartRouter, first: ScriptedUpstream, second: ScriptedUpstream, line: str
) -> None:
    """Both headers reach every upstream that is tried, byte for byte, whatever they say."""
    first.then(error(500))
    running = await router(first, second)
    assert (await running.post(None, line, STATE)).status == 200
    for upstream in (first, second):
        assert trace_of(upstream.received[0]) == ([line.partition(": ")[2].strip()], ["vendor=opaque,other=1"])


async def test_without_tracing_nothing_is_made_up(router: StartRouter, first: ScriptedUpstream) -> None:
    """A request without a trace goes up without one, and its record has none."""
    running = await router(first)
    await running.post()
    assert trace_of(first.received[0]) == ([], [])
    assert (running.ended[0].trace_id, running.ended[0].span_id) == ("", "")
    assert b"trace" not in running.log_path.read_bytes()


async def test_a_trace_survives_translation(router: StartRouter, first: ScriptedUpstream) -> None:
    """A request that is rebuilt in another protocol belongs to the same trace."""
    first.always(json_answer(MESSAGE))
    running = await router(first, upstream={"protocol": "anthropic"}, model={"translate": True})
    await running.post(None, SAMPLED, STATE)
    assert first.received[0].line == b"POST /v1/messages HTTP/1.1"
    assert trace_of(first.received[0]) == ([SAMPLED[13:]], [STATE[12:]])


@pytest.mark.parametrize(("line", "sampled"), [(SAMPLED, True), (UNSAMPLED, False)])
async def test_the_log_joins_the_trace(router: StartRouter, first: ScriptedUpstream, line: str, sampled: bool) -> None:
    """The record of a request names the client's trace, and whether its spans are kept."""
    running = await router(first)
    await running.post(None, line)
    record = running.ended[0]
    assert (record.trace_id, record.trace_sampled, record.span_id) == (TRACE, sampled, "")


@pytest.mark.parametrize("lines", [(line,) for line in ODD] + [(SAMPLED, SAMPLED)])
async def test_what_is_no_trace_is_not_taken_for_one(
    router: StartRouter, first: ScriptedUpstream, lines: tuple[str, ...]
) -> None:
    """A header that is malformed or stands twice is passed on, and the record knows no trace."""
    running = await router(first)
    assert (await running.post(None, *lines)).status == 200
    assert len(first.received[0].values("traceparent")) == len(lines)
    assert running.ended[0].trace_id == ""


# with tracing


async def test_a_request_has_a_span_and_an_attempt_one_below(
    router: StartRouter, collector: Collector, first: ScriptedUpstream
) -> None:
    """The client's span is the parent of ours, ours of the attempt's, and the attempt's of what the upstream does."""
    running = await router(first, **tracing(collector, service_name="edge"))
    before = time.time_ns()
    await running.post(None, SAMPLED, STATE)
    await stopped(running)
    server, attempt = await collector.got(2)
    assert (server.trace_id, server.parent_id, server.kind, server.status) == (TRACE, PARENT, "SERVER", "UNSET")
    assert (attempt.trace_id, attempt.parent_id, attempt.kind) == (TRACE, server.span_id, "CLIENT")
    assert trace_of(first.received[0]) == ([child(attempt)], [STATE[12:]])
    assert before <= server.start <= attempt.start < attempt.end <= server.end <= time.time_ns()
    assert server.resource["service.name"] == "edge"
    record = running.ended[0]
    assert (record.trace_id, record.trace_sampled) == (TRACE, True)
    assert (record.span_id, record.parent_span_id) == (server.span_id, PARENT)
    assert record.attempts[0].span_id == attempt.span_id


async def test_spans_say_what_happened(router: StartRouter, collector: Collector, first: ScriptedUpstream) -> None:
    """Attributes are those of the GenAI conventions and ours; tokens stand once, at the attempt that used them."""
    running = await router(first, **tracing(collector), model={"price": {"input": 1, "output": 2}})
    await running.post()
    await stopped(running)
    server, attempt = await collector.got(2)
    usage = running.ended[0].usage
    assert usage is not None
    assert server.name == attempt.name == "chat m"
    assert server.attributes.pop("gen_ai.response.time_to_first_chunk") == running.ended[0].ttft_s
    assert server.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": False,
        "gen_ai.provider.name": "openai",
        "http.response.status_code": 200,
        "llm_router.request_id": running.ended[0].request_id,
        "llm_router.endpoint": "chat",
        "llm_router.model": "m",
        "llm_router.outcome": "ok",
        "llm_router.attempts": 1,
        "llm_router.upstream": "first",
        "llm_router.cost_usd": running.ended[0].cost_usd,
    }
    assert attempt.attributes.pop("llm_router.time_to_head") > 0
    assert attempt.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.provider.name": "openai",
        "gen_ai.usage.input_tokens": usage.prompt,
        "gen_ai.usage.output_tokens": usage.completion,
        "http.response.status_code": 200,
        "llm_router.upstream": "first",
        "llm_router.attempt": 1,
        "llm_router.cause": "ok",
        "server.address": "127.0.0.1",
        "server.port": int(first.base_url.rpartition(":")[2].partition("/")[0]),
    }


async def test_a_failover_is_two_attempts_in_one_trace(
    router: StartRouter, collector: Collector, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Each attempt has its span, a failed one says why, and each upstream heard the one of its own attempt."""
    first.then(error(500))
    running = await router(first, second, **tracing(collector))
    await running.post(None, SAMPLED)
    await stopped(running)
    server, failed, good = await collector.got(3)
    assert server.status == "UNSET"
    assert [span.parent_id for span in (failed, good)] == [server.span_id] * 2
    assert (failed.status, failed.attributes["error.type"]) == ("ERROR http_5xx", "http_5xx")
    assert (failed.attributes["llm_router.attempt"], good.attributes["llm_router.attempt"]) == (1, 2)
    assert "gen_ai.usage.input_tokens" not in failed.attributes
    assert trace_of(first.received[0])[0] == [child(failed)]
    assert trace_of(second.received[0])[0] == [child(good)]
    assert failed.span_id != good.span_id
    assert server.start <= failed.start < failed.end <= good.end <= server.end
    assert good.start >= failed.end - 1_000_000


async def test_an_error_is_an_error(router: StartRouter, collector: Collector, first: ScriptedUpstream) -> None:
    """A request that nobody could answer ends in error, with its reason; one that the client got wrong does not."""
    first.always(error(500))
    running = await router(first, **tracing(collector), defaults={"retry": {"attempts": 1}})
    await running.post(None, SAMPLED)
    await running.post(chat.request(model="none"), SAMPLED)
    await stopped(running)
    server, _, refused = await collector.got(3)
    assert (server.status, server.attributes["error.type"]) == ("ERROR upstream_error", "upstream_error")
    assert (refused.status, refused.attributes["error.type"]) == ("UNSET", "model_not_found")
    assert refused.attributes["llm_router.outcome"] == "client_error"
    assert refused.attributes["http.response.status_code"] == 404


async def test_a_stream_says_when_it_began(router: StartRouter, collector: Collector, first: ScriptedUpstream) -> None:
    """A stream's span lasts to its end, and says how long its first content took."""
    first.always(streaming())
    running = await router(first, **tracing(collector))
    await running.stream(SAMPLED)
    await stopped(running)
    server, _ = await collector.got(2)
    assert server.attributes["gen_ai.request.stream"] is True
    assert server.attributes["gen_ai.response.time_to_first_chunk"] == running.ended[0].ttft_s > 0
    assert abs(server.end - server.start - running.ended[0].duration_s * 1e9) < 1000


async def test_a_client_that_leaves_has_its_span(
    router: StartRouter, collector: Collector, first: ScriptedUpstream
) -> None:
    """Request and attempt of a client that left say so, and are no failures of ours or the upstream's."""
    first.always(stall())
    running = await router(first, **tracing(collector))
    client = await running.open(None, SAMPLED)
    await first.asked()
    await client.leave()
    await running.record()
    await stopped(running)
    server, attempt = await collector.got(2)
    assert (server.status, attempt.status) == ("UNSET", "UNSET")
    assert server.attributes["llm_router.outcome"] == server.attributes["error.type"] == "client_gone"
    assert attempt.attributes["llm_router.cause"] == "client_gone"


async def test_who_is_not_sampled_is_left_alone(
    router: StartRouter, collector: Collector, first: ScriptedUpstream
) -> None:
    """The client's flag is obeyed: no span is sent, and the upstream hears the same flag."""
    running = await router(first, **tracing(collector))
    await running.post(None, UNSAMPLED, STATE)
    await running.post(None, SAMPLED)
    await stopped(running)
    assert trace_of(first.received[0]) == ([UNSAMPLED[13:]], [STATE[12:]])
    assert {span.span_id for span in await collector.got(2)} == {
        running.ended[1].span_id,
        running.ended[1].attempts[0].span_id,
    }
    assert (running.ended[0].trace_id, running.ended[0].trace_sampled) == (TRACE, False)


@pytest.mark.parametrize("line", ["", *ODD])
async def test_a_trace_begins_here_if_the_client_has_none(
    router: StartRouter, collector: Collector, first: ScriptedUpstream, line: str
) -> None:
    """Without a trace, or with one that is none, ours begins; what the client said of it is not sent beside it."""
    running = await router(first, **tracing(collector))
    await running.post(None, *([line, STATE] if line else []))
    await stopped(running)
    server, attempt = await collector.got(2)
    assert server.parent_id == ""
    assert re.fullmatch(r"[0-9a-f]{32}", server.trace_id)
    assert trace_of(first.received[0]) == ([child(attempt)], [])


async def test_the_ratio_decides_for_who_says_nothing(
    router: StartRouter, collector: Collector, first: ScriptedUpstream
) -> None:
    """With a share of 0 nobody's spans are kept but those of clients that ask for it, and nothing is made up."""
    running = await router(first, **tracing(collector, sample=0))
    await running.post()
    await running.post(None, SAMPLED)
    await stopped(running)
    assert len(await collector.got(2)) == 2
    assert trace_of(first.received[0]) == ([], [])
    assert running.ended[0].trace_id == ""


async def test_requests_of_one_connection_have_spans_of_their_own(
    router: StartRouter, collector: Collector, first: ScriptedUpstream
) -> None:
    """A head that is repeated byte for byte is sent with another span each time, if it names a trace or not."""
    running = await router(first, **tracing(collector))
    async with await running.connect() as client:
        for lines in ((), (), (), (), (SAMPLED, STATE), (SAMPLED, STATE), (SAMPLED, STATE), (ODD[0],), (ODD[0],)):
            await client.send(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: router.test\r\n"
                + b"".join(line.encode() + b"\r\n" for line in lines)
                + b"Content-Length: %d\r\n\r\n%b" % (len(chat.request()), chat.request())
            )
            assert (await client.answer()).status == 200
    await stopped(running)
    spans = await collector.got(18)
    heard = [trace_of(request) for request in first.received]
    assert [traceparent for traceparent, _ in heard] == [[child(span)] for span in spans if span.kind == "CLIENT"]
    assert len({span.span_id for span in spans}) == 18
    assert [state for _, state in heard] == [[]] * 4 + [[STATE[12:]]] * 3 + [[]] * 2


async def test_a_head_may_be_sampled_one_time_and_not_the_next(
    router: StartRouter, collector: Collector, first: ScriptedUpstream
) -> None:
    """Where the ratio decides about a head that repeats, its own header passes without a span, and ours with one."""
    running = await router(first, **tracing(collector, sample=0.5))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: router.test\r\n{ODD[0]}\r\n"
    async with await running.connect() as client:
        for _ in range(40):
            await client.send(f"{head}Content-Length: {len(chat.request())}\r\n\r\n".encode() + chat.request())
            await client.answer()
    await stopped(running)
    expected = [
        f"00-{record.trace_id}-{record.attempts[0].span_id}-01" if record.span_id else ODD[0][13:]
        for record in running.ended
    ]
    assert [trace_of(request)[0] for request in first.received] == [[each] for each in expected]
    assert 2 * len(set(expected)) - 2 == len(collector.spans) > 0


async def test_an_upstream_that_is_not_to_hear_of_traces_does_not(
    router: StartRouter, collector: Collector, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Where the configuration drops the client's `traceparent`, ours is not sent either; its span is kept."""
    first.then(error(500))
    settings = {"upstream": {"headers": {"deny": ["traceparent", "tracestate"]}}}
    running = await router(first, second, **tracing(collector), **settings)
    await running.post(None, SAMPLED, STATE)
    await stopped(running)
    assert len(await collector.got(3)) == 3
    assert [trace_of(upstream.received[0]) for upstream in (first, second)] == [([], [])] * 2


async def test_a_request_without_a_body_has_its_span(
    router: StartRouter, collector: Collector, first: ScriptedUpstream
) -> None:
    """What is read by its id belongs to the trace like any other request."""
    running = await router(first, **tracing(collector), pins={"files": "first"})
    async with await running.connect() as client:
        await client.send(f"GET /v1/files HTTP/1.1\r\nHost: router.test\r\n{SAMPLED}\r\n\r\n".encode())
        assert (await client.answer("GET")).status == 200
    await stopped(running)
    server, attempt = await collector.got(2)
    assert server.attributes["gen_ai.operation.name"] == "files"
    assert trace_of(first.received[0])[0] == [child(attempt)]
    assert first.received[0].body == b""


async def test_a_form_has_its_span(router: StartRouter, collector: Collector, first: ScriptedUpstream) -> None:
    """A body that went by way of the disk is sent with the attempt's span."""
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b\r\n'
    form += b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 4096 + b"\r\n--b--\r\n"
    running = await router(first, **tracing(collector), requests={"spool_from": "1KiB"})
    head = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: router.test\r\n"
    head += f"Content-Type: multipart/form-data; boundary=b\r\n{SAMPLED}\r\nContent-Length: {len(form)}\r\n\r\n"
    async with await running.connect() as client:
        await client.send(head.encode() + form)
        await client.answer()
    await stopped(running)
    _, attempt = await collector.got(2)
    assert trace_of(first.received[0])[0] == [child(attempt)]
    assert first.received[0].body == form


async def test_a_translated_request_has_its_span(
    router: StartRouter, collector: Collector, first: ScriptedUpstream
) -> None:
    """The upstream of another protocol hears the attempt's span, and is named as what it is."""
    first.always(json_answer(MESSAGE))
    running = await router(first, **tracing(collector), upstream={"protocol": "anthropic"}, model={"translate": True})
    await running.post(None, SAMPLED)
    await stopped(running)
    _, attempt = await collector.got(2)
    assert trace_of(first.received[0])[0] == [child(attempt)]
    assert attempt.attributes["gen_ai.provider.name"] == "anthropic"


async def test_no_secret_and_no_text_is_in_a_span(
    router: StartRouter, collector: Collector, first: ScriptedUpstream
) -> None:
    """Nothing of what was asked and answered, no credential and no name of a key goes to the collector."""
    keys = {"team-x": {"secret": {"env": "CLIENT_SECRET"}}}
    running = await router(first, **tracing(collector, headers={"x-collector-key": {"env": "OTHER_SECRET"}}), keys=keys)
    await running.post(chat.request(content="prompt-text"), SAMPLED, key=CLIENT_SECRET)
    await stopped(running)
    said = repr(await collector.got(2))
    for secret in (CLIENT_SECRET, UPSTREAM_SECRET, OTHER_SECRET, "team-x", "prompt-text"):
        assert secret not in said
    assert collector.requests[0].headers["x-collector-key"] == OTHER_SECRET


# sockets


@pytest.fixture
async def sockets() -> AsyncIterator[list[SocketUpstream]]:
    started = [SocketUpstream(), SocketUpstream()]
    for upstream in started:
        await upstream.start()
    yield started
    for upstream in started:
        await upstream.close()


async def opened(running: RunningRouter, line: str) -> None:
    """Open a realtime socket as part of a trace, and close it."""
    name, _, value = line.partition(": ")
    async with aiohttp.ClientSession() as session:
        socket = await SocketClient(session).open(running, headers={name: value, "tracestate": STATE[12:]})
        await socket.close()
    await running.record()


async def test_without_tracing_a_trace_passes_to_a_socket(router: StartRouter, sockets: list[SocketUpstream]) -> None:
    """A handshake carries both headers on as they came, to each upstream that is tried."""
    sockets[0].then(refuse(500))
    running = await router(*(each.base_url for each in sockets))
    await opened(running, SAMPLED)
    for upstream in sockets:
        call = upstream.calls[0]
        assert (call.values("traceparent"), call.values("tracestate")) == ([SAMPLED[13:]], [STATE[12:]])
    assert running.ended[0].trace_id == TRACE


async def test_a_socket_has_spans(router: StartRouter, collector: Collector, sockets: list[SocketUpstream]) -> None:
    """A socket is a request like any other: its span, one for each attempt, and each upstream heard its own."""
    sockets[0].then(refuse(500))
    running = await router(*(each.base_url for each in sockets), **tracing(collector))
    await opened(running, SAMPLED)
    await stopped(running)
    server, failed, good = await collector.got(3)
    assert (server.trace_id, server.parent_id, server.name) == (TRACE, PARENT, "realtime m")
    assert [span.parent_id for span in (failed, good)] == [server.span_id] * 2
    assert len({server.span_id, failed.span_id, good.span_id}) == 3
    assert [each.calls[0].values("traceparent") for each in sockets] == [[child(failed)], [child(good)]]
    assert [each.calls[0].values("tracestate") for each in sockets] == [[STATE[12:]]] * 2


# the collector


async def warnings(running: RunningRouter, count: int) -> list[Notice]:
    def told() -> list[Notice]:
        return [event for event in running.events if isinstance(event, Notice) and event.level == "warning"]

    await until(lambda: len(told()) >= count, f"{count} warnings")
    return told()


def dropped(running: RunningRouter) -> float:
    text, _ = running.daemon._metrics.render("")
    found = re.search(rb"(?m)^llm_router_spans_dropped_total (\S+)$", text)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("fault", ["dead", "refusing"])
async def test_a_collector_that_fails_is_told_once(
    router: StartRouter, collector: Collector, first: ScriptedUpstream, fault: str
) -> None:
    """Spans that cannot be delivered are counted and one line tells why; requests do not notice."""
    collector.status = 400
    endpoint = collector.endpoint
    if fault == "dead":
        await collector.close()
    running = await router(first, **tracing(endpoint))
    for _ in range(3):
        assert (await running.post()).status == 200
    told = await warnings(running, 1)
    assert "cannot be delivered" in told[0].message
    assert ("refused" if fault == "dead" else "400") in told[0].detail
    await until(lambda: dropped(running) == 6, "all are dropped")
    await running.post()
    await stopped(running)
    await until(lambda: dropped(running) == 8, "all are dropped")
    assert len(await warnings(running, 1)) == 1


async def test_a_collector_that_says_nothing_holds_up_nothing(
    router: StartRouter, collector: Collector, first: ScriptedUpstream
) -> None:
    """While a delivery hangs requests are answered, and a stop ends in spite of it; the spans are given up."""
    collector.silent = True
    running = await router(first, **tracing(collector))
    await running.post()
    await until(lambda: collector.requests, "a delivery")
    assert (await running.post()).status == 200
    async with asyncio.timeout(15):
        await stopped(running)
    assert collector.spans == []
    assert dropped(running) >= 2


async def test_a_reload_leads_elsewhere(
    router: StartRouter, collector: Collector, first: ScriptedUpstream, tmp_path: Any
) -> None:
    """Tracing is turned on, led to another collector and turned off by a reload, without a restart."""
    from tests.harness.collector import Collector  # noqa: PLC0415 (needs the extra)
    from tests.harness.router import config  # noqa: PLC0415

    del tmp_path
    other = Collector()
    await other.start()
    running = await router(first)
    await running.post()
    await running.reload(config(first, **tracing(collector)))
    await running.post()
    await collector.got(2)
    event = await running.reload(config(first, **tracing(other)))
    assert (event.result, event.needs_restart) == ("applied", ())
    await running.post()
    await other.got(2)
    await running.reload(config(first))
    await running.post()
    await stopped(running)
    assert (len(collector.spans), len(other.spans), dropped(running)) == (2, 2, 0)
    assert [bool(record.span_id) for record in running.ended] == [False, True, True, False]
    await other.close()
