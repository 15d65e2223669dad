"""Further files of a configuration: what `include` names is read and joined with the first file, node by node.

The names of `upstreams`, `models`, `keys`, `pins` and `default_models` add up; every other setting stands in one file.
Nothing overrides anything: what is given twice is a fault that tells both places, so the order of files means nothing.
Anchors and `x-…` settings stay inside their file. Only the first file includes: that way one list names all of them, it
cannot run in a circle, and who may write into a folder of keys cannot have the daemon read files elsewhere as settings.

Marks know their file, so everything behind this sees one tree, and tells each fault where it stands.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import typing
from typing import TYPE_CHECKING, Final, NamedTuple

from router.config import convert, yaml_nodes
from router.config.report import Mark, Report, shown
from router.config.schema import Config
from router.config.sources import FILE_BYTES_MAX, Listing, Sources
from router.config.yaml_nodes import Entry, Mapping, Node, Scalar, Sequence

if TYPE_CHECKING:
    from pathlib import Path

FILES_MAX: Final = 1000
"""Files that may be included."""
BYTES_MAX: Final = 8 * 1024 * 1024
"""Bytes of all files together."""
NODES_MAX: Final = 5 * yaml_nodes.NODES_MAX
"""Nodes of all files together, aliases written out: some 30,000 keys. A thousand small files could stand for more."""

FOLDER_PATTERNS: Final = ("*.yaml", "*.yml")
"""What of a folder is included."""

ADDING: Final = frozenset(name for name, each in convert.fields(Config).items() if typing.get_origin(each.type) is dict)
"""Settings whose names may stand in several files."""

_MAGIC = re.compile(r"[*?[]")


class Gathered(NamedTuple):
    """All files of a configuration as one tree."""

    root: Node
    is_whole: bool
    """Every file that is included could be read; if not, what seems missing may stand in one that could not."""


class _Unusable(Exception):
    """A file or folder cannot be included; the text says which, and why."""


def gather(content: bytes, report: Report, *, path: Path, sources: Sources) -> Gathered | None:
    """Join a file with those it includes. What is wrong goes to the report.

    Args:
        content: Of the first file, which was read already.
        report: Takes the faults; learns of the files.
        path: Of the first file. Files it includes are looked for beside it.
        sources: Reads them, and remembers them.

    Returns:
        None if the first file is not even YAML.
    """
    root = _compose(content, report, 0)
    if root is None:
        return None
    listed = root.entries.get("include") if isinstance(root, Mapping) else None
    if not isinstance(root, Mapping) or listed is None or convert.is_null(listed.node):
        return Gathered(root, is_whole=True)
    joined = _Joined(root, len(content))
    reader = _Reader(report, path, sources, joined)
    joined.is_whole = isinstance(listed.node, Sequence)  # here and below, `convert` tells that it is no list of paths
    for index, item in enumerate(listed.node.items if isinstance(listed.node, Sequence) else ()):
        if isinstance(item, Scalar) and isinstance(item.value, str):
            reader.include(item.value, index, item.mark)
        else:
            joined.is_whole = False
    return Gathered(joined.tree(), joined.is_whole)


def _compose(content: bytes, report: Report, file: int) -> Node | None:
    """Read one file, or report why it cannot be read."""
    if len(content) > FILE_BYTES_MAX:
        report.add_aside((), f"larger than {FILE_BYTES_MAX} bytes", Mark(1, 1, file))
        return None
    try:
        return yaml_nodes.compose(content.decode("utf-8-sig"), file=file)
    except UnicodeDecodeError as error:
        before = content[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8-sig", "replace")) + 1
        report.add_aside((), "not UTF-8 text", Mark(before.count(b"\n") + 1, column, file))
    except yaml_nodes.SyntaxFault as fault:
        report.add_aside((), fault.text, fault.mark)
    return None


class _Joined:
    """The files read so far, as one."""

    def __init__(self, first: Mapping, first_bytes: int) -> None:
        self.files = 0
        self.bytes = first_bytes
        self.nodes = first.size
        self.is_whole = True
        self._first = first
        self._entries = {name: _own(entry) for name, entry in first.entries.items()}
        self._flaws = list(first.flaws)

    def tree(self) -> Mapping:
        """Return them. Where a file is missing, a section that may have stood there is not missed."""
        if not self.is_whole:
            for name in ADDING:
                self._entries.setdefault(name, Entry(self._first.mark, Mapping(self._first.mark)))
        return Mapping(self._first.mark, self._entries, self._flaws)

    def add(self, more: Mapping, report: Report) -> None:
        """Take in what another file gives; what was given already is reported."""
        self._flaws += more.flaws
        for name, entry in more.entries.items():
            own = self._entries.get(name)
            if name == "include":
                self.is_whole = False
                report.add_aside((name,), "only the first file includes others; name these there", entry.mark)
            elif name.startswith(convert.FREE_PREFIX) or convert.is_null(entry.node):
                continue
            elif own is None or convert.is_null(own.node):
                self._entries[name] = _own(entry)
            elif name not in ADDING:
                report.add_aside((name,), _given_before(own, report), entry.mark)
            elif not isinstance(entry.node, Mapping):
                report.add_aside((name,), "expected names, each with its settings", entry.node.mark)
            elif isinstance(own.node, Mapping):
                _add_names(name, own.node, entry.node, report)


def _own(entry: Entry) -> Entry:
    """Copy what names may be added to: an alias may have put it elsewhere, too."""
    node = entry.node
    if not isinstance(node, Mapping):
        return entry
    return Entry(entry.mark, Mapping(node.mark, dict(node.entries), list(node.flaws)))


def _add_names(section: str, own: Mapping, more: Mapping, report: Report) -> None:
    own.flaws += more.flaws
    for name, entry in more.entries.items():
        before = own.entries.setdefault(name, entry)
        if before is not entry:
            report.add_aside((section, name), _given_before(before, report), entry.mark)


def _given_before(entry: Entry, report: Report) -> str:
    return f"given twice, first in {report.where(entry.mark)}"


class _Reader:
    """Finds and reads what the first file includes."""

    def __init__(self, report: Report, path: Path, sources: Sources, joined: _Joined) -> None:
        self._report = report
        self._folder = path.parent
        self._first = report.file(Mark(1, 1)).name
        self._sources = sources
        self._joined = joined
        self._read_as: dict[tuple[int, int], str] = {}
        """Files by device and inode: one that has two names is still one file."""
        self._is_full = False
        with contextlib.suppress(OSError):  # a text that never was a file
            self._read_as[_identity(path)] = self._first

    def include(self, text: str, index: int, mark: Mark) -> None:
        """Read what one line of the list stands for."""
        try:
            files = self._files(text)
        except _Unusable as unusable:
            self._fault(unusable, index, mark)
            return
        for file in files:
            if self._is_full:
                return
            try:
                self._read(file)
            except _Unusable as unusable:
                self._fault(unusable, index, mark)

    def _fault(self, unusable: _Unusable, index: int, mark: Mark) -> None:
        self._joined.is_whole = False
        self._report.add_aside(("include", index), str(unusable), mark)

    def _files(self, text: str) -> tuple[str, ...]:
        """What a line stands for: a file, those of a folder, or those that match a pattern; paths as it gives them."""
        if not text.isprintable() or not text.strip():
            raise _Unusable("is not a path")
        folder, pattern = posixpath.split(text)
        if _MAGIC.search(folder):
            raise _Unusable("a pattern may stand only behind the last slash")
        if _MAGIC.search(pattern):
            return self._matching(folder, (pattern,))
        if not pattern or posixpath.isdir(self._folder / text):
            return self._matching(text, FOLDER_PATTERNS)
        return (text,)

    def _matching(self, folder: str, patterns: tuple[str, ...]) -> tuple[str, ...]:
        try:
            names = self._sources.names(Listing(self._folder / folder, patterns))
        except OSError as error:
            raise _Unusable(f"folder {folder or '.'} cannot be read: {error.strerror}") from None
        for name in names:
            if not name.isprintable():
                raise _Unusable(f"folder {folder or '.'} has a file whose name cannot be shown: {shown(name)}")
        return tuple(posixpath.join(folder, name) for name in names)

    def _read(self, file: str) -> None:
        content, joined = self._content(file), self._joined
        joined.files += 1
        joined.bytes += len(content)
        self._hold(joined.files, FILES_MAX, "files")
        self._hold(joined.bytes, BYTES_MAX, "bytes")
        name = posixpath.join(posixpath.dirname(self._first), file)
        root = _compose(content, self._report, self._report.add_file(name, posixpath.dirname(file)))
        if isinstance(root, Mapping):
            joined.nodes += root.size
            self._hold(joined.nodes, NODES_MAX, "values, aliases written out")
            joined.add(root, self._report)
        elif root is None or not convert.is_null(root):
            joined.is_whole = False
            if root is not None:
                self._report.add_aside((), "expected settings, as in the file that includes this one", root.mark)

    def _hold(self, count: int, most: int, what: str) -> None:
        if count > most:
            self._is_full = True
            raise _Unusable(f"more than {most} {what} in all that is included")

    def _content(self, file: str) -> bytes:
        path = self._folder / file
        try:
            if path.exists() and not path.is_file():  # a pipe would have us wait for its writer
                raise _Unusable(f"{file} is not a file")
            content = self._sources.read(path)
            same = self._read_as.setdefault(_identity(path), file)
        except OSError as error:
            raise _Unusable(f"file {file} cannot be read: {error.strerror}") from None
        if same is not file:
            raise _Unusable(f"file {file} is read already, as {same}")
        return content


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
