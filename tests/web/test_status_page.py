"""The status page over HTTP: who gets what, and what a browser makes of it, from the real daemon."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.harness import chat
from tests.harness.router import ENVIRON, RunningRouter, config
from tests.harness.upstream import ScriptedUpstream, error
from tests.harness.waiting import until
from tests.web.browser import CHROMIUM, browsing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tests.status.conftest import StartRouter
    from tests.web.browser import Page

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
NAME = "<script>window.hit=1</script>\"'><img src=x onerror=window.hit=1>&amp;"
"""A name that a configuration may have."""
FRESH = "document.getElementById('fresh').textContent.startsWith('live')"
"""The script has drawn the page."""


@pytest.fixture
async def first() -> AsyncIterator[ScriptedUpstream]:
    upstream = ScriptedUpstream()
    await upstream.start()
    yield upstream
    await upstream.close()


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[StartRouter]:
    """Starts routers, which are checked and stopped after the test, however that ends."""
    async with AsyncExitStack() as stack:

        async def start(settings: dict[str, Any], environ: Mapping[str, str]) -> RunningRouter:
            running = await RunningRouter.start(tmp_path, settings, environ)
            stack.push_async_callback(running.close)
            return running

        yield start


@pytest.fixture
async def router(start: StartRouter, first: ScriptedUpstream) -> RunningRouter:
    return await start(config(first), ENVIRON)


async def get(router: RunningRouter, path: str = "/", accept: str | None = None) -> aiohttp.ClientResponse:
    url = "http://{}:{}{}".format(*router.daemon.admin_address, path)
    headers = {} if accept is None else {"Accept": accept}
    async with aiohttp.ClientSession(skip_auto_headers=("Accept",)) as session, session.get(url, headers=headers) as it:
        await it.read()
        return it


@asynccontextmanager
async def looking_at(router: RunningRouter, folder: Path, **how: Any) -> AsyncIterator[Page]:
    """The page in a browser that can reach nothing else."""
    host, port = router.daemon.admin_address
    async with browsing(folder / "profile", (host, port)) as page:
        await page.go(f"http://{host}:{port}/", **how)
        yield page


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("path", "accept", "content_type"),
    [
        ("/", BROWSER, "text/html"),
        ("/", "application/json", "application/json"),
        ("/", "text/plain", "text/plain"),
        ("/", "*/*", "text/plain"),  # curl
        ("/", None, "text/plain"),
        ("/status.json", BROWSER, "application/json"),
        ("/status.txt", BROWSER, "text/plain"),
        ("/status.json?view", "*/*", "application/json"),
    ],
)
async def test_everybody_gets_what_they_ask_for(
    router: RunningRouter, path: str, accept: str | None, content_type: str
) -> None:
    """Browsers get the page, programs JSON, terminals text; two addresses need no header. None is kept by a cache."""
    answer = await get(router, path, accept)
    assert (answer.status, answer.content_type) == (200, content_type)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert ("Vary" in answer.headers) == (path == "/")
    assert ("Content-Security-Policy" in answer.headers) == (content_type == "text/html")


async def test_the_text_for_a_program_is_the_page_alone(router: RunningRouter) -> None:
    """What `llm-router top` prints again and again has no list of addresses below it; what a person asks for has."""
    assert "POST /-/reload" in await (await get(router)).text()
    assert "POST /-/reload" not in await (await get(router, "/status.txt")).text()


async def test_the_script_gets_what_the_page_shows(router: RunningRouter, first: ScriptedUpstream) -> None:
    """The view is bounded like the page and holds its tables; the whole snapshot is beside it."""
    first.always(error(500))
    await router.post(chat.request())
    view = await (await get(router, "/status.json?view")).json()
    assert [table["id"] for table in view["tables"]] == ["upstreams", "models", "keys", "events"]
    page = await (await get(router, "/", "text/html")).text()
    assert "http_5xx" in page
    assert "http_5xx" in str(view["tables"][0]["rows"])
    assert "held" in await (await get(router, "/status.json")).json()


async def test_the_page_of_the_demo_is_small(router: RunningRouter) -> None:
    """A page without much to tell is mostly its style and script."""
    assert len(await (await get(router, "/", "text/html")).text()) <= 15 * 1024


@needs_chromium
async def test_a_browser_draws_it_and_keeps_it_fresh(
    tmp_path: Path, router: RunningRouter, first: ScriptedUpstream
) -> None:
    """The tables show, and what happens afterwards appears by itself; nothing fails, and nothing else is asked for."""
    async with looking_at(router, tmp_path) as page:
        await page.until(FRESH)
        assert await page.value("document.querySelector('#upstreams tbody th').textContent") == "first"
        assert await page.value("document.querySelectorAll('#events tbody tr').length") == 1
        first.always(error(429, None, "retry-after: 60"))
        await router.post(chat.request())
        await page.until("document.querySelectorAll('#events tbody tr').length == 2")
        assert await page.value("document.querySelector('#upstreams .state').textContent") == "cooling"
        assert await page.value("document.querySelector('#events .cool').textContent") == "cooled"
        assert await page.value("document.querySelector('#alarms').textContent") == "Nobody can serve: m"
        assert (
            await page.value("getComputedStyle(document.querySelector('#upstreams .state'),'::before').content")
            == '"◆"'
        )
        root = "http://{}:{}/".format(*router.daemon.admin_address)
        assert set(page.requests) == {root, root + "status.json?view"}
        assert page.complaints == []


@needs_chromium
async def test_it_reads_without_scripts(tmp_path: Path, router: RunningRouter) -> None:
    """A browser that runs no script shows the same tables, with plain heads."""
    async with looking_at(router, tmp_path, script=False) as page:
        assert await page.value("document.querySelector('#upstreams tbody th').textContent") == "first"
        assert await page.value("document.querySelectorAll('main table').length") == 4
        assert await page.value("document.querySelectorAll('th button').length") == 0
        assert await page.value("!!document.querySelector('meta[http-equiv=refresh]')")


@needs_chromium
async def test_columns_sort_by_keyboard(tmp_path: Path, start: StartRouter, first: ScriptedUpstream) -> None:
    """A head is a button: the keyboard reaches and presses it, the order is announced, and it lasts over new data."""
    settings = config(first)
    settings["upstreams"] |= dict.fromkeys(("zulu", "alpha"), settings["upstreams"]["first"])
    settings["models"] |= {"other": {"pool": ["zulu", "alpha"]}}
    router = await start(settings, ENVIRON)
    names = "[...document.querySelectorAll('#upstreams tbody th')].map(it => it.textContent).join()"
    order = "document.querySelector('#upstreams thead th').getAttribute('aria-sort')"
    async with looking_at(router, tmp_path) as page:
        await page.until(FRESH)
        before = await page.value(names)
        await page.value("document.querySelector('#upstreams thead button').focus()")
        await page.press("Enter", "\r")
        assert (await page.value(order), await page.value(names)) == ("ascending", "alpha,first,zulu")
        drawn = len(page.requests)
        await until(lambda: len(page.requests) >= drawn + 2, "two more looks")
        assert await page.value(names) == "alpha,first,zulu"
        assert await page.value("document.activeElement.tagName") == "BUTTON"
        await page.press("Enter", "\r")
        assert (await page.value(order), await page.value(names)) == ("descending", "zulu,first,alpha")
        await page.press("Enter", "\r")
        assert (await page.value(order), await page.value(names)) == (None, before)


@needs_chromium
async def test_old_data_is_grey(tmp_path: Path, router: RunningRouter) -> None:
    """When the daemon does not answer any more the page says so, and does not look as if it were alive."""
    async with looking_at(router, tmp_path) as page:
        await page.until(FRESH)
        assert not await page.value("document.body.classList.contains('stale')")
        await page.be_offline()
        await page.until("document.body.classList.contains('stale')")
        assert (await page.value("document.getElementById('fresh').textContent")).startswith("no answer for ")
        await page.be_offline(False)
        await page.until("!document.body.classList.contains('stale')")


@needs_chromium
async def test_a_hostile_name_does_nothing(tmp_path: Path, start: StartRouter, first: ScriptedUpstream) -> None:
    """Names of models, upstreams and keys are read as text, drawn by the script and without it."""
    settings = config(first, keys={NAME: {"secret": {"env": "CLIENT_SECRET"}}})
    settings["upstreams"][NAME] = settings["upstreams"].pop("first")
    settings["models"] = {NAME: {"pool": [{"upstream": NAME, "model": "real" + NAME}]}}
    router = await start(settings, ENVIRON)
    root = "http://{}:{}/".format(*router.daemon.admin_address)
    async with looking_at(router, tmp_path) as page:
        for script in (True, False):
            await page.go(root, script=script)
            if script:
                await page.until(FRESH)
            for table in ("upstreams", "models", "keys"):
                assert await page.value(f"document.querySelector('#{table} tbody th').textContent") == NAME
            assert "real<script>" in await page.value("document.querySelector('#models .l5').textContent")
            assert await page.value("window.hit") is None
            assert await page.value("document.querySelectorAll('main img, main script').length") == 0
        assert set(page.requests) == {root, root + "status.json?view"}


@needs_chromium
async def test_it_fits_the_screen(tmp_path: Path, router: RunningRouter) -> None:
    """On a desk and on a telephone nothing hangs over the edge, in light and in dark, which differ."""
    root = "http://{}:{}/".format(*router.daemon.admin_address)
    async with looking_at(router, tmp_path) as page:
        for width, dark in ((1280, False), (1280, True), (390, False), (390, True)):
            await page.go(root, dark=dark, width=width)
            await page.until(FRESH)
            assert await page.value("document.documentElement.scrollWidth") == width
            red, *_ = await page.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
            assert (red < 64) is dark
            assert (await page.picture()).startswith(b"\x89PNG")
