from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.config.files import MODELS, read, texts

if TYPE_CHECKING:
    from pathlib import Path

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


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
        ("tls: {ca: missing.pem}", "tls.ca: cannot be read: No such file or directory"),
        ("tls: {ca: empty.pem}", "tls.ca: holds no certificate in PEM form"),
        ('tls: {ca: "\\0"}', "tls.ca: is not a path"),
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
    ],
)
def test_settings_of_an_upstream_that_cannot_be_are_told(settings: str, fault: str, tmp_path: Path) -> None:
    """Credentials, headers, query and certificates are checked before anything is sent, and no value is repeated."""
    (tmp_path / "empty.pem").write_text("")
    assert texts(upstream(settings), {"K": "1", "L": "2"}, tmp_path) == [f"upstreams.a.{fault}"]


def test_what_is_usual_passes(tmp_path: Path) -> None:
    """Headers, query and certificates as operators write them are no faults."""
    (tmp_path / "ca.pem").write_text(PEM)
    settings = (
        "api_key: {env: K}, auth: api-key, query: {api-version: 2026-01-01, empty: ''}, "
        "headers: {set: {X-Title: a b, x-empty: '', x-latin: é}, deny: [x-internal], forward: [OpenAI-Project]}, "
        "tls: {ca: ca.pem, server_name: other.example}"
    )
    config = read(upstream(settings), {"K": "1"}, tmp_path).config
    assert config.upstreams["a"].tls.ca == str(tmp_path / "ca.pem")


def test_tls_is_for_https(tmp_path: Path) -> None:
    """TLS settings on a plain connection would promise what is not so."""
    (tmp_path / "ca.pem").write_text(PEM)
    assert texts(upstream("tls: {ca: ca.pem, server_name: x}", "http://h"), directory=tmp_path) == [
        "upstreams.a.tls.ca: has no meaning for an http:// base_url",
        "upstreams.a.tls.server_name: has no meaning for an http:// base_url",
    ]


def test_a_faulty_credential_does_not_make_auth_a_fault() -> None:
    """When the credential could not be read, nothing is said about how it is sent."""
    assert texts(upstream("auth: bearer, api_key: 5551234")) == [
        (
            "upstreams.a.api_key: expected {env: NAME}, {file: PATH} or {credential: NAME} "
            "(a secret never stands in this file), found a number"
        )
    ]
