"""The interpreter and the machine: what the daemon will find when it starts here."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

if TYPE_CHECKING:
    from router.config.schema import Config
    from router.doctor.findings import Notes

PYTHON_MIN: Final = (3, 11)
PYTHON_UNTIL: Final = {
    (3, 11): dt.date(2027, 10, 31),
    (3, 12): dt.date(2028, 10, 31),
    (3, 13): dt.date(2029, 10, 31),
    (3, 14): dt.date(2030, 10, 31),
    (3, 15): dt.date(2031, 10, 31),
}
"""When each gets its last security fix (PEPs 664, 693, 719, 745, 790: five years, to the end of October)."""

CLIENTS_FEW: Final = 1000
"""Room for fewer clients is worth a word even if no limit asks for more."""

_CGROUP: Final = Path("/sys/fs/cgroup")


def examine(notes: Notes, config: Config | None, *, room: int) -> None:
    """Look at everything here that needs no waiting.

    Args:
        notes: Where findings go.
        config: What it should serve; None if that cannot be read.
        room: How many clients the daemon would let in (`process.connections_max`).
    """
    python(notes, sys.version_info[:2], dt.datetime.now(dt.UTC).date())
    event_loop(notes, type(asyncio.get_running_loop()).__module__.partition(".")[0])
    libyaml(notes, has_it=bool(yaml.__with_libyaml__))
    descriptors(notes, config, room)
    memory(notes, config, memory_bytes())


def python(notes: Notes, version: tuple[int, int], today: dt.date) -> None:
    """Whether this Python is one that the router runs on, and that still gets security fixes."""
    name = f"{platform.python_implementation()} {platform.python_version()}"
    until = PYTHON_UNTIL.get(version)
    if version < PYTHON_MIN:
        notes.fail("python", name, f"install Python {'.'.join(map(str, PYTHON_MIN))} or newer")
    elif until is None:
        notes.ok("python", f"{name}, newer than this release of the router")
    elif today > until:
        notes.warn("python", f"{name}: no security fixes since {until}", "install a newer Python")
    else:
        notes.ok("python", f"{name}, security fixes until {until}")


def event_loop(notes: Notes, module: str) -> None:
    """Whether the loop that runs is uvloop, as the daemon's will be."""
    if module == "uvloop":
        notes.ok("uvloop", f"{metadata.version('uvloop')}, in use")
    else:
        cure = "install it: it is in requirements.lock, and `llm-router run` does not start without it"
        notes.fail("uvloop", f"cannot be loaded; the loop is {module}'s", cure)


def libyaml(notes: Notes, *, has_it: bool) -> None:
    """Whether PyYAML was built with libyaml."""
    if has_it:
        notes.ok("libyaml", f"in use by PyYAML {yaml.__version__}")
    else:
        cure = "install the wheel of PyYAML, or libyaml and then PyYAML anew"
        notes.warn("libyaml", "PyYAML was built without it: reading a long file takes ten times as long", cure)


def descriptors(notes: Notes, config: Config | None, room: int) -> None:
    """Whether as many clients fit as the limits in the file let in."""
    asked = None if config is None else concurrency(config)
    unlimited = room == sys.maxsize
    found = "no limit" if unlimited else f"room for {room:,} clients, each with its upstream connection"
    if asked is not None:
        found += f"; the limits of the file let {asked:,} requests in at once"
    cure = "raise the hard limit: LimitNOFILE= of the unit, --ulimit nofile= of the container, or ulimit -Hn"
    if room < (CLIENTS_FEW if asked is None else asked):
        notes.warn("descriptors", found, cure)
    else:
        notes.ok("descriptors", found)


def concurrency(config: Config) -> int | None:
    """How many requests the file lets in at once, by its keys or its upstreams; None: it sets no bound."""
    of_keys = [key.limits.concurrency for key in config.keys.values() if not key.disabled]
    of_upstreams = [upstream.limits.concurrency for upstream in config.upstreams.values()]
    sums = [sum(filter(None, each)) for each in (of_keys, of_upstreams) if each and None not in each]
    return min(sums, default=None)


def memory(notes: Notes, config: Config | None, total: int | None) -> None:
    """Whether the bodies that may be held at once fit into the memory there is."""
    if total is None:
        return
    found = f"{_gib(total)} for this process"
    if config is None:
        notes.ok("memory", found)
        return
    bodies = config.requests.bodies_total_max
    found += f"; request bodies may take {_gib(bodies)}"
    if bodies > total / 2:
        notes.warn("memory", found, "lower requests.bodies_total_max to less than half, or give it more memory")
    else:
        notes.ok("memory", found)


def memory_bytes(cgroup: Path = _CGROUP) -> int | None:
    """How much memory this process may have: the machine's, or what its control groups (version 2) leave of it."""
    found = []
    try:
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        own = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
        folder = cgroup / own.removeprefix("0::").lstrip("/")
    except (OSError, ValueError, StopIteration):  # no Linux, or control groups of version 1
        folder = cgroup
    for each in (folder, *folder.parents):
        if each.is_relative_to(cgroup):
            try:
                found.append(int((each / "memory.max").read_text()))
            except (OSError, ValueError):  # there is none here, or it says `max`
                continue
    return min(found, default=None)


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
