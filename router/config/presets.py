"""Upstream kinds by name: what `preset: openai` fills in where an upstream's own settings say nothing.

A preset is settings and nothing else: the same could be written in the file, as if merged by `<<`. So its values pass
the same checks, and what is wrong with one is told where the file names the preset. The facts are those of PROTOCOL 11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from router.config.report import shown
from router.config.yaml_nodes import Entry, Mapping, Node, Scalar, Sequence

if TYPE_CHECKING:
    from router.config.report import Mark, Path, Report

Preset: TypeAlias = "dict[str, str | list[str] | Preset]"
"""Settings of an upstream, each as text, as a list of texts or as settings below it."""

_HOSTED_KEEPALIVE: Final = "30s"
"""For hosted services: every TLS handshake saved is a round trip or two, and the load balancers in front of them keep
idle connections for a minute or longer."""

PRESETS: Final[dict[str, Preset]] = {
    "openai": {
        "base_url": "https://api.openai.com/v1",
        "stream_usage": "inject",
        "keepalive": _HOSTED_KEEPALIVE,
    },
    # The v1 face: the model is the deployment's name. The resource's own host is the user's.
    "azure": {
        "auth": "api-key",
        "stream_usage": "inject",
        "keepalive": _HOSTED_KEEPALIVE,
    },
    # The dated face: base_url ends in /openai, and the deployment stands in the path of most endpoints. Versions of
    # before September 2024 refuse stream_options, hence `auto`.
    "azure-dated": {
        "auth": "api-key",
        "path": "/deployments/{model}{path}",
        "path_for": ["chat", "completions", "embeddings", "audio", "images"],
        "query": {"api-version": "2024-10-21"},
        "stream_usage": "auto",
        "keepalive": _HOSTED_KEEPALIVE,
    },
    "anthropic": {
        "base_url": "https://api.anthropic.com/v1",
        "protocol": "anthropic",
        "stream_usage": "never",
        "keepalive": _HOSTED_KEEPALIVE,
    },
    "openrouter": {
        "base_url": "https://openrouter.ai/api/v1",
        "stream_usage": "inject",
        "keepalive": _HOSTED_KEEPALIVE,
    },
    # Comments and blank lines for up to half an hour while a request waits for its turn.
    "deepseek": {
        "base_url": "https://api.deepseek.com/v1",
        "stream_usage": "inject",
        "max_tokens_field": "max_tokens",
        "keepalive": _HOSTED_KEEPALIVE,
        "timeouts": {"first_token": "30m"},
    },
    "groq": {
        "base_url": "https://api.groq.com/openai/v1",
        "stream_usage": "auto",
        "keepalive": _HOSTED_KEEPALIVE,
    },
    # It refuses members it does not know (422) and sends usage unasked. Left out are those that SDKs and coding agents
    # add and that change nothing about the answer; what would change it is left to the upstream to refuse.
    "mistral": {
        "base_url": "https://api.mistral.ai/v1",
        "stream_usage": "never",
        "drop_params": [
            "stream_options", "store", "user", "safety_identifier", "service_tier", "prompt_cache_key",
            "prompt_cache_retention",
        ],
        "max_tokens_field": "max_tokens",
        "keepalive": _HOSTED_KEEPALIVE,
    },
    "gemini": {
        "base_url": "https://generativelanguage.googleapis.com/v1beta/openai",
        "stream_usage": "auto",
        "keepalive": _HOSTED_KEEPALIVE,
    },
    # A model is loaded when it is first asked for, which takes minutes for a big one.
    "ollama": {
        "base_url": "http://127.0.0.1:11434/v1",
        "stream_usage": "inject",
        "max_tokens_field": "max_tokens",
        "timeouts": {"first_byte": "10m", "first_token": "10m"},
    },
    # Its HTTP server closes idle connections after 5 s, as do SGLang's and llama.cpp's: the default of 4 s is for them.
    "vllm": {
        "base_url": "http://127.0.0.1:8000/v1",
        "stream_usage": "inject",
    },
    "sglang": {
        "base_url": "http://127.0.0.1:30000/v1",
        "stream_usage": "inject",
    },
    # Its own default port is that of `listen`, so base_url must be given.
    "llama.cpp": {
        "stream_usage": "inject",
    },
    "litellm": {
        "base_url": "http://127.0.0.1:4000/v1",
        "stream_usage": "auto",
    },
}  # fmt: skip


def with_preset(given: Mapping, path: Path, report: Report) -> Mapping:
    """Return an upstream's settings, with those of its preset, if it names one, for what is not given.

    What is given wins, setting by setting also inside `timeouts` and `query`; a list wins whole. The nodes of the
    preset stand where its name stands. A name that is none is reported.
    """
    entry = given.entries.get("preset")
    if entry is None or _is_nothing(entry.node):
        return given
    name, here = entry.node.value if isinstance(entry.node, Scalar) else None, (*path, "preset")
    known = f"; known: {', '.join(PRESETS)}"
    if not isinstance(name, str):
        report.add(here, f"expected the name of a preset{known}", entry.node.mark)
    elif name not in PRESETS:
        report.add(here, f"no preset is named {shown(name)}{report.suggest(name, PRESETS) or known}", entry.node.mark)
    else:
        return _filled(given, PRESETS[name], entry.node.mark)
    return given


def _filled(given: Mapping, preset: Preset, mark: Mark) -> Mapping:
    entries = dict(given.entries)
    for name, value in preset.items():
        own = entries.get(name)
        if own is None or (_is_nothing(own.node) and not isinstance(value, str)):
            entries[name] = Entry(mark, _node(value, mark))
        elif isinstance(own.node, Mapping) and isinstance(value, dict):
            entries[name] = Entry(own.mark, _filled(own.node, value, mark))
    return Mapping(given.mark, entries, given.flaws)


def _node(value: str | list[str] | Preset, mark: Mark) -> Node:
    if isinstance(value, str):
        return Scalar(mark, value, is_plain=False)
    if isinstance(value, list):
        return Sequence(mark, [Scalar(mark, each, is_plain=False) for each in value])
    return Mapping(mark, {name: Entry(mark, _node(each, mark)) for name, each in value.items()})


def _is_nothing(node: Node) -> bool:
    """Whether all that stood below a name is commented out."""
    return isinstance(node, Scalar) and node.value is None
