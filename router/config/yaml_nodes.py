"""YAML text to a tree of nodes that know their place: YAML 1.2 scalars, bounded, and nothing of it can run code.

The tree is built from the parser's events and not by `yaml.compose`, which calls itself for every level in C and so
crashes the process on a file of 400,000 brackets. Events come one by one, so depth and size are refused as they grow.

Of YAML this leaves out tags (`!!python/object`), several documents in one file, and aliases that contain themselves.
Merge keys (`<<`) are kept: they are what anchors under `x-` names are for. A written name wins over a merged one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import yaml

from router.config.report import Mark, shown

DEPTH_MAX: Final = 32
"""Levels of nesting; the schema itself has six."""
NODES_MAX: Final = 100_000
"""Nodes after every alias is written out: ten levels of ten aliases each (a "billion laughs") end here."""
SCALAR_NUMBER_MAX: Final = 40
"""Characters of a number; what is longer is text. Python takes quadratic time for very long numbers."""

# libyaml is ten times as fast; without it the same events come from PyYAML's own parser.
LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Resolved = str | int | float | bool | None

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, Resolved]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + name: float(sign + "inf") for sign in ("", "+", "-") for name in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")

_SURROGATE = re.compile("[\ud800-\udfff]")


class SyntaxFault(Exception):
    """The text is not YAML, or not the part of YAML that is read here; there is no tree."""

    def __init__(self, mark: Mark, text: str) -> None:
        super().__init__(text)
        self.mark = mark
        self.text = text


class Flaw(NamedTuple):
    """Something wrong inside a mapping that does not hinder reading the rest."""

    mark: Mark
    name: str
    text: str


@dataclass(slots=True)
class Scalar:
    """A single value as it is written."""

    mark: Mark
    text: str
    is_plain: bool
    """Written without quotes: only then can it be anything but text."""

    @property
    def value(self) -> Resolved:
        """What it is by the core schema of YAML 1.2."""
        return resolve(self.text) if self.is_plain else self.text


@dataclass(slots=True)
class Sequence:
    """A list."""

    mark: Mark
    items: list[Node] = field(default_factory=list)
    size: int = field(default=1, compare=False)
    """Nodes in it, itself included, aliases written out; counted while it is composed."""


class Entry(NamedTuple):
    """One line of a mapping: where its name stands, and the value."""

    mark: Mark
    node: Node


@dataclass(slots=True)
class Mapping:
    """Names and values. Of a name that is given twice the first is kept, the second is a flaw."""

    mark: Mark
    entries: dict[str, Entry] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)
    size: int = field(default=1, compare=False)
    """As of a `Sequence`."""


Node = Scalar | Sequence | Mapping


def resolve(text: str) -> Resolved:
    """Read a scalar without quotes by the core schema of YAML 1.2 (10.3.2): `no` and `12:30` are text, `010` is ten."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > SCALAR_NUMBER_MAX:
        return text
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def compose(text: str, loader: Any = LOADER, *, file: int = 0) -> Node:
    """Read one YAML document.

    Args:
        text: The document.
        loader: A parser of PyYAML.
        file: What marks say it is, `Mark.file`.

    Raises:
        SyntaxFault: The text is not YAML, or uses what is left out here.
    """
    unreadable = _UNREADABLE.search(text)
    if unreadable:
        before = text[: unreadable.start()]
        mark = Mark(before.count("\n") + 1, len(before) - before.rfind("\n"), file)
        raise SyntaxFault(mark, f"character U+{ord(unreadable[0]):04X} does not belong into a YAML file")
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=loader):
            builder.see(event)
    except yaml.MarkedYAMLError as error:
        raise _syntax_fault(error, file) from None
    except (ValueError, OverflowError):  # PyYAML's own parser, of an escape such as "\UFFFFFFFF"
        raise SyntaxFault(builder.mark, "unreadable escape after this place") from None
    return builder.root or Scalar(Mark(1, 1, file), "", is_plain=True)


def _syntax_fault(error: yaml.MarkedYAMLError, file: int) -> SyntaxFault:
    mark = error.problem_mark or error.context_mark
    text = error.problem or "not readable as YAML"
    if "cannot start any token" in text:
        text += " (a tab, perhaps: indent with spaces; or text that wants quotes)"
    if error.context and error.context_mark is not None:
        text += f", {error.context} that began on line {error.context_mark.line + 1}"
    return SyntaxFault(Mark(mark.line + 1, mark.column + 1, file) if mark else Mark(1, 1, file), text)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    node: Sequence | Mapping
    anchor: str | None
    name: Node | None = None
    """In a mapping: the name that still waits for its value."""
    merges: list[tuple[Mark, Node]] = field(default_factory=list)


class _Builder:
    """Events in, tree out."""

    def __init__(self, file: int) -> None:
        self.root: Node | None = None
        self.mark = Mark(1, 1, file)
        """Where the last event began."""
        self._file = file
        self._open: list[_Open] = []
        self._anchors: dict[str, Node] = {}

    def see(self, event: yaml.Event) -> None:
        """Take the next event."""
        if event.start_mark:
            self.mark = Mark(event.start_mark.line + 1, event.start_mark.column + 1, self._file)
        mark = self.mark
        if isinstance(event, yaml.AliasEvent):
            self._place(self._aliased(event.anchor or "", mark), mark)
        elif isinstance(event, yaml.NodeEvent):
            self._begin(event, mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end()
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise SyntaxFault(mark, "a second document begins here; the configuration is one")

    def _begin(self, event: Any, mark: Mark) -> None:
        if event.tag is not None:
            raise SyntaxFault(mark, "tags (`!…`) are not read here")
        if isinstance(event, yaml.ScalarEvent):
            if _SURROGATE.search(event.value):
                raise SyntaxFault(mark, "an escape in it is half a character")
            scalar = Scalar(mark, event.value, is_plain=event.style in {None, ""})
            if event.anchor:
                self._anchors[event.anchor] = scalar
            self._place(scalar, mark)
            return
        if len(self._open) >= DEPTH_MAX:
            raise SyntaxFault(mark, f"nested deeper than {DEPTH_MAX} levels")
        node = Sequence(mark) if isinstance(event, yaml.SequenceStartEvent) else Mapping(mark)
        self._open.append(_Open(node, event.anchor))

    def _end(self) -> None:
        frame = self._open.pop()
        if isinstance(frame.node, Mapping):
            for mark, merged in frame.merges:
                _merge(frame.node, mark, merged)
        if frame.anchor:
            self._anchors[frame.anchor] = frame.node
        self._place(frame.node, frame.node.mark)

    def _aliased(self, anchor: str, mark: Mark) -> Node:
        if any(frame.anchor == anchor for frame in self._open):
            raise SyntaxFault(mark, "this alias stands inside what it stands for")
        if anchor not in self._anchors:
            raise SyntaxFault(mark, "no anchor of this name comes before this alias")
        return self._anchors[anchor]

    def _place(self, node: Node, mark: Mark) -> None:
        """Put a finished node where it belongs."""
        if not self._open:
            self.root = node
            return
        frame = self._open[-1]
        frame.node.size += 1 if isinstance(node, Scalar) else node.size
        if frame.node.size > NODES_MAX:
            raise SyntaxFault(mark, f"more than {NODES_MAX} values, aliases written out")
        if isinstance(frame.node, Sequence):
            frame.node.items.append(node)
        elif frame.name is None:
            frame.name = Scalar(mark, node.text, node.is_plain) if isinstance(node, Scalar) else node
        else:
            _enter(frame, frame.name, node)
            frame.name = None


def _enter(frame: _Open, name: Node, node: Node) -> None:
    assert isinstance(frame.node, Mapping)
    entries, flaws = frame.node.entries, frame.node.flaws
    if not isinstance(name, Scalar):
        flaws.append(Flaw(name.mark, "?", "a name must be plain text"))
    elif name.is_plain and name.text == "<<":
        frame.merges.append((name.mark, node))
    elif name.text in entries:
        flaws.append(Flaw(name.mark, name.text, f"given twice, first on line {entries[name.text].mark.line}"))
    else:
        entries[name.text] = Entry(name.mark, node)


def _merge(into: Mapping, mark: Mark, merged: Node) -> None:
    """Add the entries of one mapping, or of a list of them, that are not there yet."""
    for source in merged.items if isinstance(merged, Sequence) else [merged]:
        if not isinstance(source, Mapping):
            text = f", not {shown(source.text)}" if isinstance(source, Scalar) else ""
            into.flaws.append(Flaw(mark, "<<", f"merges settings (`<<: *anchor`) or a list of them{text}"))
            continue
        for name, entry in source.entries.items():
            into.entries.setdefault(name, entry)
