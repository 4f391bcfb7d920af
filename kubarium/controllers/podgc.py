"""Pod garbage collection: pods that no kubelet will ever finish, and finished pods beyond a number.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-garbage-collection
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubarium.controllers import pods as podutil
from kubarium.controllers.controller import Context, Controller
from kubarium.controllers.disruption import disruption_patch
from kubarium.controllers.nodelifecycle import ready_status
from kubarium.machinery.client import PatchType
from kubarium.machinery.errors import NotFound
from kubarium.machinery.objects import Node, ObjectKey, Pod
from kubarium.machinery.resources import NODES, PODS
from kubarium.machinery.taints import OUT_OF_SERVICE

QUARANTINE_S = 1.0
"""How long a node has to be gone: one that registers again at once keeps its pods."""


@dataclass(frozen=True, slots=True)
class Removal:
    """A pod to delete without grace; `reason` goes into its DisruptionTarget condition, "" for none."""

    pod: Pod
    reason: str = ""
    message: str = ""


def plan_removals(pods: Iterable[Pod], nodes: Mapping[str, Node], *, threshold: int) -> list[Removal]:
    """`nodes` are all that exist, by name; `threshold` is the number of finished pods to keep (0: all)."""
    pods = tuple(pods)
    removals = {pod.metadata.uid: removal for pod in pods if (removal := _removal(pod, nodes)) is not None}
    finished = [pod for pod in pods if podutil.is_terminal(pod) and pod.metadata.uid not in removals]
    excess = len(finished) - threshold if threshold else 0
    finished.sort(key=lambda pod: (pod.status.reason != "Evicted", pod.metadata.creation_timestamp, pod.metadata.name))
    return [*removals.values(), *(Removal(pod) for pod in finished[: max(0, excess)])]


def _removal(pod: Pod, nodes: Mapping[str, Node]) -> Removal | None:
    if not pod.spec.node_name:
        return Removal(pod) if pod.metadata.deletion_timestamp else None
    node = nodes.get(pod.spec.node_name)
    if node is None:
        return Removal(pod, "DeletionByPodGC", "PodGC: node no longer exists")
    out = any(taint.key == OUT_OF_SERVICE for taint in node.spec.taints)
    if out and pod.metadata.deletion_timestamp and ready_status(node) != "True":
        return Removal(pod, "DeletionByPodGC", "PodGC: node is out of service")
    return None


class PodGcController(Controller[str]):
    """One key: a round over all pods, whenever a node went or a pod may have become one to remove."""

    name = "pod-garbage-collector-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.nodes = context.informers.of(NODES)
        self.pods = context.informers.of(PODS)
        self.nodes.on_change(self._node_changed)
        self.pods.on_change(self._pod_changed)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            self.queue.add_after("pods", QUARANTINE_S)
        elif any(taint.key == OUT_OF_SERVICE for taint in new.spec.taints):
            self.queue.add("pods")

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            return
        if new.metadata.deletion_timestamp or podutil.is_terminal(new) or self._is_orphaned(new):
            self.queue.add_after("pods", QUARANTINE_S)

    def _is_orphaned(self, pod: Pod) -> bool:
        return bool(pod.spec.node_name) and self.nodes.get(ObjectKey("", pod.spec.node_name)) is None

    async def sync(self, key: str) -> None:
        nodes = {node.metadata.name: node for node in self.nodes.all()}
        nodes |= await self._nodes_missing_from_cache(nodes)
        for removal in plan_removals(self.pods.all(), nodes, threshold=self.config.terminated_pod_gc_threshold):
            await self._remove(removal)

    async def _nodes_missing_from_cache(self, cached: Mapping[str, Node]) -> dict[str, Node]:
        """Nodes that pods name and the cache lacks, as the API server itself knows them."""
        named = {pod.spec.node_name for pod in self.pods.all() if pod.spec.node_name}
        found: dict[str, Node] = {}
        for name in named - cached.keys():
            try:
                found[name] = await self.api.get(NODES, name)
            except NotFound:
                continue
        return found

    async def _remove(self, removal: Removal) -> None:
        pod, meta = removal.pod, removal.pod.metadata
        try:
            if removal.reason:
                phase = "" if podutil.is_terminal(pod) else "Failed"
                patch = disruption_patch(pod, removal.reason, removal.message, self.clock(), phase=phase)
                await self.api.patch(
                    PODS, meta.name, patch, meta.namespace, patch_type=PatchType.STRATEGIC, subresource="status"
                )
            await self.api.delete(PODS, meta.name, meta.namespace, uid=meta.uid, grace_period_s=0)
        except NotFound:
            return
