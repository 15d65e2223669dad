"""What the daemon asks of its process: memory that suits big bodies, a quiet collector, enough file descriptors.

And what it tells about it to the operator: what keeps the event loop from turning.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

MMAP_THRESHOLD = 32 * 1024 * 1024
"""Largest block that malloc takes from its heap. By default glibc maps and unmaps every object above 128 KiB, which
made a 1 MB body cost three times as much; 32 MiB is the most that glibc accepts."""

TRIM_THRESHOLD = 64 * 1024 * 1024
"""Free memory at the top of the heap that is kept for the next body."""

DESCRIPTORS_KEPT = 64
"""File descriptors for what is neither a client nor an upstream: listeners, scrapes, the log, files being read."""

GC_THRESHOLD = (50_000, 20, 50)
"""The hot path makes no cycles, so the collector finds nothing there: let it look seldom."""


BLOCKED_S = 5.0
LOOK_S = 2.0
"""An event loop that has not turned for so long is blocked; and how often it shows that it turns."""


def tune() -> None:
    """Set the process up, once, before anything is served. What the platform does not offer is left alone."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        libc.mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS refuses its own hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.set_threshold(*GC_THRESHOLD)


def heed_sigterm() -> None:
    """Let SIGTERM end us from here on, until somebody sees to it in order.

    Process 1 of a container has no default action for it, and would be deaf while it starts (pid_namespaces(7)).
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))


def connections_max() -> int:
    """How many clients may be connected: each may need another file descriptor for its upstream."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(1, (soft - DESCRIPTORS_KEPT) // 2)


def settle() -> None:
    """Everything long-lived exists now: keep the collector from walking it ever again."""
    gc.collect()
    gc.freeze()


def watch(loop: asyncio.AbstractEventLoop, blocked_s: float = BLOCKED_S) -> None:
    """From now on, write the stacks of all threads to standard error whenever the loop does not turn for so long.

    A thread of the interpreter does it, that needs nothing of the one which is stuck.
    """
    with contextlib.suppress(RuntimeError, ValueError, OSError):  # standard error may be closed, or no file
        faulthandler.dump_traceback_later(blocked_s)
    loop.call_later(min(LOOK_S, blocked_s / 4), watch, loop, blocked_s)
