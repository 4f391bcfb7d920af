"""Node IPAM: each node gets its own range of pod addresses, the lowest that is free, and keeps it.

Source: https://kubernetes.io/docs/concepts/cluster-administration/networking/
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from kubarium.controllers.controller import Context, Controller
from kubarium.machinery.errors import NotFound, PoolExhausted
from kubarium.machinery.objects import Node
from kubarium.machinery.resources import NODES

CONTROL_PLANE = "control-plane"
SETTLE_S = 0.3
"""Workers that register within this time count as registering together, so that a lab's addresses come out the same."""
FIRST, ALL = "control plane", "all nodes"
"""Keys of the queue: the control plane, on which the cluster's DNS waits, is served without delay."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A cluster range, cut into node ranges of `node_prefixlen` bits."""

    network: IPv4Network
    node_prefixlen: int

    def range(self, index: int) -> IPv4Network:
        """Raises IndexError past the end."""
        if index >= 2 ** (self.node_prefixlen - self.network.prefixlen):
            raise IndexError(index)
        step = 2 ** (32 - self.node_prefixlen)
        return IPv4Network((int(self.network.network_address) + index * step, self.node_prefixlen))

    def lowest_free(self, used: Collection[IPv4Network]) -> IPv4Network:
        """The first range that overlaps none of `used`. Raises PoolExhausted, naming the pool and the number in use."""
        taken = sorted(network for network in used if network.overlaps(self.network))
        exact = {network for network in taken if network.prefixlen == self.node_prefixlen}
        odd = [network for network in taken if network not in exact]
        for index in range(2 ** (self.node_prefixlen - self.network.prefixlen)):
            candidate = self.range(index)
            if candidate not in exact and not any(candidate.overlaps(network) for network in odd):
                return candidate
        raise PoolExhausted(f"no /{self.node_prefixlen} is free in {self.network}: {len(taken)} in use")


@dataclass(frozen=True, slots=True)
class Plan:
    """`ranges` to write, by node; `refused` are nodes for which none is left."""

    ranges: dict[str, tuple[IPv4Network, ...]]
    refused: dict[str, str]


def serving_order(name: str) -> tuple[bool, str]:
    """The control plane first, then by name: with three nodes 10.244.0.0/24 is the control plane's, and so on."""
    return name != CONTROL_PLANE, name


def plan_ranges(nodes: Iterable[Node], given: Iterable[IPv4Network], pools: tuple[Pool, ...]) -> Plan:
    """Ranges for the nodes that have none. `given` are those handed out already that the nodes may not show yet."""
    nodes = tuple(nodes)
    used = {*given, *(network for node in nodes for network in ranges_of(node))}
    plan = Plan({}, {})
    for node in sorted((node for node in nodes if not ranges_of(node)), key=lambda n: serving_order(n.metadata.name)):
        try:
            chosen = tuple(pool.lowest_free(used) for pool in pools)
        except PoolExhausted as err:
            plan.refused[node.metadata.name] = str(err)
            continue
        used.update(chosen)
        plan.ranges[node.metadata.name] = chosen
    return plan


def ranges_of(node: Node) -> tuple[IPv4Network, ...]:
    """The IPv4 ranges that a node has."""
    texts = node.spec.pod_cidrs or ((node.spec.pod_cidr,) if node.spec.pod_cidr else ())
    networks = (ip_network(text, strict=False) for text in texts)
    return tuple(network for network in networks if isinstance(network, IPv4Network))


class NodeIpamController(Controller[str]):
    """One worker: ranges are chosen in one place, one after another."""

    name = "node-ipam-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pools = tuple(Pool(cidr, self.config.node_cidr_mask_size) for cidr in self.config.cluster_cidrs)
        self.nodes = context.informers.of(NODES)
        self._given: dict[str, tuple[IPv4Network, ...]] = {}  # by node uid, until the cache shows them
        self.nodes.on_change(self._changed)

    def _changed(self, old: Node | None, new: Node | None) -> None:
        if new is None and old is not None:
            self._given.pop(old.metadata.uid, None)
            self.queue.add_after(ALL, SETTLE_S)  # its range may be what another node waits for
        elif new is not None and ranges_of(new):
            self._given.pop(new.metadata.uid, None)
        elif new is not None and old is None and new.metadata.name == CONTROL_PLANE:
            self.queue.add(FIRST)
        elif new is not None and old is None:
            self.queue.add_after(ALL, SETTLE_S)

    async def sync(self, key: str) -> None:
        nodes = {node.metadata.name: node for node in self.nodes.all()}
        used = [network for networks in self._given.values() for network in networks]
        used += [network for node in nodes.values() for network in ranges_of(node)]
        served = [node for node in nodes.values() if key == ALL or node.metadata.name == CONTROL_PLANE]
        waiting = [node for node in served if node.metadata.uid not in self._given]
        plan = plan_ranges(waiting, used, self.pools)
        self._given |= {nodes[name].metadata.uid: networks for name, networks in plan.ranges.items()}
        for name, message in plan.refused.items():
            text = f"Node {name} status is now: CIDRNotAvailable ({message})"
            self.events.event(nodes[name], "Normal", "CIDRNotAvailable", text)
        for node in sorted(nodes.values(), key=lambda node: serving_order(node.metadata.name)):
            if not ranges_of(node):
                await self._assign(node)

    async def _assign(self, node: Node) -> None:
        """Write the range chosen; repeated until the cache shows it, as the answer of the last try may be lost."""
        if (networks := self._given.get(node.metadata.uid)) is None:
            return
        texts = [str(network) for network in networks]
        patch = {"metadata": {"uid": node.metadata.uid}, "spec": {"podCIDR": texts[0], "podCIDRs": texts}}
        try:
            await self.api.patch(NODES, node.metadata.name, patch)
        except NotFound:
            self._given.pop(node.metadata.uid, None)
