"""RuntimeClasses (group node.k8s.io)."""

from __future__ import annotations

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at, field
from apiserver.registry.faults import Faults, inner
from apiserver.registry.meta import (
    check_accessor,
    check_accessor_update,
    check_immutable,
    check_labels,
    creating,
    keep_generation,
    updating,
)
from apiserver.registry.nodeselector import DEPRECATED_LABELS
from apiserver.registry.podspec_parts import check_tolerations
from apiserver.registry.podspec_resources import check_container_resources

_TOLERATION_KEYS = ("key", "operator", "value", "effect")


def _check(obj: Object, faults: Faults) -> None:
    check_accessor(obj.get("metadata") or {}, False, names.name_is_subdomain, faults)
    if handler := obj.get("handler"):
        faults.each("handler", handler, names.dns1123_label(handler))
    else:
        faults.required("handler")
    if overhead := at(obj, "overhead.podFixed", {}):
        check_container_resources({"limits": overhead}, frozenset(), "overhead", faults)
    check_labels(at(obj, "scheduling.nodeSelector", {}), "scheduling.nodeSelector", faults)
    _check_tolerations(at(obj, "scheduling.tolerations", []), faults)


def _check_tolerations(tolerations: list[Object], faults: Faults) -> None:
    path, seen = "scheduling.tolerations", set()
    check_tolerations(tolerations, path, faults)
    for i, toleration in enumerate(tolerations):
        key = tuple(toleration.get(name, "") for name in _TOLERATION_KEYS)
        if key in seen:
            faults.duplicate(f"{path}[{i}]", inner("core.v1.Toleration", toleration))
        seen.add(key)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    _check(new, faults)
    check_accessor_update(new, old, faults)
    check_immutable(new.get("handler"), old.get("handler"), "handler", faults)


def _warnings(new: Object, _old: Object | None) -> list[str]:
    labels = sorted(at(new, "scheduling.nodeSelector", {}))
    return [f"scheduling.nodeSelector: {DEPRECATED_LABELS[key]}" for key in labels if key in DEPRECATED_LABELS]


RUNTIMECLASSES = ResourceDef(
    "node.k8s.io",
    "v1",
    "RuntimeClass",
    "runtimeclasses",
    "runtimeclass",
    namespaced=False,
    storage_version_hash="WQTu1GL3T2Q=",
    columns=(NAME, Column("Handler", "string", "", field("handler")), AGE),
    strategy=Strategy(
        validate=creating(_check),
        prepare_update=keep_generation,
        validate_update=updating(_check_update, namespaced=False),
        warnings=_warnings,
        allow_create_on_update=True,
        allow_unconditional_update=False,
    ),
)
