"""How long upstreams ask us to wait, in any spelling (PROTOCOL 8): header lines, one below the other."""

from __future__ import annotations

from router.protocol.durations import (
    SHOWN_S_MAX,
    WAIT_S_MAX,
    go_duration,
    parse_wait,
    retry_after,
    retry_after_headers,
)

BYTES_MAX = 512
WORDS = (
    b"retry-after: ", b"Retry-After-Ms: ", b"x-ratelimit-remaining-requests: 0", b"x-ratelimit-reset-requests: ",
    b"anthropic-ratelimit-tokens-remaining: 0", b"anthropic-ratelimit-tokens-reset: ", b"1h2m3.5s", b"6m0s", b"12ms",
    b"5us", b"7\xc2\xb5s", b"2027-01-15T08:00:00Z", b"2027-01-15T08:00:00.123456+14:00", b"-23:59",
    b"9999-12-31T23:59:60Z", b"Fri, 15 Jan 2027 08:00:00 GMT", b"Friday, 15-Jan-27 08:00:00 GMT",
    b"Fri Jan 15 08:00:00 2027", b"+9999", b"1e3", b"1e308", b"1700000000", b"1700000000000", b"0", b"-0", b".5", b"1.",
    b"nan", b"inf", b"\xb2", b"\n", b": ",
)  # fmt: skip

_NOW = 1_800_000_000.0


def check(data: bytes) -> None:
    """Read each line's value, and all of them as one head."""
    lines = [line.partition(b":") for line in data.split(b"\n")]
    wait = retry_after([(name, value) for name, _, value in lines], _NOW)
    assert wait is None or 0 <= wait <= WAIT_S_MAX
    for name, _, value in lines:
        for text in (name.decode("latin-1"), value.decode("utf-8", "replace"), value.decode("latin-1")):
            _check_text(text)


def _check_text(text: str) -> None:
    wait = parse_wait(text, now_wall=_NOW)
    if wait is None:
        return
    assert 0 <= wait <= WAIT_S_MAX
    shown = go_duration(wait)
    again = parse_wait(shown, now_wall=_NOW)
    assert again is not None
    assert wait - 1e-6 <= again <= min(wait + 0.001, SHOWN_S_MAX), f"{text!r}: {wait} is shown as {shown}"
    first, second, end = retry_after_headers(wait).split(b"\r\n")
    assert not end
    assert int(first.removeprefix(b"retry-after: ")) >= max(wait - 1e-6, 1)
    assert int(second.removeprefix(b"retry-after-ms: ")) >= max(wait * 1000 - 1e-3, 1)
