"""Who owns what: controller references, and the claim of orphans that a selector matches.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from kubarium.machinery.objects import LabelSelector, ObjectMeta, OwnerReference
from kubarium.machinery.selectors import matches


class HasMeta(Protocol):
    """Any object; read-only properties, so that frozen views fit."""

    @property
    def api_version(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def metadata(self) -> ObjectMeta: ...


Child = TypeVar("Child", bound=HasMeta)


def controller_of(obj: HasMeta) -> OwnerReference | None:
    """The one owner that manages `obj`, if any."""
    return next((ref for ref in obj.metadata.owner_references if ref.controller), None)


def controller_uid(obj: HasMeta) -> str:
    """uid of the managing owner, "" for an orphan."""
    ref = controller_of(obj)
    return ref.uid if ref else ""


def controller_reference(owner: HasMeta) -> dict[str, Any]:
    """The ownerReferences entry, on the wire, that makes `owner` the controller."""
    return {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.metadata.name,
        "uid": owner.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


@dataclass(frozen=True, slots=True)
class Claims(Generic[Child]):
    """`owned` are the owner's already; `adopt` are orphans to take, `release` are owned ones to let go."""

    owned: tuple[Child, ...] = ()
    adopt: tuple[Child, ...] = ()
    release: tuple[Child, ...] = ()


def plan_claims(owner: HasMeta, selector: LabelSelector, candidates: Iterable[Child]) -> Claims[Child]:
    """Sort the children of a namespace by what `owner` has to do with them.

    An owner being deleted neither adopts nor releases; an object being deleted is not adopted.
    """
    owned: list[Child] = []
    adopt: list[Child] = []
    release: list[Child] = []
    deleting = bool(owner.metadata.deletion_timestamp)
    for obj in candidates:
        uid = controller_uid(obj)
        matching = matches(selector, obj.metadata.labels)
        if uid == owner.metadata.uid:
            (owned if matching or deleting else release).append(obj)
        elif not uid and matching and not deleting and not obj.metadata.deletion_timestamp:
            adopt.append(obj)
    return Claims(tuple(owned), tuple(adopt), tuple(release))


def adoption_patch(owner: HasMeta, child: HasMeta) -> dict[str, Any]:
    """Strategic merge patch that makes `owner` the controller of `child`; fails if `child` was re-created meanwhile."""
    return {"metadata": {"ownerReferences": [controller_reference(owner)], "uid": child.metadata.uid}}


def release_patch(owner_uids: Iterable[str], child: HasMeta) -> dict[str, Any]:
    """Strategic merge patch that removes owners from `child`, keyed by their uid."""
    gone = [{"$patch": "delete", "uid": uid} for uid in owner_uids]
    return {"metadata": {"ownerReferences": gone, "uid": child.metadata.uid}}
