#!/usr/bin/env python3
"""Makes the reference pages from the code they are about; a test compares what is committed with what it makes.

    .venv/bin/python deploy/reference.py            writes the pages
    .venv/bin/python deploy/reference.py --check    exit status 1 if a page is not what this script makes

Each page is a function that returns Markdown; `PAGES` says where it stands.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from router.cli import parser  # noqa: E402 - a script beside the package
from router.commands import manual, tree  # noqa: E402
from router.config.json_schema import json_schema  # noqa: E402
from router.errors import TABLE  # noqa: E402
from router.events import Outcome, Side  # noqa: E402
from router.policy.outcomes import Cause  # noqa: E402
from router.telemetry import specs  # noqa: E402
from router.telemetry.cells import Kind, Spec  # noqa: E402
from router.telemetry.metrics import AUTH_REASONS, COOLS, ENDPOINTS, PHASES, STATES, TOKEN_TYPES  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

MADE = "<!-- Made by deploy/reference.py: change the code it is about, then run `make reference`. -->"


def metrics() -> str:
    """Every metric, as `router/telemetry/specs.py` declares it."""
    rows = [(f"`{spec.name}`", spec.kind, _names(spec.labels), _meaning(spec)) for spec in specs.ALL]
    return _page(
        "Metrics",
        """At `/metrics` of the admin listener, as Prometheus text or OpenMetrics. `model` is a model of the file (a
name or a pattern), `backend` an upstream of it, so no client can make series; `_unknown` stands for a model that
nobody configured, `_other` for label sets beyond the series limit. Beside these there are the usual `process_*` and
`python_*`. What to make of them: [OBSERVING.md](OBSERVING.md).""",
        _table(("metric", "type", "labels", "what it says"), rows),
        "The other labels are closed sets:",
        _table(("label", "of", "is one of"), [(f"`{label}`", of, _names(values)) for label, of, values in _LABELS]),
    )


def errors() -> str:
    """Every error of the router's own, as `router/errors.py` declares it."""
    rows = [
        (
            f"[`{kind}`](../deploy/RUNBOOK.md#{kind})",
            str(row.status),
            f"`{row.type}`",
            f"`{row.openai_type}`, `{row.openai_code}`",
            f"`{row.anthropic_type}`",
        )
        for kind, row in sorted(TABLE.items(), key=lambda each: each[1].status)
    ]
    return _page(
        "Error reasons",
        """What the router itself answers. `reason` is the same in every dialect (`error.reason`; on Anthropic's routes
`error.details.error_code`) and in the log; each leads to what it means and what to do. With `errors.code_style: string`
the names of OpenAI stand under `type` and `code`. The shape is in [API.md](API.md#errors).""",
        _table(("reason", "status", "`type`", "OpenAI's `type` and `code`", "Anthropic's `type`"), rows),
    )


def commands() -> str:
    """Every command with its options, as `router/commands` declares them."""
    return _page(
        "Commands",
        """`llm-router COMMAND`; `python -m router COMMAND` is the same. For people there is colour on a terminal,
unless `NO_COLOR` is set; for programs there is `--json`. Errors say what, why and what to do. The same for `man` is
[man/llm-router.1](man/llm-router.1); `llm-router completion bash` (`zsh`, `fish`) prints what a shell wants to
know.""",
        manual.markdown(tree.read(parser())).replace("### ", "## ").rstrip("\n"),
    )


def settings() -> str:
    """Every setting, as `router/config/schema.py` declares it: the JSON Schema for reading."""
    schema = json_schema()
    kinds = schema["$defs"]
    mappings = [name for name in _in_order(schema, kinds) if "properties" in kinds[name]]
    values = [(f"`{name}`", _line(kind["description"])) for name, kind in kinds.items() if "properties" not in kind]
    return _page(
        "Settings",
        """Whole files to begin with are in [examples/](examples), every default in [router.yaml](router.yaml),
how to go about it in [README.md](README.md). A name that begins with `x-` is nobody's setting and may hold anything
(YAML anchors, say); every other name that does not stand here is a fault. What is left out has its default, and so has
what is empty (`null`).""",
        "## The file",
        _settings(schema),
        *(f"## {name}\n\n{_line(kinds[name]['description'])}\n\n{_settings(kinds[name])}" for name in mappings),
        "## Values",
        _table(("value", "is written"), [*values, ("`Count`", "A whole number, also `500k`, `2M`, `1.5M`, `1G`.")]),
    )


def _in_order(schema: Mapping[str, Any], kinds: Mapping[str, Any]) -> list[str]:
    """The kinds of mappings as a reader comes upon them: level by level."""
    found: list[str] = []
    level = [schema]
    while level:
        named = [name.rpartition("/")[2] for each in level for name in _references(each)]
        new = [name for name in dict.fromkeys(named) if name not in found]
        found += new
        level = [kinds[name] for name in new]
    return found


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            if name == "$ref":
                yield each
            elif name != "$defs":
                yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _settings(kind: Mapping[str, Any]) -> str:
    """The table of one mapping."""
    needed = kind.get("required", ())
    rows = [
        (f"`{name}`", _value(each), "needed" if name in needed else _default(each), _line(each.get("description", "")))
        for name, each in kind["properties"].items()
    ]
    return _table(("setting", "value", "default", "what it does"), rows)


def _value(schema: Mapping[str, Any]) -> str:
    """What may be written, in a word or two."""
    choices = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{'values' if name in _SCALARS else name.lower()})"
    if len(choices) == 2 and {choice.get("type") for choice in choices} == {"integer", "string"}:
        return "[Count](#values)"
    if choices:
        return " or ".join(dict.fromkeys(_value(choice) for choice in choices))
    if "enum" in schema:
        return _names(schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema["type"] == "array":
        return f"list of {_value(schema['items'])}"
    if schema["type"] == "object":
        return f"names, each with {_value(schema['additionalProperties'])}"
    return {"boolean": "`true`, `false`", "string": "text"}.get(schema["type"]) or _number(schema)


_SCALARS = {"Seconds", "Size", "Listen", "Usd"}
"""Kinds of values that are no mapping; the JSON Schema has no name of its own for a count."""


def _number(schema: Mapping[str, Any]) -> str:
    kind = "whole number" if schema["type"] == "integer" else "number"
    low, high = schema.get("minimum"), schema.get("maximum")
    return kind + (f" from {low:g}" if low is not None else "") + (f" to {high:g}" if high is not None else "")


def _default(schema: Mapping[str, Any]) -> str:
    if "default" not in schema:
        return ""
    value = schema["default"]
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _line(text: str) -> str:
    return " ".join(text.split())


_LABELS: tuple[tuple[str, str, Sequence[str]], ...] = (
    ("outcome", "requests", tuple(Outcome)),
    ("outcome, reason", "attempts, retries, failovers", tuple(Cause)),
    ("reason", "failed authentication", AUTH_REASONS),
    ("endpoint", "requests", sorted(ENDPOINTS)),
    ("state", "upstreams", STATES),
    ("side", "streams", tuple(Side)),
    ("phase", "streams", PHASES),
    ("reason", "cooldowns", COOLS),
    ("type", "tokens", TOKEN_TYPES),
)

PAGES: dict[str, Callable[[], str]] = {
    "deploy/METRICS.md": metrics,
    "config/ERRORS.md": errors,
    "config/SETTINGS.md": settings,
    "deploy/COMMANDS.md": commands,
}


def _meaning(spec: Spec) -> str:
    if spec.kind is not Kind.HISTOGRAM:
        return spec.help
    return f"{spec.help} Buckets: {', '.join(f'{bound:g}' for bound in spec.bounds)}."


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _page(title: str, about: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", MADE, about, *parts)) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def main(check: bool) -> int:
    """Write the pages, or only say which are not as they would be written."""
    stale = [name for name, page in PAGES.items() if not (ROOT / name).exists() or (ROOT / name).read_text() != page()]
    for name in stale:
        if check:
            print(f"{name} is not what deploy/reference.py makes: run it, and commit the page", file=sys.stderr)
        else:
            (ROOT / name).write_text(PAGES[name]())
            print(f"wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
