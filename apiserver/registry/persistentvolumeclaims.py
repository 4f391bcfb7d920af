"""PersistentVolumeClaims.

Source: Kubernetes API reference, PersistentVolumeClaim v1; k8s.io/kubernetes/pkg/apis/core/validation (order and
texts); KEP-1495 (data sources), KEP-1790 (recovery from a failed expansion), KEP-3751 (volume attributes classes).
"""

from __future__ import annotations

from copy import deepcopy
from decimal import Decimal

from apiserver.registry import labels, names, resourcenames
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, UNSET, at, field
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_immutable,
    check_meta,
    check_meta_update,
    creating,
    keep_status,
    status_only,
    updating,
)
from apiserver.registry.persistentvolumes import (
    CLASS_ANNOTATION,
    OLD_CLASS_TEXT,
    VOLUME_MODES,
    check_access_modes,
    check_class_name,
    class_name,
    modes_text,
    phase,
)
from apiserver.schemas import internal
from kubarium.machinery.quantity import read_quantity

_RESIZE_STATES = (
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
)
_SIZE = "spec.resources.requests.storage"


def default_spec(spec: Object) -> None:
    """What the spec of a claim, or of a claim's template, has when it does not say."""
    if spec.get("volumeMode") is None:
        spec["volumeMode"] = "Filesystem"
    resourcenames.round_up(spec.get("resources") or {}, "limits", "requests")


def _default(obj: Object) -> None:
    status = obj.setdefault("status", {})
    status["phase"] = status.get("phase") or "Pending"
    default_spec(obj.setdefault("spec", {}))
    resourcenames.round_up(status, "capacity", "allocatedResources")


def _is_old_source(source: Object) -> bool:
    """What the field dataSource may name since ever: a claim or a snapshot."""
    return (source.get("kind"), source.get("apiGroup") or "") in (
        ("PersistentVolumeClaim", ""),
        ("VolumeSnapshot", "snapshot.storage.k8s.io"),
    )


def _prepare_sources(spec: Object, was: Object) -> None:
    """dataSource and dataSourceRef say the same, whichever was sent. Other namespaces need a feature that is off."""
    if (spec.get("dataSourceRef") or {}).get("namespace") and was.get("dataSourceRef") is None:
        spec.pop("dataSourceRef")
    in_use = was.get("dataSource") is not None or was.get("dataSourceRef") is not None
    source = spec.get("dataSource")
    if not in_use and spec.get("dataSourceRef") is None and source is not None and not _is_old_source(source):
        spec.pop("dataSource")
    _normalize_sources(spec)


def _normalize_sources(spec: Object) -> None:
    source, ref = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and ref is None:
        spec["dataSourceRef"] = dict(source)
    elif ref is not None and source is None and not ref.get("namespace"):
        spec["dataSource"] = {k: v for k, v in ref.items() if k != "namespace"}


def _prepare(obj: Object) -> None:
    obj["status"] = {"phase": "Pending"}
    _prepare_sources(obj["spec"], {})


def _prepare_update(new: Object, old: Object) -> None:
    keep_status(new, old)
    _prepare_sources(new["spec"], old.get("spec") or {})


# --- validation


def check_spec(spec: Object, path: str, faults: Faults, *, any_group: bool = False) -> None:
    """The spec of a claim or of a claim's template. `any_group`: the groups of data sources are not looked at."""
    if not (modes := spec.get("accessModes") or []):
        faults.required(f"{path}.accessModes", "at least 1 access mode is required")
    if (selector := spec.get("selector")) is not None:
        labels.check_selector(selector, f"{path}.selector", faults)
    check_access_modes(modes, f"{path}.accessModes", faults)
    if (size := at(spec, "resources.requests", {}).get("storage")) is None:
        faults.required(f"{path}.resources[storage]")
    else:
        resourcenames.check_positive(size, f"{path}.resources[storage]", faults)
    if name := spec.get("storageClassName"):
        check_class_name(name, f"{path}.storageClassName", faults)
    if (mode := spec.get("volumeMode")) is not None and mode not in VOLUME_MODES:
        faults.unsupported(f"{path}.volumeMode", mode, VOLUME_MODES)
    source, ref = spec.get("dataSource"), spec.get("dataSourceRef")
    for key, value in (("dataSource", source), ("dataSourceRef", ref)):
        if value is not None:
            _check_source(value, f"{path}.{key}", any_group, faults)
    _check_sources_agree(source, ref, path, faults)
    if name := spec.get("volumeAttributesClassName"):
        check_class_name(name, f"{path}.volumeAttributesClassName", faults)


def _check_source(source: Object, path: str, any_group: bool, faults: Faults) -> None:
    for key in ("name", "kind"):
        if not source.get(key):
            faults.required(f"{path}.{key}")
    group, kind = source.get("apiGroup") or "", source.get("kind", "")
    if not group and kind != "PersistentVolumeClaim":
        faults.invalid(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup")
    if group and not any_group:
        faults.each(f"{path}.apiGroup", group, names.dns1123_subdomain(group))
    if namespace := source.get("namespace"):
        faults.each(f"{path}.namespace", namespace, names.name_is_label(namespace))


def _check_sources_agree(source: Object | None, ref: Object | None, path: str, faults: Faults) -> None:
    if source is None or ref is None:
        return
    if ref.get("namespace"):
        faults.invalid(path, {}, "may not be specified when dataSourceRef.namespace is specified")
    elif any(source.get(key) != ref.get(key) for key in ("apiGroup", "kind", "name")):
        faults.invalid(path, {}, "must match dataSourceRef")


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    check_spec(obj.get("spec") or {}, "spec", faults)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    spec, was = new.get("spec") or {}, deepcopy(old.get("spec") or {})
    check_meta(new, True, names.name_is_subdomain, faults)
    any_group = any((was.get(key) or {}).get("apiGroup") is not None for key in ("dataSource", "dataSourceRef"))
    check_spec(spec, "spec", faults, any_group=any_group)
    _normalize_sources(was)
    _check_fixed(new, old, spec, was, faults)
    _check_size(spec, was, old, faults)
    check_immutable(spec.get("volumeMode"), was.get("volumeMode"), "volumeMode", faults)
    _check_attributes_class(spec, was, old, faults)


def _check_fixed(new: Object, old: Object, spec: Object, was: Object, faults: Faults) -> None:
    """All of the spec, but for what may be set once and what a bound claim may change."""
    now = deepcopy(spec)
    if not was.get("volumeName") and now.get("volumeName"):
        was["volumeName"] = now["volumeName"]
    before, annotation = (at(o, "metadata.annotations", {}).get(CLASS_ANNOTATION) for o in (old, new))
    key = "storageClassName"
    if before is not None and was.get(key) is None and now.get(key) == before and annotation in (None, before):
        now.pop(key)
    else:
        if (annotation or "") != (before or ""):
            path = f"metadata.annotations.{CLASS_ANNOTATION}"
            faults.invalid(path, annotation or "", "field is immutable")
        if now.get(key) is not None and was.get(key) is None and before in (None, now[key]):
            now.pop(key)
    if at(new, "status.phase") == "Bound":
        _forgive(now.get("resources") or {}, was.get("resources") or {})
        now.pop("volumeAttributesClassName", None)
        if "volumeAttributesClassName" in was:
            now["volumeAttributesClassName"] = was["volumeAttributesClassName"]
    if now != was:
        text = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        faults.forbidden("spec", f"{text}\n{internal.difference('core.v1.PersistentVolumeClaimSpec', was, now)}")


def _forgive(now: Object, was: Object) -> None:
    """A bound claim may ask for another size."""
    if now.get("requests") is not None:
        now["requests"]["storage"] = (was.get("requests") or {}).get("storage", "0")


def _check_size(spec: Object, was: Object, old: Object, faults: Faults) -> None:
    """It may shrink only to recover from a failed expansion, and not below what there is."""
    size, before = (_amount(at(s, "resources.requests", {})) for s in (spec, was))
    if size < before and size <= _amount(at(old, "status.capacity", {})):
        faults.forbidden(_SIZE, "field can not be less than status.capacity")


def _amount(amounts: Object) -> Decimal:
    return read_quantity(amounts.get("storage") or "0").value


def _check_attributes_class(spec: Object, was: Object, old: Object, faults: Faults) -> None:
    key = "volumeAttributesClassName"
    if spec.get(key) == was.get(key) or at(old, "status.currentVolumeAttributesClassName", None) is None:
        return
    if (name := spec.get(key)) is None or name == "":
        what = "nil" if name is None else "empty string"
        text = f"update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
        faults.forbidden(f"spec.{key}", text)


def _check_status(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    status = new.get("status") or {}
    for name, amount in (status.get("capacity") or {}).items():
        resourcenames.check_basic(amount, f"status.capacity[{name}]", faults)
    path = "status.allocatedResourceStatuses"
    for name, state in (status.get("allocatedResourceStatuses") or {}).items():
        _check_resource_key(name, path, faults)
        if state not in _RESIZE_STATES:
            faults.unsupported(path, name, _RESIZE_STATES)
    path = "status.allocatedResources"
    for name, amount in (status.get("allocatedResources") or {}).items():
        if not _check_resource_key(name, path, faults):
            continue
        resourcenames.check_basic(amount, f"{path}[{name}]", faults)


def _check_resource_key(name: str, path: str, faults: Faults) -> bool:
    """Of the resources that the system knows, a claim has one."""
    found = names.qualified_name(name)
    faults.each(path, name, found)
    if not found and name != "storage" and resourcenames.is_native(name):
        faults.unsupported(path, name, ("storage",))
        return False
    return not found


def spec_warnings(spec: Object, path: str) -> list[str]:
    found = []
    for kind in ("requests", "limits"):
        size = at(spec, f"resources.{kind}", {}).get("storage")
        if size is not None and (value := read_quantity(size).value) != value.to_integral_value():
            text = f'fractional byte value "{size}" is invalid, must be an integer'
            found.append(f"{path}.resources.{kind}[storage]: {text}")
    return found


def _warnings(new: Object, _old: Object | None) -> list[str]:
    found = spec_warnings(new.get("spec") or {}, "spec")
    if CLASS_ANNOTATION in at(new, "metadata.annotations", {}):
        found.insert(0, f"metadata.annotations[{CLASS_ANNOTATION}]: {OLD_CLASS_TEXT}")
    return found


# --- columns


def _capacity(obj: Object, _now: float) -> str:
    return at(obj, "status.capacity", {}).get("storage", "0") if at(obj, "spec.volumeName") else ""


def _modes(obj: Object, _now: float) -> str:
    return modes_text(at(obj, "status.accessModes", [])) if at(obj, "spec.volumeName") else ""


PERSISTENTVOLUMECLAIMS = ResourceDef(
    "",
    "v1",
    "PersistentVolumeClaim",
    "persistentvolumeclaims",
    "persistentvolumeclaim",
    short_names=("pvc",),
    subresources=("status",),
    storage_version_hash="QWTyNDq0dC4=",
    columns=(
        NAME,
        Column("Status", "string", "@PersistentVolumeClaimStatus.phase", phase),
        Column("Volume", "string", "@PersistentVolumeClaimSpec.volumeName", field("spec.volumeName")),
        Column("Capacity", "string", "@PersistentVolumeClaimStatus.capacity", _capacity),
        Column("Access Modes", "string", "@PersistentVolumeClaimStatus.accessModes", _modes),
        Column("StorageClass", "string", "StorageClass of the pvc", class_name),
        Column(
            "VolumeAttributesClass",
            "string",
            "VolumeAttributesClass of the pvc",
            field("spec.volumeAttributesClassName", UNSET),
        ),
        AGE,
        Column(
            "VolumeMode",
            "string",
            "@PersistentVolumeClaimSpec.volumeMode",
            field("spec.volumeMode", UNSET),
            priority=1,
        ),
    ),
    strategy=Strategy(
        default=_default,
        prepare_create=_prepare,
        validate=creating(_check),
        prepare_update=_prepare_update,
        validate_update=updating(_check_update),
        prepare_status_update=status_only,
        validate_status_update=updating(_check_status),
        warnings=_warnings,
    ),
)
