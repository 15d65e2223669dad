"""A machine in a box: systemd as the first process of namespaces of its own, over a copy-on-write root.

It shares the network with the test, so that scripted upstreams and clients can stay where they are, and nothing else:
what it writes is gone with it. Only root can make one, and not in every container.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness.program import ROOT
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TOOLS = ("unshare", "nsenter", "mount", "pivot_root", "/lib/systemd/systemd", "systemctl")
BOOT_S = 20
"""A box that has not booted by then cannot be made here."""

PROGRAM = "/opt/llm-router"

# $1: a folder for the box; $2, $3, $4: the interpreter's folder, its packages, the router's. The last line is the boot.
MAKE = """
set -e
mount --make-rprivate /
mount -t tmpfs box "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" box "$1/root"
cd "$1/root"
mkdir -p old box etc/llm-router opt/llm-router/.venv/bin
cd opt/llm-router && mkdir python packages code && cd ../..
mount --bind "$2" opt/llm-router/python
mount --bind "$3" opt/llm-router/packages
mount --bind "$4" opt/llm-router/code
cat > opt/llm-router/.venv/bin/llm-router
chmod 755 opt/llm-router/.venv/bin/llm-router
printf '[Unit]\\nDefaultDependencies=no\\n' > box/box.target
mount -t proc proc proc
mount --bind -o ro proc/sys proc/sys
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
pivot_root . old
cd /
umount -l old
mount --make-rshared /
exec env -i container=box PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH=/box SYSTEMD_GENERATOR_PATH=/box/none \\
    /lib/systemd/systemd --system --unit=box.target --log-target=console --log-level=warning
"""

# The interpreter under another path than its own, so that the unit may hide home folders, where it may live.
LAUNCHER = f"""#!/bin/sh
export LD_LIBRARY_PATH={PROGRAM}/python/lib PYTHONHOME={PROGRAM}/python
export PYTHONPATH={PROGRAM}/code:{PROGRAM}/packages PYTHONDONTWRITEBYTECODE=1
exec {PROGRAM}/python/bin/python{sys.version_info[0]}.{sys.version_info[1]} -m router "$@"
"""


@dataclass(frozen=True, slots=True)
class Box:
    """One that has booted."""

    pid: int
    """Of its first process, seen from here."""

    def path(self, path: str) -> Path:
        """A file in it."""
        return Path(f"/proc/{self.pid}/root{path}")

    async def run(self, *words: str) -> tuple[int | None, str]:
        """Run a command in it: exit status, and what it said."""
        entered = ("nsenter", "-t", str(self.pid), "-m", "-p", "-i", "-u", "-C", "-r", "--wd=/", "--", *words)
        process = await asyncio.create_subprocess_exec(
            *entered, stdin=DEVNULL, stdout=PIPE, stderr=subprocess.STDOUT, env={"PATH": "/usr/bin:/bin"}
        )
        said, _ = await process.communicate()
        return process.returncode, said.decode()

    async def systemctl(self, *words: str) -> str:
        """Run `systemctl`, which must succeed."""
        status, said = await self.run("systemctl", *words)
        assert status == 0, said
        return said.strip()


@asynccontextmanager
async def booted(folder: Path) -> AsyncIterator[Box]:
    """A box, ended with the block. Where none can be made, the test is skipped with the reason."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a systemd of its own")
    if missing := [name for name in TOOLS if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    groups = [root / f"llm-router-test-{os.getpid()}" for root in _group_roots()]
    try:
        for group in groups:
            group.mkdir()
    except OSError as error:
        _remove(groups)
        pytest.skip(f"no control group can be made here: {error}")
    process = await _start(folder, groups)
    try:
        yield await _wait(process)
    finally:
        process.kill()  # and with it, as its namespace ends, everything in the box
        await process.communicate()
        await until(lambda: not any(map(_members, groups)), "the box is empty")
        _remove(groups)


async def _start(folder: Path, groups: list[Path]) -> asyncio.subprocess.Process:
    enter = "".join(f'echo $$ > "{group}/cgroup.procs"\n' for group in groups)
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", enter + 'exec unshare -m -p -i -u -C --fork --kill-child /bin/sh -c "$0" sh "$@"',
        *(MAKE, str(folder), sys.base_prefix, _packages(), str(ROOT)),
        stdin=PIPE, stdout=PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(LAUNCHER.encode())
    process.stdin.close()
    return process


async def _wait(process: asyncio.subprocess.Process) -> Box:
    """Wait until it has booted."""
    deadline = asyncio.get_running_loop().time() + BOOT_S
    while process.returncode is None and asyncio.get_running_loop().time() < deadline:
        for box in map(Box, _children(process.pid)):
            if (await box.run("systemctl", "is-active", "box.target")) == (0, "active\n"):
                return box
        await asyncio.sleep(0.1)
    if process.returncode is None:
        process.kill()
    said, _ = await process.communicate()
    pytest.skip(f"systemd does not boot here: {said.decode(errors='replace')[-300:]}")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _packages() -> str:
    """Where this interpreter has its packages."""
    return str(Path(pytest.__file__).parents[1])


def _group_roots() -> Iterator[Path]:
    """The control groups that this process is in, of the hierarchies that systemd uses."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, kind, path = line.split(":", 2)
        for mounted in {
            "": ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"),
            "name=systemd": ("/sys/fs/cgroup/systemd",),
        }.get(kind, ()):
            if Path(mounted, "cgroup.procs").exists():
                yield Path(mounted + path)
                break


def _members(group: Path) -> str:
    return "".join(procs.read_text() for procs in group.rglob("cgroup.procs"))


def _remove(groups: list[Path]) -> None:
    for group in groups:
        if group.exists():
            for inner in sorted((each for each in group.rglob("*") if each.is_dir()), reverse=True):
                inner.rmdir()
            group.rmdir()
