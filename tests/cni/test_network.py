"""The whole agents of two nodes against a real API server: ranges, routes, masquerade, pods that talk across nodes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import cni
from cni.routes import PROTOCOL
from kubarium.machinery import cniclient, netns
from kubarium.machinery.cniclient import CniError
from kubarium.testing.apiserver import ApiServer, api_server
from tests.cni.test_agent import exchange
from tests.kubeproxy.lab import Lab, Place, running, sysctl

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces")

ROOT = Path(cni.__file__).parent.parent
NODES = "/api/v1/nodes"


@dataclass(slots=True)
class Node:
    """A node of the lab with an agent in it."""

    place: Place
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> Path:
        return self.directory / "cni.sock"

    def routes(self) -> dict[str, str]:
        return {r.destination: r.gateway for r in self.place.netlink.routes() if r.protocol == PROTOCOL}


def eventually(true: Callable[[], bool], what: str, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.01)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with running() as lab:
        for node in lab.nodes.values():  # what the agent sets right by itself
            sysctl(node, "net/ipv4/ip_forward", "0")
            sysctl(node, "net/ipv4/conf/all/rp_filter", "1")
            for other in ("10.244.1.0/24", "10.244.2.0/24", "10.96.0.0/16"):
                node.netlink.delete_route(other)
        yield lab


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("api"), "--advertise-address", "198.18.0.10") as server:
        yield server


@pytest.fixture
def nodes(lab: Lab, api: ApiServer, tmp_path: Path) -> Iterator[dict[str, Node]]:
    """Two agents; the Nodes are registered and have no range yet."""
    port = urlsplit(api.url).port
    assert port
    found = {}
    for name, place in lab.nodes.items():
        register(api, place)
        lab.forward(place, port)
        found[name] = start(lab, api, place, tmp_path / name)
    yield found
    for name, node in found.items():
        node.process.kill()
        node.process.wait()
        api.delete(f"{NODES}/{name}")
        print((node.directory / "cni.log").read_text())


def register(api: ApiServer, place: Place) -> None:
    answer = api.post(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": place.name}})
    assert answer.status == 201, answer.body
    addresses = [{"type": "InternalIP", "address": place.address}]
    answer = api.patch(f"{NODES}/{place.name}/status", {"status": {"addresses": addresses}})
    assert answer.status == 200, answer.body


def start(lab: Lab, api: ApiServer, place: Place, directory: Path) -> Node:
    directory.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "cni", "--node-name", place.name, "--socket", str(directory / "cni.sock")]
    command += ["--ipam-socket", str(directory / "ipam.sock"), "--state-dir", str(directory / "state")]
    command += ["--kubeconfig", str(api.kubeconfig), "--api-transport", "rest"]
    with (directory / "cni.log").open("ab") as log:
        return Node(place, directory, lab.start(place, command, cwd=ROOT, stdout=log, stderr=log))


def give_range(api: ApiServer, number: int) -> None:
    cidr = f"10.244.{number}.0/24"
    answer = api.patch(f"{NODES}/node-{number}", {"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}})
    assert answer.status == 200, answer.body


def sandbox(lab: Lab) -> str:
    return str(lab.namespace(f"pod-{len(lab.pods)}-{time.monotonic_ns()}").path)


async def add(node: Node, container_id: str, path: str) -> str:
    args = {"K8S_POD_NAMESPACE": "default", "K8S_POD_NAME": container_id, "K8S_POD_UID": "u"}
    result = await cniclient.add(node.socket, container_id=container_id, netns=path, args=args, labels={"app": "web"})
    return str(result["ips"][0]["address"].partition("/")[0])


async def ready(node: Node) -> None:
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(CniError):
            return await cniclient.status(node.socket)
        assert time.monotonic() < deadline, "the agent is ready"
        await asyncio.sleep(0.02)


async def test_pods_of_two_nodes_talk_without_translation(lab: Lab, api: ApiServer, nodes: dict[str, Node]) -> None:
    one, two = nodes["node-1"], nodes["node-2"]
    here, there = sandbox(lab), sandbox(lab)
    eventually(one.socket.exists, "the socket is there")
    waiting = asyncio.create_task(add(one, "c1", here))  # before the node has a range: ADD waits for it
    give_range(api, 1)
    give_range(api, 2)
    first = await waiting
    await ready(two)
    second = await add(two, "c2", there)
    assert (first, second) == ("10.244.1.2", "10.244.2.2")
    eventually(lambda: one.routes() == {"10.244.2.0/24": "198.18.0.12"}, "node-1 routes to node-2")
    eventually(lambda: two.routes() == {"10.244.1.0/24": "198.18.0.11"}, "node-2 routes to node-1")
    assert exchange(here, there, second) == first
    assert exchange(there, here, first, port=8081) == second
    assert exchange(str(one.place.path), there, second, port=8082) == "198.18.0.11"
    assert exchange(there, str(one.place.path), "198.18.0.11", port=8083) == second


async def test_the_outside_sees_the_node(lab: Lab, api: ApiServer, nodes: dict[str, Node]) -> None:
    give_range(api, 1)
    await ready(nodes["node-1"])
    pod = sandbox(lab)
    await add(nodes["node-1"], "c1", pod)
    assert exchange(pod, str(lab.host.path), lab.host.address) == "198.18.0.11"


async def test_a_deleted_node_takes_its_route_along(lab: Lab, api: ApiServer, nodes: dict[str, Node]) -> None:
    give_range(api, 1)
    give_range(api, 2)
    one = nodes["node-1"]
    eventually(lambda: "10.244.2.0/24" in one.routes(), "routed")
    one.place.netlink.ensure_route("10.99.0.0/16", link=1)  # somebody else's
    api.delete(f"{NODES}/node-2")
    eventually(lambda: one.routes() == {}, "the route is gone")
    assert "10.99.0.0/16" in {r.destination for r in one.place.netlink.routes()}
    register(api, lab.nodes["node-2"])
    give_range(api, 2)
    eventually(lambda: one.routes() == {"10.244.2.0/24": "198.18.0.12"}, "and comes back with the node")


async def test_an_agent_killed_and_started_again_takes_over(
    lab: Lab, api: ApiServer, nodes: dict[str, Node], tmp_path: Path
) -> None:
    give_range(api, 1)
    give_range(api, 2)
    one = nodes["node-1"]
    await ready(one)
    pod = sandbox(lab)
    address = await add(one, "c1", pod)
    eventually(lambda: one.routes() != {}, "routed")
    one.process.kill()
    one.process.wait()
    api.delete(f"{NODES}/node-2")
    nodes["node-1"] = one = start(lab, api, one.place, one.directory)
    eventually(lambda: one.routes() == {}, "what went meanwhile is noticed")
    await ready(one)
    assert await add(one, "c1", pod) == address
    assert await add(one, "c2", sandbox(lab)) == "10.244.1.3"


async def test_an_agent_told_to_stop_leaves_pods_working(lab: Lab, api: ApiServer, nodes: dict[str, Node]) -> None:
    give_range(api, 1)
    one = nodes["node-1"]
    await ready(one)
    here, there = sandbox(lab), sandbox(lab)
    first, second = await add(one, "c1", here), await add(one, "c2", there)
    one.process.terminate()
    assert one.process.wait(timeout=3) == 0
    assert exchange(here, there, second) == first


async def test_health_and_metrics_of_an_agent(lab: Lab, api: ApiServer, nodes: dict[str, Node]) -> None:
    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:10258{path}", timeout=5) as answer:
            return str(answer.read().decode())

    one = nodes["node-1"]
    give_range(api, 1)
    await ready(one)
    await add(one, "c1", sandbox(lab))
    assert await asyncio.to_thread(netns.run_in_netns, one.place.path, get, "/readyz") == "ok"
    metrics: Any = await asyncio.to_thread(netns.run_in_netns, one.place.path, get, "/metrics")
    assert "kubarium_ipam_addresses_used 1.0" in metrics
    assert 'kubarium_cni_calls_total{code="0",command="ADD"} 1.0' in metrics
    for name, value in (("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/all/rp_filter", "0")):
        assert netns.run_in_netns(one.place.path, Path("/proc/sys", name).read_text).strip() == value
