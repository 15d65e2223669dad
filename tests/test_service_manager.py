"""What the service manager is told, and what it may hand over. The real systemd: tests/deploy/test_systemd.py."""

from __future__ import annotations

import itertools
import json
import math
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from router import service_manager
from router.config.loader import parse
from router.service_manager import EXTEND_S, STATUS_S, ServiceManager

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from router.config.schema import Config

ROOT = Path(__file__).parents[1]
PID = 4711

PATIENCE = f"EXTEND_TIMEOUT_USEC={EXTEND_S * 1e6:.0f}"


class Systemd:
    """The socket at which a service manager listens."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": address}

    def heard(self) -> list[str]:
        """Every line that was said since the last call."""
        lines: list[str] = []
        while True:
            try:
                lines += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return lines


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    listening = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path.name}-{os.getpid()}")
    yield listening
    listening.socket.close()


def manager(environ: Mapping[str, str]) -> ServiceManager:
    return ServiceManager(environ, pid=PID)


# What it is told


def test_it_is_told_of_every_turn(systemd: Systemd) -> None:
    """Ready, reloading since when, and stopping with a request for patience: as sd_notify(3) spells them."""
    told = manager(systemd.environ)
    told.ready()
    told.reloading()
    told.stopping()
    ready, reloading, since, *stopping = systemd.heard()
    assert (ready, reloading, stopping) == ("READY=1", "RELOADING=1", ["STOPPING=1", PATIENCE])
    assert since.removeprefix("MONOTONIC_USEC=").isdecimal()


@pytest.mark.parametrize("watchdog_s", [0.4, 2.0, 3.0, 30.0, 31.0])
def test_the_watchdog_is_fed_in_time_and_no_more_than_that(systemd: Systemd, watchdog_s: float) -> None:
    """With looks as far apart as the daemon's, no two meals are further apart than half of what the watchdog waits.

    Nor does a long one get one at every look.
    """
    fed = manager(systemd.environ | {"WATCHDOG_USEC": str(round(watchdog_s * 1e6)), "WATCHDOG_PID": str(PID)})
    pause_s = min(1.0, fed.look_s)
    meals = []
    for number in range(100):
        now = 1000 + number * pause_s
        fed.look(now, now + pause_s, lambda: "well", stopping=False)
        if "WATCHDOG=1" in systemd.heard():
            meals.append(now)
    gaps = {after - before for before, after in itertools.pairwise(meals)}
    assert meals[0] == 1000
    assert watchdog_s / 2 - pause_s <= min(gaps)
    assert max(gaps) <= watchdog_s / 2 + 1e-6


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "²"},
        {"WATCHDOG_USEC": "9" * 5000},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
def test_no_watchdog_of_ours_is_not_fed(systemd: Systemd, environ: dict[str, str]) -> None:
    """One that is off, meant for another process or no number is left alone, and nobody looks more often for it."""
    unwatched = manager(systemd.environ | environ)
    assert unwatched.look_s == math.inf
    unwatched.look(1.0, 2.0, lambda: "well", stopping=False)
    assert systemd.heard() == ["STATUS=well"]


def test_a_tiny_watchdog_does_not_keep_the_loop_busy(systemd: Systemd) -> None:
    """A watchdog of a microsecond cannot be kept; the daemon is not brought to its knees by trying."""
    assert manager(systemd.environ | {"WATCHDOG_USEC": "1"}).look_s == service_manager.LOOK_S_MIN


def test_the_status_is_said_when_it_changes_and_not_too_often(systemd: Systemd) -> None:
    """A text that is as before is not repeated, one that changes all the time is told each few seconds."""
    told = manager(systemd.environ)
    for second in range(20):
        told.look(second, second + 1, lambda: "the same", stopping=False)
    assert systemd.heard() == ["STATUS=the same"]
    for second in range(20, 20 + 4 * int(STATUS_S)):
        told.look(second, second + 1, lambda: f"second {second}", stopping=False)  # noqa: B023 (called at once)
    assert systemd.heard() == [f"STATUS=second {20 + turn * int(STATUS_S)}" for turn in range(4)]


def test_a_status_that_fails_starves_nobody(systemd: Systemd) -> None:
    """A fault of ours in a text for people is not a loop that is stuck: the watchdog has had its meal before."""
    fed = manager(systemd.environ | {"WATCHDOG_USEC": "1000000"})
    with pytest.raises(ZeroDivisionError):
        fed.look(1.0, 2.0, lambda: str(1 // 0), stopping=False)
    assert systemd.heard() == ["WATCHDOG=1"]


@pytest.mark.parametrize("turn", ["ready", "stopping"])
def test_what_a_turn_changes_is_said_at_once(systemd: Systemd, turn: str) -> None:
    """After a reload and when the drain begins, the next look tells how things are now."""
    told = manager(systemd.environ)
    told.look(1, 2, lambda: "before", stopping=False)
    getattr(told, turn)()
    systemd.heard()
    told.look(2, 3, lambda: "after", stopping=False)
    assert systemd.heard() == ["STATUS=after"]


def test_while_it_stops_it_asks_for_patience_at_every_look(systemd: Systemd) -> None:
    """Whatever `TimeoutStopSec=` is, a drain that goes on is not cut short."""
    told = manager(systemd.environ)
    for second in range(3):
        told.look(second, second + 1, lambda: "Draining", stopping=True)
    assert systemd.heard().count(PATIENCE) == 3


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "@nobody-listens-here", "/" + "long" * 100])
def test_without_a_listener_nothing_happens(address: str) -> None:
    """No service manager, one that is gone, or an address that cannot be: the daemon goes on as if nothing were."""
    alone = manager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    alone.ready()
    alone.look(1.0, 2.0, lambda: "well", stopping=True)


def test_a_listener_that_does_not_read_holds_nobody_up(systemd: Systemd) -> None:
    """When its queue is full, what is said is lost, and we do not wait."""
    told = manager(systemd.environ)
    for _ in range(2000):
        told.ready()
    assert 0 < len(systemd.heard()) < 2000


@pytest.mark.parametrize(("named", "found"), [("ours", True), ("another", False), ("", False)])
def test_the_journal_is_known_by_its_stream(tmp_path: Path, named: str, found: bool) -> None:
    """Only the stream that `$JOURNAL_STREAM` names is the journal; a file to which the log was sent is none."""
    for name in ("ours", "another"):
        (tmp_path / name).touch()
    there = (tmp_path / named).stat()
    environ = {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"} if named else {}
    with (tmp_path / "ours").open() as ours:
        assert service_manager.is_journal(environ, ours.fileno()) is found
    assert not service_manager.is_journal(environ, -1)


# What it hands over

HANDOVER = """
import json, os, socket, sys
from router import service_manager

given = json.loads(sys.argv[1])
kept = []
for number, kind in enumerate(given["kinds"], start=3):
    if kind in ("tcp", "tcp6"):
        made = socket.create_server(("127.0.0.1", 0) if kind == "tcp" else ("::1", 0),
                                    family=socket.AF_INET if kind == "tcp" else socket.AF_INET6)
    elif kind == "udp":
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    elif kind == "deaf":
        made = socket.socket()
    elif kind == "unix":
        made = socket.socket(socket.AF_UNIX)
        made.bind("")
        made.listen()
    elif kind == "file":
        made = open(os.devnull)
    else:
        os.closerange(number, number + 1)
        continue
    kept.append(made)
    os.dup2(made.fileno(), 100 + number)
for number in range(3, 3 + len(given["kinds"])):
    try:
        os.dup2(100 + number, number)
    except OSError:
        os.closerange(number, number + 1)
pid = os.getpid()
environ = {name: value.replace("PID", str(pid)) for name, value in given["environ"].items()}
try:
    taken = service_manager.sockets(environ, pid=pid)
except service_manager.HandoverError as error:
    print(json.dumps(str(error)))
else:
    print(json.dumps({name: [(each.fileno(), each.get_inheritable()) for each in listeners]
                      for name, listeners in taken.items()}))
os._exit(sys.stdout.flush() or 0)  # descriptors were exchanged behind the interpreter's back
"""


def handed_over(*kinds: str, **environ: str) -> Any:
    """What `sockets` makes of these descriptors, from 3 on, in a process of its own."""
    variables = {"LISTEN_PID": "PID", "LISTEN_FDS": str(len(kinds))} | {
        name.upper(): value for name, value in environ.items()
    }
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HANDOVER), json.dumps({"kinds": kinds, "environ": variables})],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def test_sockets_are_taken_over_by_name() -> None:
    """Each stands in for its setting, in the order given, several for one as well; no program of ours inherits them."""
    taken = handed_over("tcp", "tcp", "tcp6", "unix", listen_fdnames="http:admin:http:http")
    assert taken == {"listen": [[3, False], [5, False], [6, False]], "admin": [[4, False]]}


@pytest.mark.parametrize("environ", [{"listen_pid": "1"}, {"listen_pid": ""}, {"listen_fds": "0"}])
def test_what_is_meant_for_nobody_or_another_is_left_alone(environ: dict[str, str]) -> None:
    """Variables that a parent did not clear, or that hand over nothing, change nothing."""
    assert handed_over("tcp", listen_fdnames="http", **environ) == {}


@pytest.mark.parametrize(
    ("kinds", "environ", "word"),
    [
        (("tcp",), {"listen_fdnames": "llm-router.socket"}, "FileDescriptorName=http or admin"),
        (("tcp",), {}, "'unknown'"),
        (("tcp", "tcp"), {"listen_fdnames": "http"}, "'unknown'"),
        (("udp",), {"listen_fdnames": "http"}, "no socket that listens"),
        (("tcp", "deaf"), {"listen_fdnames": "http:admin"}, "descriptor 4"),
        (("file",), {"listen_fdnames": "http"}, "is no socket"),
        (("closed",), {"listen_fdnames": "http"}, "is no socket"),
        (("tcp",), {"listen_fdnames": "http", "listen_fds": "many"}, "not a number"),
        (("tcp",), {"listen_fdnames": "http", "listen_fds": "100000000"}, "not a number up to"),
    ],
)
def test_a_wrong_socket_is_told(kinds: tuple[str, ...], environ: dict[str, str], word: str) -> None:
    """A socket that we cannot serve is a fault with its reason: the manager would keep its clients waiting for good."""
    told = handed_over(*kinds, **environ)
    assert isinstance(told, str)
    assert word in told


# What they mean for the configuration

BARE = """
upstreams: {first: {base_url: "http://127.0.0.1:8000/v1"}, second: {base_url: "http://127.0.0.1:PORT/v1"}}
models: {m: {pool: [first, second]}}
"""
KEYS = f"keys: {{team: {{secret: {{sha256: {'0' * 64}}}}}}}\n"


def configured(text: str) -> Config:
    return parse(text, "router.yaml", directory=ROOT, environ={}).config


@pytest.mark.parametrize(
    ("setting", "host", "keys", "open_to_all"),
    [
        ("listen", "127.0.0.1", False, False),
        ("listen", "", False, True),
        ("listen", "", True, False),
        ("admin", "", False, False),
    ],
)
def test_without_keys_only_this_machine_is_served(setting: str, host: str, keys: bool, open_to_all: bool) -> None:
    """The rule for `listen` holds for the socket that stands in for it, whatever `listen` says."""
    with socket.create_server((host, 0)) as listener:
        config = configured(BARE.replace("PORT", "8001") + KEYS * keys)
        told = service_manager.faults(config, {setting: [listener]})
        assert ["without keys" in fault for fault in told] == [True] * open_to_all


def test_a_unix_socket_is_of_this_machine(tmp_path: Path) -> None:
    """It needs no keys, no URL leads to it, and it is named by its path."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "router.sock"))
        taken = {"listen": [listener]}
        assert service_manager.faults(configured(BARE.replace("PORT", "8001")), taken) == ()
        assert service_manager.described(taken) == f"listen unix:{tmp_path}/router.sock"


def test_an_upstream_that_leads_back_is_told() -> None:
    """Neither listener may be an upstream, which would send each request round and round."""
    for setting in ("listen", "admin"):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            config = configured(BARE.replace("PORT", str(listener.getsockname()[1])))
            (fault,) = service_manager.faults(config, {setting: [listener]})
            assert fault.startswith("upstreams.second.base_url: ")
            assert f"`{setting}`" in fault


def test_the_log_names_what_was_taken_over() -> None:
    """Which setting, and which address stands in for it."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        assert service_manager.described({"listen": [listener]}) == f"listen [::1]:{port}"
