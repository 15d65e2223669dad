"""What is checked of every call, whichever SDK made it (PROTOCOL 1, 3.2, 7.2)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from router.events import Outcome, Side, Usage
from tests.harness.endpoints import REFUSAL, form_parts
from tests.harness.router import OTHER_SECRET, UPSTREAM_SECRET
from tests.sdk.running import MODEL, SERVED, Case, Run, pick, private_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.harness.upstream import Received
    from tests.sdk.methods import Observation


def skip_absent(run: Run, name: str) -> None:
    """An old generation does not have every method."""
    if run.direct[name].get("absent"):
        assert "newest" not in run.sdk.name
        pytest.skip(f"{run.sdk.package} {run.sdk.name} has no such method")


def check_answer(run: Run, case: Case) -> None:
    """The call gives what it should, and the same at the upstream itself."""
    skip_absent(run, case.call["name"])
    direct, seen = run.direct[case.call["name"]], run.seen[case.call["name"]]
    assert "error" not in direct, direct["text"]
    assert "error" not in seen, seen["text"]
    assert {way: pick(seen["value"], way) for way in case.shows} == dict(case.shows)
    assert stated(seen["value"]) == stated(direct["value"])


def stated(value: Any) -> Any:
    """A value but for usage that is null: upstreams write it into every chunk of a stream that is asked for usage,
    and the chunks pass as they come (PROTOCOL 5.3)."""
    if isinstance(value, list):
        return [stated(event) for event in value]
    if isinstance(value, dict) and value.get("usage", value) is None:
        return {name: member for name, member in value.items() if name != "usage"}
    return value


def check_request(run: Run, case: Case) -> None:
    """The upstream got what the client sent, but for the model's name and the usage we asked for."""
    skip_absent(run, case.call["name"])
    sent, got = run.sent[case.call["name"]], run.got[case.call["name"]]
    assert got.line == sent.line
    assert got.values("content-type") == sent.values("content-type") or form(sent)
    if form(sent):
        assert form(got) == [(name, served(name, data), *more) for name, data, *more in form(sent)]
    elif case.spliced:
        assert got.body == renamed(sent.body)
    else:
        assert unspliced(got) == unspliced(sent)
    for name in ("anthropic-version", "anthropic-beta", "user-agent", "accept"):
        assert got.values(name) == sent.values(name)


def form(received: Received) -> list[tuple[Any, ...]]:
    """The parts of a form: its boundary is another one for each request."""
    content_type = b"".join(received.values("content-type"))
    if not content_type.startswith(b"multipart/"):
        return []
    return [
        (part.name, part.data, part.filename, part.content_type) for part in form_parts(received.body, content_type)
    ]


def served(name: str, data: bytes) -> bytes:
    return SERVED[MODEL].encode() if name == "model" else data


def renamed(body: bytes) -> bytes:
    """A JSON body as an upstream gets it."""
    for client, upstream in SERVED.items():
        body = body.replace(f'"model":"{client}"'.encode(), f'"model":"{upstream}"'.encode())
    return body


def unspliced(received: Received) -> dict[str, Any]:
    """A JSON body without what the router may write into it."""
    return {name: value for name, value in received.json.items() if name not in ("model", "stream_options")}


def check_record(run: Run, case: Case) -> None:
    """One record tells whose the request was, what came of it, and what it used."""
    skip_absent(run, case.call["name"])
    record = run.records[case.call["name"]]
    assert (record.endpoint, record.status, record.outcome) == (case.endpoint, 200, Outcome.OK)
    assert (record.complete, record.ended_by, record.key) == (True, Side.UPSTREAM, "full")
    assert record.upstream in ("left", "right", "claude")
    assert used(record.usage) == case.usage
    if record.usage is not None or case.free:
        assert record.charged_tokens == (record.usage.total if record.usage is not None else 0)
    seen = run.seen[case.call["name"]]
    if "headers" in seen:
        assert seen["headers"]["x-request-id"] == record.request_id


def used(usage: Usage | None) -> Mapping[str, float] | None:
    """Every class of a record that is not zero."""
    return None if usage is None else {name: count for name, count in msgspec.structs.asdict(usage).items() if count}


def check_refusal(run: Run, name: str, error: str, status: int, *, envelope: Mapping[str, object]) -> None:
    """A refusal is the SDK's exception for it, and says what is wrong and which request it was."""
    skip_absent(run, name)
    seen = run.seen[name]
    assert "error" in seen, seen
    assert error in seen["errors"], seen
    assert seen["status"] == status
    members = error_object(seen)
    assert {member: members[member] for member in envelope} == dict(envelope)
    assert members["message"] in seen["text"]
    record = run.records[name]
    assert seen["request_id"] == seen["headers"]["x-request-id"] == record.request_id
    assert (record.status, record.complete) == (status, False)


def error_object(seen: Observation) -> dict[str, Any]:
    """The `error` member of the envelope; OpenAI's SDKs hand out that, Anthropic's the whole."""
    body = seen["body"]
    assert isinstance(body, dict), seen
    inner = body.get("error", body)
    assert isinstance(inner, dict), seen
    return inner


def check_objection(run: Run, name: str) -> None:
    """What an upstream objects to passes as the upstream wrote it."""
    skip_absent(run, name)
    seen, direct = run.seen[name], run.direct[name]
    assert (seen["error"], seen["status"]) == ("BadRequestError", 400)
    assert (seen["text"], seen["body"]) == (direct["text"], direct["body"])
    assert REFUSAL in seen["text"]
    assert seen["request_id"] == run.records[name].request_id


def check_cut(run: Run, name: str) -> None:
    """An answer that broke off never looks complete, to the client and in the books."""
    skip_absent(run, name)
    seen, record = run.seen[name], run.records[name]
    value = seen.get("value") or [{}]
    assert "error" in seen or value[-1].get("type") == "error", seen
    assert (record.status, record.complete, record.outcome) == (200, False, Outcome.UPSTREAM_ERROR)


def check_credentials(run: Run) -> None:
    """Upstreams get our credentials in their own way and never a client's; clients see nothing that is ours."""
    assert run.got
    for name, received in run.got.items():
        assert b"sk-client-" not in received.head + received.body, name
        bearer, key = received.values("authorization"), received.values("x-api-key")
        ours = (
            ([], [OTHER_SECRET.encode()])
            if b" /v1/messages" in received.line
            else ([b"Bearer " + UPSTREAM_SECRET.encode()], [])
        )
        assert (bearer, key) == ours, name
    for name, seen in run.seen.items():
        shown = json.dumps(seen)
        for private in private_words(run):
            assert private not in shown, name
        assert "openai-organization" not in seen.get("headers", {})
