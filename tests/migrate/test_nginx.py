"""nginx's files, whole: what becomes of each kind of directive, and that none is lost, whatever stands in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.migrate import nginx_reasons
from router.migrate.account import Fate, Unusable
from router.migrate.nginx_syntax import Directive, SyntaxFault, parse
from tests.migrate.importing import Imported, of_nginx

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "sk-never-to-be-seen"

RICH = """\
http {
  client_max_body_size 50m;
  client_header_timeout 20s;
  client_body_timeout 40;
  send_timeout 1m;
  upstream gpu {
    least_conn;
    keepalive 32;
    keepalive_timeout 7s;
    server 10.0.0.1:8000 weight=3 max_conns=100;
    server 10.0.0.2:8000 backup;
    server 10.0.0.3 down;
  }
  server {
    listen 127.0.0.1:8090;
    keepalive_timeout 65s;
    location /v1/ {
      proxy_pass https://gpu;
      proxy_connect_timeout 2s;
      proxy_read_timeout 5m;
      proxy_next_upstream_tries 2;
      proxy_ssl_name api.example.com;
      proxy_set_header X-Team blue;
      proxy_set_header Cookie "";
    }
  }
}
"""
"""Directives that are carried, none as it would be by itself."""


def located(inside: str, upstream: str = "server 10.0.0.1:8000;", more: str = "", path: str = "/") -> Imported:
    """A file with one upstream `u`, and one location that holds this."""
    made = of_nginx(f"upstream u {{ {upstream} }}\nserver {{\nlocation {path} {{ {inside} }}\n{more}\n}}")
    if made.draft.models:
        assert made.faults == ()
    return made


def pooled(upstream: str) -> Imported:
    return located("proxy_pass http://u;", upstream)


def leaves(directives: list[Directive], path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Every directive that says one thing, by its places in the blocks around it, with its name."""
    for index, directive in enumerate(directives):
        if directive.block is None:
            yield (*path, index), directive.name
        else:
            yield from leaves(directive.block, (*path, index))


def assert_sound(text: str, made: Imported) -> None:
    """No directive is lost, what comes of it is a good file, and the secret is nowhere."""
    fates = made.account._fates
    told = {tuple(step for step in path if isinstance(step, int)) for path in fates}
    for place, _ in leaves(parse(text)):
        above = {place[:end] for end in range(1, len(place) + 1)}
        below = {path for path in told if path[: len(place)] == place}
        assert above & told or below, place
    if made.draft.models:
        assert made.faults == ()
    lines = [line for fate in Fate for line in made.account.lines(fate)]
    assert SECRET not in "".join((made.text, *lines))


# Whole files


def test_every_directive_that_is_carried_takes_effect() -> None:
    """Of a file that is carried whole, taking any one directive out changes what comes of it."""
    whole = of_nginx(RICH)
    assert (whole.left, whole.changed, whole.faults) == ({}, {}, ())
    lines = RICH.splitlines()
    for number, line in enumerate(lines):
        if line.strip().endswith(";"):
            without = of_nginx("\n".join((*lines[:number], *lines[number + 1 :])))
            assert without.settings != whole.settings, line
            assert_sound(RICH, whole)


def test_a_whole_file_becomes_what_it_says() -> None:
    """The file above, as it is written here."""
    settings = of_nginx(RICH).settings
    common = {
        "timeouts": {"connect": "2s", "first_byte": "5m", "first_token": "5m", "idle": "5m"},
        "tls": {"server_name": "api.example.com"},
        "headers": {"set": {"X-Team": "blue"}, "deny": ["Cookie"]},
        "idle_connections": 32,
        "keepalive": "7s",
    }
    assert settings == {
        "listen": "127.0.0.1:8090",
        "admin": "127.0.0.1:9464",
        "defaults": {"retry": {"attempts": 2}},
        "upstreams": {
            "gpu-1": {"base_url": "https://10.0.0.1:8000/v1", **common, "limits": {"concurrency": 100}},
            "gpu-2": {"base_url": "https://10.0.0.2:8000/v1", **common},
            "gpu-3": {"base_url": "https://10.0.0.3:80/v1", **common},
        },
        "models": {
            "*": {
                "pool": [
                    {"upstream": "gpu-1", "weight": 3},
                    {"upstream": "gpu-2", "tier": 2},
                    {"upstream": "gpu-3", "weight": 0},
                ],
                "choose": "least_in_flight",
            }
        },
        "requests": {
            "body_max": "50MiB",
            "form_max": "50MiB",
            "head_timeout": "20s",
            "body_timeout": "40s",
            "write_timeout": "1m",
            "keepalive": "1m5s",
        },
    }


KNOWN = sorted({name.split()[0] for name in (*nginx_reasons.NEEDLESS, *nginx_reasons.DIRECTIVES)})
DURATIONS = st.sampled_from(["5s", "0", "1h 2m", "x", "10ms", "99999999d", ""])
PASSES = st.sampled_from([
    "http://a", "http://b/v1/", "https://a/", "http://$x", "https://h.example/api/v1", f"http://u:{SECRET}@h",
    "http://a/{}", "unix:/x", "http://127.0.0.1:8080",
])  # fmt: skip
HEADERS = st.sampled_from([
    f'Authorization "Bearer {SECRET}"', "Authorization $http_authorization", f"api-key {SECRET}", f"X-Token {SECRET}",
    "Host $host", "Host h", 'Connection ""', "X-A b", "x-a c", 'X-A ""', 'X-B "a\nb"', "X-C", "X-D $remote_addr",
    f'authorization "Basic {SECRET}"',
])  # fmt: skip
ANY = st.builds("{} {};".format, st.sampled_from([*KNOWN, "never_heard_of"]), st.sampled_from(["", "off", "on", "a b"]))
IN_LOCATION = st.one_of(
    st.builds("proxy_pass {};".format, PASSES), st.builds("proxy_set_header {};".format, HEADERS),
    st.builds("{} {};".format, st.sampled_from(["proxy_read_timeout", "proxy_connect_timeout"]), DURATIONS), ANY,
    st.builds("client_max_body_size {};".format, st.sampled_from(["1m", "0", "x", "2g", "9999999999g"])),
)  # fmt: skip
PATHS = st.sampled_from(["/", "/v1", "/v1/", "= /v1/models", "~ ^/v1", "/api/", "@named", "/v1x", ""])
LOCATIONS = st.builds(
    lambda path, inside, nested: f"location {path} {{ {' '.join(inside)} {nested} }}",
    PATHS, st.lists(IN_LOCATION, max_size=5),
    st.sampled_from(["", "location /v1/a { proxy_pass http://a; }", "if (x) { a; }"]),
)  # fmt: skip
LISTENS = st.sampled_from([
    "listen 80;", "listen 443 ssl;", "listen [::]:80;", "listen 127.0.0.1:9464;", "listen unix:/x;", "listen a:b;",
    "listen 0;", "listen;", "listen 999999;", "listen localhost:8000;",
])  # fmt: skip
SERVERS = st.builds(
    lambda listens, inside: f"server {{ {' '.join((*listens, *inside))} }}",
    st.lists(LISTENS, max_size=2), st.lists(LOCATIONS | IN_LOCATION, max_size=4),
)  # fmt: skip
PARAMETERS = st.lists(
    st.sampled_from([
        "weight=2", "weight=0", "max_conns=9", "max_conns=0", "max_fails=3", "max_fails=0", "fail_timeout=5s",
        "fail_timeout=x", "fail_timeout=10m", "backup", "down", "resolve", "slow_start=3s", "weight=99999999",
    ]), max_size=3,
)  # fmt: skip
IN_UPSTREAM = st.one_of(
    st.builds(
        lambda address, parameters: f"server {address} {' '.join(parameters)};",
        st.sampled_from(["10.0.0.1:80", "10.0.0.1", "[::1]:8080", "unix:/x", "h.example:1", "a_b", "$x", "h:0", ""]),
        PARAMETERS,
    ),
    st.sampled_from(["least_conn;", "ip_hash;", "random two;", "random;", "keepalive 3;", "keepalive x;", "zone a;"]),
)  # fmt: skip
UPSTREAMS = st.builds(
    lambda name, inside: f"upstream {name} {{ {' '.join(inside)} }}",
    st.sampled_from(["a", "b", '"a b"', ""]), st.lists(IN_UPSTREAM, max_size=4),
)  # fmt: skip


@given(st.lists(UPSTREAMS | SERVERS | ANY, max_size=5), st.booleans())
def test_what_comes_of_a_file_is_good(parts: list[str], is_whole: bool) -> None:
    """A file of nginx's kind, with right and wrong values, loses nothing and becomes a file that `check` finds good."""
    text = "\n".join(parts)
    if is_whole:
        text = f"events {{ }}\nhttp {{\n{text}\n}}"
    try:
        parse(text)
    except SyntaxFault:
        return
    assert_sound(text, of_nginx(text))


# Names


def test_a_pool_is_known_by_the_name_it_is_given() -> None:
    """One pool serves every name; of several each has its own; and `--model` gives others."""
    one = "upstream a { server 10.0.0.1:80; }\nserver { location / { proxy_pass http://a; } }\n"
    two = one + "upstream b { server 10.0.0.2:80; }\nserver { location /b/ { proxy_pass http://b/v1/; } }\n"
    assert list(of_nginx(one).settings["models"]) == ["*"]
    made = of_nginx(two)
    assert list(made.settings["models"]) == ["a", "b"]
    assert "--model" in made.changed["upstream a > name"]
    made = of_nginx(two, {"gpt": "a", "qwen": "a", "a": "b"})
    assert list(made.settings["models"]) == ["gpt", "qwen", "a"]
    assert made.settings["models"]["a"]["pool"] == [{"upstream": "b"}]
    assert list(of_nginx(two, {"b": "a"}).settings["models"]) == ["b", "b-2"]
    with pytest.raises(Unusable, match=r"'c'.*a, b"):
        of_nginx(two, {"m": "c"})


def test_a_host_that_is_passed_to_is_a_pool_of_one() -> None:
    """Without an `upstream` block the host of `proxy_pass` itself is the upstream."""
    made = of_nginx("server { location /v1/ { proxy_pass https://api.example.com; } }")
    assert made.settings["upstreams"] == {"api.example.com": {"base_url": "https://api.example.com/v1"}}
    assert made.settings["models"]["*"] == {"pool": [{"upstream": "api.example.com"}]}


@pytest.mark.parametrize(
    ("path", "uri", "expected"),
    [
        ("/", "", "/v1"),
        ("/v1/", "", "/v1"),
        ("/v1", "/v1", "/v1"),
        ("/v1/", "/openai/v1/", "/openai/v1"),
        ("/v1/", "/", ""),
        ("/api/v1/", "", "/api/v1"),
        ("= /v1/chat/completions", "", "/v1"),
        ("/v1/chat/completions", "/x/chat/completions", "/x"),
        ("/gpu/", "/v1/", "/v1"),
        ("/gpu/", "/", "/v1"),
        ("/gpu/", "", "/gpu/v1"),
    ],
)
def test_paths_end_at_our_v1(path: str, uri: str, expected: str) -> None:
    """What a client's `/v1` is on the server follows from the location's path and that of `proxy_pass`."""
    made = located(f"proxy_pass http://u{uri};", path=path)
    assert made.settings["upstreams"]["u"]["base_url"] == f"http://10.0.0.1:8000{expected}"
    assert "bare_paths" not in made.settings


def test_paths_without_v1_stay_possible() -> None:
    """Where nginx adds `/v1` to every path, clients write none; they may go on so."""
    assert located("proxy_pass http://u/v1/;").settings["bare_paths"] is True


@pytest.mark.parametrize(
    ("inside", "path", "why"),
    [
        ("return 200;", "/", "no proxy_pass"),
        ("proxy_pass http://u;", "~ ^/v1", "no plain path"),
        ("proxy_pass http://$name;", "/", "for each request"),
        ("proxy_pass http://u/other;", "/v1/chat", "another end"),
        ("proxy_pass http://user:pw@h/;", "/", "must not hold a user"),
    ],
)
def test_a_location_that_is_not_carried_says_why(inside: str, path: str, why: str) -> None:
    """It is told as a whole, and so is the upstream that nothing else passes to."""
    made = located(inside, path=path)
    (text,) = [text for place, text in made.left.items() if "location" in place]
    assert why in text
    assert made.draft.models == {}
    assert "no location" in made.left["upstream u"]


def test_one_way_to_an_upstream() -> None:
    """A second location with the same settings is the same; with others it is told, and nothing of it takes effect."""
    again = "location /v1/embeddings { proxy_pass http://u; }"
    assert located("proxy_pass http://u;", more=again).left == {}
    other = "location /v1/x { proxy_pass http://u; proxy_read_timeout 9s; proxy_next_upstream_tries 7; }"
    made = located("proxy_pass http://u;", more=other)
    assert "line 3" in made.left["server > location /v1/x"]
    assert "defaults" not in made.settings


# Single directives


def test_a_credential_becomes_a_reference() -> None:
    """Bearer and api-key headers are sent as `api_key` from a variable that is named; others are told, never shown."""
    made = located(f'proxy_pass http://u; proxy_set_header Authorization "Bearer {SECRET}";')
    assert made.settings["upstreams"]["u"]["api_key"] == {"env": "ROUTER_U_KEY"}
    assert "ROUTER_U_KEY" in made.changed["server > location / > proxy_set_header Authorization"]
    assert_sound("", made)
    made = located(f"proxy_pass http://u; proxy_set_header api-key {SECRET}; proxy_set_header X-Token {SECRET};")
    assert made.settings["upstreams"]["u"]["auth"] == "api-key"
    assert list(made.left) == ["server > location / > proxy_set_header X-Token"]
    assert_sound("", made)
    made = located("proxy_pass http://u; proxy_set_header Authorization $http_authorization;")
    assert "api_key" not in made.settings["upstreams"]["u"]
    assert "for the router alone" in next(iter(made.left.values()))


def test_the_innermost_directive_counts() -> None:
    """What stands nearest to `proxy_pass` holds; headers of an inner level hide all of the outer ones."""
    made = of_nginx(
        "proxy_read_timeout 1s;\nproxy_set_header X-A a;\nserver { proxy_read_timeout 2s;\n"
        "location / { proxy_pass http://h; proxy_set_header X-B b; } }"
    )
    assert made.settings["upstreams"]["h"] == {
        "base_url": "http://h/v1",
        "timeouts": {"first_byte": "2s", "first_token": "2s", "idle": "2s"},
        "headers": {"set": {"X-B": "b"}},
    }
    assert list(made.left) == ["proxy_read_timeout", "proxy_set_header X-A"]


def test_when_a_server_is_taken_out_is_one_setting() -> None:
    """If all servers agree it is carried; where they differ each is told; never is none of the choices."""
    made = pooled("server a:1 max_fails=3 fail_timeout=10m; server b:1 max_fails=3 fail_timeout=10m;")
    assert made.settings["defaults"]["ejection"] == {"consecutive": 3, "eject": "10m", "eject_max": "10m"}
    assert len(made.changed) == 4
    made = pooled("server a:1 max_fails=3; server b:1 max_fails=4;")
    assert ("defaults" in made.settings, len(made.left)) == (False, 2)
    assert "always" in next(iter(pooled("server a:1 max_fails=0;").left.values()))


def test_members_are_chosen_as_nginx_does() -> None:
    """In turn if nothing is said; by what is in flight; two at random; anything else is told."""
    chosen = {
        "": ("round_robin", 0),
        "least_conn;": ("least_in_flight", 0),
        "random two least_conn;": ("two_choices", 0),
        "ip_hash;": ("round_robin", 1),
    }
    for said, (expected, left) in chosen.items():
        made = pooled(f"{said} server a:1;")
        assert (made.settings["models"]["*"]["choose"], len(made.left)) == (expected, left)


@pytest.mark.parametrize(
    ("listen", "expected", "is_left"),
    [
        ("", "127.0.0.1:8080", False),
        ("listen 80;", "127.0.0.1:80", False),
        ("listen [::]:8000;", "127.0.0.1:8000", False),
        ("listen 443 ssl;", "127.0.0.1:8080", True),
        ("listen unix:/x;", "127.0.0.1:8080", True),
        ("listen 81; listen 82;", "127.0.0.1:81", True),
        ("listen example.com;", "127.0.0.1:80", False),
    ],
)
def test_where_it_listens(listen: str, expected: str, is_left: bool) -> None:
    """The first plain port is taken, for this machine alone: an nginx file says nothing of keys."""
    made = located("proxy_pass http://u;", more=listen)
    assert made.settings["listen"] == expected
    assert bool(made.left) is is_left


def test_bodies_have_one_bound() -> None:
    """The largest of all bounds is taken; no bound at all is told."""
    made = located("proxy_pass http://u; client_max_body_size 2g;", more="client_max_body_size 1m;")
    assert made.settings["requests"] == {"body_max": "2GiB", "form_max": "2GiB", "bodies_total_max": "2GiB"}
    assert "bound" in next(iter(located("proxy_pass http://u; client_max_body_size 0;").left.values()))


def test_maps_are_told_without_what_is_in_them() -> None:
    """A map often holds the keys of clients: it is told as one thing, by its name."""
    made = of_nginx(f"map $http_authorization $team {{ 'Bearer {SECRET}' blue; }}\nset $x {SECRET};\nauth {SECRET};")
    assert sorted(made.left) == ["auth", "map", "set"]
    assert_sound("", made)
