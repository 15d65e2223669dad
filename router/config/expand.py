"""Number ranges: `base_url: "http://10.0.0.{1..4}:8000/v1"` on `gpu` declares the upstreams `gpu-1` to `gpu-4`.

A pool that names `gpu` has all of them as members. Here also `default` under `headers.allow` is written out, and paths
of files begin at the folder of the configuration. After this step the configuration holds no range and no short form,
and is one, whatever files it came in.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from router.config.addresses import within
from router.config.schema import ALLOW_DEFAULT, PASSING_HEADERS, Settings
from router.config.values import BadValue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from router.config.schema import Config, Listener, Member, Model, Upstream

RANGE_MAX: Final = 256
"""Upstreams that one range may declare."""

S = TypeVar("S", bound=Settings)

_RANGE = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")


def spread(name: str, base_url: str) -> dict[str, str]:
    """Return the upstreams that a declaration stands for: each name with its base URL.

    A range that begins with a zero keeps its width: `{01..12}` gives 01, 02, …

    Raises:
        BadValue: There are braces that are no range, two ranges, a range that runs backwards or is too long.
    """
    if "{" not in base_url and "}" not in base_url:
        return {name: base_url}
    found = _RANGE.search(base_url)
    before, after = (base_url[: found.start()], base_url[found.end() :]) if found else (base_url, "")
    if found is None or any(brace in before + after for brace in "{}"):
        raise BadValue("braces hold one range of numbers, as in {1..4}, and nothing else")
    first, last = int(found[1]), int(found[2])
    if first > last:
        raise BadValue(f"the range {found[0]} runs backwards")
    if last - first >= RANGE_MAX:
        raise BadValue(f"the range {found[0]} declares more than {RANGE_MAX} upstreams")
    width = len(found[1]) if found[1].startswith("0") else 0
    numbers = (str(number).zfill(width) for number in range(first, last + 1))
    return {f"{name}-{number}": before + number + after for number in numbers}


def spread_all(upstreams: Mapping[str, Upstream]) -> dict[str, tuple[str, ...]]:
    """Return what every name that a pool may use stands for: a range's name for all of it, every other for itself."""
    names: dict[str, tuple[str, ...]] = {}
    for name, upstream in upstreams.items():
        try:
            each = tuple(spread(name, upstream.base_url))
        except BadValue:
            each = (name,)
        names.update({one: (one,) for one in each})
        names[name] = each
    return names


def normalised(config: Config, directory: Path) -> Config:
    """Write out a configuration without faults: ranges, no slash at the end of base URLs, paths from `directory`."""
    names = spread_all(config.upstreams)
    upstreams = {
        one: msgspec.structs.replace(whole, base_url=url.rstrip("/"))
        for name, upstream in config.upstreams.items()
        for whole in (_written_out(upstream, directory),)
        for one, url in spread(name, upstream.base_url).items()
    }
    models = {name: _spread_pool(model, names) for name, model in config.models.items()}
    requests = _with_absolute(config.requests, directory, "spool_dir")
    config = msgspec.structs.replace(
        config,
        listen=tuple(_with_paths(listener, directory) for listener in config.listen),
        admin=tuple(_with_paths(listener, directory) for listener in config.admin),
    )
    return msgspec.structs.replace(config, upstreams=upstreams, models=models, requests=requests, include=None)


def _with_paths(listener: Listener, directory: Path) -> Listener:
    address, tls = within(listener.address, str(directory)), listener.tls
    if tls is not None:
        tls = _with_absolute(tls, directory, "cert", "key", "client_ca")
    return msgspec.structs.replace(listener, address=address, tls=tls)


def _spread_pool(model: Model, names: Mapping[str, tuple[str, ...]]) -> Model:
    return msgspec.structs.replace(model, pool=tuple(_members(model.pool, names)))


def _members(pool: tuple[Member, ...], names: Mapping[str, tuple[str, ...]]) -> Iterator[Member]:
    for member in pool:
        for name in names[member.upstream]:
            yield msgspec.structs.replace(member, upstream=name)


def _written_out(upstream: Upstream, directory: Path) -> Upstream:
    headers = upstream.headers
    if headers.allow is not None:
        each = (PASSING_HEADERS if name == ALLOW_DEFAULT else (name,) for name in headers.allow)
        headers = msgspec.structs.replace(headers, allow=tuple(dict.fromkeys(chain.from_iterable(each))))
    tls = _with_absolute(upstream.tls, directory, "ca", "cert", "key")
    return msgspec.structs.replace(upstream, headers=headers, tls=tls)


def _with_absolute(settings: S, directory: Path, *names: str) -> S:
    """Let these settings, which are paths, begin at `directory` unless they are absolute or not given."""
    given = {name: getattr(settings, name) for name in names}
    return msgspec.structs.replace(
        settings, **{name: str(directory / path) for name, path in given.items() if path is not None}
    )
