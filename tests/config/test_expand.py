from __future__ import annotations

import pytest

from router.config.expand import spread
from router.config.schema import PASSING_HEADERS
from router.config.values import BadValue
from tests.config.files import read, texts


def test_a_range_declares_upstreams_that_are_alike() -> None:
    """`{1..4}` makes four upstreams with the same settings, and a pool that names the range has all of them."""
    config = read("""
upstreams:
  gpu: {base_url: "http://10.0.0.{1..4}:8000/v1", limits: {concurrency: 256}}
  one: {base_url: http://h/v1}
models:
  m: {pool: [{upstream: gpu, weight: 2, tier: 3, model: x}, one]}
  n: gpu-2
""").config
    assert list(config.upstreams) == ["gpu-1", "gpu-2", "gpu-3", "gpu-4", "one"]
    assert config.upstreams["gpu-3"].base_url == "http://10.0.0.3:8000/v1"
    assert {config.upstreams[f"gpu-{n}"].limits.concurrency for n in range(1, 5)} == {256}
    members = config.models["m"].pool
    assert [member.upstream for member in members] == ["gpu-1", "gpu-2", "gpu-3", "gpu-4", "one"]
    assert {(member.weight, member.tier, member.model) for member in members[:4]} == {(2.0, 3, "x")}
    assert [member.upstream for member in config.models["n"].pool] == ["gpu-2"]


def test_a_leading_zero_keeps_the_width() -> None:
    """Host names are often numbered with zeros in front."""
    assert list(spread("g", "http://gpu{08..11}/v1").values()) == [f"http://gpu{n:02}/v1" for n in range(8, 12)]


def test_without_a_range_a_name_stands_for_itself() -> None:
    """The usual upstream keeps its name."""
    assert spread("a", "http://h/v1") == {"a": "http://h/v1"}


@pytest.mark.parametrize(
    "range_", ["{1..4", "1..4}", "{}", "{a..b}", "{1..2}{3..4}", "{4..1}", "{1..257}", "{1...4}", "{{1..4}}", "{-1..4}"]
)
def test_what_is_no_range_is_refused(range_: str) -> None:
    """Stray braces, two ranges, and ranges that run backwards or are too long are faults."""
    with pytest.raises(BadValue):
        spread("a", f"http://h{range_}/v1")


def test_a_range_may_be_as_long_as_its_bound() -> None:
    """256 upstreams are allowed, and so is one."""
    assert spread("a", "http://h{7..7}/v1") == {"a-7": "http://h7/v1"}
    assert len(spread("a", "http://h{0..255}/v1")) == 256


def test_a_range_must_not_take_a_name_that_is_taken() -> None:
    """An upstream that is declared twice, once by a range, is a fault."""
    assert texts("upstreams: {g: {base_url: 'http://h{1..2}/'}, g-2: {base_url: http://x}}\nmodels: {m: g}") == [
        "upstreams.g.base_url: its range declares g-2, which is declared already"
    ]


def test_the_usual_headers_are_written_out() -> None:
    """`default` alone or in a list stands for the headers of PROTOCOL 3.2; nothing is named twice."""

    def allowed(written: str) -> tuple[str, ...] | None:
        text = f"upstreams: {{a: {{base_url: http://h, headers: {{{written}}}}}}}\nmodels: {{m: a}}"
        return read(text).config.upstreams["a"].headers.allow

    assert allowed("allow: default") == PASSING_HEADERS
    assert allowed("allow: [x-own, default, accept]") == ("x-own", *PASSING_HEADERS)
    assert allowed("allow: [x-own]") == ("x-own",)
    assert allowed("allow: []") == ()
    assert allowed("allow: ") is None
    assert allowed("") is None
