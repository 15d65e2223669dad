"""What the daemon asks of its process: memory that suits big bodies, a quiet collector, enough file descriptors."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

MMAP_THRESHOLD = 32 * 1024 * 1024
"""Largest block that malloc takes from its heap. By default glibc maps and unmaps every object above 128 KiB, which
made a 1 MB body cost three times as much; 32 MiB is the most that glibc accepts."""

TRIM_THRESHOLD = 64 * 1024 * 1024
"""Free memory at the top of the heap that is kept for the next body."""

GC_THRESHOLD = (50_000, 20, 50)
"""The hot path makes no cycles, so the collector finds nothing there: let it look seldom."""


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


def settle() -> None:
    """Everything long-lived exists now: keep the collector from walking it ever again."""
    gc.collect()
    gc.freeze()
