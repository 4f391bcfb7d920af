"""Pods."""

from __future__ import annotations

from collections.abc import Iterator

from apiserver.registry.base import Object, Part, ResourceDef, Strategy
from apiserver.registry.cells import selectable
from apiserver.registry.faults import Faults
from apiserver.registry.meta import creating, keep_status, next_generation, status_only, updating
from apiserver.registry.podannotations import settle_app_armor
from apiserver.registry.pods_resize import check_resize, keep_but_resources
from apiserver.registry.pods_status import check_status_update
from apiserver.registry.pods_table import COLUMNS, row_conditions
from apiserver.registry.pods_update import check_create, check_ephemeral, check_update
from apiserver.registry.podspec_defaults import default_pod
from apiserver.registry.podspec_warnings import pod_warnings
from kubarium.machinery.resourcelists import Amounts, add, amounts, only, pod_level_set, same

DEFAULT_GRACE_PERIOD_S = 30
_STATUS_FINAL = ("Succeeded", "Failed")


def default(pod: Object) -> None:
    default_pod(pod.setdefault("spec", {}))
    pod.setdefault("status", {}).setdefault("phase", "Pending")


def prepare_create(pod: Object) -> list[str]:
    meta, spec = pod["metadata"], pod.get("spec") or {}
    meta["generation"] = 1
    pod["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
    if spec.get("schedulingGates"):
        text = "Scheduling is blocked due to non-empty scheduling gates"
        gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": text}
        put_condition(pod["status"], gated, meta["creationTimestamp"])
    for term in _terms(spec):
        _merge_label_keys(term, meta.get("labels") or {})
    return settle_app_armor(pod)


def _terms(spec: Object) -> Iterator[Object]:
    """Everything that selects pods by labels and may take some of them from the pod itself."""
    for kind in ("podAffinity", "podAntiAffinity"):
        affinity = (spec.get("affinity") or {}).get(kind) or {}
        for preferred in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            yield preferred.get("podAffinityTerm") or {}
        yield from affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    yield from spec.get("topologySpreadConstraints") or ()


def _merge_label_keys(term: Object, labels: Object) -> None:
    """matchLabelKeys become requirements of the selector, with the pod's own values."""
    if (selector := term.get("labelSelector")) is None:
        return
    for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
        for key in term.get(field) or ():
            if key in labels:
                need = {"key": key, "operator": operator, "values": [labels[key]]}
                selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), need]


def prepare_update(new: Object, old: Object) -> None:
    keep_status(new, old)
    next_generation(new, old, "spec")


def prepare_status_update(new: Object, old: Object) -> None:
    """Only status; a status cannot take the QoS class away, nor end the deletion or change what owns the pod."""
    status_only(new, old)
    meta, was = new["metadata"], old["metadata"]
    for field in ("deletionTimestamp", "ownerReferences"):
        meta.pop(field, None)
        if field in was:
            meta[field] = was[field]
    status, before = new.setdefault("status", {}), old.get("status") or {}
    status.pop("nodeAllocatableResourceClaimStatuses", None)  # behind a feature that is off
    for field in ("qosClass", "observedGeneration"):
        if not status.get(field) and field in before:
            status[field] = before[field]
    _keep_generations(status, before)


def _keep_generations(status: Object, before: Object) -> None:
    """Of conditions, too: one that does not say of which generation it is keeps what it had."""
    known: dict[str, list[int]] = {}
    for condition in before.get("conditions") or ():
        known.setdefault(condition.get("type", ""), []).append(condition.get("observedGeneration", 0))
    for condition in status.get("conditions") or ():
        generations = known.get(condition.get("type", ""))
        generation = generations.pop(0) if generations else 0
        if generation and not condition.get("observedGeneration"):
            condition["observedGeneration"] = generation


_OF_META = (
    "labels", "annotations", "finalizers", "ownerReferences", "deletionTimestamp", "generation",
)  # fmt: skip


def _keep(new: Object, old: Object, spec: Object) -> None:
    """All but `spec` stays as it was, and most metadata."""
    meta = {k: v for k, v in new["metadata"].items() if k not in _OF_META}
    meta |= {k: v for k, v in old["metadata"].items() if k in _OF_META}
    kept = {k: v for k, v in old.items() if k not in ("metadata", "spec")}
    new.clear()
    new.update(kept, metadata=meta, spec=spec)


def prepare_ephemeral(new: Object, old: Object) -> None:
    containers = (new.get("spec") or {}).get("ephemeralContainers")
    spec = {k: v for k, v in old["spec"].items() if k != "ephemeralContainers"}
    if containers:
        spec["ephemeralContainers"] = containers
    _keep(new, old, spec)
    next_generation(new, old, "spec")


def prepare_resize(new: Object, old: Object) -> None:
    if (spec := keep_but_resources(new["spec"], old["spec"])) is not None:
        _keep(new, old, spec)
    next_generation(new, old, "spec")


def grace_period_s(pod: Object, asked: int | None) -> int:
    """Seconds from the deletion's request until the kubelet must be done; 0 deletes at once.

    A pod that was never bound, or whose work is over, needs no grace. A negative period means one second.
    """
    spec = pod.get("spec") or {}
    period = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_PERIOD_S) if asked is None else asked
    if not spec.get("nodeName") or (pod.get("status") or {}).get("phase") in _STATUS_FINAL:
        return 0
    return 1 if period < 0 else int(period)


def put_condition(status: Object, condition: Object, now: str) -> None:
    """Add a condition, or put it in the place of the one of its type; its time is that of the last change."""
    conditions = status.setdefault("conditions", [])
    whole = {"type": condition["type"], "status": condition["status"], "lastProbeTime": None, "lastTransitionTime": now}
    whole |= condition
    for i, before in enumerate(conditions):
        if before.get("type") == whole["type"]:
            if before.get("status") == whole["status"] and before.get("lastTransitionTime"):
                whole["lastTransitionTime"] = before["lastTransitionTime"]
            conditions[i] = whole
            return
    conditions.append(whole)


def qos_class(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort, from the cpu and memory of all containers, or of the pod itself.

    Source: Kubernetes documentation, "Pod Quality of Service Classes".
    """
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    holders = [spec] if pod_level_set(spec) else containers
    requests, limits = _total(holders, "requests"), _total(holders, "limits")
    if not requests and not limits:
        return "BestEffort"
    each_has_both = all(_total([holder], "limits").keys() == {"cpu", "memory"} for holder in holders)
    return "Guaranteed" if each_has_both and same(requests, limits) else "Burstable"


def _total(holders: list[Object], kind: str) -> Amounts:
    """Of cpu and memory, where they are not zero."""
    total: Amounts = {}
    for holder in holders:
        add(total, only(amounts((holder.get("resources") or {}).get(kind)), ("cpu", "memory")))
    return {name: amount for name, amount in total.items() if amount.value > 0}


def _check_resize(new: Object, old: Object, faults: Faults) -> None:
    check_resize(new, old, qos_class(new["spec"]), faults)


_PARTS = {
    "ephemeralcontainers": Part(prepare_ephemeral, updating(check_ephemeral)),
    "resize": Part(prepare_resize, updating(_check_resize)),
}
_SUBRESOURCES = (
    "attach", "binding", "ephemeralcontainers", "eviction", "exec", "log", "portforward", "proxy", "resize", "status",
)  # fmt: skip

PODS = ResourceDef(
    "",
    "v1",
    "Pod",
    "pods",
    "pod",
    short_names=("po",),
    categories=("all",),
    subresources=_SUBRESOURCES,
    storage_version_hash="xPOwRZ+Yhw8=",
    field_selectors=selectable(
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    )
    | {"status.podIPs": lambda _: ""},  # may be asked for; upstream takes it for empty
    columns=COLUMNS,
    row_conditions=row_conditions,
    strategy=Strategy(
        default=default,
        prepare_create=prepare_create,
        prepare_update=prepare_update,
        prepare_status_update=prepare_status_update,
        validate=creating(check_create),
        validate_update=updating(check_update),
        validate_status_update=updating(check_status_update),
        warnings=lambda new, old: [] if old else pod_warnings(new),
        parts=_PARTS,
        graceful_delete=True,
        grace_period_s=grace_period_s,
    ),
)

BINDINGS = ResourceDef("", "v1", "Binding", "bindings", "binding", verbs=("create",))
