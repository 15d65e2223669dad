"""The manifests of `deploy/kubernetes` and the chart of `deploy/helm`: sound to Kubernetes, and true to the daemon.

Without a tool its tests are skipped and say so: `kubectl` (kustomize), `kubernetes-validate` (the schemas of
Kubernetes, and JSON Schema), `helm-python-sdk` (Helm itself, as a library).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from router import __version__
from router.app import FLUSH_S
from router.config import addresses
from router.config.loader import load
from tests.harness import chat
from tests.harness.client import Client, Ending, post
from tests.harness.program import ROOT, command, running
from tests.harness.router import CLIENT_SECRET, UPSTREAM_SECRET
from tests.harness.upstream import ScriptedUpstream, chunks, json_answer, last_chunk, play, sse_head, wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from tests.harness.client import Answer

Manifest = dict[str, Any]

KUBERNETES = ROOT / "deploy/kubernetes"
CHART = ROOT / "deploy/helm/llm-router"
RULES = ROOT / "deploy/prometheus/rules.yml"
CONFIG = KUBERNETES / "base/router.yaml"
HTTP_ROUTE = KUBERNETES / "examples/httproute.yaml"

FOLDERS = {"base": "base", "minimal": "overlays/minimal", "production": "overlays/production"}
OLDEST = {"base": (1, 28), "minimal": (1, 28), "production": (1, 30)}
"""The oldest Kubernetes that takes each: production's preStop sleep is not older."""

CUSTOM = {path.stem: path for path in (KUBERNETES / "schemas").glob("*.json")}
"""Kinds that Kubernetes does not know by itself, in lower case: the schema of what we use of them."""

FORBIDDEN_BY_RESTRICTED = {"hostNetwork", "hostPID", "hostIPC", "hostPath", "hostPort", "privileged", "procMount"}


# the tools


@cache
def kustomized(name: str) -> tuple[Manifest, ...]:
    """What `kubectl apply -k` would send for one of `FOLDERS`."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    built = subprocess.run(
        (kubectl, "kustomize", str(KUBERNETES / FOLDERS[name])), capture_output=True, text=True, check=False, timeout=60
    )
    assert (built.returncode, built.stderr) == (0, "")
    return tuple(yaml.safe_load_all(built.stdout))


def helmed(values: Mapping[str, Any] | None = None, release: str = "llm-router") -> list[Manifest]:
    """What `helm install RELEASE` would send; the values pass the chart's schema first."""
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(dict(values or {}))
        rendered = chart.render(dict(values or {}), name=release, namespace="llm-router")
    texts = (text for path, text in sorted(rendered.items()) if path.endswith(".yaml"))
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def validator() -> Any:
    """The module with the schemas of Kubernetes; it brings JSON Schema with it."""
    return pytest.importorskip("kubernetes_validate.utils", reason="kubernetes-validate is not installed")


def check_against(manifest: Manifest, version: str) -> None:
    """Let the strict schema of a Kubernetes version, or ours of a custom kind, judge it; raises what that finds."""
    custom = CUSTOM.get(manifest["kind"].lower())
    if custom is None:
        validator().validate(manifest, version, strict=True)
    else:
        validator().jsonschema.validate(manifest, json.loads(custom.read_text()))


def versions(name: str) -> list[str]:
    """Every Kubernetes version whose schemas are at hand, from the oldest that takes it."""
    found = dict.fromkeys(validator().major_minor(version) for version in validator().all_versions())
    return [version for version in found if tuple(map(int, version.split("."))) >= OLDEST[name]]


# reading manifests


def one(manifests: tuple[Manifest, ...] | list[Manifest], kind: str) -> Manifest:
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


def written(path: str) -> Manifest:
    """A manifest as it stands in its file."""
    manifest = yaml.safe_load((KUBERNETES / path).read_text())
    assert isinstance(manifest, dict)
    return manifest


def pod(deployment: Manifest | None = None) -> Manifest:
    spec = (deployment or written("base/deployment.yaml"))["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def container(deployment: Manifest | None = None) -> Manifest:
    (found,) = pod(deployment)["containers"]
    assert isinstance(found, dict)
    return found


def ports() -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container()["ports"]}


def values(node: Any, name: str) -> Iterator[Any]:
    """Every value that stands under a name, wherever that is."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and name in node:
        yield node[name]
    for child in children:
        yield from values(child, name)


def normalised(manifests: tuple[Manifest, ...] | list[Manifest]) -> list[Manifest]:
    """Without the namespace and the labels that only one of Helm and kustomize gives, in one order."""
    plain = []
    for manifest in (each for each in manifests if each["kind"] != "Namespace"):
        metadata = {name: value for name, value in manifest["metadata"].items() if name != "namespace"}
        extra = {"app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"}
        metadata["labels"] = {name: value for name, value in metadata["labels"].items() if name not in extra}
        plain.append(manifest | {"metadata": metadata})
    return sorted(plain, key=lambda manifest: str(manifest["kind"]))


# what the cluster says


@pytest.mark.parametrize("name", FOLDERS)
def test_every_version_of_kubernetes_takes_the_manifests(name: str) -> None:
    """From the oldest that is promised to the newest, the strict schemas know every field and its type."""
    assert versions(name)
    for version in versions(name):
        for manifest in kustomized(name):
            check_against(manifest, version)


def test_the_examples_are_sound() -> None:
    """The route for a Gateway is one that the Gateway API knows."""
    check_against(yaml.safe_load(HTTP_ROUTE.read_text()), "")


@pytest.mark.parametrize("kind", ["Deployment", "NetworkPolicy", "HorizontalPodAutoscaler", "PodMonitor"])
def test_a_slip_is_refused(kind: str) -> None:
    """The schemas are strict: a field that the kind does not have is an error, so that the tests above mean a thing."""
    slipped = one(kustomized("production"), kind) | {"spec": one(kustomized("production"), kind)["spec"] | {"port": 1}}
    with pytest.raises(validator().jsonschema.ValidationError, match="port"):
        check_against(slipped, versions("production")[-1])


@pytest.mark.parametrize("name", FOLDERS)
def test_every_selector_finds_the_pods(name: str) -> None:
    """Service, budget, network policy, monitor and spread choose by labels that the pods have."""
    labels = one(kustomized(name), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert one(kustomized(name), "Service")["spec"]["selector"] == labels
    chosen = [selector for setting in ("selector", "labelSelector", "podSelector") for selector in values(
        [each for each in kustomized(name) if each["kind"] != "Service"], setting)]  # fmt: skip
    assert len(chosen) >= 4
    assert all(selector == {"matchLabels": labels} for selector in chosen)


@pytest.mark.parametrize("name", FOLDERS)
def test_pods_are_restricted(name: str) -> None:
    """They meet the restricted Pod Security Standard, on a read-only root, without a token of the cluster."""
    deployment = one(kustomized(name), "Deployment")
    spec, security = pod(deployment), pod(deployment)["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] == 65532
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(deployment)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert [found for setting in FORBIDDEN_BY_RESTRICTED for found in values(spec, setting)] == []


def test_the_namespaces_enforce_it() -> None:
    """The namespaces that the overlays make refuse pods that do not meet that standard."""
    for name in ("minimal", "production"):
        assert one(kustomized(name), "Namespace")["metadata"]["labels"] == {
            "pod-security.kubernetes.io/enforce": "restricted"
        }


def test_the_image_is_the_one_of_this_version() -> None:
    """Manifests, overlays, chart and package have one version."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == __version__
    for name in FOLDERS:
        assert container(one(kustomized(name), "Deployment"))["image"] == f"llm-router:{__version__}"


# what the daemon says


async def test_the_configuration_is_good_where_it_is_mounted(tmp_path: Path) -> None:
    """With the folders laid out as in the pod, the file that the container's arguments name has no fault."""
    mounts = {mount["name"]: mount["mountPath"].lstrip("/") for mount in container()["volumeMounts"]}
    (tmp_path / mounts["config"]).mkdir(parents=True)
    (tmp_path / mounts["secrets"]).mkdir()
    shutil.copy(CONFIG, tmp_path / mounts["config"])
    for secret in re.findall(r"\{file: \S*/(\S+)\}", CONFIG.read_text()):
        (tmp_path / mounts["secrets"] / secret).write_text("sk-secret\n")
    verb, *options, path = container()["args"]
    assert (verb, options) == ("run", ["-c"])
    assert await command("check", *options, tmp_path / path.lstrip("/")) == (
        0,
        f"{tmp_path / path.lstrip('/')}: good (2 models, 1 upstreams, 1 keys)\n",
        "",
    )


def loaded(tmp_path: Path) -> Any:
    """The configuration of the manifests, with every default."""
    (tmp_path / "config").mkdir()
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/openai").write_text("sk-secret")
    return load(Path(shutil.copy(CONFIG, tmp_path / "config")), environ={}).config


def test_ports_are_those_of_the_configuration(tmp_path: Path) -> None:
    """Every interface, on the ports that containers, Service, probes, monitor, policy and route mean."""
    config = loaded(tmp_path)
    assert addresses.address(config.listen[0].address) == (None, ports()["http"])
    assert addresses.address(config.admin[0].address) == (None, ports()["admin"])
    assert {each["httpGet"]["port"] for name, each in container().items() if name.endswith("Probe")} == {"admin"}
    (service,) = written("base/service.yaml")["spec"]["ports"]
    assert service["targetPort"] == "http"
    assert {endpoint["port"] for endpoint in endpoints()} == {"admin"}
    ingress = written("overlays/production/networkpolicy.yaml")["spec"]["ingress"]
    assert [port["port"] for rule in ingress for port in rule["ports"]] == ["http", "admin"]
    (backend,) = (each for refs in values(yaml.safe_load(HTTP_ROUTE.read_text()), "backendRefs") for each in refs)
    assert (backend["name"], backend["port"]) == ("llm-router", service["port"])


def endpoints() -> list[Manifest]:
    found = written("components/monitoring/podmonitor.yaml")["spec"]["podMetricsEndpoints"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("name", FOLDERS)
def test_a_drain_fits_into_the_grace_period(name: str, tmp_path: Path) -> None:
    """The preStop sleep counts inside it, and so do notice, drain and the last flush: nothing is killed before."""
    deployment = one(kustomized(name), "Deployment")
    sleep = container(deployment).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert (sleep > 0) == (name == "production")
    stop = loaded(tmp_path).stop
    assert pod(deployment)["terminationGracePeriodSeconds"] >= sleep + stop.notice + stop.drain + 2 * FLUSH_S


def test_bodies_fit_into_the_memory(tmp_path: Path) -> None:
    """What the container may have is reserved for it, and is four times the bound on all request bodies together."""
    resources = container()["resources"]
    assert resources["limits"] == {"memory": resources["requests"]["memory"]} == {"memory": "1Gi"}
    assert loaded(tmp_path).requests.bodies_total_max * 4 <= 1024**3


def test_what_is_mounted_can_change() -> None:
    """Folders and never single files, which Kubernetes does not update, under names that do not change with them."""
    assert list(values(pod(), "subPath")) == []
    assert {name for mount in values(pod(), "configMap") for name in mount.values()} == {"llm-router"}
    assert one(kustomized("base"), "ConfigMap")["metadata"]["name"] == "llm-router"
    assert one(kustomized("base"), "ConfigMap")["data"] == {"router.yaml": CONFIG.read_text()}


def test_no_door_is_open() -> None:
    """Key and admin token are hashes of what nobody has and no example shares: whoever leaves them is safe."""
    digests = re.findall(r"sha256: ([0-9a-f]{64})", CONFIG.read_text())
    assert len(set(digests)) == 2
    examples = "".join(path.read_text() for path in (ROOT / "config").rglob("*.yaml"))
    assert not any(digest in examples for digest in digests)


def test_the_rules_are_those_of_prometheus() -> None:
    """What the operator is given is `deploy/prometheus/rules.yml`, line by line, in kustomize and in the chart."""
    path = KUBERNETES / "components/monitoring/prometheusrule.yaml"
    head, _, rules = path.read_text().partition("\nspec:\n")
    assert rules == re.sub(r"(?m)^(?=.)", "  ", RULES.read_text()), f"{path} is old: its first lines say what to do"
    assert (CHART / "rules.yml").read_text() == RULES.read_text()
    assert head.startswith("# ")


# the chart


def test_the_default_chart_is_the_base() -> None:
    """`helm install llm-router` and `kubectl apply -k base` make the same."""
    assert normalised(helmed()) == normalised(kustomized("base"))


def test_the_production_chart_is_the_production_overlay() -> None:
    """With its values for production the chart makes what that overlay makes."""
    production = yaml.safe_load((CHART / "values-production.yaml").read_text())
    assert normalised(helmed(production)) == normalised(kustomized("production"))


def test_the_chart_makes_the_route_of_the_example() -> None:
    """Its route for a Gateway is the example."""
    route = one(helmed({"httpRoute": {"enabled": True}}), "HTTPRoute")
    assert normalised([route]) == normalised([yaml.safe_load(HTTP_ROUTE.read_text())])


EVERYTHING: Manifest = {
    "image": {"repository": "registry.example.com/llm-router", "digest": f"sha256:{'0' * 64}", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "config": 'listen: ":8080"\nreload: {watch: false}\n',
    "existingSecret": "keys",
    "extraEnv": [{"name": "A", "value": "1"}],
    "rollOnConfigChange": True,
    "preStopSleepSeconds": 15,
    "tmpSizeLimit": "1Gi",
    "service": {"type": "LoadBalancer", "annotations": {"a/b": "c"}},
    "serviceAccount": {"annotations": {"a/b": "c"}},
    "podAnnotations": {"a/b": "c"},
    "nodeSelector": {"a": "b"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "autoscaling": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "httpRoute": {"enabled": True},
}
"""Every value that the defaults leave out."""


def test_every_value_makes_sound_manifests() -> None:
    """With everything switched on, under another name, each manifest is valid, and selectors find the pods."""
    made = helmed(EVERYTHING, "other")
    for manifest in made:
        check_against(manifest, versions("production")[-1])
        assert manifest["metadata"]["name"] == "other-llm-router"
    deployment = one(made, "Deployment")
    assert container(deployment)["image"] == f"registry.example.com/llm-router@sha256:{'0' * 64}"
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"a/b": "c", "checksum/config": hashlib.sha256(EVERYTHING["config"].encode()).hexdigest()}
    assert one(made, "ConfigMap")["data"]["router.yaml"] == EVERYTHING["config"]
    assert one(made, "Service")["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    assert one(made, "PodMonitor")["metadata"]["labels"]["release"] == "prometheus"


@pytest.mark.parametrize(
    "refused",
    [{"replicas": 3}, {"config": {}}, {"config": ""}, {"image": {"digest": "latest"}}, {"tmpSizeLimit": "4 GB"}],
    ids=str,
)
def test_values_that_mean_nothing_are_refused(refused: Manifest) -> None:
    """A misspelt or ill-typed value is an error of `helm install`, and not silence."""
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
    with pytest.raises(helm.HelmError, match=next(iter(refused))):
        helmed(refused)


def test_an_edit_is_never_applied_twice() -> None:
    """Replacing pods at each edit is refused as long as running pods would take it over as well."""
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
    with pytest.raises(helm.HelmError, match="watch: false"):
        helmed({"rollOnConfigChange": True})


# the daemon under them


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    server = ScriptedUpstream()
    await server.start()
    yield server
    await server.close()


class Volume:
    """A mounted ConfigMap or Secret, updated as the kubelet does it: its atomic writer swaps the link `..data`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.generation = 0

    def publish(self, files: Mapping[str, str]) -> None:
        old = self.folder / f"..{self.generation}"
        self.generation += 1
        new = self.folder / f"..{self.generation}"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_text(content)
        (self.folder / "..data_tmp").symlink_to(new.name)
        (self.folder / "..data_tmp").rename(self.folder / "..data")
        for path in new.iterdir():
            if not (self.folder / path.name).is_symlink():
                (self.folder / path.name).symlink_to(Path("..data") / path.name)
        shutil.rmtree(old, ignore_errors=True)


def on_this_machine(upstream: ScriptedUpstream, **top: Any) -> Manifest:
    """The configuration of the manifests, on free ports, for an upstream and a client of ours."""
    settings: Manifest = yaml.safe_load(CONFIG.read_text()) | {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0"} | top
    settings["upstreams"]["openai"]["base_url"] = upstream.base_url
    settings["keys"]["developers"]["secret"] = {"sha256": hashlib.sha256(CLIENT_SECRET.encode()).hexdigest()}
    return settings


async def get(address: tuple[str, int], path: str) -> Answer:
    client = await Client.connect(address)
    try:
        await client.send(post(b"", path=path, method="GET"))
        return await client.answer()
    finally:
        client.transport.abort()


async def ask(address: tuple[str, int], body: bytes) -> Client:
    client = await Client.connect(address)
    await client.send(post(body, key=CLIENT_SECRET))
    return client


async def test_probes_and_scrapes_are_answered(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """The paths of the manifests are the daemon's: well while it serves; while it gives notice alive, but not ready."""
    probes = {name: each["httpGet"]["path"] for name, each in container().items() if name.endswith("Probe")}
    assert len(probes) == 3
    config, secrets = Volume(tmp_path / "config"), Volume(tmp_path / "secrets")
    secrets.publish({"openai": UPSTREAM_SECRET})
    config.publish({"router.yaml": yaml.safe_dump(on_this_machine(upstream, stop={"notice": "10m"}))})
    async with running(config.folder / "router.yaml") as router:
        for path in probes.values():
            assert (await get(router.admin, path)).status == 200
        for endpoint in endpoints():
            assert b"llm_router_build_info" in (await get(router.admin, endpoint["path"])).body
        router.signal(signal.SIGTERM)
        assert (await router.line("notice"))["message"] == "stopping"
        assert (await get(router.admin, probes["readinessProbe"])).status == 503
        assert (await get(router.admin, probes["livenessProbe"])).status == 200
        assert (await (await ask(router.address, chat.request(model="gpt-5.5"))).answer()).status == 200
        router.signal(signal.SIGTERM)
        assert await router.end() == 0


async def test_a_swapped_config_map_reaches_a_running_pod(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """An edit of ConfigMap or Secret applies without a restart and cuts no stream; a faulty one changes nothing."""
    go_on = asyncio.Event()
    upstream.then(
        play(sse_head(), chunks(chat.token("a")), wait_for(go_on), chunks(chat.finish(), chat.DONE), last_chunk())
    ).always(json_answer())
    quick = {"reload": {"interval": "50ms"}, "stop": {"notice": "1ms", "drain": "5s"}}
    settings = on_this_machine(upstream, **quick)
    config, secrets = Volume(tmp_path / "config"), Volume(tmp_path / "secrets")
    secrets.publish({"openai": UPSTREAM_SECRET})
    config.publish({"router.yaml": yaml.safe_dump(settings)})
    async with running(config.folder / "router.yaml") as router:
        stream = await ask(router.address, chat.request(stream=True, model="gpt-5.5"))
        await stream.head()
        await stream.until(b'"a"')
        settings["models"]["new"] = "openai"
        config.publish({"router.yaml": yaml.safe_dump(settings)})
        assert (await router.line("reload"))["result"] == "applied"
        config.publish({"router.yaml": "models: {new: nobody}\n"})
        refused = await router.line("reload")
        assert (refused["result"], refused["level"]) == ("rejected", "error")
        assert f"{config.folder / 'router.yaml'}:1:" in refused["faults"][0]
        config.publish({"router.yaml": yaml.safe_dump(settings | {"debug": {"headers": True}})})
        assert (await router.line("reload"))["result"] == "applied"
        secrets.publish({"openai": "sk-rotated"})
        assert (await router.line("reload"))["result"] == "applied"
        assert (await (await ask(router.address, chat.request(model="new"))).answer()).status == 200
        assert upstream.received[-1].values("authorization") == [b"Bearer sk-rotated"]
        go_on.set()
        answer = await stream.rest()
        assert (answer.ending, answer.events[-1]) == (Ending.CLEAN, chat.DONE)
        router.signal(signal.SIGTERM)
        assert await router.end() == 0
