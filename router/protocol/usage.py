"""Token counts as upstreams report them, made into one record of disjoint classes (PROTOCOL 9.1).

Where a stream reports usage several times, the last report wins and nothing is added up (PROTOCOL 9.3): a caller keeps
the last object and has only that one read.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from router.events import Usage

TOKENS_MAX = 10**9
"""A larger count is an upstream's fault, not a count: the longest contexts are a hundredth of it."""


def of_openai(usage: dict[str, Any]) -> Usage | None:
    """Read the usage of a chat or legacy completion, or of an embedding; None if it holds no usable count.

    The prompt contains what was read from a cache and written to it; a part that exceeds its whole is cut down to it.
    DeepSeek counts the cache under names of its own; embeddings and reranks may report a total alone. A number that
    cannot be a count (negative, a fraction, a boolean, more than `TOKENS_MAX`) reads as if it were absent. Whatever had
    to be put right so sets `clamped`. Never raises.
    """
    try:
        plain = msgspec.convert(usage, _Plain)  # HOT: 0.6 us for what most upstreams send; the exact way takes 1.9
    except msgspec.ValidationError:
        return _of_odd(usage)
    prompt, output = plain.prompt_tokens, plain.completion_tokens
    details, spent = plain.prompt_tokens_details, plain.completion_tokens_details
    cache_read, cache_write = (details.cached_tokens, details.cache_write_tokens) if details else (0, 0)
    reasoning = spent.reasoning_tokens if spent else 0
    rest = prompt - cache_read - cache_write
    if rest < 0 or reasoning > output:
        return _of_odd(usage)
    return Usage(rest, cache_read, cache_write, output, reasoning)


_Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count = 0
    cache_write_tokens: _Count = 0


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: _Count = 0


class _Plain(msgspec.Struct, gc=False):
    """The usage of most upstreams. Anything missing, null or odd in it is read the exact way."""

    prompt_tokens: _Count
    completion_tokens: _Count
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: None = None


def _of_odd(usage: dict[str, Any]) -> Usage | None:
    report = _Report(usage)
    hit, miss = report.count("prompt_cache_hit_tokens"), report.count("prompt_cache_miss_tokens")
    prompt, output, total = (
        report.count("prompt_tokens"),
        report.count("completion_tokens"),
        report.count("total_tokens"),
    )
    if prompt is None and miss is not None:
        prompt = miss + (hit or 0)
    if prompt is None and output is None and total is None:
        return None
    if prompt is None:
        prompt = report.remainder(total, output)
    if output is None:
        output = report.remainder(total, prompt) if total is not None else 0
    cached = report.count("cached_tokens", within="prompt_tokens_details")
    cache_read = report.part(hit if cached is None else cached, prompt)
    cache_write = report.part(report.count("cache_write_tokens", within="prompt_tokens_details"), prompt - cache_read)
    return Usage(
        input=prompt - cache_read - cache_write,
        cache_read=cache_read,
        cache_write=cache_write,
        output=output,
        reasoning=report.part(report.count("reasoning_tokens", within="completion_tokens_details"), output),
        clamped=report.clamped,
    )


class _Report:
    """One usage object, and whether anything in it had to be put right."""

    __slots__ = ("_usage", "clamped")

    def __init__(self, usage: dict[str, Any]) -> None:
        self._usage = usage
        self.clamped = False

    def count(self, name: str, *, within: str | None = None) -> int | None:
        """Return a count, from the details object `within` if one is named; None if it is absent or no count.

        Whole floats are taken: some serialisers know no other numbers.
        """
        holder = self._usage if within is None else self._usage.get(within)
        value = holder.get(name) if isinstance(holder, dict) else None
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKENS_MAX:
            return value
        self.clamped = True
        return None

    def part(self, value: int | None, whole: int) -> int:
        """Return a part of `whole`, cut down to it; nothing if it was not reported."""
        if value is None:
            return 0
        self.clamped |= value > whole
        return min(value, whole)

    def remainder(self, total: int | None, known: int | None) -> int:
        """Return what `total` holds beside `known`; nothing, and doubt, if that cannot be known."""
        rest = (total or 0) - (known or 0)
        self.clamped |= total is None or rest < 0
        return max(rest, 0)
