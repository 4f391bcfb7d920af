"""A pod's link to its node: a veth pair, host routes, fixed neighbours; no bridge, no ARP, no proxy_arp.

In the pod: its address with /32, and everything by way of 169.254.1.1, which is the node's end of the pair (its MAC
is the same for every pod). On the node: a /32 route to that end. So every packet of a pod passes the node's own
stack.

All of it is blocking netlink; the agent calls it in a thread. Every function may be repeated, after a crash as well.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from cni.ipam import Owner
from kubarium.machinery.errors import NetworkError
from kubarium.machinery.netlink import Link, Netlink

GATEWAY = "169.254.1.1"
GATEWAY_MAC = "ee:ee:ee:ee:ee:ee"
INTERFACE_PREFIX = "kb"  # the node's end of every pair of ours
INTERFACE_HASH_DIGITS = 11
OWN_NAMESPACE = Path("/proc/thread-self/ns/net")


class NamespaceGone(NetworkError):
    """There is no such network namespace (any more)."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One pair as it shall stand. `alias` is what `ip link` shows on the node's end, for people."""

    owner: Owner
    addresses: tuple[IPv4Address, ...]
    mtu: int
    alias: str = ""

    @property
    def host_interface(self) -> str:
        return host_interface(self.owner)


@dataclass(frozen=True, slots=True)
class Wired:
    """What stands: the names and hardware addresses of both ends."""

    host_interface: str
    host_mac: str
    interface: str
    mac: str


def host_interface(owner: Owner) -> str:
    """`kb` and a hash: the name of the node's end, at most 15 characters, the same for the same owner."""
    digest = hashlib.sha256(f"{owner.container_id}/{owner.interface}".encode()).hexdigest()
    return INTERFACE_PREFIX + digest[:INTERFACE_HASH_DIGITS]


@contextmanager
def opened(netns: str, node_netns: Path = OWN_NAMESPACE) -> Iterator[int]:
    """The namespace at `netns` as a descriptor: what is wired stays the same even if the path is reused.

    Raises NamespaceGone where there is none, NetworkError where it is the node's own.
    """
    try:
        fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise NamespaceGone(f"network namespace {netns}: {err.strerror}") from err
    try:
        if os.path.samestat(os.fstat(fd), node_netns.stat()):
            raise NetworkError(f"network namespace {netns} is the node's own: a pod on hostNetwork needs no wiring")
        yield fd
    finally:
        os.close(fd)


def wire(node: Netlink, fd: int, plan: Wire) -> Wired:
    """Make the pair and both ends' addresses, neighbours and routes, or complete what a killed agent began.

    A pair that stands is not made anew, so a repeated call leaves connections alone.
    """
    with Netlink(_path(fd)) as pod:
        near, far = node.link(plan.host_interface), pod.link(plan.owner.interface)
        if near is None or far is None:
            if near:  # its other end is not here: the container has another namespace now
                node.delete_link(plan.host_interface)
            node.add_veth(plan.host_interface, plan.owner.interface, peer_netns_fd=fd, mac=GATEWAY_MAC, mtu=plan.mtu)
            near, far = _there(node, plan.host_interface), _there(pod, plan.owner.interface)
        _wire_pod(pod, far, plan)
        _wire_node(node, near, far.mac, plan)
    return Wired(near.name, GATEWAY_MAC, far.name, far.mac)


def unwire(node: Netlink, owner: Owner) -> None:
    """Take the pair away, routes and neighbours with it; one that is gone is no error."""
    node.delete_link(host_interface(owner))


def faults(node: Netlink, fd: int, plan: Wire) -> list[str]:
    """What of the wiring does not stand as it should, in words."""
    found = []
    near = node.link(plan.host_interface)
    if near is None or not near.up:
        return [f"interface {plan.host_interface} of the node is {'down' if near else 'missing'}"]
    reached = {r.destination for r in node.routes() if r.link == near.index}
    found += [f"the node has no route to {a}" for a in plan.addresses if f"{a}/32" not in reached]
    with Netlink(_path(fd)) as pod:
        far = pod.link(plan.owner.interface)
        if far is None or not far.up:
            return [*found, f"interface {plan.owner.interface} of the pod is {'down' if far else 'missing'}"]
        held = pod.addresses(far.index)
        found += [f"the pod lacks address {a}" for a in plan.addresses if f"{a}/32" not in held]
        if not any(r.destination == "0.0.0.0/0" and r.gateway == GATEWAY for r in pod.routes()):
            found.append("the pod has no default route")
    return found


def orphans(node: Netlink, owners: set[Owner]) -> list[str]:
    """Our interfaces on the node that belong to none of `owners`."""
    known = {host_interface(owner) for owner in owners}
    ours = (name for name, link in node.links().items() if link.kind == "veth" and _is_ours(name))
    return sorted(name for name in ours if name not in known)


def _is_ours(name: str) -> bool:
    digits = name.removeprefix(INTERFACE_PREFIX)
    return name != digits and len(digits) == INTERFACE_HASH_DIGITS and set(digits) <= set("0123456789abcdef")


def _wire_pod(pod: Netlink, far: Link, plan: Wire) -> None:
    if (loopback := pod.link("lo")) and not loopback.up:
        pod.set_link(loopback.index, state="up")
    for address in plan.addresses:
        pod.ensure_address(far.index, f"{address}/32")
    pod.ensure_neighbour(far.index, GATEWAY, GATEWAY_MAC)
    if not far.up:
        pod.set_link(far.index, state="up")
    pod.ensure_route(f"{GATEWAY}/32", link=far.index)
    pod.ensure_route("0.0.0.0/0", link=far.index, gateway=GATEWAY)


def _wire_node(node: Netlink, near: Link, pod_mac: str, plan: Wire) -> None:
    if not near.up or near.alias != plan.alias:
        node.set_link(near.index, state="up", ifalias=plan.alias)
    for address in plan.addresses:
        node.ensure_neighbour(near.index, str(address), pod_mac)
        node.ensure_route(f"{address}/32", link=near.index)


def _there(netlink: Netlink, name: str) -> Link:
    link = netlink.link(name)
    if link is None:
        raise NetworkError(f"interface {name} has gone while it was wired")
    return link


def _path(fd: int) -> Path:
    return Path(f"/proc/self/fd/{fd}")
