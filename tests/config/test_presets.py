from __future__ import annotations

import typing

import msgspec
import pytest

from router.config.dump import effective
from router.config.presets import PRESETS
from router.config.schema import Auth, MaxTokensField, Protocol, Seconds, StreamUsage, Upstream
from tests.config.files import MODELS, faults, read, texts

NAMES = (
    "openai", "azure", "azure-dated", "anthropic", "openrouter", "deepseek", "groq", "mistral", "gemini", "ollama",
    "vllm", "sglang", "llama.cpp", "litellm",
)  # fmt: skip
HOMELESS = ("azure", "azure-dated", "llama.cpp")
"""Those that every operator has somewhere else."""

ENVIRON = {"K": "secret"}


def upstream(settings: str) -> Upstream:
    return read(f"upstreams: {{a: {{{settings}}}}}\n{MODELS}", ENVIRON).config.upstreams["a"]


def test_every_kind_is_there() -> None:
    """The kinds that operators expect have a name each."""
    assert tuple(PRESETS) == NAMES


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_configuration(name: str) -> None:
    """With a credential, and a base URL where it has none, nothing else must be given; all of it takes effect."""
    base_url = "base_url: https://h/v1, " if name in HOMELESS else ""
    found = upstream(f"preset: {name}, {base_url}api_key: {{env: K}}")
    assert found.preset == name
    assert "base_url" in PRESETS[name] or name in HOMELESS
    plain = upstream("base_url: https://h/v1, api_key: {env: K}")
    for setting in PRESETS[name]:
        default = {"stream_usage": "auto"}.get(setting)
        assert getattr(found, setting) != getattr(plain, setting) or PRESETS[name][setting] == default


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_written_out_is_the_same(name: str) -> None:
    """A preset is settings and nothing else: written into the file they make the same upstream."""
    given: dict[str, typing.Any] = {"base_url": "https://h/v1", "api_key": {"env": "K"}}

    def made(settings: dict[str, typing.Any]) -> Upstream:
        text = msgspec.json.encode({"upstreams": {"a": settings}, "models": {"m": "a"}})
        return read(text, ENVIRON).config.upstreams["a"]

    short = made({"preset": name} | given)
    assert msgspec.structs.replace(short, preset=None) == made(PRESETS[name] | given)


def test_what_the_file_gives_wins() -> None:
    """Setting by setting, inside sections and among names too; a list and a setting taken back win whole."""
    found = upstream(
        "preset: azure-dated, base_url: https://h/openai, api_key: {env: K}, auth: bearer, keepalive: 1s, path: ~, "
        "path_for: [], query: {api-version: 2024-02-01, deployment: x}"
    )
    assert (found.auth, found.keepalive, found.path, found.path_for) == (Auth.BEARER, Seconds(1), None, ())
    assert found.query == {"api-version": "2024-02-01", "deployment": "x"}
    found = upstream("preset: ollama, timeouts: {first_byte: 1s, connect: 2s}")
    assert found.timeouts.first_byte == Seconds(1)
    assert found.timeouts.connect == Seconds(2)
    assert found.timeouts.first_token == Seconds(600)


def test_nothing_below_a_name_leaves_it_to_the_preset() -> None:
    """A section of which everything is commented out takes nothing back."""
    assert upstream("preset: ollama, timeouts: ").timeouts.first_token == Seconds(600)
    assert "store" in upstream("preset: mistral, drop_params: ").drop_params


def test_the_kinds_differ_as_their_upstreams_do() -> None:
    """Credentials, protocol, path and parameters are those of PROTOCOL 11."""
    anthropic = upstream("preset: anthropic, api_key: {env: K}")
    assert (anthropic.protocol, anthropic.sends_credential_as) == (Protocol.ANTHROPIC, Auth.X_API_KEY)
    assert upstream("preset: ollama").sends_credential_as is Auth.NONE
    azure = upstream("preset: azure, base_url: https://h/openai/v1, api_key: {env: K}")
    assert (azure.sends_credential_as, azure.path) == (Auth.API_KEY, None)
    mistral = upstream("preset: mistral, api_key: {env: K}")
    assert mistral.stream_usage is StreamUsage.NEVER
    assert mistral.max_tokens_field is MaxTokensField.MAX_TOKENS


def test_an_unknown_preset_is_told_once() -> None:
    """The name is told where it stands, with what was meant; what it might have given is no second fault."""
    text = f"upstreams:\n  a: {{keepalive: 0s, preset: opnai}}\n{MODELS}"
    assert faults(text) == [
        "f:2:18: upstreams.a.keepalive: must be longer than 0",
        "f:2:30: upstreams.a.preset: no preset is named 'opnai', did you mean 'openai'?",
    ]
    assert texts(f"upstreams: {{a: {{preset: xyz}}}}\n{MODELS}") == [
        f"upstreams.a.preset: no preset is named 'xyz'; known: {', '.join(PRESETS)}"
    ]


@pytest.mark.parametrize("value", ["5", "true", "[openai]", "{openai: 1}"])
def test_a_preset_that_is_no_name_is_told(value: str) -> None:
    """Only the name of a preset can be given."""
    (fault,) = texts(f"upstreams: {{a: {{preset: {value}}}}}\n{MODELS}")
    assert fault == f"upstreams.a.preset: expected the name of a preset; known: {', '.join(PRESETS)}"
    assert read(f"upstreams: {{a: {{preset: ~, base_url: http://h}}}}\n{MODELS}").config.upstreams["a"].preset is None


@pytest.mark.parametrize("name", HOMELESS)
def test_a_kind_without_a_home_needs_a_base_url(name: str) -> None:
    """What only the operator can know must be given."""
    assert "upstreams.a.base_url: is missing" in texts(f"upstreams: {{a: {{preset: {name}}}}}\n{MODELS}")


def test_what_a_preset_gives_is_checked_like_anything_else() -> None:
    """A fault that comes of the preset is told where the file names it."""
    text = f"listen: 127.0.0.1:8000\nupstreams:\n  a:\n    preset: vllm\n{MODELS}"
    assert faults(text) == [
        "f:4:13: upstreams.a.base_url: leads back to the router's own `listen` address 127.0.0.1:8000"
    ]
    assert texts(f"upstreams: {{a: {{preset: azure, base_url: https://h/openai/v1}}}}\n{MODELS}") == [
        "upstreams.a.auth: says how a credential is sent, but api_key is missing"
    ]


def test_upstreams_that_share_an_anchor_keep_their_own_presets() -> None:
    """Filling one in changes nothing about another that is merged from the same place."""
    text = (
        "x-common: &common {timeouts: {connect: 1s}}\n"
        "upstreams:\n"
        "  a: {<<: *common, preset: ollama}\n"
        "  b: {<<: *common, base_url: http://h/v1}\n"
        "  c: {<<: *common, preset: vllm}\n"
    )
    found = read(text + MODELS).config.upstreams
    assert {upstream.timeouts.connect for upstream in found.values()} == {Seconds(1)}
    assert found["a"].timeouts.first_token == Seconds(600)
    assert found["b"].timeouts.first_token is found["c"].timeouts.first_token is None


def test_a_merged_preset_is_filled_in() -> None:
    """A preset may stand in an anchor, as any setting may."""
    text = "x-hosted: &hosted {preset: groq, api_key: {env: K}}\nupstreams: {a: {<<: *hosted, keepalive: 9s}}\n"
    found = read(text + MODELS, ENVIRON)
    assert found.config.upstreams["a"].keepalive == Seconds(9)
    assert effective(found)["upstreams"]["a"]["base_url"] == "https://api.groq.com/openai/v1"
