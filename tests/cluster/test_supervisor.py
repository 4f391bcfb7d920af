"""The supervisor with stand-in components: nodes, restarts, faults, its own death. Namespaces and Docker are real."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubarium.chaos import faults
from kubarium.cluster import cgroups, control, namespaces, network, preflight
from kubarium.cluster.anchors import container_name
from kubarium.cluster.dockerapi import CLUSTER_LABEL, NODE_LABEL, DockerApi
from kubarium.cluster.down import all_names, down, stop
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.spec import ClusterSpec
from kubarium.cluster.supervisor import backoff_s
from kubarium.cluster.up import choose_lan, spawn
from kubarium.machinery.errors import ClusterError, ConfigError
from kubarium.machinery.netns import run_in_netns
from tests.cluster.conftest import eventually

ROOT = str(Path(__file__).parents[2])


class Cluster:
    """A cluster of stand-ins, and what can be seen of it."""

    def __init__(self, paths: ClusterPaths, docker: DockerApi) -> None:
        self.paths, self.docker, self.name = paths, docker, paths.name
        self.spec = ClusterSpec(name=paths.name, docker_socket=docker.path)

    def start(self, until: Callable[[], bool] | None = None) -> None:
        if self.paths.spec.exists():
            self.spec = ClusterSpec.load(self.paths.spec)
        for node in ("supervisor", *(f"{node}/system" for node in self.spec.node_names)):
            cgroups.kill(f"{self.name}/{node}")
        listener = preflight.bind_api_port(self.spec)
        port = listener.getsockname()[1]
        self.spec = choose_lan(dataclasses.replace(self.spec, api_port=port), self.paths)
        self.supervisor = spawn(self.spec, self.paths, listener, time.monotonic(), module="tests.cluster.standins")
        try:
            eventually(until or self.is_up, "the cluster is up")
        except AssertionError as err:
            err.add_note(f"{self.status()}\n{self.lines()}")
            raise

    def status(self) -> dict[str, Any]:
        try:
            return control.ask(self.paths, "status")
        except control.NoSupervisor:
            return {"nodes": {}, "processes": {}, "facts": []}

    def pid(self, key: str) -> int:
        return int(self.status()["processes"].get(key, {"pid": 0})["pid"])

    def is_up(self) -> bool:
        return all(self.answers(node) for node in self.spec.node_names) and "api" in self.status()["facts"]

    def answers(self, node: str, port: int = 10250) -> bool:
        plan = network.plan_lan(self.spec)
        if plan.network not in network.host_routes():
            return False  # the packet would leave by the uplink, and whoever is there might answer
        return reaches(str(plan.link(node).address), port)

    def lines(self) -> str:
        return (self.paths.logs / "supervisor.log").read_text()


def reaches(address: str, port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(0.5)
        return sock.connect_ex((address, port)) == 0


@pytest.fixture
def cluster(paths: ClusterPaths, docker: DockerApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("PYTHONPATH", ROOT)  # the supervisor's process imports the stand-ins
    cluster = Cluster(paths, docker)
    cluster.start()
    yield cluster
    cgroups.kill(paths.name)
    cluster.supervisor.wait()


@pytest.mark.parametrize(("failures", "pause"), [(0, 0), (1, 0), (2, 0.5), (3, 1), (4, 2), (9, 10)])
def test_pauses_between_restarts(failures: int, pause: float) -> None:
    assert backoff_s(failures) == pause


def test_each_component_is_in_its_namespace_and_cgroup(cluster: Cluster) -> None:
    pid = cluster.pid("node-1/kubelet")
    assert namespaces.is_same_netns(f"/proc/{pid}/ns/net", cluster.paths.netns("node-1"))
    assert pid in cgroups.pids(f"{cluster.name}/node-1/system")
    assert Path(f"/proc/{pid}/comm").read_text() == "kubelet\n"


def test_the_api_server_listens_on_the_host_too(cluster: Cluster) -> None:
    assert reaches("127.0.0.1", cluster.spec.api_port)
    assert not run_in_netns(cluster.paths.netns("node-1"), reaches, "127.0.0.1", cluster.spec.api_port)


def test_a_killed_component_is_back_at_once(cluster: Cluster) -> None:
    before = cluster.pid("node-2/kubelet")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: cluster.pid("node-2/kubelet") not in (0, before), "another kubelet", limit_s=2)
    eventually(lambda: cluster.answers("node-2"), "it answers")


def test_an_api_server_started_again_is_asked_whether_it_answers(cluster: Cluster) -> None:
    """Nobody else wakes the supervisor meanwhile: its log is read, it is not asked; the broken component waits."""
    pid = cluster.pid("control-plane/apiserver")
    eventually(lambda: "node-1/broken ended (exit code 3), starts again in 2 s" in cluster.lines(), "a quiet time")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: cluster.lines().count("API server answers") == 2, "it is known to answer", limit_s=1.5)


def test_a_component_that_cannot_run_is_tried_ever_more_slowly(cluster: Cluster) -> None:
    eventually(lambda: "node-1/broken ended (exit code 3), starts again in 1 s" in cluster.lines(), "the third try")
    assert "node-1/broken ended (exit code 3), starts again in 0.5 s" in cluster.lines()


def test_components_outlive_the_supervisor_and_the_next_replaces_them(cluster: Cluster) -> None:
    before, anchor = cluster.pid("node-1/kubelet"), cluster.docker.inspect(container_name(cluster.name, "node-1"))
    cluster.supervisor.kill()
    cluster.supervisor.wait()
    assert cluster.answers("node-1") and reaches("127.0.0.1", cluster.spec.api_port)
    port = cluster.spec.api_port
    cluster.start()
    assert cluster.pid("node-1/kubelet") != before
    assert cluster.spec.api_port == port
    kept = cluster.docker.inspect(container_name(cluster.name, "node-1"))
    assert kept is not None and anchor is not None and kept["Id"] == anchor["Id"]


def test_a_lost_anchor_makes_the_node_anew(cluster: Cluster) -> None:
    anchor = cluster.docker.inspect(container_name(cluster.name, "node-1"))
    cluster.docker.remove(container_name(cluster.name, "node-1"))
    eventually(lambda: "node-1 lost its anchor" in cluster.lines(), "the loss is noticed", limit_s=5)
    eventually(lambda: cluster.status()["nodes"]["node-1"] == "up" and cluster.answers("node-1"), "node-1 is back")
    found = cluster.docker.inspect(container_name(cluster.name, "node-1"))
    assert found is not None and anchor is not None and found["Id"] != anchor["Id"]


def test_a_killed_node_stays_dead_until_it_is_healed(cluster: Cluster) -> None:
    run_pod(cluster, "node-2")
    state = cluster.paths.node("node-2") / "kubelet" / "pods"
    state.mkdir()
    faults.kill_node(cluster.spec, cluster.paths, "node-2")
    assert not cgroups.pids(f"{cluster.name}/node-2")
    assert not cluster.docker.containers({CLUSTER_LABEL: cluster.name, NODE_LABEL: "node-2"}, running=True)
    assert not cluster.answers("node-2") and cluster.answers("node-1")
    assert cluster.status()["nodes"]["node-2"] == "dead"
    cluster.supervisor.kill()
    cluster.supervisor.wait()
    cluster.start(until=lambda: cluster.answers("node-1"))
    assert cluster.status()["nodes"]["node-2"] == "dead"
    control.ask(cluster.paths, "heal-node", node="node-2")
    eventually(lambda: cluster.status()["nodes"]["node-2"] == "up" and cluster.answers("node-2"), "node-2 is back")
    assert not state.exists()
    (anchor,) = cluster.docker.containers({CLUSTER_LABEL: cluster.name, NODE_LABEL: "node-2"})
    assert anchor["State"] == "running"


def test_a_node_is_killed_without_a_supervisor_too(cluster: Cluster) -> None:
    cluster.supervisor.kill()
    cluster.supervisor.wait()
    command = [sys.executable, "-m", "kubarium.cli", "chaos", "kill-node", "node-1", "--name", cluster.name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not cluster.answers("node-1") and cluster.answers("node-2")
    assert not cgroups.pids(f"{cluster.name}/node-1")


def test_faults_name_what_is_wrong(cluster: Cluster) -> None:
    with pytest.raises(ConfigError, match=r"has no node node-9; there are control-plane, node-1, node-2"):
        faults.kill_node(cluster.spec, cluster.paths, "node-9")
    with pytest.raises(ConfigError, match="there is no cluster nowhere"):
        faults.load("nowhere")
    with pytest.raises(ClusterError, match="cannot 'dance'"):
        control.ask(cluster.paths, "dance")


def test_stop_keeps_state_and_start_brings_the_cluster_back(cluster: Cluster) -> None:
    pod = run_pod(cluster, "node-1")
    kept = cluster.paths.node("node-1") / "kubelet" / "kept"
    kept.touch()
    index, port = cluster.spec.lan_index, cluster.spec.api_port
    stop(cluster.name)
    cluster.supervisor.wait()
    assert not cgroups.pids(cluster.name) and cluster.name not in cgroups.names()
    assert not network.cluster_namespaces(cluster.name) and not cluster.paths.run.exists()
    assert cluster.name not in network.host_interfaces().values()
    state = cluster.docker.inspect(pod)
    assert state is not None and not state["State"]["Running"]
    cluster.start()
    assert kept.exists() and cluster.spec.lan_index == index and cluster.spec.api_port == port


def test_reboot(cluster: Cluster) -> None:
    """Everything but the state folder is gone: processes, namespaces, /run."""
    kept = cluster.paths.store / "kept"
    kept.touch()
    cgroups.kill(cluster.name)
    cluster.supervisor.wait()
    for path in network.cluster_namespaces(cluster.name):
        namespaces.unname_netns(path)
    subprocess.run(["rm", "-rf", str(cluster.paths.run)], check=True)
    cluster.start()
    assert kept.exists()


@pytest.mark.parametrize("victim", ["supervisor", "apiserver", "everything"])
def test_down_after_kill_9_with_the_state_folder_gone(cluster: Cluster, victim: str) -> None:
    run_pod(cluster, "node-1")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(cluster.paths.node("node-1") / "kubelet")], check=True)
    match victim:
        case "supervisor":
            cluster.supervisor.kill()
        case "apiserver":
            os.kill(cluster.pid("control-plane/apiserver"), signal.SIGKILL)
        case _:
            cgroups.kill(cluster.name)
    subprocess.run(["rm", "-rf", str(cluster.paths.state)], check=False)
    assert cluster.name in all_names()
    assert down(cluster.name)
    cluster.supervisor.wait()
    assert nothing_is_left(cluster)


def test_down_while_the_cluster_starts(paths: ClusterPaths, docker: DockerApi) -> None:
    for delay_s in (0.0, 0.1, 0.3, 0.6):
        spec = ClusterSpec(name=paths.name, docker_socket=docker.path)
        listener = preflight.bind_api_port(spec)
        spec = choose_lan(dataclasses.replace(spec, api_port=listener.getsockname()[1]), paths)
        os.environ["PYTHONPATH"] = ROOT
        process = spawn(spec, paths, listener, time.monotonic(), module="tests.cluster.standins")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delay_s)
        down(paths.name)
        process.wait()
        assert not docker.containers({CLUSTER_LABEL: paths.name})
        assert not network.cluster_namespaces(paths.name) and paths.name not in all_names()


def test_two_clusters_and_down_of_one(cluster: Cluster, docker: DockerApi) -> None:
    other = Cluster(ClusterPaths(f"{cluster.name}-b", cluster.paths.base), docker)
    try:
        other.start()
        assert other.spec.lan_index != cluster.spec.lan_index and other.spec.api_port != cluster.spec.api_port
        assert cluster.is_up()
    finally:
        down(other.name)
        other.supervisor.wait()
    assert cluster.is_up()
    assert nothing_is_left(other)


def test_down_of_nothing_finds_nothing(paths: ClusterPaths) -> None:
    assert down(paths.name) == []


def run_pod(cluster: Cluster, node: str) -> str:
    """A container as a kubelet makes them."""
    config = {
        "Image": "kubarium/pause",
        "Labels": {CLUSTER_LABEL: cluster.name, NODE_LABEL: node},
        "HostConfig": {"NetworkMode": "none", "CgroupParent": f"/kubarium/{cluster.name}/{node}/pod-1"},
    }
    container = str(cluster.docker.call("POST", "/containers/create", config)["Id"])
    cluster.docker.call("POST", f"/containers/{container}/start")
    return container


def nothing_is_left(cluster: Cluster) -> bool:
    return (
        not cgroups.pids(cluster.name)
        and cluster.name not in cgroups.names()
        and not network.cluster_namespaces(cluster.name)
        and cluster.name not in network.host_interfaces().values()
        and not cluster.docker.containers({CLUSTER_LABEL: cluster.name})
        and not cluster.paths.state.exists()
        and not cluster.paths.run.exists()
        and f"/{cluster.name}/" not in Path("/proc/self/mountinfo").read_text()
    )
