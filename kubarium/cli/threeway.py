"""What `apply` sends: the patch from an object as it is to what the manifest says.

Three sources: `original` (what was applied last), `modified` (the manifest now), `current` (the object in the server).
Set what the manifest says and the object lacks; remove what was applied before and is gone from the manifest; leave all
else, which belongs to others.
Source: https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Lists that are merged by a key of their entries; others are replaced whole. Source: patchMergeKey in the API types.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "readinessGates": "conditionType",
    "schedulingGates": "name",
    "resourceClaims": "name",
    "secrets": "name",
    "ownerReferences": "uid",
    "webhooks": "name",
}
MERGED_PRIMITIVES = ("metadata.finalizers",)


def strategic(original: Any, modified: Any, current: Any) -> dict[str, Any]:
    """A strategic merge patch, {} where nothing is to do."""
    return _patch(original or {}, modified, current, merging=True)


def json_merge(original: Any, modified: Any, current: Any) -> dict[str, Any]:
    """A JSON merge patch (for custom resources): lists are replaced as a whole."""
    return _patch(original or {}, modified, current, merging=False)


def _patch(original: Any, modified: Any, current: Any, *, merging: bool) -> dict[str, Any]:
    removed = _removed("", original, modified, merging=merging)
    added = _added("", current, modified, merging=merging)
    return _combined_maps("", removed, added)


def merge_key(path: str, entries: Sequence[Any]) -> str:
    """The key that entries of the list at `path` are merged by, "" for lists that are replaced."""
    field = path.rpartition(".")[2]
    if field != "ports":
        return MERGE_KEYS.get(field, "")
    if entries and all(isinstance(entry, dict) and "containerPort" in entry for entry in entries):
        return "containerPort"
    return "port" if path == "spec.ports" else ""  # a Service's; those of an EndpointSlice are replaced


def _added(path: str, current: Any, modified: Mapping[str, Any], *, merging: bool) -> dict[str, Any]:
    patch: dict[str, Any] = {}
    for field, value in modified.items():
        old, here = current.get(field), f"{path}.{field}".lstrip(".")
        if value is None:
            if field in current:
                patch[field] = None
        elif isinstance(value, dict) and isinstance(old, dict):
            if inner := _added(here, old, value, merging=merging):
                patch[field] = inner
        elif isinstance(value, list) and isinstance(old, list) and merging:
            if (entries := _added_entries(here, old, value)) is not None:
                patch[field] = entries
        elif value != old and not (field not in current and value in ({}, [])):
            patch[field] = value  # an empty map or list asks for nothing where there is none: the server drops it
    return patch


def _added_entries(path: str, current: list[Any], modified: list[Any]) -> list[Any] | None:
    """Entries to add or change, None where nothing is to do."""
    if path in MERGED_PRIMITIVES:
        return [value for value in modified if value not in current] or None
    key = merge_key(path, modified)
    if not key:
        return None if modified == current else modified
    by_key = {entry.get(key): entry for entry in current}
    changes = []
    for entry in modified:
        old = by_key.get(entry.get(key))
        if old is None:
            changes.append(entry)
        elif inner := _added(path, old, entry, merging=True):
            changes.append({key: entry[key], **inner})
    return changes or None


def _removed(path: str, original: Mapping[str, Any], modified: Mapping[str, Any], *, merging: bool) -> dict[str, Any]:
    patch: dict[str, Any] = {}
    for field, old in original.items():
        here = f"{path}.{field}".lstrip(".")
        if field not in modified:
            patch[field] = None
            continue
        value = modified[field]
        if isinstance(old, dict) and isinstance(value, dict):
            if inner := _removed(here, old, value, merging=merging):
                patch[field] = inner
        elif isinstance(old, list) and isinstance(value, list) and merging:
            patch |= _removed_entries(here, old, value)
    return patch


def _removed_entries(path: str, original: list[Any], modified: list[Any]) -> dict[str, Any]:
    field = path.rpartition(".")[2]
    if path in MERGED_PRIMITIVES:
        gone = [value for value in original if value not in modified]
        return {f"$deleteFromPrimitiveList/{field}": gone} if gone else {}
    key = merge_key(path, original)
    if not key:
        return {}
    by_key = {entry.get(key): entry for entry in modified}
    changes: list[Any] = []
    for entry in original:
        kept = by_key.get(entry.get(key))
        if kept is None:
            changes.append({"$patch": "delete", key: entry.get(key)})
        elif inner := _removed(path, entry, kept, merging=True):
            changes.append({key: entry[key], **inner})
    return {field: changes} if changes else {}


def _combined_maps(path: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both patches in one; where they meet, `other` (what the manifest says) wins."""
    both = {**one, **other}
    return {
        field: _combined(f"{path}.{field}".lstrip("."), one[field], other[field])
        if field in one and field in other
        else both[field]
        for field in both
    }


def _combined(path: str, one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return _combined_maps(path, one, other)
    if isinstance(one, list) and isinstance(other, list) and (key := merge_key(path, other) or merge_key(path, one)):
        by_key = {entry[key]: entry for entry in one}
        for entry in other:
            by_key[entry[key]] = _combined_maps(path, by_key.get(entry[key], {}), entry)
        return list(by_key.values())
    return other
