"""Node lifecycle: who stopped to send heartbeats is unreachable, and tainted; its pods are no longer ready.

A heartbeat is a renewed Lease or a fresh status. Its age is measured by our own clock since we saw it change, so clocks
that differ do no harm, and a restart of ours gives every node its full grace.
Source: https://kubernetes.io/docs/concepts/architecture/nodes/#heartbeats, "Taint based evictions".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kubarium.controllers import pods as podutil
from kubarium.controllers.controller import BY_NODE, Context, Controller
from kubarium.machinery.client import PatchType
from kubarium.machinery.errors import NotFound
from kubarium.machinery.objects import Lease, Node, NodeCondition, ObjectKey, Pod, Taint
from kubarium.machinery.resources import LEASES, NODES, PODS
from kubarium.machinery.taints import NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE, UNSCHEDULABLE
from kubarium.machinery.times import format_timestamp

LEASE_NAMESPACE = "kube-node-lease"
CONDITION_TYPES = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
PRESSURES = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
OURS = frozenset({NOT_READY, UNREACHABLE, UNSCHEDULABLE, *PRESSURES.values()})


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What was last seen of a node (`mark`), and when, by a clock that only goes forward."""

    mark: tuple[str, ...]
    seen_at: float


def heartbeat_mark(node: Node, lease: Lease | None) -> tuple[str, ...]:
    """Changes whenever the kubelet has shown itself."""
    renewed = lease.spec.renew_time if lease is not None else ""
    return node.metadata.uid, renewed, *(condition.last_heartbeat_time for condition in node.status.conditions)


def ready_status(node: Node) -> str:
    """True, False or Unknown; "" for a node that never said."""
    return next((c.status for c in node.status.conditions if c.type == "Ready"), "")


def next_check_s(left_s: float, period_s: float) -> float:
    """When to look at a node again that has `left_s` of its grace left: at the end of it, or of the monitor period."""
    return min(left_s, period_s) if left_s > 0 else period_s


def plan_conditions(node: Node, now: float) -> list[dict[str, str]]:
    """For a node without heartbeats: what its conditions become (those that change), for a strategic merge patch."""
    existing = {condition.type: condition for condition in node.status.conditions}
    planned = []
    for kind in CONDITION_TYPES:
        old = existing.get(kind)
        if old is None:
            planned.append(_unknown(kind, None, "NodeStatusNeverUpdated", "Kubelet never posted node status.", now))
        elif old.status != "Unknown":
            text = "Kubelet stopped posting node status."
            planned.append(_unknown(kind, old, "NodeStatusUnknown", text, now))
    return planned


def _unknown(kind: str, old: NodeCondition | None, reason: str, message: str, now: float) -> dict[str, str]:
    stamp = format_timestamp(now)
    return {
        "type": kind,
        "status": "Unknown",
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": old.last_heartbeat_time if old is not None else stamp,
        "lastTransitionTime": stamp,
    }


def plan_taints(node: Node, *, all_lost: bool, now: float) -> tuple[Taint, ...]:
    """The taints that the node shall have: ours by its conditions, everybody else's untouched.

    With `all_lost` (no node at all sends heartbeats: it is rather us who are cut off) nothing is evicted.
    """
    wanted = [(key, effect) for key, effect in _wanted(node) if not (all_lost and effect == NO_EXECUTE)]
    kept = [taint for taint in node.spec.taints if taint.key not in OURS or (taint.key, taint.effect) in wanted]
    have = {(taint.key, taint.effect) for taint in kept}
    stamp = format_timestamp(now)
    return (*kept, *(Taint(key=k, effect=e, time_added=stamp) for k, e in wanted if (k, e) not in have))


def _wanted(node: Node) -> list[tuple[str, str]]:
    wanted = []
    match ready_status(node):
        case "":
            wanted.append((NOT_READY, NO_SCHEDULE))
        case "False":
            wanted += [(NOT_READY, NO_SCHEDULE), (NOT_READY, NO_EXECUTE)]
        case "Unknown":
            wanted += [(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)]
    if node.spec.unschedulable:
        wanted.append((UNSCHEDULABLE, NO_SCHEDULE))
    under_pressure = {c.type for c in node.status.conditions if c.status == "True"}
    wanted += [(key, NO_SCHEDULE) for kind, key in PRESSURES.items() if kind in under_pressure]
    return wanted


def wire_taints(taints: Iterable[Taint]) -> list[dict[str, str]]:
    fields: Mapping[str, Callable[[Taint], str]] = {
        "key": lambda t: t.key,
        "value": lambda t: t.value,
        "effect": lambda t: t.effect,
        "timeAdded": lambda t: t.time_added,
    }
    return [{name: get(taint) for name, get in fields.items() if get(taint)} for taint in taints]


def plan_unready(pods: Iterable[Pod], now: float) -> list[tuple[Pod, dict[str, Any]]]:
    """Pods that still count as ready, each with the status patch that ends it."""
    stamp = format_timestamp(now)
    lost = {"type": "Ready", "status": "False", "reason": "NodeNotReady", "lastTransitionTime": stamp}
    return [(pod, {"status": {"conditions": [lost]}}) for pod in pods if podutil.is_ready(pod)]


class NodeLifecycleController(Controller[str]):
    """Keys are names of nodes. A node comes up for its next check when its grace period would end."""

    name = "node-lifecycle-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.nodes = context.informers.of(NODES)
        self.leases = context.informers.of(LEASES, namespace=LEASE_NAMESPACE)
        self.pods = context.informers.of(PODS)
        self._heartbeats: dict[str, Heartbeat] = {}
        self._was_ready: dict[str, str] = {}  # by uid
        self.nodes.on_change(self._node_changed)
        self.leases.on_change(self._lease_changed)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None and old is not None:
            self._heartbeats.pop(old.metadata.name, None)
            self._was_ready.pop(old.metadata.uid, None)
        elif new is not None:
            self._observe(new.metadata.name)
            self.queue.add(new.metadata.name)
        if old is not None and new is not None and ready_status(old) != ready_status(new):
            for node in self.nodes.all():  # whether all are lost concerns all
                self.queue.add(node.metadata.name)

    def _lease_changed(self, old: Lease | None, new: Lease | None) -> None:
        if new is not None:
            self._observe(new.metadata.name)

    def _observe(self, name: str) -> None:
        """Note the time when the node shows a new sign of life; a stopped clock here would be a dead node."""
        node = self.nodes.get(ObjectKey("", name))
        if node is None:
            return
        mark = heartbeat_mark(node, self.leases.get(ObjectKey(LEASE_NAMESPACE, name)))
        known = self._heartbeats.get(name)
        if known is None or known.mark != mark:
            self._heartbeats[name] = Heartbeat(mark, time.monotonic())

    async def sync(self, name: str) -> None:
        node = self.nodes.get(ObjectKey("", name))
        if node is None:
            return
        left_s = self._grace_left(node)
        self.queue.add_after(name, next_check_s(left_s, self.config.node_monitor_period_s))
        if left_s <= 0:
            node = await self._mark_unknown(node)
        await self._write_taints(node)
        await self._mark_pods(node)

    def _grace_left(self, node: Node) -> float:
        """Seconds until the node is considered lost."""
        grace_s = self.config.node_monitor_grace_period_s
        if not ready_status(node):
            grace_s = self.config.node_startup_grace_period_s
        known = self._heartbeats.get(node.metadata.name)
        return grace_s if known is None else known.seen_at + grace_s - time.monotonic()

    async def _mark_unknown(self, node: Node) -> Node:
        conditions = plan_conditions(node, self.clock())
        if not conditions:
            return node
        patch = {"metadata": {"resourceVersion": node.metadata.resource_version}, "status": {"conditions": conditions}}
        return await self.api.patch(
            NODES, node.metadata.name, patch, patch_type=PatchType.STRATEGIC, subresource="status"
        )

    async def _write_taints(self, node: Node) -> None:
        others = (other for other in self.nodes.all() if other.metadata.name != node.metadata.name)
        all_lost = all(ready_status(each) == "Unknown" for each in (node, *others))
        taints = plan_taints(node, all_lost=all_lost, now=self.clock())
        if taints != node.spec.taints:
            patch = {
                "metadata": {"resourceVersion": node.metadata.resource_version},
                "spec": {"taints": wire_taints(taints) or None},
            }
            await self.api.patch(NODES, node.metadata.name, patch)

    async def _mark_pods(self, node: Node) -> None:
        """While a node is unreachable its pods are not ready; when it turns not ready they are told once, and its
        kubelet, which lives, may say otherwise."""
        name, status = node.metadata.name, ready_status(node)
        turned = self._was_ready.get(node.metadata.uid) == "True" and status != "True"
        if turned:
            self.events.event(node, "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        if turned or status == "Unknown":
            for pod, patch in plan_unready(self.pods.by_index(BY_NODE, name), self.clock()):
                await self._patch_pod(pod, patch)
        self._was_ready[node.metadata.uid] = status

    async def _patch_pod(self, pod: Pod, patch: dict[str, Any]) -> None:
        meta = pod.metadata
        guarded = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}, **patch}
        try:
            await self.api.patch(
                PODS, meta.name, guarded, meta.namespace, patch_type=PatchType.STRATEGIC, subresource="status"
            )
        except NotFound:
            return
