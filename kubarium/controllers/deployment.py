"""Deployments: ReplicaSets of one application, rolled from template to template. The decisions are in `rollout`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubarium.controllers import pods as podutil
from kubarium.controllers.controller import (
    BY_NAMESPACE,
    BY_OWNER,
    Context,
    Controller,
    NotYet,
    children_and_orphans,
    namespace_is_going,
)
from kubarium.controllers.refs import adoption_patch, controller_of, controller_uid, plan_claims, release_patch
from kubarium.controllers.rollout import Plan, Replica, comparable, find_new, plan_deployment, wire_condition
from kubarium.controllers.views import DEPLOYMENTS, REPLICASETS, Deployment, ReplicaSet
from kubarium.machinery.client import PatchType
from kubarium.machinery.errors import AlreadyExists, ApiError, NotFound
from kubarium.machinery.objects import ObjectKey, Pod
from kubarium.machinery.resources import PODS
from kubarium.machinery.selectors import matches
from kubarium.machinery.times import format_timestamp


def status_of(d: Deployment) -> dict[str, Any]:
    """The status that the object has, in the shape in which one is planned."""
    status = d.status
    counts = {
        "replicas": status.replicas,
        "updatedReplicas": status.updated_replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "unavailableReplicas": status.unavailable_replicas,
        "collisionCount": status.collision_count,
    }
    return {
        "observedGeneration": status.observed_generation,
        **{name: count or None for name, count in counts.items()},
        "conditions": [wire_condition(c) for c in status.conditions] or None,
    }


def with_create_error(status: dict[str, Any], message: str, now: float) -> dict[str, Any]:
    """The status after the API server refused the new ReplicaSet."""
    stamp = format_timestamp(now)
    kept = [c for c in status["conditions"] or () if c["type"] != "Progressing"]
    refused = {
        "type": "Progressing",
        "status": "False",
        "lastUpdateTime": stamp,
        "lastTransitionTime": stamp,
        "reason": "ReplicaSetCreateError",
        "message": message,
    }
    return {**status, "conditions": [*kept, refused]}


class DeploymentController(Controller[ObjectKey]):
    name = "deployment-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.deployments = context.informers.of(DEPLOYMENTS)
        self.replicasets = context.informers.of(REPLICASETS)
        self.pods = context.informers.of(PODS)
        self.deployments.on_change(self._deployment_changed)
        self.replicasets.on_change(self._replicaset_changed)
        self.pods.on_change(self._pod_changed)

    def _deployment_changed(self, old: Deployment | None, new: Deployment | None) -> None:
        if new is not None:
            self.queue.add(new.key)

    def _replicaset_changed(self, old: ReplicaSet | None, new: ReplicaSet | None) -> None:
        for rs in filter(None, (old, new)):
            ref = controller_of(rs)
            if ref is not None and ref.kind == "Deployment":
                self.queue.add(ObjectKey(rs.metadata.namespace, ref.name))
        if new is not None and controller_of(new) is None:
            for d in self.deployments.by_index(BY_NAMESPACE, new.metadata.namespace):
                if matches(d.spec.selector, new.metadata.labels):
                    self.queue.add(d.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        """Strategy Recreate waits for the last old pod."""
        if old is None or (new is not None and not podutil.is_terminal(new)):
            return
        ref = controller_of(old)
        rs = self.replicasets.get(ObjectKey(old.metadata.namespace, ref.name)) if ref else None
        parent = controller_of(rs) if rs is not None else None
        if parent is not None:
            self.queue.add(ObjectKey(old.metadata.namespace, parent.name))

    async def sync(self, key: ObjectKey) -> None:
        d = self.deployments.get(key)
        if d is None:
            return
        owned = await self._claim(d)
        plan = plan_deployment(d, owned, old_pods_running=self._old_pods_running(d, owned), now=self.clock())
        await self._apply(d, plan)
        if plan.requeue_after_s is not None:
            self.queue.add_after(key, plan.requeue_after_s)

    async def _claim(self, d: Deployment) -> list[ReplicaSet]:
        claims = plan_claims(d, d.spec.selector, children_and_orphans(self.replicasets, d))
        for rs in claims.release:
            await self._patch_replicaset(rs, release_patch([d.metadata.uid], rs), PatchType.STRATEGIC)
        owned = list(claims.owned)
        if claims.adopt and await self._still_there(d):
            patches = ((rs, adoption_patch(d, rs)) for rs in claims.adopt)
            owned += [await self._patch_replicaset(rs, patch, PatchType.STRATEGIC) for rs, patch in patches]
        return owned

    async def _still_there(self, d: Deployment) -> bool:
        """Ask the API server itself before adopting: a cache may show an owner that is gone."""
        try:
            fresh = await self.api.get(DEPLOYMENTS, d.metadata.name, d.metadata.namespace)
        except NotFound:
            return False
        return fresh.metadata.uid == d.metadata.uid and not fresh.metadata.deletion_timestamp

    def _old_pods_running(self, d: Deployment, owned: Sequence[ReplicaSet]) -> bool:
        if d.spec.strategy.type != "Recreate":
            return False
        new = find_new(d, owned)
        old = [rs for rs in owned if rs is not new]
        pods = (pod for rs in old for pod in self.pods.by_index(BY_OWNER, rs.metadata.uid))
        return any(rs.status.replicas for rs in old) or any(not podutil.is_terminal(pod) for pod in pods)

    async def _apply(self, d: Deployment, plan: Plan) -> None:
        if plan.create is not None:
            await self._create(d, plan, plan.create)
        for replica in plan.changes:
            await self._change(d, replica)
        for rs in plan.delete:
            await self._delete(rs)
        await self._write_status(await self._annotate(d, plan.annotations), plan.status)

    async def _create(self, d: Deployment, plan: Plan, wire: dict[str, Any]) -> None:
        name, size = wire["metadata"]["name"], wire["spec"]["replicas"]
        try:
            await self.api.create(REPLICASETS, wire, d.metadata.namespace)
        except AlreadyExists:
            await self._note_collision(d, wire)
            raise
        except ApiError as err:
            if namespace_is_going(err):
                return
            await self._write_status(d, with_create_error(plan.status, str(err), self.clock()))
            text = f'Failed to create new replica set "{name}": {err}'
            self.events.event(d, "Warning", "ReplicaSetCreateError", text)
            raise NotYet(text) from err
        if size:
            self._tell_scaled(d, name, 0, size)

    async def _note_collision(self, d: Deployment, wire: dict[str, Any]) -> None:
        """The name is taken: by our own ReplicaSet, which the cache does not show yet, or by somebody else's."""
        taken = await self.api.get(REPLICASETS, wire["metadata"]["name"], d.metadata.namespace)
        ours = controller_uid(taken) == d.metadata.uid
        if ours and comparable(taken.spec.template) == comparable(wire["spec"]["template"]):
            raise NotYet(f"ReplicaSet {taken.key} exists already; waiting for the cache to show it")
        await self._write_status(d, {"collisionCount": d.status.collision_count + 1})

    async def _change(self, d: Deployment, replica: Replica) -> None:
        before = replica.rs.spec.replicas
        patch = {
            "metadata": {
                "resourceVersion": replica.rs.metadata.resource_version,
                "annotations": replica.annotations,
            },
            "spec": {"replicas": replica.size, "minReadySeconds": replica.min_ready_seconds or None},
        }
        await self._patch_replicaset(replica.rs, patch, PatchType.MERGE)
        if replica.size != before:
            self._tell_scaled(d, replica.name, before, replica.size)

    def _tell_scaled(self, d: Deployment, name: str, before: int, after: int) -> None:
        direction = "up" if after > before else "down"
        text = f"Scaled {direction} replica set {name} from {before} to {after}"
        self.events.event(d, "Normal", "ScalingReplicaSet", text)

    async def _patch_replicaset(self, rs: ReplicaSet, patch: dict[str, Any], patch_type: PatchType) -> ReplicaSet:
        return await self.api.patch(REPLICASETS, rs.metadata.name, patch, rs.metadata.namespace, patch_type=patch_type)

    async def _delete(self, rs: ReplicaSet) -> None:
        meta = rs.metadata
        try:
            await self.api.delete(
                REPLICASETS, meta.name, meta.namespace, uid=meta.uid, resource_version=meta.resource_version
            )
        except NotFound:
            return

    async def _annotate(self, d: Deployment, annotations: dict[str, str]) -> Deployment:
        if not annotations:
            return d
        patch = {"metadata": {"resourceVersion": d.metadata.resource_version, "annotations": annotations}}
        return await self.api.patch(DEPLOYMENTS, d.metadata.name, patch, d.metadata.namespace)

    async def _write_status(self, d: Deployment, status: dict[str, Any]) -> None:
        if status == status_of(d):
            return
        patch = {"metadata": {"resourceVersion": d.metadata.resource_version}, "status": status}
        await self.api.patch(DEPLOYMENTS, d.metadata.name, patch, d.metadata.namespace, subresource="status")
