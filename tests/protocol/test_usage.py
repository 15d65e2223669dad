"""Every dialect's usage becomes the same record of disjoint classes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.events import Usage
from router.protocol import sse
from router.protocol.openai import read_chunk
from router.protocol.usage import (
    RUNS_MAX,
    add,
    of_anthropic,
    of_generic,
    of_media,
    of_openai,
    of_realtime,
    of_responses,
)
from router.protocol.usage_report import TOKENS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

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


READERS = (of_openai, of_responses, of_anthropic, of_media, of_realtime, of_generic)

TOKENS = ("input", "cache_read", "cache_write", "cache_write_long", "audio_in", "image_in", "output", "audio_out")


def test_a_total_counts_every_token_once() -> None:
    """Prompt and completion are the sums of their classes, reasoning is inside of the output, pieces are no tokens."""
    each = {name: 10**place for place, name in enumerate(TOKENS)}
    usage = Usage(**each, reasoning=9 * 10**6, images=3, seconds=2.5, characters=7, searches=5)
    assert (usage.prompt, usage.completion, usage.total) == (111_111, 11_000_000, 11_111_111)


def test_sound_and_pictures_in_a_chat() -> None:
    """Their tokens are classes of their own; what was cached stays cached, whichever kind it was."""
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 40, "image_tokens": 20, "text_tokens": 40},
        "completion_tokens_details": {"audio_tokens": 35, "reasoning_tokens": 5},
    }
    assert of_openai(usage) == Usage(
        input=10, cache_read=30, audio_in=40, image_in=20, output=15, reasoning=5, audio_out=35
    )
    usage["prompt_tokens_details"] = {"cached_tokens": 90, "audio_tokens": 40}
    assert of_openai(usage) == Usage(cache_read=90, audio_in=10, output=15, reasoning=5, audio_out=35)
    usage["prompt_tokens_details"] = {"audio_tokens": 60, "image_tokens": 60}
    assert of_openai(usage) == Usage(audio_in=60, image_in=40, output=15, reasoning=5, audio_out=35, clamped=True)


@pytest.mark.parametrize(
    ("given", "made", "read"),
    [
        ({"audio_tokens": 4}, {}, Usage(6, output=8, audio_in=4)),
        ({"image_tokens": 4}, {}, Usage(6, output=8, image_in=4)),
        ({}, {"audio_tokens": 4}, Usage(10, output=4, audio_out=4)),
        ({"cached_tokens": 9, "image_tokens": 4}, {}, Usage(0, 9, output=8, image_in=1)),
        ({"cache_write_tokens": 9, "audio_tokens": 4}, {}, Usage(0, 0, 9, output=8, audio_in=1)),
        ({"audio_tokens": 11}, {}, Usage(0, output=8, audio_in=10, clamped=True)),
        ({}, {"audio_tokens": 9}, Usage(10, audio_out=8, clamped=True)),
        ({}, {"audio_tokens": 5, "reasoning_tokens": 4}, Usage(10, 0, 0, 3, 3, audio_out=5, clamped=True)),
    ],
)
def test_each_kind_alone(given: dict[str, int], made: dict[str, int], read: Usage) -> None:
    """One kind of tokens is enough to be told apart."""
    usage = {"prompt_tokens": 10, "completion_tokens": 8, "prompt_tokens_details": given}
    assert of_openai({**usage, "completion_tokens_details": made}) == read


def test_responses() -> None:
    """The input contains what was read from a cache and written to it, the output what was spent on reasoning."""
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {
            "cached_tokens": 40,
            "cache_write_tokens": 25,
            "cache_write_tokens_details": {"ttl_30m_tokens": 20, "ttl_12h_tokens": 5},
        },
        "output_tokens": 17,
        "output_tokens_details": {"reasoning_tokens": 12},
        "total_tokens": 117,
    }
    expected = Usage(input=35, cache_read=40, cache_write=20, cache_write_long=5, output=17, reasoning=12)
    assert of_responses(usage) == of_generic(usage) == expected
    assert expected.total == 117
    assert of_responses({"input_tokens": 3, "output_tokens": 4, "input_tokens_details": None}) == Usage(3, output=4)
    assert of_responses({"input_tokens": 3, "input_tokens_details": {"cached_tokens": 9}}) == Usage(
        cache_read=3, clamped=True
    )
    assert of_responses({"object": "response.input_tokens"}) is None


MESSAGE = {
    "input_tokens": 21,
    "cache_creation_input_tokens": 188,
    "cache_read_input_tokens": 300,
    "cache_creation": {"ephemeral_5m_input_tokens": 88, "ephemeral_1h_input_tokens": 100},
    "output_tokens": 393,
    "output_tokens_details": {"thinking_tokens": 200},
    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
    "service_tier": "standard",
}


def test_a_message() -> None:
    """Input and cache stand beside each other: nothing is taken out of the input."""
    expected = Usage(
        input=21, cache_read=300, cache_write=88, cache_write_long=100, output=393, reasoning=200, searches=2
    )
    assert of_anthropic(MESSAGE) == of_generic(MESSAGE) == expected
    assert expected.prompt == 21 + 300 + 188


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"input_tokens": 5, "output_tokens": 3}, Usage(5, output=3)),
        ({"input_tokens": 5, "output_tokens": 3, "cache_creation_input_tokens": 7}, Usage(5, 0, 7, 3)),
        (
            {"input_tokens": 5, "output_tokens": 3, "cache_creation": {"ephemeral_1h_input_tokens": 7}},
            Usage(5, output=3, cache_write_long=7),
        ),
        (
            {"input_tokens": 5, "output_tokens": 3, "cache_read_input_tokens": None, "cache_creation": None,
             "server_tool_use": None, "iterations": None},
            Usage(5, output=3),
        ),
        ({"output_tokens": 3}, Usage(output=3, clamped=True)),
        ({"input_tokens": 5}, Usage(input=5, clamped=True)),
        (
            {"input_tokens": 5, "output_tokens": 3, "output_tokens_details": {"thinking_tokens": 4}},
            Usage(5, output=3, reasoning=3, clamped=True),
        ),
        ({"cache_read_input_tokens": 5}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_a_message_without_some_counts(usage: dict[str, Any], read: Usage | None) -> None:
    """Caches and details may be missing; a message without input or output is in doubt, without both it has none."""
    assert of_anthropic(usage) == read


def test_the_runs_of_a_message_are_summed() -> None:
    """What compacting the conversation took is in the list of runs alone; searches are beside it alone."""
    usage = {
        **MESSAGE,
        "iterations": [
            {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500},
            {"type": "message", **{name: MESSAGE[name] for name in MESSAGE if name != "server_tool_use"}},
        ],
    }
    assert of_anthropic(usage) == Usage(
        input=180_021, cache_read=300, cache_write=88, cache_write_long=100, output=3893, reasoning=200, searches=2
    )


def test_thinking_beside_the_runs_counts_if_they_do_not_tell() -> None:
    """Runs without details leave the thinking to the counts beside them, within the output."""
    for output, reasoning in ((900, 200), (100, 100)):
        read = of_anthropic({**MESSAGE, "iterations": [{"input_tokens": 1, "output_tokens": output}]})
        assert read is not None
        assert (read.output, read.reasoning) == (output, reasoning)


def test_doubt_about_one_run_is_doubt_about_the_sum() -> None:
    """A contradiction in any run, or beside them, stays visible."""
    good, bad = {"input_tokens": 1, "output_tokens": 1}, {"input_tokens": 1, "output_tokens": 1.5}
    for usage, doubted in (
        ({**good, "iterations": [good, good]}, False),
        ({**good, "iterations": [good, bad]}, True),
        ({**bad, "iterations": [good, good]}, True),
    ):
        read = of_anthropic(usage)
        assert read is not None
        assert read.clamped is doubted


@pytest.mark.parametrize(
    ("read", "usage"),
    [
        (
            of_anthropic,
            {"input_tokens": 5, "output_tokens": 3, "cache_creation_input_tokens": 9,
             "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 2}},
        ),
        (
            of_responses,
            {"input_tokens": 14, "output_tokens": 3, "input_tokens_details": {"cache_write_tokens": 9,
             "cache_write_tokens_details": {"ttl_30m_tokens": 4, "ttl_12h_tokens": 2}}},
        ),
    ],
)  # fmt: skip
def test_cache_writes_that_do_not_add_up_leave_doubt(
    read: Callable[[dict[str, Any]], Usage | None], usage: dict[str, Any]
) -> None:
    """The whole stands, with what is long taken out of it, and the report is marked."""
    assert read(usage) == Usage(5, 0, 7, 3, cache_write_long=2, clamped=True)


@pytest.mark.parametrize("runs", [[], None, {}, "x", 7])
def test_no_runs_are_no_contradiction(runs: Any) -> None:
    """An empty list, or what is none, leaves the counts beside it."""
    assert of_anthropic({**MESSAGE, "iterations": runs}) == of_anthropic(MESSAGE)


@pytest.mark.parametrize("run", [None, 3, {}, {"type": "message"}, {"input_tokens": "x", "output_tokens": -1}])
def test_unreadable_runs_leave_doubt(run: Any) -> None:
    """If a run cannot be read, the counts beside the list stand, in doubt."""
    whole = of_anthropic(MESSAGE)
    assert whole is not None
    runs = [{"input_tokens": 1, "output_tokens": 1}, run]
    assert of_anthropic({**MESSAGE, "iterations": runs}) == msgspec.structs.replace(whole, clamped=True)


def test_endless_runs_are_not_read_to_their_end() -> None:
    """However long the list, so many are summed, and the sum is in doubt."""
    read = of_anthropic(
        {**MESSAGE, "iterations": [{"input_tokens": 2, "output_tokens": 1} for _ in range(RUNS_MAX + 5)]}
    )
    assert read is not None
    assert (read.input, read.output, read.clamped) == (2 * RUNS_MAX, RUNS_MAX, True)


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        (
            {"input_tokens": 60, "output_tokens": 4160, "total_tokens": 4220,
             "input_tokens_details": {"text_tokens": 10, "image_tokens": 50},
             "output_tokens_details": {"image_tokens": 4160, "text_tokens": 0}},
            Usage(input=10, image_in=50, output=4160),
        ),
        (
            {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59,
             "input_token_details": {"text_tokens": 4, "audio_tokens": 10}},
            Usage(input=4, audio_in=10, output=45),
        ),
        ({"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}, Usage(input=14, output=101)),
        (
            {"input_tokens": 14, "output_tokens": 101, "output_token_details": {"audio_tokens": 100}},
            Usage(input=14, output=1, audio_out=100),
        ),
        ({"type": "duration", "seconds": 12.3}, Usage(seconds=12.3)),
        ({"type": "duration", "seconds": 3}, Usage(seconds=3.0)),
        ({"type": "duration", "seconds": "3"}, None),
        ({"images": 4}, Usage(images=4)),
        ({"images": 10**9}, None),
        ({"images": 4, "input_tokens": 3, "output_tokens": 7}, Usage(input=3, output=7)),
        ({"characters": 4096}, Usage(characters=4096)),
        ({}, None),
    ],
)  # fmt: skip
def test_pictures_and_sound(usage: dict[str, Any], read: Usage | None) -> None:
    """Tokens are told apart by kind; without any, a length, a number of pictures or of characters stands for them."""
    assert of_media(usage) == read


def test_a_realtime_answer() -> None:
    """Text, sound and pictures are told apart, and of each what was cached is taken out."""
    usage = {
        "total_tokens": 253,
        "input_tokens": 132,
        "output_tokens": 121,
        "input_token_details": {
            "text_tokens": 62,
            "audio_tokens": 50,
            "image_tokens": 20,
            "cached_tokens": 64,
            "cached_tokens_details": {"text_tokens": 32, "audio_tokens": 30, "image_tokens": 2},
        },
        "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
    }
    expected = Usage(input=30, cache_read=64, audio_in=20, image_in=18, output=30, audio_out=91)
    assert of_realtime(usage) == of_generic(usage) == expected
    assert expected.total == 253
    assert of_realtime({"type": "duration", "seconds": 1.5}) == Usage(seconds=1.5)
    assert of_realtime({"type": "tokens", "input_tokens": 9, "input_token_details": {"audio_tokens": 9}}) == Usage(
        audio_in=9
    )


def test_cached_parts_that_are_more_than_their_kind_are_cut() -> None:
    """More cached sound than sound is a contradiction; the whole prompt is kept all the same."""
    details = {"audio_tokens": 5, "cached_tokens": 8, "cached_tokens_details": {"audio_tokens": 7}}
    assert of_realtime({"input_tokens": 10, "output_tokens": 1, "input_token_details": details}) == Usage(
        input=2, cache_read=8, output=1, clamped=True
    )


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8)),
        ({"prompt_tokens": 8, "completion_tokens": 3}, Usage(8, output=3)),
        ({"prompt_tokens": 8, "output_tokens": 3}, Usage(8, output=3)),
        ({"input_tokens": 8, "completion_tokens": 3}, Usage(8, output=3)),
        ({"input_tokens": 8, "output_tokens": 3}, Usage(8, output=3)),
        ({"total_tokens": 8}, Usage(8)),
        ({"completion_tokens": 3, "total_tokens": 8}, Usage(5, output=3)),
        (
            {"prompt_tokens": 8, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 6}},
            Usage(2, 6, 0, 3),
        ),
        (
            {"prompt_tokens": 8, "completion_tokens": 3, "cache_read_input_tokens": 6,
             "prompt_tokens_details": {"cached_tokens": 6}},
            Usage(2, 6, 0, 3),
        ),
        ({"prompt_cache_hit_tokens": 6, "prompt_cache_miss_tokens": 2, "completion_tokens": 3}, Usage(2, 6, 0, 3)),
        ({"usage": {"total_tokens": 8}}, Usage(8)),
        ({"usage": {"prompt_tokens": 8, "total_tokens": 8}, "meta": None}, Usage(8)),
        ({"usage": None, "meta": {"tokens": {"input_tokens": 8}}}, Usage(8)),
        ({"usage": None, "meta": {"tokens": {"input_tokens": 8, "output_tokens": 1}}}, Usage(8, output=1)),
        ({"meta": {"billed_units": {"search_units": 2}}}, Usage(searches=2)),
        ({"meta": {"billed_units": {"search_units": 2.0}, "tokens": None}}, Usage(searches=2)),
        ({"meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 8}}}, Usage(8, searches=1)),
        (
            {"usage": {"total_tokens": 5},
             "meta": {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 8}}},
            Usage(5, searches=1),
        ),
        ({"meta": {"api_version": {"version": "2"}}}, None),
        ({"total_tokens": 8, "meta": {"any": "thing"}}, Usage(8)),
        ({"usage": [], "meta": "x"}, None),
        ({"seconds": 2.5, "type": "duration"}, Usage(seconds=2.5)),
        ({}, None),
    ],
)  # fmt: skip
def test_an_endpoint_that_is_not_known(usage: dict[str, Any], read: Usage | None) -> None:
    """Counts are found under the names of any dialect, and those of a rerank in `usage` before `meta`."""
    assert of_generic(usage) == read


def test_usage_adds_up() -> None:
    """The usage of several answers is the sum of each class, in doubt if one of them is; no time stays no time."""
    counts = [name for name in Usage.__struct_fields__ if name not in ("seconds", "clamped")]
    twos: dict[str, Any] = dict.fromkeys(counts, 2)
    fours: dict[str, Any] = dict.fromkeys(counts, 4)
    one, other = Usage(**twos, seconds=1.5), Usage(**twos, seconds=0.25, clamped=True)
    assert add(one, other) == Usage(**fours, seconds=1.75, clamped=True)
    assert msgspec.json.encode(add(Usage(1), Usage(2, output=3))) == b'{"input":3,"output":3}'


@pytest.mark.parametrize("read", READERS, ids=lambda it: it.__name__)
def test_half_a_character_is_no_reason_to_fail(read: Callable[[dict[str, Any]], Usage | None]) -> None:
    """A lone surrogate, which JSON can escape, stands in no count's way wherever it stands."""
    counts = {"prompt_tokens": 5, "completion_tokens": 3, "input_tokens": 5, "output_tokens": 3}
    assert read({"\ud800": "\udfff", **counts}) == Usage(5, output=3)
    read({"prompt_tokens": "\ud800", "prompt_tokens_details": {"\ud800": 1}, "completion_tokens": 3})


NUMBERS: st.SearchStrategy[Any] = (
    st.none() | st.integers() | st.floats() | st.booleans() | st.text() | st.integers(0, 20) | st.just([{}, 3, None])
)
NAMES = (
    "prompt_tokens", "completion_tokens", "total_tokens", "prompt_cache_hit_tokens", "prompt_cache_miss_tokens",
    "prompt_tokens_details", "completion_tokens_details", "input_tokens", "output_tokens", "input_tokens_details",
    "input_token_details", "output_tokens_details", "output_token_details", "cached_tokens", "cache_write_tokens",
    "cached_tokens_details", "cache_write_tokens_details", "ttl_30m_tokens", "ttl_12h_tokens", "audio_tokens",
    "image_tokens", "text_tokens", "reasoning_tokens", "thinking_tokens", "cache_creation_input_tokens",
    "cache_read_input_tokens", "cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "iterations",
    "server_tool_use", "web_search_requests", "images", "seconds", "characters", "usage", "meta", "tokens",
    "billed_units", "search_units",
)  # fmt: skip
REPORTS = st.recursive(
    st.dictionaries(st.sampled_from(NAMES), NUMBERS, max_size=6),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), NUMBERS | inner | st.lists(inner, max_size=3), max_size=8),
    max_leaves=6,
)


@settings(max_examples=60)
@given(usage=REPORTS)
@pytest.mark.parametrize("read", READERS, ids=lambda it: it.__name__)
def test_no_report_raises_or_gives_nonsense(
    read: Callable[[dict[str, Any]], Usage | None], usage: dict[str, Any]
) -> None:
    """Whatever is reported, nothing is raised, no class is negative or endless, and reasoning is within the output."""
    found = read(usage)
    if found is None:
        return
    for value in msgspec.structs.astuple(found):
        assert 0 <= value <= RUNS_MAX * TOKENS_MAX
    assert found.reasoning <= found.output


COUNT = st.integers(0, 50)


@given(prompt=COUNT, output=COUNT, cached=COUNT, written=COUNT, audio=COUNT, image=COUNT, audio_out=COUNT)
def test_nothing_of_a_prompt_is_lost_or_doubled(
    *, prompt: int, output: int, cached: int, written: int, audio: int, image: int, audio_out: int
) -> None:
    """However the parts contradict the whole, the classes of prompt and completion sum to what was reported."""
    details = {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": audio, "image_tokens": image}
    spent = {"audio_tokens": audio_out, "reasoning_tokens": audio_out}
    for read, names in (
        (of_openai, ("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details")),
        (of_responses, ("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")),
        (of_realtime, ("input_tokens", "output_tokens", "input_token_details", "output_token_details")),
    ):
        found = read(dict(zip(names, (prompt, output, details, spent), strict=True)))
        assert found is not None
        assert (found.prompt, found.completion) == (prompt, output)
        assert min(found.input, found.audio_in, found.image_in, found.output) >= 0
        if cached + written + audio + image <= prompt and 2 * audio_out <= output:
            assert not found.clamped


@given(prompt=COUNT, output=COUNT, cached=COUNT, written=COUNT, reasoning=COUNT)
def test_both_ways_of_reading_agree(*, prompt: int, output: int, cached: int, written: int, reasoning: int) -> None:
    """The usual report is read in one step; written with floats it is read member by member, to the same record."""
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    spent = {"reasoning_tokens": reasoning}
    for read, names in (
        (of_openai, ("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details")),
        (of_responses, ("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")),
    ):
        usual = dict(zip(names, (prompt, output, details, spent), strict=True))
        assert read(usual) == read({**usual, names[0]: float(prompt)})


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
