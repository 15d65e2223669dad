"""The systems that are compared: the upstream itself, nginx in front of it, the router in front of it."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import processes, traffic

START_S = 20.0
"""Seconds a system has for its first answer before the run is given up."""
REPOSITORY = Path(__file__).parents[2]

_NGINX = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  client_max_body_size 256m;
  client_body_buffer_size 2m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream mock {{
    server 127.0.0.1:{upstream_port};
    keepalive 1024;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
"""

_ROUTER = """
listen: 127.0.0.1:{port}
admin: 127.0.0.1:{admin_port}
upstreams:
  mock:
    base_url: http://127.0.0.1:{upstream_port}/v1
    api_key: {{file: upstream-key}}
  messages:
    base_url: http://127.0.0.1:{upstream_port}/v1
    protocol: anthropic
    api_key: {{file: upstream-key}}
models:
  {client_model}:
    pool:
      - {{upstream: mock, model: {upstream_model}}}
  {translated_model}:
    pool:
      - {{upstream: messages, model: {upstream_model}}}
    translate: true
keys:
  bench:
    secret: {{sha256: {key_sha256}}}
    limits: {{requests_per_minute: 1G, tokens_per_minute: 1000G, concurrency: 1M}}
log: {{access: true}}
stop: {{notice: 10ms, drain: 1s}}
"""


class StartError(Exception):
    """A system did not come up; says why."""


@dataclass(slots=True, kw_only=True)
class System:
    """One thing to put under load."""

    name: str
    command: list[str]
    port: int
    cpu: int
    folder: Path
    model: str = traffic.UPSTREAM_MODEL
    translated_model: str = ""
    """One whose upstream speaks another protocol; empty: this system does not translate."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> float:
        """Start it and return the seconds until its first complete answer."""
        began = time.monotonic()
        self.process = processes.start(self.command, self.cpu, self.folder / self.name, REPOSITORY)
        last = "no connection"
        while time.monotonic() - began < START_S:
            if self.process.poll() is not None:
                last = f"it ended with status {self.process.returncode}"
                break
            try:
                status = self._ask()
            except (OSError, http.client.HTTPException):
                time.sleep(0.002)
                continue
            if status == http.HTTPStatus.OK:
                return time.monotonic() - began
            last = f"it answers {status}"
            time.sleep(0.01)
        said = (self.folder / f"{self.name}.err").read_text(errors="replace")[-1500:]
        self.stop()
        raise StartError(f"{self.name} did not start: {last}\n  {' '.join(self.command)}\n{said}")

    def _ask(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_S)
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {traffic.CLIENT_KEY}"}
            connection.request("POST", traffic.PATH, traffic.Ask("first").body(self.model), headers)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def pids(self) -> list[int]:
        """Return its processes."""
        return processes.tree(self.process.pid) if self.process else []

    def resident_mb(self) -> float:
        """Return the resident memory of its processes in MB."""
        return processes.resident_mb(self.pids())

    def stop(self) -> None:
        """End it, if it runs."""
        if self.process:
            processes.stop(self.process)
        self.process = None


def upstream(folder: Path, cpu: int, program: Path) -> System:
    """Return the upstream, which is also the system `direct`."""
    (port,) = processes.free_ports(1)
    return System(name="direct", command=[str(program), str(port)], port=port, cpu=cpu, folder=folder)


def nginx(folder: Path, cpu: int, upstream_port: int) -> System:
    """Return nginx as a plain reverse proxy."""
    (port,) = processes.free_ports(1)
    settings = folder / "nginx.conf"
    settings.write_text(_NGINX.format(folder=folder, port=port, upstream_port=upstream_port))
    command = [find_nginx(), "-p", str(folder), "-e", "stderr", "-c", str(settings)]
    return System(name="nginx", command=command, port=port, cpu=cpu, folder=folder)


def router(folder: Path, cpu: int, upstream_port: int, command: list[str]) -> System:
    """Return the router; `{config}` in the command is replaced by the path of its configuration."""
    port, admin_port = processes.free_ports(2)
    settings = folder / "router.yaml"
    settings.write_text(
        _ROUTER.format(
            port=port,
            admin_port=admin_port,
            upstream_port=upstream_port,
            client_model=traffic.CLIENT_MODEL,
            translated_model=traffic.TRANSLATED_MODEL,
            upstream_model=traffic.UPSTREAM_MODEL,
            key_sha256=hashlib.sha256(traffic.CLIENT_KEY.encode()).hexdigest(),
        )
    )
    key = folder / "upstream-key"
    key.write_text("sk-upstream-0123456789abcdef\n")
    key.chmod(0o600)
    command = [word.replace("{config}", str(settings)) for word in command]
    return System(
        name="router",
        command=command,
        port=port,
        cpu=cpu,
        folder=folder,
        model=traffic.CLIENT_MODEL,
        translated_model=traffic.TRANSLATED_MODEL,
    )


def router_command() -> list[str]:
    """Return the command of the router that belongs to this interpreter."""
    script = Path(sys.executable).with_name("llm-router")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "router"]
    return [*program, "run", "-c", "{config}"]


def find_nginx() -> str:
    """Return the path of nginx; as root on Debian it is installed if missing.

    Raises:
        StartError: It is missing and cannot be installed from here.
    """
    places = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin"
    if not shutil.which("nginx", path=places) and os.geteuid() == 0 and shutil.which("apt-get"):
        # RUNLEVEL=1 keeps the package from starting its service.
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for step in (["update"], ["install", "-y", "--no-install-recommends", "nginx-light"]):
            subprocess.run(["apt-get", "-qq", *step], env=environment, stdout=subprocess.DEVNULL, check=False)
    found = shutil.which("nginx", path=places)
    if not found:
        raise StartError("nginx is missing: install it (on Debian: apt-get install nginx-light)")
    return found


def compile_program(source: Path, folder: Path) -> Path:
    """Compile one of the C programs into a folder.

    Raises:
        StartError: There is no gcc, or it refuses the source.
    """
    if not shutil.which("gcc"):
        raise StartError("gcc is missing: install it (on Debian: apt-get install gcc libc6-dev)")
    program = folder / source.stem
    done = subprocess.run(
        ["gcc", "-O2", "-Wall", "-Wextra", "-std=gnu11", "-o", program, source], capture_output=True, check=False
    )
    if done.returncode:
        raise StartError(done.stderr.decode(errors="replace"))
    return program
