"""Namespaces.

Source: k8s.io/kubernetes/pkg/registry/core/namespace and pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

from apiserver.registry import names
from apiserver.registry.base import Column, Object, Part, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at, field, selectable
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_meta,
    check_meta_update,
    creating,
    keep_generation,
    keep_status,
    status_only,
    updating,
)

_LABEL = "kubernetes.io/metadata.name"
_FINALIZER = "kubernetes"  # of the one that empties a namespace


def _default(obj: Object) -> None:
    meta = obj["metadata"]
    if name := meta.get("name"):
        meta.setdefault("labels", {})[_LABEL] = name


def _prepare(obj: Object) -> None:
    finalizers = at(obj, "spec.finalizers", [])
    if _FINALIZER not in finalizers:
        finalizers = [*finalizers, _FINALIZER]
    obj["spec"] = {"finalizers": finalizers}
    obj["status"] = {"phase": "Active"}


def _prepare_update(new: Object, old: Object) -> None:
    keep_status(new, old)
    new["spec"] = old.get("spec") or {}


def _prepare_finalize(new: Object, old: Object) -> None:
    """Who finalizes a namespace changes its finalizers and its metadata."""
    keep_generation(new, old)
    if "status" in old:
        new["status"] = old["status"]


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_label, faults)
    for finalizer in at(obj, "spec.finalizers", []):
        _check_finalizer(finalizer, "spec.finalizers", faults)


def _check_finalizer(finalizer: str, path: str, faults: Faults) -> None:
    faults.each(path, finalizer, names.qualified_name(finalizer))
    if "/" not in finalizer and finalizer != _FINALIZER:
        faults.invalid(path, finalizer, "name is neither a standard finalizer name nor is it fully qualified")


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    _check(new, faults)
    check_meta_update(new, old, faults)


def _check_status(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    phase = at(new, "status.phase")
    if not new["metadata"].get("deletionTimestamp"):
        if phase != "Active":
            faults.invalid("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty")
    elif phase != "Terminating":
        faults.invalid("status.Phase", phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")


def _check_finalize(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    for i, finalizer in enumerate(at(new, "spec.finalizers", [])):
        _check_finalizer(finalizer, f"spec.finalizers[{i}]", faults)


NAMESPACES = ResourceDef(
    "",
    "v1",
    "Namespace",
    "namespaces",
    "namespace",
    namespaced=False,
    short_names=("ns",),
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    subresources=("finalize", "status"),
    storage_version_hash="Q3oi5N2YM8M=",
    field_selectors=selectable("status.phase"),
    columns=(NAME, Column("Status", "string", "The status of the namespace", field("status.phase")), AGE),
    strategy=Strategy(
        default=_default,
        prepare_create=_prepare,
        validate=creating(_check),
        prepare_update=_prepare_update,
        validate_update=updating(_check_update, namespaced=False),
        prepare_status_update=status_only,
        validate_status_update=updating(_check_status, namespaced=False),
        parts={"finalize": Part(_prepare_finalize, updating(_check_finalize, namespaced=False))},
    ),
)
