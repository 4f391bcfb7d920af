"""Routes, masquerade and sysctls: what a node gets from the Nodes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cni.config import parse_flags
from cni.masquerade import masquerade_text, plan_masquerade
from cni.routes import PROTOCOL, NodeNetwork, diff_routes, network_of, plan_routes
from cni.sysctls import apply_sysctls, plan_sysctls
from kubarium.machinery.errors import ConfigError
from kubarium.machinery.netlink import Route
from kubarium.machinery.objects import Node

LAN = 2
NET1, NET2, NET3 = (IPv4Network(f"10.244.{n}.0/24") for n in (1, 2, 3))
IP1, IP2, IP3 = (IPv4Address(f"198.18.0.1{n}") for n in (1, 2, 3))


def node(number: int, *, cidr: str | None = None, address: str | None = None) -> NodeNetwork:
    spec: dict[str, Any] = {"podCIDRs": [f"10.244.{number}.0/24" if cidr is None else cidr]}
    addresses = [{"type": "Hostname", "address": f"node-{number}"}]
    if address != "":
        addresses.append({"type": "InternalIP", "address": address or f"198.18.0.1{number}"})
    body = {"metadata": {"name": f"node-{number}"}, "spec": spec, "status": {"addresses": addresses}}
    return network_of(msgspec.convert(body, Node))


def route(cidr: IPv4Network, gateway: IPv4Address, *, protocol: int = PROTOCOL, link: int = LAN) -> Route:
    return Route(str(cidr), str(gateway), link, protocol, 254)


def test_routes_lead_to_every_other_node_that_is_ready_for_them() -> None:
    nodes = [node(1), node(2), node(3, cidr=""), node(4, address="")]
    assert plan_routes(nodes, "node-1") == {NET2: IP2}
    assert plan_routes(nodes, "control-plane") == {NET1: IP1, NET2: IP2}


def test_ipv6_ranges_are_left_to_dual_stack() -> None:
    assert node(1, cidr="fd00::/64", address="fd00::1") == NodeNetwork("node-1", (), ())


@pytest.mark.parametrize(
    ("current", "put", "drop"),
    [
        pytest.param([], {NET2: IP2, NET3: IP3}, (), id="nothing there"),
        pytest.param([route(NET2, IP2), route(NET3, IP3)], {}, (), id="all there"),
        pytest.param([route(NET2, IP3), route(NET3, IP3)], {NET2: IP2}, (), id="a node has another address"),
        pytest.param([route(NET2, IP2, link=9), route(NET3, IP3)], {NET2: IP2}, (), id="another interface"),
        pytest.param([route(NET1, IP1), route(NET2, IP2), route(NET3, IP3)], {}, (NET1,), id="a node is gone"),
        pytest.param([route(NET1, IP1, protocol=4), route(NET2, IP2), route(NET3, IP3)], {}, (), id="not ours"),
    ],
)
def test_route_changes(current: list[Route], put: dict[IPv4Network, IPv4Address], drop: tuple[IPv4Network]) -> None:
    changes = diff_routes(current, {NET2: IP2, NET3: IP3}, LAN)
    assert (dict(changes.put), changes.drop) == (put, drop)


def test_masquerade_spares_pods_and_nodes() -> None:
    plan = plan_masquerade([NET1], [IPv4Network("10.244.0.0/16")], [IP1, IP2, IP1])
    assert plan.pods == (NET1,)
    assert plan.inside == (IPv4Network("10.244.0.0/16"), IPv4Network("198.18.0.11"), IPv4Network("198.18.0.12"))
    assert "ip saddr @pods ip daddr != @inside masquerade" in masquerade_text(plan)


def test_sysctls_are_written_where_they_differ(tmp_path: Path) -> None:
    wanted = plan_sysctls("eth0")
    for name in wanted:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("2\n")
    apply_sysctls(wanted, tmp_path)
    assert {name: (tmp_path / name).read_text() for name in wanted} == wanted


def test_a_sysctl_that_cannot_be_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sysctl net\.ipv4\.ip_forward must be 1"):
        apply_sysctls({"net/ipv4/ip_forward": "1"}, tmp_path)


def test_flags_that_cannot_be_are_refused() -> None:
    flags = ["--node-name", "n", "--socket", "/s", "--ipam-socket", "/i", "--state-dir", "/d"]
    assert parse_flags(flags).cluster_cidrs == (IPv4Network("10.244.0.0/16"),)
    with pytest.raises(ConfigError, match="overlap"):
        parse_flags([*flags, "--service-cidr", "10.244.5.0/24"])
    with pytest.raises(ConfigError, match=r"--cluster-cidr 10\.244\.0\.0/99"):
        parse_flags([*flags, "--cluster-cidr", "10.244.0.0/99"])
