"""What CI runs of the fuzzing: the corpus against every promise, and some inputs more, the same each time."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import engine, wires
from tests.fuzz.targets import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]

RUNS = {
    "splice": 1000, "sse": 200, "multipart": 1000, "head": 60, "response_head": 60, "yaml": 1000, "translate": 1000,
    "translate_stream": 200, "usage": 5000, "durations": 3000, "envelope": 1000,
}  # fmt: skip
"""Inputs beside those of the corpus: a second or so each."""

without_atheris = importlib.util.find_spec("atheris") is None


@pytest.fixture(scope="module", autouse=True)
def closing() -> Iterator[None]:
    """What the targets share is closed behind the last."""
    yield
    wires.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus_breaks_no_promise(name: str) -> None:
    """Every input that was worth keeping is read as promised."""
    tried = engine.target(name)
    inputs = sorted((engine.CORPUS / name).iterdir())
    assert inputs
    for each in inputs:
        data = each.read_bytes()
        assert len(data) <= tried.BYTES_MAX, f"{each.name}: would be cut"
        try:
            tried.check(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, the input must be named
            pytest.fail(f"{each.name}: {error!r}")


@pytest.mark.skipif(without_atheris, reason="atheris has no wheel for this platform or this Python")
@pytest.mark.parametrize("name", NAMES)
def test_nor_do_inputs_grown_from_it(name: str, tmp_path: Path) -> None:
    """So many inputs that lead further into the code, from one seed, break none either."""
    runs = RUNS[name] + len(list((engine.CORPUS / name).iterdir()))
    command = [sys.executable, "-m", "tests.fuzz", name, f"--runs={runs}", f"--folder={tmp_path}", "-seed=1"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    assert not list((tmp_path / "faults").iterdir())


def test_every_corpus_has_its_target() -> None:
    """What is kept is tried."""
    assert sorted(folder.name for folder in engine.CORPUS.iterdir()) == sorted(NAMES) == sorted(RUNS)
