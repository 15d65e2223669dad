"""What settings must be to each other: names that exist, fallbacks that end, addresses and limits that agree.

Every check looks only at what was read without a fault, so that no fault is reported for following from another.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from router.config import tracing_checks
from router.config.expand import spread_all
from router.config.report import Path, Report, shown
from router.config.schema import MODEL_OPTIONAL, PIN_FAMILIES, Config, Limits, Model, Settings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path as FilePath

NAME_MAX: Final = 128
"""Characters of the name of an upstream, model or key: they become metric labels."""

NAME_RULE: Final = f"a name has 1 to {NAME_MAX} printable characters, with no space at its ends"

Level = tuple[Path, Settings]
"""A place where a setting may be given, and what is given there; a list of them begins with the one that wins."""


def check(config: Config, report: Report, *, directory: FilePath | None) -> None:
    """Report every contradiction between settings.

    Relative paths begin at `directory`; without one no folder is looked at.
    """
    for section in ("upstreams", "models", "keys"):
        _check_names(getattr(config, section), section, report)
    _check_pools(config, report)
    _check_fallbacks(config.models, report)
    _check_pins(config, report)
    _check_default_models(config, report)
    _check_spool(config.requests.spool_dir, directory, report)
    for name, upstream in config.upstreams.items():
        _check_limits(upstream.limits, ("upstreams", name, "limits"), report)
    for name, key in config.keys.items():
        _check_limits(key.limits, ("keys", name, "limits"), report)
        for index, pattern in enumerate(key.models):
            if not is_name(pattern):
                report.add(("keys", name, "models", index), NAME_RULE)
    _check_order(config, report)
    tracing_checks.check(config.tracing, report)


def is_name(name: str) -> bool:
    """Whether it may be the name of an upstream, model or key (`NAME_RULE`)."""
    return 0 < len(name) <= NAME_MAX and name.isprintable() and name == name.strip()


def _check_names(names: Iterable[str], section: str, report: Report) -> None:
    names = tuple(names)
    for name in names:
        if not is_name(name):
            report.add((section, name), NAME_RULE)
    if not names and section != "keys" and report.is_clean((section,)):
        report.add((section,), f"names no {section[:-1]}; at least one is needed")


def _check_pools(config: Config, report: Report) -> None:
    known = spread_all(config.upstreams)
    for name, model in config.models.items():
        path = ("models", name, "pool")
        if not model.pool and report.is_clean(path):
            report.add(path, "is empty; a model needs at least one member")
        seen: set[tuple[str, str | None]] = set()
        for index, member in enumerate(model.pool):
            here = (*path, index, "upstream")
            if not report.is_clean((*path, index)):
                continue
            if member.model is not None and not is_name(member.model):
                report.add((*path, index, "model"), NAME_RULE)
            if member.upstream not in known:
                if not report.is_lost(("upstreams",)):
                    text = f"no upstream is named {shown(member.upstream)}{report.suggest(member.upstream, known)}"
                    report.add(here, text)
                continue
            for upstream in known[member.upstream]:
                if (upstream, member.model or name) in seen:
                    report.add(here, f"{upstream} is in this pool already, with the same model")
                seen.add((upstream, member.model or name))


def _check_fallbacks(models: Mapping[str, Model], report: Report) -> None:
    """Check that every fallback is served, and that none leads back to where it began."""
    leads_to: dict[str, list[tuple[Path, str]]] = {name: [] for name in models}
    for name, model in models.items():
        for index, fallback in enumerate(model.fallback):
            path: Path = ("models", name, "fallback", index)
            served_by = serving(fallback, models)
            if "*" in fallback:
                report.add(path, "must be the name of one model, not a pattern")
            elif served_by is None:
                report.add(path, f"no model is named {shown(fallback)}{report.suggest(fallback, models)}")
            elif served_by == name:
                report.add(path, "falls back to itself" + ("" if fallback == name else f": {name} serves {fallback}"))
            else:
                leads_to[name].append((path, served_by))
    for path, circle in _circles(leads_to):
        report.add(path, f"fallbacks run in a circle: {' → '.join(circle)}")


def _circles(leads_to: Mapping[str, list[tuple[Path, str]]]) -> Iterator[tuple[Path, list[str]]]:
    """Yield the edges that close a circle, each with the circle it closes; a depth-first walk without recursion."""
    done: set[str] = set()
    for start in leads_to:
        if start in done:
            continue
        trail, untried = [start], [iter(leads_to[start])]
        while trail:
            path, target = next(untried[-1], ((), ""))
            if not target:
                done.add(trail.pop())
                untried.pop()
            elif target in trail:
                yield path, [*trail[trail.index(target) :], target]
            elif target not in done:
                trail.append(target)
                untried.append(iter(leads_to[target]))


def serving(name: str, models: Collection[str]) -> str | None:
    """Return the configured model that serves a name: the exact one, else the pattern with most literal characters."""
    if name in models:
        return name
    patterns = (model for model in models if "*" in model and matches(model, name))
    return max(patterns, key=lambda pattern: len(pattern.replace("*", "")), default=None)


def matches(pattern: str, name: str) -> bool:
    """Whether a name is matched by a pattern, in which `*` is any text."""
    # Atomic groups keep a pattern of many stars linear: each literal matches at its first place, which is enough.
    first, *middle, last = pattern.split("*")
    expression = re.escape(first) + "".join(f"(?>.*?{re.escape(part)})" for part in middle)
    return re.fullmatch(f"{expression}.*{re.escape(last)}", name, re.DOTALL) is not None


def _check_pins(config: Config, report: Report) -> None:
    known = spread_all(config.upstreams)
    for family, upstream in config.pins.items():
        path: Path = ("pins", family)
        if family not in PIN_FAMILIES:
            hint = report.suggest(family, PIN_FAMILIES) or f"; known: {', '.join(PIN_FAMILIES)}"
            report.add(path, f"no family of paths has this name{hint}")
        elif not report.is_clean(path) or report.is_lost(("upstreams",)):
            continue
        elif upstream not in known:
            report.add(path, f"no upstream is named {shown(upstream)}{report.suggest(upstream, known)}")
        elif len(known[upstream]) > 1:
            report.add(path, f"{shown(upstream)} stands for {len(known[upstream])} upstreams; name one of them")


def _check_default_models(config: Config, report: Report) -> None:
    for endpoint, model in config.default_models.items():
        path: Path = ("default_models", endpoint)
        if endpoint not in MODEL_OPTIONAL:
            hint = report.suggest(endpoint, MODEL_OPTIONAL) or f"; known: {', '.join(MODEL_OPTIONAL)}"
            report.add(path, f"no endpoint of this name does without a model{hint}")
        elif not report.is_clean(path) or report.is_lost(("models",)):
            continue
        elif "*" in model:
            report.add(path, "must be the name of one model, not a pattern")
        elif serving(model, config.models) is None:
            report.add(path, f"no model is named {shown(model)}{report.suggest(model, config.models)}")


def _check_spool(folder: str | None, directory: FilePath | None, report: Report) -> None:
    path = ("requests", "spool_dir")
    if folder is None or not report.is_clean(path):
        return
    if not folder.isprintable() or not folder.strip():
        report.add(path, "is not a path")
    elif directory is not None and not _takes_files(directory / folder):
        report.add(path, "is not a folder in which files can be made")


def _takes_files(folder: FilePath) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _check_limits(limits: Limits, path: Path, report: Report) -> None:
    rate = (*path, "requests_per_minute")
    if limits.request_burst is not None and limits.requests_per_minute is None and not report.is_lost(rate):
        report.add((*path, "request_burst"), "needs requests_per_minute")


def _check_order(config: Config, report: Report) -> None:
    """Report pairs that contradict each other, in general if both are written: a default yields to what is written."""
    requests = [(("requests",), config.requests)]
    _check_pair(requests, report, less="body_max", more="bodies_total_max")
    defaults: Level = (("defaults", "timeouts"), config.defaults.timeouts)
    levels: dict[str, list[Level]] = {}
    for name, upstream in config.upstreams.items():
        levels[name] = [(("upstreams", name, "timeouts"), upstream.timeouts), defaults]
    chains = [[defaults], *levels.values()]
    for name, model in config.models.items():
        own: Level = (("models", name, "timeouts"), model.timeouts)
        chains += [[own, *levels.get(member.upstream, [defaults])] for member in model.pool]
    for chain in chains:
        _check_pair(chain, report, less="connect", more="total")
    ejection = config.defaults.ejection
    if ejection.eject_max < ejection.eject and report.is_clean(("defaults", "ejection")):
        report.add(("defaults", "ejection", "eject"), "is longer than eject_max")


def _check_pair(levels: Sequence[Level], report: Report, *, less: str, more: str) -> None:
    """Report the pair where the first level gives one of the two; later ones were checked before, and are not clean."""
    lower, upper = _given(levels, less, report), _given(levels, more, report)
    if lower and upper and upper[1] < lower[1]:
        path = upper[0] if upper[0][:-1] == levels[0][0] else lower[0]
        report.add(path, f"{more} is less than {less}")


def _given(levels: Sequence[Level], setting: str, report: Report) -> tuple[Path, float] | None:
    """The first level that gives a setting, and the value."""
    for path, settings in levels:
        value: float | None = getattr(settings, setting)
        here = (*path, setting)
        if value is not None and report.is_written(here):
            return (here, value) if report.is_clean(here) else None
    return None
