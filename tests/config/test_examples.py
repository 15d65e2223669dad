"""The example configurations: what a newcomer does with them, with the real command."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from router.config.loader import load
from router.config.presets import PRESETS
from router.config.schema import PIN_FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "config/examples").glob("*.yaml"))
SEVERAL = ROOT / "config/examples/several-files/router.yaml"
EXPORTED = re.compile(r"(\w+)=…")


def name(path: Path) -> str:
    return path.stem


def values(node: Any, setting: str) -> Iterator[Any]:
    """Every value that stands under a setting of this name, wherever that is."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and setting in node:
        yield node[setting]
    for child in children:
        yield from values(child, setting)


def variables(path: Path, end: str = "\nlisten:") -> dict[str, str]:
    """The environment that the head of an example asks for."""
    head = path.read_text().partition(end)[0]
    return {variable: f"secret of {variable}" for variable in EXPORTED.findall(head)}


def check(path: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "router", "check", "-c", str(path))
    return subprocess.run(command, cwd=ROOT, env=dict(environ), capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A copy of the example in several files, to change."""
    shutil.copytree(SEVERAL.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / SEVERAL.name


def test_there_is_an_example_of_each_kind() -> None:
    """A reseller, a self-hosted and a mixed set-up each find theirs."""
    assert [name(path) for path in EXAMPLES] == ["mixed", "reseller", "self-hosted"]


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_an_example_is_good_once_its_secrets_are_set(path: Path) -> None:
    """With the variables that its first lines name, and nothing else, `llm-router check` finds no fault."""
    checked = check(path, variables(path))
    assert (checked.returncode, checked.stderr) == (0, "")
    assert f"{path.name}: good" in checked.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_an_example_says_which_secrets_it_wants(path: Path) -> None:
    """Its first lines name every variable that is missing, and `check` tells each of them with line and column."""
    checked = check(path, {})
    assert checked.returncode == 78
    told = re.findall(r"\.yaml:\d+:\d+: upstreams\.\S+: environment variable (\w+) is not set", checked.stderr)
    assert set(told) == set(variables(path)) == set(values(yaml.safe_load(path.read_text()), "env"))


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_an_example_keeps_no_door_open(path: Path) -> None:
    """Its keys are hashes of secrets that nobody has, each another one: whoever forgets to change them is safe."""
    digests = [key["secret"]["sha256"] for key in yaml.safe_load(path.read_text())["keys"].values()]
    others = "".join(other.read_text() for other in EXAMPLES if other != path)
    assert digests
    assert len(set(digests)) == len(digests)
    assert not [digest for digest in digests if digest in others]


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_an_example_prices_what_it_serves(path: Path) -> None:
    """Every model has a price, so that no cost is unknown, and every upstream is of a kind that is known by name."""
    config = load(path, environ=variables(path)).config
    assert [model for model, settings in config.models.items() if settings.price is None] == []
    assert {settings.preset for settings in config.upstreams.values()} <= set(PRESETS)


SPOILT = {
    "preset": ("reseller", "preset: groq", "preset: grok", "grok", "upstreams.groq.preset: no preset is named 'grok'"),
    "price": ("reseller", "image: 0.02", "image: cheap", "cheap", "models.dall-e-2.price.image: expected an amount"),
    "pin": ("mixed", "{files: openai", "{flies: openai", "openai", "pins.flies: no family of paths has this name"),
    "pool": ("self-hosted", "[{upstream: gpu,", "[{upstream: gpus,", "gpus", "no upstream is named 'gpus'"),
    "default": ("reseller", "{moderations: ", "{moderation: ", "omni", "default_models.moderation: no endpoint of"),
    "limit": ("mixed", "concurrency: 50", "concurency: 50", "concurency", "concurency: unknown setting"),
}
"""Example; what stands in it; what is typed instead; where that is told, by what stands there; what is told."""


@pytest.mark.parametrize("kind", SPOILT)
def test_a_slip_is_told_where_it_is(tmp_path: Path, kind: str) -> None:
    """A wrong word in an example is told by the command with file, line and column, and what may have been meant."""
    example, good, bad, at, told = SPOILT[kind]
    source = next(path for path in EXAMPLES if name(path) == example)
    text = source.read_text()
    assert text.count(good) == 1
    path = tmp_path / "router.yaml"
    path.write_text(text.replace(good, bad))
    checked = check(path, variables(source))
    assert checked.returncode == 78
    found = re.match(rf"{re.escape(str(path))}:(\d+):(\d+): (.+)", checked.stderr)
    assert found is not None
    line, column, what = int(found[1]), int(found[2]), found[3]
    assert line == text[: text.index(good)].count("\n") + 1
    assert path.read_text().splitlines()[line - 1][column - 1 :].startswith(at)
    assert told in what
    assert "did you mean" in what or "such as" in what


def test_the_examples_name_families_that_exist() -> None:
    """What an example pins is a family of paths that the router knows."""
    pinned = {family for path in EXAMPLES for family in yaml.safe_load(path.read_text()).get("pins", ())}
    assert pinned
    assert pinned <= set(PIN_FAMILIES)


def test_an_example_in_several_files_is_one_configuration() -> None:
    """Its files add up to one that is good once its secret is set, and every key is a hash of its own."""
    checked = check(SEVERAL, variables(SEVERAL, "\ninclude:"))
    assert (checked.returncode, checked.stderr) == (0, "")
    config = load(SEVERAL, environ=variables(SEVERAL, "\ninclude:")).config
    assert set(config.keys) == {"operator", "nightly-evals", "search-prod", "search-staging"}
    assert len({key.secret.sha256 for key in config.keys.values()}) == len(config.keys)
    assert [model for model, settings in config.models.items() if settings.price is None] == []


def test_a_slip_in_one_of_several_files_is_told_there(several: Path) -> None:
    """The command names the file of a team that misspelt a limit, and the file that has its key already."""
    team = several.parent / "teams/search.yaml"
    team.write_text(team.read_text().replace("concurrency: 5}", "concurency: 5}").replace("search-prod", "operator"))
    checked = check(several, variables(several, "\ninclude:"))
    assert checked.returncode == 78
    told = [line.replace(f"{several.parent}/", "") for line in checked.stderr.splitlines()]
    assert told[0] == "teams/search.yaml:5:3: keys.operator: given twice, first in keys.yaml:5:3"
    assert re.match(
        r"teams/search\.yaml:11:\d+: keys\.search-staging\.limits\.concurency: unknown setting, did", told[1]
    )
