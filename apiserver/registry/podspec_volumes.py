"""Validation of a pod's volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.podspec_env import check_field_ref, check_resource_ref
from apiserver.registry.podspec_parts import check_mode, check_relative_path

_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_MIN_TOKEN_S, _MAX_TOKEN_S = 600, 1 << 32


def check_volumes(volumes: list[Object], path: str, faults: Faults) -> dict[str, Object]:
    """Checks the volumes; gives those without fault by name."""
    good: dict[str, Object] = {}
    seen: set[str] = set()
    for i, volume in enumerate(volumes):
        found, name = Faults(), volume.get("name", "")
        _check_source(volume, f"{path}[{i}]", found)
        if not name:
            found.required(f"{path}[{i}].name")
        else:
            found.each(f"{path}[{i}].name", name, names.dns1123_label(name))
        if name in seen:
            found.duplicate(f"{path}[{i}].name", name)
        if found:
            faults.extend(found)
        else:
            seen.add(name)
            good[name] = volume
    return good


def _check_source(volume: Object, path: str, faults: Faults) -> None:
    kinds = [key for key in volume if key != "name"]
    if not kinds:
        faults.required(path, "must specify a volume type")
        return
    for kind in kinds[1:]:
        faults.forbidden(f"{path}.{kind}", "may not specify more than 1 volume type")
    if check := _CHECKS.get(kinds[0]):
        check(volume[kinds[0]] or {}, f"{path}.{kinds[0]}", faults)


def _check_empty_dir(source: Object, path: str, faults: Faults) -> None:
    if str(source.get("sizeLimit") or "").startswith("-"):
        faults.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")


def _check_host_path(source: Object, path: str, faults: Faults) -> None:
    if not (value := source.get("path")):
        faults.required(f"{path}.path")
        return
    if ".." in value.split("/"):
        faults.invalid(f"{path}.path", value, "must not contain '..'")
    if (kind := source.get("type")) not in (None, *_HOST_PATH_TYPES):
        faults.unsupported(f"{path}.type", kind, _HOST_PATH_TYPES)


def _check_items(items: list[Object], path: str, faults: Faults) -> None:
    for i, item in enumerate(items):
        where = f"{path}.items[{i}]"
        if not item.get("key"):
            faults.required(f"{where}.key")
        if not (value := item.get("path")):
            faults.required(f"{where}.path")
        else:
            check_relative_path(value, f"{where}.path", faults, reserved=True)
        check_mode(item, "mode", where, faults)


def _named(key: str) -> Callable[[Object, str, Faults], None]:
    """A Secret or ConfigMap volume; `key` holds the name."""

    def check(source: Object, path: str, faults: Faults) -> None:
        if not source.get(key):
            faults.required(f"{path}.{key}")
        check_mode(source, "defaultMode", path, faults)
        _check_items(source.get("items") or [], path, faults)

    return check


def _check_downward(source: Object, path: str, faults: Faults) -> None:
    check_mode(source, "defaultMode", path, faults)
    _check_downward_items(source.get("items") or [], path, faults)


def _check_downward_items(items: list[Object], path: str, faults: Faults) -> None:
    for i, item in enumerate(items):
        where = f"{path}.items[{i}]"
        if not (value := item.get("path")):
            faults.required(f"{where}.path")
        else:
            check_relative_path(value, f"{where}.path", faults, reserved=True)
        if (ref := item.get("fieldRef")) is not None:
            check_field_ref(ref, f"{where}.fieldRef", faults, in_volume=True)
            if item.get("resourceFieldRef") is not None:
                faults.invalid(where, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
        elif (resource := item.get("resourceFieldRef")) is not None:
            check_resource_ref(resource, f"{where}.resourceFieldRef", faults, in_volume=True)
        else:
            faults.required(where, "one of fieldRef and resourceFieldRef is required")
        check_mode(item, "mode", where, faults)


def _check_projected(source: Object, path: str, faults: Faults) -> None:
    check_mode(source, "defaultMode", path, faults)
    for i, projection in enumerate(source.get("sources") or ()):
        where, kinds = f"{path}.sources[{i}]", list(projection)
        if not kinds:
            faults.required(where, "must specify one of: secret, configMap, downwardAPI, serviceAccountToken")
            continue
        for kind in kinds[1:]:
            faults.forbidden(f"{where}.{kind}", "may not specify more than 1 volume type")
        _check_projection(kinds[0], projection[kinds[0]] or {}, f"{where}.{kinds[0]}", faults)


def _check_projection(kind: str, source: Object, path: str, faults: Faults) -> None:
    if kind in ("secret", "configMap"):
        if not source.get("name"):
            faults.required(f"{path}.name")
        _check_items(source.get("items") or [], path, faults)
    elif kind == "downwardAPI":
        _check_downward_items(source.get("items") or [], path, faults)
    elif kind == "serviceAccountToken":
        seconds = source.get("expirationSeconds", _MIN_TOKEN_S)
        if seconds < _MIN_TOKEN_S:
            faults.invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        elif seconds > _MAX_TOKEN_S:
            faults.invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
        if not source.get("path"):
            faults.required(f"{path}.path")
        else:
            check_relative_path(source["path"], f"{path}.path", faults, reserved=True)


def _needs(*fields: str) -> Callable[[Object, str, Faults], None]:
    def check(source: Object, path: str, faults: Faults) -> None:
        for field in fields:
            if not source.get(field):
                faults.required(f"{path}.{field}")

    return check


_CHECKS: Mapping[str, Callable[[Object, str, Faults], None]] = {
    "emptyDir": _check_empty_dir,
    "hostPath": _check_host_path,
    "secret": _named("secretName"),
    "configMap": _named("name"),
    "downwardAPI": _check_downward,
    "projected": _check_projected,
    "persistentVolumeClaim": _needs("claimName"),
    "nfs": _needs("server", "path"),
    "csi": _needs("driver"),
}
