"""pods/eviction: a pod is deleted, unless a PodDisruptionBudget says that its application would miss it.

What is counted down in the budget's status is made good again by its controller, which sees that the pod has gone.
Source: Kubernetes documentation, "API-initiated Eviction"; k8s.io/kubernetes/pkg/registry/core/pod/storage (texts).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apiserver import codec, replies
from apiserver.registry import labels
from apiserver.registry.base import Object, ResourceDef
from apiserver.registry.cells import at
from apiserver.registry.pods import put_condition
from apiserver.registry.policy import PODDISRUPTIONBUDGETS
from apiserver.request import DeleteOptions, Request, User, WriteOptions
from apiserver.state import State, decoded
from apiserver.writes import Job, Writer
from kubarium.machinery.errors import ApiError, Conflict, Forbidden, TooManyRequests

MAX_DISRUPTED_PODS = 2000
_RETRY_S = 10  # after which a budget that is being counted may be asked again
_TRIES = 20
_SERVER = User("system:apiserver", ("system:masters",))
_AGENT = "kube-apiserver"
_TOO_MANY = "Cannot evict pod as it would violate the pod's disruption budget."
_SEVERAL = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."


class Evictions:
    """Carries out evictions whose request has been judged."""

    def __init__(self, state: State, writer: Writer) -> None:
        self._state = state
        self._writer = writer

    async def evict(self, request: Request, wanted: DeleteOptions) -> None:
        """Raises NotFound, Conflict, TooManyRequests, Forbidden, and what a delete raises."""
        lost: Conflict | None = None
        for _ in range(_TRIES):
            pod = await self._pod(request)
            if not is_outside(pod):
                return await self._evict_guarded(request, pod, wanted)
            options = wanted
            if wanted.resource_version is None and may_become_ready(pod):
                options = replace(wanted, resource_version=pod["metadata"]["resourceVersion"])
            try:
                return await self._delete(request, options)
            except Conflict as err:
                if wanted.resource_version is not None or wanted.uid:
                    raise
                lost = err
        assert lost is not None
        raise lost

    async def _evict_guarded(self, request: Request, pod: Object, wanted: DeleteOptions) -> None:
        budgets = self._budgets(request, pod)
        if len(budgets) > 1:
            raise ApiError(_SEVERAL, code=500, reason="")
        if not budgets:
            return await self._delete(request, wanted)
        budget = budgets[0]
        name = budget["metadata"]["name"]
        if not needs_no_budget(pod, budget):
            await self._count_down(request, name, dry_run=bool(wanted.dry_run))
            return await self._delete(request, wanted)
        options = replace(wanted, resource_version=pod["metadata"]["resourceVersion"])
        try:
            return await self._delete(request, options)
        except Conflict as err:
            if wanted.resource_version is not None:
                raise
            raise still_counting(name) from err

    async def _pod(self, request: Request) -> Object:
        entry = await self._state.current(request.resource, request.namespace, request.name)
        if entry is None:
            raise replies.not_found(request.resource, request.name)
        return decoded(entry)

    def _budgets(self, request: Request, pod: Object) -> list[Object]:
        found = at(pod, "metadata.labels", {})
        entries = self._state.cache.list(PODDISRUPTIONBUDGETS.key(request.namespace))
        budgets = (codec.decode(entry.data) for entry in entries)
        return [budget for budget in budgets if guards(budget, found)]

    async def _count_down(self, request: Request, name: str, *, dry_run: bool) -> None:
        status = replace(request, resource=PODDISRUPTIONBUDGETS, user=_SERVER, name=name, subresource="status")
        options = WriteOptions(dry_run=("All",) if dry_run else (), user_agent=_AGENT)
        now = self._writer.now()
        await self._writer.modify(Job(status, options), lambda budget: counted_down(budget, request.name, now))

    async def _delete(self, request: Request, wanted: DeleteOptions) -> None:
        """The pod says why it goes before it does. Both are the server's own writes: the eviction has been judged."""
        request = replace(request, user=_SERVER)
        pods = replace(request, subresource="")
        if not wanted.dry_run:
            status = replace(request, subresource="status")
            job = Job(status, WriteOptions(user_agent=_AGENT))
            now = self._writer.now()
            written = await self._writer.modify(job, lambda pod: disrupted(request.resource, pod, wanted, now))
            if wanted.resource_version is not None:
                version = codec.decode(written.body)["metadata"]["resourceVersion"]
                wanted = replace(wanted, resource_version=version)
        await self._writer.delete(pods, wanted)


# --- pure: what a pod and a budget say


def is_outside(pod: Object) -> bool:
    """Whether no budget counts the pod: it has not begun, it is over, or it goes anyway."""
    ended = at(pod, "status.phase") in ("Succeeded", "Failed", "Pending")
    return ended or bool(at(pod, "metadata.deletionTimestamp"))


def may_become_ready(pod: Object) -> bool:
    ended = at(pod, "status.phase") in ("Succeeded", "Failed")
    return not ended and not at(pod, "metadata.deletionTimestamp")


def guards(budget: Object, found: dict[str, str]) -> bool:
    """Whether the budget counts pods with these labels. An empty selector counts all of them."""
    selector = at(budget, "spec.selector", None)
    return selector is not None and labels.is_valid(selector) and labels.matches(selector, found)


def needs_no_budget(pod: Object, budget: Object) -> bool:
    """Pods that are not ready count for nothing, if the budget lets them go or its application is well without."""
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in at(pod, "status.conditions", []))
    if ready:
        return False
    if at(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    healthy, desired = at(budget, "status.currentHealthy", 0), at(budget, "status.desiredHealthy", 0)
    return bool(healthy >= desired > 0)


def counted_down(budget: Object, pod: str, now: str) -> Object:
    """The budget with one disruption less. Raises TooManyRequests, Forbidden."""
    name, status = budget["metadata"]["name"], budget.setdefault("status", {})
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise still_counting(name)
    allowed = status.get("disruptionsAllowed", 0)
    if allowed < 0:
        raise _forbidden(name, "pdb disruptions allowed is negative")
    if len(status.get("disruptedPods") or {}) > MAX_DISRUPTED_PODS:
        text = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise _forbidden(name, text)
    if allowed == 0:
        raise _too_many(refusal(name, status))
    status["disruptionsAllowed"] = allowed - 1
    if allowed == 1:
        _set_condition(status, now)
    status["disruptedPods"] = {**(status.get("disruptedPods") or {}), pod: now}
    return budget


def _set_condition(status: Object, now: str) -> None:
    """There are no more disruptions to give."""
    conditions = status.setdefault("conditions", [])
    found = next((c for c in conditions if c.get("type") == "DisruptionAllowed"), None)
    if found is None:
        found = {"type": "DisruptionAllowed"}
        conditions.append(found)
    if found.get("status") != "False":
        found["lastTransitionTime"] = now
    found |= {"status": "False", "reason": "InsufficientPods", "message": ""}
    if status.get("observedGeneration"):
        found["observedGeneration"] = status["observedGeneration"]


def refusal(name: str, status: Object) -> str:
    """Why a budget lets no pod go."""
    conditions = (c for c in status.get("conditions") or () if c.get("type") == "DisruptionAllowed")
    condition: Object = next(conditions, {})
    said = condition.get("message", "") if condition.get("status") == "False" else ""
    healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    if said and condition.get("reason") == "SyncFailed":
        return f"The disruption budget {name} does not allow evicting pods currently because it failed sync: {said}"
    if healthy <= desired:
        return f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
    reason = f" ({condition.get('reason', '')}): {said}" if said else ""
    return f"The disruption budget {name} does not allow evicting pods currently{reason}"


def still_counting(name: str) -> TooManyRequests:
    return _too_many(f"The disruption budget {name} is still being processed by the server.", _RETRY_S)


def _too_many(text: str, retry_s: int = 0) -> TooManyRequests:
    details: dict[str, Any] = {"causes": [{"reason": "DisruptionBudget", "message": text}]}
    return TooManyRequests(_TOO_MANY, details=details | ({"retryAfterSeconds": retry_s} if retry_s else {}))


def _forbidden(name: str, text: str) -> Forbidden:
    details = {"name": name, "group": "policy", "kind": "poddisruptionbudget"}
    return Forbidden(f'poddisruptionbudget.policy "{name}" is forbidden: {text}', details=details)


def disrupted(resource: ResourceDef, pod: Object, wanted: DeleteOptions, now: str) -> Object:
    """The pod with the condition that tells that it was evicted. Raises Conflict where it is not the one meant."""
    metadata = pod["metadata"]
    for field, asked, found in (
        ("UID", wanted.uid, metadata["uid"]),
        ("ResourceVersion", wanted.resource_version, metadata["resourceVersion"]),
    ):
        if asked and asked != found:
            raise replies.delete_precondition(resource, metadata["name"], field, asked, found)
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    put_condition(pod.setdefault("status", {}), condition, now)
    return pod
