"""The Compose file: the same cluster as containers, seen through the same tests of the web app."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubarium.cluster import cgroups
from kubarium.cluster.compose import Composition, node_components
from kubarium.cluster.dockerapi import CLUSTER_LABEL, DockerApi
from kubarium.cluster.down import down
from kubarium.cluster.paths import ClusterPaths
from kubarium.machinery.errors import ConfigError
from tests.compose.conftest import ROOT, Engine
from tests.e2e import web_app
from tests.e2e.lab import Lab, condition, eventually, run

FILE = ROOT / "compose" / "docker-compose.yml"


def test_settings_come_from_the_environment() -> None:
    composition = Composition.of(
        {"KUBARIUM_CLUSTER": "lab", "KUBARIUM_LAN": "10.9.8.0/24", "KUBARIUM_API_PORT": "7443"}
    )
    assert composition.spec.name == "lab" and composition.spec.api_port == 7443
    assert [str(link.address) for link in composition.lan.links] == ["10.9.8.10", "10.9.8.11", "10.9.8.12"]


@pytest.mark.parametrize(
    "environment", [{"KUBARIUM_LAN": "10.9.8.1/24"}, {"KUBARIUM_WORKERS": "two"}, {"KUBARIUM_CLUSTER": "No"}]
)
def test_bad_settings_are_named(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        Composition.of(environment)


def test_a_node_runs_what_a_local_node_runs() -> None:
    composition = Composition.of({})
    components = {component.name: component.argv for component in node_components(composition, "node-2")}
    assert list(components) == ["cni", "kubeproxy", "kubelet"]
    assert "--remove-pods-on-exit" in components["kubelet"]
    assert "--node-ip=172.31.77.12" in components["kubelet"]
    assert "--anchor-container=kubarium-compose-node-2" in components["kubelet"]


def test_the_file_gives_nodes_the_addresses_that_their_certificates_name() -> None:
    text = FILE.read_text().replace("${KUBARIUM_LAN:-172.31.77}", "172.31.77")
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    plan = Composition.of({}).lan
    where = {"control-plane": "apiserver", "node-1": "node-1", "node-2": "node-2"}
    for link in plan.links:
        assert services[where[link.node]]["networks"]["lan"]["ipv4_address"] == str(link.address)
    assert plan.network == IPv4Network("172.31.77.0/24")


class Compose:
    """docker-compose on the file, with a cluster name, home and engine of the test's own."""

    def __init__(self, name: str, engine: Engine, home: Path) -> None:
        self.name, self.engine, self.home = name, engine, home
        self.environment = os.environ | {
            "DOCKER_HOST": engine.host,
            "DOCKER_SOCKET": str(engine.socket),
            "COMPOSE_PROJECT_NAME": name,
            "KUBARIUM_CLUSTER": name,
            "KUBARIUM_HOME": str(home),
            "ETCD_IMAGE": "kubarium/etcd:latest",
        }

    def __call__(self, *argv: str) -> str:
        done = subprocess.run(
            ["docker-compose", "-f", str(FILE), *argv],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=150,
        )
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def compose(ordinary_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    home = tmp_path_factory.mktemp("home")
    (home / "images").mkdir()
    table = {"nginx": "kubarium/nginx:latest", "busybox": "kubarium/busybox:latest"}
    (home / "images" / "aliases.json").write_text(json.dumps(table))
    compose = Compose(f"c-{os.getpid()}", ordinary_engine, home)
    try:
        compose("up", "-d", "--no-build")
        yield compose
    finally:
        remove(compose)


def remove(compose: Compose) -> list[str]:
    """`kubarium down` of a Compose cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBARIUM_HOME", str(compose.home))
        patch.setenv("DOCKER_HOST", compose.engine.host)
        return down(compose.name)


@pytest.fixture(scope="module")
def lab(compose: Compose, kubectl: Path) -> Lab:
    """The cluster as the end-to-end tests see it, once its nodes are Ready and names resolve."""
    config = ClusterPaths(compose.name, compose.home).kubeconfig("admin")
    eventually(config.exists, "the administrator's kubeconfig")

    def node_prefix(node: str) -> list[str]:
        container = f"kubarium-{compose.name}-{node}"
        pid = run(["docker", "-H", compose.engine.host, "inspect", "-f", "{{.State.Pid}}", container]).strip()
        return ["nsenter", f"--net=/proc/{pid}/ns/net"]

    lab = Lab(compose.name, str(kubectl), str(config), ("node-1", "node-2"), node_prefix, compose.engine.prefix)
    eventually(lambda: ready(lab) == {"node-1", "node-2"}, "both nodes Ready", deadline_s=90)
    return lab


def ready(lab: Lab) -> set[str]:
    return {n["metadata"]["name"] for n in lab.get("nodes")["items"] if condition(n, "Ready") == "True"}


@pytest.fixture(scope="module")
def web(lab: Lab) -> Lab:
    web_app.start(lab)
    return lab


@pytest.mark.timeout(400)
@pytest.mark.parametrize("check", web_app.ALL, ids=lambda check: check.__name__.removeprefix("check_"))
def test_the_web_app(web: Lab, check: Callable[[Lab], None]) -> None:
    check(web)


@pytest.mark.timeout(400)
def test_a_node_removes_its_pods_on_sigterm(lab: Lab, compose: Compose) -> None:
    docker = DockerApi(str(compose.engine.socket))
    labels = {CLUSTER_LABEL: compose.name, "io.kubarium.node": "node-2"}
    eventually(lambda: docker.containers(labels), "pods on node-2")
    compose("stop", "node-2")
    assert not docker.containers(labels)


@pytest.mark.timeout(400)
def test_down_removes_every_trace(lab: Lab, compose: Compose) -> None:
    docker = DockerApi(str(compose.engine.socket))
    assert remove(compose)
    assert not docker.containers({CLUSTER_LABEL: compose.name})
    assert not [net for net in docker.call("GET", "/networks") if compose.name in net["Name"]]
    assert not ClusterPaths(compose.name, compose.home).state.exists()
    assert not cgroups.pids(compose.name) and compose.name not in cgroups.names()
