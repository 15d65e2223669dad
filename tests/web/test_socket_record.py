"""What the end of a WebSocket says of its upstream (RELIABILITY 1.7)."""

from __future__ import annotations

import pytest

from router.errors import Kind, RequestError, UpstreamError
from router.events import Side
from router.policy.outcomes import Cause
from router.web.socket_record import verdict
from router.web.sockets import End


@pytest.mark.parametrize("proven", [False, True])
@pytest.mark.parametrize(
    ("end", "cause"),
    [
        (End(Side.UPSTREAM, 1000), Cause.OK),
        (End(Side.UPSTREAM, 1001), Cause.OK),
        (End(Side.UPSTREAM, 1008, "policy"), Cause.OK),
        (End(Side.UPSTREAM, 4003), Cause.OK),
        (End(Side.UPSTREAM, 1011), Cause.HTTP_5XX),
        (End(Side.UPSTREAM, 1012), Cause.OVERLOADED),
        (End(Side.UPSTREAM, 1013), Cause.OVERLOADED),
        (End(Side.UPSTREAM, 1014), Cause.HTTP_5XX),
        (End(Side.UPSTREAM, problem=UpstreamError(Kind.UPSTREAM_CONNECTION, "")), Cause.TRUNCATED),
        (End(Side.UPSTREAM, problem=UpstreamError(Kind.UPSTREAM_PROTOCOL, "")), Cause.PROTOCOL),
        (End(Side.UPSTREAM, problem=UpstreamError(Kind.UPSTREAM_TIMEOUT, "")), Cause.IDLE),
        (End(Side.CLIENT, 1000), Cause.OK),
        (End(Side.CLIENT, 1011), Cause.OK),
    ],
)
def test_an_upstream_answers_for_what_it_did(end: End, cause: Cause, *, proven: bool) -> None:
    """A close frame is a proper end unless it names a fault of the server; a lost connection never is one."""
    judged = verdict(end, proven=proven)
    assert judged is not None
    assert judged.cause is cause


@pytest.mark.parametrize("end", [None, End(Side.CLIENT), End(Side.ROUTER, problem=RequestError(Kind.BODY_TIMEOUT, ""))])
def test_what_others_did_tells_nothing_of_an_upstream_that_was_silent(end: End | None) -> None:
    """An upstream that had said nothing yet is neither praised nor blamed for a client that left; else it is well."""
    assert verdict(end, proven=False) is None
    judged = verdict(end, proven=True)
    assert judged is not None
    assert judged.cause is Cause.OK
