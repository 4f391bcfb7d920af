"""What a delete does to an object: mark it, remove it, or nothing more. Pure.

Source: k8s.io/apiserver pkg/registry/generic/registry (Delete) and pkg/registry/rest (BeforeDelete);
https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apiserver.options import BACKGROUND, FOREGROUND, ORPHAN
from apiserver.registry.base import Object, ResourceDef
from apiserver.request import DeleteOptions
from kubarium.machinery.times import format_timestamp, parse_timestamp

FINALIZER_OF = {ORPHAN: "orphan", FOREGROUND: "foregroundDeletion"}
# Whose answer to a delete is the object itself, not a Status.
RETURNS_OBJECT = frozenset(
    {
        "pods",
        "services",
        "serviceaccounts",
        "namespaces",
        "podtemplates",
        "resourcequotas",
        "persistentvolumes",
        "persistentvolumeclaims",
        "storageclasses",
        "csidrivers",
        "csinodes",
        "volumeattachments",
        "volumeattributesclasses",
        "deviceclasses",
        "resourceclaims",
        "resourceclaimtemplates",
        "resourceslices",
    }
)


@dataclass(frozen=True, slots=True)
class Plan:
    """`obj`: as it shall be now. `remove`: take it from the store; else write it where `changed`."""

    obj: Object
    changed: bool = False
    remove: bool = False


def plan_delete(resource: ResourceDef, obj: Object, wanted: DeleteOptions, now: float) -> Plan:
    """`obj` is the caller's own and is changed. `now` in seconds since the epoch."""
    if resource.plural == "namespaces" and not resource.group:
        return _plan_namespace(obj, now)
    if resource.plural == "customresourcedefinitions" and not obj["metadata"].get("deletionTimestamp"):
        return _plan_definition(obj, now)
    finalizers_changed = set_finalizers(obj["metadata"], wanted, orphans=resource.strategy.orphans)
    graceful = resource.strategy.graceful_delete
    plan = _plan_graceful(resource, obj, wanted, now) if graceful else _plan_plain(obj, now)
    return Plan(plan.obj, plan.changed or finalizers_changed, plan.remove)


def _plan_plain(obj: Object, now: float) -> Plan:
    metadata = obj["metadata"]
    if not metadata.get("finalizers"):
        return Plan(obj, remove=True)
    if metadata.get("deletionTimestamp"):
        return Plan(obj)
    mark(metadata, now, 0)
    if metadata.get("generation"):
        metadata["generation"] += 1
    return Plan(obj, changed=True)


def _plan_graceful(resource: ResourceDef, obj: Object, wanted: DeleteOptions, now: float) -> Plan:
    """Pods: the first delete starts the grace period, later ones can only shorten it, 0 ends it."""
    metadata = obj["metadata"]
    asked = wanted.grace_period_s
    if asked is not None and asked < 0:
        asked = 1
    if metadata.get("deletionTimestamp"):
        return _shorten(obj, asked, now)
    grace = resource.strategy.grace_period_s(obj, asked)
    mark(metadata, now + grace, grace)
    if metadata.get("generation"):
        metadata["generation"] += 1
    return Plan(obj, changed=True, remove=grace == 0 and not metadata.get("finalizers"))


def _shorten(obj: Object, asked: int | None, now: float) -> Plan:
    metadata = obj["metadata"]
    period = metadata.get("deletionGracePeriodSeconds") or 0
    removable = not metadata.get("finalizers")
    if period == 0:
        return Plan(obj, remove=removable)
    if asked is None or asked >= period:
        return Plan(obj)
    begun = (parse_timestamp(metadata["deletionTimestamp"]) or now) - period
    mark(metadata, begun + asked, asked)
    return Plan(obj, changed=True, remove=asked == 0 and removable)


def _plan_namespace(obj: Object, now: float) -> Plan:
    """A namespace ends when its content is gone: until then it is Terminating, and spec.finalizers hold it."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp"):
        metadata["deletionTimestamp"] = format_timestamp(now)
        obj.setdefault("status", {})["phase"] = "Terminating"
        return Plan(obj, changed=True, remove=is_released(obj))
    return Plan(obj, remove=is_released(obj))


def _plan_definition(obj: Object, now: float) -> Plan:
    """A CustomResourceDefinition ends when its objects are gone: till then a finalizer of the server's own holds it."""
    from apiserver.custom.conditions import CLEANUP_FINALIZER, PENDING, set_condition

    metadata = obj["metadata"]
    metadata["deletionTimestamp"] = format_timestamp(now)
    if CLEANUP_FINALIZER not in (metadata.get("finalizers") or ()):
        metadata["finalizers"] = [*(metadata.get("finalizers") or ()), CLEANUP_FINALIZER]
    set_condition(obj, PENDING, format_timestamp(now))
    return Plan(obj, changed=True)


def mark(metadata: Object, when: float, grace_s: int) -> None:
    metadata["deletionTimestamp"] = format_timestamp(when)
    metadata["deletionGracePeriodSeconds"] = grace_s


def is_unsaid(wanted: DeleteOptions) -> bool:
    """Whether a request leaves it open what shall become of what the object owns."""
    return not wanted.propagation_policy and wanted.orphan_dependents is None


def warnings_of(resource: ResourceDef, wanted: DeleteOptions) -> tuple[str, ...]:
    text = resource.strategy.delete_warning
    return (text,) if text and is_unsaid(wanted) else ()


def set_finalizers(metadata: Object, wanted: DeleteOptions, *, orphans: bool = False) -> bool:
    """Orphan and foreground deletion are finalizers that the garbage collector acts on; True where they changed.

    `orphans`: the kind's own policy, where neither the request nor a finalizer says another.
    """
    policy = wanted.propagation_policy
    if not policy and wanted.orphan_dependents is not None:
        policy = ORPHAN if wanted.orphan_dependents else BACKGROUND
    if not policy and orphans and not set(FINALIZER_OF.values()) & set(metadata.get("finalizers") or ()):
        policy = ORPHAN
    if not policy:
        return False
    before: list[Any] = metadata.get("finalizers") or []
    after = [f for f in before if f not in FINALIZER_OF.values() or f == FINALIZER_OF.get(policy)]
    if policy in FINALIZER_OF and FINALIZER_OF[policy] not in after:
        after.append(FINALIZER_OF[policy])
    if after == before:
        return False
    if after:
        metadata["finalizers"] = after
    else:
        del metadata["finalizers"]
    return True


def is_released(obj: Object) -> bool:
    """Whether nothing holds an object that is being deleted: no finalizer, no grace period still running."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if obj.get("kind") == "Namespace" and (obj.get("spec") or {}).get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")
