"""An APIService for each group and version that this server serves itself; those of custom kinds come and go with them.

Source: Kubernetes documentation, "Aggregation layer"; kube-aggregator/pkg/controllers/autoregister (labels).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress

import orjson

from apiserver.pipeline import Pipeline
from apiserver.registry import priorities
from apiserver.registry.base import Object, Registry
from apiserver.request import MASTERS_GROUP, DeleteOptions, Request, User, WriteOptions
from apiserver.seeding import KUBE_APISERVER, Seed
from kubarium.machinery.errors import AlreadyExists, ApiError, Conflict, NotFound, StoreUnavailable

log = logging.getLogger(__name__)

MANAGED = "kube-aggregator.kubernetes.io/automanaged"
AT_START, ALWAYS = "onstart", "true"
RETRY_S = 1.0
_SELF = User("system:apiserver", (MASTERS_GROUP,))


def wanted(registry: Registry) -> Iterator[Object]:
    """The APIServices of all groups and versions but the aggregator's own."""
    for group, versions in registry.groups().items():
        if group != priorities.AGGREGATOR:
            yield from (api_service(group, version) for version in versions)


def api_service(group: str, version: str) -> Object:
    managed = AT_START if priorities.is_built_in(group) else ALWAYS
    spec: Object = {"group": group} if group else {}
    spec |= {
        "version": version,
        "groupPriorityMinimum": priorities.of_group(group),
        "versionPriority": priorities.of_version(group, version),
    }
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}", "labels": {MANAGED: managed}},
        "spec": spec,
    }


def seeds(registry: Registry) -> Iterator[Seed]:
    resource = registry.get(priorities.AGGREGATOR, "v1", "apiservices")
    if resource is not None:
        yield from (Seed(resource, obj) for obj in wanted(registry))


class Autoregister:
    """Keeps the APIServices of custom kinds at what is served. `run` for ever."""

    def __init__(self, pipeline: Pipeline, registry: Registry) -> None:
        self._pipeline = pipeline
        self._registry = registry
        resource = registry.get(priorities.AGGREGATOR, "v1", "apiservices")
        assert resource is not None
        self._resource = resource
        self._changed = asyncio.Event()
        registry.observe(self._changed.set)

    async def run(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._sync()
            except (ApiError, StoreUnavailable) as err:
                log.warning("APIServices: %s; trying again", err)
                await asyncio.sleep(RETRY_S)
                continue
            await self._changed.wait()

    async def _sync(self) -> None:
        """Make what is not there, and remove what this server made for kinds that it serves no longer."""
        state, want = self._pipeline.state, {obj["metadata"]["name"]: obj for obj in wanted(self._registry)}
        have = {entry.head.name: entry.head.labels.get(MANAGED) for entry in state.cache.list(self._resource.key())}
        for name in want.keys() - have.keys():
            request, options = Request(_SELF, "create", self._resource), WriteOptions(field_manager=KUBE_APISERVER)
            with suppress(AlreadyExists):
                await self._pipeline.create(request, orjson.dumps(want[name]), "application/json", options)
        for name in have.keys() - want.keys():
            if have[name] == ALWAYS:
                with suppress(NotFound, Conflict):
                    await self._pipeline.delete(Request(_SELF, "delete", self._resource, name=name), DeleteOptions())
