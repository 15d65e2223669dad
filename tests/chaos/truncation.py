"""Ten thousand cut streams as users of the SDKs see them: how many ended as if they were whole."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.chaos.cuts import BEFORE_CONTENT, CuttingUpstream, plan
from tests.chaos.report import Finding
from tests.chaos.systems import CLAUDE, MODEL, Serving, Wishes
from tests.chaos.upstreams import words
from tests.sdk.running import node_missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.stage import Stage

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
NODE_FOLDER = ROOT / "tests/sdk/node"
OPENAI1 = ROOT / ".venv-openai1/bin/python"
UPSTREAMS = 4
STREAMS_MIN = 20
TRIES_S = 600.0
"""Seconds after which an SDK's program is given up."""


class Row(NamedTuple):
    """What one of the programs tells of a stream."""

    name: str
    text: str
    finish: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One SDK, in one of its ways to be used, and its share of the streams."""

    words: str
    command: tuple[str, ...]
    folder: Path
    package: str
    route: str
    streams: int


def readers() -> list[Reader]:
    """Those that can be run here."""
    newest = (sys.executable, "-I", str(HERE / "sdk_streams.py"))
    chat = {"package": "openai", "route": "chat"}
    responses = {"package": "openai", "route": "responses"}
    messages = {"package": "anthropic", "route": "messages"}
    found = [
        Reader(words="openai-python", command=newest, folder=ROOT, streams=4200, **chat),
        Reader(words="openai-python (Responses)", command=newest, folder=ROOT, streams=550, **responses),
        Reader(words="anthropic-python", command=newest, folder=ROOT, streams=500, **messages),
    ]
    if OPENAI1.exists():
        old = (str(OPENAI1), *newest[1:])
        found.append(Reader(words="openai-python 1.x", command=old, folder=ROOT, streams=1100, **chat))
    if not node_missing():
        node = ("node", str(HERE / "sdk_streams.mjs"))
        found += [
            Reader(words="openai-node", command=node, folder=NODE_FOLDER, streams=4300, **chat),
            Reader(words="openai-node (Responses)", command=node, folder=NODE_FOLDER, streams=550, **responses),
        ]
    return found


async def truncate(stage: Stage) -> Finding:
    """Streams are cut at all kinds of places, in all kinds of ways; every reader's share is read at the same time."""
    chosen = [reader for reader in readers() if stage.system.speaks_all or reader.route == "chat"]
    share = stage.scale * stage.system.streams_share
    async with AsyncExitStack() as stack:
        attempts: Counter[str] = Counter()
        pool = [CuttingUpstream(stage.seed, attempts) for _ in range(UPSTREAMS)]
        for upstream in pool:
            await upstream.listen()
            stack.push_async_callback(upstream.close)
        serving = await stack.enter_async_context(stage.system.serve(stage.folder, pool, Wishes(judge=False)))
        read = await asyncio.gather(
            *(
                _read(reader, serving, max(STREAMS_MIN, round(reader.streams * share)), stage.system.streams_at_once)
                for reader in chosen
            )
        )
    tally: Counter[str] = Counter()
    for reader, rows in zip(chosen, read, strict=True):
        for row in rows:
            tally.update(judge(row, stage.seed, reader.words))
    return _finding(tally, [reader.words for reader in chosen])


def judge(row: Row, seed: int, reader: str) -> Iterator[str]:
    """What is to be counted of one stream: in `silent` if it raised nothing and is not the whole answer."""
    full = "".join(words(row.name))
    decided = plan(row.name, seed)
    whole = row.error is None and row.finish is not None and row.text == full
    yield "uncut" if decided.place is None else "cut"
    yield "raised" if row.error else "whole" if whole else "silent"
    if not row.error and not whole:
        yield f"by {reader}"
        yield f"where {decided.ending}"
    if decided.place is None and not whole:
        yield "uncut failed"
    if decided.place in BEFORE_CONTENT:
        yield "early"
        if whole:
            yield "early whole"
    if not full.startswith(row.text):
        yield "mixed"


async def _read(reader: Reader, serving: Serving, streams: int, at_once: int) -> list[Row]:
    # Anthropic's SDK adds the `/v1` itself.
    prefix = "" if reader.package == "anthropic" else "/v1"
    names = [f"{reader.words.replace(' ', '-')}-{number}" for number in range(streams)]
    task = {
        "package": reader.package,
        "route": reader.route,
        "base_url": "http://{}:{}".format(*serving.address) + prefix,
        "key": serving.key,
        "model": CLAUDE if reader.route == "messages" else MODEL,
        "names": names,
        "at_once": at_once,
    }
    rows = [Row(*row) for row in await _carry_out(reader, task)]
    assert sorted(row.name for row in rows) == sorted(names)
    return rows


async def _carry_out(reader: Reader, task: dict[str, Any]) -> Any:
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_"))}
    process = await asyncio.create_subprocess_exec(
        *reader.command, cwd=reader.folder, env=mine | {"NO_PROXY": "127.0.0.1"}, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(TRIES_S):
            stdout, stderr = await process.communicate(json.dumps(task).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{reader.words}: {stderr.decode(errors='replace')[-2000:]}")
    return json.loads(stdout)


def _finding(tally: Counter[str], names: list[str]) -> Finding:
    silent = "; ".join(f"{times} {what}" for what, times in sorted(tally.items()) if what.startswith(("by ", "where ")))
    wrong = f"; {tally['mixed']} with a text that was not sent" if tally["mixed"] else ""
    return Finding(
        promise="Silently truncated answers: 0 of all cut streams, as users of the SDKs see them",
        measured=f"{tally['silent']} of {tally['cut']:,}{f' ({silent})' if silent else ''}; "
        f"{tally['raised']:,} raised an exception; {tally['early whole']:,} of {tally['early']:,} cut before content "
        f"came whole from another upstream; {tally['uncut failed']} of {tally['uncut']} uncut ones failed{wrong}",
        holds=tally["silent"] == tally["mixed"] == tally["uncut failed"] == 0,
        how=f"8 places x 7 ways to cut, chosen by seed; read by {', '.join(names)}",
    )
