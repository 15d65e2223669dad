import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.events import Usage
from router.protocol import sse
from router.protocol.openai import read_chunk
from router.protocol.usage import TOKENS_MAX, of_openai

SAMPLES = Path(__file__).parent / "samples"


def test_every_class_is_told_apart() -> None:
    """What was read from the cache and written to it is taken out of the prompt; reasoning stays part of the output."""
    usage = {
        "prompt_tokens": 24,
        "completion_tokens": 17,
        "total_tokens": 41,
        "prompt_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 4, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 12},
    }
    read = of_openai(usage)
    assert read == Usage(input=10, cache_read=10, cache_write=4, output=17, reasoning=12)
    assert read.total == 41


@pytest.mark.parametrize("details", [{}, {"prompt_tokens_details": None}, {"prompt_tokens_details": {}}])
def test_details_may_be_missing(details: dict[str, Any]) -> None:
    """Usage without details, or with details that are null, is plain usage."""
    usage = {"prompt_tokens": 24, "completion_tokens": 17, "total_tokens": 41, **details}
    assert of_openai({**usage, "completion_tokens_details": None}) == Usage(input=24, output=17)


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        (
            {
                "prompt_tokens": 20,
                "prompt_cache_hit_tokens": 15,
                "prompt_cache_miss_tokens": 5,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 15},
            },
            Usage(input=5, cache_read=15, output=3),
        ),
        (
            {"prompt_cache_hit_tokens": 15, "prompt_cache_miss_tokens": 5, "completion_tokens": 3},
            Usage(input=5, cache_read=15, output=3),
        ),
        (
            {"prompt_tokens": 20, "prompt_cache_hit_tokens": 15, "completion_tokens": 3},
            Usage(input=5, cache_read=15, output=3),
        ),
    ],
)
def test_deepseek(usage: dict[str, Any], read: Usage) -> None:
    """Cache hits and misses under DeepSeek's names count once, with or without the usual names beside them."""
    assert of_openai(usage) == read


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(input=8)),
        ({"prompt_tokens": 8}, Usage(input=8)),
        ({"total_tokens": 8}, Usage(input=8)),
        ({"completion_tokens": 3, "total_tokens": 8}, Usage(input=5, output=3)),
        ({"prompt_tokens": 5, "total_tokens": 8}, Usage(input=5, output=3)),
        ({"completion_tokens": 3}, Usage(output=3, clamped=True)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage()),
    ],
)
def test_a_missing_count_follows_from_the_total(usage: dict[str, Any], read: Usage) -> None:
    """Of prompt, completion and total one may be missing; what cannot be known is in doubt."""
    assert of_openai(usage) == read


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        (
            {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 9}},
            Usage(cache_read=5, output=3, clamped=True),
        ),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 4},
            },
            Usage(cache_read=4, cache_write=1, output=3, clamped=True),
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 7}},
            Usage(input=5, output=3, reasoning=3, clamped=True),
        ),
        ({"prompt_tokens": 9, "total_tokens": 8}, Usage(input=9, clamped=True)),
    ],
)
def test_contradictions_are_clamped(usage: dict[str, Any], read: Usage) -> None:
    """A part never exceeds its whole, and numbers that had to be put right are marked."""
    assert of_openai(usage) == read


@pytest.mark.parametrize("value", [-1, 1.5, True, "7", [], {}, TOKENS_MAX + 1, 10**400, math.inf, math.nan, 1e300])
def test_what_is_no_count(value: Any) -> None:
    """A number that cannot be a count says nothing, and leaves doubt about the rest."""
    assert of_openai({"prompt_tokens": 5, "completion_tokens": value}) == Usage(input=5, clamped=True)
    assert of_openai({"prompt_tokens": value, "completion_tokens": 3, "total_tokens": 8}) == Usage(
        input=5, output=3, clamped=True
    )
    assert of_openai({"prompt_tokens": value, "completion_tokens": value}) is None


def test_whole_floats_are_counts() -> None:
    """A serialiser that knows only floats is understood."""
    assert of_openai({"prompt_tokens": 5.0, "completion_tokens": 3.0}) == Usage(input=5, output=3)
    assert of_openai({"prompt_tokens": TOKENS_MAX}) == Usage(input=TOKENS_MAX)


def test_nothing_usable_is_unknown() -> None:
    """Usage without any count is unknown, not zero."""
    assert of_openai({}) is None
    assert of_openai({"cost": 0.01, "prompt_tokens_details": {"cached_tokens": 3}}) is None


NUMBERS = st.none() | st.integers() | st.floats() | st.booleans() | st.text() | st.integers(0, 20)
DETAILS = NUMBERS | st.dictionaries(
    st.sampled_from(["cached_tokens", "cache_write_tokens", "reasoning_tokens"]), NUMBERS
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "prompt_tokens",
                "completion_tokens",
                "total_tokens",
                "prompt_cache_hit_tokens",
                "prompt_cache_miss_tokens",
                "prompt_tokens_details",
                "completion_tokens_details",
            ]
        ),
        DETAILS,
    )
)
def test_no_report_raises_or_gives_nonsense(usage: dict[str, Any]) -> None:
    """Whatever is reported, no class is negative, and a usable prompt and completion are neither lost nor doubled."""
    read = of_openai(usage)
    if read is None:
        return
    assert min(read.input, read.cache_read, read.cache_write, read.output, read.reasoning) >= 0
    assert read.reasoning <= read.output
    prompt, output = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(prompt) is int and 0 <= prompt <= TOKENS_MAX:
        assert read.input + read.cache_read + read.cache_write == prompt
    if type(output) is int and 0 <= output <= TOKENS_MAX:
        assert read.output == output


SAMPLED = Usage(input=6, cache_read=3, output=4)


@pytest.mark.parametrize(
    ("sample", "read"),
    [
        ("chat_lf", SAMPLED),
        ("chat_cr", SAMPLED),
        ("usage_on_finish", SAMPLED),
        ("usage_litellm", SAMPLED),
        ("usage_groq", SAMPLED),
        ("completions_llamacpp", SAMPLED),
        ("usage_every_chunk", Usage(input=9, output=4)),
        ("tool_calls", None),
        ("error_midway", None),
    ],
)
def test_the_last_report_of_a_stream_counts(sample: str, read: Usage | None) -> None:
    """Wherever a stream carries usage, its last report is the stream's usage."""
    events = sse.EventReader().feed((SAMPLES / f"{sample}.sse").read_bytes())
    reports = [usage for event in events if (usage := read_chunk(event).usage) is not None]
    assert (of_openai(reports[-1]) if reports else None) == read
