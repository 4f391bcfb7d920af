"""CustomResourceDefinitions followed: the registry serves what they define, their conditions tell so, and their objects
go with them.

The watch cache drives all of it, so each of several API servers on one store serves the same kinds, and each may do
what is to be done: writes are guarded, and what another has done already is not done again.
Source: k8s.io/apiextensions-apiserver pkg/controller/status, establish and finalizer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from apiserver.pipeline import Pipeline
from apiserver.registry.base import Object, Registry, ResourceDef
from apiserver.request import MASTERS_GROUP, DeleteOptions, Request, User, WriteOptions
from apiserver.state import decoded
from apiserver.watchcache import Batch, WatchCache
from apiserver.writes import Job
from kubarium.machinery.backoff import Backoff
from kubarium.machinery.errors import ApiError, Compacted, Conflict, NotFound

log = logging.getLogger(__name__)

GROUP: Final = "apiextensions.k8s.io"
OURSELVES: Final = User("system:apiserver", (MASTERS_GROUP,))
MANAGER: Final = "kube-apiserver"
INSTANCES_LEFT_S: Final = 1.0  # how often it is looked whether the objects of an ending kind are gone


class Definitions:
    """`learn` what is there before the first request is answered; `run` to follow."""

    def __init__(self, cache: WatchCache, registry: Registry, pipeline: Pipeline) -> None:
        self._cache = cache
        self._registry = registry
        self._pipeline = pipeline
        self._resource = registry.get(GROUP, "v1", "customresourcedefinitions")
        self._known: dict[str, Object] = {}
        self._served: dict[str, Object] = {}  # name -> what of its definition is served
        self._tasks: dict[str, asyncio.Task[None]] = {}  # one for each definition that is to be brought up to date

    @property
    def _prefix(self) -> str:
        assert self._resource is not None
        return self._resource.key()

    def learn(self) -> None:
        """Serve every kind that is defined."""
        if self._resource is None:
            return
        self._replace([decoded(entry) for entry in self._cache.list(self._prefix)])

    def _replace(self, definitions: Iterable[Object]) -> None:
        found = {definition["metadata"]["name"]: definition for definition in definitions}
        for name in self._known.keys() - found.keys():
            self._forget(name)
        self._known.update(found)
        for name in found:
            self._serve(name)

    def _forget(self, name: str) -> None:
        self._known.pop(name, None)
        if self._served.pop(name, None) is not None:
            self._registry.serve(name, ())

    def _serve(self, name: str) -> None:
        """Serve a kind as its definition now has it, as soon as its names are accepted."""
        from apiserver.custom import conditions, kinds

        definition = conditions.settled(self._known[name], self._of_group(name))
        if not conditions.is_true(definition, "NamesAccepted") and not conditions.is_true(definition, "Established"):
            return
        wanted = {
            "uid": definition["metadata"]["uid"],
            "spec": definition["spec"],
            "names": definition["status"]["acceptedNames"],
            "ending": bool(definition["metadata"].get("deletionTimestamp")),
        }
        before = self._served.get(name)
        if before == wanted:
            return
        self._served[name] = wanted
        try:
            found = [r for r in kinds.resources(definition) if not self._is_built_in(r)]
        except (KeyError, TypeError, StopIteration) as err:
            log.error("customresourcedefinitions/%s cannot be served: %r", name, err)
            return
        self._registry.serve(name, found)
        if before is not None and found:
            self._renew_fields(found[0])

    def _is_built_in(self, resource: ResourceDef) -> bool:
        found = self._registry.get(resource.group, resource.version, resource.plural)
        return found is not None and found.custom is None

    def _renew_fields(self, resource: ResourceDef) -> None:
        """Selectable fields are read again: the definition may have others now."""
        for entry in self._cache.list(resource.key()):
            entry.head.known, entry.head.data = None, entry.data

    def _of_group(self, name: str) -> list[Object]:
        """The other definitions of a group."""
        group = self._known[name]["spec"]["group"]
        return [d for other, d in self._known.items() if other != name and d["spec"]["group"] == group]

    # -- following -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        if self._resource is None:
            return
        async with asyncio.TaskGroup() as tasks:
            while True:
                watcher = self._cache.watch(self._prefix, after=None)
                self.learn()
                for name in list(self._known):
                    self._settle(tasks, name)
                try:
                    async for item in watcher:
                        if isinstance(item, Batch):
                            self._follow(tasks, item)
                except Compacted:
                    continue

    def _follow(self, tasks: asyncio.TaskGroup, batch: Batch) -> None:
        for event in batch:
            if event.entry is None:
                continue
            definition = decoded(event.entry)
            name = definition["metadata"]["name"]
            if event.type != "DELETED":
                self._known[name] = definition
                self._serve(name)
                self._settle(tasks, name)
                continue
            self._forget(name)
            for other, found in self._known.items():  # its names are free again
                if found["spec"]["group"] == definition["spec"]["group"]:
                    self._serve(other)
                    self._settle(tasks, other)

    def _settle(self, tasks: asyncio.TaskGroup, name: str) -> None:
        running = self._tasks.get(name)
        if (running is None or running.done()) and self._has_to_do(name):
            self._tasks[name] = tasks.create_task(self._keep_settling(name), name=f"crd/{name}")

    def _has_to_do(self, name: str) -> bool:
        from apiserver.custom import conditions

        definition = self._known.get(name)
        if definition is None:
            return False
        if definition["metadata"].get("deletionTimestamp"):
            return conditions.CLEANUP_FINALIZER in (definition["metadata"].get("finalizers") or ())
        status = conditions.settled(definition, self._of_group(name))["status"]
        return bool(status != definition.get("status"))

    async def _keep_settling(self, name: str) -> None:
        backoff = Backoff()
        while self._has_to_do(name):
            try:
                await self._settle_once(name)
            except (Conflict, NotFound):
                await asyncio.sleep(0.05)
            except ApiError as err:
                log.warning("customresourcedefinitions/%s: %s; will try again", name, err)
                await asyncio.sleep(backoff.next_s())
            else:
                await self._seen()

    async def _seen(self) -> None:
        """Returns when the cache has told us of our own write."""
        await asyncio.sleep(0.01)

    async def _settle_once(self, name: str) -> None:
        from apiserver.custom import conditions

        if self._known[name]["metadata"].get("deletionTimestamp"):
            await self._end(name)
            return
        now = self._pipeline.writer.now()
        others = self._of_group(name)

        def change(definition: Object) -> Object:
            conditions.settle(definition, others, now)
            return definition

        await self._write(name, change)

    async def _write(self, name: str, change: object) -> None:
        assert self._resource is not None
        request = Request(OURSELVES, "update", self._resource, "", name, "status")
        job = Job(request, WriteOptions(field_manager=MANAGER))
        await self._pipeline.writer.modify(job, change)  # type: ignore[arg-type]

    # -- the end of a kind ---------------------------------------------------------------------------------------------

    async def _end(self, name: str) -> None:
        """Delete the objects of a kind, then let its definition go."""
        from apiserver.custom import conditions

        now = self._pipeline.writer.now
        definition = self._known[name]
        established = conditions.is_true(definition, "Established")

        def begin(found: Object) -> Object:
            conditions.set_condition(found, conditions.IN_PROGRESS, now())
            return found

        def finish(found: Object) -> Object:
            done = conditions.COMPLETED if established else conditions.NEVER
            conditions.set_condition(found, done, now())
            metadata = found["metadata"]
            left = [f for f in metadata.get("finalizers") or () if f != conditions.CLEANUP_FINALIZER]
            metadata.pop("finalizers", None)
            if left:
                metadata["finalizers"] = left
            return found

        await self._write(name, begin)
        if established:
            await self._delete_instances(name)
        await self._write(name, finish)

    async def _delete_instances(self, name: str) -> None:
        spec = self._known[name]["spec"]
        served = [r for r in self._registry if r.custom is not None and r.custom.definition["metadata"]["name"] == name]
        if not served:
            return
        resource = next((r for r in served if r.to_storage is None), served[0])  # nothing is converted to be deleted
        prefix = f"/registry/{spec['group']}/{spec['names']['plural']}/"
        while True:
            revision, entries = self._cache.revision, self._cache.list(prefix)
            if not entries:
                return
            for entry in entries:
                request = Request(OURSELVES, "delete", resource, entry.head.namespace, entry.head.name)
                try:
                    await self._pipeline.writer.delete(request, DeleteOptions())
                except NotFound:
                    continue
            await self._until_changed(prefix, revision)

    async def _until_changed(self, prefix: str, revision: int) -> None:
        """Returns when something has changed under the prefix since the revision, or a moment later."""
        watcher = self._cache.watch(prefix, after=revision)
        try:
            async with asyncio.timeout(INSTANCES_LEFT_S):
                await anext(watcher)
        except (TimeoutError, Compacted):
            return
