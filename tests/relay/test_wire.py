"""Upstreams as they are configured: what a request there looks like, and what a reload keeps (PROTOCOL 3, 11)."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from router.config.presets import PRESETS
from router.config.schema import MaxTokensField, Protocol
from router.relay.outbox import Outbox
from router.relay.wire import Wire, build_wires
from tests.config.files import pem_files, read
from tests.harness import chat
from tests.harness.router import UPSTREAM_SECRET

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from router.config.loader import Loaded
    from tests.harness.upstream import ScriptedUpstream
    from tests.relay.conftest import StartRouter

ENVIRON = {"K": "sk-1", "P": "pässword"}


def load(settings: str, directory: Path | None = None, environ: Mapping[str, str] = ENVIRON) -> Loaded:
    text = f"upstreams: {{a: {{{settings}}}}}\nmodels: {{m: a}}\n"
    return read(text, environ) if directory is None else read(text, environ, directory)


def made(loaded: Loaded, before: Wire | None = None) -> Wire:
    loop = asyncio.get_running_loop()
    previous = {} if before is None else {"a": before}
    return build_wires(loaded.config, loaded.secrets, previous, loop, Outbox(loop, set()))["a"]


def wire(settings: str, **more: Any) -> Wire:
    return made(load(settings, **more))


def head(of: Wire, rest: bytes, *lines: bytes, model: str = "m", query: bytes = b"") -> list[bytes]:
    policy = of.policies[0]
    written = policy.head(of.target(rest, model, query), policy.lines([b"host: router", *lines]), 2)
    return written[:-4].split(b"\r\n")


async def test_a_request_goes_below_the_base_url() -> None:
    """The part after `/v1` follows the base, with the client's query and the configured one, whatever the model."""
    plain = wire("base_url: http://h:8000/v1beta/openai, query: {a: b c}")
    assert plain.target(b"/chat/completions", "x/../y", b"") == b"/v1beta/openai/chat/completions?a=b%20c"
    assert plain.target(b"/files/a%2Fb", "", b"z=%41&A=1") == b"/v1beta/openai/files/a%2Fb?z=%41&a=b%20c"
    assert wire("base_url: http://h").target(b"/rerank", "m", b"") == b"/rerank"


async def test_a_dated_azure_is_asked_for_a_deployment() -> None:
    """The model stands in the path where Azure wants it, the version in the query, the key in a header of its own."""
    azure = wire("preset: azure-dated, base_url: https://r.openai.azure.com/openai, api_key: {env: K}")
    assert head(azure, b"/chat/completions", model="gpt 4") == [
        b"POST /openai/deployments/gpt%204/chat/completions?api-version=2024-10-21 HTTP/1.1",
        b"Host: r.openai.azure.com",
        b"Accept-Encoding: identity",
        b"api-key: sk-1",
        b"Content-Length: 2",
    ]
    assert azure.target(b"/responses", "m", b"api-version=evil&x=1") == b"/openai/responses?x=1&api-version=2024-10-21"


async def test_anthropic_is_told_a_version() -> None:
    """Its key goes into `x-api-key`; the client's version passes, without one the oldest is named (PROTOCOL 2.6)."""
    anthropic = wire("preset: anthropic, api_key: {env: K}")
    assert head(
        anthropic, b"/messages", b"anthropic-version: 2026-10-21", b"anthropic-beta: x", b"x-api-key: theirs"
    ) == [
        b"POST /v1/messages HTTP/1.1",
        b"Host: api.anthropic.com",
        b"anthropic-version: 2026-10-21",
        b"anthropic-beta: x",
        b"Accept-Encoding: identity",
        b"x-api-key: sk-1",
        b"Content-Length: 2",
    ]
    assert b"anthropic-version: 2023-06-01" in head(anthropic, b"/messages")
    openai = wire("preset: openai, api_key: {env: K}")
    assert not any(line.startswith(b"anthropic") for line in head(openai, b"/chat/completions"))


async def test_what_the_relay_asks_of_a_kind() -> None:
    """Protocol, parameters left out, the name of the bound, and whether usage is asked for."""
    mistral = wire("preset: mistral, api_key: {env: K}")
    assert (mistral.protocol, mistral.asks_usage) == (Protocol.OPENAI, False)
    assert mistral.drop_params == set(PRESETS["mistral"]["drop_params"])
    assert mistral.max_tokens_field is MaxTokensField.MAX_TOKENS
    plain = wire("base_url: http://h")
    assert (plain.protocol, plain.asks_usage, plain.drop_params, plain.max_tokens_field) == (
        Protocol.OPENAI, True, frozenset(), None,
    )  # fmt: skip
    anthropic = wire("base_url: http://h, protocol: anthropic, stream_usage: inject")
    assert (anthropic.protocol, anthropic.asks_usage) == (Protocol.ANTHROPIC, False)


async def test_only_allowed_headers_reach_an_upstream_so_set() -> None:
    """`allow: default` lets the headers of PROTOCOL 3.2 pass, and no others."""
    strict = wire("base_url: http://h, headers: {allow: default}")
    lines = head(strict, b"/x", b"X-Title: a", b"x-stainless-lang: b", b"OpenAI-Beta: c", b"X-Unknown: d")
    assert lines[2:4] == [b"X-Title: a", b"OpenAI-Beta: c"]
    assert len(lines) == 6


async def test_credentials_of_a_proxy_are_written_for_it() -> None:
    """Name and password as Basic in UTF-8, an own scheme as it is, and neither in anything that is printed."""
    basic = wire("base_url: http://h, proxy: {url: 'http://p:3128', username: me, password: {env: P}}")
    assert basic.proxy is not None
    assert basic.proxy.authorization == b"Basic " + b64encode("me:pässword".encode())
    assert "p:3128" in repr(basic)
    assert "Basic" not in repr(basic) + repr(basic.proxy)
    without = wire("base_url: http://h, proxy: {url: 'http://p:3128', username: me}")
    assert without.proxy is not None
    assert without.proxy.authorization == b"Basic " + b64encode(b"me:")
    own = wire("base_url: http://h, proxy: {url: 'http://[::1]:3128', authorization: {env: K}}")
    assert own.proxy is not None
    assert (own.proxy.host, own.proxy.port, own.proxy.authorization) == ("::1", 3128, b"sk-1")


async def test_a_reload_keeps_what_stayed(tmp_path: Path) -> None:
    """The same settings, secrets and files keep the wire and its connections; each change of one makes a new wire."""
    pem_files(tmp_path)
    settings = (
        "base_url: https://h, api_key: {env: K}, tls: {ca: ca.pem, cert: cert.pem, key: key.pem}, "
        "proxy: {url: 'http://p:3128', username: me, password: {env: P}}"
    )
    first = made(load(settings, tmp_path))
    assert made(load(settings, tmp_path), first) is first
    for environ in ({"K": "sk-2", "P": "p"}, {"K": "sk-1", "P": "p2"}):
        assert made(load(settings, tmp_path, environ), first) is not first
    assert made(load(settings.replace("3128", "3129"), tmp_path), first) is not first
    for file in ("ca.pem", "cert.pem", "key.pem"):
        before = made(load(settings, tmp_path))
        (tmp_path / file).write_text((tmp_path / file).read_text() + "\n")
        assert made(load(settings, tmp_path), before) is not before


async def test_a_new_wire_keeps_the_pace() -> None:
    """The rate is the upstream's: a change of a header must not let a burst through."""
    first = wire("base_url: http://h, pace: {requests: 5}")
    assert made(load("base_url: http://h, pace: {requests: 5}, keepalive: 9s"), first).pacer is first.pacer
    assert made(load("base_url: http://h, pace: {requests: 6}"), first).pacer is not first.pacer


async def test_a_kind_is_asked_as_it_wants_to_be(router: StartRouter, first: ScriptedUpstream) -> None:
    """A client of the usual path is served by an upstream with another one, which sees only what it should."""
    base_url = first.base_url.replace("/v1", "/openai")
    running = await router(first, upstream={"preset": "azure-dated", "base_url": base_url, "headers": {"allow": []}})
    assert (await running.post(None, "X-Own: 1", "api-key: theirs")).status == 200
    (received,) = first.received
    assert received.line == b"POST /openai/deployments/m/chat/completions?api-version=2024-10-21 HTTP/1.1"
    assert received.values("api-key") == [UPSTREAM_SECRET.encode()]
    assert {name.lower() for name, _ in received.headers} == {
        b"host", b"accept-encoding", b"api-key", b"content-length",
    }  # fmt: skip


async def test_a_kind_is_spared_what_it_cannot_take(router: StartRouter, first: ScriptedUpstream) -> None:
    """Parameters that the preset names are left out, and the bound of the answer has the name it knows."""
    running = await router(first, upstream={"preset": "mistral", "base_url": first.base_url})
    await running.post(chat.request(store=False, max_completion_tokens=5, temperature=1))
    assert first.received[0].json == {"model": "m", "messages": [{"role": "user", "content": "Say hello."}]} | {
        "max_tokens": 5, "temperature": 1,
    }  # fmt: skip
