"""Each credential, asked for the list of models: what an answer says about it, and what it does not."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from router.doctor.findings import Result
from tests.doctor.examining import (
    CONTENT_TYPE_HTML,
    JSON,
    ONE_KEY,
    SOON_S,
    about,
    examined,
    list_of,
    results,
    serving,
)
from tests.harness import answers, chat
from tests.harness.router import OTHER_SECRET, UPSTREAM_SECRET
from tests.harness.upstream import cut, error, json_answer, plain, send, stall

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.upstream import Script, ScriptedUpstream

TWO_KEYS = [{"env": "UPSTREAM_SECRET"}, {"env": "OTHER_SECRET"}]


def said(status: int, message: str, kind: str = "error", code: str | None = None, *headers: str) -> Script:
    return error(status, chat.error_body(message, kind=kind, code=code), *headers)


async def test_each_credential_is_tried(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Every one is sent as the router would, and one that is refused is named by its number and its place."""
    upstream.then(list_of("m"), said(401, "Incorrect API key provided")).always(said(401, "Who are you?"))
    found = await examined(tmp_path, serving(upstream.base_url, api_keys=TWO_KEYS))
    sent = [received.values("authorization") for received in upstream.received]
    assert sent == [[f"Bearer {UPSTREAM_SECRET}".encode()], [f"Bearer {OTHER_SECRET}".encode()], []]
    assert about(found, "credential 1 of 2").result is Result.OK
    assert "lists 1 model" in about(found, "credential 1 of 2").found
    refused = about(found, "credential 2 of 2")
    assert (refused.result, refused.found) == (Result.FAIL, "is refused: 401 Incorrect API key provided")
    assert refused.cure == "put a valid one into $OTHER_SECRET (upstreams.first.api_keys[1])"


@pytest.mark.parametrize(
    ("status", "message", "code", "result", "words", "cure"),
    [
        (401, "bad key", None, Result.FAIL, "is refused: 401 bad key", "$UPSTREAM_SECRET"),
        (403, "no access", None, Result.FAIL, "is refused: 403 no access", "upstreams.first.api_key"),
        (400, "API key not valid. Pass another.", None, Result.FAIL, "is refused: 400", "$UPSTREAM_SECRET"),
        (402, "Pay up", None, Result.FAIL, "cannot pay: 402 Pay up", "balance"),
        (429, "You exceeded your quota", "insufficient_quota", Result.FAIL, "cannot pay: 429", "balance"),
        (429, "Slow down", None, Result.WARN, "429: Slow down", "wait"),
        (404, "Not Found", None, Result.WARN, "cannot be told without --deep", "--deep"),
        (404, "Unknown model: models", None, Result.WARN, "cannot be told without --deep", "--deep"),
        (405, "No", None, Result.WARN, "cannot be told without --deep", "base_url"),
        (400, "no", None, Result.WARN, "cannot be told without --deep", "base_url"),
        (501, "no", None, Result.WARN, "cannot be told without --deep", "base_url"),
        (500, "It broke", None, Result.FAIL, "answers 500: It broke", "log"),
        (503, "Loading model", None, Result.FAIL, "answers 503: Loading model", "log"),
        (301, "Moved", None, Result.FAIL, "redirection", "upstreams.first.base_url"),
    ],
)
async def test_a_status_is_judged(  # noqa: PLR0917 (a row of the table)
    tmp_path: Path,
    upstream: ScriptedUpstream,
    status: int,
    message: str,
    code: str | None,
    result: Result,
    words: str,
    cure: str,
) -> None:
    """What is about the credential, the account, the path or the server is told apart, in the server's own words."""
    upstream.always(said(status, message, code=code))
    found = await examined(tmp_path, serving(upstream.base_url, api_key=ONE_KEY))
    finding = about(found, "credential")
    assert finding.result is result
    assert words in finding.found
    assert cure in finding.cure


async def test_without_a_credential_one_is_asked_for(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """401 to nobody in particular: the setting for a credential is told."""
    upstream.always(said(401, "Who are you?"))
    found = await examined(tmp_path, serving(upstream.base_url))
    assert about(found, "answer").found == "wants a credential: 401 Who are you?"
    assert "upstreams.first.api_key" in about(found, "answer").cure


@pytest.mark.parametrize(
    "script",
    [
        plain(200, b"<html>Welcome</html>", CONTENT_TYPE_HTML),
        plain(200, b'{"object":"list"}', JSON),
        plain(200, b'"models"', JSON),
        plain(200, b"[" * 100_000, JSON),
        plain(204, b""),
    ],
    ids=["page", "no list", "text", "nested", "nothing"],
)
async def test_a_200_that_is_no_list_tells_nothing(tmp_path: Path, upstream: ScriptedUpstream, script: Script) -> None:
    """A page that answers everything with 200 is not the API: the credential is untold, and base_url suspected."""
    upstream.always(script)
    found = await examined(tmp_path, serving(upstream.base_url, api_key=ONE_KEY))
    assert results(found) == [("tcp", "ok"), ("credential", "warn")]
    assert "no list of models" in about(found, "credential").found
    assert "upstreams.first.base_url" in about(found, "credential").cure


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (stall(), "no whole answer for"),
        (send(b"SSH-2.0-OpenSSH_9.9\r\n"), "not HTTP"),
        (cut(), "closes the connection"),
        (send(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"), "no whole answer for"),
    ],
    ids=["silent", "garbage", "closed", "stops"],
)
async def test_nobody_home_is_found_out_once(
    tmp_path: Path, upstream: ScriptedUpstream, script: Script, words: str
) -> None:
    """Without an answer in HTTP the second credential is not tried, nor anything after it."""
    upstream.always(script)
    found = await examined(tmp_path, serving(upstream.base_url, api_keys=TWO_KEYS), timeout_s=SOON_S, is_deep=True)
    assert results(found) == [("tcp", "ok"), ("credential 1 of 2", "fail")]
    assert words in about(found, "credential 1 of 2").found
    assert len(upstream.received) == 1


async def test_a_list_for_everybody_proves_no_credential(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Who shows the list to a stranger has not looked at the credential: only a real request tells, or a refusal."""
    settings = serving(upstream.base_url, api_key=ONE_KEY)
    found = await examined(tmp_path, settings)
    assert about(found, "credential").result is Result.WARN
    assert "to anybody" in about(found, "credential").found
    assert [received.values("authorization") for received in upstream.received][1:] == [[]]
    upstream.then(list_of("m"), list_of("m")).always(said(401, "bad key"))
    assert about(await examined(tmp_path, settings, is_deep=True), "deep m").found == "is refused: 401 bad key"
    without = await examined(tmp_path, serving(upstream.base_url))
    assert about(without, "answer").result is Result.FAIL


async def test_anthropics_way_is_kept(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Its credential has a header of its own, its version is said, its list is asked for whole."""
    upstream.then(json_answer(json.dumps(answers.anthropic_models("m")).encode())).always(said(401, "Who are you?"))
    found = await examined(tmp_path, serving(upstream.base_url, api_key=ONE_KEY, protocol="anthropic"))
    assert about(found, "credential").result is Result.OK
    asked = await upstream.asked()
    assert asked.line == b"GET /v1/models?limit=1000 HTTP/1.1"
    assert asked.values("x-api-key") == [UPSTREAM_SECRET.encode()]
    assert asked.values("anthropic-version") == [b"2023-06-01"]


async def test_what_an_upstream_repeats_is_not_shown(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """An error that quotes our credential, the query of its URL or a terminal's signs is told without them."""
    quoted = f"key {UPSTREAM_SECRET} is bad \x1b[31m at http://h/v1/models?key=hush&x=1 " + "x" * 5000
    upstream.always(said(401, quoted))
    settings: dict[str, Any] = {"api_key": ONE_KEY, "query": {"token": "hidden-by-name"}}
    found = await examined(tmp_path, serving(upstream.base_url, **settings))
    told = about(found, "credential").found
    assert told.startswith("is refused: 401 key *** is bad ?[31m at http://h/v1/models?… xxx")
    upstream.always(said(401, "token hidden-by-name is bad"))
    found = await examined(tmp_path, serving(upstream.base_url, **settings))
    assert about(found, "credential").found == "is refused: 401 token *** is bad"


async def test_the_date_of_an_answer_tells_the_clock(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """No one else is asked what time it is."""
    old = formatdate(946_684_800, usegmt=True)
    upstream.always(json_answer(json.dumps(answers.models("m")).encode(), f"date: {old}"))
    found = await examined(tmp_path, serving(upstream.base_url))
    clock = about(found, "clock", "machine")
    assert clock.result is Result.FAIL
    assert "ahead, by the answers of 1 upstream" in clock.found
