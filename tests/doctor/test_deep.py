"""One token from every pool member: what is asked, and what an answer tells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from router.doctor.findings import Result
from tests.doctor.examining import JSON, ONE_KEY, about, examined, list_of, results, serving
from tests.harness import answers, chat
from tests.harness.upstream import error, json_answer, plain

if TYPE_CHECKING:
    from pathlib import Path

    from router.doctor.findings import Finding
    from tests.harness.upstream import Script, ScriptedUpstream

Json = dict[str, Any]


async def deeply(folder: Path, upstream: ScriptedUpstream, models: Any = None, **settings: Any) -> list[Finding]:
    top = {"models": {"m": "first"} if models is None else models}
    return await examined(folder, serving(upstream.base_url, **settings) | top, is_deep=True)


def said(status: int, message: str, *, code: str | None = None) -> Script:
    return error(status, chat.error_body(message, code=code))


async def test_a_chat_model_is_asked_for_one_token(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """One request, the smallest there is, at the path of chats; the time it took is told."""
    upstream.then(list_of("m"), said(401, "Who are you?")).always(json_answer())
    found = await deeply(tmp_path, upstream, api_key=ONE_KEY)
    assert results(found)[-1] == ("deep m", "ok")
    assert "answered in " in about(found, "deep m").found
    asked = await upstream.asked(3)
    assert asked.line == b"POST /v1/chat/completions HTTP/1.1"
    assert asked.json == {"model": "m", "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 1}
    assert len(upstream.received) == 3


@pytest.mark.parametrize(
    ("name", "settings", "path", "answer"),
    [
        ("text-embedding-3-small", {}, b"/v1/embeddings", answers.embeddings(1, as_base64=False)),
        ("BAAI/bge-m3", {}, b"/v1/embeddings", answers.embeddings(1, as_base64=False)),
        ("omni-moderation-latest", {}, b"/v1/moderations", answers.moderation()),
        ("claude-x", {"protocol": "anthropic"}, b"/v1/messages", answers.message()),
    ],
)
async def test_other_models_are_asked_at_their_own_path(  # noqa: PLR0917 (a row of the table)
    tmp_path: Path, upstream: ScriptedUpstream, name: str, settings: Json, path: bytes, answer: Json
) -> None:
    """Embeddings, moderations and messages are what they are by name or protocol."""
    upstream.then(list_of(name)).always(json_answer(json.dumps(answer).encode()))
    found = await deeply(tmp_path, upstream, {name: "first"}, **settings)
    assert results(found)[-1] == (f"deep {name}", "ok")
    assert (await upstream.asked(2)).line == b"POST " + path + b" HTTP/1.1"


async def test_what_is_no_model_for_texts_is_not_asked(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Pictures and sound cost more than a token: they are left alone, and that is said."""
    upstream.always(list_of("dall-e-3", "whisper-1"))
    found = await deeply(tmp_path, upstream, {"dall-e-3": "first", "whisper-1": "first"})
    assert results(found)[-2:] == [("deep dall-e-3", "warn"), ("deep whisper-1", "warn")]
    assert len(upstream.received) == 1


async def test_a_pattern_is_asked_for_by_its_only_name(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Where one listed name fits, it is asked for; where several do, clients choose and we do not."""
    upstream.then(list_of("gpt-5.5")).always(json_answer())
    found = await deeply(tmp_path, upstream, {"gpt-*": "first"})
    assert results(found)[-1] == ("deep gpt-5.5", "ok")
    upstream.then(list_of("gpt-5.5", "gpt-4o"))
    found = await deeply(tmp_path, upstream, {"gpt-*": "first"})
    assert results(found)[-1] == ("deep gpt-*", "warn")


async def test_the_settings_of_the_upstream_hold(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """The bound has the name that this upstream knows, and what it cannot take is left out."""
    upstream.then(list_of("m")).always(json_answer())
    await deeply(tmp_path, upstream, max_tokens_field="max_completion_tokens", drop_params=["messages"])
    assert (await upstream.asked(2)).json == {"model": "m", "max_completion_tokens": 1}


async def test_the_bound_is_tried_by_its_other_name(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Newer models refuse `max_tokens` and say what they want: they are asked once more."""
    refusal = said(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    upstream.then(list_of("m"), refusal).always(json_answer())
    found = await deeply(tmp_path, upstream)
    assert results(found)[-1] == ("deep m", "ok")
    assert (await upstream.asked(3)).json["max_completion_tokens"] == 1


@pytest.mark.parametrize(
    ("script", "result", "words", "cure"),
    [
        (said(400, "temperature is odd"), Result.WARN, "temperature is odd", "client"),
        (said(404, "The model `m` does not exist", code="model_not_found"), Result.FAIL,
         "does not exist, did you mean 'm2'?", "models.m.pool[0].model"),
        (said(401, "bad key"), Result.FAIL, "is refused: 401 bad key", "upstreams.first.api_key"),
        (said(429, "slow down"), Result.WARN, "slow down", "wait"),
        (said(500, "It broke"), Result.FAIL, "500 in", "log"),
        (said(400, "Could not finish the message because max_tokens or model output limit was reached."), Result.OK,
         "one token was not enough", ""),
        (json_answer(b'{"error": {"message": "overloaded"}}'), Result.FAIL, "but overloaded", "log"),
        (json_answer(b"{}"), Result.FAIL, "no answer is in it", "log"),
        (plain(200, b"<html>", JSON), Result.FAIL, "not a JSON object", "base_url"),
    ],
    ids=["400", "no such model", "credential", "rate", "500", "thinks", "error in 200", "empty", "page"],
)  # fmt: skip
async def test_an_answer_is_judged(  # noqa: PLR0917 (a row of the table)
    tmp_path: Path, upstream: ScriptedUpstream, script: Script, result: Result, words: str, cure: str
) -> None:
    """What a real request meets is told in the upstream's words, a missing model with the name that may be meant."""
    upstream.then(list_of("m2"), said(401, "Who are you?")).always(script)
    found = await deeply(tmp_path, upstream, api_key=ONE_KEY)
    finding = about(found, "deep m")
    assert finding.result is result
    assert words in finding.found
    assert cure in finding.cure


async def test_deep_tells_what_the_list_could_not(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Where there is no list, the first model is asked for with every credential, the others with one that is good."""
    nothing = said(404, "Not Found")
    upstream.then(nothing, nothing, said(401, "bad key"), json_answer(), json_answer())
    keys = [{"env": "UPSTREAM_SECRET"}, {"env": "OTHER_SECRET"}]
    found = await deeply(tmp_path, upstream, {"m": "first", "n": "first"}, api_keys=keys)
    assert results(found)[3:] == [
        ("deep m, credential 1 of 2", "fail"),
        ("deep m, credential 2 of 2", "ok"),
        ("deep n, credential 2 of 2", "ok"),
    ]


async def test_without_deep_nothing_is_asked(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """What costs money is done on request alone."""
    await examined(tmp_path, serving(upstream.base_url))
    assert [received.line for received in upstream.received] == [b"GET /v1/models HTTP/1.1"]
