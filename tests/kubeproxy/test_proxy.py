"""The whole proxy in a node's namespace, against a real API server: objects written there, packets sent here."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest

import kubeproxy
from kubarium.machinery import netns
from kubarium.machinery.errors import ConfigError
from kubarium.machinery.pb import proxy_pb2, proxy_pb2_grpc
from kubarium.testing.apiserver import ApiServer, api_server
from kubeproxy.__main__ import main
from kubeproxy.config import check_mode, parse_flags
from kubeproxy.plan import SERVICE_NAME_LABEL
from tests.kubeproxy.conformance import CLIENT, LOCAL, NEIGHBOUR, NODE_IP, REMOTE
from tests.kubeproxy.lab import QUICK_S, Lab, ask, ask_udp, connect, echo, index_of

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces")

ROOT = Path(kubeproxy.__file__).parent.parent
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
SERVICES = "/api/v1/namespaces/default/services"
IP = "10.96.0.50"


@dataclass(slots=True)
class Node:
    """node-1 of the lab with a proxy process in it."""

    lab: Lab
    api: ApiServer
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "proxy.sock"

    def start(self) -> None:
        command = [sys.executable, "-m", "kubeproxy", "--hostname-override", "node-1", "--socket", str(self.socket)]
        command += ["--kubeconfig", str(self.api.kubeconfig), "--api-transport", "rest"]
        with (self.directory / "proxy.log").open("ab") as log:
            self.process = self.lab.start(self.lab.nodes["node-1"], command, cwd=ROOT, stdout=log, stderr=log)
        eventually(lambda: self.healthz().healthy, "the proxy is healthy")

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def healthz(self) -> Any:
        with grpc.insecure_channel(f"unix:{self.socket}") as channel:
            try:
                return proxy_pb2_grpc.ProxyStub(channel).Healthz(proxy_pb2.HealthzRequest(), timeout=2)
            except grpc.RpcError:
                return proxy_pb2.HealthzReply()

    def explain(self, service: str) -> Any:
        with grpc.insecure_channel(f"unix:{self.socket}") as channel:
            request = proxy_pb2.ExplainRequest(namespace="default", service=service)
            return proxy_pb2_grpc.ProxyStub(channel).Explain(request, timeout=2)


def eventually(true: Callable[[], bool], what: str, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("api"), "--advertise-address", "198.18.0.10") as server:
        yield server


@pytest.fixture
def node(lab: Lab, api: ApiServer, tmp_path: Path) -> Iterator[Node]:
    place = lab.nodes["node-1"]
    port = urlsplit(api.url).port
    assert port
    with contextlib.suppress(OSError):  # another test of the class has it already
        lab.forward(place, port)
    place.netlink.delete_route("10.96.0.0/16")  # the proxy's own affair
    node = Node(lab, api, tmp_path)
    node.start()
    yield node
    node.kill()
    for name in ("web", "dns"):
        api.delete(f"{SERVICES}/{name}")
        api.delete(f"{SLICES}/{name}-1")
    print((tmp_path / "proxy.log").read_text())


def service(name: str = "web", ip: str = IP, **spec: Any) -> dict[str, Any]:
    body = {"clusterIP": ip, "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]} | spec
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body}


def endpoint_slice(*addresses: str, name: str = "web", protocol: str = "TCP") -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "labels": {SERVICE_NAME_LABEL: name}},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [a], "nodeName": f"node-{a.split('.')[2]}", "conditions": {"ready": True}} for a in addresses
        ],
        "ports": [{"name": "", "port": 8080, "protocol": protocol}],
    }


def write(node: Node, *objects: dict[str, Any]) -> None:
    for obj in objects:
        path = SERVICES if obj["kind"] == "Service" else SLICES
        answer = node.api.post(path, obj)
        assert answer.status == 201, answer.body


def change(node: Node, *addresses: str, name: str = "web", **more: Any) -> None:
    body = endpoint_slice(*addresses, name=name, **more)
    answer = node.api.patch(f"{SLICES}/{name}-1", {"endpoints": body["endpoints"]})
    assert answer.status == 200, answer.body


def who(node: Node, source: str = CLIENT, address: str = IP, port: int = 80) -> str:
    """Who answers; the reason where nobody does."""
    try:
        return ask(node.lab.pods[source], address, port, timeout_s=0.3)[0]
    except (ConnectionRefusedError, TimeoutError) as err:
        return type(err).__name__


@root
class TestProxy:
    def test_a_service_lives_and_dies_with_its_objects(self, node: Node) -> None:
        assert who(node) == "TimeoutError"
        write(node, service())
        eventually(lambda: who(node) == "ConnectionRefusedError", "no endpoint: refused")
        write(node, endpoint_slice(LOCAL, REMOTE))
        eventually(lambda: who(node) in (LOCAL, REMOTE), "endpoints: answers")
        assert {who(node) for _ in range(30)} == {LOCAL, REMOTE}
        change(node, REMOTE)
        eventually(lambda: {who(node) for _ in range(10)} == {REMOTE}, "one endpoint left")
        node.api.delete(f"{SERVICES}/web")
        eventually(lambda: who(node) == "TimeoutError", "Service gone: silence")

    def test_the_node_reaches_services_by_a_route_of_the_proxy(self, node: Node) -> None:
        home = node.lab.nodes["node-1"].netlink
        route = next(r for r in home.routes() if r.destination == "10.96.0.0/16")
        assert (route.gateway, route.link, route.protocol) == ("", index_of(home, "eth0"), 108)
        write(node, service(), endpoint_slice(REMOTE))
        eventually(lambda: who(node) == REMOTE, "programmed")
        assert ask(node.lab.nodes["node-1"], IP, 80) == (REMOTE, NODE_IP)

    def test_a_node_port_answers_at_the_address_of_the_node(self, node: Node) -> None:
        ports = [{"port": 80, "targetPort": 8080, "nodePort": 30050}]
        write(node, service(type="NodePort", ports=ports), endpoint_slice(REMOTE))
        eventually(lambda: who(node) == REMOTE, "programmed")
        assert ask(node.lab.host, NODE_IP, 30050) == (REMOTE, NODE_IP)

    def test_killed_and_started_again_under_an_open_connection(self, node: Node) -> None:
        write(node, service(), endpoint_slice(REMOTE))
        eventually(lambda: who(node) == REMOTE, "programmed")
        with connect(node.lab.pods[CLIENT], IP, 80) as sock:
            sock.recv(100)
            node.kill()
            assert echo(sock, b"while it is dead") == b"while it is dead"
            assert who(node) == REMOTE, "new connections are served by the rules that stand"
            change(node, LOCAL)
            node.start()
            assert echo(sock, b"and after") == b"and after"
        assert who(node) == LOCAL, "what changed meanwhile is programmed before it calls itself healthy"

    def test_told_to_stop_it_goes_at_once_and_leaves_services_working(self, node: Node) -> None:
        write(node, service(), endpoint_slice(REMOTE))
        eventually(lambda: who(node) == REMOTE, "programmed")
        assert node.process
        node.process.terminate()
        assert node.process.wait(timeout=3) == 0
        assert who(node) == REMOTE

    def test_rules_taken_away_by_somebody_come_back(self, node: Node) -> None:
        write(node, service(), endpoint_slice(REMOTE))
        eventually(lambda: who(node) == REMOTE, "programmed")
        netns.run_in_netns(
            node.lab.nodes["node-1"].path,
            subprocess.run,
            ["nft", "delete", "table", "ip", "kubarium-proxy"],
            check=True,
        )
        eventually(lambda: who(node) == REMOTE, "put back", within_s=15)

    def test_a_udp_client_that_keeps_its_port_follows_the_endpoints(self, node: Node) -> None:
        ports = [{"port": 53, "targetPort": 8080, "protocol": "UDP"}]
        write(node, service("dns", "10.96.0.53", ports=ports), endpoint_slice(LOCAL, name="dns", protocol="UDP"))
        with netns.socket_in_netns(node.lab.pods[CLIENT].path, kind=socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.2)
            sock.connect(("10.96.0.53", 53))

            def answer() -> str:
                try:
                    sock.send(b"?")
                    return sock.recv(100).decode().split()[0]
                except OSError:
                    return ""

            eventually(lambda: answer() == LOCAL, "the first endpoint answers")
            change(node, NEIGHBOUR, name="dns", protocol="UDP")
            eventually(lambda: answer() == NEIGHBOUR, "the second one answers the same socket")
        assert ask_udp(node.lab.pods[CLIENT], "10.96.0.53", 53)[0] == NEIGHBOUR

    def test_a_change_is_live_within_milliseconds_of_its_write(self, node: Node) -> None:
        write(node, service(), endpoint_slice(LOCAL))
        eventually(lambda: who(node) == LOCAL, "programmed")
        took = []
        for n in range(10):
            wanted = (REMOTE, LOCAL)[n % 2]
            change(node, wanted)
            started = time.monotonic()
            eventually(lambda: who(node) == wanted, "the change is live", within_s=QUICK_S)  # noqa: B023 - called at once
            took.append(time.monotonic() - started)
        assert sorted(took)[5] < 0.1, took

    def test_it_explains_what_it_did(self, node: Node) -> None:
        ports = [{"port": 80, "targetPort": 8080, "nodePort": 30050}]
        write(node, service(type="NodePort", ports=ports), endpoint_slice(LOCAL, REMOTE))
        eventually(lambda: who(node) in (LOCAL, REMOTE), "programmed")
        reply = node.explain("web")
        told = [(p.frontend, p.verdict, sorted(p.endpoints), p.reason) for p in reply.ports]
        both = [f"{LOCAL}:8080", f"{REMOTE}:8080"]
        assert told == [
            (f"{IP} tcp 80", "pick-2", both, "2 usable of 2 endpoints"),
            (f"{NODE_IP} tcp 30050", "pick-2-masq", both, "2 usable of 2 endpoints"),
        ]
        assert reply.generation == node.healthz().generation > 0
        with pytest.raises(grpc.RpcError, match="this node knows no Service default/nope"):
            node.explain("nope")

    def test_health_and_metrics(self, node: Node) -> None:
        def get(port: int, path: str) -> str:
            url = f"http://127.0.0.1:{port}{path}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())

        inside = node.lab.nodes["node-1"].path
        assert netns.run_in_netns(inside, get, 10256, "/readyz") == "ok"
        assert "kubeproxy_sync_proxy_rules_duration_seconds" in netns.run_in_netns(inside, get, 10249, "/metrics")


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        pytest.param("iptables", "no iptables backend yet", id="iptables"),
        pytest.param("userspace", "unknown; expected one of nftables, iptables, ipvs", id="unknown"),
    ],
)
def test_modes_that_cannot_be_had_are_refused_with_the_reason(
    mode: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--hostname-override", "n", "--socket", "/nowhere", "--proxy-mode", mode]) == 2
    assert reason in capsys.readouterr().err


def test_ipvs_is_refused_by_what_the_kernel_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this kernel has no IP_VS"):
        check_mode("ipvs", tmp_path)
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "ip_vs").touch()
    with pytest.raises(ConfigError, match="no ipvs backend yet"):
        check_mode("ipvs", tmp_path)


def test_ranges_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="--service-cidr ten"):
        parse_flags(["--hostname-override", "n", "--socket", "/s", "--service-cidr", "ten"])
