from __future__ import annotations

import math
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import values
from router.config.schema import Count, Seconds, Size, Usd
from router.config.values import COUNT_MAX, SECONDS_MAX, USD_DECIMALS_MAX, USD_MAX, BadValue
from router.config.yaml_nodes import resolve

ANY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.text(alphabet="0123456789.eE+-smhdkMGiBx "),
    st.from_regex(r"[0-9]{1,30}(\.[0-9]{1,30})?(ms|s|m|h|d|k|M|G|KiB|MiB|kB|B|)"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("250ms", 0.25), ("3s", 3.0), ("1m30s", 90.0), ("2h", 7200.0), ("1d", 86400.0), (3, 3.0), (0.5, 0.5),
        ("1m30.1s", 90.1), ("1.5h", 5400.0), ("7", 7.0), ("1d2h3m4s5ms", 93784.005), ("0.1s", 0.1),
        ("365d", SECONDS_MAX),
    ],
)  # fmt: skip
def test_durations_are_read_exactly(written: str | float, seconds: float) -> None:
    """Each way of writing a duration gives the float nearest to what it says."""
    assert values.seconds(written) == seconds
    assert isinstance(values.seconds(written), Seconds)


@pytest.mark.parametrize(
    "written",
    ["10 s", "", " ", "s", "-1s", "1s1m", "1s1s", "1x", "1e", "3 ", "٣s", "1,5s", "0s", "0", 0, -1, math.nan, math.inf,
     -math.inf, "366d", 10**400, None, True, "1h-3s", "9" * 30 + "s", "inf", "nan"],
)  # fmt: skip
def test_what_is_no_duration_is_refused(written: Any) -> None:
    """Spaces, wrong order, other digits, zero, negative, endless and absurd durations are faults."""
    with pytest.raises(BadValue):
        values.seconds(written)


def test_a_space_in_a_duration_is_explained() -> None:
    """The usual slip, `10 s`, is told how to write it."""
    with pytest.raises(BadValue, match="without the space"):
        values.seconds("10 s")


@pytest.mark.parametrize(
    ("written", "count"),
    [("500k", 500_000), ("1.5M", 1_500_000), ("2G", 2 * 10**9), (7, 7), (0, 0), ("7", 7), (1e3, 1000), ("0.001k", 1)],
)
def test_counts_are_read_exactly(written: str | float, count: int) -> None:
    """Suffixes are powers of a thousand, and decimals are fine as long as the whole is whole."""
    assert values.count(written) == count
    assert type(values.count(written)) is Count


@pytest.mark.parametrize(
    "written",
    ["1.0005k", 1.5, -1, "-1", "k", "5 k", "5K", "5m", "5MiB", "", None, False, math.nan, math.inf, 10**16, "9999999G",
     "1." + "0" * 19 + "1k", "500_000"],
)  # fmt: skip
def test_what_is_no_count_is_refused(written: Any) -> None:
    """Fractions, negative numbers, unknown suffixes and absurd numbers are faults."""
    with pytest.raises(BadValue):
        values.count(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [("64MiB", 64 << 20), ("1GiB", 1 << 30), ("10kB", 10_000), ("1.5KiB", 1536), (1000, 1000), ("7B", 7),
     ("2MB", 2 * 10**6)],
)  # fmt: skip
def test_sizes_are_read_exactly(written: str | int, size: int) -> None:
    """Binary and decimal units are told apart."""
    assert values.size(written) == size
    assert type(values.size(written)) is Size


@pytest.mark.parametrize("written", ["64M", "64mib", "64 MiB", 0, "0B", -5, "0.3B", None, True, 10**16, "KiB"])
def test_what_is_no_size_is_refused(written: Any) -> None:
    """Ambiguous units, zero and parts of a byte are faults."""
    with pytest.raises(BadValue):
        values.size(written)


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        ("1.25", "1.25"), ("10", "10"), ("0", "0"), ("0.1", "0.1"), (".5", "0.5"), ("5.", "5"), ("+2", "2"),
        ("1e-6", "0.000001"), ("2.5E2", "250"), ("000.100", "0.1"), ("1000000", "1e6"),
        ("0.123456789012", "0.123456789012"), ("0.1234567890120000000", "0.123456789012"), ("0e-99", "0"),
    ],
)  # fmt: skip
def test_amounts_are_read_exactly(written: str, amount: str) -> None:
    """The digits count as they stand: a tenth is a tenth, and not the float next to it."""
    assert values.usd(written) == Decimal(amount)
    assert type(values.usd(written)) is Usd


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ("-1", "must not be negative"), ("-0.5", "must not be negative"),
        ("1000000.1", "must not be more than 1000000"), ("1e999", "must not be more than 1000000"),
        ("0.1234567890123", "must not have more than 12 digits after the point"),
        ("1e-13", "must not have more than 12 digits after the point"),
        ("1e-999", "must not have more than 12 digits after the point"),
        ("", "expected an amount in USD such as 1.25, found nothing"),
        *((text, f"expected an amount in USD such as 1.25, found '{text}'") for text in (
            "free", "$1.25", "1,25", "1_000", " 1", "1 ", "0x10", ".", "e5", ".nan", ".inf", "NaN", "Infinity", "true",
            "1e9999", "٣", "1.2.3", "1.25 USD", "5k",
        )),
    ],
)  # fmt: skip
def test_what_is_no_amount_is_refused(written: str, what: str) -> None:
    """Signs, units, other digits, what is no number and what no price can be are faults that say so."""
    with pytest.raises(BadValue) as refused:
        values.usd(written)
    assert str(refused.value) == what


@given(st.text() | st.text(alphabet="0123456789.eE+-") | st.from_regex(r"[0-9]{1,60}(\.[0-9]{1,60})?(e-?[0-9]{1,9})?"))
def test_garbage_is_no_amount(garbage: str) -> None:
    """Whatever stands in the file, an amount is read, in its bounds, or refused."""
    with suppress(BadValue):
        assert 0 <= values.usd(garbage) <= USD_MAX


@given(st.decimals(0, USD_MAX, places=USD_DECIMALS_MAX) | st.decimals(0, 100, places=3) | st.integers(0, USD_MAX))
def test_amounts_round_trip(amount: Decimal | int) -> None:
    """An amount that is shown reads as exactly the same."""
    assert values.usd(str(values.show_usd(Usd(amount)))) == amount


def test_amounts_are_shown_as_one_writes_them() -> None:
    """Whole amounts have no point, others are numbers, and only what no float says is text."""
    shown = [values.show_usd(values.usd(text)) for text in ("10", "10.0", "0.125", "1e-6", "123456.123456789012")]
    assert shown == [10, 10, 0.125, 0.000001, "123456.123456789012"]


@given(ANY)
def test_garbage_raises_nothing_but_the_fault(garbage: Any) -> None:
    """Whatever stands in the file, a value is read, in its bounds, or refused."""
    for reader, most in ((values.seconds, SECONDS_MAX), (values.count, COUNT_MAX), (values.size, COUNT_MAX)):
        with suppress(BadValue):
            assert 0 <= reader(garbage) <= most


@given(st.text(min_size=200))
def test_a_fault_repeats_little_of_a_long_value(garbage: str) -> None:
    """A fault stays one short line, whatever was in the file."""
    for reader in (values.seconds, values.count, values.size):
        with pytest.raises(BadValue) as refused:
            reader(garbage)
        assert len(str(refused.value)) < 600
        assert str(refused.value).isprintable()


@given(st.one_of(st.floats(min_value=1e-9, max_value=SECONDS_MAX), st.integers(1, 10**10).map(lambda ms: ms / 1000)))
def test_durations_round_trip(value: float) -> None:
    """A duration that is shown reads as exactly the same."""
    assert values.seconds(values.show_seconds(value)) == value
    assert values.seconds(resolve(values.show_seconds(value))) == value


@given(st.one_of(st.integers(0, COUNT_MAX), st.integers(0, 10**6).map(lambda number: number * 1000)))
def test_counts_round_trip(value: int) -> None:
    """A count that is shown reads as exactly the same."""
    assert values.count(values.show_count(value)) == value


@given(st.one_of(st.integers(1, COUNT_MAX), st.integers(1, 10**4).map(lambda number: number << 20)))
def test_sizes_round_trip(value: int) -> None:
    """A size that is shown reads as exactly the same."""
    assert values.size(values.show_size(value)) == value


@pytest.mark.parametrize(
    ("value", "shown"), [(90, "1m30s"), (0.25, "250ms"), (1800, "30m"), (1.5, "1.5s"), (86_400, "1d"), (75, "1m15s")]
)
def test_durations_are_shown_as_one_writes_them(value: float, shown: str) -> None:
    """The largest units come first and nothing stands for zero."""
    assert values.show_seconds(value) == shown


def test_counts_and_sizes_are_shown_short() -> None:
    """Round numbers are shown with their unit, others as they are."""
    assert [values.show_count(n) for n in (0, 1024, 10_000, 2_000_000)] == [0, 1024, "10k", "2M"]
    assert [values.show_size(n) for n in (1000, 64 << 10, 1 << 30)] == [1000, "64KiB", "1GiB"]
