"""The node under the proxy: the addresses that answer for NodePorts, and the route that lets the node itself reach
Services.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface

from kubarium.machinery.errors import NetworkError
from kubarium.machinery.netlink import Netlink
from kubeproxy.config import Config

PROTOCOL = 108  # `proto 108` in `ip route`: the route of this proxy


class NodeEdge:
    """Blocking netlink in the node's namespace: call it in a thread, one caller at a time."""

    def __init__(self, cfg: Config, netlink: Netlink) -> None:
        self._cfg = cfg
        self._netlink = netlink

    def ensure_service_route(self) -> None:
        """Service addresses on-link: without a default route a local connect would fail before any rule sees it."""
        link = self._lan()
        standing = {(r.destination, r.link) for r in self._netlink.routes() if r.protocol == PROTOCOL}
        for cidr in self._cfg.service_cidrs:
            if (str(cidr), link) not in standing:
                self._netlink.ensure_route(str(cidr), link=link, protocol=PROTOCOL)

    def addresses(self) -> tuple[IPv4Address, ...]:
        """Those of the LAN interface, or all that lie in the ranges of --nodeport-addresses."""
        wanted = self._cfg.node_port_cidrs
        if not wanted:
            return self._of_link(self._lan())
        links = self._netlink.links().values()
        found = (a for link in links if not link.name.startswith("kb") for a in self._of_link(link.index))
        return tuple(a for a in found if any(a in cidr for cidr in wanted))

    def _of_link(self, index: int) -> tuple[IPv4Address, ...]:
        return tuple(sorted(IPv4Interface(text).ip for text in self._netlink.addresses(index) if ":" not in text))

    def _lan(self) -> int:
        link = self._netlink.link(self._cfg.lan_interface)
        if link is None:
            raise NetworkError(f"the node has no interface {self._cfg.lan_interface} (--lan-interface)")
        return link.index
