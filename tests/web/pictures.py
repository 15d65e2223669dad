"""The pictures of the status page in `deploy/pictures/`, made anew: `python -m tests.web.pictures`.

The real daemon with the demo's upstreams under steady traffic, one of them flaky and one gone, for as long as the
curves go back; then a browser looks at it, in light and in dark.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import random
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from PIL import Image

from router.app import Daemon
from router.demo.behaviour import Behaviour
from router.demo.upstreams import DemoUpstream
from tests.web.browser import browsing

PICTURES = Path(__file__).parents[2] / "deploy/pictures"
BEHAVIOURS = {
    "openai": Behaviour(latency_s=0.18, token_interval_s=0.012, tokens=60),
    "azure-eu": Behaviour(latency_s=0.25, token_interval_s=0.015, tokens=60, errors={429: 60}, retry_after_s=20),
    "openrouter": Behaviour(latency_s=0.4, token_interval_s=0.02, tokens=60, errors={500: 4}, cut_every=9),
    "gpu-1": Behaviour(latency_s=0.05, token_interval_s=0.008, tokens=60),
    "gpu-2": Behaviour(latency_s=0.05, token_interval_s=0.008, tokens=60),
}
KEYS = {"team-search": "gpt-5.5", "support-bot": "qwen3-32b", "notebooks": "gpt-5.4-mini", "ci": "gpt-5.5"}
"""Each key and the model it asks for."""
RATE = {"team-search": 5.0, "support-bot": 4.0, "notebooks": 2.0, "ci": 0.55}
"""Requests a second."""
HEIGHT = 1040
"""Of a picture: everything, and the latest events."""
COLOURS = 224
"""Of a picture: text and lines need no more, and it is a third of the size."""
GONE_AFTER = 0.6
"""The part of the time after which `gpu-2` is gone."""


def configuration(upstreams: list[DemoUpstream]) -> dict[str, Any]:
    limits = {name: {"concurrency": 64} for name in BEHAVIOURS}
    return {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "upstreams": {it.name: {"base_url": it.base_url, "limits": limits[it.name]} for it in upstreams},
        "models": {
            "gpt-5.5": {
                "pool": [
                    {"upstream": "openai", "weight": 3},
                    {"upstream": "azure-eu", "model": "gpt-55-prod"},
                    {"upstream": "openrouter", "model": "openai/gpt-5.5", "tier": 2},
                ]
            },
            "gpt-5.4-mini": {"pool": ["openrouter", "azure-eu"]},
            "qwen3-32b": {"pool": ["gpu-1", "gpu-2"], "choose": "least_in_flight"},
        },
        "keys": {
            "team-search": _key("team-search", requests_per_minute=600, tokens_per_minute=24_000, concurrency=50),
            "support-bot": _key("support-bot", requests_per_minute=300, concurrency=20),
            "notebooks": _key("notebooks", tokens_per_minute=9_000),
            "ci": _key("ci", requests_per_minute=30, concurrency=2),
        },
        "defaults": {"ejection": {"eject": "45s"}},
        "stop": {"notice": "1ms", "drain": "1s"},
    }


def _key(name: str, **limits: int) -> dict[str, Any]:
    return {"secret": {"env": _variable(name)}, "models": ["*"], "limits": limits}


def _variable(name: str) -> str:
    return f"KEY_{name.replace('-', '_').upper()}"


async def _client(url: str, key: str, rng: random.Random) -> None:
    """Ask again and again, without waiting for answers."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session,
        asyncio.TaskGroup() as group,
    ):
        while True:
            await asyncio.sleep(rng.expovariate(RATE[key]))
            group.create_task(_ask(session, url, KEYS[key], stream=rng.random() < 0.7))


async def _ask(session: aiohttp.ClientSession, url: str, model: str, *, stream: bool) -> None:
    body = {"model": model, "stream": stream, "max_tokens": 60, "messages": [{"role": "user", "content": "Hello"}]}
    try:
        async with session.post(url, json=body) as answer:
            await answer.read()
    except aiohttp.ClientError:
        return  # a cut stream, which the page counts


async def main(seconds: float, folder: Path) -> None:
    """Show `seconds` of traffic, and write the pictures."""
    async with AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        upstreams = [DemoUpstream(name, behaviour) for name, behaviour in BEHAVIOURS.items()]
        for upstream in upstreams:
            await upstream.start()
            stack.push_async_callback(upstream.stop)
        path = scratch / "router.yaml"
        path.write_text(yaml.safe_dump(configuration(upstreams)))
        log = stack.enter_context((scratch / "log").open("wb"))
        daemon = Daemon(path, environ={_variable(name): name for name in KEYS}, log_fd=log.fileno())
        await daemon.start()
        stack.push_async_callback(daemon.stop, hurry=True)
        url = "http://{}:{}/v1/chat/completions".format(*daemon.data_address)
        clients = [
            asyncio.get_running_loop().create_task(_client(url, key, random.Random(number)))
            for number, key in enumerate(KEYS)
        ]
        await asyncio.sleep(seconds * GONE_AFTER)
        upstreams[-1].kill()
        await asyncio.sleep(seconds * (1 - GONE_AFTER))
        host, port = daemon.admin_address
        async with browsing(scratch / "profile", (host, port)) as page:
            for scheme in ("light", "dark"):
                await page.go(f"http://{host}:{port}/", dark=scheme == "dark", height=HEIGHT)
                await page.until("document.getElementById('fresh').textContent.startsWith('live')")
                picture = Image.open(io.BytesIO(await page.picture()))
                picture.quantize(COLOURS, dither=Image.Dither.NONE).save(folder / f"status-{scheme}.png", optimize=True)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=310.0, help="of traffic before the pictures are taken")
    parser.add_argument("--folder", type=Path, default=PICTURES)
    arguments = parser.parse_args()
    os.makedirs(arguments.folder, exist_ok=True)  # noqa: PTH103
    asyncio.run(main(arguments.seconds, arguments.folder))
