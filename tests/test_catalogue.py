"""The fault catalogue is whole: each row has tests that exist and run, or says why there is nothing to test.

In the report of a run, a row that cannot happen here is shown as skipped, with its reason.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.catalogue import CATALOGUE, ROWS, Row

TESTS = Path(__file__).parent

WITHOUT = {"O6", "O7", "O11", "O18", "U43"}
"""Rows that need what is not here. Only these may do without a test."""

PASSING_OVER = {"skip", "skipif", "xfail", "importorskip"}
"""What keeps a test from running, or its failure from showing."""


@cache
def parsed(file: str) -> ast.Module:
    return ast.parse((TESTS / file).read_text(), file)


@cache
def functions(file: str) -> dict[str, ast.AST]:
    """The tests that are collected in a file, by name."""
    return {
        node.name: node
        for node in parsed(file).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def passes_over(node: ast.AST) -> bool:
    """Whether something below says that the test need not run, or may fail."""
    return any(isinstance(each, ast.Attribute) and each.attr in PASSING_OVER for each in ast.walk(node))


def faults(test: str) -> list[str]:
    """What is wrong with a test that a row names."""
    file, _, name = test.partition("::")
    if not (TESTS / file).is_file():
        return [f"{file} does not exist"]
    if name not in functions(file):
        return [f"{test} does not exist"]
    helpers = [node for node in parsed(file).body if node not in functions(file).values()]
    return [f"{test} may be skipped"] if any(map(passes_over, [functions(file)[name], *helpers])) else []


def test_no_row_is_missing() -> None:
    """The table has every row of the catalogue, in its order, and no other."""
    assert list(CATALOGUE) == [f"{letter}{number}" for letter, last in ROWS.items() for number in range(1, last + 1)]


def test_only_what_is_not_here_goes_untested() -> None:
    """A row is without a test only if what it is about does not exist here, and then it says what that is."""
    assert {name for name, row in CATALOGUE.items() if not row.tests} == WITHOUT
    for name, row in CATALOGUE.items():
        assert bool(row.absent) == (name in WITHOUT), name
        assert row.fault, name
        assert len(row.tests) == len(set(row.tests)), name


@pytest.mark.parametrize(("name", "row"), CATALOGUE.items(), ids=CATALOGUE)
def test_every_row_is_held(name: str, row: Row) -> None:
    """The tests of a row exist and run; what cannot happen here is told with its reason."""
    assert [fault for test in row.tests for fault in faults(test)] == [], name
    if row.absent:
        pytest.skip(f"{name} ({row.fault}): {row.absent}")


def test_a_row_cannot_name_what_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that does not exist, is skipped, or may fail is found out, however that is written."""
    file = "test_x.py"
    (tmp_path / file).write_text(
        "import pytest\n"
        "def test_good(): ...\n"
        "@pytest.mark.skip(reason='x')\ndef test_skipped(): ...\n"
        "@pytest.mark.xfail\nasync def test_failing(): ...\n"
        "def test_inside():\n    pytest.skip('x')\n"
    )
    (tmp_path / "test_y.py").write_text("import pytest\npytest.importorskip('x')\ndef test_good(): ...\n")
    monkeypatch.setattr("tests.test_catalogue.TESTS", tmp_path)
    assert faults(f"{file}::test_good") == []
    for wrong in ("test_skipped", "test_failing", "test_inside", "test_gone"):
        assert faults(f"{file}::{wrong}"), wrong
    assert faults("test_y.py::test_good") == ["test_y.py::test_good may be skipped"]
    assert faults("test_gone.py::test_good") == ["test_gone.py does not exist"]
