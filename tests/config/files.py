"""Configurations for the tests: a smallest one that is right, and what is told about others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

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


def pem_files(folder: Path, *, ca: str = "ca.pem", cert: str = "cert.pem", key: str = "key.pem") -> None:
    """Make the certificate of an authority, and one it issued with its key."""
    authority = trustme.CA()
    issued = authority.issue_cert("router.test")
    authority.cert_pem.write_to_path(folder / ca)
    issued.cert_chain_pems[0].write_to_path(folder / cert)
    issued.private_key_pem.write_to_path(folder / key)


def read(text: str | bytes, environ: Mapping[str, str] | None = None, directory: Path = NOWHERE) -> Loaded:
    return parse(text, "f", directory=directory, environ=environ or {})


def faults(text: str | bytes, environ: Mapping[str, str] | None = None, directory: Path = NOWHERE) -> list[str]:
    """What is told about a text; it must be refused."""
    with pytest.raises(ConfigError) as refused:
        read(text, environ, directory)
    return list(refused.value.faults)


def texts(text: str, environ: Mapping[str, str] | None = None, directory: Path = NOWHERE) -> list[str]:
    """The same without the place in the file: `path: what`."""
    return [fault.split(": ", 1)[1] for fault in faults(text, environ, directory)]
