"""Read streams with an SDK of OpenAI's or Anthropic's and tell how each ended for its user.

It stands alone, so that interpreters of other environments can run it: reads a plan as JSON from standard input and
writes a row for each stream to standard output. `sdk_streams.mjs` does the same on Node.

The plan: `package` (`openai` or `anthropic`), `route` (`chat`, `responses` or `messages`), `base_url`, `key`, `model`,
`names` (one stream each; the name is what the upstream knows it by) and `at_once`. A row: name, the text that was
handed out, the reason to end (null: none came), the class of the exception (null: none was raised).
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from typing import Any

TIMEOUT_S = 60.0

Row = tuple[str, str, str | None, str | None]


async def main() -> None:
    plan = json.load(sys.stdin)
    package = importlib.import_module(plan["package"])
    client_class = getattr(package, {"openai": "AsyncOpenAI", "anthropic": "AsyncAnthropic"}[plan["package"]])
    slots = asyncio.Semaphore(plan["at_once"])
    read = {"chat": _chat, "responses": _responses, "messages": _messages}[plan["route"]]

    async with client_class(base_url=plan["base_url"], api_key=plan["key"], timeout=TIMEOUT_S, max_retries=0) as client:

        async def one(name: str) -> Row:
            seen: dict[str, Any] = {"text": "", "finish": None}
            error = None
            async with slots:
                try:
                    await read(client, plan["model"], name, seen)
                except Exception as raised:  # noqa: BLE001 - which one is what is asked
                    error = type(raised).__name__
            return name, seen["text"], seen["finish"], error

        rows = await asyncio.gather(*map(one, plan["names"]))
    json.dump(rows, sys.stdout)


async def _chat(client: Any, model: str, name: str, seen: dict[str, Any]) -> None:
    more = {"stream_options": {"include_usage": True}} if hash_of(name) % 2 else {}
    messages = [{"role": "user", "content": name}]
    stream = await client.chat.completions.create(model=model, messages=messages, stream=True, **more)
    async for chunk in stream:
        for choice in chunk.choices:
            seen["text"] += choice.delta.content or ""
            seen["finish"] = choice.finish_reason or seen["finish"]


async def _responses(client: Any, model: str, name: str, seen: dict[str, Any]) -> None:
    async for event in await client.responses.create(model=model, input=name, stream=True):
        if event.type == "response.output_text.delta":
            seen["text"] += event.delta
        elif event.type == "response.completed":
            seen["finish"] = event.response.status


async def _messages(client: Any, model: str, name: str, seen: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": name}]
    stream = await client.messages.create(model=model, messages=messages, max_tokens=1000, stream=True)
    async for event in stream:
        if event.type == "content_block_delta":
            seen["text"] += event.delta.text
        elif event.type == "message_delta":
            seen["finish"] = event.delta.stop_reason


def hash_of(name: str) -> int:
    """Some number that a name always gives, on Node too."""
    return sum(name.encode())


if __name__ == "__main__":
    asyncio.run(main())
