"""Usage as upstreams report it, made into one record of disjoint classes: a function for each dialect (PROTOCOL 9.1).

The trap that they exist for: OpenAI's prompt tokens contain those read from a cache, Anthropic's input tokens do not.
Every function takes what was decoded from the answer and returns None if it holds no usable count. A number that cannot
be a count reads as if it were absent, a part that exceeds its whole is cut down to it, and whatever had to be put right
so sets `clamped`. Nothing raises.

Where a stream reports usage several times, the last report wins and nothing is added up (PROTOCOL 9.3): a caller keeps
the last object and has only that one read. `add` is for answers that are several, as on one WebSocket.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from router.events import NOTHING, Usage
from router.protocol.usage_report import TOKENS_MAX, UNITS_MAX, Report

RUNS_MAX = 1000
"""Entries of Anthropic's `iterations` that are summed; a request that long has passed every deadline."""


def of_openai(usage: dict[str, Any]) -> Usage | None:
    """Read the usage of a chat or legacy completion, or of an embedding.

    DeepSeek counts the cache under names of its own; embeddings and reranks may report a total alone.
    """
    return _of_plain(usage, _Plain) or _of_wholes(usage, _PROMPT, _COMPLETION)


def of_responses(usage: dict[str, Any]) -> Usage | None:
    """Read the usage of a response: OpenAI's `/responses`, its compaction, `/decisions`."""
    return _of_plain(usage, _PlainResponse) or _of_wholes(usage, _INPUT, _OUTPUT)


def of_anthropic(usage: dict[str, Any]) -> Usage | None:
    """Read the usage of a message, in a stream that of `message_start` with the last `message_delta` laid over it.

    Input and cache counts stand beside each other. `iterations` lists the runs of a request that was compacted on its
    way, and the counts beside it leave some of them out: then the runs are summed.
    """
    report = Report(usage)
    whole, runs = _of_message(report), usage.get("iterations")
    if whole is None or not isinstance(runs, list) or not runs:
        return whole
    summed: Usage | None = None
    for run in runs[:RUNS_MAX]:
        read = _of_message(Report(run)) if isinstance(run, dict) else None
        if read is None:
            return msgspec.structs.replace(whole, clamped=True)
        summed = read if summed is None else add(summed, read)
    assert summed is not None
    return msgspec.structs.replace(
        summed,
        reasoning=min(summed.reasoning or whole.reasoning, summed.output),
        searches=whole.searches,
        clamped=summed.clamped or whole.clamped or len(runs) > RUNS_MAX,
    )


def of_media(usage: dict[str, Any]) -> Usage | None:
    """Read the usage of an image endpoint, of speech, or of a transcription, which is tokens or a length in seconds.

    What an answer without usage is paid by may stand here in its place, put there by the caller: `{"images": n}`,
    `{"characters": n}`. It counts only where there are no tokens, so that nothing is paid for twice.
    """
    sound = usage.get("input_token_details") is not None or usage.get("output_token_details") is not None
    read = _of_wholes(usage, *(_SOUND if sound else (_INPUT, _OUTPUT)))
    return read if read is not None else _of_pieces(Report(usage))


def of_realtime(usage: dict[str, Any]) -> Usage | None:
    """Read the usage of a realtime answer (`response.done`), or of the transcription of what was said to it."""
    read = _of_wholes(usage, *_SOUND)
    return read if read is not None else _of_pieces(Report(usage))


def of_generic(usage: dict[str, Any]) -> Usage | None:
    """Read the usage of an endpoint that is not known better, under the names of any dialect (PROTOCOL 2.5, 9.3).

    Args:
        usage: A usage object; or an object that holds one as `usage`, and Cohere's counts of a rerank as `meta`, either
            or both of them. Of those, tokens are `usage`'s, else `meta`'s. Search units count besides: they are what
            Cohere bills, and cost nothing where they have no price.
    """
    inner, meta = usage.get("usage"), usage.get("meta")
    tokens = _of_any(inner if isinstance(inner, dict) else usage)
    if not isinstance(meta, dict):
        return tokens
    billed = _of_rerank(Report(meta), counts_tokens=tokens is None)
    return add(tokens, billed) if tokens is not None and billed is not None else tokens or billed


def add(one: Usage, other: Usage) -> Usage:
    """Return the usage of two answers together."""
    return Usage(
        **{name: getattr(one, name) + getattr(other, name) for name in _SUMMED},
        seconds=(one.seconds + other.seconds) or NOTHING,
        clamped=one.clamped or other.clamped,
    )


_SUMMED = tuple(name for name in Usage.__struct_fields__ if name not in ("seconds", "clamped"))


# What most upstreams send, read in one step.

_Count = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count = 0
    cache_write_tokens: _Count = 0
    cache_write_tokens_details: None = None
    audio_tokens: Literal[0] = 0
    image_tokens: Literal[0] = 0


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: _Count = 0
    audio_tokens: Literal[0] = 0


class _Plain(msgspec.Struct, gc=False):
    """The usage of most upstreams. Anything missing, null or odd in it, or of sound or pictures, is read exactly."""

    prompt_tokens: _Count
    completion_tokens: _Count
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: None = None


class _PlainResponse(msgspec.Struct, gc=False):
    """The same under the names that a response has for it. A subclass would keep the names of what it inherits."""

    prompt_tokens: _Count = msgspec.field(name="input_tokens")
    completion_tokens: _Count = msgspec.field(name="output_tokens")
    prompt_tokens_details: _PromptDetails | None = msgspec.field(name="input_tokens_details", default=None)
    completion_tokens_details: _CompletionDetails | None = msgspec.field(name="output_tokens_details", default=None)


def _of_plain(usage: dict[str, Any], kind: type[_Plain | _PlainResponse]) -> Usage | None:
    """Read the usual report. HOT: 0.6 us; None for one that has to be read exactly, which takes 5."""
    try:
        plain = msgspec.convert(usage, kind)
    except (msgspec.ValidationError, UnicodeError):  # the latter for half a character, which JSON can escape
        return None
    prompt, output = plain.prompt_tokens, plain.completion_tokens
    details, spent = plain.prompt_tokens_details, plain.completion_tokens_details
    cache_read, cache_write = (details.cached_tokens, details.cache_write_tokens) if details else (0, 0)
    reasoning = spent.reasoning_tokens if spent else 0
    rest = prompt - cache_read - cache_write
    if rest < 0 or reasoning > output:
        return None
    return Usage(rest, cache_read, cache_write, output, reasoning)


# Everything else, read member by member.


class _Whole(NamedTuple):
    """Where a dialect reports a count that contains its parts, and where the parts."""

    name: str
    details: str


_PROMPT = _Whole("prompt_tokens", "prompt_tokens_details")
_COMPLETION = _Whole("completion_tokens", "completion_tokens_details")
_INPUT = _Whole("input_tokens", "input_tokens_details")
_OUTPUT = _Whole("output_tokens", "output_tokens_details")
_SOUND = (_Whole("input_tokens", "input_token_details"), _Whole("output_tokens", "output_token_details"))


def _of_wholes(usage: dict[str, Any], prompt_at: _Whole, output_at: _Whole) -> Usage | None:
    """Read a report whose prompt and completion contain their parts; of the two and their total one may be missing."""
    report = Report(usage)
    hit, miss = report.count("prompt_cache_hit_tokens"), report.count("prompt_cache_miss_tokens")
    prompt, output, total = report.count(prompt_at.name), report.count(output_at.name), report.count("total_tokens")
    if prompt is None and miss is not None:
        prompt = miss + (hit or 0)
    if prompt is None and output is None and total is None:
        return None
    if prompt is None:
        prompt = report.remainder(total, output)
    if output is None:
        output = report.remainder(total, prompt) if total is not None else 0
    cache_write = cache_write_long = audio_in = image_in = audio_out = reasoning = 0
    if usage.get(prompt_at.details):
        cached = report.count("cached_tokens", prompt_at.details)
        cache_read = report.part(hit if cached is None else cached, prompt)
        cache_write, cache_write_long = _written(report, prompt_at.details, prompt - cache_read)
        fresh = prompt - cache_read - cache_write - cache_write_long
        audio_in, image_in = _by_kind(report, prompt_at.details, prompt, fresh)
    else:
        cache_read = report.part(hit, prompt)
    if usage.get(output_at.details):
        audio_out = report.part(report.count("audio_tokens", output_at.details), output)
        reasoning = report.part(report.count("reasoning_tokens", output_at.details), output - audio_out)
    return Usage(  # by position: msgspec matches keywords in quadratic time
        prompt - cache_read - cache_write - cache_write_long - audio_in - image_in,
        cache_read,
        cache_write,
        output - audio_out,
        reasoning,
        cache_write_long,
        audio_in,
        image_in,
        audio_out,
        clamped=report.clamped,
    )


def _written(report: Report, details: str, bound: int) -> tuple[int, int]:
    """Return the tokens that were written to a cache for a short and for a long time."""
    by_time = (details, "cache_write_tokens_details")
    return report.split(
        report.count("cache_write_tokens", details),
        report.count("ttl_30m_tokens", *by_time),
        report.count("ttl_12h_tokens", *by_time),
        bound,
    )


def _by_kind(report: Report, details: str, prompt: int, fresh: int) -> tuple[int, int]:
    """Return the tokens of sound and of pictures that are neither read from a cache nor written to one.

    Which kind was cached is told by realtime alone. Elsewhere the kinds get what the caches leave of the prompt, and
    that they would be more is no contradiction.
    """
    audio = report.part(report.count("audio_tokens", details), prompt)
    image = report.part(report.count("image_tokens", details), prompt - audio)
    if audio or image:
        cached = (details, "cached_tokens_details")
        audio -= report.part(report.count("audio_tokens", *cached), audio)
        image -= report.part(report.count("image_tokens", *cached), image)
    audio = min(audio, fresh)
    return audio, min(image, fresh - audio)


def _of_message(report: Report) -> Usage | None:
    """Read the counts of a message, or of one of its runs."""
    given, output = report.count("input_tokens"), report.count("output_tokens")
    if given is None and output is None:
        return None
    cache_write, cache_write_long = report.split(
        report.count("cache_creation_input_tokens"),
        report.count("ephemeral_5m_input_tokens", "cache_creation"),
        report.count("ephemeral_1h_input_tokens", "cache_creation"),
    )
    cache_read = report.count("cache_read_input_tokens") or 0
    given, output = report.needed(given), report.needed(output)
    return Usage(
        given,
        cache_read,
        cache_write,
        output,
        report.part(report.count("thinking_tokens", "output_tokens_details"), output),
        cache_write_long,
        searches=report.count("web_search_requests", "server_tool_use", most=UNITS_MAX) or 0,
        clamped=report.clamped,
    )


def _of_pieces(report: Report) -> Usage | None:
    """Read what is not paid for by tokens: a length, pictures, characters."""
    seconds = report.seconds("seconds")
    images = report.count("images", most=UNITS_MAX)
    characters = report.count("characters")
    if seconds is None and images is None and characters is None:
        return None
    return Usage(
        images=images or 0,
        seconds=seconds or NOTHING,
        characters=characters or 0,
        clamped=report.clamped,
    )


def _of_any(usage: dict[str, Any]) -> Usage | None:
    """Read a usage object under whatever names it has, those of chat first: some upstreams send two sets of them."""
    chat_prompt = usage.get("prompt_tokens") is not None
    is_message = "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage
    if is_message and not chat_prompt:
        return of_anthropic(usage)
    if chat_prompt or usage.get("completion_tokens") is not None:
        is_mixed = usage.get("completion_tokens") is None and usage.get("output_tokens") is not None
        prompt_at = _PROMPT if chat_prompt or usage.get("input_tokens") is None else _INPUT
        return _of_wholes(usage, prompt_at, _OUTPUT if is_mixed else _COMPLETION)
    return of_media(usage)


def _of_rerank(report: Report, *, counts_tokens: bool) -> Usage | None:
    """Read Cohere's `meta`."""
    given = report.count("input_tokens", "tokens") if counts_tokens else None
    searches = report.count("search_units", "billed_units", most=UNITS_MAX)
    if given is None and searches is None:
        return None
    output = report.count("output_tokens", "tokens") if counts_tokens else None
    return Usage(input=given or 0, output=output or 0, searches=searches or 0, clamped=report.clamped)
