"""A headless Chromium, driven over its debugging protocol: what a person's browser makes of a page.

All its traffic but that to one address goes to a proxy that is not there, so that a page which needs anything else
shows it; and every request a page makes is kept.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-default-apps", "--disable-extensions",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0",
    "--proxy-server=http://127.0.0.1:1",
)  # fmt: skip
PATIENCE_S = 30.0
"""For one answer of the browser: the machine may be busy with others."""
LOOK_S = 0.05


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._session = ""
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.requests: list[str] = []
        """The address of every request, `data:` among them."""
        self.complaints: list[str] = []
        """Exceptions, and errors on the console."""
        self.reader = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def open(cls, socket: aiohttp.ClientWebSocketResponse) -> Self:
        page = cls(socket)
        target = await page.call("Target.createTarget", url="about:blank")
        page._session = (await page.call("Target.attachToTarget", targetId=target["targetId"], flatten=True))[
            "sessionId"
        ]
        for domain in ("Page", "Network", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        return page

    async def call(self, method: str, **params: Any) -> Any:
        self._number += 1
        answer = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": self._number, "method": method, "params": params, **session})
        async with asyncio.timeout(PATIENCE_S):
            return await answer

    async def go(
        self, url: str, *, script: bool = True, dark: bool = False, width: int = 1280, height: int = 900
    ) -> None:
        """Load a page and wait until it says that it has loaded."""
        await self.call("Emulation.setScriptExecutionDisabled", value=not script)
        await self.look_like(dark=dark, width=width, height=height)
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState == 'complete'")

    async def look_like(self, *, dark: bool, width: int, height: int) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def value(self, expression: str) -> Any:
        """Evaluate in the page, which works also where its own scripts may not run."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until it is true in the page."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self.value(expression):  # noqa: ASYNC110 - the page has no event for us
                await asyncio.sleep(LOOK_S)

    async def press(self, key: str, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text if kind == "keyDown" else ""
            )

    async def be_offline(self, offline: bool = True) -> None:
        """Let no request of the page through, or all again."""
        rates = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        await self.call("Network.emulateNetworkConditions", offline=offline, **rates)

    async def picture(self, *, whole: bool = False) -> bytes:
        """A PNG of what is seen, or of the whole page."""
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    async def _read(self) -> None:
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                future = self._waiting.pop(told["id"])
                if future.done():
                    continue
                if "error" in told:
                    future.set_exception(AssertionError(told["error"]))
                else:
                    future.set_result(told["result"])
            elif told["method"] == "Network.requestWillBeSent":
                self.requests.append(told["params"]["request"]["url"])
            elif told["method"] == "Runtime.exceptionThrown":
                self.complaints.append(str(told["params"]["exceptionDetails"]))
            elif told["method"] == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
                self.complaints.append(told["params"]["entry"]["text"])


@asynccontextmanager
async def browsing(profile: Path, address: tuple[str, int]) -> AsyncIterator[Page]:
    """Start a browser that reaches one address alone, with a tab; end both."""
    assert CHROMIUM, "no chromium"
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *FLAGS, f"--user-data-dir={profile}", f"--proxy-bypass-list=<-loopback>;{address[0]}:{address[1]}",
        "about:blank", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            async for line in process.stderr:
                if b"DevTools listening on " in line:
                    break
        url = line.split()[-1].decode()
        drained = asyncio.get_running_loop().create_task(process.stderr.read())
        async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
            page = await Page.open(socket)
            try:
                yield page
                page._session = ""
                await page.call("Browser.close")
            finally:
                page.reader.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()
        await drained
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # its helpers as well: it leads a session of its own
            await process.wait()
