"""A configuration file to a checked `Config`: text, nodes, settings, checks, secrets; every fault of one run together.

```
sources ─ bytes ─▶ includes, yaml_nodes ─ nodes ─▶ convert ─ settings ─▶ checks, secrets ─▶ expand ─▶ Loaded
                       └──────────────────────────────┴──────── faults ─────┴──▶ report ──▶ Rejected
```
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from router.config import advice, checks, convert, expand, includes, listener_checks, origins, secrets, upstream_checks
from router.config.report import Report
from router.config.schema import Config, Secret
from router.config.sources import Fingerprint, Sources
from router.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration that can be used."""

    config: Config
    """Without includes, short forms and ranges. What upstreams and models inherit from `defaults` is not filled in."""
    secrets: Mapping[Secret, str] = field(repr=False)
    """Every secret by its reference; `sha256` references have none."""
    digest: str
    """SHA-256 (hex) of everything it was made of, secrets included: a rotated secret is a change."""
    sources: Fingerprint = field(default_factory=dict, repr=False)
    """The files it was made of, for `Watcher.running`."""
    warnings: tuple[str, ...] = field(default=(), repr=False)
    """Each `file:line:column: warning: path: what is probably not meant`, in the order of the files."""


class Rejected(ConfigError):
    """The files cannot be used. Knows which they were, so that the `Watcher` sees the missing one arrive."""

    def __init__(self, faults: tuple[str, ...], sources: Fingerprint) -> None:
        super().__init__(faults)
        self.sources = sources


def load(path: Path, *, environ: Mapping[str, str] | None, credentials: bool = True) -> Loaded:
    """Read and check a configuration file.

    Args:
        path: The file; symbolic links are followed. Files it names are looked for in the folder it is given in.
        environ: The environment variables that secrets may refer to. Without it nothing is looked up that a
            configuration refers to, such as secrets, certificates and folders: it may be one for another machine.
        credentials: Look up those of systemd as well. Without them, as without `environ`, the result is good for
            nothing but to know it good.

    Raises:
        ConfigError: With every fault, in the order of the file; it is `Rejected`.
    """
    content, sources = _open(path)
    return _parse(content, str(path), path=path.absolute(), environ=environ, sources=sources, credentials=credentials)


def load_without_secrets(path: Path) -> Config:
    """Read and check a configuration file, but for its secrets: for who will send nothing.

    Raises:
        ConfigError: As of `load`.
    """
    content, sources = _open(path)
    report = Report(str(path))
    config = _settings(content, report, path.absolute(), sources)
    if config is None or report.count:
        raise Rejected(report.lines(), sources.fingerprint)
    return expand.normalised(config, path.absolute().parent)


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
    path = directory.absolute() / (PurePath(name).name or "-")
    return _parse(content, name, path=path, environ=environ, sources=Sources())


def _open(path: Path) -> tuple[bytes, Sources]:
    sources = Sources()
    try:
        return sources.read(path.absolute()), sources
    except OSError as error:
        raise Rejected((f"{path}: cannot be read: {error.strerror}",), sources.fingerprint) from None


def _parse(
    content: bytes,
    name: str,
    *,
    path: Path,
    environ: Mapping[str, str] | None,
    sources: Sources,
    credentials: bool = True,
) -> Loaded:
    report = Report(name)
    config = _settings(content, report, path, sources, look=environ is not None)
    if config is None:
        raise Rejected(report.lines(), sources.fingerprint)
    resolved = secrets.resolve_all(
        config, report, directory=path.parent, environ=environ, sources=sources, credentials=credentials
    )
    if report.count:
        raise Rejected(report.lines(), sources.fingerprint)
    return Loaded(
        config=expand.normalised(config, path.parent),
        secrets=resolved,
        digest=_digest(content, resolved, sources.fingerprint),
        sources=sources.fingerprint,
        warnings=report.warnings(),
    )


def _settings(content: bytes, report: Report, path: Path, sources: Sources, *, look: bool = True) -> Config | None:
    """Read and check everything but secrets; None if it is not known what the files say.

    Without `look` nothing is looked at but the files that hold settings.
    """
    gathered = includes.gather(content, report, path=path, sources=sources)
    if gathered is None:
        return None
    config = convert.settings(gathered.root, Config, report)
    if not gathered.is_whole:
        return None
    checks.check(config, report, directory=path.parent if look else None)
    origins.check(config, report)
    listener_checks.check(config, report, directory=path.parent, sources=sources if look else None)
    upstream_checks.check(config, report, directory=path.parent, sources=sources if look else None)
    if not report.count:
        advice.check(config, report, directory=path.parent if look else None)
    return config


def _digest(content: bytes, resolved: Mapping[Secret, str], sources: Fingerprint) -> str:
    """Hash what the configuration was made of; of secrets only their hashes go in."""
    parts = [hashlib.sha256(content).hexdigest()]
    parts += sorted(f"{reference} {secrets.digest(reference, resolved)}" for reference in resolved)
    parts += sorted(sources.values())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
