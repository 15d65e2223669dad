from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from router.config.dump import HIDDEN, effective, to_yaml
from tests.config.files import MODELS, UPSTREAMS, read

if TYPE_CHECKING:
    from router.config.loader import Loaded

FULL = """
defaults: {timeouts: {idle: 90s}, choose: round_robin, default_output_tokens: 2k}
upstreams:
  g: {base_url: "http://h{1..2}/v1", limits: {tokens_per_minute: 1.5M}, timeouts: {connect: 250ms}}
  a:
    base_url: https://h/v1/
    api_key: {env: E}
    headers: {set: {x-title: "no", X-Auth-Thing: hunter2, x-n: "1e3"}}
    query: {api-version: 2026-01-01, sig: hunter2, api_key: hunter2}
    pace: {requests: 5}
models:
  "null": {pool: [g, {upstream: a, model: "0o7", weight: 0.5, tier: 2}], fallback: [m]}
  m: {pool: [a], price: {input: 0.10, output: 10, image: "0.002000000001", search: 1e-7}}
keys:
  k: {secret: {sha256: AAAAAAAABBBBBBBBCCCCCCCCDDDDDDDDEEEEEEEEFFFFFFFF0000000011111111}, limits: {concurrency: 5}}
"""


@pytest.fixture
def loaded() -> Loaded:
    return read(FULL, {"E": "hunter2"})


def test_defaults_are_filled_in(loaded: Loaded) -> None:
    """Every setting that has a default is there, inherited ones included, in the way one writes them."""
    shown = effective(loaded)
    assert shown["listen"] == "127.0.0.1:8080"
    assert shown["requests"]["body_max"] == "64MiB"
    assert shown["upstreams"]["g-1"]["timeouts"] == {
        "connect": "250ms", "first_byte": "1m", "first_token": "2m", "idle": "1m30s", "total": "30m",
    }  # fmt: skip
    assert shown["upstreams"]["g-2"]["limits"] == {"tokens_per_minute": "1500k"}
    assert shown["upstreams"]["g-1"]["auth"] == "none"
    assert shown["upstreams"]["a"]["auth"] == "bearer"
    assert shown["upstreams"]["a"]["pace"] == {"requests": 5, "per": "1s", "wait": "2s"}
    assert shown["models"]["m"] == {
        "pool": [{"upstream": "a", "weight": 1.0, "tier": 1}], "fallback": [], "choose": "round_robin", "timeouts": {},
        "default_output_tokens": "2k", "price": {"input": 0.1, "output": 10, "image": 0.002000000001, "search": 1e-07},
        "translate": False, "translation": {
            "default_max_tokens": 4096, "inline_system": False, "no_sampling": False, "adaptive_thinking": True,
            "thinking_required": False, "thinking_blocks": False,
        },
    }  # fmt: skip


def test_no_secret_is_shown(loaded: Loaded) -> None:
    """Secrets are shown as references, hashes by 8 digits, and values whose name says credential not at all."""
    shown = effective(loaded)
    assert shown["upstreams"]["a"]["api_key"] == {"env": "E"}
    assert shown["upstreams"]["a"]["headers"]["set"] == {"x-title": "no", "X-Auth-Thing": HIDDEN, "x-n": "1e3"}
    assert shown["upstreams"]["a"]["query"] == {"api-version": "2026-01-01", "sig": HIDDEN, "api_key": HIDDEN}
    assert shown["keys"]["k"]["secret"] == {"sha256": "aaaaaaaa…"}
    assert "hunter2" not in to_yaml(loaded)
    assert "bbbbbbbb" not in to_yaml(loaded).lower()


def test_what_is_shown_is_plain_data(loaded: Loaded) -> None:
    """JSON and YAML writers need no help with it, and both say the same."""
    assert json.loads(json.dumps(effective(loaded))) == effective(loaded)
    assert yaml.safe_load(to_yaml(loaded))["upstreams"] == effective(loaded)["upstreams"]


def test_the_yaml_is_a_configuration_again() -> None:
    """What `config show` prints loads, and then shows the same: nothing is lost and nothing misread."""
    text = FULL[: FULL.index("keys:")]
    first = read(text, {"E": "hunter2"})
    again = read(to_yaml(first), {"E": "hunter2"})
    assert effective(again) == effective(first)
    assert again.config.models["null"].pool == first.config.models["null"].pool
    assert again.config.models["m"].price == first.config.models["m"].price


PRESET = """
upstreams:
  a:
    preset: mistral
    api_key: {env: E}
    max_tokens_field: ~
    proxy: {url: http://p:3128, username: u, password: {env: E}}
  b: {preset: anthropic, api_key: {env: E}, base_url: "http://h{1..2}/v1", headers: {allow: default}}
models: {m: {pool: [a, b]}}
"""


def test_a_preset_is_shown_as_what_it_stands_for() -> None:
    """What the preset gives stands there like any other setting, and so does what the file takes back."""
    shown = effective(read(PRESET, {"E": "hunter2"}))["upstreams"]
    assert shown["a"]["base_url"] == "https://api.mistral.ai/v1"
    assert "store" in shown["a"]["drop_params"]
    assert shown["a"]["max_tokens_field"] is None
    assert shown["a"]["auth"] == "bearer"
    assert shown["b-2"]["base_url"] == "http://h2/v1"
    assert (shown["b-2"]["protocol"], shown["b-2"]["auth"]) == ("anthropic", "x-api-key")
    assert "anthropic-version" in shown["b-2"]["headers"]["allow"]


def test_the_yaml_of_a_preset_is_a_configuration_again() -> None:
    """What is printed loads to the same settings, those included that the file took back from the preset."""
    first = read(PRESET, {"E": "hunter2"})
    again = read(to_yaml(first), {"E": "hunter2"})
    assert effective(again) == effective(first)
    assert again.config.upstreams["a"].max_tokens_field is None


def test_no_secret_of_a_proxy_is_shown() -> None:
    """The password of a proxy is a reference like every other."""
    loaded = read(PRESET, {"E": "hunter2"})
    assert effective(loaded)["upstreams"]["a"]["proxy"] == {
        "url": "http://p:3128", "username": "u", "password": {"env": "E"},
    }  # fmt: skip
    assert "hunter2" not in to_yaml(loaded)


def test_the_smallest_configuration_is_shown_whole() -> None:
    """Also what the file does not mention is shown."""
    shown = effective(read(UPSTREAMS + MODELS))
    assert {"listen", "admin", "defaults", "keys", "requests", "errors", "reload", "stop", "log", "debug"} <= set(shown)
