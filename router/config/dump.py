"""The configuration in effect, for people: every default filled in, durations as one writes them, and no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec
import yaml

from router.config import values, yaml_nodes
from router.config.presets import PRESETS
from router.config.schema import (
    Config,
    Count,
    Listener,
    Model,
    Seconds,
    Secret,
    Settings,
    Size,
    TimeoutOverrides,
    Upstream,
    Usd,
)

if TYPE_CHECKING:
    from router.config.loader import Loaded

HIDDEN: Final = "(hidden)"
"""What stands for a value whose name says that it may be a credential."""

SENSITIVE: Final = re.compile(
    r"key|token|secret|auth|passw|credential|cookie|signature|(^|[-_.])(sig|pass|pwd)($|[-_.])", re.IGNORECASE
)
"""A header or parameter with such a name may hold a credential."""


def effective(loaded: Loaded) -> dict[str, Any]:
    """Return the configuration in effect as plain data, for JSON or YAML.

    Upstreams show what they inherit from `defaults` and from their preset, and models how they choose. Secrets are
    shown as references, a hash by its first 8 digits. What is not given and has no default, such as a limit, is left
    out.
    """
    config = loaded.config
    shown = plain(
        msgspec.structs.replace(
            config,
            upstreams={name: _with_inherited(upstream, config) for name, upstream in config.upstreams.items()},
            models={name: _model_with_inherited(model, config) for name, model in config.models.items()},
        )
    )
    for setting in ("listen", "admin"):
        if len(shown[setting]) == 1:
            shown[setting] = shown[setting][0]
    for upstream in shown["upstreams"].values():
        upstream["headers"]["set"] = _masked(upstream["headers"]["set"])
        upstream["query"] = _masked(upstream["query"])
        for name in PRESETS.get(upstream.get("preset", ""), {}):
            upstream.setdefault(name, None)  # what the file takes back is shown, or the preset would give it again
    result: dict[str, Any] = shown
    return result


def to_yaml(loaded: Loaded) -> str:
    """Return the configuration in effect as YAML that the loader reads the same, but for what is hidden."""
    return text(effective(loaded))


def text(settings: Mapping[str, Any]) -> str:
    """Return plain data as YAML that the loader reads the same."""
    return yaml.dump(settings, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _with_inherited(upstream: Upstream, config: Config) -> Upstream:
    inherited = config.defaults.timeouts
    timeouts = TimeoutOverrides(
        **{
            name: getattr(inherited, name) if own is None else own
            for name, own in msgspec.structs.asdict(upstream.timeouts).items()
        }
    )
    return msgspec.structs.replace(upstream, timeouts=timeouts, auth=upstream.sends_credential_as)


def _model_with_inherited(model: Model, config: Config) -> Model:
    return msgspec.structs.replace(
        model,
        choose=model.choose or config.defaults.choose,
        default_output_tokens=model.default_output_tokens or config.defaults.default_output_tokens,
    )


def plain(value: Any) -> Any:
    """Turn settings, or values of them, into dicts, lists and what is written in YAML."""
    if isinstance(value, Secret):
        return _reference(value)
    if isinstance(value, Listener) and value == Listener(address=value.address):
        return str(value.address)
    if isinstance(value, Settings):
        pairs = msgspec.structs.asdict(value).items()
        return {name: plain(each) for name, each in pairs if each is not None}
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return _written(value)


def _written(value: Any) -> str | int | float | bool:
    if isinstance(value, Seconds):
        return values.show_seconds(value)
    if isinstance(value, Count):
        return values.show_count(value)
    if isinstance(value, Size):
        return values.show_size(value)
    if isinstance(value, Usd):
        return values.show_usd(value)
    if isinstance(value, StrEnum | str):
        return str(value)
    assert isinstance(value, bool | int | float)
    return value


def _reference(secret: Secret) -> dict[str, str]:
    given = {name: str(value) for name, value in msgspec.structs.asdict(secret).items() if value is not None}
    if "sha256" in given:
        given["sha256"] = given["sha256"][:8].lower() + "…"
    return given


def _masked(pairs: Mapping[str, str]) -> dict[str, str]:
    return {name: HIDDEN if SENSITIVE.search(name) else value for name, value in pairs.items()}


class _Dumper(yaml.SafeDumper):
    """Quotes what our reading of YAML would not take for text: PyYAML writes by the rules of YAML 1.1."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    needs_quotes = not isinstance(yaml_nodes.resolve(text), str)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if needs_quotes else None)


_Dumper.add_representer(str, _represent_text)
