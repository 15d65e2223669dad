"""The whole examination: everything that is wrong in one run, in order, and nothing that hangs or breaks it."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from router.doctor import upstream as one_upstream
from router.doctor.examination import AT_ONCE, UnknownUpstream
from router.doctor.findings import Notes
from tests.doctor.examining import ONE_KEY, SOON_S, about, examined, results, serving
from tests.harness.upstream import error, play, send

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.upstream import ScriptedUpstream


async def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Faults of the file, an address that is taken, upstreams that fail in different ways: one run names them all."""
    upstream.always(error(401))
    (tmp_path / "secret").write_text("sk-unauthorised-0123")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        found = await examined(
            tmp_path,
            f"""
            listen: 127.0.0.1:0
            admin: {where}
            upstreams:
              refuses: {{base_url: "http://127.0.0.1:1/v1"}}
              unknown: {{base_url: "https://name.invalid/v1", api_key: {{env: NOBODY_SET}}}}
              unauthorised: {{base_url: "{upstream.base_url}", api_key: {{file: secret}}}}
              broken: {{base_url: "http://127.0.0.1:2/v1", keepalive: never}}
            models:
              m: {{pool: [refuses, unauthorised, nobody]}}
            """,
            only=(),
            timeout_s=SOON_S,
            room=10,
        )
    failed = {(each.subject, each.check) for each in found if each.result == "fail"}
    assert failed == {
        ("configuration", "file"),
        ("machine", f"admin {where}"),
        ("refuses", "tcp"),
        ("unknown", "dns"),
        ("unauthorised", "credential"),
    }
    faults = [each.found for each in found if (each.check, each.result) == ("file", "fail")]
    assert [word for word in ("NOBODY_SET", "keepalive", "nobody") if not any(word in fault for fault in faults)] == []
    assert ("descriptors", "warn") in results(found, "machine")
    assert all(each.cure for each in found if each.result != "ok")


async def test_warnings_are_told(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """What `check` warns of is a warning here, with its place."""
    settings = serving(upstream.base_url)
    settings["models"]["m"] = {"pool": [{"upstream": "first", "weight": 0}]}
    found = await examined(tmp_path, settings)
    assert results(found, "configuration") == [("file", "warn"), ("file", "ok")]
    assert "models.m.pool: every member of tier 1 has weight 0" in found[0].found


async def test_a_healthy_whole(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Nothing fails where nothing is wrong, and subjects come in their order."""
    found = await examined(tmp_path, serving(upstream.base_url), only=())
    assert [each for each in found if each.result == "fail"] == []
    subjects = list(dict.fromkeys(each.subject for each in found))
    assert subjects == ["configuration", "machine", "first"]


async def test_only_some_are_examined(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """The name of a range stands for all it declares; the machine is then not looked at."""
    settings = serving(upstream.base_url)
    settings["upstreams"]["gpu"] = {"base_url": "http://127.0.0.{1..2}:" + f"{upstream.port}/v1"}
    settings["models"]["n"] = "gpu"
    found = await examined(tmp_path, settings, only=["gpu"])
    assert {each.subject for each in found} == {"configuration", "gpu-1", "gpu-2"}


async def test_an_upstream_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """With the name that may be meant; of a file with faults it may be the one that cannot be read."""
    settings = serving("http://127.0.0.1:1/v1")
    with pytest.raises(UnknownUpstream, match="did you mean 'first'"):
        await examined(tmp_path, settings, only=["frist"])
    found = await examined(tmp_path, settings | {"listen": "nowhere"}, only=["frist"])
    assert results(found, "configuration") == [("file", "fail")]


async def test_upstreams_are_examined_side_by_side_and_not_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many at once as the bound says and no more, and all of them in the end, in the order of the file."""
    begun: list[str] = []
    go_on = asyncio.Event()

    async def waits(wire: Any, loaded: Any, **options: Any) -> Any:
        del loaded, options
        begun.append(wire.name)
        if len(begun) == AT_ONCE:
            for _ in range(100):  # turns of the loop, in which any other that may begin does
                await asyncio.sleep(0)
            assert len(begun) == AT_ONCE
            go_on.set()
        await go_on.wait()
        notes = Notes(wire.name)
        notes.ok("asked", "")
        return notes.findings, []

    monkeypatch.setattr(one_upstream, "examine", waits)
    settings = serving("http://127.0.0.1:1/v1")
    names = [f"u{number}" for number in range(AT_ONCE + 4)]
    settings["upstreams"] = {name: {"base_url": f"http://127.0.0.1:{port}/v1"} for port, name in enumerate(names, 1)}
    settings["models"] = {"m": {"pool": names}}
    found = await examined(tmp_path, settings, only=names)
    assert results(found, "u0") == [("asked", "ok")], found
    assert [each.subject for each in found][1:] == names


async def test_without_its_credential_the_way_is_told(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """The secret is missing, which is a fault of its own: the upstream is reached, and not asked without it."""
    found = await examined(tmp_path, serving(upstream.base_url, api_key={"env": "NOBODY_SET"}))
    assert results(found, "configuration") == [("file", "fail")]
    assert results(found) == [("tcp", "ok")]
    assert upstream.received == []


async def test_a_fault_of_ours_is_a_finding(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What breaks while one upstream is examined is told about that one, and the others are examined."""
    settings = serving(upstream.base_url)
    settings["upstreams"]["second"] = {"base_url": upstream.base_url}
    settings["models"]["n"] = "second"
    real = one_upstream.examine

    async def breaks(wire: Any, loaded: Any, **options: Any) -> Any:
        if wire.name == "first":
            raise RuntimeError("oops")
        return await real(wire, loaded, **options)

    monkeypatch.setattr(one_upstream, "examine", breaks)
    found = await examined(tmp_path, settings, only=["first", "second"])
    assert "oops" in about(found, "examination").found
    assert about(found, "tcp", "second").result == "ok"


async def test_a_broken_upstream_ends_with_its_time_limit(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """A head that comes byte by byte for ever costs one time limit."""

    async def for_ever(turn: Any) -> None:
        await turn.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await turn.send(b"x: y\r\n")
            await asyncio.sleep(0.05)

    upstream.always(play(for_ever, send()))
    found = await examined(tmp_path, serving(upstream.base_url, api_key=ONE_KEY), timeout_s=SOON_S)
    assert results(found) == [("tcp", "ok"), ("credential", "fail")]
