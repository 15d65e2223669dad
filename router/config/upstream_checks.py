"""What one upstream's settings must be together: its address and the way there, credentials, headers, parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from router.config import addresses, certificates
from router.config.expand import spread
from router.config.schema import ALLOW_DEFAULT, Auth, Config, HeaderPolicy, Proxy, Upstream
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
SAFETY_HEADERS: Final = frozenset({"cookie", "openai-organization", "openai-project", "anthropic-workspace-id"})
"""Dropped unless they are named under `forward` (PROTOCOL 3.2)."""
NEEDED_PARAMS: Final = frozenset({"model", "stream"})
"""Members of a request that no upstream can do without."""

_QUERY_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,2048}")
_USERNAME = re.compile(r"[^\x00-\x1f\x7f:]{1,256}")  # RFC 7617 section 2
_TEMPLATE = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)+")
_PATH_STEP = re.compile(r"[A-Za-z0-9._-]{1,64}")


def check(config: Config, report: Report, *, directory: FilePath, sources: Sources | None) -> None:
    """Report what is wrong inside each upstream; without `sources` its certificates are taken for given."""
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
        _check_path(upstream, path, report)
        _check_params(upstream.drop_params, (*path, "drop_params"), report)
        if upstream.proxy is not None:
            _check_proxy(upstream.proxy, (*path, "proxy"), config, report)
        if urls and all(url.scheme == "http" for url in urls):
            for setting in ("ca", "server_name", "cert", "key"):
                if getattr(upstream.tls, setting) is not None:
                    report.add((*path, "tls", setting), "has no meaning for an http:// base_url")
        server_name = upstream.tls.server_name
        if server_name is not None and not addresses.is_host(server_name):
            report.add((*path, "tls", "server_name"), "is not the name of a host")
        if sources is not None:
            certificates.check(upstream.tls, (*path, "tls"), report, directory=directory, sources=sources)


def _check_urls(name: str, upstream: Upstream, config: Config, report: Report) -> list[addresses.BaseUrl]:
    """Check the base URL, every one that its range stands for, and return them taken apart."""
    path = ("upstreams", name, "base_url")
    if not report.is_clean(path) or not report.is_written(path):  # missing, or left to a preset that does not exist
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
    _check_leads_away(urls, path, config, report)
    return urls


def _check_leads_away(urls: list[addresses.BaseUrl], path: Path, config: Config, report: Report) -> None:
    for setting, listeners in (("listen", config.listen), ("admin", config.admin)):
        for where in (each.address for each in listeners):
            if report.is_clean((setting,)) and any(addresses.reaches(url, where) for url in urls):
                report.add(path, f"leads back to the router's own `{setting}` address {where}")


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
        flaw = header_flaw(name, value)
        if flaw:
            report.add(here, flaw)
        if seen.setdefault(name.lower(), name) != name:
            report.add(here, f"is the same header as {seen[name.lower()]}")
    for setting, names in (("deny", policy.deny), ("forward", policy.forward), ("allow", policy.allow or ())):
        for index, name in enumerate(names):
            _check_header_name(name, (*path, setting, index), report)
    denied = {name.lower() for name in policy.deny}
    forwarded = {name.lower() for name in policy.forward}
    for index, name in enumerate(policy.allow or ()):
        if name.lower() in CREDENTIAL_HEADERS:
            report.add((*path, "allow", index), "would send the client's credential for this router to the upstream")
        elif name.lower() in SAFETY_HEADERS - forwarded:
            report.add((*path, "allow", index), "is dropped for safety; name it under forward, which is enough")
        elif name != ALLOW_DEFAULT and name.lower() in denied:
            report.add((*path, "allow", index), "is under deny as well")
    for index, name in enumerate(policy.forward):
        if name.lower() in CREDENTIAL_HEADERS:
            report.add((*path, "forward", index), "would send the client's credential for this router to the upstream")
        elif name.lower() in denied:
            report.add((*path, "forward", index), "is under deny as well")


def header_flaw(name: str, value: str) -> str | None:
    """What is wrong with setting this header on every request; None if nothing is."""
    flaw = _name_flaw(name)
    if flaw is None and name.lower() in CREDENTIAL_HEADERS:
        flaw = "is set from api_key and auth"
    if flaw is None and not _FIELD_VALUE.fullmatch(value):
        flaw = "the value has a line break, a control character, space around it or is not Latin-1"
    return flaw


def _check_header_name(name: str, path: Path, report: Report) -> None:
    flaw = _name_flaw(name)
    if flaw:
        report.add(path, flaw)


def _name_flaw(name: str) -> str | None:
    if not _TOKEN.fullmatch(name):
        return "is not the name of a header"
    return "belongs to the connection; the router decides about it" if name.lower() in CONNECTION_HEADERS else None


def _check_path(upstream: Upstream, path: Path, report: Report) -> None:
    for index, step in enumerate(upstream.path_for):
        if not _PATH_STEP.fullmatch(step):
            report.add((*path, "path_for", index), "is not one step of a path, such as chat")
    here = (*path, "path")
    if upstream.path is None or not report.is_clean(here):
        if upstream.path_for and not report.is_lost(here):
            report.add((*path, "path_for"), "says where path is used, but path is missing")
        return
    filled = upstream.path.replace("{model}", "m").replace("{path}", "/p")
    if not _TEMPLATE.fullmatch(filled) or "//" in filled or any(step in {".", ".."} for step in filled.split("/")):
        report.add(here, "must be a path with {model} and {path} in it, as in /deployments/{model}{path}")
    elif "{path}" not in upstream.path and not upstream.path_for:
        report.add(here, "without {path} asks for the same thing everywhere; say under path_for where it is meant")


def _check_params(names: tuple[str, ...], path: Path, report: Report) -> None:
    for index, name in enumerate(names):
        if not 0 < len(name) <= 128 or not name.isprintable():
            report.add((*path, index), "is not the name of a parameter")
        elif name in NEEDED_PARAMS:
            report.add((*path, index), f"`{name}` cannot be left out")


def _check_proxy(proxy: Proxy, path: Path, config: Config, report: Report) -> None:
    if report.is_clean((*path, "url")):
        try:
            url = addresses.proxy_url(proxy.url)
        except BadValue as error:
            report.add((*path, "url"), str(error))
        else:
            _check_leads_away([url], (*path, "url"), config, report)
    if proxy.username is not None and not _USERNAME.fullmatch(proxy.username):
        report.add((*path, "username"), "must not be empty, nor hold colons or control characters")
    if proxy.password is not None and proxy.username is None and not report.is_lost((*path, "username")):
        report.add((*path, "password"), "needs username")
    if proxy.authorization is not None and (proxy.username is not None or proxy.password is not None):
        report.add((*path, "authorization"), "stands in place of username and password; give one of the two")
