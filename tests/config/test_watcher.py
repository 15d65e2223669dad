from __future__ import annotations

import os
from pathlib import Path

import pytest

from router.config.loader import Rejected, load
from router.config.sources import fingerprint
from router.config.watcher import Watcher
from tests.config.files import MODELS, UPSTREAMS

GOOD = UPSTREAMS + MODELS


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "router.yaml"
    path.write_text(GOOD)
    return path


def watching(path: Path) -> Watcher:
    return Watcher(path, load(path, environ={}).sources)


def looks(watcher: Watcher, times: int = 4) -> list[bool]:
    return [watcher.look() for _ in range(times)]


def test_what_runs_is_no_change(file: Path) -> None:
    """As long as the content stays, even if the file is touched or replaced by its equal, nothing is reported."""
    watcher = watching(file)
    assert looks(watcher) == [False] * 4
    os.utime(file, (1, 1))
    (file.parent / "copy").write_text(GOOD)
    (file.parent / "copy").replace(file)
    assert looks(watcher) == [False] * 4


def test_a_change_is_reported_once_it_is_steady(file: Path) -> None:
    """Two looks in a row must read the same before a change counts, and then it is reported once."""
    watcher = watching(file)
    file.write_text(GOOD + "# half")
    assert watcher.look() is False
    file.write_text(GOOD + "# half, and the other half")
    assert watcher.look() is False
    assert looks(watcher) == [True, False, False, False]


def test_a_rejected_file_is_not_reported_again_until_it_changes(file: Path) -> None:
    """A faulty file is reported once; so is its next change, and the return to what was there before."""
    watcher = watching(file)
    file.write_text("faulty")
    assert looks(watcher) == [False, True, False, False]
    file.write_text("faulty still")
    assert looks(watcher) == [False, True, False, False]
    file.write_text(GOOD)
    assert looks(watcher) == [False, True, False, False]


def test_brief_absence_is_no_change(file: Path) -> None:
    """While an editor has moved the file away nothing is reported, however long that takes."""
    watcher = watching(file)
    file.rename(file.with_suffix(".bak"))
    assert looks(watcher) == [False] * 4
    file.with_suffix(".bak").rename(file)
    assert looks(watcher) == [False] * 4


def test_a_look_that_found_nothing_is_not_the_first_of_two(file: Path) -> None:
    """Absence between two looks makes them no longer two in a row."""
    watcher = watching(file)
    file.write_text(GOOD + "# new")
    assert watcher.look() is False
    file.rename(file.with_suffix(".bak"))
    assert watcher.look() is False
    file.with_suffix(".bak").rename(file)
    assert looks(watcher, 2) == [False, True]


def test_a_config_map_swap_is_seen(tmp_path: Path) -> None:
    """Kubernetes writes a new folder and renames the link `..data` to it: each such swap is a change."""

    def publish(generation: str, text: str) -> None:
        (tmp_path / generation).mkdir()
        (tmp_path / generation / "router.yaml").write_text(text)
        (tmp_path / "..data_tmp").symlink_to(generation)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    publish("..2026_01", GOOD)
    path = tmp_path / "router.yaml"
    path.symlink_to(Path("..data") / "router.yaml")
    watcher = watching(path)
    for generation in ("..2026_02", "..2026_03", "..2026_04"):
        publish(generation, f"{GOOD}# {generation}")
        assert looks(watcher) == [False, True, False, False]
        watcher.running(load(path, environ={}).sources)
    publish("..2026_05", f"{GOOD}# ..2026_04")
    assert looks(watcher) == [False] * 4


def test_secret_files_are_watched(file: Path) -> None:
    """A rotated secret is a change although the configuration is the same; so is one that stays away."""
    secret = file.parent / "secret"
    secret.write_text("one")
    file.write_text(GOOD + "keys: {k: {secret: {file: secret}}}")
    watcher = watching(file)
    secret.write_text("two")
    assert looks(watcher) == [False, True, False, False]
    watcher.running(load(file, environ={}).sources)
    secret.unlink()
    assert looks(watcher) == [False, True, False, False]


def test_after_a_reload_the_new_files_are_watched(file: Path) -> None:
    """A secret that only the new configuration refers to is watched from then on."""
    watcher = watching(file)
    secret = file.parent / "secret"
    secret.write_text("one")
    file.write_text(GOOD + "keys: {k: {secret: {file: secret}}}")
    assert looks(watcher) == [False, True, False, False]
    watcher.running(load(file, environ={}).sources)
    secret.write_text("two")
    assert looks(watcher) == [False, True, False, False]


def test_a_secret_that_arrives_late_is_seen(file: Path) -> None:
    """A configuration refused for a missing secret is reported again when the secret comes."""
    watcher = watching(file)
    file.write_text(GOOD + "keys: {k: {secret: {file: secret}}}")
    assert looks(watcher) == [False, True, False, False]
    with pytest.raises(Rejected) as refused:
        load(file, environ={})
    watcher.rejected(refused.value.sources)
    assert looks(watcher) == [False] * 4
    (file.parent / "secret").write_text("here")
    assert looks(watcher) == [False, True, False, False]


def test_a_change_between_loading_and_watching_is_seen(file: Path) -> None:
    """What was loaded is compared, not what the file holds when watching begins."""
    sources = load(file, environ={}).sources
    file.write_text(GOOD + "# already newer")
    assert fingerprint(sources) != sources
    assert looks(Watcher(file, sources)) == [False, True, False, False]
