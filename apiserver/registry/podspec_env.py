"""Validation of a container's environment, and of what it and volumes may read from the pod itself."""

from __future__ import annotations

import re

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults

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
_KNOWN_PATHS = {*_ENV_PATHS, *_VOLUME_PATHS}
_SUBSCRIPT = re.compile(r"(metadata\.(?:labels|annotations))\['(.*)'\]").fullmatch
_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


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
        else:
            _check_key_ref(ref, where, faults)
    if not kinds:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        faults.invalid(path, "", text)
    elif variable.get("value"):
        faults.invalid(path, "", "may not be specified when `value` is not empty")
    elif len(kinds) > 1:
        faults.invalid(path, "", "may not have more than one field specified at a time")


def _check_key_ref(ref: Object, path: str, faults: Faults) -> None:
    if "volumeName" not in ref and not ref.get("name"):
        faults.required(f"{path}.name")
    if not (key := ref.get("key")):
        faults.required(f"{path}.key")
    elif "volumeName" not in ref:
        faults.each(f"{path}.key", key, names.config_map_key(key))


def check_field_ref(ref: Object, path: str, faults: Faults, *, in_volume: bool = False) -> None:
    """A field of the pod; volumes may hold labels and annotations as a whole, the environment one of them."""
    field, allowed = ref.get("fieldPath", ""), _VOLUME_PATHS if in_volume else _ENV_PATHS
    if not ref.get("apiVersion"):
        faults.required(f"{path}.apiVersion")
        return
    if not field:
        faults.required(f"{path}.fieldPath")
        return
    if match := _SUBSCRIPT(field):
        check = names.label_key if match[1] == "metadata.labels" else lambda key: names.label_key(key.lower())
        faults.each(path, match[2], check(match[2]))
    elif field not in _KNOWN_PATHS:
        text = f"error converting fieldPath: field label not supported: {field}"
        faults.invalid(f"{path}.fieldPath", field, text)
    elif field not in allowed:
        faults.unsupported(f"{path}.fieldPath", field, allowed)


def check_resource_ref(ref: Object, path: str, faults: Faults, *, in_volume: bool = False) -> None:
    resource = ref.get("resource", "")
    if in_volume and not ref.get("containerName"):
        faults.required(f"{path}.containerName")
    elif not resource:
        faults.required(f"{path}.resource")
    elif resource not in _RESOURCES and ".hugepages-" not in resource:
        faults.unsupported(f"{path}.resource", resource, _RESOURCES)


def check_env_from(sources: list[Object], path: str, faults: Faults) -> None:
    for i, source in enumerate(sources):
        where = f"{path}[{i}]"
        if prefix := source.get("prefix"):
            faults.each(f"{where}.prefix", prefix, names.env_name(prefix))
        kinds = [kind for kind in ("configMapRef", "secretRef") if source.get(kind) is not None]
        for kind in kinds:
            if not source[kind].get("name"):
                faults.required(f"{where}.{kind}.name")
        if not kinds:
            faults.invalid(where, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(kinds) > 1:
            faults.invalid(where, "", "may not have more than one field specified at a time")
