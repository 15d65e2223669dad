"""YAML nodes to settings: node tree and struct types are walked together, each value is read at its own mark.

A wrong value is reported and replaced by its default, so that one run finds every fault. Short forms
(`name: upstream`, `pool: [gpu]`, `allow: default`) are written out here, and presets filled in.
"""

from __future__ import annotations

import functools
import math
import posixpath
import types
import typing
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

from router.config import addresses, presets, values
from router.config.report import Path, Report, did_you_mean
from router.config.schema import (
    ALLOW_DEFAULT,
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
    Upstream,
    Usd,
)
from router.config.values import BadValue, described
from router.config.yaml_nodes import Entry, Mapping, Node, Resolved, Scalar, Sequence

if typing.TYPE_CHECKING:
    from collections.abc import Callable

FREE_PREFIX: Final = "x-"
"""Top-level names that begin so are not ours: a place for anchors."""

S = TypeVar("S", bound=Settings)


class _Failed:
    """What stands in for a value that could not be read."""


_FAILED: Final = _Failed()


def settings(node: Node, kind: type[S], report: Report) -> S:
    """Read the whole file as one struct; what is wrong goes to the report, and then the struct serves checks alone."""
    found = _read(node, kind, (), report)
    return typing.cast("S", _placeholder(kind) if found is _FAILED else found)


def _read(node: Node, kind: Any, path: Path, report: Report) -> Any:
    """Read a node as `kind`, a type as it stands in the schema; `_FAILED` after a fault was reported."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return None if is_null(node) else _read(node, arguments[0], path, report)
    if origin is typing.Annotated:
        return _bounded(_read(node, arguments[0], path, report), arguments[1], path, report)
    if origin is tuple:
        return _read_list(node, arguments[0], path, report)
    if origin is dict:
        return _read_names(node, arguments[1], path, report)
    if issubclass(kind, Settings):
        return _read_struct(node, kind, path, report)
    return _read_value(node, kind, path, report)


def _read_struct(node: Node, kind: type[Settings], path: Path, report: Report) -> Settings | _Failed:
    mapping = _as_mapping(_expanded(node, kind), path, report, _expected(kind))
    if mapping is None:
        return _FAILED
    if kind is Upstream:
        mapping = presets.with_preset(mapping, path, report)
    known = fields(kind)
    for name, unknown in mapping.entries.items():
        if name not in known and not (path == () and name.startswith(FREE_PREFIX)):
            hint = report.suggest(name, known) or f"; known here: {', '.join(known)}"
            report.add((*path, name), f"unknown setting{hint}", unknown.mark)
    given: dict[str, Any] = {}
    for name, field in known.items():
        here = (*path, name)
        found: Any = _FAILED
        entry = mapping.entries.get(name)
        if entry and (field.required or not (is_null(entry.node) and _holds_several(field.type))):
            found = _read_entry(entry, field.type, here, report)
        elif field.required and not report.is_lost((*path, "preset")):  # an unknown preset may have meant to give it
            report.add(here, "is missing")
        if found is not _FAILED:
            given[name] = found
        elif field.required:
            given[name] = _placeholder(field.type)
    return kind(**given)


@functools.cache
def fields(kind: type[Settings]) -> dict[str, msgspec.structs.FieldInfo]:
    """Return the fields of a struct by name; kept, since msgspec evaluates all its annotations each time."""
    return {field.name: field for field in msgspec.structs.fields(kind)}


def _read_list(node: Node, kind: Any, path: Path, report: Report) -> tuple[Any, ...] | _Failed:
    if is_null(node):
        return ()
    if not isinstance(node, Sequence):
        report.add(path, f"expected a list, found {_described(node)}; a list of one is written [value]")
        return _FAILED
    items = []
    for index, item in enumerate(node.items):
        here = (*path, index)
        report.place(here, item.mark)
        found = _read(item, kind, here, report)
        items.append(_placeholder(kind) if found is _FAILED else found)
    return tuple(items)


def _read_names(node: Node, kind: Any, path: Path, report: Report) -> dict[str, Any] | _Failed:
    mapping = _as_mapping(node, path, report, "names, each with its settings")
    if mapping is None:
        return _FAILED
    found = {name: _read_entry(entry, kind, (*path, name), report) for name, entry in mapping.entries.items()}
    return {name: _placeholder(kind) if value is _FAILED else value for name, value in found.items()}


def _read_entry(entry: Entry, kind: Any, path: Path, report: Report) -> Any:
    """Read one value of a mapping. A single value is placed where it stands, what is longer where its name stands."""
    report.place(path, entry.node.mark if isinstance(entry.node, Scalar) and entry.node.text else entry.mark)
    return _read(entry.node, kind, path, report)


def _read_value(node: Node, kind: type[Any], path: Path, report: Report) -> Any:
    if not isinstance(node, Scalar):
        report.add(path, f"expected a single value, found {_described(node)}")
        return _FAILED
    try:
        if kind is Usd:
            return values.usd(node.text)
        if kind is FileName:
            return _file_name(_text(node.value), report.file(node.mark).folder)
        if kind is Listen:
            return addresses.within(addresses.listen(node.value), report.file(node.mark).folder)
        return _enum(node.value, kind) if issubclass(kind, StrEnum) else _READERS[kind](node.value)
    except BadValue as error:
        report.add(path, str(error))
        return _FAILED


def _as_mapping(node: Node, path: Path, report: Report, expected: str) -> Mapping | None:
    """A mapping with its flaws reported; nothing at all is an empty one, as when all that it held is commented out."""
    if is_null(node):
        return Mapping(node.mark)
    if not isinstance(node, Mapping):
        report.add(path, f"expected {expected}, found {_described(node)}")
        return None
    for flaw in node.flaws:
        report.add_aside((*path, flaw.name), flaw.text, flaw.mark)
    return node


def _expanded(node: Node, kind: type[Settings]) -> Node:
    """Write out short forms: a model, member or listener that is one word, one listener without a list, and so on."""
    if kind is Config and isinstance(node, Mapping):
        return _with_list(_with_list(node, "listen"), "admin")
    if kind is HeaderPolicy and isinstance(node, Mapping):
        return _with_list(node, "allow", of=ALLOW_DEFAULT)
    if is_null(node) or not isinstance(node, Scalar):
        return node
    if kind is Member:
        return Mapping(node.mark, {"upstream": Entry(node.mark, node)})
    if kind is Listener:
        return Mapping(node.mark, {"address": Entry(node.mark, node)})
    if kind is Model:
        return Mapping(node.mark, {"pool": Entry(node.mark, Sequence(node.mark, [node]))})
    return node


def _with_list(mapping: Mapping, name: str, *, of: str | None = None) -> Mapping:
    """Write out a list of one that is given as what stands in it; `of`: only that bare word may."""
    entry = mapping.entries.get(name)
    if entry is None or isinstance(entry.node, Sequence) or is_null(entry.node):
        return mapping
    if of is not None and not (isinstance(entry.node, Scalar) and entry.node.value == of):
        return mapping
    listed = Entry(entry.mark, Sequence(entry.node.mark, [entry.node]))
    return Mapping(mapping.mark, {**mapping.entries, name: listed}, mapping.flaws)


def _bounded(value: Any, meta: msgspec.Meta, path: Path, report: Report) -> Any:
    """Hold a number to the bounds that stand beside its type (`ge` and `le` are those the schema uses)."""
    if value is _FAILED:
        return value
    if meta.ge is not None and value < meta.ge:
        report.add(path, f"must be at least {meta.ge}")
        return _FAILED
    if meta.le is not None and value > meta.le:
        report.add(path, f"must be at most {meta.le}")
        return _FAILED
    return value


def _placeholder(kind: Any) -> Any:
    """Some value of this type, for a place whose own value is faulty; no check looks at it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return None
    if origin is typing.Annotated:
        return _placeholder(arguments[0])
    if origin is not None:
        return origin()
    if not issubclass(kind, Settings):
        return kind()
    return kind(**{name: _placeholder(field.type) for name, field in fields(kind).items() if field.required})


def _file_name(text: str, folder: str) -> FileName:
    """Let a path begin at the folder of the first file, as all do behind this, and not at that of the file it is in."""
    return FileName(posixpath.join(folder, text) if text.strip() else text)


def _enum(value: Resolved, kind: type[StrEnum]) -> StrEnum:
    known = [str(member) for member in kind]
    if isinstance(value, str) and value in known:
        return kind(value)
    hint = did_you_mean(value, known) if isinstance(value, str) else ""
    raise BadValue(f"{described(value)} is not one of {', '.join(known)}{hint}")


def _text(value: Resolved) -> str:
    """Read text. The value is not repeated: it may be a secret in the wrong place."""
    if isinstance(value, str):
        return value
    found = "nothing" if value is None else "true or false" if isinstance(value, bool) else "a number"
    raise BadValue(f"expected text, found {found}; text that looks like something else wants quotes")


def _boolean(value: Resolved) -> bool:
    if isinstance(value, bool):
        return value
    raise BadValue(f"expected true or false, found {described(value)}")


def _integer(value: Resolved) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(values.count(value)) if value >= 0 else value
    raise BadValue(f"expected a whole number, found {described(value)}")


def _real(value: Resolved) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadValue(f"expected a number, found {described(value)}")
    if not math.isfinite(value):
        raise BadValue("must be a finite number")
    return float(value)


_READERS: Final[dict[type[Any], Callable[[Resolved], Any]]] = {
    str: _text,
    bool: _boolean,
    int: _integer,
    float: _real,
    Seconds: values.seconds,
    Count: values.count,
    Size: values.size,
}


def _expected(kind: type[Settings]) -> str:
    if kind is Secret:
        return "{env: NAME}, {file: PATH} or {credential: NAME} (a secret never stands in this file)"
    return f"settings ({', '.join(kind.__struct_fields__)})"


def _described(node: Node) -> str:
    """Say what a node is, for a fault, without repeating it: it may be a secret in the wrong place."""
    if isinstance(node, Scalar):
        value = node.value
        if isinstance(value, bool) or value is None:
            return described(value)
        return "text" if isinstance(value, str) else "a number"
    return "a list" if isinstance(node, Sequence) else "settings"


def _holds_several(kind: Any) -> bool:
    """Whether it is a section or a list: with nothing below its name, all of it commented out, it is not given."""
    return typing.get_origin(kind) in {tuple, dict} or (isinstance(kind, type) and issubclass(kind, Settings))


def is_null(node: Node) -> bool:
    """Whether nothing is written there, or `null`."""
    return isinstance(node, Scalar) and node.value is None
