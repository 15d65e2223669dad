"""The running daemon as commands see it: a small client of its admin listener.

Over TCP, TLS or a unix socket; each request has one deadline and a bound on its answer. No variable such as
`HTTP_PROXY` is looked at: the daemon is near.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from router.commands.options import DEFAULT_CONFIG, EX_CONFIG, EX_NO, EX_USAGE, DaemonError
from router.config import addresses, convert, includes, secrets
from router.config.report import Report
from router.config.schema import Config
from router.config.sources import FILE_BYTES_MAX, Sources
from router.config.values import BadValue

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

__all__ = ["Daemon", "DaemonError"]

TOKEN_VARIABLE: Final = "LLM_ROUTER_ADMIN_TOKEN"  # noqa: S105 (a name)

TIMEOUT_S: Final = 30.0
"""A request and its whole answer. A reload reads files and looks names up; it is done in a second."""
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""A configuration with 100,000 keys, as JSON."""

_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
_PIECE: Final = 1 << 16
_LOCAL: Final = {None: "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (what is not bound but asked)
_HTTPS_PORT: Final = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """Where a daemon answers, and what it wants to be shown."""

    host: str = ""
    port: int = 0
    unix: Path | None = None
    """In place of host and port."""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    timeout_s: float = TIMEOUT_S

    @classmethod
    def find(cls, options: argparse.Namespace) -> Daemon:
        """Find it by the options of `options.add_admin`.

        The token in the file goes to the address in the file alone: another one has no business to learn it.

        Raises:
            DaemonError: Nothing says where it is, or a file that was named cannot be read.
        """
        given = _token(options)
        if options.admin is not None:
            return _at(options.admin, given, options)
        return _in_file(options, given)

    @property
    def place(self) -> str:
        """Where it is, for people."""
        if self.unix is not None:
            return f"unix:{self.unix}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https://' if self.tls else ''}{host}:{self.port}"

    def get(self, path: str, accept: str = "application/json") -> bytes:
        """Fetch what stands there.

        Raises:
            DaemonError: It is not reachable, or the answer is another status than 200.
        """
        status, body = self._ask("GET", path, None, {"Accept": accept})
        if status != http.client.OK:
            raise self._unexpected(status, body)
        return body

    def post(self, path: str, body: object | None = None) -> tuple[int, Any]:
        """Have something done; returns the status and the decoded JSON of the answer, whatever the status.

        Raises:
            DaemonError: It is not reachable, wants another token, or does not answer in JSON.
        """
        content = b"" if body is None else msgspec.json.encode(body)
        headers = {"Accept": "application/json"} | ({} if body is None else {"Content-Type": "application/json"})
        status, answer = self._ask("POST", path, content, headers)
        if status in {http.client.UNAUTHORIZED, http.client.FORBIDDEN}:
            raise self._unexpected(status, answer)
        return status, self._decoded(answer)

    def get_json(self, path: str) -> Any:
        """Fetch and decode what stands there.

        Raises:
            DaemonError: As `get`, or it is not JSON.
        """
        return self._decoded(self.get(path))

    def _decoded(self, body: bytes) -> Any:
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._stranger("what answers there does not speak JSON") from None

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = _Connection(self)
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            with _cut_off(connection, self.timeout_s) as is_late:
                try:
                    connection.connect()
                    connection.request(method, path, body, headers)
                    with connection.getresponse() as response:
                        return response.status, self._read(response)
                except (OSError, http.client.HTTPException):
                    if is_late():
                        raise TimeoutError from None
                    raise
        except TimeoutError:
            raise self._unreachable(f"no answer within {self.timeout_s:g} s") from None
        except ssl.SSLCertVerificationError as error:
            cure = "say which authorities to trust: --ca-file FILE"
            raise self._unreachable(f"its certificate is not trusted: {error.verify_message}", cure) from None
        except http.client.HTTPException as error:
            raise self._stranger(f"what answers there does not speak HTTP: {type(error).__name__}") from None
        except OSError as error:
            raise self._unreachable(error.strerror or str(error) or type(error).__name__) from None
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        if response.length is None and not response.chunked:  # a head that is cut off looks so
            raise http.client.IncompleteRead(b"")
        pieces = bytearray()
        while piece := response.read1(_PIECE):
            pieces += piece
            if len(pieces) > ANSWER_BYTES_MAX:
                raise self._stranger(f"its answer is longer than {ANSWER_BYTES_MAX} bytes")
        if response.length:  # read1 does not say that the rest is missing
            raise http.client.IncompleteRead(b"", response.length)
        return bytes(pieces)

    def _unreachable(self, why: str, cure: str = "") -> DaemonError:
        advice = "is it running there? say where with --admin ADDRESS, or with -c FILE whose `admin` setting it is"
        return DaemonError(f"the daemon cannot be reached at {self.place}", why, cure or advice)

    def _stranger(self, why: str) -> DaemonError:
        cure = "is that the admin address? say where with --admin ADDRESS, https://… if it has TLS"
        return DaemonError(f"no daemon answers at {self.place}", why, cure)

    def _unexpected(self, status: int, body: bytes) -> DaemonError:
        try:
            message = str(msgspec.json.decode(body)["error"]["message"])
        except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError):
            message = http.client.responses.get(status, "")
        why = f"it answered {status}: {message[:200]}"
        if status in {http.client.UNAUTHORIZED, http.client.FORBIDDEN}:
            cure = f"it wants its `admin_token`: --token-file FILE, or ${TOKEN_VARIABLE}"
            return DaemonError(f"the daemon at {self.place} refuses", why, cure, exit_status=EX_NO)
        return self._stranger(why)


class _Connection(http.client.HTTPConnection):
    """A connection that knows of TLS and unix sockets."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__(daemon.host or "localhost", daemon.port or None, timeout=daemon.timeout_s)
        self._daemon = daemon

    def connect(self) -> None:
        daemon = self._daemon
        if daemon.unix is not None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(daemon.timeout_s)
            self.sock.connect(str(daemon.unix))
        else:
            super().connect()
        if daemon.tls is not None:
            self.sock = daemon.tls.wrap_socket(
                self.sock, server_hostname=daemon.host or None, do_handshake_on_connect=False
            )
            self.sock.do_handshake()


@contextmanager
def _cut_off(connection: _Connection, after_s: float) -> Iterator[Callable[[], bool]]:
    """End all reading and writing after so many seconds: a time limit of the socket begins anew with every byte."""
    until = time.monotonic() + after_s

    def cut() -> None:
        try:
            if connection.sock is not None:
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)  # without a word of TLS, which would wait
        except OSError:
            return

    timer = threading.Timer(after_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield lambda: time.monotonic() >= until
    finally:
        timer.cancel()


def _token(options: argparse.Namespace) -> str | None:
    """The token that was given by a file or a variable."""
    if options.token_file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip() or None
    try:
        with options.token_file.open("rb") as file:
            token: str = file.read(secrets.SECRET_CHARACTERS_MAX + 1).decode("latin-1").strip()
    except OSError as error:
        why = error.strerror or str(error)
    else:
        if token and token.isprintable() and len(token) <= secrets.SECRET_CHARACTERS_MAX:
            return token
        why = "it is empty, too long, or has more than one line"
    raise DaemonError(
        f"no token can be read from {options.token_file}", why, "--token-file names a file with the token alone",
        exit_status=EX_USAGE,
    )  # fmt: skip


def _at(place: str, token: str | None, options: argparse.Namespace) -> Daemon:
    """The daemon at an address as it is typed."""
    if place.startswith("unix:"):
        return Daemon(unix=Path(place.removeprefix("unix:")), token=token)
    has_tls = place.startswith("https://")
    rest = re.sub(r"\Ahttps?://", "", place).rstrip("/")
    try:
        try:
            host, port = addresses.address(addresses.listen(rest))
        except BadValue:
            if not has_tls or not rest:
                raise
            host, port = addresses.address(addresses.listen(f"{rest}:{_HTTPS_PORT}"))
    except BadValue as error:
        cure = "write host:port, https://host:port or unix:/path"
        raise DaemonError("--admin is no address", str(error), cure, exit_status=EX_USAGE) from None
    tls = _showing(options.client_cert, _trusting(options.ca_file)) if has_tls else None
    return Daemon(host=_LOCAL.get(host, host) or "", port=port, tls=tls, token=token)


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    """TLS that checks certificate and name; without a file the system's authorities are trusted."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        why = error.strerror or str(error)
        raise DaemonError(
            f"no authorities can be read from {ca_file}", why, "--ca-file names a PEM file", exit_status=EX_USAGE
        ) from None


def _showing(cert: Path | None, context: ssl.SSLContext) -> ssl.SSLContext:
    """Let it show a certificate to a listener that asks for one (`client_ca`)."""
    try:
        if cert is not None:
            context.load_cert_chain(cert, password="")  # one that is encrypted is refused: nobody is asked
    except OSError as error:
        why = "it holds no certificate with its key, in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        raise DaemonError(
            f"no certificate can be read from {cert}", why or str(error), "--client-cert names a PEM file with both",
            exit_status=EX_USAGE,
        ) from None  # fmt: skip
    return context


def _only(cert: Path) -> ssl.SSLContext:
    """TLS that trusts the listener's own certificate and no other, whatever name it is for.

    The name that is connected to is an address such as 127.0.0.1, which stands in few certificates.
    """
    try:
        with cert.open("rb") as file:
            found = _CERTIFICATE.search(file.read(FILE_BYTES_MAX))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be an authority's
        context.load_verify_locations(cadata=found[0].decode("latin-1") if found else "")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it holds no certificate in PEM form"
        cure = "say where it is with --admin https://HOST:PORT, and whom to trust with --ca-file FILE"
        raise DaemonError(
            f"the certificate of the admin address cannot be read from {cert}", why, cure, exit_status=EX_CONFIG
        ) from None
    return context


def _in_file(options: argparse.Namespace, token: str | None) -> Daemon:
    """The daemon that runs with a file: its first admin address. What else is wrong in the file is no matter here."""
    path: Path = options.config
    config, report = _read_leniently(path)
    if not report.is_clean(("admin",)) or not config.admin:
        raise _unknown(path, "its setting `admin` is faulty")
    folder = path.absolute().parent
    wants_ours = [each.tls is not None and each.tls.client_ca is not None for each in config.admin]
    where = config.admin[wants_ours.index(min(wants_ours))]  # one that does only if there is no other
    tls = None if where.tls is None else _showing(options.client_cert, _only(folder / where.tls.cert))
    token = token or _token_of(config, report, folder)
    unix = addresses.unix_path(where.address)
    if unix is not None:
        return Daemon(unix=folder / unix, tls=tls, token=token)
    host, port = addresses.address(where.address)
    if not port:
        raise _unknown(path, "its `admin` address leaves the port to the kernel")
    return Daemon(host=_LOCAL.get(host, host) or "", port=port, tls=tls, token=token)


def _token_of(config: Config, report: Report, folder: Path) -> str | None:
    """The token that the file refers to, if we may read it and it is more than its hash."""
    secret = config.admin_token
    if secret is None or secret.sha256 is not None or not report.is_clean(("admin_token",)):
        return None
    try:
        return secrets.resolve(secret, directory=folder, environ=os.environ, sources=Sources())
    except (secrets.Unresolved, AssertionError):  # it refers to nothing at all
        return None


def _read_leniently(path: Path) -> tuple[Config, Report]:
    """Read a file, and those it includes, as far as they can be; the one that need not be there is empty."""
    report, sources, content = Report(str(path)), Sources(), b""
    try:
        content = sources.read(path.absolute())
    except FileNotFoundError:
        if path != DEFAULT_CONFIG:
            raise _unknown(path, "there is no such file") from None
    except OSError as error:
        raise _unknown(path, error.strerror or str(error)) from None
    gathered = includes.gather(content, report, path=path.absolute(), sources=sources)
    if gathered is None:
        raise _unknown(path, report.lines()[0])
    return convert.settings(gathered.root, Config, report), report


def _unknown(path: Path, why: str) -> DaemonError:
    cure = "mend the file, or say where the daemon is: --admin ADDRESS"
    return DaemonError(f"{path} does not say where the daemon is", why, cure, exit_status=EX_CONFIG)
