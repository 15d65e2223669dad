"""Processes of the benchmark: pin, start, find their children, weigh, stop."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STOP_S = 5.0
"""Seconds a process has after SIGTERM before it is killed."""


@contextlib.contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Let children that are started inside inherit one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start(command: Sequence[str], cpu: int, log: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start a process on one CPU, with its output in `<log>.out` and `<log>.err`. It gets SIGTERM if this one dies."""
    deadly = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    with pinned(cpu), log.with_suffix(".out").open("wb") as out, log.with_suffix(".err").open("wb") as err:
        return subprocess.Popen(
            [*deadly, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder, start_new_session=True
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that `start` gave, with whatever it started in its session."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The command's name stands in parentheses and may hold anything; the parent is the second field after it.
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(status.parent.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def resident_mb(pids: Sequence[int]) -> float:
    """Return the resident memory of processes in MB (10⁶ bytes)."""
    total_kib = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total_kib += int(
                re.findall(r"^Rss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)[0]
            )
    return total_kib * 1024 / 1e6


def forget_peaks(pids: Sequence[int]) -> None:
    """Let `peak_mb` begin anew, if the kernel can: see `clear_refs` in proc(5)."""
    for pid in pids:
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mb(pids: Sequence[int]) -> float:
    """Return the most resident memory that processes had, each at its own time, in MB."""
    total_kib = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total_kib += int(re.findall(r"^VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[0])
    return total_kib * 1024 / 1e6


def free_ports(count: int) -> list[int]:
    """Return TCP ports of 127.0.0.1 that are free now; held together until all are known, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
