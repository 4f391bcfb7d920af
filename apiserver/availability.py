"""The condition Available of APIServices: what this server serves is there; of what others serve, whether their Service
is, and has endpoints.

Source: Kubernetes documentation, "Aggregation layer"; kube-aggregator/pkg/controllers/status (reasons and texts).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

import orjson

from apiserver.pipeline import Pipeline
from apiserver.registry import priorities
from apiserver.registry.apiservices import SERVICE_PORT, local_condition
from apiserver.registry.base import Object, Registry, ResourceDef
from apiserver.registry.cells import at
from apiserver.request import MASTERS_GROUP, Request, User, WriteOptions
from apiserver.seeding import KUBE_APISERVER
from apiserver.state import decoded
from kubarium.machinery.errors import ApiError, Conflict, NotFound, StoreUnavailable

log = logging.getLogger(__name__)

AVAILABLE = "Available"
RETRY_S = 1.0
_SELF = User("system:apiserver", (MASTERS_GROUP,))


def judge(reference: Object, service: Object | None, slices: Sequence[Object]) -> tuple[str, str] | None:
    """Reason and message of what is missing behind an APIService; None where all is there that can be seen.

    `reference`: its spec.service; `slices`: the EndpointSlices of that Service.
    """
    name, namespace, port = (reference.get(key) for key in ("name", "namespace", "port"))
    where = f'service/{name} in "{namespace}"'
    if service is None:
        return "ServiceNotFound", f"{where} is not present"
    if at(service, "spec.type") != "ClusterIP":
        return None
    wanted = port or SERVICE_PORT
    listening = [p for p in at(service, "spec.ports", ()) if p.get("port") == wanted]
    if not listening:
        return "ServicePortError", f"{where} is not listening on port {wanted}"
    if not slices:
        return "EndpointsNotFound", f"cannot find endpointslices for {where}"
    port_name = listening[0].get("name", "")
    if not any(_serves(one, port_name) for one in slices):
        return "MissingEndpoints", f'endpointslices for {where} have no addresses with port name "{port_name}"'
    return None


def _serves(slice_: Object, port_name: str) -> bool:
    ports = {p.get("name") or "" for p in slice_.get("ports") or ()}
    ready = (e for e in slice_.get("endpoints") or () if at(e, "conditions.ready", True))
    return port_name in ports and any(e.get("addresses") for e in ready)


def updated(conditions: Sequence[Object], wanted: Object) -> list[Object] | None:
    """The conditions with the wanted one among them; None where it is. Its time is that of the change of its status."""
    found = next((c for c in conditions if c.get("type") == AVAILABLE), None)
    if found is None:
        return [*conditions, wanted]
    if found.get("status") == wanted["status"]:
        wanted = {**wanted, "lastTransitionTime": found.get("lastTransitionTime")}
    if found == wanted:
        return None
    return [wanted if c is found else c for c in conditions]


class Availability:
    """`run` for ever."""

    def __init__(self, pipeline: Pipeline, registry: Registry) -> None:
        self._pipeline = pipeline
        self._registry = registry
        self._resource = self._find(priorities.AGGREGATOR, "apiservices")
        self._services, self._slices = self._find("", "services"), self._find("discovery.k8s.io", "endpointslices")
        self._remote = False  # somebody else serves something
        self._changed = asyncio.Event()

    def _find(self, group: str, plural: str) -> ResourceDef:
        found = self._registry.get(group, "v1", plural)
        assert found is not None, plural
        return found

    def _behind(self) -> None:
        if self._remote:
            self._changed.set()

    async def run(self) -> None:
        cache = self._pipeline.state.cache
        cache.observe(self._resource.key(), self._changed.set)
        for resource in (self._services, self._slices):
            cache.observe(resource.key(), self._behind)
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
        found = [decoded(entry) for entry in self._pipeline.state.cache.list(self._resource.key())]
        self._remote = any(obj["spec"].get("service") is not None for obj in found)
        for obj in found:
            wanted = self._wanted(obj)
            if wanted is not None and (conditions := updated(at(obj, "status.conditions", ()), wanted)) is not None:
                await self._write(obj, conditions)

    def _wanted(self, obj: Object) -> Object | None:
        """None where only asking the other server would tell."""
        now, reference = self._pipeline.writer.now(), obj["spec"].get("service")
        if reference is None:
            return local_condition(now)
        state, namespace = self._pipeline.state, reference.get("namespace", "")
        entry = state.peek(self._services, namespace, reference.get("name", ""))
        service = None if entry is None else decoded(entry)
        entries = state.cache.list(self._slices.key(namespace)) if service is not None else ()
        label = reference.get("name", "")
        slices = [decoded(e) for e in entries if e.head.labels.get("kubernetes.io/service-name") == label]
        missing = judge(reference, service, slices)
        if missing is None:
            return None
        reason, message = missing
        condition = {"type": AVAILABLE, "status": "False", "lastTransitionTime": now}
        return condition | {"reason": reason, "message": message}

    async def _write(self, obj: Object, conditions: list[Object]) -> None:
        obj["status"] = {**obj.get("status", {}), "conditions": conditions}
        request = Request(_SELF, "update", self._resource, name=obj["metadata"]["name"], subresource="status")
        options = WriteOptions(field_manager=KUBE_APISERVER)
        with suppress(Conflict, NotFound):
            await self._pipeline.update(request, orjson.dumps(obj), "application/json", options)
