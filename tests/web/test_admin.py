"""The admin listener: what operators, Prometheus and Kubernetes read and ask for."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request
from prometheus_client.parser import text_string_to_metric_families

from router.events import ConfigReloaded
from router.telemetry.metrics import LiveState, Metrics
from router.web import admin
from tests.web import snapshots

if TYPE_CHECKING:
    from aiohttp import ClientResponse

Client = TestClient[Request, Application]
MakeClient = Callable[..., Awaitable[Client]]


class Daemon:
    """A daemon reduced to what the admin listener asks it."""

    def __init__(self) -> None:
        self.digest = "d1"
        self.admin_token = ""
        self.refused = ""
        self.reloads = [ConfigReloaded(5.0, "applied", "d2")]
        self.drained = 0

    async def reload(self) -> ConfigReloaded:
        return self.reloads.pop()

    def config(self) -> dict[str, Any]:
        return {"listen": "127.0.0.1:8080", "keys": {"team": {"secret": {"env": "TEAM_KEY"}}}}

    def ready(self) -> tuple[bool, str]:
        return not self.refused, self.refused

    def state(self, *, bounded: bool = False) -> dict[str, Any]:
        return snapshots.state(draining=bounded)

    def drain(self) -> None:
        self.drained += 1

    def explain(self, question: bytes) -> tuple[int, object]:
        return (200, {"asked": question.decode()}) if question else (400, {"error": {"message": "nothing asked"}})


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics(version="0.1.0", loop_name="asyncio")
    metrics.configure(["gpt"], ["openai"], "d1", 1.0)
    return metrics


@pytest.fixture
async def client(aiohttp_client: MakeClient, daemon: Daemon, metrics: Metrics) -> Client:
    return await aiohttp_client(admin.build(daemon, metrics), auto_decompress=False)


async def answered(answer: ClientResponse) -> tuple[int, Any]:
    assert answer.content_type == "application/json"
    return answer.status, await answer.json()


async def test_health_is_that_the_loop_lives(client: Client, daemon: Daemon) -> None:
    """A daemon that is not ready is still healthy, so it is not restarted while it drains."""
    daemon.refused = "draining"
    assert await answered(await client.get("/healthz")) == (200, {"status": "ok"})


async def test_readiness_says_why_not(client: Client, daemon: Daemon) -> None:
    """Readiness follows the daemon, and a refusal names its reason."""
    assert await answered(await client.get("/readyz")) == (200, {"status": "ready"})
    daemon.refused = "draining"
    assert await answered(await client.get("/readyz")) == (503, {"status": "not ready", "reason": "draining"})


async def test_metrics_are_an_exposition(client: Client) -> None:
    """Prometheus gets the text format, with the type that says so, and compressed only if it asks."""
    answer = await client.get("/metrics", headers={"Accept-Encoding": "identity"})
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "Content-Encoding" not in answer.headers
    names = {it.name for it in text_string_to_metric_families(await answer.text())}
    assert "llm_router_requests" in names


async def test_metrics_speak_openmetrics(client: Client) -> None:
    """A scraper that asks for OpenMetrics gets it."""
    answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert gzip.decompress(await answer.read()).endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("asked", "compressed"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=0", False), ("gzip; q=0.000", False), ("br", False)],
)
async def test_metrics_are_compressed_when_asked(client: Client, asked: str, compressed: bool) -> None:
    """Compression follows `Accept-Encoding`, refusals by weight zero included."""
    answer = await client.get("/metrics", headers={"Accept-Encoding": asked})
    body = await answer.read()
    assert answer.headers.get("Content-Encoding") == ("gzip" if compressed else None)
    assert answer.headers["Vary"] == "Accept, Accept-Encoding"
    assert b"llm_router_build_info" in (gzip.decompress(body) if compressed else body)


async def test_metrics_are_rendered_off_the_loop(aiohttp_client: MakeClient, daemon: Daemon, metrics: Metrics) -> None:
    """Gauges are read on the event loop; the rendering runs in another thread."""
    places: list[tuple[str, threading.Thread]] = []

    class Watched:
        def scrape(self, accept: str) -> Callable[[], tuple[bytes, str]]:
            places.append(("read", threading.current_thread()))
            render = metrics.scrape(accept)

            def work() -> tuple[bytes, str]:
                places.append(("render", threading.current_thread()))
                return render()

            return work

    metrics.live(LiveState)
    client = await aiohttp_client(admin.build(daemon, Watched()))
    assert (await client.get("/metrics")).status == 200
    (read, loop_thread), (render, other_thread) = places
    assert (read, render) == ("read", "render")
    assert loop_thread is threading.current_thread()
    assert other_thread is not loop_thread


async def test_the_configuration_is_shown_with_its_hash(client: Client, daemon: Daemon) -> None:
    """Two replicas can be compared by what they run."""
    answer = await client.get("/-/config")
    assert await answered(answer) == (200, {"hash": "d1", "config": daemon.config()})


async def test_a_reload_says_what_came_of_it(client: Client, daemon: Daemon) -> None:
    """Applied is 200; rejected is 422 with every fault."""
    status, event = await answered(await client.post("/-/reload"))
    assert (status, event["result"], event["digest"]) == (200, "applied", "d2")
    daemon.reloads = [ConfigReloaded(6.0, "rejected", "d2", ("router.yaml:3:1: listen: no",))]
    status, event = await answered(await client.post("/-/reload"))
    assert (status, event["faults"]) == (422, ["router.yaml:3:1: listen: no"])


async def test_drain_drains(client: Client, daemon: Daemon) -> None:
    """A POST starts the drain; looking at the address does not."""
    assert (await client.get("/-/drain")).status == 405
    assert daemon.drained == 0
    assert await answered(await client.post("/-/drain")) == (202, {"status": "draining"})
    assert daemon.drained == 1


async def test_explain_answers_questions(client: Client) -> None:
    """The question goes to the daemon as it came, and its answer comes back with its status; more than 1 MiB is 413."""
    assert await answered(await client.post("/-/explain", data=b'{"model":"m"}')) == (200, {"asked": '{"model":"m"}'})
    assert await answered(await client.post("/-/explain")) == (400, {"error": {"message": "nothing asked"}})
    assert (await client.post("/-/explain", data=io.BytesIO(b" " * (1024 * 1024 + 1)))).status == 413
    assert (await client.get("/-/explain")).status == 405


@pytest.mark.parametrize("path", ["/-/drain", "/-/explain", "/-/reload"])
async def test_a_web_page_cannot_act(client: Client, daemon: Daemon, path: str) -> None:
    """A page in the operator's browser may send a POST here, but nothing happens."""
    status, body = await answered(await client.post(path, headers={"Origin": "http://elsewhere.example"}))
    assert (status, body["error"]["message"]) == (403, "actions are not open to web pages")
    assert (daemon.drained, len(daemon.reloads)) == (0, 1)


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ((), 401),
        (("Basic c2VzYW1l",), 401),
        (("Bearer",), 401),
        (("Bearer Sesame",), 401),
        (("Bearer sesame", "Bearer sesame"), 401),
        (("sesame",), 401),
        (("Bearer sesame",), 202),
        (("bearer  sesame",), 202),
    ],
)
async def test_actions_want_the_token(client: Client, daemon: Daemon, shown: tuple[str, ...], status: int) -> None:
    """With a token configured nothing is done for who does not show it, once and whole; reading stays open."""
    daemon.admin_token = hashlib.sha256(b"sesame").hexdigest()
    answer = await client.post("/-/drain", headers=[("Authorization", each) for each in shown])
    assert (answer.status, daemon.drained) == (status, int(status == 202))
    assert answer.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)
    assert (await client.get("/-/config")).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PROPFIND"])
async def test_no_method_goes_round_the_token(client: Client, daemon: Daemon, method: str) -> None:
    """Whatever is not there to read is an action, also where nothing is served."""
    daemon.admin_token = hashlib.sha256(b"sesame").hexdigest()
    for path in ("/-/reload", "/", "/nothing"):
        assert (await answered(await client.request(method, path)))[0] == 401
    assert len(daemon.reloads) == 1


async def test_errors_are_json(client: Client) -> None:
    """A wrong path or method is answered like everything else, with the methods that would do."""
    assert await answered(await client.get("/nothing")) == (404, {"error": {"message": "Not Found", "code": 404}})
    answer = await client.get("/-/reload")
    assert await answered(answer) == (405, {"error": {"message": "Method Not Allowed", "code": 405}})
    assert answer.headers["Allow"] == "POST"


async def test_a_fault_of_ours_is_logged_and_not_shown(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """An unforeseen error is 500 without its text; the text is in the log."""
    assert (await client.post("/-/reload")).status == 200
    with caplog.at_level(logging.ERROR):
        status, body = await answered(await client.post("/-/reload"))
    assert (status, body) == (500, {"error": {"message": "Internal Server Error", "code": 500}})
    assert "pop from empty list" in caplog.text


async def test_the_index_names_every_route(client: Client) -> None:
    """A person with curl finds what there is, below how it does."""
    status, _, index = (await (await client.get("/")).text()).rpartition("\nllm-router\n")
    for route in ("/healthz", "/readyz", "/metrics", "/-/config", "/-/reload", "/-/drain", "/status.json"):
        assert route in index
    assert "UPSTREAMS" in status
