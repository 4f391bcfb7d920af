"""The pods of a controller's objects: made, deleted, adopted and released, and remembered until the cache shows it.

Every controller whose pods have random names works through this: planned from a cache that lags, or after a creation
that nobody has answered, they would be doubled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kubarium.controllers.controller import BY_NAMESPACE, namespace_is_going
from kubarium.controllers.expectations import Expectations
from kubarium.controllers.refs import HasMeta, adoption_patch, controller_of, controller_uid, plan_claims, release_patch
from kubarium.machinery.client import Api, PatchType
from kubarium.machinery.errors import ApiError, InternalError, NotFound, ServiceUnavailable, Timeout
from kubarium.machinery.events import EventRecorder
from kubarium.machinery.informer import Informer
from kubarium.machinery.objects import LabelSelector, ObjectKey, Pod
from kubarium.machinery.resources import PODS, Resource
from kubarium.machinery.selectors import matches

RECHECK_S = 5.0
"""A pod that was gone again before a relist shows in no event: after this time the cache is asked once more."""
UNANSWERED = (ServiceUnavailable, Timeout, InternalError)
"""A write that failed with these may have been done."""


def slow_start(count: int) -> list[int]:
    """Batch sizes 1, 2, 4, ... that sum to `count`: a template that is refused is refused once, not `count` times."""
    sizes, size = [], 1
    while count > 0:
        sizes.append(min(size, count))
        count -= size
        size *= 2
    return sizes


class Children:
    """`owners` is the kind of the objects, `cache` all pods there are. What goes wrong is an Event of the owner too."""

    def __init__(self, api: Api, events: EventRecorder, cache: Informer[Pod], owners: Resource[Any]) -> None:
        self._api = api
        self._events = events
        self._cache = cache
        self._owners = owners
        self._expectations = Expectations(cache)
        self._unsure: set[str] = set()  # uids of owners with a creation that was not answered

    def forget(self, owner_uid: str) -> None:
        """The owner is gone."""
        self._expectations.forget(owner_uid)
        self._unsure.discard(owner_uid)

    def concerned(self, old: Pod | None, new: Pod | None, owners: Informer[Any]) -> Iterator[ObjectKey]:
        """Whose turn it is after a change of a pod: its controller, before and now, or all that may adopt it."""
        for pod in filter(None, (old, new)):
            ref = controller_of(pod)
            if ref is not None and ref.kind == self._owners.kind:
                yield ObjectKey(pod.metadata.namespace, ref.name)
        if new is not None and controller_of(new) is None:
            for owner in owners.by_index(BY_NAMESPACE, new.metadata.namespace):
                if matches(owner.spec.selector, new.metadata.labels):
                    yield owner.key

    async def settled(self, owner: HasMeta) -> bool:
        """Whether the cache shows all that was done for this owner: only then may its pods be counted."""
        if owner.metadata.uid in self._unsure:
            await self._find_out(owner)
        return self._expectations.satisfied(owner.metadata.uid)

    async def _find_out(self, owner: HasMeta) -> None:
        """Ask the API server itself for pods that were made without our hearing of it, and expect them."""
        for pod in (await self._api.list(PODS, owner.metadata.namespace)).items:
            if controller_uid(pod) == owner.metadata.uid and self._cache.get(pod.key) is None:
                self._created(owner, pod)
        self._unsure.discard(owner.metadata.uid)

    def _created(self, owner: HasMeta, pod: Pod) -> None:
        meta = pod.metadata
        self._expectations.created(owner.metadata.uid, pod.key, meta.uid, meta.resource_version)

    async def create(self, owner: HasMeta, bodies: Sequence[dict[str, Any]]) -> str:
        """Make pods in ever larger batches; the message of the first failure, "" where all went well."""
        waiting = list(bodies)
        for size in slow_start(len(waiting)):
            batch, waiting = waiting[:size], waiting[size:]
            results = await asyncio.gather(*(self._create(owner, body) for body in batch))
            if message := next(filter(None, results), ""):
                return message
        return ""

    async def _create(self, owner: HasMeta, body: dict[str, Any]) -> str:
        try:
            pod = await self._api.create(PODS, body, owner.metadata.namespace)
        except ApiError as err:
            if namespace_is_going(err):
                return ""
            if isinstance(err, UNANSWERED):
                self._unsure.add(owner.metadata.uid)
            self._events.event(owner, "Warning", "FailedCreate", f"Error creating: {err}")
            return str(err)
        self._created(owner, pod)
        self._events.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {pod.metadata.name}")
        return ""

    async def delete(self, owner: HasMeta, pods: Iterable[Pod]) -> str:
        """Delete pods at once; the message of the first failure, "" where all went well."""
        results = await asyncio.gather(*(self._delete(owner, pod) for pod in pods))
        return next(filter(None, results), "")

    async def _delete(self, owner: HasMeta, pod: Pod) -> str:
        meta = pod.metadata
        try:
            await self._api.delete(PODS, meta.name, meta.namespace, uid=meta.uid)
        except NotFound:
            return ""
        except ApiError as err:
            self._events.event(owner, "Warning", "FailedDelete", f"Error deleting: {err}")
            return str(err)
        self._expectations.deleted(owner.metadata.uid, pod.key, meta.uid)
        self._events.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name}")
        return ""

    async def claim(self, owner: HasMeta, selector: LabelSelector, candidates: Iterable[Pod]) -> list[Pod]:
        """Of the candidates (its children and orphans) those that are the owner's, adopted ones included."""
        claims = plan_claims(owner, selector, candidates)
        owned = list(claims.owned)
        for pod in claims.release:
            await self.patch(pod, release_patch([owner.metadata.uid], pod))
        if claims.adopt and await self._still_there(owner):
            for pod in claims.adopt:
                await self.patch(pod, adoption_patch(owner, pod))
                owned.append(pod)
        return owned

    async def _still_there(self, owner: HasMeta) -> bool:
        """Ask the API server itself before adopting: a cache may show an owner that is gone."""
        try:
            fresh = await self._api.get(self._owners, owner.metadata.name, owner.metadata.namespace)
        except NotFound:
            return False
        return bool(fresh.metadata.uid == owner.metadata.uid and not fresh.metadata.deletion_timestamp)

    async def patch(self, pod: Pod, patch: dict[str, Any]) -> None:
        meta = pod.metadata
        await self._api.patch(PODS, meta.name, patch, meta.namespace, patch_type=PatchType.STRATEGIC)
