"""The node's part of the cluster network: its own ranges, routes to the other nodes, masquerade; from the Nodes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from cni.agent import Agent
from cni.config import Config
from cni.masquerade import Masquerade, masquerade_text, plan_masquerade
from cni.routes import NodeNetwork, apply_routes, diff_routes, network_of, plan_routes
from kubarium.machinery.errors import NetworkError
from kubarium.machinery.informer import Informer
from kubarium.machinery.netlink import Netlink
from kubarium.machinery.nft import Nft
from kubarium.machinery.objects import Node

log = logging.getLogger("cni")

RESYNC_S = 30.0  # repairs what somebody else took away
RETRY_S = 1.0


class NodeNetworking:
    """Reconciles routes, table and ranges whenever a Node changes."""

    def __init__(self, cfg: Config, nodes: Informer[Node], agent: Agent, netlink: Netlink, nft: Nft) -> None:
        self._cfg = cfg
        self._nodes = nodes
        self._agent = agent
        self._netlink = netlink
        self._nft = nft
        self._changed = asyncio.Event()
        self._masquerade: Masquerade | None = None
        self.in_place = False

    async def run(self) -> None:
        self._nodes.on_change(lambda old, new: self._changed.set())
        await self._nodes.synced()
        self._changed.set()
        delay = 0.0
        while True:
            try:
                async with asyncio.timeout(delay or None):
                    await self._changed.wait()
            except TimeoutError:
                self._masquerade = None
            self._changed.clear()
            try:
                await self.sync()
                self.in_place, delay = True, RESYNC_S
            except NetworkError as err:
                log.warning("cni: node network not in place, will retry: %s", err)
                self.in_place, delay = False, RETRY_S

    async def sync(self) -> None:
        """Ranges last: a pod may be wired only once its node is reachable."""
        networks = list(self._networks())
        own = next((n for n in networks if n.name == self._cfg.node_name), None)
        await asyncio.to_thread(self._sync_routes, networks)
        await self._sync_masquerade(networks, own)
        self._agent.set_ranges(own.pod_cidrs if own else ())

    def _networks(self) -> Iterable[NodeNetwork]:
        for node in self._nodes.all():
            try:
                yield network_of(node)
            except ValueError as err:
                log.warning("cni: node %s left out of the routes: %s", node.metadata.name, err)

    def _sync_routes(self, networks: Iterable[NodeNetwork]) -> None:
        link = self._netlink.link(self._cfg.lan_interface)
        if link is None:
            raise NetworkError(f"the node has no interface {self._cfg.lan_interface} (--lan-interface)")
        desired = plan_routes(networks, self._cfg.node_name)
        changes = diff_routes(self._netlink.routes(), desired, link.index)
        apply_routes(self._netlink, changes, link.index)
        for cidr, gateway in changes.put.items():
            log.info("cni: route %s via %s", cidr, gateway)
        for cidr in changes.drop:
            log.info("cni: route %s removed", cidr)

    async def _sync_masquerade(self, networks: Iterable[NodeNetwork], own: NodeNetwork | None) -> None:
        addresses = [a for n in networks for a in n.addresses]
        plan = plan_masquerade(own.pod_cidrs if own else (), self._cfg.cluster_cidrs, addresses)
        if plan != self._masquerade:
            await self._nft.commit(masquerade_text(plan))
            self._masquerade = plan
