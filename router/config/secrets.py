"""Secrets: a reference in the file, its value in the environment, in a file or in a systemd credential.

Values leave this module only in the mapping it returns. No fault ever holds one, nor a reference that looks like one.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from router.config.report import dotted
from router.config.schema import Config, Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from router.config.report import Path as SettingPath
    from router.config.report import Report
    from router.config.sources import Sources

SECRET_CHARACTERS_MAX: Final = 16 * 1024
"""The longest secret: with it a request head still fits what servers accept."""

PATH_MAX: Final = 4096
"""Characters of a path, as Linux has it."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_CREDENTIAL = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._@:+-]{1,255}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f]|[^\x00-\xff]")


class Unresolved(Exception):
    """A reference leads to no usable secret; the text names the reference and never a value."""


def resolve(secret: Secret, *, directory: Path, environ: Mapping[str, str], sources: Sources) -> str:
    """Look up one secret that is kept outside the file (not `sha256`); white space around it is removed.

    Args:
        secret: The reference.
        directory: Where relative files are looked for: the folder of the configuration file.
        environ: The environment variables.
        sources: Reads the file, and remembers it.

    Raises:
        Unresolved: It is missing, empty, or holds what cannot be sent in a header.
    """
    if secret.env is not None:
        where, value = f"environment variable {secret.env}", environ.get(secret.env)
        if value is None:
            raise Unresolved(f"{where} is not set")
    elif secret.file is not None:
        where, value = _read(f"file {secret.file}", directory / secret.file, sources)
    else:
        assert secret.credential is not None, "sha256 references have no value"
        folder = environ.get("CREDENTIALS_DIRECTORY")
        where = f"credential {secret.credential}"
        if not folder:
            raise Unresolved(f"{where}: $CREDENTIALS_DIRECTORY is not set; systemd sets it for LoadCredential=")
        where, value = _read(where, Path(folder) / secret.credential, sources)
    value = value.strip()
    if not value:
        raise Unresolved(f"{where} is empty")
    if len(value) > SECRET_CHARACTERS_MAX:
        raise Unresolved(f"{where} is longer than {SECRET_CHARACTERS_MAX} characters")
    if _UNSENDABLE.search(value):
        raise Unresolved(f"{where} holds a line break, a control character or one outside Latin-1")
    return value


def _read(where: str, path: Path, sources: Sources) -> tuple[str, str]:
    try:
        return where, sources.read(path).decode("utf-8-sig")
    except OSError as error:
        raise Unresolved(f"{where} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, ValueError):  # ValueError: a NUL in the path
        raise Unresolved(f"{where} is not text") from None


def resolve_all(
    config: Config,
    report: Report,
    *,
    directory: Path,
    environ: Mapping[str, str] | None,
    sources: Sources,
    credentials: bool = True,
) -> dict[Secret, str]:
    """Check and look up every secret of the configuration; what is wrong goes to the report.

    Without `environ` none is looked up, and the references alone are checked. Without `credentials` those of systemd
    are not looked up: commands of a unit other than its `ExecStart=` do not see them (in systemd 252 to 256 at least:
    its issue 35227).
    """
    found: dict[Secret, str] = {}
    owners: dict[tuple[SettingPath, str], SettingPath] = {}
    for path, secret in references(config):
        if not report.is_clean(path):
            continue
        of_client = path[0] in {"keys", "admin_token"}
        flaw = _flaw(secret, of_client=of_client)
        if flaw:
            report.add(path, flaw)
            continue
        if secret.credential is not None and not credentials:
            continue
        if secret.sha256 is None and secret not in found and environ is not None:
            try:
                found[secret] = resolve(secret, directory=directory, environ=environ, sources=sources)
            except Unresolved as error:
                report.add(path, str(error))
                continue
        # One secret may serve several upstreams, but neither name two clients nor be two credentials of one upstream.
        # No client may have the operator's.
        group: SettingPath = (
            ("keys",) if of_client else path if path[0] == "tracing" or path[2] == "proxy" else path[:2]
        )
        is_known = secret.sha256 is not None or secret in found
        owner = owners.setdefault((group, digest(secret, found) if is_known else str(secret)), path)
        if owner is not path:
            report.add(path, f"is the same secret as {dotted(owner[:2] if of_client else owner)}")
    return found


def references(config: Config) -> Iterator[tuple[SettingPath, Secret]]:
    """Yield every reference of a configuration with its place."""
    for name, upstream in config.upstreams.items():
        if upstream.api_key is not None:
            yield ("upstreams", name, "api_key"), upstream.api_key
        for index, secret in enumerate(upstream.api_keys):
            yield ("upstreams", name, "api_keys", index), secret
        if upstream.proxy is not None:
            for setting in ("password", "authorization"):
                if (secret := getattr(upstream.proxy, setting)) is not None:
                    yield ("upstreams", name, "proxy", setting), secret
    for name, key in config.keys.items():
        yield ("keys", name, "secret"), key.secret
    if config.tracing is not None:
        for name, secret in config.tracing.headers.items():
            yield ("tracing", "headers", name), secret
    if config.admin_token is not None:
        yield ("admin_token",), config.admin_token


def digest(secret: Secret, values: Mapping[Secret, str]) -> str:
    """Return the SHA-256 (hex, lower case) of a secret, given or computed from its value as UTF-8."""
    if secret.sha256 is not None:
        return secret.sha256.lower()
    return hashlib.sha256(values[secret].encode()).hexdigest()


def _flaw(secret: Secret, *, of_client: bool) -> str | None:
    """What is wrong with the reference itself. One that is not well-formed is not repeated: it may be a secret."""
    given = [name for name in Secret.__struct_fields__ if getattr(secret, name) is not None]
    if len(given) != 1:
        usable = "sha256, env, file, credential" if of_client else "env, file, credential"
        return f"give exactly one of {usable}" + (f", not {' and '.join(given)}" if given else "")
    if secret.sha256 is not None:
        if not of_client:
            return "sha256 is for client keys; what is sent to an upstream must be known: env, file or credential"
        return None if _SHA256.fullmatch(secret.sha256) else "sha256 must be 64 hex digits"
    if secret.env is not None and not _VARIABLE.fullmatch(secret.env):
        return "env must be the name of an environment variable, not a value"
    if secret.credential is not None and not _CREDENTIAL.fullmatch(secret.credential):
        return "credential must be the plain name of a file in $CREDENTIALS_DIRECTORY"
    if secret.file is not None and not (secret.file.isprintable() and 0 < len(secret.file.strip()) <= PATH_MAX):
        return "file must be a path"
    return None
