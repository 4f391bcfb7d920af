"""PersistentVolumes.

Source: Kubernetes API reference, PersistentVolume v1; k8s.io/kubernetes/pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

import posixpath
import time

from apiserver.registry import names, resourcenames
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
from apiserver.registry.nodeselector import check_node_selector, renamed_labels, selector_warnings
from apiserver.registry.pv_sources import SOURCES, check_sources, default_sources
from apiserver.schemas import internal
from kubarium.machinery.times import format_timestamp

ACCESS_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
VOLUME_MODES = ("Block", "Filesystem")
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
OLD_CLASS_TEXT = 'deprecated since v1.8; use "storageClassName" attribute instead'
_MOUNT_ANNOTATION = "volume.beta.kubernetes.io/mount-options"
_MOUNTED = frozenset(
    {
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "glusterfs",
        "nfs",
        "rbd",
        "quobyte",
        "iscsi",
        "cinder",
        "cephfs",
        "azureFile",
        "vsphereVolume",
        "azureDisk",
        "photonPersistentDisk",
    }
)
_RECLAIM = ("Delete", "Recycle", "Retain")
_DEPRECATED = {  # field -> (what the warning calls it, since when)
    "cephfs": ("cephfs", "v1.28, non-functional in v1.31+"),
    "photonPersistentDisk": ("photonPersistentDisk", "v1.11, non-functional in v1.16+"),
    "scaleIO": ("scaleIO", "v1.16, non-functional in v1.22+"),
    "storageos": ("storageOS", "v1.22, non-functional in v1.25+"),
    "glusterfs": ("glusterfs", "v1.25, non-functional in v1.26+"),
    "rbd": ("rbd", "v1.28, non-functional in v1.31+"),
}


def _default(obj: Object) -> None:
    spec, status = obj.setdefault("spec", {}), obj.setdefault("status", {})
    status["phase"] = status.get("phase") or "Pending"
    spec["persistentVolumeReclaimPolicy"] = spec.get("persistentVolumeReclaimPolicy") or "Retain"
    if spec.get("volumeMode") is None:
        spec["volumeMode"] = "Filesystem"
    resourcenames.round_up(spec, "capacity")
    default_sources(spec)


def _prepare(obj: Object) -> None:
    obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": obj["metadata"]["creationTimestamp"]}


def _prepare_status(new: Object, old: Object) -> None:
    """The time of a change of phase is noted, unless the client brings one of its own."""
    status_only(new, old)
    key, status, was = "lastPhaseTransitionTime", new.setdefault("status", {}), old.get("status") or {}
    if status.get("phase") == was.get("phase"):
        if status.get(key) is None and key in was:
            status[key] = was[key]
    elif status.get(key) in (None, was.get(key)):
        status[key] = format_timestamp(time.time())


# --- validation


def check_access_modes(modes: list[str], path: str, faults: Faults) -> None:
    for mode in modes:
        if mode not in ACCESS_MODES:
            faults.unsupported(path, mode, sorted(ACCESS_MODES))
    if "ReadWriteOncePod" in modes and any(m in ACCESS_MODES and m != "ReadWriteOncePod" for m in modes):
        faults.forbidden(path, "may not use ReadWriteOncePod with other access modes")


def check_class_name(name: str, path: str, faults: Faults) -> None:
    faults.each(path, name, names.name_is_subdomain(name))


def check_spec(spec: Object, name: str, path: str, faults: Faults, *, inline: bool = False) -> None:
    """The spec of the volume `name`; `inline`: one that stands in a VolumeAttachment, where some of it may not be."""
    if inline:
        _check_inline(spec, path, faults)
    if not (modes := spec.get("accessModes") or []):
        faults.required(f"{path}.accessModes")
    check_access_modes(modes, f"{path}.accessModes", faults)
    if not inline:
        _check_capacity(spec.get("capacity") or {}, f"{path}.capacity", faults)
    _check_reclaim(spec, path, inline, faults)
    if (affinity := spec.get("nodeAffinity")) is not None:
        _check_affinity(affinity, f"{path}.nodeAffinity", inline, faults)
    check_sources(spec, name, path, faults)
    _check_rest(spec, path, inline, faults)


_INLINE = "in the context of inline volumes"


def _check_inline(spec: Object, path: str, faults: Faults) -> None:
    for key in ("claimRef", "capacity"):
        if spec.get(key) is not None:
            faults.forbidden(f"{path}.{key}", f"may not be specified {_INLINE}")
    if spec.get("csi") is None:
        faults.required(f"{path}.csi", f"has to be specified {_INLINE}")


def _check_reclaim(spec: Object, path: str, inline: bool, faults: Faults) -> None:
    reclaim, where = spec.get("persistentVolumeReclaimPolicy"), f"{path}.persistentVolumeReclaimPolicy"
    if reclaim and inline:
        if reclaim != "Retain":
            faults.forbidden(where, f"may only be Retain {_INLINE}")
    elif reclaim and reclaim not in _RECLAIM:
        faults.unsupported(where, reclaim, _RECLAIM)


def _check_affinity(affinity: Object, path: str, inline: bool, faults: Faults) -> None:
    if inline:
        faults.forbidden(path, f"may not be specified {_INLINE}")
    elif (required := affinity.get("required")) is not None:
        check_node_selector(required, f"{path}.required", faults)
    else:
        faults.required(f"{path}.required", "must specify required node constraints")


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    check_spec(obj.get("spec") or {}, at(obj, "metadata.name"), "spec", faults)


def _check_new(obj: Object, faults: Faults) -> None:
    _check(obj, faults)
    _check_mount_options(obj, faults)


def _check_capacity(capacity: Object, path: str, faults: Faults) -> None:
    if not capacity:
        faults.required(path)
    if set(capacity) != {"storage"}:
        faults.unsupported(path, dict(sorted(capacity.items())) or None, ("storage",))
    for name, amount in capacity.items():
        resourcenames.check_basic(amount, f"{path}[{name}]", faults)
        resourcenames.check_positive(amount, f"{path}[{name}]", faults)


def _check_rest(spec: Object, path: str, inline: bool, faults: Faults) -> None:
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle" and _is_root(at(spec, "hostPath.path")):
        text = "may not be 'recycle' for a hostPath mount of '/'"
        faults.forbidden(f"{path}.persistentVolumeReclaimPolicy", text)
    if name := spec.get("storageClassName"):
        if inline:
            faults.forbidden(f"{path}.storageClassName", f"may not be specified {_INLINE}")
        else:
            check_class_name(name, f"{path}.storageClassName", faults)
    mode, where = spec.get("volumeMode"), f"{path}.volumeMode"
    if mode is not None and inline:
        if mode != "Filesystem":
            faults.forbidden(where, f"may not specify volumeMode other than Filesystem {_INLINE}")
    elif mode is not None and mode not in VOLUME_MODES:
        faults.unsupported(where, mode, VOLUME_MODES)
    if (name := spec.get("volumeAttributesClassName")) is None or inline:
        return
    if name:
        check_class_name(name, f"{path}.volumeAttributesClassName", faults)
    else:
        faults.required(f"{path}.volumeAttributesClassName", "an empty string is disallowed")
    if spec.get("csi") is None:
        faults.required(f"{path}.csi", "has to be specified when using volumeAttributesClassName")


def _is_root(path: str) -> bool:
    return bool(path) and posixpath.normpath(path) in ("/", "//")


def _check_mount_options(obj: Object, faults: Faults) -> None:
    spec = obj.get("spec") or {}
    if _MOUNT_ANNOTATION in at(obj, "metadata.annotations", {}) and not _MOUNTED & set(spec):
        text = "may not specify mount options for this volume type"
        faults.forbidden(f"metadata.annotations.{_MOUNT_ANNOTATION}", text)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    _check(new, faults)
    _check_mount_options(new, faults)
    _check(new, faults)  # upstream looks at the whole volume twice
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    if changes := _source_changes(spec, was):
        text = f"spec.persistentvolumesource is immutable after creation\n{changes}"
        faults.forbidden("spec.persistentvolumesource", text)
    check_immutable(spec.get("volumeMode"), was.get("volumeMode"), "volumeMode", faults)
    _check_affinity_update(spec.get("nodeAffinity"), was.get("nodeAffinity"), faults)
    key = "volumeAttributesClassName"
    if was.get(key) is not None and spec.get(key) is None:
        faults.forbidden(f"spec.{key}", "update from non-nil value to nil is forbidden")


def _check_affinity_update(now: Object | None, was: Object | None, faults: Faults) -> None:
    """Once set it stays, but for the old names of node labels, which may give way to the new ones."""
    if was is not None and now not in (was, renamed_labels(was)):
        text = "field is immutable, except for updating from beta label to GA"
        faults.invalid("nodeAffinity", internal.shown("*core.v1.VolumeNodeAffinity", now), text)


def _source_changes(spec: Object, was: Object) -> str:
    """What differs in the storage behind the volume, as a diff. A secret for expanding may be added later."""
    now, before = ({key: s[key] for key in SOURCES if s.get(key) is not None} for s in (spec, was))
    key = "controllerExpandSecretRef"
    if "csi" in before and key not in before["csi"] and "csi" in now:
        now["csi"] = {k: v for k, v in now["csi"].items() if k != key}
    return "" if now == before else internal.difference("core.v1.PersistentVolumeSource", before, now)


def _warnings(new: Object, _old: Object | None) -> list[str]:
    spec, annotations, found = new.get("spec") or {}, at(new, "metadata.annotations", {}), []
    for key, text in (
        (CLASS_ANNOTATION, OLD_CLASS_TEXT),
        (_MOUNT_ANNOTATION, 'deprecated since v1.31; use "mountOptions" attribute instead'),
    ):
        if key in annotations:
            found.append(f"metadata.annotations[{key}]: {text}")
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        text = (
            "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic "
            "provisioning."
        )
        found.append(f"spec.persistentVolumeReclaimPolicy: {text}")
    found += selector_warnings(at(spec, "nodeAffinity.required", {}), "spec.nodeAffinity.required")
    found += [f"spec.{name}: deprecated in {text}" for key, (name, text) in _DEPRECATED.items() if key in spec]
    return found


# --- columns


def modes_text(modes: list[str]) -> str:
    """`RWO,ROX`."""
    return ",".join(short for mode, short in ACCESS_MODES.items() if mode in modes)


def phase(obj: Object, _now: float) -> str:
    return "Terminating" if at(obj, "metadata.deletionTimestamp") else str(at(obj, "status.phase"))


def class_name(obj: Object, _now: float) -> str:
    return str(at(obj, "metadata.annotations", {}).get(CLASS_ANNOTATION, at(obj, "spec.storageClassName")))


def _claim(obj: Object, _now: float) -> str:
    ref = at(obj, "spec.claimRef", None)
    return "" if ref is None else f"{ref.get('namespace', '')}/{ref.get('name', '')}"


PERSISTENTVOLUMES = ResourceDef(
    "",
    "v1",
    "PersistentVolume",
    "persistentvolumes",
    "persistentvolume",
    namespaced=False,
    short_names=("pv",),
    subresources=("status",),
    storage_version_hash="HN/zwEC+JgM=",
    columns=(
        NAME,
        Column("Capacity", "string", "@PersistentVolumeSpec.capacity", field("spec.capacity.storage", "0")),
        Column(
            "Access Modes",
            "string",
            "@PersistentVolumeSpec.accessModes",
            lambda o, _: modes_text(at(o, "spec.accessModes", [])),
        ),
        Column(
            "Reclaim Policy",
            "string",
            "@PersistentVolumeSpec.persistentVolumeReclaimPolicy",
            field("spec.persistentVolumeReclaimPolicy"),
        ),
        Column("Status", "string", "@PersistentVolumeStatus.phase", phase),
        Column("Claim", "string", "@PersistentVolumeSpec.claimRef", _claim),
        Column("StorageClass", "string", "StorageClass of the pv", class_name),
        Column(
            "VolumeAttributesClass",
            "string",
            "VolumeAttributesClass of the pv",
            field("spec.volumeAttributesClassName", UNSET),
        ),
        Column("Reason", "string", "@PersistentVolumeStatus.reason", field("status.reason")),
        AGE,
        Column("VolumeMode", "string", "@PersistentVolumeSpec.volumeMode", field("spec.volumeMode", UNSET), priority=1),
    ),
    strategy=Strategy(
        default=_default,
        prepare_create=_prepare,
        validate=creating(_check_new),
        prepare_update=keep_status,
        validate_update=updating(_check_update, namespaced=False),
        prepare_status_update=_prepare_status,
        validate_status_update=updating(check_meta_update, namespaced=False),
        warnings=_warnings,
    ),
)
