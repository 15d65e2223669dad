"""What a configuration may say and its operator has probably not meant: warnings, which hinder nothing.

A warning stands for a mistake that people make, not for a taste; whoever means it can write it so that it is none, or
lives with a line in the log. Only a configuration without faults is looked at.
"""

from __future__ import annotations

import hashlib
import ipaddress
import stat
from typing import TYPE_CHECKING, Final

from router.config import addresses, secrets
from router.config.checks import matches, serving
from router.config.expand import spread, spread_all
from router.config.values import show_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path as FilePath

    from router.config.report import Path, Report
    from router.config.schema import Config, ServerTls, TimeoutOverrides, Timeouts, Tls, Upstream

NOTHING_SHA256: Final = hashlib.sha256(b"").hexdigest()

NETWORKS_OF_ONES_OWN: Final = (".local", ".internal", ".lan", ".svc", ".localhost", ".home.arpa", ".test")
"""Ends of names that no public DNS knows (RFC 6762, 6761, 8375; Kubernetes, clouds). A name without a dot is near."""


def check(config: Config, report: Report, *, directory: FilePath | None) -> None:
    """Warn of what is probably not meant; without `directory` no file is looked at."""
    _check_admin(config, report)
    _check_keys(config, report)
    _check_models(config, report)
    _check_upstreams(config, report)
    _check_timeouts(config, report)
    if directory is not None:
        _check_files(config, report, directory)


def _check_admin(config: Config, report: Report) -> None:
    if config.admin_token is not None:
        return
    for index, listener in enumerate(config.admin):
        is_open = listener.tls is None or listener.tls.client_ca is None
        if is_open and not addresses.is_loopback(listener.address):
            text = "whoever reaches it may reload and drain the router; give admin_token, or an address of this machine"
            report.warn(("admin", index, "address"), text)


def _check_keys(config: Config, report: Report) -> None:
    served: dict[str, bool] = {}
    for name, key in config.keys.items():
        if key.secret.sha256 is not None and key.secret.sha256.lower() == NOTHING_SHA256:
            report.warn(("keys", name, "secret"), "is the SHA-256 of nothing: the variable that was hashed was empty")
        for index, pattern in enumerate(key.models):
            if pattern not in served:
                served[pattern] = any(_meet(pattern, model) for model in config.models)
            if not served[pattern]:
                hint = report.suggest(pattern, config.models)
                report.warn(("keys", name, "models", index), f"matches no model{hint}")
        tokens, expected = key.limits.tokens_per_minute, config.defaults.default_output_tokens
        if tokens is not None and tokens <= expected:
            text = f"a request that names no max_tokens reserves {expected} and more, so it can never be admitted"
            report.warn(("keys", name, "limits", "tokens_per_minute"), text)


def _check_models(config: Config, report: Report) -> None:
    """Warn of models that nobody can ask for, and of members that get nothing."""
    patterns = {pattern for key in config.keys.values() if not key.disabled for pattern in key.models}
    for name, model in config.models.items():
        path = ("models", name)
        for tier in sorted({member.tier for member in model.pool}):
            if not any(member.weight for member in model.pool if member.tier == tier):
                report.warn((*path, "pool"), f"every member of tier {tier} has weight 0: that tier serves nothing")
        for index, fallback in enumerate(model.fallback):
            if fallback in model.fallback[:index]:
                report.warn((*path, "fallback", index), f"{fallback} was tried before: it is never reached here")
        if config.keys and not any(_meet(name, pattern) for pattern in patterns):
            asked = {*config.default_models.values(), *_fallbacks(config)}
            if name not in {serving(each, config.models) for each in asked}:
                report.warn(path, "no key may use it")


def _fallbacks(config: Config) -> Iterator[str]:
    for model in config.models.values():
        yield from model.fallback


def _check_upstreams(config: Config, report: Report) -> None:
    known = spread_all(config.upstreams)
    named = {member.upstream for model in config.models.values() for member in model.pool} | set(config.pins.values())
    used = named.union(*(known[name] for name in named))
    for name, upstream in config.upstreams.items():
        path = ("upstreams", name)
        if name not in used and used.isdisjoint(known[name]):
            report.warn(path, "nothing uses it")
        if (upstream.api_key is not None or upstream.api_keys) and _is_read_on_the_way(name, upstream):
            report.warn((*path, "base_url"), "sends its credential in the clear; https:// keeps it secret")


def _is_read_on_the_way(name: str, upstream: Upstream) -> bool:
    """Whether it is http and, as far as can be said without asking DNS, not on a network of one's own."""
    urls = [addresses.base_url(url) for url in spread(name, upstream.base_url).values()]
    return any(url.scheme == "http" and _is_far(url.host) for url in urls)


def _is_far(host: str) -> bool:
    name = host.casefold().rstrip(".")
    try:
        return ipaddress.ip_address(name).is_global
    except ValueError:
        return "." in name and not name.endswith(NETWORKS_OF_ONES_OWN)


def _check_timeouts(config: Config, report: Report) -> None:
    """Warn of a deadline that a shorter `total` always cuts. Where a preset gives it, nobody wrote it."""
    defaults = config.defaults.timeouts
    _check_phases(defaults, ("defaults", "timeouts"), defaults.total, report)
    totals: dict[str, list[float]] = {}
    """Of each upstream, one for each pool that it is in."""
    known = spread_all(config.upstreams)
    bases = {each: name for name in config.upstreams for each in (name, *known[name])}
    for name, model in config.models.items():
        inherited = []
        for member in model.pool:
            base = bases[member.upstream]
            of_upstream = config.upstreams[base].timeouts.total
            inherited.append(float(model.timeouts.total or of_upstream or defaults.total))
            totals.setdefault(base, []).append(inherited[-1])
        _check_phases(model.timeouts, ("models", name, "timeouts"), max(inherited), report)
    for name, upstream in config.upstreams.items():
        total = max(totals.get(name, [float(upstream.timeouts.total or defaults.total)]))
        _check_phases(upstream.timeouts, ("upstreams", name, "timeouts"), total, report)


def _check_phases(timeouts: Timeouts | TimeoutOverrides, path: Path, total: float, report: Report) -> None:
    for setting in ("first_byte", "first_token", "idle"):
        value: float | None = getattr(timeouts, setting)
        here = (*path, setting)
        is_ours = report.is_written(here) and not report.is_together(here, (*path[:-1], "preset"))
        if value is not None and is_ours and value > total:
            report.warn(here, f"is longer than total, which ends everything after {show_seconds(total)}")


def _check_files(config: Config, report: Report, directory: FilePath) -> None:
    """Warn of files with secrets in them that every user of this machine may read."""
    for path, secret in secrets.references(config):
        if secret.file is not None:
            _check_file(secret.file, (*path, "file"), report, directory)
    for name, upstream in config.upstreams.items():
        _check_key(upstream.tls, ("upstreams", name, "tls"), report, directory)
    for setting in ("listen", "admin"):
        for index, listener in enumerate(getattr(config, setting)):
            if listener.tls is not None:
                _check_key(listener.tls, (setting, index, "tls"), report, directory)


def _check_key(tls: Tls | ServerTls, path: Path, report: Report, directory: FilePath) -> None:
    if tls.key is not None:
        _check_file(tls.key, (*path, "key"), report, directory)
    elif tls.cert is not None:
        _check_file(tls.cert, (*path, "cert"), report, directory)


def _check_file(file: str, path: Path, report: Report, directory: FilePath) -> None:
    try:
        if _is_open_to_all(directory / file):
            report.warn(path, f"every user of this machine can read file {file}: chmod o-r")
    except (OSError, ValueError):  # whether it can be read at all is not asked here
        return


def _is_open_to_all(file: FilePath) -> bool:
    """Whether others may read it, and enter every folder above it."""
    real = file.resolve(strict=True)
    if any(folder.name.startswith("..") for folder in real.parents):
        return False  # Kubernetes mounts files so, into containers in which there are no others
    return bool(real.stat().st_mode & stat.S_IROTH) and all(
        folder.stat().st_mode & stat.S_IXOTH for folder in real.parents
    )


def _meet(one: str, other: str) -> bool:
    """Whether some name is matched by both of two patterns. With a `*` in both only their ends can contradict."""
    if "*" not in one:
        return _fits(one, other)
    if "*" not in other:
        return matches(one, other)
    heads = one.partition("*")[0], other.partition("*")[0]
    tails = one.rpartition("*")[2], other.rpartition("*")[2]
    return _begins(*heads) and _begins(*(tail[::-1] for tail in tails))


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or ("*" in pattern and matches(pattern, name))


def _begins(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
