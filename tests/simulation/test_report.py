from __future__ import annotations

import re

from router.config.schema import Seconds
from router.simulation.report import SHOWN_MAX, WIDTH, report
from router.simulation.run import simulate
from router.simulation.scenario import Change, Kind
from router.simulation.worlds import world

from .scenes import equals, fault, play, scenario


def lines(text: str) -> list[str]:
    assert text.endswith("\n")
    return text.splitlines()


def test_a_report_fits_a_terminal() -> None:
    """No line is longer than 100 columns, whatever happened and however long names are."""
    for seed in range(50):
        config, story = world(seed)
        told = lines(report(config, story, seed, simulate(config, story, seed)))
        assert max(map(len, told)) <= WIDTH
        assert not [line for line in told if line != line.rstrip()]


def test_a_report_says_what_happened() -> None:
    """Calls, faults and reloads with their times, statuses, each upstream with its failures, and the promises."""
    change = Change(at=Seconds(30), model="m", weights={"u1": 2.0})
    story = scenario(fault(Kind.DIE), fault(Kind.ERROR, "u1", share=0.2), reloads=(change,))
    result = play(equals(3), story)
    text = report(equals(3), story, 7, result)
    assert f"{result.tally.calls:,} calls in 60s to 1 models on 3 upstreams" in text
    assert "20s to 40s: u0 dies\n" in text
    assert "20s to 40s: u1 answers 500, 20% of requests\n" in text
    assert "30s reload: weights of m: u1 2\n" in text
    assert f"{result.tally.statuses[200]:,} x 200" in text
    row = re.search(r"(?m)^u0 +([\d,]+) +[\d.]+% +([\d,]+) .*  (\w+)$", text)
    assert row is not None
    assert int(row[1].replace(",", "")) == sum(result.tally.upstreams["u0"].attempts)
    assert int(row[2]) == sum(result.tally.upstreams["u0"].failed)
    assert text.endswith(
        "every promise kept: one end for each, nothing left in flight or reserved, nobody refused needlessly\n"
    )


def test_a_plot_shows_when_it_happened() -> None:
    """An upstream that is dead in the middle third has no load there, and its failures stand where they came."""
    story = scenario(fault(Kind.DIE), rate=100)
    text = report(equals(2), story, 7, play(equals(2), story))
    plot = text.partition("over time")[2]
    load = re.search(r"(?m)^u0 +load    (.{60}) max", plot)
    errors = re.search(r"(?m)^u0 .*\n +errors  (.{60}) max", plot)
    assert load is not None
    assert errors is not None
    assert load[1][22:40].strip() == ""
    assert " " not in load[1][:20]
    assert errors[1][:20].strip() == ""
    assert errors[1][20] != " "


def test_of_many_upstreams_the_telling_ones_are_shown() -> None:
    """Those that failed most; the others are one line, so that a thousand fit as well."""
    story = scenario(fault(Kind.ERROR, "u33"), duration=30, rate=100)
    told = lines(report(equals(40), story, 7, play(equals(40), story)))
    table = told[next(at for at, line in enumerate(told) if line.startswith("upstream")) :]
    names = [line.split()[0] for line in table[1 : SHOWN_MAX + 1]]
    assert "u33" in names
    assert table[SHOWN_MAX + 1].startswith(f"{40 - SHOWN_MAX} others ")


def test_a_broken_promise_is_told() -> None:
    """How many, and the first of them in words, however long."""
    result = play(equals(1), scenario())
    result.audit._tell(1012.5, "x" * 150)
    told = lines(report(equals(1), scenario(), 7, result))
    assert told[-3] == "1 promises broken"
    assert "".join(told[-2:]).replace(" ", "") == "at12.500s:" + "x" * 150


def test_an_unused_upstream_has_no_plot() -> None:
    """It stands in the table alone."""
    drained = Change(at=Seconds(0.001), model="m", weights={"u1": 0.0})
    story = scenario(reloads=(drained,))
    plot = report(equals(2), story, 7, play(equals(2), story)).partition("over time")[2]
    assert "u0" in plot
    assert "u1" not in plot
