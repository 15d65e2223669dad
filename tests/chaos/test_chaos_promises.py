"""The promises of RELIABILITY 7.4, each played small; and that the measure sees a promise being broken."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import uvloop

from tests.chaos import outages, report, truncation
from tests.chaos.__main__ import SCENARIOS, main
from tests.chaos.report import Finding
from tests.chaos.stage import Stage
from tests.chaos.systems import Router, Serving, System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.chaos.systems import Wishes
    from tests.chaos.upstreams import Upstream

SCALE = 0.02


class Bare(System):
    """No gateway: the first upstream itself."""

    name = "bare"
    rate = 100.0
    streams_share = 1.0
    streams_at_once = 12
    speaks_all = False
    version = ""

    @asynccontextmanager
    async def serve(self, folder: Path, upstreams: Sequence[Upstream], wishes: Wishes) -> AsyncIterator[Serving]:
        del folder, wishes
        yield BareServing(upstreams[0])


class BareServing(Serving):
    def __init__(self, upstream: Upstream) -> None:
        self.address = ("127.0.0.1", upstream.port)

    async def stop(self) -> int | None:
        return 0


def stage(system: System, folder: Path) -> Stage:
    return Stage(system=system, folder=folder, scale=SCALE, seed=1)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_promise_is_kept(name: str, tmp_path: Path) -> None:
    """Every scenario of `make chaos` ends well, with the real daemon as a process of its own."""
    finding = uvloop.run(SCENARIOS[name](stage(Router(), tmp_path)))
    assert finding.holds, finding.measured


def test_the_measure_sees_what_a_router_is_for(tmp_path: Path) -> None:
    """Without one, clients do see the upstream that dies and the one that refuses, and SDKs take cut streams for whole.

    To them a cleanly ended stream is a whole one, whatever is missing.
    """

    async def without() -> tuple[Finding, Finding, Finding]:
        bare = stage(Bare(), tmp_path)
        return await asyncio.gather(outages.kill(bare), outages.storm(bare), truncation.truncate(bare))

    killed, refused, truncated = uvloop.run(without())
    assert [each.holds for each in (killed, refused, truncated)] == [False] * 3
    assert "no answer" in killed.measured
    assert "1000.0 ‰" in refused.measured
    assert not truncated.measured.startswith("0 of")


def test_the_table_says_what_broke_and_what_was_not_measured() -> None:
    """A broken promise of the first system is called so; what another did not do has its own words or a dash."""
    kept = Finding(promise="p", measured="all well", holds=True, how="so")
    broken = Finding(promise="p", measured="1 lost", holds=False, how="so")
    found = {"kill": {"ours": broken, "other": broken}, "stop": {"ours": kept}}
    table = report.markdown(found, ["ours", "other"], {"stop": "not here"})
    assert table.splitlines()[2:] == [
        "| p | BROKEN: 1 lost | 1 lost | so |",
        "| p | all well | not here | so |",
    ]
    assert "BROKEN: 1 lost" in report.plain(found, ["ours", "other"], {})


def test_an_unknown_scenario_is_refused() -> None:
    """A wrong name on the command line is told, and nothing is started."""
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "kill,nothing"])
