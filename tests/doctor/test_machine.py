"""The interpreter and the machine: what is said of each, at its bounds."""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from router.config import loader
from router.doctor import machine
from router.doctor.findings import Notes, Result
from tests.doctor.examining import only_one, results, serving

if TYPE_CHECKING:
    from pathlib import Path

    from router.config.schema import Config

GIB = 1 << 30


def config(folder: Path, **top: Any) -> Config:
    text = yaml.safe_dump(serving("http://127.0.0.1:1/v1") | top)
    return loader.parse(text, "router.yaml", directory=folder, environ={}).config


@pytest.mark.parametrize(
    ("version", "today", "result"),
    [
        ((3, 10), dt.date(2026, 1, 1), Result.FAIL),
        ((3, 11), dt.date(2027, 10, 31), Result.OK),
        ((3, 11), dt.date(2027, 11, 1), Result.WARN),
        ((3, 99), dt.date(2026, 1, 1), Result.OK),
    ],
)
def test_python_must_be_supported(version: tuple[int, int], today: dt.date, result: Result) -> None:
    """Too old fails, without security fixes warns, and one that is not known yet is no reason for concern."""
    notes = Notes("machine")
    machine.python(notes, version, today)
    assert only_one(notes)[0] is result


def test_another_event_loop_is_told() -> None:
    """The daemon does not start without uvloop, so its lack fails."""
    notes = Notes("machine")
    machine.event_loop(notes, "asyncio")
    assert only_one(notes)[0] is Result.FAIL


def test_a_slow_yaml_is_told() -> None:
    """PyYAML without libyaml works, slowly."""
    notes = Notes("machine")
    machine.libyaml(notes, has_it=False)
    machine.libyaml(notes, has_it=True)
    assert results(notes, "machine") == [("libyaml", "warn"), ("libyaml", "ok")]


def key(concurrency: int | None, *, disabled: bool = False, sha256: str = "a" * 64) -> dict[str, Any]:
    limits = {} if concurrency is None else {"concurrency": concurrency}
    return {"secret": {"sha256": sha256}, "limits": limits, "disabled": disabled}


@pytest.mark.parametrize(
    ("keys", "upstream", "asked"),
    [
        ({}, {}, None),
        ({}, {"limits": {"concurrency": 300}}, 300),
        ({"a": key(10), "b": key(20, sha256="b" * 64)}, {}, 30),
        ({"a": key(10), "b": key(None, sha256="b" * 64)}, {}, None),
        ({"a": key(10), "b": key(None, sha256="b" * 64, disabled=True)}, {}, 10),
        ({"a": key(1000)}, {"limits": {"concurrency": 300}}, 300),
    ],
)
def test_what_limits_let_in(tmp_path: Path, keys: Any, upstream: Any, asked: int | None) -> None:
    """As many requests as all keys together or all upstreams together; who has no limit has no bound."""
    settings = serving("http://127.0.0.1:1/v1", **upstream)
    assert machine.concurrency(config(tmp_path, **settings, keys=keys)) == asked


@pytest.mark.parametrize(
    ("limit", "room", "result"),
    [
        (None, machine.CLIENTS_FEW - 1, Result.WARN),
        (None, machine.CLIENTS_FEW, Result.OK),
        (300, 299, Result.WARN),
        (300, 300, Result.OK),
        (None, sys.maxsize, Result.OK),
    ],
)
def test_descriptors_must_suffice(tmp_path: Path, limit: int | None, room: int, result: Result) -> None:
    """There must be room for what the limits let in; without limits, for a thousand clients."""
    notes = Notes("machine")
    settings = serving("http://127.0.0.1:1/v1", limits={} if limit is None else {"concurrency": limit})
    machine.descriptors(notes, config(tmp_path, **settings), room)
    assert only_one(notes)[0] is result


@pytest.mark.parametrize(("total", "result"), [(2 * GIB, Result.OK), (2 * GIB - 1, Result.WARN)])
def test_bodies_must_fit_into_memory(tmp_path: Path, total: int, result: Result) -> None:
    """What all bodies may take is at most half of what there is."""
    notes = Notes("machine")
    machine.memory(notes, config(tmp_path), total)
    assert only_one(notes)[0] is result


def test_memory_is_what_the_control_group_leaves(tmp_path: Path) -> None:
    """The tightest limit on the way up counts; `max` is none."""
    assert (machine.memory_bytes(tmp_path) or 0) > GIB // 8, "the machine's own"
    (tmp_path / "memory.max").write_text(f"{64 << 20}\n")
    assert machine.memory_bytes(tmp_path) == 64 << 20
    (tmp_path / "memory.max").write_text("max\n")
    assert (machine.memory_bytes(tmp_path) or 0) > GIB // 8


async def test_this_machine_can_be_examined(tmp_path: Path) -> None:
    """On the machine that runs the tests, under the daemon's loop, everything is there."""
    notes = Notes("machine")
    machine.examine(notes, config(tmp_path), room=10_000)
    assert [check for check, _ in results(notes, "machine")] == ["python", "uvloop", "libyaml", "descriptors", "memory"]
    assert ("uvloop", "ok") in results(notes, "machine")
    machine.examine(notes, None, room=10_000)
