"""The names that pools ask for, against those that an upstream lists."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from router.config.report import did_you_mean, dotted, shown
from router.policy.patterns import Pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.config.schema import Config
    from router.doctor.findings import Notes

IDS_MAX: Final = 10_000
ID_CHARS_MAX: Final = 256
"""Longer lists and names are not believed further than this."""
COMPARED_MAX: Final = 1000
"""Of a long list so many names are looked at for the one that may be meant: that takes 50 us for each."""

ANY_NAME: Final = frozenset({"llama.cpp"})
"""Presets whose upstream serves what it has, whatever name is asked for."""
DEPLOYMENTS: Final = frozenset({"azure", "azure-dated"})
"""Presets whose upstream lists the models there are, while it is asked for names that the account has given."""

_DATE: Final = re.compile(r"-(?:20[0-9]{6}|20[0-9]{2}-[01][0-9]-[0-3][0-9]|[0-9]{4}|latest)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What an upstream says that it serves."""

    ids: tuple[str, ...]
    is_whole: bool
    """There is no further page."""


class Asked(NamedTuple):
    """A name that a pool asks an upstream for."""

    name: str
    """There; a pattern if clients choose the name."""
    place: str
    """In the file: `models.gpt-5.5.pool[0]`."""
    model: str
    """The model that clients ask for, which that pool serves."""


def listed(body: bytes) -> Listed | None:
    """Read a list of models as OpenAI, Anthropic, Together and Ollama write it; None if it is none."""
    try:
        answer: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    more = False
    if isinstance(answer, dict):
        more = answer.get("has_more") is True
        answer = answer.get("data", answer.get("models"))
    if not isinstance(answer, list):
        return None
    entries = [each for each in answer[:IDS_MAX] if isinstance(each, dict)]
    ids = (each.get("id", each.get("name")) for each in entries)
    names = tuple(name for name in ids if isinstance(name, str) and 0 < len(name) <= ID_CHARS_MAX)
    return Listed(ids=names, is_whole=not more and len(answer) <= IDS_MAX)


def asked(config: Config, upstream: str) -> Iterator[Asked]:
    """Yield every name that a pool asks this upstream for, each name once."""
    seen = set()
    for model, settings in config.models.items():
        for index, member in enumerate(settings.pool):
            name = member.model or model
            if member.upstream == upstream and name not in seen:
                seen.add(name)
                yield Asked(name, dotted(("models", model, "pool", index)), model)


def is_listed(name: str, ids: frozenset[str]) -> bool:
    """Whether a list holds a name, or what the upstream takes for the same.

    Google's names begin with `models/`, Ollama's end in `:latest`, OpenRouter's may take a variant (`:free`), and a
    name without a date stands for the one with the newest.
    """
    alike = {name, f"models/{name}", f"{name}:latest", name.partition(":")[0]}
    return not alike.isdisjoint(ids) or any(
        each.startswith(name) and _DATE.fullmatch(each, len(name)) is not None for each in ids
    )


def examine(notes: Notes, config: Config, upstream: str, there: Listed) -> None:
    """Warn of every name that the upstream does not list."""
    preset = config.upstreams[upstream].preset
    if preset in ANY_NAME or not there.is_whole:
        return
    if preset in DEPLOYMENTS:
        notes.ok("models", "not compared: pools ask for deployments, and those are not listed; --deep asks for each")
        return
    ids = frozenset(there.ids)
    wanted = list(asked(config, upstream))
    missing = [each for each in wanted if not _serves(each.name, ids)]
    for each in missing:
        if "*" in each.name:
            cure = f"is {each.place} the upstream that is meant?"
            notes.warn("models", f"nothing that it lists matches {shown(each.name)}", cure)
        else:
            hint = alike(each.name, there.ids)
            found = f"does not list {shown(each.name)}{hint}"
            notes.warn("models", found, f"give its name there: {each.place}.model; --deep asks for it")
    if wanted and not missing:
        notes.ok("models", f"lists {'all' if len(wanted) > 1 else 'what'} that pools ask for: {_some(wanted)}")


def alike(name: str, ids: tuple[str, ...]) -> str:
    """Return `, did you mean 'x'?` for the listed name that is most like this one, or nothing."""
    return did_you_mean(name, ids[:COMPARED_MAX])


def _serves(name: str, ids: frozenset[str]) -> bool:
    if "*" in name:
        pattern = Pattern(name)
        return any(pattern.matches(each) or pattern.matches(each.removeprefix("models/")) for each in ids)
    return is_listed(name, ids)


def _some(wanted: list[Asked], most: int = 5) -> str:
    names = ", ".join(each.name for each in wanted[:most])
    return names if len(wanted) <= most else f"{names} and {len(wanted) - most} more"
