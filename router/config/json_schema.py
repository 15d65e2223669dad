"""The schema as JSON Schema (2020-12), for editors and for checks outside of the router: made from the structs.

What an editor shows beside a setting is the docstring under its field; those are read from the source of `schema`,
since Python keeps none of them. `config/router.schema.json` is what this returns; a test compares them.

It says what a file looks like, not all of what must fit together: that names exist, that a secret is there, is found
by `llm-router check`. It refuses nothing that the loader takes, but for some ways to write nothing (`file: null`).
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import types
import typing
from enum import StrEnum
from typing import Any, Final

import msgspec

from router.config import dump, schema, values
from router.config.checks import NAME_MAX
from router.config.convert import FREE_PREFIX
from router.config.presets import PRESETS
from router.config.schema import (
    ALLOW_DEFAULT,
    MODEL_OPTIONAL,
    PIN_FAMILIES,
    Config,
    Count,
    FileName,
    HeaderPolicy,
    Listen,
    Listener,
    Member,
    Model,
    Seconds,
    Secret,
    Settings,
    Size,
    TimeoutOverrides,
    Timeouts,
    Upstream,
    Usd,
)

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_NUMBER: Final = r"[0-9]{1,20}(\.[0-9]{1,20})?"
_EXPONENT: Final = r"([eE][-+]?[0-9]{1,3})?"
_NOTHING: Final[Schema] = {"type": "null"}

_PARTS: Final = "".join(f"({_NUMBER}{unit})?" for unit in ("d", "h", "m", "s", "ms"))
_DURATION: Final = rf"^({_NUMBER}{_EXPONENT}|(?=.){_PARTS})$"
_WHOLE: Final = rf"^(?=.*[1-9]){_NUMBER}"
_VALUES: Final[dict[type, Schema]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    FileName: {"type": "string", "minLength": 1},
    Listen: {"type": "string", "pattern": r"^(unix:.+|(\[[^\]]+\]|[^:\[\]/]*):[0-9]{1,5})$"},
    Seconds: {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0, "maximum": values.SECONDS_MAX},
            {"type": "string", "pattern": _DURATION},
        ]
    },
    Count: {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": values.COUNT_MAX},
            {"type": "string", "pattern": _WHOLE + "(k|M|G)?$"},
        ]
    },
    Size: {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": values.COUNT_MAX},
            {"type": "string", "pattern": _WHOLE + "(B|KiB|MiB|GiB|kB|MB|GB)?$"},
        ]
    },
    Usd: {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": values.USD_MAX},
            {"type": "string", "pattern": rf"^\+?([0-9]{{1,20}}(\.[0-9]{{0,40}})?|\.[0-9]{{1,40}}){_EXPONENT}$"},
        ]
    },
}
"""What stands for a single value."""

_SHORT: Final[dict[type[Settings], Schema]] = {
    Member: {"type": "string", "description": "The name of an upstream."},
    Model: {"type": "string", "description": "The name of the upstream that serves it."},
    Listener: {"$ref": "#/$defs/Listen"},
}
"""Short forms, as `convert` writes them out."""

_CITATION = re.compile(r"\s*\((?:see )?(?:DESIGN|OPERATIONS|PROTOCOL|RELIABILITY|STYLE)\b[^)]*\)")


def json_schema() -> Schema:
    """Return the schema of a configuration file.

    At the top nothing is required: any section may stand in an included file.
    """
    maker = _Maker()
    top = maker.struct(Config)
    del top["required"]
    return {
        "$schema": DIALECT,
        "title": "llm-router",
        **top,
        "patternProperties": {f"^{re.escape(FREE_PREFIX)}": True},
        "$defs": {name: maker.definitions[name] for name in sorted(maker.definitions)},
    }


def rendered() -> str:
    """Return it as the text of `config/router.schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


class _Maker:
    """Walks the structs; each becomes a definition, so that it stands there once."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self._texts = _docstrings()

    def struct(self, kind: type[Settings]) -> Schema:
        """One mapping of settings."""
        fields = msgspec.structs.fields(kind)
        made: Schema = {
            "description": self._texts[kind.__name__, ""],
            "type": "object",
            "properties": {field.name: self._field(kind, field) for field in fields},
            "additionalProperties": False,
        }
        required = [field.name for field in fields if field.required]
        if kind is Upstream:  # its preset may give what is required
            complete = [name for name, preset in PRESETS.items() if "base_url" in preset]
            by_preset = {"properties": {"preset": {"enum": complete}}, "required": ["preset"]}
            made["anyOf"] = [{"required": required}, by_preset]
        elif required:
            made["required"] = required
        if kind is Secret:
            made |= {"minProperties": 1, "maxProperties": 1}
        return made

    def _field(self, kind: type[Settings], field: msgspec.structs.FieldInfo) -> Schema:
        made = _named(kind, field.name) or self._type(field.type)
        if not field.required and kind is not Secret and _may_be_nothing(field.type):
            made = {"anyOf": [*(made["anyOf"] if set(made) == {"anyOf"} else [made]), _NOTHING]}
        text = self._text(kind, field)
        made = {"description": text} | made if text else dict(made)
        default = None if field.required else _default(field.default)
        return made if default is None else made | {"default": default}

    def _type(self, kind: Any) -> Schema:
        """The schema of a type as it stands in the structs."""
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in {typing.Union, types.UnionType}:
            return self._type(arguments[0])
        if origin is typing.Annotated:
            return _bounded(_VALUES[arguments[0]], arguments[1])
        if origin is tuple:
            of = self._type(arguments[0])
            listed = {"type": "array", "items": of}
            return {"anyOf": [*of["anyOf"], listed]} if arguments[0] is Listener else listed
        if origin is dict:
            names = {} if arguments[1] is str else {"propertyNames": {"minLength": 1, "maxLength": NAME_MAX}}
            return {"type": "object", **names, "additionalProperties": self._type(arguments[1])}
        if issubclass(kind, Settings):
            return self._reference(kind)
        if issubclass(kind, StrEnum):
            return {"enum": [str(each) for each in kind]}
        if kind in {Listen, Seconds, Size, Usd}:
            self.definitions[kind.__name__] = {"description": self._texts[kind.__name__, ""]} | _VALUES[kind]
            return {"$ref": f"#/$defs/{kind.__name__}"}
        return _VALUES[kind]

    def _reference(self, kind: type[Settings]) -> Schema:
        if kind.__name__ not in self.definitions:
            self.definitions[kind.__name__] = {}  # for the order alone: no struct contains itself
            self.definitions[kind.__name__] = self.struct(kind)
        reference = {"$ref": f"#/$defs/{kind.__name__}"}
        return {"anyOf": [_SHORT[kind], reference]} if kind in _SHORT else reference

    def _text(self, kind: type[Settings], field: msgspec.structs.FieldInfo) -> str:
        """What is said of a setting: under its field, or else of its type."""
        owner = Timeouts if kind is TimeoutOverrides else kind
        own = self._texts.get((owner.__name__, field.name), "")
        inside = (each for each in _classes(field.type) if issubclass(each, Settings | StrEnum))
        return own or next((self._texts[each.__name__, ""] for each in inside), "")


def _named(kind: type[Settings], name: str) -> Schema | None:
    """Settings whose names or values come from a list of ours, which their type does not show."""
    text = _VALUES[str]
    if (kind, name) == (Upstream, "preset"):
        return {"enum": list(PRESETS)}
    if (kind, name) == (HeaderPolicy, "allow"):
        return {"anyOf": [{"const": ALLOW_DEFAULT}, {"type": "array", "items": text}]}
    known = {"pins": PIN_FAMILIES, "default_models": MODEL_OPTIONAL}.get(name) if kind is Config else None
    if known is None:
        return None
    return {"type": "object", "propertyNames": {"enum": list(known)}, "additionalProperties": text}


def _may_be_nothing(kind: Any) -> bool:
    """Whether `name:` with nothing behind it is as if it were not there (`convert`)."""
    origin = typing.get_origin(kind)
    return origin in {typing.Union, types.UnionType, tuple, dict} or (
        isinstance(kind, type) and issubclass(kind, Settings)
    )


def _bounded(made: Schema, meta: msgspec.Meta) -> Schema:
    """Add the bounds that stand beside a type, to the form that is a number."""
    if "anyOf" in made:
        number, *others = made["anyOf"]
        return {"anyOf": [_bounded(number, meta), *others]}
    bounds = {"minimum": meta.ge, "maximum": meta.le}
    return made | {name: bound for name, bound in bounds.items() if bound is not None}


def _default(value: Any) -> Any:
    """A default as one writes it; None where that says nothing."""
    if value is None or value is msgspec.NODEFAULT or isinstance(value, Settings):
        return None
    if isinstance(value, tuple) and value and isinstance(value[0], Listener):
        return str(value[0].address)
    written = dump.plain(value)
    return None if written in ([], {}) else written


def _classes(kind: Any) -> list[type]:
    """The classes that a type is made of."""
    if isinstance(kind, type) and not typing.get_args(kind):
        return [kind]
    return [each for argument in typing.get_args(kind) for each in _classes(argument)]


def _docstrings() -> dict[tuple[str, str], str]:
    """The docstrings of all classes in `schema`, under an empty name, and of their fields, under theirs."""
    found: dict[tuple[str, str], str] = {}
    for kind in ast.parse(inspect.getsource(schema)).body:
        if not isinstance(kind, ast.ClassDef):
            continue
        found[kind.name, ""] = _unwrapped(ast.get_docstring(kind) or "")
        for field, below in zip(kind.body, kind.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(below):
                found[kind.name, field.target.id] = _unwrapped(ast.literal_eval(below.value))
    return found


def _is_text(node: ast.stmt) -> typing.TypeGuard[ast.Expr]:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _unwrapped(text: str) -> str:
    """A docstring as one paragraph each, without what it cites: those documents are not at hand in an editor."""
    paragraphs = re.split(r"\n\s*\n", _CITATION.sub("", text.strip()))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
