"""Listeners must be bindable together, open to nobody by mistake, and able to prove who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.config import dump
from router.config.schema import FileName, Listen, Listener, ServerTls
from tests.config.files import MODELS, UPSTREAMS, faults, pem_files, read, texts

if TYPE_CHECKING:
    from pathlib import Path

REST = UPSTREAMS + MODELS
KEYS = f"keys: {{team: {{secret: {{sha256: {'0' * 64}}}}}}}\n"


def plain(address: str) -> tuple[Listener, ...]:
    return (Listener(address=Listen(address)),)


@pytest.mark.parametrize("setting", ["listen", "admin"])
@pytest.mark.parametrize("form", ["{0}", "[{0}]", '{{address: "{0}"}}', '[{{address: "{0}"}}]'])
def test_every_form_of_one_address_is_the_same(setting: str, form: str) -> None:
    """A bare address, a mapping, and lists of one of these are one listener; shown in the shortest of them."""
    loaded = read(f"{setting}: {form.format('127.0.0.1:1234')}\n{REST}")
    assert getattr(loaded.config, setting) == plain("127.0.0.1:1234")
    assert dump.effective(loaded)[setting] == "127.0.0.1:1234"


def test_several_listeners_are_several(tmp_path: Path) -> None:
    """Addresses and mappings may stand side by side, and what is shown of them reads as the same."""
    pem_files(tmp_path)
    text = (
        'listen: [127.0.0.1:1, {address: "[::1]:2", tls: {cert: cert.pem, key: key.pem, client_ca: ca.pem}},\n'
        '         {address: "unix:run/router.sock", mode: "0660"}]\n' + REST
    )
    loaded = read(text, directory=tmp_path)
    bare, secure, unix = loaded.config.listen
    assert bare == plain("127.0.0.1:1")[0]
    cert, key, client_ca = (FileName(tmp_path / file) for file in ("cert.pem", "key.pem", "ca.pem"))
    assert secure.tls == ServerTls(cert=cert, key=key, client_ca=client_ca)
    assert unix == Listener(address=Listen(f"unix:{tmp_path}/run/router.sock"), mode="0660")
    assert set(loaded.sources) == {tmp_path / file for file in ("cert.pem", "key.pem", "ca.pem")}
    again = read(dump.to_yaml(loaded).replace("(hidden)", "x"), directory=tmp_path)
    assert again.config.listen == loaded.config.listen


def test_nothing_below_the_name_is_the_default() -> None:
    """All of it commented out is as if it were not there; a list with nothing in it is a fault."""
    assert read("listen:\n" + REST).config.listen == plain("127.0.0.1:8080")
    assert texts("listen: []\n" + REST) == ["listen: names 0 addresses; it must be 1 to 64"]
    ports = ", ".join(f"127.0.0.1:{port}" for port in range(1, 66))
    assert texts(f"listen: [{ports}]\n" + REST) == ["listen: names 65 addresses; it must be 1 to 64"]


def test_without_keys_only_this_machine_is_served() -> None:
    """Open to everybody is never a default: every address but loopback and unix sockets needs keys."""
    advice = "without keys anybody could use it; give keys, or listen on 127.0.0.1"
    assert faults("listen: :8080\n" + REST) == [f"f:1:9: listen[0].address: {advice}"]
    assert faults("listen: [localhost:1, unix:/s, 10.0.0.1:1]\n" + REST) == [f"f:1:32: listen[2].address: {advice}"]
    assert read("listen: :8080\n" + REST + KEYS).config.listen == plain(":8080")
    assert read("listen: localhost:8080\n" + REST).config.listen == plain("localhost:8080")
    assert read("listen: unix:/s\nadmin: :1\n" + REST).config.listen == plain("unix:/s")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("listen: 127.0.0.1:9464", "listen[0].address: listen 127.0.0.1:9464 and admin 127.0.0.1:9464 "),
        ("listen: :9\nadmin: localhost:9", "admin[0].address: listen :9 and admin localhost:9 "),
        ('listen: [127.0.0.1:1, ":1"]', "listen[1].address: listen 127.0.0.1:1 and listen :1 "),
        ("listen: [unix:/a/b, unix:/a/./b]", "listen[1].address: listen unix:/a/b and listen unix:/a/./b "),
    ],
)
def test_listeners_must_differ(text: str, fault: str) -> None:
    """Two on one address is a fault, told at the later one or at the one that is written."""
    assert texts(f"{text}\n{REST}{KEYS}") == [fault + "are the same address"]


def test_ports_that_the_kernel_chooses_differ() -> None:
    """With port 0 no two listeners collide."""
    assert read("listen: [127.0.0.1:0, 127.0.0.1:0]\nadmin: 127.0.0.1:0\n" + REST).config.admin == plain("127.0.0.1:0")


@pytest.mark.parametrize(
    ("listener", "fault"),
    [
        ("{address: 127.0.0.1:1, mode: '0660'}", "mode: is for unix sockets"),
        ("{address: unix:/s, mode: '0x'}", 'mode: must be three octal digits, as in "0660"'),
        ("{address: unix:/s, mode: '4755'}", 'mode: must be three octal digits, as in "0660"'),
        (
            "{address: unix:/s, mode: 0660}",
            "mode: expected text, found a number; text that looks like something else wants quotes",
        ),
        ("{address: unix:/" + "s" * 107 + "}", "address: its path from the root is longer than 107 bytes"),
        (
            "{address: 'unix:'}",
            "address: after unix: stands the path of a file, as in unix:/run/llm-router/router.sock",
        ),
        (
            "{address: 'unix:/run/'}",
            "address: after unix: stands the path of a file, as in unix:/run/llm-router/router.sock",
        ),
        ("{mode: '0660'}", "address: is missing"),
        ("{address: 127.0.0.1:1, tls: {key: key.pem}}", "tls.cert: is missing"),
        (
            "{address: 127.0.0.1:1, tls: {cert: nope.pem}}",
            "tls.cert: file nope.pem cannot be read: No such file or directory",
        ),
        (
            "{address: 127.0.0.1:1, tls: {cert: cert.pem}}",
            "tls.cert: file cert.pem holds no private key in PEM form; say under key where it is",
        ),
        (
            "{address: 127.0.0.1:1, tls: {cert: cert.pem, key: key2.pem}}",
            "tls.key: file key2.pem does not belong to the certificate in file cert.pem",
        ),
        (
            "{address: 127.0.0.1:1, tls: {cert: cert.pem, key: key.pem, client_ca: key.pem}}",
            "tls.client_ca: file key.pem holds no certificate in PEM form",
        ),
    ],
)
def test_a_listener_that_cannot_be_is_told(tmp_path: Path, listener: str, fault: str) -> None:
    """Everything that can be known before the address is bound is told with its place."""
    pem_files(tmp_path)
    pem_files(tmp_path, ca="ca2.pem", cert="cert2.pem", key="key2.pem")
    assert texts(f"listen: [{listener}]\n{REST}", directory=tmp_path) == [f"listen[0].{fault}"]


def test_the_admin_token_is_no_clients_key() -> None:
    """Any form of secret will do, but a client's key must not open the operators' door."""
    sha256 = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"  # of "alice"
    assert read(f"admin_token: {{sha256: {sha256}}}\n{REST}").config.admin_token is not None
    loaded = read(f"admin_token: {{env: TOKEN}}\n{REST}", environ={"TOKEN": "alice"})
    assert "alice" not in dump.to_yaml(loaded)
    keys = f"keys: {{a: {{secret: {{sha256: {sha256}}}}}}}\nadmin_token: {{env: TOKEN}}\n"
    assert texts(keys + REST, environ={"TOKEN": "alice"}) == ["admin_token: is the same secret as keys.a"]
