"""Configurations for the tests: a smallest one that is right, and what is told about others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from jsonschema import Draft202012Validator

from router.config import yaml_nodes
from router.config.json_schema import json_schema
from router.config.loader import Loaded, parse
from router.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

TWIN = Path(__file__).parents[2] / "config" / "router.yaml"

UPSTREAMS = """
upstreams:
  a: {base_url: http://10.0.0.1:8000/v1}
  b: {base_url: https://b.example/v1}
"""
MODELS = """
models: {m: a}
"""
NOWHERE = Path("nowhere")
VALIDATOR = Draft202012Validator(json_schema())


def pem_files(folder: Path, *, ca: str = "ca.pem", cert: str = "cert.pem", key: str = "key.pem") -> None:
    """Make the certificate of an authority, and one it issued with its key."""
    authority = trustme.CA()
    issued = authority.issue_cert("router.test")
    authority.cert_pem.write_to_path(folder / ca)
    issued.cert_chain_pems[0].write_to_path(folder / cert)
    issued.private_key_pem.write_to_path(folder / key)


def read(text: str | bytes, environ: Mapping[str, str] | None = None, directory: Path = NOWHERE) -> Loaded:
    """Load a text that is right, which no editor may find wrong either."""
    loaded = parse(text, "f", directory=directory, environ=environ or {})
    assert underlined(text) == []
    return loaded


def underlined(text: str | bytes) -> list[str]:
    """What an editor finds wrong with a text, by the JSON Schema of configurations."""
    tree = plain(yaml_nodes.compose(text.decode("utf-8-sig") if isinstance(text, bytes) else text.lstrip("\ufeff")))
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors({} if tree is None else tree)]


def plain(node: yaml_nodes.Node) -> Any:
    """What an editor makes of a file: merges written out, scalars by YAML 1.2."""
    if isinstance(node, yaml_nodes.Scalar):
        return node.value
    if isinstance(node, yaml_nodes.Mapping):
        return {name: plain(entry.node) for name, entry in node.entries.items()}
    return [plain(item) for item in node.items]


def faults(text: str | bytes, environ: Mapping[str, str] | None = None, directory: Path = NOWHERE) -> list[str]:
    """What is told about a text; it must be refused."""
    with pytest.raises(ConfigError) as refused:
        read(text, environ, directory)
    return list(refused.value.faults)


def texts(text: str, environ: Mapping[str, str] | None = None, directory: Path = NOWHERE) -> list[str]:
    """The same without the place in the file: `path: what`."""
    return [fault.split(": ", 1)[1] for fault in faults(text, environ, directory)]
