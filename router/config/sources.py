"""The files a configuration is made of, and what was read from each."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

FILE_BYTES_MAX: Final = 1024 * 1024
"""The largest file that is read: configuration, secret or certificates."""

ABSENT: Final = ""
"""What stands for the content of a file that is not there or cannot be read."""

Fingerprint = Mapping[Path, str]
"""Files, and the SHA-256 (hex) of what each held. A change of content shows; a new time stamp or inode does not."""


class TooLarge(OSError):
    """The file is larger than `FILE_BYTES_MAX`."""

    def __init__(self, path: Path) -> None:
        super().__init__(None, f"larger than {FILE_BYTES_MAX} bytes", str(path))


class Sources:
    """Reads files and remembers what they held, so that nothing can change unseen between reading and watching."""

    def __init__(self) -> None:
        self.fingerprint: dict[Path, str] = {}

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


def fingerprint(paths: Iterable[Path]) -> Fingerprint:
    """Read what these files hold now; symbolic links are followed, pipes and devices count as absent."""
    return {path: _digest(path) for path in paths}


def _digest(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            return ABSENT
        return hashlib.sha256(_content(path)).hexdigest()
    except OSError:
        return ABSENT


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX + 1)
