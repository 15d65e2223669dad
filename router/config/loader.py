"""A configuration file to a checked `Config`: text, nodes, settings, checks, secrets; every fault of one run together.

```
sources ─ bytes ─▶ yaml_nodes ─ nodes ─▶ convert ─ settings ─▶ checks, upstream_checks, secrets ─▶ expand ─▶ Loaded
                                            └────────────┴── faults ──▶ report ──▶ Rejected
```
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from router.config import checks, convert, expand, secrets, upstream_checks, yaml_nodes
from router.config.report import Mark, Report
from router.config.schema import Config, Secret
from router.config.sources import FILE_BYTES_MAX, Fingerprint, Sources
from router.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration that can be used."""

    config: Config
    """Without short forms and ranges. What upstreams and models inherit from `defaults` is not filled in."""
    secrets: Mapping[Secret, str] = field(repr=False)
    """Every secret by its reference; `sha256` references have none."""
    digest: str
    """SHA-256 (hex) of everything it was made of, secrets included: a rotated secret is a change."""
    sources: Fingerprint = field(default_factory=dict, repr=False)
    """The files it was made of, for `Watcher.running`."""


class Rejected(ConfigError):
    """The file cannot be used. Knows which files it was made of, so that the `Watcher` sees the missing one arrive."""

    def __init__(self, faults: tuple[str, ...], sources: Fingerprint) -> None:
        super().__init__(faults)
        self.sources = sources


def load(path: Path, *, environ: Mapping[str, str], credentials: bool = True) -> Loaded:
    """Read and check a configuration file.

    Args:
        path: The file; symbolic links are followed. Files it names are looked for in the folder it is given in.
        environ: The environment variables that secrets may refer to.
        credentials: Look up those of systemd as well. Without them the result is good for nothing but to know it good.

    Raises:
        ConfigError: With every fault, in the order of the file; it is `Rejected`.
    """
    sources, here = Sources(), path.absolute()
    try:
        content = sources.read(here)
    except OSError as error:
        raise Rejected((f"{path}: cannot be read: {error.strerror}",), sources.fingerprint) from None
    return _parse(content, str(path), directory=here.parent, environ=environ, sources=sources, credentials=credentials)


def parse(text: bytes | str, name: str, *, directory: Path, environ: Mapping[str, str]) -> Loaded:
    """Check a configuration that was read already.

    Args:
        text: The YAML; bytes are UTF-8.
        name: What faults call the file.
        directory: Where the files that it names are looked for.
        environ: The environment variables that secrets may refer to.

    Raises:
        ConfigError: With every fault, in the order of the file; it is `Rejected`.
    """
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return _parse(content, name, directory=directory.absolute(), environ=environ, sources=Sources())


def _parse(
    content: bytes,
    name: str,
    *,
    directory: Path,
    environ: Mapping[str, str],
    sources: Sources,
    credentials: bool = True,
) -> Loaded:
    report = Report(name)
    root = _compose(content, report)
    if root is None:
        raise Rejected(report.lines(), sources.fingerprint)
    config = convert.settings(root, Config, report)
    checks.check(config, report, directory=directory)
    upstream_checks.check(config, report, directory=directory, sources=sources)
    resolved = secrets.resolve_all(
        config, report, directory=directory, environ=environ, sources=sources, credentials=credentials
    )
    if report.count:
        raise Rejected(report.lines(), sources.fingerprint)
    return Loaded(
        config=expand.normalised(config, directory),
        secrets=resolved,
        digest=_digest(content, resolved, sources.fingerprint),
        sources=sources.fingerprint,
    )


def _compose(content: bytes, report: Report) -> yaml_nodes.Node | None:
    if len(content) > FILE_BYTES_MAX:
        report.add((), f"larger than {FILE_BYTES_MAX} bytes")
        return None
    try:
        return yaml_nodes.compose(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        before = content[: error.start]
        mark = Mark(before.count(b"\n") + 1, len(before[before.rfind(b"\n") + 1 :].decode("utf-8-sig", "replace")) + 1)
        report.add((), "not UTF-8 text", mark)
    except yaml_nodes.SyntaxFault as fault:
        report.add((), fault.text, fault.mark)
    return None


def _digest(content: bytes, resolved: Mapping[Secret, str], sources: Fingerprint) -> str:
    """Hash what the configuration was made of; of secrets only their hashes go in."""
    parts = [hashlib.sha256(content).hexdigest()]
    parts += sorted(f"{reference} {secrets.digest(reference, resolved)}" for reference in resolved)
    parts += sorted(sources.values())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
