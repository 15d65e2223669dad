"""The names that pools ask for, against those that an upstream lists."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from router.doctor.findings import Result
from router.doctor.models import IDS_MAX, is_listed, listed
from tests.doctor.examining import about, examined, list_of, results, serving
from tests.harness import answers
from tests.harness.upstream import json_answer

if TYPE_CHECKING:
    from pathlib import Path

    from router.doctor.findings import Finding
    from tests.harness.upstream import ScriptedUpstream


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (answers.models("a", "b"), ("a", "b")),
        (answers.anthropic_models("a"), ("a",)),
        ([{"id": "a"}, {"id": "b"}], ("a", "b")),
        ({"models": [{"name": "a:latest"}]}, ("a:latest",)),
        ({"data": []}, ()),
        ({"data": [{"id": 5}, "x", {}, {"id": ""}, {"id": "x" * 300}, {"id": "a"}]}, ("a",)),
    ],
    ids=["openai", "anthropic", "together", "ollama", "empty", "odd"],
)
def test_lists_are_read_in_every_shape(body: Any, ids: tuple[str, ...]) -> None:
    """OpenAI's, Anthropic's, a bare list, Ollama's own; what is no name is left out."""
    found = listed(json.dumps(body).encode())
    assert found is not None
    assert (found.ids, found.is_whole) == (ids, True)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data": {}}', b'"a"', b"\xff", b"[" * 100_000])
def test_what_is_no_list_is_none(body: bytes) -> None:
    """Garbage is told from an empty list."""
    assert listed(body) is None


def test_a_list_of_which_there_is_more_is_not_whole() -> None:
    """A further page, or more names than are believed: what is missing may be there."""
    more = listed(json.dumps(answers.anthropic_models("a") | {"has_more": True}).encode())
    endless = listed(json.dumps([{"id": str(number)} for number in range(IDS_MAX + 1)]).encode())
    assert more is not None
    assert endless is not None
    assert (more.is_whole, endless.is_whole, len(endless.ids)) == (False, False, IDS_MAX)


@pytest.mark.parametrize(
    ("name", "there", "result"),
    [
        ("gpt-5.5", "gpt-5.5", True),
        ("gpt-5.5", "gpt-5.5-2026-04-23", True),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929", True),
        ("mistral-large", "mistral-large-latest", True),
        ("mistral-large", "mistral-large-2512", True),
        ("gemini-3-pro", "models/gemini-3-pro", True),
        ("llama4", "llama4:latest", True),
        ("openai/gpt-5.5:online", "openai/gpt-5.5", True),
        ("gpt-5.5", "gpt-5.5-mini", False),
        ("gpt-5", "gpt-5.5", False),
        ("llama4", "llama4:70b", False),
    ],
)
def test_other_spellings_of_a_name(name: str, there: str, result: bool) -> None:
    """Dates, Google's prefix, Ollama's tag and OpenRouter's variants are the same model; a sibling is another."""
    assert is_listed(name, frozenset({there})) is result


async def found_with(folder: Path, upstream: ScriptedUpstream, models: Any, **settings: Any) -> list[Finding]:
    return await examined(folder, serving(upstream.base_url, **settings) | {"models": models})


async def test_a_name_that_is_not_listed_is_a_warning(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """It is told with the name that may be meant, and with the place in the file that asks for it."""
    upstream.always(list_of("gpt-5.5", "gpt-4o"))
    pool = [{"upstream": "first", "model": "gpt-55"}]
    found = await found_with(tmp_path, upstream, {"gpt-4o": "first", "big": {"pool": pool}})
    assert results(found)[-1] == ("models", "warn")
    assert about(found, "models").found == "does not list 'gpt-55', did you mean 'gpt-5.5'?"
    assert "models.big.pool[0].model" in about(found, "models").cure


async def test_a_pattern_must_match_something(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """`claude-*` at an upstream that lists none such is probably the wrong upstream."""
    upstream.always(list_of("gpt-5.5"))
    found = await found_with(tmp_path, upstream, {"gpt-*": "first", "claude-*": "first"})
    assert about(found, "models").found == "nothing that it lists matches 'claude-*'"
    found = await found_with(tmp_path, upstream, {"gpt-*": "first"})
    assert about(found, "models").result is Result.OK


async def test_a_list_that_goes_on_is_not_compared(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Who has more pages than one is not blamed for what may stand on the next."""
    upstream.always(json_answer(json.dumps(answers.anthropic_models("x") | {"has_more": True}).encode()))
    found = await found_with(tmp_path, upstream, {"m": "first"}, protocol="anthropic")
    assert results(found) == [("tcp", "ok"), ("answer", "ok")]


@pytest.mark.parametrize(("preset", "checks"), [("llama.cpp", []), ("azure", [("models", "ok")])])
async def test_names_that_cannot_be_compared(
    tmp_path: Path, upstream: ScriptedUpstream, preset: str, checks: list[tuple[str, str]]
) -> None:
    """llama.cpp serves what it has under any name; Azure is asked for deployments, which it does not list."""
    upstream.always(list_of("something-else"))
    key = {} if preset == "llama.cpp" else {"api_key": {"env": "UPSTREAM_SECRET"}}
    found = await found_with(tmp_path, upstream, {"m": "first"}, preset=preset, **key)
    assert results(found)[2:] == checks
