"""The files a configuration is made of, the folders they were found in, and what was read from each."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

FILE_BYTES_MAX: Final = 1024 * 1024
"""The largest file that is read: configuration, secret or certificates."""

ENTRIES_MAX: Final = 10_000
"""Entries of a folder that is searched for files, those included that are passed over."""

ABSENT: Final = ""
"""What stands for the content of a file or folder that is not there or cannot be read."""


class Listing(NamedTuple):
    """The names in a folder that match one of several patterns: what a folder holds for us."""

    folder: Path
    patterns: tuple[str, ...]
    """As shells have them (`*`, `?`, `[…]`). Names that begin with a dot never match, so that editors' files are left
    out, and `..data`, which is where Kubernetes keeps what the visible names of a ConfigMap are links to."""


Source = Path | Listing

Fingerprint = Mapping[Source, str]
"""Sources, and the SHA-256 (hex) of what each held. A change of content shows; a new time stamp or inode does not."""


class TooLarge(OSError):
    """The file is larger than `FILE_BYTES_MAX`."""

    def __init__(self, path: Path) -> None:
        super().__init__(None, f"larger than {FILE_BYTES_MAX} bytes", str(path))


class TooMany(OSError):
    """The folder has more than `ENTRIES_MAX` entries."""

    def __init__(self, path: Path) -> None:
        super().__init__(None, f"more than {ENTRIES_MAX} entries", str(path))


class Sources:
    """Reads files and remembers what they held, so that nothing can change unseen between reading and watching."""

    def __init__(self) -> None:
        self.fingerprint: dict[Source, str] = {}

    def read(self, path: Path) -> bytes:
        """Read a whole file.

        Raises:
            OSError: It cannot be read; `TooLarge` if it is too long.
        """
        self.fingerprint[path] = ABSENT
        content = _content(path)
        self.fingerprint[path] = hashlib.sha256(content).hexdigest()
        if len(content) > FILE_BYTES_MAX:
            raise TooLarge(path)
        return content

    def names(self, listing: Listing) -> tuple[str, ...]:
        """Return the names in a folder that match, in order.

        Raises:
            OSError: It cannot be read; `TooMany` if there are too many.
        """
        self.fingerprint[listing] = ABSENT
        names = _names(listing)
        self.fingerprint[listing] = _digest_of_names(names)
        return names


def fingerprint(sources: Iterable[Source]) -> Fingerprint:
    """Read what these hold now; symbolic links are followed, pipes and devices count as absent."""
    return {source: _digest(source) for source in sources}


def _digest(source: Source) -> str:
    try:
        if isinstance(source, Listing):
            return _digest_of_names(_names(source))
        if not stat.S_ISREG(source.stat().st_mode):  # opening a pipe would wait for its writer
            return ABSENT
        return hashlib.sha256(_content(source)).hexdigest()
    except OSError:
        return ABSENT


def _digest_of_names(names: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def _names(listing: Listing) -> tuple[str, ...]:
    with os.scandir(listing.folder) as entries:
        everything = [entry.name for entry in islice(entries, ENTRIES_MAX + 1)]
    if len(everything) > ENTRIES_MAX:
        raise TooMany(listing.folder)
    visible = [name for name in everything if not name.startswith(".")]
    matching = {name for pattern in listing.patterns for name in visible if fnmatch.fnmatchcase(name, pattern)}
    return tuple(sorted(matching))


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX + 1)
