"""Call methods of an SDK by name and tell what its user gets to see: of OpenAI's or Anthropic's, of any generation.

It stands alone, so that interpreters of other environments can run it: reads a `Plan` as JSON from standard input,
makes its calls one after the other at each of its addresses, and writes what came of them to standard output.
`node/calls.mjs` does the same on Node.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib
import inspect
import json
import sys
from typing import Any, TypedDict

TIMEOUT_S = 30.0


class _CallNeeds(TypedDict):
    name: str
    """Sent as `NAME_HEADER`, by which the request can be found elsewhere."""
    method: str
    """Dotted, from the client on: `audio.speech.create`; `post` is the client's own, for paths without a method."""
    key: str


class Call(_CallNeeds, total=False):
    """One call."""

    positional: list[Any]
    arguments: dict[str, Any]
    """By name; `{"$file": [name, base64, content type]}` anywhere in it is a file."""
    read: str
    """How the answer is read. `value` (if nothing is said): as one value. `stream`: event by event. `bytes`: as a file.
    `pieces`: as a file that is read while it comes. Anything else: by the SDK's own accumulator, whose result the
    method of this name returns."""
    max_retries: int


class Plan(TypedDict):
    """What to call, and where."""

    package: str
    client: str
    """The class in it."""
    name_header: str
    base_urls: dict[str, str]
    calls: list[Call]


class Observation(TypedDict, total=False):
    """What came of a call, as the SDK shows it."""

    absent: bool
    """This generation has no such method."""
    error: str
    """The exception's class; not there: no exception."""
    errors: list[str]
    """Its class and the classes that that is derived from."""
    text: str
    """What `print(error)` shows."""
    body: Any
    """The error object, as the SDK hands it out."""
    status: int
    request_id: str | None
    """As the SDK names it."""
    headers: dict[str, str]
    value: Any
    """The answer; of a stream, the list of its events so far; of a file, its size and SHA-256."""


def main() -> None:
    """Carry out the plan on standard input."""
    plan: Plan = json.load(sys.stdin)
    json.dump(asyncio.run(carry_out(plan)), sys.stdout)


async def carry_out(plan: Plan) -> dict[str, dict[str, Observation]]:
    """Make every call at every address; the observations by address and name."""
    seen: dict[str, dict[str, Observation]] = {}
    for place, base_url in plan["base_urls"].items():
        make = getattr(importlib.import_module(plan["package"]), plan["client"])
        client = make(base_url=base_url, api_key="none", timeout=TIMEOUT_S, max_retries=0)
        seen[place] = {call["name"]: await _observe(client, call, plan["name_header"]) for call in plan["calls"]}
        await _waited(client.close())
    return seen


async def _observe(client: Any, call: Call, name_header: str) -> Observation:
    observation = Observation()
    client = client.with_options(
        api_key=call["key"], max_retries=call.get("max_retries", 0), default_headers={name_header: call["name"]}
    )
    try:
        await _make(client, call, observation)
    except Exception as error:  # noqa: BLE001 (whatever the SDK raises is what is looked for)
        _note_error(error, observation)
    return observation


async def _make(client: Any, call: Call, observation: Observation) -> None:
    *path, name = call["method"].split(".")
    owner = client
    for step in path:
        owner = getattr(owner, step, None)
    if not hasattr(owner, name):
        observation["absent"] = True
        return
    arguments = {key: _with_files(value) for key, value in call.get("arguments", {}).items()}
    positional, read = call.get("positional", []), call.get("read", "value")
    if name == "post":
        observation["value"] = await _waited(client.post(*positional, cast_to=object, **arguments))
    elif read == "pieces":
        async with _entered(getattr(owner.with_streaming_response, name)(*positional, **arguments)) as response:
            _note_response(response, observation)
            observation["value"] = _file(b"".join([piece async for piece in _each(response.iter_bytes())]))
    elif read in ("value", "stream", "bytes"):
        response = await _waited(getattr(owner.with_raw_response, name)(*positional, **arguments))
        _note_response(response, observation)
        if read == "bytes":
            observation["value"] = _file(response.content)
            return
        value = await _waited(response.parse())
        if read == "stream":
            observation["value"] = events = []
            async for event in _each(value):
                events.append(_plain(event))  # noqa: PERF401 (what came before an exception stays)
        else:
            observation["value"] = _plain(value)
    else:
        async with _entered(getattr(owner, name)(*positional, **arguments)) as stream:
            observation["value"] = _plain(await _waited(getattr(stream, read)()))


class _entered:  # noqa: N801 (used as a function)
    """The context of a sync or an async context manager."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._async = hasattr(manager, "__aenter__")

    async def __aenter__(self) -> Any:
        return await self._manager.__aenter__() if self._async else self._manager.__enter__()

    async def __aexit__(self, *error: object) -> None:
        await _waited(self._manager.__aexit__(*error) if self._async else self._manager.__exit__(*error))


async def _each(values: Any) -> Any:
    """Everything of a sync or an async iterable."""
    if hasattr(values, "__aiter__"):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value


async def _waited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _with_files(value: Any) -> Any:
    if isinstance(value, dict):
        if "$file" in value:
            name, data, content_type = value["$file"]
            return (name, base64.b64decode(data), content_type)
        return {key: _with_files(member) for key, member in value.items()}
    return [_with_files(member) for member in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """A model of the SDK as what JSON can say."""
    return value.to_dict(mode="json") if hasattr(value, "to_dict") else value


def _file(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _note_response(response: Any, observation: Observation) -> None:
    observation["status"] = response.status_code
    observation["headers"] = {name.lower(): value for name, value in response.headers.items()}
    observation["request_id"] = response.request_id


def _note_error(error: Exception, observation: Observation) -> None:
    """Note everything an exception carries."""
    observation["error"] = type(error).__name__
    observation["errors"] = [each.__name__ for each in type(error).__mro__]
    observation["text"] = str(error)
    observation["body"] = getattr(error, "body", None)
    response = getattr(error, "response", None)
    if response is not None:
        observation["status"] = response.status_code
        observation["headers"] = {name.lower(): value for name, value in response.headers.items()}
        observation["request_id"] = getattr(error, "request_id", None)


if __name__ == "__main__":
    main()
