"""Snapshots of a daemon as `router.status` makes them, for what is drawn from them."""

from __future__ import annotations

import time
from typing import Any

HOSTILE = "<script>window.hit=1</script>\"'><img src=x onerror=window.hit=1>\u202egpj.\x1b[2J\n\u200b&amp;{{7*7}}"
"""A name that is markup, quotes, control characters, and characters that cannot be seen or turn what follows around."""


def upstream(name: str = "openai", **changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "name": name, "state": "healthy", "since_s": 300.0, "weight": 3.0, "share": 0.75, "in_flight": 4, "limit": 64,
        "attempts": 1234, "ok": 0.9876, "ttft_p50_s": 0.151, "ttft_p95_s": 1.2, "output_tokens_per_s": 291.5, "out": [],
        "more_out": 0, "last_error": None,
    }  # fmt: skip
    return usual | changes


def member(name: str = "openai", **changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "tier": 1, "upstream": name, "model": "gpt", "weight": 3.0, "eligible": True, "why": "", "share": 0.75,
    }  # fmt: skip
    return usual | changes


def model(name: str = "gpt", **changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "name": name, "in_flight": 5, "open_streams": 4, "requests": 1659, "failed": 2, "success": 0.9988,
        "ttft_p50_s": 0.156, "ttft_p95_s": 0.31, "eligible": 1, "targets": 1, "members": [member()], "more_members": 0,
    }  # fmt: skip
    return usual | changes


def key(name: str = "team", **changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "name": name, "disabled": False, "in_flight": 5, "concurrency": 50, "requests_left": 99, "request_burst": 100,
        "requests_per_minute": 600, "requests_reset_s": 0.1, "tokens_left": 59_000, "tokens_per_minute": 60_000,
        "tokens_reset_s": 1.0, "used": 0.1,
    }  # fmt: skip
    return usual | changes


def event(**changes: Any) -> dict[str, Any]:
    now = time.time()
    usual: dict[str, Any] = {
        "at": now, "since": now, "what": "ejected", "who": "openai / gpt", "why": "consecutive, for 10 s", "count": 1,
    }  # fmt: skip
    return usual | changes


def state(**changes: Any) -> dict[str, Any]:
    """A snapshot of a small daemon that is well, except for `changes`."""
    usual: dict[str, Any] = {
        "version": "0.1.0", "uptime_s": 4000, "digest": "0123456789ab", "config": {"age_s": 300.0, "refused": None},
        "draining": False, "requests_in_flight": 11, "open_streams": 9, "client_connections": 28,
        "upstream_connections": 40, "idle_upstream_connections": 12,
        "request_body_bytes": 1_500_000, "spooled_body_bytes": 0,
        "window": {
            "seconds": 300.0, "requests": 3448, "requests_per_s": 10.6, "failed": 2, "success": 0.9994,
            "limit_refusals": 0, "ttft_p50_s": 0.15, "ttft_p95_s": 0.397,
        },
        "curves": {
            "step_s": 5.0, "requests_per_s": [1.0, 2.0], "errors_per_s": [0.0, 0.0], "open_streams": [3, 0],
            "ttft_p95_s": [None, 0.5],
        },
        "upstreams": [upstream()], "models": [model()], "keys": [key()], "events": [event()],
        "more": {"upstreams": 0, "models": 0, "keys": 0},
        "held": [{"what": "leases", "count": 0}], "tasks": 9, "timers": 0,
    }  # fmt: skip
    return usual | changes


def hostile() -> dict[str, Any]:
    """A snapshot in which every text that is not ours is hostile."""
    out = {"why": HOSTILE, "model": HOSTILE, "credential": 2, "for_s": 5.0}
    error = {"reason": HOSTILE, "age_s": 3.0}
    return state(
        config={"age_s": 1.0, "refused": {"age_s": 2.0, "faults": [HOSTILE, HOSTILE]}},
        upstreams=[upstream(HOSTILE, state="ejected", out=[out], last_error=error)],
        models=[
            model(HOSTILE, eligible=0, members=[member(HOSTILE, model="b" + HOSTILE, eligible=False, why=HOSTILE)])
        ],
        keys=[key(HOSTILE)],
        events=[event(what=HOSTILE, who=HOSTILE, why=HOSTILE)],
    )


def busy(rows: int) -> dict[str, Any]:
    """A snapshot with so many rows of everything, all with something to tell."""
    out = {"why": "ejected", "model": "gpt", "credential": None, "for_s": 21.0}
    error = {"reason": "disconnect_mid_stream", "age_s": 65.0}
    curve = [float(number % 13) for number in range(60)]
    return state(
        upstreams=[upstream(f"upstream-{number}", out=[out], last_error=error) for number in range(rows)],
        models=[model(f"model-{number}", members=[member()] * 3) for number in range(rows)],
        keys=[key(f"key-{number}") for number in range(rows)],
        events=[event(who=f"upstream-{number} / gpt", count=2) for number in range(100)],
        curves=dict.fromkeys(("requests_per_s", "errors_per_s", "open_streams", "ttft_p95_s"), curve),
    )
