"""`deploy/reference.py`: the pages that are committed say what the code says today."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.harness.program import ROOT

SCRIPT = ROOT / "deploy/reference.py"


def test_every_page_is_what_the_code_says() -> None:
    """No setting, metric, command or error is changed without its page in the same commit."""
    checked = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, ""), "run `make reference` and commit what it writes"


@pytest.mark.parametrize("page", ["config/SETTINGS.md", "deploy/METRICS.md", "config/ERRORS.md", "deploy/COMMANDS.md"])
def test_a_table_is_whole(page: str) -> None:
    """Each row has as many cells as its head: no bar inside a text tears it apart."""
    for table in (ROOT / page).read_text().split("\n\n"):
        rows = [line.replace("\\|", "") for line in table.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1, rows[:1]
