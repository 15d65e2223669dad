from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.config.files import MODELS, pem_files, read, texts

if TYPE_CHECKING:
    from pathlib import Path


def upstream(settings: str, url: str = "https://h/v1") -> str:
    return f"upstreams: {{a: {{base_url: '{url}', {settings}}}}}\n{MODELS}"


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("ftp://h/v1", "must begin with http:// or https://"),
        ("http://u:hunter2@h/v1", "must not hold a user or password; credentials belong under api_key"),
        ("http://h/v1?x=1", "must end with its path; a query belongs under query"),
        ("http://h{1..2/v1", "braces hold one range of numbers, as in {1..4}, and nothing else"),
        ("http://127.0.0.1:8080/v1", "leads back to the router's own `listen` address 127.0.0.1:8080"),
        ("http://localhost:9464", "leads back to the router's own `admin` address 127.0.0.1:9464"),
        ("http://127.0.0.{0..4}:8080", "leads back to the router's own `listen` address 127.0.0.1:8080"),
    ],
)
def test_a_base_url_that_cannot_be_used_is_told(url: str, what: str) -> None:
    """Wrong schemes, passwords, queries, broken ranges and circles through the router itself are faults."""
    assert texts(upstream("", url)) == [f"upstreams.a.base_url: {what}"]


def test_the_slash_at_the_end_is_dropped() -> None:
    """With or without a slash at its end a base URL is the same."""
    assert read(upstream("", "https://h/v1/")).config.upstreams["a"].base_url == "https://h/v1"


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("api_key: {env: K}, api_keys: [{env: L}]", "api_keys: give api_key or api_keys, not both"),
        ("auth: none, api_key: {env: K}", "auth: `none` sends no credential, but one is given"),
        ("auth: bearer", "auth: says how a credential is sent, but api_key is missing"),
        ("query: {'': x}", "query.'': names must not be empty, nor names or values hold control characters"),
        ('query: {a: "x\\ny"}', "query.a: names must not be empty, nor names or values hold control characters"),
        ("tls: {server_name: a b}", "tls.server_name: is not the name of a host"),
        ("headers: {set: {Host: x}}", "headers.set.Host: belongs to the connection; the router decides about it"),
        (
            "headers: {set: {Content-Length: '1'}}",
            ("headers.set.Content-Length: belongs to the connection; the router decides about it"),
        ),
        (
            "headers: {set: {transfer-encoding: x}}",
            ("headers.set.transfer-encoding: belongs to the connection; the router decides about it"),
        ),
        ("headers: {set: {authorization: hunter2}}", "headers.set.authorization: is set from api_key and auth"),
        ("headers: {set: {X-Api-Key: hunter2}}", "headers.set.X-Api-Key: is set from api_key and auth"),
        ("headers: {set: {'a b': x}}", "headers.set.'a b': is not the name of a header"),
        ("headers: {set: {X-A: x, x-a: y}}", "headers.set.x-a: is the same header as X-A"),
        (
            'headers: {set: {x: "hunter2\\r\\ny: z"}}',
            ("headers.set.x: the value has a line break, a control character, space around it or is not Latin-1"),
        ),
        (
            "headers: {set: {x: λ}}",
            ("headers.set.x: the value has a line break, a control character, space around it or is not Latin-1"),
        ),
        (
            "headers: {set: {x: 5}}",
            ("headers.set.x: expected text, found a number; text that looks like something else wants quotes"),
        ),
        ("headers: {deny: [host]}", "headers.deny[0]: belongs to the connection; the router decides about it"),
        ("headers: {deny: ['']}", "headers.deny[0]: is not the name of a header"),
        (
            "headers: {forward: [Authorization]}",
            ("headers.forward[0]: would send the client's credential for this router to the upstream"),
        ),
        ("headers: {deny: [cookie], forward: [Cookie]}", "headers.forward[0]: is under deny as well"),
        (
            "headers: {allow: [default, Host]}",
            "headers.allow[1]: belongs to the connection; the router decides about it",
        ),
        ("headers: {allow: [a b]}", "headers.allow[0]: is not the name of a header"),
        (
            "headers: {allow: [Api-Key]}",
            "headers.allow[0]: would send the client's credential for this router to the upstream",
        ),
        (
            "headers: {allow: [accept, Cookie]}",
            "headers.allow[1]: is dropped for safety; name it under forward, which is enough",
        ),
        ("headers: {allow: [X-A], deny: [x-a]}", "headers.allow[0]: is under deny as well"),
        (
            "headers: {allow: accept}",
            "headers.allow: expected a list, found text; a list of one is written [value]",
        ),
        ("drop_params: [store, model]", "drop_params[1]: `model` cannot be left out"),
        ("drop_params: ['']", "drop_params[0]: is not the name of a parameter"),
        ('drop_params: ["a\\nb"]', "drop_params[0]: is not the name of a parameter"),
        (
            "max_tokens_field: max-tokens",
            (
                "max_tokens_field: 'max-tokens' is not one of max_tokens, max_completion_tokens, "
                "did you mean 'max_tokens'?"
            ),
        ),
        ("protocol: antropic", "protocol: 'antropic' is not one of openai, anthropic, did you mean 'anthropic'?"),
        ("path_for: [chat]", "path_for: says where path is used, but path is missing"),
        ("path: '/x{path}', path_for: [a/b]", "path_for[0]: is not one step of a path, such as chat"),
        (
            "path: '/{model}'",
            "path: without {path} asks for the same thing everywhere; say under path_for where it is meant",
        ),
    ],
)
def test_settings_of_an_upstream_that_cannot_be_are_told(settings: str, fault: str) -> None:
    """Credentials, headers, paths and parameters are checked before anything is sent, and no value is repeated."""
    assert texts(upstream(settings), {"K": "1", "L": "2"}) == [f"upstreams.a.{fault}"]


@pytest.mark.parametrize(
    "template",
    [
        "", "x{path}", "/{modle}{path}", "/a/../m{path}", "/a/..{path}", "/.{path}", "//a{path}", "/a/{path}",
        "/a{path}?b=c", "/a{path}#b", "/a b{path}", "/%zz{path}", "/é{path}", "/{{model}}{path}", "{path}{path", "/a{}",
    ],
)  # fmt: skip
def test_a_path_that_cannot_be_asked_for_is_told(template: str) -> None:
    """Queries, ways up, broken escapes, signs that must be escaped and words that stand for nothing are faults."""
    what = "must be a path with {model} and {path} in it, as in /deployments/{model}{path}"
    assert texts(upstream(f"path: '{template}'")) == [f"upstreams.a.path: {what}"]


def test_what_is_usual_passes(tmp_path: Path) -> None:
    """Headers, query and certificates as operators write them are no faults."""
    pem_files(tmp_path)
    settings = (
        "api_key: {env: K}, auth: api-key, query: {api-version: 2026-01-01, empty: ''}, "
        "headers: {set: {X-Title: a b, x-empty: '', x-latin: é}, deny: [x-internal], forward: [OpenAI-Project], "
        "allow: [Default, default, Accept, X-Title, X-Own]}, path: '/v%31/{model}:x{path}', drop_params: [store, a.b], "
        "tls: {ca: ca.pem, server_name: other.example, cert: cert.pem, key: key.pem}, "
        "proxy: {url: 'http://[::1]:3128/', username: me, password: {env: P}}"
    )
    config = read(upstream(settings), {"K": "1", "P": "2"}, tmp_path).config
    tls = config.upstreams["a"].tls
    assert (tls.ca, tls.cert, tls.key) == tuple(str(tmp_path / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    without_path = "path: '/{model}', path_for: [chat, v2.x]"
    assert read(upstream(without_path)).config.upstreams["a"].path_for == ("chat", "v2.x")


def test_tls_is_for_https(tmp_path: Path) -> None:
    """TLS settings on a plain connection would promise what is not so."""
    pem_files(tmp_path)
    settings = "tls: {ca: ca.pem, server_name: x, cert: cert.pem, key: key.pem}"
    assert texts(upstream(settings, "http://h"), directory=tmp_path) == [
        f"upstreams.a.tls.{name}: has no meaning for an http:// base_url"
        for name in ("ca", "server_name", "cert", "key")
    ]


@pytest.mark.parametrize(
    ("proxy", "fault"),
    [
        ("{}", "proxy.url: is missing"),
        (
            "{url: 'https://p:1'}",
            "proxy.url: must begin with http://; a proxy that is itself reached by TLS cannot be used",
        ),
        ("{url: 'socks5://p:1'}", "proxy.url: must begin with http:// or https://"),
        ("{url: 'p:3128'}", "proxy.url: must begin with http:// or https://"),
        (
            "{url: 'http://u:hunter2@p:1'}",
            "proxy.url: must not hold a user or password; they belong under username and password",
        ),
        ("{url: 'http://p:1/x'}", "proxy.url: must end with its port"),
        ("{url: 'http://p'}", "proxy.url: names no port, as in http://proxy:3128"),
        ("{url: 'http://127.0.0.1:8080'}", "proxy.url: leads back to the router's own `listen` address 127.0.0.1:8080"),
        (
            "{url: 'http://p:1', username: 'a:b'}",
            "proxy.username: must not be empty, nor hold colons or control characters",
        ),
        (
            "{url: 'http://p:1', username: ''}",
            "proxy.username: must not be empty, nor hold colons or control characters",
        ),
        ("{url: 'http://p:1', password: {env: K}}", "proxy.password: needs username"),
        (
            "{url: 'http://p:1', username: u, authorization: {env: K}}",
            "proxy.authorization: stands in place of username and password; give one of the two",
        ),
        ("{url: 'http://p:1', username: u, password: {env: NO}}", "proxy.password: environment variable NO is not set"),
        (
            "{url: 'http://p:1', username: u, password: hunter2}",
            (
                "proxy.password: expected {env: NAME}, {file: PATH} or {credential: NAME} "
                "(a secret never stands in this file), found text"
            ),
        ),
    ],
)
def test_a_proxy_that_cannot_be_used_is_told(proxy: str, fault: str) -> None:
    """A proxy has an http URL with a port, and credentials of one kind, and never one that the file holds."""
    assert texts(upstream(f"proxy: {proxy}"), {"K": "1"}) == [f"upstreams.a.{fault}"]


def test_a_faulty_credential_does_not_make_auth_a_fault() -> None:
    """When the credential could not be read, nothing is said about how it is sent."""
    assert texts(upstream("auth: bearer, api_key: 5551234")) == [
        (
            "upstreams.a.api_key: expected {env: NAME}, {file: PATH} or {credential: NAME} "
            "(a secret never stands in this file), found a number"
        )
    ]
