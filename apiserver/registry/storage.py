"""StorageClasses, VolumeAttributesClasses and VolumeAttachments (group storage.k8s.io).

Source: Kubernetes API reference; k8s.io/kubernetes/pkg/apis/storage/validation (order and texts).
"""

from __future__ import annotations

from apiserver.registry import names, nodeselector, persistentvolumes
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at, field
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_immutable,
    check_meta,
    check_meta_update,
    creating,
    keep_generation,
    keep_status,
    status_alone,
    updating,
)
from apiserver.registry.pv_sources import check_driver_name
from apiserver.schemas import internal

GROUP = "storage.k8s.io"
DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_RECLAIM = ("Delete", "Retain")
_BINDING = ("Immediate", "WaitForFirstConsumer")
_MAX_PARAMETERS, _MAX_PARAMETERS_B = 512, 256 * 1024
_MAX_METADATA_B, _MAX_MESSAGE_B = 256 * 1024, 1024


def _check_provisioner(name: str, path: str, faults: Faults) -> None:
    if not name:
        faults.required(path)
    else:
        faults.each(path, name.lower(), names.qualified_name(name.lower()))


def _check_parameters(parameters: Object, path: str, faults: Faults) -> None:
    if len(parameters) > _MAX_PARAMETERS:
        faults.too_long(path, _MAX_PARAMETERS)
        return
    if "" in parameters:
        faults.invalid(path, "", "field can not be empty.")
    if sum(len(k.encode()) + len(v.encode()) for k, v in parameters.items()) > _MAX_PARAMETERS_B:
        faults.too_long(path, _MAX_PARAMETERS_B)


# --- StorageClass


def _default_class(obj: Object) -> None:
    for key, value in (("reclaimPolicy", "Delete"), ("volumeBindingMode", "Immediate")):
        if obj.get(key) is None:
            obj[key] = value


def _check_class(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    _check_provisioner(obj.get("provisioner", ""), "provisioner", faults)
    _check_parameters(obj.get("parameters") or {}, "parameters", faults)
    if (policy := obj.get("reclaimPolicy")) and policy not in _RECLAIM:
        faults.unsupported("reclaimPolicy", policy, _RECLAIM)
    if (mode := obj.get("volumeBindingMode")) not in _BINDING:
        faults.unsupported("volumeBindingMode", mode, _BINDING)
    _check_topologies(obj.get("allowedTopologies") or [], faults)


def _check_topologies(terms: list[Object], faults: Faults) -> None:
    # upstream compares with as many empty terms as there are terms, so an empty one is always a repetition
    seen: list[dict[str, set[str]] | None] = [None] * len(terms)
    for i, term in enumerate(terms):
        path, found = f"allowedTopologies[{i}].matchLabelExpressions", dict[str, set[str]]()
        for j, need in enumerate(term.get("matchLabelExpressions") or ()):
            _check_topology(need, f"{path}[{j}]", found, faults)
        for other in seen:
            if (found or None) == (other or None):
                faults.duplicate(path, "")
        seen.append(found)


def _check_topology(need: Object, path: str, found: dict[str, set[str]], faults: Faults) -> None:
    key, values = need.get("key", ""), need.get("values") or []
    if not values:
        faults.required(f"{path}.values")
    for i, value in enumerate(values):
        if value in values[:i]:
            faults.duplicate(f"{path}.values[{i}]", value)
    faults.each(f"{path}.key", key, names.label_key(key))
    if key in found:
        faults.duplicate(f"{path}.key", key)
    found[key] = set(values)


def _check_class_update(new: Object, old: Object, faults: Faults) -> None:
    _check_class(new, faults)
    check_meta_update(new, old, faults)
    check_immutable(new.get("parameters"), old.get("parameters"), "parameters", faults)
    for key in ("provisioner", "reclaimPolicy", "volumeBindingMode"):
        check_immutable(new.get(key), old.get(key), key, faults)


def _class_warnings(new: Object, _old: Object | None) -> list[str]:
    found: list[str] = []
    for i, term in enumerate(new.get("allowedTopologies") or ()):
        for j, need in enumerate(term.get("matchLabelExpressions") or ()):
            where = f"allowedTopologies[{i}].matchLabelExpressions[{j}].key"
            found += nodeselector.label_warnings({need.get("key", ""): ""}, where)
    return found


def is_default(storage_class: Object) -> bool:
    annotations = at(storage_class, "metadata.annotations", {})
    return any(annotations.get(key) == "true" for key in DEFAULT_CLASS)


def _class_name(obj: Object, _now: float) -> str:
    return str(at(obj, "metadata.name")) + (" (default)" if is_default(obj) else "")


STORAGECLASSES = ResourceDef(
    GROUP,
    "v1",
    "StorageClass",
    "storageclasses",
    "storageclass",
    namespaced=False,
    short_names=("sc",),
    storage_version_hash="K+m6uJwbjGY=",
    columns=(
        Column("Name", "string", NAME.description, _class_name, format="name"),
        Column("Provisioner", "string", "@StorageClass.provisioner", field("provisioner")),
        Column("ReclaimPolicy", "string", "@StorageClass.reclaimPolicy", field("reclaimPolicy", "Delete")),
        Column(
            "VolumeBindingMode", "string", "@StorageClass.volumeBindingMode", field("volumeBindingMode", "Immediate")
        ),
        Column(
            "AllowVolumeExpansion",
            "string",
            "@StorageClass.allowVolumeExpansion",
            field("allowVolumeExpansion", False),
        ),
        AGE,
    ),
    strategy=Strategy(
        default=_default_class,
        validate=creating(_check_class),
        prepare_update=keep_generation,
        validate_update=updating(_check_class_update, namespaced=False),
        warnings=_class_warnings,
    ),
)


# --- VolumeAttributesClass


def _check_attributes(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    _check_provisioner(obj.get("driverName", ""), "driverName", faults)
    parameters = obj.get("parameters") or {}
    _check_parameters(parameters, "parameters", faults)
    if not parameters:
        faults.required("parameters", "must contain at least one key/value pair")


def _check_attributes_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    for key in ("driverName", "parameters"):
        if new.get(key) != old.get(key):
            faults.forbidden(key, f"updates to {key} are forbidden.")
    _check_attributes(new, faults)


VOLUMEATTRIBUTESCLASSES = ResourceDef(
    GROUP,
    "v1",
    "VolumeAttributesClass",
    "volumeattributesclasses",
    "volumeattributesclass",
    namespaced=False,
    short_names=("vac",),
    storage_version_hash="tIjydgKBC5w=",
    columns=(NAME, Column("DriverName", "string", "@VolumeAttributesClass.driverName", field("driverName")), AGE),
    strategy=Strategy(
        validate=creating(_check_attributes),
        prepare_update=keep_generation,
        validate_update=updating(_check_attributes_update, namespaced=False),
    ),
)


# --- VolumeAttachment

_ONE_SOURCE = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"


def _default_attachment(obj: Object) -> None:
    obj.setdefault("status", {}).setdefault("attached", False)


def _prepare_attachment(obj: Object) -> None:
    obj["status"] = {"attached": False}


def _check_attachment(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    check_driver_name(spec.get("attacher", ""), "spec.attacher", faults)
    source = spec.get("source") or {}
    volume, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
    if volume is None and inline is None:
        faults.required("spec.source", _ONE_SOURCE)
    elif volume is not None and inline is not None:
        faults.forbidden("spec.source", _ONE_SOURCE)
    elif volume == "":
        faults.required("spec.source.persistentVolumeName", "must specify non empty persistentVolumeName")
    elif inline is not None:
        persistentvolumes.check_spec(inline, "", "spec.source.inlineVolumeSpec", faults, inline=True)
    faults.each("spec.nodeName", spec.get("nodeName", ""), names.name_is_subdomain(spec.get("nodeName", "")))
    if sum(len(k) + len(v) for k, v in (status.get("attachmentMetadata") or {}).items()) > _MAX_METADATA_B:
        faults.too_long("status.attachmentMetadata", _MAX_METADATA_B)
    for key in ("attachError", "detachError"):
        _check_error(status.get(key) or {}, f"status.{key}", faults)
    if volume is not None:
        faults.each("spec.source.persistentVolumeName", volume, names.name_is_subdomain(volume))


def _check_error(error: Object, path: str, faults: Faults) -> None:
    if len(error.get("message", "").encode()) > _MAX_MESSAGE_B:
        faults.too_long(f"{path}.message", _MAX_METADATA_B)  # upstream names the wrong limit
    if (code := error.get("errorCode")) is not None and code < 0:
        faults.invalid(f"{path}.errorCode", code, "must be between 0 and 2147483647, inclusive")


def _check_attachment_update(new: Object, old: Object, faults: Faults) -> None:
    _check_attachment(new, faults)
    if new.get("spec") != old.get("spec"):
        faults.invalid("spec", internal.shown("storage.v1.VolumeAttachmentSpec", new["spec"]), "field is immutable")


VOLUMEATTACHMENTS = ResourceDef(
    GROUP,
    "v1",
    "VolumeAttachment",
    "volumeattachments",
    "volumeattachment",
    namespaced=False,
    subresources=("status",),
    storage_version_hash="tJx/ezt6UDU=",
    columns=(
        NAME,
        Column("Attacher", "string", "@VolumeAttachmentSpec.attacher", field("spec.attacher"), format="name"),
        Column(
            "PV",
            "string",
            "@VolumeAttachmentSource.persistentVolumeName",
            field("spec.source.persistentVolumeName"),
        ),
        Column("Node", "string", "@VolumeAttachmentSpec.nodeName", field("spec.nodeName")),
        Column("Attached", "boolean", "@VolumeAttachmentStatus.attached", field("status.attached", False)),
        AGE,
    ),
    strategy=Strategy(
        default=_default_attachment,
        prepare_create=_prepare_attachment,
        validate=creating(_check_attachment),
        prepare_update=keep_status,
        validate_update=updating(_check_attachment_update, namespaced=False),
        prepare_status_update=status_alone,
        validate_status_update=updating(_check_attachment_update, namespaced=False),
        allow_unconditional_update=False,
    ),
)
