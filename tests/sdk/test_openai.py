"""The router as users of the OpenAI SDK meet it: the newest generation and 1.x, the sync and the async client.

Each combination makes all its calls in one run of `calls.py` against a daemon of its own; the tests look at what came.
"""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
import yaml

from router.app import Daemon
from router.demo.behaviour import Behaviour
from router.demo.upstreams import WORDS, DemoUpstream
from router.events import Event, ExchangeEnded, Outcome
from tests.sdk.calls import Call, Observation, Plan
from tests.sdk.running import ROOT, carry_out

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPT = Path(__file__).with_name("calls.py")
GENERATIONS = {"newest": Path(sys.executable), "1.x": ROOT / ".venv-openai1/bin/python"}

UPSTREAM_SECRET = "sk-upstream-5c9e1f"
BODY_MAX = 64 * 1024
MESSAGES = [{"role": "user", "content": "Hello"}]
SENTENCE = " ".join(WORDS[:4])


def quick(**settings: Any) -> Behaviour:
    return Behaviour(latency_s=0, token_interval_s=0, tokens=4, **settings)


UPSTREAMS: Mapping[str, Behaviour] = {
    "good": quick(),
    "objects": quick(errors={400: 1}),
    "broken": quick(errors={500: 1}),
    "busy": quick(errors={429: 1}, retry_after_s=7),
    "locked": quick(errors={401: 1}),
    "silent": quick(stall_every=1),
    "gone": quick(down=True),
    "cutting": quick(cut_every=1, cut_after=3),
}
"""Each serves one model of its name."""

KEYS: Mapping[str, dict[str, Any]] = {
    "full": {},
    "narrow": {"models": ["good"]},
    "disabled": {"disabled": True},
    "limited": {"limits": {"requests_per_minute": 60, "request_burst": 1}},
    "patient": {"limits": {"requests_per_minute": 600, "request_burst": 1}},
    "small": {"limits": {"tokens_per_minute": 100}},
}
"""The secret of each is `sk-client-` and its name."""


def call(name: str, model: object = "good", *, key: str | None = "full", retries: int = 0, **arguments: Any) -> Call:
    arguments = {"model": model, "messages": MESSAGES, **arguments}
    return Call(name=name, key=secret(key), max_retries=retries, arguments=arguments)


def secret(key: str | None) -> str | None:
    return key and f"sk-client-{key}"


CALLS: list[Call] = [
    call("plain"),
    call("stream", stream=True),
    call("stream with usage", stream=True, stream_options={"include_usage": True}),
    Call(name="models", key=secret("full"), models=True),
    Call(name="models of narrow", key=secret("narrow"), models=True),
    Call(name="not JSON", key=secret("full"), content='{"model": "good", "messages": ['),
    Call(name="no model", key=secret("full"), body={"messages": MESSAGES}),
    call("model not a string", 7),
    call("unknown model", "gpt-x"),
    Call(name="no key", key=None, content='{"model": "good", "messages": []}'),
    call("unknown key", key="nobody"),
    call("disabled key", key="disabled"),
    call("model not allowed", "broken", key="narrow"),
    Call(
        name="too large",
        key=secret("full"),
        body={"model": "good", "messages": [{"role": "user", "content": "x" * 10**6}]},
    ),
    call("limited, first", key="limited"),
    call("limited, second", key="limited"),
    call("patient, first", key="patient", retries=2),
    call("patient, second", key="patient", retries=2),
    call("never fits", key="small", retries=2, max_tokens=1000),
    call("upstream objects", "objects"),
    call("upstream is busy", "busy"),
    call("upstream refuses us", "locked"),
    call("upstream is gone", "gone"),
    call("upstream is silent", "silent"),
    call("upstream is broken", "broken"),
    call("nobody is eligible", "drained"),
    call("stream is cut", "cutting", stream=True),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one client saw, and what the router recorded."""

    seen: dict[str, Observation]
    records: list[ExchangeEnded]
    addresses: list[str]
    """Of the upstreams."""

    def records_of(self, key: str) -> list[ExchangeEnded]:
        return [record for record in self.records if record.key == key]


@pytest.fixture(scope="module", params=["sync", "async"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=GENERATIONS)
def run(request: pytest.FixtureRequest, mode: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    interpreter = GENERATIONS[request.param]
    if not interpreter.exists():
        pytest.skip(f"no environment with openai {request.param}: `make test` makes it if it can")
    return uvloop.run(observe(interpreter, tmp_path_factory.mktemp("sdk"), asynchronous=mode == "async"))


async def observe(interpreter: Path, folder: Path, *, asynchronous: bool) -> Run:
    async with AsyncExitStack() as stack:
        upstreams = {name: DemoUpstream(name, behaviour) for name, behaviour in UPSTREAMS.items()}
        for upstream in upstreams.values():
            await upstream.start()
            stack.push_async_callback(upstream.stop)
        config = folder / "router.yaml"
        config.write_text(yaml.safe_dump(settings(upstreams)))
        log = stack.enter_context((folder / "router.log").open("wb"))
        daemon = Daemon(config, environ={"UPSTREAM_SECRET": UPSTREAM_SECRET}, log_fd=log.fileno())
        events: list[Event] = []
        daemon.subscribe(events.append)
        await daemon.start()
        stack.push_async_callback(daemon.stop, hurry=True)
        base_url = "http://{}:{}/v1".format(*daemon.data_address)
        output: list[Observation] = await carry_out(
            (str(interpreter), "-I", str(SCRIPT)), Plan(base_url=base_url, asynchronous=asynchronous, calls=CALLS)
        )
    return Run(
        seen={observation["name"]: observation for observation in output},
        records=[event for event in events if isinstance(event, ExchangeEnded)],
        addresses=[f"127.0.0.1:{upstream.port}" for upstream in upstreams.values()],
    )


def settings(upstreams: Mapping[str, DemoUpstream]) -> dict[str, Any]:
    return {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "defaults": {"timeouts": {"first_byte": "200ms"}, "ejection": {"consecutive": 1000, "min_outcomes": 1000}},
        "upstreams": {
            name: {"base_url": upstream.base_url, "api_key": {"env": "UPSTREAM_SECRET"}}
            for name, upstream in upstreams.items()
        },
        "models": {**{name: name for name in upstreams}, "drained": {"pool": [{"upstream": "good", "weight": 0}]}},
        "keys": {
            name: {"secret": {"sha256": hashlib.sha256(f"sk-client-{name}".encode()).hexdigest()}, **more}
            for name, more in KEYS.items()
        },
        "requests": {"body_max": BODY_MAX},
        "reload": {"watch": False},
    }


def content(chunks: list[Any]) -> str:
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


def test_a_plain_answer_arrives_with_its_usage(run: Run) -> None:
    """A plain call returns the upstream's completion, its usage, and the router's request id."""
    seen = run.seen["plain"]
    assert seen["error"] is None
    assert seen["answer"]["choices"][0]["message"]["content"] == SENTENCE
    assert seen["answer"]["usage"]["completion_tokens"] == 4
    record = next(record for record in run.records if record.request_id == seen["request_id"])
    assert record.usage is not None
    assert record.usage.total == seen["answer"]["usage"]["total_tokens"]


def test_a_stream_arrives_whole_and_without_unasked_usage(run: Run) -> None:
    """A streamed call yields all content and a finish reason, and no chunk without choices that nobody asked for."""
    seen = run.seen["stream"]
    assert seen["error"] is None
    assert content(seen["answer"]) == SENTENCE
    assert seen["answer"][-1]["choices"][0]["finish_reason"] == "stop"
    assert all(chunk["choices"] and chunk.get("usage") is None for chunk in seen["answer"])
    record = next(record for record in run.records if record.request_id == seen["request_id"])
    assert record.exact
    assert record.complete


def test_a_stream_ends_with_usage_if_asked(run: Run) -> None:
    """With `include_usage` the last chunk has no choices and the usage."""
    seen = run.seen["stream with usage"]
    assert seen["error"] is None
    assert content(seen["answer"]) == SENTENCE
    assert seen["answer"][-1]["choices"] == []
    assert seen["answer"][-1]["usage"]["completion_tokens"] == 4


def test_the_models_listed_are_those_the_key_may_use(run: Run) -> None:
    """`models.list()` shows every model to a key without bounds, and to another only its own."""
    assert {model["id"] for model in run.seen["models"]["answer"]} == {*UPSTREAMS, "drained"}
    assert [model["id"] for model in run.seen["models of narrow"]["answer"]] == ["good"]


@pytest.mark.parametrize(
    ("name", "error", "status", "reason"),
    [
        ("no model", "BadRequestError", 400, "missing_required_parameter"),
        ("model not a string", "BadRequestError", 400, "invalid_type"),
        ("unknown model", "NotFoundError", 404, "model_not_found"),
        ("unknown key", "AuthenticationError", 401, "invalid_api_key"),
        ("disabled key", "AuthenticationError", 401, "invalid_api_key"),
        ("model not allowed", "PermissionDeniedError", 403, "model_not_allowed"),
        ("too large", "APIStatusError", 413, "request_too_large"),
        ("limited, second", "RateLimitError", 429, "requests_per_minute"),
        ("never fits", "RateLimitError", 429, "tokens_per_minute"),
        ("upstream is busy", "RateLimitError", 429, "upstream_rate_limited"),
        ("upstream refuses us", "InternalServerError", 502, "upstream_auth"),
        ("upstream is gone", "InternalServerError", 502, "upstream_connection"),
        ("nobody is eligible", "InternalServerError", 503, "no_healthy_upstream"),
        ("upstream is silent", "InternalServerError", 504, "upstream_timeout"),
    ],
)
def test_every_refusal_raises_the_right_exception(run: Run, name: str, error: str, status: int, reason: str) -> None:
    """Each refusal becomes the SDK's exception for it, with type, code, a message and the request's id."""
    seen = run.seen[name]
    assert (seen["error"], seen["status"]) == (error, status)
    assert seen["code"] == str(status)
    assert seen["body"]["reason"] == reason
    assert seen["body"]["message"] in seen["text"]
    assert seen["type"] == seen["body"]["type"]
    assert any(record.request_id == seen["request_id"] for record in run.records)


@pytest.mark.parametrize(
    ("name", "status", "reason"), [("not JSON", 400, "invalid_json"), ("no key", 401, "missing_api_key")]
)
def test_what_the_sdk_cannot_send_is_refused_alike(run: Run, name: str, status: int, reason: str) -> None:
    """Requests that take the SDK's bare HTTP client get the same envelope."""
    seen = run.seen[name]
    assert seen["status"] == status
    assert (seen["body"]["code"], seen["body"]["reason"]) == (status, reason)


def test_an_unknown_model_is_named(run: Run) -> None:
    """The message says which model was not found, and that `model` is the parameter at fault."""
    seen = run.seen["unknown model"]
    assert "model 'gpt-x' not found" in seen["text"]
    assert seen["param"] == "model"


def test_unknown_and_disabled_keys_cannot_be_told_apart(run: Run) -> None:
    """Whoever guesses keys does not learn which once existed."""
    unknown, disabled = run.seen["unknown key"], run.seen["disabled key"]
    assert unknown["body"] | {"message": ""} == disabled["body"] | {"message": ""}
    assert unknown["text"].replace(unknown["request_id"] or "", "") == disabled["text"].replace(
        disabled["request_id"] or "", ""
    )


def test_an_objection_of_the_upstream_passes_unchanged(run: Run) -> None:
    """An upstream's 400 is the client's to read: status and error object are the upstream's own."""
    seen = run.seen["upstream objects"]
    assert (seen["error"], seen["status"]) == ("BadRequestError", 400)
    assert seen["body"] == {
        "message": "This upstream was set to fail.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


def test_a_broken_upstream_is_a_server_error(run: Run) -> None:
    """When every try met a 500 the client gets a server error it may retry, not a success and not a client error."""
    seen = run.seen["upstream is broken"]
    assert seen["error"] == "InternalServerError"
    assert seen["status"] in {500, 502}


@pytest.mark.parametrize("name", ["limited, second", "upstream is busy", "nobody is eligible"])
def test_a_temporary_refusal_says_when_to_come_back(run: Run, name: str) -> None:
    """`retry-after` is whole seconds from 1 to 60, and `retry-after-ms` says the same more exactly."""
    headers = run.seen[name]["headers"]
    seconds = int(headers["retry-after"])
    assert 1 <= seconds <= 60
    assert seconds - 1 < int(headers["retry-after-ms"]) / 1000 <= seconds


def test_the_upstreams_wait_is_passed_on(run: Run) -> None:
    """When the only upstream asks for seven seconds, the client is asked for about as much."""
    assert 7 <= int(run.seen["upstream is busy"]["headers"]["retry-after"]) <= 9


def test_the_sdk_waits_as_told_and_succeeds(run: Run) -> None:
    """A 429 with a short wait is retried by the SDK and then succeeds; the router sees that it was a retry."""
    seen = run.seen["patient, second"]
    assert run.seen["patient, first"]["retries"] == 0
    assert seen["error"] is None
    assert seen["retries"] == 1
    outcomes = [(record.outcome, record.client_retry) for record in run.records_of("patient")]
    assert outcomes == [(Outcome.OK, False), (Outcome.RATE_LIMITED, False), (Outcome.OK, True)]


def test_the_sdk_does_not_retry_what_can_never_fit(run: Run) -> None:
    """`x-should-retry: false` keeps the SDK from repeating a request that is larger than its limit."""
    assert run.seen["never fits"]["headers"]["x-should-retry"] == "false"
    assert len(run.records_of("small")) == 1


def test_a_cut_stream_raises(run: Run) -> None:
    """A stream whose upstream broke off yields what came and then raises: it never looks complete."""
    seen = run.seen["stream is cut"]
    assert content(seen["answer"]) == " ".join(WORDS[:2])
    assert seen["error"] == "APIError"
    assert seen["type"] == "bad_gateway"


def test_nothing_private_is_shown(run: Run) -> None:
    """No answer shows a credential, an upstream's address or a trace, even if an upstream quotes our credential."""
    assert len(run.seen) == len(CALLS)
    for seen in run.seen.values():
        shown = json.dumps(seen)
        for private in (UPSTREAM_SECRET, "sk-client-", "Traceback", ".py", *run.addresses):
            assert private not in shown, seen["name"]
