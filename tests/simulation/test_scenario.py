from __future__ import annotations

from pathlib import Path

import pytest

from router.config.report import Report
from router.config.schema import Key, Limits, Member, Seconds, Secret
from router.errors import ConfigError
from router.simulation.scenario import Change, Kind, Traffic, check, load, matching

from .scenes import config, equals, fault, scenario

EXAMPLES = Path(__file__).parents[2] / "config/examples"

CONFIG = """\
upstreams:
  hosted: {base_url: "https://a.test/v1", api_key: {env: NOBODY_HAS_SET_THIS}}
  gpu: {base_url: "http://10.0.0.{1..2}:8000/v1"}
models:
  m: {pool: [hosted, gpu]}
"""
FAULTY = """\
duration: 2 minutes
traffic:
  - {model: n, rate: 10}
  - {model: m, rate: -1}
upstreams:
  gpu-3: {slots: 4}
faults:
  - {upstream: hosted, kind: dye, at: 5s}
  - {upstream: "gpu-*", at: 5s, until: 4s}
reloads:
  - {at: 5s, model: m, weights: {gpu: 0}}
surprise: 1
"""
FAULTS = [
    (1, 11, "duration: '2 minutes' is not a duration"),
    (3, 13, "traffic[0].model: no model serves 'n'"),
    (4, 22, "traffic[1].rate: must be at least 0.001"),
    (6, 3, "upstreams.gpu-3: no upstream is named 'gpu-3', did you mean 'gpu-2'?"),
    (8, 30, "faults[0].kind: 'dye' is not one of die,"),
    (9, 40, "faults[1].until: is not after `at`"),
    (11, 39, "reloads[0].weights.gpu: 'm' has no member at 'gpu'"),
    (12, 1, "surprise: unknown setting"),
]


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "router.yaml").write_text(CONFIG)
    return tmp_path / "router.yaml", tmp_path / "scenario.yaml"


def faults(paths: tuple[Path, Path], text: str | bytes) -> tuple[str, ...]:
    paths[1].write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(*paths)
    return caught.value.faults


def test_every_fault_is_told_with_its_place(paths: tuple[Path, Path]) -> None:
    """All faults of a scenario come at once, in their order, each with file, line, column, path and hint."""
    told = faults(paths, FAULTY)
    assert len(told) == len(FAULTS)
    for line, (row, column, text) in zip(told, FAULTS, strict=True):
        assert line.startswith(f"{paths[1]}:{row}:{column}: {text}")


def test_secrets_are_not_needed(paths: tuple[Path, Path]) -> None:
    """A configuration whose environment is missing can be simulated; its ranges are written out."""
    paths[1].write_text("duration: 1s\ntraffic: [{model: m, rate: 1}]\n")
    settings, story = load(*paths)
    assert set(settings.upstreams) == {"hosted", "gpu-1", "gpu-2"}
    assert story.traffic[0].retries == 2


def test_faults_of_the_configuration_are_told_first(paths: tuple[Path, Path]) -> None:
    """A configuration that the daemon would refuse is refused here, with its own name."""
    paths[0].write_text(CONFIG.replace("pool: [hosted", "pool: [hostde"))
    told = faults(paths, "duration: 1s\ntraffic: []\n")
    assert [line.partition(": ")[0] for line in told] == [f"{paths[0]}:5:14"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"duration: 1s\ntraffic: [", ": did not find expected node content"),
        (b"\xff", ":1:1: not UTF-8 text"),
        (b"", ":1:1: duration: is missing"),
        (b"duration: 1s\ntraffic: []", ":2:1: traffic: is empty"),
        (b"duration: 1s\ntraffic: [{model: m, rate: 1, start: 2s}]", "traffic[0].start: nobody would ever come"),
        (b"duration: 1s\ntraffic: [{model: m, rate: 1, key: k}]", ": traffic[0].key: no key is named 'k'"),
        (b"duration: 1d\ntraffic: [{model: m, rate: 1000}]", ":1:11: duration: asks for 86,400,000 requests"),
        (b"- 1", ":1:1: expected settings"),
    ],
)
def test_what_cannot_be_a_scenario_is_told(paths: tuple[Path, Path], text: bytes, told: str) -> None:
    """Whatever the file holds, it is a fault with a place and never an error of ours."""
    assert any(told in line for line in faults(paths, text)), text


def test_a_file_that_is_not_there_is_told(paths: tuple[Path, Path]) -> None:
    """Its name and the reason, in one line."""
    with pytest.raises(ConfigError, match=r"scenario\.yaml: cannot be read: No such file"):
        load(*paths)


def test_keys_are_checked_like_the_daemon_would() -> None:
    """Where keys are configured each source names one, which may use its model and is not disabled."""
    keys = {
        "off": Key(secret=Secret(sha256="0" * 64), disabled=True),
        "other": Key(secret=Secret(sha256="1" * 64), models=("x-*",)),
        "good": Key(secret=Secret(sha256="2" * 64), limits=Limits()),
    }
    settings = config(Member(upstream="u"), keys=keys)
    traffic = tuple(Traffic(model="m", rate=1, key=key) for key in (None, "off", "other", "good"))
    report = Report("f")
    check(scenario(traffic=traffic), settings, report)
    told = [line.rpartition(".key: ")[2] for line in report.lines()]
    assert told == [
        "is missing; the configuration has off, other, good",
        "'off' is disabled",
        "'other' may not use the model",
    ]


def test_names_and_patterns_stand_for_upstreams() -> None:
    """A fault names one upstream or several, and one that names none is told; so is a reload of an unknown model."""
    settings = equals(3)
    assert matching("u*", settings) == ("u0", "u1", "u2")
    assert matching("u1", settings) == ("u1",)
    report = Report("f")
    change = Change(at=Seconds(1), model="n", weights={})
    check(scenario(fault(Kind.DIE, "v*"), reloads=(change,)), settings, report)
    assert [line.partition(": ")[2] for line in report.lines()] == [
        "faults[0].upstream: no upstream is named 'v*'",
        "reloads[0].model: no model is named 'n'",
    ]


def test_the_example_fits_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario that comes with the router is good for the configuration that its first lines name."""
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    settings, story = load(EXAMPLES / "self-hosted.yaml", EXAMPLES / "scenarios/one-dies.yaml")
    assert {each.key for each in story.traffic} <= set(settings.keys)
    assert (
        "config/examples/self-hosted.yaml config/examples/scenarios/one-dies.yaml"
        in (EXAMPLES / "scenarios/one-dies.yaml").read_text()
    )
