"""What the scheduler knows of the cluster: nodes, the pods on them, what is asked for and what is left. No I/O.

Pods count from the moment they are assumed (chosen, not yet bound), so that the next decision sees them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kubarium.machinery import quantity
from kubarium.machinery.objects import Container, Node, Pod

NO_REQUEST_CPU = 100
NO_REQUEST_MEMORY = 200 * 1024 * 1024
"""What a container without a request counts as in scores, so that such pods spread too."""

TERMINAL_PHASES = frozenset({"Succeeded", "Failed"})

Resources = Mapping[str, int]
"""cpu in thousandths, everything else in whole units."""


class HostPort(NamedTuple):
    ip: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class PodInfo:
    """A pod with what the plan computes of it over and over."""

    pod: Pod
    requests: Resources
    scored_cpu: int
    scored_memory: int
    host_ports: frozenset[HostPort]
    owner: str

    @classmethod
    def of(cls, pod: Pod) -> PodInfo:
        owner = next((ref.uid for ref in pod.metadata.owner_references if ref.controller), "")
        containers = pod.spec.containers
        return cls(
            pod=pod,
            requests=pod_requests(pod),
            scored_cpu=sum(amounts(c).get("cpu") or NO_REQUEST_CPU for c in containers),
            scored_memory=sum(amounts(c).get("memory") or NO_REQUEST_MEMORY for c in containers),
            host_ports=host_ports(pod),
            owner=owner,
        )

    @property
    def uid(self) -> str:
        return self.pod.metadata.uid


def amounts(container: Container) -> dict[str, int]:
    return {name: amount(name, text) for name, text in container.resources.requests.items()}


def amount(name: str, text: str) -> int:
    return quantity.milli(text) if name == "cpu" else quantity.whole(text)


def pod_requests(pod: Pod) -> dict[str, int]:
    """What a pod needs: its containers together, or an init container and the sidecars before it, if that is more."""
    sidecars: Counter[str] = Counter()
    most: dict[str, int] = {}
    for container in pod.spec.init_containers:
        own = amounts(container)
        if container.restart_policy == "Always":
            sidecars.update(own)
        for name in {*own, *sidecars}:
            extra = 0 if container.restart_policy == "Always" else own.get(name, 0)
            most[name] = max(most.get(name, 0), sidecars[name] + extra)
    running = Counter(sidecars)
    for container in pod.spec.containers:
        running.update(amounts(container))
    overhead = {name: amount(name, text) for name, text in pod.spec.overhead.items()}
    names = {*running, *most, *overhead}
    return {name: max(running[name], most.get(name, 0)) + overhead.get(name, 0) for name in names}


def host_ports(pod: Pod) -> frozenset[HostPort]:
    """Ports taken on the node itself; with hostNetwork every container port is one."""
    return frozenset(
        HostPort(port.host_ip or "0.0.0.0", port.protocol or "TCP", number)
        for container in pod.spec.containers
        for port in container.ports
        if (number := port.host_port or (port.container_port if pod.spec.host_network else 0))
    )


@dataclass(slots=True)
class NodeState:
    """One node and what its pods have taken."""

    node: Node
    allocatable: dict[str, int]
    pods: dict[str, PodInfo] = field(default_factory=dict)
    requested: Counter[str] = field(default_factory=Counter)
    scored_cpu: int = 0
    scored_memory: int = 0
    host_ports: Counter[HostPort] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        return self.node.metadata.name

    def add(self, info: PodInfo) -> None:
        self.pods[info.uid] = info
        self._count(info, 1)

    def remove(self, uid: str) -> None:
        if (info := self.pods.pop(uid, None)) is not None:
            self._count(info, -1)

    def _count(self, info: PodInfo, sign: int) -> None:
        for name, value in info.requests.items():
            self.requested[name] += sign * value
        for port in info.host_ports:
            self.host_ports[port] += sign
        self.scored_cpu += sign * info.scored_cpu
        self.scored_memory += sign * info.scored_memory


def node_state(node: Node, pods: Iterable[Pod] = ()) -> NodeState:
    """A node with the given pods on it."""
    state = NodeState(node, {name: amount(name, text) for name, text in node.status.allocatable.items()})
    for pod in pods:
        state.add(PodInfo.of(pod))
    return state


class ClusterState:
    """All nodes, kept up to date object by object."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeState] = {}
        self._pods: dict[str, tuple[str, PodInfo]] = {}  # uid -> node name; also pods of nodes not (yet) known
        self._assumed: dict[str, str] = {}

    def nodes(self) -> list[NodeState]:
        """In the order of their names."""
        return [self._nodes[name] for name in sorted(self._nodes)]

    def set_node(self, node: Node) -> None:
        state = node_state(node)
        for name, info in self._pods.values():
            if name == state.name:
                state.add(info)
        self._nodes[state.name] = state

    def remove_node(self, name: str) -> None:
        self._nodes.pop(name, None)

    def set_pod(self, pod: Pod) -> None:
        """A pod as the API server has it: on its node, or nowhere. An assumed pod stays where it is assumed."""
        uid = pod.metadata.uid
        if pod.status.phase in TERMINAL_PHASES:
            self.remove_pod(uid)
        elif pod.spec.node_name:
            self._assumed.pop(uid, None)
            self._place(PodInfo.of(pod), pod.spec.node_name)
        elif uid not in self._assumed:
            self._take(uid)

    def remove_pod(self, uid: str) -> None:
        self._assumed.pop(uid, None)
        self._take(uid)

    def assume(self, info: PodInfo, node: str) -> None:
        """The pod is about to be bound to `node`."""
        self._assumed[info.uid] = node
        self._place(info, node)

    def forget(self, uid: str) -> None:
        """The pod could not be bound."""
        if self._assumed.pop(uid, None) is not None:
            self._take(uid)

    def is_assumed(self, uid: str) -> bool:
        return uid in self._assumed

    def _place(self, info: PodInfo, node: str) -> None:
        self._take(info.uid)
        self._pods[info.uid] = (node, info)
        if (state := self._nodes.get(node)) is not None:
            state.add(info)

    def _take(self, uid: str) -> None:
        node, _ = self._pods.pop(uid, ("", None))
        if (state := self._nodes.get(node)) is not None:
            state.remove(uid)
