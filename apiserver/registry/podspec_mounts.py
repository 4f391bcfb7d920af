"""Validation of the volumes that a container mounts, or sees as devices.

Source: k8s.io/kubernetes/pkg/apis/core/validation (order, odd paths and texts).
"""

from __future__ import annotations

from collections.abc import Mapping

from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.podspec_parts import check_relative_path

_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
_RECURSIVE = ("Disabled", "Enabled", "IfPossible")
_CLAIMS = ("persistentVolumeClaim", "ephemeral")


def check_mounts(container: Object, volumes: Mapping[str, Object], path: str, faults: Faults) -> None:
    devices = {d.get("name", ""): d.get("devicePath", "") for d in container.get("volumeDevices") or ()}
    seen: set[str] = set()
    for i, mount in enumerate(container.get("volumeMounts") or ()):
        where, name, target = f"{path}[{i}]", mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            faults.required(f"{where}.name")
        if name not in volumes:
            faults.not_found(f"{where}.name", name)
        if not target:
            faults.required(f"{where}.mountPath")
        if target in seen:
            faults.invalid(f"{where}.mountPath", target, "must be unique")
        seen.add(target)
        if name in devices:
            faults.invalid(f"{where}.name", name, "must not already exist in volumeDevices")
        if target in devices.values():
            faults.invalid(f"{where}.mountPath", target, "must not already exist as a path in volumeDevices")
        _check_sub_path(mount, where, path, faults)
        _check_propagation(mount, container, f"{path}.mountPropagation", faults)
        _check_recursive(mount, f"{path}.recursiveReadOnly", faults)


def _check_sub_path(mount: Object, path: str, mounts: str, faults: Faults) -> None:
    if sub_path := mount.get("subPath"):
        check_relative_path(sub_path, f"{mounts}.subPath", faults)
    if expression := mount.get("subPathExpr"):
        if sub_path:
            faults.invalid(f"{path}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
        check_relative_path(expression, f"{mounts}.subPathExpr", faults)


def _check_propagation(mount: Object, container: Object, path: str, faults: Faults) -> None:
    if (propagation := mount.get("mountPropagation")) is None:
        return
    if propagation not in _PROPAGATIONS:
        faults.unsupported(path, propagation, _PROPAGATIONS)
    if propagation == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
        faults.forbidden(path, "Bidirectional mount propagation is available only to privileged containers")


def _check_recursive(mount: Object, path: str, faults: Faults) -> None:
    if (wanted := mount.get("recursiveReadOnly")) is None or wanted == "Disabled":
        return
    if wanted not in _RECURSIVE:
        faults.unsupported(path, wanted, _RECURSIVE)
        return
    if not mount.get("readOnly"):
        faults.forbidden(path, "may only be specified when readOnly is true")
    if mount.get("mountPropagation") not in (None, "None"):
        faults.forbidden(path, "may only be specified when mountPropagation is None or not specified")


def check_devices(container: Object, volumes: Mapping[str, Object], path: str, faults: Faults) -> None:
    mounts = {m.get("name", ""): m.get("mountPath", "") for m in container.get("volumeMounts") or ()}
    names: set[str] = set()
    targets: set[str] = set()
    for i, device in enumerate(container.get("volumeDevices") or ()):
        where, name, target = f"{path}[{i}]", device.get("name", ""), device.get("devicePath", "")
        _check_device_name(name, names, volumes, f"{where}.name", faults)
        if not target:
            faults.required(f"{where}.devicePath")
        if target in targets:
            faults.invalid(f"{where}.devicePath", target, "must be unique")
        if ".." in target.split("/"):
            faults.invalid(f"{where}.devicePath", target, "can not contain backsteps ('..')")
        else:
            targets.add(target)
        if name in mounts:
            faults.invalid(f"{where}.name", name, "must not already exist in volumeMounts")
        if target in mounts.values():
            faults.invalid(f"{where}.devicePath", target, "must not already exist as a path in volumeMounts")
        if name:
            names.add(name)


def _check_device_name(name: str, seen: set[str], volumes: Mapping[str, Object], path: str, faults: Faults) -> None:
    if not name:
        faults.required(path)
    if name in seen:
        faults.invalid(path, name, "must be unique")
    if name not in volumes:
        faults.not_found(path, name)
    elif all(volumes[name].get(kind) is None for kind in _CLAIMS):
        text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
        faults.invalid(path, name, text)
