from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from router.config.certificates import not_after
from tests.config.files import MODELS, pem_files, read, texts

if TYPE_CHECKING:
    from pathlib import Path

BROKEN = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Certificates and keys, good ones and others."""
    pem_files(tmp_path)
    pem_files(tmp_path, ca="ca2.pem", cert="cert2.pem", key="key2.pem")
    files = {name: (tmp_path / f"{name}.pem").read_text() for name in ("cert", "key", "key2")}
    (tmp_path / "both.pem").write_text(files["key"] + files["cert"])
    (tmp_path / "strangers.pem").write_text(files["key2"] + files["cert"])
    (tmp_path / "empty.pem").write_text("")
    (tmp_path / "broken.pem").write_text(BROKEN)
    (tmp_path / "broken-key.pem").write_text(files["key"][:60] + files["key"][70:])
    (tmp_path / "folder.pem").mkdir()
    return tmp_path


def tls(settings: str) -> str:
    return f"upstreams: {{a: {{base_url: https://h/v1, tls: {{{settings}}}}}}}\n{MODELS}"


@pytest.mark.parametrize("settings", ["cert: cert.pem, key: key.pem", "cert: both.pem", "cert: both.pem, key: key.pem"])
def test_a_certificate_with_its_key_is_taken(folder: Path, settings: str) -> None:
    """In two files or in one; both are watched, and their paths begin at the folder of the configuration."""
    loaded = read(tls(settings), directory=folder)
    found = loaded.config.upstreams["a"].tls
    assert found.cert is not None
    assert found.cert.startswith(str(folder))
    assert {str(path) for path in loaded.sources} == {path for path in (found.cert, found.key) if path is not None}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("ca: missing.pem", "ca: file missing.pem cannot be read: No such file or directory"),
        ("ca: folder.pem", "ca: file folder.pem cannot be read: Is a directory"),
        ("ca: empty.pem", "ca: file empty.pem holds no certificate in PEM form"),
        ("ca: key.pem", "ca: file key.pem holds no certificate in PEM form"),
        ("ca: broken.pem", "ca: file broken.pem holds a certificate that cannot be read"),
        ('ca: "\\0"', "ca: is not a path"),
        ('cert: ""', "cert: is not a path"),
        ("key: key.pem", "key: needs cert, the certificate that belongs to it"),
        ("cert: missing.pem", "cert: file missing.pem cannot be read: No such file or directory"),
        ("cert: missing.pem, key: key.pem", "cert: file missing.pem cannot be read: No such file or directory"),
        ("cert: cert.pem, key: missing.pem", "key: file missing.pem cannot be read: No such file or directory"),
        ("cert: key.pem, key: key.pem", "cert: file key.pem holds no certificate in PEM form"),
        ("cert: cert.pem", "cert: file cert.pem holds no private key in PEM form; say under key where it is"),
        ("cert: cert.pem, key: cert.pem", "key: file cert.pem holds no private key in PEM form"),
        ("cert: cert.pem, key: key2.pem", "key: file key2.pem does not belong to the certificate in file cert.pem"),
        (
            "cert: strangers.pem",
            "cert: the private key in it does not belong to the certificate in file strangers.pem",
        ),
        (
            "cert: broken.pem, key: key.pem",
            "cert: no certificate with its private key can be read from broken.pem and key.pem",
        ),
        (
            "cert: cert.pem, key: broken-key.pem",
            "cert: no certificate with its private key can be read from cert.pem and broken-key.pem",
        ),
    ],
)
def test_a_file_that_cannot_serve_is_told(folder: Path, settings: str, fault: str) -> None:
    """Each file is read and tried before anything starts, and the fault names it."""
    assert texts(tls(settings), directory=folder) == [f"upstreams.a.tls.{fault}"]


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_told(folder: Path, form: PrivateFormat) -> None:
    """Nobody is there to be asked for a password, so it is not asked for."""
    key = load_pem_private_key((folder / "key.pem").read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"hunter2"))
    (folder / "locked.pem").write_bytes(locked)
    assert texts(tls("cert: cert.pem, key: locked.pem"), directory=folder) == [
        "upstreams.a.tls.key: the private key in file locked.pem is encrypted; it must be plain"
    ]


def test_a_renewed_certificate_is_a_change(folder: Path) -> None:
    """The digest knows the content of every file, so that a reload does not take it for the same."""
    text = tls("ca: ca.pem, cert: cert.pem, key: key.pem")
    digests = {read(text, directory=folder).digest}
    for name in ("ca", "cert", "key"):
        (folder / f"{name}.pem").write_text((folder / f"{name}.pem").read_text() + "\n")
        digests.add(read(text, directory=folder).digest)
    assert len(digests) == 4


@pytest.mark.parametrize("year", [2031, 2049, 2050, 9999])
def test_the_end_of_a_certificate_is_known(year: int) -> None:
    """To the second, as the century is written and as later ones are (RFC 5280 section 4.1.2.5)."""
    end = datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)
    issued = trustme.CA().issue_cert("router.test", not_after=end)
    assert not_after(issued.private_key_and_cert_chain_pem.bytes()) == end.timestamp()


@pytest.mark.parametrize("size", range(0, 300, 7))
def test_what_is_no_certificate_has_no_end(size: int) -> None:
    """Cut anywhere, or something else altogether, it is said to be none."""
    whole = ssl.PEM_cert_to_DER_cert(trustme.CA().issue_cert("router.test").cert_chain_pems[0].bytes().decode())
    with pytest.raises(ValueError, match="certificate"):
        not_after(ssl.DER_cert_to_PEM_cert(whole[: size % 120]).encode())
    with pytest.raises(ValueError, match="certificate"):
        not_after(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"[size:])
