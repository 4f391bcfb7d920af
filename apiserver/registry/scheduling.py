"""PriorityClasses."""

from __future__ import annotations

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, field
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_meta, check_meta_update, counting, creating, first_generation, updating

HIGHEST_USER_PRIORITY = 1_000_000_000
SYSTEM_CLASSES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_POLICIES = ("Never", "PreemptLowerPriority")


def _default(obj: Object) -> None:
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    name, value = obj["metadata"].get("name", ""), obj.get("value", 0)
    if name.startswith("system-"):
        if SYSTEM_CLASSES.get(name) != value:
            text = "priority class names with 'system-' prefix are reserved for system use only. error: "
            known = (
                "is not a known system priority class"
                if name not in SYSTEM_CLASSES
                else f"value of {name} PriorityClass must be {SYSTEM_CLASSES[name]}"
            )
            faults.forbidden("metadata.name", f"{text}{known if name in SYSTEM_CLASSES else name + ' ' + known}")
    elif value > HIGHEST_USER_PRIORITY:
        text = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        faults.forbidden("value", text)
    if (policy := obj.get("preemptionPolicy")) not in _POLICIES:
        faults.unsupported("preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    if new.get("value", 0) != old.get("value", 0):
        faults.invalid("value", new.get("value", 0), "field is immutable")
    if new.get("preemptionPolicy") != old.get("preemptionPolicy"):
        faults.invalid("preemptionPolicy", new.get("preemptionPolicy"), "field is immutable")


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
        prepare_update=counting("value", "globalDefault", "description", "preemptionPolicy"),
    ),
)
