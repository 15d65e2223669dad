"""The whole examination, in the order in which it is told: configuration, machine and files, upstreams, the clock."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

import msgspec

from router.config.report import did_you_mean, shown
from router.doctor import clock, files, machine, places, sound, upstream
from router.doctor.findings import Notes
from router.relay.outbox import Outbox
from router.relay.wire import build_wires

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from router.config.loader import Loaded
    from router.doctor.findings import Finding

AT_ONCE: Final = 16
"""Upstreams that are examined at the same time: a range of 256 must not look like an attack."""


class UnknownUpstream(Exception):
    """An upstream was asked for that the file does not declare."""


async def examine(
    path: Path,
    environ: Mapping[str, str],
    tell: Callable[[list[Finding]], None],
    *,
    only: Collection[str] = (),
    is_deep: bool = False,
    timeout_s: float = 5.0,
    room: int,
) -> None:
    """Examine everything; `tell` is given what was found about one subject after the other.

    Args:
        path: The configuration file.
        environ: The environment variables that secrets may refer to.
        tell: Called with the findings about one subject each.
        only: Names of upstreams; then nothing else is looked at but the configuration.
        is_deep: Ask every member of every pool for a token.
        timeout_s: The longest that one step may take.
        room: How many clients the daemon would let in (`process.connections_max`).

    Raises:
        UnknownUpstream: `only` names one that is not there.
    """
    found = sound.read(path, environ)
    loaded = found.loaded
    chosen = _chosen(loaded, only, excused=bool(found.faults))
    tell(_configuration(path, found))
    here = Notes("machine")
    if not only:
        config = None if loaded is None else loaded.config
        machine.examine(here, config, room=room)
        if config is not None:
            files.examine(here, config, path)
            await places.examine(here, config, timeout_s)
        tell(here.findings)
    offsets: list[float] = []
    if loaded is not None:
        turns = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    _upstream(name, loaded, turns, timeout_s, is_deep=is_deep, is_bare=name in found.bare)
                )
                for name in chosen
            ]
            for task in tasks:
                findings, answered = await task
                offsets += answered[:1]
                tell(findings)
    last = Notes("machine")
    clock.examine(last, offsets)
    tell(last.findings)


def _chosen(loaded: Loaded | None, only: Collection[str], *, excused: bool) -> list[str]:
    """The upstreams to examine; the name of a range stands for all that it declares."""
    known = [] if loaded is None else list(loaded.config.upstreams)
    if not only:
        return known
    chosen: list[str] = []
    for name in only:
        meant = [each for each in known if each == name or re.fullmatch(rf"{re.escape(name)}-[0-9]+", each)]
        if not meant and not excused:  # of a faulty file it may be the one that cannot be read
            raise UnknownUpstream(f"no upstream is named {shown(name)}{did_you_mean(name, known)}")
        chosen += meant
    return list(dict.fromkeys(chosen))


def _configuration(path: Path, found: sound.Read) -> list[Finding]:
    loaded = found.loaded
    notes = Notes("configuration", () if loaded is None else loaded.secrets.values())
    cure = "mend it; config/router.yaml has every setting with its meaning"
    if not path.exists():
        cure = f"say where it is: -c FILE; or write one: llm-router init -o {path}"
    for fault in found.faults:
        notes.fail("file", fault, cure)
    for warning in () if loaded is None else loaded.warnings:
        notes.warn("file", warning.replace(": warning: ", ": ", 1), "change it, or let it be if it is meant")
    if not found.faults and loaded is not None:
        config = loaded.config
        counts = f"{len(config.models)} models, {len(config.upstreams)} upstreams, {len(config.keys)} keys"
        notes.ok("file", f"{path}: {counts}")
    return notes.findings


async def _upstream(
    name: str, loaded: Loaded, turns: asyncio.Semaphore, timeout_s: float, *, is_deep: bool, is_bare: bool
) -> tuple[list[Finding], list[float]]:
    """Examine one upstream when its turn comes; whatever goes wrong in here is a finding about it."""
    loop = asyncio.get_running_loop()
    alone = msgspec.structs.replace(loaded.config, upstreams={name: loaded.config.upstreams[name]})
    async with turns:
        try:
            wire = build_wires(alone, loaded.secrets, {}, loop, Outbox(loop, ()))[name]
        except (OSError, ValueError) as error:
            notes = Notes(name, loaded.secrets.values())
            notes.fail("settings", f"no connection can be made with them: {error}", f"see upstreams.{name}")
            return notes.findings, []
        try:
            return await upstream.examine(wire, loaded, timeout_s=timeout_s, is_deep=is_deep, is_bare=is_bare)
        except Exception as error:  # noqa: BLE001 (a fault of ours must not hide what else there is to find)
            notes = Notes(name, loaded.secrets.values())
            notes.fail("examination", f"it failed by a fault of the router: {error!r}", "please report it")
            return notes.findings, []
        finally:
            wire.close()
            await asyncio.sleep(0)  # transports tell their protocols in the next turn of the loop
