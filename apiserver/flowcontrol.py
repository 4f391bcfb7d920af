"""API priority and fairness, as far as its objects go: the defaults are there, and each FlowSchema tells whether the
priority level that it names is.

Source: Kubernetes documentation, "API Priority and Fairness"; k8s.io/apiserver/pkg/util/flowcontrol (texts).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

import orjson

from apiserver import codec
from apiserver.pipeline import Pipeline
from apiserver.registry.base import Object, Registry, ResourceDef
from apiserver.registry.flowcontrol_defaults import AUTO_UPDATE, MANDATORY, objects
from apiserver.request import MASTERS_GROUP, Request, User, WriteOptions
from apiserver.seeding import Seed, sow
from apiserver.state import decoded
from kubarium.machinery.errors import ApiError, Conflict, NotFound, StoreUnavailable

log = logging.getLogger(__name__)

GROUP, FLOWS, LEVELS = "flowcontrol.apiserver.k8s.io", "flowschemas", "prioritylevelconfigurations"
PRODUCER = "api-priority-and-fairness-config-producer-v1"
CONSUMER = "api-priority-and-fairness-config-consumer-v1"
DANGLING = "Dangling"
EVERY_S = 60.0  # what of the defaults is gone, or is not as it should be, comes back
RETRY_S = 1.0
_SELF = User("system:apiserver", (MASTERS_GROUP,))
_CONDITION: Final[Object] = {
    ".": {},
    "f:lastTransitionTime": {},
    "f:message": {},
    "f:reason": {},
    "f:status": {},
    "f:type": {},
}
_STATUS_FIELDS: Final[Object] = {"f:status": {"f:conditions": {'k:{"type":"Dangling"}': _CONDITION}}}


def dangling(level: str, exists: bool, now: str) -> Object:
    """The condition of a FlowSchema that names `level`."""
    about = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}"'
    return {
        "type": DANGLING,
        "status": "False" if exists else "True",
        "lastTransitionTime": now,
        "reason": "Found" if exists else "NotFound",
        "message": f"{about} {'and it exists' if exists else 'but there is no such object'}",
    }


def seeds(registry: Registry, now: str) -> Iterator[Seed]:
    for plural, obj in objects():
        resource = registry.get(GROUP, "v1", plural)
        if resource is None:
            continue
        if plural == LEVELS:
            yield Seed(resource, obj, PRODUCER)
        else:
            level = obj["spec"]["priorityLevelConfiguration"]["name"]
            status = {"conditions": [dangling(level, True, now)]}
            yield Seed(resource, obj, PRODUCER, status, CONSUMER, _STATUS_FIELDS)


def stale(found: Object, wanted: Object) -> bool:
    """Whether a default is to be brought back to what it was: the mandatory ones always, the others unless somebody has
    taken them over (by the annotation, or by changing them where there is none)."""
    metadata = found["metadata"]
    if found["spec"] == wanted["spec"]:
        return False
    if metadata["name"] in MANDATORY:
        return True
    automatic = (metadata.get("annotations") or {}).get(AUTO_UPDATE)
    return automatic == "true" or (automatic is None and metadata.get("generation") == 1)


def plan_status(flow: Object, levels: Mapping[str, object], now: str) -> Object | None:
    """The condition that a FlowSchema shall have; None where it has it."""
    level = flow["spec"]["priorityLevelConfiguration"]["name"]
    wanted = dangling(level, level in levels, now)
    for condition in (flow.get("status") or {}).get("conditions") or ():
        if condition.get("type") == DANGLING and {**condition, "lastTransitionTime": now} == wanted:
            return None
    return wanted


class FlowControl:
    """Keeps the defaults there, and the conditions of all FlowSchemas true. `run` for ever."""

    def __init__(self, pipeline: Pipeline, registry: Registry) -> None:
        self._pipeline = pipeline
        self._registry = registry
        self._flows, self._levels = self._resource(FLOWS), self._resource(LEVELS)
        self._changed = asyncio.Event()

    def _resource(self, plural: str) -> ResourceDef:
        found = self._registry.get(GROUP, "v1", plural)
        assert found is not None, plural
        return found

    async def run(self) -> None:
        for resource in (self._flows, self._levels):
            self._pipeline.state.cache.observe(resource.key(), self._changed.set)
        while True:
            try:
                await self._restore()
                await self._follow()
            except (ApiError, StoreUnavailable) as err:
                log.warning("flow control: %s; trying again", err)
                await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        """Statuses, at each change, until it is time to look at the defaults again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(EVERY_S):
                while True:
                    self._changed.clear()
                    await self._tell()
                    await self._changed.wait()

    async def _tell(self) -> None:
        cache, now = self._pipeline.state.cache, self._pipeline.writer.now()
        levels = {entry.head.name: entry for entry in cache.list(self._levels.key())}
        for entry in cache.list(self._flows.key()):
            if (condition := plan_status(decoded(entry), levels, now)) is not None:
                await self._apply_status(entry.head.name, condition)

    async def _apply_status(self, name: str, condition: Object) -> None:
        request = Request(_SELF, "patch", self._flows, name=name, subresource="status")
        status = {"conditions": [condition]}
        body = {"apiVersion": f"{GROUP}/v1", "kind": "FlowSchema", "metadata": {"name": name}, "status": status}
        options = WriteOptions(field_manager=CONSUMER, force=True)
        with suppress(Conflict, NotFound):
            await self._pipeline.patch(request, orjson.dumps(body), "application/apply-patch+yaml", options)

    async def _restore(self) -> None:
        state, now = self._pipeline.state, self._pipeline.writer.now()
        for plural, wanted in objects():
            resource, name = self._resource(plural), wanted["metadata"]["name"]
            entry = state.peek(resource, "", name)
            if entry is not None and stale(codec.decode(entry.data), wanted):
                request = Request(_SELF, "update", resource, name=name)
                with suppress(Conflict, NotFound):
                    options = WriteOptions(field_manager=PRODUCER)
                    await self._pipeline.update(request, orjson.dumps(wanted), "application/json", options)
        await sow(state, seeds(self._registry, now), now)
