"""What the daemon asks of its process, in a process of its own: limits and collector are the interpreter's."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from router import process

ROOT = Path(__file__).parents[1]


def in_a_process(script: str) -> Any:
    """Run a script that prints JSON."""
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    """`tune` raises the limit on open files from the soft to the hard one, and is harmless when repeated."""
    told = in_a_process("""
        import json, resource
        from router import process
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        limits = []
        for _ in range(2):
            process.tune()
            limits.append(resource.getrlimit(resource.RLIMIT_NOFILE))
        print(json.dumps([hard, limits]))
    """)
    hard, limits = told
    assert limits == [[hard, hard]] * 2


def test_clients_leave_descriptors_for_upstreams() -> None:
    """Each client may need an upstream, and the daemon some files of its own; there is room for one at least."""
    assert in_a_process("""
        import json, resource
        from router import process
        found = []
        for limit in (1024, 256, 64, 20):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            found.append(process.connections_max())
        print(json.dumps(found))
    """) == [480, 96, 1, 1]


def test_the_collector_looks_seldom_and_passes_over_what_stays() -> None:
    """`tune` sets the thresholds; `settle` exempts what exists by then, and nothing that comes later."""
    thresholds, frozen, collected = in_a_process("""
        import gc, json
        from router import process
        process.tune()
        process.settle()
        frozen = gc.get_freeze_count()
        cycle = []
        cycle.append(cycle)
        del cycle
        print(json.dumps([gc.get_threshold(), frozen, gc.collect()]))
    """)
    assert tuple(thresholds) == process.GC_THRESHOLD
    assert frozen > 1000
    assert collected >= 1


def test_big_bodies_come_from_the_heap() -> None:
    """After `tune` a block of 16 MiB is not mapped anew each time, as it is by default."""
    mapped = in_a_process("""
        import ctypes, json
        from router import process

        class Mallinfo(ctypes.Structure):
            _fields_ = [(name, ctypes.c_size_t) for name in
                        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallinfo2"):  # glibc since 2.33
            libc.mallinfo2.restype = Mallinfo

            def blocks_mapped_for_a_body(mebibytes):
                before = libc.mallinfo2().hblks
                body = bytearray(mebibytes << 20)
                return libc.mallinfo2().hblks - before

            untuned = blocks_mapped_for_a_body(8)  # smaller: what was mapped once, glibc takes from the heap next time
            process.tune()
            print(json.dumps([untuned, blocks_mapped_for_a_body(16)]))
        else:
            print("null")
    """)
    if mapped is None:
        pytest.skip("this C library does not tell how it allocates")
    assert mapped == [1, 0]
