"""ControllerRevisions: the templates that a StatefulSet or DaemonSet has had, so that pods can tell which is theirs.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#update-strategies, ControllerRevision v1.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from kubarium.controllers.controller import children_and_orphans
from kubarium.controllers.names import short_hash
from kubarium.controllers.refs import adoption_patch, controller_reference, plan_claims
from kubarium.controllers.setviews import CONTROLLERREVISIONS, ControllerRevision, PodSet
from kubarium.machinery.client import Api, PatchType
from kubarium.machinery.errors import AlreadyExists, NotFound
from kubarium.machinery.informer import Informer

HASH = "controller.kubernetes.io/hash"
POD_HASH = "controller-revision-hash"


@dataclass(frozen=True, slots=True)
class History:
    """`all` in the order of their numbers; `update` is that of the template as it is now."""

    all: tuple[ControllerRevision, ...]
    update: ControllerRevision
    collisions: int = 0

    def named(self, name: str) -> ControllerRevision:
        """The revision of a name, the newest where there is none."""
        return next((one for one in self.all if one.metadata.name == name), self.update)


def data_of(template: dict[str, Any]) -> dict[str, Any]:
    """A patch that brings a set back to a template."""
    return {"spec": {"template": {**template, "$patch": "replace"}}}


def template_of(revision: ControllerRevision) -> dict[str, Any]:
    found = dict((revision.data.get("spec") or {}).get("template") or {})
    found.pop("$patch", None)
    return found


def new_revision(owner: PodSet, data: dict[str, Any], number: int, collisions: int) -> dict[str, Any]:
    """As it is sent to the API server."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    digest = short_hash(text, str(collisions)) if collisions else short_hash(text)
    labels = (owner.spec.template.get("metadata") or {}).get("labels") or {}
    meta = {
        "name": f"{owner.metadata.name}-{digest}",
        "labels": {**labels, HASH: digest, **({POD_HASH: digest} if owner.kind == "DaemonSet" else {})},
        "annotations": dict(owner.metadata.annotations),
        "ownerReferences": [controller_reference(owner)],
    }
    return {"metadata": meta, "data": data, "revision": number}


def in_order(revisions: Sequence[ControllerRevision]) -> list[ControllerRevision]:
    return sorted(revisions, key=lambda one: (one.revision, one.metadata.creation_timestamp, one.metadata.name))


def superfluous(history: History, live: Collection[str], limit: int) -> list[ControllerRevision]:
    """The oldest revisions that no pod has, beyond the number to keep."""
    idle = [
        one for one in history.all if one.metadata.name not in live and one.metadata.uid != history.update.metadata.uid
    ]
    return idle[: max(0, len(idle) - limit)]


class Historian:
    """Keeps the revisions of sets."""

    def __init__(self, api: Api, cache: Informer[ControllerRevision]) -> None:
        self._api = api
        self._cache = cache

    async def history(self, owner: PodSet) -> History:
        """With a revision of the template as it is, made where there is none yet."""
        revisions = in_order(await self._claim(owner))
        data = data_of(owner.spec.template)
        collisions = owner.status.collision_count or 0
        equal = [one for one in revisions if one.data == data]
        if equal and equal[-1] is revisions[-1]:
            return History(tuple(revisions), equal[-1], collisions)
        number = revisions[-1].revision + 1 if revisions else 1
        if equal:
            update = await self._renumber(equal[-1], number)
            kept = [one for one in revisions if one.metadata.uid != update.metadata.uid]
            return History((*kept, update), update, collisions)
        update, collisions = await self._create(owner, data, number, collisions)
        kept = [one for one in revisions if one.metadata.uid != update.metadata.uid]
        return History((*kept, update), update, collisions)

    async def _claim(self, owner: PodSet) -> list[ControllerRevision]:
        claims = plan_claims(owner, owner.spec.selector, children_and_orphans(self._cache, owner))
        owned = list(claims.owned)
        for one in claims.adopt:
            patch = adoption_patch(owner, one)
            meta = one.metadata
            await self._api.patch(CONTROLLERREVISIONS, meta.name, patch, meta.namespace, patch_type=PatchType.STRATEGIC)
            owned.append(one)
        return owned

    async def _renumber(self, revision: ControllerRevision, number: int) -> ControllerRevision:
        """A template that was there before is the newest again."""
        meta = revision.metadata
        patch = {"metadata": {"uid": meta.uid}, "revision": number}
        return await self._api.patch(CONTROLLERREVISIONS, meta.name, patch, meta.namespace)

    async def _create(
        self, owner: PodSet, data: dict[str, Any], number: int, collisions: int
    ) -> tuple[ControllerRevision, int]:
        """A name that another template has taken leads to the next one."""
        namespace = owner.metadata.namespace
        while True:
            body = new_revision(owner, data, number, collisions)
            try:
                return await self._api.create(CONTROLLERREVISIONS, body, namespace), collisions
            except AlreadyExists:
                found = await self._api.get(CONTROLLERREVISIONS, body["metadata"]["name"], namespace)
                if found.data == data:
                    return found, collisions
                collisions += 1

    async def truncate(self, history: History, live: Collection[str], limit: int) -> None:
        for one in superfluous(history, live, limit):
            try:
                await self._api.delete(
                    CONTROLLERREVISIONS, one.metadata.name, one.metadata.namespace, uid=one.metadata.uid
                )
            except NotFound:
                continue
