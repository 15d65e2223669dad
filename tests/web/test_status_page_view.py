"""What the status page says, whoever draws it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pytest

from router.status.snapshot import TROUBLE
from router.web.status_page_view import CURVE_HEIGHT, CURVE_WIDTH, STATES, build
from tests.web.snapshots import HOSTILE, event, hostile, key, member, model, state, upstream

if TYPE_CHECKING:
    from router.web.status_page_view import Table, View


def table(view: View, name: str) -> Table:
    return next(table for table in view.tables if table.id == name)


def cells(view: View, name: str, row: int = 0) -> dict[str, str]:
    """A row by its column's labels; of two with one label the last."""
    shown = table(view, name)
    texts = [
        cell.text or " | ".join(" ".join(text for text, _ in line) for line in cell.lines) for cell in shown.rows[row]
    ]
    return dict(zip([column.label for column in shown.columns], texts, strict=True))


def test_the_strip_tells_how_it_does() -> None:
    """The most important figures, each with its word, before any table."""
    view = build(state())
    assert {label: value for label, value, _ in (*view.strip, *view.facts)} == {
        "requests/s": "10.6",
        "success, 5 min": "99.94 %",
        "TTFT p95, 5 min": "397 ms",
        "in flight": "11",
        "open streams": "9",
        "limits refused, 5 min": "0",
        "clients connected": "28",
        "to upstreams": "40, 12 idle",
        "bodies held": "1.5 MB",
        "version": "0.1.0",
        "up": "66 min",
        "configuration": "0123456789ab, 5 min old",
    }
    assert view.alarms == []


def test_an_upstream_in_a_row() -> None:
    """Everything known of an upstream stands in its row."""
    out = [
        {"why": "rate_limit", "model": "gpt", "credential": 2, "for_s": 20.4},
        {"why": "probation", "model": "", "credential": None, "for_s": 0.0},
    ]
    error = {"reason": "http_429", "age_s": 31.0}
    shown = upstream(state="cooling", since_s=61.0, out=out, more_out=3, last_error=error)
    assert cells(build(state(upstreams=[shown])), "upstreams") == {
        "upstream": "openai",
        "state": "cooling",
        "since": "61 s",
        "weight": "3",
        "share": "75 %",
        "in flight": "4/64",
        "attempts": "1234",
        "ok": "98.7 %",
        "TTFT p50": "151 ms",
        "p95": "1.20 s",
        "tok/s": "292",
        "out, for how long": "gpt key 2: rate_limit, 20 s | upstream: probation | and 3 more",
        "last error, ago": "http_429, 31 s",
    }


def test_a_model_in_a_row() -> None:
    """Its members in their order with what keeps them from being picked, and how its requests fare."""
    members = [
        member("openai"),
        member("azure", model="gpt-prod", weight=1.0, share=None, eligible=False, why="cooling: quota, 5 s left"),
    ]
    view = build(state(models=[model(members=members, more_members=7, targets=2)]))
    assert cells(view, "models") == {
        "model": "gpt",
        "pool: tier, upstream, weight, share of answers": "1 openai 3 75 % eligible"
        " | 1 azure as gpt-prod 1 - cooling: quota, 5 s left |  and 7 more   ",
        "eligible": "1/2",
        "in flight": "5",
        "streams": "4",
        "requests": "1659",
        "failed": "2",
        "success": "99.88 %",
        "TTFT p50": "156 ms",
        "p95": "310 ms",
    }


def test_a_key_in_a_row() -> None:
    """What is left of each limit; a dash where there is none."""
    view = build(state(keys=[key(tokens_left=None, tokens_per_minute=None, tokens_reset_s=None, requests_left=0)]))
    shown = cells(view, "keys")
    assert (shown["key"], shown["state"], shown["in flight"]) == ("team", "valid", "5/50")
    assert (shown["requests left"], shown["a minute"], shown["tokens left"]) == ("0/100", "600", "-")


def test_states_have_word_tone_and_order() -> None:
    """Each state of an upstream has its own word and tone, and sorts by how bad it is."""
    assert tuple(STATES) == TROUBLE
    view = build(state(upstreams=[upstream(state=name) for name in reversed(TROUBLE)]))
    shown = [row[1] for row in table(view, "upstreams").rows]
    assert len({cell.text for cell in shown}) == len({cell.tone for cell in shown}) == len(TROUBLE)
    assert [cell.order for cell in shown] == sorted((cell.order for cell in shown), reverse=True)


def test_what_is_wrong_comes_first() -> None:
    """A refused file with its first fault and age, a model nobody can serve, a drain: each is an alarm."""
    view = build(
        state(
            draining=True,
            config={
                "age_s": 3.0,
                "refused": {"age_s": 65.0, "faults": ["router.yaml:3:1: listen: no", "two", "three"]},
            },
            models=[model(name, eligible=0) for name in "abcdefg"],
        )
    )
    assert view.alarms == [
        (
            "Configuration refused 65 s ago, an older one runs: router.yaml:3:1: listen: no (and 2 more)",
            "bad",
        ),
        ("Draining: nothing new is taken, what is in flight is finished", "warn"),
        ("Nobody can serve: a, b, c, d, e and 2 more", "bad"),
    ]
    assert ("configuration", "0123456789ab, 3 s old", "bad") in view.facts


def test_what_was_left_out_is_counted() -> None:
    """A page that shows a part says so, and where the rest is."""
    view = build(state(more={"upstreams": 3, "models": 0, "keys": 450}))
    assert table(view, "upstreams").note == "the worst are shown; 3 more upstreams are in /status.json"
    assert table(view, "models").note == ""
    assert table(view, "keys").note == "the busiest are shown; 450 more keys are in /status.json"


def test_an_empty_daemon_has_a_view() -> None:
    """Without keys, events, answers and curves it says so instead of failing."""
    window = dict.fromkeys(("requests", "requests_per_s", "failed", "limit_refusals"), 0)
    window |= {"seconds": 0.0, "success": None, "ttft_p50_s": None, "ttft_p95_s": None}  # type: ignore[dict-item]
    curves = dict.fromkeys(("requests_per_s", "errors_per_s", "open_streams", "ttft_p95_s"), ())
    view = build(state(upstreams=[], models=[], keys=[], events=[], window=window, curves=curves))
    assert [len(shown.rows) for shown in view.tables] == [0, 0, 0, 0]
    assert table(view, "keys").note.startswith("none configured")
    assert [curve.path for curve in view.curves] == [""] * 4


@pytest.mark.parametrize(
    ("what", "why", "tone"),
    [
        ("ejected", "", "bad"),
        ("restored", "", "ok"),
        ("cooled", "", "cool"),
        ("limit", "", "warn"),
        ("info", "", ""),
        ("warning", "", "warn"),
        ("error", "", "bad"),
        ("reload", "applied: d2", "ok"),
        ("reload", "refused: router.yaml", "bad"),
    ],
)
def test_events_have_their_tone(what: str, why: str, tone: str) -> None:
    """What went wrong is told from what went well at a glance, and by its word."""
    cell = table(build(state(events=[event(what=what, why=why)])), "events").rows[0][1]
    assert (cell.text, cell.tone) == (what, tone)


def test_curves_stay_in_their_frame() -> None:
    """However long the history and whatever its values: inside the frame, the last at its edge, gaps left open."""
    points = [None, 0.0, 5.0, None, 1e9, 3.0]
    path = build(state(curves=state()["curves"] | {"ttft_p95_s": points * 10})).curves[3].path
    assert path.count("M") == path.count("Z") == 20
    xs = [int(x) for x in re.findall(r"[ML](-?\d+),", path)]
    ys = [int(y) for y in re.findall(r",(-?\d+)", path)]
    assert (min(xs), max(xs)) == (4, CURVE_WIDTH)
    assert 0 <= min(ys) <= max(ys) <= CURVE_HEIGHT + 2
    assert re.fullmatch(r"[MLVZ0-9,-]*", path)


def test_no_hostile_character_is_left() -> None:
    """Wherever a name or a reason stands, what cannot be seen or drives a terminal is replaced, for every reader."""
    shown = msgspec.json.encode(build(hostile())).decode()
    assert not re.search(r"[\u202e\u200b]|\\u00|\\n", shown)
    assert shown.count("gpj.?[2J??&amp;") >= 10
    assert "\u202e" in HOSTILE
