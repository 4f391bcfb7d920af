"""Who owns whom, and what garbage collection does about one object. Pure: the graph is fed and asked, nothing else.

Source: https://kubernetes.io/docs/concepts/architecture/garbage-collection/; KEP-2336 (owners of other namespaces).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NamedTuple

from kubarium.machinery.objects import OwnerReference
from kubarium.machinery.resources import Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Item:
    """One object as the graph knows it; `obj` is any view with metadata."""

    resource: Resource[Any]
    obj: Any

    @property
    def uid(self) -> str:
        return str(self.obj.metadata.uid)

    @property
    def namespace(self) -> str:
        return str(self.obj.metadata.namespace)

    @property
    def owners(self) -> tuple[OwnerReference, ...]:
        found: tuple[OwnerReference, ...] = self.obj.metadata.owner_references
        return found

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

    def __len__(self) -> int:
        return len(self._items)

    def get(self, uid: str) -> Item | None:
        return self._items.get(uid)

    def dependents(self, uid: str) -> tuple[Item, ...]:
        return tuple(self._items[each] for each in sorted(self._dependents.get(uid, ())) if each in self._items)

    def put(self, resource: Resource[Any], obj: Any) -> None:
        self.drop(obj.metadata.uid)
        self._items[obj.metadata.uid] = Item(resource, obj)
        for ref in obj.metadata.owner_references:
            self._dependents.setdefault(ref.uid, set()).add(obj.metadata.uid)

    def drop(self, uid: str) -> None:
        item = self._items.pop(uid, None)
        for ref in item.owners if item else ():
            siblings = self._dependents.get(ref.uid, set())
            siblings.discard(uid)
            if not siblings:
                self._dependents.pop(ref.uid, None)

    def drop_kinds(self, kinds: Iterable[tuple[str, str]]) -> None:
        """Forget the objects of kinds (group, plural) that are served no more."""
        gone = frozenset(kinds)
        for uid in [u for u, item in self._items.items() if (item.resource.group, item.resource.plural) in gone]:
            self.drop(uid)


class Identity(NamedTuple):
    """What an ownerReference points to, as somebody in `namespace` means it ("" for cluster-scoped kinds)."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        where = f"{self.api_version}/{self.kind}, namespace: {self.namespace}"
        return f"[{where}, name: {self.name}, uid: {self.uid}]"


def identity_of(item: Item) -> Identity:
    metadata = item.obj.metadata
    return Identity(item.resource.api_version, item.resource.kind, metadata.namespace, metadata.name, metadata.uid)


def meant(ref: OwnerReference, namespace: str) -> Identity:
    """What a reference means that stands in an object of `namespace`, if its kind has a namespace."""
    return Identity(ref.api_version, ref.kind, namespace, ref.name, ref.uid)


def is_meant(owner: Item, ref: OwnerReference, dependent: Item) -> bool:
    """Whether the object with the uid of a reference is what the reference says, and where it may be."""
    found = identity_of(owner)
    if (found.api_version, found.kind, found.name) != (ref.api_version, ref.kind, ref.name):
        return False
    return not found.namespace or found.namespace == dependent.namespace


def is_elsewhere(owner: Item, dependent: Item) -> bool:
    """Whether an owner is in a namespace that the dependent is not in: such references are invalid."""
    return bool(owner.namespace) and owner.namespace != dependent.namespace


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
    """`owners` are the uids whose references go with DROP_REFERENCES; `propagation` is for DELETE, before which the
    object's own references cease to block their owners where `unblock` is set."""

    action: Action
    owners: tuple[str, ...] = ()
    propagation: str = ""
    unblock: bool = False


NOTHING = Plan(Action.NOTHING)


def plan_item(item: Item, owners: Mapping[str, Owner], dependents: Iterable[Item]) -> Plan:
    """What garbage collection means for one object. `owners` tells of each of its references, by uid."""
    if item.awaits(ORPHAN):
        return Plan(Action.ORPHAN_DEPENDENTS)
    if item.awaits(FOREGROUND):
        return Plan(Action.DELETE_DEPENDENTS)
    if item.deleting or not owners:
        return NOTHING
    gone = tuple(uid for uid, owner in owners.items() if owner is not Owner.SOLID)
    if len(gone) < len(owners):
        return Plan(Action.DROP_REFERENCES, gone) if gone else NOTHING
    dependents = tuple(dependents)
    if Owner.WAITING in owners.values() and dependents:
        # A dependent that waits for its own dependents may wait for this object: nobody would ever go.
        circle = any(dependent.awaits(FOREGROUND) for dependent in dependents)
        return Plan(Action.DELETE, propagation="Foreground", unblock=circle)
    for finalizer, propagation in ((ORPHAN, "Orphan"), (FOREGROUND, "Foreground")):
        if finalizer in item.obj.metadata.finalizers:
            return Plan(Action.DELETE, propagation=propagation)
    return Plan(Action.DELETE, propagation="Background")


def blocking(owner_uid: str, dependents: Iterable[Item]) -> list[Item]:
    """The dependents that an owner's foreground deletion waits for."""
    return [
        item for item in dependents if any(ref.uid == owner_uid and ref.block_owner_deletion for ref in item.owners)
    ]


def unblocked(old: Any, new: Any) -> list[str]:
    """The owners (uids) that an update has ceased to block."""
    blocks = {ref.uid for ref in new.metadata.owner_references if ref.block_owner_deletion}
    before = (ref.uid for ref in old.metadata.owner_references if ref.block_owner_deletion)
    return [uid for uid in before if uid not in blocks]
