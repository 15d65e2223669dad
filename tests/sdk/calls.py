"""Make calls with the OpenAI SDK of the running interpreter and tell what its user gets to see.

It stands alone, so that interpreters of other environments can run it: reads a `Plan` as JSON from standard input,
makes its calls one after the other with the sync or the async client, and writes what came of them to standard output.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, TypedDict

import openai

TIMEOUT_S = 30.0


class Call(TypedDict, total=False):
    """One call; of `arguments`, `body`, `content` and `models` exactly one says what is asked."""

    name: str
    key: str | None
    """The API key; None: no credential is sent, which takes a `content` call."""
    max_retries: int
    arguments: dict[str, Any]
    """Of `chat.completions.create`."""
    body: dict[str, Any]
    """Posted as it is to the chat endpoint, past the SDK's own signature."""
    content: str
    """Sent byte for byte to the chat endpoint, past the SDK's JSON encoder."""
    models: bool
    """List the models."""


class Plan(TypedDict):
    """Where to call, how, and what."""

    base_url: str
    asynchronous: bool
    calls: list[Call]


class Observation(TypedDict, total=False):
    """What came of a call, as the SDK shows it."""

    name: str
    error: str | None
    """The exception's class; None: no exception."""
    text: str
    """What `print(error)` shows."""
    status: int | None
    code: str | None
    type: str | None
    param: str | None
    request_id: str | None
    body: Any
    headers: dict[str, str]
    retries: int
    answer: Any
    """The parsed answer; of a stream, the list of its chunks so far."""


def main() -> None:
    """Carry out the plan on standard input."""
    plan: Plan = json.load(sys.stdin)
    make = make_async_calls if plan["asynchronous"] else make_calls
    json.dump(make(plan), sys.stdout)


def make_calls(plan: Plan) -> list[Observation]:
    """Make the calls with `openai.OpenAI`."""
    seen = []
    with openai.OpenAI(base_url=plan["base_url"], api_key="none", timeout=TIMEOUT_S) as client:
        for call in plan["calls"]:
            observation = Observation(name=call["name"], error=None, headers={}, answer=None)
            try:
                ask(client.with_options(**options(call)), call, observation)
            except openai.APIError as error:
                observe_error(error, observation)
            seen.append(observation)
    return seen


def ask(client: openai.OpenAI, call: Call, observation: Observation) -> None:
    """Make one call."""
    if "content" in call:
        observe_raw(client._client.post("chat/completions", **raw(call)), observation)
    elif "body" in call:
        observation["answer"] = client.post("/chat/completions", body=call["body"], cast_to=object)
    elif "models" in call:
        observation["answer"] = [model.to_dict() for model in client.models.list()]
    else:
        response = client.chat.completions.with_raw_response.create(**call["arguments"])
        observe_response(response, observation)
        if call["arguments"].get("stream"):
            observation["answer"] = chunks = []
            for chunk in response.parse():
                chunks.append(chunk.to_dict())  # noqa: PERF401 (what came before an exception stays)
        else:
            observation["answer"] = response.parse().to_dict()


def make_async_calls(plan: Plan) -> list[Observation]:
    """Make the calls with `openai.AsyncOpenAI`."""
    return asyncio.run(_make_async_calls(plan))


async def _make_async_calls(plan: Plan) -> list[Observation]:
    seen = []
    async with openai.AsyncOpenAI(base_url=plan["base_url"], api_key="none", timeout=TIMEOUT_S) as client:
        for call in plan["calls"]:
            observation = Observation(name=call["name"], error=None, headers={}, answer=None)
            try:
                await ask_async(client.with_options(**options(call)), call, observation)
            except openai.APIError as error:
                observe_error(error, observation)
            seen.append(observation)
    return seen


async def ask_async(client: openai.AsyncOpenAI, call: Call, observation: Observation) -> None:
    """Make one call."""
    if "content" in call:
        observe_raw(await client._client.post("chat/completions", **raw(call)), observation)
    elif "body" in call:
        observation["answer"] = await client.post("/chat/completions", body=call["body"], cast_to=object)
    elif "models" in call:
        observation["answer"] = [model.to_dict() async for model in client.models.list()]
    else:
        response = await client.chat.completions.with_raw_response.create(**call["arguments"])
        observe_response(response, observation)
        if call["arguments"].get("stream"):
            observation["answer"] = chunks = []
            async for chunk in response.parse():
                chunks.append(chunk.to_dict())  # noqa: PERF401 (what came before an exception stays)
        else:
            observation["answer"] = response.parse().to_dict()


def options(call: Call) -> dict[str, Any]:
    """In what the clients of the calls differ; they share their connections."""
    return {"api_key": call["key"] or "none", "max_retries": call.get("max_retries", 0)}


def raw(call: Call) -> dict[str, Any]:
    """What both kinds of HTTP client are asked to send."""
    headers = {"content-type": "application/json"}
    if call["key"]:
        headers["authorization"] = f"Bearer {call['key']}"
    return {"content": call["content"].encode(), "headers": headers}


def observe_raw(response: Any, observation: Observation) -> None:
    """Note an answer that no SDK code has looked at."""
    observe_response(response, observation)
    observation["text"] = response.text
    observation["body"] = response.json()["error"]


def observe_response(response: Any, observation: Observation) -> None:
    """Note status and headers."""
    observation["status"] = response.status_code
    observation["headers"] = dict(response.headers)
    observation["request_id"] = response.headers.get("x-request-id")
    observation["retries"] = getattr(response, "retries_taken", 0)


def observe_error(error: openai.APIError, observation: Observation) -> None:
    """Note everything an exception carries."""
    if isinstance(error, openai.APIStatusError):
        observe_response(error.response, observation)
    observation["error"] = type(error).__name__
    observation["text"] = str(error)
    observation["code"] = None if error.code is None else str(error.code)
    observation["type"] = error.type
    observation["param"] = error.param
    observation["body"] = error.body


if __name__ == "__main__":
    main()
