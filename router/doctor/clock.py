"""Whether the clock is right, by what upstreams answered with: the `Date` of RFC 9110 section 6.6.1."""

from __future__ import annotations

import statistics
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from router.protocol import http

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.doctor.findings import Notes
    from router.protocol.http import Headers

OFF_S: Final = 5.0
"""More than rounding (`Date` has whole seconds) and the way of an answer explain."""
WRONG_S: Final = 300.0
"""From here on certificates and signed tokens may be refused."""


def offset_s(headers: Headers, sent: float, came: float) -> float | None:
    """How many seconds our clock is ahead of an upstream's; None if its answer does not say, or comes from a cache.

    Args:
        headers: Of its answer.
        sent: When it was asked, by our clock, in seconds since the epoch.
        came: When its answer came.
    """
    named = dict(reversed(http.pairs(headers)))
    if b"date" not in named or named.get(b"age", b"0") != b"0":
        return None
    try:
        theirs = parsedate_to_datetime(named[b"date"].decode("ascii")).timestamp()
    except (ValueError, OverflowError, OSError):  # UnicodeDecodeError is a ValueError
        return None
    return (sent + came) / 2 - (theirs + 0.5)


def examine(notes: Notes, offsets: Sequence[float]) -> None:
    """Judge the clock by what every upstream that answered says; one alone may be wrong itself."""
    if not offsets:
        return
    off = statistics.median(offsets)
    by = f"by the answers of {len(offsets)} upstream{'s' * (len(offsets) > 1)}"
    if abs(off) <= OFF_S:
        notes.ok("clock", f"right within {OFF_S:g} s, {by}")
        return
    found = f"{abs(off):,.0f} s {'ahead' if off > 0 else 'behind'}, {by}"
    cure = "let NTP set it: timedatectl set-ntp true; see chronyc tracking"
    (notes.fail if abs(off) > WRONG_S else notes.warn)("clock", found, cure)
