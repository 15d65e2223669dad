from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from router.config.schema import FileName, Secret
from router.config.secrets import SECRET_CHARACTERS_MAX, Unresolved, resolve
from router.config.sources import Sources
from tests.config.files import MODELS, UPSTREAMS, read, texts

if TYPE_CHECKING:
    from pathlib import Path

HASH = hashlib.sha256(b"hunter2").hexdigest()


def upstream(settings: str) -> str:
    return f"upstreams: {{a: {{base_url: https://h/v1, {settings}}}}}\n{MODELS}"


def keys(settings: str) -> str:
    return f"{UPSTREAMS}{MODELS}keys:\n{settings}"


def test_each_kind_of_reference_is_resolved(tmp_path: Path) -> None:
    """Environment, files beside the configuration and systemd credentials give their secret without white space."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "key").write_text("\ufeff from-file \n")
    (tmp_path / "cred").write_text("from-credential\n")
    environ = {"NAME": " from-env\n", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    loaded = read(upstream("api_keys: [{env: NAME}, {file: sub/key}, {credential: cred}]"), environ, tmp_path)
    assert loaded.secrets == {
        Secret(env="NAME"): "from-env",
        Secret(file=FileName("sub/key")): "from-file",
        Secret(credential="cred"): "from-credential",
    }
    assert set(loaded.sources) == {tmp_path / "sub" / "key", tmp_path / "cred"}


def test_hashes_have_no_secret() -> None:
    """A key given by its hash is not among the resolved secrets."""
    assert read(keys(f"  k: {{secret: {{sha256: {HASH}}}}}")).secrets == {}


@pytest.mark.parametrize(
    ("reference", "fault"),
    [
        ("{env: UNSET}", "environment variable UNSET is not set"),
        ("{env: EMPTY}", "environment variable EMPTY is empty"),
        ("{env: BROKEN}", "environment variable BROKEN holds a line break, a control character or one outside Latin-1"),
        ("{env: GREEK}", "environment variable GREEK holds a line break, a control character or one outside Latin-1"),
        ("{env: LONG}", f"environment variable LONG is longer than {SECRET_CHARACTERS_MAX} characters"),
        ("{file: missing}", "file missing cannot be read: No such file or directory"),
        ("{file: empty}", "file empty is empty"),
        ("{file: binary}", "file binary is not text"),
        ("{file: .}", "file . cannot be read: Is a directory"),
        ("{credential: c}", "credential c: $CREDENTIALS_DIRECTORY is not set; systemd sets it for LoadCredential="),
    ],
)
def test_a_secret_that_cannot_be_used_is_told_by_its_reference(reference: str, fault: str, tmp_path: Path) -> None:
    """What is missing, empty or cannot be sent is refused, naming the reference and never a value."""
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    environ = {"EMPTY": " ", "BROKEN": "hunter2\nhunter2", "GREEK": "hunter2λ", "LONG": "hunter2" * 9999}
    found = texts(upstream(f"api_key: {reference}"), environ, tmp_path)
    assert found == [f"upstreams.a.api_key: {fault}"]


@pytest.mark.parametrize(
    ("reference", "fault"),
    [
        ("{}", "give exactly one of env, file, credential"),
        ("{env: A, file: b}", "give exactly one of env, file, credential, not env and file"),
        (
            f"{{sha256: {HASH}}}",
            ("sha256 is for client keys; what is sent to an upstream must be known: env, file or credential"),
        ),
        ("{env: sk-hunter2}", "env must be the name of an environment variable, not a value"),
        ("{credential: ../hunter2}", "credential must be the plain name of a file in $CREDENTIALS_DIRECTORY"),
        ("{credential: ..}", "credential must be the plain name of a file in $CREDENTIALS_DIRECTORY"),
        ('{file: "hunter2\\0"}', "file must be a path"),
        (
            "sk-hunter2",
            (
                "expected {env: NAME}, {file: PATH} or {credential: NAME} (a secret never stands in this file), "
                "found text"
            ),
        ),
    ],
)
def test_a_reference_that_is_none_is_told_without_repeating_it(reference: str, fault: str) -> None:
    """What may be a secret in the wrong place is not repeated."""
    assert texts(upstream(f"api_key: {reference}")) == [f"upstreams.a.api_key: {fault}"]


def test_a_short_hash_is_refused_without_repeating_it() -> None:
    """A key's hash is 64 hex digits; anything else may be the key itself."""
    assert texts(keys("  k: {secret: {sha256: sk-hunter2}}")) == ["keys.k.secret: sha256 must be 64 hex digits"]


def test_two_keys_must_not_have_one_secret(tmp_path: Path) -> None:
    """Who a client is would be undecided; secrets are compared by their hash, wherever they are kept."""
    (tmp_path / "f").write_text("hunter2\n")
    text = keys(
        f"  a: {{secret: {{sha256: {HASH.upper()}}}}}\n  b: {{secret: {{env: E}}}}\n  c: {{secret: {{file: f}}}}\n"
    )
    assert texts(text, {"E": "hunter2"}, tmp_path) == [
        "keys.b.secret: is the same secret as keys.a",
        "keys.c.secret: is the same secret as keys.a",
    ]


def test_two_credentials_of_an_upstream_must_differ() -> None:
    """The same credential twice would have two cooldowns; two upstreams may share one."""
    assert texts(upstream("api_keys: [{env: A}, {env: B}]"), {"A": "x", "B": "x"}) == [
        "upstreams.a.api_keys[1]: is the same secret as upstreams.a.api_keys[0]"
    ]
    shared = "upstreams: {a: {base_url: http://h, api_key: {env: A}}, b: {base_url: http://i, api_key: {env: A}}}\n"
    assert read(shared + MODELS, {"A": "x"}).secrets == {Secret(env="A"): "x"}


def test_a_missing_file_is_remembered(tmp_path: Path) -> None:
    """The file that was not there is among the sources, so that its arrival can be watched for."""
    sources = Sources()
    with pytest.raises(Unresolved):
        resolve(Secret(file=FileName("k")), directory=tmp_path, environ={}, sources=sources)
    assert sources.fingerprint == {tmp_path / "k": ""}


def test_the_secrets_of_a_proxy_are_looked_up() -> None:
    """Password and authorization are references like every credential, and may be the same as another's."""
    proxy = "proxy: {url: 'http://p:1', username: u, password: {env: K}}, api_key: {env: K}"
    assert read(upstream(proxy), {"K": "1"}).secrets == {Secret(env="K"): "1"}
    proxy = "proxy: {url: 'http://p:1', authorization: {env: A}}, api_key: {env: K}"
    assert read(upstream(proxy), {"K": "1", "A": "Bearer 2"}).secrets[Secret(env="A")] == "Bearer 2"
    assert texts(upstream(f"proxy: {{url: 'http://p:1', username: u, password: {{sha256: {HASH}}}}}")) == [
        (
            "upstreams.a.proxy.password: sha256 is for client keys; what is sent to an upstream must be known: "
            "env, file or credential"
        )
    ]


def test_a_new_password_of_a_proxy_is_a_change() -> None:
    """The digest knows it, so that a reload connects anew."""
    text = upstream("proxy: {url: 'http://p:1', username: u, password: {env: K}}")
    assert read(text, {"K": "1"}).digest != read(text, {"K": "2"}).digest
