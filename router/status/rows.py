"""Rows of the snapshot: a member of a pool, what of an upstream is out, a key and what is left of its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.policy.outcomes import VERDICTS, Blame, Cause, Cools
from router.telemetry.history import quantile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from router.policy.catalogue import Route
    from router.policy.keys import KeyState
    from router.policy.target import Target, UpstreamState

Row = dict[str, Any]


def whole(count: int | None) -> int | None:
    """Return a limit of the configuration as JSON takes it."""
    return None if count is None else int(count)


def ttft(buckets: Sequence[float]) -> Row:
    """Return the median and the 95th percentile; null if nothing was answered."""
    return {"ttft_p50_s": quantile(0.5, buckets), "ttft_p95_s": quantile(0.95, buckets)}


def is_failure(outcome: str) -> bool:
    """Whether an attempt says something against its upstream or our account there, and not of client or request."""
    try:
        verdict = VERDICTS[Cause(outcome)]
    except ValueError:
        return True
    return verdict.blame in (Blame.SOFT, Blame.HARD) or verdict.cools is not Cools.NONE


def ok_share(outcomes: Mapping[str, float]) -> float | None:
    """Return which share of the attempts that say something of their upstream were good ones."""
    failed = sum(count for outcome, count in outcomes.items() if is_failure(outcome))
    judged = failed + outcomes.get("ok", 0.0)
    return outcomes.get("ok", 0.0) / judged if judged else None


def latest_errors(seen: Mapping[tuple[str, ...], float]) -> dict[str, tuple[str, float]]:
    """The last failure of each upstream and when it was seen. There is no event for it: the cells' steps tell."""
    errors: dict[str, tuple[str, float]] = {}
    for (upstream, outcome), at in seen.items():
        if is_failure(outcome) and (upstream not in errors or at >= errors[upstream][1]):
            errors[upstream] = (outcome, at)
    return errors


def out(upstream: UpstreamState, now: float) -> Iterator[Row]:
    """What of an upstream is out: the host, models, credentials; `for_s` is 0 while a probation request is awaited."""
    for model, breaker in (("", upstream.breaker), *upstream.breakers.items()):
        if breaker.open_until:
            for_s = max(0.0, breaker.open_until - now)
            yield {"why": "ejected" if for_s else "probation", "model": model, "credential": None, "for_s": for_s}
    credentials = upstream.settings.api_keys
    for (secret, model), cooldown in upstream.cooldowns.items():
        if cooldown.until > now:
            # The place in the file, never the reference: which it is shows there.
            number = credentials.index(secret) + 1 if len(credentials) > 1 and secret in credentials else None
            yield {
                "why": cooldown.reason.value,
                "model": model,
                "credential": number,
                "for_s": cooldown.until - now,
            }


def members(route: Route, most: int, now: float) -> list[Row]:
    """Return the members of a pool as configured, which of them may be picked now, and why the others may not."""
    targets: dict[tuple[str, str, int], list[Target]] = {}
    for target in route.pool.targets:
        targets.setdefault((target.upstream.name, target.label, target.tier), []).append(target)
    rows = []
    for member in route.members[:most]:
        label = member.model or route.name
        serving = targets.get((member.upstream, label, member.tier), [])
        eligible = any(target.eligible(now, 0) for target in serving)
        rows.append(
            {
                "tier": member.tier,
                "upstream": member.upstream,
                "model": label,
                "weight": member.weight,
                "eligible": eligible,
                "why": "" if eligible else _why_not(serving, now),
            }
        )
    return rows


def _why_not(targets: Sequence[Target], now: float) -> str:
    """Why none of a member's targets, one for each credential, may be picked: what is told of the one back soonest."""
    if not targets:
        return "weight 0"
    obstacles = min(targets, key=lambda target: target.back_at(now)).obstacles(now, 0)
    return "; ".join(
        f"{it.name.replace('_', ' ')}: {it.why}" + (f", {it.for_s:.0f} s left" if it.for_s is not None else "")
        for it in obstacles
    )


def limits_of(key: KeyState, slots: int | None, now: float) -> Row:
    """Return a key and what is left of its limits; `used` is the share of the limit that is nearest to its end."""
    limiter = key.limiter
    row: Row = {
        "name": key.name,
        "disabled": key.disabled,
        "in_flight": None,
        "concurrency": whole(slots),
        "requests_left": None,
        "request_burst": None,
        "requests_per_minute": None,
        "requests_reset_s": None,
        "tokens_left": None,
        "tokens_per_minute": None,
        "tokens_reset_s": None,
        "used": 0.0,
    }
    if limiter is None:
        return row
    row["in_flight"] = limiter.in_flight
    used = [limiter.in_flight / slots] if slots else [0.0]
    if limiter.requests is not None:
        per_minute, left, reset_s = limiter.requests.left(now)
        burst = limiter.requests.burst
        row |= {"requests_left": int(left), "request_burst": int(burst), "requests_per_minute": int(per_minute)}
        row["requests_reset_s"] = reset_s
        used.append(1 - left / burst)
    if limiter.tokens is not None:
        per_minute, left, reset_s = limiter.tokens.left(now)
        row |= {"tokens_left": int(left), "tokens_per_minute": int(per_minute), "tokens_reset_s": reset_s}
        used.append(1 - left / per_minute)
    row["used"] = max(used)
    return row
