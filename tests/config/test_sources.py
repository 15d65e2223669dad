from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from router.config.sources import ABSENT, FILE_BYTES_MAX, Sources, TooLarge, fingerprint

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_read_is_what_is_remembered(tmp_path: Path) -> None:
    """The fingerprint is of the very bytes that were read, and equals one taken later of the same content."""
    file = tmp_path / "f"
    file.write_bytes(b"one")
    sources = Sources()
    assert sources.read(file) == b"one"
    assert sources.fingerprint == {file: hashlib.sha256(b"one").hexdigest()}
    assert fingerprint([file]) == sources.fingerprint
    file.write_bytes(b"two")
    assert fingerprint([file]) != sources.fingerprint


def test_a_touch_is_no_change(tmp_path: Path) -> None:
    """Only content counts, not time stamps or inodes."""
    file = tmp_path / "f"
    file.write_bytes(b"one")
    before = fingerprint([file])
    os.utime(file, (1, 1))
    assert fingerprint([file]) == before
    (tmp_path / "g").write_bytes(b"one")
    (tmp_path / "g").replace(file)
    assert fingerprint([file]) == before


def test_what_cannot_be_read_is_absent(tmp_path: Path) -> None:
    """Missing files, folders and pipes count as absent, and a pipe does not block."""
    os.mkfifo(tmp_path / "pipe")
    paths = [tmp_path / "missing", tmp_path, tmp_path / "pipe"]
    assert fingerprint(paths) == dict.fromkeys(paths, ABSENT)
    sources = Sources()
    with pytest.raises(FileNotFoundError):
        sources.read(tmp_path / "missing")
    assert sources.fingerprint == {tmp_path / "missing": ABSENT}


def test_reading_is_bounded(tmp_path: Path) -> None:
    """A file of the largest size is read, one byte more is refused."""
    file = tmp_path / "f"
    file.write_bytes(b"x" * FILE_BYTES_MAX)
    assert len(Sources().read(file)) == FILE_BYTES_MAX
    file.write_bytes(b"x" * (FILE_BYTES_MAX + 1))
    with pytest.raises(TooLarge):
        Sources().read(file)
