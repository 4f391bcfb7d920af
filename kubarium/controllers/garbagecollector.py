"""Garbage collection: who has lost all owners goes; how an owner goes (background, foreground, orphaning) is kept to.

Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from kubarium.controllers.controller import Context, Controller, NotYet
from kubarium.controllers.refs import HasMeta, release_patch
from kubarium.controllers.views import ALL, PartialObject, metadata_only
from kubarium.machinery.client import PatchType
from kubarium.machinery.errors import NotFound
from kubarium.machinery.objects import OwnerReference
from kubarium.machinery.resources import EVENTS, Resource

log = logging.getLogger(__name__)

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Item:
    """One object as the graph knows it."""

    resource: Resource[PartialObject]
    obj: HasMeta

    @property
    def uid(self) -> str:
        return self.obj.metadata.uid

    @property
    def deleting(self) -> bool:
        return bool(self.obj.metadata.deletion_timestamp)

    def awaits(self, finalizer: str) -> bool:
        """Whether the object is being deleted and waits for us to do what `finalizer` stands for."""
        return self.deleting and finalizer in self.obj.metadata.finalizers


class Graph:
    """Who owns whom, by uid; also for owners that are not (or not yet) known."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._dependents: dict[str, set[str]] = {}

    def get(self, uid: str) -> Item | None:
        return self._items.get(uid)

    def dependents(self, uid: str) -> tuple[Item, ...]:
        return tuple(self._items[each] for each in sorted(self._dependents.get(uid, ())) if each in self._items)

    def put(self, resource: Resource[PartialObject], obj: HasMeta) -> None:
        self.drop(obj.metadata.uid)
        self._items[obj.metadata.uid] = Item(resource, obj)
        for ref in obj.metadata.owner_references:
            self._dependents.setdefault(ref.uid, set()).add(obj.metadata.uid)

    def drop(self, uid: str) -> None:
        item = self._items.pop(uid, None)
        for ref in item.obj.metadata.owner_references if item else ():
            siblings = self._dependents.get(ref.uid, set())
            siblings.discard(uid)
            if not siblings:
                self._dependents.pop(ref.uid, None)


class Owner(Enum):
    """What an ownerReference points to."""

    SOLID = auto()
    WAITING = auto()  # being deleted in the foreground: it waits for this very dependent
    ABSENT = auto()


class Action(Enum):
    """What is to be done with one object."""

    NOTHING = auto()
    ORPHAN_DEPENDENTS = auto()
    DELETE_DEPENDENTS = auto()  # and drop the finalizer foregroundDeletion when none blocks any more
    DROP_REFERENCES = auto()
    DELETE = auto()


@dataclass(frozen=True, slots=True)
class Plan:
    """`owners` are the uids whose references go with DROP_REFERENCES; `propagation` is for DELETE."""

    action: Action
    owners: tuple[str, ...] = ()
    propagation: str = ""


def plan_item(item: Item, owners: Mapping[str, Owner], dependents: Iterable[Item]) -> Plan:
    """What garbage collection means for one object. `owners` tells of each of its references, by uid."""
    if item.awaits(ORPHAN):
        return Plan(Action.ORPHAN_DEPENDENTS)
    if item.awaits(FOREGROUND):
        return Plan(Action.DELETE_DEPENDENTS)
    if item.deleting or not owners:
        return Plan(Action.NOTHING)
    gone = tuple(uid for uid, owner in owners.items() if owner is not Owner.SOLID)
    if len(gone) < len(owners):
        return Plan(Action.DROP_REFERENCES, gone) if gone else Plan(Action.NOTHING)
    if ORPHAN in item.obj.metadata.finalizers:
        return Plan(Action.DELETE, propagation="Orphan")
    waiting = Owner.WAITING in owners.values() and any(True for _ in dependents)
    if waiting or FOREGROUND in item.obj.metadata.finalizers:
        return Plan(Action.DELETE, propagation="Foreground")
    return Plan(Action.DELETE, propagation="Background")


def blocking(owner_uid: str, dependents: Iterable[Item]) -> list[Item]:
    """The dependents that an owner's foreground deletion waits for."""
    return [
        item
        for item in dependents
        if any(ref.uid == owner_uid and ref.block_owner_deletion for ref in item.obj.metadata.owner_references)
    ]


class GarbageCollector(Controller[str]):
    """Keys are uids: of objects whose owners changed, and of owners that wait for their dependents."""

    name = "garbage-collector-controller"
    workers = 8

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.graph = Graph()
        self._absent: set[str] = set()  # uids of owners known not to exist (uids never come back)
        self.resources = {(r.api_version, r.kind): metadata_only(r) for r in ALL if r is not EVENTS}
        for resource in self.resources.values():
            context.informers.of(resource).on_change(self._handler(resource))

    def _handler(self, resource: Resource[PartialObject]) -> Callable[[Any, Any], None]:
        def changed(old: HasMeta | None, new: HasMeta | None) -> None:
            if new is not None:
                self.graph.put(resource, new)
                self._touch(new, is_new=old is None)
            elif old is not None:
                self.graph.drop(old.metadata.uid)
                self._gone(old)

        return changed

    def _touch(self, obj: HasMeta, *, is_new: bool) -> None:
        if obj.metadata.owner_references or obj.metadata.deletion_timestamp:
            self.queue.add(obj.metadata.uid)
        if is_new or not obj.metadata.deletion_timestamp:
            return
        if FOREGROUND in obj.metadata.finalizers:
            for dependent in self.graph.dependents(obj.metadata.uid):
                self.queue.add(dependent.uid)

    def _gone(self, obj: HasMeta) -> None:
        for dependent in self.graph.dependents(obj.metadata.uid):
            self._absent.add(obj.metadata.uid)
            self.queue.add(dependent.uid)
        for ref in obj.metadata.owner_references:
            owner = self.graph.get(ref.uid)
            if owner is not None and owner.awaits(FOREGROUND):
                self.queue.add(ref.uid)
            elif owner is None and not self.graph.dependents(ref.uid):
                self._absent.discard(ref.uid)  # nobody will ask again

    async def sync(self, uid: str) -> None:
        item = self.graph.get(uid)
        if item is None:
            return
        owners = {ref.uid: await self._owner(item, ref) for ref in item.obj.metadata.owner_references}
        plan = plan_item(item, owners, self.graph.dependents(uid))
        match plan.action:
            case Action.ORPHAN_DEPENDENTS:
                await self._orphan(item)
            case Action.DELETE_DEPENDENTS:
                await self._delete_dependents(item)
            case Action.DROP_REFERENCES:
                await self._patch(item, release_patch(plan.owners, item.obj))
            case Action.DELETE:
                await self._delete(item, plan.propagation)

    async def _owner(self, item: Item, ref: OwnerReference) -> Owner:
        """What the reference points to; where the graph does not know, the API server is asked."""
        known = self.graph.get(ref.uid)
        if known is not None:
            return Owner.WAITING if known.awaits(FOREGROUND) else Owner.SOLID
        if ref.uid in self._absent:
            return Owner.ABSENT
        resource = self.resources.get((ref.api_version, ref.kind))
        if resource is None:
            log.debug("garbage-collector: %s: owner of unknown kind %s %s", item.uid, ref.api_version, ref.kind)
            return Owner.SOLID
        if await self._is_absent(resource, item, ref):
            self._absent.add(ref.uid)
            return Owner.ABSENT
        return Owner.SOLID

    async def _is_absent(self, resource: Resource[PartialObject], item: Item, ref: OwnerReference) -> bool:
        namespace = item.obj.metadata.namespace
        if resource.namespaced and not namespace:
            log.warning("garbage-collector: cluster-scoped %s names the namespaced owner %s", item.uid, ref.name)
            return False
        try:
            found = await self.api.get(resource, ref.name, namespace if resource.namespaced else "")
        except NotFound:
            return True
        return found.metadata.uid != ref.uid

    async def _orphan(self, item: Item) -> None:
        """Take the owner's reference off every dependent, then let the owner go."""
        for dependent in self.graph.dependents(item.uid):
            try:
                await self._patch(dependent, release_patch([item.uid], dependent.obj))
            except NotFound:
                continue
        await self._remove_finalizer(item, ORPHAN)

    async def _delete_dependents(self, item: Item) -> None:
        waiting_for = blocking(item.uid, self.graph.dependents(item.uid))
        if not waiting_for:
            await self._remove_finalizer(item, FOREGROUND)
        for dependent in waiting_for:
            if not dependent.deleting:
                self.queue.add(dependent.uid)

    async def _remove_finalizer(self, item: Item, finalizer: str) -> None:
        meta = item.obj.metadata
        kept = [name for name in meta.finalizers if name != finalizer]
        patch = {"metadata": {"resourceVersion": meta.resource_version, "finalizers": kept or None}}
        try:
            await self.api.patch(item.resource, meta.name, patch, meta.namespace)
        except NotFound:
            return

    async def _patch(self, item: Item, patch: dict[str, Any]) -> None:
        meta = item.obj.metadata
        await self.api.patch(item.resource, meta.name, patch, meta.namespace, patch_type=PatchType.STRATEGIC)

    async def _delete(self, item: Item, propagation: str) -> None:
        """Guarded by uid and revision: an object that changed is looked at again first."""
        meta = item.obj.metadata
        fresh = await self.api.get(item.resource, meta.name, meta.namespace)
        if fresh.metadata.uid != meta.uid:
            return
        if fresh.metadata.owner_references != meta.owner_references:
            raise NotYet(f"{item.resource.plural} {fresh.key}: its owners changed; waiting for the cache to show it")
        await self.api.delete(
            item.resource,
            meta.name,
            meta.namespace,
            uid=meta.uid,
            resource_version=fresh.metadata.resource_version,
            propagation=propagation,
        )
