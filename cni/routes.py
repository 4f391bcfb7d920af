"""Routes between nodes: each other node's pod CIDRs by way of its address on the LAN.

Ours carry a routing protocol number of their own, so that nothing else is touched and what a deleted node left is
found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from kubarium.machinery.netlink import Netlink, Route
from kubarium.machinery.objects import Node

PROTOCOL = 107  # `proto 107` in `ip route`: routes of this agent


@dataclass(frozen=True, slots=True)
class NodeNetwork:
    """A node's ranges and addresses, the IPv4 ones; both are empty until the node has been given them."""

    name: str
    pod_cidrs: tuple[IPv4Network, ...]
    addresses: tuple[IPv4Address, ...]


@dataclass(frozen=True, slots=True)
class RouteChanges:
    """`put` replaces what leads to the same destination."""

    put: Mapping[IPv4Network, IPv4Address]
    drop: tuple[IPv4Network, ...]


def network_of(node: Node) -> NodeNetwork:
    """Raises ValueError where a CIDR or address of the Node cannot be one."""
    cidrs = node.spec.pod_cidrs or (node.spec.pod_cidr,)
    addresses = (a.address for a in node.status.addresses if a.type == "InternalIP")
    return NodeNetwork(
        node.metadata.name,
        tuple(IPv4Network(c) for c in cidrs if c and ":" not in c),
        tuple(IPv4Address(a) for a in addresses if ":" not in a),
    )


def plan_routes(nodes: Iterable[NodeNetwork], own: str) -> dict[IPv4Network, IPv4Address]:
    """Pod CIDR -> gateway, for every node but this one that has both a CIDR and an address."""
    return {cidr: n.addresses[0] for n in nodes if n.name != own and n.addresses for cidr in n.pod_cidrs}


def diff_routes(current: Iterable[Route], desired: Mapping[IPv4Network, IPv4Address], link: int) -> RouteChanges:
    """From the routes of the main table to the desired ones over interface `link`; only routes of ours count."""
    standing = {IPv4Network(r.destination): (r.gateway, r.link) for r in current if r.protocol == PROTOCOL}
    put = {cidr: gw for cidr, gw in desired.items() if standing.get(cidr) != (str(gw), link)}
    return RouteChanges(put, tuple(sorted(cidr for cidr in standing if cidr not in desired)))


def apply_routes(netlink: Netlink, changes: RouteChanges, link: int) -> None:
    """Blocking; the agent calls it in a thread."""
    for cidr in changes.drop:
        netlink.delete_route(str(cidr))
    for cidr, gateway in changes.put.items():
        netlink.ensure_route(str(cidr), link=link, gateway=str(gateway), protocol=PROTOCOL)
