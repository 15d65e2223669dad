"""Metrics: each event moves exactly the series it should."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from router.events import (
    ConfigReloaded,
    Event,
    ExchangeEnded,
    LimitDecided,
    Notice,
    Outcome,
    Phase,
    Side,
    UpstreamCooled,
    UpstreamEjected,
    UpstreamRestored,
    Usage,
)
from router.policy.outcomes import Cools
from router.telemetry import metrics as module
from router.telemetry import specs
from router.telemetry.metrics import TOKEN_TYPES, LiveState, Metrics, ModelLive, UpstreamLive
from tests.telemetry.records import attempt, ended

Samples = dict[str, float]

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


def make(**changes: Any) -> Metrics:
    metrics = Metrics(version="1.2.3", loop_name="uvloop", revision="abcdef", **changes)
    metrics.configure(["gpt", "claude-*"], ["openai", "azure"], "d1", 1000.0)
    return metrics


def read(metrics: Metrics) -> Samples:
    """Every sample of the router's own, as `name{label="value"}` without the prefix, through the reference parser."""
    body, _ = metrics.render("")
    found: Samples = {}
    for family in parse_text(body.decode()):
        for it in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in it.labels.items() if name != "le")
            bucket = f"<{it.labels['le']}" if "le" in it.labels else ""
            key = f"{it.name.removeprefix('llm_router_')}{{{labels}}}{bucket}"
            assert key not in found, f"twice: {key}"
            if it.name.startswith("llm_router_"):
                found[key] = it.value
    return found


def moved(metrics: Metrics, *events: Event) -> Samples:
    """What the events changed, without the buckets of histograms."""
    before = read(metrics)
    for event in events:
        metrics.emit(event)
    changes = {key: value - before.get(key, 0) for key, value in read(metrics).items()}
    return {key: change for key, change in changes.items() if change and "<" not in key}


def test_an_answered_stream_moves_exactly_these() -> None:
    """A stream answered at once counts as one request, one answer, one attempt, its times and its tokens."""
    assert moved(make(), ended()) == {
        "requests_total{endpoint=chat,model=gpt,outcome=ok}": 1,
        "http_responses_total{code=200,endpoint=chat}": 1,
        "request_duration_seconds_count{model=gpt,stream=true}": 1,
        "request_duration_seconds_sum{model=gpt,stream=true}": 1.5,
        "time_to_first_token_seconds_count{backend=openai,model=gpt,stream=true}": 1,
        "time_to_first_token_seconds_sum{backend=openai,model=gpt,stream=true}": 0.5,
        "time_per_output_token_seconds_count{backend=openai,model=gpt}": 1,
        "time_per_output_token_seconds_sum{backend=openai,model=gpt}": 0.02,
        "stream_max_gap_seconds_count{backend=openai}": 1,
        "stream_max_gap_seconds_sum{backend=openai}": 0.0625,
        "overhead_seconds_count{stream=true}": 1,
        "overhead_seconds_sum{stream=true}": 0.0004,
        "attempts_total{backend=openai,outcome=ok}": 1,
        "attempt_duration_seconds_count{backend=openai}": 1,
        "attempt_duration_seconds_sum{backend=openai}": 0.3,
        "tokens_total{backend=openai,model=gpt,type=input}": 10,
        "tokens_total{backend=openai,model=gpt,type=input_cached}": 5,
        "tokens_total{backend=openai,model=gpt,type=input_cache_write}": 2,
        "tokens_total{backend=openai,model=gpt,type=output}": 24,
        "tokens_total{backend=openai,model=gpt,type=output_reasoning}": 16,
    }


def test_an_observation_falls_into_its_bucket() -> None:
    """A value on a bound belongs to that bucket, and buckets accumulate."""
    metrics = make()
    metrics.emit(ended(ttft_s=0.4))
    name = "time_to_first_token_seconds_bucket{backend=openai,model=gpt,stream=true}"
    found = read(metrics)
    assert (found[f"{name}<0.2"], found[f"{name}<0.4"], found[f"{name}<80.0"], found[f"{name}<+Inf"]) == (0, 1, 1, 1)


def test_token_types_sum_to_the_billable_total() -> None:
    """The types are closed and disjoint: their sum is the total of the usage, and nothing else is among them."""
    usage = Usage(
        input=7, cache_read=11, cache_write=13, output=17, reasoning=5, cache_write_long=19, audio_in=23, image_in=29,
        audio_out=31, images=1000, seconds=2000.0, characters=3000, searches=4000,
    )  # fmt: skip
    changes = moved(make(), ended(usage=usage))
    assert {key: change for key, change in changes.items() if key.startswith("tokens_total")} == {
        f"tokens_total{{backend=openai,model=gpt,type={kind}}}": tokens
        for kind, tokens in zip(TOKEN_TYPES, (7, 11, 13, 19, 23, 29, 12, 5, 31), strict=True)
    }
    assert sum(change for key, change in changes.items() if key.startswith("tokens_total")) == usage.total


def test_rare_token_types_have_series_only_where_there_are_some() -> None:
    """A model without sound, pictures and long cache writes is not shown with zeros for them."""
    metrics = make()
    metrics.emit(ended())
    usual = {"input}", "input_cached}", "input_cache_write}", "output}", "output_reasoning}"}
    assert {key.split("type=")[1] for key in read(metrics) if key.startswith("tokens_total")} == usual
    metrics.emit(ended(usage=Usage(1, audio_in=2)))
    types = {key.split("type=")[1] for key in read(metrics) if key.startswith("tokens_total")}
    assert types == usual | {"input_audio}"}


def test_cost_adds_up_for_models_with_a_price() -> None:
    """What answers cost is summed by model and upstream; a free model shows zero, one without prices nothing."""
    metrics = make()
    cost = "cost_usd_total{backend=openai,model=gpt}"
    metrics.emit(ended())
    assert cost not in read(metrics)
    metrics.emit(ended(cost_usd=0.0))
    assert read(metrics)[cost] == 0.0
    for amount in (0.25, 0.000000001):
        metrics.emit(ended(cost_usd=amount))
    metrics.emit(ended(model="claude-*", cost_usd=2.0))
    assert read(metrics)[cost] == 0.250000001
    metrics.emit(ended(model="x" * 9, upstream="y", cost_usd=3.0))
    assert read(metrics)["cost_usd_total{backend=_unknown,model=_unknown}"] == 3.0


def test_a_cut_answer_costs_what_it_used() -> None:
    """Money that an upstream took for a stream that broke is spent all the same."""
    event = ended(complete=False, outcome=Outcome.UPSTREAM_ERROR, cost_usd=0.5, exact=False)
    assert moved(make(), event)["cost_usd_total{backend=openai,model=gpt}"] == 0.5


def test_a_plain_answer_has_no_stream_times() -> None:
    """What did not happen is not observed: no time to first token, no gap, no time between tokens."""
    changes = moved(make(), ended(stream=False, ttft_s=-1.0, tpot_s=-1.0, max_gap_s=-1.0, attempts=(attempt(),)))
    assert not any(key.startswith(("time_", "stream_max", "attempt_duration")) for key in changes)
    assert changes["request_duration_seconds_count{model=gpt,stream=false}"] == 1


def test_missing_usage_is_counted_only_for_good_answers() -> None:
    """A whole answer without usage shows as such; a failed or cut one, and a kind without usage, had none to give."""
    assert moved(make(), ended(usage=None))["usage_missing_total{backend=openai}"] == 1
    failed = ended(usage=None, outcome=Outcome.UPSTREAM_ERROR, complete=False)
    for other in (failed, ended(usage=None, complete=False), ended(usage=None, metered=False, endpoint="speech")):
        assert "usage_missing_total{backend=openai}" not in moved(make(), other)


def test_failover_counts_each_attempt_and_why_it_moved_on() -> None:
    """Each attempt has its outcome; each further one is a retry, and a failover if it went elsewhere."""
    attempts = (attempt("openai", "connect"), attempt("openai", "http_5xx", head_s=0.2), attempt("azure", head_s=0.1))
    changes = moved(make(), ended(upstream="azure", attempts=attempts))
    kinds = ("attempt", "retries", "failovers")
    assert {key: change for key, change in changes.items() if key.startswith(kinds)} == {
        "attempts_total{backend=openai,outcome=connect}": 1,
        "attempts_total{backend=openai,outcome=http_5xx}": 1,
        "attempts_total{backend=azure,outcome=ok}": 1,
        "attempt_duration_seconds_count{backend=openai}": 1,
        "attempt_duration_seconds_sum{backend=openai}": 0.2,
        "attempt_duration_seconds_count{backend=azure}": 1,
        "attempt_duration_seconds_sum{backend=azure}": 0.1,
        "retries_total{model=gpt,reason=connect}": 1,
        "retries_total{model=gpt,reason=http_5xx}": 1,
        "failovers_total{from_backend=openai,model=gpt,reason=http_5xx}": 1,
    }


def test_a_single_failed_attempt_is_not_counted_as_ok() -> None:
    """An exchange whose only attempt failed has that attempt's cause."""
    event = ended(attempts=(attempt(cause="disconnect_mid_stream"),), outcome=Outcome.UPSTREAM_ERROR, complete=False)
    changes = moved(make(), event)
    assert changes["attempts_total{backend=openai,outcome=disconnect_mid_stream}"] == 1
    assert "attempts_total{backend=openai,outcome=ok}" not in changes


def test_our_own_answer_moves_no_upstream() -> None:
    """A refused request touches no series of an upstream."""
    event = ended(upstream="", attempts=(), usage=None, status=401, outcome=Outcome.CLIENT_ERROR, model="_unknown",
                  reason="invalid_api_key", ttft_s=-1.0, tpot_s=-1.0, max_gap_s=-1.0, ended_by=Side.ROUTER)  # fmt: skip
    assert moved(make(), event) == {
        "requests_total{endpoint=chat,model=_unknown,outcome=client_error}": 1,
        "http_responses_total{code=401,endpoint=chat}": 1,
        "request_duration_seconds_count{model=_unknown,stream=true}": 1,
        "request_duration_seconds_sum{model=_unknown,stream=true}": 1.5,
        "overhead_seconds_count{stream=true}": 1,
        "overhead_seconds_sum{stream=true}": 0.0004,
        "auth_failures_total{reason=invalid_api_key}": 1,
    }


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({"ended_by": Side.UPSTREAM}, "model=gpt,phase=mid_stream,side=upstream"),
        ({"ended_by": Side.ROUTER, "ttft_s": -1.0}, "model=gpt,phase=before_first_token,side=router"),
        ({"ended_by": Side.CLIENT, "ttft_s": -1.0, "status": 499}, "model=gpt,phase=before_first_token,side=client"),
        ({"ended_by": Side.ROUTER, "ttft_s": -1.0, "status": 502}, None),
        ({"complete": True}, None),
        ({"stream": False}, None),
    ],
)
def test_a_cut_stream_says_who_and_when(changes: dict[str, Any], labels: str | None) -> None:
    """Cut streams count by side and phase; whole ones, plain answers and errors before a stream do not."""
    event = ended(**({"complete": False, "phase": Phase.RELAYING} | changes))
    aborts = {key: it for key, it in moved(make(), event).items() if key.startswith("stream_aborts_total")}
    assert aborts == ({f"stream_aborts_total{{{labels}}}": 1} if labels else {})


def test_other_events_move_one_series_each() -> None:
    """Ejections, cooldowns, refusals, reloads and client retries are counted; other events are not."""
    metrics = make()
    assert moved(metrics, UpstreamEjected("openai", "", "consecutive", 10.0)) == {
        "ejections_total{backend=openai,reason=consecutive}": 1
    }
    assert moved(metrics, LimitDecided("key", "tokens", "team")) == {
        "ratelimit_decisions_total{decision=reject,limit=tokens,scope=key}": 1
    }
    assert moved(metrics, ended(client_retry=True))["client_retries_total{}"] == 1
    assert moved(metrics, UpstreamCooled("openai", 0, "m", "rate_limit", 5.0)) == {
        "cooldowns_total{backend=openai,reason=rate_limit}": 1
    }
    assert moved(metrics, UpstreamRestored("openai", ""), Notice(1.0, "info", "")) == {}


def test_a_rejected_reload_shows_until_one_is_accepted() -> None:
    """The gauges tell whether the file on disk is what runs, and since when."""
    metrics = make()
    ok, at = "config_last_reload_successful{}", "config_last_reload_success_timestamp_seconds{}"
    assert moved(metrics, ConfigReloaded(1100.0, "rejected", "d1", ("fault",))) == {
        "config_reloads_total{result=rejected}": 1,
        ok: -1,
    }
    assert moved(metrics, ConfigReloaded(1200.0, "applied", "d2")) == {
        "config_reloads_total{result=applied}": 1,
        ok: 1,
        at: 200,
    }


def test_names_from_the_wire_never_become_labels() -> None:
    """A model, upstream or endpoint that the configuration does not name folds into a sentinel."""
    metrics = make()
    for number in range(50):
        odd = f"x{number}"
        attempts = (attempt(odd, "connect"), attempt(odd))
        metrics.emit(ended(model=odd, upstream=odd, endpoint=odd, attempts=attempts, complete=False))
        metrics.emit(UpstreamEjected(odd, "", "consecutive", 1.0))
        metrics.emit(UpstreamCooled(odd, 0, "", "quota", 1.0))
    text = metrics.render("")[0].decode()
    assert "x1" not in text
    found = read(metrics)
    assert found["requests_total{endpoint=other,model=_unknown,outcome=ok}"] == 50
    assert found["attempts_total{backend=_unknown,outcome=connect}"] == 50
    assert found["ejections_total{backend=_unknown,reason=consecutive}"] == 50
    assert found["cooldowns_total{backend=_unknown,reason=quota}"] == 50
    assert found["stream_aborts_total{model=_unknown,phase=mid_stream,side=upstream}"] == 50


def test_a_removed_upstream_disappears_and_the_rest_goes_on() -> None:
    """After a reload the series of what was removed are gone, others keep their counts, late records fold."""
    metrics = make()
    metrics.emit(ended())
    metrics.emit(ended(upstream="azure", attempts=(attempt("openai", "connect"), attempt("azure"))))
    metrics.configure(["gpt"], ["azure"], "d2", 2000.0)
    found = read(metrics)
    assert not [key for key in found if "openai" in key or "claude" in key]
    assert found["attempts_total{backend=azure,outcome=ok}"] == 1
    assert found["requests_total{endpoint=chat,model=gpt,outcome=ok}"] == 2
    assert [key for key in found if key.startswith("config_info")] == ["config_info{hash=d2}"]
    assert moved(metrics, ended())["attempts_total{backend=_unknown,outcome=ok}"] == 1


def test_every_kind_of_request_has_its_label() -> None:
    """The endpoints of the catalogue are told apart."""
    metrics = make()
    for endpoint in ("chat", "messages", "responses", "embeddings", "images", "transcriptions", "rerank", "realtime"):
        assert (
            moved(metrics, ended(endpoint=endpoint))[f"requests_total{{endpoint={endpoint},model=gpt,outcome=ok}}"] == 1
        )


def test_errors_start_at_zero() -> None:
    """The first error of each kind is a step that `rate()` sees."""
    found = read(make())
    assert all(found[f"requests_total{{endpoint=chat,model=gpt,outcome={it}}}"] == 0 for it in Outcome)
    assert found["ejections_total{backend=azure,reason=error_rate}"] == 0
    assert all(found[f"cooldowns_total{{backend=azure,reason={it}}}"] == 0 for it in module.COOLS)


def test_every_reason_to_cool_down_starts_at_zero() -> None:
    """The reasons that are opened beforehand are all that the policy has."""
    assert set(module.COOLS) == set(Cools) - {Cools.NONE}


def test_the_series_limit_holds_and_shows() -> None:
    """However many label sets come, the series stay near the limit, requests are not lost and the loss is shown."""
    metrics = make(series_max=150)
    statuses = range(200, 600)
    for status in statuses:
        metrics.emit(ended(status=status))
    found = read(metrics)
    bounded = [key for key in found if not key.startswith(("backend_", "config_last", "build_info"))]
    slack = sum(it.series for it in specs.COUNTED)
    assert len(bounded) <= 150 + slack
    assert found["metrics_dropped_labels_total{metric=llm_router_http_responses_total}"] > 0
    responses = sum(value for key, value in found.items() if key.startswith("http_responses_total"))
    assert responses == len(statuses)


def test_remembered_rows_are_bounded() -> None:
    """Rows for ever new labels do not pile up."""
    metrics = make()
    for number in range(module.ROWS_MAX + 10):
        metrics.emit(ended(model=f"m{number}"))
    assert len(metrics._rows) <= module.ROWS_MAX


def test_gauges_are_read_when_asked_for() -> None:
    """A scrape shows the state at its moment: one state at 1, a limit only where there is one."""
    metrics = make()
    now = [LiveState()]
    metrics.live(lambda: now[0])
    now[0] = LiveState(
        upstreams=(
            UpstreamLive(name="openai", state="healthy", in_flight=3, limit=10, weight=2.0),
            UpstreamLive(name="azure", state="ejected", in_flight=0, limit=None, weight=1.0),
        ),
        models=(ModelLive(name="gpt", in_flight=3, open_streams=2, eligible=1),),
        client_connections=7,
        draining=True,
        access_log_dropped=4,
        spans_dropped=9,
    )
    found = read(metrics)
    live = ("backend_", "inflight", "open_streams", "eligible", "client_connections", "draining", "access_log", "spans")
    states = {
        f"backend_state{{backend={name},state={state}}}": float(state == current)
        for name, current in (("openai", "healthy"), ("azure", "ejected"))
        for state in module.STATES
    }
    assert {key: value for key, value in found.items() if key.startswith(live)} == states | {
        "backend_up{backend=openai}": 1,
        "backend_up{backend=azure}": 0,
        "backend_inflight_requests{backend=openai}": 3,
        "backend_inflight_requests{backend=azure}": 0,
        "backend_inflight_limit{backend=openai}": 10,
        "backend_weight{backend=openai}": 2,
        "backend_weight{backend=azure}": 1,
        "inflight_requests{model=gpt}": 3,
        "open_streams{model=gpt}": 2,
        "eligible_members{model=gpt}": 1,
        "client_connections{}": 7,
        "draining{}": 1,
        "access_log_dropped_total{}": 4,
        "spans_dropped_total{}": 9,
    }


def test_the_source_is_read_on_the_loop_and_not_in_the_thread() -> None:
    """`scrape` reads the gauges at once; the rendering it returns touches nothing that the loop changes."""
    metrics = make()
    readers: list[threading.Thread] = []

    def source() -> LiveState:
        readers.append(threading.current_thread())
        return LiveState()

    metrics.live(source)
    render = metrics.scrape("")
    thread = threading.Thread(target=render)
    thread.start()
    thread.join()
    assert readers == [threading.current_thread()]


def test_both_formats_are_valid_and_complete() -> None:
    """The text and the OpenMetrics exposition parse strictly, and hold every declared metric with help and type."""
    metrics = make()
    metrics.emit(ended())
    metrics.observe_lag(0.002)
    text, text_type = metrics.render("text/plain")
    families = {it.name: it for it in parse_text(text.decode())}
    assert text_type.startswith("text/plain; version=0.0.4")
    openmetrics, openmetrics_type = metrics.render(OPENMETRICS)
    strict = {it.name: it for it in parse_openmetrics(openmetrics.decode())}  # type: ignore[no-untyped-call] # untyped there
    assert openmetrics_type.startswith("application/openmetrics-text; version=1.0.0")
    for spec in specs.ALL:
        name = spec.metric().name
        assert strict[name].documentation == spec.help
        assert strict[name].type == spec.kind
        assert (families.get(name) or families[spec.name]).documentation == spec.help
    assert "process_cpu_seconds" in strict
    assert "python_gc_collections" in strict
    assert b"_created" not in openmetrics + text


def test_a_scrape_while_counting_is_whole() -> None:
    """A scrape in another thread, while label sets appear and move, never fails and never shows a torn histogram."""
    metrics = make()
    scrapes: list[bytes] = []
    thread = threading.Thread(target=lambda: scrapes.extend(metrics.render("")[0] for _ in range(20)))
    thread.start()
    number = 0
    while thread.is_alive():
        number += 1
        metrics.emit(ended(status=200 + number % 400, reason="missing_api_key"))
        if number % 50 == 0:
            metrics.configure([f"gpt-{number}", "gpt"], ["openai"], "d", 0.0)
    assert len(scrapes) == 20
    for text in scrapes:
        values = {it.name: it.value for family in parse_text(text.decode()) for it in family.samples
                  if it.labels.get("le", "+Inf") == "+Inf" and it.labels.get("model", "gpt") == "gpt"}  # fmt: skip
        name = "llm_router_request_duration_seconds"
        assert values.get(f"{name}_bucket") == values.get(f"{name}_count")


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=x.y", "text/plain; version=q", "*/*;;,", ""])
def test_a_strange_accept_header_gets_an_exposition(accept: str) -> None:
    """Whatever a scraper asks for, it gets something it can read."""
    body, content_type = make().render(accept)
    assert b"llm_router_build_info" in body
    assert content_type


def test_lag_is_observed() -> None:
    """The event loop's lag has its histogram."""
    metrics = make()
    metrics.observe_lag(0.02)
    found = read(metrics)
    assert (found["event_loop_lag_seconds_bucket{}<0.01"], found["event_loop_lag_seconds_bucket{}<0.025"]) == (0, 1)


def test_a_hostile_name_cannot_break_the_exposition() -> None:
    """Quotes, backslashes and line ends in a configured name are escaped."""
    odd = 'a"b\\c\nd'
    metrics = Metrics(version="1", loop_name="asyncio")
    metrics.configure([odd], ["openai"], "d", 0.0)
    families = {it.name: it for it in parse_text(metrics.render("")[0].decode())}
    names = {it.labels["model"] for it in families["llm_router_requests"].samples}
    assert names == {odd}


# exemplars

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def sampled(**changes: Any) -> ExchangeEnded:
    """An answered stream whose spans are kept."""
    return ended(**{"trace_id": TRACE, "trace_sampled": True, **changes})


def exemplars(metrics: Metrics) -> dict[str, tuple[str, float, float]]:
    """Every exemplar, by its bucket: trace, value, time; through the reference parser."""
    body, _ = metrics.render(OPENMETRICS)
    found = {}
    for family in parse_openmetrics(body.decode()):  # type: ignore[no-untyped-call] # untyped there
        for it in family.samples:
            if it.exemplar is not None:
                labels = ",".join(f"{name}={value}" for name, value in sorted(it.labels.items()) if name != "le")
                key = f"{it.name.removeprefix('llm_router_')}{{{labels}}}<{it.labels['le']}"
                found[key] = (it.exemplar.labels["trace_id"], it.exemplar.value, float(it.exemplar.timestamp))
    return found


def test_a_sampled_request_stands_beside_its_times() -> None:
    """Its trace is an exemplar of exactly the buckets that its times fall into."""
    metrics = make(clock=lambda: 1000.25)
    metrics.emit(sampled(duration_s=1.5, ttft_s=0.5, overhead_s=0.0004))
    assert exemplars(metrics) == {
        "request_duration_seconds_bucket{model=gpt,stream=true}<2.5": (TRACE, 1.5, 1000.25),
        "time_to_first_token_seconds_bucket{backend=openai,model=gpt,stream=true}<0.6": (TRACE, 0.5, 1000.25),
        "overhead_seconds_bucket{stream=true}<0.0005": (TRACE, 0.0004, 1000.25),
    }
    text, _ = metrics.render("text/plain")
    assert TRACE.encode() not in text, "the text format has none"


def test_who_is_not_sampled_leaves_no_trace() -> None:
    """A request without a trace, or whose spans nobody keeps, is no exemplar."""
    metrics = make()
    metrics.emit(ended())
    metrics.emit(ended(trace_id=TRACE))
    assert exemplars(metrics) == {}


def test_our_own_answer_has_no_first_token() -> None:
    """A sampled request that no upstream answered is an exemplar of its length alone."""
    metrics = make()
    metrics.emit(sampled(upstream="", attempts=(), ttft_s=-1.0, outcome=Outcome.OVERLOADED))
    assert {key.partition("_seconds")[0] for key in exemplars(metrics)} == {"request_duration", "overhead"}


def test_an_exemplar_stays_for_a_while() -> None:
    """Each bucket has its own, and takes another after five seconds; a clock that was set back holds none for ever."""
    now = [1000.0]
    metrics = make(clock=lambda: now[0])

    def shown() -> dict[str, str]:
        found = exemplars(metrics).items()
        return {key.partition("<")[2]: trace[:1] for key, (trace, *_) in found if "duration" in key}

    def emit(trace: str, at: float, duration_s: float) -> None:
        now[0] = at
        metrics.emit(sampled(trace_id=trace * 32, duration_s=duration_s))

    emit("a", 1000.0, 0.3)
    emit("b", 1001.0, 0.4)
    emit("c", 1001.0, 7.0)
    assert shown() == {"0.5": "a", "10.0": "c"}
    emit("d", 1005.0, 0.3)
    assert shown() == {"0.5": "d", "10.0": "c"}
    emit("e", 500.0, 0.3)
    assert shown() == {"0.5": "e", "10.0": "c"}


def test_exemplars_are_as_bounded_as_series() -> None:
    """They go with the series they belong to, and label sets beyond the limit share one."""
    metrics = make(series_max=300)
    for number in range(200):
        metrics.configure([f"m{number}"], ["openai"], "d", 0.0)
        metrics.emit(sampled(model=f"m{number}"))
    assert {key.partition("{")[2].partition(",")[0] for key in exemplars(metrics) if "duration" in key} <= {
        "model=m199",
        "model=_other",
    }
    kept = [marks for family in metrics._family.values() for marks in family._exemplars.values()]
    assert sum(map(len, kept)) < 20
