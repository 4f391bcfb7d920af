"""Keeps the zone true to the API: Services, EndpointSlices and Namespaces, object by object."""

from __future__ import annotations

import asyncio
import logging

from kubarium.clusterdns.answers import Responder
from kubarium.clusterdns.records import Records, service_records
from kubarium.machinery.client import Api
from kubarium.machinery.informer import Informer
from kubarium.machinery.objects import EndpointSlice, Namespace, ObjectKey, Service
from kubarium.machinery.process import wait_synced
from kubarium.machinery.resources import ENDPOINTSLICES, NAMESPACES, SERVICES

log = logging.getLogger(__name__)

SERVICE_NAME = "kubernetes.io/service-name"
_BY_SERVICE = "service"


class ZoneKeeper:
    """Follows the API server; a burst of changes to one Service is worked in once."""

    def __init__(self, api: Api, responder: Responder, domain: str) -> None:
        self._responder = responder
        self._domain = domain
        self._services: Informer[Service] = Informer(api, SERVICES)
        self._slices: Informer[EndpointSlice] = Informer(
            api, ENDPOINTSLICES, indexers={_BY_SERVICE: lambda each: [str(_service_of(each))]}
        )
        self._namespaces: Informer[Namespace] = Informer(api, NAMESPACES)
        self._changed: set[ObjectKey] = set()
        self._services.on_change(self._service_changed)
        self._slices.on_change(self._slice_changed)
        self._namespaces.on_change(self._namespace_changed)

    async def run(self) -> None:
        informers = {"services": self._services, "endpointslices": self._slices, "namespaces": self._namespaces}
        async with asyncio.TaskGroup() as group:
            for name, informer in informers.items():
                group.create_task(informer.run(), name=f"informer/{name}")  # type: ignore[attr-defined]
            await wait_synced(self._services, self._slices, self._namespaces)
            self._work_in()
            self._set_namespaces()
            self._responder.ready = True

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        if (service := new or old) is not None:
            self._note(service.key)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for each in filter(None, (old, new)):
            self._note(_service_of(each))

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        if self._responder.ready and (old is None or new is None):
            self._set_namespaces()

    def _set_namespaces(self) -> None:
        self._responder.zone.set_namespaces(each.metadata.name for each in self._namespaces.all())
        self._responder.forget_all()

    def _note(self, key: ObjectKey) -> None:
        if not self._changed and self._responder.ready:
            asyncio.get_running_loop().call_soon(self._work_in)
        self._changed.add(key)

    def _work_in(self) -> None:
        """Replace the records of every Service that changed; the answers that they were in are compiled anew."""
        changed, self._changed = self._changed, set()
        for key in changed:
            self._responder.forget(self._responder.zone.put(str(key), self._records(key)))

    def _records(self, key: ObjectKey) -> Records:
        """None for a Service that DNS cannot tell of: the API allows names (externalName) that DNS has no form for."""
        service = self._services.get(key)
        if service is None:
            return {}
        try:
            return service_records(service, self._slices.by_index(_BY_SERVICE, str(key)), self._domain)
        except ValueError as err:
            log.warning("Service %s has no records: %s", key, err)
            return {}


def _service_of(each: EndpointSlice) -> ObjectKey:
    return ObjectKey(each.metadata.namespace, each.metadata.labels.get(SERVICE_NAME, ""))
