"""`deploy/grafana`: what is committed is what the script makes, asks for what there is, and no picture is empty."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml

from router.demo.behaviour import Behaviour
from router.demo.upstreams import DemoUpstream
from tests.deploy.promql import DEPLOY, PROMETHEUS, faults, known, needs_promtool, promtool, recorded
from tests.harness.router import CLIENT_SECRET, ENVIRON, OTHER_SECRET, RunningRouter
from tests.harness.socket_upstream import SocketUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

GRAFANA = DEPLOY / "grafana"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))
}
PATIENCE_S = 90.0
"""Far more than a busy machine needs."""

SPAN_S = 15
"""What is looked back at: all scrapes of a run, so that one which a busy machine misses does not matter."""


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel of a dashboard that shows something."""
    return (panel for panel in board["panels"] if panel["type"] != "row")


def queries() -> Iterator[tuple[str, dict[str, Any], str, str]]:
    """Everything the dashboards ask: board, panel or annotation, its title, expression."""
    for name, board in BOARDS.items():
        for panel in panels(board):
            yield from ((name, panel, panel["title"], target["expr"]) for target in panel["targets"])
        for annotation in board["annotations"]["list"]:
            yield name, annotation, annotation["name"], annotation["expr"]


def filled(expr: str, *, interval: str = "5m", span: str = "1h", **variables: str) -> str:
    """An expression as Grafana sends it: every variable replaced, `.*` where nothing is chosen."""
    for name, value in (("__rate_interval", interval), ("__interval", interval), ("__range", span)):
        expr = re.sub(rf"\${name}\b", value, expr)
    return re.sub(r"\$(\w+)", lambda found: variables.get(found[1], ".*"), expr)


# what is committed


def test_the_files_are_what_the_script_makes() -> None:
    """Nobody edits the JSON by hand, and nobody forgets to make it anew."""
    done = subprocess.run([sys.executable, GRAFANA / "dashboards.py", "--check"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(list((GRAFANA / "dashboards").iterdir())) == len(BOARDS) == 2


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_can_be_read(name: str) -> None:
    """12 to 18 panels, each with an id, a title, a unit, a description and a place of its own on the grid."""
    board = BOARDS[name]
    assert board["uid"] == name
    shown = list(panels(board))
    assert 12 <= len(shown) <= 18
    assert len({panel["title"] for panel in shown}) == len(shown)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in shown:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        assert {each["datasource"]["uid"] for each in (panel, *panel["targets"])} == {"${datasource}"}
    cells = [cell for panel in board["panels"] for cell in covered(panel["gridPos"])]
    assert len(set(cells)) == len(cells), "two panels in one place"
    assert all(x < 24 for x, _ in cells)


def covered(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    """The cells of the grid that a panel takes."""
    return itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))


@pytest.mark.parametrize("name", BOARDS)
def test_every_variable_is_declared(name: str) -> None:
    """Variables in expressions, titles and queries are those of the board, or Grafana's own."""
    board = BOARDS[name]
    declared = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board)))
    assert used - {"__rate_interval", "__interval", "__range", "__all", "__auto"} <= declared
    assert declared <= used, "a variable that changes nothing"


@pytest.mark.parametrize(("name", "expr"), [(f"{board}: {title}", expr) for board, _, title, expr in queries()])
def test_a_query_asks_for_what_there_is(name: str, expr: str) -> None:
    """Every metric, label, bucket and outcome in a query is one that the router has; no means of means."""
    del name
    assert list(faults(expr, known() | recorded())) == []
    assert "irate" not in expr
    for counter in re.findall(r"\w+_(?:total|sum|count|bucket)\b", expr):
        assert re.search(rf"(?:rate|increase|changes)\({counter}", expr), f"{counter} without a rate"


@pytest.mark.parametrize("name", BOARDS)
def test_variables_ask_for_what_there_is(name: str) -> None:
    """The lists that variables offer come from metrics and labels that there are."""
    for variable in BOARDS[name]["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert found is not None
            assert list(faults(f"max by ({found[2]}) ({found[1]})", known())) == []


@needs_promtool
def test_every_query_is_promql(tmp_path: Path) -> None:
    """promtool parses every expression of the dashboards, variables filled in."""
    rules = [
        {"record": f"panel:{number}", "expr": filled(expr)} for number, (_, _, _, expr) in enumerate(queries())
    ]  # fmt: skip
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", path)


# what is shown

SCRAPES = 10
"""Enough for every rate, with one scrape a second."""

SCRAPED = "count_over_time(llm_router_build_info[1h])"

QUIET = {"Out now"}
"""Panels that may be zero at one moment, whatever happens."""

SELDOM = {"Router started"}
"""Annotations that need what a test in one process cannot have."""

BEHAVIOURS = {
    "fast": Behaviour(latency_s=0.01, token_interval_s=0.002),
    "slow": Behaviour(latency_s=0.05, token_interval_s=0.02, tokens=50),
    "flaky": Behaviour(latency_s=0.01, token_interval_s=0.002, errors={500: 3, 429: 5}, cut_every=3, cut_after=4),
    "broken": Behaviour(latency_s=0.0, errors={500: 1}),
}


def settings(upstreams: dict[str, DemoUpstream], voice: str) -> dict[str, Any]:
    """A configuration in which everything happens that a panel shows."""
    price = {"input": 1, "output": 10}
    document: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "defaults": {"ejection": {"consecutive": 3, "eject": "1s", "eject_max": "1s"}},
        "upstreams": {name: {"base_url": upstream.base_url} for name, upstream in upstreams.items()},
        "models": {
            "mixed": {"pool": ["fast", "slow", "flaky"], "price": price},
            "slow": {"pool": ["slow"], "price": price},
            "broken": "broken",
            "voice": "voice",
        },
        "keys": {
            "team": {"secret": {"env": "CLIENT_SECRET"}},
            "small": {"secret": {"env": "OTHER_SECRET"}, "limits": {"requests_per_minute": 6, "request_burst": 1}},
        },
        "stop": {"notice": "1ms", "drain": "5s"},
    }
    document["upstreams"]["slow"] |= {"limits": {"concurrency": 20}, "stream_usage": "never"}
    document["upstreams"]["voice"] = {"base_url": voice}
    return document


async def ask(session: aiohttp.ClientSession, url: str, secret: str, model: str, *, stream: bool, reads: int) -> None:
    """Send one request and read so many pieces of its answer, 0 for all; whatever comes is fine."""
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    with contextlib.suppress(aiohttp.ClientError):  # flaky's streams are cut
        async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
            pieces = [piece async for piece in take(answer.content.iter_any(), reads)]
            if reads and len(pieces) == reads:
                answer.close()


async def take(pieces: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    taken = 0
    async for piece in pieces:
        yield piece
        taken += 1
        if taken == count:
            return


@asynccontextmanager
async def traffic(router: RunningRouter) -> AsyncIterator[None]:
    """Clients of every kind, until the end of the block."""
    over = asyncio.Event()
    url = "http://{}:{}".format(*router.daemon.data_address)

    async def keep_asking(secret: str, model: str, *, stream: bool = False, reads: int = 0) -> None:
        while not over.is_set():
            await ask(session, url, secret, model, stream=stream, reads=reads)
            await asyncio.sleep(0.05)

    async def talk() -> None:
        headers = {"Authorization": f"Bearer {CLIENT_SECRET}"}
        async with session.ws_connect(f"{url}/v1/realtime?model=voice", headers=headers) as socket:
            await socket.send_str('{"type":"session.update"}')
            await over.wait()

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as clients:
        for work in (
            keep_asking(CLIENT_SECRET, "mixed"),
            keep_asking(CLIENT_SECRET, "mixed", stream=True),
            keep_asking(CLIENT_SECRET, "mixed", stream=True),
            keep_asking(CLIENT_SECRET, "slow", stream=True),
            keep_asking(CLIENT_SECRET, "slow", stream=True),
            keep_asking(CLIENT_SECRET, "slow", stream=True, reads=3),
            keep_asking(CLIENT_SECRET, "broken"),
            keep_asking(CLIENT_SECRET, "unknown"),
            keep_asking(OTHER_SECRET, "mixed"),
            keep_asking("sk-nobody", "mixed"),
            keep_asking("", "mixed"),
            talk(),
        ):
            clients.create_task(work)
        try:
            yield
        finally:
            over.set()


class Prometheus:
    """A Prometheus of our own that scrapes one router every second, with the rules of `deploy/prometheus`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def get(self, path: str, **parameters: Any) -> Any:
        async with self._session.get(f"{self._url}/api/v1/{path}", params=parameters) as answer:
            body = await answer.json()
        assert body["status"] == "success", body
        return body["data"]

    async def values(self, expr: str, *, instant: bool) -> list[float]:
        """Every number that an expression gives, now or over the last seconds, without those that are none."""
        if instant:
            found = [series["value"] for series in (await self.get("query", query=expr))["result"]]
        else:
            now = time.time()
            data = await self.get("query_range", query=expr, start=now - SPAN_S, end=now, step=1)
            found = [value for series in data["result"] for value in series["values"]]
        return [float(value) for _, value in found if not math.isnan(float(value))]

    async def scraped(self, times: int) -> None:
        """Wait until the router has been scraped so often."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.values(SCRAPED, instant=True) < [times]:  # noqa: ASYNC110 (another process does it)
                await asyncio.sleep(0.2)


@asynccontextmanager
async def prometheus(folder: Path, router: RunningRouter) -> AsyncIterator[Prometheus]:
    """Start it with the committed configuration, but for its address and its pace; ready when the block begins."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [{"targets": ["{}:{}".format(*router.daemon.admin_address)]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}"
            await ready(session, f"{url}/-/ready", process)
            yield Prometheus(session, url)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ready(session: aiohttp.ClientSession, url: str, process: asyncio.subprocess.Process) -> None:
    """Wait until it answers 200."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            assert process.returncode is None, "Prometheus ended"
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed (Debian: prometheus)")
async def test_no_panel_is_empty(tmp_path: Path) -> None:
    """With a real Prometheus and every kind of traffic, each query of each panel has numbers that are not all zero.

    Every rule is evaluated without an error, too, what is recorded without a long wait has numbers, and promtool finds
    nothing to say about the metrics.
    """
    async with AsyncExitStack() as stack:
        upstreams = {name: DemoUpstream(name, behaviour) for name, behaviour in BEHAVIOURS.items()}
        for upstream in upstreams.values():
            await upstream.start()
            stack.push_async_callback(upstream.stop)
        voice = SocketUpstream()
        await voice.start()
        stack.push_async_callback(voice.close)
        config = settings(upstreams, voice.base_url)
        router = await RunningRouter.start(tmp_path, config, ENVIRON)
        stack.push_async_callback(router.close)
        server = await stack.enter_async_context(prometheus(tmp_path, router))
        async with traffic(router):
            await server.scraped(3)
            config["models"]["another"] = "fast"
            assert (await router.reload(config)).result == "applied"
            await server.scraped(SCRAPES)
            empty = [text async for text in without_numbers(server)]
            rules = (await server.get("rules"))["groups"]
            exposition, _ = router.daemon._metrics.render("")
        assert "\n".join(empty) == ""
        assert [rule for group in rules for rule in group["rules"] if rule["health"] == "err"] == []
        assert await asyncio.to_thread(promtool, "check", "metrics", stdin=exposition) == ""


async def without_numbers(server: Prometheus) -> AsyncIterator[str]:
    """Every query that shows nothing."""
    for board, panel, title, expr in queries():
        asked = filled(expr, interval=f"{SPAN_S}s", span="1m", job="llm-router")
        numbers = await server.values(asked, instant=panel.get("type") in {"stat", "table"})
        if title not in SELDOM and (not any(numbers) if title not in QUIET else not numbers):
            yield f"{board}: {title}: {asked}"
    for name in recorded():
        if not re.search(r"(?:2h|6h|1d|3d)$", name) and not await server.values(name, instant=True):
            yield name
