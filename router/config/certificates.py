"""PEM files of upstreams and of our listeners: read, and given to OpenSSL, before anything is connected or served."""

from __future__ import annotations

import base64
import re
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path as FilePath

    from router.config.report import Path, Report
    from router.config.schema import ServerTls, Tls
    from router.config.sources import Sources

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_TRUSTED = b"-----BEGIN TRUSTED CERTIFICATE-----"
_PRIVATE_KEY = b"PRIVATE KEY-----"
_FIRST = re.compile(rb"-----BEGIN CERTIFICATE-----([^-]+)-----END CERTIFICATE-----")
_VERSION = 0xA0
"""The tag of a certificate's version, which the oldest ones leave out."""
_UTC_TIME = 0x17


def check(tls: Tls, path: Path, report: Report, *, directory: FilePath, sources: Sources) -> None:
    """Report every file that cannot be read, holds something else, or does not belong to the other."""
    _check_authorities(tls.ca, (*path, "ca"), report, directory, sources)
    _check_own(tls, path, report, directory, sources)


def check_server(tls: ServerTls, path: Path, report: Report, *, directory: FilePath, sources: Sources) -> None:
    """As `check`, of a listener."""
    _check_authorities(tls.client_ca, (*path, "client_ca"), report, directory, sources)
    _check_own(tls, path, report, directory, sources)


def not_after(pem: bytes) -> float:
    """When the first certificate in a file ends to be valid, as seconds since the epoch.

    Raises:
        ValueError: There is none, or it is not one as RFC 5280 has it.
    """
    found = _FIRST.search(pem)
    if found is None:
        raise ValueError("no certificate in PEM form")
    try:
        fields = _elements(_elements(_elements(base64.b64decode(found[1]))[0][1])[0][1])
        if fields[0][0] == _VERSION:
            del fields[0]
        tag, text = _elements(fields[3][1])[1]  # serial number, algorithm, issuer, validity: not before, not after
        digits = text.decode("ascii")
        if tag == _UTC_TIME:  # two digits of the year (RFC 5280 section 4.1.2.5.1)
            digits = ("19" if digits >= "50" else "20") + digits
        return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (IndexError, ValueError):
        raise ValueError("not a certificate") from None


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """The elements that stand side by side in DER (X.690 section 8.1): tag and content of each."""
    found, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            octets = length & 0x7F
            length, at = int.from_bytes(der[at : at + octets], "big"), at + octets
        found.append((tag, der[at : at + length]))
        at += length
    return found


def _check_own(tls: Tls | ServerTls, path: Path, report: Report, directory: FilePath, sources: Sources) -> None:
    if tls.cert is None:
        if tls.key is not None and not report.is_lost((*path, "cert")):
            report.add((*path, "key"), "needs cert, the certificate that belongs to it")
        return
    where = "cert" if tls.key is None else "key"
    cert = _read(tls.cert, (*path, "cert"), report, directory, sources)
    key = cert if tls.key is None else _read(tls.key, (*path, "key"), report, directory, sources)
    if cert is not None and _CERTIFICATE not in cert:
        report.add((*path, "cert"), f"file {tls.cert} holds no certificate in PEM form")
    elif key is not None and _PRIVATE_KEY not in key:
        hint = "; say under key where it is" if tls.key is None else ""
        report.add((*path, where), f"file {tls.key or tls.cert} holds no private key in PEM form{hint}")
    elif key is not None and b"ENCRYPTED" in key:
        report.add((*path, where), f"the private key in file {tls.key or tls.cert} is encrypted; it must be plain")
    elif cert is not None and key is not None:
        _check_pair(tls.cert, tls.key, path, report, directory)


def _check_pair(cert: str, key: str | None, path: Path, report: Report, directory: FilePath) -> None:
    """Have OpenSSL take both, as every connection will."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # A password, though none is needed: without one OpenSSL would ask for it on the terminal.
        context.load_cert_chain(directory / cert, None if key is None else directory / key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            where, text = ("key", f"file {key}") if key is not None else ("cert", "the private key in it")
            report.add((*path, where), f"{text} does not belong to the certificate in file {cert}")
        else:
            files = cert if key is None else f"{cert} and {key}"
            report.add((*path, "cert"), f"no certificate with its private key can be read from {files}")
    except OSError as error:
        report.add((*path, "cert"), f"file {cert} or its key cannot be read: {error.strerror}")


def _check_authorities(ca: str | None, path: Path, report: Report, directory: FilePath, sources: Sources) -> None:
    if ca is None:
        return
    pem = _read(ca, path, report, directory, sources)
    if pem is None:
        return
    if _CERTIFICATE not in pem and _TRUSTED not in pem:
        report.add(path, f"file {ca} holds no certificate in PEM form")
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(directory / ca)
    except OSError:
        report.add(path, f"file {ca} holds a certificate that cannot be read")


def _read(file: str, path: Path, report: Report, directory: FilePath, sources: Sources) -> bytes | None:
    if not report.is_clean(path):
        return None
    if not file.isprintable() or not file.strip():
        report.add(path, "is not a path")
        return None
    try:
        return sources.read(directory / file)
    except OSError as error:
        report.add(path, f"file {file} cannot be read: {error.strerror}")
        return None
