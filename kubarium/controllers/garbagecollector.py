"""Garbage collection: who has lost all owners goes; how an owner goes (background, foreground, orphaning) is kept to.

All kinds that the API server serves take part, custom ones too. That an owner is there the graph may tell; that it is
not, only a look at the API server, by name and uid, or the event that it is gone.
Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from kubarium.controllers.controller import Context, Controller, NotYet
from kubarium.controllers.ownership import (
    FOREGROUND,
    ORPHAN,
    Action,
    Graph,
    Identity,
    Item,
    Owner,
    blocking,
    identity_of,
    is_elsewhere,
    is_meant,
    meant,
    plan_item,
    unblocked,
)
from kubarium.controllers.refs import release_patch
from kubarium.controllers.views import Owned
from kubarium.machinery.client import PatchType
from kubarium.machinery.errors import ApiError, NotFound
from kubarium.machinery.objects import ObjectReference, OwnerReference
from kubarium.machinery.resources import Resource

log = logging.getLogger(__name__)

ABSENT_KNOWN = 5000
"""Owners known not to exist are remembered, up to so many; of others the API server is asked again."""


class _Stray(Exception):
    """A cluster-scoped object names an owner in a namespace: nobody can tell which one, so it is left alone."""


class GarbageCollector(Controller[str]):
    """Keys are uids: of objects whose owners changed, and of owners that wait for their dependents."""

    name = "garbage-collector-controller"
    workers = 8

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.kinds = context.all_kinds
        self.graph = Graph()
        self._absent: OrderedDict[Identity, None] = OrderedDict()
        self._unserved: set[str] = set()  # uids of objects with an owner of a kind that is not served
        self.kinds.on_change(self._changed)
        self.kinds.on_kinds(self._kinds_changed)

    async def run(self) -> None:
        await self.kinds.synced()
        await super().run()

    # -- what happens --------------------------------------------------------------------------------------------------

    def _kinds_changed(self, gone: Iterable[tuple[str, str]]) -> None:
        self.graph.drop_kinds(gone)
        again, self._unserved = self._unserved, set()
        for uid in again:
            self.queue.add(uid)

    def _changed(self, resource: Resource[Owned], old: Any, new: Any) -> None:
        if new is None:
            if old is not None:
                self._gone(resource, old)
            return
        known = self.graph.get(new.metadata.uid)
        self.graph.put(resource, new)
        if known is None:
            self._appeared(self.graph.get(new.metadata.uid))
        else:
            self._updated(known.obj, new)

    def _appeared(self, item: Item | None) -> None:
        assert item is not None
        if item.owners or item.deleting:
            self.queue.add(item.uid)
        for dependent in self.graph.dependents(item.uid):
            if any(ref.uid == item.uid and not is_meant(item, ref, dependent) for ref in dependent.owners):
                self.queue.add(dependent.uid)

    def _updated(self, old: Any, new: Any) -> None:
        before, meta = old.metadata, new.metadata
        if before.owner_references != meta.owner_references:
            self.queue.add(meta.uid)
            for uid in unblocked(old, new):
                self.queue.add(uid)
        if meta.deletion_timestamp and (before.deletion_timestamp, before.finalizers) != (
            meta.deletion_timestamp,
            meta.finalizers,
        ):
            self.queue.add(meta.uid)
            if FOREGROUND in meta.finalizers:
                for dependent in self.graph.dependents(meta.uid):
                    self.queue.add(dependent.uid)

    def _gone(self, resource: Resource[Owned], obj: Any) -> None:
        uid = obj.metadata.uid
        self.graph.drop(uid)
        self._unserved.discard(uid)
        dependents = self.graph.dependents(uid)
        if dependents:
            self._remember_absent(identity_of(Item(resource, obj)))
        for dependent in dependents:
            self.queue.add(dependent.uid)
        for ref in obj.metadata.owner_references:
            owner = self.graph.get(ref.uid)
            if owner is not None and owner.awaits(FOREGROUND):
                self.queue.add(ref.uid)

    def _remember_absent(self, identity: Identity) -> None:
        self._absent[identity] = None
        self._absent.move_to_end(identity)
        if len(self._absent) > ABSENT_KNOWN:
            self._absent.popitem(last=False)

    # -- what is done about it -----------------------------------------------------------------------------------------

    async def sync(self, uid: str) -> None:
        item = self.graph.get(uid)
        if item is None:
            return
        if item.deleting and not item.awaits(ORPHAN) and not item.awaits(FOREGROUND):
            return
        owners: dict[str, Owner] = {}
        unsure: list[str] = []
        if not item.deleting:
            try:
                for ref in item.owners:
                    owners[ref.uid] = await self._owner(item, ref, unsure)
            except _Stray:
                return
        plan = plan_item(item, owners, self.graph.dependents(uid))
        match plan.action:
            case Action.ORPHAN_DEPENDENTS:
                await self._orphan(item)
            case Action.DELETE_DEPENDENTS:
                await self._delete_dependents(item)
            case Action.DROP_REFERENCES:
                await self._release(item, plan.owners)
            case Action.DELETE:
                await self._delete(item, plan.propagation, unblock=plan.unblock)
        if unsure:
            raise NotYet(f"{identity_of(item)}: {unsure[0]}")

    async def _owner(self, item: Item, ref: OwnerReference, unsure: list[str]) -> Owner:
        """What the reference points to. Where that cannot be known yet (it is then taken for solid, so that nothing is
        deleted) the reason is added to `unsure`. Raises _Stray."""
        known = self.graph.get(ref.uid)
        if known is not None:
            if is_meant(known, ref, item):
                return Owner.WAITING if known.awaits(FOREGROUND) else Owner.SOLID
            if is_elsewhere(known, item):
                self._tell_elsewhere(item, ref)
        resource = self.kinds.served.get((ref.api_version, ref.kind))
        if resource is None:
            self._unserved.add(item.uid)
            unsure.append(f"the kind of its owner, {ref.api_version} {ref.kind}, is not served")
            return Owner.SOLID
        if resource.namespaced and not item.namespace:
            raise _Stray
        identity = meant(ref, item.namespace if resource.namespaced else "")
        if identity in self._absent:
            return Owner.ABSENT
        try:
            found = await self.api.get(resource, ref.name, identity.namespace)
        except NotFound:
            self._remember_absent(identity)
            return Owner.ABSENT
        if found.metadata.uid != ref.uid:
            self._remember_absent(identity)
            return Owner.ABSENT
        if known is None:
            unsure.append(f"its owner {identity} has not been seen by watch yet")
        return Owner.WAITING if Item(resource, found).awaits(FOREGROUND) else Owner.SOLID

    def _tell_elsewhere(self, item: Item, ref: OwnerReference) -> None:
        meta, resource = item.obj.metadata, item.resource
        about = ObjectReference(
            kind=resource.kind,
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            api_version=resource.api_version,
        )
        text = f'ownerRef {meant(ref, meta.namespace)} does not exist in namespace "{meta.namespace}"'
        self.events.event(about, "Warning", "OwnerRefInvalidNamespace", text)

    async def _orphan(self, item: Item) -> None:
        """Take the owner's reference off every dependent, then let the owner go."""
        for dependent in self.graph.dependents(item.uid):
            await self._release(dependent, [item.uid])
        await self._remove_finalizer(item, ORPHAN)

    async def _delete_dependents(self, item: Item) -> None:
        waiting_for = blocking(item.uid, self.graph.dependents(item.uid))
        if not waiting_for:
            await self._remove_finalizer(item, FOREGROUND)
        for dependent in waiting_for:
            if not dependent.awaits(FOREGROUND):
                self.queue.add(dependent.uid)

    async def _remove_finalizer(self, item: Item, finalizer: str) -> None:
        meta = item.obj.metadata
        kept = [name for name in meta.finalizers if name != finalizer]
        patch = {"metadata": {"resourceVersion": meta.resource_version, "finalizers": kept or None}}
        try:
            await self.api.patch(item.resource, meta.name, patch, meta.namespace)
        except NotFound:
            return

    async def _release(self, item: Item, owners: Sequence[str]) -> None:
        """Take references away, by their uids. Custom kinds have no strategic merge: there the list is written."""
        meta = item.obj.metadata
        try:
            await self.api.patch(
                item.resource,
                meta.name,
                release_patch(owners, item.obj),
                meta.namespace,
                patch_type=PatchType.STRATEGIC,
            )
        except NotFound:
            return
        except ApiError as err:
            if err.status_code != 415:
                raise
            await self._write_references(item, [ref for ref in item.owners if ref.uid not in owners])

    async def _write_references(self, item: Item, references: Sequence[OwnerReference]) -> None:
        meta = item.obj.metadata
        wire = [wire_reference(ref) for ref in references]
        patch = {"metadata": {"resourceVersion": meta.resource_version, "ownerReferences": wire or None}}
        try:
            await self.api.patch(item.resource, meta.name, patch, meta.namespace)
        except NotFound:
            return

    async def _delete(self, item: Item, propagation: str, *, unblock: bool) -> None:
        """Guarded by uid and revision: an object that changed is looked at again first."""
        meta = item.obj.metadata
        if unblock and any(ref.block_owner_deletion for ref in item.owners):
            await self._write_references(item, [_unblocking(ref) for ref in item.owners])
            return  # the change comes back to us
        fresh = await self.api.get(item.resource, meta.name, meta.namespace)
        if fresh.metadata.uid != meta.uid:
            return
        if fresh.metadata.owner_references != meta.owner_references:
            raise NotYet(f"{identity_of(item)}: its owners changed; waiting for the cache to show it")
        await self.api.delete(
            item.resource,
            meta.name,
            meta.namespace,
            uid=meta.uid,
            resource_version=fresh.metadata.resource_version,
            propagation=propagation,
        )


def _unblocking(ref: OwnerReference) -> OwnerReference:
    return msgspec.structs.replace(ref, block_owner_deletion=False)


def wire_reference(ref: OwnerReference) -> dict[str, Any]:
    wire: dict[str, Any] = {"apiVersion": ref.api_version, "kind": ref.kind, "name": ref.name, "uid": ref.uid}
    wire |= {"controller": True} if ref.controller else {}
    return wire | ({"blockOwnerDeletion": True} if ref.block_owner_deletion else {})
