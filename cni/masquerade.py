"""Pods behind the node's address: packets of this node's pods to anything but pods and nodes are masqueraded.

The outside (the host, and what lies behind it) has no route to pod addresses and needs none. Table `kubarium-cni`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

TABLE = "kubarium-cni"
T = f"ip {TABLE}"


@dataclass(frozen=True, slots=True)
class Masquerade:
    """`pods`: the ranges of this node; `inside`: what is reached without translation."""

    pods: tuple[IPv4Network, ...]
    inside: tuple[IPv4Network, ...]


def plan_masquerade(
    own_cidrs: Iterable[IPv4Network], cluster_cidrs: Iterable[IPv4Network], node_addresses: Iterable[IPv4Address]
) -> Masquerade:
    inside = [*cluster_cidrs, *map(IPv4Network, node_addresses)]
    return Masquerade(tuple(sorted(own_cidrs)), tuple(collapse_addresses(inside)))


def masquerade_text(plan: Masquerade) -> str:
    """One transaction that puts the plan in the place of whatever the table held."""
    lines = [
        f"add table {T}",
        f"flush table {T}",
        f"add set {T} pods {{ type ipv4_addr; flags interval; }}",
        f"add set {T} inside {{ type ipv4_addr; flags interval; }}",
        f"flush set {T} pods",
        f"flush set {T} inside",
        f"add chain {T} postrouting {{ type nat hook postrouting priority 100; policy accept; }}",
        f'add rule {T} postrouting ip saddr @pods ip daddr != @inside masquerade comment "pods to the outside"',
    ]
    for name, networks in (("pods", plan.pods), ("inside", plan.inside)):
        if networks:
            lines.append(f"add element {T} {name} {{ {', '.join(map(str, networks))} }}")
    return "\n".join(lines) + "\n"
