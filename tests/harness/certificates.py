"""Certificates for listeners under test, issued at will and replaced in place as certbot or Kubernetes do it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import trustme

if TYPE_CHECKING:
    from pathlib import Path

NAME = "router.test"
"""The name that the harness's client expects."""


class Certificates:
    """An authority, and what it has issued into one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.clients = trustme.CA()
        """Another authority, for clients."""
        self.clients.cert_pem.write_to_path(folder / "clients.pem")
        self.issue()

    def issue(self, *names: str, days: float = 90) -> None:
        """Put a new certificate and its key in place; `days` from now it ends to be valid."""
        end = datetime.now(UTC) + timedelta(days=days)
        issued = self.authority.issue_cert(
            NAME, "127.0.0.1", *names, not_before=end - timedelta(days=200), not_after=end
        )
        (self.folder / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(self.folder / "tls.key")

    def listener(self, address: str = "127.0.0.1:0", **more: Any) -> dict[str, Any]:
        """A listener's settings."""
        return {"address": address, "tls": {"cert": "tls.crt", "key": "tls.key"} | more}

    def trust(self, *, known: bool = False) -> ssl.SSLContext:
        """How a client speaks that trusts the authority; a `known` one has a certificate of its own."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if known:
            self.clients.issue_cert("client.test").configure_cert(context)
        return context
