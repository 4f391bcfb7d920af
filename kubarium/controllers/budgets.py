"""PodDisruptionBudgets: how many pods may be taken away now, from how many there are, shall be and are healthy.

Source: https://kubernetes.io/docs/concepts/workloads/pods/disruptions/
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubarium.controllers import pods as podutil
from kubarium.controllers.controller import BY_NAMESPACE, Context, Controller
from kubarium.controllers.refs import controller_of
from kubarium.controllers.views import BUDGETS, DEPLOYMENTS, REPLICASETS, Budget, Deployment, ReplicaSet
from kubarium.machinery.errors import ApiError, Conflict, NotFound
from kubarium.machinery.objects import ObjectKey, OwnerReference, Pod
from kubarium.machinery.resources import PODS
from kubarium.machinery.selectors import matches
from kubarium.machinery.times import format_timestamp, parse_timestamp

DELETION_S = 120.0
"""A pod whose eviction was granted is counted as gone for so long, though it is still there."""
CONDITION = "DisruptionAllowed"


class CountFailed(Exception):
    """How many pods there should be cannot be told."""


@dataclass(frozen=True, slots=True)
class Count:
    """`expected`: pods that there should be; `desired`: of these, the ones that must be healthy."""

    expected: int
    desired: int
    healthy: int
    disrupted: Mapping[str, str]

    @property
    def allowed(self) -> int:
        return max(0, self.healthy - self.desired) if self.expected > 0 else 0


def scaled(value: int | str, total: int) -> int:
    """A number, or a percentage of the total, rounded up."""
    if isinstance(value, int):
        return value
    return math.ceil(int(value.removesuffix("%")) * total / 100)


def needs_scale(budget: Budget) -> bool:
    """Whether what the pods' controllers want must be known."""
    return budget.spec.max_unavailable is not None or isinstance(budget.spec.min_available, str)


def plan_count(budget: Budget, pods: Sequence[Pod], scale: int, now: float) -> Count:
    """`scale`: how many pods their controllers want; of meaning only where `needs_scale`."""
    spec = budget.spec
    expected, desired = scale, 0
    if spec.max_unavailable is not None:
        desired = max(0, scale - scaled(spec.max_unavailable, scale))
    elif isinstance(spec.min_available, str):
        desired = scaled(spec.min_available, scale)
    elif spec.min_available is not None:
        expected, desired = len(pods), spec.min_available
    disrupted = plan_disrupted(budget, pods, now)
    healthy = sum(
        1
        for pod in pods
        if not pod.metadata.deletion_timestamp and pod.metadata.name not in disrupted and podutil.is_ready(pod)
    )
    return Count(expected, desired, healthy, disrupted)


def plan_disrupted(budget: Budget, pods: Iterable[Pod], now: float) -> dict[str, str]:
    """The pods whose eviction was granted and that may still follow it, with the time of that."""
    there = {pod.metadata.name for pod in pods if not pod.metadata.deletion_timestamp}
    return {
        name: when
        for name, when in budget.status.disrupted_pods.items()
        if name in there and (parse_timestamp(when) or 0) + DELETION_S > now
    }


def plan_status(budget: Budget, count: Count, now: float) -> dict[str, Any] | None:
    """The status as a merge patch; None where the budget has it already."""
    reason, status = ("SufficientPods", "True") if count.allowed > 0 else ("InsufficientPods", "False")
    condition = condition_of(budget, status, reason, "", budget.metadata.generation, now)
    old = budget.status
    was = (old.expected_pods, old.desired_healthy, old.current_healthy, old.disruptions_allowed)
    same_numbers = was == (count.expected, count.desired, count.healthy, count.allowed)
    known = next((c for c in old.conditions if c.type == CONDITION), None)
    up_to_date = known is not None and (known.status, known.observed_generation) == (status, old.observed_generation)
    same_pods = dict(old.disrupted_pods) == dict(count.disrupted)
    if same_numbers and up_to_date and same_pods and old.observed_generation == budget.metadata.generation:
        return None
    disrupted = {**dict.fromkeys(old.disrupted_pods.keys() - count.disrupted.keys()), **count.disrupted}
    return {
        "observedGeneration": budget.metadata.generation,
        "disruptionsAllowed": count.allowed,
        "currentHealthy": count.healthy,
        "desiredHealthy": count.desired,
        "expectedPods": count.expected,
        "conditions": condition,
        **({"disruptedPods": disrupted} if disrupted else {}),
    }


def condition_of(
    budget: Budget, status: str, reason: str, message: str, generation: int, now: float
) -> list[dict[str, Any]]:
    """All conditions of the budget, with the one that is ours as it shall be."""
    wire = [
        {
            "type": c.type,
            "status": c.status,
            "observedGeneration": c.observed_generation,
            "lastTransitionTime": c.last_transition_time,
            "reason": c.reason,
            "message": c.message,
        }
        for c in budget.status.conditions
    ]
    old = next((c for c in wire if c["type"] == CONDITION), None)
    since = old["lastTransitionTime"] if old is not None and old["status"] == status else format_timestamp(now)
    fresh = {
        "type": CONDITION,
        "status": status,
        "observedGeneration": generation,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }
    return [fresh if c is old else c for c in wire] if old is not None else [*wire, fresh]


class DisruptionController(Controller[ObjectKey]):
    name = "disruption-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.kinds = context.all_kinds
        self.budgets = context.informers.of(BUDGETS)
        self.pods = context.informers.of(PODS)
        self.replica_sets = context.informers.of(REPLICASETS)
        self.deployments = context.informers.of(DEPLOYMENTS)
        self.budgets.on_change(self._budget_changed)
        self.pods.on_change(self._pod_changed)
        self.replica_sets.on_change(self._scale_changed)
        self.deployments.on_change(self._scale_changed)

    def _budget_changed(self, old: Budget | None, new: Budget | None) -> None:
        if new is not None:
            self.queue.add(new.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for pod in (old, new):
            if pod is not None:
                self._budgets_of(pod.metadata.namespace, pod.metadata.labels)

    def _budgets_of(self, namespace: str, labels: Mapping[str, str]) -> None:
        for budget in self.budgets.by_index(BY_NAMESPACE, namespace):
            if budget.spec.selector is not None and matches(budget.spec.selector, labels):
                self.queue.add(budget.key)

    def _scale_changed(self, old: ReplicaSet | Deployment | None, new: ReplicaSet | Deployment | None) -> None:
        if old is not None and new is not None and old.spec.replicas != new.spec.replicas:
            for budget in self.budgets.by_index(BY_NAMESPACE, new.metadata.namespace):
                self.queue.add(budget.key)

    async def sync(self, key: ObjectKey) -> None:
        budget = self.budgets.get(key)
        if budget is None:
            return
        now = self.clock()
        pods = self._pods(budget)
        if not pods and budget.status.observed_generation != budget.metadata.generation:
            self.events.event(budget, "Normal", "NoPods", "No matching pods found")
        try:
            scale = await self._scale(budget, pods) if needs_scale(budget) else 0
        except CountFailed as err:
            await self._fail(budget, str(err), now)
            return
        count = plan_count(budget, pods, scale, now)
        if status := plan_status(budget, count, now):
            await self._write(budget, status)
        if count.disrupted:
            soonest = min((parse_timestamp(when) or now) + DELETION_S for when in count.disrupted.values())
            self.queue.add_after(key, max(1.0, soonest - now))

    def _pods(self, budget: Budget) -> list[Pod]:
        selector = budget.spec.selector
        if selector is None:
            return []
        every = self.pods.by_index(BY_NAMESPACE, budget.metadata.namespace)
        return [pod for pod in every if matches(selector, pod.metadata.labels)]

    async def _scale(self, budget: Budget, pods: Sequence[Pod]) -> int:
        """How many pods the controllers of these pods want. Raises CountFailed."""
        wanted: dict[str, int] = {}
        asked: set[str] = set()
        for pod in pods:
            ref = controller_of(pod)
            if ref is not None and ref.uid not in asked:
                asked.add(ref.uid)
                uid, replicas = await self._wanted_by(ref, pod)
                wanted[uid] = replicas
        if any(controller_of(pod) is None for pod in pods):
            self._tell_unmanaged(budget)
        return sum(wanted.values())

    async def _wanted_by(self, ref: OwnerReference, pod: Pod) -> tuple[str, int]:
        """The uid of what decides how many pods there are, and its number."""
        namespace = pod.metadata.namespace
        if ref.kind == "ReplicaSet" and ref.api_version.startswith("apps/"):
            rs = self.replica_sets.get(ObjectKey(namespace, ref.name))
            owner = controller_of(rs) if rs is not None and rs.metadata.uid == ref.uid else None
            if owner is not None and owner.kind == "Deployment":
                deployment = self.deployments.get(ObjectKey(namespace, owner.name))
                if deployment is not None and deployment.metadata.uid == owner.uid:
                    return owner.uid, deployment.spec.replicas
            elif rs is not None and rs.metadata.uid == ref.uid:
                return ref.uid, rs.spec.replicas
        return ref.uid, await self._scale_of(ref, pod)

    async def _scale_of(self, ref: OwnerReference, pod: Pod) -> int:
        """Of anything that has a Scale."""
        resource = self.kinds.served.get((ref.api_version, ref.kind))
        if resource is None:
            raise CountFailed(f'no matches for kind "{ref.kind}" in version "{ref.api_version}"')
        try:
            scale = await self.api.get_raw(resource, ref.name, pod.metadata.namespace, "scale")
        except NotFound:
            text = f"{resource.plural}.{resource.group} does not implement the scale subresource"
            raise CountFailed(text.replace(". ", " ")) from None
        except Conflict:
            raise
        except ApiError as err:
            raise CountFailed(str(err)) from err
        if (scale.get("metadata") or {}).get("uid") != ref.uid:
            raise CountFailed(f'found no controllers for pod "{pod.metadata.name}"')
        return int((scale.get("spec") or {}).get("replicas") or 0)

    def _tell_unmanaged(self, budget: Budget) -> None:
        if budget.status.observed_generation == budget.metadata.generation:
            return
        text = (
            "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of the PDB "
            "cannot be calculated correctly, which may result in undefined behavior. To account for these pods please "
            'set ".spec.minAvailable" field of the PDB to an integer value.'
        )
        self.events.event(budget, "Warning", "UnmanagedPods", text)

    async def _fail(self, budget: Budget, text: str, now: float) -> None:
        """Nothing may be disrupted while nobody knows how much may."""
        reason = "CalculateExpectedPodCountFailed"
        self.events.event(budget, "Warning", reason, f"Failed to calculate the number of expected pods: {text}")
        generation = budget.status.observed_generation
        conditions = condition_of(budget, "False", "SyncFailed", text, generation, now)
        known = next((c for c in budget.status.conditions if c.type == CONDITION), None)
        if known is None or (known.reason, known.message) != ("SyncFailed", text) or budget.status.disruptions_allowed:
            await self._write(budget, {"disruptionsAllowed": 0, "conditions": conditions})
        self.queue.add_after(budget.key, 5.0)

    async def _write(self, budget: Budget, status: Mapping[str, Any]) -> None:
        meta = budget.metadata
        patch = {"metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid}, "status": status}
        await self.api.patch(BUDGETS, meta.name, patch, meta.namespace, subresource="status")
