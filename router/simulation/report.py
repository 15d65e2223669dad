"""What came of a simulation, for people: a table, and load, errors and waiting of each upstream over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from router.simulation.tally import BINS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from router.config.schema import Config
    from router.simulation.run import Result
    from router.simulation.scenario import Scenario
    from router.simulation.tally import Tally, UpstreamTally

WIDTH: Final = 100
"""Columns of every line at most."""
SHOWN_MAX: Final = 10
"""Upstreams that are shown; the others are summed up in a line."""
_NAME: Final = 18
_BARS: Final = " ▁▂▃▄▅▆▇█"


def report(config: Config, scenario: Scenario, seed: int, result: Result) -> str:
    """Return the whole text; the same run gives the same bytes."""
    shown = _shown(result.tally)
    parts = [
        _summary(config, scenario, seed, result),
        _clients(result.tally),
        _upstreams(result.tally, shown),
        _plots(scenario, result.tally, shown),
        _promises(result),
    ]
    return "\n".join(line[:WIDTH].rstrip() for part in parts for line in (*part, "")).rstrip("\n") + "\n"


def _summary(config: Config, scenario: Scenario, seed: int, result: Result) -> Iterator[str]:
    tally = result.tally
    yield (
        f"{tally.calls:,} calls in {_seconds(scenario.duration)} to {len(config.models):,} models on "
        f"{len(config.upstreams):,} upstreams; the last ended after {_seconds(result.ended_s)} (seed {seed})"
    )
    for fault in scenario.faults:
        until = f"to {_seconds(fault.until)}" if fault.until is not None else "to the end"
        share = f", {fault.share:.0%} of requests" if fault.share < 1 else ""
        yield f"  {_seconds(fault.at or 0.0):>7} {until}: {fault.upstream} {_FAULTS.get(fault.kind, fault.kind)}{share}"
    for change in scenario.reloads:
        weights = ", ".join(f"{name} {weight:g}" for name, weight in change.weights.items())
        yield f"  {_seconds(change.at):>7} reload: weights of {change.model}: {weights}"


_FAULTS: Final = {
    "die": "dies",
    "vanish": "vanishes",
    "hang": "hangs",
    "error": "answers 500",
    "overload": "answers 503",
    "rate_limit": "answers 429",
    "quota": "answers 402",
    "auth": "answers 401",
    "missing": "answers 404, no such model",
    "refuse": "answers 400",
    "garbage": "sends garbage",
    "empty": "sends empty streams",
    "cut": "cuts its answers",
    "slow": "is slow",
}


def _clients(tally: Tally) -> Iterator[str]:
    yield "clients"
    calls = max(tally.calls, 1)
    yield (
        f"  {tally.answered:,} calls answered ({tally.answered / calls:.3%}), {tally.failed:,} failed, "
        f"{tally.abandoned:,} left; their SDKs sent {tally.retried:,} retries"
    )
    statuses = ", ".join(f"{count:,} x {status or 'left'}" for status, count in sorted(tally.statuses.items()))
    yield f"  requests: {statuses}"
    reasons = [(reason, count) for reason, count in tally.outcomes.most_common() if reason != "ok"]
    for reason, count in reasons[:6]:
        yield f"    {count:>11,}  {reason}"
    again = ", ".join(f"{count:,} took {number}" for number, count in sorted(tally.in_trouble.items()))
    yield f"  attempts: {again or 'never more than one'}"
    p50, p95, p99 = (_seconds(tally.ttft.quantile(share)) for share in (0.5, 0.95, 0.99))
    yield f"  to the first content: p50 {p50}, p95 {p95}, p99 {p99}"


def _upstreams(tally: Tally, shown: Sequence[str]) -> Iterator[str]:
    yield (
        f"{'upstream':<{_NAME}} {'attempts':>10} {'share':>6} {'failed':>9} {'peak':>7} "
        f"{'p50':>7} {'p95':>7} {'out':>4}  most failed by"
    )
    total = max(1, sum(sum(each.attempts) for each in tally.upstreams.values()))
    for name in shown:
        each = tally.upstreams[name]
        attempts, failed = sum(each.attempts), sum(each.failed)
        causes = [str(cause) for cause, _ in each.causes.most_common() if cause not in {"ok", "http_4xx"}]
        yield (
            f"{_name(name)} {attempts:>10,} {attempts / total:>6.1%} {failed:>9,} {each.peak:>7,} "
            f"{_seconds(each.waits.quantile(0.5)):>7} {_seconds(each.waits.quantile(0.95)):>7} "
            f"{each.ejected + each.cooled:>4,}  {causes[0] if failed and causes else ''}"
        )
    others = [each for name, each in tally.upstreams.items() if name not in shown]
    if others:
        attempts, failed = sum(sum(each.attempts) for each in others), sum(sum(each.failed) for each in others)
        yield f"{f'{len(others):,} others':<{_NAME}} {attempts:>10,} {attempts / total:>6.1%} {failed:>9,}"


def _plots(scenario: Scenario, tally: Tally, shown: Sequence[str]) -> Iterator[str]:
    bin_s = scenario.duration / BINS
    rulers = [f"{0:<15}", *(f"{_seconds(scenario.duration * quarter / 4):<15}" for quarter in (1, 2, 3))]
    yield f"{'over time':<{_NAME}} {'':<7} {''.join(rulers)}{_seconds(scenario.duration)}"
    requests = [count / bin_s for count in tally.client_requests]
    errors = [count / bin_s for count in tally.client_errors]
    yield from _rows("clients", [("ended", requests, "/s"), ("errors", errors, "/s")], always=1)
    for name in shown:
        each: UpstreamTally = tally.upstreams[name]
        if not each.peak:
            continue
        failed = [count / bin_s for count in each.failed]
        waits = [("waits", each.mean_waits(), "s")]
        queue = [("queue", each.waiting, "")]
        yield from _rows(name, [("load", each.in_flight, ""), ("errors", failed, "/s"), *waits, *queue], always=1)


def _rows(name: str, rows: list[tuple[str, list[float], str]], *, always: int) -> Iterator[str]:
    """One line for each quantity that is ever above zero; the first `always` in any case."""
    first = True
    for index, (title, values, unit) in enumerate(rows):
        values = values[:BINS]  # noqa: PLW2901 (what ended after the duration is in the totals alone)
        top = max(values)
        if not top and index >= always:
            continue
        high = _seconds(top) if unit == "s" else f"{top:,.0f}{unit}" if top >= 10 else f"{top:.2g}{unit}"
        yield f"{_name(name) if first else ' ' * _NAME} {title:<7} {_line(values, top)} max {high}"
        first = False


def _line(values: list[float], top: float) -> str:
    """Bars from nothing to the highest value; whatever is above zero is seen."""
    steps = len(_BARS) - 1
    return "".join(_BARS[max(1, round(value / top * steps)) if value else 0] for value in values)


def _promises(result: Result) -> Iterator[str]:
    audit = result.audit
    if not audit.count:
        yield "every promise kept: one end for each, nothing left in flight or reserved, nobody refused needlessly"
        return
    yield f"{audit.count:,} promises broken"
    for text in audit.broken:
        yield from (f"  {text}"[start : start + WIDTH] for start in range(0, len(text) + 2, WIDTH))


def _shown(tally: Tally) -> list[str]:
    """The upstreams to show, in the order of the file: if there are many, those with most failures and most work."""
    names = list(tally.upstreams)
    if len(names) <= SHOWN_MAX:
        return names
    telling = sorted(names, key=lambda name: (-sum(tally.upstreams[name].failed), -sum(tally.upstreams[name].attempts)))
    chosen = set(telling[:SHOWN_MAX])
    return [name for name in names if name in chosen]


def _name(name: str) -> str:
    return f"{name if len(name) <= _NAME else name[: _NAME - 1] + '…':<{_NAME}}"


def _seconds(value: float) -> str:
    if value < 1:
        return f"{value * 1000:.0f}ms" if value else "-"
    if value < 100:
        return f"{value:.2f}".rstrip("0").rstrip(".") + "s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes}m{seconds:02d}s" if minutes < 100 else f"{minutes:,}m"
