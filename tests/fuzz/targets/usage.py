"""Usage as upstreams report it: counts that can be billed, whichever way they are read (PROTOCOL 9)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from router.protocol import usage
from router.protocol.patient_json import read_object
from router.protocol.usage_report import TOKENS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.events import Usage

BYTES_MAX = 1024
WORDS = (
    b"prompt_tokens", b"completion_tokens", b"total_tokens", b"prompt_tokens_details", b"completion_tokens_details",
    b"cached_tokens", b"cache_write_tokens", b"cache_write_tokens_details", b"audio_tokens", b"image_tokens",
    b"reasoning_tokens", b"prompt_cache_hit_tokens", b"prompt_cache_miss_tokens", b"input_tokens", b"output_tokens",
    b"input_tokens_details", b"output_tokens_details", b"input_token_details", b"output_token_details",
    b"cached_tokens_details", b"ttl_30m_tokens", b"ttl_12h_tokens", b"cache_read_input_tokens",
    b"cache_creation_input_tokens", b"cache_creation", b"ephemeral_5m_input_tokens", b"ephemeral_1h_input_tokens",
    b"iterations", b"server_tool_use", b"web_search_requests", b"thinking_tokens", b"seconds", b"images", b"characters",
    b"usage", b"meta", b"tokens", b"billed_units", b"search_units", b"1000000000", b"1000000001", b"1.0", b"0.5", b"-1",
    b"true", b"null", b"1e999", b"NaN", b"\\ud83d", b"100", b"7",
)  # fmt: skip

READERS: tuple[Callable[[dict[str, Any]], Usage | None], ...] = (
    usage.of_openai, usage.of_responses, usage.of_anthropic, usage.of_media, usage.of_realtime, usage.of_generic,
)  # fmt: skip
_EXACT = (
    (usage.of_openai, usage._PROMPT, usage._COMPLETION),
    (usage.of_responses, usage._INPUT, usage._OUTPUT),
)
_SUM_MAX = 4 * TOKENS_MAX * usage.RUNS_MAX


def check(data: bytes) -> None:
    """Read the report in every dialect."""
    report = read_object(data)
    if report is None:
        return
    found = []
    for read in READERS:
        used = read(report)
        if used is not None:
            check_counts(used)
            found.append(used)
    for one, other in pairwise(found):
        check_counts(usage.add(one, other))
    for read, prompt_at, output_at in _EXACT:  # the quick way is the exact one, only quicker
        quick, exact = read(report), usage._of_wholes(report, prompt_at, output_at)
        if quick is not None and exact is not None and not quick.clamped:
            exact = msgspec.structs.replace(exact, clamped=False)  # what does not count may still leave doubt
        assert quick == exact, f"{quick} is not {exact}"


def check_counts(used: Usage) -> None:
    """Counts are whole, not negative and bounded; thinking is a part of what was written."""
    for name, value in msgspec.structs.asdict(used).items():
        assert 0 <= value <= _SUM_MAX, f"{name}: {value}"
        if name != "seconds":
            assert isinstance(value, int), f"{name}: {value}"
    assert used.reasoning <= used.output
