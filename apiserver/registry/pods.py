"""Pods."""

from __future__ import annotations

import copy

from apiserver.registry import names
from apiserver.registry.base import Object, ResourceDef, Strategy
from apiserver.registry.cells import selectable
from apiserver.registry.faults import Faults, go_value
from apiserver.registry.meta import (
    check_meta,
    check_meta_update,
    creating,
    keep_status,
    next_generation,
    status_only,
    updating,
)
from apiserver.registry.podannotations import (
    check_annotations_update,
    check_pod_annotations,
    check_profiles_match,
    settle_app_armor,
)
from apiserver.registry.pods_table import COLUMNS, row_conditions
from apiserver.registry.podspec import check_pod_spec
from apiserver.registry.podspec_defaults import default_pod
from kubarium.machinery.resourcelists import Amounts, add, amounts, only, pod_level_set, same

DEFAULT_GRACE_PERIOD_S = 30
_STATUS_FINAL = ("Succeeded", "Failed")


def default(pod: Object) -> None:
    default_pod(pod.setdefault("spec", {}))
    pod.setdefault("status", {}).setdefault("phase", "Pending")


def prepare_create(pod: Object) -> list[str]:
    pod["metadata"]["generation"] = 1
    pod["status"] = {"phase": "Pending", "qosClass": qos_class(pod.get("spec") or {})}
    return settle_app_armor(pod)


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
    if qos := (old.get("status") or {}).get("qosClass"):
        new.setdefault("status", {}).setdefault("qosClass", qos)


def grace_period_s(pod: Object, asked: int | None) -> int:
    """Seconds from the deletion's request until the kubelet must be done; 0 deletes at once.

    A pod that was never bound, or whose work is over, needs no grace. A negative period means one second.
    """
    spec = pod.get("spec") or {}
    period = spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_PERIOD_S) if asked is None else asked
    if not spec.get("nodeName") or (pod.get("status") or {}).get("phase") in _STATUS_FINAL:
        return 0
    return 1 if period < 0 else int(period)


# --- validation

_UPDATABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def check(pod: Object, faults: Faults) -> None:
    check_meta(pod, True, names.name_is_subdomain, faults)
    check_pod_annotations(pod, faults)
    spec = pod.get("spec") or {}
    check_pod_spec(spec, "spec", faults)
    check_profiles_match(pod, faults)
    if spec.get("ephemeralContainers"):
        faults.forbidden("spec.ephemeralContainers", "cannot be set on create")
    if spec.get("nodeName") and spec.get("schedulingGates"):
        faults.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")


def check_update(new: Object, old: Object, faults: Faults) -> None:
    """A pod's spec is fixed, but for images, the deadline, and tolerations that are added."""
    check_meta_update(new, old, faults)
    check_annotations_update(new, old, faults)
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    check_pod_spec(spec, "spec", faults)
    for kind in ("containers", "initContainers"):
        if len(spec.get(kind) or ()) != len(was.get(kind) or ()):
            faults.forbidden(f"spec.{kind}", "pod updates may not add or remove containers")
            return
    _check_deadline(spec, was, faults)
    _check_added_tolerations(spec, was, faults)
    _check_fixed(spec, was, faults)


def _check_deadline(spec: Object, was: Object, faults: Faults) -> None:
    """It may be set, or come closer."""
    deadline, before = spec.get("activeDeadlineSeconds"), was.get("activeDeadlineSeconds")
    if before is None:
        return
    if deadline is None:
        faults.invalid("spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value")
    elif deadline > before:
        faults.invalid("spec.activeDeadlineSeconds", deadline, "must be less than or equal to previous value")


def _check_added_tolerations(spec: Object, was: Object, faults: Faults) -> None:
    def bare(toleration: Object) -> Object:
        return {k: v for k, v in toleration.items() if k != "tolerationSeconds"}

    kept = [bare(t) for t in spec.get("tolerations") or ()]
    if any(bare(t) not in kept for t in was.get("tolerations") or ()):
        faults.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")


def _check_fixed(spec: Object, was: Object, faults: Faults) -> None:
    """Compare the specs with what may change taken from the old one."""
    munged = copy.deepcopy(spec)
    for kind in ("containers", "initContainers"):
        for container, before in zip(munged.get(kind) or (), was.get(kind) or (), strict=True):
            container["image"] = before.get("image", "")
    for key in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        munged.pop(key, None)
        if key in was:
            munged[key] = was[key]
    if munged.get("terminationGracePeriodSeconds") == 1 and was.get("terminationGracePeriodSeconds", 0) < 0:
        munged["terminationGracePeriodSeconds"] = was["terminationGracePeriodSeconds"]
    if munged != was:
        text = f"pod updates may not change fields other than {_UPDATABLE}"
        faults.forbidden("spec", f"{text}\n{_difference(munged, was)}")


def _difference(new: Object, old: Object) -> str:
    """Which fields differ, old and new value under one another."""
    lines = []
    for key in sorted({*new, *old}):
        if new.get(key) != old.get(key):
            lines += [f"- {key}: {go_value(old.get(key))}", f"+ {key}: {go_value(new.get(key))}"]
    return "\n".join(lines) + "\n"


def check_status_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    status = new.get("status") or {}
    for i, entry in enumerate(status.get("podIPs") or ()):
        faults.each(f"status.podIPs[{i}]", entry.get("ip", ""), names.ip_address(entry.get("ip", "")))
    if nominated := status.get("nominatedNodeName"):
        faults.each("status.nominatedNodeName", nominated, names.name_is_subdomain(nominated))


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


PODS = ResourceDef(
    "",
    "v1",
    "Pod",
    "pods",
    "pod",
    short_names=("po",),
    categories=("all",),
    subresources=("binding", "eviction", "exec", "log", "status"),
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
    ),
    columns=COLUMNS,
    row_conditions=row_conditions,
    strategy=Strategy(
        default=default,
        prepare_create=prepare_create,
        prepare_update=prepare_update,
        prepare_status_update=prepare_status_update,
        validate=creating(check),
        validate_update=updating(check_update),
        validate_status_update=updating(check_status_update),
        graceful_delete=True,
        grace_period_s=grace_period_s,
    ),
)

BINDINGS = ResourceDef("", "v1", "Binding", "bindings", "binding", verbs=("create",))
