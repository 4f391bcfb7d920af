"""The entries of metadata.managedFields: whose they are, in which order they stand, how old ones are folded. Pure.

Entries stay in their wire form. A new list shares the entries that have not changed.
Source: Kubernetes API reference, ManagedFieldsEntry; Kubernetes documentation, "Server-Side Apply".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from apiserver.fieldmanager.fieldsets import Fields, is_set, union

Entry = dict[str, Any]

APPLY: Final = "Apply"
UPDATE: Final = "Update"
MAX_UPDATERS = 10
ANCIENT = "ancient-changes"
UNKNOWN = "unknown"
MANAGER_LIMIT_B = 128


class Manager(NamedTuple):
    """Who owns an entry. Who applies is the same whatever version is used; then `api_version` is empty."""

    name: str
    operation: str
    api_version: str
    subresource: str


Managed = dict[Manager, Entry]


def manager_name(field_manager: str, user_agent: str) -> str:
    """The name that a client gives, else the first part of its user agent (`kubectl/v1.36 ...` -> `kubectl`)."""
    if field_manager:
        return field_manager
    name = user_agent.partition("/")[0]
    if not name.isprintable():
        name = "".join(c for c in name if c.isprintable())
    return name.encode()[:MANAGER_LIMIT_B].decode(errors="ignore") or UNKNOWN


def manager_of(entry: Mapping[str, Any]) -> Manager:
    operation = entry.get("operation", "")
    version = entry.get("apiVersion", "") if operation == UPDATE else ""
    return Manager(entry.get("manager", ""), operation, version, entry.get("subresource", ""))


def by_manager(entries: Iterable[Entry]) -> Managed:
    """Entries of a stored object."""
    return {manager_of(entry): entry for entry in entries}


def read(entries: Iterable[Any]) -> Managed | None:
    """Entries that a client sends; None where one is no entry."""
    found = list(entries)
    return by_manager(found) if all(is_entry(entry) for entry in found) else None


def is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.get("operation") in (APPLY, UPDATE)
        and entry.get("fieldsType") == "FieldsV1"
        and is_set(entry.get("fieldsV1"))
    )


def make(manager: Manager, api_version: str, fields: Fields, time: str) -> Entry:
    entry = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": api_version,
        "time": time,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    if manager.subresource:
        entry["subresource"] = manager.subresource
    return entry


def in_order(managed: Managed) -> list[Entry]:
    """The list as it is written: who applies first, then by time."""
    found = list(managed.values())
    if len(found) > 1:
        found.sort(key=_rank)
    return found


def _rank(entry: Entry) -> tuple[str, ...]:
    return (
        entry["operation"],
        entry.get("time") or "",
        entry.get("manager", ""),
        entry.get("apiVersion", ""),
        entry.get("subresource", ""),
    )


def fold_old(managed: Managed) -> Managed:
    """At most MAX_UPDATERS entries of updates: the oldest of a version become one, `ancient-changes`."""
    updaters = [manager for manager in managed if manager.operation == UPDATE]
    excess = len(updaters) - MAX_UPDATERS
    if excess <= 0:
        return managed
    out = dict(managed)
    first: dict[str, Manager] = {}
    for manager in sorted(updaters, key=lambda m: (managed[m].get("time") or "", m)):
        if excess <= 0:
            break
        version = manager.api_version
        if version not in first:
            first[version] = manager
            continue
        bucket = Manager(ANCIENT, UPDATE, version, "")
        entry = out.pop(manager)
        older = out[bucket] if bucket in out else out.pop(first[version])
        fields = union(older["fieldsV1"], entry["fieldsV1"])
        out[bucket] = make(bucket, version, fields, entry.get("time") or "")
        excess -= 1
    return out


def same_but_times(a: list[Entry], b: list[Entry]) -> bool:
    """Whether the same managers own the same fields; times make no difference, nor the order that comes from them."""
    if len(a) != len(b):
        return False
    if all(_timeless(x) == _timeless(y) for x, y in zip(a, b, strict=True) if x is not y):
        return True
    return len(a) > 1 and {manager_of(x): _timeless(x) for x in a} == {manager_of(x): _timeless(x) for x in b}


def _timeless(entry: Entry) -> Entry:
    return {**entry, "time": ""}
