"""The commands as an operator types them: the real program in a process of its own, its streams and exit status."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml

from router import __version__
from router.cli import GROUPS
from router.config import schema
from tests.harness import chat
from tests.harness.client import Client, Ending, post
from tests.harness.program import PATIENCE_S, ROOT, Running, command, program, running
from tests.harness.router import UPSTREAM_SECRET, config
from tests.harness.upstream import (
    ScriptedUpstream,
    chunks,
    last_chunk,
    play,
    sse_head,
    stall,
    wait_for,
)
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

COMMANDS = [module.NAME for modules in GROUPS.values() for module in modules]

FAULTY = """\
listen: 127.0.0.1:8080
upstreams:
  first: {base_url: "http://127.0.0.1:1/v1", keepalive: 5 parsecs}
  first: {base_url: "http://127.0.0.1:2/v1"}
models:
  m: {pool: [frist]}
  n: {pool: [first], chose: round_robin}
keys:
  team: {secret: {env: NOBODY_HAS_SET_THIS}}
"""
FAULTS = [(3, 57, "keepalive"), (4, 3, "first"), (6, 14, "frist"), (7, 22, "chose"), (9, 10, "NOBODY_HAS_SET_THIS")]
"""Line, column and a word of each."""


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    await scripted.start()
    yield scripted
    await scripted.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "router.yaml"


def write(path: Path, settings: dict[str, Any] | str) -> None:
    path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))


# What answers and ends


async def test_version_says_what_runs() -> None:
    """`version` names the router's version and the interpreter's, for a bug report."""
    python = ".".join(map(str, sys.version_info[:3]))
    assert await command("version") == (0, f"llm-router {__version__} (Python {python})\n", "")


async def test_help_fits_a_screen() -> None:
    """`--help` names every command and takes at most 40 lines of 80 columns; the help of a command takes 30."""
    told = await asyncio.gather(
        command("--help"), command("config", "show", "--help"), *(command(name, "--help") for name in COMMANDS)
    )
    for (status, text, errors), lines in zip(told, (40, *[30] * len(told)), strict=False):
        assert (status, errors) == (0, "")
        assert len(text.splitlines()) <= lines
        assert max(map(len, text.splitlines())) <= 80
    assert re.findall(r"(?m)^  (\w+)  ", told[0][1].partition("options:")[0]) == COMMANDS


async def test_a_wrong_command_line_is_told() -> None:
    """No command, an unknown one or an unknown option: status 2, the usage and the reason on standard error."""
    wrong: list[tuple[str, ...]] = [(), ("serve",), ("run", "--prot", "1"), ("config",)]
    for status, text, errors in await asyncio.gather(*(command(*words) for words in wrong)):
        assert (status, text) == (2, "")
        assert errors.startswith("usage: llm-router")
        assert "error: " in errors.splitlines()[-1]


async def test_a_good_file_is_good(path: Path) -> None:
    """`check` says in one line what the file declares; the file that comes with the router is good as it is."""
    write(path, config("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"))
    own, shipped = await asyncio.gather(command("check", "-c", path), command("check"))
    assert own == (0, f"{path}: good (1 models, 2 upstreams, 0 keys)\n", "")
    assert shipped[0] == 0
    assert shipped[1].startswith("config/router.yaml: good (")


async def test_a_quiet_check_says_only_what_is_wrong(path: Path) -> None:
    """With `--quiet` a good file is no line at all, and a faulty one is told as without."""
    write(path, config("http://127.0.0.1:1/v1"))
    assert await command("check", "--quiet", "-c", path) == (0, "", "")
    write(path, FAULTY)
    assert await command("check", "-q", "-c", path) == await command("check", "-c", path)


async def test_a_check_may_leave_credentials_out(path: Path) -> None:
    """With `--no-credentials` those of systemd need not be there; every other secret must, and so must their names."""
    settings = config("http://127.0.0.1:1/v1", upstream={"api_key": {"credential": "openai"}})
    write(
        path,
        settings | {"keys": {"a": {"secret": {"credential": "team-a"}}, "b": {"secret": {"credential": "team-b"}}}},
    )
    status, _, errors = await command("check", "-c", path)
    assert (status, errors.count("CREDENTIALS_DIRECTORY is not set")) == (78, 3)
    assert (await command("check", "--no-credentials", "-c", path))[0] == 0
    write(
        path, settings | {"keys": {"a": {"secret": {"credential": "../a"}}, "b": {"secret": {"env": "NOBODY_SET_IT"}}}}
    )
    status, _, errors = await command("check", "--no-credentials", "-c", path)
    assert (status, errors.count("NOBODY_SET_IT is not set"), errors.count("must be the plain name")) == (78, 1, 1)


async def test_every_fault_is_told_with_its_place(path: Path) -> None:
    """`check` names all faults of a file in their order, each with file, line, column and hint, and exits 78."""
    write(path, FAULTY)
    status, text, errors = await command("check", "-c", path)
    assert (status, text) == (78, "")
    *faults, advice = errors.splitlines()
    places = [re.match(r"(.*):(\d+):(\d+): \S+: ", fault) for fault in faults]
    assert all(places), errors
    told = [(Path(place[1]).name, int(place[2]), int(place[3])) for place in places if place]
    assert told == [(path.name, line, column) for line, column, _ in FAULTS]
    for fault, (_, _, word) in zip(faults, FAULTS, strict=True):
        assert word in fault
    assert "250ms" in faults[0], "an example of what would do"
    assert "did you mean 'first'?" in faults[2]
    assert "did you mean 'choose'?" in faults[3]
    assert advice == f"5 fault(s); mend the file and check it: llm-router check -c {path}"


@pytest.mark.parametrize("name", ["check", "config show", "run"])
async def test_a_file_that_cannot_be_read_is_told(path: Path, name: str) -> None:
    """A file that is not there, or a folder in its place, is status 78 with its name and no trace."""
    for wrong in (path, path.parent):
        status, text, errors = await command(*name.split(), "-c", wrong)
        assert (status, text) == (78, "")
        assert wrong.name in errors.splitlines()[0]
        assert "Traceback" not in errors


def missing_from(shown: Any, settings: type[msgspec.Struct], at: str = "") -> list[str]:
    """The settings with a default that `shown` does not show."""
    missing = []
    for it in msgspec.structs.fields(settings):
        if it.default is None or it.name in {"api_keys", "keys"}:  # nothing to show, or shown empty below
            continue
        if it.name not in shown:
            missing.append(f"{at}{it.name}")
        elif isinstance(it.type, type) and issubclass(it.type, schema.Settings):
            missing += missing_from(shown[it.name], it.type, f"{at}{it.name}.")
    return missing


async def test_config_show_fills_in_every_default_and_no_secret(path: Path) -> None:
    """`config show` prints each setting that has a default, however short the file; secrets stay references."""
    write(path, {"upstreams": config("http://127.0.0.1:1/v1")["upstreams"], "models": {"m": "first"}})
    status, text, errors = await command("config", "show", "-c", path)
    assert (status, errors) == (0, "")
    assert UPSTREAM_SECRET not in text
    shown = yaml.safe_load(text)
    assert shown["upstreams"]["first"]["api_key"] == {"env": "UPSTREAM_SECRET"}
    assert missing_from(shown, schema.Config) == []
    assert missing_from(shown["upstreams"]["first"], schema.Upstream, "upstreams.") == []
    assert missing_from(shown["models"]["m"], schema.Model, "models.") == []
    assert missing_from(shown["models"]["m"]["pool"][0], schema.Member, "pool.") == []
    assert shown["listen"] == "127.0.0.1:8080"


async def test_whoever_reads_may_have_seen_enough(path: Path) -> None:
    """A pipe whose reader is gone, as with `| head -1`, ends a command without a word, with SIGPIPE's status."""
    write(path, config("http://127.0.0.1:1/v1"))
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "router", "config", "show", "-c", str(path), "--no-env",
        cwd=ROOT, stdout=writing, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    os.close(writing)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (141, b"")


# The daemon


async def test_run_serves_reloads_and_stops(path: Path, upstream: ScriptedUpstream) -> None:
    """`run` answers clients; SIGHUP applies an edit and says so; SIGTERM ends it with status 0 and a whole log."""
    write(path, config(upstream))
    async with running(path) as router:
        assert "admin on 127.0.0.1:" in router.log[0]["detail"]
        async with await Client.connect(router.address) as client:
            await client.send(post(chat.request()))
            answer = await client.answer()
            assert (answer.status, answer.body) == (200, chat.completion())
            assert answer.header("x-router-upstream") is None
            write(path, config(upstream, debug={"headers": True}))
            router.signal(signal.SIGHUP)
            assert (await router.line("reload"))["result"] == "applied"
            await client.send(post(chat.request()))
            assert (await client.answer()).header("x-router-upstream") == "first"
            router.signal(signal.SIGTERM)
            assert await router.end() == 0
    assert [line["outcome"] for line in router.log if line["event"] == "exchange"] == ["ok", "ok"]
    assert [line["message"] for line in router.log if line["event"] == "notice"][1:] == ["stopping", "stopped"]
    assert UPSTREAM_SECRET not in json.dumps(router.log)


async def test_sighup_with_a_faulty_file_changes_nothing(path: Path, upstream: ScriptedUpstream) -> None:
    """The log names the fault with its place as an error, and the daemon goes on with what it has."""
    write(path, config(upstream))
    async with running(path) as router:
        write(path, "listen: 127.0.0.1:0\nmodles: {}\n")
        router.signal(signal.SIGHUP)
        rejected = await router.line("reload")
        assert (rejected["level"], rejected["result"]) == ("error", "rejected")
        assert any(":2:1: modles: " in fault for fault in rejected["faults"])
        async with await Client.connect(router.address) as client:
            await client.send(post(chat.request()))
            assert (await client.answer()).status == 200
        router.signal(signal.SIGTERM)
        assert await router.end() == 0


async def test_what_is_probably_not_meant_is_in_the_log(path: Path, upstream: ScriptedUpstream) -> None:
    """Warnings of `check` are notices at the start and at a reload, each with its place; they hinder neither."""
    unused = {"unused": {"base_url": "http://127.0.0.1:1/v1"}}
    settings = config(upstream)
    write(path, settings | {"upstreams": settings["upstreams"] | unused})
    async with running(path) as router:
        notice = await router.line("notice")
        assert (notice["level"], notice["message"]) == ("warning", "configuration: probably not meant")
        assert re.fullmatch(r".*router\.yaml:\d+:\d+: warning: upstreams\.unused: nothing uses it", notice["detail"])
        write(path, settings | {"upstreams": settings["upstreams"] | {"idle": unused["unused"]}})
        router.signal(signal.SIGHUP)
        assert "upstreams.idle" in (await router.line("notice"))["detail"]
        assert (await router.line("reload"))["result"] == "applied"


async def test_sighup_while_starting_does_no_harm(path: Path, upstream: ScriptedUpstream) -> None:
    """A reload that is asked for while the file is read for the first time does not end the program."""
    os.mkfifo(path)
    async with program("run", "-c", str(path)) as process:
        router = Running(process)
        opened: list[int] = []

        def is_reading() -> bool:
            try:
                opened.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:  # nobody reads yet
                assert process.returncode is None
                return False
            return True

        await until(is_reading, "the file is read", patience_s=PATIENCE_S)
        router.signal(signal.SIGHUP)
        with os.fdopen(opened[0], "wb") as file:
            file.write(yaml.safe_dump(config(upstream)).encode())
        await router.line("notice")
        async with await Client.connect(router.address) as client:
            await client.send(post(chat.request()))
            assert (await client.answer()).status == 200
        router.signal(signal.SIGTERM)
        assert await router.end() == 0


async def test_sigterm_lets_streams_finish(path: Path, upstream: ScriptedUpstream) -> None:
    """A stream that runs when SIGTERM comes ends as if nothing were, and its record is in the log."""
    go_on = asyncio.Event()
    upstream.always(
        play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())
    )
    write(path, config(upstream))
    async with running(path) as router, await Client.connect(router.address) as client:
        await client.send(post(chat.request(stream=True)))
        await client.head()
        await client.until(b'"a"')
        router.signal(signal.SIGTERM)
        assert (await router.line("notice"))["message"] == "stopping"
        go_on.set()
        answer = await client.rest()
        assert (answer.ending, answer.events[-1]) == (Ending.CLEAN, chat.DONE)
        assert await router.end() == 0
    assert [(line["outcome"], line["complete"]) for line in router.log if line["event"] == "exchange"] == [("ok", True)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_hurries(path: Path, upstream: ScriptedUpstream, number: signal.Signals) -> None:
    """Who asks twice does not wait for the drain: the stream is told, everything is logged, the status is 0."""
    upstream.always(play(sse_head(), chunks(chat.token("a")), stall()))
    write(path, config(upstream, stop={"notice": "10m", "drain": "10m"}))
    async with running(path) as router, await Client.connect(router.address) as client:
        await client.send(post(chat.request(stream=True)))
        await client.head()
        await client.until(b'"a"')
        router.signal(number)
        assert (await router.line("notice"))["message"] == "stopping"
        router.signal(number)
        answer = await client.rest()
        assert answer.ending is Ending.ABORTED
        assert b'"draining"' in answer.events[-1]
        assert await router.end() == 0
    assert [line["reason"] for line in router.log if line["event"] == "exchange"] == ["draining"]
    assert router.log[-1]["message"] == "stopped"


@pytest.mark.parametrize("setting", ["listen", "admin"])
async def test_an_address_that_is_taken_is_told(path: Path, setting: str) -> None:
    """Status 69, and at most three lines: what failed, why, and where to change it; nothing is served meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        write(path, config("http://127.0.0.1:1/v1") | {setting: address})
        status, _, errors = await command("run", "-c", path)
    assert status == 69
    assert len(errors.splitlines()) <= 3
    assert "cannot listen" in errors
    assert address.rpartition(":")[2] in errors, "which of the addresses it is"
    assert "in use" in errors
    assert f"`{setting}`" in errors, "what to change"
    assert "Traceback" not in errors


async def test_a_faulty_file_is_told_before_anything_is_bound(path: Path) -> None:
    """`run` reads the file first: with a taken address and a fault in one file, it is the fault that is told."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        write(path, config("http://127.0.0.1:1/v1", listen=address, errors={"code_style": "roman"}))
        status, text, errors = await command("run", "-c", path)
    assert (status, text) == (78, "")
    assert "errors.code_style" in errors.splitlines()[0]
