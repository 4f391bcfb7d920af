"""Every kind that the API server serves, watched for its metadata; kinds that come and go are followed.

Controllers that work on all kinds (garbage collection, namespaces, quotas) share these watches. A kind that a
controller watches anyway is not watched twice. What kinds come and go by are CustomResourceDefinitions and APIServices:
a change of one of these makes us ask again what is served, and so does the passing of time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from kubarium.controllers.controller import Informers
from kubarium.controllers.views import Owned
from kubarium.machinery.client import Api
from kubarium.machinery.discovery import Discovered, ServedKind, discover
from kubarium.machinery.errors import ApiError
from kubarium.machinery.informer import Informer
from kubarium.machinery.resources import Resource

log = logging.getLogger(__name__)

GroupResource = tuple[str, str]
Handler = Callable[[Resource[Owned], Any, Any], None]
"""Called with the kind, the object before and after; one of these is None where it was made or is gone."""

AGAIN_S = 30.0
SETTLE_S = (0.05, 0.25, 0.7, 2.0)
"""After a change of what is served discovery may take a moment to tell; so often it is asked, at these distances."""
SYNC_S = 30.0
"""A kind whose objects cannot be listed holds up the others for so long at the start."""

MAKERS = frozenset({("apiextensions.k8s.io", "customresourcedefinitions"), ("apiregistration.k8s.io", "apiservices")})
UNWATCHED = frozenset({("", "events"), ("events.k8s.io", "events")})
"""They own nothing, go by themselves, and are many."""


def resource_of(kind: ServedKind) -> Resource[Owned]:
    return Resource(kind.group, kind.version, kind.plural, kind.kind, Owned, kind.namespaced, metadata_only=True)


class Kinds:
    """`watched` are the kinds under watch; `served` every kind in every version, by apiVersion and kind."""

    def __init__(self, api: Api, informers: Informers) -> None:
        self._api = api
        self._informers = informers
        self._handlers: list[Handler] = []
        self._listeners: list[Callable[[frozenset[GroupResource]], None]] = []
        self._tasks: dict[GroupResource, asyncio.Task[None]] = {}
        self._followed: dict[GroupResource, Informer[Any]] = {}
        self._changed = asyncio.Event()
        self._synced = asyncio.Event()
        self._known = asyncio.Event()
        self.wanted = False  # whether any controller here works on every kind there is
        self.discovered = Discovered(())
        self.watched: dict[GroupResource, Resource[Owned]] = {}
        self.served: Mapping[tuple[str, str], Resource[Owned]] = {}

    def on_change(self, handler: Handler) -> None:
        """To be called before `run`."""
        self._handlers.append(handler)

    def on_kinds(self, listener: Callable[[frozenset[GroupResource]], None]) -> None:
        """Have `listener` called with the kinds that are gone, whenever what is served has changed."""
        self._listeners.append(listener)

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    async def synced(self) -> None:
        """Return when the objects of all kinds are known, or could not be had in time."""
        await self._synced.wait()

    async def refreshed(self) -> Discovered:
        """What is served now. Raises an ApiError where discovery fails."""
        found = await discover(self._api)
        self._take(found)
        return found

    async def run(self) -> None:
        """Follow what is served, forever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(group), name="kinds/discovery")
            group.create_task(self._wait_synced(), name="kinds/sync")

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        while True:
            delays = iter(SETTLE_S)
            self._changed.clear()
            try:
                await self.refreshed()
            except ApiError as err:
                log.info("discovery failed, trying again: %s", err)
            with suppress(TimeoutError):
                # not wait_for: in Python 3.11 it may swallow a cancellation that comes with what it waits for
                async with asyncio.timeout(1.0 if not self.watched else AGAIN_S):
                    await self._changed.wait()
                for delay in delays:
                    self._changed.clear()
                    await asyncio.sleep(delay)
                    with suppress(ApiError):
                        await self.refreshed()

    def _take(self, found: Discovered) -> None:
        """Watch what is new, and watch no more what is gone. Kinds of a server that does not answer stay."""
        if found == self.discovered:
            return
        self.discovered = found
        self.served = {(kind.api_version, kind.kind): resource_of(kind) for kind in found.kinds}
        wanted = {
            (kind.group, kind.plural): resource_of(kind)
            for kind in found.preferred("list", "watch", "delete")
            if (kind.group, kind.plural) not in UNWATCHED
        }
        gone = frozenset(
            key
            for key, resource in self.watched.items()
            if wanted.get(key) != resource and resource.api_version not in found.stale
        )
        for key in gone:
            self._ignore(key)
        for listener in self._listeners:
            listener(gone)
        for key in wanted.keys() - self.watched.keys():
            self._watch(key, wanted[key])
        self._known.set()

    def _watch(self, key: GroupResource, resource: Resource[Owned]) -> None:
        self.watched[key] = resource
        informer = self._informers.existing(*key)
        if informer is None:
            informer = Informer(self._api, resource)
            self._tasks[key] = self._group.create_task(informer.run(), name=f"informer/{'/'.join(filter(None, key))}")
        self._followed[key] = informer
        informer.on_change(self._handler(key, resource, informer))

    def _ignore(self, key: GroupResource) -> None:
        del self.watched[key]
        del self._followed[key]
        if (task := self._tasks.pop(key, None)) is not None:
            task.cancel()

    def _handler(
        self, key: GroupResource, resource: Resource[Owned], informer: Informer[Any]
    ) -> Callable[[Any, Any], None]:
        def changed(old: Any, new: Any) -> None:
            if self._followed.get(key) is not informer:
                return
            if key in MAKERS:
                self._changed.set()
            for handler in self._handlers:
                handler(resource, old, new)

        return changed

    async def _wait_synced(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(SYNC_S):
                await self._known.wait()
                await asyncio.gather(*(informer.synced() for informer in tuple(self._followed.values())))
        for key, informer in self._followed.items():
            if not informer.has_synced:
                log.warning("objects of %s cannot be listed; going on without them", ".".join(filter(None, key)))
        self._synced.set()
