"""Run the calls of an SDK twice, at a scripted upstream and at the real router in front of two such upstreams.

What the SDK hands out must be the same both times: the router is not to be felt. `Run` holds what both sides saw.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.harness.endpoints import NAME_HEADER, PRIVATE, EveryEndpoint
from tests.harness.router import ENVIRON, OTHER_SECRET, UPSTREAM_SECRET, RunningRouter
from tests.sdk.methods import Call, Observation, Plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from router.events import ExchangeEnded
    from tests.harness.upstream import Received

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
RUN_TIMEOUT_S = 60
NODE_MIN = 18
"""The oldest Node on which the SDKs work; Debian 12 has it."""

MODEL, CLAUDE = "everything", "claude"
"""The models as clients name them."""
SERVED = {MODEL: "served", CLAUDE: "served-claude"}
"""And as upstreams do."""
PROBLEMS = ("refusing", "busy", "cutting")
"""Models of both protocols that are as `tests.harness.endpoints` says; those of Anthropic have `claude-` before it."""
DRAINED = "drained"
"""A model that nobody serves now; that of Anthropic has `claude-` before it."""

KEYS: Mapping[str, dict[str, Any]] = {
    "full": {},
    "other": {},
    "narrow": {"models": [DRAINED]},
    "limited": {"limits": {"requests_per_minute": 1, "request_burst": 1}},
}
"""The secret of each is `secret(name)`."""


def secret(key: str) -> str:
    """What a client sends as its key; also for keys that do not exist."""
    return f"sk-client-{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdk:
    """One generation of an SDK, in one of its ways to be used."""

    name: str
    command: tuple[str, ...]
    """What carries out a plan."""
    package: str
    client: str
    missing: str = ""
    """Why it cannot be run here; empty if it can."""
    prefix: str = "/v1"
    """What the SDK's users write after the address."""


def python_sdks(package: str, old: str, environment: str, *, prefix: str = "/v1") -> list[Sdk]:
    """The newest generation and an old one, each with its sync and its async client."""
    class_name = {"openai": "OpenAI", "anthropic": "Anthropic"}[package]
    interpreters = {"newest": Path(sys.executable), old: ROOT / environment / "bin/python"}
    return [
        Sdk(
            name=f"{generation}-{mode}",
            command=(str(interpreter), "-I", str(FOLDER / "methods.py")),
            package=package,
            client=client,
            missing="" if interpreter.exists() else f"no {package} {generation}: `make test` installs it if it can",
            prefix=prefix,
        )
        for generation, interpreter in interpreters.items()
        for mode, client in (("sync", class_name), ("async", f"Async{class_name}"))
    ]


@cache
def node_missing() -> str:
    """Why nothing can be run on Node here; empty if it can."""
    node = shutil.which("node")
    if node is None:
        return "no Node: install nodejs and npm"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().removeprefix("v").partition(".")[0]) < NODE_MIN:
        return f"Node {version.strip()} is too old: {NODE_MIN} is needed"
    if not (FOLDER / "node/node_modules").exists():
        return "no modules for Node: `make test` installs them if it can"
    return ""


def node_sdk(name: str, package: str) -> Sdk:
    """A generation of OpenAI's SDK for Node."""
    command = ("node", str(FOLDER / "node/calls.mjs"))
    return Sdk(name=name, command=command, package=package, client="default", missing=node_missing())


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One call, and what it is to come to."""

    call: Call
    shows: Mapping[str, object]
    """Some of what the SDK hands out: the way into it, with dots, to the value there."""
    endpoint: str
    """In the record."""
    usage: Mapping[str, float] | None = None
    """In the record, every class that is not zero; None: unknown."""
    free: bool = False
    """Nothing is charged: it is no answer of a model, or one that is charged elsewhere (PROTOCOL 2, 2.2)."""
    spliced: bool = True
    """But for the model's name the upstream gets the body that the client sent."""

    def __str__(self) -> str:
        return self.call["name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one client saw, and what the upstreams and the router did."""

    sdk: Sdk
    direct: dict[str, Observation]
    """By name of the call, at the upstream itself."""
    seen: dict[str, Observation]
    """And through the router."""
    sent: dict[str, Received]
    """Requests as the client wrote them, by name."""
    got: dict[str, Received]
    """Requests as they came to an upstream behind the router; the last, if there were several of a name."""
    records: dict[str, ExchangeEnded]
    """What the router recorded, by name."""
    endpoints: dict[str, str]
    """The endpoint that the router recorded, by the id of the request."""
    addresses: tuple[str, ...]
    """Of the upstreams behind the router."""


async def observe(sdk: Sdk, calls: Sequence[Call], folder: Path) -> Run:
    """Make the calls at both places. Fails if an upstream saw what nobody may send, or the router's books are off."""
    async with AsyncExitStack() as stack:
        alone, left, right, claude = (EveryEndpoint() for _ in range(4))
        for upstream in (alone, left, right, claude):
            await upstream.start()
            stack.push_async_callback(upstream.close)
        router = await RunningRouter.start(folder, settings(left, right, claude), ENVIRON)
        stack.push_async_callback(router.close)
        base_urls = {
            "direct": f"http://127.0.0.1:{alone.port}{sdk.prefix}",
            "router": "http://{}:{}".format(*router.daemon.data_address) + sdk.prefix,
        }
        plan = Plan(
            package=sdk.package, client=sdk.client, name_header=NAME_HEADER, base_urls=base_urls, calls=[*calls]
        )
        seen = await carry_out(sdk.command, plan)
        await router.rest()
    behind = (left, right, claude)
    return Run(
        sdk=sdk,
        direct=seen["direct"],
        seen=seen["router"],
        sent=by_name([alone]),
        got=by_name(behind),
        records={record.client_request_id: record for record in router.ended},
        endpoints={record.request_id: record.endpoint for record in router.ended},
        addresses=tuple(f"127.0.0.1:{upstream.port}" for upstream in behind),
    )


def by_name(upstreams: Sequence[EveryEndpoint]) -> dict[str, Received]:
    """The requests that were named, by name."""
    received = [received for upstream in upstreams for received in upstream.received]
    return {name.decode(): each for each in received for name in each.values(NAME_HEADER)}


async def carry_out(command: Sequence[str], plan: object) -> Any:
    """Have another program carry out a plan, and return what it says came of it."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_"))}
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env={**mine, "NO_PROXY": "127.0.0.1"}
    )
    try:
        async with asyncio.timeout(RUN_TIMEOUT_S):
            stdout, stderr = await process.communicate(json.dumps(plan).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, stderr.decode()
    return json.loads(stdout)


def settings(left: EveryEndpoint, right: EveryEndpoint, claude: EveryEndpoint) -> dict[str, Any]:
    """Two upstreams of OpenAI's protocol that share their models, and one of Anthropic's."""
    of_openai = {MODEL: SERVED[MODEL], **{name: f"served-{name}" for name in PROBLEMS}}
    of_anthropic = {CLAUDE: SERVED[CLAUDE], **{f"claude-{name}": f"served-{name}" for name in PROBLEMS}}
    pools = {
        **{name: [{"upstream": each, "model": at} for each in ("left", "right")] for name, at in of_openai.items()},
        **{name: [{"upstream": "claude", "model": at}] for name, at in of_anthropic.items()},
        DRAINED: [{"upstream": "left", "weight": 0}],
        f"claude-{DRAINED}": [{"upstream": "claude", "weight": 0}],
    }
    return {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "defaults": {"ejection": {"consecutive": 1000, "min_outcomes": 1000}},
        "upstreams": {
            "left": {"base_url": left.base_url, "api_key": {"env": "UPSTREAM_SECRET"}},
            "right": {"base_url": right.base_url, "api_key": {"env": "UPSTREAM_SECRET"}},
            "claude": {"base_url": claude.base_url, "api_key": {"env": "OTHER_SECRET"}, "protocol": "anthropic"},
        },
        "models": {name: {"pool": pool} for name, pool in pools.items()},
        "default_models": {"images": MODEL, "moderations": MODEL},
        "keys": {
            name: {"secret": {"sha256": hashlib.sha256(secret(name).encode()).hexdigest()}, **more}
            for name, more in KEYS.items()
        },
        "reload": {"watch": False},
        "stop": {"notice": "1ms", "drain": "5s"},
    }


def pick(value: Any, way: str) -> Any:
    """What stands in a decoded value at a dotted way of names and indexes."""
    for step in way.split(".") if way else ():
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def private_words(run: Run) -> tuple[str, ...]:
    """What no client may ever see."""
    return (UPSTREAM_SECRET, OTHER_SECRET, PRIVATE, "Traceback", *run.addresses)
