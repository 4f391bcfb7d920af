"""RuntimeClasses (group node.k8s.io)."""

from __future__ import annotations

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at, field
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_immutable,
    check_labels,
    check_meta,
    check_meta_update,
    creating,
    keep_generation,
    updating,
)


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    handler = obj.get("handler", "")
    faults.each("handler", handler, names.dns1123_label(handler))
    check_labels(at(obj, "scheduling.nodeSelector", {}), "scheduling.nodeSelector", faults)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    check_immutable(new.get("handler"), old.get("handler"), "handler", faults)


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
        allow_unconditional_update=False,
    ),
)
