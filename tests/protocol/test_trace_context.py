"""W3C Trace Context: the examples of the standard, and what is none."""

from __future__ import annotations

import re
from random import Random

import pytest

from router.protocol import trace_context
from router.protocol.http import RequestPolicy, scan
from router.protocol.trace_context import Span, TraceContext, begin, line, read, without
from tests.telemetry.records import ended

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
VALUE = f"00-{TRACE}-{PARENT}-01".encode()


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (VALUE, 1),
        (VALUE[:-2] + b"00", 0),
        (VALUE[:-2] + b"03", 3),
        (VALUE[:-2] + b"02", 2),
        (VALUE[:-2] + b"ff", 3),
        (b"cc" + VALUE[2:], 1),
        (b"cc" + VALUE[2:] + b"-what-the-future-will-be-like", 1),
    ],
)
def test_a_trace_is_read(value: bytes, flags: int) -> None:
    """Its parts are read, of the flags those that are known, and of a later version what this one has."""
    context = read(value)
    assert context == TraceContext(TRACE, PARENT, flags)
    assert context.sampled is bool(flags & 1)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        VALUE + b"-more",
        VALUE + b"-",
        VALUE + b" ",
        VALUE + b"0",
        VALUE[:-1],
        VALUE.upper(),
        b"ff" + VALUE[2:],
        b"cc" + VALUE[2:] + b".",
        b"0" + VALUE,
        VALUE.replace(b"-", b"_"),
        VALUE.replace(TRACE.encode(), b"0" * 32),
        VALUE.replace(PARENT.encode(), b"0" * 16),
        VALUE.replace(TRACE.encode(), TRACE.encode()[:-1] + b"g"),
        VALUE[:-2] + b"0x",
        VALUE + b"," + VALUE,
        "00-٤bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01".encode(),
    ],
)
def test_what_is_none_is_none(value: bytes) -> None:
    """Whatever departs from the standard is no trace."""
    assert read(value) is None


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_the_client_decides(ratio: float) -> None:
    """A span hangs below the client's if that is kept, and there is none if it is not, whatever the ratio."""
    span = begin(TraceContext(TRACE, PARENT, 3), ratio, Random(1))
    assert span is not None
    assert (span.trace_id, span.parent_id, span.flags) == (TRACE, PARENT, 3)
    assert begin(TraceContext(TRACE, PARENT, 2), ratio, Random(1)) is None


def test_the_ratio_decides_without_a_client() -> None:
    """Of requests that say nothing the share is kept that was asked for, each in a trace of its own."""
    rng = Random(1)
    spans = [span for _ in range(4000) if (span := begin(None, 0.25, rng)) is not None]
    assert 900 < len(spans) < 1100
    assert len({span.trace_id for span in spans}) == len({span.span_id for span in spans}) == len(spans)
    for span in spans:
        assert re.fullmatch(r"[0-9a-f]{32}", span.trace_id)
        assert re.fullmatch(r"[0-9a-f]{16}", span.span_id)
        assert (span.parent_id, span.flags) == ("", 1)
    assert [begin(None, 0.0, rng) for _ in range(100)] == [None] * 100
    assert None not in [begin(None, 1.0, rng) for _ in range(100)]


def test_no_id_is_zero() -> None:
    """The one number that stands for no id is never drawn."""

    class Zero(Random):
        def getrandbits(self, k: int, /) -> int:
            return 0 * k

    span = begin(None, 1.0, Zero())
    assert span is not None
    assert (int(span.trace_id, 16), int(span.span_id, 16)) == (1, 1)


def test_what_is_written_is_read() -> None:
    """The line for an upstream names the trace, the attempt's span as parent, and the flags."""
    written = line(Span(TRACE, "1" * 16, PARENT, 3), "2" * 16)
    name, _, value = written.partition(b": ")
    assert name == b"traceparent"
    assert read(value) == TraceContext(TRACE, "2" * 16, 3)


def test_lines_are_taken_out_by_name() -> None:
    """Whatever their case, and `tracestate` only if it goes too; other lines stay as they are."""
    headers = [b"Accept: */*", b"TraceParent: a", b"tracestate:b", b"traceparent: c", b"x-traceparent: d"]
    assert without(headers, tracestate=False) == [headers[0], headers[2], headers[4]]
    assert without(headers, tracestate=True) == [headers[0], headers[4]]


def test_a_head_says_its_trace() -> None:
    """The head's facts hold the trace and its lines pass on; one that stands twice, or is none, is only passed on."""
    once, other = b"traceparent: " + VALUE, b"Traceparent: " + VALUE[:-1] + b"0"
    facts = scan([b"host: a", once])
    assert (facts.says_trace, facts.trace, facts.passing) == (True, TraceContext(TRACE, PARENT, 1), [once])
    facts = scan([b"host: a", once, other])
    assert (facts.says_trace, facts.trace, facts.passing) == (True, None, [once, other])
    facts = scan([b"host: a", b"traceparent: no"])
    assert (facts.says_trace, facts.trace) == (True, None)
    facts = scan([b"host: a"])
    assert (facts.says_trace, facts.trace) == (False, None)


@pytest.mark.parametrize(
    ("settings", "takes"),
    [
        ({}, True),
        ({"deny": ("TraceParent",)}, False),
        ({"allow": ("accept",)}, False),
        ({"allow": ("accept", "traceparent")}, True),
        ({"set": {"traceparent": "x"}}, False),
    ],
)
def test_a_policy_knows_whether_a_trace_passes(settings: dict[str, object], takes: bool) -> None:
    """Ours is only sent where the client's would be."""
    given: dict[str, object] = {"set": {}, "deny": (), "forward": ()} | settings
    assert RequestPolicy(host=b"a", credential_headers=(), **given).takes_trace is takes  # type: ignore[arg-type] # a table


def test_a_record_says_to_which_trace_it_belongs() -> None:
    """Our span's, or else the client's; a request without either keeps its record as it is."""

    record = ended()
    assert trace_context.traced(record, None, None) is record
    context = TraceContext(TRACE, PARENT, 0)
    told = trace_context.traced(record, context, None)
    assert (told.trace_id, told.trace_sampled, told.span_id, told.parent_span_id) == (TRACE, False, "", "")
    told = trace_context.traced(record, TraceContext(TRACE, PARENT, 1), Span(TRACE, "1" * 16, PARENT))
    assert (told.trace_id, told.trace_sampled, told.span_id, told.parent_span_id) == (TRACE, True, "1" * 16, PARENT)
