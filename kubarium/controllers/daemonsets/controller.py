"""The DaemonSet controller: carries the plan out as nodes, pods and the sets change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubarium.controllers import pods as podutil
from kubarium.controllers.children import RECHECK_S, Children
from kubarium.controllers.controller import (
    Context,
    Controller,
    NotYet,
    children_and_orphans,
)
from kubarium.controllers.daemonsets.plan import (
    REVISION,
    Plan,
    World,
    fit,
    node_of,
    plan_nodes,
    plan_status,
    plan_update,
    pod_of,
    same_status,
    template_pod,
)
from kubarium.controllers.history import HASH, Historian
from kubarium.controllers.setviews import CONTROLLERREVISIONS, DAEMONSETS, DaemonSet
from kubarium.machinery.objects import Node, ObjectKey, Pod
from kubarium.machinery.resources import NODES, PODS

FAILED_S = 1.0
FAILED_MOST_S = 900.0
"""A pod that fails on its node again and again is replaced ever more slowly."""


class DaemonSetController(Controller[ObjectKey]):
    name = "daemonset-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.sets = context.informers.of(DAEMONSETS)
        self.nodes = context.informers.of(NODES)
        self.pods = context.informers.of(PODS)
        self.children = Children(self.api, self.events, self.pods, DAEMONSETS)
        self.historian = Historian(context.api, context.informers.of(CONTROLLERREVISIONS))
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}  # (set, node) -> how often, and when last
        self.sets.on_change(self._set_changed)
        self.nodes.on_change(self._node_changed)
        self.pods.on_change(self._pod_changed)

    def _set_changed(self, old: DaemonSet | None, new: DaemonSet | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self.children.forget(old.metadata.uid)
            gone = old.metadata.uid
            self._failures = {key: value for key, value in self._failures.items() if key[0] != gone}
        if new is not None:
            self.queue.add(new.key)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        """A heartbeat changes nothing for us; labels, taints, and that there is a node do."""
        if old is not None and new is not None:
            same_labels = old.metadata.labels == new.metadata.labels
            if same_labels and old.spec == new.spec:
                return
        for one in self.sets.all():
            self.queue.add(one.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for key in self.children.concerned(old, new, self.sets):
            self.queue.add(key)

    async def sync(self, key: ObjectKey) -> None:
        found = self.sets.get(key)
        if found is None or found.metadata.deletion_timestamp:
            return
        candidates = children_and_orphans(self.pods, found)
        pods = await self.children.claim(found, found.spec.selector, candidates)
        history = await self.historian.history(found)
        revision = history.update.metadata.labels.get(HASH, "")
        template = template_pod(found)
        fits = {node.metadata.name: fit(template, node) for node in self.nodes.all()}
        by_node: dict[str, list[Pod]] = {}
        for pod in pods:
            by_node.setdefault(node_of(pod), []).append(pod)
        world = World(found, fits, by_node, revision, self.clock())
        failure = ""
        if await self.children.settled(found):
            plan = plan_nodes(world)
            failure = await self._apply(found, plan if not plan.nothing else plan_update(world), revision)
        else:
            self.queue.add_after(key, RECHECK_S)
        status = plan_status(world, history.collisions)
        if not same_status(found, status):
            await self._write_status(found, status)
        names = {pod.metadata.labels.get(REVISION, "") for pod in pods}
        live = {one.metadata.name for one in history.all if one.metadata.labels.get(HASH) in names}
        await self.historian.truncate(history, live, found.spec.revision_history_limit)
        waits = (podutil.available_in(pod, found.spec.min_ready_seconds, world.now) for pod in pods)
        if (wait_s := min((wait for wait in waits if wait), default=None)) is not None:
            self.queue.add_after(key, wait_s)
        if failure:
            raise NotYet(failure)

    async def _apply(self, found: DaemonSet, plan: Plan, revision: str) -> str:
        """The message of the first thing that went wrong."""
        if message := await self.children.delete(found, [*plan.delete, *self._due(found, plan.ended)]):
            return message
        return await self.children.create(found, [pod_of(found, node, revision) for node in plan.create])

    def _due(self, found: DaemonSet, ended: Sequence[Pod]) -> list[Pod]:
        """Of the pods that have ended, those whose place may be taken now."""
        now, due = self.clock(), []
        for pod in ended:
            node, where = pod.spec.node_name, f"{pod.metadata.namespace}/{pod.metadata.name}"
            if pod.status.phase == "Succeeded":
                text = f"Found succeeded daemon pod {where} on node {node}, will try to delete it"
                self.events.event(found, "Normal", "SucceededDaemonPod", text)
                due.append(pod)
                continue
            count, last = self._failures.get((found.metadata.uid, node), (0, 0.0))
            pause_s = min(FAILED_S * 2 ** min(count - 1, 30), FAILED_MOST_S) if count else 0.0
            if now - last > 2 * FAILED_MOST_S:
                count, pause_s = 0, 0.0
            if (left_s := last + pause_s - now) > 0:
                self.queue.add_after(found.key, left_s)
                continue
            self._failures[found.metadata.uid, node] = count + 1, now
            text = f"Found failed daemon pod {where} on node {node}, will try to kill it"
            self.events.event(found, "Warning", "FailedDaemonPod", text)
            due.append(pod)
        return due

    async def _write_status(self, found: DaemonSet, status: dict[str, Any]) -> None:
        meta = found.metadata
        patch = {"metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid}, "status": status}
        await self.api.patch(DAEMONSETS, meta.name, patch, meta.namespace, subresource="status")
