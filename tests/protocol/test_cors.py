from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.schema import Cors as Settings
from router.config.schema import Seconds
from router.protocol.cors import ASKED_BYTES_MAX, EXPOSED, Cors, build

CORS = Cors(("https://app.example", "https://*.example.org", "http://localhost:5173"), 600.0)
METHODS = (b"POST", b"DELETE")


def fields(lines: bytes) -> dict[str, str]:
    assert not lines or lines.endswith(b"\r\n")
    return dict(line.split(": ", 1) for line in lines.decode("ascii").split("\r\n")[:-1])


@pytest.mark.parametrize(
    "origin",
    ["https://app.example", "https://a.example.org", "https://a.b-c.d_e.example.org", "http://localhost:5173"],
)
def test_a_listed_page_is_told_so_by_its_own_name(origin: str) -> None:
    """It may read the answer, and of the headers those that say who was asked, and when to come back."""
    told = fields(CORS.lines(origin.encode()))
    assert told == {
        "access-control-allow-origin": origin, "vary": "origin", "access-control-expose-headers": ", ".join(EXPOSED),
    }  # fmt: skip
    assert {"x-request-id", "retry-after", "x-ratelimit-remaining-tokens", "anthropic-ratelimit-requests-reset"} <= set(
        EXPOSED
    )


HOSTILE = [
    "", "null", "*", "https://app.example.evil", "https://app.example.evil.org", "https://evilapp.example",
    "https://app.example:8443", "https://app.example:443", "https://app.example:", "https://app.example/",
    "https://APP.example", "HTTPS://app.example", "http://app.example", "https://app.exampl", "https://appxexample",
    "https://example.org", "https://.example.org", "https://a..example.org", "https://evil.org/a.example.org",
    "https://evil.org#.example.org", "https://a@evil.org", "https://a.example.org.evil", "https://aexample.org",
    "https://a.example.org:8443", "http://a.example.org", "https://A.example.org", "http://localhost:51730",
    "http://localhost", "https://app.example https://app.example", "https://app.example, https://evil.org",
    "https://app.example\r\nx: y", "https://app.example\n", "https://a.example.org\x00", "https://b\xfccher.example.org",
    " https://app.example", "https://*.example.org", "https://%61pp.example", "https://evil.org?x=.example.org",
]  # fmt: skip


@pytest.mark.parametrize("origin", HOSTILE)
def test_nothing_is_said_to_any_other(origin: str) -> None:
    """What only looks like a listed origin is none: no prefix, suffix, port, scheme or spelling of it will do."""
    assert CORS.lines(origin.encode("latin-1")) == b""


@given(st.binary(max_size=60), st.sampled_from([b"", b"https://app.example", b"https://a.example.org"]), st.booleans())
def test_an_origin_cannot_say_more_than_itself(noise: bytes, origin: bytes, behind: bool) -> None:
    """Whatever a client sends, what goes back is nothing or three lines, of which one repeats it whole."""
    said = origin + noise if behind else noise + origin
    lines = CORS.lines(said)
    if lines:
        assert fields(lines)["access-control-allow-origin"].encode() == said
        assert lines.count(b"\r\n") == lines.count(b"\n") == 3


def test_every_page_is_told_alike() -> None:
    """With `*` the answer is the same for all, a sandboxed page too, so no cache has to tell them apart."""
    anybody = Cors(("*",), 600.0)
    assert anybody.lines(b"null") == anybody.lines(b"https://a.example")
    assert set(fields(anybody.lines(b"null"))) == {"access-control-allow-origin", "access-control-expose-headers"}
    assert fields(anybody.lines(b"null"))["access-control-allow-origin"] == "*"
    assert anybody.lines(b"") == b""


def preflight(*headers: tuple[bytes, bytes]) -> dict[str, str]:
    return fields(CORS.preflight(headers, METHODS))


ASKS = (b"access-control-request-method", b"POST")
NAMES = b"access-control-request-headers"


def test_a_preflight_is_told_what_may_be_sent() -> None:
    """The methods of the path, the headers that were asked for, and how long that holds."""
    told = preflight(ASKS, (NAMES, b"authorization,content-type, x-stainless-os"))
    assert told == {
        "access-control-allow-methods": "POST, DELETE",
        "access-control-allow-headers": "authorization,content-type, x-stainless-os",
        "access-control-max-age": "600",
    }
    assert preflight(ASKS, (NAMES, b"a"), (NAMES, b"b"))["access-control-allow-headers"] == "a, b"


def test_a_request_that_asks_no_leave_is_no_preflight() -> None:
    """Exactly one method is asked for, or it is an ordinary `OPTIONS`."""
    assert preflight() == {}
    assert preflight((NAMES, b"authorization")) == {}
    assert preflight(ASKS, ASKS) == {}


@pytest.mark.parametrize(
    "names",
    [b"", b"a,,b", b"a b", b"a\r\nx: y", b"a\x00", b"a;b", b"\xe4", b",a", b"a,", b"a," * ASKED_BYTES_MAX + b"a"],
)
def test_only_names_are_repeated(names: bytes) -> None:
    """What is no list of header names, or too long, gets no leave; the preflight is answered all the same."""
    assert set(preflight(ASKS, (NAMES, names))) == {"access-control-allow-methods", "access-control-max-age"}


def test_the_longest_list_of_names_is_read_in_linear_time() -> None:
    """A list that ends in nonsense takes no longer than one that does not."""
    longest = b"a , " * (ASKED_BYTES_MAX // 4 - 1) + b"a"
    assert preflight(ASKS, (NAMES, longest))["access-control-allow-headers"] == longest.decode()
    assert "access-control-allow-headers" not in preflight(ASKS, (NAMES, longest + b" \x01"))
    assert CORS.lines(b"https://" + b"a." * 30_000 + b"example.com") == b""


def test_it_is_made_of_the_configuration() -> None:
    """Without the section nobody is let in, and a fraction of a second is none."""
    assert build(None) is None
    made = build(Settings(origins=("https://a.example",), max_age=Seconds(0.5)))
    assert made is not None
    assert repr(made) == "<Cors: https://a.example>"
    assert b"access-control-max-age: 0\r\n" in made.preflight([ASKS], METHODS)
