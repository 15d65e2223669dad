"""What the configuration names on this machine's disks: where bodies are spooled, our own certificates.

That files of secrets are not open to all is seen when the configuration is read (`config.advice`).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from router.config import certificates, values
from router.config.schema import Size
from router.config.sources import FILE_BYTES_MAX
from router.doctor.reaching import DAYS_FEW

if TYPE_CHECKING:
    from router.config.schema import Config
    from router.doctor.findings import Notes


def examine(notes: Notes, config: Config, path: Path) -> None:
    """Look at all that this configuration names, which was read from `path`."""
    directory = path.absolute().parent
    spool(notes, config, directory)
    own_certificates(notes, config, directory)


def spool(notes: Notes, config: Config, directory: Path) -> None:
    """Whether files can be made where large bodies go, and whether as much fits there as may be kept."""
    given = config.requests.spool_dir
    folder = directory if given is None else directory / given
    try:
        folder = Path(tempfile.gettempdir()) if given is None else folder
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        cure = "make it a folder that the router may write to, or name another under requests.spool_dir"
        notes.fail("spool", f"no file can be made in {folder}: {error.strerror}", cure)
        return
    most = config.requests.spooled_total_max
    found = f"{folder} is writable, {_size(free)} free; bodies may take {_size(most)}"
    if free < most:
        notes.warn("spool", found, "lower requests.spooled_total_max, or name a larger disk under requests.spool_dir")
    else:
        notes.ok("spool", found)


def own_certificates(notes: Notes, config: Config, directory: Path) -> None:
    """How long the certificates will last that clients and upstreams are shown.

    That each has its private key was seen when the configuration was read.
    """
    for setting in ("listen", "admin"):
        for listener in getattr(config, setting):
            if listener.tls is not None:
                _certificate(notes, f"certificate of {setting} {listener.address}", directory / listener.tls.cert)
    for name, upstream in config.upstreams.items():
        if upstream.tls.cert is not None:
            _certificate(notes, f"certificate for {name}", directory / upstream.tls.cert)


def _certificate(notes: Notes, check: str, file: Path) -> None:
    cure = f"renew it: new content of {file} is taken up by a reload"
    try:
        with file.open("rb") as pem:
            days = int((certificates.not_after(pem.read(FILE_BYTES_MAX)) - time.time()) // 86_400)
    except (OSError, ValueError) as error:
        notes.fail(check, f"{file}: {getattr(error, 'strerror', None) or error}", "it must be a PEM file")
        return
    if days < 0:
        notes.fail(check, f"expired {-days} days ago: {file}", cure)
    elif days < DAYS_FEW:
        notes.warn(check, f"{days} days left: {file}", cure)
    else:
        notes.ok(check, f"{days} days left: {file}")


def _size(count: int) -> str:
    """A round number of bytes for people: disks are never full to the byte."""
    for unit in (1 << 30, 1 << 20):
        if count >= unit:
            return str(values.show_size(Size(count // unit * unit)))
    return str(count)
