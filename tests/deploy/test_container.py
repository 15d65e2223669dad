"""`deploy/container`: what the Dockerfile says, what a build may see, and the image itself, built and run.

The image takes minutes, a download and root, so it is made only where LLM_ROUTER_BASE says on which base: an image with
Python and its venv module that is at hand, or `debootstrap`, which makes one of Debian. It needs Debian's `buildah`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from router import __version__
from tests.harness.program import PATIENCE_S, ROOT
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCKERFILE = ROOT / "deploy/container/Dockerfile"
DEPLOYMENT = ROOT / "deploy/kubernetes/base/deployment.yaml"
CONFIG = ROOT / "deploy/kubernetes/base/router.yaml"

BASE = os.environ.get("LLM_ROUTER_BASE", "")
BUILDAH = {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
"""What it needs inside a container or a small virtual machine."""
DEBIAN = "bookworm"
BUILD_S = 900
"""Seconds after which a build has failed."""
RUN_S = 30


class Instruction(NamedTuple):
    name: str
    text: str


def instructions() -> list[Instruction]:
    text = re.sub(r"(?m)^#.*\n", "", DOCKERFILE.read_text()).replace("\\\n", " ")
    return [Instruction(*line.split(None, 1)) for line in text.splitlines() if line]


def texts(name: str, of: list[Instruction] | None = None) -> list[str]:
    return [each.text for each in (instructions() if of is None else of) if each.name == name]


def final_stage() -> list[Instruction]:
    lines = instructions()
    return lines[max(index for index, line in enumerate(lines) if line.name == "FROM") :]


def copied() -> set[str]:
    """What the build takes of the project."""
    sources = (line.split()[:-1] for line in texts("COPY") if "--from" not in line)
    return {source for line in sources for source in line}


# what is written


def test_the_linter_finds_nothing() -> None:
    """Hadolint has no remark on the Dockerfile."""
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    linted = subprocess.run((hadolint, str(DOCKERFILE)), capture_output=True, text=True, check=False, timeout=60)
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")


def test_the_image_runs_as_nobody_and_gets_signals() -> None:
    """The user is a number that Kubernetes can tell from root, and no shell stands before the program as process 1."""
    assert texts("USER", final_stage()) == ["65532:65532"]
    assert json.loads(texts("ENTRYPOINT")[0]) == ["/opt/llm-router/bin/llm-router"]
    assert texts("STOPSIGNAL") == ["SIGTERM"]
    assert texts("HEALTHCHECK") == []


def test_the_image_fits_the_manifests() -> None:
    """By itself it does what the Deployment's arguments say, and names the ports that it has."""
    (container,) = yaml.safe_load(DEPLOYMENT.read_text())["spec"]["template"]["spec"]["containers"]
    assert json.loads(texts("CMD")[0]) == container["args"]
    assert [int(port) for port in texts("EXPOSE")[0].split()] == [port["containerPort"] for port in container["ports"]]


def test_both_stages_have_the_base_that_is_asked_for() -> None:
    """One argument changes it, so that a mirror or a pinned digest serves, and both have the same Python."""
    assert [line.split()[0] for line in texts("FROM")] == ["${BASE}", "${BASE}"]
    assert len(texts("ARG")) == 1
    assert texts("ARG")[0].startswith("BASE=")


def test_everything_comes_from_the_locks() -> None:
    """Each install is checked against hashes, or has no index to go to."""
    installs = [
        step for run in texts("RUN") for step in run.split("&&") if re.search(r"\bpip\b.* (install|wheel) ", step)
    ]
    assert len(installs) == 4
    assert all("--require-hashes" in step or "--no-index" in step for step in installs)


def test_the_labels_are_those_of_the_package() -> None:
    """Version, description and license of the image are the package's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', texts("LABEL")[0]))
    assert labels == {
        "title": project["name"],
        "description": project["description"],
        "version": __version__,
        "licenses": project["license"],
    }


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    """`.dockerignore` shuts everything out and lets in exactly what is copied, without what Python left behind."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == copied()
    assert [rule for rule in rules[1:] if not rule.startswith("!")] == ["**/__pycache__"]
    assert all((ROOT / source).exists() for source in copied())
    assert not [source for source in copied() if fnmatch(source, "*[*?[]*")]


# what is built


def buildah(*arguments: str | Path) -> str:
    """Run it to its end; what it printed."""
    ran = subprocess.run(
        ("buildah", *map(str, arguments)),
        env=os.environ | BUILDAH,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=BUILD_S,
    )
    return ran.stdout.strip()


def debian(folder: Path) -> str:
    """Make a base of Debian; its name."""
    packages = "--include=python3,python3-venv,ca-certificates"
    subprocess.run(
        ("debootstrap", "--variant=minbase", packages, DEBIAN, str(folder)),
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=BUILD_S,
    )
    working = buildah("from", "scratch")
    buildah("add", "-q", working, folder, "/")
    name = f"localhost/llm-router-test-base:{os.getpid()}"
    buildah("commit", "-q", "--rm", working, name)
    return name


# Process 1


@pytest.fixture(scope="module")
def process_one() -> tuple[str, ...]:
    """What runs a command as process 1 of its own namespace."""
    alone = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
    if shutil.which(alone[0]) is None or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process can have namespaces of its own here")
    return alone


async def test_process_one_heeds_sigterm_while_it_starts(tmp_path: Path, process_one: tuple[str, ...]) -> None:
    """In a container nobody else would end it, and the container would hang until it is killed."""
    path = tmp_path / "router.yaml"
    os.mkfifo(path)
    command = (*process_one, sys.executable, "-m", "router", "run", "-c", str(path))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:

        def is_reading() -> bool:
            with contextlib.suppress(OSError):  # nobody reads yet
                opened.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            return bool(opened)

        opened: list[int] = []
        await until(is_reading, "the file is read", patience_s=PATIENCE_S)
        os.kill(child_of(process.pid), signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 128 + signal.SIGTERM
        os.close(opened[0])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def child_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file system of the image, built of this checkout."""
    if not BASE:
        pytest.skip("takes minutes: LLM_ROUTER_BASE says on which image to build, or debootstrap")
    for tool in ("buildah", "unshare", "nsenter", *(["debootstrap"] if BASE == "debootstrap" else ())):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    folder = tmp_path_factory.mktemp("image")
    base = debian(folder / "debian") if BASE == "debootstrap" else BASE
    # The build trusts whom this machine trusts: there may be a proxy between it and the package index.
    (folder / "pip.conf").write_text("[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n")
    name = f"localhost/llm-router-test:{os.getpid()}"
    trust = ("-v", "/etc/ssl/certs:/etc/ssl/certs:ro", "-v", f"{folder}/pip.conf:/etc/pip.conf:ro")
    build = ("--network", "host", *trust, "--build-arg", f"BASE={base}", "-f", DOCKERFILE, "-t", name)
    buildah("build", "-q", *build, "--ignorefile", ROOT / ".dockerignore", ROOT)
    working = buildah("from", "--pull-never", name)
    try:
        yield Path(buildah("mount", working))
    finally:
        buildah("rm", working)
        buildah("rmi", name, *([base] if BASE == "debootstrap" else []))


STAGE = """
set -eu
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
for volume in config secrets; do
  mkdir -p "$ROOT/etc/llm-router/$volume"
  mount --bind "$VOLUMES/$volume" "$ROOT/etc/llm-router/$volume"
  mount -o remount,bind,ro "$ROOT/etc/llm-router/$volume"
done
mount -o remount,bind,ro "$ROOT"
mount -t proc -o nosuid,nodev,noexec proc "$ROOT/proc"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$ROOT/tmp"
"$PYTHON" -c 'import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 1))'  # SIOCSIFFLAGS, IFF_UP
exec chroot "$ROOT" /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 \
  setpriv --reuid 65532 --regid 65532 --clear-groups --bounding-set=-all --no-new-privs "$@"
"""
"""What a container runtime does with the Deployment's security context, in namespaces that are new."""


class Box:
    """The program as process 1 of its own namespaces, and the network that only it has."""

    def __init__(self, outside: subprocess.Popen[str]) -> None:
        self.outside = outside
        children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children")
        self.pid = int(_wait(children.read_text).split()[0])

    def python(self, code: str) -> str:
        """Run the image's Python in there, as the same user; what it printed."""
        inside = ("nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-r", "-S", "65532", "-G", "65532")
        ran = subprocess.run(
            (*inside, "/opt/llm-router/bin/python", "-c", code),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=RUN_S,
        )
        return ran.stdout.strip()

    def get(self, url: str) -> int:
        """Ask for an address in there; the status, or 0 if nobody listens."""
        return int(
            self.python(
                "import urllib.request, urllib.error\n"
                f"try: print(urllib.request.urlopen({url!r}, timeout=10).status)\n"
                "except urllib.error.HTTPError as error: print(error.code)\n"
                "except urllib.error.URLError: print(0)"
            )
        )


def _wait(read: Any) -> Any:
    """What a function returns, as soon as that is anything; bounded."""
    until = time.monotonic() + RUN_S
    while not (found := read()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)
    return found


@contextmanager
def boxed(root: Path, volumes: Path) -> Iterator[Box]:
    """The image's entry point and command in a box, ended with the block at the latest."""
    command = [*json.loads(texts("ENTRYPOINT")[0]), *json.loads(texts("CMD")[0])]
    namespaces = ("unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child")
    with subprocess.Popen(
        (*namespaces, "sh", "-c", STAGE, "sh", *command),
        env=os.environ | {"ROOT": str(root), "VOLUMES": str(volumes), "PYTHON": sys.executable},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as outside:
        try:
            yield Box(outside)
        finally:
            outside.kill()


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """The folders that the Deployment mounts, for nobody to read."""
    (tmp_path / "config").mkdir()
    (tmp_path / "secrets").mkdir()
    shutil.copy(CONFIG, tmp_path / "config")
    (tmp_path / "secrets/openai").write_text("sk-secret\n")
    for path in (tmp_path / "config/router.yaml", tmp_path / "secrets/openai"):
        path.chmod(0o440)
        os.chown(path, 0, 65532)
    return tmp_path


def test_the_image_serves_on_a_read_only_root(root: Path, volumes: Path) -> None:
    """As nobody, without capabilities, with the configuration of the manifests: ready, metrics, closed to strangers."""
    with boxed(root, volumes) as box:
        _wait(lambda: Path(f"/proc/{box.pid}/cmdline").read_text().startswith("/opt/llm-router/bin/py"))
        _wait(lambda: box.get("http://127.0.0.1:9464/readyz") == 200)
        assert box.get("http://127.0.0.1:9464/healthz") == 200
        assert box.get("http://127.0.0.1:9464/metrics") == 200
        assert box.get("http://127.0.0.1:8080/v1/models") == 401
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{box.pid}/status").read_text().splitlines())
        assert status["Uid"].split() == ["65532"] * 4
        assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0
        assert status["NSpid"].split()[-1] == "1"
        with pytest.raises(subprocess.CalledProcessError):
            box.python("open('/opt/llm-router/new', 'w')")
        assert box.python("open('/tmp/new', 'w').close(); print('written')") == "written"
        os.kill(box.pid, signal.SIGTERM)
        _wait(lambda: box.get("http://127.0.0.1:9464/readyz") == 503)
        os.kill(box.pid, signal.SIGTERM)
        stdout, stderr = box.outside.communicate(timeout=RUN_S)
    assert (box.outside.returncode, stderr) == (0, "")
    assert json.loads(stdout.splitlines()[-1])["message"] == "stopped"


def test_the_image_tells_what_is_wrong_with_its_configuration(root: Path, volumes: Path) -> None:
    """With a fault in the mounted file it ends with status 78 and says the line: the end of a pod's log shows it."""
    (volumes / "config/router.yaml").write_text("modles: {}\n")
    with boxed(root, volumes) as box:
        stdout, stderr = box.outside.communicate(timeout=RUN_S)
    assert (box.outside.returncode, stdout) == (78, "")
    assert stderr.startswith("/etc/llm-router/config/router.yaml:1:1: modles: ")


def test_the_image_holds_no_tools_and_no_secrets(root: Path) -> None:
    """Neither pip nor what the build used is in it, only the locked packages and the program, compiled."""
    installed = {
        path.name.partition("-")[0].lower()
        for path in root.glob("opt/llm-router/lib/python3*/site-packages/*.dist-info")
    }
    locked = set(re.findall(r"(?m)^([\w.-]+)==", (ROOT / "requirements.lock").read_text()))
    assert installed - {"llm_router"} <= {name.replace("-", "_").lower() for name in locked}
    assert {"llm_router", "aiohttp", "uvloop"} <= installed
    assert not (root / "build").exists()
    assert list(root.glob("opt/llm-router/lib/python3*/site-packages/router/__pycache__/app.*.pyc"))
