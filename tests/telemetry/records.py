"""Events as the data path emits them."""

from __future__ import annotations

from typing import Any

from router.events import Attempt, ExchangeEnded, Outcome, Phase, Side, Usage


def attempt(upstream: str = "openai", cause: str = "ok", **changes: Any) -> Attempt:
    usual: dict[str, Any] = {"duration_s": 1.4, "status": 200 if cause == "ok" else 0, "model": "gpt-up"}
    return Attempt(upstream=upstream, cause=cause, **(usual | changes))


def ended(**changes: Any) -> ExchangeEnded:
    """A stream that `openai` answered at the first attempt, except for `changes`."""
    usual: dict[str, Any] = {
        "request_id": "req_1",
        "endpoint": "chat",
        "key": "team",
        "model": "gpt",
        "upstream": "openai",
        "stream": True,
        "status": 200,
        "outcome": Outcome.OK,
        "ended_by": Side.UPSTREAM,
        "phase": Phase.RELAYING,
        "complete": True,
        "attempts": (attempt(head_s=0.3),),
        "duration_s": 1.5,
        "overhead_s": 0.0004,
        "ttft_s": 0.5,
        "tpot_s": 0.02,
        "max_gap_s": 0.0625,
        "usage": Usage(input=10, cache_read=5, cache_write=2, output=40, reasoning=16),
        "exact": True,
        "reserved_tokens": 100,
        "charged_tokens": 57,
        "request_bytes": 1000,
        "response_bytes": 4000,
    }
    return ExchangeEnded(**(usual | changes))
