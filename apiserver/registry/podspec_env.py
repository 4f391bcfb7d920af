"""Validation of a container's environment, and of what it and volumes may read from the pod itself."""

from __future__ import annotations

import re

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.podspec_parts import check_backsteps
from kubarium.machinery.quantity import read_quantity

_ENV_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_VOLUME_PATHS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_KNOWN_PATHS = {
    *_ENV_PATHS, *_VOLUME_PATHS, "spec.restartPolicy", "spec.schedulerName", "status.phase", "spec.host",
}  # fmt: skip
_SUBSCRIPT = re.compile(r"([^\[]*)\['(.*)'\]", re.DOTALL).fullmatch
_SUBSCRIPTED = ("metadata.annotations", "metadata.labels")
_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_HUGE = ("limits.hugepages-", "requests.hugepages-")
_CPU_DIVISORS = ("1m", "1")
_BYTE_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_DIVISORS = {
    "cpu": (_CPU_DIVISORS, f"{' and '.join(_CPU_DIVISORS)} are supported with the cpu resource"),
    "memory": (_BYTE_DIVISORS, f"{', '.join(_BYTE_DIVISORS)} are supported with the memory resource"),
    "ephemeral-storage": (
        _BYTE_DIVISORS,
        f"{', '.join(_BYTE_DIVISORS)} are supported with the local ephemeral storage resource",
    ),
    "hugepages": (_BYTE_DIVISORS, f"{', '.join(_BYTE_DIVISORS)} are supported with the hugepages resource"),
}
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_TOO_MANY = "may not have more than one field specified at a time"


def check_env(env: list[Object], path: str, faults: Faults) -> None:
    for i, variable in enumerate(env):
        where, name = f"{path}[{i}]", variable.get("name", "")
        if not name:
            faults.required(f"{where}.name")
        else:
            faults.each(f"{where}.name", name, names.env_name(name))
        if (source := variable.get("valueFrom")) is not None:
            _check_source(variable, source, f"{where}.valueFrom", faults)


def _check_source(variable: Object, source: Object, path: str, faults: Faults) -> None:
    kinds = [kind for kind in _SOURCES if source.get(kind) is not None]
    for kind in kinds:
        ref, where = source[kind], f"{path}.{kind}"
        if kind == "fieldRef":
            check_field_ref(ref, where, faults)
        elif kind == "resourceFieldRef":
            check_resource_ref(ref, where, faults)
        elif kind == "fileKeyRef":
            _check_file_ref(ref, where, faults)
        else:
            _check_key_ref(ref, where, faults)
    if not kinds:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        faults.invalid(path, "", text)
    elif variable.get("value"):
        faults.invalid(path, "", "may not be specified when `value` is not empty")
    elif len(kinds) > 1:
        faults.invalid(path, "", _TOO_MANY)


def _check_key_ref(ref: Object, path: str, faults: Faults) -> None:
    name = ref.get("name", "")
    faults.each(f"{path}.name", name, names.name_is_subdomain(name))
    if key := ref.get("key"):
        faults.each(f"{path}.key", key, names.config_map_key(key))
    else:
        faults.required(f"{path}.key")


def _check_file_ref(ref: Object, path: str, faults: Faults) -> None:
    checks = (("key", names.env_name), ("volumeName", names.dns1123_label))
    for field, check in checks:
        if value := ref.get(field):
            faults.each(f"{path}.{field}", value, check(value))
        else:
            faults.required(f"{path}.{field}")
    if value := ref.get("path"):
        check_backsteps(value, f"{path}.path", faults)
    else:
        faults.required(f"{path}.path")


def check_field_ref(ref: Object, path: str, faults: Faults, *, in_volume: bool = False) -> None:
    """A field of the pod; volumes may hold labels and annotations as a whole, the environment one of them."""
    version, field, allowed = (
        ref.get("apiVersion"),
        ref.get("fieldPath", ""),
        _VOLUME_PATHS if in_volume else _ENV_PATHS,
    )
    if not version:
        faults.required(f"{path}.apiVersion")
        return
    if not field:
        faults.required(f"{path}.fieldPath")
        return
    match = _SUBSCRIPT(field)
    if version != "v1":
        faults.invalid(f"{path}.fieldPath", field, f"error converting fieldPath: unsupported pod version: {version}")
    elif match and match[1] in _SUBSCRIPTED:
        key = match[2].lower() if match[1] == "metadata.annotations" else match[2]
        faults.each(path, key, names.qualified_name(key))
    elif match:
        text = f"error converting fieldPath: field label does not support subscript: {field}"
        faults.invalid(f"{path}.fieldPath", field, text)
    elif field not in _KNOWN_PATHS:
        text = f"error converting fieldPath: field label not supported: {field}"
        faults.invalid(f"{path}.fieldPath", field, text)
    elif (shown := "spec.nodeName" if field == "spec.host" else field) not in allowed:
        faults.unsupported(f"{path}.fieldPath", shown, allowed)


def check_resource_ref(ref: Object, path: str, faults: Faults, *, in_volume: bool = False) -> None:
    resource = ref.get("resource", "")
    if in_volume and not ref.get("containerName"):
        faults.required(f"{path}.containerName")
    elif not resource:
        faults.required(f"{path}.resource")
    elif resource not in _RESOURCES and not resource.startswith(_HUGE):
        faults.unsupported(f"{path}.resource", resource, _RESOURCES)
    kind = "hugepages" if resource.startswith(_HUGE) else resource.partition(".")[2]
    if resource not in _RESOURCES and kind != "hugepages":
        return
    divisor = read_quantity(str(ref.get("divisor") or "0"))
    allowed, text = _DIVISORS[kind]
    if divisor.value and str(divisor) not in allowed:
        faults.invalid(f"{path}.divisor", resource, f"only divisor's values {text}")


def check_env_from(sources: list[Object], path: str, faults: Faults) -> None:
    for i, source in enumerate(sources):
        where = f"{path}[{i}]"
        if prefix := source.get("prefix"):
            faults.each(f"{where}.prefix", prefix, names.env_name(prefix))
        kinds = [kind for kind in ("configMapRef", "secretRef") if source.get(kind) is not None]
        for kind in kinds:
            if name := source[kind].get("name"):
                faults.each(f"{where}.{kind}.name", name, names.name_is_subdomain(name, True))
            else:
                faults.required(f"{where}.{kind}.name")
        if not kinds:
            faults.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(kinds) > 1:
            faults.invalid(path, "", _TOO_MANY)
