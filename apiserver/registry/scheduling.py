"""PriorityClasses."""

from __future__ import annotations

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, field
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_immutable,
    check_meta,
    check_meta_update,
    creating,
    first_generation,
    keep_generation,
    updating,
)

HIGHEST_USER_PRIORITY = 1_000_000_000
SYSTEM_CLASSES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_POLICIES = ("PreemptLowerPriority", "Never")


def _default(obj: Object) -> None:
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    name, value = obj["metadata"].get("name", ""), obj.get("value", 0)
    if name.startswith("system-"):
        if wrong := _system_fault(name, value, bool(obj.get("globalDefault"))):
            text = "priority class names with 'system-' prefix are reserved for system use only. error: "
            faults.forbidden("metadata.name", text + wrong)
    elif value > HIGHEST_USER_PRIORITY:
        text = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        faults.forbidden("value", text)
    if not (policy := obj.get("preemptionPolicy")):
        faults.required("preemptionPolicy")
    elif policy not in _POLICIES:
        faults.unsupported("preemptionPolicy", policy, _POLICIES)


def _system_fault(name: str, value: int, default: bool) -> str:
    if name not in SYSTEM_CLASSES:
        return f"{name} is not a known system priority class"
    if value != SYSTEM_CLASSES[name]:
        return f"value of {name} PriorityClass must be {SYSTEM_CLASSES[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if default else ""


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    if new.get("value", 0) != old.get("value", 0):
        faults.forbidden("value", "may not be changed in an update.")
    check_immutable(new.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy", faults)


PRIORITYCLASSES = ResourceDef(
    "scheduling.k8s.io",
    "v1",
    "PriorityClass",
    "priorityclasses",
    "priorityclass",
    namespaced=False,
    short_names=("pc",),
    storage_version_hash="1QwjyaZjj3Y=",
    columns=(
        NAME,
        Column("Value", "integer", "@PriorityClass.value", field("value", 0)),
        Column("Global-Default", "boolean", "@PriorityClass.globalDefault", field("globalDefault", False)),
        AGE,
        Column("PreemptionPolicy", "string", "@PriorityClass.preemptionPolicy", field("preemptionPolicy")),
    ),
    strategy=Strategy(
        default=_default,
        validate=creating(_check),
        validate_update=updating(_check_update, namespaced=False),
        prepare_create=first_generation,
        prepare_update=keep_generation,  # the first stays the only one
    ),
)
