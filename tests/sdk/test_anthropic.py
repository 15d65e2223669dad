"""Anthropic's protocol as users of its SDK meet it: the newest generation, and 0.x, which sends `x-api-key`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import uvloop

from tests.sdk import checks
from tests.sdk.anthropic_cases import CALLS, CASES, CUT, PLACES, REFUSALS
from tests.sdk.running import CLAUDE, DRAINED, Case, Run, Sdk, observe, python_sdks, secret

if TYPE_CHECKING:
    from tests.sdk.methods import Call

SDKS = python_sdks("anthropic", "0.x", ".venv-anthropic0", prefix="")


@pytest.fixture(scope="module", params=SDKS, ids=lambda sdk: sdk.name)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    sdk: Sdk = request.param
    if sdk.missing:
        pytest.skip(sdk.missing)
    return uvloop.run(observe(sdk, CALLS, tmp_path_factory.mktemp("anthropic")))


def test_each_generation_names_its_key_in_its_way(run: Run) -> None:
    """The newest sends a bearer, 0.x `x-api-key`: both are what the other tests of this file are made with."""
    sent, key = run.sent["claude-message"], secret("full").encode()
    found = (sent.values("authorization"), sent.values("x-api-key"))
    assert found == (([b"Bearer " + key], []) if "newest" in run.sdk.name else ([], [key]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_router_is_not_felt(run: Run, case: Case) -> None:
    """What the SDK hands out is what it hands out at the upstream itself."""
    checks.check_answer(run, case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_upstream_gets_what_was_sent(run: Run, case: Case) -> None:
    """Every request arrives as the SDK wrote it, version and betas included, but for the model's name there."""
    assert run.got[case.call["name"]].values("anthropic-version")
    checks.check_request(run, case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_request_is_recorded(run: Run, case: Case) -> None:
    """The record names the endpoint and the exact usage, caches apart."""
    checks.check_record(run, case)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_the_right_exception(run: Run, place: str, refusal: str) -> None:
    """Each refusal has Anthropic's envelope and is the SDK's exception for it, with message and request id."""
    *_, error, status, kind, reason = REFUSALS[refusal]
    name = f"claude-{place}-{refusal}"
    checks.check_refusal(run, name, error, status, envelope={"type": kind, "details": {"error_code": reason}})
    body = run.seen[name]["body"]
    assert (body["type"], body["request_id"]) == ("error", run.seen[name]["request_id"])


def test_a_model_that_is_no_string_is_refused(run: Run) -> None:
    """What cannot be routed is refused before any upstream is asked, and the parameter is named."""
    envelope = {"type": "invalid_request_error", "param": "model"}
    checks.check_refusal(run, "claude-odd", "BadRequestError", 400, envelope=envelope)
    assert run.records["claude-odd"].attempts == ()


@pytest.mark.parametrize("place", PLACES)
def test_an_objection_passes(run: Run, place: str) -> None:
    """An upstream's 400 reaches the client as it would without the router."""
    checks.check_objection(run, f"claude-{place}-refusing")


@pytest.mark.parametrize("call", CUT, ids=lambda call: call["name"])
def test_a_cut_message_is_no_message(run: Run, call: Call) -> None:
    """A stream whose upstream broke off raises, also in the SDK's accumulator."""
    checks.check_cut(run, call["name"])
    seen = run.seen[call["name"]]
    assert "APIStatusError" in seen["errors"]
    assert checks.error_object(seen)["type"] == "api_error"


def test_the_models_are_listed_in_anthropics_shape(run: Run) -> None:
    """The SDK can read the list: the client's names, and only those the key may use."""
    listed, narrow = (run.seen[name]["value"] for name in ("models", "models-narrow"))
    assert {CLAUDE, DRAINED} <= {model["id"] for model in listed["data"]}
    assert [(model["type"], model["id"]) for model in narrow["data"]] == [("model", DRAINED)]
    assert listed["data"][0]["display_name"]
    assert "T" in listed["data"][0]["created_at"]
    assert (listed["has_more"], narrow["first_id"], narrow["last_id"]) == (False, DRAINED, DRAINED)


def test_credentials_stay_on_their_side(run: Run) -> None:
    """No upstream sees a client's key, and no client an upstream's credential, address or account."""
    checks.check_credentials(run)
