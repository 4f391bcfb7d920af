"""Endpoints: the older form of EndpointSlices, for those who still read it.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#endpoints
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubarium.controllers.backends import (
    Backend,
    Port,
    by_ports,
    distinct_addresses,
    has_endpoints_made,
    is_headless,
    plan_backends,
)
from kubarium.controllers.controller import BY_NAMESPACE, Context, Controller, NotYet, namespace_is_going
from kubarium.controllers.endpointslice import HEADLESS, watch_pods
from kubarium.machinery.errors import AlreadyExists, Forbidden, NotFound
from kubarium.machinery.objects import EndpointAddress, Endpoints, ObjectKey, Pod, Service
from kubarium.machinery.resources import ENDPOINTS, PODS, SERVICES

MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MAX_ADDRESSES = 1000


def plan_endpoints(service: Service, pods: Sequence[Pod]) -> dict[str, Any]:
    """The object, on the wire, that tells what the pods are. Pods being deleted are in it only where the Service
    publishes addresses that are not ready."""
    family = 6 if service.spec.ip_families[:1] == ("IPv6",) else 4
    everyone = service.spec.publish_not_ready_addresses
    found = [b for b in plan_backends(service, pods, family=family) if everyone or not b.terminating]
    backends = sorted(distinct_addresses(found), key=lambda b: (not b.ready, b.address))[:MAX_ADDRESSES]
    annotations = {OVER_CAPACITY: "truncated"} if len(found) > MAX_ADDRESSES else {}
    own = {key: value for key, value in service.metadata.labels.items() if key != HEADLESS}
    headless = {HEADLESS: ""} if is_headless(service) else {}
    return {
        "metadata": {
            "name": service.metadata.name,
            "labels": {**own, MANAGED_BY: MANAGER, **headless},
            "annotations": annotations,
        },
        "subsets": plan_subsets(backends),
    }


def plan_subsets(backends: Sequence[Backend]) -> list[dict[str, Any]]:
    """Addresses that share ports, ready and not ready apart; in a stable order."""
    subsets = []
    for ports, group in sorted(by_ports(backends).items()):
        members = sorted(group, key=lambda b: b.address)
        ready = [_address(backend) for backend in members if backend.ready]
        not_ready = [_address(backend) for backend in members if not backend.ready]
        subset = {"addresses": ready, "notReadyAddresses": not_ready, "ports": [port.wire() for port in ports]}
        subsets.append({name: value for name, value in subset.items() if value})
    return subsets


def _address(backend: Backend) -> dict[str, Any]:
    optional = {"hostname": backend.hostname, "nodeName": backend.node_name}
    return {
        "ip": backend.address,
        **{name: value for name, value in optional.items() if value},
        "targetRef": backend.target(),
    }


def same(current: Endpoints, wanted: dict[str, Any]) -> bool:
    """Whether the object says already what is planned."""
    meta = wanted["metadata"]
    return bool(
        current.metadata.labels == meta["labels"]
        and current.metadata.annotations.get(OVER_CAPACITY) == meta["annotations"].get(OVER_CAPACITY)
        and _subsets(current) == wanted["subsets"]
    )


def _subsets(current: Endpoints) -> list[dict[str, Any]]:
    """The subsets read, in the shape in which we write them."""
    subsets = []
    for subset in current.subsets:
        ports = [Port(p.name, p.protocol or "TCP", p.port or 0, p.app_protocol).wire() for p in subset.ports]
        shape = {
            "addresses": [_read(address) for address in subset.addresses],
            "notReadyAddresses": [_read(address) for address in subset.not_ready_addresses],
            "ports": ports,
        }
        subsets.append({name: value for name, value in shape.items() if value})
    return subsets


def _read(a: EndpointAddress) -> dict[str, Any]:
    ref = a.target_ref
    optional: dict[str, Any] = {"hostname": a.hostname, "nodeName": a.node_name}
    target = {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name, "uid": ref.uid} if ref else None
    return {"ip": a.ip, **{name: value for name, value in optional.items() if value}, "targetRef": target}


class EndpointsController(Controller[ObjectKey]):
    """Keys are Services; an Endpoints object has its Service's name."""

    name = "endpoints-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.services = context.informers.of(SERVICES)
        self.pods = context.informers.of(PODS)
        self.endpoints = context.informers.of(ENDPOINTS)
        self.services.on_change(self._service_changed)
        self.pods.on_change(watch_pods(lambda ns: self.services.by_index(BY_NAMESPACE, ns), self.queue.add))
        self.endpoints.on_change(self._endpoints_changed)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        if (service := new or old) is not None:
            self.queue.add(service.key)

    def _endpoints_changed(self, old: Endpoints | None, new: Endpoints | None) -> None:
        endpoints = new or old
        if endpoints is not None and endpoints.metadata.labels.get(MANAGED_BY) == MANAGER:
            self.queue.add(endpoints.key)

    async def sync(self, key: ObjectKey) -> None:
        service, current = self.services.get(key), self.endpoints.get(key)
        if service is None:
            if current is not None:
                await self._delete(current)
            return
        if not has_endpoints_made(service):
            return
        wanted = plan_endpoints(service, self.pods.by_index(BY_NAMESPACE, key.namespace))
        if current is None:
            await self._create(key, wanted)
        elif not same(current, wanted):
            await self._update(current, wanted)

    async def _create(self, key: ObjectKey, wanted: dict[str, Any]) -> None:
        try:
            await self.api.create(ENDPOINTS, wanted, key.namespace)
        except AlreadyExists as err:
            raise NotYet(f"{err}; waiting for the cache to show it") from err
        except Forbidden as err:
            if not namespace_is_going(err):
                raise

    async def _update(self, current: Endpoints, wanted: dict[str, Any]) -> None:
        kept = {k: v for k, v in current.metadata.annotations.items() if k != OVER_CAPACITY}
        meta = {
            **wanted["metadata"],
            "annotations": {**kept, **wanted["metadata"]["annotations"]},
            "resourceVersion": current.metadata.resource_version,
        }
        await self.api.update(ENDPOINTS, {**wanted, "metadata": meta}, current.metadata.namespace)

    async def _delete(self, current: Endpoints) -> None:
        try:
            await self.api.delete(
                ENDPOINTS, current.metadata.name, current.metadata.namespace, uid=current.metadata.uid
            )
        except NotFound:
            return
