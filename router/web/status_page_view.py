"""What the status page says, in words and figures: the snapshot as a strip, curves and tables.

One view for every reader: it is written as HTML and as text, and the page's script draws it again from JSON. So the
script knows nothing of upstreams. Names and reasons come from files and from servers: each leaves here in one visible
line.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from router.web.status_page_figures import (
    clock,
    count,
    known,
    percent,
    plain,
    rate,
    seconds,
    share,
    size,
    span,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

STATES = {
    "ejected": ("ejected", "bad"),
    "half_open": ("probation", "warn"),
    "cooling": ("cooling", "cool"),
    "draining": ("draining", "off"),
    "healthy": ("healthy", "ok"),
}
"""State to its word and tone, the worst first."""

TONES = {"ejected": "bad", "error": "bad", "warning": "warn", "cooled": "cool", "limit": "warn", "restored": "ok"}
"""What an event is to its tone."""

OBSTACLES = {"ejected": "bad", "host ejected": "bad", "cooling": "cool", "weight": "off"}
"""How what keeps a member from being picked begins, to its tone; the rest is on its way or full, which is `warn`."""

CURVE_WIDTH, CURVE_HEIGHT = 236, 40
"""Units of a curve's drawing: four for each of the 59 gaps between 60 steps."""


class Cell(msgspec.Struct, array_like=True, frozen=True):
    """One cell of a table."""

    text: str
    tone: str = ""
    """Space-separated: `ok`, `warn`, `bad`, `cool`, `off`, `dim`; `state` adds a shape to the colour, `n` a figure."""
    order: float | str = ""
    """What to sort by."""
    lines: tuple[tuple[tuple[str, str], ...], ...] = ()
    """In place of the text: lines, each of (text, tone)."""


class Column(msgspec.Struct, array_like=True, frozen=True):
    """The head of a column."""

    label: str
    tone: str = ""
    """`n`: figures, to the right."""
    about: str = ""


class Table(msgspec.Struct, frozen=True):
    """A table, or a word for why it has no rows."""

    id: str
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[tuple[Cell, ...]]
    note: str = ""


class Curve(msgspec.Struct, frozen=True):
    """Five minutes of one figure."""

    label: str
    now: str
    top: str
    """The figure at the upper edge."""
    path: str
    """SVG path data."""


class View(msgspec.Struct, frozen=True):
    """Everything the page says."""

    alarms: list[tuple[str, str]]
    """(text, tone), the worst first."""
    facts: list[tuple[str, str, str]]
    """What runs: (label, value, tone)."""
    strip: list[tuple[str, str, str]]
    """How it does: (label, value, tone)."""
    curves: list[Curve]
    tables: list[Table]


def build(state: Mapping[str, Any]) -> View:
    """Return the view of a snapshot."""
    return View(
        alarms=_alarms(state),
        facts=_facts(state),
        strip=_strip(state),
        curves=_curves(state["curves"], state["window"]),
        tables=[_upstreams(state), _models(state), _keys(state), _events(state)],
    )


def _alarms(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    alarms = []
    if refused := state["config"]["refused"]:
        fault = visible(refused["faults"][0]) if refused["faults"] else ""
        more = f" (and {len(refused['faults']) - 1} more)" if len(refused["faults"]) > 1 else ""
        when = span(refused["age_s"])
        alarms.append((f"Configuration refused {when} ago, an older one runs: {fault}{more}", "bad"))
    if state["draining"]:
        alarms.append(("Draining: nothing new is taken, what is in flight is finished", "warn"))
    out = [visible(row["name"]) for row in state["models"] if row["targets"] and not row["eligible"]]
    if out:
        more = f" and {len(out) - 5} more" if len(out) > 5 else ""
        alarms.append((f"Nobody can serve: {', '.join(out[:5])}{more}", "bad"))
    return alarms


def _facts(state: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    config = state["config"]
    refused = "bad" if config["refused"] else ""
    return [
        ("version", state["version"], ""),
        ("up", span(state["uptime_s"]), ""),
        ("configuration", f"{state['digest']}, {span(config['age_s'])} old", refused),
    ]


def _strip(state: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    window = state["window"]
    success, refusals = window["success"], window["limit_refusals"]
    return [
        ("requests/s", rate(window["requests_per_s"]), ""),
        ("success, 5 min", known(success, share), "" if success is None else _grade(success)),
        ("TTFT p95, 5 min", known(window["ttft_p95_s"], seconds), ""),
        ("in flight", count(state["requests_in_flight"]), ""),
        ("open streams", count(state["open_streams"]), ""),
        ("limits refused, 5 min", count(refusals), "warn" if refusals else ""),
        ("clients connected", count(state["client_connections"]), ""),
        (
            "to upstreams",
            f"{count(state['upstream_connections'])}, {count(state['idle_upstream_connections'])} idle",
            "",
        ),
        ("bodies held", size(state["request_body_bytes"] + state["spooled_body_bytes"]), ""),
    ]


def _curves(curves: Mapping[str, Any], window: Mapping[str, Any]) -> list[Curve]:
    return [
        _curve("requests/s", curves["requests_per_s"], rate, rate(window["requests_per_s"])),
        _curve("errors/s", curves["errors_per_s"], rate),
        _curve("open streams", curves["open_streams"], count),
        _curve("TTFT p95", curves["ttft_p95_s"], seconds),
    ]


def _curve(label: str, points: Sequence[float | None], shown: Callable[[float], str], now: str = "") -> Curve:
    top = max((point for point in points if point is not None), default=None)
    last = points[-1] if points else None
    return Curve(label, now or known(last, shown), known(top, shown), _path(points, top or 0.0))


def _path(points: Sequence[float | None], top: float) -> str:
    """Return filled areas, one for each run of points, the latest at the right edge."""
    parts, floor = [], CURVE_HEIGHT + 2  # below what is seen, so that the line closes out of sight
    begin = CURVE_WIDTH - 4 * (len(points) - 1)
    for run in _runs(points):
        drawn = [
            (begin + 4 * at, CURVE_HEIGHT - round((CURVE_HEIGHT - 2) * value / top) if top else CURVE_HEIGHT)
            for at, value in run
        ]
        if len(drawn) == 1:  # a line needs two
            drawn.append((drawn[0][0] + 1, drawn[0][1]))
        parts.append(f"M{drawn[0][0]},{floor}" + "".join(f"L{x},{y}" for x, y in drawn) + f"V{floor}Z")
    return "".join(parts)


def _runs(points: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Return the stretches of points that are known, each with its places."""
    runs: list[list[tuple[int, float]]] = []
    before: float | None = None
    for at, point in enumerate(points):
        if point is not None:
            if before is None:
                runs.append([])
            runs[-1].append((at, point))
        before = point
    return runs


def _upstreams(state: Mapping[str, Any]) -> Table:
    columns = (
        Column("upstream"), Column("state"), Column("since", "n"), Column("weight", "n", "over all pools"),
        Column("share", "n", "of all attempts, 5 min"), Column("in flight", "n", "of its limit"),
        Column("attempts", "n", "5 min"), Column("ok", "n", "of the attempts, 5 min"),
        Column("TTFT p50", "n", "of streams, 5 min"), Column("p95", "n", "TTFT of streams, 5 min"),
        Column("tok/s", "n", "output, 5 min"), Column("out, for how long"), Column("last error, ago"),
    )  # fmt: skip
    rows = [
        (
            _named(row["name"]),
            _state(row["state"]),
            _number(row["since_s"], span),
            _number(row["weight"], plain),
            _number(row["share"], percent),
            _number(row["in_flight"], count, of=row["limit"]),
            _number(row["attempts"], count),
            _number(row["ok"], share, _grade(row["ok"]) if row["ok"] is not None else ""),
            _number(row["ttft_p50_s"], seconds),
            _number(row["ttft_p95_s"], seconds),
            _number(row["output_tokens_per_s"], rate),
            _out(row["out"], row["more_out"]),
            _last_error(row["last_error"]),
        )
        for row in state["upstreams"]
    ]
    return Table("upstreams", "Upstreams", columns, rows, _more(state["more"]["upstreams"], "upstreams", "the worst"))


def _models(state: Mapping[str, Any]) -> Table:
    columns = (
        Column("model"), Column("pool: tier, upstream, weight, share of answers"),
        Column("eligible", "n", "targets that may be picked now"),
        Column("in flight", "n"), Column("streams", "n", "open"),
        Column("requests", "n", "5 min"), Column("failed", "n", "5 min"), Column("success", "n", "5 min"),
        Column("TTFT p50", "n", "of streams, 5 min"), Column("p95", "n", "TTFT of streams, 5 min"),
    )  # fmt: skip
    rows = [
        (
            _named(row["name"]),
            _pool(row),
            _number(row["eligible"], count, "" if row["eligible"] else "bad", of=row["targets"]),
            _number(row["in_flight"], count),
            _number(row["open_streams"], count),
            _number(row["requests"], count),
            _number(row["failed"], count, "bad" if row["failed"] else ""),
            _number(row["success"], share, _grade(row["success"]) if row["success"] is not None else ""),
            _number(row["ttft_p50_s"], seconds),
            _number(row["ttft_p95_s"], seconds),
        )
        for row in state["models"]
    ]
    return Table("models", "Models", columns, rows, _more(state["more"]["models"], "models", "the busiest"))


def _keys(state: Mapping[str, Any]) -> Table:
    columns = (
        Column("key"), Column("state"), Column("in flight", "n", "of its limit"),
        Column("requests left", "n", "of the burst"), Column("a minute", "n", "requests"),
        Column("refilled in", "n", "requests"), Column("tokens left", "n", "of a minute's worth"),
        Column("refilled in", "n", "tokens"), Column("used", "n", "of its tightest limit"),
    )  # fmt: skip
    rows = [
        (
            _named(row["name"]),
            Cell("disabled", "state off", 1) if row["disabled"] else Cell("valid", "state ok", 0),
            _number(row["in_flight"], count, of=row["concurrency"]),
            _number(row["requests_left"], count, "" if row["requests_left"] != 0 else "warn", of=row["request_burst"]),
            _number(row["requests_per_minute"], count),
            _number(row["requests_reset_s"], span),
            _number(row["tokens_left"], count, "" if row["tokens_left"] != 0 else "warn", of=row["tokens_per_minute"]),
            _number(row["tokens_reset_s"], span),
            _number(row["used"], percent),
        )
        for row in state["keys"]
    ]
    note = _more(state["more"]["keys"], "keys", "the busiest")
    return Table("keys", "Keys", columns, rows, note or ("" if rows else "none configured: open to this machine alone"))


def _events(state: Mapping[str, Any]) -> Table:
    columns = (Column("time, UTC"), Column("what"), Column("who"), Column("why"), Column("times", "n"))
    now = time.time()
    rows = [
        (
            Cell(clock(row["at"], now), "dim", row["at"]),
            Cell(visible(row["what"]), _event_tone(row), visible(row["what"])),
            _named(row["who"], ""),
            Cell(visible(row["why"]), "", visible(row["why"])),
            Cell(f"{row['count']}" if row["count"] > 1 else "", "n", row["count"]),
        )
        for row in state["events"]
    ]
    return Table("events", "Events", columns, rows, "" if rows else "none yet")


def _event_tone(row: Mapping[str, Any]) -> str:
    if row["what"] == "reload":
        return "bad" if row["why"].startswith("refused") else "ok"
    return TONES.get(row["what"], "")


def _state(state: str) -> Cell:
    word, tone = STATES[state]
    return Cell(word, f"state {tone}", list(STATES).index(state))


def _out(out: Sequence[Mapping[str, Any]], more: int) -> Cell:
    lines = []
    for it in out:
        subject = visible(it["model"]) or "upstream"
        whose = f" key {it['credential']}" if it["credential"] else ""
        how_long = f", {span(it['for_s'])}" if it["for_s"] else ""
        tone = {"ejected": "bad", "probation": "warn"}.get(it["why"], "cool")
        lines.append(((f"{subject}{whose}: {visible(it['why'])}{how_long}", f"state {tone}"),))
    if more:
        lines.append(((f"and {more} more", "dim"),))
    return Cell("", "", -min((it["for_s"] for it in out), default=-1e9), tuple(lines))


def _last_error(error: Mapping[str, Any] | None) -> Cell:
    if error is None:
        return Cell("-", "dim", 1e12)
    return Cell(f"{visible(error['reason'])}, {span(error['age_s'])}", "", error["age_s"])


def _pool(row: Mapping[str, Any]) -> Cell:
    lines = []
    for member in row["members"]:
        other = f" as {visible(member['model'])}" if member["model"] != row["name"] else ""
        lines.append(
            (
                (f"{member['tier']}", "dim"),
                (visible(member["upstream"]) + other, ""),
                (plain(member["weight"]), "n dim"),
                (known(member["share"], percent), "n"),
                ("eligible", "state ok") if member["eligible"] else _obstacle(member["why"]),
            )
        )
    if row["more_members"]:
        lines.append((("", ""), (f"and {row['more_members']} more", "dim"), ("", ""), ("", ""), ("", "")))
    return Cell("", "", len(lines) + row["more_members"], tuple(lines))


def _obstacle(why: str) -> tuple[str, str]:
    tone = next((tone for word, tone in OBSTACLES.items() if why.startswith(word)), "warn")
    return visible(why), f"state {tone}"


def _more(hidden: int, what: str, which: str) -> str:
    return f"{which} are shown; {hidden} more {what} are in /status.json" if hidden else ""


def _grade(good: float) -> str:
    return "ok" if good >= 0.99 else "warn" if good >= 0.9 else "bad"


def _named(name: str, tone: str = "name") -> Cell:
    """Return the cell of a name."""
    shown = visible(name)
    return Cell(shown, tone, shown.lower())


def _number(value: float | None, shown: Callable[[float], str], tone: str = "", *, of: float | None = None) -> Cell:
    """Return the cell of a figure, with its bound if it has one."""
    if value is None:
        return Cell("-", "n dim", -1)
    text = shown(value) if of is None else f"{shown(value)}/{shown(of)}"
    return Cell(text, f"n {tone}".rstrip(), value)
