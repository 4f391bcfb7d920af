"""Pods."""

from __future__ import annotations

from apiserver.registry.base import Object, ResourceDef, Strategy
from apiserver.registry.cells import selectable
from apiserver.registry.meta import creating, next_generation, status_only, updating
from apiserver.registry.podspec_defaults import default_pod

DEFAULT_GRACE_PERIOD_S = 30
_STATUS_FINAL = ("Succeeded", "Failed")


def default(pod: Object) -> None:
    default_pod(pod.setdefault("spec", {}))
    pod.setdefault("status", {}).setdefault("phase", "Pending")


def prepare_create(pod: Object) -> None:
    pod["metadata"]["generation"] = 1
    pod["status"] = {"phase": "Pending", "qosClass": qos_class(pod.get("spec") or {})}


def prepare_update(new: Object, old: Object) -> None:
    new["status"] = old.get("status") or {}
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


def qos_class(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort, from the cpu and memory requests and limits of all containers.

    Source: Kubernetes documentation, "Pod Quality of Service Classes".
    """
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    requests, limits, guaranteed = set(), set(), True
    for container in containers:
        resources = container.get("resources") or {}
        wanted, allowed = resources.get("requests") or {}, resources.get("limits") or {}
        for name in ("cpu", "memory"):
            request, limit = wanted.get(name, "0"), allowed.get(name, "0")
            requests |= {name} if request not in ("0", 0) else set()
            limits |= {name} if limit not in ("0", 0) else set()
            guaranteed &= limit not in ("0", 0) and request == limit
    if not requests and not limits:
        return "BestEffort"
    return "Guaranteed" if guaranteed and requests == limits == {"cpu", "memory"} else "Burstable"


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
    strategy=Strategy(
        default=default,
        prepare_create=prepare_create,
        prepare_update=prepare_update,
        prepare_status_update=prepare_status_update,
        validate=creating(lambda _pod, _faults: None),
        validate_update=updating(lambda _new, _old, _faults: None),
        graceful_delete=True,
        grace_period_s=grace_period_s,
    ),
)
