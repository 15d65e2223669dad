"""Where the router listens and where upstreams are: addresses and base URLs, and whether one leads to the other."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from router.config.report import shown
from router.config.schema import Listen
from router.config.values import BadValue, described

if TYPE_CHECKING:
    from router.config.yaml_nodes import Resolved

URL_MAX: Final = 2048
"""Characters of a base URL."""

UNIX: Final = "unix:"
"""What stands before the path of a unix socket."""

_NAME = re.compile(r"(?=.{1,253}\.?$)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")
_LISTEN = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")
_URL_SIGNS = re.compile(r"[A-Za-z0-9._~:/\[\]@!$&'()*+,;=%?#-]+")
_LOOPBACK_NAMES = {"localhost": ("127.0.0.1", "::1")}
_LEADS_HOME = {"0.0.0.0": ("127.0.0.1",), "::": ("127.0.0.1", "::1")}  # noqa: S104 - compared with, not bound to


class BaseUrl(NamedTuple):
    """A base URL in its parts."""

    scheme: str
    """`http` or `https`."""
    host: str
    """A name or an address, without the brackets of IPv6."""
    port: int
    path: str
    """Without a slash at its end: empty, or `/v1`."""


def listen(value: Resolved) -> Listen:
    """Read `host:port`, `[v6]:port`, `:port` (every interface) or `unix:/path`.

    Raises:
        BadValue: It is something else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        raise BadValue(f"expected host:port, found a number; write ':{value}' for every interface")
    if isinstance(value, str) and value.startswith(UNIX):
        path = value.removeprefix(UNIX)
        if not path.isprintable() or path != path.strip() or posixpath.basename(path) in {"", ".", ".."}:
            raise BadValue("after unix: stands the path of a file, as in unix:/run/llm-router/router.sock")
        return Listen(value)
    parts = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        raise BadValue(f'expected host:port, "[v6]:port", :port or unix:/path, found {described(value)}')
    if int(parts["port"]) > 65535:
        raise BadValue(f"port {parts['port']} is more than 65535")
    host = parts["v6"] or parts["host"]
    if host and not _is_host(host, v6=parts["v6"] is not None):
        raise BadValue(f"{shown(host)} is not a host; for every interface write :{parts['port']}")
    return Listen(parts[0])


def unix_path(where: Listen) -> str | None:
    """The path of a unix socket, as it is written; None: it is an address of the network."""
    return where.removeprefix(UNIX) if where.startswith(UNIX) else None


def within(where: Listen, folder: str) -> Listen:
    """Let the path of a unix socket begin at a folder, unless it is absolute."""
    path = unix_path(where)
    return where if path is None else Listen(UNIX + posixpath.join(folder, path))


def address(where: Listen) -> tuple[str | None, int]:
    """Split an address of the network into what `create_server` takes; host None is every interface, v4 and v6."""
    host, _, port = where.rpartition(":")
    return host.strip("[]") or None, int(port)


def base_url(text: str) -> BaseUrl:
    """Take a base URL apart.

    Raises:
        BadValue: It is not an http or https URL with a host and nothing but a path behind it. The text never repeats
            the URL, which may hold a password.
    """
    if not _URL_SIGNS.fullmatch(text) or len(text) > URL_MAX:
        raise BadValue("not a URL: it is empty, too long, or has spaces or signs that must be escaped")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # whose text may repeat a password that stands where a port should
        raise BadValue("not a URL: its port is no number, or its brackets hold no address") from None
    if parts.scheme not in {"http", "https"}:
        raise BadValue("must begin with http:// or https://")
    if "@" in parts.netloc:
        raise BadValue("must not hold a user or password; credentials belong under api_key")
    if "?" in text or "#" in text:
        raise BadValue("must end with its path; a query belongs under query")
    host = parts.hostname or ""
    if not _is_host(host, v6="[" in parts.netloc):
        raise BadValue("has no valid host")
    if port == 0:
        raise BadValue("port 0 cannot be connected to")
    return BaseUrl(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/"))


def proxy_url(text: str) -> BaseUrl:
    """Take the URL of an HTTP proxy apart: its path is empty.

    Raises:
        BadValue: It is not `http://host:port`. The text never repeats the URL, which may hold a password.
    """
    if "@" in text:
        raise BadValue("must not hold a user or password; they belong under username and password")
    url = base_url(text)
    if url.scheme != "http":
        raise BadValue("must begin with http://; a proxy that is itself reached by TLS cannot be used")
    if url.path:
        raise BadValue("must end with its port")
    if not re.search(r":[0-9]+/?$", text):
        raise BadValue("names no port, as in http://proxy:3128")
    return url


def is_loopback(where: Listen) -> bool:
    """Whether only programs on this machine can connect to it."""
    if unix_path(where) is not None:
        return True
    host = address(where)[0]
    return host is not None and all(_is_loopback(each) for each in _addresses(host))


def overlaps(one: Listen, other: Listen) -> bool:
    """Whether both cannot be bound at once."""
    path, other_path = unix_path(one), unix_path(other)
    if path is not None or other_path is not None:
        return None not in {path, other_path} and posixpath.normpath(path or "") == posixpath.normpath(other_path or "")
    host, port = address(one)
    other_host, other_port = address(other)
    if port != other_port or port == 0:
        return False
    everywhere = {None, *_LEADS_HOME}
    return (
        host in everywhere
        or other_host in everywhere
        or not _addresses(host or "").isdisjoint(_addresses(other_host or ""))
    )


def reaches(url: BaseUrl, where: Listen) -> bool:
    """Whether this machine, connecting to `url`, would arrive at `where`, as far as can be said without asking DNS."""
    if unix_path(where) is not None:
        return False
    host, port = address(where)
    if url.port != port:
        return False
    targets = {home for each in _addresses(url.host) for home in _LEADS_HOME.get(each, (each,))}
    if host is None or host in _LEADS_HOME:
        return any(_is_loopback(each) for each in targets) or host == url.host
    return not targets.isdisjoint(_addresses(host))


def is_host(text: str) -> bool:
    """Whether it is the name of a host or an IP address."""
    return _is_host(text, v6=False) or _is_host(text, v6=True)


def _addresses(host: str) -> set[str]:
    """The addresses a host stands for; a name that only DNS knows stands for itself."""
    name = host.casefold().rstrip(".")
    if name in _LOOPBACK_NAMES:
        return set(_LOOPBACK_NAMES[name])
    try:
        parsed = ipaddress.ip_address(name)
    except ValueError:
        return {name}
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return {str(mapped or parsed)}


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_host(host: str, *, v6: bool) -> bool:
    """Whether it is an address or a name. What looks like IPv4 must be it: `127.1` is a trap, not a name."""
    try:
        return isinstance(ipaddress.ip_address(host), ipaddress.IPv6Address) is v6
    except ValueError:
        return not v6 and _NAME.fullmatch(host) is not None and not host.rstrip(".").rpartition(".")[2].isdigit()
