"""`deploy/compose.yaml` cannot be run by a test; but what it mounts is there, and what it says fits together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from router.config.loader import parse

if TYPE_CHECKING:
    from router.config.loader import Loaded

DEPLOY = Path(__file__).parents[2] / "deploy"
GRAFANA = DEPLOY / "grafana"
PROMETHEUS = DEPLOY / "prometheus"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = COMPOSE["services"]
    return found


def mounts(service: str) -> dict[str, str]:
    """What of this folder a service sees, by the path it sees it under."""
    pairs = (volume.split(":") for volume in services()[service]["volumes"])
    return {pair[1]: pair[0] for pair in pairs if pair[0].startswith(".")}


def published(service: str) -> list[tuple[str, int, int]]:
    """Address and port on the machine, and the port inside."""
    found = (port.split(":") for port in services()[service]["ports"])
    return [(address, int(outside), int(inside)) for address, outside, inside in found]


def composed_router() -> Loaded:
    """The configuration that stands in the file, with what the file gives the router as environment."""
    environ = dict.fromkeys(services()["router"]["environment"], "sk-0123456789abcdef")
    text = COMPOSE["configs"]["router"]["content"]
    assert "$" not in text, "Compose would put a variable there"
    return parse(text, "compose.yaml", directory=DEPLOY, environ=environ)


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_what_is_mounted_is_there() -> None:
    """Every folder and file that a container is given exists, and is for reading alone."""
    for name, service in services().items():
        for path in mounts(name).values() if "volumes" in service else ():
            assert (DEPLOY / path).is_dir(), path
        for volume in service.get("volumes", ()):
            source, *_, last = volume.split(":")
            assert last == "ro" if source.startswith(".") else source in COMPOSE["volumes"]
    build = services()["router"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


def test_images_are_pinned() -> None:
    """Every image has a whole version."""
    assert all(re.fullmatch(r"\S+:v?\d+\.\d+\.\d+", service["image"]) for service in services().values())


def test_every_port_fits() -> None:
    """What is published is what is listened to, on loopback alone, and the admin listener is not published."""
    config = composed_router().config
    inside = {name: [port for _, _, port in published(name)] for name in services()}
    assert inside == {"router": [port_of(config.listen[0].address)], "prometheus": [9090], "grafana": [3000]}
    ports = [port for name in services() for address, port, _ in published(name) if address == "127.0.0.1"]
    assert len(set(ports)) == len(services())
    dockerfile = (DEPLOY / "container" / "Dockerfile").read_text()
    exposed = re.search(r"(?m)^EXPOSE (.+)$", dockerfile)
    assert exposed is not None
    assert set(exposed[1].split()) == {str(port_of(config.listen[0].address)), str(port_of(config.admin[0].address))}
    assert f":{port_of(config.admin[0].address)}/readyz" in services()["router"]["healthcheck"]["test"][-1]


def test_each_finds_the_other() -> None:
    """Prometheus scrapes the router's admin listener, and Grafana asks that Prometheus."""
    scrape = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    targets = [
        target for job in scrape["scrape_configs"] for each in job["static_configs"] for target in each["targets"]
    ]
    assert targets == [f"router:{port_of(composed_router().config.admin[0].address)}"]
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == scrape["global"]["scrape_interval"]


def test_the_provisioned_folders_are_the_mounted_ones() -> None:
    """Grafana looks where the files are mounted, and Prometheus for its rules too."""
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/llm-router.yml").read_text())["providers"]
    seen = mounts("grafana")
    assert seen[provider["options"]["path"]] == "./grafana/dashboards"
    for kind in ("dashboards", "datasources"):
        assert seen[f"/etc/grafana/provisioning/{kind}"] == f"./grafana/provisioning/{kind}"
    folder, _, name = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].rpartition("/")
    assert folder == provider["options"]["path"]
    assert (GRAFANA / "dashboards" / name).is_file()
    assert mounts("prometheus") == {"/etc/prometheus": "./prometheus"}
    assert "--config.file=/etc/prometheus/prometheus.yml" in services()["prometheus"]["command"]


def test_the_router_has_what_it_needs() -> None:
    """Its configuration is good, needs just what the environment has, stands where the image looks, and can drain."""
    loaded, service = composed_router(), services()["router"]
    used = set(re.findall(r"\{env: (\w+)\}", COMPOSE["configs"]["router"]["content"]))
    assert used == set(service["environment"])
    assert all(value.startswith(f"${{{name}:?") for name, value in service["environment"].items())
    [target] = [config["target"] for config in service["configs"]]
    assert target in (DEPLOY / "container" / "Dockerfile").read_text()
    stop = loaded.config.stop
    assert int(service["stop_grace_period"].removesuffix("s")) > stop.notice + stop.drain
