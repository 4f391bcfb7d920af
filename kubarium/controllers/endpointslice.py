"""EndpointSlices: the addresses behind a Service, at most a hundred a slice.

Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/, KEP-752, KEP-1672.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubarium.controllers.backends import Backend, Port, by_ports, has_endpoints_made, is_headless, plan_backends
from kubarium.controllers.controller import (
    BY_NAMESPACE,
    BY_SERVICE,
    SERVICE_NAME,
    Context,
    Controller,
    NotYet,
    namespace_is_going,
)
from kubarium.controllers.names import short_hash
from kubarium.controllers.refs import controller_reference
from kubarium.machinery.errors import AlreadyExists, Forbidden, NotFound
from kubarium.machinery.objects import Endpoint, EndpointPort, EndpointSlice, Node, ObjectKey, Pod, Service
from kubarium.machinery.resources import ENDPOINTSLICES, NODES, PODS, SERVICES
from kubarium.machinery.selectors import matches_map

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
ZONE = "topology.kubernetes.io/zone"
MAX_ENDPOINTS = 100

Zones = Mapping[str, str]
"""Node name -> zone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Slices to create (on the wire, named), to rewrite, to delete. What is right already is not in it."""

    create: list[dict[str, Any]] = field(default_factory=list)
    update: list[tuple[EndpointSlice, dict[str, Any]]] = field(default_factory=list)
    delete: list[EndpointSlice] = field(default_factory=list)


@dataclass(slots=True)
class _Draft:
    """A slice while it is filled; `current` None is one to create."""

    ports: tuple[Port, ...]
    backends: list[Backend]
    current: EndpointSlice | None = None


def plan_slices(service: Service, pods: Iterable[Pod], current: Sequence[EndpointSlice], zones: Zones) -> Plan:
    """The changes that make the slices of `service` tell what its pods are. `current` are the slices that we manage.

    An endpoint stays in the slice that it is in; new ones fill the fullest slice that has room, so that a change of one
    pod touches one slice.
    """
    families = _families(service)
    stale = [each for each in current if each.address_type not in families]
    plan = Plan(delete=stale)
    for address_type, family in families.items():
        same_type = [each for each in current if each.address_type == address_type]
        drafts = _drafts(plan_backends(service, pods, family=family), same_type)
        _carry(plan, service, address_type, drafts, current, zones)
    return plan


def _families(service: Service) -> dict[str, int]:
    if service.spec.ip_families:
        return {family: 6 if family == "IPv6" else 4 for family in service.spec.ip_families}
    return {"IPv6": 6} if ":" in service.spec.cluster_ip else {"IPv4": 4}


def _drafts(backends: Sequence[Backend], current: Sequence[EndpointSlice]) -> list[_Draft]:
    unclaimed = sorted(current, key=lambda each: (-len(each.endpoints), each.metadata.name))
    drafts: list[_Draft] = []
    for ports, group in by_ports(backends).items():
        same = [each for each in unclaimed if slice_ports(each) == ports]
        unclaimed = [each for each in unclaimed if each not in same]
        drafts += _fill(ports, group, same)
    drafts = drafts or [_Draft((), [])]
    for draft in drafts:  # a slice of other ports is rewritten rather than deleted and another made
        if draft.current is None and unclaimed:
            draft.current = unclaimed.pop(0)
    return [*drafts, *(_Draft((), [], each) for each in unclaimed)]


def _fill(ports: tuple[Port, ...], group: Sequence[Backend], same: Sequence[EndpointSlice]) -> list[_Draft]:
    left = {(backend.address, backend.pod_uid): backend for backend in group}
    drafts = []
    for each in same:
        keys = [(e.addresses[0], e.target_ref.uid) for e in each.endpoints if e.addresses and e.target_ref]
        kept = [left.pop(key) for key in keys[:MAX_ENDPOINTS] if key in left]
        drafts.append(_Draft(ports, kept, each))
    for draft in sorted(drafts, key=lambda d: -len(d.backends)):
        room = MAX_ENDPOINTS - len(draft.backends)
        draft.backends += [left.pop(key) for key in list(left)[:room]]
    rest = list(left.values())
    drafts += [_Draft(ports, rest[i : i + MAX_ENDPOINTS]) for i in range(0, len(rest), MAX_ENDPOINTS)]
    return [draft for draft in drafts if draft.backends or draft.current]


def _carry(
    plan: Plan,
    service: Service,
    address_type: str,
    drafts: list[_Draft],
    current: Sequence[EndpointSlice],
    zones: Zones,
) -> None:
    names = _free_names(service, address_type, {each.metadata.name for each in current})
    empty = [draft for draft in drafts if not draft.backends]
    keep_empty = empty[:1] if len(empty) == len(drafts) else []  # a Service without backends has one slice, saying so
    for draft in drafts:
        if draft in empty and draft not in keep_empty:
            if draft.current is not None:
                plan.delete.append(draft.current)
            continue
        body = _wire(service, address_type, draft, zones)
        if draft.current is None:
            plan.create.append({**body, "metadata": {**body["metadata"], "name": next(names)}})
        elif not _same(draft.current, body):
            plan.update.append((draft.current, body))


def _free_names(service: Service, address_type: str, taken: set[str]) -> Any:
    """Names for new slices, the same in every try: created twice by a lagging cache, the second is refused."""
    number = 0
    while True:
        word = short_hash(service.metadata.uid, address_type, str(number))[:5]
        name = f"{service.metadata.name}-{word}"
        if name not in taken:
            yield name
        number += 1


def _wire(service: Service, address_type: str, draft: _Draft, zones: Zones) -> dict[str, Any]:
    return {
        "metadata": {
            "labels": slice_labels(service),
            "ownerReferences": [controller_reference(service)],
        },
        "addressType": address_type,
        "endpoints": [_endpoint(backend, zones) for backend in draft.backends],
        "ports": [port.wire() for port in draft.ports],
    }


def slice_labels(service: Service) -> dict[str, str]:
    """The Service's own labels, and those by which consumers find the slices of a Service and their manager."""
    ours = (SERVICE_NAME, MANAGED_BY, HEADLESS)
    own = {key: value for key, value in service.metadata.labels.items() if key not in ours}
    headless = {HEADLESS: ""} if is_headless(service) else {}
    return {**own, SERVICE_NAME: service.metadata.name, MANAGED_BY: MANAGER, **headless}


def _endpoint(backend: Backend, zones: Zones) -> dict[str, Any]:
    conditions = {"ready": backend.ready, "serving": backend.serving, "terminating": backend.terminating}
    optional = {"hostname": backend.hostname, "nodeName": backend.node_name, "zone": zones.get(backend.node_name, "")}
    return {
        "addresses": [backend.address],
        "conditions": conditions,
        "targetRef": backend.target(),
        **{name: value for name, value in optional.items() if value},
    }


def slice_ports(each: EndpointSlice) -> tuple[Port, ...]:
    return tuple(sorted(_port(port) for port in each.ports))


def _port(port: EndpointPort) -> Port:
    return Port(port.name, port.protocol or "TCP", port.port or 0, port.app_protocol)


def _same(current: EndpointSlice, body: Mapping[str, Any]) -> bool:
    labels = body["metadata"]["labels"]
    ports = (Port(p["name"], p["protocol"], p["port"], p.get("appProtocol", "")) for p in body["ports"])
    return bool(
        current.metadata.labels == labels
        and slice_ports(current) == tuple(sorted(ports))
        and [_endpoint_key(endpoint) for endpoint in current.endpoints] == body["endpoints"]
    )


def _endpoint_key(e: Endpoint) -> dict[str, Any]:
    """An endpoint read, in the shape in which we write one."""
    ref = e.target_ref
    optional = {"hostname": e.hostname, "nodeName": e.node_name, "zone": e.zone}
    return {
        "addresses": list(e.addresses),
        "conditions": {
            "ready": e.conditions.ready,
            "serving": e.conditions.serving,
            "terminating": e.conditions.terminating,
        },
        "targetRef": {"kind": ref.kind, "namespace": ref.namespace, "name": ref.name, "uid": ref.uid} if ref else None,
        **{name: value for name, value in optional.items() if value},
    }


def selecting(services: Iterable[Service], *pods: Pod | None) -> set[ObjectKey]:
    """The Services (of the pods' namespace) whose selector takes in one of `pods`."""
    return {
        service.key
        for service in services
        for pod in pods
        if pod is not None and service.spec.selector and matches_map(service.spec.selector, pod.metadata.labels)
    }


def watch_pods(services: Callable[[str], Iterable[Service]], add: Callable[[ObjectKey], None]) -> Any:
    """A handler of pod changes that enqueues the Services concerned, where the change shows in endpoints."""

    def changed(old: Pod | None, new: Pod | None) -> None:
        if old is not None and new is not None and _face(old) == _face(new):
            return
        pod = new or old
        for key in selecting(services(pod.metadata.namespace), old, new) if pod is not None else ():
            add(key)

    return changed


def _face(pod: Pod) -> tuple[Any, ...]:
    """What of a pod endpoints show."""
    ready = next((c.status for c in pod.status.conditions if c.type == "Ready"), "")
    meta, spec, status = pod.metadata, pod.spec, pod.status
    return (
        meta.uid,
        meta.labels,
        bool(meta.deletion_timestamp),
        spec.node_name,
        spec.hostname,
        spec.subdomain,
        status.phase in ("Succeeded", "Failed"),
        status.pod_ip,
        status.pod_ips,
        ready,
    )


class EndpointSliceController(Controller[ObjectKey]):
    """Keys are Services."""

    name = "endpointslice-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.services = context.informers.of(SERVICES)
        self.pods = context.informers.of(PODS)
        self.nodes = context.informers.of(NODES)
        self.slices = context.informers.of(ENDPOINTSLICES)
        self.services.on_change(self._service_changed)
        self.pods.on_change(watch_pods(lambda ns: self.services.by_index(BY_NAMESPACE, ns), self.queue.add))
        self.nodes.on_change(self._node_changed)
        self.slices.on_change(self._slice_changed)

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        if new is not None:
            self.queue.add(new.key)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        zones = [node.metadata.labels.get(ZONE, "") if node is not None else "" for node in (old, new)]
        if zones[0] != zones[1]:
            for service in self.services.all():
                self.queue.add(service.key)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for each in filter(None, (old, new)):
            if each.metadata.labels.get(MANAGED_BY) == MANAGER:
                self.queue.add(ObjectKey(each.metadata.namespace, each.metadata.labels.get(SERVICE_NAME, "")))

    async def sync(self, key: ObjectKey) -> None:
        service = self.services.get(key)
        if service is None or service.metadata.deletion_timestamp or not has_endpoints_made(service):
            return  # slices of a deleted Service go by their ownerReferences
        pods = self.pods.by_index(BY_NAMESPACE, key.namespace)
        ours = [
            each
            for each in self.slices.by_index(BY_SERVICE, str(key))
            if each.metadata.labels.get(MANAGED_BY) == MANAGER and not each.metadata.deletion_timestamp
        ]
        zones = {node.metadata.name: node.metadata.labels.get(ZONE, "") for node in self.nodes.all()}
        await self._apply(key.namespace, plan_slices(service, pods, ours, zones))

    async def _apply(self, namespace: str, plan: Plan) -> None:
        for body in plan.create:
            try:
                await self.api.create(ENDPOINTSLICES, body, namespace)
            except AlreadyExists as err:
                raise NotYet(f"{err}; waiting for the cache to show it") from err
            except Forbidden as err:
                if not namespace_is_going(err):
                    raise
        for current, body in plan.update:
            meta = {
                **body["metadata"],
                "name": current.metadata.name,
                "resourceVersion": current.metadata.resource_version,
            }
            await self.api.update(ENDPOINTSLICES, {**body, "metadata": meta}, namespace)
        for current in plan.delete:
            try:
                await self.api.delete(ENDPOINTSLICES, current.metadata.name, namespace, uid=current.metadata.uid)
            except NotFound:
                continue
