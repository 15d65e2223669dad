"""The house of DESIGN 4: which way imports point, what stays pure, that tests mirror code, what files may say."""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

SHARED = {"config", "errors", "events"}
ARROWS: dict[str, set[str]] = {
    "__main__": {"cli"},
    "cli": {"commands"},
    "commands": {"app", "demo", "doctor", "explain", "migrate", "process", "service_manager", "simulation"},
    "doctor": {"relay"},
    "demo": {"app"},
    "app": {"relay", "explain", "listeners", "service_manager", "web", "telemetry", "status"},
    "migrate": set(),
    "status": {"relay", "telemetry"},
    "process": set(),
    "service_manager": set(),
    "listeners": {"relay", "service_manager"},
    "explain": {"relay"},
    "relay": {"policy", "protocol"},
    "web": {"policy", "protocol"},
    "telemetry": set(),
    "simulation": {"policy"},
    "policy": set(),
    "protocol": set(),
    "config": {"errors"},
    "errors": set(),
    "events": set(),
}
"""Part of `router` to the parts it may import; who stands further up may also import what those reach."""

PURE = ("policy", "protocol", "simulation")
IMPURE_MODULES = {
    "aiohttp", "asyncio", "concurrent", "logging", "os", "selectors", "signal", "socket", "subprocess", "threading",
    "time", "uvloop",
}  # fmt: skip

UNMIRRORED: dict[str, str] = {
    "router/__main__.py": "two lines; tests/demo/test_show.py starts the program through them",
    "router/commands/options.py": "numbers, and options that every command's test types",
    "router/commands/serve.py": "tests/test_cli.py types it, and everything that starts the program runs through it",
    "router/commands/demo.py": "a name and a line; tests/demo",
    "router/commands/simulate.py": "tests/test_cli.py and tests/simulation type it",
    "router/commands/version.py": "tests/test_cli.py types it",
    "router/explain/facts.py": "records without code",
    "router/migrate/litellm_*.py": "tests/migrate/test_litellm.py imports whole files through them",
    "router/migrate/nginx_pools.py": "tests/migrate/test_nginx.py imports whole files through it",
    "router/migrate/*_source.py": "tests/migrate/test_litellm.py and test_nginx.py import whole files through them",
    "router/errors.py": "a table; the statuses and names in it are what tests/sdk and tests/relay assert",
    "router/events.py": "records without code",
    "router/protocol/facts.py": "a vocabulary without code; tests/protocol/test_streams.py and the dialects' tests "
    "read through it",
    "router/relay/*": "tests/relay plays whole exchanges against the real daemon, a file for each kind of event",
}
"""Modules without a test file of their own, and where their promises are kept."""

UNMIRRORING = {
    "tests/relay": "whole exchanges, see above",
    "tests/chaos": "promises measured against the real daemon, and another gateway beside it",
    "tests/soak": "everything at once against the real daemon, for as long as one likes",
    "tests/fuzz": "inputs that grow, judged by what each reader of foreign bytes promises",
    "tests/hostile": "mutations of framing and slow clients, against the real daemon",
    "tests/protocol/test_streams.py": "every dialect reads the same recorded streams, cut anywhere",
    "tests/protocol/streams": "those streams",
    "tests/protocol/translate/test_round_trip.py": "both directions of a translation, one after the other",
    "tests/harness": "the tools of tests/relay, tested like code",
    "tests/sdk": "the daemon as SDKs meet it",
    "tests/bench": "the benchmark",
    "tests/deploy": "what deploy/ holds, run by the tools it is for",
    "tests/config/test_examples.py": "the examples beside the commented configuration, as a newcomer meets them",
    "tests/test_documents.py": "what the README says of the code",
    "tests/test_catalogue.py": "the catalogue of faults, and the tests that show each survived",
}
"""Folders and files of tests that mirror no folder or file of code."""

FORBIDDEN = {
    r"(?:pypi|pythonhosted|npmjs|crates)\.(?:org|com|io)\b": "an index address: any mirror must serve",
    r"--(?:extra-)?index-url|--find-links|--trusted-host": "an index address: any mirror must serve",
    r"(?<![\w.])/(?:root|work|home/\w+)/": "a path of one machine",
    r"(?i)\bco-authored-by\b|\bgenerated (?:with|by) \[": "a word about who typed it",
    r"\b(?:TODO|FIXME|XXX)\b": "what is not done is not there",
}
"""What no file of the project says: pattern and reason. This file alone may name the patterns."""


@cache
def ignored() -> tuple[str, ...]:
    return tuple(line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split() if not line.startswith("#"))


def project_files(folder: Path = ROOT) -> Iterator[Path]:
    """Every file that belongs to the project: what `.gitignore` does not name, and not Git's own."""
    for path in sorted(folder.iterdir()):
        if path.name == ".git" or any(fnmatch(path.name, pattern) for pattern in ignored()):
            continue
        if path.is_dir():
            yield from project_files(path)
        else:
            yield path


def modules(folder: str) -> list[Path]:
    return [path for path in project_files(ROOT / folder) if path.suffix == ".py"]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), name(path))


def part(path: Path) -> str:
    """Which part of `router` a module is, or belongs to."""
    return path.relative_to(ROOT / "router").parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a module imports, for types as well."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: imports are absolute"
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def reachable(start: str) -> set[str]:
    """The parts that may be imported from `start`: along the arrows, and the shared ones."""
    reached, ahead = {start}, {start}
    while ahead:
        ahead = set().union(*(ARROWS[step] for step in ahead)) - reached
        reached |= ahead
    return reached if start in SHARED else reached | SHARED


@pytest.mark.parametrize("path", modules("router"), ids=name)
def test_imports_point_one_way(path: Path) -> None:
    """A module imports only what the arrows of the design reach from its part."""
    if path == ROOT / "router/__init__.py":
        allowed: set[str] = set()
    else:
        assert part(path) in ARROWS, f"{name(path)}: a part that the design does not draw"
        allowed = reachable(part(path))
    for line, target in imported(path):
        if target.startswith("router.") and target != "router.__version__":
            assert target.split(".")[1] in allowed, f"{name(path)}:{line} imports {target}"


@pytest.mark.parametrize("path", [path for pure in PURE for path in modules(f"router/{pure}")], ids=name)
def test_decisions_and_formats_are_pure(path: Path) -> None:
    """`policy`, `protocol` and `simulation` neither wait nor know a clock, a socket, a thread or a log."""
    for line, target in imported(path):
        assert target.split(".")[0] not in IMPURE_MODULES, f"{name(path)}:{line} imports {target}"
    for node in ast.walk(parsed(path)):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"{name(path)}:{node.lineno} waits"


def test_every_module_has_its_tests() -> None:
    """`router/x/y.py` is tested by `tests/x/test_y.py`, or the list above says where else."""
    without = [
        name(path)
        for path in modules("router")
        if any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in parsed(path).body)
        and not any(fnmatch(name(path), pattern) for pattern in UNMIRRORED)
        and not (ROOT / "tests" / path.relative_to(ROOT / "router").with_name(f"test_{path.name}")).exists()
    ]
    assert "\n".join(without) == ""


def test_every_test_file_has_its_module() -> None:
    """A test file outside the listed folders stands where its module stands, so that it is found and dies with it."""
    without = [
        name(path)
        for path in modules("tests")
        if path.name.startswith("test_")
        and path != Path(__file__)
        and not any(path.is_relative_to(ROOT / folder) for folder in UNMIRRORING)
        and not (ROOT / "router" / path.relative_to(ROOT / "tests").with_name(path.name.removeprefix("test_"))).exists()
    ]
    assert "\n".join(without) == ""


def test_no_exception_outlives_its_reason() -> None:
    """Every module and folder that the lists above excuse exists."""
    for pattern in UNMIRRORED:
        assert any(fnmatch(name(path), pattern) for path in modules("router")), pattern
    for folder in UNMIRRORING:
        assert (ROOT / folder).exists(), folder


@pytest.mark.parametrize("path", [path for path in modules("tests") if path.name.startswith("test_")], ids=name)
def test_every_test_says_what_it_promises(path: Path) -> None:
    """Each test function begins with a docstring that is a sentence."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            promise = ast.get_docstring(node)
            assert promise, f"{name(path)}:{node.lineno} {node.name} promises nothing"
            assert promise.rstrip().endswith("."), f"{name(path)}:{node.lineno} {node.name}: no sentence"


def test_no_file_says_what_it_must_not() -> None:
    """The project's files speak of the software alone: no index addresses, no machine's paths, nothing unfinished."""
    said = []
    for path in project_files():
        if path == Path(__file__):
            continue
        text = path.read_text(errors="replace")
        for pattern, reason in FORBIDDEN.items():
            said += [f"{name(path)}: {found[0]!r}: {reason}" for found in re.finditer(pattern, text)]
    assert "\n".join(said) == ""


@pytest.mark.parametrize("lock", sorted((*ROOT.glob("*.lock"), *ROOT.glob("tests/*/*.lock"))), ids=name)
def test_locks_pin_everything_by_hash(lock: Path) -> None:
    """Every requirement in a lock has one exact version and its hashes, and no line says where to get it."""
    text = lock.read_text()
    assert "://" not in text
    requirements = [line for line in text.splitlines() if line and line[0] not in " #"]
    assert requirements
    for requirement in re.split(r"\n(?=\S)", re.sub(r"(?m)^#.*\n", "", text)):
        assert re.match(r"[A-Za-z0-9_.-]+==\S+", requirement), requirement
        assert "--hash=sha256:" in requirement, requirement


def test_the_changelog_begins_with_what_is_not_released() -> None:
    """The first heading of the changelog is `Unreleased`, where a change writes itself down."""
    headings = re.findall(r"(?m)^## (.+)$", (ROOT / "CHANGELOG.md").read_text())
    assert headings[0] == "Unreleased"
