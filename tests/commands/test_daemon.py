"""The client of the admin listener: how it finds the daemon, what it shows it, and what may answer in its place."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from router.commands import daemon as client
from router.commands.daemon import Daemon, DaemonError
from router.commands.options import add_admin
from tests.commands.operating import Stranger, ask, write
from tests.config.files import pem_files
from tests.harness.program import command, running
from tests.harness.router import config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOKEN = "an operator's token"
UPSTREAM = "http://127.0.0.1:1/v1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "router.yaml"


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(client.TOKEN_VARIABLE, raising=False)


def find(*words: str | Path) -> Daemon:
    """What a command with these words would ask."""
    parser = argparse.ArgumentParser()
    add_admin(parser)
    return Daemon.find(parser.parse_args(list(map(str, words))))


def refused(*words: str | Path) -> DaemonError:
    with pytest.raises(DaemonError) as error:
        find(*words)
    assert len(error.value.lines) == 3
    return error.value


# Where it is


@pytest.mark.parametrize(("word", "place"), [
    ("127.0.0.1:1", "127.0.0.1:1"), ("[::1]:1", "[::1]:1"), (":1", "127.0.0.1:1"), ("0.0.0.0:1", "127.0.0.1:1"),
    ("http://h:1/", "h:1"), ("https://h.example", "https://h.example:443"), ("https://h:1", "https://h:1"),
    ("unix:/run/a.sock", "unix:/run/a.sock"),
])  # fmt: skip
def test_an_address_as_it_is_typed(word: str, place: str) -> None:
    """Every form in which an address is written is understood, an address of every interface as this machine's."""
    assert find("--admin", word).place == place


@pytest.mark.parametrize("word", ["", "h", "h:", "1", "h:99999", "ftp://h:1", "https://", "h:1/path", "a b:1"])
def test_what_is_no_address_is_told(word: str) -> None:
    """A slip in the address is the fault of who typed it: status 2."""
    assert refused("--admin", word).exit_status == 2


@pytest.mark.parametrize(("admin", "place"), [
    ("127.0.0.1:1", "127.0.0.1:1"), ("':1'", "127.0.0.1:1"), ("'[::]:1'", "[::1]:1"),
    ("[localhost:1, ':2']", "localhost:1"), ("{address: '127.0.0.1:1'}", "127.0.0.1:1"),
])  # fmt: skip
def test_an_address_in_the_file(path: Path, admin: str, place: str) -> None:
    """Without `--admin` the file says where: at its first admin address, whatever else is wrong in it."""
    write(path, f"admin: {admin}\nmodles: {{}}\nkeys: {{k: {{secret: {{env: NOBODY_HAS_SET_THIS}}}}}}\n")
    assert find("-c", path).place == place


def test_an_address_in_an_included_file(path: Path) -> None:
    """The setting may stand in any file of the configuration; a path in it begins where that file is."""
    (path.parent / "more").mkdir()
    write(path, "include: [more/admin.yaml]\n")
    write(path.parent / "more/admin.yaml", "admin: unix:admin.sock\n")
    assert find("-c", path).unix == path.parent / "more/admin.sock"


def test_a_file_without_an_address_has_the_default(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So has a configuration that is not where it is looked for by default: the daemon may run with another."""
    write(path, "models: {}\n")
    assert find("-c", path).place == "127.0.0.1:9464"
    monkeypatch.chdir(path.parent)
    assert find().place == "127.0.0.1:9464"


@pytest.mark.parametrize(("text", "why"), [
    ("admin: 9464\n", "`admin` is faulty"), ("a: [\n", "router.yaml:2:1"), ("admin: 127.0.0.1:0\n", "to the kernel"),
    ("\0", "U+0000"),
])  # fmt: skip
def test_a_file_that_does_not_say_where(path: Path, text: str, why: str) -> None:
    """A file in which nothing can be read is a fault of the configuration: why, and that there is `--admin`."""
    write(path, text)
    error = refused("-c", path)
    assert error.exit_status == 78
    assert why in error.lines[1]
    assert "--admin" in error.lines[2]


def test_a_file_that_is_not_there(path: Path) -> None:
    """A file that was named and is missing is told; nothing is guessed in its place."""
    assert refused("-c", path).exit_status == 78


# What it is shown


def test_tokens_by_precedence(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of its own wins over the variable, and that over what the configuration refers to."""
    (tmp_path / "own").write_text("own\n")
    (tmp_path / "configured").write_text("configured\n")
    write(path, "admin: 127.0.0.1:1\nadmin_token: {file: configured}\n")
    assert find("-c", path).token == "configured"
    monkeypatch.setenv(client.TOKEN_VARIABLE, "variable")
    assert find("-c", path).token == "variable"
    assert find("-c", path, "--token-file", tmp_path / "own").token == "own"


def test_the_token_in_the_file_is_for_the_address_in_the_file(path: Path, tmp_path: Path) -> None:
    """Whoever answers at another address is not shown it."""
    (tmp_path / "configured").write_text("configured\n")
    write(path, "admin: 127.0.0.1:1\nadmin_token: {file: configured}\n")
    assert find("-c", path, "--admin", "127.0.0.1:2").token is None


@pytest.mark.parametrize(
    "secret", ["{sha256: " + "0" * 64 + "}", "{file: not-here}", "{}", "{env: NOBODY_HAS_SET_THIS}"]
)
def test_a_token_that_cannot_be_known_is_not_shown(path: Path, secret: str) -> None:
    """A hash, or a file that only the daemon may read: it is asked without, and says what it wants."""
    write(path, f"admin_token: {secret}\n")
    assert find("-c", path).token is None


@pytest.mark.parametrize("content", [None, b"", b"a\nb\n", b"x" * 20_000, b"a\x1bb"])
def test_a_file_that_holds_no_token(tmp_path: Path, content: bytes | None) -> None:
    """A token file that cannot be read or holds something else is told, and never what is in it."""
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    error = refused("--admin", ":1", "--token-file", tmp_path / "token")
    assert error.exit_status == 2
    assert "xxx" not in "".join(error.lines)


def test_a_token_is_not_shown_by_accident() -> None:
    """What is logged of the client, by a traceback say, has no token in it."""
    assert TOKEN not in repr(Daemon(host="h", port=1, token=TOKEN))


async def test_the_daemon_wants_its_token(path: Path) -> None:
    """With `admin_token` an action needs it: without, it is told which options give it, and status 1."""
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    write(path, config(UPSTREAM, admin_token={"sha256": digest}))
    write(path.with_name("token"), TOKEN)
    write(path.with_name("wrong"), "another")
    async with running(path) as router:
        assert (await ask(router, "reload", "--token-file", str(path.with_name("token"))))[0] == 0
        for words in ((), ("--token-file", str(path.with_name("wrong")))):
            status, text, errors = await ask(router, "reload", *words)
            assert (status, text) == (1, "")
            what, why, cure = errors.splitlines()
            assert what.endswith("refuses")
            assert "401" in why
            assert "--token-file" in cure
            assert TOKEN not in errors


# Over what it is asked


async def test_a_unix_socket(path: Path) -> None:
    """A daemon whose admin address is a unix socket is found by its file, and by `--admin unix:PATH`."""
    write(path, config(UPSTREAM, admin="unix:admin.sock"))
    async with running(path):
        assert (await command("reload", "-c", path))[0] == 0
        assert (await command("reload", "--admin", f"unix:{path.parent}/admin.sock"))[0] == 0
        status, _, errors = await command("reload", "--admin", f"unix:{path.parent}/other.sock")
        assert (status, errors.splitlines()[1]) == (69, "No such file or directory")


def free_port() -> int:
    """A port that the file can name; the kernel gives it to nobody else for a while."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_tls_with_the_listeners_own_certificate(path: Path) -> None:
    """The certificate in the file is trusted, whatever name it is for; another one is not, and is told why."""
    pem_files(path.parent)
    tls = {"cert": "cert.pem", "key": "key.pem"}
    where = f"127.0.0.1:{free_port()}"
    write(path, config(UPSTREAM, admin={"address": where, "tls": tls}))
    async with running(path):
        address = f"https://{where}"
        assert (await command("reload", "-c", path))[0] == 0
        status, _, errors = await command("reload", "--admin", address)
        assert (status, "not trusted" in errors, "--ca-file" in errors) == (69, True, True)
        status, _, errors = await command("reload", "--admin", address, "--ca-file", path.with_name("ca.pem"))
        assert (status, "IP address mismatch" in errors) == (69, True)
        name = address.replace("127.0.0.1", "localhost")
        status, _, errors = await command("reload", "--admin", name, "--ca-file", path.with_name("ca.pem"))
        assert (status, "Hostname mismatch" in errors) == (69, True)
        status, _, errors = await command("reload", "--admin", address.removeprefix("https://"))
        assert (status, "Traceback" in errors) == (69, False)
        issued = trustme.CA().issue_cert("router.test")
        issued.cert_chain_pems[0].write_to_path(path.with_name("cert.pem"))
        status, _, errors = await command("reload", "-c", path)
        assert (status, "not trusted" in errors) == (69, True)


async def test_mutual_tls(path: Path) -> None:
    """A listener that lets in only who has a certificate is shown the one in `--client-cert`."""
    pem_files(path.parent)
    where = f"127.0.0.1:{free_port()}"
    tls = {"cert": "cert.pem", "key": "key.pem", "client_ca": "ca.pem"}
    write(path, config(UPSTREAM, admin={"address": where, "tls": tls}))
    both = path.with_name("both.pem")
    write(both, "".join(path.with_name(name).read_text() for name in ("key.pem", "cert.pem")))
    async with running(path):
        assert (await command("reload", "-c", path, "--client-cert", both))[0] == 0
        status, text, errors = await command("reload", "-c", path)
        assert (status, text, "Traceback" in errors) == (69, "", False)
        status, _, errors = await command("reload", "-c", path, "--client-cert", path.with_name("cert.pem"))
        assert (status, len(errors.splitlines())) == (2, 3)


@pytest.mark.parametrize("content", [None, "nothing"])
async def test_a_certificate_that_cannot_be_read_is_told(path: Path, content: str | None) -> None:
    """A file of authorities, or a certificate in the configuration, that is none: its name and what to do."""
    write(path, "admin: {address: '127.0.0.1:1', tls: {cert: cert.pem}}\n")
    if content is not None:
        write(path.with_name("cert.pem"), content)
    assert refused("-c", path).exit_status == 78
    assert refused("--admin", "https://h:1", "--ca-file", path.with_name("cert.pem")).exit_status == 2


# What answers


async def answered(make: Callable[[], Stranger], ask: Callable[[Daemon], Any], timeout_s: float = 5.0) -> Any:
    """Ask something that is no daemon; in a thread, since the client waits."""
    strangers: list[Stranger] = []

    def accept() -> Stranger:
        strangers.append(make())
        return strangers[-1]

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        return await asyncio.to_thread(ask, Daemon(host=host, port=port, timeout_s=timeout_s))
    finally:
        server.close()
        for stranger in strangers:
            stranger.hang_up()
        await asyncio.gather(*(stranger.gone.wait() for stranger in strangers))


def response(body: bytes, *, status: str = "200 OK", more: bytes = b"") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n".encode()
    return head + more + b"\r\n" + body


STRANGE = {
    "nothing": b"",
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a head without a length": b"HTTP/1.1 200 OK\r\n\r\n{}",
    "half a body": response(b"{}")[:-1],
    "no JSON": response(b"<html>"),
    "no UTF-8": response(b'"\xff"'),
    "another status": response(b"{}", status="404 Not Found"),
    "a way elsewhere": response(b"", status="302 Found", more=b"Location: http://127.0.0.1:1/\r\n"),
    "lines for ever": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000,
    "a line for ever": b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000,
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "an escape": response(json.dumps({"error": {"message": "\x1b[2J"}}).encode(), status="404 \x1b[2J"),
}


@pytest.mark.parametrize("kind", STRANGE)
async def test_something_else_answers(kind: str) -> None:
    """Whatever it says, it becomes three visible lines and status 69: no trace, and no way elsewhere is taken."""
    with pytest.raises(DaemonError) as error:
        await answered(lambda: Stranger(STRANGE[kind]), lambda daemon: daemon.get_json("/-/config"))
    assert error.value.exit_status == 69
    assert "\x1b" not in "".join(error.value.lines)


async def test_an_answer_that_never_ends_in_time() -> None:
    """The deadline is that of the whole answer: a byte now and then does not put it off, nor does silence."""

    class Dripping(Stranger):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._drip()

        def _drip(self) -> None:
            self._transport.write(b"x")
            if not self._transport.is_closing():
                asyncio.get_running_loop().call_later(0.05, self._drip)

    for make in (
        lambda: Stranger(b"", slowly=True),
        lambda: Dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", slowly=True),
        lambda: Dripping(b"HTTP/1.1 200 OK\r\nX: ", slowly=True),
    ):
        with pytest.raises(DaemonError) as error:
            await answered(make, lambda daemon: daemon.get("/"), timeout_s=0.5)
        assert error.value.lines[1] == "no answer within 0.5 s"


async def test_an_answer_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is longer than any answer of a daemon is not kept."""
    monkeypatch.setattr(client, "ANSWER_BYTES_MAX", 1000)
    with pytest.raises(DaemonError) as error:
        await answered(lambda: Stranger(response(b"x" * 1001)), lambda daemon: daemon.get("/"))
    assert "longer than 1000 bytes" in error.value.lines[1]
    assert await answered(lambda: Stranger(response(b"x" * 1000)), lambda daemon: daemon.get("/")) == b"x" * 1000


async def test_a_proxy_is_not_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that lead other programs to a proxy do not lead an operator's command, and its token, there."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    write(path, config(UPSTREAM))
    async with running(path) as router:
        assert (await ask(router, "reload"))[0] == 0


async def test_a_body_is_sent_as_json() -> None:
    """What is posted arrives as JSON with its length; the status and the decoded answer come back, whatever it is."""
    seen: list[bytes] = []

    class Listening(Stranger):
        def data_received(self, data: bytes) -> None:
            seen.append(data)
            super().data_received(data)

    answer = response(b'{"a": 1}', status="422 Unprocessable")
    told = await answered(lambda: Listening(answer), lambda daemon: daemon.post("/-/explain", {"model": "é"}))
    assert told == (422, {"a": 1})
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert b"POST /-/explain HTTP/1.1\r\n" in head + b"\r\n"
    assert b"content-type: application/json" in head.lower()
    assert json.loads(body or seen[1]) == {"model": "é"}
