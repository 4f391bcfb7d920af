"""The DaemonSet controller: carries the plan out as nodes, pods and the sets change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from kubarium.controllers import pods as podutil
from kubarium.controllers.controller import (
    BY_NAMESPACE,
    Context,
    Controller,
    NotYet,
    children_and_orphans,
    namespace_is_going,
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
from kubarium.controllers.expectations import Expectations
from kubarium.controllers.history import HASH, Historian
from kubarium.controllers.refs import adoption_patch, controller_of, plan_claims, release_patch
from kubarium.controllers.replicaset import RECHECK_S, slow_start
from kubarium.controllers.setviews import CONTROLLERREVISIONS, DAEMONSETS, DaemonSet
from kubarium.machinery.client import PatchType
from kubarium.machinery.errors import ApiError, NotFound
from kubarium.machinery.objects import Node, ObjectKey, Pod
from kubarium.machinery.resources import NODES, PODS
from kubarium.machinery.selectors import matches

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
        self.expectations = Expectations(self.pods)
        self.historian = Historian(context.api, context.informers.of(CONTROLLERREVISIONS))
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}  # (set, node) -> how often, and when last
        self.sets.on_change(self._set_changed)
        self.nodes.on_change(self._node_changed)
        self.pods.on_change(self._pod_changed)

    def _set_changed(self, old: DaemonSet | None, new: DaemonSet | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self.expectations.forget(old.metadata.uid)
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
        for pod in filter(None, (old, new)):
            ref = controller_of(pod)
            if ref is not None and ref.kind == DAEMONSETS.kind:
                self.queue.add(ObjectKey(pod.metadata.namespace, ref.name))
        if new is not None and controller_of(new) is None:
            for one in self.sets.by_index(BY_NAMESPACE, new.metadata.namespace):
                if matches(one.spec.selector, new.metadata.labels):
                    self.queue.add(one.key)

    async def sync(self, key: ObjectKey) -> None:
        found = self.sets.get(key)
        if found is None or found.metadata.deletion_timestamp:
            return
        pods = await self._claim(found)
        history = await self.historian.history(found)
        revision = history.update.metadata.labels.get(HASH, "")
        template = template_pod(found)
        fits = {node.metadata.name: fit(template, node) for node in self.nodes.all()}
        by_node: dict[str, list[Pod]] = {}
        for pod in pods:
            by_node.setdefault(node_of(pod), []).append(pod)
        world = World(found, fits, by_node, revision, self.clock())
        failure = ""
        if self.expectations.satisfied(found.metadata.uid):
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

    async def _claim(self, found: DaemonSet) -> list[Pod]:
        claims = plan_claims(found, found.spec.selector, children_and_orphans(self.pods, found))
        owned = list(claims.owned)
        for pod in claims.release:
            await self._patch(pod, release_patch([found.metadata.uid], pod))
        if claims.adopt and await self._still_there(found):
            for pod in claims.adopt:
                await self._patch(pod, adoption_patch(found, pod))
                owned.append(pod)
        return owned

    async def _still_there(self, found: DaemonSet) -> bool:
        try:
            fresh = await self.api.get(DAEMONSETS, found.metadata.name, found.metadata.namespace)
        except NotFound:
            return False
        return fresh.metadata.uid == found.metadata.uid and not fresh.metadata.deletion_timestamp

    async def _patch(self, pod: Pod, patch: dict[str, Any]) -> None:
        await self.api.patch(PODS, pod.metadata.name, patch, pod.metadata.namespace, patch_type=PatchType.STRATEGIC)

    async def _apply(self, found: DaemonSet, plan: Plan, revision: str) -> str:
        """The message of the first thing that went wrong."""
        delete = [*plan.delete, *self._due(found, plan.ended)]
        results = await asyncio.gather(*(self._delete(found, pod) for pod in delete))
        if message := next(filter(None, results), ""):
            return message
        waiting = list(plan.create)
        for size in slow_start(len(waiting)):
            batch, waiting = waiting[:size], waiting[size:]
            results = await asyncio.gather(*(self._create(found, node, revision) for node in batch))
            if message := next(filter(None, results), ""):
                return message
        return ""

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

    async def _create(self, found: DaemonSet, node: str, revision: str) -> str:
        try:
            pod = await self.api.create(PODS, pod_of(found, node, revision), found.metadata.namespace)
        except ApiError as err:
            if namespace_is_going(err):
                return ""
            self.events.event(found, "Warning", "FailedCreate", f"Error creating: {err}")
            return str(err)
        meta = pod.metadata
        self.expectations.created(found.metadata.uid, pod.key, meta.uid, meta.resource_version)
        self.events.event(found, "Normal", "SuccessfulCreate", f"Created pod: {meta.name}")
        return ""

    async def _delete(self, found: DaemonSet, pod: Pod) -> str:
        try:
            await self.api.delete(PODS, pod.metadata.name, pod.metadata.namespace, uid=pod.metadata.uid)
        except NotFound:
            return ""
        except ApiError as err:
            self.events.event(found, "Warning", "FailedDelete", f"Error deleting: {err}")
            return str(err)
        self.expectations.deleted(found.metadata.uid, pod.key, pod.metadata.uid)
        self.events.event(found, "Normal", "SuccessfulDelete", f"Deleted pod: {pod.metadata.name}")
        return ""

    async def _write_status(self, found: DaemonSet, status: dict[str, Any]) -> None:
        meta = found.metadata
        patch = {"metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid}, "status": status}
        await self.api.patch(DAEMONSETS, meta.name, patch, meta.namespace, subresource="status")
