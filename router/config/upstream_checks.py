"""What one upstream's settings must be together: its address, credentials, headers, query and certificates."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from router.config import addresses
from router.config.expand import spread
from router.config.schema import Auth, Config, HeaderPolicy, Upstream
from router.config.values import BadValue

if TYPE_CHECKING:
    from pathlib import Path as FilePath

    from router.config.report import Path, Report
    from router.config.sources import Sources

CREDENTIAL_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key"})
"""Set from `api_key` and `auth` alone."""
CONNECTION_HEADERS: Final = frozenset({
    "accept-encoding", "connection", "content-length", "expect", "host", "http2-settings", "keep-alive",
    "proxy-authenticate", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
"""They belong to one connection, or are computed anew for each (PROTOCOL 3.2)."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")  # RFC 9110 section 5.6.2
_FIELD_VALUE = re.compile(r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]{0,8190}[!-~\x80-\xff])?)?")  # section 5.5
_QUERY_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,2048}")


def check(config: Config, report: Report, *, directory: FilePath, sources: Sources) -> None:
    """Report what is wrong inside each upstream."""
    for name, upstream in config.upstreams.items():
        path = ("upstreams", name)
        urls = _check_urls(name, upstream, config, report)
        _check_credentials(upstream, path, report)
        _check_headers(upstream.headers, (*path, "headers"), report)
        for key, value in upstream.query.items():
            if not _QUERY_TEXT.fullmatch(key) or (value and not _QUERY_TEXT.fullmatch(value)):
                report.add(
                    (*path, "query", key), "names must not be empty, nor names or values hold control characters"
                )
        if urls and all(url.scheme == "http" for url in urls):
            for setting in ("ca", "server_name"):
                if getattr(upstream.tls, setting) is not None:
                    report.add((*path, "tls", setting), "has no meaning for an http:// base_url")
        _check_certificates(upstream, path, report, directory=directory, sources=sources)


def _check_urls(name: str, upstream: Upstream, config: Config, report: Report) -> list[addresses.BaseUrl]:
    """Check the base URL, every one that its range stands for, and return them taken apart."""
    path = ("upstreams", name, "base_url")
    if not report.is_clean(path):
        return []
    try:
        each = spread(name, upstream.base_url)
        urls = [addresses.base_url(url) for url in each.values()]
    except BadValue as error:
        report.add(path, str(error))
        return []
    for one in each:
        if one != name and one in config.upstreams:
            report.add(path, f"its range declares {one}, which is declared already")
    for setting, where in (("listen", config.listen), ("admin", config.admin)):
        if report.is_clean((setting,)) and any(addresses.reaches(url, where) for url in urls):
            report.add(path, f"leads back to the router's own `{setting}` address {where}")
    return urls


def _check_credentials(upstream: Upstream, path: Path, report: Report) -> None:
    if upstream.api_key is not None and upstream.api_keys:
        report.add((*path, "api_keys"), "give api_key or api_keys, not both")
    has_credential = bool(upstream.api_key or upstream.api_keys) or any(
        report.is_lost((*path, setting)) for setting in ("api_key", "api_keys")
    )
    if upstream.auth is Auth.NONE and has_credential:
        report.add((*path, "auth"), "`none` sends no credential, but one is given")
    if upstream.auth not in {None, Auth.NONE} and not has_credential:
        report.add((*path, "auth"), "says how a credential is sent, but api_key is missing")


def _check_headers(policy: HeaderPolicy, path: Path, report: Report) -> None:
    seen: dict[str, str] = {}
    for name, value in policy.set.items():
        here = (*path, "set", name)
        _check_header_name(name, here, report)
        if name.lower() in CREDENTIAL_HEADERS:
            report.add(here, "is set from api_key and auth")
        if seen.setdefault(name.lower(), name) != name:
            report.add(here, f"is the same header as {seen[name.lower()]}")
        if not _FIELD_VALUE.fullmatch(value):
            report.add(here, "the value has a line break, a control character, space around it or is not Latin-1")
    for setting, names in (("deny", policy.deny), ("forward", policy.forward)):
        for index, name in enumerate(names):
            _check_header_name(name, (*path, setting, index), report)
    denied = {name.lower() for name in policy.deny}
    for index, name in enumerate(policy.forward):
        if name.lower() in CREDENTIAL_HEADERS:
            report.add((*path, "forward", index), "would send the client's credential for this router to the upstream")
        elif name.lower() in denied:
            report.add((*path, "forward", index), "is under deny as well")


def _check_header_name(name: str, path: Path, report: Report) -> None:
    if not _TOKEN.fullmatch(name):
        report.add(path, "is not the name of a header")
    elif name.lower() in CONNECTION_HEADERS:
        report.add(path, "belongs to the connection; the router decides about it")


def _check_certificates(
    upstream: Upstream, path: Path, report: Report, *, directory: FilePath, sources: Sources
) -> None:
    ca, server_name = upstream.tls.ca, upstream.tls.server_name
    if server_name is not None and not addresses.is_host(server_name):
        report.add((*path, "tls", "server_name"), "is not the name of a host")
    if ca is None or not report.is_clean((*path, "tls", "ca")):
        return
    if not ca.isprintable():
        report.add((*path, "tls", "ca"), "is not a path")
        return
    try:
        pem = sources.read(directory / ca)
    except OSError as error:
        report.add((*path, "tls", "ca"), f"cannot be read: {error.strerror}")
    else:
        if b"-----BEGIN CERTIFICATE-----" not in pem:
            report.add((*path, "tls", "ca"), "holds no certificate in PEM form")
