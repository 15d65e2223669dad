"""Whole runs: the same seed, the same bytes; and the command, as it is typed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from router.cli import main
from router.config.schema import Count, Seconds
from router.simulation.report import report
from router.simulation.run import simulate
from router.simulation.scenario import Behaviour, Kind, Traffic
from router.simulation.worlds import world

from .scenes import equals, fault, play, scenario

ROOT = Path(__file__).parents[2]
EXAMPLE = ("config/examples/self-hosted.yaml", "config/examples/scenarios/one-dies.yaml")


def test_the_same_seed_gives_the_same_bytes() -> None:
    """Whatever is drawn, a run can be repeated exactly; another seed gives another run."""
    for seed in range(20):
        config, story = world(seed)
        once, twice = (report(config, story, seed, simulate(config, story, seed)) for _ in range(2))
        assert once == twice
    settings, story = equals(3), scenario(fault(Kind.DIE))
    assert play(settings, story, 1).tally.statuses != play(settings, story, 2).tally.statuses


def test_hashes_do_not_matter() -> None:
    """Another process, with other hashes of names, comes to the same bytes."""
    told = [
        subprocess.run(
            (sys.executable, "-m", "router", "simulate", "--seed", "11"),
            cwd=ROOT, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert told[0] == told[1]
    assert told[0]


def test_a_run_without_trouble_answers_everybody() -> None:
    """Where nothing is wrong nothing fails, nothing is ejected, and nothing is tried twice."""
    result = play(equals(4), scenario(rate=200))
    assert result.tally.answered == result.tally.calls == result.tally.ended
    assert not result.tally.changes
    assert not result.tally.in_trouble


def test_what_waits_is_seen() -> None:
    """With fewer slots than are needed requests wait at the upstream, and longer than they work."""
    narrow = Behaviour(slots=Count(5), queue=Count(100))
    result = play(equals(1), scenario(rate=4, behaviour=narrow, traffic=(Traffic(model="m", rate=4, retries=0),)))
    assert max(result.tally.upstreams["u0"].waiting) > 10
    assert result.tally.ttft.quantile(0.9) > 5


def test_a_later_start_and_an_end_after_the_last_request() -> None:
    """The run lasts until the last answer, and clients come in their time."""
    traffic = (Traffic(model="m", rate=10, start=Seconds(50), retries=0),)
    result = play(equals(1), scenario(traffic=traffic))
    assert sum(result.tally.client_requests[:50]) == 0
    assert result.ended_s > 60


# The command


def test_the_command_tells_what_happens(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`simulate CONFIG SCENARIO` prints the report, the speed on standard error, and needs no secret."""
    monkeypatch.chdir(ROOT)
    assert main(("simulate", *EXAMPLE)) == 0
    told = capsys.readouterr()
    assert "gpu-2 dies" in told.out
    assert "(seed 1)" in told.out
    assert re.fullmatch(r"[\d,]+ requests in [\d.]+ s: [\d,]+/s\n", told.err)


def test_another_seed_is_another_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`--seed` takes the place of the scenario's; without files it shows the world of that number."""
    monkeypatch.chdir(ROOT)
    assert main(("simulate", *EXAMPLE, "--seed", "5")) == 0
    assert "(seed 5)" in capsys.readouterr().out
    assert main(("simulate", "--seed", "5")) == 0
    config, story = world(5)
    assert capsys.readouterr().out == report(config, story, 5, simulate(config, story, 5))


def test_a_faulty_scenario_is_told_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 78, every fault as file, line, column and path, and nothing on standard output."""
    path = tmp_path / "scenario.yaml"
    path.write_text("duration: 1m\ntraffic: [{model: qwen3-32b, key: search, rate: fast}]\nfalts: []\n")
    assert main(("simulate", str(ROOT / EXAMPLE[0]), str(path))) == 78
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        f"{path}:2:49: traffic[0].rate: expected a number, found 'fast'",
        f"{path}:3:1: falts: unknown setting, did you mean 'faults'?",
        "2 fault(s); mend the file and run this again",
    ]


@pytest.mark.parametrize("words", [(), ("a.yaml",), ("a.yaml", "--seed", "1"), ("--seed", "-1"), ("--seed", "x")])
def test_a_wrong_command_line_is_told(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Both files, or a seed alone: anything else is status 2 with the usage."""
    with pytest.raises(SystemExit) as ended:
        main(("simulate", *words))
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: llm-router simulate")


def test_the_help_fits_a_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than 24 lines of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(("simulate", "--help"))
    told = capsys.readouterr().out.splitlines()
    assert len(told) <= 24
    assert max(map(len, told)) <= 80
