"""The JSON Schema beside the loader: what that takes is valid, and what it refuses an editor tells as well."""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from router.config.json_schema import json_schema, rendered
from router.errors import ConfigError
from tests.config.files import MODELS, UPSTREAMS, read, underlined
from tests.config.test_schema import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "config/router.schema.json"
CONFIGURATIONS = sorted(
    path
    for path in [ROOT / "config/router.yaml", *(ROOT / "config/examples").rglob("*.yaml")]
    if "scenarios" not in path.parts
)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_what_is_committed_is_what_is_generated() -> None:
    """`config/router.schema.json` is what `llm-router config schema` prints: it does not fall behind the structs."""
    assert COMMITTED.read_text() == rendered(), "llm-router config schema > config/router.schema.json"


def test_it_is_a_schema() -> None:
    """It is valid by the dialect that it names."""
    Draft202012Validator.check_schema(json_schema())
    assert json_schema()["$schema"] == Draft202012Validator.META_SCHEMA["$schema"]


def described(made: dict[str, Any], at: str) -> Iterator[tuple[str, str]]:
    yield at, made.get("description", "")
    for setting, each in made.get("properties", {}).items():
        yield f"{at}.{setting}", each.get("description", "")


def test_every_setting_is_described() -> None:
    """Whoever points at a setting is told what it does: none is without words, and none speaks of other documents."""
    schema = json_schema()
    texts = dict(described(schema, "Config"))
    for kind, made in schema["$defs"].items():
        texts.update(described(made, kind))
    assert [at for at, text in texts.items() if not text] == []
    cited = re.compile(r"\b(?:DESIGN|OPERATIONS|PROTOCOL|RELIABILITY|STYLE|(?!HTTPS|CREDENTIALS)[A-Z]+_[A-Z]+)\b")
    assert [at for at, text in texts.items() if cited.search(text)] == []


def test_defaults_and_bounds_are_those_of_the_structs() -> None:
    """An editor shows defaults as one writes them, the names that may be chosen, and the bounds of numbers."""
    schema = json_schema()
    definitions = schema["$defs"]
    assert schema["properties"]["listen"]["default"] == "127.0.0.1:8080"
    assert definitions["Timeouts"]["properties"]["total"]["default"] == "30m"
    assert definitions["Requests"]["properties"]["body_max"]["default"] == "64MiB"
    assert definitions["Retry"]["properties"]["attempts"] | {"description": ""} == {
        "description": "", "type": "integer", "minimum": 1, "maximum": 10, "default": 3,
    }  # fmt: skip
    assert "round_robin" in definitions["Defaults"]["properties"]["choose"]["enum"]
    assert (
        definitions["TimeoutOverrides"]["properties"]["idle"]["description"]
        == (definitions["Timeouts"]["properties"]["idle"]["description"])
    )


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=name)
def test_every_configuration_here_is_valid_and_says_its_schema(path: Path) -> None:
    """Each begins with the line by which editors find the schema, relative to itself, and has nothing underlined."""
    text = path.read_text()
    place = os.path.relpath(COMMITTED, path.parent)
    assert text.splitlines()[0] == f"# yaml-language-server: $schema={place}"
    assert underlined(text) == []


def test_the_whole_twin_is_valid() -> None:
    """So it is with every line in effect that is commented out: all that may be said is in the schema."""
    assert underlined(WHOLE) == []


def texts_of_tests() -> dict[str, str]:
    """Every piece of text in the tests of the loader that could be a configuration, or is one with upstreams added."""
    found: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
                for before in ("", UPSTREAMS, UPSTREAMS + MODELS):
                    text = f"{before}\n{node.value}"
                    try:
                        read(text, dict.fromkeys("ABE", "secret") | {"K": "k", "HOSTED_API_KEY": "h"})
                    except (ConfigError, RecursionError):
                        continue
                    found[f"{path.name}:{node.lineno}"] = text
    return found


def test_what_the_loader_takes_is_valid() -> None:
    """No text in the tests of the loader that loads is underlined: an editor does not cry wolf.

    `read` asserts the same of every text that any of those tests reads.
    """
    texts = texts_of_tests()
    assert len(texts) > 30
    assert {at: told for at, text in texts.items() if (told := underlined(text))} == {}


WRONG = {
    "an unknown name at the top": "listne: 127.0.0.1:8080",
    "an unknown name further down": "defaults: {timeouts: {conect: 3s}}",
    "x- below the top": "defaults: {x-mine: 1}",
    "an address without a port": "listen: 127.0.0.1",
    "an address that is a number": "listen: 8080",
    "a listener without an address": "admin: [{mode: '0660'}]",
    "a duration with a space": "stop: {drain: 2 m}",
    "a duration of another unit": "stop: {drain: 2 parsecs}",
    "a duration that is none": "stop: {drain: true}",
    "a duration of nothing": "stop: {drain: 0}",
    "a duration longer than a year": "stop: {drain: 31536001}",
    "a count with another unit": "sticky: {ids_max: 5KiB}",
    "a count below its bound": "sticky: {ids_max: 0}",
    "a count below its bound, as text": "sticky: {ids_max: 0k}",
    "a count of parts": "sticky: {ids_max: 1.5}",
    "a size of nothing": "requests: {body_max: 0}",
    "a size with another unit": "requests: {body_max: 5Mib}",
    "a number above its bound": "defaults: {retry: {attempts: 11}}",
    "a share above one": "defaults: {ejection: {success_ratio: 1.5}}",
    "a choice that there is not": "defaults: {choose: random}",
    "yes in place of true": "debug: {headers: yes}",
    "text in place of settings": "log: access",
    "a list in place of names": "upstreams: [{base_url: http://h}]",
    "an upstream without its URL": "upstreams: {a: {protocol: openai}}",
    "a preset that gives no URL": "upstreams: {a: {preset: azure}}",
    "a preset that there is not": "upstreams: {a: {preset: opnai}}",
    "a secret that stands in the file": "upstreams: {a: {base_url: http://h, api_key: sk-123}}",
    "a secret in two places": "upstreams: {a: {base_url: http://h, api_key: {env: A, file: b}}}",
    "a secret in no place": "keys: {k: {secret: {}}}",
    "a key without its secret": "keys: {k: {models: [m]}}",
    "a model without a pool": "models: {m: {fallback: [n]}}",
    "a member without an upstream": "models: {m: {pool: [{weight: 1}]}}",
    "a member with a negative weight": "models: {m: {pool: [{upstream: a, weight: -1}]}}",
    "a price below nothing": "models: {m: {pool: [a], price: {input: -1}}}",
    "a price with a sign": "models: {m: {pool: [a], price: {input: $1}}}",
    "a list of one without brackets": "keys: {k: {secret: {env: A}, models: gpt}}",
    "headers that pass, by another word": "upstreams: {a: {base_url: http://h, headers: {allow: all}}}",
    "a family that there is not": "pins: {flies: a}",
    "an endpoint that names its model": "default_models: {chat: m}",
    "a name of nothing": "models: {'': a}",
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_the_loader_refuses_is_underlined(kind: str) -> None:
    """A slip of the kinds that need no other setting to be seen is wrong by the schema too."""
    assert underlined(WRONG[kind])
    with pytest.raises(ConfigError):
        read(
            WRONG[kind] + "".join(part for part in (UPSTREAMS, MODELS) if not part.lstrip().startswith(WRONG[kind][:6]))
        )


def test_names_that_are_free_are_free() -> None:
    """Below `x-` names at the top anything may stand, as the loader has it."""
    assert underlined("x-anchors: {a: [1, {b: c}]}") == []


def test_the_committed_file_is_json() -> None:
    """Any tool can read it, and it is small enough to be fetched each time an editor starts."""
    assert json.loads(COMMITTED.read_text()) == json_schema()
    assert COMMITTED.stat().st_size < 100_000
    assert yaml.safe_load(COMMITTED.read_text())
