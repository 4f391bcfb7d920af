"""The LAN: its plan, and the real thing."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any

import pytest

from kubarium.cluster import namespaces, network
from kubarium.cluster.down import down
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.spec import ClusterSpec
from kubarium.cluster.up import choose_lan
from kubarium.machinery.errors import ConfigError
from kubarium.machinery.netns import run_in_netns
from tests.cluster.conftest import eventually

ROUTES = """\
Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
kb3-host\t000312C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


def test_host_routes_without_the_default_route() -> None:
    assert network.host_routes(ROUTES) == [IPv4Network("192.0.2.0/24"), IPv4Network("198.18.3.0/24")]
    assert network.host_routes(ROUTES, skip="kb3-host") == [IPv4Network("192.0.2.0/24")]


@pytest.mark.parametrize(
    ("routes", "taken", "index"),
    [
        pytest.param([], set(), 0, id="first"),
        pytest.param([], {0, 1}, 2, id="other clusters"),
        pytest.param(["198.18.0.0/24", "198.18.1.0/25"], set(), 2, id="routes of the host"),
        pytest.param(["198.18.0.0/17"], {128}, 129, id="a wide route"),
    ],
)
def test_lowest_free_lan(routes: list[str], taken: set[int], index: int) -> None:
    assert network.plan_index([IPv4Network(route) for route in routes], taken) == index


def test_no_lan_is_free() -> None:
    with pytest.raises(ConfigError, match=r"no 198\.18\.N\.0/24 is free"):
        network.plan_index([IPv4Network("198.18.0.0/16")], set())


def test_addresses_of_nodes() -> None:
    plan = network.plan_lan(ClusterSpec(lan_index=5))
    assert plan.host_interface == "kb5-host"
    assert {link.node: (str(link.address), link.port) for link in plan.links} == {
        "control-plane": ("198.18.5.10", "kb0"),
        "node-1": ("198.18.5.11", "kb1"),
        "node-2": ("198.18.5.12", "kb2"),
    }
    assert len({link.mac for link in plan.links}) == 3


@pytest.mark.parametrize(
    ("file", "owner"),
    [
        ("kubarium-a-lan", "a"),
        ("kubarium-a-node-1", "a"),
        ("kubarium-a-node-1-lan", "a-node-1"),
        ("kubarium-a-node-1-0f3c-9d21-77", "a"),
        ("kubarium-a-b-control-plane", "a-b"),
        ("kubarium-a-node-x", None),
        ("other", None),
    ],
)
def test_namespaces_are_told_apart_by_name(
    file: str, owner: str | None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / file).touch()
    monkeypatch.setattr(network, "NETNS", tmp_path)
    assert network.namespace_clusters() == ({owner} if owner else set())
    assert bool(network.cluster_namespaces("a")) == (owner == "a")


def in_child(work: Callable[..., Any], *args: Any) -> None:
    """Run something that changes its namespace."""
    pid = os.fork()
    if not pid:
        try:
            work(*args)
        except BaseException as err:
            print(repr(err))
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"{work.__name__} failed"


def make_node(paths: ClusterPaths, plan: network.LanPlan, node: str) -> None:
    namespaces.new_netns()
    namespaces.name_netns("/proc/thread-self/ns/net", paths.netns(node))
    network.ensure_link(paths, plan, node)


@pytest.fixture
def lan(paths: ClusterPaths) -> network.LanPlan:
    """A LAN with three nodes and nothing in them."""
    plan = network.plan_lan(choose_lan(ClusterSpec(name=paths.name), paths))
    in_child(network.ensure_lan, paths, plan)
    for link in plan.links:
        in_child(make_node, paths, plan, link.node)
    return plan


def listen(address: str) -> socket.socket:
    sock = socket.socket()
    sock.bind((address, 0))
    sock.listen()
    return sock


def reaches(address: str, port: int, source: str = "") -> bool:
    with socket.socket() as sock:
        sock.settimeout(1)
        if source:
            sock.bind((source, 0))
        return sock.connect_ex((address, port)) == 0


def test_host_and_nodes_reach_each_other(paths: ClusterPaths, lan: network.LanPlan) -> None:
    one = str(lan.link("node-1").address)
    with run_in_netns(paths.netns("node-1"), listen, one) as server:
        port = server.getsockname()[1]
        assert reaches(one, port)
        assert run_in_netns(paths.netns("node-2"), reaches, one, port)
    with listen(str(lan.host_address)) as server:
        assert run_in_netns(paths.netns("node-2"), reaches, str(lan.host_address), server.getsockname()[1])


def test_pod_addresses_do_not_reach_the_host(paths: ClusterPaths, lan: network.LanPlan) -> None:
    subprocess.run(["ip", "-n", paths.netns("node-1").name, "addr", "add", "10.244.1.5/32", "dev", "lo"], check=True)
    with listen(str(lan.host_address)) as server:
        port = server.getsockname()[1]
        assert not run_in_netns(paths.netns("node-1"), reaches, str(lan.host_address), port, "10.244.1.5")
    counted = subprocess.run(
        ["ip", "netns", "exec", paths.netns(network.LAN).name, "nft", "list", "table", "bridge", network.LAN_TABLE],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "counter packets 0" not in counted.stdout.split("saddr")[1].splitlines()[0]


def test_the_host_gets_one_link_and_one_route(paths: ClusterPaths, lan: network.LanPlan) -> None:
    assert [name for name, owner in network.host_interfaces().items() if owner == paths.name] == [lan.host_interface]
    routes = subprocess.run(["ip", "route", "show", "dev", lan.host_interface], capture_output=True, text=True)
    assert routes.stdout.split()[0] == str(lan.network)
    assert len(routes.stdout.splitlines()) == 1


def test_made_again_nothing_changes(paths: ClusterPaths, lan: network.LanPlan) -> None:
    before = [path.stat().st_ino for path in network.cluster_namespaces(paths.name)]
    in_child(network.ensure_lan, paths, lan)
    for link in lan.links:
        in_child(network.ensure_link, paths, lan, link.node)
    assert [path.stat().st_ino for path in network.cluster_namespaces(paths.name)] == before
    assert reaches(str(lan.link("node-1").address), 1) is False


def test_a_cut_node_is_gone_from_the_lan_and_comes_back(paths: ClusterPaths, lan: network.LanPlan) -> None:
    one = str(lan.link("node-1").address)
    with run_in_netns(paths.netns("node-1"), listen, one) as server:
        port = server.getsockname()[1]
        in_child(network.cut_link, paths, lan, "node-1")
        assert not run_in_netns(paths.netns("node-2"), reaches, one, port)
        in_child(network.ensure_link, paths, lan, "node-1")
        # the other node may be in the middle of an ARP question that nobody answered
        eventually(lambda: run_in_netns(paths.netns("node-2"), reaches, one, port), "node-1 answers node-2 again")


def test_a_lost_lan_is_made_anew(paths: ClusterPaths, lan: network.LanPlan) -> None:
    namespaces.unname_netns(paths.netns(network.LAN))
    in_child(network.ensure_lan, paths, lan)
    for link in lan.links:
        in_child(network.ensure_link, paths, lan, link.node)
    one = str(lan.link("node-1").address)
    with run_in_netns(paths.netns("node-1"), listen, one) as server:
        assert reaches(one, server.getsockname()[1])


def test_another_cluster_gets_a_lan_of_its_own(paths: ClusterPaths, lan: network.LanPlan) -> None:
    other = ClusterPaths(f"{paths.name}-x", paths.base)
    try:
        assert choose_lan(ClusterSpec(name=other.name), other).lan_index != lan.index
    finally:
        down(other.name)
    assert reaches(str(lan.link("node-1").address), 1) is False
    assert lan.host_interface in network.host_interfaces(), "down of one cluster took another's link"
