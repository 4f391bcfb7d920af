"""Taint eviction: pods leave a node whose NoExecute taints they do not tolerate, or no longer.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions
"""

from __future__ import annotations

from collections.abc import Iterable

from kubarium.controllers.controller import BY_NODE, Context, Controller
from kubarium.controllers.disruption import disruption_patch
from kubarium.machinery.client import PatchType
from kubarium.machinery.errors import NotFound
from kubarium.machinery.objects import Node, ObjectKey, Pod, Taint
from kubarium.machinery.resources import NODES, PODS
from kubarium.machinery.taints import NO_EXECUTE, tolerates
from kubarium.machinery.times import parse_timestamp


def evict_at(pod: Pod, taints: Iterable[Taint], now: float) -> float | None:
    """When the pod has to go, in seconds since the epoch (`now`: at once); None if it may stay.

    tolerationSeconds count from the taint's timeAdded; of several tolerations for one taint the shortest counts.
    """
    deadlines = []
    for taint in taints:
        if taint.effect != NO_EXECUTE:
            continue
        tolerations = [toleration for toleration in pod.spec.tolerations if tolerates(toleration, taint)]
        if not tolerations:
            return now
        limits = [max(0, t.toleration_seconds) for t in tolerations if t.toleration_seconds is not None]
        if limits:
            added = parse_timestamp(taint.time_added)
            deadlines.append((now if added is None else added) + min(limits))
    return min(deadlines, default=None)


class TaintEvictionController(Controller[ObjectKey]):
    """Keys are pods; a change of a node's taints brings all of its pods."""

    name = "taint-eviction-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.nodes = context.informers.of(NODES)
        self.pods = context.informers.of(PODS)
        self._told: dict[str, float] = {}  # pod uid -> the time to which its eviction was set
        self.nodes.on_change(self._node_changed)
        self.pods.on_change(self._pod_changed)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is not None and (old is None or old.spec.taints != new.spec.taints):
            for pod in self.pods.by_index(BY_NODE, new.metadata.name):
                self.queue.add(pod.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if new is None and old is not None:
            self._told.pop(old.metadata.uid, None)
        elif new is not None and new.spec.node_name:
            seen = old is not None and (old.spec.node_name, old.spec.tolerations) == (
                new.spec.node_name,
                new.spec.tolerations,
            )
            if not seen:
                self.queue.add(new.key)

    async def sync(self, key: ObjectKey) -> None:
        pod = self.pods.get(key)
        node = self.nodes.get(ObjectKey("", pod.spec.node_name)) if pod is not None else None
        if pod is None or node is None or pod.metadata.deletion_timestamp:
            return
        now = self.clock()
        when = evict_at(pod, node.spec.taints, now)
        if when is None:
            if self._told.pop(pod.metadata.uid, None) is not None:
                self.events.event(pod, "Normal", "TaintManagerEviction", f"Cancelling deletion of Pod {key}")
        elif when > now:
            self._told[pod.metadata.uid] = when
            self.queue.add_after(key, when - now)
        else:
            await self._evict(pod)

    async def _evict(self, pod: Pod) -> None:
        meta = pod.metadata
        self.events.event(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {pod.key}")
        text = "Taint manager: deleting due to NoExecute taint"
        patch = disruption_patch(pod, "DeletionByTaintManager", text, self.clock())
        try:
            await self.api.patch(
                PODS, meta.name, patch, meta.namespace, patch_type=PatchType.STRATEGIC, subresource="status"
            )
            await self.api.delete(PODS, meta.name, meta.namespace, uid=meta.uid)
        except NotFound:
            return
