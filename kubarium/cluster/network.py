"""The network between the nodes: the plan of names and addresses, and the links that make it so.

    host kbN-host 198.18.N.1 ── kbhost ┐
    control-plane eth0 .10 ─────── kb0 ┤ bridge kblan, in the namespace kubarium-NAME-lan
    node-K        eth0 .10+K ───── kbK ┘

The host gets one veth and its on-link route and nothing else; pod and Service addresses are dropped before they
reach it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from kubarium.cluster import namespaces
from kubarium.cluster.paths import NETNS, ClusterPaths
from kubarium.cluster.spec import ClusterSpec
from kubarium.machinery.errors import ConfigError, NetlinkError, NetworkError, NftError

LAN = "lan"
BRIDGE = "kblan"
HOST_PORT = "kbhost"
NODE_INTERFACE = "eth0"
LAN_TABLE = "kubarium-lan"
ALIAS = "kubarium cluster {}"
HOST_OCTET, NODE_OCTET = 1, 10


@dataclass(frozen=True, slots=True)
class NodeLink:
    """How one node hangs on the LAN; `port` is the bridge's end of the pair."""

    node: str
    address: IPv4Address
    port: str
    mac: str


@dataclass(frozen=True, slots=True)
class LanPlan:
    """Every name and address of a cluster's LAN."""

    name: str
    index: int
    network: IPv4Network
    host_interface: str
    host_address: IPv4Address
    links: tuple[NodeLink, ...]
    hidden: tuple[IPv4Network, ...]

    def link(self, node: str) -> NodeLink:
        return next(link for link in self.links if link.node == node)


def plan_lan(spec: ClusterSpec) -> LanPlan:
    """Addresses follow from the LAN's index and the node's place; MACs too, so that a rebuilt node needs no new ARP."""
    network = lan_network(spec.lan_index)
    links = tuple(
        NodeLink(node, network[NODE_OCTET + k], f"kb{k}", f"02:4b:00:{spec.lan_index:02x}:00:{NODE_OCTET + k:02x}")
        for k, node in enumerate(spec.node_names)
    )
    return LanPlan(
        name=spec.name,
        index=spec.lan_index,
        network=network,
        host_interface=f"kb{spec.lan_index}-host",
        host_address=network[HOST_OCTET],
        links=links,
        hidden=(spec.pods, spec.services),
    )


def lan_network(index: int) -> IPv4Network:
    return IPv4Network(f"198.18.{index}.0/24")


def plan_index(routes: list[IPv4Network], taken: set[int]) -> int:
    """The lowest N whose 198.18.N.0/24 meets no route of the host and no other cluster. Raises ConfigError."""
    for index in range(256):
        if index not in taken and not any(route.overlaps(lan_network(index)) for route in routes):
            return index
    raise ConfigError(
        "no 198.18.N.0/24 is free for the nodes: 'kubarium status --all' shows the clusters, "
        "'kubarium down --name NAME' removes one"
    )


def plan_filter(plan: LanPlan) -> str:
    """nftables text: what must not leave the LAN towards the host, in either role."""
    nets = ", ".join(str(net) for net in plan.hidden)
    return (
        f"add table bridge {LAN_TABLE}\n"
        f"delete table bridge {LAN_TABLE}\n"
        f'add table bridge {LAN_TABLE} {{ comment "pod and Service addresses stay inside the cluster" ; }}\n'
        f"add chain bridge {LAN_TABLE} forward {{ type filter hook forward priority 0 ; policy accept ; }}\n"
        f"add rule bridge {LAN_TABLE} forward oifname {HOST_PORT} ip saddr {{ {nets} }} counter drop\n"
        f"add rule bridge {LAN_TABLE} forward oifname {HOST_PORT} ip daddr {{ {nets} }} counter drop\n"
    )


# --- what is there


def host_routes(table: str | None = None, *, skip: str = "") -> list[IPv4Network]:
    """The host's IPv4 routes (main table) except the default route, and those of interface `skip`.

    `table`: text of /proc/net/route, for tests.
    """
    text = Path("/proc/net/route").read_text() if table is None else table
    found = []
    for line in text.splitlines()[1:]:
        interface, destination, _, _, _, _, _, mask = line.split()[:8]
        net = IPv4Network((_little_endian(destination), str(_little_endian(mask))), strict=False)
        if net.prefixlen and interface != skip:
            found.append(net)
    return found


def host_interfaces() -> dict[str, str]:
    """Interfaces of ours on the host and the cluster each belongs to, by the alias they carry."""
    found = {}
    for folder in Path("/sys/class/net").iterdir():
        with contextlib.suppress(OSError):
            if match := re.fullmatch(ALIAS.format("(.+)"), (folder / "ifalias").read_text().strip()):
                found[folder.name] = match[1]
    return found


def cluster_namespaces(name: str) -> list[Path]:
    """The named namespaces of a cluster, by their names alone: its LAN, its nodes, pods of the host runtime."""
    return _namespaces(rf"kubarium-{re.escape(name)}-({LAN}|{_NODE}{_POD}?)")


def node_namespaces(name: str, node: str) -> list[Path]:
    """The named namespaces of one node and of its pods of the host runtime."""
    return _namespaces(rf"kubarium-{re.escape(name)}-{re.escape(node)}{_POD}?")


def namespace_clusters() -> set[str]:
    """Clusters that have a named namespace."""
    pattern = re.compile(rf"kubarium-(.+?)-({LAN}|{_NODE}{_POD}?)")
    matches = (pattern.fullmatch(path.name) for path in NETNS.iterdir()) if NETNS.is_dir() else ()
    return {match[1] for match in matches if match}


_NODE = r"(control-plane|node-\d+)"
_POD = r"(-[0-9a-f-]{8,})"


def _namespaces(pattern: str) -> list[Path]:
    return [path for path in sorted(NETNS.iterdir()) if re.fullmatch(pattern, path.name)] if NETNS.is_dir() else []


def _little_endian(text: str) -> IPv4Address:
    return IPv4Address(bytes.fromhex(text)[::-1])


# --- making it so: each of these runs in a process of its own, because namespaces belong to threads


def ensure_lan(paths: ClusterPaths, plan: LanPlan) -> bool:
    """The LAN's namespace, bridge, filter and host link, made whole or found whole. True when they were made.

    Leaves the calling thread in the LAN's namespace.
    """
    netns = paths.netns(LAN)
    if _lan_is_whole(netns, plan):
        namespaces.enter_netns(netns)
        return False
    namespaces.unname_netns(netns)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        remove_host_link(plan.host_interface, plan.name)
        namespaces.new_netns()
        namespaces.name_netns("/proc/thread-self/ns/net", netns)
        _sysctl("net/ipv6/conf/all/disable_ipv6", "1")
        _sysctl("net/bridge/bridge-nf-call-iptables", "0")
        _sysctl("net/bridge/bridge-nf-call-ip6tables", "0")
        _sysctl("net/bridge/bridge-nf-call-arptables", "0")
        _load_filter(plan_filter(plan))
        _make_bridge(plan, home)
    finally:
        os.close(home)
    _address_host(plan)
    return True


def ensure_link(paths: ClusterPaths, plan: LanPlan, node: str) -> bool:
    """The node's eth0 on the LAN, in a namespace that exists. True when it was made. Leaves the thread in the LAN."""
    link = plan.link(node)
    namespaces.enter_netns(paths.netns(LAN))
    with _netlink() as ip:
        port = ip.link_lookup(ifname=link.port)
    if port and _has_interface(paths.netns(node), NODE_INTERFACE):
        return False
    namespaces.enter_netns(paths.netns(node))
    for name, value in _NODE_SYSCTLS.items():
        _sysctl(name, value)
    lan = os.open(paths.netns(LAN), os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _netlink() as ip:
            for stale in ip.link_lookup(ifname=NODE_INTERFACE):
                _delete_link(ip, stale)
            ip.link("set", index=1, state="up")
            ip.link(
                "add",
                ifname=NODE_INTERFACE,
                kind="veth",
                address=link.mac,
                peer={"ifname": link.port, "net_ns_fd": lan},
            )
            (eth0,) = ip.link_lookup(ifname=NODE_INTERFACE)
            ip.addr("add", index=eth0, address=str(link.address), prefixlen=plan.network.prefixlen)
            ip.link("set", index=eth0, state="up")
    finally:
        os.close(lan)
    namespaces.enter_netns(paths.netns(LAN))
    with _netlink() as ip:
        (bridge,) = ip.link_lookup(ifname=BRIDGE)
        (port,) = ip.link_lookup(ifname=link.port)
        ip.link("set", index=port, master=bridge, state="up")
    return True


def cut_link(paths: ClusterPaths, plan: LanPlan, node: str) -> None:
    """Take the node off the LAN at once; a LAN or link that is gone is fine. Leaves the thread in the LAN."""
    if not namespaces.is_netns(paths.netns(LAN)):
        return
    namespaces.enter_netns(paths.netns(LAN))
    with _netlink() as ip:
        for port in ip.link_lookup(ifname=plan.link(node).port):
            _delete_link(ip, port)


def remove_host_link(interface: str, name: str) -> None:
    """Remove the host's end of the LAN if it is this cluster's. Its other end goes with it."""
    if host_interfaces().get(interface) != name:
        return
    with _netlink() as ip:
        for index in ip.link_lookup(ifname=interface):
            _delete_link(ip, index)


# Routing of a node, whatever the machine's own values are: a new namespace may inherit either.
_NODE_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}


def _sysctl(name: str, value: str) -> None:
    """Set one setting of the current namespace; one that this kernel lacks, or holds already, is left alone."""
    path = Path("/proc/sys") / name
    with contextlib.suppress(FileNotFoundError):
        if path.read_text().strip() != value:
            try:
                path.write_text(value)
            except OSError as err:
                raise NetworkError(f"cannot set {name.replace('/', '.')} to {value}: {err.strerror}") from err


def _lan_is_whole(netns: Path, plan: LanPlan) -> bool:
    if not namespaces.is_netns(netns) or host_interfaces().get(plan.host_interface) != plan.name:
        return False
    return plan.network in host_routes() and _has_interface(netns, BRIDGE)


def _has_interface(netns: Path, interface: str) -> bool:
    """Whether a namespace has an interface. Raises nothing: no namespace has none."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.enter_netns(netns)
        return interface in Path("/proc/thread-self/net/dev").read_text().replace(":", " ").split()
    except (OSError, NetworkError):
        return False
    finally:
        namespaces.enter_netns(f"/proc/self/fd/{home}")
        os.close(home)


def _make_bridge(plan: LanPlan, host: int) -> None:
    """The bridge and the host's link. The host's end is born and labelled here: killed halfway, it goes with us."""
    with _netlink() as ip:
        ip.link("set", index=1, state="up")
        ip.link("add", ifname=BRIDGE, kind="bridge", br_stp_state=0, br_forward_delay=0)
        (bridge,) = ip.link_lookup(ifname=BRIDGE)
        ip.link("set", index=bridge, state="up")
        ip.link("add", ifname=HOST_PORT, kind="veth", peer=plan.host_interface)
        (port,) = ip.link_lookup(ifname=HOST_PORT)
        (outer,) = ip.link_lookup(ifname=plan.host_interface)
        ip.link("set", index=outer, ifalias=ALIAS.format(plan.name))
        ip.link("set", index=port, master=bridge, state="up")
        ip.link("set", index=outer, net_ns_fd=host)
    namespaces.enter_netns(f"/proc/self/fd/{host}")


def _address_host(plan: LanPlan) -> None:
    with _netlink() as ip:
        (outer,) = ip.link_lookup(ifname=plan.host_interface)
        ip.addr("add", index=outer, address=str(plan.host_address), prefixlen=plan.network.prefixlen)
        ip.link("set", index=outer, state="up")


def _load_filter(text: str) -> None:
    """One nftables transaction in the current namespace."""
    import nftables

    nft = nftables.Nftables()
    code, _, error = nft.cmd(text)
    if code:
        raise NftError(f"the LAN's filter was refused: {error.strip()}")


def _delete_link(ip: Any, index: int) -> None:
    """Delete a link; one that goes at this moment, with the namespace of its other end, is fine."""
    from pyroute2.netlink.exceptions import NetlinkError as KernelError

    try:
        ip.link("del", index=index)
    except KernelError as err:
        if err.code != errno.ENODEV:
            raise


@contextlib.contextmanager
def _netlink() -> Any:
    """A netlink socket in the current namespace; the kernel's refusals become NetlinkError."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError as KernelError

    try:
        with IPRoute() as ip:
            yield ip
    except KernelError as err:
        raise NetlinkError(str(err)) from err
