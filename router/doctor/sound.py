"""Reading the configuration, and what of it is sound if some of it is not: one faulty line should hide no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from router.config import convert, expand, includes, listener_checks, loader, upstream_checks
from router.config.report import Report
from router.config.schema import Config, Requests, Upstream
from router.config.secrets import resolve_all
from router.config.sources import Sources
from router.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from router.config.loader import Loaded


_CREDENTIALS: Final = frozenset({"api_key", "api_keys", "auth"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What became of reading a file."""

    loaded: Loaded | None
    """What can be used of it: of one with faults the upstreams without any, and what asks for them; maybe there is no
    such. None: it is not even YAML."""
    faults: tuple[str, ...] = ()
    bare: frozenset[str] = frozenset()
    """Upstreams of which only the credentials are faulty: here they have none."""


def read(path: Path, environ: Mapping[str, str]) -> Read:
    """Read a configuration file."""
    try:
        return Read(loaded=loader.load(path, environ=environ))
    except ConfigError as error:
        loaded, bare = _sound(path, environ)
        return Read(loaded=loaded, faults=error.faults, bare=bare)


def _sound(path: Path, environ: Mapping[str, str]) -> tuple[Loaded | None, frozenset[str]]:
    here, sources, report = path.absolute(), Sources(), Report(str(path))
    try:
        gathered = includes.gather(sources.read(here), report, path=here, sources=sources)
    except OSError:
        return None, frozenset()
    if gathered is None:
        return None, frozenset()
    config = convert.settings(gathered.root, Config, report)
    listener_checks.check(config, report, directory=here.parent, sources=sources)
    upstream_checks.check(config, report, directory=here.parent, sources=sources)
    secrets = resolve_all(config, report, directory=here.parent, environ=environ, sources=sources)
    config, bare = _without_faults(config, report)
    loaded = loader.Loaded(config=expand.normalised(config, here.parent), secrets=secrets, digest="")
    return loaded, bare


def _without_faults(config: Config, report: Report) -> tuple[Config, frozenset[str]]:
    """Leave out what is faulty, and what would lead to it."""
    upstreams: dict[str, Upstream] = {}
    bare: set[str] = set()
    for name, upstream in config.upstreams.items():
        path = ("upstreams", name)
        if report.is_clean(path):
            upstreams[name] = upstream
        elif not report.is_lost(path) and all(
            report.is_clean((*path, setting)) for setting in Upstream.__struct_fields__ if setting not in _CREDENTIALS
        ):
            upstreams[name] = msgspec.structs.replace(upstream, api_key=None, api_keys=(), auth=None)
            bare.update(expand.spread(name, upstream.base_url))
    known = expand.spread_all(upstreams)
    models = {
        name: msgspec.structs.replace(
            model,
            pool=tuple(
                member
                for index, member in enumerate(model.pool)
                if member.upstream in known and report.is_clean(("models", name, "pool", index))
            ),
        )
        for name, model in config.models.items()
        if not report.is_lost(("models", name))
    }
    sound = msgspec.structs.replace(
        config,
        upstreams=upstreams,
        models=models,
        keys={name: each for name, each in config.keys.items() if report.is_clean(("keys", name))},
        listen=config.listen if report.is_clean(("listen",)) else (),
        admin=config.admin if report.is_clean(("admin",)) else (),
        admin_token=config.admin_token if report.is_clean(("admin_token",)) else None,
        requests=config.requests if report.is_clean(("requests",)) else Requests(),
    )
    return sound, frozenset(bare)
