"""The first configuration file: made of what the environment says, with comments that teach the rest."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from router.config import addresses
from router.config.presets import PRESETS
from router.config.schema import Listen, Secret
from router.config.secrets import Unresolved, resolve
from router.config.sources import Sources
from router.config.values import BadValue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LISTEN: Final = Listen("127.0.0.1:8080")
ADMIN: Final = Listen("127.0.0.1:9464")

UNKNOWN_MAX: Final = 50
"""Variables that look like a credential and are not known: so many are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A hosted service whose credential is in the environment."""

    name: str
    """Of the upstream."""
    key: str
    """The variable of its credential, as its own documentation and SDK call it."""
    patterns: tuple[str, ...]
    """The models that it serves, as clients ask for them. An exact name wins over a pattern, a longer one over a
    shorter."""
    preset: str | None = None
    base_url: str | None = None
    """Where there is no preset."""
    base_url_variable: str | None = None
    """In place of the name of `key` with `BASE_URL` at its end."""
    suffix: str = ""
    """What its SDK adds to the base URL that it is given."""
    needs_base_url: bool = False
    """There is no address that is everybody's."""

    @property
    def variable_of_url(self) -> str:
        """The variable that says where it is."""
        return self.base_url_variable or self.key.removesuffix("API_KEY") + "BASE_URL"


VENDORS: Final = (
    Vendor(
        name="openai", key="OPENAI_API_KEY", preset="openai",
        patterns=("gpt-*", "chatgpt-*", "o1*", "o3*", "o4*", "text-embedding-*", "omni-moderation-*"),
    ),
    Vendor(
        name="azure", key="AZURE_OPENAI_API_KEY", preset="azure", base_url_variable="AZURE_OPENAI_ENDPOINT",
        suffix="/openai/v1", needs_base_url=True, patterns=("gpt-*",),
    ),
    Vendor(name="anthropic", key="ANTHROPIC_API_KEY", preset="anthropic", suffix="/v1", patterns=("claude-*",)),
    Vendor(name="gemini", key="GEMINI_API_KEY", preset="gemini", patterns=("gemini-*",)),
    Vendor(name="mistral", key="MISTRAL_API_KEY", preset="mistral",
           patterns=("mistral-*", "ministral-*", "magistral-*", "codestral-*", "devstral-*")),
    Vendor(name="deepseek", key="DEEPSEEK_API_KEY", preset="deepseek", patterns=("deepseek-*",)),
    Vendor(name="xai", key="XAI_API_KEY", base_url="https://api.x.ai/v1", patterns=("grok-*",)),
    Vendor(name="groq", key="GROQ_API_KEY", preset="groq", patterns=("llama-*", "openai/gpt-oss-*")),
    Vendor(name="cerebras", key="CEREBRAS_API_KEY", base_url="https://api.cerebras.ai/v1",
           patterns=("llama*", "gpt-oss-*")),
    Vendor(name="moonshot", key="MOONSHOT_API_KEY", base_url="https://api.moonshot.ai/v1", patterns=("kimi-*",)),
    Vendor(name="perplexity", key="PERPLEXITY_API_KEY", base_url="https://api.perplexity.ai", patterns=("sonar*",)),
    Vendor(name="fireworks", key="FIREWORKS_API_KEY", base_url="https://api.fireworks.ai/inference/v1",
           patterns=("accounts/fireworks/*",)),
    Vendor(name="together", key="TOGETHER_API_KEY", base_url="https://api.together.xyz/v1",
           patterns=("meta-llama/*", "Qwen/*", "deepseek-ai/*")),
    Vendor(name="deepinfra", key="DEEPINFRA_API_KEY", base_url="https://api.deepinfra.com/v1/openai",
           patterns=("meta-llama/*", "Qwen/*", "deepseek-ai/*")),
    Vendor(name="nvidia", key="NVIDIA_API_KEY", base_url="https://integrate.api.nvidia.com/v1", patterns=("nvidia/*",)),
    Vendor(name="openrouter", key="OPENROUTER_API_KEY", preset="openrouter", patterns=("*/*",)),
)  # fmt: skip
"""From the most particular to the most general: where two serve a pattern, the second is asked if the first cannot."""

ANY: Final = ("*",)
"""What a server serves that stands where a vendor's SDK was told to look: names are its own."""

_KEY_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An upstream that the environment knows of."""

    vendor: Vendor
    has_key: bool
    base_url: str | None
    """In place of the vendor's own."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """The models that it serves."""
        return ANY if self.is_elsewhere and self.vendor.name == "openai" else self.vendor.patterns

    @property
    def is_elsewhere(self) -> bool:
        """It is not the vendor's own service that is asked."""
        return self.base_url is not None and not self.vendor.needs_base_url

    def __str__(self) -> str:
        """Its line of the file."""
        settings = []
        if self.vendor.preset is not None and not (self.is_elsewhere and self.vendor.name == "openai"):
            settings.append(f"preset: {self.vendor.preset}")
        if base_url := self.base_url or self.vendor.base_url:
            settings.append(f"base_url: {json.dumps(base_url)}")
        if self.has_key:
            settings.append(f"api_key: {{env: {self.vendor.key}}}")
        return f"  {self.vendor.name}: {{{', '.join(settings)}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the variables say of upstreams."""

    found: tuple[Found, ...]
    unused: tuple[str, ...]
    """A sentence for each variable that means something and is of no use."""


def look(environ: Mapping[str, str], directory: Path) -> Environment:
    """See which vendors' variables are set, and which others look as if they held a credential."""
    found, unused = [], []
    known = {vendor.key for vendor in VENDORS}
    for vendor in VENDORS:
        flaw = _flaw(vendor.key, environ, directory) if vendor.key in environ else "is not set"
        base_url, url_flaw = _base_url(vendor, environ)
        if vendor.key in environ and flaw:
            unused.append(f"{vendor.key} {flaw}")
        if url_flaw:
            unused.append(f"{vendor.variable_of_url} {url_flaw}")
        if not flaw and vendor.needs_base_url and base_url is None:
            unused.append(f"{vendor.key} is set, but {vendor.variable_of_url} does not say where that is")
        elif not flaw or (base_url is not None and vendor.name == "openai" and vendor.key not in environ):
            found.append(Found(vendor=vendor, has_key=not flaw, base_url=base_url))
    others = sorted(
        name
        for name in environ
        if name.upper().endswith("_API_KEY") and name not in known and _KEY_VARIABLE.fullmatch(name)
    )
    unused += [f"{name} is no variable that is known here" for name in others[:UNKNOWN_MAX]]
    if len(others) > UNKNOWN_MAX:
        unused.append(f"and {len(others) - UNKNOWN_MAX} more")
    return Environment(found=tuple(found), unused=tuple(unused))


def _flaw(variable: str, environ: Mapping[str, str], directory: Path) -> str:
    """Why a variable holds no credential that can be sent; empty if it does. Its value is never told."""
    try:
        resolve(Secret(env=variable), directory=directory, environ=environ, sources=Sources())
    except Unresolved as error:
        return str(error).removeprefix(f"environment variable {variable} ")
    return ""


def _base_url(vendor: Vendor, environ: Mapping[str, str]) -> tuple[str | None, str]:
    """Where the environment says that a vendor is, and why what it says is of no use."""
    given = environ.get(vendor.variable_of_url, "").strip().rstrip("/")
    if not given:
        return None, ""
    base_url = given if not vendor.suffix or given.endswith(vendor.suffix) else given + vendor.suffix
    if vendor.preset is not None and base_url == PRESETS[vendor.preset].get("base_url"):
        return None, ""
    try:
        url = addresses.base_url(base_url)
    except BadValue as error:
        why = str(error)
        # What Python says of an URL that it cannot take apart repeats a piece of it.
        return None, "is no base URL" + ("" if why.startswith("not a URL") else f": {why}")
    if any(addresses.reaches(url, where) for where in (LISTEN, ADMIN)):
        return None, "leads to this router itself"
    return base_url, ""


def text(environment: Environment) -> str:
    """Return the file."""
    return "".join(_lines(environment)) if environment.found else _LOCAL + "".join(_unused(environment))


def _lines(environment: Environment) -> Iterator[str]:
    yield _HEAD
    yield _UPSTREAMS
    for each in environment.found:
        yield f"{each}\n"
    yield from _unused(environment)
    yield _MODELS
    for pattern, names in serving(environment).items():
        if len(names) == 1:
            yield f"  {json.dumps(pattern)}: {names[0]}\n"
        else:
            rest = "".join(f", {{upstream: {name}, tier: {tier}}}" for tier, name in enumerate(names[1:], start=2))
            yield f"  {json.dumps(pattern)}: {{pool: [{names[0]}{rest}]}}\n"
    yield _TAIL


def serving(environment: Environment) -> dict[str, list[str]]:
    """Return the upstreams that serve each pattern, in the order in which they are asked."""
    patterns: dict[str, list[str]] = {}
    for each in environment.found:
        for pattern in each.patterns:
            patterns.setdefault(pattern, []).append(each.vendor.name)
    return patterns


def _unused(environment: Environment) -> Iterator[str]:
    if environment.unused:
        yield "\n# Of the environment this file does not use:\n"
    for sentence in environment.unused:
        yield f"#   {sentence}\n"


_ABOUT: Final = f"""\
# Where clients connect: base_url http://{LISTEN}/v1 for OpenAI's SDK, http://{LISTEN} for Anthropic's.
# Without keys (see the end) every program on this machine may, and no other.
listen: {LISTEN}

# Health, metrics, status page, reload. Not for clients.
admin: {ADMIN}
"""

_HEAD: Final = f"""\
# llm-router: made by `llm-router init` from the variables of the environment. Change whatever you like; a faulty
# file changes nothing, and a running router takes up a good one by itself.
#
#     llm-router check -c FILE      every fault of this file at once
#     llm-router doctor -c FILE     is every upstream reachable, is every credential taken?
#     llm-router run -c FILE        serve
#
# `llm-router config show -c FILE` prints every setting with its default; `llm-router config schema` is for editors.

{_ABOUT}"""

_UPSTREAMS: Final = """
# Where requests can go. A preset is a known kind of upstream: it fills in what is not given here. Credentials are
# referred to, never written: {env: NAME}, {file: PATH} or {credential: NAME} of systemd. Several for one upstream:
# api_keys: [{env: ONE}, {env: TWO}]. More there: limits, timeouts, proxy, tls.
upstreams:
"""

_MODELS: Final = """
# What clients may ask for. "*" matches any text, and the upstream then gets the name that the client wrote; an exact
# name wins over a pattern, a longer pattern over a shorter. A model with a pool of several:
#
#   big:
#     pool:
#       - {upstream: openai, model: gpt-5.5, weight: 3}           # three of four requests
#       - {upstream: azure, model: my-deployment, weight: 1}
#       - {upstream: openrouter, model: openai/gpt-5.5, tier: 2}  # when neither of the two can
#     fallback: [small]                                           # another model, once the pool is exhausted
#     translate: true                                             # members of the other protocol may serve it as well
#
models:
"""

_TAIL: Final = """
# Who may use it: `llm-router key new team-a` makes a key and prints what belongs here. With keys, `listen` may be any
# address, such as ":8080".
#keys:
  #team-a:
    #secret: {sha256: ...}
    #models: ["*"]
    #limits: {requests_per_minute: 600, tokens_per_minute: 500k, concurrency: 50}
"""

_LOCAL: Final = f"""\
# llm-router: made by `llm-router init`. The environment names no vendor (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...), so
# this is for a server of your own: vLLM, SGLang, llama.cpp, Ollama. Change whatever you like; a faulty file changes
# nothing, and a running router takes up a good one by itself.
#
#     llm-router check -c FILE      every fault of this file at once
#     llm-router doctor -c FILE     is the server reachable, does it serve what is asked for?
#     llm-router run -c FILE        serve
#
# `llm-router config show -c FILE` prints every setting with its default; `llm-router config schema` is for editors.

{_ABOUT}
# Change this: where your server is. vLLM has port 8000, SGLang 30000, Ollama 11434 (preset: ollama); llama.cpp has
# 8080, which is taken by `listen` above: start it with --port 8000. Several alike: "http://10.0.0.{{1..4}}:8000/v1".
upstreams:
  local: {{base_url: "http://127.0.0.1:8000/v1"}}
  # A vendor beside it, by a preset: export OPENAI_API_KEY=..., and take away the "#".
  #openai: {{preset: openai, api_key: {{env: OPENAI_API_KEY}}}}

# What clients may ask for. "*" is every name, and the server gets the name that the client wrote.
models:
  "*": local
  # A name of your own, with a vendor for when the server cannot:
  #my-model: {{pool: [{{upstream: local, model: qwen3-32b}}, {{upstream: openai, model: gpt-5.5, tier: 2}}]}}
{_TAIL}"""
