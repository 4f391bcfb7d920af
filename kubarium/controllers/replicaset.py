"""ReplicaSets, and ReplicationControllers before them: as many pods as `spec.replicas` says.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kubarium.controllers import pods as podutil
from kubarium.controllers.children import RECHECK_S, Children
from kubarium.controllers.controller import (
    BY_OWNER,
    Context,
    Controller,
    NotYet,
    children_and_orphans,
)
from kubarium.controllers.refs import (
    controller_reference,
    controller_uid,
)
from kubarium.controllers.views import REPLICASETS, REPLICATIONCONTROLLERS, ReplicaSet, ReplicationController
from kubarium.machinery.informer import Informer
from kubarium.machinery.objects import ObjectKey, Pod
from kubarium.machinery.resources import PODS, Resource
from kubarium.machinery.times import format_timestamp, parse_timestamp

BURST = 500
"""At most this many pods are created or deleted in one sync."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


Replicas = ReplicaSet | ReplicationController


@dataclass(frozen=True, slots=True)
class Plan:
    """How many pods to create, which to delete (worst first)."""

    create: int = 0
    delete: tuple[Pod, ...] = ()


def plan_pods(rs: Replicas, owned: Iterable[Pod], siblings: Iterable[Pod], now: float) -> Plan:
    """What brings the active pods of `rs` to their number. `siblings` are the pods of all ReplicaSets of its owner."""
    if rs.metadata.deletion_timestamp:
        return Plan()
    active = [pod for pod in owned if podutil.is_active(pod)]
    missing = rs.spec.replicas - len(active)
    if missing >= 0:
        return Plan(create=min(missing, BURST))
    return Plan(delete=tuple(rank_for_deletion(active, siblings, now)[: min(-missing, BURST)]))


def rank_for_deletion(candidates: Iterable[Pod], siblings: Iterable[Pod], now: float) -> list[Pod]:
    """The pods whose loss costs least come first.

    Unassigned before assigned, pending before running, unready before ready, lower deletion cost, on the node with more
    siblings, ready for a shorter time, restarted more often, younger. Times are compared by order of magnitude, ties
    fall by uid, so that not always the youngest goes.
    """
    crowding = Counter(pod.spec.node_name for pod in siblings if podutil.is_active(pod))
    phases = {"Pending": 0, "Unknown": 1}

    def rank(pod: Pod) -> tuple[Any, ...]:
        return (
            bool(pod.spec.node_name),
            phases.get(pod.status.phase, 2),
            podutil.is_ready(pod),
            _deletion_cost(pod),
            -crowding[pod.spec.node_name],
            _magnitude(podutil.ready_since(pod), now),
            -podutil.restarts(pod),
            _magnitude(parse_timestamp(pod.metadata.creation_timestamp), now),
            pod.metadata.uid,
        )

    return sorted(candidates, key=rank)


def _deletion_cost(pod: Pod) -> int:
    try:
        return int(pod.metadata.annotations.get(DELETION_COST, "0"))
    except ValueError:
        return 0


def _magnitude(since: float | None, now: float) -> int:
    return -1 if since is None else int(math.log2(max(1.0, now - since)))


def pod_from_template(owner: Replicas) -> dict[str, Any]:
    """The pod, as sent to the API server, that a template makes."""
    template = owner.spec.template
    given = template.get("metadata") or {}
    metadata = {key: given[key] for key in ("labels", "annotations", "finalizers") if given.get(key)}
    return {
        "metadata": {
            "generateName": f"{owner.metadata.name}-",
            **metadata,
            "ownerReferences": [controller_reference(owner)],
        },
        "spec": template.get("spec") or {},
    }


def plan_status(rs: Replicas, owned: Sequence[Pod], failure: tuple[str, str] | None, now: float) -> dict[str, Any]:
    """The status that the pods amount to, for a merge patch (None removes a field).

    `failure` is the reason and message of a create or delete that went wrong in this sync.
    """
    active = [pod for pod in owned if podutil.is_active(pod)]
    labels = ((rs.spec.template.get("metadata") or {}).get("labels")) or {}
    counts = {
        "fullyLabeledReplicas": sum(labels.items() <= pod.metadata.labels.items() for pod in active),
        "readyReplicas": sum(map(podutil.is_ready, active)),
        "availableReplicas": sum(podutil.available_in(p, rs.spec.min_ready_seconds, now) == 0 for p in active),
    }
    return {
        "replicas": len(active),
        **{name: count or None for name, count in counts.items()},
        "observedGeneration": rs.metadata.generation,
        "conditions": _conditions(rs, failure, now) or None,
    }


def _conditions(rs: Replicas, failure: tuple[str, str] | None, now: float) -> list[dict[str, str]]:
    if failure is None:
        return []
    reason, message = failure
    for old in rs.status.conditions:
        if old.type == "ReplicaFailure" and old.reason == reason:
            return [_condition(old.reason, old.message, old.last_transition_time)]
    return [_condition(reason, message, format_timestamp(now))]


def _condition(reason: str, message: str, since: str) -> dict[str, str]:
    return {
        "type": "ReplicaFailure",
        "status": "True",
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }


def same_status(rs: Replicas, status: dict[str, Any]) -> bool:
    """Whether `status` (as planned) is what the object already says."""
    old = rs.status
    return (
        old.replicas == status["replicas"]
        and old.fully_labeled_replicas == (status["fullyLabeledReplicas"] or 0)
        and old.ready_replicas == (status["readyReplicas"] or 0)
        and old.available_replicas == (status["availableReplicas"] or 0)
        and old.observed_generation == status["observedGeneration"]
        and [(c.type, c.reason) for c in old.conditions]
        == [(c["type"], c["reason"]) for c in status["conditions"] or ()]
    )


def next_available_in(rs: Replicas, owned: Iterable[Pod], now: float) -> float | None:
    """Seconds until a ready pod will count as available, where that needs only time."""
    waits = (podutil.available_in(pod, rs.spec.min_ready_seconds, now) for pod in owned if podutil.is_active(pod))
    return min((wait for wait in waits if wait), default=None)


class ReplicaSetController(Controller[ObjectKey]):
    name = "replicaset-controller"
    kind: ClassVar[Resource[Any]] = REPLICASETS

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.replicasets: Informer[Replicas] = context.informers.of(self.kind)
        self.pods = context.informers.of(PODS)
        self.children = Children(self.api, self.events, self.pods, self.kind)
        self.replicasets.on_change(self._replicaset_changed)
        self.pods.on_change(self._pod_changed)

    def _replicaset_changed(self, old: Replicas | None, new: Replicas | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self.children.forget(old.metadata.uid)
        if (changed := new or old) is not None:
            self.queue.add(changed.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for key in self.children.concerned(old, new, self.replicasets):
            self.queue.add(key)

    async def sync(self, key: ObjectKey) -> None:
        rs = self.replicasets.get(key)
        if rs is None:
            return
        if not await self.children.settled(rs):
            self.queue.add_after(key, RECHECK_S)  # the pods that the cache lacks bring us back, or were never shown
            return
        candidates = children_and_orphans(self.pods, rs)
        owned = await self.children.claim(rs, rs.spec.selector, (p for p in candidates if podutil.is_active(p)))
        now = self.clock()
        failure = await self._apply(rs, plan_pods(rs, owned, self._siblings(rs, owned), now))
        await self._write_status(rs, plan_status(rs, owned, failure, now))
        if (wait_s := next_available_in(rs, owned, now)) is not None:
            self.queue.add_after(key, wait_s)
        if failure is not None:
            raise NotYet(failure[1])

    def _siblings(self, rs: Replicas, owned: Sequence[Pod]) -> list[Pod]:
        parent = controller_uid(rs)
        if not parent:
            return list(owned)
        family = self.replicasets.by_index(BY_OWNER, parent)
        return [pod for sibling in family for pod in self.pods.by_index(BY_OWNER, sibling.metadata.uid)]

    async def _apply(self, rs: Replicas, plan: Plan) -> tuple[str, str] | None:
        """Create or delete; the reason and message of the first failure."""
        if message := await self.children.create(rs, [pod_from_template(rs)] * plan.create):
            return "FailedCreate", message
        message = await self.children.delete(rs, plan.delete)
        return ("FailedDelete", message) if message else None

    async def _write_status(self, rs: Replicas, status: dict[str, Any]) -> None:
        if same_status(rs, status):
            return
        patch = {"metadata": {"resourceVersion": rs.metadata.resource_version}, "status": status}
        await self.api.patch(self.kind, rs.metadata.name, patch, rs.metadata.namespace, subresource="status")


class ReplicationControllers(ReplicaSetController):
    name = "replicationcontroller-controller"
    kind = REPLICATIONCONTROLLERS
