"""Every endpoint as users of OpenAI's SDK for Node meet it: the newest generation and the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import uvloop

from tests.sdk import checks
from tests.sdk.openai_cases import CALLS, CASES, CUT, PLACES, REFUSALS
from tests.sdk.running import DRAINED, MODEL, Case, Run, Sdk, node_sdk, observe

if TYPE_CHECKING:
    from tests.sdk.methods import Call

SDKS = [node_sdk("newest", "openai"), node_sdk("6.x", "openai-6")]


@pytest.fixture(scope="module", params=SDKS, ids=lambda sdk: sdk.name)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    sdk: Sdk = request.param
    if sdk.missing:
        pytest.skip(sdk.missing)
    return uvloop.run(observe(sdk, CALLS, tmp_path_factory.mktemp("node")))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_router_is_not_felt(run: Run, case: Case) -> None:
    """What the SDK hands out is what it hands out at the upstream itself."""
    checks.check_answer(run, case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_upstream_gets_what_was_sent(run: Run, case: Case) -> None:
    """Every request arrives as the SDK wrote it, also where a file stands before the model in its form."""
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


@pytest.mark.parametrize("place", PLACES)
def test_an_objection_passes(run: Run, place: str) -> None:
    """An upstream's 400 reaches the client on every kind of endpoint, as it would without the router."""
    checks.check_objection(run, f"{place}-refusing")


@pytest.mark.parametrize("call", CUT, ids=lambda call: call["name"])
def test_a_cut_answer_is_no_answer(run: Run, call: Call) -> None:
    """A stream or a file whose upstream broke off ends with a failure: Node's SDK takes any clean end for success."""
    checks.check_cut(run, call["name"])


@pytest.mark.parametrize("name", ["foreign", "never-stored"])
def test_stored_answers_are_their_owners_alone(run: Run, name: str) -> None:
    """A response of another key and one that never was are both not found."""
    checks.check_refusal(run, name, "NotFoundError", 404, envelope={"reason": "not_found"})


def test_the_models_are_those_of_the_key(run: Run) -> None:
    """The list and the single model are the router's own, also under a name that the SDK has to escape."""
    assert {MODEL, DRAINED} <= {model["id"] for model in run.seen["models"]["value"]["data"]}
    assert [model["id"] for model in run.seen["models-narrow"]["value"]["data"]] == [DRAINED]
    assert run.seen["model"]["value"]["id"] == MODEL
    assert "nobody/has:it" in run.seen["model-unknown"]["text"]


def test_credentials_stay_on_their_side(run: Run) -> None:
    """No upstream sees a client's key, and no client an upstream's credential, address or account."""
    checks.check_credentials(run)
