"""A request body on disk: large forms, which have to be kept in case they must be sent again."""

from __future__ import annotations

import os
import tempfile


class Spool:
    """A file without a name: whatever becomes of us, the system removes it (RELIABILITY 6.8)."""

    __slots__ = ("_file", "size")

    def __init__(self, folder: str | None) -> None:
        """Make it in `folder`, or where the system keeps such files.

        Raises:
            OSError: It cannot be made there.
        """
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (it lives as long as its request)
        self.size = 0

    def __repr__(self) -> str:
        return f"<Spool: {self.size} bytes>"

    def add(self, piece: bytes) -> None:
        """Write a piece behind the others.

        Raises:
            OSError: The disk is full.
        """
        view = memoryview(piece)
        while view:
            view = view[self._file.write(view) :]
        self.size += len(piece)

    def read(self, at: int, size: int) -> bytes:
        """Return the bytes from `at` on, at most `size` of them."""
        return os.pread(self._file.fileno(), size, at)

    def close(self) -> None:
        """Give the space back."""
        self._file.close()
