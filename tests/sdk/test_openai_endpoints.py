"""Every endpoint as users of OpenAI's SDK for Python meet it: the newest generation and 1.x, sync and async."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import uvloop

from tests.sdk import checks
from tests.sdk.openai_cases import CALLS, CASES, CUT, PLACES, REFUSALS, REFUSED, TURNS
from tests.sdk.running import DRAINED, MODEL, Case, Run, Sdk, observe, python_sdks

if TYPE_CHECKING:
    from tests.sdk.methods import Call

SDKS = python_sdks("openai", "1.x", ".venv-openai1")


@pytest.fixture(scope="module", params=SDKS, ids=lambda sdk: sdk.name)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    sdk: Sdk = request.param
    if sdk.missing:
        pytest.skip(sdk.missing)
    return uvloop.run(observe(sdk, CALLS, tmp_path_factory.mktemp("openai")))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_router_is_not_felt(run: Run, case: Case) -> None:
    """What the SDK hands out is what it hands out at the upstream itself."""
    checks.check_answer(run, case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_upstream_gets_what_was_sent(run: Run, case: Case) -> None:
    """Every request arrives as the SDK wrote it, but for the model's name there and the usage we ask for."""
    checks.check_request(run, case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_request_is_recorded(run: Run, case: Case) -> None:
    """The record names the endpoint and the exact usage of what the client got, and charges no answer twice."""
    checks.check_record(run, case)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_the_right_exception(run: Run, place: str, refusal: str) -> None:
    """On every kind of endpoint each refusal is the SDK's exception for it, with message and request id."""
    *_, error, status, reason = REFUSALS[refusal]
    checks.check_refusal(run, f"{place}-{refusal}", error, status, envelope={"reason": reason, "code": status})


def test_a_model_that_is_no_string_is_refused(run: Run) -> None:
    """What cannot be routed is refused before any upstream is asked, and the parameter is named."""
    envelope = {"reason": "invalid_type", "param": "model"}
    checks.check_refusal(run, "embedding-odd", "BadRequestError", 400, envelope=envelope)
    assert run.records["embedding-odd"].attempts == ()


@pytest.mark.parametrize("place", PLACES)
def test_an_objection_passes(run: Run, place: str) -> None:
    """An upstream's 400 reaches the client on every kind of endpoint, as it would without the router."""
    checks.check_objection(run, f"{place}-refusing")


@pytest.mark.parametrize("call", CUT, ids=lambda call: call["name"])
def test_a_cut_answer_is_no_answer(run: Run, call: Call) -> None:
    """A stream or a file whose upstream broke off ends with a failure, on every endpoint that streams."""
    checks.check_cut(run, call["name"])


def test_an_answer_is_built_upon_where_it_is_stored(run: Run) -> None:
    """What names an earlier response goes to the upstream that has it, at once: none of the others is asked."""
    attempts = [run.records[name].attempts for name in ("response", *TURNS, "retrieve-turn")]
    assert [len(each) for each in attempts] == [1] * len(attempts)
    assert len({each[0].upstream for each in attempts}) == 1


@pytest.mark.parametrize("name", ["foreign", "never-stored"])
def test_stored_answers_are_their_owners_alone(run: Run, name: str) -> None:
    """A response of another key and one that never was are both not found, and no upstream is asked."""
    checks.check_refusal(run, name, "NotFoundError", 404, envelope={"reason": "not_found"})
    assert run.records[name].attempts == ()


def test_nobody_builds_upon_a_foreign_answer(run: Run) -> None:
    """A response that names another key's as the one before it is refused."""
    seen = run.seen["foreign-previous"]
    assert seen.get("status") in {400, 404}
    assert "value" not in seen


def test_the_models_are_those_of_the_key(run: Run) -> None:
    """The list and the single model are the router's own: the client's names, and only those it may use."""
    assert {MODEL, DRAINED} <= {model["id"] for model in run.seen["models"]["value"]["data"]}
    assert [model["id"] for model in run.seen["models-narrow"]["value"]["data"]] == [DRAINED]
    assert run.seen["model"]["value"]["id"] == MODEL
    assert run.seen["model-unknown"]["error"] == "NotFoundError"
    ids = [run.seen[name]["request_id"] for name in ("models", "models-narrow", "model", "model-unknown")]
    assert {run.endpoints[request_id or ""] for request_id in ids} == {"models"}


def test_credentials_stay_on_their_side(run: Run) -> None:
    """No upstream sees a client's key, and no client an upstream's credential, address or account."""
    assert len(REFUSED) > len(PLACES) * len(REFUSALS)
    checks.check_credentials(run)
