"""What may be printed: no secret, nothing that moves a cursor, never more than a line."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

import pytest

from router.doctor.findings import TEXT_CHARS_MAX, Notes, Result

SECRET = 'p"ss/wörd+1'


@pytest.mark.parametrize(
    "spelling",
    [SECRET, quote(SECRET, safe=""), SECRET.replace('"', '\\"'), b64encode(SECRET.encode()).decode()],
    ids=["plain", "in an URL", "in JSON", "in Basic credentials"],
)
def test_no_finding_holds_a_secret(spelling: str) -> None:
    """However a secret is spelt in what an upstream says, and wherever in a finding, it is not repeated."""
    notes = Notes("first", [SECRET])
    notes.fail(f"check {spelling}", f"it said {spelling}!", f"mend {spelling}")
    [finding] = notes.findings
    assert (finding.check, finding.found, finding.cure) == ("check ***", "it said ***!", "mend ***")


def test_what_looks_like_a_credential_is_not_shown() -> None:
    """A token that is not ours, or that an upstream has shortened, is masked as well."""
    notes = Notes("first")
    notes.fail("credential", "Incorrect API key provided: sk-ab***yz.", "")
    assert "sk-ab" not in notes.findings[0].found


def test_the_query_of_an_url_is_not_shown() -> None:
    """An URL in a message is told without its query; a question is a question."""
    notes = Notes("first")
    notes.warn("answer", "no route GET http://h/v1/models?key=hush&x=1, did you mean /v1?", "")
    assert notes.findings[0].found == "no route GET http://h/v1/models?… did you mean /v1?"


def test_a_terminal_is_sent_nothing_that_it_obeys() -> None:
    """Control characters, line breaks and signs that turn the direction of writing become visible."""
    notes = Notes("fi\x1b[2Jrst")
    notes.fail("deep m\x07", "a\r\nb\x1b]0;title\x07 \u202ec\x9b31m", "x\x00y")
    [finding] = notes.findings
    assert (finding.subject, finding.check) == ("fi?[2Jrst", "deep m?")
    assert finding.found == "a b?]0;title? ?c?31m"
    assert finding.cure == "x?y"


def test_a_long_text_is_cut() -> None:
    """Of an error page a line is shown."""
    notes = Notes("first")
    notes.ok("answer", "x" * 100_000)
    assert notes.findings[0].found == "x" * TEXT_CHARS_MAX + "…"


def test_findings_keep_their_order() -> None:
    """They stand in the order in which they were made, each with its result."""
    notes = Notes("first")
    notes.ok("a", "good")
    notes.warn("b", "so so", "do this")
    notes.fail("c", "bad", "do that")
    assert [(each.check, each.result) for each in notes.findings] == [
        ("a", Result.OK), ("b", Result.WARN), ("c", Result.FAIL),
    ]  # fmt: skip
