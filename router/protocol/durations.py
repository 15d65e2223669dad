"""How long to wait, as upstreams say it and as we say it (PROTOCOL 8, RELIABILITY 5.3).

Reading happens after a refusal and takes every format there is. Writing happens on every metered answer and is hot.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from math import ceil, isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

WAIT_S_MAX = 3600.0
"""The longest wait that is believed (PROTOCOL 8); what says more is taken for this."""

SHOWN_S_MAX = 366 * 86_400.0
"""The longest duration that is written."""

_VALUE_CHARS_MAX = 64
"""No format comes near; longer values are not looked at."""

_MOMENT_FROM = 1e9
"""Plain numbers from here on name a moment: seconds since the epoch, or milliseconds from a thousand times this."""

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?|\.[0-9]+", re.ASCII)
_GO_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|us|µs|μs|ns|s)")  # Go takes micro and mu
_GO = re.compile(rf"(?:{_GO_PART.pattern})+")
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_HTTP_DATE = re.compile(r"(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Satu?r?|Sun)(?:day)?,? [ -~]+")
_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_OPENAI_LIMIT = re.compile(r"x-ratelimit-(remaining|reset)-(.+)")
_ANTHROPIC_LIMIT = re.compile(r"anthropic-ratelimit-(.+)-(remaining|reset)")


def parse_wait(value: str, *, now_wall: float) -> float | None:
    """Return the seconds to wait, 0 to `WAIT_S_MAX`; None for what is no duration or moment, or a negative one.

    Takes Go durations (`1h2m3.5s`), plain seconds, RFC 3339 and the HTTP dates of RFC 9110 section 5.6.7. A moment that
    has passed is a wait of 0: the wait it stood for is over.

    Args:
        value: A header's value.
        now_wall: Wall clock, seconds since the epoch.
    """
    value = value.strip()
    if not value or len(value) > _VALUE_CHARS_MAX:
        return None
    if _NUMBER.fullmatch(value):
        wait = float(value)
        if wait >= _MOMENT_FROM:
            wait = (wait / 1000 if wait >= 1000 * _MOMENT_FROM else wait) - now_wall
    elif _GO.fullmatch(value):
        wait = sum(float(number) * _UNIT_S[unit] for number, unit in _GO_PART.findall(value))
    else:
        moment = _parse_moment(value)
        if moment is None:
            return None
        wait = moment - now_wall
    return min(max(wait, 0.0), WAIT_S_MAX) if isfinite(wait) else None


def _parse_moment(value: str) -> float | None:
    """Return seconds since the epoch."""
    try:
        if _RFC_3339.fullmatch(value):
            return (datetime.fromisoformat(value.upper()) - _EPOCH) / timedelta(seconds=1)
        if _HTTP_DATE.fullmatch(value):
            moment = parsedate_to_datetime(value)
            return (moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH) / timedelta(seconds=1)
    except (ValueError, OverflowError, TypeError, IndexError):  # the standard library's parsers raise all of these
        return None
    return None


def retry_after(headers: list[tuple[bytes, bytes]], now_wall: float) -> float | None:
    """Return how many seconds an upstream asks us to wait, None if it does not say.

    In this order: `retry-after-ms`, `retry-after`, else the longest reset of the limits that are exhausted (remaining
    0), in OpenAI's or Anthropic's names. Values that cannot be read count as absent.
    """
    values = {name.lower().decode("latin-1"): value.decode("latin-1").strip() for name, value in headers}
    milliseconds = values.get("retry-after-ms", "")
    if _NUMBER.fullmatch(milliseconds) and len(milliseconds) <= _VALUE_CHARS_MAX and isfinite(float(milliseconds)):
        return min(float(milliseconds) / 1000, WAIT_S_MAX)
    wait = parse_wait(values.get("retry-after", ""), now_wall=now_wall)
    return wait if wait is not None else _exhausted(values, now_wall)


def _exhausted(values: Mapping[str, str], now_wall: float) -> float | None:
    remaining: dict[str, str] = {}
    reset: dict[str, str] = {}
    for name, value in values.items():
        if match := _OPENAI_LIMIT.fullmatch(name):
            field, dimension = match.groups()
        elif match := _ANTHROPIC_LIMIT.fullmatch(name):
            dimension, field = match.groups()
        else:
            continue
        (remaining if field == "remaining" else reset)[dimension] = value
    waits = [
        parse_wait(reset.get(dimension, ""), now_wall=now_wall) for dimension, left in remaining.items() if left == "0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def go_duration(seconds: float) -> str:
    """Write a duration as Go does and OpenAI's headers have it, in whole milliseconds rounded up: 0.8 us.

    `12ms`, `1s`, `7.66s`, `6m0s`, `1h2m3s`; what is not greater than 0 is `0s`.
    """
    if not seconds > 0:
        return "0s"
    milliseconds = _milliseconds(seconds)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    whole, rest = divmod(milliseconds, 1000)
    fraction = f".{rest:03d}".rstrip("0") if rest else ""
    if whole < 60:
        return f"{whole}{fraction}s"
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{whole}{fraction}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{whole}{fraction}s"


def _milliseconds(seconds: float) -> int:
    """Round up, but not for the error of the multiplication."""
    return ceil(min(seconds, SHOWN_S_MAX) * 1000 - 1e-6)


def retry_after_headers(seconds: float) -> bytes:
    """Return the two header lines that tell a client when to come back, at least one second and one millisecond."""
    milliseconds = max(_milliseconds(seconds), 1) if seconds > 0 else 1
    return b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (-(-milliseconds // 1000), milliseconds)


def rate_limit_headers(  # noqa: PLR0917 - the fields of a limiter's snapshot, in its order
    limit_requests: int | None,
    remaining_requests: int | None,
    reset_requests_s: float | None,
    limit_tokens: int | None,
    remaining_tokens: int | None,
    reset_tokens_s: float | None,
) -> bytes:
    """Return the lines of a key's limits in OpenAI's names; a limit that is None is left out: 2.3 us for both."""
    # HOT: once per answer to a limited key, 0.7 us for both. Tokens can be in debt; nobody has fewer than none left.
    lines = b""
    if limit_requests is not None:
        lines = _REQUESTS % (limit_requests, remaining_requests or 0, _go_duration(reset_requests_s or 0.0))
    if limit_tokens is not None:
        left = remaining_tokens or 0
        lines += _TOKENS % (limit_tokens, max(0, left), _go_duration(reset_tokens_s or 0.0))
    return lines


def anthropic_limit_headers(  # noqa: PLR0917 - as above
    limit_requests: int | None,
    remaining_requests: int | None,
    reset_requests_s: float | None,
    limit_tokens: int | None,
    remaining_tokens: int | None,
    reset_tokens_s: float | None,
    at: float,
) -> bytes:
    """Return the same in Anthropic's names (PROTOCOL 8): a reset is a moment. `at` is the time, seconds since 1970."""
    lines = []
    for name, limit, remaining, reset_s in (
        ("requests", limit_requests, remaining_requests, reset_requests_s),
        ("tokens", limit_tokens, remaining_tokens, reset_tokens_s),
    ):
        if limit is not None:
            reset_at = datetime.fromtimestamp(ceil(at + min(reset_s or 0.0, SHOWN_S_MAX)), UTC)
            moment = reset_at.strftime("%Y-%m-%dT%H:%M:%SZ")
            prefix = f"anthropic-ratelimit-{name}"
            left = max(0, remaining or 0)
            lines.append(f"{prefix}-limit: {limit}\r\n{prefix}-remaining: {left}\r\n{prefix}-reset: {moment}\r\n")
    return "".join(lines).encode("ascii")


def _limit_lines(dimension: bytes) -> bytes:
    names = (b"limit-%b: %%d", b"remaining-%b: %%d", b"reset-%b: %%b")
    return b"".join(b"x-ratelimit-" + name % dimension + b"\r\n" for name in names)


_REQUESTS = _limit_lines(b"requests")
_TOKENS = _limit_lines(b"tokens")


def _go_duration(seconds: float) -> bytes:
    """Write a duration, most of which are below a second."""
    if 0 < seconds < 0.999:
        return b"%dms" % int(seconds * 1000 + 0.999999)  # rounded up, but not for the error of the multiplication
    return go_duration(seconds).encode("ascii")
