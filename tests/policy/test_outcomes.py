from __future__ import annotations

import pytest

from router.errors import TABLE, Kind
from router.policy.outcomes import (
    GATEWAY_TIMEOUT,
    ID_ELSEWHERE,
    MODEL_UNPROMISED,
    VERDICTS,
    Blame,
    Cause,
    Cools,
    Verdict,
    implied_status,
    of_error_body,
    of_status,
)

NO, OK, SOFT, HARD = Blame.NONE, Blame.SUCCESS, Blame.SOFT, Blame.HARD

# RELIABILITY 1.7 row by row: causes, failover, breaker, host-level, mark, status the client sees if all fail (the last
# one by PROTOCOL 7.2, which wins).
MATRIX = [
    ("DNS, refused, connect timeout, TLS", "DNS CONNECT CONNECT_TIMEOUT TLS", True, HARD, True, Cools.NONE, 502),
    ("closed before any byte, reused", "STALE", True, NO, False, Cools.NONE, 502),
    ("closed, reset, garbage, fresh", "CLOSED PROTOCOL", True, HARD, False, Cools.NONE, 502),
    ("408, 425, 499, 5xx", "HTTP_5XX", True, HARD, False, Cools.NONE, 502),
    ("503, 529", "OVERLOADED", True, HARD, False, Cools.OVERLOAD, 503),
    ("429", "RATE_LIMITED", True, SOFT, False, Cools.RATE_LIMIT, 429),
    ("429 insufficient_quota, 402", "QUOTA", True, NO, False, Cools.QUOTA, 502),
    ("401, 403 of our credential", "AUTH", True, NO, False, Cools.MISCONFIGURED, 502),
    ("404 model not found", "MODEL_MISSING", True, NO, False, Cools.MISCONFIGURED, 502),
    ("400, 413, 415, 422, content policy", "REQUEST", False, OK, False, Cools.NONE, 502),
    ("3xx", "REDIRECT", True, HARD, False, Cools.MISCONFIGURED, 502),
    ("200 with an error", "ERROR_BODY", True, HARD, False, Cools.NONE, 502),
    ("200, wrong content type", "WRONG_TYPE", True, HARD, False, Cools.NONE, 502),
    ("empty or cut stream", "EMPTY TRUNCATED", True, HARD, False, Cools.NONE, 502),
    ("silence", "FIRST_BYTE FIRST_TOKEN IDLE", True, SOFT, False, Cools.NONE, 504),
    ("the whole deadline", "TOTAL", False, SOFT, False, Cools.NONE, 504),
    ("what its protocol cannot say", "UNTRANSLATABLE", True, NO, False, Cools.NONE, 400),
    ("our own lack of descriptors", "SCARCE", True, NO, False, Cools.NONE, 503),
    ("our own pace", "PACE", True, NO, False, Cools.NONE, 429),
    ("client gone", "CLIENT_GONE", False, NO, False, Cools.NONE, 502),
    ("an answer", "OK", False, OK, False, Cools.NONE, 502),
]


@pytest.mark.parametrize(
    ("cause", "expected"), [(Cause[name], row[2:]) for row in MATRIX for name in str(row[1]).split()]
)
def test_every_cause_has_the_consequences_of_the_matrix(cause: Cause, expected: tuple[object, ...]) -> None:
    """Each row of RELIABILITY 1.7 decides failover, blame, mark and the client's status."""
    verdict = VERDICTS[cause]
    assert verdict.cause is cause
    status = TABLE[verdict.kind].status
    assert (verdict.failover, verdict.blame, verdict.host, verdict.cools, status) == expected


def test_the_matrix_is_complete() -> None:
    """No cause is without a verdict, and none is missing from this test."""
    assert set(VERDICTS) == set(Cause)
    assert {Cause[name] for row in MATRIX for name in str(row[1]).split()} == set(Cause)


def test_only_the_keep_alive_race_is_retried_for_free() -> None:
    """A stale connection alone is tried again at the same target at no cost."""
    assert [cause for cause in Cause if VERDICTS[cause].free_retry] == [Cause.STALE]


def test_only_answers_that_are_the_clients_or_the_last_word_pass() -> None:
    """PROTOCOL 7.3: an answer, 4xx and 5xx pass; 429, our credential, our account and our model table never do."""
    passing = {cause for cause in Cause if VERDICTS[cause].passes}
    assert passing == {Cause.OK, Cause.REQUEST, Cause.HTTP_5XX, Cause.OVERLOADED}


def test_silence_and_broken_connections_prove_nothing_about_the_host() -> None:
    """Only a response that began properly counts in favour of the host."""
    unanswered = (
        "DNS CONNECT TLS CONNECT_TIMEOUT SCARCE PACE UNTRANSLATABLE STALE CLOSED PROTOCOL FIRST_BYTE FIRST_TOKEN "
        "TOTAL CLIENT_GONE"
    )
    assert {cause for cause in Cause if not VERDICTS[cause].answered} == {Cause[name] for name in unanswered.split()}


@pytest.mark.parametrize(
    ("status", "code", "type_", "message", "cause"),
    [
        *((status, "", "", "", Cause.HTTP_5XX) for status in (408, 425, 499, 500, 501, 502, 504, 507, 520, 527, 599)),
        (503, "", "", "", Cause.OVERLOADED),
        (529, "", "overloaded_error", "", Cause.OVERLOADED),
        (429, "", "", "", Cause.RATE_LIMITED),
        (429, "rate_limit_exceeded", "tokens", "Rate limit reached for org-x", Cause.RATE_LIMITED),
        (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota", Cause.QUOTA),
        (429, "CREDIT_BALANCE_EXHAUSTED", "", "", Cause.QUOTA),
        (429, "project_spend_limit_exceeded", "", "", Cause.QUOTA),
        (429, "organization_usage_limit_exceeded", "insufficient_quota", "", Cause.QUOTA),
        (429, "billing_hard_limit_reached", "", "", Cause.QUOTA),
        (400, "", "invalid_request_error", "Your credit balance is too low to access the API.", Cause.QUOTA),
        (400, "", "invalid_request_error", "'Your credit balance is too low' is no number", Cause.REQUEST),
        (402, "", "", "", Cause.QUOTA),
        (401, "invalid_api_key", "", "", Cause.AUTH),
        (403, "", "permission_error", "", Cause.AUTH),
        (403, "unsupported_country_region_territory", "", "", Cause.AUTH),
        (403, "content_policy_violation", "", "", Cause.REQUEST),
        (403, "", "", "This model requires moderation and your input was flagged", Cause.REQUEST),
        (403, "model_not_found", "invalid_request_error", "Project has no access to model", Cause.MODEL_MISSING),
        (404, "model_not_found", "", "", Cause.MODEL_MISSING),
        (404, "DeploymentNotFound", "", "", Cause.MODEL_MISSING),
        (404, "404", "NotFoundError", "The model `x` does not exist.", Cause.MODEL_MISSING),
        (404, "", "not_found_error", "model: claude-9", Cause.MODEL_MISSING),
        (404, "", "", "model 'x' not found, try pulling it first", Cause.MODEL_MISSING),
        (404, "", "", "Not Found", Cause.REQUEST),
        (404, "", "invalid_request_error", "Previous response with id 'resp_1' not found.", Cause.REQUEST),
        (400, "1500", "invalid_model", "Invalid model: x", Cause.MODEL_MISSING),
        (400, "context_length_exceeded", "invalid_request_error", "too long for model", Cause.REQUEST),
        *((status, "", "", "", Cause.REQUEST) for status in (400, 404, 405, 409, 410, 413, 415, 418, 422)),
        *((status, "", "", "", Cause.REDIRECT) for status in (300, 301, 304, 307, 308)),
        *((status, "", "", "", Cause.PROTOCOL) for status in (-1, 0, 99, 100, 101, 103, 199, 600, 999)),
    ],
)
def test_a_status_and_its_error_lead_to_one_cause(
    status: int, code: str, type_: str, message: str, cause: Cause
) -> None:
    """Status first, then code and type, the message only where it must be."""
    verdict = of_status(status, code, type_, message)
    assert verdict is not None
    assert verdict.cause is cause


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_is_judged_by_its_body(status: int) -> None:
    """2xx has no verdict by itself."""
    assert of_status(status, "insufficient_quota", "", "") is None


@pytest.mark.parametrize("status", [504, 522, 524])
def test_a_gateways_timeout_stays_a_timeout(status: int) -> None:
    """What the client sees for an upstream's own timeout is 504, all else is as for other 5xx."""
    assert of_status(status, "", "", "") is GATEWAY_TIMEOUT
    assert TABLE[GATEWAY_TIMEOUT.kind].status == 504


@pytest.mark.parametrize(
    ("code", "type_", "cause"),
    [
        (429, "", Cause.RATE_LIMITED),
        ("429", "insufficient_quota", Cause.QUOTA),
        (" 401 ", "", Cause.AUTH),
        ("", "Overloaded_Error", Cause.OVERLOADED),
        ("server_is_overloaded", "server_error", Cause.OVERLOADED),
        ("invalid_api_key", "invalid_request_error", Cause.AUTH),
        ("", "invalid_request_error", Cause.REQUEST),
        (400, "BadRequestError", Cause.REQUEST),
        ("rate_limit_exceeded", "requests", Cause.RATE_LIMITED),
        ("", "insufficient_quota", Cause.QUOTA),
        ("", "server_error", Cause.HTTP_5XX),
        (502, "", Cause.HTTP_5XX),
        ("model_not_found", "", Cause.MODEL_MISSING),
        ("", "", Cause.ERROR_BODY),
        (200, "", Cause.ERROR_BODY),
        (0, "weird", Cause.ERROR_BODY),
        (-500, "", Cause.ERROR_BODY),
        ("\u0665\u0660\u0660", "", Cause.ERROR_BODY),
    ],
)
def test_an_error_under_200_is_judged_as_if_it_had_its_status(code: str | int, type_: str, cause: Cause) -> None:
    """A 200 with an error counts for what the error says, for a hard failure if that is nothing known."""
    assert of_error_body(code, type_, "").cause is cause


def test_a_code_without_end_is_no_code() -> None:
    """A number that Python cannot write as text is unknown, not a fault of ours."""
    assert of_error_body(10**5000, "", "").cause is Cause.ERROR_BODY
    assert of_error_body(10**5000, "server_error", "").cause is Cause.HTTP_5XX


def test_the_status_of_an_error_body_is_known_where_it_passes() -> None:
    """An error that passes to the client has a status of its own to pass under."""
    for code, type_ in ((400, ""), ("context_length_exceeded", ""), ("", "server_error"), ("503", "")):
        assert of_error_body(code, type_, "").passes
        assert implied_status(code, type_) >= 400


def test_a_long_message_is_read_only_at_its_start() -> None:
    """An error page of megabytes costs no more than a line."""
    verdict = of_status(404, "", "", "x" * 10_000_000 + " model not found")
    assert verdict is not None
    assert verdict.cause is Cause.REQUEST


def test_a_model_nobody_promised_is_nobodys_fault() -> None:
    """Under a pattern a missing model cools nothing, fails over, and at last passes as a 404."""
    expected = Verdict(Cause.MODEL_MISSING, True, Blame.SUCCESS, Kind.MODEL_NOT_FOUND, passes=True)
    assert expected == MODEL_UNPROMISED


def test_what_is_stored_elsewhere_is_looked_for_there() -> None:
    """An upstream that does not know an id is well and answered properly; another one may know it (PROTOCOL 2.2).

    If none does, the upstream's own words pass.
    """
    expected = Verdict(Cause.REQUEST, True, Blame.SUCCESS, Kind.UPSTREAM_ERROR, passes=True)
    assert expected == ID_ELSEWHERE


def test_what_was_never_sent_is_nobodys_fault() -> None:
    """A member that would need what its protocol cannot say was not asked: it loses nothing, and gains nothing."""
    verdict = VERDICTS[Cause.UNTRANSLATABLE]
    assert (verdict.kind, verdict.passes, verdict.free_retry) == (Kind.UNSUPPORTED_PARAMETER, False, False)
