from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import addresses
from router.config.addresses import BaseUrl
from router.config.schema import Listen
from router.config.values import BadValue


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080), (":8080", None, 8080), ("[::1]:0", "::1", 0),
        ("localhost:65535", "localhost", 65535), ("router.example:1", "router.example", 1),
    ],
)  # fmt: skip
def test_listen_addresses_are_taken_apart(written: str, host: str | None, port: int) -> None:
    """Host and port come out as `create_server` takes them."""
    assert addresses.address(addresses.listen(written)) == (host, port)


def test_unix_sockets_are_local_and_have_a_path() -> None:
    """Only this machine can reach one; it collides with its like alone, and no URL leads to it."""
    where = addresses.listen("unix:/run/a.sock")
    assert (addresses.unix_path(where), addresses.unix_path(addresses.listen(":80"))) == ("/run/a.sock", None)
    assert addresses.is_loopback(where)
    assert addresses.overlaps(where, Listen("unix:/run/b/../a.sock"))
    assert not addresses.overlaps(where, Listen("unix:/run/b.sock"))
    assert not addresses.overlaps(where, Listen(":80"))
    assert not addresses.reaches(addresses.base_url("http://127.0.0.1:80"), where)
    assert addresses.within(Listen("unix:a.sock"), "/run") == "unix:/run/a.sock"
    assert addresses.within(where, "/var") == where


@pytest.mark.parametrize(
    "written",
    ["8080", 8080, "", ":", "host", "host:", ":65536", "::1:80", "[::1]", "[127.0.0.1]:80", "*:80", "a b:80",
     "unix:", "unix:/a/", "unix:..", "unix:/a\nb", "unix: a", "UNIX:/a",
     "127.1:80", "300.1.1.1:80", None, True, 1.5, "x" * 300 + ":80", "host:٣"],
)  # fmt: skip
def test_what_is_no_listen_address_is_refused(written: Any) -> None:
    """A port alone, IPv6 without brackets, a star or a half address are faults."""
    with pytest.raises(BadValue):
        addresses.listen(written)


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("http://10.0.0.1:8000/v1", BaseUrl("http", "10.0.0.1", 8000, "/v1")),
        ("https://api.example/v1/", BaseUrl("https", "api.example", 443, "/v1")),
        ("http://[::1]:81", BaseUrl("http", "::1", 81, "")),
        ("HTTP://Host.Example/a/b", BaseUrl("http", "host.example", 80, "/a/b")),
    ],
)
def test_base_urls_are_taken_apart(written: str, parts: BaseUrl) -> None:
    """Scheme, host, port and path come out, the port by its scheme, the path without a slash at its end."""
    assert addresses.base_url(written) == parts


@pytest.mark.parametrize(
    "written",
    ["", "api.example/v1", "ftp://a/v1", "http://", "http:///v1", "http://u:hunter2@a/v1", "http://a/v1?k=hunter2", "http://a/#x",
     "http://a b/", "http://a\n/", "http://a:99999/", "http://a:0/", "http://a:x/", "http://[::1/", "http://[1.2.3.4]/",
     "http://127.1/", "http://ü/", "http://a/?", "http://" + "a" * 3000, "//a/v1", "http://@a/", "http://a\\b/", "http://1/"],
)  # fmt: skip
def test_what_is_no_base_url_is_refused(written: str) -> None:
    """Only an http or https URL with a host and a path will do, and a fault repeats no password."""
    with pytest.raises(BadValue) as refused:
        addresses.base_url(written)
    assert "hunter2" not in str(refused.value)


@given(st.one_of(st.text(), st.from_regex(r"https?://[\w.\[\]:@%-]{0,20}(/\S{0,10})?")))
def test_garbage_raises_nothing_but_the_fault(garbage: str) -> None:
    """Whatever stands in the file, an address is read or refused."""
    with suppress(BadValue):
        assert addresses.address(addresses.listen(garbage))[1] <= 65535
    with suppress(BadValue):
        assert addresses.base_url(garbage).host


@pytest.mark.parametrize(
    ("where", "only_here"),
    [("127.0.0.1:1", True), ("127.8.8.8:1", True), ("[::1]:1", True), ("localhost:1", True), (":1", False),
     ("0.0.0.0:1", False), ("[::]:1", False), ("10.0.0.1:1", False), ("router.example:1", False)],
)  # fmt: skip
def test_loopback_is_known(where: str, only_here: bool) -> None:
    """Only addresses that no other machine reaches count as loopback."""
    assert addresses.is_loopback(Listen(where)) is only_here


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [("127.0.0.1:1", "127.0.0.1:1", True), ("127.0.0.1:1", "127.0.0.1:2", False), (":1", "127.0.0.1:1", True),
     ("localhost:1", "127.0.0.1:1", True), ("127.0.0.1:0", "127.0.0.1:0", False), ("10.0.0.1:1", "10.0.0.2:1", False),
     ("0.0.0.0:1", "10.0.0.1:1", True)],
)  # fmt: skip
def test_overlapping_listeners_are_known(one: str, other: str, both: bool) -> None:
    """Two listeners overlap if they share port and address; port 0 never does."""
    assert addresses.overlaps(Listen(one), Listen(other)) is both
    assert addresses.overlaps(Listen(other), Listen(one)) is both


@pytest.mark.parametrize(
    ("url", "where", "home"),
    [("http://localhost:8080", "127.0.0.1:8080", True), ("http://LOCALHOST.:8080", "[::1]:8080", True),
     ("http://0.0.0.0:8080", "127.0.0.1:8080", True), ("http://127.0.0.1:8080", ":8080", True),
     ("http://[::ffff:127.0.0.1]:8080", "127.0.0.1:8080", True), ("http://10.1.1.1:8080", "10.1.1.1:8080", True),
     ("http://127.0.0.2:8080", "127.0.0.1:8080", False), ("http://127.0.0.1:8081", "127.0.0.1:8080", False),
     ("http://10.0.0.1:8080", ":8080", False), ("http://me.example:80", "me.example:80", True),
     ("http://127.0.0.1:1", "127.0.0.1:0", False)],
)  # fmt: skip
def test_an_upstream_that_is_the_router_is_known(url: str, where: str, home: bool) -> None:
    """However loopback is written, a URL that arrives at a listener of ours is found out."""
    assert addresses.reaches(addresses.base_url(url), Listen(where)) is home


def test_hosts_are_names_or_addresses() -> None:
    """A certificate can be expected for either."""
    assert all(addresses.is_host(host) for host in ("api.example", "10.0.0.1", "::1"))
    assert not any(addresses.is_host(host) for host in ("", "a b", "a:1", "-a", "a..b"))


@pytest.mark.parametrize("text", ["https://me:hunter2", "https://me:hunter2/v1", "https://[hunter2]/v1"])
def test_a_fault_repeats_no_password(text: str) -> None:
    """A password that stands where host and port should is not said again: faults are logged and shown around."""
    with pytest.raises(BadValue) as fault:
        addresses.base_url(text)
    assert "hunter2" not in str(fault.value)
