"""Waits as upstreams write them, and as we write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.durations import (
    WAIT_S_MAX,
    anthropic_limit_headers,
    go_duration,
    parse_wait,
    rate_limit_headers,
    retry_after,
    retry_after_headers,
)

NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("12ms", 0.012), ("1s", 1), ("7.66s", 7.66), ("6m0s", 360), ("2m59.56s", 179.56), ("59m1.5s", 3541.5),
        ("1h2m3.5s", WAIT_S_MAX), ("88ms", 0.088), ("500us", 0.0005), ("500µs", 0.0005), ("5ns", 5e-9), (".5s", 0.5),
        ("0s", 0), ("1s500ms", 1.5),
        ("0", 0), ("20", 20), ("7.5", 7.5), (" 7 ", 7), ("1e-05", 1e-05), ("86400", WAIT_S_MAX),
        ("2026-11-22T10:00:30Z", 30), ("2026-11-22T10:00:00.250Z", 0.25), ("2026-11-22t11:00:30+01:00", 30),
        ("2026-11-22T10:00:00.123456789Z", 0.123456), ("2026-11-22T09:59:59Z", 0), ("2027-01-01T00:00:00Z", WAIT_S_MAX),
        ("Sun, 22 Nov 2026 10:01:00 GMT", 60), ("Sunday, 22-Nov-26 10:01:00 GMT", 60), ("Sun Nov 22 10:01:00 2026", 60),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0), ("Wed, 21 Oct 2099 07:28:00 GMT", WAIT_S_MAX),
        (f"{NOW + 5:.0f}", 5), (f"{(NOW + 5) * 1000:.0f}", 5), (f"{NOW - 5:.0f}", 0),
    ],
)  # fmt: skip
def test_every_format_of_a_wait_is_read(value: str, expected: float) -> None:
    """Go durations, seconds, RFC 3339, HTTP dates and epochs become seconds from now, at most an hour."""
    assert parse_wait(value, now_wall=NOW) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "value",
    ["", " ", "-1", "-1s", "+1", "nan", "NaN", "inf", "-inf", "Infinity", "1e999", "1_000", "0x10", "1,5", "1 s", "s",
     "1d", "1h-2m", "1m2", "soon", "\u0661s", "\uff11", "1" * 65, "2026-11-22", "2026-11-22T10:00:00",
     "2026-13-22T10:00:00Z", "2026-11-22T10:00:00+99:00", "Sun, 99 Nov 2026 10:01:00 GMT",
     "Sun, 22 Nov 99999999 10:01:00 GMT", "Sun, ", "Sunday", "Sun, 22 Foo 2026 10:01:00 GMT"],
)  # fmt: skip
def test_what_is_no_wait_is_none(value: str) -> None:
    """Negative, infinite and unreadable values are no waits."""
    assert parse_wait(value, now_wall=NOW) is None


@given(st.text(max_size=80) | st.from_regex(r"[0-9.:hmsTZ+eGMSun, -]{1,40}", fullmatch=True))
def test_any_text_is_read_or_none(value: str) -> None:
    """Whatever an upstream sends, the wait is None or within bounds."""
    wait = parse_wait(value, now_wall=NOW)
    assert wait is None or 0 <= wait <= WAIT_S_MAX


@given(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001 - zoned below
def test_any_moment_is_read(moment: datetime, zone: int) -> None:
    """RFC 3339 in any zone and HTTP dates give the seconds from now to the moment they name."""
    moment = moment.replace(tzinfo=UTC)
    expected = min(max(moment.timestamp() - NOW, 0), WAIT_S_MAX)
    zoned = moment.astimezone(timezone(timedelta(minutes=zone)))
    assert parse_wait(zoned.isoformat(), now_wall=NOW) == pytest.approx(expected, abs=1e-5)
    assert parse_wait(format_datetime(moment, usegmt=True), now_wall=NOW) == pytest.approx(expected, abs=1)


@given(st.floats(0, WAIT_S_MAX))
def test_what_is_written_can_be_read(seconds: float) -> None:
    """A written duration reads as the same duration, rounded up to the millisecond."""
    wait = parse_wait(go_duration(seconds), now_wall=NOW)
    assert wait is not None
    assert seconds - 1e-6 <= wait <= min(seconds + 0.0011, WAIT_S_MAX)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.012, "12ms"), (0.0001, "1ms"), (0.9999, "1s"), (1, "1s"), (7.66, "7.66s"), (2.007, "2.007s"),
        (59.9999, "1m0s"), (60, "1m0s"), (62.5, "1m2.5s"), (360, "6m0s"), (3600, "1h0m0s"), (3723, "1h2m3s"),
        (90_000, "25h0m0s"), (0, "0s"), (-1, "0s"), (math.nan, "0s"), (math.inf, "8784h0m0s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_go_does(seconds: float, expected: str) -> None:
    """The forms that OpenAI's headers have, rounded up so that nobody comes early; nothing raises."""
    assert go_duration(seconds) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"retry-after": "1.5", "Retry-After-Ms": "250"}, 0.25),
        ({"retry-after": "1.5", "retry-after-ms": "x"}, 1.5),
        ({"retry-after": "2", "retry-after-ms": "-1"}, 2),
        ({"retry-after-ms": "9" * 30}, WAIT_S_MAX),
        ({"retry-after-ms": "1e999", "retry-after": "3"}, 3),
        ({"retry-after": "Sun, 22 Nov 2026 10:00:09 GMT"}, 9),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "5", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "60s"}, 5),
        ({"retry-after": "soon", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "60s"}, 60),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "60s"}, None),
        ({"x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "0"}, None),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
        ({"x-ratelimit-reset-tokens": "5s"}, None),
        (
            {
                "X-RateLimit-Remaining-Requests": "0",
                "X-RateLimit-Reset-Requests": "2s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            360,
        ),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-22T10:00:30Z",
                "anthropic-ratelimit-requests-remaining": "5",
                "anthropic-ratelimit-requests-reset": "2026-11-22T10:00:59Z",
            },
            30,
        ),
    ],
)
def test_an_upstreams_wish_is_found(headers: dict[str, str], expected: float | None) -> None:
    """Milliseconds before seconds before the reset of what is exhausted; the longest of several."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert retry_after(raw, NOW) == expected


@given(st.lists(st.tuples(st.sampled_from([b"retry-after", b"Retry-After-Ms"]), st.binary(max_size=40))))
def test_any_header_value_is_harmless(headers: list[tuple[bytes, bytes]]) -> None:
    """Bytes of any kind give None or a wait within bounds."""
    wait = retry_after(headers, NOW)
    assert wait is None or 0 <= wait <= WAIT_S_MAX


@pytest.mark.parametrize(
    ("seconds", "whole", "milliseconds"),
    [(6.4, 7, 6400), (7, 7, 7000), (0.0001, 1, 1), (0, 1, 1), (-5, 1, 1), (math.nan, 1, 1), (59.9991, 60, 60000)],
)
def test_clients_are_told_when_to_come_back(seconds: float, whole: int, milliseconds: int) -> None:
    """Whole seconds rounded up, at least one, and milliseconds beside them."""
    lines = f"retry-after: {whole}\r\nretry-after-ms: {milliseconds}\r\n"
    assert retry_after_headers(seconds) == lines.encode()


def test_rate_limits_have_openais_names() -> None:
    """Both dimensions in full, a debt shown as nothing left."""
    assert rate_limit_headers(600, 599, 0.1, 500_000, -20, 62.5) == (
        b"x-ratelimit-limit-requests: 600\r\nx-ratelimit-remaining-requests: 599\r\n"
        b"x-ratelimit-reset-requests: 100ms\r\n"
        b"x-ratelimit-limit-tokens: 500000\r\nx-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 1m2.5s\r\n"
    )


def test_limits_that_do_not_exist_are_left_out() -> None:
    """Each dimension stands for itself, and none makes no lines."""
    requests = rate_limit_headers(1, 0, 60.0, None, None, None)
    tokens = rate_limit_headers(None, None, None, 1, 1, 0.0)
    assert requests.count(b"\r\n") == tokens.count(b"\r\n") == 3
    assert b"tokens" not in requests
    assert b"requests" not in tokens
    assert rate_limit_headers(None, None, None, None, None, None) == b""


def test_rate_limits_have_anthropics_names() -> None:
    """Both dimensions, a debt shown as nothing left, and a reset as the moment it happens, rounded up to a second."""
    assert anthropic_limit_headers(600, 599, 0.1, 500_000, -20, 62.5, NOW + 0.2) == (
        b"anthropic-ratelimit-requests-limit: 600\r\n"
        b"anthropic-ratelimit-requests-remaining: 599\r\n"
        b"anthropic-ratelimit-requests-reset: 2026-11-22T10:00:01Z\r\n"
        b"anthropic-ratelimit-tokens-limit: 500000\r\n"
        b"anthropic-ratelimit-tokens-remaining: 0\r\n"
        b"anthropic-ratelimit-tokens-reset: 2026-11-22T10:01:03Z\r\n"
    )


def test_limits_that_do_not_exist_are_left_out_for_anthropic_too() -> None:
    """Each dimension stands for itself, one that is full resets now, and none makes no lines."""
    requests = anthropic_limit_headers(1, 0, 60.0, None, None, None, NOW)
    tokens = anthropic_limit_headers(None, None, None, 1, None, None, NOW)
    assert requests.count(b"\r\n") == tokens.count(b"\r\n") == 3
    assert b"tokens" not in requests
    assert tokens.endswith(b"tokens-remaining: 0\r\nanthropic-ratelimit-tokens-reset: 2026-11-22T10:00:00Z\r\n")
    assert anthropic_limit_headers(None, None, None, None, None, None, NOW) == b""


@given(st.floats(0, WAIT_S_MAX - 1), st.floats(0, 3e9))
def test_both_families_say_the_same_reset(seconds: float, at: float) -> None:
    """A client of either protocol waits as long, rounded up to the unit of its own, and never comes early."""
    lines = anthropic_limit_headers(None, None, None, 1, 0, seconds, at).decode().splitlines()
    wait = parse_wait(lines[2].partition(": ")[2], now_wall=at)
    assert wait is not None
    assert seconds - 1e-5 <= wait <= seconds + 1.00001


def test_a_reset_without_end_is_a_year_away() -> None:
    """A limit that never fills up again has a moment that can be written."""
    lines = anthropic_limit_headers(1, 0, math.inf, None, None, None, NOW)
    assert lines.endswith(b"reset: 2027-11-23T10:00:00Z\r\n")
