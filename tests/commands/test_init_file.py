"""The first configuration: whatever the environment holds, the file loads, teaches, and keeps no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.commands.init_file import ADMIN, LISTEN, VENDORS, look, serving, text
from router.config import loader
from router.config.presets import PRESETS

if TYPE_CHECKING:
    from pathlib import Path

    from router.config.schema import Config

SECRET = "s3cret-0123456789"
OWN_URL = {"AZURE_OPENAI_ENDPOINT": "https://example.openai.azure.com/"}


def made(folder: Path, environ: dict[str, str]) -> tuple[str, Config]:
    """The file, and what loading it in that environment gives; a warning would be as bad as a fault."""
    written = text(look(environ, folder))
    loaded = loader.parse(written, "router.yaml", directory=folder, environ=environ)
    assert loaded.warnings == ()
    assert max(map(len, written.splitlines())) <= 120
    assert written.isascii(), "it goes through any terminal unchanged"
    return written, loaded.config


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_each_vendor_alone_is_served(tmp_path: Path, vendor: object) -> None:
    """One variable makes one upstream, by its preset where there is one, and patterns that lead to it."""
    [it] = [each for each in VENDORS if each is vendor]
    written, config = made(tmp_path, {it.key: SECRET, **OWN_URL})
    [(name, upstream)] = config.upstreams.items()
    assert name == it.name
    assert upstream.api_key is not None
    assert upstream.api_key.env == it.key
    assert upstream.base_url.startswith("https://")
    assert upstream.preset == it.preset
    assert set(config.models) == set(it.patterns)
    assert SECRET not in written


def test_presets_are_named_right() -> None:
    """What a vendor's preset is called exists; who has none, or one without an address, has an address of its own."""
    for vendor in VENDORS:
        has_address = vendor.preset is not None and "base_url" in PRESETS[vendor.preset]
        assert has_address + (vendor.base_url is not None) + vendor.needs_base_url == 1, vendor


def test_all_vendors_together(tmp_path: Path) -> None:
    """Everything at once loads; where two serve a pattern the second is another tier."""
    environ = {vendor.key: SECRET for vendor in VENDORS} | OWN_URL
    _, config = made(tmp_path, environ)
    assert list(config.upstreams) == [vendor.name for vendor in VENDORS]
    pool = config.models["gpt-*"].pool
    assert [(member.upstream, member.tier) for member in pool] == [("openai", 1), ("azure", 2)]
    assert serving(look(environ, tmp_path))["gpt-*"] == ["openai", "azure"]


def test_without_any_it_is_for_a_server_of_ones_own(tmp_path: Path) -> None:
    """The file leads to 127.0.0.1:8000, says what to change, and still names what it could not use."""
    written, config = made(tmp_path, {"SOME_API_KEY": SECRET})
    assert [upstream.base_url for upstream in config.upstreams.values()] == ["http://127.0.0.1:8000/v1"]
    assert list(config.models) == ["*"]
    assert "vLLM" in written
    assert "#   SOME_API_KEY is no variable that is known here" in written


@pytest.mark.parametrize(
    ("environ", "name", "base_url", "models"),
    [
        ({"OPENAI_BASE_URL": "http://10.0.0.1:8000/v1/"}, "openai", "http://10.0.0.1:8000/v1", {"*"}),
        (
            {"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": "https://llm.example/v1"},
            "openai", "https://llm.example/v1", {"*"},
        ),
        (
            {"ANTHROPIC_API_KEY": SECRET, "ANTHROPIC_BASE_URL": "https://llm.example"},
            "anthropic", "https://llm.example/v1", {"claude-*"},
        ),
        (
            {"XAI_API_KEY": SECRET, "XAI_BASE_URL": "https://eu-west-1.api.x.ai/v1"},
            "xai", "https://eu-west-1.api.x.ai/v1", {"grok-*"},
        ),
    ],
    ids=["no key", "openai", "anthropic", "other"],
)  # fmt: skip
def test_a_base_url_is_taken_over(
    tmp_path: Path, environ: dict[str, str], name: str, base_url: str, models: set[str]
) -> None:
    """Where an SDK was told to look, the router looks; Anthropic's SDK adds /v1 to what it is told."""
    _, config = made(tmp_path, environ)
    assert {each: upstream.base_url for each, upstream in config.upstreams.items()} == {name: base_url}
    assert set(config.models) == models


def test_a_vendors_own_base_url_changes_nothing(tmp_path: Path) -> None:
    """Who sets the default by hand means the default."""
    _, config = made(tmp_path, {"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": "https://api.openai.com/v1"})
    assert config.upstreams["openai"].preset == "openai"


@pytest.mark.parametrize("where", [LISTEN, ADMIN, LISTEN.replace("127.0.0.1", "localhost")])
def test_the_router_does_not_lead_to_itself(tmp_path: Path, where: str) -> None:
    """Clients' variables point to the router: a file made of them must not."""
    environ = {"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": f"http://{where}/v1"}
    written, config = made(tmp_path, environ)
    assert config.upstreams["openai"].base_url == "https://api.openai.com/v1"
    assert "#   OPENAI_BASE_URL leads to this router itself" in written


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OPENAI_API_KEY": ""}, "OPENAI_API_KEY is empty"),
        ({"OPENAI_API_KEY": "two\nlines"}, "OPENAI_API_KEY holds a line break"),
        ({"OPENAI_BASE_URL": "llm.example"}, "OPENAI_BASE_URL is no base URL: must begin with http"),
        ({"OPENAI_BASE_URL": "https://me:hush@llm.example"}, "OPENAI_BASE_URL is no base URL: must not hold a user"),
        ({"OPENAI_BASE_URL": "https://llm.example:hush"}, "OPENAI_BASE_URL is no base URL\n"),
        ({"AZURE_OPENAI_API_KEY": SECRET}, "AZURE_OPENAI_ENDPOINT does not say where that is"),
        ({"cohere_api_key": SECRET}, "cohere_api_key is no variable that is known here"),
    ],
)
def test_what_is_of_no_use_is_named(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    """A variable that cannot be used stands in a comment with the reason, and its value nowhere."""
    written, _ = made(tmp_path, environ)
    assert said in written
    assert not any(value in written for value in environ.values() if value)
    assert "hush" not in written


NAMES = st.sampled_from(
    sorted({name for vendor in VENDORS for name in (vendor.key, vendor.variable_of_url)} | {"A_API_KEY", "PATH"})
) | st.text(max_size=20).map(lambda text: f"{text}_API_KEY")
VALUES = st.text(max_size=40) | st.sampled_from([
    SECRET, "", " ", "http://127.0.0.1:8080/v1", "https://x.example/v1", "https://x.example/{1..4}", "http://[::1]:9",
    'https://x"y', "https://x.example/a#b", "http://u:p@h/", "https://x.example:99999",
])  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(environ=st.dictionaries(NAMES, VALUES, max_size=8))
def test_any_environment_makes_a_good_file(tmp_path: Path, environ: dict[str, str]) -> None:
    """Whatever variables hold, the file loads with them; what is a comment stays one."""
    written = text(look(environ, tmp_path))
    assert written.isascii()
    loader.parse(written, "router.yaml", directory=tmp_path, environ=environ)
