"""managedFields of creates and updates: who writes a field owns it, whoever owned it before. Pure.

Source: Kubernetes documentation, "Server-Side Apply", "Field management"; KEP-555.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from apiserver.fieldmanager.entries import (
    UPDATE,
    Entry,
    Managed,
    Manager,
    by_manager,
    fold_old,
    in_order,
    make,
    manager_of,
    read,
    same_but_times,
)
from apiserver.fieldmanager.fieldsets import Fields, difference, union
from apiserver.fieldmanager.roots import root_of
from apiserver.fieldmanager.schema import UnkeyedItem
from apiserver.registry.base import Object, ResourceDef
from apiserver.schemas.shape import Empty

_NOBODY: list[Any] = []


@contextmanager
def as_sent(empty: Sequence[Empty]) -> Iterator[None]:
    """While the block lasts, fields that are written as null are the empty lists that the client sent: they have owners
    then.
    """
    for one in empty:
        if one.key and one.holder.get(one.key) is None:
            one.holder[one.key] = one.value
    try:
        yield
    finally:
        for one in empty:
            if one.key and not one.holder.get(one.key):
                one.holder[one.key] = None


def track_create(resource: ResourceDef, obj: Object, name: str, now: str) -> None:
    """Set the entries of a new object: decoded and defaulted, before the server adds anything of its own.

    `name` is the manager's, `now` the time as the wire has it.
    """
    root = root_of(resource, "")
    if root is None:
        return
    metadata = obj["metadata"]
    given = metadata.pop("managedFields", None)
    try:
        changed, removed = root.node.compare(root.zero, obj)
    except UnkeyedItem:
        return
    managed: Managed = (read(given) or {}) if given else {}
    me = Manager(name, UPDATE, resource.api_version, "")
    _write(metadata, taken(managed, me, resource.api_version, changed, removed, now))


def track_update(resource: ResourceDef, subresource: str, new: Object, old: Object, name: str, now: str) -> None:
    """Set the entries of the new version of an object: decoded and defaulted, before the server changes it.

    An object without entries stays without: nobody could tell who owns the rest of it.
    """
    metadata = new["metadata"]
    before = old["metadata"].get("managedFields") or _NOBODY
    managed = _current(metadata.pop("managedFields", None), before, trusted=not subresource)
    root = root_of(resource, subresource)
    if root is None or not managed:
        return
    managed = _of_group(managed, resource.group)
    try:
        changed, removed = root.node.compare(old, new)
    except UnkeyedItem:
        return
    if changed is not None or removed is not None:
        me = Manager(name, UPDATE, resource.api_version, subresource)
        managed = taken(managed, me, resource.api_version, changed, removed, now)
    _write(metadata, managed)


def _of_group(managed: Managed, group: str) -> Managed:
    """Without those who have written through another group (Events have two): their fields are not of this one."""
    if all(_group(entry) == group for entry in managed.values()):
        return managed
    return {manager: entry for manager, entry in managed.items() if _group(entry) == group}


def _group(entry: Entry) -> str:
    return str(entry.get("apiVersion", "")).rpartition("/")[0]


def _current(given: list[Any] | None, before: list[Any], *, trusted: bool) -> Managed:
    """The entries to start from: those that the client sends if it understands them, else those of the object.

    An empty list, or one of one empty entry, asks for their removal; none at all, or what is no entry, does not.
    """
    if given is not None and trusted and given != before:
        if given in ([], [{}]):
            return {}
        if managed := read(given):
            return managed
    return by_manager(before)


def taken(
    managed: Managed, me: Manager, api_version: str, changed: Fields | None, removed: Fields | None, now: str
) -> Managed:
    """The entries after a write: what has changed is the writer's, what is gone is nobody's."""
    out: Managed = {}
    for manager, entry in managed.items():
        left = entry["fieldsV1"]
        if changed and manager != me:
            left = difference(left, changed)
        if removed:
            left = difference(left, removed)
        if left is entry["fieldsV1"]:
            out[manager] = entry
        elif left:
            out[manager] = {**entry, "fieldsV1": left}
    if not changed:
        return out
    mine = out.get(me)
    out[me] = make(me, api_version, union(mine["fieldsV1"], changed) if mine else changed, now)
    return fold_old(out)


def _write(metadata: Object, managed: Managed) -> None:
    set_entries(metadata, in_order(managed))


def set_entries(metadata: Object, entries: list[Entry]) -> None:
    if entries:
        metadata["managedFields"] = entries
    else:
        metadata.pop("managedFields", None)


def scale_times(new: Object, old: Object) -> None:
    """Entries of those who write the Scale have no time of their own: they keep the one they had, if any."""
    before = {manager_of(entry): entry for entry in old["metadata"].get("managedFields") or ()}
    entries = new["metadata"].get("managedFields") or _NOBODY
    if any(entry.get("subresource") == "scale" for entry in entries):
        kept = {manager_of(entry): _timed(entry, before.get(manager_of(entry))) for entry in entries}
        new["metadata"]["managedFields"] = in_order(kept)


def _timed(entry: Entry, before: Entry | None) -> Entry:
    if entry.get("subresource") != "scale":
        return entry
    found = {key: value for key, value in entry.items() if key != "time"}
    return found if before is None or "time" not in before else found | {"time": before["time"]}


def keep_times(new: Object, old: Object) -> None:
    """Give the new version the entries of the old one where nothing but their times would tell the two apart."""
    metadata = new["metadata"]
    entries: list[Entry] = metadata.get("managedFields") or _NOBODY
    before: list[Entry] = old["metadata"].get("managedFields") or _NOBODY
    if entries == before or not same_but_times(entries, before):
        return
    metadata["managedFields"] = before
    if new != old:
        metadata["managedFields"] = entries
